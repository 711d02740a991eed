//! Where everything of a cluster is, and what it is called. Pure but for [`Layout::at`].

use std::{
    ffi::OsStr,
    fs, io,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

/// Where clusters are that nobody named a directory for.
pub const CLUSTERS: &str = "/run/bosun-dev";

/// A longer directory leaves no room for the paths of sockets below it (unix(7): 107 bytes).
const LONGEST: usize = 60;

/// Names of a cluster's own kernel objects begin with it.
const CGROUP_PREFIX: &str = "/bosun-dev-";
const LINK_PREFIX: &str = "bdev-";

/// A cluster's names and places, all of them computed from its directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    dir: PathBuf,
    id: String,
}

/// Where things of one node are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodePlaces {
    /// Such as `node-1`.
    pub name: String,
    /// All but [`Self::run`] is below it.
    pub dir: PathBuf,
    /// `--run-dir`; elsewhere than the rest where that has too long a path.
    pub run: PathBuf,
    /// The cgroup that pods' are below (`--cgroup-root`), from the top of each hierarchy.
    pub cgroup: String,
}

impl Layout {
    /// Of the cluster in this directory, which need not exist; its parent must.
    pub fn at(dir: &Path) -> io::Result<Self> {
        let dir = std::path::absolute(dir)?;
        let (Some(parent), Some(name)) = (dir.parent(), dir.file_name()) else {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the root can't be it"));
        };
        // The id must be the same whichever way one came.
        let dir = match (fs::canonicalize(&dir), fs::canonicalize(parent)) {
            (Ok(dir), _) => dir,
            (Err(_), Ok(parent)) => parent.join(name),
            // Made when it is needed.
            (Err(_), Err(_)) if parent == Path::new(CLUSTERS) => dir,
            (Err(_), Err(error)) => return Err(error),
        };
        Ok(Self::of(dir))
    }

    /// Of the directory with this canonical path.
    fn of(dir: PathBuf) -> Self {
        let id = id(dir.as_os_str());
        Self { dir, id }
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Six letters and digits.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// What was chosen for the cluster.
    pub fn record(&self) -> PathBuf {
        self.dir.join("cluster.json")
    }

    /// The record of a cluster that is being taken down.
    pub fn ending(&self) -> PathBuf {
        self.dir.join("cluster.ending.json")
    }

    /// The administrator's kubeconfig.
    pub fn kubeconfig(&self) -> PathBuf {
        self.dir.join("kubeconfig")
    }

    /// Where network namespaces are mounted.
    pub fn namespaces(&self) -> PathBuf {
        self.dir.join("netns")
    }

    /// Where the network namespace of a node, of `server` or of `fabric` is mounted.
    pub fn netns(&self, name: &str) -> PathBuf {
        self.namespaces().join(name)
    }

    /// Everything of the server's: its data, its log, its pid.
    pub fn server(&self) -> PathBuf {
        self.dir.join("server")
    }

    /// The server's `--data-dir`.
    pub fn server_data(&self) -> PathBuf {
        self.server().join("data")
    }

    /// What the server says.
    pub fn server_log(&self) -> PathBuf {
        self.server().join("server.log")
    }

    /// The cgroup above all others of the cluster, from the top of each hierarchy.
    pub fn cgroup(&self) -> String {
        format!("{CGROUP_PREFIX}{}", self.id)
    }

    /// The cgroup that a program of a machine runs in, with what it starts.
    pub fn cgroup_of(&self, machine: &str, program: &str) -> String {
        format!("{}/{machine}/{program}", self.cgroup())
    }

    /// The link by which this machine is on the cluster's switch.
    pub fn host_link(&self) -> String {
        format!("{LINK_PREFIX}{}", self.id)
    }

    /// What must have short paths is below this; the directory itself, unless that has too long a one.
    pub fn run(&self) -> PathBuf {
        if self.dir.as_os_str().len() <= LONGEST {
            self.dir.clone()
        } else {
            Path::new("/run").join(format!("bosun-dev-{}", self.id))
        }
    }

    /// The places of a node.
    pub fn node(&self, name: &str) -> NodePlaces {
        NodePlaces {
            name: name.to_owned(),
            dir: self.dir.join(name),
            run: self.run().join(name).join("run"),
            cgroup: format!("{}/{name}", self.cgroup()),
        }
    }

    /// Whether an entry of a cluster's directory is the cluster's.
    pub fn owns(entry: &OsStr) -> bool {
        let known = [
            "cluster.json",
            ".cluster.json.new",
            "cluster.ending.json",
            "kubeconfig",
            ".kubeconfig.new",
            "netns",
            "server",
        ];
        known.iter().any(|name| entry == *name) || entry.to_str().and_then(node_number).is_some()
    }
}

impl NodePlaces {
    /// `--data-dir`.
    pub fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// `--root-dir`.
    pub fn root(&self) -> PathBuf {
        self.dir.join("root")
    }

