//! Persistent volumes and the claims to them.

use bosun_api::{
    core::{
        PersistentVolume, PersistentVolumeClaim, PersistentVolumeClaimStatus, PersistentVolumeSpec,
        PersistentVolumeStatus,
    },
    field::{Errors, OrEmpty, Path, set_default},
    names,
    pod::{
        defaults,
        validate::{
            resources,
            scheduling::node_selector,
            volume::{claim, source},
        },
    },
    quantity::Quantity,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Written;

use crate::{Context, difference, kind::Kind};

/// Fills in what a claim of its own, or one that a stateful set makes, leaves out.
pub(crate) fn claim_defaults(claim: &mut PersistentVolumeClaim) {
    if let Some(spec) = &mut claim.spec {
        defaults::claim_defaults(spec);
    }
    let status = claim.status.get_or_insert_default();
    set_default(&mut status.phase, "Pending");
}

pub(crate) struct Claims;

/// Where the class of a claim stood before there was a field for it.
const CLASS_ANNOTATION: &str = "volume.beta.kubernetes.io/storage-class";

impl Kind for Claims {
    type Object = PersistentVolumeClaim;

    const GENERATION: bool = false;

    fn default(claim: &mut PersistentVolumeClaim) {
        claim_defaults(claim);
        let Some(spec) = &mut claim.spec else { return };
        // Each of the two fields is filled from the other, unless the source is in another namespace.
        let elsewhere = spec
            .data_source_ref
            .as_ref()
            .is_some_and(|source| source.namespace.is_given());
        if !elsewhere {
            if let (Some(old), None) = (&spec.data_source, &spec.data_source_ref) {
                spec.data_source_ref = Some(bosun_api::core::TypedObjectReference {
                    api_group: old.api_group.clone(),
                    kind: old.kind.clone(),
                    name: old.name.clone(),
                    namespace: None,
                });
            } else if let (None, Some(new)) = (&spec.data_source, &spec.data_source_ref)
                && (new.api_group.or_empty().is_empty() || new.api_group.or_empty() == "snapshot.storage.k8s.io")
            {
                spec.data_source = Some(bosun_api::core::TypedLocalObjectReference {
                    api_group: new.api_group.clone(),
                    kind: new.kind.clone(),
                    name: new.name.clone(),
                });
            }
        }
    }

    fn prepare_create(claim: &mut PersistentVolumeClaim, _: &Context<'_>) {
        claim.status = Some(PersistentVolumeClaimStatus {
            phase: Some("Pending".to_owned()),
            ..PersistentVolumeClaimStatus::default()
        });
    }

    fn validate(claim: &PersistentVolumeClaim, errors: &mut Errors) {
        let path = Path::root("spec");
        match &claim.spec {
            Some(spec) => claim::spec(spec, &path, errors),
            None => errors.required(&path.child("accessModes"), "at least 1 access mode is required"),
        }
    }

    fn validate_update(claim: &PersistentVolumeClaim, old: &PersistentVolumeClaim, errors: &mut Errors) {
        Self::validate(claim, errors);
        let (Some(new), Some(before)) = (&claim.spec, &old.spec) else {
            return;
        };
        let path = Path::root("spec");
        let class =
            |claim: &PersistentVolumeClaim| claim.metadata.annotations.or_empty().get(CLASS_ANNOTATION).cloned();
        let mut same = new.clone();
        if !before.volume_name.is_given() {
            same.volume_name.clone_from(&before.volume_name);
        }
        // A class may be given where there was none, or where the annotation said the same.
        if before.storage_class_name.is_none()
            && class(old).is_none_or(|class| Some(&class) == new.storage_class_name.as_ref())
        {
            same.storage_class_name = None;
        } else if class(claim) != class(old) {
            errors.invalid(
                &Path::root("metadata.annotations").child(CLASS_ANNOTATION),
                class(claim).unwrap_or_default(),
                "field is immutable",
            );
        }
        let bound = old
            .status
            .as_ref()
            .is_some_and(|status| status.phase.or_empty() == "Bound");
        let size = |spec: &bosun_api::core::PersistentVolumeClaimSpec| {
            let requests = spec
                .resources
                .as_ref()
                .and_then(|resources| resources.requests.as_ref());
            requests.and_then(|requests| requests.get("storage")).cloned()
        };
        if bound {
            if let (Some(requests), Some(size)) = (
                same.resources
                    .as_mut()
                    .and_then(|resources| resources.requests.as_mut()),
                size(before),
            ) {
                requests.insert("storage".to_owned(), size);
            }
            if new.volume_attributes_class_name.is_some() {
                same.volume_attributes_class_name
                    .clone_from(&before.volume_attributes_class_name);
            }
        }
        if same != *before {
            let changed = difference::between(&same, before, "spec");
            errors.forbidden(
                &path,
                format!(
                    "spec is immutable after creation except resources.requests and volumeAttributesClassName for \
                     bound claims\n{changed}"
                ),
            );
        }
        let amount = |written: Option<Written>| written.and_then(|written| Quantity::of(&written).ok());
        let has = old
            .status
            .as_ref()
            .and_then(|status| status.capacity.or_empty().get("storage").cloned());
        if let (Some(new), Some(old)) = (amount(size(new)), amount(size(before)))
            && new < old
            && new <= amount(has).unwrap_or(Quantity::ZERO)
        {
            errors.forbidden(
                &path.child("resources.requests.storage"),
                "field can not be less than status.capacity",
            );
        }
        errors.immutable(&Path::root("volumeMode"), &new.volume_mode, &before.volume_mode);
        attributes_class(
            new.volume_attributes_class_name.as_deref(),
            before.volume_attributes_class_name.as_deref(),
            errors,
        );
    }

    fn validate_part(claim: &PersistentVolumeClaim, _: &PersistentVolumeClaim, _: &str, errors: &mut Errors) {
        let Some(status) = &claim.status else { return };
        let path = Path::root("status.capacity");
        for (name, written) in status.capacity.or_empty() {
            valid_amount(written, &path.key(name), errors);
        }
    }
}

fn attributes_class(new: Option<&str>, old: Option<&str>, errors: &mut Errors) {
    let path = Path::root("spec.volumeAttributesClassName");
    match (new, old) {
        (None, Some(_)) => errors.forbidden(&path, "update from non-nil value to nil is forbidden"),
        (Some(""), Some(old)) if !old.is_empty() => {
            errors.forbidden(&path, "update from non-nil value to an empty string is forbidden");
        }
        _ => {}
    }
}

fn valid_amount(written: &Written, path: &Path, errors: &mut Errors) {
    match Quantity::of(written) {
        Err(error) => errors.invalid(path, written.0.as_str(), error.to_string()),
        Ok(amount) if amount.is_negative() => {
            errors.invalid(path, amount.value(), "must be a valid resource quantity");
        }
        Ok(_) => {}
    }
}

pub(crate) struct Volumes;

impl Kind for Volumes {
    type Object = PersistentVolume;

    const GENERATION: bool = false;

    fn default(volume: &mut PersistentVolume) {
        if let Some(status) = &mut volume.status {
            set_default(&mut status.phase, "Pending");
        }
        let Some(spec) = &mut volume.spec else { return };
        set_default(&mut spec.persistent_volume_reclaim_policy, "Retain");
        set_default(&mut spec.volume_mode, "Filesystem");
        if let Some(host_path) = &mut spec.host_path {
            host_path.type_.get_or_insert_default();
        }
        if let Some(iscsi) = &mut spec.iscsi {
            set_default(&mut iscsi.iscsi_interface, "default");
        }
    }

    fn prepare_create(volume: &mut PersistentVolume, context: &Context<'_>) {
        volume.status = Some(PersistentVolumeStatus {
            phase: Some("Pending".to_owned()),
            last_phase_transition_time: Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(context.now)),
            ..PersistentVolumeStatus::default()
        });
    }

    fn warnings(volume: &PersistentVolume) -> Vec<String> {
        let mut warnings = Vec::new();
        if volume.metadata.annotations.or_empty().contains_key(CLASS_ANNOTATION) {
            warnings.push(format!(
                "metadata.annotations[{CLASS_ANNOTATION}]: deprecated since v1.8; use \"storageClassName\" attribute \
                 instead"
            ));
        }
        let reclaim = volume
            .spec
            .as_ref()
            .map_or("", |spec| spec.persistent_volume_reclaim_policy.or_empty());
        if reclaim == "Recycle" {
            warnings.push(
                "spec.persistentVolumeReclaimPolicy: The Recycle reclaim policy is deprecated. Instead, the \
                 recommended approach is to use dynamic provisioning."
                    .to_owned(),
            );
        }
        warnings
    }

    /// When a volume came to where it is.
    fn prepare_update(volume: &mut PersistentVolume, old: &PersistentVolume, context: &Context<'_>) {
        let before = old.status.as_ref().map_or("", |status| status.phase.or_empty());
        if context.subresource == "status"
            && let Some(status) = &mut volume.status
        {
            let same_time = old
                .status
                .as_ref()
                .and_then(|status| status.last_phase_transition_time.clone());
            if status.phase.or_empty() == before {
                status.last_phase_transition_time = same_time;
            } else if status.last_phase_transition_time == same_time {
                status.last_phase_transition_time =
                    Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(context.now));
            }
        }
    }

    fn validate(volume: &PersistentVolume, errors: &mut Errors) {
        let path = Path::root("spec");
        match &volume.spec {
            Some(spec) => self::volume(spec, false, &path, errors),
            None => errors.required(&path, "must specify a volume type"),
        }
    }

    fn validate_update(volume: &PersistentVolume, old: &PersistentVolume, errors: &mut Errors) {
        Self::validate(volume, errors);
        let (Some(new), Some(before)) = (&volume.spec, &old.spec) else {
            return;
        };
        let (mut same, mut was) = (sources_only(new), sources_only(before));
        // A secret for expanding the volume may be added later.
        if let (Some(new), Some(old)) = (&mut same.csi, &mut was.csi)
            && old.controller_expand_secret_ref.is_none()
        {
            new.controller_expand_secret_ref = None;
        }
        if same != was {
            let changed = difference::between(&same, &was, "spec");
            errors.forbidden(
                &Path::root("spec.persistentvolumesource"),
                format!("spec.persistentvolumesource is immutable after creation\n{changed}"),
            );
        }
        errors.immutable(&Path::root("volumeMode"), &new.volume_mode, &before.volume_mode);
        if before.node_affinity.is_some() && new.node_affinity != before.node_affinity {
            errors.invalid_object(
                &Path::root("nodeAffinity"),
                &new.node_affinity,
                "field is immutable, except for updating from beta label to GA",
            );
        }
        attributes_class(
            new.volume_attributes_class_name.as_deref(),
            before.volume_attributes_class_name.as_deref(),
            errors,
        );
    }
}

