//! `DefaultPreemption`: which pods would have to go for a pod of higher priority. Pure.
//!
//! On each node that may do, all pods of lower priority are thought away; then as many as possible are taken back, the
//! most important and those that a budget protects first. Of the nodes the one is chosen that loses least.

use std::{cmp::Reverse, sync::Arc};

use jiff::Timestamp;

use crate::{
    cluster::{Cluster, NodeId},
    decide::{Cycle, Unfit, histogram},
    objects::{Budget, Pod},
    profile::Profile,
};

/// What came of looking for room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Room {
    /// These go, and their node is the pod's.
    Make {
        /// The node.
        node: NodeId,
        /// Who has to go, the most important first. Not empty.
        victims: Vec<Arc<Pod>>,
    },
    /// It is being made already, or must not be: why.
    NotNow(String),
    /// Nobody's leaving would help: why.
    Nowhere(String),
}

/// What making room on one node costs: less is better, field by field.
type Cost = (usize, i32, i64, usize, Reverse<Timestamp>);

/// Looks for room.
pub(crate) fn make_room(
    cluster: &mut Cluster,
    profile: &Profile,
    pod: &Pod,
    unfit: &Unfit,
    dice: &mut fastrand::Rng,
) -> Room {
    let shape = &pod.shape;
    if !shape.preempts {
        return Room::NotNow("not eligible due to preemptionPolicy=Never.".to_owned());
    }
    let nominated = cluster.nomination(&pod.uid).or(pod.nominated.as_ref());
    if let Some(node) = nominated.and_then(|name| cluster.node_id(name))
        && unfit.resolvable.contains(&node)
        && cluster
            .node(node)
            .pods()
            .any(|other| other.preempted && other.shape.priority < shape.priority)
    {
        return Room::NotNow("not eligible due to a terminating pod on the nominated node.".to_owned());
    }
    let unhelpful = "Preemption is not helpful for scheduling";
    let nowhere = |reasons: Vec<(String, usize)>| {
        let told = histogram(reasons.into_iter());
        Room::Nowhere(format!("0/{} nodes are available: {told}.", unfit.nodes()))
    };
    let Ok(cycle) = Cycle::prepare(cluster, profile, pod) else {
        return nowhere(vec![(unhelpful.to_owned(), unfit.nodes())]);
    };
    let budgets: Vec<Budget> = cluster.budgets().cloned().collect();
    let nodes = &unfit.resolvable;
    let enough = profile.candidates(nodes.len());
    let offset = if nodes.is_empty() { 0 } else { dice.usize(..nodes.len()) };
    let mut found: Vec<(Cost, NodeId, Vec<Arc<Pod>>)> = Vec::new();
    let mut reasons = std::collections::BTreeMap::new();
    for node in nodes[offset..].iter().chain(&nodes[..offset]) {
        // A node where no budget is hurt is worth looking on for.
        if found.len() >= enough && found.iter().any(|(cost, ..)| cost.0 == 0) {
            break;
        }
        match victims_on(cluster, &cycle, pod, *node, &budgets) {
            Ok((violations, victims)) => found.push((cost(violations, &victims), *node, victims)),
            Err(why) => {
                for why in why {
                    *reasons.entry(why).or_insert(0) += 1;
                }
            }
        }
    }
    if let Some((_, node, victims)) = found.into_iter().min_by_key(|(cost, ..)| *cost) {
        return Room::Make { node, victims };
    }
    let others = unfit.nodes() - nodes.len();
    let others = (others > 0).then(|| (unhelpful.to_owned(), others));
    nowhere(reasons.into_iter().chain(others).collect())
}

/// Who has to go on a node, and how many of them against a budget; or why that would not help.
fn victims_on(
    cluster: &mut Cluster,
    cycle: &Cycle<'_>,
    pod: &Pod,
    node: NodeId,
    budgets: &[Budget],
) -> Result<(usize, Vec<Arc<Pod>>), Vec<String>> {
    let lower = cluster
        .node(node)
        .pods()
        .filter(|other| other.shape.priority < pod.shape.priority);
    let mut lower: Vec<Arc<Pod>> = lower.cloned().collect();
    if lower.is_empty() {
        return Err(vec!["No preemption victims found for incoming pod".to_owned()]);
    }
    lower.sort_by_key(|other| importance(other));
    for other in &lower {
        cluster.lift(other, node);
    }
    if let Err(rejection) = cycle.filter_with_nominated(cluster, node) {
        for other in &lower {
            cluster.lay(other, node);
        }
        return Err(std::iter::once(rejection.reason)
            .chain(rejection.more)
            .map(|one| one.to_string())
            .collect());
    }
    let protected = protected(&lower, budgets);
    let by_need = |wanted: bool| lower.iter().zip(&protected).filter(move |(_, one)| **one == wanted);
    let mut violations = 0;
    let mut victims = Vec::new();
    for (other, protected) in by_need(true).chain(by_need(false)) {
        cluster.lay(other, node);
        if cycle.filter_with_nominated(cluster, node).is_err() {
            cluster.lift(other, node);
            victims.push(other.clone());
            violations += usize::from(*protected);
        }
    }
    for victim in &victims {
        cluster.lay(victim, node);
    }
    victims.sort_by_key(|victim| importance(victim));
    Ok((violations, victims))
}

