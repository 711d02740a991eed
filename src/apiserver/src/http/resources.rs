//! Requests about resources: each verb, answered by the registry.

use std::sync::Arc;

use bosun_schema::{decode, protobuf};
use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use hyper::body::Body as HttpBody;
use tokio_util::sync::CancellationToken;

use super::{
    body::{self, Body, BodyError, MAX_BODY, Share},
    compress::{self, Pieces},
    connect,
    encode::{Encoder, ListHead},
    negotiate::{self, Format, Offers},
    observe::Observation,
    options,
    router::{Exchange, Shared, unknown},
};
use crate::{
    Resource, Status,
    auth::Reviews,
    cache::{Watch, WatchEvent},
    options::{Body as Decoded, PatchType},
    registry::{List, Watching, Written, convert},
    resource::Subresource,
    status::Reason,
    usage::Usage,
};

/// Answers a request about a resource that there is.
pub(super) async fn answer<B>(
    shared: &Shared,
    exchange: &Exchange<'_>,
    body: B,
    observation: &mut Observation,
) -> Result<Response<Body>, Status>
where
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<BodyError>,
{
    let request = &exchange.request;
    let row = request.resource.as_ref().ok_or_else(unknown)?;
    let sub = subresource(row, &request.subresource)?;
    allowed(row, sub, request.verb, !request.name.is_empty())?;
    if matches!(
        &*request.subresource,
        "attach" | "exec" | "log" | "portforward" | "proxy"
    ) {
        return connect::answer(shared, exchange, row, body, observation).await;
    }
    let encoder = Encoder::new(
        negotiate::negotiate(&exchange.parts.headers, &exchange.query, offers(row, sub, request.verb))?,
        Some(sub.map_or((&row.group, &row.kind), |sub| (&sub.kind.0, &sub.kind.2))),
        // A part may be of another kind: a Scale.
        row.custom
            .as_ref()
            .filter(|_| sub.is_none_or(|sub| sub.kind.2 == row.kind)),
        &exchange.query,
        request.now,
    )?;
    let mut handler = Handler {
        shared,
        exchange,
        row,
        encoder,
        observation,
    };
    match request.verb {
        "get" => handler.get().await,
        "list" => handler.list().await,
        "watch" => handler.watch().await,
        "create" => handler.create(body).await,
        "update" => handler.update(body).await,
        "patch" => handler.patch(body).await,
        "delete" => handler.delete(body).await,
        "deletecollection" => handler.delete_collection(body).await,
        _ => Err(not_allowed()),
    }
}

fn subresource<'a>(row: &'a Resource, name: &str) -> Result<Option<&'a Subresource>, Status> {
    if name.is_empty() {
        return Ok(None);
    }
    let sub = row.subresources.iter().find(|sub| &*sub.name == name);
    sub.map(Some).ok_or_else(unknown)
}

/// Whether a verb is served there: on an object, or on a collection, as it needs.
fn allowed(row: &Resource, sub: Option<&Subresource>, verb: &str, named: bool) -> Result<(), Status> {
    let verbs = sub.map_or(&row.verbs, |sub| &sub.verbs);
    let placed = match verb {
        "update" | "patch" => named,
        "create" => named == sub.is_some(),
        _ => true,
    };
    if placed && verbs.iter().any(|one| &**one == verb) {
        Ok(())
    } else {
        Err(not_allowed())
    }
}

fn not_allowed() -> Status {
    Status::new(
        Reason::MethodNotAllowed,
        "the server does not allow this method on the requested resource",
    )
}

fn offers(row: &Resource, sub: Option<&Subresource>, verb: &str) -> Offers {
    let (group, version, kind) = match sub {
        Some(sub) => (&*sub.kind.0, &*sub.kind.1, &*sub.kind.2),
        None => (&*row.group, &*row.version, &*row.kind),
    };
    let faces = !matches!(verb, "deletecollection");
    Offers {
        protobuf: bosun_schema::type_of_kind(group, version, kind).is_some(),
        table: faces,
        metadata: faces,
    }
}

struct Handler<'a, 'e> {
    shared: &'a Shared,
    exchange: &'a Exchange<'e>,
    row: &'a Arc<Resource>,
    encoder: Encoder,
    observation: &'a mut Observation,
}

impl Handler<'_, '_> {
    /// Who answers instead of the registry, if this is not stored but measured.
    fn usage(&self) -> Option<&Usage> {
        self.shared.usage.as_ref().filter(|usage| usage.serves(self.row))
    }

