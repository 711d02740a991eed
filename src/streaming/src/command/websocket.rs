//! A remote command over WebSocket: a message is a channel's number and bytes.

use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::WebSocketStream;

use super::{Channel, Message, Streams};
use crate::{
    Error,
    session::{Sink, Source},
    status::Ended,
    websocket::{ChannelReader, ChannelWriter, Form, halves},
};

/// In version 5, a message on this channel says that nothing more comes on the channel it names.
const CLOSE: u8 = 255;

/// The protocols, as the header `Sec-WebSocket-Protocol` has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Protocol {
    form: Form,
    version: u8,
}

/// Their names, the newest first.
pub const PROTOCOLS: [&str; 6] = [
    "v5.channel.k8s.io",
    "v4.channel.k8s.io",
    "v4.base64.channel.k8s.io",
    "channel.k8s.io",
    "base64.channel.k8s.io",
    "",
];

impl Protocol {
    /// The protocol of this name.
    pub fn named(name: &str) -> Option<Self> {
        let (form, version) = match name {
            "v5.channel.k8s.io" => (Form::Binary, 5),
            "v4.channel.k8s.io" => (Form::Binary, 4),
            "v4.base64.channel.k8s.io" => (Form::Base64, 4),
            "channel.k8s.io" | "" => (Form::Binary, 1),
            "base64.channel.k8s.io" => (Form::Base64, 1),
            _ => return None,
        };
        Some(Self { form, version })
    }
}

/// What a client sends.
pub struct ClientSource<I> {
    reader: ChannelReader<I>,
    protocol: Protocol,
    streams: Streams,
}

/// What goes to a client.
pub struct ClientSink<I> {
    writer: ChannelWriter<I>,
    protocol: Protocol,
    streams: Streams,
}

/// Talks to a client as the server of the command; tells it that the session stands.
pub async fn serve<I>(
    socket: WebSocketStream<I>,
    protocol: Protocol,
    streams: Streams,
) -> Result<(ClientSource<I>, ClientSink<I>), Error>
where
    I: AsyncRead + AsyncWrite + Unpin + Send,
{
    let (reader, mut writer) = halves(socket, protocol.form);
    // Nothing, on the first channel that there is: what upstream sends for clients that wait for it.
    let first = [Channel::Stdout, Channel::Stderr]
        .into_iter()
        .find(|channel| streams.channels().any(|one| one == *channel));
    writer.send(first.unwrap_or(Channel::Error) as u8, &[]).await?;
    let source = ClientSource {
        reader,
        protocol,
        streams,
    };
    let sink = ClientSink {
        writer,
        protocol,
        streams,
    };
    Ok((source, sink))
}

impl<I: AsyncRead + AsyncWrite + Unpin + Send> Source<Message> for ClientSource<I> {
    async fn next(&mut self) -> Result<Option<Message>, Error> {
        while let Some((number, data)) = self.reader.next().await? {
            if number == CLOSE && self.protocol.version >= 5 {
                match data.first().copied().and_then(Channel::of) {
                    Some(channel) => return Ok(Some(Message::End(channel))),
                    None => return Err(Error::Protocol("the end of a channel that there is not")),
                }
            }
            match Channel::of(number) {
                Some(channel @ (Channel::Stdin | Channel::Resize)) => {
                    // A message for a channel that was not asked for is dropped, and so is one that says nothing.
                    if !data.is_empty() && self.streams.channels().any(|one| one == channel) {
                        return Ok(Some(Message::Data(channel, data)));
                    }
                }
                _ => return Err(Error::Protocol("a message on a channel that is not the client's")),
            }
        }
        Ok(None)
    }
}

impl<I: AsyncRead + AsyncWrite + Unpin + Send> Sink<Message> for ClientSink<I> {
    async fn send(&mut self, message: Message) -> Result<(), Error> {
        match message {
            // Before version 4 how it ended is told in words, and not at all if it ended well.
            Message::Data(Channel::Error, said) if self.protocol.version < 4 => {
                let text = Ended::parse(&said).to_text();
                if text.is_empty() {
                    return Ok(());
                }
                self.writer.send(Channel::Error as u8, text.as_bytes()).await
            }
            Message::Data(channel, data) => {
                if !self.streams.channels().any(|one| one == channel) {
                    return Ok(());
                }
                self.writer.send(channel as u8, &data).await
            }
            // Clients take only the end of the whole.
            Message::End(_) => Ok(()),
        }
    }

    async fn close(&mut self) -> Result<(), Error> {
        self.writer.close().await
    }
}

/// What a server sends, for a client.
pub struct ServerSource<I> {
    reader: ChannelReader<I>,
}

/// What goes to a server.
pub struct ServerSink<I> {
    writer: ChannelWriter<I>,
    protocol: Protocol,
}

/// Talks to a server as a client.
pub fn connect<I>(socket: WebSocketStream<I>, protocol: Protocol) -> (ServerSource<I>, ServerSink<I>)
where
    I: AsyncRead + AsyncWrite + Unpin + Send,
{
    let (reader, writer) = halves(socket, protocol.form);
    (ServerSource { reader }, ServerSink { writer, protocol })
}

impl<I: AsyncRead + AsyncWrite + Unpin + Send> Source<Message> for ServerSource<I> {
    async fn next(&mut self) -> Result<Option<Message>, Error> {
        while let Some((number, data)) = self.reader.next().await? {
            match Channel::of(number) {
                Some(Channel::Stdin | Channel::Resize) | None => {
                    return Err(Error::Protocol("a message on a channel that is not the server's"));
                }
                Some(_) if data.is_empty() => {}
                Some(channel) => return Ok(Some(Message::Data(channel, data))),
            }
        }
        Ok(None)
    }
}

impl<I: AsyncRead + AsyncWrite + Unpin + Send> Sink<Message> for ServerSink<I> {
    async fn send(&mut self, message: Message) -> Result<(), Error> {
        match message {
            Message::Data(channel, data) => self.writer.send(channel as u8, &data).await,
            Message::End(channel) if self.protocol.version >= 5 => self.writer.send(CLOSE, &[channel as u8]).await,
            Message::End(_) => Ok(()),
        }
    }

    async fn close(&mut self) -> Result<(), Error> {
        self.writer.close().await
    }
}
