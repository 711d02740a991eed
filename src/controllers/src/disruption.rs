//! Budgets of disruptions: how many pods of each may be evicted now. The API's eviction counts down what is written
//! here.

mod plan;

use std::{collections::HashMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use bosun_api::selector;
use bosun_client::{CallError, Change, ObjectKey, call::call};
use jiff::Timestamp;
use k8s_openapi::{
    api::{apps::v1 as apps, autoscaling::v1::Scale},
    apimachinery::pkg::apis::meta::v1::OwnerReference,
};
use kube::{
    Api, ResourceExt,
    core::{DynamicObject, Request},
};
use parking_lot::Mutex;
use serde_json::json;

use crate::{
    objects::{DisruptionBudget, Pod, controller_of},
    runtime::{Context, Controller, Done, SyncError, Watches, discovery::Served, write},
};

/// Keeps the status of budgets. Its keys are budgets.
#[derive(Debug)]
pub struct Disruptions {
    context: Context,
    served: Mutex<Arc<Served>>,
}

fn selects(budget: &DisruptionBudget, pod: &Pod) -> bool {
    let selected = budget
        .spec
        .selector
        .as_ref()
        .is_some_and(|wanted| selector::matches(wanted, pod.labels()));
    selected && budget.metadata.namespace == pod.metadata.namespace
}

impl Disruptions {
    /// Under the identity of the context's client.
    pub fn new(context: &Context) -> Self {
        Self {
            context: context.clone(),
            served: Mutex::default(),
        }
    }

    /// How many pods those want, all in all, who control these. Pods that nobody controls count for nothing, as do those
    /// of controllers that can't be scaled.
    async fn expected(&self, namespace: &str, pods: &[Arc<Pod>]) -> Result<i32, CallError> {
        let owners = pods.iter().filter_map(|pod| controller_of(&pod.metadata));
        let owners: HashMap<_, _> = owners.map(|owner| (&owner.uid, owner)).collect();
        let mut scaled = HashMap::new();
        for owner in owners.into_values() {
            let owner = self.scaled(namespace, owner).await?;
            scaled.insert(owner.uid.clone(), owner);
        }
        let mut expected = 0_i32;
        for owner in scaled.values() {
            expected = expected.saturating_add(self.scale(namespace, owner).await?);
        }
        Ok(expected)
    }

    /// Who decides how many pods there are: of a replica set, its deployment.
    async fn scaled(&self, namespace: &str, owner: &OwnerReference) -> Result<OwnerReference, CallError> {
        if owner.kind != "ReplicaSet" {
            return Ok(owner.clone());
        }
        let api: Api<apps::ReplicaSet> = Api::namespaced(self.context.client.clone(), namespace);
        let set = call(api.get_metadata_opt(&owner.name)).await?;
        let set = set.filter(|set| set.metadata.uid.as_deref() == Some(&owner.uid));
        Ok(set
            .and_then(|set| controller_of(&set.metadata).cloned())
            .unwrap_or_else(|| owner.clone()))
    }

    async fn scale(&self, namespace: &str, owner: &OwnerReference) -> Result<i32, CallError> {
        let mut served = self.served.lock().clone();
        if served.find(&owner.api_version, &owner.kind).is_none() {
            served = Arc::new(Served::read(&self.context.client).await?);
            *self.served.lock() = served.clone();
        }
        let Some(kind) = served.find(&owner.api_version, &owner.kind) else {
            return Ok(0);
        };
        let api: Api<DynamicObject> = Api::namespaced_with(self.context.client.clone(), namespace, &kind.api);
        let request = Request::new(api.resource_url().to_owned()).get_subresource("scale", &owner.name);
        let request = request.map_err(|error| CallError::Request(error.into()))?;
        match call(self.context.client.request::<Scale>(request)).await {
            Ok(scale) => Ok(scale.spec.and_then(|spec| spec.replicas).unwrap_or(0)),
            Err(error) if error.is_not_found() => Ok(0),
            Err(error) => Err(error),
        }
    }
}

#[async_trait]
impl Controller for Disruptions {
    type Key = ObjectKey;

    fn name(&self) -> &'static str {
        "disruption"
    }

    fn watch(self: &Arc<Self>, watches: &mut Watches<ObjectKey>) {
        let informers = &self.context.informers;
        watches.on(&informers.budgets, |change| Some(ObjectKey::of(&**change.object())));
        let budgets = informers.budgets.clone();
        watches.on(&informers.pods, move |change| {
            if let Change::Updated { old, new } = change
                && (old.is_ready(), old.is_terminating(), old.labels())
                    == (new.is_ready(), new.is_terminating(), new.labels())
            {
                return Vec::new();
            }
            let before = match change {
                Change::Updated { old, .. } => Some(old),
                _ => None,
            };
            let concerned = |budget: &&Arc<DisruptionBudget>| {
                selects(budget, change.object()) || before.is_some_and(|pod| selects(budget, pod))
            };
            budgets.with(|budgets| {
                budgets
                    .filter(concerned)
                    .map(|budget| ObjectKey::of(&**budget))
                    .collect()
            })
        });
    }

    async fn sync(&self, key: &ObjectKey) -> Result<Done, SyncError> {
        let Some(budget) = self.context.informers.budgets.get(key) else {
            return Ok(Done::Settled);
        };
        let mut pods = self.context.informers.pods_by_namespace.get(&key.namespace);
        pods.retain(|pod| selects(&budget, pod));
        let expected = if plan::needs_scale(&budget.spec) {
            self.expected(&key.namespace, &pods).await?
        } else {
            0
        };
        let (now, generation) = (Timestamp::now(), budget.metadata.generation);
        let plan =
            plan::plan(&budget.spec, &budget.status, generation, &pods, expected, now).map_err(SyncError::Other)?;
        if plan.status != budget.status {
            write::update_status(&self.context.client, &*budget, &json!(plan.status)).await?;
        }
        let next = plan
            .next
            .map(|at| now.duration_until(at).try_into().unwrap_or(Duration::from_secs(1)));
        Ok(Done::after(next))
    }
}
