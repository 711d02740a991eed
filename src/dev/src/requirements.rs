//! What a cluster needs of the machine, looked at before anything is made.

use std::{
    env,
    ffi::OsStr,
    path::{Path, PathBuf},
};

use anyhow::{Context, ensure};
use nix::unistd::geteuid;

/// Where programs are when nobody says where.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The CNI plugin of our own.
const PLUGIN: &str = "bosun-cni";

/// Namespaces, links, mounts and cgroups are root's to make and to take away.
pub fn root(what: &str) -> anyhow::Result<()> {
    ensure!(
        geteuid().is_root(),
        "'bosun dev {what}' works with namespaces, links and cgroups, which only root may: start it with sudo"
    );
    Ok(())
}

/// The containerd of the nodes, found; and what it needs beside it.
pub fn containerd(program: &Path) -> anyhow::Result<PathBuf> {
    let found = find(program).with_context(|| {
        format!(
            "{} was not found: install containerd (Debian: apt-get install containerd), or name another with --containerd",
            program.display()
        )
    })?;
    find(Path::new("runc")).context(
        "runc was not found, which containerd starts containers with: install it (Debian: apt-get install runc)",
    )?;
    Ok(found)
}

/// The program that is to be started for servers and agents, with the plugin that agents install.
pub fn own_program() -> anyhow::Result<PathBuf> {
    let program = env::current_exe().context("asking for this program's path")?;
    ensure!(
        program.is_file(),
        "{} was replaced while it ran: start the command again",
        program.display()
    );
    ensure!(
        program.with_file_name(PLUGIN).is_file(),
        "{PLUGIN} was not found beside {}: keep the two programs in one directory",
        program.display()
    );
    Ok(program)
}

/// A program by its path, or by its name in `PATH`.
fn find(program: &Path) -> Option<PathBuf> {
    if program.components().count() > 1 {
        return std::path::absolute(program).ok().filter(|path| path.is_file());
    }
    let path = env::var_os("PATH").unwrap_or_else(|| OsStr::new(DEFAULT_PATH).to_owned());
    let mut candidates = env::split_paths(&path).map(|dir| dir.join(program));
    candidates.find(|candidate| candidate.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_containerd_that_is_not_there_is_named_with_the_remedy() {
        for missing in ["/no/such/containerd", "no-such-containerd"] {
            let error = containerd(Path::new(missing)).unwrap_err().to_string();
            assert!(
                error.contains(missing) && error.contains("apt-get install containerd"),
                "{error}"
            );
        }
        assert!(find(Path::new("sh")).unwrap().is_absolute());
    }
}
