use std::{collections::BTreeMap, sync::Arc};

use serde_json::{Value, json};

use super::*;
use crate::workload::{
    Pod,
    revision::{self, REVISION_HASH, Revision, Wanted},
    template::controller_ref,
    testing::{merge, now, object, phase, pod, terminating, unready},
};

fn template(image: &str) -> Value {
    json!({"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": image}]}})
}

fn set(replicas: i32, changes: &Value) -> Arc<StatefulSet> {
    let base = json!({
        "metadata": {"name": "web", "namespace": "default", "uid": "web", "generation": 1},
        "spec": {
            "replicas": replicas, "serviceName": "web", "podManagementPolicy": "OrderedReady",
            "selector": {"matchLabels": {"app": "web"}}, "template": template("new"),
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}},
        },
    });
    object(&base, changes)
}

/// Revisions of these templates, oldest first.
fn revisions(images: &[&str]) -> Vec<Arc<Revision>> {
    let set = set(0, &json!({}));
    let owner = controller_ref::<StatefulSet>(&set.metadata);
    let mut revisions = vec![];
    for image in images {
        let wanted = revision::wanted(
            &set.metadata,
            &owner,
            &template(image),
            REVISION_LABEL,
            &revisions,
            Some(0),
        );
        let Wanted::New { object, .. } = wanted else {
            panic!("{image} is new")
        };
        revisions.push(Arc::new(serde_json::from_value(object).unwrap()));
    }
    revisions
}

/// The pod of this number, of a revision.
fn member(ordinal: i32, revision: &Revision, changes: &Value) -> Arc<Pod> {
    let name = format!("web-{ordinal}");
    let mut all = json!({"metadata": {"labels": {
        "statefulset.kubernetes.io/pod-name": name, "apps.kubernetes.io/pod-index": ordinal.to_string(),
        REVISION_HASH: revision.name(),
    }}});
    merge(&mut all, changes);
    pod(&name, "web", &all)
}

fn planned(set: &StatefulSet, pods: &[Arc<Pod>], revisions: &[Arc<Revision>]) -> Plan {
    let claims = BTreeMap::new();
    plan(Snapshot {
        set,
        pods,
        revisions,
        claims: &claims,
        now: now(),
    })
}

/// What the steps do, in short.
fn told(plan: &Plan) -> Vec<String> {
    let told = plan.steps.iter().map(|step| match step {
        Step::Claim { object, .. } => format!("claim {}", object["metadata"]["name"].as_str().unwrap()),
        Step::Create(pod) => format!("create {}", pod["metadata"]["name"].as_str().unwrap()),
        Step::Delete(pod) => format!("delete {}", pod.name()),
        Step::Label(pod, _) => format!("label {}", pod.name()),
        Step::Own(claim, owners) => {
            let owners: Vec<_> = owners.iter().map(|owner| owner.kind.as_str()).collect();
            format!("own {} by {owners:?}", claim.metadata.name.as_deref().unwrap())
        }
    });
    told.collect()
}

