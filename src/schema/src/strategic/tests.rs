use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::builtin::type_of_kind;

fn apply_to(kind: (&str, &str, &str), target: Value, patch: &Value) -> Result<Value> {
    let ty = type_of_kind(kind.0, kind.1, kind.2).unwrap();
    apply(Types::builtin(), ty, target, patch)
}

fn pod(target: Value, patch: &Value) -> Result<Value> {
    let spec = |value| json!({"spec": value});
    apply_to(("", "v1", "Pod"), spec(target), &spec(patch.clone())).map(|mut pod| pod["spec"].take())
}

#[test]
fn lists_are_merged_by_their_key_or_by_value_or_replaced() {
    let table = [
        // by name: a new item first, as it has no place among the old ones
        (
            json!({"containers": [{"name": "web", "image": "nginx"}]}),
            json!({"containers": [{"name": "log", "image": "tail"}]}),
            json!({"containers": [{"name": "log", "image": "tail"}, {"name": "web", "image": "nginx"}]}),
        ),
        // an item that is there is merged into, and keeps its place
        (
            json!({"containers": [{"name": "a", "image": "1"}, {"name": "b", "image": "1", "tty": true}]}),
            json!({"containers": [{"name": "b", "image": "2"}]}),
            json!({"containers": [{"name": "a", "image": "1"}, {"name": "b", "image": "2", "tty": true}]}),
        ),
        // deeper: the environment of one container
        (
            json!({"containers": [{"name": "a", "env": [{"name": "X", "value": "1"}, {"name": "Y", "value": "1"}]}]}),
            json!({"containers": [{"name": "a", "env": [{"name": "Y", "value": "2"}]}]}),
            json!({"containers": [{"name": "a", "env": [{"name": "X", "value": "1"}, {"name": "Y", "value": "2"}]}]}),
        ),
        // tolerations have no merge key: replaced
        (
            json!({"tolerations": [{"key": "dedicated", "value": "a"}]}),
            json!({"tolerations": [{"key": "disktype", "value": "ssd"}]}),
            json!({"tolerations": [{"key": "disktype", "value": "ssd"}]}),
        ),
        // null removes; a scalar, an object
        (
            json!({"hostname": "x", "securityContext": {"runAsUser": 1}, "nodeName": "n"}),
            json!({"hostname": null, "securityContext": null}),
            json!({"nodeName": "n"}),
        ),
        // null in what wasn't there leaves nothing behind
        (
            json!({}),
            json!({"securityContext": {"runAsUser": 1, "runAsGroup": null}, "hostname": null}),
            json!({"securityContext": {"runAsUser": 1}}),
        ),
        // a map of texts
        (
            json!({"nodeSelector": {"a": "1", "b": "2"}}),
            json!({"nodeSelector": {"a": null, "c": "3"}}),
            json!({"nodeSelector": {"b": "2", "c": "3"}}),
        ),
        // an empty list merges nothing; for a list that is replaced it is the new one
        (
            json!({"containers": [{"name": "a"}], "tolerations": [{"key": "x"}]}),
            json!({"containers": [], "tolerations": []}),
            json!({"containers": [{"name": "a"}], "tolerations": []}),
        ),
    ];
    for (target, patch, expected) in table {
        assert_eq!(pod(target, &patch), Ok(expected), "{patch}");
    }
}

#[test]
fn directives_remove_replace_and_keep() {
    let two = json!({"containers": [{"name": "a", "image": "1"}, {"name": "b", "image": "1"}]});
    let table = [
        (
            two.clone(),
            json!({"containers": [{"name": "a", "$patch": "delete"}]}),
            json!({"containers": [{"name": "b", "image": "1"}]}),
        ),
        (
            two.clone(),
            json!({"containers": [{"$patch": "replace"}, {"name": "c", "image": "2"}]}),
            json!({"containers": [{"name": "c", "image": "2"}]}),
        ),
        (
            two.clone(),
            json!({"containers": [{"$patch": "replace"}]}),
            json!({"containers": []}),
        ),
        (
            json!({"securityContext": {"runAsUser": 1}}),
            json!({"securityContext": {"$patch": "replace", "runAsGroup": 2}}),
            json!({"securityContext": {"runAsGroup": 2}}),
        ),
        (
            json!({"securityContext": {"runAsUser": 1}}),
            json!({"securityContext": {"$patch": "delete"}}),
            json!({"securityContext": {}}),
        ),
        // directives of what isn't there do nothing
        (
            json!({}),
            json!({"containers": [{"name": "a", "$patch": "delete"}]}),
            json!({"containers": []}),
        ),
        (
            json!({"volumes": [{"name": "v", "emptyDir": {}}]}),
            json!({"volumes": [{"name": "v", "$retainKeys": ["name", "hostPath"], "hostPath": {"path": "/x"}}]}),
            json!({"volumes": [{"name": "v", "hostPath": {"path": "/x"}}]}),
        ),
        (
            json!({"volumes": []}),
            json!({"volumes": [{"name": "v", "$retainKeys": ["name", "hostPath"], "hostPath": {"path": "/x"}}]}),
            json!({"volumes": [{"name": "v", "hostPath": {"path": "/x"}}]}),
        ),
    ];
    for (target, patch, expected) in table {
        assert_eq!(pod(target, &patch), Ok(expected), "{patch}");
    }
    let replaced = apply_to(
        ("", "v1", "Pod"),
        json!({"a": 1}),
        &json!({"$patch": "replace", "kind": "Pod"}),
    );
    assert_eq!(replaced, Ok(json!({"kind": "Pod"})));
}

