//! The entries of `metadata.managedFields`.

use std::cmp::Ordering;

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::{ANCIENT, MAX_UPDATE_MANAGERS};
use crate::fieldset::{FieldSet, FieldsError};

/// How a manager came to own its fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    /// By server-side apply: what it doesn't apply any more goes.
    Apply,
    /// By writing them.
    Update,
}

impl Operation {
    /// As in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Apply => "Apply",
            Self::Update => "Update",
        }
    }
}

/// One manager and its fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its name.
    pub manager: String,
    /// How it wrote.
    pub operation: Operation,
    /// The version that the fields are those of.
    pub api_version: String,
    /// When it last changed something.
    pub time: Option<Timestamp>,
    /// `status`, `scale`…; empty for the object itself.
    pub subresource: String,
    /// The fields.
    pub fields: FieldSet,
}

impl Entry {
    /// Whether both are one manager's: appliers are the same in each version.
    pub(crate) fn is_same_manager(&self, other: &Self) -> bool {
        self.order(other).is_eq()
    }

    /// The order that messages list managers in.
    pub(crate) fn order(&self, other: &Self) -> Ordering {
        self.identity().cmp(&other.identity())
    }

    fn identity(&self) -> (&str, Operation, &str, &str) {
        let version = match self.operation {
            Operation::Apply => "",
            Operation::Update => &*self.api_version,
        };
        (&self.manager, self.operation, version, &self.subresource)
    }

    fn seconds(&self) -> i64 {
        self.time.map_or(0, Timestamp::as_second)
    }
}

/// Why a list is not one of managed fields.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ManagedError {
    /// Not a list of objects with texts where they belong.
    #[error("metadata.managedFields[{0}]: not an entry of managed fields")]
    NotAnEntry(usize),
    /// Neither Apply nor Update.
    #[error("operation must be `Apply` or `Update`")]
    Operation,
    /// No version.
    #[error("apiVersion must not be empty")]
    Version,
    /// A time that is none.
    #[error("metadata.managedFields[{0}].time: not an RFC 3339 time")]
    Time(usize),
    /// No type of fields.
    #[error("missing fieldsType in managed fields entry {0}")]
    NoFieldsType(usize),
    /// Another type than `FieldsV1`.
    #[error("invalid fieldsType {1:?} in managed fields entry {0}")]
    FieldsType(usize, String),
    /// Fields that are none.
    #[error("error decoding set of managed fields entry {0}")]
    Fields(usize, #[source] FieldsError),
}

/// An object's managers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Managers(Vec<Entry>);

impl Managers {
    /// Reads `metadata.managedFields`.
    pub fn decode(value: Option<&Value>) -> Result<Self, ManagedError> {
        let entries = match value {
            None | Some(Value::Null) => return Ok(Self::default()),
            Some(Value::Array(entries)) => entries,
            Some(_) => return Err(ManagedError::NotAnEntry(0)),
        };
        let entries = entries.iter().enumerate().map(|(at, entry)| {
            let entry = entry.as_object().ok_or(ManagedError::NotAnEntry(at))?;
            decode(at, entry)
        });
        let mut entries = entries.collect::<Result<Vec<_>, _>>()?;
        // The last of several entries of one manager counts.
        entries.reverse();
        entries.sort_by(Entry::order);
        entries.dedup_by(|a, b| a.is_same_manager(b));
        Ok(Self(entries))
    }

    /// Writes `metadata.managedFields`; `None` if there is nobody.
    pub fn encode(mut self) -> Option<Value> {
        self.sort();
        let entries: Vec<Value> = self.0.iter().map(encode).collect();
        (!entries.is_empty()).then_some(Value::Array(entries))
    }

    /// The managers.
    pub fn entries(&self) -> &[Entry] {
        &self.0
    }

    /// Whether there is nobody.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Applies before updates, then the oldest first.
    pub(crate) fn sort(&mut self) {
        self.0.sort_by(|a, b| {
            a.operation
                .cmp(&b.operation)
                .then(a.seconds().cmp(&b.seconds()))
                .then_with(|| a.manager.cmp(&b.manager))
                .then_with(|| a.api_version.cmp(&b.api_version))
                .then_with(|| a.subresource.cmp(&b.subresource))
        });
    }

