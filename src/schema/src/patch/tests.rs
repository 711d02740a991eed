use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

#[test]
fn json_patch_applies_each_operation() {
    let table = [
        // add: a new field, in place of a field, into a list, at its end, before the last, into nested containers
        (
            json!({"a": 1}),
            json!([{"op": "add", "path": "/b", "value": 2}]),
            json!({"a": 1, "b": 2}),
        ),
        (
            json!({"a": 1}),
            json!([{"op": "add", "path": "/a", "value": [1]}]),
            json!({"a": [1]}),
        ),
        (
            json!({"l": [1, 3]}),
            json!([{"op": "add", "path": "/l/1", "value": 2}]),
            json!({"l": [1, 2, 3]}),
        ),
        (
            json!({"l": [1]}),
            json!([{"op": "add", "path": "/l/-", "value": 2}]),
            json!({"l": [1, 2]}),
        ),
        (
            json!({"l": [1, 2]}),
            json!([{"op": "add", "path": "/l/-1", "value": 3}]),
            json!({"l": [1, 2, 3]}),
        ),
        (
            json!({"a": [{"b": {}}]}),
            json!([{"op": "add", "path": "/a/0/b/c", "value": 1}]),
            json!({"a": [{"b": {"c": 1}}]}),
        ),
        (
            json!({"a": {"b": 1}}),
            json!([{"op": "add", "path": "/a/c"}]),
            json!({"a": {"b": 1, "c": null}}),
        ),
        // names with a slash, a tilde, nothing
        (
            json!({"a/b": 1}),
            json!([{"op": "replace", "path": "/a~1b", "value": 2}]),
            json!({"a/b": 2}),
        ),
        (json!({"~1": 1}), json!([{"op": "remove", "path": "/~01"}]), json!({})),
        (
            json!({"": {"": 1}}),
            json!([{"op": "remove", "path": "//"}]),
            json!({"": {}}),
        ),
        // remove, replace (also of what isn't there, as upstream), move, copy
        (
            json!({"a": 1, "b": 2}),
            json!([{"op": "remove", "path": "/a"}]),
            json!({"b": 2}),
        ),
        (
            json!({"l": [1, 2, 3]}),
            json!([{"op": "remove", "path": "/l/1"}]),
            json!({"l": [1, 3]}),
        ),
        (
            json!({"a": 1}),
            json!([{"op": "replace", "path": "/a", "value": null}]),
            json!({"a": null}),
        ),
        (
            json!({}),
            json!([{"op": "replace", "path": "/a", "value": 1}]),
            json!({"a": 1}),
        ),
        (
            json!({"a": 1}),
            json!([{"op": "replace", "path": "", "value": {"b": 1}}]),
            json!({"b": 1}),
        ),
        (
            json!({"a": {"x": 1}}),
            json!([{"op": "move", "from": "/a/x", "path": "/y"}]),
            json!({"a": {}, "y": 1}),
        ),
        (
            json!({"l": [1, 2]}),
            json!([{"op": "move", "from": "/l/0", "path": "/l/1"}]),
            json!({"l": [2, 1]}),
        ),
        (
            json!({"a": [1]}),
            json!([{"op": "copy", "from": "/a", "path": "/b"}]),
            json!({"a": [1], "b": [1]}),
        ),
        // test: numbers by what they amount to, null where nothing is, and then the next operation
        (
            json!({"a": 1}),
            json!([{"op": "test", "path": "/a", "value": 1.0}]),
            json!({"a": 1}),
        ),
        (
            json!({}),
            json!([{"op": "test", "path": "/a", "value": null}]),
            json!({}),
        ),
        (
            json!({"a": {"b": 1, "c": 2}}),
            json!([{"op": "test", "path": "", "value": {"a": {"c": 2, "b": 1}}}, {"op": "remove", "path": "/a"}]),
            json!({}),
        ),
    ];
    for (target, patch, expected) in table {
        assert_eq!(json(target, &patch), Ok(expected), "{patch}");
    }
}

