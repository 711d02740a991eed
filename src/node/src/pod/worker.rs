//! The pod's worker: one task a UID.
//!
//! It waits for messages (the manager's wishes, the runtime's events, probe reports, outcomes of its jobs), keeps
//! what is known, asks [`plan`](super::plan) what can begin now, and begins it. It never waits *inside* a step, so a
//! call that hangs holds up nothing but what must come after it.

mod record;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use bosun_api::{
    ContainerId, PodKey, PodUid,
    core::{Container, Pod, PodStatus},
};
use bosun_client::events::Type;
use bosun_cri::RuntimeEvent;
use jiff::Timestamp;
use tokio::{sync::mpsc, task::JoinSet};

use super::{
    apply::{Failure, Outcome, Task, apply},
    backoff::Backoff,
    news::{self, News},
    observed::{ContainerState, ObservedContainer, ObservedPod},
    phase::{self, Phase, Why},
    plan::{self, ImageState, Job, JobKey, Retry, View},
    sandbox::pod_uid,
    verdicts::{self, Verdicts},
    volumes::VolumeSources,
};
use crate::{
    api::{
        objects::{ObjectRef, Used},
        supply::Held,
    },
    checkpoint::{self, Checkpoint},
    images::ImageError,
    node::Node,
    probe::{ProbeHandle, ProbeReport, ProbeTarget, ProbeVerdict},
    source::Source,
};

/// What a worker is told.
#[derive(Debug)]
pub enum Message {
    /// The pod is to be as this says from now on.
    Update(Arc<Pod>),
    /// The pod is not wanted any more.
    Remove,
    /// The stream of runtime events has a gap behind it: ask the runtime.
    Resync,
    /// Ask the runtime whether an event was missed.
    Audit,
    /// Something happened to one of the pod's containers or sandboxes.
    Runtime(RuntimeEvent),
    /// An image came to be on this node.
    ImageAdded,
    /// A container as a job found it on its way.
    Seen(Box<ObservedContainer>),
}

/// How a worker begins.
#[derive(Clone, Debug)]
pub struct Birth {
    /// The pod as wanted, or as far as it can be known from what is left of it.
    pub pod: Arc<Pod>,
    /// Nothing of it can be in the runtime.
    pub is_new: bool,
    /// Who wants it; if nobody does, only its end is to be brought about.
    pub source: Option<Source>,
}

/// Something else a worker runs beside the jobs of its plan.
#[derive(Debug)]
enum Done {
    /// An object that the pod uses is another than before.
    Changed(ObjectRef),
    Job(JobKey, Instant, Result<Outcome, Failure>),
    LastWords(ContainerId, String),
    Checkpoint(Result<(), String>),
}

/// First delay before a failed job is tried again; it doubles to the longest.
const FIRST_RETRY: Duration = Duration::from_millis(250);
const LONGEST_RETRY: Duration = Duration::from_secs(10);
/// The same for images, as upstream.
const FIRST_PULL_RETRY: Duration = Duration::from_secs(10);

/// The worker's state; see the module.
pub struct Worker {
    node: Arc<Node>,
    pod: Arc<Pod>,
    source: Option<Source>,
    uid: PodUid,
    key: PodKey,
    phase: Phase,
    accepted_at: Timestamp,
    begun: Instant,
    observed: ObservedPod,
    must_observe: bool,
    auditing: bool,
    volumes: Option<Arc<VolumeSources>>,
    /// The objects that the pod uses.
    held: Arc<Held>,
    /// One of them changed since the volumes were last written.
    stale: bool,
    refresh_at: Option<Timestamp>,
    images: BTreeMap<String, ImageState>,
    verdicts: Verdicts,
    backoffs: BTreeMap<String, Backoff>,
    retries: BTreeMap<JobKey, Retry>,
    busy: BTreeSet<JobKey>,
    jobs: JoinSet<Done>,
    stops: BTreeMap<ContainerId, tokio::task::AbortHandle>,
    probes: BTreeMap<ContainerId, ProbeHandle>,
    stages: BTreeMap<String, f64>,
    status: Option<PodStatus>,
    /// What an agent before this one told the control plane, if it told something.
    before: Option<PodStatus>,
    /// The status that the pod ended with; nothing of it runs any more.
    verdict: Option<PodStatus>,
    posted: (usize, Option<Timestamp>),
    saved: Option<Checkpoint>,
    saving: bool,
    message_tx: mpsc::UnboundedSender<Message>,
    message_rx: mpsc::UnboundedReceiver<Message>,
    report_tx: mpsc::Sender<ProbeReport>,
    report_rx: mpsc::Receiver<ProbeReport>,
}

