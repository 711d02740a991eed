//! Chores of the repository, run as `cargo xtask <chore>`.
//!
//! - [`lint`]: what rustc and clippy can't see: directions between rooms, manifests, the shape of source files.
//! - [`red`]: a run is good when exactly the tests of `tests/red.txt` fail.
//! - [`conformance`]: the conformance behaviours that no passing test covers.
//! - [`facts`]: the table of facts about Kubernetes' API, from upstream's specification.
//!
//! The rules are pure functions with their tables beside them; this file reads the inputs and prints the outcome.

mod conformance;
mod facts;
mod lint;
mod red;
mod report;

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, bail};

const USAGE: &str = "\
Usage: cargo xtask <chore>

  lint                              directions between rooms, manifests, source files
  red [--tier N] [--junit FILE]     exactly the tests of tests/red.txt may fail
  conformance [--junit FILE]        conformance behaviours not covered by the last run
  facts OPENAPI PROTOBUF            write the table of facts about Kubernetes' API from these two files
";

/// Where nextest's profile `ci` leaves its report.
const JUNIT: &str = "target/nextest/ci/junit.xml";

fn main() -> ExitCode {
    match run(env::args().skip(1).collect()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: Vec<String>) -> anyhow::Result<ExitCode> {
    let mut args = args.into_iter();
    let chore = args.next().unwrap_or_default();
    if chore == "facts" {
        let (Some(openapi), Some(protobuf), None) = (args.next(), args.next(), args.next()) else {
            bail!("facts takes two files\n\n{USAGE}");
        };
        return write_facts(openapi.as_ref(), protobuf.as_ref());
    }
    let mut tier = None;
    let mut junit = root().join(JUNIT);
    while let Some(option) = args.next() {
        let value = args.next().with_context(|| format!("{option} needs a value"))?;
        match option.as_str() {
            "--tier" => {
                let number = value.parse();
                tier = Some(number.with_context(|| format!("--tier {value}: a number is wanted"))?);
            }
            "--junit" => junit = value.into(),
            _ => bail!("{option}: no such option\n\n{USAGE}"),
        }
    }
    match chore.as_str() {
        "lint" => lint::run(&root()),
        "red" => {
            let verdict = red::judge(&red::parse(&read("tests/red.txt")?)?, &report::read(&junit)?, tier);
            print!("{verdict}");
            Ok(code(verdict.is_good()))
        }
        "conformance" => {
            let behaviours = conformance::parse_behaviours(&read("tests/conformance.txt")?);
            let tags = conformance::parse_tags(&read("tests/conformance-tags.txt")?, &behaviours)?;
            let results = if junit.exists() {
                report::read(&junit)?
            } else {
                Vec::new()
            };
            print!("{}", conformance::cover(&behaviours, &tags, &results));
            Ok(ExitCode::SUCCESS)
        }
        _ => {
            eprint!("{USAGE}");
            Ok(ExitCode::from(2))
        }
    }
}

fn write_facts(openapi: &Path, protobuf: &Path) -> anyhow::Result<ExitCode> {
    let json = |path: &Path| -> anyhow::Result<serde_json::Value> {
        let text = fs::read(path).with_context(|| format!("reading {}", path.display()))?;
        serde_json::from_slice(&text).with_context(|| format!("reading {}", path.display()))
    };
    let (openapi, protobuf) = (json(openapi)?, json(protobuf)?);
    let folder = root().join("src/schema/src/facts");
    for (name, text) in [
        ("types.txt", facts::types(&openapi, &protobuf)?),
        ("resources.txt", facts::resources(&openapi)?),
    ] {
        fs::write(folder.join(name), text).with_context(|| format!("writing {name}"))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The repository's folder: two above this package.
fn root() -> PathBuf {
    let package = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into()));
    package.ancestors().nth(2).unwrap_or(&package).to_path_buf()
}

fn read(path: &str) -> anyhow::Result<String> {
    fs::read_to_string(root().join(path)).with_context(|| format!("reading {path}"))
}

fn code(good: bool) -> ExitCode {
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
