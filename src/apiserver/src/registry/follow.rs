//! Following a kind from within the process: what there is, then each change; begun anew by itself when it is cut off.

use std::sync::Arc;

use super::Registry;
use crate::{
    Status,
    cache::{Entry, Feed, Kind, Selection, Watch, WatchEvent, WatchOptions},
};

/// What a follower is told.
#[derive(Clone, Debug)]
pub enum Followed {
    /// Forget everything: it is told anew. The first event.
    Reset,
    /// An object is there, or has changed.
    Upsert(Arc<Entry>),
    /// An object is gone; as it was last.
    Delete(Arc<Entry>),
    /// All that is there has been told.
    Synced,
}

/// A kind that is followed. Objects come in the version that is stored.
pub struct Follow {
    feed: Arc<Feed>,
    prefix: Arc<str>,
    watch: Option<Watch>,
}

impl Registry {
    /// Follows a resource. While it is not served, it has no objects.
    pub fn follow(&self, group: &str, plural: &str) -> Result<Follow, Status> {
        let table = self.table();
        let row = table
            .stored(group, plural)
            .ok_or_else(|| Status::not_found(group, plural, ""))?;
        Ok(Follow {
            feed: self.feed.clone(),
            prefix: row.prefix.clone(),
            watch: None,
        })
    }
}

impl Follow {
    /// The next event; there always is one, sometime.
    pub async fn next(&mut self) -> Followed {
        loop {
            let Some(watch) = &mut self.watch else {
                let options = WatchOptions {
                    mark_initial_end: true,
                    ..WatchOptions::default()
                };
                let cache = self.feed.served(&self.prefix).await;
                let watch = cache.watch(Selection::default(), options);
                self.watch = Some(watch.expect("a watch from now on needs nothing of the past"));
                return Followed::Reset;
            };
            match watch.next().await {
                Some(WatchEvent::Initial(entry)) => return Followed::Upsert(entry),
                Some(WatchEvent::Change(kind @ Kind::Deleted, change)) => {
                    return Followed::Delete(change.entry(kind).clone());
                }
                Some(WatchEvent::Change(kind, change)) => return Followed::Upsert(change.entry(kind).clone()),
                Some(WatchEvent::Bookmark { initial_end: true, .. }) => return Followed::Synced,
                Some(WatchEvent::Bookmark { .. }) => {}
                None => {
                    self.watch = None;
                    if self.feed.cache(&self.prefix).is_none() {
                        return Followed::Reset;
                    }
                }
            }
        }
    }
}
