//! Random writers, readers and watchers against a model. Every commit says its revision, so the order is known and the
//! history can be checked in whole: commits and conflicts as in that order, reads of a moment between their call and
//! their answer, watches with each revision once.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail by panicking")]

use std::{
    collections::BTreeMap,
    ops::RangeInclusive,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bosun_store::{Compare, Error, Event, KeyRange, KeyValue, Op, Range, Revision, Store, Txn};
use bytes::Bytes;
use fastrand::Rng;
use parking_lot::Mutex;
use tokio::{task::JoinSet, time::timeout};

const CLIENTS: u64 = 8;
const CALLS: usize = 120;
const WATCHERS: usize = 6;
const PATIENCE: Duration = Duration::from_mins(1);

/// A few seeds, or `BOSUN_SOAK` of them; new ones each time, named when they fail.
pub(crate) fn seeds(few: u64) -> impl Iterator<Item = u64> {
    let count = std::env::var("BOSUN_SOAK").ok().and_then(|count| count.parse().ok());
    (0..count.unwrap_or(few)).map(|_| fastrand::u64(..))
}

/// A call, with the ticks of a clock that all clients share.
struct Call {
    began: u64,
    ended: u64,
    what: What,
}

enum What {
    Commit(Txn, Result<Revision, Error>),
    Get(Bytes, Option<KeyValue>),
    Range(KeyRange, usize, Option<Revision>, Result<Range, Error>),
}

/// What everyone knows.
struct World {
    store: Arc<dyn Store>,
    start: Revision,
    clock: AtomicU64,
    /// Revisions older than this may be gone.
    compacted: AtomicU64,
    acknowledged: AtomicU64,
    calls: Mutex<Vec<Call>>,
}

fn name(random: &mut Rng) -> Bytes {
    format!("/{}/{}", ["a", "b", "c"][random.usize(..3)], random.u8(..4)).into()
}

fn range(random: &mut Rng) -> KeyRange {
    KeyRange::prefix(["/", "/a/", "/b/", "/b/1"][random.usize(..4)])
}

impl World {
    fn tick(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::SeqCst)
    }

    async fn commit(&self, txn: Txn) {
        let began = self.tick();
        let result = self.store.commit(txn.clone()).await;
        if let Ok(revision) = result {
            self.acknowledged.fetch_max(revision.0, Ordering::SeqCst);
        }
        self.log(began, What::Commit(txn, result));
    }

    fn log(&self, began: u64, what: What) {
        let ended = self.tick();
        self.calls.lock().push(Call { began, ended, what });
    }

    /// One client's life.
    async fn client(self: Arc<Self>, number: u64, mut random: Rng) {
        let mut seen = BTreeMap::<Bytes, Revision>::new();
        for call in 0..CALLS {
            let key = name(&mut random);
            let value = Bytes::from(format!("{number}.{call}"));
            match random.u8(..10) {
                0..=2 => {
                    // As it was seen, or as it was not: both may hold or not.
                    let modified = seen.get(&key).copied().unwrap_or_default();
                    let op = if random.bool() {
                        Op::Put {
                            key: key.clone(),
                            value,
                            ttl: None,
                        }
                    } else {
                        Op::Delete { key: key.clone() }
                    };
                    self.commit(Txn {
                        compares: vec![Compare::Modified(key, modified)],
                        ops: vec![op],
                    })
                    .await;
                }
                3..=5 => {
                    let mut ops = BTreeMap::new();
                    for _ in 0..random.usize(1..4) {
                        let key = name(&mut random);
                        let value = value.clone();
                        let put = Op::Put {
                            key: key.clone(),
                            value,
                            ttl: None,
                        };
                        let delete = Op::Delete { key: key.clone() };
                        ops.insert(key, if random.u8(..4) > 0 { put } else { delete });
                    }
                    self.commit(Txn {
                        compares: Vec::new(),
                        ops: ops.into_values().collect(),
                    })
                    .await;
                }
                6 | 7 => {
                    let began = self.tick();
                    let kv = self.store.get(key.clone()).await.unwrap();
                    seen.insert(key.clone(), kv.as_ref().map_or(Revision(0), |kv| kv.modified));
                    self.log(began, What::Get(key, kv));
                }
                8 => {
                    let (range, limit) = (range(&mut random), random.usize(..6));
                    let latest = self.acknowledged.load(Ordering::SeqCst);
                    let at = random
                        .bool()
                        .then(|| Revision(random.u64(self.start.0.max(latest.saturating_sub(60))..=latest)));
                    let began = self.tick();
                    let result = self.store.range(range.clone(), limit, at).await;
                    self.log(began, What::Range(range, limit, at, result));
                }
                _ => {
                    let latest = self.acknowledged.load(Ordering::SeqCst);
                    if random.u8(..4) == 0 && latest > self.start.0 + 80 {
                        let before = latest - 80;
                        self.compacted.fetch_max(before, Ordering::SeqCst);
                        self.store.compact(Revision(before)).await.unwrap();
                    } else {
                        self.store.nudge().await.unwrap();
                    }
                }
            }
        }
    }

    /// Watches `range` until revision `end`, beginning anew where it was cut off; what it saw, and after which revision.
    async fn watcher(self: Arc<Self>, range: KeyRange, mut end: tokio::sync::watch::Receiver<u64>) -> Watched {
        let mut watched = Watched {
            range,
            after: Revision(self.acknowledged.load(Ordering::SeqCst)),
            events: Vec::new(),
        };
        let mut told = watched.after;
        loop {
            let mut watch = match self.store.watch(watched.range.clone(), told).await {
                Ok(watch) => watch,
                Err(error) => {
                    self.restart(error, &mut watched, &mut told);
                    continue;
                }
            };
            loop {
                let end = *end.borrow_and_update();
                if end > 0 && told.0 >= end {
                    return watched;
                }
                if end > 0 {
                    self.store.nudge().await.unwrap();
                }
                let message = timeout(Duration::from_millis(500), watch.recv()).await;
                match message {
                    Ok(Some(Ok(batch))) => {
                        assert!(batch.revision >= told, "{batch:?} after {told}");
                        told = batch.revision;
                        watched.events.extend(batch.events);
                    }
                    Ok(Some(Err(error))) => {
                        self.restart(error, &mut watched, &mut told);
                        break;
                    }
                    Ok(None) => panic!("a watch ended without an error"),
                    // Nothing happens: has the end come?
                    Err(_) => {}
                }
            }
        }
    }

    fn restart(&self, error: Error, watched: &mut Watched, told: &mut Revision) {
        match error {
            Error::Lagging => {}
            Error::Compacted { asked, oldest } => {
                let compacted = self.compacted.load(Ordering::SeqCst);
                assert!(asked < oldest && oldest.0 <= compacted, "{asked} {oldest} {compacted}");
                watched.events.clear();
                watched.after = oldest;
                *told = oldest;
            }
            other => panic!("a watch ended: {other}"),
        }
    }
}

