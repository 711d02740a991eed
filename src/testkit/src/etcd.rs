//! Debian's etcd, on loopback, with its data in a folder of its own.

use std::{net::TcpListener, process::Stdio, time::Duration};

use anyhow::{Context, bail, ensure};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    process::{Child, Command},
    time::timeout,
};

use crate::{PATIENCE, eventually};

/// A running etcd of one member; it ends with this value.
#[derive(Debug)]
pub struct Etcd {
    _dir: TempDir,
    child: Child,
    address: String,
}

impl Etcd {
    /// Starts one and waits until it is healthy.
    pub async fn start() -> anyhow::Result<Self> {
        let dir = tempfile::tempdir()?;
        let address = || anyhow::Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string());
        let (client, peer) = (address()?, address()?);
        let mut command = Command::new("etcd");
        command.arg("--data-dir").arg(dir.path());
        for (flag, address) in [
            ("--listen-client-urls", &client),
            ("--advertise-client-urls", &client),
            ("--listen-peer-urls", &peer),
            ("--initial-advertise-peer-urls", &peer),
        ] {
            command.arg(flag).arg(format!("http://{address}"));
        }
        command.arg("--initial-cluster").arg(format!("default=http://{peer}"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command
            .kill_on_drop(true)
            .spawn()
            .context("starting etcd: apt-get install etcd-server")?;
        let etcd = Self {
            _dir: dir,
            child,
            address: client,
        };
        eventually(PATIENCE, "etcd is healthy", async || etcd.healthy().await).await;
        Ok(etcd)
    }

    /// Where clients reach it.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Ends it at once.
    pub async fn kill(&mut self) -> anyhow::Result<()> {
        Ok(self.child.kill().await?)
    }

    async fn healthy(&self) -> anyhow::Result<()> {
        let asked = timeout(Duration::from_secs(2), async {
            let mut stream = TcpStream::connect(&self.address).await?;
            stream.write_all(b"GET /health HTTP/1.0\r\nHost: etcd\r\n\r\n").await?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await?;
            anyhow::Ok(answer)
        });
        let Ok(answer) = asked.await else {
            bail!("no answer in time")
        };
        let answer = answer?;
        ensure!(answer.contains(r#""health":"true""#), "{answer}");
        Ok(())
    }
}