    async fn get(&mut self) -> Result<Response<Body>, Status> {
        let options = options::list(&self.exchange.query)?;
        let request = &self.exchange.request;
        let json = match self.usage() {
            Some(usage) => usage.get(request).await?,
            None => self.shared.registry.get(request, &options).await?,
        };
        self.object(StatusCode::OK, json, &[])
    }

    async fn list(&mut self) -> Result<Response<Body>, Status> {
        let options = options::list(&self.exchange.query)?;
        if let Some(usage) = self.usage() {
            let items = usage.list(&self.exchange.request, &options).await?;
            let head = ListHead {
                api_version: &self.row.api_version(),
                kind: &self.row.list_kind,
                ..ListHead::default()
            };
            let pieces = self.encoder.list(&head, items.into_iter())?;
            return Ok(self.whole(StatusCode::OK, pieces));
        }
        let list = self.shared.registry.list(&self.exchange.request, &options).await?;
        self.list_of(list)
    }

    fn list_of(&self, list: List) -> Result<Response<Body>, Status> {
        let head = ListHead {
            api_version: &self.row.api_version(),
            kind: &self.row.list_kind,
            resource_version: list.revision.to_string(),
            continue_token: &list.continue_token,
            remaining: list.remaining,
        };
        let (entries, row) = (list.entries, list.resource);
        let items = (0..entries.len()).map(move |at| {
            let entry = &entries[at];
            convert::json(&row, entry).unwrap_or_else(|_| entry.json().clone())
        });
        let pieces = self.encoder.list(&head, items)?;
        Ok(self.whole(StatusCode::OK, pieces))
    }

    async fn watch(&mut self) -> Result<Response<Body>, Status> {
        let options = options::list(&self.exchange.query)?;
        let Watching { watch, resource } = self.shared.registry.watch(&self.exchange.request, &options).await?;
        let sent = self
            .shared
            .metrics
            .watch_events(&resource.group, &resource.version, &resource.plural);
        let events = Events {
            watch,
            face: face(&self.encoder, &resource),
            resource,
            encoder: self.encoder.clone(),
            first: true,
            sent,
            end: self.shared.end.clone(),
        };
        let body = Body::stream(stream::unfold(events, |mut events| async move {
            let chunk = events.next().await?;
            Some((Ok(chunk), events))
        }));
        Ok(self.response(StatusCode::OK, body, true))
    }

    async fn create<B>(&mut self, body: B) -> Result<Response<Body>, Status>
    where
        B: HttpBody<Data = Bytes> + Send,
        B::Error: Into<BodyError>,
    {
        let options = options::write(&self.exchange.query, &self.exchange.parts.headers)?;
        self.observation.dry_run(options.dry_run);
        let (body, _share) = self.decoded(body).await?;
        let row = self.row;
        if Reviews::answers(&row.group, &row.plural, &self.exchange.request.subresource) {
            let reviews = &self.shared.gate.reviews;
            let answered = reviews.create(&self.exchange.request, body.value).await?;
            return self.object(StatusCode::CREATED, answered.to_string().into(), &[]);
        }
        let written = self
            .shared
            .registry
            .create(&self.exchange.request, body, &options)
            .await?;
        self.written(StatusCode::CREATED, written)
    }

    async fn update<B>(&mut self, body: B) -> Result<Response<Body>, Status>
    where
        B: HttpBody<Data = Bytes> + Send,
        B::Error: Into<BodyError>,
    {
        let options = options::write(&self.exchange.query, &self.exchange.parts.headers)?;
        self.observation.dry_run(options.dry_run);
        let (body, _share) = self.decoded(body).await?;
        let written = self
            .shared
            .registry
            .update(&self.exchange.request, body, &options)
            .await?;
        self.written(created(&written), written)
    }

    async fn patch<B>(&mut self, body: B) -> Result<Response<Body>, Status>
    where
        B: HttpBody<Data = Bytes> + Send,
        B::Error: Into<BodyError>,
    {
        let custom = self.row.custom.is_some();
        let kind = options::patch(&self.exchange.query, &self.exchange.parts.headers, custom)?;
        let options = options::write(&self.exchange.query, &self.exchange.parts.headers)?;
        self.observation.dry_run(options.dry_run);
        let (bytes, _share) = body::read(body, MAX_BODY, &self.shared.bodies).await?;
        let format = match kind {
            PatchType::Apply => Format::Yaml,
            _ => Format::Json,
        };
        let patch = self.parsed(format, &bytes)?;
        let written = self
            .shared
            .registry
            .patch(&self.exchange.request, kind, patch, &options)
            .await?;
        self.written(created(&written), written)
    }

