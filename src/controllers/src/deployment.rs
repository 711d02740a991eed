//! Deployments: ReplicaSets, one for each template there was, scaled against each other until only the newest has pods.
//!
//! Pure but for `controller`.
//!
//! - [`plan`]: the next move.
//! - [`rollout`]: rolling update and re-creation; [`scale`]: keeping the proportion when the number changes meanwhile.
//! - [`annotations`]: revisions, and what else a ReplicaSet remembers of its Deployment.
//! - [`status`]: counts, conditions, progress.

pub mod annotations;
mod controller;
mod plan;
mod rollout;
mod scale;
mod status;

use bosun_client::projected;
use k8s_openapi::{
    api::apps::v1 as apps,
    apimachinery::pkg::{apis::meta::v1::LabelSelector, util::intstr::IntOrString},
};
use serde::Deserialize;
use serde_json::Value;

pub use self::{
    controller::Rollouts,
    plan::{Change, NewSet, Plan, Snapshot, collided, failed_to_create, plan},
};
use crate::workload::{Spec, amount};

/// Label of ReplicaSets and pods: which template they are of.
pub const TEMPLATE_HASH: &str = "pod-template-hash";

projected! {
    /// A Deployment.
    pub struct Deployment: apps::Deployment {
        /// What is wanted.
        pub spec: Spec<DeploymentSpec>,
        /// What was found.
        pub status: apps::DeploymentStatus,
    }
}

/// What is read of `spec`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct DeploymentSpec {
    /// How many pods; one where it says nothing.
    pub replicas: Option<i32>,
    /// Which ReplicaSets and pods.
    pub selector: LabelSelector,
    /// How to replace pods.
    pub strategy: Strategy,
    /// How long a pod must have been ready to be available, in seconds.
    pub min_ready_seconds: i32,
    /// How many ReplicaSets without pods are kept; all where it says nothing.
    pub revision_history_limit: Option<i32>,
    /// Nothing new is rolled out.
    pub paused: bool,
    /// How long a rollout may stand still before it counts as stuck, in seconds; for ever where it says nothing.
    pub progress_deadline_seconds: Option<i32>,
}

/// How pods are replaced.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Strategy {
    /// `Recreate` or `RollingUpdate`.
    #[serde(rename = "type")]
    pub type_: String,
    /// Bounds of a rolling update.
    pub rolling_update: Option<RollingUpdate>,
}

/// Bounds of a rolling update; a quarter where they say nothing.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct RollingUpdate {
    /// How many pods there may be beyond what is wanted.
    pub max_surge: Option<IntOrString>,
    /// How many may be missing.
    pub max_unavailable: Option<IntOrString>,
}

impl Deployment {
    /// `metadata.name`.
    pub fn name(&self) -> &str {
        self.metadata.name.as_deref().unwrap_or_default()
    }

    /// How many pods are wanted.
    pub fn replicas(&self) -> i32 {
        self.spec.replicas.unwrap_or(1)
    }

    /// The template of its pods.
    pub fn template(&self) -> Value {
        self.spec.part("template")
    }

    /// Old pods go before new ones come.
    pub fn recreates(&self) -> bool {
        self.spec.strategy.type_ == "Recreate"
    }

    /// How many pods there may be beyond what is wanted, and how many may be missing; never none of both, since nothing
    /// would move.
    fn bounds(&self) -> (i32, i32) {
        if self.recreates() {
            return (0, 0);
        }
        let quarter = IntOrString::String("25%".to_owned());
        let bounds = self.spec.strategy.rolling_update.clone().unwrap_or_default();
        let (surge, unavailable) = (
            bounds.max_surge.unwrap_or(quarter.clone()),
            bounds.max_unavailable.unwrap_or(quarter),
        );
        let surge = amount::of(&surge, self.replicas(), true);
        match amount::of(&unavailable, self.replicas(), false) {
            0 if surge == 0 => (0, 1),
            unavailable => (surge, unavailable),
        }
    }

    /// How many pods there may be beyond what is wanted.
    pub fn max_surge(&self) -> i32 {
        self.bounds().0
    }

    /// How many pods may be missing.
    pub fn max_unavailable(&self) -> i32 {
        self.bounds().1.min(self.replicas())
    }

    /// How long a rollout may stand still, in seconds.
    pub fn progress_deadline(&self) -> Option<i32> {
        self.spec
            .progress_deadline_seconds
            .filter(|seconds| *seconds != i32::MAX)
    }
}

#[cfg(test)]
mod tests;
