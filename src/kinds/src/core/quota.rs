//! What a namespace may use, and what each thing in it may.

use std::collections::BTreeSet;

use bosun_api::{
    core::{LimitRange, LimitRangeItem, ResourceQuota, ResourceQuotaSpec, ScopedResourceSelectorRequirement},
    field::{Errors, OrEmpty, Path},
    pod::validate::resources::{self, Amounts},
    quantity::Quantity,
};

use crate::kind::Kind;

pub(crate) struct Quotas;

impl Kind for Quotas {
    type Object = ResourceQuota;

    const GENERATION: bool = false;

    fn validate(quota: &ResourceQuota, errors: &mut Errors) {
        let Some(spec) = &quota.spec else { return };
        let path = Path::root("spec");
        amounts(spec.hard.or_empty(), &path.child("hard"), errors);
        scopes(spec, &path.child("scopes"), errors);
        let Some(selector) = &spec.scope_selector else { return };
        let path = path.child("scopeSelector.matchExpressions");
        for requirement in selector.match_expressions.or_empty() {
            scope_requirement(requirement, &path, errors);
        }
        let names: Vec<_> = selector
            .match_expressions
            .or_empty()
            .iter()
            .map(|requirement| requirement.scope_name.as_str())
            .collect();
        fitting(&names, spec, &path, errors);
    }

    fn validate_update(quota: &ResourceQuota, old: &ResourceQuota, errors: &mut Errors) {
        Self::validate(quota, errors);
        let scopes = |quota: &ResourceQuota| -> BTreeSet<String> {
            let spec = quota.spec.as_ref();
            spec.map_or(&[][..], |spec| spec.scopes.or_empty())
                .iter()
                .cloned()
                .collect()
        };
        if scopes(quota) != scopes(old) {
            errors.invalid_object(
                &Path::root("spec.scopes"),
                &quota.spec.as_ref().map(|spec| spec.scopes.or_empty()),
                "field is immutable",
            );
        }
    }

    fn validate_part(quota: &ResourceQuota, _: &ResourceQuota, _: &str, errors: &mut Errors) {
        let Some(status) = &quota.status else { return };
        amounts(status.hard.or_empty(), &Path::root("status.hard"), errors);
        amounts(status.used.or_empty(), &Path::root("status.used"), errors);
    }
}

fn amounts(amounts: &Amounts, path: &Path, errors: &mut Errors) {
    for (name, amount) in amounts {
        let path = path.key(name);
        resources::name(name, &path, errors);
        if name == "storage" {
            errors.invalid(&path, name.as_str(), "must be a standard resource for quotas");
        }
        resources::quantity(name, amount, &path, errors);
    }
}

/// Scopes of which an object is in one or in the other.
const CONFLICTS: [(&str, &str); 2] = [("BestEffort", "NotBestEffort"), ("Terminating", "NotTerminating")];

fn scopes(spec: &ResourceQuotaSpec, path: &Path, errors: &mut Errors) {
    let scopes: Vec<_> = spec.scopes.or_empty().iter().map(String::as_str).collect();
    fitting(&scopes, spec, path, errors);
}

/// The scopes must be known, fit what is counted, and not exclude each other.
fn fitting(scopes: &[&str], spec: &ResourceQuotaSpec, path: &Path, errors: &mut Errors) {
    for scope in scopes {
        if !is_scope(scope) {
            errors.invalid_object(path, &scopes, "unsupported scope");
        }
        for name in spec.hard.or_empty().keys() {
            if !name.contains('/') && !fits(scope, name) {
                errors.invalid_object(path, &scopes, "unsupported scope applied to resource");
            }
        }
    }
    for (one, other) in CONFLICTS {
        if scopes.contains(&one) && scopes.contains(&other) {
            errors.invalid_object(path, &scopes, "conflicting scopes");
        }
    }
}

fn is_scope(scope: &str) -> bool {
    matches!(
        scope,
        "Terminating"
            | "NotTerminating"
            | "BestEffort"
            | "NotBestEffort"
            | "PriorityClass"
            | "CrossNamespacePodAffinity"
            | "VolumeAttributesClass"
    )
}

fn fits(scope: &str, resource: &str) -> bool {
    match scope {
        "BestEffort" => resource == "pods",
        "VolumeAttributesClass" => matches!(resource, "persistentvolumeclaims" | "requests.storage"),
        _ => matches!(
            resource,
            "cpu" | "memory" | "limits.cpu" | "limits.memory" | "pods" | "requests.cpu" | "requests.memory"
        ),
    }
}

