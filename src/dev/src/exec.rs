//! Running a command on a node: in its network namespace and its cgroup, in every other respect here.

use std::{ffi::OsString, fs, io, os::unix::process::CommandExt, path::PathBuf, process::Command};

use anyhow::{Context, bail};
use bosun_net::netns::{self, Netns};

use crate::{
    Layout,
    cgroup::Hierarchies,
    fabric::{FABRIC, SERVER},
    layout::node_number,
    requirements,
};

/// Becomes the command, on a machine of the cluster; comes back only if that failed. To be called before there are
/// threads: only the calling one changes its namespace.
pub fn exec(layout: &Layout, machine: &str, command: &[OsString]) -> anyhow::Error {
    match become_command(layout, machine, command) {
        Ok(never) => match never {},
        Err(error) => error,
    }
}

#[expect(clippy::disallowed_methods, reason = "the command is the user's")]
fn become_command(layout: &Layout, machine: &str, command: &[OsString]) -> anyhow::Result<std::convert::Infallible> {
    requirements::root("exec")?;
    let [program, arguments @ ..] = command else {
        bail!("there is no command to run: put it after --, such as: bosun dev exec {machine} -- ip route");
    };
    let netns = match Netns::open(layout.netns(machine)) {
        Ok(netns) => netns,
        Err(netns::Error::Missing { .. } | netns::Error::NotANamespace { .. }) => bail!(no_such(layout, machine)),
        Err(error) => return Err(error.into()),
    };
    // So that it ends with the cluster.
    let cgroup = Hierarchies::find()?.make(&layout.cgroup_of(machine, "exec"))?;
    fs::write(cgroup.join("cgroup.procs"), "0").with_context(|| format!("joining the cgroup {}", cgroup.display()))?;
    netns.enter()?;
    let socket = layout.node(machine).containerd_socket();
    let endpoint = |path: &PathBuf| format!("unix://{}", path.display());
    let mut command = Command::new(program);
    command.args(arguments).env("KUBECONFIG", layout.kubeconfig());
    if node_number(machine).is_some() {
        // For `ctr` and `crictl`.
        command
            .env("CONTAINERD_ADDRESS", &socket)
            .env("CONTAINERD_NAMESPACE", "k8s.io")
            .env("CONTAINER_RUNTIME_ENDPOINT", endpoint(&socket));
    }
    let error = command.exec();
    let why = if error.kind() == io::ErrorKind::NotFound {
        "it is looked for on this machine: nodes have no files of their own"
    } else {
        "it can't be run"
    };
    Err(error).with_context(|| format!("running {} on {machine} ({why})", program.display()))
}

fn no_such(layout: &Layout, machine: &str) -> String {
    let entries = fs::read_dir(layout.namespaces()).into_iter().flatten().flatten();
    let mut names: Vec<_> = entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.retain(|name| name != FABRIC);
    // `node-10` after `node-9`.
    names.sort_by_key(|name| (name != SERVER, node_number(name)));
    let dir = layout.dir().display();
    if names.is_empty() {
        return format!("no cluster is up in {dir}: start one with 'bosun dev up --dir {dir}'");
    }
    format!("the cluster in {dir} has no {machine:?}; it has {}", names.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_is_not_there_is_answered_with_those_that_are() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::at(dir.path()).unwrap();
        assert!(no_such(&layout, "node-1").contains("bosun dev up"));
        fs::create_dir(layout.namespaces()).unwrap();
        for name in ["node-10", "fabric", "node-9", "server"] {
            fs::write(layout.netns(name), "").unwrap();
        }
        let told = no_such(&layout, "node-3");
        assert!(
            told.ends_with("has no \"node-3\"; it has server, node-9, node-10"),
            "{told}"
        );
    }
}
