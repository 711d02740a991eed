//! What these controllers read of a pod.

use bosun_client::projected;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1 as core;
use kube::ResourceExt;
use serde::Deserialize;

projected! {
    /// A pod that a workload controller owns, or may.
    pub struct Pod: core::Pod {
        /// What is read of the spec.
        pub spec: PodSpec,
        /// What is read of the status.
        pub status: PodStatus,
    }
}

/// What is read of `spec`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct PodSpec {
    /// Where the pod runs, once that is decided.
    pub node_name: Option<String>,
    /// Where it may run; a daemon's pod names its node there.
    pub affinity: Option<core::Affinity>,
    /// Its volumes, of which only claims count.
    pub volumes: Vec<Volume>,
    /// Its init containers, among which are sidecars.
    pub init_containers: Vec<InitContainer>,
}

/// A volume of a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Volume {
    /// Its name in the pod.
    pub name: String,
    /// The claim behind it, if it is one.
    pub persistent_volume_claim: Option<VolumeClaim>,
}

/// A claim behind a volume.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct VolumeClaim {
    /// Its name.
    pub claim_name: String,
}

/// An init container of a pod.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct InitContainer {
    /// Its name.
    pub name: String,
    /// `Always` for a sidecar.
    pub restart_policy: Option<String>,
}

/// What is read of `status`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct PodStatus {
    /// `Pending`, `Running`, `Succeeded`, `Failed` or `Unknown`.
    pub phase: Phase,
    /// Conditions, of which `Ready` counts most.
    pub conditions: Vec<Condition>,
    /// Containers.
    pub container_statuses: Vec<ContainerStatus>,
    /// Init containers.
    pub init_container_statuses: Vec<ContainerStatus>,
}

/// Where a pod is in its life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(from = "String")]
pub enum Phase {
    /// Not all of its containers have been started.
    #[default]
    Pending,
    /// Its node doesn't say.
    Unknown,
    /// Its containers have been started.
    Running,
    /// All of them ended well.
    Succeeded,
    /// All of them ended, one at least badly.
    Failed,
}

impl From<String> for Phase {
    fn from(text: String) -> Self {
        match text.as_str() {
            "" | "Pending" => Self::Pending,
            "Running" => Self::Running,
            "Succeeded" => Self::Succeeded,
            "Failed" => Self::Failed,
            _ => Self::Unknown,
        }
    }
}

/// A condition of a pod.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Condition {
    /// Such as `Ready`.
    #[serde(rename = "type")]
    pub type_: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// Since when.
    pub last_transition_time: Option<Timestamp>,
}

/// How a container is.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ContainerStatus {
    /// Its name.
    pub name: String,
    /// How often it was started again.
    pub restart_count: i32,
    /// What it does.
    pub state: ContainerState,
}

/// What a container does.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ContainerState {
    /// How it ended, if it did.
    pub terminated: Option<Terminated>,
}

/// How a container ended.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Terminated {
    /// Its exit code.
    pub exit_code: i32,
    /// When.
    pub finished_at: Option<Timestamp>,
}

impl Pod {
    /// `metadata.name`.
    pub fn name(&self) -> &str {
        self.metadata.name.as_deref().unwrap_or_default()
    }

    /// `metadata.uid`.
    pub fn uid(&self) -> &str {
        self.metadata.uid.as_deref().unwrap_or_default()
    }

    /// The value of a label.
    pub fn label(&self, key: &str) -> Option<&str> {
        self.labels().get(key).map(String::as_str)
    }

    /// The value of an annotation.
    pub fn annotation(&self, key: &str) -> Option<&str> {
        self.annotations().get(key).map(String::as_str)
    }

    /// The node that the pod is bound to.
    pub fn node(&self) -> Option<&str> {
        self.spec.node_name.as_deref().filter(|node| !node.is_empty())
    }

    /// The pod was told to end.
    pub fn is_terminating(&self) -> bool {
        self.metadata.deletion_timestamp.is_some()
    }

    /// The pod has ended.
    pub fn is_finished(&self) -> bool {
        matches!(self.status.phase, Phase::Succeeded | Phase::Failed)
    }

    /// The pod runs, or will.
    pub fn is_active(&self) -> bool {
        !self.is_finished() && !self.is_terminating()
    }

    /// One of its conditions.
    pub fn condition(&self, type_: &str) -> Option<&Condition> {
        self.status.conditions.iter().find(|condition| condition.type_ == type_)
    }

    /// It serves.
    pub fn is_ready(&self) -> bool {
        self.condition("Ready").is_some_and(|ready| ready.status == "True")
    }

    /// From when on it has served for `min_ready_seconds`; `None` as long as it doesn't serve.
    pub fn available_at(&self, min_ready_seconds: i32) -> Option<Timestamp> {
        let ready = self.condition("Ready").filter(|ready| ready.status == "True")?;
        if min_ready_seconds <= 0 {
            return Some(Timestamp::MIN);
        }
        ready.last_transition_time?.checked_add(SignedDuration::from_secs(min_ready_seconds.into())).ok()
    }

