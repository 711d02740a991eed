//! Sets of an object's fields: what a manager owns, what a write changed.
//!
//! A set is a tree of sorted vectors, so that union, intersection and difference are merges of two runs. Semantics are
//! those of KEP-555: a field is a member by itself, whether or not fields below it are. [`codec`] is the `FieldsV1` form.

mod codec;
mod element;

use std::{cmp::Ordering, fmt};

pub use codec::FieldsError;
pub use element::Element;
pub(crate) use element::same;

/// A set of fields.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSet {
    /// Sorted by element; each is a member or has members below it.
    nodes: Vec<Node>,
}

/// A field on the way to members, or a member.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Node {
    element: Element,
    member: bool,
    children: FieldSet,
}

/// What a set says of one place: whether the place is a member, and the members below it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) member: bool,
    pub(crate) below: FieldSet,
}

impl Part {
    /// The place itself, nothing below it.
    pub(crate) fn leaf() -> Self {
        Self {
            member: true,
            below: FieldSet::default(),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        !self.member && self.below.is_empty()
    }
}

/// Collects the parts of one level in any order.
#[derive(Debug, Default)]
pub(crate) struct Level(Vec<Node>);

impl Level {
    /// Adds the part at `element`, which is made only if there is something to add.
    pub(crate) fn add(&mut self, part: Part, element: impl FnOnce() -> Element) {
        if !part.is_empty() {
            self.0.push(Node {
                element: element(),
                member: part.member,
                children: part.below,
            });
        }
    }

    /// The level as a set.
    pub(crate) fn finish(mut self) -> FieldSet {
        self.0.sort_by(|a, b| a.element.cmp(&b.element));
        self.0.dedup_by(|next, kept| {
            let twice = next.element == kept.element;
            if twice {
                kept.member |= next.member;
                kept.children = kept.children.union(&next.children);
            }
            twice
        });
        FieldSet { nodes: self.0 }
    }
}

/// What becomes of two nodes of one element, or of one without a counterpart.
type Join<'a> = &'a dyn Fn(Option<&Node>, Option<&Node>) -> Option<(bool, FieldSet)>;

impl FieldSet {
    /// The set without a member.
    pub const fn empty() -> Self {
        Self { nodes: Vec::new() }
    }

    /// The set of these paths of named fields, such as `["metadata", "name"]`.
    pub fn of(paths: &[&[&str]]) -> Self {
        let mut set = Self::default();
        for path in paths {
            set.insert(path.iter().map(|name| Element::Field((*name).into())));
        }
        set
    }

    /// Adds the field at `path`; the empty path, the object itself, is never a member.
    pub fn insert(&mut self, path: impl IntoIterator<Item = Element>) {
        let mut path = path.into_iter().peekable();
        let mut set = self;
        while let Some(element) = path.next() {
            let at = set.position(&element).unwrap_or_else(|at| {
                let node = Node {
                    element,
                    member: false,
                    children: Self::default(),
                };
                set.nodes.insert(at, node);
                at
            });
            let node = &mut set.nodes[at];
            if path.peek().is_none() {
                node.member = true;
                return;
            }
            set = &mut node.children;
        }
    }

    /// Whether there is no member.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// How many members there are.
    pub fn len(&self) -> usize {
        self.nodes
            .iter()
            .map(|node| usize::from(node.member) + node.children.len())
            .sum()
    }

    /// Whether the field at `path` is a member.
    pub fn contains(&self, path: &[Element]) -> bool {
        let mut set = self;
        for (depth, element) in path.iter().enumerate() {
            let Ok(at) = set.position(element) else {
                return false;
            };
            let node = &set.nodes[at];
            if depth + 1 == path.len() {
                return node.member;
            }
            set = &node.children;
        }
        false
    }

