//! Where services are served: endpoint slices, and Endpoints, the form that came before.
//!
//! - [`Slices`]: slices of services that select pods. [`OldEndpoints`]: the same as Endpoints.
//! - [`Mirror`]: slices of Endpoints that somebody writes for services that select nothing.
//! - `backend`: which pods serve, and how well; `pack`: over which slices they are spread; `subsets`: the old form. Pure.

mod backend;
mod pack;
mod subsets;

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use async_trait::async_trait;
use bosun_api::selector;
use bosun_client::{CallError, Change, Index, ObjectKey, call::call};
use k8s_openapi::{
    api::{core::v1 as core, discovery::v1 as discovery},
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
};
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, PostParams},
};

use parking_lot::Mutex;

use self::{
    backend::{Backend, backends, first_family, is_of},
    pack::{Content, Plan},
};
use crate::{
    objects::{EndpointSlice, Endpoints, Pod, Service},
    runtime::{Context, Controller, Done, Expectations, SyncError, Watches, write::only},
};

const SERVICE: &str = "kubernetes.io/service-name";
const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
const HEADLESS: &str = "service.kubernetes.io/headless";
const SKIP_MIRROR: &str = "endpointslice.kubernetes.io/skip-mirror";
const ENDPOINTS_MANAGED_BY: &str = "endpoints.kubernetes.io/managed-by";
const LEADER: &str = "control-plane.alpha.kubernetes.io/leader";

/// The services that a change of a pod concerns: those that selected it before or do now.
fn services_of(context: &Context, change: &Change<Pod>) -> Vec<ObjectKey> {
    let pod = change.object();
    if let Change::Updated { old, new } = change
        && same_backend(old, new)
    {
        return Vec::new();
    }
    let namespace = pod.namespace().unwrap_or_default();
    let services = context.informers.services_by_namespace.get(&namespace);
    let selects = |service: &Service, pod: &Pod| selector::includes(pod.labels(), &service.spec.selector);
    let concerned = services.iter().filter(|service| {
        let before = matches!(change, Change::Updated { old, .. } if selects(service, old));
        !service.spec.selector.is_empty() && (before || selects(service, pod))
    });
    concerned.map(|service| ObjectKey::of(&**service)).collect()
}

/// Whether a change of a pod changes nothing for who reaches it.
fn same_backend(old: &Pod, new: &Pod) -> bool {
    old.labels() == new.labels()
        && old.status.pod_ips == new.status.pod_ips
        && old.is_ready() == new.is_ready()
        && old.is_terminating() == new.is_terminating()
        && old.is_finished() == new.is_finished()
        && old.node() == new.node()
}

/// The pods that a service selects.
fn selected(context: &Context, service: &Service) -> Vec<Arc<Pod>> {
    let namespace = service.metadata.namespace.as_deref().unwrap_or_default();
    let mut pods = context.informers.pods_by_namespace.get(namespace);
    pods.retain(|pod| selector::includes(pod.labels(), &service.spec.selector));
    pods
}

/// What makes slices of one manager and writes them.
struct Writer {
    client: Client,
    manager: &'static str,
    expectations: Arc<Expectations>,
}

impl Writer {
    /// Hears that a slice that was made is there, and that one is otherwise than it was left.
    fn hear(&self, change: &Change<EndpointSlice>) -> Option<ObjectKey> {
        let slice = change.object();
        if slice.labels().get(MANAGED_BY).map(String::as_str) != Some(self.manager) {
            return None;
        }
        let key = ObjectKey::new(slice.namespace()?, slice.labels().get(SERVICE)?);
        if matches!(change, Change::Added(_)) {
            self.expectations.created(&key);
        }
        Some(key)
    }

    fn held(&self, slices: &Index<EndpointSlice, String>, key: &ObjectKey) -> Vec<Arc<EndpointSlice>> {
        let mut held = slices.get(&key.to_string());
        held.retain(|slice| slice.labels().get(MANAGED_BY).map(String::as_str) == Some(self.manager));
        held
    }

