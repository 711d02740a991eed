//! What the probes of a pod's containers say, and what they said before a restart of the agent. Pure.

use std::collections::BTreeMap;

use bosun_api::{
    ContainerId,
    core::{Container, PodStatus},
};

use super::{
    observed::{ObservedContainer, ObservedPod},
    plan::Verdict,
};
use crate::{
    checkpoint::Checkpoint,
    probe::{self, ProbeKind, ProbeReport, ProbeVerdict},
};

/// Verdicts by container.
#[derive(Debug, Default)]
pub struct Verdicts {
    current: BTreeMap<ContainerId, Verdict>,
    remembered: BTreeMap<ContainerId, probe::Verdicts>,
}

impl Verdicts {
    /// With what was remembered across a restart.
    pub fn new(remembered: BTreeMap<ContainerId, probe::Verdicts>) -> Self {
        Self {
            current: BTreeMap::new(),
            remembered,
        }
    }

    /// The verdicts by container.
    pub fn all(&self) -> &BTreeMap<ContainerId, Verdict> {
        &self.current
    }

    /// Takes up what was remembered of containers that still run: a ready pod stays ready until a probe says
    /// otherwise. The rest is forgotten.
    pub fn recover(&mut self, observed: &ObservedPod) {
        for (id, remembered) in std::mem::take(&mut self.remembered) {
            if observed
                .container(id.as_str())
                .is_some_and(ObservedContainer::is_running)
            {
                self.current.entry(id).or_insert(Verdict {
                    started: remembered.started,
                    ready: remembered.ready,
                    failed: None,
                });
            }
        }
    }

    /// Begins to keep the verdict of a container; `Some` if one was remembered.
    pub fn begin(&mut self, id: &ContainerId, container: &Container) -> Option<probe::Verdicts> {
        if let Some(verdict) = self.current.get(id) {
            return Some(probe::Verdicts {
                started: verdict.started,
                ready: verdict.ready,
            });
        }
        self.current.insert(id.clone(), before_probes(container));
        None
    }

    /// Takes in what a probe found.
    pub fn report(&mut self, report: &ProbeReport, container: Option<&Container>) {
        let Some(verdict) = self.current.get_mut(&report.id) else {
            return;
        };
        let success = report.verdict == ProbeVerdict::Success;
        match (report.kind, success) {
            (ProbeKind::Readiness, ready) => verdict.ready = ready && verdict.started,
            (ProbeKind::Startup, true) => {
                verdict.started = true;
                verdict.ready = container.is_some_and(|container| container.readiness_probe.is_none());
            }
            (ProbeKind::Liveness, true) => {}
            (kind @ (ProbeKind::Startup | ProbeKind::Liveness), false) => {
                let (word, probe) = match kind {
                    ProbeKind::Startup => (
                        "startup",
                        container.and_then(|container| container.startup_probe.as_ref()),
                    ),
                    _ => (
                        "liveness",
                        container.and_then(|container| container.liveness_probe.as_ref()),
                    ),
                };
                let grace = probe.and_then(|probe| probe.termination_grace_period_seconds);
                let grace = grace.map(|seconds| std::time::Duration::from_secs(seconds.max(0).unsigned_abs()));
                verdict.failed = Some((format!("{word} probe failed: {}", report.message), grace));
            }
        }
    }

    /// Forgets containers that do not run.
    pub fn keep_running(&mut self, observed: &ObservedPod) {
        self.current.retain(|id, _| {
            observed
                .container(id.as_str())
                .is_some_and(ObservedContainer::is_running)
        });
    }

    /// What a restart of the agent must not forget.
    pub fn remembered(&self) -> BTreeMap<ContainerId, probe::Verdicts> {
        let current = self.current.iter().map(|(id, verdict)| {
            let remembered = probe::Verdicts {
                started: verdict.started,
                ready: verdict.ready,
            };
            (id.clone(), remembered)
        });
        self.remembered.clone().into_iter().chain(current).collect()
    }
}

