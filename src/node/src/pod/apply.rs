//! Does what a plan says: one function a job, each safe to repeat, each with the runtime's deadlines.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use bosun_api::{
    ContainerId, PodKey, PodUid, SandboxId,
    core::{Container, Pod},
    labels,
};
use bosun_cri::{ErrorKind, v1};
use tokio::sync::mpsc;

use super::{
    container::{self, ContainerContext},
    env::EnvContext,
    hooks,
    observed::{ContainerState, ObservedContainer, ObservedPod, ObservedSandbox},
    plan::Job,
    sandbox::{self, SandboxContext},
    sub_path::{self, SubPath},
    volumes::{self, VolumeSources},
    words,
    worker::Message,
};
use crate::{
    cgroup,
    checkpoint::{self, Checkpoint},
    node::Node,
    places::Places,
    probe::action::Target,
};

/// At least this long between the end of a `preStop` hook and the kill, as upstream grants.
const LEAST_GRACE: Duration = Duration::from_secs(2);

/// A `postStart` hook that runs longer has failed. (Upstream waits for ever.)
const POST_START_LIMIT: Duration = Duration::from_mins(10);

/// How often, and how far apart, the runtime is asked whether a container's log is whole.
const LOG_LOOKS: usize = 40;
const BETWEEN_LOG_LOOKS: Duration = Duration::from_millis(25);

/// How long a sandbox waits for its image to be imported.
const SANDBOX_IMAGE_LIMIT: Duration = Duration::from_secs(10);

/// What a job needs to know; what it finds out on the way goes to the worker at once.
#[derive(Clone, Debug)]
pub struct Task {
    /// What all pods share.
    pub node: Arc<Node>,
    /// The pod as wanted.
    pub pod: Arc<Pod>,
    /// Its UID.
    pub uid: PodUid,
    /// Its name.
    pub key: PodKey,
    /// The pod as the runtime has it when the job begins.
    pub observed: ObservedPod,
    /// Its volumes, once they stand.
    pub volumes: Arc<VolumeSources>,
    /// To the pod's worker.
    pub worker_tx: mpsc::UnboundedSender<Message>,
}

/// What a job brought about.
#[derive(Debug)]
pub enum Outcome {
    /// The runtime has exactly this of the pod.
    Observed(ObservedPod),
    /// Directories, volumes and cgroup stand.
    Volumes(VolumeSources),
    /// The image is present.
    Image,
    /// A sandbox runs.
    Sandbox {
        /// The new one.
        sandbox: ObservedSandbox,
        /// Those before it, now stopped.
        stopped: Vec<SandboxId>,
    },
    /// A container runs and its `postStart` hook is done, or it ended already.
    Started,
    /// A container ended.
    Ended(Box<ObservedContainer>),
    /// A sandbox is stopped and its network is down.
    SandboxStopped(SandboxId),
    /// A container or a sandbox is gone.
    Removed(String),
    /// Nothing of the pod is left.
    CleanedUp,
}

/// A job that failed.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// Upstream's reason.
    pub reason: &'static str,
    /// For a person.
    pub message: String,
    /// The runtime may have done it all the same: ask before trying again.
    pub unsure: bool,
}

impl Failure {
    fn new(reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
            unsure: false,
        }
    }

    fn of_call(reason: &'static str, error: &bosun_cri::Error) -> Self {
        Self {
            reason,
            message: error.to_string(),
            unsure: error.kind != ErrorKind::InvalidArgument,
        }
    }

    fn of_io(reason: &'static str, what: &str, path: &Path, error: &io::Error) -> Self {
        Self::new(reason, format!("{what} {}: {error}", path.display()))
    }
}

type Result<T> = std::result::Result<T, Failure>;

