//! The client against an endpoint that behaves in ways containerd seldom does: it knows no event service of
//! containerd's, hangs, answers at length, dies in the middle of a call.

use std::{collections::HashMap, convert::Infallible, path::PathBuf, sync::Arc, time::Duration};

use bosun_cri::{
    CriClient, ErrorKind, Runtime, RuntimeEvent,
    v1::{self, ContainerEventType},
};
use http_body_util::{BodyExt as _, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    Request, Response,
    body::{Bytes, Frame, Incoming},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use tokio::{
    net::UnixListener,
    sync::mpsc,
    task::JoinSet,
    time::{Instant, timeout},
};
use tokio_stream::{StreamExt as _, wrappers::ReceiverStream};

const DEADLINE: Duration = Duration::from_secs(20);

/// How a call is answered.
#[derive(Clone)]
enum Answer {
    /// One message, then success.
    Message(Vec<u8>),
    /// Messages as they come, for as long as the sender lives.
    Stream(Arc<tokio::sync::Mutex<Option<mpsc::Receiver<Vec<u8>>>>>),
    /// A status code and its words.
    Status(u32, &'static str),
    /// Nothing, ever.
    Hang,
}

impl Answer {
    fn message(message: &impl Message) -> Self {
        Self::Message(message.encode_to_vec())
    }
}

/// A server on a socket of its own. Dropped, its connections break.
struct Endpoint {
    _dir: tempfile::TempDir,
    path: PathBuf,
    _tasks: JoinSet<()>,
}

impl Endpoint {
    /// Answers the calls named (`runtime.v1.RuntimeService/Version`) and knows no other.
    fn serve(answers: impl IntoIterator<Item = (&'static str, Answer)>) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("runtime.sock");
        let listener = UnixListener::bind(&path).expect("a socket");
        let answers: Arc<HashMap<_, _>> = Arc::new(answers.into_iter().collect());
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.expect("a connection");
                let answers = answers.clone();
                connections.spawn(async move {
                    let service = service_fn(move |request| respond(answers.clone(), request));
                    let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                    let _ = server.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Self {
            _dir: dir,
            path,
            _tasks: tasks,
        }
    }

    fn client(&self) -> CriClient {
        CriClient::connect(&format!("unix://{}", self.path.display())).expect("an endpoint")
    }
}

type Body = UnsyncBoxBody<Bytes, Infallible>;

async fn respond(
    answers: Arc<HashMap<&'static str, Answer>>,
    request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    let call = request.uri().path().trim_start_matches('/');
    let response = Response::builder().header("content-type", "application/grpc");
    let frames = match answers.get(call).cloned() {
        Some(Answer::Hang) => std::future::pending().await,
        Some(Answer::Message(message)) => {
            let frames = [Frame::data(framed(&message)), trailers()];
            StreamBody::new(tokio_stream::iter(frames.map(Ok))).boxed_unsync()
        }
        Some(Answer::Stream(messages)) => {
            // Like a real server: not even headers before the first message.
            let mut messages = messages.lock().await.take().expect("one subscriber");
            let Some(first) = messages.recv().await else {
                return Ok(Response::new(Body::default()));
            };
            let rest = tokio_stream::once(first).chain(ReceiverStream::new(messages));
            StreamBody::new(rest.map(|message| Ok(Frame::data(framed(&message))))).boxed_unsync()
        }
        Some(Answer::Status(code, words)) => {
            let response = response.header("grpc-status", code).header("grpc-message", words);
            return Ok(response.body(Body::default()).expect("a response"));
        }
        None => {
            let response = response
                .header("grpc-status", 12)
                .header("grpc-message", "unknown service");
            return Ok(response.body(Body::default()).expect("a response"));
        }
    };
    Ok(response.body(frames).expect("a response"))
}

/// A message as it travels: not compressed, its length, itself.
fn framed(message: &[u8]) -> Bytes {
    let length = u32::try_from(message.len()).expect("a message").to_be_bytes();
    [&[0], &length[..], message].concat().into()
}

fn trailers() -> Frame<Bytes> {
    let status = ("grpc-status".parse().expect("a name"), "0".parse().expect("a value"));
    Frame::trailers([status].into_iter().collect())
}

#[tokio::test]
async fn without_a_runtime_a_call_is_unavailable_at_once_and_names_the_endpoint() {
    let client = CriClient::connect("unix:///no/such/runtime.sock").expect("it need not be there");
    let before = Instant::now();
    let error = client.version().await.expect_err("nobody is there");
    assert_eq!(error.kind, ErrorKind::Unavailable);
    assert!(error.message.contains("unix:///no/such/runtime.sock"), "{error}");
    assert!(error.message.contains("No such file or directory"), "{error}");
    assert!(before.elapsed() < DEADLINE);
    assert!(
        timeout(Duration::from_millis(50), client.subscribe().recv())
            .await
            .is_err(),
        "no event either"
    );
}

#[tokio::test]
async fn a_client_made_before_its_runtime_reaches_it_later() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("runtime.sock");
    let client = CriClient::connect(&format!("unix://{}", path.display())).expect("an endpoint");
    assert_eq!(
        client.version().await.expect_err("too early").kind,
        ErrorKind::Unavailable
    );
    let answer = v1::VersionResponse {
        runtime_name: "it".to_owned(),
        ..v1::VersionResponse::default()
    };
    let endpoint = Endpoint::serve([("runtime.v1.RuntimeService/Version", Answer::message(&answer))]);
    std::fs::rename(&endpoint.path, &path).expect("it moves there");
    assert_eq!(client.version().await.expect("it answers").name, "it");
}

#[tokio::test]
async fn a_call_under_way_when_the_runtime_dies_is_unavailable() {
    let endpoint = Endpoint::serve([("runtime.v1.RuntimeService/StartContainer", Answer::Hang)]);
    let client = endpoint.client();
    let id = "c".into();
    let call = client.start_container(&id);
    tokio::pin!(call);
    assert!(
        timeout(Duration::from_millis(200), &mut call).await.is_err(),
        "it is under way"
    );
    drop(endpoint);
    let error = timeout(DEADLINE, call).await.expect("at once").expect_err("it died");
    assert_eq!(error.kind, ErrorKind::Unavailable, "{error}");
}

#[tokio::test]
async fn a_call_that_hangs_ends_by_its_deadline_and_holds_no_other() {
    let answer = v1::VersionResponse::default();
    let endpoint = Endpoint::serve([
        ("runtime.v1.RuntimeService/ExecSync", Answer::Hang),
        ("runtime.v1.RuntimeService/Version", Answer::message(&answer)),
    ]);
    let client = endpoint.client();
    client.version().await.expect("it answers");
    let (id, command) = ("c".into(), ["true".to_owned()]);
    let before = Instant::now();
    let hanging = client.exec(&id, &command, Duration::from_millis(1));
    tokio::pin!(hanging);
    assert!(timeout(Duration::from_millis(100), &mut hanging).await.is_err());
    timeout(Duration::from_secs(2), client.version())
        .await
        .expect("not held up")
        .expect("it answers");
    let error = hanging.await.expect_err("it hung");
    assert_eq!(error.kind, ErrorKind::DeadlineExceeded);
    // The limit in whole seconds, and the slack.
    let limit = Duration::from_secs(1) + bosun_cri::client::EXEC_SLACK;
    assert!(before.elapsed() >= limit && before.elapsed() < limit + DEADLINE);
}

#[tokio::test]
async fn a_list_of_many_containers_arrives_whole() {
    let container = v1::Container {
        id: "c".repeat(1 << 10),
        ..v1::Container::default()
    };
    let answer = v1::ListContainersResponse {
        containers: vec![container; 9 << 10],
    };
    assert!(answer.encoded_len() > 9 << 20);
    let endpoint = Endpoint::serve([("runtime.v1.RuntimeService/ListContainers", Answer::message(&answer))]);
    let listed = endpoint.client().list_containers(None).await.expect("a list");
    assert_eq!(listed.len(), 9 << 10);
}

#[tokio::test]
async fn an_answer_without_its_content_is_a_failure() {
    let empty = || Answer::Message(Vec::new());
    let endpoint = Endpoint::serve([
        ("runtime.v1.RuntimeService/ContainerStatus", empty()),
        ("runtime.v1.ImageService/ImageStatus", empty()),
        (
            "runtime.v1.RuntimeService/StopContainer",
            Answer::Status(5, "not found"),
        ),
    ]);
    let client = endpoint.client();
    assert_eq!(
        client.container_status(&"c".into()).await.expect_err("empty").kind,
        ErrorKind::Failed
    );
    assert_eq!(
        client.image_status("a.b/c:1").await.expect("no image is an answer"),
        None
    );
    client
        .stop_container(&"c".into(), Duration::ZERO)
        .await
        .expect("gone is fine");
    assert_eq!(
        client.version().await.expect_err("unknown").kind,
        ErrorKind::Unimplemented
    );
}

#[tokio::test]
async fn sandboxes_are_asked_one_by_one_for_stats_when_the_list_of_them_fails() {
    const LIST: &str = "runtime.v1.RuntimeService/ListPodSandboxStats";
    const SANDBOXES: &str = "runtime.v1.RuntimeService/ListPodSandbox";
    const ONE: &str = "runtime.v1.RuntimeService/PodSandboxStats";
    let refused = || Answer::Status(2, "failed to decode sandbox container metrics: is not in ready state");
    let sandbox = |id: &str| v1::PodSandbox {
        id: id.to_owned(),
        ..v1::PodSandbox::default()
    };
    let sandboxes = || {
        Answer::message(&v1::ListPodSandboxResponse {
            items: (0..20).map(|i| sandbox(&i.to_string())).collect(),
        })
    };
    let stats = Answer::message(&v1::PodSandboxStatsResponse {
        stats: Some(v1::PodSandboxStats::default()),
    });
    let empty = Answer::message(&v1::ListPodSandboxStatsResponse::default());
    for (list, one, expected) in [
        (refused(), stats.clone(), Ok(20)),
        (refused(), refused(), Ok(0)),
        (refused(), Answer::Status(5, "no such sandbox"), Ok(0)),
        (
            refused(),
            Answer::Status(14, "it is going down"),
            Err(ErrorKind::Unavailable),
        ),
        (empty, stats.clone(), Ok(0)),
        (
            Answer::Status(12, "unknown method"),
            stats,
            Err(ErrorKind::Unimplemented),
        ),
    ] {
        let endpoint = Endpoint::serve([(LIST, list), (SANDBOXES, sandboxes()), (ONE, one)]);
        let told = timeout(DEADLINE, endpoint.client().sandbox_stats())
            .await
            .expect("an answer");
        assert_eq!(told.map(|stats| stats.len()).map_err(|error| error.kind), expected);
    }
}

async fn next(events: &mut mpsc::Receiver<RuntimeEvent>) -> RuntimeEvent {
    timeout(DEADLINE, events.recv())
        .await
        .expect("an event")
        .expect("the stream goes on")
}

#[tokio::test]
async fn a_runtime_without_containerds_service_is_followed_by_cris_own_events() {
    let (tx, rx) = mpsc::channel(8);
    let stream = Answer::Stream(Arc::new(tokio::sync::Mutex::new(Some(rx))));
    let endpoint = Endpoint::serve([("runtime.v1.RuntimeService/GetContainerEvents", stream)]);
    let mut events = endpoint.client().subscribe();
    assert_eq!(
        next(&mut events).await,
        RuntimeEvent::Resync,
        "though nothing was sent yet"
    );
    let event = |kind: ContainerEventType| v1::ContainerEventResponse {
        container_id: "c".to_owned(),
        container_event_type: kind.into(),
        created_at: 1,
        pod_sandbox_status: None,
        containers_statuses: vec![v1::ContainerStatus {
            id: "c".to_owned(),
            exit_code: 3,
            finished_at: 2,
            ..v1::ContainerStatus::default()
        }],
    };
    for kind in [
        ContainerEventType::ContainerStartedEvent,
        ContainerEventType::ContainerStoppedEvent,
        ContainerEventType::ContainerDeletedEvent,
    ] {
        tx.send(event(kind).encode_to_vec()).await.expect("taken");
    }
    let mut got = Vec::new();
    while got.len() < 2 {
        got.extend(Some(next(&mut events).await).filter(|event| *event != RuntimeEvent::Resync));
    }
    let finished_at = jiff::Timestamp::from_nanosecond(2).expect("in range");
    let exited = RuntimeEvent::Exited {
        id: "c".to_owned(),
        exit_code: 3,
        finished_at,
    };
    assert_eq!(got, [exited, RuntimeEvent::Removed { id: "c".to_owned() }]);
}

#[tokio::test]
async fn a_runtime_that_pushes_nothing_is_listed_again_and_again() {
    let endpoint = Endpoint::serve([]);
    let mut events = endpoint.client().subscribe();
    for _ in 0..3 {
        assert_eq!(next(&mut events).await, RuntimeEvent::Resync);
    }
}
