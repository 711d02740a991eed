//! A message to a JSON tree. What comes in isn't trusted: depth and number of values are bounded.

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use jiff::Timestamp;
use serde_json::{Map, Number, Value};

use crate::{
    decode::{DecodeError, MAX_DEPTH, json_within},
    time,
};

use super::{
    MAGIC, ProtobufError,
    layout::{self, Field, Form, Message, Repeat, What},
    open, type_of,
    wire::{Reader, Wire},
};

const WRONG_WIRE: ProtobufError = ProtobufError::Malformed("wrong wire type");

/// The object in a body.
pub(super) fn body(
    body: &[u8],
    default: Option<(&str, &str)>,
    left: &mut usize,
    depth: usize,
) -> Result<Value, ProtobufError> {
    let envelope = open(body)?;
    let (api_version, kind) = match default {
        Some(default) if envelope.kind.is_empty() => default,
        _ => (envelope.api_version, envelope.kind),
    };
    let fields = message(layout::of(type_of(api_version, kind)?)?, envelope.message, left, depth)?;
    let mut object = Map::new();
    object.insert("apiVersion".to_owned(), api_version.into());
    object.insert("kind".to_owned(), kind.into());
    if let Value::Object(fields) = fields {
        object.extend(fields);
    }
    Ok(Value::Object(object))
}

/// The value of a message; null if it stands for none.
pub(super) fn message(layout: &Message, bytes: &[u8], left: &mut usize, depth: usize) -> Result<Value, ProtobufError> {
    if depth > MAX_DEPTH {
        return Err(ProtobufError::Malformed("nested too deep"));
    }
    take(left)?;
    match layout.form {
        Form::Object => {
            let mut object = Map::new();
            fields(layout, bytes, &mut object, left, depth)?;
            Ok(Value::Object(object))
        }
        Form::Quantity => Ok(scan(bytes)?.texts[0].unwrap_or("0").into()),
        Form::Time { .. } if bytes.is_empty() => Ok(Value::Null),
        Form::Time { micro } => {
            let [_, seconds, nanos, _] = scan(bytes)?.numbers;
            let nanos = i32::try_from(nanos)
                .ok()
                .filter(|nanos| (0..1_000_000_000).contains(nanos));
            let at = nanos.and_then(|nanos| Timestamp::new(seconds, nanos).ok());
            let at = at.ok_or(ProtobufError::Malformed("time out of range"))?;
            Ok(if micro { time::micros(at) } else { time::seconds(at) }.into())
        }
        Form::IntOrString => {
            let Scan {
                numbers: [_, kind, number, _],
                texts,
            } = scan(bytes)?;
            Ok(if kind == 1 {
                texts[2].unwrap_or_default().into()
            } else {
                int32(number).into()
            })
        }
        Form::Raw => raw(bytes, left, depth),
        Form::SchemaOrArray(schema) => {
            let mut whole = Value::Null;
            let mut schemas = Vec::new();
            each_delimited(bytes, |number, bytes| {
                let schema = message(layout::message(schema), bytes, left, depth + 1)?;
                match number {
                    1 => whole = schema,
                    _ => schemas.push(schema),
                }
                Ok(())
            })?;
            Ok(if schemas.is_empty() { whole } else { schemas.into() })
        }
        Form::SchemaOrBool(schema) => {
            let mut value = Value::Bool(false);
            let mut reader = Reader::new(bytes);
            while let Some((number, wire)) = reader.tag()? {
                match (number, wire) {
                    (1, Wire::Varint) if value.is_boolean() => value = (reader.varint()? != 0).into(),
                    (2, Wire::Delimited) => {
                        value = message(layout::message(schema), reader.delimited()?, left, depth + 1)?;
                    }
                    _ => reader.skip(wire)?,
                }
            }
            Ok(value)
        }
        Form::SchemaOrStrings(schema) => {
            let mut whole = Value::Null;
            let mut texts = Vec::new();
            each_delimited(bytes, |number, bytes| {
                match number {
                    1 => whole = message(layout::message(schema), bytes, left, depth + 1)?,
                    _ => texts.push(text(bytes, left)?),
                }
                Ok(())
            })?;
            Ok(if texts.is_empty() { whole } else { texts.into() })
        }
    }
}

