//! A new file that is whole or not there, and for its owner only.

use std::{
    fs::{self, File, OpenOptions},
    io::ErrorKind,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use crate::{Error, Result};

/// A file on its way: written beside its place, and put there by [`NewFile::finish`].
#[derive(Debug)]
pub(crate) struct NewFile {
    partial: PathBuf,
    to: PathBuf,
    doing: String,
}

impl NewFile {
    /// Makes it, empty. `doing` is what errors say.
    pub(crate) fn create(to: &Path, doing: &str) -> Result<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let mut partial = to.as_os_str().to_owned();
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        partial.push(format!(".partial-{}-{number}", std::process::id()));
        let new = Self {
            partial: partial.into(),
            to: to.to_owned(),
            doing: doing.to_owned(),
        };
        match private(&new.partial) {
            Ok(_) => Ok(new),
            Err(error) => Err(new.failed(&error)),
        }
    }

    /// Where it is written.
    pub(crate) fn partial(&self) -> &Path {
        &self.partial
    }

    /// A failed step.
    pub(crate) fn failed(&self, error: &std::io::Error) -> Error {
        match error.kind() {
            ErrorKind::AlreadyExists | ErrorKind::NotFound => Error::Refused(format!("{}: {error}", self.doing)),
            _ => io(&self.doing, error),
        }
    }

    /// Makes it durable and puts it in its place, unless something is there.
    pub(crate) fn finish(self) -> Result<()> {
        let finish = || {
            File::open(&self.partial)?.sync_all()?;
            // Unlike a rename this takes nothing else's place; not every file system can do it.
            match fs::hard_link(&self.partial, &self.to) {
                Ok(()) => fs::remove_file(&self.partial)?,
                Err(error) if error.kind() == ErrorKind::AlreadyExists => return Err(error),
                Err(_) if self.to.exists() => return Err(ErrorKind::AlreadyExists.into()),
                Err(_) => fs::rename(&self.partial, &self.to)?,
            }
            self.to.parent().map_or(Ok(()), sync_dir)
        };
        finish().map_err(|error| self.failed(&error))
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        match fs::remove_file(&self.partial) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                tracing::warn!(%error, file = %self.partial.display(), "a partial file stays");
            }
            _ => {}
        }
    }
}

/// A new or emptied file that only its owner can read.
pub(crate) fn private(path: &Path) -> std::io::Result<File> {
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
}

/// Makes the names in a directory durable.
pub(crate) fn sync_dir(dir: &Path) -> std::io::Result<()> {
    let dir = if dir.as_os_str().is_empty() {
        Path::new(".")
    } else {
        dir
    };
    File::open(dir)?.sync_all()
}

/// A failed file operation.
pub(crate) fn io(doing: &str, error: &std::io::Error) -> Error {
    let text = format!("{doing}: {error}");
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => Error::Full(text),
        _ => Error::Unavailable(text),
    }
}