struct Watched {
    range: KeyRange,
    after: Revision,
    events: Vec<Event>,
}

/// Lets random clients loose on an empty store and checks what they saw.
pub(crate) async fn check(store: Arc<dyn Store>, seed: u64) {
    println!("seed {seed}");
    let mut random = Rng::with_seed(seed);
    let start = store.revision().await.unwrap();
    let world = Arc::new(World {
        store: Arc::clone(&store),
        start,
        clock: AtomicU64::new(0),
        compacted: AtomicU64::new(0),
        acknowledged: AtomicU64::new(start.0),
        calls: Mutex::default(),
    });
    let end = tokio::sync::watch::Sender::new(0);
    let mut watchers = JoinSet::new();
    let mut clients = JoinSet::new();
    for number in 0..CLIENTS {
        clients.spawn(Arc::clone(&world).client(number, random.fork()));
        if watchers.len() < WATCHERS {
            watchers.spawn(Arc::clone(&world).watcher(range(&mut random), end.subscribe()));
        }
    }
    timeout(PATIENCE, clients.join_all()).await.expect("the clients end");
    end.send_replace(store.revision().await.unwrap().0);
    let watched = timeout(PATIENCE, watchers.join_all()).await.expect("the watchers end");

    let calls = std::mem::take(&mut *world.calls.lock());
    let history = History::replay(start, &calls);
    for call in &calls {
        history.explain(call, world.compacted.load(Ordering::SeqCst));
    }
    for watched in watched {
        let expected: Vec<_> = history
            .events
            .iter()
            .filter(|event| event.revision() > watched.after && watched.range.contains(event.key()))
            .collect();
        let mut seen: Vec<_> = watched.events.iter().collect();
        assert!(
            seen.is_sorted_by_key(|event| event.revision()),
            "a watch went back: {seen:?}"
        );
        seen.sort_by_key(|event| (event.revision(), event.key().clone()));
        assert_eq!(seen, expected, "a watch of {:?} after {}", watched.range, watched.after);
    }
    println!("{} calls, {} revisions", calls.len(), history.states.len() - 1);
}

type State = BTreeMap<Bytes, KeyValue>;

/// All states there were.
struct History {
    start: Revision,
    states: Vec<State>,
    /// Of a revision in the order of their keys.
    events: Vec<Event>,
    /// When each commit that changed something began and ended.
    times: BTreeMap<Revision, (u64, u64)>,
}

