//! `LimitRange`s: default requests and limits of containers, and bounds of containers, pods and claims.

use std::collections::BTreeMap;

use bosun_api::Quantity;
use serde_json::{Value, json};

use crate::{auth::objects::text, pod::items};

const ANNOTATION: &str = "kubernetes.io/limit-ranger";

type Amounts = BTreeMap<String, Quantity>;

/// The amounts of a resource list; what is no quantity is left to validation.
pub(super) fn amounts(list: &Value) -> Amounts {
    let entries = list.as_object().into_iter().flatten();
    entries
        .filter_map(|(name, amount)| Some((name.clone(), quantity(amount)?)))
        .collect()
}

fn quantity(amount: &Value) -> Option<Quantity> {
    match amount {
        Value::String(text) => text.parse().ok(),
        Value::Number(number) => number.to_string().parse().ok(),
        _ => None,
    }
}

/// Gives containers the requests and limits that they lack, and says so in an annotation.
pub(super) fn default_pod(pod: &mut Value, range: &Value) {
    let mut said = Vec::new();
    for item in items(&range["spec"]["limits"])
        .iter()
        .filter(|item| item["type"] == "Container")
    {
        for (kind, word) in [("containers", "container"), ("initContainers", "init container")] {
            for container in pod["spec"][kind].as_array_mut().into_iter().flatten() {
                let name = text(container, "/name").to_owned();
                let mut fill = |of: &str, from: &Value, what: &str| {
                    let mut set = Vec::new();
                    for (resource, amount) in from.as_object().into_iter().flatten() {
                        if container["resources"][of].get(resource).is_none() {
                            if !container["resources"][of].is_object() {
                                container["resources"][of] = json!({});
                            }
                            container["resources"][of][resource] = amount.clone();
                            set.push(resource.as_str());
                        }
                    }
                    set.sort_unstable();
                    (!set.is_empty()).then(|| format!("{} {what} for {word} {name}", set.join(", ")))
                };
                let limits = fill("limits", &item["default"], "limit");
                let requests = fill("requests", &item["defaultRequest"], "request");
                said.extend(requests.into_iter().chain(limits));
            }
        }
    }
    if !said.is_empty() {
        let line = format!("LimitRanger plugin set: {}", said.join("; "));
        if !pod["metadata"]["annotations"].is_object() {
            pod["metadata"]["annotations"] = json!({});
        }
        pod["metadata"]["annotations"][ANNOTATION] = line.into();
    }
}

/// What a pod breaks of a range.
pub(super) fn check_pod(pod: &Value, range: &Value) -> Vec<String> {
    let spec = &pod["spec"];
    let mut errors = Vec::new();
    for item in items(&range["spec"]["limits"]) {
        match text(item, "/type") {
            "Container" => {
                for kind in ["containers", "initContainers"] {
                    for container in items(&spec[kind]) {
                        let resources = &container["resources"];
                        let (requests, limits) = (amounts(&resources["requests"]), amounts(&resources["limits"]));
                        errors.extend(check(item, "Container", &requests, &limits));
                    }
                }
            }
            "Pod" => errors.extend(check(
                item,
                "Pod",
                &pod_total(spec, "requests"),
                &pod_total(spec, "limits"),
            )),
            _ => {}
        }
    }
    errors
}

/// What a claim breaks of a range.
pub(super) fn check_claim(claim: &Value, range: &Value) -> Vec<String> {
    let requests = amounts(&claim["spec"]["resources"]["requests"]);
    let of_claims = items(&range["spec"]["limits"])
        .iter()
        .filter(|item| item["type"] == "PersistentVolumeClaim");
    let mut errors = Vec::new();
    for item in of_claims {
        let kind = "PersistentVolumeClaim";
        for (resource, least) in amounts(&item["min"]) {
            errors.extend(minimum(kind, &resource, least, &requests, &Amounts::new()));
        }
        for (resource, most) in amounts(&item["max"]) {
            let asked = requests.get(&resource);
            errors.extend(match asked {
                None => Some(format!(
                    "maximum {resource} usage per {kind} is {most}.  No request is specified"
                )),
                Some(asked) if *asked > most => Some(format!(
                    "maximum {resource} usage per {kind} is {most}, but request is {asked}"
                )),
                Some(_) => None,
            });
        }
    }
    errors
}

