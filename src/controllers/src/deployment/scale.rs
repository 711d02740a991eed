//! What a change of the wanted number does to sets that are being rolled out, or that a pause keeps side by side: each
//! keeps its share, so that the risk of the new template stays what it was.

use std::cmp::Reverse;

use kube::ResourceExt;

use super::{
    annotations,
    plan::{Draft, Work},
};

/// A set with pods was last scaled for another number than is wanted now.
pub(super) fn is_due(work: &Work<'_>) -> bool {
    let wanted = work.snapshot.deployment.replicas();
    let noted = |draft: &Draft| draft.number(annotations::DESIRED);
    work.all()
        .filter(|draft| draft.size() > 0)
        .any(|draft| noted(draft).is_some_and(|noted| noted != wanted))
}

/// Scales all sets to the number that is wanted now.
pub(super) fn scale(work: &mut Work<'_>) {
    let deployment = work.snapshot.deployment;
    let wanted = deployment.replicas();
    if let Some(only) = only_one(work) {
        if only.size() != wanted {
            only.scale(wanted, deployment);
        }
        return;
    }
    if work.new.as_ref().is_some_and(|new| is_saturated(new, wanted)) {
        for draft in work.active_old() {
            draft.scale(0, deployment);
        }
        return;
    }
    if !deployment.recreates() {
        scale_proportionally(work);
    }
}

/// The only set with pods; where there is none, the new one or else the newest.
fn only_one<'w>(work: &'w mut Work<'_>) -> Option<&'w mut Draft> {
    match work.all().filter(|draft| draft.size() > 0).count() {
        0 if work.new.is_some() => work.new.as_mut(),
        0 => work.old.last_mut(),
        1 => work.all_mut().find(|draft| draft.size() > 0),
        _ => None,
    }
}

/// The new set has all its pods, and they are available.
fn is_saturated(new: &Draft, wanted: i32) -> bool {
    new.number(annotations::DESIRED) == Some(wanted) && new.size() == wanted && new.available() == wanted
}

fn scale_proportionally(work: &mut Work<'_>) {
    let deployment = work.snapshot.deployment;
    let wanted = deployment.replicas();
    let most = if wanted > 0 {
        wanted.saturating_add(deployment.max_surge())
    } else {
        0
    };
    let known = deployment.status.replicas.unwrap_or_default();
    let mut drafts: Vec<_> = work.all_mut().filter(|draft| draft.size() > 0).collect();
    let all: i32 = drafts.iter().map(|draft| draft.size()).sum();
    let to_add = most - all;
    // Larger sets first; of equal ones the newer grow first, and the older shrink first.
    drafts.sort_by_key(|draft| (Reverse(draft.size()), draft.set.creation_timestamp().map(|time| time.0)));
    if to_add > 0 {
        drafts.sort_by_key(|draft| Reverse((draft.size(), draft.set.creation_timestamp().map(|time| time.0))));
    }
    let mut added = 0;
    let mut sizes = vec![];
    for draft in &drafts {
        let left = to_add - added;
        let share = share(draft, wanted, most, known);
        let share = if to_add > 0 {
            share.clamp(0, left)
        } else {
            share.clamp(left, 0)
        };
        added += share;
        sizes.push(draft.size() + share);
    }
    // What rounding left over goes to the largest.
    if let Some(first) = sizes.first_mut() {
        *first = (*first + to_add - added).max(0);
    }
    for (draft, size) in drafts.into_iter().zip(sizes) {
        draft.scale(size, deployment);
    }
}

/// By how much a set grows or shrinks when the whole grows to `most` from what it was when the set was last scaled.
fn share(draft: &Draft, wanted: i32, most: i32, known: i32) -> i32 {
    if wanted == 0 {
        return -draft.size();
    }
    let before = draft
        .number(annotations::MAX)
        .filter(|before| *before > 0)
        .unwrap_or(known)
        .max(1);
    let size = f64::from(draft.size()) * f64::from(most) / f64::from(before);
    size.round() as i32 - draft.size()
}
