//! Counting pods that ended, each once.

use std::{collections::BTreeSet, sync::Arc};

use k8s_openapi::api::batch::v1::JobStatus;

use super::{
    Job, index,
    indexes::Indexes,
    is_tracked,
    policy::{self, Verdict},
};
use crate::workload::{Pod, pod::Phase};

/// How many pods are noted in a status at once: their UIDs shall not fill it.
const MOST_NOTED: usize = 500;

/// UIDs of pods that ended, noted in a status before their finalizers go.
#[derive(Clone, Debug, Default)]
struct Noted {
    succeeded: Vec<String>,
    failed: Vec<String>,
}

impl Noted {
    fn of(status: &JobStatus) -> Self {
        let noted = status.uncounted_terminated_pods.clone().unwrap_or_default();
        Self {
            succeeded: noted.succeeded.unwrap_or_default(),
            failed: noted.failed.unwrap_or_default(),
        }
    }

    fn write(self, status: &mut JobStatus) {
        let some = |uids: Vec<String>| Some(uids).filter(|uids| !uids.is_empty());
        let noted = status.uncounted_terminated_pods.get_or_insert_default();
        noted.succeeded = some(self.succeeded);
        noted.failed = some(self.failed);
    }

    fn len(&self) -> usize {
        self.succeeded.len() + self.failed.len()
    }
}

/// Pods of a Job that ended and are neither counted nor noted.
#[derive(Debug, Default)]
pub(super) struct Ended<'a> {
    pub(super) succeeded: Vec<&'a Arc<Pod>>,
    pub(super) failed: Vec<&'a Arc<Pod>>,
}

impl<'a> Ended<'a> {
    pub(super) fn of(job: &Job, pods: &'a [Arc<Pod>]) -> Self {
        let noted = Noted::of(&job.status);
        let is_among = |uids: &[String], pod: &Pod| uids.iter().any(|uid| uid == pod.uid());
        let counts = |pod: &Pod| is_tracked(pod) && (!job.is_indexed() || job.index(pod).is_some());
        let mut ended = Self::default();
        for pod in pods.iter().filter(|pod| counts(pod)) {
            if pod.status.phase == Phase::Succeeded && !is_among(&noted.succeeded, pod) {
                ended.succeeded.push(pod);
            }
            if job.has_failed(pod) && !is_among(&noted.failed, pod) {
                ended.failed.push(pod);
            }
        }
        ended
    }

    /// How many pods have succeeded, by what is counted, noted and seen.
    pub(super) fn count_succeeded(&self, job: &Job) -> i32 {
        let unseen = job.status.succeeded.unwrap_or_default();
        unseen + (Noted::of(&job.status).succeeded.len() + self.succeeded.len()) as i32
    }

    /// How many pods have failed so that it counts.
    pub(super) fn count_failed(&self, job: &Job) -> i32 {
        let policy = job.spec.pod_failure_policy.as_ref();
        let seen = self
            .failed
            .iter()
            .filter(|pod| policy::verdict(policy, pod) != Verdict::Ignore)
            .count();
        job.status.failed.unwrap_or_default() + (Noted::of(&job.status).failed.len() + seen) as i32
    }
}

/// The indexes that succeeded, by the status and by the pods that ended.
pub(super) fn succeeded_indexes(job: &Job, ended: &Ended<'_>) -> Indexes {
    let known = Indexes::parse(
        job.status.completed_indexes.as_deref().unwrap_or_default(),
        job.completions(),
    );
    known.union(&ended.succeeded.iter().filter_map(|pod| job.index(pod)).collect())
}

/// Moves to the counters what was noted and whose finalizer is gone, then notes what ended, or ends with the Job, well
/// or not. Gives the pods whose finalizers may go once the status is written. Pods to `keep` wait for their successors.
pub(super) fn track(
    job: &Job,
    pods: &[Arc<Pod>],
    status: &mut JobStatus,
    ending: Option<bool>,
    keep: &dyn Fn(&Pod) -> bool,
) -> Vec<Arc<Pod>> {
    let mut tracked: Vec<_> = pods.iter().filter(|pod| is_tracked(pod)).collect();
    tracked.sort_by_key(|pod| index(pod));
    let uids: BTreeSet<&str> = tracked.iter().map(|pod| pod.uid()).collect();
    let mut noted = Noted::of(status);
    let succeeded = counted(status.succeeded, &mut noted.succeeded, &uids);
    status.failed = counted(status.failed, &mut noted.failed, &uids);

    let before = noted.clone();
    let is_among = |uids: &[String], pod: &Pod| uids.iter().any(|uid| uid == pod.uid());
    let is_deleted = job.metadata.deletion_timestamp.is_some();
    let mut indexes = BTreeSet::new();
    let mut release = vec![];
    for pod in tracked {
        let has_succeeded = pod.status.phase == Phase::Succeeded;
        let has_failed = job.has_failed(pod);
        if !(is_deleted || ending.is_some() || has_succeeded || (has_failed && !keep(pod))) {
            continue;
        }
        if noted.len() + indexes.len() >= MOST_NOTED {
            break;
        }
        release.push(pod.clone());
        if has_succeeded && !is_among(&before.failed, pod) {
            if job.is_indexed() {
                // The index is enough to count it once.
                indexes.extend(job.index(pod));
            } else if !is_among(&before.succeeded, pod) {
                noted.succeeded.push(pod.uid().to_owned());
            }
            continue;
        }
        // With a Job that fails all fails that still runs.
        let fails = has_failed || ending == Some(false);
        let counts = !job.is_indexed() || job.index(pod).is_some();
        let ignored = || policy::verdict(job.spec.pod_failure_policy.as_ref(), pod) == Verdict::Ignore;
        if fails && counts && !is_among(&before.failed, pod) && !ignored() {
            noted.failed.push(pod.uid().to_owned());
        }
    }
    noted.write(status);
    if job.is_indexed() {
        let known = Indexes::parse(
            status.completed_indexes.as_deref().unwrap_or_default(),
            job.completions(),
        );
        let all = known.union(&indexes.into_iter().collect());
        status.succeeded = Some(all.len() as i32).filter(|count| *count > 0);
        status.completed_indexes = Some(all.to_string()).filter(|text| !text.is_empty());
    } else {
        status.succeeded = succeeded;
    }
    release
}

/// Nothing that ended waits to be counted.
pub(super) fn is_settled(status: &JobStatus) -> bool {
    Noted::of(status).len() == 0
}

/// Takes from `noted` what isn't tracked any more, and counts it.
fn counted(count: Option<i32>, noted: &mut Vec<String>, tracked: &BTreeSet<&str>) -> Option<i32> {
    let before = noted.len();
    noted.retain(|uid| tracked.contains(uid.as_str()));
    let count = count.unwrap_or_default() + (before - noted.len()) as i32;
    Some(count).filter(|count| *count > 0)
}
