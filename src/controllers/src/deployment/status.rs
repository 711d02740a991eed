//! What a Deployment says: counts, whether enough is available, whether the rollout makes progress.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{
    api::apps::v1::{DeploymentCondition, DeploymentStatus, ReplicaSetStatus},
    apimachinery::pkg::apis::meta::v1::Time,
};

use super::{
    Deployment,
    plan::{Draft, Work, replica_failure},
};

/// Condition: the rollout makes progress, or is complete.
pub(super) const PROGRESSING: &str = "Progressing";
/// Condition: as many pods are available as must be.
const AVAILABLE: &str = "Available";
/// Condition: pods could not be made.
const REPLICA_FAILURE: &str = "ReplicaFailure";

/// Reason: the rollout is complete.
const COMPLETE: &str = "NewReplicaSetAvailable";
/// Reason: the rollout stands still for too long.
const TIMED_OUT: &str = "ProgressDeadlineExceeded";
const PAUSED: &str = "DeploymentPaused";
const RESUMED: &str = "DeploymentResumed";

/// What a condition shall say.
#[derive(Clone, Debug)]
pub(super) struct Condition {
    type_: &'static str,
    status: &'static str,
    reason: &'static str,
    message: String,
}

impl Condition {
    pub(super) fn progressing(status: &'static str, reason: &'static str, message: String) -> Self {
        Self {
            type_: PROGRESSING,
            status,
            reason,
            message,
        }
    }

    /// Says so, unless the same is said already for the same reason.
    pub(super) fn set(self, status: &mut DeploymentStatus, now: Timestamp) {
        let known = condition(status, self.type_);
        if known.is_some_and(|known| known.status == self.status && known.reason.as_deref() == Some(self.reason)) {
            return;
        }
        self.renew(status, now);
    }

    /// Says so anew: the time of the last update counts as that of the last progress.
    fn renew(self, status: &mut DeploymentStatus, now: Timestamp) {
        let known = condition(status, self.type_).filter(|known| known.status == self.status);
        let since = known
            .and_then(|known| known.last_transition_time.clone())
            .unwrap_or(Time(now));
        put(
            status,
            DeploymentCondition {
                type_: self.type_.to_owned(),
                status: self.status.to_owned(),
                reason: Some(self.reason.to_owned()),
                message: Some(self.message),
                last_update_time: Some(Time(now)),
                last_transition_time: Some(since),
            },
        );
    }
}

/// One of the conditions.
pub(super) fn condition<'s>(status: &'s DeploymentStatus, type_: &str) -> Option<&'s DeploymentCondition> {
    status
        .conditions
        .iter()
        .flatten()
        .find(|condition| condition.type_ == type_)
}

fn put(status: &mut DeploymentStatus, condition: DeploymentCondition) {
    remove(status, &condition.type_);
    status.conditions.get_or_insert_default().push(condition);
}

fn remove(status: &mut DeploymentStatus, type_: &str) {
    if let Some(conditions) = &mut status.conditions {
        conditions.retain(|condition| condition.type_ != type_);
    }
}

/// What to say when the Deployment was paused or resumed, so that the deadline doesn't run meanwhile.
pub(super) fn pause(deployment: &Deployment) -> Option<Condition> {
    let reason = condition(&deployment.status, PROGRESSING).and_then(|known| known.reason.as_deref());
    match (deployment.spec.paused, reason) {
        // What has failed stays failed.
        (_, Some(TIMED_OUT)) | (true, Some(PAUSED)) => None,
        (true, _) => Some(Condition::progressing(
            "Unknown",
            PAUSED,
            "Deployment is paused".to_owned(),
        )),
        (false, Some(PAUSED)) => Some(Condition::progressing(
            "Unknown",
            RESUMED,
            "Deployment is resumed".to_owned(),
        )),
        (false, _) => None,
    }
}