impl History {
    fn replay(start: Revision, calls: &[Call]) -> Self {
        let mut commits = BTreeMap::<Revision, Vec<(&Txn, &Call)>>::new();
        for call in calls {
            if let What::Commit(txn, Ok(revision)) = &call.what {
                commits.entry(*revision).or_default().push((txn, call));
            }
        }
        let mut history = Self {
            start,
            states: vec![State::new()],
            events: Vec::new(),
            times: BTreeMap::new(),
        };
        for (revision, answered) in commits {
            if revision == start {
                continue;
            }
            assert_eq!(revision.0, history.latest().0 + 1, "revisions are dense");
            let state = history.states.last().unwrap();
            // A deletion that finds nothing is answered with the revision of another commit.
            let (puts, deletes): (Vec<_>, Vec<_>) = answered.into_iter().partition(|(txn, _)| !deletes_only(txn));
            let mut changing = if puts.is_empty() { deletes } else { puts };
            changing.retain(|(txn, _)| holds(txn, state) && !apply(txn, state, revision).1.is_empty());
            let (txn, _) = changing
                .first()
                .unwrap_or_else(|| panic!("nothing made revision {revision}"));
            let (state, events) = apply(txn, state, revision);
            // Of several that could have been it, the times of all of them.
            let began = changing.iter().map(|(_, call)| call.began).min().unwrap();
            let ended = changing.iter().map(|(_, call)| call.ended).max().unwrap();
            assert!(changing.len() == 1 || deletes_only(txn), "revision {revision} twice");
            history.states.push(state);
            history.events.extend(events);
            history.times.insert(revision, (began, ended));
        }
        history
    }

    fn latest(&self) -> Revision {
        Revision(self.start.0 + self.states.len() as u64 - 1)
    }

    fn state(&self, revision: Revision) -> &State {
        &self.states[(revision.0 - self.start.0) as usize]
    }

    /// The revisions that could be the latest while a call lasted.
    fn window(&self, call: &Call) -> RangeInclusive<u64> {
        let done = self.times.iter().filter(|(_, (_, ended))| *ended < call.began);
        let done = done.map(|(revision, _)| revision.0).max().unwrap_or(self.start.0);
        let not_begun = self.times.iter().filter(|(_, (began, _))| *began > call.ended);
        let not_begun = not_begun.map(|(revision, _)| revision.0 - 1).min();
        done..=not_begun.unwrap_or(self.latest().0)
    }

    fn explain(&self, call: &Call, compacted: u64) {
        let window = self.window(call);
        let mut moments = window.clone().map(|revision| self.state(Revision(revision)));
        match &call.what {
            What::Commit(txn, Ok(revision)) => {
                assert!(window.contains(&revision.0), "{txn:?} at {revision}, not in {window:?}");
                // The commit that made the revision is known to fit; of deletions others can have the same answer.
                if deletes_only(txn) {
                    let (before, state) = (revision.0 > self.start.0, self.state(*revision));
                    let did = before && holds(txn, self.state(Revision(revision.0 - 1)));
                    let idle = holds(txn, state) && apply(txn, state, *revision).1.is_empty();
                    assert!(did || idle, "{txn:?} at {revision}");
                }
            }
            What::Commit(txn, Err(Error::Conflict)) => {
                assert!(
                    moments.any(|state| !holds(txn, state)),
                    "{txn:?} had no conflict in {window:?}"
                );
            }
            What::Commit(txn, Err(error)) => panic!("{txn:?}: {error}"),
            What::Get(key, kv) => {
                assert!(
                    moments.any(|state| state.get(key) == kv.as_ref()),
                    "{kv:?} in {window:?}"
                );
            }
            What::Range(range, limit, at, Ok(answer)) => {
                assert!(window.contains(&answer.revision.0), "{answer:?} in {window:?}");
                let state = self.state(at.unwrap_or(answer.revision));
                let inside: Vec<_> = state.values().filter(|kv| range.contains(&kv.key)).cloned().collect();
                let taken = if *limit == 0 {
                    inside.len()
                } else {
                    inside.len().min(*limit)
                };
                assert_eq!(answer.kvs, inside[..taken], "{range:?} at {at:?}, {}", answer.revision);
                assert_eq!((answer.count, answer.more), (inside.len() as u64, taken < inside.len()));
            }
            What::Range(_, _, Some(at), Err(Error::Compacted { asked, .. })) => {
                assert!(asked == at && at.0 < compacted, "{at} is kept");
            }
            What::Range(range, _, at, Err(error)) => panic!("{range:?} at {at:?}: {error}"),
        }
    }
}

fn deletes_only(txn: &Txn) -> bool {
    txn.ops.iter().all(|op| matches!(op, Op::Delete { .. }))
}

fn holds(txn: &Txn, state: &State) -> bool {
    let modified = |key| state.get(key).map_or(Revision(0), |kv| kv.modified);
    txn.compares
        .iter()
        .all(|Compare::Modified(key, revision)| modified(key) == *revision)
}

/// What a transaction makes of a state, and its events in the order of their keys.
fn apply(txn: &Txn, state: &State, revision: Revision) -> (State, Vec<Event>) {
    let mut state = state.clone();
    let mut events = Vec::new();
    for op in &txn.ops {
        match op {
            Op::Put { key, value, .. } => {
                let kv = KeyValue {
                    key: key.clone(),
                    value: value.clone(),
                    created: state.get(key).map_or(revision, |kv| kv.created),
                    modified: revision,
                };
                state.insert(key.clone(), kv.clone());
                events.push(Event::Put { kv });
            }
            Op::Delete { key } => {
                if state.remove(key).is_some() {
                    let key = key.clone();
                    events.push(Event::Delete { key, revision });
                }
            }
        }
    }
    events.sort_by_key(|event| event.key().clone());
    (state, events)
}
