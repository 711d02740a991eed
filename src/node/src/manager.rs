//! Which pods have a worker: wanted ones, and those that are left over.
//!
//! One task. It takes the sources' events and the runtime's, and starts and ends workers; it decides nothing about
//! a pod's inside.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use bosun_api::{PodKey, PodUid, core::Pod, labels};
use bosun_cri::{RuntimeEvent, v1};
use tokio::{
    sync::mpsc,
    task::{Id, JoinSet},
};
use tracing::Instrument;

use crate::{
    checkpoint,
    node::Node,
    pod::{
        orphan,
        sandbox::pod_uid,
        words::chain,
        worker::{Birth, Message, Worker, pod_key},
    },
    source::{PodEvent, Source, Wanted},
};

struct Entry {
    key: PodKey,
    message_tx: mpsc::UnboundedSender<Message>,
    ends: bool,
}

/// The manager's state; see the module.
pub struct Manager {
    node: Arc<Node>,
    pod_rx: mpsc::Receiver<PodEvent>,
    event_rx: mpsc::Receiver<RuntimeEvent>,
    audit_interval: Option<Duration>,
    wanted: BTreeMap<PodUid, Wanted>,
    /// Of the control plane's pods, those that were torn down here: their UIDs never start again.
    finished: BTreeSet<PodUid>,
    workers: HashMap<PodUid, Entry>,
    tasks: JoinSet<()>,
    /// Lists under way: the runtime's answer holds up nobody.
    lists: JoinSet<Result<Listed, bosun_cri::Error>>,
    task_uids: HashMap<Id, PodUid>,
    /// Sources that have not told yet of all they had at the start.
    awaited: BTreeSet<Source>,
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
    /// A manager fed by these two streams. What no source wants is ended once each of `sources` has told of all its
    /// pods. Without `audit_interval` nothing but events wakes a pod.
    pub fn new(
        node: Arc<Node>,
        pod_rx: mpsc::Receiver<PodEvent>,
        sources: BTreeSet<Source>,
        event_rx: mpsc::Receiver<RuntimeEvent>,
        audit_interval: Option<Duration>,
    ) -> Self {
        Self {
            node,
            pod_rx,
            event_rx,
            audit_interval,
            wanted: BTreeMap::new(),
            finished: BTreeSet::new(),
            workers: HashMap::new(),
            tasks: JoinSet::new(),
            lists: JoinSet::new(),
            task_uids: HashMap::new(),
            awaited: sources,
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
                event = self.pod_rx.recv() => match event {
                    Some(event) => list = self.source_event(event),
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
            if list && self.awaited.is_empty() && self.lists.is_empty() {
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

    /// Takes in a source's event; says whether leftovers can be told from now on.
    fn source_event(&mut self, event: PodEvent) -> bool {
        match event {
            PodEvent::Synced(source) => {
                if source == Source::File {
                    let files = self.wanted.iter().filter(|(_, wanted)| wanted.source == source);
                    self.node.board.expect(files.map(|(uid, _)| uid.clone()).collect());
                }
                return self.awaited.remove(&source) && self.awaited.is_empty();
            }
            PodEvent::Put(wanted) => {
                let uid = pod_uid(&wanted.pod);
                if let Some(entry) = self.workers.get(&uid).filter(|entry| !entry.ends)
                    && self.wanted.get(&uid).is_some_and(|known| known.pod != wanted.pod)
                {
                    let _ = entry.message_tx.send(Message::Update(wanted.pod.clone()));
                }
                self.wanted.insert(uid, wanted);
            }
            PodEvent::Removed(uid) => {
                self.wanted.remove(&uid);
                self.finished.remove(&uid);
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
        if ended.is_ok() && self.wanted.get(&uid).is_some_and(|wanted| wanted.source == Source::Api) {
            self.finished.insert(uid.clone());
        }
        if let (Err(error), Some(entry)) = (ended, entry) {
            // What is left of the pod is found by asking the runtime, as after a restart of the whole agent.
            tracing::error!(pod = %entry.key, %uid, %error, "the pod's worker panicked; starting another");
            self.node.routes.release(&entry.message_tx);
            self.leftovers_known = false;
            match self.wanted.get(&uid).cloned() {
                Some(wanted) => self.start(wanted.pod, Some(wanted.source)),
                None => self.start(Arc::new(orphan::bare_pod(&entry.key, &uid)), None),
            }
        }
    }

    /// Gives a worker to every pod that the runtime has something of.
    fn end_leftovers(&mut self, listed: Listed) {
        for pod in listed.pods {
            let uid = pod_uid(&pod);
            if !self.wanted.contains_key(&uid) && !self.workers.contains_key(&uid) {
                tracing::info!(pod = %pod_key(&pod), %uid, "pod is left over; ending it");
                self.start(Arc::new(pod), None);
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
        let wanted = self.wanted.iter().filter(|(uid, _)| !self.finished.contains(*uid));
        let wanted = wanted.map(|(uid, wanted)| (uid.clone(), pod_key(&wanted.pod)));
        let workers = self
            .workers
            .iter()
            .map(|(uid, entry)| (uid.clone(), (entry.key.clone(), entry.ends)));
        for action in plan_workers(&wanted.collect(), &workers.collect()) {
            match action {
                Action::End(uid) => {
                    if let Some(entry) = self.workers.get_mut(&uid) {
                        entry.ends = true;
                        let _ = entry.message_tx.send(Message::Remove);
                    }
                }
                Action::Start(uid) => {
                    if let Some(wanted) = self.wanted.get(&uid).cloned() {
                        self.start(wanted.pod, Some(wanted.source));
                    }
                }
            }
        }
    }

    /// Gives a pod a worker; without a source it is only to be ended.
    fn start(&mut self, pod: Arc<Pod>, source: Option<Source>) {
        let (uid, key) = (pod_uid(&pod), pod_key(&pod));
        let span = tracing::info_span!("pod", pod = %key, %uid);
        let birth = Birth {
            pod,
            is_new: self.leftovers_known && source.is_some(),
            source,
        };
        let (worker, message_tx) = span.in_scope(|| Worker::new(self.node.clone(), birth));
        let task = self.tasks.spawn(worker.run().instrument(span));
        self.task_uids.insert(task.id(), uid.clone());
        let entry = Entry {
            key,
            message_tx,
            ends: source.is_none(),
        };
        self.workers.insert(uid, entry);
    }
}

#[cfg(test)]
mod tests;
