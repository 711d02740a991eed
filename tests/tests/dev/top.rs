//! What is consumed, as people ask for it: no other program is needed.

use anyhow::{Context, ensure};
use bosun_testkit::{Cluster, DEMO_IMAGE, PATIENCE, eventually};
use serde_json::json;

/// The rows of a table without its head, in words.
async fn rows(cluster: &Cluster, args: &[&str]) -> anyhow::Result<Vec<Vec<String>>> {
    let text = cluster.kubectl(args.iter().copied()).await?;
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect();
    Ok(text.lines().map(words).collect())
}

/// The number before a unit.
fn amount(row: &[String], at: usize, unit: &str) -> anyhow::Result<u64> {
    let cell = row.get(at).with_context(|| format!("{row:?}"))?;
    let number = cell.strip_suffix(unit).with_context(|| format!("{row:?}"))?;
    Ok(number.parse()?)
}

#[tokio::test]
async fn kubectl_top_shows_what_nodes_and_containers_consume() -> anyhow::Result<()> {
    let cluster = Cluster::start(1).await?;
    let container = |name: &str, command: &str| json!({"name": name, "image": DEMO_IMAGE, "imagePullPolicy": "Never", "command": ["sh", "-c", command]});
    let pod = |name: &str, restart: &str, containers: &[serde_json::Value]| {
        json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name, "labels": {"app": name}},
            "spec": {
                "nodeName": "node-1", "restartPolicy": restart, "automountServiceAccountToken": false,
                "terminationGracePeriodSeconds": 1, "containers": containers,
            },
        })
    };
    let busy = [container("busy", "while :; do :; done"), container("idle", "sleep 1d")];
    for pod in [
        pod("two", "Always", &busy),
        pod("done", "Never", &[container("once", "true")]),
    ] {
        let name = pod["metadata"]["name"].as_str().context("a name")?;
        let file = cluster.file(&format!("{name}.json"), &pod.to_string())?;
        cluster
            .kubectl(["create", "--filename", &file.to_string_lossy()])
            .await?;
    }
    // A pod that has ended takes the numbers of no other away.
    for (name, phase) in [("two", "Running"), ("done", "Succeeded")] {
        eventually(PATIENCE, "the pods are where they should be", async || {
            let said = cluster
                .kubectl(["get", "pod", name, "--output", "jsonpath={.status.phase}"])
                .await?;
            ensure!(said == phase, "{name}: {said}");
            Ok(())
        })
        .await;
    }
    eventually(PATIENCE, "the containers have numbers", async || {
        let rows = rows(&cluster, &["top", "pods", "--containers", "--no-headers"]).await?;
        let names: Vec<_> = rows.iter().map(|row| row[..2].join("/")).collect();
        ensure!(names == ["two/busy", "two/idle"], "{rows:?}");
        ensure!(amount(&rows[0], 2, "m")? > 0, "{rows:?}");
        amount(&rows[1], 2, "m")?;
        Ok(())
    })
    .await;
    let nodes = rows(&cluster, &["top", "nodes", "--no-headers"]).await?;
    ensure!(nodes.len() == 1 && nodes[0][0] == "node-1", "{nodes:?}");
    ensure!(
        amount(&nodes[0], 1, "m")? > 0 && amount(&nodes[0], 3, "Mi")? > 0,
        "{nodes:?}"
    );
    let selected = rows(&cluster, &["top", "pods", "-A", "-l", "app=two", "--no-headers"]).await?;
    ensure!(selected.len() == 1 && selected[0][1] == "two", "{selected:?}");
    let table = cluster.kubectl(["get", "podmetrics.metrics.k8s.io"]).await;
    ensure!(
        table
            .as_ref()
            .is_ok_and(|text| text.starts_with("NAME") && text.contains("two")),
        "{table:?}"
    );
    cluster.finish().await
}
