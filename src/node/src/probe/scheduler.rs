//! The task that runs all probes of the node, each at its time.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bosun_api::{ContainerId, PodKey, PodUid};
use bosun_cri::Runtime;
use jiff::Timestamp;
use tokio::{
    sync::mpsc::{self, UnboundedReceiver, error::TrySendError},
    task::{self, AbortHandle, JoinError, JoinSet},
    time::{Instant, sleep_until, timeout},
};
use tracing::{debug, warn};

use super::{
    ProbeKind, ProbeReport, ProbeVerdict,
    action::{Action, Outcome},
    schedule::{self, Tally, Timing},
};

/// A command may need this long beyond its time until the runtime has killed it and said so.
const COMMAND_GRACE: Duration = Duration::from_secs(2);

/// What servers see; some treat probes apart by it.
const USER_AGENT: &str = "kube-probe/1.36";

/// One container's probes; never used again for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct WatchId(u64);

impl WatchId {
    pub(super) fn next() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

#[derive(Debug)]
pub(super) enum Command {
    Watch(Box<NewWatch>),
    Stopping(WatchId),
    Unwatch(WatchId),
}

#[derive(Debug)]
pub(super) struct NewWatch {
    pub(super) id: WatchId,
    pub(super) container: ContainerId,
    pub(super) name: String,
    pub(super) pod: PodKey,
    pub(super) uid: PodUid,
    pub(super) reports_tx: mpsc::Sender<ProbeReport>,
    pub(super) probes: Vec<NewProbe>,
}

#[derive(Debug)]
pub(super) struct NewProbe {
    pub(super) kind: ProbeKind,
    pub(super) action: Action,
    pub(super) timing: Timing,
    pub(super) tally: Tally,
    pub(super) due: Instant,
}

struct Watch {
    container: ContainerId,
    name: String,
    pod: PodKey,
    uid: PodUid,
    reports_tx: mpsc::Sender<ProbeReport>,
    probes: Vec<Probe>,
}

struct Probe {
    kind: ProbeKind,
    action: Arc<Action>,
    timing: Timing,
    tally: Tally,
    due: Instant,
    run: Option<AbortHandle>,
}

impl Drop for Probe {
    fn drop(&mut self) {
        if let Some(run) = &self.run {
            run.abort();
        }
    }
}

/// What a task brought back: a run its outcome, a report that had to wait for its receiver nothing.
type Ended = Option<(WatchId, ProbeKind, Outcome)>;

struct Scheduler {
    runtime: Arc<dyn Runtime>,
    watches: HashMap<WatchId, Watch>,
    /// Every probe that is neither running nor waiting for its container to have started.
    timetable: BTreeSet<(Instant, WatchId, ProbeKind)>,
    tasks: JoinSet<Ended>,
}

/// Runs until every [`super::Prober`] and [`super::ProbeHandle`] is gone.
pub(super) async fn run(runtime: Arc<dyn Runtime>, mut commands_rx: UnboundedReceiver<Command>) {
    let mut scheduler = Scheduler {
        runtime,
        watches: HashMap::new(),
        timetable: BTreeSet::new(),
        tasks: JoinSet::new(),
    };
    loop {
        let next = scheduler.timetable.first().map(|(due, ..)| *due);
        let idle = Instant::now() + Duration::from_hours(1);
        tokio::select! {
            biased;
            command = commands_rx.recv() => match command {
                Some(command) => scheduler.obey(command),
                None => return,
            },
            Some(ended) = scheduler.tasks.join_next_with_id() => scheduler.ended(ended),
            () = sleep_until(next.unwrap_or(idle)) => scheduler.start_due(Instant::now()),
        }
    }
}

impl Scheduler {
    fn obey(&mut self, command: Command) {
        match command {
            Command::Watch(new) => self.watch(*new),
            Command::Stopping(id) => self.end_probes(id, |kind| kind != ProbeKind::Readiness),
            Command::Unwatch(id) => self.end_probes(id, |_| true),
        }
    }

    fn watch(&mut self, new: NewWatch) {
        let NewWatch {
            id,
            container,
            name,
            pod,
            uid,
            reports_tx,
            probes,
        } = new;
        let on_hold = probes.iter().any(|probe| probe.kind == ProbeKind::Startup);
        let probes = probes.into_iter().map(
            |NewProbe {
                 kind,
                 action,
                 timing,
                 tally,
                 due,
             }| {
                if !on_hold || kind == ProbeKind::Startup {
                    self.timetable.insert((due, id, kind));
                }
                Probe {
                    kind,
                    action: Arc::new(action),
                    timing,
                    tally,
                    due,
                    run: None,
                }
            },
        );
        let probes = probes.collect();
        self.watches.insert(
            id,
            Watch {
                container,
                name,
                pod,
                uid,
                reports_tx,
                probes,
            },
        );
    }

    fn end_probes(&mut self, id: WatchId, which: impl Fn(ProbeKind) -> bool) {
        let Some(watch) = self.watches.get_mut(&id) else { return };
        watch.probes.retain(|probe| {
            let ends = which(probe.kind);
            if ends {
                self.timetable.remove(&(probe.due, id, probe.kind));
            }
            !ends
        });
        if watch.probes.is_empty() {
            self.watches.remove(&id);
        }
    }

