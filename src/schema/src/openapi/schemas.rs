//! Types as schemas, with upstream's extensions.

use std::collections::{BTreeSet, HashMap};

use serde_json::{Map, Value, json};

use crate::facts::{FieldFacts, PREFIX, TypeExpr, TypeFacts, Upstream, upstream};

use super::{
    CustomResource, Dialect,
    descriptions::Descriptions,
    json::Json,
    operations::{Answer, Body, Operation},
};

const OBJECT_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";
const LIST_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta";
const API_VERSION: &str = "the version of this object's schema: group and version";
const KIND: &str = "the kind of this object, in the singular";

/// The schemas of one document: those that its operations mention, and what these refer to.
pub(super) struct Schemas<'a> {
    facts: HashMap<&'static str, &'a TypeFacts>,
    descriptions: &'a Descriptions,
    custom: &'a [CustomResource<'a>],
    dialect: Dialect,
    defaults: HashMap<(&'static str, &'static str), Value>,
    wanted: BTreeSet<String>,
}

/// The schema of a body, if there is one.
pub(super) fn body(body: &Body) -> Option<String> {
    match body {
        Body::Nothing => None,
        Body::Object(schema) => Some(schema.clone()),
        Body::Patch => Some("io.k8s.apimachinery.pkg.apis.meta.v1.Patch".to_owned()),
        Body::Options => Some("io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions".to_owned()),
    }
}

/// Members of an object that refer to a schema.
pub(super) fn reference(json: &mut Json, dialect: Dialect, name: &str) {
    let at = match dialect {
        Dialect::V2 => "#/definitions/",
        Dialect::V3 => "#/components/schemas/",
    };
    json.key("$ref").string(&format!("{at}{name}"));
}

