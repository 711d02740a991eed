//! From gRPC's status codes, and containerd's words where the code says nothing, to [`ErrorKind`].

use std::collections::HashMap;

use std::{error::Error as _, fmt::Write as _};

use tonic::{Code, Status};

use crate::{ErrorKind, runtime::Error};

/// The typed form of a failed call.
pub(crate) fn error(call: &'static str, object: &str, endpoint: &str, status: &Status) -> Error {
    let kind = kind(status);
    let message = match kind {
        ErrorKind::Unavailable => {
            let mut message = format!("the runtime at {endpoint} is not available: {}", status.message());
            let mut source = status.source();
            while let Some(cause) = source {
                let text = cause.to_string();
                if !message.ends_with(&text) {
                    let _ = write!(message, ": {text}");
                }
                source = cause.source();
            }
            message
        }
        _ => status.message().to_owned(),
    };
    Error {
        call,
        object: object.to_owned(),
        kind,
        message,
    }
}

/// What a caller can do about it.
pub(crate) fn kind(status: &Status) -> ErrorKind {
    // Only a failure on our side of the wire carries a source: the connection broke or was never made.
    let ours = status.source().is_some();
    match status.code() {
        Code::NotFound => ErrorKind::NotFound,
        Code::AlreadyExists => ErrorKind::AlreadyExists,
        Code::DeadlineExceeded => ErrorKind::DeadlineExceeded,
        Code::Unavailable => ErrorKind::Unavailable,
        Code::Unimplemented => ErrorKind::Unimplemented,
        Code::InvalidArgument => ErrorKind::InvalidArgument,
        Code::Unknown | Code::Cancelled | Code::Internal if ours => ErrorKind::Unavailable,
        Code::Unknown => said(status.message()),
        _ => ErrorKind::Failed,
    }
}

/// containerd makes some errors of words alone. "not found" is none of them: an object that is gone has the code, and
/// in words it is an image, a program or a CNI plugin that was not found. Taken for the object, a stop that failed
/// would pass as done.
fn said(message: &str) -> ErrorKind {
    if message.ends_with("server is not initialized yet") {
        // Just started: it listens already and still reads what it knew.
        ErrorKind::Unavailable
    } else if message.contains(" is reserved for ") {
        ErrorKind::AlreadyExists
    } else if message.ends_with("context deadline exceeded") {
        ErrorKind::DeadlineExceeded
    } else {
        ErrorKind::Failed
    }
}

/// Whether containerd refuses a stop or a removal only for a moment: it has yet to note an exit, its kill met a shim that
/// was just ending, or it is at work on an earlier call for the same object.
pub(super) fn is_settling(error: &Error) -> bool {
    const SAYS: [&str; 5] = [
        "container is still running",
        "is not fully stopped",
        "is in starting state",
        "is already in removing state",
        ": ttrpc: closed",
    ];
    error.kind == ErrorKind::Failed && SAYS.iter().any(|words| error.message.contains(words))
}

/// The image sandboxes are made of, as containerd's CRI plugin tells it in its configuration (`sandboxImage` in 1.x; 2.x
/// has it among the pinned images).
pub(super) fn sandbox_image<S: std::hash::BuildHasher>(info: &HashMap<String, String, S>) -> Option<String> {
    let config: serde_json::Value = serde_json::from_str(info.get("config")?).ok()?;
    let named = ["/sandboxImage", "/pinnedImages/sandbox"]
        .iter()
        .find_map(|path| config.pointer(path)?.as_str());
    named.filter(|name| !name.is_empty()).map(str::to_owned)
}

#[cfg(test)]
mod sandbox_image_tests {
    use super::*;

    #[test]
    fn the_sandbox_image_is_read_from_containerds_own_account() {
        let told = |config: &str| sandbox_image(&HashMap::from([("config".to_owned(), config.to_owned())]));
        assert_eq!(told(r#"{"sandboxImage":"pause:3.8"}"#).as_deref(), Some("pause:3.8"));
        assert_eq!(
            told(r#"{"pinnedImages":{"sandbox":"pause:3.10"}}"#).as_deref(),
            Some("pause:3.10")
        );
        for silent in ["{}", "no JSON", r#"{"sandboxImage":""}"#] {
            assert_eq!(told(silent), None, "{silent}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_and_containerds_words_become_kinds() {
        use ErrorKind as K;
        let table = [
            (
                Code::NotFound,
                "an error occurred when try to find container \"x\": not found",
                K::NotFound,
            ),
            (Code::AlreadyExists, "x", K::AlreadyExists),
            (Code::DeadlineExceeded, "context deadline exceeded", K::DeadlineExceeded),
            (Code::Unavailable, "connection error", K::Unavailable),
            (
                Code::Unimplemented,
                "unknown method GetContainerEvents",
                K::Unimplemented,
            ),
            (Code::InvalidArgument, "x", K::InvalidArgument),
            (Code::ResourceExhausted, "message too large", K::Failed),
            (Code::Cancelled, "context canceled", K::Failed),
            (
                Code::Unknown,
                r#"failed to reserve sandbox name "a_ns_uid_0": name "a_ns_uid_0" is reserved for "4f1c""#,
                K::AlreadyExists,
            ),
            (
                Code::Unknown,
                "failed to destroy network for sandbox \"x\": plugin type=\"x\" failed (delete): not found",
                K::Failed,
            ),
            (
                Code::Unknown,
                "exec failed: timeout 1s exceeded: context deadline exceeded",
                K::DeadlineExceeded,
            ),
            (
                Code::Unknown,
                "runc create failed: exec: \"nope\": executable file not found in $PATH: unknown",
                K::Failed,
            ),
            (Code::Unknown, "failed to mount: no such file or directory", K::Failed),
        ];
        for (code, message, kind) in table {
            let error = error("Call", "object", "unix:///r.sock", &Status::new(code, message));
            assert_eq!(error.kind, kind, "{code:?} {message}");
            assert!(error.to_string().ends_with(message), "{error}");
        }
    }

    #[test]
    fn a_refusal_that_passes_by_itself_is_told_from_one_that_stays() {
        let table = [
            (
                "cannot remove container \"x\": container is still running, it must be stopped first",
                true,
            ),
            (
                "failed to forcibly stop sandbox \"x\": failed to kill container \"y\": ttrpc: closed: unknown",
                true,
            ),
            ("failed to destroy network for sandbox \"x\"", false),
        ];
        for (message, settling) in table {
            let error = error("RemovePodSandbox", "x", "unix:///r.sock", &Status::unknown(message));
            assert_eq!(is_settling(&error), settling, "{message}");
        }
    }

    #[test]
    fn a_broken_connection_is_unavailable_and_names_the_endpoint_and_the_cause() {
        let cause = std::io::Error::new(std::io::ErrorKind::BrokenPipe, "the pipe broke");
        let error = error("Version", "", "unix:///r.sock", &Status::from_error(Box::new(cause)));
        assert_eq!(error.kind, ErrorKind::Unavailable);
        assert!(
            error.message.contains("unix:///r.sock") && error.message.contains("the pipe broke"),
            "{error}"
        );
    }
}
