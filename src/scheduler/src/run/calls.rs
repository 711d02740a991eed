//! Calls of the API: bindings, conditions, evictions. Each has a deadline, and says what it came to.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bosun_client::{
    backoff::Backoff,
    call::{CallError, Class, call},
    events::{Recorder, Type},
};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::{
    Api, Client,
    api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions},
};
use serde_json::{Value, json};
use tracing::{debug, warn};

use super::informers::KeptPod;
use crate::{
    engine::{Bound, Change, Event, Eviction, Placement, Refusal},
    objects::{Pod, PodName},
};

/// The reason of a condition that says that no node takes a pod.
pub(super) const UNSCHEDULABLE: &str = "Unschedulable";
/// How often a condition is tried to be written while the API is away; the next decision writes it anyway.
const TRIES: u32 = 5;

/// A binding and when its pod was decided about.
pub(super) struct Bind {
    pub(super) placement: Placement,
    pub(super) begun: Instant,
}

/// What events are about.
pub(super) fn reference(pod: &Pod) -> ObjectReference {
    ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("Pod".to_owned()),
        namespace: Some(pod.name.namespace.to_string()),
        name: Some(pod.name.name.to_string()),
        uid: Some(pod.uid.to_string()),
        resource_version: Some(pod.resource_version.to_string()),
        field_path: None,
    }
}

fn backoff() -> Backoff {
    Backoff::new(Duration::from_millis(100), Duration::from_secs(5))
}

/// Makes calls.
#[derive(Clone)]
pub(super) struct Calls {
    client: Client,
}

impl Calls {
    pub(super) fn new(client: Client) -> Self {
        Self { client }
    }

    fn pods(&self, name: &PodName) -> Api<KeptPod> {
        Api::namespaced(self.client.clone(), &name.namespace)
    }

    /// Binds a pod. While the API is away, or it isn't known what came of it, the pod is asked for until that is.
    pub(super) async fn bind(&self, placement: &Placement) -> Bound {
        let Placement { pod, node, .. } = placement;
        let mut retry = backoff();
        loop {
            let error = match self.post_binding(pod, node).await {
                Ok(()) => return Bound::Done,
                Err(error) => error,
            };
            match error.class() {
                Class::NotFound => return Bound::Gone,
                Class::Throttled { .. } => {
                    tokio::time::sleep(retry.failed().max(error.retry_after().unwrap_or_default())).await;
                    continue;
                }
                Class::Unavailable | Class::Conflict | Class::AlreadyExists | Class::Other => {}
                Class::Gone | Class::Unauthorized | Class::Forbidden | Class::Invalid => {
                    warn!(pod = %pod.name, %node, %error, "binding refused");
                    return Bound::Failed;
                }
            }
            debug!(pod = %pod.name, %node, %error, "binding failed, or its answer was lost");
            loop {
                match call(self.pods(&pod.name).get_opt(&pod.name.name)).await {
                    Ok(found) => {
                        let found = found.map(KeptPod::pod).filter(|found| found.uid == pod.uid);
                        return match found {
                            None => Bound::Gone,
                            Some(found) if found.node.as_ref() == Some(node) => Bound::Done,
                            Some(_) => Bound::Failed,
                        };
                    }
                    Err(error) => {
                        debug!(pod = %pod.name, %error, "not known whether it is bound");
                        tokio::time::sleep(retry.failed().max(error.retry_after().unwrap_or_default())).await;
                    }
                }
            }
        }
    }

    async fn post_binding(&self, pod: &Pod, node: &str) -> Result<(), CallError> {
        let binding = json!({
            "apiVersion": "v1", "kind": "Binding",
            "metadata": {"namespace": &*pod.name.namespace, "name": &*pod.name.name, "uid": pod.uid.as_str()},
            "target": {"apiVersion": "v1", "kind": "Node", "name": node},
        });
        let pods = self.pods(&pod.name);
        let _: Value =
            call(pods.create_subresource("binding", &pod.name.name, &PostParams::default(), &binding)).await?;
        Ok(())
    }

