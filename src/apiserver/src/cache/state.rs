//! A cache's objects and the window of its last changes: what is, and what was not long ago.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    ops::Bound,
    sync::{Arc, Weak},
};

use bosun_store::{Event, Revision};
use bytes::Bytes;
use parking_lot::Mutex;

use super::{CacheError, Entry};

/// How much of the past is kept.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// At most so many changes.
    pub changes: usize,
    /// At most so many bytes of objects that are no more, or no longer so…
    pub bytes: usize,
    /// …but at least so many changes.
    pub least: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            changes: 10_000,
            bytes: 8 << 20,
            least: 256,
        }
    }
}

/// What happened to an object, as one who sees only a selection sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// It is new, or newly selected.
    Added,
    /// It has changed.
    Modified,
    /// It is gone, or no longer selected.
    Deleted,
}

impl Kind {
    /// As watches write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Added => "ADDED",
            Self::Modified => "MODIFIED",
            Self::Deleted => "DELETED",
        }
    }
}

/// A change of one object.
#[derive(Debug)]
pub struct Change {
    revision: Revision,
    old: Option<Arc<Entry>>,
    new: Option<Arc<Entry>>,
    frames: Mutex<Frames>,
}

/// What watchers are sent, made by the first of them for all others; only while the change is recent, so that the window
/// does not hold everything twice.
#[derive(Debug, Default)]
struct Frames {
    made: Vec<(Kind, u64, Bytes)>,
    cold: bool,
}

/// How many of the last changes keep their frames.
const HOT: usize = 64;

impl Change {
    /// A change from `old` to `new`, of which there is at least one.
    fn new(revision: Revision, old: Option<Arc<Entry>>, new: Option<Arc<Entry>>) -> Self {
        Self {
            revision,
            old,
            new,
            frames: Mutex::default(),
        }
    }

    /// The change's revision, which is the object's resource version for watchers.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// As it was before, if it was.
    pub fn old(&self) -> Option<&Arc<Entry>> {
        self.old.as_ref()
    }

    /// As it is since, if it is.
    pub fn new_entry(&self) -> Option<&Arc<Entry>> {
        self.new.as_ref()
    }

    /// The object that is told of: as it is, or for [`Kind::Deleted`] as it was last.
    pub fn entry(&self, kind: Kind) -> &Arc<Entry> {
        let (first, second) = match kind {
            Kind::Deleted => (&self.old, &self.new),
            Kind::Added | Kind::Modified => (&self.new, &self.old),
        };
        first.as_ref().or(second.as_ref()).expect("a change is of something")
    }

    /// That object's JSON, with the change's resource version.
    pub fn json(&self, kind: Kind) -> Bytes {
        let entry = self.entry(kind);
        if entry.revision() == self.revision {
            entry.json().clone()
        } else {
            entry.json_at(self.revision)
        }
    }

    /// What is sent of this change in one representation (a number of the caller's): made by `make` for the first who
    /// asks, shared by the others.
    pub fn frame(&self, kind: Kind, representation: u64, make: impl FnOnce(Bytes) -> Bytes) -> Bytes {
        let mut frames = self.frames.lock();
        let known = frames
            .made
            .iter()
            .find(|made| (made.0, made.1) == (kind, representation));
        if let Some((_, _, frame)) = known {
            return frame.clone();
        }
        let frame = make(self.json(kind));
        // An empty one tells that it could not be made.
        if !frames.cold && !frame.is_empty() {
            frames.made.push((kind, representation, frame.clone()));
        }
        frame
    }

    fn cool(&self) {
        *self.frames.lock() = Frames {
            made: Vec::new(),
            cold: true,
        };
    }

    fn key(&self) -> &Arc<str> {
        self.entry(Kind::Modified).key()
    }

    /// What only the window holds on to.
    fn weight(&self) -> usize {
        self.old.as_ref().map_or(0, |old| old.json().len())
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct State {
    limits: Limits,
    objects: BTreeMap<Arc<str>, Arc<Entry>>,
    /// All objects, while somebody reads them and nothing has changed.
    everything: Mutex<Weak<[Arc<Entry>]>>,
    window: VecDeque<Arc<Change>>,
    weight: usize,
    /// Everything after this is in the window.
    base: Revision,
    /// As of when it was loaded: earlier changes are in it already.
    loaded: Revision,
    /// Of the last change, or of the loading.
    revision: Revision,
    /// What came while it was not loaded.
    deferred: Option<Vec<Event>>,
}

impl State {
    /// One that waits to be loaded.
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            objects: BTreeMap::new(),
            everything: Mutex::new(no_entries()),
            window: VecDeque::new(),
            weight: 0,
            base: Revision::default(),
            loaded: Revision::default(),
            revision: Revision::default(),
            deferred: Some(Vec::new()),
        }
    }

