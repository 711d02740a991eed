//! Addresses given out, one record each, so that any process may be killed at any instant.
//!
//! ```text
//! <run-dir>/ipam/<network>/10.244.1.7              the record (JSON): who holds the address
//!                         /.owners/<id>@<ifname>   symbolic link whose text names the addresses, such as
//!                                                  `10.244.1.7,fd00::7`: what to release, found without a search
//!                         /.cursor-4, .cursor-6    where the next search begins (a hint)
//!                         /.lock                   held for microseconds by whoever removes a record
//! ```
//! - A record appears whole: it is written to a file without a name, which is then linked at the address's. Linking
//!   fails when the name is taken, so two processes never get one address, without a lock.
//! - The owner's link is written *before* the record. So a process killed between the two leaves a link that names too
//!   much (harmless: what is released is first checked to be the owner's), never a record no one finds.
//! - Records are removed under the lock, after reading them again, so that no one removes what another has just put in
//!   the place of what he saw.
//! - A record whose namespace is gone is as good as none: a search that meets it takes the address.
//! - The search begins after the address given out last, so that one just released rests as long as it can, and an
//!   allocation costs a constant number of steps on average: going once round a range passes each address once.

mod pool;
mod record;

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    net::IpAddr,
    os::{
        fd::AsRawFd,
        unix::fs::{FileExt, OpenOptionsExt},
    },
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use nix::{
    fcntl::{AT_FDCWD, AtFlags, Flock, FlockArg},
    unistd::linkat,
};

pub use self::{
    pool::{Pool, PoolError},
    record::Record,
};
use crate::{
    cidr::{Cidr, Family},
    names::Attachment,
};

/// Why no address could be given out or taken back.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Every address of a range is held.
    #[error(
        "no address is left in {range}: {usable} usable, {held} held by live pods, {unreadable} with unreadable records; \
         delete pods or give the node a larger range"
    )]
    Exhausted {
        /// The range.
        range: Cidr,
        /// How many addresses it has for pods.
        usable: u128,
        /// How many of them live pods hold.
        held: u128,
        /// How many records could not be read.
        unreadable: u128,
    },
    /// Two ADDs of one attachment at once: the runtime's mistake, or one it gave up waiting for.
    #[error("another allocation for {0} is under way")]
    Concurrent(Attachment),
    /// The files could not be read or written.
    #[error("cannot {doing} {path}")]
    Io {
        /// What was done.
        doing: &'static str,
        /// To which file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// A test stopped the process here.
    #[cfg(test)]
    #[error("killed at {0:?}")]
    Killed(Step),
}

/// Between these a process may die; tests make it.
#[doc(hidden)]
#[allow(missing_docs, reason = "for tests; the names say it")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    NamedOwner,
    RenamedOwner,
    Claimed,
    MovedCursor,
    SawAgain,
    RemovedRecord,
    RemovedOwner,
}

/// What there is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// The records, by address.
    pub records: Vec<(IpAddr, Record)>,
    /// Addresses whose record can't be read.
    pub unreadable: Vec<IpAddr>,
}

/// What is in the way of taking an address.
enum Place {
    Free,
    Held,
    Unreadable,
}

/// An owner's link without any of its records, this old, was left by a process that died before the first.
const ABANDONED: Duration = Duration::from_mins(5);

/// The addresses of one network on one node.
pub struct Ipam {
    dir: PathBuf,
    #[cfg(test)]
    killer: Option<Box<dyn Fn(Step) -> bool + Send>>,
}

impl Ipam {
    /// The records below a run-time directory, which must not outlive a reboot. Nothing is read or made yet.
    pub fn new(run_dir: &Path, network: &str) -> Self {
        Self {
            dir: run_dir.join("ipam").join(network),
            #[cfg(test)]
            killer: None,
        }
    }

    /// Where the records are.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Makes the directories. Only what gives out addresses needs them.
    pub fn create_dirs(&self) -> Result<(), Error> {
        let owners = self.dir.join(".owners");
        fs::create_dir_all(&owners).map_err(|source| Error::Io {
            doing: "create",
            path: owners,
            source,
        })
    }

