//! The admissionregistration group: who else is asked about a request.

pub(crate) mod policy;

use bosun_api::{
    field::{Errors, OrEmpty, Path},
    names, selector,
};
use k8s_openapi::{
    api::admissionregistration::v1::{
        MatchCondition, MutatingWebhookConfiguration, RuleWithOperations, ServiceReference,
        ValidatingWebhookConfiguration, WebhookClientConfig,
    },
    apimachinery::pkg::apis::meta::v1::LabelSelector,
};

use crate::kind::Kind;

/// What webhooks of both sorts have.
struct Webhook<'a> {
    name: &'a str,
    rules: &'a [RuleWithOperations],
    conditions: &'a [MatchCondition],
    versions: &'a [String],
    client: &'a WebhookClientConfig,
    failure: Option<&'a str>,
    matching: Option<&'a str>,
    effects: &'a str,
    timeout: Option<i32>,
    namespaces: Option<&'a LabelSelector>,
    objects: Option<&'a LabelSelector>,
}

pub(crate) struct Validating;

impl Kind for Validating {
    type Object = ValidatingWebhookConfiguration;

    const STATUS: bool = false;

    fn default(configuration: &mut ValidatingWebhookConfiguration) {
        for hook in configuration.webhooks.iter_mut().flatten() {
            hook.failure_policy.get_or_insert_with(|| "Fail".to_owned());
            hook.match_policy.get_or_insert_with(|| "Equivalent".to_owned());
            hook.namespace_selector.get_or_insert_default();
            hook.object_selector.get_or_insert_default();
            hook.timeout_seconds.get_or_insert(10);
            defaults(hook.rules.as_mut(), hook.client_config.service.as_mut());
        }
    }

    fn validate(configuration: &ValidatingWebhookConfiguration, errors: &mut Errors) {
        let hooks = configuration.webhooks.or_empty().iter().map(|hook| Webhook {
            name: &hook.name,
            rules: hook.rules.or_empty(),
            conditions: hook.match_conditions.or_empty(),
            versions: &hook.admission_review_versions,
            client: &hook.client_config,
            failure: hook.failure_policy.as_deref(),
            matching: hook.match_policy.as_deref(),
            effects: &hook.side_effects,
            timeout: hook.timeout_seconds,
            namespaces: hook.namespace_selector.as_ref(),
            objects: hook.object_selector.as_ref(),
        });
        webhooks(&hooks.collect::<Vec<_>>(), errors);
    }
}

pub(crate) struct Mutating;

impl Kind for Mutating {
    type Object = MutatingWebhookConfiguration;

    const STATUS: bool = false;

    fn default(configuration: &mut MutatingWebhookConfiguration) {
        for hook in configuration.webhooks.iter_mut().flatten() {
            hook.failure_policy.get_or_insert_with(|| "Fail".to_owned());
            hook.match_policy.get_or_insert_with(|| "Equivalent".to_owned());
            hook.namespace_selector.get_or_insert_default();
            hook.object_selector.get_or_insert_default();
            hook.timeout_seconds.get_or_insert(10);
            hook.reinvocation_policy.get_or_insert_with(|| "Never".to_owned());
            defaults(hook.rules.as_mut(), hook.client_config.service.as_mut());
        }
    }

    fn validate(configuration: &MutatingWebhookConfiguration, errors: &mut Errors) {
        let all = configuration.webhooks.or_empty();
        let hooks = all.iter().map(|hook| Webhook {
            name: &hook.name,
            rules: hook.rules.or_empty(),
            conditions: hook.match_conditions.or_empty(),
            versions: &hook.admission_review_versions,
            client: &hook.client_config,
            failure: hook.failure_policy.as_deref(),
            matching: hook.match_policy.as_deref(),
            effects: &hook.side_effects,
            timeout: hook.timeout_seconds,
            namespaces: hook.namespace_selector.as_ref(),
            objects: hook.object_selector.as_ref(),
        });
        webhooks(&hooks.collect::<Vec<_>>(), errors);
        for (path, hook) in Path::root("webhooks").each(all) {
            errors.one_of(
                &path.child("reinvocationPolicy"),
                hook.reinvocation_policy.as_deref(),
                &["IfNeeded", "Never"],
            );
        }
    }
}

