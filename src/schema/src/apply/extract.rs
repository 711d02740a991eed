//! The fields an object has.

use serde_json::Value;

use super::place::{Kind, Place};
use crate::fieldset::{FieldSet, Level, Part};

/// The set of all fields that `object` gives a value, as an applied configuration owns them.
pub(crate) fn extract(place: Place<'_>, object: &Value) -> FieldSet {
    part(place, object).below
}

fn part(place: Place<'_>, value: &Value) -> Part {
    match place.kind(Some(value), None) {
        Kind::Leaf => Part::leaf(),
        Kind::Fields => {
            let mut level = Level::default();
            for (name, value) in value.as_object().into_iter().flatten() {
                let (below, field) = place.field(name);
                let mut part = part(below, value);
                let empty = value.is_null() || value.as_object().is_some_and(serde_json::Map::is_empty);
                part.member |= empty || field.is_none();
                level.add(part, || place.element(name));
            }
            Part {
                member: false,
                below: level.finish(),
            }
        }
        Kind::Items(items, kind) => {
            let Some(mut list) = items.items(kind, Some(value)) else {
                return Part::leaf();
            };
            list.sort_by(|(a, _), (b, _)| a.cmp(b));
            let mut level = Level::default();
            for group in list.chunk_by(|(a, _), (b, _)| a == b) {
                // What occurs twice is owned as a whole: nobody could say which of the two is meant below.
                let mut part = match group {
                    [(_, item)] => part(items, item),
                    _ => Part::leaf(),
                };
                part.member = true;
                level.add(part, || group[0].0.clone());
            }
            Part {
                member: false,
                below: level.finish(),
            }
        }
    }
}
