//! The fake runtime, held to the contract and to its faults. Time is paused: nothing here waits.

#[path = "contract/behaviours.rs"]
mod contract;

use std::{io::Write as _, sync::Arc, time::Duration};

use bosun_cri::{
    ErrorKind, FakeRuntime, Runtime, RuntimeEvent,
    archive::{Archive, Entry},
    fake::{ExecReply, Fault, Script},
    v1,
};
use contract::{Env, Process};
use tokio::time::{Instant, sleep, timeout};

fn script(process: &Process) -> Script {
    match process {
        Process::Runs => Script::default(),
        Process::Stubborn => Script {
            ignores_term: true,
            ..Script::default()
        },
        Process::Ends(after, code) => Script {
            exit_after: Some((*after, *code)),
            ..Script::default()
        },
        Process::Missing => Script {
            start_error: Some("exec: \"/no/such/program\": no such file or directory".to_owned()),
            ..Script::default()
        },
    }
}

/// What the few commands of the contract do.
fn shell(command: &[String]) -> ExecReply {
    let mut reply = ExecReply {
        after: Duration::from_millis(20),
        ..ExecReply::default()
    };
    match command.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["sh", "-c", "true"] => {}
        ["sh", "-c", "exit 9"] => reply.output.exit_code = 9,
        ["sh", "-c", "echo out; echo err >&2; exit 3"] => {
            reply.output.stdout = b"out\n".to_vec();
            reply.output.stderr = b"err\n".to_vec();
            reply.output.exit_code = 3;
        }
        ["sleep", seconds] => reply.after = Duration::from_secs(seconds.parse().expect("a number")),
        ref other => panic!("the fake's shell does not know {other:?}"),
    }
    reply
}

fn fake() -> FakeRuntime {
    let fake = FakeRuntime::new();
    fake.add_image("bosun.test/shell:1");
    fake.on_exec(|_, command| shell(command));
    fake
}

async fn keeps<F: Future<Output = ()>>(behaviour: impl FnOnce(Arc<dyn Runtime>, Arc<Env>) -> F) {
    let fake = fake();
    let mut archive = tempfile::NamedTempFile::new().expect("a file");
    let image = Archive {
        name: "bosun.test/imported:1".to_owned(),
        architecture: "amd64".to_owned(),
        files: vec![Entry::file("it", 0o644, &b"imported"[..])],
        ..Archive::default()
    };
    archive
        .write_all(&image.to_bytes().expect("an archive"))
        .expect("written");
    let scripted = fake.clone();
    let env = Env {
        image: "bosun.test/shell:1".to_owned(),
        archive: archive.path().to_owned(),
        cgroup_parent: String::new(),
        log_directory: String::new(),
        prepare: Arc::new(move |name, process| scripted.script(name, script(process))),
    };
    behaviour(Arc::new(fake), Arc::new(env)).await;
}

macro_rules! tests {
    ($($name:ident,)+) => {
        mod keeps_the_contract {
            $(
                #[tokio::test(start_paused = true)]
                async fn $name() {
                    super::keeps(super::contract::$name).await;
                }
            )+
        }
    };
}
contract::behaviours!(tests);