/// What a volume is made of, without what is said about it.
fn sources_only(spec: &PersistentVolumeSpec) -> PersistentVolumeSpec {
    PersistentVolumeSpec {
        access_modes: None,
        capacity: None,
        claim_ref: None,
        mount_options: None,
        node_affinity: None,
        persistent_volume_reclaim_policy: None,
        storage_class_name: None,
        volume_attributes_class_name: None,
        volume_mode: None,
        ..spec.clone()
    }
}

/// A volume, or one that is only described where it is attached.
pub(crate) fn volume(spec: &PersistentVolumeSpec, inline: bool, path: &Path, errors: &mut Errors) {
    let modes = path.child("accessModes");
    if !spec.access_modes.is_given() {
        errors.required(&modes, "");
    }
    claim::access_modes(spec.access_modes.or_empty(), &modes, errors);
    if inline {
        inline_only(spec, path, errors);
    } else {
        capacity(spec, &path.child("capacity"), errors);
        errors.one_of(
            &path.child("persistentVolumeReclaimPolicy"),
            spec.persistent_volume_reclaim_policy
                .as_deref()
                .filter(|policy| !policy.is_empty()),
            &["Delete", "Recycle", "Retain"],
        );
        errors.one_of(
            &path.child("volumeMode"),
            spec.volume_mode.as_deref(),
            &["Block", "Filesystem"],
        );
        if spec.storage_class_name.is_given() {
            errors.check(
                &path.child("storageClassName"),
                spec.storage_class_name.or_empty(),
                names::dns_subdomain,
            );
        }
    }
    if let Some(affinity) = spec.node_affinity.as_ref().filter(|_| !inline) {
        let path = path.child("nodeAffinity").child("required");
        match &affinity.required {
            Some(required) => node_selector(required, &path, errors),
            None => errors.required(&path, "must specify required node constraints"),
        }
    }
    one_source(spec, path, errors);
    if let Some(class) = &spec.volume_attributes_class_name {
        let class_path = path.child("volumeAttributesClassName");
        if class.is_empty() {
            errors.required(&class_path, "an empty string is disallowed");
        } else {
            errors.check(&class_path, class, names::dns_subdomain);
        }
        if spec.csi.is_none() {
            errors.required(
                &path.child("csi"),
                "has to be specified when using volumeAttributesClassName",
            );
        }
    }
}