/// Does one job.
pub async fn apply(task: Task, job: Job) -> Result<Outcome> {
    match job {
        Job::Observe => task.observe().await,
        Job::Volumes => task.set_up().await,
        Job::Image { image, policy } => {
            let node = &task.node;
            let ensured = node.images.ensure(node.runtime.as_ref(), &image, &policy).await;
            // The worker knows how often it failed and words the reason accordingly.
            ensured
                .map(|()| Outcome::Image)
                .map_err(|error| Failure::new(error.reason(1), error.to_string()))
        }
        Job::Sandbox { attempt, stop } => task.run_sandbox(attempt, stop).await,
        Job::Start { name, attempt, sandbox } => task.start(&name, attempt, &sandbox).await,
        Job::Stop { id, name, grace, why } => task.stop(&id, &name, grace, &why).await,
        Job::StopSandbox { id } => {
            let stopped = task.node.runtime.stop_sandbox(&id).await;
            stopped.map_err(|error| Failure::of_call("KillPodSandboxError", &error))?;
            Ok(Outcome::SandboxStopped(id))
        }
        Job::Remove { id } => task.remove(&id).await,
        Job::RemoveSandbox { id } => {
            let removed = task.node.runtime.remove_sandbox(&id).await;
            removed.map_err(|error| Failure::of_call("FailedRemovePodSandBox", &error))?;
            Ok(Outcome::Removed(id.to_string()))
        }
        Job::Cleanup => task.clean_up().await,
    }
}

/// Runs file-system work where it can't hold up anybody.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(Failure::new("InternalError", error.to_string())))
}

impl Task {
    fn tell(&self, message: Message) {
        // A worker that has ended needs no news.
        let _ = self.worker_tx.send(message);
    }

    fn cgroup(&self) -> String {
        self.node.cgroups.path(&self.pod, &self.uid)
    }

    async fn observe(&self) -> Result<Outcome> {
        let failed = |error: bosun_cri::Error| {
            let mut failure = Failure::of_call("ObserveFailed", &error);
            // What keeps our containerd from running says more than that it doesn't answer.
            if let Some(reason) = self
                .node
                .runtime_down()
                .filter(|_| error.kind == ErrorKind::Unavailable)
            {
                failure.message = format!("the container runtime is down: {reason}");
            }
            failure
        };
        let runtime = &self.node.runtime;
        let selector = std::collections::HashMap::from([
            (labels::POD_UID.to_owned(), self.uid.to_string()),
            (labels::NODE.to_owned(), self.node.name.clone()),
        ]);
        let sandboxes = runtime.list_sandboxes(Some(v1::PodSandboxFilter {
            label_selector: selector.clone(),
            ..v1::PodSandboxFilter::default()
        }));
        let containers = runtime.list_containers(Some(v1::ContainerFilter {
            label_selector: selector,
            ..v1::ContainerFilter::default()
        }));
        let (sandboxes, containers) = tokio::join!(sandboxes, containers);
        let mut observed = ObservedPod::default();
        for sandbox in sandboxes.map_err(failed)? {
            self.node.routes.claim(&sandbox.id, &self.worker_tx);
            let id = SandboxId::from(sandbox.id);
            let ready = sandbox.state == i32::from(v1::PodSandboxState::SandboxReady);
            let known = self.observed.sandboxes.iter().find(|known| known.id == id);
            let addresses = match known {
                Some(known) => known.addresses.clone(),
                None if ready => match runtime.sandbox_status(&id).await {
                    Ok(status) => addresses(&status),
                    Err(error) if error.kind == ErrorKind::NotFound => continue,
                    Err(error) => return Err(failed(error)),
                },
                None => vec![],
            };
            observed.put_sandbox(ObservedSandbox {
                attempt: sandbox.metadata.map_or(0, |metadata| metadata.attempt),
                ready,
                stopped: !ready && known.is_some_and(|known| known.stopped),
                addresses,
                id,
            });
        }
        for container in containers.map_err(failed)? {
            self.node.routes.claim(&container.id, &self.worker_tx);
            let sandbox = SandboxId::from(container.pod_sandbox_id);
            let known = self
                .observed
                .container(&container.id)
                .filter(|known| known.exit().is_some());
            if let Some(known) = known {
                observed.put_container(known.clone());
                continue;
            }
            match self.inspect(&container.id.into(), &sandbox).await {
                Ok(Some(container)) => observed.put_container(container),
                Ok(None) => {}
                Err(error) => return Err(failed(error)),
            }
        }
        Ok(Outcome::Observed(observed))
    }

