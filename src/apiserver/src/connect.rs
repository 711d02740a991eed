//! What is answered elsewhere: by nodes (logs, commands, ports), and by pods, services and nodes themselves (`proxy`).
//!
//! ```text
//!  request ─▶ place (whom it concerns, where that is) ─▶ Dialer ─▶ rewrite (headers, Location) ─▶ answer, as it comes
//!                                                          │
//!                                                          └────▶ upgrade ─▶ session, in a task of its own
//! ```
//!
//! Pure: [`place`], [`rewrite`]. `http::connect` puts them together with the request.

mod dial;
pub mod place;
pub mod rewrite;

use std::{io, pin::Pin};

use async_trait::async_trait;
use tokio::io::{AsyncRead, AsyncWrite};

pub use self::dial::ClusterDialer;
use self::place::Endpoint;

/// A connection to somebody, whatever it is made of.
pub trait Connection: AsyncRead + AsyncWrite + Send {}

impl<T: AsyncRead + AsyncWrite + Send> Connection for T {}

/// A connection on the heap.
pub type BoxConnection = Pin<Box<dyn Connection>>;

/// Makes connections to nodes, pods and services.
#[async_trait]
pub trait Dialer: Send + Sync {
    /// Connects, with TLS if the endpoint speaks it. Has a deadline of its own.
    async fn dial(&self, to: &Endpoint) -> io::Result<BoxConnection>;
}
