//! What nodes may write of the objects that they may touch: themselves without taints, owners and labels that would draw
//! pods to them; pods that mirror their files; the status of their own pods.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{
    Attributes, Operation,
    builtin::{Subject, forbid},
};
use crate::{
    Status, User,
    auth::{
        Objects,
        names::{NodeIdentity, node_identity},
        objects::text,
    },
    pod::{config_map_names, items, secret_names},
};

/// Labels of Kubernetes' own domains that nodes set on themselves.
const NODE_LABELS: [&str; 11] = [
    "beta.kubernetes.io/arch",
    "beta.kubernetes.io/instance-type",
    "beta.kubernetes.io/os",
    "failure-domain.beta.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "kubernetes.io/arch",
    "kubernetes.io/hostname",
    "kubernetes.io/os",
    "node.kubernetes.io/instance-type",
    "topology.kubernetes.io/region",
    "topology.kubernetes.io/zone",
];

/// Refuses what a node may not write.
pub(super) async fn check(
    objects: &dyn Objects,
    attributes: &Attributes<'_>,
    subject: Subject<'_>,
) -> Result<(), Status> {
    let refuse = |why: String| Err(forbid(attributes, &why));
    let node = match node_identity(&attributes.request.user) {
        NodeIdentity::None => return Ok(()),
        NodeIdentity::Unknown => {
            return refuse(format!(
                "could not determine node from user {:?}",
                attributes.request.user.name
            ));
        }
        NodeIdentity::Node(name) => name,
    };
    let (object, old) = (&attributes.object, attributes.old.unwrap_or(&Value::Null));
    let checked = match (subject.group, subject.plural) {
        ("", "pods") => match (subject.subresource, subject.operation) {
            ("", Operation::Create) => {
                let own = objects.get("", "nodes", "", node).await?;
                mirror_pod(node, object, own.as_ref())
            }
            ("", Operation::Delete) => own_pod(node, old, "delete pods"),
            ("", operation) => Err(format!(
                "unexpected operation {:?}, node {node:?} can only create and delete mirror pods",
                format!("{operation:?}").to_uppercase()
            )),
            ("status", _) => own_pod_status(node, object, old),
            ("eviction", _) => {
                let pod = objects
                    .get("", "pods", &attributes.request.namespace, &attributes.request.name)
                    .await?;
                match pod {
                    None => return Err(Status::not_found("", "pods", &attributes.request.name)),
                    Some(pod) if text(&pod, "/spec/nodeName") == node => Ok(()),
                    Some(_) => Err(format!(
                        "node {node} can only evict pods with spec.nodeName set to itself"
                    )),
                }
            }
            (other, _) => Err(format!(
                "unexpected pod subresource {other:?}, only 'status' and 'eviction' are allowed"
            )),
        },
        ("", "nodes") => {
            let name = if attributes.name.is_empty() {
                text(object, "/metadata/name")
            } else {
                attributes.name
            };
            own_node(node, name, subject.operation, object, old)
        }
        ("", "persistentvolumeclaims") if subject.subresource == "status" => claim_status(node, object, old),
        ("", "persistentvolumeclaims") => Err("may only update PVC status".to_owned()),
        ("coordination.k8s.io", "leases") => named_lease(node, attributes),
        ("storage.k8s.io", "csinodes") => named(node, attributes, "CSINode"),
        ("resource.k8s.io", "resourceslices") if subject.operation == Operation::Create => {
            if text(object, "/spec/nodeName") == node {
                Ok(())
            } else {
                Err("can only create ResourceSlice with the same NodeName as the requesting node".to_owned())
            }
        }
        ("certificates.k8s.io", "certificatesigningrequests") if subject.operation == Operation::Create => {
            own_certificate(node, object)
        }
        _ => Ok(()),
    };
    checked.or_else(refuse)
}

