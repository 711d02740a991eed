//! The programs of a cluster: started into a namespace and a cgroup, found again by the cgroup they are in and the
//! arguments they were given.

use std::{
    ffi::{OsStr, OsString},
    fs::{self, File},
    io,
    os::unix::{
        ffi::OsStringExt,
        fs::{MetadataExt, OpenOptionsExt},
        process::CommandExt,
    },
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context, ensure};
use bosun_net::netns::Netns;
use nix::{
    sched::{CloneFlags, setns},
    unistd::{setsid, write},
};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::time::{Instant, sleep, timeout};

use crate::cgroup;

/// Between two looks at a process that is to end.
const PAUSE: Duration = Duration::from_millis(20);

/// How long a program may take that only answers.
const ANSWER: Duration = Duration::from_secs(30);

/// A log beyond this is begun anew at the next start; the one before is kept beside it.
const LOG_LIMIT: u64 = 16 << 20;

/// One process, told from others that may get its number by when it began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Running {
    /// Its number.
    pub pid: u32,
    /// In clock ticks since boot.
    start_time: u64,
}

impl Running {
    /// The process that has this number now, if one runs.
    pub fn of(pid: u32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let start_time = start_time(&stat)?;
        Some(Self { pid, start_time })
    }

    /// Whether it still runs.
    pub fn lives(&self) -> bool {
        Self::of(self.pid) == Some(*self)
    }

    /// Whether the file it was started from is still the one of this name.
    pub fn is_of(&self, program: &Path) -> bool {
        let identity = |path: &Path| fs::metadata(path).map(|file| (file.dev(), file.ino())).ok();
        let own = identity(Path::new(&format!("/proc/{}/exe", self.pid)));
        own.is_some() && own == identity(program)
    }

    /// SIGKILL.
    pub fn kill(&self) {
        self.signal(Signal::KILL);
    }

    /// Asks it to end, after `grace` makes it, and waits until it has.
    pub async fn end(&self, grace: Duration) {
        self.signal(Signal::TERM);
        let latest = Instant::now() + grace;
        while self.lives() {
            if Instant::now() >= latest {
                self.kill();
            }
            sleep(PAUSE).await;
        }
    }

    /// Signals this process and no other; one that has ended takes none.
    fn signal(&self, signal: Signal) {
        let raw = i32::try_from(self.pid).ok().and_then(Pid::from_raw);
        let Some(Ok(held)) = raw.map(|pid| pidfd_open(pid, PidfdFlags::empty())) else {
            return;
        };
        // Looked at once more when it is held: the number may have changed hands in between.
        if self.lives() {
            let _ = pidfd_send_signal(held, signal);
        }
    }
}

/// When a process began, from `/proc/PID/stat`; `None` for one that has ended and waits for its parent. The second field
/// is the program's name in parentheses, and may hold anything.
fn start_time(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    let state = fields.next()?;
    if matches!(state, "Z" | "X") {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

/// A process's arguments, its name first; empty for one that has ended.
pub(crate) fn arguments(pid: u32) -> Vec<OsString> {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let bytes = bytes.strip_suffix(b"\0").unwrap_or(&bytes);
    if bytes.is_empty() {
        return Vec::new();
    }
    let words = bytes.split(|byte| *byte == 0);
    words.map(|word| OsString::from_vec(word.to_vec())).collect()
}

/// The same for people.
pub(crate) fn command_line(pid: u32) -> String {
    let words = arguments(pid);
    words.join(OsStr::new(" ")).to_string_lossy().into_owned()
}

/// What tells a program of the cluster from all others in its cgroup.
#[derive(Clone, Copy, Debug)]
pub enum Role<'a> {
    /// `bosun COMMAND … --data-dir DIR …`
    Bosun {
        /// `server` or `agent`.
        command: &'a str,
        /// Its data directory, which no other has.
        data: &'a Path,
    },
    /// `containerd --config FILE`, as an agent starts it.
    Containerd {
        /// The configuration file.
        config: &'a Path,
    },
}

impl Role<'_> {
    fn is_told_by(&self, arguments: &[OsString]) -> bool {
        match self {
            Self::Bosun { command, data } => {
                let has_data = arguments
                    .windows(2)
                    .any(|pair| pair[0] == "--data-dir" && pair[1] == data.as_os_str());
                arguments.get(1).is_some_and(|word| word == command) && has_data
            }
            Self::Containerd { config } => {
                matches!(arguments, [_, flag, value] if flag == "--config" && value == config.as_os_str())
            }
        }
    }
}

/// The program with this role, among the processes of a cgroup.
pub fn find(cgroup: &Path, role: Role<'_>) -> Option<Running> {
    let mut pids = cgroup::processes_in(cgroup).into_iter();
    pids.find_map(|pid| Running::of(pid).filter(|_| role.is_told_by(&arguments(pid))))
}

/// A program to be started.
#[derive(Debug)]
pub struct Start<'a> {
    /// The program.
    pub program: &'a Path,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// The network namespace it runs in; every other one is ours.
    pub netns: &'a Netns,
    /// The cgroup it runs in.
    pub cgroup: &'a Path,
    /// What it says is appended to this file.
    pub log: &'a Path,
    /// Its number is written here, for people.
    pub pid_file: &'a Path,
}

