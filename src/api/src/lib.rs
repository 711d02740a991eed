//! The Kubernetes vocabulary without I/O: names and ids, manifests, quantities, service classes, expansion.
//!
//! Everything here is pure; every other room may use it.
//!
//! - [`ids`]: identifiers as types.
//! - [`quantity`], [`qos`]: resource amounts, and the class they make.
//! - [`expand`]: `$(NAME)` in commands and environments.
//! - [`labels`]: what sandboxes, containers and pods from files are labelled with.
//! - [`names`]: what they may look like.
//! - [`field`]: fields of an object, and what can be wrong with them.
//! - [`selector`]: label selectors.
//! - [`schedule`]: when cron jobs are due.
//! - [`pod`]: defaults and validation of pods and their templates.
//! - [`manifest`]: a file's bytes to a pod with its defaults, validated, or to errors that name the field.

pub mod expand;
pub mod field;
pub mod ids;
pub mod labels;
pub mod manifest;
pub mod names;
pub mod pod;
pub mod qos;
pub mod quantity;
pub mod schedule;
pub mod selector;

pub use expand::expand;
pub use ids::{ContainerId, PodKey, PodUid, SandboxId};
pub use k8s_openapi::api::core::v1 as core;
pub use qos::{QosClass, qos_class};
pub use quantity::Quantity;
