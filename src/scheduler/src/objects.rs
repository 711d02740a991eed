//! What the scheduler keeps of the cluster's objects, decoded from their JSON and nothing more.
//!
//! A pod is two things: who it is ([`Pod`]), and what scheduling depends on ([`Shape`]), which replicas of one
//! template share. Shapes are shared at decoding, so that ten thousand replicas of fifty templates cost fifty shapes,
//! and what is worked out for one replica serves the next.
//!
//! Decoding never fails on a single bad field: an object that upstream would have refused is read as the stricter of
//! what it may mean (a selector that can't be understood matches nothing).

mod affinity;
mod labels;
mod node;
mod others;
mod pod;
mod resources;
mod shape;
mod taints;

pub use affinity::{Affinity, NodeRequirement, PodQuery, PodTerm, PreferredNode, WeightedTerm};
pub use labels::{Labels, Operator, Requirement, Selector};
pub use node::Node;
pub use others::{BindingMode, Budget, Claim, Namespace, StorageClass, Volume, Workload};
pub use pod::{Pod, PodName};
pub use resources::{Minimum, Resources};
pub use shape::{HostPort, Owner, Shape, SpreadConstraint};
pub(crate) use taints::untolerated;
pub use taints::{Effect, Taint, Toleration};

/// The name of a node's own label, which is its own topology.
pub const HOSTNAME: &str = "kubernetes.io/hostname";
/// The label of a node's zone.
pub const ZONE: &str = "topology.kubernetes.io/zone";
/// The label of a node's region.
pub const REGION: &str = "topology.kubernetes.io/region";
