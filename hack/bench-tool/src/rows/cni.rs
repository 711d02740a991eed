//! CNI ADD and DEL: `bosun-cni`'s own bench, run with the built plugin.

use std::{collections::BTreeMap, env, time::Duration};

use anyhow::{Context, bail, ensure};
use bosun_testkit::programs;
use serde::Deserialize;
use tokio::process::Command;

use super::{Settings, progress};
use crate::report::{Bar, Row, Series};

/// For both the building and the running of it.
const DEADLINE: Duration = Duration::from_mins(10);

/// One line of the bench's output.
#[derive(Deserialize)]
struct Measure {
    #[serde(rename = "measure")]
    name: String,
    median_ms: f64,
    p90_ms: f64,
}

#[derive(Deserialize)]
struct Ratios {
    add_reference_over_bosun: f64,
    del_bosun_beyond_bare_ms: f64,
}

pub(super) async fn take(row: &mut Row, settings: &Settings) -> anyhow::Result<()> {
    let reference = &settings.reference;
    ensure!(
        reference.join("bridge").exists(),
        "no reference plugins in {}: apt-get install containernetworking-plugins",
        reference.display()
    );
    let rounds = settings.samples.max(30);
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(programs::repository());
    command.args([
        "bench",
        "--quiet",
        "--locked",
        "-p",
        "bosun-cni",
        "--bench",
        "compare",
        "--",
    ]);
    command.arg("--rounds").arg(rounds.to_string());
    command.arg("--plugin").arg(programs::built("bosun-cni")?);
    command.arg("--reference").arg(reference);
    let output = programs::output(command, DEADLINE).await?;
    let text = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        bail!("{}: {text}{}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    progress(rounds, rounds, "rounds of ADD and DEL");
    let lines = || text.lines().filter(|line| line.starts_with('{'));
    let ratios = lines()
        .find_map(|line| serde_json::from_str::<Ratios>(line).ok())
        .context("no ratios")?;
    let measures = lines().filter_map(|line| serde_json::from_str::<Measure>(line).ok());
    let measures: BTreeMap<_, _> = measures.map(|measure| (measure.name.clone(), measure)).collect();
    let of = |name: &str| {
        measures
            .get(name)
            .with_context(|| format!("no measure {name:?} in {text}"))
    };
    let (ours, theirs) = (of("bosun ADD")?, of("reference ADD")?);
    row.figure("ADD, bosun-cni", ours.median_ms, "ms", None);
    row.figure("  90th percentile", ours.p90_ms, "ms", None);
    row.figure("ADD, bridge + host-local + portmap", theirs.median_ms, "ms", None);
    row.figure(
        "ADD, times as fast",
        ratios.add_reference_over_bosun,
        "×",
        Some(Bar::AtLeast(8.0)),
    );
    row.figure("DEL, bosun-cni", of("bosun DEL")?.median_ms, "ms", None);
    row.figure(
        "DEL, a bare veth pair deleted",
        of("bare veth, delete")?.median_ms,
        "ms",
        None,
    );
    row.figure(
        "DEL, beyond the bare one",
        ratios.del_bosun_beyond_bare_ms,
        "ms",
        Some(Bar::AtMost(3.0)),
    );
    row.figure(
        "DEL, bridge + host-local + portmap",
        of("reference DEL")?.median_ms,
        "ms",
        None,
    );
    let series = |names: &[&str]| -> anyhow::Result<Vec<Series>> {
        let of = names
            .iter()
            .map(|name| Ok(Series::new(name, vec![of(name)?.median_ms])));
        of.collect()
    };
    row.panel(
        "ADD",
        "ms",
        None,
        series(&["bosun ADD", "reference ADD", "bare veth, make"])?,
    );
    row.panel(
        "DEL",
        "ms",
        None,
        series(&["bosun DEL", "reference DEL", "bare veth, delete"])?,
    );
    Ok(())
}
