//! What a pod and its containers may do on the node.

use std::collections::BTreeSet;

use crate::{
    core::{AppArmorProfile, Container, PodSpec, SeccompProfile, SecurityContext, WindowsSecurityContextOptions},
    field::{Errors, OrEmpty, Path},
    names,
};

/// What a pod says for all its containers.
pub(super) fn pod(spec: &PodSpec, path: &Path, errors: &mut Errors) {
    host_users(spec, path, errors);
    let path = path.child("securityContext");
    if spec.share_process_namespace == Some(true) && spec.host_pid == Some(true) {
        errors.invalid(
            &path.child("shareProcessNamespace"),
            true,
            "ShareProcessNamespace and HostPID cannot both be enabled",
        );
    }
    let Some(context) = &spec.security_context else { return };
    for (field, id) in [
        ("fsGroup", context.fs_group),
        ("runAsUser", context.run_as_user),
        ("runAsGroup", context.run_as_group),
    ] {
        user_id(id, &path.child(field), errors);
    }
    for (path, group) in path
        .child("supplementalGroups")
        .each(context.supplemental_groups.or_empty())
    {
        user_id(Some(*group), &path, errors);
    }
    let mut seen = BTreeSet::new();
    for (path, sysctl) in path.child("sysctls").each(context.sysctls.or_empty()) {
        let path = path.child("name");
        let name = sysctl.name.as_str();
        errors.required_check(&path, name, names::sysctl);
        if !name.is_empty() && !seen.insert(name.replace('/', ".")) {
            errors.duplicate(&path, name);
        }
        host_sysctl(spec, name, &path, errors);
    }
    for (field, value, values) in [
        (
            "fsGroupChangePolicy",
            &context.fs_group_change_policy,
            &["Always", "OnRootMismatch"],
        ),
        (
            "supplementalGroupsPolicy",
            &context.supplemental_groups_policy,
            &["Merge", "Strict"],
        ),
        (
            "seLinuxChangePolicy",
            &context.se_linux_change_policy,
            &["MountOption", "Recursive"],
        ),
    ] {
        errors.one_of(&path.child(field), value.as_deref(), values);
    }
    profiles(
        context.seccomp_profile.as_ref(),
        context.app_armor_profile.as_ref(),
        context.windows_options.as_ref(),
        &path,
        errors,
    );
}

/// A parameter of the node's own network or IPC namespace is not a pod's to set.
fn host_sysctl(spec: &PodSpec, name: &str, path: &Path, errors: &mut Errors) {
    let dotted = name.replace('/', ".");
    let ipc = ["kernel.shm", "kernel.msg", "fs.mqueue."]
        .iter()
        .any(|prefix| dotted.starts_with(prefix))
        || dotted == "kernel.sem";
    if spec.host_network == Some(true) && dotted.starts_with("net.") {
        errors.invalid(path, name, "may not be specified when 'hostNetwork' is true");
    } else if spec.host_ipc == Some(true) && ipc {
        errors.invalid(path, name, "may not be specified when 'hostIPC' is true");
    }
}

/// Users of its own and namespaces of the node don't go together.
fn host_users(spec: &PodSpec, path: &Path, errors: &mut Errors) {
    if spec.host_users != Some(false) {
        return;
    }
    for (field, given) in [
        ("hostNetwork", spec.host_network),
        ("hostPID", spec.host_pid),
        ("hostIPC", spec.host_ipc),
    ] {
        if given == Some(true) {
            errors.forbidden(&path.child(field), "when `hostUsers` is false");
        }
    }
}

