//! From a manifest's change to the agent's action, one change at a time.

use bosun_testkit::Node;
use jiff::Timestamp;

use super::{finish, node, progress, rest, small_pod};
use crate::{
    agent_log::{AgentLog, milliseconds},
    report::{Bar, Row, Series},
    stats::{median, quantile},
};

/// Pods added, changed and removed.
const PODS: usize = 34;

/// What the agent does, in its own words, about a pod that is wanted and one that is not any more.
const BEGUN: &str = "pod moves on from=Pending";
const ENDS: &str = "pod moves on from=Syncing";
/// What comes of it.
const RUNS: &str = "container started";
const GONE: &str = "pod is gone";

pub(super) async fn take(row: &mut Row) -> anyhow::Result<()> {
    let (node, mut log) = node().await?;
    let mut taken = [Vec::new(), Vec::new(), Vec::new()];
    for number in 0..PODS {
        let times = one(&node, &mut log, &format!("m-{number}")).await?;
        for (all, time) in taken.iter_mut().zip(times) {
            all.push(time);
        }
    }
    progress(PODS, PODS, "manifests added, changed, removed");
    finish(node)?;
    let all = taken.concat();
    row.figure("added, changed or removed: median", median(&all), "ms", None);
    row.figure(
        "  99th percentile",
        quantile(&all, 0.99),
        "ms",
        Some(Bar::AtMost(100.0)),
    );
    row.figure("  slowest", quantile(&all, 1.0), "ms", None);
    let series = ["added", "changed", "removed"].into_iter().zip(taken);
    let series = series.map(|(name, samples)| Series::new(name, samples)).collect();
    row.panel("to the agent's action", "ms", Some(100.0), series);
    Ok(())
}

/// Milliseconds until a pod's worker begins, until it ends the old pod for a changed one, until it ends the pod.
async fn one(node: &Node, log: &mut AgentLog, name: &str) -> anyhow::Result<[f64; 3]> {
    let pod = small_pod(name);
    let changed = pod
        .clone()
        .set("/metadata/labels", serde_json::json!({ "version": "2" }));
    let begun = Timestamp::now();
    node.apply(&pod)?;
    let added = milliseconds(begun, nth(log, BEGUN, name, 1).await?);
    nth(log, RUNS, name, 1).await?;
    rest().await;
    let begun = Timestamp::now();
    node.apply(&changed)?;
    let replaced = milliseconds(begun, nth(log, ENDS, name, 1).await?);
    nth(log, RUNS, name, 2).await?;
    rest().await;
    let begun = Timestamp::now();
    node.remove(name)?;
    let removed = milliseconds(begun, nth(log, ENDS, name, 2).await?);
    nth(log, GONE, name, 2).await?;
    rest().await;
    Ok([added, replaced, removed])
}

/// When the agent said this of the pod for the nth time.
async fn nth(log: &mut AgentLog, words: &str, pod: &str, nth: usize) -> anyhow::Result<Timestamp> {
    let heard = std::cell::Cell::new(0);
    let what = format!("{words:?} of {pod}");
    let line = log.find(&what, |line| {
        heard.set(heard.get() + usize::from(line.says(words, pod)));
        line.says(words, pod) && heard.get() == nth
    });
    Ok(line.await?.at)
}