/// Refuses a token that a node asks for, unless it is bound to a pod of its own.
pub(crate) async fn check_token(
    objects: &dyn Objects,
    user: &User,
    namespace: &str,
    account: &str,
    request: &Value,
) -> Result<(), Status> {
    let refuse = |why: &str| Err(Status::forbidden("", "serviceaccounts", account, why));
    let node = match node_identity(user) {
        NodeIdentity::None => return Ok(()),
        NodeIdentity::Unknown => {
            return refuse(&format!("could not determine node from user {:?}", user.name));
        }
        NodeIdentity::Node(name) => name,
    };
    let reference = &request["spec"]["boundObjectRef"];
    let (name, uid) = (text(reference, "/name"), text(reference, "/uid"));
    if text(reference, "/apiVersion") != "v1" || text(reference, "/kind") != "Pod" || name.is_empty() {
        return refuse("node requested token not bound to a pod");
    }
    if uid.is_empty() {
        return refuse("node requested token with a pod binding without a uid");
    }
    let pod = objects.get("", "pods", namespace, name).await?;
    let pod = pod.ok_or_else(|| Status::not_found("", "pods", name))?;
    if uid != text(&pod, "/metadata/uid") {
        return refuse(&format!(
            "the UID in the bound object reference ({uid}) does not match the UID in record. The object might have been \
             deleted and then recreated"
        ));
    }
    if text(&pod, "/spec/nodeName") != node {
        return refuse("node requested token bound to a pod scheduled on a different node");
    }
    Ok(())
}

type Checked = Result<(), String>;

fn own_pod(node: &str, pod: &Value, what: &str) -> Checked {
    if text(pod, "/spec/nodeName") == node {
        return Ok(());
    }
    Err(format!(
        "node {node:?} can only {what} with spec.nodeName set to itself"
    ))
}

fn own_pod_status(node: &str, pod: &Value, old: &Value) -> Checked {
    own_pod(node, old, "update pod status for pods")?;
    let nothing = |value: &Value| value.is_null() || value.as_object().is_some_and(serde_json::Map::is_empty);
    let same = |pointer: &str| {
        let (new, old) = (
            pod.pointer(pointer).unwrap_or(&Value::Null),
            old.pointer(pointer).unwrap_or(&Value::Null),
        );
        new == old || (nothing(new) && nothing(old))
    };
    if !same("/metadata/labels") {
        return Err(format!("node {node:?} cannot update labels through pod status"));
    }
    if !same("/status/resourceClaimStatuses") {
        return Err(format!("node {node:?} cannot update resource claim statues"));
    }
    Ok(())
}

fn mirror_pod(node: &str, pod: &Value, own: Option<&Value>) -> Checked {
    let refuse = |why: &str| Err(format!("node {node:?} {why}"));
    let mirror = bosun_api::labels::CONFIG_MIRROR;
    if pod["metadata"]["annotations"].get(mirror).is_none() {
        return Err(format!(
            "pod does not have {mirror:?} annotation, node {node:?} can only create mirror pods"
        ));
    }
    own_pod(node, pod, "create pods")?;
    match items(&pod["metadata"]["ownerReferences"]) {
        [owner] => {
            if (text(owner, "/apiVersion"), text(owner, "/kind"), text(owner, "/name")) != ("v1", "Node", node) {
                return refuse("can only create pods with an owner reference set to itself");
            }
            if owner["controller"] != true {
                return refuse("can only create pods with a controller owner reference set to itself");
            }
            if owner["blockOwnerDeletion"] == true {
                return refuse("must not set blockOwnerDeletion on an owner reference");
            }
            let uid = own.map_or("", |own| text(own, "/metadata/uid"));
            if own.is_none() {
                return Err(format!("nodes {node:?} not found"));
            }
            if text(owner, "/uid") != uid {
                return Err(format!(
                    "node {node} UID mismatch: expected {} got {uid}",
                    text(owner, "/uid")
                ));
            }
        }
        [] => return refuse("can only create pods with an owner reference set to itself"),
        _ => return refuse("can only create pods with a single owner reference set to itself"),
    }
    let spec = &pod["spec"];
    if !text(spec, "/serviceAccountName").is_empty() {
        return refuse("can not create pods that reference a service account");
    }
    let (mut secrets, mut maps) = (false, false);
    let given = |name: &Value| name.as_str().is_some_and(|name| !name.is_empty());
    secret_names(spec, &mut |name| secrets |= given(name));
    config_map_names(spec, &mut |name| maps |= given(name));
    if secrets {
        return refuse("can not create pods that reference secrets");
    }
    if maps {
        return refuse("can not create pods that reference configmaps");
    }
    for volume in items(&spec["volumes"]) {
        let sources = items(&volume["projected"]["sources"]);
        if sources.iter().any(|source| source.get("clusterTrustBundle").is_some()) {
            return refuse("can not create pods that reference clustertrustbundles");
        }
        if sources.iter().any(|source| source.get("serviceAccountToken").is_some()) {
            return refuse("can not create pods that reference a service account");
        }
        if volume
            .get("persistentVolumeClaim")
            .is_some_and(|claim| !claim.is_null())
        {
            return refuse("can not create pods that reference persistentvolumeclaims");
        }
    }
    if !items(&spec["resourceClaims"]).is_empty() {
        return refuse("can not create pods that reference resourceclaims");
    }
    Ok(())
}

