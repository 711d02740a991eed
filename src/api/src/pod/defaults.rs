//! What a pod means where it says nothing: upstream's defaults for API `v1`.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Written;

use crate::{
    core::{
        Container, EmptyDirVolumeSource, EnvVar, HTTPGetAction, Lifecycle, PersistentVolumeClaimSpec, Pod, PodSpec,
        PodTemplateSpec, Probe, ProjectedVolumeSource, ResourceRequirements, Volume, VolumeProjection,
    },
    field::{OrEmpty, set_default},
    quantity::Quantity,
};

/// Fills in every default. Filling in twice changes nothing.
pub fn defaults(pod: &mut Pod) {
    let Some(spec) = &mut pod.spec else { return };
    spec_defaults(spec);
    // What follows is not for templates: a default there would be a change to every template that exists.
    spec.enable_service_links.get_or_insert(true);
    let host_network = spec.host_network.unwrap_or_default();
    for container in spec.init_containers.iter_mut().flatten().chain(&mut spec.containers) {
        for port in container.ports.iter_mut().flatten() {
            if host_network && port.host_port.unwrap_or_default() == 0 {
                port.host_port = Some(port.container_port);
            }
        }
        request_limits(container);
    }
    pod_resource_defaults(spec);
}

/// Fills in the defaults of a template, which are fewer than a pod's.
pub fn template_defaults(template: &mut PodTemplateSpec) {
    spec_defaults(template.spec.get_or_insert_default());
}

fn spec_defaults(spec: &mut PodSpec) {
    set_default(&mut spec.dns_policy, "ClusterFirst");
    set_default(&mut spec.restart_policy, "Always");
    set_default(&mut spec.scheduler_name, "default-scheduler");
    spec.security_context.get_or_insert_default();
    spec.termination_grace_period_seconds.get_or_insert(30);
    // The older name of the field stays in step with the newer.
    if spec.service_account_name.is_given() {
        spec.service_account.clone_from(&spec.service_account_name);
    } else if spec.service_account.is_given() {
        spec.service_account_name.clone_from(&spec.service_account);
    }
    for container in spec.init_containers.iter_mut().flatten().chain(&mut spec.containers) {
        container_defaults(container);
    }
    for container in spec.ephemeral_containers.iter_mut().flatten() {
        image_defaults(
            container.image.as_deref(),
            &mut container.image_pull_policy,
            &mut container.termination_message_path,
            &mut container.termination_message_policy,
        );
        container.resources.get_or_insert_default();
        env_defaults(container.env.as_deref_mut());
        for port in container.ports.iter_mut().flatten() {
            set_default(&mut port.protocol, "TCP");
        }
        let probes = [
            &mut container.liveness_probe,
            &mut container.readiness_probe,
            &mut container.startup_probe,
        ];
        probes.into_iter().flatten().for_each(probe_defaults);
        container.lifecycle.iter_mut().for_each(lifecycle_defaults);
    }
    spec.volumes.iter_mut().flatten().for_each(volume_defaults);
}

fn container_defaults(container: &mut Container) {
    image_defaults(
        container.image.as_deref(),
        &mut container.image_pull_policy,
        &mut container.termination_message_path,
        &mut container.termination_message_policy,
    );
    for port in container.ports.iter_mut().flatten() {
        set_default(&mut port.protocol, "TCP");
    }
    env_defaults(container.env.as_deref_mut());
    let probes = [
        &mut container.liveness_probe,
        &mut container.readiness_probe,
        &mut container.startup_probe,
    ];
    probes.into_iter().flatten().for_each(probe_defaults);
    container.lifecycle.iter_mut().for_each(lifecycle_defaults);
    container.resources.get_or_insert_default();
}

/// What containers of every kind have in common.
fn image_defaults(
    image: Option<&str>,
    pull_policy: &mut Option<String>,
    message_path: &mut Option<String>,
    message_policy: &mut Option<String>,
) {
    set_default(pull_policy, pull_policy_of(image.unwrap_or_default()));
    set_default(message_path, "/dev/termination-log");
    set_default(message_policy, "File");
}

