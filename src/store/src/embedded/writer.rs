//! The one thread that writes. What has queued up while it wrote becomes the next commit: one `SQLite` transaction, one
//! flush, however many callers.
//!
//! ```text
//! take what waits ─▶ BEGIN, each transaction in turn, expired keys, a step of sweeping, COMMIT
//!      ▲                              │ durable
//!      │                              ▼
//!      └── checkpoint, upkeep ◀─ answers ◀─ watchers
//! ```
//!
//! It sleeps until someone calls or the next thing is due: a key's end, history's end, upkeep, telling of progress.

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use bytes::Bytes;
use rusqlite::{Connection, hooks::Wal};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::{
    Shared,
    apply::{Batch, Expiry, Failed, execute},
    failure::translate,
    files::{self, PAGE},
    queue::Taken,
    retention::{Marks, State},
    row::{Bounds, RowId},
    upkeep,
    verify::{self, Contents},
};
use crate::{Compare, Error, Op, Result, Revision, Txn};

/// The most transactions in one commit, and expired keys.
const MOST: usize = 512;
/// Changes looked at in one step of sweeping; more than a transaction has.
const STEP: usize = 512;
/// While others wait, sweeping begins only when it is worth while.
const WORTH: u64 = 256;
/// After a failure of what the writer does by itself.
const RETRY: Duration = Duration::from_secs(5);
/// Between two attempts to open the store again.
const REOPEN: Duration = Duration::from_secs(1);
/// After a checkpoint that readers were in the way of.
const HELD: Duration = Duration::from_millis(100);
/// From the first write to the upkeep after it.
const UPKEEP: Duration = Duration::from_secs(2);

/// What the writer is asked for.
#[derive(Debug)]
pub(super) enum Request {
    /// [`crate::Store::commit`], of a transaction that was checked.
    Commit {
        txn: Txn,
        reply: oneshot::Sender<Result<Revision>>,
        /// Its part of the bytes that may wait.
        room: OwnedSemaphorePermit,
    },
    /// [`crate::Store::compact`].
    Compact {
        before: Revision,
        reply: oneshot::Sender<Result<Revision>>,
    },
}

type Reply = oneshot::Sender<Result<Revision>>;

/// Starts the thread. It ends when the queue is closed and empty.
pub(super) fn start(shared: &Arc<Shared>, db: Connection, contents: Contents) -> Result<std::thread::JoinHandle<()>> {
    let mut writer = Writer {
        shared: Arc::clone(shared),
        db: None,
        log_pages: Arc::default(),
        clock: Clock::start(),
        revision: Revision(0),
        bounds: Bounds::default(),
        live_bytes: 0,
        superseded_bytes: 0,
        expiries: BTreeMap::new(),
        marks: Marks::default(),
        full: false,
        retry: None,
        reopen: Instant::now(),
        checkpoint: Instant::now(),
        upkeep: Some(Instant::now() + UPKEEP),
        progress: None,
    };
    writer.begin(db, contents)?;
    let thread = std::thread::Builder::new().name("store-write".to_owned());
    thread
        .spawn(move || writer.work())
        .map_err(|error| Error::Unavailable(format!("starting the writer: {error}")))
}

struct Writer {
    shared: Arc<Shared>,
    /// `None` after a failure, until it is opened anew.
    db: Option<Connection>,
    /// How long the log is, as `SQLite` says at each commit.
    log_pages: Arc<AtomicUsize>,
    clock: Clock,
    revision: Revision,
    bounds: Bounds,
    live_bytes: i64,
    superseded_bytes: i64,
    expiries: BTreeMap<(i64, RowId), Bytes>,
    marks: Marks,
    /// Whether the last write had no space.
    full: bool,
    /// Before then nothing is tried that nobody asked for.
    retry: Option<Instant>,
    /// Before then the store is not opened again.
    reopen: Instant,
    /// Before then the log is not written to the store.
    checkpoint: Instant,
    upkeep: Option<Instant>,
    progress: Option<Instant>,
}

impl Writer {
    fn work(mut self) {
        while catch_unwind(AssertUnwindSafe(|| self.serve())).is_err() {
            self.fail(&Error::Unavailable("the store's writer panicked".to_owned()));
        }
        self.shared
            .hub
            .reset(self.revision, &Error::Unavailable("the store is closed".to_owned()));
    }

    /// Until the queue is closed.
    fn serve(&mut self) {
        let mut requests = Vec::new();
        loop {
            let taken = self.shared.queue.take(self.due(), MOST, &mut requests);
            if taken == Taken::Closed {
                if let Some(db) = &self.db {
                    upkeep::shorten(db, &self.shared.gate);
                }
                return;
            }
            self.turn(&mut requests);
        }
    }

