//! Jobs that are started at set times.

use bosun_api::{
    field::{Errors, OrEmpty, Path, set_default},
    pod::defaults::template_defaults,
    schedule::Schedule,
};
use k8s_openapi::api::batch::v1::{CronJob, CronJobSpec, JobSpec};

use super::job;
use crate::{core::pod::warnings, kind::Kind, template};

/// Jobs get the time appended to the name, and their pods more than that.
const MAX_NAME: usize = 52;

pub(crate) struct CronJobs;

impl Kind for CronJobs {
    type Object = CronJob;

    fn default(cron: &mut CronJob) {
        let spec = &mut cron.spec;
        set_default(&mut spec.concurrency_policy, "Allow");
        spec.suspend.get_or_insert(false);
        spec.successful_jobs_history_limit.get_or_insert(3);
        spec.failed_jobs_history_limit.get_or_insert(1);
        if let Some(job) = &mut spec.job_template.spec {
            template_defaults(&mut job.template);
            job::failure_defaults(job);
        }
    }

    fn validate_create(cron: &CronJob, errors: &mut Errors) {
        check(cron, None, errors);
        if cron.metadata.name.or_empty().len() > MAX_NAME {
            errors.invalid(
                &Path::root("metadata.name"),
                cron.metadata.name.or_empty(),
                "must be no more than 52 characters",
            );
        }
    }

    fn validate_update(cron: &CronJob, old: &CronJob, errors: &mut Errors) {
        check(cron, Some(&old.spec), errors);
    }

    fn warnings(cron: &CronJob) -> Vec<String> {
        let spec = &cron.spec;
        let job = spec.job_template.spec.as_ref();
        let path = Path::root("spec.jobTemplate.spec.template.spec");
        let mut warnings = job
            .and_then(|job| template::spec(&job.template))
            .map_or_else(Vec::new, |spec| warnings(spec, &path));
        if spec.schedule.contains("TZ") {
            warnings.push(
                "CRON_TZ or TZ used in spec.schedule is not officially supported, see \
                 https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/ for more details"
                    .to_owned(),
            );
        }
        warnings
    }
}

fn check(cron: &CronJob, old: Option<&CronJobSpec>, errors: &mut Errors) {
    let path = Path::root("spec");
    let spec = &cron.spec;
    schedule(spec, old, &path.child("schedule"), errors);
    errors.at_least(
        &path.child("startingDeadlineSeconds"),
        spec.starting_deadline_seconds,
        0,
    );
    if let Some(zone) = &spec.time_zone
        && old.is_none_or(|old| old.time_zone != spec.time_zone)
    {
        time_zone(zone, &path.child("timeZone"), errors);
    }
    errors.required_one_of(
        &path.child("concurrencyPolicy"),
        spec.concurrency_policy.or_empty(),
        &["Allow", "Forbid", "Replace"],
    );
    let job_path = path.child("jobTemplate.spec");
    let empty = JobSpec::default();
    let job = spec.job_template.spec.as_ref().unwrap_or(&empty);
    job::of_either(job, &job_path, errors);
    if let Some(selector) = &job.selector {
        errors.invalid_object(
            &job_path.child("selector"),
            selector,
            "`selector` will be auto-generated",
        );
    }
    if job.manual_selector == Some(true) {
        errors.unsupported(&job_path.child("manualSelector"), true, &["nil", "false"]);
    }
    for (field, limit) in [
        ("successfulJobsHistoryLimit", spec.successful_jobs_history_limit),
        ("failedJobsHistoryLimit", spec.failed_jobs_history_limit),
    ] {
        errors.at_least(&path.child(field), limit, 0);
    }
}

fn schedule(spec: &CronJobSpec, old: Option<&CronJobSpec>, path: &Path, errors: &mut Errors) {
    let text = spec.schedule.as_str();
    if text.is_empty() {
        return errors.required(path, "");
    }
    let mut fields = text;
    if text.contains("TZ") {
        // Once it was allowed, so that it stays where it is.
        if old.is_none_or(|old| !old.schedule.contains("TZ")) {
            errors.invalid(
                path,
                text,
                "cannot use TZ or CRON_TZ in schedule, use timeZone field instead",
            );
        }
        fields = text.split_once(' ').map_or("", |(_, fields)| fields.trim_start());
    }
    if let Err(detail) = Schedule::parse(fields) {
        errors.invalid(path, text, detail);
    }
}

fn time_zone(zone: &str, path: &Path, errors: &mut Errors) {
    if zone.is_empty() {
        errors.invalid(path, zone, "timeZone must be nil or non-empty string");
    } else if zone.eq_ignore_ascii_case("Local") {
        errors.invalid(
            path,
            zone,
            "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones",
        );
    } else if jiff::tz::TimeZone::get(zone).is_err() {
        errors.invalid(path, zone, format!("unknown time zone {zone}"));
    }
}
