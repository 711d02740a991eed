//! Asking a server for an upgraded connection.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode, response::Parts};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::{body::Incoming, client::conn::http1, upgrade::Upgraded};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::timeout,
};

/// A server answers within this time.
pub const ANSWER: Duration = Duration::from_secs(30);
/// The words of a server that refuses are no longer than this, in bytes.
pub const MAX_REFUSAL: usize = 64 << 10;

/// A connection that speaks another protocol than HTTP by now.
pub type Connection = TokioIo<Upgraded>;

/// What a server says to a request for an upgrade.
#[derive(Debug)]
pub enum Dialed {
    /// It agrees.
    Upgraded(Connection, Parts),
    /// It answers something else.
    Refused(Response<Bytes>),
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// HTTP broke.
    #[error("asking for an upgrade")]
    Http(#[from] hyper::Error),
    /// It took too long.
    #[error("no answer to a request for an upgrade within {} s", ANSWER.as_secs())]
    Timeout,
    /// It refuses at great length.
    #[error("the answer to a request for an upgrade can't be read: {0}")]
    Answer(String),
}

/// Sends `request` over a new connection to a server.
pub async fn dial<I>(io: I, request: Request<()>) -> Result<Dialed, DialError>
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let asked = async {
        let (mut sender, connection) = http1::handshake(TokioIo::new(io)).await?;
        let mut connection = std::pin::pin!(connection.with_upgrades());
        let asking = async {
            let response = sender.send_request(request.map(|()| Empty::<Bytes>::new())).await?;
            answer(response).await
        };
        let mut asking = std::pin::pin!(asking);
        // The connection moves only while it is polled; at its end the answer may still be on its way.
        tokio::select! {
            dialed = &mut asking => return dialed,
            ended = &mut connection => ended?,
        }
        asking.await
    };
    timeout(ANSWER, asked).await.map_err(|_| DialError::Timeout)?
}

async fn answer(mut response: Response<Incoming>) -> Result<Dialed, DialError> {
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        let upgraded = hyper::upgrade::on(&mut response).await?;
        return Ok(Dialed::Upgraded(TokioIo::new(upgraded), response.into_parts().0));
    }
    let (parts, body) = response.into_parts();
    let read = Limited::new(body, MAX_REFUSAL).collect().await;
    let body = read.map_err(|error| DialError::Answer(error.to_string()))?.to_bytes();
    Ok(Dialed::Refused(Response::from_parts(parts, body)))
}