fn inline_only(spec: &PersistentVolumeSpec, path: &Path, errors: &mut Errors) {
    for (field, given) in [
        ("claimRef", spec.claim_ref.is_some()),
        ("capacity", spec.capacity.is_given()),
        ("nodeAffinity", spec.node_affinity.is_some()),
        ("storageClassName", spec.storage_class_name.is_given()),
    ] {
        if given {
            errors.forbidden(
                &path.child(field),
                "may not be specified in the context of inline volumes",
            );
        }
    }
    if spec.csi.is_none() {
        errors.required(
            &path.child("csi"),
            "has to be specified in the context of inline volumes",
        );
    }
}

fn capacity(spec: &PersistentVolumeSpec, path: &Path, errors: &mut Errors) {
    let capacity = spec.capacity.or_empty();
    if capacity.is_empty() {
        errors.required(path, "");
    }
    if !capacity.contains_key("storage") || capacity.len() > 1 {
        errors.unsupported(path, serde_json::to_value(capacity).unwrap_or_default(), &["storage"]);
    }
    for (name, written) in capacity {
        let path = path.key(name);
        if let Some(amount) = resources::quantity(name, written, &path, errors)
            && !amount.is_positive()
        {
            errors.invalid(&path, amount.to_string(), "must be greater than zero");
        }
    }
}

