use serde_json::{Value, json};

use super::*;

fn now() -> Timestamp {
    "2024-05-01T12:00:00Z".parse().unwrap()
}

/// The cells of an object an hour old, as `kubectl get -o wide` would print them.
fn shown(group: &str, kind: &str, object: Value) -> String {
    let mut object = object;
    object["metadata"]["name"] = "web".into();
    object["metadata"]["creationTimestamp"] = "2024-05-01T07:00:00Z".into();
    let cells = row(group, kind, &object, now());
    assert_eq!(
        cells.len(),
        columns(group, kind).len(),
        "{kind} has a cell for each column"
    );
    cells.iter().map(cell::written).collect::<Vec<_>>().join(" | ")
}

fn pod(spec: Value, status: Value) -> Value {
    let mut pod = json!({"metadata": {}});
    pod["spec"] = spec;
    pod["status"] = status;
    pod
}

#[test]
fn a_pod_is_told_in_one_word() {
    let one = json!({"containers": [{"name": "a"}]});
    let with_init = json!({
        "containers": [{"name": "a"}], "initContainers": [{"name": "i"}, {"name": "s", "restartPolicy": "Always"}],
    });
    let running = json!({"name": "a", "ready": true, "restartCount": 0, "state": {"running": {}}});
    for (spec, status, expected) in [
        (&one, json!({"phase": "Pending"}), "0/1 | Pending | 0"),
        (
            &one,
            json!({"phase": "Running", "containerStatuses": [running]}),
            "1/1 | Running | 0",
        ),
        (
            &one,
            json!({"phase": "Pending", "containerStatuses": [
                {"name": "a", "restartCount": 3, "state": {"waiting": {"reason": "CrashLoopBackOff"}},
                 "lastState": {"terminated": {"finishedAt": "2024-05-01T11:55:00Z"}}},
            ]}),
            "0/1 | CrashLoopBackOff | 3 (5m ago)",
        ),
        (
            &one,
            json!({"phase": "Succeeded", "containerStatuses": [
                {"name": "a", "restartCount": 0, "state": {"terminated": {"exitCode": 0, "reason": "Completed"}}},
            ]}),
            "0/1 | Completed | 0",
        ),
        (
            &one,
            json!({"phase": "Failed", "containerStatuses": [
                {"name": "a", "restartCount": 0, "state": {"terminated": {"exitCode": 137, "signal": 9}}},
            ]}),
            "0/1 | Signal:9 | 0",
        ),
        (
            &one,
            json!({"phase": "Failed", "reason": "Evicted"}),
            "0/1 | Evicted | 0",
        ),
        (
            &one,
            json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "reason": "SchedulingGated"}]}),
            "0/1 | SchedulingGated | 0",
        ),
        (
            &with_init,
            json!({"phase": "Pending", "initContainerStatuses": [
                {"name": "i", "state": {"running": {}}}, {"name": "s", "state": {"waiting": {"reason": "PodInitializing"}}},
            ]}),
            "0/2 | Init:0/2 | 0",
        ),
        (
            &with_init,
            json!({"phase": "Pending", "initContainerStatuses": [
                {"name": "i", "restartCount": 2, "state": {"terminated": {"exitCode": 1, "reason": "Error"}}},
            ]}),
            "0/2 | Init:Error | 2",
        ),
        (
            &with_init,
            json!({"phase": "Pending", "initContainerStatuses": [
                {"name": "i", "state": {"waiting": {"reason": "ImagePullBackOff"}}},
            ]}),
            "0/2 | Init:ImagePullBackOff | 0",
        ),
        (
            &with_init,
            json!({
                "phase": "Running",
                "initContainerStatuses": [
                    {"name": "i", "restartCount": 5, "state": {"terminated": {"exitCode": 0}}},
                    {"name": "s", "restartCount": 1, "started": true, "ready": true, "state": {"running": {}}},
                ],
                "containerStatuses": [running],
            }),
            "2/2 | Running | 1",
        ),
        (
            &json!({"containers": [{"name": "a"}, {"name": "b"}]}),
            json!({
                "phase": "Running", "conditions": [{"type": "Ready", "status": "False"}],
                "containerStatuses": [
                    {"name": "a", "state": {"terminated": {"exitCode": 0, "reason": "Completed"}}}, running,
                ],
            }),
            "1/2 | NotReady | 0",
        ),
    ] {
        let line = shown("", "Pod", pod(spec.clone(), status.clone()));
        assert_eq!(
            line,
            format!("web | {expected} | 5h | <none> | <none> | <none> | <none>"),
            "{status}"
        );
    }
    let mut going = pod(one.clone(), json!({"phase": "Running", "containerStatuses": [running]}));
    going["metadata"]["deletionTimestamp"] = "2024-05-01T12:00:00Z".into();
    assert!(shown("", "Pod", going).starts_with("web | 1/1 | Terminating | 0"));
    let placed = pod(
        json!({"containers": [{}], "nodeName": "n1", "readinessGates": [{"conditionType": "a"}]}),
        json!({"phase": "Running", "podIPs": [{"ip": "10.1.0.2"}], "conditions": [{"type": "a", "status": "True"}]}),
    );
    assert_eq!(
        shown("", "Pod", placed),
        "web | 0/1 | Running | 0 | 5h | 10.1.0.2 | n1 | <none> | 1/1"
    );
}

