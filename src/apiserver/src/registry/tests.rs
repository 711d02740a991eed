//! The engine over the embedded store, without HTTP.

mod admission;
mod concurrent;
mod deletes;
mod etcd;
mod flaky;
mod reads;
mod services;
mod subresources;
mod writes;

use std::{sync::Arc, time::Duration};

use bosun_store::{Embedded, Store, embedded};
use bytes::Bytes;
use serde_json::{Value, json};

use super::{Config, Registry, builtin, own_request};
use crate::{
    Request, Status,
    cache::{Kind, Limits, Watch, WatchEvent},
    options::{DeleteOptions, FieldValidation, ListOptions, PatchType, WriteOptions},
};

/// No test waits longer for anything.
const PATIENCE: Duration = Duration::from_secs(20);

/// An engine on a store of its own.
pub(super) struct World {
    pub(super) registry: Arc<Registry>,
    pub(super) store: Arc<dyn Store>,
    /// What the store needs to live.
    _ground: Box<dyn std::any::Any + Send + Sync>,
}

impl World {
    pub(super) async fn new() -> Self {
        Self::with(Config::default()).await
    }

    pub(super) async fn with(config: Config) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Embedded::open(embedded::Options::new(dir.path().join("store")))
            .await
            .unwrap();
        Self::on(store, dir, config).await
    }

    pub(super) async fn on(store: Arc<dyn Store>, ground: impl Send + Sync + 'static, config: Config) -> Self {
        let registry = Registry::open(store.clone(), builtin::rows(), config).await.unwrap();
        registry.make_namespaces(jiff::Timestamp::now()).await.unwrap();
        Self {
            registry,
            store,
            _ground: Box::new(ground),
        }
    }

    /// A request for `[group/]version/plural[/subresource]`.
    pub(super) fn request(&self, verb: &'static str, path: &str, namespace: &str, name: &str) -> Request {
        let parts: Vec<_> = path.split('/').collect();
        let table = self.registry.table();
        let find = |group, version, plural| table.get(group, version, plural).cloned();
        let (row, subresource) = match parts[..] {
            [version, plural] => (find("", version, plural), ""),
            [a, b, c] => match find("", a, b) {
                Some(row) => (Some(row), c),
                None => (find(a, b, c), ""),
            },
            [group, version, plural, subresource] => (find(group, version, plural), subresource),
            _ => (None, ""),
        };
        let row = row.unwrap_or_else(|| panic!("no {path}"));
        let mut request = own_request(&row, verb, namespace, name, jiff::Timestamp::now());
        request.subresource = subresource.into();
        request
    }

    pub(super) async fn create(&self, path: &str, namespace: &str, object: Value) -> Result<Value, Status> {
        let request = self.request("create", path, namespace, "");
        let written = self.registry.create(&request, object.into(), &options()).await?;
        assert!(written.created);
        Ok(decode(&written.json))
    }

    pub(super) async fn get(&self, path: &str, namespace: &str, name: &str) -> Result<Value, Status> {
        let request = self.request("get", path, namespace, name);
        Ok(decode(&self.registry.get(&request, &ListOptions::default()).await?))
    }

    pub(super) async fn update(&self, path: &str, object: Value) -> Result<Value, Status> {
        let metadata = object["metadata"].clone();
        let text = |field: &str| metadata[field].as_str().unwrap_or_default().to_owned();
        let request = self.request("update", path, &text("namespace"), &text("name"));
        Ok(decode(
            &self.registry.update(&request, object.into(), &options()).await?.json,
        ))
    }

    pub(super) async fn patch(
        &self,
        path: &str,
        namespace: &str,
        name: &str,
        ty: PatchType,
        patch: Value,
    ) -> Result<Value, Status> {
        let request = self.request("patch", path, namespace, name);
        Ok(decode(
            &self.registry.patch(&request, ty, patch.into(), &options()).await?.json,
        ))
    }

    pub(super) async fn delete(
        &self,
        path: &str,
        namespace: &str,
        name: &str,
        options: &DeleteOptions,
    ) -> Result<Value, Status> {
        let request = self.request("delete", path, namespace, name);
        Ok(decode(&self.registry.delete(&request, options).await?.json))
    }

    /// Names, and the rest of the answer.
    pub(super) async fn list(
        &self,
        path: &str,
        namespace: &str,
        options: &ListOptions,
    ) -> Result<(Vec<String>, super::List), Status> {
        let request = self.request("list", path, namespace, "");
        let list = self.registry.list(&request, options).await?;
        Ok((list.entries.iter().map(|entry| entry.name().to_owned()).collect(), list))
    }

    pub(super) async fn watch(&self, path: &str, namespace: &str, options: &ListOptions) -> Result<Watch, Status> {
        let request = self.request("watch", path, namespace, "");
        Ok(self.registry.watch(&request, options).await?.watch)
    }
}

