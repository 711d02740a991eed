//! What the workload controllers share: they make pods from templates, own them, count them and replace them.
//!
//! All of it is pure.
//!
//! - [`spec`]: a specification of which a little is read often, and all of it is needed at times.
//! - [`pod`]: what these controllers read of a pod.
//! - [`claim`]: which objects are a controller's own, which it adopts, which it lets go.
//! - [`template`]: pods from templates, and who owns them.
//! - [`hash`]: short names for templates, and whether two are the same.
//! - [`amount`]: numbers that are given as percentages.
//! - [`rank`]: which pods to delete first.
//! - [`revision`]: the history of a template as ControllerRevisions.
//! - [`event`]: what users are told.

pub mod amount;
pub mod claim;
pub mod event;
pub mod hash;
pub mod pod;
pub mod rank;
pub mod revision;
pub mod spec;
pub mod template;

#[cfg(test)]
pub(crate) mod testing;

pub use event::Event;
pub use pod::Pod;
pub use spec::Spec;
