//! A custom resource's schema (`JSONSchemaProps` of apiextensions v1) as a tree.

use std::collections::BTreeMap;

use bosun_api::field::{Errors, Path};
use regex::Regex;
use serde_json::{Map, Number, Value};

use super::pattern::Patterns;
use crate::types::ListKind;

/// No schema is deeper: what walks one, or a value along one, recurses as deep.
pub(crate) const MAX_DEPTH: usize = 64;

/// What sort of JSON a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Object,
    Array,
    String,
    Integer,
    Number,
    Boolean,
}

impl Kind {
    fn of(name: &str) -> Option<Self> {
        Some(match name {
            "object" => Self::Object,
            "array" => Self::Array,
            "string" => Self::String,
            "integer" => Self::Integer,
            "number" => Self::Number,
            "boolean" => Self::Boolean,
            _ => return None,
        })
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Object => "object",
            Self::Array => "array",
            Self::String => "string",
            Self::Integer => "integer",
            Self::Number => "number",
            Self::Boolean => "boolean",
        }
    }
}

/// What an object may have beside its `properties`.
#[derive(Debug)]
pub(crate) enum Additional {
    /// Anything, or nothing.
    Any(bool),
    /// Values of one schema.
    Of(Box<Node>),
}

/// One schema.
#[derive(Debug, Default)]
pub(crate) struct Node {
    pub(crate) kind: Option<Kind>,
    pub(crate) nullable: bool,
    pub(crate) preserve: bool,
    pub(crate) embedded: bool,
    pub(crate) int_or_string: bool,
    pub(crate) list: Option<ListKind>,
    /// `x-kubernetes-map-type: atomic`
    pub(crate) atomic: bool,
    pub(crate) default: Option<Value>,
    pub(crate) properties: BTreeMap<String, Node>,
    pub(crate) additional: Option<Additional>,
    pub(crate) items: Option<Box<Node>>,
    pub(crate) checks: Checks,
    /// `x-kubernetes-validations`, as written.
    pub(crate) rules: Vec<Value>,
    /// What else is said, by name; what may not be is refused.
    pub(crate) said: Map<String, Value>,
}

/// What a value must be beyond its structure.
#[derive(Debug, Default)]
pub(crate) struct Checks {
    pub(crate) format: Option<String>,
    /// As written, and compiled.
    pub(crate) pattern: Option<(String, Regex)>,
    pub(crate) minimum: Option<(Number, bool)>,
    pub(crate) maximum: Option<(Number, bool)>,
    pub(crate) multiple_of: Option<Number>,
    pub(crate) min_length: Option<u64>,
    pub(crate) max_length: Option<u64>,
    pub(crate) min_items: Option<u64>,
    pub(crate) max_items: Option<u64>,
    pub(crate) min_properties: Option<u64>,
    pub(crate) max_properties: Option<u64>,
    pub(crate) one: Option<Vec<Value>>,
    pub(crate) required: Vec<String>,
    pub(crate) all_of: Vec<Node>,
    pub(crate) any_of: Vec<Node>,
    pub(crate) one_of: Vec<Node>,
    pub(crate) not: Option<Box<Node>>,
}

impl Node {
    /// Reads a schema; what it can't be is noted.
    pub(crate) fn parse(schema: &Value, path: &Path, errors: &mut Errors) -> Self {
        let reader = &mut Reader {
            errors,
            patterns: Patterns::default(),
            depth: 0,
        };
        reader.node(schema, path)
    }

    /// Whether a field of this name is kept though the schema doesn't name it.
    pub(crate) fn additional_node(&self) -> Option<&Self> {
        match &self.additional {
            Some(Additional::Of(node)) => Some(node),
            _ => None,
        }
    }

    /// Whether there is a rule here or below.
    pub(crate) fn has_rules(&self) -> bool {
        !self.rules.is_empty() || self.children().any(Self::has_rules)
    }

    fn children(&self) -> impl Iterator<Item = &Self> {
        self.properties
            .values()
            .chain(self.additional_node())
            .chain(self.items.as_deref())
    }
}

struct Reader<'e> {
    errors: &'e mut Errors,
    patterns: Patterns,
    depth: usize,
}

