use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{fitness::Fitness, *};
use crate::workload::{
    Pod,
    revision::{REVISION_HASH, Wanted},
    testing::{merge, now, object, phase, pod, terminating, unready},
};

fn set(changes: &Value) -> Arc<DaemonSet> {
    let base = json!({
        "metadata": {"name": "agent", "namespace": "default", "uid": "agent", "generation": 3},
        "spec": {
            "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c"}]}},
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1, "maxSurge": 0}},
        },
    });
    object(&base, changes)
}

fn nodes(names: &[&str]) -> Vec<Node> {
    let node = |name: &&str| Node {
        name: (*name).to_owned(),
        ..Node::default()
    };
    names.iter().map(node).collect()
}

/// The hash of the template as it is.
fn hash() -> String {
    let Wanted::New { hash, .. } = planned(&set(&json!({})), &[], &[]).revision else {
        panic!("there is no revision yet")
    };
    hash
}

fn on(node: &str, hash: &str, changes: &Value) -> Arc<Pod> {
    let mut all = json!({"metadata": {"labels": {REVISION_HASH: hash}}, "spec": {"nodeName": node}});
    merge(&mut all, changes);
    let name = all
        .pointer("/metadata/name")
        .and_then(Value::as_str)
        .unwrap_or(node)
        .to_owned();
    pod(&name, "agent", &all)
}

fn planned(set: &DaemonSet, nodes: &[Node], pods: &[Arc<Pod>]) -> Plan {
    plan(Snapshot {
        set,
        pods,
        nodes,
        revisions: &[],
        failures: &BTreeMap::new(),
        settled: true,
        now: now(),
    })
}

/// Nodes that get a pod, and pods that go.
fn told(plan: &Plan) -> (Vec<String>, Vec<String>) {
    let node = |pod: &Value| {
        pod::node_of(&serde_json::from_value(pod.clone()).unwrap())
            .unwrap()
            .to_owned()
    };
    (
        plan.create.iter().map(node).collect(),
        plan.delete.iter().map(|pod| pod.name().to_owned()).collect(),
    )
}

#[test]
fn a_node_is_fit_by_its_name_its_labels_and_its_taints() {
    let taint = |key: &str, effect: &str| json!([{"key": key, "effect": effect, "value": "v"}]);
    let spec = |spec: Value| json!({"spec": {"template": {"spec": spec}}});
    let terms = |terms: Value| {
        spec(
            json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}}),
        )
    };
    let tolerates = |toleration: Value| spec(json!({"tolerations": [toleration]}));
    let none = || json!([]);
    for (why, changes, taints, expected) in [
        ("it is like any other", json!({}), none(), Fitness::Fit),
        ("it is named", spec(json!({"nodeName": "node-1"})), none(), Fitness::Fit),
        (
            "another is named",
            spec(json!({"nodeName": "node-2"})),
            none(),
            Fitness::Unfit,
        ),
        (
            "its labels are wanted",
            spec(json!({"nodeSelector": {"disk": "ssd"}})),
            none(),
            Fitness::Fit,
        ),
        (
            "other labels are",
            spec(json!({"nodeSelector": {"disk": "hdd"}})),
            none(),
            Fitness::Unfit,
        ),
        (
            "one term fits",
            terms(json!([{}, {"matchExpressions": [{"key": "cores", "operator": "Gt", "values": ["3"]}]}])),
            none(),
            Fitness::Fit,
        ),
        (
            "no term fits",
            terms(json!([{"matchExpressions": [{"key": "cores", "operator": "Lt", "values": ["3"]}]}])),
            none(),
            Fitness::Unfit,
        ),
        ("an empty term fits nothing", terms(json!([{}])), none(), Fitness::Unfit),
        (
            "its name is among the fields",
            terms(json!([{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["node-1"]}]}])),
            none(),
            Fitness::Fit,
        ),
        (
            "it takes no new pods",
            json!({}),
            taint("mine", "NoSchedule"),
            Fitness::Keep,
        ),
        (
            "it takes no pods",
            json!({}),
            taint("mine", "NoExecute"),
            Fitness::Unfit,
        ),
        (
            "it would rather not",
            json!({}),
            taint("mine", "PreferNoSchedule"),
            Fitness::Fit,
        ),
        (
            "it isn't ready",
            json!({}),
            taint("node.kubernetes.io/not-ready", "NoExecute"),
            Fitness::Fit,
        ),
        (
            "it is cordoned",
            json!({}),
            taint("node.kubernetes.io/unschedulable", "NoSchedule"),
            Fitness::Fit,
        ),
        (
            "it has no network",
            json!({}),
            taint("node.kubernetes.io/network-unavailable", "NoSchedule"),
            Fitness::Keep,
        ),
        (
            "and needs none",
            spec(json!({"hostNetwork": true})),
            taint("node.kubernetes.io/network-unavailable", "NoSchedule"),
            Fitness::Fit,
        ),
        (
            "all is borne",
            tolerates(json!({"operator": "Exists"})),
            taint("mine", "NoExecute"),
            Fitness::Fit,
        ),
        (
            "this value is",
            tolerates(json!({"key": "mine", "value": "v"})),
            taint("mine", "NoExecute"),
            Fitness::Fit,
        ),
        (
            "another value is",
            tolerates(json!({"key": "mine", "value": "w"})),
            taint("mine", "NoExecute"),
            Fitness::Unfit,
        ),
        (
            "another effect is",
            tolerates(json!({"key": "mine", "operator": "Exists", "effect": "NoSchedule"})),
            taint("mine", "NoExecute"),
            Fitness::Unfit,
        ),
    ] {
        let node = Node {
            name: "node-1".to_owned(),
            labels: [
                ("disk".to_owned(), "ssd".to_owned()),
                ("cores".to_owned(), "4".to_owned()),
            ]
            .into(),
            taints: serde_json::from_value(taints).unwrap(),
        };
        assert_eq!(fitness::fitness(&set(&changes), &node), expected, "{why}");
    }
}

