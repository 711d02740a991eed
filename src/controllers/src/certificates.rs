//! Requests for certificates: approved where they are a node's own, signed once approved, and cleared away.
//!
//! - [`approve`]: which requests of nodes are approved without a person. Pure.
//! - [`Approver`], [`Signer`], [`Cleaner`]: what does it. Keys are names of requests.

mod approve;
mod clean;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bosun_client::{CallError, Change, ObjectKey, Reader, call::call};
use bosun_pki::signer::{self, KUBELET_CLIENT, KUBELET_SERVING, SignError};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{
    ByteString,
    api::{
        authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec},
        certificates::v1::{CertificateSigningRequest, CertificateSigningRequestCondition},
    },
    apimachinery::pkg::apis::meta::v1::Time,
};
use kube::{Api, ResourceExt, api::PostParams};
use serde_json::{Value, json};
use tracing::{debug, info};

use crate::{
    objects::SigningRequest,
    runtime::{
        Context, Controller, Done, SyncError, Watches,
        write::{self, only},
    },
};

fn has(request: &SigningRequest, type_: &str) -> bool {
    request
        .status
        .conditions
        .iter()
        .any(|condition| condition.type_ == type_)
}

/// The conditions of a request and one more.
fn with(request: &SigningRequest, type_: &str, reason: &str, message: &str) -> Value {
    let now = Some(Time(Timestamp::now()));
    let new = CertificateSigningRequestCondition {
        type_: type_.to_owned(),
        status: "True".to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        last_update_time: now.clone(),
        last_transition_time: now,
    };
    json!(request.status.conditions.iter().chain([&new]).collect::<Vec<_>>())
}

fn on_requests(watches: &mut Watches<String>, requests: &Reader<SigningRequest>) {
    watches.on(requests, |change| {
        (!matches!(change, Change::Deleted(_))).then(|| change.object().name_any())
    });
}

/// Approves requests of nodes for one signer.
#[derive(Debug)]
pub struct Approver {
    context: Context,
    signer: &'static str,
}

impl Approver {
    /// Of nodes as clients: who may have a certificate is asked of the API's authorization.
    pub fn of_clients(context: &Context) -> Self {
        Self {
            context: context.clone(),
            signer: KUBELET_CLIENT,
        }
    }

    /// Of nodes as servers: a node may have one for its own addresses.
    pub fn of_servers(context: &Context) -> Self {
        Self {
            context: context.clone(),
            signer: KUBELET_SERVING,
        }
    }

    async fn may(&self, request: &SigningRequest, subresource: &str) -> Result<bool, CallError> {
        let spec = &request.spec;
        let review = SubjectAccessReview {
            spec: SubjectAccessReviewSpec {
                user: Some(spec.username.clone()),
                uid: Some(spec.uid.clone()),
                groups: Some(spec.groups.clone()),
                extra: Some(spec.extra.clone()),
                resource_attributes: Some(ResourceAttributes {
                    group: Some("certificates.k8s.io".to_owned()),
                    resource: Some("certificatesigningrequests".to_owned()),
                    subresource: Some(subresource.to_owned()),
                    verb: Some("create".to_owned()),
                    version: Some("*".to_owned()),
                    ..ResourceAttributes::default()
                }),
                ..SubjectAccessReviewSpec::default()
            },
            ..SubjectAccessReview::default()
        };
        let api: Api<SubjectAccessReview> = Api::all(self.context.client.clone());
        let answer = call(api.create(&PostParams::default(), &review)).await?;
        Ok(answer.status.is_some_and(|status| status.allowed))
    }
}

#[async_trait]
impl Controller for Approver {
    type Key = String;

