//! Which Job of a CronJob to make now, and which to forget.

use std::{collections::BTreeSet, sync::Arc};

use bosun_api::schedule::Schedule;
use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use k8s_openapi::{
    api::{batch::v1 as batch, core::v1::ObjectReference},
    apimachinery::pkg::apis::meta::v1::Time,
};
use kube::Resource;
use serde_json::{Value, json};

use super::{CronJob, SCHEDULED};
use crate::{
    job::{Job, finished},
    workload::{Event, template::controller_ref},
};

/// Missed so many times, people are told.
const MANY: usize = 100;
/// Clocks differ: a Job is due a little later than its time.
const SKEW: SignedDuration = SignedDuration::from_millis(100);

/// All that a plan is made from.
#[derive(Clone, Copy, Debug)]
pub struct Snapshot<'a> {
    /// The CronJob.
    pub cron: &'a CronJob,
    /// Its Jobs.
    pub jobs: &'a [Arc<Job>],
    /// UIDs of Jobs that the status calls active and that are not among those, but are there: the API was asked.
    pub unseen: &'a BTreeSet<String>,
    /// Where hours are counted if the CronJob doesn't say.
    pub zone: &'a TimeZone,
    /// The time it is.
    pub now: Timestamp,
}

/// What to do for a CronJob, in the order of the fields.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// Jobs to delete: they ended and are more than shall be kept.
    pub forget: Vec<Arc<Job>>,
    /// Jobs to delete, with their pods, before another is made.
    pub replace: Vec<ObjectReference>,
    /// A Job to make.
    pub create: Option<NewJob>,
    /// The status to write. The new Job is not in it: what it is called active by comes when it is made.
    pub status: batch::CronJobStatus,
    /// What to tell, whatever comes of the rest.
    pub events: Vec<Event>,
    /// When to plan again if nothing happens before.
    pub next: Option<Timestamp>,
}

/// A Job to make.
#[derive(Clone, Debug)]
pub struct NewJob {
    /// Its name.
    pub name: String,
    /// The object.
    pub object: Value,
    /// The time it is made for.
    pub time: Timestamp,
}

/// What to do for a CronJob.
pub fn plan(snapshot: Snapshot<'_>) -> Plan {
    let Snapshot { cron, now, .. } = snapshot;
    let mut plan = Plan {
        status: cron.status.clone(),
        ..Plan::default()
    };
    plan.forget = superfluous(cron, snapshot.jobs);
    plan.see(snapshot);
    if cron.metadata.deletion_timestamp.is_some() || cron.spec.suspend {
        return plan;
    }
    let Some((schedule, zone)) = plan.read(snapshot) else {
        return plan;
    };
    plan.next = next(cron, &schedule, &zone, now);
    let since = earliest(cron, now, true);
    let Some((time, missed)) = schedule.last(since, now, &zone) else {
        return plan;
    };
    if missed > MANY {
        let message = "too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew";
        plan.events.push(Event::warning("TooManyMissedTimes", message));
    }
    plan.make(cron, time, now);
    plan
}

impl Plan {
    /// Brings what the status calls active in line with the Jobs there are.
    fn see(&mut self, snapshot: Snapshot<'_>) {
        let Snapshot { jobs, unseen, .. } = snapshot;
        let mut active = self.status.active.take().unwrap_or_default();
        for job in jobs {
            let uid = job.metadata.uid.as_ref();
            let is_active = active.iter().any(|known| known.uid.as_ref() == uid);
            match finished(&job.status) {
                None if !is_active => {
                    let message = format!("Saw a job that the controller did not create or forgot: {}", job.name());
                    self.events.push(Event::warning("UnexpectedJob", message));
                }
                None => {}
                Some(good) => {
                    if is_active {
                        active.retain(|known| known.uid.as_ref() != uid);
                        let condition = if good { "Complete" } else { "Failed" };
                        let message = format!("Saw completed job: {}, condition: {condition}", job.name());
                        self.events.push(Event::normal("SawCompletedJob", message));
                    }
                    let ended = job.status.completion_time.as_ref().filter(|_| good);
                    let last = &mut self.status.last_successful_time;
                    if let Some(ended) = ended
                        && last.as_ref().is_none_or(|last| last.0 < ended.0)
                    {
                        *last = Some(ended.clone());
                    }
                }
            }
        }
        let is_there = |known: &ObjectReference| {
            let uid = known.uid.as_deref().unwrap_or_default();
            unseen.contains(uid) || jobs.iter().any(|job| job.metadata.uid.as_deref() == Some(uid))
        };
        for gone in active.extract_if(.., |known| !is_there(known)) {
            let message = format!("Active job went missing: {}", gone.name.unwrap_or_default());
            self.events.push(Event::normal("MissingJob", message));
        }
        self.status.active = Some(active).filter(|active| !active.is_empty());
    }

