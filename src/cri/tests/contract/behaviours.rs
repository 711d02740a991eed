//! What every [`Runtime`] does. Each function is one behaviour; a runtime is held to all of [`behaviours!`].

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use bosun_api::{ContainerId, SandboxId};
use bosun_cri::{ErrorKind, Runtime, RuntimeEvent, v1};
use tokio::{
    sync::mpsc,
    time::{Instant, timeout},
};

/// Calls `$callback!` with the names of all behaviours.
macro_rules! behaviours {
    ($callback:ident) => {
        $callback! {
            it_says_what_it_is_and_that_it_is_ready,
            a_sandbox_lives_from_ready_to_gone,
            a_sandbox_name_is_taken_until_the_sandbox_is_removed,
            removing_a_running_sandbox_ends_and_removes_its_containers,
            stopping_a_sandbox_kills_its_containers_and_says_so,
            what_is_gone_is_not_found_and_taking_it_away_again_succeeds,
            a_container_lives_from_created_to_exited,
            an_exit_is_an_event_with_its_code_and_time,
            a_container_name_is_taken_until_the_container_is_removed,
            a_container_is_started_once,
            a_container_told_to_end_ends_within_its_grace,
            a_container_that_does_not_listen_is_killed_after_its_grace,
            a_running_container_can_be_removed,
            a_container_can_be_removed_as_soon_as_its_end_is_known,
            a_container_that_cannot_start_has_exited_with_the_reason,
            a_container_needs_its_image_and_a_running_sandbox,
            lists_are_narrowed_by_labels_state_and_sandbox,
            a_command_in_a_container_gives_its_output_and_code,
            a_command_that_takes_too_long_is_ended,
            the_end_of_a_command_is_not_the_end_of_its_container,
            every_subscriber_gets_every_event_after_a_resync,
            an_imported_image_is_found_by_name_and_id_until_it_is_removed,
        }
    };
}
pub(crate) use behaviours;

/// How the main process of a container is to behave.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Process {
    /// Runs on, and ends at once with code 143 when told to.
    Runs,
    /// Runs on, and does not listen.
    Stubborn,
    /// Ends by itself.
    Ends(Duration, i32),
    /// There is no such program.
    Missing,
}

impl Process {
    fn command(&self) -> Vec<String> {
        let shell = |script: String| ["sh".to_owned(), "-c".to_owned(), script].into();
        match self {
            Self::Runs => shell("trap 'exit 143' TERM; while :; do sleep 1000 & wait; done".to_owned()),
            Self::Stubborn => shell("trap '' TERM; while :; do sleep 1000; done".to_owned()),
            Self::Ends(after, code) => shell(format!("sleep {}; exit {code}", after.as_secs_f32())),
            Self::Missing => vec!["/no/such/program".to_owned()],
        }
    }
}

/// Tells a fake how the containers of this name are to behave; a real one runs the command.
type Prepare = dyn Fn(&str, &Process) + Send + Sync;

/// What the runtime under test needs from outside.
#[derive(Clone)]
pub(crate) struct Env {
    /// An image with a shell, present.
    pub(crate) image: String,
    /// An archive of an image `bosun.test/imported:1`, not imported.
    pub(crate) archive: std::path::PathBuf,
    pub(crate) cgroup_parent: String,
    pub(crate) log_directory: String,
    /// Told before a container is created.
    pub(crate) prepare: Arc<Prepare>,
}

/// Longer than anything here takes on a busy machine.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// A name nobody else in this process uses.
fn unique(what: &str) -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("{what}-{}", COUNT.fetch_add(1, Ordering::Relaxed))
}

fn host_network() -> v1::NamespaceOption {
    v1::NamespaceOption {
        network: v1::NamespaceMode::Node.into(),
        pid: v1::NamespaceMode::Container.into(),
        ..v1::NamespaceOption::default()
    }
}

