//! Bosun, the program: command line, logs, wiring of roles. Nothing is decided here.
//!
//! - [`cli`]: what can be asked for, with help that teaches.
//! - [`agent`], [`server`]: `bosun agent` and `bosun server`, until they are told to end.
//! - [`dev`]: clusters of several nodes on this machine.
//! - [`kubeconfig`]: a certificate for another user. [`join`]: how a node is told to join a cluster.
//! - [`token`]: what machines join with.
//! - [`upkeep`]: a damaged store, a new encryption key.
//! - [`pods`], [`images`]: questions and orders to what runs; [`client`] asks the agent.
//! - [`output`]: what a command answers. [`logs`]: to the journal or to standard error. [`memory`]: how the allocator behaves.

mod agent;
mod cli;
mod client;
mod dev;
mod images;
mod join;
mod kubeconfig;
mod logs;
mod memory;
mod output;
mod pods;
mod server;
mod token;
mod upkeep;

use std::process::ExitCode;

use clap::Parser;
use tokio::runtime;

use crate::cli::{Cli, Command};

fn main() -> ExitCode {
    memory::cap_arenas();
    match run(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bosun: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Agent(args) => agent::run(&args),
        Command::Server(args) => server::run(&args),
        Command::Dev(args) => dev::run(&args),
        Command::Kubeconfig(args) => kubeconfig::run(&args),
        Command::Token(args) => once(token::run(&args)),
        Command::Salvage(args) => upkeep::salvage(&args),
        Command::RotateEncryptionKey(args) => upkeep::rotate_encryption_key(&args),
        Command::Pods(args) => once(pods::run(&args)),
        Command::Images(args) => once(images::run(&args)),
        Command::Version => {
            let version = env!("CARGO_PKG_VERSION");
            output::print_line(&format!("bosun {version} (Kubernetes 1.36, CRI v1, CNI 1.1)"))?;
            Ok(())
        }
    }
}

/// Does one thing and ends.
fn once(work: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(work)
}
