//! The tables and their rows: where a row stands, what its checksum covers, how it is read.
//!
//! ```text
//! history  id → created, previous, rest, crc, key, value    every change that is kept, in the order of revisions
//! live     key → id, created, expires, size, crc            the row of each present key; answers compares by itself
//! bounds   compacted, swept, crc                            one row
//! ```
//!
//! `previous` leads from a change to the one it superseded, so that sweeping and reading at an old revision need no
//! index of keys by revision: that would cost every write two more pages.

use bytes::Bytes;
use crc32fast::Hasher;
use rusqlite::Row;

use crate::{Error, Event, KeyValue, Result, Revision};

pub(super) const SCHEMA: &str = "
    CREATE TABLE history (
        id INTEGER PRIMARY KEY, -- revision * 1024 + place in its transaction
        created INTEGER NOT NULL, -- revision of the put that made the key
        previous INTEGER NOT NULL, -- id of the put it superseded; 0: the key was absent
        rest INTEGER NOT NULL, -- how many more rows its transaction has
        crc INTEGER NOT NULL,
        key BLOB NOT NULL,
        value BLOB -- NULL: the key was deleted
    );
    CREATE TABLE live (
        key BLOB PRIMARY KEY,
        id INTEGER NOT NULL,
        created INTEGER NOT NULL,
        expires INTEGER NOT NULL, -- milliseconds since 1970; 0: never
        size INTEGER NOT NULL, -- of key and value
        crc INTEGER NOT NULL
    ) WITHOUT ROWID;
    CREATE TABLE bounds (
        one INTEGER PRIMARY KEY CHECK (one = 1),
        compacted INTEGER NOT NULL, -- the oldest revision that can be read
        swept INTEGER NOT NULL, -- up to here nothing superseded is left; at most `compacted`
        crc INTEGER NOT NULL
    );
";

/// Where a change stands: its revision and its place in the transaction, as one ordered number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct RowId(pub(super) i64);

impl RowId {
    /// More than [`crate::store::MAX_OPS`], with room for larger transactions later.
    const PLACES: i64 = 1024;

    pub(super) fn new(revision: Revision, place: usize) -> Self {
        Self(revision.0 as i64 * Self::PLACES + place as i64)
    }

    /// The first row after all those of `revision`.
    pub(super) fn after(revision: Revision) -> Self {
        Self::new(Revision(revision.0 + 1), 0)
    }

    pub(super) fn revision(self) -> Revision {
        Revision((self.0 / Self::PLACES) as u64)
    }

    /// `None` for 0: there is no such row.
    pub(super) fn some(self) -> Option<Self> {
        (self.0 != 0).then_some(self)
    }
}

/// A row of `history`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) id: RowId,
    pub(super) created: Revision,
    pub(super) previous: RowId,
    pub(super) rest: i64,
    pub(super) key: Bytes,
    /// `None`: deleted.
    pub(super) value: Option<Bytes>,
}

impl Change {
    pub(super) const COLUMNS: &str = "id, created, previous, rest, crc, key, value";

    /// Over all that the row holds, so that no part can change unseen.
    pub(super) fn crc(&self) -> i64 {
        let mut head = [0; 41];
        let fields = [
            self.id.0,
            self.created.0 as i64,
            self.previous.0,
            self.rest,
            self.key.len() as i64,
        ];
        for (to, field) in head.chunks_exact_mut(8).zip(fields) {
            to.copy_from_slice(&field.to_le_bytes());
        }
        head[40] = self.value.is_some().into();
        let mut crc = Hasher::new();
        crc.update(&head);
        crc.update(&self.key);
        crc.update(self.value.as_deref().unwrap_or_default());
        crc.finalize().into()
    }

    /// From the [`Change::COLUMNS`], which start at column `at`.
    pub(super) fn read(row: &Row<'_>, at: usize) -> Result<Self> {
        let id = row.get(at).map(RowId);
        let read = || -> rusqlite::Result<(Self, i64)> {
            let change = Self {
                id: RowId(row.get(at)?),
                created: Revision(row.get::<_, i64>(at + 1)? as u64),
                previous: RowId(row.get(at + 2)?),
                rest: row.get(at + 3)?,
                key: Bytes::copy_from_slice(row.get_ref(at + 5)?.as_blob()?),
                value: row.get_ref(at + 6)?.as_blob_or_null()?.map(Bytes::copy_from_slice),
            };
            Ok((change, row.get(at + 4)?))
        };
        let revision = id.map_or(Revision(0), RowId::revision);
        let (change, crc) =
            read().map_err(|error| Error::Damaged(format!("the change at revision {revision}: {error}")))?;
        if change.crc() != crc {
            let key = change.key.escape_ascii();
            return Err(Error::Damaged(format!(
                "the change of {key} at revision {revision}: its checksum does not hold"
            )));
        }
        Ok(change)
    }

