//! The protobuf encoding of built-in kinds (`application/vnd.kubernetes.protobuf`), by the table of field numbers.
//!
//! A body is the four bytes `k8s\0` and a `runtime.Unknown` message, an envelope with apiVersion, kind and the object's
//! own message. Objects in lists are messages without envelopes; objects in watch events, and in fields that hold any
//! object, have theirs.
//!
//! - `wire`: tags, varints and lengths, read forwards and written backwards.
//! - `layout`: each message's fields in the order of their numbers, made from the table of facts.
//! - `encode`, `decode`: a JSON tree to a message and back; `tree`: what is encoded.
//!
//! Two things are not as in JSON. Upstream's encoder writes zeros that its JSON leaves out, so which zeros mean
//! something is among the facts. And messages that JSON inlines (a volume's source, a probe's handler) are nested here.

mod decode;
mod encode;
mod layout;
mod tree;
pub(crate) mod wire;

use std::str;

use serde_json::Value;

use crate::{
    builtin::type_of_kind,
    decode::{DecodeError, MAX_VALUES},
    types::TypeId,
};

use self::{
    tree::Borrowed,
    wire::{Reader, Wire, Writer},
};

/// What every body begins with.
pub const MAGIC: &[u8; 4] = b"k8s\0";

/// What ends every envelope: no content encoding, no content type.
const ENVELOPE_END: &[u8] = &[0x1a, 0, 0x22, 0];

/// Why bytes can't be decoded or an object can't be encoded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProtobufError {
    /// [`MAGIC`] is missing.
    #[error("provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]")]
    NoMagic,
    /// The kind isn't a built-in one: custom resources have no protobuf encoding.
    #[error("no kind {kind:?} is registered for version {api_version:?}")]
    UnknownKind {
        /// Group and version, as in `apiVersion`.
        api_version: String,
        /// The kind.
        kind: String,
    },
    /// The bytes end too early, or aren't what a field of a message should be.
    #[error("malformed protobuf: {0}")]
    Malformed(&'static str),
    /// More values than [`MAX_VALUES`].
    #[error("the body holds more than {MAX_VALUES} values")]
    TooManyValues,
    /// JSON that is to be encoded, or stands within a message, is malformed.
    #[error("malformed JSON")]
    Json(#[source] DecodeError),
    /// A value isn't of its field's type; objects are checked before they are encoded.
    #[error("field {field:?} can't be encoded as {wanted}")]
    Unfit {
        /// The innermost field.
        field: &'static str,
        /// What it should be.
        wanted: &'static str,
    },
}

/// A body taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Envelope<'a> {
    /// Group and version; may be empty where the path says it.
    pub api_version: &'a str,
    /// The kind; may be empty.
    pub kind: &'a str,
    /// The object's message.
    pub message: &'a [u8],
}

/// Takes a body apart.
///
/// # Errors
/// [`ProtobufError::NoMagic`] or [`ProtobufError::Malformed`].
pub fn open(body: &[u8]) -> Result<Envelope<'_>, ProtobufError> {
    let unknown = body.strip_prefix(MAGIC).ok_or(ProtobufError::NoMagic)?;
    let mut envelope = Envelope {
        api_version: "",
        kind: "",
        message: &[],
    };
    let mut reader = Reader::new(unknown);
    while let Some((number, wire)) = reader.tag()? {
        match (number, wire) {
            (1, Wire::Delimited) => {
                let mut kind = Reader::new(reader.delimited()?);
                while let Some((number, wire)) = kind.tag()? {
                    match (number, wire) {
                        (1, Wire::Delimited) => envelope.api_version = kind.text()?,
                        (2, Wire::Delimited) => envelope.kind = kind.text()?,
                        _ => kind.skip(wire)?,
                    }
                }
            }
            (2, Wire::Delimited) => envelope.message = reader.delimited()?,
            _ => reader.skip(wire)?,
        }
    }
    Ok(envelope)
}

/// Puts an object's message in an envelope.
pub fn seal(api_version: &str, kind: &str, message: &[u8]) -> Vec<u8> {
    let mut body = head(api_version, kind, message.len());
    body.extend_from_slice(message);
    body.extend_from_slice(ENVELOPE_END);
    body
}

/// An object's body. `apiVersion` and `kind` are its own.
///
/// # Errors
/// [`ProtobufError::UnknownKind`] or [`ProtobufError::Unfit`].
pub fn encode(object: &Value) -> Result<Vec<u8>, ProtobufError> {
    let word = |field: &str| object.get(field).and_then(Value::as_str).unwrap_or_default();
    let (api_version, kind) = (word("apiVersion"), word("kind"));
    Ok(seal(
        api_version,
        kind,
        &encode_message(type_of(api_version, kind)?, object)?,
    ))
}

/// An object's message, without an envelope: as it stands in a list.
///
/// # Errors
/// [`ProtobufError::Unfit`].
pub fn encode_message(ty: TypeId, object: &Value) -> Result<Vec<u8>, ProtobufError> {
    let mut writer = Writer::default();
    encode::message(&mut writer, layout::of(ty)?, object)?;
    Ok(writer.into_bytes())
}

