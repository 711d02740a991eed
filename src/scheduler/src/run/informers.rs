//! What is heard of the cluster, as one stream of events.

use std::{marker::PhantomData, pin::Pin, sync::Arc};

use bosun_client::informer::{Change as Heard, Config, Informer};
use futures_util::{
    Stream, StreamExt,
    future::{BoxFuture, join_all},
    stream::{SelectAll, poll_fn, select_all},
};
use k8s_openapi::{
    api::{apps::v1 as apps, core::v1 as core, policy::v1 as policy, storage::v1 as storage},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{Api, Client, Resource};
use serde::{Deserialize, Deserializer, de::DeserializeOwned};
use tokio::task::JoinSet;

use crate::{
    cluster::WorkloadKind,
    engine::{Change, Event},
    objects::{Budget, Claim, Namespace, Node, Pod, StorageClass, Volume, Workload},
};

/// What one informer tells.
type Told = Pin<Box<dyn Stream<Item = Event> + Send>>;

/// What an informer needs to know of an object.
trait Named {
    fn meta(&self) -> ObjectMeta;
}

fn meta(namespace: &str, name: &str, version: &str) -> ObjectMeta {
    ObjectMeta {
        namespace: Some(namespace.to_owned()).filter(|namespace| !namespace.is_empty()),
        name: Some(name.to_owned()),
        resource_version: Some(version.to_owned()),
        ..ObjectMeta::default()
    }
}

impl Named for Pod {
    fn meta(&self) -> ObjectMeta {
        ObjectMeta {
            uid: Some(self.uid.to_string()),
            ..meta(&self.name.namespace, &self.name.name, &self.resource_version)
        }
    }
}

macro_rules! named {
    ($($type:ty: $namespace:expr,)*) => {
        $(impl Named for $type {
            fn meta(&self) -> ObjectMeta {
                let namespace: fn(&$type) -> &str = $namespace;
                meta(namespace(self), &self.name, &self.resource_version)
            }
        })*
    };
}

named! {
    Node: |_| "",
    Namespace: |_| "",
    Volume: |_| "",
    StorageClass: |_| "",
    Budget: |one| &one.namespace,
    Workload: |one| &one.namespace,
    Claim: |one| &one.namespace,
}

/// An object of kind `K` as far as `T` keeps it.
pub(super) struct Kept<K, T> {
    meta: ObjectMeta,
    object: Arc<T>,
    kind: PhantomData<fn() -> K>,
}

impl<K, T: std::fmt::Debug> std::fmt::Debug for Kept<K, T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.object.fmt(f)
    }
}

impl<K, T> Clone for Kept<K, T> {
    fn clone(&self) -> Self {
        Self {
            meta: self.meta.clone(),
            object: self.object.clone(),
            kind: PhantomData,
        }
    }
}

impl<'de, K, T: Named + Deserialize<'de>> Deserialize<'de> for Kept<K, T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let object = T::deserialize(deserializer)?;
        Ok(Self {
            meta: object.meta(),
            object: Arc::new(object),
            kind: PhantomData,
        })
    }
}

impl<K: Resource<DynamicType = ()>, T> Resource for Kept<K, T> {
    type DynamicType = ();
    type Scope = K::Scope;

    fn kind((): &()) -> std::borrow::Cow<'_, str> {
        K::kind(&())
    }

    fn group((): &()) -> std::borrow::Cow<'_, str> {
        K::group(&())
    }

    fn version((): &()) -> std::borrow::Cow<'_, str> {
        K::version(&())
    }

    fn plural((): &()) -> std::borrow::Cow<'_, str> {
        K::plural(&())
    }

    fn meta(&self) -> &ObjectMeta {
        &self.meta
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.meta
    }
}

/// A pod as it is asked for.
pub(super) type KeptPod = Kept<core::Pod, Pod>;

impl KeptPod {
    /// The pod.
    pub(super) fn pod(self) -> Arc<Pod> {
        self.object
    }
}

/// What happens, as it is heard.
pub(super) struct Events {
    stream: SelectAll<Told>,
    synced: Vec<BoxFuture<'static, ()>>,
}

