//! The scheduler, in paused time: seconds pass in microseconds, and to the millisecond.

use std::time::Duration;

use bosun_api::{
    PodKey,
    core::{Container, ExecAction, Probe},
};
use bosun_cri::ErrorKind;
use jiff::Timestamp;
use tokio::{
    runtime::Handle,
    sync::mpsc::{self, Receiver},
    time::{Instant, sleep, timeout},
};

use super::runtime::{Scripted, Step};
use crate::probe::{ProbeHandle, ProbeKind, ProbeReport, ProbeTarget, ProbeVerdict, Prober, Verdicts};

const FOREVER: Duration = Duration::from_secs(10_000);

/// A probe by command; period 10 s, time 1 s, three failures.
fn probe() -> Probe {
    let exec = Some(ExecAction {
        command: Some(vec!["check".to_owned()]),
    });
    Probe {
        exec,
        ..Probe::default()
    }
}

fn container(startup: Option<Probe>, liveness: Option<Probe>, readiness: Option<Probe>) -> Container {
    Container {
        name: "web".to_owned(),
        startup_probe: startup,
        liveness_probe: liveness,
        readiness_probe: readiness,
        ..Container::default()
    }
}

fn watch(prober: &Prober, id: &str, spec: &Container, tx: &mpsc::Sender<ProbeReport>) -> ProbeHandle {
    watch_adopted(prober, id, spec, None, tx)
}

fn watch_adopted(
    prober: &Prober,
    id: &str,
    spec: &Container,
    adopted: Option<Verdicts>,
    tx: &mpsc::Sender<ProbeReport>,
) -> ProbeHandle {
    let target = ProbeTarget {
        pod: &"uid".into(),
        key: &PodKey {
            namespace: "default".to_owned(),
            name: "web".to_owned(),
        },
        id: &id.into(),
        address: None,
        spec,
        started_at: Timestamp::now(),
        adopted,
    };
    prober.watch(&target, tx.clone())
}

/// Waits for the next report; returns it in short with the seconds since `start`.
async fn next(reports_rx: &mut Receiver<ProbeReport>, start: Instant) -> (u64, ProbeKind, ProbeVerdict) {
    let report = timeout(FOREVER, reports_rx.recv())
        .await
        .expect("no report ever")
        .expect("the prober is gone");
    (start.elapsed().as_secs(), report.kind, report.verdict)
}

use ProbeKind::{Liveness, Readiness, Startup};
use ProbeVerdict::{Failure, Success};

#[tokio::test(start_paused = true)]
async fn readiness_follows_its_thresholds() {
    // Good at 5, bad at 15 to 45, good from 55 on.
    let runtime = Scripted::new(|_, run| Step::Exit(i32::from((1..5).contains(&run))));
    let prober = Prober::new(runtime);
    let (tx, mut rx) = mpsc::channel(8);
    let start = Instant::now();
    let delayed = Probe {
        initial_delay_seconds: Some(5),
        ..probe()
    };
    let _handle = watch(&prober, "a", &container(None, None, Some(delayed)), &tx);
    let (at, ..) = next(&mut rx, start).await;
    assert!((4..=5).contains(&at), "the container was a little old already: {at}");
    assert_eq!(next(&mut rx, start).await.1, Readiness);
    assert!((54..=55).contains(&next(&mut rx, start).await.0));
}

#[tokio::test(start_paused = true)]
async fn a_report_says_what_was_seen() {
    let prober = Prober::new(Scripted::new(|_, _| Step::Exit(7)));
    let (tx, mut rx) = mpsc::channel(8);
    let _handle = watch(&prober, "a", &container(None, Some(probe()), None), &tx);
    let report = rx.recv().await.unwrap();
    assert_eq!((report.id.as_str(), report.container.as_str()), ("a", "web"));
    assert_eq!((report.kind, report.verdict), (Liveness, Failure));
    assert_eq!(report.message, "command exited with code 7: out");
}

#[tokio::test(start_paused = true)]
async fn liveness_and_readiness_wait_for_the_startup_probe_and_then_run_at_once() {
    // The startup probe fails twice; after it, everything is well.
    let runtime = Scripted::new(|_, run| Step::Exit(i32::from(run < 2)));
    let prober = Prober::new(runtime.clone());
    let (tx, mut rx) = mpsc::channel(8);
    let start = Instant::now();
    let _handle = watch(
        &prober,
        "a",
        &container(Some(probe()), Some(probe()), Some(probe())),
        &tx,
    );
    assert_eq!(next(&mut rx, start).await, (20, Startup, Success));
    assert_eq!(next(&mut rx, start).await, (20, Readiness, Success));
    assert_eq!(runtime.begun(), 5, "three startup runs, then one of each other");
}

