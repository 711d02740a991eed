use std::{collections::BTreeSet, sync::Arc};

use jiff::tz::TimeZone;
use serde_json::{Value, json};

use super::*;
use crate::{
    job::Job,
    workload::testing::{at, merge, object},
};

fn cron(changes: &Value) -> Arc<CronJob> {
    let base = json!({
        "metadata": {"name": "tidy", "namespace": "default", "uid": "tidy", "creationTimestamp": "2026-01-01T10:00:00Z"},
        "spec": {
            "schedule": "0 * * * *", "concurrencyPolicy": "Allow", "successfulJobsHistoryLimit": 1, "failedJobsHistoryLimit": 1,
            "jobTemplate": {
                "metadata": {"labels": {"a": "b"}, "annotations": {"c": "d"}},
                "spec": {"template": {"spec": {"containers": [{"name": "c"}]}}},
            },
        },
    });
    object(&base, changes)
}

fn job(name: &str, end: Option<&str>, started: &str) -> Arc<Job> {
    let conditions = end.map_or_else(|| json!([]), |end| json!([{"type": end, "status": "True"}]));
    let completed = (end == Some("Complete")).then_some(started);
    let job = json!({
        "metadata": {"name": name, "namespace": "default", "uid": name},
        "status": {"conditions": conditions, "startTime": started, "completionTime": completed},
    });
    object(&job, &json!({}))
}

fn active(names: &[&str]) -> Value {
    let active: Vec<_> = names
        .iter()
        .map(|name| json!({"kind": "Job", "namespace": "default", "name": name, "uid": name}))
        .collect();
    json!({"status": {"active": active, "lastScheduleTime": "2026-01-01T10:00:00Z"}})
}

fn planned(changes: &Value, jobs: &[Arc<Job>], now: &str) -> Plan {
    plan(Snapshot {
        cron: &cron(changes),
        jobs,
        unseen: &BTreeSet::new(),
        zone: &TimeZone::UTC,
        now: at(now),
    })
}

fn reasons(plan: &Plan) -> Vec<&'static str> {
    plan.events.iter().map(|event| event.reason).collect()
}

#[test]
fn a_job_is_made_once_its_time_has_come_and_only_once() {
    let with = |spec: Value| json!({"spec": spec});
    let last = |time: &str| json!({"status": {"lastScheduleTime": time}});
    for (why, changes, now, created, events) in [
        ("it isn't time yet", json!({}), "2026-01-01T10:59:59Z", None, vec![]),
        (
            "it is time",
            json!({}),
            "2026-01-01T11:00:00Z",
            Some("tidy-29454420"),
            vec![],
        ),
        (
            "it is late",
            json!({}),
            "2026-01-01T11:59:59Z",
            Some("tidy-29454420"),
            vec![],
        ),
        (
            "only the last of those missed",
            json!({}),
            "2026-01-01T13:10:00Z",
            Some("tidy-29454540"),
            vec![],
        ),
        (
            "it was made",
            last("2026-01-01T11:00:00Z"),
            "2026-01-01T11:30:00Z",
            None,
            vec![],
        ),
        (
            "it is suspended",
            with(json!({"suspend": true})),
            "2026-01-01T11:00:00Z",
            None,
            vec![],
        ),
        (
            "in time",
            with(json!({"startingDeadlineSeconds": 60})),
            "2026-01-01T11:00:59Z",
            Some("tidy-29454420"),
            vec![],
        ),
        (
            "too late",
            with(json!({"startingDeadlineSeconds": 60})),
            "2026-01-01T11:01:01Z",
            None,
            vec![],
        ),
        (
            "many were missed",
            json!({"spec": {"schedule": "* * * * *"}}),
            "2026-01-01T12:00:30Z",
            Some("tidy-29454480"),
            vec!["TooManyMissedTimes"],
        ),
        (
            "hours of another zone",
            with(json!({"schedule": "30 16 * * *", "timeZone": "Asia/Kolkata"})),
            "2026-01-01T11:00:00Z",
            Some("tidy-29454420"),
            vec![],
        ),
        (
            "no such zone",
            with(json!({"timeZone": "Mars/Phobos"})),
            "2026-01-01T11:00:00Z",
            None,
            vec!["UnknownTimeZone"],
        ),
        (
            "no schedule",
            with(json!({"schedule": "often"})),
            "2026-01-01T11:00:00Z",
            None,
            vec!["UnparseableSchedule"],
        ),
        (
            "the zone in the schedule",
            with(json!({"schedule": "TZ=Asia/Kolkata 30 16 * * *"})),
            "2026-01-01T11:00:00Z",
            Some("tidy-29454420"),
            vec!["UnsupportedSchedule"],
        ),
        (
            "it is deleted",
            json!({"metadata": {"deletionTimestamp": "2026-01-01T10:30:00Z"}}),
            "2026-01-01T11:00:00Z",
            None,
            vec![],
        ),
    ] {
        let plan = planned(&changes, &[], now);
        assert_eq!(plan.create.as_ref().map(|job| job.name.as_str()), created, "{why}");
        assert_eq!(reasons(&plan), events, "{why}");
    }
}

