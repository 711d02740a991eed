//! Nobody gives away more than they have: who writes a role must hold its rules, who writes a binding those of its role,
//! unless they may `escalate` or `bind`.

use serde_json::Value;

use super::{
    Attributes, Authorizer, Decision, everything,
    rbac::{GROUP, RoleRef, decode, not_found},
    rule::{Rule, describe, missing, quoted},
};
use crate::{Status, User, auth::names::MASTERS};

/// Checks a role or binding that `user` is about to write; `old` is what it replaces.
pub fn check(
    authorizer: &Authorizer,
    user: &User,
    plural: &str,
    object: &Value,
    old: Option<&Value>,
) -> Result<(), Status> {
    if user.groups.iter().any(|group| group == MASTERS) {
        return Ok(());
    }
    let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default();
    let (namespace, name) = (text("namespace"), text("name"));
    let refuse = |why: String| Err(Status::forbidden(GROUP, plural, name, &why));
    let same = |field: &str| old.is_some_and(|old| old[field] == object[field]);
    match plural {
        "roles" | "clusterroles" => {
            if same("rules") && same("aggregationRule") {
                return Ok(());
            }
            if may(authorizer, user, "escalate", plural, namespace, name) {
                return Ok(());
            }
            if let Err(why) = holds(authorizer, user, namespace, &decode::<Vec<Rule>>(&object["rules"])) {
                return refuse(why);
            }
            // Whatever is labelled so, by whomever, will be in it.
            let aggregates = object.get("aggregationRule").is_some_and(|rule| !rule.is_null());
            if aggregates && !same("aggregationRule") && holds(authorizer, user, "", &everything()).is_err() {
                return refuse("must have cluster-admin privileges to use the aggregationRule".into());
            }
            Ok(())
        }
        "rolebindings" | "clusterrolebindings" => {
            if same("roleRef") && same("subjects") {
                return Ok(());
            }
            let role: RoleRef = decode(&object["roleRef"]);
            let of = if role.kind == "ClusterRole" {
                "clusterroles"
            } else {
                "roles"
            };
            if may(authorizer, user, "bind", of, namespace, &role.name) {
                return Ok(());
            }
            let Some(rules) = authorizer.rbac().role(namespace, &role) else {
                return Err(Status {
                    message: not_found(&role).replacen(&role.kind.to_lowercase(), of, 1),
                    ..Status::not_found(GROUP, of, &role.name)
                });
            };
            match holds(authorizer, user, namespace, &rules) {
                Ok(()) => Ok(()),
                Err(why) => refuse(why),
            }
        }
        _ => Err(Status::internal(format_args!(
            "{plural} is neither a role nor a binding"
        ))),
    }
}

fn may(authorizer: &Authorizer, user: &User, verb: &str, resource: &str, namespace: &str, name: &str) -> bool {
    let attributes = Attributes {
        verb,
        group: GROUP,
        version: "v1",
        resource,
        namespace,
        name,
        ..Attributes::resource(user)
    };
    matches!(authorizer.authorize(&attributes), Decision::Allow(_))
}

