use std::{collections::BTreeMap, sync::Arc};

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::workload::testing::{at, merge, now, object, phase, pod, terminating};

fn job(changes: &Value) -> Arc<Job> {
    let base = json!({
        "metadata": {"name": "work", "namespace": "default", "uid": "work"},
        "spec": {
            "parallelism": 2, "completions": 4, "backoffLimit": 1, "completionMode": "NonIndexed",
            "template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "c"}], "initContainers": [{"name": "i"}]}},
        },
        "status": {"startTime": "2026-01-01T11:00:00Z"},
    });
    object(&base, changes)
}

fn indexed(changes: &Value) -> Arc<Job> {
    let mut all = json!({"spec": {"completionMode": "Indexed"}});
    merge(&mut all, changes);
    job(&all)
}

fn member(name: &str, changes: &Value) -> Arc<Pod> {
    let mut all = json!({"metadata": {"finalizers": [TRACKING]}});
    merge(&mut all, changes);
    pod(name, "work", &all)
}

fn of_index(name: &str, index: u32, changes: &Value) -> Arc<Pod> {
    let mut all = json!({"metadata": {"annotations": {COMPLETION_INDEX: index.to_string()}}});
    merge(&mut all, changes);
    member(name, &all)
}

fn planned(job: &Job, pods: &[Arc<Pod>]) -> Plan {
    plan(Snapshot {
        job,
        pods,
        settled: true,
        backoff: Some(Backoff::default()),
        now: now(),
    })
}

fn names(pods: &[Arc<Pod>]) -> Vec<&str> {
    pods.iter().map(|pod| pod.name()).collect()
}

/// Whether a condition is true, and why.
fn reason<'a>(plan: &'a Plan, type_: &str) -> Option<&'a str> {
    let conditions = plan.status.as_ref()?.conditions.as_ref()?;
    let condition = conditions
        .iter()
        .find(|condition| condition.type_ == type_ && condition.status == "True")?;
    condition.reason.as_deref()
}

/// What ended an hour ago, so that nothing waits for it.
fn ended(how: &str) -> Value {
    let end = json!({"exitCode": i32::from(how == "Failed"), "finishedAt": "2026-01-01T11:00:00Z"});
    json!({"status": {"phase": how, "conditions": [], "containerStatuses": [{"name": "c", "state": {"terminated": end}}]}})
}

#[test]
fn as_many_pods_run_as_may_and_as_there_is_work_for() {
    let spec = |spec: Value| json!({"spec": spec});
    let run = |name: &str| member(name, &json!({}));
    let done = |name: &str| member(name, &ended("Succeeded"));
    for (why, changes, pods, created, discarded) in [
        ("none runs", json!({}), vec![], 2, 0),
        ("one runs", json!({}), vec![run("a")], 1, 0),
        ("all run", json!({}), vec![run("a"), run("b")], 0, 0),
        ("little is left", json!({"status": {"succeeded": 3}}), vec![], 1, 0),
        (
            "little is left but what is seen",
            json!({"status": {"succeeded": 2}}),
            vec![done("a")],
            1,
            0,
        ),
        (
            "fewer may run",
            spec(json!({"parallelism": 1})),
            vec![run("a"), run("b")],
            0,
            1,
        ),
        ("none may run", spec(json!({"parallelism": 0})), vec![], 0, 0),
        (
            "it is suspended",
            spec(json!({"suspend": true})),
            vec![run("a"), run("b")],
            0,
            2,
        ),
        (
            "any success suffices, and none is there",
            spec(json!({"completions": null})),
            vec![run("a")],
            1,
            0,
        ),
        (
            "any success suffices, and one is there",
            spec(json!({"completions": null})),
            vec![run("a"), done("b")],
            0,
            0,
        ),
        (
            "an ending pod counts as failed",
            spec(json!({"backoffLimit": 5})),
            vec![member("a", &terminating()), run("b")],
            1,
            0,
        ),
        (
            "or runs until it has ended",
            spec(json!({"podReplacementPolicy": "Failed"})),
            vec![member("a", &terminating()), run("b")],
            0,
            0,
        ),
        (
            "it is deleted",
            json!({"metadata": {"deletionTimestamp": "2026-01-01T11:00:00Z"}}),
            vec![],
            0,
            0,
        ),
        (
            "somebody else sees to it",
            spec(json!({"managedBy": "example.com/me"})),
            vec![],
            0,
            0,
        ),
    ] {
        let plan = planned(&job(&changes), &pods);
        assert_eq!((plan.create.len(), plan.discard.len()), (created, discarded), "{why}");
        assert!(plan.delete.is_empty(), "{why}");
    }
}

