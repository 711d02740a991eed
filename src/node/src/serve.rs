//! The agent's HTTPS API, upstream's kubelet API: what the API server asks of a node on behalf of those who read logs, run
//! commands in containers and reach their ports.
//!
//! ```text
//!  listener ─▶ connection (TLS, HTTP) ─▶ who asks, may they? ─▶ route ─▶ pods │ logs │ files │ run
//!                                          Auth (TokenReview,               └─▶ stream ─ upgrade ─▶ session
//!                                          SubjectAccessReview)                       (container runtime's server)
//! ```
//!
//! One task accepts; each connection is a task of its [`JoinSet`]; a session that a connection was upgraded to is a task
//! of its own, which ends with [`run`]. What a client may take is bounded by [`Limits`]; a connection's place is held by
//! its sessions too.
//!
//! Pure: [`route`], [`auth::attributes`], [`pods`], [`logs::line`], [`logs::options`].

pub mod auth;
mod body;
mod files;
pub mod logs;
pub mod pods;
pub mod route;
mod stream;

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use bosun_api::core::{Pod, PodStatus};
use bosun_cri::Runtime;
use bosun_pki::{Certificate, tls::AnyClient};
use http::{Method, Request, Response, StatusCode};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use nix::sys::socket::{setsockopt, sockopt};
use rustls::{
    ServerConfig,
    pki_types::CertificateDer,
    server::{ResolvesServerCert, danger::ClientCertVerifier},
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_rustls::TlsAcceptor;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::{
    auth::{Auth, Gate},
    body::{Body, text},
    route::Route,
};
use crate::{node::Node, places::Places, stats::Stats};

/// What one client, and all together, may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at a time, with the sessions they became; more are closed at once.
    pub connections: usize,
    /// From the connection to the end of the TLS handshake.
    pub handshake: Duration,
    /// From the first moment a request may come to the end of its head (HTTP/1.1).
    pub head: Duration,
    /// A session over which nothing passes is ended.
    pub idle: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 1000,
            handshake: Duration::from_secs(10),
            head: Duration::from_secs(32),
            idle: bosun_streaming::session::IDLE,
        }
    }
}

/// How connections are secured.
pub struct Tls {
    /// The node's certificate, asked anew in each handshake.
    pub certificate: Arc<dyn ResolvesServerCert>,
    /// Whose client certificates are believed, as of now.
    pub authorities: watch::Receiver<Arc<Vec<Certificate>>>,
}

/// The pods of the node, as far as they are known.
pub trait Pods: Send + Sync {
    /// Each pod with its status.
    fn all(&self) -> Vec<(Arc<Pod>, PodStatus)>;
}

impl Pods for Node {
    fn all(&self) -> Vec<(Arc<Pod>, PodStatus)> {
        let notices = self.board.all().into_iter();
        notices.map(|notice| (notice.pod, notice.status)).collect()
    }
}

/// What the API tells of.
pub struct Agent {
    /// The node's name.
    pub node_name: String,
    /// Its pods.
    pub pods: Arc<dyn Pods>,
    /// Its container runtime.
    pub runtime: Arc<dyn Runtime>,
    /// Where things are.
    pub places: Places,
    /// Answers what is consumed; `None` where nobody counts.
    pub stats: Option<Stats>,
    /// What `/configz` shows: the `KubeletConfiguration` in force.
    pub config: serde_json::Value,
}

impl Agent {
    /// That of a node.
    pub fn of(node: &Arc<Node>, config: serde_json::Value) -> Self {
        Self {
            node_name: node.name.clone(),
            pods: node.clone(),
            runtime: node.runtime.clone(),
            places: node.places.clone(),
            stats: Some(Stats::new(node.clone())),
            config,
        }
    }
}

/// Everything that answering takes.
struct Server {
    agent: Arc<Agent>,
    gate: Gate,
    idle: Duration,
    sessions: TaskTracker,
    end: CancellationToken,
}

