//! The policy group: how many pods may be away at a time.

use bosun_api::{
    field::{Errors, Path},
    selector,
};
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetStatus};

use crate::{Context, kind::Kind, template};

pub(crate) struct Budgets;

impl Kind for Budgets {
    type Object = PodDisruptionBudget;

    fn prepare_create(budget: &mut PodDisruptionBudget, _: &Context<'_>) {
        // Until the controller has counted, nothing may be disrupted.
        budget.status = Some(PodDisruptionBudgetStatus {
            current_healthy: Some(0),
            desired_healthy: Some(0),
            disruptions_allowed: Some(0),
            expected_pods: Some(0),
            ..PodDisruptionBudgetStatus::default()
        });
    }

    fn validate(budget: &PodDisruptionBudget, errors: &mut Errors) {
        let path = Path::root("spec");
        let Some(spec) = &budget.spec else { return };
        if spec.min_available.is_some() && spec.max_unavailable.is_some() {
            errors.invalid_object(&path, spec, "minAvailable and maxUnavailable cannot be both set");
        }
        for (field, value) in [
            ("minAvailable", &spec.min_available),
            ("maxUnavailable", &spec.max_unavailable),
        ] {
            if let Some(value) = value {
                let path = path.child(field);
                template::number_or_percent(value, &path, errors);
                template::at_most_all(value, &path, errors);
            }
        }
        selector::validate(spec.selector.as_ref(), &path.child("selector"), errors);
        errors.one_of(
            &path.child("unhealthyPodEvictionPolicy"),
            spec.unhealthy_pod_eviction_policy.as_deref(),
            &["AlwaysAllow", "IfHealthyBudget"],
        );
    }

    fn validate_part(budget: &PodDisruptionBudget, _: &PodDisruptionBudget, _: &str, errors: &mut Errors) {
        let Some(status) = &budget.status else { return };
        template::counts(
            &[
                ("disruptionsAllowed", status.disruptions_allowed.map(i64::from)),
                ("currentHealthy", status.current_healthy.map(i64::from)),
                ("desiredHealthy", status.desired_healthy.map(i64::from)),
                ("expectedPods", status.expected_pods.map(i64::from)),
            ],
            None,
            errors,
        );
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::testing::{changes, create, mistakes};

    #[test]
    fn a_budget_says_one_thing_or_the_other() {
        let valid = json!({
            "apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "b", "namespace": "a"},
            "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "web"}}},
        });
        let stored = create("policy", "PodDisruptionBudget", valid.clone()).unwrap();
        assert_eq!(stored["status"]["disruptionsAllowed"], 0);
        mistakes(
            "policy",
            "PodDisruptionBudget",
            &valid,
            &[
                (
                    "/spec/maxUnavailable",
                    json!(1),
                    &[
                        "spec: Invalid value: {\"maxUnavailable\":1,\"minAvailable\":1,\"selector\":{\"matchLabels\":\
                         {\"app\":\"web\"}}}: minAvailable and maxUnavailable cannot be both set",
                    ],
                ),
                (
                    "/spec/minAvailable",
                    json!("101%"),
                    &["spec.minAvailable: Invalid value: \"101%\": must not be greater than 100%"],
                ),
                (
                    "/spec/unhealthyPodEvictionPolicy",
                    json!("Never"),
                    &[
                        "spec.unhealthyPodEvictionPolicy: Unsupported value: \"Never\": supported values: \
                         \"AlwaysAllow\", \"IfHealthyBudget\"",
                    ],
                ),
            ],
        );
        changes(
            "policy",
            "PodDisruptionBudget",
            &valid,
            &[("/spec/minAvailable", json!(2), &[])],
        );
    }
}
