//! Bytes to a tree, within bounds.
//!
//! A small body can make a large tree (`[[],[],…` is 36 bytes of memory for one of text; an alias of aliases is worse),
//! so the number of values is bounded, as is their nesting. A key given twice is no error, but strict users are told.

use std::fmt;

use serde::{
    Deserializer,
    de::{DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Number, Value};
use serde_saphyr::options::DuplicateKeyPolicy;

use crate::check::MAX_REPORTED;

/// The most values a body may hold, of all sorts and depths: far beyond what the largest object that can be stored
/// holds, and at most a few dozen megabytes of memory.
pub const MAX_VALUES: usize = 300_000;
/// The deepest nesting, as `serde_json` bounds it too.
pub const MAX_DEPTH: usize = 128;

/// A tree, and what is to be said of how it was written.
#[derive(Clone, Debug, PartialEq)]
pub struct Decoded {
    /// The tree. Of a key given twice it holds the last value.
    pub value: Value,
    /// What strict users are told: `duplicate field "spec.replicas"`.
    pub mistakes: Vec<String>,
}

/// Why bytes are no tree.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Not JSON, or nested too deep.
    #[error("json parse error: {0}")]
    Json(String),
    /// Not YAML, nested too deep, or grown too large by aliases.
    #[error("yaml parse error: {0}")]
    Yaml(String),
    /// More values than [`MAX_VALUES`].
    #[error("the body holds more than {MAX_VALUES} values")]
    TooManyValues,
    /// YAML of several documents where one is wanted.
    #[error("the body holds {0} documents, where one is wanted")]
    SeveralDocuments(usize),
}

/// Reads one JSON text.
///
/// # Errors
/// [`DecodeError::Json`] or [`DecodeError::TooManyValues`].
pub fn json(bytes: &[u8]) -> Result<Decoded, DecodeError> {
    json_within(bytes, &mut MAX_VALUES.clone())
}

/// Reads one JSON text of at most `left` values, which it takes them from.
pub(crate) fn json_within(bytes: &[u8], left: &mut usize) -> Result<Decoded, DecodeError> {
    let mut reader = Reader {
        left: *left,
        duplicates: Vec::new(),
    };
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let read = Node(&mut reader).deserialize(&mut deserializer).and_then(|value| {
        deserializer.end()?;
        Ok(value)
    });
    *left = reader.left;
    match read {
        Ok(value) => Ok(Decoded {
            value,
            mistakes: reader.mistakes(),
        }),
        Err(_) if reader.left == 0 => Err(DecodeError::TooManyValues),
        Err(error) => Err(DecodeError::Json(error.to_string())),
    }
}

/// Reads one YAML document, JSON included; empty documents beside it don't count. Whole numbers written as floats are
/// whole numbers, as they become on their way through upstream.
///
/// # Errors
/// [`DecodeError::Yaml`], [`DecodeError::TooManyValues`] or [`DecodeError::SeveralDocuments`].
pub fn yaml(bytes: &[u8]) -> Result<Decoded, DecodeError> {
    let mut mistakes = Vec::new();
    let mut documents = match yaml_documents(bytes, DuplicateKeyPolicy::Error) {
        Err(error) if is_duplicate(&error) => {
            mistakes.push(format!("yaml: {}", one_line(&error)));
            yaml_documents(bytes, DuplicateKeyPolicy::LastWins)
        }
        other => other,
    }
    .map_err(|error| DecodeError::Yaml(one_line(&error)))?;
    documents.retain(|document| !document.is_null());
    let mut value = match documents.len() {
        0 => Value::Null,
        1 => documents.remove(0),
        several => return Err(DecodeError::SeveralDocuments(several)),
    };
    let mut left = MAX_VALUES;
    settle_yaml(&mut value, &mut left).ok_or(DecodeError::TooManyValues)?;
    Ok(Decoded { value, mistakes })
}

fn yaml_documents(bytes: &[u8], duplicate_keys: DuplicateKeyPolicy) -> Result<Vec<Value>, serde_saphyr::Error> {
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: MAX_DEPTH,
            max_documents: 64,
            max_events: 2 * MAX_VALUES,
            max_nodes: MAX_VALUES,
            max_anchors: 1_000,
            max_aliases: 1_000,
            max_total_scalar_bytes: 16 << 20,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: 100_000,
            max_replay_stack_depth: 16,
        },
        duplicate_keys: duplicate_keys,
        legacy_octal_numbers: true,
        with_snippet: false,
    };
    serde_saphyr::from_slice_multiple_with_options(bytes, options)
}

fn is_duplicate(error: &serde_saphyr::Error) -> bool {
    matches!(error.without_snippet(), serde_saphyr::Error::DuplicateMappingKey { .. })
}

