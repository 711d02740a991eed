//! Many pods at once, by turns through files and the agent, and by bare calls.

use anyhow::Context;
use bosun_testkit::Node;
use jiff::Timestamp;
use tokio::task::JoinSet;

use super::{finish, node, progress, rest, small_pod};
use crate::{
    agent_log::{AgentLog, milliseconds},
    bare::Bare,
    report::{Bar, Row, Series},
    stats::median,
};

/// Pods at once.
const PODS: usize = 30;

/// Turns of each.
const ROUNDS: usize = 4;

pub(super) async fn take(row: &mut Row) -> anyhow::Result<()> {
    let (node, mut log) = node().await?;
    let bare = Bare::on(&node)?;
    let (mut ours, mut theirs, mut spared) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let bare_first = round % 2 == 0;
        if bare_first {
            theirs.push(by_bare_calls(&bare, round, &mut spared).await?);
        }
        ours.push(by_agent(&node, &mut log, round).await?);
        if !bare_first {
            theirs.push(by_bare_calls(&bare, round, &mut spared).await?);
        }
        progress(round + 1, ROUNDS, "bursts each way");
    }
    finish(node)?;
    let ratios: Vec<f64> = ours.iter().zip(&theirs).map(|(ours, theirs)| ours / theirs).collect();
    row.figure("agent", median(&ours), "pods/s", None);
    row.figure("the same CRI calls, bare", median(&theirs), "pods/s", None);
    row.figure(
        "rate, agent over bare, median of pairs",
        median(&ratios),
        "",
        Some(Bar::AtLeast(0.9)),
    );
    row.figure(
        "  cgroups and files, which bare calls are spared",
        median(&spared),
        "ms",
        None,
    );
    let series = vec![Series::new("agent", ours), Series::new("bare CRI calls", theirs)];
    row.panel("rate", "pods/s", None, series);
    row.panel("agent over bare", "", Some(0.9), vec![Series::new("pairs", ratios)]);
    Ok(())
}

/// Pods a second.
fn rate(milliseconds: f64) -> f64 {
    PODS as f64 / milliseconds * 1e3
}

async fn by_bare_calls(bare: &Bare, round: usize, spared: &mut Vec<f64>) -> anyhow::Result<f64> {
    let names = (0..PODS).map(|number| format!("bare-{round}-{number}"));
    let begun = Timestamp::now();
    let prepared = names
        .map(|name| bare.prepare(&small_pod(&name)))
        .collect::<Result<Vec<_>, _>>()?;
    spared.push(milliseconds(begun, Timestamp::now()));
    rest().await;
    let begun = Timestamp::now();
    let mut starts = JoinSet::new();
    for prepared in prepared {
        let bare = bare.clone();
        starts.spawn(async move { bare.start(prepared).await });
    }
    let started = starts.join_all().await.into_iter().collect::<Result<Vec<_>, _>>()?;
    let last = started.iter().map(|pod| pod.known_at).max().context("no pod")?;
    let mut removals = JoinSet::new();
    for started in started {
        let bare = bare.clone();
        removals.spawn(async move { bare.remove(&started).await });
    }
    removals.join_all().await.into_iter().collect::<Result<(), _>>()?;
    Ok(rate(milliseconds(begun, last)))
}

async fn by_agent(node: &Node, log: &mut AgentLog, round: usize) -> anyhow::Result<f64> {
    let pods: Vec<_> = (0..PODS)
        .map(|number| small_pod(&format!("agent-{round}-{number}")))
        .collect();
    rest().await;
    let begun = Timestamp::now();
    for pod in &pods {
        node.apply(pod)?;
    }
    let mut last = begun;
    for pod in &pods {
        last = last.max(log.wait_for("container started", pod.name()).await?.at);
    }
    for pod in &pods {
        node.remove(pod.name())?;
    }
    for pod in &pods {
        log.wait_for("pod is gone", pod.name()).await?;
    }
    Ok(rate(milliseconds(begun, last)))
}
