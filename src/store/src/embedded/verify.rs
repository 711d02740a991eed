//! The check of everything at open, and what the writer must know from then on.
//!
//! `SQLite`'s own check covers the pages, the checksums cover the rows; what is checked besides is that the rows belong
//! together, so that a file some of whose pages are of another time is found out: every revision since the last sweep is
//! there and whole, and the live keys are exactly the puts that nothing superseded.

use std::collections::HashSet;

use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension as _};

use super::{
    damage::Damage,
    failure::Context as _,
    row::{Bounds, Change, Live, RowId},
};
use crate::{Error, Result, Revision};

/// A store that was found whole.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Contents {
    pub(super) revision: Revision,
    pub(super) bounds: Bounds,
    /// Of all present keys and values.
    pub(super) live_bytes: i64,
    /// Of what only history holds.
    pub(super) superseded_bytes: i64,
    /// When which key ends.
    pub(super) expiries: Vec<(i64, RowId, Bytes)>,
}

/// Reads everything there is; [`Error::Damaged`] names what is not as it was written.
pub(super) fn contents(db: &Connection) -> Result<Contents> {
    let reading = "checking the store";
    let transaction = db.unchecked_transaction().doing(reading)?;
    let mut damage = Damage::default();
    pages(db, &mut damage)?;
    let bounds = bounds(db)?;
    let history = history(db, bounds, &mut damage)?;
    damage.end()?;
    let mut contents = Contents {
        bounds,
        revision: history.last.max(bounds.compacted),
        superseded_bytes: superseded_bytes(db, &history.superseded, &mut damage)?,
        ..Contents::default()
    };
    live(db, &history, &mut contents, &mut damage)?;
    damage.end()?;
    transaction.finish().doing(reading)?;
    Ok(contents)
}

fn pages(db: &Connection, damage: &mut Damage) -> Result<()> {
    let reading = "checking the pages";
    let said = || -> rusqlite::Result<Vec<String>> {
        let mut statement = db.prepare("PRAGMA quick_check(3)")?;
        statement.query_map([], |row| row.get(0))?.collect()
    };
    match said().doing(reading) {
        Ok(said) if said == ["ok"] => return Ok(()),
        Ok(said) => damage.add(said.join(", ")),
        Err(error) => damage.note::<()>(Err(error)).map(drop)?,
    }
    damage.name_lost(db);
    damage.end()
}

/// The row of `bounds`.
pub(super) fn bounds(db: &Connection) -> Result<Bounds> {
    let reading = "reading how far history was given up";
    let mut statement = db
        .prepare_cached("SELECT compacted, swept, crc FROM bounds")
        .doing(reading)?;
    let read = statement.query_row([], |row| {
        let bounds = Bounds {
            compacted: Revision(row.get::<_, i64>(0)? as u64),
            swept: Revision(row.get::<_, i64>(1)? as u64),
        };
        Ok((bounds, row.get::<_, i64>(2)?))
    });
    let (bounds, crc) = read.doing(reading)?;
    if bounds.crc() != crc || bounds.swept > bounds.compacted {
        return Err(Error::Damaged(format!("{reading}: the checksum does not hold")));
    }
    Ok(bounds)
}

/// The latest revision.
pub(super) fn latest(db: &Connection, bounds: Bounds) -> Result<Revision> {
    let reading = "reading the latest revision";
    let mut statement = db.prepare_cached("SELECT max(id) FROM history").doing(reading)?;
    let id: Option<i64> = statement.query_row([], |row| row.get(0)).doing(reading)?;
    let last = id.map_or(Revision(0), |id| RowId(id).revision());
    Ok(last.max(bounds.compacted))
}

struct History {
    last: Revision,
    puts: usize,
    superseded: HashSet<RowId>,
}