/// Whether a status was written by a node's agent: the control plane's own say only that the pod waits.
fn is_ours(status: &PodStatus) -> bool {
    status.start_time.is_some() || has_ended(status)
}

fn has_ended(status: &PodStatus) -> bool {
    matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"))
}

/// The pod's namespace and name.
pub fn pod_key(pod: &Pod) -> PodKey {
    PodKey {
        namespace: pod.metadata.namespace.clone().unwrap_or_default(),
        name: pod.metadata.name.clone().unwrap_or_default(),
    }
}

impl Worker {
    /// A worker and the sender of its messages.
    pub fn new(node: Arc<Node>, birth: Birth) -> (Self, mpsc::UnboundedSender<Message>) {
        let (message_tx, message_rx) = mpsc::unbounded_channel();
        let (report_tx, report_rx) = mpsc::channel(16);
        let uid = pod_uid(&birth.pod);
        let now = node.clock.now();
        let remembered = checkpoint::read(&node.places.checkpoint(&uid));
        let of_api = birth.source == Some(Source::Api);
        let before = birth.pod.status.clone().filter(|_| of_api).filter(is_ours);
        let mut worker = Self {
            key: pod_key(&birth.pod),
            phase: Phase::Pending,
            accepted_at: remembered.as_ref().map_or(now, |remembered| remembered.accepted_at),
            begun: Instant::now(),
            observed: ObservedPod::default(),
            must_observe: !birth.is_new,
            auditing: false,
            volumes: None,
            held: Arc::default(),
            stale: false,
            refresh_at: None,
            images: BTreeMap::new(),
            verdicts: Verdicts::new(verdicts::told(before.as_ref(), remembered.as_ref())),
            backoffs: remembered
                .as_ref()
                .map(|checkpoint| checkpoint.backoffs.clone())
                .unwrap_or_default(),
            retries: BTreeMap::new(),
            busy: BTreeSet::new(),
            jobs: JoinSet::new(),
            stops: BTreeMap::new(),
            probes: BTreeMap::new(),
            stages: remembered
                .as_ref()
                .map(|checkpoint| checkpoint.stages.clone())
                .unwrap_or_default(),
            status: None,
            verdict: before.clone().filter(has_ended),
            before,
            posted: (0, None),
            saved: remembered,
            saving: false,
            message_tx: message_tx.clone(),
            message_rx,
            report_tx,
            report_rx,
            pod: birth.pod,
            source: birth.source,
            node,
            uid,
        };
        if birth.is_new {
            worker.advance(phase::Event::Observed, now);
        }
        let grace = plan::grace(&worker.pod);
        if worker.verdict.is_some() {
            worker.advance(phase::Event::Completed { grace }, now);
        }
        if birth.source.is_none() {
            worker.advance(phase::Event::Remove { grace }, now);
        }
        worker.heed_deletion(now);
        worker.hold();
        (worker, message_tx)
    }

    /// Lives until nothing of the pod is left.
    pub async fn run(mut self) {
        loop {
            let now = self.node.clock.now();
            let wake_at = self.decide(now);
            self.keep_probes();
            self.post(now);
            self.save();
            if self.phase == Phase::Gone {
                break;
            }
            self.wait(wake_at, now).await;
        }
        if let Some(supply) = &self.node.supply {
            supply.forget(&self.uid);
        }
        self.node.board.remove(&self.uid);
        self.node.routes.release(&self.message_tx);
        tracing::info!("pod is gone");
    }

    /// Watches what the pod uses, as long as it is wanted.
    fn hold(&mut self) {
        let Some(supply) = self.node.supply.clone().filter(|_| self.source.is_some()) else {
            return;
        };
        if !matches!(self.phase, Phase::Pending | Phase::Syncing) {
            return;
        }
        let before = std::mem::take(&mut self.held);
        let held = supply.hold(&self.pod, &before);
        for (object, used) in held.iter().filter(|(object, _)| !before.contains_key(*object)) {
            self.follow(object.clone(), used.clone());
        }
        self.held = Arc::new(held);
    }

