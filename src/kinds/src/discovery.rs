//! The discovery group: where a service's traffic goes.

use bosun_api::{
    field::{Errors, OrEmpty, Path, set_default},
    names,
    selector::validate_labels,
};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointPort, EndpointSlice};

use crate::kind::Kind;

pub(crate) struct Slices;

impl Kind for Slices {
    type Object = EndpointSlice;

    const STATUS: bool = false;

    fn default(slice: &mut EndpointSlice) {
        for port in slice.ports.iter_mut().flatten() {
            port.name.get_or_insert_default();
            set_default(&mut port.protocol, "TCP");
        }
    }

    fn validate(slice: &EndpointSlice, errors: &mut Errors) {
        errors.required_one_of(
            &Path::root("addressType"),
            &slice.address_type,
            &["FQDN", "IPv4", "IPv6"],
        );
        let path = Path::root("endpoints");
        let endpoints = slice.endpoints.or_empty();
        if !errors.too_many(&path, endpoints.len(), 1000) {
            for (path, endpoint) in path.each(endpoints) {
                validate_endpoint(endpoint, &slice.address_type, &path, errors);
            }
        }
        let ports = slice.ports.or_empty();
        let path = Path::root("ports");
        if !errors.too_many(&path, ports.len(), 20_000) {
            for (index, port) in ports.iter().enumerate() {
                let others = &ports[..index];
                validate_port(port, others, &path.index(index), errors);
            }
        }
    }

    fn validate_update(slice: &EndpointSlice, old: &EndpointSlice, errors: &mut Errors) {
        Self::validate(slice, errors);
        errors.immutable(&Path::root("addressType"), &slice.address_type, &old.address_type);
    }
}

fn validate_endpoint(endpoint: &Endpoint, type_: &str, path: &Path, errors: &mut Errors) {
    let addresses = path.child("addresses");
    if endpoint.addresses.is_empty() {
        errors.required(&addresses, "must contain at least 1 address");
    }
    errors.too_many(&addresses, endpoint.addresses.len(), 100);
    let check = match type_ {
        "IPv4" => names::ipv4_address,
        "IPv6" => names::ipv6_address,
        "FQDN" => names::domain_name,
        _ => |_: &str| Ok(()),
    };
    for (path, address) in addresses.each(&endpoint.addresses) {
        let before = errors.count();
        errors.check(&path, address, check);
        if matches!(type_, "IPv4" | "IPv6") && errors.count() == before {
            errors.check(&path, address, names::ordinary_address);
        }
    }
    if let Some(node) = &endpoint.node_name {
        errors.check(&path.child("nodeName"), node, names::dns_subdomain);
    }
    let topology = path.child("deprecatedTopology");
    let labels = endpoint.deprecated_topology.or_empty();
    errors.too_many(&topology, labels.len(), 16);
    validate_labels(labels, &topology, errors);
    if let Some(host) = &endpoint.hostname {
        errors.check(&path.child("hostname"), host, names::dns_label);
    }
    if let Some(hints) = &endpoint.hints {
        let path = path.child("hints");
        for (field, hinted) in [
            (
                "forZones",
                hinted(hints.for_zones.or_empty().iter().map(|zone| &zone.name)),
            ),
            (
                "forNodes",
                hinted(hints.for_nodes.or_empty().iter().map(|node| &node.name)),
            ),
        ] {
            hints_are_single(&hinted, &path.child(field), errors);
        }
    }
}

fn hinted<'a>(names: impl Iterator<Item = &'a String>) -> Vec<&'a str> {
    names.map(String::as_str).collect()
}

fn hints_are_single(names: &[&str], path: &Path, errors: &mut Errors) {
    if errors.too_many(path, names.len(), 8) {
        return;
    }
    for (index, name) in names.iter().enumerate() {
        let path = path.index(index).child("name");
        if names[..index].contains(name) {
            errors.duplicate(&path, *name);
        }
        errors.check(&path, name, names::label_value);
    }
}

fn validate_port(port: &EndpointPort, others: &[EndpointPort], path: &Path, errors: &mut Errors) {
    let name_path = path.child("name");
    let name = port.name.or_empty();
    if !name.is_empty() {
        errors.check(&name_path, name, names::dns_label);
    }
    if others.iter().any(|other| other.name.or_empty() == name) {
        errors.duplicate(&name_path, name);
    }
    errors.required_one_of(
        &path.child("protocol"),
        port.protocol.or_empty(),
        &["SCTP", "TCP", "UDP"],
    );
    if let Some(protocol) = &port.app_protocol {
        errors.check(&path.child("appProtocol"), protocol, names::qualified);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::testing::{changes, create, mistakes};

    #[test]
    fn a_slice_has_addresses_of_one_type() {
        let group = "discovery.k8s.io";
        let valid = json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": {"name": "s", "namespace": "a"},
            "addressType": "IPv4", "endpoints": [{"addresses": ["10.0.0.1"]}], "ports": [{"port": 80}],
        });
        let stored = create(group, "EndpointSlice", valid.clone()).unwrap();
        assert_eq!(stored["ports"], json!([{"name": "", "protocol": "TCP", "port": 80}]));
        mistakes(
            group,
            "EndpointSlice",
            &valid,
            &[
                (
                    "/addressType",
                    json!("IP"),
                    &["addressType: Unsupported value: \"IP\": supported values: \"FQDN\", \"IPv4\", \"IPv6\""],
                ),
                (
                    "/endpoints/0/addresses",
                    json!([]),
                    &["endpoints[0].addresses: Required value: must contain at least 1 address"],
                ),
                (
                    "/endpoints/0/addresses/0",
                    json!("::2"),
                    &["endpoints[0].addresses[0]: Invalid value: \"::2\": must be an IPv4 address"],
                ),
                (
                    "/ports/-",
                    json!({"port": 81}),
                    &["ports[1].name: Duplicate value: \"\""],
                ),
                (
                    "/endpoints/0/hints",
                    json!({"forZones": [{"name": "a"}, {"name": "a"}]}),
                    &["endpoints[0].hints.forZones[1].name: Duplicate value: \"a\""],
                ),
            ],
        );
        changes(
            group,
            "EndpointSlice",
            &valid,
            &[
                ("/endpoints/0/addresses/0", json!("10.0.0.2"), &[]),
                (
                    "/addressType",
                    json!("FQDN"),
                    &["addressType: Invalid value: \"FQDN\": field is immutable"],
                ),
            ],
        );
    }
}
