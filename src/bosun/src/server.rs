//! `bosun server`: opens what the server stands on, and serves until it is told to end.

mod args;
mod control;
mod node;
mod within;

use std::{
    fs,
    future::ready,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use bosun_apiserver::{
    CustomResources, Registry,
    admission::BuiltIn,
    advertise::Advertised,
    audit::{Audit, Log, Policy, Rotation},
    auth::{
        Authenticator, Authorizer, Upkeep,
        objects::Reads,
        upkeep::{write_defaults, write_public_maps},
    },
    connect::ClusterDialer,
    discovery,
    http::{self, Gate, Health, Paths, Router},
    metrics::{Metrics, Timed},
    registry::{self, ServiceConfig, builtin},
    server,
    usage::Usage,
};
use bosun_node::config::{AgentConfig, kubelet};
use bosun_pki::{Keeper, kubeconfig::Kubeconfig, names::Reached, tls::AnyClient};
use bosun_store::{Embedded, Etcd, Store, embedded, etcd};
use jiff::Timestamp;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use sd_notify::NotifyState;
use tokio::{
    net::{TcpListener, TcpSocket},
    runtime,
    signal::unix::{SignalKind, signal},
    task::JoinSet,
    time::sleep,
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

pub(crate) use self::args::ServerArgs;
use self::args::{Datastore, Settings};
use crate::{logs, memory};

/// Readers of YAML and JSON descend as deep as what they read is nested, 128 levels at most, and the one of YAML takes
/// kilobytes for each. Memory is only taken by a stack that is used.
const STACK: usize = 16 << 20;

/// Runs the server until a signal ends it.
pub(crate) fn run(args: &ServerArgs) -> anyhow::Result<()> {
    let settings = args.settings()?;
    logs::start();
    let limits = server::Limits {
        connections: connections(),
        ..server::Limits::default()
    };
    let runtime = runtime::Builder::new_multi_thread()
        .thread_stack_size(STACK)
        .enable_all()
        .build()?;
    let outcome = runtime.block_on(async {
        let mut end = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let ended = CancellationToken::new();
        let serving = serve(settings, limits, ended.clone());
        tokio::pin!(serving);
        tokio::select! {
            outcome = &mut serving => return outcome,
            _ = end.recv() => {}
            _ = interrupt.recv() => {}
        }
        info!("the server ends: what is under way may come to its end");
        ended.cancel();
        serving.await
    });
    runtime.shutdown_background();
    outcome
}

async fn serve(settings: Settings, limits: server::Limits, end: CancellationToken) -> anyhow::Result<()> {
    let started = Instant::now();
    // Before anything is made: a port that is taken is the commonest mistake.
    let listener = listen(&settings)?;
    let port = listener.local_addr()?.port();
    let address = settings.advertise_address.unwrap_or_else(|| own_address(&settings));
    let dir = settings.data_dir.join("server");
    fs::create_dir_all(&dir).with_context(|| {
        format!(
            "making {}: give another place with --data-dir, or start the server as root",
            dir.display()
        )
    })?;

    let keeper = Arc::new(Keeper::open(
        &dir.join("pki"),
        reached(&settings, address),
        Timestamp::now(),
    )?);
    let mut counted = prometheus_client::registry::Registry::default();
    let control_counted = control::Counted::new(&mut counted);
    let metrics = Metrics::beside(counted, &discovery::git_version());
    let store = Arc::new(Timed::new(open_store(&settings).await?, metrics.clone()));
    let config = registry::Config {
        transformers: [(builtin::prefix("", "secrets"), keeper.sealer.clone() as _)].into(),
        services: ServiceConfig {
            ranges: ranges(&settings)?,
            ..ServiceConfig::default()
        },
        ..registry::Config::default()
    };
    let registry = Registry::open(store.clone(), builtin::rows(), config)
        .await
        .context("reading what is stored")?;
    registry.make_namespaces(Timestamp::now()).await?;
    registry.prepare_services(Timestamp::now()).await?;

    let audit = Audit::new(
        audit_policy(&settings)?,
        Log::open(&dir.join("audit/audit.log"), Rotation::default(), metrics.clone())
            .context("opening the audit log")?,
    );
    let url = SocketAddr::new(address, port).to_string();
    let issuer = format!("https://kubernetes.default.svc.{}", settings.cluster_domain);
    let authenticator = Arc::new(Authenticator::new(keeper.clone(), registry.clone(), issuer));
    let authorizer = Arc::new(Authorizer::default());
    registry.admit_with(Arc::new(BuiltIn::new(Reads::of(&registry), authorizer.clone())));
    let local = SocketAddr::new(reachable(&settings), port);
    let kubeconfig = settings.kubeconfig.clone();
    let mut upkeep = Upkeep::start(&registry, &authorizer, &keeper, move |keeper| {
        if let Err(error) = write_kubeconfig(&kubeconfig, keeper, local) {
            warn!(
                error = format!("{error:#}"),
                "the administrator's kubeconfig is not renewed"
            );
        }
    })?;
    write_defaults(&registry, Timestamp::now()).await?;
    write_public_maps(&registry, &keeper, &format!("https://{url}"), Timestamp::now()).await?;
    upkeep.ready().await;
    let mut custom = CustomResources::start(&registry)?;
    custom.ready().await;
    let paths = Paths::new(health(&registry, &end), url, authenticator.clone());
    let dialer = Arc::new(ClusterDialer::new(keeper.clone())?);
    let router = Router::new(
        registry.clone(),
        Gate::new(authenticator, authorizer),
        paths,
        audit.clone(),
        metrics,
        http::Limits::default(),
        end.clone(),
    )
    .reaching(dialer.clone())
    .measuring(Usage::start(registry.clone(), dialer));
    let advertised = Advertised {
        address,
        port,
        service_addresses: settings.service_cidrs.iter().filter_map(|cidr| cidr.nth(1)).collect(),
    };
    advertised.write(&registry, Timestamp::now()).await?;
    let mut tasks = JoinSet::new();
    tasks.spawn(advertised.keep(registry.clone()));
    let loops = if settings.api_only {
        None
    } else {
        Some(control::start(&settings, &router, &keeper, control_counted, &end)?)
    };
    tasks.spawn(seal_anew(registry.clone()));
    let tls = server::tls_config(keeper.resolver(), AnyClient::new(&keeper.authority().certificate))?;

    write_kubeconfig(&settings.kubeconfig, &keeper, local)?;
    memory::give_back();
    tasks.spawn(memory::keep_low());
    let mut own_node = JoinSet::new();
    if let Some(config) = node_config(&settings)? {
        node::start(config, &router, &keeper, &[address], &mut own_node);
    }
    let serving = server::serve(listener, Arc::new(tls), router, limits, end);
    tokio::pin!(serving);
    ready_line(&settings, local, started);
    tokio::select! {
        () = &mut serving => {}
        Some(ended) = own_node.join_next() => {
            // A panic is told where it happened; what can't start must be seen to by a person.
            ended.context("this machine's node panicked")??;
            bail!("this machine's node ended");
        }
    }
    drop(loops);
    audit.flush();
    Ok(())
}

/// Encrypts with the present key what was with a former one; until that is done, or the server ends.
async fn seal_anew(registry: Arc<Registry>) {
    const RETRY: Duration = Duration::from_secs(10);
    loop {
        match registry.seal_anew().await {
            Ok(0) => return,
            Ok(objects) => {
                info!(
                    objects,
                    "what was encrypted with a former key is encrypted with the present one"
                );
                return;
            }
            Err(error) => warn!(%error, "what was encrypted with a former key still is; it is tried again"),
        }
        sleep(RETRY).await;
    }
}

/// As many connections as the system allows open files, without those that the server needs itself. The customary soft
/// limit of 1,024 is for programs of another age: it is raised as far as it may be.
fn connections() -> usize {
    const OWN: u64 = 200;
    let most = server::Limits::default().connections as u64;
    let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else {
        return 800;
    };
    let wanted = hard.min(most + OWN);
    if let Err(error) = setrlimit(Resource::RLIMIT_NOFILE, wanted, hard) {
        warn!(%error, "the limit of open files can't be raised");
    }
    let files = getrlimit(Resource::RLIMIT_NOFILE).map_or(1024, |(soft, _)| soft);
    files.saturating_sub(OWN).clamp(16, most) as usize
}

/// Says so to whoever started it: a person, a test, systemd.
fn ready_line(settings: &Settings, local: SocketAddr, started: Instant) {
    println!(
        "ready after {:.2} s: https://{local}, kubeconfig {}",
        started.elapsed().as_secs_f64(),
        settings.kubeconfig.display()
    );
    if let Err(error) = sd_notify::notify(&[NotifyState::Ready]) {
        warn!(%error, "systemd could not be told that the server is ready");
    }
}

/// What this machine is told as a node, unless it is none.
fn node_config(settings: &Settings) -> anyhow::Result<Option<AgentConfig>> {
    let Some(node) = &settings.node else {
        return Ok(None);
    };
    if fs::metadata("/proc/self").context("reading /proc/self")?.uid() != 0 {
        bail!(
            "running pods takes namespaces, mounts and cgroups, which only root may make: start the server with sudo, \
             or without pods, with --no-agent"
        );
    }
    let host_name = fs::read_to_string("/proc/sys/kernel/hostname").context("reading the host name")?;
    let defaults = kubelet::parse(&[])?.settings;
    let name = node.name(&host_name).map_err(anyhow::Error::msg)?;
    let config = node.config(name, node.places(&settings.data_dir), &defaults);
    Ok(Some(AgentConfig {
        cluster: Some(node.cluster(None, &settings.cluster_domain, &defaults)),
        ..config.map_err(anyhow::Error::msg)?
    }))
}

fn listen(settings: &Settings) -> anyhow::Result<TcpListener> {
    let port = settings.port;
    let wanted: &[IpAddr] = match &settings.bind {
        Some(address) => std::slice::from_ref(address),
        // All of both families; of IPv4 where there is no IPv6.
        None => &[IpAddr::V6(Ipv6Addr::UNSPECIFIED), IpAddr::V4(Ipv4Addr::UNSPECIFIED)],
    };
    let mut failed = None;
    for address in wanted {
        match bind(SocketAddr::new(*address, port)) {
            Ok(listener) => return Ok(listener),
            Err(error) => failed = Some((address, error)),
        }
    }
    let Some((address, error)) = failed else {
        bail!("no address to listen at")
    };
    let remedy = match error.kind() {
        std::io::ErrorKind::AddrInUse => "something listens there already; give another with --port",
        std::io::ErrorKind::AddrNotAvailable => "this machine has no such address; give one of its own with --bind",
        std::io::ErrorKind::PermissionDenied => "ports below 1024 need root; give another with --port",
        _ => "give another with --bind and --port",
    };
    Err(error).with_context(|| format!("listening at {} ({remedy})", SocketAddr::new(*address, port)))
}

fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv6() {
        TcpSocket::new_v6()?
    } else {
        TcpSocket::new_v4()?
    };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(1024)
}

/// The address of this machine that others most likely reach it at: that of the default route. Nothing is sent.
fn own_address(settings: &Settings) -> IpAddr {
    if let Some(bound) = settings.bind.filter(|address| !address.is_unspecified()) {
        return bound;
    }
    let routed = |from: &str, to: &str| {
        let socket = UdpSocket::bind(from).ok()?;
        socket.connect(to).ok()?;
        let address = socket.local_addr().ok()?.ip();
        (!address.is_unspecified() && !address.is_loopback()).then_some(address)
    };
    // Addresses for documentation (RFC 5737, RFC 3849): as good as any beyond this network.
    routed("0.0.0.0:0", "192.0.2.1:9")
        .or_else(|| routed("[::]:0", "[2001:db8::1]:9"))
        .unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST))
}

