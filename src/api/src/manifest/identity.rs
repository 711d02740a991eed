//! Who a pod from a file is.

use std::fmt::Write;

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::{
    core::{Pod, Toleration},
    field::{Errors, FieldError, Path},
    labels,
};

/// Names the pod as upstream names pods from files, and takes away what only an API server may say of it.
pub(super) fn assign(pod: &mut Pod, tree: &Value, file_name: &str, node_name: &str) {
    let uid = uid(tree, file_name, node_name);
    let metadata = &mut pod.metadata;
    if let Some(name) = &mut metadata.name {
        *name = format!("{name}-{}", node_name.to_lowercase());
    }
    metadata.namespace.get_or_insert_with(|| "default".to_owned());
    metadata.creation_timestamp = None;
    metadata.deletion_grace_period_seconds = None;
    metadata.deletion_timestamp = None;
    metadata.generation = None;
    metadata.managed_fields = None;
    metadata.resource_version = None;
    metadata.self_link = None;
    let annotations = metadata.annotations.get_or_insert_default();
    annotations.insert(labels::CONFIG_SOURCE.to_owned(), labels::CONFIG_SOURCE_FILE.to_owned());
    annotations.insert(labels::CONFIG_HASH.to_owned(), uid.clone());
    metadata.uid = Some(uid);

    let spec = pod.spec.get_or_insert_default();
    spec.node_name = Some(node_name.to_owned());
    // Trouble with the node is no reason to evict what the node's owner put there.
    let stays = Toleration {
        effect: Some("NoExecute".to_owned()),
        operator: Some("Exists".to_owned()),
        ..Toleration::default()
    };
    let tolerations = spec.tolerations.get_or_insert_default();
    if !tolerations.contains(&stays) {
        tolerations.push(stays);
    }
    pod.status = None;
}

/// The name must still be one with the node's as suffix.
pub(super) fn validate(pod: &Pod) -> Vec<FieldError> {
    let mut errors = Errors::default();
    if let Some(name) = &pod.metadata.name
        && name.len() > 253
    {
        errors.invalid(
            &Path::root("metadata").child("name"),
            name.as_str(),
            "with the node's name as suffix it must be no more than 253 characters",
        );
    }
    errors.into_vec()
}

/// A hash of what is written, not of what was made of it: a new version of ours with another default restarts
/// nothing. Order of fields, comments and layout don't count.
fn uid(tree: &Value, file_name: &str, node_name: &str) -> String {
    let mut hash = Sha256::new();
    digest(tree, &mut hash);
    for part in [node_name, file_name] {
        hash.update([0]);
        hash.update(part);
    }
    hash.finalize()[..16].iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a string succeeds");
        text
    })
}

fn digest(tree: &Value, hash: &mut Sha256) {
    match tree {
        Value::Object(fields) => {
            let mut fields: Vec<_> = fields.iter().collect();
            fields.sort_unstable_by_key(|(name, _)| *name);
            hash.update(format!("{{{}", fields.len()));
            for (name, value) in fields {
                hash.update(format!("{}:{name}", name.len()));
                digest(value, hash);
            }
        }
        Value::Array(items) => {
            hash.update(format!("[{}", items.len()));
            for item in items {
                digest(item, hash);
            }
        }
        Value::String(text) => hash.update(format!("{}\"{text}", text.len())),
        Value::Null | Value::Bool(_) | Value::Number(_) => hash.update(format!("{tree};")),
    }
}
