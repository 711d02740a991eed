//! The configuration of a managed containerd, as text. Pure.

use std::{fmt::Write as _, path::Path};

use super::{ManagedConfig, ManagedError};

/// What `containerd --version` says, as far as the configuration depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Version {
    pub(super) major: u32,
    pub(super) minor: u32,
}

/// The oldest containerd whose CRI we speak.
pub(super) const OLDEST: Version = Version { major: 1, minor: 6 };

impl Version {
    /// From a line such as `containerd github.com/containerd/containerd 1.6.20~ds1 1.6.20~ds1-1+deb12u3`.
    pub(super) fn parse(line: &str) -> Option<Self> {
        let version = line.split_whitespace().nth(2)?;
        let mut parts = version.trim_start_matches('v').split(|c: char| !c.is_ascii_digit());
        Some(Self {
            major: parts.next()?.parse().ok()?,
            minor: parts.next()?.parse().ok()?,
        })
    }
}

/// What the machine allows containerd to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Allowed {
    /// `CAP_SYS_RESOURCE`: without it nobody's OOM score can be lowered, and each sandbox would fail over that.
    pub(super) lower_oom_score: bool,
}

impl Allowed {
    /// From the text of `/proc/self/status`.
    pub(super) fn parse(status: &str) -> Self {
        const CAP_SYS_RESOURCE: u32 = 24;
        let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
        let effective = effective.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok());
        Self {
            lower_oom_score: effective.is_some_and(|bits| bits >> CAP_SYS_RESOURCE & 1 == 1),
        }
    }
}

/// Plugins that only make noise (file systems not in use), poll (the restart monitor) or reach out (tracing).
const DISABLED: [&str; 7] = [
    "io.containerd.snapshotter.v1.aufs",
    "io.containerd.snapshotter.v1.blockfile",
    "io.containerd.snapshotter.v1.btrfs",
    "io.containerd.snapshotter.v1.devmapper",
    "io.containerd.snapshotter.v1.zfs",
    "io.containerd.internal.v1.restart",
    "io.containerd.tracing.processor.v1.otlp",
];

