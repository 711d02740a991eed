//! A control plane: the built `bosun server` in a folder of its own, on a free port of the loopback interface.

use std::{
    fs::{self, File},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Output, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context, bail, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    time::timeout,
};

mod client;

pub use client::{Client, Reply};

use crate::{PATIENCE, programs};

/// What a test may want of its server beside the usual.
#[derive(Clone, Debug, Default)]
pub struct ServerOptions {
    /// More flags.
    pub flags: Vec<String>,
    /// The data directory is a file system of its own of so many MiB, which lasts as long as the process.
    pub disk: Option<u32>,
    /// The keys and certificates of another server, whose cluster this one belongs to.
    pub keys_of: Option<PathBuf>,
}

/// A server under test. Dropping it ends it by force and removes its folder.
#[derive(Debug)]
pub struct Server {
    dir: TempDir,
    options: ServerOptions,
    process: Option<Child>,
    address: Option<SocketAddr>,
}

impl Server {
    /// One that is ready.
    pub async fn start() -> anyhow::Result<Self> {
        Self::with(ServerOptions::default()).await
    }

    /// One with these options that is ready.
    pub async fn with(options: ServerOptions) -> anyhow::Result<Self> {
        let mut server = Self {
            dir: tempfile::Builder::new().prefix("bosun-server-").tempdir()?,
            options,
            process: None,
            address: None,
        };
        if let Some(other) = &server.options.keys_of {
            copy(&other.join("server/pki"), &server.data_dir().join("server/pki"))?;
        }
        server.run().await?;
        Ok(server)
    }

    /// Starts the process and waits until it says that it is ready.
    pub async fn run(&mut self) -> anyhow::Result<()> {
        ensure!(self.process.is_none(), "the server runs already");
        let log = File::options().create(true).append(true).open(self.log())?;
        // The same port again, as after a machine's restart.
        let port = self.address.map_or(0, |address| address.port());
        let mut command = self.program()?;
        command
            .args(["server", "--api-only", "--bind", "127.0.0.1"])
            .args(["--port", &port.to_string()])
            .arg("--data-dir")
            .arg(self.data_dir())
            .arg("--write-kubeconfig")
            .arg(self.kubeconfig())
            .args(&self.options.flags)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .kill_on_drop(true);
        let mut process = command.spawn().context("starting the server")?;
        let output = process.stdout.take().context("the server's output")?;
        let mut lines = BufReader::new(output).lines();
        let said = timeout(PATIENCE, lines.next_line()).await;
        self.process = Some(process);
        let said = said.with_context(|| format!("the server is not ready: {}", self.words(20)))??;
        let Some(line) = said else {
            bail!("the server ended: {}", self.words(20));
        };
        let url = line.split_whitespace().find_map(|word| word.strip_prefix("https://"));
        let address = url.with_context(|| format!("the ready line names no address: {line:?}"))?;
        self.address = Some(address.trim_end_matches(',').parse()?);
        Ok(())
    }

    /// The program, if need be with a disk of its own: in a mount namespace, for which nobody must be root.
    fn program(&self) -> anyhow::Result<Command> {
        let program = programs::built("bosun")?;
        let Some(size) = self.options.disk else {
            return Ok(command(&program));
        };
        fs::create_dir_all(self.data_dir())?;
        let script = format!("mount -t tmpfs -o size={size}m,mode=700 bosun-test \"$0\" && exec \"$@\"");
        let mut unshare = command(Path::new("unshare"));
        unshare
            .args(["--user", "--map-root-user", "--mount", "sh", "-c", &script])
            .arg(self.data_dir())
            .arg(program);
        Ok(unshare)
    }

    /// The data directory as the server sees it.
    pub fn seen_data_dir(&self) -> anyhow::Result<PathBuf> {
        let pid = self.pid().context("the server does not run")?;
        let inside = self.data_dir();
        Ok(Path::new(&format!("/proc/{pid}/root")).join(inside.strip_prefix("/").unwrap_or(&inside)))
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address.expect("a server that ran once has an address")
    }

