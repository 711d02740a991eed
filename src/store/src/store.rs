//! [`Store`]: what the API server needs of a store, in the terms of etcd v3, of which it is a part.

use std::{fmt, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::mpsc;

/// The number of a committed transaction; 0 comes before the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(pub u64);

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A key with its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyValue {
    /// Not empty.
    pub key: Bytes,
    /// What was put.
    pub value: Bytes,
    /// Of the put that made it, after it was absent.
    pub created: Revision,
    /// Of the last put.
    pub modified: Revision,
}

/// Keys from `start` up to, and without, `end`, in the order of their bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRange {
    /// The first.
    pub start: Bytes,
    /// Beyond the last.
    pub end: Bytes,
}

impl KeyRange {
    /// All keys that start so. The prefix must not be empty nor all `0xff`.
    pub fn prefix(prefix: impl Into<Bytes>) -> Self {
        let start = prefix.into();
        let mut end = start.to_vec();
        while end.last() == Some(&0xff) {
            end.pop();
        }
        *end.last_mut().expect("a prefix with an end") += 1;
        Self { start, end: end.into() }
    }
}

/// What must hold for a transaction to commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Compare {
    /// The key was last put at this revision; 0: it is absent.
    Modified(Bytes, Revision),
}

/// A change of one key. A transaction changes a key at most once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Sets the value. With a time to live, in whole seconds at least, the store deletes the key when that has passed
    /// since this put (never before, and not much later).
    Put {
        /// Not empty.
        key: Bytes,
        /// Up to 1.5 MiB.
        value: Bytes,
        /// `None`: for ever.
        ttl: Option<Duration>,
    },
    /// Removes the key; nothing if it is absent.
    Delete {
        /// Not empty.
        key: Bytes,
    },
}

/// Changes that happen together, at one revision, if all compares hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Txn {
    /// What must hold.
    pub compares: Vec<Compare>,
    /// What is done then.
    pub ops: Vec<Op>,
}

/// The answer to a range read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Range {
    /// In the order of their keys.
    pub kvs: Vec<KeyValue>,
    /// Whether the limit cut it off.
    pub more: bool,
    /// How many there are in the whole range.
    pub count: u64,
    /// The store's revision when this was read (not that asked for).
    pub revision: Revision,
}

/// A change as watchers see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// `kv.created == kv.modified` if the key was absent before.
    Put {
        /// As it is now.
        kv: KeyValue,
    },
    /// The key is gone, deleted or expired.
    Delete {
        /// Which.
        key: Bytes,
        /// Of its deletion.
        revision: Revision,
    },
}

/// All that changed at some revisions, in their order; never part of a revision. Without events it tells that nothing
/// else happened up to `revision`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchBatch {
    /// Of the last event, or later.
    pub revision: Revision,
    /// In the order of their revisions.
    pub events: Vec<Event>,
}

/// A running watch: ends with an error, after which it must be begun anew (from the last revision seen, or after
/// [`Error::Compacted`] with a read of everything). Dropping it ends it. A watcher that lags far behind is ended with
/// [`Error::Lagging`] rather than held in memory.
pub type Watch = mpsc::Receiver<Result<WatchBatch>>;

/// Why a call failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A compare did not hold: nothing was done. Read again and decide anew.
    #[error("a key has changed meanwhile")]
    Conflict,
    /// The revision asked for is no longer kept.
    #[error("revision {asked} is compacted, the oldest kept is {oldest}")]
    Compacted {
        /// What was asked for.
        asked: Revision,
        /// The oldest that can be.
        oldest: Revision,
    },
    /// The revision asked for has not been reached.
    #[error("revision {asked} is in the future, the latest is {latest}")]
    Future {
        /// What was asked for.
        asked: Revision,
        /// The store's.
        latest: Revision,
    },
    /// The watcher took too long to take its events.
    #[error("the watcher is too slow")]
    Lagging,
    /// Key, value or transaction is larger than the store takes, or malformed; trying again does not help.
    #[error("the store does not take this: {0}")]
    Refused(String),
    /// The disk or quota is full: reads go on, writes can be tried later.
    #[error("the store is full: {0}")]
    Full(String),
    /// The engine can't be reached or failed. If this is the answer to a write, whether it took place is unknown.
    #[error("the store is unavailable: {0}")]
    Unavailable(String),
    /// Stored data is damaged; what it held, as far as is known.
    #[error("stored data is damaged: {0}")]
    Damaged(String),
}

/// What a call gives.
pub type Result<T> = std::result::Result<T, Error>;

/// A revisioned store. Every call ends within a deadline of the engine's own.
#[async_trait]
pub trait Store: Send + Sync {
    /// Commits `txn`; its revision once it is durable. A transaction without effect (only deletions of absent keys)
    /// answers the present revision.
    async fn commit(&self, txn: Txn) -> Result<Revision>;

    /// The keys of `range`, at most `limit` of them (0: all), as of revision `at`, or, with `None`, including every
    /// transaction that was acknowledged before the call.
    async fn range(&self, range: KeyRange, limit: usize, at: Option<Revision>) -> Result<Range>;

    /// One key, including every transaction that was acknowledged before the call.
    async fn get(&self, key: Bytes) -> Result<Option<KeyValue>>;

    /// The revision of the latest transaction that was acknowledged before the call, at least.
    async fn revision(&self) -> Result<Revision>;

    /// The changes in `range` after `after`, each revision once, in order, without a gap. While nothing happens there,
    /// an empty batch comes now and then, and soon after each [`Store::nudge`].
    async fn watch(&self, range: KeyRange, after: Revision) -> Result<Watch>;

    /// Has every watch tell soon how far it has come, for whoever waits for a revision that changed nothing in its
    /// range.
    async fn nudge(&self) -> Result<()>;

    /// Gives up what is older than `before`: reads at and watches from earlier revisions fail from then on. The engine
    /// also does so by itself, as far as its settings say.
    async fn compact(&self, before: Revision) -> Result<()>;

    /// Writes all that is stored now to a new file at `path`, from which the engine can start.
    async fn snapshot(&self, path: &std::path::Path) -> Result<Revision>;
}