    /// The managers with other fields; those without are forgotten.
    pub(crate) fn filter_map(self, mut fields: impl FnMut(&Entry) -> Option<FieldSet>) -> Self {
        let entries = self.0.into_iter().filter_map(|entry| {
            let fields = fields(&entry)?;
            Some(Entry { fields, ..entry })
        });
        Self(entries.collect())
    }

    /// Adds fields to a manager's, who wrote last now.
    pub(crate) fn add(&mut self, mut entry: Entry) {
        if let Some(at) = self.0.iter().position(|known| known.is_same_manager(&entry)) {
            let known = self.0.remove(at);
            entry.fields = entry.fields.union(&known.fields);
        }
        self.0.push(entry);
    }

    /// Puts an entry in place of the manager's, and returns that.
    pub(crate) fn replace(&mut self, entry: Entry) -> Option<Entry> {
        let known = self.0.iter().position(|known| known.is_same_manager(&entry));
        let known = known.map(|at| self.0.remove(at));
        self.0.push(entry);
        known
    }

    /// Sets the time of the entry's manager.
    pub(crate) fn set_time(&mut self, entry: &Entry, time: impl FnOnce(&Entry) -> Option<Timestamp>) {
        if let Some(known) = self.0.iter_mut().find(|known| known.is_same_manager(entry)) {
            known.time = time(known);
        }
    }

    /// Makes one of the oldest managers of a version that updated, until there are no more than may be.
    pub(crate) fn cap(&mut self) {
        let mut count = self
            .0
            .iter()
            .filter(|entry| entry.operation == Operation::Update)
            .count();
        if count <= MAX_UPDATE_MANAGERS {
            return;
        }
        self.sort();
        let first = self.0.partition_point(|entry| entry.operation == Operation::Apply);
        let mut merged: Vec<Entry> = Vec::new();
        for entry in self.0.split_off(first) {
            let bucket = merged.iter_mut().find(|known| known.api_version == entry.api_version);
            match bucket {
                Some(bucket) if count > MAX_UPDATE_MANAGERS => {
                    ANCIENT.clone_into(&mut bucket.manager);
                    bucket.subresource.clear();
                    bucket.fields = bucket.fields.union(&entry.fields);
                    bucket.time = entry.time;
                    count -= 1;
                }
                _ => merged.push(entry),
            }
        }
        self.0.append(&mut merged);
    }
}

fn decode(at: usize, entry: &Map<String, Value>) -> Result<Entry, ManagedError> {
    let text = |name: &str| match entry.get(name) {
        None | Some(Value::Null) => Ok(""),
        Some(Value::String(text)) => Ok(&**text),
        Some(_) => Err(ManagedError::NotAnEntry(at)),
    };
    let operation = match text("operation")? {
        "Apply" => Operation::Apply,
        "Update" => Operation::Update,
        _ => return Err(ManagedError::Operation),
    };
    let api_version = text("apiVersion")?;
    if api_version.is_empty() {
        return Err(ManagedError::Version);
    }
    match text("fieldsType")? {
        "FieldsV1" => {}
        "" => return Err(ManagedError::NoFieldsType(at)),
        other => return Err(ManagedError::FieldsType(at, other.to_owned())),
    }
    let time = match text("time")? {
        "" => None,
        time => Some(time.parse().map_err(|_| ManagedError::Time(at))?),
    };
    let fields = match entry.get("fieldsV1") {
        None | Some(Value::Null) => FieldSet::default(),
        Some(fields) => FieldSet::decode(fields).map_err(|error| ManagedError::Fields(at, error))?,
    };
    Ok(Entry {
        manager: text("manager")?.to_owned(),
        operation,
        api_version: api_version.to_owned(),
        time,
        subresource: text("subresource")?.to_owned(),
        fields,
    })
}

fn encode(entry: &Entry) -> Value {
    let mut map = Map::new();
    let mut set = |name: &str, value: Value| map.insert(name.to_owned(), value);
    if !entry.manager.is_empty() {
        set("manager", entry.manager.clone().into());
    }
    set("operation", entry.operation.as_str().into());
    set("apiVersion", entry.api_version.clone().into());
    if let Some(time) = entry.time {
        set("time", time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string().into());
    }
    set("fieldsType", "FieldsV1".into());
    set("fieldsV1", entry.fields.encode());
    if !entry.subresource.is_empty() {
        set("subresource", entry.subresource.clone().into());
    }
    Value::Object(map)
}
