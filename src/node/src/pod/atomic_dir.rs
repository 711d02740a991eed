//! A directory whose files all change at once.
//!
//! As upstream lays it out, so that programs that know it find what they expect: the files are in a directory of their
//! own, `..2026_11_20_18_00_00.123456789`, to which the link `..data` leads; each name at the top is a link through
//! that. A new set of files is written beside the old one, and then the link is exchanged: whoever reads through it
//! sees all of the one or all of the other.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, chown, symlink},
    path::{Component, Path, PathBuf},
};

use jiff::Timestamp;

/// The link that is exchanged.
const DATA: &str = "..data";
/// The link that it is exchanged with.
const NEW_DATA: &str = "..data_tmp";

/// One file.
#[derive(Clone, PartialEq, Eq)]
pub struct File {
    /// What it holds.
    pub bytes: Vec<u8>,
    /// Its permissions.
    pub mode: u32,
    /// Its owner; `None`: root.
    pub owner: Option<u32>,
}

impl std::fmt::Debug for File {
    // It may be secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("File").field("mode", &self.mode).finish_non_exhaustive()
    }
}

/// Files by their paths below the directory.
pub type Files = BTreeMap<String, File>;

/// Makes the directory hold exactly these files, readable for `group` if there is one. What holds them already is left
/// alone: says whether anything changed. Nothing outside of the directory is touched, whatever links are in it.
pub fn write(directory: &Path, files: &Files, group: Option<u32>, now: Timestamp) -> io::Result<bool> {
    for path in files.keys() {
        check(path)?;
    }
    let current = fs::read_link(directory.join(DATA))
        .ok()
        .filter(|target| is_version(target));
    if current
        .as_ref()
        .is_some_and(|current| holds(&directory.join(current), files, group))
    {
        link_names(directory, files)?;
        return Ok(false);
    }
    let version = now.strftime("..%Y_%m_%d_%H_%M_%S.%9f").to_string();
    let fresh = directory.join(&version);
    // Never into one that somebody left.
    fs::DirBuilder::new().mode(0o755).create(&fresh)?;
    let written = fill(&fresh, files, group).and_then(|()| {
        let link = directory.join(NEW_DATA);
        remove_file(&link)?;
        symlink(&version, &link)?;
        fs::rename(&link, directory.join(DATA))
    });
    if let Err(error) = written {
        let _ = fs::remove_dir_all(&fresh);
        return Err(error);
    }
    link_names(directory, files)?;
    remove_others(directory, &version)?;
    Ok(true)
}

fn check(path: &str) -> io::Result<()> {
    let plain = Path::new(path)
        .components()
        .all(|part| matches!(part, Component::Normal(_)));
    if path.is_empty() || path.starts_with("..") || !plain {
        let problem = format!("{path:?} is no path below a volume");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, problem));
    }
    Ok(())
}

/// Whether a link leads to one of our directories beside it.
fn is_version(target: &Path) -> bool {
    let mut parts = target.components();
    let (Some(Component::Normal(name)), None) = (parts.next(), parts.next()) else {
        return false;
    };
    let year = name.to_str().and_then(|name| name.strip_prefix(".."));
    year.is_some_and(|year| year.starts_with(|first: char| first.is_ascii_digit()))
}

fn holds(directory: &Path, files: &Files, group: Option<u32>) -> bool {
    use std::os::unix::fs::MetadataExt;
    let found = list(directory, Path::new("")).unwrap_or_default();
    found == files.keys().map(PathBuf::from).collect()
        && files.iter().all(|(path, file)| {
            let path = directory.join(path);
            let same = fs::symlink_metadata(&path).is_ok_and(|metadata| {
                metadata.is_file()
                    && metadata.mode() & 0o7777 == effective_mode(file.mode, group)
                    && metadata.uid() == file.owner.unwrap_or(0)
                    && group.is_none_or(|group| metadata.gid() == group)
            });
            same && fs::read(&path).is_ok_and(|bytes| bytes == file.bytes)
        })
}

/// The files below a directory, by their paths.
fn list(directory: &Path, below: &Path) -> io::Result<BTreeSet<PathBuf>> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(directory.join(below))? {
        let entry = entry?;
        let path = below.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            found.extend(list(directory, &path)?);
        } else {
            found.insert(path);
        }
    }
    Ok(found)
}

/// A file for a group is one that the group may read, and write if its owner may.
fn effective_mode(mode: u32, group: Option<u32>) -> u32 {
    if group.is_some() { mode | 0o440 } else { mode }
}