#[test]
fn pods_come_and_go_one_after_the_other_unless_that_does_not_matter() {
    let revisions = revisions(&["new"]);
    let new = &revisions[0];
    let up = |ordinal| member(ordinal, new, &json!({}));
    let with = |ordinal, changes: Value| member(ordinal, new, &changes);
    for (why, wanted, pods, ordered, parallel) in [
        (
            "none is there",
            3,
            vec![],
            vec!["create web-0"],
            vec!["create web-0", "create web-1", "create web-2"],
        ),
        (
            "the first is up",
            3,
            vec![up(0)],
            vec!["create web-1"],
            vec!["create web-1", "create web-2"],
        ),
        (
            "the first isn't",
            2,
            vec![with(0, unready())],
            vec![],
            vec!["create web-1"],
        ),
        (
            "a gap",
            3,
            vec![up(0), up(2)],
            vec!["create web-1"],
            vec!["create web-1"],
        ),
        ("one ends", 2, vec![up(0), with(1, terminating())], vec![], vec![]),
        (
            "one failed",
            2,
            vec![up(0), with(1, phase("Failed"))],
            vec!["delete web-1"],
            vec!["delete web-1"],
        ),
        (
            "one succeeded",
            1,
            vec![with(0, phase("Succeeded"))],
            vec!["delete web-0"],
            vec!["delete web-0"],
        ),
        (
            "two are too many",
            1,
            vec![up(0), up(1), up(2)],
            vec!["delete web-2"],
            vec!["delete web-2", "delete web-1"],
        ),
        (
            "the last ends",
            1,
            vec![up(0), up(1), with(2, terminating())],
            vec![],
            vec!["delete web-1"],
        ),
        (
            "one that stays is not well",
            1,
            vec![with(0, unready()), up(1)],
            vec![],
            vec!["delete web-1"],
        ),
        (
            "one that goes is not well, but not the last",
            0,
            vec![with(0, unready()), up(1)],
            vec!["delete web-1"],
            vec!["delete web-1", "delete web-0"],
        ),
        (
            "none but the first unwell one",
            0,
            vec![up(0), with(1, unready()), with(2, unready())],
            vec![],
            vec!["delete web-2", "delete web-1", "delete web-0"],
        ),
        (
            "a name that isn't its own",
            0,
            vec![pod("web-x", "web", &json!({}))],
            vec![],
            vec![],
        ),
    ] {
        assert_eq!(
            told(&planned(&set(wanted, &json!({})), &pods, &revisions)),
            ordered,
            "{why}, in order"
        );
        let free = set(wanted, &json!({"spec": {"podManagementPolicy": "Parallel"}}));
        assert_eq!(told(&planned(&free, &pods, &revisions)), parallel, "{why}, in parallel");
    }
}

#[test]
fn a_pod_is_what_its_number_makes_it() {
    let set = set(
        1,
        &json!({"spec": {
            "ordinals": {"start": 5},
            "volumeClaimTemplates": [{"metadata": {"name": "data", "labels": {"a": "b"}}, "spec": {"accessModes": []}, "status": {}}],
        }}),
    );
    let plan = planned(&set, &[], &[]);
    assert_eq!(told(&plan), ["claim data-web-5", "create web-5"]);
    let (Step::Claim { object: claim, .. }, Step::Create(pod)) = (&plan.steps[0], &plan.steps[1]) else {
        panic!("a claim, then a pod")
    };
    assert_eq!(claim["metadata"]["labels"], json!({"a": "b", "app": "web"}));
    assert_eq!(claim.get("status"), None);
    assert_eq!(
        pod["metadata"]["labels"],
        json!({
            "app": "web", "statefulset.kubernetes.io/pod-name": "web-5", "apps.kubernetes.io/pod-index": "5",
            "controller-revision-hash": plan.revision.name(),
        })
    );
    assert_eq!(
        (&pod["spec"]["hostname"], &pod["spec"]["subdomain"]),
        (&json!("web-5"), &json!("web"))
    );
    assert_eq!(
        pod["spec"]["volumes"],
        json!([{"name": "data", "persistentVolumeClaim": {"claimName": "data-web-5"}}])
    );
    assert_eq!(pod["metadata"]["ownerReferences"][0]["kind"], "StatefulSet");
}

