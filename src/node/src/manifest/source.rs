//! The task that turns what happens in the directory into events.

use std::{
    collections::BTreeSet,
    ffi::{OsStr, OsString},
    io,
    path::PathBuf,
    time::Duration,
};

use tokio::{
    sync::mpsc::{self, error::SendError},
    task::spawn_blocking,
    time::sleep,
};
use tracing::{debug, error, warn};

use super::{
    ManifestEvent,
    files::{Content, Look, Places},
    index::Index,
    watch::{Change, Watch},
};

/// What the system refuses (no more watches, a directory that can't be read) is asked for again after these.
const FIRST_RETRY: Duration = Duration::from_millis(500);
const LAST_RETRY: Duration = Duration::from_secs(20);

/// Runs until the receiver of its events is gone.
pub(super) async fn run(dir: PathBuf, node_name: String, memory: PathBuf, events_tx: mpsc::Sender<ManifestEvent>) {
    let dir = std::path::absolute(&dir).unwrap_or(dir);
    let places = Places {
        dir: dir.into(),
        memory: memory.into(),
        node_name: node_name.into(),
    };
    if let Err(error) = places.create() {
        warn!(dir = %places.dir.display(), %error, "the manifest directory could not be created: waiting for it");
    }
    let mut source = Source {
        places,
        index: Index::default(),
        synced: false,
        events_tx,
    };
    let mut retry = FIRST_RETRY;
    // Ends only with the receiver.
    while let Err(Stop::Trouble(error)) = source.follow(&mut retry).await {
        error!(
            dir = %source.places.dir.display(), %error, retry_in = ?retry,
            "the manifest directory can't be watched: see to its permissions, or to fs.inotify limits"
        );
        sleep(retry).await;
        retry = (retry * 2).min(LAST_RETRY);
    }
}

/// Why following the directory ended.
enum Stop {
    Trouble(io::Error),
    Unheard,
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::Trouble(error)
    }
}

impl From<SendError<ManifestEvent>> for Stop {
    fn from(_: SendError<ManifestEvent>) -> Self {
        Self::Unheard
    }
}

struct Source {
    places: Places,
    index: Index,
    synced: bool,
    events_tx: mpsc::Sender<ManifestEvent>,
}

impl Source {
    /// Follows the directory, wherever its path leads, until something can't be done.
    async fn follow(&mut self, retry: &mut Duration) -> Result<(), Stop> {
        loop {
            let mut watch = Watch::open(&self.places.dir)?;
            debug!(dir = %self.places.dir.display(), present = watch.is_present(), "watching for manifests");
            self.look_at_all(&mut watch).await?;
            *retry = FIRST_RETRY;
            loop {
                let change = tokio::select! {
                    change = watch.changed() => change?,
                    () = self.events_tx.closed() => return Err(Stop::Unheard),
                };
                if change.moved {
                    break;
                }
                if change.lost {
                    warn!(dir = %self.places.dir.display(), "events were lost: looking at every manifest");
                    self.look_at_all(&mut watch).await?;
                } else {
                    self.look_at_changed(&mut watch, change).await?;
                }
            }
        }
    }

    async fn look_at_all(&mut self, watch: &mut Watch) -> Result<(), Stop> {
        let places = self.places.clone();
        let first = !self.synced;
        let names = blocking(move || {
            let names = places.list()?;
            if first {
                places.forget_others(&names);
            }
            Ok::<_, io::Error>(names)
        })
        .await??;
        let present = names.iter().map(|name| name.to_string_lossy().into_owned()).collect();
        let gone = self.index.gone(&present).into_iter().map(OsString::from);
        let looks = names
            .into_iter()
            .chain(gone)
            .map(|name| self.look(name, false))
            .collect();
        self.look_at(watch, looks).await?;
        if first {
            self.synced = true;
            self.events_tx.send(ManifestEvent::Synced).await?;
        }
        Ok(())
    }

    async fn look_at_changed(&mut self, watch: &mut Watch, change: Change) -> Result<(), Stop> {
        let Change {
            mut names,
            created,
            links,
            ..
        } = change;
        if links {
            names.extend(watch.links());
        }
        let created = created
            .difference(&names)
            .map(|name| self.look(name.clone(), true))
            .collect::<Vec<_>>();
        let looks = names
            .into_iter()
            .map(|name| self.look(name, false))
            .chain(created)
            .collect();
        self.look_at(watch, looks).await
    }

    fn look(&self, name: OsString, created: bool) -> Look {
        let recall = !self.index.has_pod(&name.to_string_lossy());
        Look { name, created, recall }
    }

    /// Reads files, and tells what follows.
    async fn look_at(&mut self, watch: &mut Watch, looks: BTreeSet<Look>) -> Result<(), Stop> {
        for look in &looks {
            // Before reading, so that no change falls in between.
            if self.places.is_link(&look.name) {
                watch.follow(&look.name, &self.places.dir.join(&look.name));
            } else {
                watch.unfollow(&look.name);
            }
        }
        let places = self.places.clone();
        let contents = blocking(move || {
            looks
                .into_iter()
                .map(|look| (places.look(&look), look.name))
                .collect::<Vec<_>>()
        })
        .await?;
        for (content, name) in contents {
            self.take(&name, content).await?;
        }
        for event in self.index.news() {
            log(&event);
            self.events_tx.send(event).await?;
        }
        Ok(())
    }

    async fn take(&mut self, name: &OsStr, content: Content) -> Result<(), Stop> {
        let file = name.to_string_lossy();
        match content {
            Content::Unfinished => debug!(%file, "a manifest is being written"),
            Content::Nothing => {
                self.index.remove(&file);
                let (places, name) = (self.places.clone(), name.to_owned());
                blocking(move || places.forget(&name)).await?;
            }
            Content::Good(pod) => self.index.put(&file, Ok(pod)),
            Content::Bad { problem, earlier } => {
                if let Some(earlier) = earlier {
                    self.index.put(&file, Ok(earlier));
                }
                self.index.put(&file, Err(problem));
            }
        }
        Ok(())
    }
}

/// Runs what blocks beside the runtime's threads.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
    spawn_blocking(work).await.map_err(io::Error::other)
}

fn log(event: &ManifestEvent) {
    match event {
        ManifestEvent::Valid { file, pod } => {
            let name = pod.metadata.name.as_deref().unwrap_or_default();
            let uid = pod.metadata.uid.as_deref().unwrap_or_default();
            debug!(file, pod = name, uid, "manifest read");
        }
        ManifestEvent::Invalid { file, error } => {
            warn!(file, %error, "manifest not usable: an earlier version, if there is one, goes on");
        }
        ManifestEvent::Removed { file } => debug!(file, "manifest gone"),
        ManifestEvent::Synced => {}
    }
}
