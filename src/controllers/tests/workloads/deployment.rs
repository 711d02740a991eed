use std::collections::BTreeMap;

use bosun_client::Change;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use kube::api::ListParams;
use serde_json::{Value, json};
use tokio::{sync::watch, task::JoinSet, time::timeout};

use crate::cluster::{Cluster, PATIENCE, ready, template};

const REVISION: &str = "deployment.kubernetes.io/revision";

fn deployment(image: &str) -> Value {
    json!({
        "metadata": {"name": "web"},
        "spec": {
            "replicas": 3, "selector": {"matchLabels": {"app": "web"}}, "template": template(image),
            "strategy": {"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
        },
    })
}

fn image(image: &str) -> Value {
    json!({"spec": {"template": {"spec": {"containers": [{"name": "main", "image": image}]}}}})
}

/// The rollout is complete, by what `kubectl rollout status` looks at.
fn is_done(deployment: &Deployment, revision: &str) -> bool {
    let (spec, status) = (deployment.spec.as_ref().unwrap(), deployment.status.as_ref().unwrap());
    let wanted = spec.replicas;
    let noted = deployment
        .metadata
        .annotations
        .iter()
        .flatten()
        .any(|(key, value)| key == REVISION && value == revision);
    noted
        && status.observed_generation == deployment.metadata.generation
        && [status.replicas, status.updated_replicas, status.available_replicas]
            .iter()
            .all(|count| *count == wanted)
}

async fn sets(cluster: &Cluster) -> BTreeMap<String, (i32, String)> {
    let sets = cluster.api::<ReplicaSet>().list(&ListParams::default()).await.unwrap();
    let told = sets.items.into_iter().map(|set| {
        let spec = set.spec.unwrap();
        let image = spec.template.unwrap().spec.unwrap().containers[0]
            .image
            .clone()
            .unwrap();
        (
            image,
            (
                spec.replicas.unwrap(),
                set.metadata.annotations.unwrap()[REVISION].clone(),
            ),
        )
    });
    told.collect()
}

/// Notes the fewest pods that served at once, from when there first were `wanted`.
fn least_ready(cluster: &Cluster, wanted: usize, tasks: &mut JoinSet<()>) -> watch::Receiver<Option<usize>> {
    let (least_tx, least) = watch::channel(None);
    let mut changes = cluster.pods(tasks).subscribe();
    tasks.spawn(async move {
        let mut serving = BTreeMap::new();
        while let Some(change) = changes.recv().await {
            let pod = change.object();
            let serves = !matches!(change, Change::Deleted(_)) && pod.is_ready() && pod.is_active();
            serving.insert(pod.name().to_owned(), serves);
            let now = serving.values().filter(|serves| **serves).count();
            least_tx.send_modify(|least| match least {
                None if now >= wanted => *least = Some(now),
                Some(fewest) => *fewest = now.min(*fewest),
                None => {}
            });
        }
    });
    least
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rollout_never_has_fewer_pods_than_wanted_and_can_be_undone_and_paused() {
    let cluster = Cluster::start().await;
    let _controllers = cluster.controllers();
    let _kubelet = cluster.kubelet(|pod| (!pod.is_ready()).then(ready));
    let mut tasks = JoinSet::new();
    let mut least = least_ready(&cluster, 3, &mut tasks);

    cluster.create::<Deployment>(deployment("one")).await;
    cluster.until::<Deployment>("web", |web| is_done(web, "1")).await;
    timeout(PATIENCE, least.wait_for(Option::is_some))
        .await
        .unwrap()
        .unwrap();

    cluster.merge::<Deployment>("web", image("two")).await;
    cluster.until::<Deployment>("web", |web| is_done(web, "2")).await;
    let known = sets(&cluster).await;
    assert_eq!(
        (&known["one"], &known["two"]),
        (&(0, "1".to_owned()), &(3, "2".to_owned()))
    );

    // `kubectl rollout undo` sends the template of the old set.
    cluster.merge::<Deployment>("web", image("one")).await;
    cluster.until::<Deployment>("web", |web| is_done(web, "3")).await;
    let known = sets(&cluster).await;
    assert_eq!(
        (&known["one"], &known["two"]),
        (&(3, "3".to_owned()), &(0, "2".to_owned()))
    );
    assert_eq!(*least.borrow(), Some(3), "fewer pods served than were wanted");

    cluster
        .merge::<Deployment>("web", json!({"spec": {"paused": true}}))
        .await;
    let mut change = image("three");
    change["spec"]["replicas"] = 5.into();
    let paused = cluster.merge::<Deployment>("web", change).await;
    // Scaled, though nothing new is rolled out.
    cluster
        .until::<Deployment>("web", |web| {
            let status = web.status.as_ref().unwrap();
            status.observed_generation >= paused.metadata.generation && status.available_replicas == Some(5)
        })
        .await;
    assert!(!sets(&cluster).await.contains_key("three"));
    cluster
        .merge::<Deployment>("web", json!({"spec": {"paused": false}}))
        .await;
    let done = cluster.until::<Deployment>("web", |web| is_done(web, "4")).await;
    let conditions = done.status.unwrap().conditions.unwrap();
    let progressing = conditions
        .iter()
        .find(|condition| condition.type_ == "Progressing")
        .unwrap();
    assert_eq!(progressing.reason.as_deref(), Some("NewReplicaSetAvailable"));
    assert_eq!(sets(&cluster).await["three"], (5, "4".to_owned()));
}
