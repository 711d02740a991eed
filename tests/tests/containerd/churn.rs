//! Random churn with random kills: pods come, change and go while the agent, containerd and containers are killed.
//!
//! A seed is a sequence of steps; the same seed does the same again (the moments are the machine's). After each, all
//! must be as the manifests say: pods nobody touched run in the same containers, no restart count rose unless its
//! container was killed, no pod is there twice, nothing is left of those that went.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, ensure};
use bosun_testkit::{
    Node, PATIENCE, PodList, PodView, eventually,
    manifest::{idle, pod},
};
use fastrand::Rng;
use nix::sys::signal::{Signal, kill};

/// Seeds in an ordinary run and with `--soak`, over all three tests.
const SEEDS: u64 = 30;
const SOAK_SEEDS: u64 = 300;
const TESTS: u64 = 3;

/// Steps of one seed.
const STEPS: usize = 8;
/// Pods at a time.
const PODS: usize = 5;

#[tokio::test]
async fn churn_and_kills_disturb_nothing_and_leak_nothing_first_third() -> anyhow::Result<()> {
    run(0).await
}

#[tokio::test]
async fn churn_and_kills_disturb_nothing_and_leak_nothing_second_third() -> anyhow::Result<()> {
    run(1).await
}

#[tokio::test]
async fn churn_and_kills_disturb_nothing_and_leak_nothing_last_third() -> anyhow::Result<()> {
    run(2).await
}

/// Every third seed, one after another on one node.
async fn run(part: u64) -> anyhow::Result<()> {
    let seeds = if std::env::var_os("BOSUN_SOAK").is_some() {
        SOAK_SEEDS
    } else {
        SEEDS
    };
    let mut churn = Churn {
        node: Node::start().await?,
        pods: BTreeMap::new(),
        next: 0,
        containerd_kills: 0,
    };
    for seed in (part..seeds).step_by(TESTS as usize) {
        eprintln!("seed {seed}");
        churn.seed(seed).await.with_context(|| format!("seed {seed}"))?;
    }
    churn.node.finish().await
}

/// What is known of a pod that should run.
#[derive(Clone, Debug, Default)]
struct Expected {
    /// Of its manifest.
    version: u64,
    /// Its only container's id, once all had settled; `None` while that container is on its way.
    id: Option<String>,
    /// Its restart count when all had settled last, and one more if its container was killed since.
    restarts: i32,
}

struct Churn {
    node: Node,
    pods: BTreeMap<String, Expected>,
    /// Manifests are numbered, so that a changed one differs.
    next: u64,
    /// How often containerd was killed since all had settled last. A container that is on its way then may die of it.
    containerd_kills: i32,
}

/// Of the manifest that a pod was made of.
fn version_of(pod: PodView<'_>) -> Option<&str> {
    let containers = &pod.whole().spec.as_ref()?.containers;
    let mut env = containers.first()?.env.iter().flatten();
    env.find(|variable| variable.name == "VERSION")?.value.as_deref()
}

impl Churn {
    async fn seed(&mut self, seed: u64) -> anyhow::Result<()> {
        let mut rng = Rng::with_seed(seed);
        for _ in 0..STEPS {
            self.step(&mut rng).await?;
            tokio::time::sleep(Duration::from_millis(rng.u64(0..400))).await;
        }
        if self.node.agent_pid().is_none() {
            self.node.spawn_agent()?;
        }
        self.node.answers().await?;
        self.settle().await
    }

    async fn step(&mut self, rng: &mut Rng) -> anyhow::Result<()> {
        let some = rng.choice(self.pods.keys().cloned().collect::<Vec<_>>());
        match (rng.u32(0..10), some) {
            (0..3, _) if self.pods.len() < PODS => {
                self.next += 1;
                let name = format!("pod-{}", self.next);
                self.apply(&name)?;
            }
            (3, Some(name)) => self.apply(&name)?,
            (4, Some(name)) => {
                self.node.remove(&name)?;
                self.pods.remove(&name);
            }
            (5, Some(name)) => self.kill_container(&name).await?,
            (6..8, _) => match self.node.agent_pid() {
                Some(_) => self.node.kill_agent().await?,
                None => self.node.spawn_agent()?,
            },
            (8, _) => {
                self.kill_containerd();
            }
            _ => {
                self.kill_containerd();
                if self.node.agent_pid().is_some() {
                    self.node.kill_agent().await?;
                }
                self.node.spawn_agent()?;
            }
        }
        Ok(())
    }

