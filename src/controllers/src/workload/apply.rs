//! What workload controllers do to the API, on behalf of an owner of pods.
//!
//! Whatever is made or deleted is first noted as expected, so that nothing is made twice while informers lag; and no
//! plan is made on an owner that is older than what was last written of it.

use std::{collections::HashMap, marker::PhantomData, sync::Arc};

use bosun_client::{CallError, Change, ObjectKey, Recorder, call::call, events::Type};
use futures_util::{StreamExt, stream};
use k8s_openapi::{
    api::core::v1 as core,
    apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta},
};
use kube::{
    Client, Resource, ResourceExt,
    api::{DeleteParams, GetParams, Patch, PatchParams, PostParams},
    core::Request,
};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize, de::IgnoredAny};
use serde_json::{Value, json};
use tracing::debug;

use super::{
    Event, Pod,
    claim::{self, Claims},
    hash,
    revision::{Revision, Wanted},
    template::controller_ref,
};
use crate::{
    objects::controller_of,
    runtime::{Context, Expectations, write},
};

/// Calls under way at once for one owner.
const AT_ONCE: usize = 20;

/// What became of objects that were to be made or deleted.
#[derive(Debug, Default)]
pub struct Outcome {
    /// How many were not.
    pub failed: usize,
    /// Why, for the first of them.
    pub error: Option<CallError>,
}

/// The hands of a controller of `K`.
pub struct Apply<K> {
    /// Speaks under the controller's identity.
    pub client: Client,
    /// What was done and not yet heard of.
    pub expectations: Expectations,
    recorder: Recorder,
    /// The newest version of each owner that this controller wrote.
    written: Mutex<HashMap<ObjectKey, u64>>,
    kind: PhantomData<fn() -> K>,
}

/// An object that was written.
#[derive(Debug, Default, Deserialize)]
pub struct Written {
    /// Its metadata, with name and version.
    #[serde(default)]
    pub metadata: ObjectMeta,
}