#[test]
fn a_strategy_is_retained_by_its_keys() {
    let target = json!({"spec": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "30%"}}}});
    let patch = json!({"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}});
    let deployment = ("apps", "v1", "Deployment");
    assert_eq!(
        apply_to(deployment, target.clone(), &patch),
        Ok(json!({"spec": {"strategy": {"type": "Recreate"}}}))
    );
    let error = apply_to(
        deployment,
        target,
        &json!({"spec": {"strategy": {"$retainKeys": ["rollingUpdate"], "type": "Recreate"}}}),
    );
    assert_eq!(
        error,
        Err(PatchError::Malformed("invalid patch format of retainKeys".to_owned()))
    );
}

#[test]
fn lists_of_plain_values_are_united_and_ordered() {
    let finalizers = |list: Value| json!({"metadata": {"finalizers": list}});
    let table = [
        (json!(["a", "b"]), json!({"finalizers": ["c"]}), json!(["c", "a", "b"])),
        (json!(["a", "b"]), json!({"finalizers": ["b", "b"]}), json!(["a", "b"])),
        (
            json!(["a", "b", "c"]),
            json!({"$deleteFromPrimitiveList/finalizers": ["b", "x"]}),
            json!(["a", "c"]),
        ),
        (
            json!(["a", "b", "c"]),
            json!({"$deleteFromPrimitiveList/finalizers": ["a"], "$setElementOrder/finalizers": ["c", "d", "b"], "finalizers": ["d"]}),
            json!(["c", "d", "b"]),
        ),
        (
            json!(["a", "b"]),
            json!({"$setElementOrder/finalizers": ["b", "a"]}),
            json!(["b", "a"]),
        ),
    ];
    for (target, patch, expected) in table {
        let patched = apply_to(("", "v1", "Pod"), finalizers(target), &json!({"metadata": patch}));
        assert_eq!(patched, Ok(finalizers(expected)), "{patch}");
    }
}

#[test]
fn element_order_places_the_items_it_names_and_leaves_the_others_where_they_were() {
    let names = |names: &[&str]| Value::Array(names.iter().map(|name| json!({"name": name})).collect());
    let table: [[&[&str]; 4]; 5] = [
        [&["a", "b", "c"], &[], &["c", "b", "a"], &["c", "b", "a"]],
        // `s` is the server's own: it stays before `b`, which it was before
        [&["a", "s", "b"], &[], &["a", "b"], &["a", "s", "b"]],
        [&["a", "s", "b"], &[], &["b", "a"], &["s", "b", "a"]],
        [&["a", "s"], &["n"], &["n", "a"], &["n", "a", "s"]],
        [&[], &["y", "x"], &["y", "x"], &["y", "x"]],
    ];
    for [target, patch, order, expected] in table {
        let mut spec = json!({"$setElementOrder/containers": names(order)});
        if !patch.is_empty() {
            spec["containers"] = names(patch);
        }
        let patched = pod(json!({"containers": names(target)}), &spec);
        assert_eq!(
            patched,
            Ok(json!({"containers": names(expected)})),
            "{target:?} {order:?}"
        );
    }
    let disorder = json!({"$setElementOrder/containers": names(&["a", "b"]), "containers": names(&["b", "a"])});
    let error = pod(json!({"containers": names(&["a", "b"])}), &disorder).unwrap_err();
    assert!(
        error.to_string().contains("doesn't match $setElementOrder list"),
        "{error}"
    );
}

#[test]
fn what_a_patch_may_not_say_is_refused_as_upstream_does() {
    let table = [
        (
            json!({"containers": [{"image": "x"}]}),
            "map: map[image:x] does not contain declared merge key: name",
        ),
        (
            json!({"containers": [{"name": "a", "$patch": "burn"}]}),
            "unknown patch type: burn in map: map[$patch:burn name:a]",
        ),
        (
            json!({"containers": [{"name": "a", "$patch": "merge"}]}),
            "merging lists cannot yet be specified in the patch",
        ),
        (
            json!({"containers": [[1]]}),
            "list element types are not identical: [map[name:a] [1]]",
        ),
        (
            json!({"containers": ["x"]}),
            "list element types are not identical: [map[name:a] x]",
        ),
        (
            json!({"securityContext": {"$patch": "merge"}}),
            "unknown patch type: merge in map: map[$patch:merge]",
        ),
        (
            json!({"$setElementOrder/containers": 1}),
            "expected a []interface {}, but received a int64",
        ),
        (
            json!({"$setElementOrder/containers": [{"image": "x"}]}),
            "map: map[image:x] does not contain declared merge key: name",
        ),
        (
            json!({"$deleteFromPrimitiveList/": []}),
            "invalid patch format of primitive list",
        ),
    ];
    for (patch, expected) in table {
        let target = json!({"containers": [{"name": "a"}], "securityContext": {}});
        assert_eq!(pod(target, &patch).unwrap_err().to_string(), expected, "{patch}");
    }
    let error = apply_to(("", "v1", "Pod"), json!({}), &json!([]));
    assert_eq!(error, Err(PatchError::Malformed("invalid JSON document".to_owned())));
}

#[test]
fn a_large_list_is_merged_in_no_time() {
    let items = |value: &str| -> Value {
        (0..20_000)
            .map(|at| json!({"name": at.to_string(), "value": value}))
            .collect()
    };
    let patch = json!({"containers": [{"name": "a", "env": items("2")}]});
    let start = std::time::Instant::now();
    let patched = pod(json!({"containers": [{"name": "a", "env": items("1")}]}), &patch).unwrap();
    assert_eq!(patched, patch);
    assert!(start.elapsed() < std::time::Duration::from_secs(10));
}

fn directive_soup() -> impl Strategy<Value = Value> {
    let name = prop::sample::select(vec![
        "metadata",
        "spec",
        "containers",
        "finalizers",
        "volumes",
        "name",
        "$patch",
        "$retainKeys",
        "$setElementOrder/containers",
        "$setElementOrder/finalizers",
        "$deleteFromPrimitiveList/finalizers",
    ]);
    let leaf = prop_oneof![
        Just(Value::Null),
        Just(json!("delete")),
        Just(json!("replace")),
        Just(json!("a")),
        Just(json!(["a", "name"])),
        Just(json!([{"name": "a"}, {"name": "b", "$patch": "delete"}])),
        Just(json!(1)),
    ];
    leaf.prop_recursive(5, 40, 5, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
            prop::collection::vec((name.clone(), inner), 0..5)
                .prop_map(|map| Value::Object(map.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())),
        ]
    })
}

