//! What is counted of the queues, under upstream's names.

use std::{sync::Arc, time::Duration};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

/// In seconds.
const BUCKETS: [f64; 10] = [1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0, 100.0, 1000.0];

type Histograms = Family<Labels, Histogram, fn() -> Histogram>;

/// Counters of all queues.
#[derive(Clone, Debug)]
pub struct Metrics(Arc<Families>);

#[derive(Debug)]
struct Families {
    depth: Family<Labels, Gauge>,
    adds: Family<Labels, Counter>,
    retries: Family<Labels, Counter>,
    waited: Histograms,
    worked: Histograms,
    panics: Family<Labels, Counter>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    name: &'static str,
}

impl Metrics {
    /// Counters that are shown by `registry`.
    pub fn new(registry: &mut Registry) -> Self {
        let histograms = || Family::new_with_constructor((|| Histogram::new(BUCKETS)) as fn() -> Histogram);
        let families = Families {
            depth: Family::default(),
            adds: Family::default(),
            retries: Family::default(),
            waited: histograms(),
            worked: histograms(),
            panics: Family::default(),
        };
        registry.register("workqueue_depth", "Keys that wait", families.depth.clone());
        registry.register("workqueue_adds", "Keys that were queued", families.adds.clone());
        registry.register(
            "workqueue_retries",
            "Keys that were queued again after a failure",
            families.retries.clone(),
        );
        registry.register(
            "workqueue_queue_duration_seconds",
            "How long keys waited",
            families.waited.clone(),
        );
        registry.register(
            "workqueue_work_duration_seconds",
            "How long runs took",
            families.worked.clone(),
        );
        registry.register(
            "bosun_controller_panics",
            "Runs that ended in a panic",
            families.panics.clone(),
        );
        Self(Arc::new(families))
    }

    /// The counters of one queue.
    pub fn of(&self, name: &'static str) -> Counted {
        let labels = Labels { name };
        Counted {
            depth: self.0.depth.get_or_create(&labels).clone(),
            adds: self.0.adds.get_or_create(&labels).clone(),
            retries: self.0.retries.get_or_create(&labels).clone(),
            waited: self.0.waited.get_or_create(&labels).clone(),
            worked: self.0.worked.get_or_create(&labels).clone(),
            panics: self.0.panics.get_or_create(&labels).clone(),
        }
    }
}

impl Default for Metrics {
    /// Counters that nobody is shown.
    fn default() -> Self {
        Self::new(&mut Registry::default())
    }
}

/// The counters of one queue.
#[derive(Clone, Debug)]
pub struct Counted {
    depth: Gauge,
    adds: Counter,
    retries: Counter,
    waited: Histogram,
    worked: Histogram,
    panics: Counter,
}

impl Counted {
    pub(super) fn depth(&self, change: i64) {
        self.depth.inc_by(change);
    }

    pub(super) fn added(&self) {
        self.adds.inc();
    }

    pub(super) fn retried(&self) {
        self.retries.inc();
    }

    pub(super) fn taken(&self, waited: Duration) {
        self.depth.dec();
        self.waited.observe(waited.as_secs_f64());
    }

    pub(super) fn worked(&self, time: Duration) {
        self.worked.observe(time.as_secs_f64());
    }

    pub(super) fn panicked(&self) {
        self.panics.inc();
    }
}

impl Default for Counted {
    fn default() -> Self {
        Metrics::default().of("")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queues_are_counted_under_upstreams_names() {
        let mut registry = Registry::default();
        let counted = Metrics::new(&mut registry).of("deployment");
        counted.added();
        counted.depth(1);
        counted.retried();
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).expect("writing to a string");
        for line in [
            "workqueue_depth{name=\"deployment\"} 1",
            "workqueue_adds_total{name=\"deployment\"} 1",
            "workqueue_retries_total{name=\"deployment\"} 1",
            "workqueue_queue_duration_seconds_count{name=\"deployment\"} 0",
            "workqueue_work_duration_seconds_count{name=\"deployment\"} 0",
        ] {
            assert!(text.contains(line), "{line} in\n{text}");
        }
    }
}