#[test]
fn every_kind_that_upstream_shows_in_its_own_way_is_shown_so() {
    let template = json!({"spec": {"containers": [{"name": "a", "image": "x:1"}, {"name": "b", "image": "y:2"}]}});
    let selector = json!({"matchLabels": {"app": "web"}});
    for (group, kind, object, expected) in [
        (
            "apps",
            "Deployment",
            json!({"spec": {"replicas": 2, "template": template, "selector": selector},
                   "status": {"readyReplicas": 1, "updatedReplicas": 2, "availableReplicas": 1}}),
            "web | 1/2 | 2 | 1 | 5h | a,b | x:1,y:2 | app=web",
        ),
        (
            "apps",
            "ReplicaSet",
            json!({"spec": {"replicas": 2, "template": template, "selector": selector}, "status": {"replicas": 1}}),
            "web | 2 | 1 | 0 | 5h | a,b | x:1,y:2 | app=web",
        ),
        (
            "apps",
            "StatefulSet",
            json!({"spec": {"replicas": 2, "template": template}, "status": {"readyReplicas": 2}}),
            "web | 2/2 | 5h | a,b | x:1,y:2",
        ),
        (
            "apps",
            "DaemonSet",
            json!({"spec": {"template": template, "selector": selector},
                   "status": {"desiredNumberScheduled": 3, "numberReady": 2}}),
            "web | 3 | 0 | 2 | 0 | 0 | <none> | 5h | a,b | x:1,y:2 | app=web",
        ),
        (
            "batch",
            "Job",
            json!({"spec": {"completions": 3, "template": template, "selector": selector},
                   "status": {"succeeded": 1, "startTime": "2024-05-01T11:58:00Z"}}),
            "web | Running | 1/3 | 2m | 5h | a,b | x:1,y:2 | app=web",
        ),
        (
            "batch",
            "Job",
            json!({"spec": {"parallelism": 2},
                   "status": {"succeeded": 1, "conditions": [{"type": "Complete", "status": "True"}],
                              "startTime": "2024-05-01T11:58:00Z", "completionTime": "2024-05-01T11:58:09Z"}}),
            "web | Complete | 1/1 of 2 | 9s | 5h |  |  | <none>",
        ),
        (
            "batch",
            "CronJob",
            json!({"spec": {"schedule": "* * * * *", "suspend": false, "jobTemplate": {"spec": {"template": template}}},
                   "status": {"active": [{}], "lastScheduleTime": "2024-05-01T11:59:30Z"}}),
            "web | * * * * * | <none> | False | 1 | 30s | 5h | a,b | x:1,y:2 | <none>",
        ),
        (
            "",
            "Service",
            json!({"spec": {"type": "LoadBalancer", "clusterIPs": ["10.0.0.1"],
                            "ports": [{"port": 80, "nodePort": 30080, "protocol": "TCP"}, {"port": 53, "protocol": "UDP"}]}}),
            "web | LoadBalancer | 10.0.0.1 | <pending> | 80:30080/TCP,53/UDP | 5h | <none>",
        ),
        (
            "",
            "Service",
            json!({"spec": {"type": "ClusterIP", "clusterIPs": ["None"], "selector": {"b": "2", "a": "1"}}}),
            "web | ClusterIP | None | <none> | <none> | 5h | a=1,b=2",
        ),
        (
            "",
            "Endpoints",
            json!({"subsets": [{"addresses": [{"ip": "10.1.0.1"}, {"ip": "fd00::1"}, {"ip": "10.1.0.3"}, {"ip": "10.1.0.4"}],
                                "ports": [{"port": 80}]}]}),
            "web | 10.1.0.1:80,[fd00::1]:80,10.1.0.3:80 + 1 more... | 5h",
        ),
        (
            "discovery.k8s.io",
            "EndpointSlice",
            json!({"addressType": "IPv4", "ports": [{"port": 80}], "endpoints": []}),
            "web | IPv4 | 80 | <unset> | 5h",
        ),
        (
            "networking.k8s.io",
            "Ingress",
            json!({"spec": {"ingressClassName": "nginx", "rules": [{"host": "a.b"}], "tls": [{}]},
                   "status": {"loadBalancer": {"ingress": [{"ip": "1.2.3.4"}]}}}),
            "web | nginx | a.b | 1.2.3.4 | 80, 443 | 5h",
        ),
        (
            "",
            "Node",
            json!({"metadata": {"labels": {"node-role.kubernetes.io/control-plane": ""}},
                   "spec": {"unschedulable": true},
                   "status": {"conditions": [{"type": "Ready", "status": "True"}],
                              "addresses": [{"type": "InternalIP", "address": "10.0.0.1"}],
                              "nodeInfo": {"kubeletVersion": "v1.36.0", "osImage": "Debian"}}}),
            "web | Ready,SchedulingDisabled | control-plane | 5h | v1.36.0 | 10.0.0.1 | <none> | Debian | <unknown> | \
             <unknown>",
        ),
        (
            "",
            "Event",
            json!({"type": "Warning", "reason": "Failed", "message": " text\n", "count": 4,
                   "involvedObject": {"kind": "Pod", "name": "a", "fieldPath": "spec.containers{a}"},
                   "firstTimestamp": "2024-05-01T11:00:00Z", "lastTimestamp": "2024-05-01T11:59:00Z",
                   "source": {"component": "kubelet", "host": "n1"}}),
            "60s | Warning | Failed | pod/a | spec.containers{a} | kubelet, n1 | text | 60m | 4 | web",
        ),
        (
            "events.k8s.io",
            "Event",
            json!({"type": "Normal", "reason": "Pulled", "note": "text", "eventTime": "2024-05-01T11:59:00.000000Z",
                   "regarding": {"kind": "Pod", "name": "a"}, "reportingController": "kubelet", "reportingInstance": "n1"}),
            "60s | Normal | Pulled | pod/a |  | kubelet, n1 | text | 60s | 1 | web",
        ),
        (
            "",
            "PersistentVolume",
            json!({"spec": {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteMany", "ReadWriteOnce"],
                            "persistentVolumeReclaimPolicy": "Retain", "claimRef": {"namespace": "a", "name": "b"},
                            "volumeMode": "Filesystem"}, "status": {"phase": "Bound"}}),
            "web | 1Gi | RWO,RWX | Retain | Bound | a/b |  | <unset> |  | 5h | Filesystem",
        ),
        (
            "",
            "PersistentVolumeClaim",
            json!({"spec": {"volumeName": "pv", "storageClassName": "fast"},
                   "status": {"phase": "Bound", "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOncePod"]}}),
            "web | Bound | pv | 1Gi | RWOP | fast | <unset> | 5h | <unset>",
        ),
        (
            "storage.k8s.io",
            "StorageClass",
            json!({"metadata": {"annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
                   "provisioner": "a.b/c"}),
            "web (default) | a.b/c | Delete | Immediate | false | 5h",
        ),
        (
            "autoscaling",
            "HorizontalPodAutoscaler",
            json!({"spec": {"scaleTargetRef": {"kind": "Deployment", "name": "d"}, "maxReplicas": 5,
                            "metrics": [{"type": "Resource", "resource": {"name": "cpu",
                                "target": {"type": "Utilization", "averageUtilization": 80}}}]},
                   "status": {"currentReplicas": 2, "currentMetrics": [
                       {"type": "Resource", "resource": {"name": "cpu", "current": {"averageUtilization": 12}}}]}}),
            "web | Deployment/d | cpu: 12%/80% | <unset> | 5 | 2 | 5h",
        ),
        (
            "autoscaling",
            "HorizontalPodAutoscaler",
            json!({"spec": {"scaleTargetRef": {"kind": "Deployment", "name": "d"}, "maxReplicas": 5, "minReplicas": 1,
                            "targetCPUUtilizationPercentage": 50}}),
            "web | Deployment/d | cpu: <unknown>/50% | 1 | 5 | 0 | 5h",
        ),
        (
            "policy",
            "PodDisruptionBudget",
            json!({"spec": {"minAvailable": "50%"}, "status": {"disruptionsAllowed": 1}}),
            "web | 50% | N/A | 1 | 5h",
        ),
        (
            "",
            "ResourceQuota",
            json!({"status": {"hard": {"limits.cpu": "2", "pods": "10"}, "used": {"pods": "3"}}}),
            "web | pods: 3/10 | limits.cpu: 0/2 | 5h",
        ),
        (
            "rbac.authorization.k8s.io",
            "RoleBinding",
            json!({"roleRef": {"kind": "Role", "name": "r"}, "subjects": [
                {"kind": "User", "name": "u"}, {"kind": "ServiceAccount", "namespace": "n", "name": "s"}]}),
            "web | Role/r | 5h | u |  | n/s",
        ),
        (
            "certificates.k8s.io",
            "CertificateSigningRequest",
            json!({"spec": {"signerName": "s", "username": "u", "expirationSeconds": 3600},
                   "status": {"conditions": [{"type": "Approved"}], "certificate": "x"}}),
            "web | 5h | s | u | 60m | Approved,Issued",
        ),
        (
            "apiregistration.k8s.io",
            "APIService",
            json!({"status": {"conditions": [{"type": "Available", "status": "True"}]}}),
            "web | Local | True | 5h",
        ),
        (
            "rbac.authorization.k8s.io",
            "Role",
            json!({}),
            "web | 2024-05-01T07:00:00Z",
        ),
        ("example.com", "Anything", json!({}), "web | 2024-05-01T07:00:00Z"),
    ] {
        assert_eq!(shown(group, kind, object.clone()), expected, "{kind} {object}");
    }
}

