//! The store's directory: who may see it, who has it, and how a new store comes to be whole or not at all.
//!
//! ```text
//! DIR/            0700
//!   lock          held (flock) by the process that has the store; tells its pid
//!   store.db      `SQLite`; made as store.db.new and renamed, so it is never half a store
//!   store.db-wal  its log, with the newest transactions
//!   store.db-shm  the log's index, rebuilt at need
//!   store.db.salvaged       a store made of a damaged one, about to take its place
//!   store.db.damaged-N…     what it was made of
//! ```

use std::{
    fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError},
    io::{Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use rusqlite::{Connection, OpenFlags};

use super::{
    failure::Context as _,
    row::{Bounds, SCHEMA},
};
use crate::{
    Error, Result,
    new_file::{io, private, sync_dir},
};

/// "bosn", so that `file` and the next version know what this is.
const APPLICATION: i32 = 0x626f_736e;
/// Of the tables; a newer program may raise it.
const FORMAT: i32 = 1;
/// `SQLite`'s page, in bytes.
pub(super) const PAGE: u64 = 4096;

/// The directory, ours while this lives.
#[derive(Debug)]
pub(super) struct Directory {
    dir: PathBuf,
    _lock: File,
}

impl Directory {
    /// Takes the directory, making what is missing.
    pub(super) fn take(dir: &Path) -> Result<Self> {
        let shown = dir.display();
        let result = DirBuilder::new().recursive(true).mode(0o700).create(dir);
        result.map_err(|error| io(&format!("making {shown}"), &error))?;
        let result = fs::set_permissions(dir, Permissions::from_mode(0o700));
        result.map_err(|error| io(&format!("closing {shown} to others"), &error))?;
        let lock = lock(&dir.join("lock"))?;
        let directory = Self {
            dir: dir.to_owned(),
            _lock: lock,
        };
        directory.ensure_store()?;
        Ok(directory)
    }

    pub(super) fn store(&self) -> PathBuf {
        self.dir.join("store.db")
    }

    /// What the store takes on the disk, in bytes.
    pub(super) fn bytes(&self) -> u64 {
        let size = |name: &str| fs::metadata(self.dir.join(name)).map_or(0, |file| file.len());
        size("store.db") + size("store.db-wal")
    }

    /// Takes a file beside the store for a moment, to learn whether the disk takes any more.
    pub(super) fn probe(&self) -> std::io::Result<()> {
        let path = self.dir.join("probe");
        let written = private(&path).and_then(|mut file| {
            file.write_all(&[0; 64 * 1024])?;
            file.sync_data()
        });
        let removed = fs::remove_file(&path);
        written.and(removed)
    }

    /// Where a store is made of what can be salvaged.
    pub(super) fn salvaging(&self) -> PathBuf {
        self.dir.join("store.db.salvaging")
    }

    /// Copies the store's files as they are, under names that nothing else uses.
    pub(super) fn set_aside(&self) -> Result<Vec<PathBuf>> {
        let number = (1..1000).find(|number| !self.dir.join(format!("store.db.damaged-{number}")).exists());
        let number: u32 = number.unwrap_or_default();
        let mut aside = Vec::new();
        for ending in ["", "-wal"] {
            let from = self.dir.join(format!("store.db{ending}"));
            let to = self.dir.join(format!("store.db.damaged-{number}{ending}"));
            let failed = |error| io(&format!("copying {} to {}", from.display(), to.display()), &error);
            if from.exists() {
                fs::copy(&from, &to).map_err(failed)?;
                File::open(&to).and_then(|file| file.sync_all()).map_err(failed)?;
                aside.push(to);
            }
        }
        Ok(aside)
    }

    /// Puts a finished store in the place of the damaged one.
    pub(super) fn adopt(&self, new: &Path) -> Result<()> {
        let failed = |error| io(&format!("finishing {}", new.display()), &error);
        File::open(new).and_then(|file| file.sync_all()).map_err(failed)?;
        fs::rename(new, self.salvaged()).map_err(failed)?;
        sync_dir(&self.dir).map_err(failed)?;
        self.finish_salvage()
    }

    fn salvaged(&self) -> PathBuf {
        self.dir.join("store.db.salvaged")
    }

    /// From the moment there is a salvaged store it is the one that counts: the old one's log must not be taken for its.
    fn finish_salvage(&self) -> Result<()> {
        let salvaged = self.salvaged();
        if !salvaged.exists() {
            return Ok(());
        }
        let finish = || {
            for old in ["store.db-wal", "store.db-shm"] {
                match fs::remove_file(self.dir.join(old)) {
                    Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
                    _ => {}
                }
            }
            sync_dir(&self.dir)?;
            fs::rename(&salvaged, self.store())?;
            sync_dir(&self.dir)
        };
        finish().map_err(|error| io(&format!("putting {} in its place", salvaged.display()), &error))
    }

    fn ensure_store(&self) -> Result<()> {
        self.finish_salvage()?;
        let path = self.store();
        if path.exists() {
            let result = fs::set_permissions(&path, Permissions::from_mode(0o600));
            return result.map_err(|error| io(&format!("closing {} to others", path.display()), &error));
        }
        if self.dir.join("store.db-wal").exists() {
            return Err(Error::Damaged(format!(
                "{} is gone, but its log is there: the whole store",
                path.display()
            )));
        }
        let new = self.dir.join("store.db.new");
        let make = || -> Result<()> {
            let doing = format!("making {}", new.display());
            let failed = |error| io(&doing, &error);
            match fs::remove_file(&new) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(error)),
                _ => {}
            }
            drop(private(&new).map_err(failed)?);
            create(&new).doing(&doing)?;
            File::open(&new).and_then(|file| file.sync_all()).map_err(failed)?;
            fs::rename(&new, &path).map_err(failed)?;
            sync_dir(&self.dir).map_err(failed)?;
            self.dir.parent().map_or(Ok(()), sync_dir).map_err(failed)
        };
        make()
    }
}

