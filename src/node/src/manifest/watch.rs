//! What the kernel says of the directory, of the way to it, and of what its links point at.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::{OsStr, OsString},
    io,
    os::fd::{AsFd, AsRawFd, RawFd},
    path::{Path, PathBuf},
    time::Duration,
};

use nix::{
    errno::Errno,
    sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent, WatchDescriptor},
};
use tokio::{
    io::{Interest, unix::AsyncFd},
    time::{Instant, timeout, timeout_at},
};

use super::files::is_ignored;

/// Events this close together are one change: an editor's save is several. Not waited for when a file was moved to its
/// place whole, as writers do that want it seen at once.
const SETTLE: Duration = Duration::from_millis(10);
/// A change is acted upon after this long, even if more events keep coming.
const AT_MOST: Duration = Duration::from_millis(50);

/// What has changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Change {
    /// Files that were written, removed or renamed.
    pub(super) names: BTreeSet<OsString>,
    /// Files that have come into being and may be incomplete.
    pub(super) created: BTreeSet<OsString>,
    /// Something that links may lead through.
    pub(super) links: bool,
    /// Events were lost.
    pub(super) lost: bool,
    /// The directory came, went, or is another: watch anew.
    pub(super) moved: bool,
    /// Those of the names that were moved here and stayed: whole, whoever wrote them.
    whole: BTreeSet<OsString>,
}

impl Change {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether nothing can follow that belongs to it.
    fn is_settled(&self) -> bool {
        let Self {
            names,
            created,
            links,
            lost,
            moved,
            whole,
        } = self;
        created.is_empty() && !links && !lost && !moved && names == whole
    }
}

struct Fd(Inotify);

impl AsRawFd for Fd {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

#[expect(
    unsafe_code,
    reason = "tokio registers a descriptor only with the promise that it stays the same"
)]
fn register(inotify: Fd) -> io::Result<AsyncFd<Fd>> {
    // SAFETY: `Fd` owns its descriptor, closes it when dropped and not before, and always returns the same one.
    Ok(unsafe { AsyncFd::register_with_interest(inotify, Interest::READABLE) }?)
}

/// A watch of one directory.
pub(super) struct Watch {
    inotify: AsyncFd<Fd>,
    dir: Option<WatchDescriptor>,
    /// The directory above, or the nearest there is, and the name to look for in it.
    above: Option<(WatchDescriptor, OsString)>,
    links: BTreeMap<WatchDescriptor, BTreeSet<OsString>>,
}

impl Watch {
    /// Watches `dir`, which must be an absolute path; if it isn't there, the way to it.
    pub(super) fn open(dir: &Path) -> io::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        let inotify = register(Fd(inotify))?;
        let mut watch = Self {
            inotify,
            dir: None,
            above: None,
            links: BTreeMap::new(),
        };
        // The one above first: whatever happens to the directory from here on is seen.
        let mut target = dir.to_owned();
        while let Some((parent, name)) = target.parent().zip(target.file_name()) {
            match watch.add(parent, AddWatchFlags::IN_ONLYDIR | COMINGS_AND_GOINGS | ITSELF) {
                Ok(descriptor) => {
                    let name = name.to_owned();
                    if target != dir && target.is_dir() {
                        // It came in the meantime: one step nearer.
                        watch.remove(descriptor);
                        target = nearer(dir, &target);
                        continue;
                    }
                    watch.above = Some((descriptor, name));
                    break;
                }
                Err(Errno::ENOENT | Errno::ENOTDIR) => target = parent.to_owned(),
                Err(error) => return Err(error.into()),
            }
        }
        match watch.add(dir, AddWatchFlags::IN_ONLYDIR | COMINGS_AND_GOINGS | ITSELF | CONTENT) {
            Ok(descriptor) => watch.dir = Some(descriptor),
            Err(Errno::ENOENT | Errno::ENOTDIR) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(watch)
    }

    /// Whether the directory is there.
    pub(super) fn is_present(&self) -> bool {
        self.dir.is_some()
    }

    /// Watches what the link `name` points at, in place of what it pointed at before.
    pub(super) fn follow(&mut self, name: &OsStr, path: &Path) {
        self.unfollow(name);
        // What can't be watched can't be read either, and that is told.
        if let Ok(descriptor) = self.add(path, CONTENT | ITSELF) {
            self.links.entry(descriptor).or_default().insert(name.to_owned());
        }
    }

    /// Stops watching what `name` points at.
    pub(super) fn unfollow(&mut self, name: &OsStr) {
        let mut unused = Vec::new();
        for (descriptor, names) in &mut self.links {
            if names.remove(name) && names.is_empty() {
                unused.push(*descriptor);
            }
        }
        for descriptor in unused {
            self.links.remove(&descriptor);
            self.remove(descriptor);
        }
    }

    /// Names of links that are followed.
    pub(super) fn links(&self) -> BTreeSet<OsString> {
        self.links.values().flatten().cloned().collect()
    }

