//! The flowcontrol group: whose requests wait for whose.

use bosun_api::{
    field::{Errors, OrEmpty, Path},
    names,
};
use k8s_openapi::api::flowcontrol::v1::{
    FlowSchema, FlowSchemaSpec, LimitResponse, LimitedPriorityLevelConfiguration, NonResourcePolicyRule,
    PolicyRulesWithSubjects, PriorityLevelConfiguration, QueuingConfiguration, ResourcePolicyRule, Subject,
};

use crate::kind::Kind;

const VERBS: &[&str] = &[
    "create",
    "delete",
    "deletecollection",
    "get",
    "list",
    "patch",
    "proxy",
    "update",
    "watch",
];
const MOST_PRECEDENCE: i32 = 10_000;
const MOST_QUEUES: i32 = 10_000_000;
/// As many bits as the hash of a flow has for dealing it queues.
const HASH_BITS: f64 = 60.0;

pub(crate) struct Schemas;

impl Kind for Schemas {
    type Object = FlowSchema;

    fn default(schema: &mut FlowSchema) {
        let Some(spec) = &mut schema.spec else { return };
        if spec.matching_precedence.unwrap_or_default() == 0 {
            spec.matching_precedence = Some(1000);
        }
    }

    fn validate(schema: &FlowSchema, errors: &mut Errors) {
        let none = FlowSchemaSpec::default();
        let spec = schema.spec.as_ref().unwrap_or(&none);
        let path = Path::root("spec");
        precedence(schema, spec, &path.child("matchingPrecedence"), errors);
        if let Some(method) = &spec.distinguisher_method {
            let methods = &["ByNamespace", "ByUser"];
            errors.one_of(&path.child("distinguisherMethod.type"), Some(&method.type_), methods);
        }
        let level = &spec.priority_level_configuration.name;
        let level_path = path.child("priorityLevelConfiguration.name");
        if level.is_empty() {
            errors.required(&level_path, "must reference a priority level");
        } else {
            errors.check(&level_path, level, names::dns_subdomain);
        }
        for (path, rule) in path.child("rules").each(spec.rules.or_empty()) {
            rules(rule, &path, errors);
        }
    }
}

fn precedence(schema: &FlowSchema, spec: &FlowSchemaSpec, path: &Path, errors: &mut Errors) {
    let precedence = spec.matching_precedence.unwrap_or_default();
    if precedence <= 0 {
        errors.invalid(path, precedence, "must be a positive value");
    }
    if precedence > MOST_PRECEDENCE {
        errors.invalid(path, precedence, format!("must not be greater than {MOST_PRECEDENCE}"));
    }
    if precedence == 1 && schema.metadata.name.or_empty() != "exempt" {
        errors.invalid(
            path,
            precedence,
            "only the schema named 'exempt' may have matchingPrecedence 1",
        );
    }
}

fn rules(rule: &PolicyRulesWithSubjects, path: &Path, errors: &mut Errors) {
    let subjects = path.child("subjects");
    if rule.subjects.is_empty() {
        errors.required(&subjects, "subjects must contain at least one value");
    }
    for (path, subject) in subjects.each(&rule.subjects) {
        validate_subject(subject, &path, errors);
    }
    let resources = rule.resource_rules.or_empty();
    let others = rule.non_resource_rules.or_empty();
    if resources.is_empty() && others.is_empty() {
        errors.required(
            path,
            "at least one of resourceRules and nonResourceRules has to be non-empty",
        );
    }
    for (path, rule) in path.child("resourceRules").each(resources) {
        resource_rule(rule, &path, errors);
    }
    for (path, rule) in path.child("nonResourceRules").each(others) {
        non_resource_rule(rule, &path, errors);
    }
}

