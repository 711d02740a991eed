//! The cluster as far as scheduling goes, kept up to date by changes: what a decision reads.
//!
//! Every change costs what it touches: a pod shifts its node's sums and the few tallies its class concerns
//! ([`index`]). A decision therefore costs what the nodes it looks at cost, however many pods there are. It is exact:
//! the same objects make the same model in whatever order they come, which a property test holds it to.
//!
//! Pods that were given a node are *assumed* there until the API says so, too, or their binding fails.

pub(crate) mod index;
pub(crate) mod tally;
mod topology;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, btree_map::Entry},
    sync::Arc,
    time::Duration,
};

use bosun_api::PodUid;
use jiff::Timestamp;

use self::index::{ClassId, Index};
use crate::objects::{
    Budget, Claim, HostPort, Namespace, Node, Pod, Resources, Selector, Shape, StorageClass, Volume, Workload, ZONE,
};

/// How long the API may take to tell of a binding that it has accepted.
const UNSEEN: Duration = Duration::from_secs(60);

/// A node's place in the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(u32);

impl NodeId {
    pub(crate) fn new(place: usize) -> Self {
        Self(place as u32)
    }

    #[inline]
    pub(crate) fn index(self) -> usize {
        self.0 as usize
    }
}

/// A node and what is on it.
#[derive(Clone, Debug, Default)]
pub struct NodeState {
    /// Its name.
    pub name: Arc<str>,
    /// The node; `None` while only pods on it are known.
    pub object: Option<Arc<Node>>,
    /// What its pods take.
    pub used: Resources,
    /// What they are compared by: milli-cores and bytes.
    pub usual: (i64, i64),
    /// Ports that they take.
    pub ports: Vec<HostPort>,
    pods: Vec<(Arc<Pod>, ClassId)>,
}

impl NodeState {
    /// The pods on it.
    pub fn pods(&self) -> impl ExactSizeIterator<Item = &Arc<Pod>> {
        self.pods.iter().map(|(pod, _)| pod)
    }

    fn is_unused(&self) -> bool {
        self.object.is_none() && self.pods.is_empty()
    }
}

/// Where a pod is, and whether the API has said so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Placement {
    Seen(NodeId),
    /// Its binding is under way.
    Binding(NodeId),
    /// Its binding was accepted, but hasn't been seen by this time.
    Unseen(NodeId, Timestamp),
}

impl Placement {
    fn node(self) -> NodeId {
        match self {
            Self::Seen(node) | Self::Binding(node) | Self::Unseen(node, _) => node,
        }
    }
}

/// Kinds of objects that select pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum WorkloadKind {
    /// `Service`
    Service,
    /// `ReplicaSet`
    ReplicaSet,
    /// `StatefulSet`
    StatefulSet,
    /// `ReplicationController`
    ReplicationController,
}

type Key = (Arc<str>, Arc<str>);
type Workloads = BTreeMap<(WorkloadKind, Arc<str>), Selector>;

/// The model.
#[derive(Clone, Debug, Default)]
pub struct Cluster {
    pub(crate) index: Index,
    nodes: Vec<NodeState>,
    unused: Vec<NodeId>,
    names: HashMap<Arc<str>, NodeId>,
    order: Vec<NodeId>,
    order_is_stale: bool,
    pods: HashMap<PodUid, Placement>,
    assumed: BTreeSet<PodUid>,
    images: HashMap<Arc<str>, HashMap<NodeId, u64>>,
    nominations: HashMap<PodUid, (Arc<str>, Arc<Pod>)>,
    nominated: HashMap<Arc<str>, Vec<Arc<Pod>>>,
    workloads: BTreeMap<Arc<str>, Workloads>,
    budgets: BTreeMap<Key, Budget>,
    claims: HashMap<Key, Claim>,
    claims_in_use: HashMap<Key, u32>,
    volumes: HashMap<Arc<str>, Volume>,
    storage: HashMap<Arc<str>, StorageClass>,
}

impl Cluster {
    /// How many nodes there are.
    pub fn node_count(&mut self) -> usize {
        self.order().len()
    }

    /// How many pods are placed, and how many of them are only assumed to be.
    pub fn pod_counts(&self) -> (usize, usize) {
        (self.pods.len(), self.assumed.len())
    }

