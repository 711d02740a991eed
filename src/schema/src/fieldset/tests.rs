use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn set(value: &Value) -> FieldSet {
    FieldSet::decode(value).unwrap()
}

#[test]
fn fields_v1_goes_there_and_back() {
    let table = [
        json!({}),
        json!({"f:spec": {"f:replicas": {}}}),
        json!({"f:metadata": {"f:labels": {".": {}, "f:app": {}}}}),
        json!({"f:containers": {"k:{\"name\":\"web\"}": {".": {}, "f:image": {}}}}),
        json!({"f:ports": {"k:{\"containerPort\":80,\"protocol\":\"TCP\"}": {}}}),
        json!({"f:finalizers": {"v:\"example.com/a\"": {}, "v:3": {}, "v:true": {}}}),
        json!({"f:list": {"i:0": {}, "i:-1": {}}}),
    ];
    for fields in table {
        assert_eq!(set(&fields).encode(), fields);
    }
}

#[test]
fn the_keys_of_an_item_are_in_the_order_of_their_names() {
    let fields = set(&json!({"k:{\"protocol\":\"TCP\",\"containerPort\":80}": {}}));
    assert_eq!(
        fields.encode(),
        json!({"k:{\"containerPort\":80,\"protocol\":\"TCP\"}": {}})
    );
    assert_eq!(fields.to_string(), r#"[containerPort=80,protocol="TCP"]"#);
}

#[test]
fn what_is_no_set_of_fields_is_refused() {
    let mut deep = json!({});
    for _ in 0..200 {
        deep = json!({"f:a": deep});
    }
    for bad in [
        json!(null),
        json!([]),
        json!({"f:a": 1}),
        json!({"a": {}}),
        json!({"x:a": {}}),
        json!({"k:[]": {}}),
        json!({"v:{": {}}),
        json!({"i:x": {}}),
        json!({"é": {}}),
        deep,
    ] {
        assert!(FieldSet::decode(&bad).is_err(), "{bad}");
    }
}

#[test]
fn operations_treat_a_field_and_what_is_below_it_apart() {
    let a = set(&json!({"f:a": {".": {}, "f:b": {}, "f:c": {}}, "f:d": {}}));
    let b = set(&json!({"f:a": {"f:b": {}}, "f:e": {}}));
    let parent = set(&json!({"f:a": {}}));
    assert_eq!(
        a.union(&b).encode(),
        json!({"f:a": {".": {}, "f:b": {}, "f:c": {}}, "f:d": {}, "f:e": {}})
    );
    assert_eq!(a.intersection(&b).encode(), json!({"f:a": {"f:b": {}}}));
    assert_eq!(
        a.difference(&b).encode(),
        json!({"f:a": {".": {}, "f:c": {}}, "f:d": {}})
    );
    assert_eq!(
        a.difference(&parent).encode(),
        json!({"f:a": {"f:b": {}, "f:c": {}}, "f:d": {}})
    );
    assert_eq!(a.without(&parent).encode(), json!({"f:d": {}}));
    assert_eq!(a.without(&b).encode(), json!({"f:a": {".": {}, "f:c": {}}, "f:d": {}}));
    assert_eq!((a.len(), b.len(), FieldSet::default().len()), (4, 2, 0));
    assert!(a.contains(&[Element::Field("a".into())]) && !b.contains(&[Element::Field("a".into())]));
}

#[test]
fn members_of_a_level_are_listed_before_those_below() {
    let fields = set(&json!({"f:a": {"f:z": {}}, "f:b": {}, "f:c": {".": {}, "v:1": {}}}));
    assert_eq!(fields.to_string(), ".b\n.c\n.a.z\n.c[=1]");
}

#[test]
fn numbers_are_told_apart_exactly() {
    let big = 9_007_199_254_740_993_u64;
    let fields =
        set(&json!({format!("v:{big}"): {}, format!("v:{}", big - 1): {}, "v:1": {}, "v:1.0": {}, "v:1.5": {}}));
    assert_eq!(fields.len(), 4);
}

fn element() -> impl Strategy<Value = Element> {
    let value = prop_oneof![
        (0i64..3).prop_map(Value::from),
        "[ab]".prop_map(Value::from),
        any::<bool>().prop_map(Value::from)
    ];
    prop_oneof![
        "[a-c]".prop_map(|name| Element::Field(name.into())),
        value.clone().prop_map(Element::Value),
        value.prop_map(|value| Element::Key(Box::new([("k".into(), value)]))),
        (0i64..2).prop_map(Element::Index),
    ]
}

fn fields() -> impl Strategy<Value = FieldSet> {
    prop::collection::vec(prop::collection::vec(element(), 1..4), 0..12).prop_map(|paths| {
        let mut set = FieldSet::default();
        for path in paths {
            set.insert(path);
        }
        set
    })
}

fn paths(set: &FieldSet) -> std::collections::BTreeSet<Vec<Element>> {
    let mut paths = std::collections::BTreeSet::new();
    set.for_each(&mut |path| {
        paths.insert(path.iter().map(|element| (*element).clone()).collect());
    });
    paths
}

proptest! {
    #[test]
    fn sets_are_sets_of_paths(a in fields(), b in fields()) {
        let (pa, pb) = (paths(&a), paths(&b));
        prop_assert_eq!(pa.len(), a.len());
        prop_assert_eq!(paths(&a.union(&b)), &pa | &pb);
        prop_assert_eq!(paths(&a.intersection(&b)), &pa & &pb);
        prop_assert_eq!(paths(&a.difference(&b)), &pa - &pb);
        let kept: std::collections::BTreeSet<_> =
            pa.iter().filter(|path| !(1..=path.len()).any(|end| pb.contains(&path[..end]))).cloned().collect();
        prop_assert_eq!(paths(&a.without(&b)), kept);
        for path in &pa {
            prop_assert!(a.contains(path));
        }
    }

    #[test]
    fn fields_v1_round_trips(a in fields()) {
        prop_assert_eq!(FieldSet::decode(&a.encode()), Ok(a));
    }
}
