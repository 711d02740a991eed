//! `hack/up`, again, `hack/down`: the machine afterwards as before.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::ensure;
use bosun_testkit::{PATIENCE, eventually, mounts, proc, proc::directories, programs};
use tokio::process::Command;

#[tokio::test]
async fn up_up_again_and_down_leave_the_machine_as_it_was() -> anyhow::Result<()> {
    let up = Up::new();
    let before = machine().await?;
    let first = up.script("up").await?;
    ensure!(first.contains("red asks blue: blue, on 10.88."), "{first}");
    let containers = up.containers().await?;
    ensure!(containers.len() == 3, "{containers:?}");

    let start = Instant::now();
    let again = up.script("up").await?;
    ensure!(
        start.elapsed() < Duration::from_secs(15),
        "again took {:?}",
        start.elapsed()
    );
    ensure!(again.contains("blue asks red: red, on 10.88."), "{again}");
    ensure!(up.containers().await? == containers, "containers were replaced");

    up.script("down").await?;
    ensure!(!up.dir.exists(), "{} is left", up.dir.display());
    eventually(PATIENCE, "the machine is as it was", async || {
        let after = machine().await?;
        let new: Vec<_> = after.difference(&before).collect();
        ensure!(new.is_empty(), "{new:#?}");
        let gone: Vec<_> = before
            .difference(&after)
            .filter(|thing| !thing.starts_with("process "))
            .collect();
        ensure!(gone.is_empty(), "gone: {gone:#?}");
        Ok(())
    })
    .await;
    let twice = up.script("down").await?;
    ensure!(twice.contains("Nothing is up"), "{twice}");
    Ok(())
}

#[tokio::test]
async fn down_takes_away_what_a_killed_agent_left() -> anyhow::Result<()> {
    let up = Up::new();
    let before = machine().await?;
    up.script("up").await?;
    let agent: i32 = fs::read_to_string(up.dir.join("agent.pid"))?.trim().parse()?;
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(agent), nix::sys::signal::Signal::SIGKILL)?;
    up.script("down").await?;
    eventually(PATIENCE, "the machine is as it was", async || {
        let after = machine().await?;
        let new: Vec<_> = after.difference(&before).collect();
        ensure!(new.is_empty(), "{new:#?}");
        Ok(())
    })
    .await;
    Ok(())
}

#[tokio::test]
async fn without_root_up_says_so_in_one_sentence_and_changes_nothing() -> anyhow::Result<()> {
    let up = Up::new();
    let mut command = Command::new("setpriv");
    command
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .arg(programs::repository().join("hack/up"));
    command.env("BOSUN_UP_DIR", &up.dir);
    let output = programs::output(command, PATIENCE).await?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(
        !output.status.success() && said.lines().count() == 1 && said.contains("root"),
        "{said}"
    );
    ensure!(!up.dir.exists(), "it made {}", up.dir.display());
    Ok(())
}

/// The demo in a folder of its own, so that one a developer has up is left alone.
struct Up {
    dir: PathBuf,
}

impl Up {
    fn new() -> Self {
        Self {
            dir: programs::repository().join(format!("target/up-test-{}", std::process::id())),
        }
    }

    async fn script(&self, name: &str) -> anyhow::Result<String> {
        let mut command = Command::new(programs::repository().join("hack").join(name));
        command.env("BOSUN_UP_DIR", &self.dir);
        let output = programs::output(command, PATIENCE * 4).await?;
        let said = format!(
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        ensure!(output.status.success(), "hack/{name}: {}\n{said}", output.status);
        Ok(said)
    }

    async fn containers(&self) -> anyhow::Result<BTreeSet<String>> {
        let text = programs::run(&self.dir.join("bosun"), ["pods", "-o", "json"]).await?;
        let list = bosun_testkit::PodList::parse(&text)?;
        Ok(list
            .pods()
            .flat_map(|pod| pod.containers().map(|c| c.id().to_owned()).collect::<Vec<_>>())
            .collect())
    }
}

/// Everything of the machine the demo could have touched, one line each, without what other tests hold.
async fn machine() -> anyhow::Result<BTreeSet<String>> {
    let mut all = BTreeSet::new();
    let tables = programs::run(Path::new("nft"), ["list", "tables"]).await?;
    let mut add = |kind: &str, thing: String| {
        if !thing.contains("bosun-test-") {
            all.insert(format!("{kind} {thing}"));
        }
    };
    for line in fs::read_to_string("/proc/self/net/dev")?.lines().skip(2) {
        add("link", line.split(':').next().unwrap_or_default().trim().to_owned());
    }
    for mount in mounts::all()? {
        add("mount", mount.point.display().to_string());
    }
    for mount in mounts::cgroups()? {
        for dir in directories(&mount) {
            add("cgroup", dir.display().to_string());
        }
    }
    for pid in proc::pids() {
        let Ok(command) = fs::read(format!("/proc/{pid}/cmdline")) else {
            continue;
        };
        let command = String::from_utf8_lossy(&command).replace('\0', " ");
        let cgroup = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        // Of everything that runs on a developer's machine only what could be ours.
        let name = command
            .split(' ')
            .next()
            .and_then(|path| path.rsplit('/').next())
            .unwrap_or_default();
        if [
            "containerd",
            "containerd-shim",
            "bosun",
            "runc",
            "httpd",
            "pause",
            "nsenter",
        ]
        .iter()
        .any(|ours| name.starts_with(ours))
            && !cgroup.contains("bosun-test-")
        {
            add("process", format!("{pid} {command}"));
        }
    }
    for top in ["/run", "/etc/cni", "/opt/cni", "/var/lib", "/var/log", "/tmp"] {
        for path in entries(Path::new(top), 2) {
            add("file", path);
        }
    }
    tables.lines().for_each(|line| add("table", line.to_owned()));
    Ok(all)
}

/// What is in a folder, `depth` levels down.
fn entries(top: &Path, depth: u32) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(top).into_iter().flatten().flatten() {
        found.push(entry.path().display().to_string());
        if depth > 1 && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.extend(entries(&entry.path(), depth - 1));
        }
    }
    found
}
