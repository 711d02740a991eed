//! [`CriClient`]: the CRI v1 services of a runtime on this machine, over its Unix socket.
//!
//! A call fails with a typed error within its deadline and the caller decides: nothing here is tried again, but for a
//! stop or removal that containerd refuses while it has yet to take note of an exit. The connection is made when first used
//! and made again after it broke, so a client may exist before its runtime does.

use std::{future::Future, path::Path, sync::Arc, time::Duration};

use async_trait::async_trait;
use bosun_api::{ContainerId, SandboxId};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep},
};
use tonic::{Response, Status, transport::Channel};

use crate::{
    ErrorKind, ExecOutput, Runtime, RuntimeEvent, RuntimeInfo, Terminal,
    events::{self, Hub},
    runtime::{Error, Result},
    v1::{self, image_service_client::ImageServiceClient, runtime_service_client::RuntimeServiceClient},
};

mod channel;
mod status;

pub use channel::EndpointError;
pub(crate) use status::{error as status_error, kind as status_kind};

/// For calls that only read the runtime's memory, and small ones that change little.
pub const READ_DEADLINE: Duration = Duration::from_secs(10);

/// For calls that make something: snapshots, namespaces, CNI, a started process.
pub const CREATE_DEADLINE: Duration = Duration::from_mins(2);

/// For calls that take something away, beyond any grace given to the processes.
pub const REMOVE_DEADLINE: Duration = Duration::from_mins(1);

/// How long containerd may take to note an exit that its events have told already: tens of milliseconds, if the
/// machine is not busy.
pub const SETTLE_DEADLINE: Duration = Duration::from_secs(5);

/// What a stop may take beyond the grace itself.
pub const STOP_SLACK: Duration = Duration::from_secs(10);

/// What an exec may take beyond its own time limit: the runtime enforces that one and kills the process.
pub const EXEC_SLACK: Duration = Duration::from_secs(5);

/// For a pull; the runtime itself gives up on registries that stand still.
pub const PULL_DEADLINE: Duration = Duration::from_mins(30);

/// The largest message in either direction: a list of some thousand containers. The kubelet's limit too.
pub const MAX_MESSAGE: usize = 16 << 20;

/// A CRI v1 runtime behind a Unix socket.
#[derive(Clone, Debug)]
pub struct CriClient {
    endpoint: String,
    channel: Channel,
    runtime: RuntimeServiceClient<Channel>,
    images: ImageServiceClient<Channel>,
    events: Arc<Hub>,
}

impl CriClient {
    /// A client of the runtime at `endpoint` (`unix:///path/to.sock`). Returns at once, whether or not the runtime
    /// is there. Must be called within a tokio runtime.
    pub fn connect(endpoint: &str) -> std::result::Result<Self, EndpointError> {
        let channel = channel::open(endpoint)?;
        Ok(Self {
            endpoint: endpoint.to_owned(),
            runtime: RuntimeServiceClient::new(channel.clone())
                .max_decoding_message_size(MAX_MESSAGE)
                .max_encoding_message_size(MAX_MESSAGE),
            images: ImageServiceClient::new(channel.clone())
                .max_decoding_message_size(MAX_MESSAGE)
                .max_encoding_message_size(MAX_MESSAGE),
            events: Arc::default(),
            channel,
        })
    }

    /// Where the runtime listens, as given.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// The connection, for containerd's own services.
    pub(crate) fn channel(&self) -> &Channel {
        &self.channel
    }

    /// A failed call of one of those.
    pub(crate) fn error(&self, call: &'static str, status: &Status) -> Error {
        status::error(call, "", &self.endpoint, status)
    }

    /// Awaits `answer`, at most for `deadline`. Past it the request is withdrawn; whether it took effect is unknown.
    fn call<'a, T: 'a>(
        &'a self,
        call: &'static str,
        object: &'a str,
        deadline: Duration,
        answer: impl Future<Output = std::result::Result<Response<T>, Status>> + Send + 'a,
    ) -> impl Future<Output = Result<T>> + Send + 'a {
        // A call's state is tens of kilobytes, as it holds the request: once on the heap, not moved along.
        let answer = Box::pin(tokio::time::timeout(deadline, answer));
        async move {
            match answer.await {
                Ok(Ok(response)) => Ok(response.into_inner()),
                Ok(Err(status)) => Err(status::error(call, object, &self.endpoint, &status)),
                Err(_) => Err(Error {
                    call,
                    object: object.to_owned(),
                    kind: ErrorKind::DeadlineExceeded,
                    message: format!("no answer from the runtime within {} s", deadline.as_secs()),
                }),
            }
        }
    }
}

/// How many sandboxes are asked for their stats at a time.
const STATS_AT_ONCE: usize = 8;

