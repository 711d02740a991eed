//! Which worker an event of the runtime is for.

use std::collections::{HashMap, VecDeque};

use bosun_cri::RuntimeEvent;
use parking_lot::Mutex;
use tokio::sync::mpsc;

use crate::pod::worker::Message;

/// Events that came before their container's or sandbox's owner did: a process can end before the call that
/// started it returns.
const UNCLAIMED: usize = 256;

/// Containers and sandboxes by id, each with the worker of its pod.
#[derive(Debug, Default)]
pub struct Routes {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    owners: HashMap<String, mpsc::UnboundedSender<Message>>,
    unclaimed: VecDeque<(String, RuntimeEvent)>,
}

impl Routes {
    /// From now on events of `id` go to this worker; those that came already go there now.
    pub fn claim(&self, id: &str, worker: &mpsc::UnboundedSender<Message>) {
        let mut inner = self.inner.lock();
        inner.owners.insert(id.to_owned(), worker.clone());
        let (early, rest) = inner.unclaimed.drain(..).partition(|(of, _)| of == id);
        inner.unclaimed = rest;
        let early: VecDeque<_> = early;
        for (_, event) in early {
            // A worker that has ended needs no events.
            let _ = worker.send(Message::Runtime(event));
        }
    }

    /// Takes an event to its worker, or keeps it for the one that claims it later.
    pub fn deliver(&self, id: &str, event: RuntimeEvent) {
        let mut inner = self.inner.lock();
        let removed = matches!(event, RuntimeEvent::Removed { .. });
        match inner.owners.get(id) {
            Some(worker) => {
                let _ = worker.send(Message::Runtime(event));
                if removed {
                    inner.owners.remove(id);
                }
            }
            None if removed => {}
            None => {
                if inner.unclaimed.len() == UNCLAIMED {
                    inner.unclaimed.pop_front();
                }
                inner.unclaimed.push_back((id.to_owned(), event));
            }
        }
    }

    /// Forgets all that a worker owned.
    pub fn release(&self, worker: &mpsc::UnboundedSender<Message>) {
        self.inner.lock().owners.retain(|_, owner| !owner.same_channel(worker));
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    fn exit(id: &str) -> RuntimeEvent {
        RuntimeEvent::Exited {
            id: id.into(),
            exit_code: 0,
            finished_at: Timestamp::UNIX_EPOCH,
        }
    }

    #[test]
    fn an_exit_that_comes_before_its_owner_is_not_lost() {
        let routes = Routes::default();
        let (tx, mut rx) = mpsc::unbounded_channel();
        routes.deliver("c1", exit("c1"));
        routes.deliver("c2", exit("c2"));
        routes.claim("c1", &tx);
        assert!(matches!(rx.try_recv(), Ok(Message::Runtime(RuntimeEvent::Exited { id, .. })) if id == "c1"));
        assert!(rx.try_recv().is_err(), "the other container's event is not ours");
    }

    #[test]
    fn a_flood_of_strangers_events_is_bounded() {
        let routes = Routes::default();
        for event in 0..10 * UNCLAIMED {
            let id = event.to_string();
            routes.deliver(&id, exit(&id));
        }
        assert_eq!(routes.inner.lock().unclaimed.len(), UNCLAIMED);
    }

    #[test]
    fn a_worker_that_ended_owns_nothing() {
        let routes = Routes::default();
        let (tx, _rx) = mpsc::unbounded_channel();
        routes.claim("c1", &tx);
        routes.release(&tx);
        assert!(routes.inner.lock().owners.is_empty());
    }
}
