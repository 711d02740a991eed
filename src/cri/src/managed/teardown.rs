//! Taking down what a managed containerd that has ended left behind: shims, container processes, mounts, sockets.
//!
//! Everything is found from the state directory or by our socket's path in a shim's arguments, so nothing of another
//! containerd is touched. Goes on after each failure and reports all of them.

use std::{
    collections::{BTreeMap, HashMap},
    ffi::OsString,
    fs, io,
    path::{Component, Path, PathBuf},
    time::Duration,
};

use rustix::{
    mount::{UnmountFlags, unmount},
    process::Signal,
};
use tokio::time::{Instant, sleep};

use super::{
    ManagedConfig, ManagedError,
    process::{self, Process, Stat},
};
use crate::mounts;

/// How long killed processes may take to be gone.
const KILL_DEADLINE: Duration = Duration::from_secs(20);

/// Where containerd's shims listen, whatever its own state directory.
const SHIM_SOCKETS: &str = "/run/containerd/s";

pub(super) async fn run(config: &ManagedConfig) -> Result<(), ManagedError> {
    let mut left = Vec::new();
    let bundles = bundles(&config.state);
    let ours = |arguments: &[OsString]| is_shim(arguments, &config.socket);
    kill(&ours, &mut left).await;
    remove_cgroups(&bundles, &mut left).await;
    for dir in [&config.state, &config.root] {
        unmount_below(dir, &mut left);
    }
    remove_shim_sockets(&bundles, &mut left);
    if left.is_empty() {
        let files = [config.socket.clone(), config.socket.with_extension("ttrpc")];
        for file in files {
            tolerate(fs::remove_file(&file), &file, &mut left);
        }
        tolerate(fs::remove_dir_all(&config.state), &config.state, &mut left);
    }
    if left.is_empty() {
        Ok(())
    } else {
        Err(ManagedError::Left {
            state: config.state.clone(),
            left,
        })
    }
}

/// What is gone already is fine.
pub(super) fn tolerate(result: io::Result<()>, path: &Path, left: &mut Vec<String>) {
    if let Err(error) = result
        && error.kind() != io::ErrorKind::NotFound
    {
        left.push(format!("{}: {error}", path.display()));
    }
}

/// The tasks' directories by id: those of `k8s.io` and of whoever else used this containerd.
pub(super) fn bundles(state: &Path) -> BTreeMap<String, PathBuf> {
    let namespaces = fs::read_dir(state.join("io.containerd.runtime.v2.task"));
    let namespaces = namespaces.into_iter().flatten().flatten();
    let tasks = namespaces
        .filter_map(|namespace| fs::read_dir(namespace.path()).ok())
        .flatten()
        .flatten();
    tasks
        .filter_map(|task| Some((task.file_name().into_string().ok()?, task.path())))
        .collect()
}

/// Whether these are the arguments of a shim that serves `socket`.
pub(super) fn is_shim(arguments: &[OsString], socket: &Path) -> bool {
    let is_shim = arguments.first().is_some_and(|name| {
        let name = Path::new(name).file_name().unwrap_or_default();
        name.to_string_lossy().starts_with("containerd-shim")
    });
    is_shim && process::has_option(arguments, "-address", socket)
}

/// Kills the processes with such arguments, shims of ours, and all their descendants.
pub(super) async fn kill(is_one: &(dyn Fn(&[OsString]) -> bool + Sync), left: &mut Vec<String>) {
    let deadline = Instant::now() + KILL_DEADLINE;
    loop {
        let (shims, descendants) = match find(is_one) {
            Ok(found) => found,
            Err(error) => return left.push(format!("/proc: {error}")),
        };
        if shims.is_empty() {
            return;
        }
        if Instant::now() >= deadline {
            return left.push(format!("{} shims do not end", shims.len()));
        }
        // A shim adopts the orphans among its descendants, so it goes last: nobody escapes.
        for process in if descendants.is_empty() { &shims } else { &descendants } {
            process.signal(Signal::KILL);
        }
        sleep(Duration::from_millis(20)).await;
    }
}

/// The shims with such arguments, and the processes below them.
fn find(is_one: &dyn Fn(&[OsString]) -> bool) -> io::Result<(Vec<Process>, Vec<Process>)> {
    let mut children: HashMap<u32, Vec<(u32, u64)>> = HashMap::new();
    let mut shims = Vec::new();
    for pid in process::all()? {
        let Some(stat) = Stat::read(pid) else { continue };
        children.entry(stat.parent).or_default().push((pid, stat.start_time));
        if is_one(&process::arguments(pid)) {
            shims.extend(Process::open(pid)?.filter(|shim| shim.start_time == stat.start_time));
        }
    }
    let mut descendants = Vec::new();
    let mut queue: Vec<u32> = shims.iter().map(|shim| shim.pid).collect();
    while let Some(parent) = queue.pop() {
        for (pid, start_time) in children.remove(&parent).unwrap_or_default() {
            queue.push(pid);
            descendants.extend(Process::open(pid)?.filter(|process| process.start_time == start_time));
        }
    }
    // A shim can be another's child only in passing, while it is being started.
    descendants.retain(|process| shims.iter().all(|shim| shim.pid != process.pid));
    Ok((shims, descendants))
}

