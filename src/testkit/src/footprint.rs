//! All that a node holds on the machine, to compare before and after.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use anyhow::Context;

use crate::{Node, programs, teardown::PREFIX};

/// Descriptors of the agent that may stay: connections it keeps for the next call.
const SPARE_DESCRIPTORS: usize = 6;

/// Everything a node holds that a pod could leave behind. Scoped to the node: other tests beside it don't show.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Footprint {
    /// Kind of thing, and the things.
    sets: BTreeMap<&'static str, BTreeSet<String>>,
    /// Open file descriptors of the agent.
    descriptors: usize,
    /// Threads of the agent. They come and go with its pool for blocking calls, so nothing compares them unasked.
    pub tasks: usize,
}

impl Footprint {
    /// Looks at everything a node holds now.
    pub async fn of(node: &Node) -> anyhow::Result<Self> {
        let scope = node.scope();
        let agent = node.agent_pid().context("the agent does not run")?;
        let count = |what: &str| fs::read_dir(format!("/proc/{agent}/{what}")).map(Iterator::count);
        let processes = scope
            .processes()
            .into_iter()
            .filter(|process| process.program() != "bosun");
        let ruleset = programs::output(node.netns().command("nft", ["list", "tables"]), programs::COMMAND).await?;
        let in_netns = |file: &str| {
            node.netns()
                .run(|| Ok(fs::read_to_string(format!("/proc/thread-self/net/{file}"))?))
        };
        let sets = [
            ("link", node.netns().links()?.into_iter().collect()),
            (
                "address",
                lines(&in_netns("fib_trie")?, local_address)
                    .chain(lines(&in_netns("if_inet6")?, Some))
                    .collect(),
            ),
            (
                "route",
                lines(&in_netns("route")?, Some)
                    .chain(lines(&in_netns("ipv6_route")?, destination6))
                    .collect(),
            ),
            (
                "nft table",
                lines(&String::from_utf8_lossy(&ruleset.stdout), Some).collect(),
            ),
            (
                "mount",
                scope.mounts().iter().map(|path| path.display().to_string()).collect(),
            ),
            (
                "cgroup",
                scope.cgroups().iter().map(|path| path.display().to_string()).collect(),
            ),
            ("process", counted(processes.map(|process| process.command))),
            (
                "container",
                node.ctr(&["containers", "list", "--quiet"])
                    .await?
                    .lines()
                    .map(str::to_owned)
                    .collect(),
            ),
            (
                "task",
                node.ctr(&["tasks", "list", "--quiet"])
                    .await?
                    .lines()
                    .map(str::to_owned)
                    .collect(),
            ),
            (
                "snapshot",
                lines(&node.ctr(&["snapshots", "list"]).await?, active_snapshot).collect(),
            ),
            ("file", files(&scope.dir).collect()),
        ];
        Ok(Self {
            sets: sets.into(),
            descriptors: count("fd")?,
            tasks: count("task")?,
        })
    }

    /// What is there now and was not before, one line each. What went is no leak.
    pub fn grown_since(&self, before: &Self) -> Vec<String> {
        let mut leaks = Vec::new();
        for (kind, now) in &self.sets {
            let was = before.sets.get(kind).cloned().unwrap_or_default();
            let in_tree = ["file", "cgroup"].contains(kind);
            let new = now.difference(&was).filter(|thing| !(in_tree && fixed(thing)));
            leaks.extend(new.map(|thing| format!("{kind} {thing}")));
        }
        if self.descriptors > before.descriptors + SPARE_DESCRIPTORS {
            leaks.push(format!(
                "the agent's open descriptors grew from {} to {}",
                before.descriptors, self.descriptors
            ));
        }
        leaks
    }
}

/// Things of one name, numbered: a process that was started anew is the same, a second one is not.
fn counted(things: impl Iterator<Item = String>) -> BTreeSet<String> {
    let mut counts = BTreeMap::new();
    let number = |thing: String| {
        let count = counts.entry(thing.clone()).and_modify(|count| *count += 1).or_insert(1);
        format!("{thing} #{count}")
    };
    things.map(number).collect()
}

