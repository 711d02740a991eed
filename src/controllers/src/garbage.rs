//! The garbage collector: deletes what has lost its last owner.
//!
//! ```text
//! API ──metadata of every kind──▶ Monitors ──▶ Graph (pure) ──Task──▶ Queue ──▶ decide (pure) ──▶ API
//! ```
//!
//! The graph is only what was heard of. Before anything is deleted the object and its owners are asked for again, so
//! that an owner that was heard of late costs a request and never an object.

mod decide;
mod graph;
mod monitors;

use std::{
    fmt,
    sync::{Arc, OnceLock},
    time::Duration,
};

use async_trait::async_trait;
use bosun_client::{CallError, Change, ObjectKey, call::call};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::{
    Api, Client, Resource,
    api::{Patch, PatchParams, PropagationPolicy},
};
use parking_lot::Mutex;
use serde_json::json;
use tokio::{
    sync::{Notify, mpsc},
    time::sleep,
};
use tracing::{debug, info, warn};

use self::{
    decide::{Owner, Verdict, decide},
    graph::{Coordinates, FOREGROUND, Graph, Node, ORPHAN},
    monitors::{Monitors, Object},
};
use crate::runtime::{
    Context, Controller, Done, SyncError, Watches,
    discovery::{Kind, Served},
    queue::Queue,
    write::only_with,
};

/// Kinds are asked for again this often, in case their coming was missed.
const AUDIT: Duration = Duration::from_secs(300);
/// After a definition of a kind has changed, until it is served.
const SETTLE: Duration = Duration::from_secs(1);

/// What is to be done for an object, by its UID.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Task {
    /// See whether it has lost its owners, or may go at last.
    Collect(String),
    /// Let go of what it owns.
    Release(String),
}

impl fmt::Display for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Collect(uid) => write!(f, "collect {uid}"),
            Self::Release(uid) => write!(f, "release {uid}"),
        }
    }
}

/// The garbage collector.
pub struct GarbageCollector {
    client: Client,
    graph: Mutex<Graph>,
    served: Mutex<Arc<Served>>,
    queue: OnceLock<Arc<Queue<Task>>>,
    /// Every kind was listed once.
    complete: tokio::sync::watch::Sender<bool>,
    kinds_changed: Notify,
}

impl GarbageCollector {
    /// One that knows nothing yet.
    pub fn new(context: &Context) -> Self {
        Self {
            client: context.client.clone(),
            graph: Mutex::default(),
            served: Mutex::default(),
            queue: OnceLock::new(),
            complete: tokio::sync::watch::Sender::new(false),
            kinds_changed: Notify::new(),
        }
    }

    fn add(&self, tasks: Vec<Task>) {
        let Some(queue) = self.queue.get() else { return };
        for task in tasks {
            queue.add(task);
        }
    }

    fn hear(&self, kind: &Kind, change: &Change<Object>) {
        let tasks = match change {
            Change::Added(object) | Change::Updated { new: object, .. } => {
                let key = ObjectKey::of(&**object);
                let name = Coordinates {
                    api_version: kind.api.api_version.clone(),
                    kind: kind.api.kind.clone(),
                    namespace: key.namespace,
                    name: key.name,
                };
                self.graph.lock().seen(name, object.meta())
            }
            Change::Deleted(object) => {
                let uid = object.meta().uid.as_deref().unwrap_or_default();
                self.graph.lock().gone(uid)
            }
        };
        self.add(tasks);
        if kind.api.plural == "customresourcedefinitions" || kind.api.plural == "apiservices" {
            self.kinds_changed.notify_one();
        }
    }

    /// Where an object of this name is; `None` if there is no such kind.
    fn api(&self, name: &Coordinates) -> Option<Api<Object>> {
        let served = self.served.lock().clone();
        let kind = served.find(&name.api_version, &name.kind)?;
        Some(if kind.namespaced {
            Api::namespaced_with(self.client.clone(), &name.namespace, &kind.api)
        } else {
            Api::all_with(self.client.clone(), &kind.api)
        })
    }

    /// The object as it is, if it still is the one of this UID.
    async fn live(api: &Api<Object>, name: &str, uid: &str) -> Result<Option<Object>, CallError> {
        let found = call(api.get_opt(name)).await?;
        Ok(found.filter(|object| object.meta().uid.as_deref() == Some(uid)))
    }

