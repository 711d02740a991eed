//! Label selectors: whether one is valid, what it matches, how it is written on one line.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};

use crate::{
    field::{Errors, OrEmpty, Path},
    names,
};

/// Labels by their keys.
pub type Labels = BTreeMap<String, String>;

/// Checks keys and values of labels.
pub fn validate_labels(labels: &Labels, path: &Path, errors: &mut Errors) {
    for (key, value) in labels {
        errors.check(path, key, names::qualified);
        errors.check(path, value, names::label_value);
    }
}

/// Checks a selector; `None` selects nothing and is valid.
pub fn validate(selector: Option<&LabelSelector>, path: &Path, errors: &mut Errors) {
    let Some(selector) = selector else { return };
    validate_labels(selector.match_labels.or_empty(), &path.child("matchLabels"), errors);
    for (path, expression) in path
        .child("matchExpressions")
        .each(selector.match_expressions.or_empty())
    {
        let values = path.child("values");
        match expression.operator.as_str() {
            "In" | "NotIn" if !expression.values.is_given() => {
                errors.required(&values, "must be specified when `operator` is 'In' or 'NotIn'");
            }
            "Exists" | "DoesNotExist" if expression.values.is_given() => {
                errors.forbidden(
                    &values,
                    "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
                );
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            other => errors.invalid(&path.child("operator"), other, "not a valid selector operator"),
        }
        errors.check(&path.child("key"), &expression.key, names::qualified);
        for (path, value) in values.each(expression.values.or_empty()) {
            errors.check(&path, value, names::label_value);
        }
    }
}

/// Whether a selector says nothing, so that it matches everything.
pub fn is_empty(selector: &LabelSelector) -> bool {
    !selector.match_labels.is_given() && !selector.match_expressions.is_given()
}

/// Whether the selector matches; one that isn't valid matches nothing.
pub fn matches(selector: &LabelSelector, labels: &Labels) -> bool {
    let met = |expression: &LabelSelectorRequirement| {
        let value = labels.get(&expression.key);
        let listed = value.is_some_and(|value| expression.values.or_empty().contains(value));
        match expression.operator.as_str() {
            "In" => listed,
            "NotIn" => !listed,
            "Exists" => value.is_some(),
            "DoesNotExist" => value.is_none(),
            _ => false,
        }
    };
    includes(labels, selector.match_labels.or_empty()) && selector.match_expressions.or_empty().iter().all(met)
}

/// Whether `labels` has all of `wanted`.
pub fn includes(labels: &Labels, wanted: &Labels) -> bool {
    wanted.iter().all(|(key, value)| labels.get(key) == Some(value))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn selector(json: Value) -> LabelSelector {
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn a_selector_matches_what_meets_all_of_it() {
        let labels: Labels = [("app".to_owned(), "web".to_owned())].into();
        for (written, expected) in [
            (json!({}), true),
            (json!({"matchLabels": {"app": "web"}}), true),
            (json!({"matchLabels": {"app": "db"}}), false),
            (
                json!({"matchExpressions": [{"key": "app", "operator": "In", "values": ["a", "web"]}]}),
                true,
            ),
            (
                json!({"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["web"]}]}),
                false,
            ),
            (
                json!({"matchExpressions": [{"key": "tier", "operator": "NotIn", "values": ["web"]}]}),
                true,
            ),
            (
                json!({"matchExpressions": [{"key": "app", "operator": "Exists"}]}),
                true,
            ),
            (
                json!({"matchExpressions": [{"key": "app", "operator": "DoesNotExist"}]}),
                false,
            ),
            (json!({"matchExpressions": [{"key": "app", "operator": "Like"}]}), false),
        ] {
            assert_eq!(matches(&selector(written.clone()), &labels), expected, "{written}");
        }
    }

    #[test]
    fn what_is_wrong_with_a_selector_is_named() {
        let mut errors = Errors::default();
        let written = json!({
            "matchLabels": {"a/b/c": "-"},
            "matchExpressions": [
                {"key": "a", "operator": "In"}, {"key": "b", "operator": "Exists", "values": ["c"]},
                {"key": "", "operator": "Like"},
            ],
        });
        validate(Some(&selector(written)), &Path::root("spec.selector"), &mut errors);
        let errors = errors.into_vec();
        let fields: Vec<_> = errors.iter().map(|error| error.field.as_str()).collect();
        assert_eq!(
            fields,
            [
                "spec.selector.matchLabels",
                "spec.selector.matchLabels",
                "spec.selector.matchExpressions[0].values",
                "spec.selector.matchExpressions[1].values",
                "spec.selector.matchExpressions[2].operator",
                "spec.selector.matchExpressions[2].key",
            ]
        );
    }
}
