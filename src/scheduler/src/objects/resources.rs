//! Amounts of resources, and what a pod asks for.

use std::{collections::BTreeMap, sync::Arc};

use bosun_api::Quantity;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Written;

use super::pod::wire;

/// An amount of each resource.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Resources {
    /// Thousandths of a core.
    pub cpu: i64,
    /// Bytes.
    pub memory: i64,
    /// Bytes of `ephemeral-storage`.
    pub ephemeral: i64,
    /// Extended resources and huge pages, sorted by name.
    pub scalar: Vec<(Arc<str>, i64)>,
}

/// What a container without a request is taken to use when nodes are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Minimum {
    /// Nothing: what counts against a node's capacity.
    Zero,
    /// 100m and 200 MiB: what nodes are compared by, so that pods without requests spread, too.
    Usual,
}

const USUAL_CPU: i64 = 100;
const USUAL_MEMORY: i64 = 200 * 1024 * 1024;

type Amounts = BTreeMap<String, Written>;

impl Resources {
    /// Amounts as an object carries them; `pods` is left out, and what is no quantity counts as nothing.
    pub(super) fn of(written: Option<&Amounts>) -> Self {
        let mut resources = Self::default();
        for (name, amount) in written.into_iter().flatten() {
            let Ok(amount) = Quantity::of(amount) else { continue };
            match name.as_str() {
                "cpu" => resources.cpu = amount.milli_value(),
                "memory" => resources.memory = amount.value(),
                "ephemeral-storage" => resources.ephemeral = amount.value(),
                "pods" => {}
                _ => resources.scalar.push((name.as_str().into(), amount.value())),
            }
        }
        resources
    }

    /// The amount of one resource by name.
    pub fn get(&self, name: &str) -> i64 {
        match name {
            "cpu" => self.cpu,
            "memory" => self.memory,
            "ephemeral-storage" => self.ephemeral,
            _ => {
                let place = self.scalar.binary_search_by(|(one, _)| (**one).cmp(name));
                place.map_or(0, |place| self.scalar[place].1)
            }
        }
    }

    /// Whether nothing is asked for.
    pub fn is_zero(&self) -> bool {
        self.cpu == 0 && self.memory == 0 && self.ephemeral == 0 && self.scalar.is_empty()
    }

    /// Adds `other`.
    pub fn add(&mut self, other: &Self) {
        self.merge(other, i64::saturating_add);
    }

    /// Takes `other` away.
    pub fn sub(&mut self, other: &Self) {
        self.merge(other, i64::saturating_sub);
        self.scalar.retain(|(_, amount)| *amount != 0);
    }

    /// The greater of both, resource by resource.
    pub fn max(&mut self, other: &Self) {
        self.merge(other, i64::max);
    }

    fn merge(&mut self, other: &Self, with: fn(i64, i64) -> i64) {
        self.cpu = with(self.cpu, other.cpu);
        self.memory = with(self.memory, other.memory);
        self.ephemeral = with(self.ephemeral, other.ephemeral);
        for (name, amount) in &other.scalar {
            match self.scalar.binary_search_by(|(one, _)| one.cmp(name)) {
                Ok(place) => self.scalar[place].1 = with(self.scalar[place].1, *amount),
                Err(place) => self.scalar.insert(place, (name.clone(), with(0, *amount))),
            }
        }
    }

    fn at_least(mut self, written: Option<&Amounts>, minimum: Minimum) -> Self {
        if minimum == Minimum::Usual {
            let asks = |name| written.is_some_and(|written| written.contains_key(name));
            if !asks("cpu") {
                self.cpu = USUAL_CPU;
            }
            if !asks("memory") {
                self.memory = USUAL_MEMORY;
            }
        }
        self
    }

