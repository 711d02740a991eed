//! The strategy of each kind there is.

use std::sync::Arc;

use crate::{
    admission, apps, autoscaling, batch, certificates, coordination, core, devices, discovery, flowcontrol,
    kind::{Kind, Plain, Typed},
    networking, policy, rbac, registration, scheduling, storage,
    strategy::Strategy,
};

/// What the API server asks of the objects of a kind. A kind without particulars has the strategy that the schema is
/// enough for.
pub fn strategy(group: &str, kind: &str) -> Arc<dyn Strategy> {
    match (group, kind) {
        ("", kind) => of_core(kind),
        ("admissionregistration.k8s.io", kind) => of_admission(kind),
        ("apiextensions.k8s.io", "CustomResourceDefinition") => Arc::new(registration::Definitions),
        ("apiregistration.k8s.io", "APIService") => typed::<registration::Services>(),
        ("apps", "ControllerRevision") => typed::<apps::ControllerRevisions>(),
        ("apps", "DaemonSet") => typed::<apps::DaemonSets>(),
        ("apps", "Deployment") => typed::<apps::Deployments>(),
        ("apps", "ReplicaSet") => typed::<apps::ReplicaSets>(),
        ("apps", "StatefulSet") => typed::<apps::StatefulSets>(),
        ("autoscaling", "HorizontalPodAutoscaler") => Arc::new(autoscaling::Autoscalers),
        ("batch", "CronJob") => typed::<batch::cron::CronJobs>(),
        ("batch", "Job") => typed::<batch::job::Jobs>(),
        ("certificates.k8s.io", "CertificateSigningRequest") => typed::<certificates::Requests>(),
        ("coordination.k8s.io", "Lease") => typed::<coordination::Leases>(),
        ("discovery.k8s.io", "EndpointSlice") => typed::<discovery::Slices>(),
        ("events.k8s.io", "Event") => typed::<core::event::NewEvents>(),
        ("flowcontrol.apiserver.k8s.io", "FlowSchema") => typed::<flowcontrol::Schemas>(),
        ("flowcontrol.apiserver.k8s.io", "PriorityLevelConfiguration") => typed::<flowcontrol::Levels>(),
        ("networking.k8s.io", "Ingress") => typed::<networking::Ingresses>(),
        ("networking.k8s.io", "IngressClass") => typed::<networking::IngressClasses>(),
        ("networking.k8s.io", "IPAddress") => typed::<networking::Addresses>(),
        ("networking.k8s.io", "NetworkPolicy") => typed::<networking::Policies>(),
        ("networking.k8s.io", "ServiceCIDR") => typed::<networking::ServiceNetworks>(),
        ("node.k8s.io", "RuntimeClass") => typed::<scheduling::Runtimes>(),
        ("policy", "PodDisruptionBudget") => typed::<policy::Budgets>(),
        ("rbac.authorization.k8s.io", "ClusterRole") => typed::<rbac::ClusterRoles>(),
        ("rbac.authorization.k8s.io", "ClusterRoleBinding") => typed::<rbac::ClusterRoleBindings>(),
        ("rbac.authorization.k8s.io", "Role") => typed::<rbac::Roles>(),
        ("rbac.authorization.k8s.io", "RoleBinding") => typed::<rbac::RoleBindings>(),
        ("resource.k8s.io", "ResourceClaim") => typed::<devices::Claims>(),
        ("resource.k8s.io", "ResourceClaimTemplate") => typed::<devices::ClaimTemplates>(),
        ("resource.k8s.io", "ResourceSlice") => typed::<devices::Slices>(),
        ("scheduling.k8s.io", "PriorityClass") => typed::<scheduling::Priorities>(),
        ("storage.k8s.io", "CSIDriver") => typed::<storage::Drivers>(),
        ("storage.k8s.io", "CSINode") => typed::<storage::NodeDrivers>(),
        ("storage.k8s.io", "CSIStorageCapacity") => typed::<storage::Capacities>(),
        ("storage.k8s.io", "StorageClass") => typed::<storage::Classes>(),
        ("storage.k8s.io", "VolumeAttachment") => typed::<storage::Attachments>(),
        ("storage.k8s.io", "VolumeAttributesClass") => typed::<storage::AttributesClasses>(),
        ("certificates.k8s.io", "ClusterTrustBundle") | ("coordination.k8s.io", "LeaseCandidate") => {
            plain(false, false)
        }
        ("resource.k8s.io", "DeviceClass") => plain(false, true),
        _ => plain(true, true),
    }
}

