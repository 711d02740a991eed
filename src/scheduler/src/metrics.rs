//! Figures under upstream's names, for whoever scrapes them.

use std::time::Duration;

use parking_lot::Mutex;
use prometheus_client::{
    encoding::{EncodeLabelSet, text},
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::Registry,
};

use crate::engine::Engine;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Attempt {
    result: &'static str,
    profile: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Attempts {
    attempts: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct QueueName {
    queue: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Kind {
    r#type: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Rejection {
    plugin: &'static str,
    profile: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Operation {
    operation: &'static str,
}

/// The figures.
pub(crate) struct Metrics {
    registry: Mutex<Registry>,
    attempts: Family<Attempt, Counter>,
    attempt: Family<Attempt, Histogram>,
    algorithm: Histogram,
    attempts_of_pod: Histogram,
    from_queue_to_node: Family<Attempts, Histogram>,
    victims: Histogram,
    preemptions: Counter,
    pending: Family<QueueName, Gauge>,
    cache: Family<Kind, Gauge>,
    unschedulable: Family<Rejection, Gauge>,
    under_way: Family<Operation, Gauge>,
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

/// What became of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The pod is bound.
    Scheduled,
    /// No node takes it.
    Unschedulable,
    /// Something went wrong.
    Error,
}

impl Outcome {
    fn name(self) -> &'static str {
        match self {
            Self::Scheduled => "scheduled",
            Self::Unschedulable => "unschedulable",
            Self::Error => "error",
        }
    }
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let milliseconds = || Histogram::new(exponential_buckets(0.001, 2.0, 15));
        let metrics = Self {
            registry: Mutex::new(Registry::with_prefix("scheduler")),
            attempts: Family::default(),
            attempt: Family::new_with_constructor(milliseconds),
            algorithm: milliseconds(),
            attempts_of_pod: Histogram::new(exponential_buckets(1.0, 2.0, 5)),
            from_queue_to_node: Family::new_with_constructor(|| Histogram::new(exponential_buckets(0.01, 2.0, 20))),
            victims: Histogram::new(exponential_buckets(1.0, 2.0, 7)),
            preemptions: Counter::default(),
            pending: Family::default(),
            cache: Family::default(),
            unschedulable: Family::default(),
            under_way: Family::default(),
        };
        let mut registry = metrics.registry.lock();
        registry.register(
            "schedule_attempts",
            "Attempts to schedule pods, by result",
            metrics.attempts.clone(),
        );
        registry.register(
            "scheduling_attempt_duration_seconds",
            "Time of an attempt, decision and binding",
            metrics.attempt.clone(),
        );
        registry.register(
            "scheduling_algorithm_duration_seconds",
            "Time of a decision",
            metrics.algorithm.clone(),
        );
        registry.register(
            "pod_scheduling_attempts",
            "Attempts a bound pod has taken",
            metrics.attempts_of_pod.clone(),
        );
        registry.register(
            "pod_scheduling_sli_duration_seconds",
            "Time from a pod's first attempt until it is bound",
            metrics.from_queue_to_node.clone(),
        );
        registry.register(
            "preemption_victims",
            "Pods that had to go for one",
            metrics.victims.clone(),
        );
        registry.register(
            "preemption_attempts",
            "Attempts to make room",
            metrics.preemptions.clone(),
        );
        registry.register("pending_pods", "Pods that wait, by queue", metrics.pending.clone());
        registry.register(
            "scheduler_cache_size",
            "Nodes, pods and assumed pods known",
            metrics.cache.clone(),
        );
        registry.register(
            "unschedulable_pods",
            "Pods that wait for a change, by the plugin that rejected them",
            metrics.unschedulable.clone(),
        );
        registry.register(
            "goroutines",
            "Tasks under way, by what they do",
            metrics.under_way.clone(),
        );
        drop(registry);
        metrics
    }

    /// A decision has been made.
    pub(crate) fn decided(&self, took: Duration) {
        self.algorithm.observe(took.as_secs_f64());
    }

    /// An attempt has come to its end.
    pub(crate) fn attempted(&self, outcome: Outcome, profile: &str, took: Duration) {
        let labels = Attempt {
            result: outcome.name(),
            profile: profile.to_owned(),
        };
        self.attempts.get_or_create(&labels).inc();
        self.attempt.get_or_create(&labels).observe(took.as_secs_f64());
    }

    /// A pod has been bound.
    pub(crate) fn bound(&self, attempts: u32, took: Duration) {
        self.attempts_of_pod.observe(f64::from(attempts));
        let attempts = if attempts >= 15 {
            "15+".to_owned()
        } else {
            attempts.to_string()
        };
        self.from_queue_to_node
            .get_or_create(&Attempts { attempts })
            .observe(took.as_secs_f64());
    }

    /// Room was looked for, and perhaps found.
    pub(crate) fn preempted(&self, victims: Option<usize>) {
        self.preemptions.inc();
        if let Some(victims) = victims {
            self.victims.observe(victims as f64);
        }
    }

    /// So many bindings are under way.
    pub(crate) fn bindings(&self, count: usize) {
        self.under_way
            .get_or_create(&Operation { operation: "binding" })
            .set(count as i64);
    }

    /// How things stand.
    pub(crate) fn observe(&self, engine: &mut Engine) {
        let counts = engine.counts();
        for (queue, count) in [
            ("active", counts.active),
            ("backoff", counts.backoff),
            ("unschedulable", counts.unschedulable),
            ("gated", counts.gated),
        ] {
            self.pending.get_or_create(&QueueName { queue }).set(count as i64);
        }
        let (pods, assumed) = engine.cluster().pod_counts();
        for (kind, count) in [
            ("nodes", engine.node_count()),
            ("pods", pods),
            ("assumed_pods", assumed),
        ] {
            self.cache.get_or_create(&Kind { r#type: kind }).set(count as i64);
        }
        self.unschedulable.clear();
        for ((plugin, profile), count) in engine.rejections() {
            let labels = Rejection {
                plugin: plugin.name(),
                profile: profile.to_string(),
            };
            self.unschedulable.get_or_create(&labels).set(count as i64);
        }
    }

    /// In Prometheus' (`OpenMetrics`) text format.
    pub(crate) fn text(&self) -> String {
        let mut written = String::new();
        // Writing to a string does not fail.
        let _ = text::encode(&mut written, &self.registry.lock());
        written
    }
}
