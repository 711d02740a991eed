use std::collections::BTreeSet;

use super::*;
use crate::{
    User,
    auth::{
        authorize::{Attributes, Authorizer, Decision, aggregate},
        names::service_account,
    },
};

/// An authorizer as it is once everything was created and aggregated.
fn authorizer() -> Authorizer {
    let authorizer = Authorizer::default();
    let mut roles = Vec::new();
    for (plural, object) in objects() {
        authorizer.upsert(GROUP, plural, object);
        if *plural == "clusterroles" {
            roles.push(object.clone());
        }
    }
    for role in aggregate::plan(&roles) {
        authorizer.upsert(GROUP, "clusterroles", &role);
    }
    authorizer
}

fn user(name: &str, groups: &[&str]) -> User {
    User {
        name: name.into(),
        groups: groups.iter().map(|&group| group.into()).collect(),
        ..User::default()
    }
}

#[test]
fn the_table_holds_every_object_once_and_every_role_that_is_bound() {
    let mut seen = BTreeSet::new();
    let mut roles = BTreeSet::new();
    for (plural, object) in objects() {
        let metadata = &object["metadata"];
        let namespace = metadata["namespace"].as_str().unwrap_or_default().to_owned();
        let name = metadata["name"].as_str().unwrap().to_owned();
        assert!(
            seen.insert((*plural, namespace.clone(), name.clone())),
            "{plural} {namespace}/{name} twice"
        );
        match object.get("roleRef") {
            None => {
                roles.insert((object["kind"].as_str().unwrap(), namespace, name));
            }
            Some(role) => {
                let kind = role["kind"].as_str().unwrap();
                let namespace = if kind == "Role" { namespace } else { String::new() };
                let role = role["name"].as_str().unwrap().to_owned();
                assert!(
                    roles.contains(&(kind, namespace, role)),
                    "{name} binds a role that is not there"
                );
            }
        }
    }
    assert!(seen.len() > 120, "{}", seen.len());
}

#[test]
fn everybody_may_what_upstream_lets_them() {
    let authorizer = authorizer();
    let scheduler = user("system:kube-scheduler", &["system:authenticated"]);
    let anonymous = user("system:anonymous", &["system:unauthenticated"]);
    let admin = user("kubernetes-admin", &["kubeadm:cluster-admins", "system:authenticated"]);
    let somebody = user("jane", &["system:authenticated"]);
    let controller = user(&service_account("kube-system", "replicaset-controller"), &[]);
    let joining = user(
        "system:bootstrap:abcdef",
        &["system:bootstrappers", "system:authenticated"],
    );
    let table = [
        (&scheduler, "create", "", "pods/binding", "a", "p", true),
        (&scheduler, "get", "", "secrets", "a", "s", false),
        (
            &scheduler,
            "update",
            "coordination.k8s.io",
            "leases",
            "kube-system",
            "kube-scheduler",
            true,
        ),
        (
            &scheduler,
            "update",
            "coordination.k8s.io",
            "leases",
            "kube-system",
            "other",
            false,
        ),
        (&admin, "delete", "", "nodes", "", "n", true),
        (&admin, "escalate", GROUP, "clusterroles", "", "x", true),
        (
            &somebody,
            "create",
            "authorization.k8s.io",
            "selfsubjectaccessreviews",
            "",
            "",
            true,
        ),
        (&somebody, "list", "", "pods", "a", "", false),
        (&anonymous, "get", "", "configmaps", "kube-public", "cluster-info", true),
        (&anonymous, "get", "", "configmaps", "kube-public", "other", false),
        (&anonymous, "list", "", "configmaps", "kube-public", "", false),
        (&controller, "create", "", "pods", "a", "", true),
        (&controller, "create", "", "secrets", "a", "", false),
        (
            &joining,
            "create",
            "certificates.k8s.io",
            "certificatesigningrequests",
            "",
            "",
            true,
        ),
        (
            &joining,
            "create",
            "certificates.k8s.io",
            "certificatesigningrequests/nodeclient",
            "",
            "",
            true,
        ),
        (&joining, "list", "", "nodes", "", "", false),
    ];
    for (user, verb, group, resource, namespace, name, allowed) in table {
        let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
        let attributes = Attributes {
            verb,
            group,
            resource,
            subresource,
            namespace,
            name,
            ..Attributes::resource(user)
        };
        let decision = authorizer.authorize(&attributes);
        assert_eq!(
            matches!(decision, Decision::Allow(_)),
            allowed,
            "{} {verb} {resource} {name}",
            user.name
        );
    }
    for (user, path, allowed) in [
        (&anonymous, "/healthz", true),
        (&anonymous, "/api", false),
        (&somebody, "/api/v1", true),
        (&somebody, "/metrics", false),
        (&controller, "/openid/v1/jwks", false),
    ] {
        let attributes = Attributes {
            verb: "get",
            path,
            ..Attributes::path(user)
        };
        let decision = authorizer.authorize(&attributes);
        assert_eq!(matches!(decision, Decision::Allow(_)), allowed, "{} {path}", user.name);
    }
}

