//! Who matches whom among placed pods, kept per class of pods rather than per pod.
//!
//! A class is all pods of one shape (and whether they are being deleted). A query is matched against each class once,
//! when either is new; from then on a pod that comes or goes shifts the few tallies its class is known to concern. So
//! what a decision costs depends on the terms it involves and the nodes it looks at, never on how many pods there are.

use std::{collections::HashMap, sync::Arc};

use super::{
    NodeId, NodeState,
    tally::{Counter, CounterKey, Hold, Holder},
    topology::Topology,
};
use crate::objects::{Labels, Node, PodQuery, PodTerm, Shape};

/// More counters than this are not kept beyond the decision that asked for them.
const COUNTERS: usize = 1024;
/// More classes without pods than this, and than classes with pods, are not kept.
const IDLE_CLASSES: usize = 1024;

/// All pods of one shape.
#[derive(Clone, Debug)]
struct Class {
    shape: Arc<Shape>,
    deleting: bool,
    /// How many there are on each node.
    placed: HashMap<NodeId, u32>,
    /// The counters that count them.
    counters: Vec<usize>,
    /// The terms they say.
    says: Vec<usize>,
    /// The terms that are said about them; known once such a pod has been looked at.
    said: Option<Vec<usize>>,
}

impl Class {
    fn matches(&self, query: &PodQuery, namespaces: &HashMap<Arc<str>, Labels>) -> bool {
        let namespace = &self.shape.namespace;
        query.matches(namespace, namespaces.get(namespace), &self.shape.labels)
    }

    fn counts(&self, key: &CounterKey, namespaces: &HashMap<Arc<str>, Labels>) -> bool {
        !(self.deleting && key.living) && key.all_of.iter().all(|query| self.matches(query, namespaces))
    }
}

/// Slots that are used again.
#[derive(Clone, Debug)]
struct Slab<T> {
    slots: Vec<Option<T>>,
    free: Vec<usize>,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
        }
    }
}

impl<T> Slab<T> {
    fn insert(&mut self, item: T) -> usize {
        if let Some(place) = self.free.pop() {
            self.slots[place] = Some(item);
            place
        } else {
            self.slots.push(Some(item));
            self.slots.len() - 1
        }
    }

    fn remove(&mut self, place: usize) -> Option<T> {
        let item = self.slots[place].take();
        self.free.push(place);
        item
    }

    fn get(&self, place: usize) -> &T {
        self.slots[place].as_ref().expect("a slot is used until it is removed")
    }

    fn get_mut(&mut self, place: usize) -> &mut T {
        self.slots[place].as_mut().expect("a slot is used until it is removed")
    }

    fn iter(&self) -> impl Iterator<Item = (usize, &T)> {
        self.slots
            .iter()
            .enumerate()
            .filter_map(|(place, item)| Some((place, item.as_ref()?)))
    }

    fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }
}

/// The number of a class.
pub(crate) type ClassId = usize;
/// The number of a counter. Valid until [`Index::tidy`].
pub(crate) type CounterId = usize;
/// The number of a holder. Valid while a pod that says the term is there.
pub(crate) type HolderId = usize;

/// Classes of pods, and all that is counted of them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Index {
    topologies: Vec<Topology>,
    topology_ids: HashMap<Arc<str>, usize>,
    classes: Slab<Class>,
    /// By the shape's address, which stays while the class holds it.
    class_ids: HashMap<(usize, bool), ClassId>,
    counters: Slab<Counter>,
    counter_ids: HashMap<Arc<CounterKey>, CounterId>,
    holders: Slab<Holder>,
    holder_ids: HashMap<Arc<(PodTerm, Hold)>, HolderId>,
    namespaces: HashMap<Arc<str>, Labels>,
    idle: usize,
    clock: u64,
}

impl Index {
    #[inline]
    pub(crate) fn topology(&self, id: usize) -> &Topology {
        &self.topologies[id]
    }

