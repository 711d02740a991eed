//! A cluster of several nodes: `bosun dev` in a folder of the test's own, driven as a user drives it.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Output, Stdio, id},
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::Duration,
};

use anyhow::{Context, ensure};
use bosun_dev::Layout;
use nix::{
    sys::signal::{Signal, kill},
    unistd::{Pid, geteuid},
};
use serde::Deserialize;
use tokio::process::{Child, Command};

mod node;

pub use node::ClusterNode;

use crate::{PATIENCE, eventually, proc::Scope, programs, server};

/// How the folders of tests' clusters are called: this, the test process's id, a number.
const PREFIX: &str = "bosun-test-cluster-";

/// How long `bosun dev` may take for anything, on a machine that others use, too.
const LONGEST: Duration = Duration::from_mins(4);

/// What a test may want of its cluster beside the usual.
#[derive(Clone, Debug)]
pub struct ClusterOptions {
    /// How many nodes; none for a server alone.
    pub nodes: u8,
    /// Another containerd program.
    pub containerd: Option<PathBuf>,
    /// Whether the demo's image is loaded before the test begins.
    pub load_demo: bool,
}

impl Default for ClusterOptions {
    fn default() -> Self {
        Self {
            nodes: 1,
            containerd: None,
            load_demo: true,
        }
    }
}

/// A cluster under test. [`Cluster::finish`] takes it down and checks that nothing is left. Dropping it without, as a
/// test that fails does, takes it down and keeps the logs.
#[derive(Debug)]
pub struct Cluster {
    base: PathBuf,
    layout: Layout,
    options: ClusterOptions,
    /// Whether its logs are of no interest.
    good: bool,
}

/// What `bosun dev status -o json` says.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterView {
    /// All its addresses are in it.
    pub cidr: String,
    /// The link by which this machine reaches it.
    pub link: String,
    /// The cgroup above all others of it.
    pub cgroup: String,
    /// Its server.
    pub server: ServerView,
    /// Its nodes.
    pub nodes: Vec<NodeView>,
}

/// A cluster's server.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServerView {
    /// Where it is reached.
    pub url: String,
    /// The administrator's kubeconfig.
    pub kubeconfig: PathBuf,
    /// Where its network namespace is mounted.
    pub netns: PathBuf,
    /// Its process, if it runs.
    pub pid: Option<i32>,
    /// Whether it answers.
    pub ready: bool,
    /// What it says.
    pub log: PathBuf,
}

/// A cluster's node.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeView {
    /// Its name.
    pub name: String,
    /// Its addresses.
    pub addresses: Vec<String>,
    /// Where its network namespace is mounted.
    pub netns: PathBuf,
    /// Its processes.
    pub pids: Pids,
    /// Whether the server has it as ready.
    pub ready: Option<bool>,
    /// Where its containerd listens.
    pub containerd_socket: PathBuf,
    /// The cgroup that its pods' are below.
    pub cgroup_parent: String,
    /// Its pods' ranges.
    pub pod_cidrs: Vec<String>,
    /// Where its things are.
    pub directories: Directories,
}

/// The processes of a node that run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub struct Pids {
    /// The agent's.
    pub agent: Option<i32>,
    /// Its containerd's.
    pub containerd: Option<i32>,
}

/// The directories of a node.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Directories {
    /// `--data-dir`
    pub data: PathBuf,
    /// `--root-dir`
    pub root: PathBuf,
    /// `--run-dir`
    pub run: PathBuf,
    /// `--log-dir`
    pub logs: PathBuf,
    /// Manifests of static pods.
    pub manifests: PathBuf,
}

impl Cluster {
    /// A cluster of this many nodes, all ready, with the demo's image.
    pub async fn start(nodes: u8) -> anyhow::Result<Self> {
        let options = ClusterOptions {
            nodes,
            ..ClusterOptions::default()
        };
        Self::with(options).await
    }

    /// A cluster with these options that is up.
    pub async fn with(options: ClusterOptions) -> anyhow::Result<Self> {
        let cluster = Self::prepare(options).await?;
        cluster.up().await?;
        if cluster.options.load_demo && cluster.options.nodes > 0 {
            cluster.load(&programs::demo_archive()?).await?;
        }
        Ok(cluster)
    }

