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
//! Long-lived tasks, those of [`upkeep`]: one for each kind that the index follows, one that keeps aggregated roles, one
//! that renews certificates.

pub mod authenticate;
pub mod authorize;
pub mod discovery;
pub mod names;
pub mod objects;
pub mod review;
pub mod token_request;
pub mod upkeep;

pub use authenticate::{Authenticator, Peer};
pub use authorize::{Attributes, Authorizer, Decision};
pub use objects::Objects;
pub use review::Reviews;
pub use upkeep::Upkeep;