#[test]
fn nothing_is_made_before_all_that_was_made_is_seen() {
    let plan = plan(Snapshot {
        job: &job(&json!({})),
        pods: &[],
        settled: false,
        backoff: None,
        now: now(),
    });
    assert!(plan.create.is_empty());
}

#[test]
fn a_failure_delays_the_next_pod() {
    let end = json!({"exitCode": 1, "finishedAt": "2026-01-01T11:59:55Z"});
    let failed = json!({"status": {"phase": "Failed", "conditions": [], "containerStatuses": [{"name": "c", "state": {"terminated": end}}]}});
    let plan = planned(&job(&json!({})), &[member("a", &failed)]);
    assert!(plan.create.is_empty());
    assert_eq!(plan.next, Some(at("2026-01-01T12:00:05Z")));
    assert_eq!(plan.backoff, Backoff::of(1, at("2026-01-01T11:59:55Z")));
    // A new start knows it from the pods.
    let anew = super::plan(Snapshot {
        job: &job(&json!({})),
        pods: &[member("a", &failed)],
        settled: true,
        backoff: None,
        now: now(),
    });
    assert_eq!(anew.next, plan.next);
}

#[test]
fn pods_carry_what_counts_them() {
    let plain = planned(&job(&json!({})), &[]);
    assert_eq!(plain.create[0]["metadata"]["finalizers"], json!([TRACKING]));
    assert_eq!(plain.create[0]["metadata"]["generateName"], "work-");

    let plan = planned(
        &indexed(&json!({"spec": {"backoffLimitPerIndex": 1}})),
        &[of_index("a", 0, &json!({}))],
    );
    let pod = &plan.create[0];
    assert_eq!(
        pod["metadata"]["annotations"],
        json!({COMPLETION_INDEX: "1", INDEX_FAILURES: "0"})
    );
    assert_eq!(pod["metadata"]["labels"][COMPLETION_INDEX], "1");
    assert_eq!(pod["metadata"]["generateName"], "work-1-");
    assert_eq!(pod["spec"]["hostname"], "work-1");
    let variable = json!([{
        "name": "JOB_COMPLETION_INDEX",
        "valueFrom": {"fieldRef": {"fieldPath": format!("metadata.labels['{COMPLETION_INDEX}']")}},
    }]);
    assert_eq!(
        (
            &pod["spec"]["containers"][0]["env"],
            &pod["spec"]["initContainers"][0]["env"]
        ),
        (&variable, &variable)
    );

    let long = "x".repeat(63);
    let plan = planned(&indexed(&json!({"metadata": {"name": long}})), &[]);
    let prefix = plan.create[0]["metadata"]["generateName"].as_str().unwrap();
    assert_eq!((prefix.len(), prefix.ends_with("-0-")), (58, true));
}

#[test]
fn each_index_has_one_pod_until_it_succeeded() {
    let indexes = |plan: &Plan| -> Vec<_> {
        let index = |pod: &Value| {
            pod["metadata"]["annotations"][COMPLETION_INDEX]
                .as_str()
                .unwrap()
                .to_owned()
        };
        plan.create.iter().map(index).collect()
    };
    let run = |name: &str, index| of_index(name, index, &json!({}));
    let done = |name: &str, index| of_index(name, index, &ended("Succeeded"));
    for (why, changes, pods, created, discarded) in [
        ("none runs", json!({}), vec![], vec!["0", "1"], vec![]),
        ("one is done", json!({}), vec![done("a", 0)], vec!["1", "2"], vec![]),
        (
            "one was done",
            json!({"status": {"completedIndexes": "0,2"}}),
            vec![run("a", 1)],
            vec!["3"],
            vec![],
        ),
        (
            "two have one index",
            json!({}),
            vec![run("a", 0), run("b", 0)],
            vec![],
            vec!["a"],
        ),
        (
            "an index is beyond",
            json!({}),
            vec![run("a", 0), run("b", 9)],
            vec![],
            vec!["b"],
        ),
        (
            "a pod without an index",
            json!({}),
            vec![member("a", &json!({}))],
            vec![],
            vec!["a"],
        ),
    ] {
        let plan = planned(&indexed(&changes), &pods);
        assert_eq!(indexes(&plan), created, "{why}");
        assert_eq!(names(&plan.discard), discarded, "{why}");
    }
}

