//! How a request wants to be done: the query parameters and options of the API, once they are parsed.

use std::time::Duration;

use serde_json::{Value, json};

use crate::selector::{FieldSelector, LabelSelector};

/// What happens to fields that the schema doesn't know, or that are given twice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FieldValidation {
    /// They are dropped.
    Ignore,
    /// They are dropped, and the user is told.
    #[default]
    Warn,
    /// The request fails.
    Strict,
}

/// What is sent in a body: a tree, and what is to be said of how it was written.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Body {
    /// The tree.
    pub value: Value,
    /// What strict users are told: `duplicate field "spec.replicas"`.
    pub mistakes: Vec<String>,
}

impl From<Value> for Body {
    fn from(value: Value) -> Self {
        Self {
            value,
            mistakes: Vec::new(),
        }
    }
}

/// How to create, update or patch.
#[derive(Clone, Debug, Default)]
pub struct WriteOptions {
    /// `dryRun=All`
    pub dry_run: bool,
    /// `fieldManager`, or what the user agent says before its first `/`.
    pub field_manager: String,
    /// `fieldValidation`
    pub field_validation: FieldValidation,
    /// `force`, for apply.
    pub force: bool,
}

impl WriteOptions {
    /// As admission sees them.
    pub fn to_json(&self, kind: &str) -> Value {
        let mut options = json!({"kind": kind, "apiVersion": "meta.k8s.io/v1"});
        if self.dry_run {
            options["dryRun"] = json!(["All"]);
        }
        if !self.field_manager.is_empty() {
            options["fieldManager"] = self.field_manager.as_str().into();
        }
        if self.force {
            options["force"] = true.into();
        }
        options
    }
}

/// Which patch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PatchType {
    /// `application/json-patch+json`
    Json,
    /// `application/merge-patch+json`
    Merge,
    /// `application/strategic-merge-patch+json`
    Strategic,
    /// `application/apply-patch+yaml`
    Apply,
}

/// `resourceVersionMatch`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VersionMatch {
    /// At that version or a later one.
    NotOlderThan,
    /// At exactly that version.
    Exact,
}

/// How to list, watch or delete a collection.
#[derive(Clone, Debug, Default)]
pub struct ListOptions {
    /// `labelSelector`
    pub labels: LabelSelector,
    /// `fieldSelector`
    pub fields: FieldSelector,
    /// `resourceVersion`; empty if unset.
    pub resource_version: String,
    /// `resourceVersionMatch`
    pub version_match: Option<VersionMatch>,
    /// `limit`; 0 for none.
    pub limit: u64,
    /// `continue`; empty if unset.
    pub continue_token: String,
    /// `timeoutSeconds`
    pub timeout: Option<Duration>,
    /// `allowWatchBookmarks`
    pub bookmarks: bool,
    /// `sendInitialEvents`
    pub send_initial_events: Option<bool>,
}

/// `propagationPolicy`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagation {
    /// Dependents stay.
    Orphan,
    /// Dependents go afterwards.
    Background,
    /// Dependents go first.
    Foreground,
}

/// What must hold for an object to be changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Preconditions {
    /// Its UID.
    pub uid: Option<String>,
    /// Its resource version.
    pub resource_version: Option<String>,
}

/// How to delete (`meta.v1.DeleteOptions`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeleteOptions {
    /// `gracePeriodSeconds`
    pub grace_period_seconds: Option<i64>,
    /// `preconditions`
    pub preconditions: Preconditions,
    /// `propagationPolicy`
    pub propagation: Option<Propagation>,
    /// `orphanDependents`, which came before `propagationPolicy`.
    pub orphan_dependents: Option<bool>,
    /// `dryRun: [All]`
    pub dry_run: bool,
}

impl DeleteOptions {
    /// As admission sees them.
    pub fn to_json(&self) -> Value {
        let mut options = json!({"kind": "DeleteOptions", "apiVersion": "meta.k8s.io/v1"});
        if let Some(seconds) = self.grace_period_seconds {
            options["gracePeriodSeconds"] = seconds.into();
        }
        let Preconditions { uid, resource_version } = &self.preconditions;
        for (field, value) in [("uid", uid), ("resourceVersion", resource_version)] {
            if let Some(value) = value {
                options["preconditions"][field] = value.as_str().into();
            }
        }
        if let Some(orphan) = self.orphan_dependents {
            options["orphanDependents"] = orphan.into();
        }
        if let Some(propagation) = self.propagation {
            options["propagationPolicy"] = format!("{propagation:?}").into();
        }
        if self.dry_run {
            options["dryRun"] = json!(["All"]);
        }
        options
    }
}
