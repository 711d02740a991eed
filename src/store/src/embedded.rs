//! The embedded engine: `SQLite` in a directory of this process alone.
//!
//! ```text
//!  commit, compact ──▶ queue ──▶ store-write (thread) ──▶ store.db-wal ──▶ store.db
//!                                    │ once durable          ▲
//!                                    ▼                       │
//!  watch ◀── bounded queue ◀──────  hub                      │
//!    ▲                                                       │
//!    └─ catching up (task) ──▶ queue ──▶ store-read-N (threads)
//!  get, range ───────────────────┘
//! ```
//!
//! - `store-write`, one thread: every change, in order; group commit, TTL, compaction, checkpoints ([`writer`]).
//! - `store-read-N`, a few threads: reads, each of one state of the store ([`reader`]).
//! - one task for each watch that begins in the past, until it has caught up.
//!
//! Pure: `retention` (which history goes), `row` (what is in the tables). Nothing polls; an idle store sleeps.

mod apply;
mod damage;
mod failure;
mod files;
mod queue;
mod reader;
mod retention;
mod row;
mod salvage;
mod snapshot;
mod upkeep;
mod verify;
mod writer;

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Weak},
    thread::{JoinHandle, available_parallelism},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use tokio::{
    sync::{Semaphore, mpsc, oneshot},
    time::timeout,
};

use self::{
    files::Directory,
    queue::Queue,
    reader::{Gate, Readers},
    writer::Request,
};
use crate::{
    Error, Health, KeyRange, KeyValue, Range, Result, Revision, Store, Txn, Watch, WatchBatch,
    hub::{self, Hub},
    task,
};

pub use self::{retention::Retention, salvage::Salvaged};

/// Bytes of transactions that may wait for the writer; further callers wait before that.
const WAITING_BYTES: usize = 32 * 1024 * 1024;

/// The settings of an embedded store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Where it is; made, for its owner only, if it is missing.
    pub dir: PathBuf,
    /// Which history is kept.
    pub retention: Retention,
    /// From here on only deletions are taken, in bytes of the file; `None`: as the disk allows.
    pub max_bytes: Option<u64>,
    /// Reading threads.
    pub readers: usize,
    /// Batches (at most one for each commit) that wait for a watcher before it is [`Error::Lagging`].
    pub watch_queue: usize,
    /// After how long a watch tells that nothing happened in its range while something did elsewhere.
    pub progress: Duration,
    /// Every call is answered by then, snapshots excepted.
    pub deadline: Duration,
}

impl Options {
    /// A store in `dir` with usual settings.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            retention: Retention::default(),
            max_bytes: Some(8 << 30),
            readers: available_parallelism().map_or(2, |cores| cores.get().clamp(2, 4)),
            watch_queue: 256,
            progress: Duration::from_secs(5),
            deadline: Duration::from_secs(30),
        }
    }
}

/// An open store. Dropping it ends its threads, which takes as long as the commits that wait; being killed at any moment
/// loses nothing that was acknowledged.
pub struct Embedded {
    // Before what is shared: the directory is let go after the last connection.
    readers: Readers,
    shared: Arc<Shared>,
    room: Arc<Semaphore>,
    writer: Option<JoinHandle<()>>,
    itself: Weak<Self>,
}

impl std::fmt::Debug for Embedded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Embedded").field(&self.shared.options.dir).finish()
    }
}

/// What the writer shares with the callers.
#[derive(Debug)]
struct Shared {
    options: Options,
    directory: Directory,
    queue: Queue<Request>,
    hub: Arc<Hub>,
    gate: Gate,
    vitals: Mutex<Vitals>,
}

#[derive(Debug, Default)]
struct Vitals {
    committed: Option<Instant>,
    trouble: Option<Error>,
}

impl Shared {
    fn trouble(&self, error: &Error) {
        self.vitals.lock().trouble = Some(error.clone());
    }

    fn committed(&self) {
        *self.vitals.lock() = Vitals {
            committed: Some(Instant::now()),
            trouble: None,
        };
    }
}

impl Embedded {
    /// Opens the store, after a check of all that is in it: [`Error::Damaged`] names what is not as it was written,
    /// [`Error::Unavailable`] tells who else has it.
    pub async fn open(options: Options) -> Result<Arc<Self>> {
        let opened = tokio::task::spawn_blocking(move || Self::open_blocking(options)).await;
        opened.unwrap_or_else(|panic| Err(Error::Unavailable(format!("opening the store: {panic}"))))
    }

    fn open_blocking(options: Options) -> Result<Arc<Self>> {
        let start = Instant::now();
        let directory = Directory::take(&options.dir)?;
        let path = directory.store();
        let db = files::writer(&path)?;
        let contents = verify::contents(&db)?;
        tracing::info!(
            revision = contents.revision.0,
            live_bytes = contents.live_bytes,
            took = ?start.elapsed(),
            "the store is open"
        );
        let gate = Gate::new(RwLock::new(()));
        let readers = Readers::start(options.readers, &path, &gate)?;
        let shared = Arc::new(Shared {
            options,
            directory,
            queue: Queue::new(),
            hub: Hub::new(contents.revision),
            gate,
            vitals: Mutex::default(),
        });
        let writer = writer::start(&shared, db, contents)?;
        Ok(Arc::new_cyclic(|itself| Self {
            shared,
            room: Arc::new(Semaphore::new(WAITING_BYTES)),
            readers,
            writer: Some(writer),
            itself: itself.clone(),
        }))
    }

