//! Connections to an API server, and the [`kube::Client`] that uses them.
//!
//! ```text
//!  kube::Client ──▶ Connection ──▶ Line: one access, its pools of HTTP/2 and HTTP/1.1 connections
//!                      │ replace(), or a file of the kubeconfig changed
//!                      └──────────▶ the next Line; the former's connections end with their requests, or soon
//! ```
//!
//! Where the server is, how it is known and who we are is one value, [`Access`]. It is read from a kubeconfig, whose
//! files are looked at again when they change, or made by whoever joins a cluster, and can be replaced while clients use
//! it: new requests take new connections with the new certificate. There are no tasks and no timers: whatever is to be
//! found out is found out by the next request.
//!
//! - [`access`]: the value, and [`kubeconfig`], which it is read from.
//! - [`tls`]: a connection from name to handshake, each step with its own error.
//! - [`failure`]: what went wrong, told by its step.

pub mod access;
mod body;
pub mod failure;
pub mod kubeconfig;
mod tls;

use std::{
    future::Future,
    path::Path,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use http::{
    HeaderValue, Request, Response, Uri,
    header::{AUTHORIZATION, UPGRADE, USER_AGENT},
    uri::PathAndQuery,
};
use hyper_util::{
    client::legacy,
    rt::{TokioExecutor, TokioTimer},
};
use kube::client::Body;
use parking_lot::Mutex;
use tokio_util::sync::{CancellationToken, DropGuard};

pub use self::{
    access::{Access, Identity, Token, Trust},
    failure::{Failure, TlsFailure},
    kubeconfig::AccessError,
};
use self::{body::Answer, kubeconfig::Watched, tls::Connector};

/// Files are looked at for changes no more often.
const LOOK: Duration = Duration::from_secs(1);
/// An unused connection is closed after this time.
const IDLE: Duration = Duration::from_secs(90);

type Error = Box<dyn std::error::Error + Send + Sync>;

/// How long to wait for what, and as whom to introduce oneself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// For a connection to stand, from the name's resolution to the end of the TLS handshake.
    pub connect: Duration,
    /// For an answer to begin, and then for each further piece of it; a watch may be silent for any time.
    pub request: Duration,
    /// Requests on a connection of a former access may take this long to end.
    pub grace: Duration,
    /// How often a connection is pinged (HTTP/2).
    pub ping: Duration,
    /// How long a server may take to answer a ping before its connection is given up.
    pub pong: Duration,
    /// The header of that name.
    pub user_agent: String,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            request: Duration::from_secs(60),
            grace: Duration::from_secs(10),
            ping: Duration::from_secs(10),
            pong: Duration::from_secs(15),
            user_agent: concat!("bosun/", env!("CARGO_PKG_VERSION")).to_owned(),
        }
    }
}

/// An answer did not begin, or did not go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the server did not answer within {} s", .0.as_secs())]
pub struct NoAnswer(pub Duration);

/// Connections to one API server. Clones are the same connections.
#[derive(Clone)]
pub struct Connection {
    shared: Arc<Shared>,
}

struct Shared {
    line: ArcSwap<Line>,
    files: Option<Mutex<Followed>>,
    options: Options,
    user_agent: HeaderValue,
}

/// A kubeconfig and the files it names.
struct Followed {
    watched: Watched,
    looked: Instant,
}

type Pool = legacy::Client<Connector, Body>;

/// The connections of one access.
struct Line {
    access: Access,
    pool: Pool,
    /// Upgrades are HTTP/1.1's.
    upgrades: Pool,
    _retire: DropGuard,
}

impl Line {
    fn new(access: Access, options: &Options) -> Result<Self, AccessError> {
        let retired = CancellationToken::new();
        let pool = |http2: bool| -> Result<Pool, AccessError> {
            let connector = Connector::new(&access, http2, options, retired.clone())?;
            let mut builder = legacy::Builder::new(TokioExecutor::new());
            builder
                .timer(TokioTimer::new())
                .pool_timer(TokioTimer::new())
                .pool_idle_timeout(IDLE)
                .http2_keep_alive_interval(options.ping)
                .http2_keep_alive_timeout(options.pong)
                .http2_keep_alive_while_idle(true);
            Ok(builder.build(connector))
        };
        Ok(Self {
            pool: pool(true)?,
            upgrades: pool(false)?,
            _retire: retired.drop_guard(),
            access,
        })
    }
}

impl Connection {
    /// Connections by this access. None is made before the first request.
    pub fn new(access: Access, options: Options) -> Result<Self, AccessError> {
        Self::with(access, None, options)
    }

