//! Brings DaemonSets in order.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use bosun_client::{Change, ObjectKey};
use jiff::Timestamp;
use parking_lot::Mutex;

use super::{DaemonSet, Node, Plan, Snapshot, collided, plan};
use crate::{
    informers::Informers,
    objects,
    runtime::{Context, Controller, Done, SyncError, Watches, write},
    workload::{
        Apply,
        apply::{owner_key, suitors},
        revision::{self, Revision},
    },
};

/// After so many seconds without a failure a node's failures are forgotten: twice the longest back-off.
const FORGIVEN: i64 = 1800;

type Failures = BTreeMap<String, (u32, Timestamp)>;

/// The controller of DaemonSets.
pub struct DaemonSets {
    apply: Apply<DaemonSet>,
    informers: Arc<Informers>,
    /// By node, how many pods failed there and when the last one was deleted for it.
    failures: Mutex<HashMap<ObjectKey, Failures>>,
}

impl DaemonSets {
    /// The controller of DaemonSets.
    pub fn new(context: &Context) -> Self {
        Self {
            apply: Apply::new(context),
            informers: context.informers.clone(),
            failures: Mutex::default(),
        }
    }

    fn failures(&self, key: &ObjectKey, now: Timestamp) -> Failures {
        let mut failures = self.failures.lock().get(key).cloned().unwrap_or_default();
        failures.retain(|_, (_, last)| now.duration_since(*last).as_secs() < FORGIVEN);
        failures
    }

    async fn apply(&self, key: &ObjectKey, set: &DaemonSet, plan: &Plan, now: Timestamp) -> Result<(), SyncError> {
        if !self.apply.settle_revision(set, &plan.revision).await? {
            self.apply.write_status(set, &set.metadata, &collided(set)).await?;
            return Err(SyncError::Other(format!(
                "{} is the name of another revision",
                plan.revision.name()
            )));
        }
        plan.events.iter().for_each(|event| self.apply.tell(set, event));
        let mut failed = None;
        if !plan.create.is_empty() || !plan.delete.is_empty() {
            let mut failures = self.failures(key, now);
            for node in &plan.failed {
                let (count, last) = failures.entry(node.clone()).or_insert((0, now));
                (*count, *last) = (*count + 1, now);
            }
            self.failures.lock().insert(key.clone(), failures);
            let uids = plan.delete.iter().map(|pod| pod.uid().to_owned());
            self.apply.expectations.expect(key, plan.create.len(), uids);
            let created = self.apply.create_pods(set, &plan.create).await;
            let deleted = self.apply.delete_pods(set, &plan.delete).await;
            failed = created.error.or(deleted.error);
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

/// What decides whether a node is fit.
fn node(node: &objects::Node) -> Node {
    Node {
        name: node.metadata.name.clone().unwrap_or_default(),
        labels: node.metadata.labels.clone().unwrap_or_default(),
        taints: node.spec.taints.clone(),
    }
}

/// The change makes no node more or less fit.
fn is_idle(change: &Change<objects::Node>) -> bool {
    let Change::Updated { old, new } = change else {
        return false;
    };
    old.metadata.labels == new.metadata.labels && old.spec.taints == new.spec.taints
}

#[async_trait]
impl Controller for DaemonSets {
    type Key = ObjectKey;

    fn name(&self) -> &'static str {
        "daemonset"
    }

    fn watch(self: &Arc<Self>, watches: &mut Watches<ObjectKey>) {
        let informers = &self.informers;
        watches.on(&informers.daemon_sets, |change| [ObjectKey::of(&**change.object())]);
        watches.on(&informers.revisions, |change: &Change<Revision>| {
            owner_key::<DaemonSet>(&change.object().metadata)
        });
        let this = self.clone();
        watches.on(&informers.pods, move |change| {
            let mut keys = this.apply.heard(change);
            keys.extend(suitors(
                &this.informers.daemon_sets_by_namespace,
                &**change.object(),
                |set| set.spec.selector.clone(),
            ));
            keys
        });
        let sets = informers.daemon_sets.clone();
        watches.on(&informers.nodes, move |change| {
            let sets = if is_idle(change) { vec![] } else { sets.list() };
            let keys: Vec<_> = sets.iter().map(|set| ObjectKey::of(&**set)).collect();
            keys
        });
    }

    async fn sync(&self, key: &ObjectKey) -> Result<Done, SyncError> {
        let informers = &self.informers;
        let Some(set) = informers.daemon_sets.get(key) else {
            self.apply.forget(key);
            self.failures.lock().remove(key);
            return Ok(Done::Settled);
        };
        if self.apply.is_behind(&set) {
            return Ok(Done::Settled);
        }
        let settled = self.apply.expectations.satisfied(key);
        let uid = set.metadata.uid.as_deref().unwrap_or_default();
        let selector = &set.spec.selector;
        let pods = informers.pods_by_controller.get(uid).into_iter();
        let pods = pods.chain(informers.orphan_pods.get(key.namespace.as_str()));
        let pods = self.apply.claim(&*set, selector, pods, None).await?;
        let revisions = informers.revisions_by_controller.get(uid).into_iter();
        let revisions = revisions.chain(informers.orphan_revisions.get(key.namespace.as_str()));
        let mut revisions = self.apply.claim(&*set, selector, revisions, None).await?;
        revision::sort(&mut revisions);
        let nodes: Vec<_> = informers.nodes.list().iter().map(|object| node(object)).collect();
        let now = Timestamp::now();
        let plan = plan(Snapshot {
            set: &set,
            pods: &pods,
            nodes: &nodes,
            revisions: &revisions,
            failures: &self.failures(key, now),
            settled,
            now,
        });
        self.apply(key, &set, &plan, now).await?;
        if !settled {
            return Ok(Done::Again(Duration::from_secs(300)));
        }
        let delay = plan.next.map(|at| at.duration_since(now));
        Ok(Done::after(delay.and_then(|delay| Duration::try_from(delay).ok())))
    }
}
