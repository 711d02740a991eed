//! Probes: three kinds, four handlers.

use anyhow::ensure;
use bosun_testkit::{
    Node,
    grpc_health::Health,
    manifest::{Container, idle, pod, shell},
};
use serde_json::{Value, json};

/// The port of the servers probed here.
const PORT: u16 = 9000;

const HANDLERS: [&str; 4] = ["exec", "http", "tcp", "grpc"];

/// A container whose exec, http and tcp probes succeed while `/tmp/on` is there (grpc: see [`Switch`]).
fn switched(on: bool) -> Container {
    let first = if on { "touch /tmp/on;" } else { "" };
    shell(
        "main",
        &format!("{first} while :; do [ -e /tmp/on ] && httpd -f -p {PORT} -h /tmp || sleep 0.1; done"),
    )
}

fn handler(name: &str) -> Value {
    match name {
        "exec" => json!({ "exec": { "command": ["/bin/sh", "-c", "test -e /tmp/on"] } }),
        "http" => json!({ "httpGet": { "path": "/on", "port": PORT } }),
        "tcp" => json!({ "tcpSocket": { "port": PORT } }),
        _ => json!({ "grpc": { "port": PORT + 1 } }),
    }
}

/// What makes a pod's probe succeed or fail.
struct Switch {
    container: String,
    health: Option<Health>,
}

impl Switch {
    /// For a pod whose container runs; its gRPC server is the test's own, in the pod's network namespace.
    async fn of(node: &Node, pod: &str, handler: &str, on: bool) -> anyhow::Result<Self> {
        let container = node.until(pod, "running", |view| {
            let main = view.container("main")?;
            ensure!(main.is_running(), "not running");
            Ok(main.id().to_owned())
        });
        let container = container.await;
        let health = if handler == "grpc" {
            Some(Health::serve(&node.netns_of(&container).await?, PORT + 1, on)?)
        } else {
            None
        };
        Ok(Self { container, health })
    }

    async fn set(&self, node: &Node, on: bool) -> anyhow::Result<()> {
        if let Some(health) = &self.health {
            health.set(on);
            return Ok(());
        }
        let script = if on {
            "touch /tmp/on"
        } else {
            "rm /tmp/on; killall httpd; true"
        };
        node.exec(&self.container, &["/bin/sh", "-c", script]).await?;
        Ok(())
    }
}

#[tokio::test]
async fn readiness_follows_its_probe_with_every_handler() -> anyhow::Result<()> {
    let node = Node::start().await?;
    for name in HANDLERS {
        node.apply(
            &pod(name)
                .grace(0)
                .with(switched(false).probe("readiness", handler(name))),
        )?;
    }
    for name in HANDLERS {
        let switch = Switch::of(&node, name, name, false).await?;
        for on in [true, false, true] {
            switch.set(&node, on).await?;
            node.until(name, if on { "ready" } else { "not ready" }, |view| {
                let main = view.container("main")?;
                ensure!(
                    view.is_ready() == on && main.is_ready() == on,
                    "ready: {}",
                    view.is_ready()
                );
                ensure!(
                    main.is_running() && main.restarts() == 0,
                    "{} restarts",
                    main.restarts()
                );
                Ok(())
            })
            .await;
        }
    }
    node.finish().await
}

#[tokio::test]
async fn a_failing_liveness_probe_starts_the_container_again_with_every_handler() -> anyhow::Result<()> {
    let node = Node::start().await?;
    let mut switches = Vec::new();
    for name in HANDLERS {
        // Long enough before the first look for the gRPC server to be there.
        let probe = json!({ "initialDelaySeconds": 4, "failureThreshold": 1 });
        let mut probe = probe.as_object().cloned().unwrap_or_default();
        probe.extend(handler(name).as_object().cloned().unwrap_or_default());
        node.apply(&pod(name).grace(0).with(switched(true).probe("liveness", probe.into())))?;
    }
    for name in HANDLERS {
        switches.push((name, Switch::of(&node, name, name, true).await?));
    }
    for (name, switch) in &switches {
        ensure!(
            node.pods().await?.pod(name)?.container("main")?.restarts() == 0,
            "{name} restarted while alive"
        );
        switch.set(&node, false).await?;
    }
    for (name, switch) in &switches {
        node.until(name, "started again", |view| {
            let main = view.container("main")?;
            ensure!(
                main.restarts() >= 1 && main.id() != switch.container,
                "{} restarts",
                main.restarts()
            );
            ensure!(
                main.ended_before().is_some_and(|(code, _)| code != 0),
                "{:?}",
                main.ended_before()
            );
            Ok(())
        })
        .await;
        if let Some(health) = &switch.health {
            health.set(true);
        }
    }
    node.finish().await
}

#[tokio::test]
async fn a_startup_probe_holds_the_others_off_until_it_succeeds() -> anyhow::Result<()> {
    let node = Node::start().await?;
    // Alive only later than its liveness probe would wait for.
    let main = shell("main", "sleep 4; touch /tmp/on; exec sleep 3600")
        .probe(
            "startup",
            json!({ "exec": { "command": ["test", "-e", "/tmp/on"] }, "failureThreshold": 60 }),
        )
        .probe(
            "liveness",
            json!({ "exec": { "command": ["test", "-e", "/tmp/on"] }, "failureThreshold": 1 }),
        )
        .probe("readiness", json!({ "exec": { "command": ["true"] } }));
    node.apply(&pod("a").grace(0).with(main))?;
    node.until("a", "runs, not started", |view| {
        let main = view.container("main")?;
        ensure!(
            main.is_running() && !main.is_started() && !view.is_ready(),
            "started: {}",
            main.is_started()
        );
        Ok(())
    })
    .await;
    node.until("a", "started and ready", |view| {
        let main = view.container("main")?;
        ensure!(main.is_started() && view.is_ready(), "started: {}", main.is_started());
        ensure!(main.restarts() == 0, "{} restarts", main.restarts());
        Ok(())
    })
    .await;
    node.finish().await
}

#[tokio::test]
async fn a_startup_probe_that_never_succeeds_starts_the_container_again() -> anyhow::Result<()> {
    let node = Node::start().await?;
    node.apply(
        &pod("a")
            .grace(0)
            .with(idle("main").probe("startup", json!({ "exec": { "command": ["false"] } }))),
    )?;
    node.until("a", "started again", |view| {
        let restarts = view.container("main")?.restarts();
        ensure!(restarts >= 1 && !view.is_ready(), "{restarts} restarts");
        Ok(())
    })
    .await;
    node.finish().await
}

#[tokio::test]
async fn a_probe_that_hangs_fails_at_its_timeout() -> anyhow::Result<()> {
    let node = Node::start().await?;
    let hangs = json!({ "exec": { "command": ["sleep", "3600"] } });
    node.apply(&pod("a").grace(0).with(idle("main").probe("liveness", hangs)))?;
    node.apply(&pod("b").with(idle("main")))?;
    node.until("a", "started again", |view| {
        let restarts = view.container("main")?.restarts();
        ensure!(restarts >= 1, "{restarts} restarts");
        Ok(())
    })
    .await;
    node.ready("b").await;
    node.finish().await
}
