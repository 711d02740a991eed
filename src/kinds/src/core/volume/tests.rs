use serde_json::{Value, json};

use crate::testing::{changes, context, create, mistakes, update, with};

fn claim() -> Value {
    json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "data", "namespace": "default"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    })
}

fn volume() -> Value {
    json!({
        "apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "pv"},
        "spec": {"accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}, "hostPath": {"path": "/data"}},
    })
}

#[test]
fn volumes_and_claims_are_stored_with_upstreams_defaults() {
    let claim = create("", "PersistentVolumeClaim", claim()).unwrap();
    assert_eq!(claim["spec"]["volumeMode"], "Filesystem");
    assert_eq!(claim["status"], json!({"phase": "Pending"}));
    let volume = create("", "PersistentVolume", volume()).unwrap();
    assert_eq!(volume["spec"]["persistentVolumeReclaimPolicy"], "Retain");
    assert_eq!(volume["spec"]["hostPath"]["type"], "");
    assert_eq!(volume["status"]["phase"], "Pending");
}

#[test]
fn mistakes_in_claims_and_volumes_are_told_in_upstreams_words() {
    mistakes(
        "",
        "PersistentVolumeClaim",
        &claim(),
        &[
            (
                "/spec/accessModes",
                json!([]),
                &["spec.accessModes: Required value: at least 1 access mode is required"],
            ),
            (
                "/spec/accessModes",
                json!(["ReadWriteOncePod", "ReadOnlyMany"]),
                &["spec.accessModes: Forbidden: may not use ReadWriteOncePod with other access modes"],
            ),
            (
                "/spec/resources",
                json!({}),
                &["spec.resources[storage]: Required value"],
            ),
            (
                "/spec/resources/requests/storage",
                json!("0"),
                &["spec.resources[storage]: Invalid value: \"0\": must be greater than zero"],
            ),
            (
                "/spec/dataSource",
                json!({"kind": "Pod", "name": "a"}),
                &[
                    "spec.dataSource: Invalid value: \"Pod\": must be 'PersistentVolumeClaim' when referencing the \
                     default apiGroup",
                    "spec.dataSourceRef: Invalid value: \"Pod\": must be 'PersistentVolumeClaim' when referencing the \
                     default apiGroup",
                ],
            ),
        ],
    );
    mistakes(
        "",
        "PersistentVolume",
        &volume(),
        &[
            (
                "/spec/capacity",
                json!({"cpu": "1"}),
                &["spec.capacity: Unsupported value: {\"cpu\":\"1\"}: supported values: \"storage\""],
            ),
            (
                "/spec/hostPath",
                Value::Null,
                &["spec: Required value: must specify a volume type"],
            ),
            (
                "/spec/nfs",
                json!({"server": "a", "path": "/b"}),
                &["spec.nfs: Forbidden: may not specify more than 1 volume type"],
            ),
            (
                "/spec/persistentVolumeReclaimPolicy",
                json!("Burn"),
                &[
                    "spec.persistentVolumeReclaimPolicy: Unsupported value: \"Burn\": supported values: \"Delete\", \
                   \"Recycle\", \"Retain\"",
                ],
            ),
        ],
    );
}

#[test]
fn a_claim_stays_what_it_was_but_for_growth_once_bound() {
    let immutable = "spec: Forbidden: spec is immutable after creation except resources.requests and \
                     volumeAttributesClassName for bound claims\n";
    let modes = format!("{immutable}- spec.accessModes[0]: \"ReadWriteOnce\" -> \"ReadOnlyMany\"\n");
    let grown = format!("{immutable}- spec.resources.requests.storage: \"1Gi\" -> \"2Gi\"\n");
    changes(
        "",
        "PersistentVolumeClaim",
        &claim(),
        &[
            ("/spec/volumeName", json!("pv"), &[]),
            ("/spec/storageClassName", json!("fast"), &[]),
            ("/spec/accessModes", json!(["ReadOnlyMany"]), &[&modes]),
            ("/spec/resources/requests/storage", json!("2Gi"), &[&grown]),
        ],
    );
    let mut bound = create("", "PersistentVolumeClaim", claim()).unwrap();
    bound["status"] = json!({"phase": "Bound", "capacity": {"storage": "1Gi"}});
    let more = with(&bound, "/spec/resources/requests/storage", json!("2Gi"));
    update("", "PersistentVolumeClaim", more, &bound, "").unwrap();
    let less = with(&bound, "/spec/resources/requests/storage", json!("512Mi"));
    assert_eq!(
        update("", "PersistentVolumeClaim", less, &bound, "").unwrap_err(),
        ["spec.resources.requests.storage: Forbidden: field can not be less than status.capacity"]
    );
}

#[test]
fn a_volume_stays_where_it_is() {
    changes(
        "",
        "PersistentVolume",
        &volume(),
        &[
            ("/spec/capacity/storage", json!("2Gi"), &[]),
            (
                "/spec/hostPath/path",
                json!("/other"),
                &[
                    "spec.persistentvolumesource: Forbidden: spec.persistentvolumesource is immutable after creation\n\
                   - spec.hostPath.path: \"/data\" -> \"/other\"\n",
                ],
            ),
        ],
    );
}

#[test]
fn what_was_given_up_is_warned_of() {
    let strategy = crate::strategy("", "PersistentVolume");
    let mut volume = with(&volume(), "/spec/persistentVolumeReclaimPolicy", json!("Recycle"));
    volume["metadata"]["annotations"] = json!({"volume.beta.kubernetes.io/storage-class": "a"});
    let warnings = strategy.create(&mut volume, &context("")).unwrap();
    assert_eq!(
        warnings,
        [
            "metadata.annotations[volume.beta.kubernetes.io/storage-class]: deprecated since v1.8; use \
             \"storageClassName\" attribute instead",
            "spec.persistentVolumeReclaimPolicy: The Recycle reclaim policy is deprecated. Instead, the recommended \
             approach is to use dynamic provisioning.",
        ]
    );
}