    /// Takes over an opened and checked store.
    fn begin(&mut self, mut db: Connection, contents: Contents) -> Result<()> {
        let pages = Arc::clone(&self.log_pages);
        let hook = move |_: &mut Wal, count: std::ffi::c_int| {
            pages.store(count as usize, Ordering::Relaxed);
            Ok(())
        };
        db.wal_hook(Some(hook))
            .map_err(|error| translate("watching the log", &error))?;
        self.revision = contents.revision;
        self.bounds = contents.bounds;
        self.live_bytes = contents.live_bytes;
        self.superseded_bytes = contents.superseded_bytes;
        self.expiries = contents
            .expiries
            .into_iter()
            .map(|(at, id, key)| ((at, id), key))
            .collect();
        self.marks = Marks::default();
        self.marks.add(Instant::now(), self.revision);
        self.db = Some(db);
        Ok(())
    }

    /// Gives up the connection: what the last commit did is not known.
    fn fail(&mut self, why: &Error) {
        tracing::error!(error = %why, "the store's writer begins anew");
        self.db = None;
        self.retry = Some(Instant::now() + RETRY);
        self.shared.trouble(why);
    }

    /// Opens the store again after a failure; at once the first time, and then now and then, because it reads everything.
    fn reopen(&mut self, now: Instant) -> Result<()> {
        if now < self.reopen {
            return Err(Error::Unavailable(
                "the store's writer has failed, and tries again soon".to_owned(),
            ));
        }
        self.reopen = now + REOPEN;
        let opened = files::writer(&self.shared.directory.store()).and_then(|db| {
            let contents = verify::contents(&db)?;
            Ok((db, contents))
        });
        let (db, contents) = opened.inspect_err(|error| self.shared.trouble(error))?;
        // What was committed meanwhile without having been published is not to be missed by anyone.
        let why = Error::Unavailable("the store's writer began anew".to_owned());
        self.shared.hub.reset(contents.revision, &why);
        self.begin(db, contents)
    }

    fn state(&self) -> State {
        State {
            latest: self.revision,
            compacted: self.bounds.compacted,
            live_bytes: self.live_bytes,
            superseded_bytes: self.superseded_bytes,
            full: self.full,
        }
    }

    /// When something is to be done without being asked.
    fn due(&self) -> Option<Instant> {
        if self.db.is_none() {
            return Some(self.reopen);
        }
        let now = Instant::now();
        let expiry = self.expiries.keys().next().map(|(at, _)| self.clock.instant(*at));
        let retention = if self.sweep_target(now) > self.bounds.swept {
            Some(now)
        } else {
            self.shared.options.retention.due(&self.marks, self.state())
        };
        let own = [expiry, retention, self.upkeep].into_iter().flatten().min();
        // Not before the retry.
        let own = own.map(|due| self.retry.map_or(due, |retry| due.max(retry)));
        own.into_iter().chain(self.progress).min()
    }

    /// Up to where history can be swept now.
    fn sweep_target(&self, now: Instant) -> Revision {
        self.shared
            .options
            .retention
            .target(now, &self.marks, self.state())
            .min(self.revision)
    }

    fn turn(&mut self, requests: &mut Vec<Request>) {
        let now = Instant::now();
        let own = self.retry.is_none_or(|retry| retry <= now);
        if self.db.is_none()
            && let Err(error) = self.reopen(now)
        {
            for request in requests.drain(..) {
                answer(request, &error);
            }
            return;
        }
        let expired = if own { self.expired() } else { Vec::new() };
        let target = self.sweep_target(now);
        let backlog = target.0.saturating_sub(self.bounds.swept.0);
        let worth = if requests.is_empty() { 1 } else { WORTH };
        let sweep = (own && backlog >= worth).then_some(target);
        if !requests.is_empty() || !expired.is_empty() || sweep.is_some() {
            self.commit(requests.drain(..), expired, sweep);
        }
        self.tell_progress();
        self.keep_up(own);
    }

    /// The deletions of what has reached its end.
    fn expired(&self) -> Vec<Txn> {
        let now = self.clock.now();
        let due = self.expiries.range(..=(now, RowId(i64::MAX))).take(MOST);
        due.map(|((_, id), key)| Txn {
            compares: vec![Compare::Modified(key.clone(), id.revision())],
            ops: vec![Op::Delete { key: key.clone() }],
        })
        .collect()
    }

