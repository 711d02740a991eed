//! What scheduling depends on, shared by the replicas of a template.

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash, Hasher},
    sync::{Arc, LazyLock, Weak},
};

use k8s_openapi::api::core::v1::{ContainerPort, TopologySpreadConstraint};
use parking_lot::Mutex;

use super::{
    Affinity, Labels, Minimum, NodeRequirement, PreferredNode, Resources, Selector, Toleration,
    pod::wire::{self, Meta, Spec, Status},
};

/// A port of the node that a pod takes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HostPort {
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: Arc<str>,
    /// The address it is taken at; `0.0.0.0` is all of them.
    pub address: Arc<str>,
    /// The port.
    pub port: i32,
}

impl HostPort {
    const ALL: &str = "0.0.0.0";

    fn of(written: &ContainerPort, on_host: bool) -> Option<Self> {
        let port = written.host_port.or(on_host.then_some(written.container_port))?;
        let address = written.host_ip.as_deref().filter(|address| !address.is_empty());
        (port > 0).then(|| Self {
            protocol: written.protocol.as_deref().unwrap_or("TCP").into(),
            address: address.unwrap_or(Self::ALL).into(),
            port,
        })
    }

    /// Whether the two can't be had on one node.
    pub fn conflicts(&self, other: &Self) -> bool {
        self.port == other.port
            && self.protocol == other.protocol
            && (self.address == other.address || &*self.address == Self::ALL || &*other.address == Self::ALL)
    }
}

/// How evenly a pod's like must be spread.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SpreadConstraint {
    /// The node label whose values are the places.
    pub topology: Arc<str>,
    /// How many more than in the emptiest place there may be.
    pub max_skew: i64,
    /// With fewer places than this, the emptiest counts as empty.
    pub min_domains: usize,
    /// `DoNotSchedule`, or else only a preference.
    pub required: bool,
    /// Its like.
    pub selector: Selector,
    /// Only nodes that the pod's selectors allow count.
    pub honor_affinity: bool,
    /// Only nodes whose taints the pod tolerates count.
    pub honor_taints: bool,
}

impl SpreadConstraint {
    /// As an object carries it; `labels` are the pod's.
    pub fn of(written: &TopologySpreadConstraint, labels: &Labels) -> Self {
        let keys = written.match_label_keys.as_deref().unwrap_or_default();
        let honors = |policy: Option<&String>, default: bool| policy.map_or(default, |policy| policy == "Honor");
        Self {
            topology: written.topology_key.as_str().into(),
            max_skew: written.max_skew.into(),
            min_domains: written
                .min_domains
                .map_or(1, |count| usize::try_from(count).unwrap_or(1)),
            required: written.when_unsatisfiable == "DoNotSchedule",
            selector: Selector::of(written.label_selector.as_ref()).with_keys(labels, keys, &[]),
            honor_affinity: honors(written.node_affinity_policy.as_ref(), true),
            honor_taints: honors(written.node_taints_policy.as_ref(), false),
        }
    }
}

/// What controls a pod.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Owner {
    /// Such as `ReplicaSet`.
    pub kind: Arc<str>,
    /// Its name, in the pod's namespace.
    pub name: Arc<str>,
}

/// What scheduling depends on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Shape {
    /// The pod's namespace.
    pub namespace: Arc<str>,
    /// Its labels.
    pub labels: Labels,
    /// Who schedules it.
    pub scheduler: Arc<str>,
    /// The higher, the sooner.
    pub priority: i32,
    /// Whether it may push others out.
    pub preempts: bool,
    /// What it takes.
    pub requests: Resources,
    /// What it is compared by: milli-cores and bytes.
    pub usual: (i64, i64),
    /// What its node must be.
    pub node: NodeRequirement,
    /// What its node had better be.
    pub preferred_nodes: Vec<PreferredNode>,
    /// The taints it bears.
    pub tolerations: Vec<Toleration>,
    /// The ports it takes of its node.
    pub ports: Vec<HostPort>,
    /// What it says about other pods.
    pub affinity: Affinity,
    /// How its like is spread.
    pub spread: Vec<SpreadConstraint>,
    /// The images of all its containers, normalised.
    pub images: Vec<Arc<str>>,
    /// Names of its volume claims.
    pub claims: Vec<Arc<str>>,
    /// What controls it.
    pub owner: Option<Owner>,
}

