//! Deletion of namespaces: everything in one is deleted, pods first, before it goes itself.
//!
//! Each run deletes what there is of every served kind and sees what remains, until that is nothing; then the
//! finalizer `kubernetes` is taken off. What hinders it is said in the namespace's conditions.

mod conditions;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bosun_client::{
    CallError, Change, ObjectKey,
    call::{Class, call, call_within},
};
use futures_util::{StreamExt, stream};
use jiff::Timestamp;
use k8s_openapi::api::core::v1 as core;
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, ListParams, PartialObjectMeta},
    core::DynamicObject,
};
use serde_json::json;
use tracing::debug;

use self::conditions::{Found, conditions};
use crate::runtime::{
    Context, Controller, Done, SyncError, Watches,
    discovery::{Kind, Served},
    write,
};

/// What the API server puts on every namespace.
const FINALIZER: &str = "kubernetes";
/// How long the deletion of all objects of a kind may take.
const COLLECTION: Duration = Duration::from_secs(60);
/// Kinds that are cleared at the same time.
const AT_ONCE: usize = 10;
/// The time until another look, if nothing tells that it is due.
const LOOK: Duration = Duration::from_secs(2);

/// Deletes namespaces. Its keys are their names.
#[derive(Debug)]
pub struct Namespaces(Context);

impl Namespaces {
    /// Under the identity of the context's client.
    pub fn new(context: &Context) -> Self {
        Self(context.clone())
    }

    /// Deletes what is in a namespace, and tells what is left.
    async fn clear(&self, namespace: &str) -> Result<Found, CallError> {
        let served = Served::read(&self.0.client).await?;
        let mut found = Found {
            unknown: served.unknown,
            ..Found::default()
        };
        let kinds = served.kinds.into_iter();
        let kinds = kinds.filter(|kind| kind.namespaced && kind.can(&["list", "delete"]));
        // Pods first: they may need what else is there until they have ended (KEP-5080).
        let (pods, others): (Vec<_>, Vec<_>) = kinds.partition(is_pods);
        for kinds in [pods, others] {
            let cleared = stream::iter(kinds).map(|kind| clear(self.0.client.clone(), kind, namespace.to_owned()));
            let cleared: Vec<_> = cleared.buffer_unordered(AT_ONCE).collect().await;
            for (kind, outcome) in cleared {
                let name = format!("{}.{}", kind.api.plural, kind.api.group);
                match outcome {
                    Ok(left) => add(&mut found, name, &left),
                    Err(error) => found.failures.push(format!("{name}: {error}")),
                }
            }
            if !found.remaining.is_empty() || !found.failures.is_empty() {
                break;
            }
        }
        Ok(found)
    }
}

fn is_pods(kind: &Kind) -> bool {
    kind.api.group.is_empty() && kind.api.plural == "pods"
}

/// Deletes all objects of a kind in a namespace, and gives those that are still there.
async fn clear(
    client: Client,
    kind: Kind,
    namespace: String,
) -> (Kind, Result<Vec<PartialObjectMeta<DynamicObject>>, CallError>) {
    let api: Api<DynamicObject> = Api::namespaced_with(client, &namespace, &kind.api);
    let outcome = async {
        let mut left = call_within(COLLECTION, api.list_metadata(&ListParams::default()))
            .await?
            .items;
        if left.is_empty() {
            return Ok(left);
        }
        let params = DeleteParams::background();
        if kind.can(&["deletecollection"]) {
            call_within(COLLECTION, api.delete_collection(&params, &ListParams::default())).await?;
        } else {
            for object in &left {
                match call(api.delete(&object.name_any(), &params)).await {
                    Err(error) if !error.is_not_found() => return Err(error),
                    _ => {}
                }
            }
        }
        left = call_within(COLLECTION, api.list_metadata(&ListParams::default()))
            .await?
            .items;
        Ok(left)
    };
    match outcome.await {
        // The kind has gone meanwhile, or its server can't do this.
        Err(error) if error.class() == Class::NotFound => (kind, Ok(Vec::new())),
        outcome => (kind, outcome),
    }
}

fn add(found: &mut Found, kind: String, left: &[PartialObjectMeta<DynamicObject>]) {
    if left.is_empty() {
        return;
    }
    found.remaining.insert(kind, left.len());
    for finalizer in left.iter().flat_map(ResourceExt::finalizers) {
        *found.finalizers.entry(finalizer.clone()).or_default() += 1;
    }
}

#[async_trait]
impl Controller for Namespaces {
    type Key = String;

    fn name(&self) -> &'static str {
        "namespace"
    }

    fn watch(self: &Arc<Self>, watches: &mut Watches<String>) {
        watches.on(&self.0.informers.namespaces, |change| match change {
            Change::Deleted(_) => None,
            Change::Added(namespace) | Change::Updated { new: namespace, .. } => namespace
                .metadata
                .deletion_timestamp
                .is_some()
                .then(|| namespace.name_any()),
        });
        // What mostly is waited for.
        let namespaces = self.0.informers.namespaces.clone();
        watches.on(&self.0.informers.pods, move |change| {
            let Change::Deleted(pod) = change else { return None };
            let namespace = pod.namespace()?;
            let held = namespaces.get(&ObjectKey::cluster(&namespace))?;
            held.metadata.deletion_timestamp.is_some().then_some(namespace)
        });
    }

    fn workers(&self) -> usize {
        10
    }

    fn deadline(&self) -> Duration {
        Duration::from_secs(600)
    }

    async fn sync(&self, name: &String) -> Result<Done, SyncError> {
        let client = &self.0.client;
        let api: Api<core::Namespace> = Api::all(client.clone());
        let Some(mut namespace) = call(api.get_opt(name)).await? else {
            return Ok(Done::Settled);
        };
        let finalizers = namespace.spec.iter().flat_map(|spec| spec.finalizers.iter().flatten());
        let mut finalizers: Vec<_> = finalizers.cloned().collect();
        if namespace.metadata.deletion_timestamp.is_none() || !finalizers.iter().any(|given| given == FINALIZER) {
            return Ok(Done::Settled);
        }
        let found = self.clear(name).await?;
        let status = namespace.status.clone().unwrap_or_default();
        let before = status.conditions.clone().unwrap_or_default();
        let after = conditions(&before, &found, Timestamp::now());
        let empty = found.is_empty();
        // An empty namespace is gone at once: nobody would read it.
        if !empty && (after != before || status.phase.as_deref() != Some("Terminating")) {
            let status = json!({"phase": "Terminating", "conditions": after});
            write::update_status(client, &namespace, &status).await?;
            return Ok(Done::Again(LOOK));
        }
        if !empty {
            debug!(namespace = name, ?found, "not empty yet");
            return Ok(Done::Again(LOOK));
        }
        finalizers.retain(|given| given != FINALIZER);
        namespace.metadata.managed_fields = None;
        let spec = json!({"spec": {"finalizers": finalizers}});
        match write::put(client, &namespace, "finalize", &spec).await {
            Err(error) if !error.is_not_found() => Err(error.into()),
            _ => Ok(Done::Settled),
        }
    }
}
