//! From a change to 10,000 watches of it: 100 connections with 100 streams each.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use bytes::Bytes;
use http::Method;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde_json::{Value, json};
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{sleep, timeout},
};

use super::{NAMESPACE, body, make_namespace, server::Server};
use crate::{
    report::{Bar, Row, Series},
    rows::progress,
    stats::{median, quantile},
};

const CONNECTIONS: usize = 100;
const STREAMS: usize = 100;
const CHANGES: usize = 12;
const DEADLINE: Duration = Duration::from_secs(30);

pub(in crate::rows) async fn take(row: &mut Row) -> anyhow::Result<()> {
    let server = Server::start().await?;
    let mut client = server.client().await?;
    make_namespace(&mut client).await?;
    let collection = format!("/api/v1/namespaces/{NAMESPACE}/configmaps");
    client.expect(Method::POST, &collection, body(&map(0))).await?;
    let list = client.get(&collection).await?;
    let revision = list.pointer("/metadata/resourceVersion").and_then(Value::as_str);
    let revision = revision.context("a list without a revision")?;
    let before = server.resident()?;

    let (arrived_tx, mut arrived_rx) = mpsc::unbounded_channel();
    let arrived_tx = Arc::new(arrived_tx);
    let mut watchers = JoinSet::new();
    let access = server.access()?;
    for connection in 0..CONNECTIONS {
        let client = access.connect().await?;
        for _ in 0..STREAMS {
            let mut client = client.clone();
            let path = format!("{collection}?watch=true&resourceVersion={revision}&timeoutSeconds=600");
            let answer = client.send(Method::GET, &path, Bytes::new()).await?;
            let arrived_tx = arrived_tx.clone();
            watchers.spawn(async move {
                let _client = client;
                follow(answer.into_body(), &arrived_tx).await
            });
        }
        if (connection + 1) % 25 == 0 {
            progress((connection + 1) * STREAMS, CONNECTIONS * STREAMS, "watches");
        }
    }
    let with_watches = server.resident()?;

    let (mut medians, mut lasts, mut all) = (Vec::new(), Vec::new(), Vec::new());
    for change in 1..=CHANGES {
        sleep(Duration::from_millis(500)).await;
        let sent = Instant::now();
        client
            .expect(Method::PUT, &format!("{collection}/one"), body(&map(change)))
            .await?;
        let mut took = Vec::with_capacity(CONNECTIONS * STREAMS);
        while took.len() < CONNECTIONS * STREAMS {
            let at: Instant = timeout(DEADLINE, arrived_rx.recv())
                .await?
                .context("all watches ended")?;
            took.push(at.duration_since(sent).as_secs_f64() * 1e3);
        }
        if let Some(ended) = watchers.try_join_next() {
            bail!("a watch ended: {ended:?}");
        }
        medians.push(median(&took));
        lasts.push(quantile(&took, 1.0));
        all.append(&mut took);
        progress(change, CHANGES, "changes");
    }
    row.figure(
        "change to watch, median",
        median(&medians),
        "ms",
        Some(Bar::AtMost(200.0)),
    );
    row.figure("  99th percentile", quantile(&all, 0.99), "ms", None);
    row.figure("  the last watch, median of changes", median(&lasts), "ms", None);
    row.figure("resident, without watches", before, "MiB", None);
    row.figure("  with 10,000", with_watches, "MiB", None);
    row.panel(
        "from the change to the watch",
        "ms",
        Some(200.0),
        vec![Series::new("half of them", medians), Series::new("all of them", lasts)],
    );
    Ok(())
}

fn map(number: usize) -> Value {
    json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "one" },
        "data": { "number": number.to_string(), "text": "x".repeat(1024) },
    })
}

/// Tells when each event came: events end with their line.
async fn follow(mut body: Incoming, arrived_tx: &mpsc::UnboundedSender<Instant>) -> anyhow::Result<()> {
    while let Some(frame) = body.frame().await {
        let frame = frame?;
        let lines = frame.data_ref().into_iter().flatten().filter(|byte| **byte == b'\n');
        for _ in lines {
            if arrived_tx.send(Instant::now()).is_err() {
                return Ok(());
            }
        }
    }
    bail!("the server ended it")
}
