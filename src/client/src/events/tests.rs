use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::*;
use crate::scripted::{Answer, Scripted};

fn object(name: &str) -> ObjectReference {
    ObjectReference {
        kind: Some("Pod".to_owned()),
        namespace: Some("web".to_owned()),
        name: Some(name.to_owned()),
        uid: Some("u".to_owned()),
        ..ObjectReference::default()
    }
}

fn created() -> Answer {
    Answer::Json(json!({"metadata": {"name": "e"}, "involvedObject": {}}))
}

fn running(api: &Scripted) -> (Recorder, JoinSet<()>) {
    let (recorder, publisher) = Recorder::new(api.client(), "kubelet", "node-1");
    let mut tasks = JoinSet::new();
    tasks.spawn(publisher.run());
    (recorder, tasks)
}

#[tokio::test(start_paused = true)]
async fn an_event_is_created_then_counted_and_created_anew_when_it_has_expired() {
    let api = Scripted::new([created(), created(), Answer::Refusal(404, "NotFound", None), created()]);
    let (recorder, _tasks) = running(&api);
    for _ in 0..3 {
        recorder.event(&object("web-1"), Type::Warning, "BackOff", "Back-off restarting");
    }
    let asked = api.asked_for(4).await;
    let methods: Vec<_> = asked.iter().map(|asked| asked.method.as_str()).collect();
    assert_eq!(methods, ["POST", "PATCH", "PATCH", "POST"]);
    let first = &asked[0].body;
    assert!(
        asked[0].target.starts_with("/api/v1/namespaces/web/events"),
        "{}",
        asked[0].target
    );
    assert_eq!(first["involvedObject"]["name"], "web-1");
    assert_eq!(
        (&first["type"], &first["reason"], &first["count"]),
        (&json!("Warning"), &json!("BackOff"), &json!(1))
    );
    assert_eq!(first["source"], json!({"component": "kubelet", "host": "node-1"}));
    assert_eq!(first["reportingComponent"], "kubelet");
    assert_eq!(asked[1].body["count"], 2);
    let name = first["metadata"]["name"].as_str().expect("it has a name");
    assert!(asked[1].target.contains(name), "{} {name}", asked[1].target);
    assert_eq!(asked[3].body["count"], 3);
}

#[tokio::test(start_paused = true)]
async fn an_api_that_is_away_costs_events_and_never_their_recorder() {
    let api = Scripted::new([]);
    let (recorder, _tasks) = running(&api);
    for number in 0..QUEUE + 10 {
        recorder.event(&object(&format!("web-{number}")), Type::Normal, "Pulled", "m");
    }
    assert!(
        recorder.dropped() > 0 && recorder.dropped() <= 10,
        "{}",
        recorder.dropped()
    );
    let before = recorder.dropped();
    sleep(PATIENCE + ATTEMPT * 2).await;
    assert!(recorder.dropped() > before);
    assert!(api.asked().len() > 3, "it was tried again: {}", api.asked().len());
}

#[test]
fn an_event_stays_within_the_bounds_of_the_api() {
    let object = ObjectReference {
        name: Some("n".repeat(253)),
        ..ObjectReference::default()
    };
    let made = event(
        &source("c", ""),
        &object,
        Type::Normal,
        "R",
        "ä".repeat(1000),
        Timestamp::now(),
    );
    let value: Value = serde_json::to_value(&made).expect("serialisable");
    assert_eq!(value["metadata"]["namespace"], "default");
    assert!(
        value["metadata"]["name"]
            .as_str()
            .is_some_and(|name| name.len() <= 253 && name.contains("nn.1"))
    );
    assert_eq!(value["message"].as_str().map(str::len), Some(1024));
    assert_eq!(value["source"], json!({"component": "c"}));
}
