//! What every [`Store`] does. Each function is one behaviour; an engine is held to all of [`behaviours!`].

#![allow(clippy::unwrap_used, reason = "a test's helpers fail by panicking")]

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bosun_store::{
    Compare, Error, Event, KeyRange, Op, Revision, Store, Txn, Watch,
    store::{MAX_KEY, MAX_OPS, MAX_VALUE},
};
use bytes::Bytes;
use tokio::{
    task::JoinSet,
    time::{Instant, timeout},
};

/// Calls `$callback!` with the names of all behaviours.
macro_rules! behaviours {
    ($callback:ident) => {
        $callback! {
            a_commit_gets_the_next_revision_and_is_read_back,
            a_key_is_created_anew_after_its_deletion,
            a_compare_that_does_not_hold_changes_nothing,
            all_changes_of_a_transaction_have_its_revision,
            of_many_creators_of_a_key_one_wins,
            no_update_is_lost_between_many_writers,
            revisions_are_dense_whoever_writes,
            deleting_what_is_absent_changes_nothing,
            a_range_is_in_order_cut_at_its_limit_and_counted,
            a_range_at_an_old_revision_is_as_it_was,
            what_is_malformed_or_too_large_is_refused,
            the_future_cannot_be_read_or_watched,
            what_is_compacted_cannot_be_read_or_watched,
            a_watch_from_every_revision_sees_the_rest_once_in_order,
            a_watch_tells_puts_deletions_and_nothing_of_other_ranges,
            a_watch_tells_how_far_it_is_when_nudged,
            a_watch_tells_by_itself_that_nothing_happened,
            a_watcher_that_does_not_take_its_events_is_ended_and_holds_no_other,
            a_key_with_a_time_to_live_goes_when_it_has_passed,
            a_later_put_sets_the_time_to_live_anew,
            a_snapshot_is_a_new_file_for_its_owner_only,
            it_tells_its_health,
        }
    };
}
pub(crate) use behaviours;

/// How long a test waits for what should happen soon: long, because other tests share the machine.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

pub(crate) fn key(name: &str) -> Bytes {
    Bytes::copy_from_slice(name.as_bytes())
}

pub(crate) fn put(name: &str, value: &str) -> Op {
    Op::Put {
        key: key(name),
        value: key(value),
        ttl: None,
    }
}

pub(crate) fn delete(name: &str) -> Op {
    Op::Delete { key: key(name) }
}

/// Without compares.
pub(crate) fn just(ops: impl Into<Vec<Op>>) -> Txn {
    Txn {
        compares: Vec::new(),
        ops: ops.into(),
    }
}

/// If the key was last put at that revision.
pub(crate) fn when(name: &str, revision: Revision, ops: impl Into<Vec<Op>>) -> Txn {
    Txn {
        compares: vec![Compare::Modified(key(name), revision)],
        ops: ops.into(),
    }
}

pub(crate) fn all() -> KeyRange {
    KeyRange::prefix("/")
}

/// `key=value@modified` of each.
async fn shown(store: &dyn Store, range: KeyRange, limit: usize, at: Option<Revision>) -> Vec<String> {
    let range = store.range(range, limit, at).await.unwrap();
    let show =
        |kv: &bosun_store::KeyValue| format!("{}={}@{}", kv.key.escape_ascii(), kv.value.escape_ascii(), kv.modified);
    range.kvs.iter().map(show).collect()
}

/// The next message of a watch.
async fn next(watch: &mut Watch) -> Option<bosun_store::Result<bosun_store::WatchBatch>> {
    timeout(PATIENCE, watch.recv())
        .await
        .expect("the watch tells something")
}

/// The events of a watch up to `revision`.
pub(crate) async fn events(watch: &mut Watch, revision: Revision) -> Vec<Event> {
    let mut events = Vec::new();
    let mut before = Revision(0);
    loop {
        let batch = next(watch).await.expect("the watch goes on").expect("it does not fail");
        assert!(batch.revision >= before, "{batch:?} after revision {before}");
        for event in &batch.events {
            assert!(event.revision() <= batch.revision, "{batch:?}");
        }
        before = batch.revision;
        events.extend(batch.events);
        if before >= revision {
            return events;
        }
    }
}

