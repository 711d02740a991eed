//! Asking as somebody else: `Impersonate-*` headers. Each thing somebody is made out to be must be allowed by itself.

use std::{collections::BTreeMap, sync::Arc};

use http::HeaderMap;

use crate::{
    Status, User,
    auth::{
        authorize::{Attributes, Authorizer},
        names::{ANONYMOUS, AUTHENTICATED, UNAUTHENTICATED, service_account_groups, split_service_account},
    },
};

const USER: &str = "impersonate-user";
const UID: &str = "impersonate-uid";
const GROUP: &str = "impersonate-group";
const EXTRA: &str = "impersonate-extra-";

/// Who a request is made out to be by: `None` if it has no such headers.
pub fn wanted(headers: &HeaderMap) -> Result<Option<User>, Status> {
    let text = |value: &http::HeaderValue| {
        String::from_utf8(value.as_bytes().to_vec())
            .map_err(|_| Status::bad_request("an impersonation header is not UTF-8"))
    };
    let one = |name: &str| headers.get(name).map(text).transpose().map(Option::unwrap_or_default);
    let mut user = User {
        name: one(USER)?,
        uid: one(UID)?,
        groups: headers.get_all(GROUP).iter().map(text).collect::<Result<_, _>>()?,
        extra: BTreeMap::new(),
    };
    for (name, value) in headers {
        if let Some(key) = name.as_str().strip_prefix(EXTRA) {
            user.extra.entry(unescape(key)).or_default().push(text(value)?);
        }
    }
    if !user.name.is_empty() {
        return Ok(Some(user));
    }
    if user.uid.is_empty() && user.groups.is_empty() && user.extra.is_empty() {
        return Ok(None);
    }
    Err(Status::internal(
        "requested groups, uid or extra without impersonating a user",
    ))
}

/// `%` and two hexadecimal digits stand for a byte; anything else for itself, as upstream decodes it.
fn unescape(key: &str) -> String {
    let bytes = key.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = (bytes[at] == b'%')
            .then(|| key.get(at + 1..at + 3))
            .flatten()
            .filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()))
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        if let Some(byte) = hex {
            out.push(byte);
            at += 3;
        } else {
            out.push(bytes[at]);
            at += 1;
        }
    }
    String::from_utf8(out).unwrap_or_else(|_| key.to_owned())
}

