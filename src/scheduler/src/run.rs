//! The scheduler at work: informers feed the [`Engine`], what it decides is done.
//!
//! ```text
//! informers ──events──▶ one loop with the Engine ──▶ bindings   (a task each, so many at a time)
//!     ▲                        ▲  │                  evictions  (a task each)
//!     │                        │  └────────────────▶ conditions (a task each, the newest of a pod wins)
//!    API ◀─────────────────────┴──── outcomes ───────┘           Recorder → Publisher (one task)
//! ```
//!
//! Nothing is stored: after a start, or when leadership is won, all is asked of the API again. While the API is away
//! bindings wait for it, and pods stay assumed where they were put.

mod calls;
mod informers;

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use bosun_api::PodUid;
use bosun_client::{
    events::{Recorder, Type},
    lease::Election,
};
use futures_util::FutureExt;
use jiff::Timestamp;
use kube::Client;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, debug, info, info_span};

use self::calls::{Bind, Calls};
use crate::{
    config::Config,
    engine::{Bound, Engine, Event, Outcome, Placement, Refusal},
    metrics::{self, Metrics},
};

/// Bindings under way at one time; no more decisions are made meanwhile.
const BINDINGS: usize = 128;
/// Conditions being written at one time.
const CONDITIONS: usize = 16;
/// Decisions between two looks at what happened.
const BATCH: usize = 32;
/// How often figures are brought up to date, and pods asked for that the API has not told of.
const UPKEEP: Duration = Duration::from_secs(5);

/// A scheduler at work. It ends with the token it was started with, or when this is dropped.
#[derive(Debug)]
pub struct Scheduler {
    tasks: JoinSet<()>,
    metrics: Arc<Metrics>,
    ready: Arc<AtomicBool>,
}

impl Scheduler {
    /// Schedules pods of the API behind `client` until `end` is cancelled.
    pub fn start(config: Config, client: Client, end: CancellationToken) -> Self {
        let metrics = Arc::new(Metrics::new());
        let ready = Arc::new(AtomicBool::new(false));
        let mut tasks = JoinSet::new();
        let work = work(config, client, end, metrics.clone(), ready.clone());
        tasks.spawn(work.instrument(info_span!("scheduler")));
        Self { tasks, metrics, ready }
    }

    /// Figures in Prometheus' text format, under upstream's names.
    pub fn metrics(&self) -> String {
        self.metrics.text()
    }

    /// Whether it leads and knows the cluster.
    pub fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Relaxed)
    }

    /// Waits until it has ended.
    pub async fn ended(&mut self) {
        while self.tasks.join_next().await.is_some() {}
    }
}

async fn work(config: Config, client: Client, end: CancellationToken, metrics: Arc<Metrics>, ready: Arc<AtomicBool>) {
    let lead = || async {
        let led = Shift::begin(&config, &client, metrics.clone(), ready.clone()).run();
        led.await;
    };
    match &config.election {
        None => {
            tokio::select! {
                () = lead() => {}
                () = end.cancelled() => {}
            }
        }
        Some(one) => {
            let election = Election::new(client.clone(), &one.namespace, &one.name, &one.identity, one.terms);
            election.lead(&end, lead).await;
        }
    }
    ready.store(false, Ordering::Relaxed);
}

/// What ended.
enum Done {
    Bound(Bind, Bound),
    Evicted(PodUid, bool),
    Told(PodUid),
    Asked(Option<Event>),
}

/// The time from winning leadership to losing it.
struct Shift {
    engine: Engine,
    calls: Calls,
    recorder: Recorder,
    events: informers::Events,
    metrics: Arc<Metrics>,
    ready: Arc<AtomicBool>,
    bindings: JoinSet<Done>,
    others: JoinSet<Done>,
    telling: usize,
    /// The newest refusal of pods whose condition is not yet written; `true` while one is being written.
    refusals: HashMap<PodUid, (Option<Refusal>, bool)>,
    /// Informers and the publisher of events end with the shift.
    _background: JoinSet<()>,
}

impl Drop for Shift {
    fn drop(&mut self) {
        self.ready.store(false, Ordering::Relaxed);
    }
}

impl Shift {
    fn begin(config: &Config, client: &Client, metrics: Arc<Metrics>, ready: Arc<AtomicBool>) -> Self {
        let mut background = JoinSet::new();
        let events = informers::start(client, &mut background);
        let (recorder, publisher) = Recorder::new(client.clone(), "default-scheduler", "");
        background.spawn(publisher.run());
        Self {
            engine: Engine::new(config.profiles.iter().cloned(), config.backoff, fastrand::Rng::new()),
            calls: Calls::new(client.clone()),
            recorder,
            events,
            metrics,
            ready,
            bindings: JoinSet::new(),
            others: JoinSet::new(),
            telling: 0,
            refusals: HashMap::new(),
            _background: background,
        }
    }

    async fn run(mut self) {
        self.events.synced().await;
        self.hear_all();
        info!(
            nodes = self.engine.node_count(),
            pods = self.engine.cluster().pod_counts().0,
            "knows the cluster"
        );
        self.ready.store(true, Ordering::Relaxed);
        let mut upkeep = tokio::time::interval(UPKEEP);
        upkeep.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            self.hear_all();
            while let Some(done) = self.bindings.try_join_next() {
                self.done(done.ok());
            }
            while let Some(done) = self.others.try_join_next() {
                self.done(done.ok());
            }
            self.decide_some();
            self.tell_some();
            let more = self.engine.has_work() && self.bindings.len() < BINDINGS;
            let due = self
                .engine
                .wake_at()
                .map(|at| at.duration_since(Timestamp::now()).unsigned_abs());
            let due = async {
                match due {
                    Some(due) => tokio::time::sleep(due).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = tokio::task::yield_now(), if more => {}
                heard = self.events.next() => match heard {
                    Some(event) => self.engine.apply(event, Timestamp::now()),
                    // The informers never end before the shift.
                    None => return,
                },
                Some(done) = self.bindings.join_next() => self.done(done.ok()),
                Some(done) = self.others.join_next() => self.done(done.ok()),
                _ = upkeep.tick() => self.upkeep(),
                () = due, if !more => {}
            }
        }
    }

