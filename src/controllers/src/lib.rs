//! The controllers of a cluster: one module a controller, over one runtime.
//!
//! ```text
//!                    ┌── the leader only ───────────────────────────────────────────────┐
//! API ──list,watch──▶│ Informers ──Change──▶ Watches ──key──▶ Queue ──▶ Controller::sync │──writes──▶ API
//!                    │ (one a kind)          (a task each)    (one a controller)         │
//!                    └──────────────────────────────────────────────────────────────────┘
//! ```
//!
//! [`Controllers::start`] stands for election by a Lease; the leader starts the [`informers`] and one task for each
//! controller of the [table](CONTROLLERS). A controller's `sync` takes a snapshot of what concerns its key, makes a
//! plan of it in a pure function, and applies the plan under the controller's own identity.
//!
//! - [`runtime`]: the queue, the shape of a controller and what runs it, expectations, metrics.
//! - [`informers`], [`objects`]: what is followed, and what is read of it.
//! - [`config`]: how the cluster is to be.
//! - [`workload`]: what those share that keep pods: [`deployment`], [`replica_set`] (and ReplicationControllers),
//!   [`stateful_set`], [`daemon_set`], [`job`], [`cron_job`].
//! - Upkeep: [`garbage`] and [`namespace`] delete what has lost its owners and what is in deleted namespaces;
//!   [`service_account`] and [`root_ca`] give namespaces what their pods need; [`node_lifecycle`], [`node_cidr`] and
//!   [`pod_gc`] see to nodes and the pods of those that are gone; [`certificates`] and [`bootstrap`] let nodes join;
//!   [`endpoints`] tells where services are served, [`disruption`] how many pods may be evicted, [`quota`] what is
//!   used; [`ttl_after_finished`] deletes Jobs.

pub mod bootstrap;
pub mod certificates;
pub mod config;
pub mod cron_job;
pub mod daemon_set;
pub mod deployment;
pub mod disruption;
pub mod endpoints;
pub mod garbage;
pub mod informers;
pub mod job;
pub mod namespace;
pub mod node_cidr;
pub mod node_lifecycle;
pub mod objects;
pub mod pod_gc;
pub mod quota;
pub mod replica_set;
pub mod root_ca;
pub mod runtime;
pub mod service_account;
pub mod stateful_set;
pub mod ttl_after_finished;
pub mod workload;

use std::{future::Future, pin::Pin, sync::Arc};

use bosun_client::{Recorder, lease::Election};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use crate::runtime::{Clients, Context, Controller, Metrics, controller};
pub use crate::{config::Config, informers::Informers};

/// The identity under which objects are followed.
const USER: &str = "system:kube-controller-manager";
/// The Lease of upstream's controllers, so that never both run.
const LEASE: (&str, &str) = ("kube-system", "kube-controller-manager");

type Run = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A controller: its name, the service account it speaks under, and what runs it.
struct Row {
    name: &'static str,
    account: &'static str,
    run: fn(Context) -> Run,
}

