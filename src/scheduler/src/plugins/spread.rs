//! `PodTopologySpread`: a pod's like is spread over places.

use std::sync::Arc;

use super::{MAX_SCORE, Plugin, Rejection};
use crate::{
    cluster::{
        Cluster, NodeId,
        index::CounterId,
        tally::{CounterKey, Eligible},
    },
    objects::{HOSTNAME, PodQuery, Shape, SpreadConstraint, ZONE},
    profile::SpreadDefaults,
};

/// A constraint and the count of the pod's like.
struct Counted {
    counter: CounterId,
    topology: usize,
    max_skew: i64,
    min_domains: usize,
    /// The pod is of its own like.
    counts_itself: bool,
    by_node: bool,
}

/// The constraints of one strength.
pub(crate) struct Spread {
    constraints: Vec<Counted>,
    /// Nodes that lack one of the labels are out.
    all_topologies: bool,
}

impl Spread {
    /// What the pod must keep to.
    pub(crate) fn required(cluster: &mut Cluster, shape: &Shape, defaults: &SpreadDefaults) -> Self {
        Self::of(cluster, shape, defaults, true)
    }

    /// What it had better keep to.
    pub(crate) fn preferred(cluster: &mut Cluster, shape: &Shape, defaults: &SpreadDefaults) -> Self {
        Self::of(cluster, shape, defaults, false)
    }

    fn of(cluster: &mut Cluster, shape: &Shape, defaults: &SpreadDefaults, required: bool) -> Self {
        let own = !shape.spread.is_empty();
        let defaulted;
        let constraints = if own {
            &shape.spread
        } else {
            defaulted = by_default(cluster, shape, defaults, required);
            &defaulted
        };
        let constraints: Vec<_> = constraints.iter().filter(|one| one.required == required).collect();
        let all_topologies = own || required || !defaults.is_system();
        let keys: Vec<Arc<str>> = if all_topologies {
            constraints.iter().map(|one| one.topology.clone()).collect()
        } else {
            Vec::new()
        };
        let (index, nodes) = cluster.index_and_slots();
        let count = |one: &&SpreadConstraint| {
            let honored = one.honor_affinity && !shape.node.is_empty();
            let key = CounterKey {
                topology: one.topology.clone(),
                all_of: vec![PodQuery::within(&shape.namespace, one.selector.clone())],
                living: true,
                nodes: Some(Eligible {
                    requirements: honored.then(|| shape.node.clone()).into_iter().collect(),
                    tolerations: one.honor_taints.then(|| shape.tolerations.clone()),
                    keys: keys.clone(),
                }),
            };
            let counter = index.counter_of(key, nodes);
            Counted {
                counter,
                topology: index.counter(counter).topology(),
                max_skew: one.max_skew,
                min_domains: one.min_domains,
                counts_itself: one.selector.matches(&shape.labels),
                by_node: &*one.topology == HOSTNAME,
            }
        };
        Self {
            constraints: constraints.iter().map(count).collect(),
            all_topologies,
        }
    }

    /// Whether nothing is asked for.
    pub(crate) fn is_empty(&self) -> bool {
        self.constraints.is_empty()
    }

    /// Whether the node will do.
    pub(crate) fn filter(&self, cluster: &Cluster, node: NodeId) -> Result<(), Rejection> {
        for one in &self.constraints {
            let Some(domain) = cluster.index.topology(one.topology).of(node) else {
                let reason = "node(s) didn't match pod topology spread constraints (missing required label)";
                return Err(Rejection::plain(Plugin::PodTopologySpread, false, reason));
            };
            let counter = cluster.index.counter(one.counter);
            let least = if counter.domains() < one.min_domains {
                0
            } else {
                i64::from(counter.least())
            };
            let skew = i64::from(counter.tally().at(domain)) + i64::from(one.counts_itself) - least;
            if skew > one.max_skew {
                let reason = "node(s) didn't match pod topology spread constraints";
                return Err(Rejection::plain(Plugin::PodTopologySpread, true, reason));
            }
        }
        Ok(())
    }

