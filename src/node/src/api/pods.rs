//! The pods that the control plane wants on this node: a watch by node name, told as [`PodEvent`]s.

use std::{
    collections::{BTreeMap, BTreeSet},
    pin::pin,
    sync::Arc,
};

use bosun_api::{PodUid, core::Pod, labels};
use futures_util::StreamExt;
use kube::{
    api::Api as KubeApi,
    runtime::{
        WatchStreamExt,
        watcher::{self, Event, watcher},
    },
};
use tokio::sync::mpsc;

use super::Api;
use crate::{
    pod::{sandbox::pod_uid, words::chain, worker::pod_key},
    source::{PodEvent, Source, Wanted},
};

/// Watches for as long as it is polled, or until nobody listens.
pub async fn watch(api: Api, pod_tx: mpsc::Sender<PodEvent>) {
    let pods: KubeApi<Pod> = KubeApi::all(api.client.clone());
    let config = watcher::Config::default().fields(&format!("spec.nodeName={}", api.node.name));
    let mut events = pin!(watcher(pods, config).default_backoff());
    let mut index = Index::default();
    while let Some(event) = events.next().await {
        let news = match event {
            Ok(event) => index.news(event),
            Err(error) => {
                tracing::warn!(
                    error = chain(&error),
                    "the control plane does not tell of pods; those here run on"
                );
                continue;
            }
        };
        for event in news {
            if pod_tx.send(event).await.is_err() {
                return;
            }
        }
    }
}

/// The pods told of, by name. Pure.
#[derive(Debug, Default)]
struct Index {
    pods: BTreeMap<String, PodUid>,
    /// While a list is being told: the names in it so far.
    listed: Option<BTreeSet<String>>,
    synced: bool,
}

impl Index {
    fn news(&mut self, event: Event<Pod>) -> Vec<PodEvent> {
        match event {
            Event::Init => {
                self.listed = Some(BTreeSet::new());
                vec![]
            }
            Event::InitApply(pod) => {
                let name = pod_key(&pod).to_string();
                let news = self.put(name.clone(), pod);
                if let Some(listed) = &mut self.listed {
                    listed.insert(name);
                }
                news
            }
            Event::InitDone => {
                let listed = self.listed.take().unwrap_or_default();
                let gone = self.pods.extract_if(.., |name, _| !listed.contains(name));
                let mut news: Vec<_> = gone.map(|(_, uid)| PodEvent::Removed(uid)).collect();
                if !std::mem::replace(&mut self.synced, true) {
                    news.push(PodEvent::Synced(Source::Api));
                }
                news
            }
            Event::Apply(pod) => self.put(pod_key(&pod).to_string(), pod),
            Event::Delete(pod) => {
                let gone = self.pods.remove(&pod_key(&pod).to_string());
                gone.map(PodEvent::Removed).into_iter().collect()
            }
        }
    }

    fn put(&mut self, name: String, mut pod: Pod) -> Vec<PodEvent> {
        // A mirror only shows what runs from a file.
        let annotations = pod.metadata.annotations.as_ref();
        if annotations.is_some_and(|annotations| annotations.contains_key(labels::CONFIG_MIRROR)) {
            return vec![];
        }
        // Half of an object, and no use to a node.
        pod.metadata.managed_fields = None;
        let uid = pod_uid(&pod);
        let earlier = self.pods.insert(name, uid.clone()).filter(|earlier| *earlier != uid);
        let put = PodEvent::Put(Wanted {
            source: Source::Api,
            pod: Arc::new(pod),
        });
        earlier.map(PodEvent::Removed).into_iter().chain([put]).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(name: &str, uid: &str) -> Pod {
        let mut pod = Pod::default();
        pod.metadata.name = Some(name.into());
        pod.metadata.namespace = Some("default".into());
        pod.metadata.uid = Some(uid.into());
        pod
    }

    #[test]
    fn a_watch_that_begins_anew_tells_what_went_meanwhile() {
        let mut index = Index::default();
        let put = |name: &str, uid: &str| {
            PodEvent::Put(Wanted {
                source: Source::Api,
                pod: Arc::new(pod(name, uid)),
            })
        };
        let removed = |uid: &str| PodEvent::Removed(uid.into());
        let mut mirror = pod("static-n1", "u9");
        mirror.metadata.annotations = Some([(labels::CONFIG_MIRROR.to_owned(), "hash".to_owned())].into());
        let table = [
            (Event::Init, vec![]),
            (Event::InitApply(pod("a", "u1")), vec![put("a", "u1")]),
            (Event::InitApply(pod("b", "u2")), vec![put("b", "u2")]),
            (Event::InitApply(mirror), vec![]),
            (Event::InitDone, vec![PodEvent::Synced(Source::Api)]),
            (Event::Apply(pod("c", "u3")), vec![put("c", "u3")]),
            (Event::Delete(pod("b", "u2")), vec![removed("u2")]),
            // The watch broke: a was replaced by another of its name, c is gone.
            (Event::Init, vec![]),
            (Event::InitApply(pod("a", "u4")), vec![removed("u1"), put("a", "u4")]),
            (Event::InitDone, vec![removed("u3")]),
        ];
        for (event, expected) in table {
            assert_eq!(index.news(event.clone()), expected, "{event:?}");
        }
    }
}
