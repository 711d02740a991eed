//! The certificates group: who wants to be certified as whom.

use base64::{Engine, engine::general_purpose::STANDARD};
use bosun_api::{
    field::{Errors, OrEmpty, Path},
    names,
};
use k8s_openapi::{
    api::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestCondition},
    apimachinery::pkg::apis::meta::v1::Time,
};

use crate::{Context, kind::Kind};

/// What a certificate may be for.
const USAGES: &[&str] = &[
    "any",
    "cert sign",
    "client auth",
    "code signing",
    "content commitment",
    "crl sign",
    "data encipherment",
    "decipher only",
    "digital signature",
    "email protection",
    "encipher only",
    "ipsec end system",
    "ipsec tunnel",
    "ipsec user",
    "key agreement",
    "key encipherment",
    "microsoft sgc",
    "netscape sgc",
    "ocsp signing",
    "s/mime",
    "server auth",
    "signing",
    "timestamping",
];

pub(crate) struct Requests;

impl Kind for Requests {
    type Object = CertificateSigningRequest;

    const GENERATION: bool = false;

    fn validate(request: &CertificateSigningRequest, errors: &mut Errors) {
        let path = Path::root("spec");
        let spec = &request.spec;
        if !is_request(&spec.request.0) {
            errors.invalid_object(
                &path.child("request"),
                &spec.request,
                "PEM block type must be CERTIFICATE REQUEST",
            );
        }
        let usages = spec.usages.or_empty();
        let usages_path = path.child("usages");
        if usages.is_empty() {
            errors.required(&usages_path, "");
        }
        for (index, usage) in usages.iter().enumerate() {
            errors.one_of(&usages_path.index(index), Some(usage), USAGES);
            if usages[..index].contains(usage) {
                errors.duplicate(&usages_path.index(index), usage.as_str());
            }
        }
        signer(&spec.signer_name, &path.child("signerName"), errors);
        if let Some(seconds) = spec.expiration_seconds.filter(|seconds| *seconds < 600) {
            errors.invalid(
                &path.child("expirationSeconds"),
                seconds,
                "may not specify a duration less than 600 seconds (10 minutes)",
            );
        }
    }

    fn prepare_update(request: &mut CertificateSigningRequest, old: &CertificateSigningRequest, context: &Context<'_>) {
        // Nobody asks for something else in the name of the first.
        request.spec = old.spec.clone();
        let before = old.status.clone().unwrap_or_default();
        match context.subresource {
            "approval" => {
                let status = request.status.get_or_insert_default();
                status.certificate = before.certificate;
                date(status.conditions.as_mut(), before.conditions.or_empty(), context);
            }
            "status" => {
                let status = request.status.get_or_insert_default();
                let conditions = status.conditions.get_or_insert_default();
                // Approval is for those who may approve.
                conditions.retain(|condition| !is_approval(condition));
                let kept = before.conditions.or_empty().iter().filter(|kept| is_approval(kept));
                conditions.splice(0..0, kept.cloned());
                date(status.conditions.as_mut(), before.conditions.or_empty(), context);
            }
            _ => {}
        }
    }

    fn validate_update(request: &CertificateSigningRequest, _: &CertificateSigningRequest, errors: &mut Errors) {
        conditions(request, errors);
    }

    fn validate_part(
        request: &CertificateSigningRequest,
        old: &CertificateSigningRequest,
        part: &str,
        errors: &mut Errors,
    ) {
        conditions(request, errors);
        let of = |request: &CertificateSigningRequest| request.status.clone().unwrap_or_default();
        let (new, old) = (of(request), of(old));
        if part == "status" && old.certificate.is_some() && new.certificate != old.certificate {
            errors.forbidden(
                &Path::root("status.certificate"),
                "updates may not set certificate content once it is set",
            );
        }
        for type_ in ["Approved", "Denied", "Failed"] {
            let has = |conditions: &[CertificateSigningRequestCondition]| {
                conditions.iter().any(|condition| condition.type_ == type_)
            };
            if has(old.conditions.or_empty()) && !has(new.conditions.or_empty()) {
                errors.forbidden(
                    &Path::root("status.conditions"),
                    format!("updates may not remove a condition of type {type_:?}"),
                );
            }
        }
    }
}

fn is_approval(condition: &CertificateSigningRequestCondition) -> bool {
    matches!(condition.type_.as_str(), "Approved" | "Denied")
}

/// A certificate request in a PEM block. Who signs will look inside.
fn is_request(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return false;
    };
    let Some((_, rest)) = text.split_once("-----BEGIN CERTIFICATE REQUEST-----") else {
        return false;
    };
    let Some((body, _)) = rest.split_once("-----END CERTIFICATE REQUEST-----") else {
        return false;
    };
    let body: String = body.split_whitespace().collect();
    STANDARD.decode(body).is_ok_and(|der| !der.is_empty())
}

