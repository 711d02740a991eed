//! Which conformance behaviours the last run covered: named in a tag, and its test passed against a real kernel.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use anyhow::{Context, bail};

use crate::report::TestResult;

/// The lowest tier whose tests count.
const TIER: u8 = 3;

/// A line of `tests/conformance-tags.txt`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Tag {
    binary: String,
    test: String,
    behaviour: String,
}

/// The names in `tests/conformance.txt`.
pub(crate) fn parse_behaviours(text: &str) -> BTreeSet<String> {
    entries(text).map(|(_, line)| line.to_owned()).collect()
}

/// Reads `<binary> <test> = <behaviour>` lines; a behaviour that does not exist is refused.
pub(crate) fn parse_tags(text: &str, behaviours: &BTreeSet<String>) -> anyhow::Result<Vec<Tag>> {
    entries(text)
        .map(|(number, line)| {
            let at = || format!("tests/conformance-tags.txt line {number}");
            let (test, behaviour) = line.split_once(" = ").with_context(at)?;
            let (binary, test) = test.trim().split_once(' ').with_context(at)?;
            if !behaviours.contains(behaviour.trim()) {
                bail!("{}: tests/conformance.txt has no behaviour `{behaviour}`", at());
            }
            Ok(Tag {
                binary: binary.into(),
                test: test.trim().into(),
                behaviour: behaviour.trim().into(),
            })
        })
        .collect()
}

/// The lines that say something, with their numbers.
fn entries(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = text.lines().enumerate().map(|(index, line)| (index + 1, line.trim()));
    lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
}

/// The report: what is not covered, by special interest group, then the count.
pub(crate) fn cover(behaviours: &BTreeSet<String>, tags: &[Tag], results: &[TestResult]) -> String {
    let passed: BTreeSet<_> = results
        .iter()
        .filter(|r| r.passed && r.tier() >= TIER)
        .map(|r| (&r.binary, &r.name))
        .collect();
    let covered: BTreeSet<_> = tags
        .iter()
        .filter(|t| passed.contains(&(&t.binary, &t.test)))
        .map(|t| &t.behaviour)
        .collect();
    let mut groups: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for behaviour in behaviours.iter().filter(|b| !covered.contains(b)) {
        let (group, rest) = behaviour.split_once(' ').unwrap_or(("", behaviour));
        groups.entry(group).or_default().push(rest);
    }
    let mut text = String::new();
    for (group, missing) in groups {
        let _ = writeln!(text, "{group} {} not covered", missing.len());
        for behaviour in missing {
            let _ = writeln!(text, "    {behaviour}");
        }
    }
    for tag in tags.iter().filter(|t| !passed.contains(&(&t.binary, &t.test))) {
        let _ = writeln!(
            text,
            "tagged, but did not pass at tier {TIER} or above: {} {}",
            tag.binary, tag.test
        );
    }
    let _ = writeln!(text, "{} of {} behaviours covered", covered.len(), behaviours.len());
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: &str = "# head\n[sig-node] Pods should run\n[sig-node] Pods should stop\n[sig-network] DNS\n";

    fn result(binary: &str, name: &str, passed: bool) -> TestResult {
        TestResult {
            binary: binary.into(),
            name: name.into(),
            passed,
            flaky: false,
        }
    }

    #[test]
    fn only_a_tagged_test_that_passed_on_a_real_kernel_covers() {
        let names = parse_behaviours(NAMES);
        let tags = "t::containerd a = [sig-node] Pods should run\nt stop = [sig-node] Pods should stop\n\
                    t::netns dns = [sig-network] DNS\n";
        let tags = parse_tags(tags, &names).expect("good tags");
        let run = [
            result("t::containerd", "a", true),
            result("t", "stop", true),
            result("t::netns", "dns", false),
        ];
        let report = cover(&names, &tags, &run);
        assert_eq!(
            report,
            "[sig-network] 1 not covered\n    DNS\n[sig-node] 1 not covered\n    Pods should stop\n\
             tagged, but did not pass at tier 3 or above: t stop\n\
             tagged, but did not pass at tier 3 or above: t::netns dns\n1 of 3 behaviours covered\n"
        );
    }

    #[test]
    fn a_tag_for_an_unknown_behaviour_or_of_another_form_is_refused() {
        let names = parse_behaviours(NAMES);
        for text in [
            "t::vm a = [sig-node] Nothing",
            "t::vm a",
            "a = [sig-node] Pods should run",
        ] {
            assert!(parse_tags(text, &names).is_err(), "{text}");
        }
    }

    #[test]
    fn the_repositorys_own_lists_agree() {
        let names = parse_behaviours(include_str!("../../../tests/conformance.txt"));
        assert_eq!(names.len(), 446);
        parse_tags(include_str!("../../../tests/conformance-tags.txt"), &names).expect("tags of known behaviours");
    }
}