/// The end of a watch, or the answer to its beginning: engines differ in when they know.
async fn watch_failure(store: &dyn Store, after: Revision) -> Error {
    let mut watch = match store.watch(all(), after).await {
        Ok(watch) => watch,
        Err(error) => return error,
    };
    loop {
        match next(&mut watch).await.expect("it ends with an error") {
            Ok(batch) => assert!(batch.events.is_empty(), "{batch:?}"),
            Err(error) => return error,
        }
    }
}

pub(crate) async fn a_commit_gets_the_next_revision_and_is_read_back(store: Arc<dyn Store>) {
    let start = store.revision().await.unwrap();
    let first = store.commit(just([put("/a", "1")])).await.unwrap();
    let second = store.commit(just([put("/a", "2")])).await.unwrap();
    assert_eq!((first.0, second.0), (start.0 + 1, start.0 + 2));
    assert_eq!(store.revision().await.unwrap(), second);
    let kv = store.get(key("/a")).await.unwrap().unwrap();
    assert_eq!((kv.created, kv.modified, kv.value), (first, second, key("2")));
    assert_eq!(store.get(key("/b")).await.unwrap(), None);
    assert_eq!(store.get(key("/")).await.unwrap(), None);
    let range = store.range(all(), 0, None).await.unwrap();
    assert_eq!((range.kvs.len(), range.count, range.more), (1, 1, false));
    assert_eq!(range.revision, second);
}

pub(crate) async fn a_key_is_created_anew_after_its_deletion(store: Arc<dyn Store>) {
    store.commit(just([put("/a", "1")])).await.unwrap();
    store.commit(just([delete("/a")])).await.unwrap();
    assert_eq!(store.get(key("/a")).await.unwrap(), None);
    let again = store.commit(when("/a", Revision(0), [put("/a", "")])).await.unwrap();
    let kv = store.get(key("/a")).await.unwrap().unwrap();
    assert_eq!((kv.created, kv.modified, kv.value.len()), (again, again, 0));
}

pub(crate) async fn a_compare_that_does_not_hold_changes_nothing(store: Arc<dyn Store>) {
    let first = store.commit(when("/a", Revision(0), [put("/a", "1")])).await.unwrap();
    let second = store.commit(when("/a", first, [put("/a", "2")])).await.unwrap();
    let table = [
        ("an older revision", when("/a", first, [put("/a", "3")])),
        ("absence", when("/a", Revision(0), [put("/a", "3")])),
        ("a revision of an absent key", when("/b", first, [put("/b", "3")])),
        (
            "one of two",
            Txn {
                compares: vec![
                    Compare::Modified(key("/a"), second),
                    Compare::Modified(key("/b"), second),
                ],
                ops: vec![put("/a", "3")],
            },
        ),
        (
            "with a change elsewhere",
            when("/a", first, [put("/c", "3"), delete("/a")]),
        ),
    ];
    for (name, txn) in table {
        assert_eq!(store.commit(txn).await, Err(Error::Conflict), "{name}");
    }
    assert_eq!(store.revision().await.unwrap(), second);
    assert_eq!(shown(&*store, all(), 0, None).await, [format!("/a=2@{second}")]);
}

pub(crate) async fn all_changes_of_a_transaction_have_its_revision(store: Arc<dyn Store>) {
    let first = store.commit(just([put("/a", "1"), put("/b", "1")])).await.unwrap();
    let second = store
        .commit(just([delete("/a"), put("/b", "2"), put("/c", "2")]))
        .await
        .unwrap();
    assert_eq!(second.0, first.0 + 1);
    let expected = [format!("/b=2@{second}"), format!("/c=2@{second}")];
    assert_eq!(shown(&*store, all(), 0, None).await, expected);
    let mut watch = store.watch(all(), first).await.unwrap();
    let batch = next(&mut watch).await.unwrap().unwrap();
    let mut keys: Vec<_> = batch.events.iter().map(|event| event.key().clone()).collect();
    keys.sort();
    assert_eq!(keys, [key("/a"), key("/b"), key("/c")]);
    assert!(batch.events.iter().all(|event| event.revision() == second), "{batch:?}");
}

