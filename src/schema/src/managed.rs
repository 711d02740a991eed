//! Who manages which fields: `metadata.managedFields` ([KEP-555]).
//!
//! [`update`] keeps it for every write but apply, which [`crate::apply`] does. [`Managers`] is the decoded list.
//!
//! [KEP-555]: https://github.com/kubernetes/enhancements/tree/master/keps/sig-api-machinery/555-server-side-apply

mod entries;

use std::{borrow::Cow, sync::LazyLock};

use jiff::Timestamp;
use serde_json::{Map, Value};

pub use entries::{Entry, ManagedError, Managers, Operation};

use crate::{
    apply::{
        compare::{Comparison, compare},
        place::Place,
        sets::reconcile,
    },
    fieldset::FieldSet,
    types::{TypeId, Types},
};

/// At most as many managers are remembered for updates; beyond, the oldest of a version become one.
pub const MAX_UPDATE_MANAGERS: usize = 10;

/// Whose those are that became one.
const ANCIENT: &str = "ancient-changes";

/// Fields that nobody manages: the server's own, and those that name the object.
static UNMANAGED: LazyLock<FieldSet> = LazyLock::new(|| {
    FieldSet::of(&[
        &["apiVersion"],
        &["kind"],
        &["metadata"],
        &["metadata", "name"],
        &["metadata", "namespace"],
        &["metadata", "creationTimestamp"],
        &["metadata", "selfLink"],
        &["metadata", "uid"],
        &["metadata", "clusterName"],
        &["metadata", "generation"],
        &["metadata", "managedFields"],
        &["metadata", "resourceVersion"],
    ])
});

/// No field: what kinds without the subresource `status` reset.
pub static NOTHING: FieldSet = FieldSet::empty();

static STATUS: LazyLock<FieldSet> = LazyLock::new(|| FieldSet::of(&[&["status"]]));
static SPEC: LazyLock<FieldSet> = LazyLock::new(|| FieldSet::of(&[&["spec"]]));

/// The structure of the objects that are written.
#[derive(Clone, Copy)]
pub struct Model<'a> {
    /// The types.
    pub types: &'a Types,
    /// The objects' type.
    pub ty: TypeId,
    /// The version of the objects that are given, such as `apps/v1`.
    pub api_version: &'a str,
    /// The kind's other versions. Without, what was written in another version is taken as if in this one.
    pub versions: Option<&'a dyn Versions>,
    /// Fields that this (sub)resource doesn't write, so that nobody gets to own them by it; see [`reset_fields`].
    pub reset: &'a FieldSet,
}

/// Converts objects between the versions of one kind.
pub trait Versions {
    /// The structure of a version; `None` if it isn't served (any more): its owners are forgotten.
    fn model(&self, api_version: &str) -> Option<(&Types, TypeId)>;

    /// The object, whose `apiVersion` says which version it is in, in another.
    fn convert(&self, object: &Value, to: &str) -> Option<Value>;
}

/// Who writes, and how.
#[derive(Clone, Copy, Debug)]
pub struct Writer<'a> {
    /// The field manager's name; `unknown` if empty.
    pub manager: &'a str,
    /// `status`, `scale`…; empty for the object itself.
    pub subresource: &'a str,
    /// The time of the request.
    pub now: Timestamp,
}

/// What strategies of kinds that have the subresource `status` reset on writes by `subresource`, unless a kind says
/// otherwise: `status` on the object's own, `spec` on those of the status. Other kinds reset [`NOTHING`].
pub fn reset_fields(subresource: &str) -> &'static FieldSet {
    match subresource {
        "" => &STATUS,
        "status" => &SPEC,
        _ => &NOTHING,
    }
}

/// Notes in `new`'s `metadata.managedFields` who owns what once `new` takes the place of `old` (`None`: it is created).
///
/// What `new` brings itself as managed fields counts, so that they may be edited, unless it is nonsense; an empty list,
/// or one with an empty entry, makes the server forget all. If nothing changed, neither do they.
pub fn update(model: &Model<'_>, writer: &Writer<'_>, old: Option<&Value>, new: &mut Value) {
    let managers = match start(writer, old, new) {
        Start::From(managers) => managers,
        Start::Untracked => {
            remove_managed_fields(new);
            return;
        }
    };
    remove_managed_fields(new);
    let encoded = updated(model, writer, managers, old, new).encode();
    set_managed_fields(new, encoded);
}

enum Start {
    From(Managers),
    /// An object that was made without anybody being noted goes on so until it is applied to.
    Untracked,
}

fn start(writer: &Writer<'_>, old: Option<&Value>, new: &Value) -> Start {
    let live = || old.map(|old| Managers::decode(managed_fields(old)).unwrap_or_default());
    let given = managed_fields(new);
    let managers = if !writer.subresource.is_empty() {
        live()
    } else if is_reset(given) {
        None
    } else {
        match Managers::decode(given) {
            Ok(managers) if !managers.is_empty() => Some(managers),
            _ => live(),
        }
    };
    match managers.filter(|managers| !managers.is_empty()) {
        Some(managers) => Start::From(managers),
        None if old.is_some() => Start::Untracked,
        None => Start::From(Managers::default()),
    }
}

