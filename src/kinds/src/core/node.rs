//! Nodes: the machines of the cluster.

use bosun_api::{
    core::{Node, NodeSpec, Taint},
    field::{Errors, OrEmpty, Path, Problem},
    names,
    pod::validate::{resources, scheduling::EFFECTS},
};

use crate::kind::Kind;

pub(crate) struct Nodes;

impl Kind for Nodes {
    type Object = Node;

    const GENERATION: bool = false;
    const STATUS_AT_BIRTH: bool = true;

    fn default(node: &mut Node) {
        if let Some(status) = &mut node.status
            && status.allocatable.is_none()
        {
            status.allocatable.clone_from(&status.capacity);
        }
        // The first network is written a second time, as there once was only one.
        if let Some(spec) = &mut node.spec {
            if let (Some(one), false) = (&spec.pod_cidr, spec.pod_cidrs.is_given()) {
                spec.pod_cidrs = Some(vec![one.clone()]);
            } else if let (None, Some(first)) = (&spec.pod_cidr, spec.pod_cidrs.or_empty().first()) {
                spec.pod_cidr = Some(first.clone());
            }
        }
    }

    fn validate(node: &Node, errors: &mut Errors) {
        if let Some(spec) = &node.spec {
            taints(spec.taints.or_empty(), &Path::root("metadata.taints"), errors);
            networks(spec, errors);
        }
        amounts(node, errors);
    }

    fn validate_update(node: &Node, old: &Node, errors: &mut Errors) {
        Self::validate(node, errors);
        let none = NodeSpec::default();
        let new = node.spec.as_ref().unwrap_or(&none);
        let old = old.spec.as_ref().unwrap_or(&none);
        let spec = Path::root("spec");
        if old.pod_cidrs.is_given() && new.pod_cidrs != old.pod_cidrs {
            errors.forbidden(
                &spec.child("podCIDRs"),
                "node updates may not change podCIDR except from \"\" to valid",
            );
        }
        if old.provider_id.is_given() && new.provider_id != old.provider_id {
            errors.forbidden(
                &spec.child("providerID"),
                "node updates may not change providerID except from \"\" to valid",
            );
        }
        if new.external_id != old.external_id {
            errors.forbidden(
                &Path::object(),
                "node updates may only change labels, taints, or capacity (or configSource, if the \
                 DynamicKubeletConfig feature gate is enabled)",
            );
        }
    }

    fn warnings(node: &Node) -> Vec<String> {
        let named = node.spec.as_ref().is_some_and(|spec| spec.external_id.is_given());
        if named {
            vec!["spec.externalID: this field is deprecated, and is unused by Kubernetes".to_owned()]
        } else {
            Vec::new()
        }
    }

    fn validate_part(node: &Node, _: &Node, _: &str, errors: &mut Errors) {
        amounts(node, errors);
        let addresses = node
            .status
            .as_ref()
            .map_or(&[][..], |status| status.addresses.or_empty());
        for (index, address) in addresses.iter().enumerate() {
            if addresses[..index].contains(address) {
                errors.duplicate(
                    &Path::root("status.addresses").index(index),
                    serde_json::to_value(address).unwrap_or_default(),
                );
            }
        }
    }
}

fn amounts(node: &Node, errors: &mut Errors) {
    let Some(status) = &node.status else { return };
    for (field, amounts) in [
        ("status.capacity", &status.capacity),
        ("status.allocatable", &status.allocatable),
    ] {
        for (name, amount) in amounts.or_empty() {
            resources::quantity(name, amount, &Path::root(field).child(name), errors);
        }
    }
}

fn taints(taints: &[Taint], path: &Path, errors: &mut Errors) {
    for (index, taint) in taints.iter().enumerate() {
        let path = path.index(index);
        errors.check(&path.child("key"), &taint.key, names::qualified);
        errors.check(&path.child("value"), taint.value.or_empty(), names::label_value);
        errors.required_one_of(&path.child("effect"), &taint.effect, EFFECTS);
        let same = |other: &Taint| other.key == taint.key && other.effect == taint.effect;
        if taints[..index].iter().any(same) {
            errors.push(
                &path,
                Problem::Duplicate(
                    serde_json::to_value(taint).unwrap_or_default(),
                    "taints must be unique by key and effect pair".to_owned(),
                ),
            );
        }
    }
}

