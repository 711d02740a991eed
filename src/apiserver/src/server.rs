//! The listener: connections, each in a task of its own, held to limits.
//!
//! One task accepts; each connection is a task in its [`JoinSet`]: TLS, then HTTP/2 or HTTP/1.1 by ALPN, each request
//! handed to the [`Router`] with its [`Peer`]. A panic ends the connection it is in (in a handler not even that: see
//! the router). What a client can cost is bounded:
//!
//! - connections by number, handshakes, request heads and idleness by time, heads by size;
//! - a write that makes no progress ([`stall`]) and a request that isn't over by its time ([`activity`]) cut the
//!   connection;
//! - bodies and requests in flight by the router.

mod activity;
mod stall;

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use hyper::{Request, body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use rustls::{
    ServerConfig,
    server::{ResolvesServerCert, danger::ClientCertVerifier},
};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::{Instant, sleep, sleep_until, timeout},
};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use self::activity::{Activity, Verdict};
use crate::http::Router;

/// What one client, and all together, may take of the listener.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at a time; more are closed at once.
    pub connections: usize,
    /// From the connection to the end of the TLS handshake.
    pub handshake: Duration,
    /// From the first moment a request may come to the end of its head (HTTP/1.1).
    pub head: Duration,
    /// A request's head, in bytes.
    pub head_size: usize,
    /// Without a request.
    pub idle: Duration,
    /// From a request's head to the end of its answer, unless it may last.
    pub request: Duration,
    /// Without a byte taken by the client.
    pub stall: Duration,
    /// Requests at a time in one HTTP/2 connection.
    pub streams: u32,
    /// For what is under way when the server ends.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 10_000,
            handshake: Duration::from_secs(10),
            head: Duration::from_secs(32),
            head_size: 64 << 10,
            idle: Duration::from_secs(90),
            request: Duration::from_secs(60),
            stall: Duration::from_secs(30),
            streams: 100,
            drain: Duration::from_secs(10),
        }
    }
}

/// The other end of the connection a request came by. In-process clients have none.
#[derive(Clone)]
pub struct Peer {
    /// Its address.
    pub address: SocketAddr,
    /// What its certificate says.
    pub identity: Arc<crate::auth::Peer>,
}

/// A server's side of TLS 1.2 and 1.3, HTTP/2 preferred. `certificate` is asked anew in each handshake, so that a renewed
/// one needs no restart; `clients` says what is asked of clients.
pub fn tls_config(
    certificate: Arc<dyn ResolvesServerCert>,
    clients: Arc<dyn ClientCertVerifier>,
) -> Result<ServerConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(clients)
        .with_cert_resolver(certificate);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// Serves `router` until `end`, then lets what is under way come to its end, for as long as the limits say.
pub async fn serve(
    listener: TcpListener,
    tls: Arc<ServerConfig>,
    router: Router,
    limits: Limits,
    end: CancellationToken,
) {
    let acceptor = TlsAcceptor::from(tls);
    let mut connections = JoinSet::new();
    let mut refused = 0_u64;
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(ended) = connections.join_next() => {
                report(ended);
                continue;
            }
            () = end.cancelled() => break,
        };
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of file descriptors, most likely: those in use must end first.
                warn!(%error, "no connection can be accepted");
                sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        if connections.len() >= limits.connections {
            refused += 1;
            if refused.is_power_of_two() {
                warn!(
                    refused,
                    limit = limits.connections,
                    "too many connections: new ones are closed"
                );
            }
            continue;
        }
        let connection = Connection {
            address,
            router: router.clone(),
            limits,
            end: end.clone(),
        };
        connections.spawn(connection.run(stream, acceptor.clone()));
    }
    drop(listener);
    let open = connections.len();
    info!(open, "the listener is closed; connections come to their end");
    let drained = timeout(limits.drain, async {
        while let Some(ended) = connections.join_next().await {
            report(ended);
        }
    });
    if drained.await.is_err() {
        warn!(left = connections.len(), "connections that did not end in time are cut");
        connections.shutdown().await;
    }
}

fn report(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "a connection's task panicked");
    }
}

struct Connection {
    address: SocketAddr,
    router: Router,
    limits: Limits,
    end: CancellationToken,
}

