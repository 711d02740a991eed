//! What is said of a damaged store: what it held, as far as that is known.

use rusqlite::{Connection, OptionalExtension as _, Row};

use super::row::{Change, RowId};
use crate::{Error, Result};

/// How many damaged things are named.
const NAMED: usize = 10;

/// What is not as it was written.
#[derive(Debug, Default)]
pub(super) struct Damage {
    named: Vec<String>,
    more: usize,
}

impl Damage {
    pub(super) fn add(&mut self, what: String) {
        if self.named.len() < NAMED {
            self.named.push(what);
        } else {
            self.more += 1;
        }
    }

    /// Takes damage down and lets other failures through.
    pub(super) fn note<T>(&mut self, result: Result<T>) -> Result<Option<T>> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(Error::Damaged(what)) => {
                self.add(what);
                Ok(None)
            }
            Err(other) => Err(other),
        }
    }

    /// [`Error::Damaged`], if there was any.
    pub(super) fn end(&self) -> Result<()> {
        if self.named.is_empty() {
            return Ok(());
        }
        let mut all = self.named.join("; ");
        if self.more > 0 {
            all = format!("{all}; and {} more", self.more);
        }
        Err(Error::Damaged(all))
    }

    /// Names the keys that damaged pages held, as far as the other table tells: `live` knows which changes should be
    /// there, `history` which keys.
    pub(super) fn name_lost(&mut self, db: &Connection) {
        let (expected, _) = readable(db, "SELECT key, id FROM live ORDER BY key", |row| {
            <(Vec<u8>, i64)>::try_from(row)
        });
        for (key, id) in expected {
            if !change_is_whole(db, id, &key) {
                let revision = RowId(id).revision();
                self.add(format!("{} at revision {revision} can't be read", key.escape_ascii()));
            }
        }
        let (mut keys, _) = readable(db, "SELECT key FROM history ORDER BY id", |row| {
            <(Vec<u8>,)>::try_from(row)
        });
        keys.sort();
        keys.dedup();
        for (key,) in keys {
            let entry = db.query_row("SELECT id FROM live WHERE key = ?1", [&*key], |_| Ok(()));
            if entry.optional().is_err() {
                self.add(format!("the entry of {} can't be read", key.escape_ascii()));
            }
        }
    }
}

/// The rows from both ends up to where they can't be read, and whether those are all.
pub(super) fn readable<T>(
    db: &Connection,
    sql: &str,
    take: impl Fn(&Row<'_>) -> rusqlite::Result<T>,
) -> (Vec<T>, bool) {
    let read = |sql: &str| -> (Vec<T>, bool) {
        let mut read = Vec::new();
        let all = db.prepare(sql).and_then(|mut statement| {
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                read.push(take(row)?);
            }
            Ok(())
        });
        (read, all.is_ok())
    };
    let (mut found, all) = read(sql);
    if !all {
        found.extend(read(&format!("{sql} DESC")).0);
    }
    (found, all)
}

fn change_is_whole(db: &Connection, id: i64, key: &[u8]) -> bool {
    let sql = format!("SELECT {} FROM history WHERE id = ?1", Change::COLUMNS);
    let read = || -> rusqlite::Result<bool> {
        let mut statement = db.prepare_cached(&sql)?;
        let mut rows = statement.query([id])?;
        let change = rows.next()?.map(|row| Change::read(row, 0));
        Ok(change.is_some_and(|change| change.is_ok_and(|change| change.key == key)))
    };
    read().unwrap_or(false)
}
