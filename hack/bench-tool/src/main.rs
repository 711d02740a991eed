//! What `hack/bench` runs: each row compares two things, or takes a figure, in one run on this machine.
//!
//! - [`rows`]: one module a row, each on a node of its own ([`bosun_testkit::Node`]), taken away at its end
//! - [`bare`]: the CRI calls of a pod start without an agent around them
//! - [`api`]: clients of an API server, as its users' are
//! - [`agent_log`]: when the agent did what, by its own log; the parser is pure
//! - [`report`], [`plot`], [`stats`]: figures to a table, to JSON, to SVG; pure
//!
//! Rows run one after another in one task; only the burst of bare calls has tasks of its own.

mod agent_log;
mod api;
mod bare;
mod plot;
mod report;
mod rows;
mod stats;

use std::{fs, process::ExitCode, time::Instant};

use anyhow::Context;
use bosun_testkit::programs;
use clap::Parser;

use crate::{
    report::{Report, machine},
    rows::RowName,
};

/// Measures the built programs, in ratios and figures taken in one run, with the machine's load beside them.
///
/// Writes target/bench/results.json and target/bench/plot.svg. A missed bar is marked and changes nothing else.
#[derive(Debug, Parser)]
#[command(name = "hack/bench")]
struct Cli {
    /// Only this row; may be given several times.
    #[arg(long, value_enum, value_name = "ROW")]
    only: Vec<RowName>,
    /// Samples of what is measured one by one.
    #[arg(long, default_value_t = 24, value_parser = clap::value_parser!(u32).range(2..=200))]
    samples: u32,
    /// The reference CNI plugins' folder.
    #[arg(long, default_value = "/usr/lib/cni", value_name = "DIR")]
    reference: std::path::PathBuf,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    let done = runtime
        .context("starting the bench")
        .and_then(|runtime| runtime.block_on(run(cli)));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(cli: Cli) -> anyhow::Result<()> {
    let names = if cli.only.is_empty() {
        RowName::ALL.to_vec()
    } else {
        cli.only
    };
    let settings = rows::Settings {
        samples: cli.samples as usize,
        reference: cli.reference,
    };
    let begun = Instant::now();
    let mut report = Report {
        machine: machine(),
        programs: programs::bin_dir().display().to_string(),
        rows: Vec::new(),
        failed: Vec::new(),
    };
    for name in names {
        eprintln!("▸ {}", name.title());
        // What one row can't do is no reason to lose the others.
        match rows::run(name, &settings).await {
            Ok(row) => report.rows.push(row),
            Err(error) => {
                eprintln!("  failed: {error:#}");
                report.failed.push(format!("{}: {error:#}", name.title()));
            }
        }
    }
    let dir = programs::repository().join("target/bench");
    fs::create_dir_all(&dir).with_context(|| format!("making {}", dir.display()))?;
    fs::write(dir.join("results.json"), serde_json::to_string_pretty(&report)?)?;
    fs::write(dir.join("plot.svg"), plot::svg(&report))?;
    println!("\n{}", report::table(&report));
    println!(
        "{} s; {}",
        begun.elapsed().as_secs(),
        dir.join("{results.json,plot.svg}").display()
    );
    anyhow::ensure!(report.failed.is_empty(), "some rows could not be measured");
    Ok(())
}
