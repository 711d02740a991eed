//! The next moves of a StatefulSet.
//!
//! In order, each pod waits for those before it; in parallel none does. Scaling comes before updating, and an update
//! goes from the last pod to the first.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use jiff::Timestamp;
use k8s_openapi::{api::apps::v1::StatefulSetStatus, apimachinery::pkg::apis::meta::v1::OwnerReference};
use serde_json::Value;

use super::{
    Claim, REVISION_LABEL, StatefulSet, identity, retention,
    status::{self, is_available, is_ready},
};
use crate::workload::{
    Event, Pod,
    pod::Phase,
    revision::{self, REVISION_HASH, Revision, Wanted},
    template::controller_ref,
};

/// All that a plan is made from.
#[derive(Clone, Copy, Debug)]
pub struct Snapshot<'a> {
    /// The set.
    pub set: &'a StatefulSet,
    /// Its pods.
    pub pods: &'a [Arc<Pod>],
    /// Its revisions, oldest first.
    pub revisions: &'a [Arc<Revision>],
    /// Claims of its namespace, by name.
    pub claims: &'a BTreeMap<String, Arc<Claim>>,
    /// The time it is.
    pub now: Timestamp,
}

/// What to do for a StatefulSet.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The revision of the template as it is; made or renumbered before anything else.
    pub revision: Wanted,
    /// What to do, in this order.
    pub steps: Vec<Step>,
    /// Revisions to delete.
    pub forget: Vec<Arc<Revision>>,
    /// The status to write, after all that.
    pub status: StatefulSetStatus,
    /// What to tell, whatever comes of the rest.
    pub events: Vec<Event>,
    /// When to plan again if nothing happens before.
    pub next: Option<Timestamp>,
}

/// Something to do.
#[derive(Clone, Debug)]
pub enum Step {
    /// Make a claim.
    Claim {
        /// The pod it is for.
        pod: String,
        /// The object.
        object: Value,
    },
    /// Make a pod, whose claims were made before.
    Create(Value),
    /// Delete a pod.
    Delete(Arc<Pod>),
    /// Change the labels of a pod by a merge patch.
    Label(Arc<Pod>, Value),
    /// Give a claim other owners.
    Own(Arc<Claim>, Vec<OwnerReference>),
}

struct Work<'a> {
    snapshot: Snapshot<'a>,
    /// Pods by their number.
    pods: BTreeMap<i32, &'a Arc<Pod>>,
    owner: OwnerReference,
    update: String,
    /// The revision before the update, and its template.
    current: (String, Option<Arc<Revision>>),
    steps: Vec<Step>,
    events: Vec<Event>,
}

/// The next moves of a StatefulSet.
pub fn plan(snapshot: Snapshot<'_>) -> Plan {
    let Snapshot {
        set,
        pods,
        revisions,
        now,
        ..
    } = snapshot;
    let owner = controller_ref::<StatefulSet>(&set.metadata);
    let template = set.spec.part("template");
    let collisions = Some(set.status.collision_count.unwrap_or_default());
    let update = revision::wanted(&set.metadata, &owner, &template, REVISION_LABEL, revisions, collisions);
    let before = set.status.current_revision.as_deref();
    let current = revisions
        .iter()
        .find(|revision| Some(revision.name()) == before)
        .cloned();
    let current_name = current
        .as_ref()
        .map_or(update.name(), |current| current.name())
        .to_owned();
    let mut work = Work {
        snapshot,
        pods: pods
            .iter()
            .filter_map(|pod| Some((identity::ordinal(set.name(), pod.name())?, pod)))
            .collect(),
        owner,
        update: update.name().to_owned(),
        current: (current_name, current),
        steps: vec![],
        events: vec![],
    };
    let mut replaced = 0;
    if set.metadata.deletion_timestamp.is_none() {
        let settled = work.fill(&template) && work.condemn();
        if settled && !set.updates_on_delete() {
            replaced = work.replace();
        }
    }
    let names = (work.current.0.as_str(), work.update.as_str());
    let live: BTreeSet<_> = pods
        .iter()
        .filter_map(|pod| pod.label(REVISION_HASH))
        .chain([names.0, names.1])
        .collect();
    Plan {
        forget: revision::superfluous(revisions, &live, set.spec.revision_history_limit.unwrap_or(10)),
        status: status::status(set, pods, names, replaced, now),
        next: status::next_look(set, pods, now),
        revision: update,
        steps: work.steps,
        events: work.events,
    }
}

/// The status after the name of a revision turned out to be taken by another's.
pub fn collided(set: &StatefulSet) -> StatefulSetStatus {
    StatefulSetStatus {
        collision_count: Some(set.status.collision_count.unwrap_or_default() + 1),
        ..set.status.clone()
    }
}

