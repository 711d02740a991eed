//! Bootstrap tokens (`abcdef.0123456789abcdef`): what a machine joins with before it has a certificate, and how it knows
//! the cluster by the signature of `kube-public/cluster-info` (RFC 7515, appendix F: the content is detached).

use std::fmt;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jiff::Timestamp;
use ring::{
    hmac,
    rand::{SecureRandom, SystemRandom},
};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::Certificate;

const LETTERS: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";

/// Names of bootstrap tokens' Secrets in `kube-system` begin so; the token's id follows.
pub const SECRET_PREFIX: &str = "bootstrap-token-";
/// The type of their Secrets.
pub const SECRET_TYPE: &str = "bootstrap.kubernetes.io/token";
/// The group of whoever comes with one.
pub const GROUP: &str = "system:bootstrappers";

/// A bootstrap token: an id that may be known, and a secret.
#[derive(Clone, PartialEq, Eq)]
pub struct BootstrapToken {
    /// Six of `a-z0-9`.
    pub id: String,
    /// Sixteen of `a-z0-9`.
    pub secret: String,
}

/// The text is no bootstrap token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a bootstrap token is six lower case letters or digits, a dot, and sixteen more")]
pub struct NotAToken;

impl BootstrapToken {
    /// A new one, from the system's randomness.
    pub fn generate() -> Self {
        Self {
            id: random_text(6),
            secret: random_text(16),
        }
    }

    /// The name of its Secret.
    pub fn secret_name(&self) -> String {
        format!("{SECRET_PREFIX}{}", self.id)
    }

    /// Its Secret in `kube-system`: good for authentication and for signing `cluster-info`, until `expires` (for ever, if
    /// that is `None`), for whoever comes with it to be in these groups beside [`GROUP`].
    pub fn to_secret(&self, description: &str, expires: Option<Timestamp>, groups: &[String]) -> Value {
        let mut data = json!({
            "token-id": self.id,
            "token-secret": self.secret,
            "usage-bootstrap-authentication": "true",
            "usage-bootstrap-signing": "true",
        });
        if !description.is_empty() {
            data["description"] = description.into();
        }
        if let Some(expires) = expires {
            data["expiration"] = expires.strftime("%Y-%m-%dT%H:%M:%SZ").to_string().into();
        }
        if !groups.is_empty() {
            data["auth-extra-groups"] = groups.join(",").into();
        }
        json!({
            "apiVersion": "v1", "kind": "Secret", "type": SECRET_TYPE,
            "metadata": {"namespace": "kube-system", "name": self.secret_name()},
            "stringData": data,
        })
    }

    /// Whether `given` is the secret, in a time that doesn't tell how much of it is right.
    pub fn has_secret(&self, given: &[u8]) -> bool {
        equal(self.secret.as_bytes(), given)
    }

