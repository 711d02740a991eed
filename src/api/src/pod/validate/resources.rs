//! Requests and limits.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Written;

use crate::{
    core::{PodSpec, ResourceRequirements},
    field::{Errors, OrEmpty, Path, Problem},
    names,
    pod::{Origin, defaults::together},
    quantity::Quantity,
};

/// Amounts by the names of resources.
pub type Amounts = BTreeMap<String, Written>;

const HUGE: &str = "hugepages-";

/// Resources of a single container.
pub fn container(
    resources: Option<&ResourceRequirements>,
    claims: &BTreeSet<&str>,
    origin: Origin,
    path: &Path,
    errors: &mut Errors,
) {
    let Some(resources) = resources else { return };
    requirements(resources, container_name, path, errors);
    let path = path.child("claims");
    if origin == Origin::File && resources.claims.is_given() {
        return errors.forbidden(&path, super::needs_api_server("resource claims"));
    }
    claim_names(resources, claims, &path, errors);
}

/// Resources of the pod as a whole, which must hold its containers'.
pub fn whole_pod(spec: &PodSpec, origin: Origin, path: &Path, errors: &mut Errors) {
    let Some(resources) = &spec.resources else { return };
    if resources.claims.is_some() {
        errors.forbidden(
            &path.child("claims"),
            match origin {
                Origin::File => super::needs_api_server("resource claims"),
                _ => "claims cannot be set for Resources at pod-level".to_owned(),
            },
        );
    }
    requirements(resources, whole_pod_name, path, errors);
    for name in resources
        .requests
        .or_empty()
        .keys()
        .chain(resources.limits.or_empty().keys())
    {
        let (Some(Ok(needed)), Some(given)) = (
            together(spec, name).map(|written| Quantity::of(&written)),
            resources.requests.or_empty().get(name),
        ) else {
            continue;
        };
        if Quantity::of(given).is_ok_and(|given| needed > given) {
            errors.invalid(
                &path.child("requests").key(name),
                given.0.as_str(),
                format!("must be greater than or equal to aggregate container requests of {needed}"),
            );
        }
    }
    for (path, container) in path.child("containers").each(&spec.containers) {
        let limits = container
            .resources
            .as_ref()
            .and_then(|resources| resources.limits.as_ref());
        for (name, limit) in limits.into_iter().flatten() {
            if let (Ok(limit), Some(Ok(most))) = (
                Quantity::of(limit),
                resources.limits.or_empty().get(name).map(Quantity::of),
            ) && limit > most
            {
                errors.invalid(
                    &path.key(name).child("limits"),
                    limit.to_string(),
                    format!("must be less than or equal to pod limits of {most}"),
                );
            }
        }
    }
}

/// What running a pod costs beyond its containers.
pub fn overhead(overhead: &Amounts, path: &Path, errors: &mut Errors) {
    let resources = ResourceRequirements {
        limits: Some(overhead.clone()),
        ..ResourceRequirements::default()
    };
    requirements(&resources, container_name, path, errors);
}

/// Requests and limits of a claim of storage, or of anything else whose resources may have any name.
pub fn requirements(
    resources: &ResourceRequirements,
    check_name: fn(&str, &Path, &mut Errors),
    path: &Path,
    errors: &mut Errors,
) {
    let (limit_path, request_path) = (path.child("limits"), path.child("requests"));
    let limits = amounts(resources.limits.or_empty(), check_name, &limit_path, errors);
    let requests = amounts(resources.requests.or_empty(), check_name, &request_path, errors);
    for (name, request) in &requests {
        let shareable = may_differ(name);
        match limits.get(name) {
            Some(limit) if !shareable && request != limit => {
                let detail = format!("must be equal to {name} limit of {limit}");
                errors.invalid(&request_path, request.to_string(), detail);
            }
            Some(limit) if request > limit => {
                let detail = format!("must be less than or equal to {name} limit of {limit}");
                errors.invalid(&request_path, request.to_string(), detail);
            }
            None if !shareable => errors.required(&limit_path, "Limit must be set for non overcommitable resources"),
            _ => {}
        }
    }
    let any = |name: &dyn Fn(&str) -> bool| limits.keys().chain(requests.keys()).any(|given| name(given));
    if any(&|name| name.starts_with(HUGE)) && !any(&|name| matches!(name, "cpu" | "memory")) {
        errors.forbidden(path, "HugePages require cpu or memory");
    }
}

/// Whether a request may be smaller than the limit: only what the kernel can share out.
pub fn may_differ(name: &str) -> bool {
    is_native(name) && !name.starts_with(HUGE)
}

/// Names the project itself gives.
pub fn is_native(name: &str) -> bool {
    !name.contains('/') || name.contains("kubernetes.io/")
}

/// Names such as `example.com/gpu`.
pub fn is_extended(name: &str) -> bool {
    !is_native(name) && !name.starts_with("requests.") && names::qualified(&format!("requests.{name}")).is_ok()
}

