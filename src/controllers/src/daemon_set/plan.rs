//! Where pods of a DaemonSet are missing or too many, and which to replace.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use bosun_client::backoff::exponential;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::{apps::v1::DaemonSetStatus, core::v1::Taint};
use serde_json::Value;

use super::{
    DaemonSet,
    fitness::{Fitness, fitness},
    pod::{self, node_of},
    status,
};
use crate::workload::{
    Event, Pod,
    pod::Phase,
    revision::{self, REVISION_HASH, Revision, Wanted},
    template::controller_ref,
};

/// How many pods are made or deleted at most before the next look.
const BURST: usize = 250;

/// What decides whether a node is fit.
#[derive(Clone, Debug, Default)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: bosun_api::selector::Labels,
    /// What pods must bear.
    pub taints: Vec<Taint>,
}

/// All that a plan is made from.
#[derive(Clone, Copy, Debug)]
pub struct Snapshot<'a> {
    /// The set.
    pub set: &'a DaemonSet,
    /// Its pods.
    pub pods: &'a [Arc<Pod>],
    /// All nodes.
    pub nodes: &'a [Node],
    /// Its revisions, oldest first.
    pub revisions: &'a [Arc<Revision>],
    /// How many pods failed on a node, and when the last one was deleted for it.
    pub failures: &'a BTreeMap<String, (u32, Timestamp)>,
    /// All pods that were made or deleted are seen to be so: without that none are made or deleted.
    pub settled: bool,
    /// The time it is.
    pub now: Timestamp,
}

/// What to do for a DaemonSet.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The revision of the template as it is; made or renumbered before anything else.
    pub revision: Wanted,
    /// Pods to make.
    pub create: Vec<Value>,
    /// Pods to delete.
    pub delete: Vec<Arc<Pod>>,
    /// Nodes of which a failed pod is among those.
    pub failed: Vec<String>,
    /// Revisions to delete.
    pub forget: Vec<Arc<Revision>>,
    /// The status to write, after all that.
    pub status: DaemonSetStatus,
    /// What to tell, whatever comes of the rest.
    pub events: Vec<Event>,
    /// When to plan again if nothing happens before.
    pub next: Option<Timestamp>,
}

/// The new and the old pod of a node, as far as there are such.
type Pair = (Option<Arc<Pod>>, Option<Arc<Pod>>);

struct Work<'a> {
    snapshot: Snapshot<'a>,
    nodes: Vec<(&'a Node, Fitness)>,
    pods: BTreeMap<&'a str, Vec<Arc<Pod>>>,
    hash: String,
    /// Nodes that need a pod.
    needy: Vec<&'a str>,
    delete: Vec<Arc<Pod>>,
    failed: Vec<String>,
    events: Vec<Event>,
    next: Option<Timestamp>,
}

