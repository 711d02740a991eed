//! Brings StatefulSets in order.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use bosun_client::{CallError, Change, ObjectKey};
use jiff::Timestamp;
use k8s_openapi::{api::core::v1 as core, apimachinery::pkg::apis::meta::v1::OwnerReference};
use kube::{
    Resource,
    api::{GetParams, Patch, PostParams},
    core::Request,
};
use serde_json::{Value, json};

use super::{Claim, Plan, Snapshot, StatefulSet, Step, collided, identity, plan};
use crate::{
    informers::Informers,
    runtime::{Context, Controller, Done, SyncError, Watches, write},
    workload::{
        Apply, Event,
        apply::{owner_key, suitors},
        revision::{self, Revision},
    },
};

/// The controller of StatefulSets.
pub struct StatefulSets {
    apply: Apply<StatefulSet>,
    informers: Arc<Informers>,
}

impl StatefulSets {
    /// The controller of StatefulSets.
    pub fn new(context: &Context) -> Self {
        Self {
            apply: Apply::new(context),
            informers: context.informers.clone(),
        }
    }

    /// The claims of a set's pods, by name: those of each number that there is or shall be.
    fn claims(&self, set: &StatefulSet, pods: impl Iterator<Item = i32>) -> BTreeMap<String, Arc<Claim>> {
        let namespace = set.metadata.namespace.as_deref().unwrap_or_default();
        let wanted = set.start()..set.start().saturating_add(set.replicas());
        let mut claims = BTreeMap::new();
        for ordinal in wanted.chain(pods) {
            for volume in &set.spec.volume_claim_templates {
                let name = identity::claim_name(set.name(), &volume.metadata.name, ordinal);
                if let Some(claim) = self.informers.claims.get(&ObjectKey::new(namespace, name.clone())) {
                    claims.insert(name, claim);
                }
            }
        }
        claims
    }

    async fn step(&self, set: &StatefulSet, step: &Step) -> Result<(), CallError> {
        let namespace = set.metadata.namespace.as_deref();
        let (verb, pod, outcome) = match step {
            Step::Claim { pod, object } => return self.make_claim(set, pod, object).await,
            Step::Own(claim, owners) => return self.own(claim, owners).await,
            Step::Create(object) => {
                let pod = object["metadata"]["name"].as_str().unwrap_or_default();
                match self.apply.create::<core::Pod>(namespace, object).await {
                    // The informer will tell of it.
                    Err(error) if error.is_already_exists() => return Err(error),
                    Err(error) if error.is_namespace_terminating() => return Ok(()),
                    outcome => ("create", pod, outcome.map(drop)),
                }
            }
            Step::Delete(pod) => (
                "delete",
                pod.name(),
                self.apply.delete(&**pod, &write::only(&**pod)).await,
            ),
            Step::Label(pod, patch) => (
                "update",
                pod.name(),
                self.apply.patch(&**pod, Patch::Merge(patch)).await,
            ),
        };
        let (good, bad) = match verb {
            "create" => ("SuccessfulCreate", "FailedCreate"),
            "delete" => ("SuccessfulDelete", "FailedDelete"),
            _ => ("SuccessfulUpdate", "FailedUpdate"),
        };
        let told = format!("{verb} Pod {pod} in StatefulSet {}", set.name());
        let event = match &outcome {
            Ok(()) => Event::normal(good, format!("{told} successful")),
            Err(error) => Event::warning(bad, format!("{told} failed error: {error}")),
        };
        self.apply.tell(set, &event);
        outcome
    }

    async fn make_claim(&self, set: &StatefulSet, pod: &str, object: &Value) -> Result<(), CallError> {
        let claim = object["metadata"]["name"].as_str().unwrap_or_default();
        let told = format!("create Claim {claim} Pod {pod} in StatefulSet {}", set.name());
        match self
            .apply
            .create::<Claim>(set.metadata.namespace.as_deref(), object)
            .await
        {
            Ok(_) => {
                self.apply
                    .tell(set, &Event::normal("SuccessfulCreate", format!("{told} success")));
                Ok(())
            }
            Err(error) if error.is_already_exists() => Ok(()),
            Err(error) => {
                self.apply.tell(
                    set,
                    &Event::warning("FailedCreate", format!("{told} failed error: {error}")),
                );
                Err(error)
            }
        }
    }

