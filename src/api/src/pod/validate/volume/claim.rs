//! Claims of storage, of their own or made for a pod.

use crate::{
    core::{PersistentVolumeClaimSpec, PersistentVolumeClaimTemplate},
    field::{Errors, OrEmpty, Path},
    names,
    pod::validate::annotations,
    quantity::Quantity,
    selector::{self, validate_labels},
};

/// How a volume may be mounted.
pub const ACCESS_MODES: &[&str] = &["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];

/// A claim that is made for a pod's volume.
pub fn template(template: &PersistentVolumeClaimTemplate, path: &Path, errors: &mut Errors) {
    if let Some(metadata) = &template.metadata {
        let path = path.child("metadata");
        annotations(metadata.annotations.or_empty(), &path.child("annotations"), errors);
        validate_labels(metadata.labels.or_empty(), &path.child("labels"), errors);
        for (field, given) in [
            ("name", metadata.name.is_given()),
            ("generateName", metadata.generate_name.is_given()),
            ("namespace", metadata.namespace.is_given()),
            ("finalizers", metadata.finalizers.is_given()),
            ("ownerReferences", metadata.owner_references.is_given()),
        ] {
            if given {
                errors.forbidden(&path.child(field), "cannot be set");
            }
        }
    }
    spec(&template.spec, &path.child("spec"), errors);
}

/// Access modes that exist and go together.
pub fn access_modes(modes: &[String], path: &Path, errors: &mut Errors) {
    for mode in modes {
        errors.one_of(path, Some(mode), ACCESS_MODES);
    }
    let alone = |mode: &String| mode == "ReadWriteOncePod";
    if modes.iter().any(alone) && !modes.iter().all(alone) {
        errors.forbidden(path, "may not use ReadWriteOncePod with other access modes");
    }
}

/// What is claimed.
pub fn spec(spec: &PersistentVolumeClaimSpec, path: &Path, errors: &mut Errors) {
    let modes = path.child("accessModes");
    if !spec.access_modes.is_given() {
        errors.required(&modes, "at least 1 access mode is required");
    }
    selector::validate(spec.selector.as_ref(), &path.child("selector"), errors);
    access_modes(spec.access_modes.or_empty(), &modes, errors);
    let requests = spec.resources.as_ref().map(|resources| resources.requests.or_empty());
    let size_path = path.child("resources").key("storage");
    match requests
        .and_then(|requests| requests.get("storage"))
        .map(|size| (size, Quantity::of(size)))
    {
        None => errors.required(&size_path, ""),
        Some((written, Err(error))) => errors.invalid(&size_path, written.0.as_str(), error.to_string()),
        Some((_, Ok(size))) if !size.is_positive() => {
            errors.invalid(&size_path, size.to_string(), "must be greater than zero");
        }
        Some(_) => {}
    }
    for (field, class) in [
        ("storageClassName", &spec.storage_class_name),
        ("volumeAttributesClassName", &spec.volume_attributes_class_name),
    ] {
        if class.is_given() {
            errors.check(&path.child(field), class.or_empty(), names::dns_subdomain);
        }
    }
    errors.one_of(
        &path.child("volumeMode"),
        spec.volume_mode.as_deref(),
        &["Block", "Filesystem"],
    );
    data_sources(spec, path, errors);
}

/// What the volume is filled with: the older field and the newer say the same, or one of them nothing.
fn data_sources(spec: &PersistentVolumeClaimSpec, path: &Path, errors: &mut Errors) {
    let old = spec
        .data_source
        .as_ref()
        .map(|source| (source.api_group.or_empty(), &source.kind, &source.name));
    let new = spec
        .data_source_ref
        .as_ref()
        .map(|source| (source.api_group.or_empty(), &source.kind, &source.name));
    for (field, source) in [("dataSource", old), ("dataSourceRef", new)] {
        let Some((group, kind, name)) = source else { continue };
        let path = path.child(field);
        for (field, value) in [("name", name), ("kind", kind)] {
            if value.is_empty() {
                errors.required(&path.child(field), "");
            }
        }
        if !group.is_empty() {
            errors.check(&path.child("apiGroup"), group, names::dns_subdomain);
        } else if kind != "PersistentVolumeClaim" {
            errors.invalid(
                &path,
                kind.as_str(),
                "must be 'PersistentVolumeClaim' when referencing the default apiGroup",
            );
        }
    }
    let elsewhere = spec
        .data_source_ref
        .as_ref()
        .is_some_and(|source| source.namespace.is_given());
    let field = path.child("dataSource").to_string();
    if elsewhere && old.is_some() {
        errors.invalid(
            path,
            field,
            "may not be specified when dataSourceRef.namespace is specified",
        );
    } else if !elsewhere && old.is_some() && new.is_some() && old != new {
        errors.invalid(path, field, "must match dataSourceRef");
    }
}
