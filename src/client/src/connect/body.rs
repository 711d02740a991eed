//! The body of an answer, with a deadline for each piece of it.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::{Instant, Sleep, sleep};

use super::{Error, NoAnswer};

/// A body that fails when it falls silent.
pub struct Answer {
    body: Incoming,
    limit: Option<(Duration, Pin<Box<Sleep>>)>,
}

impl Answer {
    /// `limit` is how long each piece may take; `None`: any time.
    pub(super) fn new(body: Incoming, limit: Option<Duration>) -> Self {
        let limit = limit.map(|limit| (limit, Box::pin(sleep(limit))));
        Self { body, limit }
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = &mut *self;
        if let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(cx) {
            if let Some((limit, sleep)) = &mut this.limit {
                sleep.as_mut().reset(Instant::now() + *limit);
            }
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        let Some((limit, sleep)) = &mut this.limit else {
            return Poll::Pending;
        };
        ready!(sleep.as_mut().poll(cx));
        Poll::Ready(Some(Err(NoAnswer(*limit).into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
