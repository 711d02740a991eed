//! Network namespaces: which one a path is, and stepping into one.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, RawFd},
        unix::fs::{MetadataExt, OpenOptionsExt},
    },
    path::{Path, PathBuf},
};

use nix::{
    sched::{CloneFlags, setns},
    sys::statfs::{FsType, fstatfs, statfs},
};

/// Why a namespace could not be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The path is not there: the namespace was removed, or never was.
    #[error("there is no network namespace at {path}")]
    Missing {
        /// The path.
        path: PathBuf,
    },
    /// Something else is there.
    #[error("{path} is not a network namespace")]
    NotANamespace {
        /// The path.
        path: PathBuf,
    },
    /// It could not be opened or entered.
    #[error("cannot {doing} network namespace {path}")]
    Io {
        /// `open` or `enter`.
        doing: &'static str,
        /// The path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// What tells one namespace from another while both exist. The kernel uses numbers again, so a record keeps the path
/// beside it: the namespace is gone when its path is, or has another number.
pub type Inode = u64;

/// An open network namespace. Holding it keeps it alive.
#[derive(Debug)]
pub struct Netns {
    file: File,
    path: PathBuf,
    inode: Inode,
}

/// `NSFS_MAGIC` of the kernel's `magic.h`.
const NSFS: i64 = 0x6e73_6673;

impl Netns {
    /// Opens the namespace at a path.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, Error> {
        let path = path.into();
        // A FIFO someone put there must not stop us.
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
            .open(&path);
        let file = match file {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(Error::Missing { path }),
            Err(source) => {
                return Err(Error::Io {
                    doing: "open",
                    path,
                    source,
                });
            }
        };
        match fstatfs(&file) {
            Ok(fs) if fs.filesystem_type() == FsType(NSFS) => {}
            Ok(_) => return Err(Error::NotANamespace { path }),
            Err(e) => {
                return Err(Error::Io {
                    doing: "open",
                    path,
                    source: e.into(),
                });
            }
        }
        let inode = match file.metadata() {
            Ok(metadata) => metadata.ino(),
            Err(source) => {
                return Err(Error::Io {
                    doing: "open",
                    path,
                    source,
                });
            }
        };
        Ok(Self { file, path, inode })
    }

    /// The namespace this thread is in.
    pub fn current() -> Result<Self, Error> {
        Self::open("/proc/thread-self/ns/net")
    }

    /// Where it was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its number.
    pub fn inode(&self) -> Inode {
        self.inode
    }

    /// Moves this thread into the namespace.
    pub fn enter(&self) -> Result<(), Error> {
        setns(&self.file, CloneFlags::CLONE_NEWNET).map_err(|e| match e {
            nix::errno::Errno::EINVAL => Error::NotANamespace {
                path: self.path.clone(),
            },
            e => Error::Io {
                doing: "enter",
                path: self.path.clone(),
                source: e.into(),
            },
        })
    }
}

impl Netns {
    /// Does something in the namespace and comes back. A thread that can't come back must not go on elsewhere, so that
    /// is an error whatever was done.
    pub fn within<T>(&self, work: impl FnOnce() -> T) -> Result<T, Error> {
        let home = Self::current()?;
        self.enter()?;
        let done = work();
        home.enter()?;
        Ok(done)
    }
}

impl AsFd for Netns {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl AsRawFd for Netns {
    fn as_raw_fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }
}

/// What became of a namespace that was once seen at a path with a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// It is there, or the path can't be looked at: nothing is taken from a pod on a doubt.
    There,
    /// The path is gone, or leads to another namespace.
    Gone,
    /// The path is there, but nothing is mounted on it. Either a namespace was removed halfway, or it is mounted where
    /// this process does not see it (a runtime with a mount namespace of its own).
    Unmounted,
}

/// Looks where a namespace was.
pub fn presence(path: &Path, inode: Inode) -> Presence {
    match fs::metadata(path) {
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Presence::Gone,
        Err(_) => Presence::There,
        Ok(metadata) if metadata.ino() == inode => Presence::There,
        Ok(_) => match statfs(path) {
            Ok(fs) if fs.filesystem_type() == FsType(NSFS) => Presence::Gone,
            Ok(_) => Presence::Unmounted,
            Err(_) => Presence::There,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_threads_namespace_is_one_and_other_files_are_not() {
        let current = Netns::current().unwrap();
        let path = Path::new("/proc/thread-self/ns/net");
        assert_eq!(presence(path, current.inode()), Presence::There);
        assert_eq!(
            presence(path, current.inode() + 1),
            Presence::Gone,
            "another has the path"
        );
        assert_eq!(presence(Path::new("/etc/passwd"), current.inode()), Presence::Unmounted);
        assert!(matches!(Netns::open("/etc/passwd"), Err(Error::NotANamespace { .. })));
        assert!(matches!(Netns::open("/nowhere/netns"), Err(Error::Missing { .. })));
        assert_eq!(presence(Path::new("/nowhere/netns"), 1), Presence::Gone);
        assert_eq!(presence(Path::new("/etc/passwd/netns"), 1), Presence::Gone);
    }
}
