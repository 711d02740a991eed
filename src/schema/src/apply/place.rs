//! How server-side apply sees a value: as a leaf that has one owner, or as parts that each have theirs.

use std::sync::Arc;

use serde_json::Value;

use crate::{
    fieldset::Element,
    types::{Field, ListKind, Shape, TypeId, Types},
};

/// A place in a structure.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Place<'t> {
    /// One that has a type.
    Of(&'t Types, TypeId),
    /// One below a type that takes anything: objects are granular, all else is a leaf.
    Free,
}

/// What is at a place.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind<'t> {
    /// Owned as a whole.
    Leaf,
    /// An object or a map, each field for itself.
    Fields,
    /// A list whose items are told apart; the items' place, and how.
    Items(Place<'t>, &'t ListKind),
}

impl<'t> Place<'t> {
    fn shape(self) -> Option<&'t Shape> {
        match self {
            Self::Of(types, ty) => Some(&types.get(ty).shape),
            Self::Free => None,
        }
    }

    /// What values `a` and `b` are here. Values that don't fit the type are leaves.
    pub(crate) fn kind(self, a: Option<&Value>, b: Option<&Value>) -> Kind<'t> {
        let all = |fits: fn(&Value) -> bool| [a, b].into_iter().flatten().all(|value| value.is_null() || fits(value));
        match self.shape() {
            Some(Shape::Object { atomic: false, .. } | Shape::Map { atomic: false, .. }) if all(Value::is_object) => {
                Kind::Fields
            }
            Some(Shape::List { items, kind }) if *kind != ListKind::Atomic && all(Value::is_array) => match self {
                Self::Of(types, _) => Kind::Items(Place::Of(types, *items), kind),
                Self::Free => Kind::Leaf,
            },
            None | Some(Shape::Any) if all(Value::is_object) && [a, b].into_iter().flatten().any(Value::is_object) => {
                Kind::Fields
            }
            _ => Kind::Leaf,
        }
    }

    /// The place of a field, and what the type says of the field if it names it.
    pub(crate) fn field(self, name: &str) -> (Self, Option<&'t Field>) {
        let Self::Of(types, ty) = self else {
            return (Self::Free, None);
        };
        let ty = types.get(ty);
        match (&ty.shape, ty.field(name)) {
            (_, Some(field)) => (Self::Of(types, field.ty), Some(field)),
            (Shape::Map { values, .. }, None) => (Self::Of(types, *values), None),
            _ => (Self::Free, None),
        }
    }

    /// The element that leads to a field.
    pub(crate) fn element(self, name: &str) -> Element {
        Element::Field(
            self.field(name)
                .1
                .map_or_else(|| name.into(), |field| field.name.clone()),
        )
    }

    /// Whether null is a value of its own here.
    pub(crate) fn nullable(self) -> bool {
        match self {
            Self::Of(types, ty) => types.get(ty).nullable,
            Self::Free => true,
        }
    }

    /// Whether a single owner has all that is here.
    pub(crate) fn atomic(self) -> bool {
        matches!(
            self.shape(),
            Some(
                Shape::Object { atomic: true, .. }
                    | Shape::Map { atomic: true, .. }
                    | Shape::List {
                        kind: ListKind::Atomic,
                        ..
                    }
            )
        )
    }

    /// What is below `element`.
    pub(crate) fn below(self, element: &Element) -> Self {
        match (self, element) {
            (_, Element::Field(name)) => self.field(name).0,
            (Self::Of(types, ty), _) => match &types.get(ty).shape {
                Shape::List { items, .. } => Self::Of(types, *items),
                _ => Self::Free,
            },
            (Self::Free, _) => Self::Free,
        }
    }

    /// The element that leads to an item of a list of this kind, this being the items' place; or why there is none.
    pub(crate) fn item(self, kind: &ListKind, item: &Value) -> Result<Element, String> {
        let keys = match kind {
            ListKind::Atomic => return Err("invalid indexing of non-associative list".to_owned()),
            ListKind::Set => {
                let what = match item {
                    Value::Object(_) => "associative list without keys has an element that's a map type",
                    Value::Array(_) => "not supported: associative list with lists as elements",
                    Value::Null => "associative list without keys has an element that's an explicit null",
                    scalar => return Ok(Element::Value(scalar.clone())),
                };
                return Err(what.to_owned());
            }
            ListKind::Map(keys) => keys,
        };
        if item.is_null() {
            return Err("associative list with keys may not have a null element".to_owned());
        }
        let map = item
            .as_object()
            .ok_or("associative list with keys may not have non-map elements")?;
        let mut values: Vec<(Arc<str>, Value)> = Vec::with_capacity(keys.len());
        for key in keys {
            let default = || self.field(key).1.and_then(|field| field.default.as_ref());
            let value = map.get(&**key).or_else(default).ok_or_else(|| {
                format!("associative list with keys has an element that omits key field {key:?} (and doesn't have default value)")
            })?;
            values.push((key.clone(), value.clone()));
        }
        values.sort_by(|(a, _), (b, _)| a.cmp(b));
        Ok(Element::Key(values.into()))
    }

    /// The items of a list with the elements that lead to them; `None` if one has none.
    pub(crate) fn items<'v>(self, kind: &ListKind, list: Option<&'v Value>) -> Option<Vec<(Element, &'v Value)>> {
        let items = list.and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        items
            .iter()
            .map(|item| Some((self.item(kind, item).ok()?, item)))
            .collect()
    }
}

/// Absent, null, or without anything inside.
pub(crate) fn is_empty(value: Option<&Value>) -> bool {
    match value {
        None | Some(Value::Null) => true,
        Some(Value::Object(map)) => map.is_empty(),
        Some(Value::Array(list)) => list.is_empty(),
        Some(_) => false,
    }
}
