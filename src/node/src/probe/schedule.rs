//! When a probe is due, and what its results amount to. Pure.

use std::time::Duration;

use bosun_api::core::Probe;
use tokio::time::Instant;

use super::{ProbeKind, ProbeVerdict};

/// The numbers of a probe, upstream's defaults where it says nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// Not before the container is this old.
    pub initial_delay: Duration,
    /// From one run's beginning to the next's.
    pub period: Duration,
    /// A run that takes longer failed.
    pub timeout: Duration,
    /// Successes in a row for success.
    pub successes: u32,
    /// Failures in a row for failure.
    pub failures: u32,
}

impl Timing {
    /// The timing of a probe.
    pub fn of(probe: &Probe) -> Self {
        let number = |field: Option<i32>, default: u32| {
            field
                .and_then(|number| u32::try_from(number).ok())
                .filter(|number| *number > 0)
                .unwrap_or(default)
        };
        let seconds = |field, default| Duration::from_secs(number(field, default).into());
        Self {
            initial_delay: seconds(probe.initial_delay_seconds, 0),
            period: seconds(probe.period_seconds, 10),
            timeout: seconds(probe.timeout_seconds, 1),
            successes: number(probe.success_threshold, 1),
            failures: number(probe.failure_threshold, 3),
        }
    }
}

/// When a probe first runs: when the container, now of this `age`, has its initial delay behind it.
///
/// `spread`, from 0 to 1, is given for a container that ran before the agent did: then many probes begin at one
/// instant, and each waits for its share of its period.
pub fn first_due(timing: Timing, now: Instant, age: Duration, spread: Option<f64>) -> Instant {
    let delay = timing.initial_delay.saturating_sub(age);
    let spread = spread.map_or(Duration::ZERO, |share| timing.period.mul_f64(share.clamp(0.0, 1.0)));
    now + delay.max(spread)
}

/// When a probe runs again that was due at `due` and has ended `now`: at once if it took longer than its period.
pub fn next_due(timing: Timing, due: Instant, now: Instant) -> Instant {
    (due + timing.period).max(now)
}

/// The results of one probe, counted.
#[derive(Clone, Copy, Debug)]
pub struct Tally {
    kind: ProbeKind,
    successes: u32,
    failures: u32,
    verdict: Option<ProbeVerdict>,
    last: ProbeVerdict,
    in_a_row: u32,
}

impl Tally {
    /// Nothing counted yet; `verdict` is what holds until then.
    pub fn new(kind: ProbeKind, timing: Timing, verdict: Option<ProbeVerdict>) -> Self {
        let Timing {
            successes, failures, ..
        } = timing;
        Self {
            kind,
            successes,
            failures,
            verdict,
            last: ProbeVerdict::Success,
            in_a_row: 0,
        }
    }

    /// Counts one result; returns the verdict when it is news.
    pub fn count(&mut self, result: ProbeVerdict) -> Option<ProbeVerdict> {
        if result != self.last {
            self.in_a_row = 0;
        }
        self.last = result;
        self.in_a_row = self.in_a_row.saturating_add(1);
        let threshold = match result {
            ProbeVerdict::Success => self.successes,
            ProbeVerdict::Failure => self.failures,
        };
        if self.in_a_row < threshold || self.verdict == Some(result) {
            return None;
        }
        self.verdict = Some(result);
        Some(result)
    }