#[tokio::test(start_paused = true)]
async fn a_failed_startup_or_liveness_probe_is_told_once_and_ends_the_probing() {
    for (spec, kind) in [
        (container(Some(probe()), Some(probe()), Some(probe())), Startup),
        (container(None, Some(probe()), None), Liveness),
    ] {
        let runtime = Scripted::new(|_, _| Step::Exit(1));
        let prober = Prober::new(runtime.clone());
        let (tx, mut rx) = mpsc::channel(8);
        let start = Instant::now();
        let _handle = watch(&prober, "a", &spec, &tx);
        assert_eq!(next(&mut rx, start).await, (20, kind, Failure));
        sleep(FOREVER).await;
        assert!(rx.try_recv().is_err(), "it was told again");
        assert_eq!(runtime.begun(), 3);
    }
}

#[tokio::test(start_paused = true)]
async fn a_dropped_handle_ends_its_probes_and_the_run_under_way() {
    let runtime = Scripted::new(|_, _| Step::Slow(Duration::from_millis(900), 0));
    let prober = Prober::new(runtime.clone());
    let (tx, mut rx) = mpsc::channel(8);
    let handle = watch(&prober, "a", &container(None, None, Some(probe())), &tx);
    sleep(Duration::from_millis(500)).await;
    assert_eq!(runtime.running(), 1);
    drop(handle);
    sleep(Duration::from_millis(1)).await;
    assert_eq!(runtime.running(), 0, "the run goes on");
    sleep(FOREVER).await;
    assert_eq!(runtime.begun(), 1);
    assert!(rx.try_recv().is_err());
}

#[tokio::test(start_paused = true)]
async fn a_pod_being_stopped_is_asked_for_readiness_only() {
    let runtime = Scripted::new(|_, _| Step::Exit(0));
    let prober = Prober::new(runtime.clone());
    let (tx, mut rx) = mpsc::channel(8);
    let start = Instant::now();
    let handle = watch(&prober, "a", &container(None, Some(probe()), Some(probe())), &tx);
    assert_eq!(next(&mut rx, start).await, (0, Readiness, Success));
    handle.stopping();
    sleep(Duration::from_secs(25)).await;
    assert_eq!(runtime.begun(), 2 + 2, "two at first, then one every ten seconds");
}

#[tokio::test(start_paused = true)]
async fn a_slow_probe_delays_only_itself_and_never_runs_twice_at_once() {
    let runtime = Scripted::new(|id, _| match id {
        "slow" => Step::Slow(Duration::from_secs(25), 0),
        _ => Step::Exit(0),
    });
    let prober = Prober::new(runtime.clone());
    let (tx, mut rx) = mpsc::channel(8);
    let start = Instant::now();
    let patient = Probe {
        timeout_seconds: Some(30),
        ..probe()
    };
    let _slow = watch(&prober, "slow", &container(None, None, Some(patient)), &tx);
    let _quick = watch(&prober, "quick", &container(None, None, Some(probe())), &tx);
    assert_eq!(next(&mut rx, start).await.0, 0, "the quick one answers at once");
    assert_eq!(next(&mut rx, start).await.0, 25, "the slow one when it is done");
    for _ in 0..60 {
        sleep(Duration::from_secs(1)).await;
        assert!(runtime.running() <= 1, "the slow probe runs twice");
    }
    // In 85 s: 9 quick ones, and a slow one at 0, 25, 50, 75.
    assert_eq!(runtime.begun(), 9 + 4);
}

#[tokio::test(start_paused = true)]
async fn a_run_that_takes_too_long_failed() {
    let prober = Prober::new(Scripted::new(|_, _| Step::Slow(Duration::from_secs(5), 0)));
    let (tx, mut rx) = mpsc::channel(8);
    let impatient = Probe {
        failure_threshold: Some(1),
        ..probe()
    };
    let start = Instant::now();
    let _handle = watch(&prober, "a", &container(None, Some(impatient), None), &tx);
    let report = rx.recv().await.unwrap();
    assert_eq!(
        (start.elapsed().as_secs(), report.message.as_str()),
        (1, "command timed out after 1 s")
    );
}

#[tokio::test(start_paused = true)]
async fn what_could_not_be_asked_says_nothing_of_the_container() {
    let runtime = Scripted::new(|_, run| match run {
        0 => Step::Fail(ErrorKind::Unavailable),
        1 => Step::Panic,
        2..9 => Step::Fail(ErrorKind::Failed),
        _ => Step::Exit(1),
    });
    let prober = Prober::new(runtime);
    let (tx, mut rx) = mpsc::channel(8);
    let start = Instant::now();
    let _handle = watch(&prober, "a", &container(None, Some(probe()), None), &tx);
    assert_eq!(
        next(&mut rx, start).await,
        (110, Liveness, Failure),
        "only the last three runs count"
    );
}

