//! The harness itself, against the real kernel: what it makes, it takes away.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::{Context, ensure};
use bosun_testkit::{PATIENCE, eventually, mounts, netns::Netns, proc::Scope, programs, teardown::teardown};
use nix::mount::{MsFlags, mount};
use tokio::process::Command;

fn scope(name: &str) -> anyhow::Result<Scope> {
    let name = format!("bosun-harness-{name}-{}", std::process::id());
    let dir = std::env::temp_dir().join(&name);
    fs::create_dir_all(&dir)?;
    Ok(Scope {
        dir,
        cgroup: format!("/{name}"),
    })
}

#[tokio::test]
async fn a_namespace_starts_with_lo_up_and_nothing_else() -> anyhow::Result<()> {
    let netns = Netns::new().await?;
    ensure!(netns.links()? == ["lo"], "{:?}", netns.links()?);
    let addresses = netns.run(|| Ok(fs::read_to_string("/proc/thread-self/net/fib_trie")?))?;
    ensure!(addresses.contains("127.0.0.1"), "{addresses}");
    Ok(())
}

#[tokio::test]
async fn http_is_asked_from_within_the_namespace() -> anyhow::Result<()> {
    let netns = Netns::new().await?;
    let scope = scope("http")?;
    fs::write(scope.dir.join("index.html"), "from inside")?;
    let mut command = netns.command("busybox", ["httpd", "-f", "-p", "127.0.0.1:8080", "-h"]);
    let mut server = command.arg(&scope.dir).kill_on_drop(true).spawn()?;
    let localhost = "127.0.0.1".parse()?;
    let body = eventually(PATIENCE, "the server answers", async || {
        netns.http_get(localhost, 8080, "/")
    })
    .await;
    ensure!(body == "from inside", "{body}");
    ensure!(
        netns.http_get(localhost, 8080, "/absent").is_err(),
        "a missing page has no body"
    );
    ensure!(
        Netns::new().await?.http_get(localhost, 8080, "/").is_err(),
        "another namespace reaches it"
    );
    server.kill().await?;
    ensure!(teardown(&scope).is_empty(), "left behind");
    Ok(())
}

#[tokio::test]
async fn a_teardown_ends_processes_and_takes_mounts_cgroups_and_folders_away() -> anyhow::Result<()> {
    let scope = scope("teardown")?;
    let mounted = scope.dir.join("a/mounted here");
    fs::create_dir_all(&mounted)?;
    mount(
        Some("tmpfs"),
        &mounted,
        Some("tmpfs"),
        MsFlags::empty(),
        Some("size=64k"),
    )
    .context("mounting a tmpfs")?;
    let cgroup = one_cgroup(&scope)?;
    fs::create_dir_all(cgroup.join("child"))?;

    let file = scope.dir.join("named on a command line");
    fs::write(&file, "")?;
    let mut named = Command::new("tail").arg("-f").arg(&file).stdin(Stdio::null()).spawn()?;
    let mut grouped = Command::new("sleep").arg("3600").spawn()?;
    let pid = grouped.id().context("it has just started")?;
    fs::write(cgroup.join("child/cgroup.procs"), pid.to_string())?;
    let mut other = Command::new("sleep").arg("3600").kill_on_drop(true).spawn()?;

    let seen: Vec<_> = scope
        .processes()
        .iter()
        .map(|process| process.pid.as_raw() as u32)
        .collect();
    ensure!(
        seen.contains(&pid) && named.id().is_some_and(|pid| seen.contains(&pid)),
        "{seen:?}"
    );
    ensure!(scope.mounts() == [mounted], "{:?}", scope.mounts());

    let failures = teardown(&scope);
    ensure!(failures.is_empty(), "{failures:?}");
    ensure!(
        !named.wait().await?.success() && !grouped.wait().await?.success(),
        "they ended by themselves"
    );
    ensure!(other.try_wait()?.is_none(), "a process of somebody else was ended");
    ensure!(
        scope.mounts().is_empty() && scope.cgroups().is_empty() && !scope.dir.exists(),
        "left behind"
    );
    other.kill().await?;
    Ok(())
}

#[tokio::test]
async fn a_command_that_dawdles_is_ended_at_its_deadline() -> anyhow::Result<()> {
    let mut command = Command::new("sleep");
    command.arg("3600");
    let error = programs::output(command, std::time::Duration::from_millis(50))
        .await
        .expect_err("it sleeps");
    ensure!(error.to_string().contains("did not end within"), "{error}");
    Ok(())
}

/// The scope's cgroup in one hierarchy, made.
fn one_cgroup(scope: &Scope) -> anyhow::Result<PathBuf> {
    let mounts = mounts::cgroups()?;
    let mount = mounts
        .iter()
        .find(|mount| mount.join("cgroup.procs").exists())
        .context("no cgroup hierarchy")?;
    let cgroup = mount.join(scope.cgroup.trim_start_matches('/'));
    fs::create_dir_all(&cgroup).with_context(|| format!("making {}", Path::new(&cgroup).display()))?;
    Ok(cgroup)
}
