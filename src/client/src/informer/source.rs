//! Lists and watches on the wire.
//!
//! Objects are decoded one by one from the bytes of the answer, so that one object that can't be read costs only
//! itself, and the whole answer is never there a second time.

use std::{borrow::Cow, fmt, marker::PhantomData, pin::Pin, time::Duration};

use futures_util::{Stream, StreamExt, TryStreamExt};
use http::{HeaderMap, Request, Response, header};
use http_body_util::{BodyExt, Limited};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ListMeta;
use kube::{
    Api, Client, Resource,
    api::{ListParams, WatchParams},
    client::Body,
    core::{Status, response::StatusDetails},
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::value::RawValue;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::{
    codec::{FramedRead, LinesCodec, LinesCodecError},
    io::StreamReader,
};
use tracing::warn;

use super::Config;
use crate::call::CallError;

/// How long a page of a list may take.
const PAGE: Duration = Duration::from_secs(60);
/// How long the answer to a watch may take to begin. A server that has to make its cache first is slow.
const BEGIN: Duration = Duration::from_secs(60);
/// How much longer than asked a watch may last. The server should have ended it; the connection is dead.
const SLACK: Duration = Duration::from_secs(15);
/// An object as large as etcd ever takes one, with much to spare for an encoding that needs more room.
const LINE: usize = 16 << 20;
/// The largest page: 500 objects of half a mebibyte.
const LIST: usize = 256 << 20;
/// The largest answer that isn't what was asked for.
const REFUSAL: usize = 1 << 20;

pub(super) struct Source<T> {
    client: Client,
    request: kube::core::Request,
    config: Config,
    object: PhantomData<fn() -> T>,
}

/// What a watch tells.
pub(super) enum Event<T> {
    Applied(T),
    Deleted(T),
    /// Nothing of ours changed up to this version.
    Progress(String),
}

#[derive(Deserialize)]
struct List<'a> {
    #[serde(default)]
    metadata: ListMeta,
    #[serde(borrow)]
    items: Option<Vec<&'a RawValue>>,
}

#[derive(Deserialize)]
struct Frame<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    object: &'a RawValue,
}

/// What is there even of an object that can't be read.
#[derive(Deserialize)]
struct Outline {
    #[serde(default)]
    metadata: OutlineMeta,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct OutlineMeta {
    namespace: Option<String>,
    name: Option<String>,
    resource_version: Option<String>,
}

impl<T: Resource + DeserializeOwned> Source<T> {
    pub(super) fn new(api: Api<T>, config: Config) -> Self {
        let request = kube::core::Request::new(api.resource_url().to_owned());
        Self {
            client: api.into_client(),
            request,
            config,
            object: PhantomData,
        }
    }

    pub(super) fn path(&self) -> &str {
        &self.request.url_path
    }

    /// All objects, and the version that this is of.
    pub(super) async fn list(&self) -> Result<(Vec<T>, String), CallError> {
        let mut objects = Vec::new();
        let mut token = None;
        loop {
            let asked = ListParams {
                label_selector: self.config.labels.clone(),
                field_selector: self.config.fields.clone(),
                limit: Some(self.config.page),
                continue_token: token.take(),
                ..ListParams::default()
            };
            let metadata = timeout(PAGE, self.page(&asked, &mut objects))
                .await
                .map_err(|_| CallError::Late(PAGE))??;
            token = metadata.continue_.filter(|token| !token.is_empty());
            if token.is_some() {
                continue;
            }
            let version = metadata.resource_version.filter(|version| !version.is_empty());
            return version
                .map(|version| (objects, version))
                .ok_or_else(|| unreadable("the list has no resourceVersion"));
        }
    }

    async fn page(&self, asked: &ListParams, objects: &mut Vec<T>) -> Result<ListMeta, CallError> {
        let request = if T::metadata_api() {
            self.request.list_metadata(asked)
        } else {
            self.request.list(asked)
        };
        let response = self.send(request.map_err(cannot)?).await?;
        let body = Limited::new(response.into_body(), LIST).collect().await;
        let bytes = body.map_err(CallError::Unreachable)?.to_bytes();
        let list: List<'_> = serde_json::from_slice(&bytes).map_err(|error| CallError::Unreadable(error.into()))?;
        let items = list.items.unwrap_or_default();
        objects.extend(items.into_iter().filter_map(|item| self.decode(item)));
        Ok(list.metadata)
    }

