//! Pods: what each of their parts may change, and when.

mod resize;
mod warnings;

use std::collections::BTreeMap;

use bosun_api::{
    core::{Affinity, Container, ContainerStatus, Pod, PodCondition, PodSpec, Toleration},
    field::{Errors, OrEmpty, Path},
    names,
    pod::{self, Origin, validate},
    qos_class, selector,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};

pub(crate) use warnings::warnings;

use crate::{Context, difference, kind::Kind};

pub(crate) struct Pods;

const MIRROR: &str = "kubernetes.io/config.mirror";

const UPDATABLE: &str = "`spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,\
    `spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be \
    set to 1 if it was previously negative)";

impl Kind for Pods {
    type Object = Pod;

    fn default(pod: &mut Pod) {
        pod::defaults::defaults(pod);
    }

    fn prepare_create(pod: &mut Pod, _: &Context<'_>) {
        select_by_own_labels(pod);
        let Some(spec) = &pod.spec else { return };
        let class = qos_class(spec).to_string();
        let gated = spec.scheduling_gates.is_given();
        let status = pod.status.get_or_insert_default();
        status.phase = Some("Pending".to_owned());
        status.qos_class = Some(class);
        if gated {
            status.conditions = Some(vec![PodCondition {
                type_: "PodScheduled".to_owned(),
                status: "False".to_owned(),
                reason: Some("SchedulingGated".to_owned()),
                message: Some("Scheduling is blocked due to non-empty scheduling gates".to_owned()),
                ..PodCondition::default()
            }]);
        }
    }

    fn validate(pod: &Pod, errors: &mut Errors) {
        let path = Path::root("spec");
        let Some(spec) = &pod.spec else {
            return errors.required(&path.child("containers"), "");
        };
        let annotations = pod.metadata.annotations.or_empty();
        validate::pod_annotations(annotations, spec, &Path::root("metadata.annotations"), errors);
        validate::spec(spec, pod.metadata.name.as_deref(), Origin::Api, &path, errors);
        if spec.service_account_name.is_given() {
            return;
        }
        for (path, volume) in path.child("volumes").each(spec.volumes.or_empty()) {
            let sources = volume
                .projected
                .as_ref()
                .map_or(&[][..], |projected| projected.sources.or_empty());
            for (path, source) in path.child("projected.sources").each(sources) {
                if source.service_account_token.is_some() {
                    errors.forbidden(
                        &path.child("serviceAccountToken"),
                        "must not be specified when serviceAccountName is not set",
                    );
                }
            }
        }
    }

    fn validate_create(pod: &Pod, errors: &mut Errors) {
        Self::validate(pod, errors);
        let Some(spec) = &pod.spec else { return };
        let path = Path::root("spec");
        if spec.ephemeral_containers.is_given() {
            errors.forbidden(&path.child("ephemeralContainers"), "cannot be set on create");
        }
        if spec.node_name.is_given() && spec.scheduling_gates.is_given() {
            errors.forbidden(
                &path.child("nodeName"),
                "cannot be set until all schedulingGates have been cleared",
            );
        }
    }

    fn prepare_update(pod: &mut Pod, old: &Pod, context: &Context<'_>) {
        match context.subresource {
            "status" => {
                pod.metadata.owner_references.clone_from(&old.metadata.owner_references);
                let before = old.status.as_ref().and_then(|status| status.qos_class.clone());
                let status = pod.status.get_or_insert_default();
                if !status.qos_class.is_given() {
                    status.qos_class = before;
                }
            }
            "ephemeralcontainers" => {
                let added = pod.spec.take().and_then(|spec| spec.ephemeral_containers);
                only_spec(pod, old).ephemeral_containers = added;
                pod::defaults::defaults(pod);
            }
            "resize" => {
                let asked = pod.spec.take().unwrap_or_default();
                resize::take(only_spec(pod, old), &asked);
            }
            _ => {}
        }
    }

    fn validate_update(pod: &Pod, old: &Pod, errors: &mut Errors) {
        Self::validate(pod, errors);
        annotation_changes(pod, old, errors);
        if let (Some(new), Some(old)) = (&pod.spec, &old.spec) {
            spec_changes(new, old, errors);
        }
    }

    fn validate_part(pod: &Pod, old: &Pod, part: &str, errors: &mut Errors) {
        match part {
            "status" => status(pod, old, errors),
            "ephemeralcontainers" => ephemeral_changes(pod, old, errors),
            "resize" => resize::changes(pod, old, errors),
            _ => {}
        }
    }

