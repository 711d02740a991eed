//! The CRI calls of a pod start, made bare: what no agent can do without.

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::{Context, anyhow};
use bosun_api::{ContainerId, PodUid, SandboxId, core::Pod, manifest};
use bosun_cri::{CriClient, Runtime, v1};
use bosun_node::{
    cgroup::{self, Cgroups},
    places::Places,
    pod::{
        container::{ContainerContext, container_config},
        env::EnvContext,
        sandbox::{SandboxContext, pod_uid, sandbox_config},
        volumes::VolumeSources,
        worker::pod_key,
    },
};
use bosun_testkit::{Node, manifest::Pod as Manifest};
use jiff::Timestamp;

/// The node that the bare pods are labelled with: none that has an agent, so that no agent ends them.
const NODE_NAME: &str = "bare";

/// Makes the calls, on the containerd of a node with an agent.
#[derive(Clone)]
pub(crate) struct Bare {
    runtime: CriClient,
    cgroup_root: String,
    places: Places,
}

/// All that is ready before the first call.
#[derive(Debug)]
pub(crate) struct Prepared {
    uid: PodUid,
    sandbox: v1::PodSandboxConfig,
    container: v1::ContainerConfig,
}

/// A pod that runs.
#[derive(Debug)]
pub(crate) struct Started {
    /// Before the first call.
    pub(crate) begun: Timestamp,
    /// When the sandbox ran, with its addresses known.
    pub(crate) sandbox_at: Timestamp,
    /// When its container's process started, as the runtime has it.
    pub(crate) process_at: Timestamp,
    /// After the last call, which tells that it runs.
    pub(crate) known_at: Timestamp,
    uid: PodUid,
    sandbox: SandboxId,
}

impl Bare {
    /// On this node's containerd.
    pub(crate) fn on(node: &Node) -> anyhow::Result<Self> {
        let socket = node.containerd_socket()?;
        Ok(Self {
            runtime: CriClient::connect(&format!("unix://{}", socket.display()))?,
            // Beside those of the agent, which removes what it does not know.
            cgroup_root: format!("{}/bare", node.cgroup_root()),
            places: Places {
                data: node.data_dir(),
                root: node.root_dir(),
                logs: node.log_dir(),
                run: node.run_dir(),
            },
        })
    }

    /// The runtime, to ask it of others' containers.
    pub(crate) fn runtime(&self) -> &CriClient {
        &self.runtime
    }

    /// The configurations that an agent would give, and the files and cgroups they name.
    pub(crate) fn prepare(&self, manifest: &Manifest) -> anyhow::Result<Prepared> {
        let file = format!("{}.yaml", manifest.name());
        let pod = manifest::decode(manifest.text().as_bytes(), &file, NODE_NAME)?;
        let uid = pod_uid(&pod);
        let logs = self.places.pod_logs(&pod_key(&pod), &uid);
        let cgroups = Cgroups::below(&self.cgroup_root);
        cgroups.set_up(&pod, &uid)?;
        let sandbox = sandbox_config(
            &pod,
            0,
            &SandboxContext {
                node_name: NODE_NAME,
                cgroup_parent: &cgroups.path(&pod, &uid),
                log_directory: &logs,
                resources: cgroup::sandbox_resources(&pod),
                overhead: cgroup::overhead(&pod),
                dns: v1::DnsConfig::default(),
            },
        );
        let container = self.container(&pod, &uid, &logs)?;
        Ok(Prepared {
            uid,
            sandbox,
            container,
        })
    }

    fn container(&self, pod: &Pod, uid: &PodUid, logs: &Path) -> anyhow::Result<v1::ContainerConfig> {
        let spec = pod.spec.as_ref().context("the pod has no spec")?;
        let container = spec.containers.first().context("the pod has no container")?;
        let last_words = self.places.termination_message(uid, &container.name, 0);
        let hosts = self.places.hosts_file(uid);
        let context = ContainerContext {
            env: EnvContext {
                node_name: NODE_NAME,
                ..EnvContext::default()
            },
            volumes: &VolumeSources::new(),
            sub_paths: &BTreeMap::new(),
            hosts_file: Some(&hosts),
            termination_message: &last_words,
            resources: cgroup::container_resources(pod, container, 1 << 32),
        };
        let config = container_config(pod, container, 0, &context).map_err(|problem| anyhow!(problem))?;
        for file in [&last_words, &hosts, &logs.join(&config.log_path)] {
            fs::create_dir_all(file.parent().unwrap_or(file))?;
        }
        fs::write(&last_words, "")?;
        fs::write(&hosts, "127.0.0.1\tlocalhost\n")?;
        Ok(config)
    }

    /// The calls.
    pub(crate) async fn start(&self, prepared: Prepared) -> anyhow::Result<Started> {
        let Prepared {
            uid,
            sandbox: sandbox_config,
            container,
        } = prepared;
        let begun = Timestamp::now();
        let sandbox = self.runtime.run_sandbox(&sandbox_config, "").await?;
        self.runtime.sandbox_status(&sandbox).await?;
        let sandbox_at = Timestamp::now();
        let id: ContainerId = self
            .runtime
            .create_container(&sandbox, &container, &sandbox_config)
            .await?;
        self.runtime.start_container(&id).await?;
        let status = self.runtime.container_status(&id).await?;
        let known_at = Timestamp::now();
        Ok(Started {
            begun,
            sandbox_at,
            process_at: Timestamp::from_nanosecond(status.started_at.into())?,
            known_at,
            uid,
            sandbox,
        })
    }

    /// Takes the pod away again, with all that was prepared for it.
    pub(crate) async fn remove(&self, started: &Started) -> anyhow::Result<()> {
        self.runtime.stop_sandbox(&started.sandbox).await?;
        self.runtime.remove_sandbox(&started.sandbox).await?;
        fs::remove_dir_all(self.places.pod(&started.uid))?;
        Cgroups::below(&self.cgroup_root).tear_down(&started.uid)?;
        Ok(())
    }
}
