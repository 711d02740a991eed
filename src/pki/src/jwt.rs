//! Service-account tokens' signatures: JSON Web Tokens (RFC 7519) by ES256 and nothing else. The algorithm is the
//! key's, not the token's: a token that names another one is refused before anything is computed.

use std::{fmt, path::Path};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::{
    digest::{SHA256, digest},
    signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey},
};
use rustls::pki_types::{PrivatePkcs8KeyDer, pem::PemObject};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    PrivateKey,
    files::{self, FileError, wrong},
};

/// No token is longer; ours have about 1 KiB.
pub const MAX_BYTES: usize = 16 << 10;

/// Why a token is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Not three parts of base64 with JSON in them.
    #[error("malformed token")]
    Malformed,
    /// Not ES256.
    #[error("the token is signed with another algorithm than ES256")]
    Algorithm,
    /// Of a key that isn't ours.
    #[error("the token is signed with an unknown key")]
    UnknownKey,
    /// The signature doesn't fit.
    #[error("the token's signature is wrong")]
    Signature,
}

/// The keys that sign and verify tokens: the first signs, all verify.
pub struct TokenKeys {
    keys: Vec<(String, PrivateKey)>,
}

#[derive(Serialize, Deserialize)]
struct Header {
    alg: String,
    #[serde(default)]
    kid: String,
}

#[derive(Deserialize)]
struct Issuer {
    iss: String,
}

const REMEDY: &str = "put back the file from a backup, or move it away to have a new key made: every token that pods \
                      hold is refused then until they fetch a new one";

impl TokenKeys {
    /// From keys; the first signs. `None` if there are none.
    pub fn new(keys: Vec<PrivateKey>) -> Option<Self> {
        let keys: Vec<_> = keys.into_iter().map(|key| (key_id(&key), key)).collect();
        (!keys.is_empty()).then_some(Self { keys })
    }

    /// Reads the keys at `path` (PEM, the first signs), or makes one.
    pub fn open_or_create(path: &Path) -> Result<Self, FileError> {
        if let Some(pem) = files::read_secret(path)? {
            let keys = PrivatePkcs8KeyDer::pem_slice_iter(&pem)
                .map(|key| PrivateKey::from_pkcs8(key.ok()?.secret_pkcs8_der()).ok())
                .collect::<Option<Vec<_>>>()
                .ok_or_else(|| wrong(path, "holds something else than ECDSA P-256 keys", REMEDY))?;
            return Self::new(keys).ok_or_else(|| wrong(path, "holds no key", REMEDY));
        }
        let key = PrivateKey::generate();
        files::write_atomically(path, key.secret_pem().as_bytes(), 0o600)?;
        Ok(Self {
            keys: vec![(key_id(&key), key)],
        })
    }

    /// Signs claims.
    pub fn sign(&self, claims: &Value) -> String {
        let (id, key) = &self.keys[0];
        let header = URL_SAFE_NO_PAD.encode(json!({"alg": "ES256", "kid": id}).to_string());
        let message = format!("{header}.{}", URL_SAFE_NO_PAD.encode(claims.to_string()));
        let signature = URL_SAFE_NO_PAD.encode(key.sign_fixed(message.as_bytes()));
        format!("{message}.{signature}")
    }

    /// The claims of a token that one of our keys signed. Nothing in them is checked yet.
    pub fn verify(&self, token: &str) -> Result<Value, TokenError> {
        if token.len() > MAX_BYTES {
            return Err(TokenError::Malformed);
        }
        let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| TokenError::Malformed);
        let mut parts = token.split('.');
        let (Some(header), Some(claims), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(TokenError::Malformed);
        };
        let head: Header = serde_json::from_slice(&decode(header)?).map_err(|_| TokenError::Malformed)?;
        if head.alg != "ES256" {
            return Err(TokenError::Algorithm);
        }
        let (_, key) = self
            .keys
            .iter()
            .find(|(id, _)| *id == head.kid)
            .ok_or(TokenError::UnknownKey)?;
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, key.public())
            .verify(
                &token.as_bytes()[..header.len() + 1 + claims.len()],
                &decode(signature)?,
            )
            .map_err(|_| TokenError::Signature)?;
        serde_json::from_slice(&decode(claims)?).map_err(|_| TokenError::Malformed)
    }

    /// Who `token` says issued it, without any check: whether it is worth being looked at as one of ours.
    pub fn unverified_issuer(token: &str) -> Option<String> {
        if token.len() > MAX_BYTES {
            return None;
        }
        let claims = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
        Some(serde_json::from_slice::<Issuer>(&claims).ok()?.iss)
    }

    /// The public keys (RFC 7517), as `/openid/v1/jwks` serves them.
    pub fn public_set(&self) -> Value {
        let keys: Vec<_> = self
            .keys
            .iter()
            .map(|(id, key)| {
                let (x, y) = key.public()[1..].split_at(32);
                json!({
                    "use": "sig", "kty": "EC", "kid": id, "crv": "P-256", "alg": "ES256",
                    "x": URL_SAFE_NO_PAD.encode(x), "y": URL_SAFE_NO_PAD.encode(y),
                })
            })
            .collect();
        json!({ "keys": keys })
    }
}

