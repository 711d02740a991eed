//! The networking group: what reaches what.

use bosun_api::{
    core::TypedLocalObjectReference,
    field::{Errors, OrEmpty, Path},
    names,
    pod::validate::{port, port_number},
    selector,
};
use k8s_openapi::{
    api::networking::v1::{
        HTTPIngressPath, IPAddress, IPBlock, Ingress, IngressBackend, IngressClass, IngressClassParametersReference,
        IngressRule, IngressServiceBackend, IngressSpec, IngressTLS, NetworkPolicy, NetworkPolicyPeer,
        NetworkPolicyPort, NetworkPolicySpec, ServiceCIDR,
    },
    apimachinery::pkg::util::intstr::IntOrString,
};

use crate::{Context, kind::Kind, meta::name_error};

/// Where the class of an ingress stood before there was a field for it.
const CLASS_ANNOTATION: &str = "kubernetes.io/ingress.class";

pub(crate) struct Ingresses;

impl Kind for Ingresses {
    type Object = Ingress;

    fn prepare_create(ingress: &mut Ingress, _: &Context<'_>) {
        let status = ingress.status.get_or_insert_default();
        status.load_balancer.get_or_insert_default();
    }

    fn validate(ingress: &Ingress, errors: &mut Errors) {
        let path = Path::root("spec");
        let none = IngressSpec::default();
        let spec = ingress.spec.as_ref().unwrap_or(&none);
        let rules = spec.rules.or_empty();
        if rules.is_empty() && spec.default_backend.is_none() {
            errors.invalid_object(
                &path,
                &spec.rules,
                "either `defaultBackend` or `rules` must be specified",
            );
        }
        if let Some(end) = &spec.default_backend {
            backend(end, &path.child("defaultBackend"), errors);
        }
        for (path, rule) in path.child("rules").each(rules) {
            ingress_rule(rule, &path, errors);
        }
        for (path, tls) in path.child("tls").each(spec.tls.or_empty()) {
            ingress_tls(tls, &path, errors);
        }
        if let Some(class) = &spec.ingress_class_name {
            errors.check(&path.child("ingressClassName"), class, names::dns_subdomain);
        }
    }

    fn validate_create(ingress: &Ingress, errors: &mut Errors) {
        Self::validate(ingress, errors);
        let class = ingress.spec.as_ref().and_then(|spec| spec.ingress_class_name.as_ref());
        if let Some(annotated) = ingress.metadata.annotations.or_empty().get(CLASS_ANNOTATION)
            && class.is_some_and(|class| class != annotated)
        {
            errors.invalid(
                &Path::root("annotations").child(CLASS_ANNOTATION),
                annotated.as_str(),
                "must match `ingressClassName` when both are specified",
            );
        }
    }

    fn validate_part(ingress: &Ingress, _: &Ingress, _: &str, errors: &mut Errors) {
        let balancer = ingress.status.as_ref().and_then(|status| status.load_balancer.as_ref());
        let points = balancer.map_or(&[][..], |balancer| balancer.ingress.or_empty());
        for (path, point) in Path::root("status.loadBalancer.ingress").each(points) {
            if point.ip.is_given() {
                errors.check(&path.child("ip"), point.ip.or_empty(), names::ip_address);
            }
            if point.hostname.is_given() {
                host_name(point.hostname.or_empty(), &path.child("hostname"), errors);
            }
        }
    }

    fn warnings(ingress: &Ingress) -> Vec<String> {
        let annotated = ingress.metadata.annotations.or_empty().contains_key(CLASS_ANNOTATION);
        let warning = "annotation \"kubernetes.io/ingress.class\" is deprecated, please use 'spec.ingressClassName' \
                       instead";
        if annotated {
            vec![warning.to_owned()]
        } else {
            Vec::new()
        }
    }
}

fn host_name(host: &str, path: &Path, errors: &mut Errors) {
    errors.check(path, host, names::dns_subdomain);
    if names::ip_address(host).is_ok() {
        errors.invalid(path, host, "must be a DNS name, not an IP address");
    }
}

