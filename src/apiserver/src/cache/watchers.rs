//! Who is told of a change: watchers by what they are interested in, so that one change costs only those it concerns.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use tokio::sync::mpsc;

use super::{Change, Entry, Kind};
use crate::selector::LabelSelector;

/// How many changes a watcher may be behind before it is cut off.
const QUEUE: usize = 4096;

/// Which objects of a cache a list or a watch is about.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// Only this namespace.
    pub namespace: Option<Arc<str>>,
    /// Only this name.
    pub name: Option<Arc<str>>,
    /// Only with these labels.
    pub labels: LabelSelector,
    /// Only with these values (or, with `false`, other ones) of fields.
    pub fields: Vec<(FieldRef, bool, Arc<str>)>,
}

/// A field that selectors use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FieldRef {
    /// `metadata.name`
    Name,
    /// `metadata.namespace`
    Namespace,
    /// The one at this place of the cache's [`Fields`](super::Fields), or this if it is empty.
    At(usize, &'static str),
}

impl FieldRef {
    fn of<'a>(&self, entry: &'a Entry) -> &'a str {
        match self {
            Self::Name => entry.name(),
            Self::Namespace => entry.namespace(),
            Self::At(at, otherwise) => match entry.projection().field(*at) {
                "" => otherwise,
                value => value,
            },
        }
    }
}

/// Under what a watcher is filed.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Interest {
    /// Any change.
    All,
    /// Changes in this namespace.
    Namespace(Arc<str>),
    /// Changes of this key.
    Key(Arc<str>),
    /// Changes of objects with this value of a field.
    Field(FieldRef, Arc<str>),
}

impl Selection {
    /// Whether nothing is left out.
    pub fn is_everything(&self) -> bool {
        self.namespace.is_none() && self.name.is_none() && self.labels.is_empty() && self.fields.is_empty()
    }

    /// What the keys of all selected objects begin with.
    pub fn under(&self) -> String {
        self.namespace
            .as_ref()
            .map_or_else(String::new, |namespace| format!("{namespace}/"))
    }

    /// Whether it is selected.
    pub fn matches(&self, entry: &Entry) -> bool {
        self.namespace
            .as_ref()
            .is_none_or(|namespace| **namespace == *entry.namespace())
            && self.name.as_ref().is_none_or(|name| **name == *entry.name())
            && self
                .fields
                .iter()
                .all(|(field, equal, value)| (field.of(entry) == &**value) == *equal)
            && self.labels.matches(|key| entry.projection().label(key))
    }

    /// What a change is to one who sees only the selection.
    pub fn outcome(&self, change: &Change) -> Option<Kind> {
        let selected = |entry: Option<&Arc<Entry>>| entry.is_some_and(|entry| self.matches(entry));
        match (selected(change.old()), selected(change.new_entry())) {
            (false, true) => Some(Kind::Added),
            (true, true) => Some(Kind::Modified),
            (true, false) => Some(Kind::Deleted),
            (false, false) => None,
        }
    }

    /// The narrowest class of changes that has all of its own.
    pub fn interest(&self) -> Interest {
        let exact = |wanted: FieldRef| {
            let term = self.fields.iter().find(|(field, equal, _)| *equal && *field == wanted);
            term.map(|(_, _, value)| value.clone())
        };
        let name = self.name.clone().or_else(|| exact(FieldRef::Name));
        let namespace = self.namespace.clone().or_else(|| exact(FieldRef::Namespace));
        if let (Some(namespace), Some(name)) = (&namespace, &name) {
            return Interest::Key(format!("{namespace}/{name}").into());
        }
        let field = self
            .fields
            .iter()
            .find(|(field, equal, _)| *equal && matches!(field, FieldRef::At(..)));
        if let Some((field, _, value)) = field {
            return Interest::Field(*field, value.clone());
        }
        // An object without a namespace has its name as key.
        match (namespace, name) {
            (Some(namespace), _) => Interest::Namespace(namespace),
            (None, Some(name)) => Interest::Field(FieldRef::Name, name),
            (None, None) => Interest::All,
        }
    }
}

/// A watcher's place.
#[derive(Debug)]
pub struct Ticket {
    interest: Interest,
    id: u64,
}

/// What a watcher receives.
pub type Queue = mpsc::Receiver<(Kind, Arc<Change>)>;

#[derive(Debug)]
struct Watcher {
    selection: Selection,
    queue: mpsc::Sender<(Kind, Arc<Change>)>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Watchers {
    by_interest: HashMap<Interest, HashMap<u64, Watcher>>,
    /// Fields that someone is interested in, with how many are.
    fields: HashMap<FieldRef, usize>,
    last: u64,
    count: usize,
}

impl Watchers {
    pub(super) fn len(&self) -> usize {
        self.count
    }

    pub(super) fn add(&mut self, selection: Selection) -> (Ticket, Queue) {
        let (tx, rx) = mpsc::channel(QUEUE);
        let interest = selection.interest();
        self.last += 1;
        self.count += 1;
        if let Interest::Field(field, _) = &interest {
            *self.fields.entry(*field).or_default() += 1;
        }
        let watcher = Watcher { selection, queue: tx };
        self.by_interest
            .entry(interest.clone())
            .or_default()
            .insert(self.last, watcher);
        let id = self.last;
        (Ticket { interest, id }, rx)
    }

    /// Also if it has been cut off meanwhile.
    pub(super) fn remove(&mut self, Ticket { interest, id }: &Ticket) {
        let Some(watchers) = self.by_interest.get_mut(interest) else {
            return;
        };
        if watchers.remove(id).is_none() {
            return;
        }
        if watchers.is_empty() {
            self.by_interest.remove(interest);
        }
        self.count -= 1;
        if let Interest::Field(field, _) = interest
            && let Some(count) = self.fields.get_mut(field)
        {
            *count -= 1;
            if *count == 0 {
                self.fields.remove(field);
            }
        }
    }

