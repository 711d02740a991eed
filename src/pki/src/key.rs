//! Private keys: ECDSA on P-256, the one kind made here.

use std::fmt;

use base64::{Engine, engine::general_purpose::STANDARD};
use ring::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair},
};

use crate::der;

/// A private key. It shows nothing of itself in logs.
pub struct PrivateKey {
    pkcs8: Vec<u8>,
    pair: EcdsaKeyPair,
}

/// The bytes are no P-256 key in PKCS #8.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an ECDSA P-256 key in PKCS #8")]
pub struct NotAKey;

impl PrivateKey {
    /// A new one, from the system's randomness.
    pub fn generate() -> Self {
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &SystemRandom::new())
            .expect("the system has randomness");
        Self::from_pkcs8(pkcs8.as_ref()).expect("a key just made can be read")
    }

    /// From PKCS #8 in DER, checked to be whole.
    pub fn from_pkcs8(pkcs8: &[u8]) -> Result<Self, NotAKey> {
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, pkcs8, &SystemRandom::new())
            .map_err(|_| NotAKey)?;
        Ok(Self {
            pkcs8: pkcs8.to_vec(),
            pair,
        })
    }

    /// The point on the curve, uncompressed: 65 bytes.
    pub fn public(&self) -> &[u8] {
        self.pair.public_key().as_ref()
    }

    /// `SubjectPublicKeyInfo` in DER.
    pub fn public_info(&self) -> Vec<u8> {
        public_info(self.public())
    }

    /// PKCS #8 in DER: the secret itself.
    pub fn secret_pkcs8(&self) -> &[u8] {
        &self.pkcs8
    }

    /// PKCS #8 in PEM: the secret itself.
    pub fn secret_pem(&self) -> String {
        pem("PRIVATE KEY", &self.pkcs8)
    }

    /// A signature in ASN.1, as certificates carry it.
    pub(crate) fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.pair
            .sign(&SystemRandom::new(), message)
            .expect("the system has randomness")
            .as_ref()
            .to_vec()
    }

    /// A signature of 64 bytes, as tokens carry it.
    pub(crate) fn sign_fixed(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &self.pkcs8, &random)
            .expect("the key was checked");
        pair.sign(&random, message)
            .expect("the system has randomness")
            .as_ref()
            .to_vec()
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey")
    }
}

/// `SubjectPublicKeyInfo` of a P-256 point.
pub(crate) fn public_info(point: &[u8]) -> Vec<u8> {
    der::sequence(&[
        der::sequence(&[der::oid(der::EC_PUBLIC_KEY), der::oid(der::P256)]),
        der::bits(point),
    ])
}

/// DER as PEM (RFC 7468).
pub fn pem(label: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let mut out = format!("-----BEGIN {label}-----\n");
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, more) = rest.split_at(rest.len().min(64));
        out.push_str(line);
        out.push('\n');
        rest = more;
    }
    out + "-----END " + label + "-----\n"
}
