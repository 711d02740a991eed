//! What there is of a cluster, as the kernel and its API server tell it. The JSON form is a contract: fields are added,
//! none is renamed or removed.

use std::{fmt::Write, net::IpAddr, path::PathBuf};

use anyhow::Context;
use bosun_net::Cidr;
use serde::Serialize;

use crate::{
    Layout, api,
    cgroup::Hierarchies,
    fabric::SERVER,
    layout::node_name,
    process::{self, Role},
    ranges::Ranges,
    record::Record,
    requirements,
    up::url,
};

/// A cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// What its kernel objects are called by.
    pub id: String,
    /// Its directory.
    pub dir: PathBuf,
    /// All its addresses are in it.
    pub cidr: Cidr,
    /// Services' addresses are in it.
    pub service_cidr: Cidr,
    /// The link by which this machine reaches it.
    pub link: String,
    /// The cgroup above all others of it.
    pub cgroup: String,
    /// Its server.
    pub server: Server,
    /// Its nodes, in their order.
    pub nodes: Vec<Node>,
}

/// The server of a cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Server {
    /// Where it is reached.
    pub url: String,
    /// The administrator's kubeconfig.
    pub kubeconfig: PathBuf,
    /// Its address.
    pub address: IpAddr,
    /// Where its network namespace is mounted.
    pub netns: PathBuf,
    /// Its process, if it runs.
    pub pid: Option<u32>,
    /// Whether it says that it is ready.
    pub ready: bool,
    /// Its `--data-dir`.
    pub data_dir: PathBuf,
    /// What it says.
    pub log: PathBuf,
}

/// A node of a cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Node {
    /// Its name.
    pub name: String,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// Where its network namespace is mounted.
    pub netns: PathBuf,
    /// Its processes.
    pub pids: Pids,
    /// Whether the server has it as ready; `None`: the server has no such node, or does not answer.
    pub ready: Option<bool>,
    /// Why it is not ready.
    pub reason: Option<String>,
    /// Where its containerd listens.
    pub containerd_socket: PathBuf,
    /// The cgroup that its pods' are below.
    pub cgroup_parent: String,
    /// Its pods' ranges; none if the server does not answer.
    pub pod_cidrs: Vec<Cidr>,
    /// Where its things are.
    pub directories: Directories,
    /// What its programs say.
    pub logs: Logs,
}

/// The processes of a node that run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Pids {
    /// The agent's.
    pub agent: Option<u32>,
    /// Its containerd's.
    pub containerd: Option<u32>,
}

/// The directories of a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Directories {
    /// `--data-dir`
    pub data: PathBuf,
    /// `--root-dir`
    pub root: PathBuf,
    /// `--run-dir`
    pub run: PathBuf,
    /// `--log-dir`
    pub logs: PathBuf,
    /// Manifests of static pods.
    pub manifests: PathBuf,
    /// `--cni-conf-dir`
    pub cni_conf: PathBuf,
    /// `--cni-bin-dir`
    pub cni_bin: PathBuf,
}

/// The logs of a node's programs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Logs {
    /// The agent's.
    pub agent: PathBuf,
    /// containerd's.
    pub containerd: PathBuf,
}

/// Looks at a cluster; `None` if there is none.
pub async fn status(layout: &Layout) -> anyhow::Result<Option<Status>> {
    requirements::root("status")?;
    let Some(record) = Record::read(layout)? else {
        return Ok(None);
    };
    let hierarchies = Hierarchies::find()?;
    let ranges = record.ranges()?;
    let server = server(layout, &ranges, &hierarchies).await;
    let known = if server.ready {
        known(layout).await.unwrap_or_default()
    } else {
        Vec::new()
    };
    let nodes = (1..=record.nodes)
        .map(|number| {
            let name = node_name(number);
            let view = known.iter().find(|node| node.name == name);
            node(layout, &ranges, &hierarchies, number, view)
        })
        .collect();
    Ok(Some(Status {
        id: layout.id().to_owned(),
        dir: layout.dir().to_owned(),
        cidr: record.cidr,
        service_cidr: ranges.services(),
        link: layout.host_link(),
        cgroup: layout.cgroup(),
        server,
        nodes,
    }))
}