    async fn apply(
        &self,
        key: &ObjectKey,
        meta: &ObjectMeta,
        held: &[Arc<EndpointSlice>],
        mut plan: Plan,
    ) -> Result<(), CallError> {
        let api: Api<discovery::EndpointSlice> = Api::namespaced(self.client.clone(), &key.namespace);
        for slice in held {
            // Labels alone may have changed.
            let name = slice.name_any();
            let planned = plan.delete.contains(&name) || plan.update.iter().any(|(changed, _)| *changed == name);
            if slice.metadata.labels != meta.labels && !planned {
                let ports = slice.ports.iter().map(|port| backend::Port {
                    name: port.name.clone(),
                    protocol: port.protocol.clone(),
                    number: port.port,
                    app_protocol: port.app_protocol.clone(),
                });
                let content = Content {
                    family: slice.address_type.clone(),
                    ports: ports.collect(),
                    endpoints: slice.endpoints.clone(),
                };
                plan.update.push((name, content));
            }
        }
        // What is new first, so that nothing is without an endpoint in between.
        self.expectations.expect(key, plan.create.len(), []);
        let mut creations = plan.create.iter();
        while let Some(content) = creations.next() {
            let new = ObjectMeta {
                generate_name: Some(format!("{}-", key.name)),
                ..meta.clone()
            };
            let created = call(api.create(&PostParams::default(), &slice(new, content))).await;
            if let Err(error) = created {
                self.expectations.not_created(key, creations.len() + 1);
                return if error.is_namespace_terminating() {
                    Ok(())
                } else {
                    Err(error)
                };
            }
        }
        for (name, content) in &plan.update {
            let held = held.iter().find(|slice| slice.name_any() == *name);
            let updated = ObjectMeta {
                name: Some(name.clone()),
                resource_version: held.and_then(|slice| slice.metadata.resource_version.clone()),
                annotations: held.and_then(|slice| slice.metadata.annotations.clone()),
                generate_name: held.and_then(|slice| slice.metadata.generate_name.clone()),
                ..meta.clone()
            };
            call(api.replace(name, &PostParams::default(), &slice(updated, content))).await?;
        }
        for name in &plan.delete {
            let held = held.iter().find(|slice| slice.name_any() == *name);
            let params = held.map_or_else(DeleteParams::default, |slice| only(&**slice));
            match call(api.delete(name, &params)).await {
                Err(error) if !error.is_not_found() && !error.is_conflict() => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// Labels and owner of a service's slices.
    fn meta(
        &self,
        key: &ObjectKey,
        labels: &BTreeMap<String, String>,
        headless: bool,
        owner: OwnerReference,
    ) -> ObjectMeta {
        let reserved = [SERVICE, MANAGED_BY, HEADLESS, SKIP_MIRROR, ENDPOINTS_MANAGED_BY];
        let mut all: BTreeMap<_, _> = labels
            .iter()
            .filter(|(name, _)| !reserved.contains(&name.as_str()))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        all.insert(SERVICE.to_owned(), key.name.clone());
        all.insert(MANAGED_BY.to_owned(), self.manager.to_owned());
        if headless {
            all.insert(HEADLESS.to_owned(), String::new());
        }
        ObjectMeta {
            namespace: Some(key.namespace.clone()),
            labels: Some(all),
            owner_references: Some(vec![owner]),
            ..ObjectMeta::default()
        }
    }
}

fn slice(metadata: ObjectMeta, content: &Content) -> discovery::EndpointSlice {
    discovery::EndpointSlice {
        metadata,
        address_type: content.family.clone(),
        endpoints: Some(content.endpoints.clone()),
        ports: Some(content.ports.iter().map(pack::wire).collect()),
    }
}

fn owner(object: &impl kube::Resource<DynamicType = ()>) -> OwnerReference {
    OwnerReference {
        block_owner_deletion: Some(true),
        ..object.controller_owner_ref(&()).unwrap_or_default()
    }
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer")
            .field("manager", &self.manager)
            .finish_non_exhaustive()
    }
}

/// Keeps slices of services that select pods. Its keys are services.
#[derive(Debug)]
pub struct Slices {
    context: Context,
    writer: Arc<Writer>,
}

impl Slices {
    /// Under the identity of the context's client.
    pub fn new(context: &Context) -> Self {
        let writer = Writer {
            client: context.client.clone(),
            manager: "endpointslice-controller.k8s.io",
            expectations: Arc::default(),
        };
        Self {
            context: context.clone(),
            writer: Arc::new(writer),
        }
    }
}

#[async_trait]
impl Controller for Slices {
    type Key = ObjectKey;

    fn name(&self) -> &'static str {
        "endpointslice"
    }

    fn watch(self: &Arc<Self>, watches: &mut Watches<ObjectKey>) {
        let informers = &self.context.informers;
        watches.on(&informers.services, |change| Some(ObjectKey::of(&**change.object())));
        let writer = self.writer.clone();
        watches.on(&informers.endpoint_slices, move |change| writer.hear(change));
        let context = self.context.clone();
        watches.on(&informers.pods, move |change| services_of(&context, change));
        watches.needs(&informers.nodes);
    }

    async fn sync(&self, key: &ObjectKey) -> Result<Done, SyncError> {
        let informers = &self.context.informers;
        let Some(service) = informers.services.get(key) else {
            // Its slices are collected with it.
            self.writer.expectations.forget(key);
            return Ok(Done::Settled);
        };
        if service.spec.selector.is_empty() || service.spec.type_ == "ExternalName" {
            return Ok(Done::Settled);
        }
        if !self.writer.expectations.satisfied(key) {
            return Ok(Done::Settled);
        }
        let pods = selected(&self.context, &service);
        let families = service.spec.ip_families.iter();
        let families: Vec<_> = families
            .map(|family| {
                (
                    family.clone(),
                    backends(&service, pods.iter().map(|pod| &**pod), family),
                )
            })
            .collect();
        let zone_of = |node: &str| {
            let node = informers.nodes.get(&ObjectKey::cluster(node))?;
            node.labels().get("topology.kubernetes.io/zone").cloned()
        };
        let held = self.writer.held(&informers.slices_by_service, key);
        let plan = pack::plan(&families, zone_of, &held);
        let headless = service.spec.cluster_ip == "None";
        let meta = self.writer.meta(key, service.labels(), headless, owner(&*service));
        self.writer.apply(key, &meta, &held, plan).await?;
        Ok(Done::Settled)
    }
}

/// Keeps Endpoints of services that select pods. Its keys are services.
#[derive(Debug)]
pub struct OldEndpoints {
    context: Context,
    /// Services that were heard to be deleted, whose Endpoints go with them whoever wrote them.
    deleted: Arc<Mutex<HashSet<ObjectKey>>>,
}

impl OldEndpoints {
    /// Under the identity of the context's client.
    pub fn new(context: &Context) -> Self {
        Self {
            context: context.clone(),
            deleted: Arc::default(),
        }
    }
}

#[async_trait]
impl Controller for OldEndpoints {
    type Key = ObjectKey;

