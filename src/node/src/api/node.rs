//! This node's object kept current: registered, its status patched when it changes and every five minutes, the ranges
//! for its pods taken from it.

use std::time::Duration;

use bosun_client::{CallError, Change, Informer, backoff::Backoff, call, events::Type, informer, projected};
use bosun_cri::RuntimeEvent;
use bosun_net::cidr::Cidr;
use k8s_openapi::api::core::v1::{Node as NodeObject, NodeStatus};
use kube::api::{Api as KubeApi, Patch, PatchParams};
use serde::Deserialize;
use serde_json::json;
use tokio::{sync::watch, time::Instant};

use super::{
    Api, delay,
    node_status::{self, View},
    patch::status_patch,
    register::register,
};
use crate::pod::words::chain;

/// How often what the runtime says of itself is looked at: it tells of no change by itself.
const INTERVAL: Duration = Duration::from_secs(10);
/// The same until the node is ready.
const IMPATIENT: Duration = Duration::from_millis(200);
/// At least so often the status is written, changed or not.
const REPORT: Duration = Duration::from_mins(5);

projected! {
    /// What is read of this node's object when it changes.
    struct OwnNode: NodeObject, without annotations {
        spec: OwnSpec,
    }
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct OwnSpec {
    #[serde(rename = "podCIDRs")]
    pod_cidrs: Option<Vec<String>>,
}

/// Keeps the object for as long as it is polled.
pub async fn keep(
    api: Api,
    ranges_tx: watch::Sender<Option<Vec<Cidr>>>,
    uid_tx: watch::Sender<Option<String>>,
    mut network: watch::Receiver<Result<(), String>>,
) {
    let nodes: KubeApi<NodeObject> = KubeApi::all(api.client.clone());
    let mut keeper = Keeper {
        nodes: nodes.clone(),
        told: NodeStatus::default(),
        reported: None,
        delays: Backoff::new(Duration::from_millis(200), Duration::from_secs(7)),
        api,
    };
    let own = informer::Config::default().fields(format!("metadata.name={}", keeper.api.node.name));
    let mut runtime_events = keeper.api.node.runtime.subscribe();
    loop {
        let known = network.borrow().clone();
        let status = keeper.status(&known).await;
        let registered = register(&keeper.api, status).await;
        keeper.registered(&registered);
        uid_tx.send_replace(registered.metadata.uid.clone());
        keeper
            .api
            .supply
            .tell_node(Type::Normal, "Starting", "Starting kubelet.".to_owned());
        let assigned = registered.spec.as_ref().and_then(|spec| spec.pod_cidrs.as_deref());
        tell_ranges(&ranges_tx, assigned);
        let (informer, reader) = Informer::<OwnNode>::new(KubeApi::all(keeper.api.client.clone()), own.clone());
        let mut changes = reader.subscribe();
        let mut following = std::pin::pin!(informer.run());
        let mut next = Instant::now();
        loop {
            tokio::select! {
                () = tokio::time::sleep_until(next) => {
                    let network = network.borrow_and_update().clone();
                    next = Instant::now() + keeper.report(&network).await;
                }
                Ok(()) = network.changed() => next = Instant::now(),
                Some(event) = runtime_events.recv() => if event == RuntimeEvent::Resync {
                    next = Instant::now();
                },
                () = &mut following => {}
                Some(change) = changes.recv() => match change {
                    Change::Added(node) | Change::Updated { new: node, .. } => {
                        tell_ranges(&ranges_tx, node.spec.pod_cidrs.as_deref());
                    }
                    // Whoever deleted it has it registered again, as a node that came anew.
                    Change::Deleted(_) => break,
                },
            }
        }
        tracing::warn!("this node's object was deleted; registering again");
    }
}

fn tell_ranges(ranges_tx: &watch::Sender<Option<Vec<Cidr>>>, told: Option<&[String]>) {
    let mut ranges = vec![];
    for text in told.into_iter().flatten() {
        match text.parse() {
            Ok(range) => ranges.push(range),
            Err(error) => {
                tracing::error!(range = text, %error, "the control plane gave pods of this node no proper range");
            }
        }
    }
    ranges_tx.send_if_modified(|known| {
        let news = known.as_ref() != Some(&ranges);
        *known = Some(ranges);
        news
    });
}

struct Keeper {
    api: Api,
    nodes: KubeApi<NodeObject>,
    /// The status that the control plane has, as far as is known.
    told: NodeStatus,
    reported: Option<Instant>,
    delays: Backoff,
}

impl Keeper {
    fn registered(&mut self, node: &NodeObject) {
        self.told = node.status.clone().unwrap_or_default();
        self.reported = None;
    }

    /// What is to be told now.
    async fn status(&self, network: &Result<(), String>) -> NodeStatus {
        let node = &self.api.node;
        let (runtime, version, images) = tokio::join!(
            node.runtime.status(),
            node.runtime.version(),
            node.runtime.list_images()
        );
        let runtime = runtime.map_err(|error| node.runtime_down().unwrap_or_else(|| error.to_string()));
        let problems = node_status::problems(runtime.as_ref().map_err(Clone::clone), network);
        node_status::node_status(View {
            name: &node.name,
            machine: &self.api.machine,
            addresses: &node.host_addresses,
            port: self.api.config.port,
            runtime_version: match version {
                Ok(info) => format!("{}://{}", info.name, info.version),
                // The one it had is better than none.
                Err(_) => self
                    .told
                    .node_info
                    .as_ref()
                    .map(|info| info.container_runtime_version.clone())
                    .unwrap_or_default(),
            },
            images: images.unwrap_or_default(),
            problems: &problems,
            previous: self.told.conditions.as_deref().unwrap_or_default(),
            now: node.clock.now(),
        })
    }

    /// Tells what changed; says when to look again.
    async fn report(&mut self, network: &Result<(), String>) -> Duration {
        let status = self.status(network).await;
        let is_ready = is_ready_in(&status);
        let interval = if is_ready { INTERVAL } else { IMPATIENT };
        let due = self.reported.is_none_or(|reported| reported.elapsed() >= REPORT);
        if !due && node_status::says_the_same(&status, &self.told) {
            return interval;
        }
        match self.write(&status).await {
            Ok(()) => {
                if is_ready && !is_ready_in(&self.told) {
                    tracing::info!("the node is ready");
                    let message = format!("Node {} status is now: NodeReady", self.api.node.name);
                    self.api.supply.tell_node(Type::Normal, "NodeReady", message);
                }
                self.told = status;
                self.reported = Some(Instant::now());
                self.delays.succeeded();
                interval
            }
            Err(error) => {
                tracing::warn!(error = chain(&error), "the node's status is not written; trying again");
                delay(&mut self.delays, &error)
            }
        }
    }

    async fn write(&self, status: &NodeStatus) -> Result<(), CallError> {
        let json = |status: &NodeStatus| serde_json::to_value(status).expect("a status is JSON");
        let Some(patch) = status_patch(&json(&self.told), &json(status), &[]) else {
            return Ok(());
        };
        let patch = json!({"status": patch});
        let (params, patch) = (PatchParams::default(), Patch::Strategic(patch));
        let written = self.nodes.patch_status(&self.api.node.name, &params, &patch);
        call(written).await.map(drop)
    }
}

fn is_ready_in(status: &NodeStatus) -> bool {
    let mut conditions = status.conditions.iter().flatten();
    conditions.any(|condition| condition.type_ == "Ready" && condition.status == "True")
}
