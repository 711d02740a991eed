//! Failures that count otherwise (KEP-3329), and successes that suffice (KEP-3998).

use k8s_openapi::api::batch::v1::{PodFailurePolicy, PodFailurePolicyOnExitCodesRequirement, SuccessPolicy};

use super::indexes::Indexes;
use crate::workload::Pod;

/// What a pod's failure means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It counts as a failure, as without a policy.
    Count,
    /// It doesn't count.
    Ignore,
    /// Its index has failed.
    FailIndex,
    /// The Job has failed, for this reason.
    FailJob(String),
}

/// What the failure of `pod` means: the first rule that fits decides.
pub fn verdict(policy: Option<&PodFailurePolicy>, pod: &Pod) -> Verdict {
    let rules = policy.map(|policy| policy.rules.as_slice()).unwrap_or_default();
    for (number, rule) in rules.iter().enumerate() {
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let name = pod.name();
        let message = if let Some(codes) = &rule.on_exit_codes {
            exited(codes, pod).map(|(container, code)| {
                format!(
                    "Container {container} for pod {namespace}/{name} failed with exit code {code} matching {} rule at \
                     index {number}",
                    rule.action
                )
            })
        } else {
            let patterns = rule.on_pod_conditions.as_deref().unwrap_or_default();
            let fits = |condition: &&crate::workload::pod::Condition| {
                let fits = |wanted: Option<&str>| wanted.unwrap_or("True") == condition.status;
                patterns
                    .iter()
                    .any(|pattern| pattern.type_ == condition.type_ && fits(pattern.status.as_deref()))
            };
            pod.status.conditions.iter().find(fits).map(|condition| {
                format!(
                    "Pod {namespace}/{name} has condition {} matching {} rule at index {number}",
                    condition.type_, rule.action
                )
            })
        };
        let Some(message) = message else { continue };
        match rule.action.as_str() {
            "Ignore" => return Verdict::Ignore,
            "Count" => return Verdict::Count,
            "FailIndex" => return Verdict::FailIndex,
            "FailJob" => return Verdict::FailJob(message),
            // An action of a later version: as if the rule weren't there.
            _ => {}
        }
    }
    Verdict::Count
}

/// The first container whose exit code is among those meant, and the code.
fn exited<'p>(codes: &PodFailurePolicyOnExitCodesRequirement, pod: &'p Pod) -> Option<(&'p str, i32)> {
    let statuses = pod
        .status
        .container_statuses
        .iter()
        .chain(&pod.status.init_container_statuses);
    let mut ended =
        statuses.filter_map(|status| Some((status.name.as_str(), status.state.terminated.as_ref()?.exit_code)));
    ended.find(|(name, code)| {
        let is_meant = codes.container_name.as_deref().is_none_or(|meant| meant == *name);
        let listed = codes.values.contains(code);
        *code != 0
            && is_meant
            && match codes.operator.as_str() {
                "In" => listed,
                "NotIn" => !listed,
                _ => false,
            }
    })
}

/// Whether the indexes that succeeded suffice, and by which rule.
pub fn suffices(policy: Option<&SuccessPolicy>, succeeded: &Indexes, completions: u32) -> Option<String> {
    if succeeded.is_empty() {
        return None;
    }
    let rules = policy.map(|policy| policy.rules.as_slice()).unwrap_or_default();
    let met = rules.iter().position(|rule| {
        let count = rule.succeeded_count.and_then(|count| usize::try_from(count).ok());
        match rule
            .succeeded_indexes
            .as_deref()
            .map(|text| Indexes::parse(text, completions))
        {
            Some(wanted) if wanted.is_empty() => false,
            Some(wanted) => {
                let common = wanted.common(succeeded);
                common == wanted.len() || count.is_some_and(|count| common >= count)
            }
            None => count.is_some_and(|count| succeeded.len() >= count),
        }
    });
    met.map(|number| format!("Matched rules at index {number}"))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::workload::testing::pod;

    #[test]
    fn the_first_rule_that_fits_decides() {
        let exits = |operator: &str, values: &[i32], action: &str| json!({"action": action, "onExitCodes": {"operator": operator, "values": values}});
        let of = |container: &str, action: &str| json!({"action": action, "onExitCodes": {"containerName": container, "operator": "In", "values": [42]}});
        let on = |type_: &str, action: &str| json!({"action": action, "onPodConditions": [{"type": type_, "status": "True"}]});
        let failed = pod(
            "p",
            "job",
            &json!({"status": {
                "conditions": [{"type": "DisruptionTarget", "status": "True"}],
                "containerStatuses": [
                    {"name": "main", "state": {"terminated": {"exitCode": 42}}},
                    {"name": "other", "state": {"terminated": {"exitCode": 0}}},
                ],
            }}),
        );
        for (rules, expected) in [
            (vec![], Verdict::Count),
            (vec![exits("In", &[1, 42], "Ignore")], Verdict::Ignore),
            (vec![exits("NotIn", &[1], "FailIndex")], Verdict::FailIndex),
            (vec![exits("NotIn", &[42], "FailIndex")], Verdict::Count),
            (vec![of("other", "Ignore")], Verdict::Count),
            (vec![on("DisruptionTarget", "Ignore")], Verdict::Ignore),
            (
                vec![
                    on("Ready", "Ignore"),
                    exits("In", &[42], "Count"),
                    on("DisruptionTarget", "Ignore"),
                ],
                Verdict::Count,
            ),
            (
                vec![json!({"action": "Sing", "onExitCodes": {"operator": "In", "values": [42]}})],
                Verdict::Count,
            ),
            (
                vec![on("Ready", "Ignore"), of("main", "FailJob")],
                Verdict::FailJob(
                    "Container main for pod default/p failed with exit code 42 matching FailJob rule at index 1"
                        .to_owned(),
                ),
            ),
            (
                vec![on("DisruptionTarget", "FailJob")],
                Verdict::FailJob(
                    "Pod default/p has condition DisruptionTarget matching FailJob rule at index 0".to_owned(),
                ),
            ),
        ] {
            let policy: PodFailurePolicy = serde_json::from_value(json!({"rules": rules})).unwrap();
            assert_eq!(verdict(Some(&policy), &failed), expected, "{rules:?}");
        }
        assert_eq!(verdict(None, &failed), Verdict::Count);
    }

    #[test]
    fn successes_suffice_by_their_number_or_by_which_they_are() {
        let rule = |indexes: Value, count: Value| json!({"succeededIndexes": indexes, "succeededCount": count});
        let succeeded = Indexes::parse("0,2-4", 9);
        for (rules, expected) in [
            (vec![rule(json!(null), json!(4))], Some(0)),
            (vec![rule(json!(null), json!(5))], None),
            (vec![rule(json!("0,2"), json!(null))], Some(0)),
            (vec![rule(json!("0-2"), json!(null))], None),
            (vec![rule(json!("0-2"), json!(2))], Some(0)),
            (vec![rule(json!("x"), json!(1)), rule(json!("4"), json!(null))], Some(1)),
        ] {
            let policy: SuccessPolicy = serde_json::from_value(json!({"rules": rules})).unwrap();
            let expected = expected.map(|number| format!("Matched rules at index {number}"));
            assert_eq!(suffices(Some(&policy), &succeeded, 9), expected, "{rules:?}");
        }
        assert_eq!(suffices(None, &succeeded, 9), None);
    }
}
