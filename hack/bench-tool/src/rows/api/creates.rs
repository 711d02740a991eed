//! Durable creates of a `ConfigMap` by many clients, and etcd's bare puts of as many bytes.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bosun_testkit::Etcd;
use etcd_client::Client;
use http::Method;
use serde_json::json;
use tokio::task::JoinSet;

use super::{NAMESPACE, body, make_namespace, server::Server};
use crate::{
    report::{Bar, Row, Series},
    rows::progress,
    stats::{median, quantile},
};

const CLIENTS: u64 = 64;
/// How long each turn lasts, and how many there are of each.
const TURN: Duration = Duration::from_secs(4);
const TURNS: usize = 4;
const BYTES: usize = 1024;

pub(in crate::rows) async fn take(row: &mut Row) -> anyhow::Result<()> {
    let server = Server::start().await?;
    let etcd = Etcd::start().await?;
    make_namespace(&mut server.client().await?).await?;
    let (mut ours, mut theirs, mut waits) = (Vec::new(), Vec::new(), Vec::new());
    for turn in 0..TURNS {
        let (rate, mut took) = creates(&server, turn).await?;
        ours.push(rate);
        waits.append(&mut took);
        theirs.push(puts(&etcd, turn).await?);
        progress(turn + 1, TURNS, "turns each");
    }
    row.figure("ConfigMaps of 1 KiB, 64 clients over TLS", median(&ours), "/s", None);
    row.figure("  90th percentile of a create", quantile(&waits, 0.9), "ms", None);
    row.figure("  99th percentile of a create", quantile(&waits, 0.99), "ms", None);
    row.figure("etcd, bare puts of 1 KiB by 64 clients", median(&theirs), "/s", None);
    let ratios: Vec<_> = ours.iter().zip(&theirs).map(|(ours, theirs)| ours / theirs).collect();
    row.figure("rate over etcd's", median(&ratios), "", Some(Bar::AtLeast(0.5)));
    row.figure("resident, after them", server.resident()?, "MiB", None);
    row.panel(
        "durable writes",
        "/s",
        None,
        vec![Series::new("bosun server", ours), Series::new("etcd, bare", theirs)],
    );
    Ok(())
}

/// Creates a second, and what each took in milliseconds.
async fn creates(server: &Server, turn: usize) -> anyhow::Result<(f64, Vec<f64>)> {
    let access = server.access()?;
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        clients.push(access.connect().await?);
    }
    let path = format!("/api/v1/namespaces/{NAMESPACE}/configmaps");
    let begun = Instant::now();
    let mut tasks: JoinSet<anyhow::Result<Vec<f64>>> = JoinSet::new();
    for (number, mut client) in clients.into_iter().enumerate() {
        let path = path.clone();
        tasks.spawn(async move {
            let mut took = Vec::new();
            while begun.elapsed() < TURN {
                let map = json!({
                    "apiVersion": "v1", "kind": "ConfigMap",
                    "metadata": { "name": format!("map-{turn}-{number}-{}", took.len()) },
                    "data": { "text": "x".repeat(BYTES) },
                });
                let sent = Instant::now();
                client.expect(Method::POST, &path, body(&map)).await?;
                took.push(sent.elapsed().as_secs_f64() * 1e3);
            }
            Ok(took)
        });
    }
    let mut all = Vec::new();
    while let Some(done) = tasks.join_next().await {
        all.append(&mut done??);
    }
    Ok((all.len() as f64 / begun.elapsed().as_secs_f64(), all))
}

/// Puts a second.
async fn puts(etcd: &Etcd, turn: usize) -> anyhow::Result<f64> {
    let done = Arc::new(AtomicU64::new(0));
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        clients.push(Client::connect([etcd.endpoint()], None).await?);
    }
    let begun = Instant::now();
    let mut tasks: JoinSet<anyhow::Result<()>> = JoinSet::new();
    for (number, mut client) in clients.into_iter().enumerate() {
        let done = done.clone();
        tasks.spawn(async move {
            let value = "x".repeat(BYTES);
            let mut count = 0;
            while begun.elapsed() < TURN {
                let key = format!("/bench/{turn}/{number}/{count}");
                client.put(key, value.as_str(), None).await?;
                count += 1;
                done.fetch_add(1, Ordering::Relaxed);
            }
            Ok(())
        });
    }
    while let Some(task) = tasks.join_next().await {
        task??;
    }
    Ok(done.load(Ordering::Relaxed) as f64 / begun.elapsed().as_secs_f64())
}
