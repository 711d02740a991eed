//! `bosun agent`.

use std::{fs, os::unix::fs::MetadataExt};

use anyhow::{Context, bail};
use sd_notify::NotifyState;
use tokio::{
    runtime,
    signal::unix::{SignalKind, signal},
};
use tracing::info;

use crate::{cli::AgentArgs, logs};

/// Threads that carry the agent's tasks: what takes time happens in the runtime and in the kernel.
const THREADS: usize = 2;

/// Runs the agent until a signal ends it. Pods run on.
pub(crate) fn run(args: &AgentArgs) -> anyhow::Result<()> {
    let host_name = fs::read_to_string("/proc/sys/kernel/hostname").context("reading the host name")?;
    let loaded = args.kubelet().context("the configuration can't be used")?;
    let settings = loaded.as_ref().map(|loaded| &loaded.settings);
    let config = args.config(&host_name, settings).map_err(anyhow::Error::msg)?;
    // Before anything is changed: whatever the agent does, it does as root.
    if fs::metadata("/proc/self").context("reading /proc/self")?.uid() != 0 {
        bail!(
            "the agent makes namespaces, mounts and cgroups, which only root may: start it with sudo, or as a service"
        );
    }
    logs::start();
    if let Some(warning) = loaded.and_then(|loaded| loaded.warning()) {
        tracing::warn!("{warning}");
    }
    let runtime = runtime::Builder::new_multi_thread()
        .worker_threads(THREADS)
        .enable_all()
        .build()?;
    let outcome = runtime.block_on(async {
        let mut end = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        tokio::select! {
            ended = bosun_node::agent::run(config, ready) => ended.map_err(anyhow::Error::from),
            _ = end.recv() => Ok(()),
            _ = interrupt.recv() => Ok(()),
        }
    });
    info!("the agent ends; pods run on");
    // A call to the runtime or the disk that hangs must not hold up the end.
    runtime.shutdown_background();
    outcome
}

/// Tells systemd, if it asked.
fn ready() {
    if let Err(error) = sd_notify::notify(&[NotifyState::Ready]) {
        tracing::warn!(%error, "systemd could not be told that the agent is ready");
    }
}