fn plain_pod() -> impl Strategy<Value = Value> {
    let names = prop::sample::subsequence(vec!["a", "b", "c"], 0..=3).prop_shuffle();
    let finalizers = prop::sample::subsequence(vec!["x", "y", "z"], 0..=3).prop_shuffle();
    let labels = prop::sample::subsequence(vec!["l", "m"], 0..=2);
    (names, finalizers, labels, "[1-3]").prop_map(|(names, finalizers, labels, value)| {
        let containers: Value = names.iter().map(|name| json!({"name": name, "image": value})).collect();
        let labels: Map<String, Value> = labels
            .into_iter()
            .map(|label| (label.to_owned(), json!(value)))
            .collect();
        json!({"metadata": {"finalizers": finalizers, "labels": labels}, "spec": {"containers": containers}})
    })
}

proptest! {
    #[test]
    fn no_patch_panics(target in directive_soup(), patch in directive_soup()) {
        let _ = apply_to(("", "v1", "Pod"), target, &patch);
    }

    #[test]
    fn a_patch_without_directives_applied_twice_is_as_once(target in plain_pod(), patch in plain_pod()) {
        let once = apply_to(("", "v1", "Pod"), target, &patch).unwrap();
        prop_assert_eq!(apply_to(("", "v1", "Pod"), once.clone(), &patch).unwrap(), once);
    }

    #[test]
    fn a_merge_keeps_every_item_of_both_once(target in plain_pod(), patch in plain_pod()) {
        let merged = apply_to(("", "v1", "Pod"), target.clone(), &patch).unwrap();
        let names = |pod: &Value| -> Vec<String> {
            pod["spec"]["containers"].as_array().unwrap().iter().map(|item| item["name"].to_string()).collect()
        };
        let mut expected: Vec<String> = names(&target).into_iter().chain(names(&patch)).collect();
        expected.sort();
        expected.dedup();
        let mut found = names(&merged);
        found.sort();
        prop_assert_eq!(found, expected);
    }
}
