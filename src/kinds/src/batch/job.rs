//! Work that is done once, by one pod or by many.

mod policy;

use bosun_api::{
    field::{Errors, OrEmpty, Path, set_default},
    names,
    pod::{defaults::template_defaults, validate},
    selector::{self, Labels},
};
use k8s_openapi::{
    api::{
        batch::v1::{Job, JobSpec},
        core::v1::{Affinity, Container, PodTemplateSpec},
    },
    apimachinery::pkg::apis::meta::v1::LabelSelector,
};

use crate::{Context, core::pod::warnings, kind::Kind, template};

const UID: &str = "batch.kubernetes.io/controller-uid";
const NAME: &str = "batch.kubernetes.io/job-name";
const OLD_UID: &str = "controller-uid";
const OLD_NAME: &str = "job-name";

/// More pods than this can't be told apart by their numbers.
const MOST_INDEXED: i32 = 100_000;
/// With a limit of failures for each, there may be no more than this at a time.
const MOST_OF_MANY: i32 = 10_000;
const INDEXED: &str = "Indexed";

pub(crate) struct Jobs;

impl Kind for Jobs {
    type Object = Job;

    fn default(job: &mut Job) {
        let Some(spec) = &mut job.spec else { return };
        template_defaults(&mut spec.template);
        // A number of completions without parallelism is done one by one; without either, once.
        if spec.completions.is_none() && spec.parallelism.is_none() {
            spec.completions = Some(1);
        }
        spec.parallelism.get_or_insert(1);
        let each = spec.backoff_limit_per_index.is_some();
        spec.backoff_limit.get_or_insert(if each { i32::MAX } else { 6 });
        set_default(&mut spec.completion_mode, "NonIndexed");
        spec.suspend.get_or_insert(false);
        spec.manual_selector.get_or_insert(false);
        let replacement = match spec.pod_failure_policy {
            Some(_) => "Failed",
            None => "TerminatingOrFailed",
        };
        spec.pod_replacement_policy
            .get_or_insert_with(|| replacement.to_owned());
        failure_defaults(spec);
        let labels = template::labels(&spec.template);
        if !labels.is_empty() && !job.metadata.labels.is_given() {
            job.metadata.labels = Some(labels.clone());
        }
    }

    fn prepare_create(job: &mut Job, _: &Context<'_>) {
        let Some(spec) = &mut job.spec else { return };
        if spec.manual_selector != Some(true) {
            let uid = job.metadata.uid.or_empty();
            let labels = spec.template.metadata.get_or_insert_default();
            let labels = labels.labels.get_or_insert_default();
            for (key, value) in [
                (OLD_NAME, job.metadata.name.or_empty()),
                (NAME, job.metadata.name.or_empty()),
                (OLD_UID, uid),
                (UID, uid),
            ] {
                labels.entry(key.to_owned()).or_insert_with(|| value.to_owned());
            }
            let selector = spec.selector.get_or_insert_default();
            let labels = selector.match_labels.get_or_insert_default();
            labels.entry(UID.to_owned()).or_insert_with(|| uid.to_owned());
        }
    }

    fn validate(job: &Job, errors: &mut Errors) {
        let path = Path::root("spec");
        let Some(spec) = &job.spec else {
            return errors.required(&path.child("template"), "");
        };
        own_spec(spec, &path, errors);
    }

    fn validate_create(job: &Job, errors: &mut Errors) {
        generated_selector(job, errors);
        Self::validate(job, errors);
        let Some(spec) = &job.spec else { return };
        if spec.completion_mode.or_empty() == INDEXED
            && let Some(last) = spec.completions.filter(|completions| *completions > 0)
        {
            let host = format!("{}-{}", job.metadata.name.or_empty(), last - 1);
            if names::dns_label(&host).is_err() {
                errors.invalid(
                    &Path::root("metadata.name"),
                    job.metadata.name.or_empty(),
                    format!("will not able to create pod with invalid DNS label: {host}"),
                );
            }
        }
    }

