//! Nodes that don't say how they are, and the pods on them.
//!
//! A node gives signs of life: its Lease, and its status. Without one for the grace period its conditions become
//! unknown, and so does what is known of its pods. Taints follow the conditions; pods that don't tolerate a `NoExecute`
//! taint, or no longer, are deleted, whoever set it.

mod taints;
mod zone;

use std::{collections::HashMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use bosun_client::{CallError, Change, ObjectKey, call::call, events::Type};
use jiff::Timestamp;
use k8s_openapi::{api::core::v1 as core, apimachinery::pkg::apis::meta::v1::Time};
use kube::{
    Api, Resource, ResourceExt,
    api::{Patch, PatchParams},
};
use parking_lot::Mutex;
use serde_json::json;
use tokio::time::Instant;
use tracing::info;

use self::{
    taints::{Ready, awaits_eviction, leaves_at},
    zone::{Turns, Zone},
};
use crate::{
    objects::{Node, Pod},
    runtime::{Context, Controller, Done, SyncError, Watches, write::only},
};

/// Conditions that are unknown of a node that says nothing.
const CONDITIONS: [&str; 4] = ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"];
/// Until another look at a node whose turn has not come.
const TURN: Duration = Duration::from_secs(5);

/// Watches over nodes. Its keys are their names.
#[derive(Debug)]
pub struct NodeLifecycle {
    context: Context,
    signs: Mutex<HashMap<String, Sign>>,
    turns: Mutex<Turns>,
}

/// The last sign of life of a node, by its own clock, and when it was heard, by ours: the two are never compared.
#[derive(Clone, Debug, PartialEq)]
struct Sign {
    lease: Option<Timestamp>,
    status: Option<Timestamp>,
    heard: Instant,
}

impl NodeLifecycle {
    /// Under the identity of the context's client.
    pub fn new(context: &Context) -> Self {
        Self {
            context: context.clone(),
            signs: Mutex::default(),
            turns: Mutex::default(),
        }
    }

    /// How long ago a node last gave a sign of life.
    fn silence(&self, name: &str, node: &Node) -> Duration {
        let lease = self
            .context
            .informers
            .node_leases
            .get(&ObjectKey::new("kube-node-lease", name));
        let now = Sign {
            lease: lease.and_then(|lease| lease.spec.renew_time),
            status: taints::condition(node, "Ready").and_then(|ready| ready.last_heartbeat_time),
            heard: Instant::now(),
        };
        let mut signs = self.signs.lock();
        let sign = signs.entry(name.to_owned()).or_insert_with(|| now.clone());
        if (sign.lease, sign.status) != (now.lease, now.status) {
            *sign = now;
        }
        sign.heard.elapsed()
    }

    /// Says that nobody knows how a node is.
    async fn mark_unknown(&self, name: &str, node: &Node) -> Result<(), CallError> {
        let (reason, message) = if taints::condition(node, "Ready").is_some() {
            ("NodeStatusUnknown", "Kubelet stopped posting node status.")
        } else {
            ("NodeStatusNeverUpdated", "Kubelet never posted node status.")
        };
        let now = Time(Timestamp::now());
        let known = CONDITIONS
            .iter()
            .filter(|type_| taints::condition(node, type_).is_none_or(|condition| condition.status != "Unknown"));
        let conditions: Vec<_> = known
            .map(|type_| {
                json!({"type": type_, "status": "Unknown", "reason": reason, "message": message, "lastTransitionTime": now})
            })
            .collect();
        let patch = Patch::Strategic(json!({"status": {"conditions": conditions}}));
        let api: Api<core::Node> = Api::all(self.context.client.clone());
        call(api.patch_status(name, &PatchParams::default(), &patch)).await?;
        info!(node = name, "gives no sign of life: its state is unknown");
        let reference = node.object_ref(&());
        let message = format!("Node {name} status is now: NodeNotReady");
        self.context
            .recorder
            .event(&reference, Type::Normal, "NodeNotReady", message);
        Ok(())
    }

    /// Pods of a node that says nothing don't serve, as far as anybody knows.
    async fn mark_pods(&self, pods: &[Arc<Pod>]) -> Result<(), CallError> {
        for pod in pods.iter().filter(|pod| pod.is_ready()) {
            let now = Time(Timestamp::now());
            let condition = json!({"type": "Ready", "status": "False", "lastTransitionTime": now});
            self.patch_condition(pod, &condition).await?;
            let message = "Node is not ready";
            self.context
                .recorder
                .event(&pod.object_ref(&()), Type::Warning, "NodeNotReady", message);
        }
        Ok(())
    }

    async fn patch_condition(&self, pod: &Pod, condition: &serde_json::Value) -> Result<(), CallError> {
        let api: Api<core::Pod> = Api::namespaced(
            self.context.client.clone(),
            pod.metadata.namespace.as_deref().unwrap_or_default(),
        );
        // With the UID, so that one made anew under the name is left alone.
        let patch = json!({"metadata": {"uid": pod.metadata.uid}, "status": {"conditions": [condition]}});
        let patch = Patch::Strategic(patch);
        match call(api.patch_status(pod.name(), &PatchParams::default(), &patch)).await {
            Err(error) if !error.is_not_found() && !error.is_conflict() => Err(error),
            _ => Ok(()),
        }
    }

    /// Whether a node may lose its pods now.
    fn may_evict(&self, node: &Node) -> bool {
        let mut zones: HashMap<String, Zone> = HashMap::new();
        self.context.informers.nodes.with(|nodes| {
            for node in nodes {
                let zone = zones.entry(zone_of(node)).or_default();
                if Ready::of(node) == Ready::Yes {
                    zone.ready += 1;
                } else {
                    zone.ill += 1;
                }
            }
        });
        let all_lost = zone::all_lost(zones.values());
        let own = zone_of(node);
        let rate = zones
            .get(&own)
            .copied()
            .unwrap_or_default()
            .rate(self.context.config.eviction_rate, all_lost);
        self.turns.lock().take(&own, rate, Instant::now())
    }

    /// Deletes pods whose time on a node is over. Gives when the next one's is.
    async fn evict(&self, node: &Node, pods: &[Arc<Pod>]) -> Result<Option<Timestamp>, CallError> {
        let now = Timestamp::now();
        let mut next: Option<Timestamp> = None;
        for pod in pods.iter().filter(|pod| !pod.is_terminating()) {
            let Some(at) = leaves_at(&pod.spec.tolerations, &node.spec.taints, now) else {
                continue;
            };
            if at > now {
                next = Some(next.map_or(at, |next| next.min(at)));
                continue;
            }
            let (namespace, name) = (pod.metadata.namespace.as_deref().unwrap_or_default(), pod.name());
            let message = format!("Marking for deletion Pod {namespace}/{name}");
            self.context
                .recorder
                .event(&pod.object_ref(&()), Type::Normal, "TaintManagerEviction", message);
            let condition = json!({
                "type": "DisruptionTarget", "status": "True", "reason": "DeletionByTaintManager",
                "message": "Taint manager: deleting due to NoExecute taint", "lastTransitionTime": Time(now),
            });
            self.patch_condition(pod, &condition).await?;
            let api: Api<core::Pod> = Api::namespaced(self.context.client.clone(), namespace);
            match call(api.delete(name, &only(&**pod))).await {
                Err(error) if !error.is_not_found() && !error.is_conflict() => return Err(error),
                _ => info!(
                    namespace,
                    pod = name,
                    node = node.name_any(),
                    "deleted: it doesn't tolerate its node's taints"
                ),
            }
        }
        Ok(next)
    }
}

/// Nodes of one region and zone.
fn zone_of(node: &Node) -> String {
    let label = |key: &str| node.labels().get(key).map_or("", String::as_str);
    format!(
        "{}/{}",
        label("topology.kubernetes.io/region"),
        label("topology.kubernetes.io/zone")
    )
}

#[async_trait]
impl Controller for NodeLifecycle {
    type Key = String;

    fn name(&self) -> &'static str {
        "node-lifecycle"
    }

    fn watch(self: &Arc<Self>, watches: &mut Watches<String>) {
        let informers = &self.context.informers;
        watches.on(&informers.nodes, |change| Some(change.object().name_any()));
        watches.on(&informers.node_leases, |change| Some(change.object().name_any()));
        watches.on(&informers.pods, |change| match change {
            Change::Added(pod) => pod.node().map(ToOwned::to_owned),
            Change::Updated { old, new }
                if old.node() != new.node() || old.spec.tolerations != new.spec.tolerations =>
            {
                new.node().map(ToOwned::to_owned)
            }
            _ => None,
        });
    }

    async fn sync(&self, name: &String) -> Result<Done, SyncError> {
        let informers = &self.context.informers;
        let Some(node) = informers.nodes.get(&ObjectKey::cluster(name)) else {
            self.signs.lock().remove(name);
            return Ok(Done::Settled);
        };
        let grace = self.context.config.node_grace;
        let silence = self.silence(name, &node);
        let silent = silence >= grace;
        let conditions_unknown = taints::condition(&node, "Ready").is_some_and(|ready| ready.status == "Unknown");
        if silent && !conditions_unknown {
            self.mark_unknown(name, &node).await?;
            // The change comes back as an event.
            return Ok(Done::Settled);
        }
        let pods = informers.pods_by_node.get(name);
        if silent {
            self.mark_pods(&pods).await?;
        }
        let waits = awaits_eviction(&node);
        let evict = waits && self.may_evict(&node);
        if let Some(taints) = taints::plan(&node, evict, Timestamp::now()) {
            let change = json!({
                "metadata": {"uid": node.metadata.uid, "resourceVersion": node.metadata.resource_version},
                "spec": {"taints": taints},
            });
            let api: Api<core::Node> = Api::all(self.context.client.clone());
            call(api.patch(name, &PatchParams::default(), &Patch::Merge(change))).await?;
        }
        let next = self.evict(&node, &pods).await?;
        let until = next.map(|at| Timestamp::now().duration_until(at).try_into().unwrap_or(Duration::ZERO));
        let looks = [
            until.map(|until: Duration| until.max(Duration::from_millis(10))),
            (waits && !evict).then_some(TURN),
            (!silent).then(|| grace.saturating_sub(silence) + Duration::from_millis(100)),
        ];
        Ok(Done::after(looks.into_iter().flatten().min()))
    }
}
