//! A JSON tree to a message, from its last field to its first.

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use serde_json::Value;

use crate::time;

use super::{
    ProtobufError,
    layout::{self, Field, Form, Message, Repeat, What},
    wire::{Wire, Writer},
};

/// Writes the fields of a message.
pub(super) fn message(writer: &mut Writer, layout: &Message, value: &Value) -> Result<(), ProtobufError> {
    match layout.form {
        Form::Object => {
            let object = value.as_object().ok_or(unfit("an object"))?;
            layout
                .fields
                .iter()
                .rev()
                .try_for_each(|field| object_field(writer, field, object))
        }
        Form::Quantity => {
            writer.bytes(1, value.as_str().ok_or(unfit("a quantity"))?.as_bytes());
            Ok(())
        }
        Form::Time { micro } => {
            let text = value.as_str().ok_or(unfit("a time"))?;
            let at = time::parse(text).ok_or(unfit("a time"))?;
            // What is finer is left out in JSON, too.
            let nanos = if micro { at.subsec_nanosecond() / 1000 * 1000 } else { 0 };
            // A time before 1970 with a fraction: jiff counts it back from the next second, protobuf onwards.
            let (seconds, nanos) = if nanos < 0 {
                (at.as_second() - 1, nanos + 1_000_000_000)
            } else {
                (at.as_second(), nanos)
            };
            integer(writer, 2, nanos.into());
            integer(writer, 1, seconds);
            Ok(())
        }
        Form::IntOrString => {
            let (kind, number, text) = match value {
                Value::String(text) => (1, 0, text.as_str()),
                other => (0, other.as_i64().ok_or(unfit("a number or text"))?, ""),
            };
            writer.bytes(3, text.as_bytes());
            integer(writer, 2, number);
            integer(writer, 1, kind);
            Ok(())
        }
        Form::Raw => {
            let json = serde_json::to_vec(value).map_err(|_| unfit("JSON"))?;
            writer.bytes(1, &json);
            Ok(())
        }
        Form::SchemaOrArray(schema) => match value {
            Value::Array(schemas) => schemas
                .iter()
                .rev()
                .try_for_each(|value| nested(writer, 2, layout::message(schema), value)),
            value => nested(writer, 1, layout::message(schema), value),
        },
        Form::SchemaOrBool(schema) => {
            if value.is_object() {
                nested(writer, 2, layout::message(schema), value)?;
            }
            integer(writer, 1, (*value != Value::Bool(false)).into());
            Ok(())
        }
        Form::SchemaOrStrings(schema) => match value {
            Value::Array(texts) => texts.iter().rev().try_for_each(|text| {
                writer.bytes(2, text.as_str().ok_or(unfit("text"))?.as_bytes());
                Ok(())
            }),
            value => nested(writer, 1, layout::message(schema), value),
        },
    }
}

fn object_field(
    writer: &mut Writer,
    field: &Field,
    object: &serde_json::Map<String, Value>,
) -> Result<(), ProtobufError> {
    if let What::Inlined(inlined) = field.what {
        let after = writer.len();
        let inner = layout::message(inlined);
        inner
            .fields
            .iter()
            .rev()
            .try_for_each(|field| object_field(writer, field, object))?;
        let length = writer.len() - after;
        if length > 0 {
            writer.varint(length as u64);
            writer.tag(field.number, Wire::Delimited);
        }
        return Ok(());
    }
    let value = match object.get(field.name) {
        None | Some(Value::Null) => return Ok(()),
        Some(value) => value,
    };
    let written = match (field.repeat, value) {
        (Repeat::Once, value) => once(writer, field.number, field.what, value),
        (Repeat::List, Value::Array(list)) => list
            .iter()
            .rev()
            .try_for_each(|value| once(writer, field.number, field.what, value)),
        (Repeat::Map, Value::Object(map)) => {
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_by_key(|(key, _)| *key);
            entries.into_iter().rev().try_for_each(|(key, value)| {
                writer.message(field.number, |writer| {
                    once(writer, 2, field.what, value)?;
                    writer.bytes(1, key.as_bytes());
                    Ok(())
                })
            })
        }
        (Repeat::List, _) => Err(unfit("a list")),
        (Repeat::Map, _) => Err(unfit("a map")),
    };
    written.map_err(|error| match error {
        ProtobufError::Unfit { field: "", wanted } => ProtobufError::Unfit {
            field: field.name,
            wanted,
        },
        other => other,
    })
}

fn once(writer: &mut Writer, number: u32, what: What, value: &Value) -> Result<(), ProtobufError> {
    match what {
        What::Bool => integer(writer, number, value.as_bool().ok_or(unfit("a boolean"))?.into()),
        What::Int32 | What::Int64 => integer(writer, number, value.as_i64().ok_or(unfit("a whole number"))?),
        What::Double => {
            let double = value.as_f64().ok_or(unfit("a number"))?;
            writer.prepend(&double.to_le_bytes());
            writer.tag(number, Wire::Fixed64);
        }
        What::String => writer.bytes(number, value.as_str().ok_or(unfit("text"))?.as_bytes()),
        What::Bytes => {
            let bytes = BASE64
                .decode(value.as_str().ok_or(unfit("base64"))?)
                .map_err(|_| unfit("base64"))?;
            writer.bytes(number, &bytes);
        }
        What::Message(of) => nested(writer, number, layout::message(of), value)?,
        What::Strings => {
            let texts = value.as_array().ok_or(unfit("a list"))?;
            writer.message(number, |writer| {
                texts.iter().rev().try_for_each(|text| {
                    writer.bytes(1, text.as_str().ok_or(unfit("text"))?.as_bytes());
                    Ok(())
                })
            })?;
        }
        What::Inlined(_) => unreachable!("an inlined message has no value of its own"),
    }
    Ok(())
}

fn nested(writer: &mut Writer, number: u32, layout: &Message, value: &Value) -> Result<(), ProtobufError> {
    writer.message(number, |writer| message(writer, layout, value))
}

/// Negative numbers take ten bytes, as upstream's `int32` and `int64` do.
fn integer(writer: &mut Writer, number: u32, value: i64) {
    writer.varint(value.cast_unsigned());
    writer.tag(number, Wire::Varint);
}

/// The field's name is added where it is known.
fn unfit(wanted: &'static str) -> ProtobufError {
    ProtobufError::Unfit { field: "", wanted }
}
