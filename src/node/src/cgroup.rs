//! Cgroups of pods: `<root>/kubepods/{,burstable/,besteffort/}pod<uid>`, on cgroup v1 and v2 by the same code.
//!
//! What a pod may use is computed in [`amounts`], purely; the kernel's files are written through `cgroups-rs`.

pub mod amounts;

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
};

use bosun_api::{PodUid, QosClass, core::Pod, qos_class};
use bosun_cri::mounts;
use cgroups_rs::fs::{Cgroup, cpu::CpuController, hierarchies, memory::MemController};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

pub use amounts::{container_resources, overhead, sandbox_resources};

/// A cgroup that can't be made, set or removed.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// Through `cgroups-rs`.
    #[error("{what} of cgroup {path}")]
    Set {
        /// What was being done.
        what: &'static str,
        /// Which cgroup.
        path: String,
        /// The kernel's answer.
        source: cgroups_rs::fs::error::Error,
    },
    /// In the file system.
    #[error("{what} cgroup {}", path.display())]
    Io {
        /// What was being done.
        what: &'static str,
        /// Which directory.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
}

/// The cgroups of a node's pods.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cgroups {
    root: String,
    kept: bool,
}

impl Cgroups {
    /// Below `root`, which `/kubepods` is appended to.
    pub fn below(root: &str) -> Self {
        Self {
            root: root.trim_end_matches('/').to_owned(),
            kept: true,
        }
    }

    /// Left to the runtime: paths are told, and nothing is made or set. For a runtime that has no kernel under it.
    pub fn unkept() -> Self {
        Self {
            root: String::new(),
            kept: false,
        }
    }

    /// The pod's cgroup, as CRI's `cgroup_parent` wants it.
    pub fn path(&self, pod: &Pod, uid: &PodUid) -> String {
        let class = pod.spec.as_ref().map_or(QosClass::BestEffort, qos_class);
        let root = &self.root;
        match class {
            QosClass::Guaranteed => format!("{root}/kubepods/pod{uid}"),
            QosClass::Burstable => format!("{root}/kubepods/burstable/pod{uid}"),
            QosClass::BestEffort => format!("{root}/kubepods/besteffort/pod{uid}"),
        }
    }

    /// Makes the pod's cgroup and sets what the pod may use. Safe to repeat.
    pub fn set_up(&self, pod: &Pod, uid: &PodUid) -> Result<(), CgroupError> {
        if self.kept {
            set_up(&self.path(pod, uid), pod)
        } else {
            Ok(())
        }
    }

    /// The pods that there are cgroups of, whoever made them.
    pub fn pods(&self) -> Result<BTreeSet<PodUid>, CgroupError> {
        let mut pods = BTreeSet::new();
        if !self.kept {
            return Ok(pods);
        }
        for mount in hierarchies()? {
            for class in ["", "burstable", "besteffort"] {
                let directory = mount.join(format!("{}/kubepods/{class}", self.root).trim_start_matches('/'));
                // Most hierarchies have none.
                let entries = fs::read_dir(directory).into_iter().flatten().flatten();
                let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
                pods.extend(names.filter_map(|name| name.strip_prefix("pod").map(PodUid::from)));
            }
        }
        Ok(pods)
    }

    /// Removes the pod's cgroup, whichever class it was in, with what is left of its containers' below it. Fails
    /// while a process is in one. Safe to repeat.
    pub fn tear_down(&self, uid: &PodUid) -> Result<(), CgroupError> {
        if !self.kept {
            return Ok(());
        }
        // Of a pod that is only left over, the class is not known.
        for class in ["", "burstable/", "besteffort/"] {
            tear_down(&format!("{}/kubepods/{class}pod{uid}", self.root))?;
        }
        Ok(())
    }

    /// Kills what is left in a pod's cgroup, whichever class it was in: processes that outlived their containers, such
    /// as a hook's. Gives how many there were; they are gone a moment later.
    pub fn kill(&self, uid: &PodUid) -> Result<usize, CgroupError> {
        if !self.kept {
            return Ok(0);
        }
        let mut left = BTreeSet::new();
        for mount in hierarchies()? {
            for class in ["", "burstable/", "besteffort/"] {
                let path = format!("{}/kubepods/{class}pod{uid}", self.root);
                let directory = mount.join(path.trim_start_matches('/'));
                processes(&directory, &mut left).map_err(|source| CgroupError::Io {
                    what: "reading the processes of",
                    path: directory,
                    source,
                })?;
            }
        }
        let pod = format!("/pod{uid}");
        // Between the reading and the killing another process may have got the number.
        left.retain(|pid| {
            let cgroups = fs::read_to_string(format!("/proc/{pid}/cgroup"));
            cgroups.is_ok_and(|cgroups| {
                cgroups
                    .split(['/', '\n'])
                    .any(|part| part == pod.trim_start_matches('/'))
            })
        });
        for pid in &left {
            // It may have ended by itself.
            let _ = kill(Pid::from_raw(*pid), Signal::SIGKILL);
        }
        Ok(left.len())
    }
}

