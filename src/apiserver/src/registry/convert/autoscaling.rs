//! `autoscaling/v1` autoscalers, which are stored as `v2`: what `v1` has no field for is in annotations, as upstream keeps
//! it there.

use serde_json::{Map, Value, json};

/// What `v1` keeps in annotations: the annotation, and where `v2` has it.
const ANNOTATIONS: [(&str, &str, &str); 4] = [
    ("autoscaling.alpha.kubernetes.io/metrics", "spec", "metrics"),
    ("autoscaling.alpha.kubernetes.io/behavior", "spec", "behavior"),
    (
        "autoscaling.alpha.kubernetes.io/current-metrics",
        "status",
        "currentMetrics",
    ),
    ("autoscaling.alpha.kubernetes.io/conditions", "status", "conditions"),
];

/// The one metric that `v1` has a field for: which list of `v2` it is in, its field there, and the field of `v1`.
const CPU: [(&str, &str, &str, &str); 2] = [
    ("spec", "metrics", "target", "targetCPUUtilizationPercentage"),
    ("status", "currentMetrics", "current", "currentCPUUtilizationPercentage"),
];

pub(super) fn from_v2(autoscaler: &mut Value) {
    for (part, list, place, field) in CPU {
        let Some(metrics) = autoscaler[part][list].as_array_mut() else {
            continue;
        };
        let Some(at) = metrics.iter().position(|metric| cpu(metric, place).is_some()) else {
            continue;
        };
        let percentage = cpu(&metrics.remove(at), place).unwrap_or_default();
        if metrics.is_empty() {
            remove(autoscaler, part, list);
        }
        autoscaler[part][field] = percentage.into();
    }
    for (annotation, part, field) in ANNOTATIONS {
        let Some(value) = remove(autoscaler, part, field) else {
            continue;
        };
        let metadata = &mut autoscaler["metadata"];
        if !metadata["annotations"].is_object() {
            metadata["annotations"] = json!({});
        }
        metadata["annotations"][annotation] = value.to_string().into();
    }
}

pub(super) fn to_v2(autoscaler: &mut Value) {
    for (annotation, part, field) in ANNOTATIONS {
        let annotations = autoscaler["metadata"]["annotations"].as_object_mut();
        let Some(text) = annotations.and_then(|annotations| annotations.shift_remove(annotation)) else {
            continue;
        };
        // What is not what we write is dropped, as upstream does.
        let value = text.as_str().and_then(|text| serde_json::from_str::<Value>(text).ok());
        if let Some(value @ (Value::Array(_) | Value::Object(_))) = value {
            part_of(autoscaler, part).insert(field.into(), value);
        }
    }
    if autoscaler["metadata"]["annotations"]
        .as_object()
        .is_some_and(Map::is_empty)
    {
        remove(autoscaler, "metadata", "annotations");
    }
    for (part, list, place, field) in CPU {
        let Some(percentage) = remove(autoscaler, part, field) else {
            continue;
        };
        let kind = if place == "target" {
            json!({"type": "Utilization"})
        } else {
            json!({})
        };
        let mut metric = json!({"type": "Resource", "resource": {"name": "cpu", place: kind}});
        metric["resource"][place]["averageUtilization"] = percentage;
        match part_of(autoscaler, part)
            .entry(list)
            .or_insert_with(|| json!([]))
            .as_array_mut()
        {
            Some(metrics) => metrics.insert(0, metric),
            None => autoscaler[part][list] = json!([metric]),
        }
    }
}

/// How much of the requested CPU is meant, if that is what the metric says.
fn cpu(metric: &Value, place: &str) -> Option<i64> {
    let resource = &metric["resource"];
    let is = metric["type"] == "Resource" && resource["name"] == "cpu";
    resource[place]["averageUtilization"].as_i64().filter(|_| is)
}

fn part_of<'a>(autoscaler: &'a mut Value, part: &str) -> &'a mut Map<String, Value> {
    if !autoscaler[part].is_object() {
        autoscaler[part] = json!({});
    }
    autoscaler[part].as_object_mut().expect("it is one now")
}

fn remove(autoscaler: &mut Value, part: &str, field: &str) -> Option<Value> {
    autoscaler.get_mut(part)?.as_object_mut()?.shift_remove(field)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_autoscaler_becomes_the_other_and_back() {
        let v2 = json!({
            "metadata": {"name": "x"},
            "spec": {
                "maxReplicas": 3,
                "metrics": [
                    {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}},
                    {"type": "Pods", "pods": {"metric": {"name": "m"}, "target": {"type": "AverageValue", "averageValue": "5"}}},
                ],
                "behavior": {"scaleUp": {"stabilizationWindowSeconds": 5}},
            },
            "status": {
                "currentMetrics": [{"type": "Resource", "resource": {"name": "cpu", "current": {"averageUtilization": 70}}}],
                "conditions": [{"type": "AbleToScale", "status": "True"}],
            },
        });
        let mut autoscaler = v2.clone();
        from_v2(&mut autoscaler);
        assert_eq!(autoscaler["spec"]["targetCPUUtilizationPercentage"], 80);
        assert_eq!(autoscaler["status"]["currentCPUUtilizationPercentage"], 70);
        assert!(autoscaler["spec"].get("metrics").is_none());
        assert!(autoscaler["metadata"]["annotations"]["autoscaling.alpha.kubernetes.io/metrics"].is_string());
        to_v2(&mut autoscaler);
        assert_eq!(autoscaler, v2);
    }

    #[test]
    fn one_without_anything_particular_stays_as_it_is() {
        let plain = json!({"metadata": {"name": "x"}, "spec": {"maxReplicas": 3}, "status": {}});
        let mut autoscaler = plain.clone();
        from_v2(&mut autoscaler);
        to_v2(&mut autoscaler);
        assert_eq!(autoscaler["spec"], plain["spec"]);
    }
}
