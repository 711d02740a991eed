use serde_json::{Value, json};

use super::*;
use crate::builtin::type_of_kind;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

fn model(group: &str, kind: &str) -> Model<'static> {
    Model {
        types: Types::builtin(),
        ty: type_of_kind(group, "v1", kind).unwrap(),
        api_version: if group.is_empty() { "v1" } else { "apps/v1" },
        versions: None,
        reset: reset_fields(""),
    }
}

fn writer(manager: &str, second: i64) -> Writer<'_> {
    Writer {
        manager,
        subresource: "",
        now: at(second),
    }
}

/// Manager, operation and fields of each entry, one text each.
fn owners(object: &Value) -> Vec<String> {
    let managers = Managers::decode(managed_fields(object)).unwrap();
    let entries = managers.entries().iter();
    entries
        .map(|entry| {
            let fields = entry.fields.to_string().replace('\n', " ");
            format!("{} {} {fields}", entry.manager, entry.operation.as_str())
        })
        .collect()
}

fn config_map(data: &Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "c", "namespace": "n", "uid": "1", "creationTimestamp": "2026-01-01T00:00:00Z"},
        "data": data,
    })
}

#[test]
fn who_creates_an_object_owns_all_that_can_be_owned() {
    let mut new = config_map(&json!({"a": "1", "b": "2"}));
    new["metadata"]["labels"] = json!({"app": "x"});
    update(&model("", "ConfigMap"), &writer("kubectl-create", 5), None, &mut new);
    assert_eq!(
        new["metadata"]["managedFields"],
        json!([{
            "manager": "kubectl-create", "operation": "Update", "apiVersion": "v1", "time": "2027-01-15T08:00:05Z",
            "fieldsType": "FieldsV1",
            "fieldsV1": {
                "f:data": {".": {}, "f:a": {}, "f:b": {}},
                "f:metadata": {"f:labels": {".": {}, "f:app": {}}},
            },
        }])
    );
}

#[test]
fn who_changes_a_field_takes_it_over_and_who_removes_one_ends_its_ownership() {
    let model = model("", "ConfigMap");
    let mut first = config_map(&json!({"a": "1", "b": "2"}));
    update(&model, &writer("one", 0), None, &mut first);

    let mut second = first.clone();
    second["data"] = json!({"a": "9", "c": "3"});
    update(&model, &writer("two", 1), Some(&first), &mut second);
    assert_eq!(owners(&second), ["one Update .data", "two Update .data.a .data.c"]);

    let mut third = second.clone();
    third["data"] = json!({"c": "3"});
    update(&model, &writer("", 2), Some(&second), &mut third);
    assert_eq!(owners(&third), ["one Update .data", "two Update .data.c"]);

    let mut fourth = third.clone();
    fourth.as_object_mut().unwrap().shift_remove("data");
    update(&model, &writer("", 3), Some(&third), &mut fourth);
    assert_eq!(owners(&fourth), [""; 0]);
}

#[test]
fn a_write_that_changes_nothing_changes_no_manager() {
    let model = model("", "ConfigMap");
    let mut first = config_map(&json!({"a": "1"}));
    update(&model, &writer("one", 0), None, &mut first);
    for manager in ["one", "two"] {
        let mut again = first.clone();
        update(&model, &writer(manager, 50), Some(&first), &mut again);
        assert_eq!(again, first);
    }
    // A client that doesn't know managed fields and sends none changes nothing either.
    let mut again = config_map(&json!({"a": "1"}));
    update(&model, &writer("old", 50), Some(&first), &mut again);
    assert_eq!(again, first);
}

#[test]
fn items_are_owned_by_their_keys_and_twice_given_ones_as_a_whole() {
    let model = model("", "Pod");
    let pod = |env: Value| {
        json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "uid": "1"},
            "spec": {"containers": [{"name": "c", "env": env, "ports": [{"containerPort": 80}]}]},
        })
    };
    let mut old = pod(json!([{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]));
    update(&model, &writer("one", 0), None, &mut old);
    let fields = &old["metadata"]["managedFields"][0]["fieldsV1"]["f:spec"]["f:containers"]["k:{\"name\":\"c\"}"];
    assert_eq!(
        *fields,
        json!({
            ".": {},
            "f:env": {".": {}, "k:{\"name\":\"A\"}": {}},
            "f:name": {},
            "f:ports": {".": {}, "k:{\"containerPort\":80,\"protocol\":\"TCP\"}": {".": {}, "f:containerPort": {}}},
        })
    );
    let mut new = pod(json!([{"name": "A", "value": "3"}]));
    update(&model, &writer("two", 1), Some(&old), &mut new);
    assert!(
        owners(&new)[1].contains("two Update .spec.containers[name=\"c\"].env[name=\"A\"]"),
        "{:?}",
        owners(&new)
    );
}

