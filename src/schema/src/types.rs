//! The model of a structure: an arena of types that refer to each other, as types may contain themselves.

use std::{collections::HashMap, sync::Arc};

use serde_json::Value;

/// A type's place in its [`Types`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TypeId(pub u32);

/// Types that refer to each other: all built-in ones, or those of one custom resource's version.
#[derive(Debug, Default)]
pub struct Types {
    types: Vec<Type>,
    by_name: HashMap<Arc<str>, TypeId>,
}

/// One type.
#[derive(Clone, Debug, PartialEq)]
pub struct Type {
    /// As in OpenAPI, such as `io.k8s.api.core.v1.PodSpec`; `None` if it was written in place.
    pub name: Option<Arc<str>>,
    /// What its values look like.
    pub shape: Shape,
    /// Whether null is a value of its own (custom resources only: elsewhere null means absent).
    pub nullable: bool,
}

/// What a type's values look like.
#[derive(Clone, Debug, PartialEq)]
pub enum Shape {
    /// Any JSON; nothing is pruned below (`x-kubernetes-preserve-unknown-fields`, `RawExtension`).
    Any,
    /// `true` or `false`.
    Boolean,
    /// A whole number; the wider of the two if `wide` (int64), otherwise int32.
    Integer {
        /// 64 bits.
        wide: bool,
    },
    /// Any number.
    Number,
    /// Text.
    String,
    /// A whole number or text (`x-kubernetes-int-or-string`).
    IntOrString,
    /// An amount of a resource: written as text or number, kept as canonical text.
    Quantity,
    /// Bytes, as base64 text.
    Bytes,
    /// RFC 3339 with seconds, or with microseconds if `micro`.
    Time {
        /// `MicroTime`.
        micro: bool,
    },
    /// Named fields.
    Object {
        /// In the order of their names.
        fields: Vec<Field>,
        /// Whether fields that are not named are kept (`x-kubernetes-preserve-unknown-fields`).
        open: bool,
        /// Whether apply owns it as a whole (`x-kubernetes-map-type: atomic`).
        atomic: bool,
    },
    /// Any names, each with a value of one type (`additionalProperties`).
    Map {
        /// The values' type.
        values: TypeId,
        /// Whether apply owns it as a whole.
        atomic: bool,
    },
    /// Values of one type, in order.
    List {
        /// The items' type.
        items: TypeId,
        /// How items are told apart.
        kind: ListKind,
    },
}

/// How a list's items are told apart (`x-kubernetes-list-type`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListKind {
    /// Not at all: the list has one owner.
    Atomic,
    /// By their value.
    Set,
    /// By these fields (`x-kubernetes-list-map-keys`).
    Map(Vec<Arc<str>>),
}

/// One field of an object.
#[derive(Clone, Debug, PartialEq)]
pub struct Field {
    /// Its JSON name.
    pub name: Arc<str>,
    /// Its type.
    pub ty: TypeId,
    /// Whether it must be there.
    pub required: bool,
    /// What it is when absent.
    pub default: Option<Value>,
    /// How a strategic merge patch treats it.
    pub merge: Merge,
    /// Its number in the protobuf encoding; 0 if it has none.
    pub number: u32,
}

/// How a strategic merge patch treats a field (`x-kubernetes-patch-strategy`, `x-kubernetes-patch-merge-key`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(clippy::struct_field_names, reason = "upstream's word for one of its strategies")]
pub struct Merge {
    /// Lists are merged rather than replaced.
    pub merge: bool,
    /// `retainKeys`: what the patch doesn't list is removed.
    pub retain_keys: bool,
    /// The field that tells the items of a list of objects apart; `None` for lists of plain values.
    pub key: Option<Arc<str>>,
}

impl Types {
    /// Adds a type, and its name if it has one.
    pub fn add(&mut self, ty: Type) -> TypeId {
        let id = TypeId(u32::try_from(self.types.len()).expect("fewer than four billion types"));
        if let Some(name) = &ty.name {
            self.by_name.insert(name.clone(), id);
        }
        self.types.push(ty);
        id
    }

    /// Replaces a type that was added before what it refers to.
    pub fn set(&mut self, id: TypeId, shape: Shape) {
        self.types[id.0 as usize].shape = shape;
    }

    /// A type by its place.
    pub fn get(&self, id: TypeId) -> &Type {
        &self.types[id.0 as usize]
    }

    /// A type by its name.
    pub fn find(&self, name: &str) -> Option<TypeId> {
        self.by_name.get(name).copied()
    }
}

impl Type {
    /// The field of this name, if this is an object that has it.
    pub fn field(&self, name: &str) -> Option<&Field> {
        match &self.shape {
            Shape::Object { fields, .. } => fields
                .binary_search_by(|field| (*field.name).cmp(name))
                .ok()
                .map(|at| &fields[at]),
            _ => None,
        }
    }
}