fn scope_requirement(requirement: &ScopedResourceSelectorRequirement, path: &Path, errors: &mut Errors) {
    let operator = requirement.operator.as_str();
    let scope = requirement.scope_name.as_str();
    if !matches!(scope, "PriorityClass" | "VolumeAttributesClass") && is_scope(scope) && operator != "Exists" {
        errors.invalid(
            &path.child("operator"),
            operator,
            "must be 'Exist' when scope is any of ResourceQuotaScopeTerminating, ResourceQuotaScopeNotTerminating, \
             ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or \
             ResourceQuotaScopeCrossNamespacePodAffinity",
        );
    }
    let values = requirement.values.or_empty();
    match operator {
        "In" | "NotIn" if values.is_empty() => errors.required(
            &path.child("values"),
            "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector",
        ),
        "Exists" | "DoesNotExist" if !values.is_empty() => errors.invalid(
            &path.child("values"),
            values,
            "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector",
        ),
        "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
        _ => errors.invalid(&path.child("operator"), operator, "not a valid selector operator"),
    }
}

pub(crate) struct Limits;

impl Kind for Limits {
    type Object = LimitRange;

    const STATUS: bool = false;
    const GENERATION: bool = false;

    fn default(range: &mut LimitRange) {
        let items = range.spec.iter_mut().flat_map(|spec| &mut spec.limits);
        for item in items.filter(|item| item.type_ == "Container") {
            // What a container is limited to, and then what it asks for, follows from what is known.
            fill(&mut item.default, item.max.as_ref());
            fill(&mut item.default_request, item.default.as_ref());
            fill(&mut item.default_request, item.min.as_ref());
        }
    }

    fn validate(range: &LimitRange, errors: &mut Errors) {
        let limits = range.spec.as_ref().map_or(&[][..], |spec| &spec.limits);
        let path = Path::root("spec.limits");
        for (index, item) in limits.iter().enumerate() {
            let path = path.index(index);
            let type_path = path.child("type");
            errors.check(&type_path, &item.type_, bosun_api::names::qualified);
            if !item.type_.contains('/')
                && !matches!(item.type_.as_str(), "Pod" | "Container" | "PersistentVolumeClaim")
            {
                errors.invalid(
                    &type_path,
                    item.type_.as_str(),
                    "must be a standard limit type or fully qualified",
                );
            }
            if limits[..index].iter().any(|other| other.type_ == item.type_) {
                errors.duplicate(&type_path, item.type_.as_str());
            }
            limit(item, &path, errors);
        }
    }
}

fn fill(amounts: &mut Option<Amounts>, from: Option<&Amounts>) {
    for (name, amount) in from.into_iter().flatten() {
        let amounts = amounts.get_or_insert_default();
        amounts.entry(name.clone()).or_insert_with(|| amount.clone());
    }
}

fn limit(item: &LimitRangeItem, path: &Path, errors: &mut Errors) {
    let is_pod = item.type_ == "Pod";
    for (field, amounts) in [
        ("max", &item.max),
        ("min", &item.min),
        ("default", &item.default),
        ("defaultRequest", &item.default_request),
        ("maxLimitRequestRatio", &item.max_limit_request_ratio),
    ] {
        let path = path.child(field);
        if is_pod && field.starts_with("default") && amounts.is_given() {
            errors.forbidden(&path, "may not be specified when `type` is 'Pod'");
            continue;
        }
        for name in amounts.or_empty().keys() {
            limited_name(&item.type_, name, &path.key(name), errors);
        }
    }
    let storage = |amounts: &Option<Amounts>| amounts.or_empty().contains_key("storage");
    if item.type_ == "PersistentVolumeClaim" && !storage(&item.min) && !storage(&item.max) {
        errors.required(
            &path.child("limits"),
            "either minimum or maximum storage value is required, but neither was provided",
        );
    }
    let all = [
        &item.min,
        &item.max,
        &item.default,
        &item.default_request,
        &item.max_limit_request_ratio,
    ];
    let names: BTreeSet<_> = all.iter().flat_map(|amounts| amounts.or_empty().keys()).collect();
    for name in names {
        order(item, name, path, errors);
    }
}

fn limited_name(type_: &str, name: &str, path: &Path, errors: &mut Errors) {
    match type_ {
        "Pod" | "Container" => resources::container_name(name, path, errors),
        _ => resources::name(name, path, errors),
    }
}

