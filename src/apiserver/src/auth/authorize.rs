//! Whether a user may do what they ask for.
//!
//! Asked in turn, until one has an opinion: the superusers' group, the node authorizer ([`node`]), RBAC ([`rbac`]).
//! Nobody having one means no. All of it is in memory: [`Authorizer`] is fed by changes and answers without waiting.

pub mod aggregate;
pub mod bootstrap;
pub mod escalate;
pub mod node;
pub mod rbac;
pub mod rule;

use parking_lot::RwLock;
use serde_json::Value;

use self::{node::NodeGraph, rbac::Rbac, rule::Rule};
use super::names::{MASTERS, NodeIdentity, node_identity};
use crate::{Reason, Request, Status, User};

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Attributes<'a> {
    /// By whom.
    pub user: &'a User,
    /// Such as `list`, or an HTTP method in lower case for a path.
    pub verb: &'a str,
    /// Of the resource; empty for the core group.
    pub group: &'a str,
    /// Such as `v1`.
    pub version: &'a str,
    /// Plural.
    pub resource: &'a str,
    /// Empty for the object itself.
    pub subresource: &'a str,
    /// Empty across namespaces, or if there are none.
    pub namespace: &'a str,
    /// Empty for collections.
    pub name: &'a str,
    /// Of a request that isn't about a resource.
    pub path: &'a str,
    /// Whether it is about a resource.
    pub is_resource: bool,
    /// Fields that the selector of a list, watch or deletion holds to a value.
    pub fields: &'a [(String, String)],
}

impl<'a> Attributes<'a> {
    /// Of a request about a resource, the rest being empty.
    pub fn resource(user: &'a User) -> Self {
        Self {
            is_resource: true,
            ..Self::path(user)
        }
    }

    /// Of a request about a path, the rest being empty.
    pub fn path(user: &'a User) -> Self {
        Self {
            user,
            verb: "",
            group: "",
            version: "",
            resource: "",
            subresource: "",
            namespace: "",
            name: "",
            path: "",
            is_resource: false,
            fields: &[],
        }
    }

    /// What a request asks for.
    pub fn of(request: &'a Request) -> Self {
        let common = Self {
            verb: request.verb,
            path: &request.path,
            ..Self::path(&request.user)
        };
        let Some(resource) = &request.resource else {
            return common;
        };
        // A name in a namespace's own path is also its namespace, as upstream's paths are read.
        let namespace = if resource.group.is_empty() && &*resource.plural == "namespaces" {
            &request.name
        } else {
            &request.namespace
        };
        Self {
            group: &resource.group,
            version: &resource.version,
            resource: &resource.plural,
            subresource: &request.subresource,
            namespace,
            name: &request.name,
            is_resource: true,
            ..common
        }
    }
}

/// What an authorizer says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Yes, and why.
    Allow(String),
    /// No, whatever others say, and why.
    Deny(String),
    /// Ask others; perhaps why.
    NoOpinion(String),
}

/// All authorizers, kept current by changes.
#[derive(Default)]
pub struct Authorizer {
    rbac: RwLock<Rbac>,
    nodes: RwLock<NodeGraph>,
}

impl Authorizer {
    /// Kinds whose changes it must be told of: group and plural.
    pub const FOLLOWS: [(&'static str, &'static str); 8] = [
        (rbac::GROUP, "roles"),
        (rbac::GROUP, "clusterroles"),
        (rbac::GROUP, "rolebindings"),
        (rbac::GROUP, "clusterrolebindings"),
        ("", "pods"),
        ("", "persistentvolumes"),
        ("storage.k8s.io", "volumeattachments"),
        ("resource.k8s.io", "resourceslices"),
    ];

    /// Takes an object of one of those kinds as it is now.
    pub fn upsert(&self, group: &str, plural: &str, object: &Value) {
        if group == rbac::GROUP {
            self.rbac.write().upsert(plural, object);
        } else {
            self.nodes.write().upsert(plural, object);
        }
    }

    /// Forgets an object of one of those kinds.
    pub fn delete(&self, group: &str, plural: &str, namespace: &str, name: &str) {
        if group == rbac::GROUP {
            self.rbac.write().delete(plural, namespace, name);
        } else {
            self.nodes.write().delete(plural, namespace, name);
        }
    }

    /// Whether the user may.
    pub fn authorize(&self, attributes: &Attributes<'_>) -> Decision {
        if attributes.user.groups.iter().any(|group| group == MASTERS) {
            return Decision::Allow(String::new());
        }
        let mut reasons = Vec::new();
        let node = || self.nodes.read().authorize(attributes);
        let rbac = || self.rbac.read().authorize(attributes);
        for ask in [&node as &dyn Fn() -> Decision, &rbac] {
            match ask() {
                Decision::NoOpinion(reason) if reason.is_empty() => {}
                Decision::NoOpinion(reason) => reasons.push(reason),
                opinion => return opinion,
            }
        }
        Decision::NoOpinion(reasons.join("\n"))
    }

    /// Whether the user may, or what they are answered: 403 in upstream's words.
    pub fn check(&self, attributes: &Attributes<'_>) -> Result<(), Status> {
        match self.authorize(attributes) {
            Decision::Allow(_) => Ok(()),
            Decision::Deny(reason) | Decision::NoOpinion(reason) => Err(forbidden(attributes, &reason)),
        }
    }

