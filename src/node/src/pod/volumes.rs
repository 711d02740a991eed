//! A pod's volumes: planned purely, then made and removed under the pod's directory.

use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::{DirBuilderExt, FileTypeExt, PermissionsExt},
    path::{Path, PathBuf},
};

use bosun_api::{
    PodUid, Quantity,
    core::{Pod, Volume},
};
use bosun_cri::mounts;
use jiff::Timestamp;
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use super::{
    atomic_dir::{self, Files},
    payload,
};
use crate::places::Places;

/// Where each volume of a pod is on the node, by name.
pub type VolumeSources = BTreeMap<String, PathBuf>;

/// What must stand on the node for a volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VolumePlan {
    /// A directory of the pod's own, on disk.
    Directory(PathBuf),
    /// A directory of the pod's own, in memory, of at most so many bytes (0: half of the node's memory).
    Memory {
        /// Where.
        path: PathBuf,
        /// `emptyDir.sizeLimit`.
        size: u64,
    },
    /// Files that the control plane tells of.
    Payload {
        /// Where.
        path: PathBuf,
        /// On a file system in memory: they may be secret.
        in_memory: bool,
    },
    /// A path of the node that must be, or be made, of this type (`hostPath.type`).
    Host {
        /// Where.
        path: PathBuf,
        /// Such as `DirectoryOrCreate`; empty for no check.
        kind: String,
    },
}

impl VolumePlan {
    /// Where the volume is on the node.
    pub fn path(&self) -> &Path {
        match self {
            Self::Directory(path)
            | Self::Memory { path, .. }
            | Self::Payload { path, .. }
            | Self::Host { path, .. } => path,
        }
    }
}

/// A volume that can't be made, and why.
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    /// The kind needs what this agent doesn't have.
    #[error(
        "volume {name}: volumes of this kind are not supported by this node: use emptyDir, hostPath, configMap, secret, \
         downwardAPI or projected"
    )]
    Unsupported {
        /// The volume's name.
        name: String,
    },
    /// The kernel refused.
    #[error("volume {name}: {what} {}", path.display())]
    Io {
        /// The volume's name.
        name: String,
        /// What was being done.
        what: &'static str,
        /// To which path.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A path of the node is not what the pod asked for.
    #[error("volume {name}: hostPath type check failed: {} is not a {kind}", path.display())]
    WrongType {
        /// The volume's name.
        name: String,
        /// The path on the node.
        path: PathBuf,
        /// `hostPath.type`.
        kind: String,
    },
}

/// What must stand on the node for one volume.
pub fn plan_volume(places: &Places, uid: &PodUid, volume: &Volume) -> Result<VolumePlan, VolumeError> {
    if let Some(empty) = &volume.empty_dir {
        let path = places.volume(uid, "kubernetes.io~empty-dir", &volume.name);
        if empty.medium.as_deref().unwrap_or_default() == "Memory" {
            let size = empty.size_limit.as_ref().and_then(|limit| Quantity::of(limit).ok());
            let size = size.map_or(0, |size| size.value().max(0).unsigned_abs());
            return Ok(VolumePlan::Memory { path, size });
        }
        return Ok(VolumePlan::Directory(path));
    }
    if let Some(host) = &volume.host_path {
        return Ok(VolumePlan::Host {
            path: host.path.clone().into(),
            kind: host.type_.clone().unwrap_or_default(),
        });
    }
    let plugin = match volume {
        Volume {
            config_map: Some(_), ..
        } => "kubernetes.io~configmap",
        Volume { secret: Some(_), .. } => "kubernetes.io~secret",
        Volume {
            downward_api: Some(_), ..
        } => "kubernetes.io~downward-api",
        Volume { projected: Some(_), .. } => "kubernetes.io~projected",
        _ => {
            return Err(VolumeError::Unsupported {
                name: volume.name.clone(),
            });
        }
    };
    Ok(VolumePlan::Payload {
        path: places.volume(uid, plugin, &volume.name),
        in_memory: payload::is_in_memory(volume),
    })
}

