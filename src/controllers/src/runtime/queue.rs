//! Keys that wait to be worked on: each once, never twice at a time, later again after a failure.
//!
//! The same rules as upstream's `client-go/util/workqueue`: a key added while it waits is there once; one added while
//! it is worked on is queued again when that ends.

use std::{
    collections::{BTreeSet, HashMap, HashSet, VecDeque},
    hash::Hash,
    time::Duration,
};

use bosun_client::backoff;
use parking_lot::Mutex;
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};

use super::metrics::Counted;

/// The delay after the first failure of a key.
const FIRST: Duration = Duration::from_millis(5);
/// The longest delay after a failure.
const MOST: Duration = Duration::from_secs(1000);

/// A queue of keys, for any number that add and one that takes.
#[derive(Debug)]
pub struct Queue<K> {
    state: Mutex<State<K>>,
    changed: Notify,
    counted: Counted,
}

#[derive(Debug)]
struct State<K> {
    ready: VecDeque<(K, Instant)>,
    /// Keys that are in `ready`, or will be when their run ends.
    wanted: HashSet<K>,
    running: HashSet<K>,
    delayed: BTreeSet<(Instant, K)>,
    due: HashMap<K, Instant>,
    failures: HashMap<K, u32>,
}

impl<K: Clone + Eq + Hash + Ord> Queue<K> {
    /// An empty queue.
    pub fn new(counted: Counted) -> Self {
        Self {
            state: Mutex::new(State {
                ready: VecDeque::new(),
                wanted: HashSet::new(),
                running: HashSet::new(),
                delayed: BTreeSet::new(),
                due: HashMap::new(),
                failures: HashMap::new(),
            }),
            changed: Notify::new(),
            counted,
        }
    }

    /// Queues a key, unless it is queued already.
    pub fn add(&self, key: K) {
        self.state.lock().add(key, &self.counted);
        self.changed.notify_one();
    }

    /// Queues a key later, or sooner if that was asked for before.
    pub fn add_after(&self, key: K, delay: Duration) {
        if delay.is_zero() {
            return self.add(key);
        }
        let at = Instant::now() + delay;
        let mut state = self.state.lock();
        match state.due.get(&key) {
            Some(due) if *due <= at => return,
            Some(due) => {
                let old = (*due, key.clone());
                state.delayed.remove(&old);
            }
            None => {}
        }
        state.due.insert(key.clone(), at);
        state.delayed.insert((at, key));
        drop(state);
        self.changed.notify_one();
    }

    /// The next key, which is the caller's until it is [`done`](Self::done). Cancelling loses nothing.
    pub async fn next(&self) -> K {
        loop {
            let changed = self.changed.notified();
            let next_due = {
                let mut state = self.state.lock();
                state.ripen(Instant::now(), &self.counted);
                if let Some((key, since)) = state.ready.pop_front() {
                    state.wanted.remove(&key);
                    state.running.insert(key.clone());
                    self.counted.taken(since.elapsed());
                    return key;
                }
                state.delayed.first().map(|(at, _)| *at)
            };
            match next_due {
                None => changed.await,
                Some(at) => tokio::select! {
                    () = changed => {}
                    () = sleep_until(at) => {}
                },
            }
        }
    }

    /// The run of a key has ended. If it was added meanwhile it is queued again.
    pub fn done(&self, key: &K) {
        let mut state = self.state.lock();
        if state.running.remove(key) && state.wanted.contains(key) {
            state.ready.push_back((key.clone(), Instant::now()));
            self.counted.depth(1);
        }
        drop(state);
        self.changed.notify_one();
    }

    /// A run failed: queues its key again, later each time. Gives the delay.
    pub fn failed(&self, key: K) -> Duration {
        let times = {
            let mut state = self.state.lock();
            let failures = state.failures.entry(key.clone()).or_default();
            *failures = failures.saturating_add(1);
            *failures - 1
        };
        let delay = backoff::exponential(FIRST, MOST, times);
        // Keys that failed together shall not come together.
        let delay = delay.mul_f64(1.0 + fastrand::f64() * 0.1);
        self.counted.retried();
        self.add_after(key, delay);
        delay
    }