    async fn delete<B>(&mut self, body: B) -> Result<Response<Body>, Status>
    where
        B: HttpBody<Data = Bytes> + Send,
        B::Error: Into<BodyError>,
    {
        let options = self.delete_options(body).await?;
        self.observation.dry_run(options.dry_run);
        let deleted = self.shared.registry.delete(&self.exchange.request, &options).await?;
        let code = if deleted.accepted {
            StatusCode::ACCEPTED
        } else {
            StatusCode::OK
        };
        self.object(code, deleted.json, &[])
    }

    async fn delete_collection<B>(&mut self, body: B) -> Result<Response<Body>, Status>
    where
        B: HttpBody<Data = Bytes> + Send,
        B::Error: Into<BodyError>,
    {
        let list = options::list(&self.exchange.query)?;
        let options = self.delete_options(body).await?;
        self.observation.dry_run(options.dry_run);
        let deleted = self
            .shared
            .registry
            .delete_collection(&self.exchange.request, &list, &options)
            .await?;
        self.list_of(deleted)
    }

    async fn delete_options<B>(&mut self, body: B) -> Result<crate::options::DeleteOptions, Status>
    where
        B: HttpBody<Data = Bytes> + Send,
        B::Error: Into<BodyError>,
    {
        let (bytes, _share) = body::read(body, MAX_BODY, &self.shared.bodies).await?;
        if bytes.is_empty() {
            return options::delete(&self.exchange.query, None);
        }
        let format = negotiate::body_format(&self.exchange.parts.headers, true)?;
        let value = decode_as(format, &bytes, ("v1", "DeleteOptions"))?.value;
        options::delete(&self.exchange.query, Some(&value))
    }

    /// The object that was sent.
    async fn decoded<B>(&mut self, body: B) -> Result<(Decoded, Share), Status>
    where
        B: HttpBody<Data = Bytes> + Send,
        B::Error: Into<BodyError>,
    {
        let sub = subresource(self.row, &self.exchange.request.subresource)?;
        let protobuf = offers(self.row, sub, self.exchange.request.verb).protobuf;
        let format = negotiate::body_format(&self.exchange.parts.headers, protobuf)?;
        let (bytes, share) = body::read(body, MAX_BODY, &self.shared.bodies).await?;
        Ok((self.parsed(format, &bytes)?, share))
    }

    fn parsed(&mut self, format: Format, bytes: &Bytes) -> Result<Decoded, Status> {
        // Protobuf may leave it to the path to say what it is.
        let (group, version, kind) = match subresource(self.row, &self.exchange.request.subresource)? {
            Some(sub) => (&sub.kind.0, &sub.kind.1, &sub.kind.2),
            None => (&self.row.group, &self.row.version, &self.row.kind),
        };
        let api_version = if group.is_empty() {
            version.to_string()
        } else {
            format!("{group}/{version}")
        };
        let decoded = decode_as(format, bytes, (&api_version, kind))?;
        if let Some(record) = &mut self.observation.record
            && record.wants_request()
        {
            record.request_object(match format {
                Format::Json => bytes.clone(),
                _ => decoded.value.to_string().into(),
            });
        }
        Ok(decoded)
    }

    fn written(&mut self, code: StatusCode, written: Written) -> Result<Response<Body>, Status> {
        self.object(code, written.json, &written.warnings)
    }

    fn object(&mut self, code: StatusCode, json: Bytes, warnings: &[String]) -> Result<Response<Body>, Status> {
        if let Some(record) = &mut self.observation.record
            && record.wants_response()
        {
            record.response_object(json.clone());
        }
        let written = self.encoder.object(json)?;
        let mut response = self.whole(code, Box::new(std::iter::once(written)));
        warn(response.headers_mut(), warnings);
        Ok(response)
    }

    /// An answer that is at hand, compressed if that is wanted and worth it.
    fn whole(&self, code: StatusCode, pieces: Pieces) -> Response<Body> {
        if !compress::accepted(&self.exchange.parts.headers) {
            return self.response(code, Body::pieces(pieces), false);
        }
        let (pieces, compressed) = compress::gzip(pieces);
        let mut response = self.response(code, Body::pieces(pieces), false);
        if compressed {
            let headers = response.headers_mut();
            headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            headers.insert(header::VARY, HeaderValue::from_static("Accept-Encoding"));
        }
        response
    }

    fn response(&self, code: StatusCode, body: Body, watch: bool) -> Response<Body> {
        let mut response = Response::new(body);
        *response.status_mut() = code;
        response
            .headers_mut()
            .insert(header::CONTENT_TYPE, self.encoder.media_type(watch));
        response
    }
}

