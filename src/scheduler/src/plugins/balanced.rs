//! `NodeResourcesBalancedAllocation`: a node's resources are used in like measure.

use std::sync::Arc;

use super::MAX_SCORE;
use crate::{
    cluster::NodeState,
    objects::{Node, Shape},
};

/// Whether the pod asks for any of the resources; one that doesn't is not compared by this.
pub(crate) fn concerns(shape: &Shape, resources: &[(Arc<str>, i64)]) -> bool {
    resources.iter().any(|(name, _)| shape.requests.get(name) != 0)
}

/// 100 less the standard deviation of the shares used, in percent.
pub(crate) fn score(shape: &Shape, resources: &[(Arc<str>, i64)], state: &NodeState, node: &Node) -> i64 {
    let shares = || {
        resources.iter().filter_map(|(name, _)| {
            let asked = shape.requests.get(name);
            let capacity = node.allocatable.get(name);
            let extended = !matches!(&**name, "cpu" | "memory" | "ephemeral-storage");
            let counts = capacity != 0 && !(extended && asked == 0);
            counts.then(|| ((state.used.get(name) + asked) as f64 / capacity as f64).min(1.0))
        })
    };
    let count = shares().count() as f64;
    if count < 2.0 {
        return MAX_SCORE;
    }
    let mean = shares().sum::<f64>() / count;
    let deviation = (shares().map(|share| (share - mean).powi(2)).sum::<f64>() / count).sqrt();
    ((1.0 - deviation) * MAX_SCORE as f64) as i64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        fixtures::{node, pod, state},
        plugins::fit::FitArgs,
    };

    #[test]
    fn uneven_use_scores_less() {
        let resources = FitArgs::default().resources;
        let node = node("n", &[("cpu", "4"), ("memory", "4Gi"), ("pods", "9")]);
        let empty = state(&node, &[]);
        for (asked, expected) in [
            (vec![("cpu", "2"), ("memory", "2Gi")], 100),
            (vec![("cpu", "4"), ("memory", "2Gi")], 75),
            (vec![("cpu", "4")], 50),
        ] {
            let pod = pod("p").asks(&asked).build();
            assert_eq!(score(&pod.shape, &resources, &empty, &node), expected, "{asked:?}");
            assert!(concerns(&pod.shape, &resources));
        }
        assert!(!concerns(&pod("p").build().shape, &resources));
    }
}
