//! What differs between the releases of containerd is found out when it is started and connected to.
//!
//! `hack/containerd` fetches each once, from Debian.

use std::{path::PathBuf, time::Duration};

use anyhow::{Result, ensure};
use bosun_testkit::{
    Node, Options, PATIENCE, eventually,
    manifest::{pod, web},
    programs::{output, repository},
};
use nix::sys::signal::{Signal, kill};
use serde_json::json;
use tokio::process::Command;

const DOWNLOAD: Duration = Duration::from_mins(5);

#[tokio::test]
async fn a_pod_runs_on_containerd_1_6() -> Result<()> {
    a_pod_runs_on("bookworm", "1.6.").await
}

#[tokio::test]
async fn a_pod_runs_on_containerd_1_7() -> Result<()> {
    a_pod_runs_on("trixie", "1.7.").await
}

#[tokio::test]
async fn a_pod_runs_on_containerd_2() -> Result<()> {
    a_pod_runs_on("forky", "2.").await
}

async fn a_pod_runs_on(release: &str, version: &str) -> Result<()> {
    let options = Options {
        containerd: Some(containerd_of(release).await?),
        ..Options::default()
    };
    let mut node = Node::with(options).await?;
    let says = node.ctr(&["version"]).await?;
    let server = says.split("Server:").nth(1).unwrap_or_default();
    ensure!(
        server.contains(&format!("Version:  {version}")),
        "Debian {release} has another containerd: {says}"
    );

    let server = web("server", "hello").probe("readiness", json!({ "httpGet": { "path": "/", "port": 8080 } }));
    node.apply(&pod("web").with(server))?;
    let first = node.ready("web").await;

    kill(node.pid_of(&first[0]).await?, Signal::SIGKILL)?;
    let second = eventually(PATIENCE, "its exit is told and followed by another start", async || {
        let list = node.pods().await?;
        let pod = list.pod("web")?;
        let server = pod.container("server")?;
        ensure!(server.restarts() == 1 && pod.is_ready(), "{:?}", pod.whole().status);
        Ok(server.id().to_owned())
    })
    .await;
    ensure!(second != first[0], "{second} was started again");

    node.restart_agent().await?;
    ensure!(
        node.ready("web").await == [second.clone()],
        "a new agent did not take {second} over"
    );
    node.finish().await
}

async fn containerd_of(release: &str) -> Result<PathBuf> {
    let mut command = Command::new(repository().join("hack/containerd"));
    command.arg(release);
    let output = output(command, DOWNLOAD).await?;
    ensure!(
        output.status.success(),
        "hack/containerd {release}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8_lossy(&output.stdout).trim().into())
}
