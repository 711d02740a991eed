//! The cluster's cgroups: what its pods are in, and what every program of it is born in, so that the kernel knows all its
//! processes.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, bail};
use bosun_cri::mounts;
use tokio::time::{Instant, sleep};

use crate::process::{self, Running};

/// How long killed processes may take to be gone, and cgroups to be let go of.
const DEADLINE: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_millis(20);

/// The machine's hierarchies of cgroups.
#[derive(Clone, Debug)]
pub struct Hierarchies {
    /// Where each is mounted.
    mounts: Vec<PathBuf>,
    /// The one that programs are kept in.
    home: PathBuf,
}

impl Hierarchies {
    /// As they are mounted.
    pub fn find() -> anyhow::Result<Self> {
        let all = mounts::all().context("reading the mounts")?;
        let of = |file_system: &str| {
            let mounts = all.iter().filter(move |mount| mount.file_system == file_system);
            mounts.map(|mount| mount.point.clone()).collect::<Vec<_>>()
        };
        let (unified, old) = (of("cgroup2"), of("cgroup"));
        // Beside version 1 the unified hierarchy has no controllers, and does for this as well as any. A new cgroup of
        // version 1's cpuset takes no process before it is set up.
        let plain = old.iter().find(|mount| !mount.join("cpuset.cpus").exists());
        let home = unified.first().or(plain).cloned();
        Ok(Self {
            home: home.context("no cgroup file system is mounted: mount one on /sys/fs/cgroup")?,
            mounts: unified.into_iter().chain(old).collect(),
        })
    }

    /// Makes a cgroup for programs, given from the top of the hierarchy.
    pub fn make(&self, cgroup: &str) -> anyhow::Result<PathBuf> {
        let dir = below(&self.home, cgroup);
        fs::create_dir_all(&dir).with_context(|| {
            format!(
                "making the cgroup {}: is the file system mounted read-only?",
                dir.display()
            )
        })?;
        Ok(dir)
    }

    /// A cgroup for programs, there or not.
    pub fn programs(&self, cgroup: &str) -> PathBuf {
        below(&self.home, cgroup)
    }

    /// The processes in a cgroup and those below it, in any hierarchy.
    pub fn processes(&self, cgroup: &str) -> BTreeSet<u32> {
        let mut found = BTreeSet::new();
        for mount in &self.mounts {
            for dir in tree(&below(mount, cgroup)) {
                found.extend(processes_in(&dir));
            }
        }
        found
    }

    /// Whether there is such a cgroup in any hierarchy.
    pub fn exists(&self, cgroup: &str) -> bool {
        self.mounts.iter().any(|mount| below(mount, cgroup).exists())
    }

    /// Kills every process in a cgroup and those below it, and waits until they are gone.
    pub async fn kill(&self, cgroup: &str) -> anyhow::Result<()> {
        let latest = Instant::now() + DEADLINE;
        loop {
            for mount in &self.mounts {
                // All at once, where the kernel can; what has not been made yet, or is no more, needs none.
                let _ = fs::write(below(mount, cgroup).join("cgroup.kill"), "1");
            }
            let mut left = Vec::new();
            for pid in self.processes(cgroup) {
                if let Some(process) = Running::of(pid).filter(|_| is_in(pid, cgroup)) {
                    process.kill();
                    left.push(process);
                }
            }
            if left.is_empty() {
                return Ok(());
            }
            if Instant::now() >= latest {
                let words = |process: &Running| format!("{} ({})", process.pid, process::command_line(process.pid));
                let left: Vec<_> = left.iter().map(words).collect();
                bail!("these processes were killed and do not end: {}", left.join(", "));
            }
            sleep(PAUSE).await;
        }
    }

    /// Removes a cgroup and those below it, in every hierarchy. Its processes may still be on their way out.
    pub async fn remove(&self, cgroup: &str) -> anyhow::Result<()> {
        let latest = Instant::now() + DEADLINE;
        loop {
            let mut failed = None;
            for mount in &self.mounts {
                for dir in tree(&below(mount, cgroup)).iter().rev() {
                    match fs::remove_dir(dir) {
                        Err(error) if error.kind() != io::ErrorKind::NotFound => failed = Some((dir.clone(), error)),
                        _ => {}
                    }
                }
            }
            let Some((dir, error)) = failed else { return Ok(()) };
            if Instant::now() >= latest {
                return Err(error).with_context(|| format!("removing the cgroup {}", dir.display()));
            }
            sleep(PAUSE).await;
        }
    }
}

fn below(mount: &Path, cgroup: &str) -> PathBuf {
    mount.join(cgroup.trim_start_matches('/'))
}

/// The processes that are in a cgroup itself. It may go at any moment.
pub(crate) fn processes_in(dir: &Path) -> Vec<u32> {
    let text = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
    // 0 is a process that this process namespace does not see.
    let pids = text.lines().filter_map(|line| line.parse().ok());
    pids.filter(|pid| *pid != 0).collect()
}

/// Whether a process is in a cgroup or one below it, in any hierarchy.
pub fn is_in(pid: u32, cgroup: &str) -> bool {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    names(&text, cgroup)
}

/// Whether a line of `/proc/PID/cgroup` names the cgroup or one below it.
fn names(text: &str, cgroup: &str) -> bool {
    let paths = text.lines().filter_map(|line| line.splitn(3, ':').nth(2));
    paths
        .filter_map(|path| path.strip_prefix(cgroup))
        .any(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// A directory and all below it, parents first; none if it is not there.
fn tree(top: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    if top.is_dir() {
        found.push(top.to_owned());
    }
    let mut next = 0;
    while let Some(dir) = found.get(next).cloned() {
        let entries = fs::read_dir(&dir).into_iter().flatten().flatten();
        let dirs = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        found.extend(dirs.map(|entry| entry.path()));
        next += 1;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_in_a_cgroup_by_its_whole_name_in_any_hierarchy() {
        let text = "9:name=systemd:/\n4:memory:/bosun-dev-abc/node-1/kubepods/pod1/c1\n0::/bosun-dev-xyz\n";
        for (cgroup, inside) in [
            ("/bosun-dev-abc", true),
            ("/bosun-dev-abc/node-1", true),
            ("/bosun-dev-xyz", true),
            ("/bosun-dev-ab", false),
            ("/bosun-dev-abc/node", false),
        ] {
            assert_eq!(names(text, cgroup), inside, "{cgroup}");
        }
    }

    #[test]
    fn a_tree_lists_parents_before_children_and_nothing_where_there_is_nothing() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("a/b")).unwrap();
        fs::write(dir.path().join("a/file"), "").unwrap();
        let names: Vec<_> = tree(dir.path())
            .iter()
            .map(|path| path.strip_prefix(dir.path()).unwrap().to_owned())
            .collect();
        assert_eq!(names, ["", "a", "a/b"].map(PathBuf::from));
        assert!(tree(&dir.path().join("none")).is_empty());
    }
}
