//! Objects by something other than their key.

use std::{collections::HashMap, fmt, hash::Hash, sync::Arc};

use parking_lot::RwLock;

/// Objects of an informer by the keys that a function names of them. Cheap to clone.
pub struct Index<T, K>(Arc<Inner<T, K>>);

/// Calls its second argument with each key of the first.
type Keys<T, K> = Box<dyn Fn(&T, &mut dyn FnMut(K)) + Send + Sync>;

struct Inner<T, K> {
    keys: Keys<T, K>,
    // The objects of a key by their address, which is an object's identity while the index holds it.
    entries: RwLock<HashMap<K, HashMap<usize, Arc<T>>>>,
}

impl<T, K: Hash + Eq> Index<T, K> {
    pub(super) fn new<I: IntoIterator<Item = K>>(keys: impl Fn(&T) -> I + Send + Sync + 'static) -> Self {
        Self(Arc::new(Inner {
            keys: Box::new(move |object, each| keys(object).into_iter().for_each(each)),
            entries: RwLock::default(),
        }))
    }

    /// The objects of a key, in no order.
    pub fn get<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> Vec<Arc<T>>
    where
        K: std::borrow::Borrow<Q>,
    {
        let entries = self.0.entries.read();
        entries
            .get(key)
            .map_or_else(Vec::new, |objects| objects.values().cloned().collect())
    }

    /// How many objects a key has.
    pub fn count<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> usize
    where
        K: std::borrow::Borrow<Q>,
    {
        self.0.entries.read().get(key).map_or(0, HashMap::len)
    }
}

/// What a store tells its indexes, while it lets nobody else change it.
pub(super) trait Indexing<T>: Send + Sync {
    fn added(&self, object: &Arc<T>);
    fn removed(&self, object: &Arc<T>);
}

impl<T: Send + Sync, K: Hash + Eq + Send + Sync> Indexing<T> for Index<T, K> {
    fn added(&self, object: &Arc<T>) {
        let mut entries = self.0.entries.write();
        (self.0.keys)(object, &mut |key| {
            entries.entry(key).or_default().insert(address(object), object.clone());
        });
    }

    fn removed(&self, object: &Arc<T>) {
        let mut entries = self.0.entries.write();
        (self.0.keys)(object, &mut |key| {
            if let Some(objects) = entries.get_mut(&key) {
                objects.remove(&address(object));
                if objects.is_empty() {
                    entries.remove(&key);
                }
            }
        });
    }
}

fn address<T>(object: &Arc<T>) -> usize {
    Arc::as_ptr(object).cast::<()>() as usize
}

impl<T, K> Clone for Index<T, K> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T, K> fmt::Debug for Index<T, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Index").finish_non_exhaustive()
    }
}
