use std::sync::atomic::{AtomicI64, Ordering};

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::{CronJob, Job};
use serde_json::json;

use crate::cluster::{Cluster, ended};

/// The time it is for the controller, in seconds.
static NOW: AtomicI64 = AtomicI64::new(0);

fn clock() -> Timestamp {
    Timestamp::from_second(NOW.load(Ordering::Relaxed)).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cron_job_makes_a_job_each_time_and_keeps_the_last_ones() {
    let cluster = Cluster::start().await;
    // The hour after the CronJob is made.
    let hour = Timestamp::now().as_second() / 3600 * 3600 + 3600;
    NOW.store(hour - 60, Ordering::Relaxed);
    let _controllers = cluster.controllers_by(clock);
    let _kubelet = cluster.kubelet(|pod| (!pod.is_finished()).then(|| ended(true)));
    let pod = json!({"spec": {"restartPolicy": "Never", "containers": [{"name": "main", "image": "image"}]}});
    let cron = json!({
        "metadata": {"name": "tidy"},
        "spec": {"schedule": "0 * * * *", "successfulJobsHistoryLimit": 1, "jobTemplate": {"spec": {"template": pod}}},
    });
    cluster.create::<CronJob>(cron).await;
    for times in 0..3 {
        NOW.store(hour + times * 3600, Ordering::Relaxed);
        // The delay until the next time was asked of the real clock: this wakes the controller before.
        let wake = json!({"metadata": {"annotations": {"times": times.to_string()}}});
        cluster.merge::<CronJob>("tidy", wake).await;
        let due = hour + times * 3600;
        let name = format!("tidy-{}", due / 60);
        cluster
            .until::<Job>(&name, |job| {
                job.status
                    .as_ref()
                    .is_some_and(|status| status.completion_time.is_some())
            })
            .await;
        let done = cluster
            .until::<CronJob>("tidy", |cron| {
                let status = cron.status.clone().unwrap_or_default();
                status.active.is_none() && status.last_schedule_time.is_some_and(|last| last.0.as_second() == due)
            })
            .await;
        assert!(done.status.unwrap().last_successful_time.is_some());
    }
    // The garbage collector isn't here: what is deleted with its pods is gone at once.
    let jobs = cluster.api::<Job>();
    let gone = async {
        loop {
            let left = jobs
                .list_metadata(&kube::api::ListParams::default())
                .await
                .unwrap()
                .items
                .len();
            if left == 1 {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(crate::cluster::PATIENCE, gone)
        .await
        .expect("older jobs are deleted");
}