impl CriClient {
    /// The stats of each sandbox that is ready and tells them. A runtime that went away fails the whole, as one answer
    /// would.
    async fn each_sandbox_stats(&self) -> Result<Vec<v1::PodSandboxStats>> {
        let ready = v1::PodSandboxFilter {
            state: Some(v1::PodSandboxStateValue {
                state: v1::PodSandboxState::SandboxReady.into(),
            }),
            ..v1::PodSandboxFilter::default()
        };
        let sandboxes = self.list_sandboxes(Some(ready)).await?;
        let asked = sandboxes.into_iter().map(|sandbox| async move {
            let mut client = self.runtime.clone();
            let answer = client.pod_sandbox_stats(v1::PodSandboxStatsRequest {
                pod_sandbox_id: sandbox.id.clone(),
            });
            match self.call("PodSandboxStats", &sandbox.id, READ_DEADLINE, answer).await {
                Ok(answer) => Ok(answer.stats),
                Err(error) if error.kind == ErrorKind::Unavailable => Err(error),
                Err(error) => {
                    tracing::debug!(%error, "a sandbox does not tell its stats");
                    Ok(None)
                }
            }
        });
        let told = stream::iter(asked).buffer_unordered(STATS_AT_ONCE);
        told.try_filter_map(|stats| async { Ok(stats) }).try_collect().await
    }
}

/// Success too when the object is gone already.
fn gone_is_fine(result: Result<()>) -> Result<()> {
    match result {
        Err(e) if e.kind == ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// A stop or removal, called again while the runtime has yet to note an exit: until then it refuses what is done soon.
async fn settled<F: Future<Output = Result<()>>>(call: impl Fn() -> F + Send) -> Result<()> {
    let deadline = Instant::now() + SETTLE_DEADLINE;
    let mut wait = Duration::from_millis(4);
    loop {
        match call().await {
            Err(error) if status::is_settling(&error) && Instant::now() < deadline => {
                sleep(wait).await;
                wait = (wait * 2).min(Duration::from_millis(100));
            }
            other => return gone_is_fine(other),
        }
    }
}

/// The answer's one field, which the contract promises and the wire makes optional.
fn present<T>(call: &'static str, object: &str, field: Option<T>) -> Result<T> {
    field.ok_or_else(|| Error {
        call,
        object: object.to_owned(),
        kind: ErrorKind::Failed,
        message: "the runtime's answer is empty".to_owned(),
    })
}

/// What a person would call the sandbox.
fn sandbox_name(config: &v1::PodSandboxConfig) -> String {
    config
        .metadata
        .as_ref()
        .map_or_else(String::new, |m| format!("{}/{}", m.namespace, m.name))
}

/// Whole seconds, rounded up: CRI has no finer ones, and zero would mean "no limit" or "kill at once".
fn whole_seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs())
        .unwrap_or(i64::MAX)
        .saturating_add(i64::from(duration.subsec_nanos() > 0))
}

#[async_trait]
impl Runtime for CriClient {
    async fn version(&self) -> Result<RuntimeInfo> {
        let mut client = self.runtime.clone();
        let request = v1::VersionRequest {
            version: "v1".to_owned(),
        };
        let answer = self.call("Version", "", READ_DEADLINE, client.version(request)).await?;
        Ok(RuntimeInfo {
            name: answer.runtime_name,
            version: answer.runtime_version,
        })
    }

    async fn status(&self) -> Result<v1::RuntimeStatus> {
        let mut client = self.runtime.clone();
        let request = v1::StatusRequest { verbose: false };
        let answer = self.call("Status", "", READ_DEADLINE, client.status(request)).await?;
        present("Status", "", answer.status)
    }

    async fn sandbox_image(&self) -> Result<Option<String>> {
        let mut client = self.runtime.clone();
        let request = v1::StatusRequest { verbose: true };
        let answer = self.call("Status", "", READ_DEADLINE, client.status(request)).await?;
        Ok(status::sandbox_image(&answer.info))
    }

    async fn run_sandbox(&self, config: &v1::PodSandboxConfig, handler: &str) -> Result<SandboxId> {
        let mut client = self.runtime.clone();
        let request = v1::RunPodSandboxRequest {
            config: Some(config.clone()),
            runtime_handler: handler.to_owned(),
        };
        let answer = client.run_pod_sandbox(request);
        let answer = self
            .call("RunPodSandbox", &sandbox_name(config), CREATE_DEADLINE, answer)
            .await?;
        Ok(answer.pod_sandbox_id.into())
    }

    async fn stop_sandbox(&self, id: &SandboxId) -> Result<()> {
        settled(|| async {
            let mut client = self.runtime.clone();
            let answer = client.stop_pod_sandbox(v1::StopPodSandboxRequest {
                pod_sandbox_id: id.to_string(),
            });
            self.call("StopPodSandbox", id.as_str(), REMOVE_DEADLINE, answer)
                .await
                .map(drop)
        })
        .await
    }

