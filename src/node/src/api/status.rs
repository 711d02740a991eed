//! Pods' statuses to the control plane: the newest of each, one call a pod at a time, tried until it is known there.
//!
//! When nothing is left here of a pod that was deleted, its object is told its last status and then removed. A static
//! pod's status is told to its mirror, which is made and kept by the way.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use bosun_api::{
    PodKey, PodUid,
    core::{Pod, PodStatus},
};
use bosun_client::{CallError, backoff::Backoff, call};
use kube::{
    Client,
    api::{Api as KubeApi, DeleteParams, Patch, PatchParams, Preconditions},
};
use serde_json::{Value, json};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::Instant,
};

use super::{
    Api, delay,
    mirror::{self, Mirrors},
    patch::status_patch,
    pods::MirrorNews,
};
use crate::{
    node::Notice,
    pod::{words::chain, worker::pod_key},
    source::Source,
};

/// The fields of a pod's status that are a node's: what it leaves out of them is removed.
const OWNED: [&str; 13] = [
    "containerStatuses",
    "ephemeralContainerStatuses",
    "hostIP",
    "hostIPs",
    "initContainerStatuses",
    "message",
    "observedGeneration",
    "phase",
    "podIP",
    "podIPs",
    "qosClass",
    "reason",
    "startTime",
];

/// At most this many calls at a time.
const MOST_CALLS: usize = 16;

/// What to do next about one pod's object.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Write this of its status.
    Patch(Value),
    /// Remove it: nothing is left of the pod.
    Delete,
    /// Nothing, ever: the object is gone, or somebody else's matter.
    Forget,
    /// Nothing for now.
    Wait,
}

/// What is to be told of a pod, and what was.
#[derive(Clone, Debug)]
pub struct Telling {
    /// The pod as wanted.
    pub pod: Arc<Pod>,
    /// What is to be told; nothing before anything is known.
    pub newest: Value,
    /// What the control plane has.
    pub told: Value,
    /// Nothing of the pod is left here.
    pub gone: bool,
}

/// What is next. Pure.
pub fn plan(telling: &Telling) -> Step {
    if telling.gone && telling.pod.metadata.deletion_timestamp.is_none() {
        return Step::Forget;
    }
    match status_patch(&telling.told, &telling.newest, &OWNED) {
        Some(patch) => Step::Patch(json!({"metadata": {"uid": telling.pod.metadata.uid}, "status": patch})),
        None if telling.gone => Step::Delete,
        None => Step::Wait,
    }
}

/// Tells for as long as it is polled. Mirrors belong to the node, whose UID is known once it is registered.
pub async fn keep(
    api: Api,
    mut mirror_rx: mpsc::UnboundedReceiver<MirrorNews>,
    mut node_uid: watch::Receiver<Option<String>>,
) {
    let mut teller = Teller {
        client: api.client.clone(),
        pods: BTreeMap::new(),
        due: BTreeSet::new(),
        calls: JoinSet::new(),
        mirrors: Mirrors::default(),
        statics: BTreeMap::new(),
        mirror_calls: JoinSet::new(),
        mirror_busy: BTreeSet::new(),
        mirror_delays: Backoff::new(Duration::from_millis(200), Duration::from_secs(10)),
        mirrors_not_before: Instant::now(),
    };
    let mut statics_known = std::pin::pin!(api.node.board.complete());
    loop {
        let uid = node_uid.borrow_and_update().clone();
        let wake = [teller.begin(), teller.begin_mirrors(&api.node.name, uid)];
        let wake = wake.into_iter().flatten().min();
        tokio::select! {
            () = &mut statics_known, if !teller.mirrors.statics_known => teller.mirrors.statics_known = true,
            Some(news) = mirror_rx.recv() => teller.take_mirror(news),
            Some(done) = teller.mirror_calls.join_next() => match done {
                Ok((key, done)) => teller.finish_mirror(&key, done),
                Err(error) => std::panic::resume_unwind(error.into_panic()),
            },
            Ok(()) = node_uid.changed() => {}
            news = api.node.board.news() => for uid in news {
                let notice = api.node.board.get(&uid);
                teller.take(uid, notice);
            },
            Some(done) = teller.calls.join_next() => match done {
                Ok((uid, done)) => teller.finish(&uid, done),
                Err(error) => std::panic::resume_unwind(error.into_panic()),
            },
            () = until(wake) => {}
        }
    }
}

async fn until(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}

struct Entry {
    telling: Telling,
    busy: bool,
    not_before: Instant,
    delays: Backoff,
}

