//! Taking a cluster away: its processes, what they left in the kernel, its files. May be killed anywhere and run again.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail, ensure};
use bosun_cri::{ManagedConfig, managed, mounts};
use nix::{
    errno::Errno,
    mount::{MntFlags, umount2},
};
use tokio::task::spawn_blocking;

use crate::{
    Layout, Progress,
    cgroup::{self, Hierarchies},
    fabric,
    layout::{CLUSTERS, NodePlaces, node_number},
    lock, requirements,
};

/// Takes the cluster away; whether there was anything of one.
pub async fn down(layout: &Layout, progress: &Progress) -> anyhow::Result<bool> {
    requirements::root("down")?;
    let hierarchies = Hierarchies::find()?;
    ensure!(
        !cgroup::is_in(std::process::id(), &layout.cgroup()),
        "this command was started within the cluster, and would end with it: start it from outside"
    );
    let lock = lock::cluster(layout, false).await?;
    let there = is_there(layout, &hierarchies)?;
    if there {
        let away = progress.step("taking everything away", async |_| {
            take_down(layout, &hierarchies).await
        });
        away.await?;
    }
    if lock.is_some() {
        remove_dir(layout.dir())?;
    }
    Ok(there)
}

/// Whether anything of the cluster is on this machine.
fn is_there(layout: &Layout, hierarchies: &Hierarchies) -> anyhow::Result<bool> {
    let files = entries(layout.dir())
        .iter()
        .any(|entry| Layout::owns(entry.as_os_str()));
    Ok(files || hierarchies.exists(&layout.cgroup()) || fabric::is_plugged(layout)? || other_run(layout).is_some())
}

/// Takes away everything but the directory itself. The record is renamed first, so that nobody takes what is left for a
/// cluster, and removed last. To be called with the lock held.
pub(crate) async fn take_down(layout: &Layout, hierarchies: &Hierarchies) -> anyhow::Result<()> {
    match fs::rename(layout.record(), layout.ending()) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("renaming {}", layout.record().display()));
        }
        _ => {}
    }
    hierarchies.kill(&layout.cgroup()).await?;
    let mut left = Vec::new();
    for name in nodes(layout) {
        // Shims' sockets and containers' mounts; everything that containerd knows where it is.
        if let Err(error) = managed::tear_down(&containerd(&layout.node(&name))).await {
            left.push(format!("{name}: {error}"));
        }
    }
    if let Err(error) = fabric::unplug(layout) {
        left.push(format!("{error:#}"));
    }
    for dir in [Some(layout.dir().to_owned()), other_run(layout)].into_iter().flatten() {
        unmount_below(&dir, &mut left)?;
    }
    if let Err(error) = hierarchies.remove(&layout.cgroup()).await {
        left.push(format!("{error:#}"));
    }
    if !left.is_empty() {
        bail!(
            "the cluster's processes are gone, its files in {} are kept, because some of it can't be taken away: {}",
            layout.dir().display(),
            left.join("; ")
        );
    }
    let layout = layout.clone();
    spawn_blocking(move || remove_files(&layout)).await?
}

/// The nodes that there are directories of.
fn nodes(layout: &Layout) -> BTreeSet<String> {
    let all = entries(layout.dir()).into_iter().chain(entries(&layout.run()));
    let names = all.filter_map(|name| name.into_os_string().into_string().ok());
    names.filter(|name| node_number(name).is_some()).collect()
}

fn containerd(places: &NodePlaces) -> ManagedConfig {
    ManagedConfig {
        program: "containerd".into(),
        root: places.data().join("containerd"),
        state: places.containerd_state(),
        socket: places.containerd_socket(),
        cni_conf_dir: places.cni_conf(),
        cni_bin_dir: places.cni_bin(),
        sandbox_image: String::new(),
        log_file: places.containerd_log(),
    }
}

/// The directory that run-time files are in where it is another one, and is there.
fn other_run(layout: &Layout) -> Option<PathBuf> {
    let run = layout.run();
    (run != layout.dir() && run.exists()).then_some(run)
}

fn unmount_below(dir: &Path, left: &mut Vec<String>) -> anyhow::Result<()> {
    for point in mounts::below(dir).context("reading the mounts")? {
        match umount2(&point, MntFlags::MNT_DETACH) {
            // Gone with one above it.
            Ok(()) | Err(Errno::EINVAL | Errno::ENOENT) => {}
            Err(error) => left.push(format!("the mount {}: {error}", point.display())),
        }
    }
    Ok(())
}

/// Removes the cluster's files, and nothing that is mounted among them: that may be a directory of the user's.
fn remove_files(layout: &Layout) -> anyhow::Result<()> {
    let other = other_run(layout);
    for dir in [Some(layout.dir()), other.as_deref()].into_iter().flatten() {
        let mounts = mounts::below(dir).context("reading the mounts")?;
        if let Some(mount) = mounts.first() {
            bail!("{} is mounted again: start 'bosun dev down' once more", mount.display());
        }
    }
    let ending = layout.ending();
    let last = ending.file_name();
    for entry in entries(layout.dir()) {
        if Layout::owns(entry.as_os_str()) && Some(entry.as_os_str()) != last {
            remove(&layout.dir().join(entry))?;
        }
    }
    if let Some(run) = other {
        remove(&run)?;
    }
    remove(&ending)
}

fn remove(path: &Path) -> anyhow::Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(file) if file.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// Removes the cluster's directory unless there are others' things in it.
fn remove_dir(dir: &Path) -> anyhow::Result<()> {
    match fs::remove_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => return Ok(()),
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("removing {}", dir.display()));
        }
        _ => {}
    }
    if dir.parent() == Some(Path::new(CLUSTERS)) {
        // Others' clusters may be in it.
        let _ = fs::remove_dir(CLUSTERS);
    }
    Ok(())
}

/// The names in a directory; none if it is not there.
fn entries(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().into()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_clusters_files_are_removed_and_then_a_directory_that_is_empty() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::at(&dir.path().join("c")).unwrap();
        fs::create_dir_all(layout.node("node-1").data()).unwrap();
        for file in [layout.ending(), layout.kubeconfig(), layout.dir().join("notes.txt")] {
            fs::write(file, "").unwrap();
        }
        assert_eq!(nodes(&layout), ["node-1".to_owned()].into());
        remove_files(&layout).unwrap();
        remove_dir(layout.dir()).unwrap();
        assert_eq!(entries(layout.dir()), [PathBuf::from("notes.txt")]);
        remove(&layout.dir().join("notes.txt")).unwrap();
        remove_dir(layout.dir()).unwrap();
        assert!(!layout.dir().exists());
        // Nothing is left to be done, which is well.
        remove_files(&layout).unwrap();
        remove_dir(layout.dir()).unwrap();
    }
}
