//! The task that follows the store for all caches.

use std::{collections::BTreeMap, ops::Bound, sync::Arc, time::Duration};

use bosun_store::{Error, Event, KeyRange, Revision, Store, WatchBatch};
use parking_lot::RwLock;
use tokio::sync::watch;

use super::{Cache, Fields, Limits};
use crate::transform::Transformer;

/// What all objects' keys begin with.
pub const ROOT: &str = "/registry/";
/// How many objects are read at once while a cache is loaded.
const PAGE: usize = 1000;
/// How long to wait before the store is asked again after it failed.
const RETRY: Duration = Duration::from_millis(500);

/// All caches, and how far they have come.
pub struct Feed {
    store: Arc<dyn Store>,
    caches: RwLock<BTreeMap<Arc<str>, Arc<Cache>>>,
    reached: watch::Sender<Revision>,
    limits: Limits,
}

impl Feed {
    /// One that begins a little in the past, as far as the store still knows it, so that watches that a restart of the
    /// server has cut can go on where they ended. [`Feed::run`] catches up.
    pub async fn new(store: Arc<dyn Store>, limits: Limits) -> Result<Self, Error> {
        let latest = store.revision().await?;
        let wanted = Revision(latest.0.saturating_sub(limits.changes as u64).max(1)).min(latest);
        let start = match store.range(KeyRange::prefix(ROOT), 1, Some(wanted)).await {
            Ok(_) => wanted,
            Err(Error::Compacted { oldest, .. }) => oldest.min(latest),
            Err(error) => return Err(error),
        };
        Ok(Self {
            store,
            caches: RwLock::default(),
            reached: watch::Sender::new(start),
            limits,
        })
    }

    /// The revision that all caches have reached.
    pub fn reached(&self) -> Revision {
        *self.reached.borrow()
    }

    /// The cache of a prefix, if there is one.
    pub fn cache(&self, prefix: &str) -> Option<Arc<Cache>> {
        self.caches.read().get(prefix).cloned()
    }

    /// All caches.
    pub fn caches(&self) -> Vec<Arc<Cache>> {
        self.caches.read().values().cloned().collect()
    }

    /// Makes the cache of a prefix, loaded as of `at`, which only [`Feed::run`] may not have passed yet, or of now; the one
    /// there is, if there is one.
    pub async fn add(
        &self,
        prefix: Arc<str>,
        fields: Fields,
        transformer: Arc<dyn Transformer>,
        at: Option<Revision>,
    ) -> Result<Arc<Cache>, Error> {
        if let Some(cache) = self.cache(&prefix) {
            return Ok(cache);
        }
        let cache = Arc::new(Cache::new(
            prefix.clone(),
            fields,
            transformer,
            self.store.clone(),
            self.reached.subscribe(),
            self.limits,
        ));
        // From here on it keeps what comes.
        self.caches.write().insert(prefix.clone(), cache.clone());
        match self.load(&cache, at).await {
            Ok(()) => Ok(cache),
            Err(error) => {
                self.caches.write().remove(&prefix);
                Err(error)
            }
        }
    }

    /// Drops the cache of a prefix, and its watches.
    pub fn remove(&self, prefix: &str) {
        if let Some(cache) = self.caches.write().remove(prefix) {
            cache.load(Vec::new(), self.reached());
        }
    }

    async fn load(&self, cache: &Cache, at: Option<Revision>) -> Result<(), Error> {
        match self.load_at(cache, at).await {
            // Compacted while we looked.
            Err(Error::Compacted { .. }) => self.load_at(cache, None).await,
            other => other,
        }
    }

    async fn load_at(&self, cache: &Cache, mut at: Option<Revision>) -> Result<(), Error> {
        let mut range = KeyRange::prefix(cache.prefix().to_string());
        let mut kvs = Vec::new();
        loop {
            let page = self.store.range(range.clone(), PAGE, at).await?;
            let revision = at.unwrap_or(page.revision);
            at = Some(revision);
            let next = page.kvs.last().map(|last| [&last.key[..], &[0]].concat());
            kvs.extend(page.kvs);
            match next {
                Some(next) if page.more => range.start = next.into(),
                _ => {
                    cache.load(kvs, revision);
                    return Ok(());
                }
            }
        }
    }

    /// Follows the store until dropped. A lost watch is begun again where it ended; where that is no longer possible, all
    /// caches are loaded anew and their watches end.
    pub async fn run(&self) {
        loop {
            let from = self.reached();
            let error = match self.store.watch(KeyRange::prefix(ROOT), from).await {
                Ok(mut watch) => loop {
                    match watch.recv().await {
                        Some(Ok(batch)) => self.take(batch),
                        Some(Err(error)) => break error,
                        None => break Error::Unavailable("the watch ended".into()),
                    }
                },
                Err(error) => error,
            };
            match error {
                Error::Lagging => tracing::debug!(%from, "the caches lag behind the store"),
                Error::Compacted { .. } => {
                    tracing::warn!(%error, "the caches have lost track and are loaded anew");
                    self.recover().await;
                }
                _ => {
                    tracing::warn!(%error, "following the store failed");
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }

    /// Loads everything anew, until that succeeds.
    pub(crate) async fn recover(&self) {
        while let Err(error) = self.reload().await {
            tracing::error!(%error, "the caches can't be loaded");
            tokio::time::sleep(RETRY).await;
        }
    }

    async fn reload(&self) -> Result<(), Error> {
        let revision = self.store.revision().await?;
        let caches = self.caches();
        for cache in &caches {
            cache.unload();
        }
        for cache in &caches {
            self.load(cache, None).await?;
        }
        self.reach(revision);
        Ok(())
    }

    fn take(&self, batch: WatchBatch) {
        let mut events = batch.events.into_iter().peekable();
        while let Some(event) = events.next() {
            let Some(cache) = self.whose(key(&event)) else {
                continue;
            };
            let mut run = vec![event];
            while let Some(event) = events.next_if(|event| key(event).starts_with(cache.prefix().as_bytes())) {
                run.push(event);
            }
            cache.apply(run);
        }
        self.reach(batch.revision);
    }

    fn reach(&self, revision: Revision) {
        self.reached.send_if_modified(|reached| {
            let further = revision > *reached;
            *reached = revision.max(*reached);
            further
        });
    }

    fn whose(&self, key: &[u8]) -> Option<Arc<Cache>> {
        let key = std::str::from_utf8(key).ok()?;
        let caches = self.caches.read();
        let (prefix, cache) = caches
            .range::<str, _>((Bound::Unbounded, Bound::Included(key)))
            .next_back()?;
        key.starts_with(&**prefix).then(|| cache.clone())
    }
}

fn key(event: &Event) -> &[u8] {
    match event {
        Event::Put { kv } => &kv.key,
        Event::Delete { key, .. } => key,
    }
}
