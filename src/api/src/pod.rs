//! Pods and the templates of pods: what they mean where they say nothing, and which can run.

pub mod defaults;
pub mod validate;

/// Where a pod comes from, which decides what it may say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A file on the node: no API server is there to look anything up.
    File,
    /// The API.
    Api,
    /// A template: what is decided when a pod is made of it may still be open.
    Template,
}
