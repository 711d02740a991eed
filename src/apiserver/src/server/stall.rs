//! A connection whose other end takes nothing for too long is cut, not waited for.

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep},
};

/// How long the other end may take nothing, as long as what is written to it goes on by itself; what passes on somebody
/// else's words waits for as long as people may pause it.
#[derive(Clone, Debug)]
pub(super) struct Patience {
    usual: Duration,
    passes_on: Arc<AtomicBool>,
}

/// A terminal may be stopped, a log read page by page, for as long as a session may be idle.
const PAUSE: Duration = bosun_streaming::session::IDLE;

impl Patience {
    pub(super) fn new(usual: Duration) -> Self {
        Self {
            usual,
            passes_on: Arc::default(),
        }
    }

    /// What is answered next passes on somebody else's words, or not.
    pub(super) fn passes_on(&self, passes_on: bool) {
        self.passes_on.store(passes_on, Ordering::Relaxed);
    }

    fn now(&self) -> Duration {
        if self.passes_on.load(Ordering::Relaxed) {
            PAUSE
        } else {
            self.usual
        }
    }
}

/// A stream whose writes fail once one of them has made no progress for a while.
#[derive(Debug)]
pub(super) struct NoStall<S> {
    stream: S,
    patience: Patience,
    /// Runs while a write waits.
    waiting: Option<Pin<Box<Sleep>>>,
}

impl<S> NoStall<S> {
    /// Writes to `stream` wait no longer than `patience`.
    pub(super) fn new(stream: S, patience: Patience) -> Self {
        Self {
            stream,
            patience,
            waiting: None,
        }
    }

    fn judge<T>(&mut self, context: &mut Context<'_>, progress: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if progress.is_ready() {
            self.waiting = None;
            return progress;
        }
        let patience = self.patience.now();
        let timer = self.waiting.get_or_insert_with(|| Box::pin(sleep(patience)));
        match timer.as_mut().poll(context) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(()) => {
                timer.as_mut().reset(Instant::now() + patience);
                Poll::Ready(Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    "the other end takes nothing",
                )))
            }
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for NoStall<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, into)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for NoStall<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let progress = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.judge(context, progress)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let progress = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.judge(context, progress)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let progress = Pin::new(&mut self.stream).poll_flush(context);
        self.judge(context, progress)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let progress = Pin::new(&mut self.stream).poll_shutdown(context);
        self.judge(context, progress)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_stands_still_is_cut_off_and_a_slow_one_is_not() {
        let (ours, mut theirs) = duplex(4);
        let mut ours = NoStall::new(ours, Patience::new(Duration::from_secs(30)));
        let slow = async {
            let mut byte = [0];
            for _ in 0..8 {
                sleep(Duration::from_secs(20)).await;
                theirs.read_exact(&mut byte).await.unwrap();
            }
        };
        let (written, ()) = tokio::join!(ours.write_all(b"abcdefghijkl"), slow);
        written.unwrap();
        let start = Instant::now();
        let error = ours.write_all(b"m").await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(start.elapsed().as_secs(), 30);
    }

    #[tokio::test(start_paused = true)]
    async fn who_passes_on_anothers_words_may_be_paused() {
        let (ours, _theirs) = duplex(4);
        let patience = Patience::new(Duration::from_secs(30));
        let mut ours = NoStall::new(ours, patience.clone());
        patience.passes_on(true);
        let start = Instant::now();
        ours.write_all(b"abcde").await.unwrap_err();
        assert_eq!(start.elapsed(), PAUSE);
    }
}
