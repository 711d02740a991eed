//! Config maps and secrets.

use bosun_api::{
    core::{ConfigMap, Secret},
    field::{Errors, OrEmpty, Path, set_default},
    names,
};

use crate::{Context, kind::Kind};

/// Neither holds more than this, in bytes.
const MAX_DATA: usize = 1 << 20;

/// Whose token a secret holds.
const ACCOUNT: &str = "kubernetes.io/service-account.name";

const IMMUTABLE: &str = "field is immutable when `immutable` is set";

pub(crate) struct ConfigMaps;

impl Kind for ConfigMaps {
    type Object = ConfigMap;

    const STATUS: bool = false;
    const GENERATION: bool = false;

    fn validate(map: &ConfigMap, errors: &mut Errors) {
        let (data, binary) = (map.data.or_empty(), map.binary_data.or_empty());
        let (data_path, binary_path) = (Path::root("data"), Path::root("binaryData"));
        for key in data.keys() {
            let path = data_path.key(key);
            errors.check(&path, key, names::config_key);
            if binary.contains_key(key) {
                errors.invalid(&path, key.as_str(), "duplicate of key present in binaryData");
            }
        }
        for key in binary.keys() {
            errors.check(&binary_path.key(key), key, names::config_key);
        }
        let size =
            data.values().map(String::len).sum::<usize>() + binary.values().map(|bytes| bytes.0.len()).sum::<usize>();
        if size > MAX_DATA {
            errors.too_long(&Path::object(), MAX_DATA);
        }
    }

    fn validate_update(map: &ConfigMap, old: &ConfigMap, errors: &mut Errors) {
        if old.immutable == Some(true) {
            for (field, changed) in [
                ("immutable", map.immutable != Some(true)),
                ("data", map.data.or_empty() != old.data.or_empty()),
                ("binaryData", map.binary_data.or_empty() != old.binary_data.or_empty()),
            ] {
                if changed {
                    errors.forbidden(&Path::root(field), IMMUTABLE);
                }
            }
        }
        Self::validate(map, errors);
    }
}

pub(crate) struct Secrets;

impl Kind for Secrets {
    type Object = Secret;

    const STATUS: bool = false;
    const GENERATION: bool = false;

    /// What was written as text is folded in: it is never stored, nor ever shown.
    fn default(secret: &mut Secret) {
        set_default(&mut secret.type_, "Opaque");
        for (key, text) in secret.string_data.take().into_iter().flatten() {
            let data = secret.data.get_or_insert_default();
            data.insert(key, k8s_openapi::ByteString(text.into_bytes()));
        }
    }

    fn prepare_create(secret: &mut Secret, _: &Context<'_>) {
        Self::default(secret);
    }

    /// A type that isn't given stays what it was.
    fn prepare_update(secret: &mut Secret, old: &Secret, _: &Context<'_>) {
        if !secret.type_.is_given() {
            secret.type_.clone_from(&old.type_);
        }
        Self::default(secret);
    }

    fn validate(secret: &Secret, errors: &mut Errors) {
        let path = Path::root("data");
        let data = secret.data.or_empty();
        for key in data.keys() {
            errors.check(&path.key(key), key, names::config_key);
        }
        if data.values().map(|bytes| bytes.0.len()).sum::<usize>() > MAX_DATA {
            errors.too_long(&path, MAX_DATA);
        }
        content(secret, &path, errors);
    }

    fn validate_update(secret: &Secret, old: &Secret, errors: &mut Errors) {
        errors.immutable(&Path::root("type"), &secret.type_, &old.type_);
        if old.immutable == Some(true) {
            if secret.immutable != Some(true) {
                errors.forbidden(&Path::root("immutable"), IMMUTABLE);
            }
            if secret.data.or_empty() != old.data.or_empty() {
                errors.forbidden(&Path::root("data"), IMMUTABLE);
            }
        }
        Self::validate(secret, errors);
    }
}

/// The keys that the type of a secret promises.
fn content(secret: &Secret, path: &Path, errors: &mut Errors) {
    let data = secret.data.or_empty();
    let needed: &[&str] = match secret.type_.or_empty() {
        "kubernetes.io/service-account-token" => {
            let annotations = secret.metadata.annotations.or_empty();
            if annotations.get(ACCOUNT).is_none_or(String::is_empty) {
                errors.required(&Path::root("metadata.annotations").key(ACCOUNT), "");
            }
            &[]
        }
        "kubernetes.io/dockercfg" => &[".dockercfg"],
        "kubernetes.io/dockerconfigjson" => &[".dockerconfigjson"],
        "kubernetes.io/basic-auth" if !data.contains_key("username") && !data.contains_key("password") => {
            &["username", "password"]
        }
        "kubernetes.io/ssh-auth" => &["ssh-privatekey"],
        "kubernetes.io/tls" => &["tls.crt", "tls.key"],
        _ => &[],
    };
    for &key in needed {
        let path = path.key(key);
        match data.get(key) {
            None => errors.required(&path, ""),
            Some(bytes) if key == "ssh-privatekey" && bytes.0.is_empty() => errors.required(&path, ""),
            Some(bytes) if key.starts_with(".docker") => is_json(&bytes.0, &path, errors),
            Some(_) => {}
        }
    }
}

fn is_json(bytes: &[u8], path: &Path, errors: &mut Errors) {
    if let Err(error) = serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(bytes) {
        // The error says where, never what.
        errors.invalid(path, "<secret contents redacted>", error.to_string());
    }
}