fn one_line(error: &serde_saphyr::Error) -> String {
    error.to_string().split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Makes whole floats whole numbers, and counts; `None` if there are too many values.
fn settle_yaml(value: &mut Value, left: &mut usize) -> Option<()> {
    *left = left.checked_sub(1)?;
    match value {
        Value::Number(number) if number.is_f64() => {
            let float = number.as_f64().unwrap_or_default();
            // Within these bounds a float holds every whole number.
            if float.fract() == 0.0 && float.abs() < 9_007_199_254_740_992.0 {
                #[allow(clippy::cast_possible_truncation, reason = "whole and within bounds, as said above")]
                let whole = float as i64;
                *number = whole.into();
            }
        }
        Value::Array(list) => list.iter_mut().try_for_each(|value| settle_yaml(value, left))?,
        Value::Object(map) => map.values_mut().try_for_each(|value| settle_yaml(value, left))?,
        _ => {}
    }
    Some(())
}

/// What reading keeps account of.
struct Reader {
    /// How many more values there may be.
    left: usize,
    /// Paths of keys given twice, innermost segment first: what is around them is added on the way out, so that
    /// reading costs nothing while there are none.
    duplicates: Vec<Vec<Segment>>,
}

enum Segment {
    Key(String),
    Index(usize),
}

impl Reader {
    fn around(&mut self, since: usize, segment: impl Fn() -> Segment) {
        for path in &mut self.duplicates[since..] {
            path.push(segment());
        }
    }

    fn mistakes(self) -> Vec<String> {
        let path = |segments: Vec<Segment>| {
            segments
                .into_iter()
                .rev()
                .fold(String::new(), |path, segment| match segment {
                    Segment::Key(key) if path.is_empty() => key,
                    Segment::Key(key) => format!("{path}.{key}"),
                    Segment::Index(index) => format!("{path}[{index}]"),
                })
        };
        self.duplicates
            .into_iter()
            .map(|segments| format!("duplicate field \"{}\"", path(segments)))
            .collect()
    }
}

/// One value, read under a reader's account.
struct Node<'r>(&'r mut Reader);

impl<'de> DeserializeSeed<'de> for Node<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        if self.0.left == 0 {
            return Err(D::Error::custom("too many values"));
        }
        self.0.left -= 1;
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Node<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        loop {
            let since = self.0.duplicates.len();
            let Some(value) = access.next_element_seed(Node(self.0))? else {
                break;
            };
            let index = list.len();
            self.0.around(since, || Segment::Index(index));
            list.push(value);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = access.next_key::<String>()? {
            let since = self.0.duplicates.len();
            let value = access.next_value_seed(Node(self.0))?;
            self.0.around(since, || Segment::Key(key.clone()));
            if map.contains_key(&key) && self.0.duplicates.len() < MAX_REPORTED {
                self.0.duplicates.push(vec![Segment::Key(key.clone())]);
            }
            map.insert(key, value);
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn keys_given_twice_are_told_and_the_last_one_counts() {
        let text = br#"{"a":1,"spec":{"list":[{},{"x":1,"y":2,"x":3}],"list2":[]},"a":2}"#;
        let decoded = json(text).expect("JSON");
        assert_eq!(
            decoded.value,
            json!({"a": 2, "spec": {"list": [{}, {"x": 3, "y": 2}], "list2": []}})
        );
        assert_eq!(
            decoded.mistakes,
            ["duplicate field \"spec.list[1].x\"", "duplicate field \"a\""]
        );
        let decoded = yaml(b"a: 1\nb:\n  c: 1\n  c: 2\n").expect("YAML");
        assert_eq!(decoded.value, json!({"a": 1, "b": {"c": 2}}));
        assert_eq!(decoded.mistakes.len(), 1);
        assert!(decoded.mistakes[0].starts_with("yaml: "), "{:?}", decoded.mistakes);
    }

    #[test]
    fn what_is_no_json_is_refused() {
        for text in [
            "",
            "{",
            "{\"a\":}",
            "[1,]",
            "{} {}",
            "nul",
            "\"\\ud800\"",
            "{\"a\":1e999}",
        ] {
            assert!(matches!(json(text.as_bytes()), Err(DecodeError::Json(_))), "{text}");
        }
        assert!(matches!(json(b"\"\xff\""), Err(DecodeError::Json(_))));
    }

    #[test]
    fn deep_and_wide_bodies_are_refused() {
        let deep = "[".repeat(100_000);
        assert!(matches!(json(deep.as_bytes()), Err(DecodeError::Json(_))));
        assert!(matches!(yaml(deep.as_bytes()), Err(DecodeError::Yaml(_))));
        let wide = format!("[{}0]", "0,".repeat(MAX_VALUES));
        assert_eq!(json(wide.as_bytes()), Err(DecodeError::TooManyValues));
        assert!(yaml(wide.as_bytes()).is_err());
    }

    #[test]
    fn an_alias_of_aliases_is_refused() {
        let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..10 {
            let above = level - 1;
            let list = format!("*a{above}, ").repeat(8);
            writeln!(bomb, "a{level}: &a{level} [{list}*a{above}]").expect("text grows");
        }
        assert!(matches!(yaml(bomb.as_bytes()), Err(DecodeError::Yaml(_))));
    }

    #[test]
    fn a_long_text_is_not_repeated_by_aliases_without_end() {
        let long = format!("a: &a {}\nb: [{}*a]\n", "x".repeat(100_000), "*a, ".repeat(900));
        assert!(matches!(yaml(long.as_bytes()), Err(DecodeError::Yaml(_))));
    }

    #[test]
    fn yaml_is_read_as_upstream_reads_it() {
        let text = b"mode: 0644\nport: 80.0\nhalf: 0.5\nquoted: \"0644\"\nnothing: ~\nlist: [a, 1]\n";
        let wanted = json!({"mode": 420, "port": 80, "half": 0.5, "quoted": "0644", "nothing": null, "list": ["a", 1]});
        assert_eq!(yaml(text).expect("YAML").value, wanted);
        assert_eq!(yaml(b"---\na: 1\n---\n").expect("one document").value, json!({"a": 1}));
        assert_eq!(yaml(b"a: 1\n---\nb: 1\n"), Err(DecodeError::SeveralDocuments(2)));
        assert_eq!(yaml(b"").expect("nothing").value, Value::Null);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..256)) {
            let _ = json(&bytes);
            let _ = yaml(&bytes);
        }

        #[test]
        fn json_is_read_as_others_read_it(text in "[\\[\\]{}\":,0-9a-z. -]{0,64}") {
            let theirs = serde_json::from_str::<Value>(&text).ok();
            prop_assert_eq!(json(text.as_bytes()).ok().map(|decoded| decoded.value), theirs);
        }
    }
}
