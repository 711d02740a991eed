//! Harness for black-box tests: nodes in namespaces of their own, pods for them, leak checks.
//!
//! A test makes a [`Node`]: a network namespace, a cgroup and a folder of its own, in which it starts, kills and
//! starts again the built `bosun`; the agent brings its managed containerd with it. Manifests are written as a user
//! would ([`pod`], [`container`]), and what the agent reports is read as a user would (`bosun pods -o json`). Nothing
//! here looks inside the agent. Waiting is [`eventually`], with a deadline and the last thing seen.
//!
//! - [`node`]: the machine-like thing, its programs' lives, what can be asked of it
//! - [`manifest`]: builders for pods, pure
//! - [`view`]: what `bosun pods -o json` says, pure
//! - [`footprint`]: all that a node holds on the machine, as sets to compare before and after
//! - [`teardown`]: takes away whatever a node left, also those of a test that was killed
//! - [`server`]: a control plane: `bosun server` in a folder of its own, asked by `kubectl` or byte by byte
//! - [`tunnel`]: how a node reaches that
//! - [`cluster`]: several nodes and a server: `bosun dev` in a folder of its own
//! - [`cgroup`], [`grpc_health`]: a container's limits; a server for gRPC probes
//! - [`etcd`]: a store beside it
//! - [`netns`], [`proc`], [`programs`]: the ground; `proc`'s parsers are pure
//!
//! Everything happens in the test's own task; only [`grpc_health::Health`] and [`tunnel::Tunnel`] serve in tasks of their own
//! while they live.

pub mod cgroup;
pub mod cluster;
pub mod etcd;
pub mod eventually;
pub mod footprint;
pub mod grpc_health;
pub mod manifest;
pub mod netns;
pub mod node;
pub mod proc;
pub mod programs;
pub mod server;
pub mod teardown;
pub mod tunnel;
pub mod view;

pub use bosun_cri::mounts;
pub use cluster::{Cluster, ClusterOptions};
pub use etcd::Etcd;
pub use eventually::{PATIENCE, eventually};
pub use footprint::Footprint;
pub use manifest::{Container, DEMO_IMAGE, Pod, container, pod};
pub use node::{Node, Options};
pub use server::{Server, ServerOptions};
pub use view::{ContainerView, PodList, PodView};
