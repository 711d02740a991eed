//! Pods: their state in one word.

use jiff::Timestamp;
use serde_json::Value;

use super::{
    AGE, Column, NAME, Table,
    cell::{self, NONE},
    column, human, text, wide,
};

pub(super) static PODS: Table = Table {
    columns: &[
        NAME,
        text("Ready", "Containers that are ready, of all that run"),
        text("Status", "What the pod is about, or what ails it"),
        column(
            "Restarts",
            "string",
            "How often its containers were restarted, and when last",
        ),
        AGE,
        wide("IP", "string", "Its address"),
        wide("Node", "string", "The node it runs on"),
        wide("Nominated Node", "string", "The node where room is being made for it"),
        wide(
            "Readiness Gates",
            "string",
            "Conditions of its own that are met, of all it waits for",
        ),
    ],
    row,
};

pub(super) static TEMPLATES: Table = Table {
    columns: &[
        NAME,
        Column {
            priority: 0,
            ..super::CONTAINERS
        },
        Column {
            priority: 0,
            ..super::IMAGES
        },
        text("Pod Labels", "Labels of its pods"),
    ],
    row: |object, _| {
        let [names, images] = cell::containers(object, "/template/spec/containers");
        vec![
            cell::name(object),
            names,
            images,
            cell::labels(object, "/template/metadata/labels"),
        ]
    },
};

/// Restarts, and when the last of them was.
#[derive(Clone, Copy, Default)]
struct Restarts {
    count: i64,
    last: Option<Timestamp>,
}

impl Restarts {
    fn add(&mut self, status: &Value) {
        self.count += cell::int(status, "/restartCount");
        self.last = self
            .last
            .max(human::moment(status.pointer("/lastState/terminated/finishedAt")));
    }

    fn told(self, now: Timestamp) -> String {
        match self.last {
            Some(last) if self.count != 0 => {
                format!("{} ({} ago)", self.count, human::duration(now.duration_since(last)))
            }
            _ => self.count.to_string(),
        }
    }
}

/// What the containers that start before the others have come to.
struct Initialization {
    /// What they are at, if they aren't done.
    at: Option<String>,
    restarts: Restarts,
    sidecar_restarts: Restarts,
    ready_sidecars: usize,
}

fn row(pod: &Value, now: Timestamp) -> Vec<Value> {
    let spec_containers = cell::items(pod, "/spec/containers").len();
    let total = spec_containers + sidecars(pod).count();
    let init = initialization(pod);
    let mut ready = init.ready_sidecars;
    let mut restarts = init.restarts;
    let mut reason = match &init.at {
        Some(at) => at.clone(),
        None => plain_reason(pod),
    };
    if init.at.is_none() || cell::condition(pod, "Initialized") == "True" {
        restarts = init.sidecar_restarts;
        let mut running = false;
        // The first container's state is the last to be looked at, so that it is what is told.
        for status in cell::items(pod, "/status/containerStatuses").iter().rev() {
            restarts.add(status);
            if let Some(state) = state_of(status, "") {
                reason = state;
            } else if cell::bool(status, "/ready") && status.pointer("/state/running").is_some() {
                running = true;
                ready += 1;
            }
        }
        if reason == "Completed" && running {
            let is_ready = cell::condition(pod, "Ready") == "True";
            if is_ready { "Running" } else { "NotReady" }.clone_into(&mut reason);
        }
    }
    let phase = cell::str(pod, "/status/phase");
    if cell::is_going(pod) {
        if cell::str(pod, "/status/reason") == "NodeLost" {
            "Unknown".clone_into(&mut reason);
        } else if !matches!(phase, "Succeeded" | "Failed") {
            "Terminating".clone_into(&mut reason);
        }
    }
    vec![
        cell::name(pod),
        format!("{ready}/{total}").into(),
        reason.into(),
        restarts.told(now).into(),
        cell::age(pod, now),
        cell::string_or(pod, "/status/podIPs/0/ip", NONE),
        cell::string_or(pod, "/spec/nodeName", NONE),
        cell::string_or(pod, "/status/nominatedNodeName", NONE),
        gates(pod).into(),
    ]
}

/// What is told of a pod whose containers say nothing.
fn plain_reason(pod: &Value) -> String {
    let held_back = cell::items(pod, "/status/conditions")
        .iter()
        .any(|condition| condition["type"] == "PodScheduled" && condition["reason"] == "SchedulingGated");
    if held_back {
        return "SchedulingGated".to_owned();
    }
    cell::str_or(pod, "/status/reason", cell::str(pod, "/status/phase")).to_owned()
}

/// Names of the containers that start before the others and stay.
fn sidecars(pod: &Value) -> impl Iterator<Item = &str> {
    cell::items(pod, "/spec/initContainers")
        .iter()
        .filter(|container| container["restartPolicy"] == "Always")
        .map(|container| cell::str(container, "/name"))
}

/// Why a container waits or has ended, if it does or has.
fn state_of(status: &Value, prefix: &str) -> Option<String> {
    let waiting = cell::str(status, "/state/waiting/reason");
    if !waiting.is_empty() {
        return Some(format!("{prefix}{waiting}"));
    }
    let ended = status.pointer("/state/terminated").filter(|ended| !ended.is_null())?;
    let reason = cell::str(ended, "/reason");
    let signal = cell::int(ended, "/signal");
    Some(if !reason.is_empty() {
        format!("{prefix}{reason}")
    } else if signal != 0 {
        format!("{prefix}Signal:{signal}")
    } else {
        format!("{prefix}ExitCode:{}", cell::int(ended, "/exitCode"))
    })
}

fn initialization(pod: &Value) -> Initialization {
    let mut init = Initialization {
        at: None,
        restarts: Restarts::default(),
        sidecar_restarts: Restarts::default(),
        ready_sidecars: 0,
    };
    let total = cell::items(pod, "/spec/initContainers").len();
    for (at, status) in cell::items(pod, "/status/initContainerStatuses").iter().enumerate() {
        init.restarts.add(status);
        let sidecar = sidecars(pod).any(|name| name == cell::str(status, "/name"));
        if sidecar {
            init.sidecar_restarts.add(status);
        }
        let ended = status.pointer("/state/terminated").filter(|ended| !ended.is_null());
        if ended.is_some_and(|ended| cell::int(ended, "/exitCode") == 0) {
            continue;
        }
        if sidecar && cell::bool(status, "/started") {
            init.ready_sidecars += usize::from(cell::bool(status, "/ready"));
            continue;
        }
        let waiting = cell::str(status, "/state/waiting/reason");
        init.at = Some(if ended.is_some() || !matches!(waiting, "" | "PodInitializing") {
            state_of(status, "Init:").unwrap_or_default()
        } else {
            format!("Init:{at}/{total}")
        });
        break;
    }
    init
}

fn gates(pod: &Value) -> String {
    let gates = cell::items(pod, "/spec/readinessGates");
    if gates.is_empty() {
        return NONE.to_owned();
    }
    let met = gates
        .iter()
        .filter(|gate| cell::condition(pod, cell::str(gate, "/conditionType")) == "True")
        .count();
    format!("{met}/{}", gates.len())
}
