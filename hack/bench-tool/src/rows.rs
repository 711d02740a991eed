//! The rows: what is measured, and on which node.

mod api;
mod burst;
mod cni;
mod idle;
mod manifests;
mod restart;
mod schedule;
mod start;

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::ensure;
use bosun_testkit::{
    Node, Options, Pod,
    manifest::{container, pod},
    teardown::teardown,
};
use clap::ValueEnum;
use serde_json::json;
use tokio::time::sleep;

use crate::{
    agent_log::AgentLog,
    report::{Row, load},
};

/// A row's name on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum RowName {
    /// A pod's start from its file, against the same CRI calls made bare, one after another
    Start,
    /// 30 pods at once, against the same CRI calls made bare
    Burst,
    /// CNI ADD and DEL, against the reference plugins and a bare veth
    Cni,
    /// From a process's death to the call that creates its successor
    Restart,
    /// From a manifest's change to the agent's action
    Manifests,
    /// The agent's memory and processor time at 0, 30 and 100 pods with a probe each
    Idle,
    /// Durable creates by 64 clients of the API server, against etcd's bare puts
    Creates,
    /// The API server with 10,000 pods: their list, its start, its memory
    Pods,
    /// From a change to 10,000 watches of it
    Watches,
    /// What the store keeps of 100,000 updates of 100 leases
    Leases,
    /// Pods scheduled a second, and what a decision costs
    Schedule,
}

impl RowName {
    /// In the order they are taken.
    pub(crate) const ALL: [Self; 11] = [
        Self::Start,
        Self::Burst,
        Self::Cni,
        Self::Restart,
        Self::Manifests,
        Self::Idle,
        Self::Creates,
        Self::Pods,
        Self::Watches,
        Self::Leases,
        Self::Schedule,
    ];

    /// The row's headline.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Start => "Pod start, one after another",
            Self::Burst => "Pod start, 30 at once",
            Self::Cni => "CNI ADD and DEL",
            Self::Restart => "Restart after a process's death",
            Self::Manifests => "From a manifest's change to action",
            Self::Idle => "The agent at rest",
            Self::Creates => "API: durable creates",
            Self::Pods => "API: 10,000 pods",
            Self::Watches => "API: 10,000 watches",
            Self::Leases => "API: 100,000 updates of 100 leases",
            Self::Schedule => "Scheduler: 10,000 pods",
        }
    }
}

/// How much is measured.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// Samples of what is measured one by one.
    pub(crate) samples: usize,
    /// The reference CNI plugins' folder.
    pub(crate) reference: PathBuf,
}

/// Takes a row.
pub(crate) async fn run(name: RowName, settings: &Settings) -> anyhow::Result<Row> {
    let mut row = Row {
        title: name.title().to_owned(),
        load: [load(); 2],
        ..Row::default()
    };
    let begun = Instant::now();
    match name {
        RowName::Start => start::take(&mut row, settings).await?,
        RowName::Burst => burst::take(&mut row).await?,
        RowName::Cni => cni::take(&mut row, settings).await?,
        RowName::Restart => restart::take(&mut row, settings).await?,
        RowName::Manifests => manifests::take(&mut row).await?,
        RowName::Idle => idle::take(&mut row).await?,
        RowName::Creates => api::creates(&mut row).await?,
        RowName::Pods => api::pods(&mut row).await?,
        RowName::Watches => api::watches(&mut row).await?,
        RowName::Leases => api::leases(&mut row).await?,
        RowName::Schedule => schedule::take(&mut row).await?,
    }
    row.load[1] = load();
    row.seconds = begun.elapsed().as_secs_f64();
    Ok(row)
}

/// A node whose agent says what the product says by default.
async fn node() -> anyhow::Result<(Node, AgentLog)> {
    let options = Options {
        audit_interval: "60s".into(),
        env: vec![("RUST_LOG".into(), "info".into())],
        ..Options::default()
    };
    let node = Node::with(options).await?;
    let log = AgentLog::open(&node.agent_log())?;
    Ok((node, log))
}

/// Ends the node with all that is on it.
fn finish(node: Node) -> anyhow::Result<()> {
    let scope = node.scope().clone();
    node.discard();
    // The second look takes nothing away: it says what the first could not.
    let left = teardown(&scope);
    ensure!(left.is_empty(), "left behind: {left:#?}");
    Ok(())
}

/// The smallest pod that runs until it is killed.
fn small_pod(name: &str) -> Pod {
    let server = container("main", &["httpd", "-f", "-p", "8080", "-h", "/etc"]);
    pod(name).grace(0).with(server)
}

/// The same with a readiness probe over HTTP every 10 s, which upstream's default is.
fn probed_pod(name: &str) -> Pod {
    let probe = json!({
        "httpGet": { "path": "/hostname", "port": 8080 }, "periodSeconds": 10, "timeoutSeconds": 1,
    });
    small_pod(name).set("/spec/containers/0/readinessProbe", probe)
}

/// Lets what has just ended be done with, so that it does not disturb what is measured next.
async fn rest() {
    sleep(Duration::from_millis(200)).await;
}

fn progress(done: usize, all: usize, what: &str) {
    eprintln!("  {done:>3}/{all} {what}");
}
