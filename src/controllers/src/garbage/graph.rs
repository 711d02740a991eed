//! Who owns whom. Pure.
//!
//! Nodes are objects, edges their owner references. An owner that is referred to and was never heard of is there as
//! [absent](Node::heard): whether it really is must be asked of the API before anything is deleted for it.

use std::collections::{HashMap, HashSet};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use super::Task;

/// The finalizer of an owner that waits for what it owns to be deleted.
pub(super) const FOREGROUND: &str = "foregroundDeletion";
/// The finalizer of an owner that waits for what it owns to be let go.
pub(super) const ORPHAN: &str = "orphan";

/// What an object is called, as far as a reference tells it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Coordinates {
    pub(super) api_version: String,
    pub(super) kind: String,
    /// That of whoever refers to it, for an owner that was never heard of.
    pub(super) namespace: String,
    pub(super) name: String,
}

/// An object.
#[derive(Clone, Debug, Default)]
pub(super) struct Node {
    pub(super) name: Coordinates,
    /// Whether it was heard of, rather than only of references to it.
    pub(super) heard: bool,
    /// Its owners: their UIDs, and whether it keeps one from going in the foreground.
    pub(super) owners: Vec<(String, bool)>,
    /// UIDs of what it owns.
    pub(super) dependents: HashSet<String>,
    /// It is being deleted.
    pub(super) deleting: bool,
    /// It waits for what it owns to be deleted.
    pub(super) foreground: bool,
}

/// All objects by their UIDs.
#[derive(Debug, Default)]
pub(super) struct Graph {
    nodes: HashMap<String, Node>,
}

impl Graph {
    pub(super) fn get(&self, uid: &str) -> Option<&Node> {
        self.nodes.get(uid)
    }

    pub(super) fn len(&self) -> usize {
        self.nodes.len()
    }

    /// What an object owns and keeps it from going, with whether each waits for its own dependents already.
    pub(super) fn blocking(&self, uid: &str) -> Vec<(String, bool)> {
        let dependents = self.nodes.get(uid).into_iter().flat_map(|node| &node.dependents);
        let blocks = |node: &&Node| node.owners.iter().any(|(owner, blocks)| owner == uid && *blocks);
        dependents
            .filter_map(|dependent| Some((dependent, self.nodes.get(dependent)?)))
            .filter(|(_, node)| blocks(node))
            .map(|(dependent, node)| (dependent.clone(), node.foreground))
            .collect()
    }

    /// Whether something it owns waits for its own dependents: a cycle, if it is one of those.
    pub(super) fn owns_waiting(&self, uid: &str) -> bool {
        let dependents = self.nodes.get(uid).into_iter().flat_map(|node| &node.dependents);
        dependents
            .filter_map(|dependent| self.nodes.get(dependent))
            .any(|node| node.foreground)
    }

    /// An object is there, or was changed.
    pub(super) fn seen(&mut self, name: Coordinates, meta: &ObjectMeta) -> Vec<Task> {
        let uid = meta.uid.clone().unwrap_or_default();
        let references = meta.owner_references.as_deref().unwrap_or_default();
        let owners: Vec<_> = references
            .iter()
            .map(|owner| (owner.uid.clone(), owner.block_owner_deletion == Some(true)))
            .collect();
        let deleting = meta.deletion_timestamp.is_some();
        let has = |finalizer: &str| meta.finalizers.iter().flatten().any(|given| given == finalizer);
        let foreground = deleting && has(FOREGROUND);
        let node = self.nodes.entry(uid.clone()).or_default();
        let before = std::mem::replace(&mut node.owners, owners.clone());
        let newly_foreground = foreground && !node.foreground;
        let newly_deleting = deleting && !node.deleting;
        let namespace = name.namespace.clone();
        (node.name, node.heard, node.deleting, node.foreground) = (name, true, deleting, foreground);

        let mut tasks = Vec::new();
        if newly_foreground {
            tasks.extend(node.dependents.iter().cloned().map(Task::Collect));
            tasks.push(Task::Collect(uid.clone()));
        }
        if newly_deleting && has(ORPHAN) {
            tasks.push(Task::Release(uid.clone()));
        }
        for (owner, blocked) in &before {
            let now = owners.iter().find(|(uid, _)| uid == owner);
            if now.is_none() {
                self.unlink(owner, &uid);
            }
            let unblocked = *blocked && now.is_none_or(|(_, blocks)| !blocks);
            if unblocked && self.nodes.get(owner).is_some_and(|owner| owner.foreground) {
                tasks.push(Task::Collect(owner.clone()));
            }
        }
        for reference in references {
            if !before.iter().any(|(owner, _)| *owner == reference.uid) {
                tasks.extend(self.link(reference, &uid, &namespace));
            }
        }
        tasks
    }