/// Removes the cgroups of containers that the runtime did not get to delete; their parents are the caller's.
pub(super) async fn remove_cgroups(bundles: &BTreeMap<String, PathBuf>, left: &mut Vec<String>) {
    let mounts = fs::read_dir("/sys/fs/cgroup")
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path());
    let mounts: Vec<_> = mounts.chain([PathBuf::from("/sys/fs/cgroup")]).collect();
    let deadline = Instant::now() + KILL_DEADLINE;
    for (id, bundle) in bundles {
        let Some(path) = cgroup_in(&fs::read(bundle.join("config.json")).unwrap_or_default(), id) else {
            continue;
        };
        for cgroup in mounts
            .iter()
            .map(|mount| mount.join(&path))
            .filter(|cgroup| cgroup.exists())
        {
            // The last process may still be on its way out.
            while let Err(error) = remove_tree(&cgroup) {
                if Instant::now() >= deadline {
                    left.push(format!("the cgroup {}: {error}", cgroup.display()));
                    break;
                }
                sleep(Duration::from_millis(20)).await;
            }
        }
    }
}

/// Below the hierarchies' mounts, from a container's OCI configuration; only one that bears the container's own id.
fn cgroup_in(config: &[u8], id: &str) -> Option<PathBuf> {
    let config: serde_json::Value = serde_json::from_slice(config).ok()?;
    let path = Path::new(config.pointer("/linux/cgroupsPath")?.as_str()?);
    let plain = path
        .components()
        .all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    let own = plain && path.file_name()? == id;
    own.then(|| path.strip_prefix("/").unwrap_or(path).to_owned())
}

/// Removes a cgroup with those that were made within it.
fn remove_tree(cgroup: &Path) -> io::Result<()> {
    for entry in fs::read_dir(cgroup).into_iter().flatten().flatten() {
        if entry.file_type()?.is_dir() {
            remove_tree(&entry.path())?;
        }
    }
    match fs::remove_dir(cgroup) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Undoes every mount at or below `dir`, the latest first.
pub(super) fn unmount_below(dir: &Path, left: &mut Vec<String>) {
    let points = mounts::below(dir).unwrap_or_else(|error| {
        left.push(format!("the mounts below {}: {error}", dir.display()));
        Vec::new()
    });
    for point in points {
        match unmount(&point, UnmountFlags::DETACH) {
            // Gone with one above it.
            Ok(()) | Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => {}
            Err(error) => left.push(format!("the mount {}: {error}", point.display())),
        }
    }
}

/// A shim that was killed leaves its socket; its bundle says which.
fn remove_shim_sockets(bundles: &BTreeMap<String, PathBuf>, left: &mut Vec<String>) {
    for bundle in bundles.values() {
        let Ok(address) = fs::read_to_string(bundle.join("address")) else {
            continue;
        };
        let path = Path::new(address.trim().trim_start_matches("unix://"));
        if path.starts_with(SHIM_SOCKETS) {
            tolerate(fs::remove_file(path), path, left);
        }
    }
    // Made by the first shim on the machine; another containerd's are not empty, or made again.
    let sockets = Path::new(SHIM_SOCKETS);
    if fs::remove_dir(sockets).is_ok()
        && let Some(parent) = sockets.parent()
    {
        let _ = fs::remove_dir(parent);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_containers_cgroup_is_the_one_that_bears_its_id() {
        let table = [
            ("/kubepods/pod1/c1", Some("kubepods/pod1/c1")),
            ("relative/c1", Some("relative/c1")),
            ("/kubepods/pod1", None),
            ("/kubepods/../c1", None),
            ("system.slice:cri-containerd:c1", None),
        ];
        for (path, expected) in table {
            let config = format!(r#"{{"linux": {{"cgroupsPath": "{path}"}}}}"#);
            assert_eq!(
                cgroup_in(config.as_bytes(), "c1").as_deref(),
                expected.map(Path::new),
                "{path}"
            );
        }
        assert_eq!(cgroup_in(b"{}", "c1"), None);
    }

    #[test]
    fn a_process_that_is_no_shims_descendant_is_not_found() {
        let found = find(&|arguments| is_shim(arguments, Path::new("/nowhere/containerd.sock")))
            .map(|(shims, below)| (shims.len(), below.len()));
        assert_eq!(found.expect("/proc"), (0, 0));
    }
}