/// All controllers.
const CONTROLLERS: &[Row] = &[
    Row {
        name: "deployment",
        account: "deployment-controller",
        run: |context| run(deployment::Rollouts::new(&context), context.metrics),
    },
    Row {
        name: "replicaset",
        account: "replicaset-controller",
        run: |context| run(replica_set::ReplicaSets::new(&context), context.metrics),
    },
    Row {
        name: "replicationcontroller",
        account: "replication-controller",
        run: |context| run(replica_set::ReplicaSets::of_controllers(&context), context.metrics),
    },
    Row {
        name: "statefulset",
        account: "statefulset-controller",
        run: |context| run(stateful_set::StatefulSets::new(&context), context.metrics),
    },
    Row {
        name: "daemonset",
        account: "daemon-set-controller",
        run: |context| run(daemon_set::DaemonSets::new(&context), context.metrics),
    },
    Row {
        name: "job",
        account: "job-controller",
        run: |context| run(job::Jobs::new(&context), context.metrics),
    },
    Row {
        name: "cronjob",
        account: "cronjob-controller",
        run: |context| run(cron_job::CronJobs::new(&context), context.metrics),
    },
    Row {
        name: "service-account",
        account: "service-account-controller",
        run: |context| run(service_account::ServiceAccounts::new(&context), context.metrics),
    },
    Row {
        name: "root-ca-certificate-publisher",
        account: "root-ca-cert-publisher",
        run: |context| run(root_ca::RootCas::new(&context), context.metrics),
    },
    Row {
        name: "namespace",
        account: "namespace-controller",
        run: |context| run(namespace::Namespaces::new(&context), context.metrics),
    },
    Row {
        name: "garbage-collector",
        account: "generic-garbage-collector",
        run: |context| run(garbage::GarbageCollector::new(&context), context.metrics),
    },
    Row {
        name: "node-lifecycle",
        account: "node-controller",
        run: |context| run(node_lifecycle::NodeLifecycle::new(&context), context.metrics),
    },
    Row {
        name: "node-ipam",
        account: "node-controller",
        run: |context| run(node_cidr::NodeCidrs::new(&context), context.metrics),
    },
    Row {
        name: "pod-garbage-collector",
        account: "pod-garbage-collector",
        run: |context| run(pod_gc::PodGc::new(&context), context.metrics),
    },
    Row {
        name: "csr-approver",
        account: "certificate-controller",
        run: |context| run(certificates::Approver::of_clients(&context), context.metrics),
    },
    Row {
        name: "kubelet-serving-csr-approver",
        account: "kubelet-serving-approver",
        run: |context| run(certificates::Approver::of_servers(&context), context.metrics),
    },
    Row {
        name: "csr-signer",
        account: "certificate-controller",
        run: |context| run(certificates::Signer::new(&context), context.metrics),
    },
    Row {
        name: "csr-cleaner",
        account: "certificate-controller",
        run: |context| run(certificates::Cleaner::new(&context), context.metrics),
    },
    Row {
        name: "bootstrap-signer",
        account: "bootstrap-signer",
        run: |context| run(bootstrap::BootstrapSigner::new(&context), context.metrics),
    },
    Row {
        name: "token-cleaner",
        account: "token-cleaner",
        run: |context| run(bootstrap::TokenCleaner::new(&context), context.metrics),
    },
    Row {
        name: "endpointslice",
        account: "endpointslice-controller",
        run: |context| run(endpoints::Slices::new(&context), context.metrics),
    },
    Row {
        name: "endpoints",
        account: "endpoint-controller",
        run: |context| run(endpoints::OldEndpoints::new(&context), context.metrics),
    },
    Row {
        name: "endpointslice-mirroring",
        account: "endpointslicemirroring-controller",
        run: |context| run(endpoints::Mirror::new(&context), context.metrics),
    },
    Row {
        name: "disruption",
        account: "disruption-controller",
        run: |context| run(disruption::Disruptions::new(&context), context.metrics),
    },
    Row {
        name: "resourcequota",
        account: "resourcequota-controller",
        run: |context| run(quota::Quotas::new(&context), context.metrics),
    },
    Row {
        name: "ttl-after-finished",
        account: "ttl-after-finished-controller",
        run: |context| run(ttl_after_finished::TtlAfterFinished::new(&context), context.metrics),
    },
];

/// What makes a controller run.
fn run<C: Controller>(controller: C, metrics: Metrics) -> Run {
    Box::pin(controller::run(Arc::new(controller), metrics))
}

/// The controllers of a cluster.
#[derive(Debug)]
pub struct Controllers;

impl Controllers {
    /// Starts standing for election, and running all controllers whenever elected, until `end`. All of it is a task of
    /// the set that this gives: dropping it ends everything at once.
    pub fn start(config: Config, clients: Clients, metrics: Metrics, end: CancellationToken) -> JoinSet<()> {
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let election = Election::new(clients.user(USER), LEASE.0, LEASE.1, &config.identity, config.terms);
            let config = Arc::new(config);
            election
                .lead(&end, || lead(config.clone(), clients.clone(), metrics.clone()))
                .await;
        });
        tasks
    }
}

/// Runs all controllers until dropped.
async fn lead(config: Arc<Config>, clients: Clients, metrics: Metrics) {
    let client = clients.user(USER);
    let mut tasks = JoinSet::new();
    let informers = Arc::new(Informers::start(&client, &mut tasks));
    let (recorder, publisher) = Recorder::new(client, USER, "");
    tasks.spawn(publisher.run());
    for row in CONTROLLERS {
        if config.disabled.iter().any(|name| name == row.name) {
            info!(controller = row.name, "not run, as configured");
            continue;
        }
        tasks.spawn((row.run)(Context {
            informers: informers.clone(),
            client: clients.service_account(row.account),
            recorder: recorder.named(row.account),
            config: config.clone(),
            metrics: metrics.clone(),
        }));
    }
    // None of them ends by itself.
    while let Some(ended) = tasks.join_next().await {
        if let Err(panicked) = ended {
            error!(%panicked, "a task of the controllers ended");
        }
    }
}