#[test]
fn each_fit_node_has_one_pod() {
    let hash = hash();
    let mut nodes = nodes(&["a", "b", "c"]);
    nodes[2].taints = serde_json::from_value(json!([{"key": "mine", "effect": "NoExecute"}])).unwrap();
    let up = |node: &str| on(node, &hash, &json!({}));
    let second = |changes: Value| {
        let mut all = json!({"metadata": {"name": "second", "creationTimestamp": "2026-01-01T11:30:00Z"}});
        merge(&mut all, &changes);
        on("a", &hash, &all)
    };
    for (why, pods, create, delete) in [
        ("none is there", vec![], vec!["a", "b"], vec![]),
        ("one is there", vec![up("a")], vec!["b"], vec![]),
        (
            "two are on one",
            vec![second(json!({})), up("a"), up("b")],
            vec![],
            vec!["second"],
        ),
        (
            "one ends",
            vec![on("a", &hash, &terminating()), up("b")],
            vec![],
            vec![],
        ),
        (
            "one failed",
            vec![on("a", &hash, &phase("Failed")), up("b")],
            vec![],
            vec!["a"],
        ),
        (
            "one succeeded",
            vec![on("a", &hash, &phase("Succeeded")), up("b")],
            vec![],
            vec!["a"],
        ),
        ("one is astray", vec![up("a"), up("b"), up("c")], vec![], vec!["c"]),
        (
            "one is on a node that is gone",
            vec![up("a"), up("b"), up("z")],
            vec![],
            vec![],
        ),
    ] {
        let (created, deleted) = told(&planned(&set(&json!({})), &nodes, &pods));
        assert_eq!(
            (created, deleted),
            (
                create.into_iter().map(str::to_owned).collect(),
                delete.into_iter().map(str::to_owned).collect()
            ),
            "{why}"
        );
    }
}

#[test]
fn a_pod_names_its_node_and_bears_what_nodes_suffer() {
    let plan = planned(
        &set(&json!({"spec": {"template": {"spec": {"hostNetwork": true}}}})),
        &nodes(&["a"]),
        &[],
    );
    let pod = &plan.create[0];
    assert_eq!(
        pod["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"],
        json!({"nodeSelectorTerms": [{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["a"]}]}]})
    );
    let keys: Vec<_> = pod["spec"]["tolerations"]
        .as_array()
        .unwrap()
        .iter()
        .map(|borne| borne["key"].as_str().unwrap())
        .collect();
    assert_eq!(keys.len(), 7);
    assert!(keys.contains(&"node.kubernetes.io/network-unavailable"));
    assert_eq!(pod["metadata"]["generateName"], "agent-");
    let Wanted::New { hash, name, .. } = &plan.revision else {
        panic!("there is no revision yet")
    };
    assert_eq!(pod["metadata"]["labels"][REVISION_HASH], json!(hash));
    assert_eq!(*name, format!("agent-{hash}"));
}

