//! A gRPC health service inside a pod's network namespace, for probes to ask.

use std::{
    net::TcpListener,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use anyhow::Context;
use bytes::Bytes;
use h2::server::SendResponse;
use http::{HeaderMap, HeaderValue, Response};
use tokio::task::{AbortHandle, JoinSet};

use crate::netns::Netns;

/// `grpc.health.v1.HealthCheckResponse` as a gRPC message: not compressed, two bytes, field 1.
const SERVING: &[u8] = &[0, 0, 0, 0, 2, 0x08, 1];
const NOT_SERVING: &[u8] = &[0, 0, 0, 0, 2, 0x08, 2];

/// A health service; it ends with this value.
#[derive(Debug)]
pub struct Health {
    serving: Arc<AtomicBool>,
    task: AbortHandle,
    _tasks: JoinSet<()>,
}

impl Health {
    /// Serves on all addresses of the namespace, on the test's own runtime.
    pub fn serve(netns: &Netns, port: u16, serving: bool) -> anyhow::Result<Self> {
        let listener = netns.run(|| TcpListener::bind(("0.0.0.0", port)).context("listening for health checks"))?;
        listener.set_nonblocking(true)?;
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let serving = Arc::new(AtomicBool::new(serving));
        let mut tasks = JoinSet::new();
        let task = tasks.spawn(accept(listener, serving.clone()));
        Ok(Self {
            serving,
            task,
            _tasks: tasks,
        })
    }

    /// What it answers from now on.
    pub fn set(&self, serving: bool) {
        self.serving.store(serving, Ordering::Relaxed);
    }
}

impl Drop for Health {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: tokio::net::TcpListener, serving: Arc<AtomicBool>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let serving = serving.clone();
        connections.spawn(async move {
            let Ok(mut connection) = h2::server::handshake(stream).await else {
                return;
            };
            while let Some(Ok((_request, respond))) = connection.accept().await {
                // A client that went away is no concern of the server's.
                let _ = answer(respond, serving.load(Ordering::Relaxed));
            }
        });
        while connections.try_join_next().is_some() {}
    }
}

fn answer(mut respond: SendResponse<Bytes>, serving: bool) -> Result<(), h2::Error> {
    let mut head = Response::new(());
    head.headers_mut()
        .insert("content-type", HeaderValue::from_static("application/grpc"));
    let mut body = respond.send_response(head, false)?;
    body.send_data(Bytes::from_static(if serving { SERVING } else { NOT_SERVING }), false)?;
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    body.send_trailers(trailers)
}
