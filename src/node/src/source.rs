//! Where pods come from, in one shape of event.
//!
//! A source tells of pods by UID: what each is to be from now on, that one is wanted no more, and once, that all it had
//! at the start was told. [`from_manifests`] makes such events of the directory's; `api::pods` of the control plane's.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use bosun_api::{PodUid, core::Pod};
use parking_lot::RwLock;
use tokio::sync::mpsc;

use crate::{
    manifest::ManifestEvent,
    pod::{sandbox::pod_uid, worker::pod_key},
};

/// Manifests that can't be used, by file, with what is wrong.
pub type InvalidManifests = Arc<RwLock<BTreeMap<String, String>>>;

/// Who wants a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// A file on this machine: a static pod.
    File,
    /// The control plane.
    Api,
}

/// A pod and who wants it.
#[derive(Clone, Debug, PartialEq)]
pub struct Wanted {
    /// Who wants it.
    pub source: Source,
    /// The newest version of it.
    pub pod: Arc<Pod>,
}

/// News of a source.
#[derive(Clone, Debug, PartialEq)]
pub enum PodEvent {
    /// The pod is to be as this says: a new one, or a newer version of one that is known. With a deletion timestamp
    /// it is to end.
    Put(Wanted),
    /// The source has it no more.
    Removed(PodUid),
    /// All that the source had at the start was told: what it did not tell of, it does not want.
    Synced(Source),
}

/// The directory's events as pods' events, until either side ends. What is wrong with a file is written to `invalid`.
pub async fn from_manifests(
    mut manifest_rx: mpsc::Receiver<ManifestEvent>,
    pod_tx: mpsc::Sender<PodEvent>,
    invalid: InvalidManifests,
) {
    let mut files = Files::default();
    while let Some(event) = manifest_rx.recv().await {
        match &event {
            ManifestEvent::Valid { file, .. } | ManifestEvent::Removed { file } => {
                invalid.write().remove(file);
            }
            ManifestEvent::Invalid { file, error } => {
                invalid.write().insert(file.clone(), error.to_string());
            }
            ManifestEvent::Synced => {}
        }
        for event in files.news(event) {
            if pod_tx.send(event).await.is_err() {
                return;
            }
        }
    }
}

/// Which pod each file defines. Pure.
#[derive(Debug, Default)]
struct Files(HashMap<String, PodUid>);

impl Files {
    fn news(&mut self, event: ManifestEvent) -> Vec<PodEvent> {
        match event {
            ManifestEvent::Valid { file, pod } => {
                let uid = pod_uid(&pod);
                tracing::info!(file, pod = %pod_key(&pod), %uid, "manifest read");
                let earlier = self.0.insert(file, uid.clone()).filter(|earlier| *earlier != uid);
                let put = PodEvent::Put(Wanted {
                    source: Source::File,
                    pod,
                });
                earlier.map(PodEvent::Removed).into_iter().chain([put]).collect()
            }
            // The earlier good version, if there was one, goes on.
            ManifestEvent::Invalid { .. } => vec![],
            ManifestEvent::Removed { file } => {
                tracing::info!(file, "manifest removed");
                self.0.remove(&file).map(PodEvent::Removed).into_iter().collect()
            }
            ManifestEvent::Synced => vec![PodEvent::Synced(Source::File)],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::Problem;

    #[test]
    fn a_file_that_defines_another_pod_removes_the_one_before() {
        let pod = |uid: &str| {
            let mut pod = Pod::default();
            pod.metadata.uid = Some(uid.into());
            Arc::new(pod)
        };
        let valid = |uid: &str| ManifestEvent::Valid {
            file: "a.yaml".into(),
            pod: pod(uid),
        };
        let put = |uid: &str| {
            PodEvent::Put(Wanted {
                source: Source::File,
                pod: pod(uid),
            })
        };
        let removed = |uid: &str| PodEvent::Removed(uid.into());
        let gone = || ManifestEvent::Removed { file: "a.yaml".into() };
        let invalid = ManifestEvent::Invalid {
            file: "a.yaml".into(),
            error: Problem::NotAFile,
        };
        let mut files = Files::default();
        let table = [
            (valid("u1"), vec![put("u1")]),
            (valid("u1"), vec![put("u1")]),
            (invalid, vec![]),
            (valid("u2"), vec![removed("u1"), put("u2")]),
            (ManifestEvent::Synced, vec![PodEvent::Synced(Source::File)]),
            (gone(), vec![removed("u2")]),
            (gone(), vec![]),
        ];
        for (event, expected) in table {
            assert_eq!(files.news(event.clone()), expected, "{event:?}");
        }
    }
}
