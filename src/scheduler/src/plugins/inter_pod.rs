//! `InterPodAffinity`: what pods say about being near one another, in both directions.

use super::{MAX_SCORE, Plugin, Rejection};
use crate::{
    cluster::{
        Cluster, NodeId,
        index::{ClassId, CounterId, HolderId},
        tally::{CounterKey, Hold},
    },
    objects::{PodQuery, PodTerm, Shape},
};

/// What decides whether a node will do.
pub(crate) struct Required {
    /// In each of these some pod that meets all terms must be near.
    near: Vec<CounterId>,
    /// The pod meets its own terms, so it may be the first.
    may_be_first: bool,
    /// None of these may be near.
    far: Vec<CounterId>,
    /// None of those who say this may be near.
    forbidden: Vec<HolderId>,
}

fn counter_of(cluster: &mut Cluster, topology: &PodTerm, all_of: Vec<PodQuery>) -> CounterId {
    let (index, nodes) = cluster.index_and_slots();
    let key = CounterKey {
        topology: topology.topology.clone(),
        all_of,
        living: false,
        nodes: None,
    };
    index.counter_of(key, nodes)
}

impl Required {
    /// Looks up what the pod says, and what is said about it.
    pub(crate) fn of(cluster: &mut Cluster, shape: &Shape, class: ClassId) -> Self {
        let affinity = &shape.affinity;
        let all: Vec<PodQuery> = affinity.required.iter().map(|term| term.pods.clone()).collect();
        let near = affinity
            .required
            .iter()
            .map(|term| counter_of(cluster, term, all.clone()))
            .collect();
        let far = affinity.required_anti.iter();
        let far = far
            .map(|term| counter_of(cluster, term, vec![term.pods.clone()]))
            .collect();
        let said = cluster.index.said_about(class).to_vec();
        Self {
            near,
            may_be_first: all.iter().all(|query| cluster.index.is_meant(query, shape)),
            far,
            forbidden: said
                .into_iter()
                .filter(|id| cluster.index.holder(*id).hold() == Hold::Forbids)
                .collect(),
        }
    }

    /// Whether the node will do.
    pub(crate) fn filter(&self, cluster: &Cluster, node: NodeId) -> Result<(), Rejection> {
        let reject = |resolvable, reason| Err(Rejection::plain(Plugin::InterPodAffinity, resolvable, reason));
        if !self.near.is_empty() && !self.is_near(cluster, node) {
            return reject(false, "node(s) didn't match pod affinity rules");
        }
        let index = &cluster.index;
        let is_met = |id: &CounterId| {
            let counter = index.counter(*id);
            index
                .topology(counter.topology())
                .of(node)
                .is_some_and(|domain| counter.tally().at(domain) > 0)
        };
        if self.far.iter().any(is_met) {
            return reject(true, "node(s) didn't match pod anti-affinity rules");
        }
        let is_held = |id: &HolderId| {
            let holder = index.holder(*id);
            index
                .topology(holder.topology())
                .of(node)
                .is_some_and(|domain| holder.tally().at(domain) > 0)
        };
        if self.forbidden.iter().any(is_held) {
            return reject(true, "node(s) didn't satisfy existing pods anti-affinity rules");
        }
        Ok(())
    }

    fn is_near(&self, cluster: &Cluster, node: NodeId) -> bool {
        let mut all = true;
        for id in &self.near {
            let counter = cluster.index.counter(*id);
            let Some(domain) = cluster.index.topology(counter.topology()).of(node) else {
                return false;
            };
            all &= counter.tally().at(domain) > 0;
        }
        let none = || {
            self.near
                .iter()
                .all(|id| cluster.index.counter(*id).tally().total() == 0)
        };
        all || (self.may_be_first && none())
    }
}

/// What makes a node better or worse.
pub(crate) struct Preferred {
    liked: Vec<(CounterId, i64)>,
    said: Vec<(HolderId, i64)>,
}

