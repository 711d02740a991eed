//! etcd that goes away and comes back, and one that is not there.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bosun_store::{Error, Etcd, Event, Revision, Store, etcd::Options};
use tokio::{
    task::JoinSet,
    time::{Instant, timeout},
};

use crate::{
    contract::{PATIENCE, all, events, just, key, put, when},
    etcd::Server,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watches_end_when_etcd_dies_and_go_on_from_where_they_were_when_it_is_back() {
    let mut server = Server::start().await.unwrap();
    let options = Options {
        deadline: Duration::from_secs(2),
        ..server.options()
    };
    let store: Arc<dyn Store> = Etcd::open(options).await.unwrap();
    let before = store.commit(just([put("/a", "1")])).await.unwrap();
    let mut watch = store.watch(all(), before).await.unwrap();
    server.kill().await.unwrap();
    let ended = timeout(PATIENCE, watch.recv()).await.unwrap().unwrap();
    assert!(matches!(ended, Err(Error::Unavailable(_))), "{ended:?}");
    let asked = Instant::now();
    let refused = store.commit(just([put("/a", "2")])).await;
    assert!(matches!(refused, Err(Error::Unavailable(_))), "{refused:?}");
    assert!(asked.elapsed() < Duration::from_secs(10), "{:?}", asked.elapsed());
    server.revive().await.unwrap();
    let start = Instant::now();
    let mut watch = loop {
        match store.watch(all(), before).await {
            Ok(watch) => break watch,
            Err(error) => {
                assert!(start.elapsed() < PATIENCE, "{error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    };
    // Whether what was refused took place is not known; this did.
    let after = store.commit(just([put("/a", "3")])).await.unwrap();
    let seen = events(&mut watch, after).await;
    assert_eq!(seen.last().unwrap().revision(), after);
    assert_eq!(store.get(key("/a")).await.unwrap().unwrap().value, key("3"));
    assert_eq!(store.health().await.unwrap().trouble, None);
}

#[tokio::test]
async fn an_etcd_that_is_not_there_is_unavailable_in_time() {
    let options = Options {
        deadline: Duration::from_secs(1),
        ..Options::new(["http://127.0.0.1:1"])
    };
    let asked = Instant::now();
    let opened = Etcd::open(options).await;
    assert!(matches!(opened, Err(Error::Unavailable(_))), "{opened:?}");
    assert!(asked.elapsed() < Duration::from_secs(10), "{:?}", asked.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn others_changes_in_the_same_etcd_are_not_seen_and_do_not_hold_up_a_nudge() {
    let server = Server::start().await.unwrap();
    let store = server.store().await.unwrap();
    let start = store.commit(just([put("/a", "1")])).await.unwrap();
    let mut watch = store.watch(all(), start).await.unwrap();
    let mut other = etcd_client::Client::connect([&server.url], None).await.unwrap();
    other.put("/other/a", "1", None).await.unwrap();
    let latest = store.revision().await.unwrap();
    assert!(latest > start);
    store.nudge().await.unwrap();
    assert_eq!(events(&mut watch, latest).await, []);
    assert_eq!(store.range(all(), 0, None).await.unwrap().count, 1);
}

/// What a writer was told, by revision.
type Told = BTreeMap<Revision, String>;

/// Counts its key up until it is told to stop; what is not known after a failure is read.
async fn count_up(store: Arc<dyn Store>, name: String, stop: Arc<AtomicBool>) -> Told {
    let mut told = Told::new();
    let (mut modified, mut number) = (Revision(0), 0);
    while !stop.load(Ordering::SeqCst) {
        let value = format!("{name} {}", number + 1);
        match store.commit(when(&name, modified, [put(&name, &value)])).await {
            Ok(revision) => {
                told.insert(revision, value);
                (modified, number) = (revision, number + 1);
            }
            Err(Error::Unavailable(_) | Error::Conflict) => {
                if let Ok(now) = store.get(key(&name)).await {
                    modified = now.as_ref().map_or(Revision(0), |kv| kv.modified);
                    let value = now.map_or(String::new(), |kv| String::from_utf8(kv.value.to_vec()).unwrap());
                    let now = value.rsplit(' ').next().unwrap().parse().unwrap_or(0);
                    assert!(now == number || now == number + 1, "{value} after {number}");
                    number = now;
                }
            }
            Err(error) => panic!("{error}"),
        }
    }
    told
}

/// All events after `after`, until one of `end`, through failures.
async fn follow(store: Arc<dyn Store>, after: Revision, end: bytes::Bytes) -> Vec<Event> {
    let (mut seen, mut told) = (Vec::new(), after);
    loop {
        let Ok(mut watch) = store.watch(all(), told).await else {
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        while let Some(Ok(batch)) = watch.recv().await {
            told = batch.revision;
            seen.extend(batch.events);
            if seen.iter().any(|event| *event.key() == end) {
                return seen;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_told_is_lost_and_no_event_missed_while_etcd_is_killed_again_and_again() {
    let mut server = Server::start().await.unwrap();
    let options = Options {
        deadline: Duration::from_secs(2),
        ..server.options()
    };
    let store: Arc<dyn Store> = Etcd::open(options).await.unwrap();
    let start = store.revision().await.unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let mut writers = JoinSet::new();
    for writer in 0..8 {
        writers.spawn(count_up(Arc::clone(&store), format!("/{writer}"), Arc::clone(&stop)));
    }
    let mut watchers = JoinSet::new();
    for _ in 0..3 {
        watchers.spawn(follow(Arc::clone(&store), start, key("/end")));
    }
    for _ in crate::model::seeds(4, 40) {
        tokio::time::sleep(Duration::from_micros(fastrand::u64(100_000..400_000))).await;
        server.kill().await.unwrap();
        server.revive().await.unwrap();
    }
    stop.store(true, Ordering::SeqCst);
    let told = timeout(PATIENCE, writers.join_all()).await.expect("the writers stop");
    let begun = Instant::now();
    while let Err(error) = store.commit(just([put("/end", "")])).await {
        assert!(begun.elapsed() < PATIENCE, "{error}");
    }
    let watched = timeout(PATIENCE, watchers.join_all()).await.expect("the watchers end");
    let history = follow(Arc::clone(&store), start, key("/end")).await;
    let values: BTreeMap<_, _> = history
        .iter()
        .map(|event| match event {
            Event::Put { kv } => (kv.modified, kv.value.clone()),
            Event::Delete { .. } => panic!("nothing is deleted: {event:?}"),
        })
        .collect();
    assert_eq!(values.len(), history.len());
    for (revision, value) in told.iter().flatten() {
        assert_eq!(values.get(revision), Some(&key(value)), "told at revision {revision}");
    }
    for watched in watched {
        assert_eq!(watched, history);
    }
    println!("{} told of {}", told.iter().flatten().count(), history.len());
}
