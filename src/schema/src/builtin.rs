//! The built-in types, made from the table of facts at first use.

use std::{
    collections::HashMap,
    sync::{Arc, LazyLock},
};

use serde_json::Value;

use crate::{
    facts::{self, FieldFacts, PREFIX, TypeExpr, TypeFacts, Upstream},
    types::{Field, ListKind, Merge, Shape, Type, TypeId, Types},
};

struct Builtin {
    types: Arc<Types>,
    /// By group, version and kind.
    kinds: HashMap<(&'static str, &'static str, &'static str), TypeId>,
}

static BUILTIN: LazyLock<Builtin> = LazyLock::new(|| Builder::default().build(&facts::types()));

impl Types {
    /// Every type of Kubernetes 1.36's own API, read from the table of facts at first use (milliseconds, about a
    /// megabyte) and kept.
    ///
    /// Some exist only as messages or options and aren't in OpenAPI, such as `CreateOptions` or
    /// `PartialObjectMetadata`; [`hidden`](crate::builtin::hidden) tells them.
    pub fn builtin() -> &'static Arc<Types> {
        &BUILTIN.types
    }
}

/// The type of a built-in kind: of objects, lists, options (`meta.k8s.io/v1` if no group knows them) and reviews.
pub fn type_of_kind(group: &str, version: &str, kind: &str) -> Option<TypeId> {
    // A map keyed by borrowed static text can be asked with shorter-lived text.
    let kinds: &HashMap<(&str, &str, &str), TypeId> = &BUILTIN.kinds;
    kinds.get(&(group, version, kind)).copied()
}

/// Whether OpenAPI leaves this built-in type out.
pub fn hidden(name: &str) -> bool {
    static HIDDEN: LazyLock<Vec<&str>> =
        LazyLock::new(|| facts::types().iter().filter(|ty| ty.hidden).map(|ty| ty.name).collect());
    name.strip_prefix(PREFIX).is_some_and(|name| HIDDEN.contains(&name))
}

fn shape(ty: &TypeFacts, fields: Vec<Field>) -> Shape {
    match ty.form {
        None => Shape::Object {
            fields,
            open: false,
            atomic: ty.atomic,
        },
        Some("quantity") => Shape::Quantity,
        Some("time") => Shape::Time { micro: false },
        Some("microtime") => Shape::Time { micro: true },
        Some("intorstring") => Shape::IntOrString,
        // What a patch, a set of fields, an embedded object or a schema written several ways holds is told apart
        // by who uses it.
        Some(_) => Shape::Any,
    }
}

/// What is shared while the types are made: text, and types written in place.
#[derive(Default)]
struct Builder {
    types: Types,
    texts: HashMap<&'static str, Arc<str>>,
    named: HashMap<&'static str, TypeId>,
    in_place: HashMap<InPlace, TypeId>,
    defaults: HashMap<(&'static str, &'static str), Value>,
}

/// A type without a name: the same one twice is one.
#[derive(PartialEq, Eq, Hash)]
struct InPlace {
    expr: TypeExpr,
    list: Option<&'static str>,
    keys: Vec<&'static str>,
    atomic: bool,
}

impl Builder {
    fn build(mut self, facts: &[TypeFacts]) -> Builtin {
        for fact in facts::upstream() {
            if let Upstream::Default { ty, field, value } = fact {
                self.defaults.insert((ty, field), value);
            }
        }
        for ty in facts {
            let name = Some(Arc::from(format!("{PREFIX}{}", ty.name)));
            let id = self.types.add(Type {
                name,
                shape: Shape::Any,
                nullable: false,
            });
            self.named.insert(ty.name, id);
        }
        // Fields that see a named type otherwise than it is declared come last, when that type is whole.
        let mut otherwise = Vec::new();
        for ty in facts {
            let mut fields = Vec::with_capacity(ty.fields.len());
            for field in &ty.fields {
                if let (TypeExpr::Named(name), Some(map)) = (&field.ty, field.map) {
                    otherwise.push((ty.name, field.name, *name, map == "atomic"));
                }
                fields.push(self.field(ty.name, field));
            }
            fields.sort_by(|a, b| a.name.cmp(&b.name));
            let shape = shape(ty, fields);
            self.types.set(self.named[ty.name], shape);
        }
        for (ty, field, of, atomic) in otherwise {
            self.see_otherwise(ty, field, of, atomic);
        }
        let kinds = facts
            .iter()
            .flat_map(|ty| {
                ty.kinds
                    .iter()
                    .map(|kind| ((kind.group, kind.version, kind.kind), self.named[ty.name]))
            })
            .collect();
        Builtin {
            types: Arc::new(self.types),
            kinds,
        }
    }

