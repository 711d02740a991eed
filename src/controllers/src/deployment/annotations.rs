//! What a ReplicaSet remembers of its Deployment, in annotations that `kubectl rollout` reads.

use std::collections::BTreeMap;

use super::Deployment;

/// On Deployments and ReplicaSets: the number of the rollout, counted from 1.
pub const REVISION: &str = "deployment.kubernetes.io/revision";
/// On ReplicaSets: the numbers it had before it was rolled back to, with commas between them.
pub const REVISION_HISTORY: &str = "deployment.kubernetes.io/revision-history";
/// On ReplicaSets: how many pods the Deployment wanted when it last scaled this set.
pub const DESIRED: &str = "deployment.kubernetes.io/desired-replicas";
/// On ReplicaSets: how many pods it would have had at most.
pub const MAX: &str = "deployment.kubernetes.io/max-replicas";

/// Those that are the Deployment's own affair, or the set's.
const NOT_COPIED: [&str; 6] = [
    "kubectl.kubernetes.io/last-applied-configuration",
    REVISION,
    REVISION_HISTORY,
    DESIRED,
    MAX,
    "deprecated.deployment.rollback.to",
];

/// The longest history that is kept, in characters.
const HISTORY_LENGTH: usize = 2000;

/// Annotations of an object.
pub type Annotations = BTreeMap<String, String>;

/// The number of a rollout, 0 where there is none.
pub fn revision(annotations: &Annotations) -> i64 {
    annotations
        .get(REVISION)
        .and_then(|revision| revision.parse().ok())
        .unwrap_or_default()
}

/// A number among the annotations.
pub fn number(annotations: &Annotations, key: &str) -> Option<i32> {
    annotations.get(key)?.parse().ok()
}

/// Copies to a ReplicaSet's annotations those of its Deployment, and gives it at least this revision. Where it had
/// another one, that goes into its history: it was rolled back to.
pub fn inherit(annotations: &mut Annotations, deployment: &Deployment, revision: i64) {
    let inherited = deployment.metadata.annotations.iter().flatten();
    for (key, value) in inherited.filter(|(key, _)| !NOT_COPIED.contains(&key.as_str())) {
        annotations.insert(key.clone(), value.clone());
    }
    if self::revision(annotations) >= revision {
        return;
    }
    if let Some(old) = annotations.insert(REVISION.to_owned(), revision.to_string()) {
        let history = annotations.entry(REVISION_HISTORY.to_owned()).or_default();
        if !history.is_empty() {
            history.push(',');
        }
        history.push_str(&old);
        while history.len() > HISTORY_LENGTH {
            let Some((_, rest)) = history.split_once(',') else {
                break;
            };
            *history = rest.to_owned();
        }
    }
}

/// Notes what the Deployment wants, so that a change of that can be told from a rollout.
pub fn note_size(annotations: &mut Annotations, deployment: &Deployment) {
    let (wanted, most) = (deployment.replicas(), deployment.replicas() + deployment.max_surge());
    annotations.insert(DESIRED.to_owned(), wanted.to_string());
    annotations.insert(MAX.to_owned(), most.to_string());
}
