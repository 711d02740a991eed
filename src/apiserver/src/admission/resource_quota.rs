//! `ResourceQuota`s: what a namespace may have in all, charged in the same transaction that stores the object.
//!
//! What is used stands in the quota's status. A change that would go beyond it is counted anew first, from the objects that
//! there are: deletions are told to nobody, so what stands there may be too much (a controller that also counts would only
//! make that rarer). The transaction holds only if the quota is as it was read, so two changes never share the last
//! place.
//!
//! [`usage`] and [`matches`] say what counts; [`decide`] is the decision.

mod usage;

use std::collections::BTreeMap;

use bosun_api::Quantity;
use bosun_store::{Compare, Op};
use serde_json::{Value, json};

use super::{
    Attributes, Operation,
    builtin::{Subject, forbid},
    limit_ranger::amounts,
};
use crate::{
    Status,
    auth::{
        Objects,
        objects::{Changeable, text},
    },
    cache::entry,
};

pub(super) type Amounts = BTreeMap<String, Quantity>;

/// Charges the namespace's quotas for a change, or refuses it.
pub(super) async fn charge(
    objects: &dyn Objects,
    attributes: &mut Attributes<'_>,
    subject: Subject<'_>,
) -> Result<(), Status> {
    let namespace = &attributes.request.namespace;
    if namespace.is_empty() || !is_charged(subject) {
        return Ok(());
    }
    let quotas = objects.list_changeable("", "resourcequotas", namespace).await?;
    let mut ops = Vec::new();
    let mut compares = Vec::new();
    for quota in quotas {
        let spec = &quota.object["spec"];
        let before = attributes.old.filter(|old| usage::matches(spec, subject.plural, old));
        let now = usage::matches(spec, subject.plural, &attributes.object).then_some(&attributes.object);
        let of = |object: Option<&Value>| {
            object.map_or_else(Amounts::new, |object| {
                usage::usage(subject.group, subject.plural, object)
            })
        };
        let hard = amounts(&spec["hard"]);
        let asked = difference(&of(now), &of(before), &hard);
        if let (Some(pod), "pods", Operation::Create) = (now, subject.plural, subject.operation)
            && let Some(missing) = usage::unspecified(pod, &hard)
        {
            let why = format!(
                "failed quota: {}: must specify {missing}",
                text(&quota.object, "/metadata/name")
            );
            return Err(forbid(attributes, &why));
        }
        if asked.is_empty() {
            continue;
        }
        let mut used = known(&quota.object, &hard);
        if used.as_ref().is_none_or(|used| decide(&hard, used, &asked).is_err()) {
            used = Some(count(objects, namespace, spec, &hard).await?);
        }
        let used = used.unwrap_or_default();
        match decide(&hard, &used, &asked) {
            Ok(used) => {
                let Changeable {
                    mut object,
                    key,
                    revision,
                } = quota;
                object["status"] = json!({"hard": object["spec"]["hard"], "used": shown(&used)});
                compares.push(Compare::Modified(key.clone(), revision));
                let value = entry::encode(&object).into();
                ops.push(Op::Put { key, value, ttl: None });
            }
            Err(over) => {
                let why = exceeded(text(&quota.object, "/metadata/name"), &over, &asked, &used, &hard);
                return Err(forbid(attributes, &why));
            }
        }
    }
    attributes.txn.compares.append(&mut compares);
    attributes.txn.ops.append(&mut ops);
    Ok(())
}

/// Whether such a change can use more than before.
fn is_charged(subject: Subject<'_>) -> bool {
    match (subject.operation, subject.group, subject.plural, subject.subresource) {
        (Operation::Create, _, _, "") | (Operation::Update, "", "pods", "resize") => true,
        (Operation::Update, "", plural, "") => matches!(plural, "services" | "persistentvolumeclaims"),
        _ => false,
    }
}

/// What is used beyond before, of what the quota limits.
fn difference(now: &Amounts, before: &Amounts, hard: &Amounts) -> Amounts {
    let zero = Quantity::ZERO;
    let more = |name: &String| {
        let (now, before) = (
            now.get(name).copied().unwrap_or(zero),
            before.get(name).copied().unwrap_or(zero),
        );
        (now > before).then(|| (name.clone(), minus(now, before)))
    };
    hard.keys().filter_map(more).collect()
}

/// Quantities have no difference of their own; thousandths are exact for whatever is counted.
fn minus(left: Quantity, right: Quantity) -> Quantity {
    if right.is_zero() {
        return left;
    }
    Quantity::from_milli(left.milli_value().saturating_sub(right.milli_value()))
}

