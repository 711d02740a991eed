//! A `bosun server` of a row's own, on loopback, in a folder of its own.

use std::{
    fs::File,
    net::TcpListener,
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use bosun_testkit::programs;
use nix::unistd::{Pid, SysconfVar, sysconf};
use tempfile::TempDir;
use tokio::{
    process::{Child, Command},
    time::sleep,
};

use crate::api::{Access, Client};

/// How long it may take until it answers.
const READY: Duration = Duration::from_secs(60);

pub(super) struct Server {
    dir: TempDir,
    port: u16,
    child: Child,
}

impl Server {
    /// Starts one and waits until it is ready.
    pub(super) async fn start() -> anyhow::Result<Self> {
        let dir = tempfile::tempdir()?;
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let child = spawn(dir.path(), port)?;
        let mut server = Self { dir, port, child };
        server.ready().await?;
        Ok(server)
    }

    /// Kills it, starts it again on its data, and tells how long it took from there to its readiness.
    pub(super) async fn restart(&mut self) -> anyhow::Result<Duration> {
        self.child.kill().await?;
        let begun = Instant::now();
        self.child = spawn(self.dir.path(), self.port)?;
        self.ready().await?;
        Ok(begun.elapsed())
    }

    async fn ready(&mut self) -> anyhow::Result<()> {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait()? {
                let log = std::fs::read_to_string(self.dir.path().join("server.log")).unwrap_or_default();
                bail!("the server ended, {status}: {log}");
            }
            let answer = async {
                let mut client = self.client().await?;
                client.expect(http::Method::GET, "/readyz", bytes::Bytes::new()).await
            };
            match answer.await {
                Ok(_) => return Ok(()),
                Err(error) if begun.elapsed() > READY => return Err(error.context("the server is not ready")),
                Err(_) => sleep(Duration::from_millis(2)).await,
            }
        }
    }

    /// How to reach it.
    pub(super) fn access(&self) -> anyhow::Result<Access> {
        Access::read(&kubeconfig(self.dir.path()))
    }

    /// A connection of its own.
    pub(super) async fn client(&self) -> anyhow::Result<Client> {
        self.access()?.connect().await
    }

    /// What it holds in memory, in MiB.
    pub(super) fn resident(&self) -> anyhow::Result<f64> {
        let pid = Pid::from_raw(self.child.id().context("the server has ended")? as i32);
        let statm = std::fs::read_to_string(format!("/proc/{pid}/statm"))?;
        let pages: f64 = statm.split(' ').nth(1).context("no resident pages")?.parse()?;
        let page = sysconf(SysconfVar::PAGE_SIZE)?.context("no page size")?;
        Ok(pages * page as f64 / f64::from(1 << 20))
    }

    /// The size of its store's files, in bytes.
    pub(super) fn stored(&self) -> anyhow::Result<u64> {
        size(&self.dir.path().join("data/server/store"))
    }
}

fn kubeconfig(dir: &Path) -> PathBuf {
    dir.join("kubeconfig")
}

fn spawn(dir: &Path, port: u16) -> anyhow::Result<Child> {
    let log = File::options().create(true).append(true).open(dir.join("server.log"))?;
    let mut command = Command::new(programs::built("bosun")?);
    command.args([
        "server",
        "--no-agent",
        "--bind",
        "127.0.0.1",
        "--advertise-address",
        "127.0.0.1",
    ]);
    command.arg("--port").arg(port.to_string());
    command.arg("--data-dir").arg(dir.join("data"));
    command.arg("--write-kubeconfig").arg(kubeconfig(dir));
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    command.kill_on_drop(true).spawn().context("starting the server")
}

/// All files below a folder, in bytes.
pub(super) fn size(dir: &Path) -> anyhow::Result<u64> {
    let mut total = 0;
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        total += if metadata.is_dir() {
            size(&entry.path())?
        } else {
            metadata.len()
        };
    }
    Ok(total)
}