/// The whole file.
pub(super) fn render(config: &ManagedConfig, version: Version, allowed: Allowed) -> Result<String, ManagedError> {
    let text = |path: &Path| quote_path(path);
    let disabled = DISABLED.map(|id| format!("{id:?}")).join(", ");
    let oom_score = if allowed.lower_oom_score { -999 } else { 0 };
    let new = version.major >= 2;
    let mut out = String::from("# Written by bosun at each start of this containerd: changes are lost.\n");
    let _ = write!(
        out,
        "version = {schema}
root = {root}
state = {state}
oom_score = {oom_score}
disabled_plugins = [{disabled}]

[grpc]
address = {socket}

[ttrpc]
address = {ttrpc}

[debug]
level = \"warn\"

[plugins.\"io.containerd.internal.v1.opt\"]
path = {opt}
",
        schema = if new { 3 } else { 2 },
        root = text(&config.root)?,
        state = text(&config.state)?,
        socket = text(&config.socket)?,
        ttrpc = text(&config.socket.with_extension("ttrpc"))?,
        opt = text(&config.root.join("opt"))?,
    );

    let runtime = if new {
        "io.containerd.cri.v1.runtime"
    } else {
        "io.containerd.grpc.v1.cri"
    };
    let images = if new {
        "io.containerd.cri.v1.images"
    } else {
        "io.containerd.grpc.v1.cri"
    };
    let sandbox_image = quote(&config.sandbox_image);
    let _ = write!(
        out,
        "
[plugins.\"io.containerd.grpc.v1.cri\"]
stream_server_address = \"127.0.0.1\"
stream_server_port = \"0\"
"
    );
    if new {
        let _ = write!(
            out,
            "
[plugins.\"{images}\"]
snapshotter = \"overlayfs\"

[plugins.\"{images}\".pinned_images]
sandbox = {sandbox_image}

[plugins.\"{runtime}\"]
"
        );
    } else {
        let _ = writeln!(out, "sandbox_image = {sandbox_image}");
    }
    // The list of directories came with 2.1, and with it a complaint about the single one.
    let bin_dir = text(&config.cni_bin_dir)?;
    let bin_dir = if version >= (Version { major: 2, minor: 1 }) {
        format!("bin_dirs = [{bin_dir}]")
    } else {
        format!("bin_dir = {bin_dir}")
    };
    let _ = write!(
        out,
        "netns_mounts_under_state_dir = true
restrict_oom_score_adj = {restrict}

[plugins.\"{runtime}\".cni]
{bin_dir}
conf_dir = {conf_dir}
max_conf_num = 1

[plugins.\"{runtime}\".containerd]
default_runtime_name = \"runc\"
{snapshotter}
[plugins.\"{runtime}\".containerd.runtimes.runc]
runtime_type = \"io.containerd.runc.v2\"

[plugins.\"{runtime}\".containerd.runtimes.runc.options]
SystemdCgroup = false
Root = {runc}

[plugins.\"{images}\".registry]
config_path = \"/etc/containerd/certs.d\"
",
        restrict = !allowed.lower_oom_score,
        conf_dir = text(&config.cni_conf_dir)?,
        snapshotter = if new { "" } else { "snapshotter = \"overlayfs\"\n" },
        runc = text(&config.state.join("runc"))?,
    );
    Ok(out)
}

fn quote_path(path: &Path) -> Result<String, ManagedError> {
    match path.to_str() {
        Some(text) if path.is_absolute() => Ok(quote(text)),
        _ => Err(ManagedError::Path { path: path.to_owned() }),
    }
}

/// A TOML basic string.
fn quote(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => {
                let _ = write!(quoted, "\\u{:04x}", u32::from(c));
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> ManagedConfig {
        ManagedConfig {
            program: "containerd".into(),
            root: "/data/root".into(),
            state: "/run/b/state".into(),
            socket: "/run/b/containerd.sock".into(),
            cni_conf_dir: "/etc/cni/net.d".into(),
            cni_bin_dir: "/opt/cni/bin".into(),
            sandbox_image: "bosun.local/pause:1".into(),
            log_file: "/run/b/containerd.log".into(),
        }
    }

    const ALLOWED: Allowed = Allowed { lower_oom_score: true };

    fn rendered(major: u32, minor: u32, allowed: Allowed) -> String {
        render(&config(), Version { major, minor }, allowed).expect("paths are text")
    }

    #[test]
    fn versions_are_read_from_what_the_packages_print() {
        let table = [
            (
                "containerd github.com/containerd/containerd 1.6.20~ds1 1.6.20~ds1-1+deb12u3",
                Some((1, 6)),
            ),
            (
                "containerd github.com/containerd/containerd v1.7.24 88bf19b2105c8b17560993bee28a01ddc2f97182",
                Some((1, 7)),
            ),
            (
                "containerd github.com/containerd/containerd/v2 v2.1.0-rc.1 061792f0ecf3",
                Some((2, 1)),
            ),
            ("containerd github.com/containerd/containerd/v2 2.0.5", Some((2, 0))),
            ("something else", None),
            ("containerd of unknown", None),
        ];
        for (line, version) in table {
            assert_eq!(Version::parse(line).map(|v| (v.major, v.minor)), version, "{line}");
        }
    }

    #[test]
    fn the_capability_is_one_bit_of_the_effective_set() {
        let status = |bits: &str| format!("Name:\tx\nCapPrm:\t000001ffffffffff\nCapEff:\t{bits}\n");
        assert!(Allowed::parse(&status("000001ffffffffff")).lower_oom_score);
        assert!(!Allowed::parse(&status("000001fffeffffff")).lower_oom_score);
        assert!(!Allowed::parse("").lower_oom_score);
    }

    #[test]
    fn the_oom_score_is_restricted_only_where_the_capability_is_missing() {
        let with = rendered(1, 6, ALLOWED);
        assert!(with.contains("restrict_oom_score_adj = false\n") && with.contains("oom_score = -999\n"));
        let without = rendered(1, 6, Allowed { lower_oom_score: false });
        assert!(without.contains("restrict_oom_score_adj = true\n") && without.contains("oom_score = 0\n"));
    }

    #[test]
    fn containerd_1_takes_version_2_with_everything_in_one_cri_table() {
        let text = rendered(1, 7, ALLOWED);
        assert!(text.contains("\nversion = 2\n"));
        assert!(text.contains("sandbox_image = \"bosun.local/pause:1\"\nnetns_mounts_under_state_dir = true\n"));
        assert!(text.contains("[plugins.\"io.containerd.grpc.v1.cri\".cni]\nbin_dir = \"/opt/cni/bin\"\n"));
        assert!(!text.contains("io.containerd.cri.v1"));
    }

    #[test]
    fn containerd_2_takes_version_3_with_images_and_runtime_apart() {
        let text = rendered(2, 0, ALLOWED);
        assert!(text.contains("\nversion = 3\n"));
        assert!(
            text.contains(
                "[plugins.\"io.containerd.cri.v1.images\".pinned_images]\nsandbox = \"bosun.local/pause:1\"\n"
            )
        );
        assert!(text.contains("[plugins.\"io.containerd.cri.v1.runtime\"]\nnetns_mounts_under_state_dir = true\n"));
        assert!(text.contains("[plugins.\"io.containerd.cri.v1.runtime\".cni]\nbin_dir = \"/opt/cni/bin\"\n"));
        assert!(!text.contains("\nsandbox_image"));
        assert!(rendered(2, 1, ALLOWED).contains("\nbin_dirs = [\"/opt/cni/bin\"]\n"));
    }

    #[test]
    fn no_table_is_opened_twice() {
        for (major, minor) in [(1, 6), (2, 0), (2, 2)] {
            let text = rendered(major, minor, ALLOWED);
            let mut tables: Vec<_> = text.lines().filter(|line| line.starts_with('[')).collect();
            let all = tables.len();
            tables.sort_unstable();
            tables.dedup();
            assert_eq!(tables.len(), all, "{text}");
        }
    }

    #[test]
    fn paths_are_quoted_and_must_be_absolute_text() {
        let mut config = config();
        config.root = "/data/a \"b\"\\c\n".into();
        let text = render(&config, OLDEST, ALLOWED).expect("text");
        assert!(text.contains(r#"root = "/data/a \"b\"\\c\u000a""#), "{text}");
        config.root = "relative".into();
        assert!(matches!(
            render(&config, OLDEST, ALLOWED),
            Err(ManagedError::Path { .. })
        ));
    }
}
