//! `ImageLocality`: nodes that have the pod's images already.

use std::collections::HashMap;

use super::MAX_SCORE;
use crate::{
    cluster::{Cluster, NodeId},
    objects::Shape,
};

const MIB: i64 = 1024 * 1024;
/// Less than this is fetched so soon that it doesn't matter.
const LEAST: i64 = 23 * MIB;
/// More than this for each image makes no difference.
const MOST: i64 = 1000 * MIB;

/// The pod's images that any node has.
pub(crate) struct Images<'a> {
    found: Vec<&'a HashMap<NodeId, u64>>,
    all: i64,
    nodes: usize,
}

impl<'a> Images<'a> {
    /// Looks the pod's images up.
    pub(crate) fn of(shape: &Shape, cluster: &'a Cluster, nodes: usize) -> Self {
        Self {
            found: shape.images.iter().filter_map(|image| cluster.image(image)).collect(),
            all: shape.images.len() as i64,
            nodes,
        }
    }

    /// Whether any node has any.
    pub(crate) fn are_anywhere(&self) -> bool {
        !self.found.is_empty()
    }

    /// How good the node is: the bytes it has, each image's scaled by how many nodes have it, so that one node that has
    /// them all doesn't get all pods.
    pub(crate) fn score(&self, node: NodeId) -> i64 {
        let scaled = |on: &HashMap<NodeId, u64>| {
            on.get(&node)
                .map_or(0, |size| (*size as f64 * on.len() as f64 / self.nodes as f64) as i64)
        };
        let most = MOST * self.all.max(1);
        let sum = self.found.iter().map(|on| scaled(on)).sum::<i64>().clamp(LEAST, most);
        MAX_SCORE * (sum - LEAST) / (most - LEAST)
    }
}
