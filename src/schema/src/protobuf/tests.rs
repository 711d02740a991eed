use std::{collections::HashMap, sync::LazyLock};

use proptest::prelude::*;
use serde_json::{Map, json};

use super::*;
use crate::{
    facts::{self, PREFIX, TypeExpr, TypeFacts},
    types::{Shape, Types},
};

/// Fields by hand, as the specification of the encoding says.
fn text(number: u8, text: &str) -> Vec<u8> {
    part(number, text.as_bytes())
}

fn part(number: u8, bytes: &[u8]) -> Vec<u8> {
    assert!(
        number < 16 && bytes.len() < 128,
        "short enough for one byte of tag and length"
    );
    [&[number << 3 | 2, u8::try_from(bytes.len()).expect("short")], bytes].concat()
}

fn number(number: u8, value: u8) -> Vec<u8> {
    assert!(number < 16 && value < 128, "short enough for one byte of tag and value");
    vec![number << 3, value]
}

fn enveloped(api_version: &str, kind: &str, message: &[u8]) -> Vec<u8> {
    let kind = [text(1, api_version), text(2, kind)].concat();
    [
        b"k8s\0".to_vec(),
        part(1, &kind),
        part(2, message),
        text(3, ""),
        text(4, ""),
    ]
    .concat()
}

#[test]
fn objects_are_encoded_as_written_out_by_hand() {
    let meta = |name: &str| part(1, &text(1, name));
    let table = [
        (
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"},
                   "data": {"z": "1", "b": ""}, "binaryData": {"x": "AP8="}, "immutable": true}),
            [
                meta("a"),
                part(2, &[text(1, "b"), text(2, "")].concat()),
                part(2, &[text(1, "z"), text(2, "1")].concat()),
                part(3, &[text(1, "x"), part(2, &[0, 255])].concat()),
                number(4, 1),
            ]
            .concat(),
        ),
        (
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "creationTimestamp": "1970-01-01T00:00:07Z"},
                   "spec": {"volumes": [{"name": "v", "hostPath": {"path": "/x"}}],
                            "containers": [{"name": "c", "resources": {"limits": {"cpu": "1"}},
                                            "livenessProbe": {"httpGet": {"port": "web"}, "periodSeconds": 5}}]}}),
            [
                part(
                    1,
                    &[text(1, "p"), part(8, &[number(1, 7), number(2, 0)].concat())].concat(),
                ),
                part(
                    2,
                    &[
                        part(1, &[text(1, "v"), part(2, &part(1, &text(1, "/x")))].concat()),
                        part(
                            2,
                            &[
                                text(1, "c"),
                                part(8, &part(1, &[text(1, "cpu"), part(2, &text(1, "1"))].concat())),
                                part(
                                    10,
                                    &[
                                        part(
                                            1,
                                            &part(2, &part(2, &[number(1, 1), number(2, 0), text(3, "web")].concat())),
                                        ),
                                        number(4, 5),
                                    ]
                                    .concat(),
                                ),
                            ]
                            .concat(),
                        ),
                    ]
                    .concat(),
                ),
            ]
            .concat(),
        ),
        (
            json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"audiences": ["a", "b"]},
                   "status": {"user": {"extra": {"k": ["x", "y"]}}}}),
            [
                part(2, &[text(2, "a"), text(2, "b")].concat()),
                part(
                    3,
                    &part(
                        2,
                        &part(
                            4,
                            &[text(1, "k"), part(2, &[text(1, "x"), text(1, "y")].concat())].concat(),
                        ),
                    ),
                ),
            ]
            .concat(),
        ),
    ];
    for (object, message) in table {
        let word = |field: &str| object[field].as_str().expect("text");
        let wanted = enveloped(word("apiVersion"), word("kind"), &message);
        assert_eq!(encode(&object).expect("encoded"), wanted, "{object}");
        assert_eq!(decode(&wanted, None).expect("decoded"), object);
    }
}

#[test]
fn negative_numbers_take_ten_bytes() {
    let object = json!({"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "value": -1});
    let message = [&[0x10], &[0xff; 9][..], &[1]].concat();
    assert_eq!(
        encode(&object),
        Ok(enveloped("scheduling.k8s.io/v1", "PriorityClass", &message))
    );
    assert_eq!(decode(&encode(&object).expect("encoded"), None), Ok(object));
}

#[test]
fn schemas_that_json_writes_in_several_ways_come_back_as_they_were() {
    let schema = json!({
        "type": "object", "x-kubernetes-preserve-unknown-fields": false,
        "default": {"a": [1, null, "x"]}, "enum": [1, "b", null], "$ref": "#/x", "minimum": 0.0, "maxLength": 0,
        "properties": {
            "list": {"type": "array", "items": {"type": "string"}},
            "tuple": {"items": [{"type": "string"}, {"type": "integer"}]},
            "closed": {"additionalProperties": false}, "open": {"additionalProperties": true},
            "map": {"additionalProperties": {"type": "string"}},
            "dependent": {"dependencies": {"a": ["b", "c"], "d": {"type": "string"}}},
        },
    });
    let version = json!({"name": "v1", "served": true, "storage": false, "schema": {"openAPIV3Schema": schema}});
    let object = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "spec": {
        "group": "g", "scope": "Cluster", "names": {"plural": "p", "kind": "K"}, "versions": [version]}});
    let back = decode(&encode(&object).expect("encoded"), None).expect("decoded");
    assert_eq!(back, object);
}