/// Writes the files of volumes that stand. All of each change at once.
pub fn fill(
    sources: &VolumeSources,
    payloads: &BTreeMap<String, Files>,
    group: Option<u32>,
    now: Timestamp,
) -> Result<(), VolumeError> {
    for (name, files) in payloads {
        let Some(path) = sources.get(name) else { continue };
        let changed = atomic_dir::write(path, files, group, now).map_err(|source| VolumeError::Io {
            name: name.clone(),
            what: "writing the files of",
            path: path.clone(),
            source,
        })?;
        if changed {
            tracing::info!(volume = name, files = files.len(), "volume written");
        }
    }
    Ok(())
}

/// Makes the pod's volumes; what stands already is left as it is.
pub fn set_up(places: &Places, pod: &Pod, uid: &PodUid) -> Result<VolumeSources, VolumeError> {
    let mut sources = VolumeSources::new();
    for volume in pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten()) {
        let plan = plan_volume(places, uid, volume)?;
        set_up_one(&volume.name, &plan)?;
        sources.insert(volume.name.clone(), plan.path().to_owned());
    }
    Ok(sources)
}

fn set_up_one(name: &str, plan: &VolumePlan) -> Result<(), VolumeError> {
    let failed = |what, path: &Path| {
        let (name, path) = (name.to_owned(), path.to_owned());
        move |source| VolumeError::Io {
            name,
            what,
            path,
            source,
        }
    };
    match plan {
        VolumePlan::Directory(path) => make_open_directory(path).map_err(failed("making", path)),
        VolumePlan::Memory { path, size } => {
            make_open_directory(path).map_err(failed("making", path))?;
            if is_mount_point(path).map_err(failed("looking at", path))? {
                return Ok(());
            }
            let options = if *size == 0 {
                "mode=0777".to_owned()
            } else {
                format!("mode=0777,size={size}")
            };
            let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
            mount(Some("tmpfs"), path, Some("tmpfs"), flags, Some(options.as_str()))
                .map_err(|errno| failed("mounting memory at", path)(errno.into()))
        }
        VolumePlan::Payload { path, in_memory } => {
            make_open_directory(path).map_err(failed("making", path))?;
            if !in_memory || is_mount_point(path).map_err(failed("looking at", path))? {
                return Ok(());
            }
            let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
            mount(Some("tmpfs"), path, Some("tmpfs"), flags, Some("mode=0777"))
                .map_err(|errno| failed("mounting memory at", path)(errno.into()))
        }
        VolumePlan::Host { path, kind } => set_up_host(name, path, kind),
    }
}

/// Containers of any user write to it.
fn make_open_directory(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o755).create(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o777))
}

/// A directory on another file system than its parent's is one that something was mounted on.
fn is_mount_point(path: &Path) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt;
    let parent = path.parent().unwrap_or(path);
    Ok(fs::metadata(path)?.dev() != fs::metadata(parent)?.dev())
}

fn set_up_host(name: &str, path: &Path, kind: &str) -> Result<(), VolumeError> {
    let failed = |what| {
        move |source| VolumeError::Io {
            name: name.to_owned(),
            what,
            path: path.to_owned(),
            source,
        }
    };
    match kind {
        "DirectoryOrCreate" if !path.exists() => {
            return fs::DirBuilder::new()
                .recursive(true)
                .mode(0o755)
                .create(path)
                .map_err(failed("making the directory"));
        }
        "FileOrCreate" if !path.exists() => {
            let made = fs::OpenOptions::new().create(true).append(true).open(path);
            return made.map(drop).map_err(failed("making the file"));
        }
        _ => {}
    }
    let holds = |check: fn(&fs::FileType) -> bool| fs::metadata(path).is_ok_and(|found| check(&found.file_type()));
    let right = match kind {
        "Directory" | "DirectoryOrCreate" => holds(fs::FileType::is_dir),
        "File" | "FileOrCreate" => holds(fs::FileType::is_file),
        "Socket" => holds(FileTypeExt::is_socket),
        "CharDevice" => holds(FileTypeExt::is_char_device),
        "BlockDevice" => holds(FileTypeExt::is_block_device),
        // Without a type the runtime makes what is missing, as a directory.
        _ => true,
    };
    if right {
        return Ok(());
    }
    Err(VolumeError::WrongType {
        name: name.to_owned(),
        path: path.to_owned(),
        kind: kind.trim_end_matches("OrCreate").to_owned(),
    })
}

