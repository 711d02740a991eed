//! Which pods to delete first.

use std::{cmp::Reverse, sync::Arc};

use jiff::Timestamp;

use super::{Pod, pod::Phase};

/// Annotation: the higher it is, the later the pod is deleted among those like it (KEP-2255).
pub const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";

/// Sorts pods so that those come first that should be deleted first: those that cost least to lose. `doubled` tells how
/// many pods like it there are on a pod's node.
///
/// Ages count by their order of magnitude only: a pod a second younger than another is no better to delete, and to
/// always choose the youngest would never even out where pods are.
pub fn sort(pods: &mut [Arc<Pod>], doubled: impl Fn(&Pod) -> usize, now: Timestamp) {
    pods.sort_by_cached_key(|pod| {
        let ready = pod.is_ready();
        let ready_since = pod.condition("Ready").and_then(|ready| ready.last_transition_time);
        let created = pod.metadata.creation_timestamp.as_ref().map(|time| time.0);
        let (restarts, sidecar_restarts) = pod.restarts();
        (
            pod.node().is_some(),
            pod.status.phase.min(Phase::Running),
            ready,
            cost(pod),
            Reverse(doubled(pod)),
            ready.then(|| age(ready_since, now)),
            Reverse((restarts, sidecar_restarts)),
            age(created, now),
            pod.uid().to_owned(),
        )
    });
}

/// What losing the pod costs, as somebody said; nothing if they said it wrong.
fn cost(pod: &Pod) -> i32 {
    pod.annotation(DELETION_COST)
        .and_then(|cost| cost.parse().ok())
        .unwrap_or_default()
}

/// The order of magnitude, to the base of two, of how long ago that was. What has no time is youngest.
fn age(since: Option<Timestamp>, now: Timestamp) -> Option<u32> {
    let age = now.duration_since(since?).as_nanos();
    Some(
        u128::try_from(age)
            .ok()
            .and_then(u128::checked_ilog2)
            .map_or(0, |magnitude| magnitude + 1),
    )
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(name: &str, changes: &Value) -> Arc<Pod> {
        let mut pod = json!({
            "metadata": {"name": name, "uid": name, "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"nodeName": "node"},
            "status": {"phase": "Running", "conditions": [
                {"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}]},
        });
        merge(&mut pod, changes);
        Arc::new(serde_json::from_value(pod).unwrap())
    }

    fn merge(into: &mut Value, changes: &Value) {
        if let (Some(into), Some(changes)) = (into.as_object_mut(), changes.as_object()) {
            for (key, value) in changes {
                merge(into.entry(key.clone()).or_insert(Value::Null), value);
            }
        } else {
            *into = changes.clone();
        }
    }

    #[test]
    fn what_costs_least_to_lose_goes_first() {
        let ready_at = |time: &str| {
            json!({"status": {"conditions": [
            {"type": "Ready", "status": "True", "lastTransitionTime": time}]}})
        };
        // Each is to be deleted before a pod on a node, running, ready and old.
        for (why, changes) in [
            ("it has no node", json!({"spec": {"nodeName": ""}})),
            ("it is pending", json!({"status": {"phase": "Pending"}})),
            ("nobody knows of it", json!({"status": {"phase": "Unknown"}})),
            ("it isn't ready", json!({"status": {"conditions": []}})),
            (
                "it costs less",
                json!({"metadata": {"annotations": {DELETION_COST: "-1"}}}),
            ),
            ("there is another on its node", json!({"spec": {"nodeName": "doubled"}})),
            ("it has not been ready for long", ready_at("2026-01-01T11:00:00Z")),
            (
                "it restarts",
                json!({"status": {"containerStatuses": [{"restartCount": 1}]}}),
            ),
            (
                "it is younger",
                json!({"metadata": {"creationTimestamp": "2026-01-01T11:00:00Z"}}),
            ),
        ] {
            let mut pods = [pod("a", &json!({})), pod("b", &changes)];
            let now = "2026-01-01T12:00:00Z".parse().unwrap();
            sort(&mut pods, |pod| usize::from(pod.node() == Some("doubled")) + 1, now);
            assert_eq!(pods[0].name(), "b", "{why}");
        }
    }

    #[test]
    fn an_earlier_reason_outweighs_all_later_ones() {
        let worst = json!({
            "metadata": {"annotations": {DELETION_COST: "100"}},
            "status": {"conditions": [], "containerStatuses": [{"restartCount": 9}]},
        });
        let mut pods = [
            pod("ready", &json!({"metadata": {"annotations": {DELETION_COST: "-100"}}})),
            pod("unready", &worst),
        ];
        sort(&mut pods, |_| 1, "2026-01-01T12:00:00Z".parse().unwrap());
        assert_eq!(pods[0].name(), "unready");
    }

    #[test]
    fn ages_of_one_order_of_magnitude_are_alike() {
        let created = |second: u8| json!({"metadata": {"creationTimestamp": format!("2026-01-01T00:00:0{second}Z")}});
        let mut pods = [pod("b", &created(1)), pod("a", &created(0))];
        sort(&mut pods, |_| 1, "2026-01-01T12:00:00Z".parse().unwrap());
        assert_eq!(pods[0].name(), "a");
    }
}
