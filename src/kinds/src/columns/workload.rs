//! Kinds that make pods, and what watches over how many there are.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    AGE, CONTAINERS, IMAGES, NAME, SELECTOR, Table,
    cell::{self, NONE, UNSET},
    column, human, text,
};

const TEMPLATE: &str = "/spec/template/spec/containers";

pub(super) static CONTROLLERS: Table = Table {
    columns: REPLICAS,
    row: |object, now| replicas(object, now, cell::labels(object, "/spec/selector")),
};

pub(super) static REPLICA_SETS: Table = Table {
    columns: REPLICAS,
    row: |object, now| replicas(object, now, cell::selector(object, "/spec/selector")),
};

const REPLICAS: &[super::Column] = &[
    NAME,
    column("Desired", "integer", "How many pods there are to be"),
    column("Current", "integer", "How many there are"),
    column("Ready", "integer", "How many are ready"),
    AGE,
    CONTAINERS,
    IMAGES,
    SELECTOR,
];

fn replicas(object: &Value, now: Timestamp, selector: Value) -> Vec<Value> {
    let [names, images] = cell::containers(object, TEMPLATE);
    vec![
        cell::name(object),
        cell::int(object, "/spec/replicas").into(),
        cell::int(object, "/status/replicas").into(),
        cell::int(object, "/status/readyReplicas").into(),
        cell::age(object, now),
        names,
        images,
        selector,
    ]
}

pub(super) static DEPLOYMENTS: Table = Table {
    columns: &[
        NAME,
        text("Ready", "Pods that are ready, of all there are to be"),
        column("Up-to-date", "string", "Pods of the present template"),
        column("Available", "string", "Pods that have been ready for long enough"),
        AGE,
        CONTAINERS,
        IMAGES,
        SELECTOR,
    ],
    row: |object, now| {
        let [names, images] = cell::containers(object, TEMPLATE);
        let line = object.pointer("/spec/selector").and_then(crate::scale::selector);
        vec![
            cell::name(object),
            ready_of_desired(object),
            cell::int(object, "/status/updatedReplicas").into(),
            cell::int(object, "/status/availableReplicas").into(),
            cell::age(object, now),
            names,
            images,
            line.unwrap_or_default().into(),
        ]
    },
};

fn ready_of_desired(object: &Value) -> Value {
    let (ready, desired) = (
        cell::int(object, "/status/readyReplicas"),
        cell::int(object, "/spec/replicas"),
    );
    format!("{ready}/{desired}").into()
}

pub(super) static STATEFUL_SETS: Table = Table {
    columns: &[
        NAME,
        text("Ready", "Pods that are ready, of all there are to be"),
        AGE,
        CONTAINERS,
        IMAGES,
    ],
    row: |object, now| {
        let [names, images] = cell::containers(object, TEMPLATE);
        vec![
            cell::name(object),
            ready_of_desired(object),
            cell::age(object, now),
            names,
            images,
        ]
    },
};

pub(super) static DAEMON_SETS: Table = Table {
    columns: &[
        NAME,
        column("Desired", "integer", "Nodes that are to run a pod"),
        column("Current", "integer", "Nodes that run one"),
        column("Ready", "integer", "Nodes whose pod is ready"),
        column("Up-to-date", "integer", "Nodes whose pod is of the present template"),
        column("Available", "integer", "Nodes whose pod has been ready for long enough"),
        text("Node Selector", "Labels of the nodes that are meant"),
        AGE,
        CONTAINERS,
        IMAGES,
        SELECTOR,
    ],
    row: |object, now| {
        let [names, images] = cell::containers(object, TEMPLATE);
        vec![
            cell::name(object),
            cell::int(object, "/status/desiredNumberScheduled").into(),
            cell::int(object, "/status/currentNumberScheduled").into(),
            cell::int(object, "/status/numberReady").into(),
            cell::int(object, "/status/updatedNumberScheduled").into(),
            cell::int(object, "/status/numberAvailable").into(),
            cell::labels(object, "/spec/template/spec/nodeSelector"),
            cell::age(object, now),
            names,
            images,
            cell::selector(object, "/spec/selector"),
        ]
    },
};

