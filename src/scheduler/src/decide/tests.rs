use serde_json::json;

use super::*;
use crate::fixtures::{NodeBuilder, PodBuilder, cluster, node, pod};

fn small(name: &str) -> NodeBuilder {
    node(name, &[("cpu", "2"), ("memory", "4Gi"), ("pods", "10")])
}

fn turn() -> Turn {
    Turn::new(fastrand::Rng::with_seed(7))
}

fn told(cluster: &mut Cluster, new: &PodBuilder) -> String {
    match decide(cluster, &Profile::default(), &new.build(), &mut turn()) {
        Ok(fit) => cluster.node(fit.node).name.to_string(),
        Err(unfit) => unfit.to_string(),
    }
}

#[test]
fn a_pod_that_no_node_takes_is_told_why_with_counts() {
    let nodes = [
        small("a"),
        small("b").taint("gpu", "NoSchedule"),
        small("c").taint("gpu", "NoSchedule"),
        small("d").cordoned(),
        small("e").label("disk", "fast"),
    ];
    for (new, expected) in [
        (
            pod("p").asks(&[("cpu", "3")]),
            "0/5 nodes are available: 1 node(s) were unschedulable, 2 Insufficient cpu, 2 node(s) had untolerated taint {gpu: }.",
        ),
        (
            pod("p").spec(json!({"nodeSelector": {"disk": "slow"}})),
            "0/5 nodes are available: 1 node(s) were unschedulable, 2 node(s) didn't match Pod's node affinity/selector, \
             2 node(s) had untolerated taint {gpu: }.",
        ),
        (
            pod("p").claim("none"),
            "0/5 nodes are available: persistentvolumeclaim \"none\" not found.",
        ),
        (pod("p").spec(json!({"nodeSelector": {"disk": "fast"}})), "e"),
        (
            pod("p")
                .asks(&[("cpu", "3")])
                .spec(json!({"affinity": {"nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
                {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["a"]}]}]}}}})),
            "0/5 nodes are available: 1 Insufficient cpu, 4 node(s) didn't satisfy plugin(s) [NodeAffinity].",
        ),
    ] {
        assert_eq!(told(&mut cluster(&nodes), &new), expected);
    }
    assert_eq!(
        told(&mut Cluster::default(), &pod("p")),
        "no nodes available to schedule pods"
    );
}

#[test]
fn the_better_node_is_chosen() {
    let busy = |mut made: Cluster, on: &str| {
        made.set_pod(&pod("busy").asks(&[("cpu", "1"), ("memory", "2Gi")]).on(on).build());
        made
    };
    let image = 900 * 1024 * 1024;
    for (what, mut cluster, new, expected) in [
        (
            "emptier",
            busy(cluster(&[small("a"), small("b")]), "a"),
            pod("p").asks(&[("cpu", "1")]),
            "b",
        ),
        (
            "without requests, too",
            busy(cluster(&[small("a"), small("b")]), "b"),
            pod("p"),
            "a",
        ),
        (
            "not discouraged",
            cluster(&[small("a").taint("x", "PreferNoSchedule"), small("b")]),
            pod("p"),
            "b",
        ),
        (
            "with the image",
            cluster(&[small("a"), small("b").image("demo:latest", image)]),
            pod("p"),
            "b",
        ),
        (
            "preferred",
            cluster(&[small("a").label("disk", "fast"), small("b")]),
            pod("p").spec(
                json!({"affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
                {"weight": 1, "preference": {"matchExpressions": [{"key": "disk", "operator": "Exists"}]}}]}}}),
            ),
            "a",
        ),
    ] {
        assert_eq!(told(&mut cluster, &new), expected, "{what}");
    }
}

#[test]
fn equals_are_chosen_by_the_dice_and_all_get_their_turn() {
    let names: Vec<String> = (0..4).map(|number| format!("n{number}")).collect();
    let mut cluster = cluster(&names.iter().map(|name| small(name)).collect::<Vec<_>>());
    let mut turn = turn();
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..64 {
        let fit = decide(&mut cluster, &Profile::default(), &pod("p").build(), &mut turn).unwrap();
        seen.insert(cluster.node(fit.node).name.to_string());
    }
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), names);
}

#[test]
fn looking_goes_on_where_it_stopped_and_stops_when_enough_are_found() {
    let nodes: Vec<_> = (0..300).map(|number| small(&format!("n{number}"))).collect();
    let mut cluster = cluster(&nodes);
    let mut turn = turn();
    let enough = Profile::default().enough(300);
    for round in 1..4 {
        let fit = decide(&mut cluster, &Profile::default(), &pod("p").build(), &mut turn).unwrap();
        assert_eq!((fit.evaluated, fit.feasible), (enough, enough));
        assert_eq!(turn.start, round * enough % 300);
    }
}

#[test]
fn nodes_are_looked_at_one_of_each_zone_by_turns() {
    let zone = |name: &str, zone: &str| small(name).label(crate::objects::ZONE, zone);
    let mut cluster = cluster(&[zone("a1", "a"), zone("a2", "a"), zone("a3", "a"), zone("b1", "b")]);
    let order: Vec<_> = cluster.order().to_vec();
    let names: Vec<_> = order.iter().map(|id| &*cluster.node(*id).name).collect();
    assert_eq!(names, ["a1", "b1", "a2", "a3"]);
}

#[test]
fn room_that_is_being_made_is_left_to_whom_it_is_made_for() {
    let mut cluster = cluster(&[small("a")]);
    let preemptor = pod("preemptor").asks(&[("cpu", "2")]).priority(10).build();
    cluster.nominate(&preemptor, Some(&"a".into()));
    let full = "0/1 nodes are available: 1 Insufficient cpu.";
    assert_eq!(told(&mut cluster, &pod("low").asks(&[("cpu", "1")])), full);
    assert_eq!(
        told(&mut cluster, &pod("equal").asks(&[("cpu", "1")]).priority(10)),
        full
    );
    assert_eq!(told(&mut cluster, &pod("high").asks(&[("cpu", "1")]).priority(11)), "a");
    let fit = decide(&mut cluster, &Profile::default(), &preemptor, &mut turn()).unwrap();
    assert_eq!(fit.evaluated, 1, "its own node comes first");
    cluster.unnominate(&preemptor.uid);
    assert_eq!(told(&mut cluster, &pod("low").asks(&[("cpu", "1")])), "a");
}

#[test]
fn a_plugin_that_is_switched_off_neither_rejects_nor_scores() {
    let mut cluster = cluster(&[small("a").cordoned().taint("x", "NoSchedule")]);
    let mut profile = Profile::default();
    assert!(decide(&mut cluster, &profile, &pod("p").build(), &mut turn()).is_err());
    profile.filters[Plugin::NodeUnschedulable as usize] = false;
    profile.filters[Plugin::TaintToleration as usize] = false;
    assert!(decide(&mut cluster, &profile, &pod("p").build(), &mut turn()).is_ok());
}

#[test]
fn a_port_is_taken_once() {
    let mut cluster = cluster(&[small("a")]);
    cluster.set_pod(&pod("first").port(80).on("a").build());
    let taken = "0/1 nodes are available: 1 node(s) didn't have free ports for the requested pod ports.";
    assert_eq!(told(&mut cluster, &pod("p").port(80)), taken);
    assert_eq!(told(&mut cluster, &pod("p").port(81)), "a");
}
