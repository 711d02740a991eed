//! The programs of a cluster: the server, the agent of each node. One that runs as it should is left alone.

use std::{ffi::OsString, fs, net::SocketAddr, os::unix::fs::MetadataExt, path::Path, time::Duration};

use anyhow::{Context, bail, ensure};
use bosun_cri::{CriClient, Runtime};
use bosun_net::netns::Netns;
use tokio::{
    net::UnixStream,
    task::spawn_blocking,
    time::{Instant, sleep},
};

use super::{PORT, Up, make_dir};
use crate::{
    api,
    fabric::{self, SERVER},
    layout::{NodePlaces, node_name},
    process::{self, Role, Running, Start, last_words},
    progress::Waiting,
    ranges::Ranges,
    record::{Record, write_whole},
};

/// How long a server or the nodes may take until they are ready, on a busy machine.
const PATIENCE: Duration = Duration::from_mins(3);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(30);
/// How long a program may take to end in order.
const GRACE: Duration = Duration::from_secs(20);

impl Up<'_> {
    /// The server, ready.
    pub(super) async fn server(&self, ranges: &Ranges) -> anyhow::Result<()> {
        let server = async |waiting: &Waiting| {
            let layout = self.layout;
            let data = layout.server_data();
            make_dir(&layout.server())?;
            let role = Role::Bosun {
                command: "server",
                data: &data,
            };
            let kubeconfig = layout.kubeconfig();
            // It writes the file when it starts.
            let whole = kubeconfig.exists();
            let arguments = server_arguments(ranges, &data, &kubeconfig);
            let log = layout.server_log();
            let pid_file = layout.server().join("server.pid");
            let running = self.program(SERVER, role, whole, arguments, &log, &pid_file).await?;
            let answers = async || api::ready(&api::client(&kubeconfig).await?).await;
            until(waiting, &running, &log, answers).await
        };
        self.progress.step("server", server).await
    }

    /// The nodes, ready, and their pods within each other's reach.
    pub(super) async fn nodes(&self, record: &Record, ranges: &Ranges) -> anyhow::Result<()> {
        if record.nodes == 0 {
            return Ok(());
        }
        let title = match record.nodes {
            1 => "node".to_owned(),
            nodes => format!("{nodes} nodes"),
        };
        let nodes = async |waiting: &Waiting| {
            let mut agents = Vec::new();
            for number in 1..=record.nodes {
                let places = self.layout.node(&node_name(number));
                let agent = self.agent(&places, record, ranges, number).await?;
                agents.push((places, agent));
            }
            let client = api::client(&self.layout.kubeconfig()).await?;
            for (places, agent) in &agents {
                let ready = async || {
                    answers(places).await?;
                    let nodes = api::nodes(&client).await?;
                    let node = nodes.iter().find(|node| node.name == places.name);
                    let node = node.with_context(|| format!("{} has not registered with the server", places.name))?;
                    match &node.not_ready {
                        Some(why) => bail!("{}: {why}", places.name),
                        None => Ok(()),
                    }
                };
                until(waiting, agent, &places.agent_log(), ready).await?;
            }
            self.route_pods(&client, record, ranges).await
        };
        self.progress.step(&title, nodes).await
    }

    /// Has the switch know which pods' range is on which node.
    async fn route_pods(&self, client: &kube::Client, record: &Record, ranges: &Ranges) -> anyhow::Result<()> {
        let known = api::nodes(client).await?;
        let routes: Vec<_> = (1..=record.nodes)
            .flat_map(|number| {
                let name = node_name(number);
                let of_node = known.iter().filter(move |node| node.name == name);
                of_node
                    .flat_map(|node| node.pod_cidrs.iter().copied())
                    .map(move |range| (range, ranges.node(number)))
            })
            .collect();
        let (layout, ranges) = (self.layout.clone(), *ranges);
        spawn_blocking(move || fabric::route_pods(&layout, &ranges, &routes)).await?
    }

    /// A node's agent, running.
    async fn agent(
        &self,
        places: &NodePlaces,
        record: &Record,
        ranges: &Ranges,
        number: u8,
    ) -> anyhow::Result<Running> {
        make_dir(&places.dir)?;
        for dir in [places.data(), places.manifests(), places.run.clone()] {
            fs::create_dir_all(&dir).with_context(|| format!("making {}", dir.display()))?;
        }
        let data = places.data();
        let role = Role::Bosun {
            command: "agent",
            data: &data,
        };
        let known = places.kubeconfig().exists();
        if !known {
            write_whole(&places.kubeconfig(), &self.credentials(&places.name, ranges).await?)?;
        }
        let arguments = agent_arguments(places, record, ranges, number);
        let pid_file = places.dir.join("agent.pid");
        self.program(&places.name, role, known, arguments, &places.agent_log(), &pid_file)
            .await
    }

    /// A kubeconfig by which an agent is this node, with a certificate of the server's authority.
    async fn credentials(&self, node: &str, ranges: &Ranges) -> anyhow::Result<String> {
        let mut arguments = Arguments::new("kubeconfig");
        arguments.option("--user", format!("system:node:{node}"));
        arguments.option("--group", "system:nodes");
        arguments.flag("--allow-system-user");
        arguments.option("--server", url(ranges));
        arguments.option("--data-dir", self.layout.server_data());
        let output = process::output(self.program, &arguments.0).await;
        output.with_context(|| format!("making the certificate of {node}"))
    }

    /// The program with this role on a machine: the one that runs, if it is of our own file and where it belongs (and
    /// `whole`), else a new one.
    async fn program(
        &self,
        machine: &str,
        role: Role<'_>,
        whole: bool,
        arguments: Vec<OsString>,
        log: &Path,
        pid_file: &Path,
    ) -> anyhow::Result<Running> {
        let Role::Bosun { command, .. } = role else {
            bail!("containerd is started by the agent");
        };
        let netns = Netns::open(self.layout.netns(machine))?;
        let cgroup = self.hierarchies.make(&self.layout.cgroup_of(machine, command))?;
        if let Some(running) = process::find(&cgroup, role) {
            let at_home = is_in(&running, &netns);
            if whole && at_home && running.is_of(self.program) {
                return Ok(running);
            }
            running.end(GRACE).await;
            if !at_home {
                // The namespace was taken away from under it, and all its pods lost their links: it begins anew.
                self.hierarchies
                    .kill(&format!("{}/{machine}", self.layout.cgroup()))
                    .await?;
            }
        }
        let start = Start {
            program: self.program,
            arguments,
            netns: &netns,
            cgroup: &cgroup,
            log,
            pid_file,
        };
        start.start()
    }
}

