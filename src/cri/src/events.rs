//! [`RuntimeEvent`]s of a real runtime, pushed: one stream from the runtime, shared by all subscribers.
//!
//! ```text
//! runtime ──stream──▶ native | kubernetes ──▶ FanOut ──mpsc──▶ each subscriber
//!                        (one task)             └─ settle timer: more Resyncs after each
//! ```
//!
//! The source is containerd's own event service, else CRI's `GetContainerEvents`, else (a runtime that has neither,
//! or has it switched off) a `Resync` every second. Which one is found out each time the stream is opened.
//!
//! The task runs from the first subscription until the last receiver is dropped.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{Notify, mpsc},
    time::Instant,
};
use tonic::{Code, Status, transport::Channel};
use tracing::{debug, info, warn};

use crate::{RuntimeEvent, task};

mod fan_out;
mod kubernetes;
mod native;

pub(crate) use fan_out::FanOut;

/// How long to wait before the stream is opened again: the first time, and at most.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));

/// Between two `Resync`s where the runtime pushes nothing: what the kubelet's generic relist takes.
const RELIST_PERIOD: Duration = Duration::from_secs(1);

/// How long to relist before asking again whether the runtime pushes events.
const RELIST_FOR: Duration = Duration::from_mins(1);

/// Why a stream is no more.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error("{}", .0.message())]
    Failed(Status),
    #[error("the runtime ended the stream")]
    Ended,
    #[error("the runtime did not begin the stream in time")]
    NeverStood,
}

impl From<Status> for Broken {
    fn from(status: Status) -> Self {
        Self::Failed(status)
    }
}

impl Broken {
    fn is_unimplemented(&self) -> bool {
        matches!(self, Self::Failed(status) if status.code() == Code::Unimplemented)
    }
}

/// The subscribers of one runtime's events, whatever the source.
#[derive(Debug, Default)]
pub(crate) struct Hub {
    state: Mutex<State>,
    /// The time of the next settling `Resync` may have changed.
    settle_changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    fan_out: FanOut,
    running: bool,
}

impl Hub {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing under the lock leaves the state half-changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the subscribers' queues; never waits for any of them.
    pub(crate) fn with<R>(&self, change: impl FnOnce(&mut FanOut, Instant) -> R) -> R {
        let result = change(&mut self.lock().fan_out, Instant::now());
        self.settle_changed.notify_one();
        result
    }

    /// One more subscriber. `source` feeds the hub while there is any, and is dropped with the last; it is not used
    /// when another one runs already. Must be called within a tokio runtime.
    pub(crate) fn subscribe(
        self: &Arc<Self>,
        source: impl Future<Output = Infallible> + Send + 'static,
    ) -> mpsc::Receiver<RuntimeEvent> {
        let mut state = self.lock();
        let rx = state.fan_out.add(Instant::now());
        let running = std::mem::replace(&mut state.running, true);
        drop(state);
        self.settle_changed.notify_one();
        if !running {
            let guard = Guard(self.clone());
            task::spawn_detached(async move {
                let hub = &guard.0;
                tokio::select! {
                    never = source => match never {},
                    never = hub.settle() => match never {},
                    () = hub.abandoned() => {}
                }
            });
        }
        rx
    }

    /// Ends when no receiver is left; the source is then no longer running.
    async fn abandoned(&self) {
        loop {
            let next = {
                let mut state = self.lock();
                let next = state.fan_out.any_open();
                state.running = next.is_some();
                next
            };
            match next {
                Some(tx) => tx.closed().await,
                None => return,
            }
        }
    }

    /// Sends each `Resync` that is due to follow an earlier one.
    async fn settle(&self) -> Infallible {
        loop {
            let due = self.lock().fan_out.next_due();
            let changed = self.settle_changed.notified();
            match due {
                None => changed.await,
                Some(at) => tokio::select! {
                    () = changed => {}
                    () = tokio::time::sleep_until(at) => self.lock().fan_out.settle(Instant::now()),
                },
            }
        }
    }
}

/// Held by the task that feeds a hub. Should that panic, the receivers end rather than wait for ever.
struct Guard(Arc<Hub>);

impl Drop for Guard {
    fn drop(&mut self) {
        if std::thread::panicking() {
            *self.0.lock() = State::default();
        }
    }
}

/// Keeps one stream open and passes on what it carries.
pub(crate) async fn follow(channel: Channel, hub: Arc<Hub>) -> Infallible {
    let mut wait = BACK_OFF.0;
    loop {
        let mut broken = native::follow(channel.clone(), &hub).await;
        if broken.is_unimplemented() {
            debug!("the runtime has no event service of containerd's, using CRI's");
            broken = kubernetes::follow(channel.clone(), &hub).await;
        }
        if broken.is_unimplemented() {
            warn!("the runtime pushes no events (CRI-O: enable_pod_events); listing every second instead");
            relist(&hub).await;
        }
        let stood = hub.with(|fan_out, _| fan_out.broken());
        if stood {
            info!(reason = %broken, "the runtime's event stream broke, opening it again");
            wait = BACK_OFF.0;
        } else {
            debug!(reason = %broken, "the runtime's event stream can't be opened yet");
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(BACK_OFF.1);
    }
}

/// In place of a stream: everything is listed again and again.
async fn relist(hub: &Hub) {
    let until = Instant::now() + RELIST_FOR;
    while Instant::now() < until {
        hub.with(FanOut::stands);
        tokio::time::sleep(RELIST_PERIOD).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn when_the_source_panics_the_receivers_end_and_a_new_one_is_fed_again() {
        let hub = Arc::new(Hub::default());
        let mut rx = hub.subscribe(async { panic!("by order of the test") });
        assert_eq!(rx.recv().await, None);
        let again = hub.clone();
        let mut rx = hub.subscribe(async move {
            again.with(FanOut::stands);
            std::future::pending().await
        });
        assert_eq!(rx.recv().await, Some(RuntimeEvent::Resync));
    }

    #[tokio::test]
    async fn the_source_is_dropped_with_the_last_receiver() {
        let hub = Arc::new(Hub::default());
        let (held, mut dropped) = mpsc::channel::<()>(1);
        let rx = hub.subscribe(async move {
            let _held = held;
            std::future::pending().await
        });
        let second = hub.subscribe(std::future::pending());
        drop(rx);
        tokio::task::yield_now().await;
        assert!(
            matches!(dropped.try_recv(), Err(mpsc::error::TryRecvError::Empty)),
            "one is left"
        );
        drop(second);
        assert_eq!(dropped.recv().await, None);
    }
}
