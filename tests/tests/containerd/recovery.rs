//! Killed and started again: the agent, containerd, both, everything.

use std::time::Duration;

use anyhow::ensure;
use bosun_testkit::{
    Node, PATIENCE, PodView, eventually,
    manifest::{idle, pod, shell, web},
};
use nix::sys::signal::{Signal, kill};
use serde_json::json;

#[tokio::test]
async fn a_new_agent_finds_its_pods_ready_as_they_were() -> anyhow::Result<()> {
    let mut node = Node::start().await?;
    let probe = json!({ "httpGet": { "path": "/", "port": 8080 }, "initialDelaySeconds": 1 });
    node.apply(&pod("probed").with(web("main", "x").probe("readiness", probe)))?;
    node.apply(&pod("plain").with(idle("main")))?;
    let before = (node.ready("probed").await, node.ready("plain").await);
    let started = node.pods().await?.pod("probed")?.container("main")?.started_at();
    for _ in 0..3 {
        node.restart_agent().await?;
        // From its first answer on: nobody may see them unready.
        let list = node.pods().await?;
        for name in ["probed", "plain"] {
            let view = list.pod(name)?;
            ensure!(view.is_ready(), "{name} is not ready: {:#?}", view.whole().status);
            ensure!(view.container("main")?.restarts() == 0, "{name} was restarted");
        }
        ensure!(
            (node.ready("probed").await, node.ready("plain").await) == before,
            "other containers"
        );
        ensure!(
            node.pods().await?.pod("probed")?.container("main")?.started_at() == started,
            "another start"
        );
    }
    node.finish().await
}

#[tokio::test]
async fn a_killed_containerd_comes_back_and_its_containers_never_went() -> anyhow::Result<()> {
    let node = Node::start().await?;
    node.apply(&pod("a").with(web("main", "still here")))?;
    let before = node.ready("a").await;
    let ip = node.pods().await?.pod("a")?.ip()?;
    let old = node.containerd()?.pid;
    node.kill_containerd()?;
    ensure!(node.netns().http_get(ip, 8080, "/")?.trim() == "still here");
    eventually(PATIENCE, "another containerd", async || {
        let new = node.containerd()?.pid;
        ensure!(new != old, "still {old}");
        Ok(())
    })
    .await;
    node.apply(&pod("b").with(idle("main")))?;
    node.ready("b").await;
    ensure!(node.ready("a").await == before, "other containers");
    ensure!(node.pods().await?.pod("a")?.container("main")?.restarts() == 0);
    // Ends are still heard of.
    kill(node.pid_of(&before[0]).await?, Signal::SIGKILL)?;
    node.until("a", "started again", |view| {
        ensure!(view.is_ready() && view.container("main")?.restarts() == 1, "not yet");
        Ok(())
    })
    .await;
    node.finish().await
}

#[tokio::test]
async fn how_long_a_start_took_is_still_told_by_the_next_agent() -> anyhow::Result<()> {
    const STAGES: &str = "bosun.dev/start-stages";
    let stages = |view: PodView<'_>| {
        let annotations = view.whole().metadata.annotations.clone().unwrap_or_default();
        let stages = annotations.get(STAGES).cloned().unwrap_or_default();
        ensure!(stages.contains("total"), "{stages:?}");
        Ok(stages)
    };
    let mut node = Node::start().await?;
    node.apply(&pod("a").with(idle("main")))?;
    let before = node.until("a", "started", stages).await;
    node.ready("a").await;
    node.kill_agent().await?;
    node.start_agent().await?;
    let after = node.until("a", "started", stages).await;
    ensure!(after == before, "{before} before, {after} after");
    node.finish().await
}

#[tokio::test]
async fn what_changed_while_no_agent_ran_is_made_up_for() -> anyhow::Result<()> {
    let mut node = Node::start().await?;
    for name in ["removed", "changed", "ended", "same"] {
        node.apply(&pod(name).with(idle("main")))?;
    }
    let mut before = Vec::new();
    for name in ["removed", "changed", "ended", "same"] {
        before.push(node.ready(name).await.remove(0));
    }
    let ended = node.pid_of(&before[2]).await?;
    node.kill_agent().await?;
    node.remove("removed")?;
    node.apply(&pod("changed").with(web("main", "x")))?;
    kill(ended, Signal::SIGKILL)?;
    node.apply(&pod("added").with(idle("main")))?;
    node.start_agent().await?;

    node.gone("removed").await;
    node.ready("added").await;
    let changed = node.until("changed", "replaced", |view| {
        ensure!(view.is_ready() && view.container("main")?.id() != before[1], "not yet");
        Ok(())
    });
    changed.await;
    let again = node.until("ended", "started again, once", |view| {
        let main = view.container("main")?;
        ensure!(
            view.is_ready() && main.restarts() == 1 && main.id() != before[2],
            "{} restarts",
            main.restarts()
        );
        ensure!(
            main.ended_before().is_some_and(|(code, _)| code == 137),
            "{:?}",
            main.ended_before()
        );
        Ok(())
    });
    again.await;
    ensure!(node.ready("same").await[0] == before[3], "disturbed");
    node.finish().await
}

