//! An API that answers as told, one answer a request, and remembers what it was asked.

use std::{collections::VecDeque, convert::Infallible, future::pending, io, sync::Arc};

use bytes::Bytes;
use futures_util::stream;
use http::{Request, Response, header};
use http_body_util::{BodyExt, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::Frame;
use kube::{Client, client::Body};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};

pub(crate) enum Answer {
    /// A whole answer.
    Json(Value),
    /// A refusal, with the seconds of `Retry-After`.
    Refusal(u16, &'static str, Option<u32>),
    /// A refusal of something that is no API server.
    Proxy(u16, Option<u32>),
    /// A stream of lines. It ends with its sender; an error resets it.
    Lines(mpsc::UnboundedReceiver<io::Result<Value>>),
    /// No answer.
    Silence,
    /// No connection.
    Reset,
}

/// A request that was made.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) accept: String,
    pub(crate) body: Value,
}

#[derive(Clone)]
pub(crate) struct Scripted {
    answers: Arc<Mutex<VecDeque<Answer>>>,
    asked: Arc<watch::Sender<Vec<Asked>>>,
}

impl Scripted {
    pub(crate) fn new(answers: impl IntoIterator<Item = Answer>) -> Self {
        Self {
            answers: Arc::new(Mutex::new(answers.into_iter().collect())),
            asked: Arc::new(watch::Sender::new(Vec::new())),
        }
    }

    pub(crate) fn client(&self) -> Client {
        let this = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| this.clone().answer(request));
        Client::new(service, "default")
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.borrow().clone()
    }

    /// Waits until so many requests were made.
    pub(crate) async fn asked_for(&self, number: usize) -> Vec<Asked> {
        let mut asked = self.asked.subscribe();
        asked
            .wait_for(|asked| asked.len() >= number)
            .await
            .expect("the sender is here")
            .clone()
    }

    pub(crate) fn then(&self, answer: Answer) {
        self.answers.lock().push_back(answer);
    }

    async fn answer(self, request: Request<Body>) -> io::Result<Response<UnsyncBoxBody<Bytes, io::Error>>> {
        let (parts, body) = request.into_parts();
        let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
        // A request without an answer in the script is as one to a server that doesn't answer.
        let answer = self.answers.lock().pop_front().unwrap_or(Answer::Silence);
        self.asked.send_modify(|asked| {
            asked.push(Asked {
                method: parts.method.to_string(),
                body: serde_json::from_slice(&body).unwrap_or_default(),
                target: parts.uri.to_string(),
                accept: parts
                    .headers
                    .get(header::ACCEPT)
                    .map_or_else(String::new, |accept| accept.to_str().unwrap_or_default().to_owned()),
            });
        });
        let (code, after, text) = match answer {
            Answer::Json(value) => (200, None, value.to_string()),
            Answer::Refusal(code, reason, after) => {
                let status = json!({"kind": "Status", "status": "Failure", "code": code, "reason": reason});
                (code, after, status.to_string())
            }
            Answer::Proxy(code, after) => (code, after, "not now".to_owned()),
            Answer::Lines(lines) => {
                let frames = stream::unfold(lines, async |mut lines| {
                    let line = lines.recv().await?;
                    Some((line.map(|line| Frame::data(Bytes::from(format!("{line}\n")))), lines))
                });
                return Ok(Response::new(StreamBody::new(frames).boxed_unsync()));
            }
            Answer::Silence => return pending().await,
            Answer::Reset => return Err(io::ErrorKind::ConnectionReset.into()),
        };
        let mut response = Response::builder().status(code);
        if let Some(after) = after {
            response = response.header(header::RETRY_AFTER, after);
        }
        let body = http_body_util::Full::new(Bytes::from(text)).map_err(|never: Infallible| match never {});
        Ok(response.body(body.boxed_unsync()).expect("a valid response"))
    }
}

/// A watch, and what tells its lines.
pub(crate) fn lines() -> (mpsc::UnboundedSender<io::Result<Value>>, Answer) {
    let (tx, rx) = mpsc::unbounded_channel();
    (tx, Answer::Lines(rx))
}

/// A watch that tells these lines and ends.
pub(crate) fn ended(told: impl IntoIterator<Item = Value>) -> Answer {
    let (tx, answer) = lines();
    for line in told {
        tx.send(Ok(line)).expect("the receiver is here");
    }
    answer
}
