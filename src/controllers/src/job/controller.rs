//! Brings Jobs in order.

use std::{collections::HashMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use bosun_client::{CallError, Change, ObjectKey};
use futures_util::{StreamExt, stream};
use jiff::Timestamp;
use kube::api::Patch;
use parking_lot::Mutex;
use serde_json::json;

use super::{Backoff, Job, Plan, Snapshot, TRACKING, finished, is_tracked, plan};
use crate::{
    informers::Informers,
    objects::controller_of,
    runtime::{Context, Controller, Done, SyncError, Watches},
    workload::{
        Apply, Pod,
        apply::{Outcome, owner_key, suitors},
    },
};

/// Finalizers that are taken at once.
const AT_ONCE: usize = 20;

/// The controller of Jobs.
pub struct Jobs {
    apply: Apply<Job>,
    informers: Arc<Informers>,
    /// Series of failures, by the UID of the Job. After a restart the pods that are there tell it again.
    backoffs: Mutex<HashMap<ObjectKey, (String, Backoff)>>,
}

impl Jobs {
    /// The controller of Jobs.
    pub fn new(context: &Context) -> Self {
        Self {
            apply: Apply::new(context),
            informers: context.informers.clone(),
            backoffs: Mutex::default(),
        }
    }

    /// The finalizer goes from a pod. One that is gone needs none.
    async fn release(&self, pod: &Pod) -> Result<(), CallError> {
        if !is_tracked(pod) {
            return Ok(());
        }
        let patch = json!({"metadata": {
            "uid": pod.uid(),
            "$deleteFromPrimitiveList/finalizers": [TRACKING],
        }});
        match self.apply.patch(pod, Patch::Strategic(&patch)).await {
            // A pod of the same name is another one.
            Err(error) if error.is_not_found() || error.is_conflict() => Ok(()),
            outcome => outcome,
        }
    }

    async fn release_all(&self, pods: &[Arc<Pod>]) -> Result<(), CallError> {
        let release = |pod: &Arc<Pod>| {
            let pod = pod.clone();
            async move { self.release(&pod).await }
        };
        let calls: Vec<_> = pods.iter().map(release).collect();
        let mut outcomes = stream::iter(calls).buffer_unordered(AT_ONCE);
        let mut failed = Ok(());
        while let Some(outcome) = outcomes.next().await {
            failed = failed.and(outcome);
        }
        failed
    }

    /// Lets go the pods of Jobs of this name that are gone, which nobody will count.
    async fn release_orphans(&self, key: &ObjectKey, job: Option<&Job>) -> Result<(), CallError> {
        let mut pods = self.informers.tracked_pods.get(&key.to_string());
        let uid = job.and_then(|job| job.metadata.uid.as_ref());
        pods.retain(|pod| controller_of(&pod.metadata).map(|owner| &owner.uid) != uid);
        self.release_all(&pods).await
    }

    async fn apply(&self, key: &ObjectKey, job: &Job, plan: &mut Plan) -> Result<(), SyncError> {
        let gone: Vec<_> = plan.delete.iter().chain(&plan.discard).cloned().collect();
        let mut outcome = Outcome::default();
        if !plan.create.is_empty() || !gone.is_empty() {
            let uids = gone.iter().map(|pod| pod.uid().to_owned());
            self.apply.expectations.expect(key, plan.create.len(), uids);
            outcome = self.apply.create_pods(job, &plan.create).await;
            if let Some(status) = &mut plan.status {
                let made = status.active.unwrap_or_default() - outcome.failed as i32;
                status.active = Some(made).filter(|count| *count > 0);
            }
            if let Err(error) = self.release_all(&plan.discard).await {
                for pod in &gone {
                    self.apply.expectations.deleted(key, pod.uid());
                }
                return Err(error.into());
            }
            let deleted = self.apply.delete_pods(job, &gone).await;
            outcome.error = outcome.error.or(deleted.error);
        }
        if let Some(status) = plan.status.as_ref().filter(|status| **status != job.status) {
            self.apply.write_status(job, &job.metadata, status).await?;
        }
        let uid = job.metadata.uid.clone().unwrap_or_default();
        self.backoffs.lock().insert(key.clone(), (uid, plan.backoff));
        plan.events.iter().for_each(|event| self.apply.tell(job, event));
        self.release_all(&plan.release).await?;
        outcome.error.map_or(Ok(()), |error| Err(error.into()))
    }
}

#[async_trait]
impl Controller for Jobs {
    type Key = ObjectKey;

    fn name(&self) -> &'static str {
        "job"
    }

    fn watch(self: &Arc<Self>, watches: &mut Watches<ObjectKey>) {
        watches.on(&self.informers.jobs, |change: &Change<Job>| {
            [ObjectKey::of(&**change.object())]
        });
        let this = self.clone();
        watches.on(&self.informers.pods, move |change| {
            let mut keys = this.apply.heard(change);
            keys.extend(suitors(&this.informers.jobs_by_namespace, &**change.object(), |job| {
                job.spec.selector.clone()
            }));
            keys
        });
    }

    async fn sync(&self, key: &ObjectKey) -> Result<Done, SyncError> {
        let Some(job) = self.informers.jobs.get(key) else {
            self.release_orphans(key, None).await?;
            self.apply.forget(key);
            self.backoffs.lock().remove(key);
            return Ok(Done::Settled);
        };
        self.release_orphans(key, Some(&job)).await?;
        if job.is_managed_elsewhere() || self.apply.is_behind(&job) {
            return Ok(Done::Settled);
        }
        let settled = self.apply.expectations.satisfied(key);
        let uid = job.metadata.uid.clone().unwrap_or_default();
        let mut pods = self.informers.pods_by_controller.get(uid.as_str());
        if finished(&job.status).is_none() {
            let orphans = self.informers.orphan_pods.get(key.namespace.as_str());
            pods = self
                .apply
                .claim(
                    &*job,
                    &job.spec.selector,
                    pods.into_iter().chain(orphans),
                    Some(TRACKING),
                )
                .await?;
        }
        let known = self
            .backoffs
            .lock()
            .get(key)
            .filter(|(of, _)| *of == uid)
            .map(|(_, backoff)| *backoff);
        let now = Timestamp::now();
        let mut plan = plan(Snapshot {
            job: &job,
            pods: &pods,
            settled,
            backoff: known,
            now,
        });
        self.apply(key, &job, &mut plan).await?;
        if !settled {
            return Ok(Done::Again(Duration::from_secs(300)));
        }
        let delay = plan.next.map(|at| at.duration_since(now));
        Ok(Done::after(delay.and_then(|delay| Duration::try_from(delay).ok())))
    }
}

/// The namespace and name of the Job that a pod waits to be counted for.
pub fn tracker(pod: &Pod) -> Option<String> {
    controller_of(&pod.metadata)?;
    is_tracked(pod)
        .then(|| owner_key::<Job>(&pod.metadata))
        .flatten()
        .map(|key| key.to_string())
}