async fn known(layout: &Layout) -> anyhow::Result<Vec<api::NodeView>> {
    api::nodes(&api::client(&layout.kubeconfig()).await?).await
}

async fn server(layout: &Layout, ranges: &Ranges, hierarchies: &Hierarchies) -> Server {
    let data_dir = layout.server_data();
    let role = Role::Bosun {
        command: "server",
        data: &data_dir,
    };
    let cgroup = hierarchies.programs(&layout.cgroup_of(SERVER, "server"));
    let pid = process::find(&cgroup, role).map(|running| running.pid);
    let kubeconfig = layout.kubeconfig();
    let answers = async || api::ready(&api::client(&kubeconfig).await?).await;
    let ready = pid.is_some() && answers().await.is_ok();
    Server {
        url: url(ranges),
        address: ranges.server(),
        netns: layout.netns(SERVER),
        pid,
        ready,
        log: layout.server_log(),
        kubeconfig,
        data_dir,
    }
}

fn node(layout: &Layout, ranges: &Ranges, hierarchies: &Hierarchies, number: u8, view: Option<&api::NodeView>) -> Node {
    let places = layout.node(&node_name(number));
    let cgroup = hierarchies.programs(&layout.cgroup_of(&places.name, "agent"));
    let pid = |role| process::find(&cgroup, role).map(|running| running.pid);
    let pids = Pids {
        agent: pid(Role::Bosun {
            command: "agent",
            data: &places.data(),
        }),
        containerd: pid(Role::Containerd {
            config: &places.containerd_state().join("config.toml"),
        }),
    };
    Node {
        addresses: vec![ranges.node(number)],
        netns: layout.netns(&places.name),
        pids,
        ready: view.map(|view| view.not_ready.is_none()),
        reason: view.and_then(|view| view.not_ready.clone()),
        containerd_socket: places.containerd_socket(),
        cgroup_parent: places.cgroup.clone(),
        pod_cidrs: view.map(|view| view.pod_cidrs.clone()).unwrap_or_default(),
        directories: Directories {
            data: places.data(),
            root: places.root(),
            run: places.run.clone(),
            logs: places.logs(),
            manifests: places.manifests(),
            cni_conf: places.cni_conf(),
            cni_bin: places.cni_bin(),
        },
        logs: Logs {
            agent: places.agent_log(),
            containerd: places.containerd_log(),
        },
        name: places.name,
    }
}

impl Status {
    /// For programs.
    pub fn to_json(&self) -> anyhow::Result<String> {
        serde_json::to_string_pretty(self).context("writing the status")
    }

    /// For people.
    pub fn to_table(&self) -> String {
        let pid = |pid: Option<u32>| pid.map_or_else(|| "-".to_owned(), |pid| pid.to_string());
        let mut rows = vec![["NAME", "STATE", "ADDRESS", "PODS", "PID", "CONTAINERD"].map(str::to_owned)];
        let state = match (self.server.pid, self.server.ready) {
            (None, _) => "down",
            (_, true) => "ready",
            (_, false) => "not ready",
        };
        rows.push([
            SERVER.to_owned(),
            state.to_owned(),
            self.server.address.to_string(),
            "-".to_owned(),
            pid(self.server.pid),
            "-".to_owned(),
        ]);
        for node in &self.nodes {
            let state = match (node.pids.agent, node.ready) {
                (None, _) => "down",
                (_, Some(true)) => "ready",
                (_, Some(false)) => "not ready",
                (_, None) => "running",
            };
            rows.push([
                node.name.clone(),
                state.to_owned(),
                join(&node.addresses),
                join(&node.pod_cidrs),
                pid(node.pids.agent),
                pid(node.pids.containerd),
            ]);
        }
        let mut text = format!(
            "cluster {} in {}, kubeconfig {}\n",
            self.id,
            self.dir.display(),
            self.server.kubeconfig.display()
        );
        text.push_str(&columns(&rows));
        for node in &self.nodes {
            if let Some(reason) = &node.reason {
                writeln!(text, "{}: {reason}", node.name).expect("writing to a string succeeds");
            }
        }
        text
    }
}

