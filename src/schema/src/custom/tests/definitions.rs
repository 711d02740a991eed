//! Definitions: what they tell, and what is wrong with them.

use serde_json::{Value, json};

use super::{super::*, custom, definition, faults, object_of, parsed, told};

#[test]
fn a_definition_tells_all_the_engine_needs() {
    let more = json!({
        "deprecated": true,
        "subresources": {"status": {}, "scale": {"specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas", "labelSelectorPath": ".status.selector"}},
        "selectableFields": [{"jsonPath": ".spec.color"}],
        "additionalPrinterColumns": [
            {"name": "Spec", "type": "string", "jsonPath": ".spec.cronSpec"},
            {"name": "Replicas", "type": "integer", "jsonPath": ".spec.replicas", "priority": 1},
            {"name": "Ready", "type": "string", "jsonPath": ".status.conditions[?(@.type==\"Ready\")].status"},
            {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
        ],
    });
    let spec = object_of(
        &json!({"cronSpec": {"type": "string"}, "replicas": {"type": "integer"}, "color": {"type": "string"}}),
    );
    let definition = Definition::parse(&definition(&spec, &more)).unwrap();
    assert_eq!(definition.names.singular, "crontab");
    assert_eq!(definition.names.list_kind, "CronTabList");
    assert!(definition.namespaced);
    let version = definition.version("v1").unwrap();
    assert!(version.served && version.storage && version.status);
    assert_eq!(
        version.deprecation.as_deref(),
        Some("stable.example.com/v1 CronTab is deprecated")
    );
    assert_eq!(
        version.selectable[0].fields(),
        Some(vec!["spec".to_owned(), "color".to_owned()])
    );

    let mut object = custom(&json!({"cronSpec": "* *", "replicas": 3}));
    object["metadata"]["creationTimestamp"] = json!("2026-01-01T00:00:00Z");
    object["status"] = json!({"replicas": 2, "selector": "a=b", "conditions": [{"type": "Other", "status": "x"}, {"type": "Ready", "status": "True"}]});
    let cells: Vec<Value> = version.columns.iter().map(|column| column.cell(&object)).collect();
    assert_eq!(
        cells,
        [json!("* *"), json!(3), json!("True"), json!("2026-01-01T00:00:00Z")]
    );
    assert_eq!(version.columns[1].priority, 1);

    let scale = version.scale.as_ref().unwrap();
    assert_eq!(
        (
            scale.replicas(&object),
            scale.status_replicas(&object),
            scale.selector(&object)
        ),
        (3, 2, Some("a=b"))
    );
    let view = json!({
        "kind": "Scale", "apiVersion": "autoscaling/v1",
        "metadata": {"name": "x", "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"replicas": 3}, "status": {"replicas": 2, "selector": "a=b"},
    });
    assert_eq!(scale.view(&object), view);
    assert!(scale.set_replicas(&mut object, 7));
    assert_eq!(object["spec"]["replicas"], 7);
    let mut empty = json!({});
    assert!(scale.set_replicas(&mut empty, 1));
    assert_eq!(empty, json!({"spec": {"replicas": 1}}));
    assert!(!scale.set_replicas(&mut json!({"spec": []}), 1));
}

#[test]
fn without_columns_of_its_own_a_table_shows_the_age() {
    let definition = parsed(&object_of(&json!({})));
    let columns = &definition.version("v1").unwrap().columns;
    assert_eq!(
        (columns.len(), &*columns[0].name, &*columns[0].kind),
        (1, "Age", "date")
    );
}

#[test]
fn what_is_wrong_with_names_and_versions_is_told_in_upstreams_words() {
    let good = definition(&object_of(&json!({})), &json!({}));
    let table: [(&str, Value, &str); 12] = [
        (
            "/metadata/name",
            json!("x"),
            r#"metadata.name: Invalid value: "x": must be spec.names.plural+"."+spec.group"#,
        ),
        ("/spec/scope", json!(""), "spec.scope: Required value"),
        (
            "/spec/scope",
            json!("World"),
            r#"spec.scope: Unsupported value: "World": supported values: "Cluster", "Namespaced""#,
        ),
        ("/spec/names/kind", json!(""), "spec.names.kind: Required value"),
        (
            "/spec/names/shortNames",
            json!(["C_T"]),
            "spec.names.shortNames[0]: Invalid value: \"C_T\"",
        ),
        (
            "/spec/versions",
            json!([]),
            "spec.versions: Required value: must have at least one version",
        ),
        (
            "/spec/versions/0/storage",
            json!(false),
            r#"spec.versions: Invalid value: ["v1"]: must have exactly one version marked as storage version"#,
        ),
        (
            "/spec/versions/0/name",
            json!("V1"),
            "spec.versions[0].name: Invalid value: \"V1\"",
        ),
        (
            "/spec/versions/0/schema",
            json!(null),
            "spec.versions[0].schema.openAPIV3Schema: Required value: schemas are required",
        ),
        (
            "/spec/names",
            json!({"plural": "crontabs", "kind": "Same", "listKind": "Same"}),
            r#"spec.names.listKind: Invalid value: "Same": kind and listKind may not be the same"#,
        ),
        (
            "/spec/versions/0/schema/openAPIV3Schema/type",
            json!("string"),
            r#"spec.validation.openAPIV3Schema.type: Invalid value: "string": must be object at the root"#,
        ),
        (
            "/spec/group",
            json!("nodot"),
            r#"spec.group: Invalid value: "nodot": should be a domain with at least one dot"#,
        ),
    ];
    assert_eq!(faults(&good), [""; 0]);
    for (pointer, value, expected) in table {
        let mut bad = good.clone();
        *bad.pointer_mut(pointer).unwrap_or_else(|| panic!("{pointer}")) = value;
        let faults = faults(&bad);
        assert!(
            faults.iter().any(|fault| fault.starts_with(expected)),
            "{expected}\n{faults:?}"
        );
    }
}

#[test]
fn names_that_are_taken_are_not_accepted() {
    let at = |second: i64| jiff::Timestamp::from_second(1_800_000_000 + second).unwrap();
    let definition = parsed(&object_of(&json!({})));
    let mut taken = Taken::default();
    taken.add(&Names {
        plural: "others".to_owned(),
        short_names: vec!["ct".to_owned()],
        ..Names::default()
    });
    let waiting = definition.status(&taken, None, at(0));
    assert_eq!(
        waiting,
        json!({
            "acceptedNames": {"plural": "crontabs", "singular": "crontab", "kind": "CronTab", "listKind": "CronTabList"},
            "conditions": [
                {"lastTransitionTime": "2027-01-15T08:00:00Z", "message": "\"ct\" is already in use", "reason": "ShortNamesConflict", "status": "False", "type": "NamesAccepted"},
                {"lastTransitionTime": "2027-01-15T08:00:00Z", "message": "not all names are accepted", "reason": "NotAccepted", "status": "False", "type": "Established"},
            ],
            "storedVersions": ["v1"],
        })
    );
    let served = definition.status(&Taken::default(), Some(&waiting), at(9));
    assert_eq!(served["acceptedNames"]["shortNames"], json!(["ct"]));
    let conditions: Vec<_> = served["conditions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|condition| condition["status"].clone())
        .collect();
    assert_eq!(conditions, ["True", "True"]);
    assert_eq!(definition.status(&Taken::default(), Some(&served), at(99)), served);
    // What is established stays so.
    let mut kinds = Taken::default();
    kinds.kinds.insert("CronTab".to_owned());
    let conflict = definition.status(&kinds, Some(&served), at(99));
    assert_eq!(conflict["conditions"][0]["reason"], "KindConflict");
    assert_eq!(conflict["conditions"][1], served["conditions"][1]);
}

#[test]
fn an_update_may_not_change_what_objects_are_stored_by() {
    let old = definition(&object_of(&json!({})), &json!({}));
    let mut new = old.clone();
    new["spec"]["scope"] = json!("Cluster");
    new["spec"]["names"]["plural"] = json!("others");
    assert_eq!(told(&Definition::check_update(&old, &old, true)), [""; 0]);
    assert_eq!(
        told(&Definition::check_update(&new, &old, true)),
        [
            r#"spec.names.plural: Invalid value: "others": field is immutable"#,
            r#"spec.scope: Invalid value: "Cluster": field is immutable"#
        ]
    );
    let mut stored = old.clone();
    stored["status"] = json!({"storedVersions": ["v1alpha1", "v1"]});
    assert_eq!(
        told(&Definition::check_update(&new, &stored, false))[1],
        r#"status.storedVersions[0]: Invalid value: "v1alpha1": must appear in spec.versions"#
    );
}

#[test]
fn a_schema_that_is_not_structural_is_refused_in_upstreams_words() {
    let table = [
        (
            json!({}),
            ".properties[spec].type: Required value: must not be empty for specified object fields",
        ),
        (
            json!({"type": "array"}),
            ".properties[spec].items: Required value: must be specified",
        ),
        (
            json!({"type": "array", "items": {}}),
            ".properties[spec].items.type: Required value: must not be empty for specified array items",
        ),
        (
            json!({"type": "null"}),
            ".properties[spec].type: Forbidden: type cannot be set to null, use nullable as an alternative",
        ),
        (
            json!({"type": "string", "pattern": "["}),
            ".properties[spec].pattern: Invalid value: \"[\": must be a valid regular expression",
        ),
        (
            json!({"type": "object", "uniqueItems": true}),
            ".properties[spec].uniqueItems: Forbidden: uniqueItems cannot be set to true since the runtime complexity becomes quadratic",
        ),
        (
            json!({"type": "object", "$ref": "x"}),
            ".properties[spec].$ref: Forbidden: $ref is not supported",
        ),
        (
            json!({"type": "object", "properties": {"a": {"type": "string"}}, "additionalProperties": false}),
            ".properties[spec].additionalProperties: Forbidden: additionalProperties and properties are mutual exclusive",
        ),
        (
            json!({"type": "object", "anyOf": [{"type": "object"}]}),
            ".properties[spec].anyOf[0].type: Forbidden: must be empty to be structural",
        ),
        (
            json!({"type": "object", "not": {"properties": {"a": {"description": "x"}}}}),
            ".properties[spec].not.properties[a].description: Forbidden: must be empty to be structural",
        ),
        (
            json!({"x-kubernetes-int-or-string": true, "x-kubernetes-preserve-unknown-fields": true}),
            ".properties[spec].x-kubernetes-preserve-unknown-fields: Invalid value: true: must be false if x-kubernetes-int-or-string is true",
        ),
        (
            json!({"type": "object", "x-kubernetes-list-type": "set"}),
            ".properties[spec].type: Invalid value: \"object\": must be array if x-kubernetes-list-type is set",
        ),
        (
            json!({"type": "array", "items": {"type": "object"}, "x-kubernetes-list-type": "map"}),
            ".properties[spec].x-kubernetes-list-map-keys: Required value: must not be empty if x-kubernetes-list-type is map",
        ),
        (
            json!({"type": "array", "items": {"type": "object"}, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["a"]}),
            ".properties[spec].x-kubernetes-list-map-keys: Invalid value: [\"a\"]: entries must all be names of item properties",
        ),
        (
            json!({"type": "array", "items": {"type": "object", "properties": {"a": {"type": "string"}}}, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["a"]}),
            ".properties[spec].items.properties[a].default: Required value: this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property",
        ),
        (
            json!({"type": "array", "items": {"type": "object"}, "x-kubernetes-list-type": "set"}),
            ".properties[spec].items.x-kubernetes-map-type: Invalid value: null: must be atomic as item of a list with x-kubernetes-list-type=set",
        ),
        (
            json!({"type": "object", "x-kubernetes-embedded-resource": true}),
            ".properties[spec].properties: Required value: must not be empty if x-kubernetes-embedded-resource is true",
        ),
        (
            json!({"type": "object", "properties": {"a": {"type": "integer", "default": "x"}}}),
            ".properties[spec].properties[a].default: Invalid value: \"x\"",
        ),
        (
            json!({"type": "object", "properties": {"a": {"type": "object", "default": {"b": 1}}}}),
            ".properties[spec].properties[a].default: Invalid value: {\"b\":1}: must be pruned",
        ),
        (json!(3), ".properties[spec]: Invalid value: 3: must be an object"),
    ];
    for (spec, expected) in table {
        let expected = format!("spec.validation.openAPIV3Schema{expected}");
        let faults = faults(&definition(&spec, &json!({})));
        assert!(
            faults.iter().any(|fault| fault.starts_with(&expected)),
            "{expected}\n{faults:?}"
        );
    }
    let metadata = json!({"schema": {"openAPIV3Schema": {"type": "object", "properties": {"metadata": {"type": "object", "properties": {"labels": {"type": "object"}}}}}}});
    assert_eq!(
        faults(&definition(&json!({}), &metadata)),
        [
            "spec.validation.openAPIV3Schema.properties[metadata]: Forbidden: must not specify anything other than name and \
          generateName, but metadata is implicitly specified"
        ]
    );
    let deep = (0..100).fold(json!({"type": "string"}), |inner, _| object_of(&json!({"a": inner})));
    assert!(faults(&definition(&deep, &json!({})))[0].ends_with("must not be nested deeper than 64"));
}
