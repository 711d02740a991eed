//! What to do next for a pod: [`plan`] while it is wanted, [`plan_stop`] while it is torn down. Pure.
//!
//! A plan names the jobs that can begin now; everything that must come after them is planned again when one of them
//! ends. Nothing is planned twice: jobs under way are in [`View::busy`], failed ones wait in [`View::retries`].

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use bosun_api::{
    ContainerId, SandboxId,
    core::{Container, Pod},
};
use jiff::Timestamp;

use super::{
    backoff::{Backoff, Limits},
    observed::{ContainerState, ObservedContainer, ObservedPod},
    payload,
};

/// One piece of work for a pod. At most one job of each [`JobKey`] is under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Job {
    /// Ask the runtime for everything it has of this pod.
    Observe,
    /// Make the pod's directories, volumes and cgroup.
    Volumes,
    /// Bring volumes up to date that hold what the control plane tells.
    Refresh,
    /// Make sure that an image is present, as the policy says.
    Image {
        /// The image as the spec names it.
        image: String,
        /// `Always`, `IfNotPresent` or `Never`.
        policy: String,
    },
    /// Run a sandbox, after stopping those before it.
    Sandbox {
        /// Its attempt number.
        attempt: u32,
        /// Sandboxes that ended.
        stop: Vec<SandboxId>,
    },
    /// Create and start a container, and run its `postStart` hook.
    Start {
        /// Its name in the spec.
        name: String,
        /// Its attempt number, which is its restart count.
        attempt: u32,
        /// The sandbox to start it in.
        sandbox: SandboxId,
    },
    /// Run a container's `preStop` hook, then signal it, and kill it when the grace is over.
    Stop {
        /// The container.
        id: ContainerId,
        /// Its name in the spec.
        name: String,
        /// Time it has, hook included.
        grace: Duration,
        /// Why, for the log and the event.
        why: String,
    },
    /// Stop a sandbox: its network is taken down.
    StopSandbox {
        /// The sandbox.
        id: SandboxId,
    },
    /// Remove a container that ended, with its log.
    Remove {
        /// The container.
        id: ContainerId,
    },
    /// Remove a sandbox that ended and has no containers.
    RemoveSandbox {
        /// The sandbox.
        id: SandboxId,
    },
    /// Remove all that is left: sandboxes, containers, volumes, cgroup, logs, records.
    Cleanup,
}

/// What a job is about, whatever its details.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum JobKey {
    /// [`Job::Observe`]
    Observe,
    /// [`Job::Volumes`]
    Volumes,
    /// [`Job::Refresh`]
    Refresh,
    /// [`Job::Image`]
    Image(String),
    /// [`Job::Sandbox`]
    Sandbox,
    /// [`Job::Start`], by name
    Start(String),
    /// [`Job::Stop`]
    Stop(ContainerId),
    /// [`Job::StopSandbox`]
    StopSandbox(SandboxId),
    /// [`Job::Remove`]
    Remove(ContainerId),
    /// [`Job::RemoveSandbox`]
    RemoveSandbox(SandboxId),
    /// [`Job::Cleanup`]
    Cleanup,
}

impl Job {
    /// What this job is about.
    pub fn key(&self) -> JobKey {
        match self {
            Self::Observe => JobKey::Observe,
            Self::Volumes => JobKey::Volumes,
            Self::Refresh => JobKey::Refresh,
            Self::Image { image, .. } => JobKey::Image(image.clone()),
            Self::Sandbox { .. } => JobKey::Sandbox,
            Self::Start { name, .. } => JobKey::Start(name.clone()),
            Self::Stop { id, .. } => JobKey::Stop(id.clone()),
            Self::StopSandbox { id } => JobKey::StopSandbox(id.clone()),
            Self::Remove { id } => JobKey::Remove(id.clone()),
            Self::RemoveSandbox { id } => JobKey::RemoveSandbox(id.clone()),
            Self::Cleanup => JobKey::Cleanup,
        }
    }
}

