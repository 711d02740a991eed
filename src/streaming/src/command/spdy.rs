//! A remote command over SPDY: a stream for each channel.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};

use super::{Channel, MAX_ERROR, Message, Streams};
use crate::{
    Error,
    session::{Sink, Source},
    spdy::{Event, Headers, Reader, StreamId, Writer, frame::CANCEL},
};

/// What the command's side sends.
pub struct CommandSource {
    reader: Reader,
    writer: Writer,
    channels: BTreeMap<StreamId, Channel>,
    /// Of how the command ended: one message, whose receiver need not wait for another.
    ended: BytesMut,
    told: bool,
    over: bool,
    next: Option<Message>,
}

/// What goes to the command's side.
pub struct CommandSink {
    writer: Writer,
    streams: BTreeMap<Channel, StreamId>,
}

/// As a client: opens a stream for each channel and waits until all are accepted.
///
/// The connection's driver must be polled meanwhile.
pub async fn open(mut reader: Reader, writer: Writer, streams: Streams) -> Result<(CommandSource, CommandSink), Error> {
    let mut opened = BTreeMap::new();
    for channel in streams.channels() {
        let headers = Headers::new([("streamtype", channel.name())]);
        opened.insert(channel, writer.open(headers, false).await?);
    }
    let channels = opened.iter().map(|(channel, stream)| (*stream, *channel)).collect();
    let mut waiting: Vec<StreamId> = opened.values().copied().collect();
    while !waiting.is_empty() {
        match reader.next().await? {
            Some(Event::Accepted { stream }) => waiting.retain(|one| *one != stream),
            Some(Event::Reset { .. }) => return Err(Error::Protocol("a stream of the command was refused")),
            // Nothing is sent before all streams are there.
            Some(_) => {}
            None => return Err(Error::Protocol("the other end left before the command began")),
        }
    }
    Ok(session(reader, writer, channels))
}

/// As a server: waits until the client has opened a stream for each channel.
///
/// The connection's driver must be polled meanwhile.
pub async fn accept(
    mut reader: Reader,
    writer: Writer,
    streams: Streams,
) -> Result<(CommandSource, CommandSink), Error> {
    let mut channels = BTreeMap::new();
    while channels.len() < streams.channels().count() {
        match reader.next().await? {
            Some(Event::Opened { stream, headers }) => {
                let channel = headers.get("streamtype").and_then(Channel::named);
                let wanted = channel.filter(|channel| streams.channels().any(|one| one == *channel));
                match wanted {
                    Some(channel) if !channels.values().any(|one| *one == channel) => {
                        channels.insert(stream, channel);
                    }
                    _ => return Err(Error::Protocol("a stream that the command does not have")),
                }
            }
            Some(_) => {}
            None => return Err(Error::Protocol("the other end left before the command began")),
        }
    }
    Ok(session(reader, writer, channels))
}

fn session(reader: Reader, writer: Writer, channels: BTreeMap<StreamId, Channel>) -> (CommandSource, CommandSink) {
    let streams = channels.iter().map(|(stream, channel)| (*channel, *stream)).collect();
    let source = CommandSource {
        reader,
        writer: writer.clone(),
        channels,
        ended: BytesMut::new(),
        told: false,
        over: false,
        next: None,
    };
    (source, CommandSink { writer, streams })
}

impl CommandSource {
    /// How the command ended, once that is known; the session is then over.
    fn end(&mut self) -> Option<Message> {
        if std::mem::replace(&mut self.told, true) {
            return None;
        }
        self.next = Some(Message::End(Channel::Error));
        let said = self.ended.split().freeze();
        if said.is_empty() {
            self.next.take()
        } else {
            self.over = true;
            Some(Message::Data(Channel::Error, said))
        }
    }
}

impl Source<Message> for CommandSource {
    async fn next(&mut self) -> Result<Option<Message>, Error> {
        loop {
            if let Some(message) = self.next.take() {
                return Ok(Some(message));
            }
            // How it ended is said when all else has been.
            if self.over {
                return Ok(None);
            }
            let Some(event) = self.reader.next().await? else {
                return Ok(self.end());
            };
            match event {
                Event::Data { stream, data } => match self.channels.get(&stream) {
                    Some(Channel::Error) => {
                        let room = MAX_ERROR.saturating_sub(self.ended.len());
                        self.ended.extend_from_slice(&data[..data.len().min(room)]);
                    }
                    Some(channel) => return Ok(Some(Message::Data(*channel, data))),
                    None => {}
                },
                Event::Finished { stream } | Event::Reset { stream } => match self.channels.remove(&stream) {
                    Some(Channel::Error) => {
                        if let Some(message) = self.end() {
                            return Ok(Some(message));
                        }
                    }
                    Some(channel) => return Ok(Some(Message::End(channel))),
                    None => {}
                },
                Event::Opened { stream, .. } => self.writer.reset(stream, CANCEL).await?,
                Event::Accepted { .. } => {}
            }
        }
    }
}

impl Sink<Message> for CommandSink {
    async fn send(&mut self, message: Message) -> Result<(), Error> {
        match message {
            Message::Data(channel, data) => {
                if let Some(stream) = self.streams.get(&channel) {
                    self.writer.send(*stream, data).await?;
                }
            }
            Message::End(channel) => {
                if let Some(stream) = self.streams.remove(&channel) {
                    self.writer.finish(stream).await?;
                }
            }
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

impl CommandSink {
    /// Whether anything may still be sent on a channel.
    pub fn is_open(&self, channel: Channel) -> bool {
        self.streams.contains_key(&channel)
    }
}

/// A message with these bytes.
pub fn data(channel: Channel, bytes: impl Into<Bytes>) -> Message {
    Message::Data(channel, bytes.into())
}
