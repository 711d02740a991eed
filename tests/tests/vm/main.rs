//! The product on whole machines: Debian with systemd and cgroup v2, in software emulation.

mod machine;

use std::{fs, net::IpAddr, time::Duration};

use anyhow::{Context as _, Result, ensure};
use bosun_testkit::{
    PodList,
    manifest::{pod, web},
    programs::{built, demo_archive, repository},
};
use machine::Machine;
use serde_json::json;
use tempfile::TempDir;

/// Emulation is slow, and other tests share the machine.
const SOON: Duration = Duration::from_mins(3);

/// What tells why a pod is not ready.
const EVIDENCE: &[&str] = &[
    "bosun pods -o wide",
    "systemctl status --no-pager --full bosun-agent | tail -n 30",
    "journalctl --no-pager --boot --unit bosun-agent | tail -n 60",
    "ls -lR /run/bosun | head -n 60",
];

#[test]
fn the_agent_as_a_service_runs_a_static_pod_before_and_after_a_reboot() -> Result<()> {
    let payload = payload()?;
    let mut machine = Machine::boot(&release(), payload.path())?;
    survives_a_reboot(&mut machine).map_err(|error| error.context(machine.describe(EVIDENCE)))
}

/// The Debian release of the machine: Debian 12, unless the programs were built on Debian 13, whose C library is
/// newer. `BOSUN_VM_RELEASE` names another.
fn release() -> String {
    let built_on_13 =
        || fs::read_to_string("/etc/os-release").is_ok_and(|text| text.contains("VERSION_CODENAME=trixie"));
    let default = || if built_on_13() { "trixie" } else { "bookworm" }.to_owned();
    std::env::var("BOSUN_VM_RELEASE").unwrap_or_else(|_| default())
}

fn survives_a_reboot(machine: &mut Machine) -> Result<()> {
    let hierarchy = machine.run("stat -fc %T /sys/fs/cgroup")?;
    ensure!(
        hierarchy.trim() == "cgroup2fs",
        "the machine's cgroups are on {hierarchy}"
    );
    install(machine)?;

    let before = ready(machine)?;
    holds_one_pod(machine, &before, 2)?;
    machine.run("systemctl restart bosun-agent")?;
    let restarted = ready(machine)?;
    ensure!(
        restarted == before,
        "a restart of the service made {restarted:?} of {before:?}"
    );
    machine.reboot()?;
    let after = ready(machine)?;
    ensure!(
        after.container != before.container,
        "no container survives a reboot: {after:?}"
    );
    ensure!(after.restarts == before.restarts + 1, "{before:?} became {after:?}");
    // What ran before is kept for its log, and its sandbox with it.
    holds_one_pod(machine, &after, 4)
}

/// What a user puts on a machine, as files of one folder.
fn payload() -> Result<TempDir> {
    let folder = tempfile::tempdir()?;
    let files = [
        (built("bosun")?, "bosun"),
        (built("bosun-cni")?, "bosun-cni"),
        (demo_archive()?, "demo.tar"),
        (repository().join("hack/bosun-agent.service"), "bosun-agent.service"),
    ];
    for (from, name) in files {
        fs::copy(&from, folder.path().join(name)).with_context(|| format!("copying {}", from.display()))?;
    }
    let server = web("server", "hello")
        .probe("readiness", json!({ "httpGet": { "path": "/", "port": 8080 } }))
        .set("/resources", json!({ "limits": { "cpu": "1", "memory": "64Mi" } }));
    // Without a PID namespace of its own the server hears the SIGTERM of a machine that goes down; as PID 1 of one it
    // would not, and hold the reboot up.
    let web = pod("web").set("/spec/shareProcessNamespace", json!(true)).with(server);
    fs::write(folder.path().join("web.json"), web.text())?;
    Ok(folder)
}

fn install(machine: &mut Machine) -> Result<()> {
    for command in [
        "install -D -m 755 -t /usr/local/bin /mnt/bosun /mnt/bosun-cni",
        "install -D -m 644 -t /etc/systemd/system /mnt/bosun-agent.service",
        "mkdir -p /etc/bosun/manifests",
        "systemctl enable --now bosun-agent",
        "bosun images import /mnt/demo.tar",
        "install -m 644 -t /etc/bosun/manifests /mnt/web.json",
    ] {
        machine.run(command)?;
    }
    Ok(())
}

/// The pod as it was seen ready.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    container: String,
    restarts: i32,
    ip: IpAddr,
}

/// Waits until the pod is ready and answers.
fn ready(machine: &mut Machine) -> Result<Seen> {
    let seen = machine.eventually(SOON, "the pod is ready", |machine| {
        let list = PodList::parse(&machine.run("bosun pods -o json")?)?;
        let pod = list.pod("web")?;
        ensure!(pod.is_ready(), "{:#}", serde_json::to_value(&pod.whole().status)?);
        let container = pod.container("server")?;
        Ok(Seen {
            container: container.id().to_owned(),
            restarts: container.restarts(),
            ip: pod.ip()?,
        })
    })?;
    let request = r"printf 'GET / HTTP/1.0\r\n\r\n' >&3; cat <&3";
    let answer = machine.run(&format!(
        "timeout 20 bash -c \"exec 3<>/dev/tcp/{}/8080; {request}\"",
        seen.ip
    ))?;
    ensure!(answer.contains("hello"), "the pod answered {answer:?}");
    Ok(seen)
}

/// The pod is all that runs, the agent's containerd has `containers` records, sandboxes included, and the machine's own
/// containerd none.
fn holds_one_pod(machine: &mut Machine, pod: &Seen, containers: usize) -> Result<()> {
    let (ip, containers) = (pod.ip.to_string(), containers.to_string());
    // What to ask, and the answer in words.
    let table = [
        (
            "address records",
            "find /run/bosun/ipam -type f -name '[0-9]*' -printf '%f\\n'",
            ip.as_str(),
        ),
        ("pause programs", "grep -slx pause /proc/[0-9]*/comm | wc -l", "1"),
        ("servers", "grep -slx httpd /proc/[0-9]*/comm | wc -l", "1"),
        ("links of pods", "ip -o link show type veth | wc -l", "1"),
        (
            "containers of the agent's containerd",
            &agents_containerd("containers list -q | wc -l"),
            containers.as_str(),
        ),
        (
            "tasks of the agent's containerd",
            &agents_containerd("tasks list -q | wc -l"),
            "2",
        ),
        (
            "containers of the machine's containerd",
            "ctr -n k8s.io containers list -q | wc -l",
            "0",
        ),
        (
            "memory limit",
            "p=$(grep -slx httpd /proc/[0-9]*/comm) && cat /sys/fs/cgroup$(sed s/0::// ${p%comm}cgroup)/memory.max",
            "67108864",
        ),
        ("failed units", "systemctl --failed --no-legend | wc -l", "0"),
    ];
    for (what, command, expected) in table {
        machine.eventually(SOON, what, |machine| {
            let answer = machine.run(command)?;
            ensure!(answer.trim() == expected, "{answer:?} instead of {expected:?}");
            Ok(())
        })?;
    }
    Ok(())
}

fn agents_containerd(command: &str) -> String {
    format!("ctr -a /run/bosun/containerd/containerd.sock -n k8s.io {command}")
}
