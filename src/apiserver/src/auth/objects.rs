//! What authentication and admission read of the stored objects.

use std::sync::{Arc, Weak};

use async_trait::async_trait;
use bosun_store::Revision;
use bytes::Bytes;
use serde_json::Value;

use crate::{
    Reason, Registry, Scope, Status,
    cache::{Entry, Scan, Selection},
};

/// Reads of stored objects. Group and plural name the kind; objects come in the version that is stored.
#[async_trait]
pub trait Objects: Send + Sync {
    /// One object; `None` if it is not there. The namespace is empty for kinds without.
    async fn get(&self, group: &str, plural: &str, namespace: &str, name: &str) -> Result<Option<Value>, Status>;

    /// All of a namespace, or, with an empty one, all; perhaps as they were a moment ago.
    async fn list(&self, group: &str, plural: &str, namespace: &str) -> Result<Vec<Value>, Status>;

    /// The same as of now: whoever was told of a write sees it here.
    async fn list_now(&self, group: &str, plural: &str, namespace: &str) -> Result<Vec<Value>, Status>;

    /// The same as [`Objects::list`], with what a transaction needs that changes one.
    async fn list_changeable(&self, group: &str, plural: &str, namespace: &str) -> Result<Vec<Changeable>, Status>;
}

/// An object, and where and when it was stored.
#[derive(Clone, Debug)]
pub struct Changeable {
    /// As it is.
    pub object: Value,
    /// In the store.
    pub key: Bytes,
    /// Of its last change.
    pub revision: Revision,
}

/// A single object that is cached may be as it was a moment ago; one that is not is looked for in the store.
#[async_trait]
impl Objects for Registry {
    async fn get(&self, group: &str, plural: &str, namespace: &str, name: &str) -> Result<Option<Value>, Status> {
        let table = self.table();
        let Some(row) = table.stored(group, plural) else {
            return Ok(None);
        };
        let cache = self.cache(row)?;
        let key = match row.scope {
            Scope::Namespaced => format!("{namespace}/{name}"),
            Scope::Cluster => name.to_owned(),
        };
        let entry = match cache.peek(&key) {
            Some(entry) => Some(entry),
            None => cache.stored(&key).await.map_err(Status::internal)?,
        };
        Ok(entry.map(|entry| entry.decode()))
    }

    async fn list(&self, group: &str, plural: &str, namespace: &str) -> Result<Vec<Value>, Status> {
        let entries = cached(self, group, plural, namespace)?;
        Ok(entries.iter().map(|(_, entry)| entry.decode()).collect())
    }

    async fn list_now(&self, group: &str, plural: &str, namespace: &str) -> Result<Vec<Value>, Status> {
        if let Some(row) = self.table().stored(group, plural) {
            self.cache(row)?.catch_up().await.map_err(Status::internal)?;
        }
        Objects::list(self, group, plural, namespace).await
    }

    async fn list_changeable(&self, group: &str, plural: &str, namespace: &str) -> Result<Vec<Changeable>, Status> {
        let entries = cached(self, group, plural, namespace)?;
        let changeable = entries.iter().map(|(key, entry)| Changeable {
            object: entry.decode(),
            key: key.clone(),
            revision: entry.revision(),
        });
        Ok(changeable.collect())
    }
}

/// A registry's reads for what the registry itself holds, such as its admission: they don't keep it alive.
pub struct Reads(Weak<Registry>);

impl Reads {
    /// Those of `registry`.
    pub fn of(registry: &Arc<Registry>) -> Arc<Self> {
        Arc::new(Self(Arc::downgrade(registry)))
    }

    fn registry(&self) -> Result<Arc<Registry>, Status> {
        let gone = || Status::new(Reason::ServiceUnavailable, "the server is ending");
        self.0.upgrade().ok_or_else(gone)
    }
}

#[async_trait]
impl Objects for Reads {
    async fn get(&self, group: &str, plural: &str, namespace: &str, name: &str) -> Result<Option<Value>, Status> {
        Objects::get(&*self.registry()?, group, plural, namespace, name).await
    }

