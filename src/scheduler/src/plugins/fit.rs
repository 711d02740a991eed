//! `NodeResourcesFit`: room on a node, and how full it would be.

use std::sync::Arc;

use super::{MAX_SCORE, Plugin, Reason, Rejection};
use crate::{
    cluster::NodeState,
    objects::{Node, Shape},
};

/// What counts, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FitArgs {
    /// Extended resources that are not looked at when nodes are filtered.
    pub ignored: Vec<Arc<str>>,
    /// The same for all of a domain.
    pub ignored_groups: Vec<Arc<str>>,
    /// How nodes are compared.
    pub strategy: Strategy,
    /// By which resources, and their weights.
    pub resources: Vec<(Arc<str>, i64)>,
}

/// How nodes are compared by how full they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Strategy {
    /// Emptier is better.
    LeastAllocated,
    /// Fuller is better.
    MostAllocated,
    /// By a line through points of percentage used and score (0 to 10).
    RequestedToCapacityRatio(Vec<(i64, i64)>),
}

impl Default for FitArgs {
    fn default() -> Self {
        Self {
            ignored: Vec::new(),
            ignored_groups: Vec::new(),
            strategy: Strategy::LeastAllocated,
            resources: vec![("cpu".into(), 1), ("memory".into(), 1)],
        }
    }
}

impl FitArgs {
    fn ignores(&self, resource: &str) -> bool {
        let group = resource.split_once('/').map(|(group, _)| group);
        self.ignored.iter().any(|one| **one == *resource)
            || group.is_some_and(|group| self.ignored_groups.iter().any(|one| **one == *group))
    }
}

/// Whether there is room.
pub(crate) fn filter(shape: &Shape, args: &FitArgs, state: &NodeState, node: &Node) -> Result<(), Rejection> {
    let mut short = Short::default();
    if state.pods().len() as i64 + 1 > node.pods {
        short.of(Reason::Plain("Too many pods"), false);
    }
    let asked = &shape.requests;
    if !asked.is_zero() {
        let (used, all) = (&state.used, &node.allocatable);
        for (name, asked, used, all) in [
            ("cpu", asked.cpu, used.cpu, all.cpu),
            ("memory", asked.memory, used.memory, all.memory),
            ("ephemeral-storage", asked.ephemeral, used.ephemeral, all.ephemeral),
        ] {
            if asked > 0 && asked > all - used {
                short.of(Reason::Insufficient(name.into()), asked > all);
            }
        }
        for (name, amount) in &asked.scalar {
            let all = all.get(name);
            if *amount > 0 && !args.ignores(name) && *amount > all - used.get(name) {
                short.of(Reason::Insufficient(name.clone()), *amount > all);
            }
        }
    }
    short.told()
}

/// What there is too little of.
#[derive(Default)]
struct Short {
    reasons: Vec<Reason>,
    /// The node never has as much.
    ever: bool,
}

impl Short {
    fn of(&mut self, reason: Reason, ever: bool) {
        self.reasons.push(reason);
        self.ever |= ever;
    }

    fn told(mut self) -> Result<(), Rejection> {
        if self.reasons.is_empty() {
            return Ok(());
        }
        Err(Rejection {
            plugin: Plugin::NodeResourcesFit,
            resolvable: !self.ever,
            reason: self.reasons.remove(0),
            more: self.reasons,
        })
    }
}

/// How good the node is with the pod on it.
pub(crate) fn score(shape: &Shape, args: &FitArgs, state: &NodeState, node: &Node) -> i64 {
    let (mut sum, mut weights) = (0, 0);
    for (name, weight) in &args.resources {
        let (used, asked) = match &**name {
            "cpu" => (state.usual.0, shape.usual.0),
            "memory" => (state.usual.1, shape.usual.1),
            name => (state.used.get(name), shape.requests.get(name)),
        };
        let capacity = node.allocatable.get(name);
        let extended = !matches!(&**name, "cpu" | "memory" | "ephemeral-storage");
        if capacity == 0 || (extended && asked == 0) {
            continue;
        }
        let one = args.strategy.score(used + asked, capacity);
        let by_ratio = matches!(args.strategy, Strategy::RequestedToCapacityRatio(_));
        if !by_ratio || one > 0 {
            sum += one * weight;
            weights += weight;
        }
    }
    match (&args.strategy, weights) {
        (_, 0) => 0,
        (Strategy::RequestedToCapacityRatio(_), _) => (sum as f64 / weights as f64).round() as i64,
        _ => sum / weights,
    }
}