fn own_node(node: &str, name: &str, operation: Operation, object: &Value, old: &Value) -> Checked {
    if name != node {
        return Err(format!("node {node:?} is not allowed to modify node {name:?}"));
    }
    let config = |of: &Value| {
        of["spec"]
            .get("configSource")
            .filter(|source| !source.is_null())
            .cloned()
    };
    let forbidden = forbidden_labels(&object["metadata"]["labels"], &old["metadata"]["labels"]);
    match operation {
        Operation::Create => {
            if config(object).is_some() {
                return Err(format!(
                    "node {node:?} is not allowed to create pods with a non-nil configSource"
                ));
            }
            if !forbidden.is_empty() {
                return Err(format!(
                    "node {node:?} is not allowed to set the following labels: {}",
                    forbidden.join(", ")
                ));
            }
        }
        Operation::Update => {
            if config(object).is_some() && config(object) != config(old) {
                return Err(format!(
                    "node {node:?} is not allowed to update configSource to a new non-nil configSource"
                ));
            }
            if items(&object["spec"]["taints"]) != items(&old["spec"]["taints"]) {
                return Err(format!("node {node:?} is not allowed to modify taints"));
            }
            let owners = |of: &Value| items(&of["metadata"]["ownerReferences"]).to_vec();
            if owners(object) != owners(old) {
                return Err(format!("node {node:?} is not allowed to modify ownerReferences"));
            }
            if !forbidden.is_empty() {
                return Err(format!("is not allowed to modify labels: {}", forbidden.join(", ")));
            }
        }
        Operation::Delete | Operation::Connect => {}
    }
    Ok(())
}

/// Labels that changed and that a node may not change.
fn forbidden_labels(new: &Value, old: &Value) -> Vec<String> {
    let keys = [new, old]
        .into_iter()
        .filter_map(Value::as_object)
        .flat_map(|labels| labels.keys());
    let keys: BTreeSet<_> = keys.filter(|key| new.get(*key) != old.get(*key)).collect();
    keys.into_iter().filter(|key| !may_set_label(key)).cloned().collect()
}

fn may_set_label(key: &str) -> bool {
    let domain = key.split_once('/').map_or("", |(domain, _)| domain);
    let within = |of: &str| domain == of || domain.ends_with(&format!(".{of}"));
    if within("node-restriction.kubernetes.io") {
        return false;
    }
    if !within("kubernetes.io") && !within("k8s.io") {
        return true;
    }
    NODE_LABELS.contains(&key) || within("kubelet.kubernetes.io") || within("node.kubernetes.io")
}