pub(super) fn options() -> WriteOptions {
    WriteOptions {
        field_manager: "test".into(),
        field_validation: FieldValidation::Strict,
        ..WriteOptions::default()
    }
}

pub(super) fn decode(json: &Bytes) -> Value {
    serde_json::from_slice(json).unwrap()
}

pub(super) fn config_map(name: &str, value: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"value": value}})
}

/// An event as text: `ADDED x`, `BOOKMARK`; `END` at the end.
pub(super) async fn told(watch: &mut Watch) -> String {
    let event = tokio::time::timeout(PATIENCE, watch.next())
        .await
        .expect("an event in time");
    match event {
        None => "END".into(),
        Some(WatchEvent::Initial(entry)) => format!("{} {}", Kind::Added.as_str(), entry.name()),
        Some(WatchEvent::Change(kind, change)) => format!("{} {}", kind.as_str(), change.entry(kind).name()),
        Some(WatchEvent::Bookmark { initial_end, .. }) => if initial_end { "BOOKMARK end" } else { "BOOKMARK" }.into(),
    }
}

#[tokio::test]
async fn what_was_stored_is_there_after_a_restart() {
    let world = World::new().await;
    let created = world
        .create("v1/configmaps", "default", config_map("x", "1"))
        .await
        .unwrap();
    let again = Registry::open(world.store.clone(), builtin::rows(), Config::default())
        .await
        .unwrap();
    let request = world.request("get", "v1/configmaps", "default", "x");
    assert_eq!(
        decode(&again.get(&request, &ListOptions::default()).await.unwrap()),
        created
    );
}

#[tokio::test]
async fn a_watch_goes_on_after_a_restart_where_it_ended() {
    goes_on_after_a_restart(World::new().await).await;
}

async fn goes_on_after_a_restart(world: World) {
    let (_, list) = world
        .list("v1/configmaps", "default", &ListOptions::default())
        .await
        .unwrap();
    for name in ["a", "b"] {
        world
            .create("v1/configmaps", "default", config_map(name, "1"))
            .await
            .unwrap();
    }
    world
        .delete("v1/configmaps", "default", "a", &DeleteOptions::default())
        .await
        .unwrap();
    let again = Registry::open(world.store.clone(), builtin::rows(), Config::default())
        .await
        .unwrap();
    let options = ListOptions {
        resource_version: list.revision.to_string(),
        ..ListOptions::default()
    };
    let request = world.request("watch", "v1/configmaps", "default", "");
    let mut watch = again.watch(&request, &options).await.unwrap().watch;
    for expected in ["ADDED a", "ADDED b", "DELETED a"] {
        assert_eq!(told(&mut watch).await, expected);
    }
}

