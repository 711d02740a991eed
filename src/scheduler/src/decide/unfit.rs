//! Why no node will do, as people are told it.

use std::{
    collections::{BTreeSet, HashMap},
    fmt,
};

use crate::{
    cluster::NodeId,
    plugins::{Plugin, Reason, Rejection},
};

/// No node will do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Unfit {
    /// How many nodes there are.
    nodes: usize,
    /// What is wrong with the pod as a whole.
    whole: Option<String>,
    reasons: HashMap<Reason, usize>,
    /// How many nodes were out before they were looked at.
    not_named: usize,
    /// Who rejected; what happens to nodes and pods concerns the pod only as far as these are concerned.
    pub(crate) plugins: BTreeSet<Plugin>,
    /// The nodes that may do once pods have left them.
    pub(crate) resolvable: Vec<NodeId>,
    /// What came of trying to make room.
    pub(crate) preemption: Option<String>,
}

impl Unfit {
    pub(super) fn new(nodes: usize) -> Self {
        Self {
            nodes,
            ..Self::default()
        }
    }

    pub(super) fn no_nodes() -> Self {
        Self::default()
    }

    pub(super) fn with_whole(mut self, plugin: Plugin, why: String) -> Self {
        self.whole = Some(why);
        self.plugins.insert(plugin);
        self
    }

    pub(super) fn add(&mut self, node: NodeId, rejection: Rejection) {
        self.plugins.insert(rejection.plugin);
        for reason in std::iter::once(rejection.reason).chain(rejection.more) {
            *self.reasons.entry(reason).or_insert(0) += 1;
        }
        if rejection.resolvable {
            self.resolvable.push(node);
        }
    }

    pub(super) fn others_are_not_named(&mut self, nodes: usize) {
        self.not_named = nodes;
        self.plugins.insert(Plugin::NodeAffinity);
    }

    /// How many nodes there are.
    pub(crate) fn nodes(&self) -> usize {
        self.nodes
    }
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nodes == 0 {
            return f.write_str("no nodes available to schedule pods");
        }
        write!(f, "0/{} nodes are available:", self.nodes)?;
        if let Some(whole) = &self.whole {
            write!(f, " {whole}.")?;
        } else {
            let reasons = self.reasons.iter().map(|(reason, count)| (reason.to_string(), *count));
            let not_named = format!("node(s) didn't satisfy plugin(s) [{}]", Plugin::NodeAffinity);
            let not_named = (self.not_named > 0).then_some((not_named, self.not_named));
            write!(f, " {}.", histogram(reasons.chain(not_named)))?;
        }
        match &self.preemption {
            Some(told) => write!(f, " preemption: {told}"),
            None => Ok(()),
        }
    }
}

/// Reasons with their counts, sorted as they are written, as upstream does.
pub(crate) fn histogram(reasons: impl Iterator<Item = (String, usize)>) -> String {
    let mut told: Vec<String> = reasons.map(|(reason, count)| format!("{count} {reason}")).collect();
    told.sort();
    told.join(", ")
}
