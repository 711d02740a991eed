//! What nodes are filtered and compared by: one file a plugin, with upstream's names, reasons and figures.
//!
//! A plugin has up to three parts, all pure: what it prepares once for a pod, whether a node will do ([`Rejection`] if
//! not), and how good a node is. [`crate::decide`] calls them in upstream's order.

pub(crate) mod balanced;
pub(crate) mod fit;
pub(crate) mod image_locality;
pub(crate) mod inter_pod;
pub(crate) mod node_affinity;
pub(crate) mod ports;
pub(crate) mod spread;
pub(crate) mod taints;
pub(crate) mod unschedulable;
pub(crate) mod volumes;

use std::{fmt, sync::Arc};

use crate::objects::Taint;

/// The best that a plugin says of a node.
pub(crate) const MAX_SCORE: i64 = 100;

macro_rules! plugins {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// A plugin of upstream's default profile.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Plugin {
            $($(#[$doc])* $variant,)*
        }

        impl Plugin {
            /// All of them, in the order of upstream's default profile.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// Its name in configurations, metrics and messages.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }
        }
    };
}

plugins! {
    /// Pods wait until their gates are taken away.
    SchedulingGates = "SchedulingGates",
    /// Higher priorities first.
    PrioritySort = "PrioritySort",
    /// Cordoned nodes.
    NodeUnschedulable = "NodeUnschedulable",
    /// A pod that names its node is never scheduled.
    NodeName = "NodeName",
    /// Taints.
    TaintToleration = "TaintToleration",
    /// `nodeSelector` and node affinity.
    NodeAffinity = "NodeAffinity",
    /// Host ports.
    NodePorts = "NodePorts",
    /// Room.
    NodeResourcesFit = "NodeResourcesFit",
    /// Claims that only one pod may use.
    VolumeRestrictions = "VolumeRestrictions",
    /// How many volumes a node takes. Not implemented.
    NodeVolumeLimits = "NodeVolumeLimits",
    /// Claims and the nodes that can reach their volumes.
    VolumeBinding = "VolumeBinding",
    /// Volumes' zones by their labels.
    VolumeZone = "VolumeZone",
    /// Spreading.
    PodTopologySpread = "PodTopologySpread",
    /// What pods say about one another.
    InterPodAffinity = "InterPodAffinity",
    /// Devices by claims. Not implemented.
    DynamicResources = "DynamicResources",
    /// Making room.
    DefaultPreemption = "DefaultPreemption",
    /// Resources used in like measure.
    BalancedAllocation = "NodeResourcesBalancedAllocation",
    /// Images that are there already.
    ImageLocality = "ImageLocality",
    /// `pods/binding`.
    DefaultBinder = "DefaultBinder",
}

impl Plugin {
    /// How many there are.
    pub const COUNT: usize = Self::ALL.len();

    /// The plugin of a name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|plugin| plugin.name() == name)
    }

    /// Upstream's weight, where it compares nodes.
    pub fn weight(self) -> i64 {
        match self {
            Self::TaintToleration => 3,
            Self::NodeAffinity | Self::PodTopologySpread | Self::InterPodAffinity => 2,
            Self::NodeResourcesFit | Self::BalancedAllocation | Self::ImageLocality => 1,
            _ => 0,
        }
    }
}

impl fmt::Display for Plugin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Why a node won't do, as it is told to people.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Reason {
    /// These words.
    Plain(&'static str),
    /// Too little of a resource.
    Insufficient(Arc<str>),
    /// A taint that isn't tolerated.
    Tainted(Taint),
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plain(words) => f.write_str(words),
            Self::Insufficient(resource) => write!(f, "Insufficient {resource}"),
            Self::Tainted(taint) => write!(f, "node(s) had untolerated taint {{{}: {}}}", taint.key, taint.value),
        }
    }
}

/// One node is not for this pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rejection {
    /// Who says so.
    pub(crate) plugin: Plugin,
    /// Whether other pods' leaving could change it.
    pub(crate) resolvable: bool,
    /// Why; nearly always one reason.
    pub(crate) reason: Reason,
    /// Further reasons of the same plugin.
    pub(crate) more: Vec<Reason>,
}

impl Rejection {
    pub(crate) fn plain(plugin: Plugin, resolvable: bool, words: &'static str) -> Self {
        Self {
            plugin,
            resolvable,
            reason: Reason::Plain(words),
            more: Vec::new(),
        }
    }
}

/// Brings scores to 0..=100 by the greatest; `reverse` where less is better.
pub(crate) fn normalize(scores: &mut [i64], reverse: bool) {
    let greatest = scores.iter().copied().max().unwrap_or(0);
    for score in scores {
        let part = if greatest == 0 {
            0
        } else {
            MAX_SCORE * *score / greatest
        };
        *score = if reverse { MAX_SCORE - part } else { part };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_are_brought_to_a_hundred() {
        for (scores, reverse, expected) in [
            ([0, 5, 10], false, [0, 50, 100]),
            ([0, 5, 10], true, [100, 50, 0]),
            ([0, 0, 0], false, [0, 0, 0]),
            ([0, 0, 0], true, [100, 100, 100]),
        ] {
            let mut given = scores;
            normalize(&mut given, reverse);
            assert_eq!(given, expected, "{scores:?} {reverse}");
        }
    }

    #[test]
    fn plugins_are_found_by_their_names() {
        for plugin in Plugin::ALL {
            assert_eq!(Plugin::named(plugin.name()), Some(*plugin));
        }
        assert_eq!(Plugin::named("Nothing"), None);
    }
}
