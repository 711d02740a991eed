//! Whether an object's values are what its schema asks for, in upstream's words.
//!
//! What an update leaves as it was isn't held against it: a schema may become stricter without locking out objects
//! made before.

use std::collections::BTreeMap;

use bosun_api::field::{FieldError, Problem};
use serde_json::{Number, Value};

use super::{
    format,
    schema::{Kind, Node},
};
use crate::{
    fieldset::{Element, same},
    types::ListKind,
};

/// No more errors are told than these.
const MAX_ERRORS: usize = 100;

/// Checks a whole object against its schema; `old` is what it was before an update.
pub(super) fn validate(node: &Node, object: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let mut walk = Walk {
        errors: Vec::new(),
        path: String::new(),
    };
    walk.structure(node, object, old, true);
    walk.errors.truncate(MAX_ERRORS);
    walk.errors
}

/// Checks one value, such as a default, that will be at `path`.
pub(super) fn validate_value(node: &Node, value: &Value, path: &str) -> Vec<FieldError> {
    let mut walk = Walk {
        errors: Vec::new(),
        path: path.to_owned(),
    };
    walk.structure(node, value, None, false);
    walk.errors
}

struct Walk {
    errors: Vec<FieldError>,
    path: String,
}

/// The items of a list by what tells them apart, to find each item's old self.
pub(crate) fn items_by_key<'v>(list: &'v [Value], kind: &ListKind, items: &Node) -> BTreeMap<Element, &'v Value> {
    let mut by_key = BTreeMap::new();
    for item in list {
        if let Some(element) = key_of(item, kind, items) {
            by_key.entry(element).or_insert(item);
        }
    }
    by_key
}

/// What tells an item of such a list apart.
pub(crate) fn key_of(item: &Value, kind: &ListKind, items: &Node) -> Option<Element> {
    match kind {
        ListKind::Atomic => None,
        ListKind::Set => Some(Element::Value(item.clone())),
        ListKind::Map(keys) => {
            let values = keys.iter().map(|key| {
                let default = items
                    .properties
                    .get(&**key)
                    .and_then(|property| property.default.as_ref());
                let value = item.get(&**key).or(default).cloned().unwrap_or(Value::Null);
                (key.clone(), value)
            });
            Some(Element::Key(values.collect()))
        }
    }
}

impl Walk {
    fn push(&mut self, problem: Problem) {
        if self.errors.len() < MAX_ERRORS {
            let field = if self.path.is_empty() { "<nil>" } else { &self.path };
            self.errors.push(FieldError {
                field: field.to_owned(),
                problem,
            });
        }
    }

    /// `spec.replicas in body …`
    fn detail(&self, rest: &str) -> String {
        format!("{} in body {rest}", self.path)
    }

    fn invalid(&mut self, value: &Value, rest: &str) {
        let detail = self.detail(rest);
        self.push(Problem::Invalid(value.clone(), detail));
    }

    fn within<T>(&mut self, step: &str, visit: impl FnOnce(&mut Self) -> T) -> T {
        let length = self.path.len();
        if !self.path.is_empty() && !step.starts_with('[') {
            self.path.push('.');
        }
        self.path.push_str(step);
        let result = visit(self);
        self.path.truncate(length);
        result
    }

    /// The value with all below it, where structure is told.
    fn structure(&mut self, node: &Node, value: &Value, old: Option<&Value>, whole: bool) {
        let before = self.errors.len();
        if value.is_null() && node.nullable {
            return;
        }
        if self.type_fits(node, value) {
            self.checks(node, value);
            if node.embedded {
                self.embedded(value);
            }
            self.below(node, value, old, whole);
        }
        if self.errors.len() > before && old.is_some_and(|old| same(old, value)) {
            self.errors.truncate(before);
        }
    }

    fn below(&mut self, node: &Node, value: &Value, old: Option<&Value>, whole: bool) {
        match value {
            Value::Object(map) => {
                for (name, value) in map {
                    if whole && name == "metadata" {
                        continue;
                    }
                    let below = node.properties.get(name).or(node.additional_node());
                    if let Some(below) = below {
                        let old = old.and_then(|old| old.get(name));
                        self.within(name, |walk| walk.structure(below, value, old, false));
                    }
                }
            }
            Value::Array(list) => {
                let Some(items) = &node.items else {
                    return;
                };
                let kind = node.list.as_ref().unwrap_or(&ListKind::Atomic);
                self.doubles(list, kind, items);
                let olds = old.and_then(Value::as_array).map(|old| items_by_key(old, kind, items));
                for (at, item) in list.iter().enumerate() {
                    let old = olds
                        .as_ref()
                        .and_then(|olds| olds.get(&key_of(item, kind, items)?).copied());
                    self.within(&format!("[{at}]"), |walk| walk.structure(items, item, old, false));
                }
            }
            _ => {}
        }
    }