/// What to do for a DaemonSet.
pub fn plan(snapshot: Snapshot<'_>) -> Plan {
    let Snapshot {
        set, revisions, now, ..
    } = snapshot;
    let owner = controller_ref::<DaemonSet>(&set.metadata);
    let template = set.spec.part("template");
    let collisions = set.status.collision_count;
    let wanted = revision::wanted(&set.metadata, &owner, &template, REVISION_HASH, revisions, collisions);
    let hash = match &wanted {
        Wanted::New { hash, .. } => hash.clone(),
        Wanted::Newest(revision) | Wanted::Again(revision, _) => {
            let labels = revision.metadata.labels.as_ref();
            labels
                .and_then(|labels| labels.get(REVISION_HASH))
                .cloned()
                .unwrap_or_default()
        }
    };
    let mut pods: BTreeMap<&str, Vec<Arc<Pod>>> = BTreeMap::new();
    for pod in snapshot.pods {
        if let Some(node) = node_of(pod) {
            pods.entry(node).or_default().push(pod.clone());
        }
    }
    // The oldest first, those that run before those that don't.
    for pods in pods.values_mut() {
        pods.sort_by_key(|pod| {
            (
                pod.node().is_none(),
                pod.metadata.creation_timestamp.as_ref().map(|time| time.0),
            )
        });
    }
    let mut work = Work {
        nodes: snapshot.nodes.iter().map(|node| (node, fitness(set, node))).collect(),
        snapshot,
        pods,
        hash,
        needy: vec![],
        delete: vec![],
        failed: vec![],
        events: vec![],
        next: status::next_look(set, snapshot.pods, now),
    };
    if set.metadata.deletion_timestamp.is_none() && snapshot.settled {
        work.place();
        if work.needy.is_empty() && work.delete.is_empty() && !set.updates_on_delete() {
            work.replace();
        }
    }
    let hashes: BTreeSet<_> = snapshot
        .pods
        .iter()
        .filter_map(|pod| pod.label(REVISION_HASH))
        .collect();
    let is_live = |revision: &&Arc<Revision>| {
        let labels = revision.metadata.labels.as_ref();
        labels
            .and_then(|labels| labels.get(REVISION_HASH))
            .is_some_and(|hash| hashes.contains(hash.as_str()))
    };
    let live = revisions
        .iter()
        .filter(is_live)
        .map(|revision| revision.name())
        .chain([wanted.name()])
        .collect();
    work.delete.truncate(BURST);
    Plan {
        create: work
            .needy
            .iter()
            .take(BURST)
            .map(|node| pod::pod(&template, &owner, &work.hash, node))
            .collect(),
        forget: revision::superfluous(revisions, &live, set.spec.revision_history_limit.unwrap_or(10)),
        status: status::status(set, &work.nodes, &work.pods, &work.hash, now),
        revision: wanted,
        delete: work.delete,
        failed: work.failed,
        events: work.events,
        next: work.next,
    }
}

/// The status after the name of a revision turned out to be taken by another's.
pub fn collided(set: &DaemonSet) -> DaemonSetStatus {
    DaemonSetStatus {
        collision_count: Some(set.status.collision_count.unwrap_or_default() + 1),
        ..set.status.clone()
    }
}

