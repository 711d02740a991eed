//! The pods that the control plane wants on this node: a watch by node name, told as [`PodEvent`]s.

use std::sync::Arc;

use bosun_api::{PodKey, core::Pod};
use bosun_client::{Change, Informer, informer};
use kube::api::Api as KubeApi;
use tokio::sync::mpsc;

use super::{Api, mirror::is_mirror};
use crate::{
    pod::{sandbox::pod_uid, worker::pod_key},
    source::{PodEvent, Source, Wanted},
};

/// What there is of mirror pods.
#[derive(Clone, Debug, PartialEq)]
pub enum MirrorNews {
    /// There is this one.
    Put(Arc<Pod>),
    /// There is none of this name.
    Removed(PodKey),
    /// All there were at the start were told.
    Synced,
}

/// What a change is to those who need to know.
#[derive(Clone, Debug, PartialEq)]
enum News {
    Pod(PodEvent),
    Mirror(MirrorNews),
}

/// Watches for as long as it is polled, or until nobody listens.
pub async fn watch(api: Api, pod_tx: mpsc::Sender<PodEvent>, mirror_tx: mpsc::UnboundedSender<MirrorNews>) {
    let config = informer::Config::default().fields(format!("spec.nodeName={}", api.node.name));
    let (informer, reader) = Informer::<Pod>::new(KubeApi::all(api.client.clone()), config);
    let mut changes = reader.subscribe();
    let tell = async |news: Vec<News>| {
        for news in news {
            let told = match news {
                News::Pod(event) => pod_tx.send(event).await.is_ok(),
                News::Mirror(news) => mirror_tx.send(news).is_ok(),
            };
            if !told {
                return false;
            }
        }
        true
    };
    let telling = async {
        reader.synced().await;
        let mut first = vec![];
        while let Ok(change) = changes.try_recv() {
            first.extend(news(change));
        }
        first.push(News::Pod(PodEvent::Synced(Source::Api)));
        first.push(News::Mirror(MirrorNews::Synced));
        let mut listened = tell(first).await;
        while listened && let Some(change) = changes.recv().await {
            listened = tell(news(change)).await;
        }
    };
    tokio::select! {
        () = informer.run() => {}
        () = telling => tracing::debug!("nobody asks for pods any more"),
    }
}

/// What a change is. A mirror only shows what runs from a file, and is never run. Pure.
fn news(change: Change<Pod>) -> Vec<News> {
    let put = |pod: Arc<Pod>| {
        if is_mirror(&pod) {
            return News::Mirror(MirrorNews::Put(pod));
        }
        let source = Source::Api;
        News::Pod(PodEvent::Put(Wanted { source, pod }))
    };
    let removed = |pod: &Pod| {
        if is_mirror(pod) {
            News::Mirror(MirrorNews::Removed(pod_key(pod)))
        } else {
            News::Pod(PodEvent::Removed(pod_uid(pod)))
        }
    };
    match change {
        Change::Added(pod) => vec![put(pod)],
        // Deleted and made again under its name, unheard of.
        Change::Updated { old, new } if pod_uid(&old) != pod_uid(&new) => vec![removed(&old), put(new)],
        Change::Updated { new, .. } => vec![put(new)],
        Change::Deleted(pod) => vec![removed(&pod)],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_that_another_took_the_name_of_is_removed_and_a_mirror_is_never_run() {
        let pod = |uid: &str| {
            let mut pod = Pod::default();
            pod.metadata.name = Some("a".into());
            pod.metadata.uid = Some(uid.into());
            Arc::new(pod)
        };
        let put = |uid: &str| {
            News::Pod(PodEvent::Put(Wanted {
                source: Source::Api,
                pod: pod(uid),
            }))
        };
        let removed = |uid: &str| News::Pod(PodEvent::Removed(uid.into()));
        let updated = |old: &str, new: &str| Change::Updated {
            old: pod(old),
            new: pod(new),
        };
        let mut mirror = Pod::default();
        mirror.metadata.annotations = Some([(bosun_api::labels::CONFIG_MIRROR.to_owned(), "hash".to_owned())].into());
        let mirror = Arc::new(mirror);
        let table = [
            (Change::Added(pod("u1")), vec![put("u1")]),
            (updated("u1", "u1"), vec![put("u1")]),
            (updated("u1", "u2"), vec![removed("u1"), put("u2")]),
            (Change::Deleted(pod("u2")), vec![removed("u2")]),
            (
                Change::Added(mirror.clone()),
                vec![News::Mirror(MirrorNews::Put(mirror.clone()))],
            ),
            (
                Change::Deleted(mirror.clone()),
                vec![News::Mirror(MirrorNews::Removed(pod_key(&mirror)))],
            ),
        ];
        for (change, expected) in table {
            assert_eq!(news(change.clone()), expected, "{change:?}");
        }
    }
}