/// What was known of a pod's containers before this agent began: by its checkpoint, and else by what the control plane
/// was told. An agent may be killed between telling the one and the other.
pub fn told(status: Option<&PodStatus>, checkpoint: Option<&Checkpoint>) -> BTreeMap<ContainerId, probe::Verdicts> {
    let statuses = status.into_iter().flat_map(|status| {
        let init = status.init_container_statuses.iter().flatten();
        init.chain(status.container_statuses.iter().flatten())
    });
    let told = statuses.filter_map(|status| {
        let (_, id) = status.container_id.as_ref()?.split_once("://")?;
        let verdicts = probe::Verdicts {
            started: status.started.unwrap_or(status.ready),
            ready: status.ready,
        };
        Some((ContainerId::from(id), verdicts))
    });
    let mut known: BTreeMap<_, _> = told.collect();
    known.extend(
        checkpoint
            .map(|checkpoint| checkpoint.verdicts.clone())
            .unwrap_or_default(),
    );
    known
}

/// What a container's probes say before any has run.
fn before_probes(container: &Container) -> Verdict {
    let started = container.startup_probe.is_none();
    Verdict {
        started,
        ready: started && container.readiness_probe.is_none(),
        failed: None,
    }
}

#[cfg(test)]
mod tests {
    use bosun_api::core::Probe;
    use jiff::Timestamp;

    use super::*;
    use crate::pod::fixture::{Fixture, exited, running};

    fn container(startup: bool, readiness: bool) -> Container {
        Container {
            startup_probe: startup.then(Probe::default),
            readiness_probe: readiness.then(Probe::default),
            liveness_probe: Some(Probe {
                termination_grace_period_seconds: Some(7),
                ..Probe::default()
            }),
            ..Container::default()
        }
    }

    fn report(kind: ProbeKind, success: bool) -> ProbeReport {
        ProbeReport {
            id: "a0".into(),
            container: "a".into(),
            kind,
            verdict: if success {
                ProbeVerdict::Success
            } else {
                ProbeVerdict::Failure
            },
            message: "no answer".into(),
            at: Timestamp::UNIX_EPOCH,
        }
    }

    // (startup probe, readiness probe, reports, started, ready)
    type Case<'a> = (bool, bool, &'a [(ProbeKind, bool)], bool, bool);

    #[test]
    fn readiness_follows_startup_and_its_own_probe() {
        use ProbeKind::{Readiness, Startup};
        let table: [Case<'_>; 7] = [
            (false, false, &[], true, true),
            (true, false, &[], false, false),
            (true, false, &[(Startup, true)], true, true),
            (true, true, &[(Startup, true)], true, false),
            (true, true, &[(Startup, true), (Readiness, true)], true, true),
            (false, true, &[(Readiness, true)], true, true),
            (false, true, &[(Readiness, true), (Readiness, false)], true, false),
        ];
        for (startup, readiness, reports, started, ready) in table {
            let spec = container(startup, readiness);
            let mut verdicts = Verdicts::default();
            verdicts.begin(&"a0".into(), &spec);
            for (kind, success) in reports {
                verdicts.report(&report(*kind, *success), Some(&spec));
            }
            let verdict = &verdicts.all()["a0"];
            assert_eq!(
                (verdict.started, verdict.ready),
                (started, ready),
                "{startup} {readiness} {reports:?}"
            );
            assert_eq!(verdict.failed, None);
        }
    }

    #[test]
    fn a_failed_liveness_probe_gives_the_container_up_with_the_probes_grace() {
        let spec = container(false, false);
        let mut verdicts = Verdicts::default();
        verdicts.begin(&"a0".into(), &spec);
        verdicts.report(&report(ProbeKind::Liveness, false), Some(&spec));
        let (why, grace) = verdicts.all()["a0"].failed.clone().unwrap();
        assert_eq!(why, "liveness probe failed: no answer");
        assert_eq!(grace, Some(std::time::Duration::from_secs(7)));
    }

    #[test]
    fn what_was_ready_before_a_restart_is_ready_after_it_if_it_still_runs() {
        let remembered = probe::Verdicts {
            started: true,
            ready: true,
        };
        let remembered = BTreeMap::from([("a0".into(), remembered), ("b0".into(), remembered)]);
        let fixture = Fixture::new("Always", &["a", "b"])
            .prepared()
            .with("a", 0, running())
            .with("b", 0, exited(1));
        let mut verdicts = Verdicts::new(remembered.clone());
        assert_eq!(
            verdicts.remembered(),
            remembered,
            "not forgotten while the runtime is away"
        );
        verdicts.recover(&fixture.observed);
        assert!(verdicts.all()["a0"].ready);
        assert!(!verdicts.all().contains_key("b0"));
    }
}
