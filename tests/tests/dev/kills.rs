//! `bosun dev` itself is killed, at moments of all kinds: what it had begun is ended or taken away by the next.

use std::time::Duration;

use anyhow::{Context, ensure};
use bosun_testkit::{Cluster, ClusterOptions, manifest};
use fastrand::Rng;
use tokio::{process::Child, time::timeout};

/// Kills in a run of CI, and in a soak.
const SEEDS: u64 = 10;
const SOAK_SEEDS: u64 = 200;

fn seeds() -> u64 {
    if std::env::var_os("BOSUN_SOAK").is_some() {
        SOAK_SEEDS
    } else {
        SEEDS
    }
}

/// Kills a command within the time it takes by and large; whether it had ended before.
async fn kill_within(mut child: Child, most: Duration, rng: &mut Rng) -> anyhow::Result<bool> {
    let moment = most.mul_f64(rng.f64());
    if let Ok(ended) = timeout(moment, child.wait()).await {
        ensure!(ended?.success(), "it failed by itself");
        return Ok(true);
    }
    child.kill().await?;
    Ok(false)
}

async fn one_node() -> anyhow::Result<(Cluster, Duration)> {
    let cluster = Cluster::prepare(ClusterOptions {
        load_demo: false,
        ..ClusterOptions::default()
    })
    .await?;
    let start = std::time::Instant::now();
    cluster.up().await?;
    let took = start.elapsed();
    cluster.dev(["down"]).await?;
    cluster.is_gone().await;
    Ok((cluster, took))
}

#[tokio::test]
async fn an_up_that_was_killed_leaves_nothing_that_down_does_not_take() -> anyhow::Result<()> {
    let (cluster, took) = one_node().await?;
    for seed in 0..seeds() {
        let mut rng = Rng::with_seed(seed);
        eprintln!("seed {seed}");
        let ended = kill_within(cluster.spawn_up()?, took, &mut rng).await?;
        // At once: what it was just starting may not be there yet.
        cluster
            .dev(["down"])
            .await
            .with_context(|| format!("seed {seed}, ended: {ended}"))?;
        cluster.is_gone().await;
    }
    cluster.finish().await
}

#[tokio::test]
async fn an_up_that_was_killed_is_ended_by_the_next() -> anyhow::Result<()> {
    let (cluster, took) = one_node().await?;
    for seed in 0..seeds() / 2 {
        let mut rng = Rng::with_seed(1000 + seed);
        eprintln!("seed {seed}");
        for _ in 0..2 {
            kill_within(cluster.spawn_up()?, took, &mut rng).await?;
        }
        cluster.up().await.with_context(|| format!("seed {seed}"))?;
        let view = cluster.status().await?;
        ensure!(
            view.server.ready && view.nodes[0].pids.agent.is_some(),
            "seed {seed}: {view:#?}"
        );
        // One of each, whichever was started when.
        let agents = cluster
            .left()?
            .iter()
            .filter(|line| line.contains("bosun agent"))
            .count();
        ensure!(agents == 1, "seed {seed}: {:#?}", cluster.left()?);
        cluster.dev(["down"]).await?;
        cluster.is_gone().await;
    }
    cluster.finish().await
}

#[tokio::test]
async fn a_down_that_was_killed_is_ended_by_the_next_down_or_up() -> anyhow::Result<()> {
    let (cluster, _) = one_node().await?;
    for seed in 0..seeds() / 2 {
        let mut rng = Rng::with_seed(2000 + seed);
        eprintln!("seed {seed}");
        cluster.up().await?;
        // With something to take away: a pod's mounts, links, cgroups.
        let view = cluster.status().await?;
        cluster.load(&bosun_testkit::programs::demo_archive()?).await?;
        let pod = manifest::pod("p").with(manifest::idle("c"));
        std::fs::write(view.nodes[0].directories.manifests.join("p.yaml"), pod.text())?;
        let down = cluster.dev_command(["down"])?.kill_on_drop(true).spawn()?;
        kill_within(down, Duration::from_millis(700), &mut rng).await?;
        if rng.bool() {
            cluster.up().await.with_context(|| format!("seed {seed}"))?;
            ensure!(cluster.status().await?.server.ready, "seed {seed}");
        }
        cluster.dev(["down"]).await.with_context(|| format!("seed {seed}"))?;
        cluster.is_gone().await;
    }
    cluster.finish().await
}