    /// Cuts all off.
    pub(super) fn clear(&mut self) {
        self.by_interest.clear();
        self.fields.clear();
        self.count = 0;
    }

    /// Queues a change for everyone whom it concerns, and cuts off who can't take it.
    pub(super) fn tell(&mut self, change: &Arc<Change>) {
        for interest in self.concerned(change) {
            let Some(watchers) = self.by_interest.get(&interest) else {
                continue;
            };
            let mut cut = Vec::new();
            for (id, watcher) in watchers {
                if let Some(kind) = watcher.selection.outcome(change)
                    && watcher.queue.try_send((kind, change.clone())).is_err()
                {
                    cut.push(*id);
                }
            }
            for id in cut {
                tracing::debug!(?interest, "a watcher too slow is cut off");
                let interest = interest.clone();
                self.remove(&Ticket { interest, id });
            }
        }
    }

    fn concerned(&self, change: &Change) -> BTreeSet<Interest> {
        let mut concerned = BTreeSet::from([Interest::All]);
        for entry in [change.old(), change.new_entry()].into_iter().flatten() {
            concerned.insert(Interest::Key(entry.key().clone()));
            if !entry.namespace().is_empty() {
                concerned.insert(Interest::Namespace(entry.namespace().into()));
            }
            for field in self.fields.keys() {
                concerned.insert(Interest::Field(*field, field.of(entry).into()));
            }
        }
        concerned
    }
}

#[cfg(test)]
mod tests {
    use bosun_store::Revision;
    use serde_json::json;

    use super::*;
    use crate::cache::{Fields, Limits, entry::encode, state::State};

    fn pod(key: &str, node: &str, app: &str, revision: u64) -> Arc<Entry> {
        let object = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x", "labels": {"app": app}}, "spec": {"nodeName": node}});
        let fields = Fields::new(["spec.nodeName"]);
        Arc::new(Entry::new(key.into(), &encode(&object), Revision(revision), &fields).unwrap())
    }

    fn of_namespace(namespace: &str) -> Selection {
        Selection {
            namespace: Some(namespace.into()),
            ..Selection::default()
        }
    }

    fn of_node(node: &str) -> Selection {
        Selection {
            fields: vec![(FieldRef::At(0, ""), true, node.into())],
            ..Selection::default()
        }
    }

    fn of_label(selector: &str) -> Selection {
        Selection {
            labels: LabelSelector::parse(selector).unwrap(),
            ..Selection::default()
        }
    }

    fn of_name(namespace: Option<&str>, name: &str) -> Selection {
        let namespace = namespace.map(Into::into);
        Selection {
            namespace,
            fields: vec![(FieldRef::Name, true, name.into())],
            ..Selection::default()
        }
    }

    #[test]
    fn each_is_told_what_happens_in_its_selection() {
        let mut watchers = Watchers::default();
        let selections = [
            Selection::default(),
            of_namespace("a"),
            of_namespace("b"),
            of_node("n"),
            of_node(""),
            of_label("app=web"),
            of_name(Some("a"), "x"),
            of_name(None, "x"),
            of_name(None, "y"),
        ];
        let mut queues: Vec<_> = selections
            .into_iter()
            .map(|selection| watchers.add(selection))
            .collect();
        assert_eq!(watchers.len(), 9);
        let mut state = State::new(Limits::default());
        state.load(Vec::new(), Revision(1));
        let steps = [
            (Some(pod("a/x", "", "web", 2)), "A A - - A A A A -"),
            (Some(pod("a/x", "n", "web", 3)), "M M - A D M M M -"),
            (Some(pod("a/x", "n", "db", 4)), "M M - M - D M M -"),
            (None, "D D - D - - D D -"),
        ];
        for (revision, (new, expected)) in (2..).zip(steps) {
            let change = state.apply("a/x", Revision(revision), new).unwrap();
            watchers.tell(&change);
            let told = queues
                .iter_mut()
                .map(|(_, queue)| queue.try_recv().map_or("-", |(kind, _)| &kind.as_str()[..1]));
            assert_eq!(told.collect::<Vec<_>>().join(" "), expected, "revision {revision}");
        }
        for (ticket, _) in &queues {
            watchers.remove(ticket);
            watchers.remove(ticket);
        }
        assert_eq!(
            (watchers.len(), watchers.by_interest.len(), watchers.fields.len()),
            (0, 0, 0)
        );
    }

    #[test]
    fn one_who_does_not_take_its_changes_is_cut_off_alone() {
        let mut watchers = Watchers::default();
        let (_, mut slow) = watchers.add(Selection::default());
        let (_, mut quick) = watchers.add(Selection::default());
        let mut state = State::new(Limits::default());
        state.load(Vec::new(), Revision(1));
        for revision in 2..=QUEUE as u64 + 2 {
            let change = state
                .apply("a/x", Revision(revision), Some(pod("a/x", "n", "web", revision)))
                .unwrap();
            watchers.tell(&change);
            assert_eq!(quick.try_recv().unwrap().1.revision(), Revision(revision));
        }
        assert_eq!(watchers.len(), 1);
        let mut told = 0;
        while slow.try_recv().is_ok() {
            told += 1;
        }
        assert_eq!(told, QUEUE);
        assert_eq!(slow.try_recv().unwrap_err(), mpsc::error::TryRecvError::Disconnected);
    }
}
