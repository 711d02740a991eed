//! Making a whole store of a damaged one: what can be read goes into a new file, what can't is named, and the damaged files
//! stay beside it.
//!
//! A key is kept as of its latest change that is whole. Where the two tables disagree, the change counts: its checksum
//! covers the value. History goes, and revisions go on far above the last that can be read, so that no client takes what it
//! saw before for what is there now.
//!
//! The new file is finished and durable before the old one is touched; a crash in between is made up for when the
//! directory is taken next ([`Directory`]).

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use rusqlite::Connection;

use super::{
    damage::readable,
    failure::Context as _,
    files::{self, Directory},
    row::{Bounds, Change, Live, RowId},
    verify,
};
use crate::{
    Error, Result, Revision,
    new_file::{io, private},
};

/// How far above the last revision that can be read the store goes on.
const SKIPPED: u64 = 1_000_000;

/// What became of a damaged store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Salvaged {
    /// Keys that are there as they were.
    pub kept: usize,
    /// What is not, one line each: which key, and why.
    pub lost: Vec<String>,
    /// Where the damaged files are.
    pub aside: Vec<PathBuf>,
}

/// What is to be taken over of a key.
struct Wanted {
    id: RowId,
    /// Milliseconds since 1970; 0: never.
    expires: i64,
}

/// Salvages the store in `dir`; `None` if nothing is damaged.
pub(super) fn salvage(dir: &Path) -> Result<Option<Salvaged>> {
    let directory = Directory::take(dir)?;
    let path = directory.store();
    let db = files::writer(&path)?;
    match verify::contents(&db) {
        Ok(_) => return Ok(None),
        Err(Error::Damaged(_)) => {}
        Err(other) => return Err(other),
    }
    let mut salvaged = Salvaged {
        aside: directory.set_aside()?,
        ..Salvaged::default()
    };
    let (wanted, last) = find(&db, &mut salvaged.lost);
    let new = directory.salvaging();
    match fs::remove_file(&new) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(io(&format!("removing {}", new.display()), &error));
        }
        _ => {}
    }
    private(&new).map_err(|error| io(&format!("making {}", new.display()), &error))?;
    let doing = format!("writing {}", new.display());
    files::create(&new).doing(&doing)?;
    copy(&db, &files::connect(&new).doing(&doing)?, wanted, last, &mut salvaged)?;
    drop(db);
    directory.adopt(&new)?;
    Ok(Some(salvaged))
}

/// What each key should be, as far as that can be told, and the last revision of which there is a trace.
fn find(db: &Connection, lost: &mut Vec<String>) -> (BTreeMap<Bytes, Wanted>, Revision) {
    let mut latest: BTreeMap<Bytes, (RowId, bool)> = BTreeMap::new();
    let mut known = BTreeSet::new();
    let sql = format!("SELECT {} FROM history ORDER BY id", Change::COLUMNS);
    let (changes, all_history) = readable(db, &sql, |row| Ok(Change::read(row, 0).ok()));
    let mut whole = all_history;
    let mut last = RowId(0);
    for change in changes {
        let Some(change) = change else {
            whole = false;
            continue;
        };
        last = last.max(change.id);
        known.insert(change.id);
        let seen = latest.entry(change.key).or_insert((change.id, false));
        if change.id >= seen.0 {
            *seen = (change.id, change.value.is_some());
        }
    }
    let sql = format!("SELECT {} FROM live ORDER BY key", Live::COLUMNS);
    let (entries, all_live) = readable(db, &sql, |row| {
        let key = row.get_ref(0)?.as_blob()?.to_vec();
        Ok((Bytes::from(key), Live::read(row).ok()))
    });
    let mut wanted = BTreeMap::new();
    for (key, live) in entries {
        let Some(live) = live else { continue };
        last = last.max(live.id);
        match latest.remove(&key) {
            // What the entry says is no longer so.
            Some((id, put)) if id > live.id => {
                if put {
                    wanted.insert(key, Wanted { id, expires: 0 });
                }
            }
            _ => {
                let (id, expires) = (live.id, live.expires);
                wanted.insert(key, Wanted { id, expires });
            }
        }
    }
    // Keys of which there is no entry.
    for (key, (id, put)) in latest {
        if !put || wanted.contains_key(&key) {
            continue;
        }
        if whole {
            wanted.insert(key, Wanted { id, expires: 0 });
        } else {
            lost.push(format!(
                "{}: its entry can't be read, and whether it was changed after revision {} neither",
                key.escape_ascii(),
                id.revision()
            ));
        }
    }
    if !all_history && !all_live {
        lost.push("both tables have pages that can't be read: keys that only those held are not known by name".into());
    }
    let bounds = verify::bounds(db).map_or(Revision(0), |bounds| bounds.compacted);
    (wanted, last.revision().max(bounds))
}

/// Writes what is wanted, as far as it is whole, to a new store.
fn copy(
    from: &Connection,
    to: &Connection,
    wanted: BTreeMap<Bytes, Wanted>,
    last: Revision,
    salvaged: &mut Salvaged,
) -> Result<()> {
    let doing = "writing what was salvaged";
    let to = to.unchecked_transaction().doing(doing)?;
    for (key, Wanted { id, expires }) in wanted {
        let change = match read(from, id) {
            Ok(Some(change)) if change.key == key && change.value.is_some() => change,
            Ok(_) => {
                salvaged.lost.push(format!(
                    "{}: its value, of revision {}, is gone",
                    key.escape_ascii(),
                    id.revision()
                ));
                continue;
            }
            Err(error) => {
                salvaged.lost.push(format!("{}: {error}", key.escape_ascii()));
                continue;
            }
        };
        let (crc, value) = (change.crc(), change.value.unwrap_or_default());
        let live = Live {
            id,
            created: change.created,
            expires,
            size: (key.len() + value.len()) as i64,
        };
        let mut insert = to
            .prepare_cached("INSERT INTO history VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)")
            .doing(doing)?;
        let created = change.created.0 as i64;
        let row = (id.0, created, change.previous.0, change.rest, crc, &*key, &*value);
        insert.execute(row).doing(doing)?;
        let mut insert = to
            .prepare_cached("INSERT INTO live VALUES (?1, ?2, ?3, ?4, ?5, ?6)")
            .doing(doing)?;
        let row = (&*key, id.0, created, expires, live.size, live.crc(&key));
        insert.execute(row).doing(doing)?;
        salvaged.kept += 1;
    }
    let last = Revision(last.0 + SKIPPED);
    let bounds = Bounds {
        compacted: last,
        swept: last,
    };
    let row = (last.0 as i64, last.0 as i64, bounds.crc());
    to.execute("UPDATE bounds SET compacted = ?1, swept = ?2, crc = ?3", row)
        .doing(doing)?;
    to.commit().doing(doing)
}

fn read(db: &Connection, id: RowId) -> Result<Option<Change>> {
    let doing = "reading a change";
    let sql = format!("SELECT {} FROM history WHERE id = ?1", Change::COLUMNS);
    let mut statement = db.prepare_cached(&sql).doing(doing)?;
    let mut rows = statement.query([id.0]).doing(doing)?;
    rows.next().doing(doing)?.map(|row| Change::read(row, 0)).transpose()
}
