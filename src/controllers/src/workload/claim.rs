//! Which objects are a controller's own, which it adopts, which it lets go.
//!
//! The owner reference with `controller: true` decides; the selector only tells which objects without such an owner may
//! be adopted, and which of one's own have gone astray.

use std::sync::Arc;

use bosun_api::selector;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta, OwnerReference};
use kube::{Resource, ResourceExt};
use serde_json::{Value, json};

use crate::objects::controller_of;

/// Objects by what they are to a controller. Others' are in none of these.
#[derive(Clone, Debug)]
pub struct Claims<K> {
    /// Its own.
    pub owned: Vec<Arc<K>>,
    /// Nobody's, and it selects them.
    pub adopt: Vec<Arc<K>>,
    /// Its own, but it doesn't select them any more.
    pub release: Vec<Arc<K>>,
}

/// Sorts `objects`, all of the owner's namespace.
pub fn claim<K: Resource<DynamicType = ()>>(
    owner: &ObjectMeta,
    selector: &LabelSelector,
    objects: impl IntoIterator<Item = Arc<K>>,
) -> Claims<K> {
    let mut claims = Claims {
        owned: vec![],
        adopt: vec![],
        release: vec![],
    };
    let is_deleted = owner.deletion_timestamp.is_some();
    for object in objects {
        let selected = selector::matches(selector, object.labels());
        match controller_of(object.meta()) {
            Some(controller) if Some(&controller.uid) != owner.uid.as_ref() => {}
            Some(_) if selected => claims.owned.push(object),
            // What is deleted lets the garbage collector see to what it owned.
            Some(_) if is_deleted => {}
            Some(_) => claims.release.push(object),
            None if is_deleted || !selected || object.meta().deletion_timestamp.is_some() => {}
            None => claims.adopt.push(object),
        }
    }
    claims
}

/// The strategic merge patch that makes `owner` the controller of the object with this UID.
pub fn adoption(owner: &OwnerReference, uid: &str) -> Value {
    json!({"metadata": {"uid": uid, "ownerReferences": [owner]}})
}

/// The strategic merge patch that lets the object with this UID go.
pub fn release(owner_uid: &str, uid: &str) -> Value {
    json!({"metadata": {"uid": uid, "ownerReferences": [{"$patch": "delete", "uid": owner_uid}]}})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::Pod;

    #[test]
    fn objects_are_told_apart_by_their_controller_and_their_labels() {
        let owner = |uid: &str, controller: bool| json!([{"apiVersion": "v1", "kind": "K", "name": "n", "uid": uid, "controller": controller}]);
        let pod = |labels: Value, owners: Value, deleted: bool| -> Arc<Pod> {
            let deleted = deleted.then_some("2026-01-01T00:00:00Z");
            let metadata =
                json!({"name": "p", "labels": labels, "ownerReferences": owners, "deletionTimestamp": deleted});
            Arc::new(serde_json::from_value(json!({"metadata": metadata})).unwrap())
        };
        let selector: LabelSelector = serde_json::from_value(json!({"matchLabels": {"app": "web"}})).unwrap();
        let (web, db) = (json!({"app": "web"}), json!({"app": "db"}));
        for (why, pod, expected, of_a_deleted_owner) in [
            ("its own", pod(web.clone(), owner("me", true), false), "owned", "owned"),
            (
                "its own, ending",
                pod(web.clone(), owner("me", true), true),
                "owned",
                "owned",
            ),
            (
                "its own, astray",
                pod(db.clone(), owner("me", true), false),
                "release",
                "others'",
            ),
            (
                "another's",
                pod(web.clone(), owner("you", true), false),
                "others'",
                "others'",
            ),
            ("nobody's", pod(web.clone(), json!([]), false), "adopt", "others'"),
            (
                "owned by one who doesn't control it",
                pod(web.clone(), owner("you", false), false),
                "adopt",
                "others'",
            ),
            ("nobody's, ending", pod(web, json!([]), true), "others'", "others'"),
            ("not selected", pod(db, json!([]), false), "others'", "others'"),
        ] {
            for (is_deleted, expected) in [(false, expected), (true, of_a_deleted_owner)] {
                let time = is_deleted.then_some("2026-01-01T00:00:00Z");
                let owner: ObjectMeta =
                    serde_json::from_value(json!({"uid": "me", "deletionTimestamp": time})).unwrap();
                let claims = claim(&owner, &selector, [pod.clone()]);
                let found = match (claims.owned.len(), claims.adopt.len(), claims.release.len()) {
                    (1, 0, 0) => "owned",
                    (0, 1, 0) => "adopt",
                    (0, 0, 1) => "release",
                    _ => "others'",
                };
                assert_eq!(found, expected, "{why}, owner deleted: {is_deleted}");
            }
        }
    }
}