#[tokio::test]
async fn a_kind_that_comes_at_run_time_is_served_and_goes() {
    struct Free;
    impl bosun_kinds::Strategy for Free {}

    let world = World::new().await;
    let custom = |plural: &str, group: &str| {
        let table = world.registry.table();
        let like = table.get("", "v1", "configmaps").unwrap();
        Arc::new(crate::Resource {
            group: group.into(),
            version: "v1".into(),
            kind: "Thing".into(),
            list_kind: "ThingList".into(),
            plural: plural.into(),
            singular: "thing".into(),
            short_names: Vec::new(),
            categories: Vec::new(),
            scope: like.scope,
            verbs: like.verbs.clone(),
            subresources: Vec::new(),
            types: like.types.clone(),
            ty: like.ty,
            strategy: Arc::new(Free),
            selectable: vec![crate::Selectable {
                label: "data.color".into(),
                path: "data.color".into(),
                otherwise: "",
            }],
            prefix: builtin::prefix(group, plural),
            storage: true,
            stored_api_version: format!("{group}/v1").into(),
            custom: None,
        })
    };
    world.registry.add([custom("things", "example.com")]).await.unwrap();
    let red =
        json!({"apiVersion": "example.com/v1", "kind": "Thing", "metadata": {"name": "x"}, "data": {"color": "red"}});
    world.create("example.com/v1/things", "default", red).await.unwrap();
    let selected = |color: &str| ListOptions {
        fields: crate::selector::FieldSelector::parse(&format!("data.color={color}")).unwrap(),
        ..ListOptions::default()
    };
    assert_eq!(
        world
            .list("example.com/v1/things", "", &selected("red"))
            .await
            .unwrap()
            .0,
        ["x"]
    );
    assert!(
        world
            .list("example.com/v1/things", "", &selected("blue"))
            .await
            .unwrap()
            .0
            .is_empty()
    );
    let mut watch = world
        .watch("example.com/v1/things", "", &ListOptions::default())
        .await
        .unwrap();
    assert_eq!(told(&mut watch).await, "ADDED x");
    let mut follow = world.registry.follow("example.com", "things").unwrap();
    for expected in ["Reset", "Upsert", "Synced"] {
        assert!(format!("{:?}", follow.next().await).starts_with(expected), "{expected}");
    }
    world.registry.remove("example.com", "things").await;
    assert_eq!(told(&mut watch).await, "END");
    assert!(matches!(follow.next().await, super::Followed::Reset));
    assert!(world.registry.table().get("example.com", "v1", "things").is_none());
    assert!(
        tokio::time::timeout(Duration::from_millis(20), follow.next())
            .await
            .is_err(),
        "there is nothing to tell"
    );
    // What was stored is there when it comes back.
    world.registry.add([custom("things", "example.com")]).await.unwrap();
    assert_eq!(
        world
            .list("example.com/v1/things", "", &selected("red"))
            .await
            .unwrap()
            .0,
        ["x"]
    );
    for expected in ["Reset", "Upsert", "Synced"] {
        let followed = tokio::time::timeout(PATIENCE, follow.next())
            .await
            .expect("it is told in time");
        assert!(format!("{followed:?}").starts_with(expected), "{followed:?}");
    }
}

#[tokio::test]
async fn two_servers_on_one_store_agree() {
    let world = World::new().await;
    let other = Registry::open(world.store.clone(), builtin::rows(), Config::default())
        .await
        .unwrap();
    let request = world.request("get", "v1/configmaps", "default", "x");
    let created = world
        .create("v1/configmaps", "default", config_map("x", "1"))
        .await
        .unwrap();
    assert_eq!(
        decode(&other.get(&request, &ListOptions::default()).await.unwrap()),
        created
    );
}

#[tokio::test]
async fn a_secret_is_stored_sealed() {
    let dir = tempfile::tempdir().unwrap();
    let cipher = bosun_pki::Sealer::open_or_create(&dir.path().join("keys.json")).unwrap();
    let mut config = Config::default();
    config
        .transformers
        .insert(builtin::prefix("", "secrets"), Arc::new(cipher));
    let world = World::with(config).await;
    let secret = json!({"metadata": {"name": "x"}, "stringData": {}, "data": {"k": "aGlkZGVu"}});
    let created = world.create("v1/secrets", "default", secret).await.unwrap();
    let stored = world
        .store
        .get("/registry/core/secrets/default/x".into())
        .await
        .unwrap()
        .unwrap()
        .value;
    assert!(!stored.windows(8).any(|part| part == b"aGlkZGVu"), "it can be read");
    assert_eq!(world.get("v1/secrets", "default", "x").await.unwrap(), created);
}

#[tokio::test]
async fn caches_that_lost_track_end_their_watches_and_go_on() {
    let limits = Limits {
        changes: 4,
        bytes: 0,
        least: 1,
    };
    let world = World::with(Config {
        limits,
        ..Config::default()
    })
    .await;
    let mut follow = world.registry.follow("", "configmaps").unwrap();
    assert!(matches!(follow.next().await, super::Followed::Reset));
    assert!(matches!(follow.next().await, super::Followed::Synced));
    world
        .create("v1/configmaps", "default", config_map("x", "1"))
        .await
        .unwrap();
    let super::Followed::Upsert(entry) = follow.next().await else {
        panic!("it was created")
    };
    assert_eq!(entry.name(), "x");
    world.registry.feed.recover().await;
    assert!(matches!(follow.next().await, super::Followed::Reset));
    let super::Followed::Upsert(entry) = follow.next().await else {
        panic!("it is there")
    };
    assert_eq!(entry.name(), "x");
    assert!(matches!(follow.next().await, super::Followed::Synced));
    world
        .delete("v1/configmaps", "default", "x", &DeleteOptions::default())
        .await
        .unwrap();
    assert!(matches!(follow.next().await, super::Followed::Delete(_)));
}