    fn doubles(&mut self, list: &[Value], kind: &ListKind, items: &Node) {
        let mut seen = std::collections::BTreeSet::new();
        for (at, item) in list.iter().enumerate() {
            let Some(key) = key_of(item, kind, items) else {
                return;
            };
            let shown = match &key {
                Element::Key(keys) => Value::Object(
                    keys.iter()
                        .filter(|(_, value)| !value.is_null())
                        .map(|(name, value)| (name.to_string(), value.clone()))
                        .collect(),
                ),
                _ => item.clone(),
            };
            if !seen.insert(key) {
                self.within(&format!("[{at}]"), |walk| {
                    walk.push(Problem::Duplicate(shown, String::new()));
                });
            }
        }
    }

    fn embedded(&mut self, value: &Value) {
        for name in ["apiVersion", "kind"] {
            if value.get(name).and_then(Value::as_str).is_none_or(str::is_empty) {
                self.within(name, |walk| {
                    walk.push(Problem::Required("must not be empty".to_owned()));
                });
            }
        }
    }

    fn type_fits(&mut self, node: &Node, value: &Value) -> bool {
        let fits = |kind: Kind| match kind {
            Kind::Object => value.is_object(),
            Kind::Array => value.is_array(),
            Kind::String => value.is_string(),
            Kind::Integer => is_whole(value),
            Kind::Number => value.is_number(),
            Kind::Boolean => value.is_boolean(),
        };
        let (fits, wanted) = if node.int_or_string {
            (fits(Kind::Integer) || fits(Kind::String), "integer,string")
        } else if let Some(kind) = node.kind {
            (fits(kind), kind.name())
        } else {
            return true;
        };
        if !fits {
            let found = type_name(value);
            let detail = self.detail(&format!("must be of type {wanted}: {found:?}"));
            self.push(Problem::TypeInvalid(found.into(), detail));
        }
        fits
    }

    /// What is asked of the value itself.
    fn checks(&mut self, node: &Node, value: &Value) {
        self.junctions(node, value);
        let checks = &node.checks;
        match value {
            Value::String(text) => {
                let length = text.chars().count() as u64;
                if let Some(most) = checks.max_length.filter(|most| length > *most) {
                    self.push(Problem::TooLong(most as usize));
                }
                if let Some(least) = checks.min_length.filter(|least| length < *least) {
                    self.invalid(value, &format!("should be at least {least} chars long"));
                }
                if let Some((pattern, _)) = checks.pattern.as_ref().filter(|(_, compiled)| !compiled.is_match(text)) {
                    self.invalid(value, &format!("should match '{pattern}'"));
                }
                if let Some(format) = checks.format.as_deref().filter(|format| !format::fits(format, text)) {
                    let detail = self.detail(&format!("must be of type {format}: {text:?}"));
                    self.push(Problem::TypeInvalid(value.clone(), detail));
                }
            }
            Value::Number(number) => self.number(node, value, number),
            Value::Array(list) => {
                let count = list.len() as u64;
                if let Some(most) = checks.max_items.filter(|most| count > *most) {
                    self.push(Problem::TooMany(list.len(), most as usize));
                }
                if let Some(least) = checks.min_items.filter(|least| count < *least) {
                    self.invalid(&Value::from(count), &format!("should have at least {least} items"));
                }
            }
            Value::Object(map) => {
                let count = map.len() as u64;
                if let Some(most) = checks.max_properties.filter(|most| count > *most) {
                    self.push(Problem::TooMany(map.len(), most as usize));
                }
                if let Some(least) = checks.min_properties.filter(|least| count < *least) {
                    self.invalid(&Value::from(count), &format!("should have at least {least} properties"));
                }
                for name in &checks.required {
                    if !map.contains_key(name) {
                        self.within(name, |walk| walk.push(Problem::Required(String::new())));
                    }
                }
            }
            Value::Null | Value::Bool(_) => {}
        }
        if let Some(one) = &checks.one
            && !one.iter().any(|allowed| same(allowed, value))
        {
            let all = one.iter().map(|allowed| match allowed {
                Value::String(text) => text.clone(),
                other => other.to_string(),
            });
            self.push(Problem::UnsupportedOf(value.clone(), all.collect()));
        }
    }