/// A node writes of a claim what became of its growth.
fn claim_status(node: &str, claim: &Value, old: &Value) -> Checked {
    let rest = |of: &Value| {
        let mut of = of.clone();
        if let Some(status) = of["status"].as_object_mut() {
            for field in [
                "capacity",
                "conditions",
                "allocatedResourceStatuses",
                "allocatedResources",
            ] {
                status.remove(field);
            }
        }
        if let Some(metadata) = of["metadata"].as_object_mut() {
            metadata.remove("resourceVersion");
            metadata.remove("managedFields");
        }
        of
    };
    if rest(claim) == rest(old) {
        return Ok(());
    }
    Err(format!(
        "node {node:?} is not allowed to update fields other than status.capacity and status.conditions"
    ))
}

fn named_lease(node: &str, attributes: &Attributes<'_>) -> Checked {
    if attributes.request.namespace != "kube-node-lease" {
        return Err("can only access leases in the \"kube-node-lease\" system namespace".to_owned());
    }
    named(node, attributes, "node lease")
}

fn named(node: &str, attributes: &Attributes<'_>, what: &str) -> Checked {
    let created = attributes.operation == Operation::Create;
    let name = if created {
        text(&attributes.object, "/metadata/name")
    } else {
        attributes.name
    };
    if name == node {
        return Ok(());
    }
    Err(format!(
        "can only access {what} with the same name as the requesting node"
    ))
}

