//! Who asks, and whether they may.
//!
//! ```text
//!  connection + headers ─▶ authenticate ─▶ User ─▶ authorize ─▶ the registry ─▶ admission
//!                               │                     │
//!                         Objects (reads)        RBAC and node index, fed by changes
//! ```
//!
//! - [`authenticate`]: client certificates, service-account and bootstrap tokens, impersonation.
//! - [`authorize`]: the superusers' group, nodes, RBAC; roles that every cluster has.
//! - [`token_request`]: how service accounts get tokens.
//! - [`review`]: the kinds that are questions (`TokenReview`, `SubjectAccessReview`…): answered, never stored.
//! - [`discovery`]: what others need to check service-account tokens.
//! - [`objects`]: what all of this, and admission, reads of the stored objects.
//!
//! No task of its own: [`follow`] is the loop that feeds the index, and runs where the server starts it.

pub mod authenticate;
pub mod authorize;
pub mod discovery;
pub mod names;
pub mod objects;
pub mod review;
pub mod token_request;

pub use authenticate::{Authenticator, Peer};
pub use authorize::{Attributes, Authorizer, Decision};
pub use objects::Objects;
pub use review::Reviews;