#[tokio::test(start_paused = true)]
async fn a_container_that_was_ready_before_the_agent_restarted_stays_so() {
    let prober = Prober::new(Scripted::new(|_, run| Step::Exit(i32::from(run >= 3))));
    let (tx, mut rx) = mpsc::channel(8);
    let start = Instant::now();
    let remembered = Verdicts {
        started: true,
        ready: true,
    };
    let spec = container(Some(probe()), None, Some(probe()));
    let _handle = watch_adopted(&prober, "a", &spec, Some(remembered), &tx);
    let (at, kind, verdict) = next(&mut rx, start).await;
    assert_eq!(
        (kind, verdict),
        (Readiness, Failure),
        "the first news is that it failed three times"
    );
    assert!(
        (50..60).contains(&at),
        "{at}: the first run waited for its share of the period"
    );
}

#[tokio::test(start_paused = true)]
async fn first_runs_are_spread_after_a_restart_of_the_agent() {
    let runtime = Scripted::new(|_, _| Step::Exit(0));
    let prober = Prober::new(runtime.clone());
    let (tx, _rx) = mpsc::channel(2000);
    let spec = container(None, None, Some(probe()));
    let adopted = Some(Verdicts::default());
    let _handles: Vec<_> = (0..1000)
        .map(|n| watch_adopted(&prober, &n.to_string(), &spec, adopted, &tx))
        .collect();
    for second in 1..=10 {
        sleep(Duration::from_secs(1)).await;
        let expected = second * 100;
        assert!(
            runtime.begun().abs_diff(expected) < 100,
            "{} after {second} s",
            runtime.begun()
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_receiver_that_is_behind_holds_up_nobody_and_misses_nothing() {
    let prober = Prober::new(Scripted::new(|_, run| Step::Exit(i32::from(run % 2 == 1))));
    let (full_tx, mut full_rx) = mpsc::channel(1);
    let (tx, mut rx) = mpsc::channel(100);
    let jumpy = Probe {
        failure_threshold: Some(1),
        ..probe()
    };
    let spec = container(None, None, Some(jumpy));
    let _stuck = watch(&prober, "stuck", &spec, &full_tx);
    sleep(Duration::from_secs(1)).await;
    let start = Instant::now();
    let _free = watch(&prober, "free", &container(None, None, Some(probe())), &tx);
    // Runs alternate between the two: "stuck" is always good, "free" always bad.
    sleep(Duration::from_secs(35)).await;
    assert!(rx.try_recv().is_err(), "{:?}", start.elapsed());
    assert_eq!(full_rx.recv().await.unwrap().verdict, Success);

    let prober = Prober::new(Scripted::new(|_, run| Step::Exit(i32::from(run % 2 == 1))));
    let _jumpy = watch(&prober, "jumpy", &spec, &full_tx);
    sleep(Duration::from_secs(45)).await;
    for expected in [Success, Failure, Success, Failure, Success] {
        assert_eq!(
            full_rx.recv().await.unwrap().verdict,
            expected,
            "reports keep their order"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_receiver_that_is_gone_ends_the_probes() {
    let runtime = Scripted::new(|_, _| Step::Exit(0));
    let prober = Prober::new(runtime.clone());
    let (tx, rx) = mpsc::channel(1);
    drop(rx);
    let _handle = watch(&prober, "a", &container(None, Some(probe()), Some(probe())), &tx);
    sleep(FOREVER).await;
    assert_eq!(runtime.begun(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_idle_probe_is_no_task() {
    let runtime = Scripted::new(|_, _| Step::Exit(0));
    let prober = Prober::new(runtime.clone());
    let (tx, _rx) = mpsc::channel(10_000);
    let spec = container(None, Some(probe()), Some(probe()));
    let handles: Vec<_> = (0..2000).map(|n| watch(&prober, &n.to_string(), &spec, &tx)).collect();
    sleep(Duration::from_secs(5)).await;
    assert_eq!(runtime.begun(), 4000, "all ran");
    assert_eq!(
        Handle::current().metrics().num_alive_tasks(),
        1,
        "only the scheduler is left"
    );
    sleep(Duration::from_secs(10)).await;
    assert_eq!(runtime.begun(), 8000, "all ran again");
    drop(handles);
    drop(prober);
    sleep(Duration::from_secs(1)).await;
    assert_eq!(
        Handle::current().metrics().num_alive_tasks(),
        0,
        "the scheduler outlives its last user"
    );
}