    /// How good the nodes are, 0 to 100: those with fewer of the pod's like are better.
    pub(crate) fn scores(&self, cluster: &Cluster, nodes: &[NodeId]) -> Vec<i64> {
        let place = |one: &Counted, node| cluster.index.topology(one.topology).of(node);
        let is_scored = |node| !self.all_topologies || self.constraints.iter().all(|one| place(one, node).is_some());
        let scored: Vec<bool> = nodes.iter().map(|node| is_scored(*node)).collect();
        let among = scored.iter().filter(|scored| **scored).count();
        let weight = |one: &Counted| {
            let places = if one.by_node {
                among
            } else {
                let mut seen = vec![false; cluster.index.topology(one.topology).bound()];
                let in_play = nodes.iter().zip(&scored).filter(|(_, scored)| **scored);
                let domains = in_play.filter_map(|(node, _)| place(one, *node));
                domains
                    .filter(|domain| !std::mem::replace(&mut seen[*domain as usize], true))
                    .count()
            };
            ((places + 2) as f64).ln()
        };
        let weights: Vec<f64> = self.constraints.iter().map(weight).collect();
        let raw = |node: NodeId| {
            let parts = self.constraints.iter().zip(&weights).filter_map(|(one, weight)| {
                let count = cluster.index.counter(one.counter).tally().at(place(one, node)?);
                Some(f64::from(count) * weight + (one.max_skew - 1) as f64)
            });
            parts.sum::<f64>().round() as i64
        };
        let mut scores: Vec<i64> = nodes.iter().map(|node| raw(*node)).collect();
        let in_play = || {
            scores
                .iter()
                .zip(&scored)
                .filter(|(_, scored)| **scored)
                .map(|(score, _)| *score)
        };
        let (least, most) = (in_play().min().unwrap_or(0), in_play().max().unwrap_or(0));
        for (score, scored) in scores.iter_mut().zip(&scored) {
            *score = match (scored, most) {
                (false, _) => 0,
                (true, 0) => MAX_SCORE,
                (true, most) => MAX_SCORE * (most + least - *score) / most,
            };
        }
        scores
    }
}

