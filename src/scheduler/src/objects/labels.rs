//! Labels, and the selectors over them.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::{api::core::v1::NodeSelectorRequirement, apimachinery::pkg::apis::meta::v1::LabelSelector};

/// Labels, sorted by key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Labels(Box<[(Arc<str>, Arc<str>)]>);

impl Labels {
    /// The value under a key.
    pub fn get(&self, key: &str) -> Option<&Arc<str>> {
        let place = self.0.binary_search_by(|(name, _)| (**name).cmp(key)).ok()?;
        Some(&self.0[place].1)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All of them, by key.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (&**key, &**value))
    }
}

impl From<BTreeMap<String, String>> for Labels {
    fn from(map: BTreeMap<String, String>) -> Self {
        Self(map.into_iter().map(|(key, value)| (key.into(), value.into())).collect())
    }
}

/// What a requirement asks of a label.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Operator {
    /// It is there and has one of these values.
    In(Vec<Arc<str>>),
    /// It isn't there, or has none of these values.
    NotIn(Vec<Arc<str>>),
    /// It is there.
    Exists,
    /// It isn't there.
    DoesNotExist,
    /// It is a number greater than this.
    Gt(i64),
    /// It is a number less than this.
    Lt(i64),
    /// Nothing meets it: what was written isn't understood.
    Never,
}

/// One condition on one label.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Requirement {
    /// The label's key.
    pub key: Arc<str>,
    /// What is asked of it.
    pub operator: Operator,
}

impl Requirement {
    fn new(key: &str, operator: &str, values: &[String]) -> Self {
        let listed = || {
            let mut values: Vec<Arc<str>> = values.iter().map(|value| value.as_str().into()).collect();
            values.sort();
            values.dedup();
            values
        };
        let number = || match values {
            [value] => value.parse().ok(),
            _ => None,
        };
        let operator = match operator {
            "In" => Operator::In(listed()),
            "NotIn" => Operator::NotIn(listed()),
            "Exists" => Operator::Exists,
            "DoesNotExist" => Operator::DoesNotExist,
            "Gt" => number().map_or(Operator::Never, Operator::Gt),
            "Lt" => number().map_or(Operator::Never, Operator::Lt),
            _ => Operator::Never,
        };
        Self {
            key: key.into(),
            operator,
        }
    }

    /// A label that has this very value.
    pub fn equals(key: &str, value: &str) -> Self {
        Self {
            key: key.into(),
            operator: Operator::In(vec![value.into()]),
        }
    }

    fn met(&self, value: Option<&str>) -> bool {
        let listed = |values: &[Arc<str>]| value.is_some_and(|value| values.iter().any(|one| **one == *value));
        let number = || value.and_then(|value| value.parse::<i64>().ok());
        match &self.operator {
            Operator::In(values) => listed(values),
            Operator::NotIn(values) => !listed(values),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
            Operator::Gt(bound) => number().is_some_and(|number| number > *bound),
            Operator::Lt(bound) => number().is_some_and(|number| number < *bound),
            Operator::Never => false,
        }
    }
}

/// Requirements that must all be met; without any, everything matches.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Selector(Vec<Requirement>);

impl Selector {
    /// What matches nothing.
    pub fn nothing() -> Self {
        Self::all_of([Requirement {
            key: "".into(),
            operator: Operator::Never,
        }])
    }

    /// All of these requirements.
    pub fn all_of(requirements: impl IntoIterator<Item = Requirement>) -> Self {
        let mut requirements: Vec<_> = requirements.into_iter().collect();
        requirements.sort();
        requirements.dedup();
        Self(requirements)
    }

    /// A label selector as an object carries it; one that isn't there matches nothing.
    pub fn of(written: Option<&LabelSelector>) -> Self {
        let Some(written) = written else {
            return Self::nothing();
        };
        let labels = written.match_labels.iter().flatten();
        let expressions = written.match_expressions.iter().flatten();
        Self::all_of(labels.map(|(key, value)| Requirement::equals(key, value)).chain(
            expressions.map(|one| Requirement::new(&one.key, &one.operator, one.values.as_deref().unwrap_or_default())),
        ))
    }

    /// The conditions of one term of a node selector.
    pub fn of_node(written: Option<&[NodeSelectorRequirement]>) -> Self {
        let requirements = written.unwrap_or_default().iter();
        Self::all_of(
            requirements
                .map(|one| Requirement::new(&one.key, &one.operator, one.values.as_deref().unwrap_or_default())),
        )
    }

