//! exec, attach and port-forward: SPDY/3.1, the channel protocols over WebSocket, and translation between them.
//!
//! ```text
//!   client                              here                                runtime's streaming server
//!  WebSocket v5, v4, … ─▶ command::websocket ─Message─▶ relay ─Message─▶ command::spdy ─▶ SPDY/3.1
//!  WebSocket, channels ─▶ forward::websocket ─Message─▶ relay ─Message─▶ forward::spdy ─▶ SPDY/3.1
//!  WebSocket, tunnel   ─▶ tunnel ─────────── bytes ─── copy ──────────────────────────▶ SPDY/3.1
//!  SPDY/3.1 ──────────────────────────────── bytes ─── copy ──────────────────────────▶ SPDY/3.1
//! ```
//!
//! A remote command is five channels of bytes, a port-forward two for each connection. Each end of a session is a
//! [`session::Source`] and a [`session::Sink`] of messages on them; [`session::relay`] passes messages on in both
//! directions, one at a time in each, so that who is slow slows the other down and nothing piles up in between. A
//! session ends with either of its ends, or when nothing has passed for [`session::IDLE`].
//!
//! [`translate`] is what a server on the way needs: from a client's request to the session between both upgraded
//! connections. The agent uses it towards the container runtime, the API server towards agents.
//!
//! Pure: [`spdy::frame`] and [`spdy::headers`] (the wire), [`protocol`] (what is spoken), [`status`] (how a command
//! ended). There are no tasks: whoever relays polls all of it, and dropping that future frees everything.

pub mod command;
pub mod forward;
pub mod protocol;
pub mod session;
pub mod spdy;
pub mod status;
pub mod translate;
pub mod tunnel;
pub mod upgrade;
pub mod websocket;

/// What breaks a session.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The connection failed.
    #[error("the connection broke")]
    Io(#[from] std::io::Error),
    /// The other end speaks SPDY, but wrongly.
    #[error("the other end does not keep to SPDY")]
    Spdy(#[from] spdy::SpdyError),
    /// The other end does not keep to WebSocket, or left without a word.
    #[error("the WebSocket connection broke")]
    WebSocket(#[source] Box<tokio_tungstenite::tungstenite::Error>),
    /// The other end does not keep to the protocol spoken within.
    #[error("{0}")]
    Protocol(&'static str),
    /// Nothing has passed for too long.
    #[error("nothing has passed for {} s", .0.as_secs())]
    Idle(std::time::Duration),
}

impl From<tokio_tungstenite::tungstenite::Error> for Error {
    fn from(error: tokio_tungstenite::tungstenite::Error) -> Self {
        Self::WebSocket(Box::new(error))
    }
}
