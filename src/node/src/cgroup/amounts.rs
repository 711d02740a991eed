//! What pods and containers may use, from their requests and limits. Pure.

use std::collections::BTreeMap;

use bosun_api::{
    QosClass, Quantity,
    core::{Container, Pod, ResourceRequirements},
    qos_class,
};
use bosun_cri::v1::LinuxContainerResources;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Written;

use crate::pod::plan::is_sidecar;

/// The kernel's least and most processor shares (cgroup v1).
pub const LEAST_SHARES: u64 = 2;
/// See [`LEAST_SHARES`].
pub const MOST_SHARES: u64 = 262_144;
/// Period of the processor quota, in microseconds.
pub const PERIOD: u64 = 100_000;
/// The kernel's least quota, in microseconds.
const LEAST_QUOTA: i64 = 1000;

/// Processor time and memory, each if it was named.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Amount {
    milli_cpu: Option<i64>,
    memory: Option<i64>,
}

/// What a pod's cgroup is set to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PodAmounts {
    /// In cgroup v1's terms; see [`weight`].
    pub cpu_shares: u64,
    /// Microseconds of each [`PERIOD`]; `None` for no limit.
    pub cpu_quota: Option<i64>,
    /// Bytes; `None` for no limit.
    pub memory_limit: Option<i64>,
}

impl Amount {
    fn of(map: Option<&BTreeMap<String, Written>>) -> Self {
        let read = |name| {
            map.and_then(|map| map.get(name))
                .and_then(|written| Quantity::of(written).ok())
        };
        Self {
            milli_cpu: read("cpu").map(Quantity::milli_value),
            memory: read("memory").map(Quantity::value),
        }
    }

    fn limits(resources: Option<&ResourceRequirements>) -> Self {
        Self::of(resources.and_then(|resources| resources.limits.as_ref()))
    }

    /// A request that isn't named is as much as the limit.
    fn requests(resources: Option<&ResourceRequirements>) -> Self {
        let (limits, requests) = (
            Self::limits(resources),
            Self::of(resources.and_then(|resources| resources.requests.as_ref())),
        );
        Self {
            milli_cpu: requests.milli_cpu.or(limits.milli_cpu),
            memory: requests.memory.or(limits.memory),
        }
    }

    fn zip(self, other: Self, with: impl Fn(Option<i64>, Option<i64>) -> Option<i64>) -> Self {
        Self {
            milli_cpu: with(self.milli_cpu, other.milli_cpu),
            memory: with(self.memory, other.memory),
        }
    }

    /// A request: what isn't named is nothing.
    fn plus(self, other: Self) -> Self {
        self.zip(other, |a, b| Some(a.unwrap_or(0).saturating_add(b.unwrap_or(0))))
    }

    /// A limit: what isn't named has no limit, and so has the sum.
    fn limit_plus(self, other: Self) -> Self {
        self.zip(other, |a, b| Some(a?.saturating_add(b?)))
    }

    fn most(self, other: Self) -> Self {
        self.zip(other, |a, b| Some(a.unwrap_or(0).max(b.unwrap_or(0))))
    }

    fn limit_most(self, other: Self) -> Self {
        self.zip(other, |a, b| Some(a?.max(b?)))
    }
}

const NOTHING: Amount = Amount {
    milli_cpu: Some(0),
    memory: Some(0),
};

/// Sums over a pod's containers: apps and sidecars together, or an init container with the sidecars before it,
/// whichever is more (KEP-753); then the overhead.
fn total(
    pod: &Pod,
    read: fn(Option<&ResourceRequirements>) -> Amount,
    plus: fn(Amount, Amount) -> Amount,
    most: fn(Amount, Amount) -> Amount,
) -> Amount {
    let Some(spec) = &pod.spec else { return NOTHING };
    let of = |container: &Container| read(container.resources.as_ref());
    let apps = spec.containers.iter().map(of).fold(NOTHING, plus);
    let (mut sidecars, mut peak) = (NOTHING, NOTHING);
    for container in spec.init_containers.iter().flatten() {
        if is_sidecar(container) {
            sidecars = plus(sidecars, of(container));
            peak = most(peak, sidecars);
        } else {
            peak = most(peak, plus(sidecars, of(container)));
        }
    }
    let own = most(plus(apps, sidecars), peak);
    let whole = read(spec.resources.as_ref());
    let named = Amount {
        milli_cpu: whole.milli_cpu.or(own.milli_cpu),
        memory: whole.memory.or(own.memory),
    };
    if spec.overhead.is_none() {
        return named;
    }
    let overhead = Amount::of(spec.overhead.as_ref());
    plus(named, NOTHING.plus(overhead))
}

