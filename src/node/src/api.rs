//! The agent as a node of a Kubernetes control plane, whichever it is.
//!
//! ```text
//!                      ┌─ register, node ──── Node object and its status, its own pod ranges ──▶ agent (network)
//!                      ├─ heartbeat ───────── Lease
//!  control plane ◀──▶ ─┼─ pods ─── watch by node name ──PodEvent──▶ manager
//!                      │    └──── objects of mirror pods ──▶ status
//!                      ├─ status ◀── node::Board (what the workers know, newest only)
//!                      └─ supply ──▶ pod::worker (objects by watch, tokens); events ◀── pod::worker
//! ```
//!
//! Each is a task of its own that survives whatever the control plane answers: it says so once, waits longer each time,
//! and goes on. Pods need none of them to run on.
//!
//! Pure: [`register::node_object`], [`register::adopt`], [`node_status`], [`patch`], [`status::plan`], [`mirror::Mirrors`].

pub mod heartbeat;
pub mod mirror;
pub mod node;
pub mod node_status;
pub mod objects;
pub mod patch;
pub mod pods;
pub mod register;
pub mod services;
pub mod status;
pub mod supply;
pub mod tokens;

use std::{sync::Arc, time::Duration};

use bosun_client::{CallError, backoff::Backoff};

use bosun_net::cidr::Cidr;
use kube::Client;
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
};

use self::supply::Supply;
use crate::{config::ClusterConfig, facts::machine::Machine, node::Node, source::PodEvent};

/// What the tasks share.
#[derive(Clone)]
pub struct Api {
    /// Speaks to the control plane as this node.
    pub client: Client,
    /// What the node's pods share.
    pub node: Arc<Node>,
    /// What this node was told at its start.
    pub config: Arc<ClusterConfig>,
    /// What the machine is.
    pub machine: Arc<Machine>,
    /// What pods have of the control plane.
    pub supply: Arc<Supply>,
}

impl std::fmt::Debug for Api {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Api").field("node", &self.node).finish_non_exhaustive()
    }
}

/// How long to wait before trying again what failed like this: at least as long as the control plane asks.
fn delay(backoff: &mut Backoff, error: &CallError) -> Duration {
    backoff.failed().max(error.retry_after().unwrap_or_default())
}

/// What the tasks tell the agent.
#[derive(Debug)]
pub struct Told {
    /// News of pods that the control plane wants here.
    pub pod_tx: mpsc::Sender<PodEvent>,
    /// The ranges that the control plane gave this node for its pods; empty while there are none. `None` before the node
    /// is registered.
    pub ranges_tx: watch::Sender<Option<Vec<Cidr>>>,
    /// Why the pod network is not ready as far as the agent knows.
    pub network: watch::Receiver<Result<(), String>>,
}

/// Runs the node's side of the control plane for as long as it is polled.
pub async fn run(api: Api, told: Told) {
    let mut tasks = JoinSet::new();
    let (uid_tx, uid) = watch::channel(None);
    let (mirror_tx, mirror_rx) = mpsc::unbounded_channel();
    tasks.spawn(node::keep(api.clone(), told.ranges_tx, uid_tx, told.network));
    tasks.spawn(heartbeat::keep(api.clone()));
    tasks.spawn(pods::watch(api.clone(), told.pod_tx, mirror_tx));
    tasks.spawn(status::keep(api, mirror_rx, uid));
    if let Some(Err(error)) = tasks.join_next().await {
        std::panic::resume_unwind(error.into_panic());
    }
}
