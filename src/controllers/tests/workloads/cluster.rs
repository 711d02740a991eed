//! An API server without a socket, and who plays the kubelet.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context as Poller, Poll},
    time::Duration,
};

use bosun_apiserver::{
    Registry, User,
    admission::BuiltIn,
    audit::Audit,
    auth::{Authenticator, Authorizer, Upkeep, objects::Reads, upkeep::write_defaults},
    http::{Body, Gate, Health, Identity, Limits, Paths, Router},
    metrics,
    registry::{Config, builtin},
};
use bosun_client::{Change, Informer, Reader, Recorder, informer};
use bosun_controllers::{
    Informers,
    cron_job::CronJobs,
    daemon_set::DaemonSets,
    deployment::Rollouts,
    job::Jobs,
    objects::Pod,
    replica_set::ReplicaSets,
    runtime::{Context, Controller, Metrics, controller},
    stateful_set::StatefulSets,
};
use bosun_pki::{Keeper, names::Reached};
use bosun_store::{Embedded, embedded};
use http::{Request, Response};
use jiff::Timestamp;
use k8s_openapi::api::core::v1 as core;
use kube::{
    Api, Client, Resource,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{sync::RwLock, task::JoinSet, time::timeout};
use tokio_util::sync::CancellationToken;
use tower::Service;

/// Longer than anything here takes, even on a loaded machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// Asks the router in the name of one user.
#[derive(Clone)]
struct As {
    router: Router,
    user: Arc<User>,
    /// Held while a call is answered; `true` once there shall be no more.
    gate: Arc<RwLock<bool>>,
}

/// Controllers at work. To drop them is to kill them; what they sent may still arrive.
pub(crate) struct Life {
    tasks: JoinSet<()>,
    gate: Arc<RwLock<bool>>,
}

impl Life {
    /// Kills them in the midst of what they do, and waits until nothing of theirs is on its way.
    pub(crate) async fn end(self) {
        drop(self.tasks);
        *self.gate.write().await = true;
    }
}

impl Service<Request<kube::client::Body>> for As {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, context: &mut Poller<'_>) -> Poll<Result<(), Infallible>> {
        Service::<Request<kube::client::Body>>::poll_ready(&mut self.router, context)
    }

    fn call(&mut self, mut request: Request<kube::client::Body>) -> Self::Future {
        request.extensions_mut().insert(Identity(self.user.clone()));
        let (mut router, gate) = (self.router.clone(), self.gate.clone());
        Box::pin(async move {
            let ended = gate.read().await;
            if *ended {
                std::future::pending::<()>().await;
            }
            router.call(request).await
        })
    }
}

/// An API server.
pub(crate) struct Cluster {
    router: Router,
    _upkeep: Upkeep,
    _dir: TempDir,
}

