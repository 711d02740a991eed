//! Delete: what becomes of an object that is to go, and that of many.

use bosun_store::Txn;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::{
    List, Registry, metadata, namespace, rules,
    write::{Current, Look, Place, answer, answer_dry, commit},
};
use crate::{
    Reason, Request, Resource, Status,
    admission::{Attributes, Operation},
    options::{DeleteOptions, ListOptions, Preconditions, Propagation},
};

/// How many objects of a collection are deleted at once.
const AT_ONCE: usize = 16;

/// What a deletion answers.
#[derive(Clone, Debug)]
pub struct Deleted {
    /// The object, or a `Status` that tells of success.
    pub json: Bytes,
    /// Whether it is gone, rather than about to go.
    pub gone: bool,
    /// Whether the answer is 202 rather than 200.
    pub accepted: bool,
}

/// What becomes of an object that is to be deleted.
#[derive(Debug, PartialEq)]
enum Plan {
    /// It goes.
    Remove,
    /// Something holds it: it is marked so.
    Mark(Box<Value>),
    /// It is going already.
    Wait,
}

impl Registry {
    /// Deletes an object, or marks it as to be deleted when nothing holds it any more.
    pub async fn delete(&self, request: &Request, options: &DeleteOptions) -> Result<Deleted, Status> {
        let place = self.place(request, &request.name)?;
        let row = place.row;
        validate(options)?;
        let asked = options.to_json();
        let mut look = Look::default();
        loop {
            let current = look.at(&place).await?;
            let current = current.ok_or_else(|| Status::not_found(&row.group, &row.plural, &request.name))?;
            let decided = match self.decide_delete(&place, &current, options, &asked).await {
                Err(_) if look.was_cached() => continue,
                other => other?,
            };
            let (plan, mut txn) = decided;
            let marked = match plan {
                Plan::Wait if look.was_cached() => continue,
                Plan::Wait => {
                    return Ok(deleted(
                        answer_dry(&current.object, Some(current.revision)),
                        false,
                        options,
                    ));
                }
                Plan::Mark(object) if options.dry_run => {
                    return Ok(deleted(answer_dry(&object, Some(current.revision)), false, options));
                }
                Plan::Remove if options.dry_run => {
                    return Ok(deleted(gone(row, &current, None), true, options));
                }
                Plan::Mark(object) => {
                    let stored = self.put(&place, &object, current.revision, &mut txn)?;
                    commit(self, txn)
                        .await?
                        .map(|revision| answer(row, &object, &stored, revision))
                }
                Plan::Remove => {
                    self.take_away(&place, &current, &mut txn)?;
                    match commit(self, txn).await? {
                        Some(revision) => return Ok(deleted(gone(row, &current, Some(revision)), true, options)),
                        None => None,
                    }
                }
            };
            if let Some(json) = marked {
                return Ok(deleted(json, false, options));
            }
            if look.is_over() {
                return Err(super::update::modified(&place));
            }
        }
    }

    async fn decide_delete(
        &self,
        place: &Place<'_>,
        current: &Current,
        options: &DeleteOptions,
        asked: &Value,
    ) -> Result<(Plan, Txn), Status> {
        let Place { request, row, .. } = *place;
        check_preconditions(place, current, &options.preconditions)?;
        if namespace::is_namespace(row) && namespace::IMMORTAL.contains(&&*request.name) {
            let why = "this namespace may not be deleted";
            return Err(Status::forbidden(&row.group, &row.plural, &request.name, why));
        }
        let admission = self.admission();
        let mut attributes = Attributes {
            request,
            name: &request.name,
            operation: Operation::Delete,
            object: Value::Null,
            old: Some(&current.object),
            options: asked,
            dry_run: options.dry_run,
            txn: Txn::default(),
        };
        admission.mutate(&mut attributes).await?;
        admission.validate(&mut attributes).await?;
        let txn = attributes.txn;
        Ok((plan(row, &current.object, options, request.now), txn))
    }

