//! Requests that somebody else answers: a node's agent, a pod, a service.

use std::sync::Arc;

use bosun_streaming::{
    session::IDLE,
    translate::{self, Plan, Refusal},
    upgrade::{self, Dialed},
};
use bytes::Bytes;
use futures_util::{FutureExt, stream};
use http::{HeaderMap, HeaderValue, Method, Request as HttpRequest, Response, StatusCode, header};
use http_body_util::{BodyExt, Limited, combinators::UnsyncBoxBody};
use hyper::{
    body::{Body as HttpBody, Incoming},
    client::conn::http1,
    upgrade::OnUpgrade,
};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::task::JoinSet;

use super::{
    body::{Body, BodyError},
    observe::Observation,
    query::Query,
    router::{Exchange, Shared, unknown},
};
use crate::{
    Reason, Request, Resource, Status,
    connect::{
        Dialer,
        place::{self, Endpoint, Named, Trust},
        rewrite,
    },
    options::ListOptions,
    selector::LabelSelector,
    server::Peer,
};

/// What an agent says of its failure is no longer than this, in bytes.
const MAX_FAILURE: usize = 50_000;

/// Answers a request for a log, a command, a port, or whatever is behind a proxy.
pub(super) async fn answer<B>(
    shared: &Shared,
    exchange: &Exchange<'_>,
    row: &Arc<Resource>,
    body: B,
    observation: &mut Observation,
) -> Result<Response<Body>, Status>
where
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<BodyError>,
{
    let request = &exchange.request;
    let dialer = shared.dialer.as_ref().ok_or_else(|| {
        Status::new(
            Reason::ServiceUnavailable,
            format!(
                "{}/{} needs a node to answer, and none can be reached",
                row.qualified(),
                request.subresource
            ),
        )
    })?;
    let mut handler = Handler {
        shared,
        exchange,
        dialer,
        observation,
    };
    match (&*row.plural, &*request.subresource) {
        ("pods", "log") => handler.log(row).await,
        ("pods", "exec" | "attach" | "portforward") => handler.session(row).await,
        (_, "proxy") => handler.proxy(row, body).await,
        _ => Err(unknown()),
    }
}

struct Handler<'a, 'e> {
    shared: &'a Shared,
    exchange: &'a Exchange<'e>,
    dialer: &'a Arc<dyn Dialer>,
    observation: &'a mut Observation,
}

impl Handler<'_, '_> {
    async fn object(&self, row: &Resource, name: &str) -> Result<Value, Status> {
        let registry = &self.shared.registry;
        let entry = registry.entry(row, &self.exchange.request.namespace, name, "").await?;
        Ok(entry.decode())
    }

    /// The node of a pod.
    async fn node_of(&self, pod: &Value) -> Result<Option<Value>, Status> {
        let Some(name) = pod["spec"]["nodeName"].as_str().filter(|name| !name.is_empty()) else {
            return Ok(None);
        };
        let table = self.shared.registry.table();
        let row = table.get("", "v1", "nodes").ok_or_else(unknown)?;
        let entry = self.shared.registry.entry(row, "", name, "").await?;
        Ok(Some(entry.decode()))
    }

    async fn log(&self, row: &Resource) -> Result<Response<Body>, Status> {
        let (request, query) = (&self.exchange.request, &self.exchange.query);
        let pod = self.object(row, &request.name).await?;
        let container = place::container(&pod, query.get("container").unwrap_or_default())?;
        let wanted = log_query(query)?;
        let Some(node) = self.node_of(&pod).await? else {
            // Nothing has been said yet.
            return Ok(plain_text(Body::empty()));
        };
        let mut agent = place::agent(&node)?;
        if query.on("insecureSkipTLSVerifyBackend") {
            agent.trust = Trust::Anybody;
        }
        let path = format!(
            "/containerLogs/{}/{}/{container}{wanted}",
            request.namespace, request.name
        );
        let asked = asking(&Method::GET, &path, &agent, HeaderMap::new())?.map(|()| empty());
        let (response, connection) = self.fetch(&agent, asked).await.map_err(Status::internal)?;
        if response.status() == StatusCode::OK {
            return Ok(plain_text(driven(response.into_body(), connection)));
        }
        Err(failure(response, &format!("pods/log {:?}", request.name)).await)
    }

