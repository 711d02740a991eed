//! The command line.

use std::{net::IpAddr, path::PathBuf, str::FromStr, time::Duration};

use bosun_api::{core::Taint, names};
use bosun_net::cidr::Cidr;
use bosun_node::{
    config::{AgentConfig, ClusterConfig, RuntimeEndpoint},
    places::Places,
};
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::{dev::DevArgs, server::ServerArgs, token::TokenArgs};

/// The Kubernetes node agent that really runs containers.
#[derive(Debug, Parser)]
#[command(name = "bosun", version, arg_required_else_help = true, after_help = EXAMPLES)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXAMPLES: &str = "\
Examples:
  bosun agent --manifest-dir /etc/bosun/manifests    run the pods of this machine
  bosun server --no-agent                            serve the Kubernetes API to kubectl
  bosun dev up --nodes 3                             a cluster of three nodes on this machine
  bosun pods -o wide                                 see them, with addresses and start times
  bosun images import web.tar                        bring an image without a registry

'bosun help COMMAND' says more about each.";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run this machine's pods from a directory of manifests
    Agent(Box<AgentArgs>),
    /// Serve the Kubernetes API
    Server(Box<ServerArgs>),
    /// Clusters of several nodes on this machine, to try things out
    Dev(DevArgs),
    /// Print a kubeconfig for a user, with a certificate made for it
    Kubeconfig(KubeconfigArgs),
    /// Make, list and delete the tokens that machines join with
    Token(TokenArgs),
    /// Make a whole store of a damaged one, and say what is lost
    #[command(after_help = SALVAGE_EXAMPLES)]
    Salvage(DataDirArgs),
    /// Make a new key for what is encrypted at rest
    #[command(after_help = ROTATE_EXAMPLES)]
    RotateEncryptionKey(DataDirArgs),
    /// Show the pods of the agent on this machine
    Pods(PodsArgs),
    /// Import and list the images that pods can use
    Images(ImagesArgs),
    /// Print the version, and those of the interfaces
    Version,
}

const AGENT_EXAMPLES: &str = "\
A manifest is one v1 Pod in YAML or JSON. Put the file into the directory and the pod starts; change it and a new pod \
replaces the old one; remove it and the pod is stopped. A manifest with a mistake changes nothing: 'bosun pods' and \
the log name the file and the field.

The agent may be stopped, upgraded and killed: containers run on, and it takes them up again.

Examples:
  bosun agent --manifest-dir /etc/bosun/manifests
      with a containerd of its own, started and configured by the agent
  bosun agent --manifest-dir ./m --runtime-endpoint unix:///run/containerd/containerd.sock
      with the machine's containerd
  bosun agent --manifest-dir ./m --pod-cidr 10.20.0.0/24,fd00:20::/64 --node-name lab
      pods with addresses of both families, called NAME-lab
  bosun agent --kubeconfig /etc/bosun/node.kubeconfig --node-labels disk=ssd
      as a node of the cluster that the file names, with pods from its control plane";

/// Run this machine's pods from a directory of manifests
#[derive(Args, Debug)]
#[command(after_help = AGENT_EXAMPLES)]
pub(crate) struct AgentArgs {
    /// Pod manifests are read from here; it is created if absent, and watched
    #[arg(long, value_name = "DIR", required_unless_present = "kubeconfig")]
    manifest_dir: Option<PathBuf>,
    /// Be a node of the cluster that this file names, as the user it names
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
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
    /// The domain that the cluster's names are in
    #[arg(long, value_name = "DOMAIN", default_value = "cluster.local")]
    cluster_domain: String,
    /// The most pods at a time
    #[arg(long, value_name = "NUMBER", default_value_t = 110)]
    max_pods: u32,
    /// What must outlive a reboot: the agent's memory, the managed containerd's images and containers
    #[arg(long, value_name = "DIR", default_value = "/var/lib/bosun")]
    data_dir: PathBuf,
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
    /// Pods get their addresses from this range; a second one, of the other family, after a comma [default: 10.244.0.0/24,
    /// or with --kubeconfig what the control plane assigns]
    #[arg(long, value_name = "CIDR[,CIDR]")]
    pod_cidr: Option<Cidrs>,
    /// Where containers run: 'managed' for a containerd of the agent's own, or the socket of another
    #[arg(long, value_name = "managed|unix://SOCKET", default_value = "managed")]
    runtime_endpoint: Endpoint,
    /// The containerd to run when it is managed
    #[arg(long, value_name = "PROGRAM", default_value = "containerd")]
    containerd: PathBuf,
    /// CNI's configuration is written here, as 10-bosun.conflist
    #[arg(long, value_name = "DIR", default_value = "/etc/cni/net.d")]
    cni_conf_dir: PathBuf,
    /// The bosun-cni plugin is put here
    #[arg(long, value_name = "DIR", default_value = "/opt/cni/bin")]
    cni_bin_dir: PathBuf,
    /// The cgroup that kubepods is made in; never one that another agent uses
    #[arg(long, value_name = "PATH", default_value = "/", value_parser = cgroup_path)]
    cgroup_root: String,
    /// How often the runtime is asked for exits that its events may have missed; 0 for never
    #[arg(long, value_name = "TIME", default_value = "1m", value_parser = duration)]
    audit_interval: Duration,
    /// The longest wait before a container that keeps ending is started again
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = restart_backoff)]
    max_container_restart_period: Duration,
}

