//! Which pod is next. Pure: `now` is passed in.
//!
//! ```text
//!             ┌──────────────── its time has come ────────────────┐
//!             ▼                                                   │
//! set ──▶  active ──pop──▶ under way ──failed──▶ unschedulable ──wake──▶ back-off
//!             ▲                │    └─erred──────────────────────────────▲
//!             │               done                 │
//!           gated                                  └── a change that helps, back-off over, or five minutes ──▶ active
//! ```
//!
//! A pod that no node takes waits for a change that could help the plugins that rejected it ([`hints`]), so that a
//! cluster full of pods that don't fit costs nothing while nothing happens.

mod hints;

use std::{
    cmp::Reverse,
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use bosun_api::PodUid;
use jiff::Timestamp;

pub(crate) use self::hints::Happening;
use crate::{objects::Pod, plugins::Plugin};

/// A pod that nothing woke is tried again after this, in case a hint is wrong.
const FLUSH: Duration = Duration::from_secs(5 * 60);

/// How long a pod is left alone after each failure: doubled from the first to the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// After the first failure.
    pub first: Duration,
    /// At most.
    pub most: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            first: Duration::from_secs(1),
            most: Duration::from_secs(10),
        }
    }
}

impl Backoff {
    fn after(self, failures: u32) -> Duration {
        let doublings = failures.saturating_sub(1).min(16);
        (self.first * 2u32.pow(doublings)).min(self.most)
    }
}

/// Higher priority first, then who waits longer.
type Turn = (Reverse<i32>, Timestamp, u64);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Active(Turn),
    Backoff(Timestamp),
    Unschedulable(Timestamp),
    Gated,
    UnderWay,
}

#[derive(Clone, Debug)]
struct Entry {
    pod: Arc<Pod>,
    place: Place,
    number: u64,
    attempts: u32,
    first_attempt: Option<Timestamp>,
    /// Before this it isn't tried again.
    rests_until: Timestamp,
    /// Who rejected it; none is anybody.
    rejected_by: BTreeSet<Plugin>,
    /// Room is being made for it: it waits until that is done, and is then tried if something woke it.
    held: bool,
    woken: bool,
}

/// A pod whose turn it is.
#[derive(Clone, Debug)]
pub(crate) struct Popped {
    /// The pod.
    pub(crate) pod: Arc<Pod>,
    /// How often it has been tried, this time included.
    pub(crate) attempts: u32,
    /// When it was first tried.
    pub(crate) first_attempt: Timestamp,
}

/// How many pods are where.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// May be tried now.
    pub(crate) active: usize,
    /// Rest after a failure.
    pub(crate) backoff: usize,
    /// Wait for a change.
    pub(crate) unschedulable: usize,
    /// Wait for their gates.
    pub(crate) gated: usize,
}

/// The pods that wait for a node.
#[derive(Clone, Debug, Default)]
pub(crate) struct Queue {
    entries: HashMap<PodUid, Entry>,
    active: BTreeSet<(Turn, PodUid)>,
    backoff: BTreeSet<(Timestamp, PodUid)>,
    unschedulable: BTreeSet<(Timestamp, PodUid)>,
    gated: usize,
    /// How many of those that wait for a change were rejected by each plugin, and how many by nobody.
    interest: HashMap<Option<Plugin>, usize>,
    numbers: u64,
    limits: Backoff,
}

impl Queue {
    /// An empty queue.
    pub(crate) fn new(limits: Backoff) -> Self {
        Self {
            limits,
            ..Self::default()
        }
    }

    /// A pod has come or changed.
    pub(crate) fn set(&mut self, pod: &Arc<Pod>, now: Timestamp) {
        let gated = !pod.gates.is_empty();
        let Some(entry) = self.entries.get_mut(&pod.uid) else {
            self.numbers += 1;
            let entry = Entry {
                pod: pod.clone(),
                place: Place::UnderWay,
                number: self.numbers,
                attempts: 0,
                first_attempt: None,
                rests_until: Timestamp::MIN,
                rejected_by: BTreeSet::new(),
                held: false,
                woken: false,
            };
            self.entries.insert(pod.uid.clone(), entry);
            if gated {
                self.put(&pod.uid, Place::Gated);
            } else {
                self.put_active(&pod.uid, now);
            }
            return;
        };
        let old = std::mem::replace(&mut entry.pod, pod.clone());
        let differs = old.shape != pod.shape;
        match entry.place {
            Place::Gated if !gated => self.put_active(&pod.uid, now),
            Place::Active(_) if differs => self.put_active(&pod.uid, now),
            Place::Unschedulable(_) if differs => self.wake_one(&pod.uid.clone(), now),
            _ => {}
        }
    }

