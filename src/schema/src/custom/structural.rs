//! Whether a schema is structural: one type for each value, so that objects can be pruned, defaulted and merged.

use bosun_api::field::{Errors, Path};
use serde_json::Value;

use super::schema::{Additional, Kind, Node};
use crate::types::ListKind;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Level {
    Root,
    Item,
    Field,
}

/// Notes why the schema of a whole object isn't structural.
pub(super) fn check(node: &Node, path: &Path, errors: &mut Errors) {
    structure(node, Level::Root, path, errors);
}

fn structure(node: &Node, level: Level, path: &Path, errors: &mut Errors) {
    if node.kind == Some(Kind::Array) && node.items.is_none() {
        errors.required(&path.child("items"), "must be specified");
    }
    if let Some(items) = &node.items {
        structure(items, Level::Item, &path.child("items"), errors);
    }
    let properties = path.child("properties");
    for (name, property) in &node.properties {
        structure(property, Level::Field, &properties.key(name), errors);
    }
    if let Some(additional) = &node.additional {
        let path = path.child("additionalProperties");
        if level == Level::Root {
            errors.forbidden(&path, "must not be used at the root");
        }
        if !node.properties.is_empty() && !matches!(additional, Additional::Any(true)) {
            errors.forbidden(&path, "additionalProperties and properties are mutual exclusive");
        }
        if node.embedded {
            errors.forbidden(&path, "must not be used if x-kubernetes-embedded-resource is set");
        }
        if let Additional::Of(additional) = additional {
            structure(additional, Level::Field, &path, errors);
        }
    }
    if node.int_or_string {
        for (said, name) in [
            (node.preserve, "x-kubernetes-preserve-unknown-fields"),
            (node.embedded, "x-kubernetes-embedded-resource"),
        ] {
            if said {
                errors.invalid(
                    &path.child(name),
                    true,
                    "must be false if x-kubernetes-int-or-string is true",
                );
            }
        }
    }
    the_type(node, level, path, errors);
    lists(node, path, errors);
    let int_or_string = node.int_or_string && is_int_or_string(&node.checks.any_of);
    let first_of_all = node.int_or_string
        && node
            .checks
            .all_of
            .first()
            .is_some_and(|first| is_int_or_string(&first.checks.any_of));
    junctions(node, int_or_string, first_of_all, path, errors);

    let whole = level == Level::Root || node.embedded;
    for name in ["kind", "apiVersion"] {
        if let Some(property) = node.properties.get(name).filter(|_| whole)
            && property.kind != Some(Kind::String)
        {
            let kind = property.kind.map_or("", Kind::name);
            errors.invalid(&properties.key(name).child("type"), kind, "must be string");
        }
    }
    if let Some(metadata) = node.properties.get("metadata") {
        the_metadata(metadata, whole, level, &properties.key("metadata"), errors);
    }
    if node.embedded && !node.preserve && node.properties.is_empty() {
        errors.required(
            &properties,
            "must not be empty if x-kubernetes-embedded-resource is true without \
             x-kubernetes-preserve-unknown-fields",
        );
    }
}

fn the_type(node: &Node, level: Level, path: &Path, errors: &mut Errors) {
    let path = path.child("type");
    match node.kind {
        Some(Kind::Object) => {}
        Some(kind) if node.embedded => errors.invalid(
            &path,
            kind.name(),
            "must be object if x-kubernetes-embedded-resource is true",
        ),
        Some(kind) if level == Level::Root => errors.invalid(&path, kind.name(), "must be object at the root"),
        Some(_) => {}
        None if node.embedded => errors.required(&path, "must be object if x-kubernetes-embedded-resource is true"),
        None if node.int_or_string || node.preserve => {}
        None => errors.required(
            &path,
            match level {
                Level::Root => "must not be empty at the root",
                Level::Item => "must not be empty for specified array items",
                Level::Field => "must not be empty for specified object fields",
            },
        ),
    }
}

