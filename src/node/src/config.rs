//! What an agent is told at its start: by flags, and in [`kubelet`] by the file that kubelet reads.

pub mod kubelet;

use std::{collections::BTreeMap, net::IpAddr, path::PathBuf, time::Duration};

use bosun_api::core::Taint;
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

/// What an agent is told of its control plane.
#[derive(Clone, Debug, PartialEq)]
pub struct ClusterConfig {
    /// Says where the control plane is and who this node is.
    pub kubeconfig: PathBuf,
    /// Labels of the Node object, when it is made.
    pub labels: BTreeMap<String, String>,
    /// Its taints, when it is made.
    pub taints: Vec<Taint>,
    /// Servers of the cluster's DNS; empty: pods get the node's own.
    pub dns_servers: Vec<IpAddr>,
    /// The domain that the cluster's names are in.
    pub domain: String,
    /// Where the agent's HTTPS API listens.
    pub port: u16,
}

/// What an agent is told at its start.
#[derive(Clone, Debug, PartialEq)]
pub struct AgentConfig {
    /// The node's name.
    pub node_name: String,
    /// Pod manifests are read from here; `None`: there are no static pods.
    pub manifest_dir: Option<PathBuf>,
    /// The control plane it is a node of; `None`: it runs pods from files alone.
    pub cluster: Option<ClusterConfig>,
    /// The node's addresses, the primary first; empty: those it is found to have.
    pub node_addresses: Vec<IpAddr>,
    /// The most pods at a time.
    pub max_pods: u32,
    /// Where things are.
    pub places: Places,
    /// Where containers are run.
    pub runtime: RuntimeEndpoint,
    /// Ranges that pods get addresses from, at most one of each family, the primary first. Those that the control plane
    /// assigns count more; empty: no pod starts before it has.
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
