//! The agent as a node of a control plane: pods that come from it, and what it is told of them.

use anyhow::{Context, ensure};
use bosun_testkit::{
    Node, Options, PATIENCE, Pod, Server, eventually,
    manifest::{idle, pod, shell},
};
use serde_json::{Value, json};

/// A server with what its controllers would make, and a node of it.
async fn cluster() -> anyhow::Result<(Server, Node)> {
    let server = Server::start().await?;
    eventually(PATIENCE, "a service account", async || {
        server.kubectl(["create", "serviceaccount", "default"]).await
    })
    .await;
    let node = Node::of(&server, Options::default()).await?;
    Ok((server, node))
}

/// A pod of this node, without the token of an account.
fn bound(name: &str) -> Pod {
    pod(name)
        .set("/spec/nodeName", "n1".into())
        .set("/spec/automountServiceAccountToken", false.into())
}

async fn create(server: &Server, pod: &Pod) -> anyhow::Result<()> {
    let file = server.file(&format!("{}.json", pod.name()), &pod.text())?;
    server
        .kubectl(["create", "-f", &file.to_string_lossy()])
        .await
        .map(drop)
}

async fn get(server: &Server, what: &[&str]) -> anyhow::Result<Value> {
    let text = server.kubectl([&["get", "-o", "json"], what].concat()).await?;
    Ok(serde_json::from_str(&text)?)
}

/// Waits until the control plane has a pod as `check` wants it.
async fn until<T>(server: &Server, pod: &str, what: &str, check: impl Fn(&Value) -> anyhow::Result<T>) -> T {
    eventually(PATIENCE, &format!("pod {pod}: {what}"), async || {
        let found = get(server, &["pod", pod]).await?;
        check(&found).with_context(|| format!("{:#}", found["status"]))
    })
    .await
}

fn condition<'a>(object: &'a Value, kind: &str) -> &'a Value {
    let mut conditions = object["status"]["conditions"].as_array().into_iter().flatten();
    conditions
        .find(|condition| condition["type"] == kind)
        .unwrap_or(&Value::Null)
}

fn is_ready(pod: &Value) -> anyhow::Result<()> {
    ensure!(condition(pod, "Ready")["status"] == "True", "not ready");
    Ok(())
}

