//! Names and metadata: what holds for objects of every kind, and which names each kind allows.

use bosun_api::{
    field::{Errors, FieldError, OrEmpty, Path},
    names::{self, Check},
    pod::validate::annotations,
    selector::validate_labels,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

/// What the names of a kind's objects may look like.
type Rule = names::Rule;

/// What is wrong with an object's name, if anything.
pub fn name_error(group: &str, kind: &str, name: &str) -> Option<&'static str> {
    rule(group, kind)(name).err()
}

/// What is wrong with the beginning of a name that will be made whole, if anything.
pub fn generate_name_error(group: &str, kind: &str, prefix: &str) -> Option<&'static str> {
    // What is appended is alphanumeric, so that a dash at the end is fine.
    let checked = match prefix.strip_suffix('-') {
        Some(start) if !start.is_empty() => format!("{start}a"),
        _ => prefix.to_owned(),
    };
    rule(group, kind)(&checked).err()
}

fn rule(group: &str, kind: &str) -> Rule {
    match (group, kind) {
        // A Service's name is a host name and the prefix of environment variables.
        ("", "Service") => names::dns_1035_label,
        // Pods of a stateful set take its name into their host names.
        ("", "Namespace") | ("apps", "StatefulSet") => names::dns_label,
        // Events are too many and too short-lived to be refused for their names by the older version.
        ("", "Event") | ("rbac.authorization.k8s.io", _) | ("apiregistration.k8s.io", "APIService") => {
            names::path_segment
        }
        ("certificates.k8s.io", "CertificateSigningRequest") => |_| Ok(()),
        ("coordination.k8s.io", "LeaseCandidate") => names::config_key,
        ("networking.k8s.io", "IPAddress") => names::ip_address,
        // `signer:name`, each part with rules of its own.
        ("certificates.k8s.io", "ClusterTrustBundle") => trust_bundle_name,
        _ => names::dns_subdomain,
    }
}

fn trust_bundle_name(name: &str) -> Check {
    names::dns_subdomain(name.rsplit_once(':').map_or(name, |(_, name)| name))
}

/// Checks the metadata of a new object. `namespaced` says whether objects of its kind are in namespaces.
pub fn validate(metadata: &ObjectMeta, group: &str, kind: &str, namespaced: bool) -> Vec<FieldError> {
    let mut errors = Errors::default();
    let path = Path::root("metadata");
    if let Some(prefix) = metadata.generate_name.as_deref().filter(|prefix| !prefix.is_empty())
        && let Some(detail) = generate_name_error(group, kind, prefix)
    {
        errors.invalid(&path.child("generateName"), prefix, detail);
    }
    let name = metadata.name.or_empty();
    if name.is_empty() {
        errors.required(&path.child("name"), "name or generateName is required");
    } else if let Some(detail) = name_error(group, kind, name) {
        errors.invalid(&path.child("name"), name, detail);
    }
    let namespace = metadata.namespace.or_empty();
    let namespace_path = path.child("namespace");
    match (namespaced, namespace.is_empty()) {
        (true, true) => errors.required(&namespace_path, ""),
        (true, false) => errors.check(&namespace_path, namespace, names::dns_label),
        (false, false) => errors.forbidden(&namespace_path, "not allowed on this type"),
        (false, true) => {}
    }
    errors.at_least(&path.child("generation"), metadata.generation, 0);
    common(metadata, &path, &mut errors);
    errors.into_vec()
}

