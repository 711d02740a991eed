//! What reads and watches are answered from: for each storage prefix, every object as encoded JSON.
//!
//! ```text
//!  Store ──watch──▶ feed (one task) ──▶ Cache: objects by key, window of changes
//!                      │                  │
//!                      └─ reached ──▶ whoever waits   └─ matching watchers ──(bounded queue each)──▶ Watch
//! ```
//!
//! One task follows the store for all caches, so there is one order and one revision that all of them have reached. A
//! change is kept once and shared: by the list of objects, the window that later watches and pages of lists look back
//! through, and the queues of all watchers. A watcher whose queue is full is cut off.
//!
//! - [`entry`], [`project`]: an object as it is cached.
//! - [`state`]: objects and window, and what they were at an earlier revision; pure.
//! - [`watchers`]: who is told of a change.
//! - [`watch`]: one watch, as the HTTP front reads it.
//! - [`feed`]: the task.

pub mod entry;
pub mod feed;
pub mod project;
pub mod state;
pub mod watch;
pub mod watchers;

use std::{fmt, sync::Arc, time::Duration};

use bosun_store::{Event, KeyRange, KeyValue, Revision, Store};
use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use tokio::sync::watch as tokio_watch;

pub use entry::{Entry, EntryError};
pub use feed::Feed;
pub use project::{Fields, Projection};
pub use state::{Change, Kind, Limits};
pub use watch::{Watch, WatchEvent, WatchOptions};
pub use watchers::{Interest, Selection};

use crate::transform::Transformer;
use state::State;
use watch::Initial;
use watchers::Watchers;

/// How long a read waits for the cache to catch up with the store, as upstream.
pub const FRESHNESS: Duration = Duration::from_secs(3);

/// Why a cache can't answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CacheError {
    /// What happened since that revision is no longer known.
    #[error("too old resource version: {asked} ({oldest})")]
    TooOld {
        /// From where.
        asked: Revision,
        /// The oldest that is possible.
        oldest: Revision,
    },
    /// The cache did not reach that revision in time.
    #[error("Too large resource version: {asked}, current: {current}")]
    TooLarge {
        /// What was asked for.
        asked: Revision,
        /// Where the cache is.
        current: Revision,
    },
    /// The store did not answer.
    #[error(transparent)]
    Store(#[from] bosun_store::Error),
    /// What is stored is no object.
    #[error("{key}: {why}")]
    Damaged {
        /// Its key.
        key: String,
        /// As far as is known.
        why: String,
    },
}

/// The objects of one storage prefix.
pub struct Cache {
    prefix: Arc<str>,
    fields: Fields,
    transformer: Arc<dyn Transformer>,
    store: Arc<dyn Store>,
    reached: tokio_watch::Receiver<Revision>,
    state: RwLock<State>,
    watchers: Mutex<Watchers>,
}

/// What a list gives.
#[derive(Debug)]
pub struct Listing {
    /// The revision at which this was so.
    pub revision: Revision,
    /// In the order of their keys.
    pub entries: Arc<[Arc<Entry>]>,
    /// Whether the limit cut it off.
    pub more: bool,
    /// How many there are beyond the limit, selected or not.
    pub remaining: usize,
}

/// Which objects a list is about.
#[derive(Clone, Debug, Default)]
pub struct Scan<'a> {
    /// Only keys with this prefix: `<namespace>/`.
    pub under: &'a str,
    /// Only keys from this one on.
    pub start: Option<&'a str>,
    /// Only so many; 0: all.
    pub limit: usize,
    /// Only these.
    pub selection: Selection,
}

impl fmt::Debug for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache")
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
    }
}

impl Cache {
    pub(crate) fn new(
        prefix: Arc<str>,
        fields: Fields,
        transformer: Arc<dyn Transformer>,
        store: Arc<dyn Store>,
        reached: tokio_watch::Receiver<Revision>,
        limits: Limits,
    ) -> Self {
        Self {
            prefix,
            fields,
            transformer,
            store,
            reached,
            state: RwLock::new(State::new(limits)),
            watchers: Mutex::new(Watchers::default()),
        }
    }

    /// Where its objects are stored.
    pub fn prefix(&self) -> &Arc<str> {
        &self.prefix
    }

    /// The place of a field among those that are kept.
    pub fn field(&self, path: &str) -> Option<usize> {
        self.fields.place(path)
    }

