//! Pods from files on real containers: the built `bosun`, driven as a user drives it.
//!
//! Every test has a node of its own (network namespace, cgroup, folders, containerd) and ends with
//! [`bosun_testkit::Node::finish`]: all manifests taken away, nothing of their pods may be left anywhere.
//! The agent's audit sweep is off in all of them, so that a lost event is a failure and not a delay.

mod churn;
mod command_line;
mod faults;
mod leaks;
mod lifecycle;
mod logs;
mod manifests;
mod network;
mod node;
mod probes;
mod recovery;
mod resources;
mod settings;
mod up_down;
mod versions;
mod volumes;
