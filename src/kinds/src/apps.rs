//! The apps group: kinds that keep a number of pods running.

use bosun_api::{
    field::{Errors, OrEmpty, Path, set_default},
    pod::{defaults::template_defaults, validate},
    selector,
};
use k8s_openapi::{
    api::apps::v1::{
        ControllerRevision, DaemonSet, DaemonSetUpdateStrategy, Deployment, DeploymentStrategy, ReplicaSet,
        RollingUpdateDaemonSet, RollingUpdateDeployment, RollingUpdateStatefulSetStrategy, StatefulSet,
        StatefulSetPersistentVolumeClaimRetentionPolicy, StatefulSetSpec,
    },
    apimachinery::pkg::util::intstr::IntOrString,
};

use crate::{Context, core::pod::warnings, kind::Kind, template};

pub(crate) struct Deployments;

impl Kind for Deployments {
    type Object = Deployment;

    fn default(deployment: &mut Deployment) {
        let Some(spec) = &mut deployment.spec else { return };
        template_defaults(&mut spec.template);
        spec.replicas.get_or_insert(1);
        let strategy = spec.strategy.get_or_insert_default();
        set_default(&mut strategy.type_, "RollingUpdate");
        if strategy.type_.or_empty() == "RollingUpdate" {
            let quarter = || IntOrString::String("25%".to_owned());
            let rolling = strategy.rolling_update.get_or_insert_default();
            rolling.max_unavailable.get_or_insert_with(quarter);
            rolling.max_surge.get_or_insert_with(quarter);
        }
        spec.revision_history_limit.get_or_insert(10);
        spec.progress_deadline_seconds.get_or_insert(600);
    }

    /// Labels are the owner's, not the controller's that reports the status.
    fn prepare_update(deployment: &mut Deployment, old: &Deployment, context: &Context<'_>) {
        if context.subresource == "status" {
            deployment.metadata.labels.clone_from(&old.metadata.labels);
        }
    }

    fn validate(deployment: &Deployment, errors: &mut Errors) {
        let path = Path::root("spec");
        let Some(spec) = &deployment.spec else {
            return errors.required(&path.child("selector"), "");
        };
        errors.at_least(&path.child("replicas"), spec.replicas, 0);
        template::required_selector(&spec.selector, &spec.template, "deployment", &path, errors);
        template::lasting(&spec.template, "ReplicaSet", &path.child("template"), errors);
        if let Some(strategy) = &spec.strategy {
            deployment_strategy(strategy, &path.child("strategy"), errors);
        }
        errors.at_least(&path.child("minReadySeconds"), spec.min_ready_seconds, 0);
        errors.at_least(&path.child("revisionHistoryLimit"), spec.revision_history_limit, 0);
        if let Some(deadline) = spec.progress_deadline_seconds {
            let path = path.child("progressDeadlineSeconds");
            errors.at_least(&path, Some(deadline), 0);
            if deadline <= spec.min_ready_seconds.unwrap_or_default() {
                errors.invalid(&path, deadline, "must be greater than minReadySeconds");
            }
        }
    }

    /// `apps/v1` promises that the selector stays: changing it would orphan the pods.
    fn validate_update(deployment: &Deployment, old: &Deployment, errors: &mut Errors) {
        if let (Some(new), Some(old)) = (&deployment.spec, &old.spec) {
            errors.immutable(&Path::root("spec.selector"), &new.selector, &old.selector);
        }
        Self::validate(deployment, errors);
    }

    fn validate_part(deployment: &Deployment, old: &Deployment, _: &str, errors: &mut Errors) {
        let Some(status) = &deployment.status else { return };
        template::counts(
            &[
                ("updatedReplicas", status.updated_replicas.map(i64::from)),
                ("readyReplicas", status.ready_replicas.map(i64::from)),
                ("availableReplicas", status.available_replicas.map(i64::from)),
            ],
            Some(status.replicas.unwrap_or_default().into()),
            errors,
        );
        let others = [
            ("observedGeneration", status.observed_generation),
            ("replicas", status.replicas.map(i64::from)),
            ("unavailableReplicas", status.unavailable_replicas.map(i64::from)),
        ];
        template::counts(&others, None, errors);
        at_most_ready(status.available_replicas, status.ready_replicas, errors);
        let before = old.status.as_ref().and_then(|status| status.collision_count);
        not_decremented(status.collision_count, before, errors);
    }