/// Whether the user holds all of `rules`, or which they don't.
fn holds(authorizer: &Authorizer, user: &User, namespace: &str, rules: &[Rule]) -> Result<(), String> {
    let (held, unresolved, _) = authorizer.rules_for(user, namespace);
    let lacking = missing(&held, rules);
    if lacking.is_empty() {
        return Ok(());
    }
    let mut why = format!(
        "user {:?} (groups={}) is attempting to grant RBAC permissions not currently held:\n{}",
        user.name,
        quoted(&user.groups),
        describe(&lacking).join("\n")
    );
    if !unresolved.is_empty() {
        why = format!("{why}; resolution errors: [{}]", unresolved.join(", "));
    }
    Err(why)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::Reason;

    /// jane may write roles and bindings everywhere, read pods, `bind` the role "free" and `escalate` the role "own".
    fn authorizer() -> Authorizer {
        let authorizer = Authorizer::default();
        let rules = json!([
            {"verbs": ["*"], "apiGroups": [GROUP], "resources": ["clusterroles", "clusterrolebindings"], "resourceNames": ["none"]},
            {"verbs": ["get", "list"], "apiGroups": [""], "resources": ["pods"]},
            {"verbs": ["bind"], "apiGroups": [GROUP], "resources": ["clusterroles"], "resourceNames": ["free"]},
            {"verbs": ["escalate"], "apiGroups": [GROUP], "resources": ["clusterroles"], "resourceNames": ["own"]},
        ]);
        let secrets = json!([{"verbs": ["get"], "apiGroups": [""], "resources": ["secrets"]}]);
        let pods = json!([{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}]);
        for (name, rules) in [
            ("jane", &rules),
            ("free", &secrets),
            ("secret", &secrets),
            ("pod", &pods),
        ] {
            authorizer.upsert(
                GROUP,
                "clusterroles",
                &json!({"metadata": {"name": name}, "rules": rules}),
            );
        }
        authorizer.upsert(
            GROUP,
            "clusterrolebindings",
            &json!({
                "metadata": {"name": "jane"}, "roleRef": {"kind": "ClusterRole", "name": "jane"},
                "subjects": [{"kind": "User", "name": "jane"}]
            }),
        );
        authorizer
    }

    fn jane() -> User {
        User {
            name: "jane".into(),
            groups: vec!["devs".into(), "system:authenticated".into()],
            ..User::default()
        }
    }

    fn role(name: &str, verb: &str, resource: &str) -> Value {
        json!({"metadata": {"name": name}, "rules": [{"verbs": [verb], "apiGroups": [""], "resources": [resource]}]})
    }

    fn binding(role: &str) -> Value {
        json!({"metadata": {"name": "b"}, "roleRef": {"kind": "ClusterRole", "name": role},
               "subjects": [{"kind": "User", "name": "joe"}]})
    }

    #[test]
    fn roles_are_limited_to_what_their_writer_holds() {
        let authorizer = authorizer();
        let write = |object: &Value, old: Option<&Value>| check(&authorizer, &jane(), "clusterroles", object, old);
        write(&role("x", "get", "pods"), None).unwrap();
        write(&role("own", "delete", "nodes"), None).unwrap();
        let status = write(&role("x", "get", "secrets"), None).unwrap_err();
        assert_eq!(
            status.message,
            "clusterroles.rbac.authorization.k8s.io \"x\" is forbidden: user \"jane\" (groups=[\"devs\" \
             \"system:authenticated\"]) is attempting to grant RBAC permissions not currently held:\n\
             {APIGroups:[\"\"], Resources:[\"secrets\"], Verbs:[\"get\"]}"
        );
        let unchanged = role("x", "get", "secrets");
        write(&unchanged, Some(&unchanged)).unwrap();
        write(&role("x", "get", "nodes"), Some(&unchanged)).unwrap_err();
    }

    #[test]
    fn aggregation_is_for_those_who_hold_everything() {
        let authorizer = authorizer();
        let object = json!({"metadata": {"name": "x"}, "aggregationRule": {"clusterRoleSelectors": [{}]}});
        let status = check(&authorizer, &jane(), "clusterroles", &object, None).unwrap_err();
        assert!(
            status
                .message
                .ends_with("must have cluster-admin privileges to use the aggregationRule")
        );
        let root = User {
            name: "root".into(),
            groups: vec![MASTERS.into()],
            ..User::default()
        };
        check(&authorizer, &root, "clusterroles", &object, None).unwrap();
    }

    #[test]
    fn bindings_are_limited_to_roles_that_are_held_or_may_be_bound() {
        let authorizer = authorizer();
        let write = |role: &str| check(&authorizer, &jane(), "clusterrolebindings", &binding(role), None);
        write("pod").unwrap();
        write("free").unwrap();
        assert_eq!(write("secret").unwrap_err().reason, Reason::Forbidden);
        let status = write("gone").unwrap_err();
        assert_eq!(status.reason, Reason::NotFound);
        assert_eq!(
            status.message,
            "clusterroles.rbac.authorization.k8s.io \"gone\" not found"
        );
    }
}
