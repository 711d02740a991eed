//! What keeps authorization and certificates current while the server runs.
//!
//! - one task for each kind that the index follows;
//! - one that writes the rules of aggregated cluster roles, after changes of any;
//! - one that renews certificates when their time comes.

use std::{collections::HashSet, sync::Arc, time::Duration};

use bosun_pki::{Certificate, Keeper};
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::{
    sync::{Notify, watch},
    task::JoinSet,
    time::{sleep, timeout},
};

use super::{
    Authorizer,
    authorize::{
        aggregate,
        bootstrap::{self, Step},
        rbac,
    },
    objects::{Objects, text},
};
use crate::{
    Reason, Registry, Status,
    admission::priority,
    options::{DeleteOptions, WriteOptions},
    registry::{Followed, own_request},
};

/// After a failure, what was to be done is tried again.
const RETRY: Duration = Duration::from_secs(5);
/// The clock may be set meanwhile, so no wait for a certificate's time is longer.
const CLOCK_CHECK: Duration = Duration::from_secs(3600);

/// The tasks; they end when it is dropped.
pub struct Upkeep {
    synced: watch::Receiver<usize>,
    _tasks: JoinSet<()>,
}

impl Upkeep {
    /// Starts them. `renewed` is called when the administrator's certificate or the authority's is another one: whoever
    /// wrote them into a kubeconfig does so again.
    pub fn start(
        registry: &Arc<Registry>,
        authorizer: &Arc<Authorizer>,
        keeper: &Arc<Keeper>,
        renewed: impl Fn(&Keeper) + Send + 'static,
    ) -> Result<Self, Status> {
        let (synced_tx, synced) = watch::channel(0);
        let synced_tx = Arc::new(synced_tx);
        let roles_changed = Arc::new(Notify::new());
        let mut tasks = JoinSet::new();
        for (group, plural) in Authorizer::FOLLOWS {
            let mut follow = registry.follow(group, plural)?;
            let (authorizer, synced, changed) = (authorizer.clone(), synced_tx.clone(), roles_changed.clone());
            tasks.spawn(async move {
                let mut index = Index::new(authorizer, group, plural);
                loop {
                    let event = follow.next().await;
                    if index.take(event) {
                        synced.send_modify(|count| *count += 1);
                    }
                    if plural == "clusterroles" {
                        changed.notify_one();
                    }
                }
            });
        }
        let registry = registry.clone();
        tasks.spawn(async move {
            loop {
                roles_changed.notified().await;
                if let Err(error) = write_aggregated(&registry, Timestamp::now()).await {
                    tracing::warn!(%error, "aggregated roles were not written; trying again");
                    let _ = timeout(RETRY, roles_changed.notified()).await;
                    roles_changed.notify_one();
                }
            }
        });
        let keeper = keeper.clone();
        tasks.spawn(async move {
            let written = |keeper: &Keeper| (keeper.admin().0.clone(), keeper.authority().certificate.clone());
            let mut last = written(&keeper);
            loop {
                let now = Timestamp::now();
                let wait = match keeper.renew(now) {
                    Ok(next) => Duration::try_from(now.duration_until(next)).unwrap_or(RETRY),
                    Err(error) => {
                        tracing::error!(%error, "a certificate was not renewed; trying again");
                        RETRY
                    }
                };
                if written(&keeper) != last {
                    last = written(&keeper);
                    renewed(&keeper);
                }
                sleep(wait.clamp(RETRY, CLOCK_CHECK)).await;
            }
        });
        Ok(Self { synced, _tasks: tasks })
    }

    /// Waits until the index knows all there is. Before that, authorization knows too little and refuses too much.
    pub async fn ready(&mut self) {
        let all = Authorizer::FOLLOWS.len();
        // The senders live in tasks that end with `self`.
        let _ = self.synced.wait_for(|count| *count >= all).await;
    }

    /// Whether the index knows all there is.
    pub fn is_ready(&self) -> bool {
        *self.synced.borrow() >= Authorizer::FOLLOWS.len()
    }
}

/// One kind in the index. A reset forgets only what then turns out to be gone: nobody loses a right for a moment because
/// a watch was begun anew.
struct Index {
    authorizer: Arc<Authorizer>,
    group: &'static str,
    plural: &'static str,
    known: HashSet<(String, String)>,
    /// What was seen since the last reset, until all was told.
    seen: Option<HashSet<(String, String)>>,
    synced: bool,
}

impl Index {
    fn new(authorizer: Arc<Authorizer>, group: &'static str, plural: &'static str) -> Self {
        Self {
            authorizer,
            group,
            plural,
            known: HashSet::new(),
            seen: None,
            synced: false,
        }
    }

    /// Takes an event; whether the kind is known whole now for the first time.
    fn take(&mut self, event: Followed) -> bool {
        match event {
            Followed::Reset => self.seen = Some(HashSet::new()),
            Followed::Upsert(entry) => {
                let key = (entry.namespace().to_owned(), entry.name().to_owned());
                self.authorizer.upsert(self.group, self.plural, &entry.decode());
                if let Some(seen) = &mut self.seen {
                    seen.insert(key.clone());
                }
                self.known.insert(key);
            }
            Followed::Delete(entry) => self.forget(entry.namespace(), entry.name()),
            Followed::Synced => {
                let seen = self.seen.take().unwrap_or_default();
                let gone: Vec<_> = self.known.difference(&seen).cloned().collect();
                for (namespace, name) in gone {
                    self.forget(&namespace, &name);
                }
                return !std::mem::replace(&mut self.synced, true);
            }
        }
        false
    }

    fn forget(&mut self, namespace: &str, name: &str) {
        let key = (namespace.to_owned(), name.to_owned());
        self.known.remove(&key);
        if let Some(seen) = &mut self.seen {
            seen.remove(&key);
        }
        self.authorizer.delete(self.group, self.plural, namespace, name);
    }
}

