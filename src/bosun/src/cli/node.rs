//! What a node can be told, whether its agent is a program of its own or a part of the server.

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use bosun_api::{core::Taint, names};
use bosun_node::{
    config::{AgentConfig, ClusterConfig, RuntimeEndpoint, kubelet::KubeletSettings},
    join::JoinConfig,
    places::Places,
};
use clap::Args;

use super::duration;

/// How pods are run on this machine
#[derive(Args, Clone, Debug, Default, PartialEq)]
#[command(next_help_heading = "This machine as a node")]
pub(crate) struct NodeArgs {
    /// This node's address in the cluster; a second one, of the other family, after a comma [default: found]
    #[arg(long, value_name = "IP[,IP]", value_delimiter = ',')]
    node_ip: Vec<IpAddr>,
    /// Labels that the node is registered with
    #[arg(long, value_name = "KEY=VALUE,...", value_delimiter = ',', value_parser = label)]
    node_labels: Vec<(String, String)>,
    /// Taints that the node is registered with
    #[arg(long, value_name = "KEY=VALUE:EFFECT,...", value_delimiter = ',', value_parser = taint)]
    register_with_taints: Vec<Taint>,
    /// The servers of the cluster's DNS, which pods ask [default: those of the node]
    #[arg(long, value_name = "IP,...", value_delimiter = ',')]
    cluster_dns: Vec<IpAddr>,
    /// The most pods at a time [default: 110]
    #[arg(long, value_name = "NUMBER")]
    max_pods: Option<u32>,
    /// Volumes of pods, in pods/UID, where log shippers and storage drivers look for them
    #[arg(long, value_name = "DIR", default_value = "/var/lib/kubelet")]
    root_dir: PathBuf,
    /// Logs of containers, in pods/ and containers/
    #[arg(long, value_name = "DIR", default_value = "/var/log")]
    log_dir: PathBuf,
    /// What must not outlive a reboot: sockets, address records. One for each agent
    #[arg(long, value_name = "DIR", default_value = "/run/bosun")]
    run_dir: PathBuf,
    /// This node's name, a suffix of its pods' names [default: the host name]
    #[arg(long, value_name = "NAME", value_parser = node_name)]
    node_name: Option<String>,
    /// Where containers run: 'managed' for a containerd of the agent's own, or the socket of another [default: managed]
    #[arg(long, value_name = "managed|unix://SOCKET")]
    runtime_endpoint: Option<Endpoint>,
    /// The containerd to run when it is managed
    #[arg(long, value_name = "PROGRAM", default_value = "containerd")]
    containerd: PathBuf,
    /// CNI's configuration is written here, as 10-bosun.conflist
    #[arg(long, value_name = "DIR", default_value = "/etc/cni/net.d")]
    cni_conf_dir: PathBuf,
    /// The bosun-cni plugin is put here
    #[arg(long, value_name = "DIR", default_value = "/opt/cni/bin")]
    cni_bin_dir: PathBuf,
    /// The cgroup that kubepods is made in; never one that another agent uses [default: /]
    #[arg(long, value_name = "PATH", value_parser = cgroup_path)]
    cgroup_root: Option<String>,
    /// How often the runtime is asked for exits that its events may have missed; 0 for never
    #[arg(long, value_name = "TIME", default_value = "1m", value_parser = duration)]
    audit_interval: Duration,
    /// The longest wait before a container that keeps ending is started again [default: 5m]
    #[arg(long, value_name = "TIME", value_parser = restart_backoff)]
    max_container_restart_period: Option<Duration>,
}

impl NodeArgs {
    /// The node's name, on a machine of this name.
    pub(crate) fn name(&self, host_name: &str) -> Result<String, String> {
        match &self.node_name {
            Some(name) => Ok(name.clone()),
            None => node_name(&host_name.trim().to_lowercase())
                .map_err(|error| format!("the host name makes no node name: {error}; give one with --node-name")),
        }
    }

    /// Where things are.
    pub(crate) fn places(&self, data_dir: &Path) -> Places {
        Places {
            data: absolute(data_dir),
            root: absolute(&self.root_dir),
            logs: absolute(&self.log_dir),
            run: absolute(&self.run_dir),
        }
    }

