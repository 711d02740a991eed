//! What the workload controllers share: they make pods from templates, own them, count them and replace them.
//!
//! All of it is pure, but for `apply`.
//!
//! - [`spec`]: a specification of which a little is read often, and all of it is needed at times.
//! - [`claim`]: which objects are a controller's own, which it adopts, which it lets go.
//! - [`template`]: pods from templates, and who owns them.
//! - [`hash`]: short names for templates, and whether two are the same.
//! - [`apply`]: what they do to the API.
//! - [`amount`]: numbers that are given as percentages.
//! - [`rank`]: which pods to delete first.
//! - [`revision`]: the history of a template as ControllerRevisions.
//! - [`event`]: what users are told.

pub mod amount;
pub mod apply;
pub mod claim;
pub mod event;
pub mod hash;
pub mod rank;
pub mod revision;
pub mod spec;
pub mod template;

#[cfg(test)]
pub(crate) mod testing;

pub use apply::Apply;
pub use event::Event;
pub use spec::Spec;

pub use crate::objects::{Pod, pod};