pub(super) static REVISIONS: Table = Table {
    columns: &[
        NAME,
        text("Controller", "Whose revision it is"),
        text("Revision", "The how manyeth it is"),
        AGE,
    ],
    row: |object, now| {
        let owners = cell::items(object, "/metadata/ownerReferences");
        let owner = owners.iter().find(|owner| owner["controller"] == true);
        let controller = owner.map_or(NONE.to_owned(), |owner| {
            let kind = cell::str(owner, "/kind").to_lowercase();
            let name = cell::str(owner, "/name");
            match cell::str(owner, "/apiVersion").split_once('/') {
                Some((group, _)) => format!("{kind}.{group}/{name}"),
                None => format!("{kind}/{name}"),
            }
        });
        vec![
            cell::name(object),
            controller.into(),
            cell::int(object, "/revision").into(),
            cell::age(object, now),
        ]
    },
};

pub(super) static JOBS: Table = Table {
    columns: &[
        NAME,
        text("Status", "What the job has come to"),
        text("Completions", "Pods that succeeded, of all that have to"),
        text("Duration", "How long it took, or has taken so far"),
        AGE,
        CONTAINERS,
        IMAGES,
        SELECTOR,
    ],
    row: |object, now| {
        let [names, images] = cell::containers(object, TEMPLATE);
        vec![
            cell::name(object),
            job_status(object).into(),
            completions(object).into(),
            job_duration(object, now).into(),
            cell::age(object, now),
            names,
            images,
            cell::selector(object, "/spec/selector"),
        ]
    },
};

fn job_status(job: &Value) -> &'static str {
    let is = |condition: &str| cell::condition(job, condition) == "True";
    if is("Complete") {
        "Complete"
    } else if is("Failed") {
        "Failed"
    } else if cell::is_going(job) {
        "Terminating"
    } else if is("Suspended") {
        "Suspended"
    } else if is("FailureTarget") {
        "FailureTarget"
    } else if is("SuccessCriteriaMet") {
        "SuccessCriteriaMet"
    } else {
        "Running"
    }
}

fn completions(job: &Value) -> String {
    let succeeded = cell::int(job, "/status/succeeded");
    match job.pointer("/spec/completions").and_then(Value::as_i64) {
        Some(all) => format!("{succeeded}/{all}"),
        None => match cell::int(job, "/spec/parallelism") {
            parallel @ 2.. => format!("{succeeded}/1 of {parallel}"),
            _ => format!("{succeeded}/1"),
        },
    }
}

fn job_duration(job: &Value, now: Timestamp) -> String {
    let Some(start) = human::moment(job.pointer("/status/startTime")) else {
        return String::new();
    };
    let end = human::moment(job.pointer("/status/completionTime")).unwrap_or(now);
    human::duration(end.duration_since(start))
}

pub(super) static CRON_JOBS: Table = Table {
    columns: &[
        NAME,
        text("Schedule", "When jobs are started"),
        text("Timezone", "Where the schedule's hours are counted"),
        column("Suspend", "boolean", "Whether none are started for now"),
        column("Active", "integer", "Jobs that are running"),
        text("Last Schedule", "How long ago the last was started"),
        AGE,
        CONTAINERS,
        IMAGES,
        SELECTOR,
    ],
    row: |object, now| {
        let [names, images] = cell::containers(object, "/spec/jobTemplate/spec/template/spec/containers");
        let last = match object.pointer("/status/lastScheduleTime") {
            Some(time) if !time.is_null() => human::since(Some(time), now),
            _ => NONE.to_owned(),
        };
        let suspend = object.pointer("/spec/suspend").and_then(Value::as_bool);
        let suspend = match suspend {
            Some(true) => "True",
            Some(false) => "False",
            None => UNSET,
        };
        vec![
            cell::name(object),
            cell::string(object, "/spec/schedule"),
            cell::string_or(object, "/spec/timeZone", NONE),
            suspend.into(),
            cell::count(object, "/status/active").into(),
            last.into(),
            cell::age(object, now),
            names,
            images,
            cell::selector(object, "/spec/jobTemplate/spec/selector"),
        ]
    },
};

pub(super) static BUDGETS: Table = Table {
    columns: &[
        NAME,
        text("Min Available", "Pods that must stay"),
        text("Max Unavailable", "Pods that may be missing"),
        column("Allowed Disruptions", "integer", "Pods that may be evicted now"),
        AGE,
    ],
    row: |object, now| {
        let bound = |pointer: &str| {
            object
                .pointer(pointer)
                .filter(|bound| !bound.is_null())
                .map_or("N/A".to_owned(), cell::written)
        };
        vec![
            cell::name(object),
            bound("/spec/minAvailable").into(),
            bound("/spec/maxUnavailable").into(),
            cell::int(object, "/status/disruptionsAllowed").into(),
            cell::age(object, now),
        ]
    },
};