    fn number(&mut self, node: &Node, value: &Value, number: &Number) {
        let checks = &node.checks;
        let compare = |bound: &Number| compare(number, bound);
        if let Some((bound, excluded)) = &checks.maximum {
            let order = compare(bound);
            if *excluded && order.is_ge() {
                self.invalid(value, &format!("should be less than {bound}"));
            } else if order.is_gt() {
                self.invalid(value, &format!("should be less than or equal to {bound}"));
            }
        }
        if let Some((bound, excluded)) = &checks.minimum {
            let order = compare(bound);
            if *excluded && order.is_le() {
                self.invalid(value, &format!("should be greater than {bound}"));
            } else if order.is_lt() {
                self.invalid(value, &format!("should be greater than or equal to {bound}"));
            }
        }
        if let Some(of) = checks.multiple_of.as_ref().filter(|of| !is_multiple(number, of)) {
            self.invalid(value, &format!("should be a multiple of {of}"));
        }
        let fits = match (checks.format.as_deref(), number.as_i64()) {
            (Some("int32"), Some(number)) => i32::try_from(number).is_ok(),
            _ => true,
        };
        if !fits {
            self.invalid(value, "must be of type integer with format int32");
        }
    }

    fn junctions(&mut self, node: &Node, value: &Value) {
        let checks = &node.checks;
        let path = self.path.clone();
        let told = |walk: &mut Self, what: String| {
            walk.errors.push(FieldError {
                field: "<nil>".to_owned(),
                problem: Problem::Invalid("".into(), format!("{path:?} must {what}")),
            });
        };
        let tried: Vec<Vec<FieldError>> = checks.any_of.iter().map(|node| self.tried(node, value)).collect();
        if !tried.is_empty() && tried.iter().all(|errors| !errors.is_empty()) {
            told(self, "validate at least one schema (anyOf)".to_owned());
            self.errors.extend(closest(tried));
        }
        let tried: Vec<Vec<FieldError>> = checks.one_of.iter().map(|node| self.tried(node, value)).collect();
        let valid = tried.iter().filter(|errors| errors.is_empty()).count();
        if !tried.is_empty() && valid != 1 {
            let found = match valid {
                0 => "Found none valid".to_owned(),
                more => format!("Found {more} valid alternatives"),
            };
            told(self, format!("validate one and only one schema (oneOf). {found}"));
            if valid == 0 {
                self.errors.extend(closest(tried));
            }
        }
        let mut all = Vec::new();
        let mut failed = 0;
        for node in &checks.all_of {
            let errors = self.tried(node, value);
            failed += usize::from(!errors.is_empty());
            all.extend(errors);
        }
        if failed > 0 {
            let none = if failed == checks.all_of.len() {
                ". None validated"
            } else {
                ""
            };
            told(self, format!("validate all the schemas (allOf){none}"));
            self.errors.append(&mut all);
        }
        if let Some(not) = &checks.not
            && self.tried(not, value).is_empty()
        {
            told(self, "not validate the schema (not)".to_owned());
        }
    }

    /// What would be wrong with the value by a schema in a junction.
    fn tried(&self, node: &Node, value: &Value) -> Vec<FieldError> {
        let mut walk = Self {
            errors: Vec::new(),
            path: self.path.clone(),
        };
        if walk.type_fits(node, value) {
            walk.checks(node, value);
            walk.below(node, value, None, false);
        }
        walk.errors
    }
}

/// The errors of the alternative that is nearest to fit.
fn closest(tried: Vec<Vec<FieldError>>) -> Vec<FieldError> {
    tried.into_iter().min_by_key(Vec::len).unwrap_or_default()
}

fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) if is_whole(value) => "integer",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn is_whole(value: &Value) -> bool {
    match value {
        Value::Number(number) if number.is_f64() => number.as_f64().is_some_and(|float| float.fract() == 0.0),
        Value::Number(_) => true,
        _ => false,
    }
}

fn compare(a: &Number, b: &Number) -> std::cmp::Ordering {
    Element::Value(a.clone().into()).cmp(&Element::Value(b.clone().into()))
}

fn is_multiple(number: &Number, of: &Number) -> bool {
    match (number.as_i64(), of.as_i64()) {
        (_, Some(0)) => true,
        (Some(number), Some(of)) => number.checked_rem(of).is_none_or(|rest| rest == 0),
        _ => {
            let ratio = number.as_f64().unwrap_or(f64::NAN) / of.as_f64().unwrap_or(f64::NAN);
            // Decimal fractions are not exact: 0.3 / 0.1.
            (ratio - ratio.round()).abs() < 1e-9
        }
    }
}
