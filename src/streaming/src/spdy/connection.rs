//! A connection: who opened which stream, who answers pings, in which order frames go out.

use std::{
    collections::HashSet,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::mpsc,
    time::timeout,
};
use tokio_util::codec::{FramedRead, FramedWrite};

use super::{
    SpdyError,
    frame::{Decoder, Encoder, Frame, MAX_DATA, PROTOCOL_ERROR, REFUSED_STREAM, StreamId},
    headers::Headers,
};

/// Which end of the connection this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It asked for the upgrade; its streams are odd.
    Client,
    /// It agreed; its streams are even.
    Server,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The other end opened a stream; it has been told that it is accepted.
    Opened {
        /// Its number.
        stream: StreamId,
        /// What it is for.
        headers: Headers,
    },
    /// The other end accepted a stream of ours. Data that is sent before this is lost.
    Accepted {
        /// Its number.
        stream: StreamId,
    },
    /// Data came.
    Data {
        /// On this stream.
        stream: StreamId,
        /// Some bytes.
        data: Bytes,
    },
    /// The other end sends nothing more on a stream.
    Finished {
        /// Its number.
        stream: StreamId,
    },
    /// A stream is cut.
    Reset {
        /// Its number.
        stream: StreamId,
    },
}

/// Streams that the other end may have open at a time.
const MAX_STREAMS: usize = 1000;
/// Frames that wait to be written.
const QUEUE: usize = 8;

type Half<T> = Pin<Box<T>>;

/// Where events come from.
pub struct Reader {
    frames: FramedRead<Half<dyn AsyncRead + Send>, Decoder>,
    role: Role,
    /// The other end's streams on which more may come.
    open: HashSet<StreamId>,
    last: StreamId,
    /// What a frame means besides the event that was told.
    next: Option<Event>,
    /// A stream is told of once its opener is answered.
    reply: Option<Frame>,
    queue: mpsc::Sender<Frame>,
}

/// Where streams are opened and written to. Clones share the connection.
#[derive(Clone)]
pub struct Writer {
    queue: mpsc::Sender<Frame>,
    ids: Arc<tokio::sync::Mutex<StreamId>>,
    pings: Arc<AtomicU32>,
}

/// Carries out what the [`Writer`]s were told.
pub struct Driver {
    frames: FramedWrite<Half<dyn AsyncWrite + Send>, Encoder>,
    queue: mpsc::Receiver<Frame>,
}

/// Speaks SPDY over an upgraded connection.
pub fn connect<I>(io: I, role: Role) -> (Reader, Writer, Driver)
where
    I: AsyncRead + AsyncWrite + Send + 'static,
{
    let (read, write) = tokio::io::split(io);
    let (queue_tx, queue_rx) = mpsc::channel(QUEUE);
    let first = match role {
        Role::Client => 1,
        Role::Server => 2,
    };
    let reader = Reader {
        frames: FramedRead::with_capacity(
            Box::pin(read) as Half<dyn AsyncRead + Send>,
            Decoder::default(),
            MAX_DATA,
        ),
        role,
        open: HashSet::new(),
        last: 0,
        next: None,
        reply: None,
        queue: queue_tx.clone(),
    };
    let writer = Writer {
        queue: queue_tx,
        ids: Arc::new(tokio::sync::Mutex::new(first)),
        pings: Arc::new(AtomicU32::new(first)),
    };
    let mut frames = FramedWrite::new(Box::pin(write) as Half<dyn AsyncWrite + Send>, Encoder::default());
    frames.set_backpressure_boundary(2 * MAX_DATA);
    let driver = Driver {
        frames,
        queue: queue_rx,
    };
    (reader, writer, driver)
}

