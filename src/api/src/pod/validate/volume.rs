//! Volumes, and what may be mounted.

pub mod claim;
mod projected;
pub mod source;

use std::collections::BTreeMap;

use super::needs_api_server;
use crate::{
    core::{DownwardAPIVolumeFile, KeyToPath, Volume},
    field::{Errors, OrEmpty, Path},
    names,
    pod::Origin,
    quantity::Quantity,
};

/// A pod's volumes by their names.
pub(super) type Volumes<'a> = BTreeMap<&'a str, &'a Volume>;

const MORE_THAN_ONE: &str = "may not specify more than 1 volume type";

/// Checks the volumes of a pod and returns those that may be mounted.
pub(super) fn volumes<'a>(
    volumes: &'a [Volume],
    pod: Option<&str>,
    origin: Origin,
    path: &Path,
    errors: &mut Errors,
) -> Volumes<'a> {
    let mut seen = Volumes::new();
    for (path, volume) in path.each(volumes) {
        let name = path.child("name");
        errors.required_check(&name, &volume.name, names::dns_label);
        if seen.contains_key(volume.name.as_str()) {
            errors.duplicate(&name, volume.name.as_str());
        }
        match origin {
            Origin::File => from_file(volume, &path, errors),
            _ => one_source(volume, pod, origin, &path, errors),
        }
        if !volume.name.is_empty() {
            seen.entry(&volume.name).or_insert(volume);
        }
    }
    if let Some(pod) = pod {
        made_claims(volumes, pod, path, errors);
    }
    seen
}

/// A claim that a volume of the pod makes is that volume's alone.
fn made_claims(volumes: &[Volume], pod: &str, path: &Path, errors: &mut Errors) {
    for (path, volume) in path.each(volumes) {
        let Some(claim) = &volume.persistent_volume_claim else {
            continue;
        };
        let made = volumes
            .iter()
            .any(|other| other.ephemeral.is_some() && format!("{pod}-{}", other.name) == claim.claim_name);
        if made {
            errors.invalid(
                &path.child("persistentVolumeClaim").child("claimName"),
                claim.claim_name.as_str(),
                "must not reference a PVC that gets created for an ephemeral volume",
            );
        }
    }
}

/// What a node can provide by itself.
fn from_file(volume: &Volume, path: &Path, errors: &mut Errors) {
    let mut sources = 0;
    if let Some(empty_dir) = &volume.empty_dir {
        sources += 1;
        let path = path.child("emptyDir");
        errors.one_of(&path.child("medium"), empty_dir.medium.as_deref(), &["", "Memory"]);
        if let Some(written) = &empty_dir.size_limit {
            match Quantity::of(written) {
                Err(error) => errors.invalid(&path.child("sizeLimit"), written.0.as_str(), error.to_string()),
                Ok(limit) if limit.is_negative() => errors.invalid(
                    &path.child("sizeLimit"),
                    written.0.as_str(),
                    "must be greater than or equal to 0",
                ),
                Ok(_) => {}
            }
        }
    }
    if let Some(host_path) = &volume.host_path {
        sources += 1;
        let path = path.child("hostPath");
        if host_path.path.starts_with('/') || host_path.path.is_empty() {
            source::host_path(host_path, &path, errors);
        } else {
            errors.check(&path.child("path"), &host_path.path, names::absolute_path);
        }
    }
    for (kind, what) in api_objects(volume) {
        sources += 1;
        errors.forbidden(&path.child(kind), needs_api_server(what));
    }
    if sources == 0 {
        errors.forbidden(
            path,
            "this type of volume is not supported on this node: use emptyDir or hostPath",
        );
    } else if sources > 1 {
        errors.forbidden(path, MORE_THAN_ONE);
    }
}

