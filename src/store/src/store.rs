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

    /// Whether `key` is one of them.
    pub fn contains(&self, key: &[u8]) -> bool {
        *self.start <= *key && *key < *self.end
    }
}

/// The longest key, in bytes.
pub const MAX_KEY: usize = 4 * 1024;
/// The longest value, in bytes: 1.5 MiB, what etcd takes in one request.
pub const MAX_VALUE: usize = 3 * 512 * 1024;
/// The most changes in one transaction, and the most compares: what etcd takes unless told otherwise.
pub const MAX_OPS: usize = 128;
/// The shortest time to live, and its unit.
pub const MIN_TTL: Duration = Duration::from_secs(1);

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
        /// Up to 1.5 MiB. It is kept for a while, so it is better not a slice of something much larger.
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

impl Op {
    /// The key it changes.
    pub fn key(&self) -> &Bytes {
        match self {
            Self::Put { key, .. } | Self::Delete { key } => key,
        }
    }
}

impl Txn {
    /// Whether every engine takes it: sizes, counts, no key changed twice.
    pub fn check(&self) -> Result<()> {
        let refuse = |why: String| Err(Error::Refused(why));
        if self.ops.len() > MAX_OPS || self.compares.len() > MAX_OPS {
            return refuse(format!("more than {MAX_OPS} changes or compares in one transaction"));
        }
        let compared = self.compares.iter().map(|Compare::Modified(key, _)| key);
        for key in compared.chain(self.ops.iter().map(Op::key)) {
            if key.is_empty() || key.len() > MAX_KEY {
                return refuse(format!("a key of {} bytes, not 1 to {MAX_KEY}", key.len()));
            }
        }
        let mut total = 0;
        for op in &self.ops {
            if let Op::Put { value, ttl, .. } = op {
                total += value.len();
                if total > MAX_VALUE {
                    return refuse(format!("more than {MAX_VALUE} bytes in one transaction"));
                }
                if ttl.is_some_and(|ttl| ttl < MIN_TTL) {
                    return refuse("a time to live of less than a second".to_owned());
                }
            }
        }
        let mut keys: Vec<_> = self.ops.iter().map(Op::key).collect();
        keys.sort_unstable();
        if keys.windows(2).any(|pair| pair[0] == pair[1]) {
            return refuse("a key changed twice in one transaction".to_owned());
        }
        Ok(())
    }

    /// Its bytes in memory, about.
    pub fn size(&self) -> usize {
        let compares = self.compares.iter().map(|Compare::Modified(key, _)| key.len());
        let ops = self.ops.iter().map(|op| match op {
            Op::Put { key, value, .. } => key.len() + value.len(),
            Op::Delete { key } => key.len(),
        });
        128 + compares.chain(ops).sum::<usize>()
    }
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

impl Event {
    /// Of which key.
    pub fn key(&self) -> &Bytes {
        match self {
            Self::Put { kv } => &kv.key,
            Self::Delete { key, .. } => key,
        }
    }

    /// When it happened.
    pub fn revision(&self) -> Revision {
        match self {
            Self::Put { kv } => kv.modified,
            Self::Delete { revision, .. } => *revision,
        }
    }
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

/// How the store fares, for health checks and metrics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// The latest revision known here.
    pub revision: Revision,
    /// How long ago a transaction was last committed through here.
    pub last_commit: Option<Duration>,
    /// Why the last write failed, or what is damaged; `None`: all is well.
    pub trouble: Option<Error>,
    /// What the store takes on its disk, in bytes.
    pub bytes: u64,
    /// What it may take, in bytes.
    pub max_bytes: Option<u64>,
}

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

    /// How the store fares. Fails only if that can't be told.
    async fn health(&self) -> Result<Health>;
}