    fn field(&mut self, ty: &'static str, field: &FieldFacts) -> Field {
        let strategy = field.strategy.unwrap_or_default();
        let in_place = InPlace {
            expr: field.ty.clone(),
            list: field.list,
            keys: field.keys.clone(),
            atomic: field.map == Some("atomic"),
        };
        Field {
            name: self.text(field.name),
            ty: self.type_of(in_place),
            required: field.required,
            default: self.defaults.remove(&(ty, field.name)),
            merge: Merge {
                merge: strategy.split(',').any(|word| word == "merge"),
                retain_keys: strategy.split(',').any(|word| word == "retainKeys"),
                key: field.merge_key.map(|key| self.text(key)),
            },
            number: match field.number[..] {
                [number] => number,
                _ => 0,
            },
        }
    }

    fn type_of(&mut self, in_place: InPlace) -> TypeId {
        if let TypeExpr::Named(name) = in_place.expr {
            return self.named[name];
        }
        if let Some(id) = self.in_place.get(&in_place) {
            return *id;
        }
        let plain = |expr: &TypeExpr| InPlace {
            expr: expr.clone(),
            list: None,
            keys: Vec::new(),
            atomic: false,
        };
        let shape = match &in_place.expr {
            TypeExpr::Bool => Shape::Boolean,
            TypeExpr::Int32 => Shape::Integer { wide: false },
            TypeExpr::Int64 => Shape::Integer { wide: true },
            TypeExpr::Double => Shape::Number,
            TypeExpr::String => Shape::String,
            TypeExpr::Bytes => Shape::Bytes,
            TypeExpr::Named(_) => unreachable!("named types are found above"),
            TypeExpr::List { items, .. } => Shape::List {
                items: self.type_of(plain(items)),
                kind: match in_place.list {
                    Some("set") => ListKind::Set,
                    Some("map") => ListKind::Map(in_place.keys.iter().map(|key| self.text(key)).collect()),
                    _ => ListKind::Atomic,
                },
            },
            TypeExpr::Map(values) => Shape::Map {
                values: self.type_of(plain(values)),
                atomic: in_place.atomic,
            },
        };
        let id = self.types.add(Type {
            name: None,
            shape,
            nullable: false,
        });
        self.in_place.insert(in_place, id);
        id
    }

    /// Gives one field a copy of a named type that apply owns as a whole, or doesn't, contrary to its declaration.
    fn see_otherwise(&mut self, ty: &'static str, field: &str, of: &'static str, atomic: bool) {
        let mut copy = Type {
            name: None,
            ..self.types.get(self.named[of]).clone()
        };
        if let Shape::Object { atomic: owned, .. } = &mut copy.shape {
            *owned = atomic;
        }
        let copy = self.types.add(copy);
        let mut shape = self.types.get(self.named[ty]).shape.clone();
        if let Shape::Object { fields, .. } = &mut shape {
            for declared in fields.iter_mut().filter(|declared| *declared.name == *field) {
                declared.ty = copy;
            }
        }
        self.types.set(self.named[ty], shape);
    }

    fn text(&mut self, text: &'static str) -> Arc<str> {
        self.texts.entry(text).or_insert_with(|| Arc::from(text)).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ty(name: &str) -> &'static Type {
        let types = Types::builtin();
        types.get(types.find(&format!("{PREFIX}{name}")).expect("a built-in type"))
    }

