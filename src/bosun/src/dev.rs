//! `bosun dev`: clusters of several nodes on this machine.

use std::{ffi::OsString, path::PathBuf};

use anyhow::bail;
use bosun_dev::{Layout, Progress, down, exec, layout::CLUSTERS, load, status, up};
use bosun_net::cidr::Cidr;
use clap::{Args, Subcommand, ValueEnum};

use crate::{once, output};

const EXAMPLES: &str = "\
Each node is a network namespace with an agent, a containerd and directories of its own; the API server is in another. \
Nothing of the machine's own network, firewall or containerd is changed, and 'down' leaves nothing. Nobody watches over \
the programs: when one has ended, 'up' starts it again, and pods have gone on meanwhile.

Examples:
  bosun dev up --nodes 3                 three nodes; comes back when all are ready
  bosun dev load web.tar                 an image for all of them, from 'docker save' or 'podman save'
  bosun dev exec node-1 -- ip route      a command in a node's network
  bosun dev status -o json               everything a script or a test wants to know
  bosun dev down                         stops everything, leaves nothing
  bosun dev up --dir ./other --nodes 2   another cluster beside it";

/// Clusters of several nodes on this machine, to try things out
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct DevArgs {
    #[command(subcommand)]
    command: DevCommand,
    /// The cluster's directory; one that is absent or empty makes a new cluster [default: /run/bosun-dev/default]
    #[arg(long, global = true, value_name = "DIR")]
    dir: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum DevCommand {
    /// Make a cluster, add nodes to it, or repair what is missing of it
    Up {
        /// How many nodes [default: 1, or as many as there are]
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..), conflicts_with = "server_only")]
        nodes: Option<u8>,
        /// The containerd of the nodes [default: containerd]
        #[arg(long, value_name = "PROGRAM")]
        containerd: Option<PathBuf>,
        /// The API server alone, without nodes
        #[arg(long)]
        server_only: bool,
        /// All addresses of the cluster: a /16 of IPv4 [default: one that this machine has no route to]
        #[arg(long, value_name = "CIDR")]
        cidr: Option<Cidr>,
    },
    /// Import images into every node
    Load {
        /// Archives; each may hold several images
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// Run a command in a node's network, with containerd's address in its environment
    Exec {
        /// node-1, node-2, … or server
        node: String,
        /// The command and its arguments
        #[arg(required = true, last = true)]
        command: Vec<OsString>,
    },
    /// Show what runs of a cluster
    Status {
        /// For people or for programs
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
    /// Stop a cluster and remove everything of it
    Down,
}

/// How `bosun dev status` shows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Output {
    /// What one looks at first
    #[default]
    Table,
    /// All that is known
    Json,
}

/// Does what is asked of a cluster.
pub(crate) fn run(args: &DevArgs) -> anyhow::Result<()> {
    let dir = args
        .dir
        .clone()
        .unwrap_or_else(|| PathBuf::from(CLUSTERS).join("default"));
    let layout = match Layout::at(&dir) {
        Ok(layout) => layout,
        Err(error) => bail!("--dir {}: {error}: the directory it is in must be there", dir.display()),
    };
    let progress = Progress::new(|line| eprintln!("{line}"));
    match &args.command {
        DevCommand::Up {
            nodes,
            containerd,
            server_only,
            cidr,
        } => {
            let wanted = up::Wanted {
                nodes: if *server_only { Some(0) } else { *nodes },
                containerd: containerd.clone(),
                cidr: *cidr,
            };
            once(async {
                let record = up::up(&layout, &wanted, &progress).await?;
                output::print(&what_next(&layout, record.nodes, &progress))?;
                Ok(())
            })
        }
        DevCommand::Load { files } => once(async {
            for name in load::load(&layout, files, &progress).await? {
                output::print_line(&name)?;
            }
            Ok(())
        }),
        DevCommand::Exec { node, command } => Err(exec::exec(&layout, node, command)),
        DevCommand::Status { output } => once(async {
            let Some(found) = status::status(&layout).await? else {
                let dir = layout.dir().display();
                bail!("no cluster is up in {dir}: start one with 'bosun dev up --dir {dir}'");
            };
            match output {
                Output::Table => output::print(&found.to_table())?,
                Output::Json => output::print_line(&found.to_json()?)?,
            }
            Ok(())
        }),
        DevCommand::Down => once(async {
            if !down::down(&layout, &progress).await? {
                output::print_line(&format!("Nothing is up in {}.", layout.dir().display()))?;
            }
            Ok(())
        }),
    }
}

fn what_next(layout: &Layout, nodes: u8, progress: &Progress) -> String {
    let what = match nodes {
        0 => "A server".to_owned(),
        1 => "A cluster of one node".to_owned(),
        nodes => format!("A cluster of {nodes} nodes"),
    };
    let dir = if layout.dir() == PathBuf::from(CLUSTERS).join("default") {
        String::new()
    } else {
        format!(" --dir {}", layout.dir().display())
    };
    let seconds = progress.elapsed().as_secs_f64();
    let nodes = if nodes > 0 {
        format!("    bosun dev load{dir} IMAGE.tar\n    bosun dev exec{dir} node-1 -- ip route\n")
    } else {
        String::new()
    };
    format!(
        "\n  {what}, up after {seconds:.1} s. What to try next:\n\n    \
         export KUBECONFIG={}\n    kubectl get nodes -o wide\n{nodes}    \
         bosun dev status{dir}\n    bosun dev down{dir}\n",
        layout.kubeconfig().display()
    )
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use crate::cli::{Cli, Command};

    use super::*;

    fn read(args: &str) -> Result<DevArgs, String> {
        let words = ["bosun", "dev"].into_iter().chain(args.split_whitespace());
        match Cli::try_parse_from(words).map_err(|error| error.to_string())?.command {
            Command::Dev(args) => Ok(args),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_directory_may_stand_before_or_after_what_is_asked() {
        for args in ["--dir /d up --nodes 3", "up --nodes 3 --dir /d"] {
            let read = read(args).unwrap();
            assert_eq!(read.dir, Some("/d".into()));
            assert!(matches!(read.command, DevCommand::Up { nodes: Some(3), .. }), "{args}");
        }
        assert_eq!(read("down").unwrap().dir, None);
    }

    #[test]
    fn a_command_for_a_node_is_everything_after_the_dashes() {
        let DevCommand::Exec { node, command } = read("exec --dir /d node-2 -- ip -o addr --dir").unwrap().command
        else {
            panic!("exec");
        };
        assert_eq!(
            (node.as_str(), command.join(&OsString::from(" "))),
            ("node-2", "ip -o addr --dir".into())
        );
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for (args, words) in [
            ("up --nodes 0", "--nodes"),
            ("up --nodes 3 --server-only", "cannot be used with"),
            ("up --cidr 10.0.0.0", "--cidr"),
            ("load", "<FILES>"),
            ("exec node-1", "<COMMAND>"),
        ] {
            let error = read(args).unwrap_err();
            assert!(error.contains(words), "{args}: {error}");
        }
    }
}
