//! Checks a decoded object against its type, and makes it canonical.
//!
//! What upstream's decoder does while it fills a Go struct, [`check`] does to a tree: values of the wrong type are
//! errors in the same words, unknown fields are dropped and reported, null means absent, quantities, times and base64
//! take their canonical form. What a custom resource's schema asks for beyond that (patterns, bounds, defaults) is
//! elsewhere.

use std::fmt;

use base64::{Engine, alphabet, engine::GeneralPurpose, engine::general_purpose};
use bosun_api::Quantity;
use serde_json::{Map, Value};

use crate::{
    time,
    types::{Shape, Type, TypeId, Types},
};

/// How many unknown fields are reported; the rest is dropped unnamed, as upstream does.
pub const MAX_REPORTED: usize = 100;

/// Standard base64 as Go reads it, which doesn't mind set bits behind the last byte.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    general_purpose::GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true),
);

/// Why a value can't be of a type, in upstream's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TypeError {
    /// Another sort of JSON value is wanted.
    #[error("json: cannot unmarshal {found} into Go {place} of type {wanted}")]
    Mismatch {
        /// What was found: `string`, `number`, `number 1.5`, `object`, `array`, `bool`.
        found: String,
        /// `value`, or `struct field Container.spec.containers.image`.
        place: String,
        /// What upstream calls the type, such as `int32` or `[]v1.Container`.
        wanted: String,
    },
    /// Not a quantity.
    #[error("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")]
    Quantity,
    /// Not a time.
    #[error("parsing time {text:?} as \"2006-01-02T15:04:05Z07:00\": cannot parse {text:?} as RFC 3339")]
    Time {
        /// What was found, up to 64 characters of it.
        text: String,
    },
    /// Not base64.
    #[error("illegal base64 data at input byte {at}")]
    Base64 {
        /// Bytes before the first wrong one.
        at: usize,
    },
}

/// What upstream says of unknown and duplicate fields when asked to be strict, each being such as
/// `unknown field "spec.foo"`.
pub fn strict_error(mistakes: &[String]) -> String {
    format!("strict decoding error: {}", mistakes.join(", "))
}

/// Makes `value` one of type `ty`: drops unknown fields and returns what strict users are told of them
/// (`unknown field "spec.foo"`, at most [`MAX_REPORTED`]), drops nulls, writes quantities, times and bytes in their
/// canonical form.
///
/// Recursion is as deep as the value, which decoders bound.
///
/// # Errors
/// The first value that can't be of its type.
pub fn check(types: &Types, ty: TypeId, value: &mut Value) -> Result<Vec<String>, TypeError> {
    let mut check = Check {
        types,
        unknown: Vec::new(),
    };
    check.value(
        ty,
        value,
        &Path {
            parent: None,
            segment: Segment::Root,
            owner: None,
        },
    )?;
    Ok(check.unknown)
}

/// Paths of required fields that are missing, such as `spec.ports[0].port`; at most [`MAX_REPORTED`].
pub fn missing(types: &Types, ty: TypeId, value: &Value) -> Vec<String> {
    let mut found = Vec::new();
    find_missing(
        types,
        ty,
        value,
        &Path {
            parent: None,
            segment: Segment::Root,
            owner: None,
        },
        &mut found,
    );
    found
}

struct Check<'a> {
    types: &'a Types,
    unknown: Vec<String>,
}

/// Where in an object; on the stack, so that it costs nothing while all is well.
struct Path<'a> {
    parent: Option<&'a Path<'a>>,
    segment: Segment<'a>,
    /// The type whose field this is.
    owner: Option<&'a Type>,
}

enum Segment<'a> {
    Root,
    Field(&'a str),
    Key(&'a str),
    Index(usize),
}

impl Path<'_> {
    /// The innermost type that has a name and whose field this is in, and the fields that lead here without keys and
    /// indexes: what Go's decoder remembers.
    fn place(&self) -> String {
        let mut fields = Vec::new();
        let mut owner = None;
        let mut at = Some(self);
        while let Some(path) = at {
            if let Segment::Field(name) = path.segment {
                fields.push(name);
            }
            owner = owner.or(path.owner);
            at = path.parent;
        }
        let Some(owner) = owner.and_then(|ty| ty.name.as_deref()) else {
            return "value".to_owned();
        };
        fields.reverse();
        format!(
            "struct field {}.{}",
            owner.rsplit('.').next().unwrap_or(owner),
            fields.join(".")
        )
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(parent) = self.parent {
            parent.fmt(f)?;
        }
        let dot = if self.parent.is_some_and(|parent| parent.parent.is_some()) {
            "."
        } else {
            ""
        };
        match self.segment {
            Segment::Root => Ok(()),
            Segment::Field(name) | Segment::Key(name) => write!(f, "{dot}{name}"),
            Segment::Index(index) => write!(f, "[{index}]"),
        }
    }
}

