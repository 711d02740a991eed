//! Whole lives of pods over the fake runtime, in paused time: manager, workers, probes, disk.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bosun_api::core::{Container, ExecAction, Lifecycle, LifecycleHandler, Pod, PodSpec};
use bosun_cri::{
    ErrorKind, FakeRuntime,
    fake::{ExecReply, Fault, Script},
    v1,
};
use jiff::Timestamp;
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
};

use super::super::*;
use crate::{
    cgroup::Cgroups,
    images::Images,
    node::{Board, Clock, Notice},
    places::Places,
    pod::backoff::Limits,
    pod::dns::ClusterDns,
    probe::Prober,
    routes::Routes,
};

const IMAGE: &str = "demo:1";

struct World {
    runtime: FakeRuntime,
    node: Arc<Node>,
    pod_tx: mpsc::Sender<PodEvent>,
    _tasks: JoinSet<()>,
    _sandbox_image_tx: watch::Sender<Result<(), String>>,
    temp: Arc<tempfile::TempDir>,
}

impl World {
    async fn new() -> Self {
        let runtime = FakeRuntime::starting_at(start());
        runtime.add_image(IMAGE);
        let world = Self::over(runtime, Arc::new(tempfile::tempdir().unwrap()));
        world.tell(PodEvent::Synced(Source::File)).await;
        world
            .until("the first look at what is there", |world| {
                world.calls("ListContainers") > 0
            })
            .await;
        world
    }

    /// An agent over this runtime and these directories.
    fn over(runtime: FakeRuntime, temp: Arc<tempfile::TempDir>) -> Self {
        let shared: Arc<dyn bosun_cri::Runtime> = Arc::new(runtime.clone());
        let (sandbox_image_tx, sandbox_image) = watch::channel(Ok(()));
        let at = |name: &str| temp.path().join(name);
        let node = Arc::new(Node {
            name: "n1".into(),
            places: Places {
                data: at("data"),
                root: at("root"),
                logs: at("logs"),
                run: at("run"),
            },
            cgroups: Cgroups::unkept(),
            clock: Clock::starting_at(start()),
            limits: Limits::with_max(Duration::from_secs(300)),
            images: Images::default(),
            managed: None,
            sandbox_image,
            prober: Prober::new(shared.clone()),
            routes: Routes::default(),
            board: Board::default(),
            supply: None,
            host_addresses: vec![],
            allocatable_milli_cpu: 2000,
            dns: ClusterDns::default(),
            allocatable_memory: 1 << 30,
            runtime: shared,
        });
        let (pod_tx, pod_rx) = mpsc::channel(16);
        let events = node.runtime.subscribe();
        let sources = BTreeSet::from([Source::File]);
        let manager = Manager::new(node.clone(), pod_rx, sources, events, None);
        let mut tasks = JoinSet::new();
        tasks.spawn(manager.run());
        Self {
            runtime,
            node,
            pod_tx,
            _tasks: tasks,
            _sandbox_image_tx: sandbox_image_tx,
            temp,
        }
    }

    /// The agent is killed and starts again; the runtime and the disk are as they were.
    async fn restarted(self, pods: &[&Pod]) -> Self {
        let (runtime, temp) = (self.runtime.clone(), self.temp.clone());
        drop(self);
        let world = Self::over(runtime, temp);
        for pod in pods {
            world.want(pod).await;
        }
        world.tell(PodEvent::Synced(Source::File)).await;
        world
    }

    async fn tell(&self, event: PodEvent) {
        self.pod_tx.send(event).await.expect("the manager lives");
    }

    async fn want(&self, pod: &Pod) {
        let pod = Arc::new(pod.clone());
        let source = Source::File;
        self.tell(PodEvent::Put(Wanted { source, pod })).await;
    }

    async fn unwant(&self, pod: &Pod) {
        self.tell(PodEvent::Removed(pod_uid(pod))).await;
    }

    fn notice(&self, uid: &str) -> Option<Notice> {
        self.node
            .board
            .all()
            .into_iter()
            .find(|notice| notice.pod.metadata.uid.as_deref() == Some(uid))
    }

