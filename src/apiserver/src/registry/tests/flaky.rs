//! A store whose watches end again and again, as those over a network do: nothing may be lost by it.

use std::path::Path;

use async_trait::async_trait;
use bosun_store::{Error, KeyRange, KeyValue, Range, Result, Revision, Txn, Watch};
use parking_lot::Mutex;
use tokio::{sync::mpsc, task::JoinSet};

use super::*;

struct Flaky {
    below: Arc<Embedded>,
    forwarders: Mutex<JoinSet<()>>,
}

#[async_trait]
impl Store for Flaky {
    async fn commit(&self, txn: Txn) -> Result<Revision> {
        self.below.commit(txn).await
    }

    async fn range(&self, range: KeyRange, limit: usize, at: Option<Revision>) -> Result<Range> {
        self.below.range(range, limit, at).await
    }

    async fn get(&self, key: Bytes) -> Result<Option<KeyValue>> {
        self.below.get(key).await
    }

    async fn revision(&self) -> Result<Revision> {
        self.below.revision().await
    }

    async fn watch(&self, range: KeyRange, after: Revision) -> Result<Watch> {
        let mut below = self.below.watch(range, after).await?;
        let (tx, rx) = mpsc::channel(8);
        self.forwarders.lock().spawn(async move {
            for _ in 0..fastrand::usize(..4) {
                let Some(batch) = below.recv().await else { return };
                if tx.send(batch).await.is_err() {
                    return;
                }
            }
            // Whoever has gone does not hear it.
            let _gone = tx.send(Err(Error::Lagging)).await;
        });
        Ok(rx)
    }

    async fn nudge(&self) -> Result<()> {
        self.below.nudge().await
    }

    async fn compact(&self, before: Revision) -> Result<()> {
        self.below.compact(before).await
    }

    async fn snapshot(&self, path: &Path) -> Result<Revision> {
        self.below.snapshot(path).await
    }

    async fn health(&self) -> Result<bosun_store::Health> {
        self.below.health().await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn watches_of_the_store_that_end_lose_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let below = Embedded::open(embedded::Options::new(dir.path().join("store")))
        .await
        .unwrap();
    let store = Flaky {
        below,
        forwarders: Mutex::default(),
    };
    let world = World::on(Arc::new(store), dir, Config::default()).await;
    concurrent::run(world, 11).await;
}