    /// The node of a name.
    pub fn node_id(&self, name: &str) -> Option<NodeId> {
        let id = *self.names.get(name)?;
        self.nodes[id.index()].object.is_some().then_some(id)
    }

    /// A node and what is on it.
    #[inline]
    pub fn node(&self, id: NodeId) -> &NodeState {
        &self.nodes[id.index()]
    }

    #[cfg(test)]
    pub(crate) fn slots(&self) -> &[NodeState] {
        &self.nodes
    }

    pub(crate) fn index_and_slots(&mut self) -> (&mut Index, &[NodeState]) {
        (&mut self.index, &self.nodes)
    }

    /// All nodes in the order in which they are looked at: one of each zone by turns.
    pub fn order(&mut self) -> &[NodeId] {
        if self.order_is_stale {
            self.order_is_stale = false;
            let mut zones: BTreeMap<Option<Arc<str>>, Vec<NodeId>> = BTreeMap::new();
            let mut names: Vec<_> = self.names.iter().collect();
            names.sort();
            for (_, id) in names {
                if let Some(node) = &self.nodes[id.index()].object {
                    zones.entry(node.labels.get(ZONE).cloned()).or_default().push(*id);
                }
            }
            let longest = zones.values().map(Vec::len).max().unwrap_or(0);
            self.order = (0..longest)
                .flat_map(|turn| zones.values().filter_map(move |zone| zone.get(turn).copied()))
                .collect();
        }
        &self.order
    }

    /// The order, where it is known not to be stale.
    pub(crate) fn fresh_order(&self) -> &[NodeId] {
        debug_assert!(!self.order_is_stale, "order() comes first");
        &self.order
    }

    /// A node has come or changed. Tells what it was before.
    pub fn set_node(&mut self, node: &Arc<Node>) -> Option<Arc<Node>> {
        let id = self.slot(&node.name);
        let state = &mut self.nodes[id.index()];
        let old = state.object.replace(node.clone());
        let same_place = old
            .as_ref()
            .is_some_and(|old| old.labels == node.labels && old.taints == node.taints);
        if !same_place {
            if let Some(old) = &old {
                self.index.detach(id, old, state.pods.iter().map(|(_, class)| *class));
            }
            self.index.attach(id, node, state.pods.iter().map(|(_, class)| *class));
            self.order_is_stale = true;
        }
        if old.as_ref().is_none_or(|old| old.images != node.images) {
            self.set_images(id, old.as_deref(), Some(node));
        }
        old
    }

    /// A node is gone; pods on it stay until they are gone, too.
    pub fn remove_node(&mut self, name: &str) -> Option<Arc<Node>> {
        let id = *self.names.get(name)?;
        let state = &mut self.nodes[id.index()];
        let old = state.object.take()?;
        self.index.detach(id, &old, state.pods.iter().map(|(_, class)| *class));
        self.set_images(id, Some(&old), None);
        self.order_is_stale = true;
        self.release(id);
        Some(old)
    }

    fn set_images(&mut self, id: NodeId, old: Option<&Node>, new: Option<&Node>) {
        for (name, _) in old.into_iter().flat_map(|node| &node.images) {
            if let Some(nodes) = self.images.get_mut(name) {
                nodes.remove(&id);
                if nodes.is_empty() {
                    self.images.remove(name);
                }
            }
        }
        for (name, size) in new.into_iter().flat_map(|node| &node.images) {
            self.images.entry(name.clone()).or_default().insert(id, *size);
        }
    }

    /// The nodes that have an image, and its bytes there.
    pub(crate) fn image(&self, name: &str) -> Option<&HashMap<NodeId, u64>> {
        self.images.get(name)
    }

    fn slot(&mut self, name: &Arc<str>) -> NodeId {
        if let Some(id) = self.names.get(name) {
            return *id;
        }
        let id = self.unused.pop().unwrap_or_else(|| {
            self.nodes.push(NodeState::default());
            NodeId::new(self.nodes.len() - 1)
        });
        self.nodes[id.index()].name = name.clone();
        self.names.insert(name.clone(), id);
        id
    }