impl Cluster {
    /// A server with upstream's roles, and the service account that pods of `default` run under.
    pub(crate) async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let now = Timestamp::now();
        let store = Embedded::open(embedded::Options::new(dir.path().join("store")))
            .await
            .unwrap();
        let reached = Reached {
            cluster_domain: "cluster.local".to_owned(),
            ..Reached::default()
        };
        let keeper = Arc::new(Keeper::open(&dir.path().join("pki"), reached, now).unwrap());
        let registry = Registry::open(store, builtin::rows(), Config::default()).await.unwrap();
        registry.make_namespaces(now).await.unwrap();
        let authenticator = Arc::new(Authenticator::new(
            keeper.clone(),
            registry.clone(),
            "https://issuer".to_owned(),
        ));
        let authorizer = Arc::new(Authorizer::default());
        registry.admit_with(Arc::new(BuiltIn::new(Reads::of(&registry), authorizer.clone())));
        let mut upkeep = Upkeep::start(&registry, &authorizer, &keeper, |_| {}).unwrap();
        write_defaults(&registry, now).await.unwrap();
        upkeep.ready().await;
        let router = Router::new(
            registry,
            Gate::new(authenticator.clone(), authorizer),
            Paths::new(Health::default(), "127.0.0.1:6443", authenticator),
            Audit::off(),
            metrics::Metrics::new("v1.36.0"),
            Limits::default(),
            CancellationToken::new(),
        );
        let cluster = Self {
            router,
            _upkeep: upkeep,
            _dir: dir,
        };
        cluster
            .create::<core::ServiceAccount>(json!({"metadata": {"name": "default"}}))
            .await;
        cluster
    }

    fn client(&self, name: &str, groups: &[&str], gate: &Arc<RwLock<bool>>) -> Client {
        let user = User {
            name: name.to_owned(),
            groups: groups.iter().map(|group| (*group).to_owned()).collect(),
            ..User::default()
        };
        let service = As {
            router: self.router.clone(),
            user: Arc::new(user),
            gate: gate.clone(),
        };
        Client::new(service, "default")
    }

    /// A client that may do anything.
    pub(crate) fn admin(&self) -> Client {
        self.client("admin", &["system:masters", "system:authenticated"], &Arc::default())
    }

    /// Objects of the namespace `default`.
    pub(crate) fn api<K>(&self) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope> + ApiKind,
    {
        Api::default_namespaced(self.admin())
    }

    /// Makes an object of JSON.
    pub(crate) async fn create<K: ApiKind>(&self, json: Value) -> K {
        let object: K = serde_json::from_value(json).unwrap();
        self.api::<K>().create(&PostParams::default(), &object).await.unwrap()
    }

    /// Merges into an object.
    pub(crate) async fn merge<K: ApiKind>(&self, name: &str, json: Value) -> K {
        self.api::<K>()
            .patch(name, &PatchParams::default(), &Patch::Merge(json))
            .await
            .unwrap()
    }

    /// Waits until an object is as it shall be.
    pub(crate) async fn until<K: ApiKind>(&self, name: &str, holds: impl Fn(&K) -> bool) -> K {
        let (informer, reader) = Informer::<K>::new(self.api(), informer::Config::default());
        let mut tasks = JoinSet::new();
        tasks.spawn(informer.run());
        let mut changes = reader.subscribe();
        let mut last = String::new();
        let found = timeout(PATIENCE, async {
            while let Some(change) = changes.recv().await {
                let object = change.object();
                if object.meta().name.as_deref() == Some(name) && !matches!(change, Change::Deleted(_)) {
                    if holds(object) {
                        return K::clone(object);
                    }
                    last = serde_json::to_string(&**object).unwrap();
                }
            }
            panic!("the informer ended")
        });
        let found = found.await;
        found.unwrap_or_else(|_| panic!("{name} never is as it shall be, but {last}"))
    }

    /// Follows pods.
    pub(crate) fn pods(&self, tasks: &mut JoinSet<()>) -> Reader<Pod> {
        let (informer, reader) = Informer::new(Api::default_namespaced(self.admin()), informer::Config::default());
        tasks.spawn(informer.run());
        reader
    }

    /// Runs the controllers until the set is dropped: as if the program were killed.
    pub(crate) fn controllers(&self) -> Life {
        self.controllers_by(Timestamp::now)
    }

    /// The same, with another clock for CronJobs.
    pub(crate) fn controllers_by(&self, clock: fn() -> Timestamp) -> Life {
        fn run<C: Controller>(controller: C, tasks: &mut JoinSet<()>) {
            tasks.spawn(controller::run(Arc::new(controller), Metrics::default()));
        }
        let mut tasks = JoinSet::new();
        let gate = Arc::default();
        let manager = self.client("system:kube-controller-manager", &["system:authenticated"], &gate);
        let informers = Arc::new(Informers::start(&manager, &mut tasks));
        let (recorder, publisher) = Recorder::new(manager, "kube-controller-manager", "");
        tasks.spawn(publisher.run());
        let context = |account: &str| Context {
            informers: informers.clone(),
            client: self.client(
                &format!("system:serviceaccount:kube-system:{account}"),
                &[
                    "system:serviceaccounts",
                    "system:serviceaccounts:kube-system",
                    "system:authenticated",
                ],
                &gate,
            ),
            recorder: recorder.named(account),
            config: Arc::default(),
            metrics: Metrics::default(),
        };
        run(Rollouts::new(&context("deployment-controller")), &mut tasks);
        run(ReplicaSets::new(&context("replicaset-controller")), &mut tasks);
        run(
            ReplicaSets::of_controllers(&context("replication-controller")),
            &mut tasks,
        );
        run(StatefulSets::new(&context("statefulset-controller")), &mut tasks);
        run(DaemonSets::new(&context("daemon-set-controller")), &mut tasks);
        run(Jobs::new(&context("job-controller")), &mut tasks);
        run(CronJobs::by(&context("cronjob-controller"), clock), &mut tasks);
        Life { tasks, gate }
    }

    /// Plays the kubelet: `status` tells what becomes of a pod that isn't to end.
    pub(crate) fn kubelet(&self, status: impl Fn(&Pod) -> Option<Value> + Send + 'static) -> JoinSet<()> {
        let mut tasks = JoinSet::new();
        let mut changes = self.pods(&mut tasks).subscribe();
        let pods: Api<core::Pod> = Api::default_namespaced(self.admin());
        tasks.spawn(async move {
            while let Some(change) = changes.recv().await {
                let (Change::Added(pod) | Change::Updated { new: pod, .. }) = change else {
                    continue;
                };
                let name = pod.name();
                if pod.is_terminating() {
                    // With a finalizer it stays, and is deleted by whoever takes that away.
                    let _ = pods.delete(name, &DeleteParams::default().grace_period(0)).await;
                } else if pod.node().is_none() {
                    let binding = json!({
                        "metadata": {"name": name}, "target": {"apiVersion": "v1", "kind": "Node", "name": "node-1"},
                    });
                    let _ = pods
                        .create_subresource::<Value, Value>("binding", name, &PostParams::default(), &binding)
                        .await;
                } else if let Some(status) = status(&pod) {
                    let _ = pods
                        .patch_status(name, &PatchParams::default(), &Patch::Merge(json!({"status": status})))
                        .await;
                }
            }
        });
        tasks
    }
}

/// What tests make and look at.
pub(crate) trait ApiKind:
    Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
    + Clone
    + std::fmt::Debug
    + Serialize
    + DeserializeOwned
    + Send
    + Sync
    + 'static
{
}

impl<K> ApiKind for K where
    K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
        + Clone
        + std::fmt::Debug
        + Serialize
        + DeserializeOwned
        + Send
        + Sync
        + 'static
{
}

/// The status of a pod that serves.
pub(crate) fn ready() -> Value {
    json!({
        "phase": "Running",
        "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": Timestamp::now()}],
    })
}

/// The status of a pod that ended.
pub(crate) fn ended(good: bool) -> Value {
    let terminated = json!({"exitCode": i32::from(!good), "finishedAt": "2026-01-01T00:00:00Z"});
    json!({
        "phase": if good { "Succeeded" } else { "Failed" },
        "containerStatuses": [{
            "name": "main", "image": "image", "imageID": "", "ready": false, "restartCount": 0,
            "state": {"terminated": terminated},
        }],
    })
}

/// A template of pods with the label `app: web`.
pub(crate) fn template(image: &str) -> Value {
    json!({"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "main", "image": image}]}})
}
