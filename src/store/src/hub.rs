//! From an engine to the watchers: what was committed goes to each queue, in order, without waiting for any.
//!
//! A ring of what was published lately lets a watch begin, or end its catching up, without a gap: joining and publishing
//! exclude each other.

use std::{collections::VecDeque, sync::Arc};

use parking_lot::Mutex;
use tokio::sync::mpsc;

use crate::{Error, Event, KeyRange, Result, Revision, Watch, WatchBatch};

/// What the ring may hold.
const RECENT_BYTES: usize = 1024 * 1024;
const RECENT_EVENTS: usize = 4096;

pub(crate) type Sender = mpsc::Sender<Result<WatchBatch>>;

/// All watchers that are up to date.
#[derive(Debug)]
pub(crate) struct Hub(Mutex<State>);

#[derive(Debug)]
struct State {
    published: Revision,
    /// The ring holds all that came after this.
    recent_after: Revision,
    recent: VecDeque<(Event, usize)>,
    recent_bytes: usize,
    watchers: Vec<Watcher>,
}

#[derive(Debug)]
struct Watcher {
    range: KeyRange,
    told: Revision,
    queue: Sender,
}

/// A queue for `batches`, and one more place for the error that ends it.
pub(crate) fn queue(batches: usize) -> (Sender, Watch) {
    mpsc::channel(batches.max(1) + 1)
}

impl Watcher {
    /// Whether it goes on.
    fn tell(&mut self, revision: Revision, events: Vec<Event>) -> bool {
        if self.queue.capacity() <= 1 {
            // There is place for exactly this.
            let _ended = self.queue.try_send(Err(Error::Lagging));
            return false;
        }
        self.told = self.told.max(revision);
        self.queue.try_send(Ok(WatchBatch { revision, events })).is_ok()
    }
}

fn selected<'a>(events: impl Iterator<Item = &'a Event>, range: &KeyRange, after: Revision) -> Vec<Event> {
    events
        .filter(|event| event.revision() > after && range.contains(event.key()))
        .cloned()
        .collect()
}

impl Hub {
    pub(crate) fn new(published: Revision) -> Arc<Self> {
        Arc::new(Self(Mutex::new(State {
            published,
            recent_after: published,
            recent: VecDeque::new(),
            recent_bytes: 0,
            watchers: Vec::new(),
        })))
    }

    /// The latest revision that watchers can know.
    pub(crate) fn published(&self) -> Revision {
        self.0.lock().published
    }

    /// Hands out what was committed up to `revision`.
    pub(crate) fn publish(&self, revision: Revision, events: Vec<Event>) {
        let mut state = self.0.lock();
        state.published = revision;
        state.watchers.retain_mut(|watcher| {
            let events = selected(events.iter(), &watcher.range, watcher.told);
            if events.is_empty() {
                return !watcher.queue.is_closed();
            }
            watcher.tell(revision, events)
        });
        state.remember(events);
    }

    /// Has no watch begin before `compacted` any more.
    pub(crate) fn forget(&self, compacted: Revision) {
        let mut state = self.0.lock();
        state.recent_after = state.recent_after.max(compacted);
        while state
            .recent
            .front()
            .is_some_and(|(event, _)| event.revision() <= compacted)
        {
            state.recent_bytes -= state.recent.pop_front().map_or(0, |(_, size)| size);
        }
    }

    /// Makes `queue` a watcher from `after` on, if that can be done without reading history.
    pub(crate) fn join(&self, range: &KeyRange, after: Revision, queue: &Sender, tell: bool) -> bool {
        let mut state = self.0.lock();
        if after < state.recent_after {
            return false;
        }
        let published = state.published;
        let mut watcher = Watcher {
            range: range.clone(),
            told: after,
            queue: queue.clone(),
        };
        let events = selected(state.recent.iter().map(|(event, _)| event), range, after);
        let told = (events.is_empty() && !tell) || watcher.tell(published.max(after), events);
        if told {
            state.watchers.push(watcher);
        }
        true
    }

    /// Tells every watcher how far it is.
    pub(crate) fn nudge(&self) {
        let mut state = self.0.lock();
        let published = state.published;
        // A queue that is nearly full has something to tell already, and the timer does the rest.
        state.watchers.retain_mut(|watcher| {
            watcher.queue.capacity() <= 1 || watcher.tell(published.max(watcher.told), Vec::new())
        });
    }

    /// Tells those who don't know of the latest revision; whether there were any.
    pub(crate) fn progress(&self) {
        let mut state = self.0.lock();
        let published = state.published;
        state.watchers.retain_mut(|watcher| {
            watcher.told >= published
                || (watcher.queue.capacity() <= 1 && !watcher.queue.is_closed())
                || watcher.tell(published, Vec::new())
        });
    }

    /// Whether some watcher does not know of the latest revision.
    pub(crate) fn behind(&self) -> bool {
        let state = self.0.lock();
        state.watchers.iter().any(|watcher| watcher.told < state.published)
    }