impl Preferred {
    /// Looks up what the pod prefers, and what those there prefer of it: `hard` is the weight of what they require,
    /// and with `own_only` they are asked only if the pod says something itself.
    pub(crate) fn of(cluster: &mut Cluster, shape: &Shape, class: ClassId, hard: i64, own_only: bool) -> Self {
        let affinity = &shape.affinity;
        let terms = (affinity.preferred.iter().map(|one| (&one.term, one.weight)))
            .chain(affinity.preferred_anti.iter().map(|one| (&one.term, -one.weight)));
        let liked: Vec<_> = terms
            .map(|(term, weight)| (counter_of(cluster, term, vec![term.pods.clone()]), weight))
            .collect();
        if own_only && liked.is_empty() {
            return Self {
                liked,
                said: Vec::new(),
            };
        }
        let said = cluster.index.said_about(class).to_vec().into_iter();
        let said = said.filter_map(|id| match cluster.index.holder(id).hold() {
            Hold::Forbids => None,
            Hold::Requires => (hard > 0).then_some((id, hard)),
            Hold::Likes(weight) => Some((id, weight)),
        });
        Self {
            liked,
            said: said.collect(),
        }
    }

    /// Whether nothing is said that concerns any node.
    pub(crate) fn is_empty(&self, cluster: &Cluster) -> bool {
        let index = &cluster.index;
        self.liked.iter().all(|(id, _)| index.counter(*id).tally().total() == 0)
            && self.said.iter().all(|(id, _)| index.holder(*id).tally().total() == 0)
    }

    /// How good the nodes are, 0 to 100.
    pub(crate) fn scores(&self, cluster: &Cluster, nodes: &[NodeId]) -> Vec<i64> {
        let index = &cluster.index;
        let mut scores = vec![0; nodes.len()];
        for (id, weight) in &self.liked {
            let counter = index.counter(*id);
            let topology = index.topology(counter.topology());
            for (score, node) in scores.iter_mut().zip(nodes) {
                *score += topology
                    .of(*node)
                    .map_or(0, |domain| weight * i64::from(counter.tally().at(domain)));
            }
        }
        for (id, weight) in &self.said {
            let holder = index.holder(*id);
            let topology = index.topology(holder.topology());
            for (score, node) in scores.iter_mut().zip(nodes) {
                *score += topology
                    .of(*node)
                    .map_or(0, |domain| weight * i64::from(holder.tally().at(domain)));
            }
        }
        let (least, most) = (
            scores.iter().min().copied().unwrap_or(0),
            scores.iter().max().copied().unwrap_or(0),
        );
        for score in &mut scores {
            *score = if most > least {
                MAX_SCORE * (*score - least) / (most - least)
            } else {
                0
            };
        }
        scores
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        cluster::index::Index,
        fixtures::{cluster, node, pod},
    };

    #[expect(clippy::needless_pass_by_value, reason = "so that tables read as tables")]
    fn term(app: &str, more: Value) -> Value {
        let mut one = json!({"topologyKey": "zone", "labelSelector": {"matchLabels": {"app": app}}});
        one.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        one
    }

    #[expect(clippy::needless_pass_by_value, reason = "so that tables read as tables")]
    fn near(terms: Value) -> Value {
        json!({"affinity": {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}})
    }

