//! What a transaction does to the tables. All reads come before the first write, so that what fails by itself (a compare,
//! a damaged entry) leaves the others of the same commit alone.

use std::time::Duration;

use bytes::Bytes;
use rusqlite::{Connection, Params};

use super::{
    failure::{Context as _, translate},
    row::{Bounds, Change, Live, RowId},
};
use crate::{Compare, Error, Event, Op, Result, Revision, Txn};

/// What is about to be committed: the difference to what the writer knows.
#[derive(Debug)]
pub(super) struct Batch {
    /// The latest revision, with it.
    pub(super) revision: Revision,
    pub(super) bounds: Bounds,
    pub(super) live_bytes: i64,
    pub(super) superseded_bytes: i64,
    pub(super) events: Vec<Event>,
    pub(super) expiries: Vec<Expiry>,
    /// Whether the store has used up what it may.
    pub(super) full: Option<Error>,
}

/// A key's end.
#[derive(Debug)]
pub(super) enum Expiry {
    /// Is set.
    Begins(i64, RowId, Bytes),
    /// Does not count any more.
    Ends(i64, RowId),
}

/// Why a transaction did not take place.
#[derive(Debug)]
pub(super) enum Failed {
    /// It alone; nothing was written.
    Alone(Error),
    /// With all others of this commit.
    Together(Error),
}

/// A change to make, with what is there now.
struct Planned {
    key: Bytes,
    value: Option<Bytes>,
    expires: i64,
    before: Option<Live>,
}

impl Batch {
    /// Does `txn`, at the time `now` (milliseconds since 1970).
    pub(super) fn apply(&mut self, db: &Connection, txn: Txn, now: i64) -> std::result::Result<Revision, Failed> {
        let planned = self.plan(db, txn, now).map_err(Failed::Alone)?;
        if planned.is_empty() {
            return Ok(self.revision);
        }
        self.revision.0 += 1;
        let count = planned.len();
        for (place, planned) in planned.into_iter().enumerate() {
            let rest = (count - place - 1) as i64;
            let write = self.write(db, RowId::new(self.revision, place), rest, planned);
            write.map_err(|error| Failed::Together(translate("writing", &error)))?;
        }
        Ok(self.revision)
    }

    fn plan(&self, db: &Connection, txn: Txn, now: i64) -> Result<Vec<Planned>> {
        for Compare::Modified(key, revision) in &txn.compares {
            let modified = live(db, key)?.map_or(Revision(0), |live| live.id.revision());
            if modified != *revision {
                return Err(Error::Conflict);
            }
        }
        let mut planned = Vec::with_capacity(txn.ops.len());
        for op in txn.ops {
            let (key, value, ttl) = match op {
                Op::Put { key, value, ttl } => (key, Some(value), ttl),
                Op::Delete { key } => (key, None, None),
            };
            let before = live(db, &key)?;
            if value.is_none() && before.is_none() {
                continue;
            }
            if value.is_some()
                && let Some(full) = &self.full
            {
                return Err(full.clone());
            }
            planned.push(Planned {
                key,
                value,
                expires: ttl.map_or(0, |ttl| expires(now, ttl)),
                before,
            });
        }
        Ok(planned)
    }

    fn write(&mut self, db: &Connection, id: RowId, rest: i64, planned: Planned) -> rusqlite::Result<()> {
        let Planned {
            key,
            value,
            expires,
            before,
        } = planned;
        let created = before.map_or(id.revision(), |before| before.created);
        let change = Change {
            id,
            created,
            previous: before.map_or(RowId(0), |before| before.id),
            rest,
            key,
            value,
        };
        execute(
            db,
            "INSERT INTO history (id, created, previous, rest, crc, key, value) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            (
                id.0,
                created.0 as i64,
                change.previous.0,
                rest,
                change.crc(),
                &*change.key,
                change.value.as_deref(),
            ),
        )?;
        if let Some(before) = before {
            self.live_bytes -= before.size;
            self.superseded_bytes += before.size;
            if before.expires != 0 {
                self.expiries.push(Expiry::Ends(before.expires, before.id));
            }
        }
        let key = &*change.key;
        if let Some(value) = &change.value {
            let live = Live {
                id,
                created,
                expires,
                size: (key.len() + value.len()) as i64,
            };
            let sql = match before {
                Some(_) => "UPDATE live SET id = ?2, created = ?3, expires = ?4, size = ?5, crc = ?6 WHERE key = ?1",
                None => "INSERT INTO live (key, id, created, expires, size, crc) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            };
            let crc = live.crc(key);
            execute(db, sql, (key, id.0, created.0 as i64, expires, live.size, crc))?;
            self.live_bytes += live.size;
            if expires != 0 {
                self.expiries.push(Expiry::Begins(expires, id, change.key.clone()));
            }
        } else {
            execute(db, "DELETE FROM live WHERE key = ?1", [key])?;
        }
        self.events.push(change.event());
        Ok(())
    }

