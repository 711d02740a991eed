//! The model and the queue together: changes come in, what to do comes out. Pure but for the dice.

use std::{collections::HashMap, sync::Arc};

use bosun_api::PodUid;
use jiff::Timestamp;

use crate::{
    cluster::{Cluster, WorkloadKind},
    decide::{Turn, decide},
    objects::{Budget, Claim, Namespace, Node, Pod, StorageClass, Volume, Workload},
    plugins::Plugin,
    preempt::{Room, make_room},
    profile::Profile,
    queue::{Backoff, Counts, Happening, Queue},
};

/// What became of an object.
#[derive(Clone, Debug)]
pub enum Change<T> {
    /// It is there, as it is now.
    Set(T),
    /// It is gone. This is what it last was.
    Gone(T),
}

/// Something that happened in the cluster.
#[derive(Clone, Debug)]
pub enum Event {
    /// To a pod.
    Pod(Change<Arc<Pod>>),
    /// To a node.
    Node(Change<Arc<Node>>),
    /// To a namespace.
    Namespace(Change<Namespace>),
    /// To a disruption budget.
    Budget(Change<Budget>),
    /// To what selects pods.
    Workload(WorkloadKind, Change<Workload>),
    /// To a volume claim.
    Claim(Change<Claim>),
    /// To a volume.
    Volume(Change<Volume>),
    /// To a storage class.
    StorageClass(Change<StorageClass>),
}

/// A pod that was given a node: bind it, then say how that went.
#[derive(Clone, Debug)]
pub struct Placement {
    /// The pod.
    pub pod: Arc<Pod>,
    /// The node's name.
    pub node: Arc<str>,
    /// How often it has been tried.
    pub attempts: u32,
    /// When it was first tried.
    pub first_attempt: Timestamp,
}

/// A pod that no node takes: tell its users.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// The pod.
    pub pod: Arc<Pod>,
    /// Why.
    pub message: String,
    /// What `status.nominatedNodeName` must become, if it must become something else.
    pub nominate: Option<Arc<str>>,
    /// Room to be made for it.
    pub eviction: Option<Eviction>,
}

/// Pods that have to go.
#[derive(Clone, Debug)]
pub struct Eviction {
    /// The node they are on.
    pub node: Arc<str>,
    /// The pods, without those that are going already.
    pub victims: Vec<Arc<Pod>>,
    /// Pods of lower priority for which room was being made there; they look elsewhere now.
    pub displaced: Vec<Arc<Pod>>,
    /// How many go, with those that are going already.
    pub count: usize,
}

/// What came of one pod.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// It was given a node.
    Placed(Placement),
    /// No node takes it.
    Refused(Refusal),
}

/// How a binding went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// The API has it.
    Done,
    /// The pod is gone.
    Gone,
    /// Not done; the pod is tried again.
    Failed,
}

/// The scheduler without the API.
#[derive(Debug)]
pub struct Engine {
    cluster: Cluster,
    queue: Queue,
    profiles: HashMap<Arc<str>, Profile>,
    turn: Turn,
}

impl Engine {
    /// An engine of an empty cluster.
    pub fn new(profiles: impl IntoIterator<Item = Profile>, backoff: Backoff, dice: fastrand::Rng) -> Self {
        Self {
            cluster: Cluster::default(),
            queue: Queue::new(backoff),
            profiles: profiles
                .into_iter()
                .map(|profile| (profile.name.clone(), profile))
                .collect(),
            turn: Turn::new(dice),
        }
    }

    /// The cluster as it is known.
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// How many pods wait, and for what.
    pub(crate) fn counts(&self) -> Counts {
        self.queue.counts()
    }

    /// How many nodes there are.
    pub fn node_count(&mut self) -> usize {
        self.cluster.node_count()
    }

    /// How many pods wait for a change, by the plugin that rejected them and their profile.
    pub(crate) fn rejections(&self) -> HashMap<(Plugin, Arc<str>), usize> {
        let mut counts = HashMap::new();
        for (pod, plugin) in self.queue.rejections() {
            *counts.entry((plugin, pod.shape.scheduler.clone())).or_insert(0) += 1;
        }
        counts
    }

