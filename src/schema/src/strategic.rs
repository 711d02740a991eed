//! Strategic merge patch: a merge patch that knows which lists are merged, by which key, and takes directives.
//!
//! - `$patch: replace | delete` in an object: the object as the patch has it, or an empty one. In an item of a merged
//!   list: the list as the patch has it, or the item removed.
//! - `$retainKeys: [...]`: the object's other fields are removed.
//! - `$deleteFromPrimitiveList/<field>: [...]`: these values are removed from the list.
//! - `$setElementOrder/<field>: [...]`: the order of the list's items once merged ([`order`]).
//!
//! Null removes a field. Lists that are not merged are replaced.

mod order;

use serde_json::{Map, Value};

use crate::{
    patch::{PatchError, go},
    types::{Merge, Shape, TypeId, Types},
};

const DIRECTIVE: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const DELETE_FROM: &str = "$deleteFromPrimitiveList/";
const ORDER_OF: &str = "$setElementOrder/";

/// Applies a strategic merge patch to an object of type `ty`.
pub fn apply(types: &Types, ty: TypeId, target: Value, patch: &Value) -> Result<Value, PatchError> {
    let (Value::Object(mut target), Value::Object(patch)) = (target, patch) else {
        return Err(PatchError::Malformed("invalid JSON document".to_owned()));
    };
    let merger = Merger { types };
    merger.merge_object(Some(ty), &mut target, patch)?;
    Ok(Value::Object(target))
}

type Result<T, E = PatchError> = std::result::Result<T, E>;

struct Merger<'t> {
    types: &'t Types,
}

