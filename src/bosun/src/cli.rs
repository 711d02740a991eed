//! The command line.

mod node;

use std::{path::PathBuf, str::FromStr, time::Duration};

use bosun_net::cidr::Cidr;
use bosun_node::config::{
    AgentConfig,
    kubelet::{self, ConfigError, KubeletSettings, Loaded},
};
use clap::{Args, Parser, Subcommand, ValueEnum};

use self::node::absolute;
pub(crate) use self::node::{Endpoint, NodeArgs};
use crate::{dev::DevArgs, join::JoinArgs, server::ServerArgs, token::TokenArgs};

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
  bosun server                                       a cluster of this machine alone, for others to join
  bosun dev up --nodes 3                             a cluster of three nodes on this machine
  bosun pods -o wide                                 see them, with addresses and start times
  bosun images import web.tar                        bring an image without a registry

'bosun help COMMAND' says more about each.";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run this machine's pods from a directory of manifests
    Agent(Box<AgentArgs>),
    /// Run a cluster's control plane, and this machine as a node of it
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
  bosun agent --server https://192.0.2.7:6443 --token abcdef.0123456789abcdef --ca-file ca.crt
      joining a cluster; 'bosun token create' on its server prints the command, with the authority's hash instead of a
      file. From then on no token is needed
  bosun agent --kubeconfig /etc/kubernetes/kubelet.conf --config /var/lib/kubelet/config.yaml
      in kubelet's place, with the files that kubeadm wrote
  bosun agent --kubeconfig /etc/bosun/node.kubeconfig --node-labels disk=ssd
      as a node of the cluster that the file names, with pods from its control plane";

/// Run this machine's pods from a directory of manifests
#[derive(Args, Debug)]
#[command(after_help = AGENT_EXAMPLES)]
pub(crate) struct AgentArgs {
    /// Pod manifests are read from here; it is created if absent, and watched
    #[arg(long, value_name = "DIR", required_unless_present_any = ["kubeconfig", "server", "bootstrap_kubeconfig", "config"])]
    manifest_dir: Option<PathBuf>,
    /// Be a node of the cluster that this file names, as the user it names; written when the node joins [default then:
    /// agent.kubeconfig in the data directory]
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// Settings from kubelet's configuration file; flags win
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// More of them from the files *.conf in this directory, in the order of their names
    #[arg(long, value_name = "DIR")]
    config_dir: Option<PathBuf>,
    /// The domain that the cluster's names are in [default: cluster.local]
    #[arg(long, value_name = "DOMAIN")]
    cluster_domain: Option<String>,
    /// What must outlive a reboot: the agent's memory, the managed containerd's images and containers
    #[arg(long, value_name = "DIR", default_value = "/var/lib/bosun")]
    data_dir: PathBuf,
    /// Pods get their addresses from this range; a second one, of the other family, after a comma [default: 10.244.0.0/24,
    /// or with --kubeconfig what the control plane assigns]
    #[arg(long, value_name = "CIDR[,CIDR]")]
    pod_cidr: Option<Cidrs>,
    #[command(flatten)]
    node: NodeArgs,
    #[command(flatten)]
    join: JoinArgs,
}

impl AgentArgs {
    /// What kubelet's configuration file and its drop-ins say, if any are given.
    pub(crate) fn kubelet(&self) -> Result<Option<Loaded>, ConfigError> {
        if self.config.is_none() && self.config_dir.is_none() {
            return Ok(None);
        }
        kubelet::load(self.config.as_deref(), self.config_dir.as_deref()).map(Some)
    }

