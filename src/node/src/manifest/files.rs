//! The directory's files: read, decoded, the good ones remembered. All of this blocks.

use std::{
    collections::BTreeSet,
    ffi::{OsStr, OsString},
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::Path,
    sync::Arc,
};

use bosun_api::{
    core::Pod,
    manifest::{MAX_BYTES, decode},
};
use nix::libc;
use tracing::warn;

use super::Problem;

/// What a file turned out to be.
#[derive(Debug)]
pub(super) enum Content {
    /// There is no such file, or it is a directory.
    Nothing,
    /// It is being written: there will be another event.
    Unfinished,
    /// A good manifest.
    Good(Arc<Pod>),
    /// No manifest.
    Bad {
        /// What is wrong.
        problem: Problem,
        /// The pod of the version remembered, where that was asked for.
        earlier: Option<Arc<Pod>>,
    },
}

/// A file to look at.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Look {
    pub(super) name: OsString,
    /// It has just come into being: only read if it can't be one that is being written, but a link.
    pub(super) created: bool,
    /// It has had no good version since the agent started.
    pub(super) recall: bool,
}

/// Where everything is.
#[derive(Clone, Debug)]
pub(super) struct Places {
    pub(super) dir: Arc<Path>,
    pub(super) memory: Arc<Path>,
    pub(super) node_name: Arc<str>,
}

/// Whether a name is one of those that editors and atomic writers leave beside the file they write.
pub(super) fn is_ignored(name: &OsStr) -> bool {
    let name = name.as_encoded_bytes();
    name.starts_with(b".") || name.ends_with(b"~") || (name.starts_with(b"#") && name.ends_with(b"#"))
}

impl Places {
    /// Makes the directory, for root only, if it isn't there.
    pub(super) fn create(&self) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.dir)
    }

    /// The names in the directory that may be manifests; none if there is no directory.
    pub(super) fn list(&self) -> io::Result<BTreeSet<OsString>> {
        let entries = match fs::read_dir(&self.dir) {
            Ok(entries) => entries,
            Err(error) if is_absent(&error) => return Ok(BTreeSet::new()),
            Err(error) => return Err(error),
        };
        let mut names = BTreeSet::new();
        for entry in entries {
            let name = entry?.file_name();
            if !is_ignored(&name) {
                names.insert(name);
            }
        }
        Ok(names)
    }

    /// Whether a name is a symbolic link to a file.
    pub(super) fn is_link(&self, name: &OsStr) -> bool {
        let path = self.dir.join(name);
        path.is_symlink() && path.is_file()
    }

    /// Reads a file.
    pub(super) fn look(&self, look: &Look) -> Content {
        let path = self.dir.join(&look.name);
        let name = look.name.to_string_lossy();
        let problem = match read(&path, look.created) {
            Ok(Bytes::Nothing) => return Content::Nothing,
            Ok(Bytes::Unfinished) => return Content::Unfinished,
            Ok(Bytes::NotAFile) => Problem::NotAFile,
            Ok(Bytes::Read(bytes)) => match decode(&bytes, &name, &self.node_name) {
                Ok(pod) => {
                    self.remember(&look.name, &bytes);
                    return Content::Good(Arc::new(pod));
                }
                Err(error) => Problem::Manifest(error),
            },
            Err(error) => Problem::Unreadable(error.to_string()),
        };
        let earlier = look.recall.then(|| self.recall(&look.name)).flatten();
        Content::Bad { problem, earlier }
    }

    fn recall(&self, name: &OsStr) -> Option<Arc<Pod>> {
        let Ok(Bytes::Read(bytes)) = read(&self.memory.join(name), false) else {
            return None;
        };
        decode(&bytes, &name.to_string_lossy(), &self.node_name)
            .ok()
            .map(Arc::new)
    }

    /// Keeps a copy of a good manifest. Nothing fails when that fails: it matters only if the file is broken before
    /// the agent is started again.
    fn remember(&self, name: &OsStr, bytes: &[u8]) {
        let path = self.memory.join(name);
        if matches!(read(&path, false), Ok(Bytes::Read(old)) if old == bytes) {
            return;
        }
        if let Err(error) = self.write(name, bytes) {
            warn!(file = %path.display(), %error, "a manifest could not be remembered: if it is broken while the agent is down, its pod is stopped");
        }
    }

    fn write(&self, name: &OsStr, bytes: &[u8]) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.memory)?;
        let mut temporary = OsString::from(".");
        temporary.push(name);
        let temporary = self.memory.join(temporary);
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&temporary)?;
        let written = file
            .write_all(bytes)
            .and_then(|()| fs::rename(&temporary, self.memory.join(name)));
        written.inspect_err(|_| drop(fs::remove_file(&temporary)))
    }

    /// Forgets every manifest whose file is not among `names`.
    pub(super) fn forget_others(&self, names: &BTreeSet<OsString>) {
        let Ok(entries) = fs::read_dir(&self.memory) else {
            return;
        };
        for entry in entries.flatten().filter(|entry| !names.contains(&entry.file_name())) {
            self.forget(&entry.file_name());
        }
    }

    /// Forgets a manifest whose file is gone.
    pub(super) fn forget(&self, name: &OsStr) {
        let path = self.memory.join(name);
        match fs::remove_file(&path) {
            Err(error) if !is_absent(&error) => {
                warn!(file = %path.display(), %error, "a remembered manifest could not be removed");
            }
            _ => {}
        }
    }
}

enum Bytes {
    Nothing,
    Unfinished,
    NotAFile,
    Read(Vec<u8>),
}

fn read(path: &Path, created: bool) -> io::Result<Bytes> {
    // Nothing but a regular file is ever opened: opening a device or a pipe may do things, or wait.
    let metadata = match fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => return Ok(Bytes::Nothing),
        Ok(metadata) if !metadata.is_file() => return Ok(Bytes::NotAFile),
        Ok(metadata) => metadata,
        Err(error) if is_absent(&error) => return Ok(Bytes::Nothing),
        Err(error) => return Err(error),
    };
    if created && metadata.nlink() == 1 && !fs::symlink_metadata(path)?.is_symlink() {
        return Ok(Bytes::Unfinished);
    }
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path);
    let file: File = match opened {
        Ok(file) => file,
        Err(error) if is_absent(&error) => return Ok(Bytes::Nothing),
        Err(error) => return Err(error),
    };
    if !file.metadata()?.is_file() {
        return Ok(Bytes::NotAFile);
    }
    let mut bytes = Vec::new();
    file.take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    Ok(Bytes::Read(bytes))
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}
