//! A process that writes as fast as it can, killed at random moments: what it was told is stored, is.

use std::{collections::BTreeMap, path::Path, process::Stdio, sync::Arc, time::Duration};

use bosun_store::{
    Embedded, Error, Event, Revision, Store,
    embedded::{Options, Retention},
};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::Command,
    task::JoinSet,
    time::{Instant, sleep_until},
};

use crate::contract::{PATIENCE, all, events, just, key, put};

/// Names the store to a process that is to be killed.
const STORE: &str = "BOSUN_TEST_CRASH_STORE";
const WRITERS: usize = 24;

fn options(dir: &Path) -> Options {
    Options {
        // So that sweeping and giving pages back are what is interrupted, too.
        retention: Retention {
            revisions: 2000,
            settle: Duration::ZERO,
            ..Retention::default()
        },
        ..Options::new(dir)
    }
}

/// Writes until it is killed, telling of each answer.
async fn write(dir: &Path) {
    let store = Embedded::open(options(dir)).await.unwrap();
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let store = Arc::clone(&store);
        writers.spawn(async move {
            let mut random = fastrand::Rng::new();
            let (a, b) = (format!("/{writer}/a"), format!("/{writer}/b"));
            let before = store.get(key(&a)).await.unwrap();
            let mut number: u64 = before.map_or(0, |kv| number_in(&kv.value));
            loop {
                number += 1;
                let value = format!("{number} {}", "x".repeat(random.usize(..3000)));
                let revision = store.commit(just([put(&a, &value), put(&b, &value)])).await.unwrap();
                println!("STORED {writer} {number} {revision} 0");
            }
        });
    }
    writers.join_all().await;
}

fn number_in(value: &[u8]) -> u64 {
    let text = std::str::from_utf8(value).unwrap();
    text.split(' ').next().unwrap().parse().unwrap()
}

#[derive(Default)]
struct Told {
    /// By writer.
    numbers: BTreeMap<usize, u64>,
    /// By revision.
    revisions: BTreeMap<Revision, (usize, u64)>,
}

/// Runs a writer for a random while, kills it, and returns what it was told.
async fn run_and_kill(dir: &Path, test: &str) -> Told {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(STORE, dir)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut told = Told::default();
    let moment = Duration::from_micros(fastrand::u64(..250_000));
    // Some are killed while they begin.
    let mut kill = (fastrand::u8(..4) == 0).then(|| Instant::now() + moment);
    let end = Instant::now() + PATIENCE;
    loop {
        let line = tokio::select! {
            line = lines.next_line() => line.unwrap(),
            () = sleep_until(kill.unwrap_or(end)) => {
                assert!(Instant::now() < end, "the child stores nothing, or does not die");
                child.start_kill().unwrap();
                kill = None;
                continue;
            }
        };
        let Some(line) = line else { break };
        let Some(stored) = line.strip_prefix("STORED ") else {
            continue;
        };
        let fields: Vec<u64> = stored.split(' ').map_while(|field| field.parse().ok()).collect();
        // The last line may be cut off: its last field is not known to be whole.
        let [writer, number, revision, 0] = fields[..] else {
            continue;
        };
        if told.numbers.is_empty() && kill.is_none() {
            kill = Some(Instant::now() + moment);
        }
        told.numbers.insert(writer as usize, number);
        told.revisions.insert(Revision(revision), (writer as usize, number));
    }
    child.wait().await.unwrap();
    told
}

/// All that was told, and whole transactions only.
async fn check(dir: &Path, told: &Told, before: Revision) -> Revision {
    let store = Embedded::open(options(dir)).await.unwrap();
    let latest = store.revision().await.unwrap();
    let last_told = told.revisions.keys().next_back().copied().unwrap_or_default();
    assert!(
        latest >= last_told.max(before),
        "{latest} after {last_told} and {before}"
    );
    for (writer, number) in &told.numbers {
        let a = store.get(key(&format!("/{writer}/a"))).await.unwrap().unwrap();
        let b = store.get(key(&format!("/{writer}/b"))).await.unwrap().unwrap();
        assert_eq!((a.modified, &a.value), (b.modified, &b.value), "half a transaction");
        assert!(number_in(&a.value) >= *number, "writer {writer} was told {number}");
    }
    // What history there is, is whole.
    let (kept, mut watch) = match store.watch(all(), Revision(0)).await {
        Ok(watch) => (Revision(0), watch),
        Err(Error::Compacted { oldest, .. }) => (oldest, store.watch(all(), oldest).await.unwrap()),
        Err(error) => panic!("{error}"),
    };
    let seen = if latest > kept {
        events(&mut watch, latest).await
    } else {
        Vec::new()
    };
    assert_eq!(seen.len() as u64, 2 * (latest.0 - kept.0));
    for (pair, revision) in seen.chunks_exact(2).zip(kept.0 + 1..) {
        let [Event::Put { kv: a }, Event::Put { kv: b }] = pair else {
            panic!("{pair:?}")
        };
        assert_eq!((a.modified.0, b.modified.0, &a.value), (revision, revision, &b.value));
        if let Some((writer, number)) = told.revisions.get(&a.modified) {
            assert_eq!(a.key, key(&format!("/{writer}/a")));
            assert_eq!(number_in(&a.value), *number);
        }
    }
    let next = store
        .commit(just([put("/check/a", "1"), put("/check/b", "1")]))
        .await
        .unwrap();
    assert_eq!(next.0, latest.0 + 1);
    next
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_survives_being_killed_at_any_moment() {
    if let Some(dir) = std::env::var_os(STORE) {
        return write(Path::new(&dir)).await;
    }
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("store");
    let mut latest = Revision(0);
    let mut answers = 0;
    for _ in crate::model::seeds(20) {
        let told = run_and_kill(&dir, "crash::what_was_acknowledged_survives_being_killed_at_any_moment").await;
        answers += told.revisions.len();
        latest = check(&dir, &told, latest).await;
    }
    println!("{answers} answers, {latest} revisions");
}
