//! A runtime that can only run commands, as its script says.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bosun_api::{ContainerId, SandboxId};
use bosun_cri::{Error, ErrorKind, ExecOutput, Runtime, RuntimeEvent, RuntimeInfo, runtime::Result, v1};
use tokio::{sync::mpsc, time::sleep};

/// What a run does.
#[derive(Clone, Copy, Debug)]
pub(super) enum Step {
    /// Ends with this exit code.
    Exit(i32),
    /// Ends with this exit code after a while.
    Slow(Duration, i32),
    /// Fails in the runtime.
    Fail(ErrorKind),
    /// Panics.
    Panic,
}

type Script = Box<dyn Fn(&str, usize) -> Step + Send + Sync>;

/// Runs commands: the script is given the container's id and how many runs came before.
pub(super) struct Scripted {
    script: Script,
    pub(super) begun: AtomicUsize,
    running: Arc<AtomicUsize>,
}

impl Scripted {
    pub(super) fn new(script: impl Fn(&str, usize) -> Step + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self {
            script: Box::new(script),
            begun: AtomicUsize::new(0),
            running: Arc::default(),
        })
    }

    pub(super) fn begun(&self) -> usize {
        self.begun.load(Ordering::SeqCst)
    }

    /// Runs under way that were neither ended nor dropped.
    pub(super) fn running(&self) -> usize {
        self.running.load(Ordering::SeqCst)
    }
}

struct Running(Arc<AtomicUsize>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

fn refused<T>(call: &'static str) -> Result<T> {
    let message = "this runtime only runs commands".to_owned();
    Err(Error {
        call,
        object: String::new(),
        kind: ErrorKind::Unimplemented,
        message,
    })
}

#[async_trait]
impl Runtime for Scripted {
    async fn exec(&self, id: &ContainerId, _command: &[String], timeout: Duration) -> Result<ExecOutput> {
        let step = (self.script)(id.as_str(), self.begun.fetch_add(1, Ordering::SeqCst));
        self.running.fetch_add(1, Ordering::SeqCst);
        let _running = Running(Arc::clone(&self.running));
        let fail = |kind| Error {
            call: "ExecSync",
            object: id.to_string(),
            kind,
            message: "as scripted".to_owned(),
        };
        let exit_code = match step {
            Step::Exit(code) => code,
            Step::Slow(time, _) if time > timeout => {
                sleep(timeout).await;
                return Err(fail(ErrorKind::DeadlineExceeded));
            }
            Step::Slow(time, code) => {
                sleep(time).await;
                code
            }
            Step::Fail(kind) => return Err(fail(kind)),
            Step::Panic => panic!("as scripted"),
        };
        Ok(ExecOutput {
            exit_code,
            stdout: b"out\n".to_vec(),
            stderr: Vec::new(),
        })
    }

    async fn version(&self) -> Result<RuntimeInfo> {
        refused("Version")
    }
    async fn status(&self) -> Result<v1::RuntimeStatus> {
        refused("Status")
    }
    async fn run_sandbox(&self, _config: &v1::PodSandboxConfig, _handler: &str) -> Result<SandboxId> {
        refused("RunPodSandbox")
    }
    async fn stop_sandbox(&self, _id: &SandboxId) -> Result<()> {
        refused("StopPodSandbox")
    }
    async fn remove_sandbox(&self, _id: &SandboxId) -> Result<()> {
        refused("RemovePodSandbox")
    }
    async fn sandbox_status(&self, _id: &SandboxId) -> Result<v1::PodSandboxStatus> {
        refused("PodSandboxStatus")
    }
    async fn list_sandboxes(&self, _filter: Option<v1::PodSandboxFilter>) -> Result<Vec<v1::PodSandbox>> {
        refused("ListPodSandbox")
    }
    async fn create_container(
        &self,
        _sandbox: &SandboxId,
        _config: &v1::ContainerConfig,
        _sandbox_config: &v1::PodSandboxConfig,
    ) -> Result<ContainerId> {
        refused("CreateContainer")
    }
    async fn start_container(&self, _id: &ContainerId) -> Result<()> {
        refused("StartContainer")
    }
    async fn stop_container(&self, _id: &ContainerId, _grace: Duration) -> Result<()> {
        refused("StopContainer")
    }
    async fn remove_container(&self, _id: &ContainerId) -> Result<()> {
        refused("RemoveContainer")
    }
    async fn container_status(&self, _id: &ContainerId) -> Result<v1::ContainerStatus> {
        refused("ContainerStatus")
    }
    async fn list_containers(&self, _filter: Option<v1::ContainerFilter>) -> Result<Vec<v1::Container>> {
        refused("ListContainers")
    }
    async fn reopen_log(&self, _id: &ContainerId) -> Result<()> {
        refused("ReopenContainerLog")
    }
    async fn image_status(&self, _image: &str) -> Result<Option<v1::Image>> {
        refused("ImageStatus")
    }
    async fn list_images(&self) -> Result<Vec<v1::Image>> {
        refused("ListImages")
    }
    async fn pull_image(&self, _image: &str, _sandbox: Option<&v1::PodSandboxConfig>) -> Result<String> {
        refused("PullImage")
    }
    async fn remove_image(&self, _image: &str) -> Result<()> {
        refused("RemoveImage")
    }
    async fn import_images(&self, _archive: &Path) -> Result<Vec<String>> {
        refused("Import")
    }
    fn subscribe(&self) -> mpsc::Receiver<RuntimeEvent> {
        mpsc::channel(1).1
    }
}