    fn release(&mut self, id: NodeId) {
        if self.nodes[id.index()].is_unused() {
            let state = std::mem::take(&mut self.nodes[id.index()]);
            self.names.remove(&state.name);
            self.unused.push(id);
        }
    }

    /// A pod has come or changed, as the API tells. One that is assumed somewhere stays so until the API knows, too.
    pub fn set_pod(&mut self, pod: &Arc<Pod>) {
        let known = self.pods.get(&pod.uid).copied();
        match (&pod.node, known) {
            (Some(node), known) if !pod.finished => {
                if let Some(known) = known {
                    self.take(&pod.uid, known.node());
                }
                self.assumed.remove(&pod.uid);
                let id = self.slot(node);
                self.put(pod, id);
                self.pods.insert(pod.uid.clone(), Placement::Seen(id));
            }
            (None, Some(Placement::Binding(_) | Placement::Unseen(..))) if !pod.finished => {}
            _ => {
                self.remove_pod(&pod.uid);
            }
        }
    }

    /// A pod is gone.
    pub fn remove_pod(&mut self, uid: &PodUid) -> Option<Arc<Pod>> {
        let placement = self.pods.remove(uid)?;
        self.assumed.remove(uid);
        self.take(uid, placement.node())
    }

    /// The pod, where it is placed.
    pub fn placed(&self, uid: &PodUid) -> Option<(&Arc<Pod>, NodeId)> {
        let node = self.pods.get(uid)?.node();
        let pod = self.nodes[node.index()].pods().find(|pod| pod.uid == *uid)?;
        Some((pod, node))
    }

    /// A pod was given a node, and its binding is under way.
    pub fn assume(&mut self, pod: &Arc<Pod>, node: NodeId) {
        debug_assert!(!self.pods.contains_key(&pod.uid), "a placed pod is not placed again");
        self.put(pod, node);
        self.pods.insert(pod.uid.clone(), Placement::Binding(node));
        self.assumed.insert(pod.uid.clone());
    }

    /// The API has accepted the binding of an assumed pod.
    pub fn bound(&mut self, uid: &PodUid, now: Timestamp) {
        if let Some(placement) = self.pods.get_mut(uid)
            && let Placement::Binding(node) = *placement
        {
            *placement = Placement::Unseen(node, now + UNSEEN);
        }
    }

    /// The binding of an assumed pod failed. Tells whether it still was assumed.
    pub fn forget(&mut self, uid: &PodUid) -> bool {
        match self.pods.get(uid) {
            Some(Placement::Binding(_) | Placement::Unseen(..)) => self.remove_pod(uid).is_some(),
            Some(Placement::Seen(_)) | None => false,
        }
    }

    /// Pods whose binding was accepted, but that the API has not told of since.
    pub fn unseen(&self, now: Timestamp) -> Vec<Arc<Pod>> {
        let late = self.assumed.iter().filter(|uid| match self.pods.get(*uid) {
            Some(Placement::Unseen(_, until)) => *until <= now,
            _ => false,
        });
        late.filter_map(|uid| Some(self.placed(uid)?.0.clone())).collect()
    }

    /// Whether the pod has been given a node.
    pub fn is_placed(&self, uid: &PodUid) -> bool {
        self.pods.contains_key(uid)
    }

    fn put(&mut self, pod: &Arc<Pod>, id: NodeId) {
        let class = self.index.class_of(&pod.shape, pod.deleting, &self.nodes);
        let state = &mut self.nodes[id.index()];
        let shape = &pod.shape;
        state.used.add(&shape.requests);
        state.usual.0 += shape.usual.0;
        state.usual.1 += shape.usual.1;
        state.ports.extend(shape.ports.iter().cloned());
        state.pods.push((pod.clone(), class));
        for claim in &shape.claims {
            *self
                .claims_in_use
                .entry((shape.namespace.clone(), claim.clone()))
                .or_insert(0) += 1;
        }
        self.index.place(class, id);
    }

