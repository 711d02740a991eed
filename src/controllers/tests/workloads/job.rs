use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use bosun_client::Change;
use k8s_openapi::api::batch::v1::Job;
use serde_json::{Value, json};
use tokio::{sync::watch, task::JoinSet, time::sleep};

use crate::cluster::{Cluster, ended, ready};

const INDEX: &str = "batch.kubernetes.io/job-completion-index";

#[derive(Default)]
struct Seen {
    made: BTreeSet<String>,
    succeeded: BTreeSet<String>,
    failed: BTreeSet<String>,
    running: BTreeMap<String, String>,
    most: usize,
    doubled: Vec<String>,
}

/// Notes what becomes of pods.
fn observe(cluster: &Cluster, tasks: &mut JoinSet<()>) -> watch::Receiver<Seen> {
    let (seen_tx, seen) = watch::channel(Seen::default());
    let mut changes = cluster.pods(tasks).subscribe();
    tasks.spawn(async move {
        while let Some(change) = changes.recv().await {
            let pod = change.object();
            let name = pod.name().to_owned();
            seen_tx.send_modify(|seen| {
                seen.made.insert(name.clone());
                if pod.is_finished() || matches!(change, Change::Deleted(_)) {
                    seen.running.remove(&name);
                } else {
                    let index = pod.annotation(INDEX).unwrap_or_default().to_owned();
                    if !index.is_empty() && seen.running.iter().any(|(other, at)| *at == index && *other != name) {
                        seen.doubled.push(name.clone());
                    }
                    seen.running.insert(name.clone(), index);
                }
                seen.most = seen.most.max(seen.running.len());
                match pod.status.phase {
                    bosun_controllers::objects::pod::Phase::Succeeded => seen.succeeded.insert(name),
                    bosun_controllers::objects::pod::Phase::Failed => seen.failed.insert(name),
                    _ => false,
                };
            });
        }
    });
    seen
}

fn job(name: &str, mode: &str) -> Value {
    json!({
        "metadata": {"name": name},
        "spec": {
            "completions": 8, "parallelism": 3, "completionMode": mode, "backoffLimit": 100,
            "template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "main", "image": "image"}]}},
        },
    })
}

fn is_over(job: &Job) -> bool {
    let conditions = job.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions
        .into_iter()
        .any(|condition| condition.type_ == "Complete" && condition.status == "True")
}

async fn survives(mode: &str) {
    let cluster = Cluster::start().await;
    let mut tasks = JoinSet::new();
    let seen = observe(&cluster, &mut tasks);
    // Each pod runs, then ends; every fifth one badly, long ago, so that nobody waits for long.
    let _kubelet = cluster.kubelet(|pod| match pod.is_ready() {
        _ if pod.is_finished() => None,
        false => Some(ready()),
        true => Some(ended(pod.uid().bytes().map(u32::from).sum::<u32>() % 5 > 0)),
    });
    cluster.create::<Job>(job("work", mode)).await;
    let mut lives = 0;
    let over = async {
        cluster.until::<Job>("work", is_over).await;
    };
    tokio::pin!(over);
    loop {
        lives += 1;
        let controllers = cluster.controllers();
        // A few of the first lives are cut short anywhere in the work.
        let life = if lives < 25 {
            Duration::from_millis(fastrand::u64(5..150))
        } else {
            Duration::MAX
        };
        tokio::select! {
            () = &mut over => break,
            () = sleep(life) => {}
        }
        controllers.end().await;
        // The store does one write after the other: what the dead one had sent is done before this is.
        let last = json!({"metadata": {"annotations": {"lives": lives.to_string()}}});
        cluster.merge::<Job>("work", last).await;
    }
    let done = cluster.until::<Job>("work", is_over).await;
    let status = done.status.unwrap();
    let seen = seen.borrow();
    assert_eq!(status.succeeded, Some(8), "after {lives} lives");
    assert_eq!(seen.succeeded.len(), 8, "after {lives} lives");
    assert_eq!(
        status.failed.unwrap_or_default() as usize,
        seen.failed.len(),
        "after {lives} lives"
    );
    assert_eq!(
        seen.made.len(),
        seen.succeeded.len() + seen.failed.len(),
        "after {lives} lives"
    );
    assert!(seen.most <= 3, "{} ran at once", seen.most);
    assert!(seen.doubled.is_empty(), "{:?} were second", seen.doubled);
    let uncounted = status.uncounted_terminated_pods.unwrap_or_default();
    assert_eq!((uncounted.succeeded, uncounted.failed), (None, None));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_counts_each_pod_once_however_often_its_controller_is_killed() {
    survives("NonIndexed").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_indexed_job_never_has_two_pods_of_one_index_however_often_its_controller_is_killed() {
    survives("Indexed").await;
}
