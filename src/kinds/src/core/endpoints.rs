//! Endpoints as they were before there were slices of them.

use bosun_api::{
    core::{EndpointAddress, EndpointPort, Endpoints},
    field::{Errors, OrEmpty, Path, set_default},
    names,
    pod::validate::port_number,
};

use crate::kind::Kind;

pub(crate) struct AllEndpoints;

impl Kind for AllEndpoints {
    type Object = Endpoints;

    const STATUS: bool = false;
    const GENERATION: bool = false;

    fn default(endpoints: &mut Endpoints) {
        for subset in endpoints.subsets.iter_mut().flatten() {
            for port in subset.ports.iter_mut().flatten() {
                set_default(&mut port.protocol, "TCP");
            }
        }
    }

    fn validate(endpoints: &Endpoints, errors: &mut Errors) {
        for (path, subset) in Path::root("subsets").each(endpoints.subsets.or_empty()) {
            let ready = subset.addresses.or_empty();
            let others = subset.not_ready_addresses.or_empty();
            if ready.is_empty() && others.is_empty() {
                errors.required(&path, "must specify `addresses` or `notReadyAddresses`");
            }
            for (path, address) in path.child("addresses").each(ready) {
                validate_address(address, &path, errors);
            }
            for (path, address) in path.child("notReadyAddresses").each(others) {
                validate_address(address, &path, errors);
            }
            let ports = subset.ports.or_empty();
            for (path, port) in path.child("ports").each(ports) {
                validate_port(port, ports.len() > 1, &path, errors);
            }
        }
    }
}

fn validate_address(address: &EndpointAddress, path: &Path, errors: &mut Errors) {
    let ip = path.child("ip");
    let before = errors.count();
    errors.check(&ip, &address.ip, names::ip_address);
    if let Some(host) = address.hostname.as_deref().filter(|host| !host.is_empty()) {
        errors.check(&path.child("hostname"), host, names::dns_label);
    }
    if let Some(node) = &address.node_name {
        errors.check(&path.child("nodeName"), node, names::dns_subdomain);
    }
    if errors.count() == before {
        errors.check(&ip, &address.ip, names::ordinary_address);
    }
}

fn validate_port(port: &EndpointPort, needs_name: bool, path: &Path, errors: &mut Errors) {
    let name = port.name.or_empty();
    if needs_name && name.is_empty() {
        errors.required(&path.child("name"), "");
    } else if !name.is_empty() {
        errors.check(&path.child("name"), name, names::dns_label);
    }
    port_number(port.port, &path.child("port"), errors);
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
    use serde_json::{Value, json};

    use crate::testing::{create, mistakes};

    #[test]
    fn endpoints_have_addresses_and_ports() {
        let valid = json!({
            "apiVersion": "v1", "kind": "Endpoints", "metadata": {"name": "e", "namespace": "a"},
            "subsets": [{"addresses": [{"ip": "10.0.0.1"}], "ports": [{"port": 80}]}],
        });
        let stored = create("", "Endpoints", valid.clone()).unwrap();
        assert_eq!(stored["subsets"][0]["ports"][0]["protocol"], "TCP");
        mistakes(
            "",
            "Endpoints",
            &valid,
            &[
                (
                    "/subsets/0/addresses",
                    Value::Null,
                    &["subsets[0]: Required value: must specify `addresses` or `notReadyAddresses`"],
                ),
                (
                    "/subsets/0/addresses/0/ip",
                    json!("127.0.0.1"),
                    &[
                        "subsets[0].addresses[0].ip: Invalid value: \"127.0.0.1\": may not be in the loopback range \
                         (127.0.0.0/8, ::1/128)",
                    ],
                ),
                (
                    "/subsets/0/ports/-",
                    json!({"port": 81, "name": "b"}),
                    &["subsets[0].ports[0].name: Required value"],
                ),
                (
                    "/subsets/0/ports/0/port",
                    json!(0),
                    &["subsets[0].ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive"],
                ),
            ],
        );
    }
}
