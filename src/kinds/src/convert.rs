//! From one served version of a kind to another.

use serde_json::{Map, Value, json};

/// Makes an object one of `api_version`: of those two kinds whose versions differ in more than their name. What is no
/// object of its schema stays as it is.
pub fn convert(object: &mut Value, api_version: &str) {
    if !is_sound(object) {
        return;
    }
    let from = object["apiVersion"].as_str().unwrap_or_default().to_owned();
    match (object["kind"].as_str(), from.as_str(), api_version) {
        (Some("Event"), "v1", "events.k8s.io/v1") => rename(object, EVENT.iter().copied()),
        (Some("Event"), "events.k8s.io/v1", "v1") => {
            rename(object, EVENT.iter().map(|(old, new)| (*new, *old)));
        }
        (Some("HorizontalPodAutoscaler"), "autoscaling/v1", "autoscaling/v2") => newer_autoscaler(object),
        (Some("HorizontalPodAutoscaler"), "autoscaling/v2", "autoscaling/v1") => older_autoscaler(object),
        _ => {}
    }
    object["apiVersion"] = api_version.into();
}

/// Whether the parts that are changed are what they must be, where there are any.
fn is_sound(object: &Value) -> bool {
    let parts = ["", "/metadata", "/metadata/annotations", "/spec", "/status"];
    parts.iter().all(|part| {
        let value = object.pointer(part);
        value.is_none_or(|value| value.is_object() || (value.is_null() && !part.is_empty()))
    })
}

/// What an event's fields are called in the core group, and in its own.
const EVENT: [(&str, &str); 7] = [
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
    ("reportingComponent", "reportingController"),
];

fn rename<'a>(object: &mut Value, names: impl Iterator<Item = (&'a str, &'a str)>) {
    let Some(fields) = object.as_object_mut() else { return };
    for (from, to) in names {
        if let Some(value) = fields.shift_remove(from) {
            fields.insert(to.to_owned(), value);
        }
    }
}

// The older version of autoscalers knows the processor only; annotations hold the rest, in forms of old.
const METRICS: &str = "autoscaling.alpha.kubernetes.io/metrics";
const CURRENT: &str = "autoscaling.alpha.kubernetes.io/current-metrics";
const CONDITIONS: &str = "autoscaling.alpha.kubernetes.io/conditions";
const BEHAVIOR: &str = "autoscaling.alpha.kubernetes.io/behavior";

/// Takes what an annotation says in JSON.
fn take(object: &mut Value, annotation: &str) -> Option<Value> {
    let metadata = object.get_mut("metadata")?.as_object_mut()?;
    let annotations = metadata.get_mut("annotations")?.as_object_mut()?;
    let text = annotations.shift_remove(annotation)?;
    if annotations.is_empty() {
        metadata.shift_remove("annotations");
    }
    serde_json::from_str(text.as_str()?).ok()
}

fn annotate(object: &mut Value, annotation: &str, value: &Value) {
    object["metadata"]["annotations"][annotation] = value.to_string().into();
}

fn remove(object: &mut Value, part: &str, field: &str) -> Option<Value> {
    object.get_mut(part)?.as_object_mut()?.shift_remove(field)
}

fn list(value: Option<Value>) -> Vec<Value> {
    match value {
        Some(Value::Array(items)) => items,
        _ => Vec::new(),
    }
}

fn newer_autoscaler(object: &mut Value) {
    let mut metrics: Vec<_> = list(take(object, METRICS)).iter().map(newer_metric).collect();
    let percent = remove(object, "spec", "targetCPUUtilizationPercentage");
    let default = metrics.is_empty().then_some(json!(80));
    if let Some(percent) = percent.or(default) {
        metrics.push(json!({"type": "Resource", "resource": {
            "name": "cpu", "target": {"type": "Utilization", "averageUtilization": percent},
        }}));
    }
    object["spec"]["metrics"] = metrics.into();
    if let Some(behavior) = take(object, BEHAVIOR) {
        object["spec"]["behavior"] = with_first_letters(&behavior, char::to_ascii_lowercase);
    }
    let told: Vec<_> = list(take(object, CURRENT)).iter().map(newer_current).collect();
    let percent = remove(object, "status", "currentCPUUtilizationPercentage");
    if !told.is_empty() {
        object["status"]["currentMetrics"] = told.into();
    } else if let Some(percent) = percent {
        object["status"]["currentMetrics"] = json!([{"type": "Resource", "resource": {
            "name": "cpu", "current": {"averageUtilization": percent},
        }}]);
    }
    if let Some(conditions) = take(object, CONDITIONS) {
        object["status"]["conditions"] = conditions;
    }
}