#[test]
fn a_job_that_is_not_done_decides_by_the_policy() {
    for (policy, created, replaced, events) in [
        ("Allow", true, 0, vec![]),
        ("Forbid", false, 0, vec!["JobAlreadyActive"]),
        ("Replace", true, 1, vec![]),
    ] {
        let mut changes = active(&["tidy-1"]);
        merge(&mut changes, &json!({"spec": {"concurrencyPolicy": policy}}));
        let plan = planned(
            &changes,
            &[job("tidy-1", None, "2026-01-01T10:00:00Z")],
            "2026-01-01T11:00:00Z",
        );
        assert_eq!(plan.create.is_some(), created, "{policy}");
        assert_eq!(plan.replace.len(), replaced, "{policy}");
        assert_eq!(reasons(&plan), events, "{policy}");
    }
}

#[test]
fn a_job_is_what_the_template_says_and_owned() {
    let plan = planned(
        &json!({"spec": {"timeZone": "Asia/Kolkata", "schedule": "30 16 * * *"}}),
        &[],
        "2026-01-01T11:00:00Z",
    );
    let new = plan.create.unwrap();
    assert_eq!(
        new.object["metadata"],
        json!({
            "name": "tidy-29454420", "namespace": "default", "labels": {"a": "b"},
            "annotations": {"c": "d", "batch.kubernetes.io/cronjob-scheduled-timestamp": "2026-01-01T16:30:00+05:30"},
            "ownerReferences": [{"apiVersion": "batch/v1", "kind": "CronJob", "name": "tidy", "uid": "tidy", "controller": true, "blockOwnerDeletion": true}],
        })
    );
    assert_eq!(
        new.object["spec"],
        json!({"template": {"spec": {"containers": [{"name": "c"}]}}})
    );
    let reference = serde_json::from_value(json!({"name": "tidy-29454420", "uid": "u"})).unwrap();
    let status = new.made(plan.status, reference);
    assert_eq!(
        serde_json::to_value(status).unwrap(),
        json!({"active": [{"name": "tidy-29454420", "uid": "u"}], "lastScheduleTime": "2026-01-01T11:00:00Z"})
    );
}

#[test]
fn the_status_follows_the_jobs_there_are() {
    let jobs = [
        job("done", Some("Complete"), "2026-01-01T10:05:00Z"),
        job("failed", Some("Failed"), "2026-01-01T10:06:00Z"),
        job("runs", None, "2026-01-01T10:07:00Z"),
        job("stranger", None, "2026-01-01T10:08:00Z"),
    ];
    let plan = planned(
        &active(&["done", "failed", "runs", "gone"]),
        &jobs,
        "2026-01-01T10:30:00Z",
    );
    let names: Vec<_> = plan
        .status
        .active
        .iter()
        .flatten()
        .map(|job| job.name.clone().unwrap())
        .collect();
    assert_eq!(names, ["runs"]);
    assert_eq!(
        plan.status.last_successful_time.as_ref().unwrap().0,
        at("2026-01-01T10:05:00Z")
    );
    assert_eq!(
        reasons(&plan),
        ["SawCompletedJob", "SawCompletedJob", "UnexpectedJob", "MissingJob"]
    );
    assert_eq!(plan.events[0].message, "Saw completed job: done, condition: Complete");
    assert_eq!(plan.next, Some(at("2026-01-01T11:00:00.1Z")));
}

#[test]
fn ended_jobs_are_forgotten_beyond_the_limit_oldest_first() {
    let jobs = [
        job("b", Some("Complete"), "2026-01-01T10:02:00Z"),
        job("a", Some("Complete"), "2026-01-01T10:01:00Z"),
        job("c", Some("Complete"), "2026-01-01T10:03:00Z"),
        job("f", Some("Failed"), "2026-01-01T10:03:00Z"),
        job("r", None, "2026-01-01T10:00:00Z"),
    ];
    let plan = planned(&json!({}), &jobs, "2026-01-01T10:30:00Z");
    let names: Vec<_> = plan.forget.iter().map(|job| job.name()).collect();
    assert_eq!(names, ["a", "b"]);
}
