//! The room's own way to start background work on tokio: a task ends with its handle, or knows itself when nobody needs
//! it any more.

use std::future::Future;

use tokio::task::JoinHandle;

/// A running background task, aborted when this is dropped.
#[derive(Debug)]
pub(crate) struct Task(JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Starts `work`, which ends with the returned handle. Must be called within a tokio runtime.
pub(crate) fn spawn(work: impl Future<Output = ()> + Send + 'static) -> Task {
    Task(start(work))
}

/// Starts `work`, which knows itself when nobody needs it any more. Must be called within a tokio runtime.
pub(crate) fn spawn_detached(work: impl Future<Output = ()> + Send + 'static) {
    drop(start(work));
}

#[expect(clippy::disallowed_methods, reason = "the room's one place that starts tasks")]
fn start(work: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
    tokio::spawn(work)
}
