//! What holds of every cluster: no decision breaks a hard constraint nor overlooks a node, and the model kept by
//! changes is the one that the objects alone make. The checker here is as simple as can be: it looks at everything.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use jiff::Timestamp;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::{
    cluster::Cluster,
    engine::{Bound, Change, Engine, Event, Outcome},
    fixtures::{node, pod},
    objects::{Labels, Namespace, Node, Pod, PodTerm, Taint},
    profile::Profile,
    queue::Backoff,
};

#[derive(Clone, Debug)]
enum Op {
    Node {
        slot: u8,
        zone: u8,
        fast: bool,
        taint: u8,
        cordoned: bool,
    },
    NodeGone(u8),
    Pod {
        kind: Kind,
        bound: bool,
        seen: bool,
    },
    PodGone(u8),
    PodLeaves(u8),
    Namespace {
        slot: u8,
        team: u8,
    },
}

#[derive(Clone, Debug)]
struct Kind {
    app: u8,
    namespace: u8,
    cpu: u8,
    port: bool,
    tolerates: bool,
    picky: bool,
    spread: u8,
    affinity: u8,
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let kind = (
        0u8..3,
        0u8..2,
        0u8..4,
        prop::bool::weighted(0.2),
        any::<bool>(),
        prop::bool::weighted(0.2),
        0u8..7,
        0u8..9,
    );
    let kind = kind.prop_map(|(app, namespace, cpu, port, tolerates, picky, spread, affinity)| Kind {
        app,
        namespace,
        cpu,
        port,
        tolerates,
        picky,
        spread,
        affinity,
    });
    let op = prop_oneof![
        3 => (0u8..5, 0u8..4, any::<bool>(), 0u8..4, prop::bool::weighted(0.15))
            .prop_map(|(slot, zone, fast, taint, cordoned)| Op::Node { slot, zone, fast, taint, cordoned }),
        1 => (0u8..5).prop_map(Op::NodeGone),
        8 => (kind, prop::bool::weighted(0.85), any::<bool>()).prop_map(|(kind, bound, seen)| Op::Pod { kind, bound, seen }),
        2 => any::<u8>().prop_map(Op::PodGone),
        1 => any::<u8>().prop_map(Op::PodLeaves),
        1 => (0u8..2, 0u8..3).prop_map(|(slot, team)| Op::Namespace { slot, team }),
    ];
    prop::collection::vec(op, 1..60)
}

impl Kind {
    fn build(&self, number: usize) -> crate::fixtures::PodBuilder {
        let web = json!({"matchLabels": {"app": "app-0"}});
        let own = json!({"matchLabels": {"app": format!("app-{}", self.app)}});
        let spread = |more: Value| {
            let mut one = json!({"topologyKey": "zone", "maxSkew": 1, "whenUnsatisfiable": "DoNotSchedule", "labelSelector": own});
            one.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            one
        };
        let term = |topology: &str, selector: &Value, more: Value| {
            let mut one = json!({"topologyKey": topology, "labelSelector": selector});
            one.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            one
        };
        let mut spec = json!({"affinity": {}});
        spec["topologySpreadConstraints"] = match self.spread {
            1 => json!([spread(json!({}))]),
            2 => json!([spread(json!({"maxSkew": 2})), spread(json!({"topologyKey": "host"}))]),
            3 => json!([spread(
                json!({"nodeTaintsPolicy": "Honor", "nodeAffinityPolicy": "Ignore"})
            )]),
            4 => json!([spread(json!({"minDomains": 3}))]),
            5 => json!([spread(
                json!({"labelSelector": {}, "matchLabelKeys": ["app"], "topologyKey": "host"})
            )]),
            _ => json!([]),
        };
        let near = "podAffinity";
        let far = "podAntiAffinity";
        let (kind, terms) = match self.affinity {
            1 => (near, json!([term("zone", &own, json!({}))])),
            2 => (far, json!([term("host", &own, json!({}))])),
            3 => (
                far,
                json!([term(
                    "zone",
                    &web,
                    json!({"namespaceSelector": {"matchLabels": {"team": "1"}}})
                )]),
            ),
            4 => (
                near,
                json!([term("zone", &web, json!({"namespaces": ["ns-0", "ns-1"]}))]),
            ),
            5 => (
                near,
                json!([term("zone", &own, json!({})), term("host", &web, json!({}))]),
            ),
            6 => (
                far,
                json!([
                    term("zone", &web, json!({})),
                    term("host", &json!({}), json!({"namespaceSelector": {}}))
                ]),
            ),
            _ => (near, json!([])),
        };
        spec["affinity"][kind] = json!({"requiredDuringSchedulingIgnoredDuringExecution": terms});
        if self.tolerates {
            spec["tolerations"] = json!([{"key": "taint-1", "operator": "Exists"}]);
        }
        if self.picky {
            spec["nodeSelector"] = json!({"disk": "fast"});
        }
        let mut made = pod(&format!("pod-{number}"))
            .within(&format!("ns-{}", self.namespace))
            .label("app", &format!("app-{}", self.app))
            .asks(&[("cpu", &self.cpu.to_string())])
            .spec(spec);
        if self.port {
            made = made.port(80);
        }
        made
    }
}

