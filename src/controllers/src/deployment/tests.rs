use std::sync::Arc;

use serde_json::{Value, json};

use super::*;
use crate::{
    replica_set::ReplicaSet,
    workload::testing::{at, merge, now, object},
};

fn template(image: &str) -> Value {
    json!({"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": image}]}})
}

fn deployment(replicas: i32, changes: &Value) -> Arc<Deployment> {
    let base = json!({
        "metadata": {"name": "web", "namespace": "default", "uid": "web", "generation": 2, "annotations": {"kubernetes.io/change-cause": "why"}},
        "spec": {
            "replicas": replicas, "selector": {"matchLabels": {"app": "web"}}, "template": template("new"),
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
            "progressDeadlineSeconds": 600, "revisionHistoryLimit": 10,
        },
    });
    object(&base, changes)
}

/// A ReplicaSet of a template: its size, and how many of its pods are there and available.
fn set(image: &str, revision: i64, (size, there, available): (i32, i32, i32), changes: &Value) -> Arc<ReplicaSet> {
    let mut template = template(image);
    template["metadata"]["labels"]["pod-template-hash"] = image.into();
    let base = json!({
        "metadata": {
            "name": format!("web-{image}"), "namespace": "default", "uid": format!("uid-{image}"), "generation": 1,
            "resourceVersion": "7", "creationTimestamp": format!("2026-01-01T0{revision}:00:00Z"),
            "annotations": {
                annotations::REVISION: revision.to_string(), annotations::DESIRED: "4", annotations::MAX: "5",
                "kubernetes.io/change-cause": "why",
            },
        },
        "spec": {"replicas": size, "template": template},
        "status": {"replicas": there, "readyReplicas": available, "availableReplicas": available, "observedGeneration": 1, "terminatingReplicas": 0},
    });
    object(&base, changes)
}

fn planned(deployment: &Deployment, sets: &[Arc<ReplicaSet>]) -> Plan {
    plan(Snapshot {
        deployment,
        sets,
        running: &[],
        now: now(),
    })
}

/// What happens to which set: its new size.
fn told(plan: &Plan) -> Vec<(String, i64)> {
    let created = plan
        .create
        .iter()
        .map(|new| ("new".to_owned(), new.object["spec"]["replicas"].as_i64().unwrap()));
    let scaled = plan.change.iter().filter_map(|change| {
        let size = change.patch.pointer("/spec/replicas")?.as_i64()?;
        Some((change.set.metadata.name.clone()?.replace("web-", ""), size))
    });
    created.chain(scaled).collect()
}

fn reason<'a>(status: &'a apps::DeploymentStatus, type_: &str) -> Option<&'a str> {
    let condition = status
        .conditions
        .iter()
        .flatten()
        .find(|condition| condition.type_ == type_)?;
    condition.reason.as_deref()
}