    /// Ends every watch: what was committed is not known for sure any more.
    pub(crate) fn reset(&self, revision: Revision, why: &Error) {
        let mut state = self.0.lock();
        for watcher in std::mem::take(&mut state.watchers) {
            // One place is always left for this.
            let _ended = watcher.queue.try_send(Err(why.clone()));
        }
        state.published = revision;
        state.recent_after = revision;
        state.recent.clear();
        state.recent_bytes = 0;
    }
}

impl State {
    fn remember(&mut self, events: Vec<Event>) {
        for event in events {
            let size = match &event {
                Event::Put { kv } => kv.key.len() + kv.value.len(),
                Event::Delete { key, .. } => key.len(),
            };
            self.recent_bytes += size;
            self.recent.push_back((event, size));
        }
        while self.recent_bytes > RECENT_BYTES || self.recent.len() > RECENT_EVENTS {
            // What is left of that revision must not be taken for the whole.
            let Some((event, size)) = self.recent.pop_front() else {
                break;
            };
            self.recent_bytes -= size;
            self.recent_after = event.revision();
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::KeyValue;

    fn put(key: &'static str, revision: u64, size: usize) -> Event {
        Event::Put {
            kv: KeyValue {
                key: Bytes::from_static(key.as_bytes()),
                value: vec![b'x'; size].into(),
                created: Revision(revision),
                modified: Revision(revision),
            },
        }
    }

    fn told(watch: &mut Watch) -> Vec<(u64, Vec<u64>)> {
        let mut all = Vec::new();
        while let Ok(Ok(batch)) = watch.try_recv() {
            let events = batch.events.iter().map(|event| event.revision().0).collect();
            all.push((batch.revision.0, events));
        }
        all
    }

    fn joined(hub: &Hub, prefix: &'static str, after: u64, places: usize) -> Watch {
        let (tx, rx) = queue(places);
        assert!(hub.join(&KeyRange::prefix(prefix), Revision(after), &tx, false));
        rx
    }

    #[test]
    fn each_watcher_gets_what_is_in_its_range_and_after_its_start() {
        let hub = Hub::new(Revision(0));
        hub.publish(Revision(2), vec![put("/a/1", 1, 1), put("/b/1", 2, 1)]);
        let (mut a, mut b) = (joined(&hub, "/a/", 0, 8), joined(&hub, "/b/", 2, 8));
        hub.publish(Revision(4), vec![put("/a/1", 3, 1), put("/b/1", 4, 1)]);
        assert_eq!(told(&mut a), [(2, vec![1]), (4, vec![3])]);
        assert_eq!(told(&mut b), [(4, vec![4])]);
    }

    #[test]
    fn what_has_left_the_ring_must_be_read_from_history() {
        let hub = Hub::new(Revision(0));
        hub.publish(Revision(1), vec![put("/a/1", 1, RECENT_BYTES)]);
        hub.publish(Revision(2), vec![put("/a/1", 2, 10)]);
        let (tx, _rx) = queue(8);
        assert!(!hub.join(&KeyRange::prefix("/a/"), Revision(0), &tx, false));
        assert_eq!(told(&mut joined(&hub, "/a/", 1, 8)), [(2, vec![2])]);
    }

    #[test]
    fn a_slow_watcher_is_ended_and_holds_no_other() {
        let hub = Hub::new(Revision(0));
        let (mut slow, mut quick) = (joined(&hub, "/a/", 0, 2), joined(&hub, "/a/", 0, 8));
        for revision in 1..=4 {
            hub.publish(Revision(revision), vec![put("/a/1", revision, 1)]);
        }
        assert_eq!(told(&mut quick).len(), 4);
        assert!(slow.try_recv().unwrap().is_ok());
        assert!(slow.try_recv().unwrap().is_ok());
        assert_eq!(slow.try_recv().unwrap(), Err(Error::Lagging));
        assert_eq!(slow.try_recv(), Err(mpsc::error::TryRecvError::Disconnected));
    }

    #[test]
    fn progress_is_told_to_those_who_do_not_know_and_a_nudge_to_all() {
        let hub = Hub::new(Revision(0));
        let (mut a, mut b) = (joined(&hub, "/a/", 0, 8), joined(&hub, "/b/", 0, 8));
        hub.publish(Revision(1), vec![put("/a/1", 1, 1)]);
        assert!(hub.behind());
        hub.progress();
        assert!(!hub.behind());
        assert_eq!(told(&mut a), [(1, vec![1])]);
        assert_eq!(told(&mut b), [(1, vec![])]);
        hub.nudge();
        assert_eq!(told(&mut a), [(1, vec![])]);
        assert_eq!(told(&mut b), [(1, vec![])]);
    }

    #[test]
    fn a_watcher_that_was_dropped_is_forgotten() {
        let hub = Hub::new(Revision(0));
        drop(joined(&hub, "/a/", 0, 8));
        hub.publish(Revision(1), vec![put("/b/1", 1, 1)]);
        assert!(hub.0.lock().watchers.is_empty());
    }

    #[test]
    fn a_watch_from_what_was_read_but_not_yet_published_gets_the_rest() {
        let hub = Hub::new(Revision(5));
        let mut watch = joined(&hub, "/a/", 7, 8);
        hub.publish(Revision(8), (6..=8).map(|revision| put("/a/1", revision, 1)).collect());
        assert_eq!(told(&mut watch), [(8, vec![8])]);
    }
}
