//! The fake runtime's state: sandboxes, containers, images, reserved names. No I/O, no waiting; `now` is passed in.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::Duration,
};

use bosun_api::{ContainerId, SandboxId};
use jiff::Timestamp;
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use super::Script;
use crate::{
    ErrorKind, RuntimeEvent,
    v1::{self, ContainerState, PodSandboxState},
};

/// The kind of an error and what containerd would say.
pub(super) type Refusal = (ErrorKind, String);

/// A moment on both clocks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Now {
    pub(super) at: Instant,
    pub(super) time: Timestamp,
}

impl Now {
    fn nanos(self) -> i64 {
        i64::try_from(self.time.as_nanosecond()).unwrap_or(i64::MAX)
    }
}

#[derive(Debug)]
pub(super) struct Sandbox {
    pub(super) config: v1::PodSandboxConfig,
    handler: String,
    ready: bool,
    created_at: i64,
    ip: String,
}

#[derive(Debug)]
pub(super) struct Container {
    pub(super) sandbox: SandboxId,
    pub(super) config: v1::ContainerConfig,
    image_id: String,
    life: Life,
    created_at: i64,
    pub(super) script: Script,
}

#[derive(Clone, Debug)]
enum Life {
    Created,
    Running {
        started_at: i64,
    },
    Exited {
        started_at: i64,
        finished_at: i64,
        code: i32,
        reason: &'static str,
        message: String,
        shown_from: Instant,
    },
}

impl Container {
    pub(super) fn is_running(&self) -> bool {
        matches!(self.life, Life::Running { .. })
    }

    pub(super) fn name(&self) -> &str {
        self.config.metadata.as_ref().map_or("", |m| &m.name)
    }

    /// What the status shows: it lags behind the exit, as containerd's does.
    fn shown(&self, now: Now) -> Life {
        match &self.life {
            Life::Exited {
                started_at, shown_from, ..
            } if *shown_from > now.at => Life::Running {
                started_at: *started_at,
            },
            life => life.clone(),
        }
    }

