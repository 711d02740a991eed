//! Brings CronJobs in order.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use async_trait::async_trait;
use bosun_client::{CallError, Change, ObjectKey, call::call};
use jiff::{Timestamp, tz::TimeZone};
use k8s_openapi::api::{batch::v1 as batch, core::v1::ObjectReference};
use kube::{
    Api, Resource,
    api::{DeleteParams, PropagationPolicy},
};

use super::{CronJob, NewJob, Snapshot, plan};
use crate::{
    informers::Informers,
    job::Job,
    objects::controller_of,
    runtime::{Context, Controller, Done, SyncError, Watches, write},
    workload::{Apply, Event, apply::owner_key},
};

/// The controller of CronJobs.
pub struct CronJobs {
    apply: Apply<CronJob>,
    informers: Arc<Informers>,
    clock: fn() -> Timestamp,
}

impl CronJobs {
    /// The controller of CronJobs.
    pub fn new(context: &Context) -> Self {
        Self::by(context, Timestamp::now)
    }

    /// The same, by another clock than the system's.
    pub fn by(context: &Context, clock: fn() -> Timestamp) -> Self {
        Self {
            apply: Apply::new(context),
            informers: context.informers.clone(),
            clock,
        }
    }

    fn jobs(&self, cron: &CronJob) -> Api<Job> {
        let namespace = cron.metadata.namespace.as_deref().unwrap_or_default();
        Api::namespaced(self.apply.client.clone(), namespace)
    }

    /// Of the Jobs that the status calls active and that weren't heard of, those that are there nevertheless.
    async fn unseen(&self, cron: &CronJob, jobs: &[Arc<Job>]) -> Result<BTreeSet<String>, CallError> {
        let mut unseen = BTreeSet::new();
        for active in cron.status.active.iter().flatten() {
            if jobs.iter().any(|job| job.metadata.uid == active.uid) {
                continue;
            }
            match call(self.jobs(cron).get(active.name.as_deref().unwrap_or_default())).await {
                Ok(_) => unseen.extend(active.uid.clone()),
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(unseen)
    }

    async fn delete(&self, cron: &CronJob, job: &impl Resource<DynamicType = ()>) -> Result<(), CallError> {
        let params: DeleteParams = write::only_with(job, PropagationPolicy::Background);
        let name = job.meta().name.clone().unwrap_or_default();
        match self.apply.delete(job, &params).await {
            Ok(()) => {
                self.apply
                    .tell(cron, &Event::normal("SuccessfulDelete", format!("Deleted job {name}")));
                Ok(())
            }
            Err(error) => {
                self.apply
                    .tell(cron, &Event::warning("FailedDelete", format!("Deleted job: {error}")));
                Err(error)
            }
        }
    }

    /// Makes the Job. One of its name that is the CronJob's own was made before, and only the status doesn't say so yet.
    async fn create(&self, cron: &CronJob, new: &NewJob) -> Result<Option<ObjectReference>, CallError> {
        let namespace = cron.metadata.namespace.as_deref();
        let made = match self.apply.create::<batch::Job>(namespace, &new.object).await {
            Ok(made) => {
                self.apply.tell(
                    cron,
                    &Event::normal("SuccessfulCreate", format!("Created job {}", new.name)),
                );
                made.metadata
            }
            Err(error) if error.is_already_exists() => {
                let job = call(self.jobs(cron).get(&new.name)).await?;
                let is_own = controller_of(&job.metadata).map(|owner| &owner.uid) == cron.metadata.uid.as_ref();
                if !is_own {
                    return Ok(None);
                }
                job.metadata
            }
            Err(error) => {
                if !error.is_namespace_terminating() {
                    self.apply.tell(
                        cron,
                        &Event::warning("FailedCreate", format!("Error creating job: {error}")),
                    );
                }
                return Err(error);
            }
        };
        Ok(Some(ObjectReference {
            api_version: Some(Job::api_version(&()).into_owned()),
            kind: Some(Job::kind(&()).into_owned()),
            name: made.name,
            namespace: made.namespace,
            uid: made.uid,
            resource_version: made.resource_version,
            field_path: None,
        }))
    }
}

#[async_trait]
impl Controller for CronJobs {
    type Key = ObjectKey;

    fn name(&self) -> &'static str {
        "cronjob"
    }

    fn watch(self: &Arc<Self>, watches: &mut Watches<ObjectKey>) {
        watches.on(&self.informers.cron_jobs, |change| [ObjectKey::of(&**change.object())]);
        watches.on(&self.informers.jobs, |change: &Change<Job>| {
            owner_key::<CronJob>(&change.object().metadata)
        });
    }

    async fn sync(&self, key: &ObjectKey) -> Result<Done, SyncError> {
        let Some(cron) = self.informers.cron_jobs.get(key) else {
            self.apply.forget(key);
            return Ok(Done::Settled);
        };
        if self.apply.is_behind(&cron) {
            return Ok(Done::Settled);
        }
        let jobs = self
            .informers
            .jobs_by_controller
            .get(cron.metadata.uid.as_deref().unwrap_or_default());
        let unseen = self.unseen(&cron, &jobs).await?;
        let now = (self.clock)();
        let plan = plan(Snapshot {
            cron: &cron,
            jobs: &jobs,
            unseen: &unseen,
            zone: &TimeZone::system(),
            now,
        });
        plan.events.iter().for_each(|event| self.apply.tell(&cron, event));
        for job in &plan.forget {
            self.delete(&cron, &**job).await?;
        }
        for active in &plan.replace {
            let mut job = batch::Job::default();
            job.metadata.name.clone_from(&active.name);
            job.metadata.namespace.clone_from(&active.namespace);
            job.metadata.uid.clone_from(&active.uid);
            self.delete(&cron, &job).await?;
        }
        let mut status = plan.status;
        if let Some(new) = &plan.create
            && let Some(made) = self.create(&cron, new).await?
        {
            status = new.made(status, made);
        }
        if status != cron.status {
            self.apply.write_status(&cron, &cron.metadata, &status).await?;
        }
        let delay = plan.next.map(|at| at.duration_since(now));
        // Of a time that has passed meanwhile it is known too late, but at once.
        Ok(Done::after(delay.map(|delay| {
            Duration::try_from(delay).unwrap_or(Duration::from_millis(10))
        })))
    }
}
