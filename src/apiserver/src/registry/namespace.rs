//! Life and death of namespaces, and what that means for what is in them.

use std::sync::Arc;

use bosun_store::{Compare, Revision};
use serde_json::{Value, json};

use super::{Registry, read, write::Place};
use crate::{Notes, Request, Resource, Scope, Status, User, options::WriteOptions};

/// Namespaces that there always are.
pub const IMMORTAL: [&str; 4] = ["default", "kube-node-lease", "kube-public", "kube-system"];

/// Whether it is the kind.
pub(super) fn is_namespace(row: &Resource) -> bool {
    (&*row.group, &*row.plural) == ("", "namespaces")
}

/// Whether something but `metadata.finalizers` holds it.
pub(super) fn is_held(object: &Value) -> bool {
    object["spec"]["finalizers"]
        .as_array()
        .is_some_and(|finalizers| !finalizers.is_empty())
}

impl Registry {
    /// That the namespace of a new object is there, and not about to go: what must hold in its transaction.
    pub(super) async fn namespace_takes(&self, place: &Place<'_>, name: &str) -> Result<Option<Compare>, Status> {
        let row = place.row;
        let reviews = matches!(&*row.group, "authorization.k8s.io" | "authentication.k8s.io");
        if row.scope == Scope::Cluster || reviews {
            return Ok(None);
        }
        let namespace = &place.request.namespace;
        let table = self.table();
        let Some(namespaces) = table.get("", "v1", "namespaces") else {
            return Ok(None);
        };
        let cache = self.cache(namespaces)?;
        let known = match cache.peek(namespace) {
            Some(entry) if !entry.projection().is_deleting() => Some(entry),
            _ => cache.stored(namespace).await.map_err(read::unreadable)?,
        };
        let Some(entry) = known else {
            return Err(Status::not_found("", "namespaces", namespace));
        };
        if entry.projection().is_deleting() {
            let why = format!("unable to create new content in namespace {namespace} because it is being terminated");
            let cause = format!("namespace {namespace} is being terminated");
            return Err(Status::forbidden(&row.group, &row.plural, name, &why).because(
                "NamespaceTerminating",
                &cause,
                "metadata.namespace",
            ));
        }
        Ok(Some(Compare::Modified(cache.store_key(namespace), entry.revision())))
    }

    /// Makes the namespaces that there always are.
    pub async fn make_namespaces(&self, now: jiff::Timestamp) -> Result<(), Status> {
        let table = self.table();
        let Some(row) = table.get("", "v1", "namespaces") else {
            return Ok(());
        };
        for name in IMMORTAL {
            let request = own_request(row, "create", "", "", now);
            let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
            match self.create(&request, object.into(), &WriteOptions::default()).await {
                Ok(_) => {}
                Err(status) if status.reason == crate::Reason::AlreadyExists => {}
                Err(status) => return Err(status),
            }
        }
        Ok(())
    }
}

/// A request of the server itself.
pub fn own_request(
    row: &Arc<Resource>,
    verb: &'static str,
    namespace: &str,
    name: &str,
    now: jiff::Timestamp,
) -> Request {
    Request {
        user: Arc::new(User {
            name: "system:apiserver".into(),
            groups: vec!["system:masters".into(), "system:authenticated".into()],
            ..User::default()
        }),
        impersonator: None,
        verb,
        resource: Some(row.clone()),
        subresource: String::new(),
        namespace: namespace.into(),
        name: name.into(),
        path: String::new(),
        now,
        notes: Notes::default(),
    }
}

/// For whoever compares with what may be absent.
pub(super) const ABSENT: Revision = Revision(0);
