//! The scale of a workload: one small object in place of four kinds (`autoscaling/v1` `Scale`).

use bosun_api::{
    field::{Errors, Path},
    manifest::FieldError,
};
use serde_json::{Map, Value, json};

/// The scale of a Deployment, `ReplicaSet`, `StatefulSet` or `ReplicationController`.
pub fn scale(object: &Value) -> Value {
    let metadata = &object["metadata"];
    let mut own = Map::new();
    for field in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        if let Some(value) = metadata.get(field) {
            own.insert(field.to_owned(), value.clone());
        }
    }
    let replicas = |part: &str| object[part]["replicas"].as_i64().unwrap_or_default();
    let mut scale = json!({
        "kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": own,
        "spec": {"replicas": replicas("spec")}, "status": {"replicas": replicas("status")},
    });
    if let Some(selector) = selector(&object["spec"]["selector"]) {
        scale["status"]["selector"] = selector.into();
    }
    scale
}

/// Writes the number of replicas that `scale` asks for into the workload.
pub fn set_scale(object: &mut Value, scale: &Value) -> Result<(), Vec<FieldError>> {
    let replicas = scale["spec"]["replicas"].as_i64().unwrap_or_default();
    let mut errors = Errors::default();
    errors.at_least(&Path::root("spec.replicas"), Some(replicas), 0);
    match errors.into_vec() {
        none if none.is_empty() => {
            object["spec"]["replicas"] = replicas.into();
            Ok(())
        }
        errors => Err(errors),
    }
}

/// A selector on one line, as query parameters have it: `app=web,tier in (a,b)`. `None` if there is none.
pub fn selector(selector: &Value) -> Option<String> {
    let fields = selector.as_object()?;
    // The selector of a replication controller or a service is a plain map of labels.
    let structured = fields
        .keys()
        .all(|key| matches!(key.as_str(), "matchLabels" | "matchExpressions"));
    let labels = if structured {
        fields.get("matchLabels")
    } else {
        Some(selector)
    };
    let mut terms: Vec<(String, String)> = Vec::new();
    for (key, value) in labels.and_then(Value::as_object).into_iter().flatten() {
        terms.push((key.clone(), format!("{key}={}", value.as_str().unwrap_or_default())));
    }
    let expressions = if structured {
        fields.get("matchExpressions")
    } else {
        None
    };
    for expression in expressions.and_then(Value::as_array).into_iter().flatten() {
        let key = expression["key"].as_str().unwrap_or_default();
        let values = expression["values"].as_array().into_iter().flatten();
        let mut values: Vec<_> = values.filter_map(Value::as_str).collect();
        values.sort_unstable();
        let values = values.join(",");
        let term = match expression["operator"].as_str().unwrap_or_default() {
            "In" => format!("{key} in ({values})"),
            "NotIn" => format!("{key} notin ({values})"),
            "Exists" => key.to_owned(),
            _ => format!("!{key}"),
        };
        terms.push((key.to_owned(), term));
    }
    terms.sort();
    Some(terms.into_iter().map(|(_, term)| term).collect::<Vec<_>>().join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scale_of_a_workload_tells_its_replicas_and_how_its_pods_are_selected() {
        let mut deployment = json!({
            "metadata": {"name": "web", "namespace": "a", "uid": "1", "resourceVersion": "7", "labels": {"x": "y"}},
            "spec": {
                "replicas": 3,
                "selector": {
                    "matchLabels": {"app": "web"},
                    "matchExpressions": [{"key": "a", "operator": "NotIn", "values": ["z", "b"]}],
                },
            },
            "status": {"replicas": 2},
        });
        assert_eq!(
            scale(&deployment),
            json!({
                "kind": "Scale", "apiVersion": "autoscaling/v1",
                "metadata": {"name": "web", "namespace": "a", "uid": "1", "resourceVersion": "7"},
                "spec": {"replicas": 3},
                "status": {"replicas": 2, "selector": "a notin (b,z),app=web"},
            })
        );
        set_scale(&mut deployment, &json!({"spec": {"replicas": 5}})).unwrap();
        assert_eq!(deployment["spec"]["replicas"], 5);
        let told = set_scale(&mut deployment, &json!({"spec": {"replicas": -1}})).unwrap_err();
        assert_eq!(
            told[0].to_string(),
            "spec.replicas: Invalid value: -1: must be greater than or equal to 0"
        );
        let controller = json!({"spec": {"selector": {"app": "web"}}, "metadata": {}});
        assert_eq!(scale(&controller)["status"]["selector"], "app=web");
    }
}
