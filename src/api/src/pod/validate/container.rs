//! Containers: those that run, those before them, those added to look inside.

use std::collections::BTreeSet;

use super::{
    environment,
    handler::{self, ProbeKind},
    mount, port_number, resources, security,
    volume::Volumes,
};
use crate::{
    core::{Container, ContainerPort, EphemeralContainer, PodSpec},
    field::{Errors, OrEmpty, Path},
    names,
    pod::Origin,
};

/// What a container's validity depends on beyond itself.
struct Surroundings<'a> {
    spec: &'a PodSpec,
    volumes: &'a Volumes<'a>,
    claims: BTreeSet<&'a str>,
    origin: Origin,
}

const POLICIES: &[&str] = &["Always", "Never", "OnFailure"];
const NOT_OF_A_CONTAINER: &str = "is not supported for a single container: set the pod's restartPolicy";
const NOT_ALLOWED: &str = "cannot be set for an Ephemeral Container";
const ONLY_SIDECARS: &str = "may not be set for init containers without restartPolicy=Always";

/// All containers of a pod.
pub(super) fn all<'a>(spec: &'a PodSpec, volumes: &'a Volumes<'a>, origin: Origin, path: &Path, errors: &mut Errors) {
    let around = Surroundings {
        spec,
        volumes,
        claims: spec
            .resource_claims
            .or_empty()
            .iter()
            .map(|claim| claim.name.as_str())
            .collect(),
        origin,
    };
    let mut seen = BTreeSet::new();
    let apps = path.child("containers");
    if spec.containers.is_empty() {
        errors.required(&apps, "");
    }
    for (path, container) in apps.each(&spec.containers) {
        app(container, &around, &path, errors);
        unique_name(&container.name, &mut seen, &path, errors);
    }
    host_ports(&spec.containers, &apps, errors);
    let inits = path.child("initContainers");
    for (path, container) in inits.each(spec.init_containers.or_empty()) {
        init(container, &around, &path, errors);
        unique_name(&container.name, &mut seen, &path, errors);
        // One after the other, so that only a container's own ports may clash.
        host_ports(std::slice::from_ref(container), &inits, errors);
    }
    if origin == Origin::File {
        return;
    }
    let targets = seen.clone();
    for (path, container) in path
        .child("ephemeralContainers")
        .each(spec.ephemeral_containers.or_empty())
    {
        ephemeral(container, &around, &targets, &path, errors);
        unique_name(&container.name, &mut seen, &path, errors);
    }
}

fn unique_name<'a>(name: &'a str, seen: &mut BTreeSet<&'a str>, path: &Path, errors: &mut Errors) {
    if !name.is_empty() && !seen.insert(name) {
        errors.duplicate(&path.child("name"), name);
    }
}

fn app(container: &Container, around: &Surroundings<'_>, path: &Path, errors: &mut Errors) {
    common(container, around, path, errors);
    hooks_and_probes(container, around, path, errors);
    if around.origin == Origin::File {
        if container.restart_policy.is_some() {
            errors.forbidden(&path.child("restartPolicy"), NOT_OF_A_CONTAINER);
        }
    } else {
        restart_policy(container, path, errors);
    }
}

fn init(container: &Container, around: &Surroundings<'_>, path: &Path, errors: &mut Errors) {
    common(container, around, path, errors);
    if around.origin == Origin::File {
        errors.one_of(
            &path.child("restartPolicy"),
            container.restart_policy.as_deref(),
            &["Always"],
        );
    } else {
        restart_policy(container, path, errors);
    }
    if container.restart_policy.as_deref() == Some("Always") {
        return hooks_and_probes(container, around, path, errors);
    }
    for (field, given) in [
        ("lifecycle", container.lifecycle.is_some()),
        ("livenessProbe", container.liveness_probe.is_some()),
        ("readinessProbe", container.readiness_probe.is_some()),
        ("startupProbe", container.startup_probe.is_some()),
    ] {
        if given {
            errors.forbidden(&path.child(field), ONLY_SIDECARS);
        }
    }
}