impl fmt::Debug for TokenKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.keys.iter().map(|(id, _)| id)).finish()
    }
}

/// As upstream names keys: the hash of the public one.
fn key_id(key: &PrivateKey) -> String {
    URL_SAFE_NO_PAD.encode(digest(&SHA256, &key.public_info()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use ring::hmac;

    use super::*;

    fn keys() -> TokenKeys {
        TokenKeys::new(vec![PrivateKey::generate()]).unwrap()
    }

    fn encode(text: &str) -> String {
        URL_SAFE_NO_PAD.encode(text)
    }

    #[test]
    fn claims_come_back_from_a_token() {
        let keys = keys();
        let claims = json!({"sub": "system:serviceaccount:a:b", "n": 1});
        let token = keys.sign(&claims);
        assert_eq!(keys.verify(&token), Ok(claims));
        assert_eq!(TokenKeys::unverified_issuer(&token), None);
    }

    #[test]
    fn a_former_key_still_verifies_and_another_does_not() {
        let (old, new) = (PrivateKey::generate(), PrivateKey::generate());
        let copy = PrivateKey::from_pkcs8(old.secret_pkcs8()).unwrap();
        let token = TokenKeys::new(vec![copy]).unwrap().sign(&json!({}));
        let rotated = TokenKeys::new(vec![new, old]).unwrap();
        assert_eq!(rotated.verify(&token), Ok(json!({})));
        assert_eq!(keys().verify(&token), Err(TokenError::UnknownKey));
        assert_eq!(rotated.public_set()["keys"].as_array().unwrap().len(), 2);
    }

    #[test]
    fn no_other_algorithm_is_believed() {
        let keys = keys();
        let id = keys.keys[0].0.clone();
        let claims = encode(r#"{"sub":"x"}"#);
        // The public key as an HMAC secret: the old confusion.
        let header = encode(&json!({"alg": "HS256", "kid": id}).to_string());
        let message = format!("{header}.{claims}");
        let secret = hmac::Key::new(hmac::HMAC_SHA256, keys.keys[0].1.public());
        let tag = hmac::sign(&secret, message.as_bytes());
        let confused = format!("{message}.{}", URL_SAFE_NO_PAD.encode(tag));
        assert_eq!(keys.verify(&confused), Err(TokenError::Algorithm));
        for alg in ["none", "None", "es256", "RS256", ""] {
            let header = encode(&json!({"alg": alg, "kid": id}).to_string());
            assert_eq!(keys.verify(&format!("{header}.{claims}.")), Err(TokenError::Algorithm));
        }
        let header = encode(&json!({"alg": "ES256", "kid": id}).to_string());
        assert_eq!(keys.verify(&format!("{header}.{claims}.")), Err(TokenError::Signature));
    }

    #[test]
    fn a_changed_token_is_refused_wherever_it_is_changed() {
        let keys = keys();
        let token = keys.sign(&json!({"sub": "system:serviceaccount:a:b"}));
        for at in 0..token.len() {
            let mut bytes = token.clone().into_bytes();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(bytes).unwrap();
            assert!(keys.verify(&changed).is_err(), "{at}");
        }
        assert_eq!(keys.verify(&format!("{token}.")), Err(TokenError::Malformed));
        assert_eq!(keys.verify(&"a".repeat(MAX_BYTES + 1)), Err(TokenError::Malformed));
    }

    #[test]
    fn the_public_set_verifies_a_signature() {
        let keys = keys();
        let token = keys.sign(&json!({"a": 1}));
        let public = &keys.public_set()["keys"][0];
        let part = |name: &str| URL_SAFE_NO_PAD.decode(public[name].as_str().unwrap()).unwrap();
        let point = [vec![4], part("x"), part("y")].concat();
        let (message, signature) = token.rsplit_once('.').unwrap();
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point)
            .verify(message.as_bytes(), &URL_SAFE_NO_PAD.decode(signature).unwrap())
            .unwrap();
    }

    #[test]
    fn keys_are_kept_in_a_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("service-account.pem");
        let token = TokenKeys::open_or_create(&path).unwrap().sign(&json!({}));
        TokenKeys::open_or_create(&path).unwrap().verify(&token).unwrap();
        files::write_atomically(&path, b"nothing", 0o600).unwrap();
        assert!(TokenKeys::open_or_create(&path).is_err());
    }

    proptest! {
        #[test]
        fn any_text_is_refused_without_a_panic(text in ".{0,200}") {
            prop_assert!(keys().verify(&text).is_err());
            let _ = TokenKeys::unverified_issuer(&text);
        }

        #[test]
        fn any_json_in_the_parts_is_refused_without_a_panic(
            header in "\\{(\"(alg|kid)\":(\"[A-Za-z0-9]{0,8}\"|1|null|\\[\\]),?){0,3}\\}", claims in ".{0,60}", tag in "[A-Za-z0-9_-]{0,90}"
        ) {
            let token = format!("{}.{}.{tag}", encode(&header), encode(&claims));
            prop_assert!(keys().verify(&token).is_err());
        }
    }
}
