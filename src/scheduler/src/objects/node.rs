//! Nodes.

use std::{collections::BTreeMap, sync::Arc};

use bosun_api::Quantity;
use k8s_openapi::{
    api::core::v1::{ContainerImage, Taint as WrittenTaint},
    apimachinery::pkg::api::resource::Quantity as Written,
};
use serde::Deserialize;

use super::{Labels, Resources, Taint, pod::wire::Meta};

/// A node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(from = "WireNode")]
pub struct Node {
    /// Its name.
    pub name: Arc<str>,
    /// The version it was read at.
    pub resource_version: Arc<str>,
    /// Its labels.
    pub labels: Labels,
    /// Its taints.
    pub taints: Vec<Taint>,
    /// Cordoned.
    pub unschedulable: bool,
    /// What pods may take of it.
    pub allocatable: Resources,
    /// How many pods it takes.
    pub pods: i64,
    /// Images it has, under each of their names, and their bytes.
    pub images: Vec<(Arc<str>, u64)>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct WireNode {
    metadata: Meta,
    spec: WireSpec,
    status: WireStatus,
}

#[derive(Default, Deserialize)]
struct WireSpec {
    unschedulable: Option<bool>,
    taints: Option<Vec<WrittenTaint>>,
}

#[derive(Default, Deserialize)]
struct WireStatus {
    allocatable: Option<BTreeMap<String, Written>>,
    images: Option<Vec<ContainerImage>>,
}

impl From<WireNode> for Node {
    fn from(written: WireNode) -> Self {
        let WireNode { metadata, spec, status } = written;
        let pods = status.allocatable.as_ref().and_then(|all| all.get("pods"));
        let mut images = Vec::new();
        for image in status.images.into_iter().flatten() {
            let size = image.size_bytes.and_then(|size| u64::try_from(size).ok()).unwrap_or(0);
            images.extend(image.names.into_iter().flatten().map(|name| (name.into(), size)));
        }
        images.sort();
        images.dedup_by(|one, other| one.0 == other.0);
        Self {
            name: metadata.name.as_deref().unwrap_or_default().into(),
            resource_version: metadata.resource_version.as_deref().unwrap_or_default().into(),
            labels: metadata.labels.unwrap_or_default().into(),
            taints: spec.taints.iter().flatten().filter_map(Taint::of).collect(),
            unschedulable: spec.unschedulable.unwrap_or(false),
            pods: pods.and_then(|pods| Quantity::of(pods).ok()).map_or(0, Quantity::value),
            allocatable: Resources::of(status.allocatable.as_ref()),
            images,
        }
    }
}
