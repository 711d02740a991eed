//! What happens to objects on their way to the store and back: encryption at rest.

use bytes::Bytes;
use ring::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    rand::{SecureRandom, SystemRandom},
};

/// What is before an encrypted value: this, the key's name, a colon, the nonce, the sealed bytes.
const SEALED: &[u8] = b"bosun:enc:aesgcm:v1:";

/// Why a value can't be transformed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransformError {
    /// None of the keys that are known is the one it was sealed with.
    #[error("it is encrypted with the unknown key {0:?}")]
    UnknownKey(String),
    /// The bytes were changed, or are those of another object.
    #[error("it can't be decrypted: it is damaged, or belongs to another object")]
    Damaged,
    /// The system gives no random numbers.
    #[error("no random numbers for encryption")]
    NoRandom,
    /// The key has the wrong length.
    #[error("the key is not 32 bytes long")]
    BadKey,
}

/// Turns objects into what is stored, and back.
pub trait Transformer: Send + Sync {
    /// For the store, under `key`.
    fn seal(&self, key: &[u8], plain: Vec<u8>) -> Result<Bytes, TransformError>;

    /// From the store, under `key`.
    fn open(&self, key: &[u8], stored: Bytes) -> Result<Bytes, TransformError>;
}

/// Stores objects as they are.
#[derive(Clone, Copy, Debug, Default)]
pub struct Plain;

impl Transformer for Plain {
    fn seal(&self, _key: &[u8], plain: Vec<u8>) -> Result<Bytes, TransformError> {
        Ok(plain.into())
    }

    fn open(&self, _key: &[u8], stored: Bytes) -> Result<Bytes, TransformError> {
        Ok(stored)
    }
}

/// Encrypts with AES-256-GCM, bound to the object's key in the store. What was stored plain before is read as well.
pub struct AesGcm {
    /// The first seals, all open.
    keys: Vec<(String, LessSafeKey)>,
    random: SystemRandom,
}

impl AesGcm {
    /// From names and 32 secret bytes each; the first seals, all open. A name has no colon.
    pub fn new<'a>(keys: impl IntoIterator<Item = (String, &'a [u8])>) -> Result<Self, TransformError> {
        let keys = keys.into_iter().map(|(name, secret)| {
            let key = UnboundKey::new(&AES_256_GCM, secret).map_err(|_| TransformError::BadKey)?;
            Ok((name, LessSafeKey::new(key)))
        });
        let keys = keys.collect::<Result<Vec<_>, _>>()?;
        if keys.is_empty() {
            return Err(TransformError::BadKey);
        }
        Ok(Self {
            keys,
            random: SystemRandom::new(),
        })
    }
}

impl Transformer for AesGcm {
    fn seal(&self, key: &[u8], mut plain: Vec<u8>) -> Result<Bytes, TransformError> {
        let (name, secret) = &self.keys[0];
        let mut nonce = [0; NONCE_LEN];
        self.random.fill(&mut nonce).map_err(|_| TransformError::NoRandom)?;
        secret
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(key), &mut plain)
            .map_err(|_| TransformError::Damaged)?;
        Ok([SEALED, name.as_bytes(), b":", &nonce, &plain].concat().into())
    }

    fn open(&self, key: &[u8], stored: Bytes) -> Result<Bytes, TransformError> {
        let Some(rest) = stored.strip_prefix(SEALED) else {
            return Ok(stored);
        };
        let colon = rest
            .iter()
            .position(|&byte| byte == b':')
            .ok_or(TransformError::Damaged)?;
        let (name, rest) = (&rest[..colon], &rest[colon + 1..]);
        let (_, secret) = self
            .keys
            .iter()
            .find(|(one, _)| one.as_bytes() == name)
            .ok_or_else(|| TransformError::UnknownKey(String::from_utf8_lossy(name).into_owned()))?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE_LEN>().ok_or(TransformError::Damaged)?;
        let mut sealed = sealed.to_vec();
        let length = secret
            .open_in_place(Nonce::assume_unique_for_key(*nonce), Aad::from(key), &mut sealed)
            .map_err(|_| TransformError::Damaged)?
            .len();
        sealed.truncate(length);
        Ok(sealed.into())
    }
}

/// With the cluster's keys. What was stored plain is refused.
impl Transformer for bosun_pki::Sealer {
    fn seal(&self, key: &[u8], plain: Vec<u8>) -> Result<Bytes, TransformError> {
        Ok(bosun_pki::Sealer::seal(self, key, &plain).into())
    }

    fn open(&self, key: &[u8], stored: Bytes) -> Result<Bytes, TransformError> {
        use bosun_pki::seal::SealError;
        match bosun_pki::Sealer::open(self, key, &stored) {
            Ok(opened) => Ok(opened.plain.into()),
            Err(SealError::UnknownKey(name)) => Err(TransformError::UnknownKey(name)),
            Err(SealError::NotSealed | SealError::Damaged) => Err(TransformError::Damaged),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cipher(names: &[&str]) -> AesGcm {
        let keys: Vec<_> = names
            .iter()
            .map(|name| (name.to_string(), [name.as_bytes()[0]; 32]))
            .collect();
        AesGcm::new(keys.iter().map(|(name, secret)| (name.clone(), &secret[..]))).unwrap()
    }

    #[test]
    fn a_sealed_value_shows_nothing_and_opens_under_its_own_key_only() {
        let sealed = cipher(&["a"]).seal(b"/k", b"secret".to_vec()).unwrap();
        assert!(!sealed.windows(6).any(|part| part == b"secret"));
        assert_eq!(cipher(&["b", "a"]).open(b"/k", sealed.clone()).unwrap(), "secret");
        assert_eq!(
            cipher(&["a"]).open(b"/other", sealed.clone()),
            Err(TransformError::Damaged)
        );
        assert_eq!(
            cipher(&["b"]).open(b"/k", sealed),
            Err(TransformError::UnknownKey("a".into()))
        );
        assert_eq!(cipher(&["a"]).open(b"/k", Bytes::from_static(b"{}")).unwrap(), "{}");
        assert_eq!(
            AesGcm::new([("a".to_owned(), &[0; 31][..])]).err(),
            Some(TransformError::BadKey)
        );
    }

    proptest! {
        #[test]
        fn a_changed_value_never_opens(plain in prop::collection::vec(any::<u8>(), 0..40), at in any::<prop::sample::Index>(), bit in 0u32..8) {
            let cipher = cipher(&["a"]);
            let mut sealed = cipher.seal(b"/k", plain).unwrap().to_vec();
            let at = SEALED.len() + at.index(sealed.len() - SEALED.len());
            sealed[at] ^= 1u8 << bit;
            prop_assert!(cipher.open(b"/k", sealed.into()).is_err());
        }

        #[test]
        fn any_bytes_are_opened_or_refused(stored in prop::collection::vec(any::<u8>(), 0..60), marked in any::<bool>()) {
            let stored = if marked { [SEALED, &stored].concat() } else { stored };
            let _ = cipher(&["a"]).open(b"/k", stored.into());
        }
    }
}
