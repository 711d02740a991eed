//! The task that follows the store for all caches.

use std::{collections::BTreeMap, ops::Bound, sync::Arc, time::Duration};

use bosun_store::{Error, Event, KeyRange, Revision, Store, WatchBatch};
use parking_lot::RwLock;
use tokio::sync::watch;

use super::{Cache, Fields, Limits};
use crate::transform::Transformer;

/// What all objects' keys begin with.
pub const ROOT: &str = "/registry/";
/// How many objects are read at once while caches are loaded.
const PAGE: usize = 5000;
/// How far back the caches begin, in revisions: the store reads a state of the past at the cost of what changed since.
const LOOK_BACK: u64 = 5000;
/// How long to wait before the store is asked again after it failed.
const RETRY: Duration = Duration::from_millis(500);

/// All caches, and how far they have come.
pub struct Feed {
    store: Arc<dyn Store>,
    caches: RwLock<BTreeMap<Arc<str>, Arc<Cache>>>,
    reached: watch::Sender<Revision>,
    /// Told when a cache comes.
    came: watch::Sender<()>,
    limits: Limits,
}

impl Feed {
    /// One that begins a little in the past, as far as the store still knows it, so that watches that a restart of the
    /// server has cut can go on where they ended. [`Feed::run`] catches up.
    pub async fn new(store: Arc<dyn Store>, limits: Limits) -> Result<Self, Error> {
        let latest = store.revision().await?;
        let wanted = Revision(latest.0.saturating_sub(LOOK_BACK).max(1)).min(latest);
        let start = match store.range(KeyRange::prefix(ROOT), 1, Some(wanted)).await {
            Ok(_) => wanted,
            Err(Error::Compacted { oldest, .. }) => oldest.min(latest),
            Err(error) => return Err(error),
        };
        Ok(Self {
            store,
            caches: RwLock::default(),
            reached: watch::Sender::new(start),
            came: watch::Sender::new(()),
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

    /// Makes the cache of a prefix, to be loaded; the one there is, if there is one.
    pub fn register(&self, prefix: &Arc<str>, fields: Fields, transformer: Arc<dyn Transformer>) -> Arc<Cache> {
        let mut caches = self.caches.write();
        let make = || {
            Arc::new(Cache::new(
                prefix.clone(),
                fields,
                transformer,
                self.store.clone(),
                self.reached.subscribe(),
                self.limits,
            ))
        };
        caches.entry(prefix.clone()).or_insert_with(make).clone()
    }

    /// Makes the cache of a prefix, loaded; the one there is, if there is one.
    pub async fn add(
        &self,
        prefix: Arc<str>,
        fields: Fields,
        transformer: Arc<dyn Transformer>,
    ) -> Result<Arc<Cache>, Error> {
        if let Some(cache) = self.cache(&prefix) {
            return Ok(cache);
        }
        // From here on it keeps what comes.
        let cache = self.register(&prefix, fields, transformer);
        match self
            .load(KeyRange::prefix(prefix.to_string()), std::slice::from_ref(&cache), None)
            .await
        {
            Ok(()) => {
                self.came.send_replace(());
                Ok(cache)
            }
            Err(error) => {
                self.caches.write().remove(&prefix);
                Err(error)
            }
        }
    }

    /// Loads all caches as of where the feed begins; to be called before [`Feed::run`].
    pub async fn load_all(&self) -> Result<(), Error> {
        let start = self.reached();
        match self.load(KeyRange::prefix(ROOT), &self.caches(), Some(start)).await {
            // Compacted while we looked.
            Err(Error::Compacted { .. }) => self.load(KeyRange::prefix(ROOT), &self.caches(), None).await,
            other => other,
        }
    }

    /// The cache of a prefix, once there is one.
    pub async fn served(&self, prefix: &str) -> Arc<Cache> {
        let mut came = self.came.subscribe();
        loop {
            if let Some(cache) = self.cache(prefix) {
                return cache;
            }
            came.changed().await.expect("the sender is this feed's own");
        }
    }

    /// Drops the cache of a prefix, and its watches.
    pub fn remove(&self, prefix: &str) {
        if let Some(cache) = self.caches.write().remove(prefix) {
            cache.load(Vec::new(), self.reached());
        }
    }

    /// Reads `range` as of `at`, or of now, into `caches`, which are sorted.
    async fn load(&self, mut range: KeyRange, caches: &[Arc<Cache>], mut at: Option<Revision>) -> Result<(), Error> {
        let mut caches = caches.iter().peekable();
        let mut own = Vec::new();
        loop {
            let page = self.store.range(range.clone(), PAGE, at).await?;
            let revision = *at.get_or_insert(page.revision);
            if let Some(last) = page.kvs.last() {
                range.start = [&last.key[..], &[0]].concat().into();
            }
            for kv in page.kvs {
                // All caches before this key have theirs.
                while let Some(cache) = caches.next_if(|cache| is_past(cache, &kv.key)) {
                    cache.load(std::mem::take(&mut own), revision);
                }
                if caches
                    .peek()
                    .is_some_and(|cache| kv.key.starts_with(cache.prefix().as_bytes()))
                {
                    own.push(kv);
                }
            }
            if !page.more {
                for cache in caches {
                    cache.load(std::mem::take(&mut own), revision);
                }
                return Ok(());
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
        self.load(KeyRange::prefix(ROOT), &caches, None).await?;
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

/// Whether `key` comes after all keys of the cache.
fn is_past(cache: &Cache, key: &[u8]) -> bool {
    let prefix = cache.prefix().as_bytes();
    key > prefix && !key.starts_with(prefix)
}

fn key(event: &Event) -> &[u8] {
    match event {
        Event::Put { kv } => &kv.key,
        Event::Delete { key, .. } => key,
    }
}
