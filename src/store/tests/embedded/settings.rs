//! What is the embedded engine's own: its directory, its size, its quota, starts and snapshots.

use std::{
    os::unix::fs::PermissionsExt as _,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use bosun_store::{
    Embedded, Error, Event, Op, Revision, Store,
    embedded::{Options, Retention},
};
use tokio::task::JoinSet;

use crate::contract::{PATIENCE, all, delete, events, just, key, put};

/// Looks again until it holds.
async fn eventually(what: &str, mut check: impl AsyncFnMut() -> Result<(), String>) {
    let start = Instant::now();
    while let Err(seen) = check().await {
        assert!(start.elapsed() < PATIENCE, "not in time: {what}; last seen: {seen}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_directory_has_one_store_at_a_time_and_says_whose() {
    let dir = tempfile::tempdir().unwrap();
    let store = Embedded::open(Options::new(dir.path())).await.unwrap();
    let Err(Error::Unavailable(why)) = Embedded::open(Options::new(dir.path())).await else {
        panic!("it opened twice")
    };
    assert!(
        why.contains("in use") && why.contains(&std::process::id().to_string()),
        "{why}"
    );
    drop(store);
    Embedded::open(Options::new(dir.path())).await.unwrap();
}

#[tokio::test]
async fn only_its_owner_sees_what_is_in_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a/store");
    let store = Embedded::open(Options::new(&path)).await.unwrap();
    store.commit(just([put("/a", "1")])).await.unwrap();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&path), 0o700);
    let mut names = Vec::new();
    for entry in std::fs::read_dir(&path).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(mode(&entry.path()), 0o600, "{:?}", entry.path());
        names.push(entry.file_name().into_string().unwrap());
    }
    names.sort();
    assert_eq!(names, ["lock", "store.db", "store.db-shm", "store.db-wal"]);
}

#[tokio::test]
async fn a_store_opened_again_has_everything_and_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let mut expected = None;
    for round in 0..4 {
        let store = Embedded::open(Options::new(dir.path())).await.unwrap();
        if let Some((revision, kvs)) = expected {
            let range = store.range(all(), 0, None).await.unwrap();
            assert_eq!((range.revision, range.kvs), (revision, kvs));
            let mut watch = store.watch(all(), Revision(revision.0 - 5)).await.unwrap();
            assert_eq!(events(&mut watch, revision).await.len(), 5);
        }
        for number in 0..20 {
            let name = format!("/{}", number % 7);
            store
                .commit(just([put(&name, &format!("{round} {number}"))]))
                .await
                .unwrap();
        }
        let range = store.range(all(), 0, None).await.unwrap();
        expected = Some((range.revision, range.kvs));
    }
}

#[tokio::test]
async fn what_a_killed_first_start_left_is_no_hindrance() {
    let dir = tempfile::tempdir().unwrap();
    for leftover in ["store.db.new", "store.db.new-journal"] {
        std::fs::write(dir.path().join(leftover), vec![7; 5000]).unwrap();
    }
    let store = Embedded::open(Options::new(dir.path())).await.unwrap();
    assert_eq!(store.commit(just([put("/a", "1")])).await, Ok(Revision(1)));
}

#[tokio::test]
async fn revisions_are_not_used_again_though_the_last_change_was_swept() {
    let dir = tempfile::tempdir().unwrap();
    let store = Embedded::open(Options::new(dir.path())).await.unwrap();
    store.commit(just([put("/a", "1")])).await.unwrap();
    let last = store.commit(just([delete("/a")])).await.unwrap();
    store.compact(last).await.unwrap();
    // The sweep follows by itself; a start in between is as good.
    drop(store);
    let store = Embedded::open(Options::new(dir.path())).await.unwrap();
    store.commit(just([delete("/none")])).await.unwrap();
    drop(store);
    let store = Embedded::open(Options::new(dir.path())).await.unwrap();
    assert_eq!(store.revision().await, Ok(last));
    assert_eq!(store.commit(just([put("/a", "2")])).await.unwrap().0, last.0 + 1);
}

#[tokio::test]
async fn a_time_to_live_goes_on_over_a_start() {
    let dir = tempfile::tempdir().unwrap();
    let mortal = |name: &str, seconds| Op::Put {
        key: key(name),
        value: key("x"),
        ttl: Some(Duration::from_secs(seconds)),
    };
    let store = Embedded::open(Options::new(dir.path())).await.unwrap();
    let put_at = Instant::now();
    store
        .commit(just([mortal("/soon", 2), mortal("/later", 60), put("/never", "x")]))
        .await
        .unwrap();
    let last = store.revision().await.unwrap();
    drop(store);
    let store = Embedded::open(Options::new(dir.path())).await.unwrap();
    assert_eq!(store.range(all(), 0, None).await.unwrap().count, 3);
    let mut watch = store.watch(all(), last).await.unwrap();
    let seen = events(&mut watch, Revision(last.0 + 1)).await;
    assert!(put_at.elapsed() >= Duration::from_secs(2));
    let expected = Event::Delete {
        key: key("/soon"),
        revision: Revision(last.0 + 1),
    };
    assert_eq!(seen, [expected]);
}

#[tokio::test]
async fn a_snapshot_starts_a_store_with_all_that_was_there() {
    let dir = tempfile::tempdir().unwrap();
    let store = Embedded::open(Options::new(dir.path().join("a"))).await.unwrap();
    for number in 0..300 {
        let name = format!("/{}", number % 90);
        store.commit(just([put(&name, &"x".repeat(number))])).await.unwrap();
    }
    let expected = store.range(all(), 0, None).await.unwrap();
    let other = dir.path().join("b");
    std::fs::create_dir(&other).unwrap();
    let revision = store.snapshot(&other.join("store.db")).await.unwrap();
    assert_eq!(revision, expected.revision);
    store.commit(just([put("/0", "later")])).await.unwrap();
    let copy = Embedded::open(Options::new(&other)).await.unwrap();
    assert_eq!(copy.range(all(), 0, None).await.unwrap(), expected);
    let then = copy.range(all(), 0, Some(Revision(100))).await.unwrap();
    assert_eq!(then.kvs, store.range(all(), 0, Some(Revision(100))).await.unwrap().kvs);
}

