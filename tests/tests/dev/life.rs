//! A cluster comes up, is repaired, grows, and goes without a trace.

use anyhow::{Context, ensure};
use bosun_testkit::{Cluster, ClusterOptions, PATIENCE, cluster::ClusterView, eventually};
use nix::{
    mount::{MntFlags, umount2},
    sys::signal::{Signal, kill},
    unistd::Pid,
};

fn server_only() -> ClusterOptions {
    ClusterOptions {
        nodes: 0,
        ..ClusterOptions::default()
    }
}

/// The process of everything that runs.
fn pids(view: &ClusterView) -> Vec<Option<i32>> {
    let nodes = view
        .nodes
        .iter()
        .flat_map(|node| [node.pids.agent, node.pids.containerd]);
    std::iter::once(view.server.pid).chain(nodes).collect()
}

#[tokio::test]
async fn a_cluster_comes_up_ready_is_left_alone_by_another_up_and_goes_without_a_trace() -> anyhow::Result<()> {
    let cluster = Cluster::start(2).await?;
    let first = cluster.status().await?;
    ensure!(first.server.ready, "{first:#?}");
    ensure!(pids(&first).iter().all(Option::is_some), "{first:#?}");
    cluster.kubectl(["get", "namespaces"]).await?;
    // The machines reach each other, and this machine reaches them.
    let server = first.server.url.trim_start_matches("https://").replace(':', "/");
    for number in 1..=2 {
        let other = &first.nodes[2 - number as usize].addresses[0];
        let node = cluster.node(number);
        node.exec(&["bash", "-c", &format!("exec 3<>/dev/tcp/{server}")])
            .await?;
        let said = node.exec(&["bash", "-c", &format!("exec 3<>/dev/tcp/{other}/1")]).await;
        let said = format!("{:#}", said.err().context("nothing listens there")?);
        ensure!(said.contains("Connection refused"), "{said}");
    }
    cluster.up().await?;
    let second = cluster.status().await?;
    ensure!(pids(&second) == pids(&first), "{first:#?}\n{second:#?}");
    cluster.finish().await
}

#[tokio::test]
async fn what_was_killed_or_taken_away_is_made_again() -> anyhow::Result<()> {
    let cluster = Cluster::start(1).await?;
    let before = cluster.status().await?;
    for pid in [before.server.pid, before.nodes[0].pids.agent] {
        kill(Pid::from_raw(pid.context("it runs")?), Signal::SIGKILL)?;
    }
    eventually(PATIENCE, "it is told what is down", async || {
        let view = cluster.status().await?;
        ensure!(view.server.pid.is_none() && !view.server.ready, "{view:#?}");
        ensure!(view.nodes[0].pids.agent.is_none(), "{view:#?}");
        Ok(())
    })
    .await;
    cluster.up().await?;
    let after = cluster.status().await?;
    ensure!(after.server.ready && after.nodes[0].pids.agent.is_some(), "{after:#?}");
    ensure!(
        after.nodes[0].pids.containerd == before.nodes[0].pids.containerd,
        "containerd was disturbed"
    );
    ensure!(
        (&after.cidr, &after.server.url) == (&before.cidr, &before.server.url),
        "it moved"
    );

    // The link, a namespace, and the kubeconfig.
    bosun_testkit::programs::run("ip".as_ref(), ["link", "delete", &after.link]).await?;
    umount2(&after.nodes[0].netns, MntFlags::MNT_DETACH)?;
    std::fs::remove_file(&after.server.kubeconfig)?;
    cluster.up().await?;
    let repaired = cluster.status().await?;
    ensure!(repaired.server.ready, "{repaired:#?}");
    ensure!(pids(&repaired).iter().all(Option::is_some), "{repaired:#?}");
    let inside = cluster.node(1).exec(&["readlink", "/proc/self/ns/net"]).await?;
    let agent = repaired.nodes[0].pids.agent.context("it runs")?;
    let own = std::fs::read_link(format!("/proc/{agent}/ns/net"))?;
    ensure!(
        own.to_string_lossy() == inside.trim(),
        "the agent is in {own:?}, the node in {inside}"
    );
    cluster.finish().await
}

#[tokio::test]
async fn a_cluster_grows_and_does_not_shrink_unasked() -> anyhow::Result<()> {
    let cluster = Cluster::with(server_only()).await?;
    let before = cluster.status().await?;
    ensure!(before.nodes.is_empty() && before.server.ready, "{before:#?}");
    cluster.dev(["up", "--nodes", "1"]).await?;
    let after = cluster.status().await?;
    ensure!(
        after.nodes.len() == 1 && after.server.pid == before.server.pid,
        "{after:#?}"
    );
    let refused = cluster.try_dev(["up", "--server-only"]).await?;
    let words = String::from_utf8_lossy(&refused.stderr);
    ensure!(!refused.status.success() && words.contains("bosun dev down"), "{words}");
    ensure!(cluster.status().await?.nodes.len() == 1);
    cluster.finish().await
}

#[tokio::test]
async fn what_the_server_was_told_is_there_after_it_was_killed_and_gone_after_down() -> anyhow::Result<()> {
    let cluster = Cluster::with(server_only()).await?;
    cluster.kubectl(["create", "namespace", "kept"]).await?;
    cluster.kill_server().await?;
    cluster.up().await?;
    cluster.kubectl(["get", "namespace", "kept"]).await?;
    cluster.dev(["down"]).await?;
    cluster.is_gone().await;
    cluster.up().await?;
    let gone = cluster.try_kubectl(["get", "namespace", "kept"]).await?;
    ensure!(String::from_utf8_lossy(&gone.stderr).contains("NotFound"), "{gone:?}");
    cluster.finish().await
}

#[tokio::test]
async fn clusters_side_by_side_share_nothing() -> anyhow::Result<()> {
    let (one, other) = (
        Cluster::prepare(server_only()).await?,
        Cluster::prepare(server_only()).await?,
    );
    // At the same time: neither may choose what the other has chosen.
    tokio::try_join!(one.up(), other.up())?;
    let (first, second) = (one.status().await?, other.status().await?);
    ensure!(
        first.cidr != second.cidr && first.link != second.link,
        "{first:#?}\n{second:#?}"
    );
    one.kubectl(["create", "namespace", "of-one"]).await?;
    let all = other.kubectl(["get", "namespaces", "--output", "name"]).await?;
    ensure!(!all.contains("of-one"), "{all}");
    one.finish().await?;
    other.kubectl(["get", "namespaces"]).await?;
    ensure!(pids(&other.status().await?) == pids(&second), "it was disturbed");
    other.finish().await
}
