//! A row of the table of kinds: everything the engine needs to know to serve one.

use std::sync::Arc;

use bosun_kinds::Strategy;
use bosun_schema::{TypeId, Types};

use crate::custom::Custom;

/// Whether objects are in namespaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scope {
    /// Each in one.
    Namespaced,
    /// None is.
    Cluster,
}

/// One resource in one version, built in or custom.
pub struct Resource {
    /// Such as `apps`; empty for the core group.
    pub group: Arc<str>,
    /// Such as `v1`.
    pub version: Arc<str>,
    /// The kind of its objects, such as `Deployment`.
    pub kind: Arc<str>,
    /// The kind of its lists, such as `DeploymentList`.
    pub list_kind: Arc<str>,
    /// In paths, such as `deployments`.
    pub plural: Arc<str>,
    /// Such as `deployment`.
    pub singular: Arc<str>,
    /// Such as `deploy`.
    pub short_names: Vec<Arc<str>>,
    /// Such as `all`.
    pub categories: Vec<Arc<str>>,
    /// Whether its objects are in namespaces.
    pub scope: Scope,
    /// What may be done with it: `get`, `list`, `watch`, `create`…, sorted.
    pub verbs: Vec<Arc<str>>,
    /// Such as `status`, each with its own verbs and kind.
    pub subresources: Vec<Subresource>,
    /// The structure of its objects.
    pub types: Arc<Types>,
    /// Its objects' own type.
    pub ty: TypeId,
    /// What is particular to it.
    pub strategy: Arc<dyn Strategy>,
    /// Fields that selectors may use, beside `metadata.name` and `metadata.namespace`.
    pub selectable: Vec<Selectable>,
    /// Where its objects are stored, without the namespace: `/registry/<group or core>/<plural>/`. Resources of one
    /// prefix are versions of each other, converted between by the engine.
    pub prefix: Arc<str>,
    /// Whether this is the version that is stored.
    pub storage: bool,
    /// The `apiVersion` of stored objects.
    pub stored_api_version: Arc<str>,
    /// Where it comes from, if it is custom: its schema and columns.
    pub custom: Option<Custom>,
}

/// A part of an object, or an action on it, with a path of its own.
#[derive(Clone, Debug)]
pub struct Subresource {
    /// Such as `status`.
    pub name: Arc<str>,
    /// Group, version and kind of what is sent to it, such as `autoscaling`, `v1`, `Scale`.
    pub kind: (Arc<str>, Arc<str>, Arc<str>),
    /// What may be done with it.
    pub verbs: Vec<Arc<str>>,
    /// Where the object keeps what a `Scale` shows, for `scale`.
    pub scale: Option<ScalePaths>,
}

/// Where an object keeps what a `Scale` shows: paths such as `spec.replicas`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScalePaths {
    /// How many are wanted.
    pub spec_replicas: Arc<str>,
    /// How many there are.
    pub status_replicas: Arc<str>,
    /// Which they are: a label selector, as text or as object.
    pub selector: Option<Arc<str>>,
}

/// A field that field selectors may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selectable {
    /// As selectors name it, such as `regarding.name`.
    pub label: Arc<str>,
    /// Where the stored object has it, such as `involvedObject.name`.
    pub path: Arc<str>,
    /// Its value where the object has none.
    pub otherwise: &'static str,
}

impl Resource {
    /// `apps/v1`, or `v1` in the core group.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.to_string()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// As messages name it: `deployments.apps`, `pods`.
    pub fn qualified(&self) -> String {
        if self.group.is_empty() {
            self.plural.to_string()
        } else {
            format!("{}.{}", self.plural, self.group)
        }
    }
}
