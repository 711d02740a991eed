//! What a pod means where it says nothing: upstream's defaults for API `v1`.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Written;

use crate::{
    core::{
        Container, EmptyDirVolumeSource, HTTPGetAction, LifecycleHandler, Pod, PodSpec, Probe, ResourceRequirements,
        Volume,
    },
    quantity::Quantity,
};

/// Fills in every default. Filling in twice changes nothing.
pub fn defaults(pod: &mut Pod) {
    let Some(spec) = &mut pod.spec else { return };
    let host_network = spec.host_network.unwrap_or_default();
    set(&mut spec.dns_policy, "ClusterFirst");
    set(&mut spec.restart_policy, "Always");
    set(&mut spec.scheduler_name, "default-scheduler");
    spec.security_context.get_or_insert_default();
    spec.termination_grace_period_seconds.get_or_insert(30);
    spec.enable_service_links.get_or_insert(true);
    for container in spec.init_containers.iter_mut().flatten().chain(&mut spec.containers) {
        container_defaults(container, host_network);
    }
    spec.volumes.iter_mut().flatten().for_each(volume_defaults);
    pod_resource_defaults(spec);
}

/// An empty string counts as nothing said.
fn set(field: &mut Option<String>, default: &str) {
    if field.as_deref().unwrap_or_default().is_empty() {
        *field = Some(default.to_owned());
    }
}

fn container_defaults(container: &mut Container, host_network: bool) {
    let latest = container.image.as_deref().is_some_and(is_latest);
    set(
        &mut container.image_pull_policy,
        if latest { "Always" } else { "IfNotPresent" },
    );
    set(&mut container.termination_message_path, "/dev/termination-log");
    set(&mut container.termination_message_policy, "File");
    for port in container.ports.iter_mut().flatten() {
        set(&mut port.protocol, "TCP");
        if host_network && port.host_port.unwrap_or_default() == 0 {
            port.host_port = Some(port.container_port);
        }
    }
    for variable in container.env.iter_mut().flatten() {
        if let Some(field) = variable.value_from.as_mut().and_then(|from| from.field_ref.as_mut()) {
            set(&mut field.api_version, "v1");
        }
    }
    let probes = [
        &mut container.liveness_probe,
        &mut container.readiness_probe,
        &mut container.startup_probe,
    ];
    probes.into_iter().flatten().for_each(probe_defaults);
    if let Some(lifecycle) = &mut container.lifecycle {
        for handler in [&mut lifecycle.post_start, &mut lifecycle.pre_stop]
            .into_iter()
            .flatten()
        {
            let LifecycleHandler { http_get, .. } = handler;
            http_get.iter_mut().for_each(http_defaults);
        }
    }
    if let Some(ResourceRequirements {
        limits: Some(limits),
        requests,
        ..
    }) = &mut container.resources
    {
        let requests = requests.get_or_insert_default();
        for (name, limit) in limits {
            requests.entry(name.clone()).or_insert_with(|| limit.clone());
        }
    }
}

/// Whether an image's tag is `latest`: said so, or neither tag nor digest said.
fn is_latest(image: &str) -> bool {
    let (image, digest) = image.split_once('@').map_or((image, false), |(image, _)| (image, true));
    let last = image.rsplit_once('/').map_or(image, |(_, last)| last);
    match last.split_once(':') {
        Some((_, tag)) => tag == "latest",
        None => !digest,
    }
}

fn probe_defaults(probe: &mut Probe) {
    let number = |field: &mut Option<i32>, default| {
        if field.unwrap_or_default() == 0 {
            *field = Some(default);
        }
    };
    number(&mut probe.timeout_seconds, 1);
    number(&mut probe.period_seconds, 10);
    number(&mut probe.success_threshold, 1);
    number(&mut probe.failure_threshold, 3);
    probe.http_get.iter_mut().for_each(http_defaults);
    if let Some(grpc) = &mut probe.grpc {
        grpc.service.get_or_insert_default();
    }
}

fn http_defaults(get: &mut HTTPGetAction) {
    set(&mut get.path, "/");
    set(&mut get.scheme, "HTTP");
}

fn volume_defaults(volume: &mut Volume) {
    let named_only = Volume {
        name: volume.name.clone(),
        ..Volume::default()
    };
    if *volume == named_only {
        volume.empty_dir = Some(EmptyDirVolumeSource::default());
    }
    if let Some(host_path) = &mut volume.host_path {
        host_path.type_.get_or_insert_default();
    }
}

/// Requests of the pod as a whole, where it sets limits: what its containers request together, else the limit.
fn pod_resource_defaults(spec: &mut PodSpec) {
    let Some(ResourceRequirements {
        limits: Some(limits), ..
    }) = &spec.resources
    else {
        return;
    };
    let mut requests = BTreeMap::new();
    for (name, limit) in limits {
        let request = match name.as_str() {
            "cpu" | "memory" => together(spec, name).unwrap_or_else(|| limit.clone()),
            name if name.starts_with("hugepages-") => limit.clone(),
            _ => continue,
        };
        requests.insert(name.clone(), request);
    }
    if let Some(resources) = &mut spec.resources {
        let given = resources.requests.get_or_insert_default();
        for (name, request) in requests {
            given.entry(name).or_insert(request);
        }
    }
}

/// What the containers need at once: all of them together with the sidecars, or one that initialises beside the
/// sidecars started before it. `None` when none says.
fn together(spec: &PodSpec, resource: &str) -> Option<Written> {
    let mut said = false;
    let mut request = |container: &Container| {
        let requests = container
            .resources
            .as_ref()
            .and_then(|resources| resources.requests.as_ref());
        let amount = requests
            .and_then(|requests| requests.get(resource))
            .and_then(|written| Quantity::of(written).ok());
        said |= amount.is_some();
        amount.unwrap_or(Quantity::ZERO)
    };
    let (mut sidecars, mut peak) = (Quantity::ZERO, Quantity::ZERO);
    for container in spec.init_containers.iter().flatten() {
        let amount = request(container);
        peak = peak.max(sidecars + amount);
        if container.restart_policy.as_deref() == Some("Always") {
            sidecars = sidecars + amount;
        }
    }
    let running = spec.containers.iter().map(&mut request).sum::<Quantity>() + sidecars;
    said.then(|| running.max(peak).into())
}
