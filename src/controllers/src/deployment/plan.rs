//! The next move of a rollout.
//!
//! Each plan makes one move, whose effects the next one sees: replica sets changed by a plan come back by the watch.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{DeploymentCondition, DeploymentStatus};
use kube::ResourceExt;
use serde_json::{Value, json};

use super::{
    Deployment, TEMPLATE_HASH,
    annotations::{self, Annotations},
    rollout, scale,
    status::{self, Condition},
};
use crate::{
    replica_set::ReplicaSet,
    workload::{Event, hash, template},
};

/// All that a plan is made from.
#[derive(Clone, Copy, Debug)]
pub struct Snapshot<'a> {
    /// The Deployment.
    pub deployment: &'a Deployment,
    /// Its ReplicaSets.
    pub sets: &'a [Arc<ReplicaSet>],
    /// UIDs of its ReplicaSets that have pods which have not ended; ending ones count.
    pub running: &'a [String],
    /// The time it is.
    pub now: Timestamp,
}

/// What to do for a Deployment.
#[derive(Clone, Debug)]
pub struct Plan {
    /// A ReplicaSet to make.
    pub create: Option<NewSet>,
    /// ReplicaSets to change.
    pub change: Vec<Change>,
    /// ReplicaSets to delete, which have no pods.
    pub delete: Vec<Arc<ReplicaSet>>,
    /// The status to write, after all that.
    pub status: DeploymentStatus,
    /// The revision to note on the Deployment, written with the status.
    pub revision: Option<i64>,
    /// What to tell, whatever comes of the rest.
    pub events: Vec<Event>,
    /// When to plan again if nothing happens before.
    pub next: Option<Timestamp>,
}

/// A ReplicaSet to make.
#[derive(Clone, Debug)]
pub struct NewSet {
    /// Its name.
    pub name: String,
    /// The object.
    pub object: Value,
    /// What to tell when it is made.
    pub event: Option<Event>,
}

/// A ReplicaSet to change.
#[derive(Clone, Debug)]
pub struct Change {
    /// The set as it was seen; the change counts only for this.
    pub set: Arc<ReplicaSet>,
    /// The merge patch.
    pub patch: Value,
    /// What to tell when it is done.
    pub event: Option<Event>,
}

/// A ReplicaSet as it is and as it shall be.
#[derive(Clone, Debug)]
pub(super) struct Draft {
    pub(super) set: Arc<ReplicaSet>,
    pub(super) replicas: i32,
    annotations: Annotations,
    min_ready_seconds: i32,
}

impl Draft {
    fn new(set: &Arc<ReplicaSet>) -> Self {
        Self {
            set: set.clone(),
            replicas: set.spec.replicas.unwrap_or(1),
            annotations: set.metadata.annotations.clone().unwrap_or_default(),
            min_ready_seconds: set.spec.min_ready_seconds,
        }
    }

    /// How many pods it shall have at present.
    pub(super) fn size(&self) -> i32 {
        self.set.spec.replicas.unwrap_or(1)
    }

    pub(super) fn available(&self) -> i32 {
        self.set.status.available_replicas.unwrap_or_default()
    }

    pub(super) fn number(&self, key: &str) -> Option<i32> {
        annotations::number(&self.annotations, key)
    }

    /// Changes its size, and notes what the Deployment wants.
    pub(super) fn scale(&mut self, replicas: i32, deployment: &Deployment) {
        self.replicas = replicas;
        annotations::note_size(&mut self.annotations, deployment);
    }

    fn change(&self) -> Option<Change> {
        let mut patch = json!({});
        let before = self.set.metadata.annotations.clone().unwrap_or_default();
        let changed = self
            .annotations
            .iter()
            .filter(|(key, value)| before.get(*key) != Some(*value));
        for (key, value) in changed {
            template::annotate(&mut patch, key, value);
        }
        if self.replicas != self.size() {
            patch["spec"]["replicas"] = self.replicas.into();
        }
        if self.min_ready_seconds != self.set.spec.min_ready_seconds {
            patch["spec"]["minReadySeconds"] = self.min_ready_seconds.into();
        }
        if patch == json!({}) {
            return None;
        }
        patch["metadata"]["uid"] = json!(self.set.metadata.uid);
        patch["metadata"]["resourceVersion"] = json!(self.set.metadata.resource_version);
        Some(Change {
            set: self.set.clone(),
            patch,
            event: scaled(&self.set.name_any(), self.size(), self.replicas),
        })
    }
}

fn scaled(name: &str, from: i32, to: i32) -> Option<Event> {
    let direction = match to.cmp(&from) {
        std::cmp::Ordering::Greater => "up",
        std::cmp::Ordering::Less => "down",
        std::cmp::Ordering::Equal => return None,
    };
    let message = format!("Scaled {direction} replica set {name} from {from} to {to}");
    Some(Event::normal("ScalingReplicaSet", message))
}