#[test]
fn admin_edit_and_view_add_up() {
    let authorizer = authorizer();
    for role in ["admin", "edit", "view"] {
        authorizer.upsert(
            GROUP,
            "rolebindings",
            &json!({"metadata": {"namespace": "a", "name": role}, "roleRef": {"kind": "ClusterRole", "name": role},
                    "subjects": [{"kind": "User", "name": role}]}),
        );
    }
    let table = [
        ("list", "", "pods", [true, true, true]),
        ("create", "", "pods", [true, true, false]),
        ("get", "", "secrets", [true, true, false]),
        ("create", GROUP, "roles", [true, false, false]),
        ("update", "", "resourcequotas", [false, false, false]),
        ("update", "", "endpoints", [false, false, false]),
    ];
    for (verb, group, resource, allowed) in table {
        for (role, allowed) in ["admin", "edit", "view"].into_iter().zip(allowed) {
            let user = user(role, &[]);
            let attributes = Attributes {
                verb,
                group,
                resource,
                namespace: "a",
                ..Attributes::resource(&user)
            };
            let decision = authorizer.authorize(&attributes);
            assert_eq!(
                matches!(decision, Decision::Allow(_)),
                allowed,
                "{role} {verb} {resource}"
            );
        }
    }
}

fn wanted() -> Value {
    let mut role = object("ClusterRole", "", "r");
    role["rules"] = json!([rule("READ", &["core", "pods"]), rule("get", &["core", "nodes"])]);
    role
}

#[test]
fn what_is_missing_is_added_and_nothing_taken_away() {
    assert_eq!(reconcile(&wanted(), None), Step::Create(wanted()));
    assert_eq!(reconcile(&wanted(), Some(&wanted())), Step::Keep);
    let mut stored = wanted();
    stored["metadata"]["uid"] = "u".into();
    stored["metadata"]["labels"] = json!({"mine": "1"});
    stored["rules"] = json!([rule("*", &["core", "pods"]), rule("get", &["core", "secrets"])]);
    let Step::Update(new) = reconcile(&wanted(), Some(&stored)) else {
        panic!("something is missing");
    };
    assert_eq!(new["metadata"]["uid"], "u");
    assert_eq!(new["metadata"]["labels"].as_object().unwrap().len(), 2);
    let rules = new["rules"].as_array().unwrap();
    assert_eq!(rules.len(), 3, "pods are covered, nodes are not");
    assert_eq!(rules[2]["resources"][0], "nodes");
    assert_eq!(reconcile(&wanted(), Some(&new)), Step::Keep);
}

#[test]
fn who_says_so_keeps_theirs() {
    let mut stored = wanted();
    stored["rules"] = json!([]);
    stored["metadata"]["annotations"][AUTO_UPDATE] = "false".into();
    assert_eq!(reconcile(&wanted(), Some(&stored)), Step::Keep);
}

#[test]
fn an_aggregated_roles_rules_are_not_the_reconcilers() {
    let wanted = &objects()
        .iter()
        .find(|(_, object)| object["metadata"]["name"] == "view")
        .unwrap()
        .1;
    let mut stored = wanted.clone();
    stored["rules"] = json!([rule("READ", &["core", "pods"])]);
    assert_eq!(reconcile(wanted, Some(&stored)), Step::Keep);
    stored.as_object_mut().unwrap().remove("aggregationRule");
    let Step::Update(new) = reconcile(wanted, Some(&stored)) else {
        panic!("the aggregation is missing");
    };
    assert_eq!(new["aggregationRule"], wanted["aggregationRule"]);
    assert_eq!(new["rules"], stored["rules"]);
}

#[test]
fn bindings_keep_added_subjects_and_get_back_their_role() {
    let wanted = binding("", "b", "ClusterRole", "r", &["group:a"]);
    let mut stored = wanted.clone();
    stored["subjects"] = json!([{"kind": "User", "apiGroup": GROUP, "name": "mine"}]);
    let Step::Update(new) = reconcile(&wanted, Some(&stored)) else {
        panic!("a subject is missing");
    };
    assert_eq!(new["subjects"].as_array().unwrap().len(), 2);
    stored["roleRef"]["name"] = "other".into();
    let Step::Replace(new) = reconcile(&wanted, Some(&stored)) else {
        panic!("another role");
    };
    assert_eq!(new["roleRef"], wanted["roleRef"]);
    assert_eq!(new["subjects"].as_array().unwrap().len(), 2);
    let unbound = binding("", "n", "ClusterRole", "r", &[]);
    assert_eq!(reconcile(&unbound, Some(&unbound)), Step::Keep);
}
