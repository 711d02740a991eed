//! A virtual machine made and booted by `hack/vm`, driven by shell commands over its control channel.

use std::{
    fmt::Write as _,
    fs,
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use tempfile::TempDir;

/// Making a root disk, packages downloaded.
const MAKE: Duration = Duration::from_mins(10);
/// From nothing, or from the command to reboot, to the first command's turn. Takes 15 to 35 s on a quiet machine.
const BOOT: Duration = Duration::from_mins(4);
/// The machine itself gives a command up after 120 s.
const COMMAND: Duration = Duration::from_mins(3);

/// A running machine; it ends when dropped, and its disk's changes with it.
pub(crate) struct Machine {
    emulator: Child,
    commands: ChildStdin,
    answers: Receiver<String>,
    boot_id: String,
    console: PathBuf,
    _directory: TempDir,
}

impl Machine {
    /// Boots Debian `release`, with the files of `payload` mounted read-only at `/mnt`.
    pub(crate) fn boot(release: &str, payload: &Path) -> Result<Self> {
        run(hack_vm().args(["root", "--release", release]), MAKE)?;
        let directory = tempfile::tempdir()?;
        let disk = directory.path().join("payload.ext4");
        make_disk(payload, &disk)?;

        let console = directory.path().join("console");
        let mut emulator = hack_vm()
            .args(["boot", "--release", release, "--payload"])
            .arg(&disk)
            .arg("--console")
            .arg(&console)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("starting hack/vm boot")?;
        let (Some(commands), Some(answers)) = (emulator.stdin.take(), emulator.stdout.take()) else {
            unreachable!("both were asked for");
        };
        let (answers_tx, answers_rx) = channel();
        // Ends with the emulator, whose output it reads.
        thread::spawn(move || {
            for line in BufReader::new(answers).lines().map_while(Result::ok) {
                if answers_tx.send(line).is_err() {
                    break;
                }
            }
        });
        let mut machine = Self {
            emulator,
            commands,
            answers: answers_rx,
            boot_id: String::new(),
            console,
            _directory: directory,
        };
        machine.wait_for_boot()?;
        machine.run("mount -o ro /dev/vdb /mnt")?;
        Ok(machine)
    }

    /// Runs a line of shell in the machine; its output, unless it fails.
    pub(crate) fn run(&mut self, command: &str) -> Result<String> {
        ensure!(!command.contains('\n'), "a command is one line: {command:?}");
        self.send(command)?;
        let answer = self
            .answer(COMMAND)
            .with_context(|| format!("running `{command}` in the machine"))?;
        let (status, output) = answer.split_once(' ').unwrap_or((&answer, ""));
        let output = BASE64_STANDARD
            .decode(output)
            .with_context(|| format!("the answer to `{command}`: {answer:?}"))?;
        let output = String::from_utf8_lossy(&output).into_owned();
        ensure!(
            status == "0",
            "`{command}` ended with {status} in the machine: {output}"
        );
        Ok(output)
    }

    /// Looks again and again until `check` succeeds, and returns its value.
    pub(crate) fn eventually<T>(
        &mut self,
        within: Duration,
        what: &str,
        mut check: impl FnMut(&mut Self) -> Result<T>,
    ) -> Result<T> {
        let start = Instant::now();
        loop {
            let seen = match check(self) {
                Ok(value) => return Ok(value),
                Err(seen) => seen,
            };
            if start.elapsed() > within {
                return Err(seen.context(format!("not within {within:?}: {what}; last seen")));
            }
            #[expect(
                clippy::disallowed_methods,
                reason = "the interval between two looks, which cost the machine work"
            )]
            thread::sleep(Duration::from_millis(500));
        }
    }

    /// Has systemd restart the machine, and waits until it is up again.
    pub(crate) fn reboot(&mut self) -> Result<()> {
        self.send("systemctl reboot")?;
        self.wait_for_boot()?;
        self.run("mount -o ro /dev/vdb /mnt").map(drop)
    }

    /// What a person wants to see of a machine on which a test failed: `commands`, and the end of the console.
    pub(crate) fn describe(&mut self, commands: &[&str]) -> String {
        let mut text = String::new();
        for command in commands {
            let output = self.run(command).unwrap_or_else(|error| format!("{error:#}"));
            let _ = writeln!(text, "--- {command}\n{}", output.trim_end());
        }
        text + &self.console_tail()
    }

    fn console_tail(&self) -> String {
        let console = fs::read(&self.console).unwrap_or_default();
        let text = String::from_utf8_lossy(&console).replace('\r', "");
        let lines: Vec<&str> = text.lines().collect();
        format!("--- console\n{}\n", lines[lines.len().saturating_sub(40)..].join("\n"))
    }

    fn send(&mut self, command: &str) -> Result<()> {
        writeln!(self.commands, "{command}").context("the machine has ended")?;
        self.commands.flush().context("the machine has ended")
    }

    fn answer(&self, within: Duration) -> Result<String> {
        match self.answers.recv_timeout(within) {
            Ok(line) => Ok(line),
            Err(RecvTimeoutError::Timeout) => bail!("no answer within {within:?}\n{}", self.console_tail()),
            Err(RecvTimeoutError::Disconnected) => bail!("the emulator has ended\n{}", self.console_tail()),
        }
    }

    /// A boot has an id of its own; lines before its `ready` are what the last boot still had to say.
    fn wait_for_boot(&mut self) -> Result<()> {
        let deadline = Instant::now() + BOOT;
        loop {
            let line = self
                .answer(deadline.saturating_duration_since(Instant::now()))
                .context("booting the machine")?;
            if let Some(boot_id) = line.strip_prefix("ready ")
                && boot_id != self.boot_id
            {
                boot_id.clone_into(&mut self.boot_id);
                return Ok(());
            }
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to end.
        let _ = self.emulator.kill();
        let _ = self.emulator.wait();
    }
}

/// The folder of the repository, also where the tests run elsewhere than they were built.
pub(crate) fn repository() -> PathBuf {
    let package =
        std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
    package.parent().map(Path::to_path_buf).unwrap_or(package)
}

fn hack_vm() -> Command {
    command(&repository().join("hack/vm").display().to_string())
}

fn command(program: &str) -> Command {
    #[expect(
        clippy::disallowed_methods,
        reason = "the machine is a program, and its disk is made by one"
    )]
    Command::new(program)
}

/// An ext4 image with the files of `folder`, and no more than they need.
fn make_disk(folder: &Path, disk: &Path) -> Result<()> {
    let bytes: u64 = fs::read_dir(folder)?
        .map(|entry| Ok(entry?.metadata()?.len()))
        .sum::<Result<u64>>()?;
    let mib = bytes / 1024 / 1024 * 5 / 4 + 16;
    let mut mke2fs = command("mke2fs");
    mke2fs
        .args(["-q", "-t", "ext4", "-O", "^has_journal", "-d"])
        .arg(folder)
        .arg(disk)
        .arg(format!("{mib}M"));
    run(&mut mke2fs, COMMAND)
}

/// Runs a program to its end, and ends it at the deadline.
fn run(command: &mut Command, within: Duration) -> Result<()> {
    let program = command.get_program().display().to_string();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .with_context(|| format!("starting {program}"))?;
    let deadline = Instant::now() + within;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if Instant::now() > deadline {
            child.kill()?;
            child.wait()?;
            bail!("{program} did not end within {within:?}");
        }
        #[expect(
            clippy::disallowed_methods,
            reason = "the interval between two looks at a child process"
        )]
        thread::sleep(Duration::from_millis(20));
    };
    ensure!(status.success(), "{program}: {status}; its own words are above");
    Ok(())
}
