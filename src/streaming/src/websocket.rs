//! WebSocket connections, once they stand: their limits, and messages in either form of the channel protocols.

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::{BufMut, Bytes, BytesMut};
use futures_util::{
    SinkExt, StreamExt,
    stream::{SplitSink, SplitStream},
};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{self, Message, handshake::derive_accept_key, protocol::WebSocketConfig},
};

/// Which end of a connection this is: clients mask what they send.
pub use tokio_tungstenite::tungstenite::protocol::Role as Side;

use crate::Error;

/// Messages and frames are no longer than this, in bytes: kubectl sends 32 KiB at a time, others somewhat more.
pub const MAX_MESSAGE: usize = 1 << 20;

/// How much is sent in one message at most.
pub const CHUNK: usize = 32 << 10;

/// An upgraded connection as a WebSocket.
pub async fn over<I>(io: I, side: Side) -> WebSocketStream<I>
where
    I: AsyncRead + AsyncWrite + Unpin,
{
    let config = WebSocketConfig::default()
        .read_buffer_size(CHUNK)
        .write_buffer_size(0)
        .max_write_buffer_size(4 * MAX_MESSAGE)
        .max_message_size(Some(MAX_MESSAGE))
        .max_frame_size(Some(MAX_MESSAGE));
    WebSocketStream::from_raw_socket(io, side, Some(config)).await
}

/// The answer that agrees to a WebSocket; `None` if the request is none that can be agreed to.
pub fn agree(headers: &HeaderMap, protocol: &str) -> Option<Response<()>> {
    let key = headers.get(header::SEC_WEBSOCKET_KEY)?;
    if headers.get(header::SEC_WEBSOCKET_VERSION)? != "13" {
        return None;
    }
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let answer = response.headers_mut();
    answer.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    answer.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    let accept = derive_accept_key(key.as_bytes());
    answer.insert(header::SEC_WEBSOCKET_ACCEPT, accept.parse().ok()?);
    if !protocol.is_empty() {
        answer.insert(header::SEC_WEBSOCKET_PROTOCOL, protocol.parse().ok()?);
    }
    Some(response)
}

/// Makes a request ask for a WebSocket that speaks one of `protocols`.
pub fn ask<B>(request: &mut Request<B>, protocols: &[&str]) {
    let headers = request.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
    let key = tungstenite::handshake::client::generate_key();
    if let Ok(key) = key.parse() {
        headers.insert(header::SEC_WEBSOCKET_KEY, key);
    }
    if let Ok(protocols) = protocols.join(", ").parse() {
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, protocols);
    }
}

/// How a channel's number and its bytes are put into a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A byte, and the bytes.
    Binary,
    /// A digit, and the bytes in base64: for browsers of old.
    Base64,
}

impl Form {
    /// A message.
    pub fn message(self, channel: u8, data: &[u8]) -> Message {
        match self {
            Self::Binary => {
                let mut bytes = BytesMut::with_capacity(data.len() + 1);
                bytes.put_u8(channel);
                bytes.put_slice(data);
                Message::Binary(bytes.freeze())
            }
            Self::Base64 => {
                let mut text = String::with_capacity(data.len() * 4 / 3 + 5);
                text.push(char::from(b'0' + channel));
                STANDARD.encode_string(data, &mut text);
                Message::Text(text.into())
            }
        }
    }

    /// A message's channel and bytes; `None` for one that has neither.
    pub fn parse(self, message: Message) -> Result<Option<(u8, Bytes)>, Error> {
        let mut bytes = match message {
            Message::Binary(bytes) => bytes,
            Message::Text(text) => text.into(),
            _ => return Ok(None),
        };
        if bytes.is_empty() {
            return Ok(None);
        }
        let channel = bytes.split_to(1)[0];
        match self {
            Self::Binary => Ok(Some((channel, bytes))),
            Self::Base64 => {
                let data = STANDARD.decode(&bytes);
                let data = data.map_err(|_| Error::Protocol("a message is not in base64"))?;
                Ok(Some((channel.wrapping_sub(b'0'), data.into())))
            }
        }
    }
}

/// Reads messages of channels.
pub(crate) struct ChannelReader<I> {
    pub(crate) stream: SplitStream<WebSocketStream<I>>,
    pub(crate) form: Form,
}

