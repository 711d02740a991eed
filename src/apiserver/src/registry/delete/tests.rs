use serde_json::json;

use super::*;
use crate::registry::builtin::rows;

fn row(plural: &str) -> std::sync::Arc<Resource> {
    rows().into_iter().find(|row| &*row.plural == plural).unwrap()
}

fn at(seconds: i64) -> String {
    metadata::time(Timestamp::from_second(seconds).unwrap())
}

fn options(grace: Option<i64>, propagation: Option<Propagation>) -> DeleteOptions {
    DeleteOptions {
        grace_period_seconds: grace,
        propagation,
        ..DeleteOptions::default()
    }
}

/// The plan as text: `remove`, `wait`, or the marks.
fn told(row: &Resource, object: &Value, options: &DeleteOptions) -> String {
    match plan(row, object, options, Timestamp::from_second(1000).unwrap()) {
        Plan::Remove => "remove".into(),
        Plan::Wait => "wait".into(),
        Plan::Mark(object) => {
            let metadata = &object["metadata"];
            format!(
                "{} {} {}",
                metadata["deletionTimestamp"].as_str().unwrap(),
                metadata["deletionGracePeriodSeconds"],
                metadata["finalizers"],
            )
        }
    }
}

#[test]
fn what_nothing_holds_goes_and_the_rest_is_marked() {
    use Propagation::{Background, Foreground, Orphan};
    let row = row("configmaps");
    let marked = |finalizers: &str| format!("{} 0 {finalizers}", at(1000));
    let table = [
        (json!([]), None, "remove".to_owned()),
        (json!([]), Some(Background), "remove".to_owned()),
        (json!(["a/b"]), None, marked(r#"["a/b"]"#)),
        (json!([]), Some(Orphan), marked(r#"["orphan"]"#)),
        (json!([]), Some(Foreground), marked(r#"["foregroundDeletion"]"#)),
        (json!(["orphan"]), None, marked(r#"["orphan"]"#)),
        (json!(["orphan"]), Some(Background), "remove".to_owned()),
        (
            json!(["orphan", "a/b"]),
            Some(Foreground),
            marked(r#"["a/b","foregroundDeletion"]"#),
        ),
    ];
    for (finalizers, propagation, expected) in table {
        let object = json!({"metadata": {"name": "x", "finalizers": finalizers}});
        assert_eq!(
            told(&row, &object, &options(None, propagation)),
            expected,
            "{finalizers} {propagation:?}"
        );
    }
}

#[test]
fn a_pod_gets_the_time_it_was_promised() {
    let row = row("pods");
    let pod = |node: &str, phase: &str| json!({"metadata": {"name": "x"}, "spec": {"nodeName": node, "terminationGracePeriodSeconds": 30}, "status": {"phase": phase}});
    let marked = |grace: i64| format!("{} {grace} null", at(1000 + grace));
    let table = [
        (pod("n", "Running"), None, marked(30)),
        (pod("n", "Running"), Some(5), marked(5)),
        (pod("n", "Running"), Some(-1), marked(1)),
        (pod("n", "Running"), Some(0), "remove".into()),
        (pod("", "Pending"), Some(60), "remove".into()),
        (pod("n", "Succeeded"), None, "remove".into()),
        (pod("n", "Failed"), Some(9), "remove".into()),
    ];
    for (pod, grace, expected) in table {
        assert_eq!(told(&row, &pod, &options(grace, None)), expected, "{pod} {grace:?}");
    }
}

#[test]
fn the_time_of_a_pod_that_ends_only_becomes_shorter() {
    let row = row("pods");
    let pod = |finalizers: Value| {
        json!({
            "metadata": {
                "name": "x", "finalizers": finalizers, "generation": 2,
                "deletionTimestamp": at(1010), "deletionGracePeriodSeconds": 30,
            },
            "spec": {"nodeName": "n"},
        })
    };
    let table = [
        (json!([]), None, "wait".to_owned()),
        (json!([]), Some(30), "wait".to_owned()),
        (json!([]), Some(40), "wait".to_owned()),
        (json!([]), Some(10), format!("{} 10 null", at(990))),
        (json!([]), Some(0), "remove".to_owned()),
        (json!(["a/b"]), Some(0), format!("{} 0 [\"a/b\"]", at(980))),
    ];
    for (finalizers, grace, expected) in table {
        assert_eq!(
            told(&row, &pod(finalizers), &options(grace, None)),
            expected,
            "{grace:?}"
        );
    }
}

#[test]
fn a_deletion_counts_as_one_change_of_the_object() {
    let object = json!({"metadata": {"name": "x", "generation": 1, "finalizers": ["a/b"]}});
    let Plan::Mark(first) = plan(
        &row("deployments"),
        &object,
        &options(None, None),
        Timestamp::UNIX_EPOCH,
    ) else {
        panic!("it is held");
    };
    assert_eq!(first["metadata"]["generation"], 2);
    let Plan::Mark(second) = plan(&row("deployments"), &first, &options(None, None), Timestamp::UNIX_EPOCH) else {
        panic!("it is held");
    };
    assert_eq!(second, first);
}

#[test]
fn a_namespace_waits_for_what_is_in_it() {
    let row = row("namespaces");
    let namespace = |held: Value, finalizers: Value| json!({"metadata": {"name": "x", "finalizers": finalizers}, "spec": {"finalizers": held}});
    let Plan::Mark(marked) = plan(
        &row,
        &namespace(json!(["kubernetes"]), json!([])),
        &options(None, None),
        Timestamp::UNIX_EPOCH,
    ) else {
        panic!("it is held");
    };
    assert_eq!(marked["status"]["phase"], "Terminating");
    assert_eq!(told(&row, &marked, &options(None, None)), "wait");
    let mut empty = *marked;
    empty["spec"]["finalizers"] = json!([]);
    assert_eq!(told(&row, &empty, &options(None, None)), "remove");
    assert_eq!(
        told(&row, &namespace(json!([]), json!([])), &options(None, None)),
        "remove"
    );
}
