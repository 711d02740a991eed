//! One list and watch of a kind, kept as a map of small objects that many read.
//!
//! ```text
//! API ──list, watch──▶ Informer::run ──▶ Store ──┬──▶ Reader  (get, list, indexes)
//!                      (one task)        (a map) └──▶ Change  (a channel for each subscriber)
//! ```
//!
//! The map always is what the API once was: a list replaces it at once, and what subscribers hear of it is the
//! difference. What readers see is late by the time that a change travels; who needs to be sure asks the API.

mod index;
mod source;
mod store;

use std::{sync::Arc, time::Duration};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{Api, Resource};
use serde::de::DeserializeOwned;
use tokio::{sync::mpsc, time::Instant};
use tracing::{debug, info, warn};

pub use self::index::Index;
use self::{
    source::{Event, Source},
    store::Store,
};
use crate::{
    backoff::Backoff,
    call::{CallError, Class},
    key::ObjectKey,
};

/// A watch that ends sooner than this and without having told anything counts as failed.
const SHORT: Duration = Duration::from_secs(1);

/// Which objects, and how they are asked for.
#[derive(Clone, Debug)]
pub struct Config {
    /// A label selector, as in a query.
    pub labels: Option<String>,
    /// A field selector, as in a query.
    pub fields: Option<String>,
    /// Objects in a page of a list.
    pub page: u32,
    /// How long a watch lasts at most. The server ends it; it is begun again where it ended.
    pub watch: Duration,
    /// The delay after a first failure, and the longest one. A server that says how long to wait is obeyed.
    pub retry: (Duration, Duration),
}

impl Default for Config {
    fn default() -> Self {
        Self {
            labels: None,
            fields: None,
            page: 500,
            watch: Duration::from_secs(290),
            retry: (Duration::from_millis(200), Duration::from_secs(10)),
        }
    }
}

impl Config {
    /// Only the objects that this label selector selects.
    pub fn labels(mut self, selector: impl Into<String>) -> Self {
        self.labels = Some(selector.into());
        self
    }

    /// Only the objects that this field selector selects.
    pub fn fields(mut self, selector: impl Into<String>) -> Self {
        self.fields = Some(selector.into());
        self
    }
}

/// What became of an object.
#[derive(Debug)]
pub enum Change<T> {
    /// It is there.
    Added(Arc<T>),
    /// It was changed, perhaps several times.
    Updated {
        /// As it was heard of last.
        old: Arc<T>,
        /// As it is.
        new: Arc<T>,
    },
    /// It is gone. This is what it last was, as far as it is known.
    Deleted(Arc<T>),
}

impl<T> Change<T> {
    /// The object as it is now, or as it last was.
    pub fn object(&self) -> &Arc<T> {
        match self {
            Self::Added(object) | Self::Updated { new: object, .. } | Self::Deleted(object) => object,
        }
    }
}

impl<T> Clone for Change<T> {
    fn clone(&self) -> Self {
        match self {
            Self::Added(object) => Self::Added(object.clone()),
            Self::Deleted(object) => Self::Deleted(object.clone()),
            Self::Updated { old, new } => Self::Updated {
                old: old.clone(),
                new: new.clone(),
            },
        }
    }
}

/// Follows objects of a kind. It does so while [`run`](Self::run) is polled.
#[derive(Debug)]
pub struct Informer<T> {
    source: Source<T>,
    store: Arc<Store<T>>,
    retry: Backoff,
}

/// Reads what an [`Informer`] keeps. Cheap to clone.
#[derive(Debug)]
pub struct Reader<T> {
    store: Arc<Store<T>>,
}

impl<T> Clone for Reader<T> {
    fn clone(&self) -> Self {
        Self {
            store: self.store.clone(),
        }
    }
}

