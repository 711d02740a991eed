//! Security contexts, from the pod's and the container's to CRI's. Pure.

use bosun_api::core::{Container, Pod, PodSecurityContext, SeccompProfile, SecurityContext};
use bosun_cri::v1::{
    Capability, Int64Value, LinuxContainerSecurityContext, LinuxSandboxSecurityContext, NamespaceMode, NamespaceOption,
    SecurityProfile, SupplementalGroupsPolicy, security_profile::ProfileType,
};

/// What a container must not see of `/proc` and `/sys` (upstream's defaults for `procMount: Default`).
const MASKED_PATHS: [&str; 10] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
];
const MORE_MASKED_PATHS: [&str; 2] = ["/sys/firmware", "/sys/devices/virtual/powercap"];
/// What a container must not change of `/proc`.
const READONLY_PATHS: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

fn pod_context(pod: &Pod) -> Option<&PodSecurityContext> {
    pod.spec.as_ref()?.security_context.as_ref()
}

/// The namespaces that the pod's containers share with the node or with each other.
pub fn namespaces(pod: &Pod) -> NamespaceOption {
    let spec = pod.spec.as_ref();
    let node = |host: Option<bool>, otherwise| {
        if host == Some(true) {
            NamespaceMode::Node
        } else {
            otherwise
        }
    };
    let shared_processes = spec.and_then(|spec| spec.share_process_namespace) == Some(true);
    let own_processes = if shared_processes {
        NamespaceMode::Pod
    } else {
        NamespaceMode::Container
    };
    NamespaceOption {
        network: node(spec.and_then(|spec| spec.host_network), NamespaceMode::Pod).into(),
        pid: node(spec.and_then(|spec| spec.host_pid), own_processes).into(),
        ipc: node(spec.and_then(|spec| spec.host_ipc), NamespaceMode::Pod).into(),
        ..NamespaceOption::default()
    }
}

fn is_privileged(container: &Container) -> bool {
    container
        .security_context
        .as_ref()
        .and_then(|context| context.privileged)
        == Some(true)
}

fn seccomp(profile: Option<&SeccompProfile>, privileged: bool) -> Result<SecurityProfile, String> {
    let (kind, localhost_ref) = match profile.map(|profile| profile.type_.as_str()) {
        _ if privileged => (ProfileType::Unconfined, String::new()),
        None | Some("Unconfined") => (ProfileType::Unconfined, String::new()),
        Some("RuntimeDefault") => (ProfileType::RuntimeDefault, String::new()),
        Some("Localhost") => {
            let name = profile.and_then(|profile| profile.localhost_profile.clone());
            // An empty name must not become "no profile" (CVE-2023-2431).
            let name = name.filter(|name| !name.is_empty());
            (
                ProfileType::Localhost,
                name.ok_or("seccompProfile of type Localhost names no localhostProfile")?,
            )
        }
        Some(other) => return Err(format!("seccompProfile type {other:?} is not known")),
    };
    Ok(SecurityProfile {
        profile_type: kind.into(),
        localhost_ref,
    })
}

fn groups_policy(context: Option<&PodSecurityContext>) -> SupplementalGroupsPolicy {
    match context.and_then(|context| context.supplemental_groups_policy.as_deref()) {
        Some("Strict") => SupplementalGroupsPolicy::Strict,
        _ => SupplementalGroupsPolicy::Merge,
    }
}

fn groups(context: Option<&PodSecurityContext>) -> Vec<i64> {
    let listed = context
        .and_then(|context| context.supplemental_groups.clone())
        .unwrap_or_default();
    let volumes = context.and_then(|context| context.fs_group);
    volumes.into_iter().chain(listed).collect()
}

/// The sandbox's security context.
pub fn sandbox_security(pod: &Pod) -> LinuxSandboxSecurityContext {
    let context = pod_context(pod);
    let spec = pod.spec.as_ref();
    let mut containers = spec
        .into_iter()
        .flat_map(|spec| spec.containers.iter().chain(spec.init_containers.iter().flatten()));
    let value = |value: i64| Int64Value { value };
    LinuxSandboxSecurityContext {
        namespace_options: Some(namespaces(pod)),
        run_as_user: context.and_then(|context| context.run_as_user).map(value),
        run_as_group: context
            .filter(|context| context.run_as_user.is_some())
            .and_then(|context| context.run_as_group)
            .map(value),
        supplemental_groups: groups(context),
        supplemental_groups_policy: groups_policy(context).into(),
        privileged: containers.any(is_privileged),
        // The pause program needs next to nothing.
        seccomp: Some(SecurityProfile {
            profile_type: ProfileType::RuntimeDefault.into(),
            localhost_ref: String::new(),
        }),
        ..LinuxSandboxSecurityContext::default()
    }
}