fn older_autoscaler(object: &mut Value) {
    let (processor, others): (Vec<_>, Vec<_>) = list(remove(object, "spec", "metrics"))
        .into_iter()
        .partition(|metric| is_processor(metric, "/resource/target/averageUtilization"));
    // Of several, the last is the one.
    if let Some(metric) = processor.last() {
        object["spec"]["targetCPUUtilizationPercentage"] = metric["resource"]["target"]["averageUtilization"].clone();
    }
    if !others.is_empty() {
        let others: Vec<_> = others.iter().map(older_metric).collect();
        annotate(object, METRICS, &others.into());
    }
    if let Some(behavior) = remove(object, "spec", "behavior") {
        annotate(
            object,
            BEHAVIOR,
            &with_first_letters(&behavior, char::to_ascii_uppercase),
        );
    }
    let current = list(remove(object, "status", "currentMetrics"));
    let used = current
        .iter()
        .find(|metric| is_processor(metric, "/resource/current/averageUtilization"));
    if let Some(metric) = used {
        object["status"]["currentCPUUtilizationPercentage"] =
            metric["resource"]["current"]["averageUtilization"].clone();
    }
    if !current.is_empty() {
        let current: Vec<_> = current.iter().map(older_current).collect();
        annotate(object, CURRENT, &current.into());
    }
    let conditions = list(remove(object, "status", "conditions"));
    if !conditions.is_empty() {
        annotate(object, CONDITIONS, &conditions.into());
    }
}

fn is_processor(metric: &Value, utilization: &str) -> bool {
    metric["type"] == "Resource" && metric["resource"]["name"] == "cpu" && metric.pointer(utilization).is_some()
}

/// The annotation has fields as the program calls them, with capital letters.
fn with_first_letters(value: &Value, change: fn(&char) -> char) -> Value {
    match value {
        Value::Object(fields) => {
            let renamed = fields.iter().map(|(name, value)| {
                let mut letters = name.chars();
                let first = letters.next().map(|first| change(&first));
                (
                    first.into_iter().chain(letters).collect(),
                    with_first_letters(value, change),
                )
            });
            Value::Object(renamed.collect())
        }
        Value::Array(items) => items.iter().map(|item| with_first_letters(item, change)).collect(),
        other => other.clone(),
    }
}

/// Copies a value to where it is in the other version, if there is one.
fn copy(from: &Value, at: &str, to: &mut Value, path: &[&str]) {
    if let Some(value) = from.pointer(at).filter(|value| !value.is_null()) {
        let mut place = to;
        for step in path {
            place = &mut place[*step];
        }
        *place = value.clone();
    }
}

/// The source of a metric, by the name its type has as a field.
fn source(metric: &Value) -> (&'static str, &Value) {
    let field = match metric["type"].as_str() {
        Some("Object") => "object",
        Some("Pods") => "pods",
        Some("External") => "external",
        Some("ContainerResource") => "containerResource",
        _ => "resource",
    };
    (field, &metric[field])
}

/// Where each source keeps what: in the older form, and in the newer.
type Places = &'static [(&'static str, &'static [&'static str])];

fn spec_places(field: &str) -> Places {
    match field {
        "object" => &[
            ("target", &["describedObject"]),
            ("metricName", &["metric", "name"]),
            ("selector", &["metric", "selector"]),
            ("targetValue", &["target", "value"]),
            ("averageValue", &["target", "averageValue"]),
        ],
        "pods" => &[
            ("metricName", &["metric", "name"]),
            ("selector", &["metric", "selector"]),
            ("targetAverageValue", &["target", "averageValue"]),
        ],
        "external" => &[
            ("metricName", &["metric", "name"]),
            ("metricSelector", &["metric", "selector"]),
            ("targetValue", &["target", "value"]),
            ("targetAverageValue", &["target", "averageValue"]),
        ],
        _ => &[
            ("name", &["name"]),
            ("container", &["container"]),
            ("targetAverageUtilization", &["target", "averageUtilization"]),
            ("targetAverageValue", &["target", "averageValue"]),
        ],
    }
}

fn status_places(field: &str) -> Places {
    match field {
        "object" => &[
            ("target", &["describedObject"]),
            ("metricName", &["metric", "name"]),
            ("selector", &["metric", "selector"]),
            ("currentValue", &["current", "value"]),
            ("averageValue", &["current", "averageValue"]),
        ],
        "pods" => &[
            ("metricName", &["metric", "name"]),
            ("selector", &["metric", "selector"]),
            ("currentAverageValue", &["current", "averageValue"]),
        ],
        "external" => &[
            ("metricName", &["metric", "name"]),
            ("metricSelector", &["metric", "selector"]),
            ("currentValue", &["current", "value"]),
            ("currentAverageValue", &["current", "averageValue"]),
        ],
        _ => &[
            ("name", &["name"]),
            ("container", &["container"]),
            ("currentAverageUtilization", &["current", "averageUtilization"]),
            ("currentAverageValue", &["current", "averageValue"]),
        ],
    }
}

fn newer(metric: &Value, places: fn(&str) -> Places) -> (&'static str, Value) {
    let (field, old) = source(metric);
    let mut new = Value::Object(Map::new());
    for (name, path) in places(field) {
        copy(old, &format!("/{name}"), &mut new, path);
    }
    (field, new)
}

