//! The autoscaling group: how many pods there should be, by what is measured.

use bosun_api::{
    field::{Errors, OrEmpty, Path},
    names,
    pod::validate::resources,
    quantity::Quantity,
};
use k8s_openapi::{
    api::autoscaling::{
        v1,
        v2::{
            ExternalMetricSource, HPAScalingPolicy, HPAScalingRules, HorizontalPodAutoscaler, MetricIdentifier,
            MetricSpec, MetricTarget, ObjectMetricSource, PodsMetricSource, ResourceMetricSource,
        },
    },
    apimachinery::pkg::api::resource::Quantity as Written,
};
use serde_json::Value;

use crate::{
    Context, Outcome,
    convert::convert,
    kind::{Kind, Typed},
    strategy::Strategy,
    template,
};

/// Half an hour and an hour, in seconds.
const MOST_PERIOD: i32 = 1800;
const MOST_WINDOW: i32 = 3600;

/// Autoscalers in either version: what one says, the other is checked by too.
pub(crate) struct Autoscalers;

const OLD: &str = "autoscaling/v1";

impl Autoscalers {
    fn of(object: &Value) -> &'static dyn Strategy {
        static OF_OLD: Typed<OldAutoscalers> = Typed::new();
        static OF_NEW: Typed<NewAutoscalers> = Typed::new();
        if object["apiVersion"] == OLD { &OF_OLD } else { &OF_NEW }
    }
}

impl Strategy for Autoscalers {
    fn default(&self, object: &mut Value) {
        Self::of(object).default(object);
    }

    fn create(&self, object: &mut Value, context: &Context<'_>) -> Outcome {
        Self::of(object).create(object, context)
    }

    fn update(&self, object: &mut Value, old: &Value, context: &Context<'_>) -> Outcome {
        let strategy = Self::of(object);
        match object["apiVersion"].as_str() {
            Some(version) if old["apiVersion"] != version => {
                let mut old = old.clone();
                convert(&mut old, version);
                strategy.update(object, &old, context)
            }
            _ => strategy.update(object, old, context),
        }
    }

    fn has_generation(&self) -> bool {
        false
    }
}

struct NewAutoscalers;

impl Kind for NewAutoscalers {
    type Object = HorizontalPodAutoscaler;

    const GENERATION: bool = false;

    fn default(autoscaler: &mut HorizontalPodAutoscaler) {
        let spec = &mut autoscaler.spec;
        spec.min_replicas.get_or_insert(1);
        if !spec.metrics.is_given() {
            spec.metrics = Some(vec![MetricSpec {
                type_: "Resource".to_owned(),
                resource: Some(ResourceMetricSource {
                    name: "cpu".to_owned(),
                    target: MetricTarget {
                        type_: "Utilization".to_owned(),
                        average_utilization: Some(80),
                        ..MetricTarget::default()
                    },
                }),
                ..MetricSpec::default()
            }]);
        }
        if let Some(behavior) = &mut spec.behavior {
            let up = behavior.scale_up.get_or_insert_default();
            up.stabilization_window_seconds.get_or_insert(0);
            rules_defaults(up, &[("Pods", 4), ("Percent", 100)]);
            rules_defaults(behavior.scale_down.get_or_insert_default(), &[("Percent", 100)]);
        }
    }

    fn validate(autoscaler: &HorizontalPodAutoscaler, errors: &mut Errors) {
        let path = Path::root("spec");
        let spec = &autoscaler.spec;
        counts(spec.min_replicas, spec.max_replicas, &path, errors);
        let target = &spec.scale_target_ref;
        reference(&target.kind, &target.name, &path.child("scaleTargetRef"), errors);
        for (path, metric) in path.child("metrics").each(spec.metrics.or_empty()) {
            metric_spec(metric, &path, errors);
        }
        if let Some(behavior) = &spec.behavior {
            let path = path.child("behavior");
            for (field, rules) in [("scaleUp", &behavior.scale_up), ("scaleDown", &behavior.scale_down)] {
                if let Some(rules) = rules {
                    scaling_rules(rules, &path.child(field), errors);
                }
            }
        }
    }

    fn validate_part(autoscaler: &HorizontalPodAutoscaler, _: &HorizontalPodAutoscaler, _: &str, errors: &mut Errors) {
        let Some(status) = &autoscaler.status else { return };
        let counts = [
            ("currentReplicas", status.current_replicas.map(i64::from)),
            ("desiredReplicas", Some(status.desired_replicas.into())),
        ];
        template::counts(&counts, None, errors);
    }
}

struct OldAutoscalers;

impl Kind for OldAutoscalers {
    type Object = v1::HorizontalPodAutoscaler;