    /// A map of labels, as Services and `nodeSelector` have it.
    pub fn of_map(labels: &BTreeMap<String, String>) -> Self {
        Self::all_of(labels.iter().map(|(key, value)| Requirement::equals(key, value)))
    }

    /// This and that.
    pub fn and(&self, other: &Self) -> Self {
        Self::all_of(self.0.iter().chain(&other.0).cloned())
    }

    /// This, and the values that `labels` has under `keys` (and `except` their values).
    pub fn with_keys(&self, labels: &Labels, keys: &[String], except: &[String]) -> Self {
        let of = |keys: &[String], operator: fn(Vec<Arc<str>>) -> Operator| -> Vec<Requirement> {
            let found = keys.iter().filter_map(|key| Some((key, labels.get(key)?)));
            found
                .map(|(key, value)| Requirement {
                    key: key.as_str().into(),
                    operator: operator(vec![value.clone()]),
                })
                .collect()
        };
        let added = of(keys, Operator::In).into_iter().chain(of(except, Operator::NotIn));
        Self::all_of(self.0.iter().cloned().chain(added))
    }

    /// Whether it asks for nothing, so that everything matches.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether these labels meet all of it.
    pub fn matches(&self, labels: &Labels) -> bool {
        self.0
            .iter()
            .all(|one| one.met(labels.get(&one.key).map(|value| &**value)))
    }

    /// Whether fields by name meet all of it; a field that isn't known meets nothing.
    pub fn matches_fields(&self, field: impl Fn(&str) -> Option<String>) -> bool {
        self.0
            .iter()
            .all(|one| field(&one.key).is_some_and(|value| one.met(Some(&value))))
    }

    /// The values that one field must have, if this says so.
    pub fn values_of(&self, key: &str) -> Option<&[Arc<str>]> {
        self.0.iter().find_map(|one| match &one.operator {
            Operator::In(values) if &*one.key == key => Some(values.as_slice()),
            _ => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn labels() -> Labels {
        BTreeMap::from([("app".into(), "web".into()), ("cores".into(), "8".into())]).into()
    }

    #[test]
    fn a_label_selector_matches_what_meets_all_of_it() {
        for (written, expected) in [
            (json!({}), true),
            (json!({"matchLabels": {"app": "web"}}), true),
            (json!({"matchLabels": {"app": "web", "tier": "a"}}), false),
            (
                json!({"matchExpressions": [{"key": "tier", "operator": "NotIn", "values": ["a"]}]}),
                true,
            ),
            (
                json!({"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["web"]}]}),
                false,
            ),
            (json!({"matchExpressions": [{"key": "app", "operator": "Like"}]}), false),
            (Value::Null, false),
        ] {
            let parsed: Option<LabelSelector> = serde_json::from_value(written.clone()).unwrap();
            assert_eq!(Selector::of(parsed.as_ref()).matches(&labels()), expected, "{written}");
        }
    }

    #[test]
    fn a_node_selector_compares_numbers_and_a_field_that_is_not_known_meets_nothing() {
        for (written, expected) in [
            (json!([{"key": "cores", "operator": "Gt", "values": ["7"]}]), true),
            (json!([{"key": "cores", "operator": "Gt", "values": ["8"]}]), false),
            (json!([{"key": "cores", "operator": "Lt", "values": ["9"]}]), true),
            (json!([{"key": "app", "operator": "Lt", "values": ["9"]}]), false),
            (json!([{"key": "cores", "operator": "Lt", "values": ["x"]}]), false),
            (json!([{"key": "gone", "operator": "DoesNotExist"}]), true),
        ] {
            let parsed: Vec<NodeSelectorRequirement> = serde_json::from_value(written.clone()).unwrap();
            assert_eq!(
                Selector::of_node(Some(&parsed)).matches(&labels()),
                expected,
                "{written}"
            );
        }
        let name = Selector::all_of([Requirement::equals("metadata.name", "a")]);
        let fields = |key: &str| (key == "metadata.name").then(|| "a".to_owned());
        assert!(name.matches_fields(fields));
        assert!(!Selector::all_of([Requirement::equals("spec.x", "a")]).matches_fields(fields));
    }

    #[test]
    fn keys_take_their_values_from_the_pod_and_adding_them_twice_changes_nothing() {
        let selector = Selector::default().with_keys(&labels(), &["app".into(), "gone".into()], &["cores".into()]);
        assert_eq!(
            selector,
            selector.with_keys(&labels(), &["app".into()], &["cores".into()])
        );
        assert!(!selector.matches(&labels()));
        assert!(selector.matches(&BTreeMap::from([("app".into(), "web".into())]).into()));
    }
}