    /// The fields that are in either.
    pub fn union(&self, other: &Self) -> Self {
        self.join(other, &|a, b| match (a, b) {
            (Some(a), Some(b)) => Some((a.member || b.member, a.children.union(&b.children))),
            (Some(one), None) | (None, Some(one)) => Some((one.member, one.children.clone())),
            (None, None) => None,
        })
    }

    /// The fields that are in both.
    pub fn intersection(&self, other: &Self) -> Self {
        self.join(other, &|a, b| {
            let (a, b) = (a?, b?);
            Some((a.member && b.member, a.children.intersection(&b.children)))
        })
    }

    /// The fields that are in this set only. A member of `other` takes away itself, not what is below it.
    pub fn difference(&self, other: &Self) -> Self {
        self.join(other, &|a, b| {
            let a = a?;
            Some(match b {
                Some(b) => (a.member && !b.member, a.children.difference(&b.children)),
                None => (a.member, a.children.clone()),
            })
        })
    }

    /// The fields of this set that neither are in `other` nor are below one that is.
    pub fn without(&self, other: &Self) -> Self {
        self.join(other, &|a, b| {
            let a = a?;
            match b {
                Some(b) if b.member => None,
                Some(b) => Some((a.member, a.children.without(&b.children))),
                None => Some((a.member, a.children.clone())),
            }
        })
    }

    /// Calls `visit` with the path of each member: those of a level first, then those below.
    pub fn for_each(&self, visit: &mut dyn FnMut(&[&Element])) {
        fn walk<'s>(set: &'s FieldSet, path: &mut Vec<&'s Element>, visit: &mut dyn FnMut(&[&Element])) {
            for node in set.nodes.iter().filter(|node| node.member) {
                path.push(&node.element);
                visit(path);
                path.pop();
            }
            for node in &set.nodes {
                path.push(&node.element);
                walk(&node.children, path, visit);
                path.pop();
            }
        }
        walk(self, &mut Vec::new(), visit);
    }

    /// Whether the field at `element` is a member, and what is below it; `None` if neither is anything.
    pub(crate) fn at(&self, element: &Element) -> Option<(bool, &Self)> {
        let node = &self.nodes[self.position(element).ok()?];
        Some((node.member, &node.children))
    }

    /// Rebuilds each field's part; one that comes out empty is left out.
    pub(crate) fn rebuild(&self, mut part: impl FnMut(&Element, bool, &Self) -> Part) -> Self {
        let nodes = self.nodes.iter().filter_map(|node| {
            let part = part(&node.element, node.member, &node.children);
            (!part.is_empty()).then(|| Node {
                element: node.element.clone(),
                member: part.member,
                children: part.below,
            })
        });
        Self { nodes: nodes.collect() }
    }

    fn position(&self, element: &Element) -> Result<usize, usize> {
        self.nodes.binary_search_by(|node| node.element.cmp(element))
    }

    fn join(&self, other: &Self, both: Join<'_>) -> Self {
        let (mut left, mut right) = (self.nodes.iter().peekable(), other.nodes.iter().peekable());
        let mut nodes = Vec::with_capacity(self.nodes.len());
        loop {
            let order = match (left.peek(), right.peek()) {
                (Some(a), Some(b)) => a.element.cmp(&b.element),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (None, None) => return Self { nodes },
            };
            let a = if order.is_le() { left.next() } else { None };
            let b = if order.is_ge() { right.next() } else { None };
            if let Some((member, children)) = both(a, b)
                && (member || !children.is_empty())
                && let Some(node) = a.or(b)
            {
                nodes.push(Node {
                    element: node.element.clone(),
                    member,
                    children,
                });
            }
        }
    }
}

/// One path a line, such as `.spec.containers[name="web"].image`.
impl fmt::Display for FieldSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut lines = Vec::new();
        self.for_each(&mut |path| lines.push(path.iter().map(ToString::to_string).collect::<String>()));
        f.write_str(&lines.join("\n"))
    }
}

#[cfg(test)]
mod tests;
