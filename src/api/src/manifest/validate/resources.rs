//! Requests and limits.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Written;

use crate::{
    core::ResourceRequirements,
    manifest::field::{Errors, Path},
    names,
    quantity::Quantity,
};

/// Amounts parse, are not negative, and no request exceeds its limit.
pub(super) fn validate(resources: Option<&ResourceRequirements>, path: &Path, whole_pod: bool, errors: &mut Errors) {
    let Some(resources) = resources else { return };
    if resources.claims.as_ref().is_some_and(|claims| !claims.is_empty()) {
        errors.forbidden(&path.child("claims"), super::needs_api_server("resource claims"));
    }
    let limits = amounts(resources.limits.as_ref(), &path.child("limits"), whole_pod, errors);
    let requests = amounts(resources.requests.as_ref(), &path.child("requests"), whole_pod, errors);
    for (name, request) in requests {
        let path = path.child("requests").key(name);
        match limits.get(name) {
            Some(limit) if request > *limit => {
                errors.invalid(
                    &path,
                    request,
                    format!("must be less than or equal to {name} limit of {limit}"),
                );
            }
            Some(limit) if !may_differ(name) && request != *limit => {
                errors.invalid(&path, request, format!("must be equal to {name} limit of {limit}"));
            }
            None if !may_differ(name) => {
                errors.required(
                    &path,
                    &format!("a limit of {name} must be given, the same as the request"),
                );
            }
            _ => {}
        }
    }
}

/// Whether a request may be smaller than the limit: only what the kernel can share out.
fn may_differ(name: &str) -> bool {
    matches!(name, "cpu" | "memory" | "ephemeral-storage")
}

fn amounts<'a>(
    list: Option<&'a BTreeMap<String, Written>>,
    path: &Path,
    whole_pod: bool,
    errors: &mut Errors,
) -> BTreeMap<&'a str, Quantity> {
    let mut amounts = BTreeMap::new();
    for (name, written) in list.into_iter().flatten() {
        let path = path.key(name);
        match name.as_str() {
            "cpu" | "memory" => {}
            "ephemeral-storage" if !whole_pod => {}
            name if name.starts_with("hugepages-") => {
                if let Err(error) = name["hugepages-".len()..].parse::<Quantity>() {
                    errors.invalid(&path, name, error.to_string());
                }
            }
            _ if whole_pod => errors.invalid(&path, name, "must be cpu, memory or hugepages-* for the pod as a whole"),
            name if name.contains('/') => errors.check(&path, name, names::qualified),
            name => errors.invalid(
                &path,
                name,
                "must be a standard resource for containers, or a name such as example.com/gpu",
            ),
        }
        match Quantity::of(written) {
            Err(error) => errors.invalid(&path, &written.0, error.to_string()),
            Ok(amount) if amount.is_negative() => {
                errors.invalid(&path, &written.0, "must be greater than or equal to 0");
            }
            Ok(amount) if name.contains('/') && !amount.is_whole() => {
                errors.invalid(&path, &written.0, "must be an integer");
            }
            Ok(amount) => {
                amounts.insert(name.as_str(), amount);
            }
        }
    }
    amounts
}
