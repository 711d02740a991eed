//! A pod's sandbox as CRI wants it. Pure.

use std::{collections::HashMap, path::Path};

use bosun_api::{PodUid, core::Pod, labels};
use bosun_cri::v1::{DnsConfig, LinuxContainerResources, LinuxPodSandboxConfig, PodSandboxConfig, PodSandboxMetadata};

use super::security;

/// What a sandbox needs besides its pod.
#[derive(Clone, Debug)]
pub struct SandboxContext<'a> {
    /// The node's name.
    pub node_name: &'a str,
    /// The pod's cgroup, which its containers' cgroups are made in.
    pub cgroup_parent: &'a str,
    /// The pod's log directory.
    pub log_directory: &'a Path,
    /// What all containers of the pod may use together.
    pub resources: LinuxContainerResources,
    /// What the pod's runtime class adds to that.
    pub overhead: LinuxContainerResources,
    /// What the pod's resolver is told.
    pub dns: DnsConfig,
}

/// The labels by which a pod's sandboxes and containers are found again.
pub fn pod_labels(pod: &Pod, node_name: &str) -> HashMap<String, String> {
    let metadata = &pod.metadata;
    let name = |value: &Option<String>| value.clone().unwrap_or_default();
    [
        (labels::NODE.to_owned(), node_name.to_owned()),
        (labels::POD_NAME.to_owned(), name(&metadata.name)),
        (labels::POD_NAMESPACE.to_owned(), name(&metadata.namespace)),
        (labels::POD_UID.to_owned(), name(&metadata.uid)),
    ]
    .into()
}

/// The pod's UID.
pub fn pod_uid(pod: &Pod) -> PodUid {
    pod.metadata.uid.clone().unwrap_or_default().into()
}

/// The host name inside the pod: `spec.hostname` or the pod's name, cut to what the kernel takes (63 bytes).
pub fn hostname(pod: &Pod) -> String {
    let own = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.hostname.clone())
        .filter(|name| !name.is_empty());
    let name = own.or_else(|| pod.metadata.name.clone()).unwrap_or_default();
    let mut end = name.len().min(63);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    name[..end].trim_end_matches(['-', '.']).to_owned()
}

/// The sandbox's configuration for one attempt.
pub fn sandbox_config(pod: &Pod, attempt: u32, context: &SandboxContext<'_>) -> PodSandboxConfig {
    let metadata = &pod.metadata;
    let spec = pod.spec.as_ref();
    let host_network = spec.is_some_and(|spec| spec.host_network == Some(true));
    let mut labels: HashMap<_, _> = metadata.labels.clone().unwrap_or_default().into_iter().collect();
    labels.extend(pod_labels(pod, context.node_name));
    let sysctls = spec
        .and_then(|spec| spec.security_context.as_ref())
        .and_then(|security| security.sysctls.as_ref())
        .into_iter()
        .flatten()
        .map(|sysctl| (sysctl.name.clone(), sysctl.value.clone()));
    PodSandboxConfig {
        metadata: Some(PodSandboxMetadata {
            name: metadata.name.clone().unwrap_or_default(),
            uid: metadata.uid.clone().unwrap_or_default(),
            namespace: metadata.namespace.clone().unwrap_or_default(),
            attempt,
        }),
        // With the node's network a pod has the node's name.
        hostname: if host_network { String::new() } else { hostname(pod) },
        log_directory: context.log_directory.display().to_string(),
        dns_config: Some(context.dns.clone()),
        labels,
        annotations: metadata.annotations.clone().unwrap_or_default().into_iter().collect(),
        linux: Some(LinuxPodSandboxConfig {
            cgroup_parent: context.cgroup_parent.to_owned(),
            security_context: Some(security::sandbox_security(pod)),
            sysctls: sysctls.collect(),
            overhead: Some(context.overhead.clone()),
            resources: Some(context.resources.clone()),
        }),
        ..PodSandboxConfig::default()
    }
}

#[cfg(test)]
mod tests {
    use bosun_api::core::PodSpec;

    use super::*;

    #[test]
    fn a_host_name_fits_the_kernel_and_does_not_end_in_a_dash() {
        let named = |name: &str, hostname: Option<&str>| {
            let mut pod = Pod::default();
            pod.metadata.name = Some(name.into());
            pod.spec = Some(PodSpec {
                hostname: hostname.map(Into::into),
                ..PodSpec::default()
            });
            super::hostname(&pod)
        };
        assert_eq!(named("web-n1", None), "web-n1");
        assert_eq!(named("web-n1", Some("db")), "db");
        assert_eq!(named(&format!("{}-tail", "a".repeat(62)), None), "a".repeat(62));
    }

    #[test]
    fn a_pods_own_labels_cannot_hide_whose_sandbox_it_is() {
        let mut pod = Pod::default();
        pod.metadata.uid = Some("u1".into());
        pod.metadata.labels = Some([(labels::POD_UID.to_owned(), "forged".to_owned())].into());
        let context = SandboxContext {
            node_name: "n1",
            cgroup_parent: "/kubepods/podu1",
            log_directory: Path::new("/var/log/pods/x"),
            resources: LinuxContainerResources::default(),
            overhead: LinuxContainerResources::default(),
            dns: DnsConfig::default(),
        };
        let config = sandbox_config(&pod, 3, &context);
        assert_eq!(config.labels[labels::POD_UID], "u1");
        assert_eq!(config.labels[labels::NODE], "n1");
        assert_eq!(config.metadata.unwrap().attempt, 3);
    }
}