    /// It has served for `min_ready_seconds`.
    pub fn is_available(&self, min_ready_seconds: i32, now: Timestamp) -> bool {
        self.available_at(min_ready_seconds).is_some_and(|at| at <= now)
    }

    /// The most restarts of one of its containers, and of one of its sidecars.
    pub fn restarts(&self) -> (i32, i32) {
        let most = |statuses: &mut dyn Iterator<Item = &ContainerStatus>| {
            statuses.map(|status| status.restart_count).max().unwrap_or_default()
        };
        (
            most(&mut self.status.container_statuses.iter()),
            most(&mut self.sidecar_statuses()),
        )
    }

    /// All restarts of all containers.
    pub fn all_restarts(&self) -> i32 {
        let statuses = self.status.container_statuses.iter().chain(&self.status.init_container_statuses);
        statuses.fold(0, |sum, status| sum.saturating_add(status.restart_count))
    }

    fn sidecar_statuses(&self) -> impl Iterator<Item = &ContainerStatus> {
        let is_sidecar = |name: &str| {
            let mut containers = self.spec.init_containers.iter();
            containers.any(|container| container.name == name && container.restart_policy.as_deref() == Some("Always"))
        };
        let statuses = self.status.init_container_statuses.iter();
        statuses.filter(move |status| is_sidecar(&status.name))
    }

    /// When it ended, as well as can be told: when its last container did, else when it stopped being ready, else when
    /// it was told to end, else when it was made.
    pub fn finished_at(&self) -> Timestamp {
        let containers = || {
            let mut last = None;
            for status in self.status.container_statuses.iter().chain(self.sidecar_statuses()) {
                last = last.max(Some(status.state.terminated.as_ref()?.finished_at?));
            }
            last
        };
        let unready = || {
            let ready = self.condition("Ready").filter(|ready| ready.status == "False")?;
            ready.last_transition_time
        };
        let deleted = || {
            let grace = self.metadata.deletion_grace_period_seconds.unwrap_or_default();
            let deadline = self.metadata.deletion_timestamp.as_ref()?.0;
            deadline.checked_sub(SignedDuration::from_secs(grace)).ok()
        };
        let created = || self.metadata.creation_timestamp.as_ref().map(|time| time.0);
        containers().or_else(unready).or_else(deleted).or_else(created).unwrap_or(Timestamp::MIN)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(json: serde_json::Value) -> Pod {
        serde_json::from_value(json).unwrap()
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn a_pod_is_available_once_it_has_been_ready_for_long_enough() {
        let ready = |status: &str| {
            pod(json!({"metadata": {}, "status": {"phase": "Running", "conditions": [
                {"type": "Ready", "status": status, "lastTransitionTime": "2026-01-01T00:00:00Z"}]}}))
        };
        let now = at("2026-01-01T00:00:10Z");
        for (status, seconds, expected) in
            [("True", 0, true), ("True", 10, true), ("True", 11, false), ("False", 0, false)]
        {
            assert_eq!(ready(status).is_available(seconds, now), expected, "{status} for {seconds}");
        }
        assert!(!pod(json!({"metadata": {}})).is_available(0, now));
    }

    #[test]
    fn phases_are_read_and_new_ones_are_unknown() {
        for (text, expected) in [
            (json!("Running"), Phase::Running),
            (json!(""), Phase::Pending),
            (json!("Asleep"), Phase::Unknown),
        ] {
            let pod = pod(json!({"metadata": {}, "status": {"phase": text}}));
            assert_eq!(pod.status.phase, expected);
        }
        assert!(Phase::Pending < Phase::Unknown && Phase::Unknown < Phase::Running);
    }

    #[test]
    fn a_pod_ended_when_its_last_container_did_else_as_near_as_can_be_told() {
        let end = |second: u8| json!({"state": {"terminated": {"exitCode": 1, "finishedAt": format!("2026-01-01T00:00:0{second}Z")}}});
        let unready = json!([{"type": "Ready", "status": "False", "lastTransitionTime": "2026-01-01T00:00:05Z"}]);
        let meta = json!({
            "creationTimestamp": "2026-01-01T00:00:01Z",
            "deletionTimestamp": "2026-01-01T00:00:33Z",
            "deletionGracePeriodSeconds": 30,
        });
        for (status, expected) in [
            (json!({"containerStatuses": [end(3), end(2)], "conditions": unready}), "2026-01-01T00:00:03Z"),
            (json!({"containerStatuses": [end(3), {"state": {}}], "conditions": unready}), "2026-01-01T00:00:05Z"),
            (json!({}), "2026-01-01T00:00:03Z"),
        ] {
            let pod = pod(json!({"metadata": meta, "status": status}));
            assert_eq!(pod.finished_at(), at(expected), "{status}");
        }
    }
}
