//! Other faces of an object: a table of it, or its metadata alone. Both are made from its encoded JSON.

pub mod metadata;
pub mod table;

use serde::Deserialize;
use serde_json::value::RawValue;

/// An object's metadata as it is written.
#[derive(Deserialize)]
struct OnlyMetadata<'a> {
    #[serde(borrow)]
    metadata: &'a RawValue,
}

/// An object's own JSON of its `metadata`; `{}` for what has none.
pub fn raw_metadata(object: &[u8]) -> &str {
    serde_json::from_slice::<OnlyMetadata<'_>>(object).map_or("{}", |found| found.metadata.get())
}
