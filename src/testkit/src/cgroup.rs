//! A container's limits, read from whichever cgroup version the machine has.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context;

/// Where hierarchies are mounted on every machine these tests run on.
const MOUNT: &str = "/sys/fs/cgroup";

/// One cgroup, by its path in the hierarchies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cgroup {
    path: String,
    /// Whether controllers are in the one hierarchy of version 2.
    unified: bool,
}

impl Cgroup {
    /// From the text of `/proc/PID/cgroup`.
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        let rows = || text.lines().map(|line| line.splitn(3, ':').skip(1).collect::<Vec<_>>());
        let path_of = |controller: &str| {
            let mut rows = rows().filter(|row| row.len() == 2 && row[0].split(',').any(|name| name == controller));
            rows.next().map(|row| row[1].to_owned())
        };
        match path_of("memory") {
            Some(path) => Ok(Self { path, unified: false }),
            None => Ok(Self {
                path: path_of("").with_context(|| format!("no cgroup in {text:?}"))?,
                unified: true,
            }),
        }
    }

    /// The path from the top of the hierarchy.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The cgroup around this one.
    pub fn parent(&self) -> Self {
        let path = self.path.rsplit_once('/').map_or("", |(parent, _)| parent).to_owned();
        Self {
            path,
            unified: self.unified,
        }
    }

    /// The most memory it may use; `None` for no limit.
    pub fn memory_limit(&self) -> anyhow::Result<Option<u64>> {
        let text = self.read("memory", "memory.limit_in_bytes", "memory.max")?;
        // Version 1 says "no limit" with the largest number of pages there is.
        Ok(text.parse().ok().filter(|limit| *limit < 1 << 60))
    }

    /// Microseconds of processor time within a period of so many; `None` for no limit.
    pub fn cpu_quota(&self) -> anyhow::Result<Option<(u64, u64)>> {
        let text = if self.unified {
            self.read("cpu", "", "cpu.max")?
        } else {
            let quota = self.read("cpu", "cpu.cfs_quota_us", "")?;
            format!("{quota} {}", self.read("cpu", "cpu.cfs_period_us", "")?)
        };
        let (quota, period) = text.split_once(' ').with_context(|| format!("cpu limit {text:?}"))?;
        Ok(quota.parse().ok().zip(period.parse().ok()))
    }

    /// Its share of the processors against its siblings.
    pub fn cpu_weight(&self) -> anyhow::Result<u64> {
        let text = self.read("cpu", "cpu.shares", "cpu.weight")?;
        text.parse().with_context(|| format!("cpu share {text:?}"))
    }

    fn read(&self, controller: &str, v1: &str, v2: &str) -> anyhow::Result<String> {
        let inside = self.path.trim_start_matches('/');
        let file: PathBuf = if self.unified {
            Path::new(MOUNT).join(inside).join(v2)
        } else {
            Path::new(MOUNT).join(controller).join(inside).join(v1)
        };
        let text = fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
        Ok(text.trim().to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn either_version_names_the_path() {
        let v1 = "12:cpu,cpuacct:/n/pod1/c\n4:memory:/n/pod1/c\n1:name=systemd:/other\n0::/\n";
        let cgroup = Cgroup::parse(v1).expect("version 1");
        assert_eq!((cgroup.path(), cgroup.unified), ("/n/pod1/c", false));
        assert_eq!(cgroup.parent().path(), "/n/pod1");
        let cgroup = Cgroup::parse("0::/n/pod1/c\n").expect("version 2");
        assert_eq!((cgroup.path(), cgroup.unified), ("/n/pod1/c", true));
        assert!(Cgroup::parse("").is_err());
    }
}
