//! DaemonSets: a pod on each node that is fit for it.
//!
//! Pure but for `controller`.
//!
//! - [`plan`]: where pods are missing or too many, and which to replace.
//! - [`fitness`]: which nodes are fit; [`pod`]: what makes a pod one of a node.
//! - [`status`]: how many nodes have one.

mod controller;
pub mod fitness;
mod plan;
pub mod pod;
mod status;

use bosun_client::projected;
use k8s_openapi::{
    api::{apps::v1 as apps, core::v1 as core},
    apimachinery::pkg::{apis::meta::v1::LabelSelector, util::intstr::IntOrString},
};
use serde::Deserialize;

pub use self::{
    controller::DaemonSets,
    plan::{Node, Plan, Snapshot, collided, plan},
};
use crate::workload::{Spec, amount};

projected! {
    /// A DaemonSet.
    pub struct DaemonSet: apps::DaemonSet {
        /// What is wanted.
        pub spec: Spec<DaemonSetSpec>,
        /// What was found.
        pub status: apps::DaemonSetStatus,
    }
}

/// What is read of `spec`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct DaemonSetSpec {
    /// Which pods.
    pub selector: LabelSelector,
    /// Of the template only what decides where pods go.
    pub template: Template,
    /// How pods are replaced.
    pub update_strategy: UpdateStrategy,
    /// How long a pod must have been ready to be available, in seconds.
    pub min_ready_seconds: i32,
    /// How many revisions that nothing uses are kept.
    pub revision_history_limit: Option<i32>,
}

/// What is read of a template.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Template {
    /// Where its pods go.
    pub spec: Placement,
}

/// Where pods go.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Placement {
    /// Only there.
    pub node_name: Option<String>,
    /// Only to nodes with these labels.
    pub node_selector: bosun_api::selector::Labels,
    /// Only to nodes like these.
    pub affinity: Option<core::Affinity>,
    /// What pods bear of nodes' taints.
    pub tolerations: Vec<core::Toleration>,
    /// They use the node's network.
    pub host_network: bool,
}

/// How pods are replaced.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct UpdateStrategy {
    /// `RollingUpdate` or `OnDelete`.
    #[serde(rename = "type")]
    pub type_: String,
    /// Bounds of a rolling update.
    pub rolling_update: Option<RollingUpdate>,
}

/// Bounds of a rolling update.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct RollingUpdate {
    /// On how many nodes there may be an old and a new pod.
    pub max_surge: Option<IntOrString>,
    /// On how many nodes there may be no pod.
    pub max_unavailable: Option<IntOrString>,
}

impl DaemonSet {
    /// `metadata.name`.
    pub fn name(&self) -> &str {
        self.metadata.name.as_deref().unwrap_or_default()
    }

    /// Pods are only replaced when somebody deletes them.
    pub fn updates_on_delete(&self) -> bool {
        self.spec.update_strategy.type_ == "OnDelete"
    }

    /// On how many of `nodes` there may be two pods, and on how many none; never none of both.
    pub fn bounds(&self, nodes: i32) -> (i32, i32) {
        if self.updates_on_delete() {
            return (0, 0);
        }
        let rolling = self.spec.update_strategy.rolling_update.clone().unwrap_or_default();
        let of =
            |given: Option<IntOrString>, default: i32| given.map_or(default, |given| amount::of(&given, nodes, true));
        let surge = of(rolling.max_surge, 0);
        match of(rolling.max_unavailable, i32::from(surge == 0)) {
            0 if surge == 0 => (0, 1),
            unavailable => (surge, unavailable),
        }
    }
}

#[cfg(test)]
mod tests;
