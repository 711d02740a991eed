//! Which pods of a Job to make, and which to delete because they are too many.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use serde_json::{Value, json};

use super::{
    Backoff, COMPLETION_INDEX, INDEX_FAILURES, INDEX_IGNORED_FAILURES, Job, TRACKING, index,
    indexes::Indexes,
    is_tracked,
    policy::{self, Verdict},
};
use crate::workload::{
    Pod, rank,
    template::{self, annotate, array_at, label},
};

/// How many pods are made or deleted at most before the next look.
const BURST: usize = 500;
/// The longest prefix to which the server adds five characters without cutting it.
const LONGEST_PREFIX: usize = 58;

/// What the pods to make are decided on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Work<'a> {
    pub(super) job: &'a Job,
    pub(super) pods: &'a [Arc<Pod>],
    pub(super) active: &'a [Arc<Pod>],
    /// How many pods have succeeded.
    pub(super) succeeded: i32,
    /// Of an Indexed Job, the indexes that have.
    pub(super) succeeded_indexes: &'a Indexes,
    /// Those that have failed for good.
    pub(super) failed_indexes: &'a Indexes,
    /// The last pod that failed, by index.
    pub(super) replaced: &'a BTreeMap<u32, Arc<Pod>>,
    pub(super) backoff: Backoff,
    pub(super) now: Timestamp,
}

/// What to do about the number of pods.
#[derive(Debug, Default)]
pub(super) struct Moves {
    pub(super) create: Vec<Value>,
    /// They don't count: their finalizers go first.
    pub(super) discard: Vec<Arc<Pod>>,
    /// When pods may be made again.
    pub(super) next: Option<Timestamp>,
}

impl Work<'_> {
    pub(super) fn moves(&self) -> Moves {
        let mut moves = Moves::default();
        if self.job.spec.suspend {
            moves.discard = self.active.to_vec();
            return moves;
        }
        let (active, wanted) = (self.active.len(), self.wanted());
        moves.discard = self.superfluous(active.saturating_sub(wanted));
        // Pods are either made or deleted, not both at once: what is deleted changes which indexes are free.
        if !moves.discard.is_empty() {
            return moves;
        }
        let ending = if self.job.replaces_only_failed() {
            self.pods
                .iter()
                .filter(|pod| pod.is_terminating() && !pod.is_finished())
                .count()
        } else {
            0
        };
        let missing = wanted.saturating_sub(active + ending).min(BURST);
        if missing == 0 {
            return moves;
        }
        if self.job.spec.backoff_limit_per_index.is_none()
            && let Some(until) = self.backoff.until(self.now)
        {
            moves.next = Some(until);
            return moves;
        }
        let owner = template::controller_ref::<Job>(&self.job.metadata);
        let template = self.job.spec.part("template");
        if !self.job.is_indexed() {
            moves.create = vec![pod(&template, &owner); missing];
            return moves;
        }
        for index in self.free_indexes(missing) {
            match self.wait_for(index) {
                Some(until) => moves.next = Some(moves.next.map_or(until, |next| next.min(until))),
                None => moves.create.push(self.indexed_pod(&template, &owner, index)),
            }
        }
        moves
    }

    /// How many pods shall run.
    fn wanted(&self) -> usize {
        let parallelism = self.job.spec.parallelism.unwrap_or(1);
        let wanted = match self.job.spec.completions {
            // The first success means that there is no more work: what runs may end.
            None if self.succeeded > 0 => self.active.len() as i32,
            None => parallelism,
            Some(completions) => (completions - self.succeeded).min(parallelism),
        };
        usize::try_from(wanted).unwrap_or_default()
    }

    /// Pods that have no right to be, and others until there are `at_least` so many.
    fn superfluous(&self, at_least: usize) -> Vec<Arc<Pod>> {
        let (mut gone, mut left) = (vec![], vec![]);
        if self.job.is_indexed() {
            let mut by_index: BTreeMap<Option<u32>, Vec<Arc<Pod>>> = BTreeMap::new();
            for pod in self.active {
                by_index.entry(self.job.index(pod)).or_default().push(pod.clone());
            }
            for (index, mut pods) in by_index {
                rank::sort(&mut pods, |_| 0, self.now);
                if index.is_some() {
                    left.extend(pods.pop());
                }
                gone.extend(pods);
            }
        } else {
            left = self.active.to_vec();
        }
        if gone.len() < at_least {
            rank::sort(&mut left, |_| 0, self.now);
            let more = at_least - gone.len();
            gone.extend(left.into_iter().take(more));
        }
        gone.truncate(BURST);
        gone
    }

    /// The first indexes that are neither done with nor being worked on.
    fn free_indexes(&self, count: usize) -> Vec<u32> {
        let ending = self
            .pods
            .iter()
            .filter(|pod| self.job.replaces_only_failed() && pod.is_terminating() && !pod.is_finished());
        let taken: BTreeSet<u32> = self.active.iter().chain(ending).filter_map(|pod| index(pod)).collect();
        let done = self.succeeded_indexes.union(self.failed_indexes);
        done.union(&taken.into_iter().collect())
            .missing(count, self.job.completions())
    }

    /// How long this index waits after its last failure, where failures are limited by index.
    fn wait_for(&self, index: u32) -> Option<Timestamp> {
        self.job.spec.backoff_limit_per_index?;
        let last = self.replaced.get(&index)?;
        let failures = failures(last, INDEX_FAILURES) + failures(last, INDEX_IGNORED_FAILURES) + 1;
        Backoff::of(failures, last.finished_at()).until(self.now)
    }

    fn indexed_pod(&self, template: &Value, owner: &OwnerReference, index: u32) -> Value {
        let mut pod = pod(template, owner);
        let name = self.job.name();
        annotate(&mut pod, COMPLETION_INDEX, index.to_string());
        label(&mut pod, COMPLETION_INDEX, index.to_string());
        if self.job.spec.backoff_limit_per_index.is_some() {
            let (counted, ignored) = self.replaced.get(&index).map_or((0, 0), |last| {
                let ignores = policy::verdict(self.job.spec.pod_failure_policy.as_ref(), last) == Verdict::Ignore;
                let (counted, ignored) = (failures(last, INDEX_FAILURES), failures(last, INDEX_IGNORED_FAILURES));
                (counted + u32::from(!ignores), ignored + u32::from(ignores))
            });
            annotate(&mut pod, INDEX_FAILURES, counted.to_string());
            if ignored > 0 {
                annotate(&mut pod, INDEX_IGNORED_FAILURES, ignored.to_string());
            }
        }
        pod["spec"]["hostname"] = format!("{name}-{index}").into();
        let suffix = format!("-{index}-");
        let prefix: String = name.chars().take(LONGEST_PREFIX.saturating_sub(suffix.len())).collect();
        pod["metadata"]["generateName"] = format!("{prefix}{suffix}").into();
        let field = json!({"fieldRef": {"fieldPath": format!("metadata.labels['{COMPLETION_INDEX}']")}});
        for kind in ["initContainers", "containers"] {
            let containers = pod["spec"].get_mut(kind).and_then(Value::as_array_mut);
            for container in containers.into_iter().flatten() {
                let variables = array_at(container, &[], "env");
                if variables
                    .iter()
                    .all(|variable| variable["name"] != "JOB_COMPLETION_INDEX")
                {
                    variables.push(json!({"name": "JOB_COMPLETION_INDEX", "valueFrom": field}));
                }
            }
        }
        pod
    }
}