pub(crate) fn sandbox_config(env: &Env, name: &str) -> v1::PodSandboxConfig {
    v1::PodSandboxConfig {
        metadata: Some(v1::PodSandboxMetadata {
            name: name.to_owned(),
            uid: format!("uid-{name}"),
            namespace: "contract".to_owned(),
            attempt: 0,
        }),
        log_directory: env.log_directory.clone(),
        labels: HashMap::from([("pod".to_owned(), name.to_owned())]),
        linux: Some(v1::LinuxPodSandboxConfig {
            cgroup_parent: env.cgroup_parent.clone(),
            security_context: Some(v1::LinuxSandboxSecurityContext {
                namespace_options: Some(host_network()),
                ..v1::LinuxSandboxSecurityContext::default()
            }),
            ..v1::LinuxPodSandboxConfig::default()
        }),
        ..v1::PodSandboxConfig::default()
    }
}

fn container_config(env: &Env, name: &str, process: &Process) -> v1::ContainerConfig {
    (env.prepare)(name, process);
    v1::ContainerConfig {
        metadata: Some(v1::ContainerMetadata {
            name: name.to_owned(),
            attempt: 0,
        }),
        image: Some(v1::ImageSpec {
            image: env.image.clone(),
            ..v1::ImageSpec::default()
        }),
        command: process.command(),
        log_path: format!("{name}.log"),
        labels: HashMap::from([("container".to_owned(), name.to_owned())]),
        linux: Some(v1::LinuxContainerConfig {
            security_context: Some(v1::LinuxContainerSecurityContext {
                namespace_options: Some(host_network()),
                ..v1::LinuxContainerSecurityContext::default()
            }),
            ..v1::LinuxContainerConfig::default()
        }),
        ..v1::ContainerConfig::default()
    }
}

/// A sandbox to put containers in.
pub(crate) struct Pod {
    runtime: Arc<dyn Runtime>,
    env: Arc<Env>,
    pub(crate) config: v1::PodSandboxConfig,
    pub(crate) id: SandboxId,
}

impl Pod {
    pub(crate) async fn run(runtime: &Arc<dyn Runtime>, env: &Arc<Env>) -> Self {
        let config = sandbox_config(env, &unique("pod"));
        let id = runtime.run_sandbox(&config, "").await.expect("a sandbox");
        Self {
            runtime: runtime.clone(),
            env: env.clone(),
            config,
            id,
        }
    }

    pub(crate) async fn create(&self, process: Process) -> ContainerId {
        let config = container_config(&self.env, &unique("container"), &process);
        self.runtime
            .create_container(&self.id, &config, &self.config)
            .await
            .expect("a container")
    }

    pub(crate) async fn start(&self, process: Process) -> ContainerId {
        let id = self.create(process).await;
        self.runtime.start_container(&id).await.expect("it starts");
        id
    }

    /// What a container that runs `command` is made from.
    #[allow(dead_code, reason = "a fake runs no commands")]
    pub(crate) fn container(&self, command: &[&str]) -> v1::ContainerConfig {
        let mut config = container_config(&self.env, &unique("container"), &Process::Runs);
        config.command = command.iter().map(|part| (*part).to_owned()).collect();
        config
    }

    pub(crate) async fn remove(self) {
        self.runtime.remove_sandbox(&self.id).await.expect("it goes");
    }
}

/// The next event that `wanted` accepts.
pub(crate) async fn event(
    rx: &mut mpsc::Receiver<RuntimeEvent>,
    wanted: impl Fn(&RuntimeEvent) -> bool,
) -> RuntimeEvent {
    let next = async {
        loop {
            let event = rx.recv().await.expect("the stream goes on");
            if wanted(&event) {
                return event;
            }
        }
    };
    timeout(DEADLINE, next).await.expect("the event comes")
}