impl Merger<'_> {
    fn merge_object(
        &self,
        ty: Option<TypeId>,
        target: &mut Map<String, Value>,
        patch: &Map<String, Value>,
    ) -> Result<()> {
        if let Some(directive) = patch.get(DIRECTIVE) {
            *target = match directive.as_str() {
                Some("replace") => without_directive(patch),
                Some("delete") => Map::new(),
                _ => return Err(unknown_directive(directive, patch)),
            };
            return Ok(());
        }
        retain_keys(target, patch)?;
        for (name, values) in patch {
            let Some(field) = name.strip_prefix(ORDER_OF) else {
                continue;
            };
            self.set_order(ty, field, target, patch.get(field), array(values)?)?;
        }
        for (name, value) in patch {
            if name == RETAIN_KEYS || name.starts_with(ORDER_OF) {
                continue;
            }
            if let Some(field) = name.strip_prefix(DELETE_FROM) {
                if field.is_empty() {
                    return Err(PatchError::Malformed(
                        "invalid patch format of primitive list".to_owned(),
                    ));
                }
                delete_values(target, field, value)?;
            } else if !patch.contains_key(&[ORDER_OF, name].concat()) || value.is_null() {
                self.merge_field(ty, target, name, value)?;
            }
        }
        Ok(())
    }

    fn merge_field(
        &self,
        ty: Option<TypeId>,
        target: &mut Map<String, Value>,
        name: &str,
        patch: &Value,
    ) -> Result<()> {
        let (below, merge) = self.field(ty, name);
        match (target.get_mut(name), patch) {
            (_, Value::Null) => {
                target.shift_remove(name);
            }
            (Some(Value::Object(target)), Value::Object(patch)) => self.merge_object(below, target, patch)?,
            (Some(Value::Array(target)), Value::Array(patch)) => {
                *target = self.merge_list(below, &merge, std::mem::take(target), patch)?;
            }
            _ => {
                if let Some(value) = fresh(patch) {
                    target.insert(name.to_owned(), value);
                }
            }
        }
        Ok(())
    }

    fn merge_list(&self, ty: Option<TypeId>, merge: &Merge, target: Vec<Value>, patch: &[Value]) -> Result<Vec<Value>> {
        if !merge.merge {
            return Ok(patch.iter().filter_map(fresh).collect());
        }
        let Some(of_objects) = of_objects(target.iter().chain(patch))? else {
            return Ok(target);
        };
        if !of_objects {
            return Ok(order::values(&target, patch, patch));
        }
        let key = merge.key.as_deref().ok_or_else(|| {
            PatchError::Unprocessable("cannot merge lists without merge key for type struct".to_owned())
        })?;
        let before = order::Places::of(&target, Some(key));
        let (merged, patch) = self.merge_items(ty, key, target, patch)?;
        Ok(order::items(
            merged,
            &order::Places::of(&patch, Some(key)),
            &before,
            key,
        ))
    }

    /// The merged items, those of the target first, and the items of the patch that are no directives.
    fn merge_items(
        &self,
        ty: Option<TypeId>,
        key: &str,
        mut target: Vec<Value>,
        patch: &[Value],
    ) -> Result<(Vec<Value>, Vec<Value>)> {
        let items = self.items(ty);
        let (mut plain, mut deleted, mut replace) = (Vec::new(), Vec::new(), false);
        for item in patch {
            let map = item
                .as_object()
                .ok_or_else(|| bad_type(&Value::Object(Map::new()), item))?;
            match map.get(DIRECTIVE) {
                None => plain.push((order::identity(key_of(map, key)?), map)),
                Some(directive) => match directive.as_str() {
                    Some("delete") => deleted.push(order::identity(key_of(map, key)?)),
                    Some("replace") => replace = true,
                    Some("merge") => {
                        return Err(PatchError::Unprocessable(
                            "merging lists cannot yet be specified in the patch".to_owned(),
                        ));
                    }
                    _ => return Err(unknown_directive(directive, map)),
                },
            }
        }
        if replace {
            let items: Vec<Value> = plain.iter().map(|(_, item)| Value::Object(cleaned(item))).collect();
            return Ok((items, Vec::new()));
        }
        if !deleted.is_empty() {
            deleted.sort();
            target.retain(|item| {
                let key = item.get(key).map(order::identity);
                key.is_none_or(|key| deleted.binary_search(&key).is_err())
            });
        }
        let mut places = order::Places::of(&target, Some(key));
        for (identity, item) in &plain {
            if let Some(Value::Object(found)) = places.get(identity).map(|at| &mut target[at]) {
                self.merge_object(items, found, item)?;
            } else {
                places.push(identity.clone(), target.len());
                target.push(Value::Object(cleaned(item)));
            }
        }
        let plain = plain.into_iter().map(|(_, item)| Value::Object(item.clone())).collect();
        Ok((target, plain))
    }

    /// Merges the patch's list, if it has one, then brings the items into the order that is asked for.
    fn set_order(
        &self,
        ty: Option<TypeId>,
        field: &str,
        target: &mut Map<String, Value>,
        patch: Option<&Value>,
        wanted: &[Value],
    ) -> Result<()> {
        let (below, merge) = self.field(ty, field);
        let key = merge.key.as_deref();
        let patch = match patch {
            None | Some(Value::Null) => None,
            Some(list) => Some(array(list)?),
        };
        let before = match target.get(field) {
            None => None,
            Some(list) => Some(array(list)?.to_vec()),
        };
        if let Some(patch) = patch {
            order::check(patch, wanted, key)?;
        }
        let merged = match (before.clone(), patch) {
            (None, None) => return Ok(()),
            (Some(before), None) => before,
            (None, Some(patch)) => self.merge_list(below, &merge, Vec::new(), patch)?,
            (Some(before), Some(patch)) => self.merge_list(below, &merge, before, patch)?,
        };
        let before = before.unwrap_or_default();
        let ordered = match key {
            Some(key) => {
                for item in merged.iter().chain(wanted) {
                    key_of(
                        item.as_object()
                            .ok_or_else(|| bad_type(&Value::Object(Map::new()), item))?,
                        key,
                    )?;
                }
                order::items(
                    merged,
                    &order::Places::of(wanted, Some(key)),
                    &order::Places::of(&before, Some(key)),
                    key,
                )
            }
            None => order::plain(merged, wanted, &before),
        };
        target.insert(field.to_owned(), Value::Array(ordered));
        Ok(())
    }

    /// The type of a field and how it is merged; what no type describes is merged as plain JSON.
    fn field(&self, ty: Option<TypeId>, name: &str) -> (Option<TypeId>, Merge) {
        let Some(ty) = ty.map(|ty| self.types.get(ty)) else {
            return (None, Merge::default());
        };
        match (ty.field(name), &ty.shape) {
            (Some(field), _) => (Some(field.ty), field.merge.clone()),
            (None, Shape::Map { values, .. }) => (Some(*values), Merge::default()),
            _ => (None, Merge::default()),
        }
    }

    fn items(&self, ty: Option<TypeId>) -> Option<TypeId> {
        match self.types.get(ty?).shape {
            Shape::List { items, .. } => Some(items),
            _ => None,
        }
    }
}