    async fn collect(&self, uid: &str) -> Result<Done, SyncError> {
        let Some(node) = self.graph.lock().get(uid).cloned() else {
            return Ok(Done::Settled);
        };
        // Whoever goes already needs nothing, unless it waits for what it owns.
        if (node.deleting && !node.foreground) || (node.heard && node.owners.is_empty() && !node.foreground) {
            return Ok(Done::Settled);
        }
        let Some(api) = self.api(&node.name) else {
            // Its kind may be served yet: that is heard of, and then all of the kind again.
            debug!(
                kind = node.name.kind,
                api_version = node.name.api_version,
                "a kind that isn't served owns something"
            );
            return Ok(Done::Settled);
        };
        let Some(object) = Self::live(&api, &node.name.name, uid).await? else {
            let tasks = self.graph.lock().gone(uid);
            self.add(tasks);
            return Ok(Done::Settled);
        };
        if !node.heard {
            // It is there and will be heard of.
            return Ok(Done::Settled);
        }
        if node.foreground {
            return self.finish(&api, uid, &object).await;
        }
        if object.meta().deletion_timestamp.is_some() {
            return Ok(Done::Settled);
        }
        let references = object.meta().owner_references.clone().unwrap_or_default();
        let mut owners = Vec::new();
        for reference in &references {
            owners.push((reference, self.owner(reference, &node).await?));
        }
        let cycle = self.graph.lock().owns_waiting(uid);
        match decide(object.meta(), &owners, !node.dependents.is_empty(), cycle) {
            Verdict::Keep => {}
            Verdict::Disown(kept) => self.patch_owners(&api, &object, &kept).await?,
            Verdict::Delete { policy, unblock } => {
                if unblock {
                    let unblocked: Vec<_> = references.iter().cloned().map(unblocked).collect();
                    self.patch_owners(&api, &object, &unblocked).await?;
                }
                self.delete(&api, &object, policy, &node).await?;
            }
        }
        Ok(Done::Settled)
    }

    /// What became of an owner.
    async fn owner(&self, reference: &OwnerReference, dependent: &Node) -> Result<Owner, CallError> {
        let name = Coordinates {
            api_version: reference.api_version.clone(),
            kind: reference.kind.clone(),
            namespace: dependent.name.namespace.clone(),
            name: reference.name.clone(),
        };
        let served = self.served.lock().clone();
        let Some(kind) = served.find(&name.api_version, &name.kind) else {
            return Ok(Owner::Unknown);
        };
        // An object of the cluster can't be owned by one of some namespace.
        if kind.namespaced && name.namespace.is_empty() {
            return Ok(Owner::Unknown);
        }
        let Some(api) = self.api(&name) else {
            return Ok(Owner::Unknown);
        };
        let Some(owner) = Self::live(&api, &name.name, &reference.uid).await? else {
            return Ok(Owner::Absent);
        };
        let waits = owner
            .meta()
            .finalizers
            .iter()
            .flatten()
            .any(|finalizer| finalizer == FOREGROUND);
        Ok(if owner.meta().deletion_timestamp.is_some() && waits {
            Owner::Waiting
        } else {
            Owner::Solid
        })
    }

    /// Lets an owner go that waits in the foreground, if nothing keeps it any more.
    async fn finish(&self, api: &Api<Object>, uid: &str, object: &Object) -> Result<Done, SyncError> {
        let blocking = self.graph.lock().blocking(uid);
        if blocking.is_empty() {
            self.remove_finalizer(api, object, FOREGROUND).await?;
            return Ok(Done::Settled);
        }
        let tasks = blocking.into_iter().filter(|(_, waits)| !waits);
        self.add(tasks.map(|(uid, _)| Task::Collect(uid)).collect());
        Ok(Done::Settled)
    }

    /// Lets go of all that an object owns.
    async fn release(&self, uid: &str) -> Result<Done, SyncError> {
        let dependents: Vec<_> = {
            let graph = self.graph.lock();
            let Some(node) = graph.get(uid) else {
                return Ok(Done::Settled);
            };
            let dependents = node.dependents.iter();
            dependents
                .filter_map(|uid| Some((uid.clone(), graph.get(uid)?.name.clone())))
                .collect()
        };
        for (dependent, name) in dependents {
            let Some(api) = self.api(&name) else { continue };
            let Some(object) = Self::live(&api, &name.name, &dependent).await? else {
                continue;
            };
            let mut owners = object.meta().owner_references.clone().unwrap_or_default();
            owners.retain(|owner| owner.uid != uid);
            self.patch_owners(&api, &object, &owners).await?;
        }
        let Some(node) = self.graph.lock().get(uid).cloned() else {
            return Ok(Done::Settled);
        };
        let Some(api) = self.api(&node.name) else {
            return Ok(Done::Settled);
        };
        if let Some(object) = Self::live(&api, &node.name.name, uid).await? {
            self.remove_finalizer(&api, &object, ORPHAN).await?;
        }
        Ok(Done::Settled)
    }

