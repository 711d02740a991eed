//! OpenAPI 2 in protobuf, as the messages of gnostic's `openapiv2/OpenAPIv2.proto`: what client-go's discovery client
//! asks for, and so Argo CD and older `kubectl`.
//!
//! A piece of the document at a time is read back from JSON and written by a table of keys and numbers. What the table
//! lacks is left out, but for extensions, which are carried as YAML (and JSON is YAML).

use serde_json::{Map, Value};

use crate::protobuf::wire::{Wire, Writer};

/// A message: its fields by their keys in JSON, and the field for extensions (0 if it has none).
struct Table {
    fields: &'static [(&'static str, u32, Kind)],
    extensions: u32,
}

/// What a field holds.
#[derive(Clone, Copy)]
enum Kind {
    Text,
    Texts,
    Flag,
    Integer,
    Double,
    /// Any value, as YAML.
    Any,
    Anys,
    Many(&'static Table),
    /// A message whose field 1 is the message.
    Within(&'static Table),
    /// A message whose field 1 repeats names and messages.
    Named(&'static Table),
    /// The same, but each message is in field 1 of another one.
    NamedWithin(&'static Table),
    /// A message whose field 1 is a text, or several.
    Words,
    /// A message of either a schema or a flag.
    SchemaOrFlag,
    One(&'static Table),
    Parameters,
}

static SCHEMA: Table = Table {
    fields: &[
        ("$ref", 1, Kind::Text),
        ("format", 2, Kind::Text),
        ("title", 3, Kind::Text),
        ("description", 4, Kind::Text),
        ("default", 5, Kind::Any),
        ("multipleOf", 6, Kind::Double),
        ("maximum", 7, Kind::Double),
        ("exclusiveMaximum", 8, Kind::Flag),
        ("minimum", 9, Kind::Double),
        ("exclusiveMinimum", 10, Kind::Flag),
        ("maxLength", 11, Kind::Integer),
        ("minLength", 12, Kind::Integer),
        ("pattern", 13, Kind::Text),
        ("maxItems", 14, Kind::Integer),
        ("minItems", 15, Kind::Integer),
        ("uniqueItems", 16, Kind::Flag),
        ("maxProperties", 17, Kind::Integer),
        ("minProperties", 18, Kind::Integer),
        ("required", 19, Kind::Texts),
        ("enum", 20, Kind::Anys),
        ("additionalProperties", 21, Kind::SchemaOrFlag),
        ("type", 22, Kind::Words),
        ("items", 23, Kind::Within(&SCHEMA)),
        ("allOf", 24, Kind::Many(&SCHEMA)),
        ("properties", 25, Kind::Named(&SCHEMA)),
        ("example", 30, Kind::Any),
    ],
    extensions: 31,
};

static RESPONSE: Table = Table {
    fields: &[("description", 1, Kind::Text), ("schema", 2, Kind::Within(&SCHEMA))],
    extensions: 5,
};

static OPERATION: Table = Table {
    fields: &[
        ("tags", 1, Kind::Texts),
        ("description", 3, Kind::Text),
        ("operationId", 5, Kind::Text),
        ("produces", 6, Kind::Texts),
        ("consumes", 7, Kind::Texts),
        ("parameters", 8, Kind::Parameters),
        ("responses", 9, Kind::NamedWithin(&RESPONSE)),
        ("schemes", 10, Kind::Texts),
    ],
    extensions: 13,
};

static PATH_ITEM: Table = Table {
    fields: &[
        ("get", 2, Kind::One(&OPERATION)),
        ("put", 3, Kind::One(&OPERATION)),
        ("post", 4, Kind::One(&OPERATION)),
        ("delete", 5, Kind::One(&OPERATION)),
        ("options", 6, Kind::One(&OPERATION)),
        ("head", 7, Kind::One(&OPERATION)),
        ("patch", 8, Kind::One(&OPERATION)),
        ("parameters", 9, Kind::Parameters),
    ],
    extensions: 10,
};

static BODY: Table = Table {
    fields: &[
        ("description", 1, Kind::Text),
        ("name", 2, Kind::Text),
        ("in", 3, Kind::Text),
        ("required", 4, Kind::Flag),
        ("schema", 5, Kind::One(&SCHEMA)),
    ],
    extensions: 6,
};

static QUERY: Table = Table {
    fields: &[
        ("required", 1, Kind::Flag),
        ("in", 2, Kind::Text),
        ("description", 3, Kind::Text),
        ("name", 4, Kind::Text),
        ("type", 6, Kind::Text),
        ("format", 7, Kind::Text),
        ("uniqueItems", 20, Kind::Flag),
    ],
    extensions: 23,
};

static PATH: Table = Table {
    fields: &[
        ("required", 1, Kind::Flag),
        ("in", 2, Kind::Text),
        ("description", 3, Kind::Text),
        ("name", 4, Kind::Text),
        ("type", 5, Kind::Text),
        ("format", 6, Kind::Text),
        ("uniqueItems", 19, Kind::Flag),
    ],
    extensions: 22,
};

static INFO: Table = Table {
    fields: &[("title", 1, Kind::Text), ("version", 2, Kind::Text)],
    extensions: 7,
};

static API_KEY: Table = Table {
    fields: &[
        ("type", 1, Kind::Text),
        ("name", 2, Kind::Text),
        ("in", 3, Kind::Text),
        ("description", 4, Kind::Text),
    ],
    extensions: 5,
};

/// The parts of a document. Each is asked for last to first, as it is written from the end.
pub(super) struct Document<'a> {
    pub info: &'a Value,
    pub paths: &'a mut dyn DoubleEndedIterator<Item = (&'a str, Value)>,
    pub definitions: &'a mut dyn DoubleEndedIterator<Item = (&'a str, Value)>,
    pub parameters: &'a mut dyn DoubleEndedIterator<Item = (&'a str, Value)>,
    /// The name of the only means of authentication, an API key, and its description.
    pub security: (&'a str, &'a Value),
}

/// The document's message.
pub(super) fn encode(document: &mut Document<'_>) -> Vec<u8> {
    let mut writer = Writer::default();
    let (name, key) = document.security;
    message(&mut writer, 13, |writer| {
        named(writer, 1, name, |writer| one(writer, 2, &API_KEY, key));
    });
    message(&mut writer, 12, |writer| named(writer, 1, name, |_| {}));
    message(&mut writer, 10, |writer| {
        while let Some((name, value)) = document.parameters.next_back() {
            named(writer, 1, name, |writer| parameter(writer, &value));
        }
    });
    message(&mut writer, 9, |writer| {
        while let Some((name, value)) = document.definitions.next_back() {
            named(writer, 1, name, |writer| fields(writer, &SCHEMA, &value));
        }
    });
    message(&mut writer, 8, |writer| {
        while let Some((name, value)) = document.paths.next_back() {
            named(writer, 2, name, |writer| fields(writer, &PATH_ITEM, &value));
        }
    });
    one(&mut writer, 2, &INFO, document.info);
    writer.bytes(1, b"2.0");
    writer.into_bytes()
}

/// The fields of a message, from the last one to the first.
fn fields(writer: &mut Writer, table: &Table, value: &Value) {
    let Value::Object(object) = value else { return };
    extensions(writer, table.extensions, object);
    for (key, number, kind) in table.fields.iter().rev() {
        if let Some(value) = object.get(*key) {
            field(writer, *number, *kind, value);
        }
    }
}

fn extensions(writer: &mut Writer, number: u32, object: &Map<String, Value>) {
    for (key, value) in object.iter().rev().filter(|(key, _)| key.starts_with("x-")) {
        named(writer, number, key, |writer| {
            writer.bytes(2, value.to_string().as_bytes());
        });
    }
}

fn field(writer: &mut Writer, number: u32, kind: Kind, value: &Value) {
    let items = || value.as_array().into_iter().flatten().rev();
    let members = || value.as_object().into_iter().flatten().rev();
    match kind {
        Kind::Text => writer.bytes(number, value.as_str().unwrap_or_default().as_bytes()),
        Kind::Texts => items()
            .filter_map(Value::as_str)
            .for_each(|text| writer.bytes(number, text.as_bytes())),
        Kind::Flag => {
            writer.varint(u64::from(value == &Value::Bool(true)));
            writer.tag(number, Wire::Varint);
        }
        Kind::Integer => {
            writer.varint(value.as_i64().unwrap_or_default().cast_unsigned());
            writer.tag(number, Wire::Varint);
        }
        Kind::Double => {
            writer.prepend(&value.as_f64().unwrap_or_default().to_le_bytes());
            writer.tag(number, Wire::Fixed64);
        }
        Kind::Any => any(writer, number, value),
        Kind::Anys => items().for_each(|value| any(writer, number, value)),
        Kind::One(table) => one(writer, number, table, value),
        Kind::Many(table) => items().for_each(|value| one(writer, number, table, value)),
        Kind::Within(table) => message(writer, number, |writer| one(writer, 1, table, value)),
        Kind::Named(table) => message(writer, number, |writer| {
            for (name, value) in members() {
                named(writer, 1, name, |writer| fields(writer, table, value));
            }
        }),
        Kind::NamedWithin(table) => message(writer, number, |writer| {
            for (name, value) in members() {
                named(writer, 1, name, |writer| one(writer, 1, table, value));
            }
        }),
        Kind::Words => message(writer, number, |writer| match value {
            Value::String(word) => writer.bytes(1, word.as_bytes()),
            _ => items()
                .filter_map(Value::as_str)
                .for_each(|word| writer.bytes(1, word.as_bytes())),
        }),
        Kind::SchemaOrFlag => message(writer, number, |writer| match value {
            Value::Bool(_) => field(writer, 2, Kind::Flag, value),
            schema => one(writer, 1, &SCHEMA, schema),
        }),
        Kind::Parameters => items().for_each(|value| {
            message(writer, number, |writer| match value["$ref"].as_str() {
                Some(reference) => message(writer, 2, |writer| writer.bytes(1, reference.as_bytes())),
                None => message(writer, 1, |writer| parameter(writer, value)),
            });
        }),
    }
}

fn parameter(writer: &mut Writer, value: &Value) {
    match value["in"].as_str() {
        Some("body") => one(writer, 1, &BODY, value),
        Some("query") => message(writer, 2, |writer| one(writer, 3, &QUERY, value)),
        _ => message(writer, 2, |writer| one(writer, 4, &PATH, value)),
    }
}

fn one(writer: &mut Writer, number: u32, table: &Table, value: &Value) {
    message(writer, number, |writer| fields(writer, table, value));
}

fn any(writer: &mut Writer, number: u32, value: &Value) {
    message(writer, number, |writer| writer.bytes(2, value.to_string().as_bytes()));
}

/// A message of a name and a message.
fn named(writer: &mut Writer, number: u32, name: &str, value: impl FnOnce(&mut Writer)) {
    message(writer, number, |writer| {
        message(writer, 2, value);
        writer.bytes(1, name.as_bytes());
    });
}

fn message(writer: &mut Writer, number: u32, write: impl FnOnce(&mut Writer)) {
    let after = writer.len();
    write(writer);
    let length = writer.len() - after;
    writer.varint(length as u64);
    writer.tag(number, Wire::Delimited);
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::protobuf::wire::Reader;

    /// The fields of a message as numbers and bytes.
    fn read(bytes: &[u8]) -> Vec<(u32, Vec<u8>)> {
        let mut reader = Reader::new(bytes);
        let mut found = Vec::new();
        while let Some((number, wire)) = reader.tag().expect("a tag") {
            let value = match wire {
                Wire::Delimited => reader.delimited().expect("bytes").to_vec(),
                Wire::Varint => reader.varint().expect("a number").to_string().into_bytes(),
                _ => reader.fixed64().expect("eight bytes").to_le_bytes().to_vec(),
            };
            found.push((number, value));
        }
        found
    }

    fn text(number: u32, text: &str) -> (u32, Vec<u8>) {
        (number, text.as_bytes().to_vec())
    }

    #[test]
    fn a_schema_is_written_by_the_numbers_of_its_message() {
        let schema = json!({
            "type": "object", "description": "d", "required": ["a", "b"], "uniqueItems": true, "minimum": 0.5,
            "properties": {"a": {"$ref": "#/x"}}, "additionalProperties": false, "x-kubernetes-list-map-keys": ["k"],
            "items": {"type": "string"}, "unknown": 1,
        });
        let mut writer = Writer::default();
        fields(&mut writer, &SCHEMA, &schema);
        let found = read(&writer.into_bytes());
        let numbers: Vec<_> = found.iter().map(|(number, _)| *number).collect();
        assert_eq!(numbers, [4, 9, 16, 19, 19, 21, 22, 23, 25, 31]);
        assert_eq!(found[0], text(4, "d"));
        assert_eq!(found[1], (9, 0.5_f64.to_le_bytes().to_vec()));
        assert_eq!(found[2], text(16, "1"));
        assert_eq!((&found[3], &found[4]), (&text(19, "a"), &text(19, "b")));
        assert_eq!(read(&found[5].1), [text(2, "0")]);
        assert_eq!(read(&found[6].1), [text(1, "object")]);
        assert_eq!(read(&read(&read(&found[7].1)[0].1)[0].1), [text(1, "string")]);
        let property = read(&read(&found[8].1)[0].1);
        assert_eq!(property[0], text(1, "a"));
        assert_eq!(read(&property[1].1), [text(1, "#/x")]);
        let extension = read(&found[9].1);
        assert_eq!(extension[0], text(1, "x-kubernetes-list-map-keys"));
        assert_eq!(read(&extension[1].1), [text(2, "[\"k\"]")]);
    }

    #[test]
    fn parameters_are_told_apart_by_where_they_are() {
        let operation = json!({"parameters": [
            {"$ref": "#/parameters/limit"},
            {"in": "body", "name": "body", "schema": {"$ref": "#/x"}},
            {"in": "query", "name": "q", "type": "string"},
            {"in": "path", "name": "p", "type": "string", "required": true},
        ]});
        let mut writer = Writer::default();
        fields(&mut writer, &OPERATION, &operation);
        let found = read(&writer.into_bytes());
        let inner = |at: usize| read(&found[at].1);
        assert_eq!(inner(0), [(2, [&[10, 18][..], b"#/parameters/limit"].concat())]);
        let place = |at: usize| read(&inner(at)[0].1);
        assert_eq!((inner(1)[0].0, place(1)[0].0), (1, 1));
        assert_eq!((place(2)[0].0, read(&place(2)[0].1)[0].0), (2, 3));
        let path = read(&read(&place(3)[0].1)[0].1);
        assert_eq!(path, [text(1, "1"), text(2, "path"), text(4, "p"), text(5, "string")]);
    }
}