    fn name(&self) -> &'static str {
        if self.signer == KUBELET_CLIENT {
            "csr-approver"
        } else {
            "kubelet-serving-csr-approver"
        }
    }

    fn watch(self: &Arc<Self>, watches: &mut Watches<String>) {
        let informers = &self.context.informers;
        on_requests(watches, &informers.signing_requests);
        if self.signer == KUBELET_SERVING {
            // A node may ask before it has said what its addresses are.
            let requests = informers.signing_requests.clone();
            watches.on(&informers.nodes, move |change| {
                let asked = match change {
                    Change::Added(node) => Some(node),
                    Change::Updated { old, new } if old.status.addresses != new.status.addresses => Some(new),
                    _ => None,
                };
                let user = asked.map(|node| format!("{}{}", approve::USER_PREFIX, node.name_any()));
                requests.with(|requests| {
                    let own = requests.filter(|request| Some(&request.spec.username) == user.as_ref());
                    own.map(|request| request.name_any()).collect::<Vec<_>>()
                })
            });
        }
    }

    async fn sync(&self, name: &String) -> Result<Done, SyncError> {
        let informers = &self.context.informers;
        let Some(request) = informers.signing_requests.get(&ObjectKey::cluster(name)) else {
            return Ok(Done::Settled);
        };
        let decided = ["Approved", "Denied", "Failed"]
            .iter()
            .any(|type_| has(&request, type_));
        if request.spec.signer_name != self.signer || decided || request.status.certificate.is_some() {
            return Ok(Done::Settled);
        }
        let asked = match signer::SigningRequest::from_pem(&request.spec.request.0) {
            Ok(asked) => asked,
            Err(error) => {
                debug!(name, %error, "not approved");
                return Ok(Done::Settled);
            }
        };
        let message = if self.signer == KUBELET_CLIENT {
            let Some(subresource) = approve::client(&asked, &request.spec) else {
                return Ok(Done::Settled);
            };
            if !self.may(&request, subresource).await? {
                let user = &request.spec.username;
                // Who may is changed by hand, as by a binding that is missing yet.
                return Err(SyncError::Other(format!(
                    "{user} may not create {subresource} certificate signing requests"
                )));
            }
            format!("Auto approving {subresource} certificate after SubjectAccessReview.")
        } else {
            let node = asked.common_name.strip_prefix(approve::USER_PREFIX).unwrap_or_default();
            let node = informers.nodes.get(&ObjectKey::cluster(node));
            if let Err(why) = approve::server(&asked, &request.spec, node.as_deref()) {
                info!(name, why, "not approved: somebody may do so by hand");
                return Ok(Done::Settled);
            }
            "Auto approving kubelet serving certificate: all its names are the node's.".to_owned()
        };
        let status = json!({"status": {"conditions": with(&request, "Approved", "AutoApproved", &message)}});
        write::put(&self.context.client, &*request, "approval", &status).await?;
        info!(name, signer = self.signer, user = request.spec.username, "approved");
        Ok(Done::Settled)
    }
}

/// Signs what is approved.
#[derive(Debug)]
pub struct Signer(Context);

impl Signer {
    /// Under the identity of the context's client, with the authority of its configuration.
    pub fn new(context: &Context) -> Self {
        Self(context.clone())
    }
}

#[async_trait]
impl Controller for Signer {
    type Key = String;

    fn name(&self) -> &'static str {
        "csr-signer"
    }

    fn watch(self: &Arc<Self>, watches: &mut Watches<String>) {
        on_requests(watches, &self.0.informers.signing_requests);
    }

    async fn sync(&self, name: &String) -> Result<Done, SyncError> {
        let request = self.0.informers.signing_requests.get(&ObjectKey::cluster(name));
        let (Some(request), Some(authority)) = (request, &self.0.config.authority) else {
            return Ok(Done::Settled);
        };
        let open = has(&request, "Approved") && !has(&request, "Denied") && !has(&request, "Failed");
        if !open || request.status.certificate.is_some() {
            return Ok(Done::Settled);
        }
        let spec = &request.spec;
        let longest = SignedDuration::try_from(self.0.config.signing_duration).unwrap_or(SignedDuration::MAX);
        let life = spec
            .expiration_seconds
            .map_or(longest, |seconds| SignedDuration::from_secs(seconds).min(longest));
        let signed = signer::SigningRequest::from_pem(&spec.request.0).and_then(|asked| {
            signer::sign(
                authority,
                &spec.signer_name,
                &asked,
                &spec.usages,
                Some(life),
                Timestamp::now(),
            )
        });
        let status = match signed {
            Ok(certificate) => json!({
                "conditions": request.status.conditions,
                "certificate": ByteString(certificate.pem().into_bytes()),
            }),
            // Somebody else's to sign.
            Err(SignError::UnknownSigner(_)) => return Ok(Done::Settled),
            Err(error) => {
                let message = error.to_string();
                json!({"conditions": with(&request, "Failed", "SignerValidationFailure", &message)})
            }
        };
        write::update_status(&self.0.client, &*request, &status).await?;
        info!(name, signer = spec.signer_name, "signed, or refused");
        Ok(Done::Settled)
    }
}

/// Clears away what is done with.
#[derive(Debug)]
pub struct Cleaner(Context);

impl Cleaner {
    /// Under the identity of the context's client.
    pub fn new(context: &Context) -> Self {
        Self(context.clone())
    }
}

#[async_trait]
impl Controller for Cleaner {
    type Key = String;

    fn name(&self) -> &'static str {
        "csr-cleaner"
    }

    fn watch(self: &Arc<Self>, watches: &mut Watches<String>) {
        on_requests(watches, &self.0.informers.signing_requests);
    }

    async fn sync(&self, name: &String) -> Result<Done, SyncError> {
        let Some(request) = self.0.informers.signing_requests.get(&ObjectKey::cluster(name)) else {
            return Ok(Done::Settled);
        };
        let (now, goes) = (Timestamp::now(), clean::goes_at(&request));
        if goes > now {
            let left = now.duration_until(goes).try_into().unwrap_or(Duration::from_secs(3600));
            return Ok(Done::Again(left));
        }
        let api: Api<CertificateSigningRequest> = Api::all(self.0.client.clone());
        match call(api.delete(name, &only(&*request))).await {
            Err(error) if !error.is_not_found() && !error.is_conflict() => Err(error.into()),
            _ => Ok(Done::Settled),
        }
    }
}