#[test]
fn a_subresource_owns_apart_and_not_what_it_resets() {
    let mut model = model("apps", "Deployment");
    let mut old = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d", "uid": "1"},
        "spec": {"replicas": 1}, "status": {"replicas": 9},
    });
    update(&model, &writer("one", 0), None, &mut old);
    assert_eq!(owners(&old), ["one Update .spec .spec.replicas"]);

    model.reset = reset_fields("status");
    let mut new = old.clone();
    new["status"] = json!({"replicas": 1});
    new["spec"]["replicas"] = json!(3);
    new["metadata"]["managedFields"] = json!([]);
    let status = Writer {
        subresource: "status",
        ..writer("controller", 1)
    };
    update(&model, &status, Some(&old), &mut new);
    assert_eq!(
        owners(&new),
        ["controller Update .status.replicas", "one Update .spec .spec.replicas"]
    );
    assert_eq!(new["metadata"]["managedFields"][1]["subresource"], "status");
}

#[test]
fn managed_fields_can_be_edited_and_reset_but_not_broken() {
    let model = model("", "ConfigMap");
    let mut first = config_map(&json!({"a": "1"}));
    update(&model, &writer("one", 0), None, &mut first);

    let mut edited = first.clone();
    edited["metadata"]["managedFields"][0]["manager"] = json!("other");
    update(&model, &writer("one", 1), Some(&first), &mut edited);
    assert_eq!(owners(&edited), ["other Update .data .data.a"]);

    for reset in [json!([]), json!([{}])] {
        let mut new = first.clone();
        new["metadata"]["managedFields"] = reset;
        update(&model, &writer("one", 1), Some(&first), &mut new);
        assert_eq!(managed_fields(&new), None);
        // From then on nobody is noted, until the object is applied to.
        let mut next = new.clone();
        next["data"]["b"] = json!("2");
        update(&model, &writer("two", 2), Some(&new), &mut next);
        assert_eq!(managed_fields(&next), None);
    }

    for nonsense in [
        json!("x"),
        json!([1]),
        json!([{"operation": "Burn", "apiVersion": "v1", "fieldsType": "FieldsV1"}]),
        json!([{"operation": "Update", "fieldsType": "FieldsV1"}]),
        json!([{"operation": "Update", "apiVersion": "v1"}]),
        json!([{"operation": "Update", "apiVersion": "v1", "fieldsType": "FieldsV2"}]),
        json!([{"operation": "Update", "apiVersion": "v1", "fieldsType": "FieldsV1", "time": "soon"}]),
        json!([{"operation": "Update", "apiVersion": "v1", "fieldsType": "FieldsV1", "fieldsV1": {"x": 1}}]),
    ] {
        let mut new = first.clone();
        new["metadata"]["managedFields"] = nonsense.clone();
        update(&model, &writer("one", 1), Some(&first), &mut new);
        assert_eq!(new, first, "{nonsense}");
    }
}

#[test]
fn beyond_ten_updaters_the_oldest_become_one() {
    let model = model("", "ConfigMap");
    let mut object = config_map(&json!({"x": "0"}));
    update(&model, &writer("m00", 0), None, &mut object);
    for number in 1..15 {
        let old = object.clone();
        object["data"][format!("k{number}")] = json!("v");
        update(
            &model,
            &writer(&format!("m{number:02}"), number),
            Some(&old),
            &mut object,
        );
    }
    let managers = Managers::decode(managed_fields(&object)).unwrap();
    assert_eq!(managers.entries().len(), MAX_UPDATE_MANAGERS);
    let ancient = managers
        .entries()
        .iter()
        .find(|entry| entry.manager == "ancient-changes")
        .unwrap();
    assert_eq!(
        ancient.fields.to_string(),
        ".data\n.data.k1\n.data.k2\n.data.k3\n.data.k4\n.data.k5\n.data.x"
    );
    assert_eq!(ancient.time, Some(at(5)));
}

#[test]
fn what_became_atomic_is_owned_as_a_whole() {
    let model = model("", "Service");
    let mut old = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "s", "uid": "1", "managedFields": [{
            "manager": "one", "operation": "Update", "apiVersion": "v1", "fieldsType": "FieldsV1",
            "fieldsV1": {"f:spec": {"f:selector": {".": {}, "f:app": {}}}},
        }]},
        "spec": {"selector": {"app": "a"}},
    });
    let mut new = old.clone();
    new["metadata"]["labels"] = json!({"l": "1"});
    update(&model, &writer("two", 1), Some(&old), &mut new);
    assert_eq!(owners(&new)[0], "one Update .spec.selector");
    old["spec"]["selector"]["app"] = json!("b");
    update(&model, &writer("three", 2), Some(&new), &mut old);
    assert!(
        owners(&old).iter().any(|owner| owner == "three Update .spec.selector"),
        "{:?}",
        owners(&old)
    );
}
