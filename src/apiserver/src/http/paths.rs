//! Paths without a resource: discovery, OpenAPI, health, metrics, the version, the keys of tokens.

use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::{
    body::Body,
    health::Health,
    negotiate, openapi,
    router::{Exchange, Shared, unknown},
};
use crate::{
    Resource, Status,
    auth::{
        self, Authenticator,
        discovery::{DOCUMENT_PATH, KEYS_PATH, KEYS_TYPE},
    },
    discovery::{self, AGGREGATED, Document, Documents},
    metrics,
    registry::Table,
    status::Reason,
};

/// What is answered at paths without a resource.
pub struct Paths {
    health: Health,
    /// Where clients reach the server, such as `10.0.0.1:6443`.
    address: String,
    /// Whose tokens' keys are told.
    authenticator: Arc<Authenticator>,
    /// Of the table that was served when it was last asked for.
    told: ArcSwap<Told>,
    telling: Mutex<()>,
}

/// What is told of a table.
struct Told {
    table: Arc<Table>,
    documents: Documents,
}

impl Paths {
    /// With these checks, at this address, and with the keys of `authenticator`'s tokens.
    pub fn new(health: Health, address: impl Into<String>, authenticator: Arc<Authenticator>) -> Self {
        Self {
            health,
            address: address.into(),
            authenticator,
            told: ArcSwap::from_pointee(Told {
                table: Arc::default(),
                documents: Documents::default(),
            }),
            telling: Mutex::new(()),
        }
    }

    pub(super) async fn answer(&self, shared: &Shared, exchange: &Exchange<'_>) -> Result<Response<Body>, Status> {
        let path = &*exchange.request.path;
        if !matches!(exchange.request.verb, "get" | "head") {
            return Err(Status::new(
                Reason::MethodNotAllowed,
                "the server does not allow this method on the requested resource",
            ));
        }
        if Health::is_path(path) {
            let report = self.health.report(path, &exchange.query).await;
            let (code, text) = report.ok_or_else(unknown)?;
            return Ok(with(code, "text/plain; charset=utf-8", text));
        }
        let trimmed = path.trim_end_matches('/');
        let json = |value: &Value| Ok(with(StatusCode::OK, "application/json", value.to_string()));
        match trimmed {
            "" => {
                let told = self.told(shared);
                let mut paths: Vec<_> = told.documents.paths().map(str::to_owned).collect();
                paths.extend(OTHER.map(str::to_owned));
                paths.sort();
                json(&json!({"paths": paths}))
            }
            "/version" => {
                let version = discovery::version();
                let text = serde_json::to_string_pretty(&version).map_err(Status::internal)?;
                Ok(with(StatusCode::OK, "application/json", text))
            }
            "/metrics" => Ok(with(StatusCode::OK, metrics::MEDIA_TYPE, shared.metrics.render())),
            DOCUMENT_PATH => {
                let server = format!("https://{}", self.address);
                json(&auth::discovery::document(&self.authenticator, &server))
            }
            KEYS_PATH => {
                let keys = auth::discovery::keys(&self.authenticator);
                Ok(with(StatusCode::OK, KEYS_TYPE, keys.to_string()))
            }
            "/api" | "/apis" => {
                let told = self.told(shared);
                if let Some(version) = aggregated_version(&exchange.parts.headers)
                    && let Some(document) = told.documents.aggregated(trimmed, version)
                {
                    let media_type = discovery::aggregated_media_type(version);
                    return Ok(tagged(document, &media_type, &exchange.parts.headers));
                }
                let document = told.documents.plain(trimmed).ok_or_else(unknown)?;
                Ok(plain(document))
            }
            "/openapi/v2" => openapi::v2(shared, exchange).await,
            "/openapi/v3" => Ok(openapi::v3_index(shared)),
            _ if trimmed.starts_with("/openapi/v3/") => {
                openapi::v3(shared, exchange, trimmed.trim_start_matches("/openapi/v3/")).await
            }
            _ => {
                let told = self.told(shared);
                let document = told.documents.plain(trimmed).ok_or_else(unknown)?;
                Ok(plain(document))
            }
        }
    }