impl Check<'_> {
    fn value(&mut self, ty: TypeId, value: &mut Value, path: &Path<'_>) -> Result<(), TypeError> {
        let types = self.types;
        let declared = types.get(ty);
        let mismatch = |value: &Value| TypeError::Mismatch {
            found: found(value).to_owned(),
            place: path.place(),
            wanted: go_type(types, ty),
        };
        match (&declared.shape, &mut *value) {
            (Shape::Any, _)
            | (Shape::Boolean, Value::Bool(_))
            | (Shape::String | Shape::IntOrString, Value::String(_))
            | (Shape::Number, Value::Number(_)) => {}
            (_, Value::Null) if declared.nullable => {}
            // Within lists and maps, where null can't mean absent, it means what is there before anything is read.
            (_, Value::Null) => *value = zero(&declared.shape),
            (Shape::Integer { wide }, Value::Number(number)) => {
                let fits = number
                    .as_i64()
                    .is_some_and(|number| *wide || i32::try_from(number).is_ok());
                if !fits {
                    return Err(TypeError::Mismatch {
                        found: format!("number {number}"),
                        place: path.place(),
                        wanted: go_type(types, ty),
                    });
                }
            }
            (Shape::IntOrString, Value::Number(number)) => {
                if number.as_i64().is_none_or(|number| i32::try_from(number).is_err()) {
                    return Err(TypeError::Mismatch {
                        found: format!("number {number}"),
                        place: "value".to_owned(),
                        wanted: "int32".to_owned(),
                    });
                }
            }
            (Shape::IntOrString, other) => {
                return Err(TypeError::Mismatch {
                    found: found(other).to_owned(),
                    place: "value".to_owned(),
                    wanted: "int32".to_owned(),
                });
            }
            (Shape::Quantity, Value::String(text)) => {
                let canonical = quantity(text)?;
                if *text != canonical {
                    *text = canonical;
                }
            }
            (Shape::Quantity, Value::Number(number)) => *value = Value::String(quantity(&number.to_string())?),
            (Shape::Quantity, _) => return Err(TypeError::Quantity),
            (Shape::Bytes, Value::String(text)) => {
                if let Some(canonical) = canonical_base64(text)? {
                    *text = canonical;
                }
            }
            (Shape::Time { micro }, Value::String(text)) => {
                let wrong = || TypeError::Time {
                    text: text.chars().take(64).collect(),
                };
                let at = time::parse(text).ok_or_else(wrong)?;
                let canonical = if *micro { time::micros(at) } else { time::seconds(at) };
                if *text != canonical {
                    *text = canonical;
                }
            }
            (Shape::Object { open, .. }, Value::Object(map)) => self.object(declared, *open, map, path)?,
            (Shape::Map { values, .. }, Value::Object(map)) => {
                for (key, value) in map.iter_mut() {
                    self.value(
                        *values,
                        value,
                        &Path {
                            parent: Some(path),
                            segment: Segment::Key(key),
                            owner: None,
                        },
                    )?;
                }
            }
            (Shape::List { items, .. }, Value::Array(list)) => {
                for (index, value) in list.iter_mut().enumerate() {
                    let segment = Segment::Index(index);
                    self.value(
                        *items,
                        value,
                        &Path {
                            parent: Some(path),
                            segment,
                            owner: None,
                        },
                    )?;
                }
            }
            (_, other) => return Err(mismatch(other)),
        }
        Ok(())
    }

    fn object(
        &mut self,
        ty: &Type,
        open: bool,
        map: &mut Map<String, Value>,
        path: &Path<'_>,
    ) -> Result<(), TypeError> {
        let mut outcome = Ok(());
        map.retain(|name, value| {
            if outcome.is_err() {
                return true;
            }
            let at = Path {
                parent: Some(path),
                segment: Segment::Field(name),
                owner: Some(ty),
            };
            let Some(field) = ty.field(name) else {
                if !open && self.unknown.len() < MAX_REPORTED {
                    self.unknown.push(format!("unknown field \"{at}\""));
                }
                return open;
            };
            if value.is_null() && !self.types.get(field.ty).nullable {
                return false;
            }
            outcome = self.value(field.ty, value, &at);
            true
        });
        outcome
    }
}

