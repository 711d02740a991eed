//! What sets of fields mean under a type.

use super::place::Place;
use crate::fieldset::{Element, FieldSet, Part};

/// The set with every named field on the way to a member made a member too: who owns the last field of a structure
/// owns the structure.
pub(crate) fn with_parents(place: Place<'_>, set: &FieldSet) -> FieldSet {
    set.rebuild(|element, member, below| {
        let named = match element {
            Element::Field(name) => place.field(name).1.is_some(),
            _ => false,
        };
        Part {
            member: member || named && !below.is_empty(),
            below: with_parents(place.below(element), below),
        }
    })
}

/// The set as it would be had it been made with today's types: where a part became one whole, its owner has the whole.
pub(crate) fn reconcile(place: Place<'_>, set: &FieldSet) -> FieldSet {
    set.rebuild(|element, member, below| {
        let inside = place.below(element);
        if inside.atomic() && !below.is_empty() {
            return Part::leaf();
        }
        let below = match inside {
            Place::Of(..) => reconcile(inside, below),
            Place::Free => below.clone(),
        };
        Part { member, below }
    })
}
