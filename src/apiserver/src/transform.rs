//! What happens to objects on their way to the store and back: encryption at rest.

use bytes::Bytes;

/// Why a value can't be transformed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransformError {
    /// None of the keys that are known is the one it was sealed with.
    #[error("it is encrypted with the unknown key {0:?}")]
    UnknownKey(String),
    /// The bytes were changed, or are those of another object.
    #[error("it can't be decrypted: it is damaged, or belongs to another object")]
    Damaged,
}

/// Turns objects into what is stored, and back.
pub trait Transformer: Send + Sync {
    /// For the store, under `key`.
    fn seal(&self, key: &[u8], plain: Vec<u8>) -> Result<Bytes, TransformError>;

    /// From the store, under `key`.
    fn open(&self, key: &[u8], stored: Bytes) -> Result<Bytes, TransformError>;

    /// What should be stored under `key` instead: `None` if what is stored is as it would be sealed now.
    fn anew(&self, _key: &[u8], _stored: &[u8]) -> Result<Option<Bytes>, TransformError> {
        Ok(None)
    }
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

/// With the cluster's keys. What was stored plain is refused.
impl Transformer for bosun_pki::Sealer {
    fn seal(&self, key: &[u8], plain: Vec<u8>) -> Result<Bytes, TransformError> {
        Ok(bosun_pki::Sealer::seal(self, key, &plain).into())
    }

    fn open(&self, key: &[u8], stored: Bytes) -> Result<Bytes, TransformError> {
        Ok(opened(self, key, &stored)?.plain.into())
    }

    fn anew(&self, key: &[u8], stored: &[u8]) -> Result<Option<Bytes>, TransformError> {
        let opened = opened(self, key, stored)?;
        Ok(opened.stale.then(|| self.seal(key, &opened.plain).into()))
    }
}

fn opened(sealer: &bosun_pki::Sealer, key: &[u8], stored: &[u8]) -> Result<bosun_pki::seal::Opened, TransformError> {
    use bosun_pki::seal::SealError;
    sealer.open(key, stored).map_err(|error| match error {
        SealError::UnknownKey(name) => TransformError::UnknownKey(name),
        SealError::NotSealed | SealError::Damaged => TransformError::Damaged,
    })
}
