//! Jobs: pods that run to their end, until enough of them did so well.
//!
//! A pod that ended must be counted exactly once, though this program may be killed between any two writes and the pod
//! may be deleted by anyone. So each pod carries a finalizer, and three writes follow each other: its UID is noted in
//! the Job's status; the finalizer is taken from the pod; the UID in the status becomes one more in a counter. Whatever
//! is lost between them is found again by looking.
//!
//! Pure but for `controller`.
//!
//! - [`plan`]: all that is to be done next; [`pods`]: which pods to make and which to delete; [`count`]: the counting.
//! - [`indexes`]: completion indexes; [`policy`]: failures that count otherwise, and successes that suffice.
//! - [`backoff`]: how long to wait after failures. [`conditions`]: what to say of it all.

pub mod backoff;
mod conditions;
mod controller;
mod count;
pub mod indexes;
mod plan;
mod pods;
pub mod policy;

use bosun_client::projected;
use k8s_openapi::{api::batch::v1 as batch, apimachinery::pkg::apis::meta::v1::LabelSelector};
use serde::Deserialize;

pub use self::{
    backoff::Backoff,
    conditions::finished,
    controller::{Jobs, tracker},
    plan::{Plan, Snapshot, plan},
};
use crate::workload::{Pod, Spec, pod::Phase};

/// Finalizer of a Job's pods that have not been counted.
pub const TRACKING: &str = "batch.kubernetes.io/job-tracking";
/// Annotation and label of pods of an Indexed Job: their index.
pub const COMPLETION_INDEX: &str = "batch.kubernetes.io/job-completion-index";
/// Annotation of pods where failures are limited by index: how many of them came before.
pub const INDEX_FAILURES: &str = "batch.kubernetes.io/job-index-failure-count";
/// The same for failures that the policy ignores.
pub const INDEX_IGNORED_FAILURES: &str = "batch.kubernetes.io/job-index-ignored-failure-count";
/// The `managedBy` of Jobs that are this controller's.
pub const MANAGER: &str = "kubernetes.io/job-controller";

projected! {
    /// A Job.
    pub struct Job: batch::Job {
        /// What is wanted.
        pub spec: Spec<JobSpec>,
        /// What was found.
        pub status: batch::JobStatus,
    }
}

/// What is read of `spec`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct JobSpec {
    /// How many pods may run at once; one where it says nothing.
    pub parallelism: Option<i32>,
    /// How many must end well; where it says nothing, one, after which no more are made.
    pub completions: Option<i32>,
    /// How long the Job may run, in seconds.
    pub active_deadline_seconds: Option<i64>,
    /// Failures that count otherwise.
    pub pod_failure_policy: Option<batch::PodFailurePolicy>,
    /// Successes that suffice.
    pub success_policy: Option<batch::SuccessPolicy>,
    /// How many pods may fail.
    pub backoff_limit: Option<i32>,
    /// How many may fail for each index.
    pub backoff_limit_per_index: Option<i32>,
    /// How many indexes may fail.
    pub max_failed_indexes: Option<i32>,
    /// Which pods.
    pub selector: LabelSelector,
    /// `Indexed` or `NonIndexed`.
    pub completion_mode: Option<String>,
    /// No pods shall run.
    pub suspend: bool,
    /// `Failed`: a pod is replaced only once it has ended.
    pub pod_replacement_policy: Option<String>,
    /// Who sees to the Job.
    pub managed_by: Option<String>,
    /// Of the template only how containers are restarted.
    pub template: Template,
}

/// What is read of a template.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Template {
    /// What is read of its spec.
    pub spec: TemplateSpec,
}

/// What is read of a template's spec.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct TemplateSpec {
    /// `Never` or `OnFailure`.
    pub restart_policy: String,
}

impl Job {
    /// `metadata.name`.
    pub fn name(&self) -> &str {
        self.metadata.name.as_deref().unwrap_or_default()
    }

    /// Each pod does one part of the work, which its index names.
    pub fn is_indexed(&self) -> bool {
        self.spec.completion_mode.as_deref() == Some("Indexed")
    }

    /// Another controller sees to it.
    pub fn is_managed_elsewhere(&self) -> bool {
        self.spec
            .managed_by
            .as_deref()
            .is_some_and(|manager| manager != MANAGER)
    }

    /// How many pods may fail.
    fn backoff_limit(&self) -> i32 {
        let default = if self.spec.backoff_limit_per_index.is_some() {
            i32::MAX
        } else {
            6
        };
        self.spec.backoff_limit.unwrap_or(default)
    }

    /// How many indexes there are.
    fn completions(&self) -> u32 {
        self.spec
            .completions
            .and_then(|count| u32::try_from(count).ok())
            .unwrap_or_default()
    }

    /// A pod that was told to end is replaced only once it has ended.
    fn replaces_only_failed(&self) -> bool {
        self.spec.pod_replacement_policy.as_deref() == Some("Failed") || self.spec.pod_failure_policy.is_some()
    }

    /// The pod failed; or it was told to end and counts as failed already.
    fn has_failed(&self, pod: &Pod) -> bool {
        match pod.status.phase {
            Phase::Failed => true,
            Phase::Succeeded => false,
            _ => pod.is_terminating() && !self.replaces_only_failed(),
        }
    }

    /// The index of a pod, if it is one of the Job's.
    fn index(&self, pod: &Pod) -> Option<u32> {
        index(pod).filter(|index| *index < self.completions())
    }
}

/// The index that a pod has, whether or not it is one of its Job's.
fn index(pod: &Pod) -> Option<u32> {
    pod.annotation(COMPLETION_INDEX)?.parse().ok()
}

/// The pod has not been counted.
pub fn is_tracked(pod: &Pod) -> bool {
    pod.metadata
        .finalizers
        .iter()
        .flatten()
        .any(|finalizer| finalizer == TRACKING)
}

#[cfg(test)]
mod tests;
