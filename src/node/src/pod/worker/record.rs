//! What a worker tells of its pod and writes down of it.

use std::time::Instant;

use jiff::Timestamp;

use super::{Done, Worker};
use crate::{
    checkpoint::{self, Checkpoint},
    node::Notice,
    pod::{
        phase::{Phase, Why},
        plan::JobKey,
        status::{self, Context},
    },
};

impl Worker {
    /// How long each stage of the first start took; the whole counts until all containers run.
    pub(super) fn note_stage(&mut self, key: &JobKey, begun: Instant) {
        let name = match key {
            JobKey::Volumes => "volumes".to_owned(),
            JobKey::Image(image) => format!("image {image}"),
            JobKey::Sandbox => "sandbox".to_owned(),
            JobKey::Start(name) => format!("container {name}"),
            _ => return,
        };
        let milliseconds = |since: Instant| (since.elapsed().as_secs_f64() * 10_000.0).round() / 10.0;
        self.stages.entry(name).or_insert_with(|| milliseconds(begun));
        let containers = self
            .pod
            .spec
            .as_ref()
            .map(|spec| spec.containers.as_slice())
            .unwrap_or_default();
        let all = containers
            .iter()
            .all(|container| self.stages.contains_key(&format!("container {}", container.name)));
        if all {
            self.stages
                .entry("total".to_owned())
                .or_insert_with(|| milliseconds(self.begun));
        }
    }

    /// Puts the status up where it can be asked for, if it changed.
    pub(super) fn post(&mut self, now: Timestamp) {
        let context = Context {
            phase: self.phase,
            accepted_at: self.accepted_at,
            host_addresses: &self.node.host_addresses,
            previous: self.status.as_ref().or(self.before.as_ref()),
        };
        let status = match &self.verdict {
            Some(verdict) => verdict.clone(),
            None => status::status(&self.view(now), &context),
        };
        if self.busy.contains(&JobKey::Cleanup) && self.verdict.is_none() {
            // From here on the runtime has less and less to tell of it.
            self.verdict = Some(status.clone());
        }
        let ends_by = match self.phase {
            Phase::Terminating {
                deadline,
                why: Why::Removed,
            } => Some(deadline),
            _ => None,
        };
        let beside = (self.stages.len(), ends_by);
        let posted = self.status.as_ref() == Some(&status) && self.posted == beside;
        // Before the runtime has answered there is nothing to tell but that it does not; and where something was told
        // before, that stands.
        let silent = self.before.is_some() || !self.retries.contains_key(&JobKey::Observe);
        let unknown = self.status.is_none() && self.must_observe && silent && self.verdict.is_none();
        if posted || unknown {
            return;
        }
        self.status = Some(status.clone());
        self.posted = beside;
        self.node.board.post(
            &self.uid,
            Notice {
                pod: self.pod.clone(),
                source: self.source,
                status,
                stages: self.stages.clone(),
                ends_by,
            },
        );
    }

    /// Writes down what a restart of the agent must not forget, if it changed; one write at a time.
    pub(super) fn save(&mut self) {
        if self.saving || !matches!(self.phase, Phase::Syncing) {
            return;
        }
        let current = Checkpoint {
            key: self.key.clone(),
            accepted_at: self.accepted_at,
            backoffs: self.backoffs.clone(),
            verdicts: self.verdicts.remembered(),
            stages: self.stages.clone(),
        };
        if self.saved.as_ref() == Some(&current) {
            return;
        }
        self.saved = Some(current.clone());
        self.saving = true;
        let path = self.node.places.checkpoint(&self.uid);
        let write = tokio::task::spawn_blocking(move || checkpoint::write(&path, &current));
        self.spawn(async move {
            let written = write.await.map_err(|error| error.to_string());
            Done::Checkpoint(written.and_then(|written| written.map_err(|error| error.to_string())))
        });
    }
}
