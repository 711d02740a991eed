//! The agent: puts the node's parts together and keeps them going.
//!
//! ```text
//!  manifests, control plane ──PodEvent──▶ manager ──Message──▶ one worker a pod ──Job──▶ runtime
//!  runtime events ──────RuntimeEvent────▶   │                      ▲    │
//!                                           └─ routes ─────────────┘    └─Notice──▶ board ──▶ status socket, control plane
//!  control plane ──ranges──▶ pod network
//! ```

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use bosun_cri::{
    CriClient, EndpointError, Runtime, RuntimeEvent,
    managed::{Managed, ManagedConfig},
    sandbox_image::{SANDBOX_IMAGE, sandbox_image},
};
use bosun_net::{
    cidr::Cidr,
    config::{DEFAULT_NETWORK, InstallError, NetworkConfig, PLUGIN, install_plugin, write_conflist},
    node::{NodeNet, Swept},
};
use bosun_pki::Certificate;
use parking_lot::RwLock;
use rustls::server::ResolvesServerCert;
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
    task::JoinSet,
};

use crate::{
    admin::{self, AdminError},
    api::{self, Api, supply::Supply},
    cgroup::Cgroups,
    config::{AgentConfig, ClusterConfig, RuntimeEndpoint},
    facts::{self, machine::Machine},
    images::Images,
    join::{JoinError, Names, join},
    manager::Manager,
    manifest::ManifestSource,
    node::{Board, Clock, Node},
    places::Places,
    pod::{backoff::Limits, dns::ClusterDns, words::chain},
    probe::Prober,
    routes::Routes,
    serve::{self, auth::ClusterAuth},
    source::{self, InvalidManifests, PodEvent, Source},
};

