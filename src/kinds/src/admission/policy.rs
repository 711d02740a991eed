//! Policies that are expressions, and what they are bound to. The expressions are compiled where they are evaluated;
//! here is all that can be said without.

use bosun_api::{
    field::{Errors, OrEmpty, Path, set_default},
    names, selector,
};
use k8s_openapi::api::admissionregistration::v1::{
    MatchResources, MutatingAdmissionPolicy, MutatingAdmissionPolicyBinding, Mutation, NamedRuleWithOperations,
    ParamKind, ParamRef, RuleWithOperations, ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding,
    ValidatingAdmissionPolicySpec, Validation, Variable,
};

use super::{conditions, operations, rule};
use crate::kind::Kind;

/// The most annotations a policy writes into the audit log.
const MOST_ANNOTATIONS: usize = 20;

pub(crate) struct Validating;

impl Kind for Validating {
    type Object = ValidatingAdmissionPolicy;

    fn default(policy: &mut ValidatingAdmissionPolicy) {
        let Some(spec) = &mut policy.spec else { return };
        set_default(&mut spec.failure_policy, "Fail");
        match_defaults(spec.match_constraints.as_mut());
    }

    fn validate(policy: &ValidatingAdmissionPolicy, errors: &mut Errors) {
        let path = Path::root("spec");
        let spec = policy.spec.clone().unwrap_or_default();
        constraints(
            spec.failure_policy.as_deref(),
            spec.param_kind.as_ref(),
            spec.match_constraints.as_ref(),
            &path,
            errors,
        );
        conditions(spec.match_conditions.or_empty(), &path.child("matchConditions"), errors);
        variables(spec.variables.or_empty(), &path.child("variables"), errors);
        validations(policy.metadata.name.or_empty(), &spec, &path, errors);
    }
}

fn validations(name: &str, spec: &ValidatingAdmissionPolicySpec, path: &Path, errors: &mut Errors) {
    let rules_path = path.child("validations");
    let notes_path = path.child("auditAnnotations");
    let (rules, notes) = (spec.validations.or_empty(), spec.audit_annotations.or_empty());
    if rules.is_empty() && notes.is_empty() {
        let detail = "validations or auditAnnotations must contain at least one item";
        errors.required(&rules_path, detail);
        errors.required(&notes_path, detail);
    }
    for (path, rule) in rules_path.each(rules) {
        validation(rule, &path, errors);
    }
    if notes.len() > MOST_ANNOTATIONS {
        errors.invalid_object(
            &notes_path,
            &notes,
            format!("must not have more than {MOST_ANNOTATIONS} auditAnnotations"),
        );
    }
    for (index, note) in notes.iter().enumerate() {
        let path = notes_path.index(index);
        let key = format!("{name}/{}", note.key);
        errors.check(&path.child("key"), &key, names::qualified);
        if note.value_expression.trim().is_empty() {
            errors.required(&path.child("valueExpression"), "valueExpression is not specified");
        }
        if notes[..index].iter().any(|other| other.key == note.key) {
            errors.duplicate(&path.child("key"), note.key.as_str());
        }
    }
}

fn validation(rule: &Validation, path: &Path, errors: &mut Errors) {
    if rule.expression.trim().is_empty() {
        errors.required(&path.child("expression"), "expression is not specified");
    }
    let told = rule.message_expression.or_empty();
    if !told.is_empty() && told.trim().is_empty() {
        errors.invalid(&path.child("messageExpression"), told, "must be non-empty if specified");
    }
    let message = rule.message.or_empty();
    if !message.is_empty() && message.trim().is_empty() {
        errors.invalid(
            &path.child("message"),
            message,
            "message must be non-empty if specified",
        );
    } else if message.trim().contains(['\n', '\r']) {
        errors.invalid(&path.child("message"), message, "message must not contain line breaks");
    }
    errors.one_of(
        &path.child("reason"),
        rule.reason.as_deref(),
        &["Forbidden", "Invalid", "RequestEntityTooLarge", "Unauthorized"],
    );
}

pub(crate) struct Mutating;

impl Kind for Mutating {
    type Object = MutatingAdmissionPolicy;

    const STATUS: bool = false;

    fn default(policy: &mut MutatingAdmissionPolicy) {
        let Some(spec) = &mut policy.spec else { return };
        set_default(&mut spec.failure_policy, "Fail");
        match_defaults(spec.match_constraints.as_mut());
    }