/// The constraints of a pod that has none of its own, by what else selects it.
fn by_default(cluster: &Cluster, shape: &Shape, defaults: &SpreadDefaults, required: bool) -> Vec<SpreadConstraint> {
    let one = |topology: &str, max_skew| SpreadConstraint {
        topology: topology.into(),
        max_skew,
        min_domains: 1,
        required: false,
        selector: crate::objects::Selector::default(),
        honor_affinity: true,
        honor_taints: false,
    };
    let mut constraints = match defaults {
        SpreadDefaults::System if required => return Vec::new(),
        SpreadDefaults::System => vec![one(HOSTNAME, 3), one(ZONE, 5)],
        SpreadDefaults::List(constraints) => constraints.clone(),
    };
    if constraints.is_empty() {
        return constraints;
    }
    let Some(selector) = cluster.default_selector(shape) else {
        return Vec::new();
    };
    for one in &mut constraints {
        one.selector = selector.clone();
    }
    constraints
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::fixtures::{cluster, node, pod};

    #[expect(clippy::needless_pass_by_value, reason = "so that tables read as tables")]
    fn constraint(more: Value) -> Value {
        let mut one = json!({"topologyKey": "zone", "maxSkew": 1, "whenUnsatisfiable": "DoNotSchedule",
            "labelSelector": {"matchLabels": {"app": "web"}}});
        one.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        one
    }

    /// Two nodes in zone a with two pods, one in b with one, one in c without any, one nowhere.
    fn zones() -> Cluster {
        let node = |name: &str| node(name, &[("pods", "9")]).label(HOSTNAME, name);
        let mut made = cluster(&[
            node("a1").label("zone", "a"),
            node("a2").label("zone", "a"),
            node("b1").label("zone", "b"),
            node("c1")
                .label("zone", "c")
                .label("disk", "slow")
                .taint("new", "NoSchedule"),
            node("x1"),
        ]);
        for (name, at) in [("p1", "a1"), ("p2", "a2"), ("p3", "b1")] {
            made.set_pod(&pod(name).label("app", "web").on(at).build());
        }
        made.set_pod(&pod("other").label("app", "db").on("c1").build());
        made.set_pod(&pod("leaving").label("app", "web").on("c1").leaving().build());
        made
    }

    #[test]
    fn a_place_with_too_many_is_out() {
        let not_slow = json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {
            "nodeSelectorTerms": [{"matchExpressions": [{"key": "disk", "operator": "DoesNotExist"}]}]}}}});
        for (what, more, node_spec, expected) in [
            ("skew of one", json!({}), json!({}), "c1"),
            ("skew of two", json!({"maxSkew": 2}), json!({}), "b1 c1"),
            (
                "three domains are enough",
                json!({"minDomains": 3, "maxSkew": 2}),
                json!({}),
                "b1 c1",
            ),
            ("only nodes that can be used", json!({}), not_slow.clone(), "b1 c1"),
            ("all nodes", json!({"nodeAffinityPolicy": "Ignore"}), not_slow, "c1"),
            (
                "taints are honored",
                json!({"nodeTaintsPolicy": "Honor"}),
                json!({}),
                "b1 c1",
            ),
            ("too few domains", json!({"minDomains": 4}), json!({}), "c1"),
            (
                "another like",
                json!({"labelSelector": {"matchLabels": {"app": "none"}}}),
                json!({}),
                "a1 a2 b1 c1",
            ),
            (
                "nobody's like",
                json!({"labelSelector": null}),
                json!({}),
                "a1 a2 b1 c1",
            ),
            (
                "keys of labels",
                json!({"matchLabelKeys": ["hash"], "labelSelector": {}}),
                json!({}),
                "a1 a2 b1 c1",
            ),
        ] {
            let mut cluster = zones();
            let mut spec = node_spec;
            spec["topologySpreadConstraints"] = json!([constraint(more)]);
            let pod = pod("new").label("app", "web").label("hash", "1").spec(spec).build();
            let spread = Spread::required(&mut cluster, &pod.shape, &SpreadDefaults::System);
            let good = ["a1", "a2", "b1", "c1", "x1"].into_iter().filter(|name| {
                let id = cluster.node_id(name).unwrap();
                spread.filter(&cluster, id).is_ok()
            });
            assert_eq!(good.collect::<Vec<_>>().join(" "), expected, "{what}");
        }
    }

    #[test]
    fn nodes_with_fewer_are_better() {
        let mut cluster = zones();
        let spec = json!({"topologySpreadConstraints": [constraint(json!({"whenUnsatisfiable": "ScheduleAnyway"}))]});
        let pod = pod("new").label("app", "web").spec(spec).build();
        let spread = Spread::preferred(&mut cluster, &pod.shape, &SpreadDefaults::System);
        let nodes: Vec<_> = ["a1", "b1", "c1", "x1"]
            .iter()
            .map(|name| cluster.node_id(name).unwrap())
            .collect();
        assert_eq!(spread.scores(&cluster, &nodes), [0, 33, 100, 0]);
    }

    #[test]
    fn pods_of_a_service_spread_without_being_told() {
        let mut cluster = zones();
        let plain = pod("new").label("app", "web").build();
        assert!(Spread::preferred(&mut cluster, &plain.shape, &SpreadDefaults::System).is_empty());
        let service = json!({"metadata": {"namespace": "default", "name": "s"}, "spec": {"selector": {"app": "web"}}});
        cluster.set_workload(
            crate::cluster::WorkloadKind::Service,
            serde_json::from_value(service).unwrap(),
        );
        let spread = Spread::preferred(&mut cluster, &plain.shape, &SpreadDefaults::System);
        assert!(!spread.is_empty());
        assert!(Spread::required(&mut cluster, &plain.shape, &SpreadDefaults::System).is_empty());
        let nodes: Vec<_> = ["a1", "c1"].iter().map(|name| cluster.node_id(name).unwrap()).collect();
        let scores = spread.scores(&cluster, &nodes);
        assert!(scores[0] < scores[1], "{scores:?}");
    }
}
