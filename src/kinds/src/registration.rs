//! Kinds that add to the API: services that serve parts of it, and definitions of resources.

use bosun_api::{
    field::{Errors, OrEmpty, Path},
    names,
};
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::APIService;
use serde_json::{Value, json};

use crate::{
    Context, Outcome,
    kind::{Kind, Plain},
    strategy::Strategy,
};

pub(crate) struct Services;

impl Kind for Services {
    type Object = APIService;

    const GENERATION: bool = false;

    fn default(service: &mut APIService) {
        if let Some(reference) = service.spec.as_mut().and_then(|spec| spec.service.as_mut()) {
            reference.port.get_or_insert(443);
        }
    }

    fn validate(service: &APIService, errors: &mut Errors) {
        let path = Path::root("spec");
        let spec = service.spec.clone().unwrap_or_default();
        let (group, version) = (spec.group.or_empty(), spec.version.or_empty());
        let name = service.metadata.name.or_empty();
        let expected = format!("{version}.{group}");
        if name != expected {
            errors.invalid(
                &Path::root("metadata.name"),
                name,
                format!("must be `spec.version+\".\"+spec.group`: {expected:?}"),
            );
        }
        if !group.is_empty() {
            errors.check(&path.child("group"), group, names::dns_subdomain);
        } else if version != "v1" {
            errors.required(
                &path.child("group"),
                "only v1 may have an empty group and it better be legacy kube",
            );
        }
        errors.check(&path.child("version"), version, names::dns_1035_label);
        for (field, value, most) in [
            ("groupPriorityMinimum", spec.group_priority_minimum, 20000),
            ("versionPriority", spec.version_priority, 1000),
        ] {
            if value <= 0 || value > most {
                errors.invalid(
                    &path.child(field),
                    value,
                    format!("must be positive and less than {most}"),
                );
            }
        }
        let bundle = spec.ca_bundle.as_ref().map_or(0, |bundle| bundle.0.len());
        let insecure = spec.insecure_skip_tls_verify == Some(true);
        let insecure_path = path.child("insecureSkipTLSVerify");
        let Some(reference) = &spec.service else {
            if bundle > 0 {
                errors.invalid(
                    &path.child("caBundle"),
                    format!("{bundle} bytes"),
                    "local APIServices may not have a caBundle",
                );
            }
            if insecure {
                errors.invalid(
                    &insecure_path,
                    true,
                    "local APIServices may not have insecureSkipTLSVerify",
                );
            }
            return;
        };
        let path = path.child("service");
        for (field, value) in [
            ("namespace", reference.namespace.or_empty()),
            ("name", reference.name.or_empty()),
        ] {
            if value.is_empty() {
                errors.required(&path.child(field), "");
            }
        }
        if insecure && bundle > 0 {
            errors.invalid(&insecure_path, true, "may not be true if caBundle is present");
        }
    }

    fn validate_part(service: &APIService, _: &APIService, _: &str, errors: &mut Errors) {
        let Some(status) = &service.status else { return };
        for (path, condition) in Path::root("status.conditions").each(status.conditions.or_empty()) {
            errors.one_of(
                &path.child("status"),
                Some(&condition.status),
                &["True", "False", "Unknown"],
            );
        }
    }
}

/// Definitions of resources. Whether they are valid is said where their schemas are read.
pub(crate) struct Definitions;

const PLAIN: Plain = Plain {
    status: true,
    generation: true,
};

impl Strategy for Definitions {
    fn default(&self, object: &mut Value) {
        definition_defaults(object);
    }

    fn create(&self, object: &mut Value, context: &Context<'_>) -> Outcome {
        let outcome = PLAIN.create(object, context);
        store(object);
        outcome
    }

    fn update(&self, object: &mut Value, old: &Value, context: &Context<'_>) -> Outcome {
        let outcome = PLAIN.update(object, old, context);
        if context.subresource.is_empty() {
            store(object);
        }
        outcome
    }
}