    fn name(&self) -> &'static str {
        "endpoints"
    }

    fn watch(self: &Arc<Self>, watches: &mut Watches<ObjectKey>) {
        let informers = &self.context.informers;
        let deleted = self.deleted.clone();
        watches.on(&informers.services, move |change| {
            let key = ObjectKey::of(&**change.object());
            if matches!(change, Change::Deleted(_)) {
                deleted.lock().insert(key.clone());
            }
            Some(key)
        });
        watches.on(&informers.endpoints, |change| Some(ObjectKey::of(&**change.object())));
        let context = self.context.clone();
        watches.on(&informers.pods, move |change| services_of(&context, change));
    }

    async fn sync(&self, key: &ObjectKey) -> Result<Done, SyncError> {
        let informers = &self.context.informers;
        let api: Api<core::Endpoints> = Api::namespaced(self.context.client.clone(), &key.namespace);
        let held = informers.endpoints.get(key);
        let Some(service) = informers.services.get(key) else {
            // Endpoints have no owner: they go by name. Those that were written before their service stay.
            let goes = self.deleted.lock().contains(key);
            let goes = |held: &Endpoints| goes || held.labels().contains_key(ENDPOINTS_MANAGED_BY);
            if let Some(held) = held.filter(|held| goes(held)) {
                match call(api.delete(&key.name, &only(&*held))).await {
                    Err(error) if !error.is_not_found() && !error.is_conflict() => return Err(error.into()),
                    _ => {}
                }
            }
            self.deleted.lock().remove(key);
            return Ok(Done::Settled);
        };
        if service.spec.selector.is_empty() || service.spec.type_ == "ExternalName" {
            return Ok(Done::Settled);
        }
        let pods = selected(&self.context, &service);
        let found: Vec<Backend> = backends(&service, pods.iter().map(|pod| &**pod), first_family(&service));
        let subsets = subsets::subsets(&found);
        let mut labels = service.labels().clone();
        labels.insert(ENDPOINTS_MANAGED_BY.to_owned(), "endpoint-controller".to_owned());
        if service.spec.cluster_ip == "None" {
            labels.insert(HEADLESS.to_owned(), String::new());
        }
        if held
            .as_ref()
            .is_some_and(|held| held.subsets == subsets && *held.labels() == labels)
        {
            return Ok(Done::Settled);
        }
        let before = held.as_ref().map(|held| held.metadata.clone()).unwrap_or_default();
        let endpoints = core::Endpoints {
            metadata: ObjectMeta {
                name: Some(key.name.clone()),
                namespace: Some(key.namespace.clone()),
                labels: Some(labels),
                annotations: before.annotations,
                resource_version: before.resource_version,
                ..ObjectMeta::default()
            },
            subsets: Some(subsets),
        };
        let params = PostParams::default();
        let written = match held {
            Some(_) => call(api.replace(&key.name, &params, &endpoints)).await,
            None => call(api.create(&params, &endpoints)).await,
        };
        match written {
            Err(error) if error.is_namespace_terminating() => Ok(Done::Settled),
            Err(error) => Err(error.into()),
            Ok(_) => Ok(Done::Settled),
        }
    }
}

