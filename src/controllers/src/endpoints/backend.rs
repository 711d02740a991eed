//! Which pods serve a service, at which ports, and how well. Pure.

use std::net::IpAddr;

use k8s_openapi::{
    api::core::v1::{ObjectReference, ServicePort},
    apimachinery::pkg::util::intstr::IntOrString,
};

use crate::objects::{Pod, Service};

/// A port at which something serves.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Port {
    pub(super) name: Option<String>,
    pub(super) protocol: Option<String>,
    pub(super) number: Option<i32>,
    pub(super) app_protocol: Option<String>,
}

/// Something that serves.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Backend {
    pub(super) address: String,
    pub(super) ports: Vec<Port>,
    pub(super) serving: bool,
    pub(super) terminating: bool,
    pub(super) ready: bool,
    pub(super) hostname: Option<String>,
    pub(super) node: Option<String>,
    pub(super) target: Option<ObjectReference>,
}

/// What serves a service among pods that its selector selects, by addresses of a family (`IPv4`, `IPv6`).
pub(super) fn backends<'a>(service: &Service, pods: impl IntoIterator<Item = &'a Pod>, family: &str) -> Vec<Backend> {
    pods.into_iter()
        .filter_map(|pod| backend(service, pod, family))
        .collect()
}

fn backend(service: &Service, pod: &Pod, family: &str) -> Option<Backend> {
    if pod.is_finished() {
        return None;
    }
    let addresses = pod.status.pod_ips.iter();
    let address = addresses
        .map(|address| &address.ip)
        .find(|address| is_of(address, family))?;
    let (serving, terminating) = (pod.is_ready(), pod.is_terminating());
    // A name in the network is the pod's only below the service that it names as its domain.
    let own_domain = pod.spec.subdomain.as_deref() == service.metadata.name.as_deref();
    Some(Backend {
        address: address.clone(),
        ports: service
            .spec
            .ports
            .iter()
            .filter_map(|port| resolve(port, pod))
            .collect(),
        serving,
        terminating,
        ready: service.spec.publish_not_ready_addresses || (serving && !terminating),
        hostname: pod
            .spec
            .hostname
            .clone()
            .filter(|hostname| !hostname.is_empty() && own_domain),
        node: pod.node().map(ToOwned::to_owned),
        target: Some(ObjectReference {
            kind: Some("Pod".to_owned()),
            namespace: pod.metadata.namespace.clone(),
            name: pod.metadata.name.clone(),
            uid: pod.metadata.uid.clone(),
            ..ObjectReference::default()
        }),
    })
}

/// The family that a service's addresses are of first.
pub(super) fn first_family(service: &Service) -> &str {
    service.spec.ip_families.first().map_or("IPv4", String::as_str)
}

pub(super) fn is_of(address: &str, family: &str) -> bool {
    match address.parse() {
        Ok(IpAddr::V4(_)) => family == "IPv4",
        Ok(IpAddr::V6(_)) => family == "IPv6",
        Err(_) => false,
    }
}

/// The port of a pod that a port of a service leads to; `None` if the pod has none of the name.
fn resolve(port: &ServicePort, pod: &Pod) -> Option<Port> {
    let protocol = port.protocol.as_deref().unwrap_or("TCP");
    let number = match &port.target_port {
        None | Some(IntOrString::Int(0)) => port.port,
        Some(IntOrString::Int(number)) => *number,
        Some(IntOrString::String(name)) => {
            let containers = pod.spec.containers.iter().chain(
                // Sidecars serve too.
                pod.spec
                    .init_containers
                    .iter()
                    .filter(|container| container.restart_policy.as_deref() == Some("Always")),
            );
            let mut ports = containers.flat_map(|container| &container.ports);
            let named = ports.find(|port| {
                port.name.as_deref() == Some(name) && port.protocol.as_deref().unwrap_or("TCP") == protocol
            });
            named?.number
        }
    };
    Some(Port {
        name: Some(port.name.clone().unwrap_or_default()),
        protocol: Some(protocol.to_owned()),
        number: Some(number),
        app_protocol: port.app_protocol.clone(),
    })
}

