//! The shape of a controller, and what runs one.

use std::{
    collections::HashMap,
    fmt::Display,
    future::Future,
    hash::Hash,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use bosun_client::{CallError, Change, ObjectKey, Reader, call::Class};
use kube::Resource;
use tokio::{
    task::{Id, JoinSet},
    time::{Instant, timeout},
};
use tracing::{debug, error, warn};

use super::{
    metrics::{Counted, Metrics},
    queue::Queue,
};

/// Something that brings objects in order, one key at a time.
#[async_trait]
pub trait Controller: Send + Sync + 'static {
    /// What it brings in order: mostly an [`ObjectKey`].
    type Key: Clone + Eq + Hash + Ord + Display + Send + Sync + 'static;

    /// As in logs and metrics: `deployment`.
    fn name(&self) -> &'static str;

    /// Says which changes concern which keys, and what else must be complete before the first run.
    fn watch(self: &Arc<Self>, watches: &mut Watches<Self::Key>);

    /// Brings one key in order: looks at what is there, plans, and applies the plan. It runs again after an error, and
    /// must bear to be ended anywhere.
    async fn sync(&self, key: &Self::Key) -> Result<Done, SyncError>;

    /// How many keys are brought in order at the same time.
    fn workers(&self) -> usize {
        5
    }

    /// How long one run may take.
    fn deadline(&self) -> Duration {
        Duration::from_secs(120)
    }

    /// What else it does, as long as it runs. It must not end.
    async fn background(&self) {
        std::future::pending::<()>().await;
    }
}

/// What comes after a run without an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Done {
    /// Nothing until something changes.
    Settled,
    /// Another run after this time, or when something changes.
    Again(Duration),
}

impl Done {
    /// Another run after this time, if there is one.
    pub fn after(delay: Option<Duration>) -> Self {
        delay.map_or(Self::Settled, Self::Again)
    }
}

/// Why a run ended before its end.
#[derive(Debug, thiserror::Error)]
pub enum SyncError {
    /// A call of the API failed.
    #[error(transparent)]
    Call(#[from] CallError),
    /// Something else, as a sentence.
    #[error("{0}")]
    Other(String),
}

type Feed = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What a controller is woken by.
pub struct Watches<K> {
    queue: Arc<Queue<K>>,
    feeds: Vec<Feed>,
    complete: Vec<Feed>,
}

impl<K: Clone + Eq + Hash + Ord + Send + Sync + 'static> Watches<K> {
    /// Queues the keys that `keys` names of each change. It may also note what it hears, but must not wait.
    pub fn on<T, I>(&mut self, reader: &Reader<T>, keys: impl Fn(&Change<T>) -> I + Send + 'static)
    where
        T: Resource + Send + Sync + 'static,
        I: IntoIterator<Item = K>,
    {
        self.needs(reader);
        let mut changes = reader.subscribe();
        let queue = self.queue.clone();
        self.feeds.push(Box::pin(async move {
            while let Some(change) = changes.recv().await {
                // One object that nobody thought of shall not end the hearing of all others.
                let add = || keys(&change).into_iter().for_each(|key| queue.add(key));
                if catch_unwind(AssertUnwindSafe(add)).is_err() {
                    error!(object = %ObjectKey::of(&**change.object()), "a change was lost in a panic");
                }
            }
        }));
    }

    /// Waits for this informer's first list before the first run.
    pub fn needs<T: Resource + Send + Sync + 'static>(&mut self, reader: &Reader<T>) {
        let reader = reader.clone();
        self.complete.push(Box::pin(async move { reader.synced().await }));
    }

    /// Waits for something else before the first run.
    pub fn until(&mut self, ready: impl Future<Output = ()> + Send + 'static) {
        self.complete.push(Box::pin(ready));
    }

    /// The queue itself, for what isn't an informer's change.
    pub fn queue(&self) -> &Arc<Queue<K>> {
        &self.queue
    }
}

/// Runs a controller until the future is dropped.
pub async fn run<C: Controller>(controller: Arc<C>, metrics: Metrics) {
    let name = controller.name();
    let counted = metrics.of(name);
    let queue = Arc::new(Queue::new(counted.clone()));
    let mut watches = Watches {
        queue: queue.clone(),
        feeds: Vec::new(),
        complete: Vec::new(),
    };
    controller.watch(&mut watches);
    let Watches { feeds, complete, .. } = watches;
    let mut tasks = JoinSet::new();
    for feed in feeds {
        tasks.spawn(feed);
    }
    let beside = controller.clone();
    tasks.spawn(async move { beside.background().await });
    for reader in complete {
        reader.await;
    }
    debug!(controller = name, "runs");
    Runs {
        controller,
        queue,
        counted,
        under_way: JoinSet::new(),
        keys: HashMap::new(),
    }
    .drive()
    .await;
}

/// The runs of a controller that are under way.
struct Runs<C: Controller> {
    controller: Arc<C>,
    queue: Arc<Queue<C::Key>>,
    counted: Counted,
    under_way: JoinSet<Result<Done, SyncError>>,
    keys: HashMap<Id, (C::Key, Instant)>,
}

impl<C: Controller> Runs<C> {
    async fn drive(mut self) {
        loop {
            tokio::select! {
                key = self.queue.next(), if self.under_way.len() < self.controller.workers() => self.begin(key),
                Some(ended) = self.under_way.join_next_with_id() => {
                    let (id, outcome) = match ended {
                        Ok((id, outcome)) => (id, Ok(outcome)),
                        Err(panicked) => (panicked.id(), Err(())),
                    };
                    if let Some((key, since)) = self.keys.remove(&id) {
                        self.counted.worked(since.elapsed());
                        self.end(&key, outcome);
                    }
                }
            }
        }
    }

    fn begin(&mut self, key: C::Key) {
        let controller = self.controller.clone();
        let run = key.clone();
        let handle = self.under_way.spawn(async move {
            let limit = controller.deadline();
            let outcome = timeout(limit, controller.sync(&run)).await;
            outcome.unwrap_or_else(|_| Err(SyncError::Other(format!("the run took longer than {limit:?}"))))
        });
        self.keys.insert(handle.id(), (key, Instant::now()));
    }

    fn end(&self, key: &C::Key, outcome: Result<Result<Done, SyncError>, ()>) {
        let controller = self.controller.name();
        match outcome {
            Ok(Ok(done)) => {
                self.queue.succeeded(key);
                if let Done::Again(delay) = done {
                    self.queue.add_after(key.clone(), delay);
                }
            }
            Ok(Err(error)) => {
                let after = self.queue.failed(key.clone());
                if is_ordinary(&error) {
                    debug!(controller, %key, %error, ?after, "trying again");
                } else {
                    warn!(controller, %key, error = told(&error), ?after, "trying again");
                }
            }
            Err(()) => {
                self.counted.panicked();
                let after = self.queue.failed(key.clone());
                error!(controller, %key, ?after, "a run ended in a panic: trying again");
            }
        }
        self.queue.done(key);
    }
}

/// What happens every day where many write.
fn is_ordinary(error: &SyncError) -> bool {
    matches!(error, SyncError::Call(error) if matches!(error.class(), Class::Conflict | Class::NotFound | Class::AlreadyExists))
}

fn told(error: &SyncError) -> String {
    let mut told = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        told = format!("{told}: {error}");
        source = error.source();
    }
    told
}

#[cfg(test)]
mod tests;
