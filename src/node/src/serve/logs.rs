//! A container's log, as those who ask want it: from where, of which stream, how much, and on as it grows.
//!
//! Following takes no looking again and again: the kernel tells of every write and of rotation ([`watch`]), the runtime of
//! the container's end. Nothing is read before its reader has taken what was read before.

pub mod line;
pub mod options;
mod tail;
mod watch;

use std::{
    io::{self, SeekFrom},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use bosun_api::ContainerId;
use bosun_cri::{ErrorKind, Runtime, RuntimeEvent, v1::ContainerState};
use bytes::{Bytes, BytesMut};
use futures_util::{Stream, stream};
use tokio::{
    fs::File,
    io::{AsyncReadExt, AsyncSeekExt},
    sync::mpsc,
    time::{Instant, sleep},
};

pub use self::options::Options;
use self::{
    line::Line,
    watch::{Change, Watch},
};
use super::body;

/// Bytes read at a time.
const CHUNK: usize = 64 << 10;
/// A line that is longer is none of the runtime's, which cuts them at 16 KiB: it is passed over.
const MAX_LINE: usize = 1 << 20;
/// How long the runtime may take to note an exit that its events have told.
const SETTLE: Duration = Duration::from_secs(5);

/// Why there is no log to be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The runtime doesn't say where it is.
    #[error("{0}")]
    Runtime(#[from] bosun_cri::Error),
    /// It can't be read.
    #[error("unable to read the log {}: {source}", path.display())]
    Read {
        /// Where it should be.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
}

/// A log being read.
pub struct Log {
    file: File,
    path: PathBuf,
    read: BytesMut,
    /// Within a line that is passed over.
    skips: bool,
    options: Options,
    writer: line::Writer,
    following: Option<Following>,
}

/// What is needed to hear of more.
struct Following {
    watch: Watch,
    runtime: Arc<dyn Runtime>,
    id: ContainerId,
    events: mpsc::Receiver<RuntimeEvent>,
    /// The file is another by now.
    rotated: bool,
    /// Nothing more will be written.
    ended: bool,
}

impl Log {
    /// The log of a container, whose path the runtime tells relative to `directory`, or whole.
    pub async fn open(
        runtime: Arc<dyn Runtime>,
        id: ContainerId,
        directory: &Path,
        options: Options,
    ) -> Result<Self, Error> {
        let status = runtime.container_status(&id).await?;
        let path = directory.join(&status.log_path);
        let read_failed = |source| Error::Read {
            path: path.clone(),
            source,
        };
        // Before the first byte is read: nothing that is written meanwhile is missed.
        let following = if options.follow {
            let watch = Watch::open(&path).map_err(read_failed)?;
            let events = runtime.subscribe();
            Some(Following {
                watch,
                events,
                runtime,
                id,
                rotated: false,
                ended: status.state() != ContainerState::ContainerRunning,
            })
        } else {
            None
        };
        let mut file = File::open(&path).await.map_err(read_failed)?;
        if let Some(lines) = options.tail {
            let start = tail::start(&mut file, lines).await.map_err(read_failed)?;
            file.seek(SeekFrom::Start(start)).await.map_err(read_failed)?;
        }
        Ok(Self {
            file,
            read: BytesMut::new(),
            skips: false,
            writer: line::Writer::new(options.timestamps, options.limit),
            options,
            following,
            path,
        })
    }

    /// The log's text.
    pub fn into_stream(self) -> impl Stream<Item = Result<Bytes, body::Error>> {
        stream::try_unfold(self, |mut log| async move {
            let text = log.next().await?;
            Ok(text.map(|text| (text, log)))
        })
    }

    /// Some more text; `None` at the end.
    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        loop {
            let text = self.text();
            if !text.is_empty() {
                return Ok(Some(text));
            }
            if self.writer.is_full() {
                return Ok(None);
            }
            // Noted before it is read to its end: whoever ended it has written all by then.
            let ended = self.following.as_ref().is_none_or(|following| following.ended);
            let rotated = self.following.as_ref().is_some_and(|following| following.rotated);
            self.read.reserve(CHUNK);
            if self.file.read_buf(&mut self.read).await? > 0 {
                continue;
            }
            match &mut self.following {
                Some(following) if rotated => {
                    following.rotated = false;
                    // It may not be there yet: its coming is told.
                    match File::open(&self.path).await {
                        Ok(file) if is_same(&file, &self.file).await? => {}
                        Ok(file) => {
                            self.file = file;
                            self.read.clear();
                        }
                        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                        Err(error) => return Err(error),
                    }
                }
                Some(following) if !ended => following.wait().await?,
                _ => return Ok(None),
            }
        }
    }

    /// The text of the lines that have been read.
    fn text(&mut self) -> Bytes {
        let mut from = 0;
        while let Some(length) = self.read[from..].iter().position(|byte| *byte == b'\n') {
            let line = &self.read[from..from + length];
            from += length + 1;
            if std::mem::take(&mut self.skips) {
                continue;
            }
            // What the runtime did not write can't be told from what it did.
            let Some(line) = Line::parse(line) else { continue };
            if self.options.wants(&line) {
                self.writer.put(&line);
            }
        }
        let _ = self.read.split_to(from);
        if self.read.len() > MAX_LINE {
            self.read.clear();
            self.skips = true;
        }
        self.writer.take()
    }
}

/// Whether both are one file: events that were lost are taken for a rotation.
async fn is_same(one: &File, other: &File) -> io::Result<bool> {
    let (one, other) = (one.metadata().await?, other.metadata().await?);
    Ok((one.dev(), one.ino()) == (other.dev(), other.ino()))
}

impl Following {
    /// Waits for more to be there, or for nothing more to come.
    async fn wait(&mut self) -> io::Result<()> {
        tokio::select! {
            change = self.watch.changed() => {
                if change? == Change::Replaced {
                    self.rotated = true;
                }
            }
            event = self.events.recv() => match event {
                Some(RuntimeEvent::Exited { id, .. } | RuntimeEvent::Removed { id }) if id == self.id.as_str() => {
                    self.settle().await;
                    self.ended = true;
                }
                // Its end may have been missed.
                Some(RuntimeEvent::Resync) => self.ended = !self.runs().await,
                Some(_) => {}
                None => self.ended = true,
            },
        }
        Ok(())
    }

    /// The runtime shows an exit once it has written all that the container printed.
    async fn settle(&self) {
        let deadline = Instant::now() + SETTLE;
        let mut pause = Duration::from_millis(4);
        while self.runs().await && Instant::now() < deadline {
            sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(200));
        }
    }

    async fn runs(&self) -> bool {
        match self.runtime.container_status(&self.id).await {
            Ok(status) => status.state() == ContainerState::ContainerRunning,
            // A runtime that is away says nothing of the container.
            Err(error) => error.kind != ErrorKind::NotFound,
        }
    }
}

#[cfg(test)]
mod tests;
