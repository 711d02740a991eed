use std::sync::atomic::AtomicUsize;

use http::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::time::timeout;

use super::*;
use crate::{config::Candidacy, rehearsal::Rehearsal};

const PODS: &str = "api/v1/pods";
const NODES: &str = "api/v1/nodes";
const EVENTS: &str = "api/v1/events";
/// Longer than anything here takes on a machine that does something else.
const DEADLINE: Duration = Duration::from_secs(60);

fn node(name: &str, cpu: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
        "status": {"allocatable": {"cpu": cpu, "memory": "8Gi", "pods": "110"}}})
}

fn pod(name: &str, cpu: &str, priority: i32) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": "default", "uid": format!("uid-{name}")},
        "spec": {"schedulerName": "default-scheduler", "priority": priority,
            "containers": [{"name": "c", "image": "i", "resources": {"requests": {"cpu": cpu}}}]},
        "status": {"phase": "Pending"}})
}

fn start(api: &Rehearsal) -> (Scheduler, CancellationToken) {
    let end = CancellationToken::new();
    (Scheduler::start(Config::default(), api.client(), end.clone()), end)
}

/// Waits until something holds of the API.
async fn until<T>(api: &Rehearsal, what: &str, mut holds: impl FnMut(&Rehearsal) -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = holds(api) {
            return found;
        }
        assert!(begun.elapsed() < DEADLINE, "waiting for {what}: {:#?}", api.all(PODS));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn until_bound(api: &Rehearsal, name: &str) -> String {
    let found = until(api, name, |api| {
        let pod = api.get(PODS, "default", name)?;
        Some(pod["spec"]["nodeName"].as_str()?.to_owned())
    });
    found.await
}

fn reasons(api: &Rehearsal) -> Vec<String> {
    let all = api.all(EVENTS).into_iter();
    all.map(|event| {
        format!(
            "{} {}",
            event["reason"].as_str().unwrap_or(""),
            event["message"].as_str().unwrap_or("")
        )
    })
    .collect()
}

#[tokio::test]
async fn a_pod_is_bound_and_its_users_are_told() {
    let api = Rehearsal::default();
    api.put(NODES, node("a", "2"));
    api.put(PODS, pod("first", "1", 0));
    let (scheduler, end) = start(&api);
    assert_eq!(until_bound(&api, "first").await, "a");
    api.put(PODS, pod("second", "1", 0));
    assert_eq!(until_bound(&api, "second").await, "a");
    until(&api, "events", |api| {
        let told = "Scheduled Successfully assigned default/second to a";
        reasons(api).iter().any(|reason| reason == told).then_some(())
    })
    .await;
    assert!(scheduler.is_ready());
    let text = scheduler.metrics();
    for name in [
        "scheduler_schedule_attempts_total{",
        "scheduler_scheduling_attempt_duration_seconds",
        "scheduler_pending_pods",
    ] {
        assert!(text.contains(name), "{name} in {text}");
    }
    end.cancel();
    let mut scheduler = scheduler;
    timeout(DEADLINE, scheduler.ended()).await.expect("it ends");
    assert!(!scheduler.is_ready());
}

#[tokio::test]
async fn a_pod_that_no_node_takes_says_why_until_one_does() {
    let api = Rehearsal::default();
    api.put(NODES, node("a", "1"));
    api.put(PODS, pod("large", "4", 0));
    let (_scheduler, _end) = start(&api);
    let condition = until(&api, "condition", |api| {
        let pod = api.get(PODS, "default", "large")?;
        pod["status"]["conditions"].as_array()?.first().cloned()
    })
    .await;
    let message = "0/1 nodes are available: 1 Insufficient cpu. preemption: 0/1 nodes are available: \
                   1 Preemption is not helpful for scheduling.";
    assert_eq!(
        (&condition["type"], &condition["status"]),
        (&json!("PodScheduled"), &json!("False"))
    );
    assert_eq!(
        (&condition["reason"], &condition["message"]),
        (&json!("Unschedulable"), &json!(message))
    );
    api.put(NODES, node("b", "8"));
    assert_eq!(until_bound(&api, "large").await, "b");
    assert!(
        reasons(&api)
            .iter()
            .any(|reason| *reason == format!("FailedScheduling {message}"))
    );
}

#[tokio::test]
async fn a_pod_of_higher_priority_has_another_deleted_and_takes_its_room() {
    let api = Rehearsal::default();
    api.put(NODES, node("a", "2"));
    let mut low = pod("low", "2", 1);
    low["spec"]["nodeName"] = json!("a");
    api.put(PODS, low);
    api.put(PODS, pod("high", "2", 9));
    let (_scheduler, _end) = start(&api);
    assert_eq!(until_bound(&api, "high").await, "a");
    assert!(api.get(PODS, "default", "low").is_none());
    let high = api.get(PODS, "default", "high").expect("it is there");
    assert_eq!(high["status"]["nominatedNodeName"], json!("a"));
    until(&api, "event", |api| {
        let told = "Preempted Preempted by pod uid-high on node a";
        reasons(api).iter().any(|reason| reason == told).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_binding_is_made_once_though_its_answer_is_lost_refused_or_late() {
    let api = Rehearsal::default();
    api.put(NODES, node("a", "8"));
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = asked.clone();
    api.refuse(move |method, path| {
        if *method != Method::POST || !path.ends_with("/binding") {
            return None;
        }
        match counted.fetch_add(1, Ordering::Relaxed) {
            // Done, but nobody hears of it.
            0 => Some(StatusCode::INTERNAL_SERVER_ERROR),
            1 => Some(StatusCode::CONFLICT),
            2 => Some(StatusCode::TOO_MANY_REQUESTS),
            3 => Some(StatusCode::SERVICE_UNAVAILABLE),
            _ => None,
        }
    });
    let (_scheduler, _end) = start(&api);
    for name in ["one", "two", "three"] {
        api.put(PODS, pod(name, "1", 0));
        assert_eq!(until_bound(&api, name).await, "a");
    }
    assert_eq!(*api.bound().borrow(), 3);
}

#[tokio::test]
async fn only_the_leader_schedules_and_another_takes_over() {
    let api = Rehearsal::default();
    api.put(NODES, node("a", "8"));
    let candidate = |identity: &str| {
        let terms = bosun_client::lease::Terms {
            duration: Duration::from_millis(900),
            deadline: Duration::from_millis(600),
            retry: Duration::from_millis(100),
        };
        let config = Config {
            election: Some(Candidacy {
                namespace: "kube-system".into(),
                name: "kube-scheduler".into(),
                identity: identity.into(),
                terms,
            }),
            ..Config::default()
        };
        let end = CancellationToken::new();
        (Scheduler::start(config, api.client(), end.clone()), end)
    };
    let (first, first_end) = candidate("first");
    until(&api, "a leader", |_| first.is_ready().then_some(())).await;
    let (second, _second_end) = candidate("second");
    api.put(PODS, pod("one", "1", 0));
    until_bound(&api, "one").await;
    assert!(!second.is_ready());
    first_end.cancel();
    until(&api, "another leader", |_| second.is_ready().then_some(())).await;
    api.put(PODS, pod("two", "1", 0));
    until_bound(&api, "two").await;
}