#[test]
fn a_job_ends_well_when_all_is_done_and_counted() {
    let done = |name: &str| member(name, &ended("Succeeded"));
    let plan = planned(&job(&json!({"status": {"succeeded": 3}})), &[done("a")]);
    let status = plan.status.clone().unwrap();
    assert_eq!(reason(&plan, "SuccessCriteriaMet"), Some("CompletionsReached"));
    assert_eq!(reason(&plan, "Complete"), None);
    assert_eq!(
        status.uncounted_terminated_pods.as_ref().unwrap().succeeded,
        Some(vec!["uid-a".to_owned()])
    );
    assert_eq!((status.succeeded, names(&plan.release)), (Some(3), vec!["a"]));

    // The finalizer is gone: now it is counted, and the Job is over.
    let after = job(&json!({"status": status}));
    let counted = pod("a", "work", &ended("Succeeded"));
    let plan = planned(&after, &[counted]);
    let status = plan.status.clone().unwrap();
    assert_eq!(reason(&plan, "Complete"), Some("CompletionsReached"));
    assert_eq!(
        (status.succeeded, status.completion_time.as_ref().map(|time| time.0)),
        (Some(4), Some(now()))
    );
    assert_eq!(plan.events[0].reason, "Completed");
    let over = planned(&job(&json!({"status": status})), &[member("late", &json!({}))]);
    assert!(over.status.is_none() && over.create.is_empty());
    assert_eq!(names(&over.release), ["late"]);
}

#[test]
fn a_job_fails_for_upstreams_reasons_and_takes_its_pods_with_it() {
    let spec = |spec: Value| json!({"spec": spec});
    let run = || of_index("run", 3, &json!({}));
    let failed = |index: u32| of_index(&format!("f{index}"), index, &ended("Failed"));
    let policy = |action: &str| json!({"podFailurePolicy": {"rules": [{"action": action, "onExitCodes": {"operator": "In", "values": [1]}}]}});
    let per_index = |limit: i32, more: Value| {
        let mut all = json!({"backoffLimit": null, "backoffLimitPerIndex": limit});
        merge(&mut all, &more);
        spec(all)
    };
    let restarts = member(
        "r",
        &json!({"status": {"containerStatuses": [{"name": "c", "restartCount": 1}]}}),
    );
    for (why, changes, pods, expected) in [
        (
            "too many failed",
            json!({}),
            vec![failed(0), failed(1), run()],
            Some("BackoffLimitExceeded"),
        ),
        ("not too many", json!({}), vec![failed(0), run()], None),
        (
            "too many were counted",
            json!({"status": {"failed": 2}}),
            vec![run()],
            Some("BackoffLimitExceeded"),
        ),
        (
            "restarts count where there are such",
            spec(json!({"completionMode": "NonIndexed", "template": {"spec": {"restartPolicy": "OnFailure"}}})),
            vec![restarts.clone()],
            Some("BackoffLimitExceeded"),
        ),
        (
            "and only there",
            spec(json!({"completionMode": "NonIndexed"})),
            vec![restarts],
            None,
        ),
        (
            "it takes too long",
            spec(json!({"activeDeadlineSeconds": 3600})),
            vec![run()],
            Some("DeadlineExceeded"),
        ),
        (
            "the policy says so",
            spec(policy("FailJob")),
            vec![failed(0), run()],
            Some("PodFailurePolicy"),
        ),
        (
            "the policy lets it pass",
            spec(policy("Ignore")),
            vec![failed(0), failed(1), failed(2), run()],
            None,
        ),
        (
            "too many indexes failed",
            per_index(0, json!({"maxFailedIndexes": 0})),
            vec![failed(0), run()],
            Some("MaxFailedIndexesExceeded"),
        ),
        (
            "some indexes failed",
            per_index(0, json!({})),
            vec![failed(0), run()],
            None,
        ),
        (
            "the rest is done",
            {
                let mut all = per_index(0, json!({}));
                merge(&mut all, &json!({"status": {"completedIndexes": "1-3"}}));
                all
            },
            vec![failed(0)],
            Some("FailedIndexes"),
        ),
        (
            "the policy fails an index",
            {
                let mut all = per_index(5, policy("FailIndex"));
                merge(&mut all, &json!({"spec": {"maxFailedIndexes": 0}}));
                all
            },
            vec![failed(0), run()],
            Some("MaxFailedIndexesExceeded"),
        ),
    ] {
        let plan = planned(&indexed(&changes), &pods);
        assert_eq!(reason(&plan, "FailureTarget"), expected, "{why}");
        let running = pods.iter().filter(|pod| pod.is_active()).count();
        assert_eq!(plan.delete.len(), if expected.is_some() { running } else { 0 }, "{why}");
    }
}