    fn validate_update(job: &Job, old: &Job, errors: &mut Errors) {
        let path = Path::root("spec");
        let (Some(new), Some(before)) = (&job.spec, &old.spec) else {
            return;
        };
        own_spec(new, &path, errors);
        completions(new, before, &path, errors);
        errors.immutable(&path.child("selector"), &new.selector, &before.selector);
        let active = old.status.as_ref().and_then(|status| status.active);
        let mut allowed = before.template.clone();
        if before.suspend == Some(true) && active.unwrap_or_default() == 0 {
            take_undecided(&mut allowed, &new.template);
        }
        errors.immutable(&path.child("template"), &new.template, &allowed);
        for (field, new, old) in [
            ("completionMode", &new.completion_mode, &before.completion_mode),
            ("managedBy", &new.managed_by, &before.managed_by),
        ] {
            errors.immutable(&path.child(field), new, old);
        }
        errors.immutable(
            &path.child("podFailurePolicy"),
            &new.pod_failure_policy,
            &before.pod_failure_policy,
        );
        errors.immutable(
            &path.child("backoffLimitPerIndex"),
            &new.backoff_limit_per_index,
            &before.backoff_limit_per_index,
        );
        errors.immutable(
            &path.child("successPolicy"),
            &new.success_policy,
            &before.success_policy,
        );
    }

    fn validate_part(job: &Job, _: &Job, _: &str, errors: &mut Errors) {
        let Some(status) = &job.status else { return };
        template::counts(
            &[
                ("active", status.active.map(i64::from)),
                ("succeeded", status.succeeded.map(i64::from)),
                ("failed", status.failed.map(i64::from)),
                ("ready", status.ready.map(i64::from)),
                ("terminating", status.terminating.map(i64::from)),
            ],
            None,
            errors,
        );
        let is = |type_: &str| {
            status
                .conditions
                .or_empty()
                .iter()
                .any(|condition| condition.type_ == type_ && condition.status == "True")
        };
        let path = Path::root("status.conditions");
        if is("Complete") && is("Failed") {
            errors.invalid(&path, "", "cannot set Complete=True and Failed=true conditions");
        }
        if is("Complete") && status.completion_time.is_none() {
            errors.required(
                &Path::root("status.completionTime"),
                "completionTime is required for Complete jobs",
            );
        }
        if status.completion_time.is_some() && !is("Complete") {
            errors.invalid_object(
                &Path::root("status.completionTime"),
                &status.completion_time,
                "cannot set completionTime when there is no Complete=True condition",
            );
        }
    }

    fn warnings(job: &Job) -> Vec<String> {
        let Some(spec) = &job.spec else { return Vec::new() };
        let mut warnings = template::spec(&spec.template)
            .map_or_else(Vec::new, |spec| warnings(spec, &Path::root("spec.template.spec")));
        if spec.completion_mode.or_empty() == INDEXED
            && spec.completions.is_some_and(|completions| completions > MOST_INDEXED)
            && spec.parallelism.is_some_and(|parallelism| parallelism > MOST_OF_MANY)
        {
            warnings.push(
                "In Indexed Jobs with a number of completions higher than 10^5 and a parallelism higher than 10^4, \
                 Kubernetes might not be able to track completedIndexes when a big number of indexes fail"
                    .to_owned(),
            );
        }
        warnings
    }
}

/// What a rule on conditions leaves out.
pub(crate) fn failure_defaults(spec: &mut JobSpec) {
    for rule in spec.pod_failure_policy.iter_mut().flat_map(|policy| &mut policy.rules) {
        for pattern in rule.on_pod_conditions.iter_mut().flatten() {
            set_default(&mut pattern.status, "True");
        }
    }
}

/// The labels and the selector made for the job must be those of this job.
fn generated_selector(job: &Job, errors: &mut Errors) {
    let Some(spec) = job.spec.as_ref().filter(|spec| spec.manual_selector != Some(true)) else {
        return;
    };
    let Some(selector) = &spec.selector else { return };
    let uid = job.metadata.uid.or_empty();
    if uid.is_empty() {
        errors.required(&Path::root("metadata.uid"), "");
    }
    let labels = template::labels(&spec.template);
    let path = Path::root("spec.template.metadata.labels");
    let name = job.metadata.name.or_empty();
    for (key, expected) in [(OLD_UID, uid), (OLD_NAME, name), (UID, uid), (NAME, name)] {
        let detail = || format!("must be '{expected}'");
        match labels.get(key) {
            None => errors.required(&path.key(key), detail()),
            Some(value) if value != expected => errors.invalid_object(&path.key(key), labels, detail()),
            Some(_) => {}
        }
    }
    let own: Labels = [(OLD_UID, uid), (OLD_NAME, name), (UID, uid), (NAME, name)]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into();
    if !selector::matches(selector, &own) {
        errors.invalid_object(&Path::root("spec.selector"), selector, "`selector` not auto-generated");
    }
}

