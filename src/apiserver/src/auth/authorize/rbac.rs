//! Role-based access control: an index over roles and bindings, kept by their changes, asked by subject.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use serde::Deserialize;
use serde_json::Value;

use super::{Attributes, Decision, rule::Rule};
use crate::{User, auth::names::service_account};

/// The group of roles and bindings.
pub const GROUP: &str = "rbac.authorization.k8s.io";

/// Whom a binding is for (`rbac.authorization.k8s.io/v1` `Subject`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Subject {
    /// `User`, `Group` or `ServiceAccount`.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Of a service account.
    pub namespace: String,
}

impl Subject {
    /// As reasons name it.
    fn describe(&self) -> String {
        match self.kind.as_str() {
            "ServiceAccount" => format!("ServiceAccount {:?}", format!("{}/{}", self.name, self.namespace)),
            kind => format!("{kind} {:?}", self.name),
        }
    }

    /// As the index knows it.
    fn who(&self) -> Option<Who> {
        Some(match self.kind.as_str() {
            "User" => Who::User(self.name.clone()),
            "Group" => Who::Group(self.name.clone()),
            "ServiceAccount" if !self.namespace.is_empty() => Who::User(service_account(&self.namespace, &self.name)),
            _ => return None,
        })
    }
}

/// What a binding gives (`rbac.authorization.k8s.io/v1` `RoleRef`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct RoleRef {
    /// `Role` or `ClusterRole`.
    pub kind: String,
    /// Its name.
    pub name: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Who {
    User(String),
    Group(String),
}

/// Namespace (empty for the cluster's) and name.
type Key = (String, String);

struct Binding {
    role: RoleRef,
    subjects: Vec<Subject>,
}

/// Roles and bindings.
#[derive(Default)]
pub struct Rbac {
    roles: HashMap<Key, Arc<[Rule]>>,
    bindings: HashMap<Key, Binding>,
    /// Names of a namespace's bindings (empty: the cluster's) by their subjects.
    by_subject: HashMap<(Who, String), BTreeSet<String>>,
}

/// Where a rule comes from.
struct Grant<'a> {
    namespace: &'a str,
    name: &'a str,
    binding: &'a Binding,
    subject: &'a Subject,
}

impl Grant<'_> {
    fn describe(&self) -> String {
        let (kind, name) = if self.namespace.is_empty() {
            ("ClusterRoleBinding", format!("{:?}", self.name))
        } else {
            (
                "RoleBinding",
                format!("{:?}", format!("{}/{}", self.name, self.namespace)),
            )
        };
        let role = &self.binding.role;
        format!(
            "{kind} {name} of {} {:?} to {}",
            role.kind,
            role.name,
            self.subject.describe()
        )
    }
}

impl Rbac {
    /// Takes a role or binding as it is now; what does not decode counts as empty. Other kinds are ignored.
    pub fn upsert(&mut self, plural: &str, object: &Value) {
        let key = key_of(object);
        match plural {
            "roles" | "clusterroles" => {
                let rules: Vec<Rule> = decode(&object["rules"]);
                self.roles.insert(key, rules.into());
            }
            "rolebindings" | "clusterrolebindings" => {
                self.unbind(&key);
                let binding = Binding {
                    role: decode(&object["roleRef"]),
                    subjects: decode(&object["subjects"]),
                };
                for who in binding.subjects.iter().filter_map(Subject::who) {
                    self.by_subject
                        .entry((who, key.0.clone()))
                        .or_default()
                        .insert(key.1.clone());
                }
                self.bindings.insert(key, binding);
            }
            _ => {}
        }
    }

    /// Forgets a role or binding.
    pub fn delete(&mut self, plural: &str, namespace: &str, name: &str) {
        let key = (namespace.to_owned(), name.to_owned());
        match plural {
            "roles" | "clusterroles" => drop(self.roles.remove(&key)),
            "rolebindings" | "clusterrolebindings" => self.unbind(&key),
            _ => {}
        }
    }

    fn unbind(&mut self, key: &Key) {
        let Some(binding) = self.bindings.remove(key) else {
            return;
        };
        for who in binding.subjects.iter().filter_map(Subject::who) {
            let entry = (who, key.0.clone());
            if let Some(names) = self.by_subject.get_mut(&entry) {
                names.remove(&key.1);
                if names.is_empty() {
                    self.by_subject.remove(&entry);
                }
            }
        }
    }

    /// The rules of a role; `None` if it is not there.
    pub fn role(&self, namespace: &str, role: &RoleRef) -> Option<Arc<[Rule]>> {
        let namespace = if role.kind == "ClusterRole" { "" } else { namespace };
        self.roles.get(&(namespace.to_owned(), role.name.clone())).cloned()
    }

