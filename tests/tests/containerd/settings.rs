//! What a manifest says of a container's environment, command and user arrives in it.

use anyhow::ensure;
use bosun_testkit::{
    Node, PATIENCE, eventually,
    manifest::{container, idle, pod, shell},
};
use serde_json::json;

#[tokio::test]
async fn variables_are_expanded_in_environment_and_command() -> anyhow::Result<()> {
    let node = Node::start().await?;
    let main = container("main", &["/bin/sh", "-c"])
        .set(
            "/args",
            json!([
                "echo \"$0|$1|$2|$COMBINED|$ESCAPED\"; exec sleep 3600",
                "$(FIRST)",
                "$(UNKNOWN)",
                "$$(FIRST)"
            ]),
        )
        .env("FIRST", "one")
        .env("COMBINED", "$(FIRST)-two")
        .env("ESCAPED", "$$(FIRST)");
    node.apply(&pod("a").with(main))?;
    node.ready("a").await;
    let said = said(&node, "a").await;
    ensure!(said == "one|$(UNKNOWN)|$(FIRST)|one-two|$(FIRST)", "{said}");
    node.finish().await
}

#[tokio::test]
async fn a_container_learns_of_its_pod_and_its_resources() -> anyhow::Result<()> {
    let node = Node::start().await?;
    let field = |name: &str, path: &str| json!({ "name": name, "valueFrom": { "fieldRef": { "fieldPath": path } } });
    let limit = json!({ "name": "LIMIT", "valueFrom": { "resourceFieldRef": { "resource": "limits.memory" } } });
    let main = shell(
        "main",
        "echo \"$NAME|$NAMESPACE|$NODE|$IP|$APP|$LIMIT|$POD_UID\"; exec sleep 3600",
    )
    .set("/resources/limits/memory", json!("24Mi"))
    .set(
        "/env",
        json!([
            field("NAME", "metadata.name"),
            field("NAMESPACE", "metadata.namespace"),
            field("NODE", "spec.nodeName"),
            field("IP", "status.podIP"),
            field("APP", "metadata.labels['app']"),
            field("POD_UID", "metadata.uid"),
            limit,
        ]),
    );
    node.apply(&pod("a").set("/metadata/labels/app", json!("shop")).with(main))?;
    node.ready("a").await;
    let list = node.pods().await?;
    let view = list.pod("a")?;
    let said = said(&node, "a").await;
    ensure!(
        said == format!("a-n1|default|n1|{}|shop|{}|{}", view.ip()?, 24 << 20, view.uid()),
        "{said}"
    );
    node.finish().await
}

#[tokio::test]
async fn user_groups_folder_and_root_file_system_are_as_asked() -> anyhow::Result<()> {
    let node = Node::start().await?;
    let main = shell(
        "main",
        "echo \"$(id -u)|$(id -g)|$(pwd)|$(touch /x 2>/dev/null && echo writable)\"; exec sleep 3600",
    )
    .set("/workingDir", json!("/tmp"))
    .set(
        "/securityContext",
        json!({ "runAsUser": 1234, "runAsGroup": 2345, "readOnlyRootFilesystem": true }),
    );
    node.apply(&pod("a").with(main))?;
    node.ready("a").await;
    let said = said(&node, "a").await;
    ensure!(said == "1234|2345|/tmp|", "{said}");
    node.finish().await
}

#[tokio::test]
async fn containers_of_a_pod_may_share_their_processes() -> anyhow::Result<()> {
    let node = Node::start().await?;
    node.apply(
        &pod("a")
            .set("/spec/shareProcessNamespace", json!(true))
            .with(idle("one"))
            .with(idle("two")),
    )?;
    node.apply(&pod("b").with(idle("one")))?;
    let shared = node.ready("a").await.remove(0);
    let alone = node.ready("b").await.remove(0);
    let first = node.exec(&shared, &["cat", "/proc/1/comm"]).await?;
    ensure!(first.contains("pause"), "process 1 is {first}");
    let first = node.exec(&alone, &["cat", "/proc/1/comm"]).await?;
    ensure!(first.trim() == "sh", "process 1 is {first}");
    node.finish().await
}

/// The first line a pod's container wrote.
async fn said(node: &Node, pod: &str) -> String {
    eventually(PATIENCE, "the container speaks", async || {
        let logs = node.logs(pod, "main")?;
        logs.first().cloned().ok_or_else(|| anyhow::anyhow!("nothing yet"))
    })
    .await
}