impl<'a> Schemas<'a> {
    pub(super) fn new(
        facts: &'a [TypeFacts],
        descriptions: &'a Descriptions,
        custom: &'a [CustomResource<'a>],
        dialect: Dialect,
    ) -> Self {
        let defaults = upstream().filter_map(|fact| match fact {
            Upstream::Default { ty, field, value } => Some(((ty, field), value)),
            _ => None,
        });
        Self {
            facts: facts.iter().map(|ty| (ty.name, ty)).collect(),
            descriptions,
            custom,
            dialect,
            defaults: defaults.collect(),
            wanted: BTreeSet::new(),
        }
    }

    /// Wants the schemas that an operation sends and answers.
    pub(super) fn mention(&mut self, operation: &Operation) {
        if let Some(schema) = body(&operation.body) {
            self.want(&schema);
        }
        if let Answer::Object(schema) = &operation.answer {
            self.want(schema);
        }
    }

    /// Wants every built-in type.
    pub(super) fn mention_all(&mut self) {
        let shown = self.facts.values().filter(|ty| !ty.hidden);
        let names: Vec<_> = shown.map(|ty| format!("{PREFIX}{}", ty.name)).collect();
        self.wanted.extend(names);
    }

    fn want(&mut self, name: &str) {
        if !self.wanted.insert(name.to_owned()) {
            return;
        }
        if let Some(ty) = name.strip_prefix(PREFIX).and_then(|name| self.facts.get(name).copied()) {
            for field in &ty.fields {
                if let Some(name) = named(&field.ty) {
                    self.want(&format!("{PREFIX}{name}"));
                }
            }
        } else if let Some(custom) = self.custom.iter().find(|custom| custom.list_schema_name() == name) {
            self.want(LIST_META);
            self.want(&custom.schema_name());
        } else {
            self.want(OBJECT_META);
        }
    }

    /// Every schema that is wanted, by its name.
    pub(super) fn write(&self, json: &mut Json) {
        for name in &self.wanted {
            if let Some(ty) = name.strip_prefix(PREFIX).and_then(|name| self.facts.get(name)) {
                json.key(name).object(|json| self.ty(json, name, ty));
            } else if let Some(custom) = self.custom.iter().find(|custom| custom.schema_name() == *name) {
                json.key(name).value(&custom_schema(custom, self.dialect));
            } else if let Some(custom) = self.custom.iter().find(|custom| custom.list_schema_name() == *name) {
                json.key(name).object(|json| self.custom_list(json, custom));
            }
        }
    }

    fn ty(&self, json: &mut Json, name: &str, ty: &TypeFacts) {
        if let Some(description) = self.descriptions.of_type(name) {
            json.key("description").raw(description);
        }
        match (ty.form, self.dialect) {
            (None, _) => {
                json.key("type").string("object");
                if !ty.fields.is_empty() {
                    json.key("properties").object(|json| {
                        for field in &ty.fields {
                            json.key(field.name).object(|json| self.field(json, name, ty, field));
                        }
                    });
                }
                let required: Vec<_> = ty
                    .fields
                    .iter()
                    .filter(|field| field.required)
                    .map(|field| field.name)
                    .collect();
                if !required.is_empty() {
                    json.key("required").strings(required);
                }
            }
            (Some("quantity"), Dialect::V2) => json.key("type").string("string"),
            (Some("quantity"), Dialect::V3) => json.key("oneOf").raw(r#"[{"type":"string"},{"type":"number"}]"#),
            (Some("intorstring"), dialect) => {
                json.key("format").string("int-or-string");
                match dialect {
                    Dialect::V2 => json.key("type").string("string"),
                    Dialect::V3 => json.key("oneOf").raw(r#"[{"type":"integer"},{"type":"string"}]"#),
                }
            }
            (Some("time" | "microtime"), _) => {
                json.key("format").string("date-time");
                json.key("type").string("string");
            }
            (Some("raw" | "fields" | "patch"), _) => json.key("type").string("object"),
            // Of several forms: nothing more can be said.
            (Some(_), _) => {}
        }
        if ty.atomic {
            json.key("x-kubernetes-map-type").string("atomic");
        }
        if !ty.kinds.is_empty() {
            json.key("x-kubernetes-group-version-kind").array(|json| {
                for kind in &ty.kinds {
                    group_version_kind(json, kind.group, kind.version, kind.kind);
                }
            });
        }
        if !ty.unions.is_empty() {
            json.key("x-kubernetes-unions").array(|json| {
                for union in &ty.unions {
                    json.object(|json| {
                        if let Some(discriminator) = union.discriminator {
                            json.key("discriminator").string(discriminator);
                        }
                        json.key("fields-to-discriminateBy").object(|json| {
                            for (field, value) in &union.fields {
                                json.key(field).string(value);
                            }
                        });
                    });
                }
            });
        }
    }

    fn field(&self, json: &mut Json, name: &str, ty: &TypeFacts, field: &FieldFacts) {
        if let Some(description) = self.descriptions.of_field(name, field.name) {
            json.key("description").raw(description);
        } else if field.name == "apiVersion" {
            json.key("description").string(API_VERSION);
        } else if field.name == "kind" {
            json.key("description").string(KIND);
        }
        match (&field.ty, self.dialect) {
            // In version 3 nothing beside a reference counts.
            (TypeExpr::Named(_), Dialect::V3) => {
                json.key("allOf")
                    .array(|json| json.object(|json| self.expr(json, &field.ty)));
            }
            (ty, _) => self.expr(json, ty),
        }
        if let Some(default) = self
            .defaults
            .get(&(ty.name, field.name))
            .filter(|_| self.dialect == Dialect::V3)
        {
            json.key("default").value(default);
        }
        if let Some(list) = field.list {
            json.key("x-kubernetes-list-type").string(list);
        }
        if !field.keys.is_empty() {
            json.key("x-kubernetes-list-map-keys")
                .strings(field.keys.iter().copied());
        }
        if let Some(map) = field.map {
            json.key("x-kubernetes-map-type").string(map);
        }
        if let Some(strategy) = field.strategy {
            json.key("x-kubernetes-patch-strategy").string(strategy);
        }
        if let Some(key) = field.merge_key {
            json.key("x-kubernetes-patch-merge-key").string(key);
        }
    }

    fn expr(&self, json: &mut Json, ty: &TypeExpr) {
        let mut plain = |ty: &str, format: Option<&str>| {
            if let Some(format) = format {
                json.key("format").string(format);
            }
            json.key("type").string(ty);
        };
        match ty {
            TypeExpr::Bool => plain("boolean", None),
            TypeExpr::Int32 => plain("integer", Some("int32")),
            TypeExpr::Int64 => plain("integer", Some("int64")),
            TypeExpr::Double => plain("number", Some("double")),
            TypeExpr::String => plain("string", None),
            TypeExpr::Bytes => plain("string", Some("byte")),
            TypeExpr::Named(name) => reference(json, self.dialect, &format!("{PREFIX}{name}")),
            TypeExpr::List { items, .. } => {
                json.key("items").object(|json| self.expr(json, items));
                json.key("type").string("array");
            }
            TypeExpr::Map(values) => {
                json.key("additionalProperties").object(|json| self.expr(json, values));
                json.key("type").string("object");
            }
        }
    }

    fn custom_list(&self, json: &mut Json, custom: &CustomResource<'_>) {
        let dialect = self.dialect;
        json.key("description")
            .string(&format!("{} is a list of {}", custom.list_kind, custom.kind));
        json.key("type").string("object");
        json.key("required").strings(["items"]);
        json.key("properties").object(|json| {
            json.key("apiVersion")
                .value(&json!({"type": "string", "description": API_VERSION}));
            json.key("kind").value(&json!({"type": "string", "description": KIND}));
            json.key("metadata").object(|json| reference(json, dialect, LIST_META));
            json.key("items").object(|json| {
                json.key("items")
                    .object(|json| reference(json, dialect, &custom.schema_name()));
                json.key("type").string("array");
            });
        });
        json.key("x-kubernetes-group-version-kind")
            .array(|json| group_version_kind(json, custom.group, custom.version, custom.list_kind));
    }
}

fn group_version_kind(json: &mut Json, group: &str, version: &str, kind: &str) {
    json.object(|json| {
        json.key("group").string(group);
        json.key("kind").string(kind);
        json.key("version").string(version);
    });
}

/// The named type that a field's type is made of.
fn named(ty: &TypeExpr) -> Option<&'static str> {
    match ty {
        TypeExpr::Named(name) => Some(name),
        TypeExpr::List { items: inner, .. } | TypeExpr::Map(inner) => named(inner),
        _ => None,
    }
}