pub(crate) async fn of_many_creators_of_a_key_one_wins(store: Arc<dyn Store>) {
    for round in 0..5 {
        let name = format!("/{round}");
        let mut creators = JoinSet::new();
        for number in 0..32 {
            let (store, name) = (Arc::clone(&store), name.clone());
            creators.spawn(async move {
                let txn = when(&name, Revision(0), [put(&name, &number.to_string())]);
                (number, store.commit(txn).await)
            });
        }
        let results = creators.join_all().await;
        let winners: Vec<_> = results.iter().filter(|(_, result)| result.is_ok()).collect();
        let losers = results.iter().filter(|(_, result)| *result == Err(Error::Conflict));
        assert_eq!((winners.len(), losers.count()), (1, 31), "{results:?}");
        let kv = store.get(key(&name)).await.unwrap().unwrap();
        assert_eq!(kv.value, key(&winners[0].0.to_string()));
        assert_eq!(Ok(kv.modified), winners[0].1);
    }
}

pub(crate) async fn no_update_is_lost_between_many_writers(store: Arc<dyn Store>) {
    store.commit(just([put("/counter", "0")])).await.unwrap();
    let mut writers = JoinSet::new();
    for _ in 0..8 {
        let store = Arc::clone(&store);
        writers.spawn(async move {
            for _ in 0..20 {
                loop {
                    let kv = store.get(key("/counter")).await.unwrap().unwrap();
                    let count: u32 = std::str::from_utf8(&kv.value).unwrap().parse().unwrap();
                    let txn = when("/counter", kv.modified, [put("/counter", &(count + 1).to_string())]);
                    match store.commit(txn).await {
                        Ok(_) => break,
                        Err(error) => assert_eq!(error, Error::Conflict),
                    }
                }
            }
        });
    }
    writers.join_all().await;
    let kv = store.get(key("/counter")).await.unwrap().unwrap();
    assert_eq!(kv.value, key("160"));
}

pub(crate) async fn revisions_are_dense_whoever_writes(store: Arc<dyn Store>) {
    let start = store.revision().await.unwrap();
    let mut writers = JoinSet::new();
    for writer in 0..16 {
        let store = Arc::clone(&store);
        writers.spawn(async move {
            let mut revisions = Vec::new();
            for number in 0..25 {
                let name = format!("/{}", (writer * 7 + number) % 40);
                revisions.push(store.commit(just([put(&name, "x")])).await.unwrap());
            }
            assert!(revisions.is_sorted(), "{revisions:?}");
            revisions
        });
    }
    let mut revisions: Vec<_> = writers.join_all().await.into_iter().flatten().collect();
    revisions.sort();
    let expected: Vec<_> = (start.0 + 1..=start.0 + 400).map(Revision).collect();
    assert_eq!(revisions, expected);
    assert_eq!(store.revision().await.unwrap().0, start.0 + 400);
}

pub(crate) async fn deleting_what_is_absent_changes_nothing(store: Arc<dyn Store>) {
    let first = store.commit(just([put("/a", "1")])).await.unwrap();
    assert_eq!(store.commit(just([delete("/b")])).await, Ok(first));
    assert_eq!(store.commit(just([delete("/b"), delete("/c")])).await, Ok(first));
    let second = store.commit(just([delete("/b"), delete("/a")])).await.unwrap();
    assert_eq!(second.0, first.0 + 1);
    let mut watch = store.watch(all(), first).await.unwrap();
    let expected = Event::Delete {
        key: key("/a"),
        revision: second,
    };
    assert_eq!(events(&mut watch, second).await, [expected]);
}