    /// All that a pod asks for.
    ///
    /// Containers and sidecars run together; an init container runs beside the sidecars started before it; the pod
    /// takes what is most at any time, with its overhead. Requests of the pod as a whole stand for those of its
    /// containers (KEP-2837). While a container is resized in place the greatest of what is asked, allocated and in
    /// force counts (KEP-1287).
    pub(super) fn of_pod(spec: &wire::Spec, status: &wire::Status, minimum: Minimum) -> Self {
        let infeasible = status
            .condition("PodResizePending")
            .is_some_and(|one| one.reason.as_deref() == Some("Infeasible"));
        let one = |container: &wire::Container| {
            let asked = container
                .resources
                .as_ref()
                .and_then(|resources| resources.requests.as_ref());
            let mut amount = Self::of(asked).at_least(asked, minimum);
            if let Some(state) = status.container(&container.name) {
                let in_force = state
                    .resources
                    .as_ref()
                    .and_then(|resources| resources.requests.as_ref());
                let allocated = state.allocated_resources.as_ref();
                if infeasible && (in_force.is_some() || allocated.is_some()) {
                    amount = Self::of(allocated).at_least(allocated.or(in_force), minimum);
                }
                amount.max(&Self::of(in_force));
                amount.max(&Self::of(allocated));
            }
            amount
        };
        let mut running = Self::default();
        for container in &spec.containers {
            running.add(&one(container));
        }
        let mut sidecars = Self::default();
        let mut starting = Self::default();
        for container in spec.init_containers.iter().flatten() {
            let amount = one(container);
            if container.restart_policy.as_deref() == Some("Always") {
                sidecars.add(&amount);
                starting.max(&sidecars);
            } else {
                let mut together = sidecars.clone();
                together.add(&amount);
                starting.max(&together);
            }
        }
        running.add(&sidecars);
        running.max(&starting);
        let whole = spec
            .resources
            .as_ref()
            .and_then(|resources| resources.requests.as_ref());
        if let Some(written) = whole {
            let amounts = Self::of(Some(written));
            if written.contains_key("cpu") {
                running.cpu = amounts.cpu;
            }
            if written.contains_key("memory") {
                running.memory = amounts.memory;
            }
            for (name, amount) in amounts.scalar {
                match running.scalar.binary_search_by(|(one, _)| one.cmp(&name)) {
                    Ok(place) => running.scalar[place].1 = amount,
                    Err(place) => running.scalar.insert(place, (name, amount)),
                }
            }
        }
        running.add(&Self::of(spec.overhead.as_ref()));
        running
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn ask(spec: Value, status: Value) -> Resources {
        let spec: wire::Spec = serde_json::from_value(spec).unwrap();
        let status: wire::Status = serde_json::from_value(status).unwrap();
        Resources::of_pod(&spec, &status, Minimum::Zero)
    }

    fn container(cpu: &str) -> Value {
        json!({"name": cpu, "resources": {"requests": {"cpu": cpu}}})
    }

    fn sidecar(cpu: &str) -> Value {
        json!({"name": cpu, "restartPolicy": "Always", "resources": {"requests": {"cpu": cpu}}})
    }

    #[test]
    fn a_pod_takes_what_is_most_at_any_time() {
        for (what, spec, cpu) in [
            ("sum", json!({"containers": [container("1"), container("2")]}), 3000),
            (
                "a greater init container",
                json!({"containers": [container("1")], "initContainers": [container("5"), container("2")]}),
                5000,
            ),
            (
                "sidecars run on",
                json!({"containers": [container("1")], "initContainers": [sidecar("2"), container("1")]}),
                3000,
            ),
            (
                "beside sidecars before it",
                json!({"containers": [container("1")], "initContainers": [sidecar("2"), container("4"), sidecar("1")]}),
                6000,
            ),
            (
                "overhead",
                json!({"containers": [container("1")], "overhead": {"cpu": "250m"}}),
                1250,
            ),
            (
                "the pod as a whole",
                json!({"containers": [container("1")], "resources": {"requests": {"cpu": "4"}}, "overhead": {"cpu": "1"}}),
                5000,
            ),
        ] {
            assert_eq!(ask(spec, json!({})).cpu, cpu, "{what}");
        }
    }

    #[test]
    fn while_a_container_is_resized_the_greatest_counts_unless_it_can_not_be() {
        let spec = json!({"containers": [container("4")]});
        let state = json!({"name": "4", "allocatedResources": {"cpu": "2"}, "resources": {"requests": {"cpu": "1"}}});
        assert_eq!(ask(spec.clone(), json!({"containerStatuses": [state]})).cpu, 4000);
        let pending = json!({"containerStatuses": [state], "conditions": [
            {"type": "PodResizePending", "status": "True", "reason": "Infeasible"}]});
        assert_eq!(ask(spec, pending).cpu, 2000);
    }

    #[test]
    fn containers_without_requests_are_compared_by_the_usual() {
        let spec: wire::Spec =
            serde_json::from_value(json!({"containers": [{"name": "a"}, {"name": "b", "resources": {"requests": {"cpu": "0", "memory": "1Gi"}}}]}))
                .unwrap();
        let usual = Resources::of_pod(&spec, &wire::Status::default(), Minimum::Usual);
        assert_eq!((usual.cpu, usual.memory), (USUAL_CPU, USUAL_MEMORY + (1 << 30)));
    }

    #[test]
    fn what_was_added_can_be_taken_away() {
        let amount: Amounts = serde_json::from_value(json!({"cpu": "1", "example.com/gpu": "2"})).unwrap();
        let amount = Resources::of(Some(&amount));
        let mut sum = Resources::default();
        sum.add(&amount);
        sum.add(&amount);
        assert_eq!(sum.get("example.com/gpu"), 4);
        sum.sub(&amount);
        sum.sub(&amount);
        assert_eq!(sum, Resources::default());
    }
}