/// A custom resource's schema, with what every object has, in words that the dialect knows.
fn custom_schema(custom: &CustomResource<'_>, dialect: Dialect) -> Value {
    let mut schema = match custom.schema {
        Some(Value::Object(schema)) => schema.clone(),
        _ => Map::from_iter([
            ("type".to_owned(), "object".into()),
            ("x-kubernetes-preserve-unknown-fields".to_owned(), true.into()),
        ]),
    };
    if dialect == Dialect::V2 {
        for value in schema.values_mut() {
            to_version_2(value);
        }
        for word in KNOWN_TO_3_ONLY {
            schema.shift_remove(word);
        }
    }
    let at = match dialect {
        Dialect::V2 => "#/definitions/",
        Dialect::V3 => "#/components/schemas/",
    };
    let metadata = format!("{at}{OBJECT_META}");
    let properties = schema.entry("properties").or_insert_with(|| json!({}));
    if let Value::Object(properties) = properties {
        properties.insert(
            "apiVersion".to_owned(),
            json!({"type": "string", "description": API_VERSION}),
        );
        properties.insert("kind".to_owned(), json!({"type": "string", "description": KIND}));
        let metadata = match dialect {
            Dialect::V2 => json!({"$ref": metadata}),
            Dialect::V3 => json!({"allOf": [{"$ref": metadata}]}),
        };
        properties.insert("metadata".to_owned(), metadata);
    }
    let kind = json!([{"group": custom.group, "version": custom.version, "kind": custom.kind}]);
    schema.insert("x-kubernetes-group-version-kind".to_owned(), kind);
    Value::Object(schema)
}

/// Words of schemas that version 2 lacks. Upstream leaves defaults out there, too.
const KNOWN_TO_3_ONLY: [&str; 7] = [
    "nullable",
    "oneOf",
    "anyOf",
    "not",
    "allOf",
    "default",
    "x-kubernetes-validations",
];

/// Takes out of a schema, within `properties`, `items` and `additionalProperties`, what version 2 can't say.
fn to_version_2(value: &mut Value) {
    match value {
        Value::Array(list) => list.iter_mut().for_each(to_version_2),
        Value::Object(map) => {
            // A map whose values are all schemas is `properties`, where these words are names of fields.
            let is_schema = !map.is_empty() && !map.values().all(Value::is_object);
            if is_schema {
                for word in KNOWN_TO_3_ONLY {
                    map.shift_remove(word);
                }
            }
            map.values_mut().for_each(to_version_2);
        }
        _ => {}
    }
}
