//! The seam between the registry and admission: what is asked before a change is stored.
//!
//! [`builtin`] is what is asked of every change; its plugins are the modules beside it.

pub mod builtin;
mod certificates;
mod default_ingress_class;
mod default_tolerations;
mod limit_ranger;
pub(crate) mod node_restriction;
mod pod_security;
pub mod priority;
mod resource_quota;
mod runtime_class;
mod service_account;
mod storage;
mod taint_nodes;
mod topology_labels;

use async_trait::async_trait;
use bosun_store::Txn;
use serde_json::Value;

pub use self::builtin::BuiltIn;
use crate::{Request, Status};

/// What is being done to the object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// It is new.
    Create,
    /// It, or a part of it, is replaced.
    Update,
    /// It is deleted.
    Delete,
    /// A stream to it is opened.
    Connect,
}

/// A warning for the user, one line.
pub type Warning = String;

/// A change that asks to be admitted.
pub struct Attributes<'a> {
    /// Who asks for what. Its verb may be another than the operation: an apply may create.
    pub request: &'a Request,
    /// The object's name; empty while the server has still to make one up.
    pub name: &'a str,
    /// What is being done.
    pub operation: Operation,
    /// The object as it is to be, with its defaults, in the version of the request; what is sent to the subresource where
    /// that is another kind (`Binding`, `Eviction`); null for a deletion. [`Admission::mutate`] may change it.
    pub object: Value,
    /// The object as it is, for updates and deletions.
    pub old: Option<&'a Value>,
    /// The request's options as JSON: `CreateOptions`, `UpdateOptions`, `PatchOptions` or `DeleteOptions`.
    pub options: &'a Value,
    /// Whether nothing will be stored.
    pub dry_run: bool,
    /// What must hold and happen in the transaction that stores the object, such as a quota's new usage. If a compare does
    /// not hold, the change is decided, and admitted, anew.
    pub txn: Txn,
}

/// What may change or refuse a change. Called again for every attempt of one request.
#[async_trait]
pub trait Admission: Send + Sync {
    /// Changes the object, or refuses.
    async fn mutate(&self, attributes: &mut Attributes<'_>) -> Result<Vec<Warning>, Status>;

    /// Refuses, once the object is what would be stored. May only add to [`Attributes::txn`].
    async fn validate(&self, attributes: &mut Attributes<'_>) -> Result<(), Status>;
}

/// Admits everything.
#[derive(Clone, Copy, Debug, Default)]
pub struct AdmitAll;

#[async_trait]
impl Admission for AdmitAll {
    async fn mutate(&self, _attributes: &mut Attributes<'_>) -> Result<Vec<Warning>, Status> {
        Ok(Vec::new())
    }

    async fn validate(&self, _attributes: &mut Attributes<'_>) -> Result<(), Status> {
        Ok(())
    }
}
