//! Bytes to a tree, and the tree to a typed pod, keeping account of fields and of what doesn't fit.

use serde_json::Value;
use serde_saphyr::options::DuplicateKeyPolicy;

use super::ManifestError;
use crate::{
    core::Pod,
    field::{FieldError, Problem},
};

/// The one document of a file. JSON is read as the YAML it is, so that a key given twice is an error in both.
pub(super) fn parse(bytes: &[u8]) -> Result<Value, ManifestError> {
    let text = std::str::from_utf8(bytes)
        .map_err(|error| ManifestError::Syntax(format!("byte {} is not UTF-8", error.valid_up_to())))?;
    // Far beyond any pod, far below what would be felt: aliases of aliases are how small files grow large.
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: 64,
            max_documents: 64,
            max_events: 200_000,
            max_nodes: 100_000,
            max_anchors: 1_000,
            max_aliases: 1_000,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: 100_000,
            max_replay_stack_depth: 16,
        },
        duplicate_keys: DuplicateKeyPolicy::Error,
        legacy_octal_numbers: true,
        with_snippet: false,
    };
    let mut documents: Vec<Value> = serde_saphyr::from_multiple_with_options(text, options)
        .map_err(|error| ManifestError::Syntax(one_line(&error.to_string())))?;
    documents.retain(|document| !document.is_null());
    match documents.len() {
        0 => Err(ManifestError::Empty),
        1 => Ok(documents.remove(0)),
        several => Err(ManifestError::SeveralDocuments(several)),
    }
}

/// The tree as a pod, with an error for every field that a pod doesn't have.
pub(super) fn typed(tree: &Value) -> Result<(Pod, Vec<FieldError>), ManifestError> {
    is_a_pod(tree)?;
    let mut unknown = Vec::new();
    let mut note = |path: serde_ignored::Path<'_>| {
        unknown.push(FieldError {
            field: path_text(&path),
            problem: Problem::Unknown,
        });
    };
    match serde_path_to_error::deserialize(serde_ignored::Deserializer::new(tree, &mut note)) {
        Ok(pod) => Ok((pod, unknown)),
        Err(error) => {
            let field = error.path().to_string();
            unknown.push(FieldError {
                field,
                problem: Problem::WrongType(explain(&error.into_inner().to_string())),
            });
            Err(ManifestError::Fields(unknown))
        }
    }
}

fn is_a_pod(tree: &Value) -> Result<(), ManifestError> {
    let word = |field: &str| tree.get(field).and_then(Value::as_str).unwrap_or_default();
    let found = match (word("apiVersion"), word("kind")) {
        ("v1", "Pod") => return Ok(()),
        ("v1", kind @ ("List" | "PodList")) => return Err(ManifestError::List(kind.to_owned())),
        _ if !tree.is_object() => "a bare value".to_owned(),
        (_, "") => "an object without a kind".to_owned(),
        ("", kind) => format!("a {kind} without an apiVersion"),
        (version, kind) => format!("a {kind} of {version}"),
    };
    Err(ManifestError::NotAPod { found })
}

/// `invalid type: integer `1`, expected a string` with the remedy people need most often.
fn explain(message: &str) -> String {
    let message = one_line(message.strip_prefix("invalid type: ").unwrap_or(message));
    if message.ends_with("expected a string") && !message.starts_with("null") {
        format!("{message} (put it in quotes)")
    } else {
        message
    }
}

fn path_text(path: &serde_ignored::Path<'_>) -> String {
    use serde_ignored::Path;
    match path {
        Path::Root => String::new(),
        Path::Seq { parent, index } => format!("{}[{index}]", path_text(parent)),
        Path::Map { parent, key } => {
            let parent = path_text(parent);
            if parent.is_empty() {
                key.clone()
            } else {
                format!("{parent}.{key}")
            }
        }
        Path::Some { parent } | Path::NewtypeStruct { parent } | Path::NewtypeVariant { parent } => path_text(parent),
    }
}

fn one_line(message: &str) -> String {
    message.split_whitespace().collect::<Vec<_>>().join(" ")
}