impl Events {
    /// The next event; none if all informers ended.
    pub(super) async fn next(&mut self) -> Option<Event> {
        self.stream.next().await
    }

    /// Waits until all that there is has been told.
    pub(super) async fn synced(&mut self) {
        join_all(std::mem::take(&mut self.synced)).await;
    }
}

/// Starts to listen.
pub(super) fn start(client: &Client, tasks: &mut JoinSet<()>) -> Events {
    let mut starting = Starting {
        client,
        tasks,
        streams: Vec::new(),
        synced: Vec::new(),
    };
    // Pods that ended take no room: they are not even listed. That one ended is heard as its being gone.
    let running = Config::default().fields("status.phase!=Succeeded,status.phase!=Failed");
    starting.follow::<core::Pod, Pod>(running, Event::Pod);
    starting.follow::<core::Node, Node>(Config::default(), Event::Node);
    starting.follow_values::<core::Namespace, Namespace>(Event::Namespace);
    starting.follow_values::<policy::PodDisruptionBudget, Budget>(Event::Budget);
    starting.follow_values::<core::PersistentVolumeClaim, Claim>(Event::Claim);
    starting.follow_values::<core::PersistentVolume, Volume>(Event::Volume);
    starting.follow_values::<storage::StorageClass, StorageClass>(Event::StorageClass);
    starting.workloads::<core::Service>(WorkloadKind::Service);
    starting.workloads::<apps::ReplicaSet>(WorkloadKind::ReplicaSet);
    starting.workloads::<apps::StatefulSet>(WorkloadKind::StatefulSet);
    starting.workloads::<core::ReplicationController>(WorkloadKind::ReplicationController);
    Events {
        stream: select_all(starting.streams),
        synced: starting.synced,
    }
}

struct Starting<'a> {
    client: &'a Client,
    tasks: &'a mut JoinSet<()>,
    streams: Vec<Told>,
    synced: Vec<BoxFuture<'static, ()>>,
}

impl Starting<'_> {
    fn follow<K, T>(&mut self, config: Config, event: impl Fn(Change<Arc<T>>) -> Event + Send + 'static)
    where
        K: Resource<DynamicType = ()> + 'static,
        T: Named + DeserializeOwned + Send + Sync + 'static,
    {
        let api: Api<Kept<K, T>> = Api::all(self.client.clone());
        let (informer, reader) = Informer::new(api, config);
        let mut changes = reader.subscribe();
        self.tasks.spawn(informer.run());
        self.synced.push(Box::pin(async move { reader.synced().await }));
        let changes = poll_fn(move |context| changes.poll_recv(context));
        self.streams.push(Box::pin(changes.flat_map(move |heard| {
            let told = match heard {
                Heard::Added(kept) => vec![Change::Set(kept.object.clone())],
                // Deleted and made again between two lists.
                Heard::Updated { old, new } if old.meta.uid != new.meta.uid => {
                    vec![Change::Gone(old.object.clone()), Change::Set(new.object.clone())]
                }
                Heard::Updated { new, .. } => vec![Change::Set(new.object.clone())],
                Heard::Deleted(kept) => vec![Change::Gone(kept.object.clone())],
            };
            futures_util::stream::iter(told.into_iter().map(&event).collect::<Vec<_>>())
        })));
    }

    fn follow_values<K, T>(&mut self, event: impl Fn(Change<T>) -> Event + Send + 'static)
    where
        K: Resource<DynamicType = ()> + 'static,
        T: Named + DeserializeOwned + Clone + Send + Sync + 'static,
    {
        self.follow::<K, T>(Config::default(), move |change| {
            event(match change {
                Change::Set(object) => Change::Set(T::clone(&object)),
                Change::Gone(object) => Change::Gone(T::clone(&object)),
            })
        });
    }

    fn workloads<K: Resource<DynamicType = ()> + 'static>(&mut self, kind: WorkloadKind) {
        self.follow_values::<K, Workload>(move |change| Event::Workload(kind, change));
    }
}