/// A job that failed and will be tried again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retry {
    /// How often it failed in a row.
    pub failures: u32,
    /// When it is tried again.
    pub until: Timestamp,
    /// Upstream's reason, such as `CreateContainerError`.
    pub reason: &'static str,
    /// What went wrong, for people.
    pub message: String,
}

/// What is known of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImageState {
    /// It can be used.
    Present,
    /// It can't be had; [`Retry::until`] says when that is tried again.
    Failed(Retry),
}

/// What the probes of one container say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// The startup probe succeeded, or there is none.
    pub started: bool,
    /// The readiness probe succeeded, or there is none (and it has started).
    pub ready: bool,
    /// A liveness or startup probe gave the container up: why, and the probe's own grace.
    pub failed: Option<(String, Option<Duration>)>,
}

/// All that a plan is made from.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// The pod as wanted.
    pub pod: &'a Pod,
    /// The pod as the runtime has it.
    pub observed: &'a ObservedPod,
    /// Directories, volumes and cgroup stand.
    pub volumes_ready: bool,
    /// When volumes that hold what the control plane tells are to be looked at again.
    pub refresh_at: Option<Timestamp>,
    /// Images by the name in the spec; what is not in it has not been asked for.
    pub images: &'a BTreeMap<String, ImageState>,
    /// Probe verdicts by container; a running container without one is not started yet.
    pub verdicts: &'a BTreeMap<ContainerId, Verdict>,
    /// Restart back-off by container name.
    pub backoffs: &'a BTreeMap<String, Backoff>,
    /// This node's back-off.
    pub limits: Limits,
    /// Jobs that failed.
    pub retries: &'a BTreeMap<JobKey, Retry>,
    /// Jobs under way.
    pub busy: &'a BTreeSet<JobKey>,
    /// The time it is.
    pub now: Timestamp,
}

/// What to do next.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodPlan {
    /// Jobs to begin now.
    pub jobs: Vec<Job>,
    /// While wanted: all containers ended for good. While torn down: nothing runs any more.
    pub done: bool,
    /// When to plan again if nothing happens before.
    pub wake_at: Option<Timestamp>,
}

/// What is next for one container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// It runs, and should.
    Keep,
    /// It should be started.
    Start {
        /// With this attempt number.
        attempt: u32,
    },
    /// It should be started again, later.
    BackOff {
        /// The delay in force.
        delay: Duration,
        /// When it is over.
        until: Timestamp,
    },
    /// It should be stopped.
    Kill {
        /// Time it has; `None` for the pod's.
        grace: Option<Duration>,
        /// Why.
        why: String,
    },
    /// It was created and never started: remove it and begin again.
    Discard,
    /// It ended and stays ended.
    Done {
        /// Its exit code was 0.
        ok: bool,
    },
}

