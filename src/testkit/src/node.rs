//! A node: what a machine is to an agent, made of a namespace, a cgroup and a folder.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Stdio, id},
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::Duration,
};

use anyhow::{Context, bail, ensure};
use nix::{
    mount::{MsFlags, mount},
    sys::signal::{Signal, kill},
    unistd::{Pid, geteuid},
};
use tokio::{
    process::{Child, Command},
    time::timeout,
};

mod runtime;
mod user;

use crate::{
    Footprint, PATIENCE, Server, eventually,
    netns::Netns,
    proc::Scope,
    programs,
    teardown::{PREFIX, sweep, teardown},
    tunnel::Tunnel,
};

/// What a test may want of its node beside the usual.
#[derive(Clone, Debug)]
pub struct Options {
    /// The node's name.
    pub name: String,
    /// The range pods get their addresses from.
    pub pod_cidr: String,
    /// How often the agent looks for exits it was not told of; `0` for never, so that a lost event shows.
    pub audit_interval: String,
    /// The longest wait before a container that keeps ending is started again.
    pub longest_back_off: String,
    /// The data folder as a file system of its own, of this size (as `mount -o size=`).
    pub data_size: Option<&'static str>,
    /// `managed`, or the socket of a containerd that the test runs.
    pub runtime_endpoint: String,
    /// Another containerd program.
    pub containerd: Option<PathBuf>,
    /// Whether the demo's image is imported before the test begins.
    pub import_demo: bool,
    /// Environment of the agent.
    pub env: Vec<(String, String)>,
    /// More flags of the agent.
    pub flags: Vec<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            name: "n1".into(),
            pod_cidr: "10.88.0.0/24".into(),
            audit_interval: "0".into(),
            longest_back_off: "2s".into(),
            data_size: None,
            runtime_endpoint: "managed".into(),
            containerd: None,
            import_demo: true,
            env: Vec::new(),
            flags: Vec::new(),
        }
    }
}

/// A node under test. [`Node::finish`] has the agent take everything away, and checks. Dropping it without, as a test that
/// fails does, takes everything away by force and keeps the logs.
#[derive(Debug)]
pub struct Node {
    options: Options,
    scope: Scope,
    netns: Netns,
    agent: Option<Child>,
    tunnel: Option<Tunnel>,
    baseline: Footprint,
    /// Whether its logs are of no interest: it ended as it should.
    good: bool,
}

impl Node {
    /// A node with the usual options, its agent running, the demo's image imported.
    pub async fn start() -> anyhow::Result<Self> {
        Self::with(Options::default()).await
    }

    /// A node with its agent running.
    pub async fn with(options: Options) -> anyhow::Result<Self> {
        let mut node = Self::prepare(options).await?;
        node.start_agent().await?;
        if node.options.import_demo {
            node.import(&programs::demo_archive()?).await?;
            node.baseline = Footprint::of(&node).await?;
        }
        Ok(node)
    }

    /// A node of a server's cluster with its agent running, as the user that nodes are.
    pub async fn of(server: &Server, mut options: Options) -> anyhow::Result<Self> {
        let kubeconfig = server.node_kubeconfig(&options.name).await?;
        options
            .flags
            .extend(["--kubeconfig".to_owned(), kubeconfig.display().to_string()]);
        let mut node = Self::prepare(options).await?;
        node.reach(server)?;
        node.start_agent().await?;
        if node.options.import_demo {
            node.import(&programs::demo_archive()?).await?;
            node.baseline = Footprint::of(&node).await?;
        }
        Ok(node)
    }

    /// From now on the node reaches the server.
    pub fn reach(&mut self, server: &Server) -> anyhow::Result<()> {
        self.tunnel = None;
        self.tunnel = Some(Tunnel::open(&self.netns, server.address())?);
        Ok(())
    }

    /// From now on it reaches no server; connections that there are break.
    pub fn cut_off(&mut self) {
        self.tunnel = None;
    }

