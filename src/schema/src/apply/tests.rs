mod properties;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::*;
use crate::{
    builtin::type_of_kind,
    managed::{NOTHING, reset_fields, update},
    types::{TypeId, Types},
};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

fn writer(manager: &str, second: i64) -> Writer<'_> {
    Writer {
        manager,
        subresource: "",
        now: at(second),
    }
}

fn deployments() -> Model<'static> {
    Model {
        types: Types::builtin(),
        ty: type_of_kind("apps", "v1", "Deployment").unwrap(),
        api_version: "apps/v1",
        versions: None,
        reset: reset_fields(""),
    }
}

fn config_maps() -> Model<'static> {
    Model {
        ty: type_of_kind("", "v1", "ConfigMap").unwrap(),
        api_version: "v1",
        ..deployments()
    }
}

fn config_map(data: &Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c", "namespace": "n"}, "data": data})
}

fn deployment(spec: &Value) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d", "namespace": "n"}, "spec": spec})
}

/// As stored: with what the server gives.
fn stored(mut object: Value) -> Value {
    object["metadata"]["uid"] = json!("1");
    object["metadata"]["creationTimestamp"] = json!("2026-01-01T00:00:00Z");
    object
}

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

fn message(result: Result<Value, ApplyError>) -> String {
    result.unwrap_err().to_string()
}

#[test]
fn an_object_is_made_of_what_is_applied_first() {
    let applied = apply(
        &config_maps(),
        &writer("a", 3),
        None,
        &config_map(&json!({"x": "1"})),
        false,
    )
    .unwrap();
    let mut expected = config_map(&json!({"x": "1"}));
    expected["metadata"]["managedFields"] = json!([{
        "manager": "a", "operation": "Apply", "apiVersion": "v1", "time": "2027-01-15T08:00:03Z",
        "fieldsType": "FieldsV1", "fieldsV1": {"f:data": {"f:x": {}}},
    }]);
    assert_eq!(applied, expected);
}

#[test]
fn applying_the_same_again_changes_nothing_not_even_a_time() {
    let model = deployments();
    let config = deployment(&json!({
        "replicas": 3,
        "selector": {"matchLabels": {"app": "x"}},
        "template": {"metadata": {"creationTimestamp": null, "labels": {"app": "x"}}, "spec": {"containers": [
            {"name": "c", "image": "i", "ports": [{"containerPort": 80}], "resources": {}},
        ]}},
    }));
    let mut live = stored(apply(&model, &writer("a", 0), None, &config, false).unwrap());
    // The server's defaults, which nobody owns.
    live["spec"]["template"]["spec"]["containers"][0]["ports"][0]["protocol"] = json!("TCP");
    live["spec"]["revisionHistoryLimit"] = json!(10);
    let mut with_null = config.clone();
    with_null["metadata"]["creationTimestamp"] = json!(null);
    with_null["metadata"]["uid"] = json!(null);
    for config in [config, with_null] {
        assert_eq!(
            apply(&model, &writer("a", 99), Some(&live), &config, false).unwrap(),
            live
        );
    }
}

#[test]
fn what_a_manager_applies_no_more_goes_unless_others_own_it() {
    let model = config_maps();
    let both = json!({"x": "1", "y": "1"});
    let live = stored(apply(&model, &writer("a", 0), None, &config_map(&both), false).unwrap());
    // b shares x: the same value is no conflict
    let live = apply(
        &model,
        &writer("b", 1),
        Some(&live),
        &config_map(&json!({"x": "1"})),
        false,
    )
    .unwrap();
    assert_eq!(owners(&live), ["a Apply .data.x .data.y", "b Apply .data.x"]);

    let live = apply(&model, &writer("a", 2), Some(&live), &config_map(&json!({})), false).unwrap();
    assert_eq!(live["data"], json!({"x": "1"}));
    assert_eq!(owners(&live), ["a Apply .data", "b Apply .data.x"]);

    let nothing = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}});
    let live = apply(&model, &writer("b", 3), Some(&live), &nothing, false).unwrap();
    // The first applies an empty map, so that stays.
    assert_eq!(live["data"], json!({}));
    assert_eq!(owners(&live), ["a Apply .data"]);
}