/// All objects, and nothing else.
#[derive(Default)]
struct World {
    nodes: BTreeMap<String, Arc<Node>>,
    placed: Vec<(Arc<Pod>, String)>,
    namespaces: BTreeMap<String, Labels>,
}

impl World {
    fn tolerated(pod: &Pod, taint: &Taint) -> bool {
        !taint.effect.keeps_out() || pod.shape.tolerations.iter().any(|one| one.tolerates(taint))
    }

    fn means(&self, term: &PodTerm, other: &Pod) -> bool {
        let namespace = &other.shape.namespace;
        let named = term.pods.namespaces.contains(namespace);
        let empty = Labels::default();
        let labels = self.namespaces.get(&**namespace).unwrap_or(&empty);
        let selected = term
            .pods
            .namespace_selector
            .as_ref()
            .is_some_and(|selector| selector.matches(labels));
        (named || selected) && term.pods.selector.matches(&other.shape.labels)
    }

    fn value(&self, node: &str, key: &str) -> Option<&str> {
        self.nodes.get(node)?.labels.get(key).map(|value| &**value)
    }

    fn together(&self, key: &str, node: &str, other: &str) -> bool {
        self.value(node, key)
            .is_some_and(|value| self.value(other, key) == Some(value))
    }

    /// Whether a pod may go to a node, by looking at everything.
    fn may_go(&self, pod: &Pod, name: &str) -> bool {
        let node = &self.nodes[name];
        let shape = &pod.shape;
        let here = || self.placed.iter().filter(|(_, at)| at == name).map(|(pod, _)| pod);
        let cordon = Taint::unschedulable();
        let room =
            here().map(|other| other.shape.requests.cpu).sum::<i64>() + shape.requests.cpu <= node.allocatable.cpu;
        let basics = (!node.unschedulable || Self::tolerated(pod, &cordon))
            && node.taints.iter().all(|taint| Self::tolerated(pod, taint))
            && shape.node.matches(node)
            && (room || shape.requests.cpu == 0)
            && (here().count() as i64) < node.pods
            && !here().any(|other| {
                other
                    .shape
                    .ports
                    .iter()
                    .any(|one| shape.ports.iter().any(|port| port.conflicts(one)))
            });
        basics && self.is_spread(pod, name) && self.is_near_and_far(pod, name)
    }