    fn warnings(deployment: &Deployment) -> Vec<String> {
        let spec = deployment.spec.as_ref().and_then(|spec| template::spec(&spec.template));
        spec.map_or_else(Vec::new, |spec| warnings(spec, &Path::root("spec.template.spec")))
    }
}

fn at_most_ready(available: Option<i32>, ready: Option<i32>, errors: &mut Errors) {
    let available = available.unwrap_or_default();
    if available > ready.unwrap_or_default() {
        errors.invalid(
            &Path::root("status.availableReplicas"),
            available,
            "cannot be greater than readyReplicas",
        );
    }
}

/// A count of collisions only grows: it makes names that were not taken before.
fn not_decremented(new: Option<i32>, old: Option<i32>, errors: &mut Errors) {
    let path = Path::root("status.collisionCount");
    errors.at_least(&path, new, 0);
    if old.is_some_and(|old| new.is_none_or(|new| new < old)) {
        errors.invalid(&path, new.unwrap_or_default(), "cannot be decremented");
    }
}

fn deployment_strategy(strategy: &DeploymentStrategy, path: &Path, errors: &mut Errors) {
    let path = &path.child("rollingUpdate");
    match (strategy.type_.or_empty(), &strategy.rolling_update) {
        ("Recreate", Some(_)) => errors.forbidden(path, "may not be specified when strategy `type` is 'Recreate'"),
        ("Recreate", None) => {}
        ("RollingUpdate", None) => errors.required(path, "this should be defaulted and never be nil"),
        ("RollingUpdate", Some(rolling)) => rolling_deployment(rolling, path, errors),
        _ => errors.unsupported(
            &Path::root("spec.strategy"),
            serde_json::to_value(strategy).unwrap_or_default(),
            &["Recreate", "RollingUpdate"],
        ),
    }
}

fn rolling_deployment(rolling: &RollingUpdateDeployment, path: &Path, errors: &mut Errors) {
    let zero = IntOrString::Int(0);
    let unavailable = rolling.max_unavailable.as_ref().unwrap_or(&zero);
    let surge = rolling.max_surge.as_ref().unwrap_or(&zero);
    let unavailable_path = path.child("maxUnavailable");
    template::number_or_percent(unavailable, &unavailable_path, errors);
    template::number_or_percent(surge, &path.child("maxSurge"), errors);
    if template::amount(unavailable) == 0 && template::amount(surge) == 0 {
        errors.invalid_object(&unavailable_path, unavailable, "may not be 0 when `maxSurge` is 0");
    }
    template::at_most_all(unavailable, &unavailable_path, errors);
}

pub(crate) struct ReplicaSets;

impl Kind for ReplicaSets {
    type Object = ReplicaSet;

    fn default(set: &mut ReplicaSet) {
        let Some(spec) = &mut set.spec else { return };
        if let Some(template) = &mut spec.template {
            template_defaults(template);
        }
        spec.replicas.get_or_insert(1);
    }

    fn validate(set: &ReplicaSet, errors: &mut Errors) {
        let path = Path::root("spec");
        let Some(spec) = &set.spec else {
            return errors.required(&path.child("selector"), "");
        };
        errors.at_least(&path.child("replicas"), spec.replicas, 0);
        errors.at_least(&path.child("minReadySeconds"), spec.min_ready_seconds, 0);
        let template = spec.template.clone().unwrap_or_default();
        template::required_selector(&spec.selector, &template, "deployment", &path, errors);
        template::lasting(&template, "ReplicaSet", &path.child("template"), errors);
    }

    fn validate_update(set: &ReplicaSet, old: &ReplicaSet, errors: &mut Errors) {
        if let (Some(new), Some(old)) = (&set.spec, &old.spec) {
            errors.immutable(&Path::root("spec.selector"), &new.selector, &old.selector);
        }
        Self::validate(set, errors);
    }

