//! Mirror pods: what the control plane is shown of static pods, which it has no say in.
//!
//! Each static pod has one object under its name, made and kept by this node. Deleted by somebody, it is made again;
//! one of another version of the pod, or of none, is removed. What runs is never touched by any of that. Pure but for
//! [`perform`].

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use bosun_api::{PodKey, core::Pod, labels};
use bosun_client::{CallError, call};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::{
    Client,
    api::{Api as KubeApi, DeleteParams, PostParams, Preconditions},
};

use crate::pod::worker::pod_key;

/// What is to be done about one name's mirror.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Make the object that shows this static pod.
    Create(Arc<Pod>),
    /// Remove this object: it shows no pod, or not the one there is.
    Delete(Arc<Pod>),
}

/// Static pods and the objects that show them, by name.
#[derive(Debug, Default)]
pub struct Mirrors {
    /// The static pods on this node.
    pub statics: BTreeMap<PodKey, Arc<Pod>>,
    /// The objects that the control plane has.
    pub objects: BTreeMap<PodKey, Arc<Pod>>,
    /// All static pods there were at the start are known.
    pub statics_known: bool,
    /// All objects there were at the start are known.
    pub objects_known: bool,
}

fn annotation<'a>(pod: &'a Pod, name: &str) -> Option<&'a str> {
    pod.metadata.annotations.as_ref()?.get(name).map(String::as_str)
}

/// Whether an object mirrors a static pod of some node.
pub fn is_mirror(pod: &Pod) -> bool {
    annotation(pod, labels::CONFIG_MIRROR).is_some()
}

impl Mirrors {
    /// The object that shows a static pod as it is.
    pub fn of(&self, key: &PodKey, pod: &Pod) -> Option<&Arc<Pod>> {
        self.objects.get(key).filter(|object| shows(object, pod))
    }

    /// What is to be done about names that nothing is being done about yet.
    pub fn plan(&self, busy: &BTreeSet<PodKey>) -> Vec<(PodKey, Step)> {
        let mut steps = vec![];
        if !self.objects_known {
            return steps;
        }
        for (key, pod) in self.statics.iter().filter(|(key, _)| !busy.contains(*key)) {
            match self.objects.get(key) {
                None => steps.push((key.clone(), Step::Create(pod.clone()))),
                Some(object) if !shows(object, pod) => steps.push((key.clone(), Step::Delete(object.clone()))),
                Some(_) => {}
            }
        }
        let orphans = self
            .objects
            .iter()
            .filter(|(key, _)| self.statics_known && !self.statics.contains_key(*key) && !busy.contains(*key));
        steps.extend(orphans.map(|(key, object)| (key.clone(), Step::Delete(object.clone()))));
        steps
    }
}

/// Whether an object is there to stay and shows this version of a pod.
fn shows(object: &Pod, pod: &Pod) -> bool {
    object.metadata.deletion_timestamp.is_none()
        && annotation(object, labels::CONFIG_MIRROR) == annotation(pod, labels::CONFIG_HASH)
}

/// The object that shows a static pod of the node of this name and UID.
fn object(pod: &Pod, node: &str, node_uid: &str) -> Pod {
    let metadata = &pod.metadata;
    let mut annotations = metadata.annotations.clone().unwrap_or_default();
    let hash = annotations.get(labels::CONFIG_HASH).cloned().unwrap_or_default();
    annotations.insert(labels::CONFIG_MIRROR.to_owned(), hash);
    Pod {
        metadata: ObjectMeta {
            name: metadata.name.clone(),
            namespace: metadata.namespace.clone(),
            labels: metadata.labels.clone(),
            annotations: Some(annotations),
            owner_references: Some(vec![OwnerReference {
                api_version: "v1".into(),
                kind: "Node".into(),
                name: node.to_owned(),
                uid: node_uid.to_owned(),
                controller: Some(true),
                ..OwnerReference::default()
            }]),
            ..ObjectMeta::default()
        },
        spec: pod.spec.clone(),
        status: None,
    }
}