    /// Gives an attachment one address of each pool. Asked again for the same attachment in the same namespace, it
    /// gives the same ones. `gone` says whether a record's holder is no more, and may remove its traces first.
    ///
    /// On an error, what was taken is taken back by [`Ipam::release`], by the caller or by DEL.
    pub fn allocate(
        &self,
        record: &Record,
        pools: &[Pool],
        gone: &mut dyn FnMut(&Record) -> bool,
    ) -> Result<Vec<IpAddr>, Error> {
        let owner = &record.attachment;
        if let Some(named) = self.named(owner)? {
            let held: Vec<_> = self.held(owner, &named)?;
            let fits = |(pool, (address, holder)): (&Pool, &(IpAddr, Record))| {
                pool.contains(*address) && holder.same_namespace(record)
            };
            if held.len() == pools.len() && pools.iter().zip(&held).all(fits) {
                return Ok(held.into_iter().map(|(address, _)| address).collect());
            }
            self.release(owner)?;
        }

        let content = self.unnamed(record)?;
        let mut searches: Vec<_> = pools.iter().map(|pool| Search::new(pool, self.cursor(pool))).collect();
        let mut chosen = Vec::with_capacity(pools.len());
        for search in &mut searches {
            chosen.push(self.next_free(search, gone)?);
        }
        self.name_owner(owner, &chosen)?;
        self.step(Step::NamedOwner)?;
        for i in 0..chosen.len() {
            while !self.claim(&content, chosen[i])? {
                // Someone was faster.
                chosen[i] = self.next_free(&mut searches[i], gone)?;
                self.rename_owner(owner, &chosen)?;
                self.step(Step::RenamedOwner)?;
            }
            self.step(Step::Claimed)?;
            self.move_cursor(Family::of(chosen[i]), chosen[i])?;
            self.step(Step::MovedCursor)?;
        }
        Ok(chosen)
    }

    /// Takes back what an attachment holds. Nothing held is as good.
    pub fn release(&self, owner: &Attachment) -> Result<Vec<IpAddr>, Error> {
        let Some(named) = self.named(owner)? else {
            return Ok(Vec::new());
        };
        let _lock = self.lock()?;
        let mut released = Vec::new();
        for (address, _) in self.held(owner, &named)? {
            remove(&self.record_path(address))?;
            self.step(Step::RemovedRecord)?;
            released.push(address);
        }
        remove(&self.owner_path(owner))?;
        self.step(Step::RemovedOwner)?;
        Ok(released)
    }

    /// What an attachment holds.
    pub fn find(&self, owner: &Attachment) -> Result<Vec<IpAddr>, Error> {
        let Some(named) = self.named(owner)? else {
            return Ok(Vec::new());
        };
        Ok(self
            .held(owner, &named)?
            .into_iter()
            .map(|(address, _)| address)
            .collect())
    }

    /// All records, and the addresses whose record can't be read.
    pub fn list(&self) -> Result<Listing, Error> {
        let mut listing = Listing::default();
        for name in entries(&self.dir)? {
            let Ok(address) = name.parse::<IpAddr>() else { continue };
            match self.read(address)? {
                Some(Ok(record)) => listing.records.push((address, record)),
                Some(Err(())) => listing.unreadable.push(address),
                None => {}
            }
        }
        listing.records.sort_by_key(|(address, _)| *address);
        Ok(listing)
    }

    /// Removes every record that need not be kept, every unreadable one (a record is written whole, so it is debris of a
    /// machine that crashed on a disk), and owners' links that lead nowhere. Gives the addresses it freed.
    pub fn collect(&self, keep: &mut dyn FnMut(&Record) -> bool, now: SystemTime) -> Result<Vec<IpAddr>, Error> {
        let Listing {
            records,
            unreadable: mut freed,
        } = self.list()?;
        for address in &freed {
            let _lock = self.lock()?;
            if matches!(self.read(*address)?, Some(Err(()))) {
                remove(&self.record_path(*address))?;
            }
        }
        for (address, record) in records {
            if !keep(&record) && self.reclaim(address, &record)? {
                freed.push(address);
            }
        }
        for name in entries(&self.dir.join(".owners"))? {
            let path = self.dir.join(".owners").join(&name);
            let old = fs::symlink_metadata(&path)
                .and_then(|metadata| metadata.modified())
                .is_ok_and(|then| now.duration_since(then).is_ok_and(|age| age > ABANDONED));
            if !old {
                continue;
            }
            let _lock = self.lock()?;
            let leads_nowhere = match parse_owner(&name) {
                Some(owner) => self
                    .named(&owner)?
                    .is_none_or(|named| self.held(&owner, &named).is_ok_and(|h| h.is_empty())),
                None => true,
            };
            if leads_nowhere {
                remove(&path)?;
            }
        }
        Ok(freed)
    }

    /// How many addresses of a pool have a record.
    pub fn count(&self, pool: &Pool) -> Result<u128, Error> {
        let names = entries(&self.dir)?;
        Ok(names
            .iter()
            .filter(|name| name.parse().is_ok_and(|address| pool.contains(address)))
            .count() as u128)
    }

    /// The next address of a search that no one holds any more.
    fn next_free(&self, search: &mut Search<'_>, gone: &mut dyn FnMut(&Record) -> bool) -> Result<IpAddr, Error> {
        while let Some(address) = search.next() {
            match self.look(address, gone)? {
                Place::Free => return Ok(address),
                Place::Held => search.held += 1,
                Place::Unreadable => search.unreadable += 1,
            }
        }
        Err(Error::Exhausted {
            range: search.pool.range(),
            usable: search.pool.usable(),
            held: search.held,
            unreadable: search.unreadable,
        })
    }

