//! What is kept of each cached object beside its bytes: read in one pass over the JSON, without decoding the rest.

use std::{collections::BTreeMap, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor},
};

/// Paths of the fields that selectors of a kind use, such as `spec.nodeName`.
#[derive(Clone, Debug, Default)]
pub struct Fields {
    root: Node,
    count: usize,
}

#[derive(Clone, Debug, Default)]
struct Node {
    below: BTreeMap<Box<str>, Node>,
    slot: Option<usize>,
}

impl Fields {
    /// Their values are in the same order in [`Projection::field`].
    pub fn new<'a>(paths: impl IntoIterator<Item = &'a str>) -> Self {
        let mut fields = Self::default();
        for path in paths {
            let mut node = &mut fields.root;
            for part in path.split('.') {
                node = node.below.entry(part.into()).or_default();
            }
            node.slot = Some(fields.count);
            fields.count += 1;
        }
        fields
    }

    /// The place of a path.
    pub fn place(&self, path: &str) -> Option<usize> {
        let mut node = &self.root;
        for part in path.split('.') {
            node = node.below.get(part)?;
        }
        node.slot
    }
}

/// What selectors and controllers ask for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Projection {
    /// Sorted.
    labels: Box<[(Box<str>, Box<str>)]>,
    fields: Box<[Box<str>]>,
    uid: Box<str>,
    owners: Box<[Box<str>]>,
    deleting: bool,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Metadata {
    labels: Option<BTreeMap<Box<str>, Box<str>>>,
    uid: Option<Box<str>>,
    owner_references: Option<Vec<Owner>>,
    deletion_timestamp: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct Owner {
    #[serde(default)]
    uid: Box<str>,
}

impl Projection {
    /// Reads an object; it must have `metadata`.
    pub fn read(json: &[u8], fields: &Fields) -> serde_json::Result<Self> {
        let mut values = vec![Box::from(""); fields.count];
        let mut metadata = None;
        let mut json = serde_json::Deserializer::from_slice(json);
        let walk = Walk {
            node: &fields.root,
            values: &mut values,
            metadata: Some(&mut metadata),
        };
        walk.deserialize(&mut json)?;
        json.end()?;
        let Some(metadata) = metadata else {
            return Err(serde_json::Error::custom("it has no metadata"));
        };
        let owners = metadata.owner_references.unwrap_or_default();
        Ok(Self {
            labels: metadata.labels.unwrap_or_default().into_iter().collect(),
            fields: values.into(),
            uid: metadata.uid.unwrap_or_default(),
            owners: owners.into_iter().map(|owner| owner.uid).collect(),
            deleting: metadata.deletion_timestamp.is_some(),
        })
    }

    /// A label's value.
    pub fn label(&self, key: &str) -> Option<&str> {
        let at = self.labels.binary_search_by(|(one, _)| (**one).cmp(key)).ok()?;
        Some(&self.labels[at].1)
    }

    /// All labels, sorted.
    pub fn labels(&self) -> impl Iterator<Item = (&str, &str)> {
        self.labels.iter().map(|(key, value)| (&**key, &**value))
    }

    /// The value of the field at this place of [`Fields`]; empty if it is absent.
    pub fn field(&self, at: usize) -> &str {
        self.fields.get(at).map_or("", |value| value)
    }

    /// All such values, in their order.
    pub fn fields(&self) -> impl Iterator<Item = &str> {
        self.fields.iter().map(|value| &**value)
    }

    /// The object's UID.
    pub fn uid(&self) -> &str {
        &self.uid
    }

    /// The UIDs of its owners.
    pub fn owners(&self) -> impl Iterator<Item = &str> {
        self.owners.iter().map(|uid| &**uid)
    }

    /// Whether its deletion has begun.
    pub fn is_deleting(&self) -> bool {
        self.deleting
    }
}

/// Reads the value at a node, and what of the values below is asked for.
struct Walk<'a> {
    node: &'a Node,
    values: &'a mut Vec<Box<str>>,
    /// At the root only.
    metadata: Option<&'a mut Option<Metadata>>,
}

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl Walk<'_> {
    fn keep(&mut self, value: impl fmt::Display) {
        if let Some(slot) = self.node.slot {
            self.values[slot] = value.to_string().into();
        }
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<std::borrow::Cow<'de, str>>()? {
            if key == "metadata"
                && let Some(metadata) = &mut self.metadata
            {
                **metadata = Some(map.next_value()?);
            } else if let Some(node) = self.node.below.get(&*key) {
                map.next_value_seed(Walk {
                    node,
                    values: self.values,
                    metadata: None,
                })?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(())
    }

    fn visit_str<E>(mut self, value: &str) -> Result<(), E> {
        self.keep(value);
        Ok(())
    }

    fn visit_bool<E>(mut self, value: bool) -> Result<(), E> {
        self.keep(value);
        Ok(())
    }

    fn visit_i64<E>(mut self, value: i64) -> Result<(), E> {
        self.keep(value);
        Ok(())
    }

    fn visit_u64<E>(mut self, value: u64) -> Result<(), E> {
        self.keep(value);
        Ok(())
    }

    fn visit_f64<E>(mut self, value: f64) -> Result<(), E> {
        self.keep(value);
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn read(object: &serde_json::Value, paths: &[&str]) -> serde_json::Result<Projection> {
        Projection::read(object.to_string().as_bytes(), &Fields::new(paths.iter().copied()))
    }

    #[test]
    fn what_selectors_ask_for_is_kept() {
        let object = json!({
            "metadata": {
                "name": "x", "uid": "u", "labels": {"b": "2", "a": "\"1"}, "deletionTimestamp": "2026-01-01T00:00:00Z",
                "ownerReferences": [{"uid": "o", "name": "owner"}, {}],
            },
            "spec": {"nodeName": "n", "hostNetwork": true, "list": [{"nodeName": "m"}]},
            "status": {"replicas": 3, "phase": null},
        });
        let paths = [
            "spec.nodeName",
            "spec.hostNetwork",
            "status.replicas",
            "status.phase",
            "type",
            "spec.list",
        ];
        let projection = read(&object, &paths).unwrap();
        let fields: Vec<_> = projection.fields().collect();
        assert_eq!(fields, ["n", "true", "3", "", "", ""]);
        assert_eq!(projection.labels().collect::<Vec<_>>(), [("a", "\"1"), ("b", "2")]);
        assert_eq!(projection.label("a"), Some("\"1"));
        assert_eq!(projection.label("c"), None);
        assert_eq!(projection.uid(), "u");
        assert_eq!(projection.owners().collect::<Vec<_>>(), ["o", ""]);
        assert!(projection.is_deleting());
    }

    #[test]
    fn null_metadata_fields_are_absent_ones() {
        let object =
            json!({"metadata": {"labels": null, "deletionTimestamp": null, "ownerReferences": null, "uid": null}});
        assert_eq!(read(&object, &[]).unwrap(), Projection::default());
        assert!(read(&json!({"metadata": {"labels": {"a": 1}}}), &[]).is_err());
        assert!(read(&json!({}), &[]).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = Projection::read(&bytes, &Fields::new(["a.b", "c"]));
        }
    }
}