/// Removes what `$retainKeys` doesn't list; it has to list all that the patch sets.
fn retain_keys(target: &mut Map<String, Value>, patch: &Map<String, Value>) -> Result<()> {
    let Some(keys) = patch.get(RETAIN_KEYS) else {
        return Ok(());
    };
    let invalid = || PatchError::Malformed("invalid patch format of retainKeys".to_owned());
    let keys = keys.as_array().ok_or_else(invalid)?;
    let keys: std::collections::BTreeSet<&str> = keys.iter().filter_map(Value::as_str).collect();
    let sets = patch.iter().filter(|(name, value)| {
        !(value.is_null() || *name == RETAIN_KEYS || name.starts_with(DELETE_FROM) || name.starts_with(ORDER_OF))
    });
    for (name, _) in sets {
        if !keys.contains(&**name) {
            return Err(invalid());
        }
    }
    target.retain(|name, _| keys.contains(&**name));
    Ok(())
}

fn delete_values(target: &mut Map<String, Value>, field: &str, values: &Value) -> Result<()> {
    let Some(list) = target.get_mut(field) else {
        return Ok(());
    };
    let Value::Array(list) = list else {
        return Err(bad_type(&Value::Array(Vec::new()), list));
    };
    let values: std::collections::BTreeSet<String> = array(values)?.iter().map(order::identity).collect();
    list.retain(|item| !values.contains(&order::identity(item)));
    Ok(())
}

/// A patch's value for where there was none: without nulls and directives; `None` if it only removes.
fn fresh(patch: &Value) -> Option<Value> {
    Some(match patch {
        Value::Null => return None,
        Value::Object(map) if map.get(DIRECTIVE).and_then(Value::as_str) == Some("delete") => return None,
        Value::Object(map) => Value::Object(cleaned(map)),
        Value::Array(list) => Value::Array(list.iter().filter_map(fresh).collect()),
        scalar => scalar.clone(),
    })
}

fn cleaned(patch: &Map<String, Value>) -> Map<String, Value> {
    let directive = |name: &str| {
        name == DIRECTIVE || name == RETAIN_KEYS || name.starts_with(DELETE_FROM) || name.starts_with(ORDER_OF)
    };
    patch
        .iter()
        .filter(|(name, _)| !directive(name))
        .filter_map(|(name, value)| Some((name.clone(), fresh(value)?)))
        .collect()
}

fn without_directive(patch: &Map<String, Value>) -> Map<String, Value> {
    let mut map = patch.clone();
    map.shift_remove(DIRECTIVE);
    cleaned(&map)
}

/// Whether these are all objects or all plain values; `None` if there are none.
fn of_objects<'v>(items: impl Iterator<Item = &'v Value> + Clone) -> Result<Option<bool>> {
    let Some(first) = items.clone().next() else {
        return Ok(None);
    };
    if first.is_array() {
        return Err(PatchError::Inapplicable("lists of lists are not supported".to_owned()));
    }
    for item in items.clone() {
        if go::type_of(item) != go::type_of(first) {
            let all = Value::Array(items.cloned().collect());
            return Err(PatchError::Unprocessable(format!(
                "list element types are not identical: {}",
                go::plain(&all)
            )));
        }
    }
    Ok(Some(first.is_object()))
}

fn array(value: &Value) -> Result<&[Value]> {
    match value {
        Value::Array(list) => Ok(list),
        other => Err(bad_type(&Value::Array(Vec::new()), other)),
    }
}

fn key_of<'m>(item: &'m Map<String, Value>, key: &str) -> Result<&'m Value> {
    item.get(key).ok_or_else(|| {
        PatchError::Unprocessable(format!(
            "map: {} does not contain declared merge key: {key}",
            go::plain(&Value::Object(item.clone()))
        ))
    })
}

fn bad_type(expected: &Value, actual: &Value) -> PatchError {
    PatchError::Unprocessable(format!(
        "expected a {}, but received a {}",
        go::type_of(expected),
        go::type_of(actual)
    ))
}

fn unknown_directive(directive: &Value, patch: &Map<String, Value>) -> PatchError {
    PatchError::Unprocessable(format!(
        "unknown patch type: {} in map: {}",
        go::plain(directive),
        go::plain(&Value::Object(patch.clone()))
    ))
}

#[cfg(test)]
mod tests;