/// A container's security context; fails with what is contradictory or unknown.
pub fn container_security(pod: &Pod, container: &Container) -> Result<LinuxContainerSecurityContext, String> {
    let pod_context = pod_context(pod);
    let own = container.security_context.clone().unwrap_or_default();
    let privileged = own.privileged == Some(true);
    let user = own
        .run_as_user
        .or_else(|| pod_context.and_then(|context| context.run_as_user));
    let group = own
        .run_as_group
        .or_else(|| pod_context.and_then(|context| context.run_as_group));
    let must_not_be_root = own
        .run_as_non_root
        .or_else(|| pod_context.and_then(|context| context.run_as_non_root));
    if must_not_be_root == Some(true) && user == Some(0) {
        return Err("container's runAsUser breaks non-root policy: runAsNonRoot is true and runAsUser is 0".into());
    }
    let profile = own
        .seccomp_profile
        .as_ref()
        .or_else(|| pod_context.and_then(|context| context.seccomp_profile.as_ref()));
    let unmasked = own.proc_mount.as_deref() == Some("Unmasked") || privileged;
    let paths = |unmasked: bool, paths: &[&str]| -> Vec<String> {
        if unmasked {
            vec![]
        } else {
            paths.iter().map(|path| (*path).to_owned()).collect()
        }
    };
    let mut masked = paths(unmasked, &MASKED_PATHS);
    masked.extend(paths(unmasked, &MORE_MASKED_PATHS));
    Ok(LinuxContainerSecurityContext {
        capabilities: own.capabilities.as_ref().map(|capabilities| Capability {
            add_capabilities: capabilities.add.clone().unwrap_or_default(),
            drop_capabilities: capabilities.drop.clone().unwrap_or_default(),
            add_ambient_capabilities: vec![],
        }),
        privileged,
        namespace_options: Some(namespaces(pod)),
        run_as_user: user.map(|value| Int64Value { value }),
        run_as_group: group.map(|value| Int64Value { value }),
        readonly_rootfs: own.read_only_root_filesystem == Some(true),
        supplemental_groups: groups(pod_context),
        supplemental_groups_policy: groups_policy(pod_context).into(),
        no_new_privs: no_new_privileges(&own),
        masked_paths: masked,
        readonly_paths: paths(unmasked, &READONLY_PATHS),
        seccomp: Some(seccomp(profile, privileged)?),
        ..LinuxContainerSecurityContext::default()
    })
}

fn no_new_privileges(context: &SecurityContext) -> bool {
    context.allow_privilege_escalation == Some(false)
}

#[cfg(test)]
mod tests {
    use bosun_api::core::PodSpec;

    use super::*;

    fn pod(context: PodSecurityContext) -> Pod {
        Pod {
            spec: Some(PodSpec {
                security_context: Some(context),
                ..PodSpec::default()
            }),
            ..Pod::default()
        }
    }

    fn container(context: SecurityContext) -> Container {
        Container {
            security_context: Some(context),
            ..Container::default()
        }
    }

    #[test]
    fn the_containers_user_wins_over_the_pods() {
        let pod = pod(PodSecurityContext {
            run_as_user: Some(1000),
            run_as_group: Some(2000),
            fs_group: Some(3000),
            supplemental_groups: Some(vec![4000]),
            ..PodSecurityContext::default()
        });
        let own = container(SecurityContext {
            run_as_user: Some(1),
            ..SecurityContext::default()
        });
        let security = container_security(&pod, &own).unwrap();
        assert_eq!(security.run_as_user, Some(Int64Value { value: 1 }));
        assert_eq!(security.run_as_group, Some(Int64Value { value: 2000 }));
        assert_eq!(security.supplemental_groups, [3000, 4000]);
    }

    #[test]
    fn root_is_refused_where_it_is_forbidden() {
        let pod = pod(PodSecurityContext {
            run_as_non_root: Some(true),
            run_as_user: Some(0),
            ..PodSecurityContext::default()
        });
        let problem = container_security(&pod, &Container::default()).unwrap_err();
        assert!(problem.contains("runAsNonRoot"), "{problem}");
    }

    #[test]
    fn a_localhost_profile_without_a_name_is_refused_rather_than_unconfined() {
        for name in [None, Some(String::new())] {
            let own = container(SecurityContext {
                seccomp_profile: Some(SeccompProfile {
                    type_: "Localhost".into(),
                    localhost_profile: name,
                }),
                ..SecurityContext::default()
            });
            let problem = container_security(&Pod::default(), &own).unwrap_err();
            assert!(problem.contains("localhostProfile"), "{problem}");
        }
    }

    #[test]
    fn proc_is_masked_unless_the_container_is_privileged() {
        let plain = container_security(&Pod::default(), &Container::default()).unwrap();
        assert!(plain.masked_paths.contains(&"/proc/kcore".to_owned()));
        assert!(plain.readonly_paths.contains(&"/proc/sys".to_owned()));
        let privileged = container(SecurityContext {
            privileged: Some(true),
            ..SecurityContext::default()
        });
        let security = container_security(&Pod::default(), &privileged).unwrap();
        assert!(security.masked_paths.is_empty() && security.readonly_paths.is_empty());
    }
}