#[tokio::test]
async fn an_end_while_containerd_was_away_is_noticed() -> anyhow::Result<()> {
    let node = Node::start().await?;
    node.apply(&pod("a").with(idle("main")))?;
    let id = node.ready("a").await.remove(0);
    let pid = node.pid_of(&id).await?;
    node.kill_containerd()?;
    kill(pid, Signal::SIGKILL)?;
    node.until("a", "started again", |view| {
        let main = view.container("main")?;
        ensure!(view.is_ready() && main.restarts() == 1, "{} restarts", main.restarts());
        Ok(())
    })
    .await;
    node.finish().await
}

#[tokio::test]
async fn an_agent_killed_at_any_moment_of_a_start_leaves_one_pod() -> anyhow::Result<()> {
    let mut node = Node::start().await?;
    for moment in 0..8_u64 {
        let name = format!("pod-{moment}");
        node.apply(&pod(&name).grace(0).with(idle("main")))?;
        tokio::time::sleep(Duration::from_millis(moment * 60)).await;
        node.restart_agent().await?;
        node.ready(&name).await;
    }
    let tasks = eventually(PATIENCE, "nothing but the pods", async || {
        let tasks = node.ctr(&["tasks", "list", "--quiet"]).await?.lines().count();
        let containers = node.ctr(&["containers", "list", "--quiet"]).await?.lines().count();
        ensure!(tasks == containers, "{tasks} tasks, {containers} containers");
        Ok(tasks)
    })
    .await;
    // A sandbox and a container each.
    ensure!(tasks == 16, "{tasks} tasks for eight pods");
    node.finish().await
}

#[tokio::test]
async fn an_agent_killed_while_pods_end_ends_them_all_the_same() -> anyhow::Result<()> {
    let mut node = Node::start().await?;
    let deaf = |name: &str| {
        pod(name)
            .grace(2)
            .with(shell("main", "trap '' TERM; while :; do sleep 0.1; done"))
    };
    for moment in 0..4_u64 {
        let name = format!("pod-{moment}");
        node.apply(&deaf(&name))?;
        node.ready(&name).await;
        node.remove(&name)?;
        tokio::time::sleep(Duration::from_millis(moment * 800)).await;
        node.restart_agent().await?;
        node.gone(&name).await;
    }
    node.finish().await
}

#[tokio::test]
async fn after_everything_was_killed_the_pods_run_again() -> anyhow::Result<()> {
    let mut node = Node::start().await?;
    node.apply(&pod("a").with(web("main", "again")))?;
    let before = node.ready("a").await;
    node.kill_agent().await?;
    // As after a power failure, with the folders of run-time state still there.
    eventually(PATIENCE, "no process is left", async || {
        let processes = node.scope().processes();
        for process in &processes {
            // One that has ended meanwhile is what we want.
            let _ = kill(process.pid, Signal::SIGKILL);
        }
        ensure!(processes.is_empty(), "{processes:?}");
        Ok(())
    })
    .await;
    node.start_agent().await?;
    let ip = node
        .until("a", "runs again", |view| {
            ensure!(view.is_ready() && view.container("main")?.id() != before[0], "not yet");
            view.ip()
        })
        .await;
    eventually(PATIENCE, "it answers", async || node.netns().http_get(ip, 8080, "/")).await;
    node.finish().await
}

#[tokio::test]
async fn a_polite_end_of_the_agent_leaves_its_pods_running() -> anyhow::Result<()> {
    let mut node = Node::start().await?;
    node.apply(&pod("a").with(web("main", "on my own")))?;
    let before = node.ready("a").await;
    let ip = node.pods().await?.pod("a")?.ip()?;
    node.stop_agent().await?;
    ensure!(node.netns().http_get(ip, 8080, "/")?.trim() == "on my own");
    node.start_agent().await?;
    ensure!(node.ready("a").await == before, "other containers");
    node.finish().await
}
