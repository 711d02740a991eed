//! The RBAC group: who may do what.

use bosun_api::{
    field::{Errors, OrEmpty, Path, set_default},
    names, selector,
};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding, RoleRef, Subject};

use crate::{kind::Kind, meta::name_error};

const GROUP: &str = "rbac.authorization.k8s.io";

pub(crate) struct Roles;

impl Kind for Roles {
    type Object = Role;

    const STATUS: bool = false;
    const GENERATION: bool = false;

    fn validate(role: &Role, errors: &mut Errors) {
        for (path, rule) in Path::root("rules").each(role.rules.or_empty()) {
            policy_rule(rule, true, &path, errors);
        }
    }
}

pub(crate) struct ClusterRoles;

impl Kind for ClusterRoles {
    type Object = ClusterRole;

    const STATUS: bool = false;
    const GENERATION: bool = false;

    fn validate(role: &ClusterRole, errors: &mut Errors) {
        for (path, rule) in Path::root("rules").each(role.rules.or_empty()) {
            policy_rule(rule, false, &path, errors);
        }
        let Some(aggregation) = &role.aggregation_rule else {
            return;
        };
        let path = Path::root("aggregationRule.clusterRoleSelectors");
        let selectors = aggregation.cluster_role_selectors.or_empty();
        if selectors.is_empty() {
            errors.required(
                &path,
                "at least one clusterRoleSelector required if aggregationRule is non-nil",
            );
        }
        for (path, labels) in path.each(selectors) {
            selector::validate(Some(labels), &path, errors);
        }
    }
}

fn policy_rule(rule: &PolicyRule, namespaced: bool, path: &Path, errors: &mut Errors) {
    if rule.verbs.is_empty() {
        errors.required(&path.child("verbs"), "verbs must contain at least one value");
    }
    let groups = rule.api_groups.or_empty();
    let resources = rule.resources.or_empty();
    let urls = rule.non_resource_urls.or_empty();
    if urls.is_empty() {
        if groups.is_empty() {
            errors.required(
                &path.child("apiGroups"),
                "resource rules must supply at least one api group",
            );
        }
        if resources.is_empty() {
            errors.required(
                &path.child("resources"),
                "resource rules must supply at least one resource",
            );
        }
        return;
    }
    let path = path.child("nonResourceURLs");
    if namespaced {
        errors.invalid(&path, urls, "namespaced rules cannot apply to non-resource URLs");
    }
    if !groups.is_empty() || !resources.is_empty() || rule.resource_names.is_given() {
        errors.invalid(
            &path,
            urls,
            "rules cannot apply to both regular resources and non-resource URLs",
        );
    }
}

pub(crate) struct RoleBindings;

impl Kind for RoleBindings {
    type Object = RoleBinding;

    const STATUS: bool = false;
    const GENERATION: bool = false;

    fn default(binding: &mut RoleBinding) {
        defaults(&mut binding.role_ref, binding.subjects.as_mut());
    }

    fn validate(binding: &RoleBinding, errors: &mut Errors) {
        role_ref(&binding.role_ref, &["Role", "ClusterRole"], errors);
        subjects(binding.subjects.or_empty(), true, errors);
    }

    fn validate_update(binding: &RoleBinding, old: &RoleBinding, errors: &mut Errors) {
        Self::validate(binding, errors);
        same_role(&binding.role_ref, &old.role_ref, errors);
    }
}

pub(crate) struct ClusterRoleBindings;

impl Kind for ClusterRoleBindings {
    type Object = ClusterRoleBinding;

    const STATUS: bool = false;
    const GENERATION: bool = false;

    fn default(binding: &mut ClusterRoleBinding) {
        defaults(&mut binding.role_ref, binding.subjects.as_mut());
    }

    fn validate(binding: &ClusterRoleBinding, errors: &mut Errors) {
        role_ref(&binding.role_ref, &["ClusterRole"], errors);
        subjects(binding.subjects.or_empty(), false, errors);
    }

    fn validate_update(binding: &ClusterRoleBinding, old: &ClusterRoleBinding, errors: &mut Errors) {
        Self::validate(binding, errors);
        same_role(&binding.role_ref, &old.role_ref, errors);
    }
}

fn defaults(role: &mut RoleRef, subjects: Option<&mut Vec<Subject>>) {
    set_default(&mut role.api_group, GROUP);
    for subject in subjects.into_iter().flatten() {
        if !subject.api_group.is_given() && matches!(subject.kind.as_str(), "User" | "Group") {
            subject.api_group = Some(GROUP.to_owned());
        }
    }
}

