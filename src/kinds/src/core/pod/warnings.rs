//! What of a pod is valid and yet hardly meant.

use bosun_api::{
    core::{Container, PodSpec},
    field::{OrEmpty, Path},
};

/// What is valid and yet hardly meant.
pub(crate) fn warnings(spec: &PodSpec, path: &Path) -> Vec<String> {
    let mut warnings = Vec::new();
    for (field, containers) in [
        ("initContainers", spec.init_containers.or_empty()),
        ("containers", &spec.containers[..]),
    ] {
        for (path, container) in path.child(field).each(containers) {
            container_warnings(container, &path, &mut warnings);
        }
    }
    for (path, volume) in path.child("volumes").each(spec.volumes.or_empty()) {
        if volume.git_repo.is_some() {
            warnings.push(format!(
                "{path}.gitRepo: deprecated in v1.11, and disabled by default in v1.33+"
            ));
        }
        if volume.glusterfs.is_some() {
            warnings.push(format!(
                "{path}.glusterfs: deprecated in v1.25, non-functional in v1.26+"
            ));
        }
        if volume.cephfs.is_some() {
            warnings.push(format!("{path}.cephfs: deprecated in v1.28, non-functional in v1.31+"));
        }
        if volume.rbd.is_some() {
            warnings.push(format!("{path}.rbd: deprecated in v1.28, non-functional in v1.31+"));
        }
    }
    if spec.termination_grace_period_seconds.is_some_and(|seconds| seconds < 0) {
        warnings.push(format!(
            "{path}.terminationGracePeriodSeconds: must be >= 0; negative values are invalid and will be treated as 1"
        ));
    }
    for (path, secret) in path.child("imagePullSecrets").each(spec.image_pull_secrets.or_empty()) {
        if secret.name.is_empty() {
            warnings.push(format!("{path}: invalid empty name \"\""));
        }
    }
    warnings
}

fn container_warnings(container: &Container, path: &Path, warnings: &mut Vec<String>) {
    let env = container.env.or_empty();
    for (at, variable) in env.iter().enumerate() {
        let name = &variable.name;
        if env[..at].iter().any(|earlier| earlier.name == *name) {
            warnings.push(format!(
                "{path}.env[{at}]: hides previous definition of {name:?}, which may be dropped when using apply"
            ));
        }
    }
    let ports = container.ports.or_empty();
    for (at, port) in ports.iter().enumerate() {
        let same = ports[..at].iter().position(|earlier| {
            earlier.container_port == port.container_port
                && earlier.protocol == port.protocol
                && earlier.host_port == port.host_port
                && earlier.host_ip == port.host_ip
        });
        if let Some(earlier) = same {
            warnings.push(format!(
                "{path}.ports[{at}]: duplicate port definition with {path}.ports[{earlier}]"
            ));
        }
    }
    let resources = container.resources.as_ref();
    for (list, amounts) in [
        ("limits", resources.and_then(|resources| resources.limits.as_ref())),
        ("requests", resources.and_then(|resources| resources.requests.as_ref())),
    ] {
        for (name, written) in amounts.into_iter().flatten() {
            let fraction = bosun_api::Quantity::of(written).is_ok_and(|amount| !amount.is_whole());
            if fraction && matches!(name.as_str(), "memory" | "ephemeral-storage") {
                warnings.push(format!(
                    "{path}.resources.{list}[{name}]: fractional byte value {:?} is invalid, must be an integer",
                    written.0
                ));
            }
        }
    }
}
