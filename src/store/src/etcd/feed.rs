//! The tasks that follow etcd: everything under the prefix for all watchers, and the past for those that begin there.

use std::{sync::Arc, time::Duration};

use etcd_client::WatchStream;
use tokio::time;

use super::{core::Core, events};
use crate::{Error, KeyRange, Result, Revision, WatchBatch, hub};

/// After a failure of the feed.
const RETRY: Duration = Duration::from_secs(1);

impl Core {
    /// A revision, and everything after it.
    pub(super) async fn feed_start(&self) -> Result<(Revision, WatchStream)> {
        let start = self.mark().await?;
        let stream = self.stream(Revision(start.0 + 1)).await?;
        let why = Error::Unavailable("the watch of etcd began anew".to_owned());
        self.hub.reset(start, &why);
        self.fed.send_replace(Some(start));
        Ok((start, stream))
    }

    pub(super) async fn feed(self: Arc<Self>, mut start: Revision, mut stream: WatchStream) {
        loop {
            let error = self.follow(start, &mut stream).await;
            tracing::warn!(%error, "the watch of etcd has ended");
            self.fed.send_replace(None);
            self.hub.reset(self.hub.published(), &error);
            self.trouble(&error);
            (start, stream) = loop {
                time::sleep(RETRY).await;
                match self.feed_start().await {
                    Ok(begun) => break begun,
                    Err(error) => self.trouble(&error),
                }
            };
            self.vitals.lock().trouble = None;
        }
    }

    /// Hands on what etcd tells until it fails.
    pub(super) async fn follow(&self, start: Revision, stream: &mut WatchStream) -> Error {
        let mut progress = None;
        loop {
            let due = async {
                match progress {
                    Some(due) => time::sleep_until(due).await,
                    None => std::future::pending().await,
                }
            };
            let batch = tokio::select! {
                message = stream.message() => events::batch(&self.keys, start, message),
                () = due => {
                    self.hub.progress();
                    progress = None;
                    Ok(None)
                }
            };
            match batch {
                Ok(Some(batch)) => {
                    self.hub.publish(batch.revision, batch.events);
                    self.fed.send_replace(Some(batch.revision));
                }
                Ok(None) => {}
                Err(error) => return error,
            }
            if progress.is_none() && self.hub.behind() {
                progress = Some(time::Instant::now() + self.options.progress);
            }
        }
    }

    /// Brings a watch that begins in the past up to where the hub goes on.
    pub(super) async fn catch_up(
        self: Arc<Self>,
        range: KeyRange,
        mut after: Revision,
        mut stream: WatchStream,
        queue: hub::Sender,
    ) {
        let from = after;
        loop {
            // Two places: for this, and for the error that may end the watch. Nobody else puts anything in.
            let Ok(()) = queue.reserve_many(2).await.map(drop) else {
                return;
            };
            if self.hub.join(&range, after, &queue, true) {
                return;
            }
            let message = tokio::select! {
                message = stream.message() => message,
                () = queue.closed() => return,
            };
            match events::batch(&self.keys, from, message) {
                Ok(None) => {}
                Ok(Some(WatchBatch { revision, mut events })) => {
                    after = after.max(revision);
                    events.retain(|event| event.revision() > from && range.contains(event.key()));
                    if !events.is_empty() {
                        let _sent = queue.try_send(Ok(WatchBatch { revision, events }));
                    }
                }
                Err(error) => {
                    let _ended = queue.try_send(Err(error));
                    return;
                }
            }
        }
    }

    /// Has etcd forget what is older than the settings say. Every server that shares it may do so: none asks for less
    /// than the others keep.
    pub(super) async fn compaction(self: Arc<Self>) {
        let Some(history) = self.options.history else { return };
        let mut before = None;
        loop {
            time::sleep(history).await;
            if let Some(before) = before
                && let Err(error) = self.compact(before).await
            {
                tracing::warn!(%error, "etcd's history was not compacted");
            }
            before = self.latest().await.ok();
        }
    }
}
