//! The `ConfigMap`s and Secrets that pods of this node use: each watched by its name while somebody uses it.
//!
//! One [`Informer`] an object, made for its first user and dropped with its last. An object that says of itself that it
//! is immutable is read once and watched no more.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::{Arc, Weak},
    time::Duration,
};

use bosun_api::core;
use bosun_client::{Change, Informer, informer, projected};
use k8s_openapi::ByteString;
use kube::{Client, api::Api as KubeApi};
use parking_lot::Mutex;
use tokio::{sync::watch, task::JoinSet};

/// How long a pod waits for what it uses before it says so and tries again.
const PATIENCE: Duration = Duration::from_secs(5);

projected! {
    /// What pods use of a `ConfigMap`.
    struct ConfigMap: core::ConfigMap, without annotations {
        data: BTreeMap<String, String>,
        binary_data: BTreeMap<String, ByteString>,
        immutable: Option<bool>,
    }
}

projected! {
    /// What pods use of a Secret.
    struct Secret: core::Secret, without annotations {
        data: BTreeMap<String, ByteString>,
        immutable: Option<bool>,
    }
}

/// What kind of object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A `ConfigMap`.
    ConfigMap,
    /// A Secret.
    Secret,
}

/// An object that a pod uses.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectRef {
    /// What kind.
    pub kind: Kind,
    /// The pod's own namespace.
    pub namespace: String,
    /// The object's name.
    pub name: String,
}

impl Kind {
    /// As upstream's messages name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ConfigMap => "configmap",
            Self::Secret => "secret",
        }
    }
}

impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}", self.kind.as_str(), self.name)
    }
}

/// What an object holds, by key.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Payload {
    /// The values.
    pub data: BTreeMap<String, Vec<u8>>,
    immutable: bool,
}

impl Payload {
    /// With these values.
    pub fn of(data: BTreeMap<String, Vec<u8>>) -> Self {
        Self { data, immutable: false }
    }
}

impl fmt::Debug for Payload {
    // Values may be secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Payload")
            .field("keys", &self.data.keys())
            .finish_non_exhaustive()
    }
}

impl From<&ConfigMap> for Payload {
    fn from(object: &ConfigMap) -> Self {
        let texts = object
            .data
            .iter()
            .map(|(key, text)| (key.clone(), text.clone().into_bytes()));
        let bytes = object
            .binary_data
            .iter()
            .map(|(key, bytes)| (key.clone(), bytes.0.clone()));
        Self {
            data: texts.chain(bytes).collect(),
            immutable: object.immutable == Some(true),
        }
    }
}

impl From<&Secret> for Payload {
    fn from(object: &Secret) -> Self {
        let bytes = object.data.iter().map(|(key, bytes)| (key.clone(), bytes.0.clone()));
        Self {
            data: bytes.collect(),
            immutable: object.immutable == Some(true),
        }
    }
}

/// What is known of an object; outer `None` before anything is.
type Known = Option<Option<Arc<Payload>>>;

/// The objects in use.
pub struct Objects {
    client: Client,
    used: Mutex<HashMap<ObjectRef, Weak<Watched>>>,
}

struct Watched {
    known: watch::Receiver<Known>,
    _task: JoinSet<()>,
}

/// One user's hold on an object.
#[derive(Clone)]
pub struct Used(Arc<Watched>);

impl Objects {
    /// None yet; asked for by this client.
    pub fn new(client: Client) -> Self {
        Self {
            client,
            used: Mutex::default(),
        }
    }

    /// The object is watched for as long as what this gives lives. Must be called in a tokio runtime.
    pub fn hold(&self, object: &ObjectRef) -> Used {
        let mut used = self.used.lock();
        if let Some(watched) = used.get(object).and_then(Weak::upgrade) {
            return Used(watched);
        }
        used.retain(|_, watched| watched.strong_count() > 0);
        let (known_tx, known) = watch::channel(None);
        let mut task = JoinSet::new();
        let (client, namespace) = (self.client.clone(), &object.namespace);
        let config = informer::Config::default().fields(format!("metadata.name={}", object.name));
        match object.kind {
            Kind::ConfigMap => {
                let (informer, reader) = Informer::<ConfigMap>::new(KubeApi::namespaced(client, namespace), config);
                task.spawn(follow(informer.run(), reader, known_tx));
            }
            Kind::Secret => {
                let (informer, reader) = Informer::<Secret>::new(KubeApi::namespaced(client, namespace), config);
                task.spawn(follow(informer.run(), reader, known_tx));
            }
        }
        let watched = Arc::new(Watched { known, _task: task });
        used.insert(object.clone(), Arc::downgrade(&watched));
        Used(watched)
    }
}

impl fmt::Debug for Objects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Objects").finish_non_exhaustive()
    }
}

impl Used {
    /// The object, or `None` if there is none; fails if that can't be known now.
    pub async fn get(&self) -> Result<Option<Arc<Payload>>, String> {
        let mut known = self.0.known.clone();
        let waited = tokio::time::timeout(PATIENCE, known.wait_for(Option::is_some)).await;
        match waited {
            Ok(Ok(known)) => Ok(known.clone().flatten()),
            _ => Err("timed out waiting for the condition".to_owned()),
        }
    }

    /// Waits until the object is another than now.
    pub async fn changed(&self) {
        let mut known = self.0.known.clone();
        let before = known.borrow_and_update().clone();
        if known
            .wait_for(|known| *known != before && known.is_some())
            .await
            .is_err()
        {
            // Immutable, as it turned out.
            std::future::pending::<()>().await;
        }
    }
}

impl fmt::Debug for Used {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Used").finish_non_exhaustive()
    }
}

async fn follow<T>(informer: impl Future<Output = ()>, reader: bosun_client::Reader<T>, known_tx: watch::Sender<Known>)
where
    T: kube::Resource + Send + Sync + 'static,
    for<'a> Payload: From<&'a T>,
{
    let mut changes = reader.subscribe();
    let telling = async {
        reader.synced().await;
        let first = reader.list().first().map(|object| Arc::new(Payload::from(&**object)));
        let mut done = first.as_ref().is_some_and(|payload| payload.immutable);
        known_tx.send_replace(Some(first));
        while !done {
            let Some(change) = changes.recv().await else { break };
            let payload = match change {
                Change::Added(object) | Change::Updated { new: object, .. } => Some(Arc::new(Payload::from(&*object))),
                Change::Deleted(_) => None,
            };
            done = payload.as_ref().is_some_and(|payload| payload.immutable);
            known_tx.send_if_modified(|known| {
                let news = known.as_ref() != Some(&payload);
                *known = Some(payload);
                news
            });
        }
    };
    tokio::select! {
        () = telling => {}
        () = informer => {}
    }
    // The sender lives on: users ask it.
    known_tx.closed().await;
}
