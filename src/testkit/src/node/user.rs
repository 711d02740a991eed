//! What a user of the node does: manifests, `bosun` commands, logs.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Output,
    time::Duration,
};

use anyhow::{Context, ensure};
use tokio::{process::Command, time::timeout};

use super::Node;
use crate::{PATIENCE, Pod, PodList, PodView, eventually, programs};

impl Node {
    /// Puts a pod's manifest in place, in one step; it replaces an earlier one.
    pub fn apply(&self, pod: &Pod) -> anyhow::Result<()> {
        self.write_manifest(&format!("{}.yaml", pod.name()), &pod.text())
    }

    /// Puts a file in the manifest folder, in one step.
    pub fn write_manifest(&self, file: &str, text: &str) -> anyhow::Result<()> {
        let half = self.dir().join(format!(".{file}.new"));
        fs::write(&half, text)?;
        fs::rename(&half, self.manifest_dir().join(file)).with_context(|| format!("putting {file} in place"))
    }

    /// Takes a pod's manifest away.
    pub fn remove(&self, pod: &str) -> anyhow::Result<()> {
        let file = self.manifest_dir().join(format!("{pod}.yaml"));
        fs::remove_file(&file).with_context(|| format!("removing {}", file.display()))
    }

    /// Takes every manifest away.
    pub fn remove_all(&self) -> anyhow::Result<()> {
        for entry in fs::read_dir(self.manifest_dir())? {
            fs::remove_file(entry?.path())?;
        }
        Ok(())
    }

    /// `bosun pods -o json`.
    pub async fn pods(&self) -> anyhow::Result<PodList> {
        PodList::parse(&self.cli("pods", &["-o", "json"]).await?)
    }

    /// Runs a `bosun` command against this node's agent; what it printed to standard output, if it succeeded.
    pub async fn cli(&self, command: &str, args: &[&str]) -> anyhow::Result<String> {
        Ok(String::from_utf8_lossy(&self.ask(command, args).await?.stdout).into_owned())
    }

    /// As [`Node::cli`], with what it printed to standard error after it.
    pub async fn cli_words(&self, command: &str, args: &[&str]) -> anyhow::Result<String> {
        let output = self.ask(command, args).await?;
        Ok(String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    }

    async fn ask(&self, subcommand: &str, args: &[&str]) -> anyhow::Result<Output> {
        let mut command = Command::new(programs::built("bosun")?);
        command
            .args(subcommand.split(' '))
            .args(args)
            .arg("--run-dir")
            .arg(self.run_dir());
        programs::succeeding(command).await
    }

    /// Imports an image archive.
    pub async fn import(&self, archive: &Path) -> anyhow::Result<()> {
        let mut last = None;
        let imported = timeout(PATIENCE, async {
            while let Err(error) = self.cli("images import", &[&archive.to_string_lossy()]).await {
                last = Some(error);
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        });
        imported
            .await
            .with_context(|| format!("importing {}: {last:?}", archive.display()))
    }

    /// Waits until a pod is as `check` wants it; `check` says what it saw instead.
    pub async fn until<T>(&self, pod: &str, what: &str, check: impl Fn(PodView<'_>) -> anyhow::Result<T>) -> T {
        eventually(PATIENCE, &format!("pod {pod}: {what}"), async || {
            let list = self.pods().await?;
            let view = list.pod(pod)?;
            check(view).with_context(|| format!("{:#?}", view.whole().status))
        })
        .await
    }

    /// Waits until a pod is ready; its containers' ids, in order.
    pub async fn ready(&self, pod: &str) -> Vec<String> {
        self.until(pod, "ready", |view| {
            ensure!(view.is_ready(), "not ready");
            Ok(view.containers().map(|container| container.id().to_owned()).collect())
        })
        .await
    }

    /// Waits until the agent knows no pod of this name.
    pub async fn gone(&self, pod: &str) {
        eventually(PATIENCE, &format!("pod {pod} is gone"), async || {
            let list = self.pods().await?;
            ensure!(
                list.pods().all(|view| view.name() != pod),
                "{:#?}",
                list.pod(pod)?.whole().status
            );
            Ok(())
        })
        .await;
    }

    /// The messages a container wrote, over all its runs, as its log files hold them.
    pub fn logs(&self, pod: &str, container: &str) -> anyhow::Result<Vec<String>> {
        let mut files = self.log_files(pod, container)?;
        files.sort();
        let mut messages = Vec::new();
        for file in files {
            for line in fs::read_to_string(&file)?.lines() {
                // Time, stream, tag, message.
                let message = line.splitn(4, ' ').nth(3);
                messages.push(
                    message
                        .with_context(|| format!("{}: not CRI's format: {line:?}", file.display()))?
                        .into(),
                );
            }
        }
        Ok(messages)
    }

    /// A container's log files under `pods/<namespace>_<name>_<uid>/<container>/`.
    pub fn log_files(&self, pod: &str, container: &str) -> anyhow::Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        for dir in fs::read_dir(self.log_dir().join("pods"))?.flatten() {
            let name = dir.file_name().to_string_lossy().into_owned();
            let parts: Vec<&str> = name.split('_').collect();
            if let [_, name, _] = parts.as_slice()
                && (*name == pod || *name == format!("{pod}-{}", self.options.name))
            {
                found.extend(
                    fs::read_dir(dir.path().join(container))
                        .into_iter()
                        .flatten()
                        .flatten()
                        .map(|e| e.path()),
                );
            }
        }
        Ok(found)
    }
}
