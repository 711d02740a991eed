//! What happened to an object, told to its users as core/v1 Events.
//!
//! ```text
//! Recorder::event ──bounded queue──▶ Publisher::run ──▶ Correlator ──▶ API
//!  (never waits)                      (one task)         (pure)
//! ```
//!
//! Events are a courtesy: recording one never waits, and one that can't be published is dropped and counted.

mod correlate;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{Event, EventSource, ObjectReference},
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time},
};
use kube::{
    Api, Client,
    api::{Patch, PatchParams, PostParams},
};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, timeout_at},
};
use tracing::{debug, warn};

use self::correlate::{Action, Correlator};
use crate::{
    backoff::Backoff,
    call::{CallError, Class, call_within},
};

/// Events that wait to be published. More are dropped.
const QUEUE: usize = 1000;
/// How long one attempt to publish may take.
const ATTEMPT: Duration = Duration::from_secs(10);
/// How long an event is tried to be published.
const PATIENCE: Duration = Duration::from_secs(120);
/// The longest message that the API takes, in bytes.
const MESSAGE: usize = 1024;
/// The longest name of an object.
const NAME: usize = 253;

/// Whether an event is to worry somebody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// What was to be expected.
    Normal,
    /// What may need somebody's attention.
    Warning,
}

impl Type {
    /// As it is written in an Event.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "Normal",
            Self::Warning => "Warning",
        }
    }
}

/// Records events in the name of a component. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Recorder {
    source: EventSource,
    events: mpsc::Sender<Event>,
    dropped: Arc<AtomicU64>,
}

/// Publishes what [`Recorder`]s record, while [`run`](Self::run) is polled.
pub struct Publisher {
    client: Client,
    events: mpsc::Receiver<Event>,
    correlator: Correlator,
    dropped: Arc<AtomicU64>,
}

impl Recorder {
    /// A recorder for a component (`deployment-controller`) on a host (a node's name; empty for one of the cluster),
    /// and what publishes its events.
    pub fn new(client: Client, component: &str, host: &str) -> (Self, Publisher) {
        let (tx, rx) = mpsc::channel(QUEUE);
        let dropped = Arc::new(AtomicU64::new(0));
        let recorder = Self {
            source: source(component, host),
            events: tx,
            dropped: dropped.clone(),
        };
        let publisher = Publisher {
            client,
            events: rx,
            correlator: Correlator::default(),
            dropped,
        };
        (recorder, publisher)
    }

    /// The same in the name of another component on the host.
    pub fn named(&self, component: &str) -> Self {
        Self {
            source: source(component, self.source.host.as_deref().unwrap_or_default()),
            ..self.clone()
        }
    }

    /// Says what happened to an object. `object` is what [`kube::Resource::object_ref`] makes of it, perhaps with a
    /// `fieldPath` such as `spec.containers{name}`.
    pub fn event(&self, object: &ObjectReference, kind: Type, reason: &str, message: impl Into<String>) {
        let event = event(&self.source, object, kind, reason, message.into(), Timestamp::now());
        if self.events.try_send(event).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many events were not published, for the API was away or there were too many.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

impl Publisher {
    /// Publishes until every recorder is gone.
    pub async fn run(mut self) {
        while let Some(event) = self.events.recv().await {
            let Some(action) = self.correlator.observe(event, Timestamp::now()) else {
                continue;
            };
            if let Err(error) = self.publish(&action).await {
                self.dropped.fetch_add(1, Ordering::Relaxed);
                let Event {
                    reason,
                    message,
                    involved_object: object,
                    ..
                } = action.event();
                let (namespace, name) = (&object.namespace, &object.name);
                // In a namespace that is being deleted nothing more can be made.
                if error.is_namespace_terminating() || error.is_not_found() {
                    debug!(?namespace, ?name, ?reason, %error, "the event is not published");
                } else {
                    warn!(?namespace, ?name, ?reason, ?message, %error, "the event is not published");
                }
            }
        }
    }

    async fn publish(&self, action: &Action) -> Result<(), CallError> {
        let until = Instant::now() + PATIENCE;
        let mut retry = Backoff::new(Duration::from_millis(500), Duration::from_secs(10));
        let mut action = action.clone();
        loop {
            let error = match self.attempt(&action).await {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            match (error.class(), &action) {
                // It has expired since: events live for an hour.
                (Class::NotFound, Action::Count(event)) => {
                    action = Action::Create(event.clone());
                    continue;
                }
                // An attempt before did it, though its answer was lost.
                (Class::AlreadyExists, Action::Create(_)) => return Ok(()),
                (Class::Unavailable | Class::Throttled { .. } | Class::Unauthorized | Class::Conflict, _) => {}
                _ => return Err(error),
            }
            let delay = retry.failed().max(error.retry_after().unwrap_or_default());
            if timeout_at(until, sleep(delay)).await.is_err() {
                return Err(error);
            }
        }
    }

    async fn attempt(&self, action: &Action) -> Result<(), CallError> {
        let event = action.event();
        let namespace = event.metadata.namespace.as_deref().unwrap_or("default");
        let api: Api<Event> = Api::namespaced(self.client.clone(), namespace);
        match action {
            Action::Create(event) => call_within(ATTEMPT, api.create(&PostParams::default(), event)).await?,
            Action::Count(event) => {
                let name = event.metadata.name.as_deref().unwrap_or_default();
                let change = serde_json::json!({
                    "count": event.count,
                    "lastTimestamp": event.last_timestamp,
                    "message": event.message,
                });
                let patch = Patch::Merge(&change);
                call_within(ATTEMPT, api.patch(name, &PatchParams::default(), &patch)).await?
            }
        };
        Ok(())
    }
}

fn source(component: &str, host: &str) -> EventSource {
    EventSource {
        component: Some(component.to_owned()),
        host: Some(host.to_owned()).filter(|host| !host.is_empty()),
    }
}

/// An event that happened once.
fn event(
    source: &EventSource,
    object: &ObjectReference,
    kind: Type,
    reason: &str,
    message: String,
    now: Timestamp,
) -> Event {
    let suffix = format!(".{:x}", now.as_nanosecond());
    let name = object.name.as_deref().unwrap_or_default();
    let name = name.get(..NAME - suffix.len()).unwrap_or(name);
    let namespace = object.namespace.as_deref().filter(|namespace| !namespace.is_empty());
    let time = Some(Time(now));
    Event {
        metadata: ObjectMeta {
            // Events of objects of the cluster live in the namespace `default`.
            namespace: Some(namespace.unwrap_or("default").to_owned()),
            name: Some(format!("{name}{suffix}")),
            ..ObjectMeta::default()
        },
        involved_object: object.clone(),
        type_: Some(kind.as_str().to_owned()),
        reason: Some(reason.to_owned()),
        message: Some(bounded(message)),
        count: Some(1),
        first_timestamp: time.clone(),
        last_timestamp: time,
        source: Some(source.clone()),
        reporting_component: source.component.clone(),
        reporting_instance: source.host.clone(),
        ..Event::default()
    }
}

/// Cuts a message to what the API takes, between two characters.
fn bounded(mut message: String) -> String {
    if message.len() > MESSAGE {
        let cut = (0..=MESSAGE).rev().find(|at| message.is_char_boundary(*at));
        message.truncate(cut.unwrap_or(0));
    }
    message
}

impl std::fmt::Debug for Publisher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Publisher").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
