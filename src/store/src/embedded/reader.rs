//! Reads: a few threads, each with a connection of its own, beside the writer and never in its way.
//!
//! A read sees one state of the store, that of its own `SQLite` transaction.

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::Arc,
    thread::JoinHandle,
};

use bytes::Bytes;
use parking_lot::RwLock;
use rusqlite::{Connection, Params, Transaction};
use tokio::sync::{Semaphore, oneshot};

use super::{
    failure::{Context as _, translate},
    files,
    queue::{Queue, Taken},
    row::{Bounds, Change, Live, RowId},
    verify,
};
use crate::{Error, KeyRange, KeyValue, Range, Result, Revision, WatchBatch};

/// Reads that may wait for a thread.
const WAITING: usize = 1024;
/// A piece of history as a catching-up watcher gets it.
const PIECE_ROWS: usize = 512;
const PIECE_BYTES: usize = 1024 * 1024;

type Job = Box<dyn FnOnce(&Connection) + Send>;

/// The reading threads. They end with it.
pub(super) struct Readers {
    jobs: Arc<Queue<Job>>,
    places: Semaphore,
    threads: Vec<JoinHandle<()>>,
}

/// Held by every read; whoever holds it alone has no reader in the log.
pub(super) type Gate = Arc<RwLock<()>>;

impl Readers {
    pub(super) fn start(count: usize, path: &Path, gate: &Gate) -> Result<Self> {
        let jobs = Arc::new(Queue::new());
        let mut readers = Self {
            jobs: Arc::clone(&jobs),
            places: Semaphore::new(WAITING),
            threads: Vec::new(),
        };
        for number in 0..count.max(1) {
            // The first one opened here, so that what hinders all of them is known at once.
            let db = files::reader(path)?;
            let (jobs, path, gate) = (Arc::clone(&jobs), path.to_owned(), Arc::clone(gate));
            let thread = std::thread::Builder::new().name(format!("store-read-{number}"));
            let spawned = thread.spawn(move || work(db, &jobs, &path, &gate));
            readers
                .threads
                .push(spawned.map_err(|error| Error::Unavailable(format!("starting a reader: {error}")))?);
        }
        Ok(readers)
    }

    /// Has a thread do `read`, unless the caller has gone meanwhile. `read` asks its second argument now and then
    /// whether it should stop.
    pub(super) async fn call<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Connection, &dyn Fn() -> bool) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let closed = || Error::Unavailable("the store is closed".to_owned());
        let _place = self.places.acquire().await.map_err(|_closed| closed())?;
        let (tx, rx) = oneshot::channel();
        let job = move |db: &Connection| {
            if tx.is_closed() {
                return;
            }
            let answer = read(db, &|| tx.is_closed());
            // Whoever asked may have gone.
            let _unheard = tx.send(answer);
        };
        self.jobs.push(Box::new(job)).map_err(|_job| closed())?;
        rx.await
            .unwrap_or_else(|_| Err(Error::Unavailable("a read was given up".to_owned())))
    }
}

impl Drop for Readers {
    fn drop(&mut self) {
        self.jobs.abandon();
        for thread in self.threads.drain(..) {
            // It catches its panics itself.
            let _ended = thread.join();
        }
    }
}

fn work(mut db: Connection, jobs: &Queue<Job>, path: &Path, gate: &Gate) {
    let mut taken = Vec::with_capacity(1);
    while jobs.take(None, 1, &mut taken) != Taken::Closed {
        for job in taken.drain(..) {
            let _reading = gate.read();
            if catch_unwind(AssertUnwindSafe(|| job(&db))).is_err() {
                tracing::error!("a read of the store panicked");
                match files::reader(path) {
                    Ok(new) => db = new,
                    Err(error) => tracing::error!(%error, "a reader's connection stays as it is"),
                }
            }
        }
    }
}

/// One state of the store.
struct View<'a> {
    transaction: Transaction<'a>,
    bounds: Bounds,
    latest: Revision,
}

impl<'a> View<'a> {
    fn open(db: &'a Connection) -> Result<Self> {
        let transaction = db.unchecked_transaction().doing("beginning a read")?;
        let bounds = verify::bounds(&transaction)?;
        let latest = verify::latest(&transaction, bounds)?;
        Ok(Self {
            transaction,
            bounds,
            latest,
        })
    }

    /// Whether `asked` can be read.
    fn reach(&self, asked: Revision) -> Result<()> {
        if asked > self.latest {
            let latest = self.latest;
            return Err(Error::Future { asked, latest });
        }
        if asked < self.bounds.compacted {
            let oldest = self.bounds.compacted;
            return Err(Error::Compacted { asked, oldest });
        }
        Ok(())
    }

