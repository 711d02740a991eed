//! Laying a configuration over an object.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::place::{Kind, Place, is_empty};
use crate::{fieldset::Element, types::ListKind};

/// Gives every field of `config` to `live`; nothing is taken away. `config` has been checked before.
///
/// Items that only `live` has keep their places; where the two disagree on order, `config`'s counts.
pub(crate) fn merge(place: Place<'_>, live: &mut Value, config: &Value) {
    if is_empty(Some(live)) {
        *live = fresh(place, config);
        return;
    }
    let kind = place.kind(Some(live), Some(config));
    match (kind, &mut *live, config) {
        (Kind::Fields, Value::Object(live), Value::Object(config)) => fields(place, live, config),
        (Kind::Items(items, kind), Value::Array(list), Value::Array(config)) => {
            if let Some(merged) = merged(items, kind, list, config) {
                *live = merged;
            }
        }
        // Null takes nothing from parts that have owners each.
        (Kind::Fields | Kind::Items(..), _, _) => {}
        (Kind::Leaf, _, _) => *live = fresh(place, config),
    }
}

fn fields(place: Place<'_>, live: &mut Map<String, Value>, config: &Map<String, Value>) {
    for (name, config) in config {
        let (below, _) = place.field(name);
        match live.get_mut(name) {
            Some(value) if config.is_null() && !below.nullable() => {
                let parts = !matches!(below.kind(Some(value), None), Kind::Leaf);
                if !parts || is_empty(Some(value)) {
                    live.shift_remove(name);
                }
            }
            Some(value) => merge(below, value, config),
            None if config.is_null() && !below.nullable() => {}
            None => {
                live.insert(name.clone(), fresh(below, config));
            }
        }
    }
}

/// A value for where there was none: nulls that mean absence are left out.
fn fresh(place: Place<'_>, config: &Value) -> Value {
    match config {
        Value::Object(map) => {
            let kept = map.iter().filter_map(|(name, value)| {
                let (below, _) = place.field(name);
                (!value.is_null() || below.nullable()).then(|| (name.clone(), fresh(below, value)))
            });
            Value::Object(kept.collect())
        }
        Value::Array(list) => {
            let items = place.below(&Element::Index(0));
            Value::Array(list.iter().map(|item| fresh(items, item)).collect())
        }
        scalar => scalar.clone(),
    }
}

/// Merges two lists whose items are told apart; `None` if they are not.
fn merged(items: Place<'_>, kind: &ListKind, live: &[Value], config: &[Value]) -> Option<Value> {
    let elements =
        |list: &[Value]| -> Option<Vec<Element>> { list.iter().map(|item| items.item(kind, item).ok()).collect() };
    let (live_elements, config_elements) = (elements(live)?, elements(config)?);
    let in_config: BTreeSet<&Element> = config_elements.iter().collect();
    // An item that occurs twice is not merged into: the configuration's takes the place of both.
    let mut in_live: BTreeMap<&Element, Option<&Value>> = BTreeMap::new();
    for (element, item) in live_elements.iter().zip(live) {
        in_live
            .entry(element)
            .and_modify(|item| *item = None)
            .or_insert(Some(item));
    }
    let merged_item = |at: usize| match in_live.get(&config_elements[at]).copied().flatten() {
        Some(live) => {
            let mut item = live.clone();
            merge(items, &mut item, &config[at]);
            item
        }
        None => fresh(items, &config[at]),
    };

    let mut shared = config_elements.iter().filter(|element| in_live.contains_key(element));
    let mut next_shared = shared.next();
    let mut done: BTreeSet<&Element> = BTreeSet::new();
    let mut out = Vec::with_capacity(live.len().max(config.len()));
    let (mut l, mut c) = (0, 0);
    while l < live.len() || c < config.len() {
        if let (Some(ours), Some(theirs)) = (live_elements.get(l), config_elements.get(c)) {
            if ours == theirs {
                out.push(merged_item(c));
                done.insert(theirs);
                next_shared = shared.next();
                (l, c) = (l + 1, c + 1);
                continue;
            }
            if in_config.contains(ours) && next_shared.is_some_and(|next| next != ours) {
                // Both have it, but the configuration has another one first.
                l += 1;
                continue;
            }
        }
        if let Some(ours) = live_elements.get(l) {
            if !in_config.contains(ours) {
                out.push(live[l].clone());
                l += 1;
                continue;
            }
            if done.contains(ours) {
                l += 1;
            }
        }
        if let Some(theirs) = config_elements.get(c) {
            out.push(merged_item(c));
            done.insert(theirs);
            if next_shared == Some(theirs) {
                next_shared = shared.next();
            }
            c += 1;
        }
    }
    Some(Value::Array(out))
}