fn created(written: &Written) -> StatusCode {
    if written.created {
        StatusCode::CREATED
    } else {
        StatusCode::OK
    }
}

/// Bytes as a tree; `default` is the version and kind of protobuf that doesn't say.
fn decode_as(format: Format, bytes: &[u8], default: (&str, &str)) -> Result<Decoded, Status> {
    let decoded = match format {
        Format::Json => decode::json(bytes).map_err(|error| Status::bad_request(error.to_string()))?,
        Format::Yaml => decode::json(bytes)
            .or_else(|_| decode::yaml(bytes))
            .map_err(|error| Status::bad_request(error.to_string()))?,
        Format::Protobuf => {
            let value =
                protobuf::decode(bytes, Some(default)).map_err(|error| Status::bad_request(error.to_string()))?;
            return Ok(value.into());
        }
    };
    Ok(Decoded {
        value: decoded.value,
        mistakes: decoded.mistakes,
    })
}

/// `Warning: 299 - "text"` for each, as far as headers hold them.
pub(super) fn warn(headers: &mut HeaderMap, warnings: &[String]) {
    const MOST: usize = 4 << 10;
    let mut length = 0;
    for warning in warnings {
        let text: String = warning
            .chars()
            .map(|letter| if letter.is_control() { ' ' } else { letter })
            .collect();
        let text = text.replace('\\', "\\\\").replace('"', "\\\"");
        length += text.len();
        if length > MOST {
            break;
        }
        if let Ok(value) = HeaderValue::from_bytes(format!("299 - \"{text}\"").as_bytes()) {
            headers.append(header::WARNING, value);
        }
    }
}

/// A watch's events as they are written.
struct Events {
    watch: Watch,
    resource: Arc<Resource>,
    encoder: Encoder,
    /// Under which frames are shared with other watchers of the same change, if they can be.
    face: Option<u64>,
    first: bool,
    sent: prometheus_client::metrics::counter::Counter,
    end: CancellationToken,
}

/// What is written at once, if so much is at hand.
const BATCH: usize = 64 << 10;

impl Events {
    /// The next events, as many as are at hand; `None` at the end.
    async fn next(&mut self) -> Option<Bytes> {
        let event = tokio::select! {
            event = self.watch.next() => event?,
            () = self.end.cancelled() => return None,
        };
        let first = self.frame(event)?;
        let Some(second) = self.watch.try_next() else {
            return Some(first);
        };
        let mut batch = Vec::with_capacity(BATCH);
        batch.extend_from_slice(&first);
        let mut next = Some(second);
        while let Some(event) = next {
            batch.extend_from_slice(&self.frame(event)?);
            next = if batch.len() < BATCH {
                self.watch.try_next()
            } else {
                None
            };
        }
        Some(batch.into())
    }

    fn frame(&mut self, event: WatchEvent) -> Option<Bytes> {
        self.sent.inc();
        let first = std::mem::take(&mut self.first);
        let Self { encoder, resource, .. } = self;
        let row = &**resource;
        let mut make = |kind: &str, json: &Bytes| {
            let json = convert::rewrite(row, json)?;
            encoder.event(kind, json, first)
        };
        let framed = match event {
            WatchEvent::Initial(entry) => make("ADDED", entry.json()),
            WatchEvent::Change(kind, change) => match self.face {
                Some(face) => {
                    let mut failed = None;
                    let frame = change.frame(kind, face, |json| {
                        make(kind.as_str(), &json).unwrap_or_else(|status| {
                            failed = Some(status);
                            Bytes::new()
                        })
                    });
                    failed.map_or(Ok(frame), Err)
                }
                None => make(kind.as_str(), &change.json(kind)),
            },
            WatchEvent::Bookmark { revision, initial_end } => {
                let mut metadata =
                    serde_json::json!({"resourceVersion": revision.to_string(), "creationTimestamp": null});
                if initial_end {
                    metadata["annotations"] = serde_json::json!({"k8s.io/initial-events-end": "true"});
                }
                let bookmark = serde_json::json!({
                    "kind": row.kind, "apiVersion": row.api_version(), "metadata": metadata,
                });
                encoder.event("BOOKMARK", bookmark.to_string().into(), first)
            }
        };
        framed
            .inspect_err(
                |error| tracing::error!(%error, resource = row.qualified(), "a watch's event can't be written"),
            )
            .ok()
    }
}

/// What tells frames of this form apart from others of the same change.
fn face(encoder: &Encoder, row: &Resource) -> Option<u64> {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let shared = encoder.shared()?;
    let mut hasher = DefaultHasher::new();
    (shared, &*row.group, &*row.version).hash(&mut hasher);
    Some(hasher.finish())
}