fn lock(path: &Path) -> Result<File> {
    let failed = |error| io(&format!("locking {}", path.display()), &error);
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    let mut file = options.open(path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            // Who holds it is told if it can be.
            let _unknown = file.read_to_string(&mut holder);
            let holder = holder.trim();
            let holder = if holder.is_empty() { "unknown" } else { holder };
            return Err(Error::Unavailable(format!(
                "{} is in use by another process (pid {holder}); stop it first",
                path.parent().unwrap_or(path).display()
            )));
        }
        Err(TryLockError::Error(error)) => return Err(failed(error)),
    }
    // For people only; a full disk must not keep the store from opening.
    if let Err(error) = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id())) {
        tracing::debug!(%error, lock = %path.display(), "the lock does not tell its holder");
    }
    Ok(file)
}

/// An empty store, in a single file.
pub(super) fn create(path: &Path) -> rusqlite::Result<()> {
    let db = connect(path)?;
    // A file beside it would outlive a crash, and be taken for the next one's.
    db.pragma_update(None, "journal_mode", "MEMORY")?;
    // Both only count before the first table.
    db.pragma_update(None, "page_size", PAGE as i64)?;
    db.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
    let bounds = Bounds::default();
    db.execute_batch(&format!(
        "BEGIN; PRAGMA application_id = {APPLICATION}; PRAGMA user_version = {FORMAT}; {SCHEMA}
         INSERT INTO bounds VALUES (1, 0, 0, {}); COMMIT;",
        bounds.crc()
    ))
}

pub(super) fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(path, flags)?;
    db.pragma_update(None, "mmap_size", 0)?;
    db.pragma_update(None, "cell_size_check", true)?;
    db.pragma_update(None, "trusted_schema", false)?;
    db.set_prepared_statement_cache_capacity(32);
    Ok(db)
}

/// Opens a store for the writer.
pub(super) fn writer(path: &Path) -> Result<Connection> {
    let doing = format!("opening {}", path.display());
    let open = || -> rusqlite::Result<Connection> {
        let db = connect(path)?;
        db.pragma_update(None, "journal_mode", "WAL")?;
        db.pragma_update(None, "synchronous", "FULL")?;
        // The writer does it itself, after its answers.
        db.pragma_update(None, "wal_autocheckpoint", 0)?;
        // In KiB, when negative.
        db.pragma_update(None, "cache_size", -2048)?;
        db.busy_timeout(std::time::Duration::from_millis(50))?;
        Ok(db)
    };
    let db = open().doing(&doing)?;
    let number = |name: &str| db.pragma_query_value(None, name, |row| row.get::<_, i32>(0));
    let (application, format) = (
        number("application_id").doing(&doing)?,
        number("user_version").doing(&doing)?,
    );
    if application != APPLICATION {
        return Err(Error::Damaged(format!(
            "{} does not say that it is a store",
            path.display()
        )));
    }
    if format != FORMAT {
        return Err(Error::Unavailable(format!(
            "{} has format {format}, this program knows {FORMAT}: use the version that wrote it",
            path.display()
        )));
    }
    Ok(db)
}

/// Opens a store for a reader.
pub(super) fn reader(path: &Path) -> Result<Connection> {
    let open = || -> rusqlite::Result<Connection> {
        let db = connect(path)?;
        db.pragma_update(None, "query_only", true)?;
        db.pragma_update(None, "cache_size", -512)?;
        db.busy_timeout(std::time::Duration::from_secs(5))?;
        Ok(db)
    };
    open().doing(&format!("opening {}", path.display()))
}
