//! Calls of the API: their deadline, what went wrong with one, and trying again.

use std::{error::Error as StdError, future::Future, time::Duration};

use http::StatusCode;
use kube::core::Status;

/// How long a call of one object may take, unless its caller knows better.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// A call that didn't do what it was made for.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// There was no answer in time. What was asked may have been done.
    #[error("no answer from the API within {0:?}")]
    Late(Duration),
    /// The API answered that it won't.
    #[error("{}", told(.0))]
    Api(Box<Status>),
    /// No answer could be had: no connection, or one that broke. What was asked may have been done.
    #[error("the API can't be reached")]
    Unreachable(#[source] Box<dyn StdError + Send + Sync>),
    /// The answer isn't what the API promises.
    #[error("the API's answer can't be read")]
    Unreadable(#[source] Box<dyn StdError + Send + Sync>),
    /// The request could not even be made.
    #[error("the request can't be made")]
    Request(#[source] Box<dyn StdError + Send + Sync>),
}

/// The kinds of failures among which a caller chooses what to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Somebody changed the object since it was read: read it again.
    Conflict,
    /// An object of the name is there.
    AlreadyExists,
    /// There is no such object, or the server doesn't know the kind.
    NotFound,
    /// The resource version or the continue token is too old: list again.
    Gone,
    /// Ask again, after the time that the server named.
    Throttled {
        /// `Retry-After`, or `details.retryAfterSeconds` of the status.
        after: Option<Duration>,
    },
    /// The credentials weren't accepted; they may be renewed meanwhile.
    Unauthorized,
    /// Not allowed, by authorization or admission.
    Forbidden,
    /// The object is not valid: trying again won't help.
    Invalid,
    /// The server, or the way to it, is ill for now.
    Unavailable,
    /// Anything else.
    Other,
}

impl CallError {
    /// What kind of failure it is.
    pub fn class(&self) -> Class {
        match self {
            Self::Late(_) | Self::Unreachable(_) => Class::Unavailable,
            Self::Unreadable(_) | Self::Request(_) => Class::Other,
            Self::Api(status) => class(status),
        }
    }

    /// Whether there is no such object.
    pub fn is_not_found(&self) -> bool {
        self.class() == Class::NotFound
    }

    /// Whether somebody changed the object meanwhile.
    pub fn is_conflict(&self) -> bool {
        self.class() == Class::Conflict
    }

    /// Whether an object of the name is there already.
    pub fn is_already_exists(&self) -> bool {
        self.class() == Class::AlreadyExists
    }

    /// Whether creation failed because the namespace is being deleted, so that it never will succeed.
    pub fn is_namespace_terminating(&self) -> bool {
        let Self::Api(status) = self else { return false };
        let causes = status.details.iter().flat_map(|details| &details.causes);
        causes.into_iter().any(|cause| cause.reason == "NamespaceTerminating")
    }

    /// How long the server asked to wait.
    pub fn retry_after(&self) -> Option<Duration> {
        match self.class() {
            Class::Throttled { after } => after,
            _ => None,
        }
    }
}

impl From<kube::Error> for CallError {
    fn from(error: kube::Error) -> Self {
        use kube::Error;
        match error {
            Error::Api(status) => Self::Api(status),
            Error::SerdeError(error) => Self::Unreadable(error.into()),
            Error::FromUtf8(error) => Self::Unreadable(error.into()),
            Error::BuildRequest(error) => Self::Request(error.into()),
            Error::HttpError(error) => Self::Request(error.into()),
            error => Self::Unreachable(error.into()),
        }
    }
}

/// What the server said. Some answers, as those of proxies, are without a message.
fn told(status: &Status) -> String {
    match (status.message.as_str(), status.reason.as_str()) {
        ("", "") => format!("the API answered {}", status.code),
        ("", reason) => format!("the API answered {} ({reason})", status.code),
        (message, _) => message.to_owned(),
    }
}

/// The reason counts where it is known, the code otherwise: not everything that answers is an API server.
fn class(status: &Status) -> Class {
    let details = status.details.as_ref();
    let after = details
        .map(|details| details.retry_after_seconds)
        .filter(|seconds| *seconds > 0);
    let after = after.map(|seconds| Duration::from_secs(u64::from(seconds)));
    match status.reason.as_str() {
        "Conflict" => return Class::Conflict,
        "AlreadyExists" => return Class::AlreadyExists,
        "NotFound" => return Class::NotFound,
        "Gone" | "Expired" => return Class::Gone,
        "TooManyRequests" | "ServerTimeout" => return Class::Throttled { after },
        "Unauthorized" => return Class::Unauthorized,
        "Forbidden" => return Class::Forbidden,
        "Invalid" => return Class::Invalid,
        _ => {}
    }
    match StatusCode::from_u16(status.code) {
        Ok(StatusCode::CONFLICT) => Class::Conflict,
        Ok(StatusCode::NOT_FOUND) => Class::NotFound,
        Ok(StatusCode::GONE) => Class::Gone,
        Ok(StatusCode::TOO_MANY_REQUESTS) => Class::Throttled { after },
        Ok(StatusCode::UNAUTHORIZED) => Class::Unauthorized,
        Ok(StatusCode::FORBIDDEN) => Class::Forbidden,
        Ok(StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY) => Class::Invalid,
        Ok(code) if code.is_server_error() && after.is_some() => Class::Throttled { after },
        Ok(code) if code.is_server_error() => Class::Unavailable,
        _ => Class::Other,
    }
}

/// Makes a call with the usual [deadline](DEADLINE).
pub async fn call<T>(request: impl Future<Output = kube::Result<T>>) -> Result<T, CallError> {
    call_within(DEADLINE, request).await
}

/// Makes a call that may take `limit`.
pub async fn call_within<T>(limit: Duration, request: impl Future<Output = kube::Result<T>>) -> Result<T, CallError> {
    match tokio::time::timeout(limit, request).await {
        Ok(outcome) => outcome.map_err(CallError::from),
        Err(_) => Err(CallError::Late(limit)),
    }
}

/// Reads an object, changes it and writes it back, as often as somebody else was faster, at most five times.
/// `attempt` must read the object anew each time.
pub async fn retry_on_conflict<T, F, Fut>(mut attempt: F) -> Result<T, CallError>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T, CallError>>,
{
    const ATTEMPTS: u32 = 5;
    let mut left = ATTEMPTS;
    loop {
        left -= 1;
        match attempt().await {
            Err(error) if error.is_conflict() && left > 0 => {
                tokio::time::sleep(Duration::from_millis(10 + fastrand::u64(..10))).await;
            }
            outcome => return outcome,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(code: u16, reason: &str) -> Status {
        Status::failure("told so", reason).with_code(code)
    }

    #[test]
    fn a_failure_is_classed_by_its_reason_and_else_by_its_code() {
        let table = [
            (409, "Conflict", Class::Conflict),
            (409, "AlreadyExists", Class::AlreadyExists),
            (409, "", Class::Conflict),
            (404, "NotFound", Class::NotFound),
            (404, "Failed to parse error data", Class::NotFound),
            (410, "Expired", Class::Gone),
            (410, "Gone", Class::Gone),
            (429, "Failed to parse error data", Class::Throttled { after: None }),
            (504, "ServerTimeout", Class::Throttled { after: None }),
            (401, "Unauthorized", Class::Unauthorized),
            (403, "Forbidden", Class::Forbidden),
            (422, "Invalid", Class::Invalid),
            (400, "BadRequest", Class::Invalid),
            (500, "InternalError", Class::Unavailable),
            (503, "", Class::Unavailable),
            (405, "MethodNotAllowed", Class::Other),
        ];
        for (code, reason, expected) in table {
            let error = CallError::from(kube::Error::Api(status(code, reason).boxed()));
            assert_eq!(error.class(), expected, "{code} {reason}");
            assert_eq!(error.to_string(), "told so");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_without_an_answer_ends_at_its_deadline() {
        let never = std::future::pending::<kube::Result<()>>();
        let error = call(never).await.expect_err("nobody answers");
        assert!(matches!(error, CallError::Late(DEADLINE)));
        assert_eq!(error.class(), Class::Unavailable);
    }

    #[tokio::test(start_paused = true)]
    async fn conflicts_are_tried_again_and_other_failures_are_not() {
        for (reason, code, expected) in [("Conflict", 409, 5), ("Forbidden", 403, 1)] {
            let mut attempts = 0;
            let outcome: Result<(), _> = retry_on_conflict(|| {
                attempts += 1;
                async move { Err(CallError::Api(status(code, reason).boxed())) }
            })
            .await;
            assert!(outcome.is_err());
            assert_eq!(attempts, expected, "{reason}");
        }
    }
}