fn wildcard_or_name(host: &str, path: &Path, errors: &mut Errors) {
    if host.contains('*') {
        errors.check(path, host, names::wildcard_subdomain);
    } else {
        errors.check(path, host, names::dns_subdomain);
    }
}

fn ingress_tls(tls: &IngressTLS, path: &Path, errors: &mut Errors) {
    for (path, host) in path.child("hosts").each(tls.hosts.or_empty()) {
        wildcard_or_name(host, &path, errors);
    }
    if tls.secret_name.is_given() {
        errors.check(
            &path.child("secretName"),
            tls.secret_name.or_empty(),
            names::dns_subdomain,
        );
    }
}

fn ingress_rule(rule: &IngressRule, path: &Path, errors: &mut Errors) {
    let host = rule.host.or_empty();
    if !host.is_empty() {
        let path = path.child("host");
        if names::ip_address(host).is_ok() {
            errors.invalid(&path, host, "must be a DNS name, not an IP address");
        }
        wildcard_or_name(host, &path, errors);
    }
    let Some(http) = &rule.http else { return };
    let path = path.child("http.paths");
    if http.paths.is_empty() {
        errors.required(&path, "");
    }
    for (path, http) in path.each(&http.paths) {
        http_path(http, &path, errors);
    }
}

fn http_path(http: &HTTPIngressPath, path: &Path, errors: &mut Errors) {
    let text = http.path.or_empty();
    let text_path = path.child("path");
    let absolute = text.starts_with('/');
    match http.path_type.as_str() {
        "" => return errors.required(&path.child("pathType"), "pathType must be specified"),
        "Exact" | "Prefix" => {
            if !absolute {
                errors.invalid(&text_path, text, "must be an absolute path");
            }
            for part in ["//", "/./", "/../", "%2f", "%2F"] {
                if text.contains(part) {
                    errors.invalid(&text_path, text, format!("must not contain '{part}'"));
                }
            }
            for end in ["/..", "/."] {
                if text.ends_with(end) {
                    errors.invalid(&text_path, text, format!("cannot end with '{end}'"));
                }
            }
        }
        "ImplementationSpecific" => {
            if !text.is_empty() && !absolute {
                errors.invalid(&text_path, text, "must be an absolute path");
            }
        }
        other => errors.unsupported(
            &path.child("pathType"),
            other,
            &["Exact", "ImplementationSpecific", "Prefix"],
        ),
    }
    backend(&http.backend, &path.child("backend"), errors);
}

fn backend(backend: &IngressBackend, path: &Path, errors: &mut Errors) {
    match (&backend.resource, &backend.service) {
        (Some(_), Some(_)) => errors.invalid(path, "", "cannot set both resource and service backends"),
        (None, None) => errors.invalid(path, "", "resource or service backend is required"),
        (Some(resource), None) => reference(resource, &path.child("resource"), errors),
        (None, Some(service)) => service_backend(service, path, errors),
    }
}

fn service_backend(service: &IngressServiceBackend, path: &Path, errors: &mut Errors) {
    errors.required_check(&path.child("service.name"), &service.name, |name| {
        name_error("", "Service", name).map_or(Ok(()), Err)
    });
    let port = service.port.clone().unwrap_or_default();
    let number = port.number.unwrap_or_default();
    match (port.name.or_empty(), number) {
        ("", 0) => errors.required(path, "port name or number is required"),
        ("", number) => port_number(number, &path.child("service.port.number"), errors),
        (name, 0) => errors.check(&path.child("service.port.name"), name, names::port_name),
        _ => errors.invalid(path, "", "cannot set both port name & port number"),
    }
}

fn reference(reference: &TypedLocalObjectReference, path: &Path, errors: &mut Errors) {
    if let Some(group) = &reference.api_group {
        errors.check(&path.child("apiGroup"), group, names::dns_subdomain);
    }
    errors.required_check(&path.child("kind"), &reference.kind, names::path_segment);
    errors.required_check(&path.child("name"), &reference.name, names::path_segment);
}