async fn is_gone(server: &Server, pod: &str) {
    eventually(PATIENCE, "the pod's object is gone", async || {
        let left = server.kubectl(["get", "pods", pod, "--ignore-not-found"]).await?;
        ensure!(left.is_empty(), "{left}");
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn a_node_registers_runs_a_pod_and_removes_it_when_it_is_deleted() -> anyhow::Result<()> {
    let (server, node) = cluster().await?;
    let object = eventually(PATIENCE, "the node is ready", async || {
        let object = get(&server, &["node", "n1"]).await?;
        ensure!(
            condition(&object, "Ready")["status"] == "True",
            "{:#}",
            object["status"]
        );
        Ok(object)
    })
    .await;
    ensure!(
        object["metadata"]["labels"]["kubernetes.io/hostname"] == "n1",
        "{object:#}"
    );
    let status = &object["status"];
    ensure!(status["capacity"]["pods"] == "110", "{status:#}");
    ensure!(
        status["nodeInfo"]["kubeletVersion"]
            .as_str()
            .is_some_and(|version| version.starts_with("v1.36."))
    );
    let lease = eventually(PATIENCE, "the node's lease", async || {
        get(&server, &["lease", "n1", "-n", "kube-node-lease"]).await
    })
    .await;
    ensure!(lease["spec"]["holderIdentity"] == "n1", "{lease:#}");
    ensure!(
        lease["metadata"]["ownerReferences"][0]["uid"] == object["metadata"]["uid"],
        "{lease:#}"
    );

    create(&server, &bound("a").with(idle("main"))).await?;
    let ready = until(&server, "a", "ready", |pod| is_ready(pod).map(|()| pod.clone())).await;
    let status = &ready["status"];
    ensure!(status["phase"] == "Running", "{status:#}");
    ensure!(
        status["podIP"].as_str().is_some_and(|ip| ip.starts_with("10.88.0.")),
        "{status:#}"
    );
    ensure!(
        status["containerStatuses"][0]["containerID"]
            .as_str()
            .is_some_and(|id| id.starts_with("containerd://"))
    );

    server.kubectl(["delete", "pod", "a", "--wait=false"]).await?;
    is_gone(&server, "a").await;
    node.finish().await
}

#[tokio::test]
async fn a_deleted_pod_has_its_grace_and_tells_how_it_ended() -> anyhow::Result<()> {
    let (server, node) = cluster().await?;
    let slow = shell(
        "main",
        "trap 'sleep 1; exit 7' TERM; while :; do sleep 3600 & wait; done",
    );
    // A finalizer keeps the object for us to look at.
    let manifest = bound("a")
        .grace(30)
        .set("/metadata/finalizers", json!(["example.com/look"]))
        .with(slow);
    create(&server, &manifest).await?;
    until(&server, "a", "ready", is_ready).await;
    server.kubectl(["delete", "pod", "a", "--wait=false"]).await?;
    until(&server, "a", "ended", |pod| {
        let ended = &pod["status"]["containerStatuses"][0]["state"]["terminated"];
        ensure!(ended["exitCode"] == 7, "{ended}");
        ensure!(pod["status"]["phase"] == "Failed" && condition(pod, "Ready")["status"] == "False");
        Ok(())
    })
    .await;
    let patch = json!({"metadata": {"finalizers": null}}).to_string();
    server
        .kubectl(["patch", "pod", "a", "--type=merge", "-p", &patch])
        .await?;
    is_gone(&server, "a").await;
    node.finish().await
}

#[tokio::test]
async fn a_restart_of_the_agent_disturbs_no_pod_and_flips_none() -> anyhow::Result<()> {
    let (server, mut node) = cluster().await?;
    let probed = idle("main").set(
        "/readinessProbe",
        json!({"exec": {"command": ["true"]}, "periodSeconds": 1}),
    );
    create(&server, &bound("a").with(probed)).await?;
    let before = until(&server, "a", "ready", |pod| is_ready(pod).map(|()| pod.clone())).await;
    node.restart_agent().await?;
    // It is at work again: a pod made after the restart becomes ready.
    create(&server, &bound("b").with(idle("main"))).await?;
    until(&server, "b", "ready", is_ready).await;
    let after = get(&server, &["pod", "a"]).await?;
    let container = |pod: &Value| pod["status"]["containerStatuses"][0]["containerID"].clone();
    ensure!(container(&before) == container(&after), "another container: {after:#}");
    // Had it been unready in between, this would be another time.
    ensure!(
        condition(&before, "Ready") == condition(&after, "Ready"),
        "{:#}",
        after["status"]
    );
    for pod in ["a", "b"] {
        server.kubectl(["delete", "pod", pod, "--wait=false"]).await?;
        is_gone(&server, pod).await;
    }
    node.finish().await
}

#[tokio::test]
async fn pods_go_on_while_the_control_plane_is_away_and_are_told_of_when_it_is_back() -> anyhow::Result<()> {
    let (server, mut node) = cluster().await?;
    let mortal = shell(
        "main",
        "trap 'exit 0' TERM; while [ ! -e /tmp/end ]; do sleep 0.1; done; exit 3",
    );
    create(&server, &bound("a").with(mortal)).await?;
    let id = until(&server, "a", "ready", |pod| {
        is_ready(pod)?;
        let id = pod["status"]["containerStatuses"][0]["containerID"].as_str();
        Ok(id.context("no id")?.trim_start_matches("containerd://").to_owned())
    })
    .await;
    create(&server, &bound("b").with(idle("main"))).await?;
    until(&server, "b", "ready", is_ready).await;
    node.cut_off();
    node.exec(&id, &["touch", "/tmp/end"]).await?;
    server.kubectl(["delete", "pod", "b", "--wait=false"]).await?;
    node.until("a", "started again", |view| {
        let main = view.container("main")?;
        ensure!(main.restarts() == 1, "{} restarts", main.restarts());
        Ok(())
    })
    .await;
    node.reach(&server)?;
    until(&server, "a", "its restart is known", |pod| {
        let main = &pod["status"]["containerStatuses"][0];
        ensure!(
            main["restartCount"] == 1 && main["lastState"]["terminated"]["exitCode"] == 3,
            "{main:#}"
        );
        is_ready(pod)
    })
    .await;
    is_gone(&server, "b").await;
    server.kubectl(["delete", "pod", "a", "--wait=false"]).await?;
    is_gone(&server, "a").await;
    node.finish().await
}
