//! What all pods of a node share.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
    time::Duration,
};

use bosun_api::{
    PodUid,
    core::{Pod, PodStatus},
};
use bosun_cri::{Runtime, managed::ManagedState};
use jiff::Timestamp;
use parking_lot::{Mutex, RwLock};
use tokio::sync::{Notify, watch};

use crate::{
    api::supply::Supply,
    cgroup::Cgroups,
    images::Images,
    places::Places,
    pod::{backoff::Limits, dns::ClusterDns},
    probe::Prober,
    routes::Routes,
    source::Source,
};

/// The node, as its pods' workers see it.
pub struct Node {
    /// The node's name.
    pub name: String,
    /// Where things are.
    pub places: Places,
    /// The cgroups of its pods.
    pub cgroups: Cgroups,
    /// The time.
    pub clock: Clock,
    /// Restart back-off.
    pub limits: Limits,
    /// The container runtime.
    pub runtime: Arc<dyn Runtime>,
    /// How our own containerd fares, if it is ours.
    pub managed: Option<watch::Receiver<ManagedState>>,
    /// Images being pulled.
    pub images: Images,
    /// Runs the probes.
    pub prober: Prober,
    /// Whether the sandbox image is there: `Err` says what holds it up.
    pub sandbox_image: watch::Receiver<Result<(), String>>,
    /// Which worker a runtime event is for.
    pub routes: Routes,
    /// What is known of each pod, for those who ask.
    pub board: Board,
    /// What pods have of the control plane, if there is one.
    pub supply: Option<Arc<Supply>>,
    /// The node's addresses, the primary first.
    pub host_addresses: Vec<IpAddr>,
    /// The DNS of its cluster.
    pub dns: ClusterDns,
    /// Processor time for pods, in thousandths.
    pub allocatable_milli_cpu: i64,
    /// Memory for pods, in bytes.
    pub allocatable_memory: i64,
}

impl Node {
    /// Why the container runtime does not run, as far as we know.
    pub fn runtime_down(&self) -> Option<String> {
        match &*self.managed.as_ref()?.borrow() {
            ManagedState::Down { reason } => Some(reason.clone()),
            ManagedState::Running { .. } => None,
        }
    }

    /// Waits for the sandbox image, for at most `limit`; fails with what holds it up.
    pub async fn sandbox_image_ready(&self, limit: Duration) -> Result<(), String> {
        let mut image = self.sandbox_image.clone();
        let ready = image.wait_for(Result::is_ok);
        if let Ok(Ok(_)) = tokio::time::timeout(limit, ready).await {
            return Ok(());
        }
        let held_up = self.sandbox_image.borrow().clone();
        held_up.map_err(|problem| format!("the sandbox image is not there: {problem}"))
    }
}

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Node").field("name", &self.name).finish_non_exhaustive()
    }
}

/// The time: the machine's, or one that goes by tokio's clock, which tests can pause.
#[derive(Clone, Copy, Debug, Default)]
pub struct Clock {
    start: Option<(Timestamp, tokio::time::Instant)>,
}

impl Clock {
    /// Says `time` now, and then goes by tokio's clock.
    pub fn starting_at(time: Timestamp) -> Self {
        Self {
            start: Some((time, tokio::time::Instant::now())),
        }
    }

    /// The time it is.
    pub fn now(&self) -> Timestamp {
        match self.start {
            Some((time, since)) => time.saturating_add(since.elapsed()).unwrap_or(Timestamp::MAX),
            None => Timestamp::now(),
        }
    }
}

/// What is told of one pod.
#[derive(Clone, Debug)]
pub struct Notice {
    /// The pod as wanted.
    pub pod: Arc<Pod>,
    /// Who wants it; `None` for one that is left over.
    pub source: Option<Source>,
    /// Its status.
    pub status: PodStatus,
    /// How long each stage of its start took, in milliseconds.
    pub stages: BTreeMap<String, f64>,
    /// When what still runs of it is killed, if it is being removed.
    pub ends_by: Option<Timestamp>,
}

/// The pods of this node, for those who ask.
#[derive(Debug, Default)]
pub struct Board {
    pods: RwLock<BTreeMap<PodUid, Notice>>,
    /// Pods of which nothing is known yet; `None` before it is known which pods there are.
    awaited: watch::Sender<Option<BTreeSet<PodUid>>>,
    /// Pods of which there is news that [`Board::news`] did not give yet.
    news: Mutex<BTreeSet<PodUid>>,
    newer: Notify,
}

impl Board {
    /// The pods there are at the start: until something is known of each, an answer would be less than there is.
    pub fn expect(&self, uids: BTreeSet<PodUid>) {
        let known = self.pods.read();
        let uids = uids.into_iter().filter(|uid| !known.contains_key(uid)).collect();
        self.awaited.send_replace(Some(uids));
    }

    /// Waits until something is known of all pods there were at the start.
    pub async fn complete(&self) {
        let mut awaited = self.awaited.subscribe();
        // It ends with the board itself.
        let _ = awaited
            .wait_for(|awaited| awaited.as_ref().is_some_and(BTreeSet::is_empty))
            .await;
    }

    /// Puts up what is known of a pod.
    pub fn post(&self, uid: &PodUid, notice: Notice) {
        self.pods.write().insert(uid.clone(), notice);
        self.came(uid);
    }

    /// Takes down a pod that is gone.
    pub fn remove(&self, uid: &PodUid) {
        self.pods.write().remove(uid);
        self.came(uid);
    }

    fn came(&self, uid: &PodUid) {
        self.awaited
            .send_if_modified(|awaited| awaited.as_mut().is_some_and(|awaited| awaited.remove(uid)));
        self.news.lock().insert(uid.clone());
        self.newer.notify_one();
    }

    /// Waits for news and gives the pods it is of; however much news there was of a pod, it is given once. For one
    /// reader.
    pub async fn news(&self) -> BTreeSet<PodUid> {
        loop {
            let news = std::mem::take(&mut *self.news.lock());
            if !news.is_empty() {
                return news;
            }
            self.newer.notified().await;
        }
    }

    /// What is known of a pod; `None` once it is gone.
    pub fn get(&self, uid: &PodUid) -> Option<Notice> {
        self.pods.read().get(uid).cloned()
    }

    /// All pods, by UID.
    pub fn all(&self) -> Vec<Notice> {
        self.pods.read().values().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use std::task::Poll;

    use super::*;

    #[tokio::test]
    async fn an_answer_waits_until_something_is_known_of_every_pod() {
        let board = Board::default();
        let uids = ["u1", "u2"].map(PodUid::from);
        let mut complete = std::pin::pin!(board.complete());
        assert!(
            futures_util::poll!(complete.as_mut()).is_pending(),
            "nobody knows which pods there are"
        );
        board.expect(uids.clone().into());
        board.remove(&uids[0]);
        assert!(futures_util::poll!(complete.as_mut()).is_pending());
        let notice = Notice {
            pod: Arc::default(),
            source: None,
            status: PodStatus::default(),
            stages: BTreeMap::new(),
            ends_by: None,
        };
        board.post(&uids[1], notice);
        assert_eq!(futures_util::poll!(complete.as_mut()), Poll::Ready(()));
    }
}
