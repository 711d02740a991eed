//! What pods have of the control plane while they run: objects and tokens for volumes and environments, and a place to
//! say what happens to them.

use std::{collections::BTreeMap, sync::Arc};

use bosun_api::{PodUid, core::Pod, labels};
use bosun_client::{
    Recorder,
    events::{Publisher, Type},
};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;

use super::{
    objects::{ObjectRef, Objects, Used},
    services::Services,
    tokens::Tokens,
};
use crate::pod::payload::{self, Found, TokenRef};

/// The component that events are of, as upstream's.
const COMPONENT: &str = "kubelet";

/// A pod's hold on the objects it uses.
pub type Held = BTreeMap<ObjectRef, Used>;

/// See the module.
#[derive(Debug)]
pub struct Supply {
    objects: Objects,
    tokens: Tokens,
    services: Services,
    recorder: Recorder,
    node: ObjectReference,
}

impl Supply {
    /// Asked of the control plane by this client, in the name of this node. The second part publishes events. Must be
    /// called in a tokio runtime.
    pub fn new(client: &Client, node: &str) -> (Self, Publisher) {
        let (recorder, publisher) = Recorder::new(client.clone(), COMPONENT, node);
        let supply = Self {
            objects: Objects::new(client.clone()),
            tokens: Tokens::new(client.clone()),
            services: Services::new(client.clone()),
            recorder,
            // As upstream has it, the node's name stands for its UID.
            node: ObjectReference {
                kind: Some("Node".into()),
                name: Some(node.to_owned()),
                uid: Some(node.to_owned()),
                ..ObjectReference::default()
            },
        };
        (supply, publisher)
    }

    /// Watches what a pod uses, for as long as the answer lives; what is held already stays so.
    pub fn hold(&self, pod: &Pod, held: &Held) -> Held {
        let all = payload::objects_of(pod).into_iter().map(|object| {
            let used = held.get(&object).cloned().unwrap_or_else(|| self.objects.hold(&object));
            (object, used)
        });
        all.collect()
    }

    /// The tokens that a pod's volumes hold, and when the first of them is to be asked for anew.
    pub async fn tokens(
        &self,
        pod: &Pod,
        uid: &PodUid,
        now: Timestamp,
    ) -> Result<(BTreeMap<TokenRef, String>, Option<Timestamp>), String> {
        let (mut tokens, mut refresh) = (BTreeMap::new(), None::<Timestamp>);
        for token in payload::tokens_of(pod) {
            let (text, at) = self.tokens.get(pod, uid, &token, now).await?;
            refresh = Some(refresh.map_or(at, |earlier| earlier.min(at)));
            tokens.insert(token, text);
        }
        Ok((tokens, refresh))
    }

    /// The variables that tell a pod's containers of services. Fails if that can't be known now; a pod from a file is
    /// told what is known.
    pub async fn service_variables(&self, pod: &Pod) -> Result<Vec<(String, String)>, String> {
        let source = pod.metadata.annotations.iter().flatten();
        let mut source = source.filter(|(name, _)| *name == labels::CONFIG_SOURCE);
        let is_from_file = source.any(|(_, source)| source == labels::CONFIG_SOURCE_FILE);
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let links = pod.spec.as_ref().and_then(|spec| spec.enable_service_links);
        self.services
            .variables(namespace, links.unwrap_or(true), !is_from_file)
            .await
    }

    /// Nothing is left of a pod.
    pub fn forget(&self, uid: &PodUid) {
        self.tokens.forget(uid);
    }

    /// Says what happened to a pod, or to its part that `field` names, such as `spec.containers{web}`.
    pub fn tell_pod(&self, pod: &Pod, field: Option<String>, kind: Type, reason: &str, message: String) {
        let object = ObjectReference {
            api_version: Some("v1".into()),
            kind: Some("Pod".into()),
            namespace: pod.metadata.namespace.clone(),
            name: pod.metadata.name.clone(),
            uid: pod.metadata.uid.clone(),
            resource_version: pod.metadata.resource_version.clone(),
            field_path: field,
        };
        self.recorder.event(&object, kind, reason, message);
    }

    /// Says what happened to this node.
    pub fn tell_node(&self, kind: Type, reason: &str, message: String) {
        self.recorder.event(&self.node, kind, reason, message);
    }
}

/// What is there of these objects. Fails if that can't be known of one of them now.
pub async fn find(held: &Held, objects: impl IntoIterator<Item = ObjectRef>) -> Result<Found, String> {
    let mut found = Found::new();
    for object in objects {
        let payload: Option<Arc<_>> = match held.get(&object) {
            Some(used) => {
                let known = used.get().await;
                known.map_err(|problem| format!("failed to sync {} cache: {problem}", object.kind.as_str()))?
            }
            None => None,
        };
        found.insert(object, payload);
    }
    Ok(found)
}
