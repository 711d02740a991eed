//! Services. Addresses and node ports are given out by the registry; here is what a user may ask for.

mod transition;

use std::collections::BTreeSet;

use bosun_api::{
    core::{ClientIPConfig, LoadBalancerStatus, Service, ServiceSpec, SessionAffinityConfig},
    field::{Errors, OrEmpty, Path, set_default},
    names,
    pod::validate::{port, port_number},
    selector::validate_labels,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::json;

use transition::{drop_what_the_type_forbids, follow_cluster_ip, keep_allocated};

use crate::{Context, kind::Kind};

pub(crate) struct Services;

/// The longest a client stays with one endpoint, in seconds: a day.
const MAX_AFFINITY: i32 = 86_400;

impl Kind for Services {
    type Object = Service;

    const GENERATION: bool = false;

    fn default(service: &mut Service) {
        if let Some(spec) = &mut service.spec {
            defaults(spec);
        }
        if kind_of(service.spec.as_ref()) == "LoadBalancer" {
            let balancer = service.status.as_mut().and_then(|status| status.load_balancer.as_mut());
            for ingress in balancer
                .and_then(|balancer| balancer.ingress.as_mut())
                .into_iter()
                .flatten()
            {
                if ingress.ip.is_given() {
                    set_default(&mut ingress.ip_mode, "VIP");
                }
            }
        }
    }

    fn prepare_create(service: &mut Service, _: &Context<'_>) {
        service.status.get_or_insert_default().load_balancer = Some(LoadBalancerStatus::default());
        let Some(spec) = &mut service.spec else { return };
        if spec.cluster_ip.is_given() && !spec.cluster_ips.is_given() {
            spec.cluster_ips = spec.cluster_ip.clone().map(|address| vec![address]);
        }
    }

    fn prepare_update(service: &mut Service, old: &Service, context: &Context<'_>) {
        if context.subresource.is_empty()
            && let (Some(spec), Some(old)) = (&mut service.spec, &old.spec)
        {
            follow_cluster_ip(spec, old);
            keep_allocated(spec, old);
            drop_what_the_type_forbids(spec, old);
        }
    }

    fn validate(service: &Service, errors: &mut Errors) {
        let path = Path::root("spec");
        let Some(spec) = &service.spec else {
            return errors.required(&path.child("ports"), "");
        };
        validate(service, spec, &path, errors);
    }

    fn validate_update(service: &Service, old: &Service, errors: &mut Errors) {
        if let (Some(new), Some(old)) = (&service.spec, &old.spec) {
            changes(new, old, errors);
        }
        Self::validate(service, errors);
    }

    fn validate_part(service: &Service, _: &Service, _: &str, errors: &mut Errors) {
        let balancer = service.status.as_ref().and_then(|status| status.load_balancer.as_ref());
        let ingress = balancer.map_or(&[][..], |balancer| balancer.ingress.or_empty());
        let path = Path::root("status.loadBalancer.ingress");
        if !ingress.is_empty() && kind_of(service.spec.as_ref()) != "LoadBalancer" {
            return errors.forbidden(&path, "may only be used when `spec.type` is 'LoadBalancer'");
        }
        for (path, ingress) in path.each(ingress) {
            let mode_path = path.child("ipMode");
            if ingress.ip.is_given() {
                errors.check(&path.child("ip"), ingress.ip.or_empty(), names::ip_address);
            }
            match &ingress.ip_mode {
                None if ingress.ip.is_given() => errors.required(&mode_path, "must be specified when `ip` is set"),
                Some(_) if !ingress.ip.is_given() => {
                    errors.forbidden(&mode_path, "may not be specified when `ip` is not set");
                }
                mode => errors.one_of(&mode_path, mode.as_deref(), &["Proxy", "VIP"]),
            }
            if ingress.hostname.is_given() {
                let (path, name) = (path.child("hostname"), ingress.hostname.or_empty());
                errors.check(&path, name, names::dns_subdomain);
                if names::ip_address(name).is_ok() {
                    errors.invalid(&path, name, "must be a DNS name, not an IP address");
                }
            }
        }
    }

    fn warnings(service: &Service) -> Vec<String> {
        let Some(spec) = &service.spec else { return Vec::new() };
        let mut warnings = Vec::new();
        if spec.load_balancer_ip.is_given() {
            warnings.push(
                "spec.loadBalancerIP: deprecated in v1.24+; use an implementation-specific annotation instead \
                 where available"
                    .to_owned(),
            );
        }
        if spec.external_name.is_given() && spec.type_.or_empty() != "ExternalName" {
            warnings.push("spec.externalName: is ignored when spec.type is not \"ExternalName\"".to_owned());
        }
        if spec.external_ips.is_given() && spec.type_.or_empty() == "ExternalName" {
            warnings.push("spec.externalIPs: is ignored when spec.type is \"ExternalName\"".to_owned());
        }
        warnings
    }
}

fn kind_of(spec: Option<&ServiceSpec>) -> &str {
    spec.map_or("", |spec| spec.type_.or_empty())
}

fn has_cluster_ip(spec: &ServiceSpec) -> bool {
    matches!(spec.type_.or_empty(), "ClusterIP" | "NodePort" | "LoadBalancer")
}

fn has_node_ports(spec: &ServiceSpec) -> bool {
    match spec.type_.or_empty() {
        "NodePort" => true,
        "LoadBalancer" => spec.allocate_load_balancer_node_ports.unwrap_or(true),
        _ => false,
    }
}

fn has_health_check(spec: &ServiceSpec) -> bool {
    spec.type_.or_empty() == "LoadBalancer" && spec.external_traffic_policy.or_empty() == "Local"
}

fn is_external(spec: &ServiceSpec) -> bool {
    match spec.type_.or_empty() {
        "NodePort" | "LoadBalancer" => true,
        "ClusterIP" => spec.external_ips.is_given(),
        _ => false,
    }
}

fn is_headless(spec: &ServiceSpec) -> bool {
    matches!(spec.cluster_ips.or_empty(), [only] if only == "None")
}

fn defaults(spec: &mut ServiceSpec) {
    set_default(&mut spec.session_affinity, "None");
    match spec.session_affinity.or_empty() {
        "None" => spec.session_affinity_config = None,
        "ClientIP" => {
            let config = spec
                .session_affinity_config
                .get_or_insert_with(SessionAffinityConfig::default);
            let client = config.client_ip.get_or_insert_with(ClientIPConfig::default);
            client.timeout_seconds.get_or_insert(10_800);
        }
        _ => {}
    }
    set_default(&mut spec.type_, "ClusterIP");
    for port in spec.ports.iter_mut().flatten() {
        set_default(&mut port.protocol, "TCP");
        let unset = match &port.target_port {
            None | Some(IntOrString::Int(0)) => true,
            Some(IntOrString::String(name)) => name.is_empty(),
            Some(IntOrString::Int(_)) => false,
        };
        if unset {
            port.target_port = Some(IntOrString::Int(port.port));
        }
    }
    if is_external(spec) {
        set_default(&mut spec.external_traffic_policy, "Cluster");
    }
    if has_cluster_ip(spec) {
        set_default(&mut spec.internal_traffic_policy, "Cluster");
    }
    if spec.type_.or_empty() == "LoadBalancer" {
        spec.allocate_load_balancer_node_ports.get_or_insert(true);
    }
}

fn validate(service: &Service, spec: &ServiceSpec, path: &Path, errors: &mut Errors) {
    let kind = spec.type_.or_empty();
    let headless = is_headless(spec);
    let ports_path = path.child("ports");
    if !spec.ports.is_given() && !headless && kind != "ExternalName" {
        errors.required(&ports_path, "");
    }
    if headless && matches!(kind, "LoadBalancer" | "NodePort") {
        errors.invalid(
            &path.child("clusterIPs").index(0),
            "None",
            format!("may not be set to 'None' for {kind} services"),
        );
    }
    if kind == "ExternalName" {
        external_name(spec, path, errors);
    }
    ports(spec, &ports_path, errors);
    if let Some(selector) = &spec.selector {
        validate_labels(selector, &path.child("selector"), errors);
    }
    affinity(spec, path, errors);
    if kind != "ExternalName" {
        cluster_ips(spec, path, errors);
    }
    for (path, address) in path.child("externalIPs").each(spec.external_ips.or_empty()) {
        if names::ip_address(address).is_err() {
            errors.check(&path, address, names::ip_address);
        } else {
            errors.check(&path, address, names::ordinary_address);
        }
    }
    errors.required_one_of(
        &path.child("type"),
        kind,
        &["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"],
    );
    load_balancer(service, spec, path, errors);
    traffic(spec, path, errors);
}

fn external_name(spec: &ServiceSpec, path: &Path, errors: &mut Errors) {
    for (field, given) in [
        ("clusterIPs", spec.cluster_ips.is_given()),
        ("ipFamilies", spec.ip_families.is_given()),
        ("ipFamilyPolicy", spec.ip_family_policy.is_some()),
    ] {
        if given {
            errors.forbidden(&path.child(field), "may not be set for ExternalName services");
        }
    }
    let name = spec.external_name.or_empty();
    let name = name.strip_suffix('.').unwrap_or(name);
    errors.required_check(&path.child("externalName"), name, names::dns_subdomain);
}

fn ports(spec: &ServiceSpec, path: &Path, errors: &mut Errors) {
    let ports = spec.ports.or_empty();
    let mut seen_names = BTreeSet::new();
    for (path, service_port) in path.each(ports) {
        let name = service_port.name.or_empty();
        if !name.is_empty() {
            errors.check(&path.child("name"), name, names::dns_label);
            if !seen_names.insert(name) {
                errors.duplicate(&path.child("name"), name);
            }
        } else if ports.len() > 1 {
            errors.required(&path.child("name"), "");
        }
        port_number(service_port.port, &path.child("port"), errors);
        errors.required_one_of(
            &path.child("protocol"),
            service_port.protocol.or_empty(),
            &["SCTP", "TCP", "UDP"],
        );
        if let Some(target) = &service_port.target_port {
            port(target, &path.child("targetPort"), errors);
        }
        if let Some(protocol) = &service_port.app_protocol {
            errors.check(&path.child("appProtocol"), protocol, names::qualified);
        }
        if spec.type_.or_empty() == "ClusterIP" && service_port.node_port.unwrap_or_default() != 0 {
            errors.forbidden(&path.child("nodePort"), "may not be used when `type` is 'ClusterIP'");
        }
    }
    let (mut node_ports, mut numbers) = (BTreeSet::new(), BTreeSet::new());
    for (path, port) in path.each(ports) {
        let protocol = port.protocol.or_empty();
        if let Some(number) = port.node_port.filter(|number| *number != 0)
            && !node_ports.insert((protocol, number))
        {
            errors.duplicate(&path.child("nodePort"), number);
        }
        if !numbers.insert((protocol, port.port)) {
            errors.duplicate(&path, json!({"port": port.port, "protocol": protocol}));
        }
    }
}

fn affinity(spec: &ServiceSpec, path: &Path, errors: &mut Errors) {
    let affinity = spec.session_affinity.or_empty();
    errors.required_one_of(&path.child("sessionAffinity"), affinity, &["ClientIP", "None"]);
    let path = path.child("sessionAffinityConfig");
    match (affinity, &spec.session_affinity_config) {
        ("None", Some(_)) => errors.forbidden(&path, "must not be set when session affinity is None"),
        ("ClientIP", None) => errors.required(&path, "when session affinity type is ClientIP"),
        ("ClientIP", Some(config)) => {
            let path = path.child("clientIP").child("timeoutSeconds");
            let timeout = config.client_ip.as_ref().and_then(|client| client.timeout_seconds);
            match timeout {
                None => errors.required(&path, "when session affinity type is ClientIP"),
                Some(seconds) if !(1..=MAX_AFFINITY).contains(&seconds) => errors.invalid(
                    &path,
                    seconds,
                    format!("must be greater than 0 and less than {MAX_AFFINITY}"),
                ),
                Some(_) => {}
            }
        }
        _ => {}
    }
}

/// Addresses, their families and the policy about them say the same.
fn cluster_ips(spec: &ServiceSpec, path: &Path, errors: &mut Errors) {
    let (list, families) = (spec.cluster_ips.or_empty(), spec.ip_families.or_empty());
    let (list_path, families_path) = (path.child("clusterIPs"), path.child("ipFamilies"));
    match (spec.cluster_ip.or_empty(), list.first()) {
        ("", Some(_)) => errors.invalid_object(&list_path, &list, "must be empty when `clusterIP` is not specified"),
        ("", None) => {}
        (_, None) => errors.required(&list_path, ""),
        (one, Some(first)) if one != first => {
            errors.invalid_object(&list_path, &list, "first value must match `clusterIP`");
        }
        _ => {}
    }
    for (at, (path, family)) in families_path.each(families).enumerate() {
        errors.one_of(&path, Some(family), &["IPv4", "IPv6"]);
        if families[..at].contains(family) {
            errors.duplicate(&path, family.as_str());
        }
    }
    errors.one_of(
        &path.child("ipFamilyPolicy"),
        spec.ip_family_policy.as_deref(),
        &["PreferDualStack", "RequireDualStack", "SingleStack"],
    );
    let before = errors.count();
    for (at, (path, address)) in list_path.each(list).enumerate() {
        if at == 0 && address == "None" {
            if list.len() > 1 {
                errors.invalid_object(&list_path, &list, "'None' must be the first and only value");
            }
        } else {
            errors.check(&path, address, names::ip_address);
        }
    }
    let valid = errors.count() == before;
    if list.len() > 2 {
        errors.invalid_object(&list_path, &list, "may only hold up to 2 values");
    }
    if !valid {
        return;
    }
    let of_v6 = list.iter().filter(|address| address.contains(':')).count();
    if list.len() > 1 && (of_v6 > 1 || list.len() - of_v6 > 1) {
        errors.invalid_object(&list_path, &list, "may specify no more than one IP for each IP family");
    }
    if is_headless(spec) {
        return;
    }
    for (at, (address, family)) in list.iter().zip(families).enumerate() {
        let is_v6 = address.contains(':');
        if (family == "IPv4" && is_v6) || (family == "IPv6" && !is_v6) {
            errors.invalid(
                &list_path.index(at),
                address.as_str(),
                format!("expected an {family} value as indicated by `ipFamilies[{at}]`"),
            );
        }
    }
}

const RANGES: &str = "service.beta.kubernetes.io/load-balancer-source-ranges";

fn load_balancer(service: &Service, spec: &ServiceSpec, path: &Path, errors: &mut Errors) {
    let balanced = spec.type_.or_empty() == "LoadBalancer";
    let only = "may only be used when `type` is 'LoadBalancer'";
    if spec.load_balancer_source_ranges.is_given() {
        let path = path.child("LoadBalancerSourceRanges");
        if !balanced {
            errors.forbidden(&path, only);
        }
        for (path, range) in path.each(spec.load_balancer_source_ranges.or_empty()) {
            errors.check(&path, range.trim(), names::cidr);
        }
    } else if let Some(ranges) = service.metadata.annotations.or_empty().get(RANGES) {
        let path = Path::root("metadata.annotations").key(RANGES);
        if !balanced {
            errors.forbidden(&path, only);
        }
        if !ranges.trim().is_empty() {
            for range in ranges.split(',') {
                errors.check(&path, range.trim(), names::cidr);
            }
        }
    }
    let allocate = spec.allocate_load_balancer_node_ports;
    if allocate.is_some() && !balanced {
        errors.forbidden(&path.child("allocateLoadBalancerNodePorts"), only);
    } else if allocate.is_none() && balanced {
        errors.required(&Path::root("allocateLoadBalancerNodePorts"), "");
    }
    if let Some(class) = &spec.load_balancer_class {
        let path = path.child("loadBalancerClass");
        if balanced {
            errors.check(&path, class, names::qualified);
        } else {
            errors.forbidden(&path, only);
        }
    }
}

fn traffic(spec: &ServiceSpec, path: &Path, errors: &mut Errors) {
    const POLICIES: &[&str] = &["Cluster", "Local"];
    let (external_path, external) = (
        path.child("externalTrafficPolicy"),
        spec.external_traffic_policy.or_empty(),
    );
    if is_external(spec) {
        errors.required_one_of(&external_path, external, POLICIES);
    } else if !external.is_empty() {
        errors.invalid(
            &external_path,
            external,
            "may only be set for externally-accessible services",
        );
    }
    let health = spec.health_check_node_port.filter(|number| *number != 0);
    if let Some(number) = health {
        let path = path.child("healthCheckNodePort");
        if has_health_check(spec) {
            port_number(number, &path, errors);
        } else {
            errors.invalid(
                &path,
                number,
                "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'",
            );
        }
    }
    let internal_path = path.child("internalTrafficPolicy");
    if spec.internal_traffic_policy.is_none() && has_cluster_ip(spec) {
        errors.required(&internal_path, "");
    }
    errors.one_of(&internal_path, spec.internal_traffic_policy.as_deref(), POLICIES);
    errors.one_of(
        &path.child("trafficDistribution"),
        spec.traffic_distribution.as_deref(),
        &["PreferClose", "PreferSameNode", "PreferSameZone"],
    );
}

/// Addresses once given out stay, but for the second of two.
fn changes(new: &ServiceSpec, old: &ServiceSpec, errors: &mut Errors) {
    let path = Path::root("spec");
    let external = [new, old].iter().any(|spec| spec.type_.or_empty() == "ExternalName");
    if !external {
        if !(is_headless(new) && is_headless(old)) {
            list_changes(
                ("clusterIPs", "primary clusterIP can not be unset", "clusterIP"),
                (new.cluster_ips.or_empty(), old.cluster_ips.or_empty()),
                new,
                errors,
            );
        }
        if !is_headless(new) && !is_headless(old) {
            list_changes(
                ("ipFamilies", "primary ipFamily can not be unset", "ipFamily"),
                (new.ip_families.or_empty(), old.ip_families.or_empty()),
                new,
                errors,
            );
        }
    }
    let balanced = [new, old].iter().all(|spec| spec.type_.or_empty() == "LoadBalancer");
    if balanced && new.load_balancer_class != old.load_balancer_class {
        errors.invalid_object(
            &path.child("loadBalancerClass"),
            &new.load_balancer_class,
            "may not change once set",
        );
    }
    if has_health_check(new) && has_health_check(old) && new.health_check_node_port != old.health_check_node_port {
        errors.forbidden(&path.child("healthCheckNodePort"), "field is immutable");
    }
}

fn list_changes(
    (field, unset, one): (&str, &str, &str),
    (new, old): (&[String], &[String]),
    spec: &ServiceSpec,
    errors: &mut Errors,
) {
    let path = Path::root("spec").child(field);
    if new.len() == old.len() {
        for (at, (new_one, old_one)) in new.iter().zip(old).enumerate() {
            if new_one != old_one {
                errors.invalid_object(&path.index(at), &new, "may not change once set");
            }
        }
        return;
    }
    match (new.first(), old.first()) {
        (None, Some(_)) => errors.invalid_object(&path.index(0), &new, unset),
        (Some(first), Some(before)) if first != before => {
            errors.invalid_object(&path.index(0), &new, "may not change once set");
        }
        _ => {}
    }
    if new.len() == 1 && old.len() > 1 && spec.ip_family_policy.or_empty() != "SingleStack" {
        errors.invalid_object(
            &Path::root("spec.ipFamilyPolicy"),
            &spec.ip_family_policy,
            format!("must be set to 'SingleStack' when releasing the secondary {one}"),
        );
    }
}

#[cfg(test)]
mod tests;
