//! Bringing images into the nodes, without a registry.

use std::{
    fs::File,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail, ensure};
use bosun_cri::{CriClient, Runtime};
use futures_util::future::try_join_all;

use crate::{Layout, Progress, layout::node_name, record::Record, requirements};

/// Imports archives into every node's containerd; gives the names of the images that are there now.
pub async fn load(layout: &Layout, archives: &[PathBuf], progress: &Progress) -> anyhow::Result<Vec<String>> {
    requirements::root("load")?;
    let dir = layout.dir().display();
    let record = Record::read(layout)?
        .with_context(|| format!("no cluster is up in {dir}: start one with 'bosun dev up --dir {dir}'"))?;
    ensure!(
        record.nodes > 0,
        "the cluster in {dir} has no nodes: add some with 'bosun dev up --dir {dir} --nodes 1'"
    );
    // All are looked at before the first is imported.
    let mut absolute = Vec::new();
    for archive in archives {
        File::open(archive).with_context(|| format!("opening {}", archive.display()))?;
        absolute.push(std::path::absolute(archive)?);
    }
    let mut all = Vec::new();
    for archive in absolute {
        let title = format!("loading {}", archive.display());
        let names = progress.step(&title, async |_| {
            let each = (1..=record.nodes).map(|number| import(layout, node_name(number), &archive));
            Ok(try_join_all(each).await?.pop().unwrap_or_default())
        });
        let names = names.await?;
        if names.is_empty() {
            bail!(
                "{} holds no image with a name: save it with its tag, such as 'docker save web:1'",
                archive.display()
            );
        }
        all.extend(names);
    }
    Ok(all)
}

async fn import(layout: &Layout, node: String, archive: &Path) -> anyhow::Result<Vec<String>> {
    let socket = layout.node(&node).containerd_socket();
    let what = || format!("importing {} into {node}", archive.display());
    let runtime = CriClient::connect(&format!("unix://{}", socket.display())).with_context(what)?;
    runtime.import_images(archive).await.with_context(what)
}
