//! Containers.

use std::collections::BTreeSet;

use super::{
    handler::{self, ProbeKind},
    needs_api_server, resources, user_id,
};
use crate::{
    core::{Container, EnvVar, EnvVarSource, PodSpec, SeccompProfile, SecurityContext, VolumeMount},
    manifest::field::{Errors, Path},
    names,
};

/// Which list a container is in.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Init,
    App,
}

const NOT_OF_A_CONTAINER: &str = "is not supported for a single container: set the pod's restartPolicy";

pub(super) fn validate(
    container: &Container,
    role: Role,
    spec: &PodSpec,
    volumes: &BTreeSet<&str>,
    path: &Path,
    errors: &mut Errors,
) {
    match container.name.as_str() {
        "" => errors.required(&path.child("name"), ""),
        name => errors.check(&path.child("name"), name, names::dns_label),
    }
    match container.image.as_deref().unwrap_or_default() {
        "" => errors.required(&path.child("image"), ""),
        image if image.trim() != image => {
            errors.invalid(
                &path.child("image"),
                image,
                "must not have leading or trailing whitespace",
            );
        }
        _ => {}
    }
    let policy = container.image_pull_policy.as_deref();
    errors.one_of(
        &path.child("imagePullPolicy"),
        policy,
        &["Always", "IfNotPresent", "Never"],
    );
    let policy = container.termination_message_policy.as_deref();
    errors.one_of(
        &path.child("terminationMessagePolicy"),
        policy,
        &["File", "FallbackToLogsOnError"],
    );
    if let Some(message) = &container.termination_message_path {
        errors.check(&path.child("terminationMessagePath"), message, names::absolute_path);
    }
    restart_policy(container, role, path, errors);
    ports(container, spec.host_network == Some(true), path, errors);
    for (path, variable) in path.child("env").each(container.env.as_deref().unwrap_or_default()) {
        environment(variable, &path, errors);
    }
    for (path, source) in path
        .child("envFrom")
        .each(container.env_from.as_deref().unwrap_or_default())
    {
        if source.config_map_ref.is_some() {
            errors.forbidden(&path.child("configMapRef"), needs_api_server("config maps"));
        }
        if source.secret_ref.is_some() {
            errors.forbidden(&path.child("secretRef"), needs_api_server("secrets"));
        }
    }
    resources::validate(container.resources.as_ref(), &path.child("resources"), false, errors);
    mounts(container, volumes, path, errors);
    probes(container, role, spec, path, errors);
    if let Some(security) = &container.security_context {
        security_context(security, &path.child("securityContext"), errors);
    }
}

fn restart_policy(container: &Container, role: Role, path: &Path, errors: &mut Errors) {
    let policy = path.child("restartPolicy");
    match (role, container.restart_policy.as_deref()) {
        (_, None) => {}
        (Role::Init, Some(value)) => errors.one_of(&policy, Some(value), &["Always"]),
        (Role::App, Some(_)) => errors.forbidden(&policy, NOT_OF_A_CONTAINER),
    }
    if container
        .restart_policy_rules
        .as_ref()
        .is_some_and(|rules| !rules.is_empty())
    {
        errors.forbidden(&path.child("restartPolicyRules"), NOT_OF_A_CONTAINER);
    }
}

/// Init containers that run to their end are neither probed nor hooked.
fn probes(container: &Container, role: Role, spec: &PodSpec, path: &Path, errors: &mut Errors) {
    let once = role == Role::Init && container.restart_policy.as_deref() != Some("Always");
    for (field, probe, kind) in [
        ("livenessProbe", &container.liveness_probe, ProbeKind::Liveness),
        ("readinessProbe", &container.readiness_probe, ProbeKind::Readiness),
        ("startupProbe", &container.startup_probe, ProbeKind::Startup),
    ] {
        let Some(probe) = probe else { continue };
        let path = path.child(field);
        if once {
            errors.forbidden(&path, "may not be set for init containers without restartPolicy=Always");
        } else {
            handler::probe(probe, kind, &path, errors);
        }
    }
    if let Some(lifecycle) = &container.lifecycle {
        let path = path.child("lifecycle");
        if once {
            errors.forbidden(&path, "may not be set for init containers without restartPolicy=Always");
        } else {
            handler::lifecycle(
                lifecycle,
                spec.termination_grace_period_seconds.unwrap_or(30),
                &path,
                errors,
            );
        }
    }
}