    /// A run succeeded: the next failure is the first one.
    pub fn succeeded(&self, key: &K) {
        self.state.lock().failures.remove(key);
    }

    /// How often a key has failed in a row.
    pub fn failures(&self, key: &K) -> u32 {
        self.state.lock().failures.get(key).copied().unwrap_or(0)
    }
}

impl<K: Clone + Eq + Hash + Ord> State<K> {
    fn add(&mut self, key: K, counted: &Counted) {
        if !self.wanted.insert(key.clone()) {
            return;
        }
        counted.added();
        if !self.running.contains(&key) {
            self.ready.push_back((key, Instant::now()));
            counted.depth(1);
        }
    }

    /// Queues the keys whose time has come.
    fn ripen(&mut self, now: Instant, counted: &Counted) {
        while self.delayed.first().is_some_and(|(at, _)| *at <= now) {
            let Some((_, key)) = self.delayed.pop_first() else {
                return;
            };
            self.due.remove(&key);
            self.add(key, counted);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn queue() -> Queue<&'static str> {
        Queue::new(Counted::default())
    }

    fn next(queue: &Queue<&'static str>) -> Option<&'static str> {
        queue.next().now_or_never()
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_waits_once_and_runs_once_at_a_time() {
        let queue = queue();
        for key in ["a", "b", "a", "b"] {
            queue.add(key);
        }
        assert_eq!((next(&queue), next(&queue), next(&queue)), (Some("a"), Some("b"), None));
        // Added while it runs: again, but only after its run.
        queue.add("a");
        queue.add("a");
        assert_eq!(next(&queue), None);
        queue.done(&"a");
        assert_eq!((next(&queue), next(&queue)), (Some("a"), None));
        queue.done(&"a");
        queue.done(&"b");
        assert_eq!(next(&queue), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_delayed_key_comes_at_the_earliest_time_asked_for() {
        let queue = queue();
        let began = Instant::now();
        queue.add_after("a", Duration::from_secs(9));
        queue.add_after("a", Duration::from_secs(3));
        queue.add_after("a", Duration::from_secs(5));
        queue.add_after("b", Duration::ZERO);
        assert_eq!(queue.next().await, "b");
        assert_eq!(queue.next().await, "a");
        assert_eq!(began.elapsed().as_secs(), 3);
        queue.done(&"a");
        tokio::time::advance(Duration::from_secs(60)).await;
        assert_eq!(next(&queue), None);
    }

    #[tokio::test(start_paused = true)]
    async fn failures_in_a_row_delay_a_key_longer_each_time() {
        let queue = queue();
        let mut delays = Vec::new();
        for _ in 0..20 {
            delays.push(queue.failed("a").as_millis());
        }
        for (at, full) in [
            (0, 5),
            (1, 10),
            (10, 5120),
            (17, 655_360),
            (18, 1_000_000),
            (19, 1_000_000),
        ] {
            assert!((full..=full * 11 / 10).contains(&delays[at]), "{at}: {}", delays[at]);
        }
        assert_eq!(queue.failures(&"a"), 20);
        queue.succeeded(&"a");
        assert!(queue.failed("a") < Duration::from_millis(6));
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_is_woken_by_what_is_added() {
        let queue = std::sync::Arc::new(queue());
        let mut tasks = tokio::task::JoinSet::new();
        let waiting = queue.clone();
        tasks.spawn(async move { waiting.next().await });
        tokio::task::yield_now().await;
        queue.add_after("late", Duration::from_secs(500));
        queue.add("soon");
        assert_eq!(tasks.join_next().await.expect("a task").expect("it ends well"), "soon");
    }
}
