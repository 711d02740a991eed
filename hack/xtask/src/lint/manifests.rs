//! What every member's `Cargo.toml` holds to.

use super::Finding;

/// Checks one member's manifest.
pub(super) fn check(path: &str, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut section = "";
    let mut lints = false;
    for (number, line) in text.lines().enumerate().map(|(index, line)| (index + 1, line.trim())) {
        if line.starts_with('[') {
            section = line.trim_matches(['[', ']']);
            if let Some((_, name)) = section.split_once("dependencies.") {
                findings.push(Finding::error(format!(
                    "{path}:{number}: write {name} on one line, with `workspace = true`"
                )));
            }
        } else if section == "lints" && line == "workspace = true" {
            lints = true;
        } else if section.ends_with("dependencies") && !(line.is_empty() || line.starts_with('#')) {
            let inherits = line.contains("workspace = true");
            if !inherits {
                findings.push(Finding::error(format!(
                    "{path}:{number}: versions stand only in the root Cargo.toml: say `workspace = true`"
                )));
            }
        }
    }
    if !lints {
        findings.push(Finding::error(format!("{path}: `[lints] workspace = true` is missing")));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_inherits_lints_and_versions() {
        let good = "[package]\nname = \"a\"\nversion.workspace = true\n\n[lints]\nworkspace = true\n\n[dependencies]\n\
                    # why\nserde.workspace = true\ntokio = { workspace = true, optional = true }\n";
        assert_eq!(check("a/Cargo.toml", good), []);
    }

    #[test]
    fn each_lapse_is_named() {
        let cases = [
            (
                "[dependencies]\nserde.workspace = true\n",
                "`[lints] workspace = true` is missing",
            ),
            (
                "[lints]\nworkspace = true\n[dev-dependencies]\nserde = \"1\"\n",
                "a/Cargo.toml:4: versions",
            ),
            (
                "[lints]\nworkspace = true\n[dependencies]\nserde = { version = \"1\" }\n",
                "versions stand only",
            ),
            (
                "[lints]\nworkspace = true\n[dependencies.serde]\nversion = \"1\"\n",
                "write serde on one line",
            ),
        ];
        for (text, wanted) in cases {
            let findings = check("a/Cargo.toml", text);
            assert_eq!(findings.len(), 1, "{text}: {findings:?}");
            assert!(findings[0].message.contains(wanted), "{text}: {findings:?}");
        }
    }
}
