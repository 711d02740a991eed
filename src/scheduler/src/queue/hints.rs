//! Whether something that happened may help a pod that a plugin rejected.
//!
//! When in doubt it may: a wrong yes costs one decision, a wrong no costs five minutes.

use crate::{
    objects::{Labels, Node, Pod, PodTerm, Taint, untolerated},
    plugins::Plugin,
};

/// What happened.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Happening<'a> {
    /// A node has come.
    NodeAdded(&'a Node),
    /// A node has changed.
    NodeUpdated(&'a Node, &'a Node),
    /// A node is gone, which changes what places there are.
    NodeGone,
    /// A pod was placed, or one that is placed was changed.
    PodPlaced(&'a Pod),
    /// A placed pod is gone, being deleted, or takes less.
    PodGone(&'a Pod),
    /// Claims, volumes or classes of volumes have changed.
    Volumes,
    /// Labels of namespaces have changed.
    Namespaces,
}

/// Whether it may help any pod that the plugin rejected. Where this says no, [`may_help`] does of every pod.
pub(super) fn concerns(plugin: Plugin, happening: &Happening<'_>) -> bool {
    use Happening::{Namespaces, NodeAdded, NodeGone, NodeUpdated, PodGone, PodPlaced, Volumes};
    match plugin {
        Plugin::NodeUnschedulable | Plugin::TaintToleration | Plugin::NodeAffinity => {
            matches!(happening, NodeAdded(_) | NodeUpdated(..))
        }
        Plugin::NodePorts => matches!(happening, NodeAdded(_) | PodGone(_)),
        Plugin::NodeResourcesFit => matches!(happening, NodeAdded(_) | NodeUpdated(..) | PodGone(_)),
        Plugin::PodTopologySpread => !matches!(happening, Volumes | Namespaces),
        Plugin::InterPodAffinity => !matches!(happening, Volumes | NodeGone),
        Plugin::VolumeRestrictions => matches!(happening, PodGone(_) | Volumes),
        Plugin::VolumeBinding | Plugin::VolumeZone => {
            !matches!(happening, PodPlaced(_) | PodGone(_) | NodeGone | Namespaces)
        }
        _ => true,
    }
}

/// Whether it may help.
pub(super) fn may_help(plugin: Plugin, pod: &Pod, happening: &Happening<'_>) -> bool {
    let shape = &pod.shape;
    match plugin {
        Plugin::NodeUnschedulable => {
            let cordon = Taint::unschedulable();
            let becomes =
                |node: &Node| !node.unschedulable || shape.tolerations.iter().any(|one| one.tolerates(&cordon));
            became(happening, becomes)
        }
        Plugin::TaintToleration => became(happening, |node| {
            untolerated(&node.taints, &shape.tolerations).is_none()
        }),
        Plugin::NodeAffinity => became(happening, |node| shape.node.matches(node)),
        Plugin::NodePorts => match happening {
            Happening::NodeAdded(_) => true,
            Happening::PodGone(gone) => gone
                .shape
                .ports
                .iter()
                .any(|port| shape.ports.iter().any(|one| one.conflicts(port))),
            _ => false,
        },
        Plugin::NodeResourcesFit => match happening {
            Happening::PodGone(_) => true,
            Happening::NodeAdded(node) => holds(pod, node),
            Happening::NodeUpdated(old, new) => {
                holds(pod, new) && (new.pods > old.pods || old.allocatable != new.allocatable)
            }
            _ => false,
        },
        Plugin::PodTopologySpread => match happening {
            Happening::PodPlaced(other) | Happening::PodGone(other) => {
                other.shape.namespace == shape.namespace
                    && (shape.spread.is_empty()
                        || shape.spread.iter().any(|one| one.selector.matches(&other.shape.labels)))
            }
            Happening::NodeAdded(_) | Happening::NodeGone => true,
            Happening::NodeUpdated(old, new) => old.labels != new.labels || old.taints != new.taints,
            Happening::Volumes | Happening::Namespaces => false,
        },
        Plugin::InterPodAffinity => {
            let means =
                |terms: &[PodTerm], labels: &Labels| terms.iter().any(|term| term.pods.selector.matches(labels));
            match happening {
                Happening::PodPlaced(other) => means(&shape.affinity.required, &other.shape.labels),
                Happening::PodGone(other) => {
                    means(&shape.affinity.required_anti, &other.shape.labels)
                        || means(&other.shape.affinity.required_anti, &shape.labels)
                }
                Happening::NodeAdded(_) | Happening::Namespaces => true,
                Happening::NodeUpdated(old, new) => old.labels != new.labels,
                Happening::NodeGone | Happening::Volumes => false,
            }
        }
        Plugin::VolumeRestrictions => match happening {
            Happening::PodGone(other) => {
                other.shape.namespace == shape.namespace
                    && other.shape.claims.iter().any(|claim| shape.claims.contains(claim))
            }
            Happening::Volumes => true,
            _ => false,
        },
        Plugin::VolumeBinding | Plugin::VolumeZone => match happening {
            Happening::Volumes | Happening::NodeAdded(_) => true,
            Happening::NodeUpdated(old, new) => old.labels != new.labels,
            _ => false,
        },
        _ => true,
    }
}

/// A node came that is right, or became so.
fn became(happening: &Happening<'_>, right: impl Fn(&Node) -> bool) -> bool {
    match happening {
        Happening::NodeAdded(node) => right(node),
        Happening::NodeUpdated(old, new) => !right(old) && right(new),
        _ => false,
    }
}

/// Whether the node, were it empty, would hold the pod.
fn holds(pod: &Pod, node: &Node) -> bool {
    let (asked, all) = (&pod.shape.requests, &node.allocatable);
    node.pods > 0
        && asked.cpu <= all.cpu
        && asked.memory <= all.memory
        && asked.ephemeral <= all.ephemeral
        && asked.scalar.iter().all(|(name, amount)| *amount <= all.get(name))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::fixtures::{node, pod};

    #[test]
    fn only_what_could_change_a_plugins_mind_helps() {
        let term = json!([{"topologyKey": "z", "labelSelector": {"matchLabels": {"app": "db"}}}]);
        let near = pod("p")
            .spec(json!({"affinity": {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": term}}}))
            .build();
        let far = pod("p")
            .spec(json!({"affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": term}}}))
            .build();
        let plain = pod("p").asks(&[("cpu", "2")]).port(80).claim("c").build();
        let picky = pod("p").spec(json!({"nodeSelector": {"disk": "fast"}})).build();
        let db = pod("db").label("app", "db").on("n").build();
        let web = pod("web").label("app", "web").port(80).claim("c").on("n").build();
        let small = node("n", &[("cpu", "1"), ("pods", "9")]);
        let large = node("n", &[("cpu", "4"), ("pods", "9")]);
        let fast = large.clone().label("disk", "fast");
        let tainted = large.clone().taint("x", "NoSchedule");
        let cordoned = large.clone().cordoned();
        for (line, (plugin, pod, happening, expected)) in [
            (Plugin::NodeResourcesFit, &plain, Happening::PodGone(&web), true),
            (Plugin::NodeResourcesFit, &plain, Happening::PodPlaced(&web), false),
            (Plugin::NodeResourcesFit, &plain, Happening::NodeAdded(&small), false),
            (Plugin::NodeResourcesFit, &plain, Happening::NodeAdded(&large), true),
            (
                Plugin::NodeResourcesFit,
                &plain,
                Happening::NodeUpdated(&small, &large),
                true,
            ),
            (
                Plugin::NodeResourcesFit,
                &plain,
                Happening::NodeUpdated(&large, &fast),
                false,
            ),
            (
                Plugin::NodeAffinity,
                &picky,
                Happening::NodeUpdated(&large, &fast),
                true,
            ),
            (Plugin::NodeAffinity, &picky, Happening::NodeAdded(&large), false),
            (
                Plugin::TaintToleration,
                &plain,
                Happening::NodeUpdated(&tainted, &large),
                true,
            ),
            (Plugin::TaintToleration, &plain, Happening::NodeAdded(&tainted), false),
            (
                Plugin::NodeUnschedulable,
                &plain,
                Happening::NodeUpdated(&cordoned, &large),
                true,
            ),
            (
                Plugin::NodeUnschedulable,
                &plain,
                Happening::NodeUpdated(&large, &cordoned),
                false,
            ),
            (Plugin::NodePorts, &plain, Happening::PodGone(&web), true),
            (Plugin::NodePorts, &plain, Happening::PodGone(&db), false),
            (Plugin::InterPodAffinity, &near, Happening::PodPlaced(&db), true),
            (Plugin::InterPodAffinity, &near, Happening::PodPlaced(&web), false),
            (Plugin::InterPodAffinity, &far, Happening::PodGone(&db), true),
            (Plugin::InterPodAffinity, &far, Happening::PodPlaced(&db), false),
            (Plugin::VolumeRestrictions, &plain, Happening::PodGone(&web), true),
            (Plugin::VolumeRestrictions, &plain, Happening::PodGone(&db), false),
            (Plugin::VolumeBinding, &plain, Happening::Volumes, true),
            (Plugin::VolumeBinding, &plain, Happening::PodGone(&web), false),
            (Plugin::PodTopologySpread, &plain, Happening::NodeGone, true),
        ]
        .into_iter()
        .enumerate()
        {
            assert_eq!(may_help(plugin, pod, &happening), expected, "line {line}: {plugin}");
            assert!(concerns(plugin, &happening) || !expected, "line {line}: {plugin}");
        }
    }
}