    fn validate_part(set: &ReplicaSet, _: &ReplicaSet, _: &str, errors: &mut Errors) {
        let Some(status) = &set.status else { return };
        template::counts(
            &[
                ("fullyLabeledReplicas", status.fully_labeled_replicas.map(i64::from)),
                ("readyReplicas", status.ready_replicas.map(i64::from)),
                ("availableReplicas", status.available_replicas.map(i64::from)),
            ],
            Some(status.replicas.into()),
            errors,
        );
        let others = [
            ("observedGeneration", status.observed_generation),
            ("replicas", Some(status.replicas.into())),
        ];
        template::counts(&others, None, errors);
        at_most_ready(status.available_replicas, status.ready_replicas, errors);
    }

    fn warnings(set: &ReplicaSet) -> Vec<String> {
        let template = set.spec.as_ref().and_then(|spec| spec.template.as_ref());
        let spec = template.and_then(template::spec);
        spec.map_or_else(Vec::new, |spec| warnings(spec, &Path::root("spec.template.spec")))
    }
}

pub(crate) struct StatefulSets;

impl Kind for StatefulSets {
    type Object = StatefulSet;

    fn default(set: &mut StatefulSet) {
        let Some(spec) = &mut set.spec else { return };
        template_defaults(&mut spec.template);
        set_default(&mut spec.pod_management_policy, "OrderedReady");
        let strategy = spec.update_strategy.get_or_insert_default();
        set_default(&mut strategy.type_, "RollingUpdate");
        if strategy.type_.or_empty() == "RollingUpdate" {
            let rolling = strategy.rolling_update.get_or_insert_default();
            rolling.partition.get_or_insert(0);
        }
        let claims = spec.persistent_volume_claim_retention_policy.get_or_insert_default();
        set_default(&mut claims.when_deleted, "Retain");
        set_default(&mut claims.when_scaled, "Retain");
        spec.replicas.get_or_insert(1);
        spec.revision_history_limit.get_or_insert(10);
        for claim in spec.volume_claim_templates.iter_mut().flatten() {
            crate::core::volume::claim_defaults(claim);
        }
    }

    fn validate(set: &StatefulSet, errors: &mut Errors) {
        let path = Path::root("spec");
        match &set.spec {
            Some(spec) => stateful(spec, &path, errors),
            None => errors.required(&path.child("selector"), ""),
        }
    }

    fn validate_update(set: &StatefulSet, old: &StatefulSet, errors: &mut Errors) {
        Self::validate(set, errors);
        let (Some(new), Some(old)) = (&set.spec, &old.spec) else {
            return;
        };
        let mut same = new.clone();
        same.replicas = old.replicas;
        same.template.clone_from(&old.template);
        same.update_strategy.clone_from(&old.update_strategy);
        same.min_ready_seconds = old.min_ready_seconds;
        same.ordinals.clone_from(&old.ordinals);
        same.revision_history_limit = old.revision_history_limit;
        same.persistent_volume_claim_retention_policy
            .clone_from(&old.persistent_volume_claim_retention_policy);
        if same != *old {
            errors.forbidden(
                &Path::root("spec"),
                "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', \
                 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and \
                 'minReadySeconds' are forbidden",
            );
        }
    }

    fn validate_part(set: &StatefulSet, old: &StatefulSet, _: &str, errors: &mut Errors) {
        let Some(status) = &set.status else { return };
        template::counts(
            &[
                ("readyReplicas", status.ready_replicas.map(i64::from)),
                ("currentReplicas", status.current_replicas.map(i64::from)),
                ("updatedReplicas", status.updated_replicas.map(i64::from)),
                ("availableReplicas", status.available_replicas.map(i64::from)),
            ],
            Some(status.replicas.into()),
            errors,
        );
        let others = [
            ("observedGeneration", status.observed_generation),
            ("replicas", Some(status.replicas.into())),
        ];
        template::counts(&others, None, errors);
        if status.available_replicas.unwrap_or_default() > status.ready_replicas.unwrap_or_default() {
            errors.invalid(
                &Path::root("status.availableReplicas"),
                status.available_replicas.unwrap_or_default(),
                "cannot be greater than status.readyReplicas",
            );
        }
        let before = old.status.as_ref().and_then(|status| status.collision_count);
        not_decremented(status.collision_count, before, errors);
    }

    fn warnings(set: &StatefulSet) -> Vec<String> {
        let spec = set.spec.as_ref().and_then(|spec| template::spec(&spec.template));
        spec.map_or_else(Vec::new, |spec| warnings(spec, &Path::root("spec.template.spec")))
    }
}