    /// Deletes all objects that are listed; gives those that were.
    pub async fn delete_collection(
        &self,
        request: &Request,
        which: &ListOptions,
        options: &DeleteOptions,
    ) -> Result<List, Status> {
        let list = self.list(request, which).await?;
        let entries: Vec<_> = list.entries.iter().cloned().collect();
        let deletions = stream::iter(entries).map(|entry| async move {
            let mut one = request.clone();
            one.namespace = entry.namespace().to_owned();
            one.name = entry.name().to_owned();
            match self.delete(&one, options).await {
                Err(status) if status.reason != Reason::NotFound => Err(status),
                _ => Ok(()),
            }
        });
        let mut deletions = deletions.buffer_unordered(AT_ONCE);
        while let Some(done) = deletions.next().await {
            done?;
        }
        drop(deletions);
        Ok(list)
    }
}

fn deleted(json: Bytes, gone: bool, options: &DeleteOptions) -> Deleted {
    Deleted {
        json,
        gone,
        accepted: !gone && options.orphan_dependents == Some(false),
    }
}

/// What is answered for an object that is gone.
fn gone(row: &Resource, current: &Current, revision: Option<bosun_store::Revision>) -> Bytes {
    if rules::returns_deleted(row) {
        return answer_dry(&current.object, revision.or(Some(current.revision)));
    }
    let mut status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success",
        "details": {"name": metadata::text(&current.object, "name")},
    });
    let details = &mut status["details"];
    if !row.group.is_empty() {
        details["group"] = (&*row.group).into();
    }
    details["kind"] = (&*row.plural).into();
    details["uid"] = metadata::text(&current.object, "uid").into();
    status.to_string().into()
}

fn validate(options: &DeleteOptions) -> Result<(), Status> {
    use bosun_api::field::{FieldError, Problem};
    let error = match (options.orphan_dependents, options.propagation) {
        (Some(_), Some(policy)) => FieldError {
            field: "propagationPolicy".into(),
            problem: Problem::Invalid(
                format!("{policy:?}").into(),
                "orphanDependents and deletionPropagation cannot be both set".into(),
            ),
        },
        _ => return Ok(()),
    };
    Err(Status::invalid("meta.k8s.io", "DeleteOptions", "", &[error]))
}

fn check_preconditions(place: &Place<'_>, current: &Current, wanted: &Preconditions) -> Result<(), Status> {
    let uid = metadata::text(&current.object, "uid");
    let version = current.revision.to_string();
    let why = match wanted {
        Preconditions { uid: Some(wanted), .. } if wanted != uid => {
            format!("Precondition failed: UID in precondition: {wanted}, UID in object meta: {uid}")
        }
        Preconditions {
            resource_version: Some(wanted),
            ..
        } if *wanted != version => format!(
            "Precondition failed: ResourceVersion in precondition: {wanted}, ResourceVersion in object meta: {version}"
        ),
        _ => return Ok(()),
    };
    Err(Status::conflict(
        &place.row.group,
        &place.row.plural,
        &place.request.name,
        &why,
    ))
}