    /// One container as the runtime has it; `None` when it is gone.
    async fn inspect(
        &self,
        id: &ContainerId,
        sandbox: &SandboxId,
    ) -> std::result::Result<Option<ObservedContainer>, bosun_cri::Error> {
        let status = match self.node.runtime.container_status(id).await {
            Ok(status) => status,
            Err(error) if error.kind == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut container = words::observed_container(&status, sandbox);
        if let ContainerState::Exited(exit) = &mut container.state
            && exit.message.is_empty()
        {
            exit.message = self.last_words(&container.name, container.attempt, exit.code).await;
        }
        Ok(Some(container))
    }

    /// What a container that just ended left for those who ask why.
    pub async fn last_words_of(&self, id: &ContainerId, name: &str, attempt: u32, exit_code: i32) -> String {
        let words = self.last_words(name, attempt, exit_code).await;
        if !words.is_empty() || exit_code == 0 {
            return words;
        }
        // Its log is whole once the runtime itself calls it ended, some tens of milliseconds after the event.
        for _ in 0..LOG_LOOKS {
            match self.node.runtime.container_status(id).await {
                Ok(status) if status.state() == v1::ContainerState::ContainerRunning => {}
                _ => break,
            }
            tokio::time::sleep(BETWEEN_LOG_LOOKS).await;
        }
        self.last_words(name, attempt, exit_code).await
    }

    async fn last_words(&self, name: &str, attempt: u32, exit_code: i32) -> String {
        let places = &self.node.places;
        let message = places.termination_message(&self.uid, name, attempt);
        let log = places
            .pod_logs(&self.key, &self.uid)
            .join(Places::log_file(name, attempt));
        let policy = self
            .spec(name)
            .and_then(|container| container.termination_message_policy.clone());
        let read = blocking(move || Ok(words::last_words(&message, &log, policy.as_deref(), exit_code)));
        read.await.unwrap_or_default()
    }

    fn spec(&self, name: &str) -> Option<&Container> {
        let spec = self.pod.spec.as_ref()?;
        let mut all = spec.init_containers.iter().flatten().chain(&spec.containers);
        all.find(|container| container.name == name)
    }

    async fn set_up(self) -> Result<Outcome> {
        blocking(move || {
            let reason = "FailedMount";
            let places = &self.node.places;
            let mark = places.checkpoint(&self.uid);
            if !mark.exists() {
                let first = Checkpoint {
                    key: self.key.clone(),
                    accepted_at: self.node.clock.now(),
                    backoffs: BTreeMap::new(),
                    verdicts: BTreeMap::new(),
                };
                let written = checkpoint::write(&mark, &first);
                written.map_err(|error| Failure::of_io(reason, "writing", &mark, &error))?;
            }
            let directories = [places.pod(&self.uid), places.pod_logs(&self.key, &self.uid)];
            for directory in directories {
                let made = fs::create_dir_all(&directory);
                made.map_err(|error| Failure::of_io(reason, "making", &directory, &error))?;
            }
            let sources = volumes::set_up(places, &self.pod, &self.uid)
                .map_err(|error| Failure::new(reason, words::chain(&error)))?;
            self.node
                .cgroups
                .set_up(&self.pod, &self.uid)
                .map_err(|error| Failure::new("FailedCreatePodContainer", words::chain(&error)))?;
            Ok(Outcome::Volumes(sources))
        })
        .await
    }

    fn sandbox_config(&self, attempt: u32) -> v1::PodSandboxConfig {
        let context = SandboxContext {
            node_name: &self.node.name,
            cgroup_parent: &self.cgroup(),
            log_directory: &self.node.places.pod_logs(&self.key, &self.uid),
            resources: cgroup::sandbox_resources(&self.pod),
            overhead: cgroup::overhead(&self.pod),
        };
        sandbox::sandbox_config(&self.pod, attempt, &context)
    }

    async fn run_sandbox(&self, attempt: u32, stop: Vec<SandboxId>) -> Result<Outcome> {
        let reason = "FailedCreatePodSandBox";
        let runtime = &self.node.runtime;
        for id in &stop {
            let stopped = runtime.stop_sandbox(id).await;
            stopped.map_err(|error| Failure::of_call("KillPodSandboxError", &error))?;
        }
        self.node
            .sandbox_image_ready(SANDBOX_IMAGE_LIMIT)
            .await
            .map_err(|problem| Failure::new(reason, problem))?;
        let config = self.sandbox_config(attempt);
        let handler = self
            .pod
            .spec
            .as_ref()
            .and_then(|spec| spec.runtime_class_name.clone())
            .unwrap_or_default();
        let id = runtime.run_sandbox(&config, &handler).await;
        let id = id.map_err(|error| Failure::of_call(reason, &error))?;
        self.node.routes.claim(id.as_str(), &self.worker_tx);
        let status = runtime.sandbox_status(&id).await;
        let status = status.map_err(|error| Failure::of_call(reason, &error))?;
        Ok(Outcome::Sandbox {
            sandbox: ObservedSandbox {
                attempt,
                ready: status.state == i32::from(v1::PodSandboxState::SandboxReady),
                stopped: false,
                addresses: addresses(&status),
                id,
            },
            stopped: stop,
        })
    }

    async fn start(&self, name: &str, attempt: u32, sandbox: &SandboxId) -> Result<Outcome> {
        let reason = "CreateContainerConfigError";
        let container = self
            .spec(name)
            .ok_or_else(|| Failure::new(reason, "the pod has no such container"))?;
        let ready = self.observed.sandboxes.iter().find(|known| known.id == *sandbox);
        let ready = ready.ok_or_else(|| Failure::new(reason, "its sandbox is gone"))?;
        let pod_addresses = if ready.addresses.is_empty() {
            &self.node.host_addresses
        } else {
            &ready.addresses
        };
        let places = &self.node.places;
        let last_words = places.termination_message(&self.uid, name, attempt);
        let hosts = words::hosts_file(&self.pod, pod_addresses).map(|text| (places.hosts_file(&self.uid), text));
        let hosts_file = hosts.as_ref().map(|(path, _)| path.clone());
        let env = EnvContext {
            node_name: &self.node.name,
            host_addresses: &self.node.host_addresses,
            pod_addresses,
            allocatable_milli_cpu: self.node.allocatable_milli_cpu,
            allocatable_memory: self.node.allocatable_memory,
        };
        let parts =
            container::sub_paths(&self.pod, container, &env).map_err(|problem| Failure::new(reason, problem))?;
        let sub_paths = self.bind_sub_paths(name, parts).await?;
        let config = container::container_config(
            &self.pod,
            container,
            attempt,
            &ContainerContext {
                env,
                volumes: &self.volumes,
                sub_paths: &sub_paths,
                hosts_file: hosts_file.as_deref(),
                termination_message: &last_words,
                resources: cgroup::container_resources(&self.pod, container, self.node.allocatable_memory),
            },
        )
        .map_err(|problem| Failure::new(reason, problem))?;
        let log = places.pod_logs(&self.key, &self.uid).join(&config.log_path);
        blocking(move || prepare_files(&last_words, &log, hosts)).await?;
        self.create_and_start(container, attempt, sandbox, &config).await
    }

    async fn bind_sub_paths(
        &self,
        container: &str,
        parts: Vec<(usize, String, String)>,
    ) -> Result<BTreeMap<usize, PathBuf>> {
        if parts.is_empty() {
            return Ok(BTreeMap::new());
        }
        let (places, uid, volumes) = (self.node.places.clone(), self.uid.clone(), self.volumes.clone());
        let container = container.to_owned();
        blocking(move || {
            let mut bound = BTreeMap::new();
            for (index, volume_name, path) in parts {
                // A volume that isn't there is told of with the other mounts.
                let Some(volume) = volumes.get(&volume_name).cloned() else {
                    continue;
                };
                let part = SubPath {
                    volume,
                    volume_name,
                    path,
                    container: container.clone(),
                    index,
                };
                let place = sub_path::set_up(&places, &uid, &part)
                    .map_err(|error| Failure::new("CreateContainerConfigError", words::chain(&error)))?;
                bound.insert(index, place);
            }
            Ok(bound)
        })
        .await
    }

    async fn create_and_start(
        &self,
        container: &Container,
        attempt: u32,
        sandbox: &SandboxId,
        config: &v1::ContainerConfig,
    ) -> Result<Outcome> {
        let runtime = &self.node.runtime;
        let name = &container.name;
        let last_exit = self
            .observed
            .newest(name)
            .and_then(ObservedContainer::exit)
            .map(|exit| exit.finished_at);
        let since_exit = last_exit.map(|at| self.node.clock.now().duration_since(at).as_micros());
        tracing::info!(container = %name, attempt, since_exit_us = since_exit, "creating container");
        let sandbox_attempt = self.observed.sandboxes.iter().find(|known| known.id == *sandbox);
        let sandbox_config = self.sandbox_config(sandbox_attempt.map_or(0, |known| known.attempt));
        let created = runtime.create_container(sandbox, config, &sandbox_config).await;
        let id = created.map_err(|error| Failure::of_call("CreateContainerError", &error))?;
        // Claimed before it starts: its exit can't come earlier.
        self.node.routes.claim(id.as_str(), &self.worker_tx);
        self.tell(Message::Seen(Box::new(ObservedContainer {
            id: id.clone(),
            name: name.clone(),
            sandbox: sandbox.clone(),
            attempt,
            state: ContainerState::Created,
            image: container.image.clone().unwrap_or_default(),
            image_id: String::new(),
            out_of_memory: false,
        })));
        let started = runtime.start_container(&id).await;
        // The runtime's own account: when it started and which image it is, or how it failed.
        let found = self.inspect(&id, sandbox).await;
        let found = found.map_err(|error| Failure::of_call("RunContainerError", &error))?;
        let ended = found.as_ref().is_none_or(|found| found.exit().is_some());
        if let Some(found) = found {
            self.tell(Message::Seen(Box::new(found)));
        }
        if let Err(error) = started {
            tracing::warn!(container = %name, %error, "container did not start");
            // One that failed to start has ended, and its restart policy decides; otherwise nobody knows.
            return if ended {
                Ok(Outcome::Started)
            } else {
                Err(Failure::of_call("RunContainerError", &error))
            };
        }
        tracing::info!(container = %name, id = %id, attempt, "container started");
        self.link_log(name, attempt, &id).await;
        self.post_start(container, &id).await
    }

    /// A missing link only keeps log shippers from finding the log: no reason to fail a container.
    async fn link_log(&self, name: &str, attempt: u32, id: &ContainerId) {
        let places = &self.node.places;
        let log = places
            .pod_logs(&self.key, &self.uid)
            .join(Places::log_file(name, attempt));
        let link = places.log_link(&self.key, name, id);
        let linked = blocking(move || {
            let made = link.parent().map_or(Ok(()), fs::create_dir_all);
            let made = made.and_then(|()| match std::os::unix::fs::symlink(&log, &link) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
                _ => Ok(()),
            });
            made.map_err(|error| Failure::of_io("FailedLink", "linking the log at", &link, &error))
        });
        if let Err(error) = linked.await {
            tracing::warn!(container = %name, %error, "log shippers will not find this log");
        }
    }