impl Work<'_> {
    /// Sees to the pods that are wanted. Whether nothing has to be waited for before going on.
    fn fill(&mut self, template: &Value) -> bool {
        let set = self.snapshot.set;
        for ordinal in set.start()..set.start().saturating_add(set.replicas()) {
            let pod = self.pods.get(&ordinal).copied();
            let goes_on = match pod {
                None => {
                    self.create(ordinal, template);
                    false
                }
                // However it ended, its number is wanted again.
                Some(pod) if pod.is_finished() => {
                    if !pod.is_terminating() {
                        self.steps.push(Step::Delete(pod.clone()));
                    }
                    false
                }
                Some(pod) => {
                    if pod.status.phase == Phase::Pending {
                        self.claim(ordinal);
                    }
                    let waits =
                        set.is_ordered() && (pod.is_terminating() || !is_available(pod, set, self.snapshot.now));
                    if !waits {
                        self.restore(ordinal, pod);
                    }
                    !waits
                }
            };
            if !goes_on && set.is_ordered() {
                return false;
            }
        }
        true
    }

    /// Makes the pod of this number, unless a claim of its forerunner's is still going.
    fn create(&mut self, ordinal: i32, template: &Value) {
        let set = self.snapshot.set;
        let name = identity::pod_name(set.name(), ordinal);
        for (claim, _) in identity::claims(set, ordinal) {
            let Some(claim) = self.snapshot.claims.get(&claim) else {
                continue;
            };
            if claim.metadata.deletion_timestamp.is_some() {
                let claim = claim.metadata.name.as_deref().unwrap_or_default();
                self.events.push(Event::warning(
                    "FailedCreate",
                    format!(
                        "create Pod {name} in StatefulSet {} failed error: pvc {claim} is being deleted",
                        set.name()
                    ),
                ));
                return;
            }
            if retention::is_stale(&name, claim) {
                return;
            }
        }
        self.claim(ordinal);
        let (current, known) = &self.current;
        let old = known.as_ref().filter(|_| self.keeps_revision(ordinal));
        let pod = match old {
            Some(revision) => identity::pod(set, &revision.template(), current, ordinal, &self.owner),
            None => identity::pod(set, template, &self.update, ordinal, &self.owner),
        };
        self.steps.push(Step::Create(pod));
    }

    /// The pod of this number is none of those to update yet.
    fn keeps_revision(&self, ordinal: i32) -> bool {
        let set = self.snapshot.set;
        let kept = match &set.spec.update_strategy.rolling_update {
            _ if set.updates_on_delete() => return false,
            Some(rolling) => rolling.partition,
            None => set.status.current_replicas.unwrap_or_default(),
        };
        ordinal < set.start().saturating_add(kept)
    }

    /// Makes the claims of the pod of this number that are missing.
    fn claim(&mut self, ordinal: i32) {
        let set = self.snapshot.set;
        let pod = identity::pod_name(set.name(), ordinal);
        for (name, object) in identity::claims(set, ordinal) {
            if !self.snapshot.claims.contains_key(&name) {
                let pod = pod.clone();
                self.steps.push(Step::Claim { pod, object });
            }
        }
    }

    /// Gives a pod and its claims back what makes them what they are.
    fn restore(&mut self, ordinal: i32, pod: &Arc<Pod>) {
        if let Some(patch) = identity::restore(pod, ordinal) {
            self.steps.push(Step::Label(pod.clone(), patch));
        }
        self.own_claims(ordinal, pod);
    }

    fn own_claims(&mut self, ordinal: i32, pod: &Arc<Pod>) {
        let set = self.snapshot.set;
        for volume in &set.spec.volume_claim_templates {
            let name = identity::claim_name(set.name(), &volume.metadata.name, ordinal);
            let Some(claim) = self.snapshot.claims.get(&name) else {
                continue;
            };
            if let Some(owners) = retention::owners(set, pod, claim) {
                self.steps.push(Step::Own(claim.clone(), owners));
            }
        }
    }

    /// Sees to the pods that are too many, the last first. Whether nothing has to be waited for before going on.
    fn condemn(&mut self) -> bool {
        let Snapshot { set, now, .. } = self.snapshot;
        let mut condemned: Vec<_> = self.pods.iter().filter(|(ordinal, _)| !set.wants(**ordinal)).collect();
        condemned.sort_by_key(|(ordinal, _)| Reverse(**ordinal));
        let condemned: Vec<_> = condemned.into_iter().map(|(ordinal, pod)| (*ordinal, *pod)).collect();
        for (ordinal, pod) in &condemned {
            self.own_claims(*ordinal, pod);
        }
        let is_unhealthy = |pod: &Pod| !is_ready(pod) || !is_available(pod, set, now) || pod.is_terminating();
        let wanted = self
            .pods
            .iter()
            .filter(|(ordinal, _)| set.wants(**ordinal))
            .map(|(_, pod)| *pod);
        let first_unhealthy = wanted
            .chain(condemned.iter().rev().map(|(_, pod)| *pod))
            .find(|pod| is_unhealthy(pod));
        let first_unhealthy = first_unhealthy.map(|pod| pod.uid().to_owned());
        for (_, pod) in condemned {
            let may_go = !is_unhealthy(pod) || first_unhealthy.as_deref() == Some(pod.uid());
            if !pod.is_terminating() && (may_go || !set.is_ordered()) {
                self.steps.push(Step::Delete(pod.clone()));
            }
            if set.is_ordered() {
                return false;
            }
        }
        true
    }

    /// Deletes pods of an old revision, the last first, so that they come back with the new one. How many.
    fn replace(&mut self) -> i32 {
        let Snapshot { set, now, .. } = self.snapshot;
        let is_unavailable = |pod: &Pod| pod.is_terminating() || !is_available(pod, set, now);
        let wanted: Vec<_> = (set.start()..set.start().saturating_add(set.replicas()))
            .map(|ordinal| self.pods.get(&ordinal))
            .collect();
        let missing = wanted
            .iter()
            .filter(|pod| pod.is_none_or(|pod| is_unavailable(pod)))
            .count() as i32;
        let mut may_go = set.max_unavailable() - missing;
        let partition = usize::try_from(set.partition()).unwrap_or_default();
        let mut replaced = 0;
        for pod in wanted.into_iter().skip(partition).rev().flatten() {
            if pod.is_terminating() || pod.is_finished() || pod.label(REVISION_HASH) == Some(self.update.as_str()) {
                continue;
            }
            // One that is missing anyway may well come back in the new revision, which perhaps mends it.
            if !is_unavailable(pod) {
                if may_go <= 0 {
                    continue;
                }
                may_go -= 1;
            }
            self.steps.push(Step::Delete((*pod).clone()));
            replaced += 1;
        }
        replaced
    }
}