    /// The signature of `content` for `cluster-info`'s key `jws-kubeconfig-<id>`.
    pub fn sign_detached(&self, content: &[u8]) -> String {
        let head = URL_SAFE_NO_PAD.encode(format!(r#"{{"alg":"HS256","kid":"{}"}}"#, self.id));
        let signature = hmac::sign(&self.hmac_key(), &signed(&head, content));
        format!("{head}..{}", URL_SAFE_NO_PAD.encode(signature))
    }

    /// Whether `signature` is of `content`, made with this token.
    pub fn verify_detached(&self, signature: &str, content: &[u8]) -> bool {
        let Some((head, tag)) = signature.split_once("..") else {
            return false;
        };
        let (Ok(head_json), Ok(tag)) = (URL_SAFE_NO_PAD.decode(head), URL_SAFE_NO_PAD.decode(tag)) else {
            return false;
        };
        let Ok(head_json) = serde_json::from_slice::<Value>(&head_json) else {
            return false;
        };
        head_json["alg"] == "HS256"
            && head_json["kid"] == self.id.as_str()
            && hmac::verify(&self.hmac_key(), &signed(head, content), &tag).is_ok()
    }

    fn hmac_key(&self) -> hmac::Key {
        // Upstream's key is the whole token.
        hmac::Key::new(hmac::HMAC_SHA256, format!("{}.{}", self.id, self.secret).as_bytes())
    }
}

fn signed(head: &str, content: &[u8]) -> Vec<u8> {
    format!("{head}.{}", URL_SAFE_NO_PAD.encode(content)).into_bytes()
}

impl std::str::FromStr for BootstrapToken {
    type Err = NotAToken;

    fn from_str(text: &str) -> Result<Self, NotAToken> {
        let (id, secret) = text.split_once('.').ok_or(NotAToken)?;
        let fits = |part: &str, length: usize| part.len() == length && part.bytes().all(|byte| LETTERS.contains(&byte));
        (fits(id, 6) && fits(secret, 16))
            .then(|| Self {
                id: id.to_owned(),
                secret: secret.to_owned(),
            })
            .ok_or(NotAToken)
    }
}

/// The hash by which a cluster's authority is known: SHA-256 of its `SubjectPublicKeyInfo` in DER, as kubeadm's
/// `--discovery-token-ca-cert-hash` is. It stays when the authority's certificate is renewed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CaHash([u8; 32]);

/// The text is no hash of an authority.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the hash of an authority is sha256: and 64 hexadecimal digits")]
pub struct NotAHash;

impl CaHash {
    /// The hash of this authority.
    pub fn of(authority: &Certificate) -> Self {
        Self(Sha256::digest(&authority.public_info).into())
    }
}

impl fmt::Display for CaHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sha256:")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl std::str::FromStr for CaHash {
    type Err = NotAHash;

    fn from_str(text: &str) -> Result<Self, NotAHash> {
        let digits = text.strip_prefix("sha256:").ok_or(NotAHash)?.as_bytes();
        if digits.len() != 64 {
            return Err(NotAHash);
        }
        let mut hash = [0; 32];
        for (byte, pair) in hash.iter_mut().zip(digits.chunks_exact(2)) {
            let digit = |at: usize| char::from(pair[at]).to_digit(16).ok_or(NotAHash);
            *byte = (digit(0)? * 16 + digit(1)?) as u8;
        }
        Ok(Self(hash))
    }
}

/// All that a machine needs beside the URL to join: a bootstrap token and, after an `@`, the hash of the cluster's
/// authority: `abcdef.0123456789abcdef@sha256:…`. With the hash the machine knows the right server from a wrong one
/// before it tells it the secret. A token without it is one of upstream's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinToken {
    /// What it proves itself with.
    pub token: BootstrapToken,
    /// What it knows the cluster by.
    pub authority: Option<CaHash>,
}

/// The text is no token to join with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAJoinToken {
    /// The part before the `@`.
    #[error(transparent)]
    Token(#[from] NotAToken),
    /// The part after it.
    #[error(transparent)]
    Hash(#[from] NotAHash),
}

impl JoinToken {
    /// The token in the form that is handed over: the secret itself.
    pub fn secret_text(&self) -> String {
        let token = format!("{}.{}", self.token.id, self.token.secret);
        match &self.authority {
            Some(hash) => format!("{token}@{hash}"),
            None => token,
        }
    }
}

impl std::str::FromStr for JoinToken {
    type Err = NotAJoinToken;

    fn from_str(text: &str) -> Result<Self, NotAJoinToken> {
        let (token, hash) = match text.split_once('@') {
            Some((token, hash)) => (token, Some(hash)),
            None => (text, None),
        };
        Ok(Self {
            token: token.parse()?,
            authority: hash.map(str::parse).transpose()?,
        })
    }
}

impl fmt::Debug for BootstrapToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BootstrapToken({})", self.id)
    }
}

/// Whether both are the same, in a time that depends on nothing but the lengths.
pub fn equal(left: &[u8], right: &[u8]) -> bool {
    left.len() == right.len() && left.iter().zip(right).fold(0, |all, (l, r)| all | (l ^ r)) == 0
}

