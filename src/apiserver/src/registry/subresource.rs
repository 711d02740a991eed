//! Parts of objects, and actions on them, that are of another kind than the object: binding, eviction; scale has a
//! module of its own. The others (status, finalize, approval, resize, ephemeralcontainers) are updates of the object in which its strategy restores what
//! they may not change.

use bosun_kinds::{BindError, bind};
use bosun_schema::{Types, check, type_of_kind};
use bytes::Bytes;
use serde_json::{Value, json};

use super::{
    Registry, metadata, read,
    scale::{scale_of, scaled},
    update::Wish,
    write::{Look, Written},
};
use crate::{
    Reason, Request, Resource, Status,
    admission::{Attributes, Operation},
    options::{Body, DeleteOptions, Preconditions, Propagation, WriteOptions},
    registry::own_request,
    selector::LabelSelector,
};

/// So many evictions may wait for the controller that confirms them.
const MAX_DISRUPTED: usize = 2000;

/// A body of another kind than the row's.
pub(super) fn read_as(body: Body, (group, version, kind): (&str, &str, &str)) -> Result<Value, Status> {
    let mut value = body.value;
    let unusable = |why: String| {
        Status::bad_request(format!(
            "{kind} in version {version:?} cannot be handled as a {kind}: {why}"
        ))
    };
    if !value.is_object() {
        return Err(unusable("json: cannot unmarshal into an object".into()));
    }
    let ty = type_of_kind(group, version, kind).ok_or_else(|| Status::internal(format!("no type {kind}")))?;
    check::check(Types::builtin(), ty, &mut value).map_err(|error| unusable(error.to_string()))?;
    Ok(value)
}

impl Registry {
    /// What is posted to a subresource, or is an action by itself; `None` if it is neither.
    pub(super) async fn act(
        &self,
        request: &Request,
        body: &Body,
        options: &WriteOptions,
    ) -> Option<Result<Written, Status>> {
        let row = request.resource.as_ref()?;
        match (&*row.group, &*row.plural, request.subresource.as_str()) {
            ("", "pods", "binding") | ("", "bindings", "") => Some(self.bind(request, body.clone(), options).await),
            ("", "pods", "eviction") => Some(self.evict(request, body.clone(), options).await),
            (_, _, "") => None,
            _ => Some(Err(Status::new(
                Reason::MethodNotAllowed,
                "the server does not allow this method on the requested resource",
            ))),
        }
    }

    /// Assigns a pod to a node.
    async fn bind(&self, request: &Request, body: Body, options: &WriteOptions) -> Result<Written, Status> {
        let binding = read_as(body, ("", "v1", "Binding"))?;
        let pods = self.row("", "v1", "pods")?;
        let given = metadata::text(&binding, "name");
        let name = if request.name.is_empty() { given } else { &request.name };
        if !given.is_empty() && given != name {
            return Err(Status::bad_request(format!(
                "the name of the object ({given}) does not match the name on the URL ({name})"
            )));
        }
        let mut request = Request {
            resource: Some(pods),
            name: name.to_owned(),
            ..request.clone()
        };
        request.subresource = "binding".into();
        let uid = metadata::text(&binding, "uid");
        let act = |pod: &mut Value| {
            let has = metadata::text(pod, "uid");
            if !uid.is_empty() && uid != has {
                let why = format!("Precondition failed: UID in precondition: {uid}, UID in object meta: {has}");
                return Err(Status::conflict("", "pods/binding", name, &why));
            }
            bind(pod, &binding, request.now).map_err(|error| match error {
                BindError::Invalid(errors) => Status::invalid("", "Binding", name, &errors),
                BindError::Conflict(why) => Status::conflict("", "pods/binding", name, &why),
            })
        };
        self.change(&request, &Wish::Action(&act), options).await?;
        Ok(done())
    }

    /// Deletes a pod, if its disruption budget allows it.
    async fn evict(&self, request: &Request, body: Body, options: &WriteOptions) -> Result<Written, Status> {
        let eviction = read_as(body, ("policy", "v1", "Eviction"))?;
        let given = metadata::text(&eviction, "name");
        if !given.is_empty() && given != request.name {
            return Err(Status::bad_request(
                "name in URL does not match name in Eviction object",
            ));
        }
        let place = self.place(request, &request.name)?;
        let absent = || Status::not_found("", "pods", &request.name);
        let mut look = Look::default();
        let cached = look.at(&place).await?.ok_or_else(absent)?;
        // Whether it may go is asked of the pod as it is.
        let pod = if look.was_cached() {
            look.at(&place).await?.ok_or_else(absent)?
        } else {
            cached
        };
        let asked = options.to_json("CreateOptions");
        let mut attributes = Attributes {
            request,
            name: &request.name,
            operation: Operation::Create,
            object: eviction.clone(),
            old: None,
            options: &asked,
            dry_run: options.dry_run,
            txn: bosun_store::Txn::default(),
        };
        let admission = self.admission();
        let warnings = admission.mutate(&mut attributes).await?;
        admission.validate(&mut attributes).await?;

        let mut delete = delete_options(&eviction["deleteOptions"]);
        delete.dry_run |= options.dry_run;
        delete
            .preconditions
            .uid
            .get_or_insert_with(|| metadata::text(&pod.object, "uid").to_owned());
        if !is_free(&pod.object) {
            self.spend_budget(request, &pod.object, delete.dry_run).await?;
        }
        let mut request = request.clone();
        request.subresource = String::new();
        self.delete(&request, &delete).await?;
        Ok(Written { warnings, ..done() })
    }