impl<I: AsyncRead + AsyncWrite + Unpin + Send> ChannelReader<I> {
    /// The next message; `None` once the other end has said goodbye.
    pub(crate) async fn next(&mut self) -> Result<Option<(u8, Bytes)>, Error> {
        while let Some(message) = self.stream.next().await {
            match message {
                Ok(Message::Close(_)) | Err(tungstenite::Error::ConnectionClosed) => return Ok(None),
                Ok(message) => {
                    if let Some(parsed) = self.form.parse(message)? {
                        return Ok(Some(parsed));
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(None)
    }
}

/// Writes messages of channels.
pub(crate) struct ChannelWriter<I> {
    pub(crate) sink: SplitSink<WebSocketStream<I>, Message>,
    pub(crate) form: Form,
}

impl<I: AsyncRead + AsyncWrite + Unpin + Send> ChannelWriter<I> {
    pub(crate) async fn send(&mut self, channel: u8, data: &[u8]) -> Result<(), Error> {
        Ok(self.sink.send(self.form.message(channel, data)).await?)
    }

    pub(crate) async fn close(&mut self) -> Result<(), Error> {
        let close = tungstenite::protocol::CloseFrame {
            code: tungstenite::protocol::frame::coding::CloseCode::Normal,
            reason: "".into(),
        };
        self.sink.send(Message::Close(Some(close))).await?;
        Ok(self.sink.close().await?)
    }
}

/// Both halves of a connection that stands.
pub(crate) fn halves<I>(socket: WebSocketStream<I>, form: Form) -> (ChannelReader<I>, ChannelWriter<I>)
where
    I: AsyncRead + AsyncWrite + Unpin,
{
    let (sink, stream) = socket.split();
    (ChannelReader { stream, form }, ChannelWriter { sink, form })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn channels_are_a_byte_or_a_digit() {
        assert_eq!(
            Form::Binary.message(1, b"out"),
            Message::Binary(Bytes::from_static(b"\x01out"))
        );
        assert_eq!(Form::Base64.message(3, b"err"), Message::Text("3ZXJy".into()));
        assert!(Form::Base64.parse(Message::Text("0?".into())).is_err());
        assert_eq!(Form::Binary.parse(Message::Ping(Bytes::new())).unwrap(), None);
        // Browsers may send text where bytes are meant.
        assert_eq!(
            Form::Binary.parse(Message::Text("\0hi".into())).unwrap(),
            Some((0, "hi".into()))
        );
    }

    #[test]
    fn a_handshake_is_agreed_to_in_the_standards_way() {
        // The example of RFC 6455, section 1.3.
        let mut headers = HeaderMap::new();
        headers.insert(
            header::SEC_WEBSOCKET_KEY,
            HeaderValue::from_static("dGhlIHNhbXBsZSBub25jZQ=="),
        );
        assert!(agree(&headers, "").is_none(), "the version is missing");
        headers.insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        let answer = agree(&headers, "v5.channel.k8s.io").unwrap();
        assert_eq!(answer.status(), StatusCode::SWITCHING_PROTOCOLS);
        assert_eq!(
            answer.headers()[header::SEC_WEBSOCKET_ACCEPT],
            "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        );
        assert_eq!(answer.headers()[header::SEC_WEBSOCKET_PROTOCOL], "v5.channel.k8s.io");
    }

    proptest! {
        #[test]
        fn what_is_sent_is_received(channel in 0..10_u8, data in proptest::collection::vec(any::<u8>(), 0..100)) {
            for form in [Form::Binary, Form::Base64] {
                let parsed = form.parse(form.message(channel, &data)).unwrap();
                prop_assert_eq!(parsed, Some((channel, Bytes::from(data.clone()))));
            }
        }

        #[test]
        fn any_message_is_read_without_a_panic(text in "\\PC{0,30}", data in proptest::collection::vec(any::<u8>(), 0..30)) {
            for form in [Form::Binary, Form::Base64] {
                let _ = form.parse(Message::Text(text.clone().into()));
                let _ = form.parse(Message::Binary(data.clone().into()));
            }
        }
    }
}