fn shares_of(milli_cpu: i64) -> u64 {
    let shares = milli_cpu.max(0).unsigned_abs().saturating_mul(1024) / 1000;
    shares.clamp(LEAST_SHARES, MOST_SHARES)
}

fn quota_of(milli_cpu: i64) -> i64 {
    (milli_cpu.saturating_mul(PERIOD as i64) / 1000).max(LEAST_QUOTA)
}

/// cgroup v2's weight (1 to 10,000) of v1's shares (2 to 262,144), linearly as runc converts them.
pub fn weight(shares: u64) -> u64 {
    1 + (shares.clamp(LEAST_SHARES, MOST_SHARES) - 2) * 9999 / 262_142
}

/// v1's shares of v2's weight; see [`weight`].
pub fn shares(weight: u64) -> u64 {
    2 + (weight.clamp(1, 10_000) - 1) * 262_142 / 9999
}

/// What the pod's cgroup is set to.
pub fn pod_amounts(pod: &Pod) -> PodAmounts {
    let requests = total(pod, Amount::requests, Amount::plus, Amount::most);
    let limits = total(pod, Amount::limits, Amount::limit_plus, Amount::limit_most);
    let best_effort = pod
        .spec
        .as_ref()
        .is_none_or(|spec| qos_class(spec) == QosClass::BestEffort);
    let named = |limit: Option<i64>| limit.filter(|limit| *limit > 0 && !best_effort);
    PodAmounts {
        cpu_shares: shares_of(requests.milli_cpu.unwrap_or(0)),
        cpu_quota: named(limits.milli_cpu).map(quota_of),
        memory_limit: named(limits.memory),
    }
}

/// The pod's amounts in CRI's terms.
pub fn sandbox_resources(pod: &Pod) -> LinuxContainerResources {
    let amounts = pod_amounts(pod);
    LinuxContainerResources {
        cpu_period: PERIOD as i64,
        cpu_quota: amounts.cpu_quota.unwrap_or(0),
        cpu_shares: amounts.cpu_shares as i64,
        memory_limit_in_bytes: amounts.memory_limit.unwrap_or(0),
        ..LinuxContainerResources::default()
    }
}

/// What the pod's runtime class adds, in CRI's terms.
pub fn overhead(pod: &Pod) -> LinuxContainerResources {
    let overhead = Amount::of(pod.spec.as_ref().and_then(|spec| spec.overhead.as_ref()));
    LinuxContainerResources {
        cpu_shares: overhead.milli_cpu.map_or(0, |milli| shares_of(milli) as i64),
        memory_limit_in_bytes: overhead.memory.unwrap_or(0),
        ..LinuxContainerResources::default()
    }
}

/// What one container may use, and how soon the kernel kills it for want of memory.
pub fn container_resources(pod: &Pod, container: &Container, node_memory: i64) -> LinuxContainerResources {
    let resources = container.resources.as_ref();
    let (requests, limits) = (Amount::requests(resources), Amount::limits(resources));
    LinuxContainerResources {
        cpu_period: PERIOD as i64,
        cpu_quota: limits.milli_cpu.filter(|limit| *limit > 0).map_or(0, quota_of),
        cpu_shares: shares_of(requests.milli_cpu.unwrap_or(0)) as i64,
        memory_limit_in_bytes: limits.memory.unwrap_or(0),
        oom_score_adj: oom_score(pod, requests.memory.unwrap_or(0), node_memory),
        ..LinuxContainerResources::default()
    }
}