    /// A node whose agent was not started yet.
    pub async fn prepare(options: Options) -> anyhow::Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        ensure!(
            geteuid().is_root(),
            "this test runs containers, so it needs root: sudo -E env \"PATH=$PATH\" ./hack/test --tier 4"
        );
        sweep();
        let name = format!("{PREFIX}{}-{}", id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let scope = Scope {
            dir: std::env::temp_dir().join(&name),
            cgroup: format!("/{name}"),
        };
        let netns = Netns::new().await?;
        let node = Self {
            options,
            scope,
            netns,
            agent: None,
            tunnel: None,
            good: false,
            baseline: Footprint::default(),
        };
        for dir in [
            node.manifest_dir(),
            node.data_dir(),
            node.root_dir(),
            node.log_dir(),
            node.run_dir(),
        ] {
            fs::create_dir_all(&dir).with_context(|| format!("making {}", dir.display()))?;
        }
        if let Some(size) = node.options.data_size {
            let data = Some(format!("size={size}"));
            mount(
                Some("tmpfs"),
                &node.data_dir(),
                Some("tmpfs"),
                MsFlags::empty(),
                data.as_deref(),
            )
            .with_context(|| format!("mounting {}", node.data_dir().display()))?;
        }
        Ok(node)
    }

    // Places

    /// The node's folder.
    pub fn dir(&self) -> &Path {
        &self.scope.dir
    }

    /// Where manifests are put.
    pub fn manifest_dir(&self) -> PathBuf {
        self.dir().join("manifests")
    }

    /// `--data-dir`.
    pub fn data_dir(&self) -> PathBuf {
        self.dir().join("data")
    }

    /// `--root-dir`.
    pub fn root_dir(&self) -> PathBuf {
        self.dir().join("root")
    }

    /// `--log-dir`.
    pub fn log_dir(&self) -> PathBuf {
        self.dir().join("log")
    }

    /// `--run-dir`.
    pub fn run_dir(&self) -> PathBuf {
        self.dir().join("run")
    }

    /// `--cni-conf-dir`.
    pub fn cni_conf_dir(&self) -> PathBuf {
        self.dir().join("cni/conf")
    }

    /// `--cni-bin-dir`.
    pub fn cni_bin_dir(&self) -> PathBuf {
        self.dir().join("cni/bin")
    }

    /// `--cgroup-root`.
    pub fn cgroup_root(&self) -> &str {
        &self.scope.cgroup
    }

    /// The network namespace.
    pub fn netns(&self) -> &Netns {
        &self.netns
    }

    /// What is this node's on the machine.
    pub fn scope(&self) -> &Scope {
        &self.scope
    }

    // The agent's life

    /// Starts the agent and waits until it answers.
    pub async fn start_agent(&mut self) -> anyhow::Result<()> {
        self.spawn_agent()?;
        self.answers().await
    }

    /// Starts the agent, not waiting for it.
    pub fn spawn_agent(&mut self) -> anyhow::Result<()> {
        ensure!(self.agent.is_none(), "the agent runs already");
        let log = File::options().create(true).append(true).open(self.agent_log())?;
        let mut command = self.bosun("agent")?;
        for (flag, dir) in [
            ("--manifest-dir", self.manifest_dir()),
            ("--data-dir", self.data_dir()),
            ("--root-dir", self.root_dir()),
            ("--log-dir", self.log_dir()),
            ("--run-dir", self.run_dir()),
            ("--cni-conf-dir", self.cni_conf_dir()),
            ("--cni-bin-dir", self.cni_bin_dir()),
        ] {
            command.arg(flag).arg(dir);
        }
        for (flag, value) in [
            ("--node-name", self.options.name.as_str()),
            ("--pod-cidr", &self.options.pod_cidr),
            ("--cgroup-root", self.cgroup_root()),
            ("--audit-interval", &self.options.audit_interval),
            ("--max-container-restart-period", &self.options.longest_back_off),
            ("--runtime-endpoint", &self.options.runtime_endpoint),
        ] {
            command.arg(flag).arg(value);
        }
        command.args(&self.options.flags);
        if let Some(containerd) = &self.options.containerd {
            command.arg("--containerd").arg(containerd);
        }
        command
            .env(
                "RUST_LOG",
                "info,bosun=debug,bosun_node=debug,bosun_cri=debug,bosun_net=debug",
            )
            .envs(self.options.env.iter().cloned());
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        self.agent = Some(command.spawn().context("starting the agent")?);
        Ok(())
    }

    /// Has the next agent speak to this runtime.
    pub fn set_runtime_endpoint(&mut self, endpoint: &str) {
        endpoint.clone_into(&mut self.options.runtime_endpoint);
    }

