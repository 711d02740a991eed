use serde_json::{Value, json};

use crate::testing::{changes, create, mistakes, pod_spec, update, with};

fn workload(kind: &str) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": kind, "metadata": {"name": "web", "namespace": "default"},
        "spec": {
            "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": pod_spec()},
        },
    })
}

#[test]
fn workloads_are_stored_with_upstreams_defaults() {
    for (kind, pointer, expected) in [
        ("Deployment", "/spec/replicas", json!(1)),
        ("Deployment", "/spec/revisionHistoryLimit", json!(10)),
        ("Deployment", "/spec/progressDeadlineSeconds", json!(600)),
        (
            "Deployment",
            "/spec/strategy",
            json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}}),
        ),
        ("Deployment", "/spec/template/spec/restartPolicy", json!("Always")),
        ("Deployment", "/status", json!({})),
        ("ReplicaSet", "/spec/replicas", json!(1)),
        ("ReplicaSet", "/status", json!({"replicas": 0})),
        ("StatefulSet", "/spec/podManagementPolicy", json!("OrderedReady")),
        (
            "StatefulSet",
            "/spec/updateStrategy",
            json!({"type": "RollingUpdate", "rollingUpdate": {"partition": 0}}),
        ),
        (
            "StatefulSet",
            "/spec/persistentVolumeClaimRetentionPolicy",
            json!({"whenDeleted": "Retain", "whenScaled": "Retain"}),
        ),
        (
            "DaemonSet",
            "/spec/updateStrategy",
            json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}}),
        ),
    ] {
        let created = create("apps", kind, workload(kind)).unwrap();
        assert_eq!(created.pointer(pointer), Some(&expected), "{kind} {pointer}");
        assert_eq!(created["spec"]["template"]["spec"].get("enableServiceLinks"), None);
    }
}

#[test]
fn mistakes_in_a_deployment_are_told_in_upstreams_words() {
    mistakes(
        "apps",
        "Deployment",
        &workload("Deployment"),
        &[
            (
                "/spec/template/metadata/labels",
                json!({"app": "db"}),
                &[
                    "spec.template.metadata.labels: Invalid value: {\"app\":\"db\"}: `selector` does not match template \
                   `labels`",
                ],
            ),
            (
                "/spec/selector",
                json!({}),
                &["spec.selector: Invalid value: {}: empty selector is invalid for deployment"],
            ),
            (
                "/spec/replicas",
                json!(-1),
                &["spec.replicas: Invalid value: -1: must be greater than or equal to 0"],
            ),
            (
                "/spec/template/spec/restartPolicy",
                json!("Never"),
                &["spec.template.spec.restartPolicy: Unsupported value: \"Never\": supported values: \"Always\""],
            ),
            (
                "/spec/template/spec/activeDeadlineSeconds",
                json!(1),
                &[
                    "spec.template.spec.activeDeadlineSeconds: Forbidden: activeDeadlineSeconds in ReplicaSet is not \
                   Supported",
                ],
            ),
            (
                "/spec/template/spec/containers/0/name",
                json!(""),
                &["spec.template.spec.containers[0].name: Required value"],
            ),
            (
                "/spec/strategy",
                json!({"type": "Recreate", "rollingUpdate": {}}),
                &["spec.strategy.rollingUpdate: Forbidden: may not be specified when strategy `type` is 'Recreate'"],
            ),
            (
                "/spec/strategy",
                json!({"rollingUpdate": {"maxUnavailable": 0, "maxSurge": "0%"}}),
                &["spec.strategy.rollingUpdate.maxUnavailable: Invalid value: 0: may not be 0 when `maxSurge` is 0"],
            ),
            (
                "/spec/strategy",
                json!({"type": "Blue"}),
                &[
                    "spec.strategy: Unsupported value: {\"type\":\"Blue\"}: supported values: \"Recreate\", \
                   \"RollingUpdate\"",
                ],
            ),
            (
                "/spec/minReadySeconds",
                json!(600),
                &["spec.progressDeadlineSeconds: Invalid value: 600: must be greater than minReadySeconds"],
            ),
        ],
    );
}

