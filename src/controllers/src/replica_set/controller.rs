//! Brings ReplicaSets and ReplicationControllers in order.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bosun_client::{Index, ObjectKey, Reader};
use jiff::Timestamp;

use super::{ReplicaSet, Replicated, ReplicationController, are_siblings, next_look, plan, status};
use crate::{
    informers::Informers,
    objects::controller_of,
    runtime::{Context, Controller, Done, SyncError, Watches},
    workload::{
        Apply, Pod,
        apply::{Outcome, suitors},
    },
};

/// The controller of a kind that keeps a number of pods.
pub struct ReplicaSets<R> {
    name: &'static str,
    apply: Apply<R>,
    sets: Reader<R>,
    by_namespace: Index<R, String>,
    /// Sets of one Deployment; only ReplicaSets have such.
    by_controller: Option<Index<R, String>>,
    informers: Arc<Informers>,
}

impl ReplicaSets<ReplicaSet> {
    /// The controller of ReplicaSets.
    pub fn new(context: &Context) -> Self {
        let informers = &context.informers;
        Self {
            name: "replicaset",
            apply: Apply::new(context),
            sets: informers.replica_sets.clone(),
            by_namespace: informers.replica_sets_by_namespace.clone(),
            by_controller: Some(informers.replica_sets_by_controller.clone()),
            informers: informers.clone(),
        }
    }
}

impl ReplicaSets<ReplicationController> {
    /// The controller of ReplicationControllers.
    pub fn of_controllers(context: &Context) -> Self {
        let informers = &context.informers;
        Self {
            name: "replicationcontroller",
            apply: Apply::new(context),
            sets: informers.replication_controllers.clone(),
            by_namespace: informers.replication_controllers_by_namespace.clone(),
            by_controller: None,
            informers: informers.clone(),
        }
    }
}

impl<R: Replicated> ReplicaSets<R> {
    /// The pods of the set and of its siblings.
    fn related(&self, set: &R, own: &[Arc<Pod>]) -> Vec<Arc<Pod>> {
        let owner = controller_of(set.meta());
        let Some((index, owner)) = self.by_controller.as_ref().zip(owner) else {
            return own.to_vec();
        };
        let siblings = index
            .get(owner.uid.as_str())
            .into_iter()
            .filter(|other| are_siblings(set, other));
        let pods = |set: Arc<R>| {
            self.informers
                .pods_by_controller
                .get(set.meta().uid.as_deref().unwrap_or_default())
        };
        siblings.flat_map(pods).collect()
    }
}

#[async_trait]
impl<R: Replicated> Controller for ReplicaSets<R> {
    type Key = ObjectKey;

    fn name(&self) -> &'static str {
        self.name
    }

    fn watch(self: &Arc<Self>, watches: &mut Watches<ObjectKey>) {
        watches.on(&self.sets, |change| [ObjectKey::of(&**change.object())]);
        let this = self.clone();
        watches.on(&self.informers.pods, move |change| {
            let mut keys = this.apply.heard(change);
            keys.extend(suitors(&this.by_namespace, &**change.object(), R::selector));
            keys
        });
    }

    async fn sync(&self, key: &ObjectKey) -> Result<Done, SyncError> {
        let Some(set) = self.sets.get(key) else {
            self.apply.forget(key);
            return Ok(Done::Settled);
        };
        if self.apply.is_behind(&set) {
            return Ok(Done::Settled);
        }
        // Before pods are looked at: what is heard of later would count twice.
        let settled = self.apply.expectations.satisfied(key);
        let own = self
            .informers
            .pods_by_controller
            .get(set.meta().uid.as_deref().unwrap_or_default());
        let orphans = self.informers.orphan_pods.get(key.namespace.as_str());
        let pods = self
            .apply
            .claim(&*set, &set.selector(), own.into_iter().chain(orphans), None)
            .await?;

        let mut failure = None;
        let mut outcome = Outcome::default();
        if settled && set.meta().deletion_timestamp.is_none() {
            let plan = plan(&*set, &pods, &self.related(&set, &pods), Timestamp::now());
            if !plan.create.is_empty() {
                self.apply.expectations.expect(key, plan.create.len(), []);
                outcome = self.apply.create_pods(&*set, &plan.create).await;
                failure = outcome.error.as_ref().map(|error| ("FailedCreate", error.to_string()));
            } else if !plan.delete.is_empty() {
                let uids = plan.delete.iter().map(|pod| pod.uid().to_owned());
                self.apply.expectations.expect(key, 0, uids);
                outcome = self.apply.delete_pods(&*set, &plan.delete).await;
                failure = outcome.error.as_ref().map(|error| ("FailedDelete", error.to_string()));
            }
        }
        let now = Timestamp::now();
        let status = status(&*set, &pods, failure, now);
        if status != *set.status() {
            self.apply.write_status(&*set, set.meta(), &status).await?;
        }
        if let Some(error) = outcome.error {
            return Err(error.into());
        }
        if !settled {
            return Ok(Done::Again(Duration::from_secs(300)));
        }
        let delay = next_look(&*set, &pods, now).map(|at| at.duration_since(now));
        Ok(Done::after(delay.and_then(|delay| Duration::try_from(delay).ok())))
    }
}
