use serde_json::{Value, json};

use crate::testing::{changes, context, create, mistakes, pod_spec, update, with};

fn job() -> Value {
    let mut pod = pod_spec();
    pod["restartPolicy"] = "Never".into();
    json!({
        "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "work", "uid": "u1"},
        "spec": {"template": {"spec": pod}},
    })
}

fn cron() -> Value {
    let job = job();
    json!({
        "apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "often"},
        "spec": {"schedule": "*/5 * * * *", "jobTemplate": {"spec": job["spec"]}},
    })
}

#[test]
fn a_job_is_stored_with_upstreams_defaults_and_a_selector_of_its_own() {
    let stored = create("batch", "Job", job()).unwrap();
    let spec = &stored["spec"];
    assert_eq!(
        (&spec["completions"], &spec["parallelism"], &spec["backoffLimit"]),
        (&json!(1), &json!(1), &json!(6))
    );
    assert_eq!(spec["completionMode"], "NonIndexed");
    assert_eq!(spec["podReplacementPolicy"], "TerminatingOrFailed");
    assert_eq!(spec["suspend"], false);
    assert_eq!(spec["manualSelector"], false);
    assert_eq!(
        spec["selector"],
        json!({"matchLabels": {"batch.kubernetes.io/controller-uid": "u1"}})
    );
    assert_eq!(
        spec["template"]["metadata"]["labels"],
        json!({
            "batch.kubernetes.io/controller-uid": "u1", "batch.kubernetes.io/job-name": "work",
            "controller-uid": "u1", "job-name": "work",
        })
    );
    let indexed = with(
        &with(&job(), "/spec/completionMode", json!("Indexed")),
        "/spec/backoffLimitPerIndex",
        json!(1),
    );
    let stored = create("batch", "Job", with(&indexed, "/spec/completions", json!(2))).unwrap();
    assert_eq!(stored["spec"]["backoffLimit"], i32::MAX);
}

#[test]
fn mistakes_in_a_job_are_told_in_upstreams_words() {
    let mine = json!({"matchLabels": {"a": "b"}});
    mistakes(
        "batch",
        "Job",
        &job(),
        &[
            (
                "/spec/template/spec/restartPolicy",
                Value::Null,
                &["spec.template.spec.restartPolicy: Required value: valid values: \"OnFailure\", \"Never\""],
            ),
            (
                "/spec/parallelism",
                json!(-1),
                &["spec.parallelism: Invalid value: -1: must be greater than or equal to 0"],
            ),
            ("/spec/completionMode", json!("Indexed"), &[]),
            (
                "/spec/completionMode",
                json!("x"),
                &["spec.completionMode: Unsupported value: \"x\": supported values: \"NonIndexed\", \"Indexed\""],
            ),
            (
                "/spec/maxFailedIndexes",
                json!(1),
                &[
                    "spec.backoffLimitPerIndex: Required value: when maxFailedIndexes is specified",
                    "spec.maxFailedIndexes: Invalid value: 1: requires indexed completion mode",
                ],
            ),
            (
                "/spec/selector",
                mine,
                &[
                    "spec.selector: Invalid value: {\"matchLabels\":{\"a\":\"b\",\
                     \"batch.kubernetes.io/controller-uid\":\"u1\"}}: `selector` not auto-generated",
                    "spec.template.metadata.labels: Invalid value: {\"batch.kubernetes.io/controller-uid\":\"u1\",\
                     \"batch.kubernetes.io/job-name\":\"work\",\"controller-uid\":\"u1\",\"job-name\":\"work\"}: \
                     `selector` does not match template `labels`",
                ],
            ),
            (
                "/spec/podFailurePolicy",
                json!({"rules": [
                    {"action": "", "onExitCodes": {"operator": "In", "values": [3, 1, 0], "containerName": "no"}},
                    {"action": "FailIndex", "onPodConditions": [{"type": "Bad Type"}]},
                    {"action": "Count"},
                ]}),
                &[
                    "spec.podFailurePolicy.rules[0].action: Required value: valid values: [\"Count\" \"FailIndex\" \
                     \"FailJob\" \"Ignore\"]",
                    "spec.podFailurePolicy.rules[0].onExitCodes.containerName: Invalid value: \"no\": must be one of \
                     the container or initContainer names in the pod template",
                    "spec.podFailurePolicy.rules[0].onExitCodes.values[2]: Invalid value: 0: must not be 0 for the In \
                     operator",
                    "spec.podFailurePolicy.rules[0].onExitCodes.values: Invalid value: [3,1,0]: must be ordered",
                    "spec.podFailurePolicy.rules[1].action: Invalid value: \"FailIndex\": requires the \
                     backoffLimitPerIndex to be set",
                    "spec.podFailurePolicy.rules[1].onPodConditions[0].type: Invalid value: \"Bad Type\": name part \
                     must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an \
                     alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation \
                     is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')",
                    "spec.podFailurePolicy.rules[2]: Invalid value: specifying one of OnExitCodes and OnPodConditions \
                     is required",
                ],
            ),
            (
                "/spec/successPolicy",
                json!({"rules": [{"succeededCount": 1}]}),
                &[
                    "spec.successPolicy: Invalid value: {\"rules\":[{\"succeededCount\":1}]}: requires indexed \
                     completion mode",
                ],
            ),
        ],
    );
    let mut indexed = with(&job(), "/spec/completionMode", json!("Indexed"));
    indexed["spec"]["completions"] = json!(5);
    mistakes(
        "batch",
        "Job",
        &indexed,
        &[
            (
                "/spec/successPolicy",
                json!({"rules": [
                    {}, {"succeededIndexes": "1,3-4", "succeededCount": 4}, {"succeededIndexes": "3,1"},
                    {"succeededCount": 6},
                ]}),
                &[
                    "spec.successPolicy.rules[0]: Required value: at least one of succeededCount or succeededIndexes \
                     must be specified",
                    "spec.successPolicy.rules[1].succeededCount: Invalid value: 4: must be less than or equal to 3 \
                     (the number of indexes in the specified succeededIndexes field)",
                    "spec.successPolicy.rules[2].succeededIndexes: Invalid value: \"3,1\": error parsing \
                     succeededIndexes: non-increasing order, previous: 3, current: 1",
                    "spec.successPolicy.rules[3].succeededCount: Invalid value: 6: must be less than or equal to 5 \
                     (the number of specified completions)",
                ],
            ),
            (
                "/spec/parallelism",
                json!(100_001),
                &[
                    "spec.parallelism: Invalid value: 100001: must be less than or equal to 100000 when completion \
                     mode is Indexed",
                ],
            ),
        ],
    );
}

