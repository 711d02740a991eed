//! The task that follows the definitions.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use bosun_schema::custom::Definition;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep, timeout_at},
};

use super::{CLEANUP, GROUP, PLURAL, names, rows};
use crate::{
    Reason, Registry, Request, Status,
    options::{DeleteOptions, ListOptions, PatchType, WriteOptions},
    registry::{Followed, metadata, own_request},
};

/// After a failure, what was to be done is tried again.
const RETRY: Duration = Duration::from_secs(2);

/// Serves custom resources while it lives.
pub struct CustomResources {
    ready: watch::Receiver<bool>,
    _task: JoinSet<()>,
}

impl CustomResources {
    /// Starts the task.
    pub fn start(registry: &Arc<Registry>) -> Result<Self, Status> {
        let (ready_tx, ready) = watch::channel(false);
        let mut follow = registry.follow(GROUP, PLURAL)?;
        let mut keeper = Keeper {
            registry: registry.clone(),
            known: BTreeMap::new(),
            seen: None,
            served: BTreeMap::new(),
            open: BTreeSet::new(),
            endings: JoinSet::new(),
        };
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut retry: Option<Instant> = None;
            loop {
                let event = match retry {
                    None => Some(follow.next().await),
                    Some(at) => timeout_at(at, follow.next()).await.ok(),
                };
                let synced = matches!(event, Some(Followed::Synced));
                if let Some(event) = event {
                    keeper.take(event);
                }
                keeper.work().await;
                retry = (!keeper.open.is_empty()).then(|| Instant::now() + RETRY);
                if synced {
                    ready_tx.send_replace(true);
                }
            }
        });
        Ok(Self { ready, _task: task })
    }

    /// Waits until all definitions there were at the start are served.
    pub async fn ready(&mut self) {
        // The sender lives in the task, which ends with `self`.
        let _ = self.ready.wait_for(|ready| *ready).await;
    }
}

struct Keeper {
    registry: Arc<Registry>,
    /// All definitions, by name.
    known: BTreeMap<String, Value>,
    /// Those that were told since the last reset, until all were.
    seen: Option<BTreeSet<String>>,
    /// Of each name: group and plural, and the spec that its rows were made of.
    served: BTreeMap<String, (String, String, Value)>,
    /// Names whose definition has changed and which are to be looked at.
    open: BTreeSet<String>,
    /// Of definitions that are being deleted.
    endings: JoinSet<()>,
}

impl Keeper {
    fn take(&mut self, event: Followed) {
        match event {
            Followed::Reset => self.seen = Some(BTreeSet::new()),
            Followed::Upsert(entry) => {
                let name = entry.name().to_owned();
                if let Some(seen) = &mut self.seen {
                    seen.insert(name.clone());
                }
                self.known.insert(name.clone(), entry.decode());
                self.open.insert(name);
            }
            Followed::Delete(entry) => self.forget(entry.name()),
            Followed::Synced => {
                let seen = self.seen.take().unwrap_or_default();
                let gone: Vec<_> = self
                    .known
                    .keys()
                    .filter(|name| !seen.contains(*name))
                    .cloned()
                    .collect();
                for name in gone {
                    self.forget(&name);
                }
            }
        }
    }

    /// Its names are free for others now.
    fn forget(&mut self, name: &str) {
        let gone = self.known.remove(name);
        self.open.insert(name.to_owned());
        let group = gone.map(|gone| gone["spec"]["group"].clone());
        let others = self
            .known
            .iter()
            .filter(|(_, other)| Some(&other["spec"]["group"]) == group.as_ref());
        let others: Vec<_> = others.map(|(name, _)| name.clone()).collect();
        self.open.extend(others);
    }

    /// Looks at each definition that is open; those that fail stay so.
    async fn work(&mut self) {
        for name in std::mem::take(&mut self.open) {
            if let Err(error) = self.settle(&name).await {
                tracing::warn!(definition = %name, %error, "a custom resource is not as it is defined yet; trying again");
                self.open.insert(name);
            }
        }
        while self.endings.try_join_next().is_some() {}
    }

    async fn settle(&mut self, name: &str) -> Result<(), Status> {
        let Some(object) = self.known.get(name).cloned() else {
            if let Some((group, plural, _)) = self.served.remove(name) {
                self.registry.remove(&group, &plural).await;
                tracing::info!(definition = %name, "custom resource is no longer served");
            }
            return Ok(());
        };
        let definition = match Definition::parse(&object) {
            Ok(definition) => Arc::new(definition),
            Err(errors) => {
                // It was checked before it was stored; a later release may be stricter.
                let errors: Vec<_> = errors.iter().map(ToString::to_string).collect();
                tracing::error!(definition = %name, ?errors, "a stored definition can't be served");
                return Ok(());
            }
        };
        if metadata::is_deleting(&object) {
            self.serve(name, &object, &definition).await?;
            let ends = metadata::finalizers(&object).contains(&CLEANUP);
            if ends {
                let ending = end(self.registry.clone(), name.to_owned(), definition);
                self.endings.spawn(ending);
            }
            return Ok(());
        }
        let now = Timestamp::now();
        let others = self.known.iter().filter(|(other, _)| *other != name);
        let others: Vec<_> = others.map(|(_, other)| other).collect();
        let status = definition.status(&names::taken(&object, &others), object.get("status"), now);
        if names::is_established(&status) {
            self.serve(name, &object, &definition).await?;
        }
        if status != object["status"] {
            let changed = write_status(&self.registry, name, &status).await?;
            self.known.insert(name.to_owned(), changed);
        }
        Ok(())
    }

