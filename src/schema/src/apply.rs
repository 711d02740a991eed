//! Server-side apply (KEP-555): a manager's configuration laid over an object, field by field.
//!
//! A field that the configuration has is the manager's from then on. If another manager owns it with another value, that
//! is a conflict, unless forced. A field that the manager applied last time and doesn't any more goes, unless somebody
//! else owns it.
//!
//! - [`extract`]: the fields that a configuration has.
//! - [`compare`]: the fields in which two objects differ.
//! - [`merge`], [`remove`]: a configuration laid over an object; fields taken out of one.
//! - [`check`]: whether a configuration fits its type.
//! - [`sets`]: what sets mean under a type.
//! - [`place`]: how all of these see a value.
//! - [`client`]: objects that were applied by the client before.

pub(crate) mod check;
mod client;
pub(crate) mod compare;
mod conflict;
pub(crate) mod extract;
mod merge;
pub(crate) mod place;
mod remove;
pub(crate) mod sets;

use std::borrow::Cow;

use compare::compare;
pub use conflict::{Conflict, Conflicts};
use place::Place;
use serde_json::{Map, Value};

use crate::{
    fieldset::{FieldSet, same},
    managed::{
        Changes, Entry, ManagedError, Managers, Model, Operation, Writer, managed, managed_fields, set_managed_fields,
        updated,
    },
};

/// Whose those fields are that an object had before anybody applied to it.
const BEFORE_FIRST_APPLY: &str = "before-first-apply";

/// Why a configuration could not be applied.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// Others own some of the fields, with other values (409).
    #[error(transparent)]
    Conflicts(#[from] Conflicts),
    /// The configuration brings managed fields (400).
    #[error("metadata.managedFields must be nil")]
    ManagedFields,
    /// The configuration is of another version than the request (400).
    #[error("Incorrect version specified in apply patch. Specified patch version: {given}, expected: {expected}")]
    Version {
        /// The configuration's.
        given: String,
        /// The request's.
        expected: String,
    },
    /// The configuration doesn't fit the type: unknown fields, wrong types, items that can't be told apart (upstream
    /// answers 500).
    #[error("failed to create typed patch object ({object}): {faults}")]
    Untyped {
        /// `default/web; apps/v1, Kind=Deployment`
        object: String,
        /// What is wrong.
        faults: String,
    },
    /// The object's own managed fields can't be read (500).
    #[error("failed to decode managed fields: {0}")]
    Undecodable(#[from] ManagedError),
}

/// Applies `config` to `live` (`None`: it is created). The object comes with its managed fields; it equals `live`,
/// times included, if there was nothing to change.
///
/// `writer.manager` is the field manager's name. With `force`, fields are taken from whoever owns them.
pub fn apply(
    model: &Model<'_>,
    writer: &Writer<'_>,
    live: Option<&Value>,
    config: &Value,
    force: bool,
) -> Result<Value, ApplyError> {
    check_config(model, config)?;
    let nothing = Value::Object(Map::new());
    let known = live.map_or(Ok(Managers::default()), |live| Managers::decode(managed_fields(live)))?;
    let live = live.unwrap_or(&nothing);
    let managers = if known.is_empty() {
        let before = Writer {
            manager: BEFORE_FIRST_APPLY,
            ..*writer
        };
        updated(model, &before, known, None, live)
    } else {
        known
    };
    let applied = match applied(model, writer, live, config, managers.clone(), force) {
        // Who applied by the client before doesn't conflict with what that did.
        Err(ApplyError::Conflicts(conflicts)) if writer.manager == client::MANAGER => {
            let conflicts = client::remaining(model, live, conflicts);
            if conflicts.is_empty() {
                applied(model, writer, live, config, managers, true)?
            } else {
                return Err(conflicts.into());
            }
        }
        other => other?,
    };
    let (mut object, managers) = applied;
    if writer.manager == client::MANAGER {
        client::sync(&mut object, config);
    }
    set_managed_fields(&mut object, managers.encode());
    Ok(object)
}

fn check_config(model: &Model<'_>, config: &Value) -> Result<(), ApplyError> {
    let text = |path: &str| config.pointer(path).and_then(Value::as_str).unwrap_or_default();
    if text("/apiVersion") != model.api_version {
        return Err(ApplyError::Version {
            given: text("/apiVersion").to_owned(),
            expected: model.api_version.to_owned(),
        });
    }
    if managed_fields(config).is_some() {
        return Err(ApplyError::ManagedFields);
    }
    let faults = check::check(Place::Of(model.types, model.ty), config);
    if faults.is_empty() {
        return Ok(());
    }
    Err(ApplyError::Untyped {
        object: format!(
            "{}/{}; {}, Kind={}",
            text("/metadata/namespace"),
            text("/metadata/name"),
            model.api_version,
            text("/kind")
        ),
        faults: match &faults[..] {
            [one] => one.clone(),
            more => format!("errors:\n  {}", more.join("\n  ")),
        },
    })
}

fn applied(
    model: &Model<'_>,
    writer: &Writer<'_>,
    live: &Value,
    config: &Value,
    mut managers: Managers,
    force: bool,
) -> Result<(Value, Managers), ApplyError> {
    let place = Place::Of(model.types, model.ty);
    let mut object = live.clone();
    merge::merge(place, &mut object, config);
    keep_server_fields(&mut object, live);

    let entry = Entry {
        manager: writer.manager.to_owned(),
        operation: Operation::Apply,
        api_version: model.api_version.to_owned(),
        time: None,
        subresource: writer.subresource.to_owned(),
        fields: extract::extract(place, config).without(model.reset),
    };
    let last = managers.replace(entry.clone());
    if let Some(last) = &last {
        object = without_abandoned(model, object, last, &managers);
    }

    let change = compare(place, Some(live), Some(&object));
    let mut changes = Changes::new(model, Some(live), &object, change.without(model.reset));
    let mut conflicts = Vec::new();
    let mut managers = managers.filter_map(|other| {
        if other.is_same_manager(&entry) {
            let fields = managed(&other.fields);
            return (!fields.is_empty()).then_some(fields);
        }
        let change = changes.in_version(&other.api_version)?;
        let fields = changes.reconciled(other);
        let written = fields.intersection(&change.written());
        written.for_each(&mut |path| conflicts.push(Conflict::new(other, path)));
        let fields = fields.difference(&written).difference(&change.removed);
        (!fields.is_empty()).then_some(fields)
    });
    if !force && !conflicts.is_empty() {
        return Err(Conflicts::new(conflicts).into());
    }

    let changed = !same_but_managers(live, &object);
    managers.set_time(&entry, |now| {
        let before = last
            .as_ref()
            .filter(|last| !changed && managed(&last.fields) == now.fields && last.api_version == now.api_version);
        before.map_or(Some(writer.now), |last| last.time)
    });
    Ok((object, managers))
}

/// What the server alone sets stays, also where a manifest has `creationTimestamp: null`.
fn keep_server_fields(object: &mut Value, live: &Value) {
    let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) else {
        return;
    };
    for name in ["creationTimestamp", "generation", "selfLink"] {
        if let Some(value) = live.get("metadata").and_then(|metadata| metadata.get(name)) {
            metadata.insert(name.to_owned(), value.clone());
        }
    }
    // Another UID is a precondition that fails, and is left for that.
    for name in ["uid", "deletionTimestamp", "deletionGracePeriodSeconds"] {
        if let Some(value) = live.get("metadata").and_then(|metadata| metadata.get(name)) {
            metadata.entry(name).or_insert_with(|| value.clone());
        }
    }
}

