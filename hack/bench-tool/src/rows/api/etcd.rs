//! Debian's etcd, on loopback, with its data in a folder of its own.

use std::{
    net::TcpListener,
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::Context;
use etcd_client::Client;
use tempfile::TempDir;
use tokio::{
    process::{Child, Command},
    time::sleep,
};

const READY: Duration = Duration::from_secs(30);

pub(super) struct Etcd {
    #[expect(dead_code, reason = "held for its end")]
    dir: TempDir,
    #[expect(dead_code, reason = "held for its end")]
    child: Child,
    endpoint: String,
}

impl Etcd {
    /// Starts one and waits until it answers.
    pub(super) async fn start() -> anyhow::Result<Self> {
        let dir = tempfile::tempdir()?;
        let url = || anyhow::Ok(format!("http://{}", TcpListener::bind("127.0.0.1:0")?.local_addr()?));
        let (client, peer) = (url()?, url()?);
        let mut command = Command::new("etcd");
        command.arg("--data-dir").arg(dir.path());
        for (flag, url) in [
            ("--listen-client-urls", &client),
            ("--advertise-client-urls", &client),
            ("--listen-peer-urls", &peer),
            ("--initial-advertise-peer-urls", &peer),
        ] {
            command.arg(flag).arg(url);
        }
        command.arg("--initial-cluster").arg(format!("default={peer}"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command
            .kill_on_drop(true)
            .spawn()
            .context("starting etcd: apt-get install etcd-server")?;
        let etcd = Self {
            dir,
            child,
            endpoint: client,
        };
        let begun = Instant::now();
        loop {
            let answer = async {
                etcd.client()
                    .await?
                    .get("ready", None)
                    .await
                    .map_err(anyhow::Error::from)
            };
            match answer.await {
                Ok(_) => return Ok(etcd),
                Err(error) if begun.elapsed() > READY => return Err(error.context("etcd does not answer")),
                Err(_) => sleep(Duration::from_millis(50)).await,
            }
        }
    }

    /// A connection of its own.
    pub(super) async fn client(&self) -> anyhow::Result<Client> {
        Ok(Client::connect([&self.endpoint], None).await?)
    }
}
