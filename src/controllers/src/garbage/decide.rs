//! What becomes of an object, by what became of its owners. Pure.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::api::PropagationPolicy;

use super::graph::{FOREGROUND, ORPHAN};

/// What became of an owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// It is there.
    Solid,
    /// It isn't there.
    Absent,
    /// It is being deleted and waits for what it owns.
    Waiting,
    /// It can't be asked for: there is no such kind, or none that could own this.
    Unknown,
}

/// What to do with an object.
#[derive(Debug, PartialEq)]
pub(super) enum Verdict {
    /// Somebody owns it, or nobody ever did.
    Keep,
    /// Somebody owns it; these references go, since whoever they name is gone.
    Disown(Vec<OwnerReference>),
    /// Nobody owns it any more.
    Delete {
        /// What becomes of what it owns.
        policy: PropagationPolicy,
        /// Its own references must cease to block before, for it may be blocking itself through others.
        unblock: bool,
    },
}

/// Decides about an object that isn't being deleted. `owns` tells whether it owns anything, `cycle` whether anything of
/// that waits for its own dependents.
pub(super) fn decide(meta: &ObjectMeta, owners: &[(&OwnerReference, Owner)], owns: bool, cycle: bool) -> Verdict {
    let any = |state: Owner| owners.iter().any(|(_, owner)| *owner == state);
    // What can't be found out is taken for being there: nothing is deleted by mistake.
    if owners.is_empty() || any(Owner::Unknown) {
        return Verdict::Keep;
    }
    if any(Owner::Solid) {
        let solid = owners.iter().filter(|(_, owner)| *owner == Owner::Solid);
        let kept: Vec<_> = solid.map(|(reference, _)| (*reference).clone()).collect();
        return if kept.len() == owners.len() {
            Verdict::Keep
        } else {
            Verdict::Disown(kept)
        };
    }
    if any(Owner::Waiting) && owns {
        return Verdict::Delete {
            policy: PropagationPolicy::Foreground,
            unblock: cycle,
        };
    }
    // What somebody asked for this object stands in its finalizers.
    let has = |finalizer: &str| meta.finalizers.iter().flatten().any(|given| given == finalizer);
    let policy = if has(ORPHAN) {
        PropagationPolicy::Orphan
    } else if has(FOREGROUND) {
        PropagationPolicy::Foreground
    } else {
        PropagationPolicy::Background
    };
    Verdict::Delete { policy, unblock: false }
}

#[cfg(test)]
mod tests {
    use super::{super::graph::tests::meta, *};

    #[test]
    fn an_object_goes_when_its_last_owner_has_gone() {
        use Owner::{Absent, Solid, Unknown, Waiting};
        let delete = |policy: &str, unblock: bool| format!("delete {policy} {unblock}");
        // Owners; its finalizers; whether it owns anything, and that waits; what becomes of it.
        let table: [(&[Owner], &str, bool, bool, String); 14] = [
            (&[], "", false, false, "keep".into()),
            (&[Solid], "", false, false, "keep".into()),
            (&[Solid, Solid], "", true, false, "keep".into()),
            (&[Solid, Absent], "", false, false, "keep owned by 0".into()),
            (&[Waiting, Solid], "", true, false, "keep owned by 1".into()),
            (&[Absent], "", false, false, delete("Background", false)),
            (&[Absent], "", true, false, delete("Background", false)),
            (&[Absent, Absent], "o", true, false, delete("Orphan", false)),
            (&[Absent], "f", true, false, delete("Foreground", false)),
            (&[Waiting], "", false, false, delete("Background", false)),
            (&[Waiting], "", true, false, delete("Foreground", false)),
            (&[Absent, Waiting], "", true, true, delete("Foreground", true)),
            (&[Unknown], "", false, false, "keep".into()),
            (&[Absent, Unknown], "", true, false, "keep".into()),
        ];
        for (states, how, owns, cycle, expected) in table {
            let names: Vec<_> = (0..states.len()).map(|number| number.to_string()).collect();
            let object = meta("x", how, &names.iter().map(String::as_str).collect::<Vec<_>>());
            let references = object.owner_references.as_deref().unwrap_or_default();
            let owners: Vec<_> = references.iter().zip(states.iter().copied()).collect();
            let shown = match decide(&object, &owners, owns, cycle) {
                Verdict::Keep => "keep".to_owned(),
                Verdict::Disown(kept) => {
                    let kept: Vec<_> = kept.iter().map(|owner| owner.uid.as_str()).collect();
                    format!("keep owned by {}", kept.join(","))
                }
                Verdict::Delete { policy, unblock } => format!("delete {policy:?} {unblock}"),
            };
            assert_eq!(shown, expected, "{states:?} {how:?} {owns} {cycle}");
        }
    }
}