#[test]
fn a_structure_goes_with_its_last_owner_and_takes_its_defaults_along() {
    let model = deployments();
    let container = |more: Value| {
        let mut container = json!({"name": "c", "image": "i"});
        container
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        deployment(&json!({"template": {"spec": {"containers": [container]}}}))
    };
    let probe = json!({"livenessProbe": {"httpGet": {"port": 80}}});
    let mut live = stored(apply(&model, &writer("a", 0), None, &container(probe), false).unwrap());
    live["spec"]["template"]["spec"]["containers"][0]["livenessProbe"]["periodSeconds"] = json!(10);
    let live = apply(&model, &writer("a", 1), Some(&live), &container(json!({})), false).unwrap();
    assert_eq!(
        live["spec"]["template"]["spec"]["containers"],
        json!([{"name": "c", "image": "i"}])
    );
}

#[test]
fn fields_of_others_conflict_in_upstreams_words_and_force_takes_them() {
    let model = deployments();
    let config = |replicas: i64, paused: bool| deployment(&json!({"replicas": replicas, "paused": paused}));
    let live = stored(apply(&model, &writer("ci", 0), None, &config(3, true), false).unwrap());
    let mut scaled = live.clone();
    scaled["spec"]["replicas"] = json!(5);
    let scale = Writer {
        subresource: "scale",
        ..writer("kubectl-scale", 1)
    };
    update(&model, &scale, Some(&live), &mut scaled);

    let error = apply(&model, &writer("ci", 2), Some(&scaled), &config(4, true), false).unwrap_err();
    assert_eq!(
        error.to_string(),
        "Apply failed with 1 conflict: conflict with \"kubectl-scale\" with subresource \"scale\" using apps/v1: \
         .spec.replicas"
    );
    let ApplyError::Conflicts(conflicts) = error else {
        panic!("{error}");
    };
    let causes: Vec<_> = conflicts
        .iter()
        .map(|conflict| (conflict.field.clone(), conflict.message()))
        .collect();
    let cause = "conflict with \"kubectl-scale\" with subresource \"scale\" using apps/v1";
    assert_eq!(causes, [(".spec.replicas".to_owned(), cause.to_owned())]);

    let error = apply(&model, &writer("cd", 2), Some(&scaled), &config(4, false), false);
    assert_eq!(
        message(error),
        "Apply failed with 2 conflicts: conflicts with \"ci\":\n- .spec.paused\nconflicts with \"kubectl-scale\" with \
         subresource \"scale\" using apps/v1:\n- .spec.replicas"
    );

    let taken = apply(&model, &writer("ci", 3), Some(&scaled), &config(4, true), true).unwrap();
    assert_eq!(taken["spec"]["replicas"], 4);
    assert_eq!(owners(&taken), ["ci Apply .spec.paused .spec.replicas"]);

    // Giving the field up instead leaves it to the other.
    let given_up = deployment(&json!({"paused": true}));
    let left = apply(&model, &writer("ci", 3), Some(&scaled), &given_up, false).unwrap();
    assert_eq!(left["spec"], json!({"replicas": 5, "paused": true}));
    assert_eq!(
        owners(&left),
        ["ci Apply .spec.paused", "kubectl-scale Update .spec.replicas"]
    );
}