/// A container's own policy, and the rules that make exceptions from it (KEP-5307).
fn restart_policy(container: &Container, path: &Path, errors: &mut Errors) {
    let policy_path = path.child("restartPolicy");
    errors.one_of(&policy_path, container.restart_policy.as_deref(), POLICIES);
    let rules = container.restart_policy_rules.or_empty();
    if !rules.is_empty() && container.restart_policy.is_none() {
        errors.required(&policy_path, "must specify restartPolicy when restart rules are used");
    }
    let path = path.child("restartPolicyRules");
    errors.too_many(&path, rules.len(), 20);
    for (path, rule) in path.each(rules) {
        errors.one_of(
            &path.child("action"),
            Some(&rule.action),
            &["Restart", "RestartAllContainers"],
        );
        let path = path.child("exitCodes");
        let Some(codes) = &rule.exit_codes else {
            errors.required(&path, "must be specified");
            continue;
        };
        errors.one_of(&path.child("operator"), Some(&codes.operator), &["In", "NotIn"]);
        errors.too_many(&path.child("values"), codes.values.or_empty().len(), 255);
    }
}

fn hooks_and_probes(container: &Container, around: &Surroundings<'_>, path: &Path, errors: &mut Errors) {
    if let Some(lifecycle) = &container.lifecycle {
        let grace = around.spec.termination_grace_period_seconds;
        handler::lifecycle(lifecycle, grace, around.origin, &path.child("lifecycle"), errors);
    }
    for (field, probe, kind) in [
        ("livenessProbe", &container.liveness_probe, ProbeKind::Liveness),
        ("readinessProbe", &container.readiness_probe, ProbeKind::Readiness),
        ("startupProbe", &container.startup_probe, ProbeKind::Startup),
    ] {
        if let Some(probe) = probe {
            handler::probe(probe, kind, &path.child(field), errors);
        }
    }
}

/// What holds for every kind of container.
fn common(container: &Container, around: &Surroundings<'_>, path: &Path, errors: &mut Errors) {
    errors.required_check(&path.child("name"), &container.name, names::dns_label);
    let image = container.image.or_empty();
    let image_path = path.child("image");
    // A template may leave the image to whoever makes the pod, even by a lone space; a pod may not.
    if image.is_empty() {
        errors.required(&image_path, "");
    } else if around.origin != Origin::Template && image.trim() != image {
        errors.invalid(&image_path, image, "must not have leading or trailing whitespace");
    }
    errors.required_one_of(
        &path.child("terminationMessagePolicy"),
        container.termination_message_policy.or_empty(),
        &["File", "FallbackToLogsOnError"],
    );
    errors.required_one_of(
        &path.child("imagePullPolicy"),
        container.image_pull_policy.or_empty(),
        &["Always", "IfNotPresent", "Never"],
    );
    if let (Origin::File, Some(message)) = (around.origin, &container.termination_message_path) {
        errors.check(&path.child("terminationMessagePath"), message, names::absolute_path);
    }
    if around.origin == Origin::File && container.restart_policy_rules.is_given() {
        errors.forbidden(&path.child("restartPolicyRules"), NOT_OF_A_CONTAINER);
    }
    ports(container.ports.or_empty(), around.origin, &path.child("ports"), errors);
    environment::variables(container.env.or_empty(), around.origin, &path.child("env"), errors);
    environment::sources(
        container.env_from.or_empty(),
        around.origin,
        &path.child("envFrom"),
        errors,
    );
    mount::mounts(container, around.volumes, around.origin, path, errors);
    resources::container(
        container.resources.as_ref(),
        &around.claims,
        around.origin,
        &path.child("resources"),
        errors,
    );
    resize_policy(container, around.spec, &path.child("resizePolicy"), errors);
    if let Some(context) = &container.security_context {
        let host_users = around.spec.host_users.unwrap_or(true);
        security::container(context, host_users, &path.child("securityContext"), errors);
    }
}

fn resize_policy(container: &Container, spec: &PodSpec, path: &Path, errors: &mut Errors) {
    let mut seen = BTreeSet::new();
    for (index_path, policy) in path.each(container.resize_policy.or_empty()) {
        if !seen.insert(&policy.resource_name) {
            errors.duplicate(&index_path, policy.resource_name.as_str());
        }
        errors.required_one_of(path, &policy.resource_name, &["cpu", "memory"]);
        errors.required_one_of(path, &policy.restart_policy, &["NotRequired", "RestartContainer"]);
        if spec.restart_policy.or_empty() == "Never" && policy.restart_policy != "NotRequired" {
            errors.invalid(
                path,
                policy.restart_policy.as_str(),
                "must be 'NotRequired' when `restartPolicy` is 'Never'",
            );
        }
    }
}