    /// Whether this verdict ends the container, and with it the probing.
    pub fn gives_up(&self, verdict: ProbeVerdict) -> bool {
        verdict == ProbeVerdict::Failure && self.kind != ProbeKind::Readiness
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn timing(successes: u32, failures: u32) -> Timing {
        let second = Duration::from_secs(1);
        Timing {
            initial_delay: 5 * second,
            period: 10 * second,
            timeout: second,
            successes,
            failures,
        }
    }

    /// Results as `+` and `-`; verdicts as the same, `.` where there is no news.
    fn told(kind: ProbeKind, timing: Timing, verdict: Option<ProbeVerdict>, results: &str) -> String {
        let mut tally = Tally::new(kind, timing, verdict);
        let result = |sign| {
            if sign == '+' {
                ProbeVerdict::Success
            } else {
                ProbeVerdict::Failure
            }
        };
        results
            .chars()
            .map(|sign| match tally.count(result(sign)) {
                None => '.',
                Some(ProbeVerdict::Success) => '+',
                Some(ProbeVerdict::Failure) => '-',
            })
            .collect()
    }

    #[test]
    fn verdicts_change_when_a_threshold_is_reached_in_a_row() {
        use ProbeKind::{Liveness, Readiness, Startup};
        let (good, bad) = (Some(ProbeVerdict::Success), Some(ProbeVerdict::Failure));
        for (kind, thresholds, verdict, results, expected) in [
            (Readiness, (1, 3), bad, "+", "+"),
            (Readiness, (1, 3), bad, "---", "..."),
            (Readiness, (1, 3), bad, "+--+---+", "+.....-+"),
            (Readiness, (2, 1), bad, "+-++-", "...+-"),
            (Readiness, (1, 3), good, "++", ".."),
            (Readiness, (1, 3), good, "---", "..-"),
            (Liveness, (1, 3), good, "+++--+---", "........-"),
            (Liveness, (1, 1), good, "-", "-"),
            (Startup, (1, 3), None, "--+", "..+"),
            (Startup, (1, 3), None, "---", "..-"),
        ] {
            let timing = timing(thresholds.0, thresholds.1);
            assert_eq!(
                told(kind, timing, verdict, results),
                expected,
                "{kind} {thresholds:?} {verdict:?} {results}"
            );
        }
    }

    #[test]
    fn only_liveness_and_startup_failures_end_a_container() {
        for (kind, ends) in [
            (ProbeKind::Liveness, true),
            (ProbeKind::Startup, true),
            (ProbeKind::Readiness, false),
        ] {
            let tally = Tally::new(kind, timing(1, 1), None);
            assert_eq!(tally.gives_up(ProbeVerdict::Failure), ends);
            assert!(!tally.gives_up(ProbeVerdict::Success));
        }
    }

    #[test]
    fn the_first_run_waits_for_the_initial_delay_and_for_its_share() {
        let now = Instant::now();
        let seconds = Duration::from_secs_f64;
        for (age, spread, expected) in [
            (0.0, None, 5.0),
            (2.0, None, 3.0),
            (60.0, None, 0.0),
            (60.0, Some(0.25), 2.5),
            (60.0, Some(0.0), 0.0),
            (0.0, Some(0.25), 5.0),
            (4.0, Some(0.9), 9.0),
        ] {
            let due = first_due(timing(1, 1), now, seconds(age), spread);
            assert_eq!(due - now, seconds(expected), "age {age}, spread {spread:?}");
        }
    }

    #[test]
    fn runs_keep_their_beat_unless_one_takes_longer_than_the_period() {
        let due = Instant::now();
        let seconds = Duration::from_secs;
        for (took, expected) in [(0, 10), (9, 10), (10, 10), (12, 12), (35, 35)] {
            assert_eq!(
                next_due(timing(1, 1), due, due + seconds(took)) - due,
                seconds(expected),
                "took {took} s"
            );
        }
    }

    #[test]
    fn numbers_that_are_missing_or_make_no_sense_are_upstreams_defaults() {
        let default = Timing {
            initial_delay: Duration::ZERO,
            period: Duration::from_secs(10),
            timeout: Duration::from_secs(1),
            successes: 1,
            failures: 3,
        };
        assert_eq!(Timing::of(&Probe::default()), default);
        let odd = Probe {
            period_seconds: Some(0),
            timeout_seconds: Some(-1),
            ..Probe::default()
        };
        assert_eq!(Timing::of(&odd), default);
    }

    proptest! {
        #[test]
        fn no_verdict_is_told_twice(results in "[+-]{0,60}", successes in 1u32..4, failures in 1u32..4) {
            let told = told(ProbeKind::Readiness, timing(successes, failures), None, &results).replace('.', "");
            prop_assert!(!told.contains("++") && !told.contains("--"), "{}", told);
        }

        #[test]
        fn the_first_run_is_never_before_the_delay_nor_later_than_delay_or_period(age in 0u64..100, share in 0.0f64..1.0) {
            let (now, timing) = (Instant::now(), timing(1, 1));
            let age = Duration::from_secs(age);
            let due = first_due(timing, now, age, Some(share)) - now;
            prop_assert!(due + age >= timing.initial_delay);
            prop_assert!(due <= timing.initial_delay.max(timing.period));
        }
    }
}
