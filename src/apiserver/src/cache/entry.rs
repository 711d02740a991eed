//! An object as it is cached: its JSON with the resource version in it, and what selectors and controllers ask for.
//!
//! The store holds an object without its resource version, which is known only once it is committed. As every object is
//! written `{"apiVersion":…,"kind":…,"metadata":{`, the version is put in at the place after that, without decoding.

use std::sync::Arc;

use bosun_store::Revision;
use bytes::Bytes;
use serde_json::Value;

use super::project::{Fields, Projection};

const FIELD: &str = "\"resourceVersion\":\"";

/// Why stored bytes are no object.
#[derive(Debug, thiserror::Error)]
pub enum EntryError {
    /// Not JSON, or not an object with `metadata`.
    #[error("not an object: {0}")]
    Malformed(String),
}

/// An object as it was at one revision.
#[derive(Debug)]
pub struct Entry {
    key: Arc<str>,
    revision: Revision,
    json: Bytes,
    /// Where the digits of the resource version are.
    version_at: u32,
    projection: Projection,
}

impl Entry {
    /// From what is stored under `key` (without its prefix), without a resource version.
    pub fn new(key: Arc<str>, stored: &[u8], revision: Revision, fields: &Fields) -> Result<Self, EntryError> {
        let projection = Projection::read(stored, fields).map_err(|error| EntryError::Malformed(error.to_string()))?;
        let (json, version_at) = if let Some(at) = place(stored) {
            splice(stored, at, revision)
        } else {
            // Written by another hand.
            let object: Value =
                serde_json::from_slice(stored).map_err(|error| EntryError::Malformed(error.to_string()))?;
            let encoded = encode(&object);
            let at = place(&encoded).ok_or_else(|| EntryError::Malformed("it has no metadata".into()))?;
            splice(&encoded, at, revision)
        };
        Ok(Self {
            key,
            revision,
            json,
            version_at,
            projection,
        })
    }

    /// `<namespace>/<name>`, or `<name>`.
    pub fn key(&self) -> &Arc<str> {
        &self.key
    }

    /// Of the object's last change.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// The object with its resource version, in the version that is stored.
    pub fn json(&self) -> &Bytes {
        &self.json
    }

    /// The same with another resource version: that of its deletion.
    pub fn json_at(&self, revision: Revision) -> Bytes {
        let at = self.version_at as usize;
        let digits = self.revision.to_string().len();
        let mut json = Vec::with_capacity(self.json.len() + 8);
        json.extend_from_slice(&self.json[..at]);
        json.extend_from_slice(revision.to_string().as_bytes());
        json.extend_from_slice(&self.json[at + digits..]);
        json.into()
    }

    /// The whole object, decoded, with its resource version.
    pub fn decode(&self) -> Value {
        serde_json::from_slice(&self.json).expect("it was read when it was cached")
    }

    /// Empty if it is in none.
    pub fn namespace(&self) -> &str {
        self.key.rsplit_once('/').map_or("", |(namespace, _)| namespace)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        self.key.rsplit_once('/').map_or(&self.key, |(_, name)| name)
    }

    /// What selectors and controllers ask for.
    pub fn projection(&self) -> &Projection {
        &self.projection
    }
}

/// An object's JSON without resource version, in the order that lets it be put in later: `apiVersion`, `kind`, `metadata`.
pub fn encode(object: &Value) -> Vec<u8> {
    let Some(map) = object.as_object() else {
        return object.to_string().into_bytes();
    };
    let mut json = Vec::with_capacity(512);
    let mut separator = b'{';
    let first = ["apiVersion", "kind", "metadata"];
    let ordered = first.iter().filter_map(|field| map.get_key_value(*field));
    for (field, value) in ordered.chain(map.iter().filter(|(field, _)| !first.contains(&field.as_str()))) {
        json.push(separator);
        separator = b',';
        write(&mut json, field);
        json.push(b':');
        match value.as_object() {
            Some(metadata) if field == "metadata" => write_metadata(&mut json, metadata),
            _ => write(&mut json, value),
        }
    }
    if separator == b'{' {
        json.push(b'{');
    }
    json.push(b'}');
    json
}

fn write_metadata(json: &mut Vec<u8>, metadata: &serde_json::Map<String, Value>) {
    json.push(b'{');
    let kept = metadata.iter().filter(|(field, _)| *field != "resourceVersion");
    for (at, (field, value)) in kept.enumerate() {
        if at > 0 {
            json.push(b',');
        }
        write(json, field);
        json.push(b':');
        write(json, value);
    }
    json.push(b'}');
}

