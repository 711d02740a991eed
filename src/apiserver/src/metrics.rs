//! What the server counts, under upstream's names, for `/metrics`.

mod store;

use std::{fmt::Write as _, sync::Arc, time::Duration};

use prometheus_client::{
    encoding::{EncodeLabelSet, text},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

pub use self::store::Timed;

/// The media type of [`Metrics::render`].
pub const MEDIA_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Where requests are counted. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Metrics(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    registry: Registry,
    requests: Family<RequestLabels, Counter>,
    durations: Family<DurationLabels, Histogram>,
    sizes: Family<DurationLabels, Histogram>,
    long_running: Family<DurationLabels, Gauge>,
    in_flight: Family<KindLabels, Gauge>,
    rejected: Family<KindLabels, Counter>,
    watch_events: Family<WatchLabels, Counter>,
    store_seconds: Family<StoreLabels, Histogram>,
    store_errors: Family<StoreLabels, Counter>,
    audit_events: Counter,
    audit_lost: Counter,
}

/// What a request was about. Only words of ours: no label is a client's choice.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct DurationLabels {
    /// `GET`, `LIST`, `WATCH`, `POST`…
    pub verb: String,
    /// Of a row of the table of kinds; empty for other paths.
    pub group: String,
    /// Likewise.
    pub version: String,
    /// Likewise, in plural.
    pub resource: String,
    /// Likewise.
    pub subresource: String,
    /// `resource`, `namespace`, `cluster`, or empty for paths without a resource.
    pub scope: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    verb: String,
    group: String,
    version: String,
    resource: String,
    subresource: String,
    scope: String,
    code: u16,
    dry_run: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabels {
    request_kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StoreLabels {
    operation: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WatchLabels {
    group: String,
    version: String,
    resource: String,
}

/// As upstream's buckets for the duration of requests, in seconds.
const SECONDS: [f64; 20] = [
    0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 30.0, 60.0,
];

/// As upstream's buckets for calls of etcd, in seconds, with finer ones before: an embedded store is near.
const STORE_SECONDS: [f64; 12] = [0.0005, 0.001, 0.0025, 0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.8, 1.5, 4.0];

/// In bytes.
const SIZES: [f64; 7] = [1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9];

impl Metrics {
    /// With nothing counted yet.
    pub fn new(version: &str) -> Self {
        Self::beside(Registry::default(), version)
    }

    /// Shown together with what others count in the same process.
    pub fn beside(mut registry: Registry, version: &str) -> Self {
        let requests = Family::default();
        let durations = Family::new_with_constructor((|| Histogram::new(SECONDS)) as fn() -> Histogram);
        let sizes = Family::new_with_constructor((|| Histogram::new(SIZES)) as fn() -> Histogram);
        let long_running = Family::default();
        let in_flight = Family::default();
        let rejected = Family::default();
        let watch_events = Family::default();
        let store_seconds = Family::new_with_constructor((|| Histogram::new(STORE_SECONDS)) as fn() -> Histogram);
        let store_errors = Family::default();
        let audit_events = Counter::default();
        let audit_lost = Counter::default();
        let build = Family::<Vec<(&'static str, String)>, Gauge>::default();
        build
            .get_or_create(&vec![
                ("git_version", version.to_owned()),
                ("major", "1".to_owned()),
                ("minor", "36".to_owned()),
                ("platform", super::discovery::platform()),
            ])
            .set(1);
        registry.register("kubernetes_build_info", "What was built, as labels", build);
        registry.register("apiserver_request", "Requests that were answered", requests.clone());
        registry.register(
            "apiserver_request_duration_seconds",
            "From a request's head to the end of its answer, without watches",
            durations.clone(),
        );
        registry.register("apiserver_response_sizes", "Bytes of answers", sizes.clone());
        registry.register(
            "apiserver_longrunning_requests",
            "Watches and other lasting requests under way",
            long_running.clone(),
        );
        registry.register(
            "apiserver_current_inflight_requests",
            "Requests under way, without lasting ones",
            in_flight.clone(),
        );
        registry.register(
            "apiserver_rejected_requests",
            "Requests answered 429 because too many were under way",
            rejected.clone(),
        );
        registry.register(
            "apiserver_watch_events",
            "Events sent to watchers",
            watch_events.clone(),
        );
        registry.register(
            "etcd_request_duration_seconds",
            "Calls of the store, whichever it is",
            store_seconds.clone(),
        );
        registry.register(
            "etcd_request_errors",
            "Calls of the store that failed, conflicts included",
            store_errors.clone(),
        );
        registry.register("apiserver_audit_event", "Audit events written", audit_events.clone());
        registry.register(
            "apiserver_audit_error",
            "Audit events that could not be written",
            audit_lost.clone(),
        );
        Self(Arc::new(Inner {
            registry,
            requests,
            durations,
            sizes,
            long_running,
            in_flight,
            rejected,
            watch_events,
            store_seconds,
            store_errors,
            audit_events,
            audit_lost,
        }))
    }

    /// Counts a request that was answered with `code` and `bytes`, after `time` unless it was a lasting one.
    pub fn answered(&self, about: &DurationLabels, dry_run: bool, code: u16, bytes: usize, time: Option<Duration>) {
        let labels = RequestLabels {
            verb: about.verb.clone(),
            group: about.group.clone(),
            version: about.version.clone(),
            resource: about.resource.clone(),
            subresource: about.subresource.clone(),
            scope: about.scope.clone(),
            code,
            dry_run: if dry_run { "All".to_owned() } else { String::new() },
        };
        self.0.requests.get_or_create(&labels).inc();
        if let Some(time) = time {
            self.0.durations.get_or_create(about).observe(time.as_secs_f64());
            if matches!(&*about.verb, "GET" | "LIST") {
                self.0.sizes.get_or_create(about).observe(bytes as f64);
            }
        }
    }

    /// How many lasting requests about this are under way.
    pub fn long_running(&self, about: &DurationLabels) -> Gauge {
        self.0.long_running.get_or_create_owned(about)
    }

    /// How many requests that change something, or that don't, are under way.
    pub fn in_flight(&self, read_only: bool) -> Gauge {
        self.0.in_flight.get_or_create_owned(&kind(read_only))
    }

    /// How many requests were told to come again.
    pub fn rejected(&self, read_only: bool) -> Counter {
        self.0.rejected.get_or_create_owned(&kind(read_only))
    }

    /// How many events were sent to watchers of this.
    pub fn watch_events(&self, group: &str, version: &str, resource: &str) -> Counter {
        self.0.watch_events.get_or_create_owned(&WatchLabels {
            group: group.to_owned(),
            version: version.to_owned(),
            resource: resource.to_owned(),
        })
    }

    /// Counts a call of the store.
    fn store_call(&self, operation: &'static str, time: Duration, failed: bool) {
        let labels = StoreLabels { operation };
        self.0.store_seconds.get_or_create(&labels).observe(time.as_secs_f64());
        if failed {
            self.0.store_errors.get_or_create(&labels).inc();
        }
    }

    /// How many audit events were written, and how many could not be.
    pub fn audit(&self) -> (&Counter, &Counter) {
        (&self.0.audit_events, &self.0.audit_lost)
    }

    /// All of it, in the text format that `Prometheus` and others scrape.
    pub fn render(&self) -> String {
        let mut out = String::new();
        if text::encode(&mut out, &self.0.registry).is_err() {
            let _ = writeln!(out, "# what follows could not be written");
        }
        out
    }
}

fn kind(read_only: bool) -> KindLabels {
    KindLabels {
        request_kind: if read_only { "readOnly" } else { "mutating" },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted_under_upstreams_names() {
        let metrics = Metrics::new("v1.36.0+bosun-0");
        let pods = DurationLabels {
            verb: "LIST".to_owned(),
            version: "v1".to_owned(),
            resource: "pods".to_owned(),
            scope: "cluster".to_owned(),
            ..DurationLabels::default()
        };
        metrics.answered(&pods, false, 200, 5000, Some(Duration::from_millis(30)));
        metrics.answered(&pods, false, 200, 5000, Some(Duration::from_millis(30)));
        metrics.in_flight(true).set(3);
        let text = metrics.render();
        for line in [
            "apiserver_request_total{verb=\"LIST\",group=\"\",version=\"v1\",resource=\"pods\",subresource=\"\",\
             scope=\"cluster\",code=\"200\",dry_run=\"\"} 2",
            "apiserver_request_duration_seconds_bucket{le=\"0.05\",verb=\"LIST\",group=\"\",version=\"v1\",\
             resource=\"pods\",subresource=\"\",scope=\"cluster\"} 2",
            "apiserver_current_inflight_requests{request_kind=\"readOnly\"} 3",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
        assert!(text.ends_with("# EOF\n"));
    }
}
