use proptest::prelude::*;
use serde_json::json;

use super::*;

fn run(kind: (&str, &str, &str), mut value: Value) -> Result<(Value, Vec<String>), String> {
    let ty = crate::type_of_kind(kind.0, kind.1, kind.2).expect("a built-in kind");
    match check(Types::builtin(), ty, &mut value) {
        Ok(unknown) => Ok((value, unknown)),
        Err(error) => Err(error.to_string()),
    }
}

const POD: (&str, &str, &str) = ("", "v1", "Pod");
const DEPLOYMENT: (&str, &str, &str) = ("apps", "v1", "Deployment");

#[test]
fn unknown_fields_are_dropped_and_named_as_strict_users_are_told() {
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "extra": 1,
        "metadata": {"name": "a", "labels": {"any": "thing"}},
        "spec": {"foo": {"deep": [1]}, "containers": [{"name": "a"}, {"name": "b", "imag": "x", "ports": [{"containerPort": 1, "p": 2}]}]},
    });
    let (value, unknown) = run(POD, pod).expect("no value of a wrong type");
    assert_eq!(
        strict_error(&unknown),
        "strict decoding error: unknown field \"extra\", unknown field \"spec.foo\", \
         unknown field \"spec.containers[1].imag\", unknown field \"spec.containers[1].ports[0].p\""
    );
    assert_eq!(
        value,
        json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "a", "labels": {"any": "thing"}},
            "spec": {"containers": [{"name": "a"}, {"name": "b", "ports": [{"containerPort": 1}]}]},
        })
    );
}

#[test]
fn values_of_a_wrong_type_are_refused_in_upstreams_words() {
    let table = [
        (
            json!({"spec": {"replicas": "3"}}),
            "json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (
            json!({"spec": {"replicas": 1.5}}),
            "json: cannot unmarshal number 1.5 into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (
            json!({"spec": {"replicas": 3_000_000_000_u32}}),
            "json: cannot unmarshal number 3000000000 into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (
            json!({"spec": {"template": {"spec": {"containers": [{"env": [{"value": 1}]}]}}}}),
            "json: cannot unmarshal number into Go struct field EnvVar.spec.template.spec.containers.env.value of type string",
        ),
        (
            json!({"spec": {"template": {"spec": {"containers": {"name": "a"}}}}}),
            "json: cannot unmarshal object into Go struct field PodSpec.spec.template.spec.containers of type []v1.Container",
        ),
        (
            json!({"metadata": {"labels": {"a": true}}}),
            "json: cannot unmarshal bool into Go struct field ObjectMeta.metadata.labels of type string",
        ),
        (
            json!({"metadata": {"labels": [1]}}),
            "json: cannot unmarshal array into Go struct field ObjectMeta.metadata.labels of type map[string]string",
        ),
        (
            json!({"spec": "x"}),
            "json: cannot unmarshal string into Go struct field Deployment.spec of type v1.DeploymentSpec",
        ),
        (
            json!([]),
            "json: cannot unmarshal array into Go value of type v1.Deployment",
        ),
    ];
    for (value, message) in table {
        assert_eq!(run(DEPLOYMENT, value).expect_err(message), message);
    }
}

#[test]
fn values_of_their_own_form_become_canonical() {
    let pod = json!({
        "metadata": {"creationTimestamp": "2026-01-02T17:04:05.9+02:00", "deletionTimestamp": null},
        "spec": {"containers": [{
            "resources": {"limits": {"cpu": 0.5, "memory": "1024Ki", "x/y": 2}},
            "livenessProbe": {"httpGet": {"port": "web"}, "tcpSocket": {"port": 80}},
        }]},
    });
    let (value, unknown) = run(POD, pod).expect("all is of its type");
    assert!(unknown.is_empty());
    assert_eq!(value["metadata"], json!({"creationTimestamp": "2026-01-02T15:04:05Z"}));
    let limits = &value["spec"]["containers"][0]["resources"]["limits"];
    assert_eq!(*limits, json!({"cpu": "500m", "memory": "1Mi", "x/y": "2"}));
    let (lease, _) = run(
        ("coordination.k8s.io", "v1", "Lease"),
        json!({"spec": {"renewTime": "2026-01-02T15:04:05Z"}}),
    )
    .expect("a lease");
    assert_eq!(lease["spec"]["renewTime"], "2026-01-02T15:04:05.000000Z");
    let (secret, _) = run(
        ("", "v1", "Secret"),
        json!({"data": {"a": "aGVs\nbG8=", "b": "aGVsbG9=", "c": ""}}),
    )
    .expect("a secret");
    assert_eq!(secret["data"], json!({"a": "aGVsbG8=", "b": "aGVsbG8=", "c": ""}));
}

