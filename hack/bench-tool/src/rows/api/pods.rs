//! The server with 10,000 pods: their list, its start, its memory.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Method;
use serde_json::{Value, json};
use tokio::{task::JoinSet, time::sleep};

use super::{NAMESPACE, body, make_namespace, server::Server};
use crate::{
    report::{Bar, Row, Series},
    rows::progress,
    stats::median,
};

const PODS: usize = 10_000;
const WRITERS: usize = 32;
/// Lists one after another, and starts.
const LISTS: usize = 12;
const STARTS: usize = 5;
/// What the last requests may still hold.
const SETTLE: Duration = Duration::from_secs(12);

pub(in crate::rows) async fn take(row: &mut Row) -> anyhow::Result<()> {
    let mut server = Server::start().await?;
    sleep(SETTLE).await;
    row.figure("resident, idle", server.resident()?, "MiB", Some(Bar::AtMost(40.0)));
    let mut client = server.client().await?;
    make_namespace(&mut client).await?;
    let account = json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": "default" } });
    let accounts = format!("/api/v1/namespaces/{NAMESPACE}/serviceaccounts");
    client.expect(Method::POST, &accounts, body(&account)).await?;
    fill(&server).await?;
    sleep(SETTLE).await;
    let held = server.resident()?;

    let path = format!("/api/v1/namespaces/{NAMESPACE}/pods");
    let mut rates = Vec::new();
    for _ in 0..LISTS {
        let begun = Instant::now();
        let bytes = client.expect(Method::GET, &path, Bytes::new()).await?;
        rates.push(bytes as f64 / 1e6 / begun.elapsed().as_secs_f64());
    }
    row.figure(
        "list of 10,000 pods over TLS",
        median(&rates),
        "MB/s",
        Some(Bar::AtLeast(200.0)),
    );

    let mut starts = Vec::new();
    for _ in 0..STARTS {
        starts.push(server.restart().await?.as_secs_f64() * 1e3);
    }
    row.figure(
        "start on 10,000 pods, to /readyz",
        median(&starts),
        "ms",
        Some(Bar::AtMost(1000.0)),
    );
    row.figure("resident, with 10,000 pods", held, "MiB", Some(Bar::AtMost(120.0)));
    sleep(SETTLE).await;
    row.figure("  after a start with them", server.resident()?, "MiB", None);
    row.panel(
        "list over TLS",
        "MB/s",
        Some(200.0),
        vec![Series::new("10,000 pods", rates)],
    );
    row.panel("start", "ms", Some(1000.0), vec![Series::new("10,000 pods", starts)]);
    Ok(())
}

async fn fill(server: &Server) -> anyhow::Result<()> {
    let access = server.access()?;
    let mut tasks: JoinSet<anyhow::Result<()>> = JoinSet::new();
    for writer in 0..WRITERS {
        let mut client = access.connect().await?;
        tasks.spawn(async move {
            let path = format!("/api/v1/namespaces/{NAMESPACE}/pods");
            for number in (writer..PODS).step_by(WRITERS) {
                client.expect(Method::POST, &path, body(&pod(number))).await?;
            }
            Ok(())
        });
    }
    let mut done = 0;
    while let Some(task) = tasks.join_next().await {
        task??;
        done += 1;
        if done % 8 == 0 {
            progress(PODS * done / WRITERS, PODS, "pods made");
        }
    }
    Ok(())
}

/// A pod of about 3 KiB once it is stored, as a Deployment would make it.
fn pod(number: usize) -> Value {
    let variables: Vec<_> = (0..12)
        .map(|at| json!({ "name": format!("SETTING_{at}"), "value": format!("a value of some length, number {at}") }))
        .collect();
    let probe = json!({ "httpGet": { "path": "/healthz", "port": 8080 }, "periodSeconds": 10 });
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": format!("web-7d9c5b8f64-{number:05}"),
            "labels": { "app": "web", "pod-template-hash": "7d9c5b8f64", "part": (number % 10).to_string() },
            "annotations": { "example.com/config-hash": "f2ca1bb6c7e907d06dafe4687e579fce76b37e4e93b7605022da52e6ccc26fd2" },
        },
        "spec": {
            "nodeName": format!("node-{}", number % 100),
            "containers": [{
                "name": "web", "image": "registry.example.com/team/web:1.27.3",
                "ports": [{ "name": "http", "containerPort": 8080 }],
                "env": variables,
                "resources": { "requests": { "cpu": "100m", "memory": "128Mi" }, "limits": { "memory": "256Mi" } },
                "readinessProbe": probe, "livenessProbe": probe,
                "volumeMounts": [{ "name": "config", "mountPath": "/etc/web" }],
            }],
            "volumes": [{ "name": "config", "configMap": { "name": "web" } }],
        },
    })
}
