//! Which node a pod goes to. Pure: the model, the pod, where to begin looking and the dice come in, a decision comes out.
//!
//! ```text
//! prepare (once a pod) → filter (node by node, until enough are found) → score (those found) → the best, or one of them
//! ```

mod unfit;

use std::sync::Arc;

pub(crate) use self::unfit::{Unfit, histogram};
use crate::{
    cluster::{Cluster, NodeId, index::ClassId},
    objects::Pod,
    plugins::{
        Plugin, Rejection, balanced, fit, image_locality::Images, inter_pod, node_affinity, normalize, ports,
        spread::Spread, taints, unschedulable, volumes::Volumes,
    },
    profile::Profile,
};

/// Where looking at nodes begins, and the dice.
#[derive(Debug)]
pub(crate) struct Turn {
    /// Nodes are looked at by turns: where the last decision stopped.
    pub(crate) start: usize,
    /// Chooses among equals.
    pub(crate) dice: fastrand::Rng,
}

impl Turn {
    /// Begins anew.
    pub(crate) fn new(dice: fastrand::Rng) -> Self {
        Self { start: 0, dice }
    }
}

/// A node for a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fit {
    /// The node.
    pub(crate) node: NodeId,
    /// How many nodes were looked at.
    pub(crate) evaluated: usize,
    /// How many of them would have done.
    pub(crate) feasible: usize,
}

/// All that is worked out for a pod before nodes are looked at.
pub(crate) struct Cycle<'a> {
    pod: &'a Pod,
    profile: &'a Profile,
    class: ClassId,
    tolerates_cordon: bool,
    volumes: Volumes,
    spread: Option<Spread>,
    inter_pod: Option<inter_pod::Required>,
}

impl<'a> Cycle<'a> {
    /// Works it out. The error is about the pod as a whole.
    pub(crate) fn prepare(cluster: &mut Cluster, profile: &'a Profile, pod: &'a Pod) -> Result<Self, (Plugin, String)> {
        let shape = &pod.shape;
        let volumes = Volumes::of(cluster, profile, shape)?;
        let (index, nodes) = cluster.index_and_slots();
        let class = index.class_of(shape, false, nodes);
        let by = |plugin| profile.filters_by(plugin);
        let spread = by(Plugin::PodTopologySpread).then(|| Spread::required(cluster, shape, &profile.spread));
        let inter_pod = by(Plugin::InterPodAffinity).then(|| inter_pod::Required::of(cluster, shape, class));
        Ok(Self {
            tolerates_cordon: unschedulable::tolerates(shape),
            spread: spread.filter(|spread| !spread.is_empty()),
            pod,
            profile,
            class,
            volumes,
            inter_pod,
        })
    }

    /// Whether a node will do, as things are.
    pub(crate) fn filter(&self, cluster: &Cluster, id: NodeId) -> Result<(), Rejection> {
        let state = cluster.node(id);
        let Some(node) = state.object.as_deref() else {
            return Err(Rejection::plain(Plugin::NodeName, false, "node(s) are gone"));
        };
        let (shape, profile) = (&*self.pod.shape, self.profile);
        if profile.filters_by(Plugin::NodeUnschedulable) {
            unschedulable::filter(self.tolerates_cordon, node)?;
        }
        if profile.filters_by(Plugin::TaintToleration) {
            taints::filter(shape, node)?;
        }
        if profile.filters_by(Plugin::NodeAffinity) {
            node_affinity::filter(shape, &profile.added, node)?;
        }
        if profile.filters_by(Plugin::NodePorts) {
            ports::filter(shape, state)?;
        }
        if profile.filters_by(Plugin::NodeResourcesFit) {
            fit::filter(shape, &profile.fit, state, node)?;
        }
        self.volumes.filter(cluster, node)?;
        if let Some(spread) = &self.spread {
            spread.filter(cluster, id)?;
        }
        if let Some(inter_pod) = &self.inter_pod {
            inter_pod.filter(cluster, id)?;
        }
        Ok(())
    }

    /// Whether a node will do, also with the pods for which room is being made there and that go before this one.
    pub(crate) fn filter_with_nominated(&self, cluster: &mut Cluster, id: NodeId) -> Result<(), Rejection> {
        if cluster.has_nominations() {
            let before = cluster.nominated_to(&cluster.node(id).name).iter();
            let before = before.filter(|one| one.uid != self.pod.uid && one.shape.priority >= self.pod.shape.priority);
            let before: Vec<Arc<Pod>> = before.filter(|one| !cluster.is_placed(&one.uid)).cloned().collect();
            if !before.is_empty() {
                cluster.supposing(id, &before, |cluster| self.filter(cluster, id))?;
            }
        }
        self.filter(cluster, id)
    }

