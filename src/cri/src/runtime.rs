//! The trait [`Runtime`], its errors and its events.

use std::{path::Path, time::Duration};

use async_trait::async_trait;
use bosun_api::{ContainerId, SandboxId};
use jiff::Timestamp;
use tokio::sync::mpsc;

use crate::v1;

/// What a caller can do about a failed call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The object is gone; for a stop or a removal that is success, and the trait's methods treat it so.
    NotFound,
    /// An object of this name exists, or its name is still reserved by a call that was cut off.
    AlreadyExists,
    /// No answer before the deadline; the call may still take effect.
    DeadlineExceeded,
    /// The runtime can't be reached; it may come back.
    Unavailable,
    /// The runtime does not know this call.
    Unimplemented,
    /// The request itself is wrong; trying again can't help.
    InvalidArgument,
    /// Anything else the runtime said, in its own words.
    Failed,
}

/// A runtime call that failed: which call, on which object, why.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{call} {object}: {message}")]
pub struct Error {
    /// CRI's name of the call, such as `RunPodSandbox`.
    pub call: &'static str,
    /// The id or name of the object it was about; empty for calls about the runtime itself.
    pub object: String,
    /// What a caller can do about it.
    pub kind: ErrorKind,
    /// The runtime's words.
    pub message: String,
}

/// The outcome of a runtime call.
pub type Result<T> = std::result::Result<T, Error>;

/// What is known of a runtime once connected; what differs between versions is discovered, not configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuntimeInfo {
    /// Such as `containerd`.
    pub name: String,
    /// Such as `1.6.20~ds1`.
    pub version: String,
}

/// Something that happened in the runtime. A lost event is followed by [`RuntimeEvent::Resync`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RuntimeEvent {
    /// The stream of events begins, or begins again after a gap: list everything once.
    Resync,
    /// The main process of a container or of a sandbox ended. The runtime's own status may lag behind by tens of
    /// milliseconds: these values are the truth.
    Exited {
        /// The container's id, or the sandbox's.
        id: String,
        /// As `wait` encodes it: 0 to 255, 128 + signal for a killed process.
        exit_code: i32,
        /// When the process ended.
        finished_at: Timestamp,
    },
    /// The kernel killed a process of this container or sandbox for want of memory.
    OutOfMemory {
        /// The container's id, or the sandbox's.
        id: String,
    },
    /// An image came to be on this node, or has another content now: what waited for it can go on.
    ImageAdded {
        /// Its name.
        name: String,
    },
    /// A container or a sandbox was removed from the runtime.
    Removed {
        /// The container's id, or the sandbox's.
        id: String,
    },
}

/// What a command in a container printed and returned.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExecOutput {
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: Vec<u8>,
    /// Exit code of the command.
    pub exit_code: i32,
}

/// A command in a container, or its main process, to which somebody wants to talk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Terminal {
    /// Whether it reads.
    pub stdin: bool,
    /// Whether its output is wanted.
    pub stdout: bool,
    /// Whether its complaints are; never with a terminal.
    pub stderr: bool,
    /// Whether it has a terminal.
    pub tty: bool,
}

