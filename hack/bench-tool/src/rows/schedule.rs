//! The scheduler, in this process, against an API in memory that stores nothing durably.

use bosun_scheduler::rehearsal::measure::{bindings_per_second, decision};

use super::progress;
use crate::report::{Bar, Row, Series};

const NODES: [usize; 3] = [100, 1000, 5000];
const PODS: usize = 10_000;

pub(super) async fn take(row: &mut Row) -> anyhow::Result<()> {
    let (mut empty, mut full) = (Vec::new(), Vec::new());
    for (done, nodes) in NODES.into_iter().enumerate() {
        let rate = tokio::spawn(bindings_per_second(nodes, PODS)).await?;
        let bar = (nodes == 5000).then_some(Bar::AtLeast(3000.0));
        row.figure(
            &format!("{nodes} nodes: pods queued to bound, of {PODS}"),
            rate,
            "/s",
            bar,
        );
        let cost = |placed| async move {
            let took = tokio::task::spawn_blocking(move || decision(nodes, placed)).await?;
            anyhow::Ok(took.as_secs_f64() * 1e6)
        };
        empty.push(cost(0).await?);
        full.push(cost(PODS).await?);
        let (before, after) = (empty[done], full[done]);
        row.figure(
            &format!("{nodes} nodes: a decision, nothing placed"),
            before,
            "µs",
            None,
        );
        row.figure(
            &format!("{nodes} nodes: a decision, {PODS} pods placed"),
            after,
            "µs",
            None,
        );
        row.figure(
            &format!("{nodes} nodes: the second over the first"),
            after / before,
            "×",
            Some(Bar::AtMost(1.5)),
        );
        progress(done + 1, NODES.len(), "sizes");
    }
    row.panel(
        "a decision at 100, 1,000 and 5,000 nodes",
        "µs",
        None,
        vec![Series::new("nothing placed", empty), Series::new("10,000 placed", full)],
    );
    Ok(())
}
