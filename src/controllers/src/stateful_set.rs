//! StatefulSets: pods with a number that they keep, each with volumes of its own, made and replaced in order.
//!
//! Pure but for `controller`.
//!
//! - [`plan`]: the next moves.
//! - [`identity`]: what a pod is by its number: name, labels, volumes.
//! - [`retention`]: who owns the claims of volumes, and so when they go.
//! - [`status`]: counts, and which revision is current.

mod controller;
pub mod identity;
mod plan;
pub mod retention;
mod status;

use bosun_client::projected;
use k8s_openapi::{
    api::{apps::v1 as apps, core::v1 as core},
    apimachinery::pkg::{apis::meta::v1::LabelSelector, util::intstr::IntOrString},
};
use serde::Deserialize;

pub use self::{
    controller::StatefulSets,
    plan::{Plan, Snapshot, Step, collided, plan},
};
use crate::workload::{Spec, amount};

/// Label of a set's revisions: the hash in their name.
pub const REVISION_LABEL: &str = "controller.kubernetes.io/hash";

projected! {
    /// A StatefulSet.
    pub struct StatefulSet: apps::StatefulSet {
        /// What is wanted.
        pub spec: Spec<StatefulSetSpec>,
        /// What was found.
        pub status: apps::StatefulSetStatus,
    }
}

projected! {
    /// A claim of a volume: who owns it.
    pub struct Claim: core::PersistentVolumeClaim {}
}

/// What is read of `spec`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct StatefulSetSpec {
    /// How many pods; one where it says nothing.
    pub replicas: Option<i32>,
    /// Which pods.
    pub selector: LabelSelector,
    /// The Service that gives the pods their domain.
    pub service_name: String,
    /// `OrderedReady` or `Parallel`.
    pub pod_management_policy: String,
    /// How pods are replaced.
    pub update_strategy: UpdateStrategy,
    /// How many revisions that nothing uses are kept.
    pub revision_history_limit: Option<i32>,
    /// How long a pod must have been ready to be available, in seconds.
    pub min_ready_seconds: i32,
    /// How pods are numbered.
    pub ordinals: Option<Ordinals>,
    /// When claims go.
    pub persistent_volume_claim_retention_policy: Option<RetentionPolicy>,
    /// The claims that each pod gets.
    pub volume_claim_templates: Vec<ClaimTemplate>,
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
    /// Pods before this one, counted from the first, keep their revision.
    pub partition: i32,
    /// How many pods may be missing; one where it says nothing.
    pub max_unavailable: Option<IntOrString>,
}

/// How pods are numbered.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Ordinals {
    /// The number of the first.
    pub start: i32,
}

/// When claims go: `Retain` or `Delete`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct RetentionPolicy {
    /// When the set is deleted.
    pub when_deleted: String,
    /// When there shall be fewer pods.
    pub when_scaled: String,
}

/// A claim that each pod gets.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct ClaimTemplate {
    /// Of which the name is the volume's.
    pub metadata: ClaimMeta,
}

/// Metadata of a [`ClaimTemplate`].
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct ClaimMeta {
    /// The volume's name in the pod.
    pub name: String,
}

impl StatefulSet {
    /// `metadata.name`.
    pub fn name(&self) -> &str {
        self.metadata.name.as_deref().unwrap_or_default()
    }

    /// How many pods are wanted.
    pub fn replicas(&self) -> i32 {
        self.spec.replicas.unwrap_or(1).max(0)
    }

    /// The number of the first pod.
    pub fn start(&self) -> i32 {
        self.spec.ordinals.as_ref().map_or(0, |ordinals| ordinals.start)
    }

    /// Pods are made and deleted one after the other.
    pub fn is_ordered(&self) -> bool {
        self.spec.pod_management_policy != "Parallel"
    }

    /// Pods are only replaced when somebody deletes them.
    pub fn updates_on_delete(&self) -> bool {
        self.spec.update_strategy.type_ == "OnDelete"
    }

    /// How many pods, from the first, keep their revision.
    pub fn partition(&self) -> i32 {
        self.spec
            .update_strategy
            .rolling_update
            .as_ref()
            .map_or(0, |rolling| rolling.partition)
    }

    /// How many pods may be missing during an update; never none, since nothing would move.
    pub fn max_unavailable(&self) -> i32 {
        let rolling = self.spec.update_strategy.rolling_update.as_ref();
        let given = rolling.and_then(|rolling| rolling.max_unavailable.as_ref());
        given.map_or(1, |given| amount::of(given, self.replicas(), false).max(1))
    }

    /// Whether there shall be a pod of this number.
    pub fn wants(&self, ordinal: i32) -> bool {
        (self.start()..self.start().saturating_add(self.replicas())).contains(&ordinal)
    }
}

#[cfg(test)]
mod tests;