    fn is_spread(&self, pod: &Pod, name: &str) -> bool {
        let constraints: Vec<_> = pod.shape.spread.iter().filter(|one| one.required).collect();
        constraints.iter().all(|one| {
            let Some(value) = self.value(name, &one.topology) else {
                return false;
            };
            let counts_node = |node: &Node| {
                constraints.iter().all(|one| node.labels.get(&one.topology).is_some())
                    && (!one.honor_affinity || pod.shape.node.matches(node))
                    && (!one.honor_taints || node.taints.iter().all(|taint| Self::tolerated(pod, taint)))
            };
            let mut counts: BTreeMap<&str, i64> = BTreeMap::new();
            for (name, _) in self.nodes.iter().filter(|(_, node)| counts_node(node)) {
                let like = self.placed.iter().filter(|(other, at)| {
                    at == name
                        && !other.deleting
                        && other.shape.namespace == pod.shape.namespace
                        && one.selector.matches(&other.shape.labels)
                });
                *counts.entry(self.value(name, &one.topology).unwrap()).or_insert(0) += like.count() as i64;
            }
            let least = if counts.len() < one.min_domains {
                0
            } else {
                counts.values().min().copied().unwrap_or(0)
            };
            let itself = i64::from(one.selector.matches(&pod.shape.labels));
            counts.get(value).copied().unwrap_or(0) + itself - least <= one.max_skew
        })
    }

    fn is_near_and_far(&self, pod: &Pod, name: &str) -> bool {
        let affinity = &pod.shape.affinity;
        let met: Vec<&(Arc<Pod>, String)> = self
            .placed
            .iter()
            .filter(|(other, _)| affinity.required.iter().all(|term| self.means(term, other)))
            .collect();
        let has_labels = affinity
            .required
            .iter()
            .all(|term| self.value(name, &term.topology).is_some());
        let near = affinity
            .required
            .iter()
            .all(|term| met.iter().any(|(_, at)| self.together(&term.topology, name, at)));
        // A pod on a node without the label, or on one that is gone, is nowhere.
        let somewhere = met.iter().any(|(_, at)| {
            affinity
                .required
                .iter()
                .any(|term| self.value(at, &term.topology).is_some())
        });
        let first = !somewhere && affinity.required.iter().all(|term| self.means(term, pod));
        let far = self.placed.iter().all(|(other, at)| {
            let keeps = |terms: &[PodTerm], whom: &Pod| {
                terms
                    .iter()
                    .any(|term| self.means(term, whom) && self.together(&term.topology, name, at))
            };
            !keeps(&affinity.required_anti, other) && !keeps(&other.shape.affinity.required_anti, pod)
        });
        has_labels && (near || first) && far
    }

    /// The model that the objects make, told in another order.
    fn model(&self) -> Cluster {
        let mut cluster = Cluster::default();
        for (pod, at) in self.placed.iter().rev() {
            let placed = Pod {
                node: Some(at.as_str().into()),
                ..Pod::clone(pod)
            };
            cluster.set_pod(&Arc::new(placed));
        }
        for node in self.nodes.values().rev() {
            cluster.set_node(node);
        }
        for (name, labels) in &self.namespaces {
            cluster.set_namespace(&Namespace {
                name: name.as_str().into(),
                resource_version: "".into(),
                labels: labels.clone(),
            });
        }
        cluster
    }
}

