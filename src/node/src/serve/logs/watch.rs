//! What the kernel says of one file and of what comes in its place.

use std::{
    ffi::OsString,
    io,
    os::fd::{AsFd, AsRawFd, RawFd},
    path::Path,
};

use nix::{
    errno::Errno,
    sys::inotify::{AddWatchFlags, InitFlags, Inotify},
};
use tokio::io::{Interest, unix::AsyncFd};

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

/// What happened to the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// More may have been written.
    Written,
    /// There is another file of its name.
    Replaced,
}

/// A watch of one file, by its directory.
pub(super) struct Watch {
    inotify: AsyncFd<Fd>,
    name: OsString,
}

impl Watch {
    /// Watches the file of this path.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let (directory, name) = path.parent().zip(path.file_name()).ok_or(io::ErrorKind::InvalidInput)?;
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        let flags = AddWatchFlags::IN_MODIFY | AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO;
        inotify.add_watch(directory, flags)?;
        Ok(Self {
            inotify: register(Fd(inotify))?,
            name: name.to_owned(),
        })
    }

    /// Waits for the next change. May be dropped and called again.
    pub(super) async fn changed(&mut self) -> io::Result<Change> {
        loop {
            let mut ready = self.inotify.readable_mut().await?;
            let events = match ready.get_inner().0.read_events() {
                Ok(events) => events,
                Err(Errno::EAGAIN) => {
                    ready.clear_ready();
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            let came = AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO;
            let mut change = None;
            for event in events {
                // The file that was renamed is still written to for a moment, under another name.
                let own = event.name.as_ref() == Some(&self.name);
                let lost = event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW);
                if lost || own && event.mask.intersects(came) {
                    change = Some(Change::Replaced);
                } else {
                    change.get_or_insert(Change::Written);
                }
            }
            if let Some(change) = change {
                return Ok(change);
            }
        }
    }
}
