//! Whether a pod can run: upstream's rules, and for a pod from a file, what only an API server could provide.

pub mod container;
mod environment;
mod handler;
mod mount;
pub mod resources;
pub mod scheduling;
mod security;
pub mod volume;

use std::collections::BTreeSet;

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::Origin;
use crate::{
    core::{Pod, PodSpec, PodTemplateSpec},
    field::{Errors, FieldError, OrEmpty, Path},
    names,
    selector::{Labels, validate_labels},
};

/// Annotations may not be longer than this together, in bytes.
pub const MAX_ANNOTATIONS: usize = 256 << 10;

/// Everything that is wrong with a pod from a file whose defaults are set; nothing when it can run.
pub fn from_file(pod: &Pod) -> Vec<FieldError> {
    let mut errors = Errors::default();
    metadata(pod, &mut errors);
    let path = Path::root("spec");
    match &pod.spec {
        Some(spec) => self::spec(spec, pod.metadata.name.as_deref(), Origin::File, &path, &mut errors),
        None => errors.required(&path, ""),
    }
    errors.into_vec()
}

/// Why a reference to an API object is refused.
fn needs_api_server(what: &str) -> String {
    format!("a pod from a file may not reference {what}: that needs an API server")
}

fn metadata(pod: &Pod, errors: &mut Errors) {
    let path = Path::root("metadata");
    errors.required_check(&path.child("name"), pod.metadata.name.or_empty(), names::dns_subdomain);
    if let Some(namespace) = &pod.metadata.namespace {
        errors.check(&path.child("namespace"), namespace, names::dns_label);
    }
    validate_labels(pod.metadata.labels.or_empty(), &path.child("labels"), errors);
    annotations(pod.metadata.annotations.or_empty(), &path.child("annotations"), errors);
}

/// Keys and size of annotations.
pub fn annotations(annotations: &Labels, path: &Path, errors: &mut Errors) {
    for key in annotations.keys() {
        errors.check(path, key, names::annotation_key);
    }
    if annotations
        .iter()
        .map(|(key, value)| key.len() + value.len())
        .sum::<usize>()
        > MAX_ANNOTATIONS
    {
        errors.too_long(path, MAX_ANNOTATIONS);
    }
}

const COST: &str = "controller.kubernetes.io/pod-deletion-cost";

/// Annotations that say something about a pod.
pub fn pod_annotations(annotations: &Labels, spec: &PodSpec, path: &Path, errors: &mut Errors) {
    if let Some(value) = annotations.get("kubernetes.io/config.mirror")
        && !spec.node_name.is_given()
    {
        errors.invalid(
            &path.key("kubernetes.io/config.mirror"),
            value.as_str(),
            "must set spec.nodeName if mirror pod annotation is set",
        );
    }
    if let Some(value) = annotations.get(COST) {
        // A number as its canonical form, so that two readers can't disagree about it.
        let plain = value.parse::<i32>().is_ok_and(|cost| cost.to_string() == *value);
        if !plain {
            errors.invalid(&path.key(COST), value.as_str(), "must be a 32bit integer");
        }
    }
}

/// A template of pods.
pub fn template(template: &PodTemplateSpec, path: &Path, errors: &mut Errors) {
    let spec_path = path.child("spec");
    template_metadata(template, path, errors);
    let Some(spec) = &template.spec else {
        return errors.required(&spec_path.child("containers"), "");
    };
    self::spec(spec, None, Origin::Template, &spec_path, errors);
    if spec.ephemeral_containers.is_given() {
        errors.forbidden(
            &spec_path.child("ephemeralContainers"),
            "ephemeral containers not allowed in pod template",
        );
    }
}

/// What a template says of its pods' metadata.
pub fn template_metadata(template: &PodTemplateSpec, path: &Path, errors: &mut Errors) {
    let Some(metadata) = &template.metadata else { return };
    validate_labels(metadata.labels.or_empty(), &path.child("labels"), errors);
    let path = path.child("annotations");
    let given = metadata.annotations.or_empty();
    annotations(given, &path, errors);
    if let Some(spec) = &template.spec {
        pod_annotations(given, spec, &path, errors);
    }
}