fn validate_subject(subject: &Subject, path: &Path, errors: &mut Errors) {
    let kinds = &["Group", "ServiceAccount", "User"];
    if !kinds.contains(&subject.kind.as_str()) {
        return errors.unsupported(&path.child("kind"), subject.kind.as_str(), kinds);
    }
    for (kind, field, is_given) in [
        ("ServiceAccount", "serviceAccount", subject.service_account.is_some()),
        ("User", "user", subject.user.is_some()),
        ("Group", "group", subject.group.is_some()),
    ] {
        if subject.kind == kind && !is_given {
            errors.required(
                &path.child(field),
                format!("{field} is required when subject kind is '{kind}'"),
            );
        } else if subject.kind != kind && is_given {
            errors.forbidden(
                &path.child(field),
                format!("{field} is forbidden when subject kind is not '{kind}'"),
            );
        }
    }
    match (subject.kind.as_str(), &subject.service_account) {
        ("ServiceAccount", Some(account)) => {
            let path = path.child("serviceAccount");
            if account.name != "*" {
                errors.required_check(&path.child("name"), &account.name, names::dns_subdomain);
            }
            let namespace = path.child("namespace");
            if account.namespace.is_empty() {
                errors.required(&namespace, "must specify namespace for service account");
            } else {
                errors.check(&namespace, &account.namespace, names::dns_label);
            }
        }
        ("User", _) if subject.user.as_ref().is_some_and(|user| user.name.is_empty()) => {
            errors.required(&path.child("user.name"), "");
        }
        ("Group", _) if subject.group.as_ref().is_some_and(|group| group.name.is_empty()) => {
            errors.required(&path.child("group.name"), "");
        }
        _ => {}
    }
}

fn is_any(items: &[String]) -> bool {
    items.iter().any(|item| item == "*")
}

/// There must be items; the one that means all may not stand beside others.
fn items(items: &[String], none: &str, what: &str, path: &Path, errors: &mut Errors) {
    if items.is_empty() {
        errors.required(path, none);
    } else if items.len() > 1 && is_any(items) {
        errors.invalid(path, items, format!("if '*' is present, must not specify other {what}"));
    }
}

fn verbs(verbs: &[String], path: &Path, errors: &mut Errors) {
    items(verbs, "verbs must contain at least one value", "verbs", path, errors);
    if !is_any(verbs) && !verbs.iter().all(|verb| VERBS.contains(&verb.as_str())) {
        errors.unsupported(path, verbs, VERBS);
    }
}

fn resource_rule(rule: &ResourcePolicyRule, path: &Path, errors: &mut Errors) {
    verbs(&rule.verbs, &path.child("verbs"), errors);
    items(
        &rule.api_groups,
        "resource rules must supply at least one api group",
        "api groups",
        &path.child("apiGroups"),
        errors,
    );
    items(
        &rule.resources,
        "resource rules must supply at least one resource",
        "resources",
        &path.child("resources"),
        errors,
    );
    let namespaces = rule.namespaces.or_empty();
    let path = path.child("namespaces");
    if namespaces.is_empty() && rule.cluster_scope == Some(true) {
        return;
    }
    items(
        namespaces,
        "resource rules that are not cluster scoped must supply at least one namespace",
        "namespaces",
        &path,
        errors,
    );
    if !is_any(namespaces) {
        for (path, namespace) in path.each(namespaces) {
            if let Err(detail) = names::dns_label(namespace) {
                errors.invalid(
                    &path,
                    namespace.as_str(),
                    format!("each member of this list must be '*' or a DNS-1123 label; {detail}"),
                );
            }
        }
    }
}

fn non_resource_rule(rule: &NonResourcePolicyRule, path: &Path, errors: &mut Errors) {
    verbs(&rule.verbs, &path.child("verbs"), errors);
    let urls = &rule.non_resource_urls;
    let path = path.child("nonResourceURLs");
    items(
        urls,
        "nonResourceURLs must contain at least one value",
        "non-resource URLs",
        &path,
        errors,
    );
    if !is_any(urls) {
        for (path, url) in path.each(urls) {
            errors.check(&path, url, url_path);
        }
    }
}

fn url_path(path: &str) -> Result<(), &'static str> {
    let stars = path.matches('*').count();
    match path {
        "/" => Ok(()),
        "" => Err("must not be empty"),
        _ if !path.starts_with('/') => Err("must start with slash"),
        _ if path.contains(' ') => Err("must not contain white-space"),
        _ if path.contains("//") => Err("must not contain double slash"),
        _ if stars > 1 || (stars == 1 && !path.ends_with("/*")) => Err("wildcard can only do suffix matching"),
        _ => Ok(()),
    }
}

pub(crate) struct Levels;

impl Kind for Levels {
    type Object = PriorityLevelConfiguration;

