//! Which node a pod goes to: kube-scheduler of Kubernetes 1.36 with its default profile, in our words.
//!
//! ```text
//! informers ──▶ engine: cluster (a model kept up to date by changes) + queue (who is next)
//!                  │ decide: prepare → filter → score → a node      │ preempt: who would have to go
//!                  ▼                                                ▼
//!               binding, event                        condition, event, evictions
//! ```
//!
//! All that is decided is pure, synchronous and in one place, [`engine`]; [`run`] is all that talks. What a decision
//! costs depends on the nodes it looks at, not on how many pods there are: [`cluster`] says how.
//!
//! Long-lived tasks, all of them within [`run::Scheduler`], from its start until it is dropped or told to end:
//! - the loop: hears events, decides, starts calls, takes in what they came to;
//! - an informer a kind (`bosun_client::informer`), which sends to the loop;
//! - the publisher of events (`bosun_client::events`), which receives from it.
//!
//! Pure: [`objects`] (projections), [`cluster`], `plugins` (filters and scores, a file each), `decide`, `preempt`,
//! `queue`, [`engine`], [`config`].
//!
//! Of upstream's default plugins `NodeVolumeLimits` and `DynamicResources` are missing, and of `VolumeBinding` all that
//! makes or binds volumes.

pub mod cluster;
pub mod config;
mod decide;
pub mod engine;
#[cfg(test)]
mod fixtures;
mod metrics;
pub mod objects;
mod plugins;
mod preempt;
pub mod profile;
#[cfg(test)]
mod properties;
mod queue;
#[cfg(any(test, feature = "rehearsal"))]
pub mod rehearsal;
pub mod run;

pub use config::{Candidacy, Config, ConfigError};
pub use plugins::{
    Plugin,
    fit::{FitArgs, Strategy},
};
pub use profile::Profile;
pub use queue::Backoff;
pub use run::Scheduler;
