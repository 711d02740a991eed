//! The agent with nothing to do but probes: what it holds and what it takes.

use std::{
    fs,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use bosun_testkit::{Node, eventually};
use nix::unistd::{Pid, SysconfVar, sysconf};
use tokio::time::sleep;

use super::{finish, node, probed_pod, progress};
use crate::{
    agent_log::AgentLog,
    report::{Bar, Row, Series},
};

/// How many pods there are when it is looked at.
const COUNTS: [usize; 3] = [0, 30, 100];

/// Pods started at once: more would only wait for containerd.
const BATCH: usize = 10;

/// Two periods of the probes, and more than that of the clock's ticks.
const WINDOW: Duration = Duration::from_secs(30);

/// What the last start, and the first probes, may still bring.
const SETTLE: Duration = Duration::from_secs(5);

/// How long all pods may take to be ready.
const READY: Duration = Duration::from_mins(2);

/// A process's memory, in MiB.
#[derive(Debug, Default)]
struct Memory {
    resident: f64,
    proportional: f64,
    anonymous: f64,
}

pub(super) async fn take(row: &mut Row) -> anyhow::Result<()> {
    let (node, mut log) = node().await?;
    let pid = node.agent_pid().context("the agent does not run")?;
    let (mut resident, mut processor) = (Vec::new(), Vec::new());
    let mut there = 0;
    for count in COUNTS {
        start(&node, &mut log, there..count).await?;
        there = count;
        sleep(SETTLE).await;
        let share = processor_share(pid).await?;
        let memory = memory(pid)?;
        let (most, bar) = (Bar::AtMost(30.0), count == 100);
        row.figure(
            &format!("resident, {count} pods"),
            memory.resident,
            "MiB",
            bar.then_some(most),
        );
        if bar {
            row.figure("  of which anonymous", memory.anonymous, "MiB", None);
            row.figure("  proportional", memory.proportional, "MiB", None);
            row.figure("  threads", threads(pid)?, "", None);
        }
        row.figure(
            &format!("of a core, {count} pods"),
            share,
            "%",
            bar.then_some(Bar::AtMost(1.0)),
        );
        resident.push(Series::new(&format!("{count} pods"), vec![memory.resident]));
        processor.push(Series::new(&format!("{count} pods"), vec![share]));
        progress(count, COUNTS[COUNTS.len() - 1], "pods measured");
    }
    finish(node)?;
    row.panel("resident memory", "MiB", Some(30.0), resident);
    row.panel("processor time", "% of a core", Some(1.0), processor);
    Ok(())
}

async fn start(node: &Node, log: &mut AgentLog, numbers: std::ops::Range<usize>) -> anyhow::Result<()> {
    let all: Vec<_> = numbers.map(|number| probed_pod(&format!("idle-{number}"))).collect();
    for batch in all.chunks(BATCH) {
        for pod in batch {
            node.apply(pod)?;
        }
        for pod in batch {
            log.wait_for("container started", pod.name()).await?;
        }
    }
    eventually(READY, "all pods are ready", async || {
        // Not asked for too often: it is the agent that answers.
        sleep(Duration::from_secs(1)).await;
        let list = node.pods().await?;
        let waiting: Vec<_> = list
            .pods()
            .filter(|pod| !pod.is_ready())
            .map(|pod| pod.name().to_owned())
            .collect();
        ensure!(waiting.is_empty(), "not ready: {waiting:?}");
        Ok(())
    })
    .await;
    Ok(())
}

/// What the process takes of one processor, in per cent.
async fn processor_share(pid: Pid) -> anyhow::Result<f64> {
    let (before, begun) = (ticks(pid)?, Instant::now());
    sleep(WINDOW).await;
    let taken = (ticks(pid)? - before) as f64;
    let a_second = sysconf(SysconfVar::CLK_TCK)?.context("the clock has no rate")? as f64;
    Ok(taken / a_second / begun.elapsed().as_secs_f64() * 1e2)
}

/// User and system time.
fn ticks(pid: Pid) -> anyhow::Result<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).context("the agent has ended")?;
    parse_ticks(&stat).with_context(|| format!("/proc/{pid}/stat says {stat:?}"))
}

fn parse_ticks(stat: &str) -> Option<u64> {
    // The program's name may hold anything; it ends with the last parenthesis. Time is the 14th and 15th field.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    Some(fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?)
}

fn memory(pid: Pid) -> anyhow::Result<Memory> {
    let file = format!("/proc/{pid}/smaps_rollup");
    let text = fs::read_to_string(&file).with_context(|| format!("reading {file}"))?;
    let of = |name: &str| kibibytes(&text, name).with_context(|| format!("no {name} in {file}"));
    Ok(Memory {
        resident: of("Rss")? / 1024.0,
        proportional: of("Pss")? / 1024.0,
        anonymous: of("Anonymous")? / 1024.0,
    })
}

fn kibibytes(text: &str, name: &str) -> Option<f64> {
    let mut lines = text.lines().filter_map(|line| line.split_once(':'));
    let (_, value) = lines.find(|(key, _)| *key == name)?;
    value.trim().strip_suffix(" kB")?.parse().ok()
}

fn threads(pid: Pid) -> anyhow::Result<f64> {
    Ok(fs::read_dir(format!("/proc/{pid}/task"))?.count() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_found_behind_any_name() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194560 1 2 3 4 120 30 5 6 20 0 4 0 100 0 0";
        assert_eq!(parse_ticks(stat), Some(150));
        assert_eq!(parse_ticks("7"), None);
    }

    #[test]
    #[expect(clippy::float_cmp, reason = "whole numbers")]
    fn memory_is_found_by_its_name() {
        let text = "55-7f ---p 00000000 00:00 0   [rollup]\nRss:    2048 kB\nPss:    1000 kB\nPss_Anon:  10 kB\n";
        assert_eq!(kibibytes(text, "Pss").unwrap(), 1000.0);
        assert_eq!(kibibytes(text, "Anonymous"), None);
    }
}