/// An init container with `restartPolicy: Always` (KEP-753).
pub fn is_sidecar(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

/// The pod's termination grace.
pub fn grace(pod: &Pod) -> Duration {
    let seconds = pod.spec.as_ref().and_then(|spec| spec.termination_grace_period_seconds);
    Duration::from_secs(seconds.unwrap_or(30).max(0).unsigned_abs())
}

/// The grace that the pod was given when it was deleted; `None` if it was not. Never nothing, as upstream has it: a pod
/// deleted without grace is gone from the API at once, and ends as one whose manifest was removed.
pub fn deletion_grace(pod: &Pod) -> Option<Duration> {
    pod.metadata.deletion_timestamp.as_ref()?;
    let given = pod.metadata.deletion_grace_period_seconds;
    let given = given.map_or_else(
        || grace(pod),
        |seconds| Duration::from_secs(seconds.max(0).unsigned_abs()),
    );
    Some(given.max(Duration::from_secs(1)))
}

impl<'a> View<'a> {
    /// The pod's init containers.
    pub fn init_containers(&self) -> &'a [Container] {
        self.pod
            .spec
            .as_ref()
            .and_then(|spec| spec.init_containers.as_deref())
            .unwrap_or_default()
    }

    /// The pod's app containers.
    pub fn containers(&self) -> &'a [Container] {
        self.pod.spec.as_ref().map_or(&[], |spec| &spec.containers)
    }

    fn restart_policy(&self) -> &'a str {
        let spec = self.pod.spec.as_ref();
        spec.and_then(|spec| spec.restart_policy.as_deref()).unwrap_or("Always")
    }

    fn is_starting_or_unsure(&self) -> bool {
        self.busy
            .iter()
            .any(|key| matches!(key, JobKey::Observe | JobKey::Sandbox | JobKey::Start(_)))
    }

    /// What is next for an app container or a sidecar.
    pub fn next(&self, container: &Container) -> Next {
        let always = is_sidecar(container) || self.restart_policy() == "Always";
        let restarts = |code: i32| always || (self.restart_policy() == "OnFailure" && code != 0);
        self.next_of(container, self.observed.newest(&container.name), restarts)
    }

    /// What is next for an init container that runs to its end: only what it did in this sandbox counts.
    pub fn next_init(&self, container: &Container) -> Next {
        let newest = self.observed.newest(&container.name).filter(|newest| {
            self.observed
                .ready_sandbox()
                .is_none_or(|sandbox| newest.sandbox == sandbox.id)
        });
        self.next_of(container, newest, |code| code != 0 && self.restart_policy() != "Never")
    }

    fn next_of(
        &self,
        container: &Container,
        newest: Option<&ObservedContainer>,
        restarts: impl Fn(i32) -> bool,
    ) -> Next {
        let Some(newest) = newest else {
            // An init container of an earlier sandbox keeps its count.
            let attempt = self.observed.newest(&container.name).map_or(0, |old| old.attempt + 1);
            return Next::Start { attempt };
        };
        match &newest.state {
            ContainerState::Running { .. } => {
                if self
                    .observed
                    .ready_sandbox()
                    .is_none_or(|sandbox| sandbox.id != newest.sandbox)
                {
                    return Next::Kill {
                        grace: None,
                        why: "the pod's sandbox ended".to_owned(),
                    };
                }
                match self.verdicts.get(&newest.id).and_then(|verdict| verdict.failed.clone()) {
                    Some((why, grace)) => Next::Kill { grace, why },
                    None => Next::Keep,
                }
            }
            ContainerState::Created => Next::Discard,
            ContainerState::Unknown => Next::Kill {
                grace: Some(Duration::ZERO),
                why: "the runtime lost track of it".to_owned(),
            },
            ContainerState::Exited(exit) if restarts(exit.code) => {
                let backoff = self.backoffs.get(&container.name);
                match backoff.and_then(|backoff| {
                    let until = backoff.holds_until(exit.finished_at, self.limits, self.now)?;
                    Some((backoff.delay, until))
                }) {
                    Some((delay, until)) => Next::BackOff { delay, until },
                    None => Next::Start {
                        attempt: newest.attempt + 1,
                    },
                }
            }
            ContainerState::Exited(exit) => Next::Done { ok: exit.code == 0 },
        }
    }

    /// Every init container has done its part, so the app containers' time has come. It stays so for as long as the
    /// sandbox lives: a sidecar that restarts does not hold up what already runs.
    pub fn is_initialized(&self) -> bool {
        self.has_begun()
            || self
                .init_containers()
                .iter()
                .all(|container| self.has_done_its_part(container))
    }

    fn has_begun(&self) -> bool {
        let apps = self.containers();
        self.observed.ready_sandbox().is_some_and(|sandbox| {
            self.observed
                .containers
                .iter()
                .any(|container| container.sandbox == sandbox.id && apps.iter().any(|app| app.name == container.name))
        })
    }

    fn has_done_its_part(&self, container: &Container) -> bool {
        if !is_sidecar(container) {
            return self.next_init(container) == Next::Done { ok: true };
        }
        self.observed.newest(&container.name).is_some_and(|newest| {
            newest.is_running() && self.verdicts.get(&newest.id).is_some_and(|verdict| verdict.started)
        })
    }

    /// The containers whose turn it is, in order.
    fn turn(&self) -> Vec<(&'a Container, Next)> {
        let begun = self.has_begun();
        let mut turn = vec![];
        for container in self.init_containers() {
            if is_sidecar(container) {
                turn.push((container, self.next(container)));
            } else if !begun {
                turn.push((container, self.next_init(container)));
            }
            if !begun && !self.has_done_its_part(container) {
                return turn;
            }
        }
        turn.extend(
            self.containers()
                .iter()
                .map(|container| (container, self.next(container))),
        );
        turn
    }

    /// All containers ended for good; sidecars don't count.
    fn is_completed(&self) -> bool {
        let init_failed = !self.has_begun()
            && self
                .init_containers()
                .iter()
                .any(|container| !is_sidecar(container) && self.next_init(container) == Next::Done { ok: false });
        init_failed
            || (!self.containers().is_empty()
                && self
                    .containers()
                    .iter()
                    .all(|container| matches!(self.next(container), Next::Done { .. })))
    }
}

