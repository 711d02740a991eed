//! What goes on in one connection: whether it may be closed for idleness, or must be for a request that never ends.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::{sync::Notify, time::Instant};

use crate::http::Observer;

/// The requests under way in one connection.
#[derive(Clone, Debug)]
pub(super) struct Activity(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// Told when a verdict will be due sooner than the last one said.
    sooner: Notify,
}

#[derive(Debug)]
struct State {
    next: u64,
    /// By number, so the first began first; the time by which each must be over, unless it may last.
    under_way: BTreeMap<u64, Option<Instant>>,
    idle_since: Instant,
    /// When the last verdict said to look again.
    look: Instant,
}

/// What to do with a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Look again then.
    Until(Instant),
    /// Nothing has gone on for long: say goodbye.
    Idle,
    /// A request is not over by its time, its client neither sending nor taking: cut it.
    Overdue,
}

impl Activity {
    /// A connection that was opened `now`.
    pub(super) fn new(now: Instant) -> Self {
        Self(Arc::new(Shared {
            state: Mutex::new(State {
                next: 0,
                under_way: BTreeMap::new(),
                idle_since: now,
                look: now,
            }),
            sooner: Notify::new(),
        }))
    }

    /// A request begins, to be over by `deadline`; it is over when what is returned is dropped.
    pub(super) fn begin(&self, deadline: Option<Instant>) -> Busy {
        let mut state = self.0.state.lock();
        let number = state.next;
        state.next += 1;
        state.under_way.insert(number, deadline);
        if deadline.is_some_and(|deadline| deadline < state.look) {
            self.0.sooner.notify_one();
        }
        Busy {
            activity: self.clone(),
            number,
        }
    }

    /// What to do `now`, where idle connections are closed after `idle`.
    pub(super) fn verdict(&self, now: Instant, idle: Duration) -> Verdict {
        let mut state = self.0.state.lock();
        let verdict = state.verdict(now, idle);
        if let Verdict::Until(look) = verdict {
            state.look = look;
        }
        verdict
    }

    /// Waits until a verdict is due sooner than the last one said.
    pub(super) async fn sooner(&self) {
        self.0.sooner.notified().await;
    }
}

impl State {
    fn verdict(&self, now: Instant, idle: Duration) -> Verdict {
        if self.under_way.is_empty() {
            let end = self.idle_since + idle;
            return if end <= now { Verdict::Idle } else { Verdict::Until(end) };
        }
        match self.under_way.values().flatten().min() {
            Some(deadline) if *deadline <= now => Verdict::Overdue,
            Some(deadline) => Verdict::Until((*deadline).min(now + idle)),
            None => Verdict::Until(now + idle),
        }
    }
}

/// A request under way.
#[derive(Debug)]
pub(super) struct Busy {
    activity: Activity,
    number: u64,
}

/// A request is under way until its answer is written.
impl Observer for Busy {}

impl Drop for Busy {
    fn drop(&mut self) {
        let mut state = self.activity.0.state.lock();
        state.under_way.remove(&self.number);
        if state.under_way.is_empty() {
            state.idle_since = Instant::now();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDLE: Duration = Duration::from_secs(90);

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_idle_from_its_last_request_on() {
        let start = Instant::now();
        let activity = Activity::new(start);
        assert_eq!(activity.verdict(start, IDLE), Verdict::Until(start + IDLE));
        let watch = activity.begin(None);
        assert_eq!(activity.verdict(start + IDLE, IDLE), Verdict::Until(start + 2 * IDLE));
        tokio::time::advance(Duration::from_secs(60)).await;
        drop(watch);
        let since = start + Duration::from_secs(60);
        assert_eq!(activity.verdict(start + IDLE, IDLE), Verdict::Until(since + IDLE));
        assert_eq!(activity.verdict(since + IDLE, IDLE), Verdict::Idle);
    }

    #[tokio::test(start_paused = true)]
    async fn one_request_beyond_its_time_is_enough() {
        let start = Instant::now();
        let activity = Activity::new(start);
        let _watch = activity.begin(None);
        let deadline = start + Duration::from_secs(60);
        let get = activity.begin(Some(deadline));
        assert_eq!(activity.verdict(start, IDLE), Verdict::Until(deadline));
        assert_eq!(activity.verdict(deadline, IDLE), Verdict::Overdue);
        drop(get);
        assert_eq!(activity.verdict(deadline, IDLE), Verdict::Until(deadline + IDLE));
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_on_an_idle_connection_is_looked_after_by_its_own_time() {
        let start = Instant::now();
        let activity = Activity::new(start);
        assert_eq!(activity.verdict(start, IDLE), Verdict::Until(start + IDLE));
        let deadline = start + Duration::from_secs(60);
        let _get = activity.begin(Some(deadline));
        activity.sooner().await;
        assert_eq!(activity.verdict(start, IDLE), Verdict::Until(deadline));
        let _later = activity.begin(Some(deadline + Duration::from_secs(1)));
        let told = tokio::time::timeout(Duration::from_secs(1), activity.sooner()).await;
        assert!(told.is_err(), "the look that is due is soon enough");
    }
}
