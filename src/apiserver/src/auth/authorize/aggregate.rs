//! Cluster roles that others add up to: `aggregationRule` selects them by label, the sum is written into `rules`.

use serde_json::{Value, json};

use super::{rbac::decode, rule::Rule};
use crate::selector::LabelSelector;

/// What `role`'s rules should be, from all cluster roles; `None` if it aggregates nothing or has them already.
pub fn aggregated(role: &Value, all: &[&Value]) -> Option<Vec<Rule>> {
    let selectors = role["aggregationRule"]["clusterRoleSelectors"].as_array()?;
    let own = &role["metadata"]["name"];
    let mut rules: Vec<Rule> = Vec::new();
    for selector in selectors {
        let mut chosen: Vec<_> = all
            .iter()
            .filter(|other| other["metadata"]["name"] != *own && selects(selector, &other["metadata"]["labels"]))
            .collect();
        chosen.sort_by_key(|other| other["metadata"]["name"].as_str().unwrap_or_default());
        for other in chosen {
            for rule in decode::<Vec<Rule>>(&other["rules"]) {
                if !rules.contains(&rule) {
                    rules.push(rule);
                }
            }
        }
    }
    (rules != decode::<Vec<Rule>>(&role["rules"])).then_some(rules)
}

/// Every cluster role whose rules must change, with its new rules set. A role that aggregates may be aggregated itself
/// (`view` into `edit` into `admin`): the sum is taken until nothing changes, but no longer than a chain through all of
/// them would take.
pub fn plan(all: &[Value]) -> Vec<Value> {
    let mut now: Vec<Value> = all.to_vec();
    let aggregating = now.iter().filter(|role| role.get("aggregationRule").is_some()).count();
    for _ in 0..=aggregating {
        let view: Vec<_> = now.iter().collect();
        let changes: Vec<_> = view
            .iter()
            .enumerate()
            .filter_map(|(at, role)| Some((at, aggregated(role, &view)?)))
            .collect();
        if changes.is_empty() {
            break;
        }
        for (at, rules) in changes {
            now[at]["rules"] = json!(rules);
        }
    }
    now.into_iter()
        .zip(all)
        .filter(|(new, old)| new["rules"] != old["rules"])
        .map(|(new, _)| new)
        .collect()
}

/// Whether a `LabelSelector` selects these labels. One that cannot be understood selects nothing.
pub(crate) fn selects(selector: &Value, labels: &Value) -> bool {
    match LabelSelector::from_object(selector) {
        Ok(Some(selector)) => selector.matches(|key| labels[key].as_str()),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn role(name: &str, labels: &Value, resource: Option<&str>, selects: Option<Value>) -> Value {
        let mut role = json!({"metadata": {"name": name, "labels": labels}});
        if let Some(resource) = resource {
            role["rules"] = json!([{"verbs": ["get"], "apiGroups": [""], "resources": [resource]}]);
        }
        if let Some(selector) = selects {
            role["aggregationRule"] = json!({"clusterRoleSelectors": [selector]});
        }
        role
    }

    fn resources(role: &Value) -> Vec<&str> {
        role["rules"]
            .as_array()
            .unwrap()
            .iter()
            .map(|rule| rule["resources"][0].as_str().unwrap())
            .collect()
    }

    #[test]
    fn chains_add_up_and_a_second_run_changes_nothing() {
        let to = |name: &str| json!({format!("to-{name}"): "true"});
        let from = |name: &str| Some(json!({"matchLabels": {format!("to-{name}"): "true"}}));
        let mut all = vec![
            role("admin", &json!({}), None, from("admin")),
            role("edit", &to("admin"), None, from("edit")),
            role("view", &to("edit"), None, from("view")),
            role("b-view", &to("view"), Some("pods"), None),
            role("a-view", &to("view"), Some("services"), None),
            role("edits", &to("edit"), Some("secrets"), None),
            role("other", &json!({}), Some("nodes"), None),
        ];
        let changed = plan(&all);
        assert_eq!(changed.len(), 3);
        assert_eq!(resources(&changed[0]), ["secrets", "services", "pods"]);
        assert_eq!(resources(&changed[2]), ["services", "pods"]);
        for role in changed {
            let at = all
                .iter()
                .position(|old| old["metadata"]["name"] == role["metadata"]["name"])
                .unwrap();
            all[at] = role;
        }
        assert!(plan(&all).is_empty());
        all.retain(|role| role["metadata"]["name"] != "b-view");
        assert!(plan(&all).iter().all(|role| !resources(role).contains(&"pods")));
    }

    #[test]
    fn expressions_select_too() {
        let labels = json!({"a": "1"});
        let table = [
            (
                json!({"matchExpressions": [{"key": "a", "operator": "In", "values": ["1", "2"]}]}),
                true,
            ),
            (
                json!({"matchExpressions": [{"key": "a", "operator": "NotIn", "values": ["1"]}]}),
                false,
            ),
            (
                json!({"matchExpressions": [{"key": "b", "operator": "NotIn", "values": ["1"]}]}),
                true,
            ),
            (json!({"matchExpressions": [{"key": "a", "operator": "Exists"}]}), true),
            (
                json!({"matchExpressions": [{"key": "a", "operator": "DoesNotExist"}]}),
                false,
            ),
            (json!({"matchExpressions": [{"key": "a", "operator": "Likes"}]}), false),
            (json!({"matchLabels": {"a": "2"}}), false),
            (json!({}), true),
        ];
        for (selector, expected) in table {
            assert_eq!(selects(&selector, &labels), expected, "{selector}");
        }
    }

    #[test]
    fn roles_that_select_each_other_come_to_rest() {
        let all = [
            role(
                "a",
                &json!({"x": "1"}),
                Some("pods"),
                Some(json!({"matchLabels": {"x": "1"}})),
            ),
            role(
                "b",
                &json!({"x": "1"}),
                Some("nodes"),
                Some(json!({"matchLabels": {"x": "1"}})),
            ),
        ];
        // They trade their rules; whatever comes out, it ends.
        let _ = plan(&all);
    }
}
