//! What holds of any configurations, on a type that has every kind of structure.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{super::*, writer};
use crate::{
    managed::{NOTHING, update},
    types::{Field, ListKind, Merge, Shape, Type, TypeId, Types},
};

/// A type of every kind of structure, with a number under `number`.
pub(super) fn small(types: &mut Types, number: &str) -> TypeId {
    let mut add = |shape: Shape| {
        types.add(Type {
            name: None,
            shape,
            nullable: false,
        })
    };
    let text = add(Shape::String);
    let wide = add(Shape::Integer { wide: true });
    let labels = add(Shape::Map {
        values: text,
        atomic: false,
    });
    let whole = add(Shape::Map {
        values: text,
        atomic: true,
    });
    let set = add(Shape::List {
        items: text,
        kind: ListKind::Set,
    });
    let list = add(Shape::List {
        items: text,
        kind: ListKind::Atomic,
    });
    let free = add(Shape::Any);
    let mut object = |fields: &[(&str, TypeId)]| {
        let mut fields: Vec<Field> = fields
            .iter()
            .map(|(name, ty)| Field {
                name: (*name).into(),
                ty: *ty,
                required: false,
                default: None,
                merge: Merge::default(),
                number: 0,
            })
            .collect();
        fields.sort_by(|a, b| a.name.cmp(&b.name));
        add(Shape::Object {
            fields,
            open: false,
            atomic: false,
        })
    };
    let item = object(&[("key", text), ("value", text), ("labels", labels)]);
    let inner = object(&[("a", text), ("b", text)]);
    let items = types.add(Type {
        name: None,
        shape: Shape::List {
            items: item,
            kind: ListKind::Map(vec!["key".into()]),
        },
        nullable: false,
    });
    let mut fields: Vec<Field> = [
        ("apiVersion", text),
        ("metadata", free),
        (number, wide),
        ("labels", labels),
        ("whole", whole),
        ("set", set),
        ("list", list),
        ("items", items),
        ("inner", inner),
        ("free", free),
    ]
    .into_iter()
    .map(|(name, ty)| Field {
        name: name.into(),
        ty,
        required: false,
        default: None,
        merge: Merge::default(),
        number: 0,
    })
    .collect();
    fields.sort_by(|a, b| a.name.cmp(&b.name));
    types.add(Type {
        name: None,
        shape: Shape::Object {
            fields,
            open: false,
            atomic: false,
        },
        nullable: false,
    })
}

/// Configurations of the small type; those with another `prefix` have no field in common.
fn config(prefix: &'static str) -> impl Strategy<Value = Value> {
    let name = move || "[a-c]".prop_map(move |name| format!("{prefix}{name}"));
    let map = move || prop::collection::btree_map(name(), "[1-3]", 0..3);
    let item = (name(), prop::option::of("[1-3]"), prop::option::of(map())).prop_map(|(key, value, labels)| {
        let mut item = json!({"key": key});
        if let Some(value) = value {
            item["value"] = value.into();
        }
        if let Some(labels) = labels {
            item["labels"] = json!(labels);
        }
        item
    });
    let items = prop::collection::vec(item, 0..4).prop_map(|mut items| {
        let mut seen = std::collections::BTreeSet::new();
        items.retain(|item| seen.insert(item["key"].to_string()));
        items
    });
    let parts = (
        prop::option::of(map()),
        prop::option::of(prop::collection::btree_set(name(), 0..3)),
        prop::option::of(items),
        prop::option::of(map()),
    );
    parts.prop_map(move |(labels, set, items, free)| {
        let mut config = json!({"apiVersion": "x/v1", "metadata": {"name": "o"}});
        let mut add = |name: &str, value: Option<Value>| {
            if let Some(value) = value.filter(|value| !place::is_empty(Some(value))) {
                config[name] = value;
            }
        };
        add("labels", labels.map(|labels| json!(labels)));
        add("set", set.map(|set| json!(set)));
        add("items", items.map(|items| json!(items)));
        add("free", free.map(|free| json!(free)));
        config
    })
}

