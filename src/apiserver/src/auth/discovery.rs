//! What others need to check service-account tokens (`OpenID Connect Discovery 1.0`): who issues them, and the public keys.

use serde_json::{Value, json};

use super::Authenticator;

/// Where the document of [`document`] is served.
pub const DOCUMENT_PATH: &str = "/.well-known/openid-configuration";
/// Where the keys of [`keys`] are served.
pub const KEYS_PATH: &str = "/openid/v1/jwks";
/// The keys' content type (RFC 7517).
pub const KEYS_TYPE: &str = "application/jwk-set+json";

/// The discovery document. `server` is where clients reach us, such as `https://192.0.2.7:6443`.
pub fn document(of: &Authenticator, server: &str) -> Value {
    json!({
        "issuer": of.issuer(),
        "jwks_uri": format!("{server}{KEYS_PATH}"),
        "response_types_supported": ["id_token"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["ES256"],
    })
}

/// The public keys.
pub fn keys(of: &Authenticator) -> Value {
    of.token_keys().public_set()
}
