//! Whether a pod from a file can run: upstream's rules, and what only an API server could provide.

mod container;
mod handler;
mod resources;
mod volume;

use std::collections::BTreeSet;

use super::field::{Errors, FieldError, Path};
use crate::{
    core::{Pod, PodSecurityContext, PodSpec},
    names,
};

/// Everything that is wrong with a pod whose defaults are set; nothing when it can run.
pub fn validate(pod: &Pod) -> Vec<FieldError> {
    let mut errors = Errors::default();
    metadata(pod, &mut errors);
    let path = Path::root("spec");
    match &pod.spec {
        Some(spec) => spec_fields(spec, &path, &mut errors),
        None => errors.required(&path, ""),
    }
    errors.0
}

/// Why a reference to an API object is refused.
fn needs_api_server(what: &str) -> String {
    format!("a pod from a file may not reference {what}: that needs an API server")
}

fn metadata(pod: &Pod, errors: &mut Errors) {
    let path = Path::root("metadata");
    let name = path.child("name");
    match pod.metadata.name.as_deref() {
        None | Some("") => errors.required(&name, ""),
        Some(value) => errors.check(&name, value, names::dns_subdomain),
    }
    if let Some(namespace) = &pod.metadata.namespace {
        errors.check(&path.child("namespace"), namespace, names::dns_label);
    }
    let labels = path.child("labels");
    for (key, value) in pod.metadata.labels.iter().flatten() {
        errors.check(&labels, key, names::qualified);
        errors.check(&labels.key(key), value, names::label_value);
    }
    let annotations = path.child("annotations");
    for key in pod
        .metadata
        .annotations
        .iter()
        .flat_map(|annotations| annotations.keys())
    {
        errors.check(&annotations, key, |key| names::qualified(&key.to_lowercase()));
    }
}

fn spec_fields(spec: &PodSpec, path: &Path, errors: &mut Errors) {
    errors.one_of(
        &path.child("restartPolicy"),
        spec.restart_policy.as_deref(),
        &["Always", "OnFailure", "Never"],
    );
    errors.at_least(
        &path.child("terminationGracePeriodSeconds"),
        spec.termination_grace_period_seconds,
        0,
    );
    errors.at_least(&path.child("activeDeadlineSeconds"), spec.active_deadline_seconds, 1);
    for (field, value) in [("hostname", &spec.hostname), ("subdomain", &spec.subdomain)] {
        if let Some(value) = value {
            errors.check(&path.child(field), value, names::dns_label);
        }
    }
    if let Some(os) = &spec.os {
        errors.one_of(&path.child("os").child("name"), Some(&os.name), &["linux"]);
    }
    dns(spec, path, errors);
    references(spec, path, errors);
    for (alias, entry) in path
        .child("hostAliases")
        .each(spec.host_aliases.as_deref().unwrap_or_default())
    {
        errors.check(&alias.child("ip"), &entry.ip, names::ip_address);
        for (hostname, name) in alias
            .child("hostnames")
            .each(entry.hostnames.as_deref().unwrap_or_default())
        {
            errors.check(&hostname, name, names::dns_subdomain);
        }
    }
    if let Some(security) = &spec.security_context {
        security_context(security, &path.child("securityContext"), errors);
    }
    if spec.host_pid == Some(true) && spec.share_process_namespace == Some(true) {
        errors.forbidden(
            &path.child("shareProcessNamespace"),
            "may not be set together with hostPID",
        );
    }
    resources::validate(spec.resources.as_ref(), &path.child("resources"), true, errors);

    let volumes = volume::validate(
        spec.volumes.as_deref().unwrap_or_default(),
        &path.child("volumes"),
        errors,
    );
    if spec.containers.is_empty() {
        errors.required(&path.child("containers"), "");
    }
    let mut names_seen = BTreeSet::new();
    let init = path.child("initContainers");
    for (path, container) in init.each(spec.init_containers.as_deref().unwrap_or_default()) {
        unique_name(&container.name, &path, &mut names_seen, errors);
        container::validate(container, container::Role::Init, spec, &volumes, &path, errors);
    }
    let mut host_ports = BTreeSet::new();
    for (path, container) in path.child("containers").each(&spec.containers) {
        unique_name(&container.name, &path, &mut names_seen, errors);
        container::validate(container, container::Role::App, spec, &volumes, &path, errors);
        container::host_ports(container, &mut host_ports, &path, errors);
    }
}

fn unique_name<'a>(name: &'a str, path: &Path, seen: &mut BTreeSet<&'a str>, errors: &mut Errors) {
    if !name.is_empty() && !seen.insert(name) {
        errors.duplicate(&path.child("name"), name);
    }
}

