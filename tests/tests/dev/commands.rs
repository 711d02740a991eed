//! What one can ask of a cluster, and what is said when it can't be done.

use std::os::unix::fs::MetadataExt;

use anyhow::ensure;
use bosun_testkit::{Cluster, ClusterOptions, PATIENCE, programs};
use serde_json::Value;
use tokio::process::Command;

async fn prepared(nodes: u8) -> anyhow::Result<Cluster> {
    let options = ClusterOptions {
        nodes,
        load_demo: false,
        ..ClusterOptions::default()
    };
    Cluster::prepare(options).await
}

/// What a command that must fail says.
async fn refused(cluster: &Cluster, args: &[&str]) -> anyhow::Result<String> {
    let output = cluster.try_dev(args.iter().copied()).await?;
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(!output.status.success(), "{args:?} did not fail: {words}");
    Ok(words)
}

#[tokio::test]
async fn status_tells_programs_all_they_need_and_only_root_reads_the_keys() -> anyhow::Result<()> {
    let cluster = prepared(1).await?;
    cluster.up().await?;
    let view: Value = serde_json::from_str(&cluster.dev(["status", "-o", "json"]).await?)?;
    let text = |pointer: &str| {
        view.pointer(pointer)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    ensure!(text("/nodes/0/name") == "node-1", "{view:#}");
    ensure!(
        text("/server/kubeconfig") == cluster.kubeconfig().to_string_lossy(),
        "{view:#}"
    );
    for path in [
        "/server/netns",
        "/server/log",
        "/server/kubeconfig",
        "/nodes/0/netns",
        "/nodes/0/containerdSocket",
        "/nodes/0/directories/data",
        "/nodes/0/directories/run",
        "/nodes/0/directories/manifests",
        "/nodes/0/logs/agent",
        "/nodes/0/logs/containerd",
    ] {
        ensure!(std::path::Path::new(&text(path)).exists(), "{path}: {:?}", text(path));
    }
    for pid in ["/server/pid", "/nodes/0/pids/agent", "/nodes/0/pids/containerd"] {
        ensure!(view.pointer(pid).is_some_and(Value::is_u64), "{pid}: {view:#}");
    }
    for private in [cluster.dir().to_owned(), cluster.kubeconfig()] {
        let mode = std::fs::metadata(&private)?.mode();
        let others = mode & 0o077;
        ensure!(others == 0, "{}: {mode:o}", private.display());
    }
    let table = cluster.dev(["status"]).await?;
    ensure!(table.lines().any(|line| line.starts_with("node-1")), "{table}");
    cluster.finish().await
}

#[tokio::test]
async fn a_command_on_a_node_has_its_network_its_containerd_and_its_own_exit_code() -> anyhow::Result<()> {
    let cluster = prepared(1).await?;
    cluster.up().await?;
    let node = cluster.node(1);
    let addresses = node.exec(&["ip", "-o", "-4", "address", "show", "eth0"]).await?;
    ensure!(addresses.contains(&node.view().await?.addresses[0]), "{addresses}");
    // The same containerd by its environment as by its socket.
    ensure!(node.exec(&["ctr", "version"]).await?.contains("Server"));
    let output = cluster
        .try_dev(["exec", "node-1", "--", "sh", "-c", "echo out; echo err >&2; exit 7"])
        .await?;
    ensure!(output.status.code() == Some(7), "{output:?}");
    ensure!(
        (output.stdout.as_slice(), output.stderr.as_slice()) == (b"out\n", b"err\n"),
        "{output:?}"
    );
    let words = refused(&cluster, &["exec", "node-2", "--", "true"]).await?;
    ensure!(words.contains("it has server, node-1"), "{words}");
    let words = refused(&cluster, &["exec", "node-1", "--", "no-such-program"]).await?;
    ensure!(words.contains("no-such-program"), "{words}");
    cluster.finish().await
}

#[tokio::test]
async fn an_image_is_loaded_into_every_node() -> anyhow::Result<()> {
    let cluster = prepared(2).await?;
    cluster.up().await?;
    let archive = programs::demo_archive()?;
    let names = cluster.dev(["load", &archive.to_string_lossy()]).await?;
    ensure!(names.trim() == bosun_testkit::DEMO_IMAGE, "{names}");
    for number in 1..=2 {
        let images = cluster.node(number).ctr(&["images", "list", "--quiet"]).await?;
        ensure!(images.contains(bosun_testkit::DEMO_IMAGE), "node-{number}: {images}");
    }
    let words = refused(&cluster, &["load", "/no/such.tar"]).await?;
    ensure!(words.contains("/no/such.tar"), "{words}");
    cluster.finish().await
}

#[tokio::test]
async fn what_can_not_be_done_is_refused_with_the_remedy_and_changes_nothing() -> anyhow::Result<()> {
    let cluster = prepared(1).await?;
    for (args, remedy) in [
        (&["status"][..], "bosun dev up"),
        (&["load", "x.tar"], "bosun dev up"),
        (&["exec", "node-1", "--", "true"], "bosun dev up"),
        (
            &["up", "--containerd", "/no/such/containerd"],
            "apt-get install containerd",
        ),
        (&["up", "--server-only", "--cidr", "10.0.0.0/8"], "a /16 of IPv4"),
    ] {
        let words = refused(&cluster, args).await?;
        ensure!(words.contains(remedy), "{args:?}: {words}");
    }
    let nothing = cluster.dev(["down"]).await?;
    ensure!(nothing.contains("Nothing is up"), "{nothing}");

    // A directory with other things in it.
    std::fs::create_dir(cluster.dir())?;
    std::fs::write(cluster.dir().join("thesis.tex"), "")?;
    let words = refused(&cluster, &["up"]).await?;
    ensure!(words.contains("thesis.tex") && words.contains("--dir"), "{words}");
    cluster.dev(["down"]).await?;
    ensure!(cluster.dir().join("thesis.tex").exists(), "another's file was removed");
    std::fs::remove_dir_all(cluster.dir())?;

    // Another user.
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
    command
        .arg(programs::built("bosun")?)
        .args(["dev", "up", "--dir", "/tmp/bosun-dev-of-nobody"]);
    let output = programs::output(command, PATIENCE).await?;
    let words = String::from_utf8_lossy(&output.stderr);
    ensure!(
        !output.status.success() && words.contains("sudo") && words.lines().count() == 1,
        "{words}"
    );
    ensure!(!std::path::Path::new("/tmp/bosun-dev-of-nobody").exists());
    cluster.finish().await
}