    /// Writes how far history is given up, if that changed.
    pub(super) fn write_bounds(&self, db: &Connection, before: Bounds) -> Result<()> {
        let bounds = self.bounds;
        if bounds == before {
            return Ok(());
        }
        let values = (bounds.compacted.0 as i64, bounds.swept.0 as i64, bounds.crc());
        execute(db, "UPDATE bounds SET compacted = ?1, swept = ?2, crc = ?3", values).doing("giving up history")
    }

    /// Takes away what nobody can ask for any more, up to revision `to`, looking at up to `most` changes.
    pub(super) fn sweep(&mut self, db: &Connection, to: Revision, most: usize) -> Result<()> {
        const CHANGES: &str = "SELECT id, created, previous, rest, crc, key, value FROM history
                               WHERE id >= ?1 AND id < ?2 ORDER BY id LIMIT ?3";
        const REMOVE: &str = "DELETE FROM history WHERE id = ?1 RETURNING length(key) + length(value)";
        let doing = "sweeping history";
        let mut swept = to;
        let mut gone = Vec::new();
        {
            let mut statement = db.prepare_cached(CHANGES).doing(doing)?;
            let (first, end) = (RowId::after(self.bounds.swept), RowId::after(to));
            let mut rows = statement.query((first.0, end.0, most as i64)).doing(doing)?;
            let mut seen = 0;
            while let Some(row) = rows.next().doing(doing)? {
                seen += 1;
                let id = RowId(row.get(0).doing(doing)?);
                if seen == most {
                    // More of this revision may follow: it is for the next time.
                    swept = Revision(id.revision().0 - 1);
                }
                match Change::read(row, 0) {
                    Ok(change) => {
                        gone.extend(change.previous.some().map(|previous| (id, previous)));
                        gone.extend(change.value.is_none().then_some((id, id)));
                    }
                    // What it superseded stays; it is named, and the sweep goes on.
                    Err(error) => tracing::error!(%error, "history has a damaged change"),
                }
            }
        }
        let mut remove = db.prepare_cached(REMOVE).doing(doing)?;
        for (_, id) in gone.into_iter().filter(|(by, _)| by.revision() <= swept) {
            let mut rows = remove.query([id.0]).doing(doing)?;
            while let Some(row) = rows.next().doing(doing)? {
                // A deletion has no value.
                self.superseded_bytes -= row.get::<_, Option<i64>>(0).doing(doing)?.unwrap_or_default();
            }
        }
        self.bounds.swept = self.bounds.swept.max(swept);
        self.bounds.compacted = self.bounds.compacted.max(swept);
        Ok(())
    }
}

/// When what is put at `now` ends: not before the whole time has passed.
fn expires(now: i64, ttl: Duration) -> i64 {
    let millis = i64::try_from(ttl.as_millis()).unwrap_or(i64::MAX);
    now.saturating_add(millis).saturating_add(1)
}

fn live(db: &Connection, key: &[u8]) -> Result<Option<Live>> {
    let doing = "looking up a key";
    let mut statement = db
        .prepare_cached("SELECT key, id, created, expires, size, crc FROM live WHERE key = ?1")
        .doing(doing)?;
    let mut rows = statement.query([key]).doing(doing)?;
    rows.next().doing(doing)?.map(Live::read).transpose()
}

/// Runs one of the few statements that are kept prepared.
pub(super) fn execute(db: &Connection, sql: &str, params: impl Params) -> rusqlite::Result<()> {
    db.prepare_cached(sql)?.execute(params).map(drop)
}