    /// A command or a port.
    async fn session(&mut self, row: &Resource) -> Result<Response<Body>, Status> {
        let (parts, query) = (self.exchange.parts, &self.exchange.query);
        let request = self.exchange.request.clone();
        if request.verb == "get" {
            // What a WebSocket asks for with GET changes something all the same (KEP-4006).
            let create = Request {
                verb: "create",
                ..request.clone()
            };
            self.shared.gate.may(&create, query)?;
        }
        let pod = self.object(row, &request.name).await?;
        let (plan, mut path) = match &*request.subresource {
            "portforward" => {
                let plan = Plan::of_forward(&parts.headers, query.all("ports")).map_err(|refusal| refused(&refusal))?;
                let ports: Vec<&str> = query.all("ports").collect();
                let query = if ports.is_empty() {
                    String::new()
                } else {
                    format!("?port={}", ports.join(","))
                };
                (
                    plan,
                    format!("/portForward/{}/{}{}", request.namespace, request.name, escaped(&query)),
                )
            }
            action => {
                let streams = translate::streams(|name| query.on(name)).map_err(|refusal| refused(&refusal))?;
                let plan = Plan::of_command(&parts.headers, streams).map_err(|refusal| refused(&refusal))?;
                let container = place::container(&pod, query.get("container").unwrap_or_default())?;
                let mut path = format!("/{action}/{}/{}/{container}?", request.namespace, request.name);
                for (on, name) in [
                    (streams.stdin, "input=1&"),
                    (streams.stdout, "output=1&"),
                    (streams.stderr, "error=1&"),
                    (streams.tty, "tty=1&"),
                ] {
                    path += if on { name } else { "" };
                }
                for word in query.all("command") {
                    path.extend(["command=", &escaped_value(word), "&"]);
                }
                (plan, path)
            }
        };
        while path.ends_with(['&', '?']) {
            path.pop();
        }
        let node = self.node_of(&pod).await?;
        let hostless = || Status::bad_request(format!("pod {} does not have a host assigned", request.name));
        let node = node.ok_or_else(hostless)?;
        let agent = place::agent(&node)?;
        // An agent that speaks WebSocket itself is left to it.
        let plan = if place::speaks_websocket(&node) {
            Plan::Pass
        } else {
            plan
        };
        let asked = asking(&Method::POST, &path, &agent, HeaderMap::new())?;
        let asked = if plan == Plan::Pass {
            let mut asked = asked;
            *asked.method_mut() = parts.method.clone();
            asked
        } else {
            asked
        };
        self.upgrade(plan, &agent, asked).await
    }

    /// Asks for an upgraded connection, and puts it together with the client's.
    async fn upgrade(
        &mut self,
        plan: Plan,
        to: &Endpoint,
        mut asked: HttpRequest<()>,
    ) -> Result<Response<Body>, Status> {
        let parts = self.exchange.parts;
        let client = parts.extensions.get::<OnUpgrade>().cloned();
        let client = client.ok_or_else(|| refused(&Refusal::NoUpgrade))?;
        plan.ask(&parts.headers, &mut asked);
        let connection = self.dialer.dial(to).await.map_err(undialed)?;
        let (server, answer) = match upgrade::dial(connection, asked).await.map_err(undialed)? {
            Dialed::Upgraded(server, answer) => (server, answer),
            Dialed::Refused(response) if response.status().as_u16() < 400 => {
                let code = response.status().as_u16();
                return Err(Status::internal(format!(
                    "invalid upgrade response: status code {code}"
                )));
            }
            Dialed::Refused(response) => {
                let (answer, said) = response.into_parts();
                let mut response = Response::new(Body::full(said));
                *response.status_mut() = answer.status;
                if let Some(kind) = answer.headers.get(header::CONTENT_TYPE) {
                    response.headers_mut().insert(header::CONTENT_TYPE, kind.clone());
                }
                return Ok(response);
            }
        };
        let response = plan
            .answer(&parts.headers, &answer)
            .map_err(|refusal| refused(&refusal))?;
        let session = async move {
            let client = match client.await {
                Ok(client) => TokioIo::new(client),
                Err(error) => {
                    tracing::debug!(%error, "a client left before its session began");
                    return;
                }
            };
            if let Err(error) = plan.run(client, server, IDLE).await {
                tracing::debug!(%error, "a session broke off");
            }
        };
        self.observation.carries(session.boxed());
        Ok(response.map(|()| Body::empty()))
    }

