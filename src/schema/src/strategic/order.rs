//! The order of a merged list: the wanted one for the items it names, the old one for the others, interleaved so that
//! an item stays before those it was before.

use std::collections::HashMap;

use serde_json::Value;

use super::{DIRECTIVE, bad_type, key_of};
use crate::patch::{PatchError, go};

/// What a value or an item's key is told apart by.
pub(super) fn identity(value: &Value) -> String {
    value.to_string()
}

/// Where in a list each item is, by its key or its value; the first of those that are alike.
#[derive(Debug, Default)]
pub(super) struct Places(HashMap<String, usize>);

impl Places {
    pub(super) fn of(list: &[Value], key: Option<&str>) -> Self {
        let mut places = Self::default();
        for (at, item) in list.iter().enumerate() {
            if let Some(identity) = of_item(item, key) {
                places.push(identity, at);
            }
        }
        places
    }

    pub(super) fn push(&mut self, identity: String, at: usize) {
        self.0.entry(identity).or_insert(at);
    }

    pub(super) fn get(&self, identity: &str) -> Option<usize> {
        self.0.get(identity).copied()
    }
}

fn of_item(item: &Value, key: Option<&str>) -> Option<String> {
    match key {
        Some(key) => item.get(key).map(identity),
        None => Some(identity(item)),
    }
}

/// Brings objects into order.
pub(super) fn items(merged: Vec<Value>, wanted: &Places, before: &Places, key: &str) -> Vec<Value> {
    arrange(merged, wanted, before, Some(key))
}

/// The plain values of both lists, each once, in order.
pub(super) fn values(target: &[Value], patch: &[Value], wanted: &[Value]) -> Vec<Value> {
    let mut seen = std::collections::HashSet::new();
    let merged = target.iter().chain(patch).filter(|value| seen.insert(identity(value)));
    plain(merged.cloned().collect(), wanted, target)
}

/// Brings plain values into order.
pub(super) fn plain(merged: Vec<Value>, wanted: &[Value], before: &[Value]) -> Vec<Value> {
    arrange(merged, &Places::of(wanted, None), &Places::of(before, None), None)
}

fn arrange(merged: Vec<Value>, wanted: &Places, before: &Places, key: Option<&str>) -> Vec<Value> {
    struct Item {
        value: Value,
        wanted: Option<usize>,
        before: Option<usize>,
    }
    let size = merged.len();
    let located = merged.into_iter().map(|value| {
        let identity = of_item(&value, key).unwrap_or_default();
        Item {
            value,
            wanted: wanted.get(&identity),
            before: before.get(&identity),
        }
    });
    let (mut named, mut others): (Vec<Item>, Vec<Item>) = located.partition(|item| item.wanted.is_some());
    named.sort_by_key(|item| item.wanted);
    others.sort_by_key(|item| item.before);
    let (mut named, mut others) = (named.into_iter().peekable(), others.into_iter().peekable());
    let mut out = Vec::with_capacity(size);
    loop {
        let other_first = match (others.peek(), named.peek()) {
            (Some(other), Some(named)) => match (other.before, named.before) {
                (Some(other), Some(named)) => other < named,
                _ => false,
            },
            (Some(_), None) => true,
            (None, Some(_)) => false,
            (None, None) => return out,
        };
        let next = if other_first { others.next() } else { named.next() };
        out.extend(next.map(|item| item.value));
    }
}

/// A patch's items have to be among those that are ordered, and in the same order.
pub(super) fn check(patch: &[Value], wanted: &[Value], key: Option<&str>) -> Result<(), PatchError> {
    if wanted.is_empty() || patch.is_empty() {
        return Ok(());
    }
    let identity_of = |item: &Value| -> Result<String, PatchError> {
        match key {
            None => Ok(identity(item)),
            Some(key) => {
                let map = item
                    .as_object()
                    .ok_or_else(|| bad_type(&Value::Object(serde_json::Map::new()), item))?;
                key_of(map, key).map(identity)
            }
        }
    };
    let mut rest = wanted.iter();
    for item in patch.iter().filter(|item| item.get(DIRECTIVE).is_none()) {
        let sought = identity_of(item)?;
        loop {
            let Some(next) = rest.next() else {
                return Err(PatchError::Unprocessable(format!(
                    "The order in patch list:\n{}\n doesn't match $setElementOrder list:\n{}\n",
                    go::plain(&Value::Array(patch.to_vec())),
                    go::plain(&Value::Array(wanted.to_vec()))
                )));
            };
            if identity_of(next)? == sought {
                break;
            }
        }
    }
    Ok(())
}