    /// The agent's configuration: what flags say, else `settings`. It has no manifests, no cluster and no addresses for
    /// pods yet.
    pub(crate) fn config(
        &self,
        node_name: String,
        places: Places,
        settings: &KubeletSettings,
    ) -> Result<AgentConfig, String> {
        Ok(AgentConfig {
            node_name,
            manifest_dir: None,
            cluster: None,
            node_addresses: self.node_ip.clone(),
            max_pods: self.max_pods.unwrap_or(settings.max_pods),
            places,
            runtime: self.runtime(settings),
            pod_cidrs: vec![],
            cni_conf_dir: absolute(&self.cni_conf_dir),
            cni_bin_dir: absolute(&self.cni_bin_dir),
            cgroup_root: match (&self.cgroup_root, settings.cgroup_root.as_str()) {
                (Some(root), _) => root.clone(),
                (None, "") => "/".to_owned(),
                (None, root) => cgroup_path(root).map_err(|why| format!("cgroupRoot: {why}"))?,
            },
            audit_interval: Some(self.audit_interval).filter(|interval| !interval.is_zero()),
            max_restart_backoff: self
                .max_container_restart_period
                .unwrap_or(settings.crash_loop_back_off.max_container_restart_period),
        })
    }

    /// The cluster's side of it.
    pub(crate) fn cluster(&self, join: Option<JoinConfig>, domain: &str, settings: &KubeletSettings) -> ClusterConfig {
        ClusterConfig {
            join,
            labels: self.node_labels.iter().cloned().collect(),
            taints: if self.register_with_taints.is_empty() {
                settings.register_with_taints.clone()
            } else {
                self.register_with_taints.clone()
            },
            dns_servers: if self.cluster_dns.is_empty() {
                settings.cluster_dns.clone()
            } else {
                self.cluster_dns.clone()
            },
            domain: domain.to_owned(),
            port: settings.port,
        }
    }

    fn runtime(&self, settings: &KubeletSettings) -> RuntimeEndpoint {
        match (&self.runtime_endpoint, &settings.container_runtime_endpoint) {
            (Some(Endpoint::Socket(socket)), _) | (None, Some(socket)) => RuntimeEndpoint::Socket(socket.clone()),
            (Some(Endpoint::Managed) | None, _) => RuntimeEndpoint::Managed {
                program: self.containerd.clone(),
            },
        }
    }
}

/// What the runtime and the plugin are told must not depend on where the agent was started.
pub(super) fn absolute(path: impl AsRef<Path>) -> PathBuf {
    let path = path.as_ref();
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// Where containers run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Endpoint {
    Managed,
    Socket(PathBuf),
}

impl FromStr for Endpoint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.strip_prefix("unix://") {
            Some(path) if path.starts_with('/') => Ok(Self::Socket(path.into())),
            None if text == "managed" => Ok(Self::Managed),
            _ => Err("write managed, or unix:// and a path, such as unix:///run/containerd/containerd.sock".to_owned()),
        }
    }
}

fn node_name(name: &str) -> Result<String, String> {
    names::dns_subdomain(name)
        .map(|()| name.to_owned())
        .map_err(str::to_owned)
}

fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("write a key, =, and a value, such as disk=ssd".to_owned()),
    }
}

/// `key=value:effect`, or without a value `key:effect`.
fn taint(text: &str) -> Result<Taint, String> {
    let parts = text.rsplit_once(':');
    let (name, effect) = parts
        .filter(|(_, effect)| ["NoSchedule", "PreferNoSchedule", "NoExecute"].contains(effect))
        .ok_or(
            "write a key, =, a value, : and NoSchedule, PreferNoSchedule or NoExecute, such as gpu=yes:NoSchedule",
        )?;
    let (key, value) = name
        .split_once('=')
        .map_or((name, None), |(key, value)| (key, Some(value)));
    Ok(Taint {
        key: key.to_owned(),
        value: value.map(str::to_owned),
        effect: effect.to_owned(),
        time_added: None,
    })
}

fn cgroup_path(path: &str) -> Result<String, String> {
    let steps = path.split('/').all(|step| step != "." && step != "..");
    if path.starts_with('/') && steps {
        Ok(path.to_owned())
    } else {
        Err("write an absolute path in the cgroup file system, such as /bosun".to_owned())
    }
}

/// As upstream's `crashLoopBackOff.maxContainerRestartPeriod`.
fn restart_backoff(text: &str) -> Result<Duration, String> {
    let duration = duration(text)?;
    if (Duration::from_secs(1)..=Duration::from_mins(5)).contains(&duration) {
        Ok(duration)
    } else {
        Err("must be between 1s and 5m".to_owned())
    }
}
