//! Continue tokens: where the next page of a list begins, and as of which revision. Opaque to clients.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use bosun_store::Revision;
use serde::{Deserialize, Serialize};

use crate::Status;

/// Where a list goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Continuation {
    /// As of this revision; `None`: as things are then.
    pub(super) revision: Option<Revision>,
    /// The first key, below the prefix.
    pub(super) start: String,
}

#[derive(Serialize, Deserialize)]
struct Token {
    v: String,
    rv: i64,
    start: String,
}

/// The form of tokens, which is upstream's.
const FORM: &str = "meta.k8s.io/v1";

impl Continuation {
    /// After the object of this key.
    pub(super) fn after(revision: Revision, key: &str) -> Self {
        Self {
            revision: Some(revision),
            start: format!("{key}\0"),
        }
    }

    pub(super) fn encode(&self) -> String {
        let token = Token {
            v: FORM.into(),
            rv: self.revision.map_or(-1, |revision| revision.0 as i64),
            start: self.start.clone(),
        };
        URL_SAFE_NO_PAD.encode(serde_json::to_vec(&token).expect("a token is JSON"))
    }

    pub(super) fn decode(token: &str) -> Result<Self, Status> {
        let wrong = |why: &str| Status::bad_request(format!("continue key is not valid: {why}"));
        let token = URL_SAFE_NO_PAD
            .decode(token)
            .map_err(|error| wrong(&error.to_string()))?;
        let token: Token = serde_json::from_slice(&token).map_err(|error| wrong(&error.to_string()))?;
        if token.v != FORM {
            return Err(wrong(&format!(
                "server does not recognize this encoded version {:?}",
                token.v
            )));
        }
        let revision = match token.rv {
            -1 => None,
            0 => {
                return Err(wrong(
                    "incorrect encoded start resourceVersion (version meta.k8s.io/v1)",
                ));
            }
            rv => Some(Revision(
                u64::try_from(rv).map_err(|_| wrong("negative resourceVersion"))?,
            )),
        };
        if token.start.is_empty() {
            return Err(wrong("encoded start key empty (version meta.k8s.io/v1)"));
        }
        Ok(Self {
            revision,
            start: token.start,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn tokens_of_another_form_are_refused() {
        for token in ["x", "e30", "!!", ""] {
            let message = Continuation::decode(token).unwrap_err().message;
            assert!(message.starts_with("continue key is not valid: "), "{message}");
        }
    }

    proptest! {
        #[test]
        fn a_token_is_read_as_it_was_written(revision in prop::option::of(1..u64::MAX / 2), start in ".{1,20}") {
            let continuation = Continuation { revision: revision.map(Revision), start };
            prop_assert_eq!(Continuation::decode(&continuation.encode()).unwrap(), continuation);
        }

        #[test]
        fn any_token_is_read_or_refused(json in ".{0,60}") {
            let _ = Continuation::decode(&URL_SAFE_NO_PAD.encode(&json));
            let _ = Continuation::decode(&json);
        }
    }
}
