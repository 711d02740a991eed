//! A definition's own fields: names, versions, subresources, columns.

use std::sync::Arc;

use bosun_api::{
    field::{Errors, FieldError, Path},
    names,
};
use serde_json::Value;

use super::{CustomVersion, JsonPath, fill, schema::Node, structural, types, validate};
use crate::cel::Rules;

/// A `CustomResourceDefinition`, checked and compiled.
#[derive(Debug)]
pub struct Definition {
    /// Such as `example.com`.
    pub group: String,
    /// Whether objects are in namespaces.
    pub namespaced: bool,
    /// What it is called.
    pub names: Names,
    /// Its versions, as written.
    pub versions: Vec<CustomVersion>,
    /// `None`, or `Webhook`: how objects are converted between versions.
    pub conversion: String,
}

/// What a resource is called, with upstream's defaults filled in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(clippy::struct_field_names, reason = "upstream's word for them")]
pub struct Names {
    /// In paths, such as `crontabs`.
    pub plural: String,
    /// Such as `crontab`.
    pub singular: String,
    /// Such as `CronTab`.
    pub kind: String,
    /// Such as `CronTabList`.
    pub list_kind: String,
    /// Such as `ct`.
    pub short_names: Vec<String>,
    /// Such as `all`.
    pub categories: Vec<String>,
}

/// What a table shows of an object.
#[derive(Clone, Debug, PartialEq)]
pub struct Column {
    /// The heading.
    pub name: String,
    /// `integer`, `number`, `string`, `boolean` or `date`.
    pub kind: String,
    /// Such as `name`, `int32`.
    pub format: String,
    /// For people.
    pub description: String,
    /// Greater than 0: shown in wide tables only.
    pub priority: i32,
    /// Where the value is.
    pub path: JsonPath,
}

/// Where an object has what a `Scale` shows.
#[derive(Clone, Debug, PartialEq)]
pub struct Scale {
    /// Under `.spec`.
    pub spec_replicas: JsonPath,
    /// Under `.status`.
    pub status_replicas: JsonPath,
    /// Under `.status` or `.spec`.
    pub label_selector: Option<JsonPath>,
}

impl Column {
    /// The cell's value; null if the object has none of the column's type. A `date` is a time that the caller turns
    /// into an age.
    pub fn cell(&self, object: &Value) -> Value {
        let Some(value) = self.path.first(object) else {
            return Value::Null;
        };
        match (&*self.kind, value) {
            ("integer", Value::Number(number)) => number
                .as_i64()
                .or_else(|| number.as_f64().map(|float| float as i64))
                .map_or(Value::Null, Value::from),
            ("number", Value::Number(_)) | ("boolean", Value::Bool(_)) | ("date" | "string", Value::String(_)) => {
                value.clone()
            }
            ("string", other) if !other.is_null() => Value::from(other.to_string()),
            _ => Value::Null,
        }
    }
}

impl Definition {
    /// Checks a definition (a whole `CustomResourceDefinition` of apiextensions.k8s.io/v1) and compiles it; or says all
    /// that is wrong with it.
    pub fn parse(object: &Value) -> Result<Self, Vec<FieldError>> {
        let mut errors = Errors::default();
        let definition = read(object, &mut errors);
        match errors.into_vec() {
            none if none.is_empty() => Ok(definition),
            errors => Err(errors),
        }
    }

    /// What of `new` an update of `old` may not have changed, both being whole definitions; once it is established,
    /// its scope and kind neither.
    pub fn check_update(new: &Value, old: &Value, established: bool) -> Vec<FieldError> {
        let mut errors = Errors::default();
        let mut fixed = vec![
            ("/spec/group", "spec.group"),
            ("/spec/names/plural", "spec.names.plural"),
        ];
        if established {
            fixed.extend([("/spec/scope", "spec.scope"), ("/spec/names/kind", "spec.names.kind")]);
        }
        for (pointer, name) in fixed {
            errors.immutable(&Path::root(name), &new.pointer(pointer), &old.pointer(pointer));
        }
        let versions: Vec<&str> = list(new.pointer("/spec/versions"))
            .iter()
            .map(|version| text(version, "name"))
            .collect();
        for (at, stored) in list(old.pointer("/status/storedVersions")).iter().enumerate() {
            if !stored.as_str().is_some_and(|stored| versions.contains(&stored)) {
                let path = Path::root("status").child("storedVersions").index(at);
                errors.invalid(&path, stored.clone(), "must appear in spec.versions");
            }
        }
        errors.into_vec()
    }