    /// A place for a cluster, nothing of which is there yet.
    pub async fn prepare(options: ClusterOptions) -> anyhow::Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        ensure!(
            geteuid().is_root(),
            "this test makes a cluster, so it needs root: sudo -E env \"PATH=$PATH\" ./hack/test --tier 4"
        );
        sweep().await;
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let base = env::temp_dir().join(format!("{PREFIX}{}-{number}", id()));
        fs::create_dir_all(base.join("home"))?;
        let layout = Layout::at(&base.join("c"))?;
        Ok(Self {
            base,
            layout,
            options,
            good: false,
        })
    }

    // Places

    /// The cluster's directory.
    pub fn dir(&self) -> &Path {
        self.layout.dir()
    }

    /// The administrator's kubeconfig.
    pub fn kubeconfig(&self) -> PathBuf {
        self.layout.kubeconfig()
    }

    /// A place for the test's own files.
    pub fn file(&self, name: &str, content: &str) -> anyhow::Result<PathBuf> {
        let path = self.base.join("home").join(name);
        fs::write(&path, content)?;
        Ok(path)
    }

    // `bosun dev`

    /// `bosun dev` with these arguments and the cluster's directory, to be run by the caller.
    pub fn dev_command<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> anyhow::Result<Command> {
        let mut command = Command::new(programs::built("bosun")?);
        command
            .arg("dev")
            .arg("--dir")
            .arg(self.dir())
            .args(args)
            .stdin(Stdio::null());
        Ok(command)
    }

    /// Runs `bosun dev` to whatever end it comes.
    pub async fn try_dev<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> anyhow::Result<Output> {
        programs::output(self.dev_command(args)?, LONGEST).await
    }

    /// Runs `bosun dev`; what it answered, or an error with its words.
    pub async fn dev<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> anyhow::Result<String> {
        let output = self.try_dev(args).await?;
        let words = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "bosun dev: {}\n{words}", output.status);
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// `bosun dev up` as the options have it: makes the cluster, or what is missing of it.
    pub async fn up(&self) -> anyhow::Result<()> {
        self.dev(self.up_args().iter().map(String::as_str)).await?;
        Ok(())
    }

    /// The same, started and not waited for.
    pub fn spawn_up(&self) -> anyhow::Result<Child> {
        let args = self.up_args();
        let mut command = self.dev_command(args.iter().map(String::as_str))?;
        command.stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
        command.spawn().context("starting bosun dev up")
    }

    fn up_args(&self) -> Vec<String> {
        let mut args = vec!["up".to_owned()];
        match self.options.nodes {
            0 => args.push("--server-only".to_owned()),
            nodes => args.extend(["--nodes".to_owned(), nodes.to_string()]),
        }
        if let Some(containerd) = &self.options.containerd {
            args.extend(["--containerd".to_owned(), containerd.display().to_string()]);
        }
        args
    }

    /// Brings an image into every node.
    pub async fn load(&self, archive: &Path) -> anyhow::Result<()> {
        self.dev(["load", &archive.to_string_lossy()]).await?;
        Ok(())
    }

    /// What there is of it.
    pub async fn status(&self) -> anyhow::Result<ClusterView> {
        let text = self.dev(["status", "--output", "json"]).await?;
        serde_json::from_str(&text).with_context(|| format!("not as promised: {text}"))
    }

    // The API

    /// Runs `kubectl` as the administrator; what it printed, or an error with its words.
    pub async fn kubectl<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> anyhow::Result<String> {
        let output = self.try_kubectl(args).await?;
        let words = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "kubectl: {}: {words}", output.status);
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Runs `kubectl` to whatever end it comes.
    pub async fn try_kubectl<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> anyhow::Result<Output> {
        let mut command = self.kubectl_command()?;
        command.args(args);
        programs::output(command, PATIENCE).await
    }

    /// `kubectl` as the administrator, to be run by the caller.
    pub fn kubectl_command(&self) -> anyhow::Result<Command> {
        server::kubectl_command(&self.kubeconfig(), &self.base.join("home"))
    }

    /// A client as the administrator.
    pub async fn client(&self) -> anyhow::Result<kube::Client> {
        let file = kube::config::Kubeconfig::read_from(self.kubeconfig())?;
        let config = kube::Config::from_custom_kubeconfig(file, &kube::config::KubeConfigOptions::default()).await?;
        Ok(kube::Client::try_from(config)?)
    }

    // The machines

    /// A node, counted from 1.
    pub fn node(&self, number: u8) -> ClusterNode<'_> {
        ClusterNode::new(self, &format!("node-{number}"))
    }

    /// SIGKILL to the server.
    pub async fn kill_server(&self) -> anyhow::Result<()> {
        signal(self.status().await?.server.pid, Signal::SIGKILL).context("killing the server")
    }

    // The end

    /// Takes the cluster down and looks for what is left of it.
    pub async fn finish(mut self) -> anyhow::Result<()> {
        self.dev(["down"]).await?;
        self.is_gone().await;
        self.good = true;
        Ok(())
    }

    /// Waits until nothing of the cluster is left. The kernel lets go of a namespace some time after its last user.
    pub async fn is_gone(&self) {
        eventually(PATIENCE, "nothing of the cluster is left", async || {
            let left = self.left()?;
            ensure!(left.is_empty(), "{left:#?}");
            Ok(())
        })
        .await;
    }

    /// All that there is of the cluster on the machine, one line each.
    pub fn left(&self) -> anyhow::Result<Vec<String>> {
        let scope = Scope {
            dir: self.dir().to_owned(),
            cgroup: self.layout.cgroup(),
        };
        let mut left: Vec<String> = scope.processes().iter().map(|process| format!("{process:?}")).collect();
        left.extend(scope.mounts().iter().map(|mount| format!("mount {}", mount.display())));
        left.extend(
            scope
                .cgroups()
                .iter()
                .map(|cgroup| format!("cgroup {}", cgroup.display())),
        );
        let links = fs::read_to_string("/proc/net/dev")?;
        let link = self.layout.host_link();
        left.extend(links.contains(&link).then(|| format!("link {link}")));
        for dir in [self.dir(), &self.layout.run()] {
            left.extend(dir.exists().then(|| format!("directory {}", dir.display())));
        }
        Ok(left)
    }

    /// Copies what the programs said to where it outlives the cluster; says where.
    fn keep_logs(&self) -> anyhow::Result<PathBuf> {
        let test = thread::current().name().unwrap_or("test").replace("::", "-");
        let kept = programs::repository().join("target/logs").join(test);
        fs::create_dir_all(&kept)?;
        let mut logs = vec![("server".to_owned(), self.layout.server_log())];
        for number in 1..=self.options.nodes {
            let places = self.layout.node(&format!("node-{number}"));
            logs.push((format!("{}-agent", places.name), places.agent_log()));
            logs.push((format!("{}-containerd", places.name), places.containerd_log()));
        }
        for (name, log) in logs.iter().filter(|(_, log)| log.exists()) {
            fs::copy(log, kept.join(format!("{name}.log")))?;
        }
        Ok(kept)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if !self.good {
            match self.keep_logs() {
                Ok(kept) => eprintln!("--- what the cluster's programs said: {}", kept.display()),
                Err(error) => eprintln!("--- the logs could not be kept: {error:#}"),
            }
            take_down(self.dir());
        }
        let _ = fs::remove_dir_all(&self.base);
    }
}