/// A node asks for certificates of itself.
fn own_certificate(node: &str, object: &Value) -> Checked {
    use base64::{Engine, engine::general_purpose::STANDARD};
    use bosun_pki::signer::{KUBELET_CLIENT, KUBELET_SERVING, SigningRequest};
    if !matches!(text(object, "/spec/signerName"), KUBELET_CLIENT | KUBELET_SERVING) {
        return Ok(());
    }
    let pem = STANDARD.decode(text(object, "/spec/request")).unwrap_or_default();
    let request = SigningRequest::from_pem(&pem).map_err(|error| error.to_string())?;
    let own = format!("system:node:{node}");
    if request.common_name == own {
        return Ok(());
    }
    Err(format!("can only create a node CSR with CN={own}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn labels_that_would_draw_pods_are_not_the_nodes() {
        for (key, may) in [
            ("kubernetes.io/hostname", true),
            ("topology.kubernetes.io/zone", true),
            ("example.com/x", true),
            ("x", true),
            ("kubelet.kubernetes.io/x", true),
            ("a.node.kubernetes.io/x", true),
            ("node-restriction.kubernetes.io/x", false),
            ("a.node-restriction.kubernetes.io/x", false),
            ("node-role.kubernetes.io/master", false),
            ("x.k8s.io/y", false),
        ] {
            assert_eq!(may_set_label(key), may, "{key}");
        }
        let (new, old) = (
            json!({"k8s.io/a": "1", "x": "1"}),
            json!({"k8s.io/a": "1", "k8s.io/b": "1"}),
        );
        assert_eq!(forbidden_labels(&new, &old), ["k8s.io/b"]);
    }

    #[test]
    fn a_node_writes_itself_only() {
        let update = |object: &Value, old: &Value| own_node("n", "n", Operation::Update, object, old);
        let plain = json!({"metadata": {"labels": {"a": "1"}}, "spec": {}});
        update(&plain, &plain).unwrap();
        let table = [
            (
                json!({"spec": {"taints": [{"key": "x"}]}}),
                "node \"n\" is not allowed to modify taints",
            ),
            (
                json!({"metadata": {"ownerReferences": [{"name": "x"}]}}),
                "node \"n\" is not allowed to modify ownerReferences",
            ),
            (
                json!({"metadata": {"labels": {"k8s.io/x": "1"}}}),
                "is not allowed to modify labels: k8s.io/x",
            ),
        ];
        for (object, why) in table {
            assert_eq!(update(&object, &json!({})), Err(why.to_owned()));
        }
        assert_eq!(
            own_node("n", "m", Operation::Update, &plain, &plain),
            Err("node \"n\" is not allowed to modify node \"m\"".to_owned())
        );
        let labelled = json!({"metadata": {"labels": {"k8s.io/x": "1"}}});
        assert_eq!(
            own_node("n", "n", Operation::Create, &labelled, &Value::Null),
            Err("node \"n\" is not allowed to set the following labels: k8s.io/x".to_owned())
        );
    }

    #[test]
    fn a_node_makes_mirrors_of_its_files_only() {
        let own = json!({"metadata": {"uid": "u"}});
        let pod = || {
            json!({
                "metadata": {"annotations": {"kubernetes.io/config.mirror": "x"},
                    "ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": "n", "uid": "u", "controller": true}]},
                "spec": {"nodeName": "n", "containers": [{"name": "c"}]},
            })
        };
        mirror_pod("n", &pod(), Some(&own)).unwrap();
        let table: [(&str, Value, &str); 9] = [
            (
                "/metadata/annotations",
                json!({}),
                "pod does not have \"kubernetes.io/config.mirror\" annotation, node \"n\" can only create mirror pods",
            ),
            (
                "/spec/nodeName",
                "m".into(),
                "node \"n\" can only create pods with spec.nodeName set to itself",
            ),
            (
                "/metadata/ownerReferences",
                json!([]),
                "node \"n\" can only create pods with an owner reference set to itself",
            ),
            (
                "/metadata/ownerReferences/0/name",
                "m".into(),
                "node \"n\" can only create pods with an owner reference set to itself",
            ),
            (
                "/metadata/ownerReferences/0/controller",
                false.into(),
                "node \"n\" can only create pods with a controller owner reference set to itself",
            ),
            (
                "/metadata/ownerReferences/0/uid",
                "v".into(),
                "node n UID mismatch: expected v got u",
            ),
            (
                "/spec",
                json!({"nodeName": "n", "serviceAccountName": "x"}),
                "node \"n\" can not create pods that reference a service account",
            ),
            (
                "/spec",
                json!({"nodeName": "n", "volumes": [{"secret": {"secretName": "x"}}]}),
                "node \"n\" can not create pods that reference secrets",
            ),
            (
                "/spec",
                json!({"nodeName": "n", "resourceClaims": [{}]}),
                "node \"n\" can not create pods that reference resourceclaims",
            ),
        ];
        for (at, value, why) in table {
            let mut pod = pod();
            *pod.pointer_mut(at).unwrap() = value;
            assert_eq!(mirror_pod("n", &pod, Some(&own)), Err(why.to_owned()), "{at}");
        }
    }

    #[test]
    fn a_node_reports_of_its_own_pods() {
        let pod = json!({"metadata": {"labels": {"a": "1"}}, "spec": {"nodeName": "n"}, "status": {}});
        own_pod_status("n", &pod, &pod).unwrap();
        assert_eq!(
            own_pod_status("m", &pod, &pod),
            Err("node \"m\" can only update pod status for pods with spec.nodeName set to itself".to_owned())
        );
        let mut labelled = pod.clone();
        labelled["metadata"]["labels"]["b"] = "1".into();
        assert_eq!(
            own_pod_status("n", &labelled, &pod),
            Err("node \"n\" cannot update labels through pod status".to_owned())
        );
    }

    #[test]
    fn a_node_tells_of_growth_only() {
        let claim = json!({"metadata": {"name": "c"}, "spec": {"x": 1}, "status": {"capacity": {"storage": "1Gi"}}});
        let mut grown = claim.clone();
        grown["status"]["capacity"]["storage"] = "2Gi".into();
        claim_status("n", &grown, &claim).unwrap();
        grown["metadata"]["labels"] = json!({"a": "1"});
        assert!(claim_status("n", &grown, &claim).is_err());
    }
}