/// Serves for as long as it is polled.
pub async fn run(listener: TcpListener, tls: Tls, auth: Arc<dyn Auth>, agent: Arc<Agent>, limits: Limits) {
    let end = CancellationToken::new();
    // Sessions end with this future.
    let _guard = end.clone().drop_guard();
    let acceptor = match acceptor(&tls) {
        Ok(acceptor) => acceptor,
        Err(error) => {
            tracing::error!(%error, "the node's API can't be served: the TLS library refuses its configuration");
            return;
        }
    };
    let server = Arc::new(Server {
        gate: Gate::new(auth, tls.authorities, &agent.node_name),
        agent,
        idle: limits.idle,
        sessions: TaskTracker::new(),
        end,
    });
    let places = Arc::new(Semaphore::new(limits.connections));
    let mut connections = JoinSet::new();
    let mut refused = 0_u64;
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(ended) = connections.join_next() => {
                report(ended);
                continue;
            }
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of file descriptors, most likely: those in use must end first.
                tracing::warn!(%error, "node API: a connection could not be accepted");
                sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let Ok(place) = places.clone().try_acquire_owned() else {
            refused += 1;
            if refused.is_power_of_two() {
                tracing::warn!(refused, limit = limits.connections, "node API: too many connections");
            }
            continue;
        };
        let connection = Connection {
            server: server.clone(),
            peer,
            place: Arc::new(place),
            limits,
        };
        connections.spawn(connection.run(stream, acceptor.clone()));
    }
}

fn report(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "node API: a connection's task panicked");
    }
}

fn acceptor(tls: &Tls) -> Result<TlsAcceptor, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    // Whom a certificate names, and whether it is believed, is for the gate to say: authorities change.
    let clients: Arc<dyn ClientCertVerifier> = AnyClient::without_hint();
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(clients)
        .with_cert_resolver(tls.certificate.clone());
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Has the kernel notice a client that vanished while nothing was said.
fn keep_alive(stream: &TcpStream) -> std::io::Result<()> {
    setsockopt(stream, sockopt::KeepAlive, &true)?;
    setsockopt(stream, sockopt::TcpKeepIdle, &30)?;
    Ok(setsockopt(stream, sockopt::TcpKeepInterval, &15)?)
}

/// The certificates that a client showed, its own first.
#[derive(Clone, Debug, Default)]
struct Shown(Arc<Vec<CertificateDer<'static>>>);

struct Connection {
    server: Arc<Server>,
    peer: SocketAddr,
    place: Arc<OwnedSemaphorePermit>,
    limits: Limits,
}

impl Connection {
    async fn run(self, stream: TcpStream, acceptor: TlsAcceptor) {
        if let Err(error) = stream.set_nodelay(true).and_then(|()| keep_alive(&stream)) {
            tracing::debug!(%error, "node API: the connection is gone before its first byte");
            return;
        }
        let stream = match timeout(self.limits.handshake, acceptor.accept(stream)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                tracing::debug!(peer = %self.peer, %error, "node API: the TLS handshake failed");
                return;
            }
            Err(_) => {
                tracing::debug!(peer = %self.peer, "node API: the TLS handshake took too long");
                return;
            }
        };
        let (_, session) = stream.get_ref();
        let shown = session.peer_certificates().unwrap_or_default();
        let shown = Shown(Arc::new(shown.iter().map(|one| one.clone().into_owned()).collect()));
        let http2 = session.alpn_protocol() == Some(b"h2");
        let (server, place) = (self.server, self.place);
        let service = service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(shown.clone());
            request.extensions_mut().insert(place.clone());
            let server = server.clone();
            async move { Ok::<_, Infallible>(server.answer(request).await) }
        });
        let builder = auto::Builder::new(TokioExecutor::new());
        let mut builder = if http2 {
            builder.http2_only()
        } else {
            builder.http1_only()
        };
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(self.limits.head)
            .max_buf_size(64 << 10);
        builder
            .http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(100)
            .keep_alive_interval(Duration::from_secs(30))
            .keep_alive_timeout(Duration::from_secs(20));
        let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
        if let Err(error) = connection.await {
            tracing::debug!(peer = %self.peer, %error, "node API: the connection broke");
        }
    }
}