    fn warnings(pod: &Pod) -> Vec<String> {
        pod.spec
            .as_ref()
            .map_or_else(Vec::new, |spec| warnings(spec, &Path::root("spec")))
    }
}

/// Everything as it was, but for what the caller then puts into the returned spec.
fn only_spec<'a>(pod: &'a mut Pod, old: &Pod) -> &'a mut PodSpec {
    let version = pod.metadata.resource_version.take();
    *pod = old.clone();
    pod.metadata.resource_version = version;
    pod.spec.get_or_insert_default()
}

/// `matchLabelKeys` become what they mean: selection by the value that this pod has.
fn select_by_own_labels(pod: &mut Pod) {
    let labels = pod.metadata.labels.or_empty().clone();
    let Some(spec) = &mut pod.spec else { return };
    let add = |selector: &mut Option<LabelSelector>, keys: &[String], operator: &str| {
        let Some(selector) = selector else { return };
        for key in keys {
            if let Some(value) = labels.get(key) {
                let expressions = selector.match_expressions.get_or_insert_default();
                let expression = LabelSelectorRequirement {
                    key: key.clone(),
                    operator: operator.to_owned(),
                    values: Some(vec![value.clone()]),
                };
                if !expressions.contains(&expression) {
                    expressions.push(expression);
                }
            }
        }
    };
    let mut terms = Vec::new();
    if let Some(Affinity {
        pod_affinity,
        pod_anti_affinity,
        ..
    }) = &mut spec.affinity
    {
        if let Some(pods) = pod_affinity {
            let required = &mut pods.required_during_scheduling_ignored_during_execution;
            terms.extend(required.iter_mut().flatten());
            let preferred = &mut pods.preferred_during_scheduling_ignored_during_execution;
            terms.extend(preferred.iter_mut().flatten().map(|term| &mut term.pod_affinity_term));
        }
        if let Some(pods) = pod_anti_affinity {
            let required = &mut pods.required_during_scheduling_ignored_during_execution;
            terms.extend(required.iter_mut().flatten());
            let preferred = &mut pods.preferred_during_scheduling_ignored_during_execution;
            terms.extend(preferred.iter_mut().flatten().map(|term| &mut term.pod_affinity_term));
        }
    }
    for term in terms {
        add(&mut term.label_selector, term.match_label_keys.or_empty(), "In");
        add(&mut term.label_selector, term.mismatch_label_keys.or_empty(), "NotIn");
    }
}

fn annotation_changes(pod: &Pod, old: &Pod, errors: &mut Errors) {
    let path = Path::root("metadata.annotations").key(MIRROR);
    let (new, old) = (
        pod.metadata.annotations.or_empty().get(MIRROR),
        old.metadata.annotations.or_empty().get(MIRROR),
    );
    match (new, old) {
        (Some(_), None) => errors.forbidden(&path, "may not add mirror pod annotation"),
        (new, Some(old)) if new != Some(old) => {
            errors.forbidden(&path, "may not remove or update mirror pod annotation");
        }
        _ => {}
    }
}

/// A pod that exists is what it is, but for a few fields.
fn spec_changes(new: &PodSpec, old: &PodSpec, errors: &mut Errors) {
    let path = Path::root("spec");
    for (field, new, old) in [
        ("containers", &new.containers[..], &old.containers[..]),
        (
            "initContainers",
            new.init_containers.or_empty(),
            old.init_containers.or_empty(),
        ),
    ] {
        if new.len() != old.len() {
            return errors.forbidden(&path.child(field), "pod updates may not add or remove containers");
        }
    }
    let deadline = path.child("activeDeadlineSeconds");
    match (new.active_deadline_seconds, old.active_deadline_seconds) {
        (Some(new), Some(old)) if new > old => {
            return errors.invalid(&deadline, new, "must be less than or equal to previous value");
        }
        (None, Some(_)) => errors.invalid(
            &deadline,
            serde_json::Value::Null,
            "must not update from a positive integer to nil value",
        ),
        _ => {}
    }
    only_added_tolerations(new.tolerations.or_empty(), old.tolerations.or_empty(), errors);
    for (path, gate) in path.child("schedulingGates").each(new.scheduling_gates.or_empty()) {
        if !old.scheduling_gates.or_empty().contains(gate) {
            errors.forbidden(
                &path.child("name"),
                format!(
                    "only deletion is allowed, but found new scheduling gate '{}'",
                    gate.name
                ),
            );
        }
    }
    let mut same = new.clone();
    images(&mut same.containers, &old.containers);
    images(
        same.init_containers.as_deref_mut().unwrap_or_default(),
        old.init_containers.or_empty(),
    );
    same.active_deadline_seconds = old.active_deadline_seconds;
    same.scheduling_gates.clone_from(&old.scheduling_gates);
    same.tolerations.clone_from(&old.tolerations);
    if old.termination_grace_period_seconds.is_some_and(|seconds| seconds < 0)
        && new.termination_grace_period_seconds == Some(1)
    {
        same.termination_grace_period_seconds = old.termination_grace_period_seconds;
    }
    if old.scheduling_gates.is_given() {
        gated_changes(&mut same, old, &path, errors);
    }
    if same != *old {
        let changed = difference::between(&same, old, "spec");
        errors.forbidden(
            &path,
            format!("pod updates may not change fields other than {UPDATABLE}\n{changed}"),
        );
    }
}