fn env_defaults(env: Option<&mut [EnvVar]>) {
    for variable in env.into_iter().flatten() {
        if let Some(field) = variable.value_from.as_mut().and_then(|from| from.field_ref.as_mut()) {
            set_default(&mut field.api_version, "v1");
        }
    }
}

fn lifecycle_defaults(lifecycle: &mut Lifecycle) {
    for handler in [&mut lifecycle.post_start, &mut lifecycle.pre_stop]
        .into_iter()
        .flatten()
    {
        handler.http_get.iter_mut().for_each(http_defaults);
    }
}

/// Requests that aren't given are the limits.
fn request_limits(container: &mut Container) {
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

/// An image whose tag may move is looked up each time.
fn pull_policy_of(image: &str) -> &'static str {
    if is_latest(image) { "Always" } else { "IfNotPresent" }
}

/// Whether an image's tag is `latest`: said so, or neither tag nor digest said.
fn is_latest(image: &str) -> bool {
    if image.is_empty() {
        return false;
    }
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
    set_default(&mut get.path, "/");
    set_default(&mut get.scheme, "HTTP");
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
    if let Some(secret) = &mut volume.secret {
        secret.default_mode.get_or_insert(FILE_MODE);
    }
    if let Some(config_map) = &mut volume.config_map {
        config_map.default_mode.get_or_insert(FILE_MODE);
    }
    if let Some(downward) = &mut volume.downward_api {
        downward.default_mode.get_or_insert(FILE_MODE);
        for file in downward.items.iter_mut().flatten() {
            if let Some(field) = &mut file.field_ref {
                set_default(&mut field.api_version, "v1");
            }
        }
    }
    if let Some(projected) = &mut volume.projected {
        projected_defaults(projected);
    }
    if let Some(image) = &mut volume.image {
        set_default(&mut image.pull_policy, pull_policy_of(image.reference.or_empty()));
    }
    if let Some(iscsi) = &mut volume.iscsi {
        set_default(&mut iscsi.iscsi_interface, "default");
    }
    if let Some(rbd) = &mut volume.rbd {
        set_default(&mut rbd.pool, "rbd");
        set_default(&mut rbd.user, "admin");
        set_default(&mut rbd.keyring, "/etc/ceph/keyring");
    }
    if let Some(disk) = &mut volume.azure_disk {
        set_default(&mut disk.caching_mode, "ReadWrite");
        set_default(&mut disk.kind, "Shared");
        set_default(&mut disk.fs_type, "ext4");
        disk.read_only.get_or_insert(false);
    }
    if let Some(scale_io) = &mut volume.scale_io {
        set_default(&mut scale_io.storage_mode, "ThinProvisioned");
        set_default(&mut scale_io.fs_type, "xfs");
    }
    if let Some(template) = volume
        .ephemeral
        .as_mut()
        .and_then(|ephemeral| ephemeral.volume_claim_template.as_mut())
    {
        claim_defaults(&mut template.spec);
    }
}

/// `0644`
const FILE_MODE: i32 = 0o644;

fn projected_defaults(projected: &mut ProjectedVolumeSource) {
    projected.default_mode.get_or_insert(FILE_MODE);
    for VolumeProjection {
        service_account_token,
        downward_api,
        ..
    } in projected.sources.iter_mut().flatten()
    {
        if let Some(token) = service_account_token {
            token.expiration_seconds.get_or_insert(3600);
        }
        for file in downward_api.iter_mut().flat_map(|api| &mut api.items).flatten() {
            if let Some(field) = &mut file.field_ref {
                set_default(&mut field.api_version, "v1");
            }
        }
    }
}

/// What a claim means where it says nothing.
pub fn claim_defaults(claim: &mut PersistentVolumeClaimSpec) {
    set_default(&mut claim.volume_mode, "Filesystem");
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
pub fn together(spec: &PodSpec, resource: &str) -> Option<Written> {
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