/// Keeps slices of Endpoints that somebody writes. Its keys are services.
#[derive(Debug)]
pub struct Mirror {
    context: Context,
    writer: Arc<Writer>,
}

impl Mirror {
    /// Under the identity of the context's client.
    pub fn new(context: &Context) -> Self {
        let writer = Writer {
            client: context.client.clone(),
            manager: "endpointslicemirroring-controller.k8s.io",
            expectations: Arc::default(),
        };
        Self {
            context: context.clone(),
            writer: Arc::new(writer),
        }
    }
}

/// Whether Endpoints are somebody's own, to be mirrored.
fn is_mirrored(endpoints: &Endpoints, service: &Service) -> bool {
    service.spec.selector.is_empty()
        && endpoints.labels().get(SKIP_MIRROR).map(String::as_str) != Some("true")
        && !endpoints.annotations().contains_key(LEADER)
}

#[async_trait]
impl Controller for Mirror {
    type Key = ObjectKey;

    fn name(&self) -> &'static str {
        "endpointslice-mirroring"
    }

    fn watch(self: &Arc<Self>, watches: &mut Watches<ObjectKey>) {
        let informers = &self.context.informers;
        watches.on(&informers.services, |change| Some(ObjectKey::of(&**change.object())));
        watches.on(&informers.endpoints, |change| Some(ObjectKey::of(&**change.object())));
        let writer = self.writer.clone();
        watches.on(&informers.endpoint_slices, move |change| writer.hear(change));
    }

    async fn sync(&self, key: &ObjectKey) -> Result<Done, SyncError> {
        let informers = &self.context.informers;
        if !self.writer.expectations.satisfied(key) {
            return Ok(Done::Settled);
        }
        let held = self.writer.held(&informers.slices_by_service, key);
        let both = informers.endpoints.get(key).zip(informers.services.get(key));
        let Some((endpoints, _)) = both.filter(|(endpoints, service)| is_mirrored(endpoints, service)) else {
            self.writer.expectations.forget(key);
            if held.is_empty() {
                return Ok(Done::Settled);
            }
            let plan = Plan {
                delete: held.iter().map(|slice| slice.name_any()).collect(),
                ..Plan::default()
            };
            self.writer.apply(key, &ObjectMeta::default(), &held, plan).await?;
            return Ok(Done::Settled);
        };
        let families = ["IPv4", "IPv6"].map(|family| {
            (
                family.to_owned(),
                subsets::mirrored(&endpoints.subsets, |address| is_of(address, family)),
            )
        });
        let families: Vec<_> = families
            .into_iter()
            .filter(|(_, backends)| !backends.is_empty())
            .collect();
        let plan = pack::plan(&families, |_| None, &held);
        let meta = self.writer.meta(key, endpoints.labels(), false, owner(&*endpoints));
        self.writer.apply(key, &meta, &held, plan).await?;
        Ok(Done::Settled)
    }
}