    /// Waits until the agent answers, or fails as soon as it has ended.
    pub async fn answers(&mut self) -> anyhow::Result<()> {
        let start = tokio::time::Instant::now();
        loop {
            let Err(error) = self.pods().await else { return Ok(()) };
            if let Some(agent) = &mut self.agent
                && let Some(status) = agent.try_wait()?
            {
                self.agent = None;
                bail!("the agent ended, {status}: {}", self.agent_words(20));
            }
            if start.elapsed() > PATIENCE {
                bail!("the agent does not answer: {error:#}: {}", self.agent_words(20));
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
    }

    /// SIGKILL to the agent.
    pub async fn kill_agent(&mut self) -> anyhow::Result<()> {
        let mut agent = self.agent.take().context("the agent does not run")?;
        agent.kill().await.context("killing the agent")
    }

    /// SIGTERM to the agent, and its end.
    pub async fn stop_agent(&mut self) -> anyhow::Result<()> {
        let mut agent = self.agent.take().context("the agent does not run")?;
        if let Some(pid) = agent.id() {
            kill(Pid::from_raw(pid as i32), Signal::SIGTERM)?;
        }
        let ended = timeout(PATIENCE, agent.wait()).await;
        ended
            .context("the agent does not end on SIGTERM")?
            .context("waiting for the agent")?;
        Ok(())
    }

    /// SIGKILL, and a new agent that answers.
    pub async fn restart_agent(&mut self) -> anyhow::Result<()> {
        self.kill_agent().await?;
        self.start_agent().await
    }

    /// The agent's process.
    pub fn agent_pid(&self) -> Option<Pid> {
        self.agent.as_ref()?.id().map(|pid| Pid::from_raw(pid as i32))
    }

    /// All the agent said so far.
    pub fn agent_log_text(&self) -> String {
        fs::read_to_string(self.agent_log()).unwrap_or_default()
    }

    /// The file that the agent logs to.
    pub fn agent_log(&self) -> PathBuf {
        self.dir().join("agent.log")
    }

    fn agent_words(&self, lines: usize) -> String {
        let text = self.agent_log_text();
        let all: Vec<&str> = text.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }

    // The end

    /// Takes every manifest away, waits until no pod is left and nothing of one remains anywhere, then stops it all.
    pub async fn finish(mut self) -> anyhow::Result<()> {
        self.remove_all()?;
        self.clean().await;
        self.kill_agent().await?;
        let failures = teardown(&self.scope);
        ensure!(failures.is_empty(), "left behind: {failures:#?}");
        self.good = true;
        Ok(())
    }

    /// Takes everything away by force, for whoever knows that all is well.
    pub fn discard(mut self) {
        self.good = true;
    }

    /// Waits until the node holds nothing more than at its start.
    pub async fn clean(&self) {
        eventually(PATIENCE, "no pod is left", async || {
            let list = self.pods().await?;
            let left: Vec<_> = list
                .pods()
                .map(|pod| (pod.name().to_owned(), pod.phase().to_owned()))
                .collect();
            ensure!(left.is_empty(), "{left:?}");
            Ok(())
        })
        .await;
        eventually(PATIENCE, "nothing of the pods is left", async || {
            let leaks = Footprint::of(self).await?.grown_since(&self.baseline);
            ensure!(leaks.is_empty(), "{leaks:#?}");
            Ok(())
        })
        .await;
    }

    /// Copies what agent and containerd said to where it outlives the node; says where.
    fn keep_logs(&self) -> anyhow::Result<PathBuf> {
        let test = thread::current().name().unwrap_or("test").replace("::", "-");
        let kept = programs::repository().join("target/logs").join(test);
        fs::create_dir_all(&kept)?;
        for log in [self.agent_log(), self.data_dir().join("containerd.log")] {
            if let Some(name) = log.file_name() {
                fs::copy(&log, kept.join(name))?;
            }
        }
        Ok(kept)
    }

    fn bosun(&self, subcommand: &str) -> anyhow::Result<Command> {
        let program = programs::built("bosun")?;
        Ok(self.netns.command(&program.to_string_lossy(), [subcommand]))
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if !self.good {
            let kept = self.keep_logs().unwrap_or_default();
            eprintln!(
                "--- the agent's last words (all of them: {})\n{}\n---",
                kept.display(),
                self.agent_words(60)
            );
        }
        for failure in teardown(&self.scope) {
            eprintln!("left behind: {failure}");
        }
    }
}
