//! Container runtimes, behind one trait.
//!
//! [`Runtime`] is what the node agent needs of a runtime, and nothing else: CRI's calls with typed ids, typed
//! errors and a deadline on each, image import, and [`RuntimeEvent`]s pushed as they happen.

pub mod archive;
pub mod client;
mod events;
pub mod fake;
mod images;
pub mod managed;
mod native;
pub mod runtime;
pub mod sandbox_image;
mod task;

pub use bosun_proto::cri as v1;
pub use client::{CriClient, EndpointError};
pub use fake::FakeRuntime;
pub use managed::{Managed, ManagedConfig};
pub use runtime::{Error, ErrorKind, ExecOutput, Runtime, RuntimeEvent, RuntimeInfo};