impl Entry {
    fn new(pod: Arc<Pod>) -> Self {
        Self {
            telling: Telling {
                told: to_json(pod.status.as_ref()),
                newest: Value::Null,
                pod,
                gone: false,
            },
            busy: false,
            not_before: Instant::now(),
            delays: Backoff::new(Duration::from_millis(200), Duration::from_secs(10)),
        }
    }
}

/// What a call brought about.
enum Done {
    /// The object's status is this now.
    Told(Value),
    Deleted,
}

/// The object that a step about a mirror left, if any.
type Made = Result<Option<Arc<Pod>>, CallError>;

struct Teller {
    client: Client,
    pods: BTreeMap<PodUid, Entry>,
    /// Pods of which something may have to be told.
    due: BTreeSet<PodUid>,
    calls: JoinSet<(PodUid, Result<Done, CallError>)>,
    mirrors: Mirrors,
    /// What is known of static pods.
    statics: BTreeMap<PodUid, Notice>,
    mirror_calls: JoinSet<(PodKey, Made)>,
    mirror_busy: BTreeSet<PodKey>,
    mirror_delays: Backoff,
    mirrors_not_before: Instant,
}

fn to_json(status: Option<&PodStatus>) -> Value {
    status.map_or(json!({}), |status| {
        serde_json::to_value(status).expect("a status is JSON")
    })
}

impl Teller {
    fn take(&mut self, uid: PodUid, notice: Option<Notice>) {
        match notice {
            Some(notice) if notice.source == Some(Source::Api) => {
                let entry = self.pods.entry(uid.clone());
                let entry = entry.or_insert_with(|| Entry::new(notice.pod.clone()));
                entry.telling.newest = to_json(Some(&notice.status));
                entry.telling.pod = notice.pod;
            }
            Some(notice) if notice.source == Some(Source::File) => {
                self.mirrors.statics.insert(pod_key(&notice.pod), notice.pod.clone());
                self.statics.insert(uid.clone(), notice);
                self.retarget(&uid);
            }
            Some(_) => return,
            None if self.statics.contains_key(&uid) => {
                if let Some(notice) = self.statics.remove(&uid) {
                    self.mirrors.statics.remove(&pod_key(&notice.pod));
                }
                self.pods.remove(&uid);
            }
            None => match self.pods.get_mut(&uid) {
                Some(entry) => entry.telling.gone = true,
                None => return,
            },
        }
        self.due.insert(uid);
    }

    /// A static pod's status goes to the object that shows the pod, if there is one.
    fn retarget(&mut self, uid: &PodUid) {
        let Some(notice) = self.statics.get(uid) else { return };
        let Some(object) = self.mirrors.of(&pod_key(&notice.pod), &notice.pod) else {
            self.pods.remove(uid);
            return;
        };
        let known = self.pods.get(uid).map(|entry| entry.telling.pod.metadata.uid.clone());
        if known.as_ref() != Some(&object.metadata.uid) {
            self.pods.insert(uid.clone(), Entry::new(object.clone()));
        }
        if let Some(entry) = self.pods.get_mut(uid) {
            entry.telling.newest = to_json(Some(&notice.status));
        }
        self.due.insert(uid.clone());
    }

    fn take_mirror(&mut self, news: MirrorNews) {
        let key = match news {
            MirrorNews::Put(object) => {
                let key = pod_key(&object);
                self.mirrors.objects.insert(key.clone(), object);
                key
            }
            MirrorNews::Removed(key) => {
                self.mirrors.objects.remove(&key);
                key
            }
            MirrorNews::Synced => {
                self.mirrors.objects_known = true;
                return;
            }
        };
        let shown = self.statics.iter().filter(|(_, notice)| pod_key(&notice.pod) == key);
        for uid in shown.map(|(uid, _)| uid.clone()).collect::<Vec<_>>() {
            self.retarget(&uid);
        }
    }

    /// Makes and removes mirrors; says when to look again.
    fn begin_mirrors(&mut self, node: &str, node_uid: Option<String>) -> Option<Instant> {
        let node_uid = node_uid?;
        let steps = self.mirrors.plan(&self.mirror_busy);
        if !steps.is_empty() && self.mirrors_not_before > Instant::now() {
            return Some(self.mirrors_not_before);
        }
        for (key, step) in steps {
            self.mirror_busy.insert(key.clone());
            let call = mirror::perform(self.client.clone(), step, node.to_owned(), node_uid.clone());
            self.mirror_calls.spawn(async move { (key, call.await) });
        }
        None
    }

