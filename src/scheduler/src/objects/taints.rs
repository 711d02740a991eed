//! Taints of nodes and what tolerates them.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Taint as WrittenTaint, Toleration as Written};

/// What a taint does to pods that don't tolerate it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Effect {
    /// No such pod is placed.
    NoSchedule,
    /// Other nodes are preferred.
    PreferNoSchedule,
    /// No such pod is placed, and those there are evicted.
    NoExecute,
}

impl Effect {
    fn of(written: &str) -> Option<Self> {
        match written {
            "NoSchedule" => Some(Self::NoSchedule),
            "PreferNoSchedule" => Some(Self::PreferNoSchedule),
            "NoExecute" => Some(Self::NoExecute),
            _ => None,
        }
    }

    /// Whether it keeps pods from being placed.
    pub fn keeps_out(self) -> bool {
        self != Self::PreferNoSchedule
    }
}

/// A taint of a node.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Taint {
    /// Its key.
    pub key: Arc<str>,
    /// Its value, often empty.
    pub value: Arc<str>,
    /// What it does.
    pub effect: Effect,
}

impl Taint {
    pub(super) fn of(written: &WrittenTaint) -> Option<Self> {
        Some(Self {
            key: written.key.as_str().into(),
            value: written.value.as_deref().unwrap_or_default().into(),
            effect: Effect::of(&written.effect)?,
        })
    }

    /// The taint that a node marked unschedulable counts as having.
    pub fn unschedulable() -> Self {
        Self {
            key: "node.kubernetes.io/unschedulable".into(),
            value: "".into(),
            effect: Effect::NoSchedule,
        }
    }
}

/// How a toleration compares the taint's value.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Comparison {
    Exists,
    Equal(Arc<str>),
    /// Numbers greater than this (KEP-5471).
    Gt(i64),
    /// Numbers less than this (KEP-5471).
    Lt(i64),
    Never,
}

/// What a pod tolerates.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Toleration {
    /// `None` is every key.
    key: Option<Arc<str>>,
    comparison: Comparison,
    /// `None` is every effect.
    effect: Option<Effect>,
}

impl Toleration {
    pub(super) fn of(written: &Written) -> Option<Self> {
        let value = written.value.as_deref().unwrap_or_default();
        let number = || value.parse().ok();
        Some(Self {
            key: written.key.as_deref().filter(|key| !key.is_empty()).map(Into::into),
            comparison: match written.operator.as_deref().unwrap_or_default() {
                "" | "Equal" => Comparison::Equal(value.into()),
                "Exists" => Comparison::Exists,
                "Gt" => number().map_or(Comparison::Never, Comparison::Gt),
                "Lt" => number().map_or(Comparison::Never, Comparison::Lt),
                _ => Comparison::Never,
            },
            effect: match written.effect.as_deref().unwrap_or_default() {
                "" => None,
                effect => Some(Effect::of(effect)?),
            },
        })
    }

    /// Whether it tolerates the taint.
    pub fn tolerates(&self, taint: &Taint) -> bool {
        let value = || taint.value.parse::<i64>().ok();
        self.effect.is_none_or(|effect| effect == taint.effect)
            && self.key.as_ref().is_none_or(|key| *key == taint.key)
            && match &self.comparison {
                Comparison::Exists => true,
                Comparison::Equal(wanted) => *wanted == taint.value,
                Comparison::Gt(bound) => value().is_some_and(|value| value > *bound),
                Comparison::Lt(bound) => value().is_some_and(|value| value < *bound),
                Comparison::Never => false,
            }
    }

    /// Whether it speaks of taints that only discourage.
    pub fn concerns_preference(&self) -> bool {
        self.effect.is_none_or(|effect| effect == Effect::PreferNoSchedule)
    }
}

/// The first taint that keeps out what has these tolerations.
pub(crate) fn untolerated<'a>(taints: &'a [Taint], tolerations: &[Toleration]) -> Option<&'a Taint> {
    let tolerated = |taint: &Taint| tolerations.iter().any(|one| one.tolerates(taint));
    taints
        .iter()
        .find(|taint| taint.effect.keeps_out() && !tolerated(taint))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_toleration_must_meet_key_value_and_effect() {
        let taint = Taint {
            key: "disk".into(),
            value: "5".into(),
            effect: Effect::NoSchedule,
        };
        for (written, expected) in [
            (
                json!({"key": "disk", "operator": "Equal", "value": "5", "effect": "NoSchedule"}),
                true,
            ),
            (json!({"key": "disk", "value": "5"}), true),
            (json!({"key": "disk", "value": "6"}), false),
            (
                json!({"key": "disk", "operator": "Exists", "effect": "NoExecute"}),
                false,
            ),
            (json!({"operator": "Exists"}), true),
            (json!({"key": "disk", "operator": "Gt", "value": "4"}), true),
            (json!({"key": "disk", "operator": "Lt", "value": "5"}), false),
            (json!({"key": "disk", "operator": "Like"}), false),
        ] {
            let parsed: Written = serde_json::from_value(written.clone()).unwrap();
            let tolerates = Toleration::of(&parsed).is_some_and(|one| one.tolerates(&taint));
            assert_eq!(tolerates, expected, "{written}");
        }
    }
}