#[test]
fn an_object_that_says_nothing_still_fills_every_column() {
    for (group, kind) in [
        ("", "ConfigMap"),
        ("", "Secret"),
        ("", "ServiceAccount"),
        ("", "Namespace"),
        ("", "ComponentStatus"),
        ("", "PodTemplate"),
        ("", "ReplicationController"),
        ("apps", "ControllerRevision"),
        ("autoscaling", "Scale"),
        ("coordination.k8s.io", "Lease"),
        ("coordination.k8s.io", "LeaseCandidate"),
        ("node.k8s.io", "RuntimeClass"),
        ("scheduling.k8s.io", "PriorityClass"),
        ("networking.k8s.io", "IngressClass"),
        ("networking.k8s.io", "NetworkPolicy"),
        ("networking.k8s.io", "ServiceCIDR"),
        ("networking.k8s.io", "IPAddress"),
        ("storage.k8s.io", "CSINode"),
        ("storage.k8s.io", "CSIDriver"),
        ("storage.k8s.io", "CSIStorageCapacity"),
        ("storage.k8s.io", "VolumeAttachment"),
        ("storage.k8s.io", "VolumeAttributesClass"),
        ("certificates.k8s.io", "ClusterTrustBundle"),
        ("admissionregistration.k8s.io", "ValidatingWebhookConfiguration"),
        ("admissionregistration.k8s.io", "ValidatingAdmissionPolicy"),
        ("admissionregistration.k8s.io", "MutatingAdmissionPolicy"),
        ("admissionregistration.k8s.io", "ValidatingAdmissionPolicyBinding"),
        ("flowcontrol.apiserver.k8s.io", "FlowSchema"),
        ("flowcontrol.apiserver.k8s.io", "PriorityLevelConfiguration"),
        ("resource.k8s.io", "ResourceClaim"),
        ("resource.k8s.io", "ResourceSlice"),
        ("resource.k8s.io", "DeviceClass"),
    ] {
        shown(group, kind, json!({}));
    }
}