#[test]
fn zeros_mean_absent_where_upstream_means_so() {
    let message = |ty: &str, fields: &[Vec<u8>]| {
        let ty = Types::builtin()
            .find(&format!("{PREFIX}{ty}"))
            .expect("a built-in type");
        decode_message(ty, &fields.concat()).expect("decoded")
    };
    // hostNetwork isn't a pointer, terminationGracePeriodSeconds is; nodeName is text.
    let spec = message("api.core.v1.PodSpec", &[number(4, 0), number(11, 0), text(10, "")]);
    assert_eq!(spec, json!({"terminationGracePeriodSeconds": 0}));
    let claim = message("api.core.v1.PersistentVolumeClaimSpec", &[text(3, ""), text(5, "")]);
    assert_eq!(claim, json!({"storageClassName": ""}));
    let status = message(
        "api.core.v1.ContainerStatus",
        &[text(1, "a"), number(4, 0), number(5, 0), text(6, "")],
    );
    assert_eq!(
        status,
        json!({"name": "a", "ready": false, "restartCount": 0, "image": ""})
    );
    let meta = message(
        "apimachinery.pkg.apis.meta.v1.ObjectMeta",
        &[text(1, "a"), text(2, ""), number(7, 0), part(8, &[])],
    );
    assert_eq!(meta, json!({"name": "a"}));
    // A struct that isn't a pointer is there in upstream's JSON, too.
    let pod = message("api.core.v1.Container", &[text(1, "a"), part(8, &[])]);
    assert_eq!(pod, json!({"name": "a", "resources": {}}));
}

#[test]
fn fields_that_arent_known_are_passed_over() {
    let known = text(1, "a");
    let unknown = [
        vec![0x98, 0x06, 0x05],                                           // 99: varint
        [vec![0x99, 0x06], vec![0; 8]].concat(),                          // 99: fixed64
        [vec![0x9a, 0x06, 0x02], vec![1, 2]].concat(),                    // 99: delimited
        [vec![0x9d, 0x06], vec![0; 4]].concat(),                          // 99: fixed32
        vec![0x9b, 0x06, 0x08, 0x01, 0x9b, 0x06, 0x9c, 0x06, 0x9c, 0x06], // 99: group within group
    ];
    let meta = Types::builtin()
        .find("io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta")
        .expect("ObjectMeta");
    for unknown in unknown {
        let message = [&unknown[..], &known, &unknown].concat();
        assert_eq!(decode_message(meta, &message), Ok(json!({"name": "a"})));
    }
}

#[test]
fn streamed_lists_are_what_lists_are_at_once() {
    let list = json!({"apiVersion": "v1", "kind": "ConfigMapList", "metadata": {"resourceVersion": "7"},
        "items": (0..300).map(|n| json!({"metadata": {"name": format!("n{n}")}, "data": {"k": "v".repeat(n)}})).collect::<Vec<_>>()});
    let ty = type_of("v1", "ConfigMap").expect("ConfigMap");
    let items: Vec<_> = list["items"]
        .as_array()
        .expect("items")
        .iter()
        .map(|item| encode_message(ty, item).expect("encoded"))
        .collect();
    let mut streamed = list_head("v1", "ConfigMapList", &list["metadata"], items.iter().map(Vec::len)).expect("a head");
    for item in &items {
        streamed.extend(item_head(item.len()));
        streamed.extend(item);
    }
    streamed.extend(LIST_END);
    assert_eq!(streamed, encode(&list).expect("encoded"));
    assert_eq!(decode(&streamed, None).expect("decoded"), list);
}

#[test]
fn a_watch_frame_is_a_length_and_an_event_around_a_body() {
    let body = seal("v1", "ConfigMap", &part(1, &text(1, "a")));
    let event = [text(1, "ADDED"), part(2, &part(1, &body))].concat();
    let frame = watch_frame("ADDED", &body);
    assert_eq!(
        frame,
        [&[0, 0, 0, u8::try_from(event.len()).expect("short")], &event[..]].concat()
    );
}

