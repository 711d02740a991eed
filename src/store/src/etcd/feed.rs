//! Events of etcd as batches of whole revisions. etcd sends a revision in one answer unless asked for fragments, which it
//! is not: the client does not tell where they end.

use bytes::Bytes;
use etcd_client::{EventType, WatchResponse};

use super::{failure::translate, keys::Keys};
use crate::{Error, Event, KeyValue, Result, Revision, WatchBatch};

/// What a watch that was begun at revision `asked` got; `None`: nothing new.
pub(super) fn batch(
    keys: &Keys,
    asked: Revision,
    message: std::result::Result<Option<WatchResponse>, etcd_client::Error>,
) -> Result<Option<WatchBatch>> {
    let doing = "watching etcd";
    let response = match message {
        Ok(Some(response)) => response,
        Ok(None) => return Err(ended(asked, 0, "its connection ended")),
        Err(error) => return Err(translate(doing, &error).plain(doing)),
    };
    if response.canceled() {
        return Err(ended(asked, response.compact_revision(), response.cancel_reason()));
    }
    let changes = response.events().iter().filter_map(|event| {
        let kv = event.kv()?;
        Some(Change {
            deleted: event.event_type() == EventType::Delete,
            key: kv.key(),
            value: kv.value(),
            created: kv.create_revision(),
            modified: kv.mod_revision(),
        })
    });
    Ok(collect(keys, changes))
}

/// An event, of any key under the prefix.
struct Change<'a> {
    deleted: bool,
    key: &'a [u8],
    value: &'a [u8],
    created: i64,
    modified: i64,
}

/// The revision is that of the last event; the header's may be ahead of events that are still to come.
fn collect<'a>(keys: &Keys, changes: impl Iterator<Item = Change<'a>>) -> Option<WatchBatch> {
    let mut batch = WatchBatch {
        revision: Revision(0),
        events: Vec::new(),
    };
    for change in changes {
        let revision = Revision(change.modified as u64);
        batch.revision = batch.revision.max(revision);
        // What is not the callers' still tells how far etcd is.
        let Some(key) = keys.inner(change.key.to_vec()) else {
            continue;
        };
        batch.events.push(if change.deleted {
            Event::Delete { key, revision }
        } else {
            Event::Put {
                kv: KeyValue {
                    key,
                    value: Bytes::copy_from_slice(change.value),
                    created: Revision(change.created as u64),
                    modified: revision,
                },
            }
        });
    }
    (batch.revision > Revision(0)).then_some(batch)
}

fn ended(asked: Revision, compacted: i64, why: &str) -> Error {
    if compacted > 0 {
        let oldest = Revision(compacted as u64);
        return Error::Compacted { asked, oldest };
    }
    Error::Unavailable(format!("etcd ended a watch: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(key: &[u8], modified: i64) -> Change<'_> {
        Change {
            deleted: modified % 2 == 1,
            key,
            value: b"x",
            created: 1,
            modified,
        }
    }

    #[test]
    fn changes_become_a_batch_up_to_the_last_of_them() {
        let keys = Keys::new("p").unwrap();
        let batch = collect(&keys, [change(b"p/a", 4), change(b"p/b", 5)].into_iter()).unwrap();
        let put = KeyValue {
            key: Bytes::from_static(b"/a"),
            value: Bytes::from_static(b"x"),
            created: Revision(1),
            modified: Revision(4),
        };
        let delete = Event::Delete {
            key: Bytes::from_static(b"/b"),
            revision: Revision(5),
        };
        assert_eq!(batch.revision, Revision(5));
        assert_eq!(batch.events, [Event::Put { kv: put }, delete]);
        assert_eq!(collect(&keys, std::iter::empty()), None);
    }

    #[test]
    fn the_marker_tells_only_its_revision() {
        let keys = Keys::new("p").unwrap();
        let marker = keys.marker();
        let batch = collect(&keys, [change(&marker, 8)].into_iter()).unwrap();
        assert_eq!((batch.revision, batch.events), (Revision(8), vec![]));
    }

    #[test]
    fn an_ended_watch_says_why() {
        let compacted = Error::Compacted {
            asked: Revision(3),
            oldest: Revision(9),
        };
        assert_eq!(ended(Revision(3), 9, "compacted"), compacted);
        let other = Error::Unavailable("etcd ended a watch: no leader".to_owned());
        assert_eq!(ended(Revision(3), 0, "no leader"), other);
    }
}