/// SIGKILL and the like to a process that `status` told of.
fn signal(pid: Option<i32>, signal: Signal) -> anyhow::Result<()> {
    kill(Pid::from_raw(pid.context("it does not run")?), signal)?;
    Ok(())
}

/// Takes a cluster down without a runtime, for a drop and for those of test processes that were killed.
#[expect(clippy::disallowed_methods, reason = "a drop has no async to wait in")]
fn take_down(dir: &Path) {
    let Ok(program) = programs::built("bosun") else { return };
    let mut command = std::process::Command::new(program);
    command.args(["dev", "down", "--dir"]).arg(dir);
    match command.stdin(Stdio::null()).output() {
        Ok(output) if output.status.success() => {}
        Ok(output) => eprintln!("left behind: {}", String::from_utf8_lossy(&output.stderr)),
        Err(error) => eprintln!("left behind: {}: {error}", dir.display()),
    }
}

/// Takes down the clusters of test processes that are no more.
async fn sweep() {
    let entries = fs::read_dir(env::temp_dir()).into_iter().flatten().flatten();
    for entry in entries {
        let name = entry.file_name();
        let dead = name
            .to_str()
            .and_then(owner)
            .is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists());
        if dead {
            let base = entry.path();
            let _ = tokio::task::spawn_blocking(move || {
                take_down(&base.join("c"));
                fs::remove_dir_all(&base)
            })
            .await;
        }
    }
}

/// The test process that made a folder of this name.
fn owner(name: &str) -> Option<u32> {
    let (pid, number) = name.strip_prefix(PREFIX)?.split_once('-')?;
    number.parse::<u32>().ok()?;
    pid.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_folders_of_tests_have_an_owner() {
        assert_eq!(owner("bosun-test-cluster-123-4"), Some(123));
        for name in ["bosun-test-123-4", "bosun-test-cluster-123", "bosun-test-cluster-x-1"] {
            assert_eq!(owner(name), None, "{name}");
        }
    }
}