/// A container runtime.
///
/// Every call has a deadline and may be repeated: stopping or removing what is gone succeeds, and a repeated
/// creation fails with [`ErrorKind::AlreadyExists`]. Dropping a call's future does not undo it in the runtime.
#[async_trait]
pub trait Runtime: Send + Sync + 'static {
    /// Name and version, asked of the runtime now.
    async fn version(&self) -> Result<RuntimeInfo>;

    /// The runtime's own conditions (`RuntimeReady`, `NetworkReady`).
    async fn status(&self) -> Result<v1::RuntimeStatus>;

    /// The image that the runtime is configured to make sandboxes of; `None` if it doesn't say.
    async fn sandbox_image(&self) -> Result<Option<String>> {
        Ok(None)
    }

    /// Creates and starts a sandbox; the CNI plugin runs inside this call. `handler` is empty for the default one.
    async fn run_sandbox(&self, config: &v1::PodSandboxConfig, handler: &str) -> Result<SandboxId>;

    /// Kills what runs in a sandbox and takes its network down. Safe to repeat.
    async fn stop_sandbox(&self, id: &SandboxId) -> Result<()>;

    /// Removes a stopped sandbox with its containers. Safe to repeat.
    async fn remove_sandbox(&self, id: &SandboxId) -> Result<()>;

    /// One sandbox with its addresses.
    async fn sandbox_status(&self, id: &SandboxId) -> Result<v1::PodSandboxStatus>;

    /// The sandboxes that match; `None` for all.
    async fn list_sandboxes(&self, filter: Option<v1::PodSandboxFilter>) -> Result<Vec<v1::PodSandbox>>;

    /// Creates a container in a sandbox.
    async fn create_container(
        &self,
        sandbox: &SandboxId,
        config: &v1::ContainerConfig,
        sandbox_config: &v1::PodSandboxConfig,
    ) -> Result<ContainerId>;

    /// Starts a created container.
    async fn start_container(&self, id: &ContainerId) -> Result<()>;

    /// Signals a container, and kills it after `grace` (whole seconds). Safe to repeat; the call's deadline follows
    /// the grace.
    async fn stop_container(&self, id: &ContainerId, grace: Duration) -> Result<()>;

    /// Removes a container, running or not. Safe to repeat.
    async fn remove_container(&self, id: &ContainerId) -> Result<()>;

    /// One container's status.
    async fn container_status(&self, id: &ContainerId) -> Result<v1::ContainerStatus>;

    /// The containers that match; `None` for all.
    async fn list_containers(&self, filter: Option<v1::ContainerFilter>) -> Result<Vec<v1::Container>>;

    /// Runs a command in a container and waits for it, at most `timeout`
    /// ([`ErrorKind::DeadlineExceeded`] beyond it; the process is killed).
    async fn exec(&self, id: &ContainerId, command: &[String], timeout: Duration) -> Result<ExecOutput>;

    /// Where a command in a container can be talked to: a URL that is good for one session, within a minute, of the
    /// runtime's own server.
    async fn exec_url(&self, id: &ContainerId, _command: &[String], _terminal: &Terminal) -> Result<String> {
        Err(unimplemented("Exec", id.as_str()))
    }

    /// Where a container's main process can be talked to.
    async fn attach_url(&self, id: &ContainerId, _terminal: &Terminal) -> Result<String> {
        Err(unimplemented("Attach", id.as_str()))
    }

    /// Where connections into a sandbox can be made.
    async fn port_forward_url(&self, id: &SandboxId) -> Result<String> {
        Err(unimplemented("PortForward", id.as_str()))
    }

    /// What the pods' sandboxes and containers consume.
    async fn sandbox_stats(&self) -> Result<Vec<v1::PodSandboxStats>> {
        Err(Error {
            call: "ListPodSandboxStats",
            object: String::new(),
            kind: ErrorKind::Unimplemented,
            message: "the runtime does not tell what pods consume".to_owned(),
        })
    }

    /// Makes the runtime open a container's log file anew, after a rotation.
    async fn reopen_log(&self, id: &ContainerId) -> Result<()>;

    /// An image by name or id; `None` when it is absent.
    async fn image_status(&self, image: &str) -> Result<Option<v1::Image>>;

    /// All images.
    async fn list_images(&self) -> Result<Vec<v1::Image>>;

    /// Pulls an image from its registry; returns the reference the runtime gave it.
    async fn pull_image(&self, image: &str, sandbox: Option<&v1::PodSandboxConfig>) -> Result<String>;

    /// Removes an image by name or id. Safe to repeat.
    async fn remove_image(&self, image: &str) -> Result<()>;

    /// Imports an OCI or Docker archive; returns the names it contained.
    async fn import_images(&self, archive: &Path) -> Result<Vec<String>>;

    /// Events from now on, each subscriber getting all; the first is [`RuntimeEvent::Resync`], once the stream
    /// stands. The stream reconnects by itself, for as long as the receiver lives. A receiver that falls behind
    /// gets `Resync` in place of what it missed.
    fn subscribe(&self) -> mpsc::Receiver<RuntimeEvent>;
}

fn unimplemented(call: &'static str, object: &str) -> Error {
    Error {
        call,
        object: object.to_owned(),
        kind: ErrorKind::Unimplemented,
        message: "the runtime has no streaming server".to_owned(),
    }
}