    /// Something happened.
    pub fn apply(&mut self, event: Event, now: Timestamp) {
        match event {
            Event::Pod(Change::Set(pod)) => self.set_pod(&pod, now),
            Event::Pod(Change::Gone(pod)) => self.remove_pod(&pod, now),
            Event::Node(Change::Set(node)) => {
                let old = self.cluster.set_node(&node);
                let happening = match &old {
                    Some(old) => Happening::NodeUpdated(old, &node),
                    None => Happening::NodeAdded(&node),
                };
                self.queue.wake(&happening, None, now);
            }
            Event::Node(Change::Gone(node)) => {
                if self.cluster.remove_node(&node.name).is_some() {
                    self.queue.wake(&Happening::NodeGone, None, now);
                }
            }
            Event::Namespace(change) => {
                match change {
                    Change::Set(namespace) => self.cluster.set_namespace(&namespace),
                    Change::Gone(namespace) => self.cluster.remove_namespace(&namespace.name),
                }
                self.queue.wake(&Happening::Namespaces, None, now);
            }
            Event::Budget(Change::Set(budget)) => self.cluster.set_budget(budget),
            Event::Budget(Change::Gone(budget)) => self.cluster.remove_budget(&budget.namespace, &budget.name),
            Event::Workload(kind, Change::Set(workload)) => self.cluster.set_workload(kind, workload),
            Event::Workload(kind, Change::Gone(workload)) => {
                self.cluster.remove_workload(kind, &workload.namespace, &workload.name);
            }
            Event::Claim(change) => {
                match change {
                    Change::Set(claim) => self.cluster.set_claim(claim),
                    Change::Gone(claim) => self.cluster.remove_claim(&claim.namespace, &claim.name),
                }
                self.queue.wake(&Happening::Volumes, None, now);
            }
            Event::Volume(change) => {
                match change {
                    Change::Set(volume) => self.cluster.set_volume(volume),
                    Change::Gone(volume) => self.cluster.remove_volume(&volume.name),
                }
                self.queue.wake(&Happening::Volumes, None, now);
            }
            Event::StorageClass(change) => {
                match change {
                    Change::Set(class) => self.cluster.set_storage_class(class),
                    Change::Gone(class) => self.cluster.remove_storage_class(&class.name),
                }
                self.queue.wake(&Happening::Volumes, None, now);
            }
        }
    }

    fn set_pod(&mut self, pod: &Arc<Pod>, now: Timestamp) {
        let before = self.cluster.placed(&pod.uid).map(|(pod, _)| pod.clone());
        self.cluster.set_pod(pod);
        if pod.is_placed() {
            self.queue.remove(&pod.uid);
            self.cluster.unnominate(&pod.uid);
            match before {
                Some(old) if old.shape == pod.shape && old.deleting == pod.deleting => {}
                Some(old) => {
                    // One that begins to leave takes its room still.
                    if old.shape != pod.shape {
                        self.queue.wake(&Happening::PodGone(&old), None, now);
                    }
                    self.queue.wake(&Happening::PodPlaced(pod), None, now);
                }
                None => self.queue.wake(&Happening::PodPlaced(pod), None, now),
            }
        } else if !pod.is_pending() {
            self.remove_pod(pod, now);
            if let Some(old) = before {
                self.queue.wake(&Happening::PodGone(&old), None, now);
            }
        } else if self.profiles.contains_key(&pod.shape.scheduler) {
            if before.is_none() && pod.nominated.is_some() {
                self.cluster.nominate(pod, pod.nominated.as_ref());
            }
            self.queue.set(pod, now);
        }
    }

    fn remove_pod(&mut self, pod: &Pod, now: Timestamp) {
        self.queue.remove(&pod.uid);
        self.cluster.unnominate(&pod.uid);
        // One whose binding is under way is given up when that fails.
        if let Some(old) = self.cluster.remove_pod(&pod.uid) {
            self.queue.wake(&Happening::PodGone(&old), None, now);
        }
    }