/// Adds the fields of a message to an object.
fn fields(
    layout: &Message,
    bytes: &[u8],
    object: &mut Map<String, Value>,
    left: &mut usize,
    depth: usize,
) -> Result<(), ProtobufError> {
    let mut reader = Reader::new(bytes);
    while let Some((number, wire)) = reader.tag()? {
        let Ok(at) = layout.fields.binary_search_by_key(&number, |field| field.number) else {
            reader.skip(wire)?;
            continue;
        };
        let field = &layout.fields[at];
        match (field.what, field.repeat) {
            (What::Inlined(inlined), _) => {
                expect(wire, Wire::Delimited)?;
                if depth > MAX_DEPTH {
                    return Err(ProtobufError::Malformed("nested too deep"));
                }
                fields(layout::message(inlined), reader.delimited()?, object, left, depth + 1)?;
            }
            (what, Repeat::Once) => {
                let value = once(what, wire, &mut reader, left, depth)?;
                if !means_absent(field, &value) {
                    object.insert(field.name.to_owned(), value);
                }
            }
            (what, Repeat::List) => {
                let Value::Array(list) = object.entry(field.name).or_insert_with(|| Value::Array(Vec::new())) else {
                    continue;
                };
                if wire == Wire::Delimited && matches!(what, What::Bool | What::Int32 | What::Int64) {
                    let mut packed = Reader::new(reader.delimited()?);
                    while !packed.is_empty() {
                        list.push(once(what, Wire::Varint, &mut packed, left, depth)?);
                    }
                } else {
                    list.push(once(what, wire, &mut reader, left, depth)?);
                }
            }
            (what, Repeat::Map) => {
                expect(wire, Wire::Delimited)?;
                let (key, value) = entry(what, reader.delimited()?, left, depth)?;
                if let Value::Object(map) = object.entry(field.name).or_insert_with(|| Value::Object(Map::new())) {
                    map.insert(key, value);
                }
            }
        }
    }
    Ok(())
}

/// Whether upstream would have left this value out in JSON.
fn means_absent(field: &Field, value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(value) => !field.zero && !value,
        Value::Number(value) => !field.zero && value.as_i64() == Some(0),
        Value::String(value) => !field.zero && value.is_empty(),
        Value::Array(_) | Value::Object(_) => false,
    }
}

/// A map's entry; what it lacks is empty.
fn entry(what: What, bytes: &[u8], left: &mut usize, depth: usize) -> Result<(String, Value), ProtobufError> {
    let mut key = "";
    let mut value = None;
    let mut reader = Reader::new(bytes);
    while let Some((number, wire)) = reader.tag()? {
        match (number, wire) {
            (1, Wire::Delimited) => key = reader.text()?,
            (2, wire) => value = Some(once(what, wire, &mut reader, left, depth)?),
            _ => reader.skip(wire)?,
        }
    }
    let value = match (value, what) {
        (Some(value), _) => value,
        (None, What::String | What::Bytes) => "".into(),
        (None, What::Bool) => false.into(),
        (None, What::Int32 | What::Int64 | What::Double) => 0.into(),
        (None, What::Strings) => Value::Array(Vec::new()),
        (None, What::Message(of)) => message(layout::message(of), &[], left, depth + 1)?,
        (None, What::Inlined(_)) => Value::Null,
    };
    Ok((key.to_owned(), value))
}

