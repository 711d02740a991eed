//! What a request is answered when it can't be done: `meta.v1.Status`, in upstream's words.

use bosun_api::manifest::FieldError;
use serde_json::{Value, json};

/// Why, for programs (`metav1.StatusReason`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// 400
    BadRequest,
    /// 401
    Unauthorized,
    /// 403
    Forbidden,
    /// 404
    NotFound,
    /// 405
    MethodNotAllowed,
    /// 406
    NotAcceptable,
    /// 409: there is one already.
    AlreadyExists,
    /// 409: it has changed meanwhile, or apply meets another's fields.
    Conflict,
    /// 410: the revision is too old to go on from.
    Expired,
    /// 413
    RequestEntityTooLarge,
    /// 415
    UnsupportedMediaType,
    /// 422
    Invalid,
    /// 429
    TooManyRequests,
    /// 500
    InternalError,
    /// 503
    ServiceUnavailable,
    /// 504
    Timeout,
}

impl Reason {
    /// The HTTP status that goes with it.
    pub fn code(self) -> u16 {
        match self {
            Self::BadRequest => 400,
            Self::Unauthorized => 401,
            Self::Forbidden => 403,
            Self::NotFound => 404,
            Self::MethodNotAllowed => 405,
            Self::NotAcceptable => 406,
            Self::AlreadyExists | Self::Conflict => 409,
            Self::Expired => 410,
            Self::RequestEntityTooLarge => 413,
            Self::UnsupportedMediaType => 415,
            Self::Invalid => 422,
            Self::TooManyRequests => 429,
            Self::InternalError => 500,
            Self::ServiceUnavailable => 503,
            Self::Timeout => 504,
        }
    }
}

/// Why a request failed.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct Status {
    /// For programs.
    pub reason: Reason,
    /// For people.
    pub message: String,
    /// `details`, if there are any: `name`, `group`, `kind`, `uid`, `causes`, `retryAfterSeconds`.
    pub details: Option<Value>,
}

impl Status {
    /// One without details.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
            details: None,
        }
    }

    /// `pods "x" not found`.
    pub fn not_found(group: &str, plural: &str, name: &str) -> Self {
        Self {
            details: Some(details(group, plural, name)),
            ..Self::new(
                Reason::NotFound,
                format!("{} {name:?} not found", qualified(group, plural)),
            )
        }
    }

    /// `pods "x" already exists`.
    pub fn already_exists(group: &str, plural: &str, name: &str) -> Self {
        Self {
            details: Some(details(group, plural, name)),
            ..Self::new(
                Reason::AlreadyExists,
                format!("{} {name:?} already exists", qualified(group, plural)),
            )
        }
    }

    /// `Operation cannot be fulfilled on pods "x": …`
    pub fn conflict(group: &str, plural: &str, name: &str, why: &str) -> Self {
        Self {
            details: Some(details(group, plural, name)),
            ..Self::new(
                Reason::Conflict,
                format!(
                    "Operation cannot be fulfilled on {} {name:?}: {why}",
                    qualified(group, plural)
                ),
            )
        }
    }

    /// `pods "x" is forbidden: …`
    pub fn forbidden(group: &str, plural: &str, name: &str, why: &str) -> Self {
        let object = if name.is_empty() {
            qualified(group, plural)
        } else {
            format!("{} {name:?}", qualified(group, plural))
        };
        Self {
            details: Some(details(group, plural, name)),
            ..Self::new(Reason::Forbidden, format!("{object} is forbidden: {why}"))
        }
    }

    /// `Pod "x" is invalid: spec.containers[0].name: Required value`, with a cause for each field.
    pub fn invalid(group: &str, kind: &str, name: &str, errors: &[FieldError]) -> Self {
        let all: Vec<_> = errors.iter().map(ToString::to_string).collect();
        let text = match &all[..] {
            [one] => one.clone(),
            more => format!("[{}]", more.join(", ")),
        };
        let kind_name = if group.is_empty() {
            kind.to_owned()
        } else {
            format!("{kind}.{group}")
        };
        let mut details = details(group, kind, name);
        details["causes"] = errors.iter().map(cause).collect();
        Self {
            details: Some(details),
            ..Self::new(Reason::Invalid, format!("{kind_name} {name:?} is invalid: {text}"))
        }
    }

    /// As it is sent.
    pub fn to_json(&self) -> Value {
        let mut status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.message, "reason": format!("{:?}", self.reason),
        });
        if let Some(details) = &self.details {
            status["details"] = details.clone();
        }
        status["code"] = self.reason.code().into();
        status
    }
}

fn qualified(group: &str, plural: &str) -> String {
    if group.is_empty() {
        plural.to_owned()
    } else {
        format!("{plural}.{group}")
    }
}

fn details(group: &str, kind: &str, name: &str) -> Value {
    let mut details = json!({});
    for (field, value) in [("name", name), ("group", group), ("kind", kind)] {
        if !value.is_empty() {
            details[field] = value.into();
        }
    }
    details
}

/// One field's error, for programs.
fn cause(error: &FieldError) -> Value {
    let reason = error.problem.cause();
    let text = error.to_string();
    let message = text.strip_prefix(&format!("{}: ", error.field)).unwrap_or(&text);
    json!({"reason": reason, "message": message, "field": error.field})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_invalid_object_is_told_as_upstream_does() {
        use bosun_api::manifest::Problem;

        let errors = [FieldError {
            field: "spec.containers[0].name".into(),
            problem: Problem::Required(String::new()),
        }];
        let status = Status::invalid("", "Pod", "x", &errors).to_json();
        assert_eq!(
            status,
            json!({
                "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
                "message": "Pod \"x\" is invalid: spec.containers[0].name: Required value",
                "reason": "Invalid",
                "details": {"name": "x", "kind": "Pod", "causes": [{
                    "reason": "FieldValueRequired", "message": "Required value", "field": "spec.containers[0].name"
                }]},
                "code": 422
            })
        );
    }

    #[test]
    fn reasons_name_the_object() {
        let table = [
            (Status::not_found("", "pods", "x"), "pods \"x\" not found"),
            (
                Status::already_exists("apps", "deployments", "x"),
                "deployments.apps \"x\" already exists",
            ),
            (
                Status::conflict("", "pods", "x", "why"),
                "Operation cannot be fulfilled on pods \"x\": why",
            ),
            (Status::forbidden("", "pods", "", "why"), "pods is forbidden: why"),
        ];
        for (status, message) in table {
            assert_eq!(status.message, message);
        }
    }
}