/// `length` letters and digits from the system's randomness, each as likely as any other.
pub fn random_text(length: usize) -> String {
    let random = SystemRandom::new();
    let mut text = String::with_capacity(length);
    let mut bytes = [0; 32];
    while text.len() < length {
        random.fill(&mut bytes).expect("the system has randomness");
        // 252 is the last multiple of 36: what lies above would favour the first letters.
        let letters = bytes.iter().filter(|byte| **byte < 252);
        text.extend(letters.map(|byte| char::from(LETTERS[usize::from(*byte) % 36])));
    }
    text.truncate(length);
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn tokens_are_told_from_what_is_none() {
        let table = [
            ("abcdef.0123456789abcdef", true),
            ("abcdef.0123456789abcde", false),
            ("abcde.0123456789abcdef", false),
            ("ABCDEF.0123456789abcdef", false),
            ("abcdef0123456789abcdef", false),
            ("abcdef.0123456789abcdeé", false),
            ("abcdef..123456789abcdef", false),
            ("", false),
        ];
        for (text, ok) in table {
            assert_eq!(text.parse::<BootstrapToken>().is_ok(), ok, "{text:?}");
        }
    }

    #[test]
    fn a_signature_holds_for_its_content_and_token_only() {
        let token: BootstrapToken = "abcdef.0123456789abcdef".parse().unwrap();
        let signature = token.sign_detached(b"content");
        // From the definition: HMAC-SHA256 over the encoded head and content.
        assert!(
            signature.starts_with("eyJhbGciOiJIUzI1NiIsImtpZCI6ImFiY2RlZiJ9.."),
            "{signature}"
        );
        assert!(token.verify_detached(&signature, b"content"));
        assert!(!token.verify_detached(&signature, b"other"));
        assert!(!token.verify_detached(&signature[1..], b"content"));
        assert!(!BootstrapToken::generate().verify_detached(&signature, b"content"));
    }

    #[test]
    fn a_tokens_secret_says_all_of_it() {
        let token: BootstrapToken = "abcdef.0123456789abcdef".parse().unwrap();
        let expires = "2026-06-01T12:00:00.5Z".parse().unwrap();
        let secret = token.to_secret("join", Some(expires), &["system:bootstrappers:a".to_owned()]);
        assert_eq!(secret["metadata"]["name"], "bootstrap-token-abcdef");
        assert_eq!(
            secret["stringData"],
            json!({
                "token-id": "abcdef", "token-secret": "0123456789abcdef", "description": "join",
                "usage-bootstrap-authentication": "true", "usage-bootstrap-signing": "true",
                "expiration": "2026-06-01T12:00:00Z", "auth-extra-groups": "system:bootstrappers:a",
            })
        );
        assert_eq!(
            token.to_secret("", None, &[])["stringData"].as_object().unwrap().len(),
            4
        );
    }

    #[test]
    fn a_join_token_carries_the_authoritys_hash() {
        let authority = crate::Authority::generate("bosun-ca", Timestamp::UNIX_EPOCH);
        let hash = CaHash::of(&authority.certificate);
        let renewed = crate::Authority::over(authority.key, "bosun-ca", Timestamp::UNIX_EPOCH);
        assert_eq!(
            CaHash::of(&renewed.certificate),
            hash,
            "a renewed certificate is known by it"
        );
        let plain = "abcdef.0123456789abcdef";
        let whole = format!("{plain}@{hash}");
        let table = [
            (plain.to_owned(), Ok(None)),
            (whole.clone(), Ok(Some(hash))),
            (whole.replace("sha256:", "sha256:0"), Err(NotAJoinToken::Hash(NotAHash))),
            (whole.replace("sha256:", ""), Err(NotAJoinToken::Hash(NotAHash))),
            (format!("{plain}@"), Err(NotAJoinToken::Hash(NotAHash))),
            (
                format!("{plain}@sha256:{}", "é".repeat(32)),
                Err(NotAJoinToken::Hash(NotAHash)),
            ),
            (format!("@{hash}"), Err(NotAJoinToken::Token(NotAToken))),
        ];
        for (text, wanted) in table {
            let read = text.parse::<JoinToken>();
            if let Ok(token) = &read {
                assert_eq!(token.secret_text(), text);
                assert!(!format!("{token:?}").contains("0123456789"), "the secret is not shown");
            }
            assert_eq!(read.map(|token| token.authority), wanted, "{text}");
        }
    }

    #[test]
    fn a_token_is_not_shown() {
        let token: BootstrapToken = "abcdef.0123456789abcdef".parse().unwrap();
        assert_eq!(format!("{token:?}"), "BootstrapToken(abcdef)");
    }

    #[test]
    fn secrets_are_compared_whole() {
        let token: BootstrapToken = "abcdef.0123456789abcdef".parse().unwrap();
        assert!(token.has_secret(b"0123456789abcdef"));
        for wrong in [&b""[..], b"0123456789abcde", b"0123456789abcdeg", b"1123456789abcdef"] {
            assert!(!token.has_secret(wrong));
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_token_or_refused(text in ".{0,40}", signature in ".{0,60}") {
            if let Ok(token) = text.parse::<BootstrapToken>() {
                prop_assert!(!token.verify_detached(&signature, b"x"));
            }
        }

        #[test]
        fn generated_ones_are_tokens(_ in 0..64) {
            let token = BootstrapToken::generate();
            let text = format!("{}.{}", token.id, token.secret);
            prop_assert_eq!(text.parse::<BootstrapToken>(), Ok(token));
        }
    }
}