/// A plan in the making.
pub(super) struct Work<'a> {
    pub(super) snapshot: Snapshot<'a>,
    /// The set of the template as it is now, if there is one.
    pub(super) new: Option<Draft>,
    /// All others, oldest first.
    pub(super) old: Vec<Draft>,
    template: Value,
    create: Option<NewSet>,
    condition: Option<Condition>,
    revision: Option<i64>,
}

impl<'a> Work<'a> {
    fn new(snapshot: Snapshot<'a>) -> Self {
        let template = snapshot.deployment.template();
        let mut sets: Vec<_> = snapshot.sets.iter().map(Draft::new).collect();
        sets.sort_by_key(|draft| (draft.set.creation_timestamp().map(|time| time.0), draft.set.name_any()));
        let is_new = |draft: &Draft| hash::same_template(&draft.set.spec.part("template"), &template, &[TEMPLATE_HASH]);
        let new = sets.iter().position(is_new).map(|place| sets.remove(place));
        Self {
            snapshot,
            new,
            old: sets,
            template,
            create: None,
            condition: None,
            revision: None,
        }
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Draft> {
        self.old.iter().chain(&self.new)
    }

    pub(super) fn all_mut(&mut self) -> impl Iterator<Item = &mut Draft> {
        self.old.iter_mut().chain(&mut self.new)
    }

    /// The sets that shall have pods, apart from the new one.
    pub(super) fn active_old(&mut self) -> impl Iterator<Item = &mut Draft> {
        self.old.iter_mut().filter(|draft| draft.size() > 0)
    }

    /// Sees to the new set's annotations and to the revision, and makes the set if it isn't there and `create`.
    pub(super) fn settle_revision(&mut self, create: bool) {
        let deployment = self.snapshot.deployment;
        let highest = self
            .old
            .iter()
            .map(|draft| annotations::revision(&draft.annotations))
            .max();
        let next = highest.unwrap_or_default() + 1;
        if let Some(new) = &mut self.new {
            annotations::inherit(&mut new.annotations, deployment, next);
            new.min_ready_seconds = deployment.spec.min_ready_seconds;
            self.revision = Some(annotations::revision(&new.annotations));
            // Somebody begins to care about progress: it counts from now.
            if status::condition(&deployment.status, status::PROGRESSING).is_none() {
                let message = format!("Found new replica set \"{}\"", new.set.name_any());
                self.condition = Some(Condition::progressing("True", "FoundNewReplicaSet", message));
            }
        } else if create {
            let replicas = rollout::size_of_new(self);
            let name = self.make(replicas, next);
            self.revision = Some(next);
            let message = format!("Created new replica set \"{name}\"");
            self.condition = Some(Condition::progressing("True", "NewReplicaSetCreated", message));
        }
    }

    fn make(&mut self, replicas: i32, revision: i64) -> String {
        let deployment = self.snapshot.deployment;
        let hash = hash::short(&self.template, deployment.status.collision_count);
        let name = format!("{}-{hash}", deployment.name());
        let mut template = self.template.clone();
        template::label(&mut template, TEMPLATE_HASH, hash.clone());
        let mut selector = deployment.spec.part("selector");
        template::object_at(&mut selector, &["matchLabels"]).insert(TEMPLATE_HASH.to_owned(), hash.into());
        let mut annotations = Annotations::new();
        annotations::inherit(&mut annotations, deployment, revision);
        annotations::note_size(&mut annotations, deployment);
        let owner = template::controller_ref::<Deployment>(&deployment.metadata);
        let object = json!({
            "apiVersion": "apps/v1",
            "kind": "ReplicaSet",
            "metadata": {
                "name": name,
                "namespace": deployment.metadata.namespace,
                "labels": template["metadata"]["labels"],
                "annotations": annotations,
                "ownerReferences": [owner],
            },
            "spec": {
                "replicas": replicas,
                "minReadySeconds": deployment.spec.min_ready_seconds,
                "selector": selector,
                "template": template,
            },
        });
        self.create = Some(NewSet {
            name: name.clone(),
            object,
            event: scaled(&name, 0, replicas),
        });
        name
    }

    pub(super) fn is_creating(&self) -> bool {
        self.create.is_some()
    }

    /// The sets that have no pods and are beyond those to keep, oldest revision first.
    fn superfluous(&self) -> Vec<Arc<ReplicaSet>> {
        let limit = self
            .snapshot
            .deployment
            .spec
            .revision_history_limit
            .filter(|limit| *limit != i32::MAX);
        let Some(limit) = limit.and_then(|limit| usize::try_from(limit).ok()) else {
            return vec![];
        };
        let mut old: Vec<_> = self
            .old
            .iter()
            .filter(|draft| draft.set.metadata.deletion_timestamp.is_none())
            .collect();
        let more = old.len().saturating_sub(limit);
        old.sort_by_key(|draft| annotations::revision(&draft.annotations));
        let is_empty = |draft: &&Draft| {
            let status = &draft.set.status;
            draft.size() == 0 && status.replicas == 0 && draft.set.metadata.generation <= status.observed_generation
        };
        old.into_iter()
            .take(more)
            .filter(is_empty)
            .map(|draft| draft.set.clone())
            .collect()
    }

    fn finish(self, rolls_out: bool, cleans_up: bool) -> Plan {
        let delete = if cleans_up { self.superfluous() } else { vec![] };
        let Snapshot { deployment, now, .. } = self.snapshot;
        let mut status = status::counts(&self, now);
        if let Some(condition) = self
            .condition
            .clone()
            .filter(|_| deployment.progress_deadline().is_some())
        {
            condition.set(&mut status, now);
        }
        if rolls_out {
            status::progress(&self, &mut status, now);
        }
        let noted = deployment.metadata.annotations.as_ref().map(annotations::revision);
        Plan {
            next: status::next_look(deployment, &status, now),
            change: self.all().filter_map(Draft::change).collect(),
            create: self.create,
            delete,
            revision: self.revision.filter(|revision| noted != Some(*revision)),
            status,
            events: vec![],
        }
    }

    /// The name of the new set, there or about to be.
    pub(super) fn new_name(&self) -> Option<String> {
        let made = self.create.as_ref().map(|new| new.name.clone());
        made.or_else(|| self.new.as_ref().map(|new| new.set.name_any()))
    }
}

/// The next move for a Deployment.
pub fn plan(snapshot: Snapshot<'_>) -> Plan {
    let deployment = snapshot.deployment;
    if bosun_api::selector::is_empty(&deployment.spec.selector) {
        return refuse(snapshot);
    }
    let mut work = Work::new(snapshot);
    if deployment.metadata.deletion_timestamp.is_some() {
        return work.finish(false, false);
    }
    work.condition = status::pause(deployment);
    if deployment.spec.paused || scale::is_due(&work) {
        let paused = work.condition.take();
        work.settle_revision(false);
        work.condition = paused.or(work.condition);
        scale::scale(&mut work);
        return work.finish(false, deployment.spec.paused);
    }
    let resumed = work.condition.take();
    let moved = if deployment.recreates() {
        rollout::recreate(&mut work)
    } else {
        rollout::roll(&mut work)
    };
    work.condition = work.condition.or(resumed);
    let complete = status::is_complete(deployment, &deployment.status);
    work.finish(true, !moved && complete)
}

/// A selector of everything would take every pod of the namespace: validation refuses it, and so does this.
fn refuse(snapshot: Snapshot<'_>) -> Plan {
    let message = "This deployment is selecting all pods. A non-empty selector is required.";
    Plan {
        create: None,
        change: vec![],
        delete: vec![],
        status: DeploymentStatus {
            observed_generation: snapshot.deployment.metadata.generation,
            ..snapshot.deployment.status.clone()
        },
        revision: None,
        events: vec![Event::warning("SelectingAll", message)],
        next: None,
    }
}

/// The status after the name of a ReplicaSet turned out to be taken by another's: the next one gets another name.
pub fn collided(deployment: &Deployment) -> DeploymentStatus {
    DeploymentStatus {
        collision_count: Some(deployment.status.collision_count.unwrap_or_default() + 1),
        ..deployment.status.clone()
    }
}

/// The status after a ReplicaSet could not be made.
pub fn failed_to_create(deployment: &Deployment, message: &str, now: Timestamp) -> DeploymentStatus {
    let mut status = deployment.status.clone();
    if deployment.progress_deadline().is_some() {
        Condition::progressing("False", "ReplicaSetCreateError", message.to_owned()).set(&mut status, now);
    }
    status
}

/// The failures of its ReplicaSets as conditions of the Deployment, the new one's first.
pub(super) fn replica_failure(work: &Work<'_>) -> Option<DeploymentCondition> {
    let newest_first = work.new.iter().chain(&work.old);
    let mut conditions = newest_first.flat_map(|draft| draft.set.status.conditions.iter().flatten());
    let failure = conditions.find(|condition| condition.type_ == "ReplicaFailure")?;
    Some(DeploymentCondition {
        type_: failure.type_.clone(),
        status: failure.status.clone(),
        reason: failure.reason.clone(),
        message: failure.message.clone(),
        last_transition_time: failure.last_transition_time.clone(),
        last_update_time: failure.last_transition_time.clone(),
    })
}
