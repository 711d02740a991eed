//! Making a cluster, or what is missing of one.
//!
//! checks → lock → [`decide`] what the cluster is, and write it down → network → server → nodes → routes between their
//! pods. Each part is looked for first and made where it is missing or of another program than ours.

use std::{
    fs, io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail, ensure};
use bosun_net::Cidr;
use tokio::task::spawn_blocking;

use crate::{
    Layout, Progress,
    cgroup::Hierarchies,
    down,
    fabric::{self, Machine, SERVER},
    layout::node_name,
    lock,
    progress::Waiting,
    ranges::{MOST_NODES, Ranges, choose},
    record::Record,
    requirements,
};

mod programs;

pub(crate) use programs::url;

/// The port of every cluster's API server: each has an address of its own.
pub const PORT: u16 = 6443;

/// What a cluster shall be. What is not said stays as it is, or is the usual.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// How many nodes; none for a server alone.
    pub nodes: Option<u8>,
    /// The containerd of its nodes.
    pub containerd: Option<PathBuf>,
    /// The range of all its addresses.
    pub cidr: Option<Cidr>,
}

/// Makes the cluster, or what is missing of it. Returns when the server and every node are ready.
pub async fn up(layout: &Layout, wanted: &Wanted, progress: &Progress) -> anyhow::Result<Record> {
    requirements::root("up")?;
    let program = requirements::own_program()?;
    let hierarchies = Hierarchies::find()?;
    // Before anything is made.
    let known = Record::read(layout)?;
    refuse_what_is_not_a_cluster(layout)?;
    let mut wanted = wanted.clone();
    if wanted.nodes.or(known.as_ref().map(|known| known.nodes)) != Some(0) {
        let given = wanted.containerd.or(known.map(|known| known.containerd));
        wanted.containerd = Some(requirements::containerd(&given.unwrap_or_else(|| "containerd".into()))?);
    }
    let lock = lock::cluster(layout, true).await?;
    if layout.ending().exists() {
        let finish = async |_: &Waiting| down::take_down(layout, &hierarchies).await;
        progress.step("taking down what was being taken down", finish).await?;
    }
    let up = Up {
        layout,
        program: &program,
        hierarchies: &hierarchies,
        progress,
    };
    let record = match up.network(&wanted).await {
        Err(error) if !layout.record().exists() => {
            // Nothing was made but the directory, if that.
            let _ = fs::remove_dir(layout.dir());
            return Err(error);
        }
        other => other?,
    };
    let ranges = record.ranges()?;
    up.server(&ranges).await?;
    up.nodes(&record, &ranges).await?;
    drop(lock);
    Ok(record)
}

/// A directory in which there are other things than a cluster is not made one.
fn refuse_what_is_not_a_cluster(layout: &Layout) -> anyhow::Result<()> {
    let dir = layout.dir();
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error).with_context(|| format!("reading {}", dir.display())),
    };
    for entry in entries {
        let name = entry.with_context(|| format!("reading {}", dir.display()))?.file_name();
        ensure!(
            Layout::owns(&name) || layout.record().exists(),
            "{} holds other things than a cluster ({}): name an empty directory, or one that is not there yet, with --dir",
            dir.display(),
            name.display()
        );
    }
    Ok(())
}

/// What the cluster is from now on; `free` finds a range for a new one.
fn decide(
    known: Option<Record>,
    wanted: &Wanted,
    free: impl FnOnce() -> anyhow::Result<Ranges>,
) -> anyhow::Result<Record> {
    if let Some(nodes) = wanted.nodes {
        ensure!(
            nodes <= MOST_NODES,
            "a cluster on one machine has at most {MOST_NODES} nodes"
        );
    }
    let Some(mut record) = known else {
        let ranges = match wanted.cidr {
            Some(cidr) => {
                Ranges::of(cidr).with_context(|| format!("--cidr {cidr}: give a /16 of IPv4, such as 10.200.0.0/16"))?
            }
            None => free()?,
        };
        let containerd = wanted.containerd.clone().unwrap_or_else(|| "containerd".into());
        return Ok(Record::new(&ranges, wanted.nodes.unwrap_or(1), containerd));
    };
    if let Some(nodes) = wanted.nodes {
        ensure!(
            nodes >= record.nodes,
            "the cluster has {} nodes, and 'up' takes none away: take it down first ('bosun dev down')",
            record.nodes
        );
        record.nodes = nodes;
    }
    if let Some(cidr) = wanted.cidr.filter(|cidr| *cidr != record.cidr) {
        bail!(
            "the cluster has its addresses from {}, not {cidr}: take it down first ('bosun dev down')",
            record.cidr
        );
    }
    if let Some(containerd) = &wanted.containerd {
        record.containerd.clone_from(containerd);
    }
    Ok(record)
}