/// Fills in what a definition leaves out.
fn definition_defaults(definition: &mut Value) {
    let Some(spec) = definition.get_mut("spec").filter(|spec| spec.is_object()) else {
        return;
    };
    if let Some(names) = spec.get_mut("names") {
        let kind = names["kind"].as_str().unwrap_or_default().to_owned();
        or_insert(names, "singular", || kind.to_lowercase().into());
        or_insert(names, "listKind", || format!("{kind}List").into());
    }
    or_insert(spec, "conversion", || json!({"strategy": "None"}));
    if let Some(service) = spec.pointer_mut("/conversion/webhook/clientConfig/service") {
        or_insert(service, "port", || json!(443));
    }
}

/// Notes the version that objects are stored in from now on among those that they are stored in.
fn store(definition: &mut Value) {
    let versions = definition["spec"]["versions"].as_array();
    let stored = versions
        .into_iter()
        .flatten()
        .find(|version| version["storage"] == true)
        .map(|version| version["name"].clone());
    let Some(stored) = stored else { return };
    if !definition["status"].is_object() {
        definition["status"] = json!({});
    }
    or_insert(&mut definition["status"], "storedVersions", || json!([]));
    if let Some(versions) = definition["status"]["storedVersions"].as_array_mut()
        && !versions.contains(&stored)
    {
        versions.push(stored);
    }
}

/// Fills in a field that is absent or null.
fn or_insert(object: &mut Value, field: &str, value: impl FnOnce() -> Value) {
    if let Some(fields) = object.as_object_mut()
        && fields.get(field).is_none_or(Value::is_null)
    {
        fields.insert(field.to_owned(), value());
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::testing::{create, mistakes, update, with};

    #[test]
    fn a_service_of_the_api_serves_one_version() {
        let service = json!({
            "apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
            "metadata": {"name": "v1beta1.metrics.k8s.io"},
            "spec": {
                "group": "metrics.k8s.io", "version": "v1beta1", "groupPriorityMinimum": 100, "versionPriority": 100,
                "service": {"namespace": "kube-system", "name": "metrics"}, "insecureSkipTLSVerify": true,
            },
        });
        let group = "apiregistration.k8s.io";
        let stored = create(group, "APIService", service.clone()).unwrap();
        assert_eq!(stored["spec"]["service"]["port"], 443);
        mistakes(
            group,
            "APIService",
            &service,
            &[
                (
                    "/metadata/name",
                    json!("a"),
                    &[
                        "metadata.name: Invalid value: \"a\": must be `spec.version+\".\"+spec.group`: \
                         \"v1beta1.metrics.k8s.io\"",
                    ],
                ),
                (
                    "/spec/versionPriority",
                    json!(0),
                    &["spec.versionPriority: Invalid value: 0: must be positive and less than 1000"],
                ),
                (
                    "/spec/caBundle",
                    json!("AAAA"),
                    &["spec.insecureSkipTLSVerify: Invalid value: true: may not be true if caBundle is present"],
                ),
            ],
        );
    }

    #[test]
    fn a_definition_knows_its_names_and_where_its_objects_are() {
        let (group, kind) = ("apiextensions.k8s.io", "CustomResourceDefinition");
        let definition = json!({
            "apiVersion": "apiextensions.k8s.io/v1", "kind": kind, "metadata": {"name": "foos.example.com"},
            "spec": {
                "group": "example.com", "names": {"kind": "Foo", "plural": "foos"}, "scope": "Namespaced",
                "versions": [{"name": "v1", "served": true, "storage": true}],
            },
        });
        let stored = create(group, kind, definition).unwrap();
        assert_eq!(stored["spec"]["names"]["singular"], "foo");
        assert_eq!(stored["spec"]["names"]["listKind"], "FooList");
        assert_eq!(stored["spec"]["conversion"], json!({"strategy": "None"}));
        assert_eq!(stored["status"], json!({"storedVersions": ["v1"]}));
        let newer = with(&stored, "/spec/versions/0/name", json!("v2"));
        let stored = update(group, kind, newer, &stored, "").unwrap();
        assert_eq!(stored["status"], json!({"storedVersions": ["v1", "v2"]}));
    }
}