/// Code and time of this container's or sandbox's end.
pub(crate) async fn exit_of(rx: &mut mpsc::Receiver<RuntimeEvent>, id: &str) -> (i32, jiff::Timestamp) {
    let exit = event(
        rx,
        |event| matches!(event, RuntimeEvent::Exited { id: of, .. } if of == id),
    )
    .await;
    let RuntimeEvent::Exited {
        exit_code, finished_at, ..
    } = exit
    else {
        unreachable!("just matched")
    };
    (exit_code, finished_at)
}

/// A subscription that stands.
pub(crate) async fn subscribed(runtime: &Arc<dyn Runtime>) -> mpsc::Receiver<RuntimeEvent> {
    let mut rx = runtime.subscribe();
    let first = timeout(DEADLINE, rx.recv())
        .await
        .expect("it stands")
        .expect("the stream goes on");
    assert_eq!(first, RuntimeEvent::Resync, "nothing comes before it");
    rx
}

/// The status once it shows an exit: it may lag behind the event.
pub(crate) async fn exited_status(runtime: &Arc<dyn Runtime>, id: &ContainerId) -> v1::ContainerStatus {
    let deadline = Instant::now() + DEADLINE;
    loop {
        let status = runtime.container_status(id).await.expect("a status");
        if status.state() == v1::ContainerState::ContainerExited {
            return status;
        }
        assert!(Instant::now() < deadline, "still {:?}", status.state());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn kind<T: std::fmt::Debug>(result: Result<T, bosun_cri::Error>) -> ErrorKind {
    result.expect_err("it fails").kind
}

pub(crate) async fn it_says_what_it_is_and_that_it_is_ready(runtime: Arc<dyn Runtime>, _env: Arc<Env>) {
    let info = runtime.version().await.expect("a version");
    assert!(!info.name.is_empty() && !info.version.is_empty(), "{info:?}");
    let status = runtime.status().await.expect("a status");
    let ready = status
        .conditions
        .iter()
        .find(|condition| condition.r#type == "RuntimeReady");
    assert!(ready.is_some_and(|condition| condition.status), "{status:?}");
}

pub(crate) async fn a_sandbox_lives_from_ready_to_gone(runtime: Arc<dyn Runtime>, env: Arc<Env>) {
    let pod = Pod::run(&runtime, &env).await;
    let status = runtime.sandbox_status(&pod.id).await.expect("a status");
    assert_eq!(status.state(), v1::PodSandboxState::SandboxReady);
    assert_eq!(status.metadata, pod.config.metadata);
    assert_eq!(status.labels, pod.config.labels);
    assert!(status.created_at > 0);

    runtime.stop_sandbox(&pod.id).await.expect("it stops");
    let status = runtime.sandbox_status(&pod.id).await.expect("a status");
    assert_eq!(status.state(), v1::PodSandboxState::SandboxNotready);
    let filter = v1::PodSandboxFilter {
        label_selector: pod.config.labels.clone(),
        ..v1::PodSandboxFilter::default()
    };
    let listed = runtime.list_sandboxes(Some(filter.clone())).await.expect("a list");
    assert_eq!(
        listed.iter().map(|sandbox| sandbox.id.as_str()).collect::<Vec<_>>(),
        [pod.id.as_str()]
    );
    assert_eq!(listed[0].state(), v1::PodSandboxState::SandboxNotready);

    runtime.remove_sandbox(&pod.id).await.expect("it goes");
    assert_eq!(kind(runtime.sandbox_status(&pod.id).await), ErrorKind::NotFound);
    assert_eq!(runtime.list_sandboxes(Some(filter)).await.expect("a list"), []);
}

pub(crate) async fn a_sandbox_name_is_taken_until_the_sandbox_is_removed(runtime: Arc<dyn Runtime>, env: Arc<Env>) {
    let pod = Pod::run(&runtime, &env).await;
    assert_eq!(
        kind(runtime.run_sandbox(&pod.config, "").await),
        ErrorKind::AlreadyExists
    );
    runtime.stop_sandbox(&pod.id).await.expect("it stops");
    assert_eq!(
        kind(runtime.run_sandbox(&pod.config, "").await),
        ErrorKind::AlreadyExists
    );
    let mut next = pod.config.clone();
    next.metadata.as_mut().expect("set").attempt = 1;
    let second = runtime
        .run_sandbox(&next, "")
        .await
        .expect("the next attempt is another name");
    runtime.remove_sandbox(&pod.id).await.expect("it goes");
    let third = runtime.run_sandbox(&pod.config, "").await.expect("the name is free");
    for id in [second, third] {
        runtime.remove_sandbox(&id).await.expect("it goes");
    }
}

pub(crate) async fn removing_a_running_sandbox_ends_and_removes_its_containers(
    runtime: Arc<dyn Runtime>,
    env: Arc<Env>,
) {
    let mut events = subscribed(&runtime).await;
    let pod = Pod::run(&runtime, &env).await;
    let container = pod.start(Process::Stubborn).await;
    runtime.remove_sandbox(&pod.id).await.expect("it goes");
    assert_eq!(exit_of(&mut events, container.as_str()).await.0, 137);
    let removed = RuntimeEvent::Removed {
        id: container.to_string(),
    };
    event(&mut events, |event| *event == removed).await;
    let removed = RuntimeEvent::Removed { id: pod.id.to_string() };
    event(&mut events, |event| *event == removed).await;
    assert_eq!(kind(runtime.container_status(&container).await), ErrorKind::NotFound);
}

pub(crate) async fn stopping_a_sandbox_kills_its_containers_and_says_so(runtime: Arc<dyn Runtime>, env: Arc<Env>) {
    let mut events = subscribed(&runtime).await;
    let pod = Pod::run(&runtime, &env).await;
    let container = pod.start(Process::Stubborn).await;
    runtime.stop_sandbox(&pod.id).await.expect("it stops");
    assert_eq!(exit_of(&mut events, container.as_str()).await.0, 137);
    assert_eq!(exit_of(&mut events, pod.id.as_str()).await.0, 137);
    assert_eq!(exited_status(&runtime, &container).await.exit_code, 137);
    pod.remove().await;
}

pub(crate) async fn what_is_gone_is_not_found_and_taking_it_away_again_succeeds(
    runtime: Arc<dyn Runtime>,
    env: Arc<Env>,
) {
    let sandbox = SandboxId::from("0".repeat(64));
    let container = ContainerId::from("0".repeat(64));
    for _ in 0..2 {
        runtime.stop_sandbox(&sandbox).await.expect("fine");
        runtime.remove_sandbox(&sandbox).await.expect("fine");
        runtime
            .stop_container(&container, Duration::from_secs(1))
            .await
            .expect("fine");
        runtime.remove_container(&container).await.expect("fine");
        runtime.remove_image("bosun.test/absent:1").await.expect("fine");
    }
    assert_eq!(kind(runtime.sandbox_status(&sandbox).await), ErrorKind::NotFound);
    assert_eq!(kind(runtime.container_status(&container).await), ErrorKind::NotFound);
    assert_eq!(kind(runtime.start_container(&container).await), ErrorKind::NotFound);
    let command = ["true".to_owned()];
    assert_eq!(
        kind(runtime.exec(&container, &command, Duration::from_secs(1)).await),
        ErrorKind::NotFound
    );
    assert_eq!(kind(runtime.reopen_log(&container).await), ErrorKind::NotFound);
    let config = container_config(&env, "nowhere", &Process::Runs);
    let created = runtime
        .create_container(&sandbox, &config, &sandbox_config(&env, "nowhere"))
        .await;
    assert_eq!(kind(created), ErrorKind::NotFound);
}

pub(crate) async fn a_container_lives_from_created_to_exited(runtime: Arc<dyn Runtime>, env: Arc<Env>) {
    let pod = Pod::run(&runtime, &env).await;
    for (code, reason) in [(0, "Completed"), (3, "Error")] {
        let id = pod.create(Process::Ends(Duration::from_millis(300), code)).await;
        let status = runtime.container_status(&id).await.expect("a status");
        assert_eq!(status.state(), v1::ContainerState::ContainerCreated);
        assert!(status.created_at > 0 && status.started_at == 0 && status.finished_at == 0);
        assert!(status.image_ref.contains("sha256:"), "{}", status.image_ref);

        runtime.start_container(&id).await.expect("it starts");
        let status = runtime.container_status(&id).await.expect("a status");
        assert_eq!(status.state(), v1::ContainerState::ContainerRunning);
        runtime.reopen_log(&id).await.expect("its log is there");
        assert!(status.started_at >= status.created_at && status.finished_at == 0);

        let status = exited_status(&runtime, &id).await;
        assert_eq!((status.exit_code, status.reason.as_str()), (code, reason));
        assert!(status.finished_at > status.started_at);
    }
    pod.remove().await;
}

pub(crate) async fn an_exit_is_an_event_with_its_code_and_time(runtime: Arc<dyn Runtime>, env: Arc<Env>) {
    let mut events = subscribed(&runtime).await;
    let pod = Pod::run(&runtime, &env).await;
    let id = pod.start(Process::Ends(Duration::from_millis(100), 7)).await;
    let (code, at) = exit_of(&mut events, id.as_str()).await;
    assert_eq!(code, 7);
    let status = exited_status(&runtime, &id).await;
    assert_eq!(
        i128::from(status.finished_at),
        at.as_nanosecond(),
        "status and event agree"
    );
    runtime.remove_container(&id).await.expect("it goes");
    let removed = RuntimeEvent::Removed { id: id.to_string() };
    let next = event(&mut events, |event| {
        *event == removed || matches!(event, RuntimeEvent::Exited { id: of, .. } if of == id.as_str())
    });
    assert_eq!(next.await, removed, "an exit is reported once");
    pod.remove().await;
}

pub(crate) async fn a_container_name_is_taken_until_the_container_is_removed(runtime: Arc<dyn Runtime>, env: Arc<Env>) {
    let pod = Pod::run(&runtime, &env).await;
    let config = container_config(&env, &unique("container"), &Process::Runs);
    let id = runtime
        .create_container(&pod.id, &config, &pod.config)
        .await
        .expect("a container");
    let again = runtime.create_container(&pod.id, &config, &pod.config).await;
    assert_eq!(kind(again), ErrorKind::AlreadyExists);
    runtime.remove_container(&id).await.expect("it goes");
    runtime
        .create_container(&pod.id, &config, &pod.config)
        .await
        .expect("the name is free");
    pod.remove().await;
}

pub(crate) async fn a_container_is_started_once(runtime: Arc<dyn Runtime>, env: Arc<Env>) {
    let pod = Pod::run(&runtime, &env).await;
    let id = pod.start(Process::Ends(Duration::from_millis(200), 0)).await;
    assert_eq!(kind(runtime.start_container(&id).await), ErrorKind::Failed);
    exited_status(&runtime, &id).await;
    assert_eq!(kind(runtime.start_container(&id).await), ErrorKind::Failed);
    pod.remove().await;
}

pub(crate) async fn a_container_told_to_end_ends_within_its_grace(runtime: Arc<dyn Runtime>, env: Arc<Env>) {
    let mut events = subscribed(&runtime).await;
    let pod = Pod::run(&runtime, &env).await;
    let id = pod.start(Process::Runs).await;
    // The shell must have set its trap; it has when a command beside it runs.
    exec(&runtime, &id, &["sh", "-c", "true"]).await.expect("it runs");
    let before = Instant::now();
    runtime.stop_container(&id, DEADLINE).await.expect("it stops");
    assert!(before.elapsed() < DEADLINE, "it was not killed");
    assert_eq!(exit_of(&mut events, id.as_str()).await.0, 143);
    runtime.stop_container(&id, DEADLINE).await.expect("again is fine");
    pod.remove().await;
}

pub(crate) async fn a_container_that_does_not_listen_is_killed_after_its_grace(
    runtime: Arc<dyn Runtime>,
    env: Arc<Env>,
) {
    let mut events = subscribed(&runtime).await;
    let pod = Pod::run(&runtime, &env).await;
    let id = pod.start(Process::Stubborn).await;
    let before = Instant::now();
    runtime
        .stop_container(&id, Duration::from_secs(1))
        .await
        .expect("it stops");
    assert!(before.elapsed() >= Duration::from_secs(1), "not before");
    assert_eq!(exit_of(&mut events, id.as_str()).await.0, 137);
    assert_eq!(exited_status(&runtime, &id).await.exit_code, 137);

    let id = pod.start(Process::Stubborn).await;
    runtime.stop_container(&id, Duration::ZERO).await.expect("it stops");
    assert_eq!(exit_of(&mut events, id.as_str()).await.0, 137);
    pod.remove().await;
}

pub(crate) async fn a_running_container_can_be_removed(runtime: Arc<dyn Runtime>, env: Arc<Env>) {
    let mut events = subscribed(&runtime).await;
    let pod = Pod::run(&runtime, &env).await;
    let id = pod.start(Process::Stubborn).await;
    runtime.remove_container(&id).await.expect("it goes");
    assert_eq!(exit_of(&mut events, id.as_str()).await.0, 137);
    let removed = RuntimeEvent::Removed { id: id.to_string() };
    event(&mut events, |event| *event == removed).await;
    assert_eq!(kind(runtime.container_status(&id).await), ErrorKind::NotFound);
    pod.remove().await;
}

pub(crate) async fn a_container_can_be_removed_as_soon_as_its_end_is_known(runtime: Arc<dyn Runtime>, env: Arc<Env>) {
    let mut events = subscribed(&runtime).await;
    for delay in [0, 5, 10, 20, 40] {
        let pod = Pod::run(&runtime, &env).await;
        let (one, two) = (
            pod.start(Process::Ends(Duration::ZERO, 0)).await,
            pod.create(Process::Runs).await,
        );
        exit_of(&mut events, one.as_str()).await;
        tokio::time::sleep(Duration::from_millis(delay)).await;
        runtime.remove_container(&one).await.expect("it goes");
        runtime
            .remove_container(&two)
            .await
            .expect("one that never ran goes too");
        let last = pod.start(Process::Ends(Duration::ZERO, 0)).await;
        exit_of(&mut events, last.as_str()).await;
        tokio::time::sleep(Duration::from_millis(delay)).await;
        pod.remove().await;
    }
}

pub(crate) async fn a_container_that_cannot_start_has_exited_with_the_reason(runtime: Arc<dyn Runtime>, env: Arc<Env>) {
    let pod = Pod::run(&runtime, &env).await;
    let id = pod.create(Process::Missing).await;
    let error = runtime.start_container(&id).await.expect_err("it can't");
    assert_eq!(error.kind, ErrorKind::Failed);
    assert!(error.message.contains("no such file or directory"), "{error}");
    let status = runtime.container_status(&id).await.expect("a status");
    assert_eq!(status.state(), v1::ContainerState::ContainerExited);
    assert_eq!((status.exit_code, status.reason.as_str()), (128, "StartError"));
    assert!(status.started_at == 0 && status.finished_at > 0);
    assert!(
        status.message.contains("no such file or directory"),
        "{}",
        status.message
    );
    pod.remove().await;
}

pub(crate) async fn a_container_needs_its_image_and_a_running_sandbox(runtime: Arc<dyn Runtime>, env: Arc<Env>) {
    let pod = Pod::run(&runtime, &env).await;
    let config = container_config(&env, &unique("container"), &Process::Runs);
    let mut absent = config.clone();
    absent.image = Some(v1::ImageSpec {
        image: "bosun.test/absent:1".to_owned(),
        ..v1::ImageSpec::default()
    });
    let created = runtime.create_container(&pod.id, &absent, &pod.config).await;
    assert_eq!(kind(created), ErrorKind::NotFound);
    let id = runtime
        .create_container(&pod.id, &config, &pod.config)
        .await
        .expect("a failed one takes no name");
    runtime.remove_container(&id).await.expect("it goes");
    runtime.stop_sandbox(&pod.id).await.expect("it stops");
    let created = runtime.create_container(&pod.id, &config, &pod.config).await;
    assert_eq!(kind(created), ErrorKind::NotFound);
    pod.remove().await;
}

pub(crate) async fn lists_are_narrowed_by_labels_state_and_sandbox(runtime: Arc<dyn Runtime>, env: Arc<Env>) {
    let (one, two) = (Pod::run(&runtime, &env).await, Pod::run(&runtime, &env).await);
    let created = one.create(Process::Runs).await;
    let running = one.start(Process::Runs).await;
    let other = two.start(Process::Runs).await;
    let list = async |filter: v1::ContainerFilter| {
        let mut ids: Vec<_> = runtime.list_containers(Some(filter)).await.expect("a list");
        ids.sort_by_key(|container| container.created_at);
        ids.into_iter().map(|container| container.id).collect::<Vec<_>>()
    };
    let of = |pod: &Pod| v1::ContainerFilter {
        pod_sandbox_id: pod.id.to_string(),
        ..v1::ContainerFilter::default()
    };
    let in_state = |state: v1::ContainerState| Some(v1::ContainerStateValue { state: state.into() });

    assert_eq!(list(of(&one)).await, [created.as_str(), running.as_str()]);
    assert_eq!(list(of(&two)).await, [other.as_str()]);
    let state = in_state(v1::ContainerState::ContainerRunning);
    assert_eq!(
        list(v1::ContainerFilter { state, ..of(&one) }).await,
        [running.as_str()]
    );
    let status = runtime.container_status(&other).await.expect("a status");
    let label_selector = status.labels.clone();
    assert_eq!(
        list(v1::ContainerFilter {
            label_selector,
            ..v1::ContainerFilter::default()
        })
        .await,
        [other.as_str()]
    );
    let id = created.to_string();
    assert_eq!(
        list(v1::ContainerFilter {
            id,
            ..v1::ContainerFilter::default()
        })
        .await,
        [created.as_str()]
    );
    assert_eq!(
        list(v1::ContainerFilter {
            id: other.to_string(),
            ..of(&one)
        })
        .await,
        [] as [&str; 0]
    );
    let all = runtime.list_containers(None).await.expect("a list");
    assert!(
        [&created, &running, &other]
            .iter()
            .all(|id| all.iter().any(|listed| listed.id == id.as_str()))
    );

    runtime.stop_sandbox(&two.id).await.expect("it stops");
    let ready = v1::PodSandboxStateValue {
        state: v1::PodSandboxState::SandboxReady.into(),
    };
    let filter = v1::PodSandboxFilter {
        state: Some(ready),
        ..v1::PodSandboxFilter::default()
    };
    let ready = runtime.list_sandboxes(Some(filter)).await.expect("a list");
    assert!(ready.iter().any(|sandbox| sandbox.id == one.id.as_str()));
    assert!(ready.iter().all(|sandbox| sandbox.id != two.id.as_str()));
    one.remove().await;
    two.remove().await;
}

async fn exec(
    runtime: &Arc<dyn Runtime>,
    id: &ContainerId,
    command: &[&str],
) -> Result<bosun_cri::ExecOutput, bosun_cri::Error> {
    let command: Vec<_> = command.iter().map(|part| (*part).to_owned()).collect();
    runtime.exec(id, &command, DEADLINE).await
}

pub(crate) async fn a_command_in_a_container_gives_its_output_and_code(runtime: Arc<dyn Runtime>, env: Arc<Env>) {
    let pod = Pod::run(&runtime, &env).await;
    let id = pod.start(Process::Runs).await;
    let output = exec(&runtime, &id, &["sh", "-c", "echo out; echo err >&2; exit 3"])
        .await
        .expect("it runs");
    assert_eq!(
        (output.stdout.as_slice(), output.stderr.as_slice()),
        (&b"out\n"[..], &b"err\n"[..])
    );
    assert_eq!(output.exit_code, 3);
    runtime.stop_container(&id, DEADLINE).await.expect("it stops");
    exited_status(&runtime, &id).await;
    assert_eq!(
        kind(exec(&runtime, &id, &["sh", "-c", "true"]).await),
        ErrorKind::Failed
    );
    pod.remove().await;
}

pub(crate) async fn a_command_that_takes_too_long_is_ended(runtime: Arc<dyn Runtime>, env: Arc<Env>) {
    let pod = Pod::run(&runtime, &env).await;
    let id = pod.start(Process::Runs).await;
    let command = ["sleep", "600"].map(ToOwned::to_owned);
    let before = Instant::now();
    assert_eq!(
        kind(runtime.exec(&id, &command, Duration::from_secs(1)).await),
        ErrorKind::DeadlineExceeded
    );
    assert!(before.elapsed() >= Duration::from_secs(1));
    assert!(before.elapsed() < DEADLINE);
    pod.remove().await;
}

pub(crate) async fn the_end_of_a_command_is_not_the_end_of_its_container(runtime: Arc<dyn Runtime>, env: Arc<Env>) {
    let mut events = subscribed(&runtime).await;
    let pod = Pod::run(&runtime, &env).await;
    let id = pod.start(Process::Runs).await;
    exec(&runtime, &id, &["sh", "-c", "exit 9"]).await.expect("it runs");
    runtime.stop_container(&id, DEADLINE).await.expect("it stops");
    assert_eq!(
        exit_of(&mut events, id.as_str()).await.0,
        143,
        "the first exit is the container's own"
    );
    pod.remove().await;
}

pub(crate) async fn every_subscriber_gets_every_event_after_a_resync(runtime: Arc<dyn Runtime>, env: Arc<Env>) {
    let mut one = subscribed(&runtime).await;
    let pod = Pod::run(&runtime, &env).await;
    let mut two = subscribed(&runtime).await;
    drop(subscribed(&runtime).await);
    let id = pod.start(Process::Ends(Duration::from_millis(100), 4)).await;
    let first = exit_of(&mut one, id.as_str()).await;
    assert_eq!(exit_of(&mut two, id.as_str()).await, first);
    pod.remove().await;
}

pub(crate) async fn an_imported_image_is_found_by_name_and_id_until_it_is_removed(
    runtime: Arc<dyn Runtime>,
    env: Arc<Env>,
) {
    const NAME: &str = "bosun.test/imported:1";
    assert_eq!(runtime.image_status(NAME).await.expect("an answer"), None);
    for _ in 0..2 {
        let names = runtime.import_images(&env.archive).await.expect("it is imported");
        assert_eq!(names, [NAME]);
    }
    let image = runtime
        .image_status(NAME)
        .await
        .expect("an answer")
        .expect("it is there");
    assert!(image.repo_tags.contains(&NAME.to_owned()), "{image:?}");
    let by_id = runtime
        .image_status(&image.id)
        .await
        .expect("an answer")
        .expect("it is there");
    assert_eq!(by_id.id, image.id);
    let all = runtime.list_images().await.expect("a list");
    assert_eq!(all.iter().filter(|listed| listed.id == image.id).count(), 1);
    runtime.remove_image(NAME).await.expect("it goes");
    assert_eq!(runtime.image_status(NAME).await.expect("an answer"), None);
}
