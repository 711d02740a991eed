//! What a history must be like: writes and consistent reads of single objects, each with its beginning and end, and
//! what watchers saw. Pure.
//!
//! The revisions order the writes, so whether a history is linearizable is a matter of comparing, not of searching.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, bail, ensure};

/// A moment, counted by the test: of two moments the later is larger.
pub(crate) type Moment = u64;

/// What a client did.
#[derive(Clone, Debug)]
pub(crate) struct Operation {
    pub(crate) began: Moment,
    pub(crate) ended: Moment,
    pub(crate) key: String,
    pub(crate) action: Action,
    pub(crate) outcome: Outcome,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Action {
    /// With this value, which no other write has.
    Create(String),
    /// To this value, if it is still at this revision.
    Update(u64, String),
    /// If it is still at this revision.
    Delete(u64),
    /// Of the latest there is.
    Read,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Outcome {
    /// A write took place, a read found: at this revision, this value. A deletion tells no revision (0).
    Done(u64, String),
    /// There is none.
    Absent,
    /// There is one already, or it is at another revision.
    Refused,
    /// No answer: whether it took place is not known.
    Unknown,
}

/// What a watcher saw of an object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Seen {
    pub(crate) revision: u64,
    pub(crate) key: String,
    /// `None`: it is gone.
    pub(crate) value: Option<String>,
}

/// Checks a whole history against what watchers saw of it from its beginning to its end.
pub(crate) fn check(operations: &[Operation], watchers: &[Vec<Seen>]) -> anyhow::Result<()> {
    let truth = watchers
        .iter()
        .max_by_key(|seen| seen.len())
        .context("nobody watched")?;
    for (number, seen) in watchers.iter().enumerate() {
        for pair in seen.windows(2) {
            ensure!(
                pair[0].revision < pair[1].revision,
                "watcher {number}: {pair:?} out of order"
            );
        }
        let last = seen.last().map_or(0, |event| event.revision);
        let expected: Vec<_> = truth.iter().filter(|event| event.revision <= last).collect();
        if let Some((saw, was)) = seen.iter().zip(&expected).find(|(saw, was)| saw != *was) {
            bail!("watcher {number} saw {saw:?} where another saw {was:?}");
        }
        ensure!(
            seen.len() == expected.len(),
            "watcher {number} saw {} of {}",
            seen.len(),
            expected.len()
        );
    }
    let mut keys: BTreeMap<&str, Vec<&Seen>> = BTreeMap::new();
    for event in truth {
        keys.entry(&event.key).or_default().push(event);
    }
    let empty = Vec::new();
    for operation in operations {
        let events = keys.get(&*operation.key).unwrap_or(&empty);
        check_one(operation, events).with_context(|| format!("{operation:?}\n{events:#?}"))?;
    }
    check_order(operations, &keys)?;
    check_strangers(operations, truth)
}

/// An operation alone, against the versions of its object.
fn check_one(operation: &Operation, events: &[&Seen]) -> anyhow::Result<()> {
    let find = |revision: u64| events.iter().position(|event| event.revision == revision);
    match (&operation.action, &operation.outcome) {
        (Action::Create(value), Outcome::Done(revision, _)) => {
            let at = find(*revision).context("an acknowledged create was lost")?;
            ensure!(events[at].value.as_ref() == Some(value), "another value was stored");
            ensure!(at == 0 || events[at - 1].value.is_none(), "it was created over another");
        }
        (Action::Update(from, value), Outcome::Done(revision, _)) => {
            let at = find(*revision).context("an acknowledged update was lost")?;
            ensure!(events[at].value.as_ref() == Some(value), "another value was stored");
            ensure!(
                at > 0 && events[at - 1].revision == *from,
                "an update was lost beneath it"
            );
        }
        (Action::Delete(from), Outcome::Done(..)) => {
            let at = find(*from).context("what was deleted was never there")?;
            let next = events.get(at + 1).context("an acknowledged deletion was lost")?;
            ensure!(next.value.is_none(), "an update was lost beneath it");
        }
        (Action::Read, Outcome::Done(revision, value)) => {
            let at = find(*revision).context("a read found what never was")?;
            ensure!(events[at].value.as_ref() == Some(value), "a read found another value");
        }
        _ => {}
    }
    Ok(())
}

/// When each version of an object was written at the earliest and at the latest, by those who wrote and those who saw.
fn check_order(operations: &[Operation], keys: &BTreeMap<&str, Vec<&Seen>>) -> anyhow::Result<()> {
    // The revision that an operation wrote or read, if it is known.
    let revision = |operation: &Operation| -> Option<u64> {
        let events = keys.get(&*operation.key)?;
        match (&operation.action, &operation.outcome) {
            (Action::Delete(from), Outcome::Done(..)) => {
                let at = events.iter().position(|event| event.revision == *from)?;
                events.get(at + 1).map(|event| event.revision)
            }
            (_, Outcome::Done(revision, _)) => Some(*revision),
            _ => None,
        }
    };
    let known: Vec<_> = operations
        .iter()
        .filter_map(|operation| Some((operation, revision(operation)?)))
        .collect();
    for (later, then) in &known {
        for (earlier, before) in &known {
            if earlier.ended >= later.began {
                continue;
            }
            let both_write = later.action != Action::Read && earlier.action != Action::Read;
            let one_object = later.key == earlier.key;
            ensure!(
                !(both_write && before >= then || one_object && before > then),
                "{later:?} came after {earlier:?} had ended, and is older"
            );
        }
    }
    // A read that found nothing: at some moment within it there was nothing.
    for read in operations {
        if (&read.action, &read.outcome) != (&Action::Read, &Outcome::Absent) {
            continue;
        }
        let events = keys.get(&*read.key).map_or(&[][..], Vec::as_slice);
        let of_key = known.iter().filter(|(operation, _)| operation.key == read.key);
        let newest_before = of_key
            .filter(|(operation, _)| operation.ended < read.began)
            .map(|(_, revision)| *revision)
            .max()
            .unwrap_or(0);
        let absent_since = newest_before == 0
            || events
                .iter()
                .any(|event| event.revision >= newest_before && event.value.is_none());
        ensure!(absent_since, "{read:?} found nothing where something was\n{events:#?}");
    }
    Ok(())
}

/// Nothing is there that nobody wrote, and nothing twice.
fn check_strangers(operations: &[Operation], truth: &[Seen]) -> anyhow::Result<()> {
    let written: BTreeSet<&str> = operations
        .iter()
        .filter_map(|operation| match &operation.action {
            Action::Create(value) | Action::Update(_, value) => Some(value.as_str()),
            _ => None,
        })
        .collect();
    let mut seen = BTreeSet::new();
    for event in truth {
        let Some(value) = &event.value else { continue };
        ensure!(written.contains(value.as_str()), "nobody wrote {event:?}");
        ensure!(seen.insert(value), "{event:?} was written twice");
    }
    for operation in operations {
        let refused = matches!(operation.outcome, Outcome::Refused | Outcome::Absent);
        if let (true, Action::Create(value) | Action::Update(_, value)) = (refused, &operation.action) {
            ensure!(!seen.contains(value), "a refused write took place: {operation:?}");
        }
    }
    Ok(())
}

#[test]
fn a_history_that_loses_reorders_or_repeats_is_found_out() {
    let operation = |began, ended, action, outcome| Operation {
        began,
        ended,
        key: "a".into(),
        action,
        outcome,
    };
    let done = |revision, value: &str| Outcome::Done(revision, value.into());
    let seen = |revision, value: Option<&str>| Seen {
        revision,
        key: "a".into(),
        value: value.map(Into::into),
    };
    let create = operation(1, 2, Action::Create("x".into()), done(10, "x"));
    let update = operation(3, 4, Action::Update(10, "y".into()), done(11, "y"));
    let good = [seen(10, Some("x")), seen(11, Some("y"))];
    let both = [create.clone(), update.clone()];
    check(&both, &[good.to_vec(), good[..1].to_vec()]).expect("a good history");
    check(
        &[
            create.clone(),
            update.clone(),
            operation(5, 6, Action::Delete(11), Outcome::Unknown),
        ],
        &[good.to_vec()],
    )
    .expect("what has no answer may have done nothing");

    let bad: [(&str, Vec<Operation>, Vec<Seen>); 7] = [
        ("a lost update", both.to_vec(), good[..1].to_vec()),
        (
            "a stranger",
            both.to_vec(),
            [&good[..], &[seen(12, Some("z"))]].concat(),
        ),
        (
            "a write twice",
            both.to_vec(),
            [&good[..], &[seen(12, Some("y"))]].concat(),
        ),
        (
            "a stale read",
            [&both[..], &[operation(5, 6, Action::Read, done(10, "x"))]].concat(),
            good.to_vec(),
        ),
        (
            "a read of nothing",
            [&both[..], &[operation(5, 6, Action::Read, Outcome::Absent)]].concat(),
            good.to_vec(),
        ),
        (
            "a refused write that took place",
            vec![
                create.clone(),
                operation(3, 4, Action::Update(10, "y".into()), Outcome::Refused),
            ],
            good.to_vec(),
        ),
        (
            "an update over another",
            vec![
                create.clone(),
                update.clone(),
                operation(3, 9, Action::Update(10, "z".into()), done(12, "z")),
            ],
            [&good[..], &[seen(12, Some("z"))]].concat(),
        ),
    ];
    for (what, operations, truth) in bad {
        check(&operations, &[truth]).expect_err(what);
    }
    let gap = [seen(10, Some("x")), seen(12, Some("z"))];
    let whole = [seen(10, Some("x")), seen(11, Some("y")), seen(12, Some("z"))];
    let all = [
        create,
        update,
        operation(5, 6, Action::Update(11, "z".into()), done(12, "z")),
    ];
    check(&all, &[whole.to_vec(), gap.to_vec()]).expect_err("a watcher missed one");
}