/// Decides what becomes of an object.
fn plan(row: &Resource, object: &Value, options: &DeleteOptions, now: Timestamp) -> Plan {
    let mut object = object.clone();
    let had_grace = object["metadata"]["deletionGracePeriodSeconds"].as_i64();
    let is_deleting = metadata::is_deleting(&object);

    if namespace::is_namespace(row) {
        if is_deleting && namespace::is_held(&object) {
            return Plan::Wait;
        }
        if !is_deleting {
            mark(&mut object, now, None);
            object["status"]["phase"] = "Terminating".into();
            settle_finalizers(row, &mut object, options);
        }
        let holds = namespace::is_held(&object) || !metadata::finalizers(&object).is_empty();
        return match (holds, is_deleting) {
            (false, _) => Plan::Remove,
            (true, false) => Plan::Mark(object.into()),
            (true, true) => Plan::Wait,
        };
    }

    // Only pods are given time.
    let grace = match had_grace {
        Some(had) if is_deleting && had > 0 => match options.grace_period_seconds {
            // It may only become shorter.
            Some(seconds) if seconds < had => {
                let seconds = seconds.max(0);
                let began = deletion_time(&object).unwrap_or(now) - SignedDuration::from_secs(had);
                mark(&mut object, began, Some(seconds));
                Some(seconds)
            }
            _ => return Plan::Wait,
        },
        _ if !is_deleting && is_pod(row) => {
            let seconds = pod_grace(&object, options);
            mark(&mut object, now, Some(seconds));
            Some(seconds)
        }
        _ => None,
    };
    settle_finalizers(row, &mut object, options);
    let held = !metadata::finalizers(&object).is_empty();
    match grace {
        Some(1..) => Plan::Mark(object.into()),
        Some(_) if held => Plan::Mark(object.into()),
        None if held && is_deleting && had_grace.is_some() => Plan::Mark(object.into()),
        None if held => {
            mark(&mut object, now, Some(0));
            Plan::Mark(object.into())
        }
        _ => Plan::Remove,
    }
}

fn is_pod(row: &Resource) -> bool {
    (&*row.group, &*row.plural) == ("", "pods")
}

/// How long a pod gets to end.
fn pod_grace(pod: &Value, options: &DeleteOptions) -> i64 {
    let assigned = pod["spec"]["nodeName"].as_str().is_some_and(|node| !node.is_empty());
    let over = matches!(pod["status"]["phase"].as_str(), Some("Failed" | "Succeeded"));
    if !assigned || over {
        return 0;
    }
    let wanted = options.grace_period_seconds;
    let seconds = wanted
        .or_else(|| pod["spec"]["terminationGracePeriodSeconds"].as_i64())
        .unwrap_or(0);
    if seconds < 0 { 1 } else { seconds }
}

fn deletion_time(object: &Value) -> Option<Timestamp> {
    metadata::text(object, "deletionTimestamp").parse().ok()
}

/// Marks it as to be deleted: `grace` after `now`.
fn mark(object: &mut Value, now: Timestamp, grace: Option<i64>) {
    let first = object["metadata"]["deletionGracePeriodSeconds"].is_null();
    let at = now + SignedDuration::from_secs(grace.unwrap_or(0));
    let raised = object["metadata"]["generation"]
        .as_i64()
        .filter(|generation| first && *generation > 0);
    let metadata = metadata::metadata(object);
    metadata.insert("deletionTimestamp".into(), metadata::time(at).into());
    if let Some(grace) = grace {
        metadata.insert("deletionGracePeriodSeconds".into(), grace.into());
    }
    if let Some(generation) = raised {
        metadata.insert("generation".into(), (generation + 1).into());
    }
}

/// Puts in the finalizers that the wanted treatment of dependents takes, and takes out those of another.
fn settle_finalizers(row: &Resource, object: &mut Value, options: &DeleteOptions) {
    if !rules::is_collected(row) {
        return;
    }
    let has = metadata::finalizers(object);
    let wanted = match (options.orphan_dependents, options.propagation) {
        (Some(true), _) | (None, Some(Propagation::Orphan)) => Some(metadata::ORPHAN),
        (None, Some(Propagation::Foreground)) => Some(metadata::FOREGROUND),
        (Some(false), _) | (None, Some(Propagation::Background)) => None,
        (None, None) => [metadata::ORPHAN, metadata::FOREGROUND]
            .into_iter()
            .find(|one| has.contains(one)),
    };
    let others = has
        .iter()
        .filter(|one| !matches!(**one, metadata::ORPHAN | metadata::FOREGROUND));
    let finalizers: Vec<String> = others.copied().chain(wanted).map(str::to_owned).collect();
    let finalizers: Vec<_> = finalizers.iter().map(String::as_str).collect();
    metadata::set_finalizers(object, &finalizers);
}

#[cfg(test)]
mod tests;