    /// Takes in what was heard, without waiting.
    fn hear_all(&mut self) {
        while let Some(Some(event)) = self.events.next().now_or_never() {
            self.engine.apply(event, Timestamp::now());
        }
    }

    fn decide_some(&mut self) {
        for _ in 0..BATCH {
            if self.bindings.len() >= BINDINGS {
                return;
            }
            let begun = Instant::now();
            let Some(outcome) = self.engine.next(Timestamp::now()) else {
                return;
            };
            self.metrics.decided(begun.elapsed());
            match outcome {
                Outcome::Placed(placement) => self.bind(placement, begun),
                Outcome::Refused(refusal) => self.refuse(refusal, begun),
            }
        }
    }

    fn bind(&mut self, placement: Placement, begun: Instant) {
        debug!(pod = %placement.pod.name, node = %placement.node, "binding");
        let calls = self.calls.clone();
        self.bindings.spawn(async move {
            let bound = calls.bind(&placement).await;
            Done::Bound(Bind { placement, begun }, bound)
        });
        self.metrics.bindings(self.bindings.len());
    }

    fn refuse(&mut self, mut refusal: Refusal, begun: Instant) {
        debug!(pod = %refusal.pod.name, message = refusal.message, "no node takes it");
        let pod = refusal.pod.clone();
        self.metrics
            .attempted(metrics::Outcome::Unschedulable, &pod.shape.scheduler, begun.elapsed());
        self.metrics
            .preempted(refusal.eviction.as_ref().map(|eviction| eviction.count));
        let recorder = self.recorder.named(&pod.shape.scheduler);
        recorder.event(
            &calls::reference(&pod),
            Type::Warning,
            "FailedScheduling",
            refusal.message.clone(),
        );
        if let Some(eviction) = refusal.eviction.take() {
            info!(pod = %pod.name, node = %eviction.node, victims = eviction.count, "making room");
            let calls = self.calls.clone();
            let (uid, needed) = (pod.uid.clone(), !eviction.victims.is_empty());
            self.others.spawn(async move {
                let done = calls.evict(&pod, &eviction, &recorder).await;
                Done::Evicted(uid, done || !needed)
            });
        }
        let known = refusal.pod.unscheduled.as_ref();
        let told =
            known.is_some_and(|(reason, message)| **reason == *calls::UNSCHEDULABLE && **message == *refusal.message);
        let waiting = self.refusals.contains_key(&refusal.pod.uid);
        if !told || refusal.nominate.is_some() || waiting {
            let entry = self.refusals.entry(refusal.pod.uid.clone()).or_default();
            entry.0 = Some(refusal);
        }
    }

    /// Writes conditions that aren't written yet.
    fn tell_some(&mut self) {
        if self.telling >= CONDITIONS || self.refusals.len() == self.telling {
            return;
        }
        for (uid, (refusal, telling)) in &mut self.refusals {
            if self.telling >= CONDITIONS {
                return;
            }
            if !*telling && let Some(refusal) = refusal.take() {
                *telling = true;
                self.telling += 1;
                let calls = self.calls.clone();
                let uid = uid.clone();
                self.others.spawn(async move {
                    calls.refuse(&refusal).await;
                    Done::Told(uid)
                });
            }
        }
    }

    fn done(&mut self, done: Option<Done>) {
        let now = Timestamp::now();
        match done {
            Some(Done::Bound(Bind { placement, begun }, bound)) => {
                let pod = &placement.pod;
                self.engine.finish(&pod.uid, bound, now);
                self.metrics.bindings(self.bindings.len());
                let outcome = if bound == Bound::Done {
                    metrics::Outcome::Scheduled
                } else {
                    metrics::Outcome::Error
                };
                self.metrics.attempted(outcome, &pod.shape.scheduler, begun.elapsed());
                if bound == Bound::Done {
                    let took = now.duration_since(placement.first_attempt).unsigned_abs();
                    self.metrics.bound(placement.attempts, took);
                    let message = format!("Successfully assigned {} to {}", pod.name, placement.node);
                    let recorder = self.recorder.named(&pod.shape.scheduler);
                    recorder.event(&calls::reference(pod), Type::Normal, "Scheduled", message);
                }
            }
            Some(Done::Evicted(uid, done)) => self.engine.evicted(&uid, done, now),
            Some(Done::Told(uid)) => {
                self.telling -= 1;
                if let Some(entry) = self.refusals.get_mut(&uid) {
                    entry.1 = false;
                    if entry.0.is_none() || self.engine.waiting(&uid).is_none() {
                        self.refusals.remove(&uid);
                    }
                }
            }
            Some(Done::Asked(Some(event))) => self.engine.apply(event, now),
            // A task that panicked has told so; what it was about is heard of again from the API.
            Some(Done::Asked(None)) | None => {}
        }
    }

    fn upkeep(&mut self) {
        self.metrics.observe(&mut self.engine);
        for pod in self.engine.unseen(Timestamp::now()) {
            debug!(pod = %pod.name, "bound, but not told of: asking");
            let calls = self.calls.clone();
            self.others.spawn(async move { Done::Asked(calls.look(&pod).await) });
        }
    }
}

#[cfg(test)]
mod tests;
