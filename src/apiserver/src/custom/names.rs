//! Whether a definition's names are free, and what its status says of that. Pure.

use serde_json::{Value, json};

/// The fields of names that hold one each.
const SINGLE: [(&str, &str); 4] = [
    ("plural", "PluralConflict"),
    ("singular", "SingularConflict"),
    ("kind", "KindConflict"),
    ("listKind", "ListKindConflict"),
];

/// The status that a definition should have, beside `others`: all definitions but this one. Conditions that say what they
/// said keep their time.
pub(super) fn status(object: &Value, others: &[&Value], now: &str) -> Value {
    let mut status = object["status"].clone();
    if !status.is_object() {
        status = json!({});
    }
    let taken: Vec<&Value> = others
        .iter()
        .filter(|other| other["spec"]["group"] == object["spec"]["group"])
        .map(|other| &other["status"]["acceptedNames"])
        .collect();
    let (accepted, conflict) = accept(&object["spec"]["names"], &status["acceptedNames"], &taken);
    status["acceptedNames"] = accepted;
    let named = match &conflict {
        None => ("True", "NoConflicts", "no conflicts found".to_owned()),
        Some((reason, message)) => ("False", *reason, message.clone()),
    };
    set(&mut status, "NamesAccepted", (named.0, named.1, &named.2), now);
    if conflict.is_none() {
        let message = "the initial names have been accepted";
        set(
            &mut status,
            "Established",
            ("True", "InitialNamesAccepted", message),
            now,
        );
    } else if !is_established(object) {
        let message = "not all names are accepted";
        set(&mut status, "Established", ("False", "NotAccepted", message), now);
    }
    let kept = stored_versions(object);
    status["storedVersions"] = stored(object, &kept);
    status
}

