//! Who owns the claims of volumes, and so when they go (KEP-1847): the garbage collector deletes what its owner leaves
//! behind. The set owns claims that go with it; a pod that is scaled away owns those that go with that.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::ResourceExt;

use super::{Claim, StatefulSet, identity};
use crate::{
    objects::controller_of,
    workload::{Pod, template::controller_ref},
};

/// The owners that a claim shall have, if they are others than it has. Claims that somebody else controls are left
/// alone.
pub fn owners(set: &StatefulSet, pod: &Pod, claim: &Claim) -> Option<Vec<OwnerReference>> {
    let policy = set
        .spec
        .persistent_volume_claim_retention_policy
        .clone()
        .unwrap_or_default();
    let ordinal = identity::ordinal(set.name(), pod.name())?;
    let is_scaled_away = policy.when_scaled == "Delete" && !set.wants(ordinal);
    let by_set = policy.when_deleted == "Delete" && !is_scaled_away;
    let owner = match (is_scaled_away, by_set) {
        (true, _) => Some(controller_ref::<Pod>(&pod.metadata)),
        (false, true) => Some(controller_ref::<StatefulSet>(&set.metadata)),
        (false, false) => None,
    };
    let set_uid = set.metadata.uid.as_deref().unwrap_or_default();
    let is_ours = |owner: &OwnerReference| {
        owner.uid == set_uid || owner.uid == pod.uid() || (owner.kind == "Pod" && owner.name == pod.name())
    };
    let before = claim.owner_references();
    if controller_of(&claim.metadata).is_some_and(|controller| !is_ours(controller)) {
        return None;
    }
    let has = |wanted: &OwnerReference| before.iter().any(|owner| owner.uid == wanted.uid);
    let ours = before.iter().filter(|owner| is_ours(owner)).count();
    let is_right = owner.as_ref().map_or(ours == 0, |owner| ours == 1 && has(owner));
    if is_right {
        return None;
    }
    Some(
        before
            .iter()
            .filter(|owner| !is_ours(owner))
            .cloned()
            .chain(owner)
            .collect(),
    )
}

/// The claim still belongs to a pod of the same name that was there before, and will go with it.
pub fn is_stale(pod_name: &str, claim: &Claim) -> bool {
    claim
        .owner_references()
        .iter()
        .any(|owner| owner.kind == "Pod" && owner.name == pod_name)
}
