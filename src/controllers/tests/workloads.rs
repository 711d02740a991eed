//! The workload controllers against the real API server, in one process, each under its own identity. A test plays the
//! kubelet: it binds pods, reports them ready or ended, and lets them go when they are deleted.

#![allow(clippy::unwrap_used, reason = "a test ends at what it did not expect")]

#[path = "workloads/cluster.rs"]
mod cluster;
#[path = "workloads/cron_job.rs"]
mod cron_job;
#[path = "workloads/deployment.rs"]
mod deployment;
#[path = "workloads/job.rs"]
mod job;
#[path = "workloads/stateful_set.rs"]
mod stateful_set;