fn stateful(spec: &StatefulSetSpec, path: &Path, errors: &mut Errors) {
    let policy_path = path.child("podManagementPolicy");
    match spec.pod_management_policy.or_empty() {
        "" => errors.required(&policy_path, ""),
        "OrderedReady" | "Parallel" => {}
        other => errors.invalid(&policy_path, other, "must be 'OrderedReady' or 'Parallel'"),
    }
    let strategy = spec.update_strategy.clone().unwrap_or_default();
    let strategy_path = path.child("updateStrategy");
    let rolling_path = strategy_path.child("rollingUpdate");
    match (strategy.type_.or_empty(), &strategy.rolling_update) {
        ("", _) => errors.required(&strategy_path, ""),
        ("OnDelete", Some(rolling)) => errors.invalid_object(
            &rolling_path,
            rolling,
            "only allowed for updateStrategy 'RollingUpdate'",
        ),
        ("RollingUpdate", Some(rolling)) => rolling_stateful(rolling, &rolling_path, errors),
        ("OnDelete" | "RollingUpdate", None) => {}
        _ => errors.invalid_object(&strategy_path, &strategy, "must be 'RollingUpdate' or 'OnDelete'"),
    }
    if let Some(policy) = &spec.persistent_volume_claim_retention_policy {
        retention(policy, &path.child("persistentVolumeClaimRetentionPolicy"), errors);
    }
    errors.at_least(&path.child("replicas"), spec.replicas, 0);
    errors.at_least(&path.child("minReadySeconds"), spec.min_ready_seconds, 0);
    let start = spec.ordinals.as_ref().and_then(|ordinals| ordinals.start);
    errors.at_least(&path.child("ordinals.start"), start, 0);
    template::required_selector(&spec.selector, &spec.template, "statefulset", path, errors);
    // The volumes of the pods come partly from the claims, so that a template's mounts can't be checked by itself.
    let template_path = path.child("template");
    validate::template_metadata(&spec.template, &template_path, errors);
    template::always(&spec.template, "StatefulSet", &template_path, errors);
}

fn rolling_stateful(rolling: &RollingUpdateStatefulSetStrategy, path: &Path, errors: &mut Errors) {
    errors.at_least(&path.child("partition"), rolling.partition, 0);
    if let Some(unavailable) = &rolling.max_unavailable {
        let path = path.child("maxUnavailable");
        template::number_or_percent(unavailable, &path, errors);
        if template::amount(unavailable) == 0 {
            errors.invalid_object(&path, unavailable, "cannot be 0");
        }
        template::at_most_all(unavailable, &path, errors);
    }
}

fn retention(policy: &StatefulSetPersistentVolumeClaimRetentionPolicy, path: &Path, errors: &mut Errors) {
    for (field, value) in [
        ("whenDeleted", &policy.when_deleted),
        ("whenScaled", &policy.when_scaled),
    ] {
        errors.one_of(&path.child(field), Some(value.or_empty()), &["Retain", "Delete"]);
    }
}

pub(crate) struct DaemonSets;

impl Kind for DaemonSets {
    type Object = DaemonSet;

    fn default(set: &mut DaemonSet) {
        let Some(spec) = &mut set.spec else { return };
        template_defaults(&mut spec.template);
        let strategy = spec.update_strategy.get_or_insert_default();
        set_default(&mut strategy.type_, "RollingUpdate");
        if strategy.type_.or_empty() == "RollingUpdate" {
            let rolling = strategy.rolling_update.get_or_insert_default();
            rolling.max_unavailable.get_or_insert(IntOrString::Int(1));
            rolling.max_surge.get_or_insert(IntOrString::Int(0));
        }
        spec.revision_history_limit.get_or_insert(10);
    }

    fn validate(set: &DaemonSet, errors: &mut Errors) {
        let path = Path::root("spec");
        let Some(spec) = &set.spec else {
            return errors.required(&path.child("selector"), "");
        };
        let template_path = path.child("template");
        selector::validate(Some(&spec.selector), &path.child("selector"), errors);
        template::matches(&spec.selector, &spec.template, &template_path, errors);
        if selector::is_empty(&spec.selector) {
            errors.invalid_object(
                &path.child("selector"),
                &spec.selector,
                "empty selector is invalid for daemonset",
            );
        }
        template::lasting(&spec.template, "DaemonSet", &template_path, errors);
        errors.at_least(&path.child("minReadySeconds"), spec.min_ready_seconds, 0);
        if let Some(strategy) = &spec.update_strategy {
            daemon_strategy(strategy, &path.child("updateStrategy"), errors);
        }
        errors.at_least(&path.child("revisionHistoryLimit"), spec.revision_history_limit, 0);
    }