    fn take(&mut self, uid: &PodUid, id: NodeId) -> Option<Arc<Pod>> {
        let state = &mut self.nodes[id.index()];
        let place = state.pods.iter().position(|(pod, _)| pod.uid == *uid)?;
        let (pod, class) = state.pods.swap_remove(place);
        let shape = &pod.shape;
        state.used.sub(&shape.requests);
        state.usual.0 -= shape.usual.0;
        state.usual.1 -= shape.usual.1;
        for port in &shape.ports {
            if let Some(place) = state.ports.iter().position(|one| one == port) {
                state.ports.swap_remove(place);
            }
        }
        for claim in &shape.claims {
            let key = (shape.namespace.clone(), claim.clone());
            if let Some(count) = self.claims_in_use.get_mut(&key) {
                *count -= 1;
                if *count == 0 {
                    self.claims_in_use.remove(&key);
                }
            }
        }
        self.index.displace(class, id);
        self.release(id);
        Some(pod)
    }

    /// What `look` sees with these pods on a node that are not there.
    pub(crate) fn supposing<T>(&mut self, node: NodeId, with: &[Arc<Pod>], look: impl FnOnce(&Self) -> T) -> T {
        for pod in with {
            self.put(pod, node);
        }
        let seen = look(self);
        for pod in with {
            self.take(&pod.uid, node);
        }
        seen
    }

    /// Thinks a pod away from its node, until it is put back by [`lay`](Self::lay).
    pub(crate) fn lift(&mut self, pod: &Pod, node: NodeId) {
        self.take(&pod.uid, node);
    }

    /// Puts back what was lifted.
    pub(crate) fn lay(&mut self, pod: &Arc<Pod>, node: NodeId) {
        self.put(pod, node);
    }

    /// Room is being made for a pod on a node; an empty name takes that back.
    pub fn nominate(&mut self, pod: &Arc<Pod>, node: Option<&Arc<str>>) {
        self.unnominate(&pod.uid);
        if let Some(node) = node {
            self.nominations.insert(pod.uid.clone(), (node.clone(), pod.clone()));
            self.nominated.entry(node.clone()).or_default().push(pod.clone());
        }
    }

    /// No room is being made for this pod any more.
    pub fn unnominate(&mut self, uid: &PodUid) {
        let Some((node, _)) = self.nominations.remove(uid) else {
            return;
        };
        if let Some(pods) = self.nominated.get_mut(&node) {
            pods.retain(|pod| pod.uid != *uid);
            if pods.is_empty() {
                self.nominated.remove(&node);
            }
        }
    }

    /// Where room is being made for a pod.
    pub fn nomination(&self, uid: &PodUid) -> Option<&Arc<str>> {
        self.nominations.get(uid).map(|(node, _)| node)
    }

    /// The pods for which room is being made on a node.
    pub(crate) fn nominated_to(&self, node: &str) -> &[Arc<Pod>] {
        self.nominated.get(node).map(Vec::as_slice).unwrap_or_default()
    }

    /// Whether room is being made anywhere.
    pub(crate) fn has_nominations(&self) -> bool {
        !self.nominated.is_empty()
    }

    /// A namespace has come or changed.
    pub fn set_namespace(&mut self, namespace: &Namespace) {
        self.index
            .set_namespace(&namespace.name, Some(namespace.labels.clone()));
    }

    /// A namespace is gone.
    pub fn remove_namespace(&mut self, name: &Arc<str>) {
        self.index.set_namespace(name, None);
    }

    /// A disruption budget has come or changed.
    pub fn set_budget(&mut self, budget: Budget) {
        self.budgets
            .insert((budget.namespace.clone(), budget.name.clone()), budget);
    }

    /// A disruption budget is gone.
    pub fn remove_budget(&mut self, namespace: &Arc<str>, name: &Arc<str>) {
        self.budgets.remove(&(namespace.clone(), name.clone()));
    }

    /// The disruption budgets.
    pub(crate) fn budgets(&self) -> impl Iterator<Item = &Budget> {
        self.budgets.values()
    }

    /// What selects pods has come or changed.
    pub fn set_workload(&mut self, kind: WorkloadKind, workload: Workload) {
        let within = self.workloads.entry(workload.namespace).or_default();
        within.insert((kind, workload.name), workload.selector);
    }

    /// What selected pods is gone.
    pub fn remove_workload(&mut self, kind: WorkloadKind, namespace: &Arc<str>, name: &Arc<str>) {
        if let Entry::Occupied(mut within) = self.workloads.entry(namespace.clone()) {
            within.get_mut().remove(&(kind, name.clone()));
            if within.get().is_empty() {
                within.remove();
            }
        }
    }

