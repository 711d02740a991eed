//! Metadata of every kind that is served, followed as kinds come and go.

use std::{borrow::Cow, collections::HashMap, sync::Arc, time::Duration};

use bosun_client::{Change, Informer, Reader, informer::Config, projected::metadata_without_annotations};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{
    Api, Client, Resource,
    core::{ApiResource, DynamicResourceScope},
};
use serde::{Deserialize, Deserializer};
use tokio::{
    sync::mpsc,
    task::{AbortHandle, JoinSet},
};
use tracing::{debug, warn};

use crate::runtime::discovery::{Kind, Served};

/// How long a kind's first list may keep all others waiting. A kind whose server is away shall not stop the rest.
const FIRST_LIST: Duration = Duration::from_secs(30);

/// An object of any kind: who it is, and who owns it.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct Object {
    #[serde(default, deserialize_with = "bare")]
    metadata: ObjectMeta,
}

fn bare<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ObjectMeta, D::Error> {
    let mut meta = metadata_without_annotations(deserializer)?;
    meta.labels = None;
    Ok(meta)
}

impl Resource for Object {
    type DynamicType = ApiResource;
    type Scope = DynamicResourceScope;

    fn kind(api: &ApiResource) -> Cow<'_, str> {
        api.kind.as_str().into()
    }

    fn group(api: &ApiResource) -> Cow<'_, str> {
        api.group.as_str().into()
    }

    fn version(api: &ApiResource) -> Cow<'_, str> {
        api.version.as_str().into()
    }

    fn plural(api: &ApiResource) -> Cow<'_, str> {
        api.plural.as_str().into()
    }

    fn metadata_api() -> bool {
        true
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

/// What is heard of an object of a kind.
pub(super) type Heard = (Arc<Kind>, Change<Object>);

/// A kind that is followed.
struct Followed {
    kind: Arc<Kind>,
    reader: Reader<Object>,
    task: AbortHandle,
}

/// One informer for each kind that can own and be owned.
pub(super) struct Monitors {
    client: Client,
    heard: mpsc::UnboundedSender<Heard>,
    tasks: JoinSet<()>,
    /// By group and plural.
    running: HashMap<(String, String), Followed>,
}

impl Monitors {
    pub(super) fn new(client: Client, heard: mpsc::UnboundedSender<Heard>) -> Self {
        Self {
            client,
            heard,
            tasks: JoinSet::new(),
            running: HashMap::new(),
        }
    }

    /// Follows what is served now, and no longer what isn't.
    pub(super) fn follow(&mut self, served: &Served) {
        let wanted: HashMap<_, _> = served
            .kinds
            .iter()
            .filter(|kind| is_followed(kind))
            .map(|kind| ((kind.api.group.clone(), kind.api.plural.clone()), kind))
            .collect();
        self.running.retain(|name, Followed { kind, reader, task }| {
            let keep = wanted.get(name).is_some_and(|wanted| **wanted == **kind);
            if !keep {
                debug!(kind = kind.api.kind, group = kind.api.group, "no longer followed");
                task.abort();
                // The kind is no more, so neither are its objects; of another version they are heard of again.
                for object in reader.list() {
                    let _ = self.heard.send((kind.clone(), Change::Deleted(object)));
                }
            }
            keep
        });
        for (name, kind) in wanted {
            if self.running.contains_key(&name) {
                continue;
            }
            let kind = Arc::new(kind.clone());
            let (informer, reader) =
                Informer::<Object>::new(Api::all_with(self.client.clone(), &kind.api), Config::default());
            let (mut changes, heard, of) = (reader.subscribe(), self.heard.clone(), kind.clone());
            let forward = async move {
                while let Some(change) = changes.recv().await {
                    if heard.send((of.clone(), change)).is_err() {
                        return;
                    }
                }
            };
            let task = self.tasks.spawn(async move {
                tokio::join!(informer.run(), forward);
            });
            self.running.insert(name, Followed { kind, reader, task });
        }
        // What was aborted is of no interest.
        while self.tasks.try_join_next().is_some() {}
    }

    /// Waits until every kind was listed once, or long enough for it.
    pub(super) async fn synced(&self) {
        let all = async {
            for followed in self.running.values() {
                followed.reader.synced().await;
            }
        };
        if tokio::time::timeout(FIRST_LIST, all).await.is_err() {
            let late = self.running.values().filter(|followed| !followed.reader.is_synced());
            let late: Vec<_> = late.map(|followed| &followed.kind.api.plural).collect();
            warn!(
                ?late,
                "some kinds can't be listed: what they own is kept until they can"
            );
        }
    }
}

/// Events own nothing, are owned by nothing and are many.
fn is_followed(kind: &Kind) -> bool {
    kind.can(&["list", "watch", "delete"]) && kind.api.plural != "events"
}
