//! The files of [`super::Ipam`], each operation one that a kill can't leave half done.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    net::IpAddr,
    os::{
        fd::AsRawFd,
        unix::fs::{FileExt, OpenOptionsExt},
    },
    path::{Path, PathBuf},
};

use nix::{
    fcntl::{AT_FDCWD, AtFlags, Flock, FlockArg},
    unistd::linkat,
};

use super::{Error, Pool, Record};
use crate::{cidr::Family, names::Attachment};

/// One network's directory.
pub(super) struct Files {
    pub(super) dir: PathBuf,
}

impl Files {
    /// The record's content in a file that has no name yet.
    pub(super) fn unnamed(&self, record: &Record) -> Result<File, Error> {
        let open = || {
            OpenOptions::new()
                .write(true)
                .mode(0o600)
                .custom_flags(libc::O_TMPFILE)
                .open(&self.dir)
        };
        let write = || {
            let mut file = match open() {
                Err(e) if e.kind() == io::ErrorKind::NotFound => {
                    fs::create_dir_all(self.dir.join(".owners"))?;
                    open()?
                }
                file => file?,
            };
            file.write_all(&serde_json::to_vec(record)?)?;
            Ok(file)
        };
        write().map_err(|source| Error::Io {
            doing: "write a record in",
            path: self.dir.clone(),
            source,
        })
    }

    /// Links the record at an address's name. False if that is taken.
    pub(super) fn claim(&self, content: &File, address: IpAddr) -> Result<bool, Error> {
        let path = self.record_path(address);
        let source = PathBuf::from(format!("/proc/self/fd/{}", content.as_raw_fd()));
        match linkat(AT_FDCWD, &source, AT_FDCWD, &path, AtFlags::AT_SYMLINK_FOLLOW) {
            Ok(()) => Ok(true),
            Err(nix::errno::Errno::EEXIST) => Ok(false),
            Err(e) => Err(Error::Io {
                doing: "claim",
                path,
                source: e.into(),
            }),
        }
    }

    /// What is at an address: nothing, a record, or something unreadable.
    pub(super) fn read(&self, address: IpAddr) -> Result<Option<Result<Record, ()>>, Error> {
        let path = self.record_path(address);
        match fs::read(&path) {
            Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes).map_err(drop))),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(Error::Io {
                doing: "read",
                path,
                source,
            }),
        }
    }

    /// The addresses an owner's link names.
    pub(super) fn named(&self, owner: &Attachment) -> Result<Option<Vec<IpAddr>>, Error> {
        let path = self.owner_path(owner);
        match fs::read_link(&path) {
            Ok(text) => Ok(Some(
                text.to_string_lossy()
                    .split(',')
                    .filter_map(|address| address.parse().ok())
                    .collect(),
            )),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(Error::Io {
                doing: "read",
                path,
                source,
            }),
        }
    }

    /// Those of the named addresses whose record says so too.
    pub(super) fn held(&self, owner: &Attachment, named: &[IpAddr]) -> Result<Vec<(IpAddr, Record)>, Error> {
        let mut held = Vec::with_capacity(named.len());
        for &address in named {
            if let Some(Ok(record)) = self.read(address)?
                && record.attachment == *owner
            {
                held.push((address, record));
            }
        }
        Ok(held)
    }

    pub(super) fn name_owner(&self, owner: &Attachment, addresses: &[IpAddr]) -> Result<(), Error> {
        let path = self.owner_path(owner);
        match std::os::unix::fs::symlink(owner_text(addresses), &path) {
            Ok(()) => Ok(()),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Err(Error::Concurrent(owner.clone())),
            Err(source) => Err(Error::Io {
                doing: "write",
                path,
                source,
            }),
        }
    }

    pub(super) fn rename_owner(&self, owner: &Attachment, addresses: &[IpAddr]) -> Result<(), Error> {
        let path = self.owner_path(owner);
        // No owner's name begins with a dot.
        let new = self
            .dir
            .join(".owners")
            .join(format!(".{}@{}", owner.container, owner.ifname));
        let replace = || {
            match fs::remove_file(&new) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                _ => {}
            }
            std::os::unix::fs::symlink(owner_text(addresses), &new)?;
            fs::rename(&new, &path)
        };
        replace().map_err(|source| Error::Io {
            doing: "write",
            path: path.clone(),
            source,
        })
    }

    /// Where the search in a pool begins.
    pub(super) fn cursor(&self, pool: &Pool) -> Option<IpAddr> {
        let text = fs::read_to_string(self.cursor_path(pool.family())).ok()?;
        text.trim_end().parse().ok()
    }

    /// The text always has one length, so that whoever reads meanwhile reads one or the other.
    pub(super) fn move_cursor(&self, family: Family, address: IpAddr) -> Result<(), Error> {
        let path = self.cursor_path(family);
        let open = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path);
        open.and_then(|file| file.write_all_at(format!("{address:<40}\n").as_bytes(), 0))
            .map_err(|source| Error::Io {
                doing: "write",
                path,
                source,
            })
    }

    pub(super) fn lock(&self) -> Result<Flock<File>, Error> {
        let path = self.dir.join(".lock");
        let failed = |source| Error::Io {
            doing: "lock",
            path: path.clone(),
            source,
        };
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(failed)?;
        Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, e)| failed(e.into()))
    }

    pub(super) fn record_path(&self, address: IpAddr) -> PathBuf {
        self.dir.join(address.to_string())
    }

    pub(super) fn owner_path(&self, owner: &Attachment) -> PathBuf {
        self.dir
            .join(".owners")
            .join(format!("{}@{}", owner.container, owner.ifname))
    }

    fn cursor_path(&self, family: Family) -> PathBuf {
        self.dir.join(match family {
            Family::V4 => ".cursor-4",
            Family::V6 => ".cursor-6",
        })
    }
}

pub(super) fn remove(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(Error::Io {
            doing: "remove",
            path: path.to_owned(),
            source,
        }),
        _ => Ok(()),
    }
}

pub(super) fn entries(dir: &Path) -> Result<Vec<String>, Error> {
    let failed = |source| Error::Io {
        doing: "list",
        path: dir.to_owned(),
        source,
    };
    let entries = match fs::read_dir(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(failed)?,
    };
    let mut names = Vec::new();
    for entry in entries {
        names.extend(entry.map_err(failed)?.file_name().into_string());
    }
    Ok(names)
}

fn owner_text(addresses: &[IpAddr]) -> String {
    let addresses: Vec<_> = addresses.iter().map(IpAddr::to_string).collect();
    addresses.join(",")
}

pub(super) fn parse_owner(name: &str) -> Option<Attachment> {
    let (container, ifname) = name.split_once('@')?;
    (!container.is_empty() && !container.starts_with('.')).then(|| Attachment {
        container: container.to_owned(),
        ifname: ifname.to_owned(),
    })
}
