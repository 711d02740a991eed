//! The pod's life, as one machine.
//!
//! ```text
//!             Observed            Completed                Stopped
//!  Pending ─────────────▶ Syncing ─────────▶ Terminating ───────────▶ Terminated ─────▶ Gone
//!     │                      │    Remove        ▲  │ Remove: the deadline only     │ Removed and
//!     │                      └──────────────────┘  └ ever comes nearer             │ CleanedUp
//!     └───────────────────────── Remove ─────────▶ Terminating                     ▼
//! ```
//!
//! A pod never goes back: what was torn down does not start again. Pure.

use std::time::Duration;

use jiff::Timestamp;

/// Why a pod is being torn down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Its containers ended and its restart policy leaves it at that. Its status stays until it is removed.
    Completed,
    /// It is no longer wanted: its manifest is gone or was replaced, or it never was ours to run.
    Removed,
}

/// Where a pod is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Accepted; what the runtime has of it is not known yet.
    Pending,
    /// Kept at its desired state.
    Syncing,
    /// Its containers are being stopped.
    Terminating {
        /// When what still runs is killed.
        deadline: Timestamp,
        /// Why it ends.
        why: Why,
    },
    /// Nothing of it runs any more.
    Terminated {
        /// Why it ended.
        why: Why,
    },
    /// Nothing of it is left, in the runtime or on disk.
    Gone,
}

/// What moves a pod on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The runtime told what it has of this pod.
    Observed,
    /// All containers ended for good.
    Completed {
        /// Grace for what is left (sidecars).
        grace: Duration,
    },
    /// The pod is not wanted any more.
    Remove {
        /// Grace for its containers.
        grace: Duration,
    },
    /// The last container ended and the sandbox is stopped.
    Stopped,
    /// Sandbox, volumes, cgroup, logs and records are removed.
    CleanedUp,
}

/// Advances a pod. Events that mean nothing in a phase leave it as it is, so every event may be repeated.
pub fn step(phase: Phase, event: Event, now: Timestamp) -> Phase {
    let within = |grace: Duration| now.saturating_add(grace).unwrap_or(Timestamp::MAX);
    match (phase, event) {
        (Phase::Pending, Event::Observed) => Phase::Syncing,
        // A pod that had completed before this agent began is only looked after.
        (Phase::Pending | Phase::Syncing, Event::Completed { grace }) => Phase::Terminating {
            deadline: within(grace),
            why: Why::Completed,
        },
        (Phase::Pending | Phase::Syncing, Event::Remove { grace }) => Phase::Terminating {
            deadline: within(grace),
            why: Why::Removed,
        },
        (Phase::Terminating { deadline, .. }, Event::Remove { grace }) => Phase::Terminating {
            deadline: deadline.min(within(grace)),
            why: Why::Removed,
        },
        (Phase::Terminating { why, .. }, Event::Stopped) => Phase::Terminated { why },
        (Phase::Terminated { .. }, Event::Remove { .. }) => Phase::Terminated { why: Why::Removed },
        (Phase::Terminated { why: Why::Removed }, Event::CleanedUp) => Phase::Gone,
        (phase, _) => phase,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRACE: Duration = Duration::from_secs(30);

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn terminating(deadline: i64, why: Why) -> Phase {
        Phase::Terminating {
            deadline: at(deadline),
            why,
        }
    }

    #[test]
    fn each_event_moves_a_pod_forward_or_not_at_all() {
        let remove = |seconds| Event::Remove {
            grace: Duration::from_secs(seconds),
        };
        let completed = Event::Completed { grace: GRACE };
        let removed = Phase::Terminated { why: Why::Removed };
        let finished = Phase::Terminated { why: Why::Completed };
        // (phase, event, expected), at second 100
        let table = [
            (Phase::Pending, Event::Observed, Phase::Syncing),
            (Phase::Pending, remove(30), terminating(130, Why::Removed)),
            (Phase::Pending, completed, terminating(130, Why::Completed)),
            (Phase::Pending, Event::Stopped, Phase::Pending),
            (Phase::Syncing, Event::Observed, Phase::Syncing),
            (Phase::Syncing, completed, terminating(130, Why::Completed)),
            (Phase::Syncing, remove(5), terminating(105, Why::Removed)),
            (
                terminating(130, Why::Removed),
                remove(5),
                terminating(105, Why::Removed),
            ),
            (
                terminating(105, Why::Removed),
                remove(30),
                terminating(105, Why::Removed),
            ),
            (
                terminating(130, Why::Completed),
                remove(60),
                terminating(130, Why::Removed),
            ),
            (
                terminating(130, Why::Removed),
                completed,
                terminating(130, Why::Removed),
            ),
            (terminating(130, Why::Removed), Event::Stopped, removed),
            (terminating(130, Why::Completed), Event::Stopped, finished),
            (finished, Event::CleanedUp, finished),
            (finished, remove(0), removed),
            (removed, Event::Observed, removed),
            (removed, Event::CleanedUp, Phase::Gone),
            (Phase::Gone, remove(0), Phase::Gone),
            (Phase::Gone, Event::Observed, Phase::Gone),
        ];
        for (phase, event, expected) in table {
            assert_eq!(step(phase, event, at(100)), expected, "{phase:?} on {event:?}");
        }
    }

    #[test]
    fn an_endless_grace_does_not_overflow() {
        let phase = step(Phase::Syncing, Event::Remove { grace: Duration::MAX }, at(100));
        assert_eq!(
            phase,
            Phase::Terminating {
                deadline: Timestamp::MAX,
                why: Why::Removed
            }
        );
    }
}