    /// Says in the pod's status that no node takes it.
    pub(super) async fn refuse(&self, refusal: &Refusal) {
        let pod = &refusal.pod;
        let mut condition = json!({
            "type": "PodScheduled", "status": "False", "reason": UNSCHEDULABLE, "message": refusal.message,
        });
        if let Some(generation) = pod.generation {
            condition["observedGeneration"] = json!(generation);
        }
        if pod.unscheduled.is_none() {
            condition["lastTransitionTime"] = json!(Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string());
        }
        let mut status = json!({"conditions": [condition]});
        if let Some(node) = &refusal.nominate {
            status["nominatedNodeName"] = if node.is_empty() { Value::Null } else { json!(&**node) };
        }
        if let Err(error) = self.patch_status(pod, status).await {
            debug!(pod = %pod.name, %error, "its condition is not written; the next attempt writes it");
        }
    }

    /// Has pods deleted to make room. Tells whether all are.
    pub(super) async fn evict(&self, pod: &Arc<Pod>, eviction: &Eviction, recorder: &Recorder) -> bool {
        for displaced in &eviction.displaced {
            if let Err(error) = self.patch_status(displaced, json!({"nominatedNodeName": null})).await {
                debug!(pod = %displaced.name, %error, "its nomination is not taken back");
            }
        }
        let mut all = true;
        for victim in &eviction.victims {
            match self.evict_one(pod, victim).await {
                Ok(()) => {
                    let message = format!("Preempted by pod {} on node {}", pod.uid, eviction.node);
                    recorder.event(&reference(victim), Type::Normal, "Preempted", message);
                }
                Err(error) if error.is_not_found() => {}
                Err(error) => {
                    warn!(pod = %pod.name, victim = %victim.name, %error, "can't make room");
                    all = false;
                    break;
                }
            }
        }
        all
    }

    async fn evict_one(&self, pod: &Pod, victim: &Pod) -> Result<(), CallError> {
        let message = format!(
            "{}: preempting to accommodate a higher priority pod",
            pod.shape.scheduler
        );
        let mut condition = json!({
            "type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler", "message": message,
            "lastTransitionTime": Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        });
        if let Some(generation) = victim.generation {
            condition["observedGeneration"] = json!(generation);
        }
        self.patch_status(victim, json!({"conditions": [condition]})).await?;
        let params = DeleteParams {
            preconditions: Some(Preconditions {
                uid: Some(victim.uid.to_string()),
                resource_version: None,
            }),
            ..DeleteParams::default()
        };
        let pods = self.pods(&victim.name);
        patiently(|| async { call(pods.delete(&victim.name.name, &params)).await.map(drop) }).await
    }

    async fn patch_status(&self, pod: &Pod, status: Value) -> Result<(), CallError> {
        let patch = json!({"metadata": {"uid": pod.uid.as_str()}, "status": status});
        let pods = self.pods(&pod.name);
        patiently(|| async {
            let patch = Patch::Strategic(&patch);
            call(pods.patch_status(&pod.name.name, &PatchParams::default(), &patch))
                .await
                .map(drop)
        })
        .await
    }

    /// What the API says of a pod now.
    pub(super) async fn look(&self, pod: &Arc<Pod>) -> Option<Event> {
        let found = call(self.pods(&pod.name).get_opt(&pod.name.name)).await;
        match found.map(|found| found.map(KeptPod::pod)) {
            Ok(Some(found)) if found.uid == pod.uid => Some(Event::Pod(Change::Set(found))),
            Ok(_) => Some(Event::Pod(Change::Gone(pod.clone()))),
            Err(error) => {
                debug!(pod = %pod.name, %error, "not known where it is");
                None
            }
        }
    }
}

/// Tries again a few times what fails for now.
async fn patiently<F, Fut>(mut attempt: F) -> Result<(), CallError>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<(), CallError>>,
{
    let mut retry = backoff();
    let mut left = TRIES;
    loop {
        left -= 1;
        match attempt().await {
            Err(error) if left > 0 && matches!(error.class(), Class::Unavailable | Class::Throttled { .. }) => {
                tokio::time::sleep(retry.failed().max(error.retry_after().unwrap_or_default())).await;
            }
            outcome => return outcome,
        }
    }
}