fn ports(ports: &[ContainerPort], origin: Origin, path: &Path, errors: &mut Errors) {
    let mut seen = BTreeSet::new();
    for (path, port) in path.each(ports) {
        if let Some(name) = port.name.as_ref().filter(|name| !name.is_empty()) {
            if let Err(detail) = names::port_name(name) {
                errors.invalid(&path.child("name"), name.as_str(), detail);
            } else if !seen.insert(name) {
                errors.duplicate(&path.child("name"), name.as_str());
            }
        }
        if port.container_port == 0 {
            errors.required(&path.child("containerPort"), "");
        } else {
            port_number(port.container_port, &path.child("containerPort"), errors);
        }
        if let Some(host_port) = port.host_port.filter(|port| *port != 0) {
            port_number(host_port, &path.child("hostPort"), errors);
        }
        errors.required_one_of(
            &path.child("protocol"),
            port.protocol.or_empty(),
            &["SCTP", "TCP", "UDP"],
        );
        if origin == Origin::File && port.host_ip.is_given() {
            errors.check(&path.child("hostIP"), port.host_ip.or_empty(), names::ip_address);
        }
    }
}

/// A port of the node is one container's only.
fn host_ports(containers: &[Container], path: &Path, errors: &mut Errors) {
    let mut seen = BTreeSet::new();
    for (path, container) in path.each(containers) {
        for (path, port) in path.child("ports").each(container.ports.or_empty()) {
            let Some(number) = port.host_port.filter(|number| *number != 0) else {
                continue;
            };
            let key = format!("{}/{}/{number}", port.protocol.or_empty(), port.host_ip.or_empty());
            if seen.contains(&key) {
                errors.duplicate(&path.child("hostPort"), key);
            } else {
                seen.insert(key);
            }
        }
    }
}

/// A container added to a running pod: nothing of the pod may depend on it.
fn ephemeral(
    container: &EphemeralContainer,
    around: &Surroundings<'_>,
    targets: &BTreeSet<&str>,
    path: &Path,
    errors: &mut Errors,
) {
    common(&as_container(container), around, path, errors);
    let target = container.target_container_name.or_empty();
    if !target.is_empty() && !targets.contains(target) {
        errors.not_found(&path.child("targetContainerName"), target);
    }
    let resources = container.resources.as_ref().is_some_and(|resources| {
        resources.limits.is_given() || resources.requests.is_given() || resources.claims.is_given()
    });
    for (field, given) in [
        ("ports", container.ports.is_given()),
        ("resources", resources),
        ("resizePolicy", container.resize_policy.is_given()),
        ("restartPolicy", container.restart_policy.is_some()),
        ("restartPolicyRules", container.restart_policy_rules.is_given()),
        ("livenessProbe", container.liveness_probe.is_some()),
        ("readinessProbe", container.readiness_probe.is_some()),
        ("startupProbe", container.startup_probe.is_some()),
        ("lifecycle", container.lifecycle.is_some()),
    ] {
        if given {
            errors.forbidden(&path.child(field), NOT_ALLOWED);
        }
    }
    for (path, mount) in path.child("volumeMounts").each(container.volume_mounts.or_empty()) {
        if mount.sub_path.is_given() {
            errors.forbidden(&path.child("subPath"), NOT_ALLOWED);
        }
        if mount.sub_path_expr.is_given() {
            errors.forbidden(&path.child("subPathExpr"), NOT_ALLOWED);
        }
    }
}

/// What an ephemeral container has in common with others.
fn as_container(container: &EphemeralContainer) -> Container {
    let EphemeralContainer {
        env,
        env_from,
        image,
        image_pull_policy,
        name,
        ports,
        resize_policy,
        resources,
        security_context,
        termination_message_path,
        termination_message_policy,
        volume_devices,
        volume_mounts,
        ..
    } = container.clone();
    Container {
        env,
        env_from,
        image,
        image_pull_policy,
        name,
        ports,
        resize_policy,
        resources,
        security_context,
        termination_message_path,
        termination_message_policy,
        volume_devices,
        volume_mounts,
        ..Container::default()
    }
}
