//! Certificate signing requests: who asked, and who may approve and sign for which signer.

use serde_json::{Value, json};

use super::{
    Attributes, Operation,
    builtin::{Subject, forbid},
};
use crate::{
    Status, User,
    auth::{Authorizer, Decision, authorize, names::MASTERS, objects::text},
    pod::items,
};

const GROUP: &str = "certificates.k8s.io";

/// Writes down who asks, whatever they say.
pub(super) fn stamp(object: &mut Value, user: &User) {
    let spec = &mut object["spec"];
    spec["username"] = user.name.clone().into();
    let fields: [(&str, Value); 3] = [
        ("uid", user.uid.clone().into()),
        ("groups", user.groups.clone().into()),
        ("extra", json!(user.extra)),
    ];
    for (field, value) in fields {
        let empty = match &value {
            Value::String(text) => text.is_empty(),
            Value::Array(items) => items.is_empty(),
            Value::Object(map) => map.is_empty(),
            _ => true,
        };
        if !empty {
            spec[field] = value;
        } else if let Some(spec) = spec.as_object_mut() {
            spec.remove(field);
        }
    }
}

/// Refuses what the user may not do about a request.
pub(super) fn check(authorizer: &Authorizer, attributes: &Attributes<'_>, subject: Subject<'_>) -> Result<(), Status> {
    let user = &attributes.request.user;
    let signer = text(attributes.old.unwrap_or(&attributes.object), "/spec/signerName");
    let changed = |pointer: &str| {
        attributes
            .old
            .is_none_or(|old| old.pointer(pointer) != attributes.object.pointer(pointer))
    };
    match (subject.operation, subject.subresource) {
        (Operation::Create, "") if asks_for_masters(&attributes.object) => Err(forbid(
            attributes,
            "use of kubernetes.io/kube-apiserver-client signer with system:masters group is not allowed",
        )),
        (Operation::Update, "approval") if !may(authorizer, user, "approve", signer) => Err(forbid(
            attributes,
            &format!("user not permitted to approve requests with signerName {signer:?}"),
        )),
        (Operation::Update, "status")
            if (changed("/status/certificate") || has_failed(attributes)) && !may(authorizer, user, "sign", signer) =>
        {
            Err(forbid(
                attributes,
                &format!("user not permitted to sign requests with signerName {signer:?}"),
            ))
        }
        _ => Ok(()),
    }
}

/// Whether a condition `Failed` comes or goes.
fn has_failed(attributes: &Attributes<'_>) -> bool {
    let failed = |object: &Value| {
        items(&object["status"]["conditions"])
            .iter()
            .any(|one| one["type"] == "Failed")
    };
    attributes
        .old
        .is_some_and(|old| failed(old) != failed(&attributes.object))
}

/// Whether it asks for a certificate that nothing can take rights from.
fn asks_for_masters(object: &Value) -> bool {
    use base64::{Engine, engine::general_purpose::STANDARD};
    use bosun_pki::signer::{API_CLIENT, SigningRequest};
    if text(object, "/spec/signerName") != API_CLIENT {
        return false;
    }
    let pem = STANDARD.decode(text(object, "/spec/request")).unwrap_or_default();
    // What is no request at all is refused by its validation.
    SigningRequest::from_pem(&pem).is_ok_and(|request| request.organizations.iter().any(|group| group == MASTERS))
}

/// Whether the user may for this signer, or for all of its domain.
fn may(authorizer: &Authorizer, user: &User, verb: &str, signer: &str) -> bool {
    let domain = signer.split_once('/').map_or(signer, |(domain, _)| domain);
    [signer.to_owned(), format!("{domain}/*")].iter().any(|name| {
        let asked = authorize::Attributes {
            verb,
            group: GROUP,
            version: "*",
            resource: "signers",
            name,
            ..authorize::Attributes::resource(user)
        };
        matches!(authorizer.authorize(&asked), Decision::Allow(_))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::authorize::rbac;

    #[test]
    fn who_asks_is_written_down_whatever_they_say() {
        let user = User {
            name: "jane".into(),
            groups: vec!["devs".into()],
            ..User::default()
        };
        let mut object = json!({"spec": {"username": "root", "uid": "0", "groups": [MASTERS], "extra": {"x": ["y"]}}});
        stamp(&mut object, &user);
        assert_eq!(object["spec"], json!({"username": "jane", "groups": ["devs"]}));
    }

    #[test]
    fn signers_are_allowed_by_name_or_domain() {
        let authorizer = Authorizer::default();
        authorizer.upsert(rbac::GROUP, "clusterroles", &json!({"metadata": {"name": "r"}, "rules": [
            {"verbs": ["approve"], "apiGroups": [GROUP], "resources": ["signers"], "resourceNames": ["a.com/one", "b.com/*"]}]}));
        authorizer.upsert(
            rbac::GROUP,
            "clusterrolebindings",
            &json!({"metadata": {"name": "b"},
            "roleRef": {"kind": "ClusterRole", "name": "r"}, "subjects": [{"kind": "User", "name": "jane"}]}),
        );
        let jane = User {
            name: "jane".into(),
            ..User::default()
        };
        for (verb, signer, allowed) in [
            ("approve", "a.com/one", true),
            ("approve", "a.com/two", false),
            ("approve", "b.com/two", true),
            ("sign", "a.com/one", false),
        ] {
            assert_eq!(may(&authorizer, &jane, verb, signer), allowed, "{verb} {signer}");
        }
    }
}