    fn shape_of(ty: &Type, field: &str) -> &'static Shape {
        &Types::builtin().get(ty.field(field).expect("a field").ty).shape
    }

    #[test]
    fn every_type_in_the_table_becomes_one_whose_fields_are_found_by_name() {
        for fact in facts::types() {
            let ty = ty(fact.name);
            assert_eq!(
                fact.form.is_none(),
                matches!(ty.shape, Shape::Object { .. }),
                "{}",
                fact.name
            );
            for field in fact.fields {
                assert!(ty.field(field.name).is_some(), "{}.{}", fact.name, field.name);
            }
        }
    }

    #[test]
    fn every_key_of_a_list_is_a_plain_field_of_its_items() {
        let types = Types::builtin();
        for fact in facts::types() {
            for field in fact.fields.iter().filter(|field| !field.keys.is_empty()) {
                let Shape::List { items, .. } = shape_of(ty(fact.name), field.name) else {
                    panic!("{}.{} has keys but is no list", fact.name, field.name);
                };
                for key in &field.keys {
                    let key = types.get(*items).field(key).expect("a key is a field");
                    assert!(matches!(
                        types.get(key.ty).shape,
                        Shape::String | Shape::Integer { .. } | Shape::Boolean
                    ));
                }
            }
        }
    }

    #[test]
    fn every_hand_kept_default_is_a_fields() {
        for fact in facts::upstream() {
            if let Upstream::Default { ty: of, field, value } = fact {
                assert_eq!(
                    ty(of).field(field).expect("a field").default,
                    Some(value),
                    "{of}.{field}"
                );
            }
        }
    }

    #[test]
    fn a_pods_containers_merge_by_name_and_their_ports_by_two_keys() {
        let spec = ty("api.core.v1.PodSpec");
        let containers = spec.field("containers").expect("containers");
        assert!(containers.required && containers.merge.merge && containers.number == 2);
        assert_eq!(containers.merge.key.as_deref(), Some("name"));
        let Shape::List { items, kind } = shape_of(spec, "containers") else {
            panic!("a list")
        };
        assert_eq!(*kind, ListKind::Map(vec!["name".into()]));
        let container = Types::builtin().get(*items);
        assert_eq!(container.name.as_deref(), Some("io.k8s.api.core.v1.Container"));
        let Shape::List { items, kind } = shape_of(container, "ports") else {
            panic!("a list")
        };
        assert_eq!(*kind, ListKind::Map(vec!["containerPort".into(), "protocol".into()]));
        let protocol = Types::builtin().get(*items).field("protocol").expect("protocol");
        assert_eq!(protocol.default, Some("TCP".into()));
        let strategy = ty("api.apps.v1.DeploymentSpec").field("strategy").expect("strategy");
        assert!(strategy.merge.retain_keys && !strategy.merge.merge);
    }

    #[test]
    fn a_field_may_see_a_type_otherwise_than_it_is_declared() {
        let atomic = |shape: &Shape| {
            matches!(
                shape,
                Shape::Object { atomic: true, .. } | Shape::Map { atomic: true, .. }
            )
        };
        assert!(atomic(&ty("api.core.v1.ObjectReference").shape));
        assert!(!atomic(shape_of(ty("api.core.v1.PersistentVolumeSpec"), "claimRef")));
        assert!(atomic(shape_of(ty("api.core.v1.ServiceSpec"), "selector")));
        assert!(!atomic(shape_of(
            ty("apimachinery.pkg.apis.meta.v1.ObjectMeta"),
            "labels"
        )));
    }

    #[test]
    fn kinds_are_found_by_group_version_and_kind() {
        let found = |group: &str, version: &str, kind: &str| {
            type_of_kind(group, version, kind).and_then(|id| Types::builtin().get(id).name.clone())
        };
        assert_eq!(
            found("apps", "v1", "Deployment").as_deref(),
            Some("io.k8s.api.apps.v1.Deployment")
        );
        assert_eq!(
            found("", "v1", "Status").as_deref(),
            Some("io.k8s.apimachinery.pkg.apis.meta.v1.Status")
        );
        assert!(found("batch", "v1", "DeleteOptions").is_some());
        assert!(found("apps", "v1", "Pod").is_none());
        assert!(hidden("io.k8s.apimachinery.pkg.apis.meta.v1.CreateOptions"));
        assert!(!hidden("io.k8s.api.core.v1.Pod"));
    }
}