/// What a pod is to be. `name` is the pod's, if it is known.
pub fn spec(spec: &PodSpec, name: Option<&str>, origin: Origin, path: &Path, errors: &mut Errors) {
    match spec.termination_grace_period_seconds {
        None => errors.required(&path.child("terminationGracePeriodSeconds"), ""),
        Some(seconds) if origin == Origin::File => {
            errors.at_least(&path.child("terminationGracePeriodSeconds"), Some(seconds), 0);
        }
        Some(_) => {}
    }
    let volumes = volume::volumes(spec.volumes.or_empty(), name, origin, &path.child("volumes"), errors);
    if origin == Origin::File {
        references(spec, path, errors);
    } else {
        resource_claims(spec, path, errors);
    }
    container::all(spec, &volumes, origin, path, errors);
    resources::whole_pod(spec, origin, &path.child("resources"), errors);
    host_network(spec, origin, path, errors);
    errors.required_one_of(
        &path.child("restartPolicy"),
        spec.restart_policy.or_empty(),
        &["Always", "OnFailure", "Never"],
    );
    dns(spec, path, errors);
    validate_labels(spec.node_selector.or_empty(), &path.child("nodeSelector"), errors);
    security::pod(spec, path, errors);
    scheduling::pod(spec, path, errors);
    names_in(spec, path, errors);
    for (path, gate) in path.child("readinessGates").each(spec.readiness_gates.or_empty()) {
        errors.check(&path.child("conditionType"), &gate.condition_type, names::qualified);
    }
    errors.within(
        &path.child("activeDeadlineSeconds"),
        spec.active_deadline_seconds,
        1,
        i32::MAX.into(),
    );
    for (alias, entry) in path.child("hostAliases").each(spec.host_aliases.or_empty()) {
        errors.check(&alias.child("ip"), &entry.ip, names::ip_address);
        for (hostname, name) in alias.child("hostnames").each(entry.hostnames.or_empty()) {
            errors.check(&hostname, name, names::dns_subdomain);
        }
    }
    if let Some(overhead) = &spec.overhead {
        resources::overhead(overhead, &path.child("overhead"), errors);
    }
    operating_system(spec, origin, path, errors);
}

/// Fields that are names of other things.
fn names_in(spec: &PodSpec, path: &Path, errors: &mut Errors) {
    let checks: [(_, _, names::Rule); 7] = [
        (
            "serviceAccountName",
            spec.service_account_name.or_empty(),
            names::dns_subdomain,
        ),
        ("nodeName", spec.node_name.or_empty(), names::dns_subdomain),
        ("hostname", spec.hostname.or_empty(), names::dns_label),
        ("subdomain", spec.subdomain.or_empty(), names::dns_label),
        (
            "priorityClassName",
            spec.priority_class_name.or_empty(),
            names::dns_subdomain,
        ),
        (
            "runtimeClassName",
            spec.runtime_class_name.or_empty(),
            names::dns_subdomain,
        ),
        (
            "hostnameOverride",
            spec.hostname_override.or_empty(),
            names::dns_subdomain,
        ),
    ];
    for (field, value, check) in checks {
        // Node names of pods from files are the machine's, in whatever case it has.
        if !value.is_empty() {
            errors.check(&path.child(field), value, check);
        }
    }
    if spec.hostname_override.is_given() && spec.host_network == Some(true) {
        errors.forbidden(
            &path.child("hostnameOverride"),
            "may not be specified when `hostNetwork` is true",
        );
    }
}

fn resource_claims(spec: &PodSpec, path: &Path, errors: &mut Errors) {
    let mut seen = BTreeSet::new();
    for (path, claim) in path.child("resourceClaims").each(spec.resource_claims.or_empty()) {
        let name = path.child("name");
        if claim.name.is_empty() {
            errors.required(&name, "");
        } else if seen.insert(&claim.name) {
            errors.check(&name, &claim.name, names::dns_label);
        } else {
            errors.duplicate(&name, claim.name.as_str());
        }
        let (direct, template) = (&claim.resource_claim_name, &claim.resource_claim_template_name);
        match (direct, template) {
            (Some(_), Some(_)) => errors.invalid_object(
                &path,
                claim,
                "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified",
            ),
            (None, None) => errors.invalid_object(
                &path,
                claim,
                "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`",
            ),
            _ => {}
        }
        for (field, value) in [("resourceClaimName", direct), ("resourceClaimTemplateName", template)] {
            if let Some(value) = value {
                errors.check(&path.child(field), value, names::dns_subdomain);
            }
        }
    }
}