#[test]
fn updates_go_from_the_last_pod_to_the_first() {
    let revisions = revisions(&["old", "new"]);
    let old = |ordinal, changes: Value| member(ordinal, &revisions[0], &changes);
    let new = |ordinal, changes: Value| member(ordinal, &revisions[1], &changes);
    let fine = || json!({});
    let current = json!({"status": {"currentRevision": revisions[0].name()}});
    let strategy = |strategy: Value| json!({"spec": {"updateStrategy": strategy}, "status": current["status"]});
    let parallel = |most: i32| {
        let rolling = json!({"partition": 0, "maxUnavailable": most});
        json!({
            "spec": {"podManagementPolicy": "Parallel", "updateStrategy": {"rollingUpdate": rolling}},
            "status": current["status"],
        })
    };
    let rolling = |rolling: Value| strategy(json!({"rollingUpdate": rolling}));
    let all_old = || vec![old(0, fine()), old(1, fine()), old(2, fine())];
    for (why, changes, pods, expected) in [
        ("all are old", current.clone(), all_old(), vec!["delete web-2"]),
        (
            "the last is new",
            current.clone(),
            vec![old(0, fine()), old(1, fine()), new(2, fine())],
            vec!["delete web-1"],
        ),
        (
            "the last isn't up yet",
            current.clone(),
            vec![old(0, fine()), old(1, fine()), new(2, unready())],
            vec![],
        ),
        (
            "up to the partition",
            rolling(json!({"partition": 2})),
            all_old(),
            vec!["delete web-2"],
        ),
        ("not beyond it", rolling(json!({"partition": 3})), all_old(), vec![]),
        (
            "two at a time",
            rolling(json!({"maxUnavailable": 2})),
            all_old(),
            vec!["delete web-2", "delete web-1"],
        ),
        (
            "half of three, rounded down",
            rolling(json!({"maxUnavailable": "50%"})),
            all_old(),
            vec!["delete web-2"],
        ),
        (
            "none by itself",
            strategy(json!({"type": "OnDelete"})),
            all_old(),
            vec![],
        ),
        (
            "one that is missing counts",
            parallel(2),
            vec![old(0, fine()), old(1, fine()), new(2, unready())],
            vec!["delete web-1"],
        ),
        (
            "an old one that is broken is replaced whatever else is missing",
            parallel(1),
            vec![old(0, unready()), old(1, fine()), old(2, fine())],
            vec!["delete web-0"],
        ),
    ] {
        assert_eq!(told(&planned(&set(3, &changes), &pods, &revisions)), expected, "{why}");
    }
}

#[test]
fn pods_before_the_partition_come_back_as_they_were() {
    let revisions = revisions(&["old", "new"]);
    let rolling = json!({"rollingUpdate": {"partition": 1}});
    let changes = json!({
        "spec": {"podManagementPolicy": "Parallel", "updateStrategy": rolling},
        "status": {"currentRevision": revisions[0].name()},
    });
    let plan = planned(&set(2, &changes), &[], &revisions);
    let images = plan.steps.iter().map(|step| {
        let Step::Create(pod) = step else {
            panic!("only pods are made")
        };
        (
            pod["spec"]["containers"][0]["image"].clone(),
            pod["metadata"]["labels"][REVISION_HASH].clone(),
        )
    });
    let images: Vec<_> = images.collect();
    assert_eq!(images[0], (json!("old"), json!(revisions[0].name())));
    assert_eq!(images[1], (json!("new"), json!(revisions[1].name())));
}

#[test]
fn the_status_counts_pods_and_ends_an_update_when_all_are_new() {
    let revisions = revisions(&["old", "new"]);
    let before = json!({"status": {"currentRevision": revisions[0].name()}});
    let pods = [
        member(0, &revisions[0], &json!({})),
        member(1, &revisions[1], &unready()),
    ];
    let told = planned(&set(2, &before), &pods, &revisions).status;
    assert_eq!(
        (told.replicas, told.ready_replicas, told.available_replicas),
        (2, Some(1), Some(1))
    );
    assert_eq!((told.current_replicas, told.updated_replicas), (Some(1), Some(1)));
    assert_eq!(told.current_revision.as_deref(), Some(revisions[0].name()));
    assert_eq!(told.update_revision.as_deref(), Some(revisions[1].name()));

    let pods = [
        member(0, &revisions[1], &json!({})),
        member(1, &revisions[1], &json!({})),
    ];
    let told = planned(&set(2, &before), &pods, &revisions).status;
    assert_eq!(told.current_revision.as_deref(), Some(revisions[1].name()));
    assert_eq!(told.current_replicas, Some(2));
}

