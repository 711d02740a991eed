//! The agent's local, read-only status: HTTP/1.1 on a Unix socket.
//!
//! `GET /pods` answers a `v1` `PodList` with one thing more: `manifests`, the files that can't be used and why. How
//! long each stage of a pod's start took is in its annotation [`STAGES`]. `GET /healthz` answers `ok`.

use std::{
    convert::Infallible,
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use bosun_api::core::Pod;
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde::Serialize;
use tokio::{
    net::{UnixListener, UnixStream},
    task::JoinSet,
};

use crate::{
    node::{Node, Notice},
    source::InvalidManifests,
};

/// Annotation of a pod in the agent's status: a JSON object of milliseconds by stage of its start.
pub const STAGES: &str = "bosun.dev/start-stages";

/// At most this many askers at a time.
const MOST_CONNECTIONS: usize = 64;
/// An asker that is slower than this is let go.
const DEADLINE: Duration = Duration::from_secs(10);

/// How long an answer waits, just after the agent's start, for something to be known of every pod.
const COMPLETE: Duration = Duration::from_secs(2);

/// A manifest that can't be used.
#[derive(Debug, Serialize)]
struct InvalidManifest {
    file: String,
    error: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct PodList {
    api_version: &'static str,
    kind: &'static str,
    metadata: serde_json::Map<String, serde_json::Value>,
    items: Vec<Pod>,
    manifests: Vec<InvalidManifest>,
}

/// The status socket could not be made.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// Another agent answers there.
    #[error("{} is in use by another agent: stop it, or give this one a --run-dir of its own", path.display())]
    InUse {
        /// The socket.
        path: PathBuf,
    },
    /// The kernel refused.
    #[error("listening at {}", path.display())]
    Listen {
        /// The socket.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
}

/// Listens at the agent's socket; one left over by an agent that was killed is replaced.
pub async fn listen(path: &Path) -> Result<UnixListener, AdminError> {
    let failed = |source| AdminError::Listen {
        path: path.to_owned(),
        source,
    };
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory).map_err(failed)?;
    }
    if let Ok(stream) = UnixStream::connect(path).await
        && lives(stream.peer_cred().ok().and_then(|peer| peer.pid()))
    {
        return Err(AdminError::InUse { path: path.to_owned() });
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let listener = UnixListener::bind(path).map_err(failed)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(failed)?;
    Ok(listener)
}

/// Whether the process that listens at a socket lives. A killed agent's socket accepts for a moment longer if the agent
/// was just starting a program, which holds it until it is that program. One that can't be seen from here (0: it is in
/// another PID namespace) is taken to live.
fn lives(listener: Option<i32>) -> bool {
    match listener {
        Some(pid) if pid > 0 => fs::read_link(format!("/proc/{pid}/exe")).is_ok(),
        _ => true,
    }
}

/// Answers for as long as it is polled.
pub async fn serve(listener: UnixListener, node: Arc<Node>, invalid: InvalidManifests) {
    let mut connections = JoinSet::new();
    loop {
        while connections.len() >= MOST_CONNECTIONS {
            connections.join_next().await;
        }
        while connections.try_join_next().is_some() {}
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "status socket: a connection could not be accepted");
                // Out of file descriptors: until one is free there is nothing to accept with.
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let (node, invalid) = (node.clone(), invalid.clone());
        connections.spawn(async move {
            let (node, invalid) = (&node, &invalid);
            let service = service_fn(move |request| async move {
                if tokio::time::timeout(COMPLETE, node.board.complete()).await.is_err() {
                    tracing::debug!("status socket: something is not known of every pod yet");
                }
                Ok::<_, Infallible>(answer(&request, node, invalid))
            });
            let connection = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(DEADLINE)
                .serve_connection(TokioIo::new(stream), service);
            match tokio::time::timeout(DEADLINE, connection).await {
                Ok(Err(error)) => tracing::debug!(%error, "status socket: connection ended"),
                Ok(Ok(())) => {}
                Err(_) => tracing::debug!("status socket: connection was too slow"),
            }
        });
    }
}

fn answer(request: &Request<Incoming>, node: &Node, invalid: &InvalidManifests) -> Response<Full<Bytes>> {
    let (status, kind, body) = match (request.method(), request.uri().path()) {
        (&Method::GET, "/pods") => match serde_json::to_vec(&pod_list(node, invalid)) {
            Ok(body) => (StatusCode::OK, "application/json", body),
            Err(error) => (
                StatusCode::INTERNAL_SERVER_ERROR,
                "text/plain",
                error.to_string().into_bytes(),
            ),
        },
        (&Method::GET, "/healthz") => (StatusCode::OK, "text/plain", b"ok\n".to_vec()),
        (&Method::GET, _) => (StatusCode::NOT_FOUND, "text/plain", b"try /pods or /healthz\n".to_vec()),
        _ => (
            StatusCode::METHOD_NOT_ALLOWED,
            "text/plain",
            b"this socket only tells\n".to_vec(),
        ),
    };
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
    response
}

fn pod_list(node: &Node, invalid: &InvalidManifests) -> PodList {
    let mut items: Vec<Pod> = node.board.all().into_iter().map(told).collect();
    items.sort_by(|a, b| {
        let key = |pod: &Pod| (pod.metadata.namespace.clone(), pod.metadata.name.clone());
        key(a).cmp(&key(b))
    });
    let invalid = invalid.read();
    let manifests = invalid.iter().map(|(file, error)| InvalidManifest {
        file: file.clone(),
        error: error.clone(),
    });
    PodList {
        api_version: "v1",
        kind: "PodList",
        metadata: serde_json::Map::new(),
        items,
        manifests: manifests.collect(),
    }
}

fn told(notice: Notice) -> Pod {
    let mut pod = Pod::clone(&notice.pod);
    if let Ok(stages) = serde_json::to_string(&notice.stages) {
        pod.metadata
            .annotations
            .get_or_insert_default()
            .insert(STAGES.to_owned(), stages);
    }
    if let Some(deadline) = notice.ends_by {
        pod.metadata.deletion_timestamp = Some(Time(deadline));
    }
    pod.status = Some(notice.status);
    pod
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_is_in_use_while_its_listener_lives() {
        #[allow(clippy::disallowed_methods, reason = "a process that has ended is needed")]
        let mut ended = std::process::Command::new("true").spawn().unwrap();
        ended.wait().unwrap();
        let table = [
            (Some(std::process::id() as i32), true),
            (Some(ended.id() as i32), false),
            (Some(0), true),
            (None, true),
        ];
        for (pid, expected) in table {
            assert_eq!(lives(pid), expected, "{pid:?}");
        }
    }
}