fn fill(directory: &Path, files: &Files, group: Option<u32>) -> io::Result<()> {
    use std::io::Write;
    fs::set_permissions(directory, fs::Permissions::from_mode(0o755))?;
    for (path, file) in files {
        let place = directory.join(path);
        let parent = place.parent().unwrap_or(directory);
        fs::DirBuilder::new().recursive(true).mode(0o755).create(parent)?;
        let mut options = fs::OpenOptions::new();
        let mut opened = options.write(true).create_new(true).mode(0o600).open(&place)?;
        opened.write_all(&file.bytes)?;
        if file.owner.is_some() || group.is_some() {
            chown(&place, file.owner, group)?;
        }
        fs::set_permissions(&place, fs::Permissions::from_mode(effective_mode(file.mode, group)))?;
    }
    Ok(())
}

/// Makes a link of each name at the top, and removes those of names that are gone.
fn link_names(directory: &Path, files: &Files) -> io::Result<()> {
    let tops: BTreeSet<&str> = files.keys().filter_map(|path| path.split('/').next()).collect();
    for top in &tops {
        let (link, target) = (directory.join(top), Path::new(DATA).join(top));
        if fs::read_link(&link).is_ok_and(|found| found == target) {
            continue;
        }
        remove_file(&link)?;
        symlink(target, &link)?;
    }
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        let stale = name
            .to_str()
            .is_some_and(|name| !name.starts_with("..") && !tops.contains(name));
        if stale && entry.file_type()?.is_symlink() {
            remove_file(&entry.path())?;
        }
    }
    Ok(())
}

fn remove_others(directory: &Path, version: &str) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        if is_version(Path::new(&name)) && name.to_str() != Some(version) && entry.file_type()?.is_dir() {
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

fn remove_file(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(list: &[(&str, &str)]) -> Files {
        let files = list.iter().map(|(path, text)| {
            let file = File {
                bytes: text.as_bytes().to_vec(),
                mode: 0o644,
                owner: None,
            };
            ((*path).to_owned(), file)
        });
        files.collect()
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn names(directory: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(directory)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn all_files_change_at_once_and_nothing_of_the_old_ones_stays() {
        let temp = tempfile::tempdir().unwrap();
        let directory = temp.path();
        assert!(write(directory, &files(&[("a", "1"), ("d/b", "2")]), None, at(1)).unwrap());
        assert_eq!(fs::read_to_string(directory.join("d/b")).unwrap(), "2");
        assert_eq!(fs::read_link(directory.join("a")).unwrap(), Path::new("..data/a"));
        // A reader that holds the directory open sees the old files to the end.
        let held = fs::File::open(directory.join("a")).unwrap();
        assert!(write(directory, &files(&[("a", "3")]), None, at(2)).unwrap());
        assert_eq!(io::read_to_string(held).unwrap(), "1");
        assert_eq!(fs::read_to_string(directory.join("a")).unwrap(), "3");
        assert_eq!(names(directory), ["..1970_01_01_00_00_02.000000000", "..data", "a"]);
    }

    #[test]
    fn files_that_are_as_they_should_be_are_not_written() {
        let temp = tempfile::tempdir().unwrap();
        let wanted = files(&[("a", "1")]);
        assert!(write(temp.path(), &wanted, None, at(1)).unwrap());
        assert!(!write(temp.path(), &wanted, None, at(2)).unwrap());
        fs::remove_file(temp.path().join("a")).unwrap();
        assert!(!write(temp.path(), &wanted, None, at(3)).unwrap());
        assert_eq!(fs::read_to_string(temp.path().join("a")).unwrap(), "1");
        let mut closed = wanted.clone();
        closed.get_mut("a").unwrap().mode = 0o400;
        assert!(write(temp.path(), &closed, None, at(4)).unwrap(), "the mode is another");
    }

    #[test]
    fn no_path_and_no_link_leads_out_of_the_directory() {
        let temp = tempfile::tempdir().unwrap();
        let (volume, outside) = (temp.path().join("volume"), temp.path().join("outside"));
        for directory in [&volume, &outside] {
            fs::create_dir(directory).unwrap();
        }
        fs::write(outside.join("a"), "kept").unwrap();
        for path in ["/etc/passwd", "../outside/a", "..data", "a/../../outside/a", "", "a/."] {
            let refused = write(&volume, &files(&[(path, "x")]), None, at(1));
            assert!(refused.is_err() || path == "a/.", "{path}");
        }
        symlink(&outside, volume.join("..data")).unwrap();
        symlink(outside.join("a"), volume.join("a")).unwrap();
        assert!(write(&volume, &files(&[("a", "new")]), None, at(2)).unwrap());
        assert_eq!(fs::read_to_string(outside.join("a")).unwrap(), "kept");
        assert_eq!(fs::read_to_string(volume.join("a")).unwrap(), "new");
    }
}
