//! Pods from templates, and who owns them.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::Resource;
use serde_json::{Map, Value, json};

/// The reference that makes `owner` an object's controller.
pub fn controller_ref<K: Resource<DynamicType = ()>>(owner: &ObjectMeta) -> OwnerReference {
    OwnerReference {
        api_version: K::api_version(&()).into_owned(),
        kind: K::kind(&()).into_owned(),
        name: owner.name.clone().unwrap_or_default(),
        uid: owner.uid.clone().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

/// A pod of `template` that `owner` controls. It has no name yet.
pub fn pod(template: &Value, owner: &OwnerReference) -> Value {
    let mut metadata = Map::new();
    for field in ["labels", "annotations", "finalizers"] {
        if let Some(value) = template
            .pointer(&format!("/metadata/{field}"))
            .filter(|value| !value.is_null())
        {
            metadata.insert(field.to_owned(), value.clone());
        }
    }
    metadata.insert("ownerReferences".to_owned(), json!([owner]));
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "spec": template.get("spec").cloned().unwrap_or_else(|| json!({})),
    })
}

/// A pod of `template` to which the server gives a name that begins with the owner's.
pub fn numbered_pod(template: &Value, owner: &OwnerReference) -> Value {
    let mut made = pod(template, owner);
    made["metadata"]["generateName"] = format!("{}-", owner.name).into();
    made
}

/// The object within `object` at this path; what is there and is none is replaced.
pub fn object_at<'a>(object: &'a mut Value, path: &[&str]) -> &'a mut Map<String, Value> {
    let mut at = object;
    for field in path {
        if !at.is_object() {
            *at = json!({});
        }
        at = &mut at[*field];
    }
    if !at.is_object() {
        *at = json!({});
    }
    at.as_object_mut().expect("it has just been made one")
}

/// Sets a label.
pub fn label(object: &mut Value, key: &str, value: impl Into<String>) {
    object_at(object, &["metadata", "labels"]).insert(key.to_owned(), value.into().into());
}

/// Sets an annotation.
pub fn annotate(object: &mut Value, key: &str, value: impl Into<String>) {
    object_at(object, &["metadata", "annotations"]).insert(key.to_owned(), value.into().into());
}

/// The array within `object` at this path; what is there and is none is replaced.
pub fn array_at<'a>(object: &'a mut Value, path: &[&str], field: &str) -> &'a mut Vec<Value> {
    let at = object_at(object, path).entry(field).or_insert_with(|| json!([]));
    if !at.is_array() {
        *at = json!([]);
    }
    at.as_array_mut().expect("it has just been made one")
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::apps::v1::ReplicaSet;

    use super::*;

    #[test]
    fn a_pod_has_what_its_template_says_and_an_owner() {
        let owner: ObjectMeta = serde_json::from_value(json!({"name": "web-1", "uid": "u"})).unwrap();
        let template = json!({
            "metadata": {"creationTimestamp": null, "labels": {"app": "web"}, "annotations": {"a": "b"}, "name": "no"},
            "spec": {"containers": [{"name": "c"}], "fieldOfTheFuture": 1},
        });
        assert_eq!(
            numbered_pod(&template, &controller_ref::<ReplicaSet>(&owner)),
            json!({
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {
                    "generateName": "web-1-",
                    "labels": {"app": "web"},
                    "annotations": {"a": "b"},
                    "ownerReferences": [{
                        "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-1", "uid": "u",
                        "controller": true, "blockOwnerDeletion": true,
                    }],
                },
                "spec": {"containers": [{"name": "c"}], "fieldOfTheFuture": 1},
            })
        );
    }
}
