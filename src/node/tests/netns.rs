//! Against the real kernel's cgroups, below one of the test's own. Needs root.

#![allow(clippy::unwrap_used, reason = "a test ends at what it did not expect")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use bosun_api::{PodUid, core::Pod};
use bosun_node::cgroup::Cgroups;

/// A root that no one else has, taken away in the end.
struct Root {
    path: String,
    cgroups: Cgroups,
}

impl Root {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        assert!(
            nix::unistd::geteuid().is_root(),
            "these tests make cgroups: run them as root, as in `sudo ./hack/test --tier 3`"
        );
        let path = format!(
            "/bosun-cgroups-of-test-{}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        Self {
            cgroups: Cgroups::below(&path),
            path,
        }
    }

    /// The cgroup's directories, in whichever hierarchies it is.
    fn directories(&self, below: &str) -> Vec<PathBuf> {
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
        let mounts = mounts
            .lines()
            .filter(|line| line.split(' ').nth(2).is_some_and(|kind| kind.starts_with("cgroup")));
        let mounts = mounts.filter_map(|line| line.split(' ').nth(1));
        let directories = mounts.map(|mount| Path::new(mount).join(format!("{}{below}", &self.path[1..])));
        directories.filter(|directory| directory.is_dir()).collect()
    }

    /// A file of one, read from the first hierarchy that has it: version 1's, or version 2's.
    fn read(&self, below: &str, v1: &str, v2: &str) -> Option<String> {
        let directories = self.directories(below);
        let paths = directories
            .iter()
            .flat_map(|directory| [directory.join(v1), directory.join(v2)]);
        paths
            .filter_map(|path| fs::read_to_string(path).ok())
            .map(|text| text.trim().to_owned())
            .next()
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        fn remove(directory: &Path) {
            for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
                if entry.path().is_dir() {
                    remove(&entry.path());
                }
            }
            let _ = fs::remove_dir(directory);
        }
        for directory in self.directories("") {
            remove(&directory);
        }
    }
}

fn pod(resources: &str) -> Pod {
    let text = format!(
        r#"{{"metadata":{{"name":"a"}},"spec":{{"containers":[{{"name":"c","image":"i","resources":{resources}}}]}}}}"#
    );
    serde_json::from_str(&text).unwrap()
}

fn guaranteed() -> Pod {
    pod(r#"{"requests":{"cpu":"500m","memory":"64Mi"},"limits":{"cpu":"500m","memory":"64Mi"}}"#)
}

/// A process, ended with the test.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A process in a pod's cgroups, of whichever hierarchies.
fn process_in(directories: &[PathBuf]) -> Process {
    assert!(!directories.is_empty(), "the cgroup is there");
    #[allow(clippy::disallowed_methods, reason = "a process to be killed")]
    let child = Command::new("sleep")
        .arg("600")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let process = Process(child);
    for directory in directories {
        match fs::write(directory.join("cgroup.procs"), process.0.id().to_string()) {
            // Version 1's cpuset, which takes no process before it is told on which processors.
            Err(error) if error.kind() == std::io::ErrorKind::StorageFull => {}
            written => written.unwrap(),
        }
    }
    process
}

fn ended(Process(child): &mut Process) -> bool {
    let deadline = Instant::now() + Duration::from_secs(30);
    while Instant::now() < deadline {
        if child.try_wait().unwrap().is_some() {
            return true;
        }
        std::thread::park_timeout(Duration::from_millis(2));
    }
    false
}

#[test]
fn a_pods_cgroup_has_what_it_asked_for_however_often_it_is_set_up() {
    let (root, uid) = (Root::new(), PodUid::from("u1"));
    let pod = guaranteed();
    for _ in 0..2 {
        root.cgroups.set_up(&pod, &uid).unwrap();
        let read = |v1, v2| root.read("/kubepods/podu1", v1, v2).unwrap();
        assert!(["512", "20"].contains(&read("cpu.shares", "cpu.weight").as_str()));
        assert!(["50000", "50000 100000"].contains(&read("cpu.cfs_quota_us", "cpu.max").as_str()));
        assert_eq!(read("memory.limit_in_bytes", "memory.max"), (64u64 << 20).to_string());
    }
    root.cgroups.tear_down(&uid).unwrap();
    root.cgroups.tear_down(&uid).unwrap();
    assert_eq!(root.directories("/kubepods/podu1"), Vec::<PathBuf>::new());
}

#[test]
fn burstable_pods_share_what_they_asked_for_together_and_best_effort_ones_the_least() {
    let root = Root::new();
    let burstable = pod(r#"{"requests":{"cpu":"250m"}}"#);
    for uid in ["b1", "b2"] {
        root.cgroups.set_up(&burstable, &PodUid::from(uid)).unwrap();
    }
    root.cgroups.set_up(&pod("{}"), &PodUid::from("e1")).unwrap();
    let shares = |below| root.read(below, "cpu.shares", "cpu.weight").unwrap();
    assert!(
        ["512", "19", "20"].contains(&shares("/kubepods/burstable").as_str()),
        "{}",
        shares("/kubepods/burstable")
    );
    assert!(["2", "1"].contains(&shares("/kubepods/besteffort").as_str()));
    let quota = root
        .read("/kubepods/burstable/podb1", "cpu.cfs_quota_us", "cpu.max")
        .unwrap();
    assert!(["-1", "max 100000"].contains(&quota.as_str()), "{quota}");
}

#[test]
fn a_cgroup_with_a_process_in_it_stays_until_that_is_killed_and_others_are_let_be() {
    let root = Root::new();
    let (uid, other) = (PodUid::from("left"), PodUid::from("other"));
    root.cgroups.set_up(&guaranteed(), &uid).unwrap();
    root.cgroups.set_up(&guaranteed(), &other).unwrap();
    // In a container's cgroup below the pod's, as a runtime makes it.
    let containers: Vec<_> = root
        .directories("/kubepods/podleft")
        .iter()
        .map(|pod| pod.join("container"))
        .collect();
    for container in &containers {
        fs::create_dir(container).unwrap();
    }
    let mut child = process_in(&containers);
    let mut bystander = process_in(&root.directories("/kubepods/podother"));
    let error = root.cgroups.tear_down(&uid).unwrap_err().to_string();
    assert!(error.starts_with("removing cgroup"), "{error}");

    assert_eq!(root.cgroups.kill(&uid).unwrap(), 1);
    assert!(ended(&mut child), "the process was killed");
    root.cgroups.tear_down(&uid).unwrap();
    assert_eq!(root.directories("/kubepods/podleft"), Vec::<PathBuf>::new());
    assert_eq!(root.cgroups.kill(&uid).unwrap(), 0, "nothing is left");

    assert!(
        bystander.0.try_wait().unwrap().is_none(),
        "another pod's process runs on"
    );
    drop(bystander);
    root.cgroups.tear_down(&other).unwrap();
}