    async fn proxy<B>(&mut self, row: &Resource, body: B) -> Result<Response<Body>, Status>
    where
        B: HttpBody<Data = Bytes> + Send + 'static,
        B::Error: Into<BodyError>,
    {
        let parts = self.exchange.parts;
        let name = self.exchange.request.name.clone();
        let named =
            Named::parse(&name).ok_or_else(|| Status::bad_request(format!("invalid {} name {name:?}", row.plural)))?;
        let object = self.object(row, named.name).await?;
        let to = match &*row.plural {
            "nodes" => place::node(&object, named)?,
            "pods" => place::pod(&object, named)?,
            "services" => {
                let slices = self.slices(named.name).await?;
                place::service(&object, &slices, named, |count| fastrand::usize(..count))?
            }
            _ => return Err(unknown()),
        };
        let (prefix, path) = split(parts.uri.path(), !self.exchange.request.namespace.is_empty());
        let query = parts.uri.query().map_or_else(String::new, |query| format!("?{query}"));
        let upgrades = parts.headers.contains_key(header::UPGRADE) && parts.extensions.get::<OnUpgrade>().is_some();
        if path.is_empty() && !upgrades && matches!(parts.method, Method::GET | Method::HEAD) {
            // Relative links lead astray otherwise.
            return Ok(moved(&format!("{prefix}/{query}")));
        }
        let from = parts.extensions.get::<Peer>().map(|peer| peer.address.ip().to_string());
        let headers = rewrite::request(&parts.headers, from.as_deref(), &parts.uri);
        let path = format!("{}{query}", if path.is_empty() { "/" } else { path });
        let asked = asking(&parts.method, &path, &to, headers)?;
        if upgrades {
            return self.upgrade(Plan::Pass, &to, asked).await;
        }
        let asked = asked.map(|()| body.map_err(Into::into).boxed_unsync());
        let (response, connection) = self.fetch(&to, asked).await.map_err(|why| {
            Status::new(
                Reason::ServiceUnavailable,
                format!("error trying to reach service: {why}"),
            )
        })?;
        let (mut answer, body) = response.into_parts();
        answer.headers = rewrite::without_hop(&answer.headers);
        let given = answer
            .headers
            .get(header::LOCATION)
            .and_then(|place| place.to_str().ok());
        let place = given.and_then(|given| rewrite::location(given, &to.authority(), prefix));
        if let Some(place) = place.and_then(|place| HeaderValue::try_from(place).ok()) {
            answer.headers.insert(header::LOCATION, place);
        }
        let mut passed = Response::new(driven(body, connection));
        *passed.status_mut() = answer.status;
        *passed.headers_mut() = answer.headers;
        Ok(passed)
    }

    /// The endpoint slices of a service.
    async fn slices(&self, service: &str) -> Result<Vec<Value>, Status> {
        let table = self.shared.registry.table();
        let row = table
            .get("discovery.k8s.io", "v1", "endpointslices")
            .ok_or_else(unknown)?;
        let selector = format!("kubernetes.io/service-name={service}");
        let options = ListOptions {
            labels: LabelSelector::parse(&selector).map_err(|error| Status::bad_request(error.to_string()))?,
            ..ListOptions::default()
        };
        let request = Request {
            verb: "list",
            resource: Some(row.clone()),
            subresource: String::new(),
            name: String::new(),
            ..self.exchange.request.clone()
        };
        let list = self.shared.registry.list(&request, &options).await?;
        Ok(list.entries.iter().map(|entry| entry.decode()).collect())
    }