const NOBODY_COUNTS: &str = "what is consumed is not counted here\n";

impl Server {
    async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        let shown = request.extensions().get::<Shown>().cloned().unwrap_or_default();
        if let Err(refusal) = self.gate.admit(&request, &shown.0).await {
            return refusal.into_response();
        }
        let Some(route) = Route::parse(request.uri().path()) else {
            return text(StatusCode::NOT_FOUND, "404 page not found\n");
        };
        if !route.takes(request.method()) {
            return text(StatusCode::METHOD_NOT_ALLOWED, "405: Method Not Allowed\n");
        }
        match route {
            Route::Healthz => text(StatusCode::OK, "ok"),
            Route::Configz => body::json(&serde_json::json!({"kubeletconfig": self.agent.config})),
            Route::Pods => body::json(&pods::list(self.agent.pods.all())),
            Route::RunningPods => match pods::running(&*self.agent.runtime).await {
                Ok(list) => body::json(&list),
                Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
            },
            Route::Summary => match &self.agent.stats {
                Some(stats) => match stats.summary().await {
                    Ok(summary) => body::json(&summary),
                    Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
                },
                None => text(StatusCode::NOT_FOUND, NOBODY_COUNTS),
            },
            Route::ResourceMetrics => match &self.agent.stats {
                Some(stats) => text(StatusCode::OK, stats.resource().await),
                None => text(StatusCode::NOT_FOUND, NOBODY_COUNTS),
            },
            Route::Files(path) => files::answer(&self.agent.places.logs, &path).await,
            Route::Logs(target) => self.logs(&request, &target).await,
            Route::Run(target) => self.run(&request, &target).await,
            Route::Exec(target) => self.exec(request, &target).await,
            Route::Attach(target) => self.attach(request, &target).await,
            Route::PortForward { pod } => self.port_forward(request, &pod).await,
        }
    }

    async fn logs(&self, request: &Request<Incoming>, target: &route::Target) -> Response<Body> {
        let options = match logs::Options::parse(request.uri().query().unwrap_or_default(), jiff::Timestamp::now()) {
            Ok(options) => options,
            Err(why) => return text(StatusCode::UNPROCESSABLE_ENTITY, why),
        };
        let all = self.agent.pods.all();
        let Some((pod, status)) = pods::find(&all, &target.pod) else {
            let message = format!("pod {:?} does not exist\n", target.pod.name);
            return text(StatusCode::NOT_FOUND, message);
        };
        if !pods::has_container(pod, &target.container) {
            let message = format!(
                "container {:?} not found in pod {:?}\n",
                target.container, target.pod.name
            );
            return text(StatusCode::NOT_FOUND, message);
        }
        let id = match pods::logged(status, &target.pod.name, &target.container, options.previous) {
            Ok(id) => id,
            Err(why) => return text(StatusCode::BAD_REQUEST, why),
        };
        let directory = self
            .agent
            .places
            .pod_logs(&target.pod, &crate::pod::sandbox::pod_uid(pod));
        let log = logs::Log::open(self.agent.runtime.clone(), id, &directory, options);
        match log.await {
            Ok(log) => {
                let mut response = Response::new(body::stream(log.into_stream()));
                let kind = http::HeaderValue::from_static("text/plain");
                response.headers_mut().insert(http::header::CONTENT_TYPE, kind);
                response
            }
            Err(error) => text(StatusCode::BAD_REQUEST, error.to_string()),
        }
    }
}

impl Route {
    /// Whether a method makes sense there.
    fn takes(&self, method: &Method) -> bool {
        match self {
            Self::Run(_) => method == Method::POST,
            Self::Exec(_) | Self::Attach(_) | Self::PortForward { .. } => matches!(*method, Method::GET | Method::POST),
            _ => matches!(*method, Method::GET | Method::HEAD),
        }
    }
}

#[cfg(test)]
mod tests;