fn pod(template: &Value, owner: &OwnerReference) -> Value {
    let mut pod = template::numbered_pod(template, owner);
    let finalizers = array_at(&mut pod, &["metadata"], "finalizers");
    if !finalizers.iter().any(|finalizer| finalizer == TRACKING) {
        finalizers.push(TRACKING.into());
    }
    pod
}

/// How many failures came before a pod's, by what it says.
fn failures(pod: &Pod, key: &str) -> u32 {
    pod.annotation(key)
        .and_then(|count| count.parse().ok())
        .unwrap_or_default()
}

/// The indexes that have failed for good, by the status and by the pods that failed.
pub(super) fn failed_indexes(job: &Job, pods: &[Arc<Pod>]) -> Option<Indexes> {
    let limit = u32::try_from(job.spec.backoff_limit_per_index?).ok()?;
    let known = Indexes::parse(
        job.status.failed_indexes.as_deref().unwrap_or_default(),
        job.completions(),
    );
    let fails = |pod: &Pod| match policy::verdict(job.spec.pod_failure_policy.as_ref(), pod) {
        Verdict::FailIndex => true,
        Verdict::Ignore => false,
        _ => failures(pod, INDEX_FAILURES) >= limit,
    };
    let failed = pods.iter().filter(|pod| job.has_failed(pod) && fails(pod));
    Some(known.union(&failed.filter_map(|pod| job.index(pod)).collect()))
}

/// The last pod that failed, for each index that waits for another: it keeps its finalizer until that is there, since
/// the number of failures is handed on from one to the next.
pub(super) fn replaced(job: &Job, pods: &[Arc<Pod>], active: &[Arc<Pod>], done: &Indexes) -> BTreeMap<u32, Arc<Pod>> {
    let active: BTreeSet<u32> = active.iter().filter_map(|pod| index(pod)).collect();
    let all = |pod: &Pod| failures(pod, INDEX_FAILURES) + failures(pod, INDEX_IGNORED_FAILURES);
    let mut replaced: BTreeMap<u32, Arc<Pod>> = BTreeMap::new();
    if job.spec.backoff_limit_per_index.is_none() {
        return replaced;
    }
    for pod in pods.iter().filter(|pod| is_tracked(pod) && job.has_failed(pod)) {
        let Some(index) = job
            .index(pod)
            .filter(|index| !done.contains(*index) && !active.contains(index))
        else {
            continue;
        };
        if replaced.get(&index).is_none_or(|known| all(known) <= all(pod)) {
            replaced.insert(index, pod.clone());
        }
    }
    replaced
}
