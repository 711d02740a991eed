//! The way of every request: understood, counted, its sender known and allowed, answered, written down.
//!
//! One [`Router`] serves all connections and, as a [`tower::Service`], clients within the process, whose identity is an
//! [`Identity`] among the request's extensions. Extensions don't travel: nothing that comes by a socket has one.

use std::{
    convert::Infallible,
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::FutureExt;
use http::{HeaderValue, Request as HttpRequest, Response, header, request::Parts};
use hyper::body::Body as HttpBody;
use jiff::Timestamp;
use tokio::time::timeout;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    body::{Body, BodyError, Budget, too_many_requests},
    encode::Encoder,
    gate::{Gate, Sender},
    negotiate::{self, Offers},
    observe::Observation,
    paths::Paths,
    places::Places,
    query::Query,
    resources,
    target::{ResourcePath, Target},
};
use crate::{
    Notes, Request, Scope, Status, User,
    audit::{Audit, Origin},
    connect::Dialer,
    metrics::Metrics,
    registry::Registry,
    server::Peer,
    status::Reason,
    usage::Usage,
};

/// Who asks, for requests from within the process.
#[derive(Clone, Debug)]
pub struct Identity(pub Arc<User>);

/// What all requests together may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// At a time, of those that change nothing; more are told to come again.
    pub reads: usize,
    /// At a time, of those that change something.
    pub writes: usize,
    /// Of bodies that are being worked on, in bytes.
    pub bodies: usize,
    /// For a request that doesn't last.
    pub time: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            reads: 400,
            writes: 200,
            bodies: 64 << 20,
            time: Duration::from_secs(60),
        }
    }
}

/// Answers requests. Cheap to clone.
#[derive(Clone)]
pub struct Router(Arc<Shared>);

/// What answering takes.
pub(super) struct Shared {
    pub(super) registry: Arc<Registry>,
    pub(super) gate: Gate,
    pub(super) paths: Paths,
    pub(super) audit: Audit,
    pub(super) metrics: Metrics,
    pub(super) bodies: Budget,
    reads: Places,
    writes: Places,
    time: Duration,
    /// When the server ends, so do its watches and sessions.
    pub(super) end: CancellationToken,
    /// How nodes, pods and services are reached, if they are.
    pub(super) dialer: Option<Arc<dyn Dialer>>,
    /// What nodes and pods consume, if that is told.
    pub(super) usage: Option<Usage>,
    /// Connections that became sessions, one task each.
    sessions: TaskTracker,
}

/// A request whose sender is known to be allowed it.
pub(super) struct Exchange<'a> {
    pub(super) parts: &'a Parts,
    pub(super) query: Query,
    pub(super) request: Request,
}

impl Router {
    /// Answers by `registry` and `paths` whom `gate` lets in, until `end`.
    pub fn new(
        registry: Arc<Registry>,
        gate: Gate,
        paths: Paths,
        audit: Audit,
        metrics: Metrics,
        limits: Limits,
        end: CancellationToken,
    ) -> Self {
        Self(Arc::new(Shared {
            registry,
            gate,
            paths,
            audit,
            bodies: Budget::new(limits.bodies),
            reads: Places::new(limits.reads, metrics.in_flight(true)),
            writes: Places::new(limits.writes, metrics.in_flight(false)),
            metrics,
            time: limits.time,
            end,
            dialer: None,
            usage: None,
            sessions: TaskTracker::new(),
        }))
    }

    /// Reaches nodes, pods and services by `dialer`; without one, what they answer is unavailable.
    pub fn reaching(mut self, dialer: Arc<dyn Dialer>) -> Self {
        let shared = Arc::get_mut(&mut self.0).expect("a router is put together before it is used");
        shared.dialer = Some(dialer);
        self
    }

    /// Serves `metrics.k8s.io` by `usage`; without it, there is no such group unless it is defined.
    pub fn measuring(mut self, usage: Usage) -> Self {
        let shared = Arc::get_mut(&mut self.0).expect("a router is put together before it is used");
        shared.usage = Some(usage);
        self
    }

    /// Whether a request passes on what somebody else says, at their pace and its client's.
    pub fn passes_on<B>(request: &HttpRequest<B>) -> bool {
        let target = Target::parse(request.method(), request.uri().path(), &Query::default());
        matches!(target, Ok(target) if target.passes_on())
    }

    /// Whether a request may last as long as its client likes. A path that makes no sense may not.
    pub fn may_last<B>(request: &HttpRequest<B>) -> bool {
        let query = Query::parse(request.uri().query().unwrap_or_default());
        let target = query.map(|query| Target::parse(request.method(), request.uri().path(), &query));
        matches!(target, Ok(Ok(target)) if target.long_running())
    }

