//! The map of an informer: what changes it, and what others hear of that.

use std::{
    collections::{HashMap, HashSet},
    fmt,
    sync::Arc,
};

use kube::Resource;
use parking_lot::RwLock;
use tokio::sync::{mpsc, watch};

use super::{Change, index::Indexing};
use crate::key::ObjectKey;

pub(super) struct Store<T> {
    state: RwLock<State<T>>,
    synced: watch::Sender<bool>,
}

struct State<T> {
    objects: HashMap<ObjectKey, Arc<T>>,
    indexes: Vec<Box<dyn Indexing<T>>>,
    subscribers: Vec<mpsc::UnboundedSender<Change<T>>>,
}

impl<T> Default for Store<T> {
    fn default() -> Self {
        Self {
            state: RwLock::new(State {
                objects: HashMap::new(),
                indexes: Vec::new(),
                subscribers: Vec::new(),
            }),
            synced: watch::Sender::new(false),
        }
    }
}

impl<T: Resource> Store<T> {
    pub(super) fn get(&self, key: &ObjectKey) -> Option<Arc<T>> {
        self.state.read().objects.get(key).cloned()
    }

    pub(super) fn with<R>(&self, look: impl FnOnce(&mut dyn Iterator<Item = &Arc<T>>) -> R) -> R {
        look(&mut self.state.read().objects.values())
    }

    pub(super) fn len(&self) -> usize {
        self.state.read().objects.len()
    }

    pub(super) fn is_synced(&self) -> bool {
        *self.synced.borrow()
    }

    pub(super) async fn synced(&self) {
        let mut synced = self.synced.subscribe();
        // The sender lives as long as the store.
        let _ = synced.wait_for(|synced| *synced).await;
    }

    pub(super) fn subscribe(&self) -> mpsc::UnboundedReceiver<Change<T>> {
        let (tx, rx) = mpsc::unbounded_channel();
        let mut state = self.state.write();
        for object in state.objects.values() {
            let _ = tx.send(Change::Added(object.clone()));
        }
        state.subscribers.push(tx);
        rx
    }

    pub(super) fn attach(&self, index: Box<dyn Indexing<T>>) {
        let mut state = self.state.write();
        for object in state.objects.values() {
            index.added(object);
        }
        state.indexes.push(index);
    }

    /// An object was added or changed.
    pub(super) fn apply(&self, object: T) {
        self.state.write().apply(object);
    }

    /// An object was deleted.
    pub(super) fn delete(&self, object: T) {
        let mut state = self.state.write();
        let key = ObjectKey::of(&object);
        // What was made anew under the name isn't what was deleted.
        if state.objects.get(&key).is_some_and(|held| same(&**held, &object)) {
            state.remove(&key, Some(object));
        }
    }

    /// These are all the objects there are.
    pub(super) fn replace(&self, objects: Vec<T>) {
        let mut state = self.state.write();
        let mut gone: HashSet<ObjectKey> = state.objects.keys().cloned().collect();
        for object in objects {
            gone.remove(&ObjectKey::of(&object));
            state.apply(object);
        }
        for key in &gone {
            state.remove(key, None);
        }
        // After many deletions a map keeps its room.
        state.objects.shrink_to_fit();
        drop(state);
        self.synced.send_replace(true);
    }
}

impl<T: Resource> State<T> {
    fn apply(&mut self, object: T) {
        let key = ObjectKey::of(&object);
        if let Some(held) = self.objects.get(&key) {
            if !same(&**held, &object) {
                self.remove(&key, None);
            } else if held.meta().resource_version == object.meta().resource_version {
                return;
            }
        }
        let new = Arc::new(object);
        let old = self.objects.insert(key, new.clone());
        for index in &self.indexes {
            if let Some(old) = &old {
                index.removed(old);
            }
            index.added(&new);
        }
        self.tell(&match old {
            None => Change::Added(new),
            Some(old) => Change::Updated { old, new },
        });
    }

    /// Takes an object out. `last` is what it was at the end, if that was told.
    fn remove(&mut self, key: &ObjectKey, last: Option<T>) {
        let Some(held) = self.objects.remove(key) else { return };
        for index in &self.indexes {
            index.removed(&held);
        }
        self.tell(&Change::Deleted(last.map_or(held, Arc::new)));
    }

    fn tell(&mut self, change: &Change<T>) {
        self.subscribers
            .retain(|subscriber| subscriber.send(change.clone()).is_ok());
    }
}

/// Whether two objects of one key are one object at two times.
fn same(one: &impl Resource, other: &impl Resource) -> bool {
    one.meta().uid == other.meta().uid
}

impl<T> fmt::Debug for Store<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