impl AgentArgs {
    /// The agent's configuration, on a machine of this name.
    pub(crate) fn config(&self, host_name: &str) -> Result<AgentConfig, String> {
        let node_name = match &self.node_name {
            Some(name) => name.clone(),
            None => node_name(&host_name.trim().to_lowercase())
                .map_err(|error| format!("the host name makes no node name: {error}; give one with --node-name"))?,
        };
        Ok(AgentConfig {
            node_name,
            manifest_dir: self.manifest_dir.as_ref().map(absolute),
            cluster: self.kubeconfig.as_ref().map(|kubeconfig| ClusterConfig {
                kubeconfig: absolute(kubeconfig),
                labels: self.node_labels.iter().cloned().collect(),
                taints: self.register_with_taints.clone(),
                dns_servers: self.cluster_dns.clone(),
                domain: self.cluster_domain.clone(),
                port: KUBELET_PORT,
            }),
            node_addresses: self.node_ip.clone(),
            max_pods: self.max_pods,
            places: Places {
                data: absolute(&self.data_dir),
                root: absolute(&self.root_dir),
                logs: absolute(&self.log_dir),
                run: absolute(&self.run_dir),
            },
            runtime: match &self.runtime_endpoint {
                Endpoint::Managed => RuntimeEndpoint::Managed {
                    program: self.containerd.clone(),
                },
                Endpoint::Socket(socket) => RuntimeEndpoint::Socket(socket.clone()),
            },
            pod_cidrs: match (&self.pod_cidr, &self.kubeconfig) {
                (Some(cidrs), _) => cidrs.0.clone(),
                (None, None) => POD_CIDR.parse::<Cidrs>()?.0,
                (None, Some(_)) => vec![],
            },
            cni_conf_dir: absolute(&self.cni_conf_dir),
            cni_bin_dir: absolute(&self.cni_bin_dir),
            cgroup_root: self.cgroup_root.clone(),
            audit_interval: Some(self.audit_interval).filter(|interval| !interval.is_zero()),
            max_restart_backoff: self.max_container_restart_period,
        })
    }
}

/// Where pods get their addresses from if nobody says.
const POD_CIDR: &str = "10.244.0.0/24";
/// Where the agent's HTTPS API listens, as every kubelet's.
const KUBELET_PORT: u16 = 10250;

/// What the runtime and the plugin are told must not depend on where the agent was started.
fn absolute(path: &PathBuf) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.clone())
}

const KUBECONFIG_EXAMPLES: &str = "\
The certificate holds for a year. What the user may do is said by role bindings for the name or a group; a certificate \
can't be taken back, so bind roles to what can be unbound.

Examples:
  bosun kubeconfig --user jane --group dev
      to be kept in a file; what the group may do, kubectl create rolebinding says:
      --clusterrole edit --group dev -n shop lets it change what is in the namespace shop";

/// Print a kubeconfig for a user, with a certificate made for it
#[derive(Args, Debug)]
#[command(after_help = KUBECONFIG_EXAMPLES)]
pub(crate) struct KubeconfigArgs {
    /// The user's name
    #[arg(long, value_name = "NAME")]
    pub(crate) user: String,
    /// A group of the user's; may be given more than once
    #[arg(long, value_name = "GROUP")]
    pub(crate) group: Vec<String>,
    /// Where the user reaches the server
    #[arg(long, value_name = "URL", default_value = "https://127.0.0.1:6443")]
    pub(crate) server: String,
    /// The server's --data-dir
    #[arg(long, value_name = "DIR", default_value = "/var/lib/bosun")]
    pub(crate) data_dir: PathBuf,
    /// Allow a name that begins with system:, as the system's own components have
    #[arg(long)]
    pub(crate) allow_system_user: bool,
}

const SALVAGE_EXAMPLES: &str = "\
For a server that does not start because its store is damaged, and of which there is no better copy. Exactly what is \
damaged is dropped, each object named; the damaged files are kept beside. Resource versions go on a million higher, so \
that clients read everything anew.

Examples:
  bosun salvage
      the store in /var/lib/bosun; the server must not run";

