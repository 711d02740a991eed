//! What an agent is told at its start: by flags, and in [`kubelet`] by the file that kubelet reads.

pub mod kubelet;

use std::{path::PathBuf, time::Duration};

use bosun_net::cidr::Cidr;

use crate::places::Places;

/// Where containers are run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RuntimeEndpoint {
    /// The machine's own runtime, at this Unix socket.
    Socket(PathBuf),
    /// A containerd that the agent configures, starts and watches, and that outlives the agent.
    Managed {
        /// The `containerd` program; a bare name is looked for in `PATH`.
        program: PathBuf,
    },
}

/// What an agent is told at its start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentConfig {
    /// The node's name.
    pub node_name: String,
    /// Pod manifests are read from here.
    pub manifest_dir: PathBuf,
    /// Where things are.
    pub places: Places,
    /// Where containers are run.
    pub runtime: RuntimeEndpoint,
    /// Ranges that pods get addresses from, at most one of each family, the primary first.
    pub pod_cidrs: Vec<Cidr>,
    /// Where CNI's configuration is written.
    pub cni_conf_dir: PathBuf,
    /// Where CNI plugins are; `bosun-cni` is put there.
    pub cni_bin_dir: PathBuf,
    /// The cgroup that all pods' cgroups are made in.
    pub cgroup_root: String,
    /// How often the runtime is asked for what its events may have missed; `None`: never.
    pub audit_interval: Option<Duration>,
    /// Longest restart back-off of a container (KEP-5593).
    pub max_restart_backoff: Duration,
}
