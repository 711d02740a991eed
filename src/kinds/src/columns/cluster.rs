//! Nodes, namespaces, and what lies about in a cluster.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::{
    AGE, Column, NAME, Table,
    cell::{self, NONE},
    column, human, text, wide,
};

pub(super) static NODES: Table = Table {
    columns: &[
        NAME,
        text("Status", "Whether it takes pods"),
        text("Roles", "What it is for"),
        AGE,
        text("Version", "The version of its agent"),
        wide("Internal-IP", "string", "Its address in the cluster"),
        wide("External-IP", "string", "Its address outside"),
        wide("OS-Image", "string", "Its operating system"),
        wide("Kernel-Version", "string", "Its kernel"),
        wide("Container-Runtime", "string", "What runs its containers"),
    ],
    row: |object, now| {
        let address = |ty: &str| {
            let addresses = cell::items(object, "/status/addresses");
            let found = addresses.iter().find(|address| address["type"] == ty);
            Value::from(found.map_or(NONE, |address| cell::str(address, "/address")))
        };
        let info = |field: &str| cell::string_or(object, &format!("/status/nodeInfo/{field}"), "<unknown>");
        vec![
            cell::name(object),
            node_status(object).into(),
            roles(object).into(),
            cell::age(object, now),
            cell::string(object, "/status/nodeInfo/kubeletVersion"),
            address("InternalIP"),
            address("ExternalIP"),
            info("osImage"),
            info("kernelVersion"),
            info("containerRuntimeVersion"),
        ]
    },
};

fn node_status(node: &Value) -> String {
    let ready = match cell::condition(node, "Ready") {
        "" => "Unknown",
        "True" => "Ready",
        _ => "NotReady",
    };
    if cell::bool(node, "/spec/unschedulable") {
        format!("{ready},SchedulingDisabled")
    } else {
        ready.to_owned()
    }
}

fn roles(node: &Value) -> String {
    let labels = node.pointer("/metadata/labels").and_then(Value::as_object);
    let roles: BTreeSet<_> = labels
        .into_iter()
        .flatten()
        .filter_map(|(key, value)| match key.strip_prefix("node-role.kubernetes.io/") {
            Some(role) => Some(role),
            None if key == "kubernetes.io/role" => value.as_str(),
            None => None,
        })
        .filter(|role| !role.is_empty())
        .collect();
    if roles.is_empty() {
        NONE.to_owned()
    } else {
        roles.into_iter().collect::<Vec<_>>().join(",")
    }
}

pub(super) static NAMESPACES: Table = Table {
    columns: &[NAME, text("Status", "Whether it is going"), AGE],
    row: |object, now| {
        vec![
            cell::name(object),
            cell::string(object, "/status/phase"),
            cell::age(object, now),
        ]
    },
};

const EVENT_COLUMNS: &[Column] = &[
    text("Last Seen", "How long ago it happened last"),
    text("Type", "Whether it matters"),
    text("Reason", "What happened, for programs"),
    text("Object", "What it happened to"),
    wide("Subobject", "string", "Which part of it"),
    wide("Source", "string", "Who saw it"),
    text("Message", "What happened, for people"),
    wide("First Seen", "string", "How long ago it happened first"),
    wide("Count", "string", "How often it happened"),
    Column { priority: 1, ..NAME },
];

pub(super) static EVENTS: Table = Table {
    columns: EVENT_COLUMNS,
    row: |object, now| event(object, now, &OLD),
};

pub(super) static NEW_EVENTS: Table = Table {
    columns: EVENT_COLUMNS,
    row: |object, now| event(object, now, &NEW),
};

/// Where the two versions of events keep the same things.
struct Fields {
    first: &'static str,
    last: &'static str,
    count: &'static str,
    object: &'static str,
    source: &'static str,
    message: &'static str,
    controller: &'static str,
}

const OLD: Fields = Fields {
    first: "/firstTimestamp",
    last: "/lastTimestamp",
    count: "/count",
    object: "/involvedObject",
    source: "/source",
    message: "/message",
    controller: "/reportingComponent",
};

const NEW: Fields = Fields {
    first: "/deprecatedFirstTimestamp",
    last: "/deprecatedLastTimestamp",
    count: "/deprecatedCount",
    object: "/regarding",
    source: "/deprecatedSource",
    message: "/note",
    controller: "/reportingController",
};

