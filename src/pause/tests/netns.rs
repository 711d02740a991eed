//! The pause program as the first process of a PID namespace, on the real kernel.

use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, Uid};

/// The very file whose bytes `bosun_pause::PROGRAM` is.
const PROGRAM: &str = env!("BOSUN_PAUSE_PROGRAM");
const DEADLINE: Duration = Duration::from_secs(20);

fn until<T>(what: &str, mut value: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + DEADLINE;
    loop {
        if let Some(value) = value() {
            return value;
        }
        assert!(Instant::now() < end, "not within {DEADLINE:?}: {what}");
        #[expect(
            clippy::disallowed_methods,
            reason = "the interval between two looks at /proc, which has no events"
        )]
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn command(program: &str) -> Command {
    #[expect(clippy::disallowed_methods, reason = "these tests are about running a program")]
    Command::new(program)
}

/// Fields of `/proc/<pid>/stat` after the name in parentheses: state, parent, ...
fn stat(pid: Pid) -> Option<(char, Pid)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?.chars().next()?;
    Some((state, Pid::from_raw(fields.next()?.parse().ok()?)))
}

fn children(parent: Pid) -> Vec<Pid> {
    let processes = fs::read_dir("/proc").expect("/proc is mounted");
    processes
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok().map(Pid::from_raw))
        .filter(|&pid| stat(pid).is_some_and(|(_, its_parent)| its_parent == parent))
        .collect()
}

/// One line of `/proc/<pid>/status`, such as `SigBlk`.
fn status_line(pid: Pid, name: &str) -> Option<String> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    Some(line.trim().to_owned())
}

/// The program as PID 1 of a PID namespace of its own.
struct Sandbox {
    /// `unshare`, which waits for the program and takes it along when it dies.
    unshare: Child,
    pause: Pid,
}

impl Sandbox {
    fn start() -> Self {
        assert!(
            Uid::effective().is_root(),
            "needs root: sudo -E cargo test -p bosun-pause --test netns"
        );
        let mut unshare = command("unshare")
            .args(["--fork", "--pid", "--kill-child", "--"])
            .arg(PROGRAM)
            .stdin(Stdio::null())
            .spawn()
            .expect("unshare, of util-linux");
        let unshare_pid = Pid::from_raw(unshare.id() as i32);
        let pause = until("the program runs and has blocked its signals", || {
            assert_eq!(unshare.try_wait().expect("wait for unshare"), None, "ended at once");
            children(unshare_pid).into_iter().find(|&pid| {
                status_line(pid, "Name").as_deref() == Some("pause")
                    && status_line(pid, "SigBlk").is_some_and(|set| set.starts_with("ffff"))
            })
        });
        Self { unshare, pause }
    }

    /// Runs a shell script in the PID namespace; what it leaves behind becomes the program's child.
    fn run(&self, script: &str) {
        let mut nsenter = command("nsenter");
        nsenter.args(["--pid", "--target", &self.pause.to_string(), "--", "sh", "-c", script]);
        let status = nsenter.stdin(Stdio::null()).status().expect("nsenter, of util-linux");
        assert!(status.success(), "{script}: {status}");
    }

    fn signal(&self, signal: Signal) {
        kill(self.pause, signal).expect("the program is there to be signalled");
    }

    fn ended(&mut self) -> ExitStatus {
        until("the program ends", || {
            self.unshare.try_wait().expect("wait for unshare")
        })
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        // Already gone in most tests; `--kill-child` ends the program with its `unshare`.
        let _ = self.unshare.kill();
        let _ = self.unshare.wait();
    }
}

#[test]
fn orphans_of_the_namespace_are_reaped() {
    let sandbox = Sandbox::start();
    sandbox.run("for n in 1 2 3 4 5 6 7 8 9; do sleep 300 & done");
    let orphans = until("nine orphans become the program's children", || {
        let orphans = children(sandbox.pause);
        (orphans.len() == 9).then_some(orphans)
    });
    let (kept, killed) = orphans.split_first().expect("nine");
    for &pid in killed {
        kill(pid, Signal::SIGKILL).expect("kill an orphan");
    }
    until("the eight that ended are reaped", || {
        (children(sandbox.pause) == [*kept]).then_some(())
    });
    assert_eq!(stat(*kept).map(|(state, _)| state), Some('S'), "the ninth runs on");
}

#[test]
fn an_orphan_that_ended_before_its_parent_is_reaped() {
    let sandbox = Sandbox::start();
    // The shell never waits, so its child is a zombie when it is handed over.
    sandbox.run("sleep 0 & exec sleep 0.2");
    until("no child is left", || children(sandbox.pause).is_empty().then_some(()));
    assert!(stat(sandbox.pause).is_some(), "and the program runs on");
}

#[test]
fn it_ends_at_once_with_success_on_sigterm_and_on_sigint() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let mut sandbox = Sandbox::start();
        sandbox.signal(signal);
        let status = sandbox.ended();
        assert_eq!((status.code(), status.signal()), (Some(0), None), "{signal}");
    }
}

#[test]
fn other_signals_leave_it_running() {
    let mut sandbox = Sandbox::start();
    for signal in [
        Signal::SIGHUP,
        Signal::SIGUSR1,
        Signal::SIGPIPE,
        Signal::SIGQUIT,
        Signal::SIGSTOP,
        Signal::SIGCONT,
    ] {
        sandbox.signal(signal);
    }
    until("it sleeps again", || (stat(sandbox.pause)?.0 == 'S').then_some(()));
    sandbox.signal(Signal::SIGTERM);
    assert_eq!(sandbox.ended().code(), Some(0));
}

#[test]
fn it_occupies_a_handful_of_pages() {
    let sandbox = Sandbox::start();
    let resident = status_line(sandbox.pause, "VmRSS").expect("a resident size");
    let kib: u32 = resident.trim_end_matches(" kB").parse().expect("a number of KiB");
    assert!(kib <= 64, "{kib} KiB resident");
}
