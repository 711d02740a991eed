//! Lifecycle hooks, which do what probes do.

use std::{sync::Arc, time::Duration};

use bosun_api::core::{Container, ExecAction, HTTPGetAction, LifecycleHandler, SleepAction};
use bosun_cri::{ErrorKind, Runtime};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    task::JoinSet,
    time::Instant,
};

use super::runtime::{Scripted, Step};
use crate::{
    pod::hooks::{HookError, run_hook},
    probe::action::Target,
};

const LIMIT: Duration = Duration::from_secs(5);

async fn run(step: Step, hook: LifecycleHandler) -> Result<(), HookError> {
    let runtime: Arc<dyn Runtime> = Scripted::new(move |_, _| step);
    let target = Target {
        address: "127.0.0.1".parse().ok(),
        container: &Container::default(),
    };
    run_hook(&runtime, &"id".into(), &hook, &target, LIMIT).await
}

fn command() -> LifecycleHandler {
    let exec = Some(ExecAction {
        command: Some(vec!["drain".to_owned()]),
    });
    LifecycleHandler {
        exec,
        ..LifecycleHandler::default()
    }
}

#[tokio::test(start_paused = true)]
async fn a_command_must_end_well_and_in_time() {
    let failed = |message: &str| Err(HookError::Failed(message.to_owned()));
    assert_eq!(run(Step::Exit(0), command()).await, Ok(()));
    assert_eq!(
        run(Step::Exit(3), command()).await,
        failed("command exited with code 3: out")
    );
    assert_eq!(
        run(Step::Fail(ErrorKind::NotFound), command()).await,
        failed("ExecSync id: as scripted")
    );
    let slow = run(Step::Slow(2 * LIMIT, 0), command()).await;
    assert!(
        slow == failed("command timed out after 5 s") || slow == Err(HookError::TimedOut(LIMIT)),
        "{slow:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_sleep_takes_its_time_but_no_more_than_there_is() {
    let sleep = |seconds| LifecycleHandler {
        sleep: Some(SleepAction { seconds }),
        ..LifecycleHandler::default()
    };
    let start = Instant::now();
    assert_eq!(run(Step::Exit(0), sleep(3)).await, Ok(()));
    assert_eq!(start.elapsed().as_secs(), 3);
    assert_eq!(run(Step::Exit(0), sleep(30)).await, Err(HookError::TimedOut(LIMIT)));
    assert_eq!(start.elapsed().as_secs(), 8);
}

#[tokio::test]
async fn any_answer_to_a_request_will_do_and_none_will_not() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = IntOrString::Int(listener.local_addr().unwrap().port().into());
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        stream.write_all(b"HTTP/1.1 500 No\r\n\r\n").await.unwrap();
        String::from_utf8(head).unwrap()
    });
    let get = HTTPGetAction {
        port,
        ..HTTPGetAction::default()
    };
    let hook = LifecycleHandler {
        http_get: Some(get),
        ..LifecycleHandler::default()
    };
    assert_eq!(run(Step::Exit(0), hook.clone()).await, Ok(()));
    let head = tasks.join_next().await.unwrap().unwrap();
    assert!(head.contains("user-agent: kube-lifecycle/1.36\r\n"), "{head}");
    assert!(matches!(run(Step::Exit(0), hook).await, Err(HookError::Failed(message)) if message.contains("refused")));
}