    async fn list(&self, group: &str, plural: &str, namespace: &str) -> Result<Vec<Value>, Status> {
        Objects::list(&*self.registry()?, group, plural, namespace).await
    }

    async fn list_now(&self, group: &str, plural: &str, namespace: &str) -> Result<Vec<Value>, Status> {
        self.registry()?.list_now(group, plural, namespace).await
    }

    async fn list_changeable(&self, group: &str, plural: &str, namespace: &str) -> Result<Vec<Changeable>, Status> {
        self.registry()?.list_changeable(group, plural, namespace).await
    }
}

/// What is cached of a kind, each with its key in the store; nothing of a kind that isn't served.
fn cached(registry: &Registry, group: &str, plural: &str, namespace: &str) -> Result<Vec<(Bytes, Arc<Entry>)>, Status> {
    let table = registry.table();
    let Some(row) = table.stored(group, plural) else {
        return Ok(Vec::new());
    };
    let cache = registry.cache(row)?;
    let selection = Selection {
        namespace: (!namespace.is_empty()).then(|| namespace.into()),
        ..Selection::default()
    };
    let under = selection.under();
    let listing = cache.list(&Scan {
        under: &under,
        start: None,
        limit: 0,
        selection,
    });
    let entries = listing.entries.iter();
    Ok(entries
        .map(|entry| (cache.store_key(entry.key()), entry.clone()))
        .collect())
}

/// A text in a tree; empty if there is none.
pub(crate) fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

#[cfg(test)]
pub(crate) mod fake {
    //! Objects in memory, for tests.

    use parking_lot::Mutex;

    use super::{Bytes, Changeable, Objects, Revision, Status, Value, async_trait, text};

    /// Group, plural and object.
    #[derive(Default)]
    pub(crate) struct Stored(pub(crate) Mutex<Vec<(String, String, Value)>>);

    impl Stored {
        pub(crate) fn of(objects: &[(&str, &str, Value)]) -> Self {
            let own = |(group, plural, object): &(&str, &str, Value)| {
                ((*group).to_owned(), (*plural).to_owned(), object.clone())
            };
            Self(Mutex::new(objects.iter().map(own).collect()))
        }

        fn matching(&self, group: &str, plural: &str, fits: impl Fn(&Value) -> bool) -> Vec<Value> {
            let objects = self.0.lock();
            let of_kind = objects
                .iter()
                .filter(|(g, p, object)| g == group && p == plural && fits(object));
            of_kind.map(|(_, _, object)| object.clone()).collect()
        }
    }

    #[async_trait]
    impl Objects for Stored {
        async fn get(&self, group: &str, plural: &str, namespace: &str, name: &str) -> Result<Option<Value>, Status> {
            let fits = |object: &Value| {
                text(object, "/metadata/namespace") == namespace && text(object, "/metadata/name") == name
            };
            Ok(self.matching(group, plural, fits).pop())
        }

        async fn list(&self, group: &str, plural: &str, namespace: &str) -> Result<Vec<Value>, Status> {
            let fits = |object: &Value| namespace.is_empty() || text(object, "/metadata/namespace") == namespace;
            Ok(self.matching(group, plural, fits))
        }

        async fn list_now(&self, group: &str, plural: &str, namespace: &str) -> Result<Vec<Value>, Status> {
            self.list(group, plural, namespace).await
        }

        async fn list_changeable(&self, group: &str, plural: &str, namespace: &str) -> Result<Vec<Changeable>, Status> {
            let listed = self.list(group, plural, namespace).await?;
            let changeable = listed.into_iter().map(|object| Changeable {
                key: Bytes::from(format!(
                    "/registry/{plural}/{namespace}/{}",
                    text(&object, "/metadata/name")
                )),
                revision: Revision(7),
                object,
            });
            Ok(changeable.collect())
        }
    }
}