    /// A pod waits no longer: it is gone, or somebody else gave it a node.
    pub(crate) fn remove(&mut self, uid: &PodUid) {
        self.lift(uid);
        self.entries.remove(uid);
    }

    /// The next pod. It is under way until it is [`remove`](Self::remove)d or has [`failed`](Self::failed).
    pub(crate) fn pop(&mut self, now: Timestamp) -> Option<Popped> {
        let uid = self.active.first()?.1.clone();
        self.put(&uid, Place::UnderWay);
        let entry = self.entries.get_mut(&uid)?;
        entry.attempts += 1;
        entry.woken = false;
        Some(Popped {
            pod: entry.pod.clone(),
            attempts: entry.attempts,
            first_attempt: *entry.first_attempt.get_or_insert(now),
        })
    }

    /// No node will do: it waits for a change that helps any of these plugins.
    pub(crate) fn failed(&mut self, uid: &PodUid, rejected_by: BTreeSet<Plugin>, now: Timestamp) {
        let limits = self.limits;
        let Some(entry) = self.entries.get_mut(uid) else { return };
        entry.rejected_by = rejected_by;
        entry.rests_until = now + limits.after(entry.attempts);
        self.put(uid, Place::Unschedulable(now));
    }

    /// Something went wrong that trying again may cure.
    pub(crate) fn erred(&mut self, uid: &PodUid, now: Timestamp) {
        let limits = self.limits;
        let Some(entry) = self.entries.get_mut(uid) else { return };
        entry.rests_until = now + limits.after(entry.attempts);
        let until = entry.rests_until;
        self.put(uid, Place::Backoff(until));
    }

    /// Room is being made for the pod: it is not tried meanwhile.
    pub(crate) fn hold(&mut self, uid: &PodUid) {
        if let Some(entry) = self.entries.get_mut(uid) {
            entry.held = true;
        }
    }

    /// Room has been made, or could not be (`retry`).
    pub(crate) fn release(&mut self, uid: &PodUid, retry: bool, now: Timestamp) {
        let Some(entry) = self.entries.get_mut(uid) else { return };
        entry.held = false;
        if retry || entry.woken {
            self.wake_one(&uid.clone(), now);
        }
    }

    /// Something happened: pods that it may help are tried again. Whom `except` names is left alone.
    pub(crate) fn wake(&mut self, happening: &Happening<'_>, except: Option<&PodUid>, now: Timestamp) {
        // Most that happens concerns nobody: then it costs nothing, however many wait.
        let concerned = |plugin: &Option<Plugin>| plugin.is_none_or(|plugin| hints::concerns(plugin, happening));
        if !self.interest.keys().any(concerned) {
            return;
        }
        let helped = self.unschedulable.iter().filter(|(_, uid)| {
            except != Some(uid)
                && self.entries.get(uid).is_some_and(|entry| {
                    let mut by = entry.rejected_by.iter();
                    entry.rejected_by.is_empty() || by.any(|plugin| hints::may_help(*plugin, &entry.pod, happening))
                })
        });
        for uid in helped.map(|(_, uid)| uid.clone()).collect::<Vec<_>>() {
            self.wake_one(&uid, now);
        }
    }

    fn wake_one(&mut self, uid: &PodUid, now: Timestamp) {
        let Some(entry) = self.entries.get_mut(uid) else { return };
        entry.woken = true;
        if entry.held || !matches!(entry.place, Place::Unschedulable(_)) {
            return;
        }
        if entry.rests_until <= now {
            self.put_active(uid, now);
        } else {
            let until = entry.rests_until;
            self.put(uid, Place::Backoff(until));
        }
    }

    /// Moves what has rested enough, and what has waited too long.
    pub(crate) fn tick(&mut self, now: Timestamp) {
        while let Some((until, uid)) = self.backoff.first()
            && *until <= now
        {
            self.put_active(&uid.clone(), now);
        }
        while let Some((since, uid)) = self.unschedulable.first()
            && *since + FLUSH <= now
        {
            let uid = uid.clone();
            if self.entries.get(&uid).is_some_and(|entry| entry.held) {
                self.put(&uid, Place::Unschedulable(now));
            } else {
                self.put_active(&uid, now);
            }
        }
    }

