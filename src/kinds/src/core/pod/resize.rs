//! Resizing a pod that runs: its containers' processor and memory (KEP-1287).

use bosun_api::{
    core::{Container, Pod, PodSpec, ResourceRequirements},
    field::{Errors, OrEmpty, Path},
    qos_class,
};

use super::{MIRROR, Pods};
use crate::kind::Kind;

/// Takes over what a resize may change: resources, and what changing them does.
pub(super) fn take(spec: &mut PodSpec, asked: &PodSpec) {
    let copy = |containers: &mut [Container], asked: &[Container]| {
        for container in containers {
            if let Some(asked) = asked.iter().find(|asked| asked.name == container.name) {
                container.resources.clone_from(&asked.resources);
                container.resize_policy.clone_from(&asked.resize_policy);
            }
        }
    };
    copy(&mut spec.containers, &asked.containers);
    copy(
        spec.init_containers.as_deref_mut().unwrap_or_default(),
        asked.init_containers.or_empty(),
    );
}

/// What of a resize that was asked for may not be.
pub(super) fn changes(pod: &Pod, old: &Pod, errors: &mut Errors) {
    let (Some(new_spec), Some(old_spec)) = (&pod.spec, &old.spec) else {
        return;
    };
    let whole = |spec: &PodSpec| {
        let resources = spec.resources.as_ref();
        resources.is_some_and(|resources| resources.requests.is_given() || resources.limits.is_given())
    };
    let refused = if whole(old_spec) || whole(new_spec) {
        Some("pods with pod-level resources cannot be resized")
    } else if old.metadata.annotations.or_empty().contains_key(MIRROR) {
        Some("static pods cannot be resized")
    } else if old_spec.os.as_ref().is_some_and(|os| os.name == "windows") {
        Some("windows pods cannot be resized")
    } else {
        None
    };
    if let Some(why) = refused {
        return errors.forbidden(&Path::object(), why);
    }
    Pods::validate(pod, errors);
    let path = Path::root("spec");
    let (before, after) = (qos_class(old_spec), qos_class(new_spec));
    if before != after {
        errors.invalid(
            &path,
            before.to_string(),
            "Pod QOS Class may not change as a result of resizing",
        );
    }
    let pairs = [
        ("containers", &new_spec.containers[..], &old_spec.containers[..], false),
        (
            "initContainers",
            new_spec.init_containers.or_empty(),
            old_spec.init_containers.or_empty(),
            true,
        ),
    ];
    for (field, new, old, init) in pairs {
        for (at, (new, old)) in new.iter().zip(old).enumerate() {
            let sidecar = old.restart_policy.as_deref() == Some("Always");
            if init && !sidecar {
                if new != old {
                    errors.forbidden(&path, "resources for non-sidecar init containers are immutable");
                }
                continue;
            }
            container_resize(new, old, &path.child(field).index(at).child("resources"), errors);
            if other_resources(new) != other_resources(old) {
                let detail = if init {
                    "only cpu and memory resources for sidecar containers are mutable"
                } else {
                    "only cpu and memory resources are mutable"
                };
                errors.forbidden(&path, detail);
            }
        }
    }
}

fn container_resize(new: &Container, old: &Container, path: &Path, errors: &mut Errors) {
    let (new_resources, old_resources) = (
        new.resources.clone().unwrap_or_default(),
        old.resources.clone().unwrap_or_default(),
    );
    for (field, what, new, old) in [
        ("requests", "requests", &new_resources.requests, &old_resources.requests),
        ("limits", "limits", &new_resources.limits, &old_resources.limits),
    ] {
        if old.or_empty().keys().any(|name| !new.or_empty().contains_key(name)) {
            errors.forbidden(&path.child(field), format!("resource {what} cannot be removed"));
        }
    }
    let restarts = new
        .resize_policy
        .or_empty()
        .iter()
        .any(|policy| policy.resource_name == "memory" && policy.restart_policy == "RestartContainer");
    let memory = |resources: &ResourceRequirements| {
        let limit = resources.limits.or_empty().get("memory");
        limit.and_then(|limit| bosun_api::Quantity::of(limit).ok())
    };
    let path = path.child("limits").key("memory");
    match (memory(&new_resources), memory(&old_resources)) {
        (Some(_), None) if !restarts => errors.forbidden(
            &path,
            "memory limits cannot be added unless resizePolicy is RestartContainer",
        ),
        (Some(new), Some(old)) if new < old && !restarts => errors.forbidden(
            &path,
            "memory limits cannot be decreased unless resizePolicy is RestartContainer",
        ),
        _ => {}
    }
}

/// A container's resources but for those that may be resized.
fn other_resources(container: &Container) -> ResourceRequirements {
    let mut resources = container.resources.clone().unwrap_or_default();
    for amounts in [&mut resources.requests, &mut resources.limits] {
        if let Some(amounts) = amounts {
            amounts.retain(|name, _| !matches!(name.as_str(), "cpu" | "memory"));
        }
        if !amounts.is_given() {
            *amounts = None;
        }
    }
    resources
}