    fn validate_update(set: &DaemonSet, old: &DaemonSet, errors: &mut Errors) {
        if let (Some(new), Some(old)) = (&set.spec, &old.spec) {
            errors.immutable(&Path::root("spec.selector"), &new.selector, &old.selector);
        }
        Self::validate(set, errors);
    }

    fn validate_part(set: &DaemonSet, old: &DaemonSet, _: &str, errors: &mut Errors) {
        let Some(status) = &set.status else { return };
        let counts = [
            ("currentNumberScheduled", Some(status.current_number_scheduled.into())),
            ("numberMisscheduled", Some(status.number_misscheduled.into())),
            ("desiredNumberScheduled", Some(status.desired_number_scheduled.into())),
            ("numberReady", Some(status.number_ready.into())),
            ("observedGeneration", status.observed_generation),
            ("updatedNumberScheduled", status.updated_number_scheduled.map(i64::from)),
            ("numberAvailable", status.number_available.map(i64::from)),
            ("numberUnavailable", status.number_unavailable.map(i64::from)),
        ];
        template::counts(&counts, None, errors);
        let before = old.status.as_ref().and_then(|status| status.collision_count);
        not_decremented(status.collision_count, before, errors);
    }

    fn warnings(set: &DaemonSet) -> Vec<String> {
        let spec = set.spec.as_ref().and_then(|spec| template::spec(&spec.template));
        spec.map_or_else(Vec::new, |spec| warnings(spec, &Path::root("spec.template.spec")))
    }
}

fn daemon_strategy(strategy: &DaemonSetUpdateStrategy, path: &Path, errors: &mut Errors) {
    match (strategy.type_.or_empty(), &strategy.rolling_update) {
        ("OnDelete", _) => {}
        ("RollingUpdate", None) => errors.required(&path.child("rollingUpdate"), ""),
        ("RollingUpdate", Some(rolling)) => rolling_daemon(rolling, &path.child("rollingUpdate"), errors),
        _ => errors.unsupported(
            path,
            serde_json::to_value(strategy).unwrap_or_default(),
            &["RollingUpdate", "OnDelete"],
        ),
    }
}

fn rolling_daemon(rolling: &RollingUpdateDaemonSet, path: &Path, errors: &mut Errors) {
    let zero = IntOrString::Int(0);
    let unavailable = rolling.max_unavailable.as_ref().unwrap_or(&zero);
    let surge = rolling.max_surge.as_ref().unwrap_or(&zero);
    let (unavailable_path, surge_path) = (path.child("maxUnavailable"), path.child("maxSurge"));
    for (value, path) in [(unavailable, &unavailable_path), (surge, &surge_path)] {
        template::number_or_percent(value, path, errors);
        template::at_most_all(value, path, errors);
    }
    match (template::amount(unavailable) != 0, template::amount(surge) != 0) {
        (true, true) => errors.invalid_object(&surge_path, surge, "may not be set when maxUnavailable is non-zero"),
        (false, false) => errors.required(&unavailable_path, "cannot be 0 when maxSurge is 0"),
        _ => {}
    }
}

pub(crate) struct ControllerRevisions;

impl Kind for ControllerRevisions {
    type Object = ControllerRevision;

    const STATUS: bool = false;
    const GENERATION: bool = false;

    fn validate(revision: &ControllerRevision, errors: &mut Errors) {
        if revision.data.is_none() {
            errors.required(&Path::root("data"), "data is mandatory");
        }
        errors.at_least(&Path::root("revision"), Some(revision.revision), 0);
    }

    fn validate_update(revision: &ControllerRevision, old: &ControllerRevision, errors: &mut Errors) {
        Self::validate(revision, errors);
        errors.immutable(&Path::root("data"), &revision.data, &old.data);
    }
}

#[cfg(test)]
mod tests;