fn own_spec(spec: &JobSpec, path: &Path, errors: &mut Errors) {
    of_either(spec, path, errors);
    let selector_path = path.child("selector");
    match &spec.selector {
        None => errors.required(&selector_path, ""),
        Some(selector) => selector::validate(Some(selector), &selector_path, errors),
    }
    // No selector selects nothing.
    let nothing = spec.selector.is_none();
    if nothing
        || !selector::matches(
            spec.selector.as_ref().unwrap_or(&LabelSelector::default()),
            labels_of(spec),
        )
    {
        errors.invalid_object(
            &path.child("template.metadata.labels"),
            labels_of(spec),
            "`selector` does not match template `labels`",
        );
    }
}

fn labels_of(spec: &JobSpec) -> &Labels {
    template::labels(&spec.template)
}

/// What holds for a job and for what a cron job makes jobs of.
pub(crate) fn of_either(spec: &JobSpec, path: &Path, errors: &mut Errors) {
    for (field, value) in [
        ("parallelism", spec.parallelism.map(i64::from)),
        ("completions", spec.completions.map(i64::from)),
        ("activeDeadlineSeconds", spec.active_deadline_seconds),
        ("backoffLimit", spec.backoff_limit.map(i64::from)),
        (
            "ttlSecondsAfterFinished",
            spec.ttl_seconds_after_finished.map(i64::from),
        ),
        ("backoffLimitPerIndex", spec.backoff_limit_per_index.map(i64::from)),
        ("maxFailedIndexes", spec.max_failed_indexes.map(i64::from)),
    ] {
        errors.at_least(&path.child(field), value, 0);
    }
    if spec.max_failed_indexes.is_some() && spec.backoff_limit_per_index.is_none() {
        errors.required(
            &path.child("backoffLimitPerIndex"),
            "when maxFailedIndexes is specified",
        );
    }
    if let Some(manager) = &spec.managed_by {
        let path = path.child("managedBy");
        errors.required_check(&path, manager, names::domain_prefixed_path);
        if manager.len() > 63 {
            errors.too_long(&path, 63);
        }
    }
    errors.one_of(
        &path.child("completionMode"),
        spec.completion_mode.as_deref(),
        &["NonIndexed", INDEXED],
    );
    match spec.completion_mode.as_deref() {
        Some(INDEXED) => indexed(spec, path, errors),
        None | Some("NonIndexed") => {
            for (field, value) in [
                ("backoffLimitPerIndex", spec.backoff_limit_per_index),
                ("maxFailedIndexes", spec.max_failed_indexes),
            ] {
                if let Some(value) = value {
                    errors.invalid(&path.child(field), value, "requires indexed completion mode");
                }
            }
        }
        Some(_) => {}
    }
    if let Some(policy) = &spec.pod_failure_policy {
        policy::failure_policy(policy, spec, &path.child("podFailurePolicy.rules"), errors);
    }
    if let Some(policy) = &spec.success_policy {
        let path = path.child("successPolicy");
        if spec.completion_mode.or_empty() == INDEXED {
            policy::success_policy(policy, spec, &path.child("rules"), errors);
        } else {
            errors.invalid_object(&path, policy, "requires indexed completion mode");
        }
    }
    let replacements: &[_] = match spec.pod_failure_policy {
        Some(_) => &["Failed"],
        None => &["Failed", "TerminatingOrFailed"],
    };
    errors.one_of(
        &path.child("podReplacementPolicy"),
        spec.pod_replacement_policy.as_deref(),
        replacements,
    );
    validate::template(&spec.template, &path.child("template"), errors);
    restart_policy(spec, &path.child("template.spec.restartPolicy"), errors);
}

fn restart_policy(spec: &JobSpec, path: &Path, errors: &mut Errors) {
    let policy = template::spec(&spec.template).map_or("", |spec| spec.restart_policy.or_empty());
    match policy {
        "" | "Always" => errors.required(path, "valid values: \"OnFailure\", \"Never\""),
        "OnFailure" if spec.pod_failure_policy.is_some() => errors.invalid(
            path,
            policy,
            "only \"Never\" is supported when podFailurePolicy is specified",
        ),
        _ => errors.one_of(path, Some(policy), &["OnFailure", "Never"]),
    }
}

