//! What is said of a namespace that is being deleted. Pure; types, reasons and messages are upstream's.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::{api::core::v1::NamespaceCondition, apimachinery::pkg::apis::meta::v1::Time};

/// What was found while deleting what is in a namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// Why not all kinds are known.
    pub(super) unknown: Vec<String>,
    /// What could not be deleted or listed.
    pub(super) failures: Vec<String>,
    /// Objects that are still there, by `plural.group`.
    pub(super) remaining: BTreeMap<String, usize>,
    /// Objects that each finalizer holds.
    pub(super) finalizers: BTreeMap<String, usize>,
}

impl Found {
    /// Whether the namespace is empty, as far as anybody knows.
    pub(super) fn is_empty(&self) -> bool {
        self.unknown.is_empty() && self.failures.is_empty() && self.remaining.is_empty()
    }
}

/// All conditions as they should be; those of others are kept.
pub(super) fn conditions(before: &[NamespaceCondition], found: &Found, now: Timestamp) -> Vec<NamespaceCondition> {
    let counted = |counts: &BTreeMap<String, usize>, word: &str| {
        let each = counts
            .iter()
            .map(|(name, count)| format!("{name} {word} {count} resource instances"));
        each.collect::<Vec<_>>().join(", ")
    };
    let said = [
        (
            "NamespaceDeletionDiscoveryFailure",
            (!found.unknown.is_empty()).then(|| {
                (
                    "DiscoveryFailed",
                    format!(
                        "Discovery failed for some groups, {} failing: {}",
                        found.unknown.len(),
                        found.unknown.join(", ")
                    ),
                )
            }),
            ("ResourcesDiscovered", "All resources successfully discovered"),
        ),
        (
            "NamespaceDeletionGroupVersionParsingFailure",
            None,
            ("ParsedGroupVersions", "All legacy kube types successfully parsed"),
        ),
        (
            "NamespaceDeletionContentFailure",
            (!found.failures.is_empty()).then(|| {
                (
                    "ContentDeletionFailed",
                    format!(
                        "Failed to delete all resource types, {} remaining: {}",
                        found.failures.len(),
                        found.failures.join(", ")
                    ),
                )
            }),
            (
                "ContentDeleted",
                "All content successfully deleted, may be waiting on finalization",
            ),
        ),
        (
            "NamespaceContentRemaining",
            (!found.remaining.is_empty()).then(|| {
                (
                    "SomeResourcesRemain",
                    format!("Some resources are remaining: {}", counted(&found.remaining, "has")),
                )
            }),
            ("ContentRemoved", "All content successfully removed"),
        ),
        (
            "NamespaceFinalizersRemaining",
            (!found.finalizers.is_empty()).then(|| {
                let what = counted(&found.finalizers, "in");
                (
                    "SomeFinalizersRemain",
                    format!("Some content in the namespace has finalizers remaining: {what}"),
                )
            }),
            ("ContentHasNoFinalizers", "All content-preserving finalizers finished"),
        ),
    ];
    let mut all = before.to_vec();
    for (type_, problem, fine) in said {
        let (status, (reason, message)) = match problem {
            Some(problem) => ("True", problem),
            None => ("False", (fine.0, fine.1.to_owned())),
        };
        let held = all.iter().find(|condition| condition.type_ == type_);
        let since = held
            .filter(|held| held.status == status)
            .and_then(|held| held.last_transition_time.clone());
        let new = NamespaceCondition {
            type_: type_.to_owned(),
            status: status.to_owned(),
            reason: Some(reason.to_owned()),
            message: Some(message),
            last_transition_time: since.or(Some(Time(now))),
        };
        match all.iter_mut().find(|condition| condition.type_ == type_) {
            Some(held) => *held = new,
            None => all.push(new),
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_hinders_a_deletion_is_said_in_upstreams_words() {
        let now = Timestamp::from_second(1_800_000_000).expect("in range");
        let found = Found {
            unknown: vec!["metrics.k8s.io/v1".to_owned()],
            failures: vec!["pods: forbidden".to_owned()],
            remaining: [("pods.".to_owned(), 2), ("jobs.batch".to_owned(), 1)].into(),
            finalizers: [("example.org/hold".to_owned(), 2)].into(),
        };
        let said = conditions(&[], &found, now);
        let by = |type_: &str| {
            said.iter()
                .find(|condition| condition.type_ == type_)
                .expect("it is said")
        };
        assert_eq!(by("NamespaceDeletionDiscoveryFailure").status, "True");
        assert_eq!(by("NamespaceDeletionGroupVersionParsingFailure").status, "False");
        assert_eq!(
            by("NamespaceContentRemaining").message.as_deref(),
            Some("Some resources are remaining: jobs.batch has 1 resource instances, pods. has 2 resource instances")
        );
        assert_eq!(
            by("NamespaceFinalizersRemaining").message.as_deref(),
            Some("Some content in the namespace has finalizers remaining: example.org/hold in 2 resource instances")
        );
        // Later: what stays as it was keeps its time.
        let later = Timestamp::from_second(1_800_000_060).expect("in range");
        let found = Found {
            remaining: found.remaining,
            ..Found::default()
        };
        let said = conditions(&said, &found, later);
        assert_eq!(said.len(), 5);
        let time = |type_: &str| {
            let condition = said
                .iter()
                .find(|condition| condition.type_ == type_)
                .expect("it is said");
            condition.last_transition_time.as_ref().expect("a time").0
        };
        assert_eq!(time("NamespaceContentRemaining"), now);
        assert_eq!(time("NamespaceDeletionContentFailure"), later);
        assert!(!found.is_empty() && Found::default().is_empty());
    }
}
