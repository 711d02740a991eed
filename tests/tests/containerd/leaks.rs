//! Many pods come and go; nothing of them stays.

use anyhow::ensure;
use bosun_testkit::{
    Footprint, Node, PATIENCE, eventually,
    manifest::{idle, pod, shell, web},
};
use serde_json::json;

#[tokio::test]
async fn pods_that_come_and_go_leave_nothing_not_even_a_descriptor() -> anyhow::Result<()> {
    let node = Node::start().await?;
    round(&node, 0).await?;
    node.clean().await;
    let warm = Footprint::of(&node).await?;
    for number in 1..4 {
        round(&node, number).await?;
    }
    eventually(PATIENCE, "as after the first round", async || {
        let now = Footprint::of(&node).await?;
        let leaks = now.grown_since(&warm);
        ensure!(leaks.is_empty(), "{leaks:#?}");
        ensure!(
            now.tasks <= warm.tasks,
            "the agent's threads grew from {} to {}",
            warm.tasks,
            now.tasks
        );
        Ok(())
    })
    .await;
    node.finish().await
}

/// Six pods of different kinds, from the file to nothing.
async fn round(node: &Node, number: u32) -> anyhow::Result<()> {
    let name = |kind: &str| format!("{kind}-{number}");
    let exec = json!({ "exec": { "command": ["true"] } });
    let http = json!({ "httpGet": { "path": "/", "port": 8080 } });
    let memory = json!({ "emptyDir": { "medium": "Memory" } });
    let pods = [
        pod(&name("probed"))
            .grace(0)
            .with(web("main", "x").probe("readiness", http).probe("liveness", exec)),
        pod(&name("volumes"))
            .grace(0)
            .volume("m", memory)
            .with(idle("main").mount("m", "/m")),
        pod(&name("two")).grace(0).with(idle("one")).with(idle("two")),
        pod(&name("host"))
            .grace(0)
            .set("/spec/hostNetwork", true.into())
            .with(idle("main")),
    ];
    let crashes = pod(&name("crashes")).grace(0).with(shell("main", "exit 1"));
    let absent = pod(&name("absent"))
        .grace(0)
        .with(idle("main").image("bosun.dev/none:1"));
    for pod in pods.iter().chain([&crashes, &absent]) {
        node.apply(pod)?;
    }
    for pod in &pods {
        node.ready(pod.name()).await;
    }
    node.until(crashes.name(), "has crashed", |view| {
        ensure!(view.container("main")?.restarts() >= 1, "not yet");
        Ok(())
    })
    .await;
    for pod in pods.iter().chain([&crashes, &absent]) {
        node.remove(pod.name())?;
    }
    for pod in pods.iter().chain([&crashes, &absent]) {
        node.gone(pod.name()).await;
    }
    Ok(())
}
