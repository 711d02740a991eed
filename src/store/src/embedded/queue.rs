//! A queue from async callers to a thread. Its bound is the callers' (a semaphore), so pushing never waits.

use std::time::Instant;

use parking_lot::{Condvar, Mutex};

/// Many push, one or several threads take.
#[derive(Debug)]
pub(super) struct Queue<T> {
    state: Mutex<State<T>>,
    filled: Condvar,
}

#[derive(Debug)]
struct State<T> {
    waiting: std::collections::VecDeque<T>,
    closed: bool,
}

/// What a taker was woken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// There is something.
    Some,
    /// The time has come.
    Due,
    /// Nothing more will come, and nothing is left.
    Closed,
}

impl<T> Queue<T> {
    pub(super) fn new() -> Self {
        Self {
            state: Mutex::new(State {
                waiting: std::collections::VecDeque::new(),
                closed: false,
            }),
            filled: Condvar::new(),
        }
    }

    /// Gives it back if the queue is closed.
    pub(super) fn push(&self, item: T) -> Result<(), T> {
        let mut state = self.state.lock();
        if state.closed {
            return Err(item);
        }
        state.waiting.push_back(item);
        drop(state);
        self.filled.notify_one();
        Ok(())
    }

    /// Takes up to `most`, waiting for the first until `due`.
    pub(super) fn take(&self, due: Option<Instant>, most: usize, into: &mut Vec<T>) -> Taken {
        let mut state = self.state.lock();
        while state.waiting.is_empty() {
            if state.closed {
                return Taken::Closed;
            }
            let Some(due) = due else {
                self.filled.wait(&mut state);
                continue;
            };
            if self.filled.wait_until(&mut state, due).timed_out() && state.waiting.is_empty() {
                return if state.closed { Taken::Closed } else { Taken::Due };
            }
        }
        let most = most.min(state.waiting.len());
        into.extend(state.waiting.drain(..most));
        Taken::Some
    }

    /// Nothing more comes in; what is there can still be taken.
    pub(super) fn close(&self) {
        self.state.lock().closed = true;
        self.filled.notify_all();
    }

    /// Nothing more comes in, and what waits is dropped.
    pub(super) fn abandon(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        let dropped = std::mem::take(&mut state.waiting);
        drop(state);
        self.filled.notify_all();
        drop(dropped);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn everything_is_taken_once_in_order_and_then_the_end() {
        let queue = Queue::new();
        for item in 0..5 {
            queue.push(item).unwrap();
        }
        queue.close();
        assert_eq!(queue.push(9), Err(9));
        let mut taken = Vec::new();
        assert_eq!(queue.take(None, 3, &mut taken), Taken::Some);
        assert_eq!(queue.take(None, 3, &mut taken), Taken::Some);
        assert_eq!(queue.take(None, 3, &mut taken), Taken::Closed);
        assert_eq!(taken, [0, 1, 2, 3, 4]);
    }

    #[test]
    fn an_empty_queue_wakes_its_taker_when_due() {
        let queue = Queue::<()>::new();
        let due = Instant::now() + Duration::from_millis(5);
        assert_eq!(queue.take(Some(due), 1, &mut Vec::new()), Taken::Due);
        assert!(Instant::now() >= due);
    }
}
