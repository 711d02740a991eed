//! Random concurrent writers, readers and watchers, while the server is killed and started again: what was acknowledged
//! stays, reads are current, every watch sees each change once and in order.

mod model;

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, ensure};
use bosun_testkit::{Etcd, PATIENCE, Server};
use fastrand::Rng;
use futures_util::TryStreamExt;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ListParams, PostParams, Preconditions, WatchEvent, WatchParams},
};
use serde_json::json;
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use self::model::{Action, Moment, Operation, Outcome, Seen};
use crate::{clients::client, several};

/// Seeds in an ordinary run and with `--soak`, over both engines and one server or two.
const SEEDS: u64 = 20;
const SOAK_SEEDS: u64 = 200;
const WRITERS: usize = 6;
const WATCHERS: usize = 3;
const KEYS: u64 = 4;
const KILLS: u64 = 2;
const LABEL: &str = "bosun.dev/history";
/// No answer in this time is no answer.
const ANSWER: Duration = Duration::from_secs(5);

fn seeds() -> u64 {
    if std::env::var_os("BOSUN_SOAK").is_some() {
        SOAK_SEEDS
    } else {
        SEEDS
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn histories_are_linearizable_across_kills_of_the_server_on_the_embedded_store() -> anyhow::Result<()> {
    histories(vec![Server::start().await?], 0).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn histories_are_linearizable_across_kills_of_the_server_on_etcd() -> anyhow::Result<()> {
    let etcd = Etcd::start().await?;
    histories(several::servers(&etcd, 1).await?, 1).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn histories_are_linearizable_across_two_servers_on_one_etcd_and_kills_of_either() -> anyhow::Result<()> {
    let etcd = Etcd::start().await?;
    histories(several::servers(&etcd, 2).await?, 2).await
}

/// Every third seed from `first` on.
async fn histories(mut servers: Vec<Server>, first: u64) -> anyhow::Result<()> {
    for seed in (first..seeds()).step_by(3) {
        history(&mut servers, seed)
            .await
            .with_context(|| format!("seed {seed}"))?;
    }
    for server in &mut servers {
        server.stop().await?;
    }
    Ok(())
}

/// One clock for all clients.
#[derive(Clone, Default)]
struct Clock(Arc<AtomicU64>);

impl Clock {
    fn tick(&self) -> Moment {
        self.0.fetch_add(1, Ordering::SeqCst)
    }
}

async fn history(servers: &mut [Server], seed: u64) -> anyhow::Result<()> {
    let mut clients: Vec<Api<ConfigMap>> = Vec::new();
    for server in &*servers {
        clients.push(Api::namespaced(client(server).await?, "default"));
    }
    let maps = &clients[0];
    let any = |number: usize| clients[number % clients.len()].clone();
    let selector = format!("{LABEL}=s{seed}");
    let start = maps.list_metadata(&ListParams::default().labels(&selector)).await?;
    let start = start.metadata.resource_version.context("a list without a revision")?;
    let clock = Clock::default();
    let (stop_tx, stop_rx) = watch::channel(false);
    let (done_tx, mut done_rx) = watch::channel(0);
    let mut writers = JoinSet::new();
    for number in 0..WRITERS {
        let rng = Rng::with_seed(seed * 1000 + number as u64);
        let signals = (stop_rx.clone(), done_tx.clone());
        writers.spawn(write(any(number), seed, number, rng, clock.clone(), signals));
    }
    let mut watchers = JoinSet::new();
    let (last_tx, last_rx) = watch::channel(0);
    for number in 0..WATCHERS {
        watchers.spawn(look(any(number), selector.clone(), start.clone(), last_rx.clone()));
    }
    let mut rng = Rng::with_seed(seed);
    let mut wanted = 0;
    for _ in 0..KILLS {
        // The moment is what is random, on a machine of whatever speed.
        wanted += rng.u64(20..60);
        timeout(PATIENCE, done_rx.wait_for(|done| *done >= wanted)).await??;
        sleep(Duration::from_millis(rng.u64(0..50))).await;
        let server = &mut servers[rng.usize(0..clients.len())];
        server.kill().await?;
        server.run().await?;
    }
    wanted += rng.u64(20..60);
    timeout(PATIENCE, done_rx.wait_for(|done| *done >= wanted)).await??;
    stop_tx.send_replace(true);
    let mut operations = Vec::new();
    while let Some(done) = writers.join_next().await {
        operations.append(&mut done?);
    }
    // A last change, after all others: who has seen it has seen all.
    let last = maps
        .create(&PostParams::default(), &map(seed, "last", &format!("{seed}-last")))
        .await?;
    let last: u64 = last.resource_version().context("no revision")?.parse()?;
    operations.push(Operation {
        began: clock.tick(),
        ended: clock.tick(),
        key: name(seed, "last"),
        action: Action::Create(format!("{seed}-last")),
        outcome: Outcome::Done(last, format!("{seed}-last")),
    });
    last_tx.send_replace(last);
    let mut seen = Vec::new();
    while let Some(done) = timeout(PATIENCE, watchers.join_next()).await? {
        seen.push(done??);
    }
    model::check(&operations, &seen)?;
    let done = operations
        .iter()
        .filter(|one| matches!(one.outcome, Outcome::Done(..)))
        .count();
    ensure!(
        done as u64 >= wanted,
        "only {done} operations were done: this shows nothing"
    );
    maps.delete_collection(&DeleteParams::default(), &ListParams::default().labels(&selector))
        .await?;
    Ok(())
}

fn name(seed: u64, key: impl std::fmt::Display) -> String {
    format!("history-{seed}-{key}")
}

fn map(seed: u64, key: impl std::fmt::Display, value: &str) -> ConfigMap {
    let object = json!({
        "metadata": { "name": name(seed, key), "labels": { LABEL: format!("s{seed}") } }, "data": { "v": value },
    });
    serde_json::from_value(object).expect("a ConfigMap")
}

fn value(map: &ConfigMap) -> String {
    map.data
        .as_ref()
        .and_then(|data| data.get("v"))
        .cloned()
        .unwrap_or_default()
}

/// Writes and reads until told to stop.
async fn write(
    maps: Api<ConfigMap>,
    seed: u64,
    number: usize,
    mut rng: Rng,
    clock: Clock,
    (stop_rx, done_tx): (watch::Receiver<bool>, watch::Sender<u64>),
) -> Vec<Operation> {
    // What this client believes of each object.
    let mut believed: BTreeMap<u64, ConfigMap> = BTreeMap::new();
    let mut operations = Vec::new();
    while !*stop_rx.borrow() {
        let key = rng.u64(0..KEYS);
        let name = name(seed, key);
        let fresh = format!("{seed}-{number}-{}", operations.len());
        let known = believed
            .get(&key)
            .and_then(|map| map.resource_version()?.parse::<u64>().ok());
        let action = match (known, rng.u8(0..10)) {
            (_, 0..=3) => Action::Read,
            (Some(revision), 4) => Action::Delete(revision),
            (Some(revision), _) => Action::Update(revision, fresh.clone()),
            (None, _) => Action::Create(fresh.clone()),
        };
        let began = clock.tick();
        let answer = timeout(ANSWER, async {
            match &action {
                Action::Read => maps.get(&name).await.map(Some),
                Action::Create(value) => maps
                    .create(&PostParams::default(), &map(seed, key, value))
                    .await
                    .map(Some),
                Action::Update(revision, value) => {
                    let mut changed = map(seed, key, value);
                    changed.metadata.resource_version = Some(revision.to_string());
                    maps.replace(&name, &PostParams::default(), &changed).await.map(Some)
                }
                Action::Delete(revision) => {
                    let only = DeleteParams {
                        preconditions: Some(Preconditions {
                            resource_version: Some(revision.to_string()),
                            uid: None,
                        }),
                        ..DeleteParams::default()
                    };
                    maps.delete(&name, &only).await.map(|_| None)
                }
            }
        })
        .await;
        let outcome = match answer {
            Ok(Ok(Some(map))) => {
                let revision = map
                    .resource_version()
                    .and_then(|text| text.parse().ok())
                    .unwrap_or_default();
                let outcome = Outcome::Done(revision, value(&map));
                believed.insert(key, map);
                outcome
            }
            Ok(Ok(None)) => {
                believed.remove(&key);
                Outcome::Done(0, String::new())
            }
            Ok(Err(kube::Error::Api(status))) if status.code == 404 => {
                believed.remove(&key);
                Outcome::Absent
            }
            Ok(Err(kube::Error::Api(status))) if status.code == 409 => {
                believed.remove(&key);
                Outcome::Refused
            }
            // The server is away, or went away in the middle.
            Ok(Err(_)) | Err(_) => {
                believed.remove(&key);
                sleep(Duration::from_millis(20)).await;
                Outcome::Unknown
            }
        };
        if matches!(outcome, Outcome::Done(..)) {
            done_tx.send_modify(|done| *done += 1);
        }
        operations.push(Operation {
            began,
            ended: clock.tick(),
            key: name,
            action,
            outcome,
        });
    }
    operations
}

/// Watches from `start` until it has seen the last change, beginning anew where it was whenever the watch breaks off.
async fn look(
    maps: Api<ConfigMap>,
    selector: String,
    start: String,
    last_rx: watch::Receiver<u64>,
) -> anyhow::Result<Vec<Seen>> {
    let params = WatchParams::default().labels(&selector).timeout(60);
    let (mut from, mut seen) = (start, Vec::new());
    let begun = Instant::now();
    loop {
        ensure!(
            begun.elapsed() < PATIENCE,
            "the last change never came; seen last: {:?}",
            seen.last()
        );
        let last = *last_rx.borrow();
        if last != 0 && seen.last().is_some_and(|event: &Seen| event.revision >= last) {
            return Ok(seen);
        }
        let Ok(stream) = maps.watch(&params, &from).await else {
            sleep(Duration::from_millis(20)).await;
            continue;
        };
        let mut stream = std::pin::pin!(stream);
        loop {
            // Now and then it looks whether that was all.
            let event = match timeout(Duration::from_millis(200), stream.try_next()).await {
                Ok(Ok(Some(event))) => event,
                Ok(_) => break,
                Err(_) => {
                    let last = *last_rx.borrow();
                    if last != 0 && seen.last().is_some_and(|event: &Seen| event.revision >= last) {
                        return Ok(seen);
                    }
                    continue;
                }
            };
            let (map, gone) = match event {
                WatchEvent::Added(map) | WatchEvent::Modified(map) => (map, false),
                WatchEvent::Deleted(map) => (map, true),
                WatchEvent::Bookmark(mark) => {
                    from = mark.metadata.resource_version;
                    continue;
                }
                WatchEvent::Error(status) => anyhow::bail!("the watch can't go on: {status:?}"),
            };
            from = map.resource_version().context("an event without a revision")?;
            seen.push(Seen {
                revision: from.parse()?,
                key: map.name_any(),
                value: (!gone).then(|| value(&map)),
            });
        }
    }
}
