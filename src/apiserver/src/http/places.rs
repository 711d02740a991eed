//! Places among the requests in flight: so many in all, and no one has them all.
//!
//! A request takes a place before anything is done for it, and whoever it turns out to be claims it. A client that lets
//! its answers lie holds its places until its connection is cut; the share keeps the rest for everyone else.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::Arc,
};

use parking_lot::Mutex;
use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::observe::Raised;

/// The places for requests of one sort.
pub(super) struct Places {
    free: Arc<Semaphore>,
    claimed: Arc<Mutex<HashMap<Box<str>, usize>>>,
    /// The most that one user has at a time.
    share: usize,
    gauge: Gauge,
}

/// A request's place, until this is dropped.
pub(super) struct Place {
    _permit: OwnedSemaphorePermit,
    _count: Raised,
    claim: Option<Claim>,
}

struct Claim {
    claimed: Arc<Mutex<HashMap<Box<str>, usize>>>,
    user: Box<str>,
}

impl Places {
    /// So many, counted by `gauge` while they are taken.
    pub(super) fn new(number: usize, gauge: Gauge) -> Self {
        Self {
            free: Arc::new(Semaphore::new(number)),
            claimed: Arc::default(),
            share: number - number / 4,
            gauge,
        }
    }

    /// One that is free.
    pub(super) fn take(&self) -> Option<Place> {
        let permit = self.free.clone().try_acquire_owned().ok()?;
        Some(Place {
            _permit: permit,
            _count: Raised::new(self.gauge.clone()),
            claim: None,
        })
    }

    /// It is this user's; `false` if they have their share.
    pub(super) fn claim(&self, place: &mut Place, user: &str) -> bool {
        let mut claimed = self.claimed.lock();
        let count = claimed.entry(user.into()).or_default();
        if *count >= self.share {
            return false;
        }
        *count += 1;
        drop(claimed);
        place.claim = Some(Claim {
            claimed: self.claimed.clone(),
            user: user.into(),
        });
        true
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if let Entry::Occupied(mut count) = self.claimed.lock().entry(std::mem::take(&mut self.user)) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_user_leaves_a_quarter_to_the_others() {
        let gauge = Gauge::default();
        let places = Places::new(4, gauge.clone());
        let mut held = Vec::new();
        let mut ask = |user: &str| {
            let Some(mut place) = places.take() else { return false };
            let claimed = places.claim(&mut place, user);
            held.extend(claimed.then_some(place));
            claimed
        };
        for (user, expected) in [
            ("ann", true),
            ("ann", true),
            ("ann", true),
            ("ann", false),
            ("bob", true),
            ("bob", false),
            ("eve", false),
        ] {
            assert_eq!(ask(user), expected, "{user}");
        }
        assert_eq!(gauge.get(), 4);
        held.truncate(1);
        assert_eq!(gauge.get(), 1);
        assert_eq!(places.claimed.lock().len(), 1);
        held.clear();
        assert!(places.claimed.lock().is_empty());
    }
}
