//! The trait's calls on the fake: what is checked when, what is reserved meanwhile, where a fault strikes.

use std::{path::Path, time::Duration};

use async_trait::async_trait;
use bosun_api::{ContainerId, SandboxId};
use tokio::{
    sync::mpsc,
    time::{sleep, timeout},
};

use super::{FakeRuntime, Suffering, invalid, refused, world::Container};
use crate::{
    ErrorKind, ExecOutput, Runtime, RuntimeEvent, RuntimeInfo, Terminal,
    client::{CREATE_DEADLINE, EXEC_SLACK, PULL_DEADLINE, STOP_SLACK},
    events::FanOut,
    runtime::{Error, Result},
    task, v1,
};

#[async_trait]
impl Runtime for FakeRuntime {
    async fn version(&self) -> Result<RuntimeInfo> {
        let info = || RuntimeInfo {
            name: "fake".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        self.read("Version", "", |_, _| Ok(info())).await
    }

    async fn status(&self) -> Result<v1::RuntimeStatus> {
        let condition = |name: &str, ready: bool, message: &str| v1::RuntimeCondition {
            r#type: name.to_owned(),
            status: ready,
            reason: if ready { String::new() } else { format!("{name}Not") },
            message: if ready { String::new() } else { message.to_owned() },
        };
        self.read("Status", "", |state, _| {
            Ok(v1::RuntimeStatus {
                conditions: vec![
                    condition("RuntimeReady", true, ""),
                    condition("NetworkReady", state.network_ready, "cni plugin not initialized"),
                ],
            })
        })
        .await
    }

    async fn run_sandbox(&self, config: &v1::PodSandboxConfig, handler: &str) -> Result<SandboxId> {
        const CALL: &str = "RunPodSandbox";
        let meta = config.metadata.clone().unwrap_or_default();
        let object = format!("{}/{}", meta.namespace, meta.name);
        let work = |fault: Suffering| async {
            let name = format!("{}_{}_{}_{}", meta.name, meta.namespace, meta.uid, meta.attempt);
            let mut reserved = self.reserve("sandbox", &name).map_err(refused(CALL, &object))?;
            let (id, config, handler) = (reserved.id.clone(), config.clone(), handler.to_owned());
            reserved.complete = Some(Box::new(move |world, now| {
                world.add_sandbox(&id, config, &handler, now);
            }));
            match fault.pass().await.map_err(refused(CALL, &object)) {
                Ok(()) => Ok(reserved.keep().into()),
                Err(error) => Err(reserved.fail(error)),
            }
        };
        self.call(CALL, &object, CREATE_DEADLINE, work).await
    }

    async fn stop_sandbox(&self, id: &SandboxId) -> Result<()> {
        self.take_away("StopPodSandbox", id.as_str(), |world, now| world.stop_sandbox(id, now))
            .await
    }

    async fn remove_sandbox(&self, id: &SandboxId) -> Result<()> {
        self.take_away("RemovePodSandbox", id.as_str(), |world, now| {
            world.remove_sandbox(id, now)
        })
        .await
    }

    async fn sandbox_status(&self, id: &SandboxId) -> Result<v1::PodSandboxStatus> {
        self.read("PodSandboxStatus", id.as_str(), |state, _| {
            state.world.sandbox_status(id)
        })
        .await
    }

    async fn list_sandboxes(&self, filter: Option<v1::PodSandboxFilter>) -> Result<Vec<v1::PodSandbox>> {
        let filter = filter.unwrap_or_default();
        self.read("ListPodSandbox", "", |state, _| Ok(state.world.list_sandboxes(&filter)))
            .await
    }

    async fn create_container(
        &self,
        sandbox: &SandboxId,
        config: &v1::ContainerConfig,
        sandbox_config: &v1::PodSandboxConfig,
    ) -> Result<ContainerId> {
        const CALL: &str = "CreateContainer";
        let pod = sandbox_config.metadata.clone().unwrap_or_default();
        let meta = config.metadata.clone().unwrap_or_default();
        let object = format!("{} in {}/{}", meta.name, pod.namespace, pod.name);
        let work = |fault: Suffering| async {
            self.lock().world.sandbox(sandbox).map_err(refused(CALL, &object))?;
            let name = format!(
                "{}_{}_{}_{}_{}",
                meta.name, pod.name, pod.namespace, pod.uid, meta.attempt
            );
            let mut reserved = self.reserve("container", &name).map_err(refused(CALL, &object))?;
            let checked = self.lock().world.check_create(sandbox, config);
            let image = match checked {
                Ok(image) => image,
                Err(refusal) => return Err(reserved.fail(refused(CALL, &object)(refusal))),
            };
            let (id, of, config) = (reserved.id.clone(), sandbox.clone(), config.clone());
            reserved.complete = Some(Box::new(move |world, now| {
                world.add_container(&id, &of, config, image, now);
            }));
            match fault.pass().await.map_err(refused(CALL, &object)) {
                Ok(()) => Ok(reserved.keep().into()),
                Err(error) => Err(reserved.fail(error)),
            }
        };
        self.call(CALL, &object, CREATE_DEADLINE, work).await
    }

    async fn start_container(&self, id: &ContainerId) -> Result<()> {
        const CALL: &str = "StartContainer";
        let work = |fault: Suffering| async {
            fault.pass().await.map_err(refused(CALL, id.as_str()))?;
            let now = self.now();
            let started = self.lock().world.start(id, now);
            let script = started.map_err(refused(CALL, id.as_str()))?;
            if let Some((after, code)) = script.exit_after {
                let (runtime, id) = (self.clone(), id.clone());
                task::spawn_detached(async move {
                    sleep(after).await;
                    runtime.exit(&id, code);
                });
            }
            Ok(())
        };
        self.call(CALL, id.as_str(), CREATE_DEADLINE, work).await
    }

    async fn stop_container(&self, id: &ContainerId, grace: Duration) -> Result<()> {
        let work = |fault: Suffering| async {
            fault.pass().await.map_err(refused("StopContainer", id.as_str()))?;
            let script = self
                .lock()
                .world
                .container(id)
                .ok()
                .filter(|c| c.is_running())
                .map(|c| c.script.clone());
            match script {
                None => {}
                Some(script) if script.ignores_term || grace.is_zero() => {
                    // It may end by itself within the grace; killing it then does nothing.
                    let mut changed = self.inner.changed.subscribe();
                    let ended = async {
                        while self.lock().world.container(id).is_ok_and(Container::is_running) {
                            let _ = changed.changed().await;
                        }
                    };
                    let _ = timeout(grace, ended).await;
                    self.exit(id, 137);
                }
                Some(_) => self.exit(id, 143),
            }
            Ok(())
        };
        self.call("StopContainer", id.as_str(), grace.saturating_add(STOP_SLACK), work)
            .await
    }

    async fn remove_container(&self, id: &ContainerId) -> Result<()> {
        self.take_away("RemoveContainer", id.as_str(), |world, now| {
            world.remove_container(id, now)
        })
        .await
    }

    async fn container_status(&self, id: &ContainerId) -> Result<v1::ContainerStatus> {
        self.read("ContainerStatus", id.as_str(), |state, now| {
            state.world.container_status(id, now)
        })
        .await
    }

    async fn list_containers(&self, filter: Option<v1::ContainerFilter>) -> Result<Vec<v1::Container>> {
        let filter = filter.unwrap_or_default();
        self.read("ListContainers", "", |state, now| {
            Ok(state.world.list_containers(&filter, now))
        })
        .await
    }

    async fn exec(&self, id: &ContainerId, command: &[String], limit: Duration) -> Result<ExecOutput> {
        const CALL: &str = "ExecSync";
        let error = |kind, message: String| Error {
            call: CALL,
            object: id.to_string(),
            kind,
            message,
        };
        let work = |fault: Suffering| async {
            fault.pass().await.map_err(refused(CALL, id.as_str()))?;
            let on_exec = {
                let state = self.lock();
                let container = state.world.container(id).map_err(refused(CALL, id.as_str()))?;
                if !container.is_running() {
                    let message = format!("container {} is not running", container.name());
                    return Err(error(ErrorKind::Failed, message));
                }
                state.on_exec.clone()
            };
            let reply = on_exec(id, command);
            if timeout(limit, sleep(reply.after)).await.is_err() {
                let message = format!("timeout {limit:?} exceeded: context deadline exceeded");
                return Err(error(ErrorKind::DeadlineExceeded, message));
            }
            Ok(reply.output)
        };
        self.call(CALL, id.as_str(), limit.saturating_add(EXEC_SLACK), work)
            .await
    }

    async fn exec_url(&self, id: &ContainerId, _command: &[String], _terminal: &Terminal) -> Result<String> {
        self.stream_into("Exec", "exec", id).await
    }

    async fn attach_url(&self, id: &ContainerId, _terminal: &Terminal) -> Result<String> {
        self.stream_into("Attach", "attach", id).await
    }

    async fn port_forward_url(&self, id: &SandboxId) -> Result<String> {
        self.read("PortForward", id.as_str(), |state, _| {
            state.world.sandbox_status(id)?;
            state.stream_url("portforward", id.as_str())
        })
        .await
    }

    async fn reopen_log(&self, id: &ContainerId) -> Result<()> {
        self.read("ReopenContainerLog", id.as_str(), |state, _| {
            let container = state.world.container(id)?;
            let refusal = (ErrorKind::Failed, "container is not running".to_owned());
            if container.is_running() { Ok(()) } else { Err(refusal) }
        })
        .await
    }

    async fn image_status(&self, image: &str) -> Result<Option<v1::Image>> {
        self.read("ImageStatus", image, |state, _| Ok(state.world.image(image).cloned()))
            .await
    }

    async fn list_images(&self) -> Result<Vec<v1::Image>> {
        self.read("ListImages", "", |state, _| {
            Ok(state.world.images.values().cloned().collect())
        })
        .await
    }

    async fn pull_image(&self, image: &str, _sandbox: Option<&v1::PodSandboxConfig>) -> Result<String> {
        const CALL: &str = "PullImage";
        let work = |fault: Suffering| async {
            fault.pass().await.map_err(refused(CALL, image))?;
            let name = crate::images::full_name(image)
                .ok_or_else(|| refused(CALL, image)(invalid("failed to parse image reference")))?;
            let mut state = self.lock();
            if !state.world.registry.contains(&name) {
                let message = format!("failed to resolve reference {name:?}: {name}: not found");
                return Err(refused(CALL, image)((ErrorKind::NotFound, message)));
            }
            state.world.add_image(&name);
            Ok(state.world.images[&name].id.clone())
        };
        self.call(CALL, image, PULL_DEADLINE, work).await
    }

    async fn remove_image(&self, image: &str) -> Result<()> {
        self.take_away("RemoveImage", image, |world, _| {
            if let Some(id) = world.image(image).map(|image| image.id.clone()) {
                world.images.retain(|_, image| image.id != id);
            }
            Vec::new()
        })
        .await
    }

    async fn import_images(&self, archive: &Path) -> Result<Vec<String>> {
        const CALL: &str = "ImportImages";
        let object = archive.display().to_string();
        let work = |fault: Suffering| async {
            fault.pass().await.map_err(refused(CALL, &object))?;
            let names = crate::images::names_in(archive).map_err(|m| refused(CALL, &object)(invalid(&m)))?;
            let mut state = self.lock();
            for name in &names {
                state.world.add_image(name);
            }
            Ok(names)
        };
        self.call(CALL, &object, CREATE_DEADLINE, work).await
    }

    fn subscribe(&self) -> mpsc::Receiver<RuntimeEvent> {
        let runtime = self.clone();
        self.inner.events.subscribe(async move {
            if !runtime.lock().events_broken {
                runtime.inner.events.with(FanOut::stands);
            }
            std::future::pending().await
        })
    }
}
