//! What the plugin is told: its network configuration, and the list in which the agent writes it for the runtime.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    cidr::{Cidr, Family},
    ipam::{Pool, PoolError},
    names::{self, NameError},
};

/// The plugin's name: its program's and its `type` in a configuration.
pub const PLUGIN: &str = "bosun-cni";
/// The network's name where nothing else is asked for.
pub const DEFAULT_NETWORK: &str = "bosun";
/// Where run-time state is kept where nothing else is asked for.
pub const DEFAULT_RUN_DIR: &str = "/run/bosun";
/// The file the agent writes into the runtime's directory of CNI configurations.
pub const CONFLIST_FILE: &str = "10-bosun.conflist";
/// The versions of the CNI specification the plugin speaks, the oldest first.
pub const CNI_VERSIONS: [&str; 4] = ["0.3.1", "0.4.0", "1.0.0", "1.1.0"];

/// The plugin's part of a network configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NetworkConfig {
    /// The network's name.
    pub name: String,
    /// Run-time state that must not outlive a reboot; addresses are recorded below it.
    #[serde(default = "default_run_dir")]
    pub run_dir: PathBuf,
    /// The ranges pods get an address of each of: one for IPv4, one for IPv6, or either.
    #[serde(default)]
    pub ranges: Vec<Cidr>,
    /// The wires' MTU; 0 is that of the link by which the node reaches the world.
    #[serde(default)]
    pub mtu: u32,
}

fn default_run_dir() -> PathBuf {
    DEFAULT_RUN_DIR.into()
}