/// What the status says is used, if it speaks of all that is limited now.
fn known(quota: &Value, hard: &Amounts) -> Option<Amounts> {
    let status = &quota["status"];
    if amounts(&status["hard"]) != *hard {
        return None;
    }
    let used = amounts(&status["used"]);
    hard.keys().all(|name| used.contains_key(name)).then_some(used)
}

/// What is used after the change, or the names of what would go beyond the limit.
fn decide(hard: &Amounts, used: &Amounts, asked: &Amounts) -> Result<Amounts, Vec<String>> {
    let mut after = used.clone();
    for (name, amount) in asked {
        let sum = after.get(name).copied().unwrap_or(Quantity::ZERO) + *amount;
        after.insert(name.clone(), sum);
    }
    let over = asked
        .keys()
        .filter(|name| hard.get(*name).is_some_and(|limit| after[*name] > *limit));
    let over: Vec<_> = over.cloned().collect();
    if over.is_empty() { Ok(after) } else { Err(over) }
}

/// What is used by the objects that there are.
async fn count(objects: &dyn Objects, namespace: &str, spec: &Value, hard: &Amounts) -> Result<Amounts, Status> {
    let mut used: Amounts = hard.keys().map(|name| (name.clone(), Quantity::ZERO)).collect();
    for (group, plural) in usage::kinds(hard) {
        for object in objects.list_now(&group, &plural, namespace).await? {
            if !usage::matches(spec, &plural, &object) {
                continue;
            }
            for (name, amount) in usage::usage(&group, &plural, &object) {
                if let Some(sum) = used.get_mut(&name) {
                    *sum = *sum + amount;
                }
            }
        }
    }
    Ok(used)
}

fn shown(amounts: &Amounts) -> Value {
    amounts
        .iter()
        .map(|(name, amount)| (name.clone(), Value::from(amount.to_string())))
        .collect()
}

/// `exceeded quota: q, requested: pods=1, used: pods=2, limited: pods=2`.
fn exceeded(quota: &str, over: &[String], asked: &Amounts, used: &Amounts, hard: &Amounts) -> String {
    let some = |of: &Amounts| {
        let parts = over
            .iter()
            .map(|name| format!("{name}={}", of.get(name).copied().unwrap_or(Quantity::ZERO)));
        parts.collect::<Vec<_>>().join(",")
    };
    format!(
        "exceeded quota: {quota}, requested: {}, used: {}, limited: {}",
        some(asked),
        some(used),
        some(hard)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Amounts {
        let parts = text.split(',').filter(|part| !part.is_empty());
        parts
            .map(|part| {
                part.split_once('=')
                    .map(|(name, amount)| (name.to_owned(), amount.parse().unwrap()))
                    .unwrap()
            })
            .collect()
    }

    #[test]
    fn a_change_fits_or_says_what_is_too_much() {
        let hard = of("pods=2,cpu=1,memory=1Gi");
        let after = decide(&hard, &of("pods=1,cpu=500m,memory=0"), &of("pods=1,cpu=500m")).unwrap();
        assert_eq!(after, of("pods=2,cpu=1,memory=0"));
        let (used, asked) = (of("pods=2,cpu=500m,memory=0"), of("cpu=600m,memory=1Mi,pods=1"));
        let over = decide(&hard, &used, &asked).unwrap_err();
        assert_eq!(
            exceeded("q", &over, &asked, &used, &hard),
            "exceeded quota: q, requested: cpu=600m,pods=1, used: cpu=500m,pods=2, limited: cpu=1,pods=2"
        );
    }

    #[test]
    fn only_what_is_more_than_before_is_asked_for() {
        let hard = of("requests.storage=10Gi,services=5");
        assert_eq!(
            difference(&of("requests.storage=3Gi,other=1"), &of("requests.storage=1Gi"), &hard),
            of("requests.storage=2Gi")
        );
        assert!(difference(&of("services=1"), &of("services=1"), &hard).is_empty());
    }

    #[test]
    fn a_status_counts_if_it_is_of_these_limits() {
        let quota = |hard: Value, used: Value| json!({"status": {"hard": hard, "used": used}});
        let hard = of("pods=2");
        assert_eq!(
            known(&quota(json!({"pods": "2"}), json!({"pods": "1"})), &hard),
            Some(of("pods=1"))
        );
        assert_eq!(known(&quota(json!({"pods": "3"}), json!({"pods": "1"})), &hard), None);
        assert_eq!(known(&quota(json!({"pods": "2"}), json!({})), &hard), None);
        assert_eq!(known(&json!({}), &hard), None);
    }
}
