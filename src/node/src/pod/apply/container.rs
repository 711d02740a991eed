//! One container's start, stop and removal.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use bosun_api::{ContainerId, SandboxId, core::Container};
use bosun_cri::v1;

use super::{Failure, Outcome, Result, Task, blocking};
use crate::{
    api::supply,
    cgroup,
    places::Places,
    pod::{
        container::{self, ContainerContext},
        env::EnvContext,
        hooks,
        observed::{ContainerState, ObservedContainer},
        payload, plan,
        sub_path::{self, SubPath},
        words,
        worker::Message,
    },
    probe::action::Target,
};

/// At least this long between the end of a `preStop` hook and the kill, as upstream grants.
const LEAST_GRACE: Duration = Duration::from_secs(2);

/// A `postStart` hook that runs longer has failed. (Upstream waits for ever.)
const POST_START_LIMIT: Duration = Duration::from_mins(10);

impl Task {
    pub(super) async fn start(&self, name: &str, attempt: u32, sandbox: &SandboxId) -> Result<Outcome> {
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
        let objects = supply::find(&self.held, payload::objects_of_environment(&self.pod, container));
        let objects = objects.await.map_err(|problem| Failure::new(reason, problem))?;
        let services = match &self.node.supply {
            Some(supply) => supply.service_variables(&self.pod).await,
            None => Ok(vec![]),
        };
        let services = services.map_err(|problem| Failure::new(reason, problem))?;
        let env = EnvContext {
            services: &services,
            objects: self.node.supply.as_ref().map(|_| &objects),
            ..self.env_context(pod_addresses)
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
            let stopped = self.node.runtime.stop_container(id, plan::grace(&self.pod)).await;
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

    pub(super) async fn stop(&self, id: &ContainerId, name: &str, grace: Duration, why: &str) -> Result<Outcome> {
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

    /// The files go first: by the runtime's record an agent that is killed in between, or the one after it, knows that
    /// they have to, and a successor under the same number makes its own only once there is no record.
    pub(super) async fn remove(&self, id: &ContainerId) -> Result<Outcome> {
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
        let removed = self.node.runtime.remove_container(id).await;
        removed.map_err(|error| Failure::of_call("FailedRemoveContainer", &error))?;
        Ok(Outcome::Removed(id.to_string()))
    }
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