/// What a container says for itself.
pub(super) fn container(context: &SecurityContext, host_users: bool, path: &Path, errors: &mut Errors) {
    user_id(context.run_as_user, &path.child("runAsUser"), errors);
    user_id(context.run_as_group, &path.child("runAsGroup"), errors);
    let proc_mount = path.child("procMount");
    errors.one_of(&proc_mount, context.proc_mount.as_deref(), &["Default", "Unmasked"]);
    if host_users && context.proc_mount.as_deref() == Some("Unmasked") {
        errors.invalid(&proc_mount, "Unmasked", "`hostUsers` must be false to use `Unmasked`");
    }
    if context.allow_privilege_escalation == Some(false) {
        if context.privileged == Some(true) {
            errors.invalid_object(
                path,
                context,
                "cannot set `allowPrivilegeEscalation` to false and `privileged` to true",
            );
        }
        let added = context
            .capabilities
            .as_ref()
            .map_or(&[][..], |capabilities| capabilities.add.or_empty());
        if added
            .iter()
            .any(|capability| matches!(capability.as_str(), "CAP_SYS_ADMIN" | "SYS_ADMIN"))
        {
            errors.invalid_object(
                path,
                context,
                "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN",
            );
        }
    }
    profiles(
        context.seccomp_profile.as_ref(),
        context.app_armor_profile.as_ref(),
        context.windows_options.as_ref(),
        path,
        errors,
    );
}

fn profiles(
    seccomp: Option<&SeccompProfile>,
    app_armor: Option<&AppArmorProfile>,
    windows: Option<&WindowsSecurityContextOptions>,
    path: &Path,
    errors: &mut Errors,
) {
    if let Some(profile) = seccomp {
        self::seccomp(profile, &path.child("seccompProfile"), errors);
    }
    if let Some(profile) = app_armor {
        self::app_armor(profile, &path.child("appArmorProfile"), errors);
    }
    if let Some(name) = windows.and_then(|options| options.gmsa_credential_spec_name.as_deref()) {
        let path = path.child("windowsOptions").child("gmsaCredentialSpecName");
        errors.check(&path, name, names::dns_subdomain);
    }
}

const PROFILES: &[&str] = &["Localhost", "RuntimeDefault", "Unconfined"];

fn seccomp(profile: &SeccompProfile, path: &Path, errors: &mut Errors) {
    let type_path = path.child("type");
    if profile.type_.is_empty() {
        errors.required(&type_path, "type is required when seccompProfile is set");
    } else {
        errors.one_of(&type_path, Some(&profile.type_), PROFILES);
    }
    let localhost = path.child("localhostProfile");
    match (profile.type_.as_str(), profile.localhost_profile.as_deref()) {
        ("Localhost", None) => errors.required(&localhost, "must be set when seccomp type is Localhost"),
        ("Localhost", Some(file)) => errors.check(&localhost, file, names::local_path),
        (_, Some(_)) => {
            errors.invalid_object(&localhost, profile, "can only be set when seccomp type is Localhost");
        }
        (_, None) => {}
    }
}

fn app_armor(profile: &AppArmorProfile, path: &Path, errors: &mut Errors) {
    let (type_path, localhost) = (path.child("type"), path.child("localhostProfile"));
    let needed = "must be set when AppArmor type is Localhost";
    match (profile.type_.as_str(), profile.localhost_profile.as_deref()) {
        ("Localhost", None) => errors.required(&localhost, needed),
        ("Localhost", Some(name)) => {
            if name.trim() != name {
                errors.invalid(&localhost, name, "must not be padded with whitespace");
            } else if name.is_empty() {
                errors.required(&localhost, needed);
            }
            if name.len() > 4095 {
                errors.too_long(&localhost, 4095);
            }
        }
        ("RuntimeDefault" | "Unconfined", Some(name)) => {
            errors.invalid(&localhost, name, "can only be set when AppArmor type is Localhost");
        }
        ("RuntimeDefault" | "Unconfined", None) => {}
        ("", _) => errors.required(&type_path, "type is required when appArmorProfile is set"),
        (other, _) => errors.unsupported(&type_path, other, PROFILES),
    }
}

/// Identifiers of users and groups have 32 bits.
pub(super) fn user_id(id: Option<i64>, path: &Path, errors: &mut Errors) {
    errors.within(path, id, 0, u32::MAX.into());
}