    fn number(&self, doing: &str, sql: &str, params: impl Params) -> Result<i64> {
        let mut statement = self.transaction.prepare_cached(sql).doing(doing)?;
        statement.query_row(params, |row| row.get(0)).doing(doing)
    }

    fn count(&self, range: &KeyRange) -> Result<u64> {
        let doing = format!("counting {}", shown(range));
        let sql = "SELECT count(*) FROM live WHERE key >= ?1 AND key < ?2";
        Ok(self.number(&doing, sql, (&*range.start, &*range.end))? as u64)
    }

    /// Hands each present key in `range` to `each`, until that does not want any more.
    fn present(&self, range: &KeyRange, most: Option<usize>, mut each: impl FnMut(KeyValue) -> bool) -> Result<()> {
        let doing = format!("reading {}", shown(range));
        let mut statement = self.transaction.prepare_cached(PRESENT).doing(&doing)?;
        let most = most.map_or(-1, |most| most as i64);
        let mut rows = statement.query((&*range.start, &*range.end, most)).doing(&doing)?;
        let mut last = range.start.clone();
        loop {
            let next = rows.next();
            let next = next.map_err(|error| translate(&format!("{doing}, after {}", last.escape_ascii()), &error))?;
            let Some(row) = next else {
                return Ok(());
            };
            let live = Live::read(row)?;
            let key = row.get_ref(0).and_then(|key| Ok(key.as_blob()?)).doing(&doing)?;
            let kv = Change::read(row, Live::WIDTH)
                .map(Change::state)
                .map_err(|error| match error {
                    Error::Damaged(what) => Error::Damaged(format!("{}: {what}", key.escape_ascii())),
                    other => other,
                })?;
            let kv = kv.filter(|kv| kv.key == *key && kv.modified == live.id.revision() && kv.created == live.created);
            let Some(kv) = kv else {
                let what = format!("{}: what was put there is another key's", key.escape_ascii());
                return Err(Error::Damaged(what));
            };
            last = kv.key.clone();
            if !each(kv) {
                return Ok(());
            }
        }
    }

    fn change(&self, id: RowId) -> Result<Change> {
        const SQL: &str = "SELECT id, created, previous, rest, crc, key, value FROM history WHERE id = ?1";
        let doing = format!("reading the change at revision {}", id.revision());
        let mut statement = self.transaction.prepare_cached(SQL).doing(&doing)?;
        let mut rows = statement.query([id.0]).doing(&doing)?;
        match rows.next().doing(&doing)? {
            Some(row) => Change::read(row, 0),
            None => Err(Error::Damaged(format!("{doing}: it is missing"))),
        }
    }

    /// Hands each change after `after` to `each`, until that does not want any more.
    fn changes(&self, after: Revision, mut each: impl FnMut(Change) -> bool) -> Result<()> {
        const SQL: &str = "SELECT id, created, previous, rest, crc, key, value FROM history WHERE id >= ?1 ORDER BY id";
        let doing = format!("reading history after revision {after}");
        let mut statement = self.transaction.prepare_cached(SQL).doing(&doing)?;
        let mut rows = statement.query([RowId::after(after).0]).doing(&doing)?;
        while let Some(row) = rows.next().doing(&doing)? {
            if !each(Change::read(row, 0)?) {
                break;
            }
        }
        Ok(())
    }
}

const PRESENT: &str = "SELECT live.key, live.id, live.created, live.expires, live.size, live.crc,
            history.id, history.created, history.previous, history.rest, history.crc, history.key, history.value
     FROM live LEFT JOIN history ON history.id = live.id
     WHERE live.key >= ?1 AND live.key < ?2 ORDER BY live.key LIMIT ?3";

fn shown(range: &KeyRange) -> String {
    format!("{} to {}", range.start.escape_ascii(), range.end.escape_ascii())
}

fn given_up() -> Error {
    Error::Unavailable("a read was given up".to_owned())
}

/// The latest revision in the store.
pub(super) fn latest(db: &Connection) -> Result<Revision> {
    Ok(View::open(db)?.latest)
}

/// One key.
pub(super) fn get(db: &Connection, key: &Bytes) -> Result<Option<KeyValue>> {
    let view = View::open(db)?;
    let mut end = key.to_vec();
    end.push(0);
    let range = KeyRange {
        start: key.clone(),
        end: end.into(),
    };
    let mut found = None;
    view.present(&range, Some(1), |kv| {
        found = Some(kv);
        false
    })?;
    Ok(found)
}

