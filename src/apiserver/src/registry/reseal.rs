//! What is stored with a former key is stored anew with the present one, so that the former can be thrown away.

use bosun_store::{Compare, Error, KeyRange, Op, Txn};
use bytes::Bytes;

use super::Registry;
use crate::Status;

/// Objects read at a time.
const PAGE: usize = 50;

impl Registry {
    /// Seals anew what is not as it would be sealed now; how many objects that were. They stay as they are otherwise.
    pub async fn seal_anew(&self) -> Result<usize, Status> {
        let mut sealed = 0;
        for (prefix, transformer) in &self.config.transformers {
            let mut range = KeyRange::prefix(prefix.as_bytes().to_vec());
            loop {
                let page = self.store.range(range.clone(), PAGE, None).await?;
                for kv in &page.kvs {
                    let anew = transformer.anew(&kv.key, &kv.value).map_err(Status::internal)?;
                    let Some(value) = anew else { continue };
                    let (key, was) = (kv.key.clone(), kv.modified);
                    let txn = Txn {
                        compares: vec![Compare::Modified(key.clone(), was)],
                        ops: vec![Op::Put { key, value, ttl: None }],
                    };
                    match self.store.commit(txn).await {
                        Ok(_) => sealed += 1,
                        // Whoever was quicker sealed it with the present key.
                        Err(Error::Conflict) => {}
                        Err(error) => return Err(error.into()),
                    }
                }
                let (true, Some(last)) = (page.more, page.kvs.last()) else {
                    break;
                };
                range.start = Bytes::from([&*last.key, b"\0"].concat());
            }
        }
        Ok(sealed)
    }
}