#[test]
fn successes_may_suffice_before_all_is_done() {
    let changes = json!({"spec": {"successPolicy": {"rules": [{"succeededIndexes": "0"}]}}});
    let pods = [of_index("a", 0, &ended("Succeeded")), of_index("b", 1, &json!({}))];
    let plan = planned(&indexed(&changes), &pods);
    assert_eq!(reason(&plan, "SuccessCriteriaMet"), Some("SuccessPolicy"));
    assert_eq!(names(&plan.delete), ["b"]);
    let status = plan.status.unwrap();
    // What was still at work has neither succeeded nor failed.
    assert_eq!(status.uncounted_terminated_pods.unwrap().failed, None);
    assert_eq!(
        (status.completed_indexes.as_deref(), status.succeeded),
        (Some("0"), Some(1))
    );
}

#[test]
fn a_failed_pod_waits_for_its_successor_to_hand_on_the_count() {
    let changes = json!({"spec": {"backoffLimit": null, "backoffLimitPerIndex": 2}});
    let mut before = ended("Failed");
    merge(
        &mut before,
        &json!({"metadata": {"annotations": {INDEX_FAILURES: "1"}}}),
    );
    let failed = of_index("a", 0, &before);
    let plan = planned(&indexed(&changes), &[failed.clone(), of_index("b", 1, &json!({}))]);
    assert_eq!(plan.create[0]["metadata"]["annotations"][INDEX_FAILURES], "2");
    assert!(plan.release.is_empty());
    let plan = planned(
        &indexed(&changes),
        &[failed, of_index("c", 0, &json!({})), of_index("b", 1, &json!({}))],
    );
    assert_eq!(names(&plan.release), ["a"]);
}

#[test]
fn a_suspended_job_says_so_and_begins_anew_when_it_is_resumed() {
    let suspended = planned(&job(&json!({"spec": {"suspend": true}})), &[]);
    assert_eq!(reason(&suspended, "Suspended"), Some("JobSuspended"));
    assert_eq!(suspended.events[0].reason, "Suspended");
    let resumed = planned(&job(&json!({"status": suspended.status})), &[]);
    assert_eq!(reason(&resumed, "Suspended"), None);
    assert_eq!(resumed.events[0].reason, "Resumed");
    assert_eq!(resumed.status.unwrap().start_time.unwrap().0, now());
}

#[test]
fn discarded_pods_count_as_nothing() {
    let plan = planned(&job(&json!({"spec": {"suspend": true}})), &[member("a", &json!({}))]);
    assert_eq!(names(&plan.discard), ["a"]);
    let status = plan.status.unwrap();
    assert_eq!((status.active, status.terminating), (None, Some(1)));
    // As it is seen then: without the finalizer, and ending.
    let gone = pod("a", "work", &terminating());
    let after = planned(&job(&json!({"spec": {"suspend": true}, "status": status})), &[gone]);
    assert_eq!(after.status.as_ref().and_then(|status| status.failed), None);
}

/// What the API holds of a Job and its pods.
#[derive(Clone)]
struct World {
    job: Value,
    pods: BTreeMap<String, Value>,
    made: usize,
}

impl World {
    fn new(indexed: bool) -> Self {
        let mode = if indexed { "Indexed" } else { "NonIndexed" };
        let job = json!({
            "metadata": {"name": "work", "namespace": "default", "uid": "work"},
            "spec": {"parallelism": 3, "completions": 6, "backoffLimit": 100, "completionMode": mode, "template": {"spec": {"restartPolicy": "Never", "containers": []}}},
        });
        Self {
            job,
            pods: BTreeMap::new(),
            made: 0,
        }
    }

