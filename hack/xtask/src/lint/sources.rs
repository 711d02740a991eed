//! The shape of source files.

use super::Finding;

/// From here on a file wants a second look.
const LONG: usize = 600;
/// From here on it holds more than one idea.
const TOO_LONG: usize = 900;

/// Marks of unfinished work, and tests that nobody would run. (In halves: this file is checked too.)
const BANNED: &[(&str, &str)] = &[
    (concat!("TO", "DO"), "finish it or leave it out"),
    (concat!("FIX", "ME"), "finish it or leave it out"),
    (concat!("XX", "X"), "finish it or leave it out"),
    (concat!("todo", "!("), "finish it or leave it out"),
    (concat!("unimplemented", "!("), "finish it or leave it out"),
    (
        concat!("#[ign", "ore"),
        "a test that can't pass yet stands in tests/red.txt",
    ),
];

/// Checks one source file.
pub(super) fn check(path: &str, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    if path.ends_with("/mod.rs") {
        findings.push(Finding::error(format!(
            "{path}: modules are `foo.rs` with `foo/` beside it"
        )));
    }
    let length = length_without_tests(text);
    if length > TOO_LONG {
        findings.push(Finding::error(format!(
            "{path}: {length} lines (at most {TOO_LONG}): split it by its ideas"
        )));
    } else if length > LONG {
        findings.push(Finding::warning(format!(
            "{path}: {length} lines: look for the second idea"
        )));
    }
    for (number, line) in text.lines().enumerate() {
        for (mark, remedy) in BANNED {
            if has_word(line, mark) {
                findings.push(Finding::error(format!("{path}:{}: `{mark}`: {remedy}", number + 1)));
            }
        }
    }
    findings
}

/// Whether a line holds a mark that is not part of a longer word.
fn has_word(line: &str, mark: &str) -> bool {
    let inside = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(mark).any(|(at, _)| {
        let (before, after) = (&line[..at], &line[at + mark.len()..]);
        let ends_open = !mark.ends_with(inside) || !after.starts_with(inside);
        ends_open && !before.ends_with(inside)
    })
}

/// Lines up to the file's test module, which stands last.
fn length_without_tests(text: &str) -> usize {
    let lines: Vec<&str> = text.lines().collect();
    let tests = lines
        .windows(2)
        .position(|pair| pair[0] == "#[cfg(test)]" && pair[1].starts_with("mod "));
    tests.unwrap_or(lines.len())
}

#[cfg(test)]
mod tests {
    use super::{super::Level, *};

    #[test]
    fn long_files_are_warned_of_then_refused_not_counting_their_tests() {
        let file = |code: usize, tests: usize| {
            format!(
                "{}#[cfg(test)]\nmod tests {{\n{}}}\n",
                "fn a() {}\n".repeat(code),
                "// t\n".repeat(tests)
            )
        };
        assert_eq!(check("a.rs", &file(600, 2000)), []);
        assert_eq!(check("a.rs", &file(601, 0))[0].level, Level::Warning);
        assert_eq!(check("a.rs", &file(901, 0))[0].level, Level::Error);
    }

    #[test]
    fn marks_of_unfinished_work_and_ignored_tests_are_refused_with_their_line() {
        for (mark, _) in BANNED {
            let findings = check("src/a.rs", &format!("fn a() {{\n    {mark}\n"));
            assert!(
                findings.iter().any(|f| f.message.starts_with("src/a.rs:2: ")),
                "{mark}: {findings:?}"
            );
        }
    }

    #[test]
    fn a_mark_within_a_longer_word_is_none() {
        for line in [concat!("vethXX", "XX"), concat!("TO", "DOS"), concat!("MYTO", "DO")] {
            assert_eq!(check("a.rs", line), [], "{line}");
        }
    }

    #[test]
    fn module_files_are_named_after_their_module() {
        assert_eq!(check("src/pod/mod.rs", "").len(), 1);
        assert_eq!(check("src/pod.rs", ""), []);
    }
}
