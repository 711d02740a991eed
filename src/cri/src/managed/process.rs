//! Processes by identity: a number alone may have been given to another process since.

use std::{
    ffi::OsString,
    fs, io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::ffi::OsStringExt,
    },
    path::Path,
    time::Duration,
};

use rustix::process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, pidfd_open, pidfd_send_signal, waitid};
use tokio::{
    io::{Interest, unix::AsyncFd},
    time::timeout,
};

/// One process, held by its pidfd: it stays this process, whatever becomes of its number.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) pid: u32,
    /// In clock ticks since boot; with the number it names a process for good.
    pub(super) start_time: u64,
    fd: AsyncFd<OwnedFd>,
}

impl Process {
    /// The process that has this number now; `None` when none has. Must be called within a tokio runtime.
    pub(super) fn open(pid: u32) -> io::Result<Option<Self>> {
        let Some(raw) = i32::try_from(pid).ok().and_then(Pid::from_raw) else {
            return Ok(None);
        };
        let fd = match pidfd_open(raw, PidfdFlags::NONBLOCK) {
            Ok(fd) => watch(fd)?,
            Err(rustix::io::Errno::SRCH | rustix::io::Errno::INVAL) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let process = Stat::read(pid).filter(|stat| stat.state != 'Z');
        Ok(process.map(|stat| Self {
            pid,
            start_time: stat.start_time,
            fd,
        }))
    }

    /// Waits until it has ended; says how, if it was a child of ours.
    pub(super) async fn ended(&self) -> String {
        // A pidfd is readable once its process has ended.
        if let Err(error) = self.fd.readable().await {
            return format!("it can't be watched: {error}");
        }
        // Ours is collected, or it would stay a zombie; another's is none of our business.
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
        match waitid(WaitId::PidFd(self.fd.get_ref().as_fd()), options) {
            Ok(Some(status)) => match (status.exit_status(), status.terminating_signal()) {
                (Some(code), _) => format!("it ended with code {code}"),
                (_, Some(signal)) => format!("it was ended by signal {signal}"),
                _ => "it ended".to_owned(),
            },
            _ => "it ended".to_owned(),
        }
    }

    /// Sends a signal; a process that has ended takes none.
    pub(super) fn signal(&self, signal: Signal) {
        let _ = pidfd_send_signal(self.fd.get_ref(), signal);
    }

    /// Asks it to end, and after `grace` makes it.
    pub(super) async fn end(&self, grace: Duration) {
        self.signal(Signal::TERM);
        if timeout(grace, self.ended()).await.is_err() {
            self.signal(Signal::KILL);
            let _ = timeout(grace, self.ended()).await;
        }
    }
}

#[expect(
    unsafe_code,
    reason = "tokio wants a promise about the descriptor, which an owned one keeps by its type"
)]
fn watch(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: the descriptor is valid, and stays open and the same one for as long as the `AsyncFd` owns it.
    unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }.map_err(|e| e.into_parts().1)
}

/// What `/proc/PID/stat` says of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stat {
    state: char,
    pub(super) parent: u32,
    pub(super) start_time: u64,
}

impl Stat {
    pub(super) fn read(pid: u32) -> Option<Self> {
        Self::parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    /// The second field is the program's name in parentheses, and may hold anything, parentheses too.
    fn parse(line: &str) -> Option<Self> {
        let mut fields = line.rsplit_once(')')?.1.split_ascii_whitespace();
        let state = fields.next()?.chars().next()?;
        let parent = fields.next()?.parse().ok()?;
        Some(Self {
            state,
            parent,
            start_time: fields.nth(17)?.parse().ok()?,
        })
    }
}

/// The arguments of a process, its name first; empty for one that has ended.
pub(super) fn arguments(pid: u32) -> Vec<OsString> {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let bytes = bytes.strip_suffix(b"\0").unwrap_or(&bytes);
    if bytes.is_empty() {
        return Vec::new();
    }
    bytes
        .split(|b| *b == 0)
        .map(|arg| OsString::from_vec(arg.to_vec()))
        .collect()
}

/// The value of a flag among arguments.
pub(super) fn option(arguments: &[OsString], flag: &str) -> Option<String> {
    let at = arguments.iter().position(|argument| argument == flag)?;
    arguments.get(at + 1)?.to_str().map(str::to_owned)
}

/// Whether `flag value` is among the arguments.
/// Whether `flag value` is among the arguments.
pub(super) fn has_option(arguments: &[OsString], flag: &str, value: &Path) -> bool {
    arguments
        .windows(2)
        .any(|pair| pair[0] == flag && pair[1] == value.as_os_str())
}

/// The numbers of all processes.
pub(super) fn all() -> io::Result<Vec<u32>> {
    let entries = fs::read_dir("/proc")?;
    Ok(entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stat_line_is_read_whatever_the_program_is_called() {
        let line = "4711 (a) b (c) S 12 4711 4711 0 -1 4194304 1 0 0 0 0 0 0 0 20 0 1 0 98765 1 1";
        assert_eq!(
            Stat::parse(line),
            Some(Stat {
                state: 'S',
                parent: 12,
                start_time: 98765
            })
        );
        assert_eq!(Stat::parse("4711 (short) S 12"), None);
    }

    #[test]
    fn an_option_is_a_flag_and_the_value_right_after_it() {
        let arguments = ["containerd", "--config", "/a/b.toml", "--x"].map(OsString::from);
        assert!(has_option(&arguments, "--config", Path::new("/a/b.toml")));
        assert!(!has_option(&arguments, "--config", Path::new("/a/b")));
        assert!(!has_option(&arguments, "--x", Path::new("/a/b.toml")));
    }

    #[tokio::test]
    async fn this_process_is_found_and_runs() {
        let process = Process::open(std::process::id()).expect("allowed").expect("it runs");
        assert_eq!(
            Some(process.start_time),
            Stat::read(process.pid).map(|stat| stat.start_time)
        );
        let ended = timeout(Duration::from_millis(1), process.ended()).await;
        assert!(ended.is_err());
        assert!(!arguments(process.pid).is_empty());
        assert!(all().expect("/proc").contains(&process.pid));
    }
}
