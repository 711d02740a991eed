//! How fast nodes may lose their pods, by how many of their zone are ill. Pure but for the clock passed in.
//!
//! When many nodes seem ill at once it is more likely that the network, or this program, is.

use std::collections::HashMap;

use tokio::time::Instant;

/// Nodes in a second, where most are ill and there are many.
const SECONDARY_RATE: f64 = 0.01;
/// A zone is ill from this part of ill nodes on.
const UNHEALTHY: f64 = 0.55;
/// A cluster is large from so many nodes on.
const LARGE: usize = 50;

/// How many nodes of a zone are ready, and how many aren't.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Zone {
    pub(super) ready: usize,
    pub(super) ill: usize,
}

impl Zone {
    fn is_lost(self) -> bool {
        self.ready == 0 && self.ill > 0
    }

    /// Nodes of the zone in a second that may lose their pods. `all_lost` tells that no zone has a ready node.
    pub(super) fn rate(self, usual: f64, all_lost: bool) -> f64 {
        let all = self.ready + self.ill;
        if all_lost {
            0.0
        } else if self.is_lost() {
            usual
        } else if self.ill > 2 && self.ill as f64 / all as f64 >= UNHEALTHY {
            if all > LARGE { SECONDARY_RATE } else { 0.0 }
        } else {
            usual
        }
    }
}

/// Whether no zone has a ready node.
pub(super) fn all_lost<'a>(zones: impl IntoIterator<Item = &'a Zone>) -> bool {
    zones.into_iter().all(|zone| zone.ready == 0)
}

/// Gives out turns, so many in a second for each zone; the first at once.
#[derive(Debug, Default)]
pub(super) struct Turns(HashMap<String, Instant>);

impl Turns {
    /// Whether it is a zone's turn now. If it is, it has been.
    pub(super) fn take(&mut self, zone: &str, rate: f64, now: Instant) -> bool {
        if rate <= 0.0 {
            return false;
        }
        let due = self
            .0
            .get(zone)
            .is_none_or(|last| now.duration_since(*last).as_secs_f64() >= 1.0 / rate);
        if due {
            self.0.insert(zone.to_owned(), now);
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_more_nodes_are_ill_the_slower_pods_are_moved() {
        for (ready, ill, all_lost, expected) in [
            (3, 0, false, 0.1),
            (2, 1, false, 0.1),
            // Two of three: small numbers say little.
            (1, 2, false, 0.1),
            (2, 3, false, 0.0),
            (40, 60, false, 0.01),
            (60, 40, false, 0.1),
            // A zone without any, while others are well.
            (0, 5, false, 0.1),
            // Nobody is heard: it is this program that is cut off.
            (0, 1, true, 0.0),
        ] {
            let zone = Zone { ready, ill };
            assert!((zone.rate(0.1, all_lost) - expected).abs() < 1e-9, "{zone:?}");
        }
        assert!(all_lost(&[Zone { ready: 0, ill: 2 }]));
        assert!(!all_lost(&[Zone { ready: 0, ill: 2 }, Zone { ready: 1, ill: 0 }]));
    }

    #[test]
    fn turns_are_given_at_the_rate_and_the_first_at_once() {
        let (mut turns, now) = (Turns::default(), Instant::now());
        let after = |seconds: u64| now + Duration::from_secs(seconds);
        assert!(turns.take("a", 0.1, now));
        assert!(!turns.take("a", 0.1, after(9)));
        assert!(turns.take("b", 0.1, after(9)));
        assert!(turns.take("a", 0.1, after(10)));
        assert!(!turns.take("c", 0.0, after(10)));
    }
}