fn of_core(kind: &str) -> Arc<dyn Strategy> {
    match kind {
        "ConfigMap" => typed::<core::config::ConfigMaps>(),
        "Endpoints" => typed::<core::endpoints::AllEndpoints>(),
        "Event" => typed::<core::event::Events>(),
        "LimitRange" => typed::<core::quota::Limits>(),
        "Namespace" => typed::<core::namespace::Namespaces>(),
        "Node" => typed::<core::node::Nodes>(),
        "PersistentVolume" => typed::<core::volume::Volumes>(),
        "PersistentVolumeClaim" => typed::<core::volume::Claims>(),
        "Pod" => typed::<core::pod::Pods>(),
        "PodTemplate" => typed::<core::replication::Templates>(),
        "ReplicationController" => typed::<core::replication::Controllers>(),
        "ResourceQuota" => typed::<core::quota::Quotas>(),
        "Secret" => typed::<core::config::Secrets>(),
        "Service" => typed::<core::service::Services>(),
        "ServiceAccount" => typed::<core::namespace::ServiceAccounts>(),
        _ => plain(false, false),
    }
}

fn typed<K: Kind>() -> Arc<dyn Strategy> {
    Arc::new(Typed::<K>::new())
}

fn of_admission(kind: &str) -> Arc<dyn Strategy> {
    match kind {
        "MutatingAdmissionPolicy" => typed::<admission::policy::Mutating>(),
        "MutatingAdmissionPolicyBinding" => typed::<admission::policy::MutatingBindings>(),
        "MutatingWebhookConfiguration" => typed::<admission::Mutating>(),
        "ValidatingAdmissionPolicy" => typed::<admission::policy::Validating>(),
        "ValidatingAdmissionPolicyBinding" => typed::<admission::policy::ValidatingBindings>(),
        "ValidatingWebhookConfiguration" => typed::<admission::Validating>(),
        _ => plain(false, true),
    }
}

fn plain(status: bool, generation: bool) -> Arc<dyn Strategy> {
    Arc::new(Plain { status, generation })
}

