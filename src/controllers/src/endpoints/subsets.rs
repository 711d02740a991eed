//! Endpoints in the old form: addresses by the ports they have in common. Pure.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{EndpointAddress, EndpointPort, EndpointSubset};

use super::backend::{Backend, Port};

/// Addresses that one object holds at most.
const MOST: usize = 1000;

/// The subsets of what serves. Those that are about to end are only there if they count as ready.
pub(super) fn subsets(backends: &[Backend]) -> Vec<EndpointSubset> {
    type Addresses = (Vec<EndpointAddress>, Vec<EndpointAddress>);
    let mut groups: BTreeMap<Vec<Port>, Addresses> = BTreeMap::new();
    let mut shown: Vec<_> = backends
        .iter()
        .filter(|backend| !backend.terminating || backend.ready)
        .collect();
    // Of too many, those that serve are told.
    shown.sort_by_key(|backend| (!backend.ready, backend.address.clone()));
    shown.truncate(MOST);
    for backend in shown {
        let mut ports = backend.ports.clone();
        ports.sort();
        let (ready, unready) = groups.entry(ports).or_default();
        let address = EndpointAddress {
            ip: backend.address.clone(),
            hostname: backend.hostname.clone(),
            node_name: backend.node.clone(),
            target_ref: backend.target.clone(),
        };
        if backend.ready { ready } else { unready }.push(address);
    }
    let some = |addresses: Vec<EndpointAddress>| (!addresses.is_empty()).then_some(addresses);
    let subsets = groups.into_iter().map(|(ports, (ready, unready))| EndpointSubset {
        addresses: some(ready),
        not_ready_addresses: some(unready),
        ports: (!ports.is_empty()).then(|| ports.iter().map(port).collect()),
    });
    subsets.collect()
}

fn port(port: &Port) -> EndpointPort {
    EndpointPort {
        name: port.name.clone().filter(|name| !name.is_empty()),
        port: port.number.unwrap_or_default(),
        protocol: port.protocol.clone(),
        app_protocol: port.app_protocol.clone(),
    }
}

/// What the subsets of a service without a selector serve, by the addresses of a family.
pub(super) fn mirrored(subsets: &[EndpointSubset], is_of: impl Fn(&str) -> bool) -> Vec<Backend> {
    let mut backends = Vec::new();
    for subset in subsets {
        let ports: Vec<_> = subset
            .ports
            .iter()
            .flatten()
            .map(|port| Port {
                name: Some(port.name.clone().unwrap_or_default()),
                protocol: Some(port.protocol.clone().unwrap_or_else(|| "TCP".to_owned())),
                number: Some(port.port),
                app_protocol: port.app_protocol.clone(),
            })
            .collect();
        let all = [(&subset.addresses, true), (&subset.not_ready_addresses, false)];
        for (addresses, ready) in all {
            let addresses = addresses.iter().flatten().filter(|address| is_of(&address.ip));
            backends.extend(addresses.take(MOST).map(|address| Backend {
                address: address.ip.clone(),
                ports: ports.clone(),
                serving: ready,
                terminating: false,
                ready,
                hostname: address.hostname.clone(),
                node: address.node_name.clone(),
                target: address.target_ref.clone(),
            }));
        }
    }
    backends
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

    use super::{
        super::backend::{
            backends, is_of,
            tests::{pod, service},
        },
        *,
    };

    #[test]
    fn addresses_of_the_same_ports_stand_together_and_can_be_read_back() {
        let pods = [
            pod("b", "10.0.0.2", "r"),
            pod("a", "10.0.0.1", "r"),
            pod("c", "10.0.0.3", ""),
            pod("d", "10.0.0.4", "rt"),
        ];
        let found = backends(&service(IntOrString::Int(80)), &pods, "IPv4");
        let subsets = subsets(&found);
        assert_eq!(subsets.len(), 1);
        let ips = |addresses: &Option<Vec<EndpointAddress>>| -> Vec<String> {
            addresses.iter().flatten().map(|address| address.ip.clone()).collect()
        };
        assert_eq!(ips(&subsets[0].addresses), ["10.0.0.1", "10.0.0.2"]);
        assert_eq!(ips(&subsets[0].not_ready_addresses), ["10.0.0.3"]);
        let back = mirrored(&subsets, |address| is_of(address, "IPv4"));
        assert_eq!(back.iter().filter(|backend| backend.ready).count(), 2);
        assert_eq!(back[0].ports[0].number, Some(80));
        assert!(mirrored(&subsets, |address| is_of(address, "IPv6")).is_empty());
    }
}