/// A container in the node's network has the node's ports.
fn host_network(spec: &PodSpec, origin: Origin, path: &Path, errors: &mut Errors) {
    if spec.host_network != Some(true) {
        return;
    }
    for (path, container) in path.child("containers").each(&spec.containers) {
        for (path, port) in path.child("ports").each(container.ports.or_empty()) {
            let host_port = port.host_port.unwrap_or_default();
            if (origin != Origin::Template || host_port != 0) && host_port != port.container_port {
                errors.invalid(
                    &path.child("hostPort"),
                    host_port,
                    "must match `containerPort` when `hostNetwork` is true",
                );
            }
        }
    }
}

fn dns(spec: &PodSpec, path: &Path, errors: &mut Errors) {
    errors.required_one_of(
        &path.child("dnsPolicy"),
        spec.dns_policy.or_empty(),
        &["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"],
    );
    let path = path.child("dnsConfig");
    let nameservers = path.child("nameservers");
    let none = spec.dns_policy.or_empty() == "None";
    let Some(config) = &spec.dns_config else {
        if none {
            errors.required(&path, "must provide `dnsConfig` when `dnsPolicy` is None");
        }
        return;
    };
    let servers = config.nameservers.or_empty();
    if servers.is_empty() && none {
        return errors.required(
            &nameservers,
            "must provide at least one DNS nameserver when `dnsPolicy` is None",
        );
    }
    if servers.len() > 3 {
        errors.invalid_object(&nameservers, &servers, "must not have more than 3 nameservers");
    }
    for (path, server) in nameservers.each(servers) {
        errors.check(&path, server, names::ip_address);
    }
    let searches = config.searches.or_empty();
    let search_path = path.child("searches");
    if searches.len() > 32 {
        errors.invalid_object(&search_path, &searches, "must not have more than 32 search paths");
    }
    if searches.join(" ").len() > 2048 {
        errors.invalid_object(
            &search_path,
            &searches,
            "must not have more than 2048 characters (including spaces) in the search list",
        );
    }
    for (path, search) in search_path.each(searches) {
        if search != "." {
            errors.check(&path, search.strip_suffix('.').unwrap_or(search), names::search_domain);
        }
    }
    for (path, option) in path.child("options").each(config.options.or_empty()) {
        if !option.name.is_given() {
            errors.required(&path, "must not be empty");
        }
    }
}

fn operating_system(spec: &PodSpec, origin: Origin, path: &Path, errors: &mut Errors) {
    let Some(os) = &spec.os else { return };
    let os_path = path.child("os");
    match (os.name.as_str(), origin) {
        ("", _) => errors.required(&os_path.child("name"), "cannot be empty"),
        ("linux", _) => security::without_windows_options(spec, path, errors),
        (other, Origin::File) => errors.unsupported(&os_path.child("name"), other, &["linux"]),
        ("windows", _) => security::without_linux_options(spec, path, errors),
        (other, _) => errors.unsupported(&os_path, other, &["linux", "windows"]),
    }
}

/// What an API server would have to look up, or to have decided before.
fn references(spec: &PodSpec, path: &Path, errors: &mut Errors) {
    for (field, given, what) in [
        (
            "serviceAccountName",
            spec.service_account_name.is_given(),
            "service accounts",
        ),
        ("imagePullSecrets", spec.image_pull_secrets.is_given(), "secrets"),
        ("resourceClaims", spec.resource_claims.is_given(), "resource claims"),
        (
            "runtimeClassName",
            spec.runtime_class_name.is_given(),
            "runtime classes",
        ),
        ("schedulingGates", spec.scheduling_gates.is_given(), "scheduling gates"),
        ("readinessGates", spec.readiness_gates.is_given(), "readiness gates"),
    ] {
        if given {
            errors.forbidden(&path.child(field), needs_api_server(what));
        }
    }
    if spec.ephemeral_containers.is_given() {
        errors.forbidden(
            &path.child("ephemeralContainers"),
            "can't be given in a manifest: they are added to a running pod",
        );
    }
}

/// The number or the name of a port.
pub fn port(port: &IntOrString, path: &Path, errors: &mut Errors) {
    match port {
        IntOrString::Int(number) => port_number(*number, path, errors),
        IntOrString::String(name) => errors.check(path, name, names::port_name),
    }
}

/// A port must be one that can be connected to.
pub fn port_number(number: i32, path: &Path, errors: &mut Errors) {
    errors.within(path, Some(number), 1, 65535);
}
