//! How many pods of a budget may be away. Pure.

use std::{collections::BTreeMap, sync::Arc};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{
    api::policy::v1::{PodDisruptionBudgetSpec, PodDisruptionBudgetStatus},
    apimachinery::pkg::{
        apis::meta::v1::{Condition, Time},
        util::intstr::IntOrString,
    },
};

use crate::objects::Pod;

/// An eviction that was granted and has not led to a deletion in this time never will.
const GRANTED: SignedDuration = SignedDuration::from_mins(2);

/// What is to be written, and when to look again if nothing happens before.
#[derive(Debug, PartialEq)]
pub(super) struct Plan {
    pub(super) status: PodDisruptionBudgetStatus,
    pub(super) next: Option<Timestamp>,
}

/// Whether it must be known how many pods their controllers want.
pub(super) fn needs_scale(spec: &PodDisruptionBudgetSpec) -> bool {
    spec.max_unavailable.is_some() || matches!(spec.min_available, Some(IntOrString::String(_)))
}

/// A number of pods, or a part of `all`, rounded up.
fn amount(given: &IntOrString, all: i32) -> Result<i32, String> {
    match given {
        IntOrString::Int(number) => Ok(*number),
        IntOrString::String(text) => {
            let percent = text.strip_suffix('%').and_then(|number| number.parse::<i64>().ok());
            let percent = percent.ok_or_else(|| format!("{text:?} is neither a number nor a percentage"))?;
            Ok(i32::try_from((percent * i64::from(all) + 99) / 100).unwrap_or(i32::MAX))
        }
    }
}

/// The status of a budget over these pods, of which their controllers want `expected` in all.
pub(super) fn plan(
    spec: &PodDisruptionBudgetSpec,
    before: &PodDisruptionBudgetStatus,
    generation: Option<i64>,
    pods: &[Arc<Pod>],
    expected: i32,
    now: Timestamp,
) -> Result<Plan, String> {
    let count = i32::try_from(pods.len()).unwrap_or(i32::MAX);
    let (expected, desired) = match (&spec.max_unavailable, &spec.min_available) {
        (Some(most), _) => (expected, (expected - amount(most, expected)?).max(0)),
        (None, Some(least @ IntOrString::Int(_))) => (count, amount(least, count)?),
        (None, Some(least)) => (expected, amount(least, expected)?),
        (None, None) => (count, 0),
    };
    let mut granted = BTreeMap::new();
    let mut next: Option<Timestamp> = None;
    for (name, time) in before.disrupted_pods.iter().flatten() {
        let there = pods.iter().any(|pod| pod.name() == name && !pod.is_terminating());
        let until = time.0.checked_add(GRANTED).unwrap_or(Timestamp::MAX);
        if there && until > now {
            granted.insert(name.clone(), time.clone());
            next = Some(next.map_or(until, |next| next.min(until)));
        }
    }
    let healthy = pods
        .iter()
        .filter(|pod| pod.is_ready() && !pod.is_terminating() && !granted.contains_key(pod.name()));
    let healthy = i32::try_from(healthy.count()).unwrap_or(i32::MAX);
    let allowed = if expected <= 0 { 0 } else { (healthy - desired).max(0) };
    let status = PodDisruptionBudgetStatus {
        current_healthy: Some(healthy),
        desired_healthy: Some(desired),
        expected_pods: Some(expected),
        disruptions_allowed: Some(allowed),
        disrupted_pods: (!granted.is_empty()).then_some(granted),
        observed_generation: generation,
        conditions: Some(vec![condition(before, allowed > 0, generation, now)]),
    };
    Ok(Plan { status, next })
}