fn ports(container: &Container, host_network: bool, path: &Path, errors: &mut Errors) {
    let mut seen = BTreeSet::new();
    for (path, port) in path.child("ports").each(container.ports.as_deref().unwrap_or_default()) {
        if let Some(name) = &port.name {
            errors.check(&path.child("name"), name, names::port_name);
            if !seen.insert(name) {
                errors.duplicate(&path.child("name"), name);
            }
        }
        handler::port_number(port.container_port, &path.child("containerPort"), errors);
        let host_port = port.host_port.unwrap_or_default();
        if host_port != 0 {
            handler::port_number(host_port, &path.child("hostPort"), errors);
            if host_network && host_port != port.container_port {
                errors.invalid(
                    &path.child("hostPort"),
                    host_port,
                    "must match `containerPort` when `hostNetwork` is true",
                );
            }
        }
        errors.one_of(
            &path.child("protocol"),
            port.protocol.as_deref(),
            &["TCP", "UDP", "SCTP"],
        );
        if let Some(address) = port.host_ip.as_deref().filter(|address| !address.is_empty()) {
            errors.check(&path.child("hostIP"), address, names::ip_address);
        }
    }
}

/// A port of the node, which only one container of the pod may have.
type HostPort<'a> = (i32, Option<&'a str>, Option<&'a str>);

pub(super) fn host_ports<'a>(
    container: &'a Container,
    seen: &mut BTreeSet<HostPort<'a>>,
    path: &Path,
    errors: &mut Errors,
) {
    for (path, port) in path.child("ports").each(container.ports.as_deref().unwrap_or_default()) {
        let Some(number) = port.host_port.filter(|number| *number != 0) else {
            continue;
        };
        let protocol = port.protocol.as_deref();
        if !seen.insert((number, protocol, port.host_ip.as_deref())) {
            errors.duplicate(
                &path.child("hostPort"),
                format!("{number}/{}", protocol.unwrap_or_default()),
            );
        }
    }
}

fn environment(variable: &EnvVar, path: &Path, errors: &mut Errors) {
    match variable.name.as_str() {
        "" => errors.required(&path.child("name"), ""),
        name => errors.check(&path.child("name"), name, names::environment_variable),
    }
    let Some(source) = &variable.value_from else { return };
    let path = path.child("valueFrom");
    if variable.value.as_deref().is_some_and(|value| !value.is_empty()) {
        errors.invalid(&path, "", "may not be specified when `value` is not empty");
    }
    let EnvVarSource {
        config_map_key_ref,
        field_ref,
        file_key_ref,
        resource_field_ref,
        secret_key_ref,
    } = source;
    let given = [
        config_map_key_ref.is_some(),
        field_ref.is_some(),
        file_key_ref.is_some(),
        resource_field_ref.is_some(),
        secret_key_ref.is_some(),
    ];
    if given.iter().filter(|given| **given).count() != 1 {
        errors.invalid(
            &path,
            "",
            "must specify exactly one of `fieldRef` and `resourceFieldRef`",
        );
    }
    if config_map_key_ref.is_some() {
        errors.forbidden(&path.child("configMapKeyRef"), needs_api_server("config maps"));
    }
    if secret_key_ref.is_some() {
        errors.forbidden(&path.child("secretKeyRef"), needs_api_server("secrets"));
    }
    if file_key_ref.is_some() {
        errors.forbidden(&path.child("fileKeyRef"), "is not supported on this node");
    }
    if let Some(field) = field_ref {
        let path = path.child("fieldRef");
        errors.one_of(&path.child("apiVersion"), field.api_version.as_deref(), &["v1"]);
        errors.check(&path.child("fieldPath"), &field.field_path, pod_field);
    }
    if let Some(resource) = resource_field_ref {
        let resources = &[
            "limits.cpu",
            "limits.memory",
            "limits.ephemeral-storage",
            "requests.cpu",
            "requests.memory",
            "requests.ephemeral-storage",
        ];
        errors.one_of(
            &path.child("resourceFieldRef").child("resource"),
            Some(&resource.resource),
            resources,
        );
    }
}

/// The fields of a pod that its containers may read in their environment.
fn pod_field(field: &str) -> Result<(), &'static str> {
    let keyed = ["metadata.labels", "metadata.annotations"].iter().any(|map| {
        field
            .strip_prefix(map)
            .is_some_and(|key| key.starts_with("['") && key.ends_with("']"))
    });
    let plain = [
        "metadata.name",
        "metadata.namespace",
        "metadata.uid",
        "spec.nodeName",
        "spec.serviceAccountName",
        "status.hostIP",
        "status.hostIPs",
        "status.podIP",
        "status.podIPs",
    ];
    if keyed || plain.contains(&field) {
        Ok(())
    } else {
        Err(
            "must be metadata.name, metadata.namespace, metadata.uid, metadata.labels['<KEY>'], \
             metadata.annotations['<KEY>'], spec.nodeName, spec.serviceAccountName, status.hostIP, status.hostIPs, \
             status.podIP or status.podIPs",
        )
    }
}