    fn follow(&mut self, object: ObjectRef, used: Used) {
        self.spawn(async move {
            used.changed().await;
            Done::Changed(object)
        });
    }

    fn changed(&mut self, object: &ObjectRef) {
        let Some(used) = self.held.get(object).cloned() else {
            return;
        };
        tracing::debug!(%object, "what the pod uses changed");
        self.stale = true;
        // What failed for want of it need not wait.
        self.retries
            .retain(|key, _| !matches!(key, JobKey::Volumes | JobKey::Refresh | JobKey::Start(_)));
        self.follow(object.clone(), used);
    }

    /// Says what happened, if there is a control plane to hear it.
    fn tell(&self, news: Vec<News>) {
        let Some(supply) = self.node.supply.as_ref().filter(|_| self.source.is_some()) else {
            return;
        };
        for news in news {
            let kind = if news.is_warning { Type::Warning } else { Type::Normal };
            supply.tell_pod(&self.pod, news.field, kind, news.reason, news.message);
        }
    }

    /// A pod deleted through the API ends; a second deletion can only shorten its grace.
    fn heed_deletion(&mut self, now: Timestamp) {
        if let Some(grace) = plan::deletion_grace(&self.pod) {
            self.advance(phase::Event::Remove { grace }, now);
        }
    }

    fn advance(&mut self, event: phase::Event, now: Timestamp) {
        let next = phase::step(self.phase, event, now);
        if next == self.phase {
            return;
        }
        tracing::info!(from = ?self.phase, to = ?next, "pod moves on");
        if let (Phase::Terminating { deadline: before, .. }, Phase::Terminating { deadline, .. }) = (self.phase, next)
            && deadline < before
        {
            // Stops under way run on the old deadline: begin them anew.
            for (id, stop) in std::mem::take(&mut self.stops) {
                stop.abort();
                self.busy.remove(&JobKey::Stop(id));
            }
        }
        if matches!(next, Phase::Terminating { .. }) {
            self.probes.values().for_each(ProbeHandle::stopping);
            // What only preparing waited for no longer matters; the deadline does.
            self.retries.clear();
            self.held = Arc::default();
        }
        self.phase = next;
    }

    /// Begins what can begin now; says when to look again.
    fn decide(&mut self, now: Timestamp) -> Option<Timestamp> {
        if self.must_observe && !self.busy.contains(&JobKey::Observe) {
            match self.retries.get(&JobKey::Observe) {
                Some(retry) if retry.until > now => return Some(retry.until),
                _ => self.begin(Job::Observe, now),
            }
        }
        // A phase lasts until its plan says so; each may be over at once.
        loop {
            let plan = match self.phase {
                Phase::Pending | Phase::Terminated { why: Why::Completed } | Phase::Gone => return None,
                Phase::Syncing => plan::plan(&self.view(now)),
                Phase::Terminating { deadline, .. } => plan::plan_stop(&self.view(now), deadline),
                Phase::Terminated { why: Why::Removed } => {
                    let key = JobKey::Cleanup;
                    match self.retries.get(&key) {
                        // A checkpoint under way would be written after its removal.
                        _ if self.busy.contains(&key) || self.saving => {}
                        Some(retry) if retry.until > now => return Some(retry.until),
                        _ => self.begin(Job::Cleanup, now),
                    }
                    return None;
                }
            };
            if plan.done {
                let event = match self.phase {
                    Phase::Syncing => phase::Event::Completed {
                        grace: plan::grace(&self.pod),
                    },
                    _ => phase::Event::Stopped,
                };
                self.advance(event, now);
                continue;
            }
            for job in plan.jobs {
                self.begin(job, now);
            }
            return plan.wake_at;
        }
    }

