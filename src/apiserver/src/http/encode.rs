//! Objects, lists and events of a watch in the form a client wants, made from the JSON that is cached.
//!
//! JSON as it is stored is passed on byte for byte; only what a client asks for beside it (tables, metadata, protobuf,
//! YAML, indented JSON) is made for it.

use std::{borrow::Cow, sync::Arc};

use bosun_schema::{TypeId, protobuf};
use bytes::{Bytes, BytesMut};
use http::HeaderValue;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    compress::Pieces,
    frame,
    negotiate::{Answer, Format, Representation},
    query::Query,
};
use crate::{
    Status,
    custom::Custom,
    representation::{
        metadata,
        table::{TAIL, Tables},
    },
    status::Reason,
};

/// Writes what one answer needs.
#[derive(Clone)]
pub struct Encoder {
    answer: Answer,
    tables: Option<Tables>,
}

/// A list's own part, beside its items.
#[derive(Clone, Debug, Default)]
pub struct ListHead<'a> {
    /// Of its items, such as `v1`.
    pub api_version: &'a str,
    /// Such as `PodList`.
    pub kind: &'a str,
    /// The revision it is of.
    pub resource_version: String,
    /// Where the next page begins; empty if there is none.
    pub continue_token: &'a str,
    /// How many there are beyond this page, if that is known.
    pub remaining: Option<u64>,
}

impl ListHead<'_> {
    fn metadata(&self) -> Value {
        let mut metadata = json!({"resourceVersion": self.resource_version});
        if !self.continue_token.is_empty() {
            metadata["continue"] = self.continue_token.into();
        }
        if let Some(remaining) = self.remaining {
            metadata["remainingItemCount"] = remaining.into();
        }
        metadata
    }
}

impl Encoder {
    /// For answers of this form about objects of a kind: group and kind, and where it comes from if it is custom.
    pub fn new(
        answer: Answer,
        kind: Option<(&Arc<str>, &Arc<str>)>,
        custom: Option<&Custom>,
        query: &Query,
        now: Timestamp,
    ) -> Result<Self, Status> {
        let tables = match (answer.representation, kind) {
            (Representation::Table(version), Some(kind)) => Some(Tables::new(kind, version, query, now)?.of(custom)),
            _ => None,
        };
        Ok(Self { answer, tables })
    }

    /// For answers in JSON as it is.
    pub fn json() -> Self {
        Self {
            answer: Answer::JSON,
            tables: None,
        }
    }

    /// The media type of what is written.
    pub fn media_type(&self, watch: bool) -> HeaderValue {
        HeaderValue::from_static(match (self.answer.format, watch) {
            (Format::Json, _) => "application/json",
            (Format::Yaml, false) => "application/yaml",
            (Format::Yaml, true) => "application/yaml;stream=watch",
            (Format::Protobuf, false) => "application/vnd.kubernetes.protobuf",
            (Format::Protobuf, true) => "application/vnd.kubernetes.protobuf;stream=watch",
        })
    }

    /// Whether objects are passed on as they are.
    pub fn plain(&self) -> bool {
        self.answer == Answer::JSON
    }

    /// What tells answers of one form apart from those of others, where they don't depend on the time or the query;
    /// `None` if they do.
    pub fn shared(&self) -> Option<u64> {
        match (self.answer.format, self.answer.representation) {
            (Format::Json, Representation::Object) => Some(0),
            (Format::Protobuf, Representation::Object) => Some(1),
            (Format::Json, Representation::Metadata(version)) => Some(2 + version as u64),
            (Format::Protobuf, Representation::Metadata(version)) => Some(4 + version as u64),
            _ => None,
        }
    }

    /// One object, as a whole body.
    pub fn object(&self, json: Bytes) -> Result<Bytes, Status> {
        let shown: Bytes = match (self.answer.representation, &self.tables) {
            (Representation::Table(_), Some(tables)) => tables.single(&json, true).into(),
            (Representation::Metadata(version), _) => metadata::of(&json, version),
            _ => json,
        };
        self.written(shown)
    }

    /// A value of ours, such as a `Status`: never as a table.
    pub fn value(&self, value: &Value) -> Bytes {
        let plain = Bytes::from(value.to_string());
        self.written(plain.clone()).unwrap_or(plain)
    }

    fn written(&self, json: Bytes) -> Result<Bytes, Status> {
        match self.answer.format {
            Format::Json if self.answer.pretty => {
                let mut text = serde_json::to_vec_pretty(&parsed(&json)?).map_err(internal)?;
                text.push(b'\n');
                Ok(text.into())
            }
            Format::Json => Ok(json),
            Format::Yaml => serde_saphyr::to_string(&parsed(&json)?)
                .map(Bytes::from)
                .map_err(internal),
            Format::Protobuf => message(&json).map(Bytes::from),
        }
    }

