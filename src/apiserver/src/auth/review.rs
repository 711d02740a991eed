//! The kinds that are questions: answered with their status, never stored.

use std::sync::Arc;

use bosun_api::field::{FieldError, Problem};
use serde_json::{Map, Value, json};

use super::{
    Attributes, Authenticator, Authorizer, Decision,
    authenticate::TokenRefusal,
    authorize::rule::Rule,
    objects::text,
    token_request::{self, seconds},
};
use crate::{Request, Status, User, admission::node_restriction};

const AUTHORIZATION: &str = "authorization.k8s.io";

/// Answers them.
pub struct Reviews {
    authenticator: Arc<Authenticator>,
    authorizer: Arc<Authorizer>,
}

impl Reviews {
    /// One that answers by these.
    pub fn new(authenticator: Arc<Authenticator>, authorizer: Arc<Authorizer>) -> Self {
        Self {
            authenticator,
            authorizer,
        }
    }

    /// Whether creating one of this resource is a question that is answered here.
    pub fn answers(group: &str, plural: &str, subresource: &str) -> bool {
        matches!(
            (group, plural, subresource),
            ("", "serviceaccounts", "token")
                | ("authentication.k8s.io", "tokenreviews" | "selfsubjectreviews", "")
                | (
                    AUTHORIZATION,
                    "subjectaccessreviews"
                        | "localsubjectaccessreviews"
                        | "selfsubjectaccessreviews"
                        | "selfsubjectrulesreviews",
                    ""
                )
        )
    }

    /// The object of a create request with its answer. The request is authorized and the object checked against its
    /// schema before.
    pub async fn create(&self, request: &Request, mut object: Value) -> Result<Value, Status> {
        let plural = request.resource.as_ref().map_or("", |resource| &*resource.plural);
        if plural == "serviceaccounts" {
            let objects = self.authenticator.objects();
            node_restriction::check_token(objects, &request.user, &request.namespace, &request.name, &object).await?;
            return token_request::create(
                &self.authenticator,
                &request.namespace,
                &request.name,
                object,
                request.now,
            )
            .await;
        }
        let status = match plural {
            "tokenreviews" => self.token_review(&object, request).await?,
            "selfsubjectreviews" => json!({ "userInfo": user_info(&request.user) }),
            "selfsubjectrulesreviews" => self.rules_review(&object, &request.user)?,
            "selfsubjectaccessreviews" => self.access_review("SelfSubjectAccessReview", &object, &request.user)?,
            "localsubjectaccessreviews" => {
                validate("LocalSubjectAccessReview", &object)?;
                if text(&object, "/spec/resourceAttributes/namespace") != request.namespace {
                    return Err(Status::bad_request(format!(
                        "spec.resourceAttributes.namespace must match namespace: {}",
                        request.namespace
                    )));
                }
                self.access_review("LocalSubjectAccessReview", &object, &spoken_of(&object)?)?
            }
            "subjectaccessreviews" => self.access_review("SubjectAccessReview", &object, &spoken_of(&object)?)?,
            other => {
                return Err(Status::internal(format_args!("{other} is not a question")));
            }
        };
        if plural == "selfsubjectreviews" {
            object["metadata"]["creationTimestamp"] = seconds(request.now).into();
        }
        object["status"] = status;
        Ok(object)
    }

    async fn token_review(&self, object: &Value, request: &Request) -> Result<Value, Status> {
        let token = text(object, "/spec/token");
        if token.is_empty() {
            return Err(Status::bad_request(
                "token is required for TokenReview in authentication",
            ));
        }
        let asked: Vec<String> = strings(&object["spec"]["audiences"]);
        let audiences = if asked.is_empty() {
            vec![self.authenticator.issuer().to_owned()]
        } else {
            asked.clone()
        };
        match self.authenticator.token(token, &audiences, request.now).await {
            Ok(found) => Ok(json!({
                "authenticated": true,
                "user": user_info(&found.user),
                "audiences": found.audiences,
            })),
            Err(TokenRefusal::Failed(status)) => Err(status),
            Err(TokenRefusal::Refused(why)) => Ok(json!({"error": why})),
        }
    }

