//! The room's own way to start background work: every task says when it ends.

use std::future::Future;

/// Starts `work`, which knows itself when nobody needs it any more. Must be called within a tokio runtime.
#[expect(clippy::disallowed_methods, reason = "the room's one place that starts tasks")]
pub(crate) fn spawn_detached(work: impl Future<Output = ()> + Send + 'static) {
    drop(tokio::spawn(work));
}