/// Folders and files that the first pod makes and that stay have fixed names; what is a pod's own has an id, an
/// address or a number in its path.
fn fixed(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or_default();
    let known = ["k8s.io", ".cursor-4", ".cursor-6"].contains(&name);
    known
        || name.starts_with("io.containerd.")
        || name.starts_with(PREFIX)
        || !name.contains(|c: char| c.is_ascii_digit())
}

fn lines<'a>(text: &'a str, pick: impl Fn(&'a str) -> Option<&'a str> + 'a) -> impl Iterator<Item = String> + 'a {
    text.lines().filter_map(pick).map(str::to_owned)
}

/// `/32 host LOCAL` follows the address's own line, so the pair is one address; the line with it is enough here.
fn local_address(line: &str) -> Option<&str> {
    line.trim().strip_prefix("|-- ")
}

/// The use counters in a line of `ipv6_route` change with traffic: only destination and prefix name the route.
fn destination6(line: &str) -> Option<&str> {
    line.get(..35)
}

/// Names of snapshots that containers write to; those of images stay.
fn active_snapshot(line: &str) -> Option<&str> {
    line.contains(" Active").then(|| line.split_whitespace().next())?
}

/// Every path under a node's folder, but for containerd's own bookkeeping and what the test itself keeps there.
fn files(dir: &Path) -> impl Iterator<Item = String> {
    let mut found = Vec::new();
    let mut open = vec![dir.to_path_buf()];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if bookkeeping(&name) {
                continue;
            }
            found.push(entry.path().display().to_string());
            // Not into mounts: what a container wrote is its own.
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) && name != "rootfs" {
                open.push(entry.path());
            }
        }
    }
    found.into_iter()
}

/// Content and snapshots are counted through containerd; metadata is a database that grows as it likes.
fn bookkeeping(name: &str) -> bool {
    let kept = [
        "io.containerd.content.",
        "io.containerd.snapshotter.",
        "io.containerd.metadata.",
        "tmpmounts",
        "fifo",
    ];
    kept.iter().any(|start| name.starts_with(start))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn footprint(links: &[&str], descriptors: usize) -> Footprint {
        let links = links.iter().map(|link| (*link).to_owned()).collect();
        Footprint {
            sets: [("link", links)].into(),
            descriptors,
            tasks: 5,
        }
    }

    #[test]
    fn only_what_is_new_is_a_leak() {
        let before = footprint(&["lo", "old"], 20);
        assert_eq!(footprint(&["lo"], 20).grown_since(&before), [""; 0]);
        assert_eq!(footprint(&["lo", "veth1"], 20).grown_since(&before), ["link veth1"]);
        assert_eq!(
            footprint(&["lo"], 27).grown_since(&before),
            ["the agent's open descriptors grew from 20 to 27"]
        );
    }

    #[test]
    fn what_the_first_pod_makes_for_all_is_no_leak() {
        let files = |paths: &[&str]| Footprint {
            sets: [("file", paths.iter().map(|path| (*path).to_owned()).collect())].into(),
            ..Footprint::default()
        };
        let after = files(&[
            "/n/root/pods",
            "/n/run/io.containerd.runtime.v2.task",
            "/n/root/pods/8a-1",
        ]);
        assert_eq!(after.grown_since(&files(&[])), ["file /n/root/pods/8a-1"]);
    }

    #[test]
    fn a_process_started_anew_is_the_same_and_a_second_one_is_not() {
        let processes = |names: &[&str]| counted(names.iter().map(|name| (*name).to_owned()));
        assert_eq!(processes(&["a", "b"]), processes(&["b", "a"]));
        assert_ne!(processes(&["a", "a"]), processes(&["a"]));
    }

    #[test]
    fn the_kernels_and_containerds_lines_are_read_for_what_names_the_thing() {
        assert_eq!(local_address("           |-- 127.0.0.1"), Some("127.0.0.1"));
        assert_eq!(local_address("              /32 host LOCAL"), None);
        let route =
            "fe800000000000000000000000000000 40 00000000000000000000000000000000 00 0000 00000100 000000 veth1";
        assert_eq!(destination6(route), Some("fe800000000000000000000000000000 40"));
        assert_eq!(active_snapshot("abc   sha256:1  Active    "), Some("abc"));
        assert_eq!(active_snapshot("sha256:1           Committed "), None);
    }
}