    /// `--data-dir`.
    pub fn data_dir(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// A place for the test's own files.
    pub fn file(&self, name: &str, content: &str) -> anyhow::Result<PathBuf> {
        let path = self.dir.path().join(name);
        fs::write(&path, content)?;
        Ok(path)
    }

    /// The administrator's kubeconfig.
    pub fn kubeconfig(&self) -> PathBuf {
        self.dir.path().join("kubeconfig")
    }

    /// A kubeconfig for the node of this name.
    pub async fn node_kubeconfig(&self, node: &str) -> anyhow::Result<PathBuf> {
        let mut command = command(&programs::built("bosun")?);
        command
            .args(["kubeconfig", "--group", "system:nodes", "--allow-system-user"])
            .args(["--user", &format!("system:node:{node}")])
            .args(["--server", &format!("https://{}", self.address())])
            .arg("--data-dir")
            .arg(self.data_dir());
        let output = programs::succeeding(command).await?;
        self.file(&format!("{node}.kubeconfig"), &String::from_utf8_lossy(&output.stdout))
    }

    /// Its process.
    pub fn pid(&self) -> Option<Pid> {
        self.process.as_ref()?.id().map(|pid| Pid::from_raw(pid as i32))
    }

    /// SIGKILL.
    pub async fn kill(&mut self) -> anyhow::Result<()> {
        let mut process = self.process.take().context("the server does not run")?;
        process.kill().await.context("killing the server")
    }

    /// SIGTERM, and its end.
    pub async fn stop(&mut self) -> anyhow::Result<()> {
        let mut process = self.process.take().context("the server does not run")?;
        if let Some(pid) = process.id() {
            kill(Pid::from_raw(pid as i32), Signal::SIGTERM)?;
        }
        let ended = timeout(PATIENCE, process.wait()).await;
        let status = ended.context("the server does not end on SIGTERM")??;
        ensure!(status.success(), "the server ended with {status}: {}", self.words(20));
        Ok(())
    }

    /// A client with the administrator's certificate.
    pub fn client(&self) -> anyhow::Result<Client> {
        Client::new(&self.kubeconfig(), self.address(), true)
    }

    /// A client without any.
    pub fn stranger(&self) -> anyhow::Result<Client> {
        Client::new(&self.kubeconfig(), self.address(), false)
    }

    /// Runs `kubectl` as the administrator; what it printed, or an error with its words.
    pub async fn kubectl<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> anyhow::Result<String> {
        let output = self.try_kubectl(args).await?;
        ensure!(
            output.status.success(),
            "kubectl: {}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
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
        kubectl_command(&self.kubeconfig(), self.dir.path())
    }

    /// All it has said.
    pub fn log_text(&self) -> String {
        fs::read_to_string(self.log()).unwrap_or_default()
    }

    fn log(&self) -> PathBuf {
        self.dir.path().join("server.log")
    }

    fn words(&self, lines: usize) -> String {
        let text = self.log_text();
        let all: Vec<&str> = text.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }

    /// What it holds in memory, files it has mapped included, in bytes (`VmRSS`).
    pub fn resident(&self) -> anyhow::Result<u64> {
        let pid = self.pid().context("the server does not run")?;
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.trim().split(' ').next()).context("VmRSS")?;
        Ok(kib.parse::<u64>()? << 10)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("--- the server's last words\n{}\n---", self.words(60));
        }
        // The process is killed when its handle is dropped.
    }
}

/// Copies a folder with all that is in it.
fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let to = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &to)?;
        } else {
            fs::copy(entry.path(), to)?;
        }
    }
    Ok(())
}

/// The machine's `kubectl`.
fn kubectl() -> anyhow::Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path)
        .map(|dir| dir.join("kubectl"))
        .find(|path| path.is_file());
    found.context("kubectl is not installed, which these tests drive: apt-get install kubernetes-client")
}

/// `kubectl` with this kubeconfig, which keeps what it remembers in `home`.
pub(crate) fn kubectl_command(kubeconfig: &Path, home: &Path) -> anyhow::Result<Command> {
    let mut command = command(&kubectl()?);
    command
        .env("KUBECONFIG", kubeconfig)
        .env("KUBECACHEDIR", home.join("kubectl-cache"))
        .env("HOME", home);
    Ok(command)
}

fn command(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.stdin(Stdio::null());
    command
}

/// How long a test may wait for what takes the server a moment.
pub const MOMENT: Duration = Duration::from_secs(10);