    /// `--log-dir`.
    pub fn logs(&self) -> PathBuf {
        self.dir.join("log")
    }

    /// Manifests of static pods.
    pub fn manifests(&self) -> PathBuf {
        self.dir.join("manifests")
    }

    /// `--cni-conf-dir`.
    pub fn cni_conf(&self) -> PathBuf {
        self.dir.join("cni/conf")
    }

    /// `--cni-bin-dir`.
    pub fn cni_bin(&self) -> PathBuf {
        self.dir.join("cni/bin")
    }

    /// What the agent is the node by.
    pub fn kubeconfig(&self) -> PathBuf {
        self.dir.join("kubeconfig")
    }

    /// What the agent says.
    pub fn agent_log(&self) -> PathBuf {
        self.dir.join("agent.log")
    }

    /// What containerd says.
    pub fn containerd_log(&self) -> PathBuf {
        self.data().join("containerd.log")
    }

    /// The agent's status socket.
    pub fn agent_socket(&self) -> PathBuf {
        self.run.join("agent.sock")
    }

    /// What containerd keeps at run time, its configuration among it.
    pub fn containerd_state(&self) -> PathBuf {
        self.run.join("containerd")
    }

    /// Where containerd listens.
    pub fn containerd_socket(&self) -> PathBuf {
        self.containerd_state().join("containerd.sock")
    }
}

/// The name of a node, counted from 1.
pub fn node_name(number: u8) -> String {
    format!("node-{number}")
}

/// Which node has this name.
pub fn node_number(name: &str) -> Option<u8> {
    let number = name.strip_prefix("node-")?.parse().ok()?;
    (node_name(number) == name && number > 0).then_some(number)
}

/// Names must not change with a library's version: FNV-1a of the path, and a finalizer, so that every bit of it counts.
fn id(path: &OsStr) -> String {
    const LETTERS: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in path.as_bytes() {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^= hash >> 33;
    (0..6)
        .map(|place| char::from(LETTERS[(hash >> (place * 5)) as usize & 31]))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clusters_names_follow_from_its_directory_and_from_nothing_else() {
        let one = Layout::of("/run/bosun-dev/default".into());
        // A fixed value: another version must find what this one made.
        assert_eq!(one.id(), "9jcrby");
        assert_ne!(one.id(), Layout::of("/run/bosun-dev/other".into()).id());
        assert_eq!(one.cgroup_of("node-1", "agent"), "/bosun-dev-9jcrby/node-1/agent");
        assert!(one.host_link().len() <= 15, "the kernel's limit");
    }

    #[test]
    fn a_directory_is_the_same_cluster_whichever_way_one_came() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().canonicalize().unwrap();
        std::os::unix::fs::symlink(&dir, dir.join("link")).unwrap();
        let plain = Layout::at(&dir.join("c")).unwrap();
        assert_eq!(Layout::at(&dir.join("link/c")).unwrap(), plain);
        fs::create_dir(dir.join("c")).unwrap();
        assert_eq!(Layout::at(&dir.join("c/")).unwrap(), plain);
        assert!(Layout::at(&dir.join("no/such")).is_err());
        assert!(Layout::at(Path::new("/")).is_err());
    }

    #[test]
    fn every_socket_has_a_path_the_kernel_takes() {
        for dir in [
            "/r".to_owned(),
            format!("/{}", "d".repeat(59)),
            format!("/{}", "d".repeat(300)),
        ] {
            let socket = Layout::of(dir.into()).node("node-100").containerd_socket();
            // containerd makes one more, with a suffix.
            let length = socket.as_os_str().len() + ".ttrpc".len();
            assert!(length <= 107, "{}", socket.display());
        }
    }

    #[test]
    fn only_what_a_cluster_makes_is_the_clusters() {
        for own in [
            "cluster.json",
            "kubeconfig",
            ".kubeconfig.new",
            "netns",
            "server",
            "node-1",
            "node-100",
        ] {
            assert!(Layout::owns(OsStr::new(own)), "{own}");
        }
        for other in ["notes.txt", "node-", "node-0", "node-01", "node-x", "node-1.tar", "src"] {
            assert!(!Layout::owns(OsStr::new(other)), "{other}");
        }
    }
}