impl Reader {
    /// What happens next; `None` once the other end has left. May be dropped and called again.
    pub async fn next(&mut self) -> Result<Option<Event>, SpdyError> {
        loop {
            if self.reply.is_some() {
                let gone = |_| SpdyError::Io(std::io::ErrorKind::BrokenPipe.into());
                let place = self.queue.reserve().await.map_err(gone)?;
                if let Some(reply) = self.reply.take() {
                    place.send(reply);
                }
            }
            if let Some(event) = self.next.take() {
                return Ok(Some(event));
            }
            let Some(frame) = self.frames.next().await else {
                return Ok(None);
            };
            if let Some(event) = self.event(frame?) {
                return Ok(Some(event));
            }
        }
    }

    fn event(&mut self, frame: Frame) -> Option<Event> {
        match frame {
            Frame::SynStream { id, headers, fin } => {
                self.opened(id, headers, fin);
                None
            }
            Frame::SynReply { id, fin, .. } => {
                self.next = fin.then_some(Event::Finished { stream: id });
                Some(Event::Accepted { stream: id })
            }
            Frame::Data { id, data, fin } => {
                let finished = fin.then_some(Event::Finished { stream: id });
                if fin {
                    self.open.remove(&id);
                }
                if data.is_empty() {
                    return finished;
                }
                self.next = finished;
                Some(Event::Data { stream: id, data })
            }
            Frame::Reset { id, .. } => {
                self.open.remove(&id);
                Some(Event::Reset { stream: id })
            }
            Frame::Ping(id) => {
                // One of ours comes back otherwise.
                if self.is_theirs(id) {
                    // Without waiting: if the other end reads nothing because we read nothing, both would wait for
                    // ever. A queue that is full shows well enough that we are there.
                    let _ = self.queue.try_send(Frame::Ping(id));
                }
                None
            }
            Frame::GoAway | Frame::Ignored => None,
        }
    }

    fn opened(&mut self, id: StreamId, headers: Headers, fin: bool) {
        // A number that was used before, or is not theirs to use.
        if id <= self.last || !self.is_theirs(id) {
            self.reply = Some(Frame::Reset {
                id,
                code: PROTOCOL_ERROR,
            });
            return;
        }
        self.last = id;
        // A stream that is born half closed is none that anybody here opens.
        if fin || self.open.len() >= MAX_STREAMS {
            self.reply = Some(Frame::Reset {
                id,
                code: REFUSED_STREAM,
            });
            return;
        }
        self.open.insert(id);
        self.reply = Some(Frame::SynReply {
            id,
            headers: Headers::default(),
            fin: false,
        });
        self.next = Some(Event::Opened { stream: id, headers });
    }

    fn is_theirs(&self, id: u32) -> bool {
        (id % 2 == 1) == (self.role == Role::Server)
    }
}

impl Writer {
    /// Opens a stream. Data may follow once it is accepted.
    pub async fn open(&self, headers: Headers, fin: bool) -> Result<StreamId, SpdyError> {
        // Held until it is in the queue: numbers must go out in their order.
        let mut next = self.ids.lock().await;
        let id = *next;
        self.put(Frame::SynStream { id, headers, fin }).await?;
        *next += 2;
        Ok(id)
    }

    /// Sends data, waiting for room. Returns when it is queued.
    pub async fn send(&self, stream: StreamId, mut data: Bytes) -> Result<(), SpdyError> {
        while !data.is_empty() {
            let part = data.split_to(data.len().min(MAX_DATA));
            let frame = Frame::Data {
                id: stream,
                data: part,
                fin: false,
            };
            self.put(frame).await?;
        }
        Ok(())
    }

    /// Sends nothing more on a stream.
    pub async fn finish(&self, stream: StreamId) -> Result<(), SpdyError> {
        let frame = Frame::Data {
            id: stream,
            data: Bytes::new(),
            fin: true,
        };
        self.put(frame).await
    }

    /// Cuts a stream.
    pub async fn reset(&self, stream: StreamId, code: u32) -> Result<(), SpdyError> {
        self.put(Frame::Reset { id: stream, code }).await
    }

    /// Has the other end show that it is there.
    pub async fn ping(&self) -> Result<(), SpdyError> {
        let id = self.pings.fetch_add(2, Ordering::Relaxed);
        self.put(Frame::Ping(id)).await
    }