fn config(name: &str) -> v1::PodSandboxConfig {
    let metadata = v1::PodSandboxMetadata {
        name: name.to_owned(),
        namespace: "ns".to_owned(),
        uid: "u".to_owned(),
        attempt: 0,
    };
    v1::PodSandboxConfig {
        metadata: Some(metadata),
        ..v1::PodSandboxConfig::default()
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_fails_by_order_does_nothing_and_the_next_one_works() {
    let fake = fake();
    fake.fail_next("RunPodSandbox", ErrorKind::Failed, "no network");
    let error = fake.run_sandbox(&config("a"), "").await.expect_err("by order");
    assert_eq!((error.kind, error.message.as_str()), (ErrorKind::Failed, "no network"));
    fake.run_sandbox(&config("a"), "").await.expect("the name is free");
    let calls: Vec<_> = fake.calls().into_iter().map(|call| (call.name, call.object)).collect();
    assert_eq!(
        calls,
        [
            ("RunPodSandbox", "ns/a".to_owned()),
            ("RunPodSandbox", "ns/a".to_owned())
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_hanging_call_ends_by_its_deadline_and_holds_no_other() {
    let fake = fake();
    fake.inject("RunPodSandbox", Some("ns/a"), Fault::Hang, None);
    let (a, b) = (config("a"), config("b"));
    let before = Instant::now();
    let hanging = fake.run_sandbox(&a, "");
    tokio::pin!(hanging);
    assert!(timeout(Duration::from_secs(1), &mut hanging).await.is_err());
    fake.run_sandbox(&b, "").await.expect("another pod");
    let error = hanging.await.expect_err("it hung");
    assert_eq!(error.kind, ErrorKind::DeadlineExceeded);
    assert_eq!(before.elapsed(), bosun_cri::client::CREATE_DEADLINE);
}

#[tokio::test(start_paused = true)]
async fn what_hangs_goes_on_when_it_is_released() {
    let fake = fake();
    fake.inject("RunPodSandbox", None, Fault::Hang, Some(1));
    let (released, config) = (fake.clone(), config("a"));
    let release = async {
        sleep(Duration::from_secs(5)).await;
        released.release();
    };
    let (ran, ()) = tokio::join!(fake.run_sandbox(&config, ""), release);
    ran.expect("it went on");
}

#[tokio::test(start_paused = true)]
async fn a_call_cut_off_leaves_its_name_reserved_for_a_while() {
    for completes in [false, true] {
        let fake = fake();
        fake.set_cut_off_completes(completes);
        fake.inject("RunPodSandbox", None, Fault::Slow(Duration::from_secs(9)), Some(1));
        let config = config("a");
        assert!(
            timeout(Duration::from_secs(1), fake.run_sandbox(&config, ""))
                .await
                .is_err()
        );
        let error = fake.run_sandbox(&config, "").await.expect_err("it is being undone");
        assert_eq!(error.kind, ErrorKind::AlreadyExists);
        assert!(error.message.contains("is reserved for"), "{error}");
        assert_eq!(fake.list_sandboxes(None).await.expect("a list"), []);
        sleep(Duration::from_secs(3)).await;
        let listed = fake.list_sandboxes(None).await.expect("a list");
        assert_eq!(listed.len(), usize::from(completes));
        if !completes {
            fake.run_sandbox(&config, "").await.expect("the name is free");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_belongs_to_a_call_that_was_done() {
    let fake = fake();
    fake.inject("RunPodSandbox", None, Fault::LoseAnswer, Some(1));
    let error = fake.run_sandbox(&config("a"), "").await.expect_err("lost");
    assert_eq!(error.kind, ErrorKind::Unavailable);
    assert_eq!(fake.list_sandboxes(None).await.expect("a list").len(), 1);
}

/// A container of this script, started.
async fn started(fake: &FakeRuntime, name: &str, script: Script) -> bosun_api::ContainerId {
    fake.script(name, script);
    let config = config(name);
    let sandbox = fake.run_sandbox(&config, "").await.expect("a sandbox");
    let container = v1::ContainerConfig {
        metadata: Some(v1::ContainerMetadata {
            name: name.to_owned(),
            attempt: 0,
        }),
        image: Some(v1::ImageSpec {
            image: "bosun.test/shell:1".to_owned(),
            ..v1::ImageSpec::default()
        }),
        ..v1::ContainerConfig::default()
    };
    let id = fake
        .create_container(&sandbox, &container, &config)
        .await
        .expect("a container");
    fake.start_container(&id).await.expect("it starts");
    assert_eq!(fake.sandbox_of(&id), Some(sandbox));
    id
}

#[tokio::test(start_paused = true)]
async fn the_status_lags_behind_the_event() {
    let fake = fake();
    let mut events = fake.subscribe();
    assert_eq!(events.recv().await, Some(RuntimeEvent::Resync));
    let id = started(&fake, "a", Script::default()).await;
    fake.exit(&id, 5);
    let exited = |event: &RuntimeEvent| matches!(event, RuntimeEvent::Exited { exit_code: 5, .. });
    assert!(events.recv().await.is_some_and(|event| exited(&event)));
    let status = fake.container_status(&id).await.expect("a status");
    assert_eq!(status.state(), v1::ContainerState::ContainerRunning);
    sleep(Duration::from_millis(100)).await;
    let status = fake.container_status(&id).await.expect("a status");
    assert_eq!(status.state(), v1::ContainerState::ContainerExited);
}

#[tokio::test(start_paused = true)]
async fn what_happens_while_the_runtime_is_gone_is_seen_by_a_listing_after_resync() {
    let fake = fake();
    let id = started(
        &fake,
        "a",
        Script {
            exit_after: Some((Duration::from_secs(5), 1)),
            ..Script::default()
        },
    )
    .await;
    let mut events = fake.subscribe();
    assert_eq!(events.recv().await, Some(RuntimeEvent::Resync));
    fake.inject("StopContainer", None, Fault::Hang, Some(1));
    let (gone, other) = (fake.clone(), id.clone());
    let go = async {
        sleep(Duration::from_secs(2)).await;
        gone.go_away();
    };
    let (stopped, ()) = tokio::join!(fake.stop_container(&other, Duration::from_secs(30)), go);
    assert_eq!(stopped.expect_err("broken off").kind, ErrorKind::Unavailable);
    assert_eq!(fake.version().await.expect_err("gone").kind, ErrorKind::Unavailable);
    sleep(Duration::from_secs(10)).await;
    fake.come_back();
    while let Ok(event) = events.try_recv() {
        assert_eq!(event, RuntimeEvent::Resync, "the exit itself was missed");
    }
    let status = fake.container_status(&id).await.expect("a status");
    assert_eq!(
        (status.state(), status.exit_code),
        (v1::ContainerState::ContainerExited, 1)
    );
}

#[tokio::test(start_paused = true)]
async fn memory_kills_are_two_events_and_a_reason() {
    let fake = fake();
    let id = started(&fake, "a", Script::default()).await;
    let mut events = fake.subscribe();
    assert_eq!(events.recv().await, Some(RuntimeEvent::Resync));
    fake.kill_for_memory(&id);
    assert_eq!(
        events.recv().await,
        Some(RuntimeEvent::OutOfMemory { id: id.to_string() })
    );
    assert!(matches!(
        events.recv().await,
        Some(RuntimeEvent::Exited { exit_code: 137, .. })
    ));
    sleep(Duration::from_secs(1)).await;
    assert_eq!(fake.container_status(&id).await.expect("a status").reason, "OOMKilled");
}

#[tokio::test(start_paused = true)]
async fn an_image_is_pulled_if_it_is_served() {
    let fake = fake();
    fake.serve_image("web:1");
    assert_eq!(
        fake.pull_image("other", None).await.expect_err("not served").kind,
        ErrorKind::NotFound
    );
    let id = fake.pull_image("web:1", None).await.expect("served");
    let image = fake
        .image_status("docker.io/library/web:1")
        .await
        .expect("an answer")
        .expect("it is there");
    assert_eq!(image.id, id);
}