pub(super) static SCALES: Table = Table {
    columns: &[
        NAME,
        column("Desired", "integer", "How many pods there are to be"),
        column("Available", "integer", "How many there are"),
        AGE,
    ],
    row: |object, now| {
        vec![
            cell::name(object),
            cell::int(object, "/spec/replicas").into(),
            cell::int(object, "/status/replicas").into(),
            cell::age(object, now),
        ]
    },
};

pub(super) static AUTOSCALERS: Table = Table {
    columns: &[
        NAME,
        text("Reference", "What is scaled"),
        text("Targets", "What is measured, and what it is to be"),
        text("MinPods", "The fewest pods there may be"),
        text("MaxPods", "The most pods there may be"),
        text("Replicas", "How many there are"),
        AGE,
    ],
    row: |object, now| {
        // The older version has what is measured in annotations.
        let mut newer;
        let object = if object["apiVersion"] == "autoscaling/v1" {
            newer = object.clone();
            crate::convert(&mut newer, "autoscaling/v2");
            &newer
        } else {
            object
        };
        let least = object.pointer("/spec/minReplicas").and_then(Value::as_i64);
        let kind = cell::str(object, "/spec/scaleTargetRef/kind");
        let name = cell::str(object, "/spec/scaleTargetRef/name");
        vec![
            cell::name(object),
            format!("{kind}/{name}").into(),
            targets(object).into(),
            least.map_or(UNSET.to_owned(), |least| least.to_string()).into(),
            cell::int(object, "/spec/maxReplicas").into(),
            cell::int(object, "/status/currentReplicas").into(),
            cell::age(object, now),
        ]
    },
};

/// Two of the metrics, and how many more there are.
fn targets(scaler: &Value) -> String {
    let specs = of_first_version(scaler).unwrap_or_else(|| cell::items(scaler, "/spec/metrics").to_vec());
    if specs.is_empty() {
        return NONE.to_owned();
    }
    let statuses = cell::items(scaler, "/status/currentMetrics");
    let mut list: Vec<_> = specs
        .iter()
        .enumerate()
        .map(|(at, spec)| target(spec, statuses.get(at).unwrap_or(&Value::Null), scaler))
        .collect();
    let more = list.len().saturating_sub(2);
    list.truncate(2);
    let shown = list.join(", ");
    if more > 0 {
        format!("{shown} + {more} more...")
    } else {
        shown
    }
}

/// The one metric that the first version of the API knows.
fn of_first_version(scaler: &Value) -> Option<Vec<Value>> {
    let percent = scaler.pointer("/spec/targetCPUUtilizationPercentage")?;
    Some(vec![json!({
        "type": "Resource",
        "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": percent}},
    })])
}

fn target(spec: &Value, status: &Value, scaler: &Value) -> String {
    const UNKNOWN: &str = "<unknown>";
    let (field, named) = match cell::str(spec, "/type") {
        "External" => ("external", false),
        "Pods" => ("pods", false),
        "Object" => ("object", false),
        "Resource" => ("resource", true),
        "ContainerResource" => ("containerResource", true),
        _ => return "<unknown type>".to_owned(),
    };
    let (wanted, current) = (&spec[field]["target"], &status[field]["current"]);
    let now = |name: &str| cell::str_or(current, name, UNKNOWN);
    let average = cell::str(wanted, "/averageValue");
    if named {
        let name = cell::str(&spec[field], "/name");
        if !average.is_empty() {
            return format!("{name}: {}/{average}", now("/averageValue"));
        }
        let percent = |value: Option<&Value>, otherwise: &str| {
            value
                .and_then(Value::as_i64)
                .map_or(otherwise.to_owned(), |percent| format!("{percent}%"))
        };
        let current = current
            .get("averageUtilization")
            .or_else(|| scaler.pointer("/status/currentCPUUtilizationPercentage"));
        return format!(
            "{name}: {}/{}",
            percent(current, UNKNOWN),
            percent(wanted.get("averageUtilization"), "<auto>")
        );
    }
    match (field, average) {
        ("pods", average) => format!("{}/{average}", now("/averageValue")),
        (_, "") => format!("{}/{}", now("/value"), cell::str(wanted, "/value")),
        (_, average) => format!("{}/{average} (avg)", now("/averageValue")),
    }
}