/// Writes the objects that every cluster has, as far as they are missing or lack something: roles, bindings, priority
/// classes. The namespaces are there.
pub async fn write_defaults(registry: &Registry, now: Timestamp) -> Result<(), Status> {
    for (plural, wanted) in bootstrap::objects() {
        let place = Place::of(registry, rbac::GROUP, plural, wanted, now);
        place.bring(|stored| bootstrap::reconcile(wanted, stored)).await?;
    }
    for wanted in priority::system_classes() {
        let place = Place::of(registry, "scheduling.k8s.io", "priorityclasses", &wanted, now);
        place
            .bring(|stored| stored.map_or_else(|| Step::Create(wanted.clone()), |_| Step::Keep))
            .await?;
    }
    write_aggregated(registry, now).await
}

/// Writes what tells other servers whom to believe, and machines that join which cluster this is. `server` is where
/// clients reach us, such as `https://192.0.2.7:6443`.
pub async fn write_public_maps(
    registry: &Registry,
    keeper: &Keeper,
    server: &str,
    now: Timestamp,
) -> Result<(), Status> {
    for wanted in public_maps(&keeper.authority().certificate, server) {
        let place = Place::of(registry, "", "configmaps", &wanted, now);
        place.bring(|stored| with_data(&wanted, stored)).await?;
    }
    Ok(())
}

/// `extension-apiserver-authentication`, which servers behind the aggregator read, and `cluster-info`, which machines that
/// join do.
fn public_maps(authority: &Certificate, server: &str) -> [Value; 2] {
    let map = |namespace: &str, name: &str, data: Value| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"namespace": namespace, "name": name}, "data": data});
    let kubeconfig = bosun_pki::kubeconfig::cluster_info(server, authority);
    [
        map(
            "kube-system",
            "extension-apiserver-authentication",
            json!({"client-ca-file": authority.pem()}),
        ),
        map("kube-public", "cluster-info", json!({ "kubeconfig": kubeconfig })),
    ]
}

/// A map with at least this data; what else is in it (signatures) is others'.
fn with_data(wanted: &Value, stored: Option<&Value>) -> Step {
    let Some(stored) = stored else {
        return Step::Create(wanted.clone());
    };
    let mut new = stored.clone();
    for (key, value) in wanted["data"].as_object().into_iter().flatten() {
        new["data"][key] = value.clone();
    }
    if new == *stored { Step::Keep } else { Step::Update(new) }
}

/// Writes the rules of aggregated cluster roles, where they are others than they add up to.
pub async fn write_aggregated(registry: &Registry, now: Timestamp) -> Result<(), Status> {
    let roles = registry.list_now(rbac::GROUP, "clusterroles", "").await?;
    for role in aggregate::plan(&roles) {
        let place = Place::of(registry, rbac::GROUP, "clusterroles", &role, now);
        let name = place.name.clone();
        match place.update(role).await {
            Ok(()) => tracing::debug!(role = name, "aggregated rules were written"),
            // The change that was in the way wakes us again.
            Err(status) if matches!(status.reason, Reason::Conflict | Reason::NotFound) => {}
            Err(status) => return Err(status),
        }
    }
    Ok(())
}

/// An object that the server itself writes.
struct Place<'a> {
    registry: &'a Registry,
    group: &'a str,
    plural: &'a str,
    namespace: String,
    name: String,
    now: Timestamp,
}

impl<'a> Place<'a> {
    fn of(registry: &'a Registry, group: &'a str, plural: &'a str, object: &Value, now: Timestamp) -> Self {
        Self {
            registry,
            group,
            plural,
            namespace: text(object, "/metadata/namespace").to_owned(),
            name: text(object, "/metadata/name").to_owned(),
            now,
        }
    }

    /// Does what `decide` says of what is stored. Another server may write the same meanwhile: what it leaves is decided
    /// anew.
    async fn bring(&self, decide: impl Fn(Option<&Value>) -> Step) -> Result<(), Status> {
        loop {
            let stored = Objects::get(self.registry, self.group, self.plural, &self.namespace, &self.name).await?;
            let written = match decide(stored.as_ref()) {
                Step::Keep => return Ok(()),
                Step::Create(object) => self.create(object).await,
                Step::Update(object) => self.update(object).await,
                Step::Replace(object) => match self.delete().await {
                    Ok(()) => self.create(object).await,
                    failed => failed,
                },
            };
            match written {
                Err(status)
                    if matches!(
                        status.reason,
                        Reason::Conflict | Reason::AlreadyExists | Reason::NotFound
                    ) => {}
                other => return other,
            }
        }
    }

    fn request(&self, verb: &'static str) -> Result<crate::Request, Status> {
        let table = self.registry.table();
        let row = table
            .stored(self.group, self.plural)
            .ok_or_else(|| Status::internal(format_args!("{} are not served", self.plural)))?;
        let name = if verb == "create" { "" } else { &self.name };
        Ok(own_request(row, verb, &self.namespace, name, self.now))
    }

    async fn create(&self, object: Value) -> Result<(), Status> {
        let request = self.request("create")?;
        self.registry
            .create(&request, object.into(), &WriteOptions::default())
            .await
            .map(drop)
    }

    async fn update(&self, object: Value) -> Result<(), Status> {
        let request = self.request("update")?;
        self.registry
            .update(&request, object.into(), &WriteOptions::default())
            .await
            .map(drop)
    }

    async fn delete(&self) -> Result<(), Status> {
        let request = self.request("delete")?;
        self.registry
            .delete(&request, &DeleteOptions::default())
            .await
            .map(drop)
    }
}

#[cfg(test)]
mod tests;