fn write(json: &mut Vec<u8>, value: &(impl serde::Serialize + ?Sized)) {
    serde_json::to_writer(json, value).expect("JSON values are written to memory without failure");
}

/// Puts `revision` in as the resource version of what [`encode`] wrote.
pub fn with_version(encoded: &[u8], revision: Revision) -> Bytes {
    match place(encoded) {
        Some(at) => splice(encoded, at, revision).0,
        None => Bytes::copy_from_slice(encoded),
    }
}

/// Where the first field of `metadata` begins in what [`encode`] wrote.
fn place(json: &[u8]) -> Option<usize> {
    let mut at = 0;
    for (before, text) in [
        (&b"{\"apiVersion\":\""[..], true),
        (b",\"kind\":\"", true),
        (b",\"metadata\":{", false),
    ] {
        at += json.get(at..)?.starts_with(before).then_some(before.len())?;
        if text {
            // Neither of the two has anything that would be escaped.
            at += json[at..].iter().position(|&byte| byte == b'"' || byte == b'\\')?;
            at += json[at..].starts_with(b"\"").then_some(1)?;
        }
    }
    // A version that was stored would be there twice.
    (!json[at..].starts_with(FIELD.as_bytes())).then_some(at)
}

fn splice(json: &[u8], at: usize, revision: Revision) -> (Bytes, u32) {
    let digits = revision.to_string();
    let comma = if json[at] == b'}' { "" } else { "," };
    let mut spliced = Vec::with_capacity(json.len() + FIELD.len() + digits.len() + 1 + comma.len());
    spliced.extend_from_slice(&json[..at]);
    spliced.extend_from_slice(FIELD.as_bytes());
    let version_at = u32::try_from(spliced.len()).expect("an object is far smaller than 4 GiB");
    spliced.extend_from_slice(digits.as_bytes());
    spliced.push(b'"');
    spliced.extend_from_slice(comma.as_bytes());
    spliced.extend_from_slice(&json[at..]);
    (spliced.into(), version_at)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn entry(object: &Value, revision: u64) -> Entry {
        Entry::new("ns/x".into(), &encode(object), Revision(revision), &Fields::default()).unwrap()
    }

    #[test]
    fn the_resource_version_is_put_in_without_decoding() {
        let object = json!({"spec": {"a": 1}, "metadata": {"name": "x", "resourceVersion": "5"}, "kind": "K", "apiVersion": "v1"});
        let encoded = encode(&object);
        let expected = r#"{"apiVersion":"v1","kind":"K","metadata":{"name":"x"},"spec":{"a":1}}"#;
        assert_eq!(String::from_utf8(encoded).unwrap(), expected);
        let entry = entry(&object, 99);
        let expected =
            r#"{"apiVersion":"v1","kind":"K","metadata":{"resourceVersion":"99","name":"x"},"spec":{"a":1}}"#;
        assert_eq!(entry.json(), expected);
        assert_eq!(entry.json_at(Revision(100)), expected.replace("99", "100"));
        assert_eq!((entry.namespace(), entry.name()), ("ns", "x"));
    }

    #[test]
    fn what_another_hand_wrote_is_put_in_order() {
        let stored =
            br#" {"kind":"K", "apiVersion":"v1","metadata":{"labels":{"a":"b"},"resourceVersion":"1","name":"x"}}"#;
        let entry = Entry::new("x".into(), stored, Revision(7), &Fields::default()).unwrap();
        let object = entry.decode();
        assert_eq!(object["metadata"]["resourceVersion"], "7");
        assert_eq!(entry.projection().label("a"), Some("b"));
        assert_eq!(entry.json_at(Revision(12)).len(), entry.json().len() + 1);
        for stored in [&b"{"[..], b"[]", b"{}", b"", b"{\"apiVersion\":\"v1\"}"] {
            assert!(Entry::new("x".into(), stored, Revision(7), &Fields::default()).is_err());
        }
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            ".{0,8}".prop_map(Value::from)
        ];
        leaf.prop_recursive(3, 16, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::hash_map(".{0,6}", inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn only_the_resource_version_changes(spec in any_json(), annotations in prop::collection::hash_map(".{0,6}", ".{0,6}", 0..3), revision in 1u64..) {
            let object = json!({"apiVersion": "a/v1", "kind": "K", "metadata": {"annotations": annotations, "name": "x"}, "spec": spec});
            let entry = entry(&object, revision);
            let mut expected = object;
            expected["metadata"]["resourceVersion"] = revision.to_string().into();
            prop_assert_eq!(entry.decode(), expected);
        }
    }
}
