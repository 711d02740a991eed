mod definitions;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

/// A definition with this schema of `spec`, and whatever else is merged into its version.
fn definition(spec: &Value, more: &Value) -> Value {
    let mut version = json!({
        "name": "v1", "served": true, "storage": true,
        "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": spec, "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}},
    });
    version
        .as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "crontabs.stable.example.com"},
        "spec": {
            "group": "stable.example.com", "scope": "Namespaced",
            "names": {"plural": "crontabs", "kind": "CronTab", "shortNames": ["ct"]},
            "versions": [version],
        },
    })
}

fn object_of(properties: &Value) -> Value {
    json!({"type": "object", "properties": properties})
}

fn parsed(spec: &Value) -> Definition {
    let definition = Definition::parse(&definition(spec, &json!({})));
    definition.unwrap_or_else(|errors| panic!("{spec}: {}", told(&errors).join("\n")))
}

fn told(errors: &[FieldError]) -> Vec<String> {
    errors.iter().map(ToString::to_string).collect()
}

fn faults(definition: &Value) -> Vec<String> {
    told(&Definition::parse(definition).err().unwrap_or_default())
}

fn custom(spec: &Value) -> Value {
    json!({"apiVersion": "stable.example.com/v1", "kind": "CronTab", "metadata": {"name": "x"}, "spec": spec})
}