/// What to tell whoever still uses a kind that upstream gave up, if it did.
pub fn deprecation(group: &str, version: &str, kind: &str) -> Option<&'static str> {
    match (group, version, kind) {
        ("", "v1", "ComponentStatus") => Some("v1 ComponentStatus is deprecated in v1.19+"),
        ("", "v1", "Endpoints") => Some("v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::{deprecation, strategy};
    use crate::testing::context;

    const KINDS: &[(&str, &str)] = &[
        (
            "v1",
            "ConfigMap Endpoints Event LimitRange Namespace Node PersistentVolume PersistentVolumeClaim Pod",
        ),
        (
            "v1",
            "PodTemplate ReplicationController ResourceQuota Secret Service ServiceAccount ComponentStatus",
        ),
        (
            "admissionregistration.k8s.io/v1",
            "MutatingWebhookConfiguration ValidatingWebhookConfiguration",
        ),
        (
            "admissionregistration.k8s.io/v1",
            "ValidatingAdmissionPolicy ValidatingAdmissionPolicyBinding",
        ),
        (
            "admissionregistration.k8s.io/v1",
            "MutatingAdmissionPolicy MutatingAdmissionPolicyBinding",
        ),
        ("apiextensions.k8s.io/v1", "CustomResourceDefinition"),
        ("apiregistration.k8s.io/v1", "APIService"),
        (
            "apps/v1",
            "ControllerRevision DaemonSet Deployment ReplicaSet StatefulSet",
        ),
        ("autoscaling/v1", "HorizontalPodAutoscaler"),
        ("autoscaling/v2", "HorizontalPodAutoscaler"),
        ("batch/v1", "CronJob Job"),
        ("certificates.k8s.io/v1", "CertificateSigningRequest"),
        ("coordination.k8s.io/v1", "Lease"),
        ("discovery.k8s.io/v1", "EndpointSlice"),
        ("events.k8s.io/v1", "Event"),
        (
            "flowcontrol.apiserver.k8s.io/v1",
            "FlowSchema PriorityLevelConfiguration",
        ),
        (
            "networking.k8s.io/v1",
            "Ingress IngressClass IPAddress NetworkPolicy ServiceCIDR",
        ),
        ("node.k8s.io/v1", "RuntimeClass"),
        ("policy/v1", "PodDisruptionBudget"),
        (
            "rbac.authorization.k8s.io/v1",
            "ClusterRole ClusterRoleBinding Role RoleBinding",
        ),
        (
            "resource.k8s.io/v1",
            "DeviceClass ResourceClaim ResourceClaimTemplate ResourceSlice",
        ),
        ("scheduling.k8s.io/v1", "PriorityClass"),
        (
            "storage.k8s.io/v1",
            "CSIDriver CSINode CSIStorageCapacity StorageClass VolumeAttachment",
        ),
        ("storage.k8s.io/v1", "VolumeAttributesClass"),
    ];

    #[test]
    fn an_object_that_says_nothing_is_dealt_with_whatever_its_kind() {
        let each = KINDS
            .iter()
            .flat_map(|(version, kinds)| kinds.split(' ').map(move |kind| (*version, kind)));
        for (version, kind) in each {
            let group = version.rsplit_once('/').map_or("", |(group, _)| group);
            let strategy = strategy(group, kind);
            for spec in [Value::Null, json!({})] {
                let mut object = json!({"apiVersion": version, "kind": kind, "metadata": {"name": "a"}});
                if spec.is_object() {
                    object["spec"] = spec;
                }
                strategy.default(&mut object);
                let once = object.clone();
                strategy.default(&mut object);
                assert_eq!(object, once, "defaults of {kind} are filled in once");
                let managed = json!([{"manager": "m"}]);
                object["metadata"]["managedFields"] = managed.clone();
                for part in ["", "status"] {
                    let mut new = object.clone();
                    let created = strategy.create(&mut new, &context(""));
                    let mut changed = object.clone();
                    let updated = strategy.update(&mut changed, &object, &context(part));
                    for error in [created, updated].into_iter().filter_map(Result::err).flatten() {
                        let told = error.to_string();
                        assert!(!told.contains("Internal error"), "{version} {kind}: {told}");
                    }
                    assert_eq!(changed["metadata"]["managedFields"], managed, "{kind}");
                }
            }
        }
    }

    /// Values with field names that mean something in many kinds, and mostly of a wrong type.
    fn any_value() -> impl Strategy<Value = Value> {
        let words = prop::sample::select(vec![
            "name",
            "spec",
            "type",
            "template",
            "containers",
            "ports",
            "port",
            "selector",
            "matchLabels",
            "rules",
            "metadata",
            "labels",
            "status",
            "metrics",
            "resource",
            "target",
            "value",
            "schedule",
            "jobTemplate",
            "requests",
            "limits",
            "cpu",
            "cidr",
            "ipBlock",
            "resources",
            "limit",
            "hard",
            "devices",
            "completions",
            "completionMode",
            "parallelism",
            "subsets",
            "addresses",
            "webhooks",
            "clientConfig",
            "url",
            "conditions",
            "taints",
            "key",
            "effect",
            "podCIDRs",
            "volumes",
            "drivers",
            "behavior",
            "scaleUp",
            "policies",
        ]);
        let texts = prop::sample::select(vec![
            "",
            "a",
            "1",
            "-1",
            "*",
            "/",
            "a/b",
            "10.0.0.0/8",
            "1Gi",
            "50%",
            "Indexed",
            "é",
        ]);
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i32>().prop_map(Value::from),
            texts.prop_map(Value::from),
        ];
        leaf.prop_recursive(5, 48, 6, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
                prop::collection::hash_map(words.clone(), inner, 0..6).prop_map(|fields| fields
                    .into_iter()
                    .map(|(name, value)| (name.to_owned(), value))
                    .collect()),
            ]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn whatever_is_sent_is_told_or_taken(spec in any_value(), other in any_value()) {
            for (version, kinds) in KINDS {
                let group = version.rsplit_once('/').map_or("", |(group, _)| group);
                for kind in kinds.split(' ') {
                    let strategy = strategy(group, kind);
                    let mut object = other.clone();
                    if let Some(fields) = object.as_object_mut() {
                        fields.insert("apiVersion".to_owned(), json!(version));
                        fields.insert("kind".to_owned(), json!(kind));
                        fields.insert("metadata".to_owned(), json!({"name": "a", "uid": "u"}));
                        fields.insert("spec".to_owned(), spec.clone());
                    }
                    let old = object.clone();
                    strategy.default(&mut object);
                    for part in ["", "status"] {
                        let _ = strategy.update(&mut object.clone(), &old, &context(part));
                    }
                    let _ = strategy.create(&mut object, &context(""));
                    let _ = crate::columns::row(group, kind, &object, context("").now);
                    crate::convert(&mut object, "autoscaling/v2");
                }
            }
        }
    }

    #[test]
    fn who_uses_what_was_given_up_is_told() {
        assert!(deprecation("", "v1", "Endpoints").is_some_and(|told| told.contains("EndpointSlice")));
        assert_eq!(deprecation("", "v1", "Pod"), None);
    }
}
