//! Where a container finds its volumes.

use std::collections::BTreeSet;

use super::{needs_api_server, volume::Volumes};
use crate::{
    core::{Container, VolumeDevice, VolumeMount},
    field::{Errors, OrEmpty, Path},
    names,
    pod::Origin,
};

/// Mounts and block devices of a container.
pub(super) fn mounts(container: &Container, volumes: &Volumes<'_>, origin: Origin, path: &Path, errors: &mut Errors) {
    let privileged = container
        .security_context
        .as_ref()
        .and_then(|context| context.privileged)
        .unwrap_or_default();
    let (mounts, devices) = (container.volume_mounts.or_empty(), container.volume_devices.or_empty());
    let mount_path = path.child("volumeMounts");
    let mut seen = BTreeSet::new();
    for (path, mount) in mount_path.each(mounts) {
        let at = mount.mount_path.as_str();
        // A slash at the end makes no other place.
        let place = match origin {
            Origin::File => at.trim_end_matches('/'),
            _ => at,
        };
        if !seen.insert(place) {
            errors.invalid(&path.child("mountPath"), at, "must be unique");
        }
        self::mount(mount, volumes, devices, origin, &path, errors);
        shared(mount, privileged, &mount_path, errors);
    }
    let device_path = path.child("volumeDevices");
    if origin == Origin::File {
        if !devices.is_empty() {
            errors.forbidden(&device_path, needs_api_server("persistent volume claims"));
        }
        return;
    }
    block_devices(devices, mounts, volumes, &device_path, errors);
}

fn mount(
    mount: &VolumeMount,
    volumes: &Volumes<'_>,
    devices: &[VolumeDevice],
    origin: Origin,
    path: &Path,
    errors: &mut Errors,
) {
    let (name_path, at_path) = (path.child("name"), path.child("mountPath"));
    if mount.name.is_empty() {
        errors.required(&name_path, "");
    }
    let volume = volumes.get(mount.name.as_str());
    if volume.is_none() && !(origin == Origin::File && mount.name.is_empty()) {
        errors.not_found(&name_path, &mount.name);
    }
    if mount.mount_path.is_empty() {
        errors.required(&at_path, "");
    } else if origin == Origin::File {
        errors.check(&at_path, &mount.mount_path, names::absolute_path);
    }
    if devices.iter().any(|device| device.name == mount.name) {
        errors.invalid(
            &name_path,
            mount.name.as_str(),
            "must not already exist in volumeDevices",
        );
    }
    if devices.iter().any(|device| device.device_path == mount.mount_path) {
        errors.invalid(
            &at_path,
            mount.mount_path.as_str(),
            "must not already exist as a path in volumeDevices",
        );
    }
    let (sub_path, expression) = (mount.sub_path.or_empty(), mount.sub_path_expr.or_empty());
    if !sub_path.is_empty() && !expression.is_empty() {
        errors.invalid(
            &path.child("subPathExpr"),
            expression,
            "subPathExpr and subPath are mutually exclusive",
        );
    }
}

/// What upstream reports of the list of mounts rather than of one of them.
fn shared(mount: &VolumeMount, privileged: bool, path: &Path, errors: &mut Errors) {
    for (field, value) in [("subPath", &mount.sub_path), ("subPathExpr", &mount.sub_path_expr)] {
        if value.is_given() {
            errors.check(&path.child(field), value.or_empty(), names::local_path);
        }
    }
    let propagation_path = path.child("mountPropagation");
    let propagation = mount.mount_propagation.as_deref();
    errors.one_of(
        &propagation_path,
        propagation,
        &["Bidirectional", "HostToContainer", "None"],
    );
    if propagation == Some("Bidirectional") && !privileged {
        errors.forbidden(
            &propagation_path,
            "Bidirectional mount propagation is available only to privileged containers",
        );
    }
    let path = path.child("recursiveReadOnly");
    match mount.recursive_read_only.as_deref() {
        None | Some("Disabled") => {}
        Some("Enabled" | "IfPossible") => {
            if mount.read_only != Some(true) {
                errors.forbidden(&path, "may only be specified when readOnly is true");
            }
            if !matches!(propagation, None | Some("None")) {
                errors.forbidden(
                    &path,
                    "may only be specified when mountPropagation is None or not specified",
                );
            }
        }
        Some(other) => errors.unsupported(&path, other, &["Disabled", "Enabled", "IfPossible"]),
    }
}

fn block_devices(
    devices: &[VolumeDevice],
    mounts: &[VolumeMount],
    volumes: &Volumes<'_>,
    path: &Path,
    errors: &mut Errors,
) {
    let (mut names_seen, mut paths_seen) = (BTreeSet::new(), BTreeSet::new());
    for (path, device) in path.each(devices) {
        let (name, at) = (device.name.as_str(), device.device_path.as_str());
        let (name_path, at_path) = (path.child("name"), path.child("devicePath"));
        if name.is_empty() {
            errors.required(&name_path, "");
        } else if !names_seen.insert(name) {
            errors.invalid(&name_path, name, "must be unique");
        }
        match volumes.get(name) {
            None => errors.not_found(&name_path, name),
            Some(volume) if volume.persistent_volume_claim.is_none() && volume.ephemeral.is_none() => errors.invalid(
                &name_path,
                name,
                "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode",
            ),
            Some(_) => {}
        }
        if at.is_empty() {
            errors.required(&at_path, "");
        } else if names::no_backsteps(at).is_err() {
            errors.invalid(&at_path, at, "can not contain backsteps ('..')");
        } else if !paths_seen.insert(at) {
            errors.invalid(&at_path, at, "must be unique");
        }
        if mounts.iter().any(|mount| mount.name == name) {
            errors.invalid(&name_path, name, "must not already exist in volumeMounts");
        }
        if mounts.iter().any(|mount| mount.mount_path == at) {
            errors.invalid(&at_path, at, "must not already exist as a path in volumeMounts");
        }
    }
}