    fn start_due(&mut self, now: Instant) {
        while let Some(&entry @ (due, id, kind)) = self.timetable.first()
            && due <= now
        {
            self.timetable.remove(&entry);
            let Some(watch) = self.watches.get_mut(&id) else {
                continue;
            };
            let Some(probe) = watch.probes.iter_mut().find(|probe| probe.kind == kind) else {
                continue;
            };
            let (runtime, container) = (Arc::clone(&self.runtime), watch.container.clone());
            let (action, limit) = (Arc::clone(&probe.action), probe.timing.timeout);
            let run = self.tasks.spawn(async move {
                let outcome = run_once(&action, &*runtime, &container, limit).await;
                Some((id, kind, outcome))
            });
            probe.run = Some(run);
        }
    }

    fn ended(&mut self, ended: Result<(task::Id, Ended), JoinError>) {
        match ended {
            Ok((_, Some((id, kind, outcome)))) => self.count(id, kind, outcome),
            Ok((_, None)) => {}
            Err(error) if error.is_cancelled() => {}
            Err(error) => {
                let run = self.watches.iter().find_map(|(id, watch)| {
                    let ran = |probe: &&Probe| probe.run.as_ref().is_some_and(|run| run.id() == error.id());
                    watch.probes.iter().find(ran).map(|probe| (*id, probe.kind))
                });
                warn!(%error, "a probe's run panicked");
                if let Some((id, kind)) = run {
                    self.count(id, kind, Outcome::Unknown("the probe panicked".to_owned()));
                }
            }
        }
    }

    /// Takes a run's outcome into account and puts the probe back into the timetable.
    fn count(&mut self, id: WatchId, kind: ProbeKind, outcome: Outcome) {
        let Some(watch) = self.watches.get_mut(&id) else { return };
        let Some(probe) = watch.probes.iter_mut().find(|probe| probe.kind == kind) else {
            return;
        };
        let now = Instant::now();
        probe.run = None;
        probe.due = schedule::next_due(probe.timing, probe.due, now);
        let (pod, uid, container) = (&watch.pod, &watch.uid, &watch.name);
        let (result, message) = match outcome {
            Outcome::Success(message) => (Some(ProbeVerdict::Success), message),
            Outcome::Failure(message) => {
                debug!(%pod, %uid, container, probe = %kind, output = message, "probe failed");
                (Some(ProbeVerdict::Failure), message)
            }
            Outcome::Unknown(message) => {
                // As upstream: what couldn't be asked says nothing of the container.
                debug!(%pod, %uid, container, probe = %kind, output = message, "probe could not be run");
                (None, message)
            }
        };
        let news = result.and_then(|result| probe.tally.count(result));
        let gives_up = news.is_some_and(|verdict| probe.tally.gives_up(verdict));
        let started = kind == ProbeKind::Startup && news == Some(ProbeVerdict::Success);
        if !gives_up && !started {
            self.timetable.insert((probe.due, id, kind));
        }
        if let Some(verdict) = news {
            self.report(id, kind, verdict, message);
        }
        if gives_up {
            // Until there is another container: a probe beside its stopping says nothing new.
            self.end_probes(id, |_| true);
        } else if started {
            self.end_probes(id, |kind| kind == ProbeKind::Startup);
            self.release(id, now);
        }
    }

    /// The container has started: the probes on hold are due, unless their initial delay is not over.
    fn release(&mut self, id: WatchId, now: Instant) {
        for probe in self
            .watches
            .get_mut(&id)
            .into_iter()
            .flat_map(|watch| &mut watch.probes)
        {
            probe.due = probe.due.max(now);
            self.timetable.insert((probe.due, id, probe.kind));
        }
    }

    fn report(&mut self, id: WatchId, kind: ProbeKind, verdict: ProbeVerdict, message: String) {
        let Some(watch) = self.watches.get(&id) else { return };
        let report = ProbeReport {
            id: watch.container.clone(),
            container: watch.name.clone(),
            kind,
            verdict,
            message,
            at: Timestamp::now(),
        };
        match watch.reports_tx.try_send(report) {
            Ok(()) => {}
            // The receiver is behind: it must not hold up other pods. Waiting senders are served in their order.
            Err(TrySendError::Full(report)) => {
                let reports_tx = watch.reports_tx.clone();
                self.tasks.spawn(async move {
                    let _ = reports_tx.send(report).await;
                    None
                });
            }
            Err(TrySendError::Closed(_)) => self.end_probes(id, |_| true),
        }
    }
}

async fn run_once(action: &Action, runtime: &dyn Runtime, container: &ContainerId, limit: Duration) -> Outcome {
    // The runtime itself ends a command after its time, and says so a little later.
    let grace = if action.is_command() {
        COMMAND_GRACE
    } else {
        Duration::ZERO
    };
    match timeout(limit + grace, action.run(runtime, container, limit, USER_AGENT)).await {
        Ok(outcome) => outcome,
        Err(_) if action.is_command() => Outcome::Unknown("the runtime did not answer".to_owned()),
        Err(_) => Outcome::Failure(format!("no answer within {} s", limit.as_secs_f64())),
    }
}
