//! Container runtimes, behind one trait.
//!
//! [`Runtime`] is what the node agent needs of a runtime, and nothing else: CRI's calls with typed ids, typed
//! errors and a deadline on each, image import, and [`RuntimeEvent`]s pushed as they happen.
//!
//! ```text
//!             Arc<dyn Runtime>
//!              │           │
//!         CriClient    FakeRuntime            the same behaviour: tests/contract holds both to it
//!         │   │    │       │
//!     client  │  images    │                  CRI's calls; content + image services of containerd
//!             │            │
//!           events ◀───────┘                  one stream in, an mpsc per subscriber out
//!
//!     Managed: a containerd of our own, for a CriClient to talk to
//! ```
//!
//! Long-lived tasks, all of them:
//! - `events`: one a runtime, from the first [`Runtime::subscribe`] until the last receiver is dropped. Keeps the
//!   stream open, hands each event to every subscriber's queue without ever waiting for one.
//! - [`managed`]: one a [`Managed`], waits on containerd's pidfd and starts it again; tells how it fares by a watch
//!   channel. Ends with the `Managed`, which does not end containerd.
//!
//! Pure: `client::status` (errors), `events::fan_out` (queues) and `events::native`'s translation, `images::layout`
//! and `images::name` (archives, read only), `managed::config` (containerd's configuration), [`mounts`]' parser,
//! `fake::world`.

pub mod archive;
pub mod client;
mod events;
pub mod fake;
mod images;
pub mod managed;
pub mod mounts;
mod native;
pub mod runtime;
pub mod sandbox_image;
mod task;

pub use bosun_proto::cri as v1;
pub use client::{CriClient, EndpointError};
pub use fake::FakeRuntime;
pub use managed::{Managed, ManagedConfig};
pub use runtime::{Error, ErrorKind, ExecOutput, Runtime, RuntimeEvent, RuntimeInfo, Terminal};