fn role_ref(role: &RoleRef, kinds: &[&'static str], errors: &mut Errors) {
    let path = Path::root("roleRef");
    errors.one_of(&path.child("apiGroup"), Some(role.api_group.or_empty()), &[GROUP]);
    errors.one_of(&path.child("kind"), Some(&role.kind), kinds);
    errors.required_check(&path.child("name"), &role.name, names::path_segment);
}

fn subjects(subjects: &[Subject], namespaced: bool, errors: &mut Errors) {
    for (path, subject) in Path::root("subjects").each(subjects) {
        let name_path = path.child("name");
        let name = subject.name.as_str();
        if name.is_empty() {
            errors.required(&name_path, "");
        }
        let group = Some(subject.api_group.or_empty());
        match subject.kind.as_str() {
            "ServiceAccount" => {
                if !name.is_empty()
                    && let Some(detail) = name_error("", "ServiceAccount", name)
                {
                    errors.invalid(&name_path, name, detail);
                }
                errors.one_of(&path.child("apiGroup"), group, &[""]);
                if !namespaced && !subject.namespace.is_given() {
                    errors.required(&path.child("namespace"), "");
                }
            }
            "User" | "Group" => errors.one_of(&path.child("apiGroup"), group, &[GROUP]),
            other => errors.unsupported(&path.child("kind"), other, &["ServiceAccount", "User", "Group"]),
        }
    }
}

/// Who may bind one role may not be one who may bind another.
fn same_role(new: &RoleRef, old: &RoleRef, errors: &mut Errors) {
    if new != old {
        errors.invalid_object(&Path::root("roleRef"), new, "cannot change roleRef");
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::testing::{changes, create, mistakes};

    const GROUP: &str = super::GROUP;

    fn binding() -> Value {
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": "a"},
            "roleRef": {"kind": "Role", "name": "reader"},
            "subjects": [{"kind": "User", "name": "jane"}, {"kind": "ServiceAccount", "name": "b", "namespace": "c"}],
        })
    }

    #[test]
    fn subjects_and_roles_are_of_this_group_unless_said_otherwise() {
        let stored = create(GROUP, "RoleBinding", binding()).unwrap();
        assert_eq!(stored["roleRef"]["apiGroup"], GROUP);
        assert_eq!(stored["subjects"][0]["apiGroup"], GROUP);
        assert_eq!(stored["subjects"][1]["apiGroup"], Value::Null);
    }

    #[test]
    fn mistakes_are_told_in_upstreams_words() {
        mistakes(
            GROUP,
            "RoleBinding",
            &binding(),
            &[
                (
                    "/roleRef/kind",
                    json!("Rolle"),
                    &["roleRef.kind: Unsupported value: \"Rolle\": supported values: \"Role\", \"ClusterRole\""],
                ),
                ("/roleRef/name", json!(""), &["roleRef.name: Required value"]),
                (
                    "/roleRef/name",
                    json!("a/b"),
                    &["roleRef.name: Invalid value: \"a/b\": may not contain '/'"],
                ),
                (
                    "/subjects/0/kind",
                    json!("Robot"),
                    &[
                        "subjects[0].kind: Unsupported value: \"Robot\": supported values: \"ServiceAccount\", \
                         \"User\", \"Group\"",
                    ],
                ),
            ],
        );
        let mut cluster = binding();
        cluster["kind"] = "ClusterRoleBinding".into();
        cluster["roleRef"]["kind"] = "ClusterRole".into();
        mistakes(
            GROUP,
            "ClusterRoleBinding",
            &cluster,
            &[
                (
                    "/roleRef/kind",
                    json!("Role"),
                    &["roleRef.kind: Unsupported value: \"Role\": supported values: \"ClusterRole\""],
                ),
                (
                    "/subjects/1/namespace",
                    Value::Null,
                    &["subjects[1].namespace: Required value"],
                ),
            ],
        );
        let mut role = binding();
        role["kind"] = "Role".into();
        role["rules"] = json!([{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}]);
        mistakes(
            GROUP,
            "Role",
            &role,
            &[
                (
                    "/rules/0",
                    json!({"verbs": []}),
                    &[
                        "rules[0].verbs: Required value: verbs must contain at least one value",
                        "rules[0].apiGroups: Required value: resource rules must supply at least one api group",
                        "rules[0].resources: Required value: resource rules must supply at least one resource",
                    ],
                ),
                (
                    "/rules/0/nonResourceURLs",
                    json!(["/healthz"]),
                    &[
                        "rules[0].nonResourceURLs: Invalid value: [\"/healthz\"]: namespaced rules cannot apply to \
                         non-resource URLs",
                        "rules[0].nonResourceURLs: Invalid value: [\"/healthz\"]: rules cannot apply to both regular \
                         resources and non-resource URLs",
                    ],
                ),
            ],
        );
        role["kind"] = "ClusterRole".into();
        mistakes(
            GROUP,
            "ClusterRole",
            &role,
            &[(
                "/aggregationRule",
                json!({}),
                &[
                    "aggregationRule.clusterRoleSelectors: Required value: at least one clusterRoleSelector required \
                     if aggregationRule is non-nil",
                ],
            )],
        );
    }

    #[test]
    fn the_role_that_is_bound_stays() {
        changes(
            GROUP,
            "RoleBinding",
            &binding(),
            &[
                ("/subjects", json!([]), &[]),
                (
                    "/roleRef/name",
                    json!("writer"),
                    &[
                        "roleRef: Invalid value: {\"apiGroup\":\"rbac.authorization.k8s.io\",\"kind\":\"Role\",\
                         \"name\":\"writer\"}: cannot change roleRef",
                    ],
                ),
            ],
        );
    }
}