    /// An object is gone: heard so, or asked for and not found.
    pub(super) fn gone(&mut self, uid: &str) -> Vec<Task> {
        let Some(node) = self.nodes.get_mut(uid) else {
            return Vec::new();
        };
        let mut tasks: Vec<_> = node.dependents.iter().cloned().map(Task::Collect).collect();
        // As long as something refers to it, it stays known by that: what was not found may only have been late.
        let owners = std::mem::take(&mut node.owners);
        (node.heard, node.deleting, node.foreground) = (false, false, false);
        if node.dependents.is_empty() {
            self.nodes.remove(uid);
        }
        for (owner, _) in &owners {
            self.unlink(owner, uid);
            if self.nodes.get(owner).is_some_and(|owner| owner.foreground) {
                tasks.push(Task::Collect(owner.clone()));
            }
        }
        tasks
    }

    fn link(&mut self, owner: &OwnerReference, dependent: &str, namespace: &str) -> Option<Task> {
        let node = self.nodes.entry(owner.uid.clone()).or_insert_with(|| Node {
            name: Coordinates {
                api_version: owner.api_version.clone(),
                kind: owner.kind.clone(),
                namespace: namespace.to_owned(),
                name: owner.name.clone(),
            },
            ..Node::default()
        });
        node.dependents.insert(dependent.to_owned());
        if !node.heard {
            return Some(Task::Collect(owner.uid.clone()));
        }
        // Whoever begins to be owned by what goes, goes too.
        node.foreground.then(|| Task::Collect(dependent.to_owned()))
    }