    fn access_review(&self, kind: &str, object: &Value, user: &User) -> Result<Value, Status> {
        validate(kind, object)?;
        let spec = &object["spec"];
        let fields = selected_fields(&spec["resourceAttributes"]["fieldSelector"]);
        let attributes = if let Some(of) = spec.get("resourceAttributes").filter(|of| !of.is_null()) {
            let word = |field: &str| of[field].as_str().unwrap_or_default();
            Attributes {
                verb: word("verb"),
                group: word("group"),
                version: word("version"),
                resource: word("resource"),
                subresource: word("subresource"),
                namespace: word("namespace"),
                name: word("name"),
                fields: &fields,
                ..Attributes::resource(user)
            }
        } else {
            Attributes {
                verb: text(spec, "/nonResourceAttributes/verb"),
                path: text(spec, "/nonResourceAttributes/path"),
                ..Attributes::path(user)
            }
        };
        let (allowed, denied, reason) = match self.authorizer.authorize(&attributes) {
            Decision::Allow(reason) => (true, false, reason),
            Decision::Deny(reason) => (false, true, reason),
            Decision::NoOpinion(reason) => (false, false, reason),
        };
        let mut status = json!({ "allowed": allowed });
        if denied {
            status["denied"] = true.into();
        }
        if !reason.is_empty() {
            status["reason"] = reason.into();
        }
        Ok(status)
    }

    fn rules_review(&self, object: &Value, user: &User) -> Result<Value, Status> {
        let namespace = text(object, "/spec/namespace");
        if namespace.is_empty() {
            return Err(Status::bad_request("no namespace on request"));
        }
        let (rules, problems, incomplete) = self.authorizer.rules_for(user, namespace);
        let (paths, resources): (Vec<&Rule>, Vec<&Rule>) =
            rules.iter().partition(|rule| !rule.non_resource_urls.is_empty());
        let mut status = json!({
            "resourceRules": resources,
            "nonResourceRules": paths,
            "incomplete": incomplete || !problems.is_empty(),
        });
        if !problems.is_empty() {
            status["evaluationError"] = problems.join(", ").into();
        }
        Ok(status)
    }
}

/// Whom a review speaks of.
fn spoken_of(object: &Value) -> Result<User, Status> {
    let spec = &object["spec"];
    let (name, groups) = (text(spec, "/user").to_owned(), strings(&spec["groups"]));
    if name.is_empty() && groups.is_empty() {
        let kind = text(object, "/kind");
        return Err(invalid(
            kind,
            "spec.user",
            &"".into(),
            "at least one of user or group must be specified",
        ));
    }
    Ok(User {
        name,
        uid: text(spec, "/uid").to_owned(),
        groups,
        extra: spec["extra"]
            .as_object()
            .into_iter()
            .flatten()
            .map(|(key, values)| (key.clone(), strings(values)))
            .collect(),
    })
}

fn validate(kind: &str, object: &Value) -> Result<(), Status> {
    let has = |field: &str| object["spec"].get(field).is_some_and(|value| !value.is_null());
    match (has("resourceAttributes"), has("nonResourceAttributes")) {
        (true, true) => Err(invalid(
            kind,
            "spec.nonResourceAttributes",
            &object["spec"]["nonResourceAttributes"],
            "cannot be specified in combination with resourceAttributes",
        )),
        (false, false) => Err(invalid(
            kind,
            "spec.resourceAttributes",
            &Value::Null,
            "exactly one of nonResourceAttributes or resourceAttributes must be specified",
        )),
        (false, true) if kind == "LocalSubjectAccessReview" => Err(invalid(
            kind,
            "spec.nonResourceAttributes",
            &object["spec"]["nonResourceAttributes"],
            "disallowed on this kind of request",
        )),
        _ => Ok(()),
    }
}

fn invalid(kind: &str, field: &str, value: &Value, detail: &str) -> Status {
    let error = FieldError {
        field: field.to_owned(),
        problem: Problem::Invalid(value.clone(), detail.to_owned()),
    };
    Status::invalid(AUTHORIZATION, kind, "", &[error])
}

fn strings(value: &Value) -> Vec<String> {
    let items = value.as_array().into_iter().flatten();
    items.filter_map(Value::as_str).map(str::to_owned).collect()
}

/// The fields that a selector holds to one value; nothing else narrows what is asked for.
fn selected_fields(selector: &Value) -> Vec<(String, String)> {
    let requirements = selector["requirements"].as_array().into_iter().flatten();
    requirements
        .filter(|requirement| requirement["operator"] == "In")
        .filter_map(|requirement| {
            let [value] = &strings(&requirement["values"])[..] else {
                return None;
            };
            Some((requirement["key"].as_str()?.to_owned(), value.clone()))
        })
        .collect()
}

/// `authentication.k8s.io/v1` `UserInfo`.
fn user_info(user: &User) -> Value {
    let mut info = Map::new();
    info.insert("username".into(), user.name.clone().into());
    if !user.uid.is_empty() {
        info.insert("uid".into(), user.uid.clone().into());
    }
    if !user.groups.is_empty() {
        info.insert("groups".into(), user.groups.clone().into());
    }
    if !user.extra.is_empty() {
        info.insert("extra".into(), json!(user.extra));
    }
    info.into()
}

#[cfg(test)]
mod tests;