    const GENERATION: bool = false;

    fn default(autoscaler: &mut v1::HorizontalPodAutoscaler) {
        autoscaler.spec.min_replicas.get_or_insert(1);
    }

    fn validate(autoscaler: &v1::HorizontalPodAutoscaler, errors: &mut Errors) {
        let path = Path::root("spec");
        let spec = &autoscaler.spec;
        counts(spec.min_replicas, spec.max_replicas, &path, errors);
        let target = &spec.scale_target_ref;
        reference(&target.kind, &target.name, &path.child("scaleTargetRef"), errors);
        if let Some(percent) = spec.target_cpu_utilization_percentage.filter(|percent| *percent < 1) {
            errors.invalid(
                &path.child("targetCPUUtilizationPercentage"),
                percent,
                "must be greater than 0",
            );
        }
    }

    fn validate_part(
        autoscaler: &v1::HorizontalPodAutoscaler,
        _: &v1::HorizontalPodAutoscaler,
        _: &str,
        errors: &mut Errors,
    ) {
        let Some(status) = &autoscaler.status else { return };
        let counts = [
            ("currentReplicas", Some(status.current_replicas.into())),
            ("desiredReplicas", Some(status.desired_replicas.into())),
        ];
        template::counts(&counts, None, errors);
    }
}

/// How fast a number changes, if not said: so many or so much in a quarter of a minute.
fn rules_defaults(rules: &mut HPAScalingRules, policies: &[(&str, i32)]) {
    rules.select_policy.get_or_insert_with(|| "Max".to_owned());
    if rules.policies.is_none() {
        let policies = policies.iter().map(|(type_, value)| HPAScalingPolicy {
            type_: (*type_).to_owned(),
            value: *value,
            period_seconds: 15,
        });
        rules.policies = Some(policies.collect());
    }
}

fn counts(least: Option<i32>, most: i32, path: &Path, errors: &mut Errors) {
    errors.at_least(&path.child("minReplicas"), least, 1);
    let path = path.child("maxReplicas");
    if most < 1 {
        errors.invalid(&path, most, "must be greater than 0");
    }
    if least.is_some_and(|least| most < least) {
        errors.invalid(&path, most, "must be greater than or equal to `minReplicas`");
    }
}

fn reference(kind: &str, name: &str, path: &Path, errors: &mut Errors) {
    errors.required_check(&path.child("kind"), kind, names::path_segment);
    errors.required_check(&path.child("name"), name, names::path_segment);
}

fn scaling_rules(rules: &HPAScalingRules, path: &Path, errors: &mut Errors) {
    if let Some(seconds) = rules.stabilization_window_seconds {
        let path = path.child("stabilizationWindowSeconds");
        if seconds < 0 {
            errors.invalid(&path, seconds, "must be greater than or equal to zero");
        }
        if seconds > MOST_WINDOW {
            errors.invalid(&path, seconds, format!("must be less than or equal to {MOST_WINDOW}"));
        }
    }
    errors.one_of(
        &path.child("selectPolicy"),
        rules.select_policy.as_deref(),
        &["Disabled", "Max", "Min"],
    );
    if let Some(tolerance) = &rules.tolerance
        && Quantity::of(tolerance).is_ok_and(Quantity::is_negative)
    {
        errors.invalid(
            &path.child("tolerance"),
            tolerance.0.as_str(),
            "must be greater than or equal to 0",
        );
    }
    let policies = rules.policies.or_empty();
    let path = path.child("policies");
    if policies.is_empty() {
        errors.required(&path, "must specify at least one Policy");
    }
    for (path, policy) in path.each(policies) {
        errors.one_of(&path.child("type"), Some(&policy.type_), &["Percent", "Pods"]);
        let period = path.child("periodSeconds");
        for (path, value) in [(&path.child("value"), policy.value), (&period, policy.period_seconds)] {
            if value <= 0 {
                errors.invalid(path, value, "must be greater than zero");
            }
        }
        if policy.period_seconds > MOST_PERIOD {
            errors.invalid(
                &period,
                policy.period_seconds,
                format!("must be less than or equal to {MOST_PERIOD}"),
            );
        }
    }
}

