//! Volumes that gather several sources in one directory.

use std::collections::BTreeSet;

use super::{downward_file, file_mode, keys_to_paths};
use crate::{
    core::{ClusterTrustBundleProjection, KeyToPath, ProjectedVolumeSource, ServiceAccountTokenProjection},
    field::{Errors, OrEmpty, Path},
    names, selector,
};

pub(super) fn validate(projected: &ProjectedVolumeSource, path: &Path, errors: &mut Errors) {
    file_mode(projected.default_mode, &path.child("defaultMode"), errors);
    let mut paths = BTreeSet::new();
    for (source_path, source) in path.child("sources").each(projected.sources.or_empty()) {
        let mut sources = 0;
        let key_sources = [
            (
                "secret",
                source.secret.as_ref().map(|from| (&from.name, from.items.or_empty())),
            ),
            (
                "configMap",
                source
                    .config_map
                    .as_ref()
                    .map(|from| (&from.name, from.items.or_empty())),
            ),
        ];
        for (field, from) in key_sources {
            let Some((name, items)) = from else { continue };
            sources += 1;
            keys(name, items, &source_path.child(field), errors);
            for item in items {
                unique(&item.path, name, &mut paths, path, errors);
            }
        }
        if let Some(downward) = &source.downward_api {
            sources += 1;
            for file in downward.items.or_empty() {
                downward_file(file, &source_path.child("downwardAPI"), errors);
                unique(&file.path, &file.path, &mut paths, path, errors);
            }
        }
        if let Some(token) = &source.service_account_token {
            sources += 1;
            self::token(token, &source_path.child("serviceAccountToken"), path, errors);
        }
        if let Some(bundle) = &source.cluster_trust_bundle {
            sources += 1;
            trust_bundle(bundle, &source_path.child("clusterTrustBundle"), errors);
            unique(&bundle.path, &bundle.path, &mut paths, path, errors);
        }
        if source.pod_certificate.is_some() {
            sources += 1;
        }
        if sources > 1 {
            errors.forbidden(&source_path, "may not specify more than 1 volume type per source");
        }
    }
}

fn keys(name: &str, items: &[KeyToPath], path: &Path, errors: &mut Errors) {
    if name.is_empty() {
        errors.required(&path.child("name"), "");
    }
    keys_to_paths(items, &path.child("items"), errors);
}

/// No two sources may write the same file.
fn unique<'a>(file: &'a str, source: &str, seen: &mut BTreeSet<&'a str>, path: &Path, errors: &mut Errors) {
    if !file.is_empty() && !seen.insert(file) {
        errors.invalid(path, source, "conflicting duplicate paths");
    }
}

fn token(token: &ServiceAccountTokenProjection, path: &Path, volume: &Path, errors: &mut Errors) {
    let seconds_path = path.child("expirationSeconds");
    let seconds = token.expiration_seconds.unwrap_or_default();
    if seconds < 600 {
        errors.invalid(
            &seconds_path,
            seconds,
            "may not specify a duration less than 10 minutes",
        );
    } else if seconds > 1 << 32 {
        errors.invalid(
            &seconds_path,
            seconds,
            "may not specify a duration larger than 2^32 seconds",
        );
    }
    errors.required_check(&volume.child("path"), &token.path, names::local_file);
}

fn trust_bundle(bundle: &ClusterTrustBundleProjection, path: &Path, errors: &mut Errors) {
    match (&bundle.name, &bundle.signer_name) {
        (Some(_), Some(_)) => {
            errors.invalid_object(path, bundle, "only one of name and signerName may be used");
        }
        (Some(name), None) => {
            if name.is_empty() {
                errors.required(&path.child("name"), "must be a valid object name");
            }
            if let Some(selector) = &bundle.label_selector {
                errors.invalid_object(
                    &path.child("labelSelector"),
                    selector,
                    "labelSelector must be unset if name is specified",
                );
            }
        }
        (None, Some(signer)) => {
            if signer.is_empty() {
                errors.required(&path.child("signerName"), "must be a valid signer name");
            } else {
                errors.check(&path.child("signerName"), signer, names::domain_prefixed_path);
            }
            selector::validate(bundle.label_selector.as_ref(), &path.child("labelSelector"), errors);
        }
        (None, None) => errors.required(path, "either name or signerName must be specified"),
    }
    errors.required_check(&path.child("path"), &bundle.path, names::local_file);
}
