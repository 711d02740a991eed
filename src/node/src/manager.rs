//! Which pods have a worker: wanted ones, and those that are left over.
//!
//! One task. It takes manifests' events and the runtime's, and starts and ends workers; it decides nothing about
//! a pod's inside.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use bosun_api::{PodKey, PodUid, core::Pod, labels};
use bosun_cri::{RuntimeEvent, v1};
use parking_lot::RwLock;
use tokio::{
    sync::mpsc,
    task::{Id, JoinSet},
};
use tracing::Instrument;

use crate::{
    checkpoint,
    manifest::ManifestEvent,
    node::Node,
    pod::{
        orphan,
        sandbox::pod_uid,
        words::chain,
        worker::{Birth, Message, Worker, pod_key},
    },
};

/// Manifests that can't be used, by file, with what is wrong.
pub type InvalidManifests = Arc<RwLock<BTreeMap<String, String>>>;

struct Entry {
    key: PodKey,
    message_tx: mpsc::UnboundedSender<Message>,
    ends: bool,
}

/// The manager's state; see the module.
pub struct Manager {
    node: Arc<Node>,
    manifest_rx: mpsc::Receiver<ManifestEvent>,
    event_rx: mpsc::Receiver<RuntimeEvent>,
    invalid: InvalidManifests,
    audit_interval: Option<Duration>,
    files: BTreeMap<String, Arc<Pod>>,
    workers: HashMap<PodUid, Entry>,
    tasks: JoinSet<()>,
    /// Lists under way: the runtime's answer holds up nobody.
    lists: JoinSet<Result<Listed, bosun_cri::Error>>,
    task_uids: HashMap<Id, PodUid>,
    /// All manifests that were there at the start have been read.
    manifests_known: bool,
    /// All that the runtime has was given a worker: what has none is new.
    leftovers_known: bool,
    /// The runtime's list could not be had; it is asked for again.
    list_failures: u32,
}

/// What is to be done about workers.
#[derive(Debug, PartialEq, Eq)]
enum Action {
    Start(PodUid),
    End(PodUid),
}

/// Who must start and who must end: a pod waits until none of its name is left. Pure.
fn plan_workers(wanted: &BTreeMap<PodUid, PodKey>, workers: &BTreeMap<PodUid, (PodKey, bool)>) -> Vec<Action> {
    let mut actions = vec![];
    for (uid, (_, ends)) in workers {
        if !ends && !wanted.contains_key(uid) {
            actions.push(Action::End(uid.clone()));
        }
    }
    let mut taken: BTreeSet<&PodKey> = workers.values().map(|(key, _)| key).collect();
    for (uid, key) in wanted {
        if taken.insert(key) {
            actions.push(Action::Start(uid.clone()));
        }
    }
    actions
}

/// The pods of this node that the runtime has something of, or that this agent or one before it remembers.
async fn list_pods(node: &Node) -> Result<Listed, bosun_cri::Error> {
    let selector = HashMap::from([(labels::NODE.to_owned(), node.name.clone())]);
    let sandboxes = node.runtime.list_sandboxes(Some(v1::PodSandboxFilter {
        label_selector: selector.clone(),
        ..v1::PodSandboxFilter::default()
    }));
    let containers = node.runtime.list_containers(Some(v1::ContainerFilter {
        label_selector: selector,
        ..v1::ContainerFilter::default()
    }));
    let (sandboxes, containers) = tokio::try_join!(sandboxes, containers)?;
    let mut pods = orphan::leftover_pods(&sandboxes, &containers);
    let (directory, cgroups) = (node.places.checkpoints(), node.cgroups.clone());
    let on_disk = move || (checkpoint::pods(&directory), cgroups.pods());
    let mut strays = BTreeSet::new();
    match tokio::task::spawn_blocking(on_disk).await {
        // What can't be listed stays until the next look.
        Err(error) => tracing::error!(%error, "listing what is left of pods broke off"),
        Ok((remembered, cgroups)) => {
            let running: BTreeSet<PodUid> = pods.iter().map(pod_uid).collect();
            match remembered {
                Ok(remembered) => {
                    let rest = remembered.iter().filter(|(uid, _)| !running.contains(uid));
                    pods.extend(rest.map(|(uid, key)| orphan::bare_pod(key, uid)));
                }
                Err(error) => tracing::warn!(%error, "the checkpoints can't be listed"),
            }
            match cgroups {
                Ok(cgroups) => strays = cgroups,
                Err(error) => tracing::warn!(error = chain(&error), "cgroups can't be listed"),
            }
        }
    }
    Ok(Listed { pods, cgroups: strays })
}