fn history(db: &Connection, bounds: Bounds, damage: &mut Damage) -> Result<History> {
    let reading = "checking history";
    let sql = format!("SELECT {} FROM history ORDER BY id", Change::COLUMNS);
    let mut statement = db.prepare(&sql).doing(reading)?;
    let mut rows = statement.query([]).doing(reading)?;
    let mut history = History {
        last: bounds.swept,
        puts: 0,
        superseded: HashSet::new(),
    };
    // What must come next, above what is swept: the row after the last, with as many following as are left.
    let mut next = (RowId::after(bounds.swept), None);
    while let Some(row) = rows.next().doing(reading)? {
        let Some(change) = damage.note(Change::read(row, 0))? else {
            next = (RowId(0), None);
            continue;
        };
        history.puts += usize::from(change.value.is_some());
        let revision = change.id.revision();
        if revision <= bounds.swept {
            if change.value.is_none() {
                damage.add(format!(
                    "a deletion of {} was swept and is there",
                    change.key.escape_ascii()
                ));
            }
            continue;
        }
        let (expected, rest) = next;
        // After a damaged row the first whole one is taken as it is: the damage is known already.
        let known = expected == RowId(0);
        if !known && (change.id != expected || rest.is_some_and(|rest| rest != change.rest)) {
            damage.add(format!(
                "changes between revisions {} and {revision} are missing",
                history.last
            ));
        }
        next = match change.rest {
            0 => (RowId::after(revision), None),
            rest => (RowId(change.id.0 + 1), Some(rest - 1)),
        };
        history.superseded.extend(change.previous.some());
        history.last = revision;
    }
    if next.1.is_some() {
        damage.add(format!("a part of the changes at revision {} is missing", history.last));
    }
    if history.last < bounds.compacted {
        damage.add(format!(
            "changes between revisions {} and {} are missing",
            history.last, bounds.compacted
        ));
    }
    Ok(history)
}

fn superseded_bytes(db: &Connection, superseded: &HashSet<RowId>, damage: &mut Damage) -> Result<i64> {
    let reading = "checking superseded changes";
    let mut size = db
        .prepare("SELECT length(key) + length(value) FROM history WHERE id = ?1 AND value IS NOT NULL")
        .doing(reading)?;
    let mut sum = 0;
    for id in superseded {
        match size
            .query_row([id.0], |row| row.get::<_, i64>(0))
            .optional()
            .doing(reading)?
        {
            Some(size) => sum += size,
            None => damage.add(format!("a put at revision {} is missing", id.revision())),
        }
    }
    Ok(sum)
}

fn live(db: &Connection, history: &History, contents: &mut Contents, damage: &mut Damage) -> Result<()> {
    let reading = "checking the present keys";
    let sql = format!(
        "SELECT {}, history.created, history.key, length(history.key) + length(history.value)
         FROM live LEFT JOIN history ON history.id = live.id ORDER BY live.key",
        Live::COLUMNS
    );
    let mut statement = db.prepare(&sql).doing(reading)?;
    let mut rows = statement.query([]).doing(reading)?;
    let mut count = 0;
    let mut before = Bytes::new();
    while let Some(row) = rows.next().doing(reading)? {
        count += 1;
        let Some(live) = damage.note(Live::read(row))? else {
            continue;
        };
        let key = row.get_ref(0).and_then(|key| Ok(key.as_blob()?)).doing(reading)?;
        let put = || -> rusqlite::Result<bool> {
            let of = row.get_ref(Live::WIDTH + 1)?.as_blob_or_null()?;
            let created: Option<i64> = row.get(Live::WIDTH)?;
            let size: Option<i64> = row.get(Live::WIDTH + 2)?;
            Ok(of == Some(key) && created == Some(live.created.0 as i64) && size == Some(live.size))
        };
        let same = put().doing(reading)?;
        if !same || history.superseded.contains(&live.id) {
            damage.add(format!("the latest put of {} is missing", key.escape_ascii()));
        }
        if *key <= *before {
            damage.add(format!("the entry of {} is out of order", key.escape_ascii()));
        }
        before = Bytes::copy_from_slice(key);
        contents.live_bytes += live.size;
        if live.expires != 0 {
            contents.expiries.push((live.expires, live.id, before.clone()));
        }
    }
    let puts = history.puts.saturating_sub(history.superseded.len());
    if count != puts {
        damage.add(format!("{puts} keys were put and not superseded, {count} are present"));
    }
    Ok(())
}