pub(crate) struct IngressClasses;

impl Kind for IngressClasses {
    type Object = IngressClass;

    const STATUS: bool = false;

    fn default(class: &mut IngressClass) {
        if let Some(parameters) = class.spec.as_mut().and_then(|spec| spec.parameters.as_mut()) {
            parameters.scope.get_or_insert_with(|| "Cluster".to_owned());
        }
    }

    fn validate(class: &IngressClass, errors: &mut Errors) {
        let path = Path::root("spec");
        let spec = class.spec.clone().unwrap_or_default();
        let controller = path.child("controller");
        if spec.controller.or_empty().len() > 250 {
            errors.too_long(&controller, 250);
        }
        errors.required_check(&controller, spec.controller.or_empty(), names::domain_prefixed_path);
        if let Some(parameters) = &spec.parameters {
            class_parameters(parameters, &path.child("parameters"), errors);
        }
    }

    fn validate_update(class: &IngressClass, old: &IngressClass, errors: &mut Errors) {
        let controller = |class: &IngressClass| class.spec.as_ref().and_then(|spec| spec.controller.clone());
        errors.immutable(&Path::root("spec.controller"), &controller(class), &controller(old));
        Self::validate(class, errors);
    }
}

fn class_parameters(parameters: &IngressClassParametersReference, path: &Path, errors: &mut Errors) {
    let target = TypedLocalObjectReference {
        api_group: parameters.api_group.clone(),
        kind: parameters.kind.clone(),
        name: parameters.name.clone(),
    };
    reference(&target, path, errors);
    let namespace_path = path.child("namespace");
    match (parameters.scope.as_deref(), &parameters.namespace) {
        (None, _) => errors.required(&path.child("scope"), ""),
        (Some("Namespace"), None) => {
            errors.required(&namespace_path, "`parameters.scope` is set to 'Namespace'");
        }
        (Some("Namespace"), Some(namespace)) => errors.check(&namespace_path, namespace, names::dns_label),
        (Some("Cluster"), Some(_)) => {
            errors.forbidden(&namespace_path, "`parameters.scope` is set to 'Cluster'");
        }
        (Some(scope), _) => errors.one_of(&path.child("scope"), Some(scope), &["Cluster", "Namespace"]),
    }
}

pub(crate) struct Policies;

impl Kind for Policies {
    type Object = NetworkPolicy;

    const STATUS: bool = false;

    fn default(policy: &mut NetworkPolicy) {
        let spec = policy.spec.get_or_insert_default();
        spec.pod_selector.get_or_insert_default();
        for port in ports_of(spec) {
            port.protocol.get_or_insert_with(|| "TCP".to_owned());
        }
        if !spec.policy_types.is_given() {
            let mut types = vec!["Ingress".to_owned()];
            if spec.egress.is_given() {
                types.push("Egress".to_owned());
            }
            spec.policy_types = Some(types);
        }
    }

    fn validate(policy: &NetworkPolicy, errors: &mut Errors) {
        let path = Path::root("spec");
        let Some(spec) = &policy.spec else { return };
        selector::validate(spec.pod_selector.as_ref(), &path.child("podSelector"), errors);
        for (path, rule) in path.child("ingress").each(spec.ingress.or_empty()) {
            traffic(rule.ports.or_empty(), rule.from.or_empty(), &path, "from", errors);
        }
        for (path, rule) in path.child("egress").each(spec.egress.or_empty()) {
            traffic(rule.ports.or_empty(), rule.to.or_empty(), &path, "to", errors);
        }
        let types = spec.policy_types.or_empty();
        let path = path.child("policyTypes");
        if types.len() > 2 {
            return errors.invalid(&path, types, "may not specify more than two policyTypes");
        }
        for (path, type_) in path.each(types) {
            errors.one_of(&path, Some(type_), &["Ingress", "Egress"]);
        }
    }
}