/// Containers that run, those before them and those added, as far as their security contexts go.
fn contexts<'a>(spec: &'a PodSpec, path: &Path) -> Vec<(Path, &'a SecurityContext)> {
    let of = |list: &str, containers: &'a [Container]| {
        path.child(list)
            .each(containers)
            .filter_map(|(path, container)| Some((path.child("securityContext"), container.security_context.as_ref()?)))
            .collect::<Vec<_>>()
    };
    let mut all = of("initContainers", spec.init_containers.or_empty());
    all.extend(of("containers", &spec.containers));
    for (path, container) in path
        .child("ephemeralContainers")
        .each(spec.ephemeral_containers.or_empty())
    {
        if let Some(context) = &container.security_context {
            all.push((path.child("securityContext"), context));
        }
    }
    all
}

/// A pod for Linux has no options for Windows.
pub(super) fn without_windows_options(spec: &PodSpec, path: &Path, errors: &mut Errors) {
    let mut given = Vec::new();
    if spec
        .security_context
        .as_ref()
        .is_some_and(|context| context.windows_options.is_some())
    {
        given.push(path.child("securityContext"));
    }
    let contexts = contexts(spec, path);
    let of_containers = contexts
        .into_iter()
        .filter(|(_, context)| context.windows_options.is_some());
    given.extend(of_containers.map(|(path, _)| path));
    for path in given {
        errors.forbidden(
            &path.child("windowsOptions"),
            "windows options cannot be set for a linux pod",
        );
    }
}

/// A pod for Windows has no options for Linux.
pub(super) fn without_linux_options(spec: &PodSpec, path: &Path, errors: &mut Errors) {
    let forbid = |given: &[(&str, bool)], path: &Path, errors: &mut Errors| {
        for (field, _) in given.iter().filter(|(_, given)| *given) {
            errors.forbidden(&path.child(field), "cannot be set for a windows pod");
        }
    };
    let of_pod = [
        ("hostUsers", spec.host_users.is_some()),
        ("hostPID", spec.host_pid == Some(true)),
        ("hostIPC", spec.host_ipc == Some(true)),
        ("shareProcessNamespace", spec.share_process_namespace.is_some()),
    ];
    forbid(&of_pod, path, errors);
    if let Some(context) = &spec.security_context {
        let given = [
            ("appArmorProfile", context.app_armor_profile.is_some()),
            ("seLinuxOptions", context.se_linux_options.is_some()),
            ("seccompProfile", context.seccomp_profile.is_some()),
            ("fsGroup", context.fs_group.is_some()),
            ("fsGroupChangePolicy", context.fs_group_change_policy.is_some()),
            ("sysctls", context.sysctls.is_given()),
            ("runAsUser", context.run_as_user.is_some()),
            ("runAsGroup", context.run_as_group.is_some()),
            ("supplementalGroups", context.supplemental_groups.is_some()),
            ("supplementalGroupsPolicy", context.supplemental_groups_policy.is_some()),
            ("seLinuxChangePolicy", context.se_linux_change_policy.is_some()),
        ];
        forbid(&given, &path.child("securityContext"), errors);
    }
    for (path, context) in contexts(spec, path) {
        let given = [
            ("appArmorProfile", context.app_armor_profile.is_some()),
            ("seLinuxOptions", context.se_linux_options.is_some()),
            ("seccompProfile", context.seccomp_profile.is_some()),
            ("capabilities", context.capabilities.is_some()),
            ("readOnlyRootFilesystem", context.read_only_root_filesystem.is_some()),
            ("privileged", context.privileged.is_some()),
            ("allowPrivilegeEscalation", context.allow_privilege_escalation.is_some()),
            ("procMount", context.proc_mount.is_some()),
            ("runAsUser", context.run_as_user.is_some()),
            ("runAsGroup", context.run_as_group.is_some()),
        ];
        forbid(&given, &path, errors);
    }
}