pub(crate) async fn a_range_is_in_order_cut_at_its_limit_and_counted(store: Arc<dyn Store>) {
    for name in ["/b/2", "/c", "/b/10", "/a", "/b/\u{ff}", "/b", "/b/1", "/b0"] {
        store.commit(just([put(name, name)])).await.unwrap();
    }
    // In the order of bytes, where a prefix with its slash ends before "/b0".
    let inside = ["/b/1", "/b/10", "/b/2", "/b/\u{ff}"];
    let table = [(0, 4, false), (1, 1, true), (3, 3, true), (4, 4, false), (9, 4, false)];
    for (limit, taken, more) in table {
        let range = store.range(KeyRange::prefix("/b/"), limit, None).await.unwrap();
        let keys: Vec<_> = range.kvs.iter().map(|kv| kv.key.clone()).collect();
        let expected: Vec<_> = inside[..taken].iter().map(|name| key(name)).collect();
        assert_eq!(keys, expected, "limit {limit}");
        assert_eq!((range.more, range.count), (more, 4), "limit {limit}");
    }
    let empty = KeyRange {
        start: key("/b/3"),
        end: key("/b/4"),
    };
    let range = store.range(empty, 0, None).await.unwrap();
    assert_eq!((range.kvs.len(), range.count, range.more), (0, 0, false));
}

pub(crate) async fn a_range_at_an_old_revision_is_as_it_was(store: Arc<dyn Store>) {
    let mut model = BTreeMap::new();
    let mut states = vec![(store.revision().await.unwrap(), model.clone())];
    let mut random = fastrand::Rng::with_seed(7);
    for number in 0..60 {
        let name = format!("/{}", random.u8(..12));
        let revision = if random.u8(..3) == 0 && model.remove(&name).is_some() {
            store.commit(just([delete(&name)])).await.unwrap()
        } else {
            let revision = store.commit(just([put(&name, &number.to_string())])).await.unwrap();
            model.insert(name, format!("{number}@{revision}"));
            revision
        };
        states.push((revision, model.clone()));
    }
    let latest = store.revision().await.unwrap();
    for (revision, state) in states {
        let expected: Vec<_> = state.iter().map(|(key, value)| format!("{key}={value}")).collect();
        for limit in [0, 1, 3, 100] {
            let taken = if limit == 0 {
                expected.len()
            } else {
                limit.min(expected.len())
            };
            let seen = shown(&*store, all(), limit, Some(revision)).await;
            assert_eq!(seen, expected[..taken], "revision {revision}, limit {limit}");
            let range = store.range(all(), limit, Some(revision)).await.unwrap();
            assert_eq!(
                (range.count, range.more),
                (expected.len() as u64, taken < expected.len())
            );
            assert_eq!(range.revision, latest);
        }
    }
}

pub(crate) async fn what_is_malformed_or_too_large_is_refused(store: Arc<dyn Store>) {
    let start = store.revision().await.unwrap();
    let large = "x".repeat(MAX_VALUE + 1);
    let table = [
        ("an empty key", just([put("", "x")])),
        ("a long key", just([put(&"k".repeat(MAX_KEY + 1), "x")])),
        ("a large value", just([put("/a", &large)])),
        ("a key twice", just([put("/a", "1"), put("/b", "1"), delete("/a")])),
        (
            "many changes",
            just((0..=MAX_OPS).map(|n| put(&format!("/{n}"), "x")).collect::<Vec<_>>()),
        ),
        (
            "a short time to live",
            just([Op::Put {
                key: key("/a"),
                value: key("x"),
                ttl: Some(Duration::from_millis(10)),
            }]),
        ),
        ("an empty key compared", when("", Revision(0), [put("/a", "1")])),
    ];
    for (name, txn) in table {
        let result = store.commit(txn).await;
        assert!(matches!(result, Err(Error::Refused(_))), "{name}: {result:?}");
    }
    assert_eq!(store.revision().await.unwrap(), start);
    let most = just((0..MAX_OPS).map(|n| put(&format!("/{n}"), "x")).collect::<Vec<_>>());
    store.commit(most).await.unwrap();
    let large = "x".repeat(MAX_VALUE - 1024);
    store.commit(just([put("/large", &large)])).await.unwrap();
    assert_eq!(
        store.get(key("/large")).await.unwrap().unwrap().value.len(),
        large.len()
    );
}

