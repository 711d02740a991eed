//! `$(NAME)` in commands, arguments and environment values.

use std::borrow::Cow;

/// Replaces each `$(NAME)` that `lookup` knows. `$$` stands for one `$`, so `$$(NAME)` yields `$(NAME)`; a name
/// that is unknown, a reference without its bracket and a lone `$` stay as they are written.
pub fn expand<V: AsRef<str>>(text: &str, lookup: impl Fn(&str) -> Option<V>) -> Cow<'_, str> {
    let Some(first) = text.find('$') else {
        return Cow::Borrowed(text);
    };
    let mut expanded = String::with_capacity(text.len());
    let (literal, mut rest) = text.split_at(first);
    expanded.push_str(literal);
    while let Some(after) = rest.strip_prefix('$') {
        rest = if let Some(after) = after.strip_prefix('$') {
            expanded.push('$');
            after
        } else if let Some((name, after)) = after.strip_prefix('(').and_then(|inner| inner.split_once(')')) {
            match lookup(name) {
                Some(value) => expanded.push_str(value.as_ref()),
                None => expanded.extend(["$(", name, ")"]),
            }
            after
        } else {
            expanded.push('$');
            after
        };
        let (literal, next) = rest.split_at(rest.find('$').unwrap_or(rest.len()));
        expanded.push_str(literal);
        rest = next;
    }
    Cow::Owned(expanded)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lookup(name: &str) -> Option<&'static str> {
        match name {
            "A" => Some("1"),
            "B" => Some("$(A)"),
            "EMPTY" => Some(""),
            "" => Some("nameless"),
            _ => None,
        }
    }

    #[test]
    fn references_are_replaced_as_upstream_does() {
        for (text, expected) in [
            ("plain", "plain"),
            ("", ""),
            ("$(A)", "1"),
            ("x$(A)y$(A)z", "x1y1z"),
            ("$(EMPTY)", ""),
            ("$(B)", "$(A)"),
            ("$(UNKNOWN)", "$(UNKNOWN)"),
            ("$$(A)", "$(A)"),
            ("$$$(A)", "$1"),
            ("$$$$(A)", "$$(A)"),
            ("$$", "$"),
            ("$", "$"),
            ("cost: 5$", "cost: 5$"),
            ("$A", "$A"),
            ("${A}", "${A}"),
            ("$(A", "$(A"),
            ("$(A$(A)", "$(A$(A)"),
            ("$(A $(B)) $$(C)", "$(A $(B)) $(C)"),
            ("$()", "nameless"),
            ("$é$(A)", "$é1"),
            ("日$(A)本", "日1本"),
        ] {
            assert_eq!(expand(text, lookup), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_expands_without_a_panic(text in "[$()A-Bé ]{0,40}") {
            let _ = expand(&text, lookup);
        }

        #[test]
        fn doubling_every_dollar_keeps_a_text_as_it_is(text in "[$()A-Bé ]{0,40}") {
            let doubled = text.replace('$', "$$");
            prop_assert_eq!(expand(&doubled, lookup), text);
        }
    }
}