fn images(new: &mut [Container], old: &[Container]) {
    for (new, old) in new.iter_mut().zip(old) {
        new.image.clone_from(&old.image);
    }
}

fn only_added_tolerations(new: &[Toleration], old: &[Toleration], errors: &mut Errors) {
    let kept = |old: &Toleration| {
        new.iter().any(|new| {
            let same_time = Toleration {
                toleration_seconds: new.toleration_seconds,
                ..old.clone()
            };
            *new == same_time
        })
    };
    if !old.iter().all(kept) {
        errors.forbidden(
            &Path::root("spec.tolerations"),
            "existing toleration can not be modified except its tolerationSeconds",
        );
    }
}

/// A pod that may not be scheduled yet may still be bound to fewer nodes.
fn gated_changes(new: &mut PodSpec, old: &PodSpec, path: &Path, errors: &mut Errors) {
    if !selector::includes(new.node_selector.or_empty(), old.node_selector.or_empty()) {
        errors.invalid_object(
            &path.child("nodeSelector"),
            &new.node_selector,
            "only additions to spec.nodeSelector are allowed (no mutations or deletions)",
        );
    }
    new.node_selector.clone_from(&old.node_selector);
    let before = old
        .affinity
        .as_ref()
        .and_then(|affinity| affinity.node_affinity.clone());
    let now = new
        .affinity
        .as_ref()
        .and_then(|affinity| affinity.node_affinity.clone());
    let required = |affinity: &Option<bosun_api::core::NodeAffinity>| {
        affinity
            .as_ref()
            .and_then(|affinity| affinity.required_during_scheduling_ignored_during_execution.as_ref())
            .map_or_else(Vec::new, |required| required.node_selector_terms.clone())
    };
    let (old_terms, new_terms) = (required(&before), required(&now));
    let path = path.child("affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms");
    if !old_terms.is_empty() && old_terms.len() != new_terms.len() {
        errors.invalid_object(
            &path,
            &new_terms,
            "no additions/deletions to non-empty NodeSelectorTerms list are allowed",
        );
    } else {
        for (at, (old, new)) in old_terms.iter().zip(&new_terms).enumerate() {
            let grown = new
                .match_expressions
                .or_empty()
                .starts_with(old.match_expressions.or_empty())
                && new.match_fields.or_empty().starts_with(old.match_fields.or_empty())
                && (old.match_expressions.is_given() || old.match_fields.is_given() || new == old);
            if !grown {
                errors.invalid_object(
                    &path.index(at),
                    new,
                    "only additions are allowed (no mutations or deletions)",
                );
            }
        }
    }
    match (&mut new.affinity, before) {
        (None, None) => {}
        (affinity @ None, Some(before)) => {
            *affinity = Some(Affinity {
                node_affinity: Some(before),
                ..Affinity::default()
            });
        }
        (Some(affinity), before) => {
            affinity.node_affinity = before;
            if old.affinity.is_none() && *affinity == Affinity::default() {
                new.affinity = None;
            }
        }
    }
}