#[test]
fn values_of_their_own_form_are_refused_when_they_have_another() {
    let limit = |value: Value| json!({"spec": {"containers": [{"resources": {"limits": {"cpu": value}}}]}});
    let quantity = TypeError::Quantity.to_string();
    for value in [json!("a lot"), json!(""), json!({}), json!(true)] {
        assert_eq!(run(POD, limit(value)).expect_err("no quantity"), quantity);
    }
    let time = run(POD, json!({"metadata": {"creationTimestamp": "yesterday"}})).expect_err("no time");
    assert!(
        time.starts_with("parsing time \"yesterday\" as \"2006-01-02T15:04:05Z07:00\""),
        "{time}"
    );
    let secret = run(("", "v1", "Secret"), json!({"data": {"a": "aGV%"}})).expect_err("no base64");
    assert_eq!(secret, "illegal base64 data at input byte 3");
    let port = json!({"spec": {"containers": [{"livenessProbe": {"tcpSocket": {"port": true}}}]}});
    assert_eq!(
        run(POD, port).expect_err("no port"),
        "json: cannot unmarshal bool into Go value of type int32"
    );
}

#[test]
fn null_means_absent_and_within_lists_and_maps_nothing_yet() {
    let pod = json!({
        "metadata": {"labels": {"a": null}, "finalizers": [null]},
        "spec": {"containers": [null], "volumes": null, "restartPolicy": null},
        "status": null,
    });
    let (value, unknown) = run(POD, pod).expect("null fits anywhere");
    assert!(unknown.is_empty());
    assert_eq!(
        value,
        json!({"metadata": {"labels": {"a": ""}, "finalizers": [""]}, "spec": {"containers": [{}]}})
    );
}

#[test]
fn unknown_fields_are_reported_up_to_a_bound_and_all_dropped() {
    let many: Map<String, Value> = (0..1000).map(|n| (format!("f{n}"), n.into())).collect();
    let (value, unknown) = run(POD, Value::Object(many)).expect("unknown fields have no type");
    assert_eq!(unknown.len(), MAX_REPORTED);
    assert_eq!(value, json!({}));
}

#[test]
fn missing_required_fields_are_named() {
    let ty = crate::type_of_kind("", "v1", "Service").expect("Service");
    let service = json!({"spec": {"ports": [{"name": "a"}, {"port": 1}]}});
    assert_eq!(missing(Types::builtin(), ty, &service), ["spec.ports[0].port"]);
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[a-z0-9:.-]{0,12}".prop_map(Value::from),
    ];
    let name = prop_oneof![
        Just("spec".to_owned()),
        Just("metadata".to_owned()),
        Just("containers".to_owned()),
        "[a-z]{1,8}"
    ];
    leaf.prop_recursive(6, 64, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::vec((name.clone(), inner), 0..5)
                .prop_map(|pairs| Value::Object(pairs.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn what_was_checked_once_is_canonical(mut value in any_json()) {
        let ty = crate::type_of_kind("", "v1", "Pod").expect("Pod");
        if check(Types::builtin(), ty, &mut value).is_ok() {
            let once = value.clone();
            prop_assert_eq!(check(Types::builtin(), ty, &mut value), Ok(Vec::new()));
            prop_assert_eq!(value, once);
        }
    }
}
