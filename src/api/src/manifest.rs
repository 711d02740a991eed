//! A manifest: the bytes of a file to a pod, or to errors that name the field.
//!
//! [`decode`] parses strictly (a field nobody knows is an error, not a surprise at run time), sets [`defaults`],
//! [`validate`]s, and gives the pod the identity of a pod from a file. A file holds one `v1` `Pod`, in YAML or JSON.

mod identity;
mod syntax;

pub use crate::field::{FieldError, Problem};
use crate::{
    core::Pod,
    field,
    pod::{defaults::defaults, validate},
};

/// No manifest is longer, as upstream has it.
pub const MAX_BYTES: usize = 10 << 20;

/// Why a file gives no pod.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// Neither YAML nor JSON, or beyond what a manifest may cost to read.
    #[error("not valid YAML or JSON: {0}")]
    Syntax(String),
    /// Longer than [`MAX_BYTES`].
    #[error("longer than {} MiB, the most a manifest may be", MAX_BYTES >> 20)]
    TooLong,
    /// Nothing, or nothing but comments.
    #[error("holds no object: write one v1 Pod, or remove the file")]
    Empty,
    /// More than one YAML document.
    #[error("holds {0} documents: write each pod in a file of its own")]
    SeveralDocuments(usize),
    /// A list of pods.
    #[error("holds a {0}: write each pod of the list in a file of its own, with apiVersion: v1 and kind: Pod")]
    List(String),
    /// Some other kind of object, or none.
    #[error("holds {found}, not a Pod: begin with apiVersion: v1 and kind: Pod")]
    NotAPod {
        /// What was found instead.
        found: String,
    },
    /// A Pod whose fields are wrong.
    #[error("{}", field::join(.0))]
    Fields(Vec<FieldError>),
}

/// Reads the manifest `file_name` as a pod of the node `node_name`: decoded, defaulted, validated, named.
///
/// `file_name` and `node_name` only take part in the pod's identity: its name gets the node's as suffix, and its UID
/// is a hash of what is written, the node and the file, so that a changed manifest is another pod.
pub fn decode(bytes: &[u8], file_name: &str, node_name: &str) -> Result<Pod, ManifestError> {
    if bytes.len() > MAX_BYTES {
        return Err(ManifestError::TooLong);
    }
    let tree = syntax::parse(bytes)?;
    let (mut pod, mut errors) = syntax::typed(&tree)?;
    defaults(&mut pod);
    errors.extend(validate::from_file(&pod));
    identity::assign(&mut pod, &tree, file_name, node_name);
    errors.extend(identity::validate(&pod));
    if errors.is_empty() {
        Ok(pod)
    } else {
        Err(ManifestError::Fields(errors))
    }
}

#[cfg(test)]
mod tests;
