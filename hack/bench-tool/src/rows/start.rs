//! Pods one after another, by turns through a file and the agent, and by bare calls.

use bosun_cri::Runtime;
use bosun_testkit::Node;
use jiff::Timestamp;

use super::{Settings, finish, node, progress, rest, small_pod};
use crate::{
    agent_log::{AgentLog, milliseconds},
    bare::Bare,
    report::{Bar, Row, Series},
    stats::{median, quantile},
};

/// Milliseconds from the begin.
struct Sample {
    /// Until the container's process started, by the runtime's account.
    process: f64,
    /// Until the caller knew.
    known: f64,
    /// Of which until the caller knew that the sandbox ran.
    sandbox: f64,
}

/// Where the agent's time went.
#[derive(Default)]
struct Stages {
    acted: Vec<f64>,
    sandbox: Vec<f64>,
}

pub(super) async fn take(row: &mut Row, settings: &Settings) -> anyhow::Result<()> {
    let (node, mut log) = node().await?;
    let bare = Bare::on(&node)?;
    let (mut ours, mut theirs, mut stages) = (Vec::new(), Vec::new(), Stages::default());
    // The first round warms up, and is not counted.
    for round in 0..=settings.samples {
        let bare_first = round % 2 == 0;
        if bare_first {
            theirs.push(by_bare_calls(&bare, round).await?);
        }
        ours.push(by_agent(&node, &mut log, &bare, round, &mut stages).await?);
        if !bare_first {
            theirs.push(by_bare_calls(&bare, round).await?);
        }
        if round % 8 == 0 {
            progress(round, settings.samples, "pods each way");
        }
    }
    finish(node)?;
    let of = |samples: &[Sample], time: fn(&Sample) -> f64| samples[1..].iter().map(time).collect::<Vec<_>>();
    let (agent, calls) = (of(&ours, |s| s.known), of(&theirs, |s| s.known));
    let beyond: Vec<f64> = agent.iter().zip(&calls).map(|(agent, calls)| agent - calls).collect();
    let (process, bare_process) = (of(&ours, |s| s.process), of(&theirs, |s| s.process));
    let rest_of: Vec<f64> = agent
        .iter()
        .zip(&stages.acted[1..])
        .map(|(all, acted)| all - acted)
        .collect();
    row.figure("agent, from the file to known running", median(&agent), "ms", None);
    row.figure("the same CRI calls, bare", median(&calls), "ms", None);
    row.figure(
        "agent beyond bare, median of pairs",
        median(&beyond),
        "ms",
        Some(Bar::AtMost(20.0)),
    );
    row.figure(
        "  the same, to the process's start",
        median(&process) - median(&bare_process),
        "ms",
        None,
    );
    row.figure(
        "  from the worker on, beyond bare",
        median(&rest_of) - median(&calls),
        "ms",
        None,
    );
    row.figure("agent, 90th percentile", quantile(&agent, 0.9), "ms", None);
    row.figure("bare, 90th percentile", quantile(&calls, 0.9), "ms", None);
    let series = vec![Series::new("agent", agent), Series::new("bare CRI calls", calls)];
    row.panel("to known running", "ms", None, series);
    let container = |samples: &[Sample]| of(samples, |s| s.known - s.sandbox);
    let parts = [
        ("agent: file to worker", stages.acted[1..].to_vec()),
        ("agent: sandbox", stages.sandbox[1..].to_vec()),
        ("bare: sandbox", of(&theirs, |s| s.sandbox)),
        ("agent: container", container(&ours)),
        ("bare: container", container(&theirs)),
    ];
    let parts = parts.map(|(name, samples)| Series::new(name, samples));
    for part in &parts {
        row.figure(&format!("  {}", part.name), median(&part.samples), "ms", None);
    }
    row.panel("in parts", "ms", None, parts.into());
    row.panel(
        "agent beyond bare",
        "ms",
        Some(20.0),
        vec![Series::new("pairs", beyond)],
    );
    Ok(())
}

async fn by_bare_calls(bare: &Bare, round: usize) -> anyhow::Result<Sample> {
    let prepared = bare.prepare(&small_pod(&format!("bare-{round}")))?;
    rest().await;
    let started = bare.start(prepared).await?;
    bare.remove(&started).await?;
    Ok(Sample {
        process: milliseconds(started.begun, started.process_at),
        sandbox: milliseconds(started.begun, started.sandbox_at),
        known: milliseconds(started.begun, started.known_at),
    })
}

async fn by_agent(
    node: &Node,
    log: &mut AgentLog,
    bare: &Bare,
    round: usize,
    stages: &mut Stages,
) -> anyhow::Result<Sample> {
    let name = format!("agent-{round}");
    let pod = small_pod(&name);
    rest().await;
    let begun = Timestamp::now();
    node.apply(&pod)?;
    let known = log.wait_for("container started", &name).await?;
    let id = known.field("id").unwrap_or_default().into();
    let started_at = bare.runtime().container_status(&id).await?.started_at;
    let acted = log.wait_for("pod moves on", &name).await?;
    stages.acted.push(milliseconds(begun, acted.at));
    let sandbox = log.wait_for("sandbox runs", &name).await?;
    let list = node.pods().await?;
    let told = list.pod(&name)?.stages()?;
    let stage = |name: &str| told.get(name).copied().unwrap_or_default();
    stages.sandbox.push(stage("sandbox"));
    node.remove(&name)?;
    log.wait_for("pod is gone", &name).await?;
    Ok(Sample {
        process: milliseconds(begun, Timestamp::from_nanosecond(started_at.into())?),
        known: milliseconds(begun, known.at),
        sandbox: milliseconds(begun, sandbox.at),
    })
}