#[cfg(test)]
pub(super) mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};

    use super::*;
    use crate::objects::pod;

    /// `r` ready, `t` terminating, `f` finished.
    pub(in super::super) fn pod(name: &str, address: &str, how: &str) -> Pod {
        let mut pod = Pod {
            metadata: ObjectMeta {
                name: Some(name.to_owned()),
                uid: Some(format!("uid-{name}")),
                deletion_timestamp: how.contains('t').then_some(Time(jiff::Timestamp::UNIX_EPOCH)),
                ..ObjectMeta::default()
            },
            ..Pod::default()
        };
        pod.status.pod_ips = address.split(',').map(|ip| pod::PodIp { ip: ip.to_owned() }).collect();
        pod.status.conditions = vec![pod::Condition {
            type_: "Ready".to_owned(),
            status: if how.contains('r') { "True" } else { "False" }.to_owned(),
            ..pod::Condition::default()
        }];
        if how.contains('f') {
            pod.status.phase = pod::Phase::Succeeded;
        }
        pod.spec.containers = vec![pod::Container {
            ports: vec![pod::Port {
                name: Some("web".to_owned()),
                number: 8080,
                protocol: None,
            }],
            ..pod::Container::default()
        }];
        pod
    }

    pub(in super::super) fn service(target: IntOrString) -> Service {
        let mut service = Service {
            metadata: ObjectMeta {
                name: Some("svc".to_owned()),
                namespace: Some("default".to_owned()),
                uid: Some("uid-svc".to_owned()),
                ..ObjectMeta::default()
            },
            ..Service::default()
        };
        service.spec.ports = vec![ServicePort {
            port: 80,
            target_port: Some(target),
            ..ServicePort::default()
        }];
        service.spec.ip_families = vec!["IPv4".to_owned()];
        service
    }

    #[test]
    fn a_pod_serves_by_its_address_of_the_family_and_as_well_as_it_is() {
        let mut service = service(IntOrString::Int(8080));
        // Pod, whether the service tells of all; ready, serving, terminating.
        for (how, all, expected) in [
            ("r", false, Some((true, true, false))),
            ("", false, Some((false, false, false))),
            ("", true, Some((true, false, false))),
            ("rt", false, Some((false, true, true))),
            ("t", false, Some((false, false, true))),
            ("f", true, None),
        ] {
            service.spec.publish_not_ready_addresses = all;
            let found = backend(&service, &pod("a", "10.0.0.1", how), "IPv4");
            assert_eq!(
                found.map(|found| (found.ready, found.serving, found.terminating)),
                expected,
                "{how} {all}"
            );
        }
        let both = pod("a", "10.0.0.1,fd00::1", "r");
        assert_eq!(backend(&service, &both, "IPv6").expect("it has one").address, "fd00::1");
        assert_eq!(backend(&service, &pod("a", "10.0.0.1", "r"), "IPv6"), None);
        assert_eq!(backend(&service, &pod("a", "", "r"), "IPv4"), None);
    }

    #[test]
    fn ports_are_found_by_number_and_name() {
        let numbers = |target: IntOrString| -> Vec<_> {
            let found = backend(&service(target), &pod("a", "10.0.0.1", "r"), "IPv4").expect("it serves");
            found.ports.iter().map(|port| port.number).collect()
        };
        assert_eq!(numbers(IntOrString::Int(9)), [Some(9)]);
        assert_eq!(numbers(IntOrString::Int(0)), [Some(80)]);
        assert_eq!(numbers(IntOrString::String("web".to_owned())), [Some(8080)]);
        assert_eq!(numbers(IntOrString::String("other".to_owned())), []);
    }
}