/// The names that are granted, and the first that is not.
fn accept(wanted: &Value, granted: &Value, taken: &[&Value]) -> (Value, Option<(&'static str, String)>) {
    let mut accepted = if granted.is_object() {
        granted.clone()
    } else {
        json!({})
    };
    let mut conflict = None;
    let is_taken = |name: &str| taken.iter().any(|names| uses(names, name));
    let kind_is_taken = |name: &str| {
        let kinds = |names: &&Value| names["kind"] == name || names["listKind"] == name;
        taken.iter().any(kinds)
    };
    for (field, reason) in SINGLE {
        let Some(name) = wanted[field].as_str().filter(|name| !name.is_empty()) else {
            continue;
        };
        let free = if field.to_lowercase().ends_with("kind") {
            !kind_is_taken(name)
        } else {
            !is_taken(name)
        };
        if free {
            accepted[field] = name.into();
        } else if conflict.is_none() {
            conflict = Some((reason, format!("{name:?} is already in use")));
        }
    }
    let short: Vec<&str> = texts(&wanted["shortNames"]);
    let (free, used): (Vec<_>, Vec<_>) = short.into_iter().partition(|name| !is_taken(name));
    match used.first() {
        None => set_list(&mut accepted, "shortNames", &free),
        Some(name) if conflict.is_none() => {
            conflict = Some(("ShortNamesConflict", format!("{name:?} is already in use")));
        }
        Some(_) => {}
    }
    set_list(&mut accepted, "categories", &texts(&wanted["categories"]));
    (accepted, conflict)
}

/// Whether these names have one that resources are asked for by.
fn uses(names: &Value, name: &str) -> bool {
    names["plural"] == name || names["singular"] == name || texts(&names["shortNames"]).contains(&name)
}

fn set_list(names: &mut Value, field: &str, list: &[&str]) {
    let Some(names) = names.as_object_mut() else { return };
    if list.is_empty() {
        names.remove(field);
    } else {
        names.insert(field.to_owned(), list.into());
    }
}

fn texts(list: &Value) -> Vec<&str> {
    list.as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect()
}

/// Sets a condition: status, reason and message.
pub(super) fn set(status: &mut Value, kind: &str, (is, reason, message): (&str, &str, &str), now: &str) {
    if !status["conditions"].is_array() {
        status["conditions"] = json!([]);
    }
    let condition = json!({
        "type": kind, "status": is, "lastTransitionTime": now, "reason": reason, "message": message,
    });
    let Some(conditions) = status["conditions"].as_array_mut() else {
        return;
    };
    match conditions.iter_mut().find(|condition| condition["type"] == kind) {
        Some(known) => {
            let since = known["lastTransitionTime"].clone();
            let same = known["status"] == is;
            *known = condition;
            if same {
                known["lastTransitionTime"] = since;
            }
        }
        None => conditions.push(condition),
    }
}

/// Whether its objects are served.
pub(super) fn is_established(object: &Value) -> bool {
    let conditions = object["status"]["conditions"].as_array().into_iter().flatten();
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

    fn definition(plural: &str, kind: &str, short: &[&str]) -> Value {
        json!({
            "spec": {
                "group": "example.com", "versions": [{"name": "v1", "storage": true}],
                "names": {
                    "plural": plural, "singular": kind.to_lowercase(), "kind": kind, "listKind": format!("{kind}List"),
                    "shortNames": short,
                }
            }
        })
    }

    fn said(status: &Value, kind: &str) -> (String, String, String) {
        let conditions = status["conditions"].as_array().expect("conditions");
        let one = conditions
            .iter()
            .find(|one| one["type"] == kind)
            .expect("the condition");
        let text = |field: &str| one[field].as_str().unwrap_or_default().to_owned();
        (text("status"), text("reason"), text("message"))
    }

    #[test]
    fn free_names_are_accepted_and_the_definition_is_established() {
        let mut one = definition("widgets", "Widget", &["wd"]);
        let status = status(&one, &[], "2026-01-01T00:00:00Z");
        assert_eq!(status["acceptedNames"], one["spec"]["names"]);
        assert_eq!(said(&status, "NamesAccepted").1, "NoConflicts");
        assert_eq!(said(&status, "Established").0, "True");
        assert_eq!(status["storedVersions"], json!(["v1"]));
        one["status"] = status.clone();
        assert_eq!(
            super::status(&one, &[], "2027-01-01T00:00:00Z"),
            status,
            "nothing changes"
        );
    }

    #[test]
    fn a_name_in_use_in_the_group_is_not_granted_and_names_itself() {
        let mut first = definition("widgets", "Widget", &["wd"]);
        first["status"] = status(&first, &[], "t");
        let table = [
            (
                definition("widgets", "Other", &[]),
                "PluralConflict",
                "\"widgets\" is already in use",
            ),
            (
                definition("wd", "Other", &[]),
                "PluralConflict",
                "\"wd\" is already in use",
            ),
            (
                definition("others", "Widget", &[]),
                "SingularConflict",
                "\"widget\" is already in use",
            ),
            (
                definition("others", "Other", &["wd"]),
                "ShortNamesConflict",
                "\"wd\" is already in use",
            ),
        ];
        for (second, reason, message) in table {
            let status = status(&second, &[&first], "t");
            let (is, because, says) = said(&status, "NamesAccepted");
            assert_eq!((&*is, &*because, &*says), ("False", reason, message));
            assert_eq!(said(&status, "Established").1, "NotAccepted");
            let mut elsewhere = second.clone();
            elsewhere["spec"]["group"] = "other.example.com".into();
            let status = super::status(&elsewhere, &[&first], "t");
            assert_eq!(said(&status, "Established").0, "True");
        }
    }

    #[test]
    fn a_version_that_objects_were_stored_in_stays_on_the_list() {
        let object = json!({"spec": {"versions": [{"name": "v1"}, {"name": "v2", "storage": true}]}});
        assert_eq!(stored(&object, &["v1"]), json!(["v1", "v2"]));
        assert_eq!(stored(&object, &["v2"]), json!(["v2"]));
    }
}