fn the_metadata(metadata: &Node, whole: bool, level: Level, path: &Path, errors: &mut Errors) {
    if whole && metadata.kind != Some(Kind::Object) {
        let kind = metadata.kind.map_or("", Kind::name);
        errors.invalid(&path.child("type"), kind, "must be object");
    }
    let named = metadata
        .properties
        .keys()
        .all(|name| name == "name" || name == "generateName");
    let plain = metadata.additional.is_none() && !metadata.preserve && !metadata.nullable && metadata.rules.is_empty();
    if level == Level::Root && !(named && plain) {
        errors.forbidden(
            path,
            "must not specify anything other than name and generateName, but metadata is implicitly specified",
        );
    }
}

fn lists(node: &Node, path: &Path, errors: &mut Errors) {
    let keys_path = path.child("x-kubernetes-list-map-keys");
    let said_keys = node.said.get("x-kubernetes-list-map-keys").and_then(Value::as_array);
    let said_keys = said_keys.is_some_and(|keys| !keys.is_empty());
    let type_path = path.child("type");
    match (&node.list, node.kind) {
        (Some(_), None) => errors.required(&type_path, "must be array if x-kubernetes-list-type is set"),
        (Some(_), Some(kind)) if kind != Kind::Array => {
            errors.invalid(
                &type_path,
                kind.name(),
                "must be array if x-kubernetes-list-type is set",
            );
        }
        _ => {}
    }
    let list_path = path.child("x-kubernetes-list-type");
    match &node.list {
        None if said_keys => errors.required(&list_path, "must be map if x-kubernetes-list-map-keys is non-empty"),
        Some(kind @ (ListKind::Atomic | ListKind::Set)) if said_keys => {
            let kind = if *kind == ListKind::Set { "set" } else { "atomic" };
            errors.invalid(
                &list_path,
                kind,
                "must be map if x-kubernetes-list-map-keys is non-empty",
            );
        }
        _ => {}
    }
    if node.said.contains_key("x-kubernetes-map-type") && node.kind != Some(Kind::Object) {
        match node.kind {
            None => errors.required(&type_path, "must be object if x-kubernetes-map-type is specified"),
            Some(kind) => errors.invalid(
                &type_path,
                kind.name(),
                "must be object if x-kubernetes-map-type is specified",
            ),
        }
    }
    let (Some(kind), Some(items)) = (&node.list, &node.items) else {
        if matches!(node.list, Some(ListKind::Map(_))) {
            errors.required(
                &path.child("items"),
                "must have a schema if x-kubernetes-list-type is map",
            );
        }
        return;
    };
    let items_path = path.child("items");
    if items.nullable && *kind != ListKind::Atomic {
        let kind = if *kind == ListKind::Set { "set" } else { "map" };
        errors.forbidden(
            &items_path.child("nullable"),
            format!("cannot be nullable when x-kubernetes-list-type is {kind}"),
        );
    }
    match kind {
        ListKind::Atomic => {}
        ListKind::Set => match items.kind {
            Some(Kind::Object) if !items.atomic => errors.invalid(
                &items_path.child("x-kubernetes-map-type"),
                Value::Null,
                "must be atomic as item of a list with x-kubernetes-list-type=set",
            ),
            Some(Kind::Array) if !matches!(items.list, None | Some(ListKind::Atomic)) => errors.invalid(
                &items_path.child("x-kubernetes-list-type"),
                Value::Null,
                "must be atomic as item of a list with x-kubernetes-list-type=set",
            ),
            _ => {}
        },
        ListKind::Map(keys) => map_keys(keys, items, path, &keys_path, errors),
    }
}

fn map_keys(keys: &[std::sync::Arc<str>], items: &Node, path: &Path, keys_path: &Path, errors: &mut Errors) {
    if keys.is_empty() {
        errors.required(keys_path, "must not be empty if x-kubernetes-list-type is map");
    }
    let items_path = path.child("items");
    if items.kind != Some(Kind::Object) {
        let kind = items.kind.map_or("", Kind::name);
        errors.invalid(
            &items_path.child("type"),
            kind,
            "must be object if parent array's x-kubernetes-list-type is map",
        );
        return;
    }
    let all: Vec<&str> = keys.iter().map(|key| &**key).collect();
    for (at, key) in all.iter().enumerate() {
        if all[..at].contains(key) {
            errors.invalid(keys_path, all.clone(), "must not contain duplicate entries");
        }
        let Some(property) = items.properties.get(*key) else {
            errors.invalid(keys_path, all.clone(), "entries must all be names of item properties");
            continue;
        };
        let path = items_path.child("properties").key(key);
        if matches!(property.kind, Some(Kind::Array | Kind::Object)) {
            errors.invalid(
                &path.child("type"),
                "object",
                "must be a scalar type if parent array's x-kubernetes-list-type is map",
            );
        }
        let required = items.checks.required.iter().any(|name| name == key);
        if property.default.is_none() && !required {
            errors.required(
                &path.child("default"),
                "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property",
            );
        }
        if property.nullable {
            errors.forbidden(
                &path.child("nullable"),
                "this property is in x-kubernetes-list-map-keys, so it cannot be nullable",
            );
        }
    }
}

