use std::io;

use kube::core::PartialObjectMeta;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::*;
use crate::scripted::{Answer, Scripted, ended, lines};

crate::projected! {
    struct Map: k8s_openapi::api::core::v1::ConfigMap {
        data: std::collections::BTreeMap<String, String>,
    }
}

fn map(name: &str, version: u32) -> Value {
    json!({
        "apiVersion": "v1", "kind": "ConfigMap", "data": {"at": version.to_string()},
        "metadata": {
            "namespace": "default", "name": name, "uid": name, "resourceVersion": version.to_string(),
            "managedFields": [{"manager": "test"}],
        },
    })
}

fn event(kind: &str, object: &Value) -> Value {
    json!({"type": kind, "object": object})
}

fn list(version: u32, items: &[Value]) -> Answer {
    Answer::Json(json!({"metadata": {"resourceVersion": version.to_string()}, "items": items}))
}

struct Followed {
    api: Scripted,
    reader: Reader<Map>,
    changes: mpsc::UnboundedReceiver<Change<Map>>,
    _running: JoinSet<()>,
}

impl Followed {
    fn new(answers: impl IntoIterator<Item = Answer>) -> Self {
        let api = Scripted::new(answers);
        let config = Config::default().labels("app=web").fields("metadata.name!=odd");
        let (informer, reader) = Informer::new(Api::<Map>::all(api.client()), config);
        let mut running = JoinSet::new();
        running.spawn(informer.run());
        let changes = reader.subscribe();
        Self {
            api,
            reader,
            changes,
            _running: running,
        }
    }

    /// The next changes, so many: `+name@version`, `~name@version`, `-name@version`.
    async fn told(&mut self, number: usize) -> Vec<String> {
        let mut told = Vec::new();
        while told.len() < number {
            let change = self.changes.recv().await.expect("the informer runs");
            let sign = match &change {
                Change::Added(_) => '+',
                Change::Updated { .. } => '~',
                Change::Deleted(_) => '-',
            };
            told.push(format!(
                "{sign}{}@{}",
                change.object().metadata.name.as_deref().unwrap_or_default(),
                change.object().data["at"]
            ));
        }
        told.sort();
        told
    }