    /// Asks, and begins to read the answer; the connection is driven by what is returned.
    async fn fetch(
        &self,
        to: &Endpoint,
        asked: HttpRequest<Upload>,
    ) -> Result<(Response<Incoming>, JoinSet<()>), String> {
        let connection = self
            .dialer
            .dial(to)
            .await
            .map_err(|error| format!("dial {}: {error}", to.authority()))?;
        let handshake = http1::handshake(TokioIo::new(connection)).await;
        let (mut sender, connection) = handshake.map_err(|error| error.to_string())?;
        let mut driver = JoinSet::new();
        driver.spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "the connection to who answers broke");
            }
        });
        let response = sender.send_request(asked).await.map_err(|error| error.to_string())?;
        Ok((response, driver))
    }
}

/// What is sent on of a client's request.
type Upload = UnsyncBoxBody<Bytes, BodyError>;

fn empty() -> Upload {
    http_body_util::Empty::new()
        .map_err(|never| match never {})
        .boxed_unsync()
}

/// A body whose connection is driven for as long as it is read.
fn driven(body: Incoming, connection: JoinSet<()>) -> Body {
    Body::stream(stream::try_unfold(
        (body, connection),
        |(mut body, connection)| async move {
            loop {
                let Some(frame) = body.frame().await else {
                    return Ok(None);
                };
                // Trailers are between neighbours.
                if let Ok(chunk) = frame?.into_data() {
                    return Ok(Some((chunk, (body, connection))));
                }
            }
        },
    ))
}

fn asking(method: &Method, path: &str, to: &Endpoint, headers: HeaderMap) -> Result<HttpRequest<()>, Status> {
    let request = HttpRequest::builder().method(method).uri(path);
    let mut request = request
        .body(())
        .map_err(|error| Status::bad_request(error.to_string()))?;
    *request.headers_mut() = headers;
    let host = HeaderValue::try_from(to.authority()).map_err(Status::internal)?;
    request.headers_mut().insert(header::HOST, host);
    Ok(request)
}

fn plain_text(body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    let kind = HeaderValue::from_static("text/plain");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

fn moved(place: &str) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::MOVED_PERMANENTLY;
    if let Ok(place) = HeaderValue::try_from(place) {
        response.headers_mut().insert(header::LOCATION, place);
    }
    response
}

fn refused(refusal: &Refusal) -> Status {
    let reason = match refusal.code() {
        StatusCode::FORBIDDEN => Reason::Forbidden,
        _ => Reason::BadRequest,
    };
    Status::new(reason, refusal.to_string())
}

fn undialed(error: impl std::fmt::Display) -> Status {
    Status::internal(format!("error dialing backend: {error}"))
}

/// An agent's refusal as a status, in its words.
async fn failure(response: Response<Incoming>, what: &str) -> Status {
    let code = response.status();
    let said = match Limited::new(response.into_body(), MAX_FAILURE).collect().await {
        Ok(said) => String::from_utf8_lossy(&said.to_bytes()).trim_end().to_owned(),
        Err(error) => format!("the answer can't be read: {error}"),
    };
    match code {
        StatusCode::INTERNAL_SERVER_ERROR => Status::internal(said),
        StatusCode::BAD_REQUEST => Status::bad_request(said),
        StatusCode::NOT_FOUND => Status::new(
            Reason::NotFound,
            format!("the server could not find the requested resource ({what}: {said})"),
        ),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            Status::internal(format!("the node refuses the server: {said}"))
        }
        StatusCode::UNPROCESSABLE_ENTITY => Status::new(Reason::Invalid, said),
        StatusCode::TOO_MANY_REQUESTS => Status::new(Reason::TooManyRequests, said),
        StatusCode::SERVICE_UNAVAILABLE => Status::new(Reason::ServiceUnavailable, said),
        other => Status::internal(format!("the node answered {other}: {said}")),
    }
}

