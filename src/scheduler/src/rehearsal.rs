//! An API in memory, as much of one as a scheduler talks to: for tests, and for measuring without a server's own costs.
//!
//! It lists, watches, gets, deletes, takes bindings and merges statuses. What it can't do it answers with 404, so that
//! nothing passes unnoticed.

pub mod measure;

use std::{
    collections::{BTreeMap, HashMap},
    convert::Infallible,
    io,
    sync::Arc,
};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::Frame;
use kube::{Client, client::Body};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};

type Reply = Response<UnsyncBoxBody<Bytes, io::Error>>;
/// Answers a request in the API's stead: by method and path, a status.
type Refusal = Box<dyn FnMut(&Method, &str) -> Option<StatusCode> + Send>;

/// The API.
#[derive(Clone)]
pub struct Rehearsal {
    state: Arc<Mutex<State>>,
    bound: Arc<watch::Sender<usize>>,
}

#[derive(Default)]
struct State {
    revision: u64,
    collections: HashMap<String, Collection>,
    refusal: Option<Refusal>,
}

#[derive(Default)]
struct Collection {
    objects: BTreeMap<(String, String), Value>,
    /// Every change since the beginning, for watches that begin later.
    log: Vec<(u64, Bytes)>,
    watchers: Vec<mpsc::UnboundedSender<Bytes>>,
}

impl Collection {
    fn tell(&mut self, revision: u64, kind: &str, object: &Value) {
        let mut line = json!({"type": kind, "object": object}).to_string().into_bytes();
        line.push(b'\n');
        let line = Bytes::from(line);
        self.log.push((revision, line.clone()));
        self.watchers.retain(|watcher| watcher.send(line.clone()).is_ok());
    }
}

/// Where a request goes: `api/v1/pods`, and perhaps an object and a part of it.
struct Target {
    collection: String,
    namespace: String,
    name: Option<String>,
    part: Option<String>,
}

impl Target {
    fn of(path: &str) -> Option<Self> {
        let mut words = path.trim_matches('/').split('/');
        let base = match words.next()? {
            "api" => format!("api/{}", words.next()?),
            "apis" => format!("apis/{}/{}", words.next()?, words.next()?),
            _ => return None,
        };
        let rest: Vec<&str> = words.collect();
        let (namespace, rest) = match rest.as_slice() {
            ["namespaces", namespace, rest @ ..] if !rest.is_empty() => (*namespace, rest),
            rest => ("", rest),
        };
        let owned = |word: Option<&&str>| word.map(|word| (*word).to_owned());
        Some(Self {
            collection: format!("{base}/{}", rest.first()?),
            namespace: namespace.to_owned(),
            name: owned(rest.get(1)),
            part: owned(rest.get(2)),
        })
    }
}

impl Default for Rehearsal {
    fn default() -> Self {
        Self {
            state: Arc::default(),
            bound: Arc::new(watch::Sender::new(0)),
        }
    }
}

impl std::fmt::Debug for Rehearsal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rehearsal").finish_non_exhaustive()
    }
}

