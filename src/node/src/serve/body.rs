//! Bodies of answers.

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::{BodyExt, Empty, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::Frame;

/// What can go wrong while a body is sent: the connection is cut, so that nobody takes the part for the whole.
pub(super) type Error = Box<dyn std::error::Error + Send + Sync>;
/// Any body.
pub(super) type Body = UnsyncBoxBody<Bytes, Error>;

pub(super) fn empty() -> Body {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

pub(super) fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// Chunks as they come.
pub(super) fn stream(chunks: impl Stream<Item = Result<Bytes, Error>> + Send + 'static) -> Body {
    StreamBody::new(chunks.map(|chunk| chunk.map(Frame::data))).boxed_unsync()
}

/// Words.
pub(super) fn text(code: StatusCode, words: impl Into<String>) -> Response<Body> {
    let mut response = Response::new(full(words.into()));
    *response.status_mut() = code;
    let kind = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

/// An object.
pub(super) fn json(object: &impl serde::Serialize) -> Response<Body> {
    match serde_json::to_vec(object) {
        Ok(bytes) => {
            let mut response = Response::new(full(bytes));
            let kind = HeaderValue::from_static("application/json");
            response.headers_mut().insert(header::CONTENT_TYPE, kind);
            response
        }
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    }
}