fn server_arguments(ranges: &Ranges, data: &Path, kubeconfig: &Path) -> Vec<OsString> {
    let address = ranges.server().to_string();
    let mut arguments = Arguments::new("server");
    arguments.flag("--no-agent");
    arguments.option("--bind", &address);
    arguments.option("--advertise-address", &address);
    arguments.option("--port", PORT.to_string());
    arguments.option("--service-cidr", ranges.services().to_string());
    arguments.option("--cluster-cidr", ranges.pods().to_string());
    arguments.option("--data-dir", data);
    arguments.option("--write-kubeconfig", kubeconfig);
    arguments.0
}

fn agent_arguments(places: &NodePlaces, record: &Record, ranges: &Ranges, number: u8) -> Vec<OsString> {
    let mut arguments = Arguments::new("agent");
    arguments.option("--kubeconfig", places.kubeconfig());
    arguments.option("--node-name", &places.name);
    arguments.option("--node-ip", ranges.node(number).to_string());
    arguments.option("--manifest-dir", places.manifests());
    arguments.option("--data-dir", places.data());
    arguments.option("--root-dir", places.root());
    arguments.option("--log-dir", places.logs());
    arguments.option("--run-dir", &places.run);
    arguments.option("--cni-conf-dir", places.cni_conf());
    arguments.option("--cni-bin-dir", places.cni_bin());
    arguments.option("--cgroup-root", &places.cgroup);
    arguments.option("--runtime-endpoint", "managed");
    arguments.option("--containerd", &record.containerd);
    arguments.0
}

/// Where the server is reached.
pub(crate) fn url(ranges: &Ranges) -> String {
    format!("https://{}", SocketAddr::new(ranges.server(), PORT))
}

/// The words of a command line.
struct Arguments(Vec<OsString>);

impl Arguments {
    fn new(command: &str) -> Self {
        Self(vec![command.into()])
    }

    fn flag(&mut self, name: &str) {
        self.0.push(name.into());
    }

    fn option(&mut self, name: &str, value: impl Into<OsString>) {
        self.0.extend([name.into(), value.into()]);
    }
}

/// Whether an agent and its containerd answer.
async fn answers(places: &NodePlaces) -> anyhow::Result<()> {
    UnixStream::connect(places.agent_socket())
        .await
        .with_context(|| format!("{}: the agent does not answer", places.name))?;
    let runtime = CriClient::connect(&format!("unix://{}", places.containerd_socket().display()))?;
    let version = runtime.version().await;
    version.with_context(|| format!("{}: containerd does not answer", places.name))?;
    Ok(())
}

/// Looks again and again until `check` succeeds, as long as the program lives.
async fn until(
    waiting: &Waiting,
    running: &Running,
    log: &Path,
    mut check: impl AsyncFnMut() -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let latest = Instant::now() + PATIENCE;
    loop {
        let Err(seen) = check().await else { return Ok(()) };
        waiting.on(format!("{seen:#}"));
        ensure!(running.lives(), "it ended: {}", last_words(log, 10));
        if Instant::now() >= latest {
            return Err(seen).with_context(|| format!("not ready within {PATIENCE:?}; its log is {}", log.display()));
        }
        sleep(PAUSE).await;
    }
}

fn is_in(running: &Running, netns: &Netns) -> bool {
    fs::metadata(format!("/proc/{}/ns/net", running.pid)).is_ok_and(|own| own.ino() == netns.inode())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Layout;

    fn line(arguments: &[OsString]) -> String {
        arguments.join(&OsString::from(" ")).into_string().unwrap()
    }

    #[test]
    fn the_programs_are_told_the_clusters_addresses_and_places() {
        let ranges = Ranges::of("10.200.0.0/16".parse().unwrap()).unwrap();
        let layout = Layout::at(Path::new("/run/c")).unwrap();
        let server = line(&server_arguments(&ranges, &layout.server_data(), &layout.kubeconfig()));
        for words in [
            "server --no-agent --bind 10.200.255.2 --advertise-address 10.200.255.2 --port 6443",
            "--service-cidr 10.200.128.0/18 --cluster-cidr 10.200.0.0/17",
            "--data-dir /run/c/server/data --write-kubeconfig /run/c/kubeconfig",
        ] {
            assert!(server.contains(words), "{server}");
        }
        let record = Record::new(&ranges, 2, "/usr/bin/containerd".into());
        let agent = line(&agent_arguments(&layout.node("node-2"), &record, &ranges, 2));
        for words in [
            "agent --kubeconfig /run/c/node-2/kubeconfig --node-name node-2 --node-ip 10.200.255.12",
            "--data-dir /run/c/node-2/data --root-dir /run/c/node-2/root",
            "--containerd /usr/bin/containerd",
        ] {
            assert!(agent.contains(words), "{agent}");
        }
        assert_eq!(url(&ranges), "https://10.200.255.2:6443");
    }
}
