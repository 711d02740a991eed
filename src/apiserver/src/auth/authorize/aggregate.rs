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
/// (`view` into `edit` into `admin`): sums are taken until nothing changes, but no longer than a chain through all of them
/// would take. Roles that select each other in a ring may never come to rest: those stay as they are, or they would be
/// written for ever.
pub fn plan(all: &[Value]) -> Vec<Value> {
    let aggregates = |at: &usize| all[*at].get("aggregationRule").is_some();
    let mut summed: Vec<_> = (0..all.len()).filter(aggregates).collect();
    loop {
        let now = sums(all, &summed);
        let restless = |at: &usize| sum(&now, *at).is_some();
        if !summed.iter().any(restless) {
            let changed = summed.iter().filter(|at| now[**at]["rules"] != all[**at]["rules"]);
            return changed.map(|at| now[*at].clone()).collect();
        }
        summed.retain(|at| !restless(at));
    }
}

fn sum(roles: &[Value], at: usize) -> Option<Vec<Rule>> {
    aggregated(&roles[at], &roles.iter().collect::<Vec<_>>())
}

/// All roles, with the rules that those of `summed` add up to, as far as that comes to rest.
fn sums(all: &[Value], summed: &[usize]) -> Vec<Value> {
    let mut now = all.to_vec();
    for _ in 0..=summed.len() {
        let mut rests = true;
        for &at in summed {
            if let Some(rules) = sum(&now, at) {
                now[at]["rules"] = json!(rules);
                rests = false;
            }
        }
        if rests {
            break;
        }
    }
    now
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
        let mutual = |name: &str, resource: &str, own: &str, from: &str| {
            role(
                name,
                &json!({own: "1"}),
                Some(resource),
                Some(json!({"matchLabels": {from: "1"}})),
            )
        };
        let rings = [
            vec![mutual("a", "pods", "x", "x"), mutual("b", "nodes", "x", "x")],
            vec![
                mutual("a", "pods", "a", "b"),
                mutual("b", "nodes", "b", "c"),
                mutual("c", "secrets", "c", "a"),
            ],
            vec![
                mutual("a", "pods", "a", "b"),
                mutual("b", "nodes", "b", "c"),
                mutual("c", "secrets", "c", "a"),
                mutual("d", "services", "d", "a"),
            ],
        ];
        for mut ring in rings {
            let rests = (0..5).any(|_| {
                let changed = plan(&ring);
                for role in &changed {
                    let at = ring
                        .iter()
                        .position(|old| old["metadata"]["name"] == role["metadata"]["name"]);
                    ring[at.unwrap()] = role.clone();
                }
                changed.is_empty()
            });
            assert!(rests, "{ring:?}");
        }
    }
}
