//! What neither the runtime nor the kernel can tell after a restart of the agent: back-off, probe verdicts, and how long
//! the pod's start took.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use bosun_api::{ContainerId, PodKey, PodUid};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{pod::backoff::Backoff, probe::Verdicts};

/// One pod's checkpoint. It is the first thing written of a pod and the last removed, so that no agent, whenever it is
/// killed, leaves something of a pod that the next one does not know of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// The pod's name.
    pub key: PodKey,
    /// When this node took the pod on.
    pub accepted_at: Timestamp,
    /// Restart back-off by container name.
    pub backoffs: BTreeMap<String, Backoff>,
    /// Probe verdicts by container.
    pub verdicts: BTreeMap<ContainerId, Verdicts>,
    /// How long each stage of its start took, in milliseconds.
    #[serde(default)]
    pub stages: BTreeMap<String, f64>,
}

/// Reads a checkpoint; `None` when there is none or it can't be understood, which costs no more than what it held.
pub fn read(path: &Path) -> Option<Checkpoint> {
    match fs::read(path) {
        Ok(bytes) => match serde_json::from_slice(&bytes) {
            Ok(checkpoint) => Some(checkpoint),
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "checkpoint is damaged; going on without it");
                None
            }
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "checkpoint can't be read; going on without it");
            None
        }
    }
}

/// Replaces a checkpoint in one step.
pub fn write(path: &Path, checkpoint: &Checkpoint) -> io::Result<()> {
    let bytes = serde_json::to_vec(checkpoint)?;
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)?;
    }
    let fresh = path.with_extension("json.tmp");
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let written = options.open(&fresh).and_then(|mut file| file.write_all(&bytes));
    // Without fsync: after a power cut no container is left for it to speak of.
    written.and_then(|()| fs::rename(&fresh, path)).inspect_err(|_| {
        let _ = fs::remove_file(&fresh);
    })
}

/// The pods that there are checkpoints of.
pub fn pods(directory: &Path) -> io::Result<Vec<(PodUid, PodKey)>> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(vec![]),
        Err(error) => return Err(error),
    };
    let mut pods = vec![];
    for entry in entries {
        let path = entry?.path();
        let uid = path
            .file_name()
            .and_then(|name| name.to_str())
            .and_then(|name| name.strip_suffix(".json"));
        if let (Some(uid), Some(checkpoint)) = (uid, read(&path)) {
            pods.push((uid.into(), checkpoint.key));
        }
    }
    Ok(pods)
}

/// Removes a checkpoint. Safe to repeat.
pub fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_comes_back_as_it_was_and_damage_is_no_failure() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("checkpoints/u1.json");
        assert_eq!(read(&path), None);
        let key = PodKey {
            namespace: "default".into(),
            name: "web".into(),
        };
        let checkpoint = Checkpoint {
            key: key.clone(),
            accepted_at: Timestamp::UNIX_EPOCH,
            backoffs: BTreeMap::from([(
                "app".to_owned(),
                Backoff {
                    delay: std::time::Duration::from_secs(20),
                    since: Timestamp::UNIX_EPOCH,
                },
            )]),
            verdicts: BTreeMap::from([(
                "c1".into(),
                Verdicts {
                    started: true,
                    ready: false,
                },
            )]),
            stages: BTreeMap::from([("sandbox".to_owned(), 81.5)]),
        };
        write(&path, &checkpoint).unwrap();
        assert_eq!(read(&path), Some(checkpoint));
        let directory = path.parent().unwrap();
        assert_eq!(pods(directory).unwrap(), [("u1".into(), key)]);
        assert_eq!(pods(&temp.path().join("none")).unwrap(), []);
        fs::write(&path, "{").unwrap();
        assert_eq!(read(&path), None);
        remove(&path).unwrap();
        remove(&path).unwrap();
    }
}
