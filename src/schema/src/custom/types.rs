//! A schema as [`Types`], which apply, patches and OpenAPI go by.

use std::{collections::HashMap, sync::Arc};

use super::schema::{Additional, Kind, Node};
use crate::types::{Field, ListKind, Merge, Shape, Type, TypeId, Types};

/// What every object's metadata is.
const METADATA: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";

/// The types of a whole object, and its own.
pub(super) fn types(node: &Node) -> (Types, TypeId) {
    let mut maker = Maker {
        types: Types::default(),
        imported: HashMap::new(),
    };
    let ty = maker.node(node, true);
    (maker.types, ty)
}

struct Maker {
    types: Types,
    imported: HashMap<TypeId, TypeId>,
}

impl Maker {
    fn node(&mut self, node: &Node, whole: bool) -> TypeId {
        let shape = self.shape(node, whole || node.embedded);
        self.types.add(Type {
            name: None,
            shape,
            nullable: node.nullable,
        })
    }

    fn shape(&mut self, node: &Node, whole: bool) -> Shape {
        if node.int_or_string {
            return Shape::IntOrString;
        }
        match node.kind {
            None => Shape::Any,
            Some(Kind::Boolean) => Shape::Boolean,
            Some(Kind::Integer) => Shape::Integer {
                wide: node.checks.format.as_deref() != Some("int32"),
            },
            Some(Kind::Number) => Shape::Number,
            Some(Kind::String) => Shape::String,
            Some(Kind::Array) => Shape::List {
                items: match &node.items {
                    Some(items) => self.node(items, false),
                    None => self.any(),
                },
                kind: node.list.clone().unwrap_or(ListKind::Atomic),
            },
            Some(Kind::Object) => self.object(node, whole),
        }
    }

    fn object(&mut self, node: &Node, whole: bool) -> Shape {
        match &node.additional {
            Some(Additional::Of(values)) if node.properties.is_empty() => Shape::Map {
                values: self.node(values, false),
                atomic: node.atomic,
            },
            Some(Additional::Any(true)) if node.properties.is_empty() => Shape::Map {
                values: self.any(),
                atomic: node.atomic,
            },
            additional => {
                let mut fields: Vec<Field> = Vec::new();
                for (name, property) in &node.properties {
                    if !(whole && name == "metadata") {
                        let required = node.checks.required.contains(name);
                        let ty = self.node(property, false);
                        fields.push(field(name, ty, required, property.default.clone()));
                    }
                }
                if whole {
                    let text = self.types.add(Type {
                        name: None,
                        shape: Shape::String,
                        nullable: false,
                    });
                    for name in ["apiVersion", "kind"] {
                        if !node.properties.contains_key(name) {
                            fields.push(field(name, text, false, None));
                        }
                    }
                    let builtin = Types::builtin();
                    let metadata = match builtin.find(METADATA) {
                        Some(metadata) => self.import(builtin, metadata),
                        None => self.any(),
                    };
                    fields.push(field("metadata", metadata, false, None));
                }
                fields.sort_by(|a, b| a.name.cmp(&b.name));
                Shape::Object {
                    fields,
                    open: node.preserve || matches!(additional, Some(Additional::Any(true))),
                    atomic: node.atomic,
                }
            }
        }
    }

    fn any(&mut self) -> TypeId {
        self.types.add(Type {
            name: None,
            shape: Shape::Any,
            nullable: true,
        })
    }

    /// A built-in type, with all it refers to.
    fn import(&mut self, from: &Arc<Types>, ty: TypeId) -> TypeId {
        if let Some(known) = self.imported.get(&ty) {
            return *known;
        }
        let original = from.get(ty).clone();
        let id = self.types.add(Type {
            shape: Shape::Any,
            ..original.clone()
        });
        self.imported.insert(ty, id);
        let shape = match original.shape {
            Shape::Object {
                mut fields,
                open,
                atomic,
            } => {
                for field in &mut fields {
                    field.ty = self.import(from, field.ty);
                }
                Shape::Object { fields, open, atomic }
            }
            Shape::Map { values, atomic } => Shape::Map {
                values: self.import(from, values),
                atomic,
            },
            Shape::List { items, kind } => Shape::List {
                items: self.import(from, items),
                kind,
            },
            scalar => scalar,
        };
        self.types.set(id, shape);
        id
    }
}

fn field(name: &str, ty: TypeId, required: bool, default: Option<serde_json::Value>) -> Field {
    Field {
        name: name.into(),
        ty,
        required,
        default,
        merge: Merge::default(),
        number: 0,
    }
}