/// Takes out of the object what the manager applied last time, doesn't now, and nobody else owns.
fn without_abandoned(model: &Model<'_>, object: Value, last: &Entry, managers: &Managers) -> Value {
    let version = &*last.api_version;
    let same_version = |entry: &Entry| model.versions.is_none() || entry.api_version == version;
    let now = managers.entries().iter().find(|entry| entry.is_same_manager(last));
    if now.is_some_and(|now| same_version(now) && last.fields.difference(&now.fields).is_empty()) {
        return object;
    }
    let Some(place) = model.place_in(version) else {
        return object;
    };
    let Some(merged) = model.convert(Cow::Borrowed(&object), model.api_version, version) else {
        return object;
    };
    let merged = merged.into_owned();
    let mut owned = FieldSet::default();
    for entry in managers.entries().iter().filter(|entry| same_version(entry)) {
        owned = owned.union(&entry.fields);
    }
    let there = sets::with_parents(place, &extract::extract(place, &merged));
    let last = sets::with_parents(place, &sets::reconcile(place, &last.fields));
    let abandoned = there.intersection(&last).difference(&sets::with_parents(place, &owned));
    if abandoned.is_empty() {
        return object;
    }
    let mut pruned = merged.clone();
    remove::remove(place, &mut pruned, &abandoned, &owned);

    // What others own in the words of other versions comes back.
    for entry in managers.entries().iter().filter(|entry| !same_version(entry)) {
        let to = &*entry.api_version;
        let converted = (
            model.place_in(to),
            model.convert(Cow::Borrowed(&merged), version, to),
            model.convert(Cow::Borrowed(&pruned), version, to),
        );
        let (Some(there), Some(whole), Some(left)) = converted else {
            continue;
        };
        let fields = |object: &Value| sets::with_parents(there, &extract::extract(there, object));
        let kept = fields(&left).union(&sets::with_parents(there, &entry.fields));
        let mut restored = whole.clone().into_owned();
        remove::remove(there, &mut restored, &fields(&whole).difference(&kept), &entry.fields);
        if let Some(back) = model.convert(Cow::Owned(restored), to, version) {
            pruned = back.into_owned();
        }
    }
    match model.convert(Cow::Owned(pruned), version, model.api_version) {
        Some(pruned) => pruned.into_owned(),
        None => object,
    }
}

/// Whether two objects are equal but for their managed fields.
fn same_but_managers(a: &Value, b: &Value) -> bool {
    same_but(Some(a), Some(b), "metadata") && same_but(a.get("metadata"), b.get("metadata"), "managedFields")
}

fn same_but(a: Option<&Value>, b: Option<&Value>, name: &str) -> bool {
    let (a, b) = (a.and_then(Value::as_object), b.and_then(Value::as_object));
    let (Some(a), Some(b)) = (a, b) else {
        return a.is_none() && b.is_none();
    };
    let count = |map: &Map<String, Value>| map.len() - usize::from(map.contains_key(name));
    count(a) == count(b)
        && a.iter()
            .filter(|(field, _)| *field != name)
            .all(|(field, a)| b.get(field).is_some_and(|b| same(a, b)))
}

#[cfg(test)]
mod tests;