/// The machines of a cluster, as its switch knows them.
pub(crate) fn machines(record: &Record, ranges: &Ranges) -> Vec<Machine> {
    let server = Machine {
        name: SERVER.to_owned(),
        address: ranges.server(),
    };
    let nodes = (1..=record.nodes).map(|number| Machine {
        name: node_name(number),
        address: ranges.node(number),
    });
    [server].into_iter().chain(nodes).collect()
}

/// A cluster that is being made.
struct Up<'a> {
    layout: &'a Layout,
    program: &'a Path,
    hierarchies: &'a Hierarchies,
    progress: &'a Progress,
}

impl Up<'_> {
    /// Chooses what there is to choose, writes it down, and makes the network.
    async fn network(&self, wanted: &Wanted) -> anyhow::Result<Record> {
        let layout = self.layout.clone();
        let network = async |waiting: &Waiting| {
            waiting.on("another 'bosun dev up' chooses its addresses");
            let choice = lock::choice().await?;
            waiting.on("the kernel");
            let taken = fabric::taken(&layout)?;
            let known = Record::read(&layout)?;
            let record = decide(known, wanted, || {
                choose(layout.id(), &taken).context(
                    "every range of private addresses is in use on this machine: name a /16 that can be spared with --cidr",
                )
            })?;
            if let Some(other) = taken.iter().find(|other| other.overlaps(&record.cidr)) {
                bail!(
                    "the cluster's range {} overlaps {other}, which this machine has a route to: for another range, take \
                     the cluster down ('bosun dev down') and bring it up anew",
                    record.cidr
                );
            }
            record.write(&layout)?;
            let ranges = record.ranges()?;
            let machines = machines(&record, &ranges);
            make_dir(&layout.namespaces())?;
            let made = {
                let layout = layout.clone();
                spawn_blocking(move || fabric::ensure(&layout, &ranges, &machines))
            };
            made.await??;
            drop(choice);
            Ok(record)
        };
        self.progress.step("network", network).await
    }
}

/// A directory for its owner alone.
fn make_dir(dir: &Path) -> anyhow::Result<()> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.with_context(|| format!("making {}", dir.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranges(text: &str) -> Ranges {
        Ranges::of(text.parse().unwrap()).unwrap()
    }

    fn record(nodes: u8) -> Record {
        Record::new(&ranges("10.201.0.0/16"), nodes, "/usr/bin/containerd".into())
    }

    fn decided(known: Option<Record>, wanted: &Wanted) -> Result<Record, String> {
        decide(known, wanted, || Ok(ranges("10.202.0.0/16"))).map_err(|error| format!("{error:#}"))
    }

    #[test]
    fn a_new_cluster_is_as_wanted_or_as_usual() {
        let usual = decided(None, &Wanted::default()).unwrap();
        assert_eq!((usual.nodes, usual.cidr), (1, "10.202.0.0/16".parse().unwrap()));
        let wanted = Wanted {
            nodes: Some(0),
            containerd: Some("/c".into()),
            cidr: Some("10.9.0.0/16".parse().unwrap()),
        };
        let made = decided(None, &wanted).unwrap();
        assert_eq!((made.nodes, made.cidr.to_string()), (0, "10.9.0.0/16".to_owned()));
        assert_eq!(made.containerd, Path::new("/c"));
    }

    #[test]
    fn a_cluster_that_is_there_stays_as_it_is_and_may_grow() {
        assert_eq!(decided(Some(record(2)), &Wanted::default()), Ok(record(2)));
        let three = Wanted {
            nodes: Some(3),
            ..Wanted::default()
        };
        assert_eq!(decided(Some(record(2)), &three), Ok(record(3)));
    }

    #[test]
    fn what_can_not_be_is_refused_with_the_remedy() {
        let nodes = |nodes| Wanted {
            nodes: Some(nodes),
            ..Wanted::default()
        };
        let cidr = |text: &str| Wanted {
            cidr: Some(text.parse().unwrap()),
            ..Wanted::default()
        };
        for (known, wanted, words) in [
            (Some(record(2)), nodes(1), "bosun dev down"),
            (None, nodes(101), "at most 100"),
            (Some(record(2)), cidr("10.9.0.0/16"), "bosun dev down"),
            (None, cidr("10.9.0.0/17"), "such as 10.200.0.0/16"),
        ] {
            let error = decided(known, &wanted).unwrap_err();
            assert!(error.contains(words), "{error}");
        }
    }

    #[test]
    fn a_directory_with_other_things_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::at(dir.path()).unwrap();
        refuse_what_is_not_a_cluster(&layout).unwrap();
        fs::create_dir(dir.path().join("netns")).unwrap();
        refuse_what_is_not_a_cluster(&layout).unwrap();
        fs::write(dir.path().join("thesis.tex"), "").unwrap();
        let error = refuse_what_is_not_a_cluster(&layout).unwrap_err().to_string();
        assert!(error.contains("thesis.tex") && error.contains("--dir"), "{error}");
        // What a user put beside a cluster does not stop it from being repaired.
        record(1).write(&layout).unwrap();
        refuse_what_is_not_a_cluster(&layout).unwrap();
    }
}
