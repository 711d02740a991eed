//! This process' mounts, as the kernel's `/proc/self/mountinfo` tells them (proc(5)).

use std::{
    ffi::OsString,
    fs, io,
    os::unix::ffi::OsStringExt,
    path::{Path, PathBuf},
};

/// One mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Where it is.
    pub point: PathBuf,
    /// What it is of, such as `tmpfs`.
    pub file_system: String,
}

/// All mounts, in the order they were made.
pub fn all() -> io::Result<Vec<Mount>> {
    Ok(parse(&fs::read("/proc/self/mountinfo")?))
}

/// Where something is mounted at or below `dir`, the latest first: in this order they can be undone.
pub fn below(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let points = all()?.into_iter().rev().map(|mount| mount.point);
    Ok(points.filter(|point| point.starts_with(dir)).collect())
}

/// Where hierarchies of cgroups are mounted, of either version.
pub fn cgroups() -> io::Result<Vec<PathBuf>> {
    let mounts = all()?.into_iter();
    let of_cgroups = mounts.filter(|mount| matches!(&*mount.file_system, "cgroup" | "cgroup2"));
    Ok(of_cgroups.map(|mount| mount.point).collect())
}

/// A table's mounts; lines of another form are passed over.
pub fn parse(table: &[u8]) -> Vec<Mount> {
    let lines = table.split(|byte| *byte == b'\n');
    let mounts = lines.filter_map(|line| {
        let mut fields = line.split(|byte| *byte == b' ');
        let point = unescape(fields.nth(4)?);
        // Optional fields, a dash, the file system's type.
        fields.find(|field| *field == b"-")?;
        let file_system = String::from_utf8_lossy(fields.next()?).into_owned();
        Some(Mount { point, file_system })
    });
    mounts.collect()
}

/// The kernel writes spaces, tabs, newlines and backslashes as octal numbers.
fn unescape(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let [first, more @ ..] = rest {
        rest = more;
        let digits = more
            .get(..3)
            .filter(|digits| digits.iter().all(|d| (b'0'..=b'7').contains(d)));
        match digits {
            Some(digits) if *first == b'\\' => {
                let code = digits
                    .iter()
                    .fold(0_u32, |code, digit| code * 8 + u32::from(digit - b'0'));
                bytes.push(code as u8);
                rest = &more[3..];
            }
            _ => bytes.push(*first),
        }
    }
    OsString::from_vec(bytes).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_are_read_in_order_and_unescaped() {
        let table = b"\
22 1 0:20 / / rw shared:1 - ext4 /dev/vda rw
36 22 0:31 / /run/b/state/x\\040y rw,nosuid - tmpfs shm rw
37 36 0:32 / /run/b/state/x\\040y/\\134z rw shared:7 master:1 - overlay overlay rw
no mount
38 22 0:33 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw
";
        let mounts: Vec<_> = parse(table)
            .into_iter()
            .map(|mount| (mount.point.display().to_string(), mount.file_system))
            .collect();
        let expected = [
            ("/", "ext4"),
            ("/run/b/state/x y", "tmpfs"),
            ("/run/b/state/x y/\\z", "overlay"),
            ("/sys/fs/cgroup", "cgroup2"),
        ];
        assert_eq!(mounts, expected.map(|(point, of)| (point.to_owned(), of.to_owned())));
    }

    #[test]
    fn the_machines_own_table_has_a_root_and_a_proc() {
        let mounts = all().expect("a table");
        assert!(mounts.iter().any(|mount| mount.point == Path::new("/")));
        assert_eq!(
            below(Path::new("/proc")).expect("a table").last(),
            Some(&PathBuf::from("/proc"))
        );
    }
}
