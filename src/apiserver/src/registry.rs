//! The engine: every operation of every kind, built in or custom, on one table.
//!
//! ```text
//!  request ─▶ row of the table ─▶ decode, default ─▶ admission ─▶ strategy ─▶ admission ─▶ one transaction ─▶ Store
//!                                    ▲                                                                    │
//!                                    └── object as it is ◀── Cache ◀────────────── feed ◀──────────────────┘
//! ```
//!
//! Writes decide on the object as it is cached, and commit on the condition that it is still so; if not, or if they would
//! refuse for what they saw, they look into the store and decide anew. What is answered is the bytes that were stored.
//!
//! - [`table`], [`builtin`], [`fields`]: the rows.
//! - [`read`]: get, list, watch; [`continuation`]: pages of lists; [`follow`]: for what follows a kind in this process.
//! - [`write`]: what all writes share; [`create`], [`update`] (replace, patch, apply), [`delete`].
//! - [`metadata`]: what is the engine's in every object; [`shape`]: objects as types want them.
//! - [`subresource`]: binding, eviction; [`scale`].
//! - [`services`]: the addresses and node ports that Services get.
//! - [`reseal`]: what was encrypted with a former key.
//! - [`servers`]: the servers there are on one store.
//! - [`namespace`]: life and death of namespaces; [`convert`]: versions of one stored object.

pub mod builtin;
mod continuation;
pub mod convert;
mod create;
mod delete;
pub mod fields;
pub mod follow;
pub mod metadata;
mod namespace;
mod read;
mod reseal;
mod rules;
mod scale;
mod servers;
pub mod services;
mod shape;
mod subresource;
pub mod table;
mod update;
mod write;

use std::{collections::HashMap, sync::Arc};

use arc_swap::ArcSwap;
use bosun_store::Store;
use parking_lot::RwLock;
use tokio::task::JoinSet;

pub use delete::Deleted;
pub use follow::{Follow, Followed};
pub use namespace::{IMMORTAL, own_request};
pub use read::{List, Watching};
pub use services::{IpRange, ServiceConfig};
pub use table::Table;
pub use write::Written;

use crate::{
    Resource, Status,
    admission::{Admission, AdmitAll},
    cache::{Cache, CacheError, Feed, Limits},
    transform::{Plain, Transformer},
};

/// What the engine is told at its start.
#[derive(Default)]
pub struct Config {
    /// How objects are stored, by storage prefix; those that are not listed plainly.
    pub transformers: HashMap<Arc<str>, Arc<dyn Transformer>>,
    /// How much of the past each cache keeps.
    pub limits: Limits,
    /// What Services are given.
    pub services: ServiceConfig,
}

/// Why a row can't be served.
#[derive(Debug, thiserror::Error)]
pub enum RowError {
    /// What is stored can't be read.
    #[error("reading what is stored")]
    Store(#[from] bosun_store::Error),
    /// A selectable field's path has an empty part.
    #[error("{0:?} is not the path of a field")]
    Path(String),
}

/// See the module.
pub struct Registry {
    store: Arc<dyn Store>,
    feed: Arc<Feed>,
    table: ArcSwap<Table>,
    admission: RwLock<Arc<dyn Admission>>,
    config: Config,
    /// Rows come and go one at a time.
    changing: tokio::sync::Mutex<()>,
    tasks: JoinSet<()>,
}

impl Registry {
    /// The engine on a store, with rows; their objects are in the caches when it returns. Runs until dropped.
    pub async fn open(
        store: Arc<dyn Store>,
        rows: impl IntoIterator<Item = Arc<Resource>>,
        config: Config,
    ) -> Result<Arc<Self>, RowError> {
        let feed = Arc::new(Feed::new(store.clone(), config.limits).await?);
        let mut registry = Self {
            store,
            feed,
            table: ArcSwap::from_pointee(Table::new(rows)),
            admission: RwLock::new(Arc::new(AdmitAll)),
            config,
            changing: tokio::sync::Mutex::default(),
            tasks: JoinSet::new(),
        };
        let table = registry.table();
        for row in table.rows() {
            let fields = fields::kept(&table, row)?;
            registry
                .feed
                .register(&row.prefix, fields, registry.transformer(&row.prefix));
        }
        registry.feed.load_all().await?;
        // Only now: nothing that happened after the start may be passed before all caches are there to take it.
        registry.tasks.spawn(follow_store(registry.feed.clone()));
        if let Some(cache) = registry.caches().first() {
            cache.catch_up().await.map_err(|error| match error {
                CacheError::Store(error) => error,
                other => bosun_store::Error::Unavailable(other.to_string()),
            })?;
        }
        Ok(Arc::new(registry))
    }

