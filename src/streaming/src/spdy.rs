//! SPDY/3.1, as far as it is spoken between the parts of a cluster: streams that either side opens, data on them, their
//! ends and resets, pings.
//!
//! [`connect`] makes three halves of a connection: a [`Reader`] of events in the order in which they come, a [`Writer`],
//! and the [`Driver`], which carries out what was written while it is polled: see [`Driver::during`].
//!
//! Flow control is TCP's: the implementation that all others talk to (moby/spdystream) neither sends window updates nor
//! heeds them, and neither do we. So a reader that stands still holds up all streams of its connection, and one that is
//! read event by event, as here, needs no more memory than one chunk of data.

mod connection;
pub mod frame;
pub mod headers;

pub use connection::{Driver, Event, Reader, Role, Writer, connect};
pub use frame::StreamId;
pub use headers::Headers;

/// A breach of the protocol: the connection can't go on.
#[derive(Debug, thiserror::Error)]
pub enum SpdyError {
    /// Another version than 3.
    #[error("a frame of version {0}, where 3 is spoken")]
    Version(u16),
    /// A frame whose length can't be right.
    #[error("a frame of kind {kind} with {length} bytes")]
    Length {
        /// As on the wire.
        kind: u16,
        /// In bytes.
        length: usize,
    },
    /// A block of headers that is none, or too large.
    #[error("a block of headers that {0}")]
    Headers(&'static str),
    /// The connection failed.
    #[error("the connection broke")]
    Io(#[from] std::io::Error),
}