impl Connection {
    async fn run(self, stream: TcpStream, acceptor: TlsAcceptor) {
        // Watches are many small writes.
        if let Err(error) = stream.set_nodelay(true) {
            debug!(%error, "the connection is gone before its first byte");
            return;
        }
        let stream = match timeout(self.limits.handshake, acceptor.accept(stream)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                debug!(peer = %self.address, %error, "the TLS handshake failed");
                return;
            }
            Err(_) => {
                debug!(peer = %self.address, "the TLS handshake took too long");
                return;
            }
        };
        let (_, session) = stream.get_ref();
        let certificates = session.peer_certificates().unwrap_or_default();
        let peer = Peer {
            address: self.address,
            identity: Arc::new(crate::auth::Peer::new(
                certificates.iter().map(|one| one.clone().into_owned()).collect(),
            )),
        };
        let http2 = session.alpn_protocol() == Some(b"h2");
        let patience = stall::Patience::new(self.limits.stall);
        let stream = stall::NoStall::new(stream, patience.clone());
        self.converse(stream, patience, peer, http2).await;
    }

    /// Answers requests until either side ends the connection.
    async fn converse<S>(self, stream: S, patience: stall::Patience, peer: Peer, http2: bool)
    where
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    {
        let activity = Activity::new(Instant::now());
        let service = service_fn(|mut request: Request<Incoming>| {
            let deadline = Instant::now() + self.limits.request;
            // The router tells which requests may last.
            let busy = activity.begin((!Router::may_last(&request)).then_some(deadline));
            request.extensions_mut().insert(peer.clone());
            // Of HTTP/2's streams each has its own window: one that is paused holds up nothing.
            patience.passes_on(!http2 && Router::passes_on(&request));
            let router = self.router.clone();
            async move {
                let response = router.answer(request).await;
                Ok::<_, Infallible>(response.map(|body| body.observed(busy)))
            }
        });
        let builder = builder(&self.limits, http2);
        let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
        let mut connection = std::pin::pin!(connection);
        let mut goodbye_until: Option<Instant> = None;
        loop {
            let (now, look) = (Instant::now(), activity.verdict(Instant::now(), self.limits.idle));
            let wake = match (goodbye_until, look) {
                (_, Verdict::Overdue) => {
                    debug!(peer = %peer.address, "a request was not over in time: the connection is cut");
                    return;
                }
                (Some(until), _) if until <= now => return,
                (Some(until), _) | (None, Verdict::Until(until)) => until,
                (None, Verdict::Idle) => {
                    connection.as_mut().graceful_shutdown();
                    let until = now + self.limits.drain;
                    goodbye_until = Some(until);
                    until
                }
            };
            tokio::select! {
                ended = connection.as_mut() => {
                    if let Err(error) = ended {
                        debug!(peer = %peer.address, %error, "the connection broke");
                    }
                    return;
                }
                () = sleep_until(wake) => {}
                () = activity.sooner() => {}
                () = self.end.cancelled(), if goodbye_until.is_none() => {
                    connection.as_mut().graceful_shutdown();
                    goodbye_until = Some(Instant::now() + self.limits.drain);
                }
            }
        }
    }
}

fn builder(limits: &Limits, http2: bool) -> auto::Builder<TokioExecutor> {
    // What ALPN settled needs no guess, which would wait for a first byte without a deadline.
    let builder = auto::Builder::new(TokioExecutor::new());
    let mut builder = if http2 {
        builder.http2_only()
    } else {
        builder.http1_only()
    };
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head)
        // Also what is collected before it is written; larger chunks are written as they are.
        .max_buf_size(limits.head_size)
        .writev(true);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.streams)
        .max_header_list_size(limits.head_size as u32)
        .initial_stream_window_size(256 << 10)
        .initial_connection_window_size(1 << 20)
        .max_send_buf_size(MAX_WRITE)
        .max_frame_size(64 << 10)
        .keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(Duration::from_secs(20));
    builder
}

/// What is collected before it is written, in bytes for each of HTTP/2's streams: what a slow reader may hold.
const MAX_WRITE: usize = 64 << 10;

#[cfg(test)]
mod tests;