fn join<T: ToString>(all: &[T]) -> String {
    all.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

fn columns<const N: usize>(rows: &[[String; N]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or_default();
    let widths: Vec<_> = (0..N).map(width).collect();
    let line = |row: &[String; N]| {
        let cells: Vec<_> = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        format!("{}\n", cells.join("  ").trim_end())
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Status {
        let layout = Layout::at(std::path::Path::new("/run/bosun-dev/default")).unwrap();
        let ranges = Ranges::of("10.200.0.0/16".parse().unwrap()).unwrap();
        let hierarchies = Hierarchies::find().unwrap();
        let view = api::NodeView {
            name: "node-1".to_owned(),
            not_ready: Some("no network".to_owned()),
            pod_cidrs: vec!["10.200.7.0/24".parse().unwrap()],
        };
        Status {
            id: layout.id().to_owned(),
            dir: layout.dir().to_owned(),
            cidr: ranges.whole(),
            service_cidr: ranges.services(),
            link: layout.host_link(),
            cgroup: layout.cgroup(),
            server: Server {
                url: "https://10.200.255.2:6443".to_owned(),
                kubeconfig: layout.kubeconfig(),
                address: ranges.server(),
                netns: layout.netns(SERVER),
                pid: Some(7),
                ready: true,
                data_dir: layout.server_data(),
                log: layout.server_log(),
            },
            nodes: vec![
                node(&layout, &ranges, &hierarchies, 1, Some(&view)),
                node(&layout, &ranges, &hierarchies, 2, None),
            ],
        }
    }

    #[test]
    fn the_json_form_has_the_promised_fields() {
        let json: serde_json::Value = serde_json::from_str(&example().to_json().unwrap()).unwrap();
        for (pointer, value) in [
            ("/server/url", "https://10.200.255.2:6443"),
            ("/server/kubeconfig", "/run/bosun-dev/default/kubeconfig"),
            ("/nodes/0/name", "node-1"),
            ("/nodes/0/addresses/0", "10.200.255.11"),
            ("/nodes/0/netns", "/run/bosun-dev/default/netns/node-1"),
            (
                "/nodes/0/containerdSocket",
                "/run/bosun-dev/default/node-1/run/containerd/containerd.sock",
            ),
            ("/nodes/0/cgroupParent", "/bosun-dev-9jcrby/node-1"),
            ("/nodes/0/podCidrs/0", "10.200.7.0/24"),
            ("/nodes/0/directories/root", "/run/bosun-dev/default/node-1/root"),
        ] {
            assert_eq!(
                json.pointer(pointer).and_then(|found| found.as_str()),
                Some(value),
                "{pointer}"
            );
        }
        assert_eq!(json["nodes"][0]["ready"], false);
        for null in ["/nodes/1/ready", "/nodes/1/pids/agent", "/nodes/1/pids/containerd"] {
            assert!(json.pointer(null).unwrap().is_null(), "{null}");
        }
    }

    #[test]
    fn the_table_says_what_is_down_and_why() {
        let table = example().to_table();
        let row = |name: &str| table.lines().find(|line| line.starts_with(name)).unwrap().to_owned();
        assert!(row("server").contains("ready"), "{table}");
        assert!(row("node-2").contains("down"), "{table}");
        assert!(table.ends_with("node-1: no network\n"), "{table}");
    }
}
