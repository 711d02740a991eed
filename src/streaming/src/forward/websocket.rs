//! A port-forward over WebSocket channels, as it was before tunnels: two channels for each port, data and errors, on each
//! of which the port is told first.

use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::WebSocketStream;

use super::Message;
use crate::{
    Error,
    session::{Sink, Source},
    websocket::{ChannelReader, ChannelWriter, Form, halves},
};

/// The protocols, as the header `Sec-WebSocket-Protocol` has them.
pub const PROTOCOLS: [&str; 3] = ["v4.channel.k8s.io", "v4.base64.channel.k8s.io", ""];

/// The form of a protocol's messages.
pub fn form(protocol: &str) -> Form {
    match protocol {
        "v4.base64.channel.k8s.io" => Form::Base64,
        _ => Form::Binary,
    }
}

/// What a client sends.
pub struct ClientSource<I> {
    reader: ChannelReader<I>,
    ports: usize,
}

/// What goes to a client.
pub struct ClientSink<I> {
    writer: ChannelWriter<I>,
}

/// Talks to a client as the server of the ports.
pub async fn serve<I>(
    socket: WebSocketStream<I>,
    form: Form,
    ports: &[u16],
) -> Result<(ClientSource<I>, ClientSink<I>), Error>
where
    I: AsyncRead + AsyncWrite + Unpin + Send,
{
    let (reader, mut writer) = halves(socket, form);
    for (connection, port) in ports.iter().enumerate() {
        for part in 0..2 {
            writer.send((2 * connection + part) as u8, &port.to_le_bytes()).await?;
        }
    }
    let source = ClientSource {
        reader,
        ports: ports.len(),
    };
    Ok((source, ClientSink { writer }))
}

impl<I: AsyncRead + AsyncWrite + Unpin + Send> Source<Message> for ClientSource<I> {
    async fn next(&mut self) -> Result<Option<Message>, Error> {
        while let Some((channel, data)) = self.reader.next().await? {
            let connection = usize::from(channel / 2);
            if channel % 2 == 1 || connection >= self.ports {
                return Err(Error::Protocol("a message on a channel that is not the client's"));
            }
            if !data.is_empty() {
                return Ok(Some(Message::Data(connection, data)));
            }
        }
        Ok(None)
    }
}

impl<I: AsyncRead + AsyncWrite + Unpin + Send> Sink<Message> for ClientSink<I> {
    async fn send(&mut self, message: Message) -> Result<(), Error> {
        match message {
            Message::Data(connection, data) => self.writer.send((2 * connection) as u8, &data).await,
            Message::Error(connection, data) => self.writer.send((2 * connection + 1) as u8, &data).await,
            Message::End(_) => Ok(()),
        }
    }

    async fn close(&mut self) -> Result<(), Error> {
        self.writer.close().await
    }
}
