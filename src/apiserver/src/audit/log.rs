//! The audit log's file: lines, rotated by size and age. One thread writes; nobody waits for it.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufWriter, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc::{self, Receiver, RecvTimeoutError, SyncSender},
    },
    thread,
    time::Duration,
};

use jiff::Timestamp;

use crate::metrics::Metrics;

/// How large and how old the files may get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rotation {
    /// A file is followed by a new one at this length, in bytes.
    pub size: u64,
    /// Rotated files older than this are removed.
    pub age: Duration,
    /// And all but so many of the newest.
    pub files: usize,
}

impl Default for Rotation {
    fn default() -> Self {
        Self {
            size: 64 << 20,
            age: Duration::from_hours(30 * 24),
            files: 5,
        }
    }
}

/// Where lines go. Cheap to clone; when the last clone is dropped, what is queued is written and the thread ends.
#[derive(Clone, Debug)]
pub struct Log {
    lines: SyncSender<Message>,
    queued: Arc<AtomicUsize>,
    metrics: Metrics,
}

enum Message {
    Line(Vec<u8>),
    /// Tell once everything before is in the file.
    Flush(SyncSender<()>),
}

/// What may wait to be written, in bytes and lines: enough for a hiccup of the disk.
const QUEUE: usize = 16 << 20;
const QUEUED_LINES: usize = 1 << 16;

impl Log {
    /// Writes to the file at `path`, which only its owner may read, going on at its end.
    pub fn open(path: &Path, rotation: Rotation, metrics: Metrics) -> io::Result<Self> {
        let file = Rotated::open(path.to_owned(), rotation)?;
        let (lines, queue) = mpsc::sync_channel(QUEUED_LINES);
        let queued = Arc::new(AtomicUsize::new(0));
        let writer = Writer {
            queue,
            queued: queued.clone(),
            file,
            metrics: metrics.clone(),
        };
        thread::Builder::new()
            .name("audit".to_owned())
            .spawn(move || writer.run())?;
        Ok(Self { lines, queued, metrics })
    }

    /// Queues a line, or counts it as lost if the disk lags far behind.
    pub fn write(&self, line: Vec<u8>) {
        let length = line.len();
        let before = self.queued.fetch_add(length, Ordering::Relaxed);
        if before + length > QUEUE || self.lines.try_send(Message::Line(line)).is_err() {
            self.queued.fetch_sub(length, Ordering::Relaxed);
            let (_, lost) = self.metrics.audit();
            if lost.inc().is_power_of_two() {
                tracing::warn!(lost = lost.get(), "audit events are lost: the disk does not keep up");
            }
        }
    }
}

impl Log {
    /// Waits until all that was queued is in the file, but not for long: the disk may be what is wrong.
    pub fn flush(&self) {
        let (done_tx, done) = mpsc::sync_channel(1);
        if self.lines.send(Message::Flush(done_tx)).is_ok() && done.recv_timeout(LAST_FLUSH).is_err() {
            tracing::warn!("the audit log's last lines may be missing");
        }
    }
}

/// How long the end waits for the last lines.
const LAST_FLUSH: Duration = Duration::from_secs(5);

struct Writer {
    queue: Receiver<Message>,
    queued: Arc<AtomicUsize>,
    file: Rotated,
    metrics: Metrics,
}

/// How long lines may stay in the buffer.
const FLUSH: Duration = Duration::from_millis(200);

impl Writer {
    fn run(mut self) {
        loop {
            let message = match self.queue.recv_timeout(FLUSH) {
                Ok(message) => message,
                Err(RecvTimeoutError::Timeout) => {
                    // Nothing to do until something comes: no more looks at an idle log.
                    self.check(Rotated::flush);
                    match self.queue.recv() {
                        Ok(message) => message,
                        Err(_) => return,
                    }
                }
                Err(RecvTimeoutError::Disconnected) => {
                    self.check(Rotated::flush);
                    return;
                }
            };
            let line = match message {
                Message::Line(line) => line,
                Message::Flush(done) => {
                    self.check(Rotated::flush);
                    // Whoever asked may have stopped waiting.
                    let _ = done.try_send(());
                    continue;
                }
            };
            self.queued.fetch_sub(line.len(), Ordering::Relaxed);
            if self.check(|file| file.write(&line, Timestamp::now())) {
                self.metrics.audit().0.inc();
            }
        }
    }

    fn check(&mut self, work: impl FnOnce(&mut Rotated) -> io::Result<()>) -> bool {
        let outcome = work(&mut self.file);
        if let Err(error) = &outcome {
            let (_, lost) = self.metrics.audit();
            if lost.inc().is_power_of_two() {
                tracing::error!(path = %self.file.path.display(), %error, lost = lost.get(), "the audit log can't be written");
            }
        }
        outcome.is_ok()
    }
}

/// A file that gives way to a new one.
struct Rotated {
    path: PathBuf,
    rotation: Rotation,
    file: BufWriter<File>,
    length: u64,
}