/// Where the server is reached from this machine.
fn reachable(settings: &Settings) -> IpAddr {
    match settings.bind {
        Some(address) if !address.is_unspecified() => address,
        Some(IpAddr::V6(_)) => IpAddr::V6(Ipv6Addr::LOCALHOST),
        _ => IpAddr::V4(Ipv4Addr::LOCALHOST),
    }
}

fn reached(settings: &Settings, address: IpAddr) -> Reached {
    let host_name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    Reached {
        host_name: host_name.trim().to_owned(),
        addresses: settings.bind.into_iter().chain([address]).collect(),
        dns_names: Vec::new(),
        service_addresses: settings.service_cidrs.iter().filter_map(|cidr| cidr.nth(1)).collect(),
        cluster_domain: settings.cluster_domain.clone(),
    }
}

fn ranges(settings: &Settings) -> anyhow::Result<Vec<registry::IpRange>> {
    let parse = |cidr: &bosun_net::cidr::Cidr| cidr.to_string().parse();
    settings
        .service_cidrs
        .iter()
        .map(|cidr| parse(cidr).map_err(|error| anyhow::anyhow!("--service-cidr {cidr}: {error}")))
        .collect()
}

async fn open_store(settings: &Settings) -> anyhow::Result<Arc<dyn Store>> {
    match &settings.datastore {
        Datastore::Embedded => {
            let dir = settings.data_dir.join("server/store");
            let store = Embedded::open(embedded::Options::new(&dir)).await;
            let remedy = match &store {
                Err(bosun_store::Error::Damaged(_)) => {
                    ": if there is no better copy of it, 'bosun salvage' takes out what is damaged"
                }
                _ => "",
            };
            Ok(store.with_context(|| format!("opening the store in {}{remedy}", dir.display()))?)
        }
        Datastore::Etcd(urls) => {
            let store = Etcd::open(etcd::Options {
                tls: etcd_tls(settings)?,
                ..etcd::Options::new(urls.clone())
            });
            let store = store.await;
            Ok(store.with_context(|| format!("reaching etcd at {}", urls.join(", ")))?)
        }
    }
}