    /// Changes the owners of a claim. Upstream's role of this controller lets it replace claims, not patch them.
    async fn own(&self, claim: &Claim, owners: &[OwnerReference]) -> Result<(), CallError> {
        let path = Claim::url_path(&(), claim.metadata.namespace.as_deref());
        let name = claim.metadata.name.as_deref().unwrap_or_default();
        let get = Request::new(path.clone()).get(name, &GetParams::default());
        let mut object: Value = self.apply.send(get).await?;
        object["metadata"]["ownerReferences"] = json!(owners);
        object["metadata"]["uid"] = json!(claim.metadata.uid);
        object["metadata"]["resourceVersion"] = json!(claim.metadata.resource_version);
        let put = Request::new(path).replace(name, &PostParams::default(), object.to_string().into());
        self.apply.send::<serde::de::IgnoredAny>(put).await.map(drop)
    }

    async fn apply(&self, set: &StatefulSet, plan: &Plan) -> Result<(), SyncError> {
        if !self.apply.settle_revision(set, &plan.revision).await? {
            self.apply.write_status(set, &set.metadata, &collided(set)).await?;
            return Err(SyncError::Other(format!(
                "{} is the name of another revision",
                plan.revision.name()
            )));
        }
        plan.events.iter().for_each(|event| self.apply.tell(set, event));
        let mut failed = None;
        for step in &plan.steps {
            if let Err(error) = self.step(set, step).await {
                failed = Some(error);
                break;
            }
        }
        if plan.status != set.status {
            self.apply.write_status(set, &set.metadata, &plan.status).await?;
        }
        if let Some(error) = failed {
            return Err(error.into());
        }
        for revision in &plan.forget {
            self.apply.delete(&**revision, &write::only(&**revision)).await?;
        }
        Ok(())
    }
}

#[async_trait]
impl Controller for StatefulSets {
    type Key = ObjectKey;

    fn name(&self) -> &'static str {
        "statefulset"
    }

    fn watch(self: &Arc<Self>, watches: &mut Watches<ObjectKey>) {
        let informers = &self.informers;
        watches.on(&informers.stateful_sets, |change| [ObjectKey::of(&**change.object())]);
        watches.on(&informers.revisions, |change: &Change<Revision>| {
            owner_key::<StatefulSet>(&change.object().metadata)
        });
        let this = self.clone();
        watches.on(&informers.pods, move |change| {
            let mut keys = this.apply.heard(change);
            keys.extend(suitors(
                &this.informers.stateful_sets_by_namespace,
                &**change.object(),
                |set| set.spec.selector.clone(),
            ));
            keys
        });
        // A pod may wait for a claim to be gone.
        let this = self.clone();
        watches.on(&informers.claims, move |change: &Change<Claim>| {
            let claim = ObjectKey::of(&**change.object());
            let is_of = |set: &Arc<StatefulSet>| {
                let mut volumes = set.spec.volume_claim_templates.iter();
                volumes.any(|volume| {
                    claim
                        .name
                        .starts_with(&format!("{}-{}-", volume.metadata.name, set.name()))
                })
            };
            let sets = this.informers.stateful_sets_by_namespace.get(claim.namespace.as_str());
            let keys: Vec<_> = sets
                .iter()
                .filter(|set| is_of(set))
                .map(|set| ObjectKey::of(&**set))
                .collect();
            keys
        });
    }

    async fn sync(&self, key: &ObjectKey) -> Result<Done, SyncError> {
        let informers = &self.informers;
        let Some(set) = informers.stateful_sets.get(key) else {
            self.apply.forget(key);
            return Ok(Done::Settled);
        };
        if self.apply.is_behind(&set) {
            return Ok(Done::Settled);
        }
        let uid = set.metadata.uid.as_deref().unwrap_or_default();
        let selector = &set.spec.selector;
        let ordinal = |name: &str| identity::ordinal(set.name(), name);
        let mut orphans = informers.orphan_pods.get(key.namespace.as_str());
        orphans.retain(|pod| ordinal(pod.name()).is_some());
        let pods = informers.pods_by_controller.get(uid).into_iter().chain(orphans);
        let pods = self.apply.claim(&*set, selector, pods, None).await?;
        let revisions = informers.revisions_by_controller.get(uid).into_iter();
        let revisions = revisions.chain(informers.orphan_revisions.get(key.namespace.as_str()));
        let mut revisions = self.apply.claim(&*set, selector, revisions, None).await?;
        revision::sort(&mut revisions);
        let claims = self.claims(&set, pods.iter().filter_map(|pod| ordinal(pod.name())));
        let now = Timestamp::now();
        let plan = plan(Snapshot {
            set: &set,
            pods: &pods,
            revisions: &revisions,
            claims: &claims,
            now,
        });
        self.apply(&set, &plan).await?;
        let delay = plan.next.map(|at| at.duration_since(now));
        Ok(Done::after(delay.and_then(|delay| Duration::try_from(delay).ok())))
    }
}