fn event(event: &Value, now: Timestamp, fields: &Fields) -> Vec<Value> {
    let time = |pointer: &str| event.pointer(pointer).filter(|time| !time.is_null());
    let first = human::since(time(fields.first).or_else(|| time("/eventTime")), now);
    let series = event.pointer("/series").filter(|series| !series.is_null());
    let last = match (series, time(fields.last)) {
        (Some(series), _) => human::since(series.get("lastObservedTime"), now),
        (None, Some(last)) => human::since(Some(last), now),
        (None, None) => first.clone(),
    };
    let count = match series {
        Some(series) => cell::int(series, "/count"),
        None => cell::int(event, fields.count).max(1),
    };
    let about = event.pointer(fields.object).unwrap_or(&Value::Null);
    let kind = cell::str(about, "/kind").to_lowercase();
    let target = match cell::str(about, "/name") {
        "" => kind,
        name => format!("{kind}/{name}"),
    };
    let source = event.pointer(fields.source).unwrap_or(&Value::Null);
    let component = cell::str_or(source, "/component", cell::str(event, fields.controller));
    let instance = cell::str_or(source, "/host", cell::str(event, "/reportingInstance"));
    let seen_by = match instance {
        "" => component.to_owned(),
        instance => format!("{component}, {instance}"),
    };
    vec![
        last.into(),
        cell::string(event, "/type"),
        cell::string(event, "/reason"),
        target.into(),
        cell::string(about, "/fieldPath"),
        seen_by.into(),
        cell::str(event, fields.message).trim().into(),
        first.into(),
        count.into(),
        cell::name(event),
    ]
}

pub(super) static CONFIG_MAPS: Table = Table {
    columns: &[NAME, text("Data", "How many entries it has"), AGE],
    row: |object, now| {
        let entries = cell::count(object, "/data") + cell::count(object, "/binaryData");
        vec![cell::name(object), entries.into(), cell::age(object, now)]
    },
};

pub(super) static SECRETS: Table = Table {
    columns: &[
        NAME,
        text("Type", "What it is for"),
        text("Data", "How many entries it has"),
        AGE,
    ],
    row: |object, now| {
        vec![
            cell::name(object),
            cell::string(object, "/type"),
            cell::count(object, "/data").into(),
            cell::age(object, now),
        ]
    },
};

pub(super) static ACCOUNTS: Table = Table {
    columns: &[NAME, text("Secrets", "How many secrets its pods may mount"), AGE],
    row: |object, now| {
        vec![
            cell::name(object),
            cell::count(object, "/secrets").into(),
            cell::age(object, now),
        ]
    },
};

pub(super) static QUOTAS: Table = Table {
    columns: &[
        NAME,
        text("Request", "What is asked for, of what may be"),
        text("Limit", "What may be used at most, of what may be"),
        AGE,
    ],
    row: |object, now| {
        let hard = object.pointer("/status/hard").and_then(Value::as_object);
        let mut resources: Vec<_> = hard.into_iter().flatten().collect();
        resources.sort_by_key(|(name, _)| *name);
        let (mut requests, mut limits) = (Vec::new(), Vec::new());
        for (name, hard) in resources {
            let used = object.pointer("/status/used").and_then(|used| used.get(name));
            let used = used.and_then(Value::as_str).unwrap_or("0");
            let words = format!("{name}: {used}/{}", hard.as_str().unwrap_or_default());
            if name.starts_with("limits.") {
                limits.push(words);
            } else {
                requests.push(words);
            }
        }
        vec![
            cell::name(object),
            requests.join(", ").into(),
            limits.join(", ").into(),
            cell::age(object, now),
        ]
    },
};

pub(super) static COMPONENTS: Table = Table {
    columns: &[
        NAME,
        text("Status", "Whether it is well"),
        text("Message", "What it says"),
        text("Error", "What ails it"),
    ],
    row: |object, _| {
        let conditions = cell::items(object, "/conditions");
        let health = conditions.iter().find(|condition| condition["type"] == "Healthy");
        let health = health.unwrap_or(&Value::Null);
        let status = match cell::str(health, "/status") {
            "" => "Unknown",
            "True" => "Healthy",
            _ => "Unhealthy",
        };
        vec![
            cell::name(object),
            status.into(),
            cell::string(health, "/message"),
            cell::string(health, "/error"),
        ]
    },
};

