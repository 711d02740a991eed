//! Which events are new, which are one more of the same, and which are too many. Pure; the rules and their numbers
//! are those of upstream's `client-go/tools/record`.

use std::{collections::HashMap, hash::Hash, time::Duration};

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{Event, ObjectReference},
    apimachinery::pkg::apis::meta::v1::Time,
};

use super::bounded;

/// Objects, similar events and events that are remembered, each.
const REMEMBERED: usize = 4096;
/// Events of one source about one object that may come at once.
const BURST: f64 = 25.0;
/// After a burst one more may come in this time.
const REFILL: Duration = Duration::from_secs(300);
/// From so many similar events on, they are counted as one.
const SIMILAR: usize = 10;
/// Similar events further apart than this are not similar.
const INTERVAL: Duration = Duration::from_secs(600);
/// How the message of events counted as one begins.
const COMBINED: &str = "(combined from similar events): ";

/// What to do about an event.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Action {
    /// It is new.
    Create(Event),
    /// It is there: patch its count, last time and message.
    Count(Event),
}

impl Action {
    pub(super) fn event(&self) -> &Event {
        match self {
            Self::Create(event) | Self::Count(event) => event,
        }
    }
}

/// What is remembered of the events so far.
#[derive(Debug, Default)]
pub(super) struct Correlator {
    budgets: Recent<String, Budget>,
    similar: Recent<String, Similar>,
    seen: Recent<String, Seen>,
}

/// Tokens of a source and an object.
#[derive(Debug)]
struct Budget {
    tokens: f64,
    at: Timestamp,
}

/// Messages of events alike but for their message.
#[derive(Debug)]
struct Similar {
    messages: Vec<String>,
    last: Timestamp,
}

/// An event that was published.
#[derive(Debug)]
struct Seen {
    name: Option<String>,
    first: Option<Time>,
    count: i32,
}

impl Correlator {
    /// What to do about an event that happened; `None` if there are too many of it.
    pub(super) fn observe(&mut self, mut event: Event, now: Timestamp) -> Option<Action> {
        let about = about(&event);
        let alike = format!("{about}\0{:?}\0{:?}", event.type_, event.reason);
        let message = event.message.clone().unwrap_or_default();

        let key = if self.many_alike(&alike, &message, now) {
            event.message = Some(bounded(format!("{COMBINED}{message}")));
            alike
        } else {
            format!("{alike}\0{:?}\0{message}", event.involved_object.field_path)
        };
        let again = if let Some(seen) = self.seen.get(&key) {
            seen.count = seen.count.saturating_add(1);
            event.metadata.name.clone_from(&seen.name);
            event.first_timestamp.clone_from(&seen.first);
            event.count = Some(seen.count);
            true
        } else {
            let seen = Seen {
                name: event.metadata.name.clone(),
                first: event.first_timestamp.clone(),
                count: 1,
            };
            self.seen.insert(key, seen);
            false
        };
        if !self.affordable(&about, now) {
            return None;
        }
        Some(if again {
            Action::Count(event)
        } else {
            Action::Create(event)
        })
    }

    /// Whether there are so many similar events that they count as one.
    fn many_alike(&mut self, alike: &str, message: &str, now: Timestamp) -> bool {
        if self
            .similar
            .get(alike)
            .is_none_or(|similar| apart(similar.last, now) > INTERVAL)
        {
            let none = Similar {
                messages: Vec::new(),
                last: now,
            };
            self.similar.insert(alike.to_owned(), none);
        }
        let Some(similar) = self.similar.get(alike) else {
            return false;
        };
        similar.last = now;
        if !similar.messages.iter().any(|known| known == message) {
            if similar.messages.len() >= SIMILAR {
                similar.messages.remove(0);
            }
            similar.messages.push(message.to_owned());
        }
        similar.messages.len() >= SIMILAR
    }

    /// Takes a token of those of a source and an object, if there is one.
    fn affordable(&mut self, about: &str, now: Timestamp) -> bool {
        let full = Budget { tokens: BURST, at: now };
        if self.budgets.get(about).is_none() {
            self.budgets.insert(about.to_owned(), full);
        }
        let Some(budget) = self.budgets.get(about) else {
            return true;
        };
        let earned = apart(budget.at, now).as_secs_f64() / REFILL.as_secs_f64();
        budget.tokens = (budget.tokens + earned).min(BURST);
        budget.at = now;
        if budget.tokens < 1.0 {
            return false;
        }
        budget.tokens -= 1.0;
        true
    }
}

/// Who speaks of which object.
fn about(event: &Event) -> String {
    let ObjectReference {
        kind,
        namespace,
        name,
        uid,
        api_version,
        ..
    } = &event.involved_object;
    format!(
        "{:?}\0{kind:?}\0{namespace:?}\0{name:?}\0{uid:?}\0{api_version:?}",
        event.source
    )
}

