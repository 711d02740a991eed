//! What every controller stands on.
//!
//! A [`Controller`] says which changes concern which of its keys, and brings one key in order. The runtime does the
//! rest: it waits until the informers it reads are complete, queues keys so that one is worked on once at a time and
//! tried again after a failure, bounds each run in time, and lets a panic end only its own run.

pub mod context;
pub mod controller;
pub mod discovery;
pub mod expectations;
pub mod metrics;
pub mod queue;
pub mod write;

pub use context::{Clients, Context};
pub use controller::{Controller, Done, SyncError, Watches};
pub use expectations::Expectations;
pub use metrics::Metrics;
