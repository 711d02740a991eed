//! `PartialObjectMetadata`: an object without its content.

use bytes::Bytes;

use super::raw_metadata;
use crate::http::negotiate::MetaVersion;

/// The object's metadata, its JSON as it is.
pub fn of(object: &[u8], version: MetaVersion) -> Bytes {
    let metadata = raw_metadata(object);
    let head = format!(
        "{{\"kind\":\"PartialObjectMetadata\",\"apiVersion\":\"{}\",\"metadata\":",
        version.api_version()
    );
    [head.as_bytes(), metadata.as_bytes(), b"}"].concat().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_content_is_left_out_and_the_metadata_is_as_it_was_written() {
        let object = br#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"x","z":1,"a":2},"spec":{"metadata":3}}"#;
        assert_eq!(
            of(object, MetaVersion::V1),
            r#"{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/v1","metadata":{"name":"x","z":1,"a":2}}"#
        );
        assert_eq!(
            of(b"{}", MetaVersion::V1Beta1),
            r#"{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/v1beta1","metadata":{}}"#
        );
    }
}
