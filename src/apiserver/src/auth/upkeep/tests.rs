use bosun_pki::names::Reached;
use bosun_store::{Embedded, embedded};

use super::*;
use crate::{
    User,
    auth::{Attributes, Decision},
    registry::{Config, builtin},
};

const PATIENCE: Duration = Duration::from_secs(20);
const SERVER: &str = "https://192.0.2.7:6443";

struct World {
    registry: Arc<Registry>,
    keeper: Arc<Keeper>,
    authorizer: Arc<Authorizer>,
    store: Arc<Embedded>,
    _directory: tempfile::TempDir,
}

async fn world() -> World {
    let directory = tempfile::tempdir().unwrap();
    let reached = Reached {
        cluster_domain: "cluster.local".into(),
        ..Reached::default()
    };
    let keeper = Arc::new(Keeper::open(&directory.path().join("pki"), reached, Timestamp::now()).unwrap());
    let store = Embedded::open(embedded::Options::new(directory.path().join("store")))
        .await
        .unwrap();
    let config = Config {
        transformers: [(builtin::prefix("", "secrets"), keeper.sealer.clone() as _)].into(),
        ..Config::default()
    };
    let registry = Registry::open(store.clone(), builtin::rows(), config).await.unwrap();
    registry.make_namespaces(Timestamp::now()).await.unwrap();
    World {
        registry,
        keeper,
        authorizer: Arc::default(),
        store,
        _directory: directory,
    }
}

impl World {
    async fn write(&self) {
        let now = Timestamp::now();
        write_defaults(&self.registry, now).await.unwrap();
        write_public_maps(&self.registry, &self.keeper, SERVER, now)
            .await
            .unwrap();
    }

    async fn upkeep(&self) -> Upkeep {
        let mut upkeep = Upkeep::start(&self.registry, &self.authorizer, &self.keeper, |_| {}).unwrap();
        timeout(PATIENCE, upkeep.ready()).await.unwrap();
        upkeep
    }

    fn allows(&self, user: &str, verb: &str, resource: &str) -> bool {
        let user = User {
            name: user.into(),
            ..User::default()
        };
        let asked = Attributes {
            verb,
            resource,
            namespace: "default",
            ..Attributes::resource(&user)
        };
        matches!(self.authorizer.authorize(&asked), Decision::Allow(_))
    }

    async fn eventually(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let wait = async {
            while !holds(self) {
                sleep(Duration::from_millis(10)).await;
            }
        };
        assert!(timeout(PATIENCE, wait).await.is_ok(), "{what}");
    }

    fn place(&self, plural: &'static str, object: &Value) -> Place<'_> {
        Place::of(&self.registry, rbac::GROUP, plural, object, Timestamp::now())
    }
}

fn role(name: &str, labels: &Value, resource: &str) -> Value {
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": name, "labels": labels},
        "rules": [{"verbs": ["get"], "apiGroups": [""], "resources": [resource]}],
    })
}

fn binding(user: &str, role: &str) -> Value {
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": user},
        "roleRef": {"apiGroup": rbac::GROUP, "kind": "ClusterRole", "name": role},
        "subjects": [{"kind": "User", "apiGroup": rbac::GROUP, "name": user}],
    })
}

#[tokio::test]
async fn every_cluster_has_its_roles_and_a_second_start_writes_nothing() {
    let world = world().await;
    world.write().await;
    let revision = bosun_store::Store::revision(&*world.store).await.unwrap();
    world.write().await;
    assert_eq!(bosun_store::Store::revision(&*world.store).await.unwrap(), revision);
    let _upkeep = world.upkeep().await;
    assert!(world.allows("system:kube-scheduler", "list", "nodes"));
    assert!(!world.allows("system:kube-scheduler", "list", "secrets"));
    let view = Objects::get(&*world.registry, rbac::GROUP, "clusterroles", "", "view")
        .await
        .unwrap()
        .unwrap();
    assert!(view["rules"].as_array().unwrap().len() > 5, "it is aggregated");
    let classes = world
        .registry
        .list_now("scheduling.k8s.io", "priorityclasses", "")
        .await
        .unwrap();
    assert_eq!(classes.len(), 2);
    let info = Objects::get(&*world.registry, "", "configmaps", "kube-public", "cluster-info")
        .await
        .unwrap()
        .unwrap();
    assert!(info["data"]["kubeconfig"].as_str().unwrap().contains(SERVER));
}

#[tokio::test]
async fn changes_of_roles_count_while_the_server_runs() {
    let world = world().await;
    world.write().await;
    let _upkeep = world.upkeep().await;
    let binding = binding("jane", "view");
    world
        .place("clusterrolebindings", &binding)
        .create(binding.clone())
        .await
        .unwrap();
    world
        .eventually("jane may read pods", |world| world.allows("jane", "get", "pods"))
        .await;
    assert!(!world.allows("jane", "get", "secrets"));
    let labels = json!({"rbac.authorization.k8s.io/aggregate-to-view": "true"});
    let more = role("more", &labels, "secrets");
    world.place("clusterroles", &more).create(more.clone()).await.unwrap();
    world
        .eventually("what is added to view counts", |world| {
            world.allows("jane", "get", "secrets")
        })
        .await;
    world.place("clusterroles", &more).delete().await.unwrap();
    world
        .eventually("what is taken from it too", |world| {
            !world.allows("jane", "get", "secrets")
        })
        .await;
    world.place("clusterrolebindings", &binding).delete().await.unwrap();
    world
        .eventually("nothing is left", |world| !world.allows("jane", "get", "pods"))
        .await;
}

#[tokio::test]
async fn secrets_are_not_readable_in_the_store() {
    let world = world().await;
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"namespace": "default", "name": "s"}, "data": {"k": "aGlkZGVu"}});
    let place = Place::of(&world.registry, "", "secrets", &secret, Timestamp::now());
    place.create(secret.clone()).await.unwrap();
    let key = bytes::Bytes::from(format!("{}default/s", builtin::prefix("", "secrets")));
    let stored = bosun_store::Store::get(&*world.store, key)
        .await
        .unwrap()
        .unwrap()
        .value;
    assert!(stored.starts_with(b"k8s:bosun:v1:"));
    assert!(!stored.windows(8).any(|part| part == b"aGlkZGVu"));
    let read = Objects::get(&*world.registry, "", "secrets", "default", "s")
        .await
        .unwrap()
        .unwrap();
    assert_eq!(read["data"]["k"], "aGlkZGVu");
}
