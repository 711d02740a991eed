//! What a Job says of itself, beside its numbers.

use jiff::Timestamp;
use k8s_openapi::{
    api::batch::v1::{JobCondition, JobStatus},
    apimachinery::pkg::apis::meta::v1::Time,
};

/// All work is done.
pub(super) const COMPLETE: &str = "Complete";
/// The work won't be done.
pub(super) const FAILED: &str = "Failed";
/// It will be `Complete` once its pods are gone and counted.
pub(super) const SUCCESS_CRITERIA_MET: &str = "SuccessCriteriaMet";
/// It will have `Failed` once its pods are gone and counted.
pub(super) const FAILURE_TARGET: &str = "FailureTarget";
/// No pods shall run.
pub(super) const SUSPENDED: &str = "Suspended";

/// How the Job ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct End {
    /// Well, or not.
    pub(super) good: bool,
    pub(super) reason: String,
    pub(super) message: String,
}

impl End {
    pub(super) fn good(reason: &str, message: impl Into<String>) -> Self {
        Self {
            good: true,
            reason: reason.to_owned(),
            message: message.into(),
        }
    }

    pub(super) fn bad(reason: &str, message: impl Into<String>) -> Self {
        Self {
            good: false,
            reason: reason.to_owned(),
            message: message.into(),
        }
    }

    /// What was decided about the end before.
    pub(super) fn decided(status: &JobStatus) -> Option<Self> {
        [(SUCCESS_CRITERIA_MET, true), (FAILURE_TARGET, false)]
            .into_iter()
            .find_map(|(type_, good)| {
                let condition = condition(status, type_).filter(|condition| condition.status == "True")?;
                Some(Self {
                    good,
                    reason: condition.reason.clone().unwrap_or_default(),
                    message: condition.message.clone().unwrap_or_default(),
                })
            })
    }

    /// Says that it will end so.
    pub(super) fn announce(&self, status: &mut JobStatus, now: Timestamp) {
        let type_ = if self.good {
            SUCCESS_CRITERIA_MET
        } else {
            FAILURE_TARGET
        };
        set(status, type_, "True", &self.reason, &self.message, now);
    }

    /// Says that it has ended so.
    pub(super) fn conclude(&self, status: &mut JobStatus, now: Timestamp) {
        let type_ = if self.good { COMPLETE } else { FAILED };
        set(status, type_, "True", &self.reason, &self.message, now);
        if self.good {
            status.completion_time = Some(Time(now));
        }
    }
}

/// Whether a Job has ended, and so well.
pub fn finished(status: &JobStatus) -> Option<bool> {
    let is_true = |type_| condition(status, type_).is_some_and(|condition| condition.status == "True");
    if is_true(COMPLETE) {
        return Some(true);
    }
    is_true(FAILED).then_some(false)
}

pub(super) fn condition<'s>(status: &'s JobStatus, type_: &str) -> Option<&'s JobCondition> {
    status
        .conditions
        .iter()
        .flatten()
        .find(|condition| condition.type_ == type_)
}

/// Says something; what never was true isn't said to be false. Whether that changed anything.
pub(super) fn set(
    status: &mut JobStatus,
    type_: &str,
    value: &str,
    reason: &str,
    message: &str,
    now: Timestamp,
) -> bool {
    let known = condition(status, type_);
    let is_same = known.map_or(value == "False", |known| {
        known.status == value && known.reason.as_deref() == Some(reason) && known.message.as_deref() == Some(message)
    });
    if is_same {
        return false;
    }
    let conditions = status.conditions.get_or_insert_default();
    let new = JobCondition {
        type_: type_.to_owned(),
        status: value.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        last_probe_time: Some(Time(now)),
        last_transition_time: Some(Time(now)),
    };
    match conditions.iter_mut().find(|condition| condition.type_ == type_) {
        Some(known) => *known = new,
        None => conditions.push(new),
    }
    true
}
