//! From a process's death to the call that creates its successor, on each pod's first restart: without back-off.

use anyhow::Context;
use jiff::Timestamp;
use nix::sys::signal::{Signal, kill};

use super::{Settings, finish, node, progress, rest, small_pod};
use crate::{
    agent_log::milliseconds,
    report::{Bar, Row, Series},
    stats::{median, quantile},
};

pub(super) async fn take(row: &mut Row, settings: &Settings) -> anyhow::Result<()> {
    let (node, mut log) = node().await?;
    let names: Vec<_> = (0..settings.samples).map(|number| format!("dies-{number}")).collect();
    let mut ids = Vec::new();
    for name in &names {
        node.apply(&small_pod(name))?;
        let started = log.wait_for("container started", name).await?;
        ids.push(started.field("id").context("no id")?.to_owned());
    }
    progress(names.len(), names.len(), "pods run");
    let (mut since_exit, mut since_kill) = (Vec::new(), Vec::new());
    for (name, id) in names.iter().zip(&ids) {
        let pid = node.pid_of(id).await?;
        rest().await;
        let killed = Timestamp::now();
        kill(pid, Signal::SIGKILL)?;
        let again = format!("the second container of {name}");
        let created = log.find(&again, |line| {
            line.says("creating container", name) && line.field("attempt") == Some("1")
        });
        let created = created.await?;
        let exit: f64 = created.field("since_exit_us").context("no since_exit_us")?.parse()?;
        since_exit.push(exit / 1e3);
        since_kill.push(milliseconds(killed, created.at));
    }
    progress(names.len(), names.len(), "processes killed");
    finish(node)?;
    row.figure(
        "from the exit to CreateContainer, median",
        median(&since_exit),
        "ms",
        Some(Bar::AtMost(15.0)),
    );
    row.figure("  90th percentile", quantile(&since_exit, 0.9), "ms", None);
    row.figure(
        "from SIGKILL to CreateContainer, median",
        median(&since_kill),
        "ms",
        None,
    );
    let series = vec![
        Series::new("since the exit", since_exit),
        Series::new("since SIGKILL", since_kill),
    ];
    row.panel("to CreateContainer", "ms", Some(15.0), series);
    Ok(())
}
