//! One change of a cluster at a time, and one choice of a range: locks that end with whoever holds them.

use std::{
    fs::{self, DirBuilder, File},
    io,
    os::{
        linux::net::SocketAddrExt,
        unix::{
            fs::{DirBuilderExt, MetadataExt},
            net::{SocketAddr, UnixListener},
        },
    },
    path::Path,
    time::Duration,
};

use anyhow::{Context, bail};
use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
};
use tokio::time::{Instant, sleep};

use crate::{Layout, layout::CLUSTERS};

/// Between two tries.
const PAUSE: Duration = Duration::from_millis(50);
/// The longest that anyone holds the lock of a cluster: for the start of many nodes on a busy machine.
const PATIENCE: Duration = Duration::from_mins(10);
/// The longest that anyone takes to choose a range and make the link that shows it.
const CHOICE: Duration = Duration::from_secs(30);

/// The lock of a cluster's directory. A program that is being started holds it too, until it is in its cgroup: so who
/// has the lock sees all processes there are.
#[derive(Debug)]
pub struct Locked {
    dir: Flock<File>,
}

impl Locked {
    /// Whether it is of the directory that is there now.
    fn is_of(&self, layout: &Layout) -> bool {
        is_at(&self.dir, layout.dir())
    }
}

/// Locks a cluster's directory, making it if it is absent and `make`; `None` if it is absent.
pub async fn cluster(layout: &Layout, make: bool) -> anyhow::Result<Option<Locked>> {
    let latest = Instant::now() + PATIENCE;
    loop {
        if make {
            make_dir(layout.dir()).with_context(|| format!("making {}", layout.dir().display()))?;
        }
        let dir = match File::open(layout.dir()) {
            Ok(dir) => dir,
            Err(error) if error.kind() == io::ErrorKind::NotFound && !make => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error).with_context(|| format!("opening {}", layout.dir().display())),
        };
        match Flock::lock(dir, FlockArg::LockExclusiveNonblock) {
            // It may have been removed, and made anew, before we had its lock.
            Ok(lock) => {
                let locked = Locked { dir: lock };
                if locked.is_of(layout) {
                    return Ok(Some(locked));
                }
            }
            Err((_, Errno::EWOULDBLOCK)) if Instant::now() < latest => sleep(PAUSE).await,
            Err((_, Errno::EWOULDBLOCK)) => bail!(
                "another 'bosun dev' is at work on {}: wait for its end, or end it",
                layout.dir().display()
            ),
            Err((_, error)) => return Err(error).with_context(|| format!("locking {}", layout.dir().display())),
        }
    }
}

/// A directory for its owner alone: keys are in it.
fn make_dir(dir: &Path) -> io::Result<()> {
    let make = |dir: &Path| match DirBuilder::new().mode(0o700).create(dir) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    };
    if dir.parent() == Some(Path::new(CLUSTERS)) {
        make(Path::new(CLUSTERS))?;
    }
    make(dir)
}

fn is_at(file: &File, path: &Path) -> bool {
    let same = |a: fs::Metadata, b: fs::Metadata| (a.dev(), a.ino()) == (b.dev(), b.ino());
    file.metadata()
        .and_then(|held| Ok(same(held, fs::metadata(path)?)))
        .unwrap_or(false)
}

/// Held from the look for a free range until the kernel shows that it is taken. A name in the abstract namespace of Unix
/// sockets: there is one for each network namespace, as there is one routing table.
#[derive(Debug)]
pub struct Choice {
    _name: UnixListener,
}

/// Waits until nobody else in this network namespace chooses a range.
pub async fn choice() -> anyhow::Result<Choice> {
    let name = SocketAddr::from_abstract_name("bosun-dev-ranges")?;
    let latest = Instant::now() + CHOICE;
    loop {
        match UnixListener::bind_addr(&name) {
            Ok(listener) => return Ok(Choice { _name: listener }),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && Instant::now() < latest => sleep(PAUSE).await,
            Err(error) => return Err(error).context("waiting for another 'bosun dev up' to have chosen its addresses"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn one_holds_a_cluster_until_it_lets_go() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::at(&dir.path().join("c")).unwrap();
        assert!(cluster(&layout, false).await.unwrap().is_none(), "there is no cluster");
        let held = cluster(&layout, true).await.unwrap();
        let second = timeout(Duration::from_millis(120), cluster(&layout, true)).await;
        assert!(second.is_err(), "two hold it");
        drop(held);
        assert!(cluster(&layout, false).await.unwrap().is_some());
    }

    #[tokio::test]
    async fn who_waited_for_a_directory_that_was_removed_makes_it_anew() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::at(&dir.path().join("c")).unwrap();
        let held = cluster(&layout, true).await.unwrap();
        let waiting = cluster(&layout, true);
        let remove = async {
            sleep(Duration::from_millis(80)).await;
            fs::remove_dir(layout.dir()).unwrap();
            drop(held);
        };
        let (second, ()) = tokio::join!(waiting, remove);
        let second = second.unwrap().unwrap();
        assert!(second.is_of(&layout));
    }
}