impl Reader<'_> {
    fn node(&mut self, schema: &Value, path: &Path) -> Node {
        let mut node = Node::default();
        let Some(map) = schema.as_object() else {
            self.errors.invalid(path, schema.clone(), "must be an object");
            return node;
        };
        if self.depth >= MAX_DEPTH {
            self.errors
                .forbidden(path, format!("must not be nested deeper than {MAX_DEPTH}"));
            return node;
        }
        self.depth += 1;
        for (name, value) in map {
            self.field(&mut node, name, value, &path.child(name));
        }
        self.depth -= 1;
        node.said = map
            .iter()
            .filter(|(name, _)| SAID.contains(&name.as_str()))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        let exclusive = |name: &str| map.get(name).and_then(Value::as_bool).unwrap_or(false);
        for (bound, name) in [
            (&mut node.checks.minimum, "exclusiveMinimum"),
            (&mut node.checks.maximum, "exclusiveMaximum"),
        ] {
            if let Some((_, excluded)) = bound {
                *excluded = exclusive(name);
            }
        }
        if let (Some(ListKind::Map(keys)), Some(Value::Array(names))) =
            (&mut node.list, map.get("x-kubernetes-list-map-keys"))
        {
            *keys = names.iter().filter_map(Value::as_str).map(Into::into).collect();
        }
        node
    }

    fn field(&mut self, node: &mut Node, name: &str, value: &Value, path: &Path) {
        if value.is_null() {
            return;
        }
        let checks = &mut node.checks;
        match name {
            "type" => {
                node.kind = value.as_str().and_then(Kind::of);
                match value.as_str() {
                    Some("null") => self
                        .errors
                        .forbidden(path, "type cannot be set to null, use nullable as an alternative"),
                    Some("") => {}
                    _ if node.kind.is_none() => self.errors.unsupported(
                        path,
                        value.clone(),
                        &["array", "boolean", "integer", "number", "object", "string"],
                    ),
                    _ => {}
                }
            }
            "nullable" => node.nullable = self.flag(value, path),
            "x-kubernetes-preserve-unknown-fields" => {
                node.preserve = self.flag(value, path);
                if !node.preserve {
                    self.errors.invalid(path, value.clone(), "must be true or undefined");
                }
            }
            "x-kubernetes-embedded-resource" => node.embedded = self.flag(value, path),
            "x-kubernetes-int-or-string" => node.int_or_string = self.flag(value, path),
            "x-kubernetes-list-type" => {
                node.list = match value.as_str() {
                    Some("atomic") => Some(ListKind::Atomic),
                    Some("set") => Some(ListKind::Set),
                    Some("map") => Some(ListKind::Map(Vec::new())),
                    _ => {
                        self.errors.unsupported(path, value.clone(), &["atomic", "map", "set"]);
                        None
                    }
                }
            }
            "x-kubernetes-map-type" => match value.as_str() {
                Some("atomic") => node.atomic = true,
                Some("granular") => {}
                _ => self.errors.unsupported(path, value.clone(), &["atomic", "granular"]),
            },
            "x-kubernetes-validations" => node.rules = self.list(value, path).to_vec(),
            "default" => node.default = Some(value.clone()),
            "properties" => match value {
                Value::Object(properties) => {
                    for (name, schema) in properties {
                        node.properties.insert(name.clone(), self.node(schema, &path.key(name)));
                    }
                }
                _ => self.errors.invalid(path, value.clone(), "must be an object"),
            },
            "additionalProperties" => {
                node.additional = Some(match value {
                    Value::Bool(any) => Additional::Any(*any),
                    schema => Additional::Of(Box::new(self.node(schema, path))),
                });
            }
            "items" if value.is_array() => self
                .errors
                .forbidden(path, "items must be a schema object and not an array"),
            "items" => node.items = Some(Box::new(self.node(value, path))),
            "allOf" => checks.all_of = self.nodes(value, path),
            "anyOf" => checks.any_of = self.nodes(value, path),
            "oneOf" => checks.one_of = self.nodes(value, path),
            "not" => checks.not = Some(Box::new(self.node(value, path))),
            "format" => checks.format = value.as_str().map(str::to_owned),
            "pattern" => {
                let pattern = value.as_str().unwrap_or_default();
                match self.patterns.compile(pattern) {
                    Ok(compiled) => checks.pattern = Some((pattern.to_owned(), compiled)),
                    Err(error) => self.errors.invalid(
                        path,
                        pattern,
                        format!("must be a valid regular expression, but isn't: {error}"),
                    ),
                }
            }
            "minimum" => checks.minimum = self.number(value, path).map(|bound| (bound, false)),
            "maximum" => checks.maximum = self.number(value, path).map(|bound| (bound, false)),
            "multipleOf" => checks.multiple_of = self.number(value, path),
            "minLength" => checks.min_length = self.count(value, path),
            "maxLength" => checks.max_length = self.count(value, path),
            "minItems" => checks.min_items = self.count(value, path),
            "maxItems" => checks.max_items = self.count(value, path),
            "minProperties" => checks.min_properties = self.count(value, path),
            "maxProperties" => checks.max_properties = self.count(value, path),
            "enum" => checks.one = Some(self.list(value, path).to_vec()),
            "required" => {
                let names = self.list(value, path).iter();
                checks.required = names.filter_map(Value::as_str).map(str::to_owned).collect();
            }
            "uniqueItems" if value == &Value::Bool(true) => self.errors.forbidden(
                path,
                "uniqueItems cannot be set to true since the runtime complexity becomes quadratic",
            ),
            "id" | "additionalItems" | "patternProperties" | "definitions" | "dependencies" | "$ref" => {
                self.errors.forbidden(path, format!("{name} is not supported"));
            }
            _ => {}
        }
    }

    fn nodes(&mut self, value: &Value, path: &Path) -> Vec<Node> {
        let schemas = self.list(value, path).iter().enumerate();
        schemas.map(|(at, schema)| self.node(schema, &path.index(at))).collect()
    }

    fn list<'v>(&mut self, value: &'v Value, path: &Path) -> &'v [Value] {
        value.as_array().map_or_else(
            || {
                self.errors.invalid(path, value.clone(), "must be an array");
                &[][..]
            },
            Vec::as_slice,
        )
    }

    fn flag(&mut self, value: &Value, path: &Path) -> bool {
        value.as_bool().unwrap_or_else(|| {
            self.errors.invalid(path, value.clone(), "must be a boolean");
            false
        })
    }

    fn number(&mut self, value: &Value, path: &Path) -> Option<Number> {
        let number = value.as_number().cloned();
        if number.is_none() {
            self.errors.invalid(path, value.clone(), "must be a number");
        }
        number
    }

    fn count(&mut self, value: &Value, path: &Path) -> Option<u64> {
        let count = value.as_u64();
        if count.is_none() {
            self.errors
                .invalid(path, value.clone(), "must be greater than or equal to 0");
        }
        count
    }
}

/// What a structural check has to know was said.
pub(crate) const SAID: [&str; 12] = [
    "type",
    "title",
    "description",
    "default",
    "nullable",
    "externalDocs",
    "example",
    "x-kubernetes-list-type",
    "x-kubernetes-list-map-keys",
    "x-kubernetes-map-type",
    "x-kubernetes-embedded-resource",
    "additionalProperties",
];