/// As [`encode_message`], from the object's JSON: what is stored need not become a tree of its own first.
///
/// # Errors
/// [`ProtobufError::Unfit`], or [`ProtobufError::Json`].
pub fn encode_json(ty: TypeId, json: &[u8]) -> Result<Vec<u8>, ProtobufError> {
    let object: Borrowed<'_> =
        serde_json::from_slice(json).map_err(|error| ProtobufError::Json(DecodeError::Json(error.to_string())))?;
    let mut writer = Writer::default();
    encode::message(&mut writer, layout::of(ty)?, &object)?;
    Ok(writer.into_bytes())
}

/// The object in a body, with its `apiVersion` and `kind`; those of `default` where the envelope has none.
///
/// # Errors
/// Any [`ProtobufError`] but [`ProtobufError::Unfit`].
pub fn decode(body: &[u8], default: Option<(&str, &str)>) -> Result<Value, ProtobufError> {
    decode::body(body, default, &mut MAX_VALUES.clone(), 0)
}

/// The object in a message without an envelope.
///
/// # Errors
/// Any [`ProtobufError`] but [`ProtobufError::Unfit`].
pub fn decode_message(ty: TypeId, message: &[u8]) -> Result<Value, ProtobufError> {
    decode::message(layout::of(ty)?, message, &mut MAX_VALUES.clone(), 0)
}

/// What stands before the items of a list, so that it can be streamed: then comes each item's [`item_head`] and
/// message, and at last [`LIST_END`].
///
/// # Errors
/// [`ProtobufError::Unfit`], if `metadata` is no `ListMeta`.
pub fn list_head(
    api_version: &str,
    kind: &str,
    metadata: &Value,
    messages: impl Iterator<Item = usize>,
) -> Result<Vec<u8>, ProtobufError> {
    let mut writer = Writer::default();
    encode::message(&mut writer, layout::of(type_of("", "ListMeta")?)?, metadata)?;
    let length = writer.len();
    writer.varint(length as u64);
    writer.tag(1, Wire::Delimited);
    let metadata = writer.into_bytes();
    let items: usize = messages.map(|length| item_head(length).len() + length).sum();
    let mut head = head(api_version, kind, metadata.len() + items);
    head.extend_from_slice(&metadata);
    Ok(head)
}

/// What stands before the message of an item of a list.
pub fn item_head(length: usize) -> Vec<u8> {
    let mut writer = Writer::default();
    writer.varint(length as u64);
    writer.tag(2, Wire::Delimited);
    writer.into_bytes()
}

/// What stands behind the last item of a list.
pub const LIST_END: &[u8] = ENVELOPE_END;

/// One frame of a watch stream: its length as four bytes, big end first, and a `WatchEvent` around an object's body.
pub fn watch_frame(event: &str, body: &[u8]) -> Vec<u8> {
    let mut writer = Writer::default();
    writer.bytes(1, body);
    let length = writer.len();
    writer.varint(length as u64);
    writer.tag(2, Wire::Delimited);
    writer.bytes(1, event.as_bytes());
    let length = u32::try_from(writer.len()).expect("an object is far smaller than four gigabytes");
    writer.prepend(&length.to_be_bytes());
    writer.into_bytes()
}

/// Magic and envelope up to a message of this length.
fn head(api_version: &str, kind: &str, message: usize) -> Vec<u8> {
    let mut writer = Writer::default();
    writer.varint(message as u64);
    writer.tag(2, Wire::Delimited);
    let after = writer.len();
    writer.bytes(2, kind.as_bytes());
    writer.bytes(1, api_version.as_bytes());
    let length = writer.len() - after;
    writer.varint(length as u64);
    writer.tag(1, Wire::Delimited);
    writer.prepend(MAGIC);
    writer.into_bytes()
}

/// The type of a built-in kind by its `apiVersion`.
fn type_of(api_version: &str, kind: &str) -> Result<TypeId, ProtobufError> {
    let (group, version) = api_version.rsplit_once('/').unwrap_or(("", api_version));
    let found = match kind {
        // In lists of every group; no kind of its own.
        "ListMeta" if api_version.is_empty() => {
            crate::Types::builtin().find("io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta")
        }
        // Known to every group and version, custom ones too.
        "DeleteOptions" => type_of_kind("", "v1", kind),
        "CreateOptions" | "UpdateOptions" | "PatchOptions" | "GetOptions" | "ListOptions" => {
            type_of_kind("meta.k8s.io", "v1", kind)
        }
        _ => type_of_kind(group, version, kind),
    };
    found.ok_or_else(|| ProtobufError::UnknownKind {
        api_version: cut(api_version),
        kind: cut(kind),
    })
}

/// As much of what a client wrote as an error message needs.
fn cut(text: &str) -> String {
    text.chars().take(64).collect()
}

#[cfg(test)]
mod tests;