fn networks(spec: &NodeSpec, errors: &mut Errors) {
    let path = Path::root("spec.podCIDRs");
    let networks = spec.pod_cidrs.or_empty();
    for (path, network) in path.each(networks) {
        errors.check(&path, network, names::cidr);
    }
    let one_each = match networks {
        [] | [_] => true,
        [one, other] => match (names::split_cidr(one), names::split_cidr(other)) {
            (Some((one, _)), Some((other, _))) => one.is_ipv4() != other.is_ipv4(),
            // Said already.
            _ => true,
        },
        _ => false,
    };
    if !one_each {
        errors.invalid(&path, networks, "may specify no more than one CIDR for each IP family");
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::testing::{changes, create, mistakes, update, with};

    fn node() -> Value {
        json!({
            "apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"},
            "spec": {
                "podCIDR": "10.0.0.0/24", "providerID": "a://b", "taints": [{"key": "a", "effect": "NoSchedule"}],
            },
            "status": {"capacity": {"cpu": "4"}, "addresses": [{"type": "Hostname", "address": "n1"}]},
        })
    }

    #[test]
    fn a_node_brings_its_status_when_it_registers() {
        let stored = create("", "Node", node()).unwrap();
        assert_eq!(stored["status"]["allocatable"], json!({"cpu": "4"}));
        assert_eq!(stored["spec"]["podCIDRs"], json!(["10.0.0.0/24"]));
        let changed = with(&stored, "/status/capacity/cpu", json!("8"));
        let kept = update("", "Node", changed.clone(), &stored, "").unwrap();
        assert_eq!(kept["status"]["capacity"]["cpu"], "4");
        let told = update("", "Node", changed, &stored, "status").unwrap();
        assert_eq!(told["status"]["capacity"]["cpu"], "8");
    }

    #[test]
    fn mistakes_in_a_node_are_told_in_upstreams_words() {
        mistakes(
            "",
            "Node",
            &node(),
            &[
                (
                    "/spec/taints/-",
                    json!({"key": "a", "effect": "NoSchedule"}),
                    &[
                        "metadata.taints[1]: Duplicate value: {\"effect\":\"NoSchedule\",\"key\":\"a\"}: taints must \
                         be unique by key and effect pair",
                    ],
                ),
                (
                    "/spec/taints/0/effect",
                    json!("Never"),
                    &[
                        "metadata.taints[0].effect: Unsupported value: \"Never\": supported values: \"NoSchedule\", \
                         \"PreferNoSchedule\", \"NoExecute\"",
                    ],
                ),
                (
                    "/spec/podCIDRs",
                    json!(["10.0.0.0/24", "10.0.1.0/24"]),
                    &[
                        "spec.podCIDRs: Invalid value: [\"10.0.0.0/24\",\"10.0.1.0/24\"]: may specify no more than \
                         one CIDR for each IP family",
                    ],
                ),
                (
                    "/status/capacity/cpu",
                    json!("-1"),
                    &[
                        "status.capacity.cpu: Invalid value: \"-1\": must be greater than or equal to 0",
                        "status.allocatable.cpu: Invalid value: \"-1\": must be greater than or equal to 0",
                    ],
                ),
            ],
        );
    }

    #[test]
    fn where_a_node_is_stays() {
        changes(
            "",
            "Node",
            &node(),
            &[
                ("/spec/unschedulable", json!(true), &[]),
                ("/spec/taints", json!([]), &[]),
                (
                    "/spec/providerID",
                    json!("a://c"),
                    &["spec.providerID: Forbidden: node updates may not change providerID except from \"\" to valid"],
                ),
                (
                    "/spec/podCIDRs",
                    json!(["10.0.1.0/24"]),
                    &["spec.podCIDRs: Forbidden: node updates may not change podCIDR except from \"\" to valid"],
                ),
            ],
        );
    }
}
