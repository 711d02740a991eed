//! What goes wrong around the agent: each a clear state with its reason, mended without a restart of ours.

use std::{
    fs::{self, File},
    io::ErrorKind,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, ensure};
use bosun_testkit::{
    Node, Options,
    manifest::{container, idle, pod, web},
    programs,
};
use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sys::signal::{Signal, kill},
};
use serde_json::json;

/// Waits until a pod says why it does not run, in words that contain one of `words`.
async fn says(node: &Node, pod: &str, words: &[&str]) {
    node.until(pod, &format!("says one of {words:?}"), |view| {
        let states: Vec<_> = view.containers().map(bosun_testkit::ContainerView::words).collect();
        let said = format!("{} {}", view.reason(), states.join(" "));
        ensure!(
            !view.is_ready() && words.iter().any(|word| said.contains(word)),
            "it says {said:?}"
        );
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn a_stopped_shim_delays_no_other_pod() -> anyhow::Result<()> {
    let node = Node::start().await?;
    let exec = json!({ "exec": { "command": ["true"] } });
    node.apply(&pod("hung").grace(0).with(idle("main").probe("liveness", exec)))?;
    node.apply(&pod("other").grace(0).with(web("main", "well")))?;
    let hung = node.ready("hung").await.remove(0);
    let other = node.ready("other").await;
    let shim = node.shim_of(&hung).await?;
    kill(shim, Signal::SIGSTOP)?;

    // Calls about the hung pod now hang: its probe's, and those of its end.
    node.remove("hung")?;
    for number in 0..3 {
        let name = format!("new-{number}");
        node.apply(&pod(&name).grace(0).with(idle("main")))?;
        node.ready(&name).await;
        node.remove(&name)?;
        node.gone(&name).await;
    }
    ensure!(node.ready("other").await == other, "another pod was disturbed");
    kill(node.pid_of(&other[0]).await?, Signal::SIGKILL)?;
    node.until("other", "started again", |view| {
        ensure!(view.is_ready() && view.container("main")?.restarts() == 1, "not yet");
        Ok(())
    })
    .await;
    ensure!(
        node.pods().await?.pod("hung").is_ok(),
        "the hung pod is said to be gone"
    );

    kill(shim, Signal::SIGCONT)?;
    node.gone("hung").await;
    node.finish().await
}

#[tokio::test]
async fn an_absent_image_is_named_and_found_once_it_is_there() -> anyhow::Result<()> {
    let node = Node::start().await?;
    let image = "bosun.dev/later:1";
    node.apply(&pod("never").with(idle("main").image(image)))?;
    let pulled = idle("main")
        .image("127.0.0.1:1/absent:1")
        .set("/imagePullPolicy", json!("IfNotPresent"));
    node.apply(&pod("pulled").with(pulled))?;
    says(&node, "never", &["ErrImageNeverPull"]).await;
    says(&node, "pulled", &["ImagePullBackOff", "ErrImagePull"]).await;
    for name in ["never", "pulled"] {
        let list = node.pods().await?;
        let said = list.pod(name)?.container("main")?.waiting();
        ensure!(
            said.contains("bosun.dev/later:1") || said.contains("127.0.0.1:1/absent:1"),
            "{said}"
        );
    }
    node.ctr(&["images", "tag", bosun_testkit::DEMO_IMAGE, image]).await?;
    node.ready("never").await;
    node.remove_all()?;
    node.gone("never").await;
    node.ctr(&["images", "remove", image]).await?;
    node.finish().await
}

#[tokio::test]
async fn a_program_of_another_format_is_named_and_runs_once_it_is_mended() -> anyhow::Result<()> {
    let node = Node::start().await?;
    let host = node.dir().join("host");
    fs::create_dir(&host)?;
    let program = |text: &str| -> anyhow::Result<()> {
        fs::write(host.join("new"), text)?;
        fs::set_permissions(host.join("new"), fs::Permissions::from_mode(0o755))?;
        Ok(fs::rename(host.join("new"), host.join("program"))?)
    };
    program("\x7fELF, but no more than that")?;
    let manifest = pod("a").grace(0).volume("v", json!({ "hostPath": { "path": host } }));
    node.apply(&manifest.with(container("main", &["/v/program"]).mount("v", "/v")))?;
    says(&node, "a", &["exec format error", "Exec format error"]).await;
    program("#!/bin/sh\nexec sleep 3600\n")?;
    node.ready("a").await;
    node.remove("a")?;
    node.gone("a").await;
    fs::remove_dir_all(host)?;
    node.finish().await
}

#[tokio::test]
async fn a_failing_network_plugin_is_quoted_and_tried_again() -> anyhow::Result<()> {
    let node = Node::start().await?;
    let plugin = node.cni_bin_dir().join("bosun-cni");
    let kept = node.dir().join("bosun-cni.kept");
    fs::rename(&plugin, &kept)?;
    fs::write(
        &plugin,
        "#!/bin/sh\necho '{\"cniVersion\":\"1.0.0\",\"code\":11,\"msg\":\"the cable is out\"}'; exit 1\n",
    )?;
    fs::set_permissions(&plugin, fs::Permissions::from_mode(0o755))?;
    node.apply(&pod("a").with(idle("main")))?;
    says(&node, "a", &["the cable is out"]).await;
    fs::rename(&kept, &plugin)?;
    node.ready("a").await;
    node.finish().await
}

/// A node whose data is on a small file system of its own.
async fn on_small_disk() -> anyhow::Result<Node> {
    Node::with(Options {
        data_size: Some("48m"),
        ..Options::default()
    })
    .await
}

#[tokio::test]
async fn a_full_disk_is_named_disturbs_no_running_pod_and_mends() -> anyhow::Result<()> {
    let node = on_small_disk().await?;
    let disk = node.data_dir();
    node.apply(&pod("before").with(idle("main")))?;
    let before = node.ready("before").await;
    let filler = disk.join("filler");
    fill(&filler)?;
    node.apply(&pod("a").with(idle("main")))?;
    says(&node, "a", &["no space left", "No space left"]).await;
    ensure!(node.ready("before").await == before, "a running pod was disturbed");
    fs::remove_file(&filler)?;
    node.ready("a").await;
    ensure!(node.ready("before").await == before, "a running pod was disturbed");
    node.finish().await
}

/// Writes until nothing more fits, not a byte.
fn fill(path: &Path) -> anyhow::Result<()> {
    use std::io::Write;
    let mut file = File::create(path)?;
    for size in [1 << 20, 4096, 1] {
        loop {
            match file.write_all(&vec![0; size]) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::StorageFull => break,
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_read_only_data_folder_is_named_disturbs_no_running_pod_and_mends() -> anyhow::Result<()> {
    let node = Node::start().await?;
    let disk = node.data_dir();
    node.apply(&pod("before").with(idle("main")))?;
    let before = node.ready("before").await;
    make_read_only(&disk)?;
    node.apply(&pod("a").with(idle("main")))?;
    says(&node, "a", &["read-only file system", "Read-only file system"]).await;
    ensure!(node.ready("before").await == before, "a running pod was disturbed");
    umount2(&disk, MntFlags::MNT_DETACH).context("making the data folder writable")?;
    node.ready("a").await;
    ensure!(node.ready("before").await == before, "a running pod was disturbed");
    node.finish().await
}

/// Lays the folder over itself, read-only: a file system with files open for writing can't be turned read-only, but
/// every path into this one now can't be written to. Unmounting it mends it.
fn make_read_only(dir: &Path) -> anyhow::Result<()> {
    let bind = |flags: MsFlags| mount(Some(dir), dir, None::<&str>, MsFlags::MS_BIND | flags, None::<&str>);
    bind(MsFlags::empty()).context("laying the data folder over itself")?;
    bind(MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY).context("making the data folder read-only")
}

/// A containerd that can be taken away: a link.
struct Removable(PathBuf);

impl Removable {
    fn new() -> anyhow::Result<(tempfile::TempDir, Self)> {
        let dir = tempfile::tempdir()?;
        let link = Self(dir.path().join("containerd"));
        Ok((dir, link))
    }

    fn put(&self) -> anyhow::Result<()> {
        let real = std::env::var("PATH")?;
        let mut places = real.split(':').map(|dir| Path::new(dir).join("containerd"));
        let real = places
            .find(|path| path.exists())
            .context("no containerd on this machine: apt-get install containerd")?;
        Ok(symlink(real, &self.0)?)
    }

    fn take(&self) -> anyhow::Result<()> {
        Ok(fs::remove_file(&self.0)?)
    }
}

#[tokio::test]
async fn without_a_runtime_at_its_socket_pods_say_so_and_start_once_it_is_there() -> anyhow::Result<()> {
    let mut node = Node::start().await?;
    node.apply(&pod("first").with(idle("main")))?;
    let first = node.ready("first").await;
    node.kill_agent().await?;
    let socket = node.containerd_socket()?;
    let command = node.containerd()?.command;
    let (program, arguments) = command.split_once(' ').context("containerd's arguments")?;
    node.kill_containerd()?;

    node.set_runtime_endpoint(&format!("unix://{}", socket.display()));
    node.start_agent().await?;
    node.apply(&pod("second").with(idle("main")))?;
    says(&node, "second", &["containerd.sock"]).await;

    let log = File::create(node.dir().join("containerd-of-the-test.log"))?;
    let mut containerd = node.netns().command(program, arguments.split(' '));
    let mut containerd = containerd
        .stdout(log.try_clone()?)
        .stderr(log)
        .kill_on_drop(true)
        .spawn()?;
    node.ready("second").await;
    ensure!(node.ready("first").await == first, "a running pod was disturbed");

    // The next agent has a containerd of its own again, and takes everything away with it.
    node.kill_agent().await?;
    containerd.kill().await?;
    node.set_runtime_endpoint("managed");
    node.start_agent().await?;
    ensure!(node.ready("first").await == first, "a running pod was disturbed");
    node.finish().await
}

#[tokio::test]
async fn without_containerd_at_the_start_pods_say_so_and_start_once_it_is_there() -> anyhow::Result<()> {
    let (_dir, containerd) = Removable::new()?;
    let options = Options {
        containerd: Some(containerd.0.clone()),
        import_demo: false,
        ..Options::default()
    };
    let node = Node::with(options).await?;
    node.apply(&pod("a").with(idle("main")))?;
    says(&node, "a", &["containerd"]).await;
    containerd.put()?;
    node.import(&programs::demo_archive()?).await?;
    node.ready("a").await;
    node.remove("a")?;
    node.gone("a").await;
    node.discard();
    Ok(())
}

#[tokio::test]
async fn while_containerd_is_gone_pods_go_on_and_all_is_made_up_for_when_it_returns() -> anyhow::Result<()> {
    let (_dir, containerd) = Removable::new()?;
    containerd.put()?;
    let options = Options {
        containerd: Some(containerd.0.clone()),
        ..Options::default()
    };
    let node = Node::with(options).await?;
    node.apply(&pod("runs").with(web("main", "all the while")))?;
    node.apply(&pod("ends").with(idle("main")))?;
    node.apply(&pod("removed").with(idle("main")))?;
    let runs = node.ready("runs").await;
    let ends = node.ready("ends").await;
    node.ready("removed").await;
    let ip = node.pods().await?.pod("runs")?.ip()?;
    let pid = node.pid_of(&ends[0]).await?;

    containerd.take()?;
    node.kill_containerd()?;
    kill(pid, Signal::SIGKILL)?;
    node.remove("removed")?;
    node.apply(&pod("added").with(idle("main")))?;
    says(&node, "added", &["containerd"]).await;
    let until = tokio::time::Instant::now() + Duration::from_mins(1);
    while tokio::time::Instant::now() < until {
        ensure!(node.netns().http_get(ip, 8080, "/")?.trim() == "all the while");
        ensure!(
            node.pods().await?.pod("runs")?.is_ready(),
            "a pod that answers is said not to be ready"
        );
        tokio::time::sleep(Duration::from_millis(250)).await;
    }

    containerd.put()?;
    node.ready("added").await;
    node.gone("removed").await;
    node.until("ends", "started again", |view| {
        ensure!(view.is_ready() && view.container("main")?.restarts() == 1, "not yet");
        Ok(())
    })
    .await;
    ensure!(node.ready("runs").await == runs, "a running pod was disturbed");
    node.finish().await
}
