//! How a command ended, as the error channel of protocol version 4 and later says it: a `meta.v1.Status`. Pure.

use serde_json::{Value, json};

/// The reason of a command that ran and returned something else than 0.
const NON_ZERO: &str = "NonZeroExitCode";

/// How a command ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// With 0.
    Success,
    /// With another code.
    Code(i32),
    /// It could not be run, or not to its end.
    Failure(String),
}

impl Ended {
    /// As the error channel has it.
    pub fn to_json(&self) -> Vec<u8> {
        let status = match self {
            Self::Success => json!({"metadata": {}, "status": "Success"}),
            Self::Code(code) => json!({
                "metadata": {}, "status": "Failure", "reason": NON_ZERO,
                "message": format!("command terminated with non-zero exit code: {code}"),
                "details": {"causes": [{"reason": "ExitCode", "message": code.to_string()}]},
            }),
            Self::Failure(message) => json!({
                "metadata": {}, "status": "Failure", "reason": "InternalError", "code": 500,
                "message": format!("Internal error occurred: {message}"),
                "details": {"causes": [{"message": message}]},
            }),
        };
        status.to_string().into_bytes()
    }

    /// What an error channel of any version said. Before version 4 that is text, and nothing at all is success.
    pub fn parse(bytes: &[u8]) -> Self {
        if bytes.is_empty() {
            return Self::Success;
        }
        let text = || Self::Failure(String::from_utf8_lossy(bytes).into_owned());
        let Ok(status) = serde_json::from_slice::<Value>(bytes) else {
            return text();
        };
        match status["status"].as_str() {
            Some("Success") => Self::Success,
            Some("Failure") if status["reason"] == NON_ZERO => {
                let causes = status["details"]["causes"].as_array();
                let code = causes.into_iter().flatten().find(|cause| cause["reason"] == "ExitCode");
                let code = code.and_then(|cause| cause["message"].as_str()?.parse().ok());
                code.map_or_else(text, Self::Code)
            }
            Some("Failure") => Self::Failure(status["message"].as_str().unwrap_or_default().to_owned()),
            _ => text(),
        }
    }

    /// As the error channel had it before version 4: words, none for success.
    pub fn to_text(&self) -> String {
        match self {
            Self::Success => String::new(),
            Self::Code(code) => format!("command terminated with non-zero exit code: {code}"),
            Self::Failure(message) => message.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_end_is_told_and_understood() {
        for ended in [Ended::Success, Ended::Code(3), Ended::Code(137)] {
            assert_eq!(Ended::parse(&ended.to_json()), ended);
        }
        let failed = Ended::Failure("no such container".to_owned());
        let told = Ended::Failure("Internal error occurred: no such container".to_owned());
        assert_eq!(Ended::parse(&failed.to_json()), told);
        assert_eq!(Ended::parse(b""), Ended::Success);
        assert_eq!(Ended::parse(b"broken pipe"), Ended::Failure("broken pipe".to_owned()));
        let upstream = br#"{"metadata":{},"status":"Failure","message":"command terminated with non-zero exit code: exit status 2","reason":"NonZeroExitCode","details":{"causes":[{"reason":"ExitCode","message":"2"}]}}"#;
        assert_eq!(Ended::parse(upstream), Ended::Code(2));
    }

    proptest! {
        #[test]
        fn anything_is_some_end(bytes in proptest::collection::vec(any::<u8>(), 0..100), json in "[{}\\[\\]\":,a-z]{0,40}") {
            let _ = Ended::parse(&bytes);
            let _ = Ended::parse(json.as_bytes());
        }
    }
}
