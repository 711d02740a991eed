//! Restart back-off of a container: 10 s, doubling to the node's maximum, forgotten after a quiet while. Pure.
//!
//! The first restart is immediate; from then on a restart waits until the delay since the last exit has passed
//! (upstream's `CrashLoopBackOff`; KEP-4603 and KEP-5593 for the node's maximum).

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

/// How far apart restarts are on this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Delay before the second restart.
    pub initial: Duration,
    /// The longest delay.
    pub max: Duration,
}

impl Limits {
    /// Upstream's 10 s, or the maximum if that is less.
    pub fn with_max(max: Duration) -> Self {
        Self {
            initial: Duration::from_secs(10).min(max),
            max,
        }
    }
}

/// How long the next restart of one container waits after its exit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backoff {
    /// Delay from the exit to the restart.
    pub delay: Duration,
    /// When the delay was set: at the last restart.
    pub since: Timestamp,
}

impl Backoff {
    /// The delay to hold after a restart at `now`, given the one before.
    pub fn after_restart(previous: Option<Self>, limits: Limits, now: Timestamp) -> Self {
        let delay = match previous {
            Some(previous) if !previous.is_forgotten(limits, now) => (previous.delay * 2).min(limits.max),
            _ => limits.initial,
        };
        Self { delay, since: now }
    }

    /// When a container that ended at `finished_at` may start again; `None` if it may at once.
    pub fn holds_until(self, finished_at: Timestamp, limits: Limits, now: Timestamp) -> Option<Timestamp> {
        let until = finished_at.saturating_add(self.delay).unwrap_or(Timestamp::MAX);
        (!self.is_forgotten(limits, now) && until > now).then_some(until)
    }

    fn is_forgotten(self, limits: Limits, now: Timestamp) -> bool {
        let quiet = SignedDuration::try_from(limits.max * 2).unwrap_or(SignedDuration::MAX);
        now.duration_since(self.since) > quiet
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        initial: Duration::from_secs(10),
        max: Duration::from_secs(300),
    };

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn delays_double_to_the_maximum() {
        let mut backoff = None;
        let mut delays = vec![];
        for restart in 0..8 {
            let next = Backoff::after_restart(backoff, LIMITS, at(restart * 300));
            delays.push(next.delay.as_secs());
            backoff = Some(next);
        }
        assert_eq!(delays, [10, 20, 40, 80, 160, 300, 300, 300]);
    }

    #[test]
    fn a_container_that_ran_quietly_for_twice_the_maximum_starts_afresh() {
        let old = Backoff {
            delay: Duration::from_secs(300),
            since: at(0),
        };
        assert_eq!(old.holds_until(at(599), LIMITS, at(599)), Some(at(899)));
        assert_eq!(old.holds_until(at(601), LIMITS, at(601)), None);
        assert_eq!(Backoff::after_restart(Some(old), LIMITS, at(601)).delay, LIMITS.initial);
    }

    #[test]
    fn the_delay_counts_from_the_exit() {
        let backoff = Backoff {
            delay: Duration::from_secs(10),
            since: at(100),
        };
        assert_eq!(backoff.holds_until(at(103), LIMITS, at(105)), Some(at(113)));
        assert_eq!(backoff.holds_until(at(103), LIMITS, at(113)), None);
    }

    #[test]
    fn a_node_may_ask_for_a_smaller_maximum_than_the_first_delay() {
        let limits = Limits::with_max(Duration::from_secs(1));
        let backoff = Backoff::after_restart(None, limits, at(0));
        assert_eq!(backoff.delay, Duration::from_secs(1));
        assert_eq!(
            Backoff::after_restart(Some(backoff), limits, at(1)).delay,
            Duration::from_secs(1)
        );
    }
}
