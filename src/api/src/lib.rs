//! The Kubernetes vocabulary without I/O: names and ids, manifests, quantities, QoS, expansion.
//!
//! Everything here is pure; every other room may use it.

pub mod ids;

pub use ids::{ContainerId, PodKey, PodUid, SandboxId};
pub use k8s_openapi::api::core::v1 as core;
