//! Which taints a node should have, and when pods must leave for them. Pure.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{
    api::core::v1::{Taint, Toleration},
    apimachinery::pkg::apis::meta::v1::Time,
};

use crate::objects::{Node, NodeCondition};

const NOT_READY: &str = "node.kubernetes.io/not-ready";
const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";
const MEMORY: &str = "node.kubernetes.io/memory-pressure";
const DISK: &str = "node.kubernetes.io/disk-pressure";
const PIDS: &str = "node.kubernetes.io/pid-pressure";
const NETWORK: &str = "node.kubernetes.io/network-unavailable";

const NO_SCHEDULE: &str = "NoSchedule";
const NO_EXECUTE: &str = "NoExecute";

/// Whether a node takes pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ready {
    Yes,
    No,
    /// It doesn't say.
    Unknown,
}

impl Ready {
    pub(super) fn of(node: &Node) -> Self {
        match condition(node, "Ready").map(|ready| ready.status.as_str()) {
            Some("True") => Self::Yes,
            Some("False") => Self::No,
            _ => Self::Unknown,
        }
    }
}

pub(super) fn condition<'a>(node: &'a Node, type_: &str) -> Option<&'a NodeCondition> {
    node.status.conditions.iter().find(|condition| condition.type_ == type_)
}

/// The taints that a node should have, if it has others. Those of others are left alone. `evict` tells whether pods may
/// be moved away from it now; a node that is marked for that stays so until it is ready.
pub(super) fn plan(node: &Node, evict: bool, now: Timestamp) -> Option<Vec<Taint>> {
    let ready = Ready::of(node);
    let is = |type_: &str| condition(node, type_).is_some_and(|condition| condition.status == "True");
    let wanted = [
        (MEMORY, NO_SCHEDULE, is("MemoryPressure")),
        (DISK, NO_SCHEDULE, is("DiskPressure")),
        (PIDS, NO_SCHEDULE, is("PIDPressure")),
        (NETWORK, NO_SCHEDULE, is("NetworkUnavailable")),
        (UNSCHEDULABLE, NO_SCHEDULE, node.spec.unschedulable),
        (NOT_READY, NO_SCHEDULE, ready == Ready::No),
        (UNREACHABLE, NO_SCHEDULE, ready == Ready::Unknown),
        (NOT_READY, NO_EXECUTE, ready == Ready::No),
        (UNREACHABLE, NO_EXECUTE, ready == Ready::Unknown),
    ];
    let marked = |taint: &Taint| taint.effect == NO_EXECUTE && [NOT_READY, UNREACHABLE].contains(&taint.key.as_str());
    let was_marked = node.spec.taints.iter().any(marked);
    let mut taints = node.spec.taints.clone();
    for (key, effect, wanted) in wanted {
        let matches = |taint: &Taint| taint.key == key && taint.effect == effect;
        let has = taints.iter().any(matches);
        if has && !wanted {
            taints.retain(|taint| !matches(taint));
        } else if wanted && !has && (effect == NO_SCHEDULE || evict || was_marked) {
            taints.push(Taint {
                key: key.to_owned(),
                effect: effect.to_owned(),
                time_added: (effect == NO_EXECUTE).then_some(Time(now)),
                value: None,
            });
        }
    }
    (taints != node.spec.taints).then_some(taints)
}

/// Whether a node waits to be marked for its pods to leave.
pub(super) fn awaits_eviction(node: &Node) -> bool {
    let key = match Ready::of(node) {
        Ready::Yes => return false,
        Ready::No => NOT_READY,
        Ready::Unknown => UNREACHABLE,
    };
    !node
        .spec
        .taints
        .iter()
        .any(|taint| taint.key == key && taint.effect == NO_EXECUTE)
}

/// When a pod must leave a node for its taints; `None` if it may stay.
pub(super) fn leaves_at(tolerations: &[Toleration], taints: &[Taint], now: Timestamp) -> Option<Timestamp> {
    let mut earliest: Option<Timestamp> = None;
    for taint in taints.iter().filter(|taint| taint.effect == NO_EXECUTE) {
        let mut tolerating = tolerations
            .iter()
            .filter(|toleration| tolerates(toleration, taint))
            .peekable();
        let since = taint.time_added.as_ref().map_or(now, |time| time.0);
        let at = if tolerating.peek().is_none() {
            Some(now)
        } else {
            let shortest = tolerating.filter_map(|toleration| toleration.toleration_seconds).min();
            shortest.map(|seconds| {
                since
                    .saturating_add(SignedDuration::from_secs(seconds.max(0)))
                    .unwrap_or(now)
            })
        };
        earliest = match (earliest, at) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
    }
    earliest
}

fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let given = |field: &Option<String>| field.clone().filter(|field| !field.is_empty());
    let (key, effect) = (given(&toleration.key), given(&toleration.effect));
    if effect.is_some_and(|effect| effect != taint.effect) || key.as_ref().is_some_and(|key| *key != taint.key) {
        return false;
    }
    match toleration.operator.as_deref() {
        Some("Exists") => true,
        None | Some("" | "Equal") => {
            key.is_some()
                && toleration.value.as_deref().unwrap_or_default() == taint.value.as_deref().unwrap_or_default()
        }
        Some(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).expect("in range")
    }

    fn node(conditions: &[(&str, &str)], taints: &[(&str, &str)]) -> Node {
        let mut node = Node::default();
        for (type_, status) in conditions {
            node.status.conditions.push(NodeCondition {
                type_: (*type_).to_owned(),
                status: (*status).to_owned(),
                ..NodeCondition::default()
            });
        }
        node.spec.taints = taints.iter().map(|(key, effect)| taint(key, effect)).collect();
        node
    }

    fn taint(key: &str, effect: &str) -> Taint {
        Taint {
            key: key.to_owned(),
            effect: effect.to_owned(),
            time_added: Some(Time(at(0))),
            value: None,
        }
    }

    /// Conditions and taints of a node; whether pods may be moved; the taints it should have.
    type Case<'a> = (
        &'a [(&'a str, &'a str)],
        &'a [(&'a str, &'a str)],
        bool,
        Option<&'a [(&'a str, &'a str)]>,
    );

    #[test]
    fn taints_follow_conditions() {
        let own = ("example.org/own", "NoExecute");
        let table: [Case<'_>; 8] = [
            (&[("Ready", "True")], &[own], true, None),
            (
                &[("Ready", "False")],
                &[own],
                true,
                Some(&[own, (NOT_READY, NO_SCHEDULE), (NOT_READY, NO_EXECUTE)]),
            ),
            (&[("Ready", "False")], &[], false, Some(&[(NOT_READY, NO_SCHEDULE)])),
            (
                &[],
                &[],
                true,
                Some(&[(UNREACHABLE, NO_SCHEDULE), (UNREACHABLE, NO_EXECUTE)]),
            ),
            // Marked before: it stays marked, under the other name, whatever the rate.
            (
                &[("Ready", "Unknown")],
                &[(NOT_READY, NO_SCHEDULE), (NOT_READY, NO_EXECUTE)],
                false,
                Some(&[(UNREACHABLE, NO_SCHEDULE), (UNREACHABLE, NO_EXECUTE)]),
            ),
            (
                &[("Ready", "True")],
                &[(UNREACHABLE, NO_SCHEDULE), own, (UNREACHABLE, NO_EXECUTE)],
                false,
                Some(&[own]),
            ),
            (
                &[("Ready", "True"), ("DiskPressure", "True")],
                &[],
                false,
                Some(&[(DISK, NO_SCHEDULE)]),
            ),
            (
                &[("Ready", "True"), ("MemoryPressure", "Unknown")],
                &[(MEMORY, NO_SCHEDULE)],
                false,
                Some(&[]),
            ),
        ];
        for (conditions, taints, evict, expected) in table {
            let plan = plan(&node(conditions, taints), evict, at(9));
            let plan: Option<Vec<_>> = plan.as_ref().map(|taints| {
                taints
                    .iter()
                    .map(|taint| (taint.key.as_str(), taint.effect.as_str()))
                    .collect()
            });
            assert_eq!(plan.as_deref(), expected, "{conditions:?} {taints:?}");
        }
        let mut cordoned = node(&[("Ready", "True")], &[]);
        cordoned.spec.unschedulable = true;
        assert_eq!(
            plan(&cordoned, false, at(9))
                .map(|taints| taints[0].key.clone())
                .as_deref(),
            Some(UNSCHEDULABLE)
        );
    }

    #[test]
    fn a_pod_leaves_when_the_shortest_of_its_tolerations_is_over() {
        let toleration = |key: &str, operator: &str, seconds: Option<i64>| Toleration {
            key: Some(key.to_owned()),
            operator: Some(operator.to_owned()),
            effect: Some(NO_EXECUTE.to_owned()),
            toleration_seconds: seconds,
            value: None,
        };
        let both = [taint(NOT_READY, NO_EXECUTE), taint(UNREACHABLE, NO_EXECUTE)];
        let table = [
            (vec![], vec![], None),
            (vec![], vec![taint("a", NO_SCHEDULE)], None),
            (vec![], vec![taint(NOT_READY, NO_EXECUTE)], Some(at(100))),
            (
                vec![toleration(NOT_READY, "Exists", Some(300))],
                vec![taint(NOT_READY, NO_EXECUTE)],
                Some(at(300)),
            ),
            (
                vec![toleration(NOT_READY, "Exists", None)],
                vec![taint(NOT_READY, NO_EXECUTE)],
                None,
            ),
            (vec![toleration("", "Exists", None)], both.to_vec(), None),
            (
                vec![toleration(NOT_READY, "Equal", Some(-5))],
                vec![taint(NOT_READY, NO_EXECUTE)],
                Some(at(0)),
            ),
            (
                vec![toleration(NOT_READY, "Exists", Some(300))],
                both.to_vec(),
                Some(at(100)),
            ),
            (
                vec![
                    toleration(NOT_READY, "Exists", Some(300)),
                    toleration(UNREACHABLE, "Exists", Some(60)),
                ],
                both.to_vec(),
                Some(at(60)),
            ),
        ];
        for (tolerations, taints, expected) in table {
            assert_eq!(
                leaves_at(&tolerations, &taints, at(100)),
                expected,
                "{tolerations:?} {taints:?}"
            );
        }
    }
}
