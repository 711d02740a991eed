//! What `bosun pods -o json` says, with the questions tests ask of it.

use std::{collections::BTreeMap, net::IpAddr};

use anyhow::{Context, bail};
use bosun_api::core::{ContainerState, ContainerStatus, Pod};
use serde::Deserialize;

/// The annotation with the milliseconds of each stage of a pod's start.
const STAGES: &str = "bosun.dev/start-stages";

/// The agent's pods, and the state of its manifests.
#[derive(Clone, Debug, Deserialize)]
pub struct PodList {
    /// Every pod the agent knows.
    items: Vec<Pod>,
    /// The manifest files that could not be used.
    #[serde(default)]
    pub manifests: Vec<Manifest>,
}

/// A manifest file and what is wrong with it.
#[derive(Clone, Debug, Deserialize)]
pub struct Manifest {
    /// The file, with or without its folder.
    pub file: String,
    /// What is wrong, naming the field.
    pub error: Option<String>,
}

impl PodList {
    /// Reads the command's output.
    pub fn parse(json: &str) -> anyhow::Result<Self> {
        serde_json::from_str(json).with_context(|| format!("`bosun pods -o json` printed {json:?}"))
    }

    /// All pods.
    pub fn pods(&self) -> impl Iterator<Item = PodView<'_>> {
        self.items.iter().map(PodView)
    }

    /// The one pod of this name.
    pub fn pod(&self, name: &str) -> anyhow::Result<PodView<'_>> {
        let mut named = self.pods().filter(|pod| pod.name() == name);
        let names = || self.pods().map(|pod| pod.name().to_owned()).collect::<Vec<_>>();
        let pod = named
            .next()
            .with_context(|| format!("no pod {name} among {:?}", names()))?;
        if named.next().is_some() {
            bail!("more than one pod {name}: {:?}", names());
        }
        Ok(pod)
    }

    /// What is wrong with a manifest file.
    pub fn error_of(&self, file: &str) -> Option<&str> {
        let manifest = self
            .manifests
            .iter()
            .find(|manifest| manifest.file.rsplit('/').next() == Some(file))?;
        manifest.error.as_deref()
    }
}

/// One pod as reported.
#[derive(Clone, Copy, Debug)]
pub struct PodView<'a>(&'a Pod);

impl<'a> PodView<'a> {
    /// The name in the manifest; agents may add the node's name after a dash, as upstream does.
    pub fn name(self) -> &'a str {
        let name = self.0.metadata.name.as_deref().unwrap_or_default();
        let node = self
            .0
            .spec
            .as_ref()
            .and_then(|spec| spec.node_name.as_deref())
            .unwrap_or_default();
        name.strip_suffix(node)
            .and_then(|name| name.strip_suffix('-'))
            .unwrap_or(name)
    }

    /// The pod's UID.
    pub fn uid(self) -> &'a str {
        self.0.metadata.uid.as_deref().unwrap_or_default()
    }

    /// `Pending`, `Running`, `Succeeded`, `Failed`.
    pub fn phase(self) -> &'a str {
        self.0
            .status
            .as_ref()
            .and_then(|status| status.phase.as_deref())
            .unwrap_or_default()
    }

    /// The reason and message of the pod itself.
    pub fn reason(self) -> String {
        let Some(status) = &self.0.status else {
            return String::new();
        };
        let parts = [status.reason.as_deref(), status.message.as_deref()];
        parts.into_iter().flatten().collect::<Vec<_>>().join(": ")
    }

    /// The pod's first address.
    pub fn ip(self) -> anyhow::Result<IpAddr> {
        let ip = self.0.status.as_ref().and_then(|status| status.pod_ip.as_deref());
        ip.and_then(|ip| ip.parse().ok())
            .with_context(|| format!("{} has no address: {ip:?}", self.name()))
    }

    /// Whether a condition stands at `True`.
    pub fn condition(self, name: &str) -> bool {
        let conditions = self.0.status.as_ref().and_then(|status| status.conditions.as_ref());
        conditions
            .into_iter()
            .flatten()
            .any(|condition| condition.type_ == name && condition.status == "True")
    }

    /// Whether the pod is ready.
    pub fn is_ready(self) -> bool {
        self.condition("Ready")
    }

    /// One of its containers, an init container or another.
    pub fn container(self, name: &str) -> anyhow::Result<ContainerView<'a>> {
        let found = self.containers().find(|container| container.name() == name);
        found.with_context(|| format!("{} reports no container {name}", self.name()))
    }

    /// Its containers, init containers first.
    pub fn containers(self) -> impl Iterator<Item = ContainerView<'a>> + use<'a> {
        let status = self.0.status.as_ref();
        let init = status.and_then(|status| status.init_container_statuses.as_ref());
        let main = status.and_then(|status| status.container_statuses.as_ref());
        init.into_iter()
            .flatten()
            .chain(main.into_iter().flatten())
            .map(ContainerView)
    }

    /// The milliseconds each stage of its start took.
    pub fn stages(self) -> anyhow::Result<BTreeMap<String, f64>> {
        let annotations = self.0.metadata.annotations.as_ref();
        let text = annotations
            .and_then(|annotations| annotations.get(STAGES))
            .context("no start stages")?;
        serde_json::from_str(text).with_context(|| format!("start stages {text:?}"))
    }

    /// The whole pod.
    pub fn whole(self) -> &'a Pod {
        self.0
    }
}

