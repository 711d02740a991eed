//! What the runtime has of one pod, kept current by events and by the outcomes of our own calls. Pure.

use std::net::IpAddr;

use bosun_api::{ContainerId, SandboxId};
use jiff::Timestamp;

/// A sandbox of the pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObservedSandbox {
    /// Its id in the runtime.
    pub id: SandboxId,
    /// How many sandboxes this pod had before it.
    pub attempt: u32,
    /// Its pause process runs.
    pub ready: bool,
    /// We stopped it: its network is taken down.
    pub stopped: bool,
    /// Its addresses, the primary first; empty with the node's network.
    pub addresses: Vec<IpAddr>,
}

/// How a container ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exit {
    /// As `wait` encodes it: 128 + signal for a killed process.
    pub code: i32,
    /// `Completed`, `Error`, `OOMKilled`, or the runtime's own reason.
    pub reason: String,
    /// The termination message, or the runtime's words.
    pub message: String,
    /// When it started; `None` if it never did.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub finished_at: Timestamp,
}

/// What a container is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ContainerState {
    /// Created, never started.
    Created,
    /// Its main process runs.
    Running {
        /// Since when.
        started_at: Timestamp,
    },
    /// Its main process ended.
    Exited(Exit),
    /// The runtime lost track of it.
    Unknown,
}

/// A container of the pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObservedContainer {
    /// Its id in the runtime.
    pub id: ContainerId,
    /// Its name in the pod's spec.
    pub name: String,
    /// The sandbox it was created in.
    pub sandbox: SandboxId,
    /// How many containers of this name ended before it: its restart count.
    pub attempt: u32,
    /// What it is doing.
    pub state: ContainerState,
    /// The image as the runtime names it.
    pub image: String,
    /// The image's digest reference.
    pub image_id: String,
    /// The kernel killed one of its processes for want of memory.
    pub out_of_memory: bool,
}

impl ObservedContainer {
    /// Its main process runs.
    pub fn is_running(&self) -> bool {
        matches!(self.state, ContainerState::Running { .. })
    }

    /// How it ended, if it did.
    pub fn exit(&self) -> Option<&Exit> {
        match &self.state {
            ContainerState::Exited(exit) => Some(exit),
            _ => None,
        }
    }
}

/// All that the runtime has of one pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ObservedPod {
    /// Sandboxes, newest attempt first.
    pub sandboxes: Vec<ObservedSandbox>,
    /// Containers, newest attempt first.
    pub containers: Vec<ObservedContainer>,
}

impl ObservedPod {
    /// The sandbox that containers can be started in.
    pub fn ready_sandbox(&self) -> Option<&ObservedSandbox> {
        self.sandboxes.first().filter(|sandbox| sandbox.ready)
    }

    /// The attempt number of the next sandbox.
    pub fn next_sandbox_attempt(&self) -> u32 {
        self.sandboxes.first().map_or(0, |sandbox| sandbox.attempt + 1)
    }

    /// The newest container of a name.
    pub fn newest(&self, name: &str) -> Option<&ObservedContainer> {
        self.history(name).next()
    }

    /// All containers of a name, the newest first.
    pub fn history(&self, name: &str) -> impl Iterator<Item = &ObservedContainer> {
        self.containers.iter().filter(move |container| container.name == name)
    }

    /// The container of an id.
    pub fn container(&self, id: &str) -> Option<&ObservedContainer> {
        self.containers.iter().find(|container| container.id.as_str() == id)
    }

    fn container_mut(&mut self, id: &str) -> Option<&mut ObservedContainer> {
        self.containers.iter_mut().find(|container| container.id.as_str() == id)
    }

    /// Nothing runs, and nothing could come to run by itself.
    pub fn is_stopped(&self) -> bool {
        self.sandboxes.iter().all(|sandbox| !sandbox.ready)
            && self
                .containers
                .iter()
                .all(|container| matches!(container.state, ContainerState::Exited(_) | ContainerState::Created))
    }

    /// Adds a sandbox, or replaces what was known of it.
    pub fn put_sandbox(&mut self, sandbox: ObservedSandbox) {
        self.sandboxes.retain(|known| known.id != sandbox.id);
        self.sandboxes.push(sandbox);
        self.sandboxes.sort_by_key(|sandbox| std::cmp::Reverse(sandbox.attempt));
    }

    /// Adds a container, or replaces what was known of it. An exit once seen stands: the runtime's own status lags
    /// behind its events.
    pub fn put_container(&mut self, mut container: ObservedContainer) {
        if let Some(known) = self.container(container.id.as_str()) {
            container.out_of_memory |= known.out_of_memory;
            if known.exit().is_some() && container.exit().is_none() {
                container.state = known.state.clone();
            }
        }
        self.containers.retain(|known| known.id != container.id);
        self.containers.push(container);
        self.containers
            .sort_by_key(|container| std::cmp::Reverse(container.attempt));
    }

