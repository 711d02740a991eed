//! By which rules a job fails or succeeds early (KEP-3329, KEP-3998).

use bosun_api::{
    field::{Errors, OrEmpty, Path, Problem},
    names,
};
use k8s_openapi::api::batch::v1::{
    JobSpec, PodFailurePolicy, PodFailurePolicyOnExitCodesRequirement, PodFailurePolicyOnPodConditionsPattern,
    PodFailurePolicyRule, SuccessPolicy, SuccessPolicyRule,
};

use crate::template;

/// What is wrong with the rules by which a failed pod counts.
pub(super) fn failure_policy(policy: &PodFailurePolicy, spec: &JobSpec, path: &Path, errors: &mut Errors) {
    errors.too_many(path, policy.rules.len(), 20);
    for (path, rule) in path.each(&policy.rules) {
        failure_rule(rule, spec, &path, errors);
    }
}

fn failure_rule(rule: &PodFailurePolicyRule, spec: &JobSpec, path: &Path, errors: &mut Errors) {
    let actions = &["Count", "FailIndex", "FailJob", "Ignore"];
    required_of(&rule.action, &path.child("action"), actions, errors);
    if rule.action == "FailIndex" && spec.backoff_limit_per_index.is_none() {
        errors.invalid(
            &path.child("action"),
            rule.action.as_str(),
            "requires the backoffLimitPerIndex to be set",
        );
    }
    if let Some(codes) = &rule.on_exit_codes {
        exit_codes(codes, spec, &path.child("onExitCodes"), errors);
    }
    let conditions = rule.on_pod_conditions.or_empty();
    if !conditions.is_empty() {
        on_conditions(conditions, &path.child("onPodConditions"), errors);
    }
    let detail = match (&rule.on_exit_codes, conditions) {
        (Some(_), [_, ..]) => "specifying both OnExitCodes and OnPodConditions is not supported",
        (None, []) => "specifying one of OnExitCodes and OnPodConditions is required",
        _ => return,
    };
    errors.push(path, Problem::InvalidUnshown(detail.to_owned()));
}

/// As `required_one_of`, but naming the values even where there is none.
fn required_of(value: &str, path: &Path, values: &[&'static str], errors: &mut Errors) {
    if value.is_empty() {
        let shown: Vec<_> = values.iter().map(|value| format!("{value:?}")).collect();
        errors.required(path, format!("valid values: [{}]", shown.join(" ")));
    } else {
        errors.one_of(path, Some(value), values);
    }
}

fn on_conditions(patterns: &[PodFailurePolicyOnPodConditionsPattern], path: &Path, errors: &mut Errors) {
    errors.too_many(path, patterns.len(), 20);
    for (path, pattern) in path.each(patterns) {
        errors.check(&path.child("type"), &pattern.type_, names::qualified);
        let values = &["False", "True", "Unknown"];
        required_of(pattern.status.or_empty(), &path.child("status"), values, errors);
    }
}

fn exit_codes(codes: &PodFailurePolicyOnExitCodesRequirement, spec: &JobSpec, path: &Path, errors: &mut Errors) {
    required_of(&codes.operator, &path.child("operator"), &["In", "NotIn"], errors);
    if let Some(name) = &codes.container_name {
        let pod = template::spec(&spec.template);
        let known = pod.is_some_and(|pod| {
            let init = pod.init_containers.or_empty();
            pod.containers
                .iter()
                .chain(init)
                .any(|container| container.name == *name)
        });
        if !known {
            errors.invalid(
                &path.child("containerName"),
                name.as_str(),
                "must be one of the container or initContainer names in the pod template",
            );
        }
    }
    let path = path.child("values");
    if codes.values.is_empty() {
        errors.invalid_object(&path, &codes.values, "at least one value is required");
    }
    errors.too_many(&path, codes.values.len(), 255);
    for (index, value) in codes.values.iter().enumerate() {
        let path = path.index(index);
        if codes.operator == "In" && *value == 0 {
            errors.invalid(&path, *value, "must not be 0 for the In operator");
        }
        if codes.values[..index].contains(value) {
            errors.duplicate(&path, *value);
        }
    }
    if !codes.values.is_sorted() {
        errors.invalid_object(&path, &codes.values, "must be ordered");
    }
}

/// What is wrong with the rules by which a job has succeeded before all of it is done.
pub(super) fn success_policy(policy: &SuccessPolicy, spec: &JobSpec, path: &Path, errors: &mut Errors) {
    if policy.rules.is_empty() {
        errors.required(
            path,
            "at least one rules must be specified when the successPolicy is specified",
        );
    }
    errors.too_many(path, policy.rules.len(), 20);
    for (path, rule) in path.each(&policy.rules) {
        success_rule(rule, spec.completions.unwrap_or_default(), &path, errors);
    }
}

fn success_rule(rule: &SuccessPolicyRule, completions: i32, path: &Path, errors: &mut Errors) {
    let mut listed = None;
    if let Some(indexes) = &rule.succeeded_indexes {
        let path = path.child("succeededIndexes");
        if indexes.len() > 64 << 10 {
            errors.too_long(&path, 64 << 10);
        }
        match count_indexes(indexes, completions) {
            Ok(count) => listed = Some(count),
            Err(detail) => errors.invalid(
                &path,
                indexes.as_str(),
                format!("error parsing succeededIndexes: {detail}"),
            ),
        }
    }
    let Some(count) = rule.succeeded_count else {
        if rule.succeeded_indexes.is_none() {
            errors.required(
                path,
                "at least one of succeededCount or succeededIndexes must be specified",
            );
        }
        return;
    };
    let path = path.child("succeededCount");
    errors.at_least(&path, Some(count), 0);
    if count > completions {
        errors.invalid(
            &path,
            count,
            format!("must be less than or equal to {completions} (the number of specified completions)"),
        );
    }
    if let Some(listed) = listed.filter(|listed| count > *listed) {
        errors.invalid(
            &path,
            count,
            format!(
                "must be less than or equal to {listed} (the number of indexes in the specified succeededIndexes \
                 field)"
            ),
        );
    }
}

/// How many numbers a list such as `1,3-5` has.
fn count_indexes(text: &str, completions: i32) -> Result<i32, String> {
    let number = |text: &str| -> Result<i32, String> {
        let number: i32 = text
            .parse()
            .map_err(|_| format!("cannot convert string to integer for index: {text:?}"))?;
        if number >= completions {
            return Err(format!("too large index: {text:?}"));
        }
        Ok(number)
    };
    if text.is_empty() {
        return Ok(0);
    }
    let mut count = 0;
    let mut last: Option<i32> = None;
    for part in text.split(',') {
        let (first, end) = match part.split('-').collect::<Vec<_>>().as_slice() {
            [one] => (number(one)?, number(one)?),
            [first, end] => (number(first)?, number(end)?),
            _ => {
                return Err(format!(
                    "the fragment {part:?} violates the requirement that an index interval can have at most two parts separated by '-'"
                ));
            }
        };
        if last.is_some_and(|last| first <= last) {
            return Err(format!(
                "non-increasing order, previous: {}, current: {first}",
                last.unwrap_or_default()
            ));
        }
        if first > end || (first == end && part.contains('-')) {
            return Err(format!("non-increasing order, previous: {first}, current: {end}"));
        }
        count += end - first + 1;
        last = Some(end);
    }
    Ok(count)
}
