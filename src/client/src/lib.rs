//! How rooms that speak only the Kubernetes API hear of objects and change them.
//!
//! - [`connect`]: clients from a kubeconfig, or by a certificate that may be replaced.
//! - [`informer`]: one list and watch of a kind, kept as a map of small objects that many read. Each informer is one
//!   long-lived task; readers share its map, and subscribers are told each change over a channel of their own.
//! - [`projected`]: structures that hold only the fields of a kind that somebody reads.
//! - [`events`]: what happened to an object, told to its users. One task publishes what many record.
//! - [`lease`]: one leader among several.
//! - [`call`]: deadlines of calls, what went wrong with one, and trying again.
//! - [`backoff`]: how long to wait before that. Pure.
//! - [`key`]: what an object is called.

// `projected!` names this crate by its name, inside of it too.
#[cfg(test)]
extern crate self as bosun_client;

pub mod backoff;
pub mod call;
pub mod connect;
pub mod events;
pub mod informer;
pub mod key;
pub mod lease;
pub mod projected;
#[cfg(test)]
mod scripted;

pub use call::{CallError, call, retry_on_conflict};
pub use events::Recorder;
pub use informer::{Change, Index, Informer, Reader};
pub use key::ObjectKey;
