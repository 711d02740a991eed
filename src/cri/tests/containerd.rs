//! A real containerd, managed by us, held to the same contract as the fake; and what only a real one can show.
//!
//! Needs root, containerd, runc and busybox. Each test has a network namespace, a cgroup parent, directories and a
//! containerd of its own, and takes all of it down again.

#[path = "contract/behaviours.rs"]
mod contract;
#[path = "containerd/streaming.rs"]
mod streaming;

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use bosun_cri::{
    CriClient, ErrorKind, Managed, ManagedConfig, Runtime, RuntimeEvent,
    archive::{Archive, Content, Entry, host_architecture},
    managed::{ManagedState, tear_down},
    sandbox_image::{SANDBOX_IMAGE, sandbox_image},
    v1,
};
use contract::{DEADLINE, Env, Pod, Process, event, exit_of, exited_status, subscribed};
use nix::sys::signal::Signal;
use sha2::Digest as _;
use tokio::{
    task::JoinSet,
    time::{Instant, timeout},
};

const SHELL: &str = "bosun.test/shell:1";

/// The commands the contract uses, from Debian's static busybox.
fn shell_image(name: &str) -> Archive {
    let busybox = fs::read("/usr/bin/busybox").or_else(|_| fs::read("/bin/busybox"));
    let busybox = busybox.expect("busybox is needed: apt-get install busybox-static");
    let links =
        ["sh", "sleep", "true", "echo", "tail", "cat"].map(|tool| Entry::symlink(format!("bin/{tool}"), "busybox"));
    Archive {
        name: name.to_owned(),
        architecture: host_architecture().to_owned(),
        cmd: vec!["sh".to_owned()],
        env: vec!["PATH=/bin".to_owned()],
        files: [
            Entry::file("bin/busybox", 0o755, busybox),
            Entry::file("bin/garbage", 0o755, &b"\x7fELF and no more"[..]),
        ]
        .into_iter()
        .chain(links)
        .collect(),
        ..Archive::default()
    }
}

/// A machine's worth of directories for one test.
struct Ground {
    dir: tempfile::TempDir,
    cgroup_parent: String,
    before: Traces,
}

impl Ground {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        assert!(
            rustix::process::geteuid().is_root(),
            "these tests need root: sudo -E cargo test -p bosun-cri --test containerd"
        );
        let dir = tempfile::Builder::new()
            .prefix("bosun-cri-")
            .tempdir()
            .expect("a directory");
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let cgroup_parent = format!("/bosun-cri-test-{}-{number}", std::process::id());
        let before = Traces::of(dir.path(), &cgroup_parent);
        Self {
            dir,
            cgroup_parent,
            before,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn config(&self) -> ManagedConfig {
        ManagedConfig {
            program: "containerd".into(),
            root: self.path("root"),
            state: self.path("state"),
            socket: self.path("containerd.sock"),
            cni_conf_dir: self.path("net.d"),
            cni_bin_dir: "/opt/cni/bin".into(),
            sandbox_image: SANDBOX_IMAGE.to_owned(),
            log_file: self.path("containerd.log"),
        }
    }

    fn archive(&self, name: &str, image: &Archive) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, image.to_bytes().expect("an archive")).expect("written");
        path
    }

    /// A containerd that answers, with the images the contract needs.
    async fn start(&self) -> (Managed, Arc<dyn Runtime>, Arc<Env>) {
        let managed = Managed::start(self.config()).await.expect("containerd starts");
        let client = CriClient::connect(&managed.endpoint()).expect("an endpoint");
        answering(&client).await;
        for (file, image) in [("pause.tar", sandbox_image()), ("shell.tar", shell_image(SHELL))] {
            let names = client
                .import_images(&self.archive(file, &image))
                .await
                .expect("imported");
            assert_eq!(names, [image.name]);
        }
        let env = Env {
            image: SHELL.to_owned(),
            archive: self.archive("other.tar", &shell_image("bosun.test/imported:1")),
            cgroup_parent: self.cgroup_parent.clone(),
            log_directory: self.path("logs").display().to_string(),
            prepare: Arc::new(|_, _| {}),
        };
        (managed, Arc::new(client), Arc::new(env))
    }

    /// Takes down what a test left running, and sees that nothing is left at all.
    async fn clear(self) {
        tear_down(&self.config()).await.expect("everything goes");
        remove_cgroups(&self.cgroup_parent);
        let after = Traces::of(self.dir.path(), &self.cgroup_parent);
        assert_eq!(after, self.before, "left behind");
    }
}

