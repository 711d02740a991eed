//! Secrets are encrypted in the store.

use std::{collections::HashMap, sync::Arc};

use bosun_pki::{Sealer, seal::SealError};
use bytes::Bytes;

use crate::{
    registry::builtin,
    transform::{TransformError, Transformer},
};

/// Seals what is stored. What was not sealed is not believed.
struct AtRest(Arc<Sealer>);

impl Transformer for AtRest {
    fn seal(&self, key: &[u8], plain: Vec<u8>) -> Result<Bytes, TransformError> {
        Ok(self.0.seal(key, &plain).into())
    }

    fn open(&self, key: &[u8], stored: Bytes) -> Result<Bytes, TransformError> {
        match self.0.open(key, &stored) {
            Ok(opened) => Ok(opened.plain.into()),
            Err(SealError::UnknownKey(key)) => Err(TransformError::UnknownKey(key)),
            Err(SealError::NotSealed | SealError::Damaged) => Err(TransformError::Damaged),
        }
    }
}

/// How what is secret is stored, by storage prefix.
pub fn transformers(sealer: &Arc<Sealer>) -> HashMap<Arc<str>, Arc<dyn Transformer>> {
    let at_rest: Arc<dyn Transformer> = Arc::new(AtRest(sealer.clone()));
    [(builtin::prefix("", "secrets"), at_rest)].into()
}
