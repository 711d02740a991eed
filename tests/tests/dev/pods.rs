//! Pods on a cluster of several nodes, while the programs around them are killed.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, ensure};
use bosun_testkit::{Cluster, DEMO_IMAGE, PATIENCE, eventually};
use fastrand::Rng;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};

/// Kills in a run of CI, and in a soak.
const SEEDS: u64 = 30;
const SOAK_SEEDS: u64 = 300;

const NODES: u8 = 3;

/// A pod that answers by HTTP, on a node.
fn web(node: u8) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": format!("web-{node}"), "labels": {"app": "web"}},
        "spec": {
            "nodeName": format!("node-{node}"),
            "automountServiceAccountToken": false,
            "terminationGracePeriodSeconds": 1,
            "containers": [{
                "name": "web",
                "image": DEMO_IMAGE,
                "imagePullPolicy": "Never",
                "command": ["sh", "-c", format!("echo web-{node} >/www/index.html; exec httpd -f -p 8080 -h /www")],
                "readinessProbe": {"httpGet": {"path": "/", "port": 8080}, "periodSeconds": 1},
            }],
        },
    })
}

/// What the API says of each pod: its address and its container's id, of one that is ready.
async fn ready(cluster: &Cluster) -> anyhow::Result<BTreeMap<String, (String, String)>> {
    let text = cluster
        .kubectl(["get", "pods", "--selector", "app=web", "--output", "json"])
        .await?;
    let list: Value = serde_json::from_str(&text)?;
    let mut found = BTreeMap::new();
    for pod in list["items"].as_array().context("items")? {
        let name = pod["metadata"]["name"].as_str().context("a name")?;
        let status = &pod["status"];
        let container = &status["containerStatuses"][0];
        ensure!(
            container["ready"] == true && container["restartCount"] == 0,
            "{name}: {status:#}"
        );
        let text = |value: &Value| {
            value
                .as_str()
                .map(str::to_owned)
                .with_context(|| format!("{name}: {status:#}"))
        };
        found.insert(
            name.to_owned(),
            (text(&status["podIP"])?, text(&container["containerID"])?),
        );
    }
    ensure!(found.len() == usize::from(NODES), "{found:?}");
    Ok(found)
}

async fn with_pods() -> anyhow::Result<Cluster> {
    let cluster = Cluster::start(NODES).await?;
    for node in 1..=NODES {
        let file = cluster.file(&format!("web-{node}.json"), &web(node).to_string())?;
        cluster
            .kubectl(["create", "--filename", &file.to_string_lossy()])
            .await?;
    }
    eventually(PATIENCE, "the pods are ready", async || ready(&cluster).await).await;
    Ok(cluster)
}

#[tokio::test]
async fn pods_of_different_nodes_and_this_machine_reach_each_other() -> anyhow::Result<()> {
    let cluster = with_pods().await?;
    let pods = ready(&cluster).await?;
    let status = cluster.status().await?;
    let ranges: BTreeSet<_> = status.nodes.iter().flat_map(|node| &node.pod_cidrs).collect();
    ensure!(ranges.len() == usize::from(NODES), "{ranges:?}");
    for (name, (address, _)) in &pods {
        let url = format!("http://{address}:8080/");
        let asked = bosun_testkit::programs::run("busybox".as_ref(), ["timeout", "5", "busybox", "wget", "-qO-", &url]);
        ensure!(asked.await?.trim() == name, "this machine asks {name}");
        for (other, (_, container)) in &pods {
            let number: u8 = other.trim_start_matches("web-").parse()?;
            let node = cluster.node(number);
            let tasks = node.tasks().await?;
            let pid = tasks[container.trim_start_matches("containerd://")];
            let netns = bosun_testkit::netns::Netns::open(format!("/proc/{pid}/ns/net").as_ref())?;
            let answer = netns.http_get(address.parse()?, 8080, "/")?;
            ensure!(answer.trim() == name, "{other} asks {name}: {answer}");
        }
    }
    cluster.finish().await
}

#[tokio::test]
async fn whatever_is_killed_containers_run_on_with_their_ids() -> anyhow::Result<()> {
    let cluster = with_pods().await?;
    let pods = ready(&cluster).await?;
    let mut before = Vec::new();
    for number in 1..=NODES {
        before.push(cluster.node(number).tasks().await?);
    }
    let soak = std::env::var_os("BOSUN_SOAK").is_some();
    for seed in 0..if soak { SOAK_SEEDS } else { SEEDS } {
        let mut rng = Rng::with_seed(seed);
        let view = cluster.status().await?;
        let mut victims = vec![view.server.pid];
        victims.extend(
            view.nodes
                .iter()
                .flat_map(|node| [node.pids.agent, node.pids.containerd]),
        );
        rng.shuffle(&mut victims);
        victims.truncate(rng.usize(1..=3));
        eprintln!("seed {seed}: {victims:?}");
        for pid in &victims {
            kill(
                Pid::from_raw(pid.with_context(|| format!("it does not run: {view:#?}"))?),
                Signal::SIGKILL,
            )?;
        }
        cluster.up().await.with_context(|| format!("seed {seed}"))?;
        eventually(PATIENCE, "everything runs again", async || {
            let now = cluster.status().await?;
            let runs = |node: &bosun_testkit::cluster::NodeView| {
                node.ready == Some(true) && node.pids.agent.is_some() && node.pids.containerd.is_some()
            };
            ensure!(now.server.ready && now.nodes.iter().all(runs), "{now:#?}");
            let found = ready(&cluster).await?;
            ensure!(found == pods, "{found:?}\nbefore: {pods:?}");
            for (number, before) in (1..=NODES).zip(&before) {
                let tasks = cluster.node(number).tasks().await?;
                ensure!(tasks == *before, "node-{number}: {tasks:?}\nbefore: {before:?}");
            }
            Ok(())
        })
        .await;
    }
    cluster.finish().await
}
