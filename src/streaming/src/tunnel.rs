//! Bytes within WebSocket messages: a port-forward's SPDY connection where only WebSocket gets through (KEP-4006).

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use futures_util::{Sink, Stream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{self, Message},
};

use crate::websocket::CHUNK;

/// A WebSocket connection as the bytes that its binary messages carry, one after another.
#[derive(Debug)]
pub struct Tunnel<I> {
    socket: WebSocketStream<I>,
    /// Of a message that was read in part.
    left: Bytes,
}

impl<I> Tunnel<I> {
    /// What is within `socket`.
    pub fn new(socket: WebSocketStream<I>) -> Self {
        Self {
            socket,
            left: Bytes::new(),
        }
    }
}

fn broken(error: tungstenite::Error) -> io::Error {
    match error {
        tungstenite::Error::Io(error) => error,
        tungstenite::Error::ConnectionClosed | tungstenite::Error::AlreadyClosed => io::ErrorKind::BrokenPipe.into(),
        other => io::Error::other(other),
    }
}

impl<I: AsyncRead + AsyncWrite + Unpin> AsyncRead for Tunnel<I> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        while self.left.is_empty() {
            match ready!(Pin::new(&mut self.socket).poll_next(context)) {
                Some(Ok(Message::Binary(bytes))) => self.left = bytes,
                Some(Ok(Message::Text(_))) => {
                    return Poll::Ready(Err(io::Error::new(
                        io::ErrorKind::InvalidData,
                        "a tunnel carries binary messages only",
                    )));
                }
                None | Some(Ok(Message::Close(_)) | Err(tungstenite::Error::ConnectionClosed)) => {
                    return Poll::Ready(Ok(()));
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => return Poll::Ready(Err(broken(error))),
            }
        }
        let taken = self.left.len().min(into.remaining());
        into.put_slice(&self.left[..taken]);
        self.left.advance(taken);
        Poll::Ready(Ok(()))
    }
}

impl<I: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Tunnel<I> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        ready!(Pin::new(&mut self.socket).poll_ready(context)).map_err(broken)?;
        let taken = bytes.len().min(CHUNK);
        let message = Message::Binary(Bytes::copy_from_slice(&bytes[..taken]));
        Pin::new(&mut self.socket).start_send(message).map_err(broken)?;
        Poll::Ready(Ok(taken))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(context).map_err(broken)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match ready!(Pin::new(&mut self.socket).poll_close(context)) {
            Ok(()) | Err(tungstenite::Error::ConnectionClosed) => Poll::Ready(Ok(())),
            Err(error) => Poll::Ready(Err(broken(error))),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;
    use crate::websocket::{self, Side};

    #[tokio::test]
    async fn bytes_come_out_as_they_went_in_and_end_where_they_end() {
        let (near, far) = duplex(1000);
        let mut client = Tunnel::new(websocket::over(near, Side::Client).await);
        let mut server = Tunnel::new(websocket::over(far, Side::Server).await);
        let sent: Vec<u8> = (0..200_000_u32).map(|at| (at % 251) as u8).collect();
        let sending = async {
            client.write_all(&sent).await.unwrap();
            client.flush().await.unwrap();
            client.shutdown().await.unwrap();
        };
        let receiving = async {
            let mut received = Vec::new();
            server.read_to_end(&mut received).await.unwrap();
            received
        };
        let ((), received) = tokio::join!(sending, receiving);
        assert!(received == sent);
    }
}
