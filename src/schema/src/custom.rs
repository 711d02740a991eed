//! Custom resources: what a `CustomResourceDefinition` (apiextensions.k8s.io/v1) makes of objects.
//!
//! [`Definition::parse`] checks a definition as upstream does and compiles each version: its types for apply and
//! OpenAPI, validation with rules in CEL ([`crate::cel`]), defaults, pruning, printer columns, scale.
//!
//! - [`schema`], [`structural`]: the schema as a tree; whether it is structural.
//! - [`validate`], [`format`], [`pattern`]: whether a value is what its schema asks for.
//! - [`fill`]: defaults and pruning.
//! - [`types`]: the schema as [`Types`].
//! - [`path`][]: `JSONPath`.
//! - [`definition`]: names, versions, subresources, columns.
//! - [`status`]: which names are accepted, and whether the resource is served.

mod definition;
mod fill;
mod format;
mod path;
mod pattern;
pub(crate) mod schema;
mod status;
mod structural;
mod types;
pub(crate) mod validate;

use std::sync::Arc;

use bosun_api::field::FieldError;
pub use definition::{Column, Definition, Names, Scale};
pub use path::JsonPath;
use schema::Node;
use serde_json::{Map, Value, json};
pub use status::Taken;

use crate::{
    cel::Rules,
    types::{TypeId, Types},
};

/// One version of a custom resource.
#[derive(Debug)]
pub struct CustomVersion {
    /// Such as `v1beta1`.
    pub name: String,
    /// Whether it is served.
    pub served: bool,
    /// Whether objects are stored in it.
    pub storage: bool,
    /// What clients are told who use it, if it is deprecated.
    pub deprecation: Option<String>,
    /// Its types.
    pub types: Arc<Types>,
    /// Its objects' own type.
    pub ty: TypeId,
    /// Whether it has the subresource `status`.
    pub status: bool,
    /// Its subresource `scale`, if it has one.
    pub scale: Option<Scale>,
    /// What a table shows beside the name.
    pub columns: Vec<Column>,
    /// Fields that may be used in field selectors, such as `spec.color`.
    pub selectable: Vec<JsonPath>,
    /// The schema as it was written, for OpenAPI.
    pub schema: Value,
    node: Node,
    rules: Rules,
}

impl CustomVersion {
    /// Whether an object is valid: its structure and values first, then, if those are, its rules. `old` is what an
    /// update replaces: rules about changes need it, and what it leaves as it was isn't held against it. The metadata
    /// is the engine's to check.
    pub fn validate(&self, object: &Value, old: Option<&Value>) -> Vec<FieldError> {
        let errors = validate::validate(&self.node, object, old);
        if errors.is_empty() {
            self.rules.check(&self.node, object, old)
        } else {
            errors
        }
    }

    /// Fills in defaults: of what comes in, and of what was stored before they were defined. Idempotent.
    pub fn default(&self, object: &mut Value) {
        fill::default(&self.node, object);
    }

    /// Drops the fields that the schema doesn't know, and tells the first hundred: `spec.foo`.
    pub fn prune(&self, object: &mut Value) -> Vec<String> {
        fill::prune(&self.node, object)
    }
}

impl Scale {
    /// The `autoscaling/v1` `Scale` that stands for an object.
    pub fn view(&self, object: &Value) -> Value {
        let names = ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"];
        let metadata = object.get("metadata");
        let metadata: Map<String, Value> = names
            .iter()
            .filter_map(|name| Some(((*name).to_owned(), metadata?.get(*name)?.clone())))
            .collect();
        let mut status = json!({"replicas": self.status_replicas(object)});
        if let Some(selector) = self.selector(object) {
            status["selector"] = selector.into();
        }
        json!({
            "kind": "Scale",
            "apiVersion": "autoscaling/v1",
            "metadata": metadata,
            "spec": {"replicas": self.replicas(object)},
            "status": status,
        })
    }

    /// `spec.replicas`, or 0.
    pub fn replicas(&self, object: &Value) -> i64 {
        self.spec_replicas.first(object).and_then(Value::as_i64).unwrap_or(0)
    }

    /// Sets `spec.replicas`; `false` if the object has something else in the way.
    pub fn set_replicas(&self, object: &mut Value, replicas: i64) -> bool {
        let Some(path) = self.spec_replicas.fields() else {
            return false;
        };
        match fill::at_path(object, &path) {
            Some((parent, name)) => {
                parent.insert(name.clone(), replicas.into());
                true
            }
            None => false,
        }
    }

    /// `status.replicas`, or 0.
    pub fn status_replicas(&self, object: &Value) -> i64 {
        self.status_replicas.first(object).and_then(Value::as_i64).unwrap_or(0)
    }

    /// The selector of the pods, as text, if it is told.
    pub fn selector<'v>(&self, object: &'v Value) -> Option<&'v str> {
        self.label_selector.as_ref()?.first(object)?.as_str()
    }
}

#[cfg(test)]
mod tests;
