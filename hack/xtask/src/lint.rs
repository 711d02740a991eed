//! `cargo xtask lint`: reads the workspace, applies the rules, prints one line for each finding.

mod directions;
mod manifests;
mod sources;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use anyhow::{Context, bail};
use serde::Deserialize;

/// A member of the workspace, as cargo sees it.
#[derive(Clone, Debug, Deserialize)]
struct Member {
    name: String,
    manifest_path: PathBuf,
    dependencies: Vec<Dependency>,
}

/// A dependency as a manifest declares it.
#[derive(Clone, Debug, Deserialize)]
struct Dependency {
    name: String,
    /// `None` for a normal one, else `dev` or `build`.
    kind: Option<String>,
}

impl Dependency {
    /// Part of what users get, as opposed to what only tests use.
    fn in_product(&self) -> bool {
        self.kind.as_deref() != Some("dev")
    }
}

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Level {
    Error,
    Warning,
}

/// Something a rule found.
#[derive(Debug, PartialEq, Eq)]
struct Finding {
    level: Level,
    message: String,
}

impl Finding {
    fn error(message: impl Into<String>) -> Self {
        Self {
            level: Level::Error,
            message: message.into(),
        }
    }

    fn warning(message: impl Into<String>) -> Self {
        Self {
            level: Level::Warning,
            message: message.into(),
        }
    }
}

/// Applies every rule to the workspace at `root`.
pub(crate) fn run(root: &Path) -> anyhow::Result<ExitCode> {
    let members = members(root)?;
    let mut findings = directions::check(&members);
    findings.extend(directions::check_tree("bosun-cni", &tree(root, "bosun-cni")?));
    for member in &members {
        let path = relative(root, &member.manifest_path);
        findings.extend(manifests::check(&path, &read(&member.manifest_path)?));
    }
    for path in tracked(root)? {
        if path.extension().is_some_and(|e| e == "rs") {
            findings.extend(sources::check(&path.to_string_lossy(), &read(&root.join(&path))?));
        }
    }
    for Finding { level, message } in &findings {
        match level {
            Level::Error => println!("error: {message}"),
            Level::Warning => println!("warning: {message}"),
        }
    }
    let errors = findings.iter().filter(|f| f.level == Level::Error).count();
    println!(
        "{} members, {errors} errors, {} warnings",
        members.len(),
        findings.len() - errors
    );
    Ok(if errors == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn members(root: &Path) -> anyhow::Result<Vec<Member>> {
    #[derive(Deserialize)]
    struct Metadata {
        packages: Vec<Member>,
    }
    let json = output(
        root,
        "cargo",
        &["metadata", "--no-deps", "--format-version=1", "--locked"],
    )?;
    let metadata: Metadata = serde_json::from_str(&json).context("reading cargo metadata")?;
    Ok(metadata.packages)
}

/// The names of the crates that `package` is built of, with the features it gets when built alone.
fn tree(root: &Path, package: &str) -> anyhow::Result<Vec<String>> {
    let args = [
        "tree", "--locked", "-p", package, "--edges", "normal", "--prefix", "none", "--format", "{p}",
    ];
    let text = output(root, "cargo", &args)?;
    Ok(text
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .map(str::to_owned)
        .collect())
}

/// The files of the repository, committed or about to be.
fn tracked(root: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let text = output(root, "git", &["ls-files", "--cached", "--others", "--exclude-standard"])?;
    Ok(text
        .lines()
        .map(PathBuf::from)
        .filter(|path| root.join(path).exists())
        .collect())
}

#[expect(clippy::disallowed_methods, reason = "cargo and git are asked about the workspace")]
fn output(root: &Path, program: &str, args: &[&str]) -> anyhow::Result<String> {
    let command = || format!("{program} {}", args.join(" "));
    let output = Command::new(program)
        .args(args)
        .current_dir(root)
        .output()
        .with_context(command)?;
    if !output.status.success() {
        bail!(
            "{} failed: {}",
            command(),
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(String::from_utf8(output.stdout)?)
}

fn read(path: &Path) -> anyhow::Result<String> {
    fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))
}

fn relative(root: &Path, path: &Path) -> String {
    path.strip_prefix(root).unwrap_or(path).to_string_lossy().into_owned()
}