#[test]
fn values_are_checked_in_upstreams_words() {
    let table = [
        (
            json!({"type": "integer"}),
            json!("x"),
            vec![r#"spec.v: Invalid value: "string": spec.v in body must be of type integer: "string""#],
        ),
        (
            json!({"type": "integer"}),
            json!(1.5),
            vec![r#"spec.v: Invalid value: "number": spec.v in body must be of type integer: "number""#],
        ),
        (json!({"type": "number"}), json!(1), vec![]),
        (
            json!({"type": "string"}),
            json!(null),
            vec![r#"spec.v: Invalid value: "null": spec.v in body must be of type string: "null""#],
        ),
        (json!({"type": "string", "nullable": true}), json!(null), vec![]),
        (
            json!({"type": "integer", "minimum": 1, "maximum": 10}),
            json!(11),
            vec!["spec.v: Invalid value: 11: spec.v in body should be less than or equal to 10"],
        ),
        (
            json!({"type": "integer", "minimum": 1}),
            json!(0),
            vec!["spec.v: Invalid value: 0: spec.v in body should be greater than or equal to 1"],
        ),
        (
            json!({"type": "integer", "minimum": 1, "exclusiveMinimum": true}),
            json!(1),
            vec!["spec.v: Invalid value: 1: spec.v in body should be greater than 1"],
        ),
        (json!({"type": "number", "multipleOf": 0.1}), json!(0.3), vec![]),
        (
            json!({"type": "integer", "multipleOf": 5}),
            json!(7),
            vec!["spec.v: Invalid value: 7: spec.v in body should be a multiple of 5"],
        ),
        (
            json!({"type": "string", "maxLength": 2}),
            json!("äöü"),
            vec!["spec.v: Too long: may not be more than 2 bytes"],
        ),
        (
            json!({"type": "string", "minLength": 2}),
            json!("a"),
            vec![r#"spec.v: Invalid value: "a": spec.v in body should be at least 2 chars long"#],
        ),
        (
            json!({"type": "string", "pattern": "^a+$"}),
            json!("b"),
            vec![r#"spec.v: Invalid value: "b": spec.v in body should match '^a+$'"#],
        ),
        (
            json!({"type": "string", "enum": ["a", "b"]}),
            json!("c"),
            vec![r#"spec.v: Unsupported value: "c": supported values: "a", "b""#],
        ),
        (
            json!({"type": "string", "format": "date-time"}),
            json!("soon"),
            vec![r#"spec.v: Invalid value: "soon": spec.v in body must be of type date-time: "soon""#],
        ),
        (
            json!({"type": "string", "format": "date-time"}),
            json!("2026-01-01T00:00:00Z"),
            vec![],
        ),
        (json!({"type": "string", "format": "mine"}), json!("x"), vec![]),
        (
            json!({"type": "array", "items": {"type": "string"}, "maxItems": 1}),
            json!(["a", "b"]),
            vec!["spec.v: Too many: 2: must have at most 1 items"],
        ),
        (
            json!({"type": "array", "items": {"type": "string"}, "minItems": 1}),
            json!([]),
            vec!["spec.v: Invalid value: 0: spec.v in body should have at least 1 items"],
        ),
        (
            json!({"type": "array", "items": {"type": "string"}}),
            json!(["a", 1]),
            vec![r#"spec.v[1]: Invalid value: "integer": spec.v[1] in body must be of type string: "integer""#],
        ),
        (
            json!({"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "set"}),
            json!(["a", "a"]),
            vec![r#"spec.v[1]: Duplicate value: "a""#],
        ),
        (
            json!({"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"], "items": {"type": "object", "required": ["k"], "properties": {"k": {"type": "string"}}}}),
            json!([{"k": "a"}, {"k": "a"}]),
            vec![r#"spec.v[1]: Duplicate value: {"k":"a"}"#],
        ),
        (
            json!({"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}),
            json!({}),
            vec!["spec.v.a: Required value"],
        ),
        (
            json!({"type": "object", "additionalProperties": {"type": "integer"}, "maxProperties": 1}),
            json!({"a": 1, "b": 2}),
            vec!["spec.v: Too many: 2: must have at most 1 items"],
        ),
        (
            json!({"type": "object", "additionalProperties": {"type": "integer"}}),
            json!({"a": "x"}),
            vec![r#"spec.v.a: Invalid value: "string": spec.v.a in body must be of type integer: "string""#],
        ),
        (
            json!({"x-kubernetes-int-or-string": true}),
            json!(true),
            vec![r#"spec.v: Invalid value: "boolean": spec.v in body must be of type integer,string: "boolean""#],
        ),
        (
            json!({"x-kubernetes-int-or-string": true, "anyOf": [{"type": "integer"}, {"type": "string"}]}),
            json!("50%"),
            vec![],
        ),
        (
            json!({"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "string"}}, "oneOf": [{"required": ["a"]}, {"required": ["b"]}]}),
            json!({"a": "", "b": ""}),
            vec![
                r#"<nil>: Invalid value: "": "spec.v" must validate one and only one schema (oneOf). Found 2 valid alternatives"#,
            ],
        ),
        (
            json!({"type": "integer", "anyOf": [{"minimum": 5}, {"maximum": 1}]}),
            json!(3),
            vec![
                r#"<nil>: Invalid value: "": "spec.v" must validate at least one schema (anyOf)"#,
                "spec.v: Invalid value: 3: spec.v in body should be greater than or equal to 5",
            ],
        ),
        (
            json!({"type": "integer", "not": {"enum": [3]}}),
            json!(3),
            vec![r#"<nil>: Invalid value: "": "spec.v" must not validate the schema (not)"#],
        ),
        (
            json!({"type": "object", "x-kubernetes-embedded-resource": true, "x-kubernetes-preserve-unknown-fields": true}),
            json!({"kind": "X"}),
            vec!["spec.v.apiVersion: Required value: must not be empty"],
        ),
    ];
    for (schema, value, expected) in table {
        let definition = parsed(&object_of(&json!({"v": schema})));
        let version = definition.version("v1").unwrap();
        assert_eq!(
            told(&version.validate(&custom(&json!({"v": value})), None)),
            expected,
            "{schema}"
        );
    }
}

#[test]
fn what_an_update_leaves_as_it_was_is_not_held_against_it() {
    let item = object_of(&json!({"k": {"type": "string"}, "n": {"type": "integer", "maximum": 5}}));
    let mut item = item;
    item["required"] = json!(["k"]);
    let spec = object_of(&json!({
        "n": {"type": "integer", "maximum": 5},
        "list": {"type": "array", "items": item, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"]},
    }));
    let definition = parsed(&spec);
    let version = definition.version("v1").unwrap();
    let old = custom(&json!({"n": 9, "list": [{"k": "a", "n": 9}]}));
    let moved = custom(&json!({"n": 9, "list": [{"k": "b", "n": 1}, {"k": "a", "n": 9}]}));
    assert_eq!(told(&version.validate(&moved, Some(&old))), [""; 0]);
    let worse = custom(&json!({"n": 8, "list": [{"k": "a", "n": 7}]}));
    assert_eq!(
        told(&version.validate(&worse, Some(&old))),
        [
            "spec.n: Invalid value: 8: spec.n in body should be less than or equal to 5",
            "spec.list[0].n: Invalid value: 7: spec.list[0].n in body should be less than or equal to 5"
        ]
    );
}

#[test]
fn defaults_fill_what_is_absent_at_every_level() {
    let spec = object_of(&json!({
        "a": {"type": "string", "default": "x"},
        "n": {"type": "string", "nullable": true, "default": "x"},
        "o": {"type": "object", "default": {}, "properties": {"b": {"type": "integer", "default": 3}}},
        "none": {"type": "object", "properties": {"b": {"type": "integer", "default": 3}}},
        "list": {"type": "array", "items": object_of(&json!({"c": {"type": "boolean", "default": true}}))},
        "map": {"type": "object", "additionalProperties": object_of(&json!({"c": {"type": "boolean", "default": true}}))},
    }));
    let definition = parsed(&spec);
    let version = definition.version("v1").unwrap();
    let table = [
        (json!({}), json!({"a": "x", "n": "x", "o": {"b": 3}})),
        (
            json!({"a": null, "n": null}),
            json!({"a": "x", "n": null, "o": {"b": 3}}),
        ),
        (
            json!({"a": "y", "n": "y", "o": {"b": 1}, "none": {}, "list": [{}, {"c": false}], "map": {"k": {}}}),
            json!({"a": "y", "n": "y", "o": {"b": 1}, "none": {"b": 3}, "list": [{"c": true}, {"c": false}], "map": {"k": {"c": true}}}),
        ),
    ];
    for (spec, expected) in table {
        let mut object = custom(&spec);
        version.default(&mut object);
        assert_eq!(object, custom(&expected));
        version.default(&mut object);
        assert_eq!(object, custom(&expected));
    }
}

#[test]
fn unknown_fields_are_pruned_and_told() {
    let spec = object_of(&json!({
        "known": {"type": "string"},
        "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true, "properties": {"strict": object_of(&json!({}))}},
        "any": {"x-kubernetes-preserve-unknown-fields": true},
        "map": {"type": "object", "additionalProperties": object_of(&json!({}))},
        "list": {"type": "array", "items": object_of(&json!({}))},
        "template": {"type": "object", "x-kubernetes-embedded-resource": true, "properties": {"spec": object_of(&json!({}))}},
    }));
    let definition = parsed(&spec);
    let version = definition.version("v1").unwrap();
    let mut object = custom(&json!({
        "known": "", "unknown": 1,
        "free": {"x": 1, "strict": {"y": 1}},
        "any": {"x": [1]},
        "map": {"k": {"z": 1}},
        "list": [{"w": 1}],
        "template": {"apiVersion": "v1", "kind": "X", "metadata": {"name": "n"}, "spec": {}, "other": 1},
    }));
    object["top"] = json!(1);
    object["metadata"]["labels"] = json!({"a": "b"});
    let pruned = version.prune(&mut object);
    assert_eq!(
        pruned,
        [
            "spec.unknown",
            "spec.free.strict.y",
            "spec.map.k.z",
            "spec.list[0].w",
            "spec.template.other",
            "top"
        ]
    );
    let mut expected = custom(&json!({
        "known": "",
        "free": {"x": 1, "strict": {}},
        "any": {"x": [1]},
        "map": {"k": {}},
        "list": [{}],
        "template": {"apiVersion": "v1", "kind": "X", "metadata": {"name": "n"}, "spec": {}},
    }));
    expected["metadata"]["labels"] = json!({"a": "b"});
    assert_eq!(object, expected);
    assert_eq!(version.prune(&mut object), [""; 0]);
}

#[test]
fn apply_goes_by_the_types_of_a_schema() {
    use crate::{
        apply::apply,
        managed::{Model, Writer, reset_fields},
    };

    let spec = object_of(&json!({
        "items": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k", "p"],
            "items": {"type": "object", "required": ["k"], "properties": {"k": {"type": "string"}, "p": {"type": "string", "default": "TCP"}, "v": {"type": "integer"}}}},
        "whole": {"type": "object", "additionalProperties": {"type": "string"}, "x-kubernetes-map-type": "atomic"},
    }));
    let definition = parsed(&spec);
    let version = definition.version("v1").unwrap();
    let model = Model {
        types: &version.types,
        ty: version.ty,
        api_version: "stable.example.com/v1",
        versions: None,
        reset: reset_fields(""),
    };
    let writer = |manager| Writer {
        manager,
        subresource: "",
        now: jiff::Timestamp::UNIX_EPOCH,
    };
    let mut one = custom(&json!({"items": [{"k": "a", "v": 1}], "whole": {"x": "1"}}));
    one["metadata"]["labels"] = json!({"l": "1"});
    let live = apply(&model, &writer("one"), None, &one, false).unwrap();
    let two = custom(&json!({"items": [{"k": "b", "v": 1}, {"k": "a", "p": "TCP", "v": 2}]}));
    assert_eq!(
        apply(&model, &writer("two"), Some(&live), &two, false)
            .unwrap_err()
            .to_string(),
        "Apply failed with 1 conflict: conflict with \"one\": .spec.items[k=\"a\",p=\"TCP\"].v"
    );
    let whole = custom(&json!({"whole": {"y": "1"}}));
    assert_eq!(
        apply(&model, &writer("two"), Some(&live), &whole, false)
            .unwrap_err()
            .to_string(),
        "Apply failed with 1 conflict: conflict with \"one\": .spec.whole"
    );
}

#[test]
fn paths_lead_to_the_first_value() {
    let object = json!({"a": {"b.c": [1, {"d": "x"}]}, "l": [{"t": "A", "n": 1}, {"t": "B", "n": 2}], "e": ""});
    let table = [
        (".a['b.c'][0]", Some(json!(1))),
        (".a.b\\.c[1].d", Some(json!("x"))),
        ("{.a.b\\.c[-1].d}", Some(json!("x"))),
        (".l[*].n", Some(json!(1))),
        (".l[?(@.t=='B')].n", Some(json!(2))),
        (".l[?(@.n>1)].t", Some(json!("B"))),
        (".l[?(@.n != 1)].t", Some(json!("B"))),
        (".l[?(@.x)].t", None),
        (".l[7]", None),
        (".e", Some(json!(""))),
        (".nope.more", None),
    ];
    for (path, expected) in table {
        assert_eq!(
            JsonPath::parse(path).unwrap().first(&object),
            expected.as_ref(),
            "{path}"
        );
    }
    for bad in ["", "a", ".a[", ".a[x]", ".a[?(b==1)]", ".a[?(@.b==x)]"] {
        assert!(JsonPath::parse(bad).is_err(), "{bad}");
    }
}

fn anything() -> impl Strategy<Value = Value> {
    let names = prop::sample::select(vec![
        "type",
        "properties",
        "items",
        "additionalProperties",
        "default",
        "nullable",
        "required",
        "enum",
        "anyOf",
        "not",
        "x-kubernetes-list-type",
        "x-kubernetes-list-map-keys",
        "x-kubernetes-int-or-string",
        "metadata",
        "a",
        "pattern",
        "x-kubernetes-preserve-unknown-fields",
        "x-kubernetes-validations",
        "rule",
        "minimum",
        "maxLength",
    ]);
    let leaf = prop_oneof![
        Just(Value::Null),
        Just(json!(true)),
        Just(json!("object")),
        Just(json!("array")),
        Just(json!("map")),
        Just(json!("self.a == 1")),
        Just(json!(1)),
        Just(json!(["a"])),
        Just(json!({"type": "object"})),
        Just(json!({"type": "string"})),
    ];
    leaf.prop_recursive(4, 40, 5, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::Array),
            prop::collection::vec((names.clone(), inner), 0..5)
                .prop_map(|map| Value::Object(map.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())),
        ]
    })
}

proptest! {
    #[test]
    fn no_definition_and_no_object_panic(schema in anything(), object in anything(), old in anything()) {
        let mut whole = definition(&schema, &json!({}));
        if let Ok(definition) = Definition::parse(&whole) {
            let version = definition.version("v1").unwrap();
            let (mut object, old) = (custom(&object), custom(&old));
            version.default(&mut object);
            version.prune(&mut object);
            let _ = version.validate(&object, Some(&old));
            prop_assert_eq!(version.prune(&mut object), Vec::<String>::new());
        }
        whole["spec"] = object;
        let _ = Definition::parse(&whole);
        whole["spec"] = json!({"versions": [schema]});
        let _ = Definition::parse(&whole);
    }

    #[test]
    fn no_path_panics(path in ".{0,24}", like in "[.@?()\\[\\]'\"a-c0-9*=<>!-]{0,24}", object in anything()) {
        for path in [path, format!(".{like}")] {
            if let Ok(path) = JsonPath::parse(&path) {
                let _ = path.first(&object);
            }
        }
    }
}
