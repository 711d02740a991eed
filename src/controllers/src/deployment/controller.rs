//! Brings Deployments in order.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bosun_client::{CallError, Change, ObjectKey, call::call};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1 as apps;
use kube::{Api, api::Patch};

use super::{Deployment, NewSet, Plan, Snapshot, TEMPLATE_HASH, annotations, collided, failed_to_create, plan};
use crate::{
    informers::Informers,
    objects::controller_of,
    replica_set::ReplicaSet,
    runtime::{Context, Controller, Done, SyncError, Watches, write},
    workload::{
        Apply, Event, Pod,
        apply::{owner_key, suitors},
        hash,
    },
};

/// The controller of Deployments.
pub struct Rollouts {
    apply: Apply<Deployment>,
    informers: Arc<Informers>,
}

impl Rollouts {
    /// The controller of Deployments.
    pub fn new(context: &Context) -> Self {
        Self {
            apply: Apply::new(context),
            informers: context.informers.clone(),
        }
    }

    /// The Deployment whose re-creation may wait for this pod to be gone.
    fn waits_for(&self, pod: &Pod) -> Option<ObjectKey> {
        let set = self
            .informers
            .replica_sets
            .get(&owner_key::<ReplicaSet>(&pod.metadata)?)?;
        let key = owner_key::<Deployment>(&set.metadata)?;
        let deployment = self.informers.deployments.get(&key)?;
        deployment.recreates().then_some(key)
    }

    /// UIDs of sets that have pods which have not ended.
    fn running(&self, sets: &[Arc<ReplicaSet>]) -> Vec<String> {
        let uids = sets.iter().filter_map(|set| set.metadata.uid.clone());
        let runs = |uid: &String| {
            self.informers
                .pods_by_controller
                .get(uid.as_str())
                .iter()
                .any(|pod| !pod.is_finished())
        };
        uids.filter(runs).collect()
    }

    async fn create(&self, deployment: &Deployment, new: &NewSet) -> Result<(), SyncError> {
        let namespace = deployment.metadata.namespace.as_deref().unwrap_or_default();
        let error = match self
            .apply
            .create::<apps::ReplicaSet>(Some(namespace), &new.object)
            .await
        {
            Ok(_) => {
                new.event.iter().for_each(|event| self.apply.tell(deployment, event));
                return Ok(());
            }
            Err(error) if error.is_namespace_terminating() => return Ok(()),
            Err(error) => error,
        };
        if error.is_already_exists() {
            return self.resolve(deployment, new, error).await;
        }
        let message = format!("Failed to create new replica set \"{}\": {error}", new.name);
        self.apply
            .tell(deployment, &Event::warning("ReplicaSetCreateError", message.clone()));
        let status = failed_to_create(deployment, &message, Timestamp::now());
        if status != deployment.status {
            self.apply
                .write_status(deployment, &deployment.metadata, &status)
                .await?;
        }
        Err(error.into())
    }

    /// The name is taken: by the very set, which the informer hasn't told of yet; or by another, and the next attempt
    /// must take another name.
    async fn resolve(&self, deployment: &Deployment, new: &NewSet, error: CallError) -> Result<(), SyncError> {
        let namespace = deployment.metadata.namespace.as_deref().unwrap_or_default();
        let sets: Api<ReplicaSet> = Api::namespaced(self.apply.client.clone(), namespace);
        let there = call(sets.get(&new.name)).await?;
        let is_own = controller_of(&there.metadata).map(|owner| &owner.uid) == deployment.metadata.uid.as_ref();
        let ours = &new.object["spec"]["template"];
        if is_own && hash::same_template(&there.spec.part("template"), ours, &[TEMPLATE_HASH]) {
            return Ok(());
        }
        let status = collided(deployment);
        self.apply
            .write_status(deployment, &deployment.metadata, &status)
            .await?;
        Err(error.into())
    }

    async fn apply(&self, deployment: &Deployment, plan: &Plan) -> Result<(), SyncError> {
        plan.events.iter().for_each(|event| self.apply.tell(deployment, event));
        if let Some(new) = &plan.create {
            self.create(deployment, new).await?;
        }
        for change in &plan.change {
            self.apply.patch(&*change.set, Patch::Merge(&change.patch)).await?;
            change.event.iter().for_each(|event| self.apply.tell(deployment, event));
        }
        for set in &plan.delete {
            self.apply.delete(&**set, &write::only(&**set)).await?;
        }
        if plan.status != deployment.status || plan.revision.is_some() {
            let mut meta = deployment.metadata.clone();
            if let Some(revision) = plan.revision {
                let noted = meta.annotations.get_or_insert_default();
                noted.insert(annotations::REVISION.to_owned(), revision.to_string());
            }
            self.apply.write_status(deployment, &meta, &plan.status).await?;
        }
        Ok(())
    }
}

#[async_trait]
impl Controller for Rollouts {
    type Key = ObjectKey;

    fn name(&self) -> &'static str {
        "deployment"
    }

    fn watch(self: &Arc<Self>, watches: &mut Watches<ObjectKey>) {
        let informers = &self.informers;
        watches.on(&informers.deployments, |change| [ObjectKey::of(&**change.object())]);
        let this = self.clone();
        watches.on(&informers.replica_sets, move |change| {
            let set = change.object();
            let mut keys = suitors(&this.informers.deployments_by_namespace, &**set, |owner| {
                owner.spec.selector.clone()
            });
            keys.extend(owner_key::<Deployment>(&set.metadata));
            if let Change::Updated { old, .. } = change {
                keys.extend(owner_key::<Deployment>(&old.metadata));
            }
            keys
        });
        let this = self.clone();
        watches.on(&informers.pods, move |change| match change {
            Change::Deleted(pod) => this.waits_for(pod),
            Change::Updated { new: pod, .. } if pod.is_finished() => this.waits_for(pod),
            _ => None,
        });
    }

    async fn sync(&self, key: &ObjectKey) -> Result<Done, SyncError> {
        let informers = &self.informers;
        let Some(deployment) = informers.deployments.get(key) else {
            self.apply.forget(key);
            return Ok(Done::Settled);
        };
        if self.apply.is_behind(&deployment) {
            return Ok(Done::Settled);
        }
        let own = informers
            .replica_sets_by_controller
            .get(deployment.metadata.uid.as_deref().unwrap_or_default());
        let orphans = informers.orphan_replica_sets.get(key.namespace.as_str());
        let selector = &deployment.spec.selector;
        let sets = if bosun_api::selector::is_empty(selector) {
            own
        } else {
            self.apply
                .claim(&*deployment, selector, own.into_iter().chain(orphans), None)
                .await?
        };
        let now = Timestamp::now();
        let running = if deployment.recreates() {
            self.running(&sets)
        } else {
            vec![]
        };
        let plan = plan(Snapshot {
            deployment: &deployment,
            sets: &sets,
            running: &running,
            now,
        });
        self.apply(&deployment, &plan).await?;
        let delay = plan.next.map(|at| at.duration_since(now));
        Ok(Done::after(delay.and_then(|delay| Duration::try_from(delay).ok())))
    }
}