    fn view(&self, now: Timestamp) -> View<'_> {
        View {
            pod: &self.pod,
            observed: &self.observed,
            volumes_ready: self.volumes.is_some(),
            refresh_at: if self.stale { Some(now) } else { self.refresh_at },
            images: &self.images,
            verdicts: self.verdicts.all(),
            backoffs: &self.backoffs,
            limits: self.node.limits,
            retries: &self.retries,
            busy: &self.busy,
            now,
        }
    }

    fn begin(&mut self, job: Job, now: Timestamp) {
        let key = job.key();
        tracing::debug!(?job, "job begins");
        self.tell(news::of_begin(&self.pod, &job));
        if matches!(job, Job::Volumes | Job::Refresh) {
            self.stale = false;
        }
        if let Job::Start { name, .. } = &job
            && self.observed.newest(name).is_some_and(|newest| newest.exit().is_some())
        {
            let previous = self.backoffs.get(name).copied();
            let backoff = Backoff::after_restart(previous, self.node.limits, now);
            self.backoffs.insert(name.clone(), backoff);
        }
        let task = Task {
            node: self.node.clone(),
            pod: self.pod.clone(),
            uid: self.uid.clone(),
            key: self.key.clone(),
            observed: self.observed.clone(),
            volumes: self.volumes.clone().unwrap_or_default(),
            held: self.held.clone(),
            worker_tx: self.message_tx.clone(),
        };
        self.busy.insert(key.clone());
        let begun = Instant::now();
        let stopped = if let Job::Stop { id, .. } = &job {
            Some(id.clone())
        } else {
            None
        };
        let done = async move { Done::Job(key, begun, Box::pin(apply(task, job)).await) };
        let handle = self.spawn(done);
        if let Some(id) = stopped {
            self.stops.insert(id, handle);
        }
    }

    fn spawn(&mut self, work: impl Future<Output = Done> + Send + 'static) -> tokio::task::AbortHandle {
        use tracing::Instrument;
        self.jobs.spawn(work.in_current_span())
    }

    /// Waits for something to happen, and takes in all that did.
    async fn wait(&mut self, wake_at: Option<Timestamp>, now: Timestamp) {
        let wait = wake_at.map(|at| Duration::try_from(at.duration_since(now)).unwrap_or_default());
        let timer = async move {
            match wait {
                Some(wait) => tokio::time::sleep(wait).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            Some(message) = self.message_rx.recv() => self.take(message),
            Some(done) = self.jobs.join_next() => self.finish(done),
            Some(report) = self.report_rx.recv() => self.report(&report),
            () = timer => {}
        }
        while let Ok(message) = self.message_rx.try_recv() {
            self.take(message);
        }
        while let Some(done) = self.jobs.try_join_next() {
            self.finish(done);
        }
        while let Ok(report) = self.report_rx.try_recv() {
            self.report(&report);
        }
    }

    fn report(&mut self, report: &ProbeReport) {
        tracing::info!(container = %report.container, probe = %report.kind, verdict = ?report.verdict,
            output = report.message, "probe");
        if report.verdict == ProbeVerdict::Failure {
            self.tell(vec![news::of_probe(&self.pod, report)]);
        }
        let spec = self.pod.spec.as_ref();
        let mut specs = spec
            .into_iter()
            .flat_map(|spec| spec.init_containers.iter().flatten().chain(&spec.containers));
        self.verdicts
            .report(report, specs.find(|container| container.name == report.container));
    }

    fn take(&mut self, message: Message) {
        let now = self.node.clock.now();
        match message {
            Message::Update(pod) => {
                // What is told again is not what is new: its deadline runs.
                let deletion = |pod: &Pod| (plan::deletion_grace(pod), pod.metadata.deletion_timestamp.clone());
                let deleted = deletion(&pod) != deletion(&self.pod);
                // The downward API tells of labels and annotations.
                self.stale |= pod.metadata.labels != self.pod.metadata.labels
                    || pod.metadata.annotations != self.pod.metadata.annotations;
                self.pod = pod;
                self.hold();
                if deleted {
                    self.heed_deletion(now);
                }
            }
            Message::Remove => {
                let grace = plan::grace(&self.pod);
                self.advance(phase::Event::Remove { grace }, now);
            }
            Message::Resync => {
                self.retries.clear();
                self.must_observe = true;
            }
            Message::Audit => {
                self.must_observe = true;
                self.auditing = true;
            }
            Message::Runtime(RuntimeEvent::Exited {
                id,
                exit_code,
                finished_at,
            }) => self.exited(&id, exit_code, finished_at),
            Message::Runtime(RuntimeEvent::OutOfMemory { id }) => self.observed.out_of_memory(&id),
            Message::Runtime(RuntimeEvent::Removed { id }) => self.observed.removed(&id),
            Message::Runtime(_) => {}
            Message::ImageAdded => self.images.retain(|_, state| *state == ImageState::Present),
            Message::Seen(container) => self.observed.put_container(*container),
        }
    }

    fn exited(&mut self, id: &str, exit_code: i32, finished_at: Timestamp) {
        if self.busy.contains(&JobKey::Remove(id.into())) {
            // A start that was cut off took effect after all, and its removal ended it: it never counted.
            return;
        }
        // A runtime that lost track of when says the year 1.
        let finished_at = if finished_at > Timestamp::UNIX_EPOCH {
            finished_at
        } else {
            self.node.clock.now()
        };
        if !self.observed.exited(id, exit_code, finished_at) {
            return;
        }
        let Some(container) = self.observed.container(id).cloned() else {
            tracing::warn!(sandbox = id, exit_code, "sandbox ended");
            return;
        };
        tracing::info!(container = %container.name, id, exit_code, "container ended");
        self.probes.remove(&container.id);
        let backoff = self.backoffs.get(&container.name);
        let holds = backoff.is_some_and(|backoff| {
            backoff
                .holds_until(finished_at, self.node.limits, finished_at)
                .is_some()
        });
        if holds && self.phase == Phase::Syncing {
            self.tell(vec![news::of_back_off(&self.pod, &container.name)]);
        }
        let task = Task {
            node: self.node.clone(),
            pod: self.pod.clone(),
            uid: self.uid.clone(),
            key: self.key.clone(),
            observed: ObservedPod::default(),
            volumes: Arc::default(),
            held: Arc::default(),
            worker_tx: self.message_tx.clone(),
        };
        self.spawn(async move {
            let words = task
                .last_words_of(&container.id, &container.name, container.attempt, exit_code)
                .await;
            Done::LastWords(container.id, words)
        });
    }

    fn finish(&mut self, done: Result<Done, tokio::task::JoinError>) {
        match done {
            Ok(Done::Job(key, begun, result)) => {
                self.busy.remove(&key);
                if let JobKey::Stop(id) = &key {
                    self.stops.remove(id);
                }
                match result {
                    Ok(outcome) => self.succeed(&key, begun, outcome),
                    Err(failure) => self.fail(key, failure),
                }
            }
            Ok(Done::Changed(object)) => self.changed(&object),
            Ok(Done::LastWords(id, words)) => {
                if !words.is_empty() {
                    self.observed.set_exit_message(id.as_str(), words);
                }
            }
            Ok(Done::Checkpoint(result)) => {
                self.saving = false;
                if let Err(error) = result {
                    tracing::warn!(
                        error,
                        "the pod's checkpoint can't be written; a restart of the agent will forget"
                    );
                }
            }
            // A stop begun anew with less grace.
            Err(error) if error.is_cancelled() => {}
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }

    fn succeed(&mut self, key: &JobKey, begun: Instant, outcome: Outcome) {
        self.retries.remove(key);
        let now = self.node.clock.now();
        self.note_stage(key, begun);
        self.tell(news::of_success(&self.pod, key));
        match outcome {
            Outcome::Observed(found) => self.observed_all(found, now),
            Outcome::Volumes { sources, refresh_at } => {
                self.volumes = Some(Arc::new(sources));
                self.refresh_at = refresh_at;
            }
            Outcome::Refreshed { refresh_at } => self.refresh_at = refresh_at,
            Outcome::Image => {
                if let JobKey::Image(image) = key {
                    self.images.insert(image.clone(), ImageState::Present);
                }
            }
            Outcome::Sandbox { sandbox, stopped } => {
                for old in &mut self.observed.sandboxes {
                    old.stopped |= stopped.contains(&old.id);
                }
                tracing::info!(sandbox = %sandbox.id, addresses = ?sandbox.addresses, "sandbox runs");
                self.observed.put_sandbox(sandbox);
            }
            Outcome::Started => {}
            Outcome::Ended(container) => self.observed.put_container(*container),
            Outcome::SandboxStopped(id) => {
                if let Some(sandbox) = self.observed.sandboxes.iter_mut().find(|sandbox| sandbox.id == id) {
                    sandbox.stopped = true;
                    sandbox.ready = false;
                }
            }
            Outcome::Removed(id) => self.observed.removed(&id),
            Outcome::CleanedUp => self.advance(phase::Event::CleanedUp, now),
        }
    }

    /// The runtime's whole account replaces ours, but for exits that it has not noticed yet.
    fn observed_all(&mut self, found: ObservedPod, now: Timestamp) {
        self.must_observe = false;
        let mut merged = ObservedPod {
            sandboxes: found.sandboxes,
            containers: self.observed.containers.clone(),
        };
        let listed: BTreeSet<_> = found.containers.iter().map(|container| container.id.clone()).collect();
        merged.containers.retain(|known| listed.contains(&known.id));
        for container in found.containers {
            merged.put_container(container);
        }
        if std::mem::take(&mut self.auditing) && merged != self.observed {
            tracing::warn!(before = ?self.observed, now = ?merged, "the audit found what no event told");
        }
        self.observed = merged;
        self.verdicts.recover(&self.observed);
        self.advance(phase::Event::Observed, now);
    }

    fn fail(&mut self, key: JobKey, failure: Failure) {
        let now = self.node.clock.now();
        let earlier = self.retries.get(&key).map(|retry| retry.failures);
        let earlier = match (&key, earlier) {
            (JobKey::Image(image), _) => match self.images.get(image) {
                Some(ImageState::Failed(retry)) => retry.failures,
                _ => 0,
            },
            (_, earlier) => earlier.unwrap_or(0),
        };
        let (first, longest) = match key {
            JobKey::Image(_) => (FIRST_PULL_RETRY.min(self.node.limits.max), self.node.limits.max),
            _ => (FIRST_RETRY, LONGEST_RETRY),
        };
        let delay = first.saturating_mul(1 << earlier.min(16)).min(longest);
        let failures = earlier + 1;
        tracing::warn!(job = ?key, reason = failure.reason, error = %failure.message, failures,
            retry_in_ms = delay.as_millis(), "job failed");
        let reason = match failure.reason {
            "ErrImagePull" => ImageError::Pull {
                image: String::new(),
                message: String::new(),
            }
            .reason(failures),
            reason => reason,
        };
        self.tell(news::of_failure(&self.pod, &key, reason, &failure.message, failures));
        let retry = Retry {
            failures,
            until: now.saturating_add(delay).unwrap_or(Timestamp::MAX),
            reason,
            message: failure.message,
        };
        if failure.unsure && !matches!(key, JobKey::Observe | JobKey::Cleanup) {
            self.must_observe = true;
        }
        match key {
            JobKey::Image(image) => {
                self.images.insert(image, ImageState::Failed(retry));
            }
            JobKey::Start(_) => {
                // Its image may have been removed since.
                self.images.retain(|_, state| *state != ImageState::Present);
                self.retries.insert(key, retry);
            }
            key => {
                self.retries.insert(key, retry);
            }
        }
    }

    /// Probes run for containers that run, while the pod is wanted.
    fn keep_probes(&mut self) {
        match self.phase {
            Phase::Syncing => {}
            // Readiness is still asked; it is no use to give up what is being stopped.
            Phase::Terminating { .. } => return,
            _ => return self.probes.clear(),
        }
        let spec = self.pod.spec.as_ref();
        let specs = spec
            .into_iter()
            .flat_map(|spec| spec.init_containers.iter().flatten().chain(&spec.containers));
        let specs: BTreeMap<&str, &Container> = specs.map(|container| (container.name.as_str(), container)).collect();
        let Some(sandbox) = self.observed.ready_sandbox() else {
            return;
        };
        let address = sandbox.addresses.first().or(self.node.host_addresses.first()).copied();
        for container in &self.observed.containers {
            let ContainerState::Running { started_at } = container.state else {
                self.probes.remove(&container.id);
                continue;
            };
            let Some(spec) = specs.get(container.name.as_str()) else {
                continue;
            };
            // It counts as started, and is probed, once its `postStart` hook is done.
            let starting = self.busy.contains(&JobKey::Start(container.name.clone()));
            if starting || self.probes.contains_key(&container.id) {
                continue;
            }
            let target = ProbeTarget {
                pod: &self.uid,
                key: &self.key,
                spec,
                id: &container.id,
                address,
                started_at,
                adopted: self.verdicts.begin(&container.id, spec),
            };
            let handle = self.node.prober.watch(&target, self.report_tx.clone());
            self.probes.insert(container.id.clone(), handle);
        }
        self.verdicts.keep_running(&self.observed);
    }
}