    /// One commit of all that is given; then everyone is told.
    fn commit(&mut self, requests: impl Iterator<Item = Request>, expired: Vec<Txn>, sweep: Option<Revision>) {
        let mut answers: Vec<(Reply, Result<Revision>)> = Vec::new();
        let mut rooms = Vec::new();
        let result = self.transaction(requests, expired, sweep, &mut answers, &mut rooms);
        match result {
            Ok(batch) => {
                self.adopt(batch);
                for (reply, result) in answers {
                    // Whoever asked may have gone.
                    let _unheard = reply.send(result);
                }
            }
            Err(error) => {
                let error = self.explain(error);
                for (reply, _) in answers {
                    let _unheard = reply.send(Err(error.clone()));
                }
                if matches!(error, Error::Full(_)) {
                    tracing::warn!(%error, "a write failed");
                    self.full = true;
                    self.retry = Some(Instant::now() + RETRY);
                    self.shared.trouble(&error);
                } else {
                    self.fail(&error);
                }
            }
        }
    }

    fn transaction(
        &mut self,
        requests: impl Iterator<Item = Request>,
        expired: Vec<Txn>,
        sweep: Option<Revision>,
        answers: &mut Vec<(Reply, Result<Revision>)>,
        rooms: &mut Vec<OwnedSemaphorePermit>,
    ) -> Result<Batch> {
        let db = self.db.as_ref().expect("it was opened");
        let before = self.bounds;
        let mut batch = Batch {
            revision: self.revision,
            bounds: before,
            live_bytes: self.live_bytes,
            superseded_bytes: self.superseded_bytes,
            events: Vec::new(),
            expiries: Vec::new(),
            full: self.used_up(db),
        };
        let mut failed = execute(db, "BEGIN IMMEDIATE", ())
            .map_err(|error| translate("beginning", &error))
            .err();
        let now = self.clock.now();
        for txn in expired {
            if failed.is_none() {
                match batch.apply(db, txn, now) {
                    Ok(_) => {}
                    Err(Failed::Alone(error)) => {
                        tracing::warn!(%error, "an expired key was not deleted");
                        self.retry = Some(Instant::now() + RETRY);
                    }
                    Err(Failed::Together(error)) => failed = Some(error),
                }
            }
        }
        for request in requests {
            match request {
                Request::Commit { txn, reply, room } => {
                    rooms.push(room);
                    let result = match &failed {
                        // Everyone gets the answer below.
                        Some(error) => Err(error.clone()),
                        None => batch.apply(db, txn, now).map_err(|error| match error {
                            Failed::Alone(error) => error,
                            Failed::Together(error) => {
                                failed = Some(error.clone());
                                error
                            }
                        }),
                    };
                    answers.push((reply, result));
                }
                Request::Compact { before, reply } => {
                    let latest = batch.revision;
                    let result = if before > latest {
                        Err(Error::Future { asked: before, latest })
                    } else {
                        batch.bounds.compacted = batch.bounds.compacted.max(before);
                        Ok(batch.bounds.compacted)
                    };
                    answers.push((reply, result));
                }
            }
        }
        if failed.is_none()
            && let Some(to) = sweep
        {
            failed = self.sweep(&mut batch, to).err();
        }
        let db = self.db.as_ref().expect("it was opened");
        if failed.is_none() {
            failed = batch.write_bounds(db, before).err();
        }
        // Some failures end the transaction by themselves.
        if failed.is_none() && db.is_autocommit() {
            failed = Some(Error::Unavailable("the transaction was ended by a failure".to_owned()));
        }
        if failed.is_none() {
            failed = execute(db, "COMMIT", ())
                .map_err(|error| translate("committing", &error))
                .err();
        }
        let Some(error) = failed else {
            return Ok(batch);
        };
        if !db.is_autocommit()
            && let Err(rollback) = execute(db, "ROLLBACK", ())
        {
            return Err(translate("rolling back", &rollback));
        }
        Err(error)
    }

    /// A step of sweeping, which the transactions of this commit don't depend on.
    fn sweep(&mut self, batch: &mut Batch, to: Revision) -> Result<()> {
        let db = self.db.as_ref().expect("it was opened");
        let point = |sql: &str| execute(db, sql, ()).map_err(|error| translate("sweeping history", &error));
        let before = (batch.bounds, batch.superseded_bytes);
        point("SAVEPOINT sweep")?;
        let Err(error) = batch.sweep(db, to, STEP) else {
            return point("RELEASE sweep");
        };
        tracing::warn!(%error, "history was not swept");
        self.retry = Some(Instant::now() + RETRY);
        self.shared.trouble(&error);
        if db.is_autocommit() {
            return Err(error);
        }
        (batch.bounds, batch.superseded_bytes) = before;
        point("ROLLBACK TO sweep")?;
        point("RELEASE sweep")
    }

