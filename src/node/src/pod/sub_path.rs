//! Parts of volumes (`subPath`), opened beneath their volume and bound to a place of the pod's own.
//!
//! What a container can write to, it can fill with links. So a part is resolved by the kernel beneath its volume
//! (`openat2`, `RESOLVE_BENEATH`), and what the runtime is given is a mount of the very directory or file that was
//! opened, not a path that could lead elsewhere by then (CVE-2017-1002101, CVE-2021-25741).

use std::{
    fs, io,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    path::{Component, Path, PathBuf},
};

use bosun_api::PodUid;
use nix::{
    errno::Errno,
    fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2},
    mount::{MntFlags, MsFlags, mount, umount2},
    sys::stat::{Mode, SFlag, fstat, mkdirat},
};

use crate::places::Places;

/// A part of a volume that can't be had.
#[derive(Debug, thiserror::Error)]
pub enum SubPathError {
    /// It would lead out of its volume.
    #[error("subPath {path:?} must be a relative path within the volume, without `..`")]
    Outside {
        /// As the pod asks for it.
        path: String,
    },
    /// The kernel refused.
    #[error("subPath {path:?}: {what}")]
    Io {
        /// As the pod asks for it.
        path: String,
        /// What was being done.
        what: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
}

/// Which part, for which container.
#[derive(Clone, Debug)]
pub struct SubPath {
    /// Where the volume is on the node.
    pub volume: PathBuf,
    /// The volume's name.
    pub volume_name: String,
    /// The path within it.
    pub path: String,
    /// The container's name.
    pub container: String,
    /// The index of its mount.
    pub index: usize,
}

/// Makes a part of a volume, if it isn't there, and binds it to a place of the pod's own, which it returns. Safe to
/// repeat.
pub fn set_up(places: &Places, uid: &PodUid, part: &SubPath) -> Result<PathBuf, SubPathError> {
    let failed = |what| {
        let path = part.path.clone();
        move |errno: Errno| SubPathError::Io {
            path,
            what,
            source: errno.into(),
        }
    };
    let failed_io = |what| {
        let path = part.path.clone();
        move |source| SubPathError::Io { path, what, source }
    };
    let opened = open_beneath(&part.volume, &part.path)?;
    let place = places
        .pod(uid)
        .join("volume-subpaths")
        .join(&part.volume_name)
        .join(&part.container);
    fs::create_dir_all(&place).map_err(failed_io("making its place"))?;
    let place = place.join(part.index.to_string());
    // Bound by an earlier start of the container: what is there by now may be another directory.
    match umount2(&place, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
        Ok(()) | Err(Errno::EINVAL | Errno::ENOENT) => {}
        Err(errno) => return Err(failed("unbinding the one before")(errno)),
    }
    let kind = fstat(&opened).map_err(failed("looking at it"))?.st_mode;
    let is_directory = SFlag::from_bits_truncate(kind & SFlag::S_IFMT.bits()) == SFlag::S_IFDIR;
    let made = if is_directory {
        fs::create_dir_all(&place)
    } else {
        fs::write(&place, "")
    };
    made.map_err(failed_io("making its place"))?;
    let source = PathBuf::from(format!("/proc/self/fd/{}", opened.as_raw_fd()));
    let flags = MsFlags::MS_BIND | MsFlags::MS_REC;
    mount(Some(&source), &place, None::<&Path>, flags, None::<&Path>).map_err(failed("binding it"))?;
    Ok(place)
}

fn open_beneath(volume: &Path, wanted: &str) -> Result<OwnedFd, SubPathError> {
    let outside = || SubPathError::Outside {
        path: wanted.to_owned(),
    };
    let failed = |what| {
        move |errno: Errno| match errno {
            Errno::EXDEV | Errno::ELOOP => SubPathError::Outside {
                path: wanted.to_owned(),
            },
            errno => SubPathError::Io {
                path: wanted.to_owned(),
                what,
                source: errno.into(),
            },
        }
    };
    let mut components = vec![];
    for component in Path::new(wanted).components() {
        match component {
            Component::Normal(name) => components.push(name),
            Component::CurDir => {}
            _ => return Err(outside()),
        }
    }
    let root = open(
        volume,
        OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC,
        Mode::empty(),
    );
    let root = root.map_err(failed("opening the volume"))?;
    let beneath = OpenHow::new()
        .flags(OFlag::O_PATH | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    match openat2(&root, wanted, beneath) {
        Err(Errno::ENOENT) => {}
        opened => return opened.map_err(failed("opening it")),
    }
    let step = OpenHow::new()
        .flags(OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS);
    let mode = Mode::from_bits_truncate(fstat(&root).map_err(failed("looking at the volume"))?.st_mode);
    let mut at = root;
    for name in components {
        match mkdirat(at.as_fd(), name, mode & Mode::from_bits_truncate(0o777)) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(errno) => return Err(failed("making it")(errno)),
        }
        at = openat2(&at, name, step).map_err(failed("opening it"))?;
    }
    Ok(at)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn target(opened: &OwnedFd) -> PathBuf {
        fs::read_link(format!("/proc/self/fd/{}", opened.as_raw_fd())).unwrap()
    }

    #[test]
    fn a_part_is_found_or_made_within_its_volume() {
        let temp = tempfile::tempdir().unwrap();
        let volume = temp.path().canonicalize().unwrap();
        fs::write(volume.join("file"), "").unwrap();
        symlink("file", volume.join("link")).unwrap();
        for (wanted, found) in [
            ("file", "file"),
            ("link", "file"),
            ("made/deep", "made/deep"),
            ("./made", "made"),
        ] {
            assert_eq!(
                target(&open_beneath(&volume, wanted).unwrap()),
                volume.join(found),
                "{wanted}"
            );
        }
    }

    #[test]
    fn no_path_and_no_link_leads_out_of_a_volume() {
        let temp = tempfile::tempdir().unwrap();
        let volume = temp.path().join("volume");
        fs::create_dir(&volume).unwrap();
        fs::create_dir(temp.path().join("secret")).unwrap();
        symlink("/etc", volume.join("absolute")).unwrap();
        symlink("../secret", volume.join("relative")).unwrap();
        for wanted in [
            "/etc",
            "..",
            "a/../../secret",
            "absolute",
            "absolute/passwd",
            "relative",
            "relative/made",
        ] {
            let refused = open_beneath(&volume, wanted);
            assert!(
                matches!(refused, Err(SubPathError::Outside { .. })),
                "{wanted}: {refused:?}"
            );
        }
        assert_eq!(fs::read_dir(temp.path().join("secret")).unwrap().count(), 0);
    }
}
