//! Which history is given up, and when: pure.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use crate::Revision;

/// How much history is kept. It lets watches and reads begin at earlier revisions; who asks for what is gone reads anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// At most so long. 5 minutes, as Kubernetes has etcd do it.
    pub age: Duration,
    /// At most so many revisions.
    pub revisions: u64,
    /// Once so old, at most as many bytes as the present keys and values have, so that the store stays within a small
    /// multiple of them; and none while the store is full.
    pub settle: Duration,
}

impl Default for Retention {
    fn default() -> Self {
        Self {
            age: Duration::from_mins(5),
            revisions: 10_000,
            settle: Duration::from_secs(10),
        }
    }
}

/// Between two marks.
const GRAIN: Duration = Duration::from_secs(1);

/// When which revision was the latest, about.
#[derive(Debug, Default)]
pub(super) struct Marks(VecDeque<(Instant, Revision)>);

impl Marks {
    /// Takes down that `latest` is the latest at `now`.
    pub(super) fn add(&mut self, now: Instant, latest: Revision) {
        if self.0.back().is_some_and(|(_, marked)| *marked == latest) {
            return;
        }
        // The last mark stands for all that came within a second before it.
        let before = self.0.iter().nth_back(1);
        if before.is_some_and(|(at, _)| now.duration_since(*at) < GRAIN) {
            self.0.pop_back();
        }
        self.0.push_back((now, latest));
    }

    /// Forgets what no longer counts.
    pub(super) fn forget(&mut self, compacted: Revision) {
        while self.0.front().is_some_and(|(_, revision)| *revision <= compacted) {
            self.0.pop_front();
        }
    }

    /// The latest revision that is at least so old.
    fn older(&self, now: Instant, age: Duration) -> Revision {
        let old = self.0.iter().rev().find(|(at, _)| now.duration_since(*at) >= age);
        old.map_or(Revision(0), |(_, revision)| *revision)
    }

    /// When the first mark will be so old.
    fn due(&self, age: Duration) -> Option<Instant> {
        self.0.front().map(|(at, _)| *at + age)
    }
}

/// What there is to decide on.
#[derive(Clone, Copy, Debug)]
pub(super) struct State {
    pub(super) latest: Revision,
    pub(super) compacted: Revision,
    pub(super) live_bytes: i64,
    pub(super) superseded_bytes: i64,
    /// Whether writes fail for want of space.
    pub(super) full: bool,
}

impl State {
    fn oversized(&self) -> bool {
        self.full || self.superseded_bytes > self.live_bytes
    }
}

impl Retention {
    /// Up to which revision history can go now. It goes in steps, after each of which this is asked again.
    pub(super) fn target(&self, now: Instant, marks: &Marks, state: State) -> Revision {
        let many = Revision(state.latest.0.saturating_sub(self.revisions));
        let old = marks.older(now, self.age);
        let large = if state.oversized() {
            marks.older(now, self.settle)
        } else {
            Revision(0)
        };
        many.max(old).max(large).max(state.compacted)
    }

    /// When to look again, if nothing else happens before.
    pub(super) fn due(&self, marks: &Marks, state: State) -> Option<Instant> {
        let age = if state.oversized() {
            self.settle.min(self.age)
        } else {
            self.age
        };
        marks.due(age)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEPT: Retention = Retention {
        age: Duration::from_secs(300),
        revisions: 1000,
        settle: Duration::from_secs(10),
    };

    fn marks(start: Instant) -> Marks {
        let mut marks = Marks::default();
        for second in 0..100 {
            marks.add(start + Duration::from_secs(second), Revision(10 * (second + 1)));
        }
        marks
    }

    #[test]
    fn history_goes_by_age_number_and_size() {
        let start = Instant::now();
        let marks = marks(start);
        let state = State {
            latest: Revision(1000),
            compacted: Revision(5),
            live_bytes: 100,
            superseded_bytes: 100,
            full: false,
        };
        let full = State { full: true, ..state };
        let large = State {
            superseded_bytes: 101,
            ..state
        };
        let many = State {
            latest: Revision(1500),
            ..state
        };
        let table = [
            ("nothing is due", 100, state, 5),
            ("what is too old", 320, state, 210),
            ("more than are kept", 100, many, 500),
            ("more bytes than live ones, once settled", 50, large, 410),
            ("more bytes than live ones, but all young", 9, large, 5),
            ("whatever can go, as the store is full", 50, full, 410),
        ];
        for (name, second, state, expected) in table {
            let target = KEPT.target(start + Duration::from_secs(second), &marks, state);
            assert_eq!(target, Revision(expected), "{name}");
        }
    }

    #[test]
    fn the_next_look_is_when_the_oldest_becomes_too_old() {
        let start = Instant::now();
        let mut marks = marks(start);
        let state = State {
            latest: Revision(1000),
            compacted: Revision(0),
            live_bytes: 1,
            superseded_bytes: 0,
            full: false,
        };
        assert_eq!(KEPT.due(&marks, state), Some(start + KEPT.age));
        let large = State {
            superseded_bytes: 2,
            ..state
        };
        assert_eq!(KEPT.due(&marks, large), Some(start + KEPT.settle));
        marks.forget(Revision(1000));
        assert_eq!(KEPT.due(&marks, state), None);
    }

    #[test]
    fn marks_stay_few_however_many_revisions_come() {
        let start = Instant::now();
        let mut marks = Marks::default();
        for milli in 0..10_000 {
            marks.add(start + Duration::from_millis(milli), Revision(milli + 1));
        }
        assert!(marks.0.len() <= 12, "{} marks", marks.0.len());
        assert_eq!(marks.0.back().map(|(_, revision)| *revision), Some(Revision(10_000)));
    }
}