    /// Answers one request, whatever happens.
    pub async fn answer<B>(&self, request: HttpRequest<B>) -> Response<Body>
    where
        B: HttpBody<Data = Bytes> + Send + 'static,
        B::Error: Into<BodyError>,
    {
        let (parts, body) = request.into_parts();
        let id = audit_id(&parts);
        let mut response = self.0.observed(&parts, body, &id).await;
        let headers = response.headers_mut();
        if let Ok(id) = HeaderValue::from_str(&id) {
            headers.insert("audit-id", id);
        }
        headers
            .entry(header::CACHE_CONTROL)
            .or_insert(HeaderValue::from_static("no-cache, private"));
        response
    }
}

impl<B> tower::Service<HttpRequest<B>> for Router
where
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<BodyError>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: HttpRequest<B>) -> Self::Future {
        let router = self.clone();
        Box::pin(async move { Ok(router.answer(request).await) })
    }
}

/// What is known of a request before its sender is.
struct Understood {
    query: Query,
    target: Target,
}

impl Shared {
    /// Answers with everything counted until the answer's end.
    async fn observed<B>(&self, parts: &Parts, body: B, id: &str) -> Response<Body>
    where
        B: HttpBody<Data = Bytes> + Send + 'static,
        B::Error: Into<BodyError>,
    {
        let started = Instant::now();
        let understood = understand(parts);
        let target = understood.as_ref().ok().map(|understood| &understood.target);
        let mut observation = Observation::new(&self.metrics, target, started);
        let outcome = match understood {
            Ok(understood) => {
                let lasts = understood.target.long_running();
                // What answering takes is in memory only from here to the answer's head: thousands may wait before and after.
                let work = Box::pin(self.admitted(parts, body, understood, id, &mut observation));
                let work = AssertUnwindSafe(work).catch_unwind();
                let outcome = if lasts {
                    work.await
                } else {
                    timeout(self.time, work).await.unwrap_or_else(|_| Ok(Err(overdue())))
                };
                // The panic itself was logged where it happened.
                outcome.unwrap_or_else(|_| {
                    observation.panicked();
                    Err(Status::internal("the handler of this request panicked"))
                })
            }
            Err(status) => Err(status),
        };
        let response = outcome.unwrap_or_else(|status| {
            observation.failed(&status);
            failure(parts, &status)
        });
        observation.begins(response.status().as_u16());
        if let Some(session) = observation.session() {
            let end = self.end.clone();
            self.sessions.spawn(async move {
                tokio::select! {
                    () = session => {}
                    () = end.cancelled() => {}
                }
                drop(observation);
            });
            return response;
        }
        response.map(|body| body.observed(observation))
    }

    async fn admitted<B>(
        &self,
        parts: &Parts,
        body: B,
        understood: Understood,
        id: &str,
        observation: &mut Observation,
    ) -> Result<Response<Body>, Status>
    where
        B: HttpBody<Data = Bytes> + Send + 'static,
        B::Error: Into<BodyError>,
    {
        let Understood { query, target } = understood;
        let identity = parts.extensions.get::<Identity>();
        let places = self.places(target.read_only());
        // Whether the server lives can be asked of it however busy it is.
        if identity.is_none() && !target.long_running() && !target.path.starts_with("/livez") {
            let place = places.take().ok_or_else(|| self.refused(&target))?;
            observation.takes(place);
        }
        let now = Timestamp::now();
        let peer = parts.extensions.get::<Peer>();
        let mut sender = match identity {
            Some(Identity(user)) => self.gate.as_wanted(&parts.headers, user.clone()),
            None => self.gate.sender(parts, peer, now).await,
        };
        if let Some(place) = observation.place()
            && !places.claim(place, &sender.user.name)
        {
            sender.refused = Some(self.refused(&target));
        }
        let refused = sender.refused.take();
        let lasts = target.long_running();
        let (request, found) = self.request(target, sender, now);
        observation.about(&request, lasts);
        observation.record = self.audit.begin(&request, || Origin {
            id: id.to_owned(),
            uri: parts.uri.to_string(),
            agent: text(parts, &header::USER_AGENT),
            source: peer.map(|peer| peer.address.ip().to_string()),
        });
        if let Some(status) = refused {
            return Err(status);
        }
        let decision = self.gate.may(&request, &query);
        if let Some(record) = &mut observation.record {
            let (allowed, reason) = match &decision {
                Ok(reason) => (true, &**reason),
                Err(status) => (false, &*status.message),
            };
            record.decided(allowed, reason);
        }
        decision?;
        if !found {
            return Err(unknown());
        }
        let exchange = Exchange { parts, query, request };
        if exchange.request.resource.is_some() {
            resources::answer(self, &exchange, body, observation).await
        } else {
            self.paths.answer(self, &exchange).await
        }
    }

