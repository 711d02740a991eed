//! A definition's status: which of its names are free, whether the resource is established, what versions were stored.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::{Definition, Names};

/// Names of a group that others have: built-in resources and other definitions.
#[derive(Clone, Debug, Default)]
pub struct Taken {
    /// Plurals, singulars and short names.
    pub resources: BTreeSet<String>,
    /// Kinds and list kinds.
    pub kinds: BTreeSet<String>,
}

impl Taken {
    /// Takes another's names.
    pub fn add(&mut self, names: &Names) {
        let singular = [&names.plural, &names.singular].into_iter().chain(&names.short_names);
        self.resources.extend(singular.filter(|name| !name.is_empty()).cloned());
        self.kinds.extend([names.kind.clone(), names.list_kind.clone()]);
    }
}

impl Definition {
    /// The status, given what it was: names that are free are accepted; once all are, the resource is established and
    /// stays so.
    pub fn status(&self, taken: &Taken, old: Option<&Value>, now: Timestamp) -> Value {
        let mut status = match old {
            Some(Value::Object(old)) => old.clone(),
            _ => Map::new(),
        };
        let old_names = status.get("acceptedNames").cloned().unwrap_or_else(|| json!({}));
        let (accepted, conflict) = accept(&self.names, taken, &old_names);
        status.insert("acceptedNames".to_owned(), accepted);
        let mut conditions = match status.remove("conditions") {
            Some(Value::Array(conditions)) => conditions,
            _ => Vec::new(),
        };
        match &conflict {
            None => set(
                &mut conditions,
                now,
                "NamesAccepted",
                true,
                "NoConflicts",
                "no conflicts found",
            ),
            Some((reason, message)) => set(&mut conditions, now, "NamesAccepted", false, reason, message),
        }
        let established = conditions
            .iter()
            .any(|condition| is(condition, "type", "Established") && is(condition, "status", "True"));
        if !established {
            let (reason, message) = match conflict {
                None => ("InitialNamesAccepted", "the initial names have been accepted"),
                Some(_) => ("NotAccepted", "not all names are accepted"),
            };
            set(&mut conditions, now, "Established", conflict.is_none(), reason, message);
        }
        status.insert("conditions".to_owned(), Value::Array(conditions));
        let mut stored = match status.remove("storedVersions") {
            Some(Value::Array(stored)) => stored,
            _ => Vec::new(),
        };
        if let Some(storage) = self.storage().map(|version| Value::from(version.name.clone()))
            && !stored.contains(&storage)
        {
            stored.push(storage);
        }
        status.insert("storedVersions".to_owned(), Value::Array(stored));
        Value::Object(status)
    }
}

/// The names that may be used; those that are taken stay what they were. And the last conflict, for the condition.
fn accept(names: &Names, taken: &Taken, old: &Value) -> (Value, Option<(&'static str, String)>) {
    let mut accepted = old.as_object().cloned().unwrap_or_default();
    let mut conflict = None;
    let singles = [
        ("plural", &names.plural, &taken.resources, "PluralConflict"),
        ("singular", &names.singular, &taken.resources, "SingularConflict"),
        ("kind", &names.kind, &taken.kinds, "KindConflict"),
        ("listKind", &names.list_kind, &taken.kinds, "ListKindConflict"),
    ];
    let in_use = |name: &str| format!("{name:?} is already in use");
    for (field, name, taken, reason) in singles {
        if taken.contains(name) {
            conflict = Some((reason, in_use(name)));
        } else {
            accepted.insert(field.to_owned(), name.clone().into());
        }
    }
    let used: Vec<String> = names
        .short_names
        .iter()
        .filter(|name| taken.resources.contains(*name))
        .map(|name| in_use(name))
        .collect();
    match &used[..] {
        [] if names.short_names.is_empty() => {
            accepted.shift_remove("shortNames");
        }
        [] => {
            accepted.insert("shortNames".to_owned(), names.short_names.clone().into());
        }
        [one] => conflict = Some(("ShortNamesConflict", one.clone())),
        more => conflict = Some(("ShortNamesConflict", format!("[{}]", more.join(", ")))),
    }
    if names.categories.is_empty() {
        accepted.shift_remove("categories");
    } else {
        accepted.insert("categories".to_owned(), names.categories.clone().into());
    }
    (Value::Object(accepted), conflict)
}

fn is(condition: &Value, name: &str, value: &str) -> bool {
    condition.get(name).and_then(Value::as_str) == Some(value)
}

fn set(conditions: &mut Vec<Value>, now: Timestamp, kind: &str, holds: bool, reason: &str, message: &str) {
    let holds = if holds { "True" } else { "False" };
    let known = conditions.iter_mut().find(|condition| is(condition, "type", kind));
    let since = known
        .as_ref()
        .filter(|known| is(known, "status", holds))
        .and_then(|known| known.get("lastTransitionTime").cloned())
        .unwrap_or_else(|| now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string().into());
    let condition = json!({
        "lastTransitionTime": since, "message": message, "reason": reason, "status": holds, "type": kind,
    });
    match known {
        Some(known) => *known = condition,
        None => conditions.push(condition),
    }
}