    async fn remove_sandbox(&self, id: &SandboxId) -> Result<()> {
        settled(|| async {
            let mut client = self.runtime.clone();
            let answer = client.remove_pod_sandbox(v1::RemovePodSandboxRequest {
                pod_sandbox_id: id.to_string(),
            });
            self.call("RemovePodSandbox", id.as_str(), REMOVE_DEADLINE, answer)
                .await
                .map(drop)
        })
        .await
    }

    async fn sandbox_status(&self, id: &SandboxId) -> Result<v1::PodSandboxStatus> {
        let mut client = self.runtime.clone();
        let request = v1::PodSandboxStatusRequest {
            pod_sandbox_id: id.to_string(),
            verbose: false,
        };
        let answer = client.pod_sandbox_status(request);
        let answer = self
            .call("PodSandboxStatus", id.as_str(), READ_DEADLINE, answer)
            .await?;
        present("PodSandboxStatus", id.as_str(), answer.status)
    }

    async fn list_sandboxes(&self, filter: Option<v1::PodSandboxFilter>) -> Result<Vec<v1::PodSandbox>> {
        let mut client = self.runtime.clone();
        let answer = client.list_pod_sandbox(v1::ListPodSandboxRequest { filter });
        Ok(self.call("ListPodSandbox", "", READ_DEADLINE, answer).await?.items)
    }

    async fn create_container(
        &self,
        sandbox: &SandboxId,
        config: &v1::ContainerConfig,
        sandbox_config: &v1::PodSandboxConfig,
    ) -> Result<ContainerId> {
        let mut client = self.runtime.clone();
        let name = config.metadata.as_ref().map_or("", |m| m.name.as_str());
        let object = format!("{} in {}", name, sandbox_name(sandbox_config));
        let answer = client.create_container(v1::CreateContainerRequest {
            pod_sandbox_id: sandbox.to_string(),
            config: Some(config.clone()),
            sandbox_config: Some(sandbox_config.clone()),
        });
        Ok(self
            .call("CreateContainer", &object, CREATE_DEADLINE, answer)
            .await?
            .container_id
            .into())
    }

    async fn start_container(&self, id: &ContainerId) -> Result<()> {
        let mut client = self.runtime.clone();
        let answer = client.start_container(v1::StartContainerRequest {
            container_id: id.to_string(),
        });
        self.call("StartContainer", id.as_str(), CREATE_DEADLINE, answer)
            .await
            .map(drop)
    }

    async fn stop_container(&self, id: &ContainerId, grace: Duration) -> Result<()> {
        let deadline = grace.saturating_add(STOP_SLACK);
        settled(|| async {
            let mut client = self.runtime.clone();
            let answer = client.stop_container(v1::StopContainerRequest {
                container_id: id.to_string(),
                timeout: whole_seconds(grace),
            });
            self.call("StopContainer", id.as_str(), deadline, answer)
                .await
                .map(drop)
        })
        .await
    }

    async fn remove_container(&self, id: &ContainerId) -> Result<()> {
        settled(|| async {
            let mut client = self.runtime.clone();
            let answer = client.remove_container(v1::RemoveContainerRequest {
                container_id: id.to_string(),
            });
            self.call("RemoveContainer", id.as_str(), REMOVE_DEADLINE, answer)
                .await
                .map(drop)
        })
        .await
    }

    async fn container_status(&self, id: &ContainerId) -> Result<v1::ContainerStatus> {
        let mut client = self.runtime.clone();
        let request = v1::ContainerStatusRequest {
            container_id: id.to_string(),
            verbose: false,
        };
        let answer = client.container_status(request);
        let answer = self.call("ContainerStatus", id.as_str(), READ_DEADLINE, answer).await?;
        present("ContainerStatus", id.as_str(), answer.status)
    }

    async fn list_containers(&self, filter: Option<v1::ContainerFilter>) -> Result<Vec<v1::Container>> {
        let mut client = self.runtime.clone();
        let answer = client.list_containers(v1::ListContainersRequest { filter });
        Ok(self.call("ListContainers", "", READ_DEADLINE, answer).await?.containers)
    }

    async fn sandbox_stats(&self) -> Result<Vec<v1::PodSandboxStats>> {
        let mut client = self.runtime.clone();
        let answer = client.list_pod_sandbox_stats(v1::ListPodSandboxStatsRequest { filter: None });
        match self.call("ListPodSandboxStats", "", READ_DEADLINE, answer).await {
            Ok(answer) => Ok(answer.stats),
            // containerd 1.6 tells of none as soon as one is not ready, such as a completed pod's.
            Err(error) if error.kind == ErrorKind::Failed => {
                tracing::debug!(%error, "stats are asked of each sandbox");
                self.each_sandbox_stats().await
            }
            Err(error) => Err(error),
        }
    }