impl PodPlan {
    fn wake(&mut self, at: Timestamp) {
        self.wake_at = Some(self.wake_at.map_or(at, |earlier| earlier.min(at)));
    }

    /// Begins a job, unless it is under way or its time to be tried again has not come.
    fn begin(&mut self, view: &View<'_>, job: Job) {
        let key = job.key();
        if view.busy.contains(&key) || self.jobs.iter().any(|planned| planned.key() == key) {
            return;
        }
        match view.retries.get(&key) {
            Some(retry) if retry.until > view.now => self.wake(retry.until),
            _ => self.jobs.push(job),
        }
    }
}

/// The next jobs of a pod that is wanted.
pub fn plan(view: &View<'_>) -> PodPlan {
    let mut plan = PodPlan::default();
    if view.is_completed() {
        plan.done = !view.is_starting_or_unsure();
        return plan;
    }
    plan_refresh(view, &mut plan);
    let turn = view.turn();
    let mut starts = vec![];
    for (container, next) in turn {
        let newest = view.observed.newest(&container.name);
        match (next, newest) {
            (Next::Start { attempt }, _) => starts.push((container, attempt)),
            (Next::BackOff { until, .. }, _) => plan.wake(until),
            (Next::Kill { grace: own, why }, Some(newest)) => plan.begin(
                view,
                Job::Stop {
                    id: newest.id.clone(),
                    name: container.name.clone(),
                    grace: own.unwrap_or_else(|| grace(view.pod)),
                    why,
                },
            ),
            (Next::Discard, Some(newest)) if !view.is_starting_or_unsure() => {
                plan.begin(view, Job::Remove { id: newest.id.clone() });
            }
            _ => {}
        }
    }
    if !starts.is_empty() {
        plan_starts(view, &mut plan, &starts);
    }
    plan_garbage(view, &mut plan);
    plan
}

/// What running containers read of the control plane is kept current, also by an agent that did not start them.
fn plan_refresh(view: &View<'_>, plan: &mut PodPlan) {
    let volumes = view.pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    if !view.volumes_ready && volumes.into_iter().any(payload::is_payload) {
        plan.begin(view, Job::Volumes);
    }
    match view.refresh_at.filter(|_| view.volumes_ready) {
        Some(at) if at <= view.now => plan.begin(view, Job::Refresh),
        Some(at) => plan.wake(at),
        None => {}
    }
}

