//! What nodes may do: report about themselves and their pods, and read what their pods refer to, nothing else's.
//!
//! [`NodeGraph`] answers "does something on this node refer to that object?" from pods (which secrets, config maps,
//! claims and service accounts they name), persistent volumes (whose claim, which secrets), volume attachments and
//! resource slices. A change costs what that object refers to. What a node may write of an object it may touch is the
//! matter of admission (`NodeRestriction`).

use std::collections::{BTreeSet, HashMap, HashSet};

use serde_json::Value;

use super::{Attributes, Decision, bootstrap::node_rules};
use crate::{
    auth::names::{NodeIdentity, node_identity},
    pod::{config_map_names, items, secret_names},
};

/// Kinds of objects that pods refer to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Kind {
    Secret,
    ConfigMap,
    Claim,
    ServiceAccount,
    ResourceClaim,
}

/// An object: kind, namespace, name.
type Object = (Kind, String, String);

#[derive(Default)]
struct PodRefs {
    node: String,
    refs: BTreeSet<Object>,
}

#[derive(Default)]
struct VolumeRefs {
    claim: Option<(String, String)>,
    secrets: BTreeSet<(String, String)>,
}

/// Who refers to what.
#[derive(Default)]
pub struct NodeGraph {
    pods: HashMap<(String, String), PodRefs>,
    /// How many pods of each node refer to an object.
    referrers: HashMap<Object, HashMap<String, usize>>,
    volumes: HashMap<String, VolumeRefs>,
    /// Volumes that name a secret.
    by_secret: HashMap<(String, String), HashSet<String>>,
    /// The node of each volume attachment.
    attachments: HashMap<String, String>,
    /// The node of each resource slice.
    slices: HashMap<String, String>,
}

impl NodeGraph {
    /// Takes a pod, persistent volume, volume attachment or resource slice as it is now.
    pub fn upsert(&mut self, plural: &str, object: &Value) {
        let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
        let (namespace, name) = (text("namespace"), text("name"));
        self.delete(plural, &namespace, &name);
        let node = object["spec"]["nodeName"].as_str().unwrap_or_default().to_owned();
        match plural {
            "pods" if !node.is_empty() => {
                let refs = pod_refs(object, &namespace, &name);
                for object in &refs {
                    let nodes = self.referrers.entry(object.clone()).or_default();
                    *nodes.entry(node.clone()).or_default() += 1;
                }
                self.pods.insert((namespace, name), PodRefs { node, refs });
            }
            "persistentvolumes" => {
                let volume = volume_refs(object);
                for secret in &volume.secrets {
                    self.by_secret.entry(secret.clone()).or_default().insert(name.clone());
                }
                self.volumes.insert(name, volume);
            }
            "volumeattachments" if !node.is_empty() => drop(self.attachments.insert(name, node)),
            "resourceslices" if !node.is_empty() => drop(self.slices.insert(name, node)),
            _ => {}
        }
    }

    /// Forgets an object of those kinds.
    pub fn delete(&mut self, plural: &str, namespace: &str, name: &str) {
        match plural {
            "pods" => {
                let Some(pod) = self.pods.remove(&(namespace.to_owned(), name.to_owned())) else {
                    return;
                };
                for object in pod.refs {
                    let Some(nodes) = self.referrers.get_mut(&object) else {
                        continue;
                    };
                    if let Some(count) = nodes.get_mut(&pod.node) {
                        *count -= 1;
                        if *count == 0 {
                            nodes.remove(&pod.node);
                        }
                    }
                    if nodes.is_empty() {
                        self.referrers.remove(&object);
                    }
                }
            }
            "persistentvolumes" => {
                for secret in self.volumes.remove(name).unwrap_or_default().secrets {
                    if let Some(volumes) = self.by_secret.get_mut(&secret) {
                        volumes.remove(name);
                        if volumes.is_empty() {
                            self.by_secret.remove(&secret);
                        }
                    }
                }
            }
            "volumeattachments" => drop(self.attachments.remove(name)),
            "resourceslices" => drop(self.slices.remove(name)),
            _ => {}
        }
    }

    /// Whether a node may. It has an opinion on nodes only, and denies nothing.
    pub fn authorize(&self, attributes: &Attributes<'_>) -> Decision {
        let node = match node_identity(attributes.user) {
            NodeIdentity::None => return Decision::NoOpinion(String::new()),
            NodeIdentity::Unknown => {
                return Decision::NoOpinion(format!("unknown node for user {:?}", attributes.user.name));
            }
            NodeIdentity::Node(name) => name,
        };
        match self.refuse(node, attributes) {
            None => Decision::Allow(String::new()),
            Some(reason) => Decision::NoOpinion(reason),
        }
    }

