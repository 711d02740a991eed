use super::*;
use crate::{
    Reason,
    options::VersionMatch,
    selector::{FieldSelector, LabelSelector},
};

async fn five() -> World {
    five_with(Config::default()).await
}

async fn five_with(config: Config) -> World {
    let world = World::with(config).await;
    for name in ["a", "b", "c", "d", "e"] {
        let mut object = config_map(name, "1");
        object["metadata"]["labels"] = json!({"odd": (name != "b" && name != "d").to_string()});
        world.create("v1/configmaps", "default", object).await.unwrap();
    }
    world
        .create("v1/configmaps", "kube-system", config_map("z", "1"))
        .await
        .unwrap();
    world
}

#[tokio::test]
async fn lists_are_of_a_namespace_and_a_selection() {
    let world = five().await;
    let of = |labels: &str, fields: &str| ListOptions {
        labels: LabelSelector::parse(labels).unwrap(),
        fields: FieldSelector::parse(fields).unwrap(),
        ..ListOptions::default()
    };
    let table = [
        ("default", of("", ""), vec!["a", "b", "c", "d", "e"]),
        ("", of("", ""), vec!["a", "b", "c", "d", "e", "z"]),
        ("default", of("odd=true", ""), vec!["a", "c", "e"]),
        ("", of("!odd", ""), vec!["z"]),
        ("", of("", "metadata.namespace=kube-system"), vec!["z"]),
        ("default", of("odd=true", "metadata.name!=a"), vec!["c", "e"]),
        ("absent", of("", ""), vec![]),
    ];
    for (namespace, options, expected) in table {
        assert_eq!(
            world.list("v1/configmaps", namespace, &options).await.unwrap().0,
            expected,
            "{options:?}"
        );
    }
    let status = world
        .list("v1/configmaps", "", &of("", "data.value=1"))
        .await
        .err()
        .unwrap();
    assert_eq!(
        status.message,
        "\"data.value\" is not a known field selector: only \"metadata.name\", \"metadata.namespace\""
    );
    let status = world.list("v1/pods", "", &of("", "spec.x=1")).await.err().unwrap();
    assert_eq!(
        (status.reason, status.message.as_str()),
        (Reason::BadRequest, "field label not supported: spec.x")
    );
    assert!(
        world
            .list("v1/pods", "", &of("", "spec.nodeName=n,status.phase!=Failed"))
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn pages_of_one_list_are_as_of_one_moment() {
    let world = five().await;
    let mut options = ListOptions {
        limit: 2,
        ..ListOptions::default()
    };
    let (names, first) = world.list("v1/configmaps", "default", &options).await.unwrap();
    assert_eq!((names, first.remaining), (vec!["a".into(), "b".into()], Some(3)));
    world
        .delete("v1/configmaps", "default", "c", &DeleteOptions::default())
        .await
        .unwrap();
    world
        .create("v1/configmaps", "default", config_map("ca", "1"))
        .await
        .unwrap();
    options.continue_token = first.continue_token;
    let (names, second) = world.list("v1/configmaps", "default", &options).await.unwrap();
    assert_eq!((names, second.remaining), (vec!["c".into(), "d".into()], Some(1)));
    assert_eq!(second.revision, first.revision);
    options.continue_token = second.continue_token;
    let (names, third) = world.list("v1/configmaps", "default", &options).await.unwrap();
    assert_eq!(
        (names, third.remaining, third.continue_token.as_str()),
        (vec!["e".into()], None, "")
    );

    options.labels = LabelSelector::parse("odd").unwrap();
    options.continue_token.clear();
    let (_, selected) = world.list("v1/configmaps", "default", &options).await.unwrap();
    assert_eq!(
        selected.remaining, None,
        "nobody knows how many of the rest are selected"
    );
    assert!(!selected.continue_token.is_empty());
}

#[tokio::test]
async fn an_expired_page_comes_with_a_token_to_go_on_inconsistently() {
    let limits = Limits {
        changes: 1,
        bytes: 0,
        least: 1,
    };
    let world = World::with(Config {
        limits,
        ..Config::default()
    })
    .await;
    for name in ["a", "b", "c"] {
        world
            .create("v1/configmaps", "default", config_map(name, "1"))
            .await
            .unwrap();
    }
    let mut options = ListOptions {
        limit: 1,
        ..ListOptions::default()
    };
    let (_, first) = world.list("v1/configmaps", "default", &options).await.unwrap();
    world
        .delete("v1/configmaps", "default", "b", &DeleteOptions::default())
        .await
        .unwrap();
    world
        .delete("v1/configmaps", "default", "c", &DeleteOptions::default())
        .await
        .unwrap();
    world
        .create("v1/configmaps", "default", config_map("d", "1"))
        .await
        .unwrap();
    // Beyond the window the store still knows.
    options.continue_token = first.continue_token;
    assert_eq!(world.list("v1/configmaps", "default", &options).await.unwrap().0, ["b"]);
    // Until it forgets.
    let latest = world.store.revision().await.unwrap();
    world.store.compact(latest).await.unwrap();
    let status = world.list("v1/configmaps", "default", &options).await.err().unwrap();
    assert_eq!((status.reason, status.reason.code()), (Reason::Expired, 410));
    options.continue_token = status.to_json()["metadata"]["continue"].as_str().unwrap().into();
    assert_eq!(world.list("v1/configmaps", "default", &options).await.unwrap().0, ["d"]);
}

#[tokio::test]
async fn versions_are_matched_as_asked() {
    let world = five().await;
    let (_, before) = world
        .list("v1/configmaps", "default", &ListOptions::default())
        .await
        .unwrap();
    world
        .delete("v1/configmaps", "default", "a", &DeleteOptions::default())
        .await
        .unwrap();
    let at = |version: &str, rule| ListOptions {
        resource_version: version.into(),
        version_match: rule,
        ..ListOptions::default()
    };
    let then = before.revision.to_string();
    let exact = world
        .list("v1/configmaps", "default", &at(&then, Some(VersionMatch::Exact)))
        .await
        .unwrap();
    assert_eq!((exact.0.len(), exact.1.revision), (5, before.revision));
    world.get("v1/configmaps", "default", "b").await.unwrap();
    let later = world
        .list("v1/configmaps", "default", &at(&then, Some(VersionMatch::NotOlderThan)))
        .await
        .unwrap();
    assert_eq!(later.0.len(), 4);
    assert_eq!(
        world
            .list("v1/configmaps", "default", &at("0", None))
            .await
            .unwrap()
            .0
            .len(),
        4
    );

    let future = (before.revision.0 + 1000).to_string();
    let status = world
        .list("v1/configmaps", "default", &at(&future, None))
        .await
        .err()
        .unwrap();
    assert_eq!(status.reason, Reason::Timeout);
    assert!(
        status
            .message
            .starts_with(&format!("Timeout: Too large resource version: {future}, current: ")),
        "{status}"
    );

    let refused = [
        (
            at("", Some(VersionMatch::Exact)),
            "resourceVersionMatch is forbidden unless resourceVersion is provided",
        ),
        (
            at("0", Some(VersionMatch::Exact)),
            "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"",
        ),
        (
            at("x", None),
            "resourceVersion: Invalid value: \"x\": strconv.ParseUint: parsing \"x\": invalid syntax",
        ),
        (
            ListOptions {
                continue_token: "x".into(),
                ..at("5", None)
            },
            "specifying resource version is not allowed when using continue",
        ),
    ];
    for (options, message) in refused {
        let status = world.list("v1/configmaps", "default", &options).await.err().unwrap();
        assert!(status.message.contains(message), "{status}");
    }
}

#[tokio::test]
async fn a_watch_tells_what_is_there_then_what_changes() {
    let world = five().await;
    let options = ListOptions {
        labels: LabelSelector::parse("odd=false").unwrap(),
        bookmarks: true,
        send_initial_events: Some(true),
        version_match: Some(VersionMatch::NotOlderThan),
        ..ListOptions::default()
    };
    let mut watch = world.watch("v1/configmaps", "default", &options).await.unwrap();
    let relabel = |value: &str| json!({"metadata": {"labels": {"odd": value}}});
    for (name, odd) in [("a", "false"), ("b", "true")] {
        world
            .patch("v1/configmaps", "default", name, PatchType::Merge, relabel(odd))
            .await
            .unwrap();
    }
    world
        .create("v1/configmaps", "default", config_map("x", "1"))
        .await
        .unwrap();
    world
        .delete("v1/configmaps", "default", "d", &DeleteOptions::default())
        .await
        .unwrap();
    for expected in [
        "ADDED b",
        "ADDED d",
        "BOOKMARK end",
        "ADDED a",
        "DELETED b",
        "DELETED d",
    ] {
        assert_eq!(told(&mut watch).await, expected);
    }
}

#[tokio::test]
async fn a_watch_begins_where_it_is_told_to() {
    let limits = Limits {
        changes: 3,
        bytes: 0,
        least: 3,
    };
    let world = five_with(Config {
        limits,
        ..Config::default()
    })
    .await;
    let (_, list) = world
        .list("v1/configmaps", "default", &ListOptions::default())
        .await
        .unwrap();
    world
        .delete("v1/configmaps", "default", "a", &DeleteOptions::default())
        .await
        .unwrap();
    world
        .delete("v1/configmaps", "default", "b", &DeleteOptions::default())
        .await
        .unwrap();
    let from = |version: &str| ListOptions {
        resource_version: version.into(),
        ..ListOptions::default()
    };
    let mut watch = world
        .watch("v1/configmaps", "default", &from(&list.revision.to_string()))
        .await
        .unwrap();
    assert_eq!(told(&mut watch).await, "DELETED a");
    assert_eq!(told(&mut watch).await, "DELETED b");
    let mut watch = world.watch("v1/configmaps", "default", &from("")).await.unwrap();
    assert_eq!(told(&mut watch).await, "ADDED c");
    let status = world.watch("v1/configmaps", "default", &from("1")).await.err().unwrap();
    assert_eq!(status.reason, Reason::Expired);
    assert!(status.message.starts_with("too old resource version: 1 ("), "{status}");
}

#[tokio::test]
async fn a_quiet_watch_gets_bookmarks_and_ends_in_time() {
    let world = World::new().await;
    let options = ListOptions {
        bookmarks: true,
        timeout: Some(Duration::from_secs(100)),
        resource_version: "0".into(),
        ..ListOptions::default()
    };
    let mut watch = world.watch("v1/configmaps", "default", &options).await.unwrap();
    // Only now: the store's threads live in real time.
    tokio::time::pause();
    let mut heard = Vec::new();
    loop {
        let event = watch.next().await;
        match event {
            Some(WatchEvent::Bookmark { revision, .. }) => heard.push(revision),
            Some(other) => panic!("nothing happened: {other:?}"),
            None => break,
        }
    }
    assert!(heard.len() >= 2, "{heard:?}");
    assert!(heard.iter().all(|revision| revision.0 > 0));
}
