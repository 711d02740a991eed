//! Which families a Service's addresses are of (KEP-563). Pure.

use std::net::IpAddr;

use bosun_api::field::{FieldError, Problem};
use serde_json::{Value, json};

use super::range;

/// Settles `ipFamilyPolicy` and `ipFamilies` in a Service's spec that is valid otherwise. `configured` are the cluster's
/// families, of which there is at least one; the first is the default.
pub(super) fn settle(
    spec: &mut Value,
    old: Option<&Value>,
    configured: &[&'static str],
) -> Result<(), Vec<FieldError>> {
    if spec["type"] == "ExternalName" {
        return Ok(());
    }
    let texts = |value: &Value| -> Vec<String> {
        let items = value.as_array().into_iter().flatten();
        items.filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let mut addresses = texts(&spec["clusterIPs"]);
    let mut families = texts(&spec["ipFamilies"]);
    let mut policy = spec["ipFamilyPolicy"].as_str().map(str::to_owned);
    if let Some(old) = old.filter(|old| old["type"] != "ExternalName") {
        policy = policy.or_else(|| old["ipFamilyPolicy"].as_str().map(str::to_owned));
        if families.is_empty() {
            families = texts(&old["ipFamilies"]);
        }
    }
    for (at, address) in addresses.iter().enumerate() {
        if let (true, Ok(address)) = (families.len() == at, address.parse::<IpAddr>()) {
            families.push(range::family(address).into());
        }
    }
    if policy.is_none() && (addresses.len() == 2 || families.len() == 2) {
        policy = Some("RequireDualStack".into());
    }
    let headless = addresses.first().is_some_and(|address| address == "None");
    let selects = spec["selector"]
        .as_object()
        .is_some_and(|selector| !selector.is_empty());
    let other = |family: &str| if family == "IPv4" { "IPv6" } else { "IPv4" };
    if headless && !selects {
        // Its endpoints are the user's: they may be of any family, whatever the cluster has.
        let policy = policy.unwrap_or_else(|| "RequireDualStack".into());
        if families.is_empty() {
            families.push(configured[0].into());
        }
        if policy != "SingleStack" && families.len() == 1 {
            families.push(other(&families[0]).into());
        }
        put(spec, &policy, &families, None);
        return Ok(());
    }
    let policy = policy.unwrap_or_else(|| "SingleStack".into());
    if policy == "RequireDualStack" && configured.len() < 2 {
        return Err(invalid(
            "spec.ipFamilyPolicy",
            policy.into(),
            "this cluster is not configured for dual-stack services",
        ));
    }
    if policy == "SingleStack" {
        families.truncate(1);
        if addresses.len() > 1 {
            addresses.truncate(1);
        }
    }
    for (at, family) in families.iter().enumerate() {
        if !configured.contains(&family.as_str()) {
            let field = format!("spec.ipFamilies[{at}]");
            return Err(invalid(
                &field,
                family.as_str().into(),
                "not configured on this cluster",
            ));
        }
    }
    if families.is_empty() {
        families.push(configured[0].into());
    }
    if policy != "SingleStack" && configured.len() == 2 && families.len() == 1 {
        families.push(other(&families[0]).into());
    }
    put(spec, &policy, &families, Some(&addresses));
    Ok(())
}

fn put(spec: &mut Value, policy: &str, families: &[String], addresses: Option<&[String]>) {
    spec["ipFamilyPolicy"] = policy.into();
    spec["ipFamilies"] = json!(families);
    if let Some(addresses) = addresses.filter(|addresses| !addresses.is_empty()) {
        spec["clusterIPs"] = json!(addresses);
    }
}

fn invalid(field: &str, value: Value, why: &str) -> Vec<FieldError> {
    vec![FieldError {
        field: field.into(),
        problem: Problem::Invalid(value, why.into()),
    }]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_are_settled_as_upstream_does() {
        let single = &["IPv4"][..];
        let dual = &["IPv4", "IPv6"][..];
        let table = [
            (json!({}), single, "SingleStack IPv4"),
            (json!({}), dual, "SingleStack IPv4"),
            (
                json!({"ipFamilyPolicy": "PreferDualStack"}),
                single,
                "PreferDualStack IPv4",
            ),
            (
                json!({"ipFamilyPolicy": "PreferDualStack"}),
                dual,
                "PreferDualStack IPv4,IPv6",
            ),
            (
                json!({"ipFamilyPolicy": "PreferDualStack", "ipFamilies": ["IPv6"]}),
                dual,
                "PreferDualStack IPv6,IPv4",
            ),
            (
                json!({"ipFamilyPolicy": "RequireDualStack"}),
                dual,
                "RequireDualStack IPv4,IPv6",
            ),
            (json!({"ipFamilies": ["IPv6"]}), dual, "SingleStack IPv6"),
            (
                json!({"ipFamilies": ["IPv6", "IPv4"]}),
                dual,
                "RequireDualStack IPv6,IPv4",
            ),
            (json!({"clusterIPs": ["fd00::5"]}), dual, "SingleStack IPv6"),
            (
                json!({"clusterIPs": ["10.0.0.5", "fd00::5"]}),
                dual,
                "RequireDualStack IPv4,IPv6",
            ),
            (json!({"clusterIPs": ["None"]}), single, "RequireDualStack IPv4,IPv6"),
            (
                json!({"clusterIPs": ["None"], "selector": {"a": "b"}}),
                single,
                "SingleStack IPv4",
            ),
            (json!({"type": "ExternalName"}), single, "null null"),
        ];
        for (mut spec, configured, expected) in table {
            let given = spec.to_string();
            settle(&mut spec, None, configured).unwrap();
            let families = spec["ipFamilies"].as_array().map(|all| {
                all.iter()
                    .map(|one| one.as_str().unwrap())
                    .collect::<Vec<_>>()
                    .join(",")
            });
            let policy = spec["ipFamilyPolicy"].as_str().unwrap_or("null");
            assert_eq!(
                format!("{policy} {}", families.as_deref().unwrap_or("null")),
                expected,
                "{given}"
            );
        }
    }

    #[test]
    fn what_the_cluster_does_not_have_is_refused() {
        let table = [
            (
                json!({"ipFamilyPolicy": "RequireDualStack"}),
                "spec.ipFamilyPolicy: Invalid value: \"RequireDualStack\": this cluster is not configured for dual-stack services",
            ),
            (
                json!({"ipFamilies": ["IPv6"]}),
                "spec.ipFamilies[0]: Invalid value: \"IPv6\": not configured on this cluster",
            ),
        ];
        for (mut spec, expected) in table {
            assert_eq!(settle(&mut spec, None, &["IPv4"]).unwrap_err()[0].to_string(), expected);
        }
    }

    #[test]
    fn an_update_keeps_what_it_does_not_mention_and_may_give_up_the_second() {
        let old = json!({"ipFamilyPolicy": "PreferDualStack", "ipFamilies": ["IPv4", "IPv6"], "clusterIPs": ["10.0.0.5", "fd00::5"]});
        let mut spec = json!({"clusterIPs": ["10.0.0.5", "fd00::5"]});
        settle(&mut spec, Some(&old), &["IPv4", "IPv6"]).unwrap();
        assert_eq!(spec, old);
        let mut spec = old.clone();
        spec["ipFamilyPolicy"] = "SingleStack".into();
        settle(&mut spec, Some(&old), &["IPv4", "IPv6"]).unwrap();
        assert_eq!(
            (&spec["ipFamilies"], &spec["clusterIPs"]),
            (&json!(["IPv4"]), &json!(["10.0.0.5"]))
        );
    }
}
