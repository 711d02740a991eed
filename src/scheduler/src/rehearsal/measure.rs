//! How fast it schedules: pods of many templates with spreading and affinity, on nodes of several zones.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::Rehearsal;
use crate::{
    config::Config,
    engine::{Bound, Change, Engine, Event, Outcome},
    objects::{HOSTNAME, Pod, ZONE},
    profile::Profile,
    queue::Backoff,
    run::Scheduler,
};

const ZONES: usize = 10;
/// Templates of each kind.
const APPS: usize = 50;
/// Decisions over which one is averaged.
const DECISIONS: usize = 1000;

/// A node with room enough that only constraints decide.
fn node(number: usize) -> Value {
    let name = format!("node-{number}");
    let disk = if number.is_multiple_of(2) { "ssd" } else { "hdd" };
    json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": name, "labels": {
            HOSTNAME: name, ZONE: format!("zone-{}", number % ZONES), "kubernetes.io/os": "linux", "disk": disk,
        }},
        "spec": {},
        "status": {"allocatable": {"cpu": "64", "memory": "512Gi", "pods": "1000"}},
    })
}

/// A pod of one of the templates, by turns: of ten, four plain, two spread over zones by force and two over nodes by
/// preference, near another app if possible; one alone on its node, and one in a zone with its like.
fn pod(number: usize) -> Value {
    let app = format!("app-{}-{}", number % 10, number / 10 % APPS);
    let like = json!({"matchLabels": {"app": app}});
    let spread = |topology: &str, when: &str| json!([{"topologyKey": topology, "maxSkew": 1, "whenUnsatisfiable": when, "labelSelector": like}]);
    let term = |topology: &str, selector: &Value| json!({"topologyKey": topology, "labelSelector": selector});
    let mut spec = json!({
        "schedulerName": "default-scheduler", "priority": 0,
        "containers": [{"name": "main", "image": "demo:1", "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}}}],
    });
    match number % 10 {
        4 | 5 => spec["topologySpreadConstraints"] = spread(ZONE, "DoNotSchedule"),
        6 | 7 => {
            let other = json!({"matchLabels": {"app": format!("app-0-{}", number / 10 % APPS)}});
            spec["topologySpreadConstraints"] = spread(HOSTNAME, "ScheduleAnyway");
            spec["affinity"] = json!({"podAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
                {"weight": 50, "podAffinityTerm": term(ZONE, &other)}]}});
        }
        8 => {
            spec["affinity"] = json!({"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
                term(HOSTNAME, &like)]}});
        }
        9 => {
            spec["affinity"] = json!({"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
                term(ZONE, &like)]}});
        }
        _ => {}
    }
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": format!("pod-{number}"), "namespace": "bench", "uid": format!("uid-{number}"),
            "labels": {"app": app}, "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": spec, "status": {"phase": "Pending"},
    })
}

/// Bindings a second that an API in memory accepts, from the pods' being in the queue to the last of them.
pub async fn bindings_per_second(nodes: usize, pods: usize) -> f64 {
    let api = Rehearsal::default();
    for number in 0..nodes {
        api.put("api/v1/nodes", node(number));
    }
    for number in 0..pods {
        api.put("api/v1/pods", pod(number));
    }
    let scheduler = Scheduler::start(Config::default(), api.client(), CancellationToken::new());
    let mut bound = api.bound();
    while !scheduler.is_ready() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let (begun, before) = (Instant::now(), *bound.borrow());
    // The sender is in `api`.
    let _ = bound.wait_for(|count| *count >= pods).await;
    (pods - before) as f64 / begun.elapsed().as_secs_f64()
}

/// What a decision takes on average, with so many pods placed, and what they are of is known.
pub fn decision(nodes: usize, placed: usize) -> Duration {
    let now = Timestamp::UNIX_EPOCH;
    let read = |value: Value| -> Arc<Pod> { Arc::new(serde_json::from_value(value).expect("a pod is a pod")) };
    let mut engine = Engine::new([Profile::default()], Backoff::default(), fastrand::Rng::with_seed(1));
    for number in 0..nodes {
        let node = serde_json::from_value(node(number)).expect("a node is a node");
        engine.apply(Event::Node(Change::Set(Arc::new(node))), now);
    }
    for number in 0..placed {
        let mut pod = pod(number);
        pod["spec"]["nodeName"] = json!(format!("node-{}", number * 7 % nodes));
        engine.apply(Event::Pod(Change::Set(read(pod))), now);
    }
    let mut took = Duration::ZERO;
    // The first round gets to know the templates.
    for round in 0..2 {
        let begun = Instant::now();
        let mut apart = Duration::ZERO;
        for number in 0..DECISIONS {
            let decoding = Instant::now();
            let pod = read(pod(placed + round * DECISIONS + number));
            apart += decoding.elapsed();
            engine.apply(Event::Pod(Change::Set(pod.clone())), now);
            let outcome = engine.next(now);
            debug_assert!(
                matches!(outcome, Some(Outcome::Placed(_))),
                "there is room for all: {outcome:?}"
            );
            // It leaves again, so that there are as many placed as before.
            engine.finish(&pod.uid, Bound::Gone, now);
        }
        took = begun.elapsed().saturating_sub(apart);
    }
    took / DECISIONS as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn all_pods_of_the_load_can_be_placed() {
        assert!(bindings_per_second(20, 200).await > 0.0);
        assert!(decision(50, 100) > Duration::ZERO);
    }
}
