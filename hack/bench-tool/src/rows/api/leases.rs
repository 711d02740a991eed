//! What the store keeps of 100,000 updates of 100 leases.

use std::time::Duration;

use http::Method;
use serde_json::{Value, json};
use tokio::{task::JoinSet, time::sleep};

use super::{body, make_namespace, server::Server};
use crate::{
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
    let mut tasks: JoinSet<anyhow::Result<u64>> = JoinSet::new();
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
            let mut live = 0;
            for update in 1..=UPDATES {
                for lease in &mine {
                    let path = format!("{collection}/lease-{lease}");
                    let length = client
                        .expect(Method::PATCH, &path, body(&object(*lease, update)))
                        .await?;
                    live += if update == UPDATES { length } else { 0 };
                }
            }
            Ok(live)
        });
    }
    let mut live = 0;
    let mut done = 0;
    while let Some(task) = tasks.join_next().await {
        live += task??;
        done += 1;
        if done % 5 == 0 {
            progress(LEASES * UPDATES * done / WRITERS, LEASES * UPDATES, "updates");
        }
    }
    // Everything else that a new server stores counts as live, too.
    let list: Value = server
        .client()
        .await?
        .get("/apis/rbac.authorization.k8s.io/v1/clusterroles")
        .await?;
    live += list.to_string().len() as u64;
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

fn object(lease: usize, update: usize) -> Value {
    json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": { "name": format!("lease-{lease}") },
        "spec": {
            "holderIdentity": format!("node-{lease}"), "leaseDurationSeconds": 40,
            "renewTime": format!("2026-01-01T{:02}:{:02}:00.000000Z", update / 60 % 24, update % 60),
        },
    })
}
