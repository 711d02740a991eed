//! Who asks for what: what authorization, admission and audit go by.

use std::{collections::BTreeMap, sync::Arc};

use parking_lot::Mutex;

use crate::Resource;

/// Who asks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    /// Such as `system:serviceaccount:kube-system:default`.
    pub name: String,
    /// Unique over time; may be empty.
    pub uid: String,
    /// Such as `system:authenticated`.
    pub groups: Vec<String>,
    /// What authentication adds, such as the pod a token is bound to.
    pub extra: BTreeMap<String, Vec<String>>,
}

/// A request, once its path is understood and its sender known.
#[derive(Clone)]
pub struct Request {
    /// Who asks.
    pub user: Arc<User>,
    /// Who really asks, if `user` is someone they impersonate.
    pub impersonator: Option<Arc<User>>,
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`; or an HTTP method in lower case
    /// for a path without a resource.
    pub verb: &'static str,
    /// The row it concerns; `None` for other paths.
    pub resource: Option<Arc<Resource>>,
    /// Empty for the object itself.
    pub subresource: String,
    /// Empty across namespaces, or if there are none.
    pub namespace: String,
    /// Empty for collections.
    pub name: String,
    /// The path as sent.
    pub path: String,
    /// The time it came.
    pub now: jiff::Timestamp,
    /// What the audit log is to say beside all that.
    pub notes: Notes,
}

/// What admission has the audit log say of a request, by annotation. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Notes(Arc<Mutex<BTreeMap<&'static str, String>>>);

impl Notes {
    /// Sets an annotation.
    pub fn set(&self, annotation: &'static str, text: String) {
        self.0.lock().insert(annotation, text);
    }

    /// All of them.
    pub fn all(&self) -> BTreeMap<&'static str, String> {
        self.0.lock().clone()
    }
}