/// The keys of `range`, as [`crate::Store::range`] says.
pub(super) fn range(
    db: &Connection,
    range: &KeyRange,
    limit: usize,
    at: Option<Revision>,
    stopped: &dyn Fn() -> bool,
) -> Result<Range> {
    let view = View::open(db)?;
    if let Some(at) = at {
        view.reach(at)?;
        if at < view.latest {
            return past(&view, range, limit, at, stopped);
        }
    }
    let mut kvs = Vec::new();
    let mut stop = false;
    view.present(range, (limit > 0).then_some(limit), |kv| {
        kvs.push(kv);
        stop = kvs.len() % 256 == 0 && stopped();
        !stop
    })?;
    if stop {
        return Err(given_up());
    }
    let count = if limit > 0 && kvs.len() == limit {
        view.count(range)?
    } else {
        kvs.len() as u64
    };
    Ok(Range {
        more: count > kvs.len() as u64,
        count,
        revision: view.latest,
        kvs,
    })
}

/// A range as it was: the present keys, with every key that changed since put back to what it was before its first
/// change.
fn past(view: &View<'_>, range: &KeyRange, limit: usize, at: Revision, stopped: &dyn Fn() -> bool) -> Result<Range> {
    struct Undone {
        /// The put that was there; none: the key was absent.
        before: Option<RowId>,
        present: bool,
    }
    let mut undone = BTreeMap::<Bytes, Undone>::new();
    let (mut seen, mut stop) = (0_usize, false);
    view.changes(at, |change| {
        seen += 1;
        stop = seen.is_multiple_of(256) && stopped();
        if range.contains(&change.key) {
            let present = change.value.is_some();
            let before = change.previous.some();
            let entry = undone.entry(change.key).or_insert(Undone { before, present });
            entry.present = present;
        }
        !stop
    })?;
    if stop {
        return Err(given_up());
    }
    let present = undone.values().filter(|undone| undone.present).count() as u64;
    let absent = undone.values().filter(|undone| undone.before.is_none()).count() as u64;
    let count = view.count(range)? - present + undone.len() as u64 - absent;

    let limit = if limit == 0 { usize::MAX } else { limit };
    let mut kvs = Vec::new();
    let mut put_back = undone
        .iter()
        .filter_map(|(key, undone)| Some((key, undone.before?)))
        .peekable();
    let mut failed = None;
    // Takes what was put back up to (without) a key, then the key itself.
    let mut take_back = |kvs: &mut Vec<KeyValue>, until: Option<&Bytes>| -> Result<()> {
        while kvs.len() < limit {
            let Some((_, id)) = put_back.next_if(|(key, _)| until.is_none_or(|until| *key < until)) else {
                break;
            };
            kvs.extend(view.change(id)?.state());
        }
        Ok(())
    };
    view.present(range, None, |kv| {
        if undone.contains_key(&kv.key) {
            return true;
        }
        if let Err(error) = take_back(&mut kvs, Some(&kv.key)) {
            failed = Some(error);
        }
        if failed.is_some() || kvs.len() >= limit {
            return false;
        }
        kvs.push(kv);
        stop = kvs.len() % 256 == 0 && stopped();
        !stop && kvs.len() < limit
    })?;
    match failed {
        Some(error) => return Err(error),
        None if stop => return Err(given_up()),
        None => take_back(&mut kvs, None)?,
    }
    Ok(Range {
        more: count > kvs.len() as u64,
        count,
        revision: view.latest,
        kvs,
    })
}

/// The next piece of history in `range` after `after`, of whole revisions.
pub(super) fn history(db: &Connection, range: &KeyRange, after: Revision) -> Result<WatchBatch> {
    let view = View::open(db)?;
    view.reach(after)?;
    let mut batch = WatchBatch {
        revision: view.latest,
        events: Vec::new(),
    };
    let (mut rows, mut bytes) = (0, 0);
    view.changes(after, |change| {
        rows += 1;
        let (last, revision) = (change.rest == 0, change.id.revision());
        if range.contains(&change.key) {
            bytes += change.value.as_ref().map_or(0, Bytes::len);
            batch.events.push(change.event());
        }
        let enough = last && (rows >= PIECE_ROWS || bytes >= PIECE_BYTES);
        if enough {
            batch.revision = revision;
        }
        !enough
    })?;
    Ok(batch)
}
