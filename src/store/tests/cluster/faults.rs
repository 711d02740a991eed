//! etcd that goes away and comes back, and one that is not there.

use std::{sync::Arc, time::Duration};

use bosun_store::{Error, Etcd, Store, etcd::Options};
use tokio::time::{Instant, timeout};

use crate::{
    contract::{PATIENCE, all, events, just, key, put},
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
