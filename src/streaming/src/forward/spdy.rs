//! A port-forward over SPDY (`portforward.k8s.io`): two streams for each connection, which share a request id.

use std::collections::BTreeMap;

use super::Message;
use crate::{
    Error,
    session::{Sink, Source},
    spdy::{Event, Headers, Reader, StreamId, Writer, frame::CANCEL},
};

/// Which of a connection's two streams one is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Data,
    Error,
}

/// What comes from the ports.
pub struct PortSource {
    reader: Reader,
    writer: Writer,
    streams: BTreeMap<StreamId, (usize, Part)>,
}

/// What goes to the ports.
pub struct PortSink {
    writer: Writer,
    /// The data streams by their connections.
    streams: BTreeMap<usize, StreamId>,
}

/// As a client: opens a connection to each port, in their order, and waits until all are accepted.
///
/// The connection's driver must be polled meanwhile.
pub async fn open(mut reader: Reader, writer: Writer, ports: &[u16]) -> Result<(PortSource, PortSink), Error> {
    let mut streams = BTreeMap::new();
    let mut data = BTreeMap::new();
    for (request, port) in ports.iter().enumerate() {
        let (port, id) = (port.to_string(), request.to_string());
        let headers = |kind| Headers::new([("streamtype", kind), ("port", &port), ("requestid", &id)]);
        let errors = writer.open(headers("error"), false).await?;
        streams.insert(errors, (request, Part::Error));
        // Nothing is ever said on it from this end.
        writer.finish(errors).await?;
        let stream = writer.open(headers("data"), false).await?;
        streams.insert(stream, (request, Part::Data));
        data.insert(request, stream);
        for _ in 0..2 {
            accepted(&mut reader).await?;
        }
    }
    let source = PortSource {
        reader,
        writer: writer.clone(),
        streams,
    };
    Ok((source, PortSink { writer, streams: data }))
}

/// A port whose pod does not listen says so on the error stream, after its streams are accepted; none sends anything of
/// its own accord before its client does, or what it does is lost with upstream's too.
async fn accepted(reader: &mut Reader) -> Result<(), Error> {
    loop {
        match reader.next().await? {
            Some(Event::Accepted { .. }) => return Ok(()),
            Some(Event::Reset { .. }) => return Err(Error::Protocol("a stream to the port was refused")),
            Some(_) => {}
            None => return Err(Error::Protocol("the other end left before the port was reached")),
        }
    }
}

impl Source<Message> for PortSource {
    async fn next(&mut self) -> Result<Option<Message>, Error> {
        while !self.streams.is_empty() {
            let Some(event) = self.reader.next().await? else {
                return Ok(None);
            };
            match event {
                Event::Data { stream, data } => match self.streams.get(&stream) {
                    Some((connection, Part::Data)) => return Ok(Some(Message::Data(*connection, data))),
                    Some((connection, Part::Error)) => return Ok(Some(Message::Error(*connection, data))),
                    None => {}
                },
                Event::Finished { stream } | Event::Reset { stream } => {
                    if let Some((connection, Part::Data)) = self.streams.remove(&stream) {
                        return Ok(Some(Message::End(connection)));
                    }
                }
                Event::Opened { stream, .. } => self.writer.reset(stream, CANCEL).await?,
                Event::Accepted { .. } => {}
            }
        }
        Ok(None)
    }
}

impl Sink<Message> for PortSink {
    async fn send(&mut self, message: Message) -> Result<(), Error> {
        match message {
            Message::Data(connection, data) => {
                if let Some(stream) = self.streams.get(&connection) {
                    self.writer.send(*stream, data).await?;
                }
            }
            Message::End(connection) => {
                if let Some(stream) = self.streams.remove(&connection) {
                    self.writer.finish(stream).await?;
                }
            }
            Message::Error(..) => {}
        }
        Ok(())
    }

    async fn close(&mut self) -> Result<(), Error> {
        for stream in std::mem::take(&mut self.streams).into_values() {
            self.writer.finish(stream).await?;
        }
        Ok(())
    }
}
