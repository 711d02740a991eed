//! What a definition's status says of it: which names it has taken, whether it is established. Pure.

use bosun_schema::custom::Taken;
use serde_json::{Value, json};

/// The names that other definitions of its group were granted.
pub(super) fn taken(object: &Value, others: &[&Value]) -> Taken {
    let mut taken = Taken::default();
    let of_group = others
        .iter()
        .filter(|other| other["spec"]["group"] == object["spec"]["group"]);
    for names in of_group.map(|other| &other["status"]["acceptedNames"]) {
        let one = |field: &str| names[field].as_str().filter(|name| !name.is_empty()).map(str::to_owned);
        taken.resources.extend(one("plural"));
        taken.resources.extend(one("singular"));
        taken
            .resources
            .extend(texts(&names["shortNames"]).into_iter().map(str::to_owned));
        taken.kinds.extend(one("kind"));
        taken.kinds.extend(one("listKind"));
    }
    taken
}

fn texts(list: &Value) -> Vec<&str> {
    list.as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect()
}

/// Says in a status that its objects are being deleted, since `now` if it did not say so before.
pub(super) fn terminating(status: &mut Value, now: &str) {
    if !status["conditions"].is_array() {
        status["conditions"] = json!([]);
    }
    if let Some(conditions) = status["conditions"].as_array_mut()
        && !conditions.iter().any(|condition| condition["type"] == "Terminating")
    {
        conditions.push(json!({
            "type": "Terminating", "status": "True", "lastTransitionTime": now,
            "reason": "InstanceDeletionInProgress", "message": "CustomResource deletion is in progress",
        }));
    }
}

/// Whether its objects are served.
pub(super) fn is_established(status: &Value) -> bool {
    let conditions = status["conditions"].as_array().into_iter().flatten();
    let mut established = conditions.filter(|condition| condition["type"] == "Established");
    established.any(|condition| condition["status"] == "True")
}

/// `status.storedVersions`
pub(super) fn stored_versions(object: &Value) -> Vec<&str> {
    texts(&object["status"]["storedVersions"])
}

/// The versions that objects may be stored in: those before, and the one they are stored in now.
pub(super) fn stored(object: &Value, before: &[&str]) -> Value {
    let versions = object["spec"]["versions"].as_array().into_iter().flatten();
    let mut storage = versions.filter(|version| version["storage"] == true);
    let now = storage.find_map(|version| version["name"].as_str());
    let mut all = before.to_vec();
    all.extend(now.filter(|now| !before.contains(now)));
    all.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_taken_by_others_of_the_group_that_were_granted_them() {
        let other = |group: &str| {
            json!({
                "spec": {"group": group},
                "status": {"acceptedNames": {"plural": "widgets", "kind": "Widget", "shortNames": ["wd"]}},
            })
        };
        let object = json!({"spec": {"group": "example.com"}});
        let (near, far) = (other("example.com"), other("example.org"));
        let names = taken(&object, &[&near, &far]);
        assert!(names.resources.iter().eq(["wd", "widgets"]) && names.kinds.iter().eq(["Widget"]));
        assert!(taken(&object, &[&far]).resources.is_empty());
    }

    #[test]
    fn an_ending_is_told_once() {
        let mut status = json!({});
        terminating(&mut status, "t1");
        let told = status.clone();
        terminating(&mut status, "t2");
        assert_eq!(
            (&status, &status["conditions"][0]["lastTransitionTime"]),
            (&told, &json!("t1"))
        );
        assert!(!is_established(&status));
    }

    #[test]
    fn a_version_that_objects_were_stored_in_stays_on_the_list() {
        let object = json!({"spec": {"versions": [{"name": "v1"}, {"name": "v2", "storage": true}]}});
        assert_eq!(stored(&object, &["v1"]), json!(["v1", "v2"]));
        assert_eq!(stored(&object, &["v2"]), json!(["v2"]));
    }
}