    /// What happens after a version.
    pub(super) async fn watch(&self, from: &str) -> Result<Watch<'_, T>, CallError> {
        // Watches that began together shall not end together.
        let lasts = self.config.watch + self.config.watch.mul_f64(fastrand::f64() / 10.0);
        let asked = WatchParams {
            label_selector: self.config.labels.clone(),
            field_selector: self.config.fields.clone(),
            timeout: Some(lasts.as_secs() as u32),
            bookmarks: true,
            send_initial_events: false,
        };
        let request = if T::metadata_api() {
            self.request.watch_metadata(&asked, from)
        } else {
            self.request.watch(&asked, from)
        };
        let mut request = request.map_err(cannot)?;
        // Compressed streams are flushed late.
        let identity = header::HeaderValue::from_static("identity");
        request.headers_mut().insert(header::ACCEPT_ENCODING, identity);
        let response = timeout(BEGIN, self.send(request))
            .await
            .map_err(|_| CallError::Late(BEGIN))??;
        let bytes = response.into_body().into_data_stream().map_err(std::io::Error::other);
        let lines = FramedRead::new(StreamReader::new(bytes), LinesCodec::new_with_max_length(LINE));
        Ok(Watch {
            source: self,
            lines: lines.boxed(),
            end: Instant::now() + lasts + SLACK,
        })
    }

    /// Sends a request. What is refused is an error that holds the status, `Retry-After` included.
    async fn send(&self, request: Request<Vec<u8>>) -> Result<Response<Body>, CallError> {
        let response = self.client.send(request.map(Body::from)).await?;
        if response.status().is_success() {
            return Ok(response);
        }
        let (parts, body) = response.into_parts();
        let body = Limited::new(body, REFUSAL).collect().await;
        let body = body.map_err(CallError::Unreachable)?.to_bytes();
        let mut status: Status = serde_json::from_slice(&body).unwrap_or_else(|_| {
            let text = String::from_utf8_lossy(&body);
            Status::failure(text.chars().take(200).collect::<String>().trim(), "")
        });
        status.code = parts.status.as_u16();
        if let Some(seconds) = retry_after(&parts.headers) {
            status.details.get_or_insert_with(nothing).retry_after_seconds = seconds;
        }
        Err(CallError::Api(status.boxed()))
    }

    /// Reads an object. One that can't be read is left out: that is better than to hear of none.
    fn decode(&self, json: &RawValue) -> Option<T> {
        match serde_json::from_str::<T>(json.get()) {
            Ok(mut object) => {
                object.meta_mut().managed_fields = None;
                Some(object)
            }
            Err(error) => {
                let found = outline(json);
                warn!(
                    resource = self.path(),
                    namespace = found.namespace,
                    name = found.name,
                    %error,
                    "left out: the object can't be read"
                );
                None
            }
        }
    }
}

/// A watch under way.
pub(super) struct Watch<'a, T> {
    source: &'a Source<T>,
    lines: Pin<Box<dyn Stream<Item = Result<String, LinesCodecError>> + Send>>,
    end: Instant,
}

impl<T: Resource + DeserializeOwned> Watch<'_, T> {
    /// The next thing that happens; `None` when the watch is over.
    pub(super) async fn next(&mut self) -> Result<Option<Event<T>>, CallError> {
        let line = match timeout_at(self.end, self.lines.next()).await {
            Err(_) | Ok(None) => return Ok(None),
            Ok(Some(Ok(line))) => line,
            // As every connection ends one day, also in the midst of a line.
            Ok(Some(Err(LinesCodecError::Io(error)))) => return Err(CallError::Unreachable(error.into())),
            Ok(Some(Err(error))) => return Err(CallError::Unreadable(error.into())),
        };
        let frame: Frame<'_> = match serde_json::from_str(&line) {
            Ok(frame) => frame,
            // The last line may be cut off.
            Err(error) if error.is_eof() => return Ok(None),
            Err(error) => return Err(CallError::Unreadable(error.into())),
        };
        let version = || outline(frame.object).resource_version.unwrap_or_default();
        Ok(Some(match &*frame.kind {
            "ADDED" | "MODIFIED" => {
                let object = self.source.decode(frame.object);
                object.map_or_else(|| Event::Progress(version()), Event::Applied)
            }
            "DELETED" => {
                let object = self.source.decode(frame.object);
                object.map_or_else(|| Event::Progress(version()), Event::Deleted)
            }
            "BOOKMARK" => Event::Progress(version()),
            "ERROR" => {
                let status = serde_json::from_str::<Status>(frame.object.get());
                let status = status.map_err(|error| CallError::Unreadable(error.into()))?;
                return Err(CallError::Api(status.boxed()));
            }
            kind => return Err(unreadable(&format!("a watch told of an event {kind:?}"))),
        }))
    }
}

fn outline(json: &RawValue) -> OutlineMeta {
    serde_json::from_str::<Outline>(json.get()).map_or_else(|_| OutlineMeta::default(), |outline| outline.metadata)
}

/// Seconds; the form with a date is for caches.
fn retry_after(headers: &HeaderMap) -> Option<u32> {
    headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()
}

fn nothing() -> StatusDetails {
    StatusDetails {
        name: String::new(),
        group: String::new(),
        kind: String::new(),
        uid: String::new(),
        causes: Vec::new(),
        retry_after_seconds: 0,
    }
}

fn cannot(error: kube::core::request::Error) -> CallError {
    CallError::Request(error.into())
}

fn unreadable(reason: &str) -> CallError {
    CallError::Unreadable(reason.into())
}

impl<T> fmt::Debug for Source<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source")
            .field("path", &self.request.url_path)
            .finish_non_exhaustive()
    }
}