fn metric_spec(spec: &MetricSpec, path: &Path, errors: &mut Errors) {
    let types = &["ContainerResource", "External", "Object", "Pods", "Resource"];
    if spec.type_.is_empty() {
        errors.required(&path.child("type"), "must specify a metric source type");
    }
    errors.one_of(&path.child("type"), Some(&spec.type_), types);
    let given: [(_, _, bool); 5] = [
        ("Object", "object", spec.object.is_some()),
        ("External", "external", spec.external.is_some()),
        ("Pods", "pods", spec.pods.is_some()),
        ("Resource", "resource", spec.resource.is_some()),
        (
            "ContainerResource",
            "containerResource",
            spec.container_resource.is_some(),
        ),
    ];
    // Only the first is looked into: the others may not be there.
    match given
        .iter()
        .find(|(.., is_given)| *is_given)
        .map(|(_, field, _)| *field)
    {
        Some("object") => each(spec.object.as_ref(), &path.child("object"), errors, object),
        Some("external") => each(spec.external.as_ref(), &path.child("external"), errors, external),
        Some("pods") => each(spec.pods.as_ref(), &path.child("pods"), errors, pods),
        Some("resource") => each(spec.resource.as_ref(), &path.child("resource"), errors, resource),
        Some(_) => container_resource(spec, &path.child("containerResource"), errors),
        None => {}
    }
    for (type_, field, is_given) in given {
        if spec.type_ == type_ && !is_given {
            errors.required(
                &path.child(field),
                "must populate information for the given metric source",
            );
        } else if spec.type_ != type_ && is_given {
            errors.forbidden(&path.child(field), "must populate the given metric source only");
        }
    }
}

fn each<T>(source: Option<&T>, path: &Path, errors: &mut Errors, check: fn(&T, &Path, &mut Errors)) {
    if let Some(source) = source {
        check(source, path, errors);
    }
}

fn object(source: &ObjectMetricSource, path: &Path, errors: &mut Errors) {
    let described = &source.described_object;
    reference(&described.kind, &described.name, &path.child("describedObject"), errors);
    let target_path = path.child("target");
    metric(&source.metric, &source.target, path, errors);
    if source.target.value.is_none() && source.target.average_value.is_none() {
        errors.required(
            &target_path.child("averageValue"),
            "must set either a target value or averageValue",
        );
    }
}

fn external(source: &ExternalMetricSource, path: &Path, errors: &mut Errors) {
    metric(&source.metric, &source.target, path, errors);
    let target_path = path.child("target");
    match (&source.target.value, &source.target.average_value) {
        (None, None) => errors.required(
            &target_path.child("averageValue"),
            "must set either a target value for metric or a per-pod target",
        ),
        (Some(_), Some(_)) => errors.forbidden(
            &target_path.child("value"),
            "may not set both a target value for metric and a per-pod target",
        ),
        _ => {}
    }
}

fn pods(source: &PodsMetricSource, path: &Path, errors: &mut Errors) {
    metric(&source.metric, &source.target, path, errors);
    if source.target.average_value.is_none() {
        errors.required(
            &path.child("target.averageValue"),
            "must specify a positive target averageValue",
        );
    }
}

fn resource(source: &ResourceMetricSource, path: &Path, errors: &mut Errors) {
    if source.name.is_empty() {
        errors.required(&path.child("name"), "must specify a resource name");
    }
    resource_target(&source.target, &path.child("target"), errors);
}

fn container_resource(spec: &MetricSpec, path: &Path, errors: &mut Errors) {
    let Some(source) = &spec.container_resource else {
        return;
    };
    if source.name.is_empty() {
        errors.required(&path.child("name"), "must specify a resource name");
    } else {
        resources::container_name(&source.name, &path.child("name"), errors);
    }
    if source.container.is_empty() {
        errors.required(&path.child("container"), "must specify a container");
    } else {
        errors.check(&path.child("container"), &source.container, names::dns_label);
    }
    resource_target(&source.target, &path.child("target"), errors);
}

fn resource_target(target: &MetricTarget, path: &Path, errors: &mut Errors) {
    metric_target(target, path, errors);
    match (target.average_utilization, &target.average_value) {
        (None, None) => errors.required(
            &path.child("averageUtilization"),
            "must set either a target raw value or a target utilization",
        ),
        (Some(_), Some(_)) => errors.forbidden(
            &path.child("averageValue"),
            "may not set both a target raw value and a target utilization",
        ),
        _ => {}
    }
}

fn metric(metric: &MetricIdentifier, target: &MetricTarget, path: &Path, errors: &mut Errors) {
    let name = path.child("metric.name");
    if metric.name.is_empty() {
        errors.required(&name, "must specify a metric name");
    } else {
        errors.check(&name, &metric.name, names::path_segment);
    }
    metric_target(target, &path.child("target"), errors);
}