    fn validate(policy: &MutatingAdmissionPolicy, errors: &mut Errors) {
        let path = Path::root("spec");
        let spec = policy.spec.clone().unwrap_or_default();
        constraints(
            spec.failure_policy.as_deref(),
            spec.param_kind.as_ref(),
            spec.match_constraints.as_ref(),
            &path,
            errors,
        );
        conditions(spec.match_conditions.or_empty(), &path.child("matchConditions"), errors);
        variables(spec.variables.or_empty(), &path.child("variables"), errors);
        let mutations = spec.mutations.or_empty();
        let mutations_path = path.child("mutations");
        if mutations.is_empty() {
            errors.required(&mutations_path, "mutations must contain at least one item");
        }
        for (path, change) in mutations_path.each(mutations) {
            mutation(change, &path, errors);
        }
        errors.required_one_of(
            &path.child("reinvocationPolicy"),
            spec.reinvocation_policy.or_empty(),
            &["IfNeeded", "Never"],
        );
    }
}

fn mutation(change: &Mutation, path: &Path, errors: &mut Errors) {
    errors.required_one_of(
        &path.child("patchType"),
        &change.patch_type,
        &["ApplyConfiguration", "JSONPatch"],
    );
    let applied = change
        .apply_configuration
        .as_ref()
        .map(|apply| apply.expression.or_empty());
    let patched = change.json_patch.as_ref().map(|patch| patch.expression.or_empty());
    for (type_, field, expression) in [
        ("ApplyConfiguration", "applyConfiguration", applied),
        ("JSONPatch", "jsonPatch", patched),
    ] {
        let path = path.child(field);
        match expression {
            None if change.patch_type == type_ => errors.required(&path, ""),
            Some(expression) if expression.trim().is_empty() => {
                errors.required(&path.child("expression"), "expression is not specified");
            }
            _ => {}
        }
    }
}

pub(crate) struct ValidatingBindings;

impl Kind for ValidatingBindings {
    type Object = ValidatingAdmissionPolicyBinding;

    const STATUS: bool = false;

    fn default(binding: &mut ValidatingAdmissionPolicyBinding) {
        match_defaults(binding.spec.match_resources.as_mut());
    }

    fn validate(binding: &ValidatingAdmissionPolicyBinding, errors: &mut Errors) {
        let path = Path::root("spec");
        let spec = &binding.spec;
        bound(
            &spec.policy_name,
            spec.param_ref.as_ref(),
            spec.match_resources.as_ref(),
            &path,
            errors,
        );
        let path = path.child("validationActions");
        let actions = &spec.validation_actions;
        for (index, action) in actions.iter().enumerate() {
            let path = path.index(index);
            errors.one_of(&path, Some(action), &["Audit", "Deny", "Warn"]);
            if actions[..index].contains(action) {
                errors.duplicate(&path, action.as_str());
            }
        }
        let has = |name: &str| actions.iter().any(|action| action == name);
        if has("Deny") && has("Warn") {
            errors.invalid_object(
                &path,
                actions,
                "must not contain both Deny and Warn (repeating the same validation failure information in the API \
                 response and headers serves no purpose)",
            );
        }
        if actions.is_empty() {
            errors.required(&path, "at least one validation action is required");
        }
    }
}

pub(crate) struct MutatingBindings;

impl Kind for MutatingBindings {
    type Object = MutatingAdmissionPolicyBinding;

    const STATUS: bool = false;

    fn default(binding: &mut MutatingAdmissionPolicyBinding) {
        let spec = binding.spec.as_mut();
        match_defaults(spec.and_then(|spec| spec.match_resources.as_mut()));
    }

    fn validate(binding: &MutatingAdmissionPolicyBinding, errors: &mut Errors) {
        let spec = binding.spec.clone().unwrap_or_default();
        bound(
            spec.policy_name.or_empty(),
            spec.param_ref.as_ref(),
            spec.match_resources.as_ref(),
            &Path::root("spec"),
            errors,
        );
    }
}

fn bound(policy: &str, param: Option<&ParamRef>, matched: Option<&MatchResources>, path: &Path, errors: &mut Errors) {
    errors.required_check(&path.child("policyName"), policy, names::dns_subdomain);
    if let Some(param) = param {
        param_ref(param, &path.child("paramRef"), errors);
    }
    if let Some(matched) = matched {
        match_resources(matched, &path.child("matchResources"), errors);
    }
}

fn param_ref(param: &ParamRef, path: &Path, errors: &mut Errors) {
    let name = param.name.or_empty();
    if !name.is_empty() {
        errors.check(&path.child("name"), name, names::path_segment);
    }
    selector::validate(param.selector.as_ref(), &path.child("selector"), errors);
    match (name.is_empty(), &param.selector) {
        (true, None) => errors.required(path, "one of name or selector must be specified"),
        (false, Some(_)) => {
            for field in ["name", "selector"] {
                errors.forbidden(&path.child(field), "name and selector are mutually exclusive");
            }
        }
        _ => {}
    }
    errors.required_one_of(
        &path.child("parameterNotFoundAction"),
        param.parameter_not_found_action.or_empty(),
        &["Allow", "Deny"],
    );
}

