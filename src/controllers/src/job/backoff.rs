//! How long to wait after failures: 10 s after the first, twice as long after each further one, at most 10 minutes. A
//! success ends the series.

use std::{sync::Arc, time::Duration};

use bosun_client::backoff::exponential;
use jiff::{SignedDuration, Timestamp};

use crate::workload::Pod;

const FIRST: Duration = Duration::from_secs(10);
const MOST: Duration = Duration::from_secs(600);

/// A series of failures without a success.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backoff {
    failures: u32,
    last: Option<Timestamp>,
}

impl Backoff {
    /// The series after these pods have ended.
    pub fn after(self, succeeded: &[&Arc<Pod>], failed: &[&Arc<Pod>]) -> Self {
        let success = succeeded.iter().map(|pod| pod.finished_at()).max();
        let failures = failed
            .iter()
            .map(|pod| pod.finished_at())
            .filter(|at| Some(*at) > success);
        let before = if success.is_some() { Self::default() } else { self };
        failures.fold(before, |series, at| Self {
            failures: series.failures + 1,
            last: series.last.max(Some(at)),
        })
    }

    /// The series after `failures`, of which the last was at that time.
    pub fn of(failures: u32, last: Timestamp) -> Self {
        Self {
            failures,
            last: Some(last),
        }
    }

    /// Until when to wait, if that is to come.
    pub fn until(self, now: Timestamp) -> Option<Timestamp> {
        let times = self.failures.checked_sub(1)?;
        let delay = SignedDuration::try_from(exponential(FIRST, MOST, times)).ok()?;
        self.last?.checked_add(delay).ok().filter(|until| *until > now)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::workload::testing::{at, pod};

    fn ended(time: &str) -> Arc<Pod> {
        let status =
            json!({"containerStatuses": [{"state": {"terminated": {"finishedAt": format!("2026-01-01T{time}Z")}}}]});
        pod("p", "job", &json!({"status": status}))
    }

    #[test]
    fn each_failure_doubles_the_wait() {
        let now = at("2026-01-01T12:00:00Z");
        for (failures, seconds) in [(1, 10), (2, 20), (3, 40), (6, 320), (7, 600), (100, 600)] {
            let until = Backoff::of(failures, now).until(now);
            assert_eq!(
                until,
                now.checked_add(SignedDuration::from_secs(seconds)).ok(),
                "{failures}"
            );
        }
        assert_eq!(Backoff::default().until(now), None);
        assert_eq!(Backoff::of(1, at("2026-01-01T11:59:50Z")).until(now), None);
    }

    #[test]
    fn a_success_ends_the_series_but_not_what_failed_after_it() {
        let (early, late) = (ended("11:00:00"), ended("11:30:00"));
        let series = Backoff::of(3, at("2026-01-01T10:00:00Z"));
        for (why, succeeded, failed, expected) in [
            ("nothing ended", vec![], vec![], series),
            (
                "one failed",
                vec![],
                vec![&late],
                Backoff::of(4, at("2026-01-01T11:30:00Z")),
            ),
            ("one succeeded", vec![&late], vec![], Backoff::default()),
            ("one failed before", vec![&late], vec![&early], Backoff::default()),
            (
                "one failed after",
                vec![&early],
                vec![&late],
                Backoff::of(1, at("2026-01-01T11:30:00Z")),
            ),
        ] {
            assert_eq!(series.after(&succeeded, &failed), expected, "{why}");
        }
    }
}
