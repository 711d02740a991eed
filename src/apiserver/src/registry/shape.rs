//! Objects as their types want them: what is decoded from a request, before anything is decided.

use std::sync::Arc;

use bosun_api::field::{FieldError, Problem};
use bosun_schema::{
    Types,
    check::{check, strict_error},
    validate,
};
use serde_json::Value;

use crate::{
    Resource, Status,
    custom::Custom,
    options::{Body, FieldValidation},
};

/// An object of the row's kind, canonical, with its defaults; and what the user is warned of.
pub(super) fn read(row: &Resource, body: Body, validation: FieldValidation) -> Result<(Value, Vec<String>), Status> {
    let Body { mut value, mistakes } = body;
    expect_kind(row, &mut value)?;
    let warnings = fit(row, &mut value, mistakes, validation)?;
    Ok((value, warnings))
}

/// Makes `object` one of the row's type.
pub(super) fn fit(
    row: &Resource,
    object: &mut Value,
    mut mistakes: Vec<String>,
    validation: FieldValidation,
) -> Result<Vec<String>, Status> {
    mistakes.extend(match &row.custom {
        None => check(&row.types, row.ty, object).map_err(|error| unusable(row, error))?,
        Some(custom) => custom_unknown(row, custom, object)?,
    });
    match validation {
        FieldValidation::Ignore => mistakes.clear(),
        FieldValidation::Warn => {}
        FieldValidation::Strict if mistakes.is_empty() => {}
        FieldValidation::Strict => return Err(unusable(row, strict_error(&mistakes))),
    }
    row.strategy.default(object);
    Ok(mistakes)
}

/// Drops what a custom resource's schema doesn't know. Only its metadata must be what it is for all; whether the rest is
/// as the schema wants it is for validation to say.
fn custom_unknown(row: &Resource, custom: &Custom, object: &mut Value) -> Result<Vec<String>, Status> {
    let types = Types::builtin();
    let mut unknown = Vec::new();
    if let (Some(ty), Some(metadata)) = (types.find(METADATA), object.get_mut("metadata")) {
        let fields = check(types, ty, metadata).map_err(|error| unusable(row, error))?;
        // Told from the metadata on: `unknown field "x"`.
        unknown.extend(fields.iter().map(|mistake| mistake.replacen('"', "\"metadata.", 1)));
    }
    let pruned = custom.version().prune(object).into_iter();
    unknown.extend(pruned.map(|path| format!("unknown field {path:?}")));
    Ok(unknown)
}

/// The metadata of every object.
const METADATA: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";

/// What the schema finds wrong with an object of a kind that has no validation of its own.
pub(super) fn faults(row: &Resource, object: &Value) -> Vec<FieldError> {
    if !row.strategy.is_plain() || !Arc::ptr_eq(&row.types, Types::builtin()) {
        return Vec::new();
    }
    let faults = validate::validate(row.ty, object).into_iter();
    let error = |fault: validate::Fault| FieldError {
        field: fault.path,
        problem: match fault.problem {
            validate::Problem::Required => Problem::Required(String::new()),
            validate::Problem::Unsupported { value, supported } => {
                Problem::Unsupported(value.into(), supported.to_vec())
            }
        },
    };
    faults.map(error).collect()
}

fn expect_kind(row: &Resource, object: &mut Value) -> Result<(), Status> {
    let Some(fields) = object.as_object_mut() else {
        return Err(unusable(row, "json: cannot unmarshal into an object"));
    };
    let expected = row.api_version();
    let given = |field: &str| fields.get(field).and_then(Value::as_str).unwrap_or_default();
    match given("apiVersion") {
        "" => {}
        version if version == expected => {}
        version => {
            return Err(Status::bad_request(format!(
                "the API version in the data ({version}) does not match the expected API version ({expected})"
            )));
        }
    }
    match given("kind") {
        "" => {}
        kind if kind == &*row.kind => {}
        kind => {
            return Err(Status::bad_request(format!(
                "{kind} in version {:?} cannot be handled as a {}",
                row.version, row.kind
            )));
        }
    }
    fields.insert("apiVersion".into(), expected.into());
    fields.insert("kind".into(), (&*row.kind).into());
    Ok(())
}

fn unusable(row: &Resource, why: impl std::fmt::Display) -> Status {
    Status::bad_request(format!(
        "{kind} in version {:?} cannot be handled as a {kind}: {why}",
        row.version,
        kind = row.kind
    ))
}