#[test]
fn old_pods_are_replaced_as_many_at_once_as_may_be_missing_or_doubled() {
    let hash = hash();
    let old = |node: &str| on(node, "old", &json!({}));
    let broken = |node: &str| on(node, "old", &unready());
    let new = |node: &str| on(node, &hash, &json!({}));
    let beside = |node: &str, changes: Value| {
        let mut all = json!({"metadata": {"name": format!("{node}-new"), "creationTimestamp": "2026-01-01T11:30:00Z"}});
        merge(&mut all, &changes);
        on(node, &hash, &all)
    };
    let rolling = |unavailable: Value, surge: Value| json!({"spec": {"updateStrategy": {"rollingUpdate": {"maxUnavailable": unavailable, "maxSurge": surge}}}});
    let one = || rolling(json!(1), json!(0));
    let surge = || rolling(json!(0), json!(1));
    let no: Vec<&str> = vec![];
    for (why, changes, pods, create, delete) in [
        (
            "one at a time",
            one(),
            vec![old("a"), old("b"), old("c")],
            no.clone(),
            vec!["a"],
        ),
        (
            "half, rounded up",
            rolling(json!("50%"), json!(0)),
            vec![old("a"), old("b"), old("c")],
            no.clone(),
            vec!["a", "b"],
        ),
        (
            "one is missing already",
            one(),
            vec![on("a", &hash, &unready()), old("b"), old("c")],
            no.clone(),
            no.clone(),
        ),
        (
            "a broken one costs nothing",
            one(),
            vec![broken("b"), new("a"), old("c")],
            no.clone(),
            vec!["b", "c"],
        ),
        (
            "one ends",
            one(),
            vec![on("a", "old", &terminating()), old("b"), old("c")],
            no.clone(),
            no.clone(),
        ),
        (
            "none by itself",
            json!({"spec": {"updateStrategy": {"type": "OnDelete"}}}),
            vec![old("a"), old("b"), old("c")],
            no.clone(),
            no.clone(),
        ),
        (
            "a new one beside an old one",
            surge(),
            vec![old("a"), old("b"), old("c")],
            vec!["a"],
            no.clone(),
        ),
        (
            "it isn't available yet",
            surge(),
            vec![old("a"), beside("a", unready()), old("b"), old("c")],
            no.clone(),
            no.clone(),
        ),
        (
            "it is",
            surge(),
            vec![old("a"), beside("a", json!({})), old("b"), old("c")],
            no.clone(),
            vec!["a"],
        ),
        (
            "beside a broken one at once",
            surge(),
            vec![broken("a"), old("b"), old("c")],
            vec!["a", "b"],
            no.clone(),
        ),
        ("all are new", one(), vec![new("a"), new("b"), new("c")], no.clone(), no),
    ] {
        let (created, deleted) = told(&planned(&set(&changes), &nodes(&["a", "b", "c"]), &pods));
        assert_eq!(
            (created, deleted),
            (
                create.into_iter().map(str::to_owned).collect(),
                delete.into_iter().map(str::to_owned).collect()
            ),
            "{why}"
        );
    }
}

#[test]
fn failed_pods_are_replaced_ever_more_slowly() {
    let pods = [on("a", &hash(), &phase("Failed"))];
    let failures: BTreeMap<String, (u32, Timestamp)> = [("a".to_owned(), (3, now()))].into();
    let plan = plan(Snapshot {
        set: &set(&json!({})),
        pods: &pods,
        nodes: &nodes(&["a"]),
        revisions: &[],
        failures: &failures,
        settled: true,
        now: now(),
    });
    assert!(plan.delete.is_empty() && plan.failed.is_empty());
    assert_eq!(plan.next, Some("2026-01-01T12:00:04Z".parse().unwrap()));
    let plan = planned(&set(&json!({})), &nodes(&["a"]), &pods);
    assert_eq!(plan.failed, ["a"]);
    assert_eq!(
        plan.events[0].message,
        "Found failed daemon pod default/a on node a, will try to kill it"
    );
}

#[test]
fn the_status_counts_nodes() {
    let hash = hash();
    let mut nodes = nodes(&["a", "b", "c", "d"]);
    nodes[3].taints = serde_json::from_value(json!([{"key": "mine", "effect": "NoSchedule"}])).unwrap();
    let pods = [
        on("a", &hash, &json!({})),
        on("b", "old", &unready()),
        on("d", &hash, &json!({})),
    ];
    let status = planned(&set(&json!({})), &nodes, &pods).status;
    assert_eq!(
        serde_json::to_value(status).unwrap(),
        json!({
            "desiredNumberScheduled": 3, "currentNumberScheduled": 2, "numberMisscheduled": 1, "numberReady": 1,
            "updatedNumberScheduled": 1, "numberAvailable": 1, "numberUnavailable": 2, "observedGeneration": 3,
        })
    );
}