pub(crate) async fn the_future_cannot_be_read_or_watched(store: Arc<dyn Store>) {
    let latest = store.commit(just([put("/a", "1")])).await.unwrap();
    let asked = Revision(latest.0 + 1);
    let expected = Error::Future { asked, latest };
    assert_eq!(store.range(all(), 0, Some(asked)).await, Err(expected.clone()));
    assert_eq!(watch_failure(&*store, asked).await, expected);
    assert_eq!(store.compact(asked).await, Err(expected));
    assert_eq!(shown(&*store, all(), 0, Some(latest)).await, [format!("/a=1@{latest}")]);
}

pub(crate) async fn what_is_compacted_cannot_be_read_or_watched(store: Arc<dyn Store>) {
    store.commit(just([put("/kept", "1")])).await.unwrap();
    let mut revisions = Vec::new();
    for number in 0..10 {
        revisions.push(store.commit(just([put("/a", &number.to_string())])).await.unwrap());
    }
    revisions.push(store.commit(just([delete("/a")])).await.unwrap());
    let latest = store.commit(just([put("/b", "1")])).await.unwrap();
    let oldest = revisions[6];
    store.compact(oldest).await.unwrap();
    // Again, and what is older yet, is nothing new.
    store.compact(oldest).await.unwrap();
    store.compact(revisions[2]).await.unwrap();
    for asked in &revisions[..6] {
        let expected = Error::Compacted { asked: *asked, oldest };
        assert_eq!(
            store.range(all(), 0, Some(*asked)).await,
            Err(expected.clone()),
            "{asked}"
        );
        assert_eq!(watch_failure(&*store, *asked).await, expected, "{asked}");
    }
    for (number, revision) in revisions.iter().enumerate().take(10).skip(6) {
        let seen = shown(&*store, KeyRange::prefix("/a"), 0, Some(*revision)).await;
        assert_eq!(seen, [format!("/a={number}@{revision}")]);
        let mut watch = store.watch(all(), *revision).await.unwrap();
        assert_eq!(events(&mut watch, latest).await.len(), 11 - number, "{revision}");
    }
    // A deletion is not forgotten before its time, nor what was never changed.
    store.compact(revisions[10]).await.unwrap();
    let seen = shown(&*store, all(), 0, Some(revisions[10])).await;
    assert_eq!(seen.len(), 1, "{seen:?}");
    let mut watch = store.watch(all(), revisions[10]).await.unwrap();
    assert_eq!(events(&mut watch, latest).await.len(), 1);
    store.compact(latest).await.unwrap();
    assert_eq!(store.range(all(), 0, None).await.unwrap().count, 2);
    assert_eq!(store.revision().await.unwrap(), latest);
    assert_eq!(store.commit(just([put("/c", "1")])).await.unwrap().0, latest.0 + 1);
}

pub(crate) async fn a_watch_from_every_revision_sees_the_rest_once_in_order(store: Arc<dyn Store>) {
    const WRITERS: u64 = 8;
    const EACH: u64 = 60;
    let start = store.revision().await.unwrap();
    let end = Revision(start.0 + WRITERS * EACH);
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let store = Arc::clone(&store);
        writers.spawn(async move {
            for number in 0..EACH {
                let name = format!("/{writer}/{}", number % 3);
                store.commit(just([put(&name, "x")])).await.unwrap();
            }
        });
    }
    let mut watchers = JoinSet::new();
    while watchers.len() < 40 {
        // Of the past, and of the present while it moves.
        let now = store.revision().await.unwrap();
        for after in [start.0 + fastrand::u64(..=now.0 - start.0), now.0] {
            let store = Arc::clone(&store);
            watchers.spawn(async move {
                let mut watch = store.watch(all(), Revision(after)).await.unwrap();
                let seen = events(&mut watch, end).await;
                let revisions: Vec<_> = seen.iter().map(|event| event.revision().0).collect();
                assert_eq!(revisions, (after + 1..=end.0).collect::<Vec<_>>(), "after {after}");
            });
        }
    }
    writers.join_all().await;
    watchers.join_all().await;
}

