//! The Kubernetes API: one registry for built-in and custom kinds, over HTTP.
//!
//! - [`server`]: the listener: connections within limits. [`http`]: requests and answers.
//! - [`auth`]: who asks, and whether they may.
//! - [`status`]: what a request is answered when it can't be done.
//! - [`resource`]: a row of the table of kinds.
//! - [`request`], [`options`]: who asks for what, and how; [`selector`]: of which objects.
//! - [`registry`]: the engine: every operation of every kind.
//! - [`cache`]: what reads and watches are answered from.
//! - [`custom`]: rows of custom resources, from their definitions.
//! - [`admission`]: what is asked before a change is stored; `pod`: what the trees of pods hold.
//! - [`advertise`]: `default/kubernetes`, the Service by which pods reach the API.
//! - [`transform`]: what happens to objects on their way to the store: encryption.
//! - [`discovery`]: what is served, told to clients; [`representation`]: tables and metadata of objects.
//! - [`connect`]: what is answered elsewhere: logs, commands and ports by nodes, proxies of pods, services and nodes.
//! - [`usage`]: `metrics.k8s.io`: what nodes and pods consume, asked of the agents while somebody wants to know.
//! - [`audit`]: who did what, by policy; [`metrics`]: what is counted.

pub mod admission;
pub mod advertise;
pub mod audit;
pub mod auth;
pub mod cache;
pub mod connect;
pub mod custom;
pub mod discovery;
pub mod http;
pub mod metrics;
pub mod options;
mod pod;
pub mod registry;
pub mod representation;
pub mod request;
pub mod resource;
pub mod selector;
pub mod server;
pub mod status;
pub mod transform;
pub mod usage;

pub use custom::CustomResources;
pub use registry::Registry;
pub use request::{Notes, Request, User};
pub use resource::{Resource, ScalePaths, Scope, Selectable, Subresource};
pub use status::{Reason, Status};
