//! What `/proc` and the cgroup hierarchies say, scoped to one node.

use std::{
    fs,
    path::{Path, PathBuf},
};

use bosun_cri::mounts;
use nix::unistd::Pid;

/// What belongs to one node: everything under its folder, everything in its cgroup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    /// The node's folder.
    pub dir: PathBuf,
    /// The node's cgroup, from the top of each hierarchy, such as `/bosun-test-1-0`.
    pub cgroup: String,
}

impl Scope {
    /// Whether a process is the node's, by its command line or its cgroups (`/proc/PID/{cmdline,cgroup}`).
    pub fn owns_process(&self, cmdline: &[u8], cgroups: &str) -> bool {
        let mut inside = self.dir.as_os_str().as_encoded_bytes().to_vec();
        inside.push(b'/');
        let named = cmdline.windows(inside.len()).any(|window| window == inside);
        named
            || cgroups
                .lines()
                .filter_map(|line| line.splitn(3, ':').nth(2))
                .any(|path| self.owns_cgroup(path))
    }

    fn owns_cgroup(&self, path: &str) -> bool {
        path.strip_prefix(&self.cgroup)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    /// The node's processes, oldest pid first, without this one.
    pub fn processes(&self) -> Vec<Process> {
        let own = Pid::this();
        let mut found: Vec<_> = pids()
            .filter(|pid| *pid != own)
            .filter_map(|pid| self.process(pid))
            .collect();
        found.sort_by_key(|process| process.pid);
        found
    }

    fn process(&self, pid: Pid) -> Option<Process> {
        let cmdline = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let cgroups = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
        // A process that has ended and waits for its parent holds nothing.
        let ended = fs::read_to_string(format!("/proc/{pid}/stat"))
            .ok()?
            .rsplit(')')
            .next()?
            .starts_with(" Z");
        let command = String::from_utf8_lossy(&cmdline).replace('\0', " ").trim().to_owned();
        (!ended && self.owns_process(&cmdline, &cgroups)).then_some(Process { pid, command })
    }

    /// The mounts under the node's folder, in the order they were made.
    pub fn mounts(&self) -> Vec<PathBuf> {
        let mut mounts = mounts::below(&self.dir).expect("the kernel tells its mounts");
        mounts.reverse();
        mounts
    }

    /// The node's cgroups in every hierarchy, parents first.
    pub fn cgroups(&self) -> Vec<PathBuf> {
        let tops = mounts::cgroups()
            .expect("the kernel tells its mounts")
            .into_iter()
            .map(|mount| mount.join(self.cgroup.trim_start_matches('/')));
        tops.flat_map(|top| directories(&top)).collect()
    }
}

/// A running process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its id.
    pub pid: Pid,
    /// Its command line.
    pub command: String,
}

impl Process {
    /// The program's name, without its folder.
    pub fn program(&self) -> &str {
        self.command
            .split(' ')
            .next()
            .and_then(|path| path.rsplit('/').next())
            .unwrap_or_default()
    }
}

/// Every process of the machine.
pub fn pids() -> impl Iterator<Item = Pid> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok().map(Pid::from_raw))
}

/// A folder and all folders below it, parents first; none if it does not exist.
pub fn directories(top: &Path) -> Vec<PathBuf> {
    if !top.is_dir() {
        return Vec::new();
    }
    let mut found = vec![top.to_path_buf()];
    let mut next = 0;
    while let Some(dir) = found.get(next).cloned() {
        let entries = fs::read_dir(&dir).into_iter().flatten().flatten();
        found.extend(
            entries
                .filter(|e| e.file_type().is_ok_and(|t| t.is_dir()))
                .map(|e| e.path()),
        );
        next += 1;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope() -> Scope {
        Scope {
            dir: "/tmp/bosun-test-7-0".into(),
            cgroup: "/bosun-test-7-0".into(),
        }
    }

    #[test]
    fn a_process_belongs_by_its_command_line_or_its_cgroup_and_never_by_a_likeness() {
        let cases: &[(&[u8], &str, bool)] = &[
            (
                b"containerd\0--config\0/tmp/bosun-test-7-0/run/c.toml\0",
                "4:memory:/\n",
                true,
            ),
            (
                b"sleep\0inf\0",
                "5:cpu:/\n4:memory:/bosun-test-7-0/burstable/pod1/abc\n0::/\n",
                true,
            ),
            (b"sleep\0inf\0", "0::/bosun-test-7-0\n", true),
            (
                b"containerd\0--config\0/tmp/bosun-test-7-01/run/c.toml\0",
                "4:memory:/\n",
                false,
            ),
            (b"sleep\0inf\0", "4:memory:/bosun-test-7-01/pod\n", false),
            (b"sleep\0inf\0", "4:memory:/other/bosun-test-7-0\n", false),
        ];
        for (cmdline, cgroups, owned) in cases {
            assert_eq!(scope().owns_process(cmdline, cgroups), *owned, "{cgroups}");
        }
    }

    #[test]
    fn a_program_is_named_without_its_folder() {
        let process = Process {
            pid: Pid::from_raw(1),
            command: "/usr/bin/containerd --config x/y".into(),
        };
        assert_eq!(process.program(), "containerd");
    }
}