fn dns(spec: &PodSpec, path: &Path, errors: &mut Errors) {
    let policies = &["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"];
    errors.one_of(&path.child("dnsPolicy"), spec.dns_policy.as_deref(), policies);
    let config = path.child("dnsConfig");
    let servers = spec
        .dns_config
        .as_ref()
        .and_then(|config| config.nameservers.as_deref())
        .unwrap_or_default();
    let nameservers = config.child("nameservers");
    if servers.is_empty() && spec.dns_policy.as_deref() == Some("None") {
        errors.required(
            &nameservers,
            "must provide at least one DNS nameserver when dnsPolicy is None",
        );
    }
    if servers.len() > 3 {
        errors.invalid(&nameservers, servers.len(), "must not have more than 3 nameservers");
    }
    for (path, server) in nameservers.each(servers) {
        errors.check(&path, server, names::ip_address);
    }
    let searches = spec
        .dns_config
        .as_ref()
        .and_then(|config| config.searches.as_deref())
        .unwrap_or_default();
    if searches.len() > 32 {
        errors.invalid(
            &config.child("searches"),
            searches.len(),
            "must not have more than 32 search paths",
        );
    }
    for (path, search) in config.child("searches").each(searches) {
        let search = search.strip_suffix('.').unwrap_or(search);
        if !search.is_empty() {
            errors.check(&path, &search.replace('_', "-"), names::dns_subdomain);
        }
    }
}

/// What an API server would have to look up, or to have decided before.
fn references(spec: &PodSpec, path: &Path, errors: &mut Errors) {
    for (field, given, what) in [
        (
            "serviceAccountName",
            is_given(spec.service_account_name.as_deref()),
            "service accounts",
        ),
        (
            "serviceAccount",
            is_given(spec.service_account.as_deref()),
            "service accounts",
        ),
        (
            "imagePullSecrets",
            has_any(spec.image_pull_secrets.as_deref()),
            "secrets",
        ),
        (
            "resourceClaims",
            has_any(spec.resource_claims.as_deref()),
            "resource claims",
        ),
        (
            "runtimeClassName",
            is_given(spec.runtime_class_name.as_deref()),
            "runtime classes",
        ),
        (
            "schedulingGates",
            has_any(spec.scheduling_gates.as_deref()),
            "scheduling gates",
        ),
        (
            "readinessGates",
            has_any(spec.readiness_gates.as_deref()),
            "readiness gates",
        ),
    ] {
        if given {
            errors.forbidden(&path.child(field), needs_api_server(what));
        }
    }
    if has_any(spec.ephemeral_containers.as_deref()) {
        errors.forbidden(
            &path.child("ephemeralContainers"),
            "can't be given in a manifest: they are added to a running pod",
        );
    }
}

fn is_given(text: Option<&str>) -> bool {
    text.is_some_and(|text| !text.is_empty())
}

fn has_any<T>(items: Option<&[T]>) -> bool {
    items.is_some_and(|items| !items.is_empty())
}

fn security_context(security: &PodSecurityContext, path: &Path, errors: &mut Errors) {
    for (field, id) in [
        ("fsGroup", security.fs_group),
        ("runAsUser", security.run_as_user),
        ("runAsGroup", security.run_as_group),
    ] {
        user_id(id, &path.child(field), errors);
    }
    let groups = path.child("supplementalGroups");
    for (path, group) in groups.each(security.supplemental_groups.as_deref().unwrap_or_default()) {
        user_id(Some(*group), &path, errors);
    }
    let policy = security.fs_group_change_policy.as_deref();
    errors.one_of(
        &path.child("fsGroupChangePolicy"),
        policy,
        &["OnRootMismatch", "Always"],
    );
    let policy = security.supplemental_groups_policy.as_deref();
    errors.one_of(&path.child("supplementalGroupsPolicy"), policy, &["Merge", "Strict"]);
    if let Some(seccomp) = &security.seccomp_profile {
        container::seccomp(seccomp, &path.child("seccompProfile"), errors);
    }
    let mut seen = BTreeSet::new();
    for (path, sysctl) in path
        .child("sysctls")
        .each(security.sysctls.as_deref().unwrap_or_default())
    {
        let name = path.child("name");
        if sysctl.name.is_empty() {
            errors.required(&name, "");
            continue;
        }
        errors.check(&name, &sysctl.name, names::sysctl);
        if !seen.insert(sysctl.name.replace('/', ".")) {
            errors.duplicate(&name, &sysctl.name);
        }
    }
}

fn user_id(id: Option<i64>, path: &Path, errors: &mut Errors) {
    if let Some(id) = id
        && !(0..=i64::from(i32::MAX)).contains(&id)
    {
        errors.invalid(path, id, "must be between 0 and 2147483647, inclusive");
    }
}
