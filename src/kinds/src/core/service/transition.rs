//! What a changed service keeps of what was given out to it, and what a change of its type takes away.

use std::collections::BTreeSet;

use bosun_api::{
    core::{ServicePort, ServiceSpec},
    field::OrEmpty,
};

use super::{has_cluster_ip, has_health_check, has_node_ports, is_external};

/// Users may change one of the two fields and leave the other: the list follows the older, single one.
pub(super) fn follow_cluster_ip(new: &mut ServiceSpec, old: &ServiceSpec) {
    let same_list = new.cluster_ips.or_empty() == old.cluster_ips.or_empty();
    let (now, before) = (new.cluster_ip.or_empty(), old.cluster_ip.or_empty());
    if now.is_empty() {
        if !before.is_empty() && same_list {
            new.cluster_ips = None;
        }
    } else if now != before && (same_list || !new.cluster_ips.is_given()) {
        new.cluster_ips = Some(vec![now.to_owned()]);
    }
}

/// A client that doesn't know what was given out must not give it back by leaving it out.
pub(super) fn keep_allocated(new: &mut ServiceSpec, old: &ServiceSpec) {
    if has_cluster_ip(old) && has_cluster_ip(new) {
        if !new.cluster_ip.is_given() {
            new.cluster_ip.clone_from(&old.cluster_ip);
        }
        if !new.cluster_ips.is_given() && new.cluster_ip == old.cluster_ip {
            new.cluster_ips.clone_from(&old.cluster_ips);
        }
        if !new.ip_families.is_given() {
            new.ip_families.clone_from(&old.ip_families);
        }
        if !new.ip_family_policy.is_given() {
            new.ip_family_policy.clone_from(&old.ip_family_policy);
        }
        if new.ip_family_policy.or_empty() == "SingleStack" && old.ip_family_policy.or_empty() != "SingleStack" {
            release_second(new, old);
        }
    }
    if has_node_ports(old) && has_node_ports(new) {
        let given: BTreeSet<i32> = new.ports.or_empty().iter().filter_map(|port| port.node_port).collect();
        let node_port = |port: &ServicePort| {
            let before = old.ports.or_empty().iter();
            before
                .filter(|old| old.port == port.port && old.protocol == port.protocol)
                .find_map(|old| old.node_port.filter(|number| *number != 0 && !given.contains(number)))
        };
        for port in new.ports.iter_mut().flatten() {
            if port.node_port.unwrap_or_default() == 0 {
                port.node_port = node_port(port);
            }
        }
    }
    if has_health_check(old) && has_health_check(new) && new.health_check_node_port.unwrap_or_default() == 0 {
        new.health_check_node_port = old.health_check_node_port;
    }
}

/// Going back to one family takes the second address with it.
fn release_second(new: &mut ServiceSpec, old: &ServiceSpec) {
    for (new, old) in [
        (&mut new.cluster_ips, &old.cluster_ips),
        (&mut new.ip_families, &old.ip_families),
    ] {
        if let Some(list) = new
            && Some(&*list) == old.as_ref()
        {
            list.truncate(1);
        }
    }
}

/// A change of type alone takes with it what only the former type could have.
pub(super) fn drop_what_the_type_forbids(new: &mut ServiceSpec, old: &ServiceSpec) {
    if has_cluster_ip(old) && !has_cluster_ip(new) {
        if new.cluster_ip == old.cluster_ip && new.cluster_ips == old.cluster_ips {
            new.cluster_ip = None;
            new.cluster_ips = None;
        }
        if new.ip_families == old.ip_families {
            new.ip_families = None;
        }
        if new.ip_family_policy == old.ip_family_policy {
            new.ip_family_policy = None;
        }
    }
    if has_node_ports(old) && !has_node_ports(new) {
        let ports = |spec: &ServiceSpec| -> Vec<_> {
            spec.ports
                .or_empty()
                .iter()
                .map(|port| port.node_port.unwrap_or_default())
                .collect()
        };
        let before: BTreeSet<_> = ports(old).into_iter().collect();
        if ports(new).iter().all(|port| *port == 0 || before.contains(port)) {
            for port in new.ports.iter_mut().flatten() {
                port.node_port = None;
            }
        }
    }
    if has_health_check(old) && !has_health_check(new) && new.health_check_node_port == old.health_check_node_port {
        new.health_check_node_port = None;
    }
    if old.type_.or_empty() == "LoadBalancer" && new.type_.or_empty() != "LoadBalancer" {
        if new.allocate_load_balancer_node_ports == old.allocate_load_balancer_node_ports {
            new.allocate_load_balancer_node_ports = None;
        }
        if new.load_balancer_class == old.load_balancer_class {
            new.load_balancer_class = None;
        }
    }
    if is_external(old) && !is_external(new) && new.external_traffic_policy == old.external_traffic_policy {
        new.external_traffic_policy = None;
    }
}
