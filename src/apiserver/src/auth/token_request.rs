//! `serviceaccounts/token`: how service accounts get tokens.

use bosun_api::field::{FieldError, Problem};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::{
    authenticate::Authenticator,
    names::service_account,
    objects::{Objects, text},
};
use crate::Status;

/// The shortest life that may be asked for.
const SHORTEST: i64 = 600;
/// What upstream's clients ask for in pods, meaning "an hour": such tokens live a year and say when they should have been
/// replaced, for programs that read the file once (upstream's `--service-account-extend-token-expiration`).
const POD_LIFE: i64 = 3607;
const EXTENDED_LIFE: i64 = 365 * 24 * 3600;

/// What a token says about the objects it is bound to, beside the service account.
#[derive(Clone, Debug, Default, PartialEq)]
struct Bound {
    pod: Option<Value>,
    secret: Option<Value>,
    node: Option<Value>,
}

/// A token for a service account, as a `TokenRequest` asks: the same with its status.
pub async fn create(
    of: &Authenticator,
    namespace: &str,
    name: &str,
    mut request: Value,
    now: Timestamp,
) -> Result<Value, Status> {
    validate(&request)?;
    let objects = of.objects();
    let account = objects
        .get("", "serviceaccounts", namespace, name)
        .await?
        .ok_or_else(|| Status::not_found("", "serviceaccounts", name))?;
    let audiences = match request["spec"]["audiences"].as_array() {
        Some(given) if !given.is_empty() => given.clone(),
        _ => vec![of.issuer().into()],
    };
    let asked = request["spec"]["expirationSeconds"].as_i64().unwrap_or(3600);
    let bound = bound(objects, namespace, name, &request["spec"]["boundObjectRef"]).await?;
    let for_us = audiences.iter().all(|audience| audience == of.issuer());
    let extended = asked == POD_LIFE && for_us && bound.pod.is_some();
    let life = if extended { EXTENDED_LIFE } else { asked };
    let claims = claims(
        of.issuer(),
        namespace,
        &account,
        &audiences,
        &bound,
        now,
        life,
        extended.then_some(asked),
    );
    request["metadata"]["name"] = name.into();
    request["metadata"]["namespace"] = namespace.into();
    request["metadata"]["creationTimestamp"] = seconds(now).into();
    request["spec"]["audiences"] = audiences.into();
    request["spec"]["expirationSeconds"] = asked.into();
    request["status"] = json!({
        "token": of.token_keys().sign(&claims),
        "expirationTimestamp": seconds(now + SignedDuration::from_secs(asked)),
    });
    Ok(request)
}

/// As the API writes times: whole seconds.
pub(crate) fn seconds(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn validate(request: &Value) -> Result<(), Status> {
    let mut errors = Vec::new();
    let mut wrong = |value: &Value, detail: &str| {
        errors.push(FieldError {
            field: "spec.expirationSeconds".to_owned(),
            problem: Problem::Invalid(value.clone(), detail.to_owned()),
        });
    };
    let asked = &request["spec"]["expirationSeconds"];
    match asked.as_i64() {
        Some(seconds) if seconds < SHORTEST => wrong(asked, "may not specify a duration less than 10 minutes"),
        Some(seconds) if seconds > 1 << 32 => wrong(asked, "may not specify a duration larger than 2^32 seconds"),
        _ => {}
    }
    if errors.is_empty() {
        return Ok(());
    }
    Err(Status::invalid(
        "authentication.k8s.io",
        "TokenRequest",
        text(request, "/metadata/name"),
        &errors,
    ))
}

async fn bound(objects: &dyn Objects, namespace: &str, account: &str, reference: &Value) -> Result<Bound, Status> {
    if reference.is_null() {
        return Ok(Bound::default());
    }
    let (kind, name, uid) = (
        text(reference, "/kind"),
        text(reference, "/name"),
        text(reference, "/uid"),
    );
    let (group, version) = text(reference, "/apiVersion").rsplit_once('/').unwrap_or(("", "v1"));
    let get = async |plural: &str, namespace: &str, name: &str| {
        objects
            .get("", plural, namespace, name)
            .await?
            .ok_or_else(|| Status::not_found("", plural, name))
    };
    let of = |object: &Value| json!({"name": object["metadata"]["name"], "uid": object["metadata"]["uid"]});
    let mut bound = Bound::default();
    let object = match (group, kind) {
        ("", "Pod") => {
            let pod = get("pods", namespace, name).await?;
            if text(&pod, "/spec/serviceAccountName") != account {
                return Err(Status::bad_request(format!(
                    "cannot bind token for serviceaccount {account:?} to pod running with different serviceaccount \
                         name."
                )));
            }
            let node = text(&pod, "/spec/nodeName");
            if !node.is_empty() {
                let node_object = objects.get("", "nodes", "", node).await?;
                bound.node = Some(node_object.map_or_else(|| json!({ "name": node }), |object| of(&object)));
            }
            bound.pod = Some(of(&pod));
            pod
        }
        ("", "Secret") => {
            let secret = get("secrets", namespace, name).await?;
            bound.secret = Some(of(&secret));
            secret
        }
        ("", "Node") => {
            let node = get("nodes", "", name).await?;
            bound.node = Some(of(&node));
            node
        }
        _ => {
            return Err(Status::bad_request(format!(
                "cannot bind token to object of type {group}/{version}, Kind={kind}"
            )));
        }
    };
    if !uid.is_empty() && uid != text(&object, "/metadata/uid") {
        return Err(Status::conflict(
            "",
            kind,
            name,
            &format!(
                "the UID in the bound object reference ({uid}) does not match the UID in record. The object might have \
                 been deleted and then recreated"
            ),
        ));
    }
    Ok(bound)
}

#[allow(clippy::too_many_arguments, reason = "a token says eight things")]
fn claims(
    issuer: &str,
    namespace: &str,
    account: &Value,
    audiences: &[Value],
    bound: &Bound,
    now: Timestamp,
    life: i64,
    warn_after: Option<i64>,
) -> Value {
    let second = now.as_second();
    let name = text(account, "/metadata/name");
    let mut private = json!({
        "namespace": namespace,
        "serviceaccount": {"name": name, "uid": account["metadata"]["uid"]},
    });
    for (of, object) in [("pod", &bound.pod), ("secret", &bound.secret), ("node", &bound.node)] {
        if let Some(object) = object {
            private[of] = object.clone();
        }
    }
    if let Some(after) = warn_after {
        private["warnafter"] = (second + after).into();
    }
    json!({
        "aud": audiences, "exp": second + life, "iat": second, "nbf": second, "iss": issuer,
        "jti": uuid::Uuid::new_v4().to_string(), "kubernetes.io": private, "sub": service_account(namespace, name),
    })
}