/// Checks the metadata of a changed object: what was decided at its birth stays.
pub fn validate_update(metadata: &ObjectMeta, old: &ObjectMeta) -> Vec<FieldError> {
    let mut errors = Errors::default();
    let path = Path::root("metadata");
    if old.deletion_timestamp.is_some() {
        let before = old.finalizers.or_empty();
        let mut added: Vec<_> = metadata
            .finalizers
            .or_empty()
            .iter()
            .filter(|name| !before.contains(name))
            .collect();
        added.sort();
        added.dedup();
        if !added.is_empty() {
            let quoted: Vec<_> = added.iter().map(|name| format!("{name:?}")).collect();
            let list = quoted.join(", ");
            errors.forbidden(
                &path.child("finalizers"),
                format!(
                    "no new finalizers can be added if the object is being deleted, found new finalizers \
                     []string{{{list}}}"
                ),
            );
        }
    }
    if metadata.generation.unwrap_or_default() < old.generation.unwrap_or_default() {
        errors.invalid(
            &path.child("generation"),
            metadata.generation.unwrap_or_default(),
            "must not be decremented",
        );
    }
    for (field, new, old) in [
        ("name", &metadata.name, &old.name),
        ("namespace", &metadata.namespace, &old.namespace),
        ("uid", &metadata.uid, &old.uid),
    ] {
        errors.immutable(&path.child(field), &new.or_empty(), &old.or_empty());
    }
    for (field, new, old) in [
        (
            "creationTimestamp",
            &metadata.creation_timestamp,
            &old.creation_timestamp,
        ),
        (
            "deletionTimestamp",
            &metadata.deletion_timestamp,
            &old.deletion_timestamp,
        ),
    ] {
        errors.immutable(&path.child(field), new, old);
    }
    errors.immutable(
        &path.child("deletionGracePeriodSeconds"),
        &metadata.deletion_grace_period_seconds,
        &old.deletion_grace_period_seconds,
    );
    common(metadata, &path, &mut errors);
    errors.into_vec()
}

fn common(metadata: &ObjectMeta, path: &Path, errors: &mut Errors) {
    validate_labels(metadata.labels.or_empty(), &path.child("labels"), errors);
    annotations(metadata.annotations.or_empty(), &path.child("annotations"), errors);
    owners(
        metadata.owner_references.or_empty(),
        &path.child("ownerReferences"),
        errors,
    );
    finalizers(metadata.finalizers.or_empty(), &path.child("finalizers"), errors);
}

fn owners(owners: &[OwnerReference], path: &Path, errors: &mut Errors) {
    let mut controller: Option<String> = None;
    for owner in owners {
        // Everything after the last slash is a version; an empty one says nothing.
        let version = owner.api_version.rsplit('/').next().unwrap_or_default();
        if version.is_empty() || owner.api_version.matches('/').count() > 1 {
            errors.invalid(
                &path.child("apiVersion"),
                owner.api_version.as_str(),
                "version must not be empty",
            );
        }
        for (field, value) in [("kind", &owner.kind), ("name", &owner.name), ("uid", &owner.uid)] {
            if value.is_empty() {
                errors.invalid(&path.child(field), "", "must not be empty");
            }
        }
        if owner.api_version == "v1" && owner.kind == "Event" {
            errors.invalid_object(path, owner, "/v1, Kind=Event is disallowed from being an owner");
        }
        if owner.controller == Some(true) {
            let this = format!("{}/{}", owner.kind, owner.name);
            match &controller {
                Some(first) => errors.invalid_object(
                    path,
                    &owners,
                    format!(
                        "Only one reference can have Controller set to true. Found \"true\" in references for {first} \
                         and {this}"
                    ),
                ),
                None => controller = Some(this),
            }
        }
    }
}

fn finalizers(finalizers: &[String], path: &Path, errors: &mut Errors) {
    for finalizer in finalizers {
        errors.check(path, finalizer, names::qualified);
    }
    let has = |name: &str| finalizers.iter().any(|finalizer| finalizer == name);
    if has("orphan") && has("foregroundDeletion") {
        errors.invalid_object(
            path,
            &finalizers,
            "finalizer orphan and foregroundDeletion cannot be both set",
        );
    }
    for (path, finalizer) in path.each(finalizers) {
        finalizer_of_ours(finalizer, &path, errors);
    }
}

/// Finalizers without a domain: the few that the project itself uses.
const OWN_FINALIZERS: [&str; 4] = [
    "kubernetes",
    "orphan",
    "foregroundDeletion",
    "customresourcecleanup.apiextensions.k8s.io",
];

