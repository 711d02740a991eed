//! All that is to be done next for a Job.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{api::batch::v1::JobStatus, apimachinery::pkg::apis::meta::v1::Time};
use serde_json::Value;

use super::{
    Backoff, Job,
    conditions::{self, End, SUSPENDED, finished},
    count::{Ended, is_settled, succeeded_indexes, track},
    is_tracked,
    pods::{Moves, Work, failed_indexes, replaced},
    policy::{self, Verdict},
};
use crate::workload::{Event, Pod, pod::Phase};

/// All that a plan is made from.
#[derive(Clone, Copy, Debug)]
pub struct Snapshot<'a> {
    /// The Job.
    pub job: &'a Job,
    /// Its pods.
    pub pods: &'a [Arc<Pod>],
    /// All pods that were made or deleted are seen to be so: without that none are made or deleted.
    pub settled: bool,
    /// The series of failures as the last plan left it; unknown at first.
    pub backoff: Option<Backoff>,
    /// The time it is.
    pub now: Timestamp,
}

/// What to do for a Job, in the order of the fields.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// Pods to make.
    pub create: Vec<Value>,
    /// Pods to delete, which will count.
    pub delete: Vec<Arc<Pod>>,
    /// Pods to delete after their finalizer was taken from them, so that they don't count.
    pub discard: Vec<Arc<Pod>>,
    /// The status to write, if it changed.
    pub status: Option<JobStatus>,
    /// What to tell once it is written.
    pub events: Vec<Event>,
    /// Pods whose finalizers may go once it is written.
    pub release: Vec<Arc<Pod>>,
    /// The series of failures, once all that is done.
    pub backoff: Backoff,
    /// When to plan again if nothing happens before.
    pub next: Option<Timestamp>,
}

/// What is to be done next for a Job.
pub fn plan(snapshot: Snapshot<'_>) -> Plan {
    let Snapshot { job, pods, now, .. } = snapshot;
    if job.is_managed_elsewhere() {
        return Plan::default();
    }
    if finished(&job.status).is_some() {
        // All are counted; what still has the finalizer came too late to be.
        return Plan {
            release: pods.iter().filter(|pod| is_tracked(pod)).cloned().collect(),
            ..Plan::default()
        };
    }
    if let Some(mode) = job
        .spec
        .completion_mode
        .as_deref()
        .filter(|mode| !matches!(*mode, "Indexed" | "NonIndexed"))
    {
        tracing::debug!(mode, "a completion mode of a later version");
        return Plan {
            events: vec![Event::warning(
                "UnknownCompletionMode",
                "Skipped Job sync because completion mode is unknown",
            )],
            ..Plan::default()
        };
    }
    let active: Vec<_> = pods.iter().filter(|pod| pod.is_active()).cloned().collect();
    let ended = Ended::of(job, pods);
    let indexes = succeeded_indexes(job, &ended);
    let failed_indexes = failed_indexes(job, pods);
    let no_indexes = super::indexes::Indexes::default();
    let failed = failed_indexes.as_ref().unwrap_or(&no_indexes);
    let replaced = replaced(job, pods, &active, &indexes.union(failed));
    let succeeded = if job.is_indexed() {
        indexes.len() as i32
    } else {
        ended.count_succeeded(job)
    };
    let backoff = snapshot.backoff.map_or_else(
        || seen_before(job, pods),
        |known| known.after(&ended.succeeded, &ended.failed),
    );

    let mut plan = Plan {
        backoff,
        ..Plan::default()
    };
    let mut status = job.status.clone();
    if status.start_time.is_none() && !job.spec.suspend {
        status.start_time = Some(Time(now));
    }
    let decided = End::decided(&job.status);
    let mut end = decided
        .clone()
        .or_else(|| failure(job, pods, &ended, now))
        .or_else(|| index_failure(job, succeeded, failed))
        .or_else(|| {
            let message = policy::suffices(job.spec.success_policy.as_ref(), &indexes, job.completions())?;
            Some(End::good("SuccessPolicy", message))
        });
    if end.is_some() {
        plan.delete.clone_from(&active);
    } else if snapshot.settled && job.metadata.deletion_timestamp.is_none() {
        let work = Work {
            job,
            pods,
            active: &active,
            succeeded,
            succeeded_indexes: &indexes,
            failed_indexes: failed,
            replaced: &replaced,
            backoff,
            now,
        };
        let Moves { create, discard, next } = work.moves();
        (plan.create, plan.discard, plan.next) = (create, discard, next);
    }
    let deleted = plan.delete.iter().chain(&plan.discard);
    let (gone, gone_ready) = (
        deleted.clone().count() as i32,
        deleted.filter(|pod| pod.is_ready()).count() as i32,
    );
    let running = active.len() as i32 + plan.create.len() as i32 - gone;
    if end.is_none() && is_complete(job, succeeded, running) {
        end = Some(End::good(
            "CompletionsReached",
            "Reached expected number of succeeded pods",
        ));
    } else if end.is_none() && snapshot.settled && job.metadata.deletion_timestamp.is_none() {
        plan.events.extend(suspend(job, &mut status, now));
    }
    // Pods may have been made that aren't seen yet, so nothing is over.
    let end = end.filter(|_| snapshot.settled || decided.is_some());
    let ready = active.iter().filter(|pod| pod.is_ready()).count() as i32;
    let terminating = pods
        .iter()
        .filter(|pod| pod.is_terminating() && !pod.is_finished())
        .count() as i32;
    status.active = Some(running).filter(|count| *count > 0);
    status.ready = Some(ready - gone_ready);
    status.terminating = Some(terminating + gone);
    if let Some(indexes) = &failed_indexes {
        status.failed_indexes = Some(indexes.to_string());
    }
    let keep = |pod: &Pod| replaced.values().any(|kept| kept.uid() == pod.uid());
    plan.release = track(job, pods, &mut status, end.as_ref().map(|end| end.good), &keep);
    if let Some(end) = &end {
        if decided.is_none() {
            end.announce(&mut status, now);
        }
        // Only when no pod is left that could still be counted, or still runs.
        if is_settled(&status) && plan.release.is_empty() && running == 0 && terminating + gone == 0 {
            end.conclude(&mut status, now);
            plan.events.extend(ending(job, &status, end));
        }
    } else if let Some(deadline) = deadline(job, &status) {
        plan.next = Some(plan.next.map_or(deadline, |next| next.min(deadline)));
    }
    plan.status = Some(status).filter(|status| *status != job.status);
    plan
}