fn ports_of(spec: &mut NetworkPolicySpec) -> impl Iterator<Item = &mut NetworkPolicyPort> {
    let ingress = spec.ingress.iter_mut().flatten().flat_map(|rule| &mut rule.ports);
    let egress = spec.egress.iter_mut().flatten().flat_map(|rule| &mut rule.ports);
    ingress.chain(egress).flatten()
}

fn traffic(ports: &[NetworkPolicyPort], peers: &[NetworkPolicyPeer], path: &Path, field: &str, errors: &mut Errors) {
    for (path, port) in path.child("ports").each(ports) {
        policy_port(port, &path, errors);
    }
    for (path, end) in path.child(field).each(peers) {
        peer(end, &path, errors);
    }
}

fn policy_port(allowed: &NetworkPolicyPort, path: &Path, errors: &mut Errors) {
    errors.one_of(
        &path.child("protocol"),
        allowed.protocol.as_deref(),
        &["TCP", "UDP", "SCTP"],
    );
    let end_path = path.child("endPort");
    if let Some(first) = &allowed.port {
        port(first, &path.child("port"), errors);
    }
    let Some(end) = allowed.end_port else { return };
    match &allowed.port {
        Some(IntOrString::Int(first)) => {
            if end < *first {
                errors.invalid(&end_path, end, "must be greater than or equal to `port`");
            }
            port_number(end, &end_path, errors);
        }
        Some(IntOrString::String(_)) => {
            errors.invalid(&end_path, end, "may not be specified when `port` is non-numeric");
        }
        None => errors.invalid(&end_path, end, "may not be specified when `port` is not specified"),
    }
}

fn peer(peer: &NetworkPolicyPeer, path: &Path, errors: &mut Errors) {
    let others = peer.pod_selector.is_some() || peer.namespace_selector.is_some();
    selector::validate(peer.pod_selector.as_ref(), &path.child("podSelector"), errors);
    selector::validate(
        peer.namespace_selector.as_ref(),
        &path.child("namespaceSelector"),
        errors,
    );
    match (&peer.ip_block, others) {
        (Some(block), others) => {
            ip_block(block, &path.child("ipBlock"), errors);
            if others {
                errors.forbidden(path, "may not specify both ipBlock and another peer");
            }
        }
        (None, false) => errors.required(path, "must specify a peer"),
        (None, true) => {}
    }
}

fn ip_block(block: &IPBlock, path: &Path, errors: &mut Errors) {
    errors.required_check(&path.child("cidr"), &block.cidr, names::cidr);
    let Some(whole) = names::split_cidr(&block.cidr) else {
        return;
    };
    for (path, except) in path.child("except").each(block.except.or_empty()) {
        errors.check(&path, except, names::cidr);
        if let Some(part) = names::split_cidr(except)
            && !(contains(whole, part.0) && whole.1 < part.1)
        {
            errors.invalid(&path, except.as_str(), "must be a strict subset of `cidr`");
        }
    }
}

fn contains((network, length): (std::net::IpAddr, u8), address: std::net::IpAddr) -> bool {
    use std::net::IpAddr;
    let (network, address, size) = match (network, address) {
        (IpAddr::V4(network), IpAddr::V4(address)) => (u128::from(network.to_bits()), address.to_bits().into(), 32),
        (IpAddr::V6(network), IpAddr::V6(address)) => (network.to_bits(), address.to_bits(), 128),
        _ => return false,
    };
    let rest = u32::saturating_sub(size, length.into());
    let head = |bits: u128| bits.checked_shr(rest).unwrap_or_default();
    head(network) == head(address)
}

pub(crate) struct Addresses;

impl Kind for Addresses {
    type Object = IPAddress;

    const STATUS: bool = false;

    fn validate(address: &IPAddress, errors: &mut Errors) {
        let path = Path::root("spec.parentRef");
        let parent = &address.spec.parent_ref;
        if parent.group.is_given() {
            errors.check(&path.child("group"), parent.group.or_empty(), names::dns_subdomain);
        }
        errors.required_check(&path.child("resource"), &parent.resource, names::path_segment);
        errors.required_check(&path.child("name"), &parent.name, names::path_segment);
        if parent.namespace.is_given() {
            errors.check(
                &path.child("namespace"),
                parent.namespace.or_empty(),
                names::path_segment,
            );
        }
    }

