//! An etcd of the test's own, on loopback.

use std::{net::TcpListener, process::Stdio, time::Duration};

use anyhow::{Context as _, bail};
use bosun_store::{Etcd, etcd::Options};
use tokio::{
    process::{Child, Command},
    time::Instant,
};

use crate::contract::PATIENCE;

/// A running server; it ends, and its data with it, when this is dropped.
pub(crate) struct Server {
    pub(crate) url: String,
    child: Child,
    peer: String,
    dir: tempfile::TempDir,
}

/// A port that was free a moment ago.
fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

fn spawn(dir: &tempfile::TempDir, url: &str, peer: &str) -> anyhow::Result<Child> {
    let mut command = Command::new("etcd");
    command
        .arg("--data-dir")
        .arg(dir.path().join("etcd"))
        .args(["--listen-client-urls", url, "--advertise-client-urls", url])
        .args(["--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer])
        .args(["--initial-cluster", &format!("default={peer}")])
        .args(["--logger", "zap", "--log-level", "error"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true);
    command
        .spawn()
        .context("starting etcd, which these tests need: install the Debian package etcd-server")
}

impl Server {
    /// Starts one and waits until it answers.
    pub(crate) async fn start() -> anyhow::Result<Self> {
        // Another program may take a port between the look and the use.
        for _ in 0..5 {
            let url = format!("http://127.0.0.1:{}", free_port()?);
            let peer = format!("http://127.0.0.1:{}", free_port()?);
            let dir = tempfile::tempdir()?;
            let child = spawn(&dir, &url, &peer)?;
            let mut server = Self { url, child, peer, dir };
            if server.answers().await? {
                return Ok(server);
            }
        }
        bail!("etcd ended five times while it started")
    }

    /// Waits for an answer; whether it lives.
    async fn answers(&mut self) -> anyhow::Result<bool> {
        let start = Instant::now();
        loop {
            if self.child.try_wait()?.is_some() {
                return Ok(false);
            }
            let options = etcd_client::ConnectOptions::new().with_timeout(Duration::from_secs(1));
            let mut client = etcd_client::Client::connect([&self.url], Some(options)).await?;
            match client.get("x", None).await {
                Ok(_) => return Ok(true),
                Err(error) if start.elapsed() > PATIENCE => bail!("etcd does not answer: {error}"),
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }

    /// Kills it, as a crash would.
    pub(crate) async fn kill(&mut self) -> anyhow::Result<()> {
        Ok(self.child.kill().await?)
    }

    /// Starts it again on what it had stored.
    pub(crate) async fn revive(&mut self) -> anyhow::Result<()> {
        self.child = spawn(&self.dir, &self.url, &self.peer)?;
        if self.answers().await? {
            return Ok(());
        }
        bail!("etcd did not start again")
    }

    pub(crate) fn options(&self) -> Options {
        Options {
            progress: Duration::from_millis(300),
            watch_queue: 64,
            ..Options::new([&self.url])
        }
    }

    pub(crate) async fn store(&self) -> anyhow::Result<std::sync::Arc<Etcd>> {
        Ok(Etcd::open(self.options()).await?)
    }
}
