//! A network namespace that lives as long as the test holds it.

use std::{
    fs::{self, File},
    io::{Read, Write},
    net::{IpAddr, SocketAddr, TcpStream},
    os::fd::AsRawFd,
    path::{Path, PathBuf},
    process::id,
    thread,
    time::Duration,
};

use anyhow::{Context, anyhow};
use nix::sched::{CloneFlags, setns, unshare};
use tokio::process::Command;

use crate::programs;

/// A network namespace without a name: it goes when the last descriptor, process and mount in it are gone.
#[derive(Debug)]
pub struct Netns {
    file: File,
}

impl Netns {
    /// Makes a namespace with `lo` up.
    pub async fn new() -> anyhow::Result<Self> {
        let file = on_thread(|| {
            unshare(CloneFlags::CLONE_NEWNET).context(
                "making a network namespace: these tests need root (sudo -E env \"PATH=$PATH\" ./hack/test)",
            )?;
            File::open("/proc/thread-self/ns/net").context("opening the new network namespace")
        })?;
        let netns = Self { file };
        programs::output(netns.command("ip", ["link", "set", "lo", "up"]), programs::COMMAND).await?;
        Ok(netns)
    }

    /// The namespace a file names: a process's `/proc/PID/ns/net`, or a mount.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        Ok(Self {
            file: File::open(path).with_context(|| format!("opening {}", path.display()))?,
        })
    }

    /// A path by which other processes can enter, while this value lives.
    pub fn path(&self) -> PathBuf {
        format!("/proc/{}/fd/{}", id(), self.file.as_raw_fd()).into()
    }

    /// A command in this network namespace, every other one unchanged; it keeps the pid it is started with.
    pub fn command<'a>(&self, program: &str, args: impl IntoIterator<Item = &'a str>) -> Command {
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--net={}", self.path().display()))
            .arg("--")
            .arg(program)
            .args(args);
        command
    }

    /// Runs a function on a thread in this namespace.
    pub fn run<T: Send>(&self, function: impl FnOnce() -> anyhow::Result<T> + Send) -> anyhow::Result<T> {
        on_thread(|| {
            setns(&self.file, CloneFlags::CLONE_NEWNET).context("entering a network namespace")?;
            function()
        })
    }

    /// The body of an HTTP answer with status 200, asked for from within this namespace.
    pub fn http_get(&self, address: IpAddr, port: u16, path: &str) -> anyhow::Result<String> {
        self.run(|| http_get(SocketAddr::new(address, port), path))
    }

    /// The names of the links.
    pub fn links(&self) -> anyhow::Result<Vec<String>> {
        let text = self.run(|| Ok(fs::read_to_string("/proc/thread-self/net/dev")?))?;
        Ok(text
            .lines()
            .skip(2)
            .filter_map(|line| Some(line.split_once(':')?.0.trim().to_owned()))
            .collect())
    }
}

fn on_thread<T: Send>(function: impl FnOnce() -> anyhow::Result<T> + Send) -> anyhow::Result<T> {
    thread::scope(|scope| scope.spawn(function).join()).map_err(|_| anyhow!("the thread panicked"))?
}

fn http_get(address: SocketAddr, path: &str) -> anyhow::Result<String> {
    let deadline = Duration::from_secs(3);
    let mut stream =
        TcpStream::connect_timeout(&address, deadline).with_context(|| format!("connecting to {address}"))?;
    stream.set_read_timeout(Some(deadline))?;
    stream.set_write_timeout(Some(deadline))?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n")?;
    let mut answer = Vec::new();
    stream
        .read_to_end(&mut answer)
        .with_context(|| format!("reading the answer of {address}"))?;
    let answer = String::from_utf8_lossy(&answer);
    body(&answer)
        .map(str::to_owned)
        .with_context(|| format!("{address}{path} answered {answer:?}"))
}

/// The body of a good answer.
fn body(answer: &str) -> Option<&str> {
    let (head, body) = answer.split_once("\r\n\r\n")?;
    (head.split(' ').nth(1)? == "200").then_some(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_status_200_has_a_body_worth_reading() {
        assert_eq!(body("HTTP/1.0 200 OK\r\nServer: x\r\n\r\nhello\n"), Some("hello\n"));
        assert_eq!(body("HTTP/1.1 404 Not Found\r\n\r\nno"), None);
        assert_eq!(body("HTTP/1.1 200 OK\r\n"), None);
    }
}