pub(super) static LEASES: Table = Table {
    columns: &[NAME, text("Holder", "Who has it"), AGE],
    row: |object, now| {
        vec![
            cell::name(object),
            cell::string(object, "/spec/holderIdentity"),
            cell::age(object, now),
        ]
    },
};

pub(super) static CANDIDATES: Table = Table {
    columns: &[
        NAME,
        text("LeaseName", "What it stands for"),
        text("BinaryVersion", "Its version"),
        text("EmulationVersion", "The version it behaves as"),
        AGE,
    ],
    row: |object, now| {
        vec![
            cell::name(object),
            cell::string(object, "/spec/leaseName"),
            cell::string(object, "/spec/binaryVersion"),
            cell::string(object, "/spec/emulationVersion"),
            cell::age(object, now),
        ]
    },
};

pub(super) static PRIORITIES: Table = Table {
    columns: &[
        NAME,
        column("Value", "integer", "The higher, the earlier its pods are scheduled"),
        column("Global-Default", "boolean", "Whether pods that say nothing have it"),
        AGE,
        wide("PreemptionPolicy", "string", "Whether its pods drive out others"),
    ],
    row: |object, now| {
        vec![
            cell::name(object),
            cell::int(object, "/value").into(),
            cell::bool(object, "/globalDefault").into(),
            cell::age(object, now),
            cell::string(object, "/preemptionPolicy"),
        ]
    },
};

pub(super) static RUNTIMES: Table = Table {
    columns: &[NAME, text("Handler", "What the runtime calls it"), AGE],
    row: |object, now| {
        vec![
            cell::name(object),
            cell::string(object, "/handler"),
            cell::age(object, now),
        ]
    },
};

pub(super) static REQUESTS: Table = Table {
    columns: &[
        NAME,
        AGE,
        text("SignerName", "Who is to sign"),
        text("Requestor", "Who asks"),
        text("RequestedDuration", "How long it is to be valid"),
        text("Condition", "What was decided"),
    ],
    row: |object, now| {
        let seconds = object.pointer("/spec/expirationSeconds").and_then(Value::as_i64);
        let duration = seconds.map_or(NONE.to_owned(), |seconds| {
            human::duration(SignedDuration::from_secs(seconds))
        });
        let has = |ty: &str| {
            let conditions = cell::items(object, "/status/conditions");
            conditions.iter().any(|condition| condition["type"] == ty)
        };
        let mut status = if has("Denied") {
            "Denied"
        } else if has("Approved") {
            "Approved"
        } else {
            "Pending"
        }
        .to_owned();
        if has("Failed") {
            status.push_str(",Failed");
        }
        if !cell::str(object, "/status/certificate").is_empty() {
            status.push_str(",Issued");
        }
        vec![
            cell::name(object),
            cell::age(object, now),
            cell::string_or(object, "/spec/signerName", NONE),
            cell::string(object, "/spec/username"),
            duration.into(),
            status.into(),
        ]
    },
};

pub(super) static BUNDLES: Table = Table {
    columns: &[NAME, text("SignerName", "Whose certificates it lets trust")],
    row: |object, _| vec![cell::name(object), cell::string_or(object, "/spec/signerName", NONE)],
};

pub(super) static NAMED: Table = Table {
    columns: &[NAME, AGE],
    row: |object, now| vec![cell::name(object), cell::age(object, now)],
};

pub(super) static RESOURCE_CLAIMS: Table = Table {
    columns: &[NAME, text("State", "Whether it has what it claims"), AGE],
    row: |object, now| {
        let going = cell::is_going(object);
        let mut states = Vec::new();
        if going {
            states.push("deleted");
        }
        if object
            .pointer("/status/allocation")
            .is_some_and(|allocation| !allocation.is_null())
        {
            states.push("allocated");
            if !cell::items(object, "/status/reservedFor").is_empty() {
                states.push("reserved");
            }
        } else if !going {
            states.push("pending");
        }
        vec![cell::name(object), states.join(",").into(), cell::age(object, now)]
    },
};

pub(super) static RESOURCE_SLICES: Table = Table {
    columns: &[
        NAME,
        text("Node", "The node that has the devices"),
        text("Driver", "The driver that knows them"),
        text("Pool", "The pool they belong to"),
        AGE,
    ],
    row: |object, now| {
        vec![
            cell::name(object),
            cell::string_or(object, "/spec/nodeName", "<unset>"),
            cell::string(object, "/spec/driver"),
            cell::string(object, "/spec/pool/name"),
            cell::age(object, now),
        ]
    },
};