    /// Connections by what a kubeconfig's current context says. It and the files that it names are read again when they
    /// have changed; while they can't be used, what was read before holds on.
    pub fn from_kubeconfig(path: &Path, options: Options) -> Result<Self, AccessError> {
        let mut watched = Watched::new(path);
        let access = watched.read()?;
        let followed = Followed {
            watched,
            looked: Instant::now(),
        };
        Self::with(access, Some(Mutex::new(followed)), options)
    }

    fn with(access: Access, files: Option<Mutex<Followed>>, options: Options) -> Result<Self, AccessError> {
        let user_agent =
            HeaderValue::from_str(&options.user_agent).unwrap_or_else(|_| HeaderValue::from_static("bosun"));
        let line = ArcSwap::from_pointee(Line::new(access, &options)?);
        let shared = Arc::new(Shared {
            line,
            files,
            options,
            user_agent,
        });
        Ok(Self { shared })
    }

    /// Takes another access: from now on requests go by new connections.
    pub fn replace(&self, access: Access) -> Result<(), AccessError> {
        self.shared.replace(access)
    }

    /// What requests go by now.
    pub fn access(&self) -> Access {
        self.shared.line.load().access.clone()
    }

    /// A client that uses these connections. It must be made inside an async runtime.
    pub fn client(&self) -> kube::Client {
        kube::Client::new(self.clone(), self.access().namespace)
    }
}

impl Shared {
    fn replace(&self, access: Access) -> Result<(), AccessError> {
        if self.line.load().access == access {
            return Ok(());
        }
        self.line.store(Arc::new(Line::new(access, &self.options)?));
        Ok(())
    }

    /// Looks whether the files have changed, unless that was done just now.
    fn look(&self) {
        let Some(mut followed) = self.files.as_ref().and_then(Mutex::try_lock) else {
            return;
        };
        if followed.looked.elapsed() < LOOK {
            return;
        }
        followed.looked = Instant::now();
        if !followed.watched.changed() {
            return;
        }
        let path = followed.watched.path().to_owned();
        match followed.watched.read().and_then(|access| self.replace(access)) {
            Ok(()) => tracing::info!(file = %path.display(), "read the kubeconfig again: it has changed"),
            Err(error) => tracing::warn!(
                file = %path.display(),
                error = %failure::chain(&error),
                "the kubeconfig has changed and can't be used; going on with what it said before"
            ),
        }
    }

    fn send(&self, mut request: Request<Body>) -> Sent {
        self.look();
        let line = self.line.load();
        let headers = request.headers_mut();
        if !headers.contains_key(USER_AGENT) {
            headers.insert(USER_AGENT, self.user_agent.clone());
        }
        if let Some(token) = &line.access.token
            && !headers.contains_key(AUTHORIZATION)
        {
            headers.insert(AUTHORIZATION, token.header());
        }
        let upgrade = headers.contains_key(UPGRADE);
        let pool = if upgrade { &line.upgrades } else { &line.pool };
        let silent = upgrade || may_be_silent(request.uri().query().unwrap_or_default());
        *request.uri_mut() = absolute(&line.access.server, request.uri());
        let answer = pool.request(request);
        let limit = self.options.request;
        Box::pin(async move {
            let response = tokio::time::timeout(limit, answer)
                .await
                .map_err(|_| NoAnswer(limit))??;
            Ok(response.map(|body| Answer::new(body, (!silent).then_some(limit))))
        })
    }
}

type Sent = Pin<Box<dyn Future<Output = Result<Response<Answer>, Error>> + Send>>;

impl tower::Service<Request<Body>> for Connection {
    type Response = Response<Answer>;
    type Error = Error;
    type Future = Sent;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Sent {
        self.shared.send(request)
    }
}

/// Whether nothing may come for long though all is well: watches, and logs that are followed.
fn may_be_silent(query: &str) -> bool {
    query.split('&').any(|pair| {
        matches!(
            pair.split_once('='),
            Some(("watch" | "follow", "1" | "t" | "T" | "true" | "True" | "TRUE"))
        )
    })
}

/// The server's own path is put before that of the request.
fn absolute(server: &Uri, request: &Uri) -> Uri {
    let mut parts = server.clone().into_parts();
    let prefix = server.path().trim_end_matches('/');
    let asked = request.path_and_query().map_or("/", PathAndQuery::as_str);
    let whole = format!("{prefix}{asked}");
    // Both were paths before, and so is what they make.
    parts.path_and_query = whole.parse().ok().or_else(|| request.path_and_query().cloned());
    Uri::from_parts(parts).unwrap_or_else(|_| request.clone())
}

#[cfg(test)]
mod tests;