    /// The version that each watch began at; `list` for each list.
    async fn course(&self, number: usize) -> Vec<String> {
        let asked = self.api.asked_for(number).await;
        let step = |target: &str| match target.split_once("watch=true") {
            None => "list".to_owned(),
            Some((_, rest)) => rest
                .split_once("resourceVersion=")
                .map_or("?", |(_, version)| version)
                .to_owned(),
        };
        asked.iter().map(|asked| step(&asked.target)).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn lists_in_pages_and_watches_from_there() {
    let (tx, watch) = lines();
    let first = json!({"metadata": {"resourceVersion": "7", "continue": "more"}, "items": [map("a", 3)]});
    let mut followed = Followed::new([Answer::Json(first), list(7, &[map("b", 5)]), watch]);
    assert!(!followed.reader.is_synced());
    followed.reader.synced().await;
    assert_eq!(followed.reader.len(), 2);
    assert_eq!(followed.told(2).await, ["+a@3", "+b@5"]);

    for line in [
        event("MODIFIED", &map("a", 8)),
        event("ADDED", &map("c", 9)),
        event("DELETED", &map("b", 10)),
    ] {
        tx.send(Ok(line)).expect("watched");
    }
    assert_eq!(followed.told(3).await, ["+c@9", "-b@10", "~a@8"]);
    let a = followed
        .reader
        .get(&ObjectKey::new("default", "a"))
        .expect("it is there");
    assert_eq!(a.metadata.managed_fields, None);

    let asked = followed.api.asked();
    let selects = [
        "labelSelector=app%3Dweb",
        "fieldSelector=metadata.name%21%3Dodd",
        "limit=500",
    ];
    for select in selects {
        assert!(asked[0].target.contains(select), "{}", asked[0].target);
    }
    assert!(asked[1].target.contains("continue=more"), "{}", asked[1].target);
    assert!(asked[2].target.contains("allowWatchBookmarks=true") && asked[2].target.ends_with("resourceVersion=7"));
    assert!(
        asked[2].target.contains("fieldSelector=metadata.name%21%3Dodd"),
        "{}",
        asked[2].target
    );
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_breaks_is_continued_where_it_was() {
    let (tx, first) = lines();
    let (_open, last) = lines();
    let mut followed = Followed::new([
        list(7, &[]),
        first,
        Answer::Reset,
        ended([event(
            "BOOKMARK",
            &json!({"kind": "ConfigMap", "metadata": {"resourceVersion": "40"}}),
        )]),
        last,
    ]);
    tx.send(Ok(event("ADDED", &map("a", 8)))).expect("watched");
    tx.send(Err(io::ErrorKind::ConnectionReset.into())).expect("watched");
    assert_eq!(followed.told(1).await, ["+a@8"]);
    assert_eq!(followed.course(5).await, ["list", "7", "8", "8", "40"]);
}

#[tokio::test(start_paused = true)]
async fn a_version_too_old_means_another_list_that_tells_the_difference() {
    let status = json!({"kind": "Status", "code": 410, "reason": "Expired", "message": "too old"});
    let (_open, last) = lines();
    let mut followed = Followed::new([
        list(7, &[map("a", 3), map("b", 5)]),
        Answer::Refusal(410, "Expired", None),
        list(20, &[map("a", 3), map("b", 15), map("c", 20)]),
        ended([event("ERROR", &status)]),
        list(30, &[map("b", 15)]),
        last,
    ]);
    assert_eq!(followed.told(2).await, ["+a@3", "+b@5"]);
    assert_eq!(followed.told(2).await, ["+c@20", "~b@15"]);
    assert_eq!(followed.told(2).await, ["-a@3", "-c@20"]);
    assert_eq!(followed.course(6).await, ["list", "7", "list", "20", "list", "30"]);
}

#[tokio::test(start_paused = true)]
async fn waits_as_long_as_the_server_asks() {
    for refusal in [
        Answer::Refusal(429, "TooManyRequests", Some(40)),
        Answer::Proxy(429, Some(40)),
        Answer::Proxy(503, Some(40)),
    ] {
        let (_open, watch) = lines();
        let began = Instant::now();
        let followed = Followed::new([refusal, list(7, &[map("a", 3)]), watch]);
        followed.reader.synced().await;
        assert!(began.elapsed() >= Duration::from_secs(40), "{:?}", began.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn no_failure_ends_it_and_what_is_known_stays() {
    let (_open, watch) = lines();
    let mut followed = Followed::new([
        Answer::Reset,
        Answer::Refusal(401, "Unauthorized", None),
        Answer::Refusal(403, "Forbidden", None),
        Answer::Silence,
        Answer::Json(json!("not a list")),
        Answer::Json(json!({"items": null})),
        list(7, &[map("a", 3)]),
        Answer::Refusal(401, "Unauthorized", None),
        Answer::Proxy(502, None),
        ended([json!("not an event")]),
        watch,
    ]);
    assert_eq!(followed.told(1).await, ["+a@3"]);
    let course = followed.course(11).await;
    assert_eq!(course[6..], ["list", "7", "7", "7", "7"]);
    assert_eq!(followed.reader.len(), 1);
    assert!(followed.changes.try_recv().is_err());
}

#[tokio::test(start_paused = true)]
async fn a_server_that_ends_every_watch_at_once_is_not_hammered() {
    let followed = Followed::new([list(7, &[])]);
    for _ in 0..200 {
        followed.api.then(ended([]));
    }
    tokio::time::sleep(Duration::from_secs(60)).await;
    let asked = followed.api.asked().len();
    assert!((5..40).contains(&asked), "{asked} requests in a minute");
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_has_gone_silent_is_begun_again() {
    let (_silent, first) = lines();
    let (_open, second) = lines();
    let began = Instant::now();
    let followed = Followed::new([list(7, &[]), first, second]);
    assert_eq!(followed.course(3).await, ["list", "7", "7"]);
    assert!(began.elapsed() < Duration::from_secs(400));
}

#[tokio::test(start_paused = true)]
async fn an_object_that_cannot_be_read_costs_only_itself() {
    let bad = |version: u32| {
        let mut bad = map("bad", version);
        bad["data"] = json!([1, 2]);
        bad
    };
    let (_open, last) = lines();
    let mut followed = Followed::new([
        list(7, &[bad(2), map("a", 3)]),
        ended([
            event("MODIFIED", &bad(8)),
            event("ADDED", &map("b", 9)),
            event("MODIFIED", &bad(10)),
        ]),
        last,
    ]);
    assert_eq!(followed.told(2).await, ["+a@3", "+b@9"]);
    // It counts for how far the watch has come.
    assert_eq!(followed.course(3).await, ["list", "7", "10"]);
}

#[tokio::test(start_paused = true)]
async fn of_metadata_alone_nothing_else_is_asked() {
    let api = Scripted::new([list(7, &[map("a", 3)])]);
    let objects = Api::<PartialObjectMeta<Map>>::all(api.client());
    let (informer, reader) = Informer::new(objects, Config::default());
    let mut running = JoinSet::new();
    running.spawn(informer.run());
    let asked = api.asked_for(2).await;
    assert!(
        asked[0].accept.contains("as=PartialObjectMetadataList"),
        "{}",
        asked[0].accept
    );
    assert!(
        asked[1].accept.contains("as=PartialObjectMetadata;"),
        "{}",
        asked[1].accept
    );
    assert!(reader.get(&ObjectKey::new("default", "a")).is_some());
}
