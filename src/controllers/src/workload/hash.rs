//! Short names for templates, and whether two templates are the same.

use serde_json::Value;

/// Upstream's alphabet for what is generated: no vowels, so no words; nothing that is mistaken for another.
const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

/// A short name for `value`, and another one for every number of `collisions`. The same on every machine and in every
/// version of this program that there will be: objects are named by it.
pub fn short(value: &Value, collisions: Option<i32>) -> String {
    // FNV-1a of 32 bits.
    let mut hash = 0x811c_9dc5_u32;
    let mut write = |bytes: &[u8]| {
        for byte in bytes {
            hash = (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193);
        }
    };
    write(canonical(value).to_string().as_bytes());
    if let Some(collisions) = collisions {
        write(&collisions.to_le_bytes());
    }
    let digits = hash.to_string();
    digits
        .bytes()
        .map(|digit| char::from(ALPHABET[usize::from(digit) % ALPHABET.len()]))
        .collect()
}

/// Whether two templates make the same pods: labels in `ignored` don't count, since they tell who made the template.
pub fn same_template(one: &Value, other: &Value, ignored: &[&str]) -> bool {
    let without = |template: &Value| {
        let mut template = canonical(template);
        if let Some(labels) = template.pointer_mut("/metadata/labels").and_then(Value::as_object_mut) {
            for label in ignored {
                labels.remove(*label);
            }
        }
        prune_metadata(&mut template);
        template
    };
    without(one) == without(other)
}

/// Metadata that is empty is no metadata.
fn prune_metadata(template: &mut Value) {
    let empty = |value: &Value| value.as_object().is_some_and(serde_json::Map::is_empty);
    if let Some(metadata) = template.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.retain(|_, value| !empty(value));
    }
    if template.get("metadata").is_some_and(empty) {
        template
            .as_object_mut()
            .map(|template| template.shift_remove("metadata"));
    }
}

/// The value with the keys of its objects in order and without `null`, which Go writes for what isn't there.
pub fn canonical(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let mut fields: Vec<_> = fields.iter().filter(|(_, value)| !value.is_null()).collect();
            fields.sort_unstable_by_key(|(key, _)| *key);
            fields
                .into_iter()
                .map(|(key, value)| (key.clone(), canonical(value)))
                .collect()
        }
        Value::Array(items) => items.iter().map(canonical).collect(),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_name_depends_on_what_is_said_and_not_on_how_it_is_written() {
        let one = json!({"a": 1, "b": {"c": [1, 2], "d": null}});
        let other = json!({"b": {"c": [1, 2]}, "a": 1});
        assert_eq!(short(&one, None), short(&other, None));
        assert_ne!(short(&one, None), short(&json!({"a": 1, "b": {"c": [2, 1]}}), None));
        assert_ne!(short(&one, None), short(&one, Some(1)));
        assert_ne!(short(&one, Some(2)), short(&one, Some(1)));
        // Written down once and for all.
        assert_eq!(short(&json!({}), None), "5859f96865");
    }

    #[test]
    fn templates_are_compared_without_the_labels_of_their_maker() {
        let plain = json!({"metadata": {"labels": {"app": "web"}}, "spec": {"containers": []}});
        let made = json!({
            "metadata": {"creationTimestamp": null, "labels": {"pod-template-hash": "abc", "app": "web"}},
            "spec": {"containers": []},
        });
        assert!(same_template(&plain, &made, &["pod-template-hash"]));
        assert!(!same_template(&plain, &made, &[]));
        let bare = json!({"spec": {"containers": []}});
        let labelled = json!({"metadata": {"labels": {"pod-template-hash": "abc"}}, "spec": {"containers": []}});
        assert!(same_template(&bare, &labelled, &["pod-template-hash"]));
        let other = json!({"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c"}]}});
        assert!(!same_template(&plain, &other, &["pod-template-hash"]));
    }
}