    /// Whether the user may. It denies nothing: what is not allowed has no opinion, with a reason if a role is missing.
    pub fn authorize(&self, attributes: &Attributes<'_>) -> Decision {
        let mut allowed = None;
        let missing = self.visit(attributes.user, attributes.namespace, |grant, rules| {
            let allows = rules.iter().any(|rule| rule.allows(attributes));
            if allows {
                allowed = Some(format!("RBAC: allowed by {}", grant.describe()));
            }
            !allows
        });
        match allowed {
            Some(reason) => Decision::Allow(reason),
            None if missing.is_empty() => Decision::NoOpinion(String::new()),
            None => Decision::NoOpinion(format!("RBAC: {}", join(&missing))),
        }
    }

    /// All rules of a user in a namespace (empty: those for the whole cluster only), and the roles that are missing.
    pub fn rules_for(&self, user: &User, namespace: &str) -> (Vec<Rule>, Vec<String>) {
        let mut all = Vec::new();
        let missing = self.visit(user, namespace, |_, rules| {
            all.extend_from_slice(rules);
            true
        });
        (all, missing)
    }

    /// Shows the rules of a user's bindings, the cluster's first, until `more` says that it is enough.
    fn visit(&self, user: &User, namespace: &str, mut more: impl FnMut(&Grant<'_>, &[Rule]) -> bool) -> Vec<String> {
        let mut missing = Vec::new();
        let whos: Vec<Who> = std::iter::once(Who::User(user.name.clone()))
            .chain(user.groups.iter().cloned().map(Who::Group))
            .collect();
        let scopes = std::iter::once("").chain((!namespace.is_empty()).then_some(namespace));
        for scope in scopes {
            let mut seen = BTreeSet::new();
            for who in &whos {
                let names = self.by_subject.get(&(who.clone(), scope.to_owned()));
                for name in names.into_iter().flatten() {
                    if !seen.insert(name) {
                        continue;
                    }
                    let binding = &self.bindings[&(scope.to_owned(), name.clone())];
                    let subject = binding
                        .subjects
                        .iter()
                        .find(|subject| subject.who().as_ref() == Some(who));
                    let Some(rules) = self.role(scope, &binding.role) else {
                        missing.push(not_found(&binding.role));
                        continue;
                    };
                    let grant = Grant {
                        namespace: scope,
                        name,
                        binding,
                        subject: subject.expect("the index holds what the binding has"),
                    };
                    if !more(&grant, &rules) {
                        return missing;
                    }
                }
            }
        }
        missing
    }
}

/// `clusterrole.rbac.authorization.k8s.io "x" not found`.
pub(crate) fn not_found(role: &RoleRef) -> String {
    format!("{}.{GROUP} {:?} not found", role.kind.to_lowercase(), role.name)
}

/// As Go shows an aggregate of errors.
fn join(errors: &[String]) -> String {
    match errors {
        [one] => one.clone(),
        more => format!("[{}]", more.join(", ")),
    }
}

pub(crate) fn decode<T: serde::de::DeserializeOwned + Default>(value: &Value) -> T {
    T::deserialize(value).unwrap_or_default()
}

fn key_of(object: &Value) -> Key {
    let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
    (text("namespace"), text("name"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn rbac() -> Rbac {
        let mut rbac = Rbac::default();
        let rules = |verb: &str, resource: &str| json!([{"verbs": [verb], "apiGroups": [""], "resources": [resource]}]);
        rbac.upsert(
            "clusterroles",
            &json!({"metadata": {"name": "reader"}, "rules": rules("get", "pods")}),
        );
        rbac.upsert(
            "roles",
            &json!({"metadata": {"namespace": "a", "name": "writer"}, "rules": rules("create", "pods")}),
        );
        rbac
    }

    fn bind(plural: &str, namespace: &str, name: &str, role: (&str, &str), subjects: &Value) -> (String, Value) {
        (
            plural.to_owned(),
            json!({
                "metadata": {"namespace": namespace, "name": name},
                "roleRef": {"apiGroup": GROUP, "kind": role.0, "name": role.1},
                "subjects": subjects,
            }),
        )
    }

    fn user(name: &str, groups: &[&str]) -> User {
        User {
            name: name.into(),
            groups: groups.iter().map(|&group| group.into()).collect(),
            ..User::default()
        }
    }

    fn ask(rbac: &Rbac, user: &User, verb: &str, namespace: &str) -> Decision {
        rbac.authorize(&Attributes {
            verb,
            resource: "pods",
            namespace,
            ..Attributes::resource(user)
        })
    }

    #[test]
    fn bindings_give_roles_to_users_groups_and_service_accounts() {
        let mut rbac = rbac();
        let cluster = |subject: Value, name: &str| {
            bind(
                "clusterrolebindings",
                "",
                name,
                ("ClusterRole", "reader"),
                &json!([subject]),
            )
        };
        for (plural, object) in [
            cluster(json!({"kind": "User", "name": "jane"}), "u"),
            cluster(json!({"kind": "Group", "name": "devs"}), "g"),
            cluster(json!({"kind": "ServiceAccount", "name": "sa", "namespace": "a"}), "s"),
            bind(
                "rolebindings",
                "a",
                "w",
                ("Role", "writer"),
                &json!([{"kind": "User", "name": "jane"}]),
            ),
            bind(
                "rolebindings",
                "a",
                "r",
                ("ClusterRole", "reader"),
                &json!([{"kind": "User", "name": "joe"}]),
            ),
        ] {
            rbac.upsert(&plural, &object);
        }
        let table = [
            (
                user("jane", &[]),
                "get",
                "",
                r#"ClusterRoleBinding "u" of ClusterRole "reader" to User "jane""#,
            ),
            (
                user("jane", &[]),
                "create",
                "a",
                r#"RoleBinding "w/a" of Role "writer" to User "jane""#,
            ),
            (
                user("x", &["devs"]),
                "get",
                "b",
                r#"ClusterRoleBinding "g" of ClusterRole "reader" to Group "devs""#,
            ),
            (
                user("system:serviceaccount:a:sa", &[]),
                "get",
                "b",
                r#"ClusterRoleBinding "s" of ClusterRole "reader" to ServiceAccount "sa/a""#,
            ),
            (
                user("joe", &[]),
                "get",
                "a",
                r#"RoleBinding "r/a" of ClusterRole "reader" to User "joe""#,
            ),
            (user("jane", &[]), "create", "b", ""),
            (user("joe", &[]), "get", "", ""),
            (user("system:serviceaccount:b:sa", &[]), "get", "b", ""),
            (user("devs", &[]), "get", "b", ""),
            (user("x", &["jane"]), "get", "b", ""),
        ];
        for (user, verb, namespace, by) in table {
            let expected = if by.is_empty() {
                Decision::NoOpinion(String::new())
            } else {
                Decision::Allow(format!("RBAC: allowed by {by}"))
            };
            assert_eq!(
                ask(&rbac, &user, verb, namespace),
                expected,
                "{user:?} {verb} {namespace}"
            );
        }
    }

    #[test]
    fn changes_count_at_once() {
        let mut rbac = rbac();
        let jane = user("jane", &[]);
        let subjects = |name: &str| json!([{"kind": "User", "name": name}]);
        let (plural, object) = bind(
            "clusterrolebindings",
            "",
            "b",
            ("ClusterRole", "reader"),
            &subjects("jane"),
        );
        rbac.upsert(&plural, &object);
        assert!(matches!(ask(&rbac, &jane, "get", ""), Decision::Allow(_)));
        let (plural, object) = bind(
            "clusterrolebindings",
            "",
            "b",
            ("ClusterRole", "reader"),
            &subjects("joe"),
        );
        rbac.upsert(&plural, &object);
        assert_eq!(ask(&rbac, &jane, "get", ""), Decision::NoOpinion(String::new()));
        rbac.delete("clusterroles", "", "reader");
        assert_eq!(
            ask(&rbac, &user("joe", &[]), "get", ""),
            Decision::NoOpinion(r#"RBAC: clusterrole.rbac.authorization.k8s.io "reader" not found"#.into())
        );
        rbac.delete(&plural, "", "b");
        assert!(rbac.by_subject.is_empty() && rbac.bindings.is_empty());
    }

    #[test]
    fn all_rules_of_a_user_are_told() {
        let mut rbac = rbac();
        let subjects = json!([{"kind": "Group", "name": "devs"}]);
        for (plural, object) in [
            bind("clusterrolebindings", "", "b", ("ClusterRole", "reader"), &subjects),
            bind("rolebindings", "a", "b", ("Role", "writer"), &subjects),
            bind("rolebindings", "a", "c", ("Role", "gone"), &subjects),
        ] {
            rbac.upsert(&plural, &object);
        }
        let (rules, missing) = rbac.rules_for(&user("x", &["devs"]), "a");
        assert_eq!(rules.len(), 2);
        assert_eq!(missing, [r#"role.rbac.authorization.k8s.io "gone" not found"#]);
        assert_eq!(rbac.rules_for(&user("x", &["devs"]), "").0.len(), 1);
    }
}
