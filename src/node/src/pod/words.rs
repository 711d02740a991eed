//! Between the runtime's account of a container and ours: statuses, last words, `/etc/hosts`.

use std::{
    fmt::Write as _,
    fs::File,
    io::{Read, Seek, SeekFrom},
    net::IpAddr,
    path::Path,
};

use bosun_api::{SandboxId, core::Pod, labels};
use bosun_cri::v1;
use jiff::Timestamp;

use super::{
    observed::{ContainerState, Exit, ObservedContainer, exit_reason},
    sandbox::hostname,
};

/// Longest termination message, in bytes (upstream's limit for one container).
const MOST_WORDS: u64 = 4096;
/// Longest part of a log that stands in for a termination message: bytes and lines.
const MOST_LOG: (u64, usize) = (2048, 80);

/// A container as the runtime tells of it.
pub fn observed_container(status: &v1::ContainerStatus, sandbox: &SandboxId) -> ObservedContainer {
    let time = |nanoseconds: i64| Timestamp::from_nanosecond(i128::from(nanoseconds)).unwrap_or_default();
    let state = match status.state() {
        v1::ContainerState::ContainerCreated => ContainerState::Created,
        v1::ContainerState::ContainerRunning => ContainerState::Running {
            started_at: time(status.started_at),
        },
        v1::ContainerState::ContainerExited => ContainerState::Exited(Exit {
            code: status.exit_code,
            reason: if status.reason.is_empty() {
                exit_reason(status.exit_code, false).to_owned()
            } else {
                status.reason.clone()
            },
            message: status.message.clone(),
            started_at: (status.started_at > 0).then(|| time(status.started_at)),
            finished_at: time(status.finished_at),
        }),
        v1::ContainerState::ContainerUnknown => ContainerState::Unknown,
    };
    let metadata = status.metadata.clone().unwrap_or_default();
    ObservedContainer {
        id: status.id.clone().into(),
        name: status
            .labels
            .get(labels::CONTAINER_NAME)
            .cloned()
            .unwrap_or(metadata.name),
        sandbox: sandbox.clone(),
        attempt: metadata.attempt,
        state,
        image: status
            .image
            .as_ref()
            .map(|image| image.image.clone())
            .unwrap_or_default(),
        image_id: status.image_ref.clone(),
        out_of_memory: status.reason == "OOMKilled",
    }
}

/// What a container wrote to its termination message file; if it wrote nothing, failed, and its policy is
/// `FallbackToLogsOnError`, the end of its log; in any case, that its program could not be executed.
pub fn last_words(file: &Path, log: &Path, policy: Option<&str>, exit_code: i32) -> String {
    let words = read_end(file, MOST_WORDS).unwrap_or_default();
    if !words.is_empty() || exit_code == 0 {
        return words;
    }
    // A record is longer than its text: read enough of them.
    let records = read_end(log, MOST_LOG.0 * 4).unwrap_or_default();
    let text = log_text(&records);
    let lines: Vec<_> = text.lines().collect();
    if policy != Some("FallbackToLogsOnError") {
        return lines
            .last()
            .filter(|line| is_failed_exec(line))
            .map(|line| (*line).to_owned())
            .unwrap_or_default();
    }
    let lines = &lines[lines.len().saturating_sub(MOST_LOG.1)..];
    let text = lines.join("\n");
    let mut start = text.len().saturating_sub(MOST_LOG.0 as usize);
    while !text.is_char_boundary(start) {
        start += 1;
    }
    text[start..].to_owned()
}

/// Whether a line is what runc's init leaves, in the container's own log, when it can't become the container's program:
/// `exec /bin/app: exec format error`.
fn is_failed_exec(line: &str) -> bool {
    let errors = ["exec format error", "permission denied", "no such file or directory"];
    let cause = line.strip_prefix("exec ").and_then(|rest| rest.rsplit_once(": "));
    cause.is_some_and(|(_, cause)| errors.contains(&cause))
}

/// The text of whole records of CRI's log format: `time stream P|F text`.
fn log_text(records: &str) -> String {
    let mut text = String::new();
    for record in records.lines() {
        let mut parts = record.splitn(4, ' ');
        let (Some(_), Some("stdout" | "stderr"), Some(tag), line) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            continue;
        };
        text.push_str(line.unwrap_or_default());
        if tag != "P" {
            text.push('\n');
        }
    }
    text
}