    /// What selects all pods that go with one: its Services and what controls it, taken together.
    pub(crate) fn default_selector(&self, shape: &Shape) -> Option<Selector> {
        let within = self.workloads.get(&shape.namespace)?;
        let mut all = Selector::default();
        let mut found = false;
        for ((kind, _), selector) in within {
            if *kind == WorkloadKind::Service && !selector.is_empty() && selector.matches(&shape.labels) {
                all = all.and(selector);
                found = true;
            }
        }
        let owner = shape.owner.as_ref().and_then(|owner| {
            let kind = match &*owner.kind {
                "ReplicaSet" => WorkloadKind::ReplicaSet,
                "StatefulSet" => WorkloadKind::StatefulSet,
                "ReplicationController" => WorkloadKind::ReplicationController,
                _ => return None,
            };
            within.get(&(kind, owner.name.clone()))
        });
        if let Some(selector) = owner {
            all = all.and(selector);
            found |= !selector.is_empty();
        }
        found.then_some(all)
    }

    /// A volume claim has come or changed.
    pub fn set_claim(&mut self, claim: Claim) {
        self.claims.insert((claim.namespace.clone(), claim.name.clone()), claim);
    }

    /// A volume claim is gone.
    pub fn remove_claim(&mut self, namespace: &Arc<str>, name: &Arc<str>) {
        self.claims.remove(&(namespace.clone(), name.clone()));
    }

    /// A volume claim.
    pub(crate) fn claim(&self, namespace: &Arc<str>, name: &Arc<str>) -> Option<&Claim> {
        self.claims.get(&(namespace.clone(), name.clone()))
    }

    /// How many placed pods use a claim.
    pub(crate) fn claim_users(&self, namespace: &Arc<str>, name: &Arc<str>) -> u32 {
        self.claims_in_use
            .get(&(namespace.clone(), name.clone()))
            .copied()
            .unwrap_or(0)
    }

    /// A volume has come or changed.
    pub fn set_volume(&mut self, volume: Volume) {
        self.volumes.insert(volume.name.clone(), volume);
    }

    /// A volume is gone.
    pub fn remove_volume(&mut self, name: &str) {
        self.volumes.remove(name);
    }

    /// A volume.
    pub(crate) fn volume(&self, name: &str) -> Option<&Volume> {
        self.volumes.get(name)
    }

    /// A storage class has come or changed.
    pub fn set_storage_class(&mut self, class: StorageClass) {
        self.storage.insert(class.name.clone(), class);
    }

    /// A storage class is gone.
    pub fn remove_storage_class(&mut self, name: &str) {
        self.storage.remove(name);
    }

    /// A storage class.
    pub(crate) fn storage_class(&self, name: &str) -> Option<&StorageClass> {
        self.storage.get(name)
    }

    /// Lets go of what has not been needed for long; between decisions.
    pub fn tidy(&mut self) {
        self.index.tidy();
    }

    /// All that is summed up and counted, as text by what it is about.
    #[cfg(test)]
    pub(crate) fn told(&self) -> BTreeMap<String, String> {
        let mut told = BTreeMap::new();
        for state in self.nodes.iter().filter(|state| !state.is_unused()) {
            let mut ports: Vec<String> = state.ports.iter().map(|port| format!("{port:?}")).collect();
            ports.sort();
            let mut pods: Vec<String> = state.pods().map(|pod| pod.uid.to_string()).collect();
            pods.sort();
            let sums = format!("{:?} {:?} {ports:?} {pods:?}", state.used, state.usual);
            told.insert(state.name.to_string(), sums);
        }
        let counts = self.index.counts(&self.nodes).into_iter();
        told.extend(
            counts
                .filter(|(_, count)| *count != (0, 0, 0))
                .map(|(what, count)| (what, format!("{count:?}"))),
        );
        told
    }

    /// The same, with everything counted that `other` counts.
    #[cfg(test)]
    pub(crate) fn told_as(&mut self, other: &Self) -> BTreeMap<String, String> {
        for key in other.index.counter_keys() {
            self.index.counter_of(key, &self.nodes);
        }
        self.told()
    }
}