fn metric_target(target: &MetricTarget, path: &Path, errors: &mut Errors) {
    let type_path = path.child("type");
    if target.type_.is_empty() {
        errors.required(&type_path, "must specify a metric target type");
    }
    if !matches!(target.type_.as_str(), "Utilization" | "Value" | "AverageValue") {
        errors.invalid(
            &type_path,
            target.type_.as_str(),
            "must be either Utilization, Value, or AverageValue",
        );
    }
    for (field, value) in [("value", &target.value), ("averageValue", &target.average_value)] {
        if let Some(Written(written)) = value
            && !written.parse::<Quantity>().is_ok_and(Quantity::is_positive)
        {
            errors.invalid(&path.child(field), written.as_str(), "must be positive");
        }
    }
    if let Some(percent) = target.average_utilization.filter(|percent| *percent < 1) {
        errors.invalid(&path.child("averageUtilization"), percent, "must be greater than 0");
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::testing::{create, mistakes, update};

    fn autoscaler() -> Value {
        json!({
            "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
            "metadata": {"name": "h", "namespace": "a"},
            "spec": {"scaleTargetRef": {"kind": "Deployment", "name": "web", "apiVersion": "apps/v1"}, "maxReplicas": 3},
        })
    }

    #[test]
    fn an_autoscaler_goes_by_the_processor_unless_said_otherwise() {
        let mut object = autoscaler();
        object["spec"]["behavior"] = json!({});
        let stored = create("autoscaling", "HorizontalPodAutoscaler", object).unwrap();
        assert_eq!(stored["spec"]["minReplicas"], 1);
        assert_eq!(
            stored["spec"]["metrics"],
            json!([{"type": "Resource", "resource": {
                "name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80},
            }}])
        );
        assert_eq!(
            stored["spec"]["behavior"],
            json!({
                "scaleUp": {
                    "stabilizationWindowSeconds": 0, "selectPolicy": "Max",
                    "policies": [
                        {"type": "Pods", "value": 4, "periodSeconds": 15},
                        {"type": "Percent", "value": 100, "periodSeconds": 15},
                    ],
                },
                "scaleDown": {
                    "selectPolicy": "Max", "policies": [{"type": "Percent", "value": 100, "periodSeconds": 15}],
                },
            })
        );
    }

    #[test]
    fn mistakes_in_an_autoscaler_are_told_in_upstreams_words() {
        mistakes(
            "autoscaling",
            "HorizontalPodAutoscaler",
            &autoscaler(),
            &[
                (
                    "/spec/minReplicas",
                    json!(0),
                    &["spec.minReplicas: Invalid value: 0: must be greater than or equal to 1"],
                ),
                (
                    "/spec/minReplicas",
                    json!(4),
                    &["spec.maxReplicas: Invalid value: 3: must be greater than or equal to `minReplicas`"],
                ),
                (
                    "/spec/scaleTargetRef/name",
                    json!(""),
                    &["spec.scaleTargetRef.name: Required value"],
                ),
                (
                    "/spec/metrics",
                    json!([
                        {"type": "Resource", "pods": {"metric": {"name": "q"}, "target": {"type": "AverageValue"}}},
                        {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "x", "averageValue": "0"}}},
                    ]),
                    &[
                        "spec.metrics[0].pods.target.averageValue: Required value: must specify a positive target \
                         averageValue",
                        "spec.metrics[0].pods: Forbidden: must populate the given metric source only",
                        "spec.metrics[0].resource: Required value: must populate information for the given metric \
                         source",
                        "spec.metrics[1].resource.target.type: Invalid value: \"x\": must be either Utilization, \
                         Value, or AverageValue",
                        "spec.metrics[1].resource.target.averageValue: Invalid value: \"0\": must be positive",
                    ],
                ),
                (
                    "/spec/behavior",
                    json!({"scaleUp": {"policies": [{"type": "x", "value": 0, "periodSeconds": 1801}]}}),
                    &[
                        "spec.behavior.scaleUp.policies[0].type: Unsupported value: \"x\": supported values: \
                         \"Percent\", \"Pods\"",
                        "spec.behavior.scaleUp.policies[0].value: Invalid value: 0: must be greater than zero",
                        "spec.behavior.scaleUp.policies[0].periodSeconds: Invalid value: 1801: must be less than or \
                         equal to 1800",
                    ],
                ),
            ],
        );
    }

    #[test]
    fn one_version_changes_what_the_other_made() {
        let stored = create("autoscaling", "HorizontalPodAutoscaler", autoscaler()).unwrap();
        let mut old = stored.clone();
        crate::convert(&mut old, "autoscaling/v1");
        assert_eq!(old["spec"]["targetCPUUtilizationPercentage"], 80);
        old["spec"]["maxReplicas"] = json!(0);
        let errors = update("autoscaling", "HorizontalPodAutoscaler", old, &stored, "").unwrap_err();
        assert_eq!(errors[0], "spec.maxReplicas: Invalid value: 0: must be greater than 0");
    }
}
