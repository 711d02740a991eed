//! Which node a pod goes to: kube-scheduler of Kubernetes 1.36, its default profile.
pub mod cluster;
mod decide;
pub mod engine;
#[cfg(test)]
mod fixtures;
pub mod objects;
mod plugins;
mod preempt;
pub mod profile;
mod queue;