/// The managers after a write by update, create or patch.
pub(crate) fn updated(
    model: &Model<'_>,
    writer: &Writer<'_>,
    managers: Managers,
    old: Option<&Value>,
    new: &Value,
) -> Managers {
    let place = Place::Of(model.types, model.ty);
    let change = compare(place, old, Some(new)).without(model.reset);
    let written = managed(&change.written());
    let mut changes = Changes::new(model, old, new, change);
    let mut managers = managers.filter_map(|entry| {
        let change = changes.in_version(&entry.api_version)?;
        let lost = change.written().union(&change.removed);
        let fields = changes.reconciled(entry).difference(&lost);
        (!fields.is_empty()).then_some(fields)
    });
    if !written.is_empty() {
        let entry = Entry {
            manager: if writer.manager.is_empty() {
                "unknown"
            } else {
                writer.manager
            }
            .to_owned(),
            operation: Operation::Update,
            api_version: model.api_version.to_owned(),
            time: Some(writer.now),
            subresource: writer.subresource.to_owned(),
            fields: written,
        };
        managers.add(entry);
    }
    managers.cap();
    managers
}

/// What a write changed, in the words of each version that somebody owns fields in.
pub(crate) struct Changes<'a> {
    model: &'a Model<'a>,
    old: Option<&'a Value>,
    new: &'a Value,
    known: Vec<(String, Option<std::rc::Rc<Comparison>>)>,
}

impl<'a> Changes<'a> {
    pub(crate) fn new(model: &'a Model<'a>, old: Option<&'a Value>, new: &'a Value, change: Comparison) -> Self {
        Self {
            model,
            old,
            new,
            known: vec![(model.api_version.to_owned(), Some(change.into()))],
        }
    }

    /// `None` if there is no such version (any more).
    pub(crate) fn in_version(&mut self, api_version: &str) -> Option<std::rc::Rc<Comparison>> {
        let sought = match self.model.versions {
            Some(_) => api_version,
            None => self.model.api_version,
        };
        if let Some((_, change)) = self.known.iter().find(|(version, _)| version == sought) {
            return change.clone();
        }
        let change = self.convert(sought).map(Into::into);
        self.known.push((sought.to_owned(), change.clone()));
        change
    }

    fn convert(&self, api_version: &str) -> Option<Comparison> {
        let versions = self.model.versions?;
        let (types, ty) = versions.model(api_version)?;
        let old = match self.old {
            Some(old) => Some(versions.convert(old, api_version)?),
            None => None,
        };
        let new = versions.convert(self.new, api_version)?;
        Some(compare(Place::Of(types, ty), old.as_ref(), Some(&new)).without(self.model.reset))
    }

    /// The entry's fields by today's types.
    pub(crate) fn reconciled(&self, entry: &Entry) -> FieldSet {
        self.model
            .place_in(&entry.api_version)
            .map_or_else(|| entry.fields.clone(), |place| reconcile(place, &entry.fields))
    }
}

impl<'a> Model<'a> {
    /// The structure in a version.
    pub(crate) fn place_in(&self, api_version: &str) -> Option<Place<'a>> {
        match self.versions {
            Some(versions) if api_version != self.api_version => {
                let (types, ty) = versions.model(api_version)?;
                Some(Place::Of(types, ty))
            }
            _ => Some(Place::Of(self.types, self.ty)),
        }
    }

    /// An object of the version `from` in the version `to`.
    pub(crate) fn convert<'v>(&self, object: Cow<'v, Value>, from: &str, to: &str) -> Option<Cow<'v, Value>> {
        match self.versions {
            Some(versions) if from != to => versions.convert(&object, to).map(Cow::Owned),
            _ => Some(object),
        }
    }
}

/// What of these fields can have a manager.
pub(crate) fn managed(fields: &FieldSet) -> FieldSet {
    fields.difference(&UNMANAGED)
}

fn is_reset(given: Option<&Value>) -> bool {
    match given {
        Some(Value::Array(entries)) => match &entries[..] {
            [] => true,
            [Value::Object(one)] => one.values().all(Value::is_null),
            _ => false,
        },
        _ => false,
    }
}

/// `metadata.managedFields`, if there is something.
pub(crate) fn managed_fields(object: &Value) -> Option<&Value> {
    object
        .get("metadata")?
        .get("managedFields")
        .filter(|fields| !fields.is_null())
}

fn remove_managed_fields(object: &mut Value) {
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.shift_remove("managedFields");
    }
}

pub(crate) fn set_managed_fields(object: &mut Value, encoded: Option<Value>) {
    let Some(encoded) = encoded else {
        remove_managed_fields(object);
        return;
    };
    if let Value::Object(object) = object
        && let Value::Object(metadata) = object.entry("metadata").or_insert_with(|| Value::Object(Map::new()))
    {
        metadata.insert("managedFields".to_owned(), encoded);
    }
}

#[cfg(test)]
mod tests;
