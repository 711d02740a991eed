//! What a controller has done and not yet heard of.
//!
//! Informers tell late: a controller that made three pods and looks again at once would see none and make three more.
//! So it notes what it is about to do, and leaves a key alone until all of that was heard of. The rules are those of
//! upstream's `UIDTrackingControllerExpectations`; deletions are noted by UID, since one pod's end is told several times.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use bosun_client::ObjectKey;
use parking_lot::Mutex;
use tokio::time::Instant;

/// After this time something must have been lost: the key is looked at with what there is.
const PATIENCE: Duration = Duration::from_secs(300);

/// What is expected, by the key of the owner.
#[derive(Debug, Default)]
pub struct Expectations(Mutex<HashMap<ObjectKey, Expected>>);

#[derive(Debug)]
struct Expected {
    creations: usize,
    deletions: HashSet<String>,
    since: Instant,
}

impl Expectations {
    /// Whether everything expected was heard of, or too long ago.
    pub fn satisfied(&self, key: &ObjectKey) -> bool {
        self.0.lock().get(key).is_none_or(|expected| {
            (expected.creations == 0 && expected.deletions.is_empty()) || expected.since.elapsed() > PATIENCE
        })
    }

    /// Objects are about to be created and deleted. Replaces what was expected before: the caller looked whether that
    /// was satisfied.
    pub fn expect(&self, key: &ObjectKey, creations: usize, deletions: impl IntoIterator<Item = String>) {
        let expected = Expected {
            creations,
            deletions: deletions.into_iter().collect(),
            since: Instant::now(),
        };
        self.0.lock().insert(key.clone(), expected);
    }

    /// One creation was heard of, or failed.
    pub fn created(&self, key: &ObjectKey) {
        if let Some(expected) = self.0.lock().get_mut(key) {
            expected.creations = expected.creations.saturating_sub(1);
        }
    }

    /// Several creations won't be tried.
    pub fn not_created(&self, key: &ObjectKey, number: usize) {
        if let Some(expected) = self.0.lock().get_mut(key) {
            expected.creations = expected.creations.saturating_sub(number);
        }
    }

    /// The deletion of an object was heard of (its `deletionTimestamp` suffices), or failed.
    pub fn deleted(&self, key: &ObjectKey, uid: &str) {
        if let Some(expected) = self.0.lock().get_mut(key) {
            expected.deletions.remove(uid);
        }
    }

    /// The owner is gone.
    pub fn forget(&self, key: &ObjectKey) {
        self.0.lock().remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_key_is_left_alone_until_all_that_was_done_is_heard_of() {
        let (expectations, key) = (Expectations::default(), ObjectKey::new("default", "web"));
        assert!(expectations.satisfied(&key));
        expectations.expect(&key, 2, ["u".to_owned()]);
        expectations.created(&key);
        expectations.created(&key);
        assert!(!expectations.satisfied(&key));
        // Another's end, and one's own told twice.
        for uid in ["other", "u", "u"] {
            expectations.deleted(&key, uid);
        }
        assert!(expectations.satisfied(&key));
        // What nobody expected does no harm.
        expectations.created(&key);
        expectations.expect(&key, 3, []);
        expectations.not_created(&key, 2);
        assert!(!expectations.satisfied(&key));
        tokio::time::advance(PATIENCE + Duration::from_secs(1)).await;
        assert!(expectations.satisfied(&key));
        expectations.expect(&key, 1, []);
        expectations.forget(&key);
        assert!(expectations.satisfied(&key));
    }
}