/// The kinds of volume given that are made of API objects, and what they would have to look up.
fn api_objects(volume: &Volume) -> impl Iterator<Item = (&'static str, &'static str)> {
    [
        (volume.config_map.is_some(), "configMap", "config maps"),
        (volume.secret.is_some(), "secret", "secrets"),
        (
            volume.persistent_volume_claim.is_some(),
            "persistentVolumeClaim",
            "persistent volume claims",
        ),
        (volume.ephemeral.is_some(), "ephemeral", "persistent volume claims"),
        (volume.projected.is_some(), "projected", "projected API objects"),
        (volume.csi.is_some(), "csi", "CSI drivers"),
    ]
    .into_iter()
    .filter_map(|(given, kind, what)| given.then_some((kind, what)))
}

/// Exactly one source must be given; only the first is looked into.
fn one_source(volume: &Volume, pod: Option<&str>, origin: Origin, path: &Path, errors: &mut Errors) {
    let mut given = given(volume)
        .into_iter()
        .filter(|(_, given)| *given)
        .map(|(name, _)| name);
    let Some(first) = given.next() else {
        return errors.required(path, "must specify a volume type");
    };
    for extra in given {
        errors.forbidden(&path.child(extra), MORE_THAN_ONE);
    }
    let source_path = path.child(first);
    common_source(volume, origin, &source_path, errors);
    source::deprecated(volume, &source_path, errors);
    if first == "ephemeral"
        && let Some(pod) = pod
        && let Err(detail) = names::dns_subdomain(&format!("{pod}-{}", volume.name))
    {
        let detail = format!("PVC name \"{pod}-{}\": {detail}", volume.name);
        errors.invalid(&path.child("name"), volume.name.as_str(), detail);
    }
}

fn common_source(volume: &Volume, origin: Origin, path: &Path, errors: &mut Errors) {
    if let Some(empty_dir) = &volume.empty_dir {
        let limit = empty_dir.size_limit.as_ref().and_then(|limit| Quantity::of(limit).ok());
        if limit.is_some_and(Quantity::is_negative) {
            errors.forbidden(
                &path.child("sizeLimit"),
                "SizeLimit field must be a valid resource quantity",
            );
        }
    } else if let Some(host_path) = &volume.host_path {
        source::host_path(host_path, path, errors);
    } else if let Some(secret) = &volume.secret {
        if !secret.secret_name.is_given() {
            errors.required(&path.child("secretName"), "");
        }
        file_mode(secret.default_mode, &path.child("defaultMode"), errors);
        keys_to_paths(secret.items.or_empty(), &path.child("items"), errors);
    } else if let Some(config_map) = &volume.config_map {
        if config_map.name.is_empty() {
            errors.required(&path.child("name"), "");
        }
        file_mode(config_map.default_mode, &path.child("defaultMode"), errors);
        keys_to_paths(config_map.items.or_empty(), &path.child("items"), errors);
    } else if let Some(claim) = &volume.persistent_volume_claim {
        if claim.claim_name.is_empty() {
            errors.required(&path.child("claimName"), "");
        }
    } else if let Some(downward) = &volume.downward_api {
        file_mode(downward.default_mode, &path.child("defaultMode"), errors);
        for file in downward.items.or_empty() {
            downward_file(file, path, errors);
        }
    } else if let Some(projected) = &volume.projected {
        projected::validate(projected, path, errors);
    } else if let Some(csi) = &volume.csi {
        source::csi_driver(&csi.driver, &path.child("driver"), errors);
        if let Some(secret) = &csi.node_publish_secret_ref {
            let path = path.child("nodePublishSecretRef").child("name");
            errors.required_check(&path, &secret.name, names::dns_subdomain);
        }
    } else if let Some(ephemeral) = &volume.ephemeral {
        let path = path.child("volumeClaimTemplate");
        match &ephemeral.volume_claim_template {
            None => errors.required(&path, ""),
            Some(template) => claim::template(template, &path, errors),
        }
    } else if let Some(image) = &volume.image {
        if origin != Origin::Template && !image.reference.is_given() {
            errors.required(&path.child("reference"), "");
        }
        errors.required_one_of(
            &path.child("pullPolicy"),
            image.pull_policy.or_empty(),
            &["Always", "IfNotPresent", "Never"],
        );
    } else if let Some(nfs) = &volume.nfs {
        source::nfs(nfs, path, errors);
    } else if let Some(iscsi) = &volume.iscsi {
        source::iscsi_target(&iscsi.target_portal, &iscsi.iqn, iscsi.lun, path, errors);
    } else if let Some(fc) = &volume.fc {
        source::fibre_channel(fc, path, errors);
    }
}

