//! Volumes, and what may be mounted.

use std::collections::BTreeSet;

use crate::{
    core::Volume,
    manifest::field::{Errors, Path},
    names,
    quantity::Quantity,
};

/// Checks the volumes and returns their names.
pub(super) fn validate<'a>(volumes: &'a [Volume], path: &Path, errors: &mut Errors) -> BTreeSet<&'a str> {
    let mut seen = BTreeSet::new();
    for (path, volume) in path.each(volumes) {
        let name = path.child("name");
        if volume.name.is_empty() {
            errors.required(&name, "");
        } else {
            errors.check(&name, &volume.name, names::dns_label);
            if !seen.insert(volume.name.as_str()) {
                errors.duplicate(&name, &volume.name);
            }
        }
        source(volume, &path, errors);
    }
    seen
}

fn source(volume: &Volume, path: &Path, errors: &mut Errors) {
    let mut sources = 0;
    if let Some(empty_dir) = &volume.empty_dir {
        sources += 1;
        let path = path.child("emptyDir");
        errors.one_of(&path.child("medium"), empty_dir.medium.as_deref(), &["", "Memory"]);
        if let Some(written) = &empty_dir.size_limit {
            match Quantity::of(written) {
                Err(error) => errors.invalid(&path.child("sizeLimit"), &written.0, error.to_string()),
                Ok(limit) if limit.is_negative() => {
                    errors.invalid(
                        &path.child("sizeLimit"),
                        &written.0,
                        "must be greater than or equal to 0",
                    );
                }
                Ok(_) => {}
            }
        }
    }
    if let Some(host_path) = &volume.host_path {
        sources += 1;
        let path = path.child("hostPath");
        if host_path.path.is_empty() {
            errors.required(&path.child("path"), "");
        } else {
            errors.check(&path.child("path"), &host_path.path, names::absolute_path);
        }
        let types = &[
            "",
            "DirectoryOrCreate",
            "Directory",
            "FileOrCreate",
            "File",
            "Socket",
            "CharDevice",
            "BlockDevice",
        ];
        errors.one_of(&path.child("type"), host_path.type_.as_deref(), types);
    }
    for (kind, what) in api_objects(volume) {
        sources += 1;
        errors.forbidden(&path.child(kind), super::needs_api_server(what));
    }
    if sources == 0 {
        errors.forbidden(
            path,
            "this type of volume is not supported on this node: use emptyDir or hostPath",
        );
    } else if sources > 1 {
        errors.forbidden(path, "may not specify more than 1 volume type");
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