    /// A main process ended: a container's, or a sandbox's. Says whether it was one of this pod's and news.
    pub fn exited(&mut self, id: &str, code: i32, finished_at: Timestamp) -> bool {
        if let Some(sandbox) = self.sandboxes.iter_mut().find(|sandbox| sandbox.id.as_str() == id) {
            return std::mem::replace(&mut sandbox.ready, false);
        }
        let Some(container) = self.container_mut(id) else {
            return false;
        };
        let started_at = match &container.state {
            ContainerState::Exited(_) => return false,
            ContainerState::Running { started_at } => Some(*started_at),
            ContainerState::Created | ContainerState::Unknown => None,
        };
        container.state = ContainerState::Exited(Exit {
            code,
            reason: exit_reason(code, container.out_of_memory).to_owned(),
            message: String::new(),
            started_at,
            finished_at,
        });
        true
    }

    /// The kernel killed a process of a container for want of memory.
    pub fn out_of_memory(&mut self, id: &str) {
        if let Some(container) = self.container_mut(id) {
            container.out_of_memory = true;
            if let ContainerState::Exited(exit) = &mut container.state {
                exit_reason(exit.code, true).clone_into(&mut exit.reason);
            }
        }
    }

    /// The runtime removed a container or a sandbox.
    pub fn removed(&mut self, id: &str) {
        self.sandboxes.retain(|sandbox| sandbox.id.as_str() != id);
        self.containers.retain(|container| container.id.as_str() != id);
    }

    /// Sets the message of a container that ended.
    pub fn set_exit_message(&mut self, id: &str, message: String) {
        if let Some(ContainerState::Exited(exit)) = self.container_mut(id).map(|container| &mut container.state) {
            exit.message = message;
        }
    }
}

/// The reason in a terminated container's status, as containerd words it.
pub fn exit_reason(code: i32, out_of_memory: bool) -> &'static str {
    match code {
        0 => "Completed",
        _ if out_of_memory => "OOMKilled",
        _ => "Error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container(id: &str, attempt: u32, state: ContainerState) -> ObservedContainer {
        ObservedContainer {
            id: id.into(),
            name: "app".into(),
            sandbox: "s".into(),
            attempt,
            state,
            image: String::new(),
            image_id: String::new(),
            out_of_memory: false,
        }
    }

    fn running() -> ContainerState {
        ContainerState::Running {
            started_at: Timestamp::UNIX_EPOCH,
        }
    }

    #[test]
    fn an_exit_once_seen_is_not_undone_by_a_status_that_lags() {
        let mut pod = ObservedPod::default();
        pod.put_container(container("c", 0, running()));
        assert!(pod.exited("c", 137, Timestamp::UNIX_EPOCH));
        pod.put_container(container("c", 0, running()));
        assert_eq!(pod.container("c").unwrap().exit().unwrap().code, 137);
        assert!(
            !pod.exited("c", 0, Timestamp::UNIX_EPOCH),
            "the second report is no news"
        );
    }

    #[test]
    fn an_out_of_memory_kill_is_named_in_either_order_of_events() {
        for oom_first in [true, false] {
            let mut pod = ObservedPod::default();
            pod.put_container(container("c", 0, running()));
            if oom_first {
                pod.out_of_memory("c");
            }
            pod.exited("c", 137, Timestamp::UNIX_EPOCH);
            if !oom_first {
                pod.out_of_memory("c");
            }
            assert_eq!(pod.container("c").unwrap().exit().unwrap().reason, "OOMKilled");
        }
    }

    #[test]
    fn the_newest_attempt_comes_first_whatever_the_order_of_arrival() {
        let mut pod = ObservedPod::default();
        for attempt in [1, 3, 2] {
            pod.put_container(container(&format!("c{attempt}"), attempt, running()));
        }
        assert_eq!(pod.newest("app").unwrap().attempt, 3);
        pod.removed("c3");
        assert_eq!(pod.newest("app").unwrap().attempt, 2);
    }

    #[test]
    fn a_pause_process_that_ends_leaves_no_ready_sandbox() {
        let mut pod = ObservedPod::default();
        pod.put_sandbox(ObservedSandbox {
            id: "s".into(),
            attempt: 0,
            ready: true,
            stopped: false,
            addresses: vec![],
        });
        assert!(pod.ready_sandbox().is_some());
        assert!(pod.exited("s", 0, Timestamp::UNIX_EPOCH));
        assert!(pod.ready_sandbox().is_none());
        assert_eq!(pod.next_sandbox_attempt(), 1);
        assert!(pod.is_stopped());
    }
}