    /// The store's key of an object.
    pub fn store_key(&self, key: &str) -> Bytes {
        Bytes::from([&*self.prefix, key].concat())
    }

    /// The revision up to which it knows everything.
    pub fn revision(&self) -> Revision {
        let reached = *self.reached.borrow();
        reached.max(self.state.read().loaded())
    }

    /// How many objects there are.
    pub fn len(&self) -> usize {
        self.state.read().objects().len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// An object as it is cached, perhaps behind the store.
    pub fn peek(&self, key: &str) -> Option<Arc<Entry>> {
        self.state.read().objects().get(key).cloned()
    }

    /// An object as it is in the store.
    pub async fn stored(&self, key: &str) -> Result<Option<Arc<Entry>>, CacheError> {
        match self.store.get(self.store_key(key)).await? {
            Some(kv) => Ok(Some(Arc::new(self.entry(&kv)?))),
            None => Ok(None),
        }
    }

    /// Waits until everything is known that was acknowledged before the call.
    pub async fn catch_up(&self) -> Result<Revision, CacheError> {
        let latest = self.store.revision().await?;
        self.reach(latest).await
    }

    /// Waits until the cache has reached `revision`.
    pub async fn reach(&self, revision: Revision) -> Result<Revision, CacheError> {
        let current = self.revision();
        if current >= revision {
            return Ok(current);
        }
        self.store.nudge().await?;
        let mut reached = self.reached.clone();
        let wait = tokio::time::timeout(FRESHNESS, reached.wait_for(|now| *now >= revision));
        match wait.await {
            Ok(Ok(now)) => Ok(*now),
            Ok(Err(_)) | Err(_) => Err(CacheError::TooLarge {
                asked: revision,
                current: self.revision(),
            }),
        }
    }

    /// What there is now.
    pub fn list(&self, scan: &Scan<'_>) -> Listing {
        // Read before the state: what the state has can only be newer, and then has its own revision.
        let reached = *self.reached.borrow();
        let state = self.state.read();
        let revision = reached.max(state.revision());
        let start = scan.start.unwrap_or(scan.under).max(scan.under);
        let entries = state.from(start, scan.under);
        // Whatever is looked at is looked at without holding up the feed.
        drop(state);
        if scan.limit == 0 && scan.selection.is_everything() {
            return Listing {
                revision,
                entries,
                more: false,
                remaining: 0,
            };
        }
        cut(entries.iter(), scan, revision)
    }

    /// What there was at `revision`.
    pub async fn list_at(&self, revision: Revision, scan: &Scan<'_>) -> Result<Listing, CacheError> {
        self.reach(revision).await?;
        if let Some(entries) = self
            .state
            .read()
            .at(revision, scan.start.unwrap_or(scan.under).max(scan.under))
        {
            return Ok(cut(entries.iter(), scan, revision));
        }
        let mut range = KeyRange::prefix([self.prefix.as_bytes(), scan.under.as_bytes()].concat());
        if let Some(start) = scan.start.filter(|start| *start > scan.under) {
            range.start = self.store_key(start);
        }
        let read = self
            .store
            .range(range, 0, Some(revision))
            .await
            .map_err(|error| match error {
                bosun_store::Error::Compacted { asked, oldest } => CacheError::TooOld { asked, oldest },
                other => other.into(),
            })?;
        let entries: Result<Vec<_>, _> = read.kvs.iter().map(|kv| self.entry(kv).map(Arc::new)).collect();
        Ok(cut(entries?.iter(), scan, revision))
    }

    /// Begins a watch of `selection`.
    pub fn watch(self: &Arc<Self>, selection: Selection, options: WatchOptions) -> Result<Watch, CacheError> {
        // In this order, so that no change falls between what the state has and what the queue gets.
        let mut watchers = self.watchers.lock();
        let state = self.state.read();
        let (initial, missed, revision) = match options.from {
            None => {
                let under = selection.under();
                (state.from(&under, &under), Vec::new(), state.revision())
            }
            Some(from) => {
                let missed = state.since(from)?;
                let missed = missed.filter_map(|change| Some((selection.outcome(change)?, change.clone())));
                (Arc::new([]) as Arc<[_]>, missed.collect(), from)
            }
        };
        drop(state);
        let (ticket, queue) = watchers.add(selection.clone());
        drop(watchers);
        let initial = Initial::new(initial, selection);
        Ok(Watch::new(
            self.clone(),
            ticket,
            queue,
            initial,
            missed,
            revision,
            options,
        ))
    }

    /// How many watches there are.
    pub fn watches(&self) -> usize {
        self.watchers.lock().len()
    }

    fn entry(&self, kv: &KeyValue) -> Result<Entry, CacheError> {
        let damaged = |why: String| CacheError::Damaged {
            key: String::from_utf8_lossy(&kv.key).into_owned(),
            why,
        };
        let key = std::str::from_utf8(&kv.key)
            .ok()
            .and_then(|key| key.strip_prefix(&*self.prefix))
            .ok_or_else(|| damaged("its key is not one of this prefix".into()))?;
        let plain = self
            .transformer
            .open(&kv.key, kv.value.clone())
            .map_err(|error| damaged(error.to_string()))?;
        Entry::new(key.into(), &plain, kv.modified, &self.fields).map_err(|error| damaged(error.to_string()))
    }

    /// Replaces everything by what was read at `revision`, and ends all watches, which can't be told what happened
    /// between. What came meanwhile is applied.
    pub(crate) fn load(&self, kvs: impl IntoIterator<Item = KeyValue>, revision: Revision) {
        let entries = kvs.into_iter().filter_map(|kv| match self.entry(&kv) {
            Ok(entry) => Some(Arc::new(entry)),
            Err(error) => {
                tracing::error!(%error, "an object can't be read and is left out");
                None
            }
        });
        let entries: Vec<_> = entries.collect();
        let mut watchers = self.watchers.lock();
        watchers.clear();
        let missed = self.state.write().load(entries, revision);
        self.take(&mut watchers, missed);
    }

    /// Has it keep what comes until [`Cache::load`].
    pub(crate) fn unload(&self) {
        self.state.write().unload();
    }

    /// Takes changes of its prefix, whole revisions in their order.
    pub(crate) fn apply(&self, events: Vec<Event>) {
        self.take(&mut self.watchers.lock(), events);
    }

    fn take(&self, watchers: &mut Watchers, events: Vec<Event>) {
        let Some(events) = self.state.write().defer(events) else {
            return;
        };
        let read: Vec<_> = events.into_iter().map(|event| self.read(event)).collect();
        // At once, so that no list sees half of a transaction.
        let changes: Vec<_> = {
            let mut state = self.state.write();
            read.into_iter()
                .filter_map(|(key, revision, new)| state.apply(&key, revision, new))
                .collect()
        };
        for change in &changes {
            watchers.tell(change);
        }
    }

    fn read(&self, event: Event) -> (Arc<str>, Revision, Option<Arc<Entry>>) {
        let own = |key: &Bytes| -> Arc<str> {
            let key = String::from_utf8_lossy(key);
            key.strip_prefix(&*self.prefix).unwrap_or(&key).into()
        };
        match event {
            Event::Delete { key, revision } => (own(&key), revision, None),
            Event::Put { kv } => match self.entry(&kv) {
                Ok(entry) => (entry.key().clone(), kv.modified, Some(Arc::new(entry))),
                Err(error) => {
                    // Whatever was there before is no longer what is stored.
                    tracing::error!(%error, "a changed object can't be read and is left out");
                    (own(&kv.key), kv.modified, None)
                }
            },
        }
    }

    pub(crate) fn forget(&self, ticket: &watchers::Ticket) {
        self.watchers.lock().remove(ticket);
    }
}

fn cut<'a>(entries: impl Iterator<Item = &'a Arc<Entry>>, scan: &Scan<'_>, revision: Revision) -> Listing {
    let mut entries = entries.take_while(|entry| entry.key().starts_with(scan.under));
    let selected = entries.by_ref().filter(|entry| scan.selection.matches(entry)).cloned();
    let (entries, more, remaining) = if scan.limit == 0 {
        (selected.collect::<Arc<[_]>>(), false, 0)
    } else {
        let mut selected = selected;
        let first: Vec<_> = selected.by_ref().take(scan.limit).collect();
        let next = selected.next();
        drop(selected);
        let more = next.is_some();
        (
            first.into(),
            more,
            usize::from(more) + if more { entries.count() } else { 0 },
        )
    };
    Listing {
        revision,
        entries,
        more,
        remaining,
    }
}
