//! A container's end and what follows: restart policy, back-off, init containers, hooks, grace.

use std::time::{Duration, Instant};

use anyhow::ensure;
use bosun_testkit::{
    Node, PATIENCE, eventually,
    manifest::{idle, pod, shell},
};
use serde_json::json;

#[tokio::test]
async fn a_container_that_ends_is_started_again_with_back_off() -> anyhow::Result<()> {
    let node = Node::start().await?;
    node.apply(&pod("a").with(shell("main", "echo run; exit 3")))?;
    node.until("a", "in back-off", |view| {
        let main = view.container("main")?;
        ensure!(main.restarts() >= 1, "{} restarts", main.restarts());
        ensure!(main.waiting().starts_with("CrashLoopBackOff"), "{:?}", main.waiting());
        ensure!(
            main.ended_before()
                .is_some_and(|(code, reason)| (code, reason) == (3, "Error")),
            "{:?}",
            main.ended_before()
        );
        ensure!(!view.is_ready() && view.phase() == "Running", "{}", view.phase());
        Ok(())
    })
    .await;
    ensure!(node.logs("a", "main")?.len() >= 2, "it ran less than twice");
    node.finish().await
}

#[tokio::test]
async fn the_restart_policy_decides_what_follows_an_end() -> anyhow::Result<()> {
    let node = Node::start().await?;
    node.apply(&pod("never-good").restart("Never").with(shell("main", "exit 0")))?;
    node.apply(&pod("never-bad").restart("Never").with(shell("main", "exit 7")))?;
    node.apply(
        &pod("on-failure-good")
            .restart("OnFailure")
            .with(shell("main", "exit 0")),
    )?;
    node.apply(&pod("on-failure-bad").restart("OnFailure").with(shell("main", "exit 7")))?;
    node.apply(&pod("always").with(shell("main", "exit 0")))?;
    for (name, phase, code, reason) in [
        ("never-good", "Succeeded", 0, "Completed"),
        ("never-bad", "Failed", 7, "Error"),
        ("on-failure-good", "Succeeded", 0, "Completed"),
    ] {
        node.until(name, phase, |view| {
            let main = view.container("main")?;
            ensure!(view.phase() == phase, "{}", view.phase());
            ensure!(
                main.ended() == Some((code, reason)) && main.restarts() == 0,
                "{:?}",
                main.ended()
            );
            Ok(())
        })
        .await;
    }
    for name in ["on-failure-bad", "always"] {
        node.until(name, "started again", |view| {
            let restarts = view.container("main")?.restarts();
            ensure!(restarts >= 1, "{restarts} restarts");
            Ok(())
        })
        .await;
    }
    // What ended for good stays ended.
    ensure!(node.logs("never-good", "main").is_ok_and(|logs| logs.is_empty()));
    ensure!(node.pods().await?.pod("never-bad")?.container("main")?.restarts() == 0);
    node.finish().await
}

#[tokio::test]
async fn a_pod_of_several_containers_succeeds_when_the_last_has() -> anyhow::Result<()> {
    let node = Node::start().await?;
    let manifest = pod("a").restart("Never").volume("v", json!({ "emptyDir": {} }));
    let waits = shell("waits", "until [ -e /v/go ]; do sleep 0.1; done").mount("v", "/v");
    node.apply(&manifest.with(shell("ends", "exit 0")).with(waits))?;
    let id = node
        .until("a", "one of two has ended", |view| {
            ensure!(
                view.phase() == "Running" && view.container("ends")?.ended().is_some(),
                "{}",
                view.phase()
            );
            Ok(view.container("waits")?.id().to_owned())
        })
        .await;
    node.exec(&id, &["touch", "/v/go"]).await?;
    node.until("a", "succeeded", |view| {
        ensure!(view.phase() == "Succeeded", "{}", view.phase());
        Ok(())
    })
    .await;
    node.finish().await
}

#[tokio::test]
async fn init_containers_run_one_after_another_before_the_others() -> anyhow::Result<()> {
    let node = Node::start().await?;
    let step = |name: &str, script: &str| shell(name, script).mount("v", "/v");
    let manifest = pod("a")
        .volume("v", json!({ "emptyDir": {} }))
        .init(step("first", "sleep 0.3; echo first >>/v/order"))
        .init(step("second", "echo second >>/v/order; cat /v/order"))
        .with(step("main", "echo main >>/v/order; cat /v/order; exec sleep 3600"));
    node.apply(&manifest)?;
    node.ready("a").await;
    let logs = eventually(PATIENCE, "the containers' words", async || {
        let logs = (node.logs("a", "second")?, node.logs("a", "main")?);
        ensure!(logs.1.len() == 3, "{logs:?}");
        Ok(logs)
    })
    .await;
    ensure!(
        logs.0 == ["first", "second"] && logs.1 == ["first", "second", "main"],
        "{logs:?}"
    );
    let list = node.pods().await?;
    let view = list.pod("a")?;
    ensure!(view.condition("Initialized"), "not initialized");
    ensure!(
        view.container("first")?.ended() == Some((0, "Completed")),
        "{:?}",
        view.container("first")?.ended()
    );
    node.finish().await
}

