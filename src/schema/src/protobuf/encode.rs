//! A JSON tree to a message, from its last field to its first.

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};

use crate::time;

use super::{
    ProtobufError,
    layout::{self, Field, Form, Message, Repeat, What},
    tree::{Tree, View},
    wire::{Wire, Writer},
};

/// Writes the fields of a message.
pub(super) fn message(writer: &mut Writer, layout: &Message, value: &impl Tree) -> Result<(), ProtobufError> {
    match layout.form {
        Form::Object => {
            if !matches!(value.view(), View::Object) {
                return Err(unfit("an object"));
            }
            layout
                .fields
                .iter()
                .rev()
                .try_for_each(|field| object_field(writer, field, value))
        }
        Form::Quantity => {
            writer.bytes(1, value.text().ok_or(unfit("a quantity"))?.as_bytes());
            Ok(())
        }
        Form::Time { micro } => {
            let text = value.text().ok_or(unfit("a time"))?;
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
            let (kind, number, text) = match value.text() {
                Some(text) => (1, 0, text),
                None => (0, value.whole().ok_or(unfit("a number or text"))?, ""),
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
        Form::SchemaOrArray(schema) => match value.items() {
            Some(schemas) => schemas
                .iter()
                .rev()
                .try_for_each(|value| nested(writer, 2, layout::message(schema), value)),
            None => nested(writer, 1, layout::message(schema), value),
        },
        Form::SchemaOrBool(schema) => {
            if matches!(value.view(), View::Object) {
                nested(writer, 2, layout::message(schema), value)?;
            }
            integer(writer, 1, (!matches!(value.view(), View::Bool(false))).into());
            Ok(())
        }
        Form::SchemaOrStrings(schema) => match value.items() {
            Some(texts) => texts.iter().rev().try_for_each(|text| {
                writer.bytes(2, text.text().ok_or(unfit("text"))?.as_bytes());
                Ok(())
            }),
            None => nested(writer, 1, layout::message(schema), value),
        },
    }
}

fn object_field(writer: &mut Writer, field: &Field, object: &impl Tree) -> Result<(), ProtobufError> {
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
    let Some(value) = object.member(field.name) else {
        return Ok(());
    };
    let written = match (field.repeat, value.view()) {
        (_, View::Null) => return Ok(()),
        (Repeat::Once, _) => once(writer, field.number, field.what, value),
        (Repeat::List, View::List(list)) => list
            .iter()
            .rev()
            .try_for_each(|value| once(writer, field.number, field.what, value)),
        (Repeat::Map, View::Object) => value.sorted_members().into_iter().rev().try_for_each(|(key, value)| {
            writer.message(field.number, |writer| {
                once(writer, 2, field.what, value)?;
                writer.bytes(1, key.as_bytes());
                Ok(())
            })
        }),
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

fn once(writer: &mut Writer, number: u32, what: What, value: &impl Tree) -> Result<(), ProtobufError> {
    match what {
        What::Bool => match value.view() {
            View::Bool(value) => integer(writer, number, value.into()),
            _ => return Err(unfit("a boolean")),
        },
        What::Int32 | What::Int64 => integer(writer, number, value.whole().ok_or(unfit("a whole number"))?),
        What::Double => {
            let View::Number(value) = value.view() else {
                return Err(unfit("a number"));
            };
            writer.prepend(&value.as_f64().ok_or(unfit("a number"))?.to_le_bytes());
            writer.tag(number, Wire::Fixed64);
        }
        What::String => writer.bytes(number, value.text().ok_or(unfit("text"))?.as_bytes()),
        What::Bytes => {
            let bytes = BASE64
                .decode(value.text().ok_or(unfit("base64"))?)
                .map_err(|_| unfit("base64"))?;
            writer.bytes(number, &bytes);
        }
        What::Message(of) => nested(writer, number, layout::message(of), value)?,
        What::Strings => {
            let texts = value.items().ok_or(unfit("a list"))?;
            writer.message(number, |writer| {
                texts.iter().rev().try_for_each(|text| {
                    writer.bytes(1, text.text().ok_or(unfit("text"))?.as_bytes());
                    Ok(())
                })
            })?;
        }
        What::Inlined(_) => unreachable!("an inlined message has no value of its own"),
    }
    Ok(())
}

fn nested(writer: &mut Writer, number: u32, layout: &Message, value: &impl Tree) -> Result<(), ProtobufError> {
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
