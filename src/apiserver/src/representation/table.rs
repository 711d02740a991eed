//! `Table`: what `kubectl get` prints, column for column.

use std::sync::Arc;

use bosun_kinds::columns::{self, Column};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::raw_metadata;
use crate::{
    Status,
    http::{negotiate::MetaVersion, query::Query},
    status::Reason,
};

/// Makes tables of one resource's objects.
#[derive(Clone)]
pub struct Tables {
    group: Arc<str>,
    kind: Arc<str>,
    version: MetaVersion,
    include: Include,
    now: Timestamp,
}

/// What a row carries beside its cells (`includeObject`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Include {
    None,
    Metadata,
    Object,
}

impl Tables {
    /// Tables of a kind as a query wants them; ages are as of `now`.
    pub fn new(
        (group, kind): (&Arc<str>, &Arc<str>),
        version: MetaVersion,
        query: &Query,
        now: Timestamp,
    ) -> Result<Self, Status> {
        let include = match query.get("includeObject") {
            None | Some("" | "Metadata") => Include::Metadata,
            Some("None") => Include::None,
            Some("Object") => Include::Object,
            Some(other) => {
                return Err(Status::new(
                    Reason::BadRequest,
                    format!("unrecognized includeObject value: {other:?}"),
                ));
            }
        };
        Ok(Self {
            group: group.clone(),
            kind: kind.clone(),
            version,
            include,
            now,
        })
    }

    /// What comes before the rows, to be followed by [`TAIL`]. Without `definitions` the client has them already.
    /// `metadata` is the list's, as JSON.
    pub fn head(&self, metadata: &str, definitions: bool) -> String {
        let definitions = if definitions {
            described(columns::columns(&self.group, &self.kind))
        } else {
            Value::Null
        };
        format!(
            "{{\"kind\":\"Table\",\"apiVersion\":\"{}\",\"metadata\":{metadata},\"columnDefinitions\":{definitions},\
             \"rows\":[",
            self.version.api_version()
        )
    }

    /// One row.
    pub fn row(&self, object: &[u8]) -> Vec<u8> {
        let value: Value = serde_json::from_slice(object).unwrap_or_default();
        let cells = Value::Array(columns::row(&self.group, &self.kind, &value, self.now));
        let mut row = format!("{{\"cells\":{cells}").into_bytes();
        match self.include {
            Include::None => {}
            Include::Metadata => {
                row.extend_from_slice(b",\"object\":");
                row.extend_from_slice(&super::metadata::of(object, self.version));
            }
            Include::Object => {
                row.extend_from_slice(b",\"object\":");
                row.extend_from_slice(object);
            }
        }
        row.push(b'}');
        row
    }

    /// A table of one object, with its version as the table's.
    pub fn single(&self, object: &[u8], definitions: bool) -> Vec<u8> {
        let mut table = self.head(&version_of(object), definitions).into_bytes();
        table.extend_from_slice(&self.row(object));
        table.extend_from_slice(TAIL.as_bytes());
        table
    }

    /// A table without rows that tells how far a watch has come.
    pub fn bookmark(&self, object: &[u8], definitions: bool) -> Vec<u8> {
        let mut table = self.head(raw_metadata(object), definitions).into_bytes();
        table.extend_from_slice(TAIL.as_bytes());
        table
    }

    /// As of another time: a watch's rows are as old as they are when they are sent.
    pub fn at(&mut self, now: Timestamp) {
        self.now = now;
    }
}

/// What comes after the rows.
pub const TAIL: &str = "]}";

/// A list's metadata with an object's version.
fn version_of(object: &[u8]) -> String {
    let metadata: Value = serde_json::from_str(raw_metadata(object)).unwrap_or_default();
    match metadata.get("resourceVersion") {
        Some(version) => json!({"resourceVersion": version}).to_string(),
        None => "{}".to_owned(),
    }
}

/// `columnDefinitions`.
fn described(columns: &[Column]) -> Value {
    let columns = columns.iter().map(|column| {
        json!({
            "name": column.name, "type": column.ty, "format": column.format, "description": column.description,
            "priority": column.priority,
        })
    });
    columns.collect()
}

#[cfg(test)]
mod tests;