    /// What was committed is what is known from now on.
    fn adopt(&mut self, batch: Batch) {
        let now = Instant::now();
        let written = batch.revision != self.revision;
        self.revision = batch.revision;
        if batch.bounds.compacted != self.bounds.compacted {
            self.marks.forget(batch.bounds.compacted);
            self.shared.hub.forget(batch.bounds.compacted);
        }
        self.bounds = batch.bounds;
        self.live_bytes = batch.live_bytes;
        self.superseded_bytes = batch.superseded_bytes;
        for expiry in batch.expiries {
            match expiry {
                Expiry::Begins(at, id, key) => self.expiries.insert((at, id), key),
                Expiry::Ends(at, id) => self.expiries.remove(&(at, id)),
            };
        }
        self.upkeep.get_or_insert(now + UPKEEP);
        if !written {
            self.full |= batch.full.is_some();
            return;
        }
        self.full = batch.full.is_some();
        self.marks.add(now, self.revision);
        self.shared.hub.publish(self.revision, batch.events);
        self.shared.committed();
        if self.progress.is_none() && self.shared.hub.behind() {
            self.progress = Some(now + self.shared.options.progress);
        }
    }

    fn tell_progress(&mut self) {
        let now = Instant::now();
        if self.progress.is_some_and(|due| due <= now) {
            self.shared.hub.progress();
            let again = self.shared.hub.behind();
            self.progress = again.then(|| now + self.shared.options.progress);
        }
    }

    /// Keeps the log and the file short.
    fn keep_up(&mut self, own: bool) {
        let Some(db) = &self.db else { return };
        let now = Instant::now();
        let gate = &self.shared.gate;
        let pages = self.log_pages.load(Ordering::Relaxed);
        let mut failed = None;
        if pages >= upkeep::LOG && self.checkpoint <= now {
            let done = upkeep::checkpoint(db, gate, pages).unwrap_or_else(|error| {
                failed = Some(error);
                false
            });
            if done {
                // Until the next commit says otherwise.
                self.log_pages.store(0, Ordering::Relaxed);
            } else {
                self.checkpoint = now + HELD;
            }
        }
        if own && self.upkeep.is_some_and(|due| due <= now) {
            self.upkeep = match upkeep::all(db, gate) {
                Ok(upkeep::Left::Nothing) => None,
                Ok(upkeep::Left::More) => Some(now),
                Ok(upkeep::Left::Held) => Some(now + UPKEEP),
                Err(error) => {
                    failed = Some(error);
                    Some(now + RETRY)
                }
            };
        }
        if let Some(error) = failed {
            tracing::warn!(%error, "the store's files were not shortened");
            self.shared.trouble(&error);
            self.checkpoint = now + RETRY;
        }
    }

    /// Whether the store takes more than it may.
    fn used_up(&self, db: &Connection) -> Option<Error> {
        let most = self.shared.options.max_bytes?;
        // If it can't be told, the write itself will.
        let (pages, free) = upkeep::pages(db).ok()?;
        ((pages - free) * PAGE >= most).then(|| {
            Error::Full(format!(
                "its {most} bytes are used up: delete what is not needed or allow more"
            ))
        })
    }

    /// Tells a full disk from a broken one, where `SQLite` doesn't.
    fn explain(&self, error: Error) -> Error {
        if !matches!(error, Error::Unavailable(_)) {
            return error;
        }
        match self.shared.directory.probe() {
            Err(probe) => match crate::new_file::io("writing", &probe) {
                full @ Error::Full(_) => full,
                _ => error,
            },
            Ok(()) => error,
        }
    }
}

fn answer(request: Request, error: &Error) {
    let (Request::Commit { reply, .. } | Request::Compact { reply, .. }) = request;
    // Whoever asked may have gone.
    let _unheard = reply.send(Err(error.clone()));
}

/// The time of day as it was at the start, and steady from then on: keys don't end early because someone sets the clock.
#[derive(Debug)]
struct Clock {
    start: Instant,
    millis: i64,
}

impl Clock {
    fn start() -> Self {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        Self {
            start: Instant::now(),
            millis: since.map_or(0, |since| since.as_millis() as i64),
        }
    }

    /// Milliseconds since 1970.
    fn now(&self) -> i64 {
        self.millis + self.start.elapsed().as_millis() as i64
    }

    /// When it will be `millis`; the start, if that is past.
    fn instant(&self, millis: i64) -> Instant {
        let after = u64::try_from(millis - self.millis).unwrap_or(0);
        // Whatever lies beyond the clock's end is far enough.
        let far = self.start + Duration::from_hours(24 * 365);
        self.start.checked_add(Duration::from_millis(after)).unwrap_or(far)
    }
}