impl Shape {
    pub(super) fn of(meta: &Meta, spec: &Spec, status: &Status) -> Arc<Self> {
        let namespace: Arc<str> = meta.namespace.as_deref().unwrap_or_default().into();
        let labels = Labels::from(meta.labels.clone().unwrap_or_default());
        let usual = Resources::of_pod(spec, status, Minimum::Usual);
        let affinity = spec.affinity.as_ref();
        let node_affinity = affinity.and_then(|one| one.node_affinity.as_ref());
        let on_host = spec.host_network.unwrap_or(false);
        let sidecars = spec.init_containers.iter().flatten();
        let sidecars = sidecars.filter(|one| one.restart_policy.as_deref() == Some("Always"));
        let ports = spec
            .containers
            .iter()
            .chain(sidecars)
            .flat_map(|one| one.ports.iter().flatten());
        let owner = meta
            .owner_references
            .iter()
            .flatten()
            .find(|one| one.controller == Some(true));
        Self {
            affinity: Affinity::of(affinity, &namespace, &labels),
            spread: (spec.topology_spread_constraints.iter().flatten())
                .map(|one| SpreadConstraint::of(one, &labels))
                .collect(),
            scheduler: spec.scheduler_name.as_deref().unwrap_or("default-scheduler").into(),
            priority: spec.priority.unwrap_or(0),
            preempts: spec.preemption_policy.as_deref() != Some("Never"),
            requests: Resources::of_pod(spec, status, Minimum::Zero),
            usual: (usual.cpu, usual.memory),
            node: NodeRequirement::new(
                Selector::of_map(&spec.node_selector.clone().unwrap_or_default()),
                node_affinity.and_then(|one| one.required_during_scheduling_ignored_during_execution.as_ref()),
            ),
            preferred_nodes: PreferredNode::of(node_affinity),
            tolerations: spec.tolerations.iter().flatten().filter_map(Toleration::of).collect(),
            ports: ports.filter_map(|port| HostPort::of(port, on_host)).collect(),
            images: (spec.init_containers.iter().flatten().chain(&spec.containers))
                .filter_map(|one| image(one.image.as_deref()?))
                .collect(),
            claims: (spec.volumes.iter().flatten())
                .filter_map(|volume| claim(volume, meta.name.as_deref().unwrap_or_default()))
                .collect(),
            owner: owner.map(|one| Owner {
                kind: one.kind.as_str().into(),
                name: one.name.as_str().into(),
            }),
            namespace,
            labels,
        }
        .shared()
    }

    /// The same shape, decoded before, where there is one.
    fn shared(self) -> Arc<Self> {
        static SHAPES: LazyLock<Mutex<Shapes>> = LazyLock::new(Mutex::default);
        SHAPES.lock().share(self)
    }
}

/// The shapes in use, by hash. Only a way to save memory and work: two equal shapes side by side do no harm.
#[derive(Default)]
struct Shapes {
    known: HashMap<u64, Weak<Shape>>,
    sweep_at: usize,
}

impl Shapes {
    fn share(&mut self, shape: Shape) -> Arc<Shape> {
        let mut hasher = DefaultHasher::new();
        shape.hash(&mut hasher);
        let hash = hasher.finish();
        if let Some(known) = self.known.get(&hash).and_then(Weak::upgrade)
            && *known == shape
        {
            return known;
        }
        if self.known.len() >= self.sweep_at {
            self.known.retain(|_, shape| shape.strong_count() > 0);
            self.sweep_at = (self.known.len() * 2).max(1024);
        }
        let shape = Arc::new(shape);
        self.known.insert(hash, Arc::downgrade(&shape));
        shape
    }
}

/// An image's name as nodes list it: with a tag.
fn image(name: &str) -> Option<Arc<str>> {
    let tagged = name.contains('@') || name.rfind(':') > name.rfind('/');
    match name {
        "" => None,
        name if tagged => Some(name.into()),
        name => Some(format!("{name}:latest").into()),
    }
}

/// The claim behind a volume; a generic ephemeral volume's is named after its pod.
fn claim(volume: &wire::Volume, pod: &str) -> Option<Arc<str>> {
    match (&volume.persistent_volume_claim, &volume.ephemeral) {
        (Some(claim), _) => Some(claim.claim_name.as_str().into()),
        (None, Some(_)) => Some(format!("{pod}-{}", volume.name).into()),
        (None, None) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_without_a_tag_is_the_latest() {
        for (name, expected) in [
            ("busybox", "busybox:latest"),
            ("host:5000/busybox", "host:5000/busybox:latest"),
            ("host:5000/busybox:1", "host:5000/busybox:1"),
            ("busybox@sha256:00", "busybox@sha256:00"),
        ] {
            assert_eq!(image(name).as_deref(), Some(expected));
        }
    }

    #[test]
    fn ports_conflict_at_one_address_and_at_all_of_them() {
        let port = |protocol: &str, address: &str, port| HostPort {
            protocol: protocol.into(),
            address: address.into(),
            port,
        };
        for (one, other, expected) in [
            (port("TCP", "0.0.0.0", 80), port("TCP", "127.0.0.1", 80), true),
            (port("TCP", "127.0.0.1", 80), port("TCP", "127.0.0.1", 80), true),
            (port("TCP", "127.0.0.1", 80), port("TCP", "127.0.0.2", 80), false),
            (port("UDP", "0.0.0.0", 80), port("TCP", "0.0.0.0", 80), false),
            (port("TCP", "0.0.0.0", 80), port("TCP", "0.0.0.0", 81), false),
        ] {
            assert_eq!(one.conflicts(&other), expected, "{one:?} {other:?}");
            assert_eq!(other.conflicts(&one), expected, "{other:?} {one:?}");
        }
    }
}