    /// Has the table serve what is defined.
    async fn serve(&mut self, name: &str, object: &Value, definition: &Arc<Definition>) -> Result<(), Status> {
        let spec = &object["spec"];
        let (group, plural) = (definition.group.clone(), definition.names.plural.clone());
        match self.served.get(name) {
            Some((_, _, served)) if served == spec => return Ok(()),
            // A version that is no longer served must go.
            Some(_) => self.registry.remove(&group, &plural).await,
            None => {}
        }
        let table = self.registry.table();
        let is_builtin = |row: &crate::Resource| {
            let known = table.get(&row.group, &row.version, &row.plural);
            known.is_some_and(|known| known.custom.is_none())
        };
        let rows: Vec<_> = rows::rows(definition)
            .into_iter()
            .filter(|row| !is_builtin(row))
            .collect();
        self.registry.add(rows).await.map_err(Status::internal)?;
        self.served.insert(name.to_owned(), (group, plural, spec.clone()));
        tracing::info!(definition = %name, "custom resource is served");
        Ok(())
    }
}

/// A request about a definition.
fn request(registry: &Registry, verb: &'static str, name: &str, subresource: &str) -> Result<Request, Status> {
    let table = registry.table();
    let row = table
        .stored(GROUP, PLURAL)
        .ok_or_else(|| Status::not_found(GROUP, PLURAL, name))?;
    let mut request = own_request(row, verb, "", name, Timestamp::now());
    subresource.clone_into(&mut request.subresource);
    Ok(request)
}

/// Writes a definition's status; the definition as it is then.
async fn write_status(registry: &Registry, name: &str, status: &Value) -> Result<Value, Status> {
    let request = request(registry, "patch", name, "status")?;
    let patch = json!({ "status": status });
    let written = registry
        .patch(&request, PatchType::Merge, patch.into(), &WriteOptions::default())
        .await?;
    serde_json::from_slice(&written.json).map_err(Status::internal)
}

/// Removes all objects of a definition that is being deleted, then lets it go. Tries until it is done.
async fn end(registry: Arc<Registry>, name: String, definition: Arc<Definition>) {
    loop {
        match try_end(&registry, &name, &definition).await {
            Ok(()) => return,
            Err(status) if status.reason == Reason::NotFound => return,
            Err(error) => {
                tracing::warn!(definition = %name, %error, "its objects are not gone yet; trying again");
                sleep(RETRY).await;
            }
        }
    }
}

async fn try_end(registry: &Registry, name: &str, definition: &Definition) -> Result<(), Status> {
    let get = request(registry, "get", name, "")?;
    let object = registry.get(&get, &ListOptions::default()).await?;
    let object: Value = serde_json::from_slice(&object).map_err(Status::internal)?;
    if !metadata::is_deleting(&object) || !metadata::finalizers(&object).contains(&CLEANUP) {
        return Ok(());
    }
    let table = registry.table();
    let row = table.stored(&definition.group, &definition.names.plural);
    if let Some(row) = row.filter(|row| row.custom.is_some()) {
        let now = Timestamp::now();
        let mut status = object["status"].clone();
        names::terminating(&mut status, &metadata::time(now));
        if status != object["status"] {
            write_status(registry, name, &status).await?;
        }
        let all = own_request(row, "deletecollection", "", "", now);
        registry
            .delete_collection(&all, &ListOptions::default(), &DeleteOptions::default())
            .await?;
        // Those that finalizers hold go when these are removed.
        let mut follow = registry.follow(&definition.group, &definition.names.plural)?;
        let cache = registry.cache(row)?;
        cache.catch_up().await.map_err(Status::internal)?;
        while !cache.is_empty() {
            follow.next().await;
        }
    }
    let left: Vec<_> = metadata::finalizers(&object)
        .into_iter()
        .filter(|one| *one != CLEANUP)
        .collect();
    let patch = json!({ "metadata": { "finalizers": left, "uid": object["metadata"]["uid"] } });
    let request = request(registry, "patch", name, "")?;
    registry
        .patch(&request, PatchType::Merge, patch.into(), &WriteOptions::default())
        .await
        .map(drop)
}
