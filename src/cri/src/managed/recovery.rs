//! What a containerd that just started has lost.
//!
//! While its CRI plugin recovers, it begins to wait for a container's end before it knows the container: an end in
//! between is dropped, and to CRI the container runs for ever (seen with 1.6; 2.x recovers in the same order). It can
//! be neither stopped nor removed then. The next start finds it ended, as it should.

use std::{collections::BTreeSet, time::Duration};

use tokio::time::{sleep, timeout};
use tracing::debug;

use crate::{CriClient, ErrorKind, Runtime, native::stopped_tasks, runtime::Result, v1};

/// Between two looks: far longer than CRI takes to note an end that it has heard of.
const PERIOD: Duration = Duration::from_secs(5);

/// Looks after the first: an end that fell into the recovery may take its time to become a task's that has stopped.
const LOOKS: usize = 3;

/// How long CRI may take to answer after a start, and the looks.
const READY_DEADLINE: Duration = Duration::from_mins(2);

/// The containers and sandboxes that have ended and that CRI will take to run for ever.
pub(super) async fn lost_exits(client: &CriClient) -> BTreeSet<String> {
    let looked = async {
        ready(client).await?;
        let mut before = unnoted(client).await?;
        for _ in 0..LOOKS {
            sleep(PERIOD).await;
            let now = unnoted(client).await?;
            let lost: BTreeSet<_> = now.intersection(&before).cloned().collect();
            if !lost.is_empty() {
                return Ok(lost);
            }
            before = now;
        }
        Ok(BTreeSet::new())
    };
    let found: Result<_> = timeout(READY_DEADLINE, looked)
        .await
        .unwrap_or_else(|_| Ok(BTreeSet::new()));
    // What can't be seen can't be mended; the caller's own calls will tell.
    found
        .inspect_err(|error| debug!(%error, "can't see whether containerd lost any exits"))
        .unwrap_or_default()
}

async fn ready(client: &CriClient) -> Result<()> {
    loop {
        match client.status().await {
            Err(error) if error.kind == ErrorKind::Unavailable => sleep(Duration::from_millis(50)).await,
            other => return other.map(drop),
        }
    }
}

/// What has ended and is listed as running, now.
async fn unnoted(client: &CriClient) -> Result<BTreeSet<String>> {
    let tasks = stopped_tasks(client.channel()).await;
    let stopped: BTreeSet<_> = tasks
        .map_err(|status| client.error("ListTasks", &status))?
        .into_iter()
        .map(|task| task.container_id)
        .collect();
    if stopped.is_empty() {
        return Ok(stopped);
    }
    let containers = client.list_containers(None).await?.into_iter();
    let running = containers
        .filter(|c| c.state() == v1::ContainerState::ContainerRunning)
        .map(|c| c.id);
    let sandboxes = client.list_sandboxes(None).await?.into_iter();
    let ready = sandboxes
        .filter(|s| s.state() == v1::PodSandboxState::SandboxReady)
        .map(|s| s.id);
    Ok(running.chain(ready).filter(|id| stopped.contains(id)).collect())
}