    /// Why a node may not; `None` if it may.
    fn refuse(&self, node: &str, attributes: &Attributes<'_>) -> Option<String> {
        let Attributes {
            verb,
            name,
            namespace,
            subresource,
            ..
        } = *attributes;
        let some = |why: &str| Some(why.to_owned());
        let related =
            |related: bool| (!related).then(|| format!("no relationship found between node '{node}' and this object"));
        let reads = |kind| {
            if !matches!(verb, "get" | "list" | "watch") {
                return some("can only read resources of this type");
            }
            if !subresource.is_empty() {
                return some("cannot read subresource");
            }
            if namespace.is_empty() {
                return some("can only read namespaced object of this type");
            }
            if name.is_empty() {
                return some("No Object name found");
            }
            related(self.refers(node, &(kind, namespace.to_owned(), name.to_owned())))
        };
        let gets = |found: &dyn Fn() -> bool| {
            if verb != "get" {
                return some("can only get individual resources of this type");
            }
            if !subresource.is_empty() {
                return some("cannot get subresource");
            }
            if name.is_empty() {
                return some("No Object name found");
            }
            related(found())
        };
        let names = |kind| self.refers(node, &(kind, namespace.to_owned(), name.to_owned()));
        if !attributes.is_resource {
            return statically(attributes);
        }
        match (attributes.group, attributes.resource) {
            ("", "secrets") => reads(Kind::Secret),
            ("", "configmaps") => reads(Kind::ConfigMap),
            ("", "persistentvolumeclaims") if subresource == "status" => {
                if !matches!(verb, "update" | "patch") {
                    return some("can only get/update/patch this type");
                }
                related(names(Kind::Claim))
            }
            ("", "persistentvolumeclaims") => gets(&|| names(Kind::Claim)),
            ("", "persistentvolumes") => gets(&|| self.mounts(node, name)),
            ("resource.k8s.io", "resourceclaims") => gets(&|| names(Kind::ResourceClaim)),
            ("storage.k8s.io", "volumeattachments") => {
                gets(&|| self.attachments.get(name).is_some_and(|of| of == node))
            }
            ("", "serviceaccounts") => match (verb, subresource) {
                ("create", "token") | ("get", "") if !name.is_empty() => related(names(Kind::ServiceAccount)),
                ("create", _) => some("can only create token subresource of serviceaccount"),
                _ => some("can only create tokens for individual service accounts"),
            },
            ("coordination.k8s.io", "leases") => {
                if !matches!(verb, "get" | "create" | "update" | "patch" | "delete") {
                    return some("can only get, create, update, patch, or delete a node lease");
                }
                if namespace != "kube-node-lease" {
                    return some("can only access leases in the \"kube-node-lease\" system namespace");
                }
                // The name of what is created is admission's to check.
                (verb != "create" && name != node)
                    .then(|| "can only access node lease with the same name as the requesting node".to_owned())
            }
            ("storage.k8s.io", "csinodes") => {
                if !matches!(verb, "get" | "create" | "update" | "patch" | "delete") {
                    return some("can only get, create, update, patch, or delete a CSINode");
                }
                if !subresource.is_empty() {
                    return some("cannot authorize CSINode subresources");
                }
                (verb != "create" && name != node)
                    .then(|| "can only access CSINode with the same name as the requesting node".to_owned())
            }
            ("resource.k8s.io", "resourceslices") => match verb {
                _ if !subresource.is_empty() => some("cannot authorize ResourceSlice subresources"),
                "create" => None,
                "get" | "update" | "patch" | "delete" => related(self.slices.get(name).is_some_and(|of| of == node)),
                "list" | "watch" | "deletecollection" if selects(attributes, "spec.nodeName", node) => None,
                "list" | "watch" | "deletecollection" => {
                    some("can only list/watch/deletecollection resourceslices with nodeName field selector")
                }
                _ => some(
                    "only the following verbs are allowed for a ResourceSlice: get, watch, list, create, update, patch, \
                     delete, deletecollection",
                ),
            },
            ("", "nodes") => match (subresource, verb) {
                ("", "create" | "update" | "patch") | ("status", "update" | "patch") => None,
                ("", "get" | "list" | "watch") if name == node => None,
                ("", "get" | "list" | "watch") if name.is_empty() => {
                    Some(format!("node '{node}' cannot read all nodes, only its own Node object"))
                }
                ("", "get" | "list" | "watch") => {
                    Some(format!("node '{node}' cannot read '{name}', only its own Node object"))
                }
                _ => some(""),
            },
            ("", "pods") => {
                let own = || {
                    let key = (namespace.to_owned(), name.to_owned());
                    self.pods.get(&key).is_some_and(|pod| pod.node == node)
                };
                match (subresource, verb) {
                    ("", "get") => gets(&own),
                    ("", "list" | "watch") if selects(attributes, "spec.nodeName", node) => None,
                    ("", "list" | "watch") if !name.is_empty() => related(own()),
                    ("", "list" | "watch") => some("can only list/watch pods with spec.nodeName field selector"),
                    ("", "create" | "delete") | ("status", "update" | "patch") | ("eviction", "create") => None,
                    _ => some(""),
                }
            }
            _ => statically(attributes),
        }
    }