/// What of a log is wanted, as the agent is asked for it. What it would refuse is refused here, with a status.
fn log_query(query: &Query) -> Result<String, Status> {
    let invalid =
        |name: &str, why: &str| Status::new(Reason::Invalid, format!("PodLogOptions \"\" is invalid: {name}: {why}"));
    for (name, least) in [("tailLines", 0), ("limitBytes", 1), ("sinceSeconds", 1)] {
        if query.number(name)?.is_some_and(|number| number < least) {
            return Err(invalid(
                name,
                &format!("Invalid value: must be greater than or equal to {least}"),
            ));
        }
    }
    if query.text("sinceTime").is_some() && query.text("sinceSeconds").is_some() {
        return Err(invalid(
            "sinceSeconds",
            "Forbidden: at most one of `sinceTime` or `sinceSeconds` may be specified",
        ));
    }
    let names = [
        "follow",
        "previous",
        "timestamps",
        "sinceSeconds",
        "sinceTime",
        "tailLines",
        "limitBytes",
        "stream",
    ];
    let given = names.iter().filter_map(|name| {
        let value = query.text(name)?;
        Some(format!("{name}={}", escaped_value(value)))
    });
    let given: Vec<String> = given.collect();
    Ok(if given.is_empty() {
        String::new()
    } else {
        format!("?{}", given.join("&"))
    })
}

/// Resource path and the rest of a proxy's path, as they were sent.
fn split(path: &str, namespaced: bool) -> (&str, &str) {
    // `/api/v1/namespaces/a/pods/b/proxy` or `/api/v1/nodes/b/proxy`
    let parts = if namespaced { 7 } else { 5 };
    let slash = path.match_indices('/').nth(parts);
    slash.map_or((path, ""), |(at, _)| path.split_at(at))
}

/// A value of a query.
fn escaped_value(text: &str) -> String {
    text.bytes().fold(String::new(), |mut escaped, byte| {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            escaped.push(char::from(byte));
        } else {
            escaped.extend(["%", &format!("{byte:02X}")]);
        }
        escaped
    })
}

/// What was written here, with whatever a client put into it made harmless.
fn escaped(query: &str) -> String {
    query
        .chars()
        .filter(|letter| letter.is_ascii_alphanumeric() || matches!(letter, '?' | '=' | ',' | '&'))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxys_path_is_what_follows_its_name_as_it_was_sent() {
        for (path, namespaced, expected) in [
            ("/api/v1/nodes/n/proxy", false, ("/api/v1/nodes/n/proxy", "")),
            (
                "/api/v1/nodes/n/proxy/a%2Fb//c",
                false,
                ("/api/v1/nodes/n/proxy", "/a%2Fb//c"),
            ),
            (
                "/api/v1/namespaces/a/pods/b:80/proxy/",
                true,
                ("/api/v1/namespaces/a/pods/b:80/proxy", "/"),
            ),
        ] {
            assert_eq!(split(path, namespaced), expected);
        }
    }

    #[test]
    fn a_logs_query_is_passed_on_as_far_as_it_makes_sense() {
        let passed = |text: &str| log_query(&Query::parse(text).unwrap());
        assert_eq!(passed(""), Ok(String::new()));
        assert_eq!(
            passed("container=a&follow=true&sinceTime=2026-11-20T12:00:00Z&x=y"),
            Ok("?follow=true&sinceTime=2026-11-20T12%3A00%3A00Z".to_owned())
        );
        for bad in [
            "tailLines=-1",
            "limitBytes=0",
            "sinceSeconds=0",
            "sinceSeconds=1&sinceTime=x",
        ] {
            assert_eq!(passed(bad).unwrap_err().reason, Reason::Invalid, "{bad}");
        }
        assert_eq!(passed("tailLines=x").unwrap_err().reason, Reason::BadRequest);
    }
}