/// What a pod may take in all: its containers and sidecars together, or more if an init container does, and overhead.
pub(super) fn pod_total(spec: &Value, of: &str) -> Amounts {
    let mut total = Amounts::new();
    let add = |total: &mut Amounts, more: &Amounts| {
        for (resource, amount) in more {
            let sum = total.get(resource).copied().unwrap_or(Quantity::ZERO) + *amount;
            total.insert(resource.clone(), sum);
        }
    };
    for container in items(&spec["containers"]) {
        add(&mut total, &amounts(&container["resources"][of]));
    }
    let (mut sidecars, mut most) = (Amounts::new(), Amounts::new());
    for container in items(&spec["initContainers"]) {
        let own = amounts(&container["resources"][of]);
        let mut now = sidecars.clone();
        add(&mut now, &own);
        if container["restartPolicy"] == "Always" {
            sidecars.clone_from(&now);
            add(&mut total, &own);
        }
        for (resource, amount) in now {
            let entry = most.entry(resource).or_insert(amount);
            *entry = (*entry).max(amount);
        }
    }
    for (resource, amount) in most {
        let entry = total.entry(resource).or_insert(amount);
        *entry = (*entry).max(amount);
    }
    let overhead = amounts(&spec["overhead"]);
    if of == "requests" {
        add(&mut total, &overhead);
    } else {
        for (resource, amount) in overhead {
            if let Some(limit) = total.get_mut(&resource) {
                *limit = *limit + amount;
            }
        }
    }
    total
}

fn check(item: &Value, kind: &str, requests: &Amounts, limits: &Amounts) -> Vec<String> {
    let mut errors = Vec::new();
    for (resource, least) in amounts(&item["min"]) {
        errors.extend(minimum(kind, &resource, least, requests, limits));
    }
    for (resource, most) in amounts(&item["max"]) {
        let (asked, limit) = (requests.get(&resource), limits.get(&resource));
        let head = format!("maximum {resource} usage per {kind} is {most}");
        errors.extend(match (asked, limit) {
            (_, None) => Some(format!("{head}.  No limit is specified")),
            (_, Some(limit)) if *limit > most => Some(format!("{head}, but limit is {limit}")),
            (Some(asked), _) if *asked > most => Some(format!("{head}, but request is {asked}")),
            _ => None,
        });
    }
    for (resource, ratio) in amounts(&item["maxLimitRequestRatio"]) {
        let head = format!("{resource} max limit to request ratio per {kind} is {ratio}");
        let given = |of: &Amounts| of.get(&resource).copied().filter(|amount| !amount.is_zero());
        errors.extend(match (given(requests), given(limits)) {
            (None, _) => Some(format!("{head}, but no request is specified or request is 0")),
            (_, None) => Some(format!("{head}, but no limit is specified or limit is 0")),
            (Some(asked), Some(limit)) => {
                let observed = limit.milli_value() as f64 / asked.milli_value() as f64;
                let most = ratio.milli_value() as f64 / 1000.0;
                (observed > most).then(|| format!("{head}, but provided ratio is {observed:.6}"))
            }
        });
    }
    errors
}

fn minimum(kind: &str, resource: &str, least: Quantity, requests: &Amounts, limits: &Amounts) -> Option<String> {
    let head = format!("minimum {resource} usage per {kind} is {least}");
    match (requests.get(resource), limits.get(resource)) {
        (None, _) => Some(format!("{head}.  No request is specified")),
        (Some(asked), _) if *asked < least => Some(format!("{head}, but request is {asked}")),
        (_, Some(limit)) if *limit < least => Some(format!("{head}, but limit is {limit}")),
        _ => None,
    }
}