/// The numbers, whether enough is available, and the conditions there were.
pub(super) fn counts(work: &Work<'_>, now: Timestamp) -> DeploymentStatus {
    let deployment = work.snapshot.deployment;
    let sum = |count: &dyn Fn(&ReplicaSetStatus) -> Option<i32>| -> i32 {
        work.all()
            .map(|draft| count(&draft.set.status).unwrap_or_default())
            .sum()
    };
    let some = |count: i32| Some(count).filter(|count| *count > 0);
    let available = sum(&|status| status.available_replicas);
    let wanted: i32 = work.all().map(Draft::size).sum();
    let terminating: Option<Vec<_>> = work.all().map(|draft| draft.set.status.terminating_replicas).collect();
    let mut status = DeploymentStatus {
        observed_generation: deployment.metadata.generation,
        replicas: some(sum(&|status| Some(status.replicas))),
        updated_replicas: work.new.as_ref().and_then(|new| some(new.set.status.replicas)),
        ready_replicas: some(sum(&|status| status.ready_replicas)),
        available_replicas: some(available),
        unavailable_replicas: some(wanted - available),
        terminating_replicas: terminating.map(|counts| counts.iter().sum()),
        collision_count: deployment.status.collision_count,
        conditions: deployment.status.conditions.clone(),
    };
    let enough = Condition {
        type_: AVAILABLE,
        status: "True",
        reason: "MinimumReplicasAvailable",
        message: "Deployment has minimum availability.".to_owned(),
    };
    let too_few = Condition {
        type_: AVAILABLE,
        status: "False",
        reason: "MinimumReplicasUnavailable",
        message: "Deployment does not have minimum availability.".to_owned(),
    };
    let least = deployment.replicas() - deployment.max_unavailable();
    if available >= least { enough } else { too_few }.set(&mut status, now);
    status
}

/// All pods are of the newest template and available, and there are no others.
pub(super) fn is_complete(deployment: &Deployment, status: &DeploymentStatus) -> bool {
    let wanted = deployment.replicas();
    let all = [status.updated_replicas, status.replicas, status.available_replicas];
    all.iter().all(|count| count.unwrap_or_default() == wanted)
        && status.observed_generation >= deployment.metadata.generation
}

/// More is new, ready or available than before, or less is old.
fn has_progressed(before: &DeploymentStatus, status: &DeploymentStatus) -> bool {
    let old =
        |status: &DeploymentStatus| status.replicas.unwrap_or_default() - status.updated_replicas.unwrap_or_default();
    status.updated_replicas > before.updated_replicas
        || old(status) < old(before)
        || status.ready_replicas > before.ready_replicas
        || status.available_replicas > before.available_replicas
}

fn deadline(deployment: &Deployment, status: &DeploymentStatus) -> Option<Timestamp> {
    let seconds = deployment.progress_deadline()?;
    let last = condition(status, PROGRESSING)?.last_update_time.as_ref()?.0;
    last.checked_add(SignedDuration::from_secs(seconds.into())).ok()
}

/// Says how the rollout goes.
pub(super) fn progress(work: &Work<'_>, status: &mut DeploymentStatus, now: Timestamp) {
    let deployment = work.snapshot.deployment;
    let before = &deployment.status;
    let reason = condition(before, PROGRESSING).and_then(|known| known.reason.as_deref());
    let was_complete = reason == Some(COMPLETE) && status.replicas == status.updated_replicas;
    if deployment.progress_deadline().is_none() {
        remove(status, PROGRESSING);
    } else if !was_complete && !work.is_creating() {
        let subject = work.new_name().map_or_else(
            || format!("Deployment \"{}\"", deployment.name()),
            |name| format!("ReplicaSet \"{name}\""),
        );
        if is_complete(deployment, status) {
            let message = format!("{subject} has successfully progressed.");
            Condition::progressing("True", COMPLETE, message).set(status, now);
        } else if has_progressed(before, status) {
            Condition::progressing("True", "ReplicaSetUpdated", format!("{subject} is progressing."))
                .renew(status, now);
        } else if is_late(deployment, status, now) {
            let message = format!("{subject} has timed out progressing.");
            Condition::progressing("False", TIMED_OUT, message).set(status, now);
        }
    }
    match replica_failure(work) {
        Some(failure) => put_if_changed(status, failure),
        None => remove(status, REPLICA_FAILURE),
    }
}

fn put_if_changed(status: &mut DeploymentStatus, failure: DeploymentCondition) {
    let known = condition(status, &failure.type_);
    if known.is_none_or(|known| known.status != failure.status || known.reason != failure.reason) {
        put(status, failure);
    }
}

fn is_late(deployment: &Deployment, status: &DeploymentStatus, now: Timestamp) -> bool {
    let reason = condition(status, PROGRESSING).and_then(|known| known.reason.as_deref());
    reason != Some(COMPLETE) && deadline(deployment, status).is_some_and(|deadline| deadline < now)
}

/// When the rollout will have stood still for too long.
pub(super) fn next_look(deployment: &Deployment, status: &DeploymentStatus, now: Timestamp) -> Option<Timestamp> {
    let reason = condition(status, PROGRESSING).and_then(|known| known.reason.as_deref());
    if deployment.spec.paused || is_complete(deployment, status) || matches!(reason, Some(COMPLETE | TIMED_OUT)) {
        return None;
    }
    // A second more, since times are kept in whole seconds.
    let at = deadline(deployment, status)?
        .checked_add(SignedDuration::from_secs(1))
        .ok()?;
    Some(at.max(now))
}