/// Exactly one source must be given; those that CSI drivers replace are known by name only.
fn one_source(spec: &PersistentVolumeSpec, path: &Path, errors: &mut Errors) {
    let given = [
        ("hostPath", spec.host_path.is_some()),
        ("gcePersistentDisk", spec.gce_persistent_disk.is_some()),
        ("awsElasticBlockStore", spec.aws_elastic_block_store.is_some()),
        ("glusterfs", spec.glusterfs.is_some()),
        ("flocker", spec.flocker.is_some()),
        ("nfs", spec.nfs.is_some()),
        ("rbd", spec.rbd.is_some()),
        ("quobyte", spec.quobyte.is_some()),
        ("cephfs", spec.cephfs.is_some()),
        ("iscsi", spec.iscsi.is_some()),
        ("cinder", spec.cinder.is_some()),
        ("fc", spec.fc.is_some()),
        ("flexVolume", spec.flex_volume.is_some()),
        ("azureFile", spec.azure_file.is_some()),
        ("vsphereVolume", spec.vsphere_volume.is_some()),
        ("photonPersistentDisk", spec.photon_persistent_disk.is_some()),
        ("portworxVolume", spec.portworx_volume.is_some()),
        ("azureDisk", spec.azure_disk.is_some()),
        ("scaleIO", spec.scale_io.is_some()),
        ("local", spec.local.is_some()),
        ("storageos", spec.storageos.is_some()),
        ("csi", spec.csi.is_some()),
    ];
    let mut given = given.into_iter().filter(|(_, given)| *given).map(|(name, _)| name);
    let Some(first) = given.next() else {
        return errors.required(path, "must specify a volume type");
    };
    for extra in given {
        errors.forbidden(&path.child(extra), "may not specify more than 1 volume type");
    }
    let source_path = path.child(first);
    if let Some(host_path) = &spec.host_path {
        source::host_path(host_path, &source_path, errors);
        if host_path.path.trim_end_matches('/').is_empty()
            && spec.persistent_volume_reclaim_policy.or_empty() == "Recycle"
        {
            errors.forbidden(
                &path.child("persistentVolumeReclaimPolicy"),
                "may not be 'recycle' for a hostPath mount of '/'",
            );
        }
    } else if let Some(nfs) = &spec.nfs {
        source::nfs(nfs, &source_path, errors);
    } else if let Some(iscsi) = &spec.iscsi {
        source::iscsi_target(&iscsi.target_portal, &iscsi.iqn, iscsi.lun, &source_path, errors);
    } else if let Some(fc) = &spec.fc {
        source::fibre_channel(fc, &source_path, errors);
    } else if let Some(local) = &spec.local {
        errors.required_check(&source_path.child("path"), &local.path, names::no_backsteps);
        if spec.node_affinity.is_none() {
            errors.required(&path.child("nodeAffinity"), "Local volume requires node affinity");
        }
    } else if let Some(csi) = &spec.csi {
        source::csi_driver(&csi.driver, &source_path.child("driver"), errors);
        if csi.volume_handle.is_empty() {
            errors.required(&source_path.child("volumeHandle"), "");
        }
        for (field, secret) in [
            ("controllerPublishSecretRef", &csi.controller_publish_secret_ref),
            ("controllerExpandSecretRef", &csi.controller_expand_secret_ref),
            ("nodePublishSecretRef", &csi.node_publish_secret_ref),
            ("nodeExpandSecretRef", &csi.node_expand_secret_ref),
        ] {
            let Some(secret) = secret else { continue };
            let path = source_path.child(field);
            errors.required_check(&path.child("name"), secret.name.or_empty(), names::dns_subdomain);
            errors.required_check(&path.child("namespace"), secret.namespace.or_empty(), names::dns_label);
        }
    }
}

#[cfg(test)]
mod tests;
