//! Health checks over gRPC, against a server that answers in bare frames.

use std::{convert::Infallible, time::Duration};

use bosun_api::core::{Container, GRPCAction, Probe};
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::{
    body::{Bytes, Incoming},
    server::conn::http2,
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{net::TcpListener, sync::mpsc, task::JoinSet, time::timeout};

use super::runtime::{Scripted, Step};
use crate::probe::action::{Action, Outcome, Target};

/// What the server saw: path, user agent, body.
type Seen = (String, String, Vec<u8>);

/// Serves with this status (as protobuf has it) and this gRPC code.
async fn start(status: Option<u8>, code: &'static str) -> (u16, mpsc::UnboundedReceiver<Seen>, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (seen_tx, seen_rx) = mpsc::unbounded_channel();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let seen_tx = seen_tx.clone();
            let answer = service_fn(move |request: Request<Incoming>| {
                let seen_tx = seen_tx.clone();
                async move {
                    let path = request.uri().path().to_owned();
                    let agent = request.headers()["user-agent"].to_str().unwrap().to_owned();
                    let body = request.into_body().collect().await.unwrap().to_bytes().to_vec();
                    let _ = seen_tx.send((path, agent, body));
                    let message = status.map_or(Vec::new(), |status| vec![0, 0, 0, 0, 2, 0x08, status]);
                    let mut trailers = HeaderMap::new();
                    trailers.insert("grpc-status", HeaderValue::from_static(code));
                    let body = Full::new(Bytes::from(message)).with_trailers(async { Some(Ok(trailers)) });
                    let response = Response::builder()
                        .header("content-type", "application/grpc")
                        .body(body);
                    Ok::<_, Infallible>(response.unwrap())
                }
            });
            let _ = http2::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), answer)
                .await;
        }
    });
    (port, seen_rx, tasks)
}

async fn ask(port: u16, service: Option<&str>) -> Outcome {
    let grpc = GRPCAction {
        port: port.into(),
        service: service.map(str::to_owned),
    };
    let probe = Probe {
        grpc: Some(grpc),
        ..Probe::default()
    };
    let target = Target {
        address: "127.0.0.1".parse().ok(),
        container: &Container::default(),
    };
    let limit = Duration::from_secs(10);
    let action = Action::of_probe(&probe, &target);
    let runtime = Scripted::new(|_, _| Step::Exit(0));
    timeout(limit, action.run(&*runtime, &"id".into(), limit, "kube-probe/1.36"))
        .await
        .expect("no outcome in time")
}

#[tokio::test]
async fn a_server_that_serves_is_healthy() {
    let (port, mut seen_rx, _tasks) = start(Some(1), "0").await;
    assert_eq!(
        ask(port, Some("liveness")).await,
        Outcome::Success("service healthy".to_owned())
    );
    let (path, agent, body) = seen_rx.recv().await.unwrap();
    assert_eq!(path, "/grpc.health.v1.Health/Check");
    assert!(agent.starts_with("kube-probe/1.36"), "{agent}");
    assert_eq!(body, [&[0, 0, 0, 0, 10, 0x0a, 8][..], b"liveness"].concat());
}

#[tokio::test]
async fn anything_else_is_a_failure_that_says_why() {
    for (status, code, expected) in [
        (Some(2), "0", r#"service unhealthy (responded with "NOT_SERVING")"#),
        (Some(9), "0", r#"service unhealthy (responded with "UNKNOWN")"#),
        (
            None,
            "12",
            "this server does not implement the gRPC health protocol (grpc.health.v1.Health)",
        ),
        (None, "5", "health call failed: "),
    ] {
        let (port, _seen_rx, _tasks) = start(status, code).await;
        let Outcome::Failure(message) = ask(port, None).await else {
            panic!("{status:?} {code}")
        };
        assert!(message.starts_with(expected), "{message}");
    }
    let port = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let Outcome::Failure(message) = ask(port, None).await else {
        panic!()
    };
    assert!(message.contains("Connection refused"), "{message}");
}
