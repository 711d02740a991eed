use super::*;
use crate::pod::fixture::{Fixture, at, exited, ready, retry, running};

/// A plan as one line: jobs in order, `done`, and the time to wake.
fn told(plan: &PodPlan) -> String {
    let mut words: Vec<String> = plan
        .jobs
        .iter()
        .map(|job| match job {
            Job::Observe => "observe".into(),
            Job::Volumes => "volumes".into(),
            Job::Refresh => "refresh".into(),
            Job::Image { image, .. } => format!("image {image}"),
            Job::Sandbox { attempt, stop } => format!("sandbox {attempt} after {stop:?}"),
            Job::Start { name, attempt, sandbox } => format!("start {name}{attempt} in {sandbox}"),
            Job::Stop { id, grace, .. } => format!("stop {id} {}s", grace.as_secs()),
            Job::StopSandbox { id } => format!("stop sandbox {id}"),
            Job::Remove { id } => format!("remove {id}"),
            Job::RemoveSandbox { id } => format!("remove sandbox {id}"),
            Job::Cleanup => "cleanup".into(),
        })
        .collect();
    words.extend(plan.done.then(|| "done".into()));
    words.extend(plan.wake_at.map(|at| format!("wake {}", at.as_second())));
    words.join(", ")
}

#[test]
fn a_wanted_pod_moves_towards_running() {
    let always = |containers: &[&str]| Fixture::new("Always", containers);
    let busy = |mut fixture: Fixture, key: JobKey| {
        fixture.busy.insert(key);
        fixture
    };
    let failed = |mut fixture: Fixture, key: JobKey, until| {
        fixture.retries.insert(key, retry(until, "CreateContainerError"));
        fixture
    };
    let held = |mut fixture: Fixture, name: &str| {
        let backoff = Backoff {
            delay: Duration::from_secs(10),
            since: at(990),
        };
        fixture.backoffs.insert(name.into(), backoff);
        fixture
    };
    let gave_up = Verdict {
        failed: Some(("liveness probe failed".into(), Some(Duration::from_secs(3)))),
        ..ready()
    };
    let table = [
        (
            "everything that can begin at once does",
            always(&["a", "b"]),
            "volumes, image image, sandbox 0 after []",
        ),
        (
            "nothing is begun twice",
            busy(busy(always(&["a"]), JobKey::Volumes), JobKey::Sandbox),
            "image image",
        ),
        (
            "containers start one at a time, in order",
            always(&["a", "b"]).prepared(),
            "start a0 in s0",
        ),
        (
            "the next one waits for the start under way",
            busy(always(&["a", "b"]).prepared(), JobKey::Start("a".into())),
            "",
        ),
        (
            "the second starts once the first runs",
            always(&["a", "b"]).prepared().with("a", 0, running()),
            "start b0 in s0",
        ),
        (
            "one that can't start holds up nobody",
            failed(always(&["a", "b"]).prepared(), JobKey::Start("a".into()), 1005),
            "start b0 in s0, wake 1005",
        ),
        (
            "all run: nothing to do",
            always(&["a"]).prepared().with("a", 0, running()),
            "",
        ),
        (
            "the first restart is immediate",
            always(&["a"]).prepared().with("a", 0, exited(1)),
            "start a1 in s0",
        ),
        (
            "a restart waits out its back-off",
            held(always(&["a"]).prepared().with("a", 0, exited(1)), "a"),
            "wake 1009",
        ),
        (
            "on-failure restarts a failure",
            Fixture::new("OnFailure", &["a"]).prepared().with("a", 0, exited(1)),
            "start a1 in s0",
        ),
        (
            "on-failure leaves a success",
            Fixture::new("OnFailure", &["a"]).prepared().with("a", 0, exited(0)),
            "done",
        ),
        (
            "never means never",
            Fixture::new("Never", &["a", "b"])
                .prepared()
                .with("a", 0, exited(1))
                .with("b", 0, exited(0)),
            "done",
        ),
        (
            "not done while one still runs",
            Fixture::new("Never", &["a", "b"])
                .prepared()
                .with("a", 0, exited(1))
                .with("b", 0, running()),
            "",
        ),
        (
            "a probe's verdict stops a container with the probe's own grace",
            always(&["a"]).prepared().with("a", 0, running()).verdict("a0", gave_up),
            "stop a0 3s",
        ),
        (
            "a container that was created and never started is made again under its number",
            always(&["a"]).prepared().with("a", 0, ContainerState::Created),
            "remove a0",
        ),
        (
            "one the runtime lost track of is stopped first",
            always(&["a"]).prepared().with("a", 0, ContainerState::Unknown),
            "stop a0 0s",
        ),
        (
            "a sandbox that ended is replaced, and what ran in it restarted",
            {
                let mut fixture = always(&["a"]).prepared().with("a", 0, exited(137));
                fixture.observed.exited("s0", 0, at(999));
                fixture
            },
            r#"sandbox 1 after ["s0"]"#,
        ),
        (
            "what still runs in a sandbox that ended is stopped",
            {
                let mut fixture = always(&["a"]).prepared().with("a", 0, running());
                fixture.observed.exited("s0", 0, at(999));
                fixture
            },
            "stop a0 30s",
        ),
        (
            "a finished pod needs no sandbox",
            {
                let mut fixture = Fixture::new("Never", &["a"]).prepared().with("a", 0, exited(0));
                fixture.observed.exited("s0", 0, at(999));
                fixture
            },
            "done",
        ),
        (
            "of the dead only the last is kept",
            always(&["a"])
                .prepared()
                .with("a", 0, exited(1))
                .with("a", 1, exited(1))
                .with("a", 2, running()),
            "remove a0",
        ),
        (
            "a sandbox that ended goes with its last container",
            {
                let mut fixture = always(&["a"]).prepared();
                fixture.observed.exited("s0", 0, at(999));
                fixture.sandbox("s1", 1, true).with("a", 1, running())
            },
            "remove sandbox s0",
        ),
        (
            "an image that can't be had waits, and so does only its container",
            {
                let mut fixture = always(&["a", "b"]).prepared();
                fixture
                    .images
                    .insert("other".into(), ImageState::Failed(retry(1020, "ImagePullBackOff")));
                let spec = fixture.pod.spec.as_mut().unwrap();
                spec.containers[0].image = Some("other".into());
                fixture
            },
            "start b0 in s0, wake 1020",
        ),
    ];
    for (name, fixture, expected) in table {
        assert_eq!(told(&plan(&fixture.view())), expected, "{name}");
    }
}