/// Does a step, in the name of the node of this name and UID.
///
/// Gives the object that there is now, or `None` if there is none.
pub async fn perform(
    client: Client,
    step: Step,
    node: String,
    node_uid: String,
) -> Result<Option<Arc<Pod>>, CallError> {
    let (Step::Create(pod) | Step::Delete(pod)) = &step;
    let key = pod_key(pod);
    let pods: KubeApi<Pod> = KubeApi::namespaced(client, &key.namespace);
    match step {
        Step::Create(pod) => {
            let made = call(pods.create(&PostParams::default(), &object(&pod, &node, &node_uid))).await;
            match made {
                Err(error) if error.is_already_exists() => {
                    call(pods.get_opt(&key.name)).await.map(|found| found.map(Arc::new))
                }
                made => made.map(|made| Some(Arc::new(made))),
            }
        }
        Step::Delete(pod) => {
            let params = DeleteParams {
                grace_period_seconds: Some(0),
                preconditions: Some(Preconditions {
                    uid: pod.metadata.uid.clone(),
                    resource_version: None,
                }),
                ..DeleteParams::default()
            };
            match call(pods.delete(&key.name, &params)).await {
                Err(error) if error.is_not_found() || error.is_conflict() => Ok(None),
                deleted => deleted.map(|_| None),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> PodKey {
        PodKey {
            namespace: "default".into(),
            name: "web-n1".into(),
        }
    }

    fn pod(annotation: &str, hash: &str) -> Arc<Pod> {
        let mut pod = Pod::default();
        pod.metadata.name = Some("web-n1".into());
        pod.metadata.namespace = Some("default".into());
        pod.metadata.annotations = Some([(annotation.to_owned(), hash.to_owned())].into());
        Arc::new(pod)
    }

    #[test]
    fn every_static_pod_is_shown_once_as_it_is_and_no_other() {
        let wanted = |hash: &str| pod(labels::CONFIG_HASH, hash);
        let shown = |hash: &str| pod(labels::CONFIG_MIRROR, hash);
        let create = Step::Create(wanted("h1"));
        // (static, object, all static pods are known, expected)
        let table = [
            (Some("h1"), None, true, Some(create.clone())),
            (Some("h1"), None, false, Some(create)),
            (Some("h1"), Some("h1"), true, None),
            (Some("h2"), Some("h1"), true, Some(Step::Delete(shown("h1")))),
            (None, Some("h1"), true, Some(Step::Delete(shown("h1")))),
            (None, Some("h1"), false, None),
        ];
        for (of_file, object, statics_known, expected) in table {
            let mirrors = Mirrors {
                statics: of_file.map(|hash| (key(), wanted(hash))).into_iter().collect(),
                objects: object.map(|hash| (key(), shown(hash))).into_iter().collect(),
                statics_known,
                objects_known: true,
            };
            let steps = mirrors.plan(&BTreeSet::new());
            let expected: Vec<_> = expected.into_iter().map(|step| (key(), step)).collect();
            assert_eq!(steps, expected, "{of_file:?} {object:?} {statics_known}");
            assert_eq!(mirrors.plan(&BTreeSet::from([key()])), [], "one step at a time");
        }
    }

    #[test]
    fn a_mirror_belongs_to_its_node_and_says_what_it_shows() {
        let mirror = object(&pod(labels::CONFIG_HASH, "h1"), "n1", "u1");
        assert_eq!(annotation(&mirror, labels::CONFIG_MIRROR), Some("h1"));
        assert!(is_mirror(&mirror) && mirror.metadata.uid.is_none());
        let owner = &mirror.metadata.owner_references.unwrap()[0];
        assert_eq!(
            (owner.kind.as_str(), owner.uid.as_str(), owner.controller),
            ("Node", "u1", Some(true))
        );
    }
}