/// `anyOf` of `integer` and `string`: the one junction that may tell types.
fn is_int_or_string(any_of: &[Node]) -> bool {
    matches!(any_of, [a, b] if a.kind == Some(Kind::Integer) && b.kind == Some(Kind::String))
}

fn junctions(node: &Node, skip_any: bool, skip_first_all: bool, path: &Path, errors: &mut Errors) {
    let checks = &node.checks;
    let each = |name: &str, nodes: &[Node], errors: &mut Errors, skip: bool| {
        for (at, node) in nodes.iter().enumerate() {
            nested(node, skip && at == 0, &path.child(name).index(at), errors);
        }
    };
    if !skip_any {
        each("anyOf", &checks.any_of, errors, false);
    }
    each("allOf", &checks.all_of, errors, skip_first_all);
    each("oneOf", &checks.one_of, errors, false);
    if let Some(not) = &checks.not {
        nested(not, false, &path.child("not"), errors);
    }
}

/// Below a junction only values are checked; their structure is told outside.
fn nested(node: &Node, skip_any: bool, path: &Path, errors: &mut Errors) {
    junctions(node, skip_any, false, path, errors);
    if let Some(items) = &node.items {
        nested(items, false, &path.child("items"), errors);
    }
    let properties = path.child("properties");
    for (name, property) in &node.properties {
        nested(property, false, &properties.key(name), errors);
    }
    let truthy = |name: &str| node.said.get(name).and_then(Value::as_bool).unwrap_or(false);
    let texts = |name: &str| {
        node.said
            .get(name)
            .and_then(Value::as_str)
            .is_some_and(|text| !text.is_empty())
    };
    let said = |name: &str| node.said.get(name).is_some_and(|value| !value.is_null());
    let forbidden = [
        ("type", texts("type"), "must be empty to be structural"),
        (
            "additionalProperties",
            said("additionalProperties"),
            "must be undefined to be structural",
        ),
        ("default", said("default"), "must be undefined to be structural"),
        ("title", texts("title"), "must be empty to be structural"),
        ("description", texts("description"), "must be empty to be structural"),
        ("nullable", truthy("nullable"), "must be false to be structural"),
        (
            "externalDocs",
            said("externalDocs"),
            "must be undefined to be structural",
        ),
        (
            "x-kubernetes-preserve-unknown-fields",
            node.preserve,
            "must be false to be structural",
        ),
        (
            "x-kubernetes-embedded-resource",
            node.embedded,
            "must be false to be structural",
        ),
        (
            "x-kubernetes-int-or-string",
            node.int_or_string,
            "must be false to be structural",
        ),
        (
            "x-kubernetes-list-map-keys",
            said("x-kubernetes-list-map-keys"),
            "must be empty to be structural",
        ),
        (
            "x-kubernetes-list-type",
            node.list.is_some(),
            "must be undefined to be structural",
        ),
        (
            "x-kubernetes-map-type",
            said("x-kubernetes-map-type"),
            "must be undefined to be structural",
        ),
        (
            "x-kubernetes-validations",
            !node.rules.is_empty(),
            "must be empty to be structural",
        ),
    ];
    for (name, said, why) in forbidden {
        if said {
            errors.forbidden(&path.child(name), why);
        }
    }
    if node.properties.contains_key("metadata") {
        errors.forbidden(&properties.key("metadata"), "must not be specified in a nested context");
    }
}