    pub(super) fn objects(&self) -> &BTreeMap<Arc<str>, Arc<Entry>> {
        &self.objects
    }

    /// All objects in the order of their keys, shared by all who read them between two changes.
    pub(super) fn everything(&self) -> Arc<[Arc<Entry>]> {
        let mut known = self.everything.lock();
        known.upgrade().unwrap_or_else(|| {
            let entries: Arc<[_]> = self.objects.values().cloned().collect();
            *known = Arc::downgrade(&entries);
            entries
        })
    }

    /// The objects from key `start` on whose keys begin with `under`.
    pub(super) fn from(&self, start: &str, under: &str) -> Arc<[Arc<Entry>]> {
        if start.is_empty() && under.is_empty() {
            return self.everything();
        }
        let range = (Bound::Included(start), Bound::Unbounded);
        let entries = self.objects.range::<str, _>(range).map(|(_, entry)| entry);
        entries
            .take_while(|entry| entry.key().starts_with(under))
            .cloned()
            .collect()
    }

    /// Of the last change here.
    pub(super) fn revision(&self) -> Revision {
        self.revision
    }

    /// As of when it was loaded.
    pub(super) fn loaded(&self) -> Revision {
        self.loaded
    }

    /// Takes what was read at `revision`; gives back what has come since.
    pub(super) fn load(&mut self, entries: Vec<Arc<Entry>>, revision: Revision) -> Vec<Event> {
        self.objects = entries.into_iter().map(|entry| (entry.key().clone(), entry)).collect();
        self.everything = Mutex::new(no_entries());
        self.window.clear();
        self.weight = 0;
        (self.base, self.loaded, self.revision) = (revision, revision, revision);
        self.deferred.take().unwrap_or_default()
    }

    pub(super) fn unload(&mut self) {
        self.deferred.get_or_insert_default();
    }

    /// Keeps events for later while not loaded; otherwise gives back those that are not known.
    pub(super) fn defer(&mut self, mut events: Vec<Event>) -> Option<Vec<Event>> {
        if let Some(deferred) = &mut self.deferred {
            deferred.append(&mut events);
            return None;
        }
        events.retain(|event| match event {
            Event::Put { kv } => kv.modified > self.loaded,
            Event::Delete { revision, .. } => *revision > self.loaded,
        });
        Some(events)
    }

    /// Takes a change; `None` if nothing was there and nothing is.
    pub(super) fn apply(&mut self, key: &str, revision: Revision, new: Option<Arc<Entry>>) -> Option<Arc<Change>> {
        self.revision = self.revision.max(revision);
        let old = match &new {
            Some(entry) => self.objects.insert(entry.key().clone(), entry.clone()),
            None => self.objects.remove(key),
        };
        if old.is_none() && new.is_none() {
            return None;
        }
        self.everything = Mutex::new(no_entries());
        let change = Arc::new(Change::new(revision, old, new));
        self.weight += change.weight();
        self.window.push_back(change.clone());
        if let Some(at) = self.window.len().checked_sub(HOT + 1) {
            self.window[at].cool();
        }
        while self.window.len() > self.limits.least
            && (self.window.len() > self.limits.changes || self.weight > self.limits.bytes)
            && let Some(oldest) = self.window.pop_front()
        {
            self.weight -= oldest.weight();
            self.base = oldest.revision();
        }
        Some(change)
    }

    /// The changes after `from`.
    pub(super) fn since(&self, from: Revision) -> Result<impl Iterator<Item = &Arc<Change>>, CacheError> {
        if from < self.base {
            return Err(CacheError::TooOld {
                asked: from,
                oldest: self.base,
            });
        }
        let first = self.window.partition_point(|change| change.revision() <= from);
        Ok(self.window.range(first..))
    }

    /// The objects from key `start` on as they were at `revision`, if that can still be told.
    pub(super) fn at(&self, revision: Revision, start: &str) -> Option<Vec<Arc<Entry>>> {
        let changes = self.since(revision).ok()?;
        // The earliest change since tells what was there at the time.
        let mut then: HashMap<&str, Option<&Arc<Entry>>> = HashMap::new();
        for change in changes {
            then.entry(change.key()).or_insert(change.old());
        }
        let mut entries: Vec<_> = self
            .objects
            .range::<str, _>((Bound::Included(start), Bound::Unbounded))
            .filter(|(key, _)| !then.contains_key(&***key))
            .map(|(_, entry)| entry.clone())
            .collect();
        let past = then.into_iter().filter(|(key, _)| *key >= start);
        let before = entries.len();
        entries.extend(past.filter_map(|(_, old)| old.cloned()));
        if entries.len() > before {
            entries.sort_unstable_by(|a, b| a.key().cmp(b.key()));
        }
        Some(entries)
    }
}