fn condition(before: &PodDisruptionBudgetStatus, allowed: bool, generation: Option<i64>, now: Timestamp) -> Condition {
    let (status, reason) = if allowed {
        ("True", "SufficientPods")
    } else {
        ("False", "InsufficientPods")
    };
    let held = before
        .conditions
        .iter()
        .flatten()
        .find(|held| held.type_ == "DisruptionAllowed");
    let since = held
        .filter(|held| held.status == status)
        .map(|held| held.last_transition_time.clone());
    Condition {
        type_: "DisruptionAllowed".to_owned(),
        status: status.to_owned(),
        reason: reason.to_owned(),
        message: String::new(),
        observed_generation: generation,
        last_transition_time: since.unwrap_or(Time(now)),
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

    use super::*;
    use crate::objects::pod::Condition as PodCondition;

    fn pod(name: &str, ready: bool) -> Arc<Pod> {
        let mut pod = Pod {
            metadata: ObjectMeta {
                name: Some(name.to_owned()),
                ..ObjectMeta::default()
            },
            ..Pod::default()
        };
        if ready {
            pod.status.conditions.push(PodCondition {
                type_: "Ready".to_owned(),
                status: "True".to_owned(),
                ..PodCondition::default()
            });
        }
        Arc::new(pod)
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).expect("in range")
    }

    #[test]
    fn as_many_may_be_away_as_the_budget_leaves() {
        let int = |number: i32| Some(IntOrString::Int(number));
        let text = |text: &str| Some(IntOrString::String(text.to_owned()));
        // Least available, most unavailable, wanted by controllers, ready of three; desired, expected, allowed.
        let table = [
            (int(2), None, 3, 3, (2, 3, 1)),
            (int(2), None, 3, 2, (2, 3, 0)),
            (int(0), None, 9, 3, (0, 3, 3)),
            (text("50%"), None, 5, 3, (3, 5, 0)),
            (text("50%"), None, 3, 3, (2, 3, 1)),
            (None, int(1), 3, 3, (2, 3, 1)),
            (None, int(1), 3, 1, (2, 3, 0)),
            (None, int(5), 3, 3, (0, 3, 3)),
            (None, text("34%"), 3, 3, (1, 3, 2)),
            (None, int(1), 0, 3, (0, 0, 0)),
            (None, None, 3, 3, (0, 3, 3)),
        ];
        for (min_available, max_unavailable, expected, ready, wanted) in table {
            let spec = PodDisruptionBudgetSpec {
                min_available,
                max_unavailable,
                ..PodDisruptionBudgetSpec::default()
            };
            let pods: Vec<_> = (0..3).map(|number| pod(&number.to_string(), number < ready)).collect();
            let status = plan(
                &spec,
                &PodDisruptionBudgetStatus::default(),
                Some(1),
                &pods,
                expected,
                at(0),
            )
            .expect("valid")
            .status;
            let found = (status.desired_healthy, status.expected_pods, status.disruptions_allowed);
            let wanted = (Some(wanted.0), Some(wanted.1), Some(wanted.2));
            assert_eq!(found, wanted, "{spec:?} {expected} {ready}");
        }
    }

    #[test]
    fn what_was_granted_counts_as_away_until_it_is_or_for_two_minutes() {
        let spec = PodDisruptionBudgetSpec {
            min_available: Some(IntOrString::Int(1)),
            ..PodDisruptionBudgetSpec::default()
        };
        let before = PodDisruptionBudgetStatus {
            disrupted_pods: Some(
                [("a", 0), ("b", -119), ("c", -120), ("gone", 0)]
                    .map(|(name, seconds)| (name.to_owned(), Time(at(seconds))))
                    .into(),
            ),
            ..PodDisruptionBudgetStatus::default()
        };
        let pods = [pod("a", true), pod("b", true), pod("c", true)];
        let plan = plan(&spec, &before, None, &pods, 0, at(0)).expect("valid");
        let granted: Vec<_> = plan.status.disrupted_pods.as_ref().expect("some").keys().collect();
        assert_eq!(granted, ["a", "b"]);
        assert_eq!(
            (plan.status.current_healthy, plan.status.disruptions_allowed),
            (Some(1), Some(0))
        );
        assert_eq!(plan.next, Some(at(1)));
        assert!(amount(&IntOrString::String("many".to_owned()), 3).is_err());
    }
}