    /// Waits for a change, and until it has settled.
    pub(super) async fn changed(&mut self) -> io::Result<Change> {
        let mut change = Change::default();
        while change.is_empty() {
            self.read(&mut change).await?;
        }
        let latest = Instant::now() + AT_MOST;
        while !change.is_settled()
            && let Ok(Ok(read)) = timeout_at(latest, timeout(SETTLE, self.read(&mut change))).await
        {
            read?;
        }
        Ok(change)
    }

    /// Waits for events and takes those there are.
    async fn read(&mut self, change: &mut Change) -> io::Result<()> {
        let events = {
            let mut ready = self.inotify.readable().await?;
            match ready.try_io(|inotify| inotify.get_ref().0.read_events().map_err(io::Error::from)) {
                Ok(events) => events?,
                Err(_would_block) => return Ok(()),
            }
        };
        for event in events {
            self.take(event, change);
        }
        Ok(())
    }

    fn take(&mut self, event: InotifyEvent, change: &mut Change) {
        let InotifyEvent { wd, mask, name, .. } = event;
        if mask.contains(AddWatchFlags::IN_Q_OVERFLOW) {
            change.lost = true;
        } else if let Some(names) = self.links.get(&wd) {
            // The target may be replaced, and this watch with it: `follow` will find the new one.
            change.names.extend(names.iter().cloned());
            return;
        }
        if let Some((above, wanted)) = &self.above
            && *above == wd
        {
            change.moved |= mask.intersects(ITSELF | ENDED) || name.as_ref() == Some(wanted);
        }
        if self.dir == Some(wd) {
            match name {
                None => change.moved |= mask.intersects(ITSELF | ENDED),
                Some(name) if is_ignored(&name) => change.links |= name.as_encoded_bytes().starts_with(b"."),
                Some(name) if mask.contains(AddWatchFlags::IN_CREATE) => {
                    change.created.insert(name);
                }
                Some(name) => {
                    if mask.contains(AddWatchFlags::IN_MOVED_TO) {
                        change.whole.insert(name.clone());
                    } else {
                        change.whole.remove(&name);
                    }
                    change.names.insert(name);
                }
            }
        }
    }

    fn add(&self, path: &Path, flags: AddWatchFlags) -> Result<WatchDescriptor, Errno> {
        self.inotify.get_ref().0.add_watch(path, flags)
    }

    fn remove(&self, descriptor: WatchDescriptor) {
        // The kernel may have removed it already, with what it watched.
        let _ = self.inotify.get_ref().0.rm_watch(descriptor);
    }
}

/// Entries of a directory come and go.
const COMINGS_AND_GOINGS: AddWatchFlags = AddWatchFlags::IN_CREATE
    .union(AddWatchFlags::IN_DELETE)
    .union(AddWatchFlags::IN_MOVED_FROM)
    .union(AddWatchFlags::IN_MOVED_TO);
/// A file has been written, or may have become readable, or lost its name.
const CONTENT: AddWatchFlags = AddWatchFlags::IN_CLOSE_WRITE.union(AddWatchFlags::IN_ATTRIB);
/// What is watched is removed or renamed itself.
const ITSELF: AddWatchFlags = AddWatchFlags::IN_DELETE_SELF.union(AddWatchFlags::IN_MOVE_SELF);
/// The watch has ended.
const ENDED: AddWatchFlags = AddWatchFlags::IN_IGNORED.union(AddWatchFlags::IN_UNMOUNT);

/// The path on the way to `dir` that is one step beyond `reached`.
fn nearer(dir: &Path, reached: &Path) -> PathBuf {
    let rest = dir.strip_prefix(reached).unwrap_or(Path::new(""));
    rest.components()
        .next()
        .map_or_else(|| dir.to_owned(), |step| reached.join(step))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// What the watch tells of what `act` does, and how long it waited for more by a clock that only waiting moves.
    async fn after(act: impl FnOnce(&Path)) -> (Change, Duration) {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("manifests");
        fs::create_dir(&dir).unwrap();
        fs::write(dir.join("old.yaml"), "").unwrap();
        fs::write(temp.path().join("new"), "").unwrap();
        let mut watch = Watch::open(&dir).unwrap();
        act(&dir);
        let begun = Instant::now();
        let change = watch.changed().await.unwrap();
        (change, begun.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn a_file_moved_to_its_place_whole_is_told_at_once() {
        let (change, waited) = after(|dir| fs::rename(dir.join("../new"), dir.join("old.yaml")).unwrap()).await;
        assert_eq!(change.names, ["old.yaml".into()].into());
        assert_eq!(waited, Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn what_may_be_an_editors_first_step_is_waited_for() {
        // The file goes out of the way first, and the new one is written in its place.
        let (change, waited) = after(|dir| fs::rename(dir.join("old.yaml"), dir.join("old.yaml~")).unwrap()).await;
        assert_eq!(change.names, ["old.yaml".into()].into());
        assert!(waited >= SETTLE, "{waited:?}");
        let (change, waited) = after(|dir| {
            fs::rename(dir.join("../new"), dir.join("new.yaml")).unwrap();
            fs::write(dir.join("written.yaml"), "x").unwrap();
        })
        .await;
        assert_eq!(change.names, ["new.yaml".into(), "written.yaml".into()].into());
        assert!(waited >= SETTLE, "{waited:?}");
    }
}
