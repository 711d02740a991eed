//! What the store keeps of 100,000 updates of 100 leases.

use std::time::Duration;

use http::Method;
use serde_json::{Value, json};
use tokio::{task::JoinSet, time::sleep};

use super::{body, make_namespace, server::Server};
use crate::{
    api::Client,
    report::{Bar, Row, Series},
    rows::{api::NAMESPACE, progress},
};

const LEASES: usize = 100;
const UPDATES: usize = 1000;
const WRITERS: usize = 20;
/// The past is kept for a while, for watches that begin anew.
const SETTLE: Duration = Duration::from_secs(40);

pub(in crate::rows) async fn take(row: &mut Row) -> anyhow::Result<()> {
    let server = Server::start().await?;
    make_namespace(&mut server.client().await?).await?;
    let access = server.access()?;
    let mut tasks: JoinSet<anyhow::Result<()>> = JoinSet::new();
    for writer in 0..WRITERS {
        let mut client = access.connect().await?;
        tasks.spawn(async move {
            let collection = format!("/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases");
            let mine: Vec<_> = (writer..LEASES).step_by(WRITERS).collect();
            for lease in &mine {
                client
                    .expect(Method::POST, &collection, body(&object(*lease, 0)))
                    .await?;
            }
            for update in 1..=UPDATES {
                for lease in &mine {
                    let path = format!("{collection}/lease-{lease}");
                    client
                        .expect(Method::PATCH, &path, body(&object(*lease, update)))
                        .await?;
                }
            }
            Ok(())
        });
    }
    let mut done = 0;
    while let Some(task) = tasks.join_next().await {
        task??;
        done += 1;
        if done % 5 == 0 {
            progress(LEASES * UPDATES * done / WRITERS, LEASES * UPDATES, "updates");
        }
    }
    let live = live(&mut server.client().await?).await?;
    let at_once = server.stored()?;
    sleep(SETTLE).await;
    let stored = server.stored()?;
    row.figure("stored at once", at_once as f64 / 1024.0, "KiB", None);
    row.figure("live data", live as f64 / 1024.0, "KiB", None);
    row.figure(
        "stored after 100,000 updates of 100 leases",
        stored as f64 / 1024.0,
        "KiB",
        None,
    );
    row.figure(
        "stored over live",
        stored as f64 / live as f64,
        "×",
        Some(Bar::AtMost(3.0)),
    );
    row.panel(
        "the store",
        "KiB",
        None,
        vec![
            Series::new("live", vec![live as f64 / 1024.0]),
            Series::new("stored", vec![stored as f64 / 1024.0]),
        ],
    );
    Ok(())
}

/// What all objects that there are weigh as JSON: those that a new server makes for itself, and the leases.
async fn live(client: &mut Client) -> anyhow::Result<u64> {
    let mut versions = vec![("/api/v1".to_owned(), client.get("/api/v1").await?)];
    let groups = client.get("/apis").await?;
    for group in groups["groups"].as_array().into_iter().flatten() {
        // What several versions show is stored once.
        if let Some(version) = group["preferredVersion"]["groupVersion"].as_str() {
            let path = format!("/apis/{version}");
            let resources = client.get(&path).await?;
            versions.push((path, resources));
        }
    }
    let mut live = 0;
    for (path, resources) in versions {
        for resource in resources["resources"].as_array().into_iter().flatten() {
            let listed = resource["verbs"]
                .as_array()
                .is_some_and(|verbs| verbs.iter().any(|verb| verb == "list"));
            let (true, Some(name)) = (listed, resource["name"].as_str()) else {
                continue;
            };
            let list = client.get(&format!("{path}/{name}")).await?;
            let items = list["items"].as_array().into_iter().flatten();
            live += items.map(|item| item.to_string().len() as u64).sum::<u64>();
        }
    }
    Ok(live)
}

fn object(lease: usize, update: usize) -> Value {
    json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": { "name": format!("lease-{lease}") },
        "spec": {
            "holderIdentity": format!("node-{lease}"), "leaseDurationSeconds": 40,
            "renewTime": format!("2026-01-01T{:02}:{:02}:00.000000Z", update / 60 % 24, update % 60),
        },
    })
}
