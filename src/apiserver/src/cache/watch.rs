//! One watch: what there is first, if it was asked for, then each change once, in order, and now and then a bookmark.

use std::{sync::Arc, time::Duration};

use bosun_store::Revision;
use tokio::{sync::mpsc::error::TryRecvError, time::Instant};

use super::{
    Cache, Change, Entry, Kind, Selection,
    watchers::{Queue, Ticket},
};

/// How far apart bookmarks are.
const BOOKMARK: Duration = Duration::from_secs(60);
/// How long before its end a watch gets its last bookmark.
const LAST_BOOKMARK: Duration = Duration::from_secs(2);

/// How to watch.
#[derive(Clone, Copy, Debug, Default)]
pub struct WatchOptions {
    /// From this revision on; `None`: everything there is first, as if it were added.
    pub from: Option<Revision>,
    /// Whether the client understands bookmarks.
    pub bookmarks: bool,
    /// Whether a bookmark tells the end of what was there first (`sendInitialEvents`).
    pub mark_initial_end: bool,
    /// That bookmark's revision is this at least.
    pub at_least: Revision,
    /// When it ends, without an error.
    pub timeout: Option<Duration>,
}

/// What a watch tells.
#[derive(Clone, Debug)]
pub enum WatchEvent {
    /// An object that is there: `ADDED`.
    Initial(Arc<Entry>),
    /// Something changed.
    Change(Kind, Arc<Change>),
    /// Nothing else happened up to this revision: `BOOKMARK`.
    Bookmark {
        /// Up to where.
        revision: Revision,
        /// Whether it ends what was there first: the annotation `k8s.io/initial-events-end`.
        initial_end: bool,
    },
}

/// A running watch. Dropping it ends it.
pub struct Watch {
    cache: Arc<Cache>,
    ticket: Ticket,
    queue: Queue,
    initial: Initial,
    missed: std::vec::IntoIter<(Kind, Arc<Change>)>,
    /// Up to where everything has been told.
    revision: Revision,
    options: WatchOptions,
    initial_end: bool,
    bookmark: Option<Instant>,
    deadline: Option<Instant>,
}

/// What there is when a watch begins, shared with others who began at the same revision; only what is selected is told.
pub(super) struct Initial {
    entries: Arc<[Arc<Entry>]>,
    at: usize,
    selection: Selection,
}

impl Initial {
    pub(super) fn new(entries: Arc<[Arc<Entry>]>, selection: Selection) -> Self {
        Self {
            entries,
            at: 0,
            selection,
        }
    }
}

impl Iterator for Initial {
    type Item = Arc<Entry>;

    fn next(&mut self) -> Option<Arc<Entry>> {
        while let Some(entry) = self.entries.get(self.at) {
            self.at += 1;
            if self.selection.matches(entry) {
                return Some(entry.clone());
            }
        }
        if self.at > 0 {
            // Old states are not held for those who have been told.
            *self = Self::new(Arc::new([]), Selection::default());
        }
        None
    }
}

/// Whether there is an event without waiting.
enum Ready {
    Now(WatchEvent),
    Later,
    Never,
}

impl Watch {
    pub(super) fn new(
        cache: Arc<Cache>,
        ticket: Ticket,
        queue: Queue,
        initial: Initial,
        missed: Vec<(Kind, Arc<Change>)>,
        revision: Revision,
        options: WatchOptions,
    ) -> Self {
        let now = Instant::now();
        let deadline = options.timeout.map(|timeout| now + timeout);
        Self {
            cache,
            ticket,
            queue,
            initial,
            missed: missed.into_iter(),
            revision,
            options,
            initial_end: options.mark_initial_end,
            bookmark: options.bookmarks.then(|| next_bookmark(now, deadline)),
            deadline,
        }
    }

    /// The next event; `None` at the end: the time is over, or this watcher was too slow, or the server has lost track.
    pub async fn next(&mut self) -> Option<WatchEvent> {
        loop {
            match self.ready() {
                Ready::Now(event) => return Some(event),
                Ready::Never => return None,
                Ready::Later => {}
            }
            let wake = [self.bookmark, self.deadline].into_iter().flatten().min();
            let received = match wake {
                Some(at) => tokio::time::timeout_at(at, self.queue.recv()).await,
                None => Ok(self.queue.recv().await),
            };
            match received {
                Ok(Some((kind, change))) => return Some(self.told(kind, change)),
                Ok(None) => return None,
                Err(_) => {
                    let now = Instant::now();
                    if self.deadline.is_some_and(|deadline| deadline <= now) {
                        return None;
                    }
                    self.bookmark = Some(next_bookmark(now, self.deadline));
                    if let Some(event) = self.mark(false) {
                        return Some(event);
                    }
                }
            }
        }
    }

    /// An event that is there without waiting.
    pub fn try_next(&mut self) -> Option<WatchEvent> {
        match self.ready() {
            Ready::Now(event) => Some(event),
            Ready::Later | Ready::Never => None,
        }
    }

    fn ready(&mut self) -> Ready {
        if let Some(entry) = self.initial.next() {
            return Ready::Now(WatchEvent::Initial(entry));
        }
        if let Some((kind, change)) = self.missed.next() {
            return Ready::Now(self.told(kind, change));
        }
        if self.initial_end {
            self.initial_end = false;
            let revision = self.revision.max(self.options.at_least);
            return Ready::Now(WatchEvent::Bookmark {
                revision,
                initial_end: true,
            });
        }
        match self.queue.try_recv() {
            Ok((kind, change)) => Ready::Now(self.told(kind, change)),
            Err(TryRecvError::Empty) => Ready::Later,
            Err(TryRecvError::Disconnected) => Ready::Never,
        }
    }

    fn told(&mut self, kind: Kind, change: Arc<Change>) -> WatchEvent {
        self.revision = change.revision();
        WatchEvent::Change(kind, change)
    }

    /// A bookmark, or what came in the meantime.
    fn mark(&mut self, initial_end: bool) -> Option<WatchEvent> {
        // Whatever happened up to here has been queued before: if the queue is empty now, it has been told.
        let revision = self.cache.revision();
        match self.queue.try_recv() {
            Ok((kind, change)) => Some(self.told(kind, change)),
            Err(TryRecvError::Disconnected) => None,
            Err(TryRecvError::Empty) => {
                self.revision = self.revision.max(revision);
                Some(WatchEvent::Bookmark {
                    revision: self.revision,
                    initial_end,
                })
            }
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.cache.forget(&self.ticket);
    }
}

/// About a minute on, not for all watches at once; and shortly before the end.
fn next_bookmark(now: Instant, deadline: Option<Instant>) -> Instant {
    let jitter = Duration::from_millis(fastrand::u64(0..15_000));
    let next = now + BOOKMARK - jitter;
    match deadline.and_then(|deadline| deadline.checked_sub(LAST_BOOKMARK)) {
        Some(last) if now < last => next.min(last),
        _ => next,
    }
}