    /// A list. Its items are read as it is sent.
    pub fn list(
        &self,
        head: &ListHead<'_>,
        items: impl Iterator<Item = Bytes> + Send + 'static,
    ) -> Result<Pieces, Status> {
        let metadata = head.metadata();
        if self.answer.format == Format::Protobuf && self.tables.is_none() {
            return self.protobuf_list(head, &metadata, items);
        }
        let pieces: Pieces = match (self.answer.representation, &self.tables) {
            (Representation::Table(_), Some(tables)) => {
                let tables = tables.clone();
                let head = tables.head(&metadata.to_string(), true).into_bytes();
                let rows = items.map(move |item| tables.row(&item).into());
                Box::new(frame::chunks(&head, rows, TAIL.as_bytes()))
            }
            (Representation::Metadata(version), _) => {
                let head = list_head("PartialObjectMetadataList", version.api_version(), &metadata);
                let items = items.map(move |item| metadata::of(&item, version));
                Box::new(frame::chunks(&head, items, b"]}"))
            }
            _ => Box::new(frame::chunks(
                &list_head(head.kind, head.api_version, &metadata),
                items,
                b"]}\n",
            )),
        };
        if self.answer.pretty || self.answer.format != Format::Json {
            let whole: Vec<u8> = pieces.flatten().collect();
            return Ok(Box::new(std::iter::once(self.written(whole.into())?)));
        }
        Ok(pieces)
    }

    fn protobuf_list(
        &self,
        head: &ListHead<'_>,
        metadata: &Value,
        items: impl Iterator<Item = Bytes>,
    ) -> Result<Pieces, Status> {
        let (kind, api_version, partial) = match self.answer.representation {
            Representation::Metadata(version) => ("PartialObjectMetadataList", version.api_version(), Some(version)),
            _ => (head.kind, head.api_version, None),
        };
        // All items are of the first one's type.
        let mut ty = None;
        let messages = items.map(|json| {
            let json = match partial {
                Some(version) => metadata::of(&json, version),
                None => json,
            };
            let ty = match ty {
                Some(ty) => ty,
                None => *ty.insert(TypeMeta::of(&json)?.ty()?),
            };
            protobuf::encode_json(ty, &json).map(Bytes::from).map_err(internal)
        });
        let messages = messages.collect::<Result<Vec<_>, Status>>()?;
        let head =
            protobuf::list_head(api_version, kind, metadata, messages.iter().map(Bytes::len)).map_err(internal)?;
        let items = messages.into_iter().flat_map(|message| {
            let head = Bytes::from(protobuf::item_head(message.len()));
            [head, message]
        });
        let end = Bytes::from_static(protobuf::LIST_END);
        let pieces = std::iter::once(Bytes::from(head))
            .chain(items)
            .chain(std::iter::once(end));
        Ok(Box::new(frame::joined(pieces)))
    }

    /// An event of a watch. `first` is whether it is the first one.
    pub fn event(&mut self, kind: &str, json: Bytes, first: bool) -> Result<Bytes, Status> {
        let shown: Bytes = match (self.answer.representation, &mut self.tables) {
            // An error is a Status, whatever the objects are shown as.
            _ if kind == "ERROR" => json,
            (Representation::Table(_), Some(tables)) => {
                tables.at(Timestamp::now());
                if kind == "BOOKMARK" {
                    tables.bookmark(&json, first).into()
                } else {
                    tables.single(&json, first).into()
                }
            }
            (Representation::Metadata(version), _) => metadata::of(&json, version),
            _ => json,
        };
        match self.answer.format {
            Format::Json => {
                let mut line = BytesMut::new();
                frame::json_event(&mut line, kind, &shown);
                Ok(line.freeze())
            }
            Format::Yaml => {
                let event = json!({"type": kind, "object": parsed(&shown)?});
                let text = serde_saphyr::to_string(&event).map_err(internal)?;
                Ok(format!("---\n{text}").into())
            }
            Format::Protobuf => Ok(protobuf::watch_frame(kind, &message(&shown)?).into()),
        }
    }
}

/// What an object says it is.
#[derive(Deserialize)]
struct TypeMeta<'a> {
    #[serde(rename = "apiVersion", borrow)]
    api_version: Cow<'a, str>,
    #[serde(borrow)]
    kind: Cow<'a, str>,
}

impl<'a> TypeMeta<'a> {
    fn of(json: &'a [u8]) -> Result<Self, Status> {
        serde_json::from_slice(json).map_err(internal)
    }

    fn ty(&self) -> Result<TypeId, Status> {
        let (group, version) = self.api_version.rsplit_once('/').unwrap_or(("", &self.api_version));
        let ty = bosun_schema::type_of_kind(group, version, &self.kind);
        ty.ok_or_else(|| internal(format!("{} {} has no field numbers", self.api_version, self.kind)))
    }
}

/// An object as protobuf, in its envelope.
fn message(json: &[u8]) -> Result<Vec<u8>, Status> {
    let meta = TypeMeta::of(json)?;
    let message = protobuf::encode_json(meta.ty()?, json).map_err(internal)?;
    Ok(protobuf::seal(&meta.api_version, &meta.kind, &message))
}

fn list_head(kind: &str, api_version: &str, metadata: &Value) -> Vec<u8> {
    format!("{{\"kind\":\"{kind}\",\"apiVersion\":\"{api_version}\",\"metadata\":{metadata},\"items\":[").into_bytes()
}

fn parsed(json: &[u8]) -> Result<Value, Status> {
    serde_json::from_slice(json).map_err(internal)
}

fn internal(error: impl std::fmt::Display) -> Status {
    Status::new(Reason::InternalError, format!("an object can't be written: {error}"))
}

#[cfg(test)]
mod tests;
