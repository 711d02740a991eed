//! The list of tests that are known to fail, and the judgement of a run against it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use anyhow::bail;

use crate::report::{TestResult, tier_of};

/// A test of `tests/red.txt`: nextest's binary id and the test's path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Red {
    binary: String,
    name: String,
}

impl fmt::Display for Red {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.binary, self.name)
    }
}

/// What a run amounts to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    passed: usize,
    failed: usize,
    /// Listed tests that failed, as they should.
    expected: usize,
    /// Tests that passed, but not on the first try: each is a fault, of the product or of the test.
    flaky: Vec<String>,
    /// One sentence for each thing that is wrong.
    complaints: Vec<String>,
}

impl Verdict {
    pub(crate) fn is_good(&self) -> bool {
        self.complaints.is_empty()
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for test in &self.flaky {
            writeln!(f, "flaky, find out why: {test}")?;
        }
        for complaint in &self.complaints {
            writeln!(f, "{complaint}")?;
        }
        if self.expected > 0 {
            writeln!(f, "{} of the failures are listed in tests/red.txt", self.expected)?;
        }
        writeln!(f, "{} passed, {} failed", self.passed, self.failed)
    }
}

/// Reads `tests/red.txt`: `<binary> <test>  # why` a line. The reason is wanted.
pub(crate) fn parse(text: &str) -> anyhow::Result<BTreeSet<Red>> {
    let mut red = BTreeSet::new();
    for (number, line) in text.lines().enumerate() {
        let (entry, reason) = line.split_once('#').unwrap_or((line, ""));
        let mut words = entry.split_whitespace();
        match (words.next(), words.next(), words.next()) {
            (None, ..) => {}
            (Some(binary), Some(name), None) if !reason.trim().is_empty() => {
                if !red.insert(Red {
                    binary: binary.into(),
                    name: name.into(),
                }) {
                    bail!("tests/red.txt line {}: {binary} {name} is listed twice", number + 1);
                }
            }
            _ => bail!(
                "tests/red.txt line {}: `<binary id> <test>  # why` is wanted, not `{line}`",
                number + 1
            ),
        }
    }
    Ok(red)
}

/// Compares a run with the list; `tier` is the only one that ran, if not all did.
pub(crate) fn judge(red: &BTreeSet<Red>, results: &[TestResult], tier: Option<u8>) -> Verdict {
    let outcome: BTreeMap<_, _> = results
        .iter()
        .map(|r| {
            (
                Red {
                    binary: r.binary.clone(),
                    name: r.name.clone(),
                },
                r.passed,
            )
        })
        .collect();
    let mut complaints = Vec::new();
    let mut expected = 0;
    for test in red
        .iter()
        .filter(|t| tier.is_none_or(|tier| tier_of(&t.binary) == tier))
    {
        match outcome.get(test) {
            Some(false) => expected += 1,
            Some(true) => complaints.push(format!(
                "passes, but is listed as failing: take it off tests/red.txt: {test}"
            )),
            None => complaints.push(format!(
                "listed in tests/red.txt, but did not run (renamed? removed?): {test}"
            )),
        }
    }
    for (test, passed) in &outcome {
        if !passed && !red.contains(test) {
            complaints.push(format!("failed: {test}"));
        }
    }
    let passed = results.iter().filter(|r| r.passed).count();
    let flaky = results.iter().filter(|r| r.passed && r.flaky);
    Verdict {
        flaky: flaky.map(|r| format!("{} {}", r.binary, r.name)).collect(),
        passed,
        failed: results.len() - passed,
        expected,
        complaints,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result(binary: &str, name: &str, passed: bool) -> TestResult {
        TestResult {
            binary: binary.into(),
            name: name.into(),
            passed,
            flaky: false,
        }
    }

    fn listed(text: &str) -> BTreeSet<Red> {
        parse(text).expect("a good list")
    }

    #[test]
    fn a_test_that_passes_only_the_second_time_is_named() {
        let run = [TestResult {
            flaky: true,
            ..result("t::containerd", "c", true)
        }];
        let verdict = judge(&BTreeSet::new(), &run, None);
        assert!(verdict.is_good(), "{verdict}");
        assert_eq!(
            verdict.to_string(),
            "flaky, find out why: t::containerd c\n1 passed, 0 failed\n"
        );
    }

    #[test]
    fn a_run_is_good_when_exactly_the_listed_tests_fail() {
        let red = listed("# head\n\nt::containerd a::b  # not built\n");
        let run = [
            result("t::containerd", "a::b", false),
            result("t::containerd", "c", true),
        ];
        let verdict = judge(&red, &run, None);
        assert!(verdict.is_good(), "{verdict}");
        assert_eq!(
            verdict.to_string(),
            "1 of the failures are listed in tests/red.txt\n1 passed, 1 failed\n"
        );
    }

    #[test]
    fn each_deviation_is_a_complaint_of_its_own() {
        let red = listed("t gone # x\nt mended # x\n");
        let run = [result("t", "mended", true), result("t", "broken", false)];
        let verdict = judge(&red, &run, None);
        assert_eq!(
            verdict.complaints,
            [
                "listed in tests/red.txt, but did not run (renamed? removed?): t gone",
                "passes, but is listed as failing: take it off tests/red.txt: t mended",
                "failed: t broken",
            ]
        );
        assert!(verdict.to_string().ends_with("1 passed, 1 failed\n"));
    }

    #[test]
    fn a_run_of_one_tier_is_held_to_that_tiers_list_only() {
        let red = listed("t::containerd a # x\nt::vm b # x\n");
        let verdict = judge(&red, &[result("t::containerd", "a", false)], Some(4));
        assert!(verdict.is_good(), "{verdict}");
        assert!(!judge(&red, &[result("t::containerd", "a", false)], None).is_good());
    }

    #[test]
    fn a_list_without_reasons_or_with_repeats_is_refused() {
        for text in ["t a\n", "t a #\n", "t # why\n", "t a b # why\n", "t a # x\nt a # y\n"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
