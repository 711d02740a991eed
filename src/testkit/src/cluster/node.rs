//! One node of a cluster, from outside.

use std::path::Path;

use anyhow::{Context, ensure};
use nix::sys::signal::Signal;

use super::{Cluster, NodeView, signal};
use crate::{eventually, netns::Netns, programs, server::MOMENT};

/// A node of a cluster, by its name: what runs of it may change.
#[derive(Clone, Debug)]
pub struct ClusterNode<'a> {
    cluster: &'a Cluster,
    name: String,
}

impl<'a> ClusterNode<'a> {
    pub(super) fn new(cluster: &'a Cluster, name: &str) -> Self {
        Self {
            cluster,
            name: name.to_owned(),
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What there is of it.
    pub async fn view(&self) -> anyhow::Result<NodeView> {
        let mut nodes = self.cluster.status().await?.nodes.into_iter();
        nodes
            .find(|node| node.name == self.name)
            .with_context(|| format!("the cluster has no {}", self.name))
    }

    /// Runs a command in its network (`bosun dev exec`); what it printed, if it succeeded.
    pub async fn exec(&self, command: &[&str]) -> anyhow::Result<String> {
        let args = ["exec", &self.name, "--"].into_iter().chain(command.iter().copied());
        self.cluster.dev(args).await
    }

    /// Its network namespace.
    pub async fn netns(&self) -> anyhow::Result<Netns> {
        Netns::open(&self.view().await?.netns)
    }

    /// containerd's own tool, in the namespace of CRI's containers.
    pub async fn ctr(&self, args: &[&str]) -> anyhow::Result<String> {
        let socket = self.view().await?.containerd_socket;
        let connection = ["--address", &socket.to_string_lossy(), "--namespace", "k8s.io"].map(str::to_owned);
        let all = connection.iter().map(String::as_str).chain(args.iter().copied());
        programs::run(Path::new("ctr"), all).await
    }

    /// The containers that run on it, by id, sandboxes among them, and the process of each.
    pub async fn tasks(&self) -> anyhow::Result<std::collections::BTreeMap<String, i32>> {
        let text = self.ctr(&["tasks", "list"]).await?;
        let rows = text
            .lines()
            .skip(1)
            .map(|line| line.split_whitespace().collect::<Vec<_>>());
        rows.filter(|row| row.get(2) == Some(&"RUNNING"))
            .map(|row| Ok((row[0].to_owned(), row[1].parse()?)))
            .collect()
    }

    /// SIGKILL to its agent.
    pub async fn kill_agent(&self) -> anyhow::Result<()> {
        signal(self.view().await?.pids.agent, Signal::SIGKILL).context("killing the agent")
    }

    /// SIGKILL to its agent, and a new one.
    pub async fn restart_agent(&self) -> anyhow::Result<()> {
        self.kill_agent().await?;
        self.cluster.up().await
    }

    /// SIGKILL to its containerd, which the agent starts again.
    pub async fn kill_containerd(&self) -> anyhow::Result<()> {
        signal(self.view().await?.pids.containerd, Signal::SIGKILL).context("killing containerd")
    }

    /// Waits until another containerd runs than the one with this process.
    pub async fn containerd_after(&self, old: Option<i32>) {
        eventually(MOMENT * 3, "containerd runs again", async || {
            let now = self.view().await?.pids.containerd;
            ensure!(now.is_some() && now != old, "{now:?}");
            Ok(())
        })
        .await;
    }
}