    /// The schedule, and where its hours are counted.
    fn read(&mut self, snapshot: Snapshot<'_>) -> Option<(Schedule, TimeZone)> {
        let spec = &snapshot.cron.spec;
        let (mut text, mut name) = (spec.schedule.as_str(), spec.time_zone.as_deref());
        // Once a zone could stand in the schedule, and there it stays.
        if text.contains("TZ") {
            let message = format!(
                "CRON_TZ or TZ used in schedule \"{text}\" is not officially supported, see \
                 https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/ for more details"
            );
            self.events.push(Event::warning("UnsupportedSchedule", message));
            if let Some((zone, fields)) = text.split_once(' ') {
                name = zone.split_once('=').map(|(_, name)| name);
                text = fields.trim_start();
            }
        }
        let zone = match name.map(TimeZone::get) {
            None => snapshot.zone.clone(),
            Some(Ok(zone)) => zone,
            Some(Err(error)) => {
                let message = format!("invalid timeZone: \"{}\": {error}", name.unwrap_or_default());
                self.events.push(Event::warning("UnknownTimeZone", message));
                return None;
            }
        };
        match Schedule::parse(text) {
            Ok(schedule) => Some((schedule, zone)),
            Err(error) => {
                let message = format!("unparseable schedule: \"{}\" : {error}", spec.schedule);
                self.events.push(Event::warning("UnparseableSchedule", message));
                None
            }
        }
    }

    /// Makes the Job for `time`, unless it is too late, was made already, or another is still at work.
    fn make(&mut self, cron: &CronJob, time: Timestamp, now: Timestamp) {
        let deadline = cron.spec.starting_deadline_seconds.map(SignedDuration::from_secs);
        if deadline.is_some_and(|deadline| time.checked_add(deadline).is_ok_and(|last| last < now)) {
            let time = time.strftime("%a, %d %b %Y %H:%M:%S +0000");
            let message = format!("Missed scheduled time to start a job: {time}");
            self.events.push(Event::warning("MissSchedule", message));
            return;
        }
        let name = format!("{}-{}", cron.name(), time.as_second() / 60);
        let active = self.status.active.clone().unwrap_or_default();
        let is_made = active.iter().any(|job| job.name.as_ref() == Some(&name))
            || cron
                .status
                .last_schedule_time
                .as_ref()
                .is_some_and(|last| last.0 == time);
        if is_made {
            return;
        }
        match cron.spec.concurrency_policy.as_str() {
            "Forbid" if !active.is_empty() => {
                let message = "Not starting job because prior execution is running and concurrency policy is Forbid";
                self.events.push(Event::normal("JobAlreadyActive", message));
                return;
            }
            "Replace" => {
                self.replace = active;
                self.status.active = None;
            }
            _ => {}
        }
        let mut object = cron.spec.part("jobTemplate");
        let metadata = &object["metadata"];
        let mut annotations = metadata["annotations"].as_object().cloned().unwrap_or_default();
        annotations.insert(SCHEDULED.to_owned(), time.to_string().into());
        let owner = controller_ref::<CronJob>(&cron.metadata);
        object = json!({
            "apiVersion": Job::api_version(&()),
            "kind": Job::kind(&()),
            "metadata": {
                "name": name,
                "namespace": cron.metadata.namespace,
                "labels": metadata["labels"],
                "annotations": annotations,
                "ownerReferences": [owner],
            },
            "spec": object["spec"],
        });
        if let Some(zone) = &cron.spec.time_zone
            && let Ok(zone) = TimeZone::get(zone)
        {
            // As upstream writes it: in the zone in which the time was meant.
            let zoned = time.to_zoned(zone);
            object["metadata"]["annotations"][SCHEDULED] = zoned.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string().into();
        }
        self.create = Some(NewJob { name, object, time });
    }
}

impl NewJob {
    /// The status once the Job is made.
    pub fn made(&self, mut status: batch::CronJobStatus, job: ObjectReference) -> batch::CronJobStatus {
        let active = status.active.get_or_insert_default();
        if active.iter().all(|known| known.uid != job.uid) {
            active.push(job);
        }
        status.last_schedule_time = Some(Time(self.time));
        status
    }
}

/// From when on times count: those before were served, or are too late by now.
fn earliest(cron: &CronJob, now: Timestamp, in_time: bool) -> Timestamp {
    let created = cron.metadata.creation_timestamp.as_ref().map_or(now, |time| time.0);
    let since = cron.status.last_schedule_time.as_ref().map_or(created, |time| time.0);
    let deadline = cron
        .spec
        .starting_deadline_seconds
        .filter(|_| in_time)
        .map(SignedDuration::from_secs);
    let latest = deadline.and_then(|deadline| now.checked_sub(deadline).ok());
    latest.map_or(since, |latest| latest.max(since))
}

/// When the next Job is due.
fn next(cron: &CronJob, schedule: &Schedule, zone: &TimeZone, now: Timestamp) -> Option<Timestamp> {
    let since = earliest(cron, now, false);
    let last = schedule.last(since, now, zone).map_or(since, |(last, _)| last);
    schedule.next(last, zone)?.checked_add(SKEW).ok()
}

/// Jobs that ended, the oldest of them, beyond those to keep.
fn superfluous(cron: &CronJob, jobs: &[Arc<Job>]) -> Vec<Arc<Job>> {
    let limits = [
        (true, cron.spec.successful_jobs_history_limit),
        (false, cron.spec.failed_jobs_history_limit),
    ];
    let mut gone = vec![];
    for (good, limit) in limits {
        let Some(limit) = limit.and_then(|limit| usize::try_from(limit).ok()) else {
            continue;
        };
        let mut ended: Vec<_> = jobs
            .iter()
            .filter(|job| finished(&job.status) == Some(good) && job.metadata.deletion_timestamp.is_none())
            .collect();
        let start = |job: &Job| job.status.start_time.as_ref().map(|time| time.0);
        ended.sort_by_key(|job| (start(job).is_none(), start(job), job.name().to_owned()));
        let more = ended.len().saturating_sub(limit);
        gone.extend(ended.into_iter().take(more).cloned());
    }
    gone
}