    #[inline]
    pub(crate) fn counter(&self, id: CounterId) -> &Counter {
        self.counters.get(id)
    }

    #[inline]
    pub(crate) fn holder(&self, id: HolderId) -> &Holder {
        self.holders.get(id)
    }

    /// Whether a pod of this shape is what the query asks for.
    pub(crate) fn is_meant(&self, query: &PodQuery, shape: &Shape) -> bool {
        query.matches(&shape.namespace, self.namespaces.get(&shape.namespace), &shape.labels)
    }

    /// The topology of a node label.
    pub(crate) fn topology_of(&mut self, key: &Arc<str>, nodes: &[NodeState]) -> usize {
        if let Some(id) = self.topology_ids.get(key) {
            return *id;
        }
        let mut topology = Topology::new(key.clone());
        for (id, node) in present(nodes) {
            topology.attach(id, node);
        }
        self.topologies.push(topology);
        self.topology_ids.insert(key.clone(), self.topologies.len() - 1);
        self.topologies.len() - 1
    }

    /// The class of a shape, made if need be.
    pub(crate) fn class_of(&mut self, shape: &Arc<Shape>, deleting: bool, nodes: &[NodeState]) -> ClassId {
        let address = (Arc::as_ptr(shape) as usize, deleting);
        if let Some(id) = self.class_ids.get(&address) {
            return *id;
        }
        let affinity = &shape.affinity;
        let terms = (affinity.required_anti.iter().map(|term| (term.clone(), Hold::Forbids)))
            .chain(affinity.required.iter().map(|term| (term.clone(), Hold::Requires)))
            .chain(
                affinity
                    .preferred
                    .iter()
                    .map(|one| (one.term.clone(), Hold::Likes(one.weight))),
            )
            .chain(
                affinity
                    .preferred_anti
                    .iter()
                    .map(|one| (one.term.clone(), Hold::Likes(-one.weight))),
            );
        let says: Vec<_> = terms.map(|key| self.holder_of(key, nodes)).collect();
        let mut class = Class {
            shape: shape.clone(),
            deleting,
            placed: HashMap::new(),
            counters: Vec::new(),
            says,
            said: None,
        };
        let counters = self
            .counters
            .iter()
            .filter(|(_, one)| class.counts(&one.key, &self.namespaces));
        class.counters = counters.map(|(id, _)| id).collect();
        let id = self.classes.insert(class);
        self.class_ids.insert(address, id);
        self.idle += 1;
        id
    }

    fn holder_of(&mut self, key: (PodTerm, Hold), nodes: &[NodeState]) -> HolderId {
        let known = self.holder_ids.get(&key).copied();
        let id = known.unwrap_or_else(|| {
            let topology = self.topology_of(&key.0.topology, nodes);
            let key = Arc::new(key);
            let id = self.holders.insert(Holder::new(key.clone(), topology));
            for class in self.classes.slots.iter_mut().flatten() {
                if class.said.is_some()
                    && class.matches(&key.0.pods, &self.namespaces)
                    && let Some(said) = &mut class.said
                {
                    said.push(id);
                }
            }
            self.holder_ids.insert(key, id);
            id
        });
        self.holders.get_mut(id).classes += 1;
        id
    }

    /// The terms that placed pods say about a pod of this class.
    pub(crate) fn said_about(&mut self, class: ClassId) -> &[HolderId] {
        let Self {
            classes,
            holders,
            namespaces,
            ..
        } = self;
        let class = classes.get_mut(class);
        if class.said.is_none() {
            let about = holders
                .iter()
                .filter(|(_, holder)| class.matches(&holder.key.0.pods, namespaces));
            class.said = Some(about.map(|(id, _)| id).collect());
        }
        class.said.as_deref().unwrap_or_default()
    }