#[test]
fn items_of_lists_have_owners_each_and_keep_their_order() {
    let model = deployments();
    let containers = |names: &[&str]| {
        let containers: Value = names.iter().map(|name| json!({"name": name, "image": "i"})).collect();
        deployment(&json!({"template": {"spec": {"containers": containers}}}))
    };
    let names = |object: &Value| -> Vec<String> {
        let list = object["spec"]["template"]["spec"]["containers"].as_array().unwrap();
        list.iter()
            .map(|item| item["name"].as_str().unwrap().to_owned())
            .collect()
    };
    let table: [(&[&str], &[&str], &[&str]); 6] = [
        (&["a", "b"], &["c"], &["a", "b", "c"]),
        (&["a", "b", "c"], &["c", "a"], &["b", "c", "a"]),
        (&["a", "b", "c"], &["a", "c"], &["a", "b", "c"]),
        (&["a", "b"], &["x", "b"], &["a", "x", "b"]),
        (&["a"], &["b", "a"], &["b", "a"]),
        (&["a", "b", "c", "d"], &["d", "b"], &["a", "c", "d", "b"]),
    ];
    for (first, second, expected) in table {
        let live = stored(apply(&model, &writer("one", 0), None, &containers(first), false).unwrap());
        let live = apply(&model, &writer("two", 1), Some(&live), &containers(second), false).unwrap();
        assert_eq!(names(&live), expected, "{first:?} {second:?}");
        // Who goes takes its own items only.
        let live = apply(&model, &writer("two", 2), Some(&live), &containers(&[first[0]]), false).unwrap();
        let mut left = names(&live);
        left.sort();
        assert_eq!(left, first, "{first:?} {second:?}");
    }
}

#[test]
fn sets_are_united_and_atomic_lists_and_maps_are_taken_whole() {
    let model = deployments();
    let config = |finalizers: Value, args: Value, selector: Value| {
        let mut object = deployment(&json!({
            "selector": {"matchLabels": selector},
            "template": {"spec": {"containers": [{"name": "c", "args": args}]}},
        }));
        object["metadata"]["finalizers"] = finalizers;
        object
    };
    let live = config(json!(["a"]), json!(["1"]), json!({"x": "1"}));
    let live = stored(apply(&model, &writer("one", 0), None, &live, false).unwrap());
    let other = config(json!(["b"]), json!(["1", "2"]), json!({"y": "1"}));
    assert_eq!(
        message(apply(&model, &writer("two", 1), Some(&live), &other, false)),
        "Apply failed with 2 conflicts: conflicts with \"one\":\n- .spec.selector\n- \
         .spec.template.spec.containers[name=\"c\"].args"
    );
    let live = apply(&model, &writer("two", 1), Some(&live), &other, true).unwrap();
    assert_eq!(live["metadata"]["finalizers"], json!(["a", "b"]));
    assert_eq!(live["spec"]["selector"], json!({"matchLabels": {"y": "1"}}));
    assert_eq!(
        live["spec"]["template"]["spec"]["containers"][0]["args"],
        json!(["1", "2"])
    );
}

#[test]
fn what_was_there_before_the_first_apply_has_an_owner_too() {
    let model = config_maps();
    let live = stored(config_map(&json!({"x": "1", "y": "1"})));
    let error = apply(
        &model,
        &writer("a", 1),
        Some(&live),
        &config_map(&json!({"x": "2"})),
        false,
    );
    assert_eq!(
        message(error),
        "Apply failed with 1 conflict: conflict with \"before-first-apply\" using v1: .data.x"
    );
    let live = apply(
        &model,
        &writer("a", 1),
        Some(&live),
        &config_map(&json!({"x": "1"})),
        false,
    )
    .unwrap();
    assert_eq!(
        owners(&live),
        ["a Apply .data.x", "before-first-apply Update .data .data.x .data.y"]
    );
}