/// Of one resource, the least, what is asked for, what is allowed and the most must not be the wrong way round.
fn order(item: &LimitRangeItem, name: &str, path: &Path, errors: &mut Errors) {
    let of = |amounts: &Option<Amounts>| {
        let written = amounts.or_empty().get(name)?;
        Quantity::of(written).ok()
    };
    let least = of(&item.min);
    let most = of(&item.max);
    let (default, request) = match item.type_.as_str() {
        "Pod" => (None, None),
        _ => (of(&item.default), of(&item.default_request)),
    };
    let ratio = of(&item.max_limit_request_ratio);
    for (lower, upper, field, shows_upper, lower_is, upper_is) in [
        (least, most, "min", false, "min", "max"),
        (least, request, "defaultRequest", true, "min", "default request"),
        (request, most, "defaultRequest", false, "default request", "max"),
        (
            request,
            default,
            "defaultRequest",
            false,
            "default request",
            "default limit",
        ),
        (least, default, "default", false, "min", "default"),
        (default, most, "default", true, "default", "max"),
    ] {
        if let (Some(lower), Some(upper)) = (lower, upper)
            && lower > upper
        {
            let value = if shows_upper { upper } else { lower };
            errors.invalid(
                &path.child(field).key(name),
                value.to_string(),
                format!("{lower_is} value {lower} is greater than {upper_is} value {upper}"),
            );
        }
    }
    if let Some(ratio) = ratio {
        let path = path.child("maxLimitRequestRatio").key(name);
        if ratio < Quantity::from_milli(1000) {
            errors.invalid(&path, ratio.to_string(), format!("ratio {ratio} is less than 1"));
        }
        if let (Some(least), Some(most)) = (least.filter(|least| least.is_positive()), most) {
            #[expect(clippy::cast_precision_loss, reason = "the ratio is shown, not reckoned with")]
            let widest = most.milli_value() as f64 / least.milli_value() as f64;
            #[expect(clippy::cast_precision_loss, reason = "ratios are small")]
            if ratio.milli_value() as f64 / 1000.0 > widest {
                errors.invalid(
                    &path,
                    ratio.to_string(),
                    format!("ratio {ratio} is greater than max/min = {widest:.6}"),
                );
            }
        }
    }
    if let (Some(default), Some(request)) = (default, request)
        && !resources::may_differ(name)
        && default != request
    {
        errors.invalid(
            &path.child("defaultRequest").key(name),
            request.to_string(),
            format!("default value {default} must equal to defaultRequest value {request} in {name}"),
        );
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::testing::{changes, create, mistakes};

    #[test]
    fn a_quota_limits_what_can_be_counted() {
        let quota = json!({
            "apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "q", "namespace": "a"},
            "spec": {"hard": {"pods": "10", "count/jobs.batch": "3"}},
        });
        mistakes(
            "",
            "ResourceQuota",
            &quota,
            &[
                (
                    "/spec/hard/pods",
                    json!("1.5"),
                    &["spec.hard[pods]: Invalid value: \"1500m\": must be an integer"],
                ),
                (
                    "/spec/hard/pots",
                    json!("1"),
                    &["spec.hard[pots]: Invalid value: \"pots\": must be a standard resource type or fully qualified"],
                ),
                (
                    "/spec/scopes",
                    json!(["BestEffort", "NotBestEffort"]),
                    &["spec.scopes: Invalid value: [\"BestEffort\",\"NotBestEffort\"]: conflicting scopes"],
                ),
                (
                    "/spec/scopeSelector",
                    json!({"matchExpressions": [{"scopeName": "PriorityClass", "operator": "In"}]}),
                    &[
                        "spec.scopeSelector.matchExpressions.values: Required value: must be at least one value when \
                         `operator` is 'In' or 'NotIn' for scope selector",
                    ],
                ),
            ],
        );
        changes(
            "",
            "ResourceQuota",
            &quota,
            &[
                ("/spec/hard/pods", json!("11"), &[]),
                (
                    "/spec/scopes",
                    json!(["BestEffort"]),
                    &["spec.scopes: Invalid value: [\"BestEffort\"]: field is immutable"],
                ),
            ],
        );
    }

    #[test]
    fn limits_of_containers_fill_each_other() {
        let range = json!({
            "apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "l", "namespace": "a"},
            "spec": {"limits": [{"type": "Container", "max": {"cpu": "2"}, "min": {"memory": "1Mi"}}]},
        });
        let stored = create("", "LimitRange", range.clone()).unwrap();
        assert_eq!(
            stored["spec"]["limits"][0],
            json!({
                "type": "Container", "max": {"cpu": "2"}, "min": {"memory": "1Mi"}, "default": {"cpu": "2"},
                "defaultRequest": {"cpu": "2", "memory": "1Mi"},
            })
        );
        mistakes(
            "",
            "LimitRange",
            &range,
            &[
                (
                    "/spec/limits/0/min",
                    json!({"cpu": "3"}),
                    &[
                        "spec.limits[0].min[cpu]: Invalid value: \"3\": min value 3 is greater than max value 2",
                        "spec.limits[0].defaultRequest[cpu]: Invalid value: \"2\": min value 3 is greater than \
                         default request value 2",
                        "spec.limits[0].default[cpu]: Invalid value: \"3\": min value 3 is greater than default \
                         value 2",
                    ],
                ),
                (
                    "/spec/limits/-",
                    json!({"type": "Container"}),
                    &["spec.limits[1].type: Duplicate value: \"Container\""],
                ),
                (
                    "/spec/limits/-",
                    json!({"type": "Pod", "default": {"cpu": "1"}}),
                    &["spec.limits[1].default: Forbidden: may not be specified when `type` is 'Pod'"],
                ),
                (
                    "/spec/limits/0",
                    json!({"type": "PersistentVolumeClaim"}),
                    &[
                        "spec.limits[0].limits: Required value: either minimum or maximum storage value is required, \
                         but neither was provided",
                    ],
                ),
            ],
        );
    }
}
