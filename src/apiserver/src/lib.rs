//! The Kubernetes API: one registry for built-in and custom kinds, over HTTP.
//!
//! - [`status`]: what a request is answered when it can't be done.
//! - [`resource`]: a row of the table of kinds.
//! - [`request`]: who asks for what.

pub mod request;
pub mod resource;
pub mod status;

pub use request::{Request, User};
pub use resource::{Resource, Scope};
pub use status::{Reason, Status};