fn find_missing(types: &Types, ty: TypeId, value: &Value, path: &Path<'_>, missing: &mut Vec<String>) {
    let declared = types.get(ty);
    match (&declared.shape, value) {
        (Shape::Object { fields, .. }, Value::Object(map)) => {
            for field in fields {
                let at = Path {
                    parent: Some(path),
                    segment: Segment::Field(&field.name),
                    owner: Some(declared),
                };
                match map.get(&*field.name) {
                    Some(value) => find_missing(types, field.ty, value, &at, missing),
                    None if field.required && missing.len() < MAX_REPORTED => missing.push(at.to_string()),
                    None => {}
                }
            }
        }
        (Shape::Map { values, .. }, Value::Object(map)) => {
            for (key, value) in map {
                let at = Path {
                    parent: Some(path),
                    segment: Segment::Key(key),
                    owner: None,
                };
                find_missing(types, *values, value, &at, missing);
            }
        }
        (Shape::List { items, .. }, Value::Array(list)) => {
            for (index, value) in list.iter().enumerate() {
                let at = Path {
                    parent: Some(path),
                    segment: Segment::Index(index),
                    owner: None,
                };
                find_missing(types, *items, value, &at, missing);
            }
        }
        _ => {}
    }
}

/// What Go's decoder calls a value's sort.
fn found(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// What Go calls a type: `v1.PodSpec`, `[]v1.Container`, `map[string]string`, `int32`.
fn go_type(types: &Types, ty: TypeId) -> String {
    let declared = types.get(ty);
    if let Some(name) = &declared.name {
        let mut ends = name.rsplitn(3, '.');
        let (last, package) = (ends.next().unwrap_or_default(), ends.next().unwrap_or_default());
        return format!("{package}.{last}");
    }
    match &declared.shape {
        Shape::Boolean => "bool".to_owned(),
        Shape::Integer { wide: false } => "int32".to_owned(),
        Shape::Integer { wide: true } => "int64".to_owned(),
        Shape::Number => "float64".to_owned(),
        Shape::String => "string".to_owned(),
        Shape::Bytes => "[]uint8".to_owned(),
        Shape::List { items, .. } => format!("[]{}", go_type(types, *items)),
        Shape::Map { values, .. } => format!("map[string]{}", go_type(types, *values)),
        Shape::Any | Shape::Object { .. } => "map[string]interface {}".to_owned(),
        Shape::IntOrString => "intstr.IntOrString".to_owned(),
        Shape::Quantity => "resource.Quantity".to_owned(),
        Shape::Time { .. } => "v1.Time".to_owned(),
    }
}

fn zero(shape: &Shape) -> Value {
    match shape {
        Shape::Any | Shape::Time { .. } => Value::Null,
        Shape::Boolean => false.into(),
        Shape::Integer { .. } | Shape::Number | Shape::IntOrString => 0.into(),
        Shape::String | Shape::Bytes => "".into(),
        Shape::Quantity => "0".into(),
        Shape::Object { .. } | Shape::Map { .. } => Value::Object(Map::new()),
        Shape::List { .. } => Value::Array(Vec::new()),
    }
}

fn quantity(text: &str) -> Result<String, TypeError> {
    let quantity: Quantity = text.parse().map_err(|_| TypeError::Quantity)?;
    Ok(quantity.to_string())
}

/// The canonical form of base64 text, if it isn't in it.
fn canonical_base64(text: &str) -> Result<Option<String>, TypeError> {
    use base64::DecodeError::{InvalidByte, InvalidLastSymbol, InvalidLength, InvalidPadding};
    let unbroken: String;
    let broken = text.contains(['\n', '\r']);
    let one_line = if broken {
        unbroken = text.replace(['\n', '\r'], "");
        &unbroken
    } else {
        text
    };
    let bytes = BASE64.decode(one_line).map_err(|error| TypeError::Base64 {
        at: match error {
            InvalidByte(at, _) | InvalidLastSymbol(at, _) => at,
            InvalidLength(_) | InvalidPadding => one_line.len(),
        },
    })?;
    let canonical = BASE64.encode(bytes);
    Ok((broken || canonical != text).then_some(canonical))
}

#[cfg(test)]
mod tests;
