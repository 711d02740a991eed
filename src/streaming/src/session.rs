//! Passing messages on between the two ends of a session.

use std::{future::Future, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    time::{Instant, sleep_until, timeout},
};

use crate::Error;

/// A session over which nothing passes for this long is ended, as upstream has it (`streamingConnectionIdleTimeout`).
pub const IDLE: Duration = Duration::from_hours(4);

/// What is left to be written when a session ends has this long.
const FAREWELL: Duration = Duration::from_secs(5);

/// Bytes under way in each direction of a connection that is passed on as it is.
const CHUNK: usize = 32 << 10;

/// Where an end's messages come from.
pub trait Source<M>: Send {
    /// The next message; `None` once the end has left.
    fn next(&mut self) -> impl Future<Output = Result<Option<M>, Error>> + Send;
}

/// Where messages for an end go.
pub trait Sink<M>: Send {
    /// Hands a message over, waiting until there is room for it.
    fn send(&mut self, message: M) -> impl Future<Output = Result<(), Error>> + Send;

    /// Says that the session is over.
    fn close(&mut self) -> impl Future<Output = Result<(), Error>> + Send;
}

/// When something last passed.
#[derive(Clone)]
struct Activity(Arc<Mutex<Instant>>);

impl Activity {
    fn new() -> Self {
        Self(Arc::new(Mutex::new(Instant::now())))
    }

    fn note(&self) {
        *self.0.lock() = Instant::now();
    }

    /// Waits until nothing has passed for `idle`.
    async fn cease(&self, idle: Duration) {
        loop {
            let end = *self.0.lock() + idle;
            if end <= Instant::now() {
                return;
            }
            sleep_until(end).await;
        }
    }
}

/// Passes messages on until either end leaves: the server's leaving is how sessions end well. Both are told then.
pub async fn relay<M>(
    client: (impl Source<M>, impl Sink<M>),
    server: (impl Source<M>, impl Sink<M>),
    idle: Duration,
) -> Result<(), Error> {
    let ((mut from_client, mut to_client), (mut from_server, mut to_server)) = (client, server);
    let activity = Activity::new();
    let outcome = tokio::select! {
        outcome = pass(&mut from_server, &mut to_client, &activity) => outcome,
        outcome = pass(&mut from_client, &mut to_server, &activity) => outcome,
        () = activity.cease(idle) => Err(Error::Idle(idle)),
    };
    // Whoever is still there; the other can't be told.
    let farewell = async { tokio::join!(to_client.close(), to_server.close()) };
    if let Ok((Err(error), _) | (_, Err(error))) = timeout(FAREWELL, farewell).await {
        tracing::debug!(%error, "an end of a session had left already");
    }
    outcome
}

async fn pass<M>(source: &mut impl Source<M>, sink: &mut impl Sink<M>, activity: &Activity) -> Result<(), Error> {
    while let Some(message) = source.next().await? {
        activity.note();
        sink.send(message).await?;
        activity.note();
    }
    Ok(())
}

/// Passes bytes on as they are, until the server's end is over and all of it has reached the client, or the client has
/// left.
///
/// What a client sends last, before it closes its half, still reaches the server: the server says when all is over.
pub async fn copy<C, S>(client: C, server: S, idle: Duration) -> Result<(), Error>
where
    C: AsyncRead + AsyncWrite + Send,
    S: AsyncRead + AsyncWrite + Send,
{
    let (from_client, to_client) = tokio::io::split(client);
    let (from_server, to_server) = tokio::io::split(server);
    let activity = Activity::new();
    let up = async {
        pipe(from_client, to_server, &activity).await?;
        // The client has closed its half, or is gone: the server answers to that.
        std::future::pending::<Result<(), Error>>().await
    };
    tokio::select! {
        outcome = pipe(from_server, to_client, &activity) => outcome,
        outcome = up => outcome,
        () = activity.cease(idle) => Err(Error::Idle(idle)),
    }
}

async fn pipe(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    activity: &Activity,
) -> Result<(), Error> {
    let mut chunk = vec![0; CHUNK];
    loop {
        let read = from.read(&mut chunk).await?;
        activity.note();
        if read == 0 {
            to.shutdown().await?;
            return Ok(());
        }
        to.write_all(&chunk[..read]).await?;
        // TLS keeps what was written until it is flushed.
        to.flush().await?;
        activity.note();
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::duplex;

    use super::*;

    #[tokio::test]
    async fn bytes_pass_both_ways_until_the_server_ends() {
        let (mut client, near) = duplex(64);
        let (far, mut server) = duplex(64);
        let talk = async {
            client.write_all(b"question").await.unwrap();
            client.shutdown().await.unwrap();
            let mut heard = String::new();
            server.read_to_string(&mut heard).await.unwrap();
            assert_eq!(heard, "question");
            server.write_all(b"answer").await.unwrap();
            drop(server);
            heard.clear();
            client.read_to_string(&mut heard).await.unwrap();
            assert_eq!(heard, "answer");
        };
        let (copied, ()) = tokio::join!(copy(near, far, IDLE), talk);
        copied.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_session_over_which_nothing_passes_is_ended() {
        let ((mut client, near), (far, _server)) = (duplex(64), duplex(64));
        let start = Instant::now();
        let talk = async {
            tokio::time::sleep(Duration::from_secs(50)).await;
            client.write_all(b"still here").await.unwrap();
            std::future::pending::<()>().await;
        };
        let copied = tokio::select! {
            copied = copy(near, far, Duration::from_mins(1)) => copied,
            () = talk => unreachable!("it waits for ever"),
        };
        assert!(matches!(copied, Err(Error::Idle(_))), "{copied:?}");
        assert_eq!(start.elapsed().as_secs(), 110);
    }
}
