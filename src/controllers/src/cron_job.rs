//! CronJobs: a Job each time that a schedule names.
//!
//! Pure but for `controller`.
//!
//! - [`plan`]: which Job to make now, which to forget.

mod controller;
mod plan;

use bosun_client::projected;
use k8s_openapi::api::batch::v1 as batch;
use serde::Deserialize;

pub use self::{
    controller::CronJobs,
    plan::{NewJob, Plan, Snapshot, plan},
};
use crate::workload::Spec;

/// Annotation of Jobs: the time that they were made for.
pub const SCHEDULED: &str = "batch.kubernetes.io/cronjob-scheduled-timestamp";

projected! {
    /// A CronJob.
    pub struct CronJob: batch::CronJob {
        /// What is wanted.
        pub spec: Spec<CronJobSpec>,
        /// What was found.
        pub status: batch::CronJobStatus,
    }
}

/// What is read of `spec`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct CronJobSpec {
    /// When.
    pub schedule: String,
    /// Where the schedule's hours are counted; where this program runs, if it says nothing.
    pub time_zone: Option<String>,
    /// How late a Job may be made, in seconds.
    pub starting_deadline_seconds: Option<i64>,
    /// `Allow`, `Forbid` or `Replace`: what becomes of a Job that isn't done when the next is due.
    pub concurrency_policy: String,
    /// No Jobs are made.
    pub suspend: bool,
    /// How many Jobs that ended well are kept.
    pub successful_jobs_history_limit: Option<i32>,
    /// How many Jobs that failed are kept.
    pub failed_jobs_history_limit: Option<i32>,
}

impl CronJob {
    /// `metadata.name`.
    pub fn name(&self) -> &str {
        self.metadata.name.as_deref().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests;