    fn default(level: &mut PriorityLevelConfiguration) {
        let Some(spec) = &mut level.spec else { return };
        if spec.type_ == "Exempt" {
            spec.exempt.get_or_insert_default();
        }
        if let Some(exempt) = &mut spec.exempt {
            exempt.nominal_concurrency_shares.get_or_insert(0);
            exempt.lendable_percent.get_or_insert(0);
        }
        let Some(limited) = &mut spec.limited else { return };
        limited.nominal_concurrency_shares.get_or_insert(30);
        limited.lendable_percent.get_or_insert(0);
        let queuing = limited
            .limit_response
            .as_mut()
            .and_then(|response| response.queuing.as_mut());
        if let Some(queuing) = queuing {
            for (number, default) in [
                (&mut queuing.hand_size, 8),
                (&mut queuing.queues, 64),
                (&mut queuing.queue_length_limit, 50),
            ] {
                if number.unwrap_or_default() == 0 {
                    *number = Some(default);
                }
            }
        }
    }

    fn validate(level: &PriorityLevelConfiguration, errors: &mut Errors) {
        let path = Path::root("spec");
        let spec = level.spec.clone().unwrap_or_default();
        let type_path = path.child("type");
        let is_exempt = spec.type_ == "Exempt";
        if (level.metadata.name.or_empty() == "exempt") != is_exempt {
            errors.invalid(
                &type_path,
                spec.type_.as_str(),
                "type must be 'Exempt' if and only if name is 'exempt'",
            );
        }
        let limited_path = path.child("limited");
        match (spec.type_.as_str(), &spec.limited) {
            ("Exempt", Some(_)) => errors.forbidden(&limited_path, "must be nil if the type is not Limited"),
            ("Exempt", None) => {}
            ("Limited", None) => errors.required(&limited_path, "must not be empty when type is Limited"),
            ("Limited", Some(limited)) => validate_limited(limited, &limited_path, errors),
            (other, _) => errors.unsupported(&type_path, other, &["Exempt", "Limited"]),
        }
        let exempt_path = path.child("exempt");
        match &spec.exempt {
            Some(_) if spec.type_ == "Limited" => {
                errors.forbidden(&exempt_path, "must be nil if the type is Limited");
            }
            Some(exempt) => shares(
                exempt.nominal_concurrency_shares,
                exempt.lendable_percent,
                &exempt_path,
                errors,
            ),
            None => {}
        }
    }
}

fn shares(shares: Option<i32>, lendable: Option<i32>, path: &Path, errors: &mut Errors) {
    if let Some(shares) = shares.filter(|shares| *shares < 0) {
        errors.invalid(
            &path.child("nominalConcurrencyShares"),
            shares,
            "must be a non-negative integer",
        );
    }
    errors.within(&path.child("lendablePercent"), lendable, 0, 100);
}

fn validate_limited(limited: &LimitedPriorityLevelConfiguration, path: &Path, errors: &mut Errors) {
    shares(
        limited.nominal_concurrency_shares,
        limited.lendable_percent,
        path,
        errors,
    );
    if let Some(percent) = limited.borrowing_limit_percent.filter(|percent| *percent < 0) {
        errors.invalid(
            &path.child("borrowingLimitPercent"),
            percent,
            "if specified, must be a non-negative integer",
        );
    }
    let none = LimitResponse::default();
    let response = limited.limit_response.as_ref().unwrap_or(&none);
    let path = path.child("limitResponse");
    let queuing_path = path.child("queuing");
    match (response.type_.as_str(), &response.queuing) {
        ("Reject", Some(_)) => errors.forbidden(
            &queuing_path,
            "must be nil if limited.limitResponse.type is not Limited",
        ),
        ("Reject", None) => {}
        ("Queue", None) => errors.required(
            &queuing_path,
            "must not be empty if limited.limitResponse.type is Limited",
        ),
        ("Queue", Some(queuing)) => validate_queuing(queuing, &queuing_path, errors),
        (other, _) => errors.unsupported(&path.child("type"), other, &["Queue", "Reject"]),
    }
}

fn validate_queuing(queuing: &QueuingConfiguration, path: &Path, errors: &mut Errors) {
    let length = queuing.queue_length_limit.unwrap_or_default();
    let queues = queuing.queues.unwrap_or_default();
    let hand = queuing.hand_size.unwrap_or_default();
    let hand_path = path.child("handSize");
    for (path, value) in [
        (&path.child("queueLengthLimit"), length),
        (&path.child("queues"), queues),
        (&hand_path, hand),
    ] {
        if value <= 0 {
            errors.invalid(path, value, "must be positive");
        }
    }
    if queues > MOST_QUEUES {
        errors.invalid(
            &path.child("queues"),
            queues,
            format!("must not be greater than {MOST_QUEUES}"),
        );
    }
    if hand > queues {
        errors.invalid(
            &hand_path,
            hand,
            format!("should not be greater than queues ({queues})"),
        );
    } else if bits(queues, hand) > HASH_BITS {
        errors.invalid(
            &hand_path,
            hand,
            format!(
                "required entropy bits of deckSize {queues} and handSize {hand} should not be greater than {HASH_BITS}"
            ),
        );
    }
}