    fn state(&self, now: Now) -> ContainerState {
        match self.shown(now) {
            Life::Created => ContainerState::ContainerCreated,
            Life::Running { .. } => ContainerState::ContainerRunning,
            Life::Exited { .. } => ContainerState::ContainerExited,
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct World {
    pub(super) sandboxes: BTreeMap<SandboxId, Sandbox>,
    pub(super) containers: BTreeMap<ContainerId, Container>,
    pub(super) images: BTreeMap<String, v1::Image>,
    pub(super) scripts: HashMap<String, Script>,
    pub(super) registry: BTreeSet<String>,
    /// Names in use or being made, and for which id.
    names: HashMap<String, String>,
    made: u64,
    pub(super) status_lag: Duration,
}

impl World {
    pub(super) fn new(status_lag: Duration) -> Self {
        Self {
            status_lag,
            ..Self::default()
        }
    }

    /// 64 hexadecimal digits, the same ones in each run.
    fn next_id(&mut self) -> String {
        self.made += 1;
        let hash = Sha256::digest(self.made.to_be_bytes());
        hash.iter().fold(String::new(), |id, byte| id + &format!("{byte:02x}"))
    }

    /// Takes a name for a new object and gives its id.
    pub(super) fn reserve(&mut self, what: &str, name: &str) -> Result<String, Refusal> {
        if let Some(id) = self.names.get(name) {
            let message = format!("failed to reserve {what} name {name:?}: name {name:?} is reserved for {id:?}");
            return Err((ErrorKind::AlreadyExists, message));
        }
        let id = self.next_id();
        self.names.insert(name.to_owned(), id.clone());
        Ok(id)
    }

    pub(super) fn release(&mut self, id: &str) {
        self.names.retain(|_, of| of != id);
    }

    pub(super) fn add_sandbox(&mut self, id: &str, config: v1::PodSandboxConfig, handler: &str, now: Now) {
        let host = config
            .linux
            .as_ref()
            .and_then(|linux| linux.security_context.as_ref()?.namespace_options.as_ref())
            .is_some_and(|options| options.network() == v1::NamespaceMode::Node);
        let ip = if host {
            String::new()
        } else {
            format!("10.88.{}.{}", self.made / 250 % 250, self.made % 250 + 2)
        };
        let sandbox = Sandbox {
            config,
            handler: handler.to_owned(),
            ready: true,
            created_at: now.nanos(),
            ip,
        };
        self.sandboxes.insert(id.into(), sandbox);
    }

    pub(super) fn sandbox(&self, id: &SandboxId) -> Result<&Sandbox, Refusal> {
        let message = || format!("an error occurred when try to find sandbox: {id:?}: not found");
        self.sandboxes.get(id).ok_or_else(|| (ErrorKind::NotFound, message()))
    }

    pub(super) fn container(&self, id: &ContainerId) -> Result<&Container, Refusal> {
        let message = || format!("an error occurred when try to find container {id:?}: not found");
        self.containers.get(id).ok_or_else(|| (ErrorKind::NotFound, message()))
    }

    /// What `CreateContainer` needs to be there; the image's id.
    pub(super) fn check_create(&self, sandbox: &SandboxId, config: &v1::ContainerConfig) -> Result<String, Refusal> {
        if !self.sandbox(sandbox)?.ready {
            let message = format!(
                "failed to get sandbox container task: no running task found: task {sandbox} not found: not found"
            );
            return Err((ErrorKind::NotFound, message));
        }
        let image = config.image.as_ref().map_or("", |image| &image.image);
        match self.image(image) {
            Some(found) => Ok(found.id.clone()),
            None => Err((
                ErrorKind::NotFound,
                format!("failed to resolve image {image:?}: not found"),
            )),
        }
    }

    pub(super) fn add_container(
        &mut self,
        id: &str,
        sandbox: &SandboxId,
        config: v1::ContainerConfig,
        image_id: String,
        now: Now,
    ) {
        let name = config.metadata.as_ref().map_or("", |m| &m.name);
        let script = self.scripts.get(name).cloned().unwrap_or_default();
        let container = Container {
            sandbox: sandbox.clone(),
            config,
            image_id,
            life: Life::Created,
            created_at: now.nanos(),
            script,
        };
        self.containers.insert(id.into(), container);
    }

    /// The started container's script.
    pub(super) fn start(&mut self, id: &ContainerId, now: Now) -> Result<Script, Refusal> {
        self.container(id)?;
        let Some(container) = self.containers.get_mut(id) else {
            unreachable!("found above")
        };
        if !matches!(container.life, Life::Created) {
            let state = container.state(now).as_str_name();
            return Err((
                ErrorKind::Failed,
                format!("failed to set starting state: container is in {state} state"),
            ));
        }
        if let Some(error) = container.script.start_error.clone() {
            container.life = Life::Exited {
                started_at: 0,
                finished_at: now.nanos(),
                code: 128,
                reason: "StartError",
                message: error.clone(),
                shown_from: now.at,
            };
            return Err((
                ErrorKind::Failed,
                format!("failed to start containerd task: {error}: unknown"),
            ));
        }
        container.life = Life::Running {
            started_at: now.nanos(),
        };
        Ok(container.script.clone())
    }

    /// The main process ends. `None` if it does not run.
    pub(super) fn exit(&mut self, id: &ContainerId, code: i32, oom: bool, now: Now) -> Vec<RuntimeEvent> {
        let lag = self.status_lag;
        let Some(container) = self.containers.get_mut(id) else {
            return Vec::new();
        };
        let Life::Running { started_at } = container.life else {
            return Vec::new();
        };
        let reason = match (oom, code) {
            (true, _) => "OOMKilled",
            (false, 0) => "Completed",
            (false, _) => "Error",
        };
        let finished_at = now.nanos();
        container.life = Life::Exited {
            started_at,
            finished_at,
            code,
            reason,
            message: String::new(),
            shown_from: now.at + lag,
        };
        let id = id.to_string();
        let oom = oom.then(|| RuntimeEvent::OutOfMemory { id: id.clone() });
        let exited = RuntimeEvent::Exited {
            id,
            exit_code: code,
            finished_at: now.time,
        };
        oom.into_iter().chain([exited]).collect()
    }

    pub(super) fn remove_container(&mut self, id: &ContainerId, now: Now) -> Vec<RuntimeEvent> {
        let mut events = self.exit(id, 137, false, now);
        if self.containers.remove(id).is_some() {
            self.release(id.as_str());
            events.push(RuntimeEvent::Removed { id: id.to_string() });
        }
        events
    }

    /// The sandbox's own process ends; its containers are others' concern.
    pub(super) fn end_sandbox(&mut self, id: &SandboxId, now: Now) -> Vec<RuntimeEvent> {
        let was_ready = self
            .sandboxes
            .get_mut(id)
            .is_some_and(|sandbox| std::mem::take(&mut sandbox.ready));
        let exited = || RuntimeEvent::Exited {
            id: id.to_string(),
            exit_code: 137,
            finished_at: now.time,
        };
        was_ready.then(exited).into_iter().collect()
    }

    pub(super) fn stop_sandbox(&mut self, id: &SandboxId, now: Now) -> Vec<RuntimeEvent> {
        let mut events = Vec::new();
        for container in self.containers_of(id) {
            events.extend(self.exit(&container, 137, false, now));
        }
        events.extend(self.end_sandbox(id, now));
        events
    }

    pub(super) fn remove_sandbox(&mut self, id: &SandboxId, now: Now) -> Vec<RuntimeEvent> {
        let mut events = self.stop_sandbox(id, now);
        for container in self.containers_of(id) {
            events.extend(self.remove_container(&container, now));
        }
        if self.sandboxes.remove(id).is_some() {
            self.release(id.as_str());
            events.push(RuntimeEvent::Removed { id: id.to_string() });
        }
        events
    }

    fn containers_of(&self, sandbox: &SandboxId) -> Vec<ContainerId> {
        self.containers
            .iter()
            .filter(|(_, c)| c.sandbox == *sandbox)
            .map(|(id, _)| id.clone())
            .collect()
    }

    pub(super) fn sandbox_status(&self, id: &SandboxId) -> Result<v1::PodSandboxStatus, Refusal> {
        let sandbox = self.sandbox(id)?;
        let config = &sandbox.config;
        let ip = if sandbox.ready {
            sandbox.ip.clone()
        } else {
            String::new()
        };
        Ok(v1::PodSandboxStatus {
            id: id.to_string(),
            metadata: config.metadata.clone(),
            state: sandbox_state(sandbox).into(),
            created_at: sandbox.created_at,
            network: Some(v1::PodSandboxNetworkStatus {
                ip,
                additional_ips: Vec::new(),
            }),
            labels: config.labels.clone(),
            annotations: config.annotations.clone(),
            runtime_handler: sandbox.handler.clone(),
            ..v1::PodSandboxStatus::default()
        })
    }

    pub(super) fn container_status(&self, id: &ContainerId, now: Now) -> Result<v1::ContainerStatus, Refusal> {
        let container = self.container(id)?;
        let config = &container.config;
        let mut status = v1::ContainerStatus {
            id: id.to_string(),
            metadata: config.metadata.clone(),
            state: container.state(now).into(),
            created_at: container.created_at,
            image: config.image.clone(),
            image_ref: container.image_id.clone(),
            image_id: container.image_id.clone(),
            labels: config.labels.clone(),
            annotations: config.annotations.clone(),
            mounts: config.mounts.clone(),
            log_path: config.log_path.clone(),
            ..v1::ContainerStatus::default()
        };
        match container.shown(now) {
            Life::Created => {}
            Life::Running { started_at } => status.started_at = started_at,
            Life::Exited {
                started_at,
                finished_at,
                code,
                reason,
                message,
                ..
            } => {
                status.started_at = started_at;
                status.finished_at = finished_at;
                status.exit_code = code;
                reason.clone_into(&mut status.reason);
                status.message = message;
            }
        }
        Ok(status)
    }

    pub(super) fn list_sandboxes(&self, filter: &v1::PodSandboxFilter) -> Vec<v1::PodSandbox> {
        let matches = |id: &SandboxId, sandbox: &Sandbox| {
            (filter.id.is_empty() || id.as_str().starts_with(&filter.id))
                && filter.state.is_none_or(|state| state.state() == sandbox_state(sandbox))
                && selected(&filter.label_selector, &sandbox.config.labels)
        };
        self.sandboxes
            .iter()
            .filter(|(id, sandbox)| matches(id, sandbox))
            .map(|(id, sandbox)| v1::PodSandbox {
                id: id.to_string(),
                metadata: sandbox.config.metadata.clone(),
                state: sandbox_state(sandbox).into(),
                created_at: sandbox.created_at,
                labels: sandbox.config.labels.clone(),
                annotations: sandbox.config.annotations.clone(),
                runtime_handler: sandbox.handler.clone(),
            })
            .collect()
    }

    pub(super) fn list_containers(&self, filter: &v1::ContainerFilter, now: Now) -> Vec<v1::Container> {
        let matches = |id: &ContainerId, container: &Container| {
            (filter.id.is_empty() || id.as_str().starts_with(&filter.id))
                && (filter.pod_sandbox_id.is_empty() || container.sandbox.as_str() == filter.pod_sandbox_id)
                && filter.state.is_none_or(|state| state.state() == container.state(now))
                && selected(&filter.label_selector, &container.config.labels)
        };
        self.containers
            .iter()
            .filter(|(id, container)| matches(id, container))
            .map(|(id, container)| v1::Container {
                id: id.to_string(),
                pod_sandbox_id: container.sandbox.to_string(),
                metadata: container.config.metadata.clone(),
                image: container.config.image.clone(),
                image_ref: container.image_id.clone(),
                image_id: container.image_id.clone(),
                state: container.state(now).into(),
                created_at: container.created_at,
                labels: container.config.labels.clone(),
                annotations: container.config.annotations.clone(),
            })
            .collect()
    }

    /// By full or short name, or by id.
    pub(super) fn image(&self, name: &str) -> Option<&v1::Image> {
        let full = crate::images::full_name(name);
        let by_id = || self.images.values().find(|image| image.id == name);
        full.and_then(|full| self.images.get(&full)).or_else(by_id)
    }

    pub(super) fn add_image(&mut self, name: &str) {
        let hash = Sha256::digest(name.as_bytes());
        let id = hash
            .iter()
            .fold("sha256:".to_owned(), |id, byte| id + &format!("{byte:02x}"));
        let image = v1::Image {
            id,
            repo_tags: vec![name.to_owned()],
            size: 1 << 20,
            ..v1::Image::default()
        };
        self.images.insert(name.to_owned(), image);
    }
}

fn sandbox_state(sandbox: &Sandbox) -> PodSandboxState {
    if sandbox.ready {
        PodSandboxState::SandboxReady
    } else {
        PodSandboxState::SandboxNotready
    }
}

fn selected(selector: &HashMap<String, String>, labels: &HashMap<String, String>) -> bool {
    selector.iter().all(|(key, value)| labels.get(key) == Some(value))
}
