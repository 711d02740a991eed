use serde_json::json;

use super::*;
use crate::fixtures::{NodeBuilder, PodBuilder, node, pod};

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_000_000 + seconds).unwrap()
}

fn small(name: &str) -> NodeBuilder {
    node(name, &[("cpu", "2"), ("memory", "4Gi"), ("pods", "10")])
}

fn engine(nodes: &[NodeBuilder]) -> Engine {
    let mut engine = Engine::new([Profile::default()], Backoff::default(), fastrand::Rng::with_seed(1));
    for node in nodes {
        engine.apply(Event::Node(Change::Set(node.build())), at(0));
    }
    engine
}

fn set(engine: &mut Engine, pod: &PodBuilder, now: i64) {
    engine.apply(Event::Pod(Change::Set(pod.build())), at(now));
}

fn next(engine: &mut Engine, now: i64) -> String {
    match engine.next(at(now)) {
        None => "nothing".to_owned(),
        Some(Outcome::Placed(placed)) => format!("{} on {}", placed.pod.name.name, placed.node),
        Some(Outcome::Refused(refused)) => {
            let victims = refused.eviction.iter().flat_map(|eviction| &eviction.victims);
            let victims: Vec<_> = victims.map(|victim| &*victim.name.name).collect();
            format!(
                "{} nowhere: {} victims [{}]",
                refused.pod.name.name,
                refused.message,
                victims.join(" ")
            )
        }
    }
}

#[test]
fn a_pod_given_a_node_takes_its_room_at_once_and_gives_it_back_when_binding_fails() {
    let mut engine = engine(&[small("a")]);
    set(&mut engine, &pod("one").asks(&[("cpu", "2")]), 0);
    set(&mut engine, &pod("two").asks(&[("cpu", "2")]), 1);
    assert_eq!(next(&mut engine, 1), "one on a");
    let full = "two nowhere: 0/1 nodes are available: 1 Insufficient cpu. preemption: 0/1 nodes are available: \
                1 No preemption victims found for incoming pod. victims []";
    assert_eq!(next(&mut engine, 1), full);
    engine.finish(&"one".into(), Bound::Failed, at(2));
    assert_eq!(next(&mut engine, 2), "two on a", "what it gave back is another's");
    engine.finish(&"two".into(), Bound::Done, at(2));
    assert!(next(&mut engine, 4).starts_with("one nowhere"));
    engine.apply(
        Event::Pod(Change::Gone(pod("two").asks(&[("cpu", "2")]).on("a").build())),
        at(5),
    );
    assert_eq!(next(&mut engine, 60), "one on a");
}

#[test]
fn what_the_api_says_of_an_assumed_pod_counts_once_it_knows() {
    let mut engine = engine(&[small("a")]);
    let one = pod("one").asks(&[("cpu", "1")]);
    set(&mut engine, &one, 0);
    next(&mut engine, 0);
    set(&mut engine, &one.clone().label("late", "news"), 0);
    assert_eq!(engine.cluster().pod_counts(), (1, 1), "still assumed");
    assert_eq!(next(&mut engine, 0), "nothing");
    engine.finish(&"one".into(), Bound::Done, at(1));
    assert!(engine.unseen(at(10)).is_empty());
    assert_eq!(engine.unseen(at(100)).len(), 1, "to be asked for");
    set(&mut engine, &one.on("a"), 101);
    assert_eq!(
        (engine.cluster().pod_counts(), engine.unseen(at(200)).len()),
        ((1, 0), 0)
    );
}

#[test]
fn a_pod_of_another_scheduler_takes_room_but_is_not_scheduled() {
    let mut engine = engine(&[small("a")]);
    let foreign = pod("foreign")
        .asks(&[("cpu", "2")])
        .spec(json!({"schedulerName": "other"}));
    set(&mut engine, &foreign, 0);
    assert_eq!(next(&mut engine, 0), "nothing");
    set(&mut engine, &foreign.on("a"), 0);
    set(&mut engine, &pod("own").asks(&[("cpu", "1")]), 0);
    assert!(next(&mut engine, 0).starts_with("own nowhere"));
}

#[test]
fn a_new_node_wakes_who_waits_for_one() {
    let mut engine = engine(&[]);
    set(&mut engine, &pod("p"), 0);
    assert_eq!(
        next(&mut engine, 0),
        "p nowhere: no nodes available to schedule pods victims []"
    );
    engine.apply(Event::Node(Change::Set(small("a").build())), at(5));
    assert_eq!(next(&mut engine, 5), "p on a");
}

#[test]
fn preemption_nominates_waits_for_the_victims_and_lands_where_room_was_made() {
    let mut engine = engine(&[small("a")]);
    let low = pod("low").asks(&[("cpu", "2")]).priority(1).on("a");
    set(&mut engine, &low, 0);
    set(&mut engine, &pod("high").asks(&[("cpu", "2")]).priority(9), 0);
    assert_eq!(
        next(&mut engine, 0),
        "high nowhere: 0/1 nodes are available: 1 Insufficient cpu. victims [low]"
    );
    set(&mut engine, &pod("middle").asks(&[("cpu", "1")]).priority(5), 1);
    engine.apply(Event::Pod(Change::Gone(low.build())), at(2));
    assert!(
        next(&mut engine, 2).starts_with("middle nowhere"),
        "the room is not its"
    );
    assert_eq!(next(&mut engine, 10), "nothing", "victims are still being told");
    engine.evicted(&"high".into(), true, at(11));
    assert_eq!(next(&mut engine, 11), "high on a");
}

#[test]
fn a_pod_that_is_deleted_or_finished_waits_no_longer_and_takes_no_room() {
    let mut engine = engine(&[small("a")]);
    set(&mut engine, &pod("p"), 0);
    set(&mut engine, &pod("p").leaving(), 0);
    assert_eq!(next(&mut engine, 0), "nothing");
    let done = pod("done").asks(&[("cpu", "2")]).on("a");
    set(&mut engine, &done, 0);
    set(&mut engine, &done.status(json!({"phase": "Succeeded"})), 0);
    set(&mut engine, &pod("q").asks(&[("cpu", "2")]), 0);
    assert_eq!(next(&mut engine, 0), "q on a");
}
