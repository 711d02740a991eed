//! What a write changed, as sets of fields.

use serde_json::{Map, Value};

use super::place::{Kind, Place, is_empty};
use crate::fieldset::{Element, FieldSet, Level, Part, same};

/// The fields in which two objects differ; none is in two of the sets.
#[derive(Debug, Default)]
pub(crate) struct Comparison {
    /// Those only the new one has.
    pub(crate) added: FieldSet,
    /// Those both have, with another value.
    pub(crate) modified: FieldSet,
    /// Those only the old one has.
    pub(crate) removed: FieldSet,
}

impl Comparison {
    /// All that the write gave a value.
    pub(crate) fn written(&self) -> FieldSet {
        self.added.union(&self.modified)
    }

    /// Forgets `fields` and what is below them.
    pub(crate) fn without(self, fields: &FieldSet) -> Self {
        if fields.is_empty() {
            return self;
        }
        Self {
            added: self.added.without(fields),
            modified: self.modified.without(fields),
            removed: self.removed.without(fields),
        }
    }
}

/// Compares two objects of one type; `None` is an object that isn't there.
pub(crate) fn compare(place: Place<'_>, old: Option<&Value>, new: Option<&Value>) -> Comparison {
    let nothing = Value::Object(Map::new());
    let parts = diff(place, Some(old.unwrap_or(&nothing)), Some(new.unwrap_or(&nothing)));
    Comparison {
        added: parts.added.below,
        modified: parts.modified.below,
        removed: parts.removed.below,
    }
}

#[derive(Default)]
struct Parts {
    added: Part,
    modified: Part,
    removed: Part,
}

#[derive(Default)]
struct Levels {
    added: Level,
    modified: Level,
    removed: Level,
}

impl Levels {
    fn add(&mut self, parts: Parts, element: impl Fn() -> Element) {
        self.added.add(parts.added, &element);
        self.modified.add(parts.modified, &element);
        self.removed.add(parts.removed, &element);
    }

    fn finish(self) -> Parts {
        let part = |level: Level| Part {
            member: false,
            below: level.finish(),
        };
        Parts {
            added: part(self.added),
            modified: part(self.modified),
            removed: part(self.removed),
        }
    }
}

fn diff(place: Place<'_>, old: Option<&Value>, new: Option<&Value>) -> Parts {
    let mut parts = match place.kind(old, new) {
        // Nothing inside either: what is left to differ is null, empty or absent.
        _ if is_empty(old) && is_empty(new) => leaf(old, new),
        Kind::Leaf => leaf(old, new),
        Kind::Fields => fields(place, old, new),
        Kind::Items(items, kind) => match (items.items(kind, old), items.items(kind, new)) {
            (Some(old), Some(new)) => list(items, old, new),
            _ => leaf(old, new),
        },
    };
    parts.added.member |= old.is_none();
    parts.removed.member |= new.is_none();
    parts
}

fn leaf(old: Option<&Value>, new: Option<&Value>) -> Parts {
    let mut parts = Parts::default();
    if let (Some(old), Some(new)) = (old, new)
        && !same(old, new)
    {
        parts.modified = Part::leaf();
    }
    parts
}

fn fields(place: Place<'_>, old: Option<&Value>, new: Option<&Value>) -> Parts {
    let (old, new) = (old.and_then(Value::as_object), new.and_then(Value::as_object));
    let mut levels = Levels::default();
    for (name, value) in old.into_iter().flatten() {
        let counterpart = new.and_then(|new| new.get(name));
        levels.add(diff(place.field(name).0, Some(value), counterpart), || {
            place.element(name)
        });
    }
    for (name, value) in new.into_iter().flatten() {
        if !old.is_some_and(|old| old.contains_key(name)) {
            levels.add(diff(place.field(name).0, None, Some(value)), || place.element(name));
        }
    }
    levels.finish()
}

fn list(items: Place<'_>, mut old: Vec<(Element, &Value)>, mut new: Vec<(Element, &Value)>) -> Parts {
    old.sort_by(|(a, _), (b, _)| a.cmp(b));
    new.sort_by(|(a, _), (b, _)| a.cmp(b));
    let mut levels = Levels::default();
    let (mut olds, mut news) = (
        old.chunk_by(|(a, _), (b, _)| a == b).peekable(),
        new.chunk_by(|(a, _), (b, _)| a == b).peekable(),
    );
    loop {
        let order = match (olds.peek(), news.peek()) {
            (Some(a), Some(b)) => a[0].0.cmp(&b[0].0),
            (Some(_), None) => std::cmp::Ordering::Less,
            (None, Some(_)) => std::cmp::Ordering::Greater,
            (None, None) => break,
        };
        let a = if order.is_le() { olds.next() } else { None }.unwrap_or_default();
        let b = if order.is_ge() { news.next() } else { None }.unwrap_or_default();
        let element = || a.first().or(b.first()).expect("one of both has the element").0.clone();
        levels.add(item(items, a, b), element);
    }
    levels.finish()
}

/// Items of one element, before and after: usually one each. Several are compared, and owned, as a whole.
fn item(items: Place<'_>, old: &[(Element, &Value)], new: &[(Element, &Value)]) -> Parts {
    match (old, new) {
        ([] | [_], [] | [_]) => diff(items, first(old), first(new)),
        ([_, _, ..], [_, _, ..]) => {
            let equal = old.len() == new.len() && old.iter().zip(new).all(|((_, a), (_, b))| same(a, b));
            Parts {
                modified: if equal { Part::default() } else { Part::leaf() },
                ..Parts::default()
            }
        }
        ([_, _, ..], _) => {
            let mut parts = first(new).map_or_else(Parts::default, |new| diff(items, None, Some(new)));
            parts.removed.member = new.is_empty();
            parts
        }
        (_, [_, _, ..]) => {
            let mut parts = first(old).map_or_else(Parts::default, |old| diff(items, Some(old), None));
            parts.removed.member = false;
            parts.added.member = true;
            parts
        }
    }
}

fn first<'v>(group: &[(Element, &'v Value)]) -> Option<&'v Value> {
    group.first().map(|(_, value)| *value)
}