    async fn delete(
        &self,
        api: &Api<Object>,
        object: &Object,
        policy: PropagationPolicy,
        node: &Node,
    ) -> Result<(), CallError> {
        let name = object.meta().name.as_deref().unwrap_or_default();
        info!(
            kind = node.name.kind,
            namespace = node.name.namespace,
            name,
            ?policy,
            "deleting: its owners are gone"
        );
        match call(api.delete(name, &only_with(object, policy))).await {
            Err(error) if !error.is_not_found() => Err(error),
            _ => Ok(()),
        }
    }

    async fn patch_owners(
        &self,
        api: &Api<Object>,
        object: &Object,
        owners: &[OwnerReference],
    ) -> Result<(), CallError> {
        patch(api, object, json!({ "ownerReferences": owners })).await
    }

    async fn remove_finalizer(&self, api: &Api<Object>, object: &Object, finalizer: &str) -> Result<(), CallError> {
        let mut finalizers = object.meta().finalizers.clone().unwrap_or_default();
        let before = finalizers.len();
        finalizers.retain(|given| given != finalizer);
        if finalizers.len() == before {
            return Ok(());
        }
        patch(api, object, json!({ "finalizers": finalizers })).await
    }
}

/// Changes metadata of an object as it was read.
async fn patch(api: &Api<Object>, object: &Object, mut metadata: serde_json::Value) -> Result<(), CallError> {
    let meta = object.meta();
    metadata["uid"] = json!(meta.uid);
    metadata["resourceVersion"] = json!(meta.resource_version);
    let change = json!({ "metadata": metadata });
    let name = meta.name.as_deref().unwrap_or_default();
    match call(api.patch(name, &PatchParams::default(), &Patch::Merge(&change))).await {
        Err(error) if !error.is_not_found() => Err(error),
        _ => Ok(()),
    }
}

fn unblocked(owner: OwnerReference) -> OwnerReference {
    OwnerReference {
        block_owner_deletion: Some(false),
        ..owner
    }
}

#[async_trait]
impl Controller for GarbageCollector {
    type Key = Task;

    fn name(&self) -> &'static str {
        "garbage-collector"
    }

    fn watch(self: &Arc<Self>, watches: &mut Watches<Task>) {
        let _ = self.queue.set(watches.queue().clone());
        let mut complete = self.complete.subscribe();
        watches.until(async move {
            let _ = complete.wait_for(|complete| *complete).await;
        });
    }

    async fn sync(&self, task: &Task) -> Result<Done, SyncError> {
        match task {
            Task::Collect(uid) => self.collect(uid).await,
            Task::Release(uid) => self.release(uid).await,
        }
    }

    fn workers(&self) -> usize {
        20
    }

    async fn background(&self) {
        let (tx, mut heard) = mpsc::unbounded_channel();
        let mut monitors = Monitors::new(self.client.clone(), tx);
        let follow = async {
            loop {
                match Served::read(&self.client).await {
                    Ok(served) => {
                        *self.served.lock() = Arc::new(served.clone());
                        monitors.follow(&served);
                        monitors.synced().await;
                        self.complete.send_replace(true);
                        tokio::select! {
                            () = sleep(AUDIT) => {}
                            () = self.kinds_changed.notified() => sleep(SETTLE).await,
                        }
                    }
                    Err(error) => {
                        warn!(%error, "which kinds there are can't be told: trying again");
                        sleep(SETTLE * 5).await;
                    }
                }
            }
        };
        let hear = async {
            while let Some((kind, change)) = heard.recv().await {
                self.hear(&kind, &change);
            }
        };
        tokio::join!(follow, hear);
    }
}

impl fmt::Debug for GarbageCollector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GarbageCollector")
            .field("objects", &self.graph.lock().len())
            .finish_non_exhaustive()
    }
}