impl Work<'_> {
    fn is_new(&self, pod: &Pod) -> bool {
        pod.label(REVISION_HASH) == Some(self.hash.as_str())
    }

    fn is_available(&self, pod: &Pod) -> bool {
        pod.is_available(self.snapshot.set.spec.min_ready_seconds, self.snapshot.now)
    }

    /// How many nodes shall have a pod.
    fn desired(&self) -> i32 {
        self.nodes
            .iter()
            .filter(|(_, fitness)| *fitness == Fitness::Fit)
            .count() as i32
    }

    /// Sees to it that each fit node has a pod, and no other has one.
    fn place(&mut self) {
        let surges = self.snapshot.set.bounds(self.desired()).0 > 0;
        for (node, fitness) in self.nodes.clone() {
            let pods = self.pods.get(node.name.as_str()).cloned().unwrap_or_default();
            match fitness {
                Fitness::Unfit => self.delete.extend(pods.into_iter().filter(|pod| !pod.is_terminating())),
                Fitness::Fit if pods.is_empty() => self.needy.push(&node.name),
                Fitness::Fit | Fitness::Keep => self.thin(&node.name, pods, surges),
            }
        }
        // Pods of nodes that are gone end with them: the garbage collection of pods sees to those.
    }

    /// Of the pods on one node keeps one, or an old one beside a new one.
    fn thin(&mut self, node: &str, pods: Vec<Arc<Pod>>, surges: bool) {
        let mut running = vec![];
        for pod in pods.into_iter().filter(|pod| !pod.is_terminating()) {
            let namespace = pod.metadata.namespace.clone().unwrap_or_default();
            match pod.status.phase {
                Phase::Failed => {
                    if let Some(until) = self.waits(node) {
                        self.next = Some(self.next.map_or(until, |next| next.min(until)));
                        continue;
                    }
                    let name = pod.name();
                    let message =
                        format!("Found failed daemon pod {namespace}/{name} on node {node}, will try to kill it");
                    self.events.push(Event::warning("FailedDaemonPod", message));
                    self.failed.push(node.to_owned());
                    self.delete.push(pod);
                }
                Phase::Succeeded => {
                    let name = pod.name();
                    let message =
                        format!("Found succeeded daemon pod {namespace}/{name} on node {node}, will try to delete it");
                    self.events.push(Event::normal("SucceededDaemonPod", message));
                    self.delete.push(pod);
                }
                _ => running.push(pod),
            }
        }
        if !surges {
            self.delete.extend(running.into_iter().skip(1));
            return;
        }
        let (new, old): (Vec<_>, Vec<_>) = running.into_iter().partition(|pod| self.is_new(pod));
        self.delete.extend(
            new.iter()
                .chain(&old)
                .skip(1)
                .filter(|pod| {
                    let is_first_old = old.first().is_some_and(|first| first.uid() == pod.uid());
                    !is_first_old
                })
                .cloned(),
        );
        if let (Some(new), Some(old)) = (new.first(), old.first())
            && (!old.is_ready() || self.is_available(new))
        {
            self.delete.push(old.clone());
        }
    }

    /// Until when a node waits after its pods have failed: 1 s, then twice as long each time, at most 15 minutes.
    fn waits(&self, node: &str) -> Option<Timestamp> {
        let (failures, last) = self.snapshot.failures.get(node)?;
        let delay = exponential(
            Duration::from_secs(1),
            Duration::from_secs(900),
            failures.checked_sub(1)?,
        );
        let until = last.checked_add(SignedDuration::try_from(delay).ok()?).ok()?;
        (until > self.snapshot.now).then_some(until)
    }

    /// The new and the old pod of each fit node; `None` where there are two of a kind, which is put in order first.
    fn pairs(&self) -> Vec<(String, Option<Pair>)> {
        let fit = self.nodes.iter().filter(|(_, fitness)| *fitness == Fitness::Fit);
        let pairs = fit.map(|(node, _)| {
            let pods = self.pods.get(node.name.as_str()).map(Vec::as_slice).unwrap_or_default();
            let (new, old): (Vec<_>, Vec<_>) = pods
                .iter()
                .filter(|pod| !pod.is_terminating())
                .cloned()
                .partition(|pod| self.is_new(pod));
            let one = |mut pods: Vec<Arc<Pod>>| (pods.len() <= 1).then(|| pods.pop());
            (node.name.clone(), one(new).zip(one(old)))
        });
        pairs.collect()
    }

    /// Replaces old pods, as many at once as may be missing, or as there may be two of.
    fn replace(&mut self) {
        let (surge, unavailable) = self.snapshot.set.bounds(self.desired());
        if surge > 0 {
            return self.surge(surge);
        }
        let mut missing = 0;
        let (mut broken, mut fine) = (vec![], vec![]);
        for (_, pair) in self.pairs() {
            match pair {
                Some((Some(new), None)) if self.is_available(&new) => {}
                Some((None, Some(old))) if self.is_available(&old) => fine.push(old),
                // It is missing already: it may as well come back new.
                Some((None, Some(old))) => broken.push(old),
                _ => missing += 1,
            }
        }
        let more = usize::try_from(unavailable - missing).unwrap_or_default();
        self.delete
            .extend(broken.into_iter().chain(fine.into_iter().take(more)));
    }

    fn surge(&mut self, surge: i32) {
        let (mut doubled, mut broken, mut fine, mut done) = (0, vec![], vec![], vec![]);
        for (node, pair) in self.pairs() {
            match pair {
                Some((None, Some(old))) if self.is_available(&old) => fine.push(node),
                Some((None, Some(_))) => broken.push(node),
                Some((Some(new), Some(old))) if self.is_available(&new) => done.push(old),
                None | Some((Some(_), Some(_))) => doubled += 1,
                Some((_, None)) => {}
            }
        }
        let more = usize::try_from(surge - doubled).unwrap_or_default();
        self.delete.extend(done);
        let chosen: BTreeSet<String> = broken.into_iter().chain(fine.into_iter().take(more)).collect();
        let nodes = self.nodes.iter().map(|(node, _)| node.name.as_str());
        self.needy = nodes.filter(|node| chosen.contains(*node)).collect();
    }
}
