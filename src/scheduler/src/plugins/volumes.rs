//! `VolumeBinding`, `VolumeZone` and `VolumeRestrictions`: the nodes from which a pod's volumes can be reached.
//!
//! Claims that are bound already are what is implemented. A claim of a class that waits for its first consumer is
//! said to be that: nothing here has volumes made.

use std::sync::Arc;

use super::{Plugin, Rejection};
use crate::{
    cluster::Cluster,
    objects::{BindingMode, Node, NodeRequirement, Shape},
    profile::Profile,
};

/// What a pod's claims ask of a node.
#[derive(Debug, Default)]
pub(crate) struct Volumes {
    reachable: Vec<NodeRequirement>,
    zones: Vec<NodeRequirement>,
    lost: bool,
    /// Claims that only one pod may use.
    single: Vec<(Arc<str>, Arc<str>)>,
}

impl Volumes {
    /// Looks the pod's claims up. The error is told of the pod as a whole: no node will do.
    pub(crate) fn of(cluster: &Cluster, profile: &Profile, shape: &Shape) -> Result<Self, (Plugin, String)> {
        let mut volumes = Self::default();
        for name in &shape.claims {
            let claim = cluster.claim(&shape.namespace, name);
            if let Some(claim) = claim.filter(|claim| claim.single && profile.filters_by(Plugin::VolumeRestrictions)) {
                volumes.single.push((claim.namespace.clone(), claim.name.clone()));
            }
            let refuse = |why: String| Err((Plugin::VolumeBinding, why));
            if !profile.filters_by(Plugin::VolumeBinding) {
                continue;
            }
            let Some(claim) = claim else {
                return refuse(format!("persistentvolumeclaim \"{name}\" not found"));
            };
            if claim.deleting {
                return refuse(format!("persistentvolumeclaim \"{name}\" is being deleted"));
            }
            match &claim.volume {
                Some(volume) if claim.lost => {
                    return refuse(format!(
                        "persistentvolumeclaim \"{name}\" bound to non-existent persistentvolume \"{volume}\""
                    ));
                }
                Some(volume) => match cluster.volume(volume) {
                    None => volumes.lost = true,
                    Some(volume) => {
                        volumes
                            .reachable
                            .extend((!volume.node.is_empty()).then(|| volume.node.clone()));
                        let zones = !volume.zones.is_empty() && profile.filters_by(Plugin::VolumeZone);
                        volumes.zones.extend(zones.then(|| volume.zones.clone()));
                    }
                },
                None => {
                    let mode = cluster.storage_class(&claim.class).map(|class| class.mode);
                    if mode == Some(BindingMode::WaitForFirstConsumer) {
                        return refuse(format!(
                            "persistentvolumeclaim \"{name}\" is not bound, and class \"{}\" binds only for its first \
                             consumer, which is not implemented: bind it to a PersistentVolume by spec.volumeName",
                            claim.class
                        ));
                    }
                    return refuse("pod has unbound immediate PersistentVolumeClaims".to_owned());
                }
            }
        }
        Ok(volumes)
    }

    /// Whether the node will do.
    pub(crate) fn filter(&self, cluster: &Cluster, node: &Node) -> Result<(), Rejection> {
        if self
            .single
            .iter()
            .any(|(namespace, name)| cluster.claim_users(namespace, name) > 0)
        {
            let reason = "node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod access mode";
            return Err(Rejection::plain(Plugin::VolumeRestrictions, true, reason));
        }
        if self.lost {
            let reason = "node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)";
            return Err(Rejection::plain(Plugin::VolumeBinding, false, reason));
        }
        if !self.reachable.iter().all(|one| one.matches(node)) {
            let reason = "node(s) had volume node affinity conflict";
            return Err(Rejection::plain(Plugin::VolumeBinding, false, reason));
        }
        if !self.zones.iter().all(|one| one.matches(node)) {
            return Err(Rejection::plain(
                Plugin::VolumeZone,
                false,
                "node(s) had no available volume zone",
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        fixtures::{cluster, node, pod},
        objects::ZONE,
    };

    #[expect(clippy::needless_pass_by_value, reason = "so that tables read as tables")]
    fn claim(name: &str, spec: Value, bound: bool) -> crate::objects::Claim {
        let annotations = if bound {
            json!({"pv.kubernetes.io/bind-completed": "yes"})
        } else {
            json!({})
        };
        serde_json::from_value(
            json!({"metadata": {"namespace": "default", "name": name, "annotations": annotations},
            "spec": spec, "status": {"phase": if bound { "Bound" } else { "Pending" }}}),
        )
        .unwrap()
    }

    #[test]
    fn bound_claims_say_where_a_pod_can_be_and_others_why_it_can_not() {
        let mut cluster = cluster(&[
            node("a", &[]).label(ZONE, "za").label("kubernetes.io/hostname", "a"),
            node("b", &[]).label(ZONE, "zb").label("kubernetes.io/hostname", "b"),
        ]);
        let local = json!({"metadata": {"name": "local"}, "spec": {"nodeAffinity": {"required": {"nodeSelectorTerms": [
            {"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": ["a"]}]}]}}}});
        let zoned = json!({"metadata": {"name": "zoned", "labels": {ZONE: "zb"}}});
        for volume in [local, zoned] {
            cluster.set_volume(serde_json::from_value(volume).unwrap());
        }
        for (name, mode) in [("later", "WaitForFirstConsumer"), ("now", "Immediate")] {
            let class = json!({"metadata": {"name": name}, "provisioner": "p", "volumeBindingMode": mode});
            cluster.set_storage_class(serde_json::from_value(class).unwrap());
        }
        for one in [
            claim("local", json!({"volumeName": "local"}), true),
            claim("zoned", json!({"volumeName": "zoned"}), true),
            claim("gone", json!({"volumeName": "gone"}), true),
            claim("now", json!({"storageClassName": "now"}), false),
            claim("later", json!({"storageClassName": "later"}), false),
            claim(
                "single",
                json!({"volumeName": "zoned", "accessModes": ["ReadWriteOncePod"]}),
                true,
            ),
        ] {
            cluster.set_claim(one);
        }
        cluster.set_pod(&pod("user").claim("single").on("b").build());
        let profile = Profile::default();
        for (claims, expected) in [
            (vec![], "ok | ok"),
            (vec!["local"], "ok | node(s) had volume node affinity conflict"),
            (vec!["zoned"], "node(s) had no available volume zone | ok"),
            (
                vec!["gone"],
                "node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s) | \
                node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)",
            ),
            (vec!["none"], "persistentvolumeclaim \"none\" not found"),
            (vec!["local", "now"], "pod has unbound immediate PersistentVolumeClaims"),
            (
                vec!["later"],
                "persistentvolumeclaim \"later\" is not bound, and class \"later\" binds only for its first \
                consumer, which is not implemented: bind it to a PersistentVolume by spec.volumeName",
            ),
            (
                vec!["single"],
                "node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod access mode | \
                node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod access mode",
            ),
        ] {
            let pod = claims.iter().fold(pod("new"), |pod, name| pod.claim(name)).build();
            let told = match Volumes::of(&cluster, &profile, &pod.shape) {
                Err((_, why)) => why,
                Ok(volumes) => {
                    let one = |name| {
                        let node = cluster.node(cluster.node_id(name).unwrap()).object.clone().unwrap();
                        let told = volumes.filter(&cluster, &node).err();
                        told.map_or("ok".to_owned(), |one| one.reason.to_string())
                    };
                    format!("{} | {}", one("a"), one("b"))
                }
            };
            assert_eq!(told, expected, "{claims:?}");
        }
    }
}