#[test]
fn mistakes_in_other_workloads_are_told_too() {
    mistakes(
        "apps",
        "StatefulSet",
        &workload("StatefulSet"),
        &[
            (
                "/spec/podManagementPolicy",
                json!("Random"),
                &["spec.podManagementPolicy: Invalid value: \"Random\": must be 'OrderedReady' or 'Parallel'"],
            ),
            (
                "/spec/updateStrategy",
                json!({"type": "OnDelete", "rollingUpdate": {}}),
                &[
                    "spec.updateStrategy.rollingUpdate: Invalid value: {}: only allowed for updateStrategy \
                   'RollingUpdate'",
                ],
            ),
            (
                "/spec/updateStrategy",
                json!({"rollingUpdate": {"partition": -1, "maxUnavailable": "101%"}}),
                &[
                    "spec.updateStrategy.rollingUpdate.partition: Invalid value: -1: must be greater than or equal to 0",
                    "spec.updateStrategy.rollingUpdate.maxUnavailable: Invalid value: \"101%\": must not be greater \
                     than 100%",
                ],
            ),
        ],
    );
    mistakes(
        "apps",
        "DaemonSet",
        &workload("DaemonSet"),
        &[
            (
                "/spec/updateStrategy",
                json!({"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 1}}),
                &[
                    "spec.updateStrategy.rollingUpdate.maxSurge: Invalid value: 1: may not be set when maxUnavailable is \
                   non-zero",
                ],
            ),
            (
                "/spec/updateStrategy",
                json!({"rollingUpdate": {"maxSurge": 0, "maxUnavailable": 0}}),
                &["spec.updateStrategy.rollingUpdate.maxUnavailable: Required value: cannot be 0 when maxSurge is 0"],
            ),
        ],
    );
}

#[test]
fn what_selects_the_pods_stays() {
    let other = json!({"matchLabels": {"app": "web", "tier": "a"}});
    for kind in ["Deployment", "ReplicaSet", "DaemonSet"] {
        let stored = create("apps", kind, workload(kind)).unwrap();
        let mut new = with(&stored, "/spec/selector", other.clone());
        new["spec"]["template"]["metadata"]["labels"]["tier"] = "a".into();
        assert_eq!(
            update("apps", kind, new, &stored, "").unwrap_err(),
            ["spec.selector: Invalid value: {\"matchLabels\":{\"app\":\"web\",\"tier\":\"a\"}}: field is immutable"],
            "{kind}"
        );
    }
    changes(
        "apps",
        "StatefulSet",
        &workload("StatefulSet"),
        &[
            ("/spec/replicas", json!(3), &[]),
            ("/spec/template/spec/containers/0/image", json!("web:2"), &[]),
            (
                "/spec/serviceName",
                json!("other"),
                &[
                    "spec: Forbidden: updates to statefulset spec for fields other than 'replicas', 'ordinals', \
                   'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and \
                   'minReadySeconds' are forbidden",
                ],
            ),
        ],
    );
}

#[test]
fn a_status_that_can_not_be_is_refused() {
    let stored = create("apps", "Deployment", workload("Deployment")).unwrap();
    let new = with(
        &stored,
        "/status",
        json!({"replicas": 1, "readyReplicas": 2, "availableReplicas": 1}),
    );
    assert_eq!(
        update("apps", "Deployment", new, &stored, "status").unwrap_err(),
        ["status.readyReplicas: Invalid value: 2: cannot be greater than status.replicas"]
    );
    let good = with(&stored, "/status", json!({"replicas": 1, "collisionCount": 1}));
    let good = update("apps", "Deployment", good, &stored, "status").unwrap();
    let fewer = with(&good, "/status/collisionCount", json!(0));
    assert_eq!(
        update("apps", "Deployment", fewer, &good, "status").unwrap_err(),
        ["status.collisionCount: Invalid value: 0: cannot be decremented"]
    );
}

#[test]
fn what_a_revision_holds_stays() {
    let revision = json!({
        "apiVersion": "apps/v1", "kind": "ControllerRevision", "metadata": {"name": "web-1"}, "revision": 1,
        "data": {"spec": {}},
    });
    changes(
        "apps",
        "ControllerRevision",
        &revision,
        &[
            ("/revision", json!(2), &[]),
            (
                "/data",
                json!({"spec": 1}),
                &["data: Invalid value: {\"spec\":1}: field is immutable"],
            ),
        ],
    );
}