    /// Makes a whole store of the damaged one in `dir`, which nobody has open: what is damaged is gone from it, and named.
    /// `None` if nothing is damaged. Blocks.
    pub fn salvage(dir: &Path) -> Result<Option<Salvaged>> {
        salvage::salvage(dir)
    }

    async fn within<T>(&self, call: impl Future<Output = Result<T>> + Send) -> Result<T> {
        let deadline = self.shared.options.deadline;
        let late = |_| Err(Error::Unavailable(format!("no answer within {deadline:?}")));
        timeout(deadline, call).await.unwrap_or_else(late)
    }

    async fn ask(&self, request: Request, answer: oneshot::Receiver<Result<Revision>>) -> Result<Revision> {
        let gone = || Error::Unavailable("the store's writer has ended".to_owned());
        self.shared.queue.push(request).map_err(|_request| gone())?;
        answer.await.unwrap_or_else(|_| Err(gone()))
    }

    async fn history(&self, range: KeyRange, after: Revision) -> Result<WatchBatch> {
        let call = self.readers.call(move |db, _| reader::history(db, &range, after));
        self.within(call).await
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        self.shared.queue.close();
        if let Some(writer) = self.writer.take() {
            // It catches its panics itself.
            let _ended = writer.join();
        }
    }
}

/// Brings a watch that begins in the past up to where the hub goes on.
async fn catch_up(
    store: Weak<Embedded>,
    range: KeyRange,
    mut batch: WatchBatch,
    queue: mpsc::Sender<Result<WatchBatch>>,
) {
    loop {
        let after = batch.revision;
        // Two places: for this, and for the error that may end the watch. Nobody else puts anything in.
        if !batch.events.is_empty() {
            let Ok(()) = queue.reserve_many(2).await.map(drop) else {
                return;
            };
            let _sent = queue.try_send(Ok(batch));
        }
        let Ok(()) = queue.reserve_many(2).await.map(drop) else {
            return;
        };
        let Some(store) = store.upgrade() else {
            let _ended = queue.try_send(Err(Error::Unavailable("the store is closed".to_owned())));
            return;
        };
        if store.shared.hub.join(&range, after, &queue, true) {
            return;
        }
        match store.history(range.clone(), after).await {
            Ok(next) => batch = next,
            Err(error) => {
                let _ended = queue.try_send(Err(error));
                return;
            }
        }
    }
}

#[async_trait]
impl Store for Embedded {
    async fn commit(&self, txn: Txn) -> Result<Revision> {
        txn.check()?;
        let call = async {
            let size = txn.size() as u32;
            let room = Arc::clone(&self.room).acquire_many_owned(size).await;
            let room = room.expect("it is never closed");
            let (reply, answer) = oneshot::channel();
            self.ask(Request::Commit { txn, reply, room }, answer).await
        };
        self.within(call).await
    }

    async fn range(&self, range: KeyRange, limit: usize, at: Option<Revision>) -> Result<Range> {
        let call = self
            .readers
            .call(move |db, stopped| reader::range(db, &range, limit, at, stopped));
        self.within(call).await
    }

    async fn get(&self, key: Bytes) -> Result<Option<KeyValue>> {
        self.within(self.readers.call(move |db, _| reader::get(db, &key))).await
    }

    async fn revision(&self) -> Result<Revision> {
        Ok(self.shared.hub.published())
    }

    async fn watch(&self, range: KeyRange, after: Revision) -> Result<Watch> {
        let hub = &self.shared.hub;
        let (queue, watch) = hub::queue(self.shared.options.watch_queue);
        if hub.join(&range, after, &queue, false) {
            if after > hub.published() {
                // Read, and not yet published? Or not yet there?
                let latest = self.within(self.readers.call(|db, _| reader::latest(db))).await?;
                if after > latest {
                    return Err(Error::Future { asked: after, latest });
                }
            }
            return Ok(watch);
        }
        let batch = self.history(range.clone(), after).await?;
        task::spawn_detached(catch_up(self.itself.clone(), range, batch, queue));
        Ok(watch)
    }

    async fn nudge(&self) -> Result<()> {
        self.shared.hub.nudge();
        Ok(())
    }

    async fn compact(&self, before: Revision) -> Result<()> {
        let (reply, answer) = oneshot::channel();
        let call = self.ask(Request::Compact { before, reply }, answer);
        self.within(call).await.map(drop)
    }

    async fn snapshot(&self, path: &Path) -> Result<Revision> {
        let (from, to) = (self.shared.directory.store(), path.to_owned());
        let made = tokio::task::spawn_blocking(move || snapshot::write(&from, &to)).await;
        made.unwrap_or_else(|panic| Err(Error::Unavailable(format!("writing a snapshot: {panic}"))))
    }

    async fn health(&self) -> Result<Health> {
        let revision = self.shared.hub.published();
        let vitals = self.shared.vitals.lock();
        Ok(Health {
            revision,
            last_commit: vitals.committed.map(|at| at.elapsed()),
            trouble: vitals.trouble.clone(),
            bytes: self.shared.directory.bytes(),
            max_bytes: self.shared.options.max_bytes,
        })
    }
}
