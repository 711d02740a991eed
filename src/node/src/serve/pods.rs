//! The node's pods, as they are told and as they are found. Pure, but for what runs.

use std::{collections::BTreeMap, sync::Arc};

use bosun_api::{
    ContainerId, PodKey, PodUid, SandboxId,
    core::{Container, ContainerStatus, Pod, PodSpec, PodStatus},
    labels,
};
use bosun_cri::{Runtime, v1};
use serde_json::{Value, json};

use crate::pod::{sandbox::pod_uid, worker::pod_key};

/// A `v1` `PodList`.
pub(super) fn list(pods: Vec<(Arc<Pod>, PodStatus)>) -> Value {
    let items: Vec<Pod> = pods
        .into_iter()
        .map(|(pod, status)| Pod {
            status: Some(status),
            ..Arc::unwrap_or_clone(pod)
        })
        .collect();
    json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items})
}

/// What runs, whether or not anybody wants it: a `PodList` of names, UIDs, containers and their images.
pub(super) async fn running(runtime: &dyn Runtime) -> Result<Value, bosun_cri::Error> {
    let filter = v1::ContainerFilter {
        state: Some(v1::ContainerStateValue {
            state: v1::ContainerState::ContainerRunning.into(),
        }),
        ..v1::ContainerFilter::default()
    };
    let containers = runtime.list_containers(Some(filter)).await?;
    let mut pods: BTreeMap<&str, Pod> = BTreeMap::new();
    for container in &containers {
        let label = |name| container.labels.get(name).map(String::as_str).unwrap_or_default();
        let pod = pods.entry(label(labels::POD_UID)).or_default();
        pod.metadata.name = Some(label(labels::POD_NAME).to_owned());
        pod.metadata.namespace = Some(label(labels::POD_NAMESPACE).to_owned());
        pod.metadata.uid = Some(label(labels::POD_UID).to_owned());
        pod.spec
            .get_or_insert_with(PodSpec::default)
            .containers
            .push(Container {
                name: label(labels::CONTAINER_NAME).to_owned(),
                image: container.image.as_ref().map(|image| image.image.clone()),
                ..Container::default()
            });
    }
    let items: Vec<_> = pods.into_values().collect();
    Ok(json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items}))
}

/// The pod of this name. While one ends and another of its name waits, the one that has containers is meant.
pub(super) fn find<'a>(pods: &'a [(Arc<Pod>, PodStatus)], key: &PodKey) -> Option<(&'a Pod, &'a PodStatus)> {
    let same = pods.iter().filter(|(pod, _)| pod_key(pod) == *key);
    same.max_by_key(|(_, status)| statuses(status).any(|status| status.container_id.is_some()))
        .map(|(pod, status)| (&**pod, status))
}

/// Whether a pod has a container of this name, of any sort.
pub(super) fn has_container(pod: &Pod, name: &str) -> bool {
    let Some(spec) = &pod.spec else { return false };
    let init = spec.init_containers.iter().flatten();
    let named = spec
        .containers
        .iter()
        .chain(init)
        .any(|container| container.name == name);
    named || spec.ephemeral_containers.iter().flatten().any(|one| one.name == name)
}

fn statuses(status: &PodStatus) -> impl Iterator<Item = &ContainerStatus> {
    let sorts = [
        &status.container_statuses,
        &status.init_container_statuses,
        &status.ephemeral_container_statuses,
    ];
    sorts.into_iter().flatten().flatten()
}

/// Without the runtime's name before it.
fn id(text: &str) -> Option<ContainerId> {
    let (_, id) = text.split_once("://")?;
    (!id.is_empty()).then(|| id.into())
}

/// The attempt whose log is wanted; else what the reader is told.
pub(super) fn logged(status: &PodStatus, pod: &str, name: &str, previous: bool) -> Result<ContainerId, String> {
    let Some(found) = statuses(status).find(|one| one.name == name) else {
        return Err(format!("container {name:?} in pod {pod:?} is not available"));
    };
    let ended = |state: &Option<bosun_api::core::ContainerState>| {
        let state = state.as_ref()?.terminated.as_ref()?;
        Some(state.container_id.as_deref().and_then(id))
    };
    let last = ended(&found.last_state);
    if previous {
        let missing = || format!("previous terminated container {name:?} in pod {pod:?} not found");
        return last.flatten().ok_or_else(missing);
    }
    let terminated = || format!("container {name:?} in pod {pod:?} is terminated");
    let state = found.state.as_ref();
    if state.is_some_and(|state| state.running.is_some()) {
        let own = found.container_id.as_deref().and_then(id);
        return own.ok_or_else(|| format!("container {name:?} in pod {pod:?} is not available"));
    }
    if let Some(own) = ended(&found.state) {
        return own.or_else(|| last.flatten()).ok_or_else(terminated);
    }
    if let Some(last) = last {
        return last.ok_or_else(terminated);
    }
    let reason = state.and_then(|state| state.waiting.as_ref()?.reason.as_deref());
    Err(match reason {
        Some("ErrImagePull") => {
            format!("container {name:?} in pod {pod:?} is waiting to start: image can't be pulled")
        }
        Some("ImagePullBackOff") => {
            format!("container {name:?} in pod {pod:?} is waiting to start: trying and failing to pull image")
        }
        Some(reason) => format!("container {name:?} in pod {pod:?} is waiting to start: {reason}"),
        None => format!("container {name:?} in pod {pod:?} is waiting to start - no logs yet"),
    })
}

