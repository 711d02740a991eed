//! What is particular to each built-in kind: its defaults, what a valid object is, what an update may change, what a
//! table of them shows. Pure: `now` and all else from outside is passed in.
//!
//! - [`strategy`]: what the API server asks of a kind, and what answers it for each.
//! - [`scale`]: the number of replicas, the same for all kinds that have one.
//! - [`convert`]: from one served version of a kind to another.
//! - [`columns`]: what a table of objects shows.
//! - [`meta`]: names and metadata, the same for all kinds but for the rule of names.
//!
//! Inside, `kind` makes a strategy of what is written against a typed structure; each group of the API has a room of
//! its own with its kinds.

mod admission;
mod apps;
mod autoscaling;
pub mod batch;
mod certificates;
pub mod columns;
mod convert;
mod coordination;
mod core;
mod devices;
mod difference;
mod discovery;
mod flowcontrol;
mod kind;
pub mod meta;
mod networking;
mod policy;
mod rbac;
mod registration;
mod registry;
pub mod scale;
mod scheduling;
mod storage;
pub mod strategy;
mod template;
#[cfg(test)]
mod testing;

pub use convert::convert;
pub use core::binding::{BindError, bind};
pub use registry::{deprecation, strategy};
pub use strategy::{Context, Outcome, Strategy};