fn run(ops: Vec<Op>) -> Result<(), TestCaseError> {
    let now = Timestamp::UNIX_EPOCH;
    let profile = Profile {
        preempts: false,
        ..Profile::default()
    };
    let mut engine = Engine::new([profile], Backoff::default(), fastrand::Rng::with_seed(1));
    let mut world = World::default();
    for (number, op) in ops.into_iter().enumerate() {
        match op {
            Op::Node {
                slot,
                zone,
                fast,
                taint,
                cordoned,
            } => {
                let name = format!("node-{slot}");
                let mut made = node(&name, &[("cpu", "6"), ("pods", "4")]);
                if zone > 0 {
                    made = made.label("zone", &format!("zone-{zone}"));
                }
                // One that lacks it shows what a missing label does.
                if slot > 0 {
                    made = made.label("host", &name);
                }
                made = made.label("disk", if fast { "fast" } else { "slow" });
                if taint > 1 {
                    made = made.taint(&format!("taint-{}", taint - 1), "NoSchedule");
                }
                let made = if cordoned { made.cordoned() } else { made }.build();
                engine.apply(Event::Node(Change::Set(made.clone())), now);
                world.nodes.insert(name, made);
            }
            Op::NodeGone(slot) => {
                if let Some(node) = world.nodes.remove(&format!("node-{slot}")) {
                    engine.apply(Event::Node(Change::Gone(node)), now);
                }
            }
            Op::Pod { kind, bound, seen } => {
                let made = kind.build(number);
                let new = made.build();
                engine.apply(Event::Pod(Change::Set(new.clone())), now);
                let right: BTreeSet<String> = world
                    .nodes
                    .keys()
                    .filter(|name| world.may_go(&new, name))
                    .cloned()
                    .collect();
                let mut outcome = engine.next(now);
                // Pods that were refused before may come first once something woke them.
                while let Some(one) = &outcome {
                    let pod = match one {
                        Outcome::Placed(placed) => &placed.pod,
                        Outcome::Refused(refused) => &refused.pod,
                    };
                    if pod.uid == new.uid {
                        break;
                    }
                    prop_assert!(matches!(one, Outcome::Refused(_)), "{} was woken out of turn", pod.name);
                    outcome = engine.next(now);
                }
                match outcome {
                    Some(Outcome::Placed(placed)) => {
                        prop_assert!(
                            right.contains(&*placed.node),
                            "{new:#?} to {}, not {right:?}",
                            placed.node
                        );
                        if bound {
                            engine.finish(&new.uid, Bound::Done, now);
                            world.placed.push((new.clone(), placed.node.to_string()));
                            if seen {
                                engine.apply(Event::Pod(Change::Set(made.on(&placed.node).build())), now);
                            }
                        } else {
                            engine.finish(&new.uid, Bound::Gone, now);
                        }
                    }
                    Some(Outcome::Refused(refused)) => {
                        prop_assert!(right.is_empty(), "{new:#?}: {} though {right:?}", refused.message);
                        engine.apply(Event::Pod(Change::Gone(new.clone())), now);
                    }
                    None => prop_assert!(false, "a new pod is tried at once"),
                }
            }
            Op::PodGone(which) => {
                if !world.placed.is_empty() {
                    let (pod, _) = world.placed.remove(usize::from(which) % world.placed.len());
                    engine.apply(Event::Pod(Change::Gone(pod)), now);
                }
            }
            Op::PodLeaves(which) => {
                let count = world.placed.len();
                if count > 0 {
                    let (pod, at) = &mut world.placed[usize::from(which) % count];
                    let leaving = Pod {
                        node: Some(at.as_str().into()),
                        deleting: true,
                        ..Pod::clone(pod)
                    };
                    *pod = Arc::new(leaving);
                    engine.apply(Event::Pod(Change::Set(pod.clone())), now);
                }
            }
            Op::Namespace { slot, team } => {
                let namespace: Namespace = serde_json::from_value(
                    json!({"metadata": {"name": format!("ns-{slot}"), "labels": {"team": team.to_string()}}}),
                )
                .unwrap();
                world
                    .namespaces
                    .insert(namespace.name.to_string(), namespace.labels.clone());
                engine.apply(Event::Namespace(Change::Set(namespace)), now);
            }
        }
        let mut rebuilt = world.model();
        prop_assert_eq!(
            engine.cluster().told(),
            rebuilt.told_as(engine.cluster()),
            "after change {}",
            number
        );
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn no_decision_breaks_a_constraint_and_the_model_is_what_the_objects_make(ops in ops()) {
        run(ops)?;
    }
}
