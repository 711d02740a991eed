//! Taking down what a managed containerd that has ended left behind: shims, container processes, mounts, sockets.
//!
//! Everything is found from the state directory or by our socket's path in a shim's arguments, so nothing of another
//! containerd is touched. Goes on after each failure and reports all of them.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs, io,
    path::{Path, PathBuf},
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

/// How long killed processes may take to be gone.
const KILL_DEADLINE: Duration = Duration::from_secs(20);

/// Where containerd's shims listen, whatever its own state directory.
const SHIM_SOCKETS: &str = "/run/containerd/s";

pub(super) async fn run(config: &ManagedConfig) -> Result<(), ManagedError> {
    let mut left = Vec::new();
    let bundles = bundles(&config.state);
    let cgroups = kill(&config.socket, &bundles, &mut left).await;
    for cgroup in cgroups {
        // Gone already where the runtime could still see to it.
        let _ = fs::remove_dir(cgroup);
    }
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
fn tolerate(result: io::Result<()>, path: &Path, left: &mut Vec<String>) {
    if let Err(error) = result
        && error.kind() != io::ErrorKind::NotFound
    {
        left.push(format!("{}: {error}", path.display()));
    }
}

/// The tasks' directories by id: those of `k8s.io` and of whoever else used this containerd.
fn bundles(state: &Path) -> BTreeMap<String, PathBuf> {
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

/// Kills the shims of this socket and all their descendants, and says which cgroups those were in.
async fn kill(socket: &Path, bundles: &BTreeMap<String, PathBuf>, left: &mut Vec<String>) -> BTreeSet<PathBuf> {
    let deadline = Instant::now() + KILL_DEADLINE;
    let mut cgroups = BTreeSet::new();
    loop {
        let (shims, descendants) = match find(socket) {
            Ok(found) => found,
            Err(error) => {
                left.push(format!("/proc: {error}"));
                return cgroups;
            }
        };
        if shims.is_empty() {
            return cgroups;
        }
        if Instant::now() >= deadline {
            left.push(format!("{} shims do not end", shims.len()));
            return cgroups;
        }
        // A shim adopts the orphans among its descendants, so it goes last: nobody escapes.
        for process in if descendants.is_empty() { &shims } else { &descendants } {
            cgroups.extend(cgroups_of(process.pid, bundles));
            process.signal(Signal::KILL);
        }
        sleep(Duration::from_millis(20)).await;
    }
}

/// The shims that serve `socket`, and the processes below them.
fn find(socket: &Path) -> io::Result<(Vec<Process>, Vec<Process>)> {
    let mut children: HashMap<u32, Vec<(u32, u64)>> = HashMap::new();
    let mut shims = Vec::new();
    for pid in process::all()? {
        let Some(stat) = Stat::read(pid) else { continue };
        children.entry(stat.parent).or_default().push((pid, stat.start_time));
        let arguments = process::arguments(pid);
        let is_shim = arguments.first().is_some_and(|name| {
            let name = Path::new(name).file_name().unwrap_or_default();
            name.to_string_lossy().starts_with("containerd-shim")
        });
        if is_shim && process::has_option(&arguments, "-address", socket) {
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

/// The container's own cgroups of a process: those whose last part is the id of one of our tasks.
fn cgroups_of(pid: u32, bundles: &BTreeMap<String, PathBuf>) -> Vec<PathBuf> {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    let mut paths = Vec::new();
    for line in text.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else {
            continue;
        };
        let ours = path.rsplit('/').next().is_some_and(|last| bundles.contains_key(last));
        if ours {
            let path = path.trim_start_matches('/');
            let controllers = controllers.trim_start_matches("name=");
            let mounts = if controllers.is_empty() {
                ["", "unified"]
            } else {
                [controllers, controllers]
            };
            paths.extend(mounts.map(|mount| Path::new("/sys/fs/cgroup").join(mount).join(path)));
        }
    }
    paths
}

/// Undoes every mount at or below `dir`, the latest first.
fn unmount_below(dir: &Path, left: &mut Vec<String>) {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    for point in mount_points(&table)
        .into_iter()
        .rev()
        .filter(|point| point.starts_with(dir))
    {
        match unmount(&point, UnmountFlags::DETACH) {
            // Gone with one above it.
            Ok(()) | Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => {}
            Err(error) => left.push(format!("the mount {}: {error}", point.display())),
        }
    }
}

/// The mount points in a mountinfo table, in its order.
fn mount_points(table: &str) -> Vec<PathBuf> {
    let fields = table.lines().filter_map(|line| line.split(' ').nth(4));
    fields.map(|escaped| PathBuf::from(unescape(escaped))).collect()
}

/// The kernel writes spaces, tabs, newlines and backslashes as octal numbers.
fn unescape(text: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(text.to_owned(), |text, (code, character)| text.replace(code, character))
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
    fn mount_points_are_read_in_order_and_unescaped() {
        let table = "\
22 1 0:20 / / rw shared:1 - ext4 /dev/vda rw
36 22 0:31 / /run/b/state/x\\040y rw,nosuid - tmpfs shm rw
37 36 0:32 / /run/b/state/x\\040y/z rw - overlay overlay rw";
        let points = mount_points(table);
        assert_eq!(
            points,
            ["/", "/run/b/state/x y", "/run/b/state/x y/z"].map(PathBuf::from)
        );
    }

    #[test]
    fn a_process_that_is_no_shims_descendant_is_not_found() {
        let found = find(Path::new("/nowhere/containerd.sock")).map(|(shims, below)| (shims.len(), below.len()));
        assert_eq!(found.expect("/proc"), (0, 0));
    }
}
