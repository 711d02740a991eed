//! Probes of containers: liveness, readiness, startup; by HTTP, TCP, gRPC or a command.
//!
//! ```text
//!  pod worker ── watch(ProbeTarget) ──▶ Prober ── commands ──▶ scheduler (one task for all probes)
//!       ▲                                                          │ a probe is due: one task for this run
//!       └───────────── ProbeReport (verdict changed) ──────────────┘ Action::run, at most timeoutSeconds
//! ```
//!
//! An idle probe is an entry in the scheduler's timetable, no task and no thread. A run is a task of its own, so a
//! slow probe delays only itself, and a probe never runs twice at once. [`schedule`] is pure: thresholds and due
//! times. [`action`] says what a probe or a lifecycle hook does; [`http`], `grpc` and [`dial`] do it.

pub mod action;
pub mod dial;
mod grpc;
pub mod http;
pub mod schedule;
mod scheduler;

#[cfg(test)]
mod tests;

use std::{fmt, net::IpAddr, sync::Arc};

use bosun_api::{
    ContainerId, PodKey, PodUid,
    core::{Container, Probe},
};
use bosun_cri::Runtime;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::{
    sync::mpsc::{self, UnboundedSender},
    task::JoinSet,
    time::Instant,
};

use self::{
    action::{Action, Target},
    schedule::{Tally, Timing},
    scheduler::{Command, NewProbe, NewWatch, WatchId},
};

/// What a probe asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ProbeKind {
    /// Has it come up? The other two wait for it.
    Startup,
    /// Should it be restarted?
    Liveness,
    /// Should it get traffic?
    Readiness,
}

impl fmt::Display for ProbeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Startup => "startup",
            Self::Liveness => "liveness",
            Self::Readiness => "readiness",
        })
    }
}

/// What a probe's results amount to, its thresholds considered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProbeVerdict {
    /// `successThreshold` successes in a row.
    Success,
    /// `failureThreshold` failures in a row.
    Failure,
}

/// A verdict that changed; for liveness and startup also the failure that ends the container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeReport {
    /// The container it is about.
    pub id: ContainerId,
    /// Its name in the spec.
    pub container: String,
    /// Which probe.
    pub kind: ProbeKind,
    /// What it says now.
    pub verdict: ProbeVerdict,
    /// What the last run saw, for people.
    pub message: String,
    /// When.
    pub at: Timestamp,
}

/// What is remembered of a container's probes across a restart of the agent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdicts {
    /// The startup probe had succeeded.
    pub started: bool,
    /// The readiness probe had succeeded.
    pub ready: bool,
}

/// A running container whose probes shall run.
#[derive(Clone, Copy, Debug)]
pub struct ProbeTarget<'a> {
    /// The pod's UID.
    pub pod: &'a PodUid,
    /// The pod's name, for logs.
    pub key: &'a PodKey,
    /// The container as the runtime knows it.
    pub id: &'a ContainerId,
    /// The pod's address; the node's for a pod in the node's network.
    pub address: Option<IpAddr>,
    /// Its probes and the ports they may name.
    pub spec: &'a Container,
    /// When it started.
    pub started_at: Timestamp,
    /// `Some` for a container found running when the agent started: verdicts go on from here, and first runs are
    /// spread over their periods.
    pub adopted: Option<Verdicts>,
}

/// Runs probes. Clones share one scheduler, which ends with the last of them.
#[derive(Clone, Debug)]
pub struct Prober {
    commands: UnboundedSender<Command>,
    _scheduler: Arc<JoinSet<()>>,
}

impl Prober {
    /// Starts the scheduler. Must be called in a tokio runtime.
    pub fn new(runtime: Arc<dyn Runtime>) -> Self {
        let (commands, commands_rx) = mpsc::unbounded_channel();
        let mut tasks = JoinSet::new();
        tasks.spawn(scheduler::run(runtime, commands_rx));
        Self {
            commands,
            _scheduler: Arc::new(tasks),
        }
    }

    /// Runs the probes of a container until the handle is dropped, or a liveness or startup probe gives it up.
    ///
    /// A container is ready once its readiness probe says so, alive until its liveness probe says otherwise; both
    /// wait for the startup probe, if there is one.
    pub fn watch(&self, target: &ProbeTarget<'_>, reports_tx: mpsc::Sender<ProbeReport>) -> ProbeHandle {
        let id = WatchId::next();
        let probes = probes(target, Timestamp::now(), Instant::now(), &mut fastrand::Rng::new());
        if !probes.is_empty() {
            let watch = NewWatch {
                id,
                container: target.id.clone(),
                name: target.spec.name.clone(),
                pod: target.key.clone(),
                uid: target.pod.clone(),
                reports_tx,
                probes,
            };
            self.send(Command::Watch(Box::new(watch)));
        }
        ProbeHandle {
            id,
            commands: self.commands.clone(),
        }
    }

    fn send(&self, command: Command) {
        // Only fails after the scheduler is gone, and with it every probe.
        let _ = self.commands.send(command);
    }
}

/// A container's probes. Dropping it ends them at once, runs under way included.
#[derive(Debug)]
pub struct ProbeHandle {
    id: WatchId,
    commands: UnboundedSender<Command>,
}

impl ProbeHandle {
    /// Ends the liveness and startup probes: the pod is being stopped. Readiness is still asked.
    pub fn stopping(&self) {
        let _ = self.commands.send(Command::Stopping(self.id));
    }
}

impl Drop for ProbeHandle {
    fn drop(&mut self) {
        let _ = self.commands.send(Command::Unwatch(self.id));
    }
}

/// The probes of a container that have something to ask.
fn probes(target: &ProbeTarget<'_>, wall: Timestamp, now: Instant, random: &mut fastrand::Rng) -> Vec<NewProbe> {
    let remembered = target.adopted.unwrap_or_default();
    let started = target.spec.startup_probe.is_none() || remembered.started;
    let age = wall.duration_since(target.started_at).try_into().unwrap_or_default();
    let place = Target {
        address: target.address,
        container: target.spec,
    };
    let mut new = |kind, probe: &Probe, verdict| {
        let timing = Timing::of(probe);
        let spread = target.adopted.map(|_| random.f64());
        NewProbe {
            kind,
            action: Action::of_probe(probe, &place),
            timing,
            tally: Tally::new(kind, timing, verdict),
            due: schedule::first_due(timing, now, age, spread),
        }
    };
    let spec = target.spec;
    let mut probes = Vec::new();
    if let Some(probe) = spec.startup_probe.as_ref().filter(|_| !started) {
        probes.push(new(ProbeKind::Startup, probe, None));
    }
    if let Some(probe) = &spec.liveness_probe {
        probes.push(new(ProbeKind::Liveness, probe, Some(ProbeVerdict::Success)));
    }
    if let Some(probe) = &spec.readiness_probe {
        let verdict = if remembered.ready {
            ProbeVerdict::Success
        } else {
            ProbeVerdict::Failure
        };
        probes.push(new(ProbeKind::Readiness, probe, Some(verdict)));
    }
    probes
}