    fn places(&self, read_only: bool) -> &Places {
        if read_only { &self.reads } else { &self.writes }
    }

    /// There is no place for it.
    fn refused(&self, target: &Target) -> Status {
        self.metrics.rejected(target.read_only()).inc();
        too_many_requests()
    }

    /// The request, and whether there is such a resource. One about a resource that is unknown is judged by its path.
    fn request(&self, target: Target, sender: Sender, now: Timestamp) -> (Request, bool) {
        let table = self.registry.table();
        let path = target.resource.unwrap_or_default();
        let row = table.get(&path.group, &path.version, &path.plural);
        let measured = || {
            self.usage
                .as_ref()
                .and_then(|usage| usage.row(&path.group, &path.version, &path.plural))
        };
        let row = row.or_else(measured).filter(|row| fits(&path, row.scope)).cloned();
        let found = row.is_some() || path.plural.is_empty();
        let namespaced = row.as_ref().is_some_and(|row| row.scope == Scope::Namespaced);
        let request = Request {
            user: sender.user,
            impersonator: sender.impersonator,
            verb: target.verb,
            resource: row,
            subresource: path.subresource,
            namespace: if namespaced { path.namespace } else { String::new() },
            name: path.name,
            path: target.path,
            now,
            notes: Notes::default(),
        };
        (request, found)
    }
}

/// Whether a path has a namespace where it should.
fn fits(path: &ResourcePath, scope: Scope) -> bool {
    match scope {
        // Across namespaces there are only collections.
        Scope::Namespaced => !path.namespace.is_empty() || path.name.is_empty(),
        Scope::Cluster => path.namespace.is_empty() || path.plural == "namespaces",
    }
}

fn understand(parts: &Parts) -> Result<Understood, Status> {
    let query = Query::parse(parts.uri.query().unwrap_or_default())?;
    let target = Target::parse(&parts.method, parts.uri.path(), &query)
        .map_err(|error| Status::bad_request(error.to_string()))?;
    Ok(Understood { query, target })
}

/// The number a client gave its request, if it is one that can be given back; else a new one.
fn audit_id(parts: &Parts) -> String {
    let given = text(parts, &header::HeaderName::from_static("audit-id"));
    let usable = (1..=64).contains(&given.len()) && given.bytes().all(|byte| byte.is_ascii_graphic());
    if usable {
        given
    } else {
        uuid::Uuid::new_v4().to_string()
    }
}

fn text(parts: &Parts, name: &header::HeaderName) -> String {
    let value = parts.headers.get(name);
    value.map_or_else(String::new, |value| {
        String::from_utf8_lossy(value.as_bytes()).into_owned()
    })
}

/// 404, where nothing is served.
pub(crate) fn unknown() -> Status {
    Status {
        details: Some(serde_json::json!({})),
        ..Status::new(Reason::NotFound, "the server could not find the requested resource")
    }
}

fn overdue() -> Status {
    Status::new(
        Reason::Timeout,
        "Timeout: request did not complete within the allotted timeout",
    )
}

/// An answer that says why not.
fn failure(parts: &Parts, status: &Status) -> Response<Body> {
    let offers = Offers {
        protobuf: true,
        table: false,
        metadata: false,
    };
    let query = Query::parse(parts.uri.query().unwrap_or_default()).unwrap_or_default();
    let answer = negotiate::negotiate(&parts.headers, &query, offers);
    let encoder = answer
        .and_then(|answer| Encoder::new(answer, None, None, &query, Timestamp::now()))
        .unwrap_or_else(|_| Encoder::json());
    let mut response = Response::new(Body::full(encoder.value(&status.to_json())));
    *response.status_mut() = http::StatusCode::from_u16(status.reason.code()).expect("reasons have codes of HTTP");
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, encoder.media_type(false));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    let retry = status
        .details
        .as_ref()
        .and_then(|details| details["retryAfterSeconds"].as_u64());
    if let Some(seconds) = retry {
        headers.insert(header::RETRY_AFTER, seconds.into());
    }
    if status.reason == Reason::Unauthorized {
        headers.insert(
            header::WWW_AUTHENTICATE,
            HeaderValue::from_static("Bearer realm=\"kubernetes\""),
        );
    }
    response
}