/// How many bits it takes to deal a hand from so many cards.
fn bits(cards: i32, hand: i32) -> f64 {
    let bits = |dealt: i32| f64::from(cards - dealt).log2();
    (0..hand).map(bits).sum::<f64>().ceil()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::testing::{create, mistakes};

    const GROUP: &str = "flowcontrol.apiserver.k8s.io";

    #[test]
    fn a_schema_says_whose_requests_are_which() {
        let schema = json!({
            "apiVersion": "flowcontrol.apiserver.k8s.io/v1", "kind": "FlowSchema", "metadata": {"name": "f"},
            "spec": {
                "priorityLevelConfiguration": {"name": "low"},
                "rules": [{
                    "subjects": [{"kind": "User", "user": {"name": "*"}}],
                    "resourceRules": [
                        {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "namespaces": ["*"]},
                    ],
                }],
            },
        });
        let stored = create(GROUP, "FlowSchema", schema.clone()).unwrap();
        assert_eq!(stored["spec"]["matchingPrecedence"], 1000);
        mistakes(
            GROUP,
            "FlowSchema",
            &schema,
            &[
                (
                    "/spec/matchingPrecedence",
                    json!(1),
                    &[
                        "spec.matchingPrecedence: Invalid value: 1: only the schema named 'exempt' may have \
                         matchingPrecedence 1",
                    ],
                ),
                (
                    "/spec/rules/0/subjects/0",
                    json!({"kind": "Group", "user": {"name": "*"}}),
                    &[
                        "spec.rules[0].subjects[0].user: Forbidden: user is forbidden when subject kind is not 'User'",
                        "spec.rules[0].subjects[0].group: Required value: group is required when subject kind is \
                         'Group'",
                    ],
                ),
                (
                    "/spec/rules/0/resourceRules/0/namespaces",
                    json!([]),
                    &[
                        "spec.rules[0].resourceRules[0].namespaces: Required value: resource rules that are not \
                         cluster scoped must supply at least one namespace",
                    ],
                ),
                (
                    "/spec/rules/0/nonResourceRules",
                    json!([{"verbs": ["get"], "nonResourceURLs": ["healthz"]}]),
                    &[
                        "spec.rules[0].nonResourceRules[0].nonResourceURLs[0]: Invalid value: \"healthz\": must start \
                         with slash",
                    ],
                ),
            ],
        );
    }

    #[test]
    fn a_level_limits_or_exempts() {
        let level = json!({
            "apiVersion": "flowcontrol.apiserver.k8s.io/v1", "kind": "PriorityLevelConfiguration",
            "metadata": {"name": "low"},
            "spec": {"type": "Limited", "limited": {"limitResponse": {"type": "Queue", "queuing": {}}}},
        });
        let stored = create(GROUP, "PriorityLevelConfiguration", level.clone()).unwrap();
        assert_eq!(
            stored["spec"]["limited"],
            json!({
                "lendablePercent": 0, "nominalConcurrencyShares": 30,
                "limitResponse": {"type": "Queue", "queuing": {"handSize": 8, "queueLengthLimit": 50, "queues": 64}},
            })
        );
        mistakes(
            GROUP,
            "PriorityLevelConfiguration",
            &level,
            &[
                (
                    "/spec/type",
                    json!("Exempt"),
                    &[
                        "spec.type: Invalid value: \"Exempt\": type must be 'Exempt' if and only if name is 'exempt'",
                        "spec.limited: Forbidden: must be nil if the type is not Limited",
                    ],
                ),
                (
                    "/spec/limited/limitResponse/queuing/handSize",
                    json!(65),
                    &[
                        "spec.limited.limitResponse.queuing.handSize: Invalid value: 65: should not be greater than \
                         queues (64)",
                    ],
                ),
                (
                    "/spec/limited/limitResponse/queuing/handSize",
                    json!(20),
                    &[
                        "spec.limited.limitResponse.queuing.handSize: Invalid value: 20: required entropy bits of \
                         deckSize 64 and handSize 20 should not be greater than 60",
                    ],
                ),
            ],
        );
    }
}
