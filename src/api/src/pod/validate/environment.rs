//! A container's environment, and the fields of the pod it may read there.

use super::needs_api_server;
use crate::{
    core::{EnvFromSource, EnvVar, EnvVarSource, ObjectFieldSelector, ResourceFieldSelector},
    field::{Errors, OrEmpty, Path},
    names,
    pod::Origin,
    quantity::Quantity,
};

pub(super) fn variables(variables: &[EnvVar], origin: Origin, path: &Path, errors: &mut Errors) {
    for (path, variable) in path.each(variables) {
        errors.required_check(&path.child("name"), &variable.name, names::environment_variable);
        if let Some(source) = &variable.value_from {
            value_from(
                source,
                variable.value.is_given(),
                origin,
                &path.child("valueFrom"),
                errors,
            );
        }
    }
}

fn value_from(source: &EnvVarSource, has_value: bool, origin: Origin, path: &Path, errors: &mut Errors) {
    let EnvVarSource {
        config_map_key_ref,
        field_ref,
        file_key_ref,
        resource_field_ref,
        secret_key_ref,
    } = source;
    let mut sources = 0;
    if let Some(field) = field_ref {
        sources += 1;
        field_selector(field, ENVIRONMENT_FIELDS, &path.child("fieldRef"), errors);
    }
    if let Some(resource) = resource_field_ref {
        sources += 1;
        resource_selector(resource, false, &path.child("resourceFieldRef"), errors);
    }
    for (field, what, key) in [
        (
            "configMapKeyRef",
            "config maps",
            config_map_key_ref.as_ref().map(|from| (&from.name, &from.key)),
        ),
        (
            "secretKeyRef",
            "secrets",
            secret_key_ref.as_ref().map(|from| (&from.name, &from.key)),
        ),
    ] {
        let Some((name, key)) = key else { continue };
        sources += 1;
        let path = path.child(field);
        if origin == Origin::File {
            errors.forbidden(&path, needs_api_server(what));
            continue;
        }
        errors.check(&path.child("name"), name, names::dns_subdomain);
        errors.required_check(&path.child("key"), key, names::config_key);
    }
    if let Some(file) = file_key_ref {
        sources += 1;
        let path = path.child("fileKeyRef");
        if origin == Origin::File {
            errors.forbidden(&path, "is not supported on this node");
        } else {
            errors.required_check(&path.child("key"), &file.key, names::environment_variable);
            errors.required_check(&path.child("volumeName"), &file.volume_name, names::dns_label);
            errors.required_check(&path.child("path"), &file.path, names::local_file);
        }
    }
    if sources == 0 {
        errors.invalid(
            path,
            "",
            "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`",
        );
    } else if has_value {
        errors.invalid(path, "", "may not be specified when `value` is not empty");
    } else if sources > 1 {
        errors.invalid(path, "", "may not have more than one field specified at a time");
    }
}

pub(super) fn sources(sources: &[EnvFromSource], origin: Origin, path: &Path, errors: &mut Errors) {
    for (index_path, source) in path.each(sources) {
        if source.prefix.is_given() {
            errors.check(
                &index_path.child("prefix"),
                source.prefix.or_empty(),
                names::environment_variable,
            );
        }
        let mut given = 0;
        for (field, what, name) in [
            (
                "configMapRef",
                "config maps",
                source.config_map_ref.as_ref().map(|from| &from.name),
            ),
            (
                "secretRef",
                "secrets",
                source.secret_ref.as_ref().map(|from| &from.name),
            ),
        ] {
            let Some(name) = name else { continue };
            given += 1;
            let path = index_path.child(field);
            if origin == Origin::File {
                errors.forbidden(&path, needs_api_server(what));
            } else {
                errors.required_check(&path.child("name"), name, names::dns_subdomain);
            }
        }
        if given == 0 {
            errors.invalid(path, "", "must specify one of: `configMapRef` or `secretRef`");
        } else if given > 1 {
            errors.invalid(path, "", "may not have more than one field specified at a time");
        }
    }
}

const ENVIRONMENT_FIELDS: &[&str] = &[
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];

/// The fields that files of a volume may show.
pub(super) const VOLUME_FIELDS: &[&str] = &[
    "metadata.annotations",
    "metadata.labels",
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
];

/// A field of the pod that its containers may read.
pub(super) fn field_selector(field: &ObjectFieldSelector, readable: &[&'static str], path: &Path, errors: &mut Errors) {
    let field_path = path.child("fieldPath");
    if !field.api_version.is_given() {
        return errors.required(&path.child("apiVersion"), "");
    }
    if field.field_path.is_empty() {
        return errors.required(&field_path, "");
    }
    if field.api_version.or_empty() != "v1" {
        let detail = format!(
            "error converting fieldPath: unsupported pod version: {}",
            field.api_version.or_empty()
        );
        return errors.invalid(&field_path, field.field_path.as_str(), detail);
    }
    let subscript = field
        .field_path
        .strip_suffix("']")
        .and_then(|field| field.split_once("['"));
    match subscript {
        Some(("metadata.annotations", key)) => errors.check(path, key, names::annotation_key),
        Some(("metadata.labels", key)) => errors.check(path, key, names::qualified),
        Some((name, _)) => errors.invalid(path, name, "does not support subscript"),
        None if readable.contains(&field.field_path.as_str()) => {}
        None if VOLUME_FIELDS.contains(&field.field_path.as_str())
            || ENVIRONMENT_FIELDS.contains(&field.field_path.as_str()) =>
        {
            errors.unsupported(&field_path, field.field_path.as_str(), readable);
        }
        None => {
            let detail = format!(
                "error converting fieldPath: field label not supported: {}",
                field.field_path
            );
            errors.invalid(&field_path, field.field_path.as_str(), detail);
        }
    }
}

const RESOURCES: &[&str] = &[
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
];

const SIZES: &[&str] = &[
    "1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei",
];
const SIZES_ARE: &str = "1, 1k, 1M, 1G, 1T, 1P, 1E, 1Ki, 1Mi, 1Gi, 1Ti, 1Pi, 1Ei";

/// A resource of a container; files of a volume must say of which.
pub(super) fn resource_selector(selector: &ResourceFieldSelector, volume: bool, path: &Path, errors: &mut Errors) {
    let resource = selector.resource.as_str();
    let huge = resource.starts_with("requests.hugepages-") || resource.starts_with("limits.hugepages-");
    if volume && !selector.container_name.is_given() {
        errors.required(&path.child("containerName"), "");
    } else if resource.is_empty() {
        errors.required(&path.child("resource"), "");
    } else if !RESOURCES.contains(&resource) && !huge {
        errors.unsupported(&path.child("resource"), resource, RESOURCES);
    }
    let divisor = selector.divisor.as_ref().and_then(|written| Quantity::of(written).ok());
    let Some(divisor) = divisor.filter(|divisor| !divisor.is_zero()) else {
        return;
    };
    let (allowed, are, of): (&[&str], _, _) = match resource {
        "limits.cpu" | "requests.cpu" => (&["1m", "1"], "1m and 1", "cpu"),
        "limits.memory" | "requests.memory" => (SIZES, SIZES_ARE, "memory"),
        "limits.ephemeral-storage" | "requests.ephemeral-storage" => (SIZES, SIZES_ARE, "local ephemeral storage"),
        _ if huge => (SIZES, SIZES_ARE, "hugepages"),
        _ => return,
    };
    if !allowed.contains(&divisor.to_string().as_str()) {
        let detail = format!("only divisor's values {are} are supported with the {of} resource");
        errors.invalid(&path.child("divisor"), resource, detail);
    }
}