#[test]
fn kubectl_takes_over_what_it_applied_by_itself() {
    let model = config_maps();
    let mut live = stored(config_map(&json!({"x": "1", "y": "1", "z": "1"})));
    let last = config_map(&json!({"x": "1", "y": "1"})).to_string();
    live["metadata"]["annotations"] = json!({"kubectl.kubernetes.io/last-applied-configuration": last});
    update(&model, &writer("kubectl-client-side-apply", 0), None, &mut live);
    // Somebody changed y since.
    let mut changed = live.clone();
    changed["data"]["y"] = json!("7");
    update(&model, &writer("kubectl-edit", 1), Some(&live), &mut changed);

    let config = config_map(&json!({"x": "2"}));
    let applied = apply(&model, &writer("kubectl", 2), Some(&changed), &config, false).unwrap();
    assert_eq!(applied["data"], json!({"x": "2", "y": "7", "z": "1"}));
    assert_eq!(
        applied["metadata"]["annotations"]["kubectl.kubernetes.io/last-applied-configuration"],
        format!("{config}\n")
    );

    let error = apply(
        &model,
        &writer("kubectl", 2),
        Some(&changed),
        &config_map(&json!({"x": "2", "y": "2"})),
        false,
    );
    assert_eq!(
        message(error),
        "Apply failed with 1 conflict: conflict with \"kubectl-edit\" using v1: .data.y"
    );
    // Others have no such rights.
    assert!(apply(&model, &writer("flux", 2), Some(&changed), &config, false).is_err());
}

#[test]
fn a_live_list_with_doubles_is_tolerated_and_a_configuration_with_doubles_is_not() {
    let model = deployments();
    let env = |env: Value| deployment(&json!({"template": {"spec": {"containers": [{"name": "c", "env": env}]}}}));
    let doubles = json!([{"name": "A", "value": "1"}, {"name": "B", "value": "1"}, {"name": "A", "value": "2"}]);
    let mut live = stored(env(doubles.clone()));
    update(&model, &writer("old", 0), None, &mut live);
    let applied = apply(
        &model,
        &writer("a", 1),
        Some(&live),
        &env(json!([{"name": "B", "value": "1"}])),
        false,
    )
    .unwrap();
    assert_eq!(applied["spec"]["template"]["spec"]["containers"][0]["env"], doubles);
    let applied = apply(
        &model,
        &writer("a", 1),
        Some(&live),
        &env(json!([{"name": "A", "value": "3"}])),
        true,
    )
    .unwrap();
    assert_eq!(
        applied["spec"]["template"]["spec"]["containers"][0]["env"],
        json!([{"name": "A", "value": "3"}, {"name": "B", "value": "1"}])
    );
    assert_eq!(
        message(apply(&model, &writer("a", 1), Some(&live), &env(doubles), true)),
        "failed to create typed patch object (n/d; apps/v1, Kind=Deployment): \
         .spec.template.spec.containers[name=\"c\"].env: duplicate entries for key [name=\"A\"]"
    );
}

#[test]
fn a_configuration_that_does_not_fit_is_refused_in_upstreams_words() {
    let model = deployments();
    let table = [
        (
            json!({"replicas": "3"}),
            ".spec.replicas: expected numeric (int or float), got string",
        ),
        (json!({"foo": 1}), ".spec.foo: field not declared in schema"),
        (json!({"paused": 1}), ".spec.paused: expected boolean, got &{1}"),
        (json!({"template": []}), ".spec.template: expected map, got &{[]}"),
        (
            json!({"template": {"spec": {"containers": {"a": 1}}}}),
            ".spec.template.spec.containers: expected list, got &{map[a:1]}",
        ),
        (
            json!({"template": {"spec": {"nodeName": 1}}}),
            ".spec.template.spec.nodeName: expected string, got &value.valueUnstructured{Value:1}",
        ),
        (
            json!({"template": {"spec": {"containers": [{"image": "i"}]}}}),
            ".spec.template.spec.containers: element 0: associative list with keys has an element that omits key field \
             \"name\" (and doesn't have default value)",
        ),
        (
            json!({"foo": 1, "bar": 1}),
            "errors:\n  .spec.foo: field not declared in schema\n  .spec.bar: field not declared in schema",
        ),
    ];
    for (spec, fault) in table {
        let expected = format!("failed to create typed patch object (n/d; apps/v1, Kind=Deployment): {fault}");
        assert_eq!(
            message(apply(&model, &writer("a", 0), None, &deployment(&spec), false)),
            expected
        );
    }
    let mut config = deployment(&json!({}));
    config["metadata"]["managedFields"] = json!([]);
    assert_eq!(
        message(apply(&model, &writer("a", 0), None, &config, true)),
        "metadata.managedFields must be nil"
    );
    config["apiVersion"] = json!("apps/v1beta1");
    assert_eq!(
        message(apply(&model, &writer("a", 0), None, &config, true)),
        "Incorrect version specified in apply patch. Specified patch version: apps/v1beta1, expected: apps/v1"
    );
}