/// Why a configuration is of no use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The network's name.
    #[error(transparent)]
    Name(#[from] NameError),
    /// There is no range.
    #[error("`ranges` is empty: give one range for pods, such as 10.244.0.0/24, or one of each family")]
    NoRanges,
    /// There are two of one family.
    #[error("`ranges` has two {0} ranges: give one of each family at most")]
    TwoOfAFamily(Family),
    /// A range.
    #[error(transparent)]
    Pool(#[from] PoolError),
    /// The MTU.
    #[error("`mtu` {mtu} is out of range: give 0 for the underlay's, or between {least} and 65535")]
    Mtu {
        /// As given.
        mtu: u32,
        /// What the families need.
        least: u32,
    },
    /// The run-time directory.
    #[error("`runDir` {0} must be an absolute path")]
    RunDir(PathBuf),
}

impl NetworkConfig {
    /// Checks what serde can't, and gives the pools to take addresses from.
    pub fn pools(&self) -> Result<Vec<Pool>, ConfigError> {
        names::check_network_name(&self.name)?;
        if !self.run_dir.is_absolute() {
            return Err(ConfigError::RunDir(self.run_dir.clone()));
        }
        let mut pools: Vec<Pool> = Vec::with_capacity(self.ranges.len());
        for &range in &self.ranges {
            if pools.iter().any(|pool| pool.family() == range.family()) {
                return Err(ConfigError::TwoOfAFamily(range.family()));
            }
            pools.push(Pool::new(range)?);
        }
        // IPv6 is switched off by the kernel on links with less than its minimum.
        let least = if pools.iter().any(|pool| pool.family() == Family::V6) {
            1280
        } else {
            68
        };
        if self.mtu != 0 && !(least..=65535).contains(&self.mtu) {
            return Err(ConfigError::Mtu { mtu: self.mtu, least });
        }
        if pools.is_empty() {
            Err(ConfigError::NoRanges)
        } else {
            Ok(pools)
        }
    }
}

/// The configuration list that makes a runtime use the plugin for a network. Its `cniVersion` is the one the oldest
/// supported runtime knows; newer ones take the highest of `cniVersions`.
pub fn conflist(config: &NetworkConfig) -> Result<String, ConfigError> {
    config.pools()?;
    let mut plugin = json!({ "type": PLUGIN });
    let Value::Object(own) = json!(config) else {
        unreachable!("a struct is an object")
    };
    for (key, value) in own {
        // The list's name is every plugin's.
        if key != "name" {
            plugin[key] = value;
        }
    }
    let list = json!({
        "cniVersion": "1.0.0",
        "cniVersions": CNI_VERSIONS,
        "name": config.name,
        "plugins": [plugin],
    });
    Ok(format!("{list:#}\n"))
}

/// Why a file could not be put in its place.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// The configuration is of no use.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A file could not be written.
    #[error("cannot write {path}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Writes the configuration list into a directory, whole or not at all, and not when it is there already: the runtime
/// loads its network anew whenever the file changes. Says whether it wrote.
pub fn write_conflist(dir: &Path, config: &NetworkConfig) -> Result<bool, InstallError> {
    let text = conflist(config)?;
    let path = dir.join(CONFLIST_FILE);
    if fs::read(&path).is_ok_and(|there| there == text.as_bytes()) {
        return Ok(false);
    }
    replace(&path, |new| fs::write(new, &text)).map_err(|source| InstallError::Io { path, source })?;
    Ok(true)
}

/// Puts the plugin into a runtime's directory of plugins, and beside it, unless there is one, `loopback`: runtimes before
/// containerd 2 run a plugin of that name for every pod, and ours answers to it.
pub fn install_plugin(program: &Path, dir: &Path) -> Result<(), InstallError> {
    let path = dir.join(PLUGIN);
    let same = |a: &Path, b: &Path| Some(fs::read(a).ok()? == fs::read(b).ok()?);
    if same(program, &path) != Some(true) {
        replace(&path, |new| fs::copy(program, new).map(drop)).map_err(|source| InstallError::Io { path, source })?;
    }
    let loopback = dir.join("loopback");
    match std::os::unix::fs::symlink(PLUGIN, &loopback) {
        Err(source) if source.kind() != io::ErrorKind::AlreadyExists => {
            Err(InstallError::Io { path: loopback, source })
        }
        _ => Ok(()),
    }
}

/// Writes a file beside its place and moves it there, so that no one ever reads half of it or runs what is being
/// written.
fn replace(path: &Path, write: impl FnOnce(&Path) -> io::Result<()>) -> io::Result<()> {
    let dir = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    fs::create_dir_all(dir)?;
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_string_lossy();
    // Hidden, and of no ending a runtime looks for.
    let new = dir.join(format!(".{name}.{}", std::process::id()));
    let written = write(&new).and_then(|()| fs::rename(&new, path));
    if written.is_err() {
        let _ = fs::remove_file(&new);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(ranges: &[&str]) -> NetworkConfig {
        NetworkConfig {
            name: "bosun".into(),
            run_dir: "/run/bosun".into(),
            ranges: ranges.iter().map(|r| r.parse().unwrap()).collect(),
            mtu: 0,
        }
    }

    #[test]
    fn the_list_is_what_old_and_new_runtimes_read() {
        let text = conflist(&config(&["10.244.1.0/24", "fd00:1::/64"])).unwrap();
        let list: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            list,
            json!({
                "cniVersion": "1.0.0",
                "cniVersions": ["0.3.1", "0.4.0", "1.0.0", "1.1.0"],
                "name": "bosun",
                "plugins": [{
                    "type": "bosun-cni",
                    "runDir": "/run/bosun",
                    "ranges": ["10.244.1.0/24", "fd00:1::/64"],
                    "mtu": 0,
                }],
            })
        );
    }

    #[test]
    fn the_plugin_reads_what_the_agent_writes() {
        let written = NetworkConfig {
            mtu: 1450,
            ..config(&["10.244.1.0/24"])
        };
        let list: Value = serde_json::from_str(&conflist(&written).unwrap()).unwrap();
        // As libcni hands it to the plugin: the list's name and version put in.
        let mut plugin = list["plugins"][0].clone();
        plugin["name"] = list["name"].clone();
        plugin["cniVersion"] = list["cniVersion"].clone();
        assert_eq!(serde_json::from_value::<NetworkConfig>(plugin).unwrap(), written);
    }

    #[test]
    fn what_would_not_work_is_refused_with_the_field_and_the_remedy() {
        for (broken, told) in [
            (
                config(&[]),
                "`ranges` is empty: give one range for pods, such as 10.244.0.0/24, or one of each family",
            ),
            (
                config(&["10.0.0.0/24", "10.1.0.0/24"]),
                "`ranges` has two IPv4 ranges: give one of each family at most",
            ),
            (
                NetworkConfig {
                    mtu: 1279,
                    ..config(&["fd00::/64"])
                },
                "`mtu` 1279 is out of range: give 0 for the underlay's, or between 1280 and 65535",
            ),
            (
                NetworkConfig {
                    mtu: 67,
                    ..config(&["10.0.0.0/24"])
                },
                "`mtu` 67 is out of range: give 0 for the underlay's, or between 68 and 65535",
            ),
            (
                NetworkConfig {
                    run_dir: "run".into(),
                    ..config(&["10.0.0.0/24"])
                },
                "`runDir` run must be an absolute path",
            ),
        ] {
            assert_eq!(conflist(&broken).unwrap_err().to_string(), told);
        }
        assert!(
            NetworkConfig {
                name: "a/b".into(),
                ..config(&["10.0.0.0/24"])
            }
            .pools()
            .is_err()
        );
        assert!(
            NetworkConfig {
                mtu: 1279,
                ..config(&["10.0.0.0/24"])
            }
            .pools()
            .is_ok()
        );
    }

    #[test]
    fn the_file_is_written_once_and_leaves_nothing_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let conf = dir.path().join("net.d");
        assert!(write_conflist(&conf, &config(&["10.244.1.0/24"])).unwrap());
        assert!(
            !write_conflist(&conf, &config(&["10.244.1.0/24"])).unwrap(),
            "unchanged"
        );
        assert!(write_conflist(&conf, &config(&["10.244.2.0/24"])).unwrap());
        let names: Vec<_> = fs::read_dir(&conf).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names, [CONFLIST_FILE]);
    }

    #[test]
    fn installing_keeps_a_loopback_plugin_that_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("built");
        fs::write(&program, "program").unwrap();
        let bin = dir.path().join("bin");
        install_plugin(&program, &bin).unwrap();
        install_plugin(&program, &bin).unwrap();
        assert_eq!(fs::read_link(bin.join("loopback")).unwrap(), Path::new(PLUGIN));
        assert_eq!(fs::read_to_string(bin.join("loopback")).unwrap(), "program");
        fs::remove_file(bin.join("loopback")).unwrap();
        fs::write(bin.join("loopback"), "theirs").unwrap();
        install_plugin(&program, &bin).unwrap();
        assert_eq!(fs::read_to_string(bin.join("loopback")).unwrap(), "theirs");
    }
}