impl<K: Resource<DynamicType = ()> + Clone + Send + Sync + 'static> Apply<K> {
    /// The hands of the controller that `context` is for.
    pub fn new(context: &Context) -> Self {
        Self {
            client: context.client.clone(),
            recorder: context.recorder.clone(),
            expectations: Expectations::default(),
            written: Mutex::default(),
            kind: PhantomData,
        }
    }

    /// Tells users what happened to `owner`.
    pub fn tell(&self, owner: &K, event: &Event) {
        let kind = if event.warning { Type::Warning } else { Type::Normal };
        self.recorder
            .event(&owner.object_ref(&()), kind, event.reason, event.message.clone());
    }

    /// Notes what was heard of a pod. Gives the owners that it concerns.
    pub fn heard(&self, change: &Change<Pod>) -> Vec<ObjectKey> {
        let pod = change.object();
        let mut keys: Vec<_> = owner_key::<K>(pod.meta()).into_iter().collect();
        match change {
            Change::Added(pod) if !pod.is_terminating() => {
                for key in &keys {
                    self.expectations.created(key);
                }
            }
            Change::Updated { new, .. } if !new.is_terminating() => {}
            _ => {
                for key in &keys {
                    self.expectations.deleted(key, pod.uid());
                }
            }
        }
        if let Change::Updated { old, .. } = change {
            keys.extend(owner_key::<K>(old.meta()).filter(|key| !keys.contains(key)));
        }
        keys
    }

    /// The owner is gone: what was noted of it can go.
    pub fn forget(&self, key: &ObjectKey) {
        self.expectations.forget(key);
        self.written.lock().remove(key);
    }

    /// The owner as it was heard of is older than what was written of it; what is newer is on its way.
    pub fn is_behind(&self, owner: &K) -> bool {
        let known = version(owner.meta());
        let written = self.written.lock().get(&ObjectKey::of(owner)).copied();
        known.zip(written).is_some_and(|(known, written)| known < written)
    }

    /// Writes the status of an owner as it was seen. `meta` is its metadata, perhaps with other annotations: some kinds
    /// take more than the status from such a write, so all that shall stay is written too.
    pub async fn write_status(&self, owner: &K, meta: &ObjectMeta, status: &impl Serialize) -> Result<(), CallError> {
        let body = json!({
            "apiVersion": K::api_version(&()),
            "kind": K::kind(&()),
            "metadata": meta,
            "status": status,
        });
        let request = Request::new(K::url_path(&(), meta.namespace.as_deref()));
        let name = meta.name.as_deref().unwrap_or_default();
        let request = request.replace_subresource("status", name, &PostParams::default(), body.to_string().into());
        let written: Written = self.send(request).await?;
        if let Some(version) = version(&written.metadata) {
            self.written.lock().insert(ObjectKey::of(owner), version);
        }
        Ok(())
    }

    /// Sends a request.
    pub async fn send<T: serde::de::DeserializeOwned>(
        &self,
        request: Result<http::Request<Vec<u8>>, kube::core::request::Error>,
    ) -> Result<T, CallError> {
        let request = request.map_err(|error| CallError::Request(error.into()))?;
        call(self.client.request::<T>(request)).await
    }

    /// Makes an object.
    pub async fn create<T: Resource<DynamicType = ()>>(
        &self,
        namespace: Option<&str>,
        object: &Value,
    ) -> Result<Written, CallError> {
        let request = Request::new(T::url_path(&(), namespace));
        self.send(request.create(&PostParams::default(), object.to_string().into()))
            .await
    }

    /// Changes an object by a patch.
    pub async fn patch<T: Resource<DynamicType = ()>>(
        &self,
        object: &T,
        patch: Patch<&Value>,
    ) -> Result<(), CallError> {
        let request = Request::new(T::url_path(&(), object.meta().namespace.as_deref()));
        let name = object.meta().name.as_deref().unwrap_or_default();
        self.send::<IgnoredAny>(request.patch(name, &PatchParams::default(), &patch))
            .await
            .map(drop)
    }

    /// Deletes an object if it still is this one. One that is gone is deleted.
    pub async fn delete<T: Resource<DynamicType = ()>>(
        &self,
        object: &T,
        params: &DeleteParams,
    ) -> Result<(), CallError> {
        let request = Request::new(T::url_path(&(), object.meta().namespace.as_deref()));
        let name = object.meta().name.as_deref().unwrap_or_default();
        match self.send::<IgnoredAny>(request.delete(name, params)).await {
            // Another of the same name has come since: this one is gone too.
            Err(error) if error.is_not_found() || error.is_conflict() => Ok(()),
            outcome => outcome.map(drop),
        }
    }

    /// Makes pods for an owner: one at first, then twice as many each time, until one can't be made, since most likely
    /// none of the others can.
    pub async fn create_pods(&self, owner: &K, pods: &[Value]) -> Outcome {
        let key = ObjectKey::of(owner);
        let namespace = owner.meta().namespace.as_deref();
        let (mut done, mut batch) = (0, 1);
        let mut outcome = Outcome::default();
        while done < pods.len() && outcome.error.is_none() {
            let these = &pods[done..pods.len().min(done + batch)];
            let calls: Vec<_> = these
                .iter()
                .map(|pod| self.create::<core::Pod>(namespace, pod))
                .collect();
            let mut made = stream::iter(calls).buffer_unordered(AT_ONCE);
            while let Some(made) = made.next().await {
                match made {
                    Ok(pod) => {
                        let name = pod.metadata.name.unwrap_or_default();
                        self.tell(
                            owner,
                            &Event::normal("SuccessfulCreate", format!("Created pod: {name}")),
                        );
                    }
                    Err(error) => {
                        self.expectations.not_created(&key, 1);
                        outcome.failed += 1;
                        // A namespace that goes takes no pods, and will need none.
                        if error.is_namespace_terminating() {
                            continue;
                        }
                        self.tell(
                            owner,
                            &Event::warning("FailedCreate", format!("Error creating: {error}")),
                        );
                        outcome.error.get_or_insert(error);
                    }
                }
            }
            done += these.len();
            batch *= 2;
        }
        self.expectations.not_created(&key, pods.len() - done);
        outcome.failed += pods.len() - done;
        outcome
    }

    /// Deletes pods of an owner.
    pub async fn delete_pods(&self, owner: &K, pods: &[Arc<Pod>]) -> Outcome {
        let key = ObjectKey::of(owner);
        let delete = |pod: &Arc<Pod>| {
            let pod = pod.clone();
            async move {
                let deleted = self.delete(&*pod, &write::only(&*pod)).await;
                (pod, deleted)
            }
        };
        let calls: Vec<_> = pods.iter().map(delete).collect();
        let mut deleted = stream::iter(calls).buffer_unordered(AT_ONCE);
        let mut outcome = Outcome::default();
        while let Some((pod, deleted)) = deleted.next().await {
            match deleted {
                Ok(()) => {
                    self.tell(
                        owner,
                        &Event::normal("SuccessfulDelete", format!("Deleted pod: {}", pod.name())),
                    );
                }
                Err(error) => {
                    self.expectations.deleted(&key, pod.uid());
                    outcome.failed += 1;
                    self.tell(
                        owner,
                        &Event::warning("FailedDelete", format!("Error deleting: {error}")),
                    );
                    outcome.error.get_or_insert(error);
                }
            }
        }
        outcome
    }

    /// Makes the revision that is wanted, or gives it its number. Whether it is there then: its name may be another's.
    pub async fn settle_revision(&self, owner: &K, wanted: &Wanted) -> Result<bool, CallError> {
        let namespace = owner.meta().namespace.as_deref();
        let (name, object) = match wanted {
            Wanted::Newest(_) => return Ok(true),
            Wanted::Again(revision, number) => {
                let patch = json!({"metadata": {"uid": revision.metadata.uid}, "revision": number});
                self.patch(&**revision, Patch::Merge(&patch)).await?;
                return Ok(true);
            }
            Wanted::New { name, object, .. } => (name, object),
        };
        match self.create::<Revision>(namespace, object).await {
            Err(error) if error.is_already_exists() => {
                let request = Request::new(Revision::url_path(&(), namespace));
                let there: Revision = self.send(request.get(name, &GetParams::default())).await?;
                let is_own = controller_of(&there.metadata).map(|owner| &owner.uid) == owner.meta().uid.as_ref();
                Ok(is_own && hash::canonical(&there.data) == hash::canonical(&object["data"]))
            }
            outcome => outcome.map(|_| true),
        }
    }

    /// Sees which of `objects` are the owner's, adopts those that may be and lets go of those that aren't any more.
    /// Gives all that are its own after that. With `finalizer`, what is adopted gets that too.
    pub async fn claim<T: Resource<DynamicType = ()>>(
        &self,
        owner: &K,
        selector: &LabelSelector,
        objects: impl IntoIterator<Item = Arc<T>>,
        finalizer: Option<&str>,
    ) -> Result<Vec<Arc<T>>, CallError> {
        let Claims {
            mut owned,
            adopt,
            release,
        } = claim::claim(owner.meta(), selector, objects);
        if !adopt.is_empty() && self.may_adopt(owner).await? {
            let reference = controller_ref::<K>(owner.meta());
            for object in adopt {
                let mut patch = claim::adoption(&reference, object.meta().uid.as_deref().unwrap_or_default());
                if let Some(finalizer) = finalizer {
                    patch["metadata"]["finalizers"] = json!([finalizer]);
                }
                match self.patch(&*object, Patch::Strategic(&patch)).await {
                    Ok(()) => owned.push(object),
                    Err(error) if is_gone(&error) => debug!(%error, "not adopted: it is gone or somebody else's"),
                    Err(error) => return Err(error),
                }
            }
        }
        for object in release {
            let uid = |meta: &ObjectMeta| meta.uid.clone().unwrap_or_default();
            let patch = claim::release(&uid(owner.meta()), &uid(object.meta()));
            match self.patch(&*object, Patch::Strategic(&patch)).await {
                Err(error) if !is_gone(&error) => return Err(error),
                _ => {}
            }
        }
        Ok(owned)
    }

    /// Asks the API itself, not the cache, whether the owner is still there: else orphans would be adopted by the dead.
    async fn may_adopt(&self, owner: &K) -> Result<bool, CallError> {
        let request = Request::new(K::url_path(&(), owner.meta().namespace.as_deref()));
        let name = owner.meta().name.as_deref().unwrap_or_default();
        match self.send::<Written>(request.get(name, &GetParams::default())).await {
            Ok(now) => Ok(now.metadata.uid == owner.meta().uid && now.metadata.deletion_timestamp.is_none()),
            Err(error) if error.is_not_found() => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// The object is gone, or another one by now, or somebody else's.
fn is_gone(error: &CallError) -> bool {
    use bosun_client::call::Class;
    matches!(error.class(), Class::NotFound | Class::Conflict | Class::Invalid)
}

fn version(meta: &ObjectMeta) -> Option<u64> {
    meta.resource_version.as_deref()?.parse().ok()
}

/// The key of the `K` that controls an object.
pub fn owner_key<K: Resource<DynamicType = ()>>(meta: &ObjectMeta) -> Option<ObjectKey> {
    let owner = controller_of(meta)?;
    let group = owner.api_version.split_once('/').map_or("", |(group, _)| group);
    let is_kind = owner.kind == K::kind(&()) && group == K::group(&());
    is_kind.then(|| ObjectKey::new(meta.namespace.clone().unwrap_or_default(), owner.name.clone()))
}

/// The owners of a namespace that select an object which nobody controls.
pub fn suitors<K, T>(
    owners: &bosun_client::Index<K, String>,
    object: &T,
    selector: impl Fn(&K) -> LabelSelector,
) -> Vec<ObjectKey>
where
    K: Resource<DynamicType = ()>,
    T: Resource<DynamicType = ()>,
{
    if controller_of(object.meta()).is_some() {
        return vec![];
    }
    let namespace = object.meta().namespace.as_deref().unwrap_or_default();
    let selects = |owner: &Arc<K>| bosun_api::selector::matches(&selector(owner), object.labels());
    owners
        .get(namespace)
        .iter()
        .filter(|owner| selects(owner))
        .map(|owner| ObjectKey::of(&**owner))
        .collect()
}
