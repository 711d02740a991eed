//! How long to wait before trying again: longer each time, never in step with others.

use std::time::Duration;

/// Exponential back-off with jitter.
#[derive(Clone, Debug)]
pub struct Backoff {
    first: Duration,
    most: Duration,
    failures: u32,
}

impl Backoff {
    /// Waits about `first` after the first failure, twice as long after each further one, and never longer than `most`.
    pub fn new(first: Duration, most: Duration) -> Self {
        Self {
            first,
            most,
            failures: 0,
        }
    }

    /// How long to wait after one more failure: between half and all of what the number of failures amounts to.
    pub fn failed(&mut self) -> Duration {
        let full = exponential(self.first, self.most, self.failures);
        self.failures = self.failures.saturating_add(1);
        full.mul_f64(0.5 + fastrand::f64() / 2.0)
    }

    /// After a success the next failure counts as the first.
    pub fn succeeded(&mut self) {
        self.failures = 0;
    }
}

/// `first` doubled `times` times, and at most `most`.
pub fn exponential(first: Duration, most: Duration, times: u32) -> Duration {
    1_u32
        .checked_shl(times)
        .and_then(|factor| first.checked_mul(factor))
        .map_or(most, |delay| delay.min(most))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_most() {
        let (first, most) = (Duration::from_millis(5), Duration::from_secs(1000));
        for (times, expected) in [
            (0, 5),
            (1, 10),
            (2, 20),
            (17, 655_360),
            (18, 1_000_000),
            (31, 1_000_000),
            (99, 1_000_000),
        ] {
            assert_eq!(
                exponential(first, most, times),
                Duration::from_millis(expected),
                "{times}"
            );
        }
    }

    #[test]
    fn waits_at_least_half_of_the_delay_and_begins_anew_after_a_success() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1));
        for full in [100, 200, 400, 800, 1000, 1000] {
            let delay = backoff.failed();
            assert!((Duration::from_millis(full / 2)..=Duration::from_millis(full)).contains(&delay));
        }
        backoff.succeeded();
        assert!(backoff.failed() <= Duration::from_millis(100));
    }
}
