//! Templates of pods, as the kinds that make pods hold them.

use bosun_api::{
    core::PodTemplateSpec,
    field::{Errors, OrEmpty, Path},
    pod::validate,
    selector::{self, Labels},
};
use k8s_openapi::{
    api::core::v1::PodSpec,
    apimachinery::pkg::{apis::meta::v1::LabelSelector, util::intstr::IntOrString},
};

const MISMATCH: &str = "`selector` does not match template `labels`";

static NO_LABELS: Labels = Labels::new();

/// The labels of a template's pods.
pub(crate) fn labels(template: &PodTemplateSpec) -> &Labels {
    template
        .metadata
        .as_ref()
        .map_or(&NO_LABELS, |metadata| metadata.labels.or_empty())
}

/// What a template says of its pods.
pub(crate) fn spec(template: &PodTemplateSpec) -> Option<&PodSpec> {
    template.spec.as_ref()
}

/// A selector that there must be, that must select something, and that must select the template's own pods.
pub(crate) fn required_selector(
    selector: &LabelSelector,
    template: &PodTemplateSpec,
    whose: &str,
    path: &Path,
    errors: &mut Errors,
) {
    let selector_path = path.child("selector");
    selector::validate(Some(selector), &selector_path, errors);
    if selector::is_empty(selector) {
        errors.invalid_object(
            &selector_path,
            selector,
            format!("empty selector is invalid for {whose}"),
        );
    }
    matches(selector, template, &path.child("template"), errors);
}

/// The template's pods must be selected.
pub(crate) fn matches(selector: &LabelSelector, template: &PodTemplateSpec, path: &Path, errors: &mut Errors) {
    if !selector::matches(selector, labels(template)) {
        mismatch(template, path, errors);
    }
}

/// As [`matches`], for the selector of old that only knows labels.
pub(crate) fn includes(selector: &Labels, template: &PodTemplateSpec, path: &Path, errors: &mut Errors) {
    if !selector::includes(labels(template), selector) {
        mismatch(template, path, errors);
    }
}

fn mismatch(template: &PodTemplateSpec, path: &Path, errors: &mut Errors) {
    errors.invalid_object(&path.child("metadata.labels"), labels(template), MISMATCH);
}

/// A template whose pods run until they are told to stop.
pub(crate) fn lasting(template: &PodTemplateSpec, whose: &str, path: &Path, errors: &mut Errors) {
    validate::template(template, path, errors);
    always(template, whose, path, errors);
}

/// Pods that are replaced when they end are restarted when their containers do.
pub(crate) fn always(template: &PodTemplateSpec, whose: &str, path: &Path, errors: &mut Errors) {
    let Some(spec) = &template.spec else { return };
    let path = path.child("spec");
    errors.one_of(
        &path.child("restartPolicy"),
        spec.restart_policy.as_deref(),
        &["Always"],
    );
    if spec.active_deadline_seconds.is_some() {
        errors.forbidden(
            &path.child("activeDeadlineSeconds"),
            format!("activeDeadlineSeconds in {whose} is not Supported"),
        );
    }
}

/// A number of pods, or a part of them in percent.
pub(crate) fn number_or_percent(value: &IntOrString, path: &Path, errors: &mut Errors) {
    match value {
        IntOrString::Int(number) => errors.at_least(path, Some(*number), 0),
        IntOrString::String(text) => errors.check(path, text, bosun_api::names::percent),
    }
}

/// The number, or that before the percent sign; 0 for neither.
pub(crate) fn amount(value: &IntOrString) -> i64 {
    match value {
        IntOrString::Int(number) => i64::from(*number),
        IntOrString::String(text) => text
            .strip_suffix('%')
            .and_then(|digits| digits.parse().ok())
            .unwrap_or_default(),
    }
}

/// No part is more than the whole.
pub(crate) fn at_most_all(value: &IntOrString, path: &Path, errors: &mut Errors) {
    if let IntOrString::String(text) = value
        && amount(value) > 100
    {
        errors.invalid(path, text.as_str(), "must not be greater than 100%");
    }
}

/// No count in a status is negative, and none exceeds the count of all.
pub(crate) fn counts(counts: &[(&str, Option<i64>)], all: Option<i64>, errors: &mut Errors) {
    let path = Path::root("status");
    for (field, count) in counts {
        errors.at_least(&path.child(field), *count, 0);
    }
    if let Some(all) = all {
        for (field, count) in counts {
            if let Some(count) = count
                && *count > all
            {
                errors.invalid(&path.child(field), *count, "cannot be greater than status.replicas");
            }
        }
    }
}
