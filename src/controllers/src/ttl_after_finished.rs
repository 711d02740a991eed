//! Jobs that are deleted some time after their end, as they ask (`ttlSecondsAfterFinished`).

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bosun_client::{Change, Informer, ObjectKey, Reader, call::call, informer::Config, projected};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1 as batch;
use kube::{Api, api::PropagationPolicy};
use parking_lot::Mutex;
use serde::Deserialize;
use tokio::task::JoinSet;
use tracing::info;

use crate::runtime::{Context, Controller, Done, SyncError, Watches, write::only_with};

projected! {
    /// A Job, by when it ended and how long it is kept.
    pub struct FinishedJob: batch::Job, without annotations {
        /// What it asks.
        pub spec: FinishedSpec,
        /// How it ended.
        pub status: FinishedStatus,
    }
}

/// What is read of `spec`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct FinishedSpec {
    /// How long it is kept after its end; for ever where it says nothing.
    pub ttl_seconds_after_finished: Option<i64>,
}

/// What is read of `status`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct FinishedStatus {
    /// `Complete` and `Failed` tell its end.
    pub conditions: Vec<batch::JobCondition>,
}

/// When a Job goes; `None` as long as it has not ended, or if it stays.
fn goes_at(job: &FinishedJob) -> Option<Timestamp> {
    let ttl = job.spec.ttl_seconds_after_finished?;
    if job.metadata.deletion_timestamp.is_some() {
        return None;
    }
    let ended =
        job.status.conditions.iter().find(|condition| {
            ["Complete", "Failed"].contains(&condition.type_.as_str()) && condition.status == "True"
        })?;
    let at = ended.last_transition_time.as_ref()?.0;
    Some(at.checked_add(SignedDuration::from_secs(ttl)).unwrap_or(Timestamp::MAX))
}

/// Deletes Jobs. Its keys are Jobs.
#[derive(Debug)]
pub struct TtlAfterFinished {
    context: Context,
    jobs: Reader<FinishedJob>,
    _tasks: Mutex<JoinSet<()>>,
}

impl TtlAfterFinished {
    /// Under the identity of the context's client.
    pub fn new(context: &Context) -> Self {
        let (informer, jobs) = Informer::new(Api::all(context.client.clone()), Config::default());
        let mut tasks = JoinSet::new();
        tasks.spawn(informer.run());
        Self {
            context: context.clone(),
            jobs,
            _tasks: Mutex::new(tasks),
        }
    }
}

#[async_trait]
impl Controller for TtlAfterFinished {
    type Key = ObjectKey;

    fn name(&self) -> &'static str {
        "ttl-after-finished"
    }

    fn watch(self: &Arc<Self>, watches: &mut Watches<ObjectKey>) {
        watches.on(&self.jobs, |change| {
            let job = change.object();
            (!matches!(change, Change::Deleted(_)) && goes_at(job).is_some()).then(|| ObjectKey::of(&**job))
        });
    }

    async fn sync(&self, key: &ObjectKey) -> Result<Done, SyncError> {
        let Some((job, at)) = self.jobs.get(key).and_then(|job| goes_at(&job).map(|at| (job, at))) else {
            return Ok(Done::Settled);
        };
        let now = Timestamp::now();
        if at > now {
            let left = now.duration_until(at).try_into().unwrap_or(Duration::from_secs(1));
            return Ok(Done::Again(left));
        }
        // It may have been given more time since it was heard of.
        let api: Api<FinishedJob> = Api::namespaced(self.context.client.clone(), &key.namespace);
        let live = call(api.get_opt(&key.name)).await?;
        if live.is_none_or(|live| live.metadata.uid != job.metadata.uid || goes_at(&live).is_none_or(|at| at > now)) {
            return Ok(Done::Settled);
        }
        let params = only_with(&*job, PropagationPolicy::Foreground);
        match call(api.delete(&key.name, &params)).await {
            Err(error) if !error.is_not_found() && !error.is_conflict() => Err(error.into()),
            _ => {
                info!(
                    namespace = key.namespace,
                    job = key.name,
                    "deleted: the time that it is kept after its end is over"
                );
                Ok(Done::Settled)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_job_goes_after_its_end_if_it_asks_so() {
        let job = |ttl: Option<i64>, type_: &str, status: &str| -> FinishedJob {
            let time = "2026-06-01T12:00:00Z";
            serde_json::from_value(json!({
                "metadata": {"name": "j"},
                "spec": {"ttlSecondsAfterFinished": ttl},
                "status": {"conditions": [{"type": type_, "status": status, "lastTransitionTime": time}]},
            }))
            .expect("a job")
        };
        let at = |time: &str| Some(time.parse::<Timestamp>().expect("a time"));
        assert_eq!(goes_at(&job(Some(60), "Complete", "True")), at("2026-06-01T12:01:00Z"));
        assert_eq!(goes_at(&job(Some(0), "Failed", "True")), at("2026-06-01T12:00:00Z"));
        assert_eq!(goes_at(&job(Some(60), "Complete", "False")), None);
        assert_eq!(goes_at(&job(Some(60), "Suspended", "True")), None);
        assert_eq!(goes_at(&job(None, "Complete", "True")), None);
    }
}
