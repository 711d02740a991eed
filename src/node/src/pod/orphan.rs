//! A pod that is not wanted, as far as its remains tell: enough to end it properly. Pure.

use std::collections::BTreeMap;

use bosun_api::{
    PodKey, PodUid,
    core::{Container, Lifecycle, LifecycleHandler, Pod, PodSpec},
    labels,
};
use bosun_cri::v1;

/// A pod of which only name and UID are known.
pub fn bare_pod(key: &PodKey, uid: &PodUid) -> Pod {
    let mut pod = Pod::default();
    pod.metadata.namespace = Some(key.namespace.clone());
    pod.metadata.name = Some(key.name.clone());
    pod.metadata.uid = Some(uid.to_string());
    pod.spec = Some(PodSpec::default());
    pod
}

/// The pods that these sandboxes and containers belong to, with grace and `preStop` hooks as written on them.
pub fn leftover_pods(sandboxes: &[v1::PodSandbox], containers: &[v1::Container]) -> Vec<Pod> {
    let mut pods: BTreeMap<&str, Pod> = BTreeMap::new();
    let none = String::new();
    let all = sandboxes
        .iter()
        .map(|sandbox| &sandbox.labels)
        .chain(containers.iter().map(|container| &container.labels));
    for found in all {
        let label = |name: &str| found.get(name).unwrap_or(&none).clone();
        if let Some(uid) = found.get(labels::POD_UID) {
            pods.entry(uid).or_insert_with(|| {
                let key = PodKey {
                    namespace: label(labels::POD_NAMESPACE),
                    name: label(labels::POD_NAME),
                };
                bare_pod(&key, &uid.as_str().into())
            });
        }
    }
    for container in containers {
        let pod = container
            .labels
            .get(labels::POD_UID)
            .and_then(|uid| pods.get_mut(uid.as_str()));
        let (Some(spec), Some(name)) = (
            pod.and_then(|pod| pod.spec.as_mut()),
            container.labels.get(labels::CONTAINER_NAME),
        ) else {
            continue;
        };
        let annotation = |name: &str| container.annotations.get(name);
        if let Some(grace) = annotation(labels::POD_TERMINATION_GRACE_PERIOD).and_then(|grace| grace.parse().ok()) {
            spec.termination_grace_period_seconds = Some(grace);
        }
        if spec.containers.iter().any(|known| known.name == *name) {
            continue;
        }
        let pre_stop: Option<LifecycleHandler> =
            annotation(labels::CONTAINER_PRE_STOP_HANDLER).and_then(|handler| serde_json::from_str(handler).ok());
        spec.containers.push(Container {
            name: name.clone(),
            lifecycle: pre_stop.map(|pre_stop| Lifecycle {
                pre_stop: Some(pre_stop),
                ..Lifecycle::default()
            }),
            ..Container::default()
        });
    }
    pods.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leftover_pod_ends_with_its_own_grace_and_hook() {
        let labels = std::collections::HashMap::from([
            (labels::POD_UID.to_owned(), "u1".to_owned()),
            (labels::POD_NAME.to_owned(), "web".to_owned()),
            (labels::POD_NAMESPACE.to_owned(), "default".to_owned()),
        ]);
        let sandbox = v1::PodSandbox {
            labels: labels.clone(),
            ..v1::PodSandbox::default()
        };
        let mut container = v1::Container {
            labels,
            ..v1::Container::default()
        };
        container
            .labels
            .insert(labels::CONTAINER_NAME.to_owned(), "app".to_owned());
        container
            .annotations
            .insert(labels::POD_TERMINATION_GRACE_PERIOD.to_owned(), "7".to_owned());
        let hook = r#"{"exec":{"command":["drain"]}}"#;
        container
            .annotations
            .insert(labels::CONTAINER_PRE_STOP_HANDLER.to_owned(), hook.to_owned());
        let pods = leftover_pods(&[sandbox], &[container]);
        let [pod] = pods.as_slice() else {
            panic!("one pod, not {pods:?}")
        };
        assert_eq!(pod.metadata.uid.as_deref(), Some("u1"));
        let spec = pod.spec.as_ref().unwrap();
        assert_eq!(spec.termination_grace_period_seconds, Some(7));
        let hook = spec.containers[0]
            .lifecycle
            .as_ref()
            .and_then(|lifecycle| lifecycle.pre_stop.as_ref());
        assert_eq!(
            hook.unwrap().exec.as_ref().unwrap().command.as_ref().unwrap(),
            &["drain"]
        );
    }

    #[test]
    fn what_bears_no_pods_label_is_nobodys() {
        assert!(leftover_pods(&[v1::PodSandbox::default()], &[v1::Container::default()]).is_empty());
    }
}
