//! What was chosen for a cluster, in one file of its directory. Written before anything is made; what is there is never
//! read from it.

use std::{
    fs::{self, File},
    io::{ErrorKind, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use bosun_net::Cidr;
use serde::{Deserialize, Serialize};

use crate::{Layout, ranges::Ranges};

/// The form of the file.
const VERSION: u32 = 1;

/// What was chosen for a cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    version: u32,
    /// All its addresses are in it.
    pub cidr: Cidr,
    /// How many nodes it has; none for a server alone.
    pub nodes: u8,
    /// The containerd of its nodes.
    pub containerd: PathBuf,
}

impl Record {
    /// Of a new cluster.
    pub fn new(ranges: &Ranges, nodes: u8, containerd: PathBuf) -> Self {
        Self {
            version: VERSION,
            cidr: ranges.whole(),
            nodes,
            containerd,
        }
    }

    /// Its addresses.
    pub fn ranges(&self) -> anyhow::Result<Ranges> {
        Ranges::of(self.cidr)
            .with_context(|| format!("{} is no range for a cluster: it must be a /16 of IPv4", self.cidr))
    }

    /// The record of a cluster; `None` if there is no cluster.
    pub fn read(layout: &Layout) -> anyhow::Result<Option<Self>> {
        let path = layout.record();
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("reading {}", path.display())),
        };
        let remedy = || {
            let dir = layout.dir().display();
            format!(
                "{} can't be used: take the cluster down with 'bosun dev down --dir {dir}'",
                path.display()
            )
        };
        let record: Self = serde_json::from_slice(&bytes).with_context(remedy)?;
        if record.version != VERSION {
            bail!("{} (it is of version {}, not {VERSION})", remedy(), record.version);
        }
        Ok(Some(record))
    }

    /// Writes it.
    pub fn write(&self, layout: &Layout) -> anyhow::Result<()> {
        let text = serde_json::to_string_pretty(self)?;
        write_whole(&layout.record(), &format!("{text}\n"))
    }
}

/// Writes a file for its owner alone, whole or not at all.
pub(crate) fn write_whole(path: &Path, text: &str) -> anyhow::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;

    let name = path.file_name().unwrap_or_default().to_string_lossy();
    // One name for each file: what a killed process left is written over.
    let beside = path.with_file_name(format!(".{name}.new"));
    let write = || {
        let mut file = File::options()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&beside)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&beside, path)
    };
    write().with_context(|| format!("writing {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_as_it_was_written_and_any_other_names_the_remedy() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::at(dir.path()).unwrap();
        assert_eq!(Record::read(&layout).unwrap(), None);
        let ranges = Ranges::of("10.201.0.0/16".parse().unwrap()).unwrap();
        let record = Record::new(&ranges, 3, "/usr/bin/containerd".into());
        record.write(&layout).unwrap();
        assert_eq!(Record::read(&layout).unwrap(), Some(record.clone()));
        assert_eq!(record.ranges().unwrap(), ranges);
        let good = fs::read_to_string(layout.record()).unwrap();
        for bad in [
            String::new(),
            "{".to_owned(),
            good.replace("\"version\": 1", "\"version\": 7"),
        ] {
            fs::write(layout.record(), bad).unwrap();
            let error = format!("{:#}", Record::read(&layout).unwrap_err());
            assert!(error.contains("bosun dev down --dir"), "{error}");
        }
    }
}
