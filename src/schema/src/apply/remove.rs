//! Taking fields out of an object.

use serde_json::Value;

use super::place::{Kind, Place, is_empty};
use crate::fieldset::{Element, FieldSet};

/// Takes every member of `fields` out of `object`, with all below it. What is left without anything inside goes too,
/// unless somebody owns it as it is (`owned`).
pub(crate) fn remove(place: Place<'_>, object: &mut Value, fields: &FieldSet, owned: &FieldSet) {
    if fields.is_empty() {
        return;
    }
    match place.kind(Some(object), None) {
        Kind::Leaf => {}
        Kind::Fields => {
            if let Some(map) = object.as_object_mut() {
                map.retain(|name, value| keep((fields, owned), &place.element(name), place.field(name).0, value));
            }
        }
        Kind::Items(items, kind) => {
            if let Some(list) = object.as_array_mut() {
                list.retain_mut(|item| match items.item(kind, item) {
                    Ok(element) => keep((fields, owned), &element, items, item),
                    Err(_) => true,
                });
            }
        }
    }
}

fn keep((fields, owned): (&FieldSet, &FieldSet), element: &Element, place: Place<'_>, value: &mut Value) -> bool {
    match fields.at(element) {
        None => true,
        Some((true, _)) => false,
        Some((false, _)) if is_empty(Some(value)) => true,
        Some((false, below)) => {
            let nobody = FieldSet::empty();
            let (whole, owned) = owned.at(element).unwrap_or((false, &nobody));
            remove(place, value, below, owned);
            whole || !is_empty(Some(value))
        }
    }
}