fn status(pod: &Pod, old: &Pod, errors: &mut Errors) {
    annotation_changes(pod, old, errors);
    let path = Path::root("status");
    let (Some(new), Some(spec)) = (&pod.status, &old.spec) else {
        return;
    };
    let before = old.status.clone().unwrap_or_default();
    for (path, condition) in Path::root("metadata.conditions").each(new.conditions.or_empty()) {
        errors.check(&path.child("Type"), &condition.type_, names::qualified);
    }
    if new.nominated_node_name != before.nominated_node_name && new.nominated_node_name.is_given() {
        errors.check(
            &path.child("nominatedNodeName"),
            new.nominated_node_name.or_empty(),
            names::dns_subdomain,
        );
    }
    if before.qos_class.is_given() {
        errors.immutable(&path.child("qosClass"), &new.qos_class, &before.qos_class);
    }
    let policy = spec.restart_policy.or_empty();
    let own: BTreeMap<&str, &str> = spec
        .init_containers
        .or_empty()
        .iter()
        .chain(&spec.containers)
        .filter_map(|container| Some((container.name.as_str(), container.restart_policy.as_deref()?)))
        .collect();
    for (field, new, before, policy) in [
        (
            "containerStatuses",
            &new.container_statuses,
            &before.container_statuses,
            policy,
        ),
        (
            "initContainerStatuses",
            &new.init_container_statuses,
            &before.init_container_statuses,
            policy,
        ),
        (
            "ephemeralContainerStatuses",
            &new.ephemeral_container_statuses,
            &before.ephemeral_container_statuses,
            "Never",
        ),
    ] {
        terminated_stay(
            new.or_empty(),
            before.or_empty(),
            policy,
            &own,
            &path.child(field),
            errors,
        );
    }
    let pod_ips: Vec<_> = new.pod_ips.or_empty().iter().map(|ip| ip.ip.as_str()).collect();
    addresses(&pod_ips, &path.child("podIPs"), errors);
    let host_ips: Vec<_> = new.host_ips.or_empty().iter().map(|ip| ip.ip.as_str()).collect();
    if let Some(first) = host_ips.first()
        && new.host_ip.or_empty() != *first
    {
        errors.invalid(
            &path.child("hostIPs").index(0).child("ip"),
            *first,
            "must be equal to `hostIP`",
        );
    }
    addresses(&host_ips, &path.child("hostIPs"), errors);
}

/// A container that ended for good doesn't come back.
fn terminated_stay(
    new: &[ContainerStatus],
    old: &[ContainerStatus],
    policy: &str,
    own: &BTreeMap<&str, &str>,
    path: &Path,
    errors: &mut Errors,
) {
    for (path, old) in path.each(old) {
        let policy = own.get(old.name.as_str()).copied().unwrap_or(policy);
        let Some(ended) = old.state.as_ref().and_then(|state| state.terminated.as_ref()) else {
            continue;
        };
        if policy == "Always" || (ended.exit_code != 0 && policy == "OnFailure") {
            continue;
        }
        let back = new
            .iter()
            .any(|new| new.name == old.name && new.state.as_ref().is_none_or(|state| state.terminated.is_none()));
        // Rules of its own may restart a container whatever its policy says.
        if back && !own.contains_key(old.name.as_str()) {
            errors.forbidden(&path.child("state"), "may not be transitioned to non-terminated state");
        }
    }
}

/// At most one address of each family, none twice.
pub(crate) fn addresses(addresses: &[&str], path: &Path, errors: &mut Errors) {
    for (path, address) in path.each(addresses) {
        errors.check(&path, address, names::ip_address);
    }
    let of_v6 = addresses.iter().filter(|address| address.contains(':')).count();
    if of_v6 > 1 || addresses.len() - of_v6 > 1 {
        errors.invalid_object(path, &addresses, "may specify no more than one IP for each IP family");
    }
    for (at, address) in addresses.iter().enumerate() {
        if addresses[..at].contains(address) {
            errors.duplicate(&path.index(at), *address);
        }
    }
}

fn ephemeral_changes(pod: &Pod, old: &Pod, errors: &mut Errors) {
    if old.metadata.annotations.or_empty().contains_key(MIRROR) {
        return errors.forbidden(&Path::object(), "static pods do not support ephemeral containers");
    }
    Pods::validate(pod, errors);
    let path = Path::root("spec.ephemeralContainers");
    let of = |pod: &Pod| {
        let spec = pod.spec.as_ref();
        spec.map_or_else(Vec::new, |spec| spec.ephemeral_containers.or_empty().to_vec())
    };
    let new = of(pod);
    for old in of(old) {
        match new.iter().find(|new| new.name == old.name) {
            None => errors.forbidden(
                &path,
                format!("existing ephemeral containers {:?} may not be removed\n", old.name),
            ),
            Some(new) if *new != old => {
                let changed = difference::between(new, &old, "");
                let name = &old.name;
                errors.forbidden(
                    &path,
                    format!("existing ephemeral containers {name:?} may not be changed\n{changed}"),
                );
            }
            Some(_) => {}
        }
    }
}

#[cfg(test)]
mod tests;
