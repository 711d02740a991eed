//! What is used of each quota of resources.
//!
//! Admission charges what is made; what goes is told to nobody there. So quotas are counted anew when pods or services
//! go or end, and every few minutes for all else. Pods and services are counted from what was heard of, other kinds by
//! asking the API how many there are.

mod usage;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use bosun_api::Quantity;
use bosun_client::{CallError, Change, ObjectKey, call::call};
use k8s_openapi::{api::core::v1 as core, apimachinery::pkg::api::resource::Quantity as Written};
use kube::{Api, ResourceExt, api::ListParams, core::DynamicObject};
use serde_json::json;

use self::usage::{Used, number};
use crate::{
    objects::Quota,
    runtime::{Context, Controller, Done, SyncError, Watches, discovery::Served, write},
};

/// Kinds whose changes aren't heard of are counted this often.
const RECOUNT: Duration = Duration::from_secs(300);

/// Counts. Its keys are quotas.
#[derive(Debug)]
pub struct Quotas(Context);

impl Quotas {
    /// Under the identity of the context's client.
    pub fn new(context: &Context) -> Self {
        Self(context.clone())
    }

    /// What is used of what a quota limits.
    async fn count(&self, namespace: &str, quota: &Quota) -> Result<Used, CallError> {
        let hard = quota.spec.hard.iter().flatten();
        let mut used: Used = hard.map(|(name, _)| (name.clone(), Quantity::ZERO)).collect();
        let mut add = |more: Used| {
            for (name, amount) in more {
                if let Some(sum) = used.get_mut(&name) {
                    *sum = *sum + amount;
                }
            }
        };
        let informers = &self.0.informers;
        for pod in informers.pods_by_namespace.get(namespace) {
            if usage::matches(&quota.spec, &pod) {
                add(usage::of_pod(&pod));
            }
        }
        if usage::is_scoped(&quota.spec) {
            return Ok(used);
        }
        for service in informers.services_by_namespace.get(namespace) {
            add(usage::of_service(&service));
        }
        let names: Vec<_> = used.keys().cloned().collect();
        if names
            .iter()
            .any(|name| name == "persistentvolumeclaims" || name.contains("storage"))
        {
            let claims = self.claims(namespace).await?;
            for (name, amount) in claims {
                if let Some(sum) = used.get_mut(&name) {
                    *sum = *sum + amount;
                }
            }
        }
        let served = Served::read(&self.0.client).await?;
        for name in names {
            if let Some(count) = self.objects(&served, namespace, &name).await? {
                used.insert(name, number(count));
            }
        }
        Ok(used)
    }

    /// How many objects there are of a kind that a quota names and that isn't counted otherwise.
    async fn objects(&self, served: &Served, namespace: &str, name: &str) -> Result<Option<usize>, CallError> {
        let plain = ["configmaps", "secrets", "replicationcontrollers", "resourcequotas"];
        let counted = match name.strip_prefix("count/") {
            Some("pods" | "services") => None,
            Some(counted) => Some(counted),
            None => plain.contains(&name).then_some(name),
        };
        let Some(counted) = counted else { return Ok(None) };
        let (plural, group) = counted.split_once('.').unwrap_or((counted, ""));
        let kind = served
            .kinds
            .iter()
            .find(|kind| kind.namespaced && kind.api.group == group && kind.api.plural == plural);
        let Some(kind) = kind else { return Ok(None) };
        let api: Api<DynamicObject> = Api::namespaced_with(self.0.client.clone(), namespace, &kind.api);
        let list = call(api.list_metadata(&ListParams::default())).await?;
        Ok(Some(list.items.len()))
    }

    async fn claims(&self, namespace: &str) -> Result<Used, CallError> {
        let api: Api<core::PersistentVolumeClaim> = Api::namespaced(self.0.client.clone(), namespace);
        let mut used = Used::new();
        for claim in call(api.list(&ListParams::default())).await?.items {
            let spec = claim.spec.unwrap_or_default();
            let requests = spec
                .resources
                .and_then(|resources| resources.requests)
                .unwrap_or_default();
            let size = requests
                .get("storage")
                .and_then(|size| Quantity::of(size).ok())
                .unwrap_or(Quantity::ZERO);
            let mut add = |name: String, amount: Quantity| {
                let sum = used.entry(name).or_insert(Quantity::ZERO);
                *sum = *sum + amount;
            };
            add("persistentvolumeclaims".to_owned(), number(1));
            add("requests.storage".to_owned(), size);
            if let Some(class) = spec.storage_class_name.filter(|class| !class.is_empty()) {
                add(
                    format!("{class}.storageclass.storage.k8s.io/persistentvolumeclaims"),
                    number(1),
                );
                add(format!("{class}.storageclass.storage.k8s.io/requests.storage"), size);
            }
        }
        Ok(used)
    }
}

/// Whether two lists of amounts are the same, however they are written.
fn same(held: Option<&BTreeMap<String, Written>>, wanted: &Used) -> bool {
    let held: Option<Used> = held.map(|held| {
        held.iter()
            .filter_map(|(name, amount)| Some((name.clone(), Quantity::of(amount).ok()?)))
            .collect()
    });
    held.as_ref() == Some(wanted)
}

#[async_trait]
impl Controller for Quotas {
    type Key = ObjectKey;

    fn name(&self) -> &'static str {
        "resourcequota"
    }

    fn watch(self: &Arc<Self>, watches: &mut Watches<ObjectKey>) {
        let informers = &self.0.informers;
        watches.on(&informers.quotas, |change| match change {
            Change::Updated { old, new } if old.spec == new.spec => None,
            Change::Deleted(_) => None,
            change => Some(ObjectKey::of(&**change.object())),
        });
        let quotas = informers.quotas.clone();
        let of = move |namespace: Option<String>| {
            let own = |quota: &&Arc<Quota>| namespace.is_some() && quota.metadata.namespace == namespace;
            quotas.with(|quotas| {
                quotas
                    .filter(own)
                    .map(|quota| ObjectKey::of(&**quota))
                    .collect::<Vec<_>>()
            })
        };
        let of_pods = of.clone();
        watches.on(&informers.pods, move |change| match change {
            Change::Updated { old, new } if old.is_finished() == new.is_finished() => Vec::new(),
            Change::Added(_) => Vec::new(),
            change => of_pods(change.object().namespace()),
        });
        watches.on(&informers.services, move |change| match change {
            Change::Deleted(service) => of(service.namespace()),
            _ => Vec::new(),
        });
    }

    async fn sync(&self, key: &ObjectKey) -> Result<Done, SyncError> {
        let Some(quota) = self.0.informers.quotas.get(key) else {
            return Ok(Done::Settled);
        };
        let used = self.count(&key.namespace, &quota).await?;
        let hard: Used = quota
            .spec
            .hard
            .iter()
            .flatten()
            .filter_map(|(name, amount)| Some((name.clone(), Quantity::of(amount).ok()?)))
            .collect();
        if !same(quota.status.hard.as_ref(), &hard) || !same(quota.status.used.as_ref(), &used) {
            let used: BTreeMap<_, _> = used
                .iter()
                .map(|(name, amount)| (name.clone(), amount.to_string()))
                .collect();
            let status = json!({"hard": quota.spec.hard, "used": used});
            write::update_status(&self.0.client, &*quota, &status).await?;
        }
        Ok(Done::Again(RECOUNT))
    }
}