    /// What is told of the table as it is now; made when it has changed.
    fn told(&self, shared: &Shared) -> Arc<Told> {
        let table = shared.registry.table();
        let told = self.told.load_full();
        if Arc::ptr_eq(&told.table, &table) {
            return told;
        }
        let _one = self.telling.lock();
        let told = self.told.load_full();
        if Arc::ptr_eq(&told.table, &table) {
            return told;
        }
        let measured = shared.usage.as_ref().map_or(&[][..], |usage| usage.rows());
        let known = |row: &Resource| table.get(&row.group, &row.version, &row.plural).is_some();
        let measured = measured.iter().filter(|row| !known(row));
        let rows: Vec<_> = table.rows().iter().chain(measured).cloned().collect();
        let told = Arc::new(Told {
            documents: Documents::new(&rows, &self.address),
            table,
        });
        self.told.store(told.clone());
        told
    }
}

/// What there is beside discovery's own paths.
const OTHER: [&str; 9] = [
    DOCUMENT_PATH,
    "/healthz",
    "/livez",
    "/metrics",
    "/openapi/v2",
    "/openapi/v3",
    KEYS_PATH,
    "/readyz",
    "/version",
];

/// The version of aggregated discovery that a client wants before plain JSON.
fn aggregated_version(headers: &HeaderMap) -> Option<&'static str> {
    let accept = headers.get(header::ACCEPT)?.to_str().ok()?;
    let ranges = negotiate::ranges(accept);
    let first = ranges.iter().find(|range| range.takes("application/json"))?;
    if (first.param("g"), first.param("as")) != ("apidiscovery.k8s.io", "APIGroupDiscoveryList") {
        return None;
    }
    AGGREGATED.into_iter().find(|version| *version == first.param("v"))
}

fn plain(document: &Document) -> Response<Body> {
    let mut response = with(StatusCode::OK, "application/json", document.body.clone());
    response
        .headers_mut()
        .insert(header::VARY, HeaderValue::from_static("Accept"));
    response
}

/// With its tag; without its body for a client that has it.
pub(super) fn tagged(document: &Document, media_type: &str, headers: &HeaderMap) -> Response<Body> {
    let known = headers
        .get_all(header::IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|tag| tag.trim() == "*" || tag.trim().trim_start_matches("W/") == document.etag);
    let mut response = if known {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        response
    } else {
        with(StatusCode::OK, media_type, document.body.clone())
    };
    let headers = response.headers_mut();
    headers.insert(header::VARY, HeaderValue::from_static("Accept"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("public"));
    if let Ok(etag) = HeaderValue::from_str(&document.etag) {
        headers.insert(header::ETAG, etag);
    }
    response
}

pub(super) fn with(code: StatusCode, media_type: &str, body: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(Body::full(body));
    *response.status_mut() = code;
    let headers = response.headers_mut();
    if let Ok(media_type) = HeaderValue::from_str(media_type) {
        headers.insert(header::CONTENT_TYPE, media_type);
    }
    headers.insert(
        HeaderName::from_static("x-content-type-options"),
        HeaderValue::from_static("nosniff"),
    );
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aggregated_discovery_is_for_those_who_want_it_first() {
        let v2 = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
        let beta = "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList";
        for (accept, expected) in [
            (format!("{v2},{beta},application/json"), Some("v2")),
            (format!("{beta},application/json"), Some("v2beta1")),
            ("application/json".to_owned(), None),
            (format!("application/json,{v2};q=0.9"), None),
            ("*/*".to_owned(), None),
        ] {
            let headers = HeaderMap::from_iter([(header::ACCEPT, accept.parse().unwrap())]);
            assert_eq!(aggregated_version(&headers), expected, "{accept}");
        }
    }

    #[test]
    fn a_client_that_has_a_document_is_not_sent_it_again() {
        let document = Document::new(&json!({"a": 1}));
        for (tag, code) in [
            (document.etag.clone(), 304),
            (format!("\"x\", W/{}", document.etag), 304),
            ("\"x\"".to_owned(), 200),
        ] {
            let headers = HeaderMap::from_iter([(header::IF_NONE_MATCH, tag.parse().unwrap())]);
            let response = tagged(&document, "application/json", &headers);
            assert_eq!(response.status().as_u16(), code, "{tag}");
            assert_eq!(response.headers()[header::ETAG], document.etag);
        }
    }
}
