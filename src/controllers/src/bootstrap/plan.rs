//! Which signatures `cluster-info` should have, and when a token ends. Pure.

use std::{collections::BTreeMap, sync::Arc};

use bosun_pki::bootstrap::{BootstrapToken, SECRET_PREFIX};
use jiff::Timestamp;

use super::Token;

/// What is signed.
const KUBECONFIG: &str = "kubeconfig";
/// How the keys of signatures begin; a token's id follows.
const SIGNATURE: &str = "jws-kubeconfig-";

fn text<'a>(token: &'a Token, field: &str) -> Option<&'a str> {
    str::from_utf8(&token.data.get(field)?.0).ok()
}

/// When a token ends; `None` if it never does. One whose end can't be read has ended.
pub(super) fn expires(token: &Token) -> Option<Timestamp> {
    token.data.get("expiration")?;
    Some(
        text(token, "expiration")
            .and_then(|time| time.parse().ok())
            .unwrap_or(Timestamp::MIN),
    )
}

/// The data of `cluster-info` as it should be, if it is otherwise: the kubeconfig, a signature by each token that is for
/// signing, and none by others.
pub(super) fn sign(
    held: &BTreeMap<String, String>,
    tokens: &[Arc<Token>],
    now: Timestamp,
) -> Option<BTreeMap<String, String>> {
    let content = held.get(KUBECONFIG)?;
    let mut wanted: BTreeMap<_, _> = held
        .iter()
        .filter(|(key, _)| !key.starts_with(SIGNATURE))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    for token in tokens {
        if text(token, "usage-bootstrap-signing") != Some("true") || expires(token).is_some_and(|at| at <= now) {
            continue;
        }
        let parts = text(token, "token-id").zip(text(token, "token-secret"));
        let Some(parsed) = parts.and_then(|(id, secret)| format!("{id}.{secret}").parse::<BootstrapToken>().ok())
        else {
            continue;
        };
        // The name says the id too: a Secret that says two things isn't one.
        if token
            .metadata
            .name
            .as_deref()
            .and_then(|name| name.strip_prefix(SECRET_PREFIX))
            != Some(&parsed.id)
        {
            continue;
        }
        wanted.insert(
            format!("{SIGNATURE}{}", parsed.id),
            parsed.sign_detached(content.as_bytes()),
        );
    }
    (wanted != *held).then_some(wanted)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::{ByteString, apimachinery::pkg::apis::meta::v1::ObjectMeta};

    use super::*;

    fn token(id: &str, more: &[(&str, &str)]) -> Arc<Token> {
        let fixed = [("token-id", id), ("token-secret", "0123456789abcdef")];
        Arc::new(Token {
            metadata: ObjectMeta {
                name: Some(format!("{SECRET_PREFIX}{id}")),
                ..ObjectMeta::default()
            },
            data: fixed
                .iter()
                .chain(more)
                .map(|(key, value)| ((*key).to_owned(), ByteString(value.as_bytes().to_vec())))
                .collect(),
        })
    }

    #[test]
    fn cluster_info_bears_the_signatures_of_valid_tokens_only() {
        let now: Timestamp = "2026-06-01T12:00:00Z".parse().expect("a time");
        let signing = ("usage-bootstrap-signing", "true");
        let tokens = [
            token("abcdef", &[signing]),
            token("bbbbbb", &[]),
            token("cccccc", &[signing, ("expiration", "2026-06-01T11:59:59Z")]),
            token("dddddd", &[signing, ("expiration", "2026-06-01T12:00:01Z")]),
            token("eeeeee", &[signing, ("expiration", "soon")]),
            token("short", &[signing]),
        ];
        let held: BTreeMap<_, _> = [
            (KUBECONFIG.to_owned(), "the config".to_owned()),
            ("jws-kubeconfig-cccccc".to_owned(), "old".to_owned()),
        ]
        .into();
        let signed = sign(&held, &tokens, now).expect("it is otherwise");
        let keys: Vec<_> = signed.keys().map(String::as_str).collect();
        assert_eq!(keys, ["jws-kubeconfig-abcdef", "jws-kubeconfig-dddddd", "kubeconfig"]);
        let known: BootstrapToken = "abcdef.0123456789abcdef".parse().expect("a token");
        assert!(known.verify_detached(&signed["jws-kubeconfig-abcdef"], b"the config"));
        assert_eq!(sign(&signed, &tokens, now), None);
        assert_eq!(sign(&BTreeMap::new(), &tokens, now), None);
        assert_eq!(expires(&tokens[0]), None);
        assert_eq!(expires(&tokens[4]), Some(Timestamp::MIN));
    }
}
