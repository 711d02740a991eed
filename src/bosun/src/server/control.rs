//! The loops of the control plane, within the server's process: they speak only the API, each under its own identity.

use std::{fs, path::Path};

use anyhow::Context;
use bosun_apiserver::http::Router;
use bosun_controllers::{Controllers, config, runtime};
use bosun_pki::Keeper;
use bosun_scheduler::{Candidacy, Scheduler};
use prometheus_client::registry::Registry;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{args::Settings, within};

/// What the loops count, made before the server that shows it.
pub(super) struct Counted {
    controllers: runtime::Metrics,
}

impl Counted {
    /// Shown by `registry`.
    pub(super) fn new(registry: &mut Registry) -> Self {
        Self {
            controllers: runtime::Metrics::new(registry),
        }
    }
}

/// The loops at work. Dropping it ends them at once.
pub(super) struct Loops {
    _controllers: JoinSet<()>,
    _scheduler: Scheduler,
}

/// Starts controllers and scheduler, until `end`.
pub(super) fn start(
    settings: &Settings,
    router: &Router,
    keeper: &Keeper,
    counted: Counted,
    end: &CancellationToken,
) -> anyhow::Result<Loops> {
    let authority = keeper.authority();
    let identity = identity(&settings.data_dir.join("server"))?;
    let config = config::Config {
        identity: identity.clone(),
        root_ca: Some(authority.certificate.pem()),
        authority: Some(authority),
        cluster_cidrs: settings.cluster_cidrs.iter().copied().map(range).collect(),
        ..config::Config::default()
    };
    let scheduling = bosun_scheduler::Config {
        election: Some(Candidacy {
            namespace: "kube-system".to_owned(),
            name: "kube-scheduler".to_owned(),
            identity,
            terms: config.terms,
        }),
        ..bosun_scheduler::Config::default()
    };
    let scheduler = within::client(router, "system:kube-scheduler");
    let router = router.clone();
    let clients = runtime::Clients::new(move |name| within::client(&router, name));
    Ok(Loops {
        _controllers: Controllers::start(config, clients, counted.controllers, end.clone()),
        _scheduler: Scheduler::start(scheduling, scheduler, end.clone()),
    })
}

fn range(cidr: bosun_net::cidr::Cidr) -> config::Cidr {
    config::Cidr {
        address: cidr.address(),
        prefix: cidr.prefix(),
    }
}

/// Who this server is among several on one store: the same after a restart, so that it leads again at once.
fn identity(dir: &Path) -> anyhow::Result<String> {
    let path = dir.join("identity");
    match fs::read_to_string(&path) {
        Ok(known) if !known.trim().is_empty() => return Ok(known.trim().to_owned()),
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(error).with_context(|| format!("reading {}", path.display())),
    }
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let made = format!("{}_{}", host.trim(), uuid::Uuid::new_v4());
    // Torn by a crash it is another name, which costs one term of the lease.
    fs::write(&path, &made).with_context(|| format!("writing {}", path.display()))?;
    Ok(made)
}