impl Rotated {
    fn open(path: PathBuf, rotation: Rotation) -> io::Result<Self> {
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir)?;
        }
        let file = append(&path)?;
        let length = file.metadata()?.len();
        Ok(Self {
            path,
            rotation,
            file: BufWriter::with_capacity(64 << 10, file),
            length,
        })
    }

    fn write(&mut self, line: &[u8], now: Timestamp) -> io::Result<()> {
        if self.length > 0 && self.length + line.len() as u64 > self.rotation.size {
            self.rotate(now)?;
        }
        self.file.write_all(line)?;
        self.length += line.len() as u64;
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }

    /// `audit.log` becomes `audit-2026-11-20T14-00-00.000.log`, as upstream names it.
    fn rotate(&mut self, now: Timestamp) -> io::Result<()> {
        self.file.flush()?;
        let (stem, extension) = name(&self.path);
        let stamp = now.strftime("%Y-%m-%dT%H-%M-%S%.3f");
        fs::rename(
            &self.path,
            self.path.with_file_name(format!("{stem}-{stamp}{extension}")),
        )?;
        self.file = BufWriter::with_capacity(64 << 10, append(&self.path)?);
        self.length = 0;
        for old in superfluous(self.rotated()?, self.rotation, now) {
            fs::remove_file(old)?;
        }
        Ok(())
    }

    /// The files that were rotated away, with their times.
    fn rotated(&self) -> io::Result<Vec<(Timestamp, PathBuf)>> {
        let (stem, extension) = name(&self.path);
        let dir = self.path.parent().unwrap_or(Path::new("."));
        let mut found = Vec::new();
        for entry in fs::read_dir(dir)? {
            let path = entry?.path();
            let Some(file) = path.file_name().and_then(|name| name.to_str()) else {
                continue;
            };
            let stamp = file
                .strip_prefix(&*stem)
                .and_then(|rest| rest.strip_prefix('-'))
                .and_then(|rest| rest.strip_suffix(&*extension));
            let Some(stamp) = stamp else { continue };
            if let Ok(time) = jiff::civil::DateTime::strptime("%Y-%m-%dT%H-%M-%S%.f", stamp)
                && let Ok(time) = time.to_zoned(jiff::tz::TimeZone::UTC)
            {
                found.push((time.timestamp(), path));
            }
        }
        Ok(found)
    }
}

/// Opened for its owner's eyes only: who did what is nobody else's business.
fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).mode(0o600).open(path)
}

fn name(path: &Path) -> (String, String) {
    let part = |part: Option<&std::ffi::OsStr>| part.map(|part| part.to_string_lossy().into_owned());
    let extension = part(path.extension()).map(|extension| format!(".{extension}"));
    (
        part(path.file_stem()).unwrap_or_default(),
        extension.unwrap_or_default(),
    )
}

/// Which rotated files are too old or too many.
fn superfluous(mut files: Vec<(Timestamp, PathBuf)>, rotation: Rotation, now: Timestamp) -> Vec<PathBuf> {
    files.sort_by_key(|(time, _)| std::cmp::Reverse(*time));
    let too_old = |time: Timestamp| now.duration_since(time).unsigned_abs() > rotation.age && time < now;
    let named = files.into_iter().enumerate();
    named
        .filter(|(at, (time, _))| *at >= rotation.files || too_old(*time))
        .map(|(_, (_, path))| path)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn a_full_file_gives_way_and_only_so_many_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.log");
        let rotation = Rotation {
            size: 10,
            files: 2,
            ..Rotation::default()
        };
        let mut file = Rotated::open(path.clone(), rotation).unwrap();
        for second in 0..5 {
            file.write(b"12345678\n", at(&format!("2026-11-20T00:00:0{second}Z")))
                .unwrap();
        }
        file.flush().unwrap();
        let mut names: Vec<_> = fs::read_dir(dir.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(
            names,
            [
                "audit-2026-11-20T00-00-03.000.log",
                "audit-2026-11-20T00-00-04.000.log",
                "audit.log"
            ]
        );
        assert_eq!(fs::read(&path).unwrap(), b"12345678\n");
    }

    #[test]
    fn old_files_go_whatever_their_number() {
        let rotation = Rotation {
            age: Duration::from_hours(1),
            ..Rotation::default()
        };
        let files = vec![
            (at("2026-11-20T00:00:00Z"), "old".into()),
            (at("2026-11-20T02:30:00Z"), "new".into()),
        ];
        assert_eq!(
            superfluous(files, rotation, at("2026-11-20T03:00:00Z")),
            [PathBuf::from("old")]
        );
    }

    #[test]
    fn what_is_queued_is_in_the_file_after_a_flush() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("logs/audit.log");
        let metrics = Metrics::new("v1.36.0");
        let log = Log::open(&path, Rotation::default(), metrics.clone()).unwrap();
        for number in 0..100 {
            log.write(format!("{number}\n").into_bytes());
        }
        log.flush();
        assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), 100);
        assert_eq!(metrics.audit().0.get(), 100);
    }
}