/// Many updates of few keys, as by nodes that renew their leases.
async fn renew(store: &Arc<Embedded>, leases: usize, updates: usize) {
    let mut writers = JoinSet::new();
    for writer in 0..50 {
        let store = Arc::clone(store);
        writers.spawn(async move {
            for number in (writer..updates).step_by(50) {
                let name = format!("/registry/leases/kube-node-lease/node-{:04}", number % leases);
                let value = format!("{number:0>1000}");
                store.commit(just([put(&name, &value)])).await.unwrap();
            }
        });
    }
    writers.join_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_100000_updates_of_100_leases_the_files_are_at_most_three_times_what_is_live() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options {
        // As it is by itself, but sooner.
        retention: Retention {
            settle: Duration::from_secs(1),
            ..Retention::default()
        },
        ..Options::new(dir.path())
    };
    let store = Embedded::open(options).await.unwrap();
    renew(&store, 100, 100_000).await;
    let live: usize = store
        .range(all(), 0, None)
        .await
        .unwrap()
        .kvs
        .iter()
        .map(|kv| kv.key.len() + kv.value.len())
        .sum();
    eventually("the files are short", async || {
        let bytes = store.health().await.unwrap().bytes as usize;
        if bytes <= 3 * live {
            Ok(())
        } else {
            Err(format!("{bytes} bytes for {live}"))
        }
    })
    .await;
    assert_eq!(store.health().await.unwrap().trouble, None);
    // And they stay so for whoever opens it.
    drop(store);
    let store = Embedded::open(Options::new(dir.path())).await.unwrap();
    assert_eq!(store.range(all(), 0, None).await.unwrap().count, 100);
    assert_eq!(store.revision().await, Ok(Revision(100_000)));
    assert!(store.health().await.unwrap().bytes as usize <= 3 * live);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn history_goes_by_number_while_writers_write() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options {
        retention: Retention {
            revisions: 500,
            settle: Duration::from_mins(5),
            ..Retention::default()
        },
        ..Options::new(dir.path())
    };
    let store = Embedded::open(options).await.unwrap();
    renew(&store, 100, 5000).await;
    eventually("only the last 500 revisions are kept", async || {
        match store.range(all(), 1, Some(Revision(4499))).await {
            Err(Error::Compacted {
                oldest: Revision(4500), ..
            }) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    let kept = store.range(all(), 0, Some(Revision(4500))).await.unwrap();
    assert_eq!(kept.count, 100);
    let mut watch = store.watch(all(), Revision(4500)).await.unwrap();
    assert_eq!(events(&mut watch, Revision(5000)).await.len(), 500);
}

#[tokio::test]
async fn a_full_store_takes_deletions_serves_reads_and_recovers_by_itself() {
    const MOST: u64 = 1024 * 1024;
    let dir = tempfile::tempdir().unwrap();
    let options = Options {
        max_bytes: Some(MOST),
        retention: Retention {
            settle: Duration::ZERO,
            ..Retention::default()
        },
        ..Options::new(dir.path())
    };
    let store = Embedded::open(options).await.unwrap();
    let value = "x".repeat(20_000);
    let mut count = 0;
    let full = loop {
        match store.commit(just([put(&format!("/{count:03}"), &value)])).await {
            Ok(_) => count += 1,
            Err(error) => break error,
        }
        assert!(count < 100, "it takes more than it may");
    };
    assert!(matches!(&full, Error::Full(why) if why.contains("1048576")), "{full:?}");
    assert!(count >= 40, "{count}");
    let latest = store.revision().await.unwrap();
    assert_eq!(store.range(all(), 0, None).await.unwrap().count, count);
    for number in 0..10 {
        store.commit(just([delete(&format!("/{number:03}"))])).await.unwrap();
    }
    eventually("there is room again", async || {
        match store.commit(just([put("/new", &value)])).await {
            Ok(_) => Ok(()),
            Err(error @ Error::Full(_)) => Err(error.to_string()),
            Err(error) => panic!("{error}"),
        }
    })
    .await;
    assert_eq!(store.revision().await.unwrap().0, latest.0 + 11);
    assert_eq!(store.range(all(), 0, None).await.unwrap().count, count - 9);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_that_is_read_slowly_from_the_past_gets_everything_though_its_queue_is_short() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options {
        watch_queue: 2,
        ..Options::new(dir.path())
    };
    let store = Embedded::open(options).await.unwrap();
    // More than one piece of history, and more than what is kept at hand.
    renew(&store, 100, 6000).await;
    let mut watch = store.watch(all(), Revision(0)).await.unwrap();
    let seen = events(&mut watch, Revision(6000)).await;
    let revisions: Vec<_> = seen.iter().map(|event| event.revision().0).collect();
    assert_eq!(revisions, (1..=6000).collect::<Vec<_>>());
}

#[tokio::test]
async fn watches_end_with_an_error_when_the_store_is_closed() {
    let dir = tempfile::tempdir().unwrap();
    let store = Embedded::open(Options::new(dir.path())).await.unwrap();
    let mut watch = store.watch(all(), Revision(0)).await.unwrap();
    drop(store);
    let ended = watch.recv().await.unwrap();
    assert!(matches!(ended, Err(Error::Unavailable(_))), "{ended:?}");
    assert!(watch.recv().await.is_none());
}