#[test]
fn init_containers_run_in_turn_before_the_app() {
    let pod = || {
        Fixture::new("Always", &["app"])
            .init("one", false)
            .init("two", false)
            .prepared()
    };
    let table = [
        ("the first", pod(), "start one0 in s0"),
        ("it runs: wait", pod().with("one", 0, running()), ""),
        ("it did its part", pod().with("one", 0, exited(0)), "start two0 in s0"),
        ("it failed: again", pod().with("one", 0, exited(1)), "start one1 in s0"),
        (
            "all did their part",
            pod().with("one", 0, exited(0)).with("two", 0, exited(0)),
            "start app0 in s0",
        ),
        (
            "they are not run again beside the app",
            pod()
                .with("one", 0, exited(0))
                .with("two", 0, exited(0))
                .with("app", 0, running()),
            "",
        ),
        (
            "a new sandbox runs them again, counting on",
            {
                let mut fixture = pod()
                    .with("one", 0, exited(0))
                    .with("two", 0, exited(0))
                    .with("app", 0, exited(1));
                fixture.observed.exited("s0", 0, at(999));
                fixture.sandbox("s1", 1, true)
            },
            "start one1 in s1",
        ),
    ];
    for (name, fixture, expected) in table {
        assert_eq!(told(&plan(&fixture.view())), expected, "{name}");
    }
}

#[test]
fn a_failed_init_container_ends_a_pod_that_never_restarts() {
    let fixture = Fixture::new("Never", &["app"])
        .init("one", false)
        .prepared()
        .with("one", 0, exited(1));
    assert_eq!(told(&plan(&fixture.view())), "done");
}

#[test]
fn a_sidecar_gates_what_follows_until_it_has_started_and_is_restarted_beside_it() {
    let pod = || Fixture::new("Always", &["app"]).init("side", true).prepared();
    assert_eq!(told(&plan(&pod().view())), "start side0 in s0");
    let runs = pod().with("side", 0, running());
    assert_eq!(told(&plan(&runs.view())), "", "its startup probe has not succeeded");
    let started = pod().with("side", 0, running()).verdict("side0", ready());
    assert_eq!(told(&plan(&started.view())), "start app0 in s0");
    let ended = pod().with("app", 0, running()).with("side", 0, exited(0));
    assert_eq!(told(&plan(&ended.view())), "start side1 in s0");
}

#[test]
fn a_pod_that_ends_stops_apps_then_sidecars_backwards_then_sandboxes() {
    let deadline = at(1020);
    let pod = || {
        Fixture::new("Always", &["app"])
            .init("one", true)
            .init("two", true)
            .prepared()
            .with("one", 0, running())
            .with("two", 0, running())
            .with("app", 0, running())
    };
    let mut fixture = pod();
    let steps = [
        ("stop app0 20s", "app0"),
        ("stop two0 20s", "two0"),
        ("stop one0 20s", "one0"),
    ];
    for (expected, id) in steps {
        assert_eq!(told(&plan_stop(&fixture.view(), deadline)), expected);
        fixture.observed.exited(id, 143, at(1000));
    }
    assert_eq!(told(&plan_stop(&fixture.view(), deadline)), "stop sandbox s0");
    fixture.observed.exited("s0", 0, at(1000));
    assert_eq!(
        told(&plan_stop(&fixture.view(), deadline)),
        "stop sandbox s0",
        "its network is still up"
    );
    fixture.observed.sandboxes[0].stopped = true;
    assert_eq!(told(&plan_stop(&fixture.view(), deadline)), "done");
}

#[test]
fn a_pod_does_not_count_as_stopped_while_a_call_could_still_create_something() {
    for key in [JobKey::Sandbox, JobKey::Start("app".into()), JobKey::Observe] {
        let mut fixture = Fixture::new("Always", &["app"]);
        assert!(plan_stop(&fixture.view(), at(1020)).done);
        fixture.busy.insert(key.clone());
        assert!(!plan_stop(&fixture.view(), at(1020)).done, "{key:?} is under way");
    }
}

#[test]
fn past_the_deadline_no_grace_is_left() {
    let fixture = Fixture::new("Always", &["app"]).prepared().with("app", 0, running());
    assert_eq!(told(&plan_stop(&fixture.view(), at(990))), "stop app0 0s");
}
