//! `/openapi/v2` and `/openapi/v3`: the structure of everything that is served. Documents are made when they are asked
//! for, which clients seldom do: they keep them by their hashes.

use bosun_schema::{CustomResource, OpenApi};
use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use tokio::task::spawn_blocking;

use super::{
    body::Body,
    negotiate,
    paths::{tagged, with},
    router::{Exchange, Shared, unknown},
};
use crate::{Scope, Status, discovery::Document, registry::Table, status::Reason};

/// What is described: all resources of the table.
fn described(table: &Table) -> OpenApi<'_> {
    let served = |facts: &&bosun_schema::ResourceFacts| table.get(facts.group, facts.version, facts.plural).is_some();
    let custom = table.rows().iter().filter_map(|row| {
        let version = row.custom.as_ref()?.version();
        Some(CustomResource {
            group: &row.group,
            version: &row.version,
            plural: &row.plural,
            kind: &row.kind,
            list_kind: &row.list_kind,
            namespaced: row.scope == Scope::Namespaced,
            status: version.status,
            scale: version.scale.is_some(),
            schema: Some(&version.schema),
        })
    });
    OpenApi::new(bosun_schema::resources().iter().filter(served), custom)
}

/// `/openapi/v2`, in JSON or in the protobuf that client libraries prefer.
pub(super) async fn v2(shared: &Shared, exchange: &Exchange<'_>) -> Result<Response<Body>, Status> {
    let media_type = match wanted(exchange, &[JSON, PROTOBUF, PROTOBUF_AT])? {
        // Clients ask by a name that they don't take for a media type in the answer.
        PROTOBUF_AT => PROTOBUF,
        form => form,
    };
    let table = shared.registry.table();
    // Another form is another text.
    let form = if media_type == JSON { "" } else { "-protobuf" };
    let etag = format!("\"{}{form}\"", described(&table).hash(""));
    let headers = &exchange.parts.headers;
    let unsent = Document {
        body: Bytes::new(),
        etag: etag.clone(),
    };
    let known = tagged(&unsent, media_type, headers);
    if known.status() == StatusCode::NOT_MODIFIED {
        return Ok(known);
    }
    let body = rendered(move || {
        let described = described(&table);
        Some(if media_type == JSON {
            described.v2()
        } else {
            described.v2_protobuf()
        })
    });
    Ok(tagged(
        &Document {
            body: body.await?,
            etag,
        },
        media_type,
        headers,
    ))
}

/// `/openapi/v3`
pub(super) fn v3_index(shared: &Shared) -> Response<Body> {
    let index = described(&shared.registry.table()).index();
    with(StatusCode::OK, JSON, index)
}

/// `/openapi/v3/<name>`: a client that names the document's hash may keep it for good, and one that names another is sent
/// to the present one.
pub(super) async fn v3(shared: &Shared, exchange: &Exchange<'_>, name: &str) -> Result<Response<Body>, Status> {
    wanted(exchange, &[JSON])?;
    let table = shared.registry.table();
    let described_now = described(&table);
    if !described_now.documents().iter().any(|one| one == name) {
        return Err(unknown());
    }
    let hash = described_now.hash(name);
    let asked = exchange.query.text("hash");
    if asked.is_some_and(|asked| asked != hash) {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::MOVED_PERMANENTLY;
        let place = HeaderValue::from_str(&format!("/openapi/v3/{name}?hash={hash}"));
        response
            .headers_mut()
            .insert(header::LOCATION, place.map_err(Status::internal)?);
        return Ok(response);
    }
    let owned = name.to_owned();
    let body = rendered(move || described(&table).v3(&owned)).await?;
    let document = Document {
        body,
        etag: format!("\"{hash}\""),
    };
    let mut response = tagged(&document, JSON, &exchange.parts.headers);
    if asked.is_some() {
        let year = HeaderValue::from_static("public, max-age=31536000, immutable");
        response.headers_mut().insert(header::CACHE_CONTROL, year);
    }
    Ok(response)
}

/// Off the threads that serve: a document takes a while.
async fn rendered(make: impl FnOnce() -> Option<Vec<u8>> + Send + 'static) -> Result<Bytes, Status> {
    let made = spawn_blocking(make).await.map_err(Status::internal)?;
    made.map(Bytes::from).ok_or_else(unknown)
}

const JSON: &str = "application/json";
const PROTOBUF: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";
/// As client-go writes it.
const PROTOBUF_AT: &str = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";

/// The form that is wanted most among those there are; else 406.
fn wanted(exchange: &Exchange<'_>, forms: &[&'static str]) -> Result<&'static str, Status> {
    let accept = exchange.parts.headers.get(header::ACCEPT);
    let accept = accept.and_then(|accept| accept.to_str().ok()).unwrap_or("*/*");
    let found = negotiate::ranges(accept)
        .iter()
        .find_map(|range| forms.iter().copied().find(|form| range.takes(form)));
    found.ok_or_else(|| {
        Status::new(
            Reason::NotAcceptable,
            format!("only the following media types are accepted: {}", forms.join(", ")),
        )
    })
}