/// What a containerd and its containers leave on a machine when they are not taken down.
#[derive(Debug, PartialEq, Eq)]
struct Traces {
    processes: BTreeSet<String>,
    mounts: Vec<String>,
    cgroups: Vec<PathBuf>,
}

impl Traces {
    fn of(dir: &Path, cgroup_parent: &str) -> Self {
        let dir = dir.display().to_string();
        let commands = fs::read_dir("/proc").expect("/proc").flatten().filter_map(|entry| {
            let bytes = fs::read(entry.path().join("cmdline")).ok()?;
            Some(String::from_utf8_lossy(&bytes).replace('\0', " "))
        });
        let mounts = fs::read_to_string("/proc/self/mountinfo").expect("mounts");
        Self {
            processes: commands.filter(|command| command.contains(&dir)).collect(),
            mounts: mounts
                .lines()
                .filter(|line| line.contains(&dir))
                .map(ToOwned::to_owned)
                .collect(),
            cgroups: cgroups(cgroup_parent),
        }
    }
}

fn cgroups(parent: &str) -> Vec<PathBuf> {
    let hierarchies = fs::read_dir("/sys/fs/cgroup")
        .expect("cgroups")
        .flatten()
        .map(|entry| entry.path());
    let parents = hierarchies
        .chain([PathBuf::from("/sys/fs/cgroup")])
        .map(|path| path.join(&parent[1..]));
    parents.filter(|path| path.exists()).collect()
}