#[test]
fn old_revisions_are_forgotten_beyond_the_limit() {
    let revisions = revisions(&["one", "two", "three", "new"]);
    let pods = [member(0, &revisions[1], &json!({}))];
    let plan = planned(
        &set(1, &json!({"spec": {"revisionHistoryLimit": 0}})),
        &pods,
        &revisions,
    );
    let forgotten: Vec<_> = plan.forget.iter().map(|revision| revision.revision).collect();
    assert_eq!(forgotten, [1, 3]);
}

#[test]
fn claims_are_owned_by_what_they_shall_go_with() {
    let revisions = revisions(&["new"]);
    let claim = |name: &str, owners: Value| -> (String, Arc<Claim>) {
        let claim = json!({"metadata": {"name": name, "ownerReferences": owners}});
        (name.to_owned(), object(&claim, &json!({})))
    };
    let by_set =
        || json!([{"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "web", "uid": "web", "controller": true}]);
    let by_other = || json!([{"apiVersion": "v1", "kind": "Other", "name": "o", "uid": "o", "controller": true}]);
    for (deleted, scaled, wanted, owners, expected) in [
        ("Retain", "Retain", 1, json!([]), vec![]),
        ("Retain", "Retain", 1, by_set(), vec!["own data-web-0 by []"]),
        (
            "Delete",
            "Retain",
            1,
            json!([]),
            vec!["own data-web-0 by [\"StatefulSet\"]"],
        ),
        ("Delete", "Retain", 1, by_set(), vec![]),
        (
            "Delete",
            "Delete",
            1,
            json!([]),
            vec!["own data-web-0 by [\"StatefulSet\"]"],
        ),
        (
            "Retain",
            "Delete",
            0,
            json!([]),
            vec!["own data-web-0 by [\"Pod\"]", "delete web-0"],
        ),
        (
            "Delete",
            "Delete",
            0,
            by_set(),
            vec!["own data-web-0 by [\"Pod\"]", "delete web-0"],
        ),
        ("Delete", "Delete", 1, by_other(), vec![]),
    ] {
        let set = set(
            wanted,
            &json!({"spec": {
                "volumeClaimTemplates": [{"metadata": {"name": "data"}}],
                "persistentVolumeClaimRetentionPolicy": {"whenDeleted": deleted, "whenScaled": scaled},
            }}),
        );
        let claims = BTreeMap::from([claim("data-web-0", owners)]);
        let plan = plan(Snapshot {
            set: &set,
            pods: &[member(0, &revisions[0], &json!({}))],
            revisions: &revisions,
            claims: &claims,
            now: now(),
        });
        assert_eq!(
            told(&plan),
            expected,
            "deleted: {deleted}, scaled: {scaled}, wanted: {wanted}"
        );
    }
}

#[test]
fn a_pod_waits_for_claims_of_its_forerunner_to_go() {
    let set = set(
        1,
        &json!({"spec": {"volumeClaimTemplates": [{"metadata": {"name": "data"}}]}}),
    );
    let stale = json!({"metadata": {"name": "data-web-0", "ownerReferences": [
        {"apiVersion": "v1", "kind": "Pod", "name": "web-0", "uid": "gone"}]}});
    for (changes, events) in [(json!({}), 0), (terminating(), 1)] {
        let claims = BTreeMap::from([("data-web-0".to_owned(), object::<Claim>(&stale, &changes))]);
        let plan = plan(Snapshot {
            set: &set,
            pods: &[],
            revisions: &[],
            claims: &claims,
            now: now(),
        });
        assert!(plan.steps.is_empty());
        assert_eq!(plan.events.len(), events);
    }
}

#[test]
fn a_pod_gets_its_label_back_and_a_deleted_set_is_left_alone() {
    let revisions = revisions(&["new"]);
    let stranger = member(
        0,
        &revisions[0],
        &json!({"metadata": {"labels": {"statefulset.kubernetes.io/pod-name": "x"}}}),
    );
    let plan = planned(&set(1, &json!({})), &[stranger], &revisions);
    assert_eq!(told(&plan), ["label web-0"]);
    assert!(planned(&set(3, &terminating()), &[], &revisions).steps.is_empty());
}