    pub(super) fn event(self) -> Event {
        let (key, created, modified) = (self.key, self.created, self.id.revision());
        match self.value {
            Some(value) => Event::Put {
                kv: KeyValue {
                    key,
                    value,
                    created,
                    modified,
                },
            },
            None => Event::Delete {
                key,
                revision: modified,
            },
        }
    }

    /// The key as it was after this change.
    pub(super) fn state(self) -> Option<KeyValue> {
        match self.event() {
            Event::Put { kv } => Some(kv),
            Event::Delete { .. } => None,
        }
    }
}

/// A row of `live`, without its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Live {
    pub(super) id: RowId,
    pub(super) created: Revision,
    /// Milliseconds since 1970; 0: never.
    pub(super) expires: i64,
    pub(super) size: i64,
}

impl Live {
    pub(super) const COLUMNS: &str = "live.key, live.id, live.created, live.expires, live.size, live.crc";
    pub(super) const WIDTH: usize = 6;

    pub(super) fn crc(&self, key: &[u8]) -> i64 {
        let mut head = [0; 32];
        let fields = [self.id.0, self.created.0 as i64, self.expires, self.size];
        for (to, field) in head.chunks_exact_mut(8).zip(fields) {
            to.copy_from_slice(&field.to_le_bytes());
        }
        let mut crc = Hasher::new();
        crc.update(&head);
        crc.update(key);
        crc.finalize().into()
    }

    /// From the [`Live::COLUMNS`], which start at column 0.
    pub(super) fn read(row: &Row<'_>) -> Result<Self> {
        let read = || -> rusqlite::Result<(Self, bool)> {
            let live = Self {
                id: RowId(row.get(1)?),
                created: Revision(row.get::<_, i64>(2)? as u64),
                expires: row.get(3)?,
                size: row.get(4)?,
            };
            let whole = live.crc(row.get_ref(0)?.as_blob()?) == row.get::<_, i64>(5)?;
            Ok((live, whole))
        };
        let damaged = |why: &str| {
            let key = row
                .get_ref(0)
                .ok()
                .and_then(|key| key.as_blob().ok())
                .unwrap_or_default();
            Error::Damaged(format!("the entry of {}: {why}", key.escape_ascii()))
        };
        match read() {
            Ok((live, true)) => Ok(live),
            Ok((_, false)) => Err(damaged("its checksum does not hold")),
            Err(error) => Err(damaged(&error.to_string())),
        }
    }
}

/// How far history has been given up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Bounds {
    /// The oldest revision that can be read.
    pub(super) compacted: Revision,
    /// Up to here nothing superseded is left. At most `compacted`.
    pub(super) swept: Revision,
}

impl Bounds {
    pub(super) fn crc(self) -> i64 {
        let mut crc = Hasher::new();
        crc.update(&self.compacted.0.to_le_bytes());
        crc.update(&self.swept.0.to_le_bytes());
        crc.finalize().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_ordered_by_revision_then_place() {
        let id = RowId::new(Revision(7), 3);
        assert_eq!((id.revision(), id.0), (Revision(7), 7 * 1024 + 3));
        assert!(RowId::new(Revision(7), 127) < RowId::after(Revision(7)));
        assert_eq!(RowId::after(Revision(7)), RowId::new(Revision(8), 0));
        assert_eq!(RowId::after(Revision(0)).revision(), Revision(1));
    }

    #[test]
    fn a_checksum_covers_every_field() {
        let change = Change {
            id: RowId(1024),
            created: Revision(1),
            previous: RowId(0),
            rest: 0,
            key: Bytes::from_static(b"ab"),
            value: Some(Bytes::from_static(b"c")),
        };
        let others = [
            Change {
                id: RowId(1025),
                ..change.clone()
            },
            Change {
                created: Revision(2),
                ..change.clone()
            },
            Change {
                previous: RowId(1),
                ..change.clone()
            },
            Change {
                rest: 1,
                ..change.clone()
            },
            Change {
                key: Bytes::from_static(b"a"),
                value: Some(Bytes::from_static(b"bc")),
                ..change.clone()
            },
            Change {
                key: Bytes::from_static(b"abc"),
                value: None,
                ..change.clone()
            },
            Change {
                value: Some(Bytes::new()),
                ..change.clone()
            },
            Change {
                value: None,
                ..change.clone()
            },
        ];
        for (at, other) in others.iter().enumerate() {
            assert_ne!(other.crc(), change.crc(), "{other:?}");
            for later in &others[at + 1..] {
                assert_ne!(other.crc(), later.crc(), "{other:?} and {later:?}");
            }
        }
    }
}