    /// Whether an address may be had, after taking it from a holder that is no more.
    fn look(&self, address: IpAddr, gone: &mut dyn FnMut(&Record) -> bool) -> Result<Place, Error> {
        match self.read(address)? {
            None => Ok(Place::Free),
            Some(Err(())) => Ok(Place::Unreadable),
            Some(Ok(record)) if gone(&record) => {
                self.reclaim(address, &record)?;
                // Someone else may have it by now: the claim will tell.
                Ok(Place::Free)
            }
            Some(Ok(_)) => Ok(Place::Held),
        }
    }

    /// Removes a record if it is still the one that was seen, and with it the owner's link if that leads here.
    fn reclaim(&self, address: IpAddr, seen: &Record) -> Result<bool, Error> {
        let _lock = self.lock()?;
        match self.read(address)? {
            Some(Ok(record)) if record == *seen => {}
            _ => return Ok(false),
        }
        self.step(Step::SawAgain)?;
        remove(&self.record_path(address))?;
        self.step(Step::RemovedRecord)?;
        let owner = &seen.attachment;
        if let Some(named) = self.named(owner)?
            && named.contains(&address)
            && self.held(owner, &named)?.is_empty()
        {
            remove(&self.owner_path(owner))?;
            self.step(Step::RemovedOwner)?;
        }
        Ok(true)
    }

    /// The record's content in a file that has no name yet.
    fn unnamed(&self, record: &Record) -> Result<File, Error> {
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
    fn claim(&self, content: &File, address: IpAddr) -> Result<bool, Error> {
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
    fn read(&self, address: IpAddr) -> Result<Option<Result<Record, ()>>, Error> {
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
    fn named(&self, owner: &Attachment) -> Result<Option<Vec<IpAddr>>, Error> {
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
    fn held(&self, owner: &Attachment, named: &[IpAddr]) -> Result<Vec<(IpAddr, Record)>, Error> {
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

    fn name_owner(&self, owner: &Attachment, addresses: &[IpAddr]) -> Result<(), Error> {
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

    fn rename_owner(&self, owner: &Attachment, addresses: &[IpAddr]) -> Result<(), Error> {
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
    fn cursor(&self, pool: &Pool) -> Option<IpAddr> {
        let text = fs::read_to_string(self.cursor_path(pool.family())).ok()?;
        text.trim_end().parse().ok()
    }

    /// The text always has one length, so that whoever reads meanwhile reads one or the other.
    fn move_cursor(&self, family: Family, address: IpAddr) -> Result<(), Error> {
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

    fn lock(&self) -> Result<Flock<File>, Error> {
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

    fn record_path(&self, address: IpAddr) -> PathBuf {
        self.dir.join(address.to_string())
    }

    fn owner_path(&self, owner: &Attachment) -> PathBuf {
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

    #[cfg(test)]
    fn step(&self, step: Step) -> Result<(), Error> {
        match &self.killer {
            Some(killer) if killer(step) => Err(Error::Killed(step)),
            _ => Ok(()),
        }
    }

    #[cfg(not(test))]
    #[inline]
    #[allow(clippy::unused_self, clippy::unnecessary_wraps, reason = "only tests die here")]
    fn step(&self, _: Step) -> Result<(), Error> {
        Ok(())
    }
}

fn remove(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(Error::Io {
            doing: "remove",
            path: path.to_owned(),
            source,
        }),
        _ => Ok(()),
    }
}

fn entries(dir: &Path) -> Result<Vec<String>, Error> {
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

fn parse_owner(name: &str) -> Option<Attachment> {
    let (container, ifname) = name.split_once('@')?;
    (!container.is_empty() && !container.starts_with('.')).then(|| Attachment {
        container: container.to_owned(),
        ifname: ifname.to_owned(),
    })
}

/// One round through a pool, and what stood in the way.
struct Search<'a> {
    pool: &'a Pool,
    start: u128,
    passed: u128,
    held: u128,
    unreadable: u128,
}

impl<'a> Search<'a> {
    fn new(pool: &'a Pool, cursor: Option<IpAddr>) -> Self {
        let start = cursor
            .and_then(|address| pool.index_of(address))
            .map_or(0, |index| index + 1);
        Self {
            pool,
            start,
            passed: 0,
            held: 0,
            unreadable: 0,
        }
    }

    fn next(&mut self) -> Option<IpAddr> {
        if self.passed == self.pool.usable() {
            return None;
        }
        let address = self.pool.nth((self.start + self.passed) % self.pool.usable());
        self.passed += 1;
        address
    }
}

#[cfg(test)]
mod tests;