/// The processes of a cgroup and of those below it.
fn processes(directory: &Path, found: &mut BTreeSet<i32>) -> io::Result<()> {
    // A cgroup may go at any moment, and reading one that has just gone says ENODEV.
    let gone =
        |error: &io::Error| error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(nix::libc::ENODEV);
    let entries = match fs::read_dir(directory) {
        Err(error) if gone(&error) => return Ok(()),
        entries => entries?,
    };
    match fs::read_to_string(directory.join("cgroup.procs")) {
        Err(error) if gone(&error) => return Ok(()),
        // 0 is a process that is not in our process namespace; to kill "0" would be to kill ourselves.
        text => {
            let pids = text?;
            let pids = pids.lines().filter_map(|line| line.parse::<i32>().ok());
            found.extend(pids.filter(|pid| *pid > 0));
        }
    }
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            processes(&entry.path(), found)?;
        }
    }
    Ok(())
}

fn open(path: &str) -> Result<Cgroup, CgroupError> {
    Cgroup::new(hierarchies::auto(), path.trim_start_matches('/')).map_err(|source| CgroupError::Set {
        what: "making",
        path: path.to_owned(),
        source,
    })
}

fn set_up(path: &str, pod: &Pod) -> Result<(), CgroupError> {
    let amounts = amounts::pod_amounts(pod);
    let cgroup = open(path)?;
    let failed = |what| {
        let path = path.to_owned();
        move |source| CgroupError::Set { what, path, source }
    };
    if let Some(cpu) = cgroup.controller_of::<CpuController>() {
        let shares = if cgroup.v2() {
            amounts::weight(amounts.cpu_shares)
        } else {
            amounts.cpu_shares
        };
        cpu.set_shares(shares).map_err(failed("setting processor shares"))?;
        let quota = amounts.cpu_quota.unwrap_or(-1);
        cpu.set_cfs_quota_and_period(Some(quota), Some(amounts::PERIOD))
            .map_err(failed("setting processor quota"))?;
    }
    if let (Some(memory), Some(limit)) = (cgroup.controller_of::<MemController>(), amounts.memory_limit) {
        memory.set_limit(limit).map_err(failed("setting memory limit"))?;
    }
    share_among_classes(path)
}

/// Sets the shares of the `QoS` class that a pod's cgroup is in: best-effort pods get what is left, burstable ones
/// together as much as they asked for, read from their cgroups so that nothing need be remembered.
fn share_among_classes(path: &str) -> Result<(), CgroupError> {
    let Some((class, _)) = path.rsplit_once('/') else {
        return Ok(());
    };
    let name = class.rsplit('/').next().unwrap_or_default();
    let cgroup = open(class)?;
    let Some(cpu) = cgroup.controller_of::<CpuController>() else {
        return Ok(());
    };
    let shares = match name {
        "besteffort" => amounts::LEAST_SHARES,
        "burstable" => {
            let file = if cgroup.v2() { "cpu.weight" } else { "cpu.shares" };
            let directories = hierarchies()?
                .into_iter()
                .map(|mount| mount.join(class.trim_start_matches('/')));
            let pods = directories
                .filter_map(|directory| fs::read_dir(directory).ok())
                .flatten()
                .flatten();
            let values = pods.filter_map(|pod| fs::read_to_string(pod.path().join(file)).ok());
            let values = values.filter_map(|value| value.trim().parse::<u64>().ok());
            let sum: u64 = values
                .map(|value| if cgroup.v2() { amounts::shares(value) } else { value })
                .sum();
            sum.clamp(amounts::LEAST_SHARES, amounts::MOST_SHARES)
        }
        _ => return Ok(()),
    };
    let value = if cgroup.v2() { amounts::weight(shares) } else { shares };
    cpu.set_shares(value).map_err(|source| CgroupError::Set {
        what: "setting processor shares",
        path: class.to_owned(),
        source,
    })
}

/// Where cgroup hierarchies are mounted, v1 and v2. The runtime makes a pod's cgroup in all of them.
fn hierarchies() -> Result<Vec<PathBuf>, CgroupError> {
    mounts::cgroups().map_err(|source| CgroupError::Io {
        what: "finding the mounts of",
        path: "/sys/fs/cgroup".into(),
        source,
    })
}

fn tear_down(path: &str) -> Result<(), CgroupError> {
    for mount in hierarchies()? {
        let directory = mount.join(path.trim_start_matches('/'));
        remove_tree(&directory).map_err(|source| CgroupError::Io {
            what: "removing",
            path: directory,
            source,
        })?;
    }
    Ok(())
}

/// A cgroup's files go with it; only directories are removed, from the leaves up.
fn remove_tree(directory: &Path) -> io::Result<()> {
    let gone = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if gone(&error) => return Ok(()),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_tree(&entry.path())?;
        }
    }
    match fs::remove_dir(directory) {
        Err(error) if !gone(&error) => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn removing_what_is_not_there_succeeds() {
        tear_down("/bosun-no-such-cgroup/kubepods/podx").unwrap();
    }
}