    /// When [`tick`](Self::tick) has something to do.
    pub(crate) fn wake_at(&self) -> Option<Timestamp> {
        let rested = self.backoff.first().map(|(until, _)| *until);
        let flushed = self.unschedulable.first().map(|(since, _)| *since + FLUSH);
        rested.into_iter().chain(flushed).min()
    }

    /// Whether a pod could be popped.
    pub(crate) fn has_active(&self) -> bool {
        !self.active.is_empty()
    }

    /// Whether a pod is known here.
    #[cfg(test)]
    pub(crate) fn contains(&self, uid: &PodUid) -> bool {
        self.entries.contains_key(uid)
    }

    /// The pod as it was last heard of.
    pub(crate) fn get(&self, uid: &PodUid) -> Option<&Arc<Pod>> {
        self.entries.get(uid).map(|entry| &entry.pod)
    }

    /// How many pods are where.
    pub(crate) fn counts(&self) -> Counts {
        Counts {
            active: self.active.len(),
            backoff: self.backoff.len(),
            unschedulable: self.unschedulable.len(),
            gated: self.gated,
        }
    }

    /// Whom the pods that wait for a change were rejected by.
    pub(crate) fn rejections(&self) -> impl Iterator<Item = (&Arc<Pod>, Plugin)> {
        let waiting = self.unschedulable.iter().filter_map(|(_, uid)| self.entries.get(uid));
        waiting.flat_map(|entry| entry.rejected_by.iter().map(|plugin| (&entry.pod, *plugin)))
    }

    fn put_active(&mut self, uid: &PodUid, now: Timestamp) {
        let Some(entry) = self.entries.get(uid) else { return };
        let turn = (Reverse(entry.pod.shape.priority), now, entry.number);
        self.put(uid, Place::Active(turn));
    }

    fn put(&mut self, uid: &PodUid, place: Place) {
        self.lift(uid);
        let Some(entry) = self.entries.get_mut(uid) else { return };
        entry.place = place;
        if matches!(place, Place::Unschedulable(_)) {
            for plugin in interests(entry) {
                *self.interest.entry(plugin).or_insert(0) += 1;
            }
        }
        match place {
            Place::Active(turn) => drop(self.active.insert((turn, uid.clone()))),
            Place::Backoff(until) => drop(self.backoff.insert((until, uid.clone()))),
            Place::Unschedulable(since) => drop(self.unschedulable.insert((since, uid.clone()))),
            Place::Gated => self.gated += 1,
            Place::UnderWay => {}
        }
    }

    fn lift(&mut self, uid: &PodUid) {
        let Some(entry) = self.entries.get_mut(uid) else { return };
        if matches!(entry.place, Place::Unschedulable(_)) {
            for plugin in interests(entry) {
                if let Some(count) = self.interest.get_mut(&plugin) {
                    *count -= 1;
                    if *count == 0 {
                        self.interest.remove(&plugin);
                    }
                }
            }
        }
        match std::mem::replace(&mut entry.place, Place::UnderWay) {
            Place::Active(turn) => drop(self.active.remove(&(turn, uid.clone()))),
            Place::Backoff(until) => drop(self.backoff.remove(&(until, uid.clone()))),
            Place::Unschedulable(since) => drop(self.unschedulable.remove(&(since, uid.clone()))),
            Place::Gated => self.gated -= 1,
            Place::UnderWay => {}
        }
    }
}