pub(crate) async fn a_watch_tells_puts_deletions_and_nothing_of_other_ranges(store: Arc<dyn Store>) {
    let start = store.revision().await.unwrap();
    let mut live = store.watch(KeyRange::prefix("/a/"), start).await.unwrap();
    let first = store.commit(just([put("/a/1", "1"), put("/b/1", "1")])).await.unwrap();
    store.commit(just([put("/b/2", "1")])).await.unwrap();
    let second = store.commit(just([put("/a/1", "2")])).await.unwrap();
    let third = store.commit(just([delete("/a/1"), delete("/b/1")])).await.unwrap();
    let kv = |value: &str, modified| bosun_store::KeyValue {
        key: key("/a/1"),
        value: key(value),
        created: first,
        modified,
    };
    let expected = [
        Event::Put { kv: kv("1", first) },
        Event::Put { kv: kv("2", second) },
        Event::Delete {
            key: key("/a/1"),
            revision: third,
        },
    ];
    assert_eq!(events(&mut live, third).await, expected);
    let mut late = store.watch(KeyRange::prefix("/a/"), start).await.unwrap();
    assert_eq!(events(&mut late, third).await, expected);
}

pub(crate) async fn a_watch_tells_how_far_it_is_when_nudged(store: Arc<dyn Store>) {
    let start = store.commit(just([put("/a/1", "1")])).await.unwrap();
    let mut watches = Vec::new();
    for prefix in ["/a/", "/b/", "/c/"] {
        watches.push(store.watch(KeyRange::prefix(prefix), start).await.unwrap());
    }
    let end = store.commit(just([put("/c/1", "1")])).await.unwrap();
    let told = Instant::now();
    store.nudge().await.unwrap();
    for watch in &mut watches[..2] {
        assert_eq!(events(watch, end).await, []);
    }
    assert!(told.elapsed() < Duration::from_secs(3), "it took {:?}", told.elapsed());
    assert_eq!(events(&mut watches[2], end).await.len(), 1);
}

pub(crate) async fn a_watch_tells_by_itself_that_nothing_happened(store: Arc<dyn Store>) {
    let start = store.commit(just([put("/a/1", "1")])).await.unwrap();
    let mut watch = store.watch(KeyRange::prefix("/b/"), start).await.unwrap();
    let end = store.commit(just([put("/a/1", "2")])).await.unwrap();
    assert_eq!(events(&mut watch, end).await, []);
}

pub(crate) async fn a_watcher_that_does_not_take_its_events_is_ended_and_holds_no_other(store: Arc<dyn Store>) {
    let start = store.revision().await.unwrap();
    let mut slow = store.watch(all(), start).await.unwrap();
    let mut quick = store.watch(all(), start).await.unwrap();
    // Other engines' sockets and queues hold something, too.
    let value = "x".repeat(32 * 1024);
    let mut end = start;
    for number in 0..1500 {
        end = store
            .commit(just([put(&format!("/{}", number % 10), &value)]))
            .await
            .unwrap();
        while let Ok(message) = quick.try_recv() {
            assert!(message.is_ok(), "{message:?}");
        }
    }
    // It was never held up: what is told to it last is the last.
    store.nudge().await.unwrap();
    events(&mut quick, end).await;
    let mut taken = 0;
    loop {
        match next(&mut slow).await.expect("it ends with an error") {
            Ok(batch) => taken += batch.events.len(),
            Err(error) => break assert_eq!(error, Error::Lagging),
        }
    }
    assert!(taken < 1500, "{taken} events");
    assert!(next(&mut slow).await.is_none());
}

