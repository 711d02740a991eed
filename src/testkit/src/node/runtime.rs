//! The node's containerd, its shims and containers, from outside the agent.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, ensure};
use bosun_cri::{CriClient, Runtime};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::Node;
use crate::{
    cgroup::Cgroup,
    netns::Netns,
    proc::{Process, directories},
    programs,
};

impl Node {
    /// The managed containerd.
    pub fn containerd(&self) -> anyhow::Result<Process> {
        let found = self
            .scope
            .processes()
            .into_iter()
            .find(|process| process.program() == "containerd");
        found.context("the managed containerd does not run")
    }

    /// SIGKILL to containerd.
    pub fn kill_containerd(&self) -> anyhow::Result<()> {
        kill(self.containerd()?.pid, Signal::SIGKILL).context("killing containerd")
    }

    /// containerd's own tool, in the namespace of CRI's containers.
    pub async fn ctr(&self, args: &[&str]) -> anyhow::Result<String> {
        let socket = self.containerd_socket()?;
        let connection = ["--address", &socket.to_string_lossy(), "--namespace", "k8s.io"].map(str::to_owned);
        programs::run(
            Path::new("ctr"),
            connection.iter().map(String::as_str).chain(args.iter().copied()),
        )
        .await
    }

    /// Where the managed containerd listens.
    pub fn containerd_socket(&self) -> anyhow::Result<PathBuf> {
        let dirs = [self.run_dir(), self.data_dir()];
        let mut sockets = dirs
            .iter()
            .flat_map(|dir| directories(dir))
            .map(|dir| dir.join("containerd.sock"));
        sockets
            .find(|path| path.exists())
            .context("the managed containerd has no socket yet")
    }

    /// The main process of a container, as containerd knows it.
    pub async fn pid_of(&self, container: &str) -> anyhow::Result<Pid> {
        let tasks = self.ctr(&["tasks", "list"]).await?;
        let mut rows = tasks.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        let row = rows.find(|row| row.first() == Some(&container));
        let pid = row.and_then(|row| row.get(1)?.parse().ok());
        pid.map(Pid::from_raw)
            .with_context(|| format!("containerd has no task {container}: {tasks}"))
    }

    /// The shim that a container's processes are children of.
    pub async fn shim_of(&self, container: &str) -> anyhow::Result<Pid> {
        let pid = self.pid_of(container).await?;
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        let parent = stat
            .rsplit(')')
            .next()
            .and_then(|rest| rest.split_whitespace().nth(1)?.parse().ok());
        parent
            .map(Pid::from_raw)
            .with_context(|| format!("no parent in {stat:?}"))
    }

    /// Runs a command in a container; what it printed, if it succeeded.
    pub async fn exec(&self, container: &str, command: &[&str]) -> anyhow::Result<String> {
        let client = CriClient::connect(&format!("unix://{}", self.containerd_socket()?.display()))?;
        let words: Vec<_> = command.iter().map(|word| (*word).to_owned()).collect();
        let output = client.exec(&container.into(), &words, programs::COMMAND).await?;
        let stderr = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.exit_code == 0,
            "{command:?} in {container}: exit code {}: {}",
            output.exit_code,
            stderr.trim()
        );
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// The network namespace of a container's pod.
    pub async fn netns_of(&self, container: &str) -> anyhow::Result<Netns> {
        Netns::open(Path::new(&format!("/proc/{}/ns/net", self.pid_of(container).await?)))
    }

    /// The cgroup of a container.
    pub async fn cgroup_of(&self, container: &str) -> anyhow::Result<Cgroup> {
        Cgroup::parse(&fs::read_to_string(format!(
            "/proc/{}/cgroup",
            self.pid_of(container).await?
        ))?)
    }
}