    /// The counter of a key, made if need be: that once costs as much as there are classes.
    pub(crate) fn counter_of(&mut self, key: CounterKey, nodes: &[NodeState]) -> CounterId {
        self.clock += 1;
        if let Some(id) = self.counter_ids.get(&key) {
            self.counters.get_mut(*id).used = self.clock;
            return *id;
        }
        let topology = self.topology_of(&key.topology, nodes);
        let key = Arc::new(key);
        let mut counter = Counter::new(key.clone(), topology);
        counter.used = self.clock;
        for (id, node) in present(nodes) {
            counter.attach(&self.topologies[topology], id, node);
        }
        let id = self.counters.insert(counter);
        let counter = self.counters.get_mut(id);
        for class in self.classes.slots.iter_mut().flatten() {
            if class.counts(&key, &self.namespaces) {
                class.counters.push(id);
                for (node, count) in &class.placed {
                    counter.shift(&self.topologies[topology], *node, i64::from(*count));
                }
            }
        }
        self.counter_ids.insert(key, id);
        id
    }

    /// A pod of a class is placed.
    pub(super) fn place(&mut self, class: ClassId, node: NodeId) {
        let placed = &mut self.classes.get_mut(class).placed;
        self.idle -= usize::from(placed.is_empty());
        *placed.entry(node).or_insert(0) += 1;
        self.shift(class, node, 1);
    }

    /// A pod of a class is gone.
    pub(super) fn displace(&mut self, class: ClassId, node: NodeId) {
        self.shift(class, node, -1);
        let placed = &mut self.classes.get_mut(class).placed;
        if let Some(count) = placed.get_mut(&node) {
            *count -= 1;
            if *count == 0 {
                placed.remove(&node);
            }
        }
        self.idle += usize::from(placed.is_empty());
    }

    fn shift(&mut self, class: ClassId, node: NodeId, by: i64) {
        let class = self.classes.get(class);
        for id in &class.counters {
            let counter = self.counters.slots[*id]
                .as_mut()
                .expect("a class names counters that are there");
            counter.shift(&self.topologies[counter.topology], node, by);
        }
        for id in &class.says {
            let holder = self.holders.slots[*id]
                .as_mut()
                .expect("a class names holders that are there");
            holder.shift(&self.topologies[holder.topology], node, by);
        }
    }

    /// A node has come, with pods of these classes.
    pub(super) fn attach(&mut self, id: NodeId, node: &Node, pods: impl Iterator<Item = ClassId>) {
        for topology in &mut self.topologies {
            topology.attach(id, node);
        }
        for counter in self.counters.slots.iter_mut().flatten() {
            counter.attach(&self.topologies[counter.topology], id, node);
        }
        for class in pods {
            self.shift(class, id, 1);
        }
    }

    /// A node goes, with pods of these classes.
    pub(super) fn detach(&mut self, id: NodeId, node: &Node, pods: impl Iterator<Item = ClassId>) {
        for class in pods {
            self.shift(class, id, -1);
        }
        for counter in self.counters.slots.iter_mut().flatten() {
            counter.detach(&self.topologies[counter.topology], id);
        }
        for topology in &mut self.topologies {
            topology.detach(id, node);
        }
    }

    /// A namespace's labels are these now: queries by the labels of namespaces may mean other pods.
    pub(super) fn set_namespace(&mut self, name: &Arc<str>, labels: Option<Labels>) {
        if self.namespaces.get(name) == labels.as_ref() {
            return;
        }
        let within = self.classes.iter().filter(|(_, class)| class.shape.namespace == *name);
        let within: Vec<ClassId> = within.map(|(id, _)| id).collect();
        for id in &within {
            self.count_class(*id, -1);
        }
        match labels {
            Some(labels) => self.namespaces.insert(name.clone(), labels),
            None => self.namespaces.remove(name),
        };
        for id in within {
            let class = self.classes.get(id);
            let counters = self
                .counters
                .iter()
                .filter(|(_, one)| class.counts(&one.key, &self.namespaces));
            let counters = counters.map(|(id, _)| id).collect();
            let class = self.classes.get_mut(id);
            class.counters = counters;
            class.said = None;
            self.count_class(id, 1);
        }
    }