    fn validate_update(address: &IPAddress, old: &IPAddress, errors: &mut Errors) {
        errors.immutable(
            &Path::root("spec.parentRef"),
            &address.spec.parent_ref,
            &old.spec.parent_ref,
        );
    }
}

pub(crate) struct ServiceNetworks;

impl Kind for ServiceNetworks {
    type Object = ServiceCIDR;

    fn validate(networks: &ServiceCIDR, errors: &mut Errors) {
        let path = Path::root("spec.cidrs");
        let networks = cidrs(networks);
        match networks {
            [] => errors.required(&path, "at least one CIDR required"),
            [_] | [_, _] => {
                for (path, network) in path.each(networks) {
                    errors.check(&path, network, names::cidr);
                }
                let is_v4 = |index: usize| Some(names::split_cidr(networks.get(index)?)?.0.is_ipv4());
                if let (Some(one), Some(other)) = (is_v4(0), is_v4(1))
                    && one == other
                {
                    errors.invalid(
                        &path,
                        networks,
                        "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64",
                    );
                }
            }
            _ => errors.invalid(&path, networks, "may only hold up to 2 values"),
        }
    }

    fn validate_update(networks: &ServiceCIDR, old: &ServiceCIDR, errors: &mut Errors) {
        let path = Path::root("spec.cidrs");
        let (new, old) = (cidrs(networks), cidrs(old));
        if new.len() != old.len() && (old.len(), new.len()) != (1, 2) {
            return errors.invalid(&path, new, "field is immutable");
        }
        for (index, (new, old)) in new.iter().zip(old).enumerate() {
            errors.immutable(&path.index(index), new, old);
        }
        if new.len() != old.len() {
            Self::validate(networks, errors);
        }
    }
}