    /// Decides about the next pod. None if there is none to be tried now.
    pub fn next(&mut self, now: Timestamp) -> Option<Outcome> {
        self.queue.tick(now);
        self.cluster.tidy();
        loop {
            let popped = self.queue.pop(now)?;
            let pod = popped.pod;
            if self.cluster.is_placed(&pod.uid) {
                self.queue.remove(&pod.uid);
                continue;
            }
            let Some(profile) = self.profiles.get(&pod.shape.scheduler) else {
                self.queue.remove(&pod.uid);
                continue;
            };
            match decide(&mut self.cluster, profile, &pod, &mut self.turn) {
                Ok(fit) => {
                    self.cluster.unnominate(&pod.uid);
                    self.cluster.assume(&pod, fit.node);
                    self.queue.wake(&Happening::PodPlaced(&pod), None, now);
                    return Some(Outcome::Placed(Placement {
                        node: self.cluster.node(fit.node).name.clone(),
                        pod,
                        attempts: popped.attempts,
                        first_attempt: popped.first_attempt,
                    }));
                }
                Err(mut unfit) => {
                    let room = (profile.preempts && unfit.nodes() > 0)
                        .then(|| make_room(&mut self.cluster, profile, &pod, &unfit, &mut self.turn.dice));
                    self.queue.failed(&pod.uid, unfit.plugins.clone(), now);
                    let (nominate, eviction) = match room {
                        Some(Room::Make { node, victims }) => {
                            let node = self.cluster.node(node).name.clone();
                            let eviction = self.evict(&pod, &node, &victims);
                            self.cluster.nominate(&pod, Some(&node));
                            if !eviction.victims.is_empty() {
                                self.queue.hold(&pod.uid);
                            }
                            (Some(node), Some(eviction))
                        }
                        Some(Room::NotNow(why)) => {
                            unfit.preemption = Some(why);
                            (None, None)
                        }
                        Some(Room::Nowhere(why)) => {
                            unfit.preemption = Some(why);
                            self.cluster.unnominate(&pod.uid);
                            (Some("".into()), None)
                        }
                        None => {
                            self.cluster.unnominate(&pod.uid);
                            (Some("".into()), None)
                        }
                    };
                    let told = pod.nominated.as_deref().unwrap_or_default();
                    return Some(Outcome::Refused(Refusal {
                        message: unfit.to_string(),
                        nominate: nominate.filter(|node| **node != *told),
                        eviction,
                        pod,
                    }));
                }
            }
        }
    }

    fn evict(&mut self, pod: &Pod, node: &Arc<str>, victims: &[Arc<Pod>]) -> Eviction {
        let lower = self.cluster.nominated_to(node).iter();
        let lower = lower.filter(|other| other.uid != pod.uid && other.shape.priority < pod.shape.priority);
        let displaced: Vec<Arc<Pod>> = lower.cloned().collect();
        for other in &displaced {
            self.cluster.unnominate(&other.uid);
        }
        Eviction {
            node: node.clone(),
            count: victims.len(),
            victims: victims.iter().filter(|victim| !victim.deleting).cloned().collect(),
            displaced,
        }
    }

    /// A binding came to its end.
    pub fn finish(&mut self, uid: &PodUid, bound: Bound, now: Timestamp) {
        match bound {
            Bound::Done => {
                self.cluster.bound(uid, now);
                self.queue.remove(uid);
            }
            Bound::Gone | Bound::Failed => {
                let pod = self.cluster.placed(uid).map(|(pod, _)| pod.clone());
                if self.cluster.forget(uid)
                    && let Some(pod) = pod
                {
                    self.queue.wake(&Happening::PodGone(&pod), Some(uid), now);
                }
                if bound == Bound::Gone {
                    self.queue.remove(uid);
                } else {
                    self.queue.erred(uid, now);
                }
            }
        }
    }

    /// Room has been made for a pod, or could not be made; then it is tried again at once.
    pub fn evicted(&mut self, uid: &PodUid, done: bool, now: Timestamp) {
        self.queue.release(uid, !done, now);
    }

    /// Pods whose binding was accepted long ago, but that the API has not told of: ask it.
    pub fn unseen(&self, now: Timestamp) -> Vec<Arc<Pod>> {
        self.cluster.unseen(now)
    }

    /// Whether there is a pod to be tried now.
    pub fn has_work(&self) -> bool {
        self.queue.has_active()
    }

    /// When to look again, if nothing happens before.
    pub fn wake_at(&self) -> Option<Timestamp> {
        self.queue.wake_at()
    }

    /// A pod that waits, as it was last heard of.
    pub(crate) fn waiting(&self, uid: &PodUid) -> Option<&Arc<Pod>> {
        self.queue.get(uid)
    }
}

#[cfg(test)]
mod tests;
