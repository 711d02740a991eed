use super::*;
use crate::pod::{
    fixture::{Fixture, at, exited, ready, retry, running},
    observed::ContainerState,
};

fn context(phase: Phase) -> Context<'static> {
    Context {
        phase,
        accepted_at: at(800),
        host_addresses: &[],
        previous: None,
    }
}

/// `phase/Ready` and each container's state.
fn told(fixture: &Fixture, phase: Phase) -> String {
    let status = status(&fixture.view(), &context(phase));
    let ready = status
        .conditions
        .iter()
        .flatten()
        .find(|condition| condition.type_ == "Ready");
    let mut words = vec![format!(
        "{} ready={}",
        status.phase.as_deref().unwrap(),
        ready.unwrap().status
    )];
    for container in status.container_statuses.iter().flatten() {
        let state = container.state.as_ref().unwrap();
        let mut word = if let Some(waiting) = &state.waiting {
            waiting.reason.clone().unwrap()
        } else if let Some(end) = &state.terminated {
            end.reason.clone().unwrap()
        } else {
            "running".into()
        };
        if let Some(end) = container.last_state.as_ref().and_then(|last| last.terminated.as_ref()) {
            word = format!("{word} last={}", end.exit_code);
        }
        words.push(format!(
            "{} {word} restarts={}",
            container.name, container.restart_count
        ));
    }
    words.join("; ")
}

#[test]
fn a_status_says_what_each_container_does_and_why() {
    let finished = Phase::Terminated { why: Why::Completed };
    let image_failed = {
        let mut fixture = Fixture::new("Always", &["a"]);
        let state = ImageState::Failed(retry(1010, "ImagePullBackOff"));
        fixture.images.insert("image".into(), state);
        fixture
    };
    let create_failed = {
        let mut fixture = Fixture::new("Always", &["a"]).prepared();
        let key = JobKey::Start("a".into());
        fixture.retries.insert(key, retry(1010, "CreateContainerError"));
        fixture
    };
    let crash_loop = {
        let mut fixture = Fixture::new("Always", &["a"]).prepared().with("a", 2, exited(3));
        let backoff = crate::pod::backoff::Backoff {
            delay: std::time::Duration::from_secs(40),
            since: at(990),
        };
        fixture.backoffs.insert("a".into(), backoff);
        fixture
    };
    let table = [
        (
            Fixture::new("Always", &["a"]),
            Phase::Pending,
            "Pending ready=False; a ContainerCreating restarts=0",
        ),
        (
            image_failed,
            Phase::Syncing,
            "Pending ready=False; a ImagePullBackOff restarts=0",
        ),
        (
            create_failed,
            Phase::Syncing,
            "Pending ready=False; a CreateContainerError restarts=0",
        ),
        (
            Fixture::new("Always", &["a"])
                .prepared()
                .with("a", 0, ContainerState::Created),
            Phase::Syncing,
            "Pending ready=False; a ContainerCreating restarts=0",
        ),
        (
            Fixture::new("Always", &["a"]).init("i", false).prepared(),
            Phase::Syncing,
            "Pending ready=False; a PodInitializing restarts=0",
        ),
        (
            Fixture::new("Always", &["a"]).prepared().with("a", 0, running()),
            Phase::Syncing,
            "Running ready=False; a running restarts=0",
        ),
        (
            Fixture::new("Always", &["a"])
                .prepared()
                .with("a", 0, running())
                .verdict("a0", ready()),
            Phase::Syncing,
            "Running ready=True; a running restarts=0",
        ),
        (
            Fixture::new("Always", &["a", "b"])
                .prepared()
                .with("a", 0, running())
                .verdict("a0", ready()),
            Phase::Syncing,
            "Pending ready=False; a running restarts=0; b ContainerCreating restarts=0",
        ),
        (
            Fixture::new("Always", &["a"])
                .prepared()
                .with("a", 0, exited(9))
                .with("a", 1, running())
                .verdict("a1", ready()),
            Phase::Syncing,
            "Running ready=True; a running last=9 restarts=1",
        ),
        (
            crash_loop,
            Phase::Syncing,
            "Running ready=False; a CrashLoopBackOff last=3 restarts=2",
        ),
        (
            Fixture::new("Never", &["a"]).prepared().with("a", 0, exited(0)),
            finished,
            "Succeeded ready=False; a Completed restarts=0",
        ),
        (
            Fixture::new("Never", &["a", "b"])
                .prepared()
                .with("a", 0, exited(0))
                .with("b", 0, exited(1)),
            finished,
            "Failed ready=False; a Completed restarts=0; b Error restarts=0",
        ),
    ];
    for (fixture, phase, expected) in table {
        assert_eq!(told(&fixture, phase), expected);
    }
}

#[test]
fn a_condition_that_does_not_change_keeps_its_time() {
    let fixture = Fixture::new("Always", &["a"]).prepared().with("a", 0, running());
    let mut previous = status(&fixture.view(), &context(Phase::Syncing));
    for condition in previous.conditions.iter_mut().flatten() {
        condition.last_transition_time = Some(Time(at(1)));
    }
    let fixture = fixture.verdict("a0", ready());
    let next = status(
        &fixture.view(),
        &Context {
            previous: Some(&previous),
            ..context(Phase::Syncing)
        },
    );
    for condition in next.conditions.iter().flatten() {
        let expected = match condition.type_.as_str() {
            "Ready" | "ContainersReady" => at(1000),
            _ => at(1),
        };
        assert_eq!(
            condition.last_transition_time,
            Some(Time(expected)),
            "{}",
            condition.type_
        );
    }
}