fn defaults(rules: Option<&mut Vec<RuleWithOperations>>, service: Option<&mut ServiceReference>) {
    for rule in rules.into_iter().flatten() {
        rule.scope.get_or_insert_with(|| "*".to_owned());
    }
    if let Some(service) = service {
        service.port.get_or_insert(443);
    }
}

fn webhooks(hooks: &[Webhook<'_>], errors: &mut Errors) {
    for (index, hook) in hooks.iter().enumerate() {
        let path = Path::root("webhooks").index(index);
        webhook(hook, &path, errors);
        review_versions(hook.versions, &path.child("admissionReviewVersions"), errors);
        if !hook.name.is_empty() && hooks[..index].iter().any(|other| other.name == hook.name) {
            errors.duplicate(&path.child("name"), hook.name);
        }
    }
}

fn webhook(hook: &Webhook<'_>, path: &Path, errors: &mut Errors) {
    let name = path.child("name");
    let before = errors.count();
    errors.required_check(&name, hook.name, names::dns_subdomain);
    if errors.count() == before && hook.name.split('.').count() < 3 {
        errors.invalid(
            &name,
            hook.name,
            "should be a domain with at least three segments separated by dots",
        );
    }
    for (path, rule) in path.child("rules").each(hook.rules) {
        operations(rule.operations.or_empty(), &path.child("operations"), errors);
        self::rule(rule, &path, errors);
    }
    errors.one_of(&path.child("failurePolicy"), hook.failure, &["Fail", "Ignore"]);
    errors.one_of(&path.child("matchPolicy"), hook.matching, &["Equivalent", "Exact"]);
    let effects = path.child("sideEffects");
    if hook.effects.is_empty() {
        errors.required(&effects, "must specify one of None, NoneOnDryRun");
    } else {
        errors.one_of(&effects, Some(hook.effects), &["None", "NoneOnDryRun"]);
    }
    if let Some(seconds) = hook.timeout.filter(|seconds| !(1..=30).contains(seconds)) {
        errors.invalid(
            &path.child("timeoutSeconds"),
            seconds,
            "the timeout value must be between 1 and 30 seconds",
        );
    }
    selector::validate(hook.namespaces, &path.child("namespaceSelector"), errors);
    selector::validate(hook.objects, &path.child("objectSelector"), errors);
    client(hook.client, &path.child("clientConfig"), errors);
    conditions(hook.conditions, &path.child("matchConditions"), errors);
}

fn operations(operations: &[String], path: &Path, errors: &mut Errors) {
    if operations.is_empty() {
        errors.required(path, "");
    }
    if operations.len() > 1 && is_any(operations) {
        errors.invalid(path, operations, "if '*' is present, must not specify other operations");
    }
    for (path, operation) in path.each(operations) {
        errors.one_of(&path, Some(operation), &["*", "CONNECT", "CREATE", "DELETE", "UPDATE"]);
    }
}

fn is_any(items: &[String]) -> bool {
    items.iter().any(|item| item == "*")
}

fn rule(rule: &RuleWithOperations, path: &Path, errors: &mut Errors) {
    let groups = rule.api_groups.or_empty();
    let versions = rule.api_versions.or_empty();
    for (field, items, what) in [("apiGroups", groups, "groups"), ("apiVersions", versions, "versions")] {
        let path = path.child(field);
        if items.is_empty() {
            errors.required(&path, "");
        }
        if items.len() > 1 && is_any(items) {
            errors.invalid(
                &path,
                items,
                format!("if '*' is present, must not specify other API {what}"),
            );
        }
    }
    for (path, version) in path.child("apiVersions").each(versions) {
        if version.is_empty() {
            errors.required(&path, "");
        }
    }
    resources(rule.resources.or_empty(), &path.child("resources"), errors);
    errors.one_of(
        &path.child("scope"),
        rule.scope.as_deref(),
        &["*", "Cluster", "Namespaced"],
    );
}

fn resources(resources: &[String], path: &Path, errors: &mut Errors) {
    if resources.is_empty() {
        errors.required(path, "");
    }
    for (index, resource) in resources.iter().enumerate() {
        let path = path.index(index);
        let before = &resources[..index];
        if resource.is_empty() {
            errors.required(&path, "");
        }
        let Some((whole, part)) = resource.split_once('/') else {
            continue;
        };
        for any in [format!("{whole}/*"), format!("*/{part}")] {
            if before.contains(&any) {
                errors.invalid(
                    &path,
                    resource.as_str(),
                    format!("if '{any}' is present, must not specify {resource}"),
                );
            }
        }
    }
    if resources.len() > 1 && resources.iter().any(|resource| resource == "*/*") {
        errors.invalid(path, resources, "if '*/*' is present, must not specify other resources");
    }
    if is_any(resources)
        && resources
            .iter()
            .any(|resource| resource != "*" && !resource.contains('/'))
    {
        errors.invalid(
            path,
            resources,
            "if '*' is present, must not specify other resources without subresources",
        );
    }
}

fn review_versions(versions: &[String], path: &Path, errors: &mut Errors) {
    if versions.is_empty() {
        return errors.required(path, "must specify one of v1, v1beta1");
    }
    for (index, version) in versions.iter().enumerate() {
        let path = path.index(index);
        if versions[..index].contains(version) {
            errors.invalid(&path, version.as_str(), "duplicate version");
        } else {
            errors.check(&path, version, names::dns_1035_label);
        }
    }
    if !versions
        .iter()
        .any(|version| matches!(version.as_str(), "v1" | "v1beta1"))
    {
        errors.invalid(path, versions, "must include at least one of v1, v1beta1");
    }
}

fn client(client: &WebhookClientConfig, path: &Path, errors: &mut Errors) {
    match (&client.url, &client.service) {
        (Some(text), None) => url(text, &path.child("url"), errors),
        (None, Some(service)) => reference(
            &service.namespace,
            &service.name,
            service.path.as_deref(),
            service.port.unwrap_or_default(),
            &path.child("service"),
            errors,
        ),
        _ => errors.required(path, "exactly one of url or service is required"),
    }
}

const FORM: &str = "; desired format: https://host[/path]";

/// Where a webhook is, outside the cluster.
pub(crate) fn url(url: &str, path: &Path, errors: &mut Errors) {
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    if scheme != "https" {
        errors.invalid(path, scheme, format!("'https' is the only allowed URL scheme{FORM}"));
    }
    let (rest, fragment) = rest.split_once('#').unwrap_or((rest, ""));
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let authority = rest.split('/').next().unwrap_or_default();
    let (user, host) = authority.rsplit_once('@').unwrap_or(("", authority));
    if host.is_empty() || scheme.is_empty() {
        errors.invalid(path, "", format!("host must be specified{FORM}"));
    }
    for (part, what) in [
        (user, "user information is"),
        (fragment, "fragments are"),
        (query, "query parameters are"),
    ] {
        if !part.is_empty() {
            errors.invalid(path, part, format!("{what} not permitted in the URL"));
        }
    }
}

/// Where a webhook is, inside the cluster.
pub(crate) fn reference(namespace: &str, name: &str, at: Option<&str>, port: i32, path: &Path, errors: &mut Errors) {
    if name.is_empty() {
        errors.required(&path.child("name"), "service name is required");
    }
    if namespace.is_empty() {
        errors.required(&path.child("namespace"), "service namespace is required");
    }
    if !(1..=65535).contains(&port) {
        errors.invalid(
            &path.child("port"),
            port,
            "port is not valid: must be between 1 and 65535, inclusive",
        );
    }
    let Some(at) = at else { return };
    let path = path.child("path");
    let Some(steps) = at.strip_prefix('/') else {
        return errors.invalid(&path, at, "must start with a '/'");
    };
    let steps: Vec<_> = steps.split('/').collect();
    for (index, step) in steps.iter().enumerate() {
        if step.is_empty() {
            // The last may be: a slash at the end.
            if index + 1 < steps.len() {
                errors.invalid(&path, at, format!("segment[{index}] may not be empty"));
            }
        } else if let Err(detail) = names::dns_subdomain(step) {
            errors.invalid(&path, at, format!("segment[{index}]: {detail}"));
        }
    }
}

/// The expressions themselves are compiled where they are evaluated.
fn conditions(conditions: &[MatchCondition], path: &Path, errors: &mut Errors) {
    errors.too_many(path, conditions.len(), 64);
    for (index, condition) in conditions.iter().enumerate() {
        let path = path.index(index);
        let name = path.child("name");
        if condition.expression.trim().is_empty() {
            errors.required(&path.child("expression"), "");
        }
        errors.required_check(&name, &condition.name, names::qualified);
        if conditions[..index].iter().any(|other| other.name == condition.name) {
            errors.duplicate(&name, condition.name.as_str());
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::testing::{create, mistakes};

    const GROUP: &str = "admissionregistration.k8s.io";

    fn webhook() -> Value {
        json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration",
            "metadata": {"name": "w"},
            "webhooks": [{
                "name": "a.example.com", "admissionReviewVersions": ["v1"], "sideEffects": "None",
                "clientConfig": {"service": {"namespace": "a", "name": "b"}},
                "rules": [{
                    "operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"],
                }],
            }],
        })
    }

    #[test]
    fn webhooks_are_stored_with_upstreams_defaults() {
        let stored = create(GROUP, "MutatingWebhookConfiguration", webhook()).unwrap();
        let hook = &stored["webhooks"][0];
        assert_eq!(hook["failurePolicy"], "Fail");
        assert_eq!(hook["matchPolicy"], "Equivalent");
        assert_eq!(hook["reinvocationPolicy"], "Never");
        assert_eq!(hook["timeoutSeconds"], 10);
        assert_eq!(hook["namespaceSelector"], json!({}));
        assert_eq!(hook["clientConfig"]["service"]["port"], 443);
        assert_eq!(hook["rules"][0]["scope"], "*");
    }

    #[test]
    fn mistakes_in_webhooks_are_told_in_upstreams_words() {
        mistakes(
            GROUP,
            "MutatingWebhookConfiguration",
            &webhook(),
            &[
                (
                    "/webhooks/0/name",
                    json!("a.b"),
                    &[
                        "webhooks[0].name: Invalid value: \"a.b\": should be a domain with at least three segments \
                         separated by dots",
                    ],
                ),
                (
                    "/webhooks/0/sideEffects",
                    json!("Some"),
                    &[
                        "webhooks[0].sideEffects: Unsupported value: \"Some\": supported values: \"None\", \
                         \"NoneOnDryRun\"",
                    ],
                ),
                (
                    "/webhooks/0/timeoutSeconds",
                    json!(31),
                    &[
                        "webhooks[0].timeoutSeconds: Invalid value: 31: the timeout value must be between 1 and 30 \
                         seconds",
                    ],
                ),
                (
                    "/webhooks/0/clientConfig",
                    json!({}),
                    &["webhooks[0].clientConfig: Required value: exactly one of url or service is required"],
                ),
                (
                    "/webhooks/0/clientConfig",
                    json!({"url": "http://me@a.example/?q"}),
                    &[
                        "webhooks[0].clientConfig.url: Invalid value: \"http\": 'https' is the only allowed URL \
                         scheme; desired format: https://host[/path]",
                        "webhooks[0].clientConfig.url: Invalid value: \"me\": user information is not permitted in \
                         the URL",
                        "webhooks[0].clientConfig.url: Invalid value: \"q\": query parameters are not permitted in \
                         the URL",
                    ],
                ),
                (
                    "/webhooks/0/rules/0/resources",
                    json!(["pods", "*"]),
                    &[
                        "webhooks[0].rules[0].resources: Invalid value: [\"pods\",\"*\"]: if '*' is present, must not \
                         specify other resources without subresources",
                    ],
                ),
                (
                    "/webhooks/0/rules/0/operations",
                    json!(["LIST"]),
                    &[
                        "webhooks[0].rules[0].operations[0]: Unsupported value: \"LIST\": supported values: \"*\", \
                         \"CONNECT\", \"CREATE\", \"DELETE\", \"UPDATE\"",
                    ],
                ),
                (
                    "/webhooks/0/admissionReviewVersions",
                    json!(["v3"]),
                    &[
                        "webhooks[0].admissionReviewVersions: Invalid value: [\"v3\"]: must include at least one of \
                         v1, v1beta1",
                    ],
                ),
            ],
        );
    }
}