#[test]
fn json_patch_says_why_it_does_not_apply_as_upstream_does() {
    let table = [
        (
            json!([{"op": "add", "path": "/x/y", "value": 1}]),
            r#"add operation does not apply: doc is missing path: "/x/y": missing value"#,
        ),
        (
            json!([{"op": "add", "path": "/l/9", "value": 1}]),
            "error in add for path: '/l/9': Unable to access invalid index: 9: invalid index referenced",
        ),
        (
            json!([{"op": "add", "path": "", "value": 1}]),
            r#"add operation does not apply: doc is missing path: "": missing value"#,
        ),
        (
            json!([{"op": "remove", "path": "/x"}]),
            "error in remove for path: '/x': Unable to remove nonexistent key: x: missing value",
        ),
        (
            json!([{"op": "remove", "path": "/x/y"}]),
            r#"remove operation does not apply: doc is missing path: "/x/y": missing value"#,
        ),
        (
            json!([{"op": "replace", "path": "/l/7", "value": 1}]),
            "replace operation does not apply: doc is missing key: /l/7: missing value",
        ),
        (
            json!([{"op": "replace", "path": "/x/y", "value": 1}]),
            "replace operation does not apply: doc is missing path: /x/y: missing value",
        ),
        (
            json!([{"op": "move", "from": "/x/y", "path": "/a"}]),
            "move operation does not apply: doc is missing from path: /x/y: missing value",
        ),
        (
            json!([{"op": "move", "path": "/a"}]),
            "move operation failed to decode from: operation, missing from field: missing value",
        ),
        (
            json!([{"op": "copy", "from": "/l/8", "path": "/a"}]),
            "error in copy for from: '/l/8': Unable to access invalid index: 8: invalid index referenced",
        ),
        (
            json!([{"op": "test", "path": "/a", "value": 2}]),
            "testing value /a failed: test failed",
        ),
        (
            json!([{"op": "test", "path": "/x/y", "value": 2}]),
            "test operation does not apply: is missing path: /x/y: missing value",
        ),
        (
            json!([{"op": "add", "value": 2}]),
            "add operation failed to decode path: missing value",
        ),
        (json!([{"op": "dance", "path": "/a"}]), "Unexpected kind: dance"),
        (json!([{"path": "/a"}]), "Unexpected kind: unknown"),
    ];
    for (patch, expected) in table {
        let target = json!({"a": 1, "l": [1]});
        assert_eq!(
            json(target, &patch),
            Err(PatchError::Inapplicable(expected.to_owned())),
            "{patch}"
        );
    }
}

#[test]
fn a_json_patch_that_is_none_is_malformed() {
    for patch in [json!({}), json!("x"), json!([1]), json!(null)] {
        assert!(
            matches!(json(json!({}), &patch), Err(PatchError::Malformed(_))),
            "{patch}"
        );
    }
}

#[test]
fn json_patches_are_bounded_in_operations_and_in_what_they_copy() {
    let operation = json!({"op": "add", "path": "/a", "value": 1});
    let most = Value::Array(vec![operation.clone(); MAX_OPERATIONS]);
    assert_eq!(json(json!({}), &most), Ok(json!({"a": 1})));
    let more = Value::Array(vec![operation; MAX_OPERATIONS + 1]);
    let error = json(json!({}), &more).unwrap_err();
    assert_eq!(
        error.to_string(),
        "The allowed maximum operations in a JSON patch is 10000, got 10001"
    );

    // Each copy doubles the object.
    let bomb: Vec<Value> = (0..64)
        .map(|at| json!({"op": "copy", "from": "", "path": format!("/{at}")}))
        .collect();
    assert!(json(json!({"a": "x".repeat(1000)}), &Value::Array(bomb)).is_err());
    let bomb: Vec<Value> = (0..64)
        .map(|_| json!({"op": "copy", "from": "/a", "path": "/a/-"}))
        .collect();
    let error = json(json!({"a": ["x".repeat(1000)]}), &Value::Array(bomb)).unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("Unable to complete the copy, the accumulated size"),
        "{error}"
    );
}