/// Removes the pod's directory. What is still mounted beneath it is unmounted first, so that nothing of the node's
/// own is reached through it. Safe to repeat.
pub fn tear_down(places: &Places, uid: &PodUid) -> io::Result<()> {
    let directory = places.pod(uid);
    for path in mounts::below(&directory)? {
        umount2(&path, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW)?;
    }
    match fs::remove_dir_all(&directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use bosun_api::core::{EmptyDirVolumeSource, HostPathVolumeSource};

    use super::*;

    fn places(root: &Path) -> Places {
        Places {
            data: root.join("data"),
            root: root.join("root"),
            logs: root.join("logs"),
            run: root.join("run"),
        }
    }

    fn host(path: &Path, kind: &str) -> Volume {
        Volume {
            name: "v".into(),
            host_path: Some(HostPathVolumeSource {
                path: path.display().to_string(),
                type_: Some(kind.into()),
            }),
            ..Volume::default()
        }
    }

    fn pod(volume: Volume) -> Pod {
        let mut pod = Pod::default();
        pod.spec.get_or_insert_default().volumes = Some(vec![volume]);
        pod
    }

    #[test]
    fn an_empty_dir_is_the_pods_own_and_goes_with_it() {
        let temp = tempfile::tempdir().unwrap();
        let places = places(temp.path());
        let uid = PodUid::from("u1");
        let pod = pod(Volume {
            name: "scratch".into(),
            empty_dir: Some(EmptyDirVolumeSource::default()),
            ..Volume::default()
        });
        for _ in 0..2 {
            let sources = set_up(&places, &pod, &uid).unwrap();
            let mode = fs::metadata(&sources["scratch"]).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o777);
            fs::write(sources["scratch"].join("kept"), "").unwrap();
        }
        for _ in 0..2 {
            tear_down(&places, &uid).unwrap();
            assert!(!places.pod(&uid).exists());
        }
    }

    #[test]
    fn a_host_path_is_checked_or_made_and_never_removed() {
        let temp = tempfile::tempdir().unwrap();
        let places = places(temp.path());
        let uid = PodUid::from("u1");
        let directory = temp.path().join("made");
        set_up(&places, &pod(host(&directory, "DirectoryOrCreate")), &uid).unwrap();
        assert!(directory.is_dir());
        let problem = set_up(&places, &pod(host(&directory, "File")), &uid).unwrap_err();
        assert!(problem.to_string().ends_with("is not a File"), "{problem}");
        set_up(&places, &pod(host(&directory.join("f"), "FileOrCreate")), &uid).unwrap();
        tear_down(&places, &uid).unwrap();
        assert!(directory.join("f").is_file());
    }

    #[test]
    fn a_link_out_of_the_pods_directory_is_removed_and_not_followed() {
        let temp = tempfile::tempdir().unwrap();
        let places = places(temp.path());
        let uid = PodUid::from("u1");
        let outside = temp.path().join("outside");
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("kept"), "").unwrap();
        fs::create_dir_all(places.pod(&uid)).unwrap();
        std::os::unix::fs::symlink(&outside, places.pod(&uid).join("link")).unwrap();
        tear_down(&places, &uid).unwrap();
        assert!(outside.join("kept").is_file());
    }

    #[test]
    fn a_volume_that_needs_an_api_server_is_refused_by_name() {
        let temp = tempfile::tempdir().unwrap();
        let bare = Volume {
            name: "token".into(),
            ..Volume::default()
        };
        let problem = set_up(&places(temp.path()), &pod(bare), &"u1".into()).unwrap_err();
        assert!(problem.to_string().starts_with("volume token:"), "{problem}");
    }
}