    fn apply(&mut self, name: &str) -> anyhow::Result<()> {
        self.next += 1;
        let main = idle("main").env("VERSION", &self.next.to_string());
        self.node.apply(&pod(name).grace(1).with(main))?;
        let expected = Expected {
            version: self.next,
            ..Expected::default()
        };
        self.pods.insert(name.to_owned(), expected);
        Ok(())
    }

    fn kill_containerd(&mut self) {
        // It may be on its way back from the last time.
        if self.node.kill_containerd().is_ok() {
            self.containerd_kills += 1;
        }
    }

    /// One that is known to run, for the first time: later starts wait for their back-off.
    async fn kill_container(&mut self, name: &str) -> anyhow::Result<()> {
        let Some(Expected {
            version,
            id: Some(id),
            restarts: 0,
        }) = self.pods.get(name).cloned()
        else {
            return Ok(());
        };
        let Ok(pid) = self.node.pid_of(&id).await else {
            return Ok(());
        };
        kill(pid, Signal::SIGKILL).context("killing a container")?;
        let expected = Expected {
            version,
            id: None,
            restarts: 1,
        };
        self.pods.insert(name.to_owned(), expected);
        Ok(())
    }

    /// Waits until everything is as it should be, and holds it against what was before.
    async fn settle(&mut self) -> anyhow::Result<()> {
        let list = eventually(PATIENCE * 2, "all pods are ready, and no other", async || {
            let list = self.node.pods().await?;
            let mut names: Vec<_> = list.pods().map(|pod| pod.name().to_owned()).collect();
            names.sort();
            ensure!(
                names.iter().eq(self.pods.keys()),
                "{names:?}, not {:?}",
                self.pods.keys()
            );
            for pod in list.pods() {
                ensure!(pod.is_ready(), "{} is not ready: {:#?}", pod.name(), pod.whole().status);
                let expected = &self.pods[pod.name()];
                // Not the one before it, whose replacement has yet to be read.
                let version = expected.version.to_string();
                ensure!(
                    version_of(pod) == Some(&*version),
                    "{} is not version {version} yet",
                    pod.name()
                );
                let died = if expected.id.is_some() {
                    0
                } else {
                    self.containerd_kills
                };
                let allowed = expected.restarts..=expected.restarts + died;
                let restarts = pod.container("main")?.restarts();
                ensure!(
                    allowed.contains(&restarts),
                    "{}: {restarts} restarts, not {allowed:?}",
                    pod.name()
                );
            }
            Ok(list)
        })
        .await;
        self.compare(&list)?;
        let running = 2 * self.pods.len();
        // A container that was killed is kept beside its successor: its end is part of what the pod reports.
        let kept = self.pods.values().filter(|pod| pod.restarts > 0).count();
        eventually(
            PATIENCE,
            "a sandbox and a container for each pod, and no other",
            async || {
                for (kind, wanted) in [("tasks", running..=running), ("containers", running..=running + kept)] {
                    let listed = self.node.ctr(&[kind, "list", "--quiet"]).await?.lines().count();
                    ensure!(wanted.contains(&listed), "{listed} {kind}, not {wanted:?}");
                }
                Ok(())
            },
        )
        .await;
        Ok(())
    }

    fn compare(&mut self, list: &PodList) -> anyhow::Result<()> {
        for (name, expected) in &mut self.pods {
            let main = list.pod(name)?.container("main")?;
            if let Some(id) = &expected.id {
                ensure!(
                    main.id() == id,
                    "{name} runs in another container than before, though nobody touched it"
                );
            }
            *expected = Expected {
                version: expected.version,
                id: Some(main.id().to_owned()),
                restarts: main.restarts(),
            };
        }
        self.containerd_kills = 0;
        Ok(())
    }
}