/// All errors as upstream shows several.
pub(super) fn join(errors: &[String]) -> Option<String> {
    match errors {
        [] => None,
        [one] => Some(one.clone()),
        more => Some(format!("[{}]", more.join(", "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(item: &Value) -> Value {
        json!({"spec": {"limits": [item]}})
    }

    fn pod(requests: &Value, limits: &Value) -> Value {
        json!({"metadata": {}, "spec": {"containers": [{"name": "a", "resources": {"requests": requests, "limits": limits}}]}})
    }

    #[test]
    fn containers_get_what_they_lack() {
        let range = range(
            &json!({"type": "Container", "default": {"cpu": "1", "memory": "1Gi"}, "defaultRequest": {"cpu": "100m"}}),
        );
        let mut pod = json!({"metadata": {}, "spec": {
            "containers": [{"name": "a"}, {"name": "b", "resources": {"limits": {"cpu": "2", "memory": "2Gi"}, "requests": {"cpu": "1"}}}],
            "initContainers": [{"name": "i", "resources": {"limits": {"cpu": "2"}}}],
        }});
        default_pod(&mut pod, &range);
        assert_eq!(
            pod["spec"]["containers"][0]["resources"],
            json!({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "100m"}})
        );
        assert_eq!(pod["spec"]["containers"][1]["resources"]["limits"]["cpu"], "2");
        assert_eq!(
            pod["metadata"]["annotations"][ANNOTATION],
            "LimitRanger plugin set: cpu request for container a; cpu, memory limit for container a; cpu request for init container i; memory limit for init container i"
        );
        let once = pod.clone();
        default_pod(&mut pod, &range);
        assert_eq!(pod, once);
    }

    #[test]
    fn bounds_are_told_as_upstream_does() {
        let container = |bounds: Value| {
            let mut item = bounds;
            item["type"] = "Container".into();
            range(&item)
        };
        let none = json!(null);
        let table = [
            (
                json!({"min": {"cpu": "100m"}}),
                json!({"cpu": "50m"}),
                none.clone(),
                "minimum cpu usage per Container is 100m, but request is 50m",
            ),
            (
                json!({"min": {"cpu": "100m"}}),
                none.clone(),
                none.clone(),
                "minimum cpu usage per Container is 100m.  No request is specified",
            ),
            (
                json!({"min": {"cpu": "100m"}}),
                json!({"cpu": "1"}),
                json!({"cpu": "50m"}),
                "minimum cpu usage per Container is 100m, but limit is 50m",
            ),
            (
                json!({"max": {"memory": "1Gi"}}),
                none.clone(),
                json!({"memory": "2Gi"}),
                "maximum memory usage per Container is 1Gi, but limit is 2Gi",
            ),
            (
                json!({"max": {"memory": "1Gi"}}),
                json!({"memory": "1Gi"}),
                none.clone(),
                "maximum memory usage per Container is 1Gi.  No limit is specified",
            ),
            (
                json!({"max": {"cpu": "1"}}),
                json!({"cpu": "2"}),
                json!({"cpu": "1"}),
                "maximum cpu usage per Container is 1, but request is 2",
            ),
            (
                json!({"maxLimitRequestRatio": {"cpu": "2"}}),
                json!({"cpu": "100m"}),
                json!({"cpu": "500m"}),
                "cpu max limit to request ratio per Container is 2, but provided ratio is 5.000000",
            ),
            (
                json!({"maxLimitRequestRatio": {"cpu": "2"}}),
                none.clone(),
                json!({"cpu": "500m"}),
                "cpu max limit to request ratio per Container is 2, but no request is specified or request is 0",
            ),
            (
                json!({"min": {"cpu": "100m"}, "max": {"cpu": "1"}}),
                json!({"cpu": "100m"}),
                json!({"cpu": "1"}),
                "",
            ),
        ];
        for (bounds, requests, limits, expected) in table {
            let errors = check_pod(&pod(&requests, &limits), &container(bounds));
            assert_eq!(join(&errors).unwrap_or_default(), expected);
        }
    }

    #[test]
    fn a_pod_is_all_its_containers() {
        let spec = json!({
            "containers": [{"resources": {"requests": {"cpu": "1"}}}, {"resources": {"requests": {"cpu": "1", "memory": "1Gi"}}}],
            "initContainers": [
                {"resources": {"requests": {"cpu": "500m"}}, "restartPolicy": "Always"},
                {"resources": {"requests": {"cpu": "4"}}},
            ],
            "overhead": {"cpu": "250m"},
        });
        let total = pod_total(&spec, "requests");
        assert_eq!(total["cpu"].to_string(), "4750m");
        assert_eq!(total["memory"].to_string(), "1Gi");
        let range = range(&json!({"type": "Pod", "max": {"cpu": "2"}}));
        let mut pod = json!({ "spec": spec });
        pod["spec"]["containers"][0]["resources"]["limits"] = json!({"cpu": "3"});
        assert_eq!(
            check_pod(&pod, &range),
            ["maximum cpu usage per Pod is 2, but limit is 3250m"]
        );
    }

    #[test]
    fn claims_have_bounds_too() {
        let range =
            range(&json!({"type": "PersistentVolumeClaim", "min": {"storage": "1Gi"}, "max": {"storage": "5Gi"}}));
        let claim = |size: &str| json!({"spec": {"resources": {"requests": {"storage": size}}}});
        assert_eq!(check_claim(&claim("2Gi"), &range), Vec::<String>::new());
        assert_eq!(
            check_claim(&claim("1Mi"), &range),
            ["minimum storage usage per PersistentVolumeClaim is 1Gi, but request is 1Mi"]
        );
        assert_eq!(
            check_claim(&claim("6Gi"), &range),
            ["maximum storage usage per PersistentVolumeClaim is 5Gi, but request is 6Gi"]
        );
    }
}
