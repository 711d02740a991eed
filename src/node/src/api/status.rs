//! Pods' statuses to the control plane: the newest of each, one call a pod at a time, tried until it is known there.
//!
//! When nothing is left here of a pod that was deleted, its object is told its last status and then removed.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use bosun_api::{
    PodUid,
    core::{Pod, PodStatus},
};
use kube::{
    Client,
    api::{Api as KubeApi, DeleteParams, Patch, PatchParams, Preconditions},
};
use serde_json::{Value, json};
use tokio::{task::JoinSet, time::Instant};

use super::{
    Api,
    call::{CallError, Delays, call},
    patch::status_patch,
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

/// Tells for as long as it is polled.
pub async fn keep(api: Api) {
    let mut teller = Teller {
        client: api.client.clone(),
        pods: BTreeMap::new(),
        due: BTreeSet::new(),
        calls: JoinSet::new(),
    };
    loop {
        let wake = teller.begin();
        tokio::select! {
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
    delays: Delays,
}

/// What a call brought about.
enum Done {
    /// The object's status is this now.
    Told(Value),
    Deleted,
}

struct Teller {
    client: Client,
    pods: BTreeMap<PodUid, Entry>,
    /// Pods of which something may have to be told.
    due: BTreeSet<PodUid>,
    calls: JoinSet<(PodUid, Result<Done, CallError>)>,
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
                let entry = self.pods.entry(uid.clone()).or_insert_with(|| Entry {
                    telling: Telling {
                        told: to_json(notice.pod.status.as_ref()),
                        newest: Value::Null,
                        pod: notice.pod.clone(),
                        gone: false,
                    },
                    busy: false,
                    not_before: Instant::now(),
                    delays: Delays::new(Duration::from_millis(200), Duration::from_secs(10)),
                });
                entry.telling.newest = to_json(Some(&notice.status));
                entry.telling.pod = notice.pod;
            }
            Some(_) => return,
            None => match self.pods.get_mut(&uid) {
                Some(entry) => entry.telling.gone = true,
                None => return,
            },
        }
        self.due.insert(uid);
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
                entry.delays.reset();
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
                let wait = entry.delays.after(&error);
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