    /// How good each of these nodes is.
    pub(crate) fn scores(&self, cluster: &mut Cluster, nodes: &[NodeId]) -> Vec<i64> {
        let (shape, profile) = (&*self.pod.shape, self.profile);
        let weight = |plugin| Some(profile.weight_of(plugin)).filter(|weight| *weight > 0);
        let mut totals = vec![0; nodes.len()];
        let mut add = |scores: &[i64], weight: i64| {
            for (total, score) in totals.iter_mut().zip(scores) {
                *total += score * weight;
            }
        };
        if let Some(weight) = weight(Plugin::PodTopologySpread) {
            let spread = Spread::preferred(cluster, shape, &profile.spread);
            if !spread.is_empty() {
                add(&spread.scores(cluster, nodes), weight);
            }
        }
        if let Some(weight) = weight(Plugin::InterPodAffinity) {
            let hard = profile.hard_pod_affinity_weight;
            let own_only = profile.ignore_preferred_terms_of_existing;
            let preferred = inter_pod::Preferred::of(cluster, shape, self.class, hard, own_only);
            if !preferred.is_empty(cluster) {
                add(&preferred.scores(cluster, nodes), weight);
            }
        }
        let states = || {
            nodes
                .iter()
                .filter_map(|id| Some((cluster.node(*id), cluster.node(*id).object.as_deref()?)))
        };
        if let Some(weight) = weight(Plugin::TaintToleration) {
            let mut scores: Vec<_> = states().map(|(_, node)| taints::score(shape, node)).collect();
            normalize(&mut scores, true);
            add(&scores, weight);
        }
        if let Some(weight) = weight(Plugin::NodeAffinity)
            && !(shape.preferred_nodes.is_empty() && profile.added.preferred.is_empty())
        {
            let mut scores: Vec<_> = states()
                .map(|(_, node)| node_affinity::score(shape, &profile.added, node))
                .collect();
            normalize(&mut scores, false);
            add(&scores, weight);
        }
        if let Some(weight) = weight(Plugin::NodeResourcesFit) {
            let scores: Vec<_> = states()
                .map(|(state, node)| fit::score(shape, &profile.fit, state, node))
                .collect();
            add(&scores, weight);
        }
        if let Some(weight) = weight(Plugin::BalancedAllocation)
            && balanced::concerns(shape, &profile.balanced)
        {
            let scores: Vec<_> = states()
                .map(|(state, node)| balanced::score(shape, &profile.balanced, state, node))
                .collect();
            add(&scores, weight);
        }
        if let Some(weight) = weight(Plugin::ImageLocality) {
            let images = Images::of(shape, cluster, cluster.fresh_order().len());
            if images.are_anywhere() {
                let scores: Vec<_> = nodes.iter().map(|id| images.score(*id)).collect();
                add(&scores, weight);
            }
        }
        totals
    }
}

/// Finds a node for a pod.
pub(crate) fn decide(cluster: &mut Cluster, profile: &Profile, pod: &Pod, turn: &mut Turn) -> Result<Fit, Box<Unfit>> {
    let count = cluster.order().len();
    if count == 0 {
        return Err(Unfit::no_nodes().into());
    }
    let mut unfit = Unfit::new(count);
    let cycle = match Cycle::prepare(cluster, profile, pod) {
        Ok(cycle) => cycle,
        Err((plugin, why)) => return Err(unfit.with_whole(plugin, why).into()),
    };
    let nominated = cluster.nomination(&pod.uid).or(pod.nominated.as_ref()).cloned();
    if let Some(node) = nominated.and_then(|name| cluster.node_id(&name))
        && cycle.filter_with_nominated(cluster, node).is_ok()
    {
        return Ok(Fit {
            node,
            evaluated: 1,
            feasible: 1,
        });
    }
    let named = pod
        .shape
        .node
        .names()
        .filter(|_| profile.filters_by(Plugin::NodeAffinity));
    let named: Option<Vec<NodeId>> =
        named.map(|names| names.into_iter().filter_map(|name| cluster.node_id(name)).collect());
    let among = named.as_ref().map_or(count, Vec::len);
    let enough = profile.enough(among);
    let mut feasible = Vec::with_capacity(enough.min(among));
    let mut evaluated = 0;
    while evaluated < among && feasible.len() < enough {
        let place = (turn.start + evaluated) % among;
        let id = named
            .as_ref()
            .map_or_else(|| cluster.fresh_order()[place], |named| named[place]);
        evaluated += 1;
        match cycle.filter_with_nominated(cluster, id) {
            Ok(()) => feasible.push(id),
            Err(rejection) => unfit.add(id, rejection),
        }
    }
    turn.start = (turn.start + evaluated) % count;
    let node = match feasible.as_slice() {
        [] => {
            if named.is_some() {
                unfit.others_are_not_named(count - among);
            }
            return Err(unfit.into());
        }
        [node] => *node,
        _ => best(&feasible, &cycle.scores(cluster, &feasible), &mut turn.dice),
    };
    Ok(Fit {
        node,
        evaluated,
        feasible: feasible.len(),
    })
}

/// One of those with the highest score, each as likely as the other.
fn best(nodes: &[NodeId], scores: &[i64], dice: &mut fastrand::Rng) -> NodeId {
    let mut best = nodes[0];
    let mut highest = i64::MIN;
    let mut equals = 0;
    for (node, score) in nodes.iter().zip(scores) {
        if *score > highest {
            (best, highest, equals) = (*node, *score, 1);
        } else if *score == highest {
            equals += 1;
            if dice.usize(..equals) == 0 {
                best = *node;
            }
        }
    }
    best
}

#[cfg(test)]
mod tests;
