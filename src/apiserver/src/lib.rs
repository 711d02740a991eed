//! The Kubernetes API: one registry for built-in and custom kinds, over HTTP.
//!
//! - [`status`]: what a request is answered when it can't be done.
//! - [`resource`]: a row of the table of kinds.
//! - [`request`]: who asks for what.
//! - [`audit`]: who did what, by policy.
//! - [`discovery`]: what is served, told to clients.
//! - [`metrics`]: what is counted.
//! - [`http`]: requests and answers.

pub mod audit;
pub mod discovery;
pub mod http;
pub mod metrics;
pub mod request;
pub mod resource;
pub mod status;

pub use request::{Request, User};
pub use resource::{Resource, Scope};
pub use status::{Reason, Status};