fn match_defaults(matched: Option<&mut MatchResources>) {
    let Some(matched) = matched else { return };
    set_default(&mut matched.match_policy, "Equivalent");
    matched.namespace_selector.get_or_insert_default();
    matched.object_selector.get_or_insert_default();
    for rules in [&mut matched.resource_rules, &mut matched.exclude_resource_rules] {
        for rule in rules.iter_mut().flatten() {
            rule.scope.get_or_insert_with(|| "*".to_owned());
        }
    }
}

fn constraints(
    failure: Option<&str>,
    param: Option<&ParamKind>,
    matched: Option<&MatchResources>,
    path: &Path,
    errors: &mut Errors,
) {
    errors.required_one_of(
        &path.child("failurePolicy"),
        failure.unwrap_or_default(),
        &["Fail", "Ignore"],
    );
    if let Some(param) = param {
        param_kind(param, &path.child("paramKind"), errors);
    }
    let path = path.child("matchConstraints");
    let Some(matched) = matched else {
        return errors.required(&path, "");
    };
    match_resources(matched, &path, errors);
    if !matched.resource_rules.is_given() {
        // Without one, nothing is known of the objects' type.
        errors.required(&path.child("resourceRules"), "");
    }
}

fn param_kind(param: &ParamKind, path: &Path, errors: &mut Errors) {
    let version_path = path.child("apiVersion");
    let written = param.api_version.or_empty();
    let (group, version) = written.split_once('/').unwrap_or(("", written));
    if written.is_empty() {
        errors.required(&version_path, "");
    } else if version.contains('/') {
        errors.invalid(
            &version_path,
            written,
            format!("unexpected GroupVersion string: {written}"),
        );
    } else {
        if !group.is_empty() {
            errors.check(&version_path, group, names::dns_subdomain);
        }
        if version.is_empty() {
            errors.invalid(&version_path, written, "version must be specified");
        } else {
            errors.check(&version_path, version, names::dns_1035_label);
        }
    }
    let kind_path = path.child("kind");
    let kind = param.kind.or_empty();
    if kind.is_empty() {
        errors.required(&kind_path, "");
    } else if let Err(detail) = names::dns_1035_label(&kind.to_lowercase()) {
        errors.invalid(
            &kind_path,
            kind,
            format!("may have mixed case, but should otherwise match: {detail}"),
        );
    }
}

fn match_resources(matched: &MatchResources, path: &Path, errors: &mut Errors) {
    errors.required_one_of(
        &path.child("matchPolicy"),
        matched.match_policy.or_empty(),
        &["Equivalent", "Exact"],
    );
    for (field, labels) in [
        ("namespaceSelector", &matched.namespace_selector),
        ("objectSelector", &matched.object_selector),
    ] {
        let path = path.child(field);
        if labels.is_none() {
            errors.required(&path, "");
        }
        selector::validate(labels.as_ref(), &path, errors);
    }
    for (field, rules) in [
        ("resourceRules", &matched.resource_rules),
        ("excludeResourceRules", &matched.exclude_resource_rules),
    ] {
        for (path, rule) in path.child(field).each(rules.or_empty()) {
            named_rule(rule, &path, errors);
        }
    }
}

fn named_rule(named: &NamedRuleWithOperations, path: &Path, errors: &mut Errors) {
    let listed = named.resource_names.or_empty();
    for (index, name) in listed.iter().enumerate() {
        let path = path.child("resourceNames").index(index);
        errors.check(&path, name, names::path_segment);
        if listed[..index].contains(name) {
            errors.duplicate(&path, name.as_str());
        }
    }
    operations(named.operations.or_empty(), &path.child("operations"), errors);
    let plain = RuleWithOperations {
        api_groups: named.api_groups.clone(),
        api_versions: named.api_versions.clone(),
        operations: None,
        resources: named.resources.clone(),
        scope: named.scope.clone(),
    };
    rule(&plain, path, errors);
}

fn variables(variables: &[Variable], path: &Path, errors: &mut Errors) {
    for (index, variable) in variables.iter().enumerate() {
        let path = path.index(index);
        let name = path.child("name");
        if variable.name.trim().is_empty() {
            errors.required(&name, "name is not specified");
        } else if !is_identifier(&variable.name) {
            errors.invalid(&name, variable.name.as_str(), "name is not a valid CEL identifier");
        }
        if variable.expression.trim().is_empty() {
            errors.required(&path.child("expression"), "expression is not specified");
        }
        if variables[..index].iter().any(|other| other.name == variable.name) {
            errors.duplicate(&name, variable.name.as_str());
        }
    }
}