    /// All rules of a user in a namespace, what could not be resolved, and whether there may be more that no list
    /// tells.
    pub fn rules_for(&self, user: &User, namespace: &str) -> (Vec<Rule>, Vec<String>, bool) {
        let (rules, mut problems) = self.rbac.read().rules_for(user, namespace);
        let is_node = node_identity(user) != NodeIdentity::None;
        if is_node {
            problems.push("node authorizer does not support user rule resolution".to_owned());
        }
        (rules, problems, is_node)
    }

    /// The index of roles and bindings.
    pub fn rbac(&self) -> parking_lot::RwLockReadGuard<'_, Rbac> {
        self.rbac.read()
    }
}

/// The rules of whoever may do anything.
pub(crate) fn everything() -> [Rule; 2] {
    let star = || vec!["*".to_owned()];
    [
        Rule {
            verbs: star(),
            api_groups: star(),
            resources: star(),
            ..Rule::default()
        },
        Rule {
            verbs: star(),
            non_resource_urls: star(),
            ..Rule::default()
        },
    ]
}

/// 403, in upstream's words.
pub fn forbidden(attributes: &Attributes<'_>, reason: &str) -> Status {
    let user = &attributes.user.name;
    let verb = attributes.verb;
    let what = if attributes.is_resource {
        let resource = if attributes.subresource.is_empty() {
            attributes.resource.to_owned()
        } else {
            format!("{}/{}", attributes.resource, attributes.subresource)
        };
        let place = if attributes.namespace.is_empty() {
            "at the cluster scope".to_owned()
        } else {
            format!("in the namespace {:?}", attributes.namespace)
        };
        format!(
            "User {user:?} cannot {verb} resource {resource:?} in API group {:?} {place}",
            attributes.group
        )
    } else {
        format!("User {user:?} cannot {verb} path {:?}", attributes.path)
    };
    // The path is the sender's; a browser might show the answer.
    let mut why = what.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    if !reason.is_empty() {
        why = format!("{why}: {reason}");
    }
    if attributes.is_resource {
        Status::forbidden(attributes.group, attributes.resource, attributes.name, &why)
    } else {
        Status {
            details: Some(serde_json::json!({})),
            ..Status::new(Reason::Forbidden, format!("forbidden: {why}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn user(name: &str, groups: &[&str]) -> User {
        User {
            name: name.into(),
            groups: groups.iter().map(|&group| group.into()).collect(),
            ..User::default()
        }
    }

    #[test]
    fn refusals_are_told_as_upstream_does() {
        let x = user("x", &[]);
        let resource = || Attributes::resource(&x);
        let table = [
            (
                Attributes {
                    verb: "list",
                    resource: "pods",
                    namespace: "default",
                    ..resource()
                },
                "",
                r#"pods is forbidden: User "x" cannot list resource "pods" in API group "" in the namespace "default""#,
            ),
            (
                Attributes {
                    verb: "get",
                    resource: "nodes",
                    name: "n",
                    ..resource()
                },
                "",
                r#"nodes "n" is forbidden: User "x" cannot get resource "nodes" in API group "" at the cluster scope"#,
            ),
            (
                Attributes {
                    verb: "get",
                    group: "apps",
                    resource: "deployments",
                    subresource: "scale",
                    namespace: "a",
                    name: "d",
                    ..resource()
                },
                "RBAC: why",
                r#"deployments.apps "d" is forbidden: User "x" cannot get resource "deployments/scale" in API group "apps" in the namespace "a": RBAC: why"#,
            ),
            (
                Attributes {
                    verb: "get",
                    path: "/x<y>",
                    ..Attributes::path(&x)
                },
                "",
                r#"forbidden: User "x" cannot get path "/x&lt;y&gt;""#,
            ),
        ];
        for (attributes, reason, message) in table {
            let status = forbidden(&attributes, reason);
            assert_eq!(status.message, message);
            assert_eq!(status.reason, Reason::Forbidden);
        }
    }

    #[test]
    fn superusers_need_no_role_and_others_do() {
        let authorizer = Authorizer::default();
        let (root, jane) = (user("root", &[MASTERS]), user("jane", &["devs"]));
        let ask = |user| {
            authorizer.authorize(&Attributes {
                verb: "delete",
                resource: "nodes",
                ..Attributes::resource(user)
            })
        };
        assert_eq!(ask(&root), Decision::Allow(String::new()));
        assert_eq!(ask(&jane), Decision::NoOpinion(String::new()));
        authorizer.upsert(
            rbac::GROUP,
            "clusterroles",
            &json!({
                "metadata": {"name": "r"}, "rules": [{"verbs": ["delete"], "apiGroups": [""], "resources": ["nodes"]}]
            }),
        );
        authorizer.upsert(
            rbac::GROUP,
            "clusterrolebindings",
            &json!({
                "metadata": {"name": "b"}, "roleRef": {"kind": "ClusterRole", "name": "r"},
                "subjects": [{"kind": "Group", "name": "devs"}]
            }),
        );
        assert!(matches!(ask(&jane), Decision::Allow(_)));
        authorizer.delete(rbac::GROUP, "clusterrolebindings", "", "b");
        assert_eq!(ask(&jane), Decision::NoOpinion(String::new()));
    }
}