fn older(metric: &Value, places: fn(&str) -> Places) -> Value {
    let (field, new) = source(metric);
    let mut old = Value::Object(Map::new());
    for (name, path) in places(field) {
        copy(new, &format!("/{}", path.join("/")), &mut old, &[name]);
    }
    let mut metric = json!({"type": metric["type"]});
    metric[field] = old;
    metric
}

fn newer_metric(metric: &Value) -> Value {
    let (field, mut new) = newer(metric, spec_places);
    let has = |name: &str| new["target"].get(name).is_some();
    let type_ = match (has("averageUtilization"), has("averageValue"), has("value")) {
        (true, ..) => "Utilization",
        // What the value for an object means was of old the value, and of others the average.
        (false, true, _) => "AverageValue",
        _ => "Value",
    };
    new["target"]["type"] = type_.into();
    let mut whole = json!({"type": metric["type"]});
    whole[field] = new;
    whole
}

fn older_metric(metric: &Value) -> Value {
    older(metric, spec_places)
}

fn newer_current(metric: &Value) -> Value {
    let (field, new) = newer(metric, status_places);
    let mut whole = json!({"type": metric["type"]});
    whole[field] = new;
    whole
}

fn older_current(metric: &Value) -> Value {
    older(metric, status_places)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_the_same_in_both_versions() {
        let old = json!({
            "apiVersion": "v1", "kind": "Event", "metadata": {"name": "e"}, "involvedObject": {"name": "p"},
            "message": "m", "source": {"component": "c"}, "firstTimestamp": "t", "lastTimestamp": "u", "count": 2,
            "reportingComponent": "r", "reportingInstance": "i", "reason": "R", "type": "Normal",
        });
        let mut new = old.clone();
        convert(&mut new, "events.k8s.io/v1");
        assert_eq!(
            new,
            json!({
                "apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": "e"},
                "regarding": {"name": "p"}, "note": "m", "deprecatedSource": {"component": "c"},
                "deprecatedFirstTimestamp": "t", "deprecatedLastTimestamp": "u", "deprecatedCount": 2,
                "reportingController": "r", "reportingInstance": "i", "reason": "R", "type": "Normal",
            })
        );
        convert(&mut new, "v1");
        assert_eq!(new, old);
    }

    #[test]
    fn an_autoscaler_comes_back_as_it_went() {
        let new = json!({
            "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "h"},
            "spec": {
                "maxReplicas": 3, "scaleTargetRef": {"kind": "Deployment", "name": "web"},
                "metrics": [
                    {"type": "Pods", "pods": {
                        "metric": {"name": "q"}, "target": {"type": "AverageValue", "averageValue": "5"},
                    }},
                    {"type": "Object", "object": {
                        "describedObject": {"kind": "Service", "name": "s"}, "metric": {"name": "r"},
                        "target": {"type": "Value", "value": "7"},
                    }},
                    {"type": "Resource", "resource": {
                        "name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50},
                    }},
                ],
                "behavior": {"scaleUp": {"selectPolicy": "Max"}},
            },
            "status": {
                "desiredReplicas": 1,
                "currentMetrics": [{"type": "Resource", "resource": {
                    "name": "cpu", "current": {"averageUtilization": 40, "averageValue": "4m"},
                }}],
                "conditions": [{"type": "AbleToScale", "status": "True"}],
            },
        });
        let mut object = new.clone();
        convert(&mut object, "autoscaling/v1");
        assert_eq!(object["spec"]["targetCPUUtilizationPercentage"], 50);
        assert_eq!(object["spec"].get("metrics"), None);
        assert_eq!(object["status"]["currentCPUUtilizationPercentage"], 40);
        let annotations = &object["metadata"]["annotations"];
        assert_eq!(annotations[BEHAVIOR], r#"{"ScaleUp":{"SelectPolicy":"Max"}}"#);
        let metrics: Value = serde_json::from_str(annotations[METRICS].as_str().unwrap()).unwrap();
        assert_eq!(
            metrics,
            json!([
                {"type": "Pods", "pods": {"metricName": "q", "targetAverageValue": "5"}},
                {"type": "Object", "object": {
                    "target": {"kind": "Service", "name": "s"}, "metricName": "r", "targetValue": "7",
                }},
            ])
        );
        convert(&mut object, "autoscaling/v2");
        assert_eq!(object, new);
    }

    #[test]
    fn what_is_no_object_stays_as_it_is() {
        for odd in [
            json!("text"),
            json!({"apiVersion": "autoscaling/v1", "kind": "HorizontalPodAutoscaler", "spec": "text"}),
            json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"annotations": 1}}),
        ] {
            let mut object = odd.clone();
            convert(&mut object, "autoscaling/v2");
            assert_eq!(object, odd);
        }
    }

    #[test]
    fn an_autoscaler_of_old_that_says_nothing_goes_by_the_processor() {
        let mut object = json!({
            "apiVersion": "autoscaling/v1", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "h"},
            "spec": {"maxReplicas": 3},
        });
        convert(&mut object, "autoscaling/v2");
        assert_eq!(
            object["spec"]["metrics"][0]["resource"]["target"]["averageUtilization"],
            80
        );
    }
}
