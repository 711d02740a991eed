//! The room's own way to start background work on tokio: a task that knows itself when nobody needs it any more.

use std::future::Future;

/// Starts `work`. Must be called within a tokio runtime.
#[expect(clippy::disallowed_methods, reason = "the room's one place that starts tasks")]
pub(crate) fn spawn(work: impl Future<Output = ()> + Send + 'static) {
    drop(tokio::spawn(work));
}
