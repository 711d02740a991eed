//! Bodies: what is sent, and how what comes is read without being overwhelmed.

use std::{
    error::Error,
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::{Bytes, BytesMut};
use futures_util::stream::{BoxStream, StreamExt};
use http_body_util::BodyExt;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::status::{Reason, Status};

/// No request's body is longer, as upstream has it.
pub const MAX_BODY: usize = 3 << 20;

/// What can go wrong while a body is sent: the connection is cut, so that nobody takes the part for the whole.
pub type BodyError = Box<dyn Error + Send + Sync>;

/// The body of an answer: bytes known beforehand, or a stream.
///
/// Handing a chunk to HTTP/2 is not writing it: it waits there until the client takes it, and a client that takes nothing
/// would have the server keep as many answers as it likes. So each chunk holds on to the observers until its bytes are
/// written, and what they hold, such as a place among the requests in flight, lasts as long as the memory does.
pub struct Body {
    content: Content,
    observers: Arc<Vec<Box<dyn Observer>>>,
}

enum Content {
    Full(Bytes),
    Stream(BoxStream<'static, Result<Bytes, BodyError>>),
}

/// Watches a body being sent; dropping it is the end, however it came: nothing of the body is left in memory.
pub trait Observer: Send + Sync {
    /// So many bytes more are on their way.
    fn sent(&self, _bytes: usize) {}
}

/// Bytes on their way, and who waits for their end.
struct Chunk {
    bytes: Bytes,
    _observers: Arc<Vec<Box<dyn Observer>>>,
}

impl AsRef<[u8]> for Chunk {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Body {
    /// Nothing.
    pub fn empty() -> Self {
        Self::full(Bytes::new())
    }

    /// Bytes known beforehand.
    pub fn full(bytes: impl Into<Bytes>) -> Self {
        Self {
            content: Content::Full(bytes.into()),
            observers: Arc::default(),
        }
    }

    /// Chunks as they come. An error cuts the connection.
    pub fn stream(stream: impl futures_util::Stream<Item = Result<Bytes, BodyError>> + Send + 'static) -> Self {
        Self {
            content: Content::Stream(stream.boxed()),
            observers: Arc::default(),
        }
    }

    /// Pieces that are at hand. If there is but one, its length is told beforehand.
    pub fn pieces(mut pieces: Box<dyn Iterator<Item = Bytes> + Send>) -> Self {
        let first = pieces.next().unwrap_or_default();
        match pieces.next() {
            None => Self::full(first),
            Some(second) => {
                let all = [first, second].into_iter().chain(pieces);
                Self::stream(futures_util::stream::iter(all.map(Ok)))
            }
        }
    }

    /// Has `observer` watch it being sent.
    pub fn observed(mut self, observer: impl Observer + 'static) -> Self {
        let observers = Arc::get_mut(&mut self.observers).expect("no chunk is on its way yet");
        observers.push(Box::new(observer));
        self
    }

    /// A chunk on its way.
    fn sent(&self, bytes: Bytes) -> Bytes {
        if self.observers.is_empty() {
            return bytes;
        }
        for observer in &*self.observers {
            observer.sent(bytes.len());
        }
        Bytes::from_owner(Chunk {
            bytes,
            _observers: self.observers.clone(),
        })
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.content {
            Content::Full(bytes) => write!(f, "Body({} bytes)", bytes.len()),
            Content::Stream(_) => f.write_str("Body(stream)"),
        }
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let chunk = match &mut self.content {
            Content::Full(bytes) if bytes.is_empty() => None,
            Content::Full(bytes) => Some(Ok(std::mem::take(bytes))),
            Content::Stream(stream) => ready!(stream.poll_next_unpin(context)),
        };
        Poll::Ready(chunk.map(|chunk| chunk.map(|bytes| Frame::data(self.sent(bytes)))))
    }

    fn is_end_stream(&self) -> bool {
        matches!(&self.content, Content::Full(bytes) if bytes.is_empty())
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Content::Stream(_) => SizeHint::default(),
        }
    }
}

/// What all bodies that are being worked on may weigh together: parsed, a body takes many times its length.
#[derive(Clone, Debug)]
pub struct Budget {
    bytes: Arc<Semaphore>,
}

/// A body's share of the [`Budget`], for as long as it is worked on.
#[derive(Debug, Default)]
pub struct Share(Option<OwnedSemaphorePermit>);

impl Budget {
    /// So many bytes at a time.
    pub fn new(bytes: usize) -> Self {
        Self {
            bytes: Arc::new(Semaphore::new(bytes)),
        }
    }

    fn take(&self, share: &mut Share, bytes: usize) -> Result<(), Status> {
        let more = self.bytes.clone().try_acquire_many_owned(bytes as u32);
        match (more, &mut share.0) {
            (Ok(more), Some(have)) => have.merge(more),
            (Ok(more), none) => *none = Some(more),
            (Err(_), _) => return Err(too_many_requests()),
        }
        Ok(())
    }
}

/// 429: what the client library waits and tries again for.
pub fn too_many_requests() -> Status {
    Status {
        details: Some(serde_json::json!({"retryAfterSeconds": 1})),
        ..Status::new(Reason::TooManyRequests, "too many requests, please try again later")
    }
}

async fn next<B>(mut body: Pin<&mut B>) -> Option<Result<Frame<Bytes>, Status>>
where
    B: HttpBody<Data = Bytes>,
    B::Error: Into<BodyError>,
{
    let frame = body.frame().await?;
    Some(frame.map_err(|error| Status::bad_request(format!("the body could not be read: {}", error.into()))))
}

/// Takes no more than `most` bytes and forgets them: a client that is answered while it still sends may see its
/// connection break rather than the answer.
async fn discard<B>(mut body: Pin<&mut B>, most: usize)
where
    B: HttpBody<Data = Bytes>,
    B::Error: Into<BodyError>,
{
    let mut taken = 0;
    while taken <= most {
        let Some(Ok(frame)) = next(body.as_mut()).await else {
            return;
        };
        taken += frame.data_ref().map_or(0, Bytes::len);
    }
}

/// Reads a request's body, no more than `max` bytes of it and within the budget. The caller sets the deadline.
pub async fn read<B>(body: B, max: usize, budget: &Budget) -> Result<(Bytes, Share), Status>
where
    B: HttpBody<Data = Bytes>,
    B::Error: Into<BodyError>,
{
    let too_large = || {
        Status::new(
            Reason::RequestEntityTooLarge,
            format!("Request entity too large: limit is {max}"),
        )
    };
    let mut body = std::pin::pin!(body);
    if body.size_hint().lower() > max as u64 {
        discard(body, max).await;
        return Err(too_large());
    }
    let mut share = Share::default();
    let mut first = Bytes::new();
    let mut all = BytesMut::new();
    while let Some(frame) = next(body.as_mut()).await {
        let frame = frame?;
        let Ok(chunk) = frame.into_data() else { continue };
        if chunk.is_empty() {
            continue;
        }
        if first.len() + all.len() + chunk.len() > max {
            drop((first, all));
            discard(body, max).await;
            return Err(too_large());
        }
        budget.take(&mut share, chunk.len())?;
        // Most bodies are one chunk, which needs no copy.
        if first.is_empty() && all.is_empty() {
            first = chunk;
        } else {
            all.extend_from_slice(&std::mem::take(&mut first));
            all.extend_from_slice(&chunk);
        }
    }
    let bytes = if all.is_empty() { first } else { all.freeze() };
    Ok((bytes, share))
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use http_body_util::{Full, StreamBody};

    use super::*;

    fn chunks(chunks: &[&'static str]) -> impl HttpBody<Data = Bytes, Error = Infallible> {
        let frames: Vec<_> = chunks
            .iter()
            .map(|chunk| Ok(Frame::data(Bytes::from_static(chunk.as_bytes()))))
            .collect();
        StreamBody::new(futures_util::stream::iter(frames))
    }

    #[tokio::test]
    async fn a_body_is_read_whole_however_it_is_cut() {
        let budget = Budget::new(100);
        for cut in [&["abc"][..], &["a", "b", "c"], &["", "ab", "", "c"]] {
            let (bytes, _share) = read(chunks(cut), 10, &budget).await.unwrap();
            assert_eq!(bytes, "abc", "{cut:?}");
        }
        assert_eq!(budget.bytes.available_permits(), 100);
    }

    #[tokio::test]
    async fn an_answer_has_ended_when_its_last_byte_is_written() {
        struct Counter(Arc<std::sync::atomic::AtomicUsize>);
        impl Observer for Counter {
            fn sent(&self, bytes: usize) {
                self.0.fetch_add(bytes, std::sync::atomic::Ordering::Relaxed);
            }
        }
        let counted = Arc::default();
        let pieces = ["ab", "cde"].map(|text| Bytes::from_static(text.as_bytes()));
        let mut body = Body::pieces(Box::new(pieces.into_iter()))
            .observed(Counter(Arc::clone(&counted)))
            .observed(Counter(Arc::clone(&counted)));
        let mut chunks = Vec::new();
        while let Some(frame) = body.frame().await {
            chunks.push(frame.unwrap().into_data().unwrap());
        }
        drop(body);
        assert_eq!(chunks, ["ab", "cde"]);
        assert_eq!(counted.load(std::sync::atomic::Ordering::Relaxed), 10);
        let part = chunks.pop().unwrap().split_off(2);
        drop(chunks);
        assert_eq!(Arc::strong_count(&counted), 3, "a byte of it is not written yet");
        drop(part);
        assert_eq!(Arc::strong_count(&counted), 1);
    }

    #[tokio::test]
    async fn a_body_beyond_the_limit_is_refused_whether_or_not_it_says_its_length() {
        let budget = Budget::new(100);
        let known = read(Full::new(Bytes::from_static(b"abcdef")), 5, &budget)
            .await
            .unwrap_err();
        let unknown = read(chunks(&["abc", "def"]), 5, &budget).await.unwrap_err();
        for status in [known, unknown] {
            assert_eq!(status.reason, Reason::RequestEntityTooLarge);
            assert_eq!(status.message, "Request entity too large: limit is 5");
        }
    }

    #[tokio::test]
    async fn bodies_that_weigh_too_much_together_are_told_to_come_again() {
        let budget = Budget::new(5);
        let (_, held) = read(chunks(&["abc"]), 10, &budget).await.unwrap();
        let status = read(chunks(&["ab", "c"]), 10, &budget).await.unwrap_err();
        assert_eq!(status.reason, Reason::TooManyRequests);
        drop(held);
        assert!(read(chunks(&["ab", "c"]), 10, &budget).await.is_ok());
    }
}
