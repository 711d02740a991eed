use serde_json::json;

use super::*;
use crate::workload::testing::{now, object, phase, pod, terminating, unready};

fn set(replicas: i32, changes: &Value) -> Arc<ReplicaSet> {
    let base = json!({
        "metadata": {"name": "web", "namespace": "default", "uid": "web", "generation": 2},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c"}]}},
        },
    });
    object(&base, changes)
}

fn pods(changes: &[Value]) -> Vec<Arc<Pod>> {
    changes
        .iter()
        .enumerate()
        .map(|(number, changes)| pod(&format!("web-{number}"), "web", changes))
        .collect()
}

#[test]
fn as_many_pods_are_made_or_deleted_as_are_too_few_or_too_many() {
    let one = || json!({});
    for (why, wanted, there, create, delete) in [
        ("none is there", 2, vec![], 2, vec![]),
        ("all are there", 2, vec![one(), one()], 0, vec![]),
        ("one is too many", 1, vec![one(), unready()], 0, vec!["web-1"]),
        ("none is wanted", 0, vec![one(), one()], 0, vec!["web-0", "web-1"]),
        (
            "ended ones don't count",
            2,
            vec![phase("Failed"), phase("Succeeded"), one()],
            1,
            vec![],
        ),
        ("ending ones don't count", 2, vec![terminating(), one()], 1, vec![]),
        ("no more than a burst at a time", 501, vec![], 500, vec![]),
        ("a negative number is none", -1, vec![], 0, vec![]),
    ] {
        let pods = pods(&there);
        let plan = plan(&*set(wanted, &json!({})), &pods, &pods, now());
        assert_eq!(plan.create.len(), create, "{why}");
        let deleted: Vec<_> = plan.delete.iter().map(|pod| pod.name()).collect();
        assert_eq!(deleted, delete, "{why}");
    }
}

#[test]
fn pods_are_made_of_the_template_and_owned() {
    let plan = plan(&*set(1, &json!({})), &[], &[], now());
    let pod = &plan.create[0];
    assert_eq!(pod["metadata"]["generateName"], "web-");
    assert_eq!(pod["metadata"]["labels"], json!({"app": "web"}));
    let owner = json!({
        "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": "web", "controller": true,
        "blockOwnerDeletion": true,
    });
    assert_eq!(pod["metadata"]["ownerReferences"], json!([owner]));
}

#[test]
fn a_replication_controller_is_the_same_engine() {
    let controller: Arc<ReplicationController> = object(
        &json!({
            "metadata": {"name": "web", "uid": "web"},
            "spec": {"replicas": 1, "selector": {"app": "web"}, "template": {"metadata": {"labels": {"app": "web"}}}},
            "status": {"replicas": 0},
        }),
        &json!({}),
    );
    let made = plan(&*controller, &[], &[], now()).create;
    assert_eq!(
        made[0]["metadata"]["ownerReferences"][0]["kind"],
        "ReplicationController"
    );
    assert_eq!(made[0]["metadata"]["ownerReferences"][0]["apiVersion"], "v1");
    let selected = pod("web-1", "web", &json!({}));
    assert!(bosun_api::selector::matches(&controller.selector(), selected.labels()));
    let told = status(
        &*controller,
        &[selected, pod("web-2", "web", &terminating())],
        None,
        now(),
    );
    assert_eq!((told.replicas, told.terminating_replicas), (1, None));
}

#[test]
fn pods_that_share_a_node_with_their_siblings_go_first() {
    let on = |node: &str| json!({"spec": {"nodeName": node}});
    let own = pods(&[on("node-1"), on("node-2"), on("node-3")]);
    let mut related = own.clone();
    related.push(pod("other", "web-old", &on("node-2")));
    let plan = plan(&*set(2, &json!({})), &own, &related, now());
    assert_eq!(plan.delete[0].name(), "web-1");
}

#[test]
fn siblings_are_of_one_deployment() {
    let of = |name: &str, owner: &str| {
        let owner =
            json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": owner, "uid": owner, "controller": true});
        set(1, &json!({"metadata": {"uid": name, "ownerReferences": [owner]}}))
    };
    assert!(are_siblings(&*of("a", "d"), &*of("b", "d")));
    assert!(!are_siblings(&*of("a", "d"), &*of("b", "e")));
    let alone = |uid: &str| set(1, &json!({"metadata": {"uid": uid}}));
    assert!(are_siblings(&*alone("a"), &*alone("a")) && !are_siblings(&*alone("a"), &*alone("b")));
}

#[test]
fn the_status_counts_pods_by_how_they_are() {
    let set = set(5, &json!({"spec": {"minReadySeconds": 60}}));
    let fresh = json!({"status": {"conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T11:59:30Z"}]}});
    let stray = json!({"metadata": {"labels": {"app": "db"}}});
    let pods = pods(&[json!({}), fresh, unready(), stray, terminating(), phase("Failed")]);
    let told = status(&*set, &pods, None, now());
    assert_eq!(
        serde_json::to_value(&told).unwrap(),
        json!({
            "replicas": 4, "fullyLabeledReplicas": 3, "readyReplicas": 3, "availableReplicas": 2,
            "terminatingReplicas": 1, "observedGeneration": 2,
        })
    );
    assert_eq!(
        next_look(&*set, &pods, now()),
        Some("2026-01-01T12:00:30Z".parse().unwrap())
    );
    assert_eq!(next_look(&*set, &pods[..1], now()), None);
}

#[test]
fn a_failure_is_told_until_it_is_over() {
    let plain = set(1, &json!({}));
    let failed = status(&*plain, &[], Some(("FailedCreate", "quota".to_owned())), now());
    let conditions = failed.conditions.clone().unwrap();
    assert_eq!(conditions[0].type_, "ReplicaFailure");
    assert_eq!(conditions[0].reason.as_deref(), Some("FailedCreate"));
    assert_eq!(conditions[0].message.as_deref(), Some("quota"));

    let before = set(1, &json!({"status": failed}));
    let again = status(&*before, &[], Some(("FailedCreate", "another".to_owned())), now());
    assert_eq!(again.conditions, Some(conditions));
    assert_eq!(status(&*before, &[], None, now()).conditions, None);
}