    /// The agent's configuration, on a machine of this name: what flags say, else the file, else the defaults.
    pub(crate) fn config(&self, host_name: &str, file: Option<&KubeletSettings>) -> Result<AgentConfig, String> {
        let defaults = kubelet::parse(&[]).map_err(|error| error.to_string())?.settings;
        let settings = file.unwrap_or(&defaults);
        let node_name = self.node.name(host_name)?;
        let places = self.node.places(&self.data_dir);
        let kubeconfig = self.kubeconfig.as_ref().map(absolute);
        let join = self.join.config(&node_name, &places, kubeconfig, file);
        let in_file = Some(&settings.cluster_domain).filter(|domain| !domain.is_empty());
        let domain = self.cluster_domain.as_ref().or(in_file);
        let domain = domain.map_or(CLUSTER_DOMAIN, |domain| domain);
        let cluster = join.map(|join| self.node.cluster(Some(join), domain, settings));
        let manifest_dir = self.manifest_dir.as_ref().or(settings.static_pod_path.as_ref());
        if manifest_dir.is_none() && cluster.is_none() {
            return Err(
                "there is nothing to run: name a cluster with --server or --kubeconfig, or a directory of \
                        manifests with --manifest-dir or staticPodPath"
                    .to_owned(),
            );
        }
        Ok(AgentConfig {
            manifest_dir: manifest_dir.map(absolute),
            pod_cidrs: match &self.pod_cidr {
                Some(cidrs) => cidrs.0.clone(),
                None if cluster.is_some() => vec![],
                None if !settings.pod_cidrs.is_empty() => settings.pod_cidrs.clone(),
                None => POD_CIDR.parse::<Cidrs>()?.0,
            },
            cluster,
            ..self.node.config(node_name, places, settings)?
        })
    }
}

/// The domain that a cluster's names are in if nobody says.
const CLUSTER_DOMAIN: &str = "cluster.local";
/// Where pods get their addresses from if nobody says.
const POD_CIDR: &str = "10.244.0.0/24";

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
  bosun rotate-encryption-key
      then restart the server";

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

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use bosun_node::{config::RuntimeEndpoint, places::Places};

    use super::*;

    fn agent(args: &str) -> Result<AgentConfig, String> {
        let words = ["bosun", "agent"].into_iter().chain(args.split_whitespace());
        match Cli::try_parse_from(words).map_err(|error| error.to_string())?.command {
            Command::Agent(args) => {
                let loaded = args.kubelet().map_err(|error| error.to_string())?;
                args.config("Host.Example\n", loaded.as_ref().map(|loaded| &loaded.settings))
            }
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
        let config = agent("--server 192.0.2.7:6443 --token abcdef.0123456789abcdef --data-dir /d").unwrap();
        assert_eq!(
            config.cluster.unwrap().join.unwrap().kubeconfig,
            PathBuf::from("/d/agent.kubeconfig")
        );
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
    fn flags_win_over_kubelets_file_and_it_over_the_defaults() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.yaml");
        let text = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\nstaticPodPath: /m\n\
                    maxPods: 30\nclusterDNS: [10.96.0.10]\nclusterDomain: example\ncgroupRoot: /x\nport: 7\n\
                    containerRuntimeEndpoint: unix:///run/c.sock\ncrashLoopBackOff: {maxContainerRestartPeriod: 20s}\n\
                    registerWithTaints: [{key: a, effect: NoSchedule}]\nrotateCertificates: true\n";
        std::fs::write(&path, text).unwrap();
        let file = path.display();
        let config = agent(&format!("--kubeconfig /k --config {file}")).unwrap();
        assert_eq!(config.manifest_dir, Some("/m".into()));
        assert_eq!((config.max_pods, config.cgroup_root.as_str()), (30, "/x"));
        assert_eq!(config.runtime, RuntimeEndpoint::Socket("/run/c.sock".into()));
        assert_eq!(config.max_restart_backoff, Duration::from_secs(20));
        let cluster = config.cluster.unwrap();
        assert_eq!(
            (cluster.port, cluster.domain.as_str(), cluster.taints.len()),
            (7, "example", 1)
        );
        assert!(cluster.join.unwrap().rotate);
        let config = agent(&format!(
            "--kubeconfig /k --config {file} --max-pods 5 --cgroup-root / --runtime-endpoint managed"
        ));
        let config = config.unwrap();
        assert_eq!((config.max_pods, config.cgroup_root.as_str()), (5, "/"));
        assert!(matches!(config.runtime, RuntimeEndpoint::Managed { .. }));
        assert!(
            agent(&format!("--config {file}")).unwrap().cluster.is_none(),
            "pods from files alone"
        );
        std::fs::write(&path, text.replace("staticPodPath: /m\n", "")).unwrap();
        let error = agent(&format!("--config {file}")).unwrap_err();
        assert!(error.contains("nothing to run"), "{error}");
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