    async fn exec(&self, id: &ContainerId, command: &[String], timeout: Duration) -> Result<ExecOutput> {
        let mut client = self.runtime.clone();
        // The runtime kills the process at its own time limit; withdrawing the request would not, so ours is later.
        let limit = whole_seconds(timeout).max(1);
        let answer = client.exec_sync(v1::ExecSyncRequest {
            container_id: id.to_string(),
            cmd: command.to_vec(),
            timeout: limit,
        });
        let deadline = Duration::from_secs(limit as u64).saturating_add(EXEC_SLACK);
        let answer = self.call("ExecSync", id.as_str(), deadline, answer).await?;
        Ok(ExecOutput {
            stdout: answer.stdout,
            stderr: answer.stderr,
            exit_code: answer.exit_code,
        })
    }

    async fn exec_url(&self, id: &ContainerId, command: &[String], terminal: &Terminal) -> Result<String> {
        let mut client = self.runtime.clone();
        let answer = client.exec(v1::ExecRequest {
            container_id: id.to_string(),
            cmd: command.to_vec(),
            tty: terminal.tty,
            stdin: terminal.stdin,
            stdout: terminal.stdout,
            stderr: terminal.stderr,
        });
        Ok(self.call("Exec", id.as_str(), READ_DEADLINE, answer).await?.url)
    }

    async fn attach_url(&self, id: &ContainerId, terminal: &Terminal) -> Result<String> {
        let mut client = self.runtime.clone();
        let answer = client.attach(v1::AttachRequest {
            container_id: id.to_string(),
            stdin: terminal.stdin,
            tty: terminal.tty,
            stdout: terminal.stdout,
            stderr: terminal.stderr,
        });
        Ok(self.call("Attach", id.as_str(), READ_DEADLINE, answer).await?.url)
    }

    async fn port_forward_url(&self, id: &SandboxId) -> Result<String> {
        let mut client = self.runtime.clone();
        let answer = client.port_forward(v1::PortForwardRequest {
            pod_sandbox_id: id.to_string(),
            port: Vec::new(),
        });
        Ok(self.call("PortForward", id.as_str(), READ_DEADLINE, answer).await?.url)
    }

    async fn reopen_log(&self, id: &ContainerId) -> Result<()> {
        let mut client = self.runtime.clone();
        let answer = client.reopen_container_log(v1::ReopenContainerLogRequest {
            container_id: id.to_string(),
        });
        self.call("ReopenContainerLog", id.as_str(), READ_DEADLINE, answer)
            .await
            .map(drop)
    }

    async fn image_status(&self, image: &str) -> Result<Option<v1::Image>> {
        let mut client = self.images.clone();
        let answer = client.image_status(v1::ImageStatusRequest {
            image: Some(image_spec(image)),
            verbose: false,
        });
        Ok(self.call("ImageStatus", image, READ_DEADLINE, answer).await?.image)
    }

    async fn list_images(&self) -> Result<Vec<v1::Image>> {
        let mut client = self.images.clone();
        let answer = client.list_images(v1::ListImagesRequest { filter: None });
        Ok(self.call("ListImages", "", READ_DEADLINE, answer).await?.images)
    }

    async fn pull_image(&self, image: &str, sandbox: Option<&v1::PodSandboxConfig>) -> Result<String> {
        let mut client = self.images.clone();
        let answer = client.pull_image(v1::PullImageRequest {
            image: Some(image_spec(image)),
            auth: None,
            sandbox_config: sandbox.cloned(),
        });
        Ok(self.call("PullImage", image, PULL_DEADLINE, answer).await?.image_ref)
    }

    async fn remove_image(&self, image: &str) -> Result<()> {
        let mut client = self.images.clone();
        let answer = client.remove_image(v1::RemoveImageRequest {
            image: Some(image_spec(image)),
        });
        gone_is_fine(self.call("RemoveImage", image, REMOVE_DEADLINE, answer).await.map(drop))
    }

    async fn import_images(&self, archive: &Path) -> Result<Vec<String>> {
        crate::images::import(self, &self.channel, &self.endpoint, archive).await
    }

    fn subscribe(&self) -> mpsc::Receiver<RuntimeEvent> {
        self.events
            .subscribe(events::follow(self.channel.clone(), self.events.clone()))
    }
}

fn image_spec(image: &str) -> v1::ImageSpec {
    v1::ImageSpec {
        image: image.to_owned(),
        ..v1::ImageSpec::default()
    }
}