/// The series of failures where nothing is remembered of it: what the pods that are there tell.
fn seen_before(job: &Job, pods: &[Arc<Pod>]) -> Backoff {
    let succeeded: Vec<_> = pods.iter().filter(|pod| pod.status.phase == Phase::Succeeded).collect();
    let failed: Vec<_> = pods.iter().filter(|pod| job.has_failed(pod)).collect();
    Backoff::default().after(&succeeded, &failed)
}

/// Whether the Job has failed, whatever its indexes say.
fn failure(job: &Job, pods: &[Arc<Pod>], ended: &Ended<'_>, now: Timestamp) -> Option<End> {
    let policy = job.spec.pod_failure_policy.as_ref();
    let fatal = pods
        .iter()
        .filter(|pod| job.has_failed(pod))
        .find_map(|pod| match policy::verdict(policy, pod) {
            Verdict::FailJob(message) => Some(End::bad("PodFailurePolicy", message)),
            _ => None,
        });
    if fatal.is_some() {
        return fatal;
    }
    if ended.count_failed(job) > job.backoff_limit() || restarts_too_often(job, pods) {
        return Some(End::bad(
            "BackoffLimitExceeded",
            "Job has reached the specified backoff limit",
        ));
    }
    let is_late = deadline(job, &job.status).is_some_and(|deadline| deadline <= now);
    is_late.then(|| End::bad("DeadlineExceeded", "Job was active longer than specified deadline"))
}

/// Where containers are restarted in their pods, each restart counts as a failure.
fn restarts_too_often(job: &Job, pods: &[Arc<Pod>]) -> bool {
    if job.spec.template.spec.restart_policy != "OnFailure" {
        return false;
    }
    let running = pods
        .iter()
        .filter(|pod| matches!(pod.status.phase, Phase::Running | Phase::Pending));
    let restarts = running.fold(0_i32, |sum, pod| sum.saturating_add(pod.all_restarts()));
    restarts >= job.backoff_limit().max(1)
}

fn index_failure(job: &Job, succeeded: i32, failed: &super::indexes::Indexes) -> Option<End> {
    let count = failed.len() as i32;
    if job.spec.max_failed_indexes.is_some_and(|most| count > most) {
        let message = "Job has exceeded the specified maximal number of failed indexes";
        return Some(End::bad("MaxFailedIndexesExceeded", message));
    }
    let is_over = count > 0 && count + succeeded >= job.completions() as i32;
    is_over.then(|| End::bad("FailedIndexes", "Job has failed indexes"))
}

fn is_complete(job: &Job, succeeded: i32, running: i32) -> bool {
    match job.spec.completions {
        None => succeeded > 0 && running == 0,
        Some(completions) => succeeded >= completions && running == 0,
    }
}

/// When the Job has been at work for too long.
fn deadline(job: &Job, status: &JobStatus) -> Option<Timestamp> {
    let seconds = job.spec.active_deadline_seconds.filter(|_| !job.spec.suspend)?;
    let start = status.start_time.as_ref()?.0;
    start.checked_add(SignedDuration::from_secs(seconds)).ok()
}

/// Says whether the Job is suspended. A resumed one begins anew: its deadline doesn't run meanwhile.
fn suspend(job: &Job, status: &mut JobStatus, now: Timestamp) -> Option<Event> {
    if job.spec.suspend {
        let changed = conditions::set(status, SUSPENDED, "True", "JobSuspended", "Job suspended", now);
        return changed.then(|| Event::normal("Suspended", "Job suspended"));
    }
    let changed = conditions::set(status, SUSPENDED, "False", "JobResumed", "Job resumed", now);
    changed.then(|| {
        status.start_time = Some(Time(now));
        Event::normal("Resumed", "Job resumed")
    })
}

fn ending(job: &Job, status: &JobStatus, end: &End) -> Vec<Event> {
    if !end.good {
        // Reasons are from a list of our own, or were written by one who has the same list.
        let reasons = [
            "PodFailurePolicy",
            "BackoffLimitExceeded",
            "DeadlineExceeded",
            "MaxFailedIndexesExceeded",
            "FailedIndexes",
        ];
        let reason = reasons
            .into_iter()
            .find(|reason| *reason == end.reason)
            .unwrap_or("Failed");
        return vec![Event::warning(reason, end.message.clone())];
    }
    let too_many = job
        .spec
        .completions
        .is_some_and(|wanted| status.succeeded.unwrap_or_default() > wanted);
    let warning = too_many.then(|| {
        let message = "Too many succeeded pods running after completion count reached";
        Event::warning("TooManySucceededPods", message)
    });
    warning
        .into_iter()
        .chain([Event::normal("Completed", "Job completed")])
        .collect()
}