/// The user to go on as, if `user` may be `wanted` in all that it says.
pub fn impersonate(authorizer: &Authorizer, user: &User, wanted: User) -> Result<Arc<User>, Status> {
    let base = Attributes {
        verb: "impersonate",
        version: "v1",
        ..Attributes::resource(user)
    };
    let account = split_service_account(&wanted.name);
    authorizer.check(&match account {
        Some((namespace, name)) => Attributes {
            resource: "serviceaccounts",
            namespace,
            name,
            ..base.clone()
        },
        None => Attributes {
            resource: "users",
            name: &wanted.name,
            ..base.clone()
        },
    })?;
    for name in &wanted.groups {
        authorizer.check(&Attributes {
            resource: "groups",
            name,
            ..base.clone()
        })?;
    }
    let base = Attributes {
        group: "authentication.k8s.io",
        ..base
    };
    if !wanted.uid.is_empty() {
        authorizer.check(&Attributes {
            resource: "uids",
            name: &wanted.uid,
            ..base.clone()
        })?;
    }
    for (subresource, values) in &wanted.extra {
        for name in values {
            authorizer.check(&Attributes {
                resource: "userextras",
                subresource,
                name,
                ..base.clone()
            })?;
        }
    }
    let mut groups = wanted.groups.clone();
    if groups.is_empty()
        && let Some((namespace, _)) = account
    {
        groups = service_account_groups(namespace);
    }
    let implied = if wanted.name == ANONYMOUS {
        UNAUTHENTICATED
    } else {
        AUTHENTICATED
    };
    if !groups
        .iter()
        .any(|group| group == AUTHENTICATED || group == UNAUTHENTICATED)
    {
        groups.push(implied.to_owned());
    }
    Ok(Arc::new(User { groups, ..wanted }))
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::{Reason, auth::authorize::rbac};

    fn headers(all: &[(&str, &str)]) -> HeaderMap {
        let parse = |(name, value): &(&str, &str)| {
            (
                name.parse::<HeaderName>().unwrap(),
                value.parse::<HeaderValue>().unwrap(),
            )
        };
        all.iter().map(parse).collect()
    }

    fn authorizer(rules: &serde_json::Value) -> Authorizer {
        let authorizer = Authorizer::default();
        authorizer.upsert(
            rbac::GROUP,
            "clusterroles",
            &json!({"metadata": {"name": "r"}, "rules": rules}),
        );
        authorizer.upsert(
            rbac::GROUP,
            "clusterrolebindings",
            &json!({
                "metadata": {"name": "b"}, "roleRef": {"kind": "ClusterRole", "name": "r"},
                "subjects": [{"kind": "User", "name": "jane"}]
            }),
        );
        authorizer
    }

    fn jane() -> User {
        User {
            name: "jane".into(),
            ..User::default()
        }
    }

    #[test]
    fn headers_say_who() {
        assert_eq!(wanted(&headers(&[("x", "y")])), Ok(None));
        let user = wanted(&headers(&[
            ("Impersonate-User", "joe"),
            ("Impersonate-Group", "a"),
            ("Impersonate-Group", "b"),
            ("Impersonate-Uid", "u"),
            ("Impersonate-Extra-Scopes", "one"),
            ("Impersonate-Extra-Scopes", "two"),
            ("Impersonate-Extra-acme.com%2fproject", "p"),
        ]))
        .unwrap()
        .unwrap();
        assert_eq!((user.name.as_str(), user.uid.as_str()), ("joe", "u"));
        assert_eq!(user.groups, ["a", "b"]);
        let extra: Vec<_> = user.extra.into_iter().collect();
        assert_eq!(
            extra,
            [
                ("acme.com/project".to_owned(), vec!["p".to_owned()]),
                ("scopes".to_owned(), vec!["one".to_owned(), "two".to_owned()]),
            ]
        );
        assert_eq!(
            wanted(&headers(&[("Impersonate-Group", "a")])).unwrap_err().reason,
            Reason::InternalError
        );
    }

    #[test]
    fn every_part_must_be_allowed() {
        let authorizer = authorizer(&json!([
            {"verbs": ["impersonate"], "apiGroups": [""], "resources": ["users"], "resourceNames": ["joe"]},
            {"verbs": ["impersonate"], "apiGroups": [""], "resources": ["groups"], "resourceNames": ["devs"]},
            {"verbs": ["impersonate"], "apiGroups": [""], "resources": ["serviceaccounts"]},
            {"verbs": ["impersonate"], "apiGroups": ["authentication.k8s.io"], "resources": ["userextras/scopes"], "resourceNames": ["view"]},
        ]));
        let be = |user: User| impersonate(&authorizer, &jane(), user);
        let joe = || User {
            name: "joe".into(),
            ..User::default()
        };
        assert_eq!(be(joe()).unwrap().groups, ["system:authenticated"]);
        let in_devs = User {
            groups: vec!["devs".into()],
            ..joe()
        };
        assert_eq!(be(in_devs).unwrap().groups, ["devs", "system:authenticated"]);
        let scoped = |scope: &str| User {
            extra: [("scopes".into(), vec![scope.into()])].into(),
            ..joe()
        };
        be(scoped("view")).unwrap();
        let account = User {
            name: "system:serviceaccount:a:sa".into(),
            ..User::default()
        };
        assert_eq!(
            be(account).unwrap().groups,
            [
                "system:serviceaccounts",
                "system:serviceaccounts:a",
                "system:authenticated"
            ]
        );
        let table = [
            (
                User {
                    name: "root".into(),
                    ..User::default()
                },
                r#"users "root" is forbidden: User "jane" cannot impersonate resource "users" in API group "" at the cluster scope"#,
            ),
            (
                User {
                    groups: vec!["system:masters".into()],
                    ..joe()
                },
                r#"groups "system:masters" is forbidden: User "jane" cannot impersonate resource "groups" in API group "" at the cluster scope"#,
            ),
            (
                scoped("edit"),
                r#"userextras.authentication.k8s.io "edit" is forbidden: User "jane" cannot impersonate resource "userextras/scopes" in API group "authentication.k8s.io" at the cluster scope"#,
            ),
            (
                User {
                    uid: "u".into(),
                    ..joe()
                },
                r#"uids.authentication.k8s.io "u" is forbidden: User "jane" cannot impersonate resource "uids" in API group "authentication.k8s.io" at the cluster scope"#,
            ),
        ];
        for (user, message) in table {
            assert_eq!(be(user).unwrap_err().message, message);
        }
    }

    proptest! {
        #[test]
        fn any_key_is_decoded_without_a_panic(key in ".{0,40}") {
            let _ = unescape(&key);
        }

        #[test]
        fn any_headers_are_read_without_a_panic(name in "(user|uid|group|extra-[a-z%0-9]{0,12})", value in proptest::collection::vec(0x20u8..=0xff, 0..20)) {
            if let (Ok(name), Ok(value)) = (format!("impersonate-{name}").parse::<HeaderName>(), HeaderValue::from_bytes(&value)) {
                let _ = wanted(&HeaderMap::from_iter([(name, value)]));
            }
        }
    }
}
