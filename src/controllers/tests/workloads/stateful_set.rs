use bosun_client::Change;
use k8s_openapi::api::apps::v1::StatefulSet;
use serde_json::json;
use tokio::{sync::mpsc, task::JoinSet, time::timeout};

use crate::cluster::{Cluster, PATIENCE, ready, template};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pods_of_a_stateful_set_come_and_go_in_order() {
    let cluster = Cluster::start().await;
    let mut tasks = JoinSet::new();
    let (told_tx, mut told) = mpsc::unbounded_channel();
    let mut changes = cluster.pods(&mut tasks).subscribe();
    tasks.spawn(async move {
        while let Some(change) = changes.recv().await {
            let word = match &change {
                Change::Added(_) => "made",
                Change::Updated { old, new } if !old.is_ready() && new.is_ready() => "ready",
                Change::Deleted(_) => "gone",
                Change::Updated { .. } => continue,
            };
            let _ = told_tx.send(format!("{} {word}", change.object().name()));
        }
    });
    let _controllers = cluster.controllers();
    let _kubelet = cluster.kubelet(|pod| (!pod.is_ready()).then(ready));
    let set = json!({
        "metadata": {"name": "db"},
        "spec": {"replicas": 3, "serviceName": "db", "selector": {"matchLabels": {"app": "web"}}, "template": template("one")},
    });
    cluster.create::<StatefulSet>(set).await;
    let mut next = async |number| {
        let mut words = vec![];
        for _ in 0..number {
            words.push(
                timeout(PATIENCE, told.recv())
                    .await
                    .expect("it goes on")
                    .expect("the watcher lives"),
            );
        }
        words
    };
    assert_eq!(
        next(6).await,
        [
            "db-0 made",
            "db-0 ready",
            "db-1 made",
            "db-1 ready",
            "db-2 made",
            "db-2 ready"
        ]
    );
    cluster
        .until::<StatefulSet>("db", |set| set.status.as_ref().unwrap().available_replicas == Some(3))
        .await;

    cluster
        .merge::<StatefulSet>(
            "db",
            json!({"spec": {"template": {"spec": {"containers": [{"name": "main", "image": "two"}]}}}}),
        )
        .await;
    assert_eq!(
        next(9).await,
        [
            "db-2 gone",
            "db-2 made",
            "db-2 ready",
            "db-1 gone",
            "db-1 made",
            "db-1 ready",
            "db-0 gone",
            "db-0 made",
            "db-0 ready",
        ]
    );
    let done = cluster
        .until::<StatefulSet>("db", |set| {
            let status = set.status.as_ref().unwrap();
            status.current_revision == status.update_revision && status.updated_replicas == Some(3)
        })
        .await;
    assert_eq!(done.status.unwrap().ready_replicas, Some(3));

    cluster
        .merge::<StatefulSet>("db", json!({"spec": {"replicas": 1}}))
        .await;
    assert_eq!(next(2).await, ["db-2 gone", "db-1 gone"]);
}
