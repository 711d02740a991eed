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

mod files;
mod pool;
mod record;

use std::{
    fs, io,
    net::IpAddr,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use self::files::{Files, entries, parse_owner, remove};
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
    #[error("killed")]
    Killed,
}

/// Between these a process may die; tests make it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
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
    files: Files,
    #[cfg(test)]
    killer: Option<Box<dyn Fn(Step) -> bool + Send>>,
}

impl Ipam {
    /// The records below a run-time directory, which must not outlive a reboot. Nothing is read or made yet.
    pub fn new(run_dir: &Path, network: &str) -> Self {
        Self {
            files: Files {
                dir: run_dir.join("ipam").join(network),
            },
            #[cfg(test)]
            killer: None,
        }
    }

    /// Where the records are.
    pub fn dir(&self) -> &Path {
        &self.files.dir
    }

    /// Makes the directories. Only what gives out addresses needs them.
    pub fn create_dirs(&self) -> Result<(), Error> {
        let owners = self.files.dir.join(".owners");
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
        if let Some(named) = self.files.named(owner)? {
            let held: Vec<_> = self.files.held(owner, &named)?;
            let fits = |(pool, (address, holder)): (&Pool, &(IpAddr, Record))| {
                pool.contains(*address) && holder.same_namespace(record)
            };
            if held.len() == pools.len() && pools.iter().zip(&held).all(fits) {
                return Ok(held.into_iter().map(|(address, _)| address).collect());
            }
            self.release(owner)?;
        }

        let content = self.files.unnamed(record)?;
        let mut searches: Vec<_> = pools
            .iter()
            .map(|pool| Search::new(pool, self.files.cursor(pool)))
            .collect();
        let mut chosen = Vec::with_capacity(pools.len());
        for search in &mut searches {
            chosen.push(self.next_free(search, gone)?);
        }
        self.files.name_owner(owner, &chosen)?;
        self.step(Step::NamedOwner)?;
        for i in 0..chosen.len() {
            while !self.files.claim(&content, chosen[i])? {
                // Someone was faster.
                chosen[i] = self.next_free(&mut searches[i], gone)?;
                self.files.rename_owner(owner, &chosen)?;
                self.step(Step::RenamedOwner)?;
            }
            self.step(Step::Claimed)?;
            self.files.move_cursor(Family::of(chosen[i]), chosen[i])?;
            self.step(Step::MovedCursor)?;
        }
        Ok(chosen)
    }

    /// Takes back what an attachment holds. Nothing held is as good.
    pub fn release(&self, owner: &Attachment) -> Result<Vec<IpAddr>, Error> {
        let Some(named) = self.files.named(owner)? else {
            return Ok(Vec::new());
        };
        let _lock = self.files.lock()?;
        let mut released = Vec::new();
        for (address, _) in self.files.held(owner, &named)? {
            remove(&self.files.record_path(address))?;
            self.step(Step::RemovedRecord)?;
            released.push(address);
        }
        remove(&self.files.owner_path(owner))?;
        self.step(Step::RemovedOwner)?;
        Ok(released)
    }

    /// What an attachment holds.
    pub fn find(&self, owner: &Attachment) -> Result<Vec<IpAddr>, Error> {
        let Some(named) = self.files.named(owner)? else {
            return Ok(Vec::new());
        };
        Ok(self
            .files
            .held(owner, &named)?
            .into_iter()
            .map(|(address, _)| address)
            .collect())
    }

    /// All records, and the addresses whose record can't be read.
    pub fn list(&self) -> Result<Listing, Error> {
        let mut listing = Listing::default();
        for name in entries(&self.files.dir)? {
            let Ok(address) = name.parse::<IpAddr>() else { continue };
            match self.files.read(address)? {
                Some(Ok(record)) => listing.records.push((address, record)),
                Some(Err(())) => listing.unreadable.push(address),
                None => {}
            }
        }
        listing.records.sort_by_key(|(address, _)| *address);
        Ok(listing)
    }

    /// Removes every record that need not be kept, and every unreadable one (a record is written whole, so it is debris
    /// of a machine that crashed on a disk). Gives the addresses it freed.
    pub fn collect(&self, keep: &mut dyn FnMut(&Record) -> bool) -> Result<Vec<IpAddr>, Error> {
        let listing = self.list()?;
        let mut freed = listing.unreadable;
        for address in &freed {
            let _lock = self.files.lock()?;
            if matches!(self.files.read(*address)?, Some(Err(()))) {
                remove(&self.files.record_path(*address))?;
            }
        }
        for (address, record) in listing.records {
            if !keep(&record) && self.reclaim(address, &record)? {
                freed.push(address);
            }
        }
        Ok(freed)
    }

    /// Removes owners' links that lead nowhere: a process died before it made the first record, or after it removed the
    /// last. One still at work is told from those by `gone`, or by age.
    pub fn collect_strays(&self, gone: &dyn Fn(&Attachment) -> bool, now: SystemTime) -> Result<(), Error> {
        let dir = self.files.dir.join(".owners");
        for name in entries(&dir)? {
            let path = dir.join(&name);
            let owner = parse_owner(&name);
            let written = fs::symlink_metadata(&path).and_then(|metadata| metadata.modified());
            let old = written.is_ok_and(|then| now.duration_since(then).is_ok_and(|age| age > ABANDONED));
            if !old && !owner.as_ref().is_some_and(gone) {
                continue;
            }
            let _lock = self.files.lock()?;
            let named = match &owner {
                Some(owner) => self
                    .files
                    .named(owner)?
                    .map(|named| self.files.held(owner, &named))
                    .transpose()?,
                None => None,
            };
            if named.is_none_or(|held| held.is_empty()) {
                remove(&path)?;
            }
        }
        Ok(())
    }

    /// How many addresses of a pool have a record.
    pub fn count(&self, pool: &Pool) -> Result<u128, Error> {
        let names = entries(&self.files.dir)?;
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
        match self.files.read(address)? {
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
        let _lock = self.files.lock()?;
        match self.files.read(address)? {
            Some(Ok(record)) if record == *seen => {}
            _ => return Ok(false),
        }
        self.step(Step::SawAgain)?;
        remove(&self.files.record_path(address))?;
        self.step(Step::RemovedRecord)?;
        let owner = &seen.attachment;
        if let Some(named) = self.files.named(owner)?
            && named.contains(&address)
            && self.files.held(owner, &named)?.is_empty()
        {
            remove(&self.files.owner_path(owner))?;
            self.step(Step::RemovedOwner)?;
        }
        Ok(true)
    }

    #[cfg(test)]
    fn step(&self, step: Step) -> Result<(), Error> {
        match &self.killer {
            Some(killer) if killer(step) => Err(Error::Killed),
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
