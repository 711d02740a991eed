//! The agent: puts the node's parts together and keeps them going.
//!
//! ```text
//!  manifest source ──ManifestEvent──▶ manager ──Message──▶ one worker a pod ──Job──▶ runtime
//!  runtime events ───RuntimeEvent───▶   │                      ▲    │
//!                                       └─ routes ─────────────┘    └─Notice──▶ board ──▶ status socket
//! ```

use std::{collections::BTreeMap, fs, io, path::PathBuf, sync::Arc, time::Duration};

use bosun_cri::{
    CriClient, EndpointError, Runtime, RuntimeEvent,
    managed::{Managed, ManagedConfig},
    sandbox_image::{SANDBOX_IMAGE, sandbox_image},
};
use bosun_net::{
    config::{DEFAULT_NETWORK, InstallError, NetworkConfig, PLUGIN, install_plugin, write_conflist},
    node::{NodeNet, Swept},
};
use parking_lot::RwLock;
use tokio::{sync::watch, task::JoinSet};

use crate::{
    admin::{self, AdminError},
    cgroup::Cgroups,
    config::{AgentConfig, RuntimeEndpoint},
    facts,
    images::Images,
    manager::{InvalidManifests, Manager},
    manifest::ManifestSource,
    node::{Board, Clock, Node},
    places::Places,
    pod::{backoff::Limits, words::chain},
    probe::Prober,
    routes::Routes,
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

/// Runs a node agent until it is killed. `started` is called once everything stands.
pub async fn run(config: AgentConfig, started: impl FnOnce()) -> Result<(), AgentError> {
    let places = config.places.clone();
    make_places(&config)?;
    let socket = admin::listen(&places.agent_socket()).await.map_err(AgentError::Admin)?;
    install_network(&config)?;
    let net = NodeNet::open().map_err(AgentError::Forwarding)?;
    net.prepare(&config.pod_cidrs).await.map_err(AgentError::Forwarding)?;
    let (managed, runtime) = connect(&config)?;
    let limits = Limits::with_max(config.max_restart_backoff);
    let (sandbox_image_tx, sandbox_image) = watch::channel(Err("the container runtime does not answer".to_owned()));
    let node = Arc::new(Node {
        name: config.node_name.clone(),
        places,
        cgroups: Cgroups::below(&config.cgroup_root),
        clock: Clock::default(),
        limits,
        images: Images::default(),
        managed: managed.as_ref().map(Managed::state),
        sandbox_image,
        prober: Prober::new(runtime.clone()),
        routes: Routes::default(),
        board: Board::default(),
        host_addresses: facts::addresses().unwrap_or_else(|error| {
            tracing::warn!(%error, "the node's addresses can't be read; pods will not be told them");
            vec![]
        }),
        allocatable_milli_cpu: facts::milli_cpu(),
        allocatable_memory: facts::memory().map_err(|source| AgentError::Facts {
            path: facts::MEMINFO,
            source,
        })?,
        runtime,
    });
    let (_source, manifest_rx) = ManifestSource::start(
        config.manifest_dir.clone(),
        config.node_name.clone(),
        node.places.manifests(),
    );
    let invalid: InvalidManifests = Arc::new(RwLock::new(BTreeMap::new()));
    let event_rx = node.runtime.subscribe();
    let manager = Manager::new(
        node.clone(),
        manifest_rx,
        event_rx,
        invalid.clone(),
        config.audit_interval,
    );
    let mut tasks = JoinSet::new();
    tasks.spawn(manager.run());
    tasks.spawn(admin::serve(socket, node.clone(), invalid));
    tasks.spawn(keep_sandbox_image(node.clone(), sandbox_image_tx));
    tasks.spawn(keep_network_clean(node.clone(), net));
    started();
    tracing::info!(node = %node.name, manifests = %config.manifest_dir.display(), "agent runs");
    // Each of them lives as long as the agent; one that ends takes it down, to be started afresh.
    match tasks.join_next().await {
        Some(Err(error)) => std::panic::resume_unwind(error.into_panic()),
        _ => Ok(()),
    }
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

fn install_network(config: &AgentConfig) -> Result<(), AgentError> {
    let program = std::env::current_exe().unwrap_or_default();
    let plugin = program.with_file_name(PLUGIN);
    if !plugin.is_file() {
        return Err(AgentError::NoPlugin { program });
    }
    install_plugin(&plugin, &config.cni_bin_dir).map_err(AgentError::Network)?;
    let network = NetworkConfig {
        name: DEFAULT_NETWORK.to_owned(),
        run_dir: config.places.run.clone(),
        ranges: config.pod_cidrs.clone(),
        mtu: 0,
    };
    write_conflist(&config.cni_conf_dir, &network).map_err(AgentError::Network)?;
    Ok(())
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
async fn keep_network_clean(node: Arc<Node>, net: NodeNet) {
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