impl Start<'_> {
    /// Starts it; it outlives us.
    #[expect(clippy::disallowed_methods, reason = "this module owns the processes of clusters")]
    #[expect(
        unsafe_code,
        reason = "between fork and exec a process may only make system calls: the closure makes three"
    )]
    pub fn start(self) -> anyhow::Result<Running> {
        let what = || format!("starting {}", self.program.display());
        let log = open_log(self.log).with_context(|| format!("opening {}", self.log.display()))?;
        let members = self.cgroup.join("cgroup.procs");
        let members = File::options()
            .write(true)
            .open(&members)
            .with_context(|| format!("opening {}", members.display()))?;
        let netns = File::open(self.netns.path()).with_context(what)?;
        let mut command = Command::new(self.program);
        command
            .args(&self.arguments)
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        // These name sockets of a service manager that knows nothing of this program.
        for name in [
            "NOTIFY_SOCKET",
            "WATCHDOG_PID",
            "WATCHDOG_USEC",
            "LISTEN_PID",
            "LISTEN_FDS",
            "LISTEN_FDNAMES",
        ] {
            command.env_remove(name);
        }
        // SAFETY: the closure makes system calls on descriptors that it owns, and allocates nothing.
        unsafe {
            command.pre_exec(move || {
                // 0 is whoever writes it. From here on it is found by its cgroup, and until its exec it holds our locks.
                write(&members, b"0")?;
                setns(&netns, CloneFlags::CLONE_NEWNET)?;
                setsid()?;
                Ok(())
            });
        }
        let child = command.spawn().with_context(what)?;
        let pid = child.id();
        let running =
            Running::of(pid).with_context(|| format!("{}: it ended at once: {}", what(), last_words(self.log, 5)))?;
        fs::write(self.pid_file, format!("{pid}\n")).with_context(|| format!("writing {}", self.pid_file.display()))?;
        Ok(running)
    }
}

/// Runs a program to its end; what it printed, if it succeeded.
#[expect(clippy::disallowed_methods, reason = "this module owns the processes of clusters")]
pub(crate) async fn output(program: &Path, arguments: &[OsString]) -> anyhow::Result<String> {
    let mut command = tokio::process::Command::from(Command::new(program));
    command.args(arguments).stdin(Stdio::null()).kill_on_drop(true);
    let output = timeout(ANSWER, command.output()).await;
    let output = output.with_context(|| format!("{} does not end", program.display()))??;
    ensure!(
        output.status.success(),
        "{}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn open_log(path: &Path) -> io::Result<File> {
    if fs::metadata(path).is_ok_and(|file| file.len() > LOG_LIMIT) {
        fs::rename(path, path.with_extension("log.1"))?;
    }
    File::options().create(true).append(true).mode(0o600).open(path)
}

/// The end of a log, for an error that it explains.
pub(crate) fn last_words(log: &Path, lines: usize) -> String {
    let bytes = fs::read(log).unwrap_or_default();
    let tail = &bytes[bytes.len().saturating_sub(8 << 10)..];
    let text = String::from_utf8_lossy(tail);
    let all: Vec<&str> = text.lines().collect();
    format!(
        "{} (all of it: {})",
        all[all.len().saturating_sub(lines)..].join("\n"),
        log.display()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<OsString> {
        text.split(' ').map(OsString::from).collect()
    }

    #[test]
    fn a_program_is_told_by_what_no_other_has_among_its_arguments() {
        let agent = Role::Bosun {
            command: "agent",
            data: Path::new("/c/node-1/data"),
        };
        let containerd = Role::Containerd {
            config: Path::new("/c/node-1/run/containerd/config.toml"),
        };
        for (line, is_agent, is_containerd) in [
            (
                "/x/bosun agent --node-name node-1 --data-dir /c/node-1/data",
                true,
                false,
            ),
            ("bosun server --data-dir /c/node-1/data", false, false),
            ("bosun agent --data-dir /c/node-10/data", false, false),
            ("consul agent --dev", false, false),
            ("containerd --config /c/node-1/run/containerd/config.toml", false, true),
            (
                "containerd --config /c/node-1/run/containerd/config.toml config dump",
                false,
                false,
            ),
            ("", false, false),
        ] {
            assert_eq!(agent.is_told_by(&words(line)), is_agent, "{line}");
            assert_eq!(containerd.is_told_by(&words(line)), is_containerd, "{line}");
        }
    }

    #[test]
    fn a_process_is_known_by_its_start_and_not_by_its_number_alone() {
        let own = Running::of(std::process::id()).unwrap();
        assert!(own.lives());
        assert!(own.is_of(&std::env::current_exe().unwrap()));
        let earlier = Running {
            start_time: own.start_time - 1,
            ..own
        };
        assert!(!earlier.lives());
        // Another's number: nothing is signalled.
        earlier.kill();
    }

    #[test]
    fn one_that_waits_for_its_parent_has_ended() {
        let rest = "1 1 1 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 77 0 0";
        assert_eq!(start_time(&format!("7 (a) b) S {rest}")), Some(77));
        assert_eq!(start_time(&format!("7 (a) b) Z {rest}")), None);
        assert_eq!(start_time(""), None);
    }
}