#[test]
fn json_patches_are_bounded_in_depth_and_in_what_they_shift() {
    let bury = json!({"op": "move", "from": "/a", "path": "/b/b/b/b"});
    let restore = json!([{"op": "move", "from": "/b", "path": "/a"}, {"op": "add", "path": "/b", "value": {"b": {"b": {}}}}, bury]);
    let patch: Vec<Value> = (0..100).flat_map(|_| restore.as_array().unwrap().clone()).collect();
    let error = json(json!({"a": 1, "b": {"b": {"b": {}}}}), &Value::Array(patch)).unwrap_err();
    assert_eq!(error.to_string(), "the patch nests values deeper than 128");

    let patch: Vec<Value> = (0..MAX_OPERATIONS)
        .map(|_| json!({"op": "add", "path": "/l/0", "value": 1}))
        .collect();
    let error = json(json!({"l": vec![0; 100_000]}), &Value::Array(patch)).unwrap_err();
    assert_eq!(error.to_string(), "the patch moves too much");
}

#[test]
fn merge_patch_sets_merges_and_removes_as_rfc_7386_says() {
    let table = [
        (json!({"a": "b"}), json!({"a": "c"}), json!({"a": "c"})),
        (json!({"a": "b"}), json!({"b": "c"}), json!({"a": "b", "b": "c"})),
        (json!({"a": "b", "b": "c"}), json!({"a": null}), json!({"b": "c"})),
        (json!({"a": ["b"]}), json!({"a": "c"}), json!({"a": "c"})),
        (json!({"a": "c"}), json!({"a": ["b"]}), json!({"a": ["b"]})),
        (
            json!({"a": {"b": "c"}}),
            json!({"a": {"b": "d", "c": null}}),
            json!({"a": {"b": "d"}}),
        ),
        (json!({"a": [{"b": "c"}]}), json!({"a": [1]}), json!({"a": [1]})),
        (json!({"e": null}), json!({"a": 1}), json!({"e": null, "a": 1})),
        (json!([1, 2]), json!({"a": "b", "c": null}), json!({"a": "b"})),
        (json!({}), json!({"a": {"bb": {"ccc": null}}}), json!({"a": {"bb": {}}})),
    ];
    for (target, patch, expected) in table {
        assert_eq!(merge(target, &patch), Ok(expected), "{patch}");
    }
    assert_eq!(
        merge(json!({}), &json!([])),
        Err(PatchError::Malformed("Invalid JSON Patch".to_owned()))
    );
}

fn anything() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        (-3i64..3).prop_map(Value::from),
        "[a-c]{0,2}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
            prop::collection::vec(("[a-c]{1,2}", inner), 0..4).prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

fn operation() -> impl Strategy<Value = Value> {
    let path = "(/([a-c]{0,2}|-?[0-3]|-|~0|~1)){0,3}";
    let kind = prop::sample::select(vec!["add", "remove", "replace", "move", "copy", "test", "else"]);
    (kind, path, path, anything())
        .prop_map(|(op, path, from, value)| json!({"op": op, "path": path, "from": from, "value": value}))
}

proptest! {
    #[test]
    fn no_json_patch_panics(target in anything(), patch in prop::collection::vec(operation(), 0..6)) {
        let _ = json(target, &Value::Array(patch));
    }

    #[test]
    fn what_was_added_tests_equal_and_can_be_removed_again(target in anything(), name in "[a-c]{1,2}", value in anything()) {
        prop_assume!(target.get(&name).is_none() && target.is_object());
        let path = format!("/{name}");
        let there_and_back = json!([
            {"op": "add", "path": path, "value": value},
            {"op": "test", "path": path, "value": value},
            {"op": "remove", "path": path},
        ]);
        prop_assert_eq!(json(target.clone(), &there_and_back), Ok(target));
    }

    #[test]
    fn a_merge_patch_applied_twice_is_as_once(target in anything(), patch in anything()) {
        if let Ok(once) = merge(target, &patch) {
            prop_assert_eq!(merge(once.clone(), &patch), Ok(once));
        }
    }
}
