//! What is counted and written down of a request, once its answer has ended, however it ended.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Instant,
};

use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use prometheus_client::metrics::gauge::Gauge;

use super::{body::Observer, places::Place, target::Target};
use crate::{
    Request, Status,
    audit::Record,
    metrics::{DurationLabels, Metrics},
};

/// A gauge that is one higher while this lives.
pub(super) struct Raised(Gauge);

impl Raised {
    pub(super) fn new(gauge: Gauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for Raised {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// A request being answered. Dropping it is the end of the answer.
pub(super) struct Observation {
    metrics: Metrics,
    labels: DurationLabels,
    started: Instant,
    lasting: Option<Raised>,
    dry_run: bool,
    place: Option<Place>,
    pub(super) record: Option<Record>,
    session: Mutex<Option<BoxFuture<'static, ()>>>,
    code: u16,
    bytes: AtomicUsize,
}

impl Observation {
    /// Of a request that has come.
    pub(super) fn new(metrics: &Metrics, target: Option<&Target>, started: Instant) -> Self {
        Self {
            metrics: metrics.clone(),
            labels: DurationLabels {
                verb: target.map_or_else(String::new, |target| target.verb.to_ascii_uppercase()),
                ..DurationLabels::default()
            },
            started,
            lasting: None,
            dry_run: false,
            place: None,
            record: None,
            session: Mutex::default(),
            code: 0,
            bytes: AtomicUsize::new(0),
        }
    }

    /// It has a place among those in flight, until the answer's end.
    pub(super) fn takes(&mut self, place: Place) {
        self.place = Some(place);
    }

    /// Its place, if it needs one.
    pub(super) fn place(&mut self) -> Option<&mut Place> {
        self.place.as_mut()
    }

    /// What it turned out to be about. Only rows' own names become labels, never a client's words.
    pub(super) fn about(&mut self, request: &Request, lasting: bool) {
        if let Some(resource) = &request.resource {
            self.labels.group = resource.group.to_string();
            self.labels.version = resource.version.to_string();
            self.labels.resource = resource.plural.to_string();
            scope(request).clone_into(&mut self.labels.scope);
            if resource
                .subresources
                .iter()
                .any(|sub| *sub.name == *request.subresource)
            {
                self.labels.subresource.clone_from(&request.subresource);
            }
        }
        if lasting {
            self.lasting = Some(Raised::new(self.metrics.long_running(&self.labels)));
        }
    }

    /// Nothing will be stored.
    pub(super) fn dry_run(&mut self, dry_run: bool) {
        self.dry_run = dry_run;
    }

    /// Its connection becomes a session, which goes on when the answer has been sent.
    pub(super) fn carries(&mut self, session: BoxFuture<'static, ()>) {
        *self.session.get_mut() = Some(session);
    }

    /// The session, if it carries one: the request ends with it.
    pub(super) fn session(&mut self) -> Option<BoxFuture<'static, ()>> {
        self.session.get_mut().take()
    }

    /// It can't be done.
    pub(super) fn failed(&mut self, status: &Status) {
        if let Some(record) = &mut self.record {
            record.failed(status.to_json());
        }
    }

    /// The handler panicked.
    pub(super) fn panicked(&mut self) {
        if let Some(record) = self.record.take() {
            record.panicked();
        }
    }

    /// The answer begins.
    pub(super) fn begins(&mut self, code: u16) {
        self.code = code;
        if self.lasting.is_some()
            && let Some(record) = &self.record
        {
            record.started(code);
        }
    }
}

impl Observer for Observation {
    fn sent(&self, bytes: usize) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }
}

impl Drop for Observation {
    fn drop(&mut self) {
        drop(self.place.take());
        let time = self.lasting.is_none().then(|| self.started.elapsed());
        self.metrics
            .answered(&self.labels, self.dry_run, self.code, *self.bytes.get_mut(), time);
        if let Some(record) = self.record.take() {
            record.complete(self.code);
        }
    }
}

fn scope(request: &Request) -> &'static str {
    if !request.name.is_empty() {
        "resource"
    } else if !request.namespace.is_empty() {
        "namespace"
    } else {
        "cluster"
    }
}