fn signer(name: &str, path: &Path, errors: &mut Errors) {
    if name.is_empty() {
        return errors.required(path, "");
    }
    if name == "kubernetes.io/legacy-unknown" {
        return errors.invalid(path, name, "the legacy signerName is not allowed via this API version");
    }
    let Some((domain, last)) = name.split_once('/').filter(|(_, last)| !last.contains('/')) else {
        return errors.invalid(
            path,
            name,
            "must be a fully qualified domain and path of the form 'example.com/signer-name'",
        );
    };
    if domain.len() > 253 {
        errors.too_long(path, 253);
    }
    for label in domain.split('.') {
        if let Err(detail) = names::dns_label(label) {
            errors.invalid(path, domain, format!("validating label {label:?}: {detail}"));
        }
    }
    if !domain.contains('.') {
        errors.invalid(
            path,
            domain,
            "should be a domain with at least two segments separated by dots",
        );
    }
    for label in last.split('.') {
        if let Err(detail) = names::dns_subdomain(label) {
            errors.invalid(path, last, format!("validating label {label:?}: {detail}"));
        }
    }
}

fn conditions(request: &CertificateSigningRequest, errors: &mut Errors) {
    let Some(status) = &request.status else { return };
    let path = Path::root("status.conditions");
    let conditions = status.conditions.or_empty();
    for (index, condition) in conditions.iter().enumerate() {
        let path = path.index(index);
        let type_path = path.child("type");
        if condition.type_.is_empty() {
            errors.required(&type_path, "");
        }
        if conditions[..index].iter().any(|other| other.type_ == condition.type_) {
            errors.duplicate(&type_path, condition.type_.as_str());
        }
        let allowed: &[_] = match condition.type_.as_str() {
            "Approved" | "Denied" | "Failed" => &["True"],
            _ => &["False", "True", "Unknown"],
        };
        errors.required_one_of(&path.child("status"), &condition.status, allowed);
    }
    let has = |type_: &str| conditions.iter().any(|condition| condition.type_ == type_);
    if has("Approved") && has("Denied") {
        errors.invalid_object(
            &path,
            &conditions,
            "Approved and Denied conditions are mutually exclusive",
        );
    }
}

/// Conditions say since when they hold.
fn date(
    conditions: Option<&mut Vec<CertificateSigningRequestCondition>>,
    before: &[CertificateSigningRequestCondition],
    context: &Context<'_>,
) {
    let now = Time(context.now);
    for condition in conditions.into_iter().flatten() {
        condition.last_update_time.get_or_insert_with(|| now.clone());
        if condition.last_transition_time.is_none() {
            let same = |other: &&CertificateSigningRequestCondition| {
                other.type_ == condition.type_ && other.status == condition.status
            };
            let since = before
                .iter()
                .find(same)
                .and_then(|same| same.last_transition_time.clone());
            condition.last_transition_time = Some(since.unwrap_or_else(|| now.clone()));
        }
    }
}

#[cfg(test)]
mod tests {
    use base64::{Engine, engine::general_purpose::STANDARD};
    use serde_json::{Value, json};

    use crate::testing::{create, mistakes, update, with};

    const GROUP: &str = "certificates.k8s.io";

    fn request() -> Value {
        let pem = "-----BEGIN CERTIFICATE REQUEST-----\nAQID\n-----END CERTIFICATE REQUEST-----\n";
        json!({
            "apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest", "metadata": {"name": "c"},
            "spec": {
                "request": STANDARD.encode(pem), "signerName": "kubernetes.io/kube-apiserver-client",
                "usages": ["client auth"],
            },
        })
    }

    #[test]
    fn a_request_is_one_for_a_certificate() {
        mistakes(
            GROUP,
            "CertificateSigningRequest",
            &request(),
            &[
                (
                    "/spec/request",
                    json!("AAAA"),
                    &["spec.request: Invalid value: \"AAAA\": PEM block type must be CERTIFICATE REQUEST"],
                ),
                ("/spec/usages", json!([]), &["spec.usages: Required value"]),
                (
                    "/spec/signerName",
                    json!("me"),
                    &[
                        "spec.signerName: Invalid value: \"me\": must be a fully qualified domain and path of the \
                         form 'example.com/signer-name'",
                    ],
                ),
                (
                    "/spec/expirationSeconds",
                    json!(1),
                    &[
                        "spec.expirationSeconds: Invalid value: 1: may not specify a duration less than 600 seconds \
                         (10 minutes)",
                    ],
                ),
            ],
        );
    }

    #[test]
    fn each_part_changes_what_is_its_own() {
        let kind = "CertificateSigningRequest";
        let stored = create(GROUP, kind, request()).unwrap();
        let approved = json!({"conditions": [{"type": "Approved", "status": "True"}], "certificate": "AAAA"});
        let new = with(&stored, "/status", approved);
        let by_approval = update(GROUP, kind, new.clone(), &stored, "approval").unwrap();
        assert_eq!(
            by_approval["status"],
            json!({"conditions": [{
                "type": "Approved", "status": "True", "lastUpdateTime": "2024-05-01T12:00:00Z",
                "lastTransitionTime": "2024-05-01T12:00:00Z",
            }]})
        );
        let by_status = update(GROUP, kind, new, &stored, "status").unwrap();
        assert_eq!(by_status["status"], json!({"conditions": [], "certificate": "AAAA"}));
        let both = json!({"conditions": [
            {"type": "Approved", "status": "True"}, {"type": "Denied", "status": "False"},
        ]});
        let errors = update(GROUP, kind, with(&stored, "/status", both), &stored, "approval").unwrap_err();
        assert_eq!(
            errors[0],
            "status.conditions[1].status: Unsupported value: \"False\": supported values: \"True\""
        );
        assert_eq!(errors.len(), 2, "{errors:?}");
    }
}