    /// Whether a pod of the node refers to the object, or a volume that one has claimed.
    fn refers(&self, node: &str, object: &Object) -> bool {
        if self.referrers.get(object).is_some_and(|nodes| nodes.contains_key(node)) {
            return true;
        }
        let (kind, namespace, name) = object;
        *kind == Kind::Secret
            && self
                .by_secret
                .get(&(namespace.clone(), name.clone()))
                .is_some_and(|volumes| volumes.iter().any(|volume| self.mounts(node, volume)))
    }

    /// Whether a pod of the node refers to the claim that a persistent volume is bound to.
    fn mounts(&self, node: &str, volume: &str) -> bool {
        self.volumes
            .get(volume)
            .and_then(|volume| volume.claim.clone())
            .is_some_and(|(namespace, name)| {
                self.referrers
                    .get(&(Kind::Claim, namespace, name))
                    .is_some_and(|nodes| nodes.contains_key(node))
            })
    }
}

fn selects(attributes: &Attributes<'_>, field: &str, value: &str) -> bool {
    attributes.fields.iter().any(|(name, held)| {
        // Upstream's name of the field in resource slices has changed over the versions.
        (name == field || (name == "nodeName" && field == "spec.nodeName")) && held == value
    })
}

fn statically(attributes: &Attributes<'_>) -> Option<String> {
    let allowed = node_rules().iter().any(|rule| rule.allows(attributes));
    (!allowed).then(String::new)
}

/// What a pod refers to. Mirror pods, which nodes make themselves, count for nothing.
fn pod_refs(pod: &Value, namespace: &str, name: &str) -> BTreeSet<Object> {
    let mut refs = BTreeSet::new();
    if pod["metadata"]["annotations"]
        .get(bosun_api::labels::CONFIG_MIRROR)
        .is_some()
    {
        return refs;
    }
    let spec = &pod["spec"];
    let mut add = |kind, name: &Value| {
        if let Some(name) = name.as_str().filter(|name| !name.is_empty()) {
            refs.insert((kind, namespace.to_owned(), name.to_owned()));
        }
    };
    add(Kind::ServiceAccount, &spec["serviceAccountName"]);
    secret_names(spec, &mut |name| add(Kind::Secret, name));
    config_map_names(spec, &mut |name| add(Kind::ConfigMap, name));
    for volume in items(&spec["volumes"]) {
        add(Kind::Claim, &volume["persistentVolumeClaim"]["claimName"]);
        if let (Some(_), Some(of)) = (volume.get("ephemeral"), volume["name"].as_str()) {
            add(Kind::Claim, &format!("{name}-{of}").into());
        }
    }
    for claim in items(&spec["resourceClaims"]) {
        add(Kind::ResourceClaim, &claim["resourceClaimName"]);
    }
    let status = &pod["status"];
    for claim in items(&status["resourceClaimStatuses"]) {
        add(Kind::ResourceClaim, &claim["resourceClaimName"]);
    }
    add(
        Kind::ResourceClaim,
        &status["extendedResourceClaimStatus"]["resourceClaimName"],
    );
    refs
}