impl Rehearsal {
    /// A client of it.
    pub fn client(&self) -> Client {
        let this = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| this.clone().answer(request));
        Client::new(service, "default")
    }

    /// Makes an object, or puts it in the place of the one that is there. `collection` is such as `api/v1/pods`.
    pub fn put(&self, collection: &str, mut object: Value) {
        let mut state = self.state.lock();
        state.revision += 1;
        let revision = state.revision;
        object["metadata"]["resourceVersion"] = json!(revision.to_string());
        let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
        let key = (text("namespace"), text("name"));
        let collection = state.collections.entry(collection.to_owned()).or_default();
        let kind = if collection.objects.contains_key(&key) {
            "MODIFIED"
        } else {
            "ADDED"
        };
        collection.tell(revision, kind, &object);
        collection.objects.insert(key, object);
    }

    /// Takes an object away.
    pub fn remove(&self, collection: &str, namespace: &str, name: &str) {
        let mut state = self.state.lock();
        state.revision += 1;
        let revision = state.revision;
        let collection = state.collections.entry(collection.to_owned()).or_default();
        if let Some(object) = collection.objects.remove(&(namespace.to_owned(), name.to_owned())) {
            collection.tell(revision, "DELETED", &object);
        }
    }

    /// An object.
    pub fn get(&self, collection: &str, namespace: &str, name: &str) -> Option<Value> {
        let state = self.state.lock();
        let collection = state.collections.get(collection)?;
        collection
            .objects
            .get(&(namespace.to_owned(), name.to_owned()))
            .cloned()
    }

    /// All objects of a collection.
    pub fn all(&self, collection: &str) -> Vec<Value> {
        let state = self.state.lock();
        state
            .collections
            .get(collection)
            .map(|all| all.objects.values().cloned().collect())
            .unwrap_or_default()
    }

    /// Answers with these statuses from now on, where there is one. After 500 the request has been done all the same,
    /// as when an answer is lost.
    pub fn refuse(&self, refusal: impl FnMut(&Method, &str) -> Option<StatusCode> + Send + 'static) {
        self.state.lock().refusal = Some(Box::new(refusal));
    }

    /// How many bindings were accepted.
    pub fn bound(&self) -> watch::Receiver<usize> {
        self.bound.subscribe()
    }

    async fn answer(self, request: Request<Body>) -> Result<Reply, Infallible> {
        let (parts, body) = request.into_parts();
        let body = body
            .collect()
            .await
            .map(http_body_util::Collected::to_bytes)
            .unwrap_or_default();
        let path = parts.uri.path().to_owned();
        let refused = {
            let mut state = self.state.lock();
            state.refusal.as_mut().and_then(|refusal| refusal(&parts.method, &path))
        };
        match refused {
            Some(StatusCode::INTERNAL_SERVER_ERROR) => {
                self.perform(&parts, &body);
                Ok(status(StatusCode::INTERNAL_SERVER_ERROR))
            }
            Some(code) => Ok(status(code)),
            None => Ok(self.perform(&parts, &body)),
        }
    }

    fn perform(&self, parts: &http::request::Parts, body: &[u8]) -> Reply {
        let Some(target) = Target::of(parts.uri.path()) else {
            return status(StatusCode::NOT_FOUND);
        };
        let query = parts.uri.query().unwrap_or_default();
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        match (&parts.method, &target.name, target.part.as_deref()) {
            (&Method::GET, None, None) if query.contains("watch=") => self.watch(&target, query),
            (&Method::GET, None, None) => self.list(&target),
            (&Method::GET, Some(name), None) => match self.get(&target.collection, &target.namespace, name) {
                Some(object) => whole(&object),
                None => status(StatusCode::NOT_FOUND),
            },
            (&Method::POST, None, None) => {
                let mut object = body;
                object["metadata"]["namespace"] = json!(target.namespace);
                self.put(&target.collection, object.clone());
                whole(&object)
            }
            (&Method::POST, Some(name), Some("binding")) => self.bind(&target, name, &body),
            (&Method::PUT, Some(_), None) => {
                self.put(&target.collection, body.clone());
                whole(&body)
            }
            (&Method::PATCH, Some(name), Some("status")) => self.merge(&target, name, &body),
            (&Method::DELETE, Some(name), None) => {
                self.remove(&target.collection, &target.namespace, name);
                whole(&json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}))
            }
            _ => status(StatusCode::NOT_FOUND),
        }
    }

    fn list(&self, target: &Target) -> Reply {
        let state = self.state.lock();
        let objects = state.collections.get(&target.collection);
        let items: Vec<&Value> = objects.iter().flat_map(|all| all.objects.values()).collect();
        whole(&json!({
            "kind": "List", "apiVersion": "v1", "metadata": {"resourceVersion": state.revision.to_string()}, "items": items,
        }))
    }

    fn watch(&self, target: &Target, query: &str) -> Reply {
        let parameters = query.split('&').filter_map(|parameter| parameter.split_once('='));
        let from = parameters
            .filter(|(name, _)| *name == "resourceVersion")
            .find_map(|(_, value)| value.parse().ok());
        let from: u64 = from.unwrap_or(0);
        let (line_tx, mut line_rx) = mpsc::unbounded_channel();
        let mut state = self.state.lock();
        let collection = state.collections.entry(target.collection.clone()).or_default();
        for (_, line) in collection.log.iter().filter(|(revision, _)| *revision > from) {
            // The receiver is here.
            let _ = line_tx.send(line.clone());
        }
        collection.watchers.push(line_tx);
        drop(state);
        let lines = futures_util::stream::poll_fn(move |context| {
            line_rx
                .poll_recv(context)
                .map(|line| line.map(|line| Ok(Frame::data(line))))
        });
        reply(StatusCode::OK, StreamBody::new(lines).boxed_unsync())
    }

    fn bind(&self, target: &Target, name: &str, binding: &Value) -> Reply {
        let Some(mut pod) = self.get(&target.collection, &target.namespace, name) else {
            return status(StatusCode::NOT_FOUND);
        };
        let other = binding["metadata"]["uid"]
            .as_str()
            .is_some_and(|uid| pod["metadata"]["uid"] != *uid);
        if other || pod["spec"]["nodeName"].is_string() {
            return status(StatusCode::CONFLICT);
        }
        pod["spec"]["nodeName"] = binding["target"]["name"].clone();
        self.put(&target.collection, pod);
        self.bound.send_modify(|count| *count += 1);
        let mut reply = whole(&json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}));
        *reply.status_mut() = StatusCode::CREATED;
        reply
    }

    /// Merges a status: conditions by their types, other fields whole.
    fn merge(&self, target: &Target, name: &str, patch: &Value) -> Reply {
        let Some(mut object) = self.get(&target.collection, &target.namespace, name) else {
            return status(StatusCode::NOT_FOUND);
        };
        if object["status"].is_null() {
            object["status"] = json!({});
        }
        for (field, value) in patch["status"].as_object().into_iter().flatten() {
            if field == "conditions" {
                let mut conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
                for condition in value.as_array().into_iter().flatten() {
                    conditions.retain(|one| one["type"] != condition["type"]);
                    conditions.push(condition.clone());
                }
                object["status"]["conditions"] = json!(conditions);
            } else {
                object["status"][field] = value.clone();
            }
        }
        self.put(&target.collection, object.clone());
        whole(&object)
    }
}

fn reply(code: StatusCode, body: UnsyncBoxBody<Bytes, io::Error>) -> Reply {
    let mut reply = Response::new(body);
    *reply.status_mut() = code;
    let json = http::HeaderValue::from_static("application/json");
    reply.headers_mut().insert(http::header::CONTENT_TYPE, json);
    reply
}

fn whole(value: &Value) -> Reply {
    let body = Full::new(Bytes::from(value.to_string())).map_err(|never: Infallible| match never {});
    reply(StatusCode::OK, body.boxed_unsync())
}

fn status(code: StatusCode) -> Reply {
    let reason = match code {
        StatusCode::NOT_FOUND => "NotFound",
        StatusCode::CONFLICT => "Conflict",
        StatusCode::TOO_MANY_REQUESTS => "TooManyRequests",
        StatusCode::SERVICE_UNAVAILABLE => "ServiceUnavailable",
        _ => "InternalError",
    };
    let mut reply = whole(&json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": code.as_u16(),
        "reason": reason, "message": code.canonical_reason(),
    }));
    *reply.status_mut() = code;
    reply
}