fn indexed(spec: &JobSpec, path: &Path, errors: &mut Errors) {
    let parallelism = spec.parallelism.unwrap_or_default();
    let parallelism_path = path.child("parallelism");
    let failed_path = path.child("maxFailedIndexes");
    let completions = spec.completions.unwrap_or_default();
    if spec.completions.is_none() {
        errors.required(&path.child("completions"), "when completion mode is Indexed");
    }
    if parallelism > MOST_INDEXED {
        errors.invalid(
            &parallelism_path,
            parallelism,
            format!("must be less than or equal to {MOST_INDEXED} when completion mode is Indexed"),
        );
    }
    if let Some(failed) = spec.max_failed_indexes {
        if spec.completions.is_some() && failed > completions {
            errors.invalid(&failed_path, failed, "must be less than or equal to completions");
        }
        if failed > MOST_INDEXED {
            errors.invalid(
                &failed_path,
                failed,
                format!("must be less than or equal to {MOST_INDEXED}"),
            );
        }
    }
    if completions > MOST_INDEXED && spec.backoff_limit_per_index.is_some() {
        let detail = || {
            format!(
                "must be less than or equal to {MOST_OF_MANY} when completions are above {MOST_INDEXED} and used with \
                 backoff limit per index"
            )
        };
        if spec.max_failed_indexes.is_none() {
            errors.required(
                &failed_path,
                format!("must be specified when completions is above {MOST_INDEXED}"),
            );
        }
        if parallelism > MOST_OF_MANY {
            errors.invalid(&parallelism_path, parallelism, detail());
        }
        if let Some(failed) = spec.max_failed_indexes.filter(|failed| *failed > MOST_OF_MANY) {
            errors.invalid(&failed_path, failed, detail());
        }
    }
}

/// The number of an indexed job's pods may change, if as many run at a time.
fn completions(new: &JobSpec, old: &JobSpec, path: &Path, errors: &mut Errors) {
    let path = path.child("completions");
    if new.completion_mode.or_empty() != INDEXED {
        errors.immutable(&path, &new.completions, &old.completions);
    } else if new.completions != old.completions
        && let Some(completions) = new.completions
        && new.parallelism != Some(completions)
    {
        errors.invalid(
            &path,
            completions,
            "can only be modified in tandem with spec.parallelism",
        );
    }
}

/// While a job is suspended and has no pods, it may still be decided where they run and how much they get (KEP-2926,
/// KEP-5440).
fn take_undecided(allowed: &mut PodTemplateSpec, new: &PodTemplateSpec) {
    let (Some(pod), Some(new_pod)) = (&mut allowed.spec, &new.spec) else {
        return;
    };
    match (&mut pod.affinity, &new_pod.affinity) {
        (Some(affinity), None) => {
            affinity.node_affinity = None;
            if *affinity == Affinity::default() {
                pod.affinity = None;
            }
        }
        (None, Some(new)) => {
            pod.affinity = Some(Affinity {
                node_affinity: new.node_affinity.clone(),
                ..Affinity::default()
            });
        }
        (Some(affinity), Some(new)) => affinity.node_affinity.clone_from(&new.node_affinity),
        (None, None) => {}
    }
    pod.node_selector.clone_from(&new_pod.node_selector);
    pod.tolerations.clone_from(&new_pod.tolerations);
    pod.scheduling_gates.clone_from(&new_pod.scheduling_gates);
    take_resources(&mut pod.containers, &new_pod.containers);
    if let (Some(init), Some(new)) = (&mut pod.init_containers, &new_pod.init_containers) {
        take_resources(init, new);
    }
    if let Some(new) = &new.metadata {
        let metadata = allowed.metadata.get_or_insert_default();
        metadata.annotations.clone_from(&new.annotations);
        metadata.labels.clone_from(&new.labels);
    }
}

fn take_resources(allowed: &mut [Container], new: &[Container]) {
    for (container, new) in allowed.iter_mut().zip(new) {
        container.resources.clone_from(&new.resources);
    }
}