fn mortal(name: &str, seconds: u64) -> Op {
    Op::Put {
        key: key(name),
        value: key("x"),
        ttl: Some(Duration::from_secs(seconds)),
    }
}

pub(crate) async fn a_key_with_a_time_to_live_goes_when_it_has_passed(store: Arc<dyn Store>) {
    let start = store.commit(just([put("/stays", "x")])).await.unwrap();
    let mut watch = store.watch(all(), start).await.unwrap();
    let before = Instant::now();
    let put_at = store.commit(just([mortal("/a", 2), mortal("/b", 3)])).await.unwrap();
    let mut gone = Vec::new();
    while gone.len() < 2 {
        let batch = next(&mut watch).await.unwrap().unwrap();
        for event in batch.events {
            if let Event::Delete { key, revision } = event {
                assert!(revision > put_at);
                gone.push((key, before.elapsed().as_secs_f32()));
            }
        }
    }
    assert_eq!((&gone[0].0, &gone[1].0), (&key("/a"), &key("/b")));
    assert!(gone[0].1 >= 2.0 && gone[1].1 >= 3.0, "{gone:?}");
    assert!(gone[1].1 < 15.0, "{gone:?}");
    assert_eq!(store.range(all(), 0, None).await.unwrap().count, 1);
}

pub(crate) async fn a_later_put_sets_the_time_to_live_anew(store: Arc<dyn Store>) {
    store.commit(just([mortal("/longer", 2)])).await.unwrap();
    store.commit(just([mortal("/for ever", 2)])).await.unwrap();
    store.commit(just([mortal("/again", 2)])).await.unwrap();
    let start = store.commit(just([mortal("/clock", 4)])).await.unwrap();
    store.commit(just([mortal("/longer", 60)])).await.unwrap();
    store.commit(just([put("/for ever", "x")])).await.unwrap();
    store.commit(just([delete("/again")])).await.unwrap();
    store.commit(just([put("/again", "x")])).await.unwrap();
    let mut watch = store.watch(KeyRange::prefix("/clock"), start).await.unwrap();
    loop {
        let batch = next(&mut watch).await.unwrap().unwrap();
        if !batch.events.is_empty() {
            break;
        }
    }
    let left: Vec<_> = store.range(all(), 0, None).await.unwrap().kvs;
    let left: Vec<_> = left.into_iter().map(|kv| kv.key).collect();
    assert_eq!(left, [key("/again"), key("/for ever"), key("/longer")]);
}

pub(crate) async fn a_snapshot_is_a_new_file_for_its_owner_only(store: Arc<dyn Store>) {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("snapshot");
    let revision = store.commit(just([put("/a", &"x".repeat(10_000))])).await.unwrap();
    assert!(store.snapshot(&path).await.unwrap() >= revision);
    let file = std::fs::metadata(&path).unwrap();
    assert!(file.len() > 10_000);
    assert_eq!(file.permissions().mode() & 0o777, 0o600);
    let again = store.snapshot(&path).await;
    assert!(matches!(again, Err(Error::Refused(_))), "{again:?}");
    let nowhere = store.snapshot(&dir.path().join("no/such/directory")).await;
    assert!(matches!(nowhere, Err(Error::Refused(_))), "{nowhere:?}");
    let names: Vec<_> = std::fs::read_dir(dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(names, ["snapshot"]);
}

pub(crate) async fn it_tells_its_health(store: Arc<dyn Store>) {
    let revision = store.commit(just([put("/a", "1")])).await.unwrap();
    let health = store.health().await.unwrap();
    assert_eq!((health.revision, &health.trouble), (revision, &None));
    assert!(health.last_commit.is_some_and(|ago| ago < PATIENCE), "{health:?}");
    assert!(health.bytes > 0, "{health:?}");
}