    /// `phase`, then each container as `name:state/restarts`.
    fn told(&self, uid: &str) -> String {
        let Some(notice) = self.notice(uid) else {
            return "nothing".into();
        };
        let mut words = vec![notice.status.phase.clone().unwrap_or_default()];
        for container in notice.status.container_statuses.iter().flatten() {
            let state = container.state.clone().unwrap_or_default();
            let state = match (state.running, state.waiting, state.terminated) {
                (Some(_), _, _) if container.ready => "ready".into(),
                (Some(_), _, _) => "running".into(),
                (_, Some(waiting), _) => waiting.reason.unwrap_or_default(),
                (_, _, Some(end)) => end.reason.unwrap_or_default(),
                _ => String::new(),
            };
            words.push(format!("{}:{state}/{}", container.name, container.restart_count));
        }
        words.join(" ")
    }

    async fn until(&self, what: &str, condition: impl Fn(&Self) -> bool) {
        let waited = tokio::time::timeout(Duration::from_secs(1200), async {
            while !condition(self) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        if waited.await.is_err() {
            let told: Vec<_> = self.node.board.all().into_iter().map(|notice| notice.status).collect();
            panic!("never came: {what}; told is {told:#?}");
        }
    }

    async fn until_told(&self, uid: &str, expected: &str) {
        self.until(&format!("{uid} {expected:?}"), |world| world.told(uid) == expected)
            .await;
    }

    async fn container(&self, name: &str) -> v1::Container {
        let mut all = self.node.runtime.list_containers(None).await.expect("a list");
        all.retain(|container| container.labels[labels::CONTAINER_NAME] == name);
        all.sort_by_key(|container| std::cmp::Reverse(container.metadata.as_ref().map(|metadata| metadata.attempt)));
        all.into_iter().next().expect("a container of this name")
    }

    fn calls(&self, name: &str) -> usize {
        self.runtime.calls().iter().filter(|call| call.name == name).count()
    }

    async fn nothing_is_left(&self, uid: &str) {
        self.until(&format!("{uid} gone"), |world| world.notice(uid).is_none())
            .await;
        assert!(self.node.runtime.list_sandboxes(None).await.unwrap().is_empty());
        assert!(self.node.runtime.list_containers(None).await.unwrap().is_empty());
        let places = &self.node.places;
        assert!(!places.pod(&uid.into()).exists());
        assert!(!places.checkpoint(&uid.into()).exists());
        for directory in [places.logs.join("pods"), places.logs.join("containers")] {
            let left: Vec<_> = std::fs::read_dir(&directory).into_iter().flatten().flatten().collect();
            assert!(left.is_empty(), "{left:?}");
        }
    }
}

fn start() -> Timestamp {
    Timestamp::from_second(1_800_000_000).expect("a time in range")
}

fn pod(name: &str, uid: &str, restart_policy: &str) -> Pod {
    let mut pod = Pod::default();
    pod.metadata.name = Some(name.into());
    pod.metadata.namespace = Some("default".into());
    pod.metadata.uid = Some(uid.into());
    pod.spec = Some(PodSpec {
        restart_policy: Some(restart_policy.into()),
        containers: vec![Container {
            name: name.into(),
            image: Some(IMAGE.into()),
            image_pull_policy: Some("IfNotPresent".into()),
            ..Container::default()
        }],
        ..PodSpec::default()
    });
    pod
}

#[tokio::test(start_paused = true)]
async fn a_pod_starts_is_restarted_at_once_and_leaves_nothing() {
    let world = World::new().await;
    let web = pod("web", "u1", "Always");
    world.want(&web).await;
    world.until_told("u1", "Running web:ready/0").await;
    let first = world.container("web").await;
    world.runtime.exit(&first.id.clone().into(), 3);
    world.until_told("u1", "Running web:ready/1").await;
    let last = world
        .notice("u1")
        .unwrap()
        .status
        .container_statuses
        .unwrap()
        .remove(0)
        .last_state
        .unwrap();
    assert_eq!(last.terminated.unwrap().exit_code, 3);
    world.unwant(&web).await;
    world.nothing_is_left("u1").await;
    assert_eq!(world.calls("RunPodSandbox"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_container_is_ready_once_its_post_start_hook_is_done() {
    let world = World::new().await;
    world.runtime.on_exec(|_, _| ExecReply {
        after: Duration::from_secs(5),
        output: bosun_cri::ExecOutput::default(),
    });
    let mut web = pod("web", "u1", "Always");
    web.spec.as_mut().unwrap().containers[0].lifecycle = Some(Lifecycle {
        post_start: Some(LifecycleHandler {
            exec: Some(ExecAction {
                command: Some(vec!["warm-up".into()]),
            }),
            ..LifecycleHandler::default()
        }),
        ..Lifecycle::default()
    });
    world.want(&web).await;
    world.until_told("u1", "Running web:running/0").await;
    let before = tokio::time::Instant::now();
    world.until_told("u1", "Running web:ready/0").await;
    assert!(before.elapsed() >= Duration::from_secs(4), "{:?}", before.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_crash_loop_backs_off_and_says_so() {
    let world = World::new().await;
    let script = Script {
        exit_after: Some((Duration::from_secs(1), 1)),
        ..Script::default()
    };
    world.runtime.script("web", script);
    world.want(&pod("web", "u1", "Always")).await;
    world.until_told("u1", "Running web:CrashLoopBackOff/1").await;
    world.until_told("u1", "Running web:CrashLoopBackOff/4").await;
    let created = world
        .runtime
        .calls()
        .into_iter()
        .filter(|call| call.name == "CreateContainer");
    let created: Vec<_> = created.map(|call| call.at).collect();
    let gaps: Vec<_> = created.windows(2).map(|pair| (pair[1] - pair[0]).as_secs()).collect();
    assert_eq!(gaps, [1, 11, 21, 41], "a second of life, then the back-off");
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_completes_keeps_its_status_until_it_is_removed() {
    let world = World::new().await;
    let script = Script {
        exit_after: Some((Duration::from_secs(1), 0)),
        ..Script::default()
    };
    world.runtime.script("job", script);
    let job = pod("job", "u1", "Never");
    world.want(&job).await;
    world.until_told("u1", "Succeeded job:Completed/0").await;
    world
        .until("the sandbox stopped", |world| world.calls("StopPodSandbox") > 0)
        .await;
    let world = world.restarted(&[&job]).await;
    world.until_told("u1", "Succeeded job:Completed/0").await;
    assert_eq!(world.calls("CreateContainer"), 1, "a finished pod stays finished");
    world.unwant(&job).await;
    world.nothing_is_left("u1").await;
}

#[tokio::test(start_paused = true)]
async fn a_restart_of_the_agent_changes_nothing() {
    let world = World::new().await;
    let web = pod("web", "u1", "Always");
    world.want(&web).await;
    world.until_told("u1", "Running web:ready/0").await;
    let before = (world.container("web").await.id, world.notice("u1").unwrap().status);
    let world = world.restarted(&[&web]).await;
    world.until_told("u1", "Running web:ready/0").await;
    let after = world.notice("u1").unwrap().status;
    assert_eq!(world.container("web").await.id, before.0);
    assert_eq!(after.start_time, before.1.start_time);
    assert_eq!(after.container_statuses, before.1.container_statuses);
    // Its exit is noticed by the new agent as by the old one.
    world.runtime.exit(&before.0.into(), 1);
    world.until_told("u1", "Running web:ready/1").await;
}

#[tokio::test(start_paused = true)]
async fn a_pod_unwanted_while_the_agent_was_away_is_ended() {
    let world = World::new().await;
    let web = pod("web", "u1", "Always");
    world.want(&web).await;
    world.until_told("u1", "Running web:ready/0").await;
    let world = world.restarted(&[]).await;
    world
        .until("the leftover ended", |world| world.calls("RemovePodSandbox") > 0)
        .await;
    world.nothing_is_left("u1").await;
}

#[tokio::test(start_paused = true)]
async fn a_changed_pod_replaces_the_old_one_which_goes_first() {
    let world = World::new().await;
    world.want(&pod("web", "u1", "Always")).await;
    world.until_told("u1", "Running web:ready/0").await;
    world.unwant(&pod("web", "u1", "Always")).await;
    world.want(&pod("web", "u2", "Always")).await;
    world.until_told("u2", "Running web:ready/0").await;
    assert_eq!(world.told("u1"), "nothing");
    let calls = world.runtime.calls();
    let removed = calls.iter().position(|call| call.name == "RemovePodSandbox").unwrap();
    let second = calls.iter().rposition(|call| call.name == "RunPodSandbox").unwrap();
    assert!(removed < second);
}

#[tokio::test(start_paused = true)]
async fn a_pod_whose_calls_hang_delays_no_other() {
    let world = World::new().await;
    world.runtime.inject("RunPodSandbox", Some("stuck"), Fault::Hang, None);
    world.want(&pod("stuck", "u1", "Always")).await;
    let before = tokio::time::Instant::now();
    world.want(&pod("web", "u2", "Always")).await;
    world.until_told("u2", "Running web:ready/0").await;
    assert!(before.elapsed() < Duration::from_secs(1), "{:?}", before.elapsed());
    world.until_told("u1", "Pending stuck:ContainerCreating/0").await;
    world.runtime.release();
    world.until_told("u1", "Running stuck:ready/0").await;
}

#[tokio::test(start_paused = true)]
async fn each_failure_has_its_reason_and_is_mended_without_a_restart() {
    let world = World::new().await;
    world.runtime.inject(
        "RunPodSandbox",
        Some("net"),
        Fault::Fail(ErrorKind::Failed, "no network".into()),
        Some(3),
    );
    world.want(&pod("net", "u1", "Always")).await;
    world.runtime.inject(
        "CreateContainer",
        Some("make"),
        Fault::Fail(ErrorKind::Failed, "no space".into()),
        Some(3),
    );
    world.want(&pod("make", "u2", "Always")).await;
    let mut absent = pod("absent", "u3", "Always");
    absent.spec.as_mut().unwrap().containers[0].image = Some("nowhere:1".into());
    world.want(&absent).await;
    world.until_told("u2", "Pending make:CreateContainerError/0").await;
    world.until_told("u3", "Pending absent:ErrImagePull/0").await;
    world
        .until("no network told", |world| {
            let statuses = world.notice("u1").and_then(|notice| notice.status.container_statuses);
            let waiting = statuses.and_then(|statuses| statuses[0].state.clone()?.waiting?.message);
            waiting.is_some_and(|message| message.contains("no network"))
        })
        .await;
    world.until_told("u1", "Running net:ready/0").await;
    world.until_told("u2", "Running make:ready/0").await;
    world.until_told("u3", "Pending absent:ImagePullBackOff/0").await;
    world.runtime.serve_image("nowhere:1");
    world.until_told("u3", "Running absent:ready/0").await;
}

#[tokio::test(start_paused = true)]
async fn a_container_that_cannot_be_started_backs_off_with_the_runtimes_reason() {
    let world = World::new().await;
    let script = Script {
        start_error: Some("exec format error".into()),
        ..Script::default()
    };
    world.runtime.script("web", script);
    world.want(&pod("web", "u1", "Always")).await;
    world.until_told("u1", "Running web:CrashLoopBackOff/1").await;
    let last = world
        .notice("u1")
        .unwrap()
        .status
        .container_statuses
        .unwrap()
        .remove(0)
        .last_state
        .unwrap();
    let last = last.terminated.unwrap();
    assert_eq!((last.exit_code, last.reason.as_deref()), (128, Some("StartError")));
    assert!(last.message.unwrap().contains("exec format error"));
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_lost_makes_no_second_container() {
    for call in ["RunPodSandbox", "CreateContainer", "StartContainer"] {
        let world = World::new().await;
        world.runtime.inject(call, None, Fault::LoseAnswer, Some(1));
        let web = pod("web", "u1", "Always");
        world.want(&web).await;
        world.until_told("u1", "Running web:ready/0").await;
        let running = world.node.runtime.list_containers(None).await.unwrap();
        assert_eq!(running.len(), 1, "{call}");
        assert_eq!(
            world.node.runtime.list_sandboxes(None).await.unwrap().len(),
            1,
            "{call}"
        );
        world.unwant(&web).await;
        world.nothing_is_left("u1").await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_runtime_that_is_away_is_waited_for_and_what_ended_meanwhile_restarted() {
    let world = World::new().await;
    world.want(&pod("web", "u1", "Always")).await;
    world.until_told("u1", "Running web:ready/0").await;
    let id = world.container("web").await.id;
    world.runtime.go_away();
    world.want(&pod("late", "u2", "Always")).await;
    world.runtime.exit(&id.into(), 1);
    tokio::time::sleep(Duration::from_secs(60)).await;
    world.runtime.come_back();
    world.until_told("u1", "Running web:ready/1").await;
    world.until_told("u2", "Running late:ready/0").await;
}

#[tokio::test(start_paused = true)]
async fn a_sandbox_that_dies_is_replaced() {
    let world = World::new().await;
    world.want(&pod("web", "u1", "Always")).await;
    world.until_told("u1", "Running web:ready/0").await;
    let sandbox = world.node.runtime.list_sandboxes(None).await.unwrap().remove(0);
    world.runtime.kill_sandbox(&sandbox.id.clone().into());
    world.until_told("u1", "Running web:ready/1").await;
    world
        .until("one sandbox", |world| {
            world.calls("RemovePodSandbox") > 0 || world.calls("RunPodSandbox") == 2
        })
        .await;
    let ready = world.node.runtime.list_sandboxes(None).await.unwrap().into_iter();
    let ready: Vec<_> = ready
        .filter(|sandbox| sandbox.state() == v1::PodSandboxState::SandboxReady)
        .collect();
    assert_eq!(ready.len(), 1);
    assert_ne!(ready[0].id, sandbox.id);
}

#[tokio::test(start_paused = true)]
async fn a_container_that_ignores_its_end_is_killed_when_the_grace_is_over() {
    let world = World::new().await;
    let script = Script {
        ignores_term: true,
        ..Script::default()
    };
    world.runtime.script("web", script);
    let mut web = pod("web", "u1", "Always");
    web.spec.as_mut().unwrap().termination_grace_period_seconds = Some(7);
    world.want(&web).await;
    world.until_told("u1", "Running web:ready/0").await;
    let before = tokio::time::Instant::now();
    world.unwant(&web).await;
    world.nothing_is_left("u1").await;
    let took = before.elapsed();
    assert!(
        took >= Duration::from_secs(7) && took < Duration::from_secs(8),
        "{took:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn thirty_pods_start_with_no_call_more_than_they_need() {
    let world = World::new().await;
    let mut expected = BTreeMap::new();
    for index in 0..30 {
        let (name, uid) = (format!("p{index}"), format!("u{index}"));
        world.want(&pod(&name, &uid, "Always")).await;
        expected.insert(uid, format!("Running {name}:ready/0"));
    }
    for (uid, told) in &expected {
        world.until_told(uid, told).await;
    }
    let mut calls: BTreeMap<&str, usize> = BTreeMap::new();
    for call in world.runtime.calls() {
        *calls.entry(call.name).or_default() += 1;
    }
    let per_pod = [
        "RunPodSandbox",
        "PodSandboxStatus",
        "ImageStatus",
        "CreateContainer",
        "StartContainer",
        "ContainerStatus",
    ];
    for call in per_pod {
        assert_eq!(calls.remove(call), Some(30), "{call}");
    }
    // The manager's one look at what was there before.
    assert_eq!(calls, BTreeMap::from([("ListContainers", 1), ("ListPodSandbox", 1)]));
}