fn cidrs(networks: &ServiceCIDR) -> &[String] {
    networks.spec.as_ref().map_or(&[], |spec| spec.cidrs.or_empty())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::testing::{changes, create, mistakes};

    const GROUP: &str = "networking.k8s.io";

    #[test]
    fn an_ingress_leads_somewhere() {
        let valid = json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {"name": "i", "namespace": "a"},
            "spec": {"rules": [{"host": "a.example", "http": {"paths": [
                {"path": "/", "pathType": "Prefix", "backend": {"service": {"name": "web", "port": {"number": 80}}}},
            ]}}]},
        });
        mistakes(
            GROUP,
            "Ingress",
            &valid,
            &[
                (
                    "/spec/rules",
                    Value::Null,
                    &["spec: Invalid value: null: either `defaultBackend` or `rules` must be specified"],
                ),
                (
                    "/spec/rules/0/host",
                    json!("10.0.0.1"),
                    &["spec.rules[0].host: Invalid value: \"10.0.0.1\": must be a DNS name, not an IP address"],
                ),
                (
                    "/spec/rules/0/http/paths/0/path",
                    json!("a//b"),
                    &[
                        "spec.rules[0].http.paths[0].path: Invalid value: \"a//b\": must be an absolute path",
                        "spec.rules[0].http.paths[0].path: Invalid value: \"a//b\": must not contain '//'",
                    ],
                ),
                (
                    "/spec/rules/0/http/paths/0/pathType",
                    json!("Odd"),
                    &[
                        "spec.rules[0].http.paths[0].pathType: Unsupported value: \"Odd\": supported values: \
                         \"Exact\", \"ImplementationSpecific\", \"Prefix\"",
                    ],
                ),
                (
                    "/spec/rules/0/http/paths/0/backend/service/port",
                    json!({}),
                    &["spec.rules[0].http.paths[0].backend: Required value: port name or number is required"],
                ),
                (
                    "/spec/defaultBackend",
                    json!({}),
                    &["spec.defaultBackend: Invalid value: \"\": resource or service backend is required"],
                ),
                (
                    "/spec/rules/0/http/paths",
                    json!([]),
                    &["spec.rules[0].http.paths: Required value"],
                ),
            ],
        );
    }

    #[test]
    fn a_class_of_ingresses_stays_its_controllers() {
        let valid = json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "IngressClass", "metadata": {"name": "i"},
            "spec": {"controller": "example.com/c", "parameters": {"kind": "K", "name": "k"}},
        });
        let stored = create(GROUP, "IngressClass", valid.clone()).unwrap();
        assert_eq!(stored["spec"]["parameters"]["scope"], "Cluster");
        mistakes(
            GROUP,
            "IngressClass",
            &valid,
            &[
                ("/spec/controller", Value::Null, &["spec.controller: Required value"]),
                (
                    "/spec/parameters/scope",
                    json!("Namespace"),
                    &["spec.parameters.namespace: Required value: `parameters.scope` is set to 'Namespace'"],
                ),
            ],
        );
        changes(
            GROUP,
            "IngressClass",
            &valid,
            &[(
                "/spec/controller",
                json!("example.com/d"),
                &["spec.controller: Invalid value: \"example.com/d\": field is immutable"],
            )],
        );
    }

    #[test]
    fn a_policy_names_ports_and_peers() {
        let valid = json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "p", "namespace": "a"},
            "spec": {"podSelector": {}, "egress": [{"ports": [{"port": 80}]}]},
        });
        let stored = create(GROUP, "NetworkPolicy", valid.clone()).unwrap();
        assert_eq!(stored["spec"]["policyTypes"], json!(["Ingress", "Egress"]));
        assert_eq!(stored["spec"]["egress"][0]["ports"][0]["protocol"], "TCP");
        mistakes(
            GROUP,
            "NetworkPolicy",
            &valid,
            &[
                (
                    "/spec/egress/0/ports/0/endPort",
                    json!(70),
                    &["spec.egress[0].ports[0].endPort: Invalid value: 70: must be greater than or equal to `port`"],
                ),
                (
                    "/spec/egress/0/to",
                    json!([{}]),
                    &["spec.egress[0].to[0]: Required value: must specify a peer"],
                ),
                (
                    "/spec/egress/0/to",
                    json!([{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16", "11.0.0.0/16"]}}]),
                    &[
                        "spec.egress[0].to[0].ipBlock.except[1]: Invalid value: \"11.0.0.0/16\": must be a strict \
                         subset of `cidr`",
                    ],
                ),
                (
                    "/spec/policyTypes",
                    json!(["Sideways"]),
                    &[
                        "spec.policyTypes[0]: Unsupported value: \"Sideways\": supported values: \"Ingress\", \
                         \"Egress\"",
                    ],
                ),
            ],
        );
    }

    #[test]
    fn networks_of_services_may_only_get_a_second_family() {
        let valid = json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR", "metadata": {"name": "n"},
            "spec": {"cidrs": ["10.0.0.0/16"]},
        });
        changes(
            GROUP,
            "ServiceCIDR",
            &valid,
            &[
                ("/spec/cidrs", json!(["10.0.0.0/16", "fd00::/112"]), &[]),
                (
                    "/spec/cidrs",
                    json!(["10.1.0.0/16"]),
                    &["spec.cidrs[0]: Invalid value: \"10.1.0.0/16\": field is immutable"],
                ),
                (
                    "/spec/cidrs",
                    json!([]),
                    &["spec.cidrs: Invalid value: []: field is immutable"],
                ),
            ],
        );
        let address = json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "IPAddress", "metadata": {"name": "10.0.0.1"},
            "spec": {"parentRef": {"resource": "services", "namespace": "a", "name": "web"}},
        });
        mistakes(
            GROUP,
            "IPAddress",
            &address,
            &[(
                "/spec/parentRef/name",
                json!(""),
                &["spec.parentRef.name: Required value"],
            )],
        );
    }
}
