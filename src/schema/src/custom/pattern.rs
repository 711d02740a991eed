//! Patterns of schemas: regular expressions as Go reads them.
//!
//! Go's `\d`, `\w`, `\s` and `\b` are about ASCII, ours about all of Unicode: they are rewritten, which also keeps
//! what they compile to small.

use std::collections::HashMap;

use regex::{Regex, RegexBuilder};

/// One pattern may compile to as many bytes.
const MAX_SIZE: usize = 512 << 10;

/// No definition has more different patterns.
const MAX_PATTERNS: usize = 1_000;

/// The patterns of one definition; most are written many times.
#[derive(Debug, Default)]
pub(super) struct Patterns(HashMap<String, Regex>);

impl Patterns {
    /// Compiles a pattern; says what is wrong with it.
    pub(super) fn compile(&mut self, pattern: &str) -> Result<Regex, String> {
        if let Some(known) = self.0.get(pattern) {
            return Ok(known.clone());
        }
        if self.0.len() >= MAX_PATTERNS {
            return Err(format!("there may be no more than {MAX_PATTERNS} patterns"));
        }
        let compiled = RegexBuilder::new(&translate(pattern))
            .size_limit(MAX_SIZE)
            .build()
            .map_err(|error| error.to_string())?;
        self.0.insert(pattern.to_owned(), compiled.clone());
        Ok(compiled)
    }
}

/// The pattern with Go's classes written out.
fn translate(pattern: &str) -> String {
    let mut out = String::with_capacity(pattern.len() + 16);
    let mut letters = pattern.chars().peekable();
    let mut in_class = false;
    while let Some(letter) = letters.next() {
        match letter {
            '\\' => {
                let escaped = letters.next();
                let ascii = match (escaped, in_class) {
                    (Some('d'), true) => "0-9",
                    (Some('w'), true) => "0-9A-Za-z_",
                    (Some('s'), true) => r"\t\n\f\r ",
                    (Some('d'), false) => "[0-9]",
                    (Some('w'), false) => "[0-9A-Za-z_]",
                    (Some('s'), false) => r"[\t\n\f\r ]",
                    (Some('D'), _) => "[^0-9]",
                    (Some('W'), _) => "[^0-9A-Za-z_]",
                    (Some('S'), _) => r"[^\t\n\f\r ]",
                    (Some('b'), false) => r"(?-u:\b)",
                    (other, _) => {
                        out.push('\\');
                        out.extend(other);
                        continue;
                    }
                };
                out.push_str(ascii);
            }
            '[' if in_class && letters.peek() == Some(&':') => out.push('['),
            // A bracket within brackets means itself to Go, and opens a class within the class to us.
            '[' if in_class => out.push_str(r"\["),
            // So do two of these signs: intersection and difference of classes.
            '&' | '~' if in_class => {
                out.push('\\');
                out.push(letter);
            }
            '[' => {
                in_class = true;
                out.push('[');
                if letters.peek() == Some(&'^') {
                    out.extend(letters.next());
                }
                // The first bracket in a class means itself.
                if letters.peek() == Some(&']') {
                    letters.next();
                    out.push_str(r"\]");
                }
            }
            ']' if in_class && out.ends_with(':') && out.rfind("[:").is_some_and(|at| !out[at..].contains(']')) => {
                out.push(']');
            }
            ']' => {
                in_class = false;
                out.push(']');
            }
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_mean_what_they_mean_to_go() {
        let table = [
            (r"^\d+$", "12", true),
            (r"^\d+$", "١٢", false),
            (r"^[\d-]+$", "1-2", true),
            (r"^[^\d]+$", "1", false),
            (r"^\w+$", "ä", false),
            (r"^[\w.-]{1,253}$", "a.b-c_d", true),
            (r"^\S+$", "ä", true),
            (r"^[\S]+$", "a b", false),
            (r"^[^\s]+$", "a\tb", false),
            (r"\bfoo\b", "a foo b", true),
            (r"^.$", "ä", true),
            (r"^[[:alpha:]]+$", "abc", true),
            (r"^[[:alpha:]_]+$", "a_c", true),
            (r"^[[a]+$", "[a", true),
            (r"^[]a]+$", "]a", true),
            (r"^[^]a]+$", "]", false),
            (r"^[&&a]+$", "&a", true),
            (r"^\[\]$", "[]", true),
            (r"^[a-z\]]+$", "a]", true),
            (
                r"^(\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))(([KMGTPE]i)|[numkMGTPE])?$",
                "1.5Gi",
                true,
            ),
        ];
        let mut patterns = Patterns::default();
        for (pattern, text, expected) in table {
            let compiled = patterns
                .compile(pattern)
                .unwrap_or_else(|error| panic!("{pattern}: {error}"));
            assert_eq!(compiled.is_match(text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn patterns_are_bounded_in_size_and_number() {
        let mut patterns = Patterns::default();
        assert!(patterns.compile("((a{100}){100}){100}").is_err());
        for number in 0..MAX_PATTERNS {
            patterns.compile(&number.to_string()).unwrap();
        }
        assert!(patterns.compile("one more").is_err());
        assert!(patterns.compile("1").is_ok());
    }
}