#[tokio::test]
async fn a_failing_init_container_is_tried_again_and_holds_the_others_back() -> anyhow::Result<()> {
    let node = Node::start().await?;
    let manifest = pod("a").volume("v", json!({ "emptyDir": {} }));
    let init = shell("init", "[ -e /v/second ] || { touch /v/second; exit 1; }").mount("v", "/v");
    node.apply(&manifest.init(init).with(idle("main")))?;
    node.apply(
        &pod("b")
            .restart("Never")
            .init(shell("init", "exit 5"))
            .with(idle("main")),
    )?;
    node.until("b", "failed", |view| {
        ensure!(
            view.phase() == "Failed" && view.container("init")?.ended() == Some((5, "Error")),
            "{}",
            view.phase()
        );
        ensure!(view.container("main")?.id().is_empty(), "main was made");
        Ok(())
    })
    .await;
    node.ready("a").await;
    ensure!(
        node.pods().await?.pod("a")?.container("init")?.restarts() == 1,
        "not tried exactly once more"
    );
    node.finish().await
}

#[tokio::test]
async fn hooks_run_after_the_start_and_before_the_end() -> anyhow::Result<()> {
    let node = Node::start().await?;
    let kept = node.dir().join("kept");
    std::fs::create_dir(&kept)?;
    let main = shell(
        "main",
        "trap 'echo term >>/kept/order; exit 0' TERM; while :; do sleep 0.1; done",
    )
    .mount("kept", "/kept")
    .set(
        "/lifecycle/postStart/exec/command",
        json!(["/bin/sh", "-c", "echo post-start >>/kept/order"]),
    )
    .set(
        "/lifecycle/preStop/exec/command",
        json!(["/bin/sh", "-c", "echo pre-stop >>/kept/order"]),
    );
    node.apply(
        &pod("a")
            .volume("kept", json!({ "hostPath": { "path": kept } }))
            .with(main)
            .grace(10),
    )?;
    node.ready("a").await;
    let order = || std::fs::read_to_string(kept.join("order")).unwrap_or_default();
    ensure!(order() == "post-start\n", "{:?}", order());
    node.remove("a")?;
    node.gone("a").await;
    ensure!(order() == "post-start\npre-stop\nterm\n", "{:?}", order());
    std::fs::remove_dir_all(kept)?;
    node.finish().await
}

#[tokio::test]
async fn a_failing_post_start_hook_ends_its_container() -> anyhow::Result<()> {
    let node = Node::start().await?;
    let main = idle("main").set("/lifecycle/postStart/exec/command", json!(["/bin/false"]));
    node.apply(&pod("a").with(main))?;
    node.until("a", "started again after its hook", |view| {
        let main = view.container("main")?;
        ensure!(main.restarts() >= 1 && !view.is_ready(), "{} restarts", main.restarts());
        Ok(())
    })
    .await;
    node.finish().await
}

#[tokio::test]
async fn an_end_is_polite_first_and_forced_after_the_grace() -> anyhow::Result<()> {
    let node = Node::start().await?;
    node.apply(
        &pod("polite")
            .grace(3600)
            .with(shell("main", "trap 'exit 0' TERM; while :; do sleep 0.1; done")),
    )?;
    node.apply(
        &pod("deaf")
            .grace(2)
            .with(shell("main", "trap '' TERM; while :; do sleep 0.1; done")),
    )?;
    node.ready("polite").await;
    node.ready("deaf").await;
    let start = Instant::now();
    node.remove("polite")?;
    node.remove("deaf")?;
    node.gone("polite").await;
    node.gone("deaf").await;
    ensure!(
        start.elapsed() >= Duration::from_secs(2),
        "forced after {:?}, within its grace",
        start.elapsed()
    );
    node.finish().await
}

#[tokio::test]
async fn a_manifest_put_back_during_the_grace_starts_a_new_pod_after_the_old() -> anyhow::Result<()> {
    let node = Node::start().await?;
    let manifest = pod("a")
        .grace(2)
        .with(shell("main", "trap '' TERM; while :; do sleep 0.1; done"));
    node.apply(&manifest)?;
    let old = node.ready("a").await;
    node.remove("a")?;
    node.until("a", "on its way out", |view| {
        ensure!(
            view.whole().metadata.deletion_timestamp.is_some() || !view.is_ready(),
            "still ready"
        );
        Ok(())
    })
    .await;
    node.apply(&manifest)?;
    node.until("a", "a new one runs", |view| {
        ensure!(
            view.is_ready() && view.container("main")?.id() != old[0],
            "{}",
            view.phase()
        );
        Ok(())
    })
    .await;
    node.finish().await
}

#[tokio::test]
async fn a_pod_that_is_ending_says_so_and_by_when() -> anyhow::Result<()> {
    let node = Node::start().await?;
    let stubborn = shell("main", "trap '' TERM; while :; do sleep 1; done");
    node.apply(&pod("a").grace(8).with(stubborn))?;
    node.ready("a").await;
    node.remove("a")?;
    node.until("a", "ending", |view| {
        let ends_by = &view.whole().metadata.deletion_timestamp;
        ensure!(ends_by.is_some(), "no time is told");
        Ok(())
    })
    .await;
    let table = node.cli("pods", &[]).await?;
    ensure!(table.contains("Terminating"), "{table}");
    node.gone("a").await;
    node.finish().await
}
