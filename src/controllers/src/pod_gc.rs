//! Pods that nobody will end: of nodes that are gone, deleted before they were bound, and too many that have ended.

use std::{collections::HashMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use bosun_client::{CallError, Change, ObjectKey, call::call};
use jiff::Timestamp;
use k8s_openapi::{api::core::v1 as core, apimachinery::pkg::apis::meta::v1::Time};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, Patch, PatchParams},
};
use parking_lot::Mutex;
use serde_json::json;
use tokio::time::Instant;
use tracing::info;

use crate::{
    objects::Pod,
    runtime::{Context, Controller, Done, SyncError, Watches, write::only},
};

/// How long a node may be away before its pods go: it may only be heard of late.
const QUARANTINE: Duration = Duration::from_secs(40);

/// What is to be looked at.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// A pod that was deleted and isn't bound.
    Unbound(ObjectKey),
    /// The pods of a node that may be gone.
    Node(String),
    /// All pods that have ended.
    Finished,
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unbound(pod) => write!(f, "pod {pod}"),
            Self::Node(node) => write!(f, "node {node}"),
            Self::Finished => f.write_str("finished pods"),
        }
    }
}

/// Deletes such pods.
#[derive(Debug)]
pub struct PodGc {
    context: Context,
    /// Since when nodes are away.
    away: Mutex<HashMap<String, Instant>>,
}

impl PodGc {
    /// Under the identity of the context's client.
    pub fn new(context: &Context) -> Self {
        Self {
            context: context.clone(),
            away: Mutex::default(),
        }
    }

    /// How long a node has been away.
    fn since(&self, node: &str) -> Duration {
        self.away
            .lock()
            .entry(node.to_owned())
            .or_insert_with(Instant::now)
            .elapsed()
    }

    /// Deletes a pod at once. One that has not ended is said to have failed before, so that its controller knows.
    async fn delete(&self, pod: &Pod, why: Option<&str>) -> Result<(), CallError> {
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let api: Api<core::Pod> = Api::namespaced(self.context.client.clone(), namespace);
        if !pod.is_finished() {
            let mut status = json!({"phase": "Failed"});
            if let Some(why) = why {
                status["conditions"] = json!([{
                    "type": "DisruptionTarget", "status": "True", "reason": "DeletionByPodGC",
                    "message": why, "lastTransitionTime": Time(Timestamp::now()),
                }]);
            }
            let patch = Patch::Strategic(json!({"metadata": {"uid": pod.metadata.uid}, "status": status}));
            match call(api.patch_status(pod.name(), &PatchParams::default(), &patch)).await {
                Err(error) if !error.is_not_found() && !error.is_conflict() => return Err(error),
                _ => {}
            }
        }
        let params = DeleteParams {
            grace_period_seconds: Some(0),
            ..only(pod)
        };
        match call(api.delete(pod.name(), &params)).await {
            Err(error) if !error.is_not_found() && !error.is_conflict() => Err(error),
            _ => {
                info!(
                    namespace,
                    pod = pod.name(),
                    why = why.unwrap_or("it had ended"),
                    "deleted"
                );
                Ok(())
            }
        }
    }
}

/// Which of the pods that have ended go: the oldest beyond so many.
fn surplus(mut finished: Vec<Arc<Pod>>, kept: usize) -> Vec<Arc<Pod>> {
    let Some(surplus) = finished.len().checked_sub(kept).filter(|surplus| *surplus > 0) else {
        return Vec::new();
    };
    finished.sort_by_key(|pod| {
        (
            pod.metadata.creation_timestamp.as_ref().map(|time| time.0),
            pod.metadata.name.clone(),
        )
    });
    finished.truncate(surplus);
    finished
}

#[async_trait]
impl Controller for PodGc {
    type Key = Key;

    fn name(&self) -> &'static str {
        "pod-garbage-collector"
    }

    fn watch(self: &Arc<Self>, watches: &mut Watches<Key>) {
        let informers = &self.context.informers;
        watches.on(&informers.nodes, |change| match change {
            Change::Deleted(node) => Some(Key::Node(node.name_any())),
            _ => None,
        });
        let nodes = informers.nodes.clone();
        watches.on(&informers.pods, move |change| {
            let (Change::Added(pod) | Change::Updated { new: pod, .. }) = change else {
                return Vec::new();
            };
            let mut keys = Vec::new();
            if pod.is_finished() {
                keys.push(Key::Finished);
            }
            match pod.node() {
                None if pod.is_terminating() => keys.push(Key::Unbound(ObjectKey::of(&**pod))),
                Some(node) if nodes.get(&ObjectKey::cluster(node)).is_none() => keys.push(Key::Node(node.to_owned())),
                _ => {}
            }
            keys
        });
    }

    async fn sync(&self, key: &Key) -> Result<Done, SyncError> {
        let informers = &self.context.informers;
        match key {
            Key::Unbound(key) => {
                let pod = informers
                    .pods
                    .get(key)
                    .filter(|pod| pod.node().is_none() && pod.is_terminating());
                if let Some(pod) = pod {
                    self.delete(&pod, None).await?;
                }
            }
            Key::Finished => {
                let finished = informers
                    .pods
                    .with(|pods| pods.filter(|pod| pod.is_finished()).cloned().collect());
                for pod in surplus(finished, self.context.config.finished_pods) {
                    self.delete(&pod, None).await?;
                }
            }
            Key::Node(name) => {
                let there = informers.nodes.get(&ObjectKey::cluster(name)).is_some();
                let pods = informers.pods_by_node.get(name);
                if there || pods.is_empty() {
                    self.away.lock().remove(name);
                    return Ok(Done::Settled);
                }
                let away = self.since(name);
                if away < QUARANTINE {
                    return Ok(Done::Again(QUARANTINE.saturating_sub(away)));
                }
                let api: Api<core::Node> = Api::all(self.context.client.clone());
                if call(api.get_metadata_opt(name)).await?.is_some() {
                    return Ok(Done::Settled);
                }
                for pod in informers.pods_by_node.get(name) {
                    self.delete(&pod, Some("PodGC: node no longer exists")).await?;
                }
            }
        }
        Ok(Done::Settled)
    }

    fn workers(&self) -> usize {
        20
    }

    fn deadline(&self) -> Duration {
        Duration::from_secs(600)
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

    use super::*;

    #[test]
    fn of_pods_that_have_ended_the_oldest_go() {
        let pod = |name: &str, second: i64| {
            Arc::new(Pod {
                metadata: ObjectMeta {
                    name: Some(name.to_owned()),
                    creation_timestamp: Some(Time(Timestamp::from_second(second).expect("in range"))),
                    ..ObjectMeta::default()
                },
                ..Pod::default()
            })
        };
        let pods = vec![pod("c", 3), pod("a", 1), pod("b", 2)];
        let names =
            |kept: usize| -> Vec<String> { surplus(pods.clone(), kept).iter().map(|pod| pod.name_any()).collect() };
        assert_eq!(names(3), [""; 0]);
        assert_eq!(names(1), ["a", "b"]);
        assert_eq!(names(9), [""; 0]);
    }
}