    /// Plans on what there is, and does no more than `writes` of the writes: then this program is killed.
    fn step(&mut self, mut writes: usize) {
        let job: Job = serde_json::from_value(self.job.clone()).unwrap();
        let pods: Vec<Arc<Pod>> = self
            .pods
            .values()
            .map(|pod| Arc::new(serde_json::from_value(pod.clone()).unwrap()))
            .collect();
        // Long after everything that ended, so that nothing waits.
        let plan = plan(Snapshot {
            job: &job,
            pods: &pods,
            settled: true,
            backoff: None,
            now: at("2026-01-02T00:00:00Z"),
        });
        let mut may = || {
            let may = writes > 0;
            writes = writes.saturating_sub(1);
            may
        };
        for mut pod in plan.create {
            if may() {
                self.made += 1;
                let name = format!("p{:03}", self.made);
                merge(
                    &mut pod,
                    &json!({"metadata": {"name": name, "uid": name, "namespace": "default"}, "status": {"phase": "Running"}}),
                );
                self.pods.insert(name, pod);
            }
        }
        assert!(plan.delete.is_empty() && plan.discard.is_empty());
        if let Some(status) = plan.status {
            if !may() {
                return;
            }
            self.job["status"] = serde_json::to_value(status).unwrap();
        }
        for pod in plan.release {
            if may() {
                self.pods.get_mut(pod.name()).unwrap()["metadata"]["finalizers"] = json!([]);
            }
        }
    }

    fn end(&mut self, which: usize, good: bool) {
        let running: Vec<_> = self
            .pods
            .iter()
            .filter(|(_, pod)| pod["status"]["phase"] == "Running")
            .map(|(name, _)| name.clone())
            .collect();
        if !running.is_empty() {
            let name = &running[which % running.len()];
            merge(
                self.pods.get_mut(name).unwrap(),
                &ended(if good { "Succeeded" } else { "Failed" }),
            );
        }
    }

    /// Somebody deletes a pod that ended; with the finalizer it stays until that is gone.
    fn sweep(&mut self, which: usize) {
        let gone: Vec<_> = self
            .pods
            .iter()
            .filter(|(_, pod)| pod["status"]["phase"] != "Running" && pod["metadata"]["finalizers"] == json!([]))
            .map(|(name, _)| name.clone())
            .collect();
        if !gone.is_empty() {
            self.pods.remove(&gone[which % gone.len()]);
        }
    }
}

proptest! {
    /// However often this program is killed between two writes, and whichever pods are deleted once they may be.
    #[test]
    fn each_pod_is_counted_once(indexed: bool, steps in prop::collection::vec((0_usize..4, 0_usize..9, any::<bool>(), 0_usize..9), 1..60)) {
        let mut world = World::new(indexed);
        let (mut good, mut bad) = (0, 0);
        let phases = |world: &World, phase: &str| world.pods.values().filter(|pod| pod["status"]["phase"] == phase).count();
        for (what, which, well, writes) in steps {
            let before = (phases(&world, "Succeeded"), phases(&world, "Failed"));
            match what {
                0 => world.end(which, well),
                1 => world.sweep(which),
                _ => world.step(writes),
            }
            if what == 0 {
                good += phases(&world, "Succeeded") - before.0;
                bad += phases(&world, "Failed") - before.1;
            }
            prop_assert!(phases(&world, "Running") <= 3);
            prop_assert!(good <= 6, "more has succeeded than there was work for");
        }
        for _ in 0..60 {
            world.step(usize::MAX);
            let before = phases(&world, "Succeeded");
            world.end(0, true);
            good += phases(&world, "Succeeded") - before;
        }
        let status = &world.job["status"];
        prop_assert_eq!(&status["succeeded"], &json!(6));
        prop_assert_eq!(good, 6);
        prop_assert_eq!(status["failed"].as_u64().unwrap_or_default(), bad as u64);
        let complete = status["conditions"].as_array().unwrap().iter().any(|condition| condition["type"] == "Complete");
        prop_assert!(complete);
    }
}

#[test]
fn a_failed_phase_without_more_is_a_failure_at_its_making() {
    // No container, no condition: only the time of creation is left to tell when it ended.
    let plan = planned(&job(&json!({})), &[member("a", &phase("Failed"))]);
    assert_eq!(plan.backoff, Backoff::of(1, at("2026-01-01T11:00:00Z")));
}
