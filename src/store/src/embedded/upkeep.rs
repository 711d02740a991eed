//! Keeping the files short: the log by checkpoints, the store by giving free pages back.

use std::time::Duration;

use rusqlite::{Connection, wal::CheckpointMode};

use super::{failure::Context as _, reader::Gate};
use crate::Result;

/// Pages from which on the log is written to the store; 8 MiB.
pub(super) const LOG: usize = 2048;
/// From here on readers wait for it, if they never left the log all at once; 64 MiB.
const LONG_LOG: usize = 8 * LOG;
/// How long the writer waits for the readers then.
const PATIENCE: Duration = Duration::from_millis(500);
/// Free pages given back in one step, so that writers don't wait long.
const STEP: u64 = 256;
/// So many may stay.
const FREE: u64 = 8;

/// What upkeep left to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Left {
    /// Nothing, until the next write.
    Nothing,
    /// More of the same, at once.
    More,
    /// Readers were in the way.
    Held,
}

/// Pages in the file, and how many of them are free.
pub(super) fn pages(db: &Connection) -> Result<(u64, u64)> {
    let number = |sql: &str| -> rusqlite::Result<u64> {
        let mut statement = db.prepare_cached(sql)?;
        statement.query_row([], |row| row.get::<_, i64>(0).map(|pages| pages as u64))
    };
    let all = number("PRAGMA page_count").doing("counting pages")?;
    let free = number("PRAGMA freelist_count").doing("counting free pages")?;
    Ok((all, free))
}

/// Writes a log that has grown to `pages` to the store, so that it begins from its start; whether nothing was in the way.
pub(super) fn checkpoint(db: &Connection, gate: &Gate, pages: usize) -> Result<bool> {
    let doing = "writing the log to the store";
    if pages < LONG_LOG {
        let mode = CheckpointMode::PASSIVE;
        let (all, done) = db.wal_checkpoint_v2::<&str>(None, mode).doing(doing)?;
        return Ok(all == done);
    }
    let alone = gate.try_write_for(PATIENCE);
    let truncated = db.wal_checkpoint_v2::<&str>(None, CheckpointMode::TRUNCATE);
    drop(alone);
    match truncated {
        Err(error) if busy(&error) => {
            tracing::warn!(pages, "a long read keeps the store's log from being shortened");
            Ok(false)
        }
        other => other.doing(doing).map(|_| true),
    }
}

/// A step of giving pages back or, when that is done, empties the log.
pub(super) fn all(db: &Connection, gate: &Gate) -> Result<Left> {
    let (all, free) = pages(db)?;
    if free > FREE.max(all / 16) {
        give_back(db, STEP.min(free)).doing("giving pages back")?;
        // Should that have no effect, trying again has none.
        if pages(db)?.1 < free {
            return Ok(Left::More);
        }
    }
    Ok(if shorten(db, gate) { Left::Nothing } else { Left::Held })
}

/// Empties the log, if no reader is in the way.
pub(super) fn shorten(db: &Connection, gate: &Gate) -> bool {
    let alone = gate.try_write_for(Duration::from_millis(20));
    let result = db.wal_checkpoint_v2::<&str>(None, CheckpointMode::TRUNCATE);
    drop(alone);
    if let Err(error) = &result
        && !busy(error)
    {
        tracing::warn!(%error, "the store's log was not emptied");
    }
    result.is_ok()
}

fn give_back(db: &Connection, pages: u64) -> rusqlite::Result<()> {
    let mut statement = db.prepare(&format!("PRAGMA incremental_vacuum({pages})"))?;
    // Each row is a page.
    let mut rows = statement.query([])?;
    while rows.next()?.is_some() {}
    Ok(())
}

fn busy(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(rusqlite::ErrorCode::DatabaseBusy)
}