#[test]
fn a_rolling_update_moves_within_its_bounds() {
    let plain = || json!({});
    let rolling = |surge: Value, unavailable: Value| json!({"spec": {"strategy": {"rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}}}});
    let one = |image: &str, revision, counts| set(image, revision, counts, &json!({}));
    let no: Vec<(&str, i64)> = vec![];
    for (why, changes, sets, expected) in [
        ("nothing is there", plain(), vec![], vec![("new", 4)]),
        (
            "the old are there",
            plain(),
            vec![one("old", 1, (4, 4, 4))],
            vec![("new", 1)],
        ),
        (
            "none may surge",
            rolling(json!(0), json!(1)),
            vec![one("old", 1, (4, 4, 4))],
            vec![("new", 0)],
        ),
        (
            "neither is bounded to one missing",
            rolling(json!(0), json!(0)),
            vec![one("old", 1, (4, 4, 4)), one("new", 2, (0, 0, 0))],
            vec![("old", 3)],
        ),
        (
            "by percent",
            rolling(json!("50%"), json!(0)),
            vec![one("old", 1, (4, 4, 4))],
            vec![("new", 2)],
        ),
        (
            "the new isn't available",
            plain(),
            vec![one("old", 1, (4, 4, 4)), one("new", 2, (1, 1, 0))],
            no.clone(),
        ),
        (
            "the new is available",
            plain(),
            vec![one("old", 1, (4, 4, 4)), one("new", 2, (1, 1, 1))],
            vec![("old", 3)],
        ),
        (
            "there is room again",
            plain(),
            vec![one("old", 1, (3, 3, 3)), one("new", 2, (1, 1, 1))],
            vec![("new", 2)],
        ),
        (
            "old ones that are broken go first",
            plain(),
            vec![
                one("older", 1, (2, 2, 0)),
                one("old", 2, (3, 3, 3)),
                one("new", 3, (0, 0, 0)),
            ],
            vec![("older", 1)],
        ),
        (
            "one may be missing",
            rolling(json!(0), json!(1)),
            vec![one("old", 1, (4, 4, 4)), one("new", 2, (0, 0, 0))],
            vec![("old", 3)],
        ),
        (
            "the new is too large",
            plain(),
            vec![one("new", 2, (6, 6, 6))],
            vec![("new", 4)],
        ),
        (
            "all is done",
            plain(),
            vec![one("old", 1, (0, 0, 0)), one("new", 2, (4, 4, 4))],
            no.clone(),
        ),
        (
            "it is paused",
            json!({"spec": {"paused": true}}),
            vec![one("old", 1, (4, 4, 4))],
            no.clone(),
        ),
        (
            "it is deleted",
            json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}),
            vec![],
            no,
        ),
    ] {
        let plan = planned(&deployment(4, &changes), &sets);
        let expected: Vec<_> = expected
            .into_iter()
            .map(|(name, size)| (name.to_owned(), size))
            .collect();
        assert_eq!(told(&plan), expected, "{why}");
    }
}

#[test]
fn never_fewer_are_available_than_must_be_whatever_order_pods_come_up_in() {
    // Plays ReplicaSets that do at once what they are told, and whose new pods come up one at a time.
    for (surge, unavailable) in [(1, 0), (0, 1), (2, 1), (4, 0), (0, 4), (3, 3)] {
        let bounds = json!({"maxSurge": surge, "maxUnavailable": unavailable});
        let deployment = deployment(4, &json!({"spec": {"strategy": {"rollingUpdate": bounds}}}));
        let (mut old, mut new, mut up) = (4, 0, 0);
        for _ in 0..40 {
            let sets = [
                set("old", 1, (old, old, old), &json!({})),
                set("new", 2, (new, new, up), &json!({})),
            ];
            let before = (old, new);
            for (name, size) in told(&planned(&deployment, &sets)) {
                let size = i32::try_from(size).unwrap();
                if name == "old" { old = size } else { new = size }
            }
            assert!(old + new <= 4 + surge, "{old} + {new} with {surge}/{unavailable}");
            assert!(old + up >= 4 - unavailable, "{old} + {up} with {surge}/{unavailable}");
            if before == (old, new) {
                up = new.min(up + 1);
            }
        }
        assert_eq!((old, new, up), (0, 4, 4), "{surge}/{unavailable}");
    }
}

#[test]
fn a_re_creation_lets_all_old_pods_go_first() {
    let changes = json!({"spec": {"strategy": {"type": "Recreate", "rollingUpdate": null}}});
    let deployment = deployment(4, &changes);
    let old = |counts| set("old", 1, counts, &json!({}));
    assert_eq!(told(&planned(&deployment, &[old((4, 4, 4))])), [("old".to_owned(), 0)]);
    assert_eq!(told(&planned(&deployment, &[old((0, 1, 0))])), []);
    let ending = plan(Snapshot {
        deployment: &deployment,
        sets: &[old((0, 0, 0))],
        running: &["uid-old".to_owned()],
        now: now(),
    });
    assert_eq!(told(&ending), []);
    assert_eq!(told(&planned(&deployment, &[old((0, 0, 0))])), [("new".to_owned(), 4)]);
}

#[test]
fn a_change_of_size_meanwhile_keeps_the_proportion() {
    let rolling = |wanted: i32, surge: i32| {
        deployment(
            wanted,
            &json!({"spec": {"strategy": {"rollingUpdate": {"maxSurge": surge, "maxUnavailable": 2}}}}),
        )
    };
    let noted = |desired: i32, most: i32| json!({"metadata": {"annotations": {annotations::DESIRED: desired.to_string(), annotations::MAX: most.to_string()}}});
    let sized = |image: &str, revision, size, changes: &Value| set(image, revision, (size, size, size), changes);
    for (why, deployment, sets, expected) in [
        (
            "each grows",
            rolling(15, 3),
            vec![sized("old", 1, 8, &noted(10, 13)), sized("new", 2, 5, &noted(10, 13))],
            vec![("old", 11), ("new", 7)],
        ),
        (
            "each shrinks",
            rolling(5, 3),
            vec![sized("old", 1, 8, &noted(10, 13)), sized("new", 2, 5, &noted(10, 13))],
            vec![("old", 5), ("new", 3)],
        ),
        (
            "down to none",
            rolling(0, 3),
            vec![sized("old", 1, 8, &noted(10, 13)), sized("new", 2, 5, &noted(10, 13))],
            vec![("old", 0), ("new", 0)],
        ),
        (
            "only one has pods",
            rolling(6, 1),
            vec![sized("old", 1, 0, &noted(4, 5)), sized("new", 2, 4, &noted(4, 5))],
            vec![("new", 6)],
        ),
        (
            "only an old one has",
            rolling(6, 1),
            vec![sized("old", 1, 4, &noted(4, 5))],
            vec![("old", 6)],
        ),
        (
            "the new one suffices",
            rolling(4, 1),
            vec![sized("old", 1, 1, &noted(3, 4)), sized("new", 2, 4, &noted(4, 5))],
            vec![("old", 0)],
        ),
    ] {
        let plan = planned(&deployment, &sets);
        let expected: Vec<_> = expected
            .into_iter()
            .map(|(name, size)| (name.to_owned(), size))
            .collect();
        assert_eq!(told(&plan), expected, "{why}");
        for change in &plan.change {
            let annotations = &change.patch["metadata"]["annotations"];
            let wanted = deployment.replicas().to_string();
            let before = change.set.metadata.annotations.as_ref().unwrap()[annotations::DESIRED].clone();
            assert!(
                annotations[annotations::DESIRED] == wanted.as_str() || before == wanted,
                "{why}: {annotations}"
            );
        }
    }
}

#[test]
fn a_new_set_is_named_by_its_template_and_says_what_it_is_of() {
    let deployment = deployment(4, &json!({}));
    let plan = planned(&deployment, &[set("old", 3, (4, 4, 4), &json!({}))]);
    let new = plan.create.unwrap();
    let hash = new.name.strip_prefix("web-").unwrap();
    assert_eq!(
        new.object["metadata"]["labels"],
        json!({"app": "web", "pod-template-hash": hash})
    );
    assert_eq!(
        new.object["spec"]["selector"],
        json!({"matchLabels": {"app": "web", "pod-template-hash": hash}})
    );
    assert_eq!(
        new.object["spec"]["template"]["metadata"]["labels"]["pod-template-hash"],
        hash
    );
    assert_eq!(
        new.object["metadata"]["annotations"],
        json!({
            "kubernetes.io/change-cause": "why", annotations::REVISION: "4", annotations::DESIRED: "4", annotations::MAX: "5",
        })
    );
    assert_eq!(
        new.event.unwrap().message,
        format!("Scaled up replica set {} from 0 to 1", new.name)
    );
    assert_eq!(plan.revision, Some(4));
    assert_eq!(reason(&plan.status, "Progressing"), Some("NewReplicaSetCreated"));

    let taken = collided(&deployment);
    let mut changes = json!({});
    changes["status"] = serde_json::to_value(&taken).unwrap();
    let again = planned(&self::deployment(4, &changes), &[]);
    assert_ne!(again.create.unwrap().name, new.name);
}

#[test]
fn a_rollback_gives_the_old_set_the_next_revision_and_remembers_its_own() {
    let deployment = deployment(4, &json!({}));
    let sets = [
        set("new", 1, (0, 0, 0), &json!({})),
        set("old", 2, (4, 4, 4), &json!({})),
    ];
    let plan = planned(&deployment, &sets);
    assert!(plan.create.is_none());
    let change = &plan.change[0];
    assert_eq!(change.set.metadata.name.as_deref(), Some("web-new"));
    assert_eq!(change.patch["metadata"]["annotations"][annotations::REVISION], "3");
    assert_eq!(
        change.patch["metadata"]["annotations"][annotations::REVISION_HISTORY],
        "1"
    );
    assert_eq!(change.patch["metadata"]["resourceVersion"], "7");
    assert_eq!(change.patch["spec"]["replicas"], 1);
    assert_eq!(plan.revision, Some(3));
}

#[test]
fn progress_is_told_until_it_is_complete_or_late() {
    let progressing = |reason: &str, status: &str, updated: &str| {
        json!({"status": {
            "replicas": 5, "updatedReplicas": 1, "readyReplicas": 4, "availableReplicas": 4, "observedGeneration": 2,
            "conditions": [{"type": "Progressing", "status": status, "reason": reason, "lastUpdateTime": updated, "lastTransitionTime": updated}],
        }})
    };
    let stuck = || {
        vec![
            set("old", 1, (4, 4, 4), &json!({})),
            set("new", 2, (1, 1, 0), &json!({})),
        ]
    };
    let done = || vec![set("new", 2, (4, 4, 4), &json!({}))];
    let recent = "2026-01-01T11:55:00Z";
    let long_ago = "2026-01-01T11:40:00Z";
    for (why, changes, sets, expected, next) in [
        (
            "it begins",
            json!({}),
            stuck(),
            Some("ReplicaSetUpdated"),
            Some("2026-01-01T12:10:01Z"),
        ),
        (
            "it stands still",
            progressing("ReplicaSetUpdated", "True", recent),
            stuck(),
            Some("ReplicaSetUpdated"),
            Some("2026-01-01T12:05:01Z"),
        ),
        (
            "for too long",
            progressing("ReplicaSetUpdated", "True", long_ago),
            stuck(),
            Some("ProgressDeadlineExceeded"),
            None,
        ),
        (
            "it is done",
            progressing("ReplicaSetUpdated", "True", recent),
            done(),
            Some("NewReplicaSetAvailable"),
            None,
        ),
        (
            "though late",
            progressing("ProgressDeadlineExceeded", "False", long_ago),
            done(),
            Some("NewReplicaSetAvailable"),
            None,
        ),
        (
            "it is paused",
            {
                let mut changes = progressing("ReplicaSetUpdated", "True", long_ago);
                merge(&mut changes, &json!({"spec": {"paused": true}}));
                changes
            },
            stuck(),
            Some("DeploymentPaused"),
            None,
        ),
        (
            "it is resumed",
            progressing("DeploymentPaused", "Unknown", long_ago),
            stuck(),
            Some("DeploymentResumed"),
            Some("2026-01-01T12:10:01Z"),
        ),
        (
            "nobody asks",
            {
                let mut changes = progressing("ReplicaSetUpdated", "True", long_ago);
                merge(&mut changes, &json!({"spec": {"progressDeadlineSeconds": null}}));
                changes
            },
            stuck(),
            None,
            None,
        ),
    ] {
        let plan = planned(&deployment(4, &changes), &sets);
        assert_eq!(reason(&plan.status, "Progressing"), expected, "{why}");
        assert_eq!(plan.next, next.map(at), "{why}");
    }
}

#[test]
fn the_status_adds_up_its_sets() {
    let failure = json!({"status": {"conditions": [{"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": "quota"}]}});
    let sets = [
        set("old", 1, (3, 4, 2), &json!({"status": {"terminatingReplicas": 1}})),
        set("new", 2, (2, 1, 1), &failure),
    ];
    let status = planned(&deployment(4, &json!({})), &sets).status;
    assert_eq!(
        (status.replicas, status.updated_replicas, status.ready_replicas),
        (Some(5), Some(1), Some(3))
    );
    assert_eq!(
        (status.available_replicas, status.unavailable_replicas),
        (Some(3), Some(2))
    );
    assert_eq!(
        (status.terminating_replicas, status.observed_generation),
        (Some(1), Some(2))
    );
    assert_eq!(reason(&status, "Available"), Some("MinimumReplicasUnavailable"));
    assert_eq!(reason(&status, "ReplicaFailure"), Some("FailedCreate"));
}

#[test]
fn old_sets_are_deleted_beyond_the_limit_once_the_rollout_is_complete() {
    let complete = json!({
        "spec": {"revisionHistoryLimit": 1},
        "status": {"replicas": 4, "updatedReplicas": 4, "availableReplicas": 4, "observedGeneration": 2},
    });
    let sets = [
        set("one", 1, (0, 0, 0), &json!({})),
        set("two", 2, (0, 0, 0), &json!({})),
        set("three", 3, (0, 1, 0), &json!({})),
        set("new", 4, (4, 4, 4), &json!({})),
    ];
    let deleted = |changes: &Value| -> Vec<_> {
        let plan = planned(&deployment(4, changes), &sets);
        plan.delete
            .iter()
            .map(|set| set.metadata.name.clone().unwrap())
            .collect()
    };
    assert_eq!(deleted(&complete), ["web-one", "web-two"]);
    assert_eq!(deleted(&json!({"spec": {"revisionHistoryLimit": 1}})), [] as [&str; 0]);
}

#[test]
fn a_selector_of_everything_is_refused() {
    let plan = planned(
        &deployment(4, &json!({"spec": {"selector": {"matchLabels": null}}})),
        &[],
    );
    assert!(plan.create.is_none());
    assert_eq!(plan.events[0].reason, "SelectingAll");
    assert_eq!(plan.status.observed_generation, Some(2));
}