/// The parent is ours to remove, and by then it is empty.
fn remove_cgroups(parent: &str) {
    for path in cgroups(parent) {
        fs::remove_dir(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    }
}

/// Waits until the runtime answers.
async fn answering(runtime: &dyn Runtime) {
    let deadline = Instant::now() + DEADLINE;
    while let Err(error) = runtime.status().await {
        assert_eq!(error.kind, ErrorKind::Unavailable, "{error}");
        assert!(Instant::now() < deadline, "{error}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Runs a test on a thread with a network namespace of its own, where what it starts is with it; then takes all down,
/// whether it passed or not.
fn alone<F: Future<Output = ()> + Send + 'static>(test: impl FnOnce(Arc<Ground>) -> F + Send + 'static) {
    let thread = std::thread::spawn(move || {
        new_network_namespace();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a tokio runtime");
        runtime.block_on(async {
            let ground = Arc::new(Ground::new());
            let mut running = JoinSet::new();
            running.spawn(test(ground.clone()));
            let outcome = running.join_next().await.expect("one test");
            Arc::into_inner(ground).expect("the test has ended").clear().await;
            if let Err(error) = outcome {
                std::panic::resume_unwind(error.into_panic());
            }
        });
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "containerd's streaming server needs the loopback address"
)]
fn new_network_namespace() {
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET)
        .expect("these tests need root: sudo -E cargo test -p bosun-cri --test containerd");
    let up = std::process::Command::new("ip")
        .args(["link", "set", "lo", "up"])
        .status();
    assert!(up.expect("ip is needed: apt-get install iproute2").success());
}

macro_rules! all {
    ($($name:ident,)+) => {
        #[test]
        fn containerd_keeps_the_contract() {
            alone(async |ground| {
                let (_managed, runtime, env) = ground.start().await;
                $(
                    let before = Instant::now();
                    eprintln!("{}", stringify!($name));
                    contract::$name(runtime.clone(), env.clone()).await;
                    eprintln!("    {} ms", before.elapsed().as_millis());
                )+
            });
        }
    };
}
contract::behaviours!(all);

/// Sends a signal to a process this test's containerd is, or started.
fn signal(pid: u32, signal: Signal) {
    let pid = nix::unistd::Pid::from_raw(i32::try_from(pid).expect("a process id"));
    nix::sys::signal::kill(pid, signal).expect("it runs");
}

/// The containerd's process, once it is another than `before`.
async fn running(managed: &Managed, before: Option<u32>) -> u32 {
    let mut state = managed.state();
    let new = |state: &ManagedState| matches!(state, ManagedState::Running { pid } if Some(*pid) != before);
    let state = timeout(DEADLINE, state.wait_for(new))
        .await
        .expect("it runs")
        .expect("it is supervised")
        .clone();
    let ManagedState::Running { pid } = state else {
        unreachable!("just matched")
    };
    pid
}

#[test]
fn a_containerd_that_dies_is_started_again_and_its_containers_go_on() {
    alone(async |ground| {
        let (managed, runtime, env) = ground.start().await;
        let mut events = subscribed(&runtime).await;
        let pod = Pod::run(&runtime, &env).await;
        let stays = pod.start(Process::Runs).await;
        let ends = pod.start(Process::Ends(Duration::from_secs(1), 6)).await;
        let started = runtime.container_status(&stays).await.expect("a status").started_at;

        let first = running(&managed, None).await;
        let before = Instant::now();
        signal(first, Signal::SIGKILL);
        let second = running(&managed, Some(first)).await;
        eprintln!("started again after {} ms", before.elapsed().as_millis());
        answering(&*runtime).await;
        eprintln!("answers again after {} ms", before.elapsed().as_millis());

        event(&mut events, |event| *event == RuntimeEvent::Resync).await;
        assert_eq!(
            exited_status(&runtime, &ends).await.exit_code,
            6,
            "whether it ended during the gap or after"
        );
        let status = runtime.container_status(&stays).await.expect("a status");
        assert_eq!(
            (status.state(), status.started_at),
            (v1::ContainerState::ContainerRunning, started)
        );
        let later = pod.start(Process::Ends(Duration::ZERO, 2)).await;
        assert_eq!(exit_of(&mut events, later.as_str()).await.0, 2, "events go on");
        assert_eq!(running(&managed, None).await, second);
    });
}

#[test]
fn a_containerd_that_runs_already_is_taken_over() {
    alone(async |ground| {
        let (managed, runtime, env) = ground.start().await;
        let pod = Pod::run(&runtime, &env).await;
        let id = pod.start(Process::Runs).await;
        let pid = running(&managed, None).await;
        drop(managed);
        for pid_file_lost in [false, true] {
            if pid_file_lost {
                fs::remove_file(ground.config().state.join("containerd.pid")).expect("it was written");
            }
            let again = Managed::start(ground.config()).await.expect("it runs");
            assert_eq!(running(&again, None).await, pid);
        }
        let again = Managed::start(ground.config()).await.expect("it runs");
        signal(pid, Signal::SIGKILL);
        running(&again, Some(pid)).await;
        answering(&*runtime).await;
        let status = runtime.container_status(&id).await.expect("a status");
        assert_eq!(status.state(), v1::ContainerState::ContainerRunning);
    });
}

#[test]
fn a_teardown_leaves_another_containerd_alone_and_finds_what_a_dead_one_left() {
    alone(async |ground| {
        let other = Arc::new(Ground::new());
        let (_managed, runtime, env) = ground.start().await;
        let pod = Pod::run(&runtime, &env).await;
        let id = pod.start(Process::Stubborn).await;

        let (managed, others, env) = other.start().await;
        let pod = Pod::run(&others, &env).await;
        pod.start(Process::Stubborn).await;
        let pid = running(&managed, None).await;
        // Unsupervised and dead: only the shims and what they hold are left.
        drop(managed);
        signal(pid, Signal::SIGKILL);
        drop((others, env, pod));
        let archives = [other.path("shell.tar"), other.path("containerd.log")];
        assert!(archives.iter().all(|path| path.exists()));
        Arc::into_inner(other).expect("nobody uses it").clear().await;

        let status = runtime.container_status(&id).await.expect("a status");
        assert_eq!(status.state(), v1::ContainerState::ContainerRunning);
        tear_down(&ground.config()).await.expect("everything goes");
        tear_down(&ground.config()).await.expect("again is fine");
    });
}

#[test]
fn a_program_that_is_absent_or_no_containerd_is_named() {
    alone(async |ground| {
        let absent = ManagedConfig {
            program: "/no/such/containerd".into(),
            ..ground.config()
        };
        let error = Managed::start(absent).await.expect_err("absent").to_string();
        assert!(
            error.contains("/no/such/containerd") && error.contains("apt-get install containerd"),
            "{error}"
        );
        let other = ManagedConfig {
            program: "true".into(),
            ..ground.config()
        };
        let error = Managed::start(other).await.expect_err("no containerd").to_string();
        assert!(error.contains("1.6 or later is needed"), "{error}");
        assert!(!ground.config().state.exists(), "nothing was made");
    });
}

#[test]
fn a_containerd_that_is_installed_later_is_started_then() {
    alone(async |ground| {
        let program = ground.path("containerd");
        let managed = Managed::keep(ManagedConfig {
            program: program.clone(),
            ..ground.config()
        });
        let mut state = managed.state();
        let named = |state: &ManagedState| matches!(state, ManagedState::Down { reason } if reason.contains("apt-get install containerd"));
        timeout(DEADLINE, state.wait_for(named))
            .await
            .expect("it says so")
            .expect("it is supervised");
        std::os::unix::fs::symlink("/usr/bin/containerd", &program).expect("a link");
        running(&managed, None).await;
        answering(&CriClient::connect(&managed.endpoint()).expect("an endpoint")).await;
    });
}

#[test]
fn a_process_killed_for_want_of_memory_is_an_event_and_a_reason() {
    alone(async |ground| {
        let (_managed, runtime, env) = ground.start().await;
        let mut events = subscribed(&runtime).await;
        let pod = Pod::run(&runtime, &env).await;
        let mut config = pod.container(&["tail", "/dev/zero"]);
        config.linux.get_or_insert_default().resources = Some(v1::LinuxContainerResources {
            memory_limit_in_bytes: 16 << 20,
            ..v1::LinuxContainerResources::default()
        });
        let id = runtime
            .create_container(&pod.id, &config, &pod.config)
            .await
            .expect("a container");
        runtime.start_container(&id).await.expect("it starts");
        let oom = RuntimeEvent::OutOfMemory { id: id.to_string() };
        event(&mut events, |event| *event == oom).await;
        assert_eq!(exit_of(&mut events, id.as_str()).await.0, 137);
        assert_eq!(exited_status(&runtime, &id).await.reason, "OOMKilled");
    });
}

#[test]
fn an_image_survives_garbage_collection_before_its_first_use() {
    alone(async |ground| {
        let (_managed, runtime, env) = ground.start().await;
        let docker = docker_archive(&ground, "bosun.test/saved:1");
        assert_eq!(
            runtime.import_images(&docker).await.expect("imported"),
            ["bosun.test/saved:1"]
        );
        runtime.import_images(&env.archive).await.expect("imported");
        // CRI removes an image by a deletion that waits for the collector.
        runtime.remove_image("bosun.test/imported:1").await.expect("it goes");
        let env = Env {
            image: "bosun.test/saved:1".to_owned(),
            ..(*env).clone()
        };
        let pod = Pod::run(&runtime, &Arc::new(env)).await;
        let id = pod.start(Process::Ends(Duration::ZERO, 5)).await;
        assert_eq!(exited_status(&runtime, &id).await.exit_code, 5);
    });
}

/// The shell's image in the form of `docker save`.
fn docker_archive(ground: &Ground, name: &str) -> PathBuf {
    let image = shell_image(name);
    let mut layer = tar::Builder::new(Vec::new());
    for entry in &image.files {
        let mut header = tar::Header::new_gnu();
        header.set_mode(entry.mode);
        match &entry.content {
            Content::File(bytes) => {
                header.set_size(bytes.len() as u64);
                layer
                    .append_data(&mut header, &entry.path, &bytes[..])
                    .expect("an entry");
            }
            Content::Symlink(target) => {
                header.set_entry_type(tar::EntryType::Symlink);
                header.set_size(0);
                layer.append_link(&mut header, &entry.path, target).expect("an entry");
            }
            Content::Directory => {}
        }
    }
    let layer = layer.into_inner().expect("a layer");
    let diff_id = sha2::Sha256::digest(&layer)
        .iter()
        .fold("sha256:".to_owned(), |id, byte| id + &format!("{byte:02x}"));
    let config = serde_json::json!({
        "architecture": image.architecture, "os": "linux",
        "config": {"Env": image.env, "Cmd": image.cmd},
        "rootfs": {"type": "layers", "diff_ids": [diff_id]},
    });
    let manifest = serde_json::json!([{"Config": "config.json", "RepoTags": [name], "Layers": ["l/layer.tar"]}]);
    let path = ground.path("docker.tar");
    let mut archive = tar::Builder::new(fs::File::create(&path).expect("a file"));
    for (name, content) in [
        ("config.json", config.to_string().into_bytes()),
        ("manifest.json", manifest.to_string().into_bytes()),
        ("l/layer.tar", layer),
    ] {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_size(content.len() as u64);
        archive.append_data(&mut header, name, &content[..]).expect("an entry");
    }
    archive.finish().expect("the end");
    path
}

#[test]
fn an_exit_is_known_before_the_status_shows_it() {
    const EXITS: usize = 10;
    alone(async |ground| {
        let (_managed, runtime, env) = ground.start().await;
        let mut events = subscribed(&runtime).await;
        let pod = Pod::run(&runtime, &env).await;
        let (mut to_event, mut to_status, mut calls) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..EXITS {
            let id = pod.start(Process::Ends(Duration::from_millis(100), 0)).await;
            let (_, at) = exit_of(&mut events, id.as_str()).await;
            let delay = jiff::Timestamp::now().duration_since(at);
            to_event.push(delay.as_micros());
            let before = Instant::now();
            exited_status(&runtime, &id).await;
            to_status.push(i128::try_from(before.elapsed().as_micros()).expect("small"));
            let before = Instant::now();
            runtime.version().await.expect("an answer");
            calls.push(i128::try_from(before.elapsed().as_micros()).expect("small"));
        }
        for times in [&mut to_event, &mut to_status, &mut calls] {
            times.sort_unstable();
        }
        let median = EXITS / 2;
        eprintln!(
            "exit to event {} us (worst {}), event to status {} us, a call {} us",
            to_event[median],
            to_event[EXITS - 1],
            to_status[median],
            calls[median]
        );
        assert!(to_event[median] < to_status[median], "the event is the quicker way");
    });
}

/// The containers, of a containerd that may just be starting.
async fn list(runtime: &dyn Runtime) -> Vec<String> {
    loop {
        answering(runtime).await;
        if let Ok(containers) = runtime.list_containers(None).await {
            return containers.into_iter().map(|container| container.id).collect();
        }
    }
}

/// How many times containerd is killed in one test: a few, or many with `./hack/test --soak`.
fn seeds() -> u64 {
    if std::env::var_os("BOSUN_SOAK").is_some() {
        300
    } else {
        8
    }
}

#[test]
fn every_exit_is_seen_though_containerd_is_killed_and_nothing_is_polled() {
    alone(async |ground| {
        let (managed, runtime, env) = ground.start().await;
        let mut events = subscribed(&runtime).await;
        let pod = Pod::run(&runtime, &env).await;
        for seed in 0..seeds() {
            let mut random = fastrand::Rng::with_seed(seed);
            let mut wanted = BTreeSet::new();
            answering(&*runtime).await;
            for _ in 0..4 {
                let id = pod
                    .start(Process::Ends(Duration::from_millis(random.u64(..900)), 1))
                    .await;
                wanted.insert(id.to_string());
            }
            tokio::time::sleep(Duration::from_millis(random.u64(..600))).await;
            signal(running(&managed, None).await, Signal::SIGKILL);

            // As the agent does it: by event, and by a listing after each resync. No other listing.
            let seen = async {
                while !wanted.is_empty() {
                    match events.recv().await.expect("the stream goes on") {
                        RuntimeEvent::Exited { id, .. } => drop(wanted.remove(&id)),
                        RuntimeEvent::Resync => {
                            // Killed again between the event and the call, there will be another.
                            for container in runtime.list_containers(None).await.unwrap_or_default() {
                                if container.state() == v1::ContainerState::ContainerExited {
                                    wanted.remove(&container.id);
                                }
                            }
                        }
                        _ => {}
                    }
                }
            };
            let seen = timeout(DEADLINE, seen).await;
            assert!(seen.is_ok(), "seed {seed}: nobody heard of the end of {wanted:?}");
            // Like an agent, with patience: a call may meet a shim whose connection just broke, and a container whose
            // end containerd missed as it started can't be removed until it was started once more.
            let removing = Instant::now();
            for container in list(&*runtime).await {
                let id = container.into();
                while let Err(error) = runtime.remove_container(&id).await {
                    eprintln!("seed {seed}: {error}");
                    assert!(removing.elapsed() < 2 * DEADLINE, "seed {seed}: {error}");
                    answering(&*runtime).await;
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
    });
}

#[test]
fn a_program_the_kernel_cannot_run_ends_with_an_error() {
    alone(async |ground| {
        let (_managed, runtime, env) = ground.start().await;
        let pod = Pod::run(&runtime, &env).await;
        let config = pod.container(&["/bin/garbage"]);
        let id = runtime
            .create_container(&pod.id, &config, &pod.config)
            .await
            .expect("a container");
        // runc notices when all is set up but the last step: the start has succeeded by then.
        let started = runtime.start_container(&id).await;
        let status = exited_status(&runtime, &id).await;
        assert_ne!(status.exit_code, 0);
        assert_eq!(status.reason, if started.is_ok() { "Error" } else { "StartError" });
        let log = ground.path("logs").join(&config.log_path);
        let log = fs::read_to_string(log).expect("a log");
        assert!(started.is_err() || log.contains("exec format error"), "{log:?}");
    });
}

#[test]
fn a_sandbox_whose_call_was_cut_off_can_be_had_again() {
    alone(async |ground| {
        let (_managed, runtime, env) = ground.start().await;
        for after in [1, 5, 20, 60, 120] {
            let config = contract::sandbox_config(&env, &format!("cut-off-{after}"));
            let _ = timeout(Duration::from_millis(after), runtime.run_sandbox(&config, "")).await;
            // As an agent would: remove what is listed under the name, try again while the name is taken.
            let deadline = Instant::now() + DEADLINE;
            let id = loop {
                let filter = v1::PodSandboxFilter {
                    label_selector: config.labels.clone(),
                    ..Default::default()
                };
                for sandbox in runtime.list_sandboxes(Some(filter)).await.expect("a list") {
                    runtime.remove_sandbox(&sandbox.id.into()).await.expect("it goes");
                }
                match runtime.run_sandbox(&config, "").await {
                    Ok(id) => break id,
                    Err(error) => assert_eq!(error.kind, ErrorKind::AlreadyExists, "{error}"),
                }
                assert!(Instant::now() < deadline, "the name is never free again");
                tokio::time::sleep(Duration::from_millis(20)).await;
            };
            runtime.remove_sandbox(&id).await.expect("it goes");
        }
    });
}

/// The shim that serves a sandbox of this test's containerd.
fn shim_of(ground: &Ground, sandbox: &str) -> u32 {
    let socket = ground.config().socket.display().to_string();
    let wanted = |pid: &u32| {
        let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let arguments: Vec<_> = bytes.split(|byte| *byte == 0).collect();
        arguments.contains(&socket.as_bytes()) && arguments.contains(&sandbox.as_bytes())
    };
    let pids = fs::read_dir("/proc").expect("/proc").flatten();
    pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .find(wanted)
        .expect("it has a shim")
}

#[test]
fn a_shim_that_stands_still_holds_up_its_own_pod_only() {
    alone(async |ground| {
        let (_managed, runtime, env) = ground.start().await;
        let mut events = subscribed(&runtime).await;
        let (stuck, free) = (Pod::run(&runtime, &env).await, Pod::run(&runtime, &env).await);
        let held = stuck.start(Process::Runs).await;
        let shim = shim_of(&ground, stuck.id.as_str());
        signal(shim, Signal::SIGSTOP);

        let before = Instant::now();
        let hanging = runtime.stop_container(&held, Duration::from_secs(1));
        tokio::pin!(hanging);
        assert!(
            timeout(Duration::from_millis(200), &mut hanging).await.is_err(),
            "it hangs"
        );
        let id = free.start(Process::Ends(Duration::from_millis(100), 3)).await;
        assert_eq!(exit_of(&mut events, id.as_str()).await.0, 3);
        runtime.list_containers(None).await.expect("a list");
        free.remove().await;
        assert!(
            before.elapsed() < Duration::from_secs(5),
            "another pod's life took {:?}",
            before.elapsed()
        );
        assert_eq!(hanging.await.expect_err("it hung").kind, ErrorKind::DeadlineExceeded);

        signal(shim, Signal::SIGCONT);
        runtime
            .stop_container(&held, Duration::from_secs(1))
            .await
            .expect("it stops");
        assert_eq!(
            exited_status(&runtime, &held).await.state(),
            v1::ContainerState::ContainerExited
        );
        stuck.remove().await;
    });
}