fn plan_starts(view: &View<'_>, plan: &mut PodPlan, starts: &[(&Container, u32)]) {
    // Volumes, images and the sandbox don't wait for each other.
    if !view.volumes_ready {
        plan.begin(view, Job::Volumes);
    }
    let mut present = vec![];
    for (container, attempt) in starts {
        let image = container.image.clone().unwrap_or_default();
        match view.images.get(&image) {
            Some(ImageState::Present) => present.push((*container, *attempt)),
            Some(ImageState::Failed(retry)) if retry.until > view.now => plan.wake(retry.until),
            _ => plan.begin(
                view,
                Job::Image {
                    image,
                    policy: container.image_pull_policy.clone().unwrap_or_default(),
                },
            ),
        }
    }
    if view.is_starting_or_unsure() {
        return;
    }
    let Some(sandbox) = view.observed.ready_sandbox() else {
        let old = view.observed.sandboxes.iter().filter(|sandbox| !sandbox.stopped);
        plan.begin(
            view,
            Job::Sandbox {
                attempt: view.observed.next_sandbox_attempt(),
                stop: old.map(|sandbox| sandbox.id.clone()).collect(),
            },
        );
        return;
    };
    if !view.volumes_ready {
        return;
    }
    // One at a time and in order, as `postStart` hooks expect; one that can't start now holds up nobody.
    for (container, attempt) in present {
        let before = plan.jobs.len();
        plan.begin(
            view,
            Job::Start {
                name: container.name.clone(),
                attempt,
                sandbox: sandbox.id.clone(),
            },
        );
        if plan.jobs.len() > before {
            break;
        }
    }
}

/// Of each container the newest and the last that ended are kept, for `kubectl logs --previous` and `lastState`; a
/// sandbox is kept while it has containers.
fn plan_garbage(view: &View<'_>, plan: &mut PodPlan) {
    if view.is_starting_or_unsure() {
        return;
    }
    let names = view.init_containers().iter().chain(view.containers());
    for container in names {
        for old in view.observed.history(&container.name).skip(2) {
            if old.exit().is_some() {
                plan.begin(view, Job::Remove { id: old.id.clone() });
            }
        }
    }
    if view.observed.ready_sandbox().is_none() {
        return;
    }
    for sandbox in view.observed.sandboxes.iter().skip(1) {
        let used = view
            .observed
            .containers
            .iter()
            .any(|container| container.sandbox == sandbox.id);
        if !used && !sandbox.ready {
            plan.begin(view, Job::RemoveSandbox { id: sandbox.id.clone() });
        }
    }
}

/// The next jobs of a pod that is torn down: app containers first, sidecars after them from the last to the first,
/// the sandboxes at the end.
pub fn plan_stop(view: &View<'_>, deadline: Timestamp) -> PodPlan {
    let mut plan = PodPlan::default();
    let left = Duration::try_from(deadline.duration_since(view.now)).unwrap_or(Duration::ZERO);
    let runs = |container: &&ObservedContainer| {
        matches!(
            container.state,
            ContainerState::Running { .. } | ContainerState::Unknown
        )
    };
    let sidecars = view.init_containers().iter().filter(|container| is_sidecar(container));
    let sidecars: Vec<&str> = sidecars.map(|container| container.name.as_str()).collect();
    let running: Vec<_> = view.observed.containers.iter().filter(runs).collect();
    let apps = running
        .iter()
        .filter(|container| !sidecars.contains(&container.name.as_str()));
    let mut stop: Vec<_> = apps.copied().collect();
    if stop.is_empty() {
        let last = sidecars
            .iter()
            .rev()
            .find_map(|name| running.iter().find(|container| container.name == *name));
        stop.extend(last.copied());
    }
    for container in &stop {
        plan.begin(
            view,
            Job::Stop {
                id: container.id.clone(),
                name: container.name.clone(),
                grace: left,
                why: "the pod ends".to_owned(),
            },
        );
    }
    if stop.is_empty() && !view.is_starting_or_unsure() {
        for sandbox in view.observed.sandboxes.iter().filter(|sandbox| !sandbox.stopped) {
            plan.begin(view, Job::StopSandbox { id: sandbox.id.clone() });
        }
        plan.done = view.observed.is_stopped() && view.observed.sandboxes.iter().all(|sandbox| sandbox.stopped);
    }
    plan
}

#[cfg(test)]
mod tests;