    async fn post_start(&self, container: &Container, id: &ContainerId) -> Result<Outcome> {
        let Some(handler) = container
            .lifecycle
            .as_ref()
            .and_then(|lifecycle| lifecycle.post_start.as_ref())
        else {
            return Ok(Outcome::Started);
        };
        let target = self.hook_target(container);
        if let Err(error) = hooks::run_hook(&self.node.runtime, id, handler, &target, POST_START_LIMIT).await {
            tracing::warn!(container = %container.name, %error, "postStart hook failed; the container is stopped");
            let stopped = self
                .node
                .runtime
                .stop_container(id, super::plan::grace(&self.pod))
                .await;
            stopped.map_err(|error| Failure::of_call("FailedPostStartHook", &error))?;
        }
        Ok(Outcome::Started)
    }

    fn hook_target<'a>(&self, container: &'a Container) -> Target<'a> {
        let pod = self
            .observed
            .ready_sandbox()
            .and_then(|sandbox| sandbox.addresses.first());
        Target {
            address: pod.or(self.node.host_addresses.first()).copied(),
            container,
        }
    }

    async fn stop(&self, id: &ContainerId, name: &str, grace: Duration, why: &str) -> Result<Outcome> {
        tracing::info!(container = %name, id = %id, grace_s = grace.as_secs(), why, "stopping container");
        let begun = Instant::now();
        let container = self.spec(name);
        let handler = container.and_then(|container| container.lifecycle.as_ref()?.pre_stop.as_ref());
        let runs = self
            .observed
            .container(id.as_str())
            .is_some_and(ObservedContainer::is_running);
        if let (Some(handler), Some(container), true) = (handler, container, runs && !grace.is_zero()) {
            let target = self.hook_target(container);
            if let Err(error) = hooks::run_hook(&self.node.runtime, id, handler, &target, grace).await {
                tracing::warn!(container = %name, %error, "preStop hook failed; stopping goes on");
            }
        }
        let left = grace.saturating_sub(begun.elapsed());
        let left = if grace.is_zero() {
            grace
        } else {
            left.max(LEAST_GRACE.min(grace))
        };
        let stopped = self.node.runtime.stop_container(id, left).await;
        stopped.map_err(|error| Failure::of_call("FailedKillPod", &error))?;
        let known = self.observed.container(id.as_str());
        let sandbox = known.map_or_else(|| SandboxId::from(""), |known| known.sandbox.clone());
        match self.inspect(id, &sandbox).await {
            Ok(Some(container)) if container.exit().is_some() => Ok(Outcome::Ended(Box::new(container))),
            // Its status lags behind: it is asked for again, not stopped again at once.
            Ok(Some(_)) => Err(Failure {
                unsure: true,
                ..Failure::new("FailedKillPod", "the runtime does not tell of the container's end yet")
            }),
            Ok(None) => Ok(Outcome::Removed(id.to_string())),
            Err(error) => Err(Failure::of_call("FailedKillPod", &error)),
        }
    }

    async fn remove(&self, id: &ContainerId) -> Result<Outcome> {
        let removed = self.node.runtime.remove_container(id).await;
        removed.map_err(|error| Failure::of_call("FailedRemoveContainer", &error))?;
        if let Some(container) = self.observed.container(id.as_str()) {
            let places = self.node.places.clone();
            let (key, uid) = (self.key.clone(), self.uid.clone());
            let (name, attempt, id) = (container.name.clone(), container.attempt, id.clone());
            blocking(move || {
                let log = places.pod_logs(&key, &uid).join(Places::log_file(&name, attempt));
                let last_words = places.termination_message(&uid, &name, attempt);
                for path in [places.log_link(&key, &name, &id), log, last_words] {
                    remove_file(&path)?;
                }
                Ok(())
            })
            .await?;
        }
        Ok(Outcome::Removed(id.to_string()))
    }

    /// Goes on past each failure and tells them all.
    async fn clean_up(self) -> Result<Outcome> {
        let Outcome::Observed(found) = self.observe().await? else {
            return Err(Failure::new("InternalError", "observing told something else"));
        };
        let runtime = &self.node.runtime;
        let mut problems = vec![];
        for sandbox in &found.sandboxes {
            let stopped = runtime.stop_sandbox(&sandbox.id).await;
            let removed = match stopped {
                Ok(()) => runtime.remove_sandbox(&sandbox.id).await,
                Err(error) => Err(error),
            };
            problems.extend(removed.err().map(|error| error.to_string()));
        }
        for container in &found.containers {
            let removed = runtime.remove_container(&container.id).await;
            problems.extend(removed.err().map(|error| error.to_string()));
        }
        if problems.is_empty() {
            let task = self.clone();
            let left = blocking(move || Ok(task.remove_files())).await?;
            problems.extend(left);
        }
        if problems.is_empty() {
            return Ok(Outcome::CleanedUp);
        }
        Err(Failure::new("FailedCleanup", problems.join("; ")))
    }

    fn remove_files(&self) -> Vec<String> {
        let places = &self.node.places;
        let logs = places.pod_logs(&self.key, &self.uid);
        let mut problems = vec![];
        let mut step = |path: PathBuf, done: io::Result<()>| {
            problems.extend(done.err().map(|error| format!("removing {}: {error}", path.display())));
        };
        let removed_logs = match fs::remove_dir_all(&logs) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        };
        step(
            places.logs.clone(),
            remove_log_links(&places.logs.join("containers"), &logs),
        );
        step(logs, removed_logs);
        step(places.pod(&self.uid), volumes::tear_down(places, &self.uid));
        let killed = self.node.cgroups.kill(&self.uid);
        if let Ok(left @ 1..) = killed {
            tracing::warn!(left, "killed processes that outlived their containers");
        }
        let removed = killed.and_then(|_| self.node.cgroups.tear_down(&self.uid));
        problems.extend(removed.err().map(|error| words::chain(&error)));
        if problems.is_empty() {
            // Last: as long as it is there, something may be left.
            let mark = places.checkpoint(&self.uid);
            let removed = checkpoint::remove(&mark);
            problems.extend(
                removed
                    .err()
                    .map(|error| format!("removing {}: {error}", mark.display())),
            );
        }
        problems
    }
}