/// Whom a pod was rejected by; `None` if by nobody, so that anything may help.
fn interests(entry: &Entry) -> impl Iterator<Item = Option<Plugin>> {
    let nobody = entry.rejected_by.is_empty().then_some(None);
    nobody.into_iter().chain(entry.rejected_by.iter().copied().map(Some))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::fixtures::pod;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_000_000 + seconds).unwrap()
    }

    fn next(queue: &mut Queue, now: i64) -> Option<String> {
        queue.tick(at(now));
        queue.pop(at(now)).map(|popped| popped.pod.name.name.to_string())
    }

    fn gone() -> Arc<Pod> {
        pod("gone").on("n").build()
    }

    #[test]
    fn higher_priority_comes_first_then_who_waits_longer() {
        let mut queue = Queue::new(Backoff::default());
        for (name, priority, now) in [("low", 0, 0), ("late", 5, 3), ("soon", 5, 2), ("same", 5, 2)] {
            queue.set(&pod(name).priority(priority).build(), at(now));
        }
        let order: Vec<_> = std::iter::from_fn(|| next(&mut queue, 4)).collect();
        assert_eq!(order, ["soon", "same", "late", "low"]);
    }

    #[test]
    fn a_pod_rests_twice_as_long_after_each_failure_up_to_ten_seconds() {
        let mut queue = Queue::new(Backoff::default());
        let uid = pod("p").build().uid.clone();
        queue.set(&pod("p").build(), at(0));
        let mut now = 0;
        for rest in [1, 2, 4, 8, 10, 10] {
            assert_eq!(next(&mut queue, now).as_deref(), Some("p"));
            queue.erred(&uid, at(now));
            assert_eq!(queue.wake_at(), Some(at(now + rest)));
            assert_eq!(next(&mut queue, now + rest - 1), None);
            now += rest;
        }
    }

    #[test]
    fn what_helps_wakes_a_pod_once_it_has_rested() {
        let mut queue = Queue::new(Backoff::default());
        let uid = pod("p").build().uid.clone();
        queue.set(&pod("p").asks(&[("cpu", "1")]).build(), at(0));
        next(&mut queue, 0);
        queue.failed(&uid, [Plugin::NodeResourcesFit].into(), at(0));
        let gone = gone();
        queue.wake(&Happening::PodPlaced(&gone), None, at(0));
        assert_eq!(queue.counts().unschedulable, 1, "a further pod doesn't help");
        queue.wake(&Happening::PodGone(&gone), Some(&uid), at(0));
        assert_eq!(queue.counts().unschedulable, 1, "it is not woken by itself");
        queue.wake(&Happening::PodGone(&gone), None, at(0));
        assert_eq!((queue.counts().backoff, next(&mut queue, 0)), (1, None));
        assert_eq!(next(&mut queue, 1).as_deref(), Some("p"));
        queue.failed(&uid, [Plugin::NodeResourcesFit].into(), at(1));
        queue.wake(&Happening::PodGone(&gone), None, at(9));
        assert_eq!(next(&mut queue, 9).as_deref(), Some("p"));
    }

    #[test]
    fn what_nothing_woke_is_tried_again_after_five_minutes() {
        let mut queue = Queue::new(Backoff::default());
        let uid = pod("p").build().uid.clone();
        queue.set(&pod("p").build(), at(0));
        next(&mut queue, 0);
        queue.failed(&uid, [Plugin::NodePorts].into(), at(0));
        assert_eq!((next(&mut queue, 299), queue.wake_at()), (None, Some(at(300))));
        assert_eq!(next(&mut queue, 300).as_deref(), Some("p"));
    }

    #[test]
    fn a_gated_pod_waits_for_its_gates() {
        let mut queue = Queue::new(Backoff::default());
        queue.set(
            &pod("p").spec(json!({"schedulingGates": [{"name": "x"}]})).build(),
            at(0),
        );
        assert_eq!((next(&mut queue, 1000), queue.counts().gated), (None, 1));
        queue.set(&pod("p").build(), at(1000));
        assert_eq!(
            (next(&mut queue, 1000).as_deref(), queue.counts().gated),
            (Some("p"), 0)
        );
    }

    #[test]
    fn a_pod_that_room_is_made_for_is_tried_when_that_is_done() {
        let mut queue = Queue::new(Backoff::default());
        let uid = pod("p").build().uid.clone();
        queue.set(&pod("p").build(), at(0));
        next(&mut queue, 0);
        queue.failed(&uid, [Plugin::NodeResourcesFit].into(), at(0));
        queue.hold(&uid);
        queue.wake(&Happening::PodGone(&gone()), None, at(5));
        assert_eq!(next(&mut queue, 5), None);
        queue.release(&uid, false, at(6));
        assert_eq!(next(&mut queue, 6).as_deref(), Some("p"));
    }

    #[test]
    fn a_change_of_the_pod_itself_wakes_it() {
        let mut queue = Queue::new(Backoff::default());
        let uid = pod("p").build().uid.clone();
        queue.set(&pod("p").build(), at(0));
        next(&mut queue, 0);
        queue.failed(&uid, [Plugin::NodeAffinity].into(), at(0));
        queue.set(&pod("p").started("2026-01-01T00:00:00Z").build(), at(5));
        assert_eq!(next(&mut queue, 5), None, "its status is no change");
        queue.set(&pod("p").label("a", "b").build(), at(5));
        assert_eq!(next(&mut queue, 5).as_deref(), Some("p"));
        queue.remove(&uid);
        assert_eq!(queue.counts(), Counts::default());
        queue.failed(&uid, BTreeSet::new(), at(6));
        assert!(!queue.contains(&uid));
        assert!(queue.interest.is_empty());
    }
}