#[test]
fn objects_within_objects_may_have_envelopes_of_their_own() {
    let inner = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}});
    let raw = part(1, &encode(&inner).expect("encoded"));
    let list = enveloped("v1", "List", &part(2, &raw));
    assert_eq!(
        decode(&list, None).expect("decoded"),
        json!({"apiVersion": "v1", "kind": "List", "items": [inner]})
    );
}

#[test]
fn bodies_that_arent_ours_are_told_apart() {
    assert_eq!(decode(b"{}", None), Err(ProtobufError::NoMagic));
    let custom = enveloped("example.com/v1", "Thing", &[]);
    assert!(matches!(decode(&custom, None), Err(ProtobufError::UnknownKind { .. })));
    let bare = enveloped("", "", &text(1, ""));
    assert_eq!(
        decode(&bare, Some(("v1", "DeleteOptions"))),
        Err(ProtobufError::Malformed("wrong wire type"))
    );
    let options = enveloped("example.com/v1", "DeleteOptions", &number(1, 0));
    let wanted = json!({"apiVersion": "example.com/v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0});
    assert_eq!(decode(&options, None), Ok(wanted));
    assert_eq!(
        encode(&json!({"apiVersion": "v1", "kind": "Pod", "spec": {"nodeName": 1}})),
        Err(ProtobufError::Unfit {
            field: "nodeName",
            wanted: "text"
        })
    );
}

#[test]
fn small_bodies_cannot_become_large_trees() {
    let items = enveloped_long("v1", "PodList", &[0x12, 0].repeat(1_500_000));
    assert_eq!(decode(&items, None), Err(ProtobufError::TooManyValues));
    let many = vec![b'1'; 1]
        .into_iter()
        .chain(b",1".repeat(400_000))
        .collect::<Vec<_>>();
    let json = [b"[", &many[..], b"]"].concat();
    let raw = long(2, &long(1, &json));
    assert_eq!(
        decode(&enveloped_long("v1", "List", &raw), None),
        Err(ProtobufError::TooManyValues)
    );
}

#[test]
fn deep_bodies_are_refused() {
    let not = facts::types()
        .into_iter()
        .find(|ty| ty.name.ends_with(".v1.JSONSchemaProps"))
        .and_then(|ty| ty.fields.into_iter().find(|field| field.name == "not"))
        .map(|field| field.number[0])
        .expect("a schema may hold another");
    let mut message = Vec::new();
    for _ in 0..1000 {
        message = long(not, &message);
    }
    let schema = Types::builtin()
        .find("io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps")
        .expect("JSONSchemaProps");
    assert_eq!(
        decode_message(schema, &message),
        Err(ProtobufError::Malformed("nested too deep"))
    );
}

fn long(number: u32, bytes: &[u8]) -> Vec<u8> {
    let mut writer = Writer::default();
    writer.bytes(number, bytes);
    writer.into_bytes()
}

fn enveloped_long(api_version: &str, kind: &str, message: &[u8]) -> Vec<u8> {
    seal(api_version, kind, message)
}

/// Every type's facts, by its name.
static FACTS: LazyLock<HashMap<&str, TypeFacts>> =
    LazyLock::new(|| facts::types().into_iter().map(|ty| (ty.name, ty)).collect());

/// Makes objects of a type: every field now and then, nothing that reads as absent.
struct Maker {
    state: u64,
}

impl Maker {
    fn new(seed: u64) -> Self {
        Self { state: seed | 1 }
    }

    fn next(&mut self, below: u64) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        (self.state >> 11) % below
    }

    fn object(&mut self, name: &str, depth: u32) -> Value {
        let ty = &FACTS[name];
        match ty.form {
            None => {}
            Some("quantity") => return ["1", "500m", "2Gi", "0"][self.next(4) as usize].into(),
            Some("time") => return ["2026-01-02T03:04:05Z", "1969-12-31T23:59:59Z"][self.next(2) as usize].into(),
            Some("microtime") => {
                return ["2026-01-02T03:04:05.600000Z", "1969-12-31T23:59:58.500000Z"][self.next(2) as usize].into();
            }
            Some("intorstring") => {
                return [json!(80), json!("50%"), json!(-1), json!(0)][self.next(4) as usize].clone();
            }
            Some("json") => return [json!([1, {"a": "b"}]), json!("x"), json!(1.5)][self.next(3) as usize].clone(),
            Some("schemaorarray") => {
                return [json!({"type": "string"}), json!([{"type": "string"}, {}])][self.next(2) as usize].clone();
            }
            Some("schemaorbool") => {
                return [json!({"type": "string"}), json!(true), json!(false)][self.next(3) as usize].clone();
            }
            Some("schemaorstrings") => {
                return [json!({"type": "string"}), json!(["a", "b"])][self.next(2) as usize].clone();
            }
            Some(_) => return json!({"f:a": {".": {}}}),
        }
        let mut object = Map::new();
        for field in ty.fields.iter().filter(|field| !field.number.is_empty()) {
            let (name, ty) = (field.name, &field.ty);
            let leaf = !matches!(ty, TypeExpr::Named(_) | TypeExpr::List { .. } | TypeExpr::Map(_));
            if self.next(3) == 0 && (leaf || depth < 5) {
                object.insert(name.to_owned(), self.value(ty, depth + 1));
            }
        }
        Value::Object(object)
    }

    fn value(&mut self, ty: &TypeExpr, depth: u32) -> Value {
        match ty {
            TypeExpr::Bool => true.into(),
            TypeExpr::Int32 => [1, -1, i32::MAX, i32::MIN][self.next(4) as usize].into(),
            TypeExpr::Int64 => [1, -1, i64::MAX, i64::MIN][self.next(4) as usize].into(),
            TypeExpr::Double => [0.5, -1e300][self.next(2) as usize].into(),
            TypeExpr::String => ["a", "é€😀", "x\n\0"][self.next(3) as usize].into(),
            TypeExpr::Bytes => "AAECAw==".into(),
            TypeExpr::Named(name) => self.object(name, depth),
            TypeExpr::List { items, .. } => (0..=self.next(3)).map(|_| self.value(items, depth)).collect(),
            TypeExpr::Map(values) => {
                let keys = ["z", "a/b", "m"].into_iter().take(1 + self.next(3) as usize);
                Value::Object(keys.map(|key| (key.to_owned(), self.value(values, depth))).collect())
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn objects_of_every_kind_come_back_as_they_were(seed in any::<u64>()) {
        let mut maker = Maker::new(seed);
        for fact in FACTS.values().filter(|fact| !fact.kinds.is_empty() && fact.kinds.len() < 10) {
            let kind = fact.kinds[0];
            let mut object = json!({
                "apiVersion": if kind.group.is_empty() { kind.version.to_owned() } else { format!("{}/{}", kind.group, kind.version) },
                "kind": kind.kind,
            });
            if let (Value::Object(fields), Value::Object(made)) = (&mut object, maker.object(fact.name, 0)) {
                fields.extend(made);
            }
            let body = encode(&object).expect("a made object is encoded");
            prop_assert_eq!(decode(&body, None).expect("and decoded"), object.clone());
            prop_assert_eq!(&encode(&object).expect("alike each time"), &body);
            let ty = Types::builtin().find(&format!("{PREFIX}{}", fact.name)).expect("a built-in type");
            let message = encode_json(ty, object.to_string().as_bytes()).expect("encoded from text");
            prop_assert_eq!(open(&body).expect("an envelope").message, message);
        }
    }

    #[test]
    fn what_was_made_by_the_table_passes_its_check(seed in any::<u64>()) {
        let mut maker = Maker::new(seed);
        for kind in ["Pod", "Service", "Node"] {
            let ty = type_of("v1", kind).expect("a kind");
            let object = maker.object(&format!("api.core.v1.{kind}"), 0);
            let mut checked = object.clone();
            prop_assert_eq!(crate::check::check(Types::builtin(), ty, &mut checked), Ok(Vec::new()));
            prop_assert_eq!(checked, object);
        }
    }
}

proptest! {
    #[test]
    fn any_bytes_are_decoded_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
        let _ = decode(&bytes, None);
        let _ = decode(&[MAGIC, &bytes[..]].concat(), Some(("v1", "Pod")));
        for kind in ["Pod", "Node", "Status"] {
            let _ = decode_message(type_of("v1", kind).expect("a kind"), &bytes);
        }
        let _ = decode_message(type_of("apiextensions.k8s.io/v1", "CustomResourceDefinition").expect("a kind"), &bytes);
    }

    #[test]
    fn what_is_decoded_of_spoilt_bodies_comes_back_as_it_is(seed in any::<u64>(), changes in prop::collection::vec((any::<u16>(), any::<u8>()), 1..8)) {
        let mut maker = Maker::new(seed);
        let mut body = seal("v1", "Pod", &encode_message(type_of("v1", "Pod").expect("Pod"), &maker.object("api.core.v1.Pod", 0)).expect("encoded"));
        for (at, byte) in changes {
            let at = usize::from(at) % body.len();
            body[at] = byte;
        }
        if let Ok(value) = decode(&body, None)
            && let Ok(again) = encode(&value)
        {
            prop_assert_eq!(decode(&again, None), Ok(value));
        }
    }
}

#[test]
fn a_type_without_a_name_is_no_message() {
    let types = Types::builtin();
    let Shape::Object { fields, .. } = &types.get(type_of("v1", "ConfigMap").expect("ConfigMap")).shape else {
        panic!("an object");
    };
    let data = fields.iter().find(|field| &*field.name == "data").expect("data");
    assert!(encode_message(data.ty, &json!({})).is_err());
}