const ROTATE_EXAMPLES: &str = "\
Secrets are encrypted in the store with the first key of server/pki/encryption.json in the data directory. This puts a \
new one first; at its next start the server encrypts all Secrets with it anew.

Examples:
  bosun rotate-encryption-key && systemctl restart bosun";

/// A server's data
#[derive(Args, Debug)]
pub(crate) struct DataDirArgs {
    /// The server's --data-dir
    #[arg(long, value_name = "DIR", default_value = "/var/lib/bosun")]
    pub(crate) data_dir: PathBuf,
}

const PODS_EXAMPLES: &str = "\
Examples:
  bosun pods               all pods, and on standard error the manifests that can't be used
  bosun pods web           one pod, by its name in the manifest or in full
  bosun pods -o wide       with addresses, milliseconds of each stage of the start, container ids
  bosun pods web -o json   everything that is known of one pod";

/// Show the pods of the agent on this machine
#[derive(Args, Debug)]
#[command(after_help = PODS_EXAMPLES)]
pub(crate) struct PodsArgs {
    /// Only this pod: its name in the manifest, or with the node's as suffix
    pub(crate) name: Option<String>,
    /// How much to show
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) output: Output,
    /// The agent's --run-dir
    #[arg(long, value_name = "DIR", default_value = "/run/bosun")]
    pub(crate) run_dir: PathBuf,
}

/// How much `bosun pods` shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// What one looks at first
    #[default]
    Table,
    /// Addresses, start times and container ids too
    Wide,
    /// All that is known: a list of pods, and of the manifests that can't be used; with a name, one pod
    Json,
}

const IMAGES_EXAMPLES: &str = "\
Examples:
  bosun images import web.tar db.tar   archives of 'docker save', 'podman save', 'skopeo copy'
  bosun images list                    what pods can use without a registry";