/// How etcd is known, and how it knows this server.
fn etcd_tls(settings: &Settings) -> anyhow::Result<Option<etcd::Tls>> {
    let read = |flag: &str, path: &Option<PathBuf>| {
        let read = |path: &PathBuf| fs::read(path).with_context(|| format!("reading {flag} {}", path.display()));
        path.as_ref().map(read).transpose()
    };
    let files = &settings.etcd_files;
    let ca = read("--etcd-cafile", &files.authorities)?;
    let certificate = read("--etcd-certfile", &files.certificate)?;
    let key = read("--etcd-keyfile", &files.key)?;
    Ok(ca.is_some().then_some(etcd::Tls {
        ca,
        identity: certificate.zip(key),
        name: None,
    }))
}

fn audit_policy(settings: &Settings) -> anyhow::Result<Policy> {
    let Some(path) = &settings.audit_policy else {
        return Ok(Policy::metadata());
    };
    let text = fs::read_to_string(path).with_context(|| format!("reading the audit policy {}", path.display()))?;
    Policy::parse(&text).with_context(|| format!("the audit policy {}", path.display()))
}

fn health(registry: &Arc<Registry>, end: &CancellationToken) -> Health {
    let store = registry.store().clone();
    let ended = end.clone();
    Health::default()
        .live("ping", || ready(Ok(())))
        .ready("store", move || {
            let store = store.clone();
            async move { store.revision().await.map(drop).map_err(|error| error.to_string()) }
        })
        .ready("shutdown", move || {
            ready(if ended.is_cancelled() {
                Err("the server ends".to_owned())
            } else {
                Ok(())
            })
        })
}

fn write_kubeconfig(path: &Path, keeper: &Keeper, local: SocketAddr) -> anyhow::Result<()> {
    let (authority, admin) = (keeper.authority(), keeper.admin());
    let config = Kubeconfig {
        cluster: "bosun",
        server: &format!("https://{local}"),
        authority: &authority.certificate,
        user: bosun_pki::keeper::ADMIN,
        certificate: &admin.0,
        key: &admin.1,
    };
    config.write(path).with_context(|| {
        format!(
            "writing the administrator's kubeconfig {}: give another place with --write-kubeconfig",
            path.display()
        )
    })
}
