//! emptyDir and hostPath.

use std::fs;

use anyhow::ensure;
use bosun_testkit::{
    Node,
    manifest::{idle, pod, shell},
};
use serde_json::json;

#[tokio::test]
async fn an_empty_dir_is_shared_outlives_its_containers_and_goes_with_its_pod() -> anyhow::Result<()> {
    let node = Node::start().await?;
    let writer = shell(
        "writer",
        "echo run >>/v/runs; [ -e /v/stay ] || { touch /v/stay; exit 1; }; exec sleep 3600",
    );
    let manifest = pod("a").volume("v", json!({ "emptyDir": {} }));
    node.apply(
        &manifest
            .with(writer.mount("v", "/v"))
            .with(idle("reader").mount("v", "/r")),
    )?;
    let reader = node
        .until("a", "the writer runs again", |view| {
            ensure!(view.is_ready() && view.container("writer")?.restarts() == 1, "not yet");
            Ok(view.container("reader")?.id().to_owned())
        })
        .await;
    let runs = node.exec(&reader, &["cat", "/r/runs"]).await?;
    ensure!(runs == "run\nrun\n", "{runs:?}");

    let uid = node.pods().await?.pod("a")?.uid().to_owned();
    let dir = node.root_dir().join("pods").join(&uid);
    ensure!(
        dir.join("volumes/kubernetes.io~empty-dir/v/runs").exists(),
        "not in the place others look for it"
    );
    node.remove("a")?;
    node.gone("a").await;
    ensure!(!dir.exists(), "{} is left", dir.display());
    node.finish().await
}

#[tokio::test]
async fn an_empty_dir_in_memory_is_a_tmpfs_of_its_size() -> anyhow::Result<()> {
    let node = Node::start().await?;
    let volume = json!({ "emptyDir": { "medium": "Memory", "sizeLimit": "1Mi" } });
    node.apply(&pod("a").volume("v", volume).with(idle("main").mount("v", "/v")))?;
    let id = node.ready("a").await.remove(0);
    let mounts = node.exec(&id, &["grep", " /v ", "/proc/mounts"]).await?;
    ensure!(mounts.contains("tmpfs") && mounts.contains("size=1024k"), "{mounts}");
    // And a new agent leaves it where it is.
    node.exec(&id, &["touch", "/v/kept"]).await?;
    let mut node = node;
    node.restart_agent().await?;
    ensure!(node.ready("a").await == [id.clone()], "the container was replaced");
    node.exec(&id, &["test", "-e", "/v/kept"]).await?;
    node.finish().await
}

#[tokio::test]
async fn host_paths_are_mounted_made_or_refused_by_their_type() -> anyhow::Result<()> {
    let node = Node::start().await?;
    let host = node.dir().join("host");
    fs::create_dir(&host)?;
    fs::write(host.join("file"), "from the host\n")?;
    let path = |name: &str, kind: &str| json!({ "hostPath": { "path": host.join(name), "type": kind } });
    let main = idle("main")
        .mount("dir", "/dir")
        .mount("file", "/file")
        .mount("made", "/made");
    let manifest = pod("a")
        .volume("dir", path("", "Directory"))
        .volume("file", path("file", "File"));
    node.apply(&manifest.volume("made", path("made", "DirectoryOrCreate")).with(main))?;
    let id = node.ready("a").await.remove(0);
    ensure!(node.exec(&id, &["cat", "/file", "/dir/file"]).await? == "from the host\nfrom the host\n");
    node.exec(&id, &["touch", "/made/by-the-pod"]).await?;
    ensure!(host.join("made/by-the-pod").exists(), "written elsewhere");

    node.apply(
        &pod("b")
            .volume("v", path("absent", "Directory"))
            .with(idle("main").mount("v", "/v")),
    )?;
    let said = node.until("b", "says what is missing", |view| {
        let said = format!("{} {}", view.reason(), view.container("main")?.waiting());
        ensure!(said.contains("host/absent"), "{said}");
        Ok(said)
    });
    said.await;
    // Mended without anyone's help.
    fs::create_dir(host.join("absent"))?;
    node.ready("b").await;

    node.remove_all()?;
    node.gone("a").await;
    node.gone("b").await;
    ensure!(
        host.join("made/by-the-pod").exists(),
        "the host's files were removed with the pod"
    );
    fs::remove_dir_all(host)?;
    node.finish().await
}

#[tokio::test]
async fn a_mount_may_be_read_only() -> anyhow::Result<()> {
    let node = Node::start().await?;
    let main = idle("main").set(
        "/volumeMounts",
        json!([{ "name": "v", "mountPath": "/rw" }, { "name": "v", "mountPath": "/ro", "readOnly": true }]),
    );
    node.apply(&pod("a").volume("v", json!({ "emptyDir": {} })).with(main))?;
    let id = node.ready("a").await.remove(0);
    node.exec(&id, &["touch", "/rw/file"]).await?;
    node.exec(&id, &["test", "-e", "/ro/file"]).await?;
    let error = node
        .exec(&id, &["touch", "/ro/other"])
        .await
        .expect_err("it is read-only");
    ensure!(error.to_string().contains("Read-only"), "{error}");
    node.finish().await
}