/// One container as reported.
#[derive(Clone, Copy, Debug)]
pub struct ContainerView<'a>(&'a ContainerStatus);

impl<'a> ContainerView<'a> {
    /// Its name in the pod.
    pub fn name(self) -> &'a str {
        &self.0.name
    }

    /// The runtime's id, without its scheme; empty before there is one.
    pub fn id(self) -> &'a str {
        self.0
            .container_id
            .as_deref()
            .map_or("", |id| id.split_once("://").map_or(id, |(_, id)| id))
    }

    /// How often it was started again.
    pub fn restarts(self) -> i32 {
        self.0.restart_count
    }

    /// Whether it is ready.
    pub fn is_ready(self) -> bool {
        self.0.ready
    }

    /// Whether its startup probe has succeeded.
    pub fn is_started(self) -> bool {
        self.0.started.unwrap_or_default()
    }

    /// Whether it runs.
    pub fn is_running(self) -> bool {
        self.state().is_some_and(|state| state.running.is_some())
    }

    /// The reason it waits, with its message; empty when it does not wait.
    pub fn waiting(self) -> String {
        let waiting = self.state().and_then(|state| state.waiting.as_ref());
        let parts = waiting.map(|w| [w.reason.as_deref(), w.message.as_deref()]);
        parts.into_iter().flatten().flatten().collect::<Vec<_>>().join(": ")
    }

    /// All it says of itself: why it waits, how it ended, now and before.
    pub fn words(self) -> String {
        let ends = [self.0.state.as_ref(), self.0.last_state.as_ref()]
            .into_iter()
            .flatten();
        let ends = ends.filter_map(|state| state.terminated.as_ref());
        let ends = ends
            .flat_map(|end| [end.reason.as_deref(), end.message.as_deref()])
            .flatten();
        format!("{} {}", self.waiting(), ends.collect::<Vec<_>>().join(" "))
    }

    /// Exit code and reason of its end, if it has ended.
    pub fn ended(self) -> Option<(i32, &'a str)> {
        end(self.state()?)
    }

    /// Exit code and reason of the end before this start.
    pub fn ended_before(self) -> Option<(i32, &'a str)> {
        end(self.0.last_state.as_ref()?)
    }

    /// When this run began.
    pub fn started_at(self) -> Option<String> {
        let started = self.state()?.running.as_ref()?.started_at.as_ref()?;
        Some(started.0.to_string())
    }

    fn state(self) -> Option<&'a ContainerState> {
        self.0.state.as_ref()
    }
}

fn end(state: &ContainerState) -> Option<(i32, &str)> {
    let terminated = state.terminated.as_ref()?;
    Some((terminated.exit_code, terminated.reason.as_deref().unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = r#"{"kind": "PodList", "apiVersion": "v1", "manifests": [{"file": "/m/bad.yaml", "error": "spec"}],
      "items": [{"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "web-n1", "uid": "u", "annotations": {"bosun.dev/start-stages": "{\"sandbox\": 12.5}"}},
        "spec": {"nodeName": "n1", "containers": [{"name": "c"}]},
        "status": {"phase": "Running", "podIP": "10.0.0.2", "conditions": [{"type": "Ready", "status": "True"}],
          "containerStatuses": [{"name": "c", "ready": true, "restartCount": 2, "image": "i", "imageID": "i",
            "containerID": "containerd://abc", "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "m"}},
            "lastState": {"terminated": {"exitCode": 137, "reason": "Error"}}}]}}]}"#;

    #[test]
    fn a_list_answers_what_tests_ask() {
        let list = PodList::parse(LIST).expect("a list");
        assert_eq!(list.error_of("bad.yaml"), Some("spec"));
        let pod = list.pod("web").expect("the pod");
        assert_eq!((pod.uid(), pod.phase(), pod.is_ready()), ("u", "Running", true));
        assert_eq!(pod.stages().expect("stages").get("sandbox"), Some(&12.5));
        let container = pod.container("c").expect("the container");
        assert_eq!(
            (container.id(), container.restarts(), container.is_running()),
            ("abc", 2, false)
        );
        assert_eq!(container.waiting(), "CrashLoopBackOff: m");
        assert_eq!(container.ended_before(), Some((137, "Error")));
        assert!(list.pod("other").is_err());
    }
}