#[test]
fn what_a_job_does_stays() {
    changes(
        "batch",
        "Job",
        &job(),
        &[
            ("/spec/parallelism", json!(3), &[]),
            ("/spec/suspend", json!(true), &[]),
            (
                "/spec/completions",
                json!(2),
                &["spec.completions: Invalid value: 2: field is immutable"],
            ),
            (
                "/spec/managedBy",
                json!("example.com/other"),
                &["spec.managedBy: Invalid value: \"example.com/other\": field is immutable"],
            ),
        ],
    );
    let stored = create("batch", "Job", with(&job(), "/spec/suspend", json!(true))).unwrap();
    let chosen = with(&stored, "/spec/template/spec/nodeSelector", json!({"disk": "fast"}));
    let chosen = with(
        &chosen,
        "/spec/template/spec/containers/0/resources",
        json!({"limits": {"cpu": "2"}}),
    );
    assert!(update("batch", "Job", chosen.clone(), &stored, "").is_ok());
    let mut running = stored;
    running["status"]["active"] = 1.into();
    let errors = update("batch", "Job", chosen, &running, "").unwrap_err();
    assert!(errors[0].starts_with("spec.template: Invalid value: "), "{errors:?}");
}

#[test]
fn a_cron_job_is_stored_with_upstreams_defaults() {
    let stored = create("batch", "CronJob", cron()).unwrap();
    let spec = &stored["spec"];
    assert_eq!(spec["concurrencyPolicy"], "Allow");
    assert_eq!(spec["successfulJobsHistoryLimit"], 3);
    assert_eq!(spec["failedJobsHistoryLimit"], 1);
    assert_eq!(
        spec["jobTemplate"]["spec"]["template"]["spec"]["dnsPolicy"],
        "ClusterFirst"
    );
    assert_eq!(spec["jobTemplate"]["spec"]["backoffLimit"], Value::Null);
}

#[test]
fn mistakes_in_a_cron_job_are_told_in_upstreams_words() {
    mistakes(
        "batch",
        "CronJob",
        &cron(),
        &[
            (
                "/spec/schedule",
                json!("* * *"),
                &["spec.schedule: Invalid value: \"* * *\": expected exactly 5 fields, found 3: [* * *]"],
            ),
            ("/spec/schedule", json!(""), &["spec.schedule: Required value"]),
            (
                "/spec/schedule",
                json!("TZ=UTC 0 * * * *"),
                &[
                    "spec.schedule: Invalid value: \"TZ=UTC 0 * * * *\": cannot use TZ or CRON_TZ in schedule, use \
                     timeZone field instead",
                ],
            ),
            ("/spec/timeZone", json!("Europe/Berlin"), &[]),
            (
                "/spec/timeZone",
                json!("Mars/Base"),
                &["spec.timeZone: Invalid value: \"Mars/Base\": unknown time zone Mars/Base"],
            ),
            (
                "/spec/concurrencyPolicy",
                json!("x"),
                &[
                    "spec.concurrencyPolicy: Unsupported value: \"x\": supported values: \"Allow\", \"Forbid\", \
                     \"Replace\"",
                ],
            ),
            (
                "/spec/jobTemplate/spec/selector",
                json!({}),
                &["spec.jobTemplate.spec.selector: Invalid value: {}: `selector` will be auto-generated"],
            ),
            (
                "/metadata/name",
                json!("x".repeat(53)),
                &[&format!(
                    "metadata.name: Invalid value: {:?}: must be no more than 52 characters",
                    "x".repeat(53)
                )],
            ),
        ],
    );
    let strategy = crate::strategy("batch", "CronJob");
    let old = with(&cron(), "/spec/schedule", json!("TZ=UTC 0 * * * *"));
    let mut new = old.clone();
    strategy.default(&mut new);
    let warnings = strategy.update(&mut new, &old, &context("")).unwrap();
    assert_eq!(warnings.len(), 1, "a time zone in a schedule stays, with a warning");
}
