//! A `bosun server` of a row's own.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use bosun_testkit::{PATIENCE, eventually};
use bytes::Bytes;
use http::Method;

use crate::api::{Access, Client};

pub(super) struct Server(bosun_testkit::Server);

impl Server {
    /// Starts one and waits until it is ready.
    pub(super) async fn start() -> anyhow::Result<Self> {
        Ok(Self(bosun_testkit::Server::start().await?))
    }

    /// Kills it, starts it again on its data, and tells how long it took from there to its readiness.
    pub(super) async fn restart(&mut self) -> anyhow::Result<Duration> {
        self.0.kill().await?;
        let begun = Instant::now();
        self.0.run().await?;
        eventually(PATIENCE, "it says so at /readyz", async || {
            let mut client = self.client().await?;
            client.expect(Method::GET, "/readyz", Bytes::new()).await
        })
        .await;
        Ok(begun.elapsed())
    }

    /// How to reach it.
    pub(super) fn access(&self) -> anyhow::Result<Access> {
        Access::read(&self.0.kubeconfig())
    }

    /// A connection of its own.
    pub(super) async fn client(&self) -> anyhow::Result<Client> {
        self.access()?.connect().await
    }

    /// What it holds in memory, in MiB.
    pub(super) fn resident(&self) -> anyhow::Result<f64> {
        Ok(self.0.resident()? as f64 / f64::from(1 << 20))
    }

    /// The size of its store's files, in bytes.
    pub(super) fn stored(&self) -> anyhow::Result<u64> {
        size(&self.0.data_dir().join("server/store"))
    }
}

/// All files below a folder, in bytes.
fn size(dir: &Path) -> anyhow::Result<u64> {
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