/// What there is on this node, of whichever pods.
struct Listed {
    /// Pods that the runtime has something of, or that are remembered.
    pods: Vec<Pod>,
    /// Pods that have a cgroup.
    cgroups: BTreeSet<PodUid>,
}

/// How long after the stream of events began the runtime is listed once more.
const LOOK_AGAIN: Duration = Duration::from_secs(15);

/// At that time, or never.
async fn at(time: Option<tokio::time::Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}

impl Manager {
    /// A manager fed by these two streams. Without `audit_interval` nothing but events wakes a pod.
    pub fn new(
        node: Arc<Node>,
        manifest_rx: mpsc::Receiver<ManifestEvent>,
        event_rx: mpsc::Receiver<RuntimeEvent>,
        invalid: InvalidManifests,
        audit_interval: Option<Duration>,
    ) -> Self {
        Self {
            node,
            manifest_rx,
            event_rx,
            invalid,
            audit_interval,
            files: BTreeMap::new(),
            workers: HashMap::new(),
            tasks: JoinSet::new(),
            lists: JoinSet::new(),
            task_uids: HashMap::new(),
            manifests_known: false,
            leftovers_known: false,
            list_failures: 0,
        }
    }

    /// Runs until either stream ends.
    pub async fn run(mut self) {
        let mut audit = self.audit_interval.map(|interval| {
            let first = tokio::time::Instant::now() + interval;
            tokio::time::interval_at(first, interval)
        });
        let mut list_again = None;
        let mut look_again = None;
        loop {
            let next_audit = async {
                match &mut audit {
                    Some(audit) => audit.tick().await,
                    None => std::future::pending().await,
                }
            };
            let mut list = false;
            tokio::select! {
                event = self.manifest_rx.recv() => match event {
                    Some(event) => list = self.manifest(event),
                    None => break,
                },
                event = self.event_rx.recv() => match event {
                    Some(RuntimeEvent::Resync) => {
                        tracing::info!("runtime events flow");
                        self.tell_all(|| Message::Resync);
                        list = true;
                        // What a killed runtime was about may come to light only later.
                        look_again = Some(tokio::time::Instant::now() + LOOK_AGAIN);
                    }
                    Some(event) => self.runtime_event(event),
                    None => break,
                },
                Some(ended) = self.tasks.join_next_with_id() => self.worker_ended(ended),
                _ = next_audit => {
                    self.tell_all(|| Message::Audit);
                    list = true;
                }
                () = at(list_again) => list = true,
                () = at(look_again) => {
                    look_again = None;
                    list = true;
                }
                Some(listed) = self.lists.join_next() => match listed.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic())) {
                    Ok(listed) => {
                        self.list_failures = 0;
                        self.end_leftovers(listed);
                    }
                    Err(error) => {
                        let delay = Duration::from_millis(250) * (1 << self.list_failures.min(5));
                        self.list_failures += 1;
                        tracing::warn!(%error, "the runtime does not say what it has; asking again");
                        list_again = Some(tokio::time::Instant::now() + delay);
                    }
                },
            }
            if list && self.manifests_known && self.lists.is_empty() {
                list_again = None;
                let node = self.node.clone();
                self.lists.spawn(async move { list_pods(&node).await });
            }
            self.settle();
        }
    }

    fn tell_all(&self, message: impl Fn() -> Message) {
        for entry in self.workers.values() {
            let _ = entry.message_tx.send(message());
        }
    }

    /// Takes in a manifest's event; says whether leftovers can be told from now on.
    fn manifest(&mut self, event: ManifestEvent) -> bool {
        match event {
            ManifestEvent::Synced => {
                self.manifests_known = true;
                self.node
                    .board
                    .expect(self.files.values().map(|pod| pod_uid(pod)).collect());
                return true;
            }
            ManifestEvent::Valid { file, pod } => {
                self.invalid.write().remove(&file);
                tracing::info!(file, pod = %pod_key(&pod), uid = %pod_uid(&pod), "manifest read");
                self.files.insert(file, pod);
            }
            // The earlier good version, if there was one, goes on.
            ManifestEvent::Invalid { file, error } => {
                self.invalid.write().insert(file, error.to_string());
            }
            ManifestEvent::Removed { file } => {
                self.invalid.write().remove(&file);
                tracing::info!(file, "manifest removed");
                self.files.remove(&file);
            }
        }
        false
    }

    fn runtime_event(&mut self, event: RuntimeEvent) {
        let id = match &event {
            RuntimeEvent::Exited { id, .. } | RuntimeEvent::OutOfMemory { id } | RuntimeEvent::Removed { id } => {
                id.clone()
            }
            RuntimeEvent::ImageAdded { .. } => {
                self.tell_all(|| Message::ImageAdded);
                return;
            }
            RuntimeEvent::Resync => return,
        };
        self.node.routes.deliver(&id, event);
    }

    fn worker_ended(&mut self, ended: Result<(Id, ()), tokio::task::JoinError>) {
        let id = match &ended {
            Ok((id, ())) => *id,
            Err(error) => error.id(),
        };
        let Some(uid) = self.task_uids.remove(&id) else {
            return;
        };
        let entry = self.workers.remove(&uid);
        if let (Err(error), Some(entry)) = (ended, entry) {
            // What is left of the pod is found by asking the runtime, as after a restart of the whole agent.
            tracing::error!(pod = %entry.key, %uid, %error, "the pod's worker panicked; starting another");
            self.node.routes.release(&entry.message_tx);
            self.leftovers_known = false;
            match self.files.values().find(|pod| pod_uid(pod) == uid).cloned() {
                Some(pod) => self.start(pod, false),
                None => self.start(Arc::new(orphan::bare_pod(&entry.key, &uid)), true),
            }
        }
    }

    /// Gives a worker to every pod that the runtime has something of.
    fn end_leftovers(&mut self, listed: Listed) {
        let wanted: Vec<PodUid> = self.files.values().map(|pod| pod_uid(pod)).collect();
        for pod in listed.pods {
            let uid = pod_uid(&pod);
            if !wanted.contains(&uid) && !self.workers.contains_key(&uid) {
                tracing::info!(pod = %pod_key(&pod), %uid, "pod is left over; ending it");
                self.start(Arc::new(pod), true);
            }
        }
        self.remove_stray_cgroups(listed.cgroups);
        // A wanted pod whose worker begins now may have something left, too: it asks.
        self.settle();
        self.leftovers_known = true;
    }

    /// A runtime that was killed while it created a container may finish that after the pod is gone. Cgroups that
    /// somebody lives in stay.
    fn remove_stray_cgroups(&self, mut strays: BTreeSet<PodUid>) {
        strays.retain(|uid| !self.workers.contains_key(uid));
        if strays.is_empty() {
            return;
        }
        let cgroups = self.node.cgroups.clone();
        drop(tokio::task::spawn_blocking(move || {
            for uid in strays {
                match cgroups.tear_down(&uid) {
                    Ok(()) => tracing::info!(%uid, "removed the cgroup of a pod that is gone"),
                    Err(error) => tracing::debug!(%uid, error = chain(&error), "a cgroup of no pod of ours stays"),
                }
            }
        }));
    }

    fn settle(&mut self) {
        let pods: BTreeMap<PodUid, &Arc<Pod>> = self.files.values().map(|pod| (pod_uid(pod), pod)).collect();
        let wanted = pods.iter().map(|(uid, pod)| (uid.clone(), pod_key(pod))).collect();
        let workers = self
            .workers
            .iter()
            .map(|(uid, entry)| (uid.clone(), (entry.key.clone(), entry.ends)));
        let actions = plan_workers(&wanted, &workers.collect());
        let pods: BTreeMap<PodUid, Arc<Pod>> = pods.into_iter().map(|(uid, pod)| (uid, pod.clone())).collect();
        for action in actions {
            match action {
                Action::End(uid) => {
                    if let Some(entry) = self.workers.get_mut(&uid) {
                        entry.ends = true;
                        let _ = entry.message_tx.send(Message::Remove);
                    }
                }
                Action::Start(uid) => {
                    if let Some(pod) = pods.get(&uid) {
                        self.start(pod.clone(), false);
                    }
                }
            }
        }
    }

    fn start(&mut self, pod: Arc<Pod>, is_orphan: bool) {
        let (uid, key) = (pod_uid(&pod), pod_key(&pod));
        let span = tracing::info_span!("pod", pod = %key, %uid);
        let birth = Birth {
            pod,
            is_new: self.leftovers_known && !is_orphan,
            is_orphan,
        };
        let (worker, message_tx) = span.in_scope(|| Worker::new(self.node.clone(), birth));
        let task = self.tasks.spawn(worker.run().instrument(span));
        self.task_uids.insert(task.id(), uid.clone());
        let entry = Entry {
            key,
            message_tx,
            ends: is_orphan,
        };
        self.workers.insert(uid, entry);
    }
}

#[cfg(test)]
mod tests;