    /// A version by its name.
    pub fn version(&self, name: &str) -> Option<&CustomVersion> {
        self.versions.iter().find(|version| version.name == name)
    }

    /// The version that objects are stored in.
    pub fn storage(&self) -> Option<&CustomVersion> {
        self.versions.iter().find(|version| version.storage)
    }
}

fn text<'v>(value: &'v Value, name: &str) -> &'v str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn flag(value: &Value, name: &str) -> bool {
    value.get(name).and_then(Value::as_bool).unwrap_or(false)
}

fn list(value: Option<&Value>) -> &[Value] {
    value.and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn texts(value: Option<&Value>) -> Vec<String> {
    list(value)
        .iter()
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect()
}

fn read(object: &Value, errors: &mut Errors) -> Definition {
    let spec = object.get("spec").unwrap_or(&Value::Null);
    let path = Path::root("spec");
    let group = text(spec, "group").to_owned();
    let group_path = path.child("group");
    errors.required_check(&group_path, &group, names::dns_subdomain);
    if !group.is_empty() && !group.contains('.') {
        errors.invalid(&group_path, group.clone(), "should be a domain with at least one dot");
    }
    let scope = text(spec, "scope");
    errors.required_one_of(&path.child("scope"), scope, &["Cluster", "Namespaced"]);
    let names = read_names(spec.get("names").unwrap_or(&Value::Null), &path.child("names"), errors);
    let name = object
        .pointer("/metadata/name")
        .and_then(Value::as_str)
        .unwrap_or_default();
    if name != format!("{}.{group}", names.plural) {
        errors.invalid(
            &Path::root("metadata").child("name"),
            name,
            "must be spec.names.plural+\".\"+spec.group",
        );
    }
    if flag(spec, "preserveUnknownFields") {
        errors.invalid(
            &path.child("preserveUnknownFields"),
            true,
            "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead",
        );
    }
    let conversion = spec
        .pointer("/conversion/strategy")
        .and_then(Value::as_str)
        .unwrap_or("None");
    errors.one_of(
        &path.child("conversion").child("strategy"),
        Some(conversion),
        &["None", "Webhook"],
    );
    if conversion == "Webhook" && spec.pointer("/conversion/webhook/clientConfig").is_none() {
        let path = path.child("conversion").child("webhookClientConfig");
        errors.required(&path, "required when strategy is set to Webhook");
    }
    let mut versions = read_versions(spec, &path.child("versions"), errors);
    for version in &mut versions {
        if version.deprecation.as_ref().is_some_and(String::is_empty) {
            version.deprecation = Some(format!("{group}/{} {} is deprecated", version.name, names.kind));
        }
    }
    Definition {
        group,
        namespaced: scope == "Namespaced",
        names,
        versions,
        conversion: conversion.to_owned(),
    }
}

fn read_names(spec: &Value, path: &Path, errors: &mut Errors) -> Names {
    let mut read = Names {
        plural: text(spec, "plural").to_owned(),
        singular: text(spec, "singular").to_owned(),
        kind: text(spec, "kind").to_owned(),
        list_kind: text(spec, "listKind").to_owned(),
        short_names: texts(spec.get("shortNames")),
        categories: texts(spec.get("categories")),
    };
    if read.singular.is_empty() {
        read.singular = read.kind.to_lowercase();
    }
    if read.list_kind.is_empty() && !read.kind.is_empty() {
        read.list_kind = format!("{}List", read.kind);
    }
    errors.required_check(&path.child("plural"), &read.plural, names::dns_1035_label);
    errors.required_check(&path.child("singular"), &read.singular, names::dns_1035_label);
    for (name, kind) in [("kind", &read.kind), ("listKind", &read.list_kind)] {
        let path = path.child(name);
        if kind.is_empty() {
            errors.required(&path, "");
        } else if let Err(detail) = names::dns_1035_label(&kind.to_lowercase()) {
            let detail = format!("may have mixed case, but should otherwise match: {detail}");
            errors.invalid(&path, kind.clone(), detail);
        }
    }
    if !read.kind.is_empty() && read.kind == read.list_kind {
        let detail = "kind and listKind may not be the same";
        errors.invalid(&path.child("listKind"), read.list_kind.clone(), detail);
    }
    for (name, words) in [("shortNames", &read.short_names), ("categories", &read.categories)] {
        for (path, word) in path.child(name).each(words) {
            errors.check(&path, word, names::dns_1035_label);
        }
    }
    read
}

fn read_versions(spec: &Value, path: &Path, errors: &mut Errors) -> Vec<CustomVersion> {
    let written = list(spec.get("versions"));
    if written.is_empty() {
        errors.required(path, "must have at least one version");
        return Vec::new();
    }
    let storages = written.iter().filter(|version| flag(version, "storage")).count();
    let mut seen: Vec<&str> = Vec::new();
    for (path, version) in path.each(written) {
        let name = text(version, "name");
        errors.check(&path.child("name"), name, names::dns_1035_label);
        if seen.contains(&name) {
            errors.invalid(&path, name, "must contain unique version names");
        }
        seen.push(name);
    }
    if storages != 1 {
        let all: Vec<Value> = seen.iter().map(|name| Value::from(*name)).collect();
        errors.invalid(path, all, "must have exactly one version marked as storage version");
    }
    // Upstream names a schema that all versions share by where it was before versions had their own.
    let shared = written
        .iter()
        .all(|version| version.get("schema") == written[0].get("schema"));
    let mut versions = Vec::with_capacity(written.len());
    let mut told = false;
    for (at, (version_path, version)) in path.each(written).enumerate() {
        let schema_path = if shared {
            Path::root("spec").child("validation").child("openAPIV3Schema")
        } else {
            version_path.child("schema").child("openAPIV3Schema")
        };
        let before = errors.count();
        let schema = version.pointer("/schema/openAPIV3Schema").unwrap_or(&Value::Null);
        let mut node = Node::default();
        let mut rules = Rules::default();
        if schema.is_null() {
            let path = version_path.child("schema").child("openAPIV3Schema");
            errors.required(&path, "schemas are required");
        } else if !(shared && at > 0 && told) {
            node = Node::parse(schema, &schema_path, errors);
            if errors.count() == before {
                structural::check(&node, &schema_path, errors);
                defaults(&node, "", &schema_path, errors);
            }
            if errors.count() == before {
                rules = Rules::compile(&node, &schema_path, errors);
            }
        }
        told |= errors.count() > before;
        versions.push(read_version(version, schema, (node, rules), &version_path, errors));
    }
    versions
}

fn read_version(
    version: &Value,
    schema: &Value,
    (node, rules): (Node, Rules),
    path: &Path,
    errors: &mut Errors,
) -> CustomVersion {
    let deprecated = flag(version, "deprecated");
    let warning = text(version, "deprecationWarning");
    if !warning.is_empty() && !deprecated {
        let path = path.child("deprecationWarning");
        errors.invalid(&path, warning, "can only be set for deprecated versions");
    }
    let subresources = version.get("subresources").unwrap_or(&Value::Null);
    let scale = subresources.get("scale").filter(|scale| !scale.is_null());
    let selectable = list(version.get("selectableFields")).iter().enumerate();
    let selectable = selectable.filter_map(|(at, field)| {
        let path = path.child("selectableFields").index(at).child("jsonPath");
        simple_path(text(field, "jsonPath"), &[".spec.", ".status.", "."], &path, errors)
    });
    let selectable = selectable.collect();
    let (types, ty) = types::types(&node);
    CustomVersion {
        name: text(version, "name").to_owned(),
        served: flag(version, "served"),
        storage: flag(version, "storage"),
        deprecation: deprecated.then(|| warning.to_owned()),
        types: Arc::new(types),
        ty,
        status: subresources.get("status").is_some_and(|status| !status.is_null()),
        scale: scale.and_then(|scale| read_scale(scale, &path.child("subresources").child("scale"), errors)),
        columns: read_columns(version, path, errors),
        selectable,
        schema: schema.clone(),
        node,
        rules,
    }
}

fn read_scale(scale: &Value, path: &Path, errors: &mut Errors) -> Option<Scale> {
    let mut read = |name: &str, under: &[&str]| simple_path(text(scale, name), under, &path.child(name), errors);
    let (spec, status) = (
        read("specReplicasPath", &[".spec."]),
        read("statusReplicasPath", &[".status."]),
    );
    let selector = match text(scale, "labelSelectorPath") {
        "" => None,
        _ => Some(read("labelSelectorPath", &[".status.", ".spec."])?),
    };
    Some(Scale {
        spec_replicas: spec?,
        status_replicas: status?,
        label_selector: selector,
    })
}

/// A path of fields only, that starts with one of these.
fn simple_path(written: &str, under: &[&str], path: &Path, errors: &mut Errors) -> Option<JsonPath> {
    if written.is_empty() {
        errors.required(path, "");
        return None;
    }
    let parsed = JsonPath::parse(written).and_then(|parsed| match parsed.fields() {
        Some(fields) if !fields.is_empty() => Ok(parsed),
        _ => Err("must be a json path in the dot notation".to_owned()),
    });
    match parsed {
        Ok(parsed) if under.iter().any(|under| written.starts_with(under)) => Some(parsed),
        Ok(_) => {
            let under: Vec<&str> = under.iter().map(|under| under.trim_end_matches('.')).collect();
            let under = under.join(" or ");
            errors.invalid(path, written, format!("should be a json path under {under}"));
            None
        }
        Err(detail) => {
            errors.invalid(path, written, detail);
            None
        }
    }
}

fn read_columns(version: &Value, path: &Path, errors: &mut Errors) -> Vec<Column> {
    let written = list(version.get("additionalPrinterColumns"));
    if written.is_empty() {
        let age = JsonPath::parse(".metadata.creationTimestamp").ok();
        let age = age.map(|path| Column {
            name: "Age".to_owned(),
            kind: "date".to_owned(),
            format: String::new(),
            description: "CreationTimestamp is a timestamp representing the server time when this object was created."
                .to_owned(),
            priority: 0,
            path,
        });
        return age.into_iter().collect();
    }
    let mut columns = Vec::with_capacity(written.len());
    for (path, column) in path.child("additionalPrinterColumns").each(written) {
        let name = text(column, "name");
        if name.is_empty() {
            errors.required(&path.child("name"), "");
        }
        let kind = text(column, "type");
        errors.required_one_of(
            &path.child("type"),
            kind,
            &["boolean", "date", "integer", "number", "string"],
        );
        let format = text(column, "format");
        if !format.is_empty() {
            let formats = [
                "int32",
                "int64",
                "float",
                "double",
                "byte",
                "date",
                "date-time",
                "password",
                "name",
            ];
            errors.one_of(&path.child("format"), Some(format), &formats);
        }
        let written = text(column, "jsonPath");
        let json_path = path.child("jsonPath");
        if written.is_empty() {
            errors.required(&json_path, "");
            continue;
        }
        match JsonPath::parse(written) {
            Ok(parsed) => columns.push(Column {
                name: name.to_owned(),
                kind: kind.to_owned(),
                format: format.to_owned(),
                description: text(column, "description").to_owned(),
                priority: column.get("priority").and_then(Value::as_i64).unwrap_or(0) as i32,
                path: parsed,
            }),
            Err(detail) => errors.invalid(&json_path, written, detail),
        }
    }
    columns
}

/// Every default is valid by its own schema, and has nothing that would be pruned.
fn defaults(node: &Node, at: &str, path: &Path, errors: &mut Errors) {
    if let Some(default) = &node.default {
        let path = path.child("default");
        if !fill::is_pruned(node, default) {
            errors.invalid(&path, default.clone(), "must be pruned");
        }
        let mut filled = default.clone();
        fill::default(node, &mut filled);
        for error in validate::validate_value(node, &filled, at) {
            errors.invalid(&path, default.clone(), error.to_string());
        }
    }
    let below = |name: &str| {
        if at.is_empty() {
            name.to_owned()
        } else {
            format!("{at}.{name}")
        }
    };
    for (name, property) in &node.properties {
        defaults(property, &below(name), &path.child("properties").key(name), errors);
    }
    if let Some(items) = &node.items {
        defaults(items, &format!("{at}[*]"), &path.child("items"), errors);
    }
    if let Some(additional) = node.additional_node() {
        defaults(additional, &below("*"), &path.child("additionalProperties"), errors);
    }
}
