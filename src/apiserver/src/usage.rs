//! What nodes and pods consume: `metrics.k8s.io/v1beta1`, what `kubectl top` and autoscalers ask.
//!
//! ```text
//!  question ─▶ rows ─▶ authorization ─▶ Usage ─▶ numbers, joined with the nodes or pods there are
//!                                        │ asked          ▲
//!                                        ▼                │
//!                                     scraper ─▶ agents' /metrics/resource (Dialer)
//! ```
//!
//! Agents are asked only while somebody asks here: the first question has two readings taken, and waits for them a
//! moment; later ones are answered at once. Nothing is stored, and nothing runs when nobody asks. A node or pod without
//! two readings is absent, as with metrics-server, whose numbers these are.
//!
//! - [`text`]: what agents say; [`rates`]: what it means. Pure.
//! - `scrape`: the one task, and a short one for each agent that is being asked.

mod object;
pub mod rates;
mod scrape;
pub mod text;

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use bosun_schema::{Types, type_of_kind};
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::{
    sync::{Notify, watch},
    task::JoinSet,
    time::timeout,
};

use self::rates::{Numbers, Usage as Consumed};
use crate::{Registry, Request, Resource, Scope, Status, cache::Entry, connect::Dialer, options::ListOptions};

/// The group of these resources.
pub const GROUP: &str = "metrics.k8s.io";
const VERSION: &str = "v1beta1";

/// For how long after a question agents are asked.
const INTEREST: Duration = Duration::from_mins(3);
/// What the first question waits for the first two readings.
const PATIENCE: Duration = Duration::from_secs(5);

/// Answers what is consumed.
pub struct Usage {
    registry: Arc<Registry>,
    rows: [Arc<Resource>; 2],
    shared: Arc<Shared>,
    _task: JoinSet<()>,
}

/// What questions and the scraper share.
struct Shared {
    /// By node.
    numbers: Mutex<HashMap<String, Numbers>>,
    asked: Mutex<Option<Instant>>,
    question: Notify,
    /// Rounds of asking that ended since somebody took an interest.
    rounds: watch::Sender<u32>,
}

impl Shared {
    /// Whether somebody asked of late.
    fn wanted(&self) -> bool {
        self.asked.lock().is_some_and(|at| at.elapsed() < INTEREST)
    }
}

impl Usage {
    /// Of the nodes and pods in `registry`, whose agents `dialer` reaches. Must be called within a runtime.
    pub fn start(registry: Arc<Registry>, dialer: Arc<dyn Dialer>) -> Self {
        let shared = Arc::new(Shared {
            numbers: Mutex::default(),
            asked: Mutex::default(),
            question: Notify::new(),
            rounds: watch::Sender::new(0),
        });
        let mut task = JoinSet::new();
        task.spawn(scrape::run(registry.clone(), dialer, shared.clone()));
        Self {
            registry,
            rows: [
                row("nodes", "NodeMetrics", Scope::Cluster),
                row("pods", "PodMetrics", Scope::Namespaced),
            ],
            shared,
            _task: task,
        }
    }

    /// The rows to be served beside the table's.
    pub fn rows(&self) -> &[Arc<Resource>] {
        &self.rows
    }

    /// The row of a path.
    pub fn row(&self, group: &str, version: &str, plural: &str) -> Option<&Arc<Resource>> {
        let mut rows = self.rows.iter();
        rows.find(|row| (&*row.group, &*row.version, &*row.plural) == (group, version, plural))
    }

    /// Whether this row is one of these.
    pub fn serves(&self, row: &Arc<Resource>) -> bool {
        self.rows.iter().any(|one| Arc::ptr_eq(one, row))
    }

    /// What one node or pod consumes, as JSON.
    pub async fn get(&self, request: &Request) -> Result<Bytes, Status> {
        let row = request.resource.as_ref().ok_or_else(crate::http::unknown)?;
        let source = self.source(row)?;
        let entry = self
            .registry
            .entry(&source, &request.namespace, &request.name, "")
            .await;
        let unknown = || Status::not_found(GROUP, &row.plural, &request.name);
        let entry = entry.map_err(|status| match status.reason {
            crate::Reason::NotFound => unknown(),
            _ => status,
        })?;
        self.have_numbers().await;
        self.told(row, &[entry], request.now).pop().ok_or_else(unknown)
    }

    /// What those consume that `options` select by labels or fields, as JSON.
    pub async fn list(&self, request: &Request, options: &ListOptions) -> Result<Vec<Bytes>, Status> {
        let row = request.resource.as_ref().ok_or_else(crate::http::unknown)?;
        let source = Request {
            resource: Some(self.source(row)?),
            ..request.clone()
        };
        // Pages and versions are of what is stored, and this is not.
        let options = ListOptions {
            labels: options.labels.clone(),
            fields: options.fields.clone(),
            ..ListOptions::default()
        };
        let list = self.registry.list(&source, &options).await?;
        self.have_numbers().await;
        Ok(self.told(row, &list.entries, request.now))
    }

    /// The row of what is measured.
    fn source(&self, row: &Resource) -> Result<Arc<Resource>, Status> {
        let table = self.registry.table();
        table
            .get("", "v1", &row.plural)
            .cloned()
            .ok_or_else(crate::http::unknown)
    }

    /// Takes an interest, and waits for numbers if nobody did before.
    async fn have_numbers(&self) {
        *self.shared.asked.lock() = Some(Instant::now());
        self.shared.question.notify_one();
        let mut rounds = self.shared.rounds.subscribe();
        // Late agents are absent then; they are there the next time.
        let _ = timeout(PATIENCE, rounds.wait_for(|rounds| *rounds >= 2)).await;
    }

    fn told(&self, row: &Resource, entries: &[Arc<Entry>], now: jiff::Timestamp) -> Vec<Bytes> {
        let numbers = self.shared.numbers.lock();
        if row.scope == Scope::Cluster {
            let nodes = entries.iter().filter_map(|entry| {
                let consumed = numbers.get(entry.name())?.node()?;
                Some(object::node(entry, &consumed, now))
            });
            return nodes.collect();
        }
        // A name may have been on another node before.
        let mut pods: HashMap<(&str, &str), &rates::Pod> = HashMap::new();
        for (key, pod) in numbers.values().flat_map(Numbers::pods) {
            let known = pods.entry(key).or_insert(pod);
            if known.read_at() < pod.read_at() {
                *known = pod;
            }
        }
        let pods = entries.iter().filter_map(|entry| {
            let containers = pods.get(&(entry.namespace(), entry.name()))?.usage()?;
            Some(object::pod(entry, &containers, now))
        });
        pods.collect()
    }
}

fn row(plural: &str, kind: &str, scope: Scope) -> Arc<Resource> {
    Arc::new(Resource {
        group: GROUP.into(),
        version: VERSION.into(),
        kind: kind.into(),
        list_kind: format!("{kind}List").into(),
        plural: plural.into(),
        singular: "".into(),
        short_names: Vec::new(),
        categories: Vec::new(),
        scope,
        verbs: vec!["get".into(), "list".into()],
        subresources: Vec::new(),
        types: Types::builtin().clone(),
        // Nobody writes them: no structure is asked for.
        ty: type_of_kind("", "v1", "Status").expect("a Status has a type"),
        strategy: bosun_kinds::strategy(GROUP, kind),
        selectable: Vec::new(),
        prefix: crate::registry::builtin::prefix(GROUP, plural),
        storage: false,
        stored_api_version: format!("{GROUP}/{VERSION}").into(),
        custom: None,
    })
}