/// From -997 (killed last) to 1000 (first): the smaller the share of the node's memory a burstable container asked
/// for, the sooner it goes.
fn oom_score(pod: &Pod, memory_request: i64, node_memory: i64) -> i64 {
    let spec = pod.spec.as_ref();
    let critical = spec
        .and_then(|spec| spec.priority)
        .is_some_and(|priority| priority >= 2_000_001_000);
    let critical =
        critical || spec.is_some_and(|spec| spec.priority_class_name.as_deref() == Some("system-node-critical"));
    match spec.map_or(QosClass::BestEffort, qos_class) {
        _ if critical => -997,
        QosClass::Guaranteed => -997,
        QosClass::BestEffort => 1000,
        QosClass::Burstable => {
            let share = memory_request
                .max(0)
                .saturating_mul(1000)
                .checked_div(node_memory)
                .unwrap_or(0);
            (1000 - share).clamp(3, 999)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pod::fixture::Fixture;

    fn resources(requests: &[(&str, &str)], limits: &[(&str, &str)]) -> ResourceRequirements {
        let map = |pairs: &[(&str, &str)]| {
            let pairs = pairs
                .iter()
                .map(|(name, amount)| ((*name).to_owned(), Written((*amount).to_owned())));
            let map: BTreeMap<_, _> = pairs.collect();
            (!map.is_empty()).then_some(map)
        };
        ResourceRequirements {
            requests: map(requests),
            limits: map(limits),
            ..ResourceRequirements::default()
        }
    }

    type Pairs<'a> = &'a [(&'a str, &'a str)];
    // (init, apps, shares, quota, memory)
    type Case<'a> = (
        &'a [(bool, Pairs<'a>, Pairs<'a>)],
        &'a [(Pairs<'a>, Pairs<'a>)],
        u64,
        Option<i64>,
        Option<i64>,
    );

    fn pod(init: &[(bool, Pairs<'_>, Pairs<'_>)], apps: &[(Pairs<'_>, Pairs<'_>)]) -> Pod {
        let names: Vec<String> = (0..apps.len()).map(|index| format!("app{index}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let mut fixture = Fixture::new("Always", &names);
        for (index, (sidecar, _, _)) in init.iter().enumerate() {
            fixture = fixture.init(&format!("init{index}"), *sidecar);
        }
        let spec = fixture.pod.spec.as_mut().unwrap();
        for (container, (requests, limits)) in spec.containers.iter_mut().zip(apps) {
            container.resources = Some(resources(requests, limits));
        }
        for (container, (_, requests, limits)) in spec.init_containers.iter_mut().flatten().zip(init) {
            container.resources = Some(resources(requests, limits));
        }
        fixture.pod
    }

    #[test]
    fn a_pods_cgroup_follows_from_its_containers() {
        let small: Pairs<'_> = &[("cpu", "100m"), ("memory", "64Mi")];
        let large: Pairs<'_> = &[("cpu", "1"), ("memory", "1Gi")];
        let table: [Case<'_>; 8] = [
            (&[], &[(&[], &[])], 2, None, None),
            (&[], &[(&[], small)], 102, Some(10_000), Some(64 << 20)),
            (&[], &[(small, &[])], 102, None, None),
            (&[], &[(small, small), (&[], &[])], 102, None, None),
            (
                &[],
                &[(&[], small), (&[], large)],
                1126,
                Some(110_000),
                Some((64 << 20) + (1 << 30)),
            ),
            (
                &[(false, &[], large)],
                &[(&[], small)],
                1024,
                Some(100_000),
                Some(1 << 30),
            ),
            (
                &[(true, &[], small)],
                &[(&[], small)],
                204,
                Some(20_000),
                Some(128 << 20),
            ),
            (&[], &[(&[("cpu", "1m")], &[("cpu", "1m")])], 2, Some(1000), None),
        ];
        for (init, apps, cpu_shares, cpu_quota, memory_limit) in table {
            let expected = PodAmounts {
                cpu_shares,
                cpu_quota,
                memory_limit,
            };
            assert_eq!(pod_amounts(&pod(init, apps)), expected, "{init:?} {apps:?}");
        }
    }

    #[test]
    fn who_asked_for_less_memory_is_killed_sooner() {
        let gib: i64 = 1 << 30;
        let quarter: Pairs<'_> = &[("memory", "1Gi")];
        let full: Pairs<'_> = &[("cpu", "1"), ("memory", "1Gi")];
        let score = |requests, limits| {
            let pod = pod(&[], &[(requests, limits)]);
            let container = pod.spec.as_ref().unwrap().containers[0].clone();
            container_resources(&pod, &container, 4 * gib).oom_score_adj
        };
        assert_eq!(score(&[], &[]), 1000);
        assert_eq!(score(quarter, &[]), 750);
        assert_eq!(score(&[("memory", "1")], &[]), 999);
        assert_eq!(score(&[("memory", "4Gi")], &[]), 3);
        assert_eq!(score(full, full), -997);
    }

    #[test]
    fn weight_and_shares_convert_within_the_kernels_bounds() {
        for (shares_v1, weight_v2) in [(2, 1), (1024, 39), (262_144, 10_000)] {
            assert_eq!(weight(shares_v1), weight_v2);
        }
        assert_eq!(shares(10_000), 262_144);
    }
}
