//! Does what a plan says: one function a job, each safe to repeat, each with the runtime's deadlines.

mod container;

use std::{
    collections::BTreeMap,
    fs, io,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use bosun_api::{
    ContainerId, PodKey, PodUid, SandboxId,
    core::{Container, Pod, Volume},
    labels,
};
use bosun_cri::{ErrorKind, v1};
use jiff::Timestamp;
use tokio::sync::mpsc;

use super::{
    atomic_dir::Files,
    dns,
    env::EnvContext,
    observed::{ContainerState, ObservedContainer, ObservedPod, ObservedSandbox},
    payload,
    plan::Job,
    sandbox::{self, SandboxContext},
    volumes::{self, VolumeSources},
    words,
    worker::Message,
};
use crate::{
    api::supply::{self, Held},
    cgroup,
    checkpoint::{self, Checkpoint},
    node::Node,
    places::Places,
};

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
    /// The objects it uses.
    pub held: Arc<Held>,
    /// To the pod's worker.
    pub worker_tx: mpsc::UnboundedSender<Message>,
}

/// What a job brought about.
#[derive(Debug)]
pub enum Outcome {
    /// The runtime has exactly this of the pod.
    Observed(ObservedPod),
    /// Directories, volumes and cgroup stand.
    Volumes {
        /// Where each is.
        sources: VolumeSources,
        /// When they are to be looked at again.
        refresh_at: Option<Timestamp>,
    },
    /// Volumes hold what the control plane tells.
    Refreshed {
        /// When they are to be looked at again.
        refresh_at: Option<Timestamp>,
    },
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
        Job::Refresh => task.refresh().await,
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

    /// The files of volumes that hold what the control plane tells, and when they are to be looked at again.
    async fn payloads(&self) -> Result<(BTreeMap<String, Files>, Option<Timestamp>)> {
        let reason = "FailedMount";
        let volumes = self.pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
        let volumes: Vec<_> = volumes.filter(|volume| payload::is_payload(volume)).collect();
        if volumes.is_empty() {
            return Ok((BTreeMap::new(), None));
        }
        let failed = |problem: String| Failure::new(reason, problem);
        let Some(supply) = &self.node.supply else {
            let problem = "needs an API server, which a pod from a file does not have";
            return Err(failed(format!("volume {}: {problem}", volumes[0].name)));
        };
        let (objects, tokens) = tokio::join!(
            supply::find(&self.held, payload::objects_of_volumes(&self.pod)),
            supply.tokens(&self.pod, &self.uid, self.node.clock.now()),
        );
        let in_volume =
            |name: &str, problem: String| failed(format!("MountVolume.SetUp failed for volume {name:?} : {problem}"));
        let objects = objects.map_err(|problem| in_volume(&volumes[0].name, problem))?;
        let (tokens, refresh_at) = tokens.map_err(|problem| {
            let of_token = |volume: &&&Volume| volume.projected.is_some();
            let name = volumes.iter().find(of_token).map_or("", |volume| volume.name.as_str());
            in_volume(name, problem)
        })?;
        let env = self.env_context(&[]);
        let inputs = payload::Inputs {
            pod: &self.pod,
            env: &env,
            objects: &objects,
            tokens: &tokens,
        };
        let mut all = BTreeMap::new();
        for volume in volumes {
            let files = payload::files(volume, &inputs).map_err(|problem| in_volume(&volume.name, problem))?;
            all.insert(volume.name.clone(), files);
        }
        Ok((all, refresh_at))
    }

    /// What an environment refers to, but for objects and services.
    fn env_context<'a>(&'a self, pod_addresses: &'a [IpAddr]) -> EnvContext<'a> {
        EnvContext {
            node_name: &self.node.name,
            host_addresses: &self.node.host_addresses,
            pod_addresses,
            allocatable_milli_cpu: self.node.allocatable_milli_cpu,
            allocatable_memory: self.node.allocatable_memory,
            services: &[],
            objects: None,
        }
    }

    async fn refresh(self) -> Result<Outcome> {
        let (payloads, refresh_at) = self.payloads().await?;
        blocking(move || {
            volumes::fill(
                &self.volumes,
                &payloads,
                payload::fs_group(&self.pod),
                self.node.clock.now(),
            )
            .map_err(|error| Failure::new("FailedMount", words::chain(&error)))?;
            Ok(Outcome::Refreshed { refresh_at })
        })
        .await
    }

    async fn set_up(self) -> Result<Outcome> {
        let (payloads, refresh_at) = self.payloads().await?;
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
                    stages: BTreeMap::new(),
                };
                let written = checkpoint::write(&mark, &first);
                written.map_err(|error| Failure::of_io(reason, "writing", &mark, &error))?;
            }
            let directories = [places.pod(&self.uid), places.pod_logs(&self.key, &self.uid)];
            for directory in directories {
                let made = fs::create_dir_all(&directory);
                made.map_err(|error| Failure::of_io(reason, "making", &directory, &error))?;
            }
            let failed = |error: volumes::VolumeError| Failure::new(reason, words::chain(&error));
            let sources = volumes::set_up(places, &self.pod, &self.uid).map_err(failed)?;
            let group = payload::fs_group(&self.pod);
            volumes::fill(&sources, &payloads, group, self.node.clock.now()).map_err(failed)?;
            self.node
                .cgroups
                .set_up(&self.pod, &self.uid)
                .map_err(|error| Failure::new("FailedCreatePodContainer", words::chain(&error)))?;
            Ok(Outcome::Volumes { sources, refresh_at })
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
            dns: dns::dns_config(&self.pod, &self.node.dns, &dns::host()),
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

fn addresses(status: &v1::PodSandboxStatus) -> Vec<IpAddr> {
    let network = status.network.as_ref();
    let more = network
        .into_iter()
        .flat_map(|network| network.additional_ips.iter().map(|more| more.ip.as_str()));
    let all = network.map(|network| network.ip.as_str()).into_iter().chain(more);
    all.filter_map(|ip| ip.parse().ok()).collect()
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