/// The container of this name that runs now, by the runtime's own word: a status may lag behind.
pub(super) async fn running_container(
    runtime: &dyn Runtime,
    pod: &Pod,
    name: &str,
) -> Result<Option<ContainerId>, bosun_cri::Error> {
    let filter = v1::ContainerFilter {
        state: Some(v1::ContainerStateValue {
            state: v1::ContainerState::ContainerRunning.into(),
        }),
        label_selector: [
            (labels::POD_UID.to_owned(), pod_uid(pod).to_string()),
            (labels::CONTAINER_NAME.to_owned(), name.to_owned()),
        ]
        .into(),
        ..v1::ContainerFilter::default()
    };
    let found = runtime.list_containers(Some(filter)).await?;
    let newest = found.into_iter().max_by_key(|container| container.created_at);
    Ok(newest.map(|container| container.id.into()))
}

/// The sandbox of a pod that is ready now.
pub(super) async fn ready_sandbox(runtime: &dyn Runtime, uid: &PodUid) -> Result<Option<SandboxId>, bosun_cri::Error> {
    let filter = v1::PodSandboxFilter {
        state: Some(v1::PodSandboxStateValue {
            state: v1::PodSandboxState::SandboxReady.into(),
        }),
        label_selector: [(labels::POD_UID.to_owned(), uid.to_string())].into(),
        ..v1::PodSandboxFilter::default()
    };
    let found = runtime.list_sandboxes(Some(filter)).await?;
    let newest = found.into_iter().max_by_key(|sandbox| sandbox.created_at);
    Ok(newest.map(|sandbox| sandbox.id.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(state: &Value, last: &Value) -> PodStatus {
        let container = json!({
            "name": "app", "image": "", "imageID": "", "ready": false, "restartCount": 0,
            "containerID": "containerd://c2", "state": state, "lastState": last,
        });
        serde_json::from_value(json!({"containerStatuses": [container]})).unwrap()
    }

    #[test]
    fn a_log_is_that_of_the_attempt_that_last_ran_or_there_is_a_reason_for_none() {
        let ended = |id: &str| json!({"terminated": {"exitCode": 1, "containerID": id}});
        let waiting = |reason: &str| json!({"waiting": {"reason": reason}});
        let running = json!({"running": {}});
        let none = json!({});
        for (state, last, previous, expected) in [
            (running.clone(), none.clone(), false, Ok("c2")),
            (running.clone(), ended("containerd://c1"), true, Ok("c1")),
            (
                running.clone(),
                none.clone(),
                true,
                Err("previous terminated container \"app\" in pod \"web\" not found"),
            ),
            (ended("containerd://c2"), none.clone(), false, Ok("c2")),
            (
                ended(""),
                none.clone(),
                false,
                Err("container \"app\" in pod \"web\" is terminated"),
            ),
            (ended(""), ended("containerd://c1"), false, Ok("c1")),
            (waiting("CrashLoopBackOff"), ended("containerd://c1"), false, Ok("c1")),
            (
                waiting("ContainerCreating"),
                none.clone(),
                false,
                Err("container \"app\" in pod \"web\" is waiting to start: ContainerCreating"),
            ),
            (
                waiting("ErrImagePull"),
                none.clone(),
                false,
                Err("container \"app\" in pod \"web\" is waiting to start: image can't be pulled"),
            ),
            (
                waiting("ImagePullBackOff"),
                none.clone(),
                false,
                Err("container \"app\" in pod \"web\" is waiting to start: trying and failing to pull image"),
            ),
        ] {
            let found = logged(&status(&state, &last), "web", "app", previous);
            let expected = expected.map(ContainerId::from).map_err(str::to_owned);
            assert_eq!(found, expected, "{state} {last} {previous}");
        }
        let found = logged(&PodStatus::default(), "web", "app", false);
        assert_eq!(found.unwrap_err(), "container \"app\" in pod \"web\" is not available");
    }

    #[test]
    fn of_two_pods_of_a_name_the_one_with_containers_is_found() {
        let pod = |uid: &str| {
            let pod = json!({"metadata": {"namespace": "default", "name": "web", "uid": uid}});
            Arc::new(serde_json::from_value::<Pod>(pod).unwrap())
        };
        let pods = [
            (pod("u1"), status(&json!({"running": {}}), &json!({}))),
            (pod("u2"), PodStatus::default()),
        ];
        let key = PodKey {
            namespace: "default".to_owned(),
            name: "web".to_owned(),
        };
        assert_eq!(find(&pods, &key).unwrap().0.metadata.uid.as_deref(), Some("u1"));
        assert!(
            find(
                &pods,
                &PodKey {
                    name: "other".to_owned(),
                    ..key
                }
            )
            .is_none()
        );
    }
}