    /// What is served now.
    pub fn table(&self) -> Arc<Table> {
        self.table.load_full()
    }

    /// The store below.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// Has changes asked of `admission` from now on.
    pub fn admit_with(&self, admission: Arc<dyn Admission>) {
        *self.admission.write() = admission;
    }

    fn admission(&self) -> Arc<dyn Admission> {
        self.admission.read().clone()
    }

    /// Serves more rows, or other ones in the place of those of the same name.
    pub async fn add(&self, rows: impl IntoIterator<Item = Arc<Resource>>) -> Result<(), RowError> {
        let _one = self.changing.lock().await;
        let rows: Vec<_> = rows.into_iter().collect();
        let old = self.table();
        let table = Table::new(old.rows().iter().chain(&rows).cloned());
        for row in &rows {
            // A cache that lacks a field is made anew.
            let known = self.feed.cache(&row.prefix);
            let lacks = |cache: &Cache| row.selectable.iter().any(|field| cache.field(&field.path).is_none());
            if known.is_some_and(|cache| lacks(&cache)) {
                self.feed.remove(&row.prefix);
            }
            self.load(&table, row).await?;
        }
        self.table.store(Arc::new(table));
        Ok(())
    }

    /// Serves all versions of a resource no longer. Its objects stay stored.
    pub async fn remove(&self, group: &str, plural: &str) {
        let _one = self.changing.lock().await;
        let old = self.table();
        let (gone, left): (Vec<_>, Vec<_>) = old
            .rows()
            .iter()
            .cloned()
            .partition(|row| &*row.group == group && &*row.plural == plural);
        let table = Table::new(left);
        for row in gone {
            if table.versions(&row.prefix).next().is_none() {
                self.feed.remove(&row.prefix);
            }
        }
        self.table.store(Arc::new(table));
    }

    async fn load(&self, table: &Table, row: &Resource) -> Result<(), RowError> {
        let fields = fields::kept(table, row)?;
        let transformer = self.transformer(&row.prefix);
        self.feed.add(row.prefix.clone(), fields, transformer).await?;
        Ok(())
    }

    fn transformer(&self, prefix: &str) -> Arc<dyn Transformer> {
        self.config
            .transformers
            .get(prefix)
            .cloned()
            .unwrap_or_else(|| Arc::new(Plain))
    }

    /// The cache of a row.
    pub fn cache(&self, row: &Resource) -> Result<Arc<Cache>, Status> {
        self.feed.cache(&row.prefix).ok_or_else(|| {
            Status::new(
                crate::Reason::NotFound,
                "the server could not find the requested resource",
            )
        })
    }

    /// All caches, for metrics.
    pub fn caches(&self) -> Vec<Arc<Cache>> {
        self.feed.caches()
    }
}

/// Keeps the caches following the store, also after a fault of the program in one of them.
async fn follow_store(feed: Arc<Feed>) {
    loop {
        let task = feed.clone();
        let mut one = JoinSet::new();
        one.spawn(async move { task.run().await });
        match one.join_next().await {
            Some(Err(error)) if error.is_panic() => {
                tracing::error!(%error, "following the store broke off; the caches are loaded anew");
                feed.recover().await;
            }
            _ => return,
        }
    }
}

#[cfg(test)]
mod tests;