impl Strategy {
    fn score(&self, used: i64, capacity: i64) -> i64 {
        match self {
            Self::LeastAllocated if used > capacity => 0,
            Self::LeastAllocated => percent(capacity - used, capacity),
            Self::MostAllocated => percent(used.min(capacity), capacity),
            Self::RequestedToCapacityRatio(points) => {
                let ratio = if used > capacity { 100 } else { percent(used, capacity) };
                along(points, ratio) * (MAX_SCORE / 10)
            }
        }
    }
}

fn percent(part: i64, whole: i64) -> i64 {
    (i128::from(part) * i128::from(MAX_SCORE) / i128::from(whole)) as i64
}

/// The line through the points, level before the first and after the last.
fn along(points: &[(i64, i64)], at: i64) -> i64 {
    let next = points.iter().position(|(utilization, _)| at <= *utilization);
    match next {
        None => points.last().map_or(0, |(_, score)| *score),
        Some(0) => points[0].1,
        Some(next) => {
            let ((x0, y0), (x1, y1)) = (points[next - 1], points[next]);
            y0 + (y1 - y0) * (at - x0) / (x1 - x0)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{node, pod, state};

    #[test]
    fn what_there_is_too_little_of_is_named_and_whether_there_ever_is_enough() {
        let node = node(
            "n",
            &[("cpu", "2"), ("memory", "1Gi"), ("pods", "1"), ("example.com/gpu", "1")],
        );
        let other = pod("other").asks(&[("cpu", "1500m"), ("example.com/gpu", "1")]).build();
        let full = state(&node, &[&other]);
        let empty = state(&node, &[]);
        let with_room = crate::fixtures::node(
            "n",
            &[("cpu", "2"), ("memory", "1Gi"), ("pods", "9"), ("example.com/gpu", "1")],
        );
        let room = state(&with_room, &[&other]);
        let ignoring = FitArgs {
            ignored_groups: vec!["example.com".into()],
            ..FitArgs::default()
        };
        let usual = FitArgs::default();
        for (asked, args, state, expected) in [
            (vec![("cpu", "1")], &usual, &empty, None),
            (
                vec![("cpu", "1")],
                &usual,
                &room,
                Some((true, vec!["Insufficient cpu"])),
            ),
            (
                vec![("cpu", "3")],
                &usual,
                &room,
                Some((false, vec!["Insufficient cpu"])),
            ),
            (
                vec![("cpu", "1"), ("memory", "2Gi")],
                &usual,
                &full,
                Some((false, vec!["Too many pods", "Insufficient cpu", "Insufficient memory"])),
            ),
            (
                vec![("example.com/gpu", "1")],
                &usual,
                &room,
                Some((true, vec!["Insufficient example.com/gpu"])),
            ),
            (vec![("example.com/gpu", "1")], &ignoring, &room, None),
            (vec![], &usual, &room, None),
        ] {
            let pod = pod("p").asks(&asked).build();
            let found = filter(&pod.shape, args, state, state.object.as_ref().unwrap()).err();
            let told = found.map(|one| {
                let reasons = std::iter::once(&one.reason)
                    .chain(&one.more)
                    .map(ToString::to_string)
                    .collect::<Vec<_>>();
                (one.resolvable, reasons)
            });
            let expected =
                expected.map(|(resolvable, reasons)| (resolvable, reasons.into_iter().map(str::to_owned).collect()));
            assert_eq!(told, expected, "{asked:?}");
        }
    }

    #[test]
    fn nodes_are_compared_by_the_strategy() {
        let node = node("n", &[("cpu", "4"), ("memory", "8Gi"), ("pods", "9")]);
        let state = state(&node, &[&pod("other").asks(&[("cpu", "1"), ("memory", "1Gi")]).build()]);
        let asked = pod("p").asks(&[("cpu", "1"), ("memory", "3Gi")]).build();
        let shape = Strategy::RequestedToCapacityRatio(vec![(0, 0), (100, 10)]);
        for (strategy, expected) in [
            (Strategy::LeastAllocated, 50),
            (Strategy::MostAllocated, 50),
            (shape, 50),
        ] {
            let args = FitArgs {
                strategy,
                ..FitArgs::default()
            };
            assert_eq!(score(&asked.shape, &args, &state, &node), expected, "{args:?}");
        }
        let cpu_only = FitArgs {
            resources: vec![("cpu".into(), 3), ("example.com/gpu".into(), 5)],
            ..FitArgs::default()
        };
        let plain = pod("plain").build();
        assert_eq!(
            score(&plain.shape, &cpu_only, &state, &node),
            72,
            "a pod without requests counts as 100m"
        );
    }

    #[test]
    fn the_line_is_level_beyond_its_points() {
        let points = [(20, 0), (60, 10), (80, 5)];
        for (at, expected) in [(0, 0), (20, 0), (40, 5), (60, 10), (70, 8), (80, 5), (100, 5)] {
            assert_eq!(along(&points, at), expected, "{at}");
        }
    }
}