fn mounts(container: &Container, volumes: &BTreeSet<&str>, path: &Path, errors: &mut Errors) {
    let privileged = container
        .security_context
        .as_ref()
        .and_then(|security| security.privileged)
        == Some(true);
    let mut seen = BTreeSet::new();
    for (path, mount) in path
        .child("volumeMounts")
        .each(container.volume_mounts.as_deref().unwrap_or_default())
    {
        let VolumeMount {
            name,
            mount_path,
            mount_propagation,
            sub_path,
            sub_path_expr,
            ..
        } = mount;
        if name.is_empty() {
            errors.required(&path.child("name"), "");
        } else if !volumes.contains(name.as_str()) {
            errors.not_found(&path.child("name"), name);
        }
        if mount_path.is_empty() {
            errors.required(&path.child("mountPath"), "");
        } else {
            errors.check(&path.child("mountPath"), mount_path, names::absolute_path);
            if !seen.insert(mount_path.trim_end_matches('/')) {
                errors.invalid(&path.child("mountPath"), mount_path, "must be unique");
            }
        }
        for (field, value) in [("subPath", sub_path), ("subPathExpr", sub_path_expr)] {
            if let Some(value) = value {
                errors.check(&path.child(field), value, names::local_path);
            }
        }
        let both = [sub_path, sub_path_expr]
            .iter()
            .all(|path| path.as_deref().is_some_and(|path| !path.is_empty()));
        if both {
            errors.invalid(
                &path.child("subPathExpr"),
                "",
                "subPathExpr and subPath are mutually exclusive",
            );
        }
        let propagation = path.child("mountPropagation");
        let values = &["None", "HostToContainer", "Bidirectional"];
        errors.one_of(&propagation, mount_propagation.as_deref(), values);
        if mount_propagation.as_deref() == Some("Bidirectional") && !privileged {
            errors.forbidden(
                &propagation,
                "Bidirectional mount propagation is available only to privileged containers",
            );
        }
        let read_only = mount.recursive_read_only.as_deref();
        errors.one_of(
            &path.child("recursiveReadOnly"),
            read_only,
            &["Disabled", "IfPossible", "Enabled"],
        );
    }
    if container
        .volume_devices
        .as_ref()
        .is_some_and(|devices| !devices.is_empty())
    {
        errors.forbidden(
            &path.child("volumeDevices"),
            needs_api_server("persistent volume claims"),
        );
    }
}

fn security_context(security: &SecurityContext, path: &Path, errors: &mut Errors) {
    user_id(security.run_as_user, &path.child("runAsUser"), errors);
    user_id(security.run_as_group, &path.child("runAsGroup"), errors);
    errors.one_of(
        &path.child("procMount"),
        security.proc_mount.as_deref(),
        &["Default", "Unmasked"],
    );
    if security.allow_privilege_escalation == Some(false) {
        let escalation = path.child("allowPrivilegeEscalation");
        if security.privileged == Some(true) {
            errors.invalid(
                &escalation,
                false,
                "cannot set `allowPrivilegeEscalation` to false and `privileged` to true",
            );
        }
        let added = security
            .capabilities
            .as_ref()
            .and_then(|capabilities| capabilities.add.as_deref());
        if added
            .unwrap_or_default()
            .iter()
            .any(|capability| matches!(capability.as_str(), "CAP_SYS_ADMIN" | "SYS_ADMIN"))
        {
            errors.invalid(
                &escalation,
                false,
                "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN",
            );
        }
    }
    if let Some(profile) = &security.seccomp_profile {
        seccomp(profile, &path.child("seccompProfile"), errors);
    }
}

pub(super) fn seccomp(profile: &SeccompProfile, path: &Path, errors: &mut Errors) {
    errors.one_of(
        &path.child("type"),
        Some(&profile.type_),
        &["Localhost", "RuntimeDefault", "Unconfined"],
    );
    let localhost = path.child("localhostProfile");
    match (profile.type_.as_str(), profile.localhost_profile.as_deref()) {
        ("Localhost", None | Some("")) => {
            errors.required(&localhost, "must be set when seccomp type is Localhost");
        }
        ("Localhost", Some(file)) => errors.check(&localhost, file, names::local_path),
        (_, Some(file)) => errors.invalid(&localhost, file, "can only be set when seccomp type is Localhost"),
        (_, None) => {}
    }
}