impl<T: Resource + DeserializeOwned + Send + Sync + 'static> Informer<T> {
    /// An informer of the objects that `api` and `config` select, and a reader of it.
    pub fn new(api: Api<T>, config: Config) -> (Self, Reader<T>) {
        let store = Arc::new(Store::default());
        let reader = Reader { store: store.clone() };
        let retry = Backoff::new(config.retry.0, config.retry.1);
        let source = Source::new(api, config);
        (Self { source, store, retry }, reader)
    }

    /// Lists and watches without end. Whatever goes wrong is tried again; the map meanwhile is what it last was.
    pub async fn run(mut self) {
        let mut version = None;
        let mut troubled = None;
        loop {
            let begun = Instant::now();
            let outcome = match version.take() {
                None => self.list().await.map(|listed| (listed, true)),
                Some(from) => self.watch(&mut version, from).await,
            };
            let error = match outcome {
                Ok((next, heard)) => {
                    version = Some(next);
                    if heard || begun.elapsed() >= SHORT {
                        if troubled.take().is_some() {
                            info!(resource = self.source.path(), "heard of again");
                        }
                        self.retry.succeeded();
                        continue;
                    }
                    None
                }
                Err(error) => Some(error),
            };
            let class = error.as_ref().map(CallError::class);
            if class == Some(Class::Gone) {
                version = None;
            }
            let asked = error.as_ref().and_then(CallError::retry_after).unwrap_or_default();
            let delay = self.retry.failed().max(asked);
            self.report(error.as_ref(), delay, class != troubled);
            troubled = class;
            tokio::time::sleep(delay).await;
        }
    }

    /// Replaces what is known. Gives the version that it was read at.
    async fn list(&mut self) -> Result<String, CallError> {
        let (objects, version) = self.source.list().await?;
        debug!(
            resource = self.source.path(),
            objects = objects.len(),
            version,
            "listed"
        );
        self.store.replace(objects);
        Ok(version)
    }

    /// Follows changes until the watch ends. `reached` is kept at the version up to which all was heard, so that
    /// what fails is continued from there.
    async fn watch(&mut self, reached: &mut Option<String>, from: String) -> Result<(String, bool), CallError> {
        let mut version = reached.insert(from);
        let mut heard = false;
        let mut watch = self.source.watch(version).await?;
        while let Some(event) = watch.next().await? {
            // A server that makes progress is well, whatever happened before.
            if !heard {
                heard = true;
                self.retry.succeeded();
            }
            let at = match event {
                Event::Applied(object) => {
                    let at = resource_version(object.meta());
                    self.store.apply(object);
                    at
                }
                Event::Deleted(object) => {
                    let at = resource_version(object.meta());
                    self.store.delete(object);
                    at
                }
                Event::Progress(at) => Some(at).filter(|at| !at.is_empty()),
            };
            if let Some(at) = at {
                version = reached.insert(at);
            }
        }
        Ok((version.clone(), heard))
    }

    fn report(&self, error: Option<&CallError>, delay: Duration, new: bool) {
        let resource = self.source.path();
        let reason = error.map_or_else(|| "the watch ended at once".to_owned(), chain);
        // A watch cut off is daily business, and an old version after a pause too.
        let ordinary = matches!(error.map(CallError::class), Some(Class::Gone));
        if new && !ordinary {
            warn!(resource, reason, ?delay, "not heard of: trying again");
        } else {
            debug!(resource, reason, ?delay, "not heard of: trying again");
        }
    }
}

impl<T: Resource + Send + Sync + 'static> Reader<T> {
    /// The object of this key, as far as it was heard of.
    pub fn get(&self, key: &ObjectKey) -> Option<Arc<T>> {
        self.store.get(key)
    }

    /// All objects, in no order.
    pub fn list(&self) -> Vec<Arc<T>> {
        self.with(|objects| objects.cloned().collect())
    }

    /// Looks at all objects without copying the list of them. Changes wait meanwhile: be short.
    pub fn with<R>(&self, look: impl FnOnce(&mut dyn Iterator<Item = &Arc<T>>) -> R) -> R {
        self.store.with(look)
    }

    /// How many objects there are.
    pub fn len(&self) -> usize {
        self.store.len()
    }

    /// Whether there is no object.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether the first list is complete.
    pub fn is_synced(&self) -> bool {
        self.store.is_synced()
    }

    /// Waits until the first list is complete. If the informer never runs or ends before, so does this never.
    pub async fn synced(&self) {
        self.store.synced().await;
    }

    /// A channel of what changes from now on, beginning with all that is there. It is unbounded: drain it.
    pub fn subscribe(&self) -> mpsc::UnboundedReceiver<Change<T>> {
        self.store.subscribe()
    }

    /// An index by the keys that `keys` names of each object: its node, its owner's UID, its namespace. It lasts as
    /// long as the informer, so make it once.
    pub fn index<K, I>(&self, keys: impl Fn(&T) -> I + Send + Sync + 'static) -> Index<T, K>
    where
        K: std::hash::Hash + Eq + Send + Sync + 'static,
        I: IntoIterator<Item = K>,
    {
        let index = Index::new(keys);
        self.store.attach(Box::new(index.clone()));
        index
    }
}

fn resource_version(meta: &ObjectMeta) -> Option<String> {
    meta.resource_version.clone().filter(|version| !version.is_empty())
}

/// What went wrong, and why.
fn chain(error: &CallError) -> String {
    let mut told = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        told = format!("{told}: {error}");
        source = error.source();
    }
    told
}

#[cfg(test)]
mod tests;
