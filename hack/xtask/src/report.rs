//! What a test run left behind: nextest's `JUnit` file, as a list of tests with their outcome.

use std::{collections::HashMap, fs, path::Path};

use anyhow::{Context, bail};
use quick_xml::{
    Reader, XmlVersion,
    events::{BytesStart, Event},
};

/// One test of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TestResult {
    /// Nextest's name of the test binary, such as `bosun-tests::containerd`.
    pub(crate) binary: String,
    /// The test's path in its binary.
    pub(crate) name: String,
    /// Passed, on whichever try.
    pub(crate) passed: bool,
    /// Passed, but not on the first try.
    pub(crate) flaky: bool,
}

impl TestResult {
    pub(crate) fn tier(&self) -> u8 {
        tier_of(&self.binary)
    }
}

/// The tier of a test binary, from its name.
pub(crate) fn tier_of(binary: &str) -> u8 {
    match binary.rsplit("::").next() {
        Some("cluster") => 2,
        Some("netns") => 3,
        Some("containerd" | "dev") => 4,
        Some("vm") => 5,
        _ => 1,
    }
}

/// Reads the report of the last run.
pub(crate) fn read(path: &Path) -> anyhow::Result<Vec<TestResult>> {
    let text = fs::read_to_string(path)
        .with_context(|| format!("reading {}: run the tests first (./hack/test)", path.display()))?;
    parse(&text).with_context(|| format!("reading {}", path.display()))
}

/// The tests in a `JUnit` file as nextest writes it.
pub(crate) fn parse(xml: &str) -> anyhow::Result<Vec<TestResult>> {
    let mut reader = Reader::from_str(xml);
    let mut results = Vec::new();
    let mut open: Option<TestResult> = None;
    loop {
        match reader.read_event()? {
            Event::Empty(tag) if tag.name().as_ref() == "testcase" => results.push(test_case(&tag)?),
            Event::Start(tag) if tag.name().as_ref() == "testcase" => open = Some(test_case(&tag)?),
            Event::End(tag) if tag.name().as_ref() == "testcase" => results.extend(open.take()),
            Event::Start(tag) | Event::Empty(tag) => match (&mut open, tag.name().as_ref()) {
                (Some(test), "failure" | "error") => test.passed = false,
                (Some(test), "flakyFailure" | "flakyError") => test.flaky = true,
                _ => {}
            },
            Event::Eof => break,
            _ => {}
        }
    }
    if results.is_empty() {
        bail!("the report names no test");
    }
    Ok(results)
}

fn test_case(tag: &BytesStart<'_>) -> anyhow::Result<TestResult> {
    let mut attributes = HashMap::new();
    for attribute in tag.attributes() {
        let attribute = attribute?;
        let key = attribute.key.as_ref().to_owned();
        attributes.insert(key, attribute.normalized_value(XmlVersion::Implicit1_0)?.into_owned());
    }
    let mut take = |key: &str| {
        attributes
            .remove(key)
            .with_context(|| format!("a testcase without {key}"))
    };
    Ok(TestResult {
        binary: take("classname")?,
        name: take("name")?,
        passed: true,
        flaky: false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPORT: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<testsuites name="ci" tests="4" failures="1" errors="1">
  <testsuite name="bosun-net::netns" tests="2">
    <testcase name="wire::a&lt;b&gt; passes" classname="bosun-net::netns" time="0.1"/>
    <testcase name="wire::fails" classname="bosun-net::netns" time="0.1">
      <failure type="test failure with exit code 101">panicked</failure>
      <system-out>x</system-out>
    </testcase>
  </testsuite>
  <testsuite name="bosun-api" tests="2">
    <testcase name="flaky" classname="bosun-api"><flakyFailure type="test failure"/></testcase>
    <testcase name="hangs" classname="bosun-api"><error type="test timeout"/></testcase>
  </testsuite>
</testsuites>"#;

    #[test]
    fn a_report_gives_each_test_with_its_outcome() {
        let results = parse(REPORT).expect("a good report");
        let short: Vec<_> = results
            .iter()
            .map(|r| (r.binary.as_str(), r.name.as_str(), r.passed))
            .collect();
        assert_eq!(
            short,
            [
                ("bosun-net::netns", "wire::a<b> passes", true),
                ("bosun-net::netns", "wire::fails", false),
                ("bosun-api", "flaky", true),
                ("bosun-api", "hangs", false),
            ]
        );
    }

    #[test]
    fn an_empty_or_broken_report_is_an_error() {
        assert!(parse("<testsuites></testsuites>").is_err());
        assert!(parse("<testsuites><testcase name=\"x\"/></testsuites>").is_err());
        assert!(parse("").is_err());
    }

    #[test]
    fn the_tier_follows_the_binary_name() {
        for (binary, tier) in [
            ("bosun-api", 1),
            ("bosun::bin/bosun", 1),
            ("bosun-proto::fields", 1),
            ("bosun-net::netns", 3),
            ("bosun-cri::containerd", 4),
            ("bosun-tests::dev", 4),
            ("bosun-tests::vm", 5),
        ] {
            assert_eq!(tier_of(binary), tier, "{binary}");
        }
    }
}