fn once(
    what: What,
    wire: Wire,
    reader: &mut Reader<'_>,
    left: &mut usize,
    depth: usize,
) -> Result<Value, ProtobufError> {
    let wanted = match what {
        What::Bool | What::Int32 | What::Int64 => Wire::Varint,
        What::Double => Wire::Fixed64,
        What::String | What::Bytes | What::Message(_) | What::Inlined(_) | What::Strings => Wire::Delimited,
    };
    expect(wire, wanted)?;
    Ok(match what {
        What::Bool => {
            take(left)?;
            (reader.varint()? != 0).into()
        }
        What::Int32 => {
            take(left)?;
            int32(reader.varint()?.cast_signed()).into()
        }
        What::Int64 => {
            take(left)?;
            reader.varint()?.cast_signed().into()
        }
        What::Double => {
            take(left)?;
            let number = Number::from_f64(f64::from_bits(reader.fixed64()?));
            Value::Number(number.ok_or(ProtobufError::Malformed("number is not finite"))?)
        }
        What::String => text(reader.delimited()?, left)?,
        What::Bytes => {
            take(left)?;
            BASE64.encode(reader.delimited()?).into()
        }
        What::Message(of) | What::Inlined(of) => message(layout::message(of), reader.delimited()?, left, depth + 1)?,
        What::Strings => {
            take(left)?;
            let mut texts = Vec::new();
            each_delimited(reader.delimited()?, |number, bytes| {
                if number == 1 {
                    texts.push(text(bytes, left)?);
                }
                Ok(())
            })?;
            texts.into()
        }
    })
}

/// Any JSON; an object in it may have an envelope of its own.
fn raw(bytes: &[u8], left: &mut usize, depth: usize) -> Result<Value, ProtobufError> {
    let mut raw: &[u8] = &[];
    each_delimited(bytes, |number, bytes| {
        if number == 1 {
            raw = bytes;
        }
        Ok(())
    })?;
    if raw.is_empty() {
        Ok(Value::Null)
    } else if raw.starts_with(MAGIC) {
        body(raw, None, left, depth + 1)
    } else {
        match json_within(raw, left) {
            Ok(decoded) => Ok(decoded.value),
            Err(DecodeError::TooManyValues) => Err(ProtobufError::TooManyValues),
            Err(error) => Err(ProtobufError::Json(error)),
        }
    }
}

/// The scalar fields 1 to 3 of a small message, by number (for numbers) and number less one (for texts).
struct Scan<'a> {
    numbers: [i64; 4],
    texts: [Option<&'a str>; 3],
}

fn scan(bytes: &[u8]) -> Result<Scan<'_>, ProtobufError> {
    let mut scan = Scan {
        numbers: [0; 4],
        texts: [None; 3],
    };
    let mut reader = Reader::new(bytes);
    while let Some((number, wire)) = reader.tag()? {
        match (number, wire) {
            (1..=3, Wire::Varint) => scan.numbers[number as usize] = reader.varint()?.cast_signed(),
            (1..=3, Wire::Delimited) => scan.texts[number as usize - 1] = Some(reader.text()?),
            _ => reader.skip(wire)?,
        }
    }
    Ok(scan)
}

/// Every field of a message that has a length; other fields are passed over.
fn each_delimited<'a>(
    bytes: &'a [u8],
    mut each: impl FnMut(u32, &'a [u8]) -> Result<(), ProtobufError>,
) -> Result<(), ProtobufError> {
    let mut reader = Reader::new(bytes);
    while let Some((number, wire)) = reader.tag()? {
        match (number, wire) {
            (1 | 2, Wire::Delimited) => each(number, reader.delimited()?)?,
            _ => reader.skip(wire)?,
        }
    }
    Ok(())
}

fn text(bytes: &[u8], left: &mut usize) -> Result<Value, ProtobufError> {
    take(left)?;
    let text = std::str::from_utf8(bytes).map_err(|_| ProtobufError::Malformed("text is not UTF-8"))?;
    Ok(text.into())
}

fn take(left: &mut usize) -> Result<(), ProtobufError> {
    *left = left.checked_sub(1).ok_or(ProtobufError::TooManyValues)?;
    Ok(())
}

fn expect(wire: Wire, wanted: Wire) -> Result<(), ProtobufError> {
    if wire == wanted { Ok(()) } else { Err(WRONG_WIRE) }
}

/// As Go reads an `int32`: its lowest 32 bits.
#[allow(clippy::cast_possible_truncation, reason = "it is what is wanted")]
fn int32(value: i64) -> i32 {
    value as i32
}
