//! What a DaemonSet says of its pods.

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::DaemonSetStatus;

use super::{DaemonSet, Node, fitness::Fitness};
use crate::workload::{Pod, revision::REVISION_HASH};

/// Counts nodes by how the oldest pod of the set on each is.
pub(super) fn status(
    set: &DaemonSet,
    nodes: &[(&Node, Fitness)],
    pods: &BTreeMap<&str, Vec<Arc<Pod>>>,
    hash: &str,
    now: Timestamp,
) -> DaemonSetStatus {
    let first = |node: &Node| pods.get(node.name.as_str()).and_then(|pods| pods.first());
    let fit = || {
        nodes
            .iter()
            .filter(|(_, fitness)| *fitness == Fitness::Fit)
            .map(|(node, _)| *node)
    };
    let count =
        |what: &dyn Fn(&Pod) -> bool| fit().filter(|node| first(node).is_some_and(|pod| what(pod))).count() as i32;
    let some = |count: i32| Some(count).filter(|count| *count > 0);
    let desired = fit().count() as i32;
    let available = count(&|pod| pod.is_available(set.spec.min_ready_seconds, now));
    let astray = nodes
        .iter()
        .filter(|(node, fitness)| *fitness != Fitness::Fit && first(node).is_some());
    DaemonSetStatus {
        desired_number_scheduled: desired,
        current_number_scheduled: count(&|_| true),
        number_misscheduled: astray.count() as i32,
        number_ready: count(&Pod::is_ready),
        updated_number_scheduled: some(count(&|pod| pod.label(REVISION_HASH) == Some(hash))),
        number_available: some(available),
        number_unavailable: some(desired - available),
        observed_generation: set.metadata.generation,
        collision_count: set.status.collision_count,
        conditions: set.status.conditions.clone(),
    }
}

/// When the next pod that serves will have for long enough.
pub(super) fn next_look(set: &DaemonSet, pods: &[Arc<Pod>], now: Timestamp) -> Option<Timestamp> {
    let times = pods
        .iter()
        .filter_map(|pod| pod.available_at(set.spec.min_ready_seconds));
    times.filter(|at| *at > now).min()
}