/// What may name a variable in an expression.
fn is_identifier(name: &str) -> bool {
    let reserved = [
        "true",
        "false",
        "null",
        "in",
        "as",
        "break",
        "const",
        "continue",
        "else",
        "for",
        "function",
        "if",
        "import",
        "let",
        "loop",
        "package",
        "namespace",
        "return",
        "var",
        "void",
        "while",
    ];
    let mut letters = name.chars();
    letters
        .next()
        .is_some_and(|first| first.is_ascii_alphabetic() || first == '_')
        && letters.all(|letter| letter.is_ascii_alphanumeric() || letter == '_')
        && !reserved.contains(&name)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::testing::{create, mistakes};

    const GROUP: &str = "admissionregistration.k8s.io";

    fn policy() -> Value {
        json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
            "metadata": {"name": "p"},
            "spec": {
                "matchConstraints": {"resourceRules": [{
                    "operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"],
                }]},
                "validations": [{"expression": "true"}],
            },
        })
    }

    #[test]
    fn policies_are_stored_with_upstreams_defaults() {
        let stored = create(GROUP, "ValidatingAdmissionPolicy", policy()).unwrap();
        let spec = &stored["spec"];
        assert_eq!(spec["failurePolicy"], "Fail");
        assert_eq!(spec["matchConstraints"]["matchPolicy"], "Equivalent");
        assert_eq!(spec["matchConstraints"]["objectSelector"], json!({}));
        assert_eq!(spec["matchConstraints"]["resourceRules"][0]["scope"], "*");
    }

    #[test]
    fn mistakes_in_policies_are_told_in_upstreams_words() {
        mistakes(
            GROUP,
            "ValidatingAdmissionPolicy",
            &policy(),
            &[
                (
                    "/spec/validations",
                    json!([]),
                    &[
                        "spec.validations: Required value: validations or auditAnnotations must contain at least one \
                         item",
                        "spec.auditAnnotations: Required value: validations or auditAnnotations must contain at least \
                         one item",
                    ],
                ),
                (
                    "/spec/validations/0",
                    json!({"expression": " ", "message": "a\nb", "reason": "Whim"}),
                    &[
                        "spec.validations[0].expression: Required value: expression is not specified",
                        "spec.validations[0].message: Invalid value: \"a\\nb\": message must not contain line breaks",
                        "spec.validations[0].reason: Unsupported value: \"Whim\": supported values: \"Forbidden\", \
                         \"Invalid\", \"RequestEntityTooLarge\", \"Unauthorized\"",
                    ],
                ),
                (
                    "/spec/matchConstraints",
                    Value::Null,
                    &["spec.matchConstraints: Required value"],
                ),
                (
                    "/spec/variables",
                    json!([{"name": "in", "expression": "1"}]),
                    &["spec.variables[0].name: Invalid value: \"in\": name is not a valid CEL identifier"],
                ),
                (
                    "/spec/paramKind",
                    json!({"apiVersion": "a/", "kind": ""}),
                    &[
                        "spec.paramKind.apiVersion: Invalid value: \"a/\": version must be specified",
                        "spec.paramKind.kind: Required value",
                    ],
                ),
            ],
        );
        let mut change = policy();
        change["kind"] = "MutatingAdmissionPolicy".into();
        change["spec"]["reinvocationPolicy"] = "Never".into();
        change["spec"]["mutations"] = json!([{"patchType": "JSONPatch", "jsonPatch": {"expression": "[]"}}]);
        mistakes(
            GROUP,
            "MutatingAdmissionPolicy",
            &change,
            &[
                (
                    "/spec/mutations",
                    json!([]),
                    &["spec.mutations: Required value: mutations must contain at least one item"],
                ),
                (
                    "/spec/mutations/0/patchType",
                    json!("ApplyConfiguration"),
                    &["spec.mutations[0].applyConfiguration: Required value"],
                ),
            ],
        );
    }

    #[test]
    fn a_binding_says_what_follows() {
        let binding = json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding",
            "metadata": {"name": "b"}, "spec": {"policyName": "p", "validationActions": ["Deny"]},
        });
        mistakes(
            GROUP,
            "ValidatingAdmissionPolicyBinding",
            &binding,
            &[
                (
                    "/spec/validationActions",
                    json!([]),
                    &["spec.validationActions: Required value: at least one validation action is required"],
                ),
                (
                    "/spec/paramRef",
                    json!({"parameterNotFoundAction": "Deny"}),
                    &["spec.paramRef: Required value: one of name or selector must be specified"],
                ),
                ("/spec/policyName", json!(""), &["spec.policyName: Required value"]),
            ],
        );
    }
}