/// Why an agent can't start.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// A directory can't be made.
    #[error("making {}: check that the disk is writable, or choose another place by its flag", path.display())]
    Place {
        /// The directory.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The plugin or its configuration can't be put in place.
    #[error("installing the pod network")]
    Network(#[source] InstallError),
    /// The node can't be made to carry pods' packets.
    #[error("preparing the node's network")]
    Forwarding(#[source] bosun_net::node::Error),
    /// The plugin is not where it should be.
    #[error("{PLUGIN} was not found beside {}: keep the two programs in one directory", program.display())]
    NoPlugin {
        /// This program.
        program: PathBuf,
    },
    /// The node can't become one of its cluster.
    #[error("joining the cluster")]
    Join(#[source] JoinError),
    /// The node is to be one of a cluster's, and nobody says how.
    #[error("the node has no credentials of its cluster, and no way to them")]
    NoWay,
    /// The node's own API can't be served.
    #[error("listening at port {port} (if another kubelet runs here, stop it; or give another port)")]
    Listen {
        /// The port.
        port: u16,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The status socket can't be made.
    #[error("opening the status socket")]
    Admin(#[source] AdminError),
    /// The runtime's socket can't be used.
    #[error("connecting to the container runtime")]
    Connect(#[source] EndpointError),
    /// The node's own facts can't be read.
    #[error("reading {path}")]
    Facts {
        /// The file.
        path: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
}

/// Where the containerd of this configuration keeps its things.
pub fn managed_config(places: &Places, program: PathBuf, cni_conf_dir: PathBuf, cni_bin_dir: PathBuf) -> ManagedConfig {
    let state = places.run.join("containerd");
    ManagedConfig {
        program,
        root: places.data.join("containerd"),
        socket: state.join("containerd.sock"),
        state,
        cni_conf_dir,
        cni_bin_dir,
        sandbox_image: SANDBOX_IMAGE.to_owned(),
        log_file: places.data.join("containerd.log"),
    }
}

/// What makes a node one of a cluster's.
pub struct Membership {
    /// Speaks to the control plane as this node.
    pub client: kube::Client,
    /// The certificate of the node's own API, whatever it is at the moment.
    pub serving: Arc<dyn ResolvesServerCert>,
    /// The cluster's authorities.
    pub authorities: Vec<Certificate>,
}

/// Runs a node agent until it is killed. `given` is what it would else join for. `started` is called once everything
/// stands.
pub async fn run(config: AgentConfig, given: Option<Membership>, started: impl FnOnce()) -> Result<(), AgentError> {
    let places = config.places.clone();
    make_places(&config)?;
    let socket = admin::listen(&places.agent_socket()).await.map_err(AgentError::Admin)?;
    install_plugin_beside(&config)?;
    let network = Network {
        net: Arc::new(NodeNet::open().map_err(AgentError::Forwarding)?),
        config: config.clone(),
    };
    if !config.pod_cidrs.is_empty() {
        network.use_ranges(&config.pod_cidrs).await?;
    }
    let mut tasks = JoinSet::new();
    let membership = match (&config.cluster, given) {
        (Some(cluster), Some(given)) => Some((given, cluster.clone())),
        (Some(cluster), None) => Some((become_member(&config, cluster, &mut tasks).await?, cluster.clone())),
        (None, _) => None,
    };
    let (managed, runtime) = connect(&config)?;
    let (sandbox_image_tx, sandbox_image) = watch::channel(Err("the container runtime does not answer".to_owned()));
    let machine = Machine::look(&places.root, config.max_pods).map_err(|source| AgentError::Facts {
        path: facts::MEMINFO,
        source,
    })?;
    let mut tasks = JoinSet::new();
    let supply = membership.as_ref().map(|(membership, _)| {
        let (supply, publisher) = Supply::new(&membership.client, &config.node_name);
        tasks.spawn(publisher.run());
        Arc::new(supply)
    });
    let node = Arc::new(Node {
        name: config.node_name.clone(),
        places,
        cgroups: Cgroups::below(&config.cgroup_root),
        clock: Clock::default(),
        limits: Limits::with_max(config.max_restart_backoff),
        images: Images::default(),
        managed: managed.as_ref().map(Managed::state),
        sandbox_image,
        prober: Prober::new(runtime.clone()),
        routes: Routes::default(),
        board: Board::default(),
        host_addresses: host_addresses(&config),
        dns: config
            .cluster
            .as_ref()
            .map_or_else(ClusterDns::default, |cluster| ClusterDns {
                servers: cluster.dns_servers.clone(),
                domain: cluster.domain.clone(),
            }),
        allocatable_milli_cpu: machine.milli_cpu,
        allocatable_memory: machine.allocatable_memory(),
        supply: supply.clone(),
        runtime,
    });
    let mut sources = BTreeSet::new();
    let (pod_tx, pod_rx) = mpsc::channel(64);
    let invalid: InvalidManifests = Arc::new(RwLock::new(BTreeMap::new()));
    let _source = config.manifest_dir.as_ref().map(|directory| {
        let name = config.node_name.clone();
        let (source, manifest_rx) = ManifestSource::start(directory.clone(), name, node.places.manifests());
        sources.insert(Source::File);
        tasks.spawn(source::from_manifests(manifest_rx, pod_tx.clone(), invalid.clone()));
        source
    });
    if config.manifest_dir.is_none() {
        node.board.expect(BTreeSet::new());
    }
    if let (Some((membership, cluster)), Some(supply)) = (membership, supply) {
        sources.insert(Source::Api);
        tasks.spawn(own_api(&membership, &node, cluster.port).await?);
        let api = Api {
            client: membership.client,
            node: node.clone(),
            config: Arc::new(cluster),
            machine: Arc::new(machine),
            supply,
        };
        join_cluster(api, pod_tx.clone(), network.clone(), &mut tasks);
    }
    let event_rx = node.runtime.subscribe();
    let manager = Manager::new(node.clone(), pod_rx, sources, event_rx, config.audit_interval);
    tasks.spawn(manager.run());
    tasks.spawn(admin::serve(socket, node.clone(), invalid));
    tasks.spawn(keep_sandbox_image(node.clone(), sandbox_image_tx));
    tasks.spawn(keep_network_clean(node.clone(), network.net));
    started();
    tracing::info!(node = %node.name, manifests = ?config.manifest_dir, "agent runs");
    // Each of them lives as long as the agent; one that ends takes it down, to be started afresh.
    match tasks.join_next().await {
        Some(Err(error)) => std::panic::resume_unwind(error.into_panic()),
        _ => Ok(()),
    }
}

/// Everything that only a node of a control plane does.
fn join_cluster(api: Api, pod_tx: mpsc::Sender<PodEvent>, network: Network, tasks: &mut JoinSet<()>) {
    let (ranges_tx, ranges) = watch::channel(None);
    let (network_tx, network_state) = watch::channel(network.state());
    let told = api::Told {
        pod_tx,
        ranges_tx,
        network: network_state,
    };
    tasks.spawn(network.keep(ranges, network_tx));
    tasks.spawn(api::run(api, told));
}

/// Serves the node's own API.
async fn own_api(
    membership: &Membership,
    node: &Arc<Node>,
    port: u16,
) -> Result<impl Future<Output = ()> + Send + use<>, AgentError> {
    // All addresses of both families; of IPv4 where there is no IPv6.
    let both = TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).await;
    let listener = match both {
        Err(error) if error.kind() != io::ErrorKind::AddrInUse => {
            TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await
        }
        both => both,
    };
    let listener = listener.map_err(|source| AgentError::Listen { port, source })?;
    let (authorities_tx, authorities) = watch::channel(Arc::new(membership.authorities.clone()));
    let tls = serve::Tls {
        certificate: membership.serving.clone(),
        authorities,
    };
    let auth = Arc::new(ClusterAuth::new(membership.client.clone()));
    let config = serde_json::json!({"kind": "KubeletConfiguration", "apiVersion": "kubelet.config.k8s.io/v1beta1"});
    let agent = Arc::new(serve::Agent::of(node, config));
    Ok(async move {
        let _authorities_tx = authorities_tx;
        serve::run(listener, tls, auth, agent, serve::Limits::default()).await;
    })
}

/// Joins, or comes back; from then on the node's certificates are kept current.
async fn become_member(
    config: &AgentConfig,
    cluster: &ClusterConfig,
    tasks: &mut JoinSet<()>,
) -> Result<Membership, AgentError> {
    let how = cluster.join.clone().ok_or(AgentError::NoWay)?;
    let (names_tx, names) = watch::channel(Names {
        dns: vec![config.node_name.clone()],
        addresses: host_addresses(config),
    });
    let joined = join(how, names).await.map_err(AgentError::Join)?;
    tasks.spawn(async move {
        let _names_tx = names_tx;
        joined.upkeep.run().await;
    });
    let authorities = joined
        .authorities
        .into_iter()
        .filter_map(|der| Certificate::from_der(der).ok());
    Ok(Membership {
        client: joined.client,
        serving: joined.serving,
        authorities: authorities.collect(),
    })
}

fn host_addresses(config: &AgentConfig) -> Vec<IpAddr> {
    if !config.node_addresses.is_empty() {
        return config.node_addresses.clone();
    }
    facts::addresses().unwrap_or_else(|error| {
        tracing::warn!(%error, "the node's addresses can't be read; pods will not be told them");
        vec![]
    })
}

fn make_places(config: &AgentConfig) -> Result<(), AgentError> {
    let places = &config.places;
    let directories = [&places.data, &places.root, &places.logs, &places.run];
    for path in directories {
        fs::create_dir_all(path).map_err(|source| AgentError::Place {
            path: path.clone(),
            source,
        })?;
    }
    Ok(())
}

fn install_plugin_beside(config: &AgentConfig) -> Result<(), AgentError> {
    let program = std::env::current_exe().unwrap_or_default();
    let plugin = program.with_file_name(PLUGIN);
    if !plugin.is_file() {
        return Err(AgentError::NoPlugin { program });
    }
    install_plugin(&plugin, &config.cni_bin_dir).map_err(AgentError::Network)
}

/// The pod network of this node.
#[derive(Clone)]
struct Network {
    net: Arc<NodeNet>,
    config: AgentConfig,
}

impl Network {
    /// From now on pods get their addresses from these ranges.
    async fn use_ranges(&self, ranges: &[Cidr]) -> Result<(), AgentError> {
        self.net.prepare(ranges).await.map_err(AgentError::Forwarding)?;
        let network = NetworkConfig {
            name: DEFAULT_NETWORK.to_owned(),
            run_dir: self.config.places.run.clone(),
            ranges: ranges.to_vec(),
            mtu: 0,
        };
        write_conflist(&self.config.cni_conf_dir, &network).map_err(AgentError::Network)?;
        Ok(())
    }

    /// Whether pods can have addresses before the control plane has said from which ranges.
    fn state(&self) -> Result<(), String> {
        if self.config.pod_cidrs.is_empty() {
            Err("the control plane has assigned no range of pod addresses to this node yet".to_owned())
        } else {
            Ok(())
        }
    }

    /// Takes up the ranges that the control plane assigns. Pods that run keep their addresses.
    async fn keep(self, mut ranges: watch::Receiver<Option<Vec<Cidr>>>, state_tx: watch::Sender<Result<(), String>>) {
        let mut used = self.config.pod_cidrs.clone();
        while ranges.changed().await.is_ok() {
            let assigned = ranges.borrow_and_update().clone().unwrap_or_default();
            if !assigned.is_empty() && assigned != used {
                let outcome = self.use_ranges(&assigned).await;
                if let Err(error) = &outcome {
                    tracing::error!(error = chain(error), ?assigned, "the assigned ranges can't be used");
                } else {
                    tracing::info!(?assigned, "pods get their addresses from the assigned ranges");
                    used = assigned;
                }
                let _ = state_tx.send_replace(outcome.map_err(|error| chain(&error)));
            }
        }
        // The one who told is gone with the whole agent.
        std::future::pending::<()>().await;
    }
}

fn connect(config: &AgentConfig) -> Result<(Option<Managed>, Arc<dyn Runtime>), AgentError> {
    let (managed, endpoint) = match &config.runtime {
        RuntimeEndpoint::Socket(path) => (None, format!("unix://{}", path.display())),
        RuntimeEndpoint::Managed { program } => {
            let managed = managed_config(
                &config.places,
                program.clone(),
                config.cni_conf_dir.clone(),
                config.cni_bin_dir.clone(),
            );
            let managed = Managed::keep(managed);
            let endpoint = managed.endpoint();
            (Some(managed), endpoint)
        }
    };
    let client = CriClient::connect(&endpoint).map_err(AgentError::Connect)?;
    Ok((managed, Arc::new(client)))
}

/// Removes what killed processes left in the network, whenever the runtime has begun anew.
async fn keep_network_clean(node: Arc<Node>, net: Arc<NodeNet>) {
    let mut events = node.runtime.subscribe();
    while let Some(event) = events.recv().await {
        if event != RuntimeEvent::Resync {
            continue;
        }
        match net.sweep(&node.places.run, DEFAULT_NETWORK).await {
            Ok(swept) if swept == Swept::default() => {}
            Ok(swept) => tracing::info!(?swept, "removed what was left in the network"),
            Err(error) => tracing::warn!(
                error = chain(&error),
                "the network can't be swept; pods are undisturbed"
            ),
        }
    }
}

/// Puts the sandbox image into the runtime whenever the runtime is there and the image is not.
async fn keep_sandbox_image(node: Arc<Node>, ready_tx: watch::Sender<Result<(), String>>) {
    let mut events = node.runtime.subscribe();
    while let Some(event) = events.recv().await {
        if event != RuntimeEvent::Resync {
            continue;
        }
        let mut delay = Duration::from_millis(100);
        while let Err(error) = put_sandbox_image(&node).await {
            let problem = chain(error.as_ref());
            tracing::warn!(error = problem, "the sandbox image can't be imported yet");
            let _ = ready_tx.send_replace(Err(problem));
            tokio::time::sleep(delay).await;
            delay = (delay * 2).min(Duration::from_secs(10));
        }
        let _ = ready_tx.send_replace(Ok(()));
    }
}

async fn put_sandbox_image(node: &Node) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let mut image = sandbox_image();
    // By its content: a program of the same version may carry another pause program.
    let mut wanted = Some(image.digests()?.image_id);
    if let Some(name) = node
        .runtime
        .sandbox_image()
        .await?
        .filter(|name| *name != SANDBOX_IMAGE)
    {
        // The machine's own runtime makes sandboxes of an image of its choice. Ours stands in for it where there is none.
        image.name = name;
        wanted = None;
    }
    let present = node.runtime.image_status(&image.name).await?;
    if present.is_some_and(|present| wanted.is_none_or(|wanted| present.id == wanted)) {
        return Ok(());
    }
    let path = node.places.run.join("sandbox-image.tar");
    let bytes = image.to_bytes()?;
    fs::write(&path, bytes)?;
    let imported = node.runtime.import_images(&path).await;
    fs::remove_file(&path)?;
    imported?;
    tracing::info!(image = image.name, "sandbox image imported");
    Ok(())
}