#[test]
fn null_applied_takes_a_value_away() {
    let model = deployments();
    let live = deployment(&json!({"replicas": 3, "paused": true}));
    let live = stored(apply(&model, &writer("a", 0), None, &live, false).unwrap());
    let config = deployment(&json!({"replicas": null, "paused": true}));
    let live = apply(&model, &writer("a", 1), Some(&live), &config, false).unwrap();
    assert_eq!(live["spec"], json!({"paused": true}));
}

/// Converts between two versions of one kind: what `v1` calls `size`, `v2` calls `scale`.
struct Renamed(Types, [TypeId; 2]);

impl crate::managed::Versions for Renamed {
    fn model(&self, api_version: &str) -> Option<(&Types, TypeId)> {
        let at = ["x/v1", "x/v2"].iter().position(|version| *version == api_version)?;
        Some((&self.0, self.1[at]))
    }

    fn convert(&self, object: &Value, to: &str) -> Option<Value> {
        let mut object = object.clone();
        let fields = object.as_object_mut()?;
        fields.insert("apiVersion".to_owned(), to.into());
        let (from, to) = if to == "x/v2" {
            ("size", "scale")
        } else {
            ("scale", "size")
        };
        if let Some(value) = fields.remove(from) {
            fields.insert(to.to_owned(), value);
        }
        Some(object)
    }
}

#[test]
fn owners_in_other_versions_are_followed_through_conversion() {
    let mut types = Types::default();
    let kinds = ["size", "scale"].map(|name| properties::small(&mut types, name));
    let versions = Renamed(types, kinds);
    let model = |version: usize| Model {
        types: &versions.0,
        ty: kinds[version],
        api_version: ["x/v1", "x/v2"][version],
        versions: Some(&versions),
        reset: &NOTHING,
    };
    let live = json!({"apiVersion": "x/v1", "size": 1, "labels": {"a": "1"}, "metadata": {}});
    let live = apply(&model(0), &writer("one", 0), None, &live, false).unwrap();

    let second = crate::managed::Versions::convert(&versions, &live, "x/v2").unwrap();
    let error = apply(
        &model(1),
        &writer("two", 1),
        Some(&second),
        &json!({"apiVersion": "x/v2", "scale": 2}),
        false,
    );
    assert_eq!(
        message(error),
        "Apply failed with 1 conflict: conflict with \"one\": .size"
    );
    let shared = apply(
        &model(1),
        &writer("two", 1),
        Some(&second),
        &json!({"apiVersion": "x/v2", "scale": 1}),
        false,
    )
    .unwrap();
    assert_eq!(owners(&shared), ["one Apply .size .labels.a", "two Apply .scale"]);

    // The first gives both up, in the other version: the label goes, the size is the second's too.
    let left = apply(
        &model(1),
        &writer("one", 2),
        Some(&shared),
        &json!({"apiVersion": "x/v2"}),
        false,
    )
    .unwrap();
    assert_eq!((left["scale"].clone(), left.get("labels")), (json!(1), None));
    assert_eq!(owners(&left), ["two Apply .scale"]);
}