/// From an earlier to a later time; none at all if the clock was set back.
fn apart(earlier: Timestamp, later: Timestamp) -> Duration {
    later.duration_since(earlier).try_into().unwrap_or_default()
}

/// A map that remembers what was used of late: the older generation goes when the younger one is full.
#[derive(Debug)]
struct Recent<K, V> {
    young: HashMap<K, V>,
    old: HashMap<K, V>,
}

impl<K: Hash + Eq, V> Recent<K, V> {
    fn get<Q>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: std::borrow::Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        if let Some((key, value)) = self.old.remove_entry(key) {
            self.insert(key, value);
        }
        self.young.get_mut(key)
    }

    fn insert(&mut self, key: K, value: V) {
        if self.young.len() >= REMEMBERED / 2 {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, value);
    }
}

impl<K, V> Default for Recent<K, V> {
    fn default() -> Self {
        Self {
            young: HashMap::new(),
            old: HashMap::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::{Type, event, source};

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).expect("in range")
    }

    struct Told(Correlator);

    impl Told {
        /// `+` created, `n` the count patched, `-` dropped; then the message.
        fn tell(&mut self, object: &str, message: &str, seconds: i64) -> String {
            let object = ObjectReference {
                name: Some(object.to_owned()),
                ..ObjectReference::default()
            };
            let source = source("test", "node-1");
            let event = event(
                &source,
                &object,
                Type::Normal,
                "Pulled",
                message.to_owned(),
                at(seconds),
            );
            match self.0.observe(event, at(seconds)) {
                None => "-".to_owned(),
                Some(Action::Create(event)) => format!("+ {}", event.message.unwrap_or_default()),
                Some(Action::Count(event)) => {
                    format!(
                        "{} {}",
                        event.count.unwrap_or_default(),
                        event.message.unwrap_or_default()
                    )
                }
            }
        }
    }

    #[test]
    fn the_same_again_is_counted_under_the_name_and_time_of_the_first() {
        let mut told = Told(Correlator::default());
        assert_eq!(told.tell("web", "a", 0), "+ a");
        assert_eq!(told.tell("web", "a", 5), "2 a");
        assert_eq!(told.tell("web", "b", 6), "+ b");
        assert_eq!(told.tell("other", "a", 7), "+ a");
        assert_eq!(told.tell("web", "a", 8), "3 a");
        let (object, source) = (ObjectReference::default(), source("test", ""));
        let mut correlator = Correlator::default();
        let make = |seconds| event(&source, &object, Type::Warning, "R", "m".to_owned(), at(seconds));
        let first = correlator.observe(make(1), at(1)).expect("affordable");
        let second = correlator.observe(make(9), at(9)).expect("affordable");
        assert_eq!(first.event().metadata.name, second.event().metadata.name);
        assert_eq!(second.event().first_timestamp, Some(Time(at(1))));
        assert_eq!(second.event().last_timestamp, Some(Time(at(9))));
    }

    #[test]
    fn many_similar_events_are_counted_as_one() {
        let mut told = Told(Correlator::default());
        for number in 0..9 {
            assert_eq!(told.tell("web", &format!("m{number}"), number), format!("+ m{number}"));
        }
        assert_eq!(told.tell("web", "m9", 9), "+ (combined from similar events): m9");
        assert_eq!(told.tell("web", "m10", 10), "2 (combined from similar events): m10");
        // Of another time they are no longer similar.
        assert_eq!(told.tell("web", "m11", 1000), "+ m11");
    }

    #[test]
    fn a_source_may_say_so_much_of_an_object_and_then_little() {
        let mut told = Told(Correlator::default());
        let mut said = |seconds| told.tell("web", "again", seconds);
        for number in 0..25 {
            assert_ne!(said(number), "-", "{number}");
        }
        assert_eq!(said(25), "-");
        assert_eq!(said(290), "-");
        // What was dropped is counted nevertheless.
        assert_eq!(said(301), "28 again");
        assert_eq!(said(302), "-");
        // The clock is set back.
        assert_eq!(said(-9000), "-");
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut told = Told(Correlator::default());
        for number in 0..3 * REMEMBERED {
            told.tell(&format!("web-{number}"), "m", 0);
        }
        let Correlator { budgets, similar, seen } = told.0;
        assert!(budgets.young.len() + budgets.old.len() <= REMEMBERED);
        assert!(similar.young.len() + similar.old.len() <= REMEMBERED);
        assert!(seen.young.len() + seen.old.len() <= REMEMBERED);
    }
}