fn with_small<T>(test: impl FnOnce(&Model<'_>) -> T) -> T {
    let mut types = Types::default();
    let ty = small(&mut types, "number");
    test(&Model {
        types: &types,
        ty,
        api_version: "x/v1",
        versions: None,
        reset: &NOTHING,
    })
}

/// The object with lists in an order of their own, without managers.
fn unordered(object: &Value) -> Value {
    fn sorted(value: &Value) -> Value {
        match value {
            Value::Array(list) => {
                let mut list: Vec<Value> = list.iter().map(sorted).collect();
                list.sort_by_key(ToString::to_string);
                Value::Array(list)
            }
            Value::Object(map) => {
                let sorted: std::collections::BTreeMap<_, _> =
                    map.iter().map(|(name, value)| (name, sorted(value))).collect();
                json!(sorted)
            }
            scalar => scalar.clone(),
        }
    }
    let mut object = object.clone();
    set_managed_fields(&mut object, None);
    sorted(&object)
}

/// Whether `object` has all that `config` says.
fn holds(place: Place<'_>, object: &Value, config: &Value) -> bool {
    let mut merged = object.clone();
    merge::merge(place, &mut merged, config);
    unordered(&merged) == unordered(object)
}

proptest! {
    #[test]
    fn apply_is_idempotent(first in config(""), second in config("")) {
        with_small(|model| {
            let live = apply(model, &writer("one", 0), None, &first, false).unwrap();
            let live = apply(model, &writer("two", 1), Some(&live), &second, true).unwrap();
            let again = apply(model, &writer("two", 2), Some(&live), &second, false).unwrap();
            assert_eq!(again, live);
        });
    }

    #[test]
    fn the_order_of_managers_without_common_fields_does_not_matter(one in config("x"), two in config("y"), three in config("z")) {
        with_small(|model| {
            let all = [("one", &one), ("two", &two), ("three", &three)];
            let after = |order: [usize; 3]| {
                let mut live: Option<Value> = None;
                for at in order {
                    let (manager, config) = all[at];
                    live = Some(apply(model, &writer(manager, 0), live.as_ref(), config, false).unwrap());
                }
                live.unwrap()
            };
            let first = after([0, 1, 2]);
            for order in [[0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
                let other = after(order);
                assert_eq!(unordered(&other), unordered(&first));
                assert_eq!(managed_fields(&other), managed_fields(&first));
            }
        });
    }

    #[test]
    fn nothing_that_another_owns_is_lost(one in config(""), two in config(""), next in config("")) {
        with_small(|model| {
            let place = Place::Of(model.types, model.ty);
            let live = apply(model, &writer("one", 0), None, &one, false).unwrap();
            // Without conflict both hold; then the second applies anything else.
            if let Ok(live) = apply(model, &writer("two", 1), Some(&live), &two, false) {
                assert!(holds(place, &live, &one) && holds(place, &live, &two), "{live}");
                if let Ok(live) = apply(model, &writer("two", 2), Some(&live), &next, false) {
                    assert!(holds(place, &live, &one), "{live}");
                    assert!(holds(place, &live, &next), "{live}");
                }
            }
        });
    }

    #[test]
    fn who_applies_alone_gets_exactly_its_configuration(one in config(""), two in config("")) {
        with_small(|model| {
            let live = apply(model, &writer("one", 0), None, &one, false).unwrap();
            let live = apply(model, &writer("one", 1), Some(&live), &two, false).unwrap();
            assert_eq!(unordered(&live), unordered(&two));
        });
    }

    #[test]
    fn an_update_gives_its_changes_to_the_writer_and_leaves_the_rest(one in config(""), new in config("")) {
        with_small(|model| {
            let (mut one, mut new) = (one, new);
            // Somebody owns something: an object that nobody owns anything of isn't tracked.
            one["number"] = json!(1);
            new["number"] = json!(1);
            let live = apply(model, &writer("one", 0), None, &one, false).unwrap();
            update(model, &writer("two", 1), Some(&live), &mut new);
            let place = Place::Of(model.types, model.ty);
            let change = compare(place, Some(&live), Some(&new));
            let managers = Managers::decode(managed_fields(&new)).unwrap();
            let fields = |manager: &str| {
                let entry = managers.entries().iter().find(|entry| entry.manager == manager);
                entry.map_or_else(FieldSet::default, |entry| entry.fields.clone())
            };
            let before = managed(&extract::extract(place, &one));
            assert_eq!(fields("two"), managed(&change.written()).without(&FieldSet::of(&[&["metadata"]])));
            assert_eq!(fields("one"), before.difference(&change.written()).difference(&change.removed));
        });
    }

    #[test]
    fn no_managed_fields_and_no_configuration_panic(live in anything(), config in anything(), managers in anything(), force: bool) {
        with_small(|model| {
            let mut live = json!({"apiVersion": "x/v1", "metadata": {"managedFields": managers}, "free": live});
            let _ = apply(model, &writer("a", 0), Some(&live), &config, force);
            let mut merged = config.clone();
            if merged.is_object() {
                merged["apiVersion"] = json!("x/v1");
            }
            let _ = apply(model, &writer("kubectl", 0), Some(&live), &merged, force);
            update(model, &writer("a", 0), Some(&config), &mut live);
            update(model, &writer("a", 0), Some(&live), &mut merged);
        });
    }
}

fn anything() -> impl Strategy<Value = Value> {
    let names = prop::sample::select(vec![
        "metadata",
        "managedFields",
        "items",
        "key",
        "set",
        "labels",
        "whole",
        "list",
        "free",
        "inner",
        "number",
        "operation",
        "apiVersion",
        "manager",
        "fieldsType",
        "fieldsV1",
        "f:items",
        "k:{\"key\":1}",
        "v:1",
        "i:0",
        ".",
    ]);
    let leaf = prop_oneof![
        Just(Value::Null),
        Just(json!(1)),
        Just(json!("Apply")),
        Just(json!("FieldsV1")),
        Just(json!("x/v1")),
        Just(json!([])),
        Just(json!({})),
        Just(
            json!([{"manager": "b", "operation": "Apply", "apiVersion": "x/v1", "fieldsType": "FieldsV1",
            "fieldsV1": {"f:items": {"k:{\"key\":\"a\"}": {}}, "f:free": {"f:set": {".": {}, "f:x": {}}}}}])
        ),
    ];
    leaf.prop_recursive(4, 40, 4, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
            prop::collection::vec((names.clone(), inner), 0..5)
                .prop_map(|map| Value::Object(map.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())),
        ]
    })
}