    #[expect(clippy::needless_pass_by_value, reason = "so that tables read as tables")]
    fn far(terms: Value) -> Value {
        json!({"affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}})
    }

    fn zones() -> Cluster {
        let mut made = cluster(&[
            node("a", &[("pods", "9")]).label("zone", "a"),
            node("b", &[("pods", "9")]).label("zone", "b"),
            node("x", &[("pods", "9")]),
        ]);
        made.set_pod(&pod("web").label("app", "web").label("tier", "front").on("a").build());
        made.set_pod(&pod("db").label("app", "db").on("b").build());
        made.set_pod(&pod("foreign").within("other").label("app", "cache").on("b").build());
        made.set_namespace(
            &serde_json::from_value(json!({"metadata": {"name": "other", "labels": {"team": "x"}}})).unwrap(),
        );
        made
    }

    fn class(cluster: &mut Cluster, shape: &std::sync::Arc<Shape>) -> ClassId {
        let (index, nodes): (&mut Index, _) = cluster.index_and_slots();
        index.class_of(shape, false, nodes)
    }

    fn good(cluster: &mut Cluster, new: &crate::objects::Pod) -> String {
        let class = class(cluster, &new.shape);
        let required = Required::of(cluster, &new.shape, class);
        let names = ["a", "b", "x"].into_iter().filter(|name| {
            let id = cluster.node_id(name).unwrap();
            required.filter(cluster, id).is_ok()
        });
        names.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn required_terms_decide_where_a_pod_may_be() {
        let x = json!({"matchLabels": {"team": "x"}});
        for (what, spec, expected) in [
            ("near the web", near(json!([term("web", json!({}))])), "a"),
            ("near what is nowhere", near(json!([term("none", json!({}))])), ""),
            ("the first of its kind", near(json!([term("new", json!({}))])), "a b"),
            (
                "two terms, one pod must meet both",
                near(json!([term("web", json!({})), term("db", json!({}))])),
                "",
            ),
            ("far from the web", far(json!([term("web", json!({}))])), "b x"),
            (
                "in other namespaces by name",
                far(json!([term("cache", json!({"namespaces": ["other"]}))])),
                "a x",
            ),
            (
                "in other namespaces by label",
                far(json!([term("cache", json!({"namespaceSelector": x}))])),
                "a x",
            ),
            (
                "in all namespaces",
                near(json!([term("cache", json!({"namespaceSelector": {}}))])),
                "b",
            ),
            ("in its own only", far(json!([term("cache", json!({}))])), "a b x"),
            (
                "of the same hash",
                near(json!([term("web", json!({"matchLabelKeys": ["tier"]}))])),
                "",
            ),
            (
                "of another hash",
                near(json!([term("web", json!({"mismatchLabelKeys": ["tier"]}))])),
                "a",
            ),
        ] {
            let new = pod("new").label("app", "new").label("tier", "back").spec(spec).build();
            assert_eq!(good(&mut zones(), &new), expected, "{what}");
        }
    }

    #[test]
    fn those_there_keep_a_newcomer_away() {
        let mut cluster = zones();
        let new = pod("new").label("app", "new").build();
        assert_eq!(good(&mut cluster, &new), "a b x");
        let shy = pod("shy")
            .label("app", "shy")
            .spec(far(json!([term("new", json!({}))])))
            .on("b")
            .build();
        cluster.set_pod(&shy);
        assert_eq!(good(&mut cluster, &new), "a x");
        cluster.remove_pod(&shy.uid);
        assert_eq!(good(&mut cluster, &new), "a b x");
    }

    #[test]
    fn preferences_of_both_sides_add_up() {
        let preferred = |kind: &str, app: &str| {
            json!({"affinity": {kind: {"preferredDuringSchedulingIgnoredDuringExecution": [
                {"weight": 10, "podAffinityTerm": term(app, json!({}))}]}}})
        };
        let mut cluster = zones();
        cluster.set_pod(
            &pod("fan")
                .label("app", "fan")
                .spec(near(json!([term("new", json!({}))])))
                .on("b")
                .build(),
        );
        let plain = pod("new").label("app", "new").build();
        let likes = pod("new")
            .label("app", "new")
            .spec(preferred("podAffinity", "web"))
            .build();
        let dislikes = pod("new")
            .label("app", "new")
            .spec(preferred("podAntiAffinity", "web"))
            .build();
        for (what, new, hard, own_only, expected) in [
            ("one that requires it", &plain, 1, false, [0, 100, 0]),
            ("not asked", &plain, 1, true, [0, 0, 0]),
            ("not counted", &plain, 0, false, [0, 0, 0]),
            ("it likes the web more", &likes, 1, false, [100, 10, 0]),
            ("it dislikes the web", &dislikes, 1, false, [0, 100, 90]),
        ] {
            let class = class(&mut cluster, &new.shape);
            let preferred = Preferred::of(&mut cluster, &new.shape, class, hard, own_only);
            let nodes: Vec<_> = ["a", "b", "x"]
                .iter()
                .map(|name| cluster.node_id(name).unwrap())
                .collect();
            assert_eq!(preferred.scores(&cluster, &nodes), expected, "{what}");
            assert_eq!(preferred.is_empty(&cluster), expected == [0, 0, 0], "{what}");
        }
    }
}
