//! Sources of volumes that pods and persistent volumes have in common, and those of old that CSI drivers replace.

use crate::{
    core::{FCVolumeSource, HostPathVolumeSource, NFSVolumeSource, Volume},
    field::{Errors, OrEmpty, Path},
    names,
};

/// A directory, file or socket of the node.
pub fn host_path(source: &HostPathVolumeSource, path: &Path, errors: &mut Errors) {
    errors.required_check(&path.child("path"), &source.path, names::no_backsteps);
    let types = &[
        "",
        "BlockDevice",
        "CharDevice",
        "Directory",
        "DirectoryOrCreate",
        "File",
        "FileOrCreate",
        "Socket",
    ];
    if !source.path.is_empty() {
        errors.one_of(&path.child("type"), source.type_.as_deref(), types);
    }
}

/// An export of an NFS server.
pub fn nfs(source: &NFSVolumeSource, path: &Path, errors: &mut Errors) {
    if source.server.is_empty() {
        errors.required(&path.child("server"), "");
    }
    let path = path.child("path");
    if source.path.is_empty() {
        errors.required(&path, "");
    }
    if !source.path.starts_with('/') {
        errors.invalid(&path, source.path.as_str(), "must be an absolute path");
    }
}

/// Where an iSCSI disk is found.
pub fn iscsi_target(portal: &str, iqn: &str, lun: i32, path: &Path, errors: &mut Errors) {
    if portal.is_empty() {
        errors.required(&path.child("targetPortal"), "");
    }
    let known = ["iqn", "eui", "naa"].iter().any(|prefix| iqn.starts_with(prefix));
    if iqn.is_empty() {
        errors.required(&path.child("iqn"), "");
    } else if !known {
        errors.invalid(
            &path.child("iqn"),
            iqn,
            "must be valid format starting with iqn, eui, or naa",
        );
    }
    errors.within(&path.child("lun"), Some(lun), 0, 255);
}

/// A disk behind Fibre Channel.
pub fn fibre_channel(source: &FCVolumeSource, path: &Path, errors: &mut Errors) {
    let names = path.child("targetWWNs");
    match (source.target_wwns.is_given(), source.wwids.is_given()) {
        (false, false) => errors.required(&names, "must specify either targetWWNs or wwids, but not both"),
        (true, true) => errors.invalid_object(
            &names,
            &source.target_wwns,
            "targetWWNs and wwids can not be specified simultaneously",
        ),
        _ => {}
    }
    if source.target_wwns.is_given() {
        match source.lun {
            None => errors.required(&path.child("lun"), "lun is required if targetWWNs is specified"),
            lun => errors.within(&path.child("lun"), lun, 0, 255),
        }
    }
}

/// The name of a CSI driver.
pub fn csi_driver(name: &str, path: &Path, errors: &mut Errors) {
    if name.is_empty() {
        return errors.required(path, "");
    }
    if name.len() > 63 {
        errors.too_long(path, 63);
    }
    errors.check(path, name, |name| names::dns_subdomain(&name.to_lowercase()));
}

/// What no new cluster uses: only what nothing works without is asked for.
pub(super) fn deprecated(volume: &Volume, path: &Path, errors: &mut Errors) {
    let mut needed = |field: &str, value: &str| {
        if value.is_empty() {
            errors.required(&path.child(field), "");
        }
    };
    if let Some(git) = &volume.git_repo {
        needed("repository", &git.repository);
    }
    if let Some(disk) = &volume.gce_persistent_disk {
        needed("pdName", &disk.pd_name);
    }
    if let Some(disk) = &volume.aws_elastic_block_store {
        needed("volumeID", &disk.volume_id);
    }
    if let Some(gluster) = &volume.glusterfs {
        needed("endpoints", &gluster.endpoints);
        needed("path", &gluster.path);
    }
    if let Some(rbd) = &volume.rbd {
        needed("monitors", rbd.monitors.first().map_or("", |_| "given"));
        needed("image", &rbd.image);
    }
    if let Some(cinder) = &volume.cinder {
        needed("volumeID", &cinder.volume_id);
    }
    if let Some(ceph) = &volume.cephfs {
        needed("monitors", ceph.monitors.first().map_or("", |_| "given"));
    }
    if let Some(quobyte) = &volume.quobyte {
        needed("registry", &quobyte.registry);
        needed("volume", &quobyte.volume);
    }
    if let Some(flex) = &volume.flex_volume {
        needed("driver", &flex.driver);
    }
    if let Some(file) = &volume.azure_file {
        needed("secretName", &file.secret_name);
        needed("shareName", &file.share_name);
    }
    if let Some(disk) = &volume.vsphere_volume {
        needed("volumePath", &disk.volume_path);
    }
    if let Some(disk) = &volume.photon_persistent_disk {
        needed("pdID", &disk.pd_id);
    }
    if let Some(portworx) = &volume.portworx_volume {
        needed("volumeID", &portworx.volume_id);
    }
    if let Some(disk) = &volume.azure_disk {
        needed("diskName", &disk.disk_name);
        needed("diskURI", &disk.disk_uri);
    }
    if let Some(storage_os) = &volume.storageos {
        needed("volumeName", storage_os.volume_name.or_empty());
    }
    if let Some(scale_io) = &volume.scale_io {
        needed("gateway", &scale_io.gateway);
        needed("system", &scale_io.system);
        needed("volumeName", scale_io.volume_name.or_empty());
    }
    if let Some(flocker) = &volume.flocker
        && !flocker.dataset_name.is_given()
        && !flocker.dataset_uuid.is_given()
    {
        errors.required(path, "one of datasetName and datasetUUID is required");
    }
}