fn amounts<'a>(
    list: &'a Amounts,
    check_name: fn(&str, &Path, &mut Errors),
    path: &Path,
    errors: &mut Errors,
) -> BTreeMap<&'a str, Quantity> {
    let mut amounts = BTreeMap::new();
    for (name, written) in list {
        let path = path.key(name);
        check_name(name, &path, errors);
        let Some(amount) = quantity(name, written, &path, errors) else {
            continue;
        };
        if let Some(size) = name.strip_prefix(HUGE)
            && !size.parse::<Quantity>().is_ok_and(|size| amount.is_multiple_of(size))
        {
            let detail = format!("{amount} is not positive integer multiple of {name}");
            errors.invalid(&path, amount.to_string(), detail);
        }
        amounts.insert(name.as_str(), amount);
    }
    amounts
}

/// The amount of a resource: not negative, and whole where it can't be divided.
pub fn quantity(name: &str, written: &Written, path: &Path, errors: &mut Errors) -> Option<Quantity> {
    match Quantity::of(written) {
        Err(error) => {
            errors.invalid(path, written.0.as_str(), error.to_string());
            None
        }
        Ok(amount) => {
            if amount.is_negative() {
                errors.invalid(path, amount.to_string(), "must be greater than or equal to 0");
            }
            if is_counted(name) && !amount.is_whole() {
                errors.invalid(path, amount.to_string(), "must be an integer");
            }
            Some(amount)
        }
    }
}

/// Whether a resource is counted rather than measured.
fn is_counted(name: &str) -> bool {
    matches!(
        name,
        "pods"
            | "resourcequotas"
            | "services"
            | "replicationcontrollers"
            | "secrets"
            | "configmaps"
            | "persistentvolumeclaims"
            | "services.nodeports"
            | "services.loadbalancers"
    ) || name.starts_with("count/")
        || is_extended(name)
}

const STANDARD: &[&str] = &[
    "cpu",
    "memory",
    "ephemeral-storage",
    "requests.cpu",
    "requests.memory",
    "requests.ephemeral-storage",
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
    "pods",
    "resourcequotas",
    "services",
    "replicationcontrollers",
    "secrets",
    "configmaps",
    "persistentvolumeclaims",
    "storage",
    "requests.storage",
    "services.nodeports",
    "services.loadbalancers",
];

/// The name of a resource of any sort.
pub fn name(name: &str, path: &Path, errors: &mut Errors) {
    if let Err(detail) = names::qualified(name) {
        errors.invalid(path, name, detail);
    } else if !name.contains('/')
        && !STANDARD.contains(&name)
        && !name.starts_with(HUGE)
        && !name.starts_with("requests.hugepages-")
    {
        errors.invalid(path, name, "must be a standard resource type or fully qualified");
    }
}

/// The name of a resource that containers have.
pub fn container_name(name: &str, path: &Path, errors: &mut Errors) {
    self::name(name, path, errors);
    if !name.contains('/') {
        if !matches!(name, "cpu" | "memory" | "ephemeral-storage") && !name.starts_with(HUGE) {
            errors.invalid(path, name, "must be a standard resource for containers");
        }
    } else if !is_native(name) && !is_extended(name) {
        errors.invalid(path, name, "doesn't follow extended resource name standard");
    }
}

fn whole_pod_name(name: &str, path: &Path, errors: &mut Errors) {
    let before = errors.count();
    self::name(name, path, errors);
    if errors.count() == before && !matches!(name, "cpu" | "memory") && !name.starts_with(HUGE) {
        errors.unsupported(path, name, &["cpu", "hugepages-", "memory"]);
    }
}

/// Names of claims that the pod doesn't have, or that are given twice.
fn claim_names(resources: &ResourceRequirements, known: &BTreeSet<&str>, path: &Path, errors: &mut Errors) {
    let mut seen: BTreeSet<(&str, &str)> = BTreeSet::new();
    for (path, claim) in path.each(resources.claims.or_empty()) {
        let (name, request) = (claim.name.as_str(), claim.request.or_empty());
        if name.is_empty() {
            errors.required(&path, "");
            continue;
        }
        let overlaps = seen
            .iter()
            .any(|&(other, part)| other == name && (part.is_empty() || request.is_empty() || part == request));
        if overlaps {
            errors.duplicate(&path, name);
        } else if !request.is_empty() {
            errors.check(&path.child("request"), request, names::dns_label);
        }
        seen.insert((name, request));
        if !known.contains(name) {
            let which = if known.is_empty() {
                " which is empty".to_owned()
            } else {
                let known: Vec<_> = known.iter().copied().collect();
                format!(": {}", known.join(", "))
            };
            let detail = format!("must be one of the names in pod.spec.resourceClaims{which}");
            errors.push(&path, Problem::NotFound(name.into(), detail));
        }
    }
}
