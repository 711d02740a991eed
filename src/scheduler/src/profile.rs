//! A way of scheduling, chosen by a pod's `spec.schedulerName`: which plugins, and what they are told.

use std::sync::Arc;

use crate::{
    objects::{NodeRequirement, PreferredNode, SpreadConstraint},
    plugins::{Plugin, fit::FitArgs},
};

/// What pods are spread by that say nothing of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SpreadDefaults {
    /// Upstream's: over nodes and zones, loosely.
    System,
    /// These; their selectors are found per pod.
    List(Vec<SpreadConstraint>),
}

impl SpreadDefaults {
    pub(crate) fn is_system(&self) -> bool {
        *self == Self::System
    }
}

/// What a profile asks of all nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AddedAffinity {
    /// Nodes must be this.
    pub required: NodeRequirement,
    /// Nodes had better be this.
    pub preferred: Vec<PreferredNode>,
}

/// A way of scheduling. The default is upstream's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    /// `spec.schedulerName` of its pods.
    pub name: Arc<str>,
    /// How many percent of the nodes to find before comparing them; 0 adapts to the cluster's size.
    pub percentage: u32,
    /// By plugin: whether it filters.
    pub filters: [bool; Plugin::COUNT],
    /// By plugin: its weight in comparing nodes; 0 leaves it out.
    pub weights: [i64; Plugin::COUNT],
    /// Whether room is made for pods of higher priority.
    pub preempts: bool,
    /// `NodeResourcesFit`
    pub fit: FitArgs,
    /// `NodeResourcesBalancedAllocation`: resources and weights.
    pub balanced: Vec<(Arc<str>, i64)>,
    /// `NodeAffinity`
    pub added: AddedAffinity,
    /// `PodTopologySpread`
    pub spread: SpreadDefaults,
    /// `InterPodAffinity`: the weight of what placed pods require.
    pub hard_pod_affinity_weight: i64,
    /// `InterPodAffinity`: placed pods' preferences count only for pods that have some.
    pub ignore_preferred_terms_of_existing: bool,
    /// `DefaultPreemption`: how many percent of the nodes to look at.
    pub candidates_percentage: u32,
    /// `DefaultPreemption`: and how many at least.
    pub candidates_least: u32,
}

impl Default for Profile {
    fn default() -> Self {
        let mut weights = [0; Plugin::COUNT];
        for plugin in Plugin::ALL {
            weights[*plugin as usize] = plugin.weight();
        }
        Self {
            name: "default-scheduler".into(),
            percentage: 0,
            filters: [true; Plugin::COUNT],
            weights,
            preempts: true,
            fit: FitArgs::default(),
            balanced: FitArgs::default().resources,
            added: AddedAffinity::default(),
            spread: SpreadDefaults::System,
            hard_pod_affinity_weight: 1,
            ignore_preferred_terms_of_existing: false,
            candidates_percentage: 10,
            candidates_least: 100,
        }
    }
}

impl Profile {
    /// Whether a plugin filters.
    #[inline]
    pub fn filters_by(&self, plugin: Plugin) -> bool {
        self.filters[plugin as usize]
    }

    /// A plugin's weight.
    #[inline]
    pub fn weight_of(&self, plugin: Plugin) -> i64 {
        self.weights[plugin as usize]
    }

    /// How many nodes to find before comparing them.
    pub(crate) fn enough(&self, nodes: usize) -> usize {
        const LEAST: usize = 100;
        if nodes < LEAST {
            return nodes;
        }
        let percentage = match self.percentage {
            0 => 50usize.saturating_sub(nodes / 125).max(5),
            percentage => percentage as usize,
        };
        (nodes * percentage / 100).max(LEAST)
    }

    /// How many nodes to look at for making room.
    pub(crate) fn candidates(&self, nodes: usize) -> usize {
        (nodes * self.candidates_percentage as usize / 100)
            .max(self.candidates_least as usize)
            .min(nodes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_larger_the_cluster_the_smaller_the_part_that_is_compared() {
        for (percentage, nodes, expected) in [
            (0, 10, 10),
            (0, 150, 100),
            (0, 1000, 420),
            (0, 5000, 500),
            (0, 20_000, 1000),
            (40, 1000, 400),
            (1, 1000, 100),
            (100, 5000, 5000),
        ] {
            let profile = Profile {
                percentage,
                ..Profile::default()
            };
            assert_eq!(profile.enough(nodes), expected, "{percentage} % of {nodes}");
        }
        assert_eq!(Profile::default().candidates(5000), 500);
        assert_eq!(Profile::default().candidates(50), 50);
    }
}