/// Import and list the images that pods can use
#[derive(Args, Debug)]
#[command(after_help = IMAGES_EXAMPLES)]
pub(crate) struct ImagesArgs {
    #[command(subcommand)]
    pub(crate) command: ImagesCommand,
    /// Where containers run: 'managed' for the containerd of the agent, or the socket of another
    #[arg(long, global = true, value_name = "managed|unix://SOCKET", default_value = "managed")]
    pub(crate) runtime_endpoint: Endpoint,
    /// The agent's --run-dir
    #[arg(long, global = true, value_name = "DIR", default_value = "/run/bosun")]
    pub(crate) run_dir: PathBuf,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ImagesCommand {
    /// Import images from OCI or Docker archives
    Import {
        /// Archives; each may hold several images
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// List images with their size
    List,
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

/// Ranges of addresses, at most one of each family.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Cidrs(Vec<Cidr>);

impl FromStr for Cidrs {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let cidrs = text
            .split(',')
            .map(|cidr| cidr.trim().parse::<Cidr>().map_err(|error| error.to_string()));
        let cidrs = cidrs.collect::<Result<Vec<_>, _>>()?;
        match cidrs.as_slice() {
            [_] => Ok(Self(cidrs)),
            [one, other] if one.family() != other.family() => Ok(Self(cidrs)),
            _ => Err("give one range, or one IPv4 and one IPv6 range such as 10.20.0.0/24,fd00:20::/64".to_owned()),
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

/// A time such as `30s`, `5m`, `1h`, `250ms`; a bare number is seconds.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let number: u32 = number
        .parse()
        .map_err(|_| "write a time such as 30s, 5m or 1h".to_owned())?;
    let unit = match unit {
        "ms" => Duration::from_millis(1),
        "s" | "" => Duration::from_secs(1),
        "m" => Duration::from_mins(1),
        "h" => Duration::from_hours(1),
        _ => return Err("write a time such as 30s, 5m or 1h".to_owned()),
    };
    Ok(unit * number)
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

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn agent(args: &str) -> Result<AgentConfig, String> {
        let words = ["bosun", "agent"].into_iter().chain(args.split_whitespace());
        match Cli::try_parse_from(words).map_err(|error| error.to_string())?.command {
            Command::Agent(args) => args.config("Host.Example\n"),
            command => panic!("{command:?}"),
        }
    }

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_example_in_the_help_can_be_typed() {
        fn examples(command: &clap::Command) -> Vec<String> {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            let lines = help.lines().map(str::trim).filter(|line| line.starts_with("bosun "));
            let own: Vec<_> = lines
                .map(|line| line.split("   ").next().unwrap_or(line).to_owned())
                .collect();
            own.into_iter()
                .chain(command.get_subcommands().flat_map(examples))
                .collect()
        }
        let examples = examples(&Cli::command());
        assert!(examples.len() >= 10, "{examples:?}");
        for example in examples {
            if let Err(error) = Cli::try_parse_from(example.split_whitespace()) {
                panic!("{example}: {error}");
            }
        }
    }

    #[test]
    fn an_agent_needs_to_be_told_only_where_its_manifests_are() {
        let config = agent("--manifest-dir /m").unwrap();
        assert_eq!(config.node_name, "host.example");
        assert_eq!(config.places.agent_socket(), PathBuf::from("/run/bosun/agent.sock"));
        assert_eq!(
            config.runtime,
            RuntimeEndpoint::Managed {
                program: "containerd".into()
            }
        );
        assert_eq!(config.pod_cidrs, ["10.244.0.0/24".parse().unwrap()]);
        assert_eq!(config.cgroup_root, "/");
        assert_eq!(config.audit_interval, Some(Duration::from_mins(1)));
    }

    #[test]
    fn everything_can_be_put_elsewhere() {
        let config = agent(
            "--manifest-dir m --data-dir /d --root-dir /r --log-dir /l --run-dir /run/x --node-name n1 \
             --pod-cidr 10.1.0.0/24,fd00::/64 --runtime-endpoint unix:///run/c.sock --cni-conf-dir /cc --cni-bin-dir /cb \
             --cgroup-root /x --audit-interval 0 --max-container-restart-period 10s",
        );
        let config = config.unwrap();
        let places = Places {
            data: "/d".into(),
            root: "/r".into(),
            logs: "/l".into(),
            run: "/run/x".into(),
        };
        assert_eq!(config.places, places);
        assert_eq!(config.manifest_dir, Some(std::env::current_dir().unwrap().join("m")));
        assert_eq!(config.runtime, RuntimeEndpoint::Socket("/run/c.sock".into()));
        assert_eq!(config.pod_cidrs.len(), 2);
        assert_eq!(
            (config.audit_interval, config.max_restart_backoff),
            (None, Duration::from_secs(10))
        );
    }

    #[test]
    fn a_node_of_a_cluster_needs_only_to_know_which() {
        let config = agent("--kubeconfig /k").unwrap();
        assert_eq!((config.manifest_dir, config.pod_cidrs), (None, vec![]));
        let cluster = config.cluster.unwrap();
        assert_eq!((cluster.port, cluster.domain.as_str()), (10250, "cluster.local"));
        let config = agent(
            "--kubeconfig /k --node-ip 10.0.0.2,fd00::2 --node-labels a=b,c= --register-with-taints x=y:NoExecute,z:NoSchedule \
             --cluster-dns 10.96.0.10 --cluster-domain example --max-pods 20",
        );
        let config = config.unwrap();
        assert_eq!((config.node_addresses.len(), config.max_pods), (2, 20));
        let cluster = config.cluster.unwrap();
        assert_eq!(cluster.labels["c"], "");
        assert_eq!(cluster.taints[0].value.as_deref(), Some("y"));
        assert_eq!((cluster.taints[1].key.as_str(), &cluster.taints[1].value), ("z", &None));
    }

    #[test]
    fn a_wrong_value_is_refused_with_a_right_one() {
        for (args, words) in [
            ("", "--manifest-dir <DIR>"),
            ("--manifest-dir /m --pod-cidr 10.0.0.0/33", "33"),
            (
                "--manifest-dir /m --pod-cidr 10.0.0.0/24,10.1.0.0/24",
                "one IPv4 and one IPv6 range",
            ),
            (
                "--manifest-dir /m --runtime-endpoint /run/c.sock",
                "unix:///run/containerd/containerd.sock",
            ),
            ("--manifest-dir /m --node-name Node_1", "RFC 1123 subdomain"),
            ("--kubeconfig /k --register-with-taints gpu=yes", "gpu=yes:NoSchedule"),
            (
                "--manifest-dir /m --cgroup-root a/../b",
                "an absolute path in the cgroup file system",
            ),
            ("--manifest-dir /m --audit-interval soon", "30s, 5m or 1h"),
            (
                "--manifest-dir /m --max-container-restart-period 1h",
                "between 1s and 5m",
            ),
        ] {
            let error = agent(args).unwrap_err();
            assert!(error.contains(words), "{args}: {error}");
        }
    }

    #[test]
    fn times_are_read_with_their_unit() {
        for (text, milliseconds) in [
            ("0", 0),
            ("30", 30_000),
            ("30s", 30_000),
            ("5m", 300_000),
            ("250ms", 250),
            ("1h", 3_600_000),
        ] {
            assert_eq!(duration(text).unwrap(), Duration::from_millis(milliseconds), "{text}");
        }
        for text in ["", "s", "-1s", "1d", "1.5s", "99999999999s"] {
            assert!(duration(text).is_err(), "{text:?}");
        }
    }
}
