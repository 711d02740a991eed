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

#[tokio::test]
async fn what_a_pod_uses_is_in_its_volumes_and_environment_and_changes_with_it() -> anyhow::Result<()> {
    let (server, node) = cluster().await?;
    let words = |line: &'static str| line.split_whitespace();
    for line in [
        "create configmap kube-root-ca.crt --from-literal=ca.crt=authority",
        "create configmap settings --from-literal=colour=red",
        "create secret generic door --from-literal=key=1234",
    ] {
        server.kubectl(words(line)).await?;
    }
    let reference = json!({"secretKeyRef": {"name": "door", "key": "key"}});
    let main = idle("main")
        .set("/env", json!([{"name": "KEY", "valueFrom": reference}]))
        .set("/envFrom", json!([{"configMapRef": {"name": "settings"}}]))
        .set(
            "/volumeMounts",
            json!([{"name": "settings", "mountPath": "/settings"}, {"name": "door", "mountPath": "/door"}]),
        );
    let manifest = bound("a")
        .set("/spec/automountServiceAccountToken", true.into())
        .volume("settings", json!({"configMap": {"name": "settings"}}))
        .volume("door", json!({"secret": {"secretName": "door", "defaultMode": 0o400}}))
        .with(main);
    create(&server, &manifest).await?;
    let id = until(&server, "a", "ready", |pod| {
        is_ready(pod)?;
        let id = pod["status"]["containerStatuses"][0]["containerID"].as_str();
        Ok(id.context("no id")?.trim_start_matches("containerd://").to_owned())
    })
    .await;
    let said = node.exec(&id, &["sh", "-c", "echo $KEY $colour"]).await?;
    ensure!(said == "1234 red\n", "{said}");
    let said = node.exec(&id, &["cat", "/settings/colour", "/door/key"]).await?;
    ensure!(said == "red1234", "{said}");
    let account = "/var/run/secrets/kubernetes.io/serviceaccount";
    let said = node
        .exec(
            &id,
            &[
                "sh",
                "-c",
                &format!("cd {account} && cat ca.crt namespace && wc -c <token"),
            ],
        )
        .await?;
    ensure!(said.starts_with("authoritydefault"), "{said}");
    let length: usize = said.trim_start_matches("authoritydefault").trim().parse()?;
    ensure!(length > 100, "a token of {length} bytes");
    let refused = node.exec(&id, &["touch", "/settings/mine"]).await;
    ensure!(refused.is_err(), "the volume can be written to");

    let patch = json!({"data": {"colour": "blue", "shape": "round"}}).to_string();
    server.kubectl(["patch", "configmap", "settings", "-p", &patch]).await?;
    eventually(PATIENCE, "the change is in the volume", async || {
        let said = node.exec(&id, &["sh", "-c", "cat /settings/*"]).await?;
        ensure!(said == "blueround", "{said}");
        Ok(())
    })
    .await;
    // The agent that comes after keeps it current, too.
    let mut node = node;
    node.restart_agent().await?;
    let patch = json!({"data": {"shape": null}}).to_string();
    server
        .kubectl(["patch", "configmap", "settings", "--type=merge", "-p", &patch])
        .await?;
    eventually(PATIENCE, "the second change is in the volume", async || {
        let said = node.exec(&id, &["sh", "-c", "cat /settings/*"]).await?;
        ensure!(said == "blue", "{said}");
        Ok(())
    })
    .await;
    server.kubectl(["delete", "pod", "a", "--wait=false"]).await?;
    is_gone(&server, "a").await;
    node.finish().await
}

#[tokio::test]
async fn a_pod_waits_for_what_is_missing_and_says_for_what() -> anyhow::Result<()> {
    let (server, node) = cluster().await?;
    let reference = json!({"secretKeyRef": {"name": "door", "key": "key"}});
    let unset = idle("main").set("/env", json!([{"name": "KEY", "valueFrom": reference}]));
    create(&server, &bound("env").with(unset)).await?;
    let mounted = idle("main").set("/volumeMounts", json!([{"name": "v", "mountPath": "/v"}]));
    let volume = bound("volume").volume("v", json!({"configMap": {"name": "settings"}}));
    create(&server, &volume.with(mounted)).await?;
    until(&server, "env", "waiting for its secret", |pod| {
        let waiting = &pod["status"]["containerStatuses"][0]["state"]["waiting"];
        ensure!(waiting["reason"] == "CreateContainerConfigError", "{waiting}");
        ensure!(waiting["message"] == "secret \"door\" not found", "{waiting}");
        Ok(())
    })
    .await;
    eventually(PATIENCE, "the event", async || {
        let events = get(&server, &["events", "--field-selector=involvedObject.name=volume"]).await?;
        let mut events = events["items"].as_array().into_iter().flatten();
        let found = events
            .find(|event| event["reason"] == "FailedMount")
            .context("no FailedMount")?;
        let expected = "MountVolume.SetUp failed for volume \"v\" : configmap \"settings\" not found";
        ensure!(found["message"] == expected && found["type"] == "Warning", "{found}");
        Ok(())
    })
    .await;
    server
        .kubectl(["create", "secret", "generic", "door", "--from-literal=key=1"])
        .await?;
    server
        .kubectl(["create", "configmap", "settings", "--from-literal=a=b"])
        .await?;
    for pod in ["env", "volume"] {
        until(&server, pod, "ready", is_ready).await;
        server.kubectl(["delete", "pod", pod, "--wait=false"]).await?;
        is_gone(&server, pod).await;
    }
    node.finish().await
}

#[tokio::test]
async fn a_static_pod_is_shown_by_a_mirror_that_is_made_again_and_never_run() -> anyhow::Result<()> {
    let (server, node) = cluster().await?;
    node.apply(&pod("web").with(idle("main")))?;
    let mirror = until(&server, "web-n1", "shown as it is", |pod| {
        let annotations = &pod["metadata"]["annotations"];
        ensure!(annotations["kubernetes.io/config.source"] == "file", "{annotations}");
        let hash = &annotations["kubernetes.io/config.hash"];
        ensure!(annotations["kubernetes.io/config.mirror"] == *hash, "{annotations}");
        ensure!(pod["metadata"]["ownerReferences"][0]["kind"] == "Node");
        is_ready(pod)?;
        Ok(pod.clone())
    })
    .await;
    let container = |pod: &Value| pod["status"]["containerStatuses"][0]["containerID"].clone();
    server.kubectl(["delete", "pod", "web-n1", "--wait=false"]).await?;
    until(&server, "web-n1", "shown again", |pod| {
        ensure!(pod["metadata"]["uid"] != mirror["metadata"]["uid"], "the same object");
        is_ready(pod)?;
        ensure!(container(pod) == container(&mirror), "another container runs");
        Ok(())
    })
    .await;
    ensure!(node.pods().await?.pods().count() == 1, "the mirror runs, too");
    node.remove("web")?;
    is_gone(&server, "web-n1").await;
    node.finish().await
}
