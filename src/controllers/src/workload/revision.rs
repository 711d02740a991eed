//! The history of a template as ControllerRevisions.
//!
//! Their data is what `kubectl rollout history` shows and `rollout undo` sends back: a strategic merge patch that
//! replaces the template.

use std::{collections::BTreeSet, sync::Arc};

use bosun_client::projected;
use k8s_openapi::{
    api::apps::v1::ControllerRevision,
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
};
use serde_json::{Value, json};

use super::hash;

/// Label of DaemonSets' revisions and of pods: the revision's hash, or in a StatefulSet's pod its name.
pub const REVISION_HASH: &str = "controller-revision-hash";

projected! {
    /// One state that a template was in.
    #[allow(clippy::struct_field_names, reason = "the field is called so on the wire")]
    pub struct Revision: ControllerRevision {
        /// The patch that brings it back.
        pub data: Value,
        /// Its number: the highest is the newest.
        pub revision: i64,
    }
}

impl Revision {
    /// `metadata.name`.
    pub fn name(&self) -> &str {
        self.metadata.name.as_deref().unwrap_or_default()
    }

    /// The template as it was.
    pub fn template(&self) -> Value {
        let mut template = self.data.pointer("/spec/template").cloned().unwrap_or_default();
        if let Some(fields) = template.as_object_mut() {
            fields.shift_remove("$patch");
        }
        template
    }
}

/// The revision for the template as it is now.
#[derive(Clone, Debug)]
pub enum Wanted {
    /// It is the newest there is.
    Newest(Arc<Revision>),
    /// It was there before, and becomes the newest by getting this number.
    Again(Arc<Revision>, i64),
    /// It has to be made.
    New {
        /// Its name.
        name: String,
        /// The hash in its name.
        hash: String,
        /// The object.
        object: Value,
    },
}

impl Wanted {
    /// The name of the revision.
    pub fn name(&self) -> &str {
        match self {
            Self::Newest(revision) | Self::Again(revision, _) => revision.name(),
            Self::New { name, .. } => name,
        }
    }
}

/// Sorts revisions, oldest first.
pub fn sort(revisions: &mut [Arc<Revision>]) {
    revisions.sort_by(|one, other| {
        let created = |revision: &Revision| revision.metadata.creation_timestamp.as_ref().map(|time| time.0);
        let key = |revision: &Revision| (revision.revision, created(revision));
        key(one).cmp(&key(other)).then_with(|| one.name().cmp(other.name()))
    });
}

/// The patch that brings a template back.
pub fn data(template: &Value) -> Value {
    let mut template = hash::canonical(template);
    template["$patch"] = "replace".into();
    json!({"spec": {"template": template}})
}

/// Finds the revision for `template` among those there are, sorted, or says which to make. The hash goes under `label`.
pub fn wanted(
    meta: &ObjectMeta,
    owner: &OwnerReference,
    template: &Value,
    label: &str,
    revisions: &[Arc<Revision>],
    collisions: Option<i32>,
) -> Wanted {
    let wanted_data = data(template);
    let same = |revision: &&Arc<Revision>| hash::canonical(&revision.data) == hash::canonical(&wanted_data);
    let next = revisions.last().map_or(1, |newest| newest.revision + 1);
    match revisions.iter().rfind(same) {
        Some(found) if found.revision + 1 == next => return Wanted::Newest(found.clone()),
        Some(found) => return Wanted::Again(found.clone(), next),
        None => {}
    }
    let hash = hash::short(&wanted_data, collisions);
    // The name is a label of pods too, and their server cuts nothing.
    let name = format!("{}-{hash}", owner.name.chars().take(223).collect::<String>());
    let mut labels = template
        .pointer("/metadata/labels")
        .cloned()
        .unwrap_or_else(|| json!({}));
    labels[label] = hash.clone().into();
    let object = json!({
        "apiVersion": "apps/v1",
        "kind": "ControllerRevision",
        "metadata": {
            "name": name,
            "labels": labels,
            "annotations": meta.annotations.clone().unwrap_or_default(),
            "ownerReferences": [owner],
        },
        "data": wanted_data,
        "revision": next,
    });
    Wanted::New { name, hash, object }
}

/// Revisions that can go: the oldest of those that are not `live`, beyond `limit`.
pub fn superfluous(revisions: &[Arc<Revision>], live: &BTreeSet<&str>, limit: i32) -> Vec<Arc<Revision>> {
    let past: Vec<_> = revisions
        .iter()
        .filter(|revision| !live.contains(revision.name()))
        .collect();
    let Ok(limit) = usize::try_from(limit) else {
        return vec![];
    };
    let more = past.len().saturating_sub(limit);
    past.into_iter().take(more).cloned().collect()
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::apps::v1::StatefulSet;

    use super::*;
    use crate::workload::template::controller_ref;

    fn meta() -> ObjectMeta {
        serde_json::from_value(json!({"name": "db", "uid": "u", "annotations": {"kubernetes.io/change-cause": "why"}}))
            .unwrap()
    }

    fn template(image: &str) -> Value {
        json!({"metadata": {"labels": {"app": "db"}}, "spec": {"containers": [{"name": "c", "image": image}]}})
    }

    fn find(revisions: &[Arc<Revision>], image: &str, collisions: Option<i32>) -> Wanted {
        let owner = controller_ref::<StatefulSet>(&meta());
        wanted(&meta(), &owner, &template(image), REVISION_HASH, revisions, collisions)
    }

    fn made(revisions: &[Arc<Revision>], image: &str) -> Arc<Revision> {
        let Wanted::New { object, .. } = find(revisions, image, None) else {
            panic!("{image} is new")
        };
        Arc::new(serde_json::from_value(object).unwrap())
    }

    #[test]
    fn a_template_gets_a_revision_once_and_its_number_anew_when_it_comes_back() {
        let first = made(&[], "one");
        assert_eq!(first.revision, 1);
        assert_eq!(first.data["spec"]["template"]["$patch"], "replace");
        assert_eq!(first.metadata.annotations, meta().annotations);
        assert_eq!(first.template(), template("one"));
        let second = made(std::slice::from_ref(&first), "two");
        assert_eq!(second.revision, 2);
        let both = [first.clone(), second.clone()];
        assert!(matches!(find(&both, "two", None), Wanted::Newest(found) if found.name() == second.name()));
        assert!(matches!(find(&both, "one", None), Wanted::Again(found, 3) if found.name() == first.name()));
    }

    #[test]
    fn a_collision_gives_another_name() {
        assert_ne!(find(&[], "one", None).name(), find(&[], "one", Some(1)).name());
    }

    #[test]
    fn the_oldest_that_nothing_uses_go_first() {
        let mut revisions = vec![];
        for image in ["one", "two", "three", "four"] {
            revisions.push(made(&revisions, image));
        }
        let live = BTreeSet::from([revisions[0].name(), revisions[3].name()]);
        let names = |limit| {
            let gone = superfluous(&revisions, &live, limit);
            gone.iter().map(|revision| revision.revision).collect::<Vec<_>>()
        };
        assert_eq!(names(2), [] as [i64; 0]);
        assert_eq!(names(1), [2]);
        assert_eq!(names(0), [2, 3]);
    }
}