/// The last bytes of a regular file; never through a link, never from a pipe that would wait.
fn read_end(path: &Path, most: u64) -> std::io::Result<String> {
    use std::os::unix::fs::OpenOptionsExt;
    let mut options = File::options();
    let flags = nix::fcntl::OFlag::O_NOFOLLOW | nix::fcntl::OFlag::O_NONBLOCK;
    let mut file = options.read(true).custom_flags(flags.bits()).open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Ok(String::new());
    }
    file.seek(SeekFrom::Start(metadata.len().saturating_sub(most)))?;
    let mut bytes = vec![];
    file.take(most).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The pod's `/etc/hosts`; `None` leaves the node's to a pod with the node's network and no aliases of its own.
pub fn hosts_file(pod: &Pod, addresses: &[IpAddr]) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    let aliases = spec.host_aliases.as_deref().unwrap_or_default();
    if spec.host_network == Some(true) {
        return None;
    }
    let mut text = String::from(
        "# Written by the node agent for this pod.\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n\
         fe00::0\tip6-localnet\nfe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n",
    );
    for address in addresses {
        let _ = writeln!(text, "{address}\t{}", hostname(pod));
    }
    for alias in aliases {
        let names = alias.hostnames.clone().unwrap_or_default().join("\t");
        let _ = writeln!(text, "{}\t{names}", alias.ip);
    }
    Some(text)
}

/// An error with its causes, for a person.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let _ = write!(text, ": {cause}");
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_words_are_the_containers_own_and_else_its_log() {
        let temp = tempfile::tempdir().unwrap();
        let (file, log) = (temp.path().join("words"), temp.path().join("log"));
        std::fs::write(&file, "").unwrap();
        std::fs::write(&log, "t stdout P hel\nt stdout F lo\ngarbage\nt stderr F bye\n").unwrap();
        let fallback = Some("FallbackToLogsOnError");
        assert_eq!(last_words(&file, &log, fallback, 1), "hello\nbye");
        assert_eq!(last_words(&file, &log, fallback, 0), "", "success needs no explanation");
        assert_eq!(last_words(&file, &log, Some("File"), 1), "");
        std::fs::write(&log, "t stderr F exec /app: exec format error\n").unwrap();
        assert_eq!(last_words(&file, &log, None, 1), "exec /app: exec format error");
        std::fs::write(&file, "out of beer").unwrap();
        assert_eq!(last_words(&file, &log, fallback, 1), "out of beer");
    }

    #[test]
    fn last_words_are_bounded_and_never_read_through_a_link_or_from_a_pipe() {
        let temp = tempfile::tempdir().unwrap();
        let file = temp.path().join("words");
        std::fs::write(&file, "x".repeat(10_000)).unwrap();
        assert_eq!(last_words(&file, &file, None, 1).len() as u64, MOST_WORDS);
        let link = temp.path().join("link");
        std::os::unix::fs::symlink(&file, &link).unwrap();
        assert_eq!(last_words(&link, &file, None, 1), "");
        let pipe = temp.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert_eq!(last_words(&pipe, &file, None, 1), "");
    }

    #[test]
    fn a_pod_finds_itself_in_its_hosts_file() {
        let mut pod = Pod::default();
        pod.metadata.name = Some("web-n1".into());
        pod.spec = Some(bosun_api::core::PodSpec {
            host_aliases: Some(vec![bosun_api::core::HostAlias {
                ip: "10.1.2.3".into(),
                hostnames: Some(vec!["db".into(), "db.local".into()]),
            }]),
            ..bosun_api::core::PodSpec::default()
        });
        let text = hosts_file(&pod, &["10.0.0.2".parse().unwrap()]).unwrap();
        assert!(text.contains("\n10.0.0.2\tweb-n1\n"), "{text}");
        assert!(text.ends_with("10.1.2.3\tdb\tdb.local\n"), "{text}");
        pod.spec.as_mut().unwrap().host_network = Some(true);
        assert_eq!(hosts_file(&pod, &[]), None);
    }
}
