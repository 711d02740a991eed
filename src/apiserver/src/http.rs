//! Requests and answers.
//!
//! ```text
//!  connection ─┐                 gate            resources ─▶ Registry
//!              ├─▶ Router ─▶ who asks, may they? ─┤
//!  in-process ─┘                                 paths (discovery, OpenAPI, health…)
//! ```
//!
//! Pure: [`target`] (what a path and a method mean), [`query`], [`options`], [`negotiate`] (in which form an answer is
//! wanted and a body comes), [`encode`] and [`frame`] (how it is written).
//!
//! - [`router`]: the way of every request. It runs in the task of its connection; there are no others.
//! - [`gate`]: who asks, and whether they may.
//! - [`resources`], [`paths`], [`openapi`], [`health`]: the answers; [`connect`]: those that others give.
//! - [`body`]: what is sent, and how what comes is read without being overwhelmed.
//! - [`observe`]: what is counted and written down, once an answer has ended.

pub mod body;
pub mod compress;
mod connect;
pub mod encode;
pub mod frame;
pub mod gate;
pub mod health;
pub mod negotiate;
mod observe;
mod openapi;
pub mod options;
pub mod paths;
mod places;
pub mod query;
mod resources;
pub mod router;
pub mod target;

pub use body::{Body, Observer};
pub use gate::Gate;
pub use health::Health;
pub use paths::Paths;
pub(crate) use router::unknown;
pub use router::{Identity, Limits, Router};