/// All sources there are, in the order upstream looks for them.
fn given(volume: &Volume) -> [(&'static str, bool); 30] {
    [
        ("emptyDir", volume.empty_dir.is_some()),
        ("hostPath", volume.host_path.is_some()),
        ("gitRepo", volume.git_repo.is_some()),
        ("gcePersistentDisk", volume.gce_persistent_disk.is_some()),
        ("awsElasticBlockStore", volume.aws_elastic_block_store.is_some()),
        ("secret", volume.secret.is_some()),
        ("nfs", volume.nfs.is_some()),
        ("iscsi", volume.iscsi.is_some()),
        ("glusterfs", volume.glusterfs.is_some()),
        ("flocker", volume.flocker.is_some()),
        ("persistentVolumeClaim", volume.persistent_volume_claim.is_some()),
        ("rbd", volume.rbd.is_some()),
        ("cinder", volume.cinder.is_some()),
        ("cephfs", volume.cephfs.is_some()),
        ("quobyte", volume.quobyte.is_some()),
        ("downwardAPI", volume.downward_api.is_some()),
        ("fc", volume.fc.is_some()),
        ("flexVolume", volume.flex_volume.is_some()),
        ("configMap", volume.config_map.is_some()),
        ("azureFile", volume.azure_file.is_some()),
        ("vsphereVolume", volume.vsphere_volume.is_some()),
        ("photonPersistentDisk", volume.photon_persistent_disk.is_some()),
        ("portworxVolume", volume.portworx_volume.is_some()),
        ("azureDisk", volume.azure_disk.is_some()),
        ("storageos", volume.storageos.is_some()),
        ("projected", volume.projected.is_some()),
        ("scaleIO", volume.scale_io.is_some()),
        ("csi", volume.csi.is_some()),
        ("ephemeral", volume.ephemeral.is_some()),
        ("image", volume.image.is_some()),
    ]
}

fn file_mode(mode: Option<i32>, path: &Path, errors: &mut Errors) {
    if let Some(mode) = mode
        && !(0..=0o777).contains(&mode)
    {
        errors.invalid(
            path,
            mode,
            "must be a number between 0 and 0777 (octal), both inclusive",
        );
    }
}

fn keys_to_paths(items: &[KeyToPath], path: &Path, errors: &mut Errors) {
    for (path, item) in path.each(items) {
        if item.key.is_empty() {
            errors.required(&path.child("key"), "");
        }
        errors.required_check(&path.child("path"), &item.path, names::local_file);
        file_mode(item.mode, &path.child("mode"), errors);
    }
}

/// A file that shows something of the pod. Upstream names no index.
fn downward_file(file: &DownwardAPIVolumeFile, path: &Path, errors: &mut Errors) {
    use super::environment::{VOLUME_FIELDS, field_selector, resource_selector};
    errors.required_check(&path.child("path"), &file.path, names::local_file);
    match (&file.field_ref, &file.resource_field_ref) {
        (Some(field), resource) => {
            field_selector(field, VOLUME_FIELDS, &path.child("fieldRef"), errors);
            if resource.is_some() {
                errors.invalid(
                    path,
                    "resource",
                    "fieldRef and resourceFieldRef can not be specified simultaneously",
                );
            }
        }
        (None, Some(resource)) => resource_selector(resource, true, &path.child("resourceFieldRef"), errors),
        (None, None) => errors.required(path, "one of fieldRef and resourceFieldRef is required"),
    }
    file_mode(file.mode, &path.child("mode"), errors);
}