    async fn put(&self, frame: Frame) -> Result<(), SpdyError> {
        let gone = |_| SpdyError::Io(std::io::ErrorKind::BrokenPipe.into());
        self.queue.send(frame).await.map_err(gone)
    }
}

/// What is left to be written at the end has this long.
const FAREWELL: Duration = Duration::from_secs(5);

impl Driver {
    /// Carries out what `work` writes, and afterwards what is left of it. `work` must own the reader and the writers.
    pub async fn during<T>(self, work: impl Future<Output = T>) -> T {
        let mut work = std::pin::pin!(work);
        let mut running = std::pin::pin!(self.run());
        let output = tokio::select! {
            output = &mut work => output,
            // Nothing can be written any more; the work will notice.
            _ = &mut running => return work.await,
        };
        if let Ok(Err(error)) = timeout(FAREWELL, running).await {
            tracing::debug!(%error, "the other end of a SPDY connection had left");
        }
        output
    }

    /// Writes until reader and writers are gone, then says goodbye.
    async fn run(mut self) -> Result<(), SpdyError> {
        while let Some(frame) = self.queue.recv().await {
            self.frames.feed(frame).await?;
            while let Ok(frame) = self.queue.try_recv() {
                self.frames.feed(frame).await?;
            }
            self.frames.flush().await?;
        }
        self.frames.send(Frame::GoAway).await?;
        self.frames.close().await
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::duplex;

    use super::*;

    #[tokio::test]
    async fn streams_are_opened_accepted_half_closed_and_cut() {
        let (near, far) = duplex(256);
        let (mut client, to_server, driving_client) = connect(near, Role::Client);
        let (mut server, to_client, driving_server) = connect(far, Role::Server);
        let talk = async {
            let headers = Headers::new([("streamType", "stdin")]);
            let stream = to_server.open(headers.clone(), false).await.unwrap();
            assert_eq!(stream, 1);
            assert_eq!(server.next().await.unwrap(), Some(Event::Opened { stream, headers }));
            assert_eq!(client.next().await.unwrap(), Some(Event::Accepted { stream }));
            to_server.send(stream, "in".into()).await.unwrap();
            to_server.finish(stream).await.unwrap();
            let data = Event::Data {
                stream,
                data: "in".into(),
            };
            assert_eq!(server.next().await.unwrap(), Some(data));
            assert_eq!(server.next().await.unwrap(), Some(Event::Finished { stream }));
            // The other half is still there.
            to_client.send(stream, "out".into()).await.unwrap();
            to_client.ping().await.unwrap();
            to_client.reset(stream, super::super::frame::CANCEL).await.unwrap();
            let data = Event::Data {
                stream,
                data: "out".into(),
            };
            assert_eq!(client.next().await.unwrap(), Some(data));
            assert_eq!(client.next().await.unwrap(), Some(Event::Reset { stream }));
            drop((client, to_server));
            assert_eq!(
                server.next().await.unwrap(),
                None,
                "the pong and the goodbye are no events"
            );
            drop((server, to_client));
        };
        let ((), first, second) = tokio::join!(talk, driving_client.run(), driving_server.run());
        first.unwrap();
        // The client has hung up by then.
        drop(second);
    }

    #[tokio::test]
    async fn a_stream_of_the_wrong_number_is_refused() {
        let (near, far) = duplex(4096);
        let (mut client, _writer, driving) = connect(near, Role::Client);
        let mut raw = FramedWrite::new(far, Encoder::default());
        let work = async {
            for id in [3, 2, 2, 4] {
                let headers = Headers::default();
                raw.send(Frame::SynStream {
                    id,
                    headers,
                    fin: false,
                })
                .await
                .unwrap();
            }
            for expected in [2, 4] {
                let event = client.next().await.unwrap();
                assert!(
                    matches!(event, Some(Event::Opened { stream, .. }) if stream == expected),
                    "{event:?}"
                );
            }
        };
        tokio::select! {
            () = work => {}
            ended = driving.run() => panic!("{ended:?}"),
        }
    }
}
