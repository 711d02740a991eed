//! How pods of one template are replaced by those of another.

use super::plan::{Draft, Work};

/// How large the new set may be now, beside what there is already.
pub(super) fn size_of_new(work: &Work<'_>) -> i32 {
    let deployment = work.snapshot.deployment;
    let wanted = deployment.replicas();
    if deployment.recreates() {
        return wanted;
    }
    let size = work.new.as_ref().map_or(0, Draft::size);
    let all: i32 = work.all().map(Draft::size).sum();
    let room = wanted.saturating_add(deployment.max_surge()) - all;
    size + room.max(0).min(wanted - size)
}

/// One step of a rolling update: up if there is room, else down if enough is available. Whether anything was moved.
pub(super) fn roll(work: &mut Work<'_>) -> bool {
    work.settle_revision(true);
    if work.is_creating() {
        return true;
    }
    grow(work) || shrink(work)
}

fn grow(work: &mut Work<'_>) -> bool {
    let deployment = work.snapshot.deployment;
    let wanted = deployment.replicas();
    let target = size_of_new(work);
    let Some(new) = &mut work.new else { return false };
    let target = if new.size() > wanted { wanted } else { target };
    if new.size() == target {
        return false;
    }
    new.scale(target, deployment);
    true
}

/// Takes from the old sets first what isn't available, which costs nothing, then as much as may be missing.
fn shrink(work: &mut Work<'_>) -> bool {
    let deployment = work.snapshot.deployment;
    let least = deployment.replicas() - deployment.max_unavailable();
    let all: i32 = work.all().map(Draft::size).sum();
    let unavailable = work.new.as_ref().map_or(0, |new| new.size() - new.available());
    // Pods of the new set that aren't available must not count as room to take more of the old.
    let most = all - least - unavailable;
    if most <= 0 {
        return false;
    }
    let mut moved = false;
    let mut left = most;
    for draft in work.active_old() {
        let unhealthy = (draft.size() - draft.available()).clamp(0, left);
        if unhealthy > 0 {
            draft.scale(draft.size() - unhealthy, deployment);
            left -= unhealthy;
            moved = true;
        }
    }
    let available: i32 = work.all().map(Draft::available).sum();
    let mut left = available - least;
    for draft in work.active_old() {
        let taken = draft.replicas.min(left);
        if taken > 0 {
            draft.scale(draft.replicas - taken, deployment);
            left -= taken;
            moved = true;
        }
    }
    moved
}

/// One step of a re-creation: all old pods go, and only when they are gone, the new ones come.
pub(super) fn recreate(work: &mut Work<'_>) -> bool {
    work.settle_revision(false);
    let deployment = work.snapshot.deployment;
    let mut moved = false;
    for draft in work.active_old() {
        draft.scale(0, deployment);
        moved = true;
    }
    if moved || old_pods_run(work) {
        return true;
    }
    work.settle_revision(true);
    work.is_creating() || grow(work)
}

fn old_pods_run(work: &Work<'_>) -> bool {
    work.old.iter().any(|draft| {
        let uid = draft.set.metadata.uid.as_ref();
        draft.set.status.replicas > 0 || work.snapshot.running.iter().any(|running| Some(running) == uid)
    })
}
