//! Pods from files: a directory of manifests, watched.
//!
//! ```text
//!  inotify ──▶ watch ──▶ source (one task) ──▶ files (blocking: read, decode, remember)
//!                             │                    │ a pod, or why there is none
//!                             │ ManifestEvent ◀── index (pure: which file's pod counts, what is news)
//!                             ▼
//!                        the agent's pods
//! ```
//!
//! A file counts as written when its writer closes it. What can't be a manifest leaves the file's earlier good
//! version in force, also across a restart of the agent: [`ManifestSource`] remembers good manifests. Of two files
//! that define one pod the first by name counts. Symbolic links are followed, and their targets watched, because
//! that is how people keep manifests elsewhere; whatever is no regular file behind them is refused unopened.

mod files;
pub mod index;
mod source;
mod watch;

#[cfg(test)]
mod tests;

use std::{path::PathBuf, sync::Arc};

use bosun_api::{PodKey, core::Pod, manifest::ManifestError};
use tokio::{sync::mpsc, task::JoinSet};

/// News from the directory.
#[derive(Clone, Debug, PartialEq)]
pub enum ManifestEvent {
    /// The file defines this pod from now on, and nothing is wrong with it.
    Valid {
        /// The file's name.
        file: String,
        /// The pod, another than before when its UID is.
        pod: Arc<Pod>,
    },
    /// Something is wrong with the file. Its earlier pod, if there was one, goes on.
    Invalid {
        /// The file's name.
        file: String,
        /// What is wrong.
        error: Problem,
    },
    /// The file defines no pod any more.
    Removed {
        /// The file's name.
        file: String,
    },
    /// Every file has been told of once: a pod from a file that no file defines is an orphan.
    Synced,
}

/// Why a file defines no pod.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// It can't be read.
    #[error("cannot be read: {0}")]
    Unreadable(String),
    /// It is a device, a socket or the like.
    #[error("is not a regular file: remove it, or put a manifest in its place")]
    NotAFile,
    /// What it holds is no pod.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// Another file, earlier by name, defines the same pod.
    #[error("defines the pod {key}, as the file {other} does: change the name of one, or remove a file")]
    Clash {
        /// The pod.
        key: PodKey,
        /// The file that counts.
        other: String,
    },
}

/// Watches a directory of manifests, for as long as it lives.
#[derive(Debug)]
pub struct ManifestSource {
    _task: JoinSet<()>,
}

impl ManifestSource {
    /// Watches `dir` for pods of the node `node_name`. A directory that isn't there is created, or waited for.
    ///
    /// Good manifests are remembered as files in `memory`, so that a manifest broken while the agent is down stops
    /// nothing. Must be called in a tokio runtime.
    pub fn start(dir: PathBuf, node_name: String, memory: PathBuf) -> (Self, mpsc::Receiver<ManifestEvent>) {
        let (events_tx, events_rx) = mpsc::channel(64);
        let mut task = JoinSet::new();
        task.spawn(source::run(dir, node_name, memory, events_tx));
        (Self { _task: task }, events_rx)
    }
}