    fn finish_mirror(&mut self, key: &PodKey, done: Made) {
        self.mirror_busy.remove(key);
        match done {
            Ok(made) => {
                self.mirror_delays.succeeded();
                // The watch may tell of it later; until then it is not to be made, or removed, again.
                match made {
                    Some(object) => self.take_mirror(MirrorNews::Put(object)),
                    None => self.take_mirror(MirrorNews::Removed(key.clone())),
                }
            }
            Err(error) => {
                self.mirrors_not_before = Instant::now() + delay(&mut self.mirror_delays, &error);
                tracing::warn!(pod = %key, error = chain(&error), "a static pod's mirror is not as it should be; trying again");
            }
        }
    }

    /// Begins what can begin; says when to look again.
    fn begin(&mut self) -> Option<Instant> {
        let now = Instant::now();
        let mut wake: Option<Instant> = None;
        for uid in std::mem::take(&mut self.due) {
            let Some(entry) = self.pods.get_mut(&uid) else { continue };
            if entry.busy {
                // Its end looks again.
                continue;
            }
            if entry.not_before > now || self.calls.len() >= MOST_CALLS {
                if entry.not_before > now {
                    wake = Some(wake.map_or(entry.not_before, |earlier| earlier.min(entry.not_before)));
                }
                self.due.insert(uid);
                continue;
            }
            let step = plan(&entry.telling);
            match step {
                Step::Wait => {}
                Step::Forget => {
                    self.pods.remove(&uid);
                }
                Step::Patch(_) | Step::Delete => {
                    entry.busy = true;
                    let call = perform(self.client.clone(), entry.telling.pod.clone(), step);
                    self.calls.spawn(async move { (uid, call.await) });
                }
            }
        }
        wake
    }

    fn finish(&mut self, uid: &PodUid, done: Result<Done, CallError>) {
        let Some(entry) = self.pods.get_mut(uid) else { return };
        entry.busy = false;
        match done {
            Ok(Done::Told(status)) => {
                entry.delays.succeeded();
                entry.telling.told = status;
            }
            Ok(Done::Deleted) => {
                self.pods.remove(uid);
                return;
            }
            // The object is gone, or another pod has its name.
            Err(error) if error.is_not_found() || error.is_conflict() => {
                tracing::debug!(%uid, error = chain(&error), "there is no object to tell of the pod");
                self.pods.remove(uid);
                return;
            }
            Err(error) => {
                let wait = delay(&mut entry.delays, &error);
                entry.not_before = Instant::now() + wait;
                tracing::warn!(pod = %pod_key(&entry.telling.pod), error = chain(&error),
                    "the control plane could not be told of a pod; trying again");
            }
        }
        self.due.insert(uid.clone());
    }
}

async fn perform(client: Client, pod: Arc<Pod>, step: Step) -> Result<Done, CallError> {
    let key = pod_key(&pod);
    let pods: KubeApi<Pod> = KubeApi::namespaced(client, &key.namespace);
    if let Step::Patch(patch) = step {
        let patch = Patch::Strategic(patch);
        let patched = call(pods.patch_status(&key.name, &PatchParams::default(), &patch)).await?;
        return Ok(Done::Told(to_json(patched.status.as_ref())));
    }
    let params = DeleteParams {
        grace_period_seconds: Some(0),
        preconditions: Some(Preconditions {
            uid: pod.metadata.uid.clone(),
            resource_version: None,
        }),
        ..DeleteParams::default()
    };
    call(pods.delete(&key.name, &params)).await?;
    tracing::info!(pod = %key, "the control plane was told that the pod is gone");
    Ok(Done::Deleted)
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;

    #[test]
    fn an_object_is_removed_after_its_last_status_and_only_if_it_was_deleted() {
        let pod = |deleted: bool| {
            let mut pod = Pod::default();
            pod.metadata.uid = Some("u1".into());
            pod.metadata.deletion_timestamp = deleted.then_some(Time(Timestamp::UNIX_EPOCH));
            Arc::new(pod)
        };
        let patch = Step::Patch(json!({"metadata": {"uid": "u1"}, "status": {"phase": "Failed"}}));
        // (deleted, gone, told, expected)
        let table = [
            (false, false, "Running", patch.clone()),
            (false, false, "Failed", Step::Wait),
            (true, false, "Failed", Step::Wait),
            (true, true, "Running", patch),
            (true, true, "Failed", Step::Delete),
            // Removed by force, or by whoever wants it elsewhere.
            (false, true, "Running", Step::Forget),
        ];
        for (deleted, gone, told, expected) in table {
            let telling = Telling {
                pod: pod(deleted),
                newest: json!({"phase": "Failed"}),
                told: json!({"phase": told}),
                gone,
            };
            assert_eq!(plan(&telling), expected, "deleted {deleted}, gone {gone}, told {told}");
        }
    }
}