/// A finalizer without a domain is one of those.
pub(crate) fn finalizer_of_ours(finalizer: &str, path: &Path, errors: &mut Errors) {
    if !finalizer.contains('/') && !OWN_FINALIZERS.contains(&finalizer) {
        errors.invalid(
            path,
            finalizer,
            "name is neither a standard finalizer name nor is it fully qualified",
        );
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn metadata(json: Value) -> ObjectMeta {
        serde_json::from_value(json).unwrap()
    }

    fn told(errors: &[FieldError]) -> Vec<String> {
        errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn each_kind_has_its_own_rule_for_names() {
        for (group, kind, good, bad) in [
            ("", "Pod", "web.1", "Web"),
            ("", "Service", "web", "1web"),
            ("", "Namespace", "1web", "a.b"),
            ("apps", "StatefulSet", "web", "a.b"),
            ("apps", "Deployment", "a.b", "a_b"),
            ("rbac.authorization.k8s.io", "Role", "system:Node_x", "a/b"),
            ("rbac.authorization.k8s.io", "ClusterRole", "a", ".."),
            ("apiregistration.k8s.io", "APIService", "v1.apps", "a%b"),
            ("certificates.k8s.io", "CertificateSigningRequest", "Any thing", ""),
            ("networking.k8s.io", "IPAddress", "10.0.0.1", "ten"),
        ] {
            assert_eq!(name_error(group, kind, good), None, "{kind} {good}");
            if !bad.is_empty() {
                assert!(name_error(group, kind, bad).is_some(), "{kind} {bad}");
            }
        }
        assert_eq!(generate_name_error("", "Pod", "web-"), None);
        assert!(generate_name_error("", "Pod", "Web-").is_some());
    }

    #[test]
    fn what_is_wrong_with_metadata_is_told_as_upstream_does() {
        let wrong = metadata(json!({
            "name": "Web", "generateName": "a_", "labels": {"a b": "c"}, "annotations": {"A/B": "fine"},
            "finalizers": ["mine", "orphan", "foregroundDeletion"],
            "ownerReferences": [
                {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "a", "uid": "1", "controller": true},
                {"apiVersion": "v1", "kind": "", "name": "b", "uid": "2", "controller": true},
            ],
        }));
        let errors = validate(&wrong, "", "Pod", true);
        let fields: Vec<_> = errors.iter().map(|error| error.field.as_str()).collect();
        assert_eq!(
            fields,
            [
                "metadata.generateName",
                "metadata.name",
                "metadata.namespace",
                "metadata.labels",
                "metadata.ownerReferences.kind",
                "metadata.ownerReferences",
                "metadata.finalizers",
                "metadata.finalizers[0]",
            ]
        );
        let big = metadata(json!({"name": "a", "annotations": {"a": "x".repeat(256 << 10)}}));
        assert_eq!(
            told(&validate(&big, "", "Node", false)),
            ["metadata.annotations: Too long: may not be more than 262144 bytes"]
        );
        let none = metadata(json!({"namespace": "a"}));
        assert_eq!(
            told(&validate(&none, "", "Node", false)),
            [
                "metadata.name: Required value: name or generateName is required",
                "metadata.namespace: Forbidden: not allowed on this type",
            ]
        );
    }

    #[test]
    fn what_was_decided_at_birth_stays() {
        let old = metadata(json!({
            "name": "a", "namespace": "b", "uid": "1", "generation": 2, "finalizers": ["a.b/c"],
            "deletionTimestamp": "2024-01-01T00:00:00Z",
        }));
        assert_eq!(validate_update(&old, &old), []);
        let new = metadata(json!({
            "name": "c", "namespace": "b", "uid": "1", "generation": 1, "finalizers": ["d.e/f"],
            "deletionTimestamp": "2024-01-01T00:00:00Z",
        }));
        assert_eq!(
            told(&validate_update(&new, &old)),
            [
                "metadata.finalizers: Forbidden: no new finalizers can be added if the object is being deleted, found \
                 new finalizers []string{\"d.e/f\"}",
                "metadata.generation: Invalid value: 1: must not be decremented",
                "metadata.name: Invalid value: \"c\": field is immutable",
            ]
        );
    }
}
