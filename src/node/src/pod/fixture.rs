//! Pods and what is known of them, for the tables of tests.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use bosun_api::{
    ContainerId,
    core::{Container, Pod, PodSpec},
};
use jiff::Timestamp;

use super::{
    backoff::{Backoff, Limits},
    observed::{ContainerState, Exit, ObservedContainer, ObservedPod, ObservedSandbox, exit_reason},
    plan::{ImageState, JobKey, Retry, Verdict, View},
};

pub(crate) fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).expect("a time in range")
}

/// A pod `default/web` and all that a [`View`] refers to, at second 1000.
pub(crate) struct Fixture {
    pub(crate) pod: Pod,
    pub(crate) observed: ObservedPod,
    pub(crate) volumes_ready: bool,
    pub(crate) images: BTreeMap<String, ImageState>,
    pub(crate) verdicts: BTreeMap<ContainerId, Verdict>,
    pub(crate) backoffs: BTreeMap<String, Backoff>,
    pub(crate) retries: BTreeMap<JobKey, Retry>,
    pub(crate) busy: BTreeSet<JobKey>,
}

impl Fixture {
    /// A pod with these app containers and this restart policy, of which nothing exists yet.
    pub(crate) fn new(restart_policy: &str, containers: &[&str]) -> Self {
        let mut pod = Pod::default();
        pod.metadata.name = Some("web".into());
        pod.metadata.namespace = Some("default".into());
        pod.metadata.uid = Some("u1".into());
        pod.spec = Some(PodSpec {
            restart_policy: Some(restart_policy.into()),
            containers: containers.iter().map(|name| container(name)).collect(),
            ..PodSpec::default()
        });
        Self {
            pod,
            observed: ObservedPod::default(),
            volumes_ready: false,
            images: BTreeMap::new(),
            verdicts: BTreeMap::new(),
            backoffs: BTreeMap::new(),
            retries: BTreeMap::new(),
            busy: BTreeSet::new(),
        }
    }

    /// With volumes and images there, and a sandbox `s0`.
    pub(crate) fn prepared(mut self) -> Self {
        self.volumes_ready = true;
        self.images.insert("image".into(), ImageState::Present);
        self.sandbox("s0", 0, true)
    }

    pub(crate) fn init(mut self, name: &str, sidecar: bool) -> Self {
        let spec = self.pod.spec.as_mut().expect("the fixture has a spec");
        let mut init = container(name);
        init.restart_policy = sidecar.then(|| "Always".into());
        spec.init_containers.get_or_insert_default().push(init);
        self
    }

    pub(crate) fn sandbox(mut self, id: &str, attempt: u32, ready: bool) -> Self {
        self.observed.put_sandbox(ObservedSandbox {
            id: id.into(),
            attempt,
            ready,
            stopped: false,
            addresses: vec!["10.0.0.2".parse().expect("an address")],
        });
        self
    }

    /// A container `<name><attempt>` in the newest sandbox.
    pub(crate) fn with(mut self, name: &str, attempt: u32, state: ContainerState) -> Self {
        let sandbox = self.observed.sandboxes.first().expect("a sandbox").id.clone();
        self.observed.put_container(ObservedContainer {
            id: format!("{name}{attempt}").into(),
            name: name.into(),
            sandbox,
            attempt,
            state,
            image: "image".into(),
            image_id: "sha256:1".into(),
            out_of_memory: false,
        });
        self
    }

    pub(crate) fn verdict(mut self, id: &str, verdict: Verdict) -> Self {
        self.verdicts.insert(id.into(), verdict);
        self
    }

    pub(crate) fn view(&self) -> View<'_> {
        View {
            pod: &self.pod,
            observed: &self.observed,
            volumes_ready: self.volumes_ready,
            refresh_at: None,
            images: &self.images,
            verdicts: &self.verdicts,
            backoffs: &self.backoffs,
            limits: Limits::with_max(Duration::from_secs(300)),
            retries: &self.retries,
            busy: &self.busy,
            now: at(1000),
        }
    }
}

fn container(name: &str) -> Container {
    Container {
        name: name.into(),
        image: Some("image".into()),
        image_pull_policy: Some("IfNotPresent".into()),
        ..Container::default()
    }
}

/// Running since second 900.
pub(crate) fn running() -> ContainerState {
    ContainerState::Running { started_at: at(900) }
}

/// Ended at second 999.
pub(crate) fn exited(code: i32) -> ContainerState {
    ContainerState::Exited(Exit {
        code,
        reason: exit_reason(code, false).into(),
        message: String::new(),
        started_at: Some(at(900)),
        finished_at: at(999),
    })
}

pub(crate) fn ready() -> Verdict {
    Verdict {
        started: true,
        ready: true,
        failed: None,
    }
}

pub(crate) fn retry(until: i64, reason: &'static str) -> Retry {
    Retry {
        failures: 1,
        until: at(until),
        reason,
        message: "no luck".into(),
    }
}