    fn count_class(&mut self, class: ClassId, sign: i64) {
        let class = self.classes.get(class);
        for id in &class.counters {
            let counter = self.counters.slots[*id]
                .as_mut()
                .expect("a class names counters that are there");
            for (node, count) in &class.placed {
                counter.shift(&self.topologies[counter.topology], *node, sign * i64::from(*count));
            }
        }
    }

    /// Lets go of what has not been needed for long. Numbers got before are void.
    pub(crate) fn tidy(&mut self) {
        if self.idle > IDLE_CLASSES.max(self.classes.len() - self.idle) {
            let idle = self.classes.iter().filter(|(_, class)| class.placed.is_empty());
            for id in idle.map(|(id, _)| id).collect::<Vec<_>>() {
                self.drop_class(id);
            }
            self.idle = 0;
        }
        if self.counters.len() > COUNTERS {
            let mut used: Vec<u64> = self.counters.iter().map(|(_, counter)| counter.used).collect();
            used.sort_unstable();
            let oldest = used[used.len() - COUNTERS / 2];
            let old = self.counters.iter().filter(|(_, counter)| counter.used < oldest);
            for id in old.map(|(id, _)| id).collect::<Vec<_>>() {
                if let Some(counter) = self.counters.remove(id) {
                    self.counter_ids.remove(&counter.key);
                }
            }
            let counters = &self.counters;
            for class in self.classes.slots.iter_mut().flatten() {
                class.counters.retain(|id| counters.slots[*id].is_some());
            }
        }
    }

    fn drop_class(&mut self, id: ClassId) {
        let Some(class) = self.classes.remove(id) else { return };
        self.class_ids
            .remove(&(Arc::as_ptr(&class.shape) as usize, class.deleting));
        for id in class.says {
            let holder = self.holders.get_mut(id);
            holder.classes -= 1;
            if holder.classes == 0
                && let Some(holder) = self.holders.remove(id)
            {
                self.holder_ids.remove(&holder.key);
                for class in self.classes.slots.iter_mut().flatten() {
                    if let Some(said) = &mut class.said {
                        said.retain(|one| *one != id);
                    }
                }
            }
        }
    }

    /// All counts by what is counted and where, for comparing two indexes that came about differently.
    #[cfg(test)]
    pub(super) fn counts(&self, nodes: &[NodeState]) -> std::collections::BTreeMap<String, (u64, u32, usize)> {
        let mut counts = std::collections::BTreeMap::new();
        for (_, counter) in self.counters.iter() {
            let tally = counter.tally();
            counts.insert(
                format!("{:?}", counter.key),
                (tally.total(), counter.least(), counter.domains()),
            );
            for (id, node) in present(nodes) {
                let at = self.topologies[counter.topology]
                    .of(id)
                    .map_or(0, |domain| tally.at(domain));
                counts.insert(format!("{:?} at {}", counter.key, node.name), (at.into(), 0, 0));
            }
        }
        for (_, holder) in self.holders.iter().filter(|(_, holder)| holder.tally().total() > 0) {
            for (id, node) in present(nodes) {
                let at = self.topologies[holder.topology]
                    .of(id)
                    .map_or(0, |domain| holder.tally().at(domain));
                counts.insert(format!("{:?} at {}", holder.key, node.name), (at.into(), 0, 0));
            }
        }
        counts
    }

    /// The keys of all counters.
    #[cfg(test)]
    pub(super) fn counter_keys(&self) -> Vec<CounterKey> {
        self.counters
            .iter()
            .map(|(_, counter)| CounterKey::clone(&counter.key))
            .collect()
    }
}

fn present(nodes: &[NodeState]) -> impl Iterator<Item = (NodeId, &Node)> {
    let numbered = nodes.iter().enumerate();
    numbered.filter_map(|(place, node)| Some((NodeId::new(place), node.object.as_deref()?)))
}
