//! Takes away whatever a node left on the machine, by force and by its scope alone.

use std::{
    env, fs,
    os::unix::fs::FileTypeExt,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use nix::{
    mount::{MntFlags, umount2},
    sys::signal::{Signal, kill},
};

use crate::proc::{Scope, directories};

/// How the folders and cgroups of tests are called: this, the test process's id, a number.
pub(crate) const PREFIX: &str = "bosun-test-";

/// Where runc keeps what it knows of containers, when a containerd does not say otherwise.
const RUNC_STATE: &str = "/run/containerd/runc/k8s.io";

/// How long killed processes may take to be gone.
const DEADLINE: Duration = Duration::from_secs(15);

/// Ends the node's processes, then takes its mounts, cgroups, run-time state and folder away. Collects what it could
/// not do and goes on.
pub fn teardown(scope: &Scope) -> Vec<String> {
    let mut failures = Vec::new();
    let ended = within_deadline(|| {
        let processes = scope.processes();
        for process in &processes {
            // One that has ended meanwhile is what we want.
            let _ = kill(process.pid, Signal::SIGKILL);
        }
        processes.is_empty()
    });
    if !ended {
        failures.extend(
            scope
                .processes()
                .iter()
                .map(|process| format!("still running: {process:?}")),
        );
    }
    for mount in scope.mounts().iter().rev() {
        if let Err(error) = umount2(mount, MntFlags::MNT_DETACH) {
            failures.push(format!("unmounting {}: {error}", mount.display()));
        }
    }
    for task in task_dirs(&scope.dir) {
        remove_task_state(&task);
    }
    let removed = within_deadline(|| {
        scope
            .cgroups()
            .iter()
            .rev()
            .for_each(|cgroup| _ = fs::remove_dir(cgroup));
        scope.cgroups().is_empty()
    });
    if !removed {
        failures.push(format!("cgroups left: {:?}", scope.cgroups()));
    }
    if let Err(error) = fs::remove_dir_all(&scope.dir)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        failures.push(format!("removing {}: {error}", scope.dir.display()));
    }
    failures
}

/// Tears down the nodes of test processes that are no more: they were killed before they could.
pub fn sweep() {
    for entry in fs::read_dir(env::temp_dir()).into_iter().flatten().flatten() {
        if let Some(name) = entry.file_name().to_str()
            && owner(name).is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists())
        {
            teardown(&Scope {
                dir: entry.path(),
                cgroup: format!("/{name}"),
            });
        }
    }
}

/// The test process that made a folder of this name.
fn owner(name: &str) -> Option<u32> {
    let (pid, number) = name.strip_prefix(PREFIX)?.split_once('-')?;
    number.parse::<u32>().ok()?;
    pid.parse().ok()
}

/// The folders in which containerd keeps its running tasks, one for each sandbox and container.
fn task_dirs(dir: &Path) -> Vec<PathBuf> {
    let tasks = directories(dir)
        .into_iter()
        .filter(|path| path.ends_with("io.containerd.runtime.v2.task/k8s.io"));
    tasks
        .flat_map(|path| fs::read_dir(path).into_iter().flatten().flatten())
        .map(|entry| entry.path())
        .collect()
}

/// A killed shim leaves its socket and runc's record of the container, both outside the node's folder.
fn remove_task_state(task: &Path) {
    if let Ok(address) = fs::read_to_string(task.join("address"))
        && let Some(socket) = address.trim().strip_prefix("unix://")
        && fs::symlink_metadata(socket).is_ok_and(|metadata| metadata.file_type().is_socket())
    {
        let _ = fs::remove_file(socket);
    }
    if let Some(id) = task.file_name() {
        let _ = fs::remove_dir_all(Path::new(RUNC_STATE).join(id));
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a drop has no async to wait in; this waits for a value with a deadline"
)]
fn within_deadline(mut done: impl FnMut() -> bool) -> bool {
    let start = Instant::now();
    loop {
        if done() {
            return true;
        }
        if start.elapsed() > DEADLINE {
            return false;
        }
        thread::sleep(Duration::from_millis(20));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_folders_of_tests_have_an_owner() {
        assert_eq!(owner("bosun-test-123-4"), Some(123));
        for name in ["bosun-test-123", "bosun-test-x-4", "bosun-test-1-x", "other-123-4"] {
            assert_eq!(owner(name), None, "{name}");
        }
    }
}
