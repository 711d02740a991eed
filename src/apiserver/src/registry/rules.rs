//! In what kinds differ within the engine: upstream's `AllowCreateOnUpdate` and its like, as tables.

use crate::{Resource, custom};

/// Whether an update of an absent object creates it.
pub(super) fn create_on_update(row: &Resource) -> bool {
    matches!(
        (&*row.group, &*row.plural),
        ("", "endpoints" | "events" | "limitranges")
            | ("events.k8s.io", "events")
            | ("coordination.k8s.io", "leases")
            | ("rbac.authorization.k8s.io", _)
            | ("node.k8s.io", "runtimeclasses")
    )
}

/// Whether an update without a resource version replaces whatever there is.
pub(super) fn unconditional_update(row: &Resource) -> bool {
    match (&*row.group, &*row.plural) {
        ("storage.k8s.io", plural) => matches!(plural, "storageclasses" | "volumeattributesclasses"),
        ("certificates.k8s.io", plural) => plural == "certificatesigningrequests",
        (group, _) => matches!(
            group,
            // All others, and all custom resources, need one.
            "" | "apps"
                | "autoscaling"
                | "batch"
                | "discovery.k8s.io"
                | "events.k8s.io"
                | "flowcontrol.apiserver.k8s.io"
                | "networking.k8s.io"
                | "rbac.authorization.k8s.io"
                | "resource.k8s.io"
                | "scheduling.k8s.io"
        ),
    }
}

/// Whether a deletion answers with the object as it was last.
pub(super) fn returns_deleted(row: &Resource) -> bool {
    matches!(
        (&*row.group, &*row.plural),
        (
            "",
            "pods"
                | "persistentvolumes"
                | "persistentvolumeclaims"
                | "podtemplates"
                | "resourcequotas"
                | "services"
                | "serviceaccounts"
        ) | (
            "storage.k8s.io",
            "storageclasses" | "csidrivers" | "csinodes" | "volumeattachments" | "csistoragecapacities"
        )
    )
}

/// Whether dependents of its objects are collected.
pub(super) fn is_collected(row: &Resource) -> bool {
    &*row.plural != "events" || !matches!(&*row.group, "" | "events.k8s.io")
}

/// The finalizer that a deletion puts in, for whoever has to clean up after its objects.
pub(super) fn holds_deletion(row: &Resource) -> Option<&'static str> {
    match (&*row.group, &*row.plural) {
        ("apiextensions.k8s.io", "customresourcedefinitions") => Some(custom::CLEANUP),
        _ => None,
    }
}