fn addresses(status: &v1::PodSandboxStatus) -> Vec<std::net::IpAddr> {
    let network = status.network.as_ref();
    let more = network
        .into_iter()
        .flat_map(|network| network.additional_ips.iter().map(|more| more.ip.as_str()));
    let all = network.map(|network| network.ip.as_str()).into_iter().chain(more);
    all.filter_map(|ip| ip.parse().ok()).collect()
}

fn prepare_files(last_words: &Path, log: &Path, hosts: Option<(PathBuf, String)>) -> Result<()> {
    let reason = "CreateContainerError";
    for path in [last_words, log] {
        let directory = path.parent().unwrap_or(path);
        let made = fs::create_dir_all(directory);
        made.map_err(|error| Failure::of_io(reason, "making", directory, &error))?;
    }
    let write = |path: &Path, text: &str| {
        let written = fs::write(path, text);
        written.map_err(|error| Failure::of_io(reason, "writing", path, &error))
    };
    write(last_words, "")?;
    // Containers of any user leave their last words.
    let open = fs::set_permissions(last_words, std::os::unix::fs::PermissionsExt::from_mode(0o666));
    open.map_err(|error| Failure::of_io(reason, "opening up", last_words, &error))?;
    if let Some((path, text)) = hosts {
        // The file is mounted in the pod's running containers: it keeps its inode.
        write(&path, &text)?;
    }
    Ok(())
}

fn remove_file(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Failure::of_io("FailedRemoveContainer", "removing", path, &error))
        }
        _ => Ok(()),
    }
}

/// Removes the links that lead into a pod's log directory.
fn remove_log_links(links: &Path, logs: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(links) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let path = entry?.path();
        if fs::read_link(&path).is_ok_and(|target| target.starts_with(logs)) {
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}