    fn unlink(&mut self, owner: &str, dependent: &str) {
        if let Some(node) = self.nodes.get_mut(owner) {
            node.dependents.remove(dependent);
            if !node.heard && node.dependents.is_empty() {
                self.nodes.remove(owner);
            }
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use jiff::Timestamp;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;

    /// An object: `d` deleting, `f` in the foreground, `o` orphaning; owners with `!` are blocked.
    pub(in super::super) fn meta(uid: &str, how: &str, owners: &[&str]) -> ObjectMeta {
        let owner = |owner: &&str| OwnerReference {
            uid: owner.trim_end_matches('!').to_owned(),
            name: owner.trim_end_matches('!').to_owned(),
            kind: "K".to_owned(),
            api_version: "v1".to_owned(),
            block_owner_deletion: owner.ends_with('!').then_some(true),
            ..OwnerReference::default()
        };
        let finalizers = [('f', FOREGROUND), ('o', ORPHAN)];
        let finalizers = finalizers.iter().filter(|(letter, _)| how.contains(*letter));
        ObjectMeta {
            uid: Some(uid.to_owned()),
            name: Some(uid.to_owned()),
            owner_references: Some(owners.iter().map(owner).collect()),
            finalizers: Some(finalizers.map(|(_, finalizer)| (*finalizer).to_owned()).collect()),
            deletion_timestamp: how.contains('d').then_some(Time(Timestamp::UNIX_EPOCH)),
            ..ObjectMeta::default()
        }
    }

    fn see(graph: &mut Graph, uid: &str, how: &str, owners: &[&str]) -> Vec<String> {
        let name = Coordinates {
            name: uid.to_owned(),
            ..Coordinates::default()
        };
        shown(&graph.seen(name, &meta(uid, how, owners)))
    }

    fn shown(tasks: &[Task]) -> Vec<String> {
        let mut shown: Vec<_> = tasks.iter().map(ToString::to_string).collect();
        shown.sort();
        shown
    }

    const NOTHING: [&str; 0] = [];

    #[test]
    fn what_is_owned_is_looked_at_when_its_owner_is_gone() {
        let mut graph = Graph::default();
        assert_eq!(see(&mut graph, "deployment", "", &[]), NOTHING);
        assert_eq!(see(&mut graph, "set", "", &["deployment!"]), NOTHING);
        assert_eq!(see(&mut graph, "pod", "", &["set!"]), NOTHING);
        assert_eq!(shown(&graph.gone("deployment")), ["collect set"]);
        assert_eq!(shown(&graph.gone("set")), ["collect pod"]);
        assert_eq!(shown(&graph.gone("pod")), NOTHING);
        assert_eq!(graph.len(), 0);
    }

    #[test]
    fn an_owner_never_heard_of_is_asked_for() {
        let mut graph = Graph::default();
        assert_eq!(see(&mut graph, "pod", "", &["set"]), ["collect set"]);
        assert!(!graph.get("set").expect("referred to").heard);
        // It was only heard of late.
        assert_eq!(see(&mut graph, "set", "", &[]), NOTHING);
        assert!(graph.get("set").expect("heard of").heard);
        assert_eq!(shown(&graph.gone("set")), ["collect pod"]);
        // The last reference to what was never heard of takes it along.
        assert_eq!(see(&mut graph, "other", "", &["nobody"]), ["collect nobody"]);
        assert_eq!(see(&mut graph, "other", "", &[]), NOTHING);
        assert!(graph.get("nobody").is_none());
    }

    #[test]
    fn an_owner_in_the_foreground_waits_for_what_blocks_it() {
        let mut graph = Graph::default();
        see(&mut graph, "set", "", &[]);
        see(&mut graph, "a", "", &["set!"]);
        see(&mut graph, "b", "", &["set"]);
        assert_eq!(
            see(&mut graph, "set", "df", &[]),
            ["collect a", "collect b", "collect set"]
        );
        assert_eq!(graph.blocking("set"), [("a".to_owned(), false)]);
        // Told again: nothing new.
        assert_eq!(see(&mut graph, "set", "df", &[]), NOTHING);
        // One more that comes late goes too.
        assert_eq!(see(&mut graph, "c", "", &["set!"]), ["collect c"]);
        // Let go, unblocked, gone: the owner is looked at each time.
        assert_eq!(see(&mut graph, "c", "", &["set"]), ["collect set"]);
        assert_eq!(shown(&graph.gone("a")), ["collect set"]);
        assert_eq!(graph.blocking("set"), []);
    }

    #[test]
    fn an_owner_that_orphans_is_released_once() {
        let mut graph = Graph::default();
        see(&mut graph, "set", "o", &[]);
        assert_eq!(see(&mut graph, "set", "do", &[]), ["release set"]);
        assert_eq!(see(&mut graph, "set", "do", &[]), NOTHING);
        assert_eq!(see(&mut graph, "late", "do", &[]), ["release late"]);
    }

    #[test]
    fn cycles_are_seen() {
        let mut graph = Graph::default();
        see(&mut graph, "a", "df", &["b!"]);
        see(&mut graph, "b", "df", &["a!"]);
        assert!(graph.owns_waiting("a") && graph.owns_waiting("b"));
        assert_eq!(graph.blocking("a"), [("b".to_owned(), true)]);
    }
}