fn no_entries() -> Weak<[Arc<Entry>]> {
    Weak::<[Arc<Entry>; 0]>::new()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::cache::{Fields, entry::encode};

    fn entry(key: &str, revision: u64) -> Arc<Entry> {
        let object = serde_json::json!({"apiVersion": "v1", "kind": "K", "metadata": {"name": key}});
        Arc::new(Entry::new(key.into(), &encode(&object), Revision(revision), &Fields::default()).unwrap())
    }

    fn state(limits: Limits) -> State {
        let mut state = State::new(limits);
        state.load(vec![entry("a", 1), entry("b", 2)], Revision(2));
        state
    }

    #[test]
    fn what_comes_before_the_load_is_applied_after_it() {
        let mut state = State::new(Limits::default());
        let delete = |revision| Event::Delete {
            key: "a".into(),
            revision: Revision(revision),
        };
        assert_eq!(state.defer(vec![delete(3), delete(9)]), None);
        let deferred = state.load(vec![entry("a", 5)], Revision(5));
        assert_eq!(deferred, [delete(3), delete(9)]);
        assert_eq!(state.defer(deferred), Some(vec![delete(9)]), "one is known already");
    }

    #[test]
    fn the_window_ends_with_a_reason() {
        let mut state = state(Limits {
            changes: 2,
            bytes: 0,
            least: 1,
        });
        for revision in 3..=6 {
            state.apply("a", Revision(revision), Some(entry("a", revision)));
        }
        let error = state.since(Revision(4)).map(Iterator::count).unwrap_err();
        assert_eq!(error.to_string(), "too old resource version: 4 (5)");
        assert_eq!(state.since(Revision(5)).unwrap().count(), 1);
        assert_eq!(state.since(Revision(6)).unwrap().count(), 0);
        assert!(state.at(Revision(4), "").is_none());
    }

    #[test]
    fn a_deletion_tells_the_last_state_at_its_own_revision() {
        let mut state = state(Limits::default());
        let change = state.apply("b", Revision(7), None).unwrap();
        let object: serde_json::Value = serde_json::from_slice(&change.json(Kind::Deleted)).unwrap();
        assert_eq!(object["metadata"]["resourceVersion"], "7");
        assert_eq!(state.apply("b", Revision(8), None).map(|_| ()), None);
        assert_eq!(state.revision(), Revision(8));
    }

    #[test]
    fn a_frame_is_made_once_for_all() {
        let mut state = state(Limits::default());
        let change = state.apply("a", Revision(3), Some(entry("a", 3))).unwrap();
        let first = change.frame(Kind::Modified, 1, |json| json);
        let again = change.frame(Kind::Modified, 1, |_| panic!("it is made already"));
        assert_eq!(first.as_ptr(), again.as_ptr());
        assert_eq!(change.frame(Kind::Modified, 2, |_| Bytes::from_static(b"x")), "x");
    }

    proptest! {
        #[test]
        fn every_revision_in_the_window_can_be_looked_back_to(
            ops in prop::collection::vec(("[a-e]", any::<bool>()), 1..60), least in 1usize..80, start in "[a-e]?",
        ) {
            let mut state = state(Limits { changes: 0, bytes: 0, least });
            let mut now: BTreeMap<String, u64> = [("a".into(), 1), ("b".into(), 2)].into();
            let mut history = BTreeMap::from([(2, now.clone())]);
            for (revision, (key, put)) in (3..).zip(&ops) {
                state.apply(key, Revision(revision), put.then(|| entry(key, revision)));
                if *put { now.insert(key.clone(), revision); } else { now.remove(key); }
                history.insert(revision, now.clone());
            }
            for (revision, expected) in history {
                let Some(found) = state.at(Revision(revision), &start) else {
                    prop_assert!(state.since(Revision(revision)).is_err());
                    continue;
                };
                let found: Vec<_> = found.iter().map(|entry| (entry.key().to_string(), entry.revision().0)).collect();
                let expected: Vec<_> = expected.into_iter().filter(|(key, _)| *key >= start).collect();
                prop_assert_eq!(found, expected);
            }
        }
    }
}