fn volume_refs(volume: &Value) -> VolumeRefs {
    let spec = &volume["spec"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let claim = (text(&spec["claimRef"]["namespace"]), text(&spec["claimRef"]["name"]));
    let mut secrets = BTreeSet::new();
    let mut add = |namespace: &Value, name: &Value| {
        let namespace = namespace.as_str().unwrap_or(&claim.0).to_owned();
        if let Some(name) = name.as_str().filter(|name| !name.is_empty()) {
            secrets.insert((namespace, name.to_owned()));
        }
    };
    for kind in ["cephfs", "cinder", "flexVolume", "rbd", "scaleIO", "iscsi", "storageos"] {
        let secret = &spec[kind]["secretRef"];
        add(&secret["namespace"], &secret["name"]);
    }
    add(&spec["azureFile"]["secretNamespace"], &spec["azureFile"]["secretName"]);
    // What only controllers use is none of a node's business.
    for use_of in ["nodePublishSecretRef", "nodeStageSecretRef", "nodeExpandSecretRef"] {
        let secret = &spec["csi"][use_of];
        add(&secret["namespace"], &secret["name"]);
    }
    VolumeRefs {
        claim: (!claim.1.is_empty()).then_some(claim),
        secrets,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{User, auth::names::NODES};

    fn node(name: &str) -> User {
        User {
            name: format!("system:node:{name}"),
            groups: vec![NODES.into()],
            ..User::default()
        }
    }

    fn graph() -> NodeGraph {
        let mut graph = NodeGraph::default();
        graph.upsert(
            "pods",
            &json!({
                "metadata": {"namespace": "a", "name": "p"},
                "spec": {
                    "nodeName": "n1", "serviceAccountName": "sa",
                    "imagePullSecrets": [{"name": "pull"}],
                    "containers": [{"name": "c", "envFrom": [{"configMapRef": {"name": "env"}}],
                        "env": [{"name": "X", "valueFrom": {"secretKeyRef": {"name": "key", "key": "k"}}}]}],
                    "initContainers": [{"name": "i", "envFrom": [{"secretRef": {"name": "init"}}]}],
                    "volumes": [
                        {"name": "v", "secret": {"secretName": "vol"}},
                        {"name": "w", "projected": {"sources": [{"configMap": {"name": "root"}}, {"secret": {"name": "proj"}}]}},
                        {"name": "x", "persistentVolumeClaim": {"claimName": "claim"}},
                        {"name": "e", "ephemeral": {}},
                    ],
                },
            }),
        );
        graph.upsert(
            "persistentvolumes",
            &json!({"metadata": {"name": "pv"}, "spec": {
                "claimRef": {"namespace": "a", "name": "claim"},
                "csi": {"nodeStageSecretRef": {"namespace": "csi", "name": "stage"},
                        "controllerPublishSecretRef": {"namespace": "csi", "name": "control"}},
            }}),
        );
        graph.upsert(
            "volumeattachments",
            &json!({"metadata": {"name": "va"}, "spec": {"nodeName": "n1"}}),
        );
        graph
    }

    fn asks<'a>(user: &'a User, words: &'a str) -> Attributes<'a> {
        let mut words = words.split(' ');
        let (verb, kind, object) = (words.next().unwrap(), words.next().unwrap(), words.next().unwrap_or(""));
        let (resource, subresource) = kind.split_once('/').unwrap_or((kind, ""));
        let (resource, group) = resource.split_once('.').unwrap_or((resource, ""));
        let (namespace, name) = object.split_once('/').unwrap_or(("", object));
        Attributes {
            verb,
            group,
            resource,
            subresource,
            namespace,
            name,
            ..Attributes::resource(user)
        }
    }

    #[test]
    fn a_node_may_read_what_its_pods_refer_to() {
        let (graph, n1, n2) = (graph(), node("n1"), node("n2"));
        let yes = [
            "get secrets a/pull",
            "get secrets a/key",
            "get secrets a/init",
            "get secrets a/vol",
            "list secrets a/proj",
            "watch configmaps a/root",
            "get configmaps a/env",
            "get secrets csi/stage",
            "get persistentvolumeclaims a/claim",
            "get persistentvolumeclaims a/p-e",
            "get persistentvolumes pv",
            "patch persistentvolumeclaims/status a/claim",
            "get volumeattachments.storage.k8s.io va",
            "create serviceaccounts/token a/sa",
            "get pods a/p",
        ];
        for words in yes {
            assert_eq!(
                graph.authorize(&asks(&n1, words)),
                Decision::Allow(String::new()),
                "{words}"
            );
            assert_eq!(
                graph.authorize(&asks(&n2, words)),
                Decision::NoOpinion("no relationship found between node 'n2' and this object".into()),
                "{words}"
            );
        }
        for words in [
            "get secrets b/pull",
            "get secrets a/other",
            "get secrets csi/control",
            "list secrets a/",
            "list secrets",
            "update secrets a/pull",
            "delete configmaps a/env",
            "list persistentvolumes",
            "update pods a/p",
            "create serviceaccounts a/sa",
            "create serviceaccounts/token a/default",
            "get roles.rbac.authorization.k8s.io a/x",
        ] {
            assert!(
                matches!(graph.authorize(&asks(&n1, words)), Decision::NoOpinion(_)),
                "{words}"
            );
        }
    }

    #[test]
    fn a_node_reads_and_writes_of_itself() {
        let (graph, n1) = (graph(), node("n1"));
        let table = [
            ("create nodes", true),
            ("get nodes n1", true),
            ("patch nodes/status n1", true),
            ("get nodes n2", false),
            ("list nodes", false),
            ("delete nodes n1", false),
            ("update leases.coordination.k8s.io kube-node-lease/n1", true),
            ("create leases.coordination.k8s.io kube-node-lease/", true),
            ("update leases.coordination.k8s.io kube-node-lease/n2", false),
            ("update leases.coordination.k8s.io kube-system/n1", false),
            ("update csinodes.storage.k8s.io n1", true),
            ("update csinodes.storage.k8s.io n2", false),
            ("list services", true),
            ("create events a/", true),
            ("create certificatesigningrequests.certificates.k8s.io", true),
            ("list runtimeclasses.node.k8s.io", true),
            ("delete services a/s", false),
        ];
        for (words, allowed) in table {
            let decision = graph.authorize(&asks(&n1, words));
            assert_eq!(matches!(decision, Decision::Allow(_)), allowed, "{words}: {decision:?}");
        }
    }

    #[test]
    fn pods_are_listed_by_node() {
        let (graph, n1) = (graph(), node("n1"));
        let fields = |node: &str| [("spec.nodeName".to_owned(), node.to_owned())];
        for (fields, allowed) in [(&fields("n1")[..], true), (&fields("n2")[..], false), (&[][..], false)] {
            let attributes = Attributes {
                fields,
                ..asks(&n1, "list pods")
            };
            assert_eq!(matches!(graph.authorize(&attributes), Decision::Allow(_)), allowed);
        }
    }

    #[test]
    fn others_than_nodes_are_none_of_its_business() {
        let graph = graph();
        let table = [
            ("system:node:n1", vec![], ""),
            ("n1", vec![NODES.to_owned()], ""),
            (
                "system:node:",
                vec![NODES.to_owned()],
                "unknown node for user \"system:node:\"",
            ),
        ];
        for (name, groups, reason) in table {
            let user = User {
                name: name.into(),
                groups,
                ..User::default()
            };
            assert_eq!(
                graph.authorize(&asks(&user, "get nodes n1")),
                Decision::NoOpinion(reason.into())
            );
        }
    }

    #[test]
    fn what_is_gone_is_forgotten() {
        let (mut graph, n1) = (graph(), node("n1"));
        // A second pod keeps the reference alive.
        let pod = |name: &str| {
            json!({"metadata": {"namespace": "a", "name": name},
            "spec": {"nodeName": "n1", "imagePullSecrets": [{"name": "pull"}]}})
        };
        graph.upsert("pods", &pod("q"));
        graph.upsert("pods", &pod("q"));
        graph.delete("pods", "a", "p");
        assert_eq!(
            graph.authorize(&asks(&n1, "get secrets a/pull")),
            Decision::Allow(String::new())
        );
        assert!(matches!(
            graph.authorize(&asks(&n1, "get secrets csi/stage")),
            Decision::NoOpinion(_)
        ));
        graph.delete("pods", "a", "q");
        graph.delete("persistentvolumes", "", "pv");
        graph.delete("volumeattachments", "", "va");
        assert!(graph.referrers.is_empty() && graph.pods.is_empty() && graph.by_secret.is_empty());
    }

    #[test]
    fn a_mirror_pod_refers_to_nothing() {
        let (mut graph, n1) = (NodeGraph::default(), node("n1"));
        graph.upsert(
            "pods",
            &json!({
                "metadata": {"namespace": "a", "name": "m", "annotations": {"kubernetes.io/config.mirror": "x"}},
                "spec": {"nodeName": "n1", "imagePullSecrets": [{"name": "pull"}]}
            }),
        );
        assert!(matches!(
            graph.authorize(&asks(&n1, "get secrets a/pull")),
            Decision::NoOpinion(_)
        ));
        assert_eq!(
            graph.authorize(&asks(&n1, "get pods a/m")),
            Decision::Allow(String::new())
        );
    }
}