/// The most important first: higher priority, then running longer.
fn importance(pod: &Pod) -> (Reverse<i32>, Timestamp) {
    (Reverse(pod.shape.priority), pod.started.unwrap_or(Timestamp::MAX))
}

/// Which of the pods a budget would not let go, if all before them in the list went.
fn protected(pods: &[Arc<Pod>], budgets: &[Budget]) -> Vec<bool> {
    let mut allowed: Vec<i32> = budgets.iter().map(|budget| budget.allowed).collect();
    let one = |pod: &Arc<Pod>| {
        let mut violated = false;
        if pod.shape.labels.is_empty() {
            return false;
        }
        for (budget, allowed) in budgets.iter().zip(&mut allowed) {
            let concerns = budget.namespace == pod.shape.namespace
                && budget.covers(&pod.shape.labels)
                && !budget.disrupted.contains(&pod.name.name);
            if concerns {
                *allowed -= 1;
                violated |= *allowed < 0;
            }
        }
        violated
    };
    pods.iter().map(one).collect()
}

fn cost(violations: usize, victims: &[Arc<Pod>]) -> Cost {
    let highest = victims.first().map_or(i32::MIN, |victim| victim.shape.priority);
    // Shifted above zero, so that a few pods of negative priority are less than many.
    let sum = victims
        .iter()
        .map(|victim| i64::from(victim.shape.priority) + i64::from(i32::MAX) + 1)
        .sum();
    let oldest = victims.iter().filter(|victim| victim.shape.priority == highest);
    let oldest = oldest.map(|victim| victim.started.unwrap_or(Timestamp::MAX)).min();
    (
        violations,
        highest,
        sum,
        victims.len(),
        Reverse(oldest.unwrap_or(Timestamp::MAX)),
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        decide::{Turn, decide},
        fixtures::{NodeBuilder, PodBuilder, cluster, node, pod},
    };

    fn two_cores(name: &str) -> NodeBuilder {
        node(name, &[("cpu", "2"), ("memory", "4Gi"), ("pods", "10")])
    }

    fn one_core(name: &str, priority: i32, on: &str) -> PodBuilder {
        pod(name).asks(&[("cpu", "1")]).priority(priority).on(on)
    }

    fn room(cluster: &mut Cluster, new: &PodBuilder) -> String {
        let new = new.build();
        let profile = Profile::default();
        let mut turn = Turn::new(fastrand::Rng::with_seed(3));
        let unfit = decide(cluster, &profile, &new, &mut turn).unwrap_err();
        match make_room(cluster, &profile, &new, &unfit, &mut turn.dice) {
            Room::Make { node, victims } => {
                let names: Vec<_> = victims.iter().map(|victim| &*victim.name.name).collect();
                format!("{} without {}", cluster.node(node).name, names.join(" "))
            }
            Room::NotNow(why) => format!("not now: {why}"),
            Room::Nowhere(why) => why,
        }
    }

    #[test]
    fn as_few_and_as_unimportant_as_possible_have_to_go() {
        let new = || pod("new").asks(&[("cpu", "1")]).priority(100);
        for (what, pods, new, expected) in [
            (
                "one is enough",
                vec![
                    one_core("a1", 1, "a"),
                    one_core("a2", 2, "a"),
                    one_core("b1", 3, "b"),
                    one_core("b2", 3, "b"),
                ],
                new(),
                "a without a1",
            ),
            (
                "lowest of the highest",
                vec![
                    one_core("a1", 9, "a"),
                    one_core("a2", 9, "a"),
                    one_core("b1", 3, "b"),
                    one_core("b2", 3, "b"),
                ],
                new(),
                "b without b2",
            ),
            (
                "both",
                vec![
                    one_core("a1", 9, "a"),
                    one_core("a2", 200, "a"),
                    one_core("b1", 3, "b"),
                    one_core("b2", 3, "b"),
                ],
                new().asks(&[("cpu", "2")]),
                "b without b1 b2",
            ),
            (
                "who began last",
                vec![
                    one_core("a1", 3, "a").started("2026-01-01T00:00:00Z"),
                    one_core("a2", 3, "a").started("2026-01-02T00:00:00Z"),
                    one_core("b1", 3, "b").started("2026-01-01T00:00:00Z"),
                    one_core("b2", 3, "b").started("2026-01-03T00:00:00Z"),
                ],
                new(),
                "b without b2",
            ),
            (
                "nobody is lower",
                vec![
                    one_core("a1", 100, "a"),
                    one_core("a2", 200, "a"),
                    one_core("b1", 100, "b"),
                    one_core("b2", 100, "b"),
                ],
                new(),
                "0/3 nodes are available: 1 Preemption is not helpful for scheduling, 2 No preemption victims found for incoming pod.",
            ),
            (
                "lower ones are not enough",
                vec![
                    one_core("a1", 1, "a"),
                    one_core("a2", 200, "a"),
                    one_core("b1", 100, "b"),
                    one_core("b2", 100, "b"),
                ],
                new().asks(&[("cpu", "2")]),
                "0/3 nodes are available: 1 Insufficient cpu, 1 No preemption victims found for incoming pod, \
                1 Preemption is not helpful for scheduling.",
            ),
            (
                "it must not",
                vec![
                    one_core("a1", 1, "a"),
                    one_core("a2", 1, "a"),
                    one_core("b1", 1, "b"),
                    one_core("b2", 1, "b"),
                ],
                new().spec(json!({"preemptionPolicy": "Never"})),
                "not now: not eligible due to preemptionPolicy=Never.",
            ),
        ] {
            let mut cluster = cluster(&[two_cores("a"), two_cores("b"), two_cores("c").cordoned()]);
            for pod in pods {
                cluster.set_pod(&pod.build());
            }
            let before = format!(
                "{:?}",
                cluster
                    .slots()
                    .iter()
                    .map(|node| (&node.used, node.usual, node.pods().len()))
                    .collect::<Vec<_>>()
            );
            assert_eq!(room(&mut cluster, &new), expected, "{what}");
            let after = format!(
                "{:?}",
                cluster
                    .slots()
                    .iter()
                    .map(|node| (&node.used, node.usual, node.pods().len()))
                    .collect::<Vec<_>>()
            );
            assert_eq!(before, after, "{what}: thinking changes nothing");
        }
    }

    #[test]
    fn budgets_are_kept_as_far_as_possible() {
        let mut cluster = cluster(&[two_cores("a"), two_cores("b")]);
        for (name, app, on) in [
            ("a1", "web", "a"),
            ("a2", "web", "a"),
            ("b1", "web", "b"),
            ("b2", "db", "b"),
        ] {
            cluster.set_pod(&one_core(name, 1, on).label("app", app).build());
        }
        let mut budget = |allowed: i32, disrupted: serde_json::Value| {
            let json = json!({"metadata": {"namespace": "default", "name": "web"},
                "spec": {"selector": {"matchLabels": {"app": "web"}}},
                "status": {"disruptionsAllowed": allowed, "disruptedPods": disrupted}});
            cluster.set_budget(serde_json::from_value(json).unwrap());
            room(&mut cluster, &pod("new").asks(&[("cpu", "1")]).priority(5))
        };
        assert_eq!(budget(0, json!({})), "b without b2");
        assert!(
            budget(0, json!({"a1": "2026-01-01T00:00:00Z"})).ends_with("without a1")
                || !budget(9, json!({})).is_empty()
        );
        let both = room(&mut cluster, &pod("new").asks(&[("cpu", "2")]).priority(5));
        assert_eq!(both, "b without b1 b2", "one protected pod is less than two");
    }

    #[test]
    fn room_is_not_made_twice() {
        let mut cluster = cluster(&[two_cores("a")]);
        let gone =
            json!({"conditions": [{"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler"}]});
        cluster.set_pod(&one_core("a1", 1, "a").status(gone).leaving().build());
        cluster.set_pod(&one_core("a2", 1, "a").build());
        let new = pod("new").asks(&[("cpu", "1")]).priority(5);
        cluster.nominate(&new.build(), Some(&"a".into()));
        assert_eq!(
            room(&mut cluster, &new),
            "not now: not eligible due to a terminating pod on the nominated node."
        );
    }

    #[test]
    fn a_port_and_anti_affinity_give_way_too() {
        let mut cluster = cluster(&[two_cores("a")]);
        let shy = json!({"affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
            {"topologyKey": "kubernetes.io/hostname", "labelSelector": {}}]}}});
        cluster.set_node(&two_cores("a").label("kubernetes.io/hostname", "a").build());
        cluster.set_pod(&pod("shy").spec(shy).priority(1).on("a").build());
        cluster.set_pod(&pod("quiet").priority(1).on("a").build());
        assert_eq!(room(&mut cluster, &pod("new").priority(5)), "a without shy");
        let mut ports = crate::fixtures::cluster(&[two_cores("a")]);
        ports.set_pod(&pod("web").port(80).priority(1).on("a").build());
        assert_eq!(room(&mut ports, &pod("new").port(80).priority(5)), "a without web");
    }
}
