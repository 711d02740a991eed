//! Field selectors: `spec.nodeName=a,status.phase!=Failed`, in upstream's grammar and with its words for mistakes.

use std::fmt;

use super::label::SelectorError;

/// One condition on one field.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FieldTerm {
    /// Such as `spec.nodeName`.
    pub field: String,
    /// Whether the value must be equal (or else, must differ).
    pub equal: bool,
    /// An absent field has the empty value.
    pub value: String,
}

/// Conditions that must all hold; without any, everything is selected.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct FieldSelector {
    /// In the order of their text.
    pub terms: Vec<FieldTerm>,
}

impl FieldSelector {
    /// Reads the form of a query parameter.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        let mut parts = split(text);
        parts.sort_unstable();
        let mut terms = Vec::new();
        for part in parts.into_iter().filter(|part| !part.is_empty()) {
            let Some((field, equal, value)) = term(part) else {
                return Err(SelectorError(format!(
                    "invalid selector: '{text}'; can't understand '{part}'"
                )));
            };
            let Some(value) = unescape(value) else {
                return Err(SelectorError(format!(
                    "invalid field selector: invalid escape sequence in '{value}'"
                )));
            };
            terms.push(FieldTerm {
                field: field.to_owned(),
                equal,
                value,
            });
        }
        Ok(Self { terms })
    }

    /// Whether everything is selected.
    pub fn is_empty(&self) -> bool {
        self.terms.is_empty()
    }

    /// The value `field` must have, if it must have one.
    pub fn exact(&self, field: &str) -> Option<&str> {
        let term = self.terms.iter().find(|term| term.equal && term.field == field)?;
        Some(&term.value)
    }

    /// Whether an object whose fields `get` looks up is selected.
    pub fn matches<'a>(&self, get: impl Fn(&str) -> &'a str) -> bool {
        self.terms
            .iter()
            .all(|term| (get(&term.field) == term.value) == term.equal)
    }
}

impl fmt::Display for FieldSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, FieldTerm { field, equal, value }) in self.terms.iter().enumerate() {
            let comma = if at > 0 { "," } else { "" };
            let sign = if *equal { "=" } else { "!=" };
            write!(f, "{comma}{field}{sign}{}", escape(value))?;
        }
        Ok(())
    }
}

/// At commas that are not escaped.
fn split(text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut start, mut escaped) = (0, false);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b',' => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

/// At the first operator that is not escaped.
fn term(part: &str) -> Option<(&str, bool, &str)> {
    let mut escaped = false;
    for (at, byte) in part.bytes().enumerate() {
        if escaped {
            escaped = false;
            continue;
        }
        if byte == b'\\' {
            escaped = true;
            continue;
        }
        for (sign, equal) in [("!=", false), ("==", true), ("=", true)] {
            if part.as_bytes()[at..].starts_with(sign.as_bytes()) {
                return Some((&part[..at], equal, &part[at + sign.len()..]));
            }
        }
    }
    None
}

/// `None` if it has an escape that there isn't, or a sign that must be escaped.
fn unescape(value: &str) -> Option<String> {
    let mut plain = String::with_capacity(value.len());
    let mut chars = value.chars();
    while let Some(char) = chars.next() {
        match char {
            '\\' => match chars.next()? {
                escaped @ ('\\' | ',' | '=') => plain.push(escaped),
                _ => return None,
            },
            ',' | '=' => return None,
            other => plain.push(other),
        }
    }
    Some(plain)
}

fn escape(value: &str) -> String {
    let mut escaped = String::with_capacity(value.len());
    for char in value.chars() {
        if matches!(char, '\\' | ',' | '=') {
            escaped.push('\\');
        }
        escaped.push(char);
    }
    escaped
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn terms_are_read_as_upstream_does() {
        let table = [
            ("", ""),
            ("a=b", "a=b"),
            ("a==b", "a=b"),
            ("b=1,a!=2", "a!=2,b=1"),
            ("a=,", "a="),
            (r"a=x\,y\=z\\", r"a=x\,y\=z\\"),
        ];
        for (text, expected) in table {
            assert_eq!(FieldSelector::parse(text).unwrap().to_string(), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_term_is_refused_in_upstream_s_words() {
        let error = |text| FieldSelector::parse(text).unwrap_err().to_string();
        assert_eq!(error("a"), "invalid selector: 'a'; can't understand 'a'");
        assert_eq!(error("a=b,c"), "invalid selector: 'a=b,c'; can't understand 'c'");
        assert!(error(r"a=\x").contains("invalid escape sequence"));
        assert!(error("a=b=c").contains("invalid escape sequence"));
    }

    #[test]
    fn an_absent_field_has_the_empty_value() {
        let selects = |text: &str, value| FieldSelector::parse(text).unwrap().matches(|_| value);
        assert!(selects("spec.nodeName=", ""));
        assert!(!selects("spec.nodeName=", "a"));
        assert!(selects("spec.nodeName!=", "a"));
        assert!(selects("spec.nodeName=a,spec.nodeName!=b", "a"));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(terms in prop::collection::vec(("[a-z.]{1,9}", any::<bool>(), "[a-z,=\\\\]{0,6}"), 0..4)) {
            let mut terms: Vec<_> = terms.into_iter().map(|(field, equal, value)| FieldTerm { field, equal, value }).collect();
            let text = FieldSelector { terms: terms.clone() }.to_string();
            let mut read = FieldSelector::parse(&text).unwrap().terms;
            let key = |term: &FieldTerm| (term.field.clone(), term.equal, term.value.clone());
            terms.sort_by_key(key);
            read.sort_by_key(key);
            prop_assert_eq!(read, terms);
        }

        #[test]
        fn any_text_is_read_or_refused(text in ".{0,60}") {
            if let Ok(selector) = FieldSelector::parse(&text) {
                prop_assert_eq!(FieldSelector::parse(&selector.to_string()).unwrap().terms.len(), selector.terms.len());
            }
        }
    }
}
