//! How long the store takes.

use std::{path::Path, sync::Arc};

use async_trait::async_trait;
use bosun_store::{Health, KeyRange, KeyValue, Range, Result, Revision, Store, Txn, Watch};
use bytes::Bytes;
use tokio::time::Instant;

use super::Metrics;

/// A store whose calls are timed, as upstream times those of etcd.
pub struct Timed {
    store: Arc<dyn Store>,
    metrics: Metrics,
}

impl Timed {
    /// Times `store`'s calls.
    pub fn new(store: Arc<dyn Store>, metrics: Metrics) -> Self {
        Self { store, metrics }
    }

    async fn timed<T>(&self, operation: &'static str, call: impl Future<Output = Result<T>>) -> Result<T> {
        let started = Instant::now();
        let outcome = call.await;
        self.metrics.store_call(operation, started.elapsed(), outcome.is_err());
        outcome
    }
}

#[async_trait]
impl Store for Timed {
    async fn commit(&self, txn: Txn) -> Result<Revision> {
        self.timed("commit", self.store.commit(txn)).await
    }

    async fn range(&self, range: KeyRange, limit: usize, at: Option<Revision>) -> Result<Range> {
        self.timed("list", self.store.range(range, limit, at)).await
    }

    async fn get(&self, key: Bytes) -> Result<Option<KeyValue>> {
        self.timed("get", self.store.get(key)).await
    }

    async fn revision(&self) -> Result<Revision> {
        self.timed("revision", self.store.revision()).await
    }

    async fn watch(&self, range: KeyRange, after: Revision) -> Result<Watch> {
        self.timed("watch", self.store.watch(range, after)).await
    }

    async fn nudge(&self) -> Result<()> {
        self.timed("nudge", self.store.nudge()).await
    }

    async fn compact(&self, before: Revision) -> Result<()> {
        self.timed("compact", self.store.compact(before)).await
    }

    async fn snapshot(&self, path: &Path) -> Result<Revision> {
        self.timed("snapshot", self.store.snapshot(path)).await
    }

    async fn health(&self) -> Result<Health> {
        self.store.health().await
    }
}