    /// Takes one disruption from the pod's budget, if it has one.
    async fn spend_budget(&self, request: &Request, pod: &Value, dry_run: bool) -> Result<(), Status> {
        let row = self.row("policy", "v1", "poddisruptionbudgets")?;
        let cache = self.cache(&row)?;
        cache.catch_up().await.map_err(read::unreadable)?;
        let under = format!("{}/", request.namespace);
        let scan = crate::cache::Scan {
            under: &under,
            ..crate::cache::Scan::default()
        };
        let labels = &pod["metadata"]["labels"];
        let budgets: Vec<_> = cache
            .list(&scan)
            .entries
            .iter()
            .map(|entry| entry.decode())
            .filter(|budget| {
                let selector = LabelSelector::from_object(&budget["spec"]["selector"]);
                matches!(selector, Ok(Some(selector)) if selector.matches(|key| labels[key].as_str()))
            })
            .collect();
        let budget = match &budgets[..] {
            [] => return Ok(()),
            [one] => one,
            _ => {
                return Err(Status::new(
                    Reason::InternalError,
                    "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.",
                ));
            }
        };
        if !is_ready(pod) {
            let count = |field: &str| budget["status"][field].as_i64().unwrap_or_default();
            let healthy = count("currentHealthy") >= count("desiredHealthy") && count("desiredHealthy") > 0;
            let always = budget["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow";
            if always || healthy {
                return Ok(());
            }
        }
        let mut change = own_request(
            &row,
            "update",
            &request.namespace,
            metadata::text(budget, "name"),
            request.now,
        );
        change.subresource = "status".into();
        let act = |budget: &mut Value| spend(budget, &request.name, request.now);
        let options = WriteOptions {
            dry_run,
            ..WriteOptions::default()
        };
        self.change(&change, &Wish::Action(&act), &options).await?;
        Ok(())
    }

    fn row(&self, group: &str, version: &str, plural: &str) -> Result<std::sync::Arc<Resource>, Status> {
        let table = self.table();
        let row = table.get(group, version, plural).cloned();
        row.ok_or_else(|| Status::internal(format!("{plural} are not served")))
    }
}

fn done() -> Written {
    let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201});
    Written {
        json: Bytes::from(status.to_string()),
        created: true,
        warnings: Vec::new(),
    }
}

/// Whether a pod disturbs nobody by going.
fn is_free(pod: &Value) -> bool {
    metadata::is_deleting(pod)
        || matches!(
            pod["status"]["phase"].as_str(),
            Some("Pending" | "Succeeded" | "Failed")
        )
}

fn is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array();
    conditions
        .into_iter()
        .flatten()
        .any(|one| one["type"] == "Ready" && one["status"] == "True")
}

/// Takes one disruption from a budget, for a pod.
fn spend(budget: &mut Value, pod: &str, now: jiff::Timestamp) -> Result<(), Status> {
    let name = metadata::text(budget, "name").to_owned();
    let number = |value: &Value| value.as_i64().unwrap_or_default();
    let violates = |why: String| {
        let message = "Cannot evict pod as it would violate the pod's disruption budget.";
        Status::new(Reason::TooManyRequests, message).because("DisruptionBudget", &why, "")
    };
    let refused = |why: &str| Status::forbidden("policy", "poddisruptionbudgets", &name, why);
    let status = &budget["status"];
    if number(&status["observedGeneration"]) < number(&budget["metadata"]["generation"]) {
        let why = format!("The disruption budget {name} is still being processed by the server.");
        return Err(violates(why).retry_after(10));
    }
    let allowed = number(&status["disruptionsAllowed"]);
    if allowed < 0 {
        return Err(refused("pdb disruptions allowed is negative"));
    }
    if status["disruptedPods"]
        .as_object()
        .is_some_and(|pods| pods.len() > MAX_DISRUPTED)
    {
        return Err(refused(
            "DisruptedPods map too big - too many evictions not confirmed by PDB controller",
        ));
    }
    if allowed == 0 {
        let why = format!(
            "The disruption budget {name} needs {} healthy pods and has {} currently",
            number(&status["desiredHealthy"]),
            number(&status["currentHealthy"])
        );
        return Err(violates(why));
    }
    let status = &mut budget["status"];
    status["disruptionsAllowed"] = (allowed - 1).into();
    if !status["disruptedPods"].is_object() {
        status["disruptedPods"] = json!({});
    }
    status["disruptedPods"][pod] = metadata::time(now).into();
    Ok(())
}

/// Reads `DeleteOptions` that come inside of another object, checked against its type.
fn delete_options(options: &Value) -> DeleteOptions {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    DeleteOptions {
        grace_period_seconds: options["gracePeriodSeconds"].as_i64(),
        preconditions: Preconditions {
            uid: text(&options["preconditions"]["uid"]),
            resource_version: text(&options["preconditions"]["resourceVersion"]),
        },
        propagation: match options["propagationPolicy"].as_str() {
            Some("Orphan") => Some(Propagation::Orphan),
            Some("Background") => Some(Propagation::Background),
            Some("Foreground") => Some(Propagation::Foreground),
            _ => None,
        },
        orphan_dependents: options["orphanDependents"].as_bool(),
        dry_run: options["dryRun"]
            .as_array()
            .is_some_and(|stages| stages.iter().any(|stage| stage == "All")),
    }
}

/// The view of an object that a request is about.
pub(super) fn view(request: &Request, json: Bytes) -> Result<Bytes, Status> {
    let Some(paths) = scaled(request) else {
        return Ok(json);
    };
    let object: Value = serde_json::from_slice(&json).map_err(Status::internal)?;
    Ok(scale_of(&object, paths).to_string().into())
}
