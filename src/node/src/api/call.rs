//! One call of the control plane: its deadline, what its failure means, how long to wait for the next try.

use std::time::Duration;

use kube::core::Status;

/// No answer takes longer.
const DEADLINE: Duration = Duration::from_secs(10);

/// A call that failed.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The control plane said no.
    #[error("the control plane refused ({}): {}", .0.code, .0.message)]
    Refused(Box<Status>),
    /// It said nothing in time; it may have done what was asked.
    #[error("the control plane did not answer within {} s", DEADLINE.as_secs())]
    Silent,
    /// It can't be reached, or what it said can't be understood.
    #[error("the control plane can't be reached")]
    Unreachable(#[source] Box<kube::Error>),
}

impl CallError {
    fn code(&self) -> u16 {
        match self {
            Self::Refused(status) => status.code,
            Self::Silent | Self::Unreachable(_) => 0,
        }
    }

    /// The object is not there.
    pub fn is_not_found(&self) -> bool {
        self.code() == 404
    }

    /// The object is another than was meant, or changed since it was read; or one of its name is there already.
    pub fn is_conflict(&self) -> bool {
        self.code() == 409
    }

    /// How long the control plane asks to be left alone.
    pub fn retry_after(&self) -> Option<Duration> {
        let Self::Refused(status) = self else { return None };
        let seconds = status.details.as_ref()?.retry_after_seconds;
        (seconds > 0).then(|| Duration::from_secs(seconds.into()))
    }
}

/// Makes a call, for at most 10 s.
pub async fn call<T>(request: impl Future<Output = kube::Result<T>>) -> Result<T, CallError> {
    match tokio::time::timeout(DEADLINE, request).await {
        Err(_) => Err(CallError::Silent),
        Ok(Err(kube::Error::Api(status))) => Err(CallError::Refused(status)),
        Ok(Err(error)) => Err(CallError::Unreachable(Box::new(error))),
        Ok(Ok(answer)) => Ok(answer),
    }
}

/// Delays between tries: each twice the one before, up to a longest, and spread so that many nodes don't come at once.
#[derive(Clone, Debug)]
pub struct Delays {
    first: Duration,
    longest: Duration,
    next: Duration,
}

impl Delays {
    /// From `first` to `longest`.
    pub fn new(first: Duration, longest: Duration) -> Self {
        Self {
            first,
            longest,
            next: first,
        }
    }

    /// How long to wait after this failure.
    pub fn after(&mut self, error: &CallError) -> Duration {
        let delay = self.next.mul_f64(0.5 + fastrand::f64() / 2.0);
        self.next = (self.next * 2).min(self.longest);
        delay.max(error.retry_after().unwrap_or_default())
    }

    /// It worked: the next failure is a first one again.
    pub fn reset(&mut self) {
        self.next = self.first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(status: serde_json::Value) -> CallError {
        CallError::Refused(serde_json::from_value(status).unwrap())
    }

    #[test]
    fn delays_grow_to_the_longest_and_never_undercut_what_the_control_plane_asks() {
        let mut delays = Delays::new(Duration::from_millis(100), Duration::from_secs(1));
        let mut expected = 100;
        for _ in 0..8 {
            let delay = delays.after(&CallError::Silent).as_millis();
            assert!((expected / 2..=expected).contains(&delay), "{delay} {expected}");
            expected = (expected * 2).min(1000);
        }
        let busy = serde_json::json!({"code": 429, "details": {"retryAfterSeconds": 7}});
        assert_eq!(delays.after(&refused(busy)), Duration::from_secs(7));
        delays.reset();
        assert!(delays.after(&CallError::Silent) <= Duration::from_millis(100));
    }

    #[test]
    fn a_refusal_is_told_by_its_code() {
        assert!(refused(serde_json::json!({"code": 404})).is_not_found());
        assert!(refused(serde_json::json!({"code": 409})).is_conflict());
        assert!(!CallError::Silent.is_not_found());
    }
}
